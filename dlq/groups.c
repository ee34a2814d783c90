// SPDX-License-Identifier: Apache-2.0
// Groups: how many letters each has comes out of one pass over one index of the dead letters; what else is shown, of those that are shown.
#include "dlq/groups.h"

#include "core/base/clock.h"
#include "core/base/text.h"
#include "dlq/fingerprint.h"
#include "dlq/letters_impl.h"

#define SPARK_MS (INT64_C(24) * 3600000)
#define LOOKED_AT_MAX 10000 // letters from before groups, whose functions are told
#define FUNCTIONS_MAX 100   // of them
#define BEFORE_GROUPS 0     // the fingerprint of those letters
#define WHICH_MAX 200       // longer than any name, so that none is cut to another
#define WHO_MAX 100

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
    uint64_t fingerprint; // of what was described
    letters_json_fn *fn;
    void *arg;
    json_t *result;
};

static void group_job_free(struct group_job *g) {
    json_decref(g->result);
    free(g->function);
    free(g->which);
    free(g->name);
    free(g->note);
    free(g->who);
    free(g);
}

static void group_done(struct store_job *job, int code, const struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    g->fn(g->arg, code, err, code ? NULL : json_incref(g->result));
    group_job_free(g);
}

static struct group_job *group_job_new(struct groups *groups, int (*run)(struct store_job *, struct sql *, struct err *),
                                       letters_json_fn *fn, void *arg) {
    struct group_job *g = mem_zalloc(sizeof *g);
    *g = (struct group_job){.job = {.run = run, .done = group_done}, .groups = groups, .now_ms = clock_unix_ms(), .fn = fn, .arg = arg};
    g->spark_ms = SPARK_MS;
    return g;
}

static char *clean(struct str s, size_t max_bytes) {
    struct buf out;
    buf_init(&out, max_bytes);
    MUST(text_append_clean(&out, s, max_bytes) == 0);
    return buf_take(&out, NULL);
}

static json_t *text_at(const struct sql_row *row, int column) {
    return letters_json_text(sql_row_bytes(row, column));
}

static int take_number(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static uint64_t fingerprint_in(const json_t *group) {
    uint64_t fingerprint = 0;
    MUST(fingerprint_parse(str_of(json_string_value(json_object_get(group, "group"))), &fingerprint) == 0);
    return fingerprint;
}

// --- how many ---------------------------------------------------------------------------------------------------------------------

static json_t *group_new(uint64_t fingerprint, int64_t count) {
    char text[FINGERPRINT_TEXT_BYTES];
    fingerprint_format(fingerprint, text);
    return json_pack("{ss sI ss ss sb}", "group", text, "count", (json_int_t)count, "name", "", "note", "", "muted", 0);
}

static int add_group(void *arg, const struct sql_row *row) {
    json_t *group = group_new((uint64_t)sql_row_int(row, 0), sql_row_int(row, 1));
    json_object_set_new(group, "name", text_at(row, 2));
    json_object_set_new(group, "note", text_at(row, 3));
    json_object_set_new(group, "muted", json_boolean(sql_row_int(row, 4)));
    json_array_append_new(arg, group);
    return 0;
}

#define COUNTS                                                                                                            \
    "SELECT n.fingerprint, n.count, coalesce(g.name, ''), coalesce(g.note, ''), coalesce(g.muted, 0) FROM"               \
    " (SELECT fingerprint, count(*) AS count FROM letters WHERE state = 'dead' AND died_ms >= $1 GROUP BY fingerprint) n" \
    " LEFT JOIN letter_groups g ON g.fingerprint = n.fingerprint WHERE ($2 = 1 OR coalesce(g.muted, 0) = 0)"
#define MOST_FIRST " ORDER BY n.count DESC, n.fingerprint LIMIT "

// The letters of a group are all of one function; those from before groups are not, and are looked at later.
static int read_counts(const struct group_job *g, struct sql *sql, json_t *list, struct err *err) {
    size_t most = g->limit + 1;
    const struct sql_value any[] = {SQL_I(g->since_ms), SQL_I(g->with_muted), SQL_I(most)};
    const struct sql_value of_function[] = {SQL_I(g->since_ms), SQL_I(g->with_muted), SQL_Z(g->function), SQL_I(most + 1)};
    return g->function ? sql_exec(sql,
                                  COUNTS " AND (n.fingerprint = 0 OR $3 = (SELECT l.function FROM letters l WHERE l.state = 'dead'"
                                         " AND l.fingerprint = n.fingerprint ORDER BY l.died_ms DESC LIMIT 1))" MOST_FIRST "$4",
                                  of_function, array_len(of_function), add_group, list, NULL, err)
                       : sql_exec(sql, COUNTS MOST_FIRST "$3", any, array_len(any), add_group, list, NULL, err);
}

// --- what of ----------------------------------------------------------------------------------------------------------------------

struct newest {
    const struct redact *redact;
    json_t *group;
};

static json_t *title_of(struct str message) {
    struct buf title;
    buf_init(&title, 4096);
    fingerprint_mask(message, &title);
    json_t *text = letters_json_text(buf_str(&title));
    buf_done(&title);
    return text;
}

static json_t *place_of(struct str history) {
    struct buf place;
    json_auto_t *attempts = json_loadb(history.data ? history.data : "", history.len, 0, NULL);
    const json_t *last = json_array_get(attempts, json_array_size(attempts) ? json_array_size(attempts) - 1 : 0);
    const json_t *stack = json_object_get(last, "stack");
    buf_init(&place, 4096);
    if (json_is_string(stack)) fingerprint_place((struct str){json_string_value(stack), json_string_length(stack)}, &place);
    json_t *text = letters_json_text(buf_str(&place));
    buf_done(&place);
    return text;
}

static int take_newest(void *arg, const struct sql_row *row) {
    const struct newest *n = arg;
    struct id id = letters_row_id(row, 0);
    json_object_set_new(n->group, "letter", letters_json_id(&id));
    json_object_set_new(n->group, "functions", json_pack("[o]", text_at(row, 1)));
    json_object_set_new(n->group, "errorType", text_at(row, 2));
    json_object_set_new(n->group, "title", title_of(sql_row_bytes(row, 3)));
    json_object_set_new(n->group, "place", place_of(sql_row_bytes(row, 4)));
    json_object_set_new(n->group, "firstMs", json_integer(sql_row_int(row, 5)));
    json_object_set_new(n->group, "lastMs", json_integer(sql_row_int(row, 6)));
    redact_json(n->redact, n->group);
    return 0;
}

static int add_function(void *arg, const struct sql_row *row) {
    json_array_append_new(arg, text_at(row, 0));
    return 0;
}

// They died of many things: what the newest one died of says nothing of the others.
static int read_before_groups(struct sql *sql, json_t *group, struct err *err) {
    const struct sql_value values[] = {SQL_I(LOOKED_AT_MAX), SQL_I(FUNCTIONS_MAX)};
    json_t *functions = json_array();
    json_object_set_new(group, "functions", functions);
    json_object_set_new(group, "errorType", json_string(""));
    json_object_set_new(group, "title", json_string("from before groups"));
    json_object_set_new(group, "place", json_string(""));
    return sql_exec(sql,
                    "SELECT DISTINCT l.function FROM (SELECT function FROM letters WHERE state = 'dead' AND fingerprint = 0"
                    " ORDER BY died_ms DESC LIMIT $1) l ORDER BY l.function LIMIT $2",
                    values, array_len(values), add_function, functions, NULL, err);
}

static int read_newest(const struct group_job *g, struct sql *sql, json_t *group, struct err *err) {
    struct newest newest = {.redact = g->groups->redact, .group = group};
    uint64_t fingerprint = fingerprint_in(group);
    const struct sql_value values[] = {SQL_I(g->since_ms), SQL_I(fingerprint)};
    int rc = sql_exec(sql,
                      "SELECT l.id, l.function, l.error_type, l.error_message, (SELECT b.history FROM letter_bodies b WHERE b.id = l.id),"
                      " (SELECT min(f.died_ms) FROM letters f WHERE f.state = 'dead' AND f.died_ms >= $1 AND f.fingerprint = $2), l.died_ms"
                      " FROM letters l WHERE l.state = 'dead' AND l.fingerprint = $2 ORDER BY l.died_ms DESC LIMIT 1",
                      values, array_len(values), take_newest, &newest, NULL, err);
    return rc || fingerprint != BEFORE_GROUPS ? rc : read_before_groups(sql, group, err);
}

// --- when, and of which versions --------------------------------------------------------------------------------------------------

struct buckets {
    int64_t counts[GROUP_SPARK + 1]; // the first one: before the sparkline begins
    long long first_version, last_version;
};

static int take_bucket(void *arg, const struct sql_row *row) {
    struct buckets *b = arg;
    cleanup_free char *text = mem_strndup(sql_row_bytes(row, 1));
    long long count, first, last;
    if (sscanf(text, "%lld %lld %lld", &count, &first, &last) != 3) return 0; // no letters
    b->counts[sql_row_int(row, 0)] = count;
    if (first < b->first_version) b->first_version = first;
    if (last > b->last_version) b->last_version = last;
    return 0;
}

// A range of the index for each bucket, so that nothing is sorted or hashed; one value for all that a range tells, so that it is read once.
static int read_buckets(const struct group_job *g, struct sql *sql, json_t *group, struct err *err) {
    struct buckets b = {.first_version = INT64_MAX};
    int64_t width = g->spark_ms / GROUP_SPARK > 0 ? g->spark_ms / GROUP_SPARK : 1;
    const struct sql_value values[] = {SQL_I(g->now_ms - width * GROUP_SPARK), SQL_I(width), SQL_I(fingerprint_in(group)), SQL_I(g->since_ms)};
    json_t *spark = json_array();
    int rc = sql_exec(sql,
                      "WITH RECURSIVE bucket (n, begins, ends) AS (SELECT CAST(0 AS BIGINT), CAST(0 AS BIGINT), CAST($1 AS BIGINT) UNION ALL"
                      " SELECT n + 1, ends, CASE WHEN n < 23 THEN ends + $2 ELSE 9223372036854775807 END FROM bucket WHERE n < 24)"
                      " SELECT n, (SELECT count(*) || ' ' || min(version) || ' ' || max(version) FROM letters WHERE state = 'dead'"
                      " AND fingerprint = $3 AND died_ms >= CASE WHEN begins < $4 THEN $4 ELSE begins END AND died_ms < ends) FROM bucket",
                      values, array_len(values), take_bucket, &b, NULL, err);
    for (size_t i = 1; i <= GROUP_SPARK; i++) json_array_append_new(spark, json_integer(b.counts[i]));
    json_object_set_new(group, "spark", spark);
    json_object_set_new(group, "firstVersion", json_integer(b.first_version));
    json_object_set_new(group, "lastVersion", json_integer(b.last_version));
    return rc;
}
_Static_assert(GROUP_SPARK == 24, "the statement counts to it");

// --- listing ----------------------------------------------------------------------------------------------------------------------

static bool is_of(const json_t *group, const char *function) {
    size_t i;
    const json_t *name;
    json_array_foreach(json_object_get(group, "functions"), i, name) if (strcmp(json_string_value(name), function) == 0) return true;
    return false;
}

static int list_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    json_auto_t *all = json_array();
    json_t *shown = json_array(), *group;
    json_int_t letters = 0;
    size_t i;
    json_decref(g->result);
    g->result = json_pack("{so sb}", "groups", shown, "more", 0);
    int rc = read_counts(g, sql, all, err);
    json_array_foreach(all, i, group) {
        if (rc == 0) rc = read_newest(g, sql, group, err);
        if (rc) return rc;
        if (g->function && !is_of(group, g->function)) continue;
        if (json_array_size(shown) == g->limit) {
            json_object_set_new(g->result, "more", json_true());
            break;
        }
        rc = read_buckets(g, sql, group, err);
        letters += json_integer_value(json_object_get(group, "count"));
        json_array_append(shown, group);
    }
    json_object_set_new(g->result, "letters", json_integer(letters));
    return rc;
}

void groups_list(struct groups *groups, const struct groups_page *page, letters_json_fn *fn, void *arg) {
    struct group_job *g = group_job_new(groups, list_run, fn, arg);
    g->function = page->function.len ? clean(page->function, WHICH_MAX) : NULL;
    g->since_ms = page->since_ms;
    g->with_muted = page->muted;
    g->limit = page->limit < GROUPS_MAX ? page->limit : GROUPS_MAX;
    if (page->spark_ms) g->spark_ms = page->spark_ms;
    store_submit(groups->reader, &g->job);
}

// --- one group --------------------------------------------------------------------------------------------------------------------

static int no_such(const struct group_job *g, struct err *err) {
    return err_set(err, ERR_NOT_FOUND, "there is no group '%.100s': give 16 hex digits or a name, as `weir dlq groups` shows them", g->which);
}

struct found {
    bool is;
    uint64_t fingerprint;
};

static int take_found(void *arg, const struct sql_row *row) {
    *(struct found *)arg = (struct found){true, (uint64_t)sql_row_int(row, 0)};
    return 0;
}

static int find(const struct group_job *g, struct sql *sql, uint64_t *ret, struct err *err) {
    struct found found = {.is = false};
    if (fingerprint_parse(str_of(g->which), ret) == 0) return 0;
    const struct sql_value name = SQL_Z(g->which);
    int rc = !*g->which ? 0
                        : sql_exec(sql, "SELECT fingerprint FROM letter_groups WHERE name <> '' AND name = $1", &name, 1, take_found, &found,
                                   NULL, err);
    if (rc == 0 && !found.is) rc = no_such(g, err);
    if (rc == 0) *ret = found.fingerprint;
    return rc;
}

static int take_said(void *arg, const struct sql_row *row) {
    json_t *group = arg;
    json_object_set_new(group, "name", text_at(row, 0));
    json_object_set_new(group, "note", text_at(row, 1));
    json_object_set_new(group, "muted", json_boolean(sql_row_int(row, 2)));
    json_object_set_new(group, "said", json_true());
    return 0;
}

#define READ_SAID "SELECT name, note, muted FROM letter_groups WHERE fingerprint = $1"

// A group of which nobody said anything and that has no letters is none.
static int show_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    uint64_t fingerprint = 0;
    int64_t count = 0;
    int rc = find(g, sql, &fingerprint, err);
    const struct sql_value id = SQL_I(fingerprint);
    if (rc == 0)
        rc = sql_exec(sql, "SELECT count(*) FROM letters WHERE state = 'dead' AND fingerprint = $1", &id, 1, take_number, &count, NULL, err);
    json_decref(g->result);
    g->result = group_new(fingerprint, count);
    if (rc == 0) rc = sql_exec(sql, READ_SAID, &id, 1, take_said, g->result, NULL, err);
    if (rc) return rc;
    bool said = json_object_get(g->result, "said");
    json_object_del(g->result, "said");
    if (count == 0 && !said) return no_such(g, err);
    rc = read_buckets(g, sql, g->result, err);
    if (rc || count) return rc ? rc : read_newest(g, sql, g->result, err);
    json_auto_t *nothing = json_pack("{sn sn sn sn sn s[] ss ss ss}", "firstMs", "lastMs", "firstVersion", "lastVersion", "letter", "functions",
                                     "errorType", "", "title", "", "place", "");
    return json_object_update(g->result, nothing);
}

void groups_show(struct groups *groups, struct str which, letters_json_fn *fn, void *arg) {
    struct group_job *g = group_job_new(groups, show_run, fn, arg);
    g->which = clean(which, WHICH_MAX);
    store_submit(groups->reader, &g->job);
}

// --- what people say --------------------------------------------------------------------------------------------------------------

static int check_name(struct str name, struct err *err) {
    uint64_t fingerprint;
    bool good = name.len <= GROUP_NAME_MAX;
    for (size_t i = 0; i < name.len && good; i++) {
        char c = name.data[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    }
    if (!good) return err_set(err, ERR_INVALID, "a group's name has up to %d letters, digits, dots, - and _", GROUP_NAME_MAX);
    if (fingerprint_parse(name, &fingerprint) == 0)
        return err_set(err, ERR_INVALID, "a name of 16 hex digits would be taken for a group's number");
    return 0;
}

static int check_free(const struct group_job *g, struct sql *sql, uint64_t fingerprint, struct err *err) {
    int64_t taken = 0;
    const struct sql_value values[] = {SQL_Z(g->name), SQL_I(fingerprint)};
    int rc = sql_exec(sql, "SELECT count(*) FROM letter_groups WHERE name = $1 AND fingerprint <> $2", values, 2, take_number, &taken, NULL, err);
    return rc || !taken ? rc : err_set(err, ERR_CONFLICT, "another group has the name %s", g->name);
}

static int check_there(const struct group_job *g, struct sql *sql, uint64_t fingerprint, struct err *err) {
    int64_t there = 0;
    const struct sql_value id = SQL_I(fingerprint);
    int rc = sql_exec(sql,
                      "SELECT (SELECT count(*) FROM letter_groups WHERE fingerprint = $1)"
                      " + (SELECT count(*) FROM (SELECT id FROM letters WHERE state = 'dead' AND fingerprint = $1 LIMIT 1) l)",
                      &id, 1, take_number, &there, NULL, err);
    return rc || there ? rc : no_such(g, err);
}

static int describe_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    int rc = find(g, sql, &g->fingerprint, err);
    if (rc == 0) rc = check_there(g, sql, g->fingerprint, err);
    if (rc == 0 && g->name && *g->name) rc = check_free(g, sql, g->fingerprint, err);
    if (rc) return rc;
    const struct sql_value values[] = {SQL_I(g->fingerprint),
                                       SQL_Z(g->name),
                                       SQL_Z(g->note),
                                       SQL_I(g->muted < 0 ? 0 : g->muted),
                                       SQL_I(g->now_ms),
                                       SQL_Z(g->who),
                                       SQL_I(!g->name),
                                       SQL_I(!g->note),
                                       SQL_I(g->muted < 0)};
    return sql_exec(sql,
                    "INSERT INTO letter_groups (fingerprint, name, note, muted, changed_ms, who) VALUES ($1, $2, $3, $4, $5, $6)"
                    " ON CONFLICT (fingerprint) DO UPDATE SET name = CASE WHEN $7 = 1 THEN letter_groups.name ELSE excluded.name END,"
                    " note = CASE WHEN $8 = 1 THEN letter_groups.note ELSE excluded.note END,"
                    " muted = CASE WHEN $9 = 1 THEN letter_groups.muted ELSE excluded.muted END,"
                    " changed_ms = excluded.changed_ms, who = excluded.who",
                    values, array_len(values), NULL, NULL, NULL, err);
}

static void describe_done(struct store_job *job, int code, const struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    char text[FINGERPRINT_TEXT_BYTES];
    fingerprint_format(g->fingerprint, text);
    if (code) g->fn(g->arg, code, err, NULL);
    else groups_show(g->groups, str_of(text), g->fn, g->arg);
    group_job_free(g);
}

void groups_describe(struct groups *groups, struct str which, struct str name, struct str note, int muted, struct str who, letters_json_fn *fn,
                     void *arg) {
    struct err err = {0};
    int rc = name.data ? check_name(name, &err) : 0;
    if (rc == 0 && note.len > GROUP_NOTE_MAX) rc = err_set(&err, ERR_TOO_LARGE, "a note has at most %d bytes", GROUP_NOTE_MAX);
    if (rc) {
        fn(arg, rc, &err, NULL);
        return;
    }
    struct group_job *g = group_job_new(groups, describe_run, fn, arg);
    g->job.done = describe_done;
    g->which = clean(which, WHICH_MAX);
    g->name = name.data ? mem_strndup(name) : NULL;
    g->note = note.data ? clean(note, GROUP_NOTE_MAX) : NULL;
    g->who = clean(who, WHO_MAX);
    g->muted = muted;
    store_submit(groups->store, &g->job);
}

struct groups *groups_new(struct loop *loop, struct store *store, struct store *reader, const struct redact *redact) {
    struct groups *g = mem_zalloc(sizeof *g);
    *g = (struct groups){.loop = loop, .store = store, .reader = reader, .redact = redact};
    return g;
}

void groups_free(struct groups *g) {
    free(g);
}
