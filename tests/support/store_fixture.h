// SPDX-License-Identifier: Apache-2.0
// An open store of one kind with an empty table `things (id, n, s, b)`, and calls that run on its thread.
//
// Flow: store_run_cases makes a fixture per kind, opens it before each case and closes it after.
// Threads: the test's; call_fn runs on the store's.
#ifndef TESTS_SUPPORT_STORE_FIXTURE_H
#define TESTS_SUPPORT_STORE_FIXTURE_H

#include "core/store.h"
#include "tests/support/support.h"

struct store_fixture {
    bool postgres;
    char *dir, *url; // dir: of the file, or of the server
    struct loop *loop;
    struct store *store;
};

typedef int call_fn(void *arg, struct sql *sql, struct err *err);
struct call {
    struct store_job job;
    call_fn *fn;
    void *arg;
    bool done;
    int code;
    unsigned place; // among all that are done
    struct err err;
};
void submit(struct store *s, struct call *c, call_fn *fn, void *arg);
int call(struct store_fixture *fx, call_fn *fn, void *arg); // and waits
void open_store(struct store_fixture *fx);

// call_fns on the table.
int make_table(void *arg, struct sql *sql, struct err *err);
int insert_one(void *arg, struct sql *sql, struct err *err); // int64_t: the id
int insert_thing(struct sql *sql, int64_t id, int64_t n, struct err *err);
int read_int(void *arg, const struct sql_row *row);          // a sql_row_fn: the first column
int64_t thing_count(struct store_fixture *fx);

enum store_kind { STORE_BOTH, STORE_SQLITE, STORE_POSTGRES };
struct store_case {
    const char *name;
    CMUnitTestFunction fn; // *state is the struct store_fixture
    enum store_kind kind;
};
// PostgreSQL's run when WEIR_TEST_POSTGRES_URL is set, on a server of their own. Returns how many failed.
int store_run_cases(const struct store_case *cases, size_t count);

#endif
