// SPDX-License-Identifier: Apache-2.0
// weir trigger lag: how far behind a trigger is, by partition, and in words why. What a node does not know is a dash.
#include <time.h>

#include "cli/commands.h"
#include "cli/trigger.h"
#include "core/base/clock.h"

#define WATCH_EVERY_S 2

static const struct arg_spec specs[] = {
    {"watch", 'w', ARG_FLAG, NULL, "show it again every 2 seconds, until Ctrl-C", NULL},
    {0},
};

// --- the table ----------------------------------------------------------------------------------------------------

static void add_number(struct table *t, const json_t *o, const char *key, enum tone tone) {
    int64_t n = member_int(o, key, -1);
    if (n < 0) table_add(t, TONE_DIM, "-");
    else table_add(t, n > 0 ? tone : TONE_PLAIN, "%lld", (long long)n);
}

// Why one partition takes nothing here, "" when it does.
static const char *partition_why(const json_t *lag, const json_t *p) {
    const char *state = member_text(lag, "state", ""), *paused = member_text(p, "paused", "");
    if (strcmp(state, "active") != 0) return state;
    if (*paused) return paused;
    if (json_is_object(json_object_get(lag, "binding")) && json_is_false(json_object_get(p, "assigned"))) return "at another node";
    return "";
}

static void print_partitions(const json_t *lag, const json_t *partitions) {
    static const char *const titles[] = {">PARTITION", ">COMMITTED", ">POSITION", ">END", ">LAG", ">IN-FLIGHT", ">PARKED", "WHY", NULL};
    struct table t;
    table_init(&t, titles);
    size_t i;
    const json_t *p;
    json_array_foreach(partitions, i, p) {
        add_number(&t, p, "partition", TONE_BOLD);
        add_number(&t, p, "committed", TONE_PLAIN);
        add_number(&t, p, "position", TONE_PLAIN);
        add_number(&t, p, "end", TONE_PLAIN);
        add_number(&t, p, "lag", TONE_WARN);
        add_number(&t, p, "inFlight", TONE_PLAIN);
        add_number(&t, p, "parkedKeys", TONE_WARN);
        table_add(&t, TONE_WARN, "%s", partition_why(lag, p));
    }
    table_print(&t);
}

static void print_queues(const json_t *lag, const json_t *queues) {
    static const char *const titles[] = {"QUEUE", ">READY", ">UNACKED", ">PREFETCH", ">IN-FLIGHT", "WHY", NULL};
    struct table t;
    table_init(&t, titles);
    size_t i;
    const json_t *q;
    json_array_foreach(queues, i, q) {
        table_add(&t, TONE_BOLD, "%s", member_text(q, "queue", "?"));
        add_number(&t, q, "ready", TONE_WARN);
        add_number(&t, q, "unacked", TONE_PLAIN);
        add_number(&t, q, "prefetch", TONE_PLAIN);
        add_number(&t, q, "inFlight", TONE_PLAIN);
        table_add(&t, TONE_WARN, "%s", partition_why(lag, q));
    }
    table_print(&t);
}

// --- why, in words ------------------------------------------------------------------------------------------------

static int64_t behind(const json_t *partitions) {
    int64_t sum = 0;
    size_t i;
    const json_t *p;
    json_array_foreach(partitions, i, p) {
        int64_t n = member_int(p, "lag", member_int(p, "ready", 0));
        sum += n > 0 ? n : 0;
    }
    return sum;
}

// "breaker open for 12s: 80% fail with KeyError; probes in 3s"; NULL when it is closed. Caller frees.
static char *breaker_text(const json_t *breaker) {
    const char *state = member_text(breaker, "state", "closed"), *why = member_text(breaker, "why", "");
    if (!json_is_object(breaker) || strcmp(state, "closed") == 0) return NULL;
    char since[OUT_SHORT_BYTES], probe[OUT_SHORT_BYTES];
    int64_t since_ms = member_int(breaker, "sinceMs", 0), probe_ms = member_int(breaker, "probeMs", 0);
    int64_t wait_ms = probe_ms - clock_unix_ms();
    cleanup_free char *next = wait_ms > 0 ? mem_printf("; next probe in %s", out_span(wait_ms, probe)) : mem_strdup("");
    return mem_printf("breaker %s for %s%s%s%s", state, out_age(since_ms, since), *why ? ": " : "", why, next);
}

// Of the first partition that says why it takes nothing.
static char *paused_text(const json_t *partitions) {
    size_t i;
    const json_t *p;
    json_array_foreach(partitions, i, p) {
        const char *paused = member_text(p, "paused", "");
        const char *queue = member_text(p, "queue", NULL);
        if (*paused && queue) return mem_printf("queue %s: %s", queue, paused);
        if (*paused) return mem_printf("partition %lld: %s", (long long)member_int(p, "partition", 0), paused);
    }
    return NULL;
}

static char *working_text(const json_t *binding) {
    cleanup_free char *parked = NULL;
    int64_t keys = member_int(binding, "parkedKeys", 0), retrying = member_int(binding, "retrying", 0);
    if (keys > 0) parked = mem_printf(", %lld parked key%s wait%s for a retry", (long long)keys, plural(keys), keys == 1 ? "s" : "");
    else if (retrying > 0) parked = mem_printf(", %lld being retried", (long long)retrying);
    return mem_printf("%lld in flight%s", (long long)member_int(binding, "inFlight", 0), parked ? parked : "");
}

// Caller frees.
static char *why_text(const json_t *lag) {
    const char *state = member_text(lag, "state", ""), *name = member_text(lag, "trigger", "?");
    const json_t *source = json_object_get(lag, "source"), *binding = json_object_get(lag, "binding");
    const json_t *partitions = json_object_get(source, "partitions");
    if (strcmp(state, "paused") == 0) return mem_printf("paused by an operator; weir trigger resume %s goes on", name);
    if (strcmp(state, "seeking") == 0)
        return mem_printf("its offsets are being set; when that stays so, weir trigger resume %s ends it", name);
    if (!json_is_object(source) || !member_true(source, "up"))
        return mem_printf("the broker is away: %s", member_text(source, "error", member_text(binding, "why", "it does not answer")));
    char *text = breaker_text(json_object_get(binding, "breaker"));
    if (!text && *member_text(binding, "why", "")) text = mem_strdup(member_text(binding, "why", ""));
    if (!text) text = paused_text(partitions);
    if (!text && !json_is_object(binding)) text = mem_strdup("this server does not consume it; another node may");
    return text ? text : working_text(binding);
}

static void print_lag(const json_t *lag) {
    const json_t *source = json_object_get(lag, "source"), *partitions = json_object_get(source, "partitions");
    const char *state = member_text(lag, "state", "?"), *error = member_text(source, "error", "");
    int64_t n = behind(partitions);
    cleanup_free char *why = why_text(lag);
    printf("%s%s%s: %s%s%s, ", out_tone(stdout, TONE_BOLD), member_text(lag, "trigger", "?"), out_tone(stdout, TONE_PLAIN),
           out_tone(stdout, trigger_state_tone(state)), state, out_tone(stdout, TONE_PLAIN));
    if (!json_array_size(partitions)) printf("nothing known of the source");
    else if (n == 0) printf("not behind");
    else printf("%lld behind", (long long)n);
    fputs(": ", stdout);
    out_text(stdout, str_of(why));
    if (member_true(source, "up") && *error) {
        fputs("; last error: ", stdout);
        out_text(stdout, str_of(error));
    }
    putchar('\n');
    if (json_object_get(json_array_get(partitions, 0), "queue")) print_queues(lag, partitions);
    else if (json_array_size(partitions)) print_partitions(lag, partitions);
}

// --- the command --------------------------------------------------------------------------------------------------

// One that is not there is no failure.
static int find_trigger(struct client *c, const char *name, bool *ret) {
    cleanup_free char *path = trigger_path(name, NULL);
    const struct request request = {.method = "GET", .path = path};
    struct reply reply;
    struct err err;
    if (client_send(c, &request, &reply, &err) < 0) return out_fail("%s", err.text);
    *ret = reply.status < 400;
    cleanup_free char *why = *ret || reply.status == 404 ? NULL : reply_error(&reply);
    reply_done(&reply);
    return why ? out_fail("%s", why) : EXIT_OK;
}

// The triggers that the word means: the one of that name, and those of the function of that name.
static int select_names(struct client *c, const char *word, json_t **ret) {
    json_auto_t *list = NULL, *names = json_array();
    bool found = false;
    int rc = find_trigger(c, word, &found);
    if (rc == EXIT_OK && *word) rc = trigger_fetch(c, &(struct trigger_query){.function = word}, &list);
    if (rc != EXIT_OK) return rc;
    if (found) json_array_append_new(names, json_string(word));
    size_t i;
    const json_t *t;
    json_array_foreach(list, i, t) {
        const char *name = member_text(t, "name", "");
        if (strcmp(name, word) != 0) json_array_append_new(names, json_string(name));
    }
    if (json_array_size(names) == 0)
        return out_fail("there is no trigger %s and no function of that name with triggers; weir trigger list shows all", word);
    *ret = json_incref(names);
    return EXIT_OK;
}

static int fetch_lags(struct client *c, const json_t *names, json_t **ret) {
    json_auto_t *lags = json_array();
    size_t i;
    const json_t *name;
    json_array_foreach(names, i, name) {
        cleanup_free char *path = trigger_path(json_string_value(name), "lag");
        json_t *lag = NULL;
        int rc = client_json(c, "GET", path, NULL, &lag);
        if (rc != EXIT_OK) return rc;
        json_array_append_new(lags, lag);
    }
    *ret = json_incref(lags);
    return EXIT_OK;
}

static void print_lags(const json_t *lags) {
    size_t i;
    const json_t *lag;
    json_array_foreach(lags, i, lag) {
        if (i) putchar('\n');
        print_lag(lag);
    }
}

static int show_once(struct client *c, const struct args *a, bool repaint) {
    json_auto_t *names = NULL, *lags = NULL;
    int rc = select_names(c, a->words[0], &names);
    if (rc == EXIT_OK) rc = fetch_lags(c, names, &lags);
    if (rc != EXIT_OK) return rc;
    bool watch = args_has(a, "watch");
    bool one = json_array_size(lags) == 1;
    json_auto_t *shown = one ? json_incref(json_array_get(lags, 0)) : json_pack("{s:O}", "triggers", lags);
    if (repaint) fputs("\033[H\033[2J", stdout);
    if (args_has(a, "json") && watch) out_json_line(shown);
    else if (args_has(a, "json")) out_json(shown);
    else print_lags(lags);
    return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

static int run_lag(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    bool watch = args_has(a, "watch"), repaint = watch && out_is_terminal(stdout) && !args_has(a, "json");
    int rc = show_once(c, a, repaint);
    while (watch && rc == EXIT_OK) {
        nanosleep(&(struct timespec){.tv_sec = WATCH_EVERY_S}, NULL);
        rc = show_once(c, a, repaint);
    }
    return rc;
}

const struct command trigger_lag = {
    .name = "lag",
    .words = "FUNCTION|NAME",
    .summary = "Shows how far behind a trigger is, by partition, and why",
    .about = "\nIn flight and parked are those of the server that is asked. With --json one object, or {\"triggers\":[...]} when\n"
             "the function has several.\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_lag,
};
