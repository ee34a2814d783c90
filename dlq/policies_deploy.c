// SPDX-License-Identifier: Apache-2.0
// After a deploy: the dead letters of the function go to its new version, if its policy says so.
//
// Flow: look which policies lag behind the version that is current (reader) -> one after the other: make the replay -> done_version says that the
//   deploy is done with (writer). Every node looks, and looks again until it is done with, so it does not matter which of them dies when; the
//   cause of a replay is unique in the store, so one node makes it.
#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "dlq/policies_impl.h"

#define WHO "weir (policy)"

struct deploy {
    char *function, *cause;
    int64_t number;      // of the version
    json_t *auto_replay;
};

struct deploys {
    struct store_job job;
    struct policies *policies;
    struct deploy *all;
    size_t count, at;    // at: whose turn it is
    bool nothing_dead;
};

static void make_replay(struct deploys *ds);

static void drop_all(struct deploys *ds) {
    for (size_t i = 0; i < ds->count; i++) {
        json_decref(ds->all[i].auto_replay);
        free(ds->all[i].function);
        free(ds->all[i].cause);
    }
    free(ds->all);
    ds->all = NULL;
    ds->count = 0;
}

static void go_on(struct deploys *ds) {
    struct policies *p = ds->policies;
    if (ds->at < ds->count && !p->stopped) {
        make_replay(ds);
        return;
    }
    drop_all(ds);
    free(ds);
    p->deploys = NULL;
    if (p->look_again) policies_look(p);
}

// --- it is done with ----------------------------------------------------------------------------------------------------------

// Not while its letters are being selected: should that node end, another one makes the replay anew.
static int settle_run(struct store_job *job, struct sql *sql, struct err *err) {
    const struct deploys *ds = container_of(job, struct deploys, job);
    const struct deploy *d = &ds->all[ds->at];
    const struct sql_value values[] = {SQL_I(d->number), SQL_Z(d->function), SQL_Z(d->cause)};
    if (ds->nothing_dead)
        return sql_exec(sql, "UPDATE letter_policies SET done_version = $1 WHERE function = $2 AND done_version < $1", values, 2, NULL, NULL, NULL,
                        err);
    return sql_exec(sql,
                    "UPDATE letter_policies SET done_version = $1 WHERE function = $2 AND done_version < $1"
                    " AND EXISTS (SELECT 1 FROM replays WHERE cause = $3 AND state <> 'selecting')",
                    values, 3, NULL, NULL, NULL, err);
}

static void settle_done(struct store_job *job, int code, const struct err *err) {
    (void)code, (void)err; // the store has told it; the next look finds the replay
    struct deploys *ds = container_of(job, struct deploys, job);
    ds->policies->jobs--;
    ds->at++;
    go_on(ds);
}

// --- its replay ---------------------------------------------------------------------------------------------------------------

static void tell(const struct policies *p, const struct deploy *d, const json_t *result) {
    json_t *replay = json_object_get(result, "replay");
    log_info("policy", "the dead letters of a new version are replayed", LOG_STR("function", d->function), LOG_INT("version", d->number),
             LOG_INT("replay", json_integer_value(replay)), LOG_INT("letters", json_integer_value(json_object_get(result, "total"))));
    audit_note(p->c.audit, "policies.replay", str_of(d->function),
               json_pack("{sO? sI sO?}", "replay", replay, "version", (json_int_t)d->number, "autoReplay", d->auto_replay), STR_LIT("ok"));
}

static void on_replay(void *arg, int code, const struct err *err, json_t *result) {
    struct deploys *ds = arg;
    struct policies *p = ds->policies;
    const struct deploy *d = &ds->all[ds->at];
    p->jobs--;
    if (code == 0) {
        FAULT("policy.replayed");
        tell(p, d, result);
    }
    json_decref(result);
    ds->nothing_dead = code == ERR_NOT_FOUND;
    if (code == 0 || code == ERR_CONFLICT || code == ERR_NOT_FOUND) { // conflict: another node was first
        ds->job = (struct store_job){.run = settle_run, .done = settle_done};
        policies_submit(p, p->c.store, &ds->job);
        return;
    }
    log_warn("policy", "the dead letters of a new version are not replayed yet", LOG_STR("function", d->function), LOG_INT("version", d->number),
             LOG_STR("error", err->text));
    ds->at++;
    go_on(ds);
}

static void make_replay(struct deploys *ds) {
    struct policies *p = ds->policies;
    const struct deploy *d = &ds->all[ds->at];
    const json_t *rate = json_object_get(d->auto_replay, "rate"), *share = json_object_get(d->auto_replay, "abortShare");
    cleanup_free char *to = mem_printf("%s:%lld", d->function, (long long)d->number); // other nodes may not know yet that it is the current one
    const struct select_spec which = {.function = str_of(d->function), .state = STR_LIT("dead"), .now_ms = clock_unix_ms()};
    struct replay_spec spec = {.to = str_of(to),
                               .rate = json_number_value(rate),
                               .sample = (size_t)json_integer_value(json_object_get(d->auto_replay, "sample")),
                               .abort_share = json_is_number(share) ? json_number_value(share) : -1,
                               .who = STR_LIT(WHO),
                               .cause = str_of(d->cause)};
    struct err err = {0};
    FAULT("policy.deployed");
    p->jobs++;
    int rc = selection_new(&which, &spec.sel, &err);
    if (rc) on_replay(ds, rc, &err, NULL);
    else replays_create(p->c.replays, &spec, on_replay, ds);
}

// --- looking ------------------------------------------------------------------------------------------------------------------

static int take_deploy(void *arg, const struct sql_row *row) {
    struct deploys *ds = arg;
    json_auto_t *settings = policies_settings(sql_row_bytes(row, 1));
    json_t *replay = json_object_get(settings, "autoReplay");
    if (!json_is_object(replay)) return 0;
    struct deploy d = {.function = mem_strndup(sql_row_bytes(row, 0)), .number = sql_row_int(row, 2), .auto_replay = json_incref(replay)};
    d.cause = mem_printf("deploy:%s:%lld:%lld", d.function, (long long)d.number, (long long)sql_row_int(row, 3));
    ds->all = mem_realloc(ds->all, (ds->count + 1) * sizeof *ds->all);
    ds->all[ds->count++] = d;
    return 0;
}

static int look_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct deploys *ds = container_of(job, struct deploys, job);
    drop_all(ds);
    return sql_exec(sql,
                    "SELECT p.function, p.settings, f.current, f.created_ms FROM letter_policies p JOIN functions f ON f.name = p.function"
                    " WHERE f.current > p.done_version ORDER BY p.function",
                    NULL, 0, take_deploy, ds, NULL, err);
}

static void look_done(struct store_job *job, int code, const struct err *err) {
    (void)err; // the store has told it, and the next round looks again
    struct deploys *ds = container_of(job, struct deploys, job);
    ds->policies->jobs--;
    if (code) drop_all(ds);
    go_on(ds);
}

void policies_look(struct policies *p) {
    if (!p->started || p->stopped) return;
    p->look_again = p->deploys != NULL;
    if (p->deploys) return;
    p->deploys = mem_zalloc(sizeof *p->deploys);
    *p->deploys = (struct deploys){.job = {.run = look_run, .done = look_done}, .policies = p};
    policies_submit(p, p->c.reader, &p->deploys->job);
}
