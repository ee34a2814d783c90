// SPDX-License-Identifier: Apache-2.0
// Letters that come from elsewhere, over both stores: out of an export, byte for byte, and out of a database of an older program.
#include <stdlib.h>

#include "core/base/buf.h"
#include "core/migrate.h"
#include "dlq/edit.h"
#include "tests/support/letters_fixture.h"

// --- payloads that are hard to carry ------------------------------------------------------------------------------------

#define BIG EV_PAYLOAD_MAX
#define LEVELS 100

#define LIT(s) {s, sizeof(s) - 1}
static struct str awful[] = {
    LIT(""),
    LIT("\0\xff\x80"),
    LIT("a\0b"),
    LIT("{\"a\":\"\\u0000\",\"b\":1}"),
    LIT("{\"a\":\"\xff\"}"),
    LIT("{\"a\":\"\\ud800\"}"),
    LIT("{\"n\":123456789012345678901234567890.12345678901234567890e400,\"m\":-0.0, \"k\":1E+2}"),
    LIT("{\"a\":1,\"a\":2}"),
    LIT("\xef\xbb\xbf{\"a\":1}"),
    LIT("\xef\xbf\xbf \xf4\x8f\xbf\xbf"),
    LIT(" \r\n[1 , 2]\t"),
    LIT("'; DROP TABLE letters; --"),
    {NULL, 2 * LEVELS},  // [[[…]]]
    {NULL, BIG},         // every byte there is
    {NULL, BIG - 1},     // a long text of JSON
};
#define AWFUL array_len(awful)

static char *make_payload(size_t at) {
    size_t len = awful[at].len;
    char *text = mem_alloc(len);
    for (size_t i = 0; i < len; i++) text[i] = (char)i;
    if (len == 2 * LEVELS)
        for (size_t i = 0; i < len; i++) text[i] = i < LEVELS ? '[' : ']';
    if (len == BIG - 1) {
        memset(text, 'x', len);
        text[0] = text[len - 1] = '"';
    }
    return text;
}

static void make_payloads(void) {
    for (size_t i = 0; i < AWFUL; i++)
        if (!awful[i].data) awful[i].data = make_payload(i);
}

static void free_payloads(void) {
    for (size_t i = 0; i < 3; i++) {
        union { // the last three are ours
            const char *from;
            char *to;
        } p = {.from = awful[AWFUL - 1 - i].data};
        free(p.to);
        awful[AWFUL - 1 - i].data = NULL;
    }
}

static struct id put_awful(struct letters_fixture *lf, size_t at) {
    const struct ev_header headers[] = {{{"X-Number", 8}, {"1", 1}}, {{"x-number", 8}, {"", 0}}, {{"\xc3(", 2}, {"a\0\xff", 3}}, {{"", 0}, {"{\"base64\":1}", 12}}};
    return put_letter(lf, &(struct ev_fields){.function = STR_LIT("orders"), .payload = awful[at], .attempt = 4, .accepted_ms = 1767225600123,
                                              .origin_id = id_new(), .source_kind = STR_LIT("kafka"), .source_name = STR_LIT("t"),
                                              .source_at = STR_LIT("{\"topic\":\"t\",\"partition\":3,\"offset\":7}"),
                                              .ordering_key = {"k\0\x80", 3}, .content_type = STR_LIT("text/x"), .shape = STR_LIT("scf"),
                                              .trace = STR_LIT("00-ab-cd-01"), .headers = headers, .header_count = array_len(headers)}, LETTER_DEAD);
}

static void assert_payload(struct letters_fixture *lf, const struct id *id, struct str payload) {
    struct answer a = {0};
    letters_sample(lf->letters, these(id, 1), 1, answer_claim, &a);
    await(lf, &a);
    assert_int_equal(a.count, 1);
    assert_int_equal(a.letters[0].ev->f.payload.len, payload.len);
    assert_true(str_eq(a.letters[0].ev->f.payload, payload));
    answer_free(&a);
}

// --- export and import ----------------------------------------------------------------------------------------------------

// As it goes over the wire and through a file.
static json_t *through_text(const json_t *o) {
    char *text = json_dumps(o, 0);
    assert_non_null(text);
    json_t *back = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(back);
    free(text);
    return back;
}

static json_t *exported(struct letters_fixture *lf, const struct id *id) {
    json_t *page = list_letters(lf, these(id, 1), &(struct letter_page){.limit = 1, .full = true});
    json_t *o = through_text(json_array_get(array_in(page, "letters", 1), 0));
    json_decref(page);
    return o;
}

static void delete_all(struct letters_fixture *lf) {
    struct answer a = {0};
    letters_purge(lf->letters, &(struct letter_change){.sel = where(""), .limit = 1000}, true, answer_json, &a);
    await(lf, &a);
    answer_free(&a);
    assert_int_equal(sql_number(lf, "SELECT count(*) FROM letters"), 0);
}

static json_t *import(struct letters_fixture *lf, json_t *letters) {
    struct answer a = {0};
    letters_import(lf->letters, letters, answer_json, &a);
    await(lf, &a);
    return a.json;
}

static void expect_import(json_t *result, int64_t count, int64_t there, size_t refused) {
    assert_int_equal(number_in(result, "imported"), count);
    assert_int_equal(number_in(result, "there"), there);
    array_in(result, "refused", refused);
    json_decref(result);
}

static void expect_refusal(const json_t *result, size_t at, int64_t line, const char *says) {
    const json_t *refused = json_array_get(json_object_get(result, "refused"), at);
    assert_int_equal(number_in(refused, "line"), line);
    if (!strstr(text_in(refused, "why"), says)) fail_msg("'%s' does not say '%s'", text_in(refused, "why"), says);
}

// What the letter is, apart from when it was written here.
static void assert_same_letter(json_t *a, json_t *b) {
    json_object_del(a, "changedMs");
    json_object_del(b, "changedMs");
    if (json_equal(a, b)) return;
    json_object_del(a, "payload");
    json_object_del(b, "payload");
    char *x = json_dumps(a, JSON_SORT_KEYS), *y = json_dumps(b, JSON_SORT_KEYS);
    print_message("# %.2000s\n# %.2000s\n", x, y);
    fail_msg("another letter came back");
}

static void an_exported_letter_comes_back_byte_for_byte(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    make_payloads();
    struct id ids[AWFUL];
    for (size_t i = 0; i < AWFUL; i++) ids[i] = put_awful(&lf, i);
    for (size_t i = 0; i < AWFUL; i++) assert_payload(&lf, &ids[i], awful[i]);
    json_t *all[AWFUL];
    sql(&lf, "UPDATE letters SET died_ms = 1767225600999");
    for (size_t i = 0; i < AWFUL; i++) all[i] = exported(&lf, &ids[i]);
    delete_all(&lf);
    for (size_t i = 0; i < AWFUL; i++) expect_import(import(&lf, json_pack("[O]", all[i])), 1, 0, 0);
    for (size_t i = 0; i < AWFUL; i++) {
        assert_payload(&lf, &ids[i], awful[i]);
        json_t *again = exported(&lf, &ids[i]);
        assert_same_letter(all[i], again);
        json_decref(again);
        json_decref(all[i]);
    }
    free_payloads();
    letters_close(&lf);
}

// --- bytes of every kind, by chance ---------------------------------------------------------------------------------------

static uint64_t chance_state;

static uint32_t chance(uint32_t below) {
    chance_state = chance_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(chance_state >> 33) % below;
}

// One half of what is made is well-formed UTF-8.
static struct str chance_bytes(char *at, size_t room) {
    static const char *const parts[] = {"a", "\xc3\xa9", "\xf0\x9f\x93\xae", "\"", "\\", "\n", "{", "\x7f", "\xff", "\xc3", "\xed\xa0\x80", "\x80"};
    size_t len = 0, wanted = chance(12), kinds = chance(2) ? array_len(parts) : 8;
    for (size_t i = 0; i < wanted; i++) {
        const char *part = parts[chance((uint32_t)kinds)];
        if (chance(9) == 0) part = ""; // a NUL
        size_t n = *part ? strlen(part) : 1;
        if (len + n > room) break;
        memcpy(at + len, part, n);
        len += n;
    }
    return (struct str){at, len};
}

#define CHANCE_TEXT 64
#define CHANCE_HEADERS 5

static struct id put_by_chance(struct letters_fixture *lf) {
    char text[2 * CHANCE_HEADERS + 4][CHANCE_TEXT];
    struct ev_header headers[CHANCE_HEADERS];
    size_t count = chance(CHANCE_HEADERS + 1), at = 0;
    for (size_t i = 0; i < count; i++) {
        struct str name = chance_bytes(text[at++], CHANCE_TEXT);
        headers[i] = (struct ev_header){name, chance_bytes(text[at++], CHANCE_TEXT)};
    }
    return put_letter(lf, &(struct ev_fields){.function = STR_LIT("f"), .attempt = chance(9), .accepted_ms = 1767225600123, .headers = headers,
                                              .header_count = count, .payload = chance_bytes(text[at], CHANCE_TEXT),
                                              .ordering_key = chance_bytes(text[at + 1], CHANCE_TEXT),
                                              .content_type = chance_bytes(text[at + 2], CHANCE_TEXT),
                                              .trace = chance_bytes(text[at + 3], CHANCE_TEXT)}, LETTER_DEAD);
}

static void event_of(struct letters_fixture *lf, const struct id *id, struct answer *ret) {
    letters_sample(lf->letters, these(id, 1), 1, answer_claim, ret);
    await(lf, ret);
    assert_int_equal(ret->count, 1);
}

static void assert_same_event(const struct ev_fields *a, const struct ev_fields *b) {
    assert_true(str_eq(a->payload, b->payload));
    assert_true(str_eq(a->ordering_key, b->ordering_key));
    assert_true(str_eq(a->content_type, b->content_type));
    assert_true(str_eq(a->trace, b->trace));
    assert_int_equal(a->attempt, b->attempt);
    assert_int_equal(a->accepted_ms, b->accepted_ms);
    assert_int_equal(a->header_count, b->header_count);
    for (size_t i = 0; i < a->header_count; i++) {
        assert_true(str_eq(a->headers[i].name, b->headers[i].name));
        assert_true(str_eq(a->headers[i].value, b->headers[i].value));
    }
}

static void any_bytes_come_back(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    for (chance_state = 1; chance_state < 200; chance_state++) {
        uint64_t seed = chance_state;
        struct answer before = {0}, after = {0};
        struct id id = put_by_chance(&lf);
        event_of(&lf, &id, &before);
        json_t *o = exported(&lf, &id);
        delete_all(&lf);
        expect_import(import(&lf, json_pack("[O]", o)), 1, 0, 0);
        event_of(&lf, &id, &after);
        assert_same_event(&before.letters[0].ev->f, &after.letters[0].ev->f);
        json_t *again = exported(&lf, &id);
        assert_same_letter(o, again);
        json_decref(again);
        json_decref(o);
        answer_free(&before);
        answer_free(&after);
        delete_all(&lf);
        chance_state = seed;
    }
    letters_close(&lf);
}

static int64_t number_of(struct letters_fixture *lf, const struct id *id, const char *member) {
    json_t *o = exported(lf, id);
    int64_t n = number_in(o, member);
    json_decref(o);
    return n;
}

static void times_are_kept_and_lie_in_the_past(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_text(&lf, "f", "x", LETTER_DEAD);
    json_t *o = exported(&lf, &id);
    int64_t began_ms = clock_unix_ms();
    const struct {
        int64_t died_ms, accepted_ms; // 0: not given
        bool kept;                    // else now
    } cases[] = {{1000, 900, true}, {1767225600999, 1767225600000, true}, {0, 0, false}, {began_ms + 3600000, began_ms + 3600000, false}};
    for (size_t i = 0; i < array_len(cases); i++) {
        delete_all(&lf);
        json_object_set_new(o, "diedMs", cases[i].died_ms ? json_integer(cases[i].died_ms) : json_null());
        json_object_set_new(o, "acceptedMs", cases[i].accepted_ms ? json_integer(cases[i].accepted_ms) : json_null());
        expect_import(import(&lf, json_pack("[O]", o)), 1, 0, 0);
        int64_t died_ms = number_of(&lf, &id, "diedMs"), accepted_ms = number_of(&lf, &id, "acceptedMs");
        assert_true(cases[i].kept ? died_ms == cases[i].died_ms : died_ms >= began_ms && died_ms <= clock_unix_ms());
        assert_true(cases[i].kept ? accepted_ms == cases[i].accepted_ms : accepted_ms >= began_ms && accepted_ms <= clock_unix_ms());
        assert_true(number_of(&lf, &id, "changedMs") >= began_ms);
    }
    json_decref(o);
    letters_close(&lf);
}

static void an_edit_of_a_header_leaves_every_byte_of_the_payload(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    make_payloads();
    for (size_t i = 0; i < AWFUL; i++) {
        struct id id = put_awful(&lf, i);
        struct edit *e = NULL;
        struct err err = {0};
        struct answer a = {0};
        if (edit_parse(STR_LIT("{\"set\":{\"headers.h\":\"v\"}}"), &e, &err)) fail_msg("%s", err.text);
        letters_edit(lf.letters, &(struct letter_change){.sel = these(&id, 1), .limit = 1}, e, false, answer_json, &a);
        await(&lf, &a);
        assert_int_equal(number_in(a.json, "edited"), 1);
        answer_free(&a);
        assert_payload(&lf, &id, awful[i]);
    }
    free_payloads();
    letters_close(&lf);
}

static void a_letter_that_is_there_stays_as_it_is(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_text(&lf, "f", "old", LETTER_DEAD), other = put_text(&lf, "f", "other", LETTER_DEAD);
    json_t *o = exported(&lf, &id), *gone = exported(&lf, &other);
    delete_all(&lf);
    expect_import(import(&lf, json_pack("[O]", o)), 1, 0, 0);
    sql_of(&lf, "UPDATE letters SET state = 'discarded' WHERE id = $1", &id);
    json_object_set_new(o, "payload", json_string("new"));
    expect_import(import(&lf, json_pack("[O,O,O]", o, gone, gone)), 1, 2, 0); // one of them twice in one file
    assert_payload(&lf, &id, STR_LIT("old"));
    assert_true(letter_is(&lf, &id, "discarded"));
    assert_true(letter_is(&lf, &other, "dead"));
    expect_import(import(&lf, json_pack("[O,O]", o, gone)), 0, 2, 0);
    json_decref(o);
    json_decref(gone);
    letters_close(&lf);
}

static void a_masked_letter_is_refused(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, "password");
    struct id id = put_text(&lf, "f", "{\"password\":\"sesame\"}", LETTER_DEAD);
    json_t *o = exported(&lf, &id);
    delete_all(&lf);
    json_t *result = import(&lf, json_pack("[o]", o));
    expect_refusal(result, 0, 1, "masked");
    expect_import(result, 0, 0, 1);
    letters_close(&lf);
}

static void an_imported_letter_is_dead_and_keeps_its_group_whatever_it_was(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_text(&lf, "f", "{\"n\":1}", LETTER_DUE);
    json_t *o = exported(&lf, &id), *again;
    sql(&lf, "DELETE FROM letters");
    sql(&lf, "DELETE FROM letter_bodies");
    expect_import(import(&lf, json_pack("[O]", o)), 1, 0, 0);
    again = exported(&lf, &id);
    assert_string_equal(text_in(again, "state"), "dead");
    assert_true(json_is_null(json_object_get(again, "dueMs")));
    assert_string_equal(text_in(again, "group"), text_in(o, "group"));
    assert_int_equal(number_in(again, "version"), 3);
    json_decref(again);
    json_decref(o);
    letters_close(&lf);
}

static void each_bad_line_is_refused_in_words_and_the_others_are_taken(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_text(&lf, "f", "x", LETTER_DEAD);
    json_t *good = exported(&lf, &id);
    delete_all(&lf);
    const struct {
        const char *member, *value, *says; // value: JSON; NULL: the member is not there
    } cases[] = {
        {"id", "\"x\"", "id"},
        {"id", NULL, "id"},
        {"id", "\"00000000-0000-0000-0000-000000000000\"", "id"},
        {"function", "\"../etc\"", ""},
        {"function", "7", ""},
        {"payload", NULL, "no payload"},
        {"payload", "{\"n\":1}", "no payload"},
        {"payloadBase64", "\"***\"", "base64"},
        {"headers", "[[\"a\"]]", "pairs"},
        {"headers", "[[\"a\",{}]]", "pairs"},
        {"headers", "[7]", "pairs"},
        {"headers", "{\"a\":\"b\"}", "pairs"},
        {"headers", "[[\"a\",\"b\",\"c\"]]", "pairs"},
        {"headers", "[[\"a\",null]]", "pairs"},
        {"headers", "[[\"a\",{\"base64\":\"*\"}]]", "pairs"},
        {"headers", "[[{\"base64\":\"YQ==\",\"x\":1},\"a\"]]", "pairs"},
        {"orderingKey", "{\"base64\":7}", "orderingKey"},
        {"orderingKey", "7", "orderingKey"},
        {"contentType", "[]", "contentType"},
        {"kind", "\"strange\"", "kind"},
        {"source", "\"http\"", "source"},
        {"originId", "\"x\"", "originId"},
        {"history", "{}", "history"},
        {"attempts", "-1", "attempts"},
        {"attempts", "1000001", "attempts"},
        {"attempts", "9223372036854775807", "attempts"},
        {"attempts", "1.5", "attempts"},
        {"attempts", "\"3\"", "attempts"},
        {"version", "-1", "version"},
        {"version", "4294967296", "version"},
        {"acceptedMs", "-1", "acceptedMs"},
        {"acceptedMs", "9223372036854775807", "acceptedMs"},
        {"diedMs", "-1", "diedMs"},
        {"diedMs", "99999999999999", "diedMs is in the future"},
    };
    json_t *list = json_pack("[s, n]", "no object");
    for (size_t i = 0; i < array_len(cases); i++) {
        json_t *bad = json_deep_copy(good);
        if (cases[i].value) json_object_set_new(bad, cases[i].member, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        else json_object_del(bad, cases[i].member);
        json_array_append_new(list, bad);
    }
    json_array_append(list, good);
    json_t *result = import(&lf, list);
    expect_refusal(result, 0, 1, "object");
    expect_refusal(result, 1, 2, "object");
    for (size_t i = 0; i < array_len(cases); i++) expect_refusal(result, i + 2, (int64_t)i + 3, cases[i].says);
    expect_import(result, 1, 0, array_len(cases) + 2);
    assert_payload(&lf, &id, STR_LIT("x"));
    json_decref(good);
    letters_close(&lf);
}

static void an_import_has_a_most(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    json_t *many = json_array();
    for (int i = 0; i < 1001; i++) json_array_append_new(many, json_null());
    struct answer a = {0};
    letters_import(lf.letters, many, answer_json, &a);
    await_refusal(&lf, &a, ERR_INVALID, "at most 1000");
    letters_import(lf.letters, json_object(), answer_json, &a);
    await_refusal(&lf, &a, ERR_INVALID, "list");
    expect_import(import(&lf, json_array()), 0, 0, 0);
    letters_close(&lf);
}

// --- a database of an older program ---------------------------------------------------------------------------------------

#define BEFORE 3 // the migration before that of dead letters

// One statement after the other; a comment may hold a semicolon.
static int run_script(struct sql *s, const char *text, struct err *err) {
    struct buf statement;
    int rc = 0;
    buf_init(&statement, 1 << 20);
    for (const char *at = text; *at && rc == 0; at++) {
        if (at[0] == '-' && at[1] == '-') at += strcspn(at, "\n");
        if (!*at) break;
        if (*at != ';') {
            MUST(buf_append(&statement, (struct str){at, 1}) == 0);
            continue;
        }
        MUST(buf_append(&statement, (struct str){"", 1}) == 0);
        rc = sql_exec_once(s, statement.data + statement.start, NULL, 0, NULL, NULL, NULL, err);
        buf_clear(&statement);
    }
    buf_done(&statement);
    return rc;
}

static int take_drop(void *arg, const struct sql_row *row) {
    struct str text = sql_row_bytes(row, 0);
    MUST(buf_append(arg, text) == 0 && buf_append(arg, STR_LIT(";")) == 0);
    return 0;
}

static int drop_everything(struct sql *s, struct err *err) {
    if (sql_is_postgres(s)) return run_script(s, "DROP SCHEMA public CASCADE; CREATE SCHEMA public;", err);
    struct buf drops;
    buf_init(&drops, 1 << 20);
    int rc = sql_exec(s,
                      "SELECT 'DROP ' || type || ' ' || name FROM sqlite_master WHERE type IN ('view', 'table') AND name NOT LIKE 'sqlite%'"
                      " ORDER BY type DESC",
                      NULL, 0, take_drop, &drops, NULL, err);
    MUST(buf_append(&drops, (struct str){"", 1}) == 0);
    if (rc == 0) rc = run_script(s, drops.data + drops.start, err);
    buf_done(&drops);
    return rc;
}

static struct id old_ids[5];
static const char *const old_states[] = {"due", "dead", "replaying", "replayed", "discarded"};

static struct str old_payload(size_t i) {
    return i % 2 ? (struct str){"\0\xff\x80", 3} : STR_LIT("{\"n\":1}");
}

// A letter as the older program wrote it.
static int insert_old(struct sql *s, size_t i, struct err *err) {
    const struct ev_header header = {STR_LIT("h"), STR_LIT("v")};
    struct ev *ev = ev_new(&(struct ev_fields){.function = STR_LIT("f"), .attempt = 4, .accepted_ms = 1000, .shape = STR_LIT("scf"),
                                              .ordering_key = STR_LIT("k"), .content_type = STR_LIT("text/x"),
                                               .headers = &header, .header_count = 1});
    struct buf envelope;
    buf_init(&envelope, EV_ENCODED_MAX);
    MUST(ev_encode(ev, &envelope, err) == 0);
    old_ids[i] = ev->f.id;
    struct str id = {(const char *)ev->f.id.bytes, sizeof ev->f.id.bytes};
    const struct sql_value values[] = {SQL_B(id), SQL_Z(old_states[i]), i == 0 ? SQL_I(2000) : SQL_NONE, i == 2 ? SQL_I(5000) : SQL_I(0),
                                       i == 3 ? SQL_B(id) : SQL_NONE, SQL_B(old_payload(i)), SQL_B(buf_str(&envelope))};
    int rc = sql_exec_once(s,
                           "INSERT INTO letters (id, function, state, kind, due_ms, lease_ms, accepted_ms, changed_ms, attempts, error_type,"
                           " error_message, version, source_kind, source_name, source_at, ordering_key, content_type, replay_id, history, payload,"
                           " event) VALUES ($1, 'f', $2, 'function', $3, $4, 1000, 3000, 4, 'KeyError', 'x', 7, 'kafka', 't',"
                           " '{\"topic\":\"t\",\"partition\":3,\"offset\":7}', 'k', 'text/x', $5, '[{\"attempt\":1}]', $6, $7)",
                           values, array_len(values), NULL, NULL, NULL, err);
    buf_done(&envelope);
    ev_free(ev);
    return rc;
}

static int make_old(void *arg, struct sql *s, struct err *err) {
    (void)arg;
    const struct migration *all = sql_is_postgres(s) ? migrations_postgres : migrations_sqlite;
    struct migration old[BEFORE + 1] = {{0}};
    memcpy(old, all, BEFORE * sizeof *old);
    int rc = drop_everything(s, err);
    if (rc == 0) rc = migrate_run(s, old, run_script, err);
    for (size_t i = 0; i < array_len(old_states) && rc == 0; i++) rc = insert_old(s, i, err);
    return rc;
}

static void the_letters_of_an_older_database_are_all_there(void **state) {
    struct store_fixture *fx = *state;
    struct letters_fixture lf = {.fx = fx};
    struct err err = {0};
    assert_int_equal(call(fx, make_old, NULL), 0);
    store_close(fx->store);
    open_store(fx); // migrates
    if (store_open_reader(fx->loop, fx->url, STORE_READ_MS, &lf.reader, &err)) fail_msg("%s", err.text);
    lf.letters = letters_new(fx->loop, fx->store, lf.reader, NULL);
    for (size_t i = 0; i < array_len(old_states); i++) {
        json_t *o = show_letter(&lf, &old_ids[i]);
        assert_string_equal(text_in(o, "state"), old_states[i]);
        assert_string_equal(text_in(o, "errorType"), "KeyError");
        assert_string_equal(text_in(o, "orderingKey"), "k");
        assert_string_equal(text_in(o, "shape"), "scf");
        assert_string_equal(text_in(json_object_get(o, "source"), "name"), "t");
        assert_int_equal(number_in(o, "version"), 7);
        assert_int_equal(number_in(o, "attempts"), 4);
        assert_int_equal(number_in(o, "acceptedMs"), 1000);
        assert_int_equal(number_in(o, "diedMs"), 3000);
        assert_int_equal(number_in(o, "changedMs"), 3000);
        array_in(o, "history", 1);
        array_in(o, "headers", 1);
        json_decref(o);
        assert_payload(&lf, &old_ids[i], old_payload(i));
    }
    assert_int_equal(sql_number(&lf, "SELECT due_ms FROM letters WHERE state = 'due'"), 2000);
    assert_int_equal(sql_number(&lf, "SELECT lease_ms FROM letters WHERE state = 'replaying'"), 5000);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letters WHERE replay_id = id AND state = 'replayed'"), 1);
    struct answer a = {0};
    letters_claim_due(lf.letters, clock_unix_ms(), 60000, 10, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, 1);
    assert_true(id_eq(&a.letters[0].id, &old_ids[0]));
    answer_free(&a);
    letters_close(&lf);
}

#define CASE(fn) {#fn, fn, STORE_BOTH}

int main(void) {
    const struct store_case cases[] = {
        CASE(an_exported_letter_comes_back_byte_for_byte),
        CASE(an_edit_of_a_header_leaves_every_byte_of_the_payload),
        CASE(any_bytes_come_back),
        CASE(times_are_kept_and_lie_in_the_past),
        CASE(a_letter_that_is_there_stays_as_it_is),
        CASE(a_masked_letter_is_refused),
        CASE(an_imported_letter_is_dead_and_keeps_its_group_whatever_it_was),
        CASE(each_bad_line_is_refused_in_words_and_the_others_are_taken),
        CASE(an_import_has_a_most),
        CASE(the_letters_of_an_older_database_are_all_there),
    };
    return store_run_cases(cases, array_len(cases));
}
