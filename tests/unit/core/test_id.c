// SPDX-License-Identifier: Apache-2.0
#include "core/id.h"

#include <pthread.h>

#include "tests/support/support.h"

static void test_shape(void **state) {
    (void)state;
    int64_t before = clock_unix_ms();
    struct id id = id_new();
    char text[ID_TEXT_BYTES];
    id_format(&id, text);
    assert_int_equal(strlen(text), 36);
    assert_int_equal(text[14], '7'); // version
    assert_non_null(strchr("89ab", text[19])); // variant
    assert_false(id_is_none(&id));
    assert_in_range(id_unix_ms(&id), before, clock_unix_ms() + 1000);
}

static void test_increasing(void **state) {
    (void)state;
    struct id last = id_new();
    for (int i = 0; i < 200000; i++) {
        struct id id = id_new();
        assert_true(memcmp(last.bytes, id.bytes, sizeof id.bytes) < 0);
        last = id;
    }
}

enum { THREADS = 4, EACH = 20000 };
static void *make_ids(void *arg) {
    struct id *ids = arg;
    for (int i = 0; i < EACH; i++) ids[i] = id_new();
    return NULL;
}

static int compare(const void *a, const void *b) {
    return memcmp(a, b, sizeof(struct id));
}

static void test_threads_never_meet(void **state) {
    (void)state;
    struct id *ids = mem_array((size_t)THREADS * EACH, sizeof *ids);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, make_ids, ids + (ptrdiff_t)i * EACH), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    qsort(ids, (size_t)THREADS * EACH, sizeof *ids, compare);
    for (size_t i = 1; i < (size_t)THREADS * EACH; i++) assert_false(id_eq(&ids[i - 1], &ids[i]));
    free(ids);
}

static void test_derived(void **state) {
    (void)state;
    struct id *ids = mem_array(40000, sizeof *ids);
    for (uint64_t i = 0; i < 40000; i++) ids[i] = id_derive(1700000000000, i / 200, i % 200);
    struct id again = id_derive(1700000000000, 7, 8);
    assert_true(id_eq(&again, &ids[7 * 200 + 8]));
    assert_int_equal(id_unix_ms(&again), 1700000000000);
    char text[ID_TEXT_BYTES];
    id_format(&again, text);
    assert_int_equal(text[14], '7');
    assert_non_null(strchr("89ab", text[19]));
    qsort(ids, 40000, sizeof *ids, compare);
    for (size_t i = 1; i < 40000; i++) assert_false(id_eq(&ids[i - 1], &ids[i]));
    free(ids);
}

static void test_text_round_trip(void **state) {
    (void)state;
    struct id back, none = {{0}};
    for (int i = 0; i < 1000; i++) {
        struct id id = id_new();
        char text[ID_TEXT_BYTES];
        id_format(&id, text);
        assert_int_equal(id_parse(str_of(text), &back), 0);
        assert_true(id_eq(&id, &back));
    }
    assert_int_equal(id_parse(STR_LIT("018F0000-0000-7ABC-8DEF-0123456789AB"), &back), 0); // capitals are read
    assert_int_equal(back.bytes[15], 0xab);
    assert_int_equal(id_parse(STR_LIT("00000000-0000-0000-0000-000000000000"), &back), 0);
    assert_true(id_is_none(&back) && id_eq(&back, &none));
}

static void test_bad_text(void **state) {
    (void)state;
    static const char *const bad[] = {
        "", "x", "018f0000-0000-7abc-8def-0123456789a", "018f0000-0000-7abc-8def-0123456789abc",
        "018f0000x0000-7abc-8def-0123456789ab", "018f0000-0000-7abc-8def-0123456789ag",
        "018f0000-0000-7abc-8def-0123456789a-", "018f0000000007abc08def00123456789abc",
        "018f-0000000-7abc-8def-0123456789abc",
    };
    struct id id = {{0}};
    for (size_t i = 0; i < array_len(bad); i++) assert_int_equal(id_parse(str_of(bad[i]), &id), ERR_INVALID);
    assert_int_equal(id_parse(STR_NONE, &id), ERR_INVALID);
    assert_true(id_is_none(&id)); // untouched
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),           cmocka_unit_test(test_increasing),
        cmocka_unit_test(test_derived), cmocka_unit_test(test_threads_never_meet),
        cmocka_unit_test(test_text_round_trip), cmocka_unit_test(test_bad_text),
    };
    return cmocka_run_group_tests_name("id", tests, NULL, NULL);
}
