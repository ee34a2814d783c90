// SPDX-License-Identifier: Apache-2.0
// After a deploy: the dead letters of the function go to its new version, if its policy says so. Every node tries; the cause of the replay is
// unique in the store, so that one succeeds.
#include "core/base/clock.h"
#include "core/base/log.h"
#include "dlq/policies_impl.h"

#define WHO "weir (policy)"

struct deploy_job {
    struct store_job job;
    struct policies *policies;
    char *function;
    int64_t created_ms;  // of the function
    uint32_t number;
    json_t *auto_replay; // NULL: none
};

static void deploy_free(struct deploy_job *d) {
    json_decref(d->auto_replay);
    free(d->function);
    free(d);
}

static void on_replay(void *arg, int code, const struct err *err, json_t *result) {
    struct deploy_job *d = arg;
    struct policies *p = d->policies;
    p->jobs--;
    if (code == 0) {
        json_t *replay = json_object_get(result, "replay");
        log_info("policy", "the dead letters of a new version are replayed", LOG_STR("function", d->function), LOG_INT("version", d->number),
                 LOG_INT("replay", json_integer_value(replay)), LOG_INT("letters", json_integer_value(json_object_get(result, "total"))));
        audit_note(p->c.audit, "policies.replay", str_of(d->function),
                   json_pack("{sO? sI sO?}", "replay", replay, "version", (json_int_t)d->number, "autoReplay", d->auto_replay), STR_LIT("ok"));
    } else if (code != ERR_CONFLICT && code != ERR_NOT_FOUND) { // another node was first; there are no letters
        log_warn("policy", "the dead letters of a new version are not replayed", LOG_STR("function", d->function),
                 LOG_INT("version", d->number), LOG_STR("error", err->text));
    }
    json_decref(result);
    deploy_free(d);
}

static void make_replay(struct deploy_job *d) {
    struct policies *p = d->policies;
    const json_t *rate = json_object_get(d->auto_replay, "rate"), *share = json_object_get(d->auto_replay, "abortShare");
    cleanup_free char *cause = mem_printf("deploy:%s:%u:%lld", d->function, (unsigned)d->number, (long long)d->created_ms);
    cleanup_free char *to = mem_printf("%s:%u", d->function, (unsigned)d->number); // other nodes may not know yet that it is the current one
    const struct select_spec which = {.function = str_of(d->function), .state = STR_LIT("dead"), .now_ms = clock_unix_ms()};
    struct replay_spec spec = {.to = str_of(to),
                               .rate = json_number_value(rate),
                               .sample = (size_t)json_integer_value(json_object_get(d->auto_replay, "sample")),
                               .abort_share = json_is_number(share) ? json_number_value(share) : -1,
                               .who = STR_LIT(WHO),
                               .cause = str_of(cause)};
    struct err err = {0};
    p->jobs++;
    int rc = selection_new(&which, &spec.sel, &err);
    if (rc) on_replay(d, rc, &err, NULL);
    else replays_create(p->c.replays, &spec, on_replay, d);
}

static int take_settings(void *arg, const struct sql_row *row) {
    struct deploy_job *d = arg;
    json_auto_t *settings = policies_settings(sql_row_bytes(row, 0));
    json_t *replay = json_object_get(settings, "autoReplay");
    d->auto_replay = json_is_object(replay) ? json_incref(replay) : NULL;
    return 0;
}

static int deploy_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct deploy_job *d = container_of(job, struct deploy_job, job);
    const struct sql_value name = SQL_Z(d->function);
    json_decref(d->auto_replay);
    d->auto_replay = NULL;
    return sql_exec(sql, "SELECT settings FROM letter_policies WHERE function = $1", &name, 1, take_settings, d, NULL, err);
}

static void deploy_done(struct store_job *job, int code, const struct err *err) {
    struct deploy_job *d = container_of(job, struct deploy_job, job);
    d->policies->jobs--;
    if (code)
        log_warn("policy", "the policy cannot be read, so a new version gets no dead letters", LOG_STR("function", d->function),
                 LOG_STR("error", err->text));
    if (code == 0 && d->auto_replay && !d->policies->stopped) make_replay(d);
    else deploy_free(d);
}

void policies_deployed(struct policies *p, struct str function, int64_t created_ms, uint32_t number) {
    struct function_note *note = policies_note(p, function);
    if (note->created_ms != created_ms) note->deployed = 0; // another function of the same name
    note->created_ms = created_ms;
    bool deploy = note->deployed && number > note->deployed;
    if (number > note->deployed) note->deployed = number;
    if (!deploy || p->stopped) return;
    struct deploy_job *d = mem_zalloc(sizeof *d);
    *d = (struct deploy_job){.job = {.run = deploy_run, .done = deploy_done}, .policies = p, .function = mem_strndup(function),
                             .created_ms = created_ms, .number = number};
    policies_submit(p, p->c.reader, &d->job);
}
