// SPDX-License-Identifier: Apache-2.0
// Inside of weir trigger: what its files share.
//
// Threads: one. Blocking: yes.
#ifndef CLI_TRIGGER_H
#define CLI_TRIGGER_H

#include "cli/client.h"
#include "cli/out.h"

// /v1/triggers/NAME, with /VERB behind it when there is one; caller frees.
char *trigger_path(const char *name, const char *verb) must_use;
enum tone trigger_state_tone(const char *state);

struct trigger_query {
    const char *function, *kind, *state; // NULL: any
    size_t most;                         // 0: all
};
// The triggers by name, page after page.
int trigger_fetch(struct client *c, const struct trigger_query *q, json_t **ret_list) must_use;

extern const struct command trigger_lag, trigger_settings, trigger_fire; // trigger_fire: cli/cron_fire.c

#endif
