// SPDX-License-Identifier: Apache-2.0
// The format is that of array_recv() in PostgreSQL: 32-bit integers, big endian (dimensions, whether there are NULLs, the elements' type, size, first
// index), then each element as its length (-1: NULL) and its bytes.
#include "core/store_postgres_array.h"

enum oid { OID_BYTEA = 17, OID_INT8 = 20, OID_TEXT = 25 };

static int append_number(struct buf *out, uint64_t n, size_t bytes) {
    char text[8];
    for (size_t i = 0; i < bytes; i++) text[i] = (char)(n >> 8 * (bytes - 1 - i));
    return buf_append(out, (struct str){text, bytes});
}

static int append_value(struct buf *out, const struct sql_value *v) {
    if (v->type == SQL_NULL) return append_number(out, UINT32_MAX, 4);
    int rc = append_number(out, v->type == SQL_INT ? 8 : v->bytes.len, 4);
    if (rc) return rc;
    return v->type == SQL_INT ? append_number(out, (uint64_t)v->number, 8) : buf_append(out, v->bytes);
}

static enum oid oid_of(enum sql_type type) {
    return type == SQL_INT ? OID_INT8 : type == SQL_TEXT ? OID_TEXT : OID_BYTEA;
}

int postgres_array_append(struct buf *out, const struct sql_value *values, size_t stride, size_t rows) {
    enum sql_type type = SQL_NULL;
    bool nulls = false;
    for (size_t i = 0; i < rows; i++) {
        const struct sql_value *v = &values[i * stride];
        MUST(v->type == SQL_NULL || type == SQL_NULL || v->type == type);
        if (v->type == SQL_NULL) nulls = true;
        else type = v->type;
    }
    if (type == SQL_NULL) return 0;
    const uint64_t head[] = {1, nulls, oid_of(type), rows, 1};
    int rc = 0;
    for (size_t i = 0; i < array_len(head) && rc == 0; i++) rc = append_number(out, head[i], 4);
    for (size_t i = 0; i < rows && rc == 0; i++) rc = append_value(out, &values[i * stride]);
    return rc;
}
