// SPDX-License-Identifier: Apache-2.0
// weir cron: the table of commands, and what they share.
#include "cli/cron.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/invoke.h"
#include "cli/trigger.h"
#include "core/base/clock.h"
#include "core/when.h"

// --- times ------------------------------------------------------------------------------------------------------------

void cron_cmd_pretty(const char *rfc3339, char out[CRON_CMD_TIME_BYTES]) {
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    struct civil date = {0};
    bool good = strlen(rfc3339) > 19 && sscanf(rfc3339, "%4d-%2d-%2d", &date.year, &date.month, &date.day) == 3;
    if (good) good = date.month >= 1 && date.month <= 12 && date.day >= 1 && date.day <= 31;
    if (good) snprintf(out, CRON_CMD_TIME_BYTES, "%s %.10s %.8s %.10s", days[civil_weekday(civil_seconds(&date))], rfc3339, rfc3339 + 11, rfc3339 + 19);
    else snprintf(out, CRON_CMD_TIME_BYTES, "%.30s", rfc3339);
}

void cron_cmd_local(const struct zone *z, int64_t unix_ms, char out[CRON_CMD_TIME_BYTES]) {
    char text[ZONE_TEXT_BYTES];
    zone_format(z, unix_ms / 1000, text);
    cron_cmd_pretty(text, out);
}

void cron_cmd_utc(int64_t unix_ms, char out[CRON_CMD_TIME_BYTES]) {
    char text[CLOCK_TEXT_BYTES];
    clock_format_utc(unix_ms, text);
    snprintf(out, CRON_CMD_TIME_BYTES, "%.10s %.8sZ", text, text + 11);
}

// The two largest units: "12d 4h", "3h 12m", "5m 3s", "7s".
static void span_of(int64_t s, char out[OUT_SHORT_BYTES]) {
    static const struct {
        int64_t s;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    size_t i = 0;
    while (i + 1 < array_len(units) && s < units[i].s) i++;
    int n = snprintf(out, OUT_SHORT_BYTES, "%lld%c", (long long)(s / units[i].s), units[i].unit);
    if (i + 1 < array_len(units) && s % units[i].s >= units[i + 1].s)
        snprintf(out + n, OUT_SHORT_BYTES - (size_t)n, " %lld%c", (long long)(s % units[i].s / units[i + 1].s), units[i + 1].unit);
}

void cron_cmd_in(int64_t unix_ms, char out[CRON_CMD_TIME_BYTES]) {
    char span[OUT_SHORT_BYTES];
    int64_t ms = unix_ms - clock_unix_ms(), s = (ms < 0 ? -ms : ms + 999) / 1000; // up: what is not there yet is not now
    span_of(s, span);
    if (s == 0) strcpy(out, "now");
    else snprintf(out, CRON_CMD_TIME_BYTES, ms < 0 ? "%s ago" : "in %s", span);
}

int cron_cmd_tz(const struct args *a, struct zone **ret) {
    struct err err;
    const char *name = args_text(a, "tz");
    if (zone_open(str_of(name ? name : "UTC"), ret, &err) < 0) return out_misuse("--tz: %s", err.text);
    return EXIT_OK;
}

int cron_cmd_when(const struct args *a, const char *option, const struct zone *z, int64_t *ret) {
    struct err err;
    const char *text = args_text(a, option);
    if (text && when_parse(str_of(text), z, clock_unix_ms(), ret, &err) < 0) return out_misuse("--%s: %s", option, err.text);
    return EXIT_OK;
}

// --- asking the server ------------------------------------------------------------------------------------------------

int cron_cmd_ask_next(struct client *c, const char *trigger, int64_t after_ms, int64_t until_ms, size_t count, json_t **ret) {
    cleanup_free char *path = trigger_path(trigger, "next");
    path_query_number(&path, "count", (int64_t)count);
    if (after_ms) path_query_number(&path, "after", after_ms);
    if (until_ms) path_query_number(&path, "until", until_ms);
    return client_json(c, "GET", path, NULL, ret);
}

struct zone *cron_cmd_zone_of(const json_t *next) {
    struct zone *zone;
    if (zone_open(str_of(member_text(next, "zone", "UTC")), &zone, NULL) == 0) return zone;
    MUST(zone_open(STR_LIT("UTC"), &zone, NULL) == 0);
    return zone;
}

int cron_cmd_ask_fire(struct client *c, const char *trigger, int64_t scheduled_ms, json_t **ret_row) {
    cleanup_free char *path = trigger_path(trigger, "fires");
    json_auto_t *answer = NULL;
    path_query_number(&path, "limit", 1);
    path_query_number(&path, "before", scheduled_ms + 1);
    int rc = client_json(c, "GET", path, NULL, &answer);
    if (rc != EXIT_OK) return rc;
    json_t *row = json_array_get(json_object_get(answer, "fires"), 0);
    *ret_row = member_int(row, "scheduledMs", -1) == scheduled_ms ? json_incref(row) : NULL;
    return EXIT_OK;
}

enum fire_outcome cron_cmd_outcome(const json_t *row) {
    const char *text = member_text(row, "outcome", "");
#define X(name, word) \
    if (strcmp(text, word) == 0) return name;
    FIRE_OUTCOMES(X)
#undef X
    return FIRE_UNKNOWN;
}

bool cron_cmd_has_ended(enum fire_outcome outcome) {
    return outcome != FIRE_RUNNING && outcome != FIRE_WAITING && outcome != FIRE_RETRYING;
}

enum tone cron_cmd_outcome_tone(enum fire_outcome outcome) {
    switch (outcome) {
    case FIRE_OK: return TONE_GOOD;
    case FIRE_DEAD:
    case FIRE_UNKNOWN: return TONE_BAD;
    case FIRE_RETRYING:
    case FIRE_CANCELLED:
    case FIRE_MISSED: return TONE_WARN;
    case FIRE_SKIPPED:
    case FIRE_DISCARDED: return TONE_DIM;
    case FIRE_RUNNING:
    case FIRE_WAITING: break;
    }
    return TONE_PLAIN;
}

void cron_cmd_pause(int64_t ms) {
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

// --- the data of a fire -----------------------------------------------------------------------------------------------

static int read_data(const char *source, struct buf *ret) {
    const char *name;
    int fd = invoke_open(source, &name), rc = EXIT_OK;
    char chunk[65536];
    if (fd < 0) return EXIT_FAILED;
    for (ssize_t n = 1; rc == EXIT_OK && n > 0;) {
        n = read(fd, chunk, sizeof chunk);
        if (n < 0) rc = out_fail("%s: %s", name, strerror(errno));
        else if (buf_append(ret, (struct str){chunk, (size_t)n}) < 0)
            rc = out_fail("%s is over %zu MiB, the most that one event can carry", name, EVENT_BYTES_MAX >> 20);
    }
    if (fd != STDIN_FILENO) close(fd);
    return rc;
}

int cron_cmd_data(const struct args *a, struct buf *ret, bool *ret_given) {
    const char *data = args_text(a, "data"), *file = args_text(a, "file");
    buf_init(ret, EVENT_BYTES_MAX);
    *ret_given = data || file;
    if (data && file) return out_misuse("%s: give either --data or --file", a->path);
    cleanup_free char *source = file ? mem_printf("@%s", file) : NULL;
    if (file) return read_data(source, ret);
    if (data && (data[0] == '@' || strcmp(data, "-") == 0)) return read_data(data, ret);
    if (data && buf_append(ret, str_of(data)) < 0) return out_fail("--data is too long for one event");
    return EXIT_OK;
}

const struct command cron_command = {
    .name = "cron",
    .summary = "Shows when timers fire and what they did; fires for times that have passed",
    .subs = (const struct command *const[]){&cron_cmd_list, &cron_cmd_next, &cron_cmd_check, &cron_cmd_history, &cron_cmd_backfill, NULL},
};
