// SPDX-License-Identifier: Apache-2.0
// Finding the letters that a change means, and where the next call goes on.
//
// A selection may take seconds to go through, so it runs on the reader, and the writer changes by id. Calls that follow each other by the
// cursor go through the selection once, and end: they leave out what died after the first of them.
#include <inttypes.h>

#include "core/base/clock.h"
#include "dlq/letters_impl.h"

#define AS_OF_MAX 253402300799999 // the end of the year 9999

// --- cursors: ID.MS -------------------------------------------------------------------------------------------------------

int letters_place_parse(struct str cursor, struct letters_place *ret, struct err *err) {
    const size_t id_len = ID_TEXT_BYTES - 1;
    struct letters_place place = {.as_of_ms = 0};
    bool good = cursor.len > id_len + 1 && cursor.len <= id_len + 16 && cursor.data[id_len] == '.';
    for (size_t i = id_len + 1; good && i < cursor.len; i++) {
        good = cursor.data[i] >= '0' && cursor.data[i] <= '9';
        place.as_of_ms = 10 * place.as_of_ms + (cursor.data[i] - '0');
    }
    good = good && place.as_of_ms > 0 && place.as_of_ms <= AS_OF_MAX && id_parse((struct str){cursor.data, id_len}, &place.after) == 0;
    if (!good && cursor.len) return err_set(err, ERR_INVALID, "the cursor is not one that a change gave out");
    *ret = good ? place : (struct letters_place){.as_of_ms = 0};
    return 0;
}

json_t *letters_place_json(const struct letters_place *place, const struct id *last, int64_t now_ms) {
    char id[ID_TEXT_BYTES];
    id_format(last, id);
    return json_sprintf("%s.%" PRId64, id, place->as_of_ms ? place->as_of_ms : now_ms);
}

// --- finding --------------------------------------------------------------------------------------------------------------

void letters_sql_add(struct select_sql *q, const char *text, int64_t now_ms) {
    for (const char *at; (at = strchr(text, '@')); text = at + 1) {
        MUST(buf_append(q->text, (struct str){text, (size_t)(at - text)}) == 0);
        select_sql_value(q, SQL_I(now_ms));
    }
    select_sql_add(q, text);
}

static int take_found(void *arg, const struct sql_row *row) {
    struct letters_found *found = arg;
    if (found->count == found->room) {
        found->room = found->room ? 2 * found->room : 64;
        found->ids = mem_realloc(found->ids, found->room * sizeof *found->ids);
    }
    found->ids[found->count++] = letters_row_id(row, 0);
    return 0;
}

int letters_sql_find(struct sql *sql, const struct letters_which *which, struct letters_found *ret, struct err *err) {
    struct buf text;
    struct select_sql *q = mem_alloc(sizeof *q);
    buf_init(&text, SIZE_MAX / 2);
    *q = (struct select_sql){.text = &text, .postgres = sql_is_postgres(sql)};
    ret->count = 0;
    select_sql_add(q, "SELECT id FROM letters WHERE ");
    letters_sql_add(q, which->condition, which->now_ms);
    if (!id_is_none(&which->place.after)) {
        select_sql_add(q, " AND id > ");
        select_sql_value(q, letters_sql_id(&which->place.after));
    }
    if (which->place.as_of_ms) letters_sql_add(q, " AND CASE WHEN state = 'dead' THEN died_ms ELSE changed_ms END <= @", which->place.as_of_ms);
    select_sql_add(q, " AND ");
    selection_sql(which->sel, q);
    select_sql_add(q, " ORDER BY ");
    select_sql_add(q, which->order ? which->order : "id");
    select_sql_add(q, " LIMIT ");
    select_sql_value(q, SQL_I(which->limit));
    MUST(buf_append(&text, (struct str){"", 1}) == 0);
    int rc = sql_exec_once(sql, text.data + text.start, q->values, q->count, take_found, ret, NULL, err);
    buf_done(&text);
    free(q);
    return rc;
}

int letters_find_failed(int code, const struct err *err, struct err *ret) {
    *ret = *err;
    if (code != ERR_TIMEOUT) return code;
    return err_set(ret, ERR_TIMEOUT, "the letters were not found in %d s: narrow the selection, by a function, a group or times", STORE_READ_MS / 1000);
}

struct selection *letters_selection(const struct id *ids, size_t count) {
    struct selection *sel = NULL;
    struct err err;
    const struct select_spec spec = {.ids = ids, .id_count = count};
    MUST(count > 0 && count <= SELECT_IDS_MAX && selection_new(&spec, &sel, &err) == 0);
    return sel;
}
