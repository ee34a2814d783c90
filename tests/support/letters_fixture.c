// SPDX-License-Identifier: Apache-2.0
#include "tests/support/letters_fixture.h"

static const char *const tables[] = {"replay_letters", "replays", "letter_edits", "letter_originals", "letter_bodies", "letter_groups", "letters"};

static int empty(void *arg, struct sql *s, struct err *err) {
    (void)arg;
    int rc = 0;
    for (size_t i = 0; i < array_len(tables) && rc == 0; i++) {
        char text[64];
        MUST(text_format(text, sizeof text, "DELETE FROM %s", tables[i]) == 0);
        rc = sql_exec_once(s, text, NULL, 0, NULL, NULL, NULL, err);
    }
    return rc;
}

void letters_open(struct letters_fixture *lf, struct store_fixture *fx, const char *redact) {
    struct err err = {0};
    *lf = (struct letters_fixture){.fx = fx};
    assert_int_equal(call(fx, empty, NULL), 0); // PostgreSQL's is the same for all cases
    if (store_open_reader(fx->loop, fx->url, STORE_READ_MS, &lf->reader, &err)) fail_msg("%s", err.text);
    if (redact && redact_new(redact, &lf->redact, &err)) fail_msg("%s", err.text);
    lf->letters = letters_new(fx->loop, fx->store, lf->reader, lf->redact);
}

void letters_close(struct letters_fixture *lf) {
    store_close(lf->reader);
    letters_free(lf->letters);
    redact_free(lf->redact);
}

// --- answers ------------------------------------------------------------------------------------------------------------

void answer_done(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    assert_false(a->done);
    a->done = true;
    a->code = code;
    if (code) a->err = *err;
}

void answer_json(void *arg, int code, const struct err *err, json_t *result) {
    struct answer *a = arg;
    answer_done(a, code, err);
    assert_true((code == 0) == (result != NULL));
    a->json = result;
}

void answer_claim(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    struct answer *a = arg;
    answer_done(a, code, err);
    assert_true(code == 0 || count == 0);
    a->count = count;
    a->letters = mem_array(count ? count : 1, sizeof *letters);
    if (count) memcpy(a->letters, letters, count * sizeof *letters);
}

void answer_number(void *arg, int code, int64_t number) {
    struct answer *a = arg;
    assert_false(a->done);
    *a = (struct answer){.done = true, .code = code, .number = number};
}

void await(struct letters_fixture *lf, struct answer *a) {
    TURN_UNTIL(lf->fx->loop, a->done);
    if (a->code) fail_msg("%s", a->err.text);
}

void await_refusal(struct letters_fixture *lf, struct answer *a, int code, const char *says) {
    TURN_UNTIL(lf->fx->loop, a->done);
    assert_int_equal(a->code, code);
    if (!strstr(a->err.text, says)) fail_msg("'%s' does not say '%s'", a->err.text, says);
    answer_free(a);
}

void answer_free(struct answer *a) {
    for (size_t i = 0; i < a->count; i++) ev_free(a->letters[i].ev);
    free(a->letters);
    json_decref(a->json);
    *a = (struct answer){0};
}

int64_t number_in(const json_t *o, const char *name) {
    const json_t *value = json_object_get(o, name);
    if (!json_is_integer(value)) fail_msg("there is no number %s", name);
    return json_integer_value(value);
}

const char *text_in(const json_t *o, const char *name) {
    const json_t *value = json_object_get(o, name);
    if (!json_is_string(value)) fail_msg("there is no text %s", name);
    return json_string_value(value);
}

bool bool_in(const json_t *o, const char *name) {
    const json_t *value = json_object_get(o, name);
    if (!json_is_boolean(value)) fail_msg("%s is neither true nor false", name);
    return json_is_true(value);
}

const json_t *array_in(const json_t *o, const char *name, size_t count) {
    const json_t *value = json_object_get(o, name);
    if (!json_is_array(value)) fail_msg("there is no list %s", name);
    if (json_array_size(value) != count) fail_msg("%s has %zu members, not %zu", name, json_array_size(value), count);
    return value;
}

// --- letters ------------------------------------------------------------------------------------------------------------

struct selection *selected(const struct select_spec *spec) {
    struct selection *sel = NULL;
    struct err err = {0};
    struct select_spec given = *spec;
    if (!given.now_ms) given.now_ms = clock_unix_ms();
    if (selection_new(&given, &sel, &err)) fail_msg("%s", err.text);
    return sel;
}

struct selection *where(const char *expression) {
    return selected(&(struct select_spec){.where = str_of(expression)});
}

struct selection *these(const struct id *ids, size_t count) {
    return selected(&(struct select_spec){.ids = ids, .id_count = count});
}

struct id put_letter(struct letters_fixture *lf, const struct ev_fields *f, enum letter_state state) {
    struct answer a = {0};
    struct ev_fields given = *f;
    if (!given.history.len) given.history = STR_LIT("[{\"attempt\":1,\"errorType\":\"KeyError\",\"errorMessage\":\"'x'\"}]");
    struct ev *ev = ev_new(&given);
    struct id id = ev->f.id;
    const struct letter_draft draft = {.ev = ev,
                                       .state = state,
                                       .kind = LETTER_FUNCTION,
                                       .due_ms = clock_unix_ms() - 3600000,
                                       .version = 3,
                                       .error_type = STR_LIT("KeyError"),
                                       .error_message = STR_LIT("'x'")};
    letters_put(lf->letters, &draft, answer_done, &a);
    await(lf, &a);
    ev_free(ev);
    return id;
}

struct id put_text(struct letters_fixture *lf, const char *function, const char *payload, enum letter_state state) {
    return put_letter(lf, &(struct ev_fields){.function = str_of(function), .payload = str_of(payload), .attempt = 1}, state);
}

json_t *show_letter(struct letters_fixture *lf, const struct id *id) {
    struct answer a = {0};
    letters_show(lf->letters, id, answer_json, &a);
    await(lf, &a);
    return a.json;
}

bool letter_is(struct letters_fixture *lf, const struct id *id, const char *state) {
    struct answer a = {0};
    letters_show(lf->letters, id, answer_json, &a);
    TURN_UNTIL(lf->fx->loop, a.done);
    const char *found = json_string_value(json_object_get(a.json, "state"));
    bool is = strcmp(found ? found : "", state) == 0;
    if (!is) print_message("# it is '%s', not '%s'\n", found ? found : "", state);
    assert_true(a.code == 0 || a.code == ERR_NOT_FOUND);
    answer_free(&a);
    return is;
}

json_t *list_letters(struct letters_fixture *lf, struct selection *sel, const struct letter_page *page) {
    struct answer a = {0};
    letters_list(lf->letters, sel, page, answer_json, &a);
    await(lf, &a);
    return a.json;
}

size_t count_letters(struct letters_fixture *lf, const char *state) {
    json_t *page = list_letters(lf, selected(&(struct select_spec){.state = str_of(state)}), &(struct letter_page){.limit = 1000});
    size_t n = json_array_size(json_object_get(page, "letters"));
    json_decref(page);
    return n;
}

// --- behind their back ----------------------------------------------------------------------------------------------------

struct statement {
    const char *text;
    const struct id *id;
    int64_t number;
};

static int statement_run(void *arg, struct sql *s, struct err *err) {
    struct statement *st = arg;
    struct sql_value id = SQL_NONE;
    if (st->id) id = SQL_B(((struct str){(const char *)st->id->bytes, sizeof st->id->bytes}));
    return sql_exec_once(s, st->text, &id, st->id ? 1 : 0, read_int, &st->number, NULL, err);
}

void sql_of(struct letters_fixture *lf, const char *text, const struct id *id) {
    struct statement st = {.text = text, .id = id};
    assert_int_equal(call(lf->fx, statement_run, &st), 0);
}

void sql(struct letters_fixture *lf, const char *text) {
    sql_of(lf, text, NULL);
}

int64_t sql_number(struct letters_fixture *lf, const char *text) {
    struct statement st = {.text = text, .number = -1};
    assert_int_equal(call(lf->fx, statement_run, &st), 0);
    return st.number;
}
