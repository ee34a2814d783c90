// SPDX-License-Identifier: Apache-2.0
// Groups: numbers out of one index of the dead letters, one look at the newest letter of each group that is shown.
#include "dlq/groups.h"

#include "core/base/clock.h"
#include "core/base/text.h"
#include "dlq/fingerprint.h"
#include "dlq/letters_impl.h"

#define SPARK_MS (INT64_C(24) * 3600000)
#define LOOKED_AT_MAX 10000 // groups that are gone through for those of one function

struct groups {
    struct loop *loop;
    struct store *store, *reader;
    const struct redact *redact;
};

struct group_job {
    struct store_job job;
    struct groups *groups;
    char *function, *which, *name, *note, *who;
    int64_t since_ms, spark_ms, now_ms;
    bool with_muted;
    int muted;
    size_t limit;
    letters_json_fn *fn;
    void *arg;
    json_t *result;
};

static void group_done(struct store_job *job, int code, const struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    g->fn(g->arg, code, err, code ? NULL : json_incref(g->result));
    json_decref(g->result);
    free(g->function);
    free(g->which);
    free(g->name);
    free(g->note);
    free(g->who);
    free(g);
}

static struct group_job *group_job_new(struct groups *groups, int (*run)(struct store_job *, struct sql *, struct err *),
                                       letters_json_fn *fn, void *arg) {
    struct group_job *g = mem_zalloc(sizeof *g);
    *g = (struct group_job){.job = {.run = run, .done = group_done}, .groups = groups, .now_ms = clock_unix_ms(), .fn = fn, .arg = arg};
    g->spark_ms = SPARK_MS;
    return g;
}

// --- numbers ----------------------------------------------------------------------------------------------------------------

static json_t *text_at(const struct sql_row *row, int column) {
    return letters_json_text(sql_row_bytes(row, column));
}

static int add_group(void *arg, const struct sql_row *row) {
    char group[FINGERPRINT_TEXT_BYTES];
    fingerprint_format((uint64_t)sql_row_int(row, 0), group);
    json_array_append_new(arg, json_pack("{ss sI sI sI sI sI so so sb}", "group", group, "count", (json_int_t)sql_row_int(row, 1), "firstMs",
                                         (json_int_t)sql_row_int(row, 2), "lastMs", (json_int_t)sql_row_int(row, 3), "firstVersion",
                                         (json_int_t)sql_row_int(row, 4), "lastVersion", (json_int_t)sql_row_int(row, 5), "name",
                                         text_at(row, 6), "note", text_at(row, 7), "muted", (int)sql_row_int(row, 8)));
    return 0;
}

// What people said comes after the numbers, which are out of the index alone.
#define NUMBERS(restriction, order)                                                                                       \
    "SELECT n.fingerprint, n.count, n.first_ms, n.last_ms, n.first_version, n.last_version, coalesce(g.name, ''),"        \
    " coalesce(g.note, ''), coalesce(g.muted, 0) FROM (SELECT fingerprint, count(*) AS count, min(died_ms) AS first_ms,"  \
    " max(died_ms) AS last_ms, min(version) AS first_version, max(version) AS last_version FROM letters"                  \
    " WHERE state = 'dead' AND " restriction " GROUP BY fingerprint) n LEFT JOIN letter_groups g"                         \
    " ON g.fingerprint = n.fingerprint " order

static int read_numbers(const struct group_job *g, struct sql *sql, json_t *list, struct err *err) {
    const struct sql_value values[] = {SQL_I(g->since_ms), SQL_I(g->with_muted), SQL_I(g->function ? LOOKED_AT_MAX : g->limit + 1)};
    return sql_exec(sql, NUMBERS("died_ms >= $1", "WHERE $2 = 1 OR coalesce(g.muted, 0) = 0 ORDER BY n.count DESC, n.fingerprint LIMIT $3"),
                    values, array_len(values), add_group, list, NULL, err);
}

// --- the newest letter --------------------------------------------------------------------------------------------------------

struct newest {
    const struct redact *redact;
    json_t *group;
};

// Has it a word outside of its masks, or only <str> and the like?
static bool says_something(struct str title) {
    bool inside = false;
    for (size_t i = 0; i < title.len; i++) {
        unsigned char c = (unsigned char)title.data[i];
        if (c == '<') inside = true;
        else if (c == '>') inside = false;
        else if (!inside && ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')) return true;
        else if (!inside && c >= 0x80) return true;
    }
    return false;
}

// The masked message; where the mask leaves nothing, as of KeyError: 'currency', the newest letter's own.
static json_t *title_of(struct str message) {
    struct buf title;
    buf_init(&title, 4096);
    fingerprint_mask(message, &title);
    if (message.len > FINGERPRINT_TITLE_BYTES) message.len = FINGERPRINT_TITLE_BYTES;
    json_t *text = letters_json_text(says_something(buf_str(&title)) ? buf_str(&title) : message);
    buf_done(&title);
    return text;
}

static int take_newest(void *arg, const struct sql_row *row) {
    const struct newest *n = arg;
    struct id id = letters_row_id(row, 0);
    struct str history = sql_row_bytes(row, 4);
    json_t *attempts = json_loadb(history.data ? history.data : "", history.len, 0, NULL);
    const json_t *last = json_array_get(attempts, json_array_size(attempts) ? json_array_size(attempts) - 1 : 0);
    const json_t *stack = json_object_get(last, "stack");
    struct buf place;
    buf_init(&place, 4096);
    if (json_is_string(stack)) fingerprint_place((struct str){json_string_value(stack), json_string_length(stack)}, &place);
    json_object_set_new(n->group, "letter", letters_json_id(&id));
    json_object_set_new(n->group, "functions", json_pack("[o]", text_at(row, 1)));
    json_object_set_new(n->group, "errorType", text_at(row, 2));
    json_object_set_new(n->group, "title", title_of(sql_row_bytes(row, 3)));
    json_object_set_new(n->group, "place", letters_json_text(buf_str(&place)));
    redact_json(n->redact, n->group);
    buf_done(&place);
    json_decref(attempts);
    return 0;
}

static uint64_t fingerprint_in(const json_t *group) {
    uint64_t fingerprint = 0;
    MUST(fingerprint_parse(str_of(json_string_value(json_object_get(group, "group"))), &fingerprint) == 0);
    return fingerprint;
}

static int read_newest(const struct group_job *g, struct sql *sql, json_t *group, struct err *err) {
    struct newest newest = {.redact = g->groups->redact, .group = group};
    const struct sql_value id = SQL_I(fingerprint_in(group));
    return sql_exec(sql,
                    "SELECT l.id, l.function, l.error_type, l.error_message, b.history FROM letters l JOIN letter_bodies b ON b.id = l.id"
                    " WHERE l.state = 'dead' AND l.fingerprint = $1 ORDER BY l.died_ms DESC LIMIT 1",
                    &id, 1, take_newest, &newest, NULL, err);
}

// --- sparklines -----------------------------------------------------------------------------------------------------------------

static int add_bucket(void *arg, const struct sql_row *row) {
    int64_t *buckets = arg, at = sql_row_int(row, 0);
    if (at < 0) at = 0;
    buckets[at < GROUP_SPARK ? at : GROUP_SPARK - 1] += sql_row_int(row, 1);
    return 0;
}

static int read_spark(const struct group_job *g, struct sql *sql, json_t *group, struct err *err) {
    int64_t buckets[GROUP_SPARK] = {0}, width = g->spark_ms / GROUP_SPARK, from = g->now_ms - width * GROUP_SPARK;
    const struct sql_value values[] = {SQL_I(from), SQL_I(width > 0 ? width : 1), SQL_I(fingerprint_in(group))};
    json_t *spark = json_array();
    int rc = sql_exec(sql,
                      "SELECT (died_ms - $1) / $2, count(*) FROM letters WHERE state = 'dead' AND fingerprint = $3 AND died_ms >= $1 GROUP BY 1",
                      values, array_len(values), add_bucket, buckets, NULL, err);
    for (size_t i = 0; i < GROUP_SPARK; i++) json_array_append_new(spark, json_integer(buckets[i]));
    json_object_set_new(group, "spark", spark);
    return rc;
}

// --- listing --------------------------------------------------------------------------------------------------------------------

static bool is_of(const json_t *group, const char *function) {
    const char *name = json_string_value(json_array_get(json_object_get(group, "functions"), 0));
    return !function || (name && strcmp(name, function) == 0);
}

static int list_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    json_t *all = json_array(), *shown = json_array(), *group;
    json_int_t letters = 0;
    bool more = false;
    size_t i;
    int rc = read_numbers(g, sql, all, err);
    json_array_foreach(all, i, group) {
        if (rc == 0) rc = read_newest(g, sql, group, err);
        if (rc || !is_of(group, g->function)) continue;
        more = json_array_size(shown) == g->limit;
        if (more) break;
        rc = read_spark(g, sql, group, err);
        letters += json_integer_value(json_object_get(group, "count"));
        json_array_append(shown, group);
    }
    json_decref(all);
    json_decref(g->result);
    g->result = json_pack("{so sI sb}", "groups", shown, "letters", letters, "more", (int)more);
    return rc;
}

void groups_list(struct groups *groups, const struct groups_page *page, letters_json_fn *fn, void *arg) {
    struct group_job *g = group_job_new(groups, list_run, fn, arg);
    g->function = page->function.len ? mem_strndup(page->function) : NULL;
    g->since_ms = page->since_ms;
    g->with_muted = page->muted;
    g->limit = page->limit < GROUPS_MAX ? page->limit : GROUPS_MAX;
    if (page->spark_ms) g->spark_ms = page->spark_ms;
    store_submit(groups->reader, &g->job);
}

// --- one group ------------------------------------------------------------------------------------------------------------------

static int take_number(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int no_such(const struct group_job *g, struct err *err) {
    return err_set(err, ERR_NOT_FOUND, "there is no group '%.100s': give 16 hex digits or a name, as `weir dlq groups` shows them", g->which);
}

static int find(const struct group_job *g, struct sql *sql, uint64_t *ret, struct err *err) {
    int64_t found = -1;
    if (fingerprint_parse(str_of(g->which), ret) == 0) return 0;
    const struct sql_value name = SQL_Z(g->which);
    int rc = sql_exec(sql, "SELECT 1 FROM letter_groups WHERE name = $1", &name, 1, take_number, &found, NULL, err);
    if (rc == 0 && found < 0) return no_such(g, err);
    if (rc == 0) rc = sql_exec(sql, "SELECT fingerprint FROM letter_groups WHERE name = $1", &name, 1, take_number, &found, NULL, err);
    *ret = (uint64_t)found;
    return rc;
}

static int take_said(void *arg, const struct sql_row *row) {
    json_t *group = arg;
    json_object_set_new(group, "name", text_at(row, 0));
    json_object_set_new(group, "note", text_at(row, 1));
    json_object_set_new(group, "muted", json_boolean(sql_row_int(row, 2)));
    return 0;
}

// A group of which nobody said anything and that has no letters is none.
static int read_group(struct group_job *g, struct sql *sql, uint64_t fingerprint, struct err *err) {
    char text[FINGERPRINT_TEXT_BYTES];
    json_t *found = json_array();
    const struct sql_value id = SQL_I(fingerprint);
    fingerprint_format(fingerprint, text);
    int rc = sql_exec(sql, NUMBERS("fingerprint = $1", ""), &id, 1, add_group, found, NULL, err);
    json_decref(g->result);
    g->result = json_incref(json_array_get(found, 0));
    json_decref(found);
    if (rc == 0 && g->result) rc = read_newest(g, sql, g->result, err);
    if (rc || g->result) return rc ? rc : read_spark(g, sql, g->result, err);
    g->result = json_pack("{ss si sn sn sn sn sn s[] ss ss ss}", "group", text, "count", 0, "firstMs", "lastMs", "firstVersion", "lastVersion",
                          "letter", "functions", "errorType", "", "title", "", "place", "");
    rc = sql_exec(sql, "SELECT name, note, muted FROM letter_groups WHERE fingerprint = $1", &id, 1, take_said, g->result, NULL, err);
    if (rc == 0 && !json_object_get(g->result, "name")) return no_such(g, err);
    return rc ? rc : read_spark(g, sql, g->result, err);
}

static int show_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    uint64_t fingerprint = 0;
    int rc = find(g, sql, &fingerprint, err);
    return rc ? rc : read_group(g, sql, fingerprint, err);
}

void groups_show(struct groups *groups, struct str which, letters_json_fn *fn, void *arg) {
    struct group_job *g = group_job_new(groups, show_run, fn, arg);
    g->which = mem_strndup(which);
    store_submit(groups->reader, &g->job);
}

// --- what people say ------------------------------------------------------------------------------------------------------------

static int check_name(const char *name, struct err *err) {
    uint64_t fingerprint;
    size_t len = strlen(name);
    bool good = len <= GROUP_NAME_MAX;
    for (size_t i = 0; i < len; i++) good &= (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
                                             (name[i] >= '0' && name[i] <= '9') || strchr("._-", name[i]);
    if (!good) return err_set(err, ERR_INVALID, "a group's name has up to %d letters, digits, dots, - and _", GROUP_NAME_MAX);
    if (fingerprint_parse(str_of(name), &fingerprint) == 0) return err_set(err, ERR_INVALID, "a name of 16 hex digits would be taken for a group's number");
    return 0;
}

static int check_free(const struct group_job *g, struct sql *sql, uint64_t fingerprint, struct err *err) {
    int64_t taken = 0;
    const struct sql_value values[] = {SQL_Z(g->name), SQL_I(fingerprint)};
    int rc = sql_exec(sql, "SELECT count(*) FROM letter_groups WHERE name = $1 AND fingerprint <> $2", values, 2, take_number, &taken, NULL, err);
    return rc || !taken ? rc : err_set(err, ERR_CONFLICT, "another group has the name %s", g->name);
}

static int describe_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    uint64_t fingerprint = 0;
    int rc = find(g, sql, &fingerprint, err);
    if (rc == 0) rc = read_group(g, sql, fingerprint, err);
    if (rc == 0 && g->name && *g->name) rc = check_free(g, sql, fingerprint, err);
    if (rc) return rc;
    const char *name = g->name ? g->name : json_string_value(json_object_get(g->result, "name"));
    const char *note = g->note ? g->note : json_string_value(json_object_get(g->result, "note"));
    bool muted = g->muted < 0 ? json_is_true(json_object_get(g->result, "muted")) : g->muted;
    const struct sql_value values[] = {SQL_I(fingerprint), SQL_Z(name), SQL_Z(note), SQL_I(muted), SQL_I(g->now_ms), SQL_Z(g->who)};
    rc = sql_exec(sql,
                  "INSERT INTO letter_groups (fingerprint, name, note, muted, changed_ms, who) VALUES ($1, $2, $3, $4, $5, $6)"
                  " ON CONFLICT (fingerprint) DO UPDATE SET name = excluded.name, note = excluded.note, muted = excluded.muted,"
                  " changed_ms = excluded.changed_ms, who = excluded.who",
                  values, array_len(values), NULL, NULL, NULL, err);
    return rc ? rc : read_group(g, sql, fingerprint, err);
}

static char *clean_text(struct str s) {
    struct buf clean;
    size_t len;
    buf_init(&clean, SIZE_MAX / 2);
    MUST(text_append_clean(&clean, s, GROUP_NOTE_MAX) == 0);
    return buf_take(&clean, &len);
}

void groups_describe(struct groups *groups, struct str which, struct str name, struct str note, int muted, struct str who, letters_json_fn *fn,
                     void *arg) {
    struct group_job *g = group_job_new(groups, describe_run, fn, arg);
    struct err err = {0};
    int rc = 0;
    g->which = mem_strndup(which);
    g->name = name.data ? mem_strndup(name) : NULL;
    g->note = note.data ? clean_text(note) : NULL;
    g->who = mem_strndup(who);
    g->muted = muted;
    if (name.data) rc = check_name(g->name, &err);
    if (rc == 0 && note.len > GROUP_NOTE_MAX) rc = err_set(&err, ERR_TOO_LARGE, "a note has at most %d bytes", GROUP_NOTE_MAX);
    if (rc) group_done(&g->job, rc, &err);
    else store_submit(groups->store, &g->job);
}

struct groups *groups_new(struct loop *loop, struct store *store, struct store *reader, const struct redact *redact) {
    struct groups *g = mem_zalloc(sizeof *g);
    *g = (struct groups){.loop = loop, .store = store, .reader = reader, .redact = redact};
    return g;
}

void groups_free(struct groups *g) {
    free(g);
}
