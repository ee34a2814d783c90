// SPDX-License-Identifier: Apache-2.0
// Fills a store with dead letters, as workers would have written them: the columns are made by weir's own code.
//
//     dlq_fill STORE COUNT        prints the letters a second; STORE as of `weir serve --store`
//
// Letter n is of function n % FUNCTIONS and of customer n % CUSTOMERS; all that can be asked about follows from n, so that bench/dlq.py knows
// how many letters a question finds. Each was accepted within the last 24 hours and failed four times.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/json_text.h"
#include "dlq/fingerprint.h"
#include "dlq/history.h"
#include "dlq/letters_impl.h"

#define FUNCTIONS 20
#define GROUPS 20 // of each function
#define PARTITIONS 12
#define CUSTOMERS 49999
#define TENANTS 100
#define DAY_MS (24 * 3600 * 1000LL)
#define BATCH 1000
#define BATCHES 4 // on their way to the store
#define COLUMNS 18

static const char *const functions[FUNCTIONS] = {
    "orders",  "payments", "invoices", "shipping", "refunds", "accounts", "search", "prices",  "stock",   "mail",
    "reports", "images",   "exports",  "imports",  "alerts",  "carts",    "coupons", "returns", "reviews", "taxes"};
static const char *const errors[] = {"KeyError", "ValueError",      "TypeError",    "TimeoutError",
                                     "OSError",  "ConnectionError", "RuntimeError", "LookupError"};
static const char *const words[] = {"missing", "negative", "expired", "locked",  "unknown", "duplicate", "malformed", "late",   "rejected", "closed",
                                    "absent",  "stale",    "refused", "foreign", "partial", "oversized", "empty",     "broken", "unsigned", "blocked"};

// What does not fit into a store job: the texts of its letters.
struct letter_text {
    char payload[400], message[200], tenant[16], request[40], at[100], key[16], source[32];
    struct ev *ev;
    struct str history;
    struct buf history_buf, headers, envelope;
    uint64_t fingerprint;
    const char *error;
    int64_t died_ms;
};

struct fill_job {
    struct store_job job;
    struct letter_text at[BATCH];
    size_t count;
    bool busy;
};

static long done_count;

// A number that looks random and follows from n.
static uint64_t mix(uint64_t n) {
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
    return n ^ n >> 31;
}

// --- one letter -----------------------------------------------------------------------------------------------------

static void append_history(struct letter_text *t, const struct ev_fields *f, unsigned group) {
    char stack[700];
    snprintf(stack, sizeof stack,
             "Traceback (most recent call last):\n  File \"/code/fn.py\", line 12, in main_handler\n    return handle(json.loads(event))\n"
             "  File \"/code/%.*s/steps.py\", line 87, in %s_step\n    total = check(event, context, strict=True)\n"
             "  File \"/code/%.*s/rules.py\", line 41, in check_%u\n    raise %s(message)\n%s: %s\n",
             STR_ARG(f->function), words[group], STR_ARG(f->function), group, t->error, t->error, t->message);
    struct str history = STR_NONE;
    for (uint32_t attempt = 1; attempt <= 4; attempt++) {
        const struct outcome_report report = {.outcome = OUTCOME_ERROR,
                                              .error_type = str_of(t->error),
                                              .error_message = str_of(t->message),
                                              .stack = str_of(stack),
                                              .log_tail = STR_LIT("loading order\nchecking rules\n"),
                                              .start_unix_ms = f->accepted_ms + (1 << attempt) * 10000,
                                              .duration_us = 1500 + attempt,
                                              .instance_pid = 4321,
                                              .version = 7};
        struct buf next;
        buf_init(&next, 2 * HISTORY_MAX);
        history_append(&next, history, attempt, &report);
        buf_done(&t->history_buf);
        t->history_buf = next;
        history = buf_str(&t->history_buf);
    }
    t->history = history;
    t->fingerprint = fingerprint_of(f->function, str_of(t->error), str_of(t->message), str_of(stack));
}

static void make_payload(struct letter_text *t, long n) {
    uint64_t r = mix((uint64_t)n);
    snprintf(t->payload, sizeof t->payload,
             "{\"order\":%ld,\"customer\":\"c%ld\",\"amount\":%llu.%02llu,\"currency\":\"%s\",\"items\":[{\"sku\":\"A-%05llu\",\"count\":%llu}],"
             "\"address\":{\"city\":\"Zwolle\",\"street\":\"Molenweg %llu\"},\"note\":\"leave it at the door of number %llu\",\"express\":%s}",
             n, n % CUSTOMERS, (unsigned long long)(r % 1000), (unsigned long long)(r >> 10) % 100, r >> 20 & 1 ? "EUR" : "USD",
             (unsigned long long)(r >> 21) % 100000, (unsigned long long)(r >> 40) % 9 + 1, (unsigned long long)(r >> 44) % 200,
             (unsigned long long)(r >> 44) % 200, r >> 60 & 1 ? "true" : "false");
}

static void make_letter(struct letter_text *t, long n, long count, int64_t from_ms) {
    unsigned function = (unsigned)(n % FUNCTIONS), group = (unsigned)(mix((uint64_t)n + 77) % GROUPS);
    int64_t accepted_ms = from_ms + (int64_t)((double)n / (double)count * (DAY_MS - 300000));
    make_payload(t, n);
    t->error = errors[group % array_len(errors)];
    snprintf(t->message, sizeof t->message, "order %ld of customer c%ld is %s after %ld ms", n, n % CUSTOMERS, words[group], n % 9000);
    snprintf(t->tenant, sizeof t->tenant, "t-%llu", (unsigned long long)mix((uint64_t)n * 5) % TENANTS);
    snprintf(t->request, sizeof t->request, "%016llx", (unsigned long long)mix((uint64_t)n * 3));
    snprintf(t->source, sizeof t->source, "%s-topic", functions[function]);
    snprintf(t->at, sizeof t->at, "{\"topic\":\"%s\",\"partition\":%ld,\"offset\":%ld}", functions[function],
             n / FUNCTIONS % PARTITIONS, n);
    snprintf(t->key, sizeof t->key, "c%ld", n % CUSTOMERS);
    const struct ev_header headers[] = {{STR_LIT("x-tenant"), str_of(t->tenant)},
                                        {STR_LIT("x-request-id"), str_of(t->request)},
                                        {STR_LIT("user-agent"), STR_LIT("shop/4.2")}};
    struct ev_fields f = {.id = id_derive(accepted_ms, (uint64_t)n, (uint64_t)from_ms),
                          .function = str_of(functions[function]),
                          .attempt = 4,
                          .accepted_ms = accepted_ms,
                          .source_kind = STR_LIT("kafka"),
                          .source_name = str_of(t->source),
                          .source_at = str_of(t->at),
                          .ordering_key = str_of(t->key),
                          .content_type = STR_LIT("application/json"),
                          .payload = str_of(t->payload),
                          .headers = headers,
                          .header_count = array_len(headers)};
    t->died_ms = accepted_ms + 180000 + n % 60000;
    append_history(t, &f, group);
    f.history = t->history;
    t->ev = ev_new(&f);
}

// --- writing ----------------------------------------------------------------------------------------------------------

static int fill_values(struct letter_text *t, struct sql_value *v, struct sql_value *body, struct err *err) {
    const struct ev_fields *f = &t->ev->f;
    buf_init(&t->headers, SIZE_MAX / 2);
    buf_init(&t->envelope, SIZE_MAX / 2);
    letters_append_headers(&t->headers, f);
    int rc = letters_append_envelope(&t->envelope, t->ev, err);
    const struct sql_value row[COLUMNS] = {letters_sql_id(&f->id),      SQL_T(f->function),          SQL_I(f->accepted_ms),  SQL_I(t->died_ms),
                                           SQL_I(t->died_ms),           SQL_I(f->attempt),           SQL_I(7),               SQL_I(t->fingerprint),
                                           SQL_Z(t->error),             SQL_Z(t->message),           SQL_T(f->source_kind),  SQL_T(f->source_name),
                                           SQL_T(f->source_at),         SQL_T(f->ordering_key),      SQL_T(f->content_type), SQL_T(buf_str(&t->headers)),
                                           SQL_I(json_text_is_queryable(f->payload)), SQL_B(f->payload)};
    memcpy(v, row, sizeof row);
    body[0] = row[0];
    body[1] = SQL_T(f->history);
    body[2] = SQL_B(buf_str(&t->envelope));
    return rc;
}

static int fill_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct fill_job *j = container_of(job, struct fill_job, job);
    static struct sql_value letters[BATCH * COLUMNS], bodies[BATCH * 3];
    int rc = 0;
    for (size_t i = 0; i < j->count && rc == 0; i++) rc = fill_values(&j->at[i], letters + i * COLUMNS, bodies + i * 3, err);
    if (rc == 0)
        rc = sql_exec_many(sql,
                           "INSERT INTO letters (id, function, state, kind, accepted_ms, died_ms, changed_ms, attempts, version, fingerprint,"
                           " error_type, error_message, source_kind, source_name, source_at, ordering_key, content_type, headers, json, payload)"
                           " VALUES ($1,$2,'dead','function',$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18)",
                           letters, COLUMNS, j->count, err);
    if (rc == 0) rc = sql_exec_many(sql, "INSERT INTO letter_bodies (id, history, event) VALUES ($1,$2,$3)", bodies, 3, j->count, err);
    for (size_t i = 0; i < j->count; i++) {
        buf_done(&j->at[i].headers);
        buf_done(&j->at[i].envelope);
    }
    return rc;
}

static void fill_done(struct store_job *job, int code, const struct err *err) {
    struct fill_job *j = container_of(job, struct fill_job, job);
    if (code) {
        fprintf(stderr, "dlq_fill: %s\n", err->text);
        exit(1);
    }
    for (size_t i = 0; i < j->count; i++) ev_free(j->at[i].ev);
    done_count += (long)j->count;
    j->busy = false;
}

static void fill(struct loop *loop, struct store *store, struct fill_job *jobs, long count) {
    int64_t from_ms = (int64_t)time(NULL) * 1000 - DAY_MS;
    for (long n = 0; done_count < count;) {
        struct fill_job *j = NULL;
        for (size_t i = 0; i < BATCHES && n < count; i++)
            if (!jobs[i].busy) j = &jobs[i];
        if (!j) {
            loop_turn(loop, 100);
            continue;
        }
        for (j->count = 0; j->count < BATCH && n < count; n++) make_letter(&j->at[j->count++], n, count, from_ms);
        j->busy = true;
        store_submit(store, &j->job);
    }
}

int main(int argc, char **argv) {
    struct store *store;
    struct err err;
    struct timespec start, end;
    if (argc != 3) {
        fprintf(stderr, "usage: dlq_fill STORE COUNT\n");
        return 2;
    }
    struct loop *loop = loop_new();
    if (store_open(loop, argv[1], &store, &err)) {
        fprintf(stderr, "dlq_fill: %s\n", err.text);
        return 1;
    }
    struct fill_job *jobs = mem_zalloc(BATCHES * sizeof *jobs);
    for (size_t i = 0; i < BATCHES; i++) {
        jobs[i].job = (struct store_job){.run = fill_run, .done = fill_done};
        for (size_t k = 0; k < BATCH; k++) buf_init(&jobs[i].at[k].history_buf, 2 * HISTORY_MAX);
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    fill(loop, store, jobs, atol(argv[2]));
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.0f\n", (double)done_count / ((double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9));
    store_close(store);
    loop_free(loop);
    return 0;
}
