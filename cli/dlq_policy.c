// SPDX-License-Identifier: Apache-2.0
// weir dlq policy: how long a function's letters are kept, how many, and what a deploy does with them.
#include "cli/commands.h"
#include "cli/dlq.h"
#include "core/options.h"

static const struct arg_spec specs[] = {
    {"keep", 0, ARG_TEXT, "AGE", "delete letters that are older, such as 30d; none: keep them", NULL},
    {"cap", 0, ARG_TEXT, "N", "keep at most so many letters; none: no cap", NULL},
    {"auto-replay-on-deploy", 0, ARG_TEXT, "HOW", "sample:50,rate:100/s,abort:2%: replay so after a deploy", NULL},
    {"no-auto-replay", 0, ARG_FLAG, NULL, "replay nothing by itself", NULL},
    {"remove", 0, ARG_FLAG, NULL, "take the whole policy away", NULL},
    {0},
};

// --- reading ------------------------------------------------------------------------------------------------------

static int read_keep(const char *text, json_t **ret, struct err *err) {
    int64_t ms;
    int rc = parse_duration_ms(str_of(text), &ms, err);
    if (rc == 0) *ret = json_integer(ms);
    return rc;
}

static int read_cap(const char *text, json_t **ret, struct err *err) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 15 || text[digits]) return err_set(err, ERR_INVALID, "'%s' is not a whole number", text);
    *ret = json_integer(strtoll(text, NULL, 10));
    return 0;
}

static int read_part(struct str part, json_t *o, struct err *err) {
    cleanup_free char *text = mem_strndup(part);
    char *value = strchr(text, ':');
    double real;
    json_t *sample;
    if (value) *value++ = '\0';
    int rc = value && *value ? 0 : ERR_INVALID;
    if (rc == 0 && strcmp(text, "sample") == 0) {
        rc = read_cap(value, &sample, err);
        if (rc == 0) json_object_set_new(o, "sample", sample);
    } else if (rc == 0 && strcmp(text, "rate") == 0) {
        rc = args_parse_rate(value, &real, err);
        if (rc == 0) json_object_set_new(o, "rate", json_real(real));
    } else if (rc == 0 && strcmp(text, "abort") == 0) {
        rc = args_parse_share(value, &real, err);
        if (rc == 0) json_object_set_new(o, "abortShare", json_real(real));
    } else {
        return err_set(err, ERR_INVALID, "'%.*s' is not a part of it; the parts are sample:50, rate:100/s and abort:2%%",
                       STR_ARG(part));
    }
    return rc;
}

static int read_auto_replay(const char *text, json_t **ret, struct err *err) {
    json_auto_t *o = json_object();
    for (const char *at = text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        int rc = read_part((struct str){at, strcspn(at, ",")}, o, err);
        if (rc < 0) return rc;
    }
    *ret = json_incref(o);
    return 0;
}

typedef int read_fn(const char *text, json_t **ret, struct err *err);

// The option's value as a member; null when it is "none".
static int set_member(const struct args *a, const char *option, const char *member, read_fn *read, json_t *settings) {
    const char *text = args_text(a, option);
    json_t *value = NULL;
    struct err err;
    if (!text) return EXIT_OK;
    if (strcmp(text, "none") == 0) value = json_null();
    else if (read(text, &value, &err) < 0) return out_misuse("dlq policy: --%s: %s", option, err.text);
    json_object_set_new(settings, member, value);
    return EXIT_OK;
}

static int settings_json(const struct args *a, json_t *settings) {
    int rc = set_member(a, "keep", "keepMs", read_keep, settings);
    if (rc == EXIT_OK) rc = set_member(a, "cap", "cap", read_cap, settings);
    if (rc == EXIT_OK) rc = set_member(a, "auto-replay-on-deploy", "autoReplay", read_auto_replay, settings);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "no-auto-replay")) {
        if (args_has(a, "auto-replay-on-deploy"))
            return out_misuse("dlq policy: give --auto-replay-on-deploy or --no-auto-replay, not both");
        json_object_set_new(settings, "autoReplay", json_null());
    }
    if (args_has(a, "remove") && json_object_size(settings)) return out_misuse("dlq policy: --remove takes all of it away; give nothing else");
    return EXIT_OK;
}

// --- showing ------------------------------------------------------------------------------------------------------

// "sample:50,rate:100/s,abort:2%", as it is given; caller frees.
static char *auto_replay_text(const json_t *policy) {
    const json_t *o = json_object_get(policy, "autoReplay");
    if (!json_is_object(o)) return mem_strdup("-");
    cleanup_free char *sample = mem_strdup(""), *rate = mem_strdup("");
    double share = member_real(o, "abortShare", -1), a_second = member_real(o, "rate", 0);
    if (member_int(o, "sample", 0)) {
        free(sample);
        sample = mem_printf("sample:%lld", (long long)member_int(o, "sample", 0));
    }
    if (a_second > 0) {
        free(rate);
        rate = mem_printf("%srate:%g/s", *sample ? "," : "", a_second);
    }
    if (share < 0) return mem_printf("%s%s", sample, *sample || *rate ? rate : "all");
    return mem_printf("%s%s%sabort:%g%%", sample, rate, *sample || *rate ? "," : "", share * 100);
}

static void print_policies(const json_t *policies) {
    static const char *const titles[] = {"FUNCTION", ">KEEP", ">CAP", ">DEAD", ">USED", "ON DEPLOY", ">CHANGED", "BY", NULL};
    struct table t;
    table_init(&t, titles);
    size_t i;
    const json_t *p;
    json_array_foreach(policies, i, p) {
        char span[OUT_SHORT_BYTES];
        int64_t keep_ms = member_int(p, "keepMs", 0), cap = member_int(p, "cap", 0);
        double used = member_real(p, "usedShare", 0);
        cleanup_free char *replay = auto_replay_text(p);
        table_add(&t, TONE_BOLD, "%s", member_text(p, "function", "?"));
        table_add(&t, TONE_PLAIN, "%s", keep_ms ? out_span(keep_ms, span) : "-");
        if (cap) table_add(&t, TONE_PLAIN, "%lld", (long long)cap);
        else table_add(&t, TONE_PLAIN, "-");
        table_add(&t, TONE_PLAIN, "%lld", (long long)member_int(p, "dead", 0));
        if (cap) table_add(&t, used >= 0.9 ? TONE_BAD : TONE_PLAIN, "%.0f%%", used * 100);
        else table_add(&t, TONE_PLAIN, "-");
        table_add(&t, TONE_PLAIN, "%s", replay);
        table_add(&t, TONE_PLAIN, "%s", out_age(member_int(p, "changedMs", 0), span));
        table_add(&t, TONE_PLAIN, "%s", member_text(p, "who", ""));
    }
    table_print(&t);
}

static int show_all(const struct args *a, struct client *c) {
    json_auto_t *answer = NULL;
    int rc = client_json(c, "GET", "/v1/policies", NULL, &answer);
    if (rc != EXIT_OK) return rc;
    const json_t *policies = json_object_get(answer, "policies");
    if (args_has(a, "json")) out_json(answer);
    else if (json_array_size(policies) == 0) out_note("no function has a policy: dead letters are kept until somebody purges them");
    else print_policies(policies);
    return EXIT_OK;
}

static int show_one(const struct args *a, struct client *c, const char *method, const char *path, json_t *settings) {
    json_auto_t *policy = NULL;
    int rc = client_json(c, method, path, settings, &policy);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        out_json(policy);
        return EXIT_OK;
    }
    json_auto_t *one = json_pack("[O]", policy);
    print_policies(one);
    return EXIT_OK;
}

static int remove_policy(const struct args *a, struct client *c, const char *path) {
    json_auto_t *answer = NULL;
    int rc = client_json(c, "DELETE", path, NULL, &answer);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(answer);
    else printf("%s has no policy any more\n", a->words[0]);
    return EXIT_OK;
}

static int run_policy(const struct args *a) {
    json_auto_t *settings = json_object();
    int rc = settings_json(a, settings);
    if (rc != EXIT_OK) return rc;
    bool changes = json_object_size(settings) > 0;
    if (!a->word_count && (changes || args_has(a, "remove"))) return out_misuse("dlq policy: say of which function");
    cleanup_client struct client *c = client_new(a);
    if (!a->word_count) return show_all(a, c);
    cleanup_free char *path = path_new("/v1/policies");
    path_add(&path, a->words[0]);
    if (args_has(a, "remove")) return remove_policy(a, c, path);
    return show_one(a, c, changes ? "PUT" : "GET", path, changes ? json_incref(settings) : NULL);
}

const struct command dlq_policy = {
    .name = "policy",
    .words = "[FUNCTION]",
    .summary = "Shows or changes what happens to a function's letters by itself",
    .about = "\nWhat is not named stays as it is. After a deploy, --auto-replay-on-deploy sends a sample of the function's dead letters to the\n"
             "new version, then the others, at the rate; it stops when more than the share fails.\n\n"
             "  weir dlq policy orders --keep 30d --cap 1000000 --auto-replay-on-deploy=sample:50,rate:100/s,abort:2%\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .most = 1,
    .run = run_policy,
};
