// SPDX-License-Identifier: Apache-2.0
// weir run-at: one event at a given time. Until then it is a due letter.
#include "cli/commands.h"
#include "cli/cron.h"
#include "cli/invoke.h"
#include "core/base/clock.h"
#include "core/when.h"

static const struct arg_spec specs[] = {
    CRON_CMD_DATA_SPECS,
    {"tz", 0, ARG_TEXT, "ZONE", "the time zone of a TIME that names none, such as Europe/Berlin (default UTC)", NULL},
    {0},
};

// TIME as one text, also when it came as two words ("2026-12-24T18:00 Europe/Berlin" without quotes); caller frees.
static char *time_text(const struct args *a) {
    return a->word_count > 2 ? mem_printf("%s %s", a->words[1], a->words[2]) : mem_strdup(a->words[1]);
}

// The zone to show the time in: the one that it names, or --tz.
static void prefer_named_zone(const char *text, struct zone **zone) {
    const char *blank = strrchr(text, ' ');
    struct zone *named;
    if (!blank || zone_open(str_of(blank + 1), &named, NULL) < 0) return;
    zone_close(*zone);
    *zone = named;
}

static int read_time(const struct args *a, int64_t *ret_ms, struct zone **ret_zone) {
    cleanup_free char *text = time_text(a);
    struct err err;
    int rc = cron_cmd_tz(a, ret_zone);
    if (rc != EXIT_OK) return rc;
    if (when_parse(str_of(text), *ret_zone, clock_unix_ms(), ret_ms, &err) < 0) return out_misuse("run-at: %s", err.text);
    prefer_named_zone(text, ret_zone);
    return EXIT_OK;
}

static char *make_path(const char *function, int64_t due_ms) {
    const char *colon = strchr(function, ':');
    cleanup_free char *name = mem_strndup((struct str){function, colon ? (size_t)(colon - function) : strlen(function)});
    char *path = path_new("/v1/functions");
    path_add(&path, name);
    path_add(&path, "invocations");
    path_query(&path, "invokeType", "Event");
    path_query(&path, "qualifier", colon ? colon + 1 : NULL);
    path_query_number(&path, "runAt", due_ms);
    return path;
}

static int send(const struct args *a, int64_t due_ms, json_t **ret) {
    struct buf data;
    bool given;
    int rc = cron_cmd_data(a, &data, &given);
    if (rc == EXIT_OK) {
        cleanup_client struct client *c = client_new(a);
        cleanup_free char *path = make_path(a->words[0], due_ms);
        const struct invocation inv = {.client = c, .path = path};
        struct reply reply;
        struct err err;
        if (invoke_send(&inv, buf_str(&data), invoke_content_type(buf_str(&data)), &reply, &err) < 0) {
            rc = out_fail("%s", err.text);
        } else {
            if (reply.status >= 400) rc = invoke_show(&inv, &reply, "");
            else *ret = json_loadb(reply.body, reply.body_len, 0, NULL);
            reply_done(&reply);
        }
    }
    buf_done(&data);
    return rc;
}

static void tell(const struct args *a, const json_t *answer, int64_t due_ms, const struct zone *z) {
    char local[CRON_CMD_TIME_BYTES], utc[CRON_CMD_TIME_BYTES], in[CRON_CMD_TIME_BYTES];
    const char *id = member_text(answer, "requestId", "?");
    cron_cmd_local(z, due_ms, local);
    cron_cmd_utc(due_ms, utc);
    cron_cmd_in(due_ms, in);
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:s, s:I, s:s, s:s, s:s}", "requestId", id, "dueMs", (json_int_t)due_ms, "local", local, "utc", utc,
                                       "zone", z->name);
        out_json(shown);
    } else if (due_ms <= clock_unix_ms()) {
        printf("%s runs at once: %s (%s) was %s\n%s\n", a->words[0], local, z->name, in, id);
    } else {
        printf("%s runs %s: %s (%s), %s\n%s\n", a->words[0], in, local, z->name, utc, id);
        out_note("weir dlq discard %s cancels it", id);
    }
}

static int run_at(const struct args *a) {
    int64_t due_ms = 0;
    struct zone *zone = NULL;
    json_auto_t *answer = NULL;
    int rc = read_time(a, &due_ms, &zone);
    if (rc == EXIT_OK) rc = send(a, due_ms, &answer);
    if (rc == EXIT_OK) tell(a, answer, due_ms, zone);
    zone_close(zone);
    return rc;
}

const struct command run_at_command = {
    .name = "run-at",
    .words = "NAME[:VERSION] TIME",
    .summary = "Runs a function once, at a given time",
    .about = "\nUntil then the event waits as a due letter: weir dlq list --state due shows it, weir dlq discard cancels it.\n\n"
             "  weir run-at report '2026-12-24T18:00 Europe/Berlin' --data '{\"kind\":\"yearly\"}'\n"
             "  weir run-at report '2026-12-24 18:00' --tz Europe/Berlin --file event.json\n"
             "  weir run-at report +10m\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 2,
    .most = 3,
    .run = run_at,
};
