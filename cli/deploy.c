// SPDX-License-Identifier: Apache-2.0
// weir deploy: packs a file or a folder, guesses what was not said, and makes a new version of the function.
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/deploy_settings.h"
#include "cli/env.h"
#include "cli/guess.h"
#include "cli/out.h"
#include "cli/pack.h"
#include "core/digest.h"
#include "core/options.h"
#include "core/registry.h"

static const struct arg_spec specs[] = {
    {"name", 'n', ARG_TEXT, "NAME", "name of the function (default: from the file or folder)", NULL},
    {"runtime", 0, ARG_TEXT, "R", "python or exec (default: from the file)", NULL},
    {"handler", 0, ARG_TEXT, "H", "FILE.FUNCTION, or the file to execute (default: FILE.main_handler)", NULL},
    {"timeout", 0, ARG_DURATION, "TIME", "most time for one attempt (default 30s)", NULL},
    {"memory", 0, ARG_BYTES, "SIZE", "memory of one instance (default 256MiB)", NULL},
    {"max-instances", 0, ARG_COUNT, "N", "most instances on one node", NULL},
    {"retries", 0, ARG_COUNT, "N", "attempts after the first one (default 3)", NULL},
    {"backoff", 0, ARG_DURATIONS, "LIST", "waits before the retries (default 1s,5s,30s; the last one repeats)", NULL},
    {"max-age", 0, ARG_DURATION, "TIME", "an event is not tried after (default 6h)", NULL},
    {"env", 'e', ARG_TEXT, "K=V", "environment variable; may be repeated", NULL},
    {"description", 0, ARG_TEXT, "TEXT", "what it is for", NULL},
    {"keep-settings", 0, ARG_FLAG, NULL, "what is not said here is that of the current version, not the default", NULL},
    {"no-switch", 0, ARG_FLAG, NULL, "the current version stays; try the new one as NAME:VERSION", NULL},
    {0},
};

static void set_number(json_t *settings, const struct args *a, const char *option, const char *key, int64_t unit) {
    if (args_has(a, option)) json_object_set_new(settings, key, json_integer(args_number(a, option, 0) / unit));
}

static int set_env(json_t *settings, const struct args *a) {
    if (!args_has(a, "env")) return EXIT_OK;
    json_t *env = json_object();
    json_object_set_new(settings, "env", env);
    return env_read(a, env);
}

static void set_backoff(json_t *settings, const struct args *a) {
    const char *text = args_text(a, "backoff");
    if (!text) return;
    int64_t ms[BACKOFF_MAX];
    int n = parse_durations_ms(str_of(text), ms, array_len(ms), NULL);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_integer(ms[i]));
    json_object_set_new(settings, "backoffMs", list);
}

static int read_settings(const struct args *a, json_t *settings) {
    const char *backoff = args_text(a, "backoff");
    int64_t ms[BACKOFF_MAX];
    if (backoff && parse_durations_ms(str_of(backoff), ms, array_len(ms), NULL) < 0)
        return out_misuse("--backoff: at most %d times", BACKOFF_MAX);
    int64_t memory = args_number(a, "memory", 1 << 20);
    if (memory % (1 << 20)) return out_misuse("--memory: whole MiB, such as 256MiB");
    set_number(settings, a, "timeout", "timeoutMs", 1);
    set_number(settings, a, "memory", "memoryMb", 1 << 20);
    set_number(settings, a, "max-instances", "maxInstances", 1);
    set_number(settings, a, "retries", "retries", 1);
    set_number(settings, a, "max-age", "maxAgeMs", 1);
    set_backoff(settings, a);
    if (args_has(a, "description"))
        json_object_set_new(settings, "description", json_string(args_text(a, "description")));
    return set_env(settings, a);
}

static void print_done(const struct args *a, const struct guess *g, int status, const json_t *answer, size_t bytes) {
    char size[OUT_SHORT_BYTES];
    const char *name = member_text(answer, "name", g->name);
    long long version = member_int(answer, "version", 0);
    long long current = member_int(answer, "current", version);
    if (status == 200)
        printf("%s:%lld unchanged (same code, same settings)\n", name, version);
    else
        printf("%s:%lld deployed (%s, %s, %s, sha256 %.12s…)\n", name, version, g->runtime, g->handler,
               out_size((int64_t)bytes, size), member_text(answer, "sha256", "?"));
    if (current != version)
        printf("%s: version %lld is ready, version %lld stays current (weir fn use %s %lld makes it current)\n", name, version,
               current, name, version);
    else if (args_has(a, "no-switch"))
        printf("%s: version %lld is the current one%s\n", name, version, status == 200 ? " already" : ", as there was none before");
}

struct deploy {
    const struct args *args;
    struct client *client;
    struct guess guess;
    json_t *settings; // that are sent
    json_t *before;   // the function as it was; NULL: it is new
};

// The settings that the version got, which are in no answer to a deploy, beside those of the one that was current. It is deployed, told or not.
static void add_differences(const struct deploy *d, json_t *answer) {
    json_auto_t *after = NULL;
    struct err err;
    int64_t from = member_int(d->before, "current", 0);
    const json_t *old = deploy_settings_of(d->before, from);
    if (!old) return;
    if (deploy_fetch(d->client, d->guess.name, &after, &err) < 0) out_note("it is deployed, but which settings differ is not known: %s", err.text);
    const json_t *new = deploy_settings_of(after, member_int(answer, "version", 0));
    if (!new) return;
    json_object_set_new(answer, "settingsFrom", json_integer(from));
    json_object_set_new(answer, "settingsChanged", deploy_differences(old, new));
}

static void print_differences(const struct args *a, const json_t *answer) {
    const json_t *changed = json_object_get(answer, "settingsChanged");
    deploy_print_differences(member_int(answer, "settingsFrom", 0), changed);
    if (json_array_size(changed) && !args_has(a, "keep-settings"))
        out_note("what a deploy leaves out is the default again; --keep-settings keeps it as it was");
}

static int send(const struct deploy *d, struct str package) {
    const struct args *a = d->args;
    const struct guess *g = &d->guess;
    json_object_set_new(d->settings, "runtime", json_string(g->runtime));
    json_object_set_new(d->settings, "handler", json_string(g->handler));
    struct buf base64;
    buf_init(&base64, PACK_MAX * 2);
    MUST(base64_encode(package, &base64) == 0);
    cleanup_free char *encoded = buf_take(&base64, NULL);
    json_t *body = json_pack("{s:O, s:s}", "settings", d->settings, "package", encoded);
    if (!body) return out_misuse("a name or a setting is not UTF-8");
    cleanup_free char *path = path_new("/v1/functions");
    path_add(&path, g->name);
    if (args_has(a, "no-switch")) path_query(&path, "switch", "false");
    json_auto_t *answer = NULL;
    int status;
    int rc = client_json_status(d->client, "PUT", path, body, &answer, &status);
    if (rc != EXIT_OK) return rc;
    add_differences(d, answer);
    if (args_has(a, "json")) {
        out_json(answer);
    } else {
        print_done(a, g, status, answer, package.len);
        print_differences(a, answer);
    }
    return EXIT_OK;
}

static void keep(struct deploy *d) {
    const json_t *kept = deploy_settings_of(d->before, member_int(d->before, "current", 0));
    if (!kept) return;
    const char *runtime = member_text(kept, "runtime", NULL), *handler = member_text(kept, "handler", NULL);
    deploy_keep(d->settings, kept);
    if (!d->guess.handler && (!d->guess.runtime || (runtime && strcmp(d->guess.runtime, runtime) == 0))) d->guess.handler = mem_strdup(handler);
    if (!d->guess.runtime) d->guess.runtime = mem_strdup(runtime);
}

static int fetch_and_send(struct deploy *d, struct str package) {
    struct err err = {0};
    int rc = deploy_fetch(d->client, d->guess.name, &d->before, &err);
    if (rc == 0 && args_has(d->args, "keep-settings")) {
        keep(d);
        rc = guess_fill(&d->guess, d->args->words[0], &err);
    }
    if (rc < 0) return out_fail("%s", err.text);
    return send(d, package);
}

// With --keep-settings nothing needs to be guessed but the name.
static int guess_and_send(struct deploy *d) {
    const char *path = d->args->words[0];
    struct err err = {0};
    struct buf package;
    int rc = args_has(d->args, "keep-settings") ? guess_name(&d->guess, path, &err) : guess_fill(&d->guess, path, &err);
    if (rc == 0) rc = pack_is_archive(path) ? pack_read(path, &package, &err) : pack_path(path, &package, &err);
    if (rc < 0) return out_fail("%s", err.text);
    rc = fetch_and_send(d, buf_str(&package));
    buf_done(&package);
    return rc;
}

static int run_deploy(const struct args *a) {
    json_auto_t *settings = json_object();
    int rc = read_settings(a, settings);
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    struct deploy d = {
        .args = a,
        .client = c,
        .settings = settings,
        .guess = {.name = mem_strdup(args_text(a, "name")),
                  .runtime = mem_strdup(args_text(a, "runtime")),
                  .handler = mem_strdup(args_text(a, "handler"))},
    };
    rc = guess_and_send(&d);
    guess_done(&d.guess);
    json_decref(d.before);
    return rc;
}

const struct command deploy_command = {
    .name = "deploy",
    .words = "PATH",
    .summary = "Makes a new version of a function from a file, a folder or an archive",
    .about = "\n  weir deploy hello.py                     def main_handler(event, context)\n"
             "  weir deploy resize.sh                    payload on stdin, result on stdout\n"
             "  weir deploy ./orders --retries 5         a folder with index.py, main.py, handler.py, app.py or bootstrap\n"
             "  weir deploy orders.py --no-switch        a version to try before it goes live\n"
             "  weir deploy orders.py --keep-settings    a fix: env, timeout and the others stay as they are\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_deploy,
};
