// SPDX-License-Identifier: Apache-2.0
// weir run: runs a handler once, here, on the event of a case.
#include "cli/run.h"

#include <libgen.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/case.h"
#include "cli/commands.h"
#include "cli/env.h"
#include "cli/guess.h"
#include "cli/out.h"
#include "cli/pack.h"
#include "cli/runtimes_folder.h"
#include "core/id.h"
#include "core/shape.h"

static const struct arg_spec specs[] = {
    {"event", 0, ARG_TEXT, "FILE|-", "a case (weir dlq pull), or a payload as it is (default: an empty payload)", NULL},
    {"handler", 0, ARG_TEXT, "H", "FILE.FUNCTION, or the file to execute (default: the case's, or guessed as deploy does)", NULL},
    {"runtime", 0, ARG_TEXT, "R", "python or exec (default: from the file)", NULL},
    {"env", 'e', ARG_TEXT, "K=V", "environment variable on top of the case's; may be repeated", NULL},
    {"timeout", 0, ARG_DURATION, "TIME", "most time for the handler (default: the case's, or 30s)", NULL},
    {"dry-run", 0, ARG_FLAG, NULL, "tell the handler so, as a try on the server does: context[\"dry_run\"], WEIR_DRY_RUN=1", NULL},
    {"debug", 0, ARG_FLAG, NULL, "under the debugger, stopped at the handler's first line (python)", NULL},
    {0},
};

struct run {
    struct case_file c;
    char *code_dir;
    struct guess guess;     // name, runtime, handler
    struct version version; // of them; its texts belong to the others
};

// --- the code -----------------------------------------------------------------------------------------------------------

// "orders.main_handler" when the handler of the case is a function of that name in a file of this stem; NULL: it is not.
static char *case_handler_in(const char *handler, const char *file) {
    const char *dot = handler ? strrchr(handler, '.') : NULL;
    const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    const char *end = strrchr(base, '.');
    if (!dot || !end || strcmp(end, ".py") != 0) return NULL;
    const char *module = dot;
    while (module > handler && module[-1] != '/' && module[-1] != '.') module--;
    bool same = dot - module == end - base && memcmp(module, base, (size_t)(dot - module)) == 0;
    return same ? mem_strdup(module) : NULL;
}

// What the case says of its function; NULL: nothing.
static char *said(const char *text) {
    return text && *text ? mem_strdup(text) : NULL;
}

static int find_code(const char *path, struct run *r, struct err *err) {
    const struct settings *s = &r->c.settings;
    struct stat st;
    cleanup_free char *real = realpath(path, NULL);
    if (!real || stat(real, &st)) return err_set(err, ERR_NOT_FOUND, "%s: there is no such file or folder", path);
    bool folder = S_ISDIR(st.st_mode);
    if (!folder && pack_is_archive(path)) return err_set(err, ERR_INVALID, "%s: unpack it, and give the folder", path);
    if (!r->guess.handler) r->guess.handler = folder ? said(s->handler) : case_handler_in(s->handler, real);
    if (!r->guess.runtime && folder) r->guess.runtime = said(s->runtime);
    int rc = guess_fill(&r->guess, real, err);
    r->code_dir = mem_strdup(folder ? real : dirname(real));
    return rc;
}

// --- the settings -------------------------------------------------------------------------------------------------------

static int add_env(const struct args *a, struct settings *s) {
    json_auto_t *env = s->env ? json_loads(s->env, 0, NULL) : NULL;
    if (!env) env = json_object();
    int rc = env_read(a, env);
    if (rc != EXIT_OK) return rc;
    free(s->env);
    s->env = json_dumps(env, JSON_COMPACT);
    return EXIT_OK;
}

static int make_version(const struct args *a, struct run *r) {
    struct settings *s = &r->c.settings;
    struct err err;
    int rc = add_env(a, s);
    if (rc != EXIT_OK) return rc;
    s->timeout_ms = args_number(a, "timeout", s->timeout_ms);
    free(s->runtime);
    free(s->handler);
    s->runtime = mem_strdup(r->guess.runtime);
    s->handler = mem_strdup(r->guess.handler);
    if (settings_check(s, &err) < 0) return out_misuse("%s", err.text);
    r->version = (struct version){
        .refs = 1, .function = r->guess.name, .number = r->c.version ? r->c.version : 1, .settings = *s, .code_dir = r->code_dir};
    return EXIT_OK;
}

// --- running ------------------------------------------------------------------------------------------------------------

// The event as the function sees it: in the shape of its trigger, as the workers do.
static int shaped(const struct ev *ev, bool dry_run, struct ev **ret, struct err *err) {
    struct ev_fields f = ev->f;
    enum shape shape;
    int rc = shape_parse(f.shape, &shape, err);
    if (rc) return rc;
    struct buf payload;
    buf_init(&payload, EV_PAYLOAD_MAX);
    rc = shape_append(&payload, shape, &ev, 1, err);
    f.payload = buf_str(&payload);
    f.dry_run = dry_run;
    if (rc == 0) *ret = ev_new(&f);
    buf_done(&payload);
    return rc;
}

static int run_with(const struct args *a, const struct run *r, const struct ev *ev, const struct runtimes *runtimes) {
    struct run_plan plan = {.version = &r->version, .ev = ev, .debug = args_has(a, "debug")};
    struct run_end end;
    struct err err;
    if (runtimes_find(runtimes, r->version.settings.runtime, &plan.runtime, &err) || run_event(&plan, &end, &err))
        return out_fail("%s", err.text);
    int signo = end.signal;
    int rc = signo ? EXIT_FAILED : run_report(&end, str_of(r->version.function), r->c.error, args_has(a, "json"));
    run_end_done(&end);
    if (signo) {
        signal(signo, SIG_DFL);
        raise(signo); // the shell sees that it was interrupted
    }
    return rc;
}

static int run_here(const struct args *a, struct run *r) {
    struct runtimes runtimes;
    struct ev *ev;
    struct err err;
    cleanup_free char *dir = runtimes_folder(getenv("WEIR_RUNTIMES"));
    if (shaped(r->c.ev, args_has(a, "dry-run"), &ev, &err)) return out_fail("%s", err.text);
    int rc = runtimes_load(dir, &runtimes, &err) ? out_fail("%s", err.text) : EXIT_OK;
    if (rc == EXIT_OK) {
        rc = run_with(a, r, ev, &runtimes);
        runtimes_done(&runtimes);
    }
    ev_free(ev);
    return rc;
}

static int check_debug(const struct args *a, const struct run *r) {
    if (!args_has(a, "debug")) return EXIT_OK;
    if (args_has(a, "json")) return out_misuse("--debug talks on the terminal; leave --json out");
    const char *event = args_text(a, "event");
    if (event && strcmp(event, "-") == 0) return out_misuse("--debug reads its commands from stdin; give the event as a file");
    if (strcmp(r->guess.runtime, "python") == 0) return EXIT_OK;
    return out_misuse("--debug is for Python; an executable gets its event on stdin, so start %s itself under its debugger, with "
                      "the payload as its input", r->guess.handler);
}

static int read_event(const char *event, struct case_file *ret) {
    struct err err;
    struct id id;
    if (!event) case_init(ret);
    else if (case_read(event, ret, &err) == 0) return EXIT_OK;
    else if (id_parse(str_of(event), &id) == 0)
        return out_misuse("--event takes a file, and '%s' is the id of a letter; its case is made by\n      weir dlq pull %s > case.json",
                          event, event);
    else return out_misuse("%s", err.text);
    return EXIT_OK;
}

static int run_run(const struct args *a) {
    const char *event = args_text(a, "event");
    struct run r = {.guess = {.handler = mem_strdup(args_text(a, "handler")), .runtime = mem_strdup(args_text(a, "runtime"))}};
    struct err err;
    int rc = read_event(event, &r.c);
    if (rc == EXIT_OK && r.c.ev->f.function.len) r.guess.name = mem_strndup(r.c.ev->f.function);
    if (rc == EXIT_OK && find_code(a->words[0], &r, &err)) rc = out_misuse("%s", err.text);
    if (rc == EXIT_OK) rc = check_debug(a, &r);
    if (rc == EXIT_OK) rc = make_version(a, &r);
    if (rc == EXIT_OK) rc = run_here(a, &r);
    case_done(&r.c);
    guess_done(&r.guess);
    free(r.code_dir);
    return rc;
}

const struct command run_here_command = {
    .name = "run",
    .words = "FILE|FOLDER",
    .summary = "Runs a handler once, here, on an event that failed on a server",
    .about = "\nThe same runtime, event, context, environment and limits as on the server; no server, no sandbox, no retries.\n"
             "What the handler writes comes on stderr, its result on stdout.\n"
             "The environment is that of the case: where it names a database of production, the handler writes there. Give other\n"
             "values with --env NAME=VALUE, and --dry-run to handlers that regard it.\n\n"
             "  weir dlq pull ID > case.json\n"
             "  weir run orders.py --event case.json\n"
             "  weir run orders.py --event case.json --env DB=postgresql://localhost/test --dry-run\n"
             "  weir run orders.py --event case.json --debug\n",
    .specs = specs,
    .uses = USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_run,
};
