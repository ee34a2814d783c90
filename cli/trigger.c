// SPDX-License-Identifier: Apache-2.0
// weir trigger: what binds a topic, a queue or a schedule to a function. lag is in cli/trigger_lag.c, the list of settings in
// cli/trigger_settings.c, fire in cli/cron_fire.c. What a setting means is the server's to say; here they are only NAME=VALUE.
#include "cli/trigger.h"

#include "cli/commands.h"
#include "core/base/clock.h"
#include "core/options.h"

#define WORDS_MAX 1000
#define PAGE_MAX 1000

static const struct arg_spec no_specs[] = {{0}};

char *trigger_path(const char *name, const char *verb) {
    char *path = path_new("/v1/triggers");
    path_add(&path, name);
    if (verb) path_add(&path, verb);
    return path;
}

enum tone trigger_state_tone(const char *state) {
    return strcmp(state, "active") == 0 ? TONE_GOOD : TONE_WARN;
}

// --- list, show ---------------------------------------------------------------------------------------------------

static int fetch_page(struct client *c, const struct trigger_query *q, size_t limit, const char *cursor, json_t **ret) {
    cleanup_free char *path = path_new("/v1/triggers");
    path_query(&path, "function", q->function);
    path_query(&path, "kind", q->kind);
    path_query(&path, "state", q->state);
    path_query_number(&path, "limit", (int64_t)limit);
    path_query(&path, "cursor", cursor);
    return client_json(c, "GET", path, NULL, ret);
}

int trigger_fetch(struct client *c, const struct trigger_query *q, json_t **ret_list) {
    json_auto_t *all = json_array();
    cleanup_free char *cursor = NULL;
    do {
        json_auto_t *page = NULL;
        size_t left = q->most ? q->most - json_array_size(all) : PAGE_MAX;
        int rc = fetch_page(c, q, left < PAGE_MAX ? left : PAGE_MAX, cursor, &page);
        if (rc != EXIT_OK) return rc;
        json_array_extend(all, json_object_get(page, "triggers"));
        free(cursor);
        cursor = mem_strdup(member_text(page, "next", NULL));
    } while (cursor && (!q->most || json_array_size(all) < q->most));
    *ret_list = json_incref(all);
    return EXIT_OK;
}

// What it takes its events from, or when it makes them: "every 5m". Caller frees.
static char *source_of(const json_t *settings) {
    static const char *const names[] = {"topic", "queue", "exchange", "cron"};
    for (size_t i = 0; i < array_len(names); i++) {
        const char *text = member_text(settings, names[i], "");
        if (*text) return mem_strdup(text);
    }
    const char *every = member_text(settings, "every", "");
    return *every ? mem_printf("every %s", every) : mem_strdup("-");
}

static bool is_timer(const char *kind) {
    return strcmp(kind, "timer") == 0;
}

static void print_list(const json_t *list) {
    static const char *const titles[] = {"NAME", "FUNCTION", "KIND", "STATE", "SOURCE", "ORDER", ">BATCH", ">CHANGED", NULL};
    struct table t;
    table_init(&t, titles);
    size_t i;
    const json_t *one;
    json_array_foreach(list, i, one) {
        char age[OUT_SHORT_BYTES];
        const char *state = member_text(one, "state", "?"), *kind = member_text(one, "kind", "?");
        const json_t *settings = json_object_get(one, "settings");
        bool raw = strcmp(member_text(settings, "shape", ""), "raw") == 0;
        cleanup_free char *source = source_of(settings);
        table_add(&t, TONE_BOLD, "%s", member_text(one, "name", "?"));
        table_add(&t, TONE_PLAIN, "%s", member_text(one, "function", "?"));
        table_add(&t, TONE_PLAIN, "%s", kind);
        table_add(&t, trigger_state_tone(state), "%s", state);
        table_add(&t, TONE_PLAIN, "%s", source);
        table_add(&t, TONE_PLAIN, "%s", member_text(settings, "order", strcmp(kind, "kafka") == 0 ? "key" : "-"));
        table_add(&t, TONE_PLAIN, "%s", member_text(settings, "batch", is_timer(kind) ? "-" : raw ? "1" : "100"));
        table_add(&t, TONE_PLAIN, "%s", out_age(member_int(one, "changedMs", 0), age));
    }
    table_print(&t);
}

static bool any_is_seeking(const json_t *list) {
    size_t i;
    const json_t *one;
    json_array_foreach(list, i, one) {
        if (strcmp(member_text(one, "state", ""), "seeking") == 0) return true;
    }
    return false;
}

static const struct arg_spec list_specs[] = {
    {"kind", 'k', ARG_WORD, "KIND", "only of this kind", "kafka|amqp|timer"},
    {"state", 's', ARG_WORD, "STATE", "only in this state", "active|paused|seeking"},
    {0},
};

static void say_none(const struct trigger_query *q) {
    if (q->kind || q->state) out_note("there are no such triggers");
    else out_note("%s%s no triggers; weir trigger add --help shows how to add one", q->function ? q->function : "there are", q->function ? " has" : "");
}

static int run_list(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    json_auto_t *list = NULL;
    const struct trigger_query q = {
        .function = a->word_count ? a->words[0] : NULL, .kind = args_text(a, "kind"), .state = args_text(a, "state")};
    int rc = trigger_fetch(c, &q, &list);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:O}", "triggers", list);
        out_json(shown);
    } else if (json_array_size(list) == 0) {
        say_none(&q);
    } else {
        print_list(list);
    }
    if (any_is_seeking(list))
        out_note("one that stays 'seeking' was left by a server that ended: weir trigger resume NAME ends it");
    return EXIT_OK;
}

static void print_trigger(const json_t *t) {
    char age[OUT_SHORT_BYTES], changed[OUT_SHORT_BYTES];
    const char *state = member_text(t, "state", "?"), *key;
    json_t *value;
    int64_t created_ms = member_int(t, "createdMs", 0), changed_ms = member_int(t, "changedMs", 0);
    printf("%s%s%s  %s to %s, %s%s%s, added %s ago", out_tone(stdout, TONE_BOLD), member_text(t, "name", "?"),
           out_tone(stdout, TONE_PLAIN), member_text(t, "kind", "?"), member_text(t, "function", "?"),
           out_tone(stdout, trigger_state_tone(state)), state, out_tone(stdout, TONE_PLAIN), out_age(created_ms, age));
    if (changed_ms > created_ms) printf(", changed %s ago", out_age(changed_ms, changed));
    putchar('\n');
    json_object_foreach(json_object_get(t, "settings"), key, value) {
        printf("  %-14s ", key);
        out_text(stdout, str_of(json_string_value(value)));
        putchar('\n');
    }
}

static int run_show(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = trigger_path(a->words[0], NULL);
    json_auto_t *t = NULL;
    int rc = client_json(c, "GET", path, NULL, &t);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(t);
    else print_trigger(t);
    return EXIT_OK;
}

// --- settings -----------------------------------------------------------------------------------------------------

static int take_setting(const struct args *a, const char *word, bool may_remove, json_t *settings) {
    const char *equals = strchr(word, '=');
    if (!equals || equals == word) return out_misuse("%s: '%s' is no setting: write NAME=VALUE, such as topic=orders", a->path, word);
    cleanup_free char *name = mem_strndup((struct str){word, (size_t)(equals - word)});
    const char *text = equals + 1;
    if (!*text && !may_remove) return out_misuse("%s: %s= has no value: leave it out for the default", a->path, name);
    if (json_object_get(settings, name)) return out_misuse("%s: %s is given twice", a->path, name);
    json_t *value = *text ? json_string(text) : json_null();
    if (!value || json_object_set_new(settings, name, value)) return out_misuse("%s: '%s' is not UTF-8 text", a->path, word);
    return EXIT_OK;
}

// Of the words from the i-th on.
static int take_settings(const struct args *a, size_t i, bool may_remove, json_t **ret) {
    json_auto_t *settings = json_object();
    for (; i < a->word_count; i++) {
        int rc = take_setting(a, a->words[i], may_remove, settings);
        if (rc != EXIT_OK) return rc;
    }
    *ret = json_incref(settings);
    return EXIT_OK;
}

// Says what it did in `fmt`, which gets the trigger's name, or prints the answer.
static int tell(const struct args *a, const json_t *answer, const char *what) {
    if (args_has(a, "json")) out_json(answer);
    else printf("%s %s\n", member_text(answer, "name", a->words[0]), what);
    return EXIT_OK;
}

// --- add, change --------------------------------------------------------------------------------------------------

static const struct arg_spec add_specs[] = {
    {"name", 'n', ARG_TEXT, "NAME", "how it is called (default: the kind and the topic or queue; of a timer the function)", NULL},
    {0},
};

static int run_add(const struct args *a) {
    json_t *settings;
    const char *function = a->words[0], *kind = a->words[1], *name = args_text(a, "name");
    if (strchr(function, '=') || strchr(kind, '='))
        return out_misuse("trigger add: first FUNCTION and KIND (kafka, amqp or timer), then the settings");
    int rc = take_settings(a, 2, false, &settings);
    if (rc != EXIT_OK) return rc;
    json_t *body = json_pack("{s:s, s:s, s:o}", "function", function, "kind", kind, "settings", settings);
    if (!body || (name && json_object_set_new(body, "name", json_string(name)))) {
        json_decref(body);
        return out_misuse("trigger add: a name is not UTF-8 text");
    }
    cleanup_client struct client *c = client_new(a);
    json_auto_t *answer = NULL;
    rc = client_json(c, "POST", "/v1/triggers", body, &answer);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        out_json(answer);
        return EXIT_OK;
    }
    const char *added = member_text(answer, "name", "?");
    cleanup_free char *source = source_of(json_object_get(answer, "settings"));
    if (is_timer(kind)) printf("%s added: %s runs %s; weir cron next %s shows when\n", added, source, function, added);
    else printf("%s added: %s %s goes to %s; weir trigger lag %s shows how far it is\n", added, kind, source, function, added);
    return EXIT_OK;
}

static int run_change(const struct args *a) {
    json_t *settings;
    int rc = take_settings(a, 1, true, &settings);
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = trigger_path(a->words[0], NULL);
    json_auto_t *answer = NULL;
    rc = client_json(c, "PATCH", path, json_pack("{s:o}", "settings", settings), &answer);
    return rc == EXIT_OK ? tell(a, answer, "changed; what runs is finished as it was") : rc;
}

// --- pause, resume, seek, remove ----------------------------------------------------------------------------------

static int act(const struct args *a, const char *verb, json_t *body, const char *what) {
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = trigger_path(a->words[0], verb);
    json_auto_t *answer = NULL;
    int rc = client_json(c, "POST", path, body, &answer);
    return rc == EXIT_OK ? tell(a, answer, what) : rc;
}

static int run_pause(const struct args *a) {
    return act(a, "pause", NULL, "is paused; what runs is finished");
}

static int run_resume(const struct args *a) {
    return act(a, "resume", NULL, "is active");
}

static int run_seek(const struct args *a) {
    const char *word = a->words[1], *to = strncmp(word, "to=", 3) == 0 ? word + 3 : word;
    char time[CLOCK_TEXT_BYTES];
    int64_t ago_ms;
    if (!*to) return out_misuse("trigger seek: to= needs a place: earliest, latest, 2026-11-20T00:00Z, 2h, or offset:PARTITION=OFFSET");
    if (parse_duration_ms(str_of(to), &ago_ms, NULL) == 0) {
        clock_format_utc(clock_unix_ms() - ago_ms, time);
        to = time;
    }
    json_t *body = json_pack("{s:s}", "to", to);
    if (!body) return out_misuse("trigger seek: '%s' is not UTF-8 text", to);
    cleanup_free char *what = mem_printf("begins again at %s", to);
    return act(a, "seek", body, what);
}

static const struct arg_spec remove_specs[] = {
    {"yes", 'y', ARG_FLAG, NULL, "do not ask", NULL},
    {0},
};

static int run_remove(const struct args *a) {
    const char *name = a->words[0];
    if (!args_has(a, "yes") && !out_confirm("Remove trigger %s?", name)) return out_fail("nothing was removed");
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = trigger_path(name, NULL);
    json_auto_t *answer = NULL;
    int rc = client_json(c, "DELETE", path, NULL, &answer);
    return rc == EXIT_OK ? tell(a, answer, "removed; what it had taken is finished, its letters stay") : rc;
}

// --- the table ----------------------------------------------------------------------------------------------------

#define TRIGGER_COMMAND(verb, takes, what, more, table, n, m) \
    static const struct command trigger_##verb = {            \
        .name = #verb,                                        \
        .words = takes,                                       \
        .summary = what,                                      \
        .about = more,                                        \
        .specs = table,                                       \
        .uses = USES_SERVER | USES_JSON,                      \
        .least = n,                                           \
        .most = m,                                            \
        .run = run_##verb,                                    \
    }
TRIGGER_COMMAND(add, "FUNCTION KIND NAME=VALUE...", "Runs a function by the clock, or lets it consume a Kafka topic or an AMQP queue in place",
                "\nThe settings are checked first, at the broker too (check=no does not ask it), and nothing is added when one is\n"
                "wrong. 'weir trigger settings' lists them. Examples:\n\n"
                "  weir trigger add orders kafka brokers=127.0.0.1:9092 topic=orders group=weir-orders from=earliest \\\n"
                "      batch=100 window=50ms order=key\n"
                "  weir trigger add orders amqp url=amqp://user:password@127.0.0.1:5672/ queue=orders prefetch=auto\n"
                "  weir trigger add audit amqp url=amqp://127.0.0.1 exchange=shop binding='order.#'   # a queue of its own\n"
                "  weir trigger add report timer cron='0 30 2 * * * *' tz=Europe/Berlin message='{\"kind\":\"daily\"}'\n"
                "  weir trigger add ping timer every=5m jitter=10s overlap=skip\n"
                "  weir trigger add orders kafka brokers=k:9093 topic=orders kafka.security.protocol=SASL_SSL \\\n"
                "      kafka.sasl.mechanism=PLAIN kafka.sasl.username=weir kafka.sasl.password=... \\\n"
                "      filter='{\"body\":{\"country\":[\"DE\",\"FR\"]}}'\n",
                add_specs, 2, WORDS_MAX);
TRIGGER_COMMAND(list, "[FUNCTION]", "Lists the triggers, of one function or all", NULL, list_specs, 0, 1);
TRIGGER_COMMAND(show, "NAME", "Shows a trigger with its settings, secrets masked", NULL, no_specs, 1, 1);
TRIGGER_COMMAND(change, "NAME SETTING=VALUE...", "Changes settings of a trigger",
                "\nSETTING= removes one, so that its default holds again:\n\n  weir trigger change kafka-orders batch=500 window=\n",
                no_specs, 2, WORDS_MAX);
TRIGGER_COMMAND(pause, "NAME", "Stops it, at every node, until resumed", NULL, no_specs, 1, 1);
TRIGGER_COMMAND(resume, "NAME", "Goes on; also ends a seek that a server left behind", NULL, no_specs, 1, 1);
TRIGGER_COMMAND(remove, "NAME", "Removes a trigger", NULL, remove_specs, 1, 1);
TRIGGER_COMMAND(seek, "NAME to=PLACE", "Begins at another place of a Kafka topic",
                "\nEvery node stops, the group's offsets are set, and it goes on. Places:\n\n"
                "  weir trigger seek kafka-orders to=earliest\n"
                "  weir trigger seek kafka-orders to=latest\n"
                "  weir trigger seek kafka-orders to=2026-11-20T00:00Z   # the first record of that time or later\n"
                "  weir trigger seek kafka-orders to=2h                  # two hours ago\n"
                "  weir trigger seek kafka-orders to=offset:0=1200,3=77  # these partitions only\n",
                no_specs, 2, 2);

const struct command trigger_command = {
    .name = "trigger",
    .summary = "Binds schedules, Kafka topics and AMQP queues to functions; shows how far behind they are",
    .subs = (const struct command *const[]){&trigger_add, &trigger_list, &trigger_show, &trigger_change, &trigger_pause,
                                            &trigger_resume, &trigger_remove, &trigger_seek, &trigger_lag, &trigger_fire,
                                            &trigger_settings, NULL},
};
