// SPDX-License-Identifier: Apache-2.0
// Inside of weir cron, weir run-at and weir trigger fire: how times look, what a timer's history is asked, and the data of a fire.
//
// Errors: functions that return an exit code have said why. Threads: one. Blocking: yes.
#ifndef CLI_CRON_H
#define CLI_CRON_H

#include "cli/client.h"
#include "cli/out.h"
#include "core/base/buf.h"
#include "core/fire.h"
#include "triggers/cron.h"

// --- times ------------------------------------------------------------------------------------------------------------
#define CRON_CMD_TIME_BYTES 40
// "Sun 2026-03-29 03:00:00 +02:00"; from a time of RFC 3339, or of a zone.
void cron_cmd_pretty(const char *rfc3339, char out[CRON_CMD_TIME_BYTES]);
void cron_cmd_local(const struct zone *z, int64_t unix_ms, char out[CRON_CMD_TIME_BYTES]);
void cron_cmd_utc(int64_t unix_ms, char out[CRON_CMD_TIME_BYTES]); // "2026-03-29 01:00:00Z"
// "in 3h 12m", "3h 12m ago", "now"
void cron_cmd_in(int64_t unix_ms, char out[CRON_CMD_TIME_BYTES]);

// The zone of --tz, or UTC. Close it.
int cron_cmd_tz(const struct args *a, struct zone **ret);
// An option that is a time (core/when.h); *ret stays when it was not given.
int cron_cmd_when(const struct args *a, const char *option, const struct zone *z, int64_t *ret);

// --- asking the server ------------------------------------------------------------------------------------------------
// GET /v1/triggers/NAME/next; after_ms, until_ms: 0 leaves it out.
int cron_cmd_ask_next(struct client *c, const char *trigger, int64_t after_ms, int64_t until_ms, size_t count, json_t **ret);
// The zone of that answer; UTC when this machine does not know it. Close it.
struct zone *cron_cmd_zone_of(const json_t *next);
// The row of one scheduled time; *ret_row is NULL when there is none.
int cron_cmd_ask_fire(struct client *c, const char *trigger, int64_t scheduled_ms, json_t **ret_row);

enum fire_outcome cron_cmd_outcome(const json_t *row); // FIRE_UNKNOWN: a word of a newer server, too
bool cron_cmd_has_ended(enum fire_outcome outcome);
enum tone cron_cmd_outcome_tone(enum fire_outcome outcome);
void cron_cmd_pause(int64_t ms); // until the next look; a signal ends it

// --- the data of a fire -----------------------------------------------------------------------------------------------
#define CRON_CMD_DATA_SPECS                                                                       \
    {"data", 'd', ARG_TEXT, "TEXT|@FILE|-", "the payload: as it stands, of a file, or of stdin", NULL}, \
        {"file", 0, ARG_TEXT, "FILE", "the payload: what the file holds", NULL}
// ret is initialised in any case; given: there was such an option.
int cron_cmd_data(const struct args *a, struct buf *ret, bool *ret_given);

extern const struct command cron_cmd_next, cron_cmd_check, cron_cmd_history, cron_cmd_backfill, cron_cmd_list;

#endif
