// SPDX-License-Identifier: Apache-2.0
// The selection language without a database: what it refuses and where, its caps, and what of it stands in the SQL. What it finds is
// tests/contract/test_select.c's.
#include "core/redact.h"
#include "dlq/select.h"
#include "tests/support/support.h"

#define NOW_MS INT64_C(1769860800000) // 2026-01-31T12:00:00Z

static struct selection *parse(const char *where) {
    struct selection *s = NULL;
    struct err err = {0};
    if (selection_new(&(struct select_spec){.where = str_of(where), .now_ms = NOW_MS}, &s, &err)) fail_msg("%s: %s", where, err.text);
    return s;
}

// The whole text of the error begins with `text`.
static void refused(const struct select_spec *spec, const char *text) {
    struct selection *s = NULL;
    struct err err = {0};
    assert_int_equal(selection_new(spec, &s, &err), ERR_INVALID);
    assert_null(s);
    if (!str_starts(str_of(err.text), text)) fail_msg("%.*s: \"%s\", not \"%s…\"", STR_ARG(spec->where), err.text, text);
}

static void refused_where(const char *where, const char *text) {
    refused(&(struct select_spec){.where = str_of(where), .now_ms = NOW_MS}, text);
}

static void errors_point_at_the_column(void **state) {
    (void)state;
    static const struct {
        const char *where, *text;
    } list[] = {
        {"erorr = 'x'", "column 1: there is no field erorr; did you mean error?"},
        {"version = 1 and paylod.x = 5", "column 17: there is no field paylod; did you mean payload?"},
        {"zzzzzzz = 1", "column 1: there is no field zzzzzzz; there are id, function, version, state, "},
        {"error == ", "column 10: a value is wanted here: a text in quotes, a number, true, false, null, or a time; not the end"},
        {"error = KeyError", "column 9: texts stand in quotes: \"KeyError\""},
        {"error", "column 6: a comparison is wanted here (=, !=, "},
        {"error is 5", "column 10: null or not null is wanted behind is, not 5"},
        {"error is null", "column 1: error is always there; it may be empty: compare it with \"\""},
        {"exists(version)", "column 8: version is always there"},
        {"error = 5", "column 9: error is compared with texts: write \"5\""},
        {"error = true", "column 9: error is compared with texts: write \"true\""},
        {"error = null", "column 9: error is never null; `is null` and `exists` ask for what may be missing"},
        {"error in ('a', 5)", "column 16: error is compared with texts: write \"5\""},
        {"version = 'x'", "column 11: version is compared with numbers, such as 3"},
        {"version ~ 'x'", "column 9: version is compared with =, !=, <, <=, >, >= and in"},
        {"version in ()", "column 13: a value is wanted here"},
        {"version in (1", "column 14: a ) is wanted or a , between the values, not the end"},
        {"version 5", "column 9: a comparison is wanted here (=, !=, "},
        {"version not 5", "column 13: a comparison is wanted here (=, !=, "},
        {"version = 5x", "column 11: 5x is neither a number, nor a span such as 2h, nor a time such as 2026-01-31"},
        {"version = 01", "column 11: 01 is neither a number"},
        {"version = 1e9999", "column 11: 1e9999 is neither a number"},
        {"state = 'daed'", "column 9: state is one of due, dead, replaying, replayed, discarded; not \"daed\""},
        {"kind = 'x'", "column 8: kind is one of function, throttled, platform, "},
        {"state > 'dead'", "column 7: state is compared with =, != and in"},
        {"id = '0198'", "column 6: id is compared with an id such as"},
        {"id starts with '0198c1f2-6f2b7'", "column 16: id is compared with an id such as"},
        {"id starts with 'x'", "column 16: id is compared with an id such as"},
        {"group = ''", "column 9: group is 16 hex digits, or the name of a group"},
        {"source = ':x'", "column 10: source is KIND, KIND:NAME or kafka:TOPIC/PARTITION; not \":x\""},
        {"source = 'kafka:a/b'", "column 10: source \"kafka:a/b\": a partition is a number, as in kafka:orders/3"},
        {"died > 5", "column 8: died is compared with times"},
        {"died > 2026-02-29", "column 8: 2026-02-29 is neither a number, nor a span such as 2h, nor a time"},
        {"died > 2026-01-31T24:00", "column 8: 2026-01-31T24:00 is neither"},
        {"died > '2026-01-31 at noon'", "column 8: died is compared with times"},
        {"died > 'yesterday'", "column 8: died is compared with times: a span before now (2h, 7d ago), 2026-01-31, or 2026-01-31T10:30:00Z"},
        {"died > 99999999999w", "column 8: "},
        {"payload.at > 2026-01-31", "column 14: payload has no times: in JSON they are texts or numbers; write \"2026-01-31\""},
        {"payload.x < true", "column 13: payload compares true, false and null with = and != only"},
        {"payload. = 5", "column 9: a name is wanted behind the dot"},
        {"payload.a. b = 5", "column 11: a name is wanted behind the dot"},
        {"payload[x] = 5", "column 9: in brackets stands the place in a list, from 0, as in [0]"},
        {"payload[-1] = 5", "column 9: in brackets"},
        {"payload[9999999999] = 5", "column 19: in brackets"},
        {"payload is null", "column 1: payload is always there"},
        {"payload = 5", "column 11: payload is compared with texts: write \"5\""},
        {"headers = 'x'", "column 1: which header? headers.NAME or headers.\"a name\""},
        {"headers.a.b = 'x'", "column 10: a header has no members; a name with dots stands in quotes: headers.\"a.b\""},
        {"headers.a = 5", "column 13: headers is compared with texts: write \"5\""},
        {"error.x = 5", "column 6: error has no members; headers and payload have"},
        {"error = 'x", "column 9: the text that begins here has no end: a ' is missing"},
        {"error = 'x\\'", "column 9: the text that begins here has no end: a ' is missing"},
        {"error = 'c:\\temp\\x'", "column 17: behind a backslash stands one of \\ \" ' / b f n r t or uXXXX"},
        {"error = '\\u0000'", "column 10: behind a backslash"},
        {"error = '\\ud800'", "column 10: behind a backslash"},
        {"error = '\\udc00\\ud800'", "column 10: behind a backslash"},
        {"error = 'x' error = 'y'", "column 13: and, or, or the end is wanted here, not error"},
        {"error = 'x' and", "column 16: a field is wanted here, such as error or payload.customer, not the end"},
        {"error = 'x' and (", "column 18: a field is wanted here"},
        {"(error = 'x'", "column 13: a ) is wanted or and, or or, not the end"},
        {"error = 'x')", "column 12: and, or, or the end is wanted here, not )"},
        {"not", "column 4: a field is wanted here"},
        {"message contains 5", "column 18: message is compared with texts: write \"5\""},
        {"message starts 'x'", "column 16: with is wanted behind starts, not 'x'"},
        {"search 'x'", "column 8: a ( is wanted behind search, not 'x'"},
        {"search('')", "column 8: the text to search for is wanted here, in quotes"},
        {"search(error)", "column 8: the text to search for is wanted here, in quotes"},
        {"error = 'x'; DROP TABLE letters", "column 12: ; means nothing here"},
        {"error = $1", "column 9: $ means nothing here"},
        // characters, not bytes
        {"message = '\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80' & x", "column 17: & means nothing here"},
        {"message = '\xc3\xa4' and \xc3\xa4 = 5", "column 19: \xc3\xa4 means nothing here"},
        {"error =\n\t= 'x'", "column 10: a value is wanted here"},
    };
    for (size_t i = 0; i < array_len(list); i++) refused_where(list[i].where, list[i].text);
}

static void a_wrong_word_of_the_spec_is_named(void **state) {
    (void)state;
    refused(&(struct select_spec){.state = STR_LIT("daed")}, "state is one of due, dead, ");
    refused(&(struct select_spec){.source = STR_LIT("kafka:")}, "source is KIND, KIND:NAME or kafka:TOPIC/PARTITION");
    refused(&(struct select_spec){.function = STR_LIT("a\0b")}, "function: there is a NUL in it");
    refused(&(struct select_spec){.search = STR_LIT("\xff")}, "search: it is not UTF-8");
    refused(&(struct select_spec){.where = STR_LIT("error = '\xc3'")}, "where: it is not UTF-8");
    refused(&(struct select_spec){.where = STR_LIT("error = '\0'")}, "where: there is a NUL in it");
    refused(&(struct select_spec){.id_count = SELECT_IDS_MAX + 1}, "1001 ids are too many");
}

// --- caps ---------------------------------------------------------------------------------------------------------------------

static char *repeated(const char *first, const char *part, const char *last, size_t count) {
    struct buf b;
    buf_init(&b, 1000000);
    int rc = buf_append(&b, str_of(first));
    for (size_t i = 0; i < count; i++) rc |= buf_append(&b, str_of(part));
    MUST((rc | buf_append(&b, str_of(last))) == 0);
    return buf_take(&b, NULL);
}

static void what_is_too_large_is_refused(void **state) {
    (void)state;
    const struct {
        char *good, *bad;
        const char *text;
    } list[] = {
        {repeated("error = '", "x", "'", SELECT_TEXT_MAX - 10), repeated("error = '", "x", "'", SELECT_TEXT_MAX - 9), "where: 16385 bytes are too many"},
        {repeated("", "version = 1 or ", "version = 1", 199), repeated("", "version = 1 or ", "version = 1", 200), "column 3001: an expression has at most 200"},
        {repeated("", "(", "version = 1))))))))))))))))))))))))))))))))", 32), repeated("", "(", "version = 1", 33), "column 33: brackets and nots go 32 deep"},
        {repeated("", "not ", "version = 1", 32), repeated("", "not ", "version = 1", 33), "column 129: brackets and nots go 32 deep"},
        {repeated("version in (", "1,", "1)", 1439), repeated("version in (", "1,", "1)", 1440), "column 2893: a list has at most 1440"},
        {repeated("payload", ".a", " = 1", 32), repeated("payload", ".a", " = 1", 33), "column 72: a path has at most 32"},
        {repeated("", "payload.a.b.c.d.e = 1 or ", "version = 1", 199), repeated("", "payload.a.b.c.d.e.f = 1 or ", "version = 1", 199), "the selection is too large: 1593 values"},
        {repeated("version = ", "1", "", 400), repeated("version = ", "1", "", 401), "column 11: 1111"},
    };
    for (size_t i = 0; i < array_len(list); i++) {
        selection_free(parse(list[i].good));
        refused_where(list[i].bad, list[i].text);
        free(list[i].good);
        free(list[i].bad);
    }
}

// --- the SQL ------------------------------------------------------------------------------------------------------------------

static void expect_sql(const struct select_spec *spec, bool postgres, const char *text, size_t values) {
    struct selection *s = NULL;
    struct err err = {0};
    if (selection_new(spec, &s, &err)) fail_msg("%s", err.text);
    struct buf b;
    buf_init(&b, SELECT_SQL_MAX);
    struct select_sql *q = mem_zalloc(sizeof *q);
    q->text = &b;
    q->postgres = postgres;
    selection_sql(s, q);
    char *z = buf_take(&b, NULL);
    assert_string_equal(z, text);
    assert_int_equal(q->count, values);
    free(z);
    free(q);
    selection_free(s);
}

#define SPEC(...) (&(struct select_spec){.now_ms = NOW_MS, __VA_ARGS__})

static void a_state_is_a_literal_for_the_partial_indexes(void **state) {
    (void)state;
    for (int postgres = 0; postgres < 2; postgres++) {
        expect_sql(SPEC(.state = STR_LIT("dead")), postgres, "((letters.state = 'dead'))", 0);
        expect_sql(SPEC(.where = STR_LIT("STATE == \"dead\"")), postgres, "((letters.state = 'dead'))", 0);
        expect_sql(SPEC(.state = STR_LIT("dead"), .since_ms = 5), postgres,
            postgres ? "((letters.state = 'dead') AND letters.died_ms >= $1::bigint)" : "((letters.state = 'dead') AND letters.died_ms >= $1)", 1);
    }
}

static void what_a_user_gave_is_a_parameter(void **state) {
    (void)state;
    expect_sql(SPEC(.function = STR_LIT("'; --")), true, "((letters.function = $1))", 1);
    expect_sql(SPEC(.where = STR_LIT("payload.'x;'[3].y = 1.5")), true, "(((letters.body -> $1::text -> $2::int -> $3::text) = to_jsonb($4::numeric)))", 4);
    expect_sql(SPEC(.where = STR_LIT("payload.'x;'[3].y = 1.5")), false,
        "((CASE letters.json WHEN 1 THEN json_type(CAST(letters.payload AS TEXT), $1) IN ('integer', 'real')"
        " AND json_extract(CAST(letters.payload AS TEXT), $1) = CAST($2 AS REAL) WHEN 2 THEN (SELECT m3.type IN ('integer', 'real')"
        " AND m3.atom = CAST($2 AS REAL) FROM (SELECT 1) LEFT JOIN json_each(CAST(letters.payload AS TEXT)) AS m1 ON m1.key = $3"
        " LEFT JOIN json_each(CASE WHEN m1.type IN ('object', 'array') THEN m1.value END) AS m2 ON m2.key = $4"
        " LEFT JOIN json_each(CASE WHEN m2.type IN ('object', 'array') THEN m2.value END) AS m3 ON m3.key = $5"
        " ORDER BY m1.id DESC, m2.id DESC, m3.id DESC LIMIT 1) END))", 5);
    expect_sql(SPEC(.where = STR_LIT("payload.'\"' = 'x'")), false,
        "((CASE letters.json WHEN 0 THEN NULL ELSE (SELECT m1.type = 'text' AND m1.atom = $1 FROM (SELECT 1)"
        " LEFT JOIN json_each(CAST(letters.payload AS TEXT)) AS m1 ON m1.key = $2 ORDER BY m1.id DESC LIMIT 1) END))", 2);
    expect_sql(SPEC(.where = STR_LIT("headers.x ~ 'a'")), true, "((strpos(lower((letters.headers ->> $1::text) COLLATE \"C\"), $2) > 0))", 2);
    expect_sql(SPEC(.where = STR_LIT("error < 'a'")), true, "((letters.error_type COLLATE \"C\" < $1))", 1); // bytewise, whatever the database's order
    expect_sql(SPEC(.where = STR_LIT("payload.a < 'a'")), true,
        "((jsonb_typeof(letters.body -> $1::text) = 'string' AND ((letters.body -> $1::text) #>> '{}') COLLATE \"C\" < $2))", 2);
    expect_sql(SPEC(.where = STR_LIT("not (group = 'x' or group in ('00000000000000ff', 'y'))")), false,
        "(NOT (((letters.fingerprint IN (SELECT g.fingerprint FROM letter_groups g WHERE g.name <> '' AND g.name = $1)) OR "
        "(letters.fingerprint = $2 OR letters.fingerprint IN (SELECT g.fingerprint FROM letter_groups g WHERE g.name <> '' AND g.name = $3)))))", 3);
}

static void without_a_wish_all_letters_are_selected(void **state) {
    (void)state;
    struct selection *s = parse("  \n");
    assert_true(selection_is_all(s));
    assert_string_equal(selection_text(s), "all letters");
    selection_free(s);
    expect_sql(SPEC(), true, "true", 0);
    s = parse("size > 0");
    assert_false(selection_is_all(s));
    selection_free(s);
}

// --- for people ---------------------------------------------------------------------------------------------------------------

static void the_text_is_what_was_asked_for_in_one_line(void **state) {
    (void)state;
    struct id ids[5];
    memset(ids, 0x11, sizeof ids);
    static const char id[] = "11111111-1111-1111-1111-111111111111";
    cleanup_free char *three = mem_printf("id=%s id=%s id=%s and 2 more", id, id, id);
    const struct {
        struct select_spec spec;
        const char *text;
    } list[] = {
        {{.function = STR_LIT("orders"), .error_type = STR_LIT("KeyError"), .where = STR_LIT("\n payload.customer =\t\"acme\"\n")},
            "function=orders error=KeyError where payload.customer = \"acme\""},
        {{.state = STR_LIT("dead"), .group = STR_LIT("no currency"), .source = STR_LIT("kafka:orders/3"), .search = STR_LIT("a \"b\"\n")},
            "state=dead group=\"no currency\" source=kafka:orders/3 search=\"a \\\"b\\\"\\n\""},
        {{.since_ms = NOW_MS, .until_ms = NOW_MS + 1}, "since=2026-01-31T12:00:00.000Z until=2026-01-31T12:00:00.001Z"},
        {{.ids = ids, .id_count = 5}, three},
    };
    for (size_t i = 0; i < array_len(list); i++) {
        struct selection *s;
        struct err err = {0};
        if (selection_new(&list[i].spec, &s, &err)) fail_msg("%s", err.text);
        assert_string_equal(selection_text(s), list[i].text);
        selection_free(s);
    }
}

static void a_selection_keeps_copies(void **state) {
    (void)state;
    char where[] = "payload.customer = 'acme'";
    struct id id = {{1, 2, 3}};
    struct selection *s;
    struct err err = {0};
    assert_int_equal(selection_new(SPEC(.where = str_of(where), .ids = &id, .id_count = 1), &s, &err), 0);
    memset(where, '#', sizeof where - 1);
    memset(&id, 0, sizeof id);
    struct buf b;
    buf_init(&b, SELECT_SQL_MAX);
    struct select_sql *q = mem_zalloc(sizeof *q);
    q->text = &b;
    q->postgres = true;
    selection_sql(s, q);
    size_t count;
    assert_int_equal(selection_ids(s, &count)[0].bytes[2], 3);
    assert_int_equal(count, 1);
    assert_int_equal(q->values[0].bytes.data[2], 3);
    assert_true(str_is(q->values[1].bytes, "customer"));
    assert_true(str_is(q->values[2].bytes, "acme"));
    buf_done(&b);
    free(q);
    selection_free(s);
}

static struct redact *secrets(void) {
    struct redact *r;
    struct err err = {0};
    if (redact_new("password,card.number,x-token", &r, &err)) fail_msg("%s", err.text);
    return r;
}

static void what_is_compared_with_a_secret_is_not_shown(void **state) {
    (void)state;
    static const struct {
        const char *where, *shown;
    } list[] = {
        {"payload.password = 'hunter2' and payload.n=5", "payload.password = \"***\" and payload.n=5"},
        {"payload.password=\"hunter2\"", "payload.password=\"***\""},
        {"payload.password != 'hunter2'", "payload.password != \"***\""},
        {"payload.password <> 'hunter2'", "payload.password <> \"***\""},
        {"payload.password < 'hunter2'", "payload.password < \"***\""},
        {"payload.password >= 'hunter2'", "payload.password >= \"***\""},
        {"payload.password ~ 'hunter2'", "payload.password ~ \"***\""},
        {"payload.password !~ 'Hunter2'", "payload.password !~ \"***\""},
        {"payload.password in ('hunter2', 'b')", "payload.password in (\"***\", \"***\")"},
        {"payload.password not in (22)", "payload.password not in (\"***\")"},
        {"payload.password contains 'hunter2'", "payload.password contains \"***\""},
        {"payload.password starts with 'hunter2'", "payload.password starts with \"***\""},
        {"payload.password = 22 or payload.password = true", "payload.password = \"***\" or payload.password = \"***\""},
        {"payload.users[3].'PassWord' = 'hunter2'", "payload.users[3].'PassWord' = \"***\""},
        {"payload.password.old[0] = 'hunter2'", "payload.password.old[0] = \"***\""},
        {"payload.card[1].number = 'hunter2'", "payload.card[1].number = \"***\""},
        {"payload.'\\u0070assword' = 'hunter2'", "payload.'\\u0070assword' = \"***\""},
        {"not (headers.X-Token = 'hunter2')", "not (headers.X-Token = \"***\")"},
        {"payload contains '{\"password\":\"hunter2\"}'", "payload contains \"{\\\"password\\\":\\\"***\\\"}\""},
        {"message ~ 'password=hunter2'", "message ~ \"password=***\""},
        {"search('password=hunter2')", "search(\"password=***\")"},
        // These are no secrets, and stay as they are written.
        {"payload.card = 'a' and payload.number = 5 and exists(payload.password)", "payload.card = 'a' and payload.number = 5 and exists(payload.password)"},
        {"search('hunter2') and died > 2h ago", "search('hunter2') and died > 2h ago"},
    };
    struct redact *r = secrets();
    for (size_t i = 0; i < array_len(list); i++) {
        struct selection *s;
        struct err err = {0};
        if (selection_new(SPEC(.where = str_of(list[i].where), .redact = r), &s, &err)) fail_msg("%s: %s", list[i].where, err.text);
        cleanup_free char *where = mem_strndup(selection_where(s)), *text = mem_printf("where %s", where);
        assert_string_equal(where, list[i].shown);
        assert_string_equal(selection_text(s), text);
        selection_free(s);
        s = parse(list[i].where); // without secrets all is as it is written
        assert_true(str_is(selection_where(s), list[i].where));
        selection_free(s);
    }
    redact_free(r);
}

static void what_is_masked_still_selects(void **state) {
    (void)state;
    struct redact *r = secrets();
    expect_sql(SPEC(.where = STR_LIT("payload.password = 'hunter2'"), .redact = r), true, "(((letters.body -> $1::text) = to_jsonb($2::text)))", 2);
    redact_free(r);
}

// Whatever is wrong, and wherever the secret stands.
static void errors_quote_nothing_where_there_are_secrets(void **state) {
    (void)state;
    static const char *const list[] = {
        "payload.password = hunter2", "payload.password = 22hunter2", "payload.password = 'a' 'hunter2'", "payload.password = 'a' hunter2",
        "payload.password hunter2", "payload.password 'hunter2'", "payload.password is hunter2", "payload.password is 'hunter2'",
        "payload.password starts 'hunter2'", "payload.password starts hunter2", "payload.password in 'hunter2'", "payload.password in ('a' hunter2)",
        "payload.password in (hunter2)", "payload.password not hunter2", "hunter2 = payload.password", "'hunter2' = payload.password",
        "search(hunter2)", "search('a' 'hunter2'", "exists(hunter2)", "exists('hunter2')", "exists hunter2", "payload.password = 'hunter2",
        "payload.password = 'a\\hunter2'", "headers.hunter2.x = 'a'", "payload[hunter2] = 1", "id = 'hunter2'", "id starts with 'hunter2'",
        "state = 'hunter2'", "kind = 'hunter2'", "source = 'kafka:hunter2/x'", "source = ':hunter2'", "error = 2hunter2", "died = 'hunter2'",
        "version = 'hunter2'", "payload.password = 2022-01-31", "error = 2022", "$hunter2",
    };
    struct redact *r = secrets();
    for (size_t i = 0; i < array_len(list); i++) {
        struct selection *s = NULL;
        struct err err = {0};
        assert_int_equal(selection_new(SPEC(.where = str_of(list[i]), .redact = r), &s, &err), ERR_INVALID);
        if (strstr(err.text, "hunter") || strstr(err.text, "2022") || !str_starts(str_of(err.text), "column ")) fail_msg("%s: %s", list[i], err.text);
    }
    const struct {
        const char *where, *text;
    } shown[] = {
        {"erorr = 'x'", "column 1: there is no field of this name; did you mean error?"},
        {"error = KeyError", "column 9: texts stand in quotes: \"acme\""},
        {"error = (", "column 9: a value is wanted here: a text in quotes, a number, true, false, null, or a time; not ("},
        {"error = 'a' b", "column 13: and, or, or the end is wanted here, not this word"},
        {"error = 'a' 'b'", "column 13: and, or, or the end is wanted here, not this"},
        {"state = 'daed'", "column 9: state is one of due, dead, replaying, replayed, discarded; not \"…\""},
    };
    for (size_t i = 0; i < array_len(shown); i++) refused(SPEC(.where = str_of(shown[i].where), .redact = r), shown[i].text);
    redact_free(r);
}

// A mask trebles a text, and JSON makes six bytes of a control character.
static void the_longest_texts_can_be_shown(void **state) {
    (void)state;
    struct redact *r;
    struct err err = {0};
    if (redact_new("a", &r, &err)) fail_msg("%s", err.text);
    enum { LEN = SELECT_TEXT_MAX };
    char *word = mem_alloc(LEN + 1);
    memset(word, 1, LEN);
    word[LEN] = '\0';
    char *masked = mem_strdup(word), *where = mem_strdup(word);
    for (size_t i = 0; i + 4 <= LEN; i += 4) memcpy(masked + i, "a=1\1", 4);
    memcpy(where, "error = '", 9);
    for (size_t i = 9; i + 4 < LEN; i += 4) memcpy(where + i, "a=1\1", 4);
    where[LEN - 1] = '\'';
    struct selection *s;
    struct str text = str_of(word);
    if (selection_new(SPEC(.where = str_of(where), .search = str_of(masked), .function = text, .error_type = text, .group = text, .source = text, .redact = r), &s, &err))
        fail_msg("%s", err.text);
    assert_true(strlen(selection_text(s)) > LEN * 20);
    selection_free(s);
    free(word);
    free(masked);
    free(where);
    redact_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_point_at_the_column),
        cmocka_unit_test(a_wrong_word_of_the_spec_is_named),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(a_state_is_a_literal_for_the_partial_indexes),
        cmocka_unit_test(what_a_user_gave_is_a_parameter),
        cmocka_unit_test(without_a_wish_all_letters_are_selected),
        cmocka_unit_test(the_text_is_what_was_asked_for_in_one_line),
        cmocka_unit_test(a_selection_keeps_copies),
        cmocka_unit_test(what_is_compared_with_a_secret_is_not_shown),
        cmocka_unit_test(what_is_masked_still_selects),
        cmocka_unit_test(the_longest_texts_can_be_shown),
        cmocka_unit_test(errors_quote_nothing_where_there_are_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
