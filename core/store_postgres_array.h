// SPDX-License-Identifier: Apache-2.0
// A column of values as an array of PostgreSQL in its binary form, which needs no quoting: a payload goes as it is.
// Threads: any. Memory: the caller's buffer.
#ifndef CORE_STORE_POSTGRES_ARRAY_H
#define CORE_STORE_POSTGRES_ARRAY_H

#include "core/base/buf.h"
#include "core/store.h"

// Appends those of values[0], values[stride], … (rows of them): BIGINT[], TEXT[] or BYTEA[] after the first that is not NULL, whose type the
// others have. Appends nothing when all are NULL.
int postgres_array_append(struct buf *out, const struct sql_value *values, size_t stride, size_t rows) must_use;

#endif
