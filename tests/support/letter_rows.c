// SPDX-License-Identifier: Apache-2.0
#include "tests/support/letter_rows.h"

struct rows {
    const struct letter_row *at;
    size_t count;
};

#define LETTER_VALUES 10
#define BODY_VALUES 2

static struct sql_value id_value(const struct id *id) {
    return SQL_B(((struct str){(const char *)id->bytes, sizeof id->bytes}));
}

static int insert(void *arg, struct sql *sql, struct err *err) {
    const struct rows *rows = arg;
    struct sql_value *letters = mem_array(rows->count, LETTER_VALUES * sizeof *letters);
    struct sql_value *bodies = mem_array(rows->count, BODY_VALUES * sizeof *bodies);
    for (size_t i = 0; i < rows->count; i++) {
        const struct letter_row *r = &rows->at[i];
        const struct sql_value letter[LETTER_VALUES] = {id_value(&r->id),
                                                        SQL_Z(r->function ? r->function : "orders"),
                                                        SQL_Z(r->state ? r->state : "dead"),
                                                        SQL_I(r->accepted_ms ? r->accepted_ms : r->died_ms),
                                                        SQL_I(r->died_ms),
                                                        SQL_I(r->changed_ms ? r->changed_ms : r->died_ms),
                                                        SQL_I(r->version),
                                                        SQL_I(r->fingerprint),
                                                        SQL_Z(r->error_type),
                                                        SQL_Z(r->error_message)};
        const struct sql_value body[BODY_VALUES] = {id_value(&r->id), SQL_Z(r->history ? r->history : "[]")};
        memcpy(&letters[i * LETTER_VALUES], letter, sizeof letter);
        memcpy(&bodies[i * BODY_VALUES], body, sizeof body);
    }
    int rc = sql_exec_many(sql,
                           "INSERT INTO letters (id, function, state, kind, accepted_ms, died_ms, changed_ms, attempts, version, fingerprint,"
                           " error_type, error_message, source_kind, source_name, source_at, ordering_key, content_type, headers, payload)"
                           " VALUES ($1, $2, $3, 'function', $4, $5, $6, 4, $7, $8, $9, $10, 'http', '', '{}', '', '', '{}', '')",
                           letters, LETTER_VALUES, rows->count, err);
    if (rc == 0)
        rc = sql_exec_many(sql, "INSERT INTO letter_bodies (id, history, event) VALUES ($1, $2, '')", bodies, BODY_VALUES, rows->count, err);
    free(letters);
    free(bodies);
    return rc;
}

void letter_rows_add(struct letters_fixture *lf, struct letter_row *rows, size_t count) {
    static uint64_t number;
    for (size_t i = 0; i < count; i++)
        if (id_is_none(&rows[i].id)) rows[i].id = id_derive(rows[i].accepted_ms ? rows[i].accepted_ms : rows[i].died_ms, ++number, 7);
    assert_int_equal(call(lf->fx, insert, &(struct rows){rows, count}), 0);
}

struct seek {
    struct id id;
    int64_t count;
};

static int seek(void *arg, struct sql *sql, struct err *err) {
    struct seek *s = arg;
    const struct sql_value id = id_value(&s->id);
    return sql_exec(sql, "SELECT count(*) FROM letters WHERE id = $1", &id, 1, read_int, &s->count, NULL, err);
}

bool letter_row_is_there(struct letters_fixture *lf, const struct letter_row *row) {
    struct seek s = {.id = row->id};
    assert_int_equal(call(lf->fx, seek, &s), 0);
    return s.count == 1;
}

uint32_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}
