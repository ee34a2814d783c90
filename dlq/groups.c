// SPDX-License-Identifier: Apache-2.0
// Groups: all that is counted comes out of one index of the dead letters. Which groups have most letters takes a pass over it, when there are more
// groups than are shown; the numbers of a group take its range of it.
#include "dlq/groups.h"

#include <ctype.h>

#include "core/base/clock.h"
#include "core/base/text.h"
#include "dlq/fingerprint.h"
#include "dlq/history.h"
#include "dlq/letters_impl.h"

#define SPARK_MS (INT64_C(24) * 3600000)
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

static uint64_t fingerprint_in(const json_t *group) {
    uint64_t fingerprint = 0;
    MUST(fingerprint_parse(str_of(json_string_value(json_object_get(group, "group"))), &fingerprint) == 0);
    return fingerprint;
}

// --- how many ---------------------------------------------------------------------------------------------------------------------

static json_t *group_new(uint64_t fingerprint) {
    char text[FINGERPRINT_TEXT_BYTES];
    fingerprint_format(fingerprint, text);
    return json_pack("{ss sI ss ss sb}", "group", text, "count", (json_int_t)0, "name", "", "note", "", "muted", 0);
}

static int add_group(void *arg, const struct sql_row *row) {
    json_t *group = group_new((uint64_t)sql_row_int(row, 0));
    json_object_set_new(group, "name", text_at(row, 1));
    json_object_set_new(group, "note", text_at(row, 2));
    json_object_set_new(group, "muted", json_boolean(sql_row_int(row, 3)));
    json_array_append_new(arg, group);
    return 0;
}

// From one fingerprint to the next: so many steps, however many letters there are.
#define STEPS                                                                                                                      \
    "WITH RECURSIVE step (fingerprint) AS (SELECT min(fingerprint) FROM letters WHERE state = 'dead' UNION ALL"                    \
    " SELECT (SELECT min(l.fingerprint) FROM letters l WHERE l.state = 'dead' AND l.fingerprint > step.fingerprint) FROM step"     \
    " WHERE step.fingerprint IS NOT NULL)"                                                                                         \
    " SELECT fingerprint FROM step WHERE fingerprint IS NOT NULL LIMIT $1"
#define OF_ALL "SELECT n.fingerprint, coalesce(g.name, ''), coalesce(g.note, ''), coalesce(g.muted, 0) FROM ("
#define COUNTS "SELECT fingerprint, count(*) AS count FROM letters WHERE state = 'dead' AND died_ms >= $1 GROUP BY fingerprint"
#define THAT_MAY_BE_SHOWN ") n LEFT JOIN letter_groups g ON g.fingerprint = n.fingerprint WHERE ($2 = 1 OR coalesce(g.muted, 0) = 0)"
// The letters of a group are all of one function.
#define OF_FUNCTION                                                                                            \
    " AND $3 = (SELECT l.function FROM letters l WHERE l.state = 'dead' AND l.fingerprint = n.fingerprint" \
    " ORDER BY l.died_ms DESC LIMIT 1)"
#define MOST_FIRST " ORDER BY n.count DESC, n.fingerprint LIMIT "

static int count_row(void *arg, const struct sql_row *row) {
    (void)row;
    ++*(size_t *)arg;
    return 0;
}

// All groups when there is room for them, else those with most letters: only then their letters have to be counted to know which.
static int read_groups(const struct group_job *g, struct sql *sql, json_t *list, struct err *err) {
    size_t most = g->limit + 1, there = 0;
    const struct sql_value steps = SQL_I(most);
    int rc = sql_exec(sql, STEPS, &steps, 1, count_row, &there, NULL, err);
    if (rc) return rc;
    const struct sql_value all[] = {SQL_I(most), SQL_I(g->with_muted), SQL_Z(g->function)};
    const struct sql_value any[] = {SQL_I(g->since_ms), SQL_I(g->with_muted), SQL_I(most)};
    const struct sql_value of_function[] = {SQL_I(g->since_ms), SQL_I(g->with_muted), SQL_Z(g->function), SQL_I(most)};
    if (there < most)
        return g->function ? sql_exec(sql, OF_ALL STEPS THAT_MAY_BE_SHOWN OF_FUNCTION, all, 3, add_group, list, NULL, err)
                           : sql_exec(sql, OF_ALL STEPS THAT_MAY_BE_SHOWN, all, 2, add_group, list, NULL, err);
    return g->function ? sql_exec(sql, OF_ALL COUNTS THAT_MAY_BE_SHOWN OF_FUNCTION MOST_FIRST "$4", of_function, 4, add_group, list, NULL, err)
                       : sql_exec(sql, OF_ALL COUNTS THAT_MAY_BE_SHOWN MOST_FIRST "$3", any, 3, add_group, list, NULL, err);
}

// --- some groups at once ----------------------------------------------------------------------------------------------------------

#define AT_ONCE 32 // their histories are in memory together

struct portion {
    const struct group_job *g;
    json_t *groups;
    size_t from, end;
    struct select_sql *q;
    struct buf text;
};

typedef int portion_fn(struct portion *p, struct sql *sql, struct err *err);

static void add(struct portion *p, const char *text) {
    select_sql_add(p->q, text);
}

static void add_number(struct portion *p, int64_t n) {
    add(p, "CAST(");
    select_sql_value(p->q, SQL_I(n));
    add(p, " AS BIGINT)");
}

// Begins a statement that knows them as `shown`; row_group finds the group by its place.
static void begin(struct portion *p) {
    add(p, "WITH RECURSIVE shown (place, fingerprint) AS (VALUES ");
    for (size_t i = p->from; i < p->end; i++) {
        add(p, i == p->from ? "(" : ", (");
        add_number(p, (int64_t)i);
        add(p, ", ");
        add_number(p, (int64_t)fingerprint_in(json_array_get(p->groups, i)));
        add(p, ")");
    }
    add(p, ")");
}

static json_t *row_group(const struct portion *p, const struct sql_row *row) {
    return json_array_get(p->groups, (size_t)sql_row_int(row, 0));
}

static int run(struct portion *p, struct sql *sql, sql_row_fn *fn, void *arg, struct err *err) {
    MUST(buf_append(&p->text, (struct str){"", 1}) == 0);
    return sql_exec_once(sql, p->text.data + p->text.start, p->q->values, p->q->count, fn, arg, NULL, err);
}

static int each_portion(const struct group_job *g, struct sql *sql, json_t *groups, portion_fn *fn, struct err *err) {
    int rc = 0;
    struct select_sql *q = mem_alloc(sizeof *q);
    for (size_t from = 0, end; from < json_array_size(groups) && rc == 0; from = end) {
        end = from + AT_ONCE < json_array_size(groups) ? from + AT_ONCE : json_array_size(groups);
        struct portion p = {.g = g, .groups = groups, .from = from, .end = end, .q = q};
        buf_init(&p.text, SIZE_MAX / 2);
        *q = (struct select_sql){.text = &p.text, .postgres = sql_is_postgres(sql)};
        begin(&p);
        rc = fn(&p, sql, err);
        buf_done(&p.text);
    }
    free(q);
    return rc;
}

// --- what of ----------------------------------------------------------------------------------------------------------------------

// Has it a word outside of its masks, or only <str> and the like?
static bool says_something(struct str title) {
    bool inside = false;
    for (size_t i = 0; i < title.len; i++) {
        unsigned char c = (unsigned char)title.data[i];
        if (c == '<' || c == '>') inside = c == '<';
        else if (!inside && (isalpha(c) || c >= 0x80)) return true;
    }
    return false;
}

static json_t *title_of(struct str message) {
    struct buf title;
    buf_init(&title, 4096);
    fingerprint_mask(message, &title);
    if (message.len > FINGERPRINT_TITLE_BYTES) message.len = FINGERPRINT_TITLE_BYTES;
    json_t *text = letters_json_text(says_something(buf_str(&title)) ? buf_str(&title) : message);
    buf_done(&title);
    return text;
}

static json_t *place_of(struct str history) {
    struct buf place;
    json_auto_t *attempts = history_parse(history);
    buf_init(&place, 4096);
    fingerprint_place(history_last_stack(attempts), &place);
    json_t *text = letters_json_text(buf_str(&place));
    buf_done(&place);
    return text;
}

static int take_newest(void *arg, const struct sql_row *row) {
    const struct portion *p = arg;
    struct id id = letters_row_id(row, 1);
    json_t *group = row_group(p, row);
    json_object_set_new(group, "letter", letters_json_id(&id));
    json_object_set_new(group, "functions", json_pack("[o]", text_at(row, 2)));
    json_object_set_new(group, "errorType", text_at(row, 3));
    json_object_set_new(group, "title", fingerprint_in(group) ? title_of(sql_row_bytes(row, 4)) : json_string("not grouped yet"));
    json_object_set_new(group, "place", place_of(sql_row_bytes(row, 5)));
    json_object_set_new(group, "firstMs", json_integer(sql_row_int(row, 6)));
    json_object_set_new(group, "lastMs", json_integer(sql_row_int(row, 7)));
    redact_json(p->g->groups->redact, group);
    return 0;
}

static int read_newest(struct portion *p, struct sql *sql, struct err *err) {
    add(p, " SELECT s.place, l.id, l.function, l.error_type, l.error_message, b.history, (SELECT min(f.died_ms) FROM letters f"
           " WHERE f.state = 'dead' AND f.fingerprint = s.fingerprint AND f.died_ms >= ");
    add_number(p, p->g->since_ms);
    add(p, "), l.died_ms FROM shown s CROSS JOIN letters l LEFT JOIN letter_bodies b ON b.id = l.id WHERE l.id = (SELECT n.id FROM letters n"
           " WHERE n.state = 'dead' AND n.fingerprint = s.fingerprint ORDER BY n.died_ms DESC LIMIT 1)");
    return run(p, sql, take_newest, p, err);
}

// --- when, and of which versions --------------------------------------------------------------------------------------------------

static void set_version(json_t *group, const char *name, long long version, bool last) {
    const json_t *known = json_object_get(group, name);
    if (known && last == (json_integer_value(known) > version)) return;
    json_object_set_new(group, name, json_integer(version));
}

static int take_bucket(void *arg, const struct sql_row *row) {
    json_t *group = row_group(arg, row);
    cleanup_free char *text = mem_strndup(sql_row_bytes(row, 2));
    size_t bucket = (size_t)sql_row_int(row, 1); // 0: before the sparkline begins
    long long count, first, last;
    if (sscanf(text, "%lld %lld %lld", &count, &first, &last) != 3) return 0; // no letters
    if (bucket) json_array_set_new(json_object_get(group, "spark"), bucket - 1, json_integer(count));
    json_object_set_new(group, "count", json_integer(json_integer_value(json_object_get(group, "count")) + count));
    set_version(group, "firstVersion", first, false);
    set_version(group, "lastVersion", last, true);
    return 0;
}

// A range of the index for each bucket, so that nothing is sorted or hashed; one value for all that a range tells, so that it is read once.
static int read_buckets(struct portion *p, struct sql *sql, struct err *err) {
    const struct group_job *g = p->g;
    int64_t width = g->spark_ms / GROUP_SPARK > 0 ? g->spark_ms / GROUP_SPARK : 1;
    for (size_t i = p->from; i < p->end; i++) {
        json_t *spark = json_array();
        for (size_t n = 0; n < GROUP_SPARK; n++) json_array_append_new(spark, json_integer(0));
        json_object_set_new(json_array_get(p->groups, i), "spark", spark);
    }
    add(p, ", bucket (n, begins, ends) AS (SELECT CAST(0 AS BIGINT), CAST(0 AS BIGINT), ");
    add_number(p, g->now_ms - width * GROUP_SPARK);
    add(p, " UNION ALL SELECT n + 1, ends, CASE WHEN n < 23 THEN ends + ");
    add_number(p, width);
    add(p, " ELSE 9223372036854775807 END FROM bucket WHERE n < 24) SELECT s.place, b.n, (SELECT count(*) || ' ' || min(l.version) || ' ' ||"
           " max(l.version) FROM letters l WHERE l.state = 'dead' AND l.fingerprint = s.fingerprint AND l.died_ms < b.ends AND l.died_ms >=");
    add(p, sql_is_postgres(sql) ? " greatest(b.begins, " : " max(b.begins, ");
    add_number(p, g->since_ms);
    add(p, ")) FROM shown s CROSS JOIN bucket b");
    return run(p, sql, take_bucket, p, err);
}
_Static_assert(GROUP_SPARK == 24, "the statement counts to it");

// --- listing ----------------------------------------------------------------------------------------------------------------------

static json_int_t count_in(const json_t *group) {
    return json_integer_value(json_object_get(group, "count"));
}

static int by_count(const void *a, const void *b) {
    const json_t *const *x = a, *const *y = b;
    json_int_t m = count_in(*x), n = count_in(*y);
    int64_t f = (int64_t)fingerprint_in(*x), h = (int64_t)fingerprint_in(*y); // as the store orders them
    return m != n ? (m < n) - (m > n) : (f > h) - (f < h);
}

// Those that have letters, with most first; returns how many letters.
static json_int_t sort_shown(json_t *shown) {
    size_t count = 0, i;
    json_int_t letters = 0;
    json_t *group, **sorted = mem_array(json_array_size(shown) + 1, sizeof *sorted);
    json_array_foreach(shown, i, group) if (count_in(group)) sorted[count++] = json_incref(group);
    qsort(sorted, count, sizeof *sorted, by_count);
    json_array_clear(shown);
    for (i = 0; i < count; i++) {
        letters += count_in(sorted[i]);
        json_array_append_new(shown, sorted[i]);
    }
    free(sorted);
    return letters;
}

static int list_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct group_job *g = container_of(job, struct group_job, job);
    json_t *shown = json_array();
    json_decref(g->result);
    g->result = json_pack("{so sb}", "groups", shown, "more", 0);
    int rc = sql_is_postgres(sql) ? sql_exec(sql, "SET LOCAL jit = off", NULL, 0, NULL, NULL, NULL, err) : 0; // it takes longer than the question
    if (rc == 0) rc = read_groups(g, sql, shown, err);
    if (json_array_size(shown) > g->limit) json_object_set_new(g->result, "more", json_true());
    while (json_array_size(shown) > g->limit) json_array_remove(shown, json_array_size(shown) - 1);
    if (rc == 0) rc = each_portion(g, sql, shown, read_newest, err);
    if (rc == 0) rc = each_portion(g, sql, shown, read_buckets, err);
    json_object_set_new(g->result, "letters", json_integer(sort_shown(shown)));
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
    int rc = find(g, sql, &fingerprint, err);
    const struct sql_value id = SQL_I(fingerprint);
    json_decref(g->result);
    g->result = group_new(fingerprint);
    if (rc == 0) rc = sql_exec(sql, READ_SAID, &id, 1, take_said, g->result, NULL, err);
    if (rc) return rc;
    bool said = json_object_get(g->result, "said");
    json_object_del(g->result, "said");
    json_auto_t *one = json_pack("[O]", g->result);
    rc = each_portion(g, sql, one, read_buckets, err);
    if (rc || count_in(g->result)) return rc ? rc : each_portion(g, sql, one, read_newest, err);
    if (!said) return no_such(g, err);
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
    int rc = sql_exec(sql, "SELECT count(*) FROM letter_groups WHERE name = $1 AND fingerprint <> $2", values, 2, letters_take_int, &taken, NULL, err);
    return rc || !taken ? rc : err_set(err, ERR_CONFLICT, "another group has the name %s", g->name);
}

static int check_there(const struct group_job *g, struct sql *sql, uint64_t fingerprint, struct err *err) {
    int64_t there = 0;
    const struct sql_value id = SQL_I(fingerprint);
    int rc = sql_exec(sql,
                      "SELECT (SELECT count(*) FROM letter_groups WHERE fingerprint = $1)"
                      " + (SELECT count(*) FROM (SELECT id FROM letters WHERE state = 'dead' AND fingerprint = $1 LIMIT 1) l)",
                      &id, 1, letters_take_int, &there, NULL, err);
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
