// SPDX-License-Identifier: Apache-2.0
// core/offsets: what is committed and encoded is exactly what was finished, in whatever order, with gaps.
#include "tests/support/support.h"

#include "core/offsets.h"

#define SPAN 600 // offsets of one round

enum was { GAP, OUT, FINISHED, UNREAD };

static uint64_t seed;

static uint32_t random_below(uint32_t n) { // xorshift64*
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)((seed * 0x2545f4914f6cdd1du) >> 33) % n;
}

static struct str encoded(const struct offsets *o, char text[OFFSETS_TEXT_MAX + 1]) {
    size_t n = offsets_encode(o, text);
    assert_int_equal(n, strlen(text));
    assert_true(n <= OFFSETS_TEXT_MAX);
    return (struct str){text, n};
}

// Reads all of `was` again from what o commits to: what comes must be what was not finished.
static void check_restart(const struct offsets *o, const enum was was[SPAN]) {
    char text[OFFSETS_TEXT_MAX + 1];
    struct offsets again = {0};
    uint32_t slot;
    assert_true(offsets_begin(&again, offsets_commit_point(o), encoded(o, text)));
    for (int64_t i = offsets_commit_point(o); i < SPAN; i++) {
        if (was[i] == GAP) continue;
        bool taken = offsets_take(&again, i, &slot);
        if (taken != (was[i] != FINISHED)) fail_msg("offset %d: %s", (int)i, taken ? "run again" : "lost");
    }
    for (int64_t i = 0; i < offsets_commit_point(o); i++) assert_true(was[i] == FINISHED || was[i] == GAP);
    offsets_done(&again);
}

static void one_round(void) {
    enum was was[SPAN];
    uint32_t slots[SPAN], read = 0, gaps = random_below(4), hold = 1 + random_below(5);
    struct offsets o = {0};
    for (int i = 0; i < SPAN; i++) was[i] = gaps && random_below(gaps + 1) == 0 ? GAP : UNREAD;
    assert_true(offsets_begin(&o, 0, STR_LIT("")));
    for (int step = 0; step < 2 * SPAN; step++) {
        if (random_below(2) && read < SPAN) {
            if (was[read] != GAP) {
                assert_true(offsets_take(&o, read, &slots[read]));
                was[read] = OUT;
            }
            read++;
        } else if (read) {
            uint32_t at = random_below(read);
            if (was[at] == OUT && random_below(hold)) {
                offsets_finish(&o, slots[at]);
                was[at] = FINISHED;
            }
        }
        if (random_below(100) == 0) check_restart(&o, was);
    }
    check_restart(&o, was);
    offsets_done(&o);
}

static void test_any_order(void **state) {
    (void)state;
    for (uint64_t i = 1; i <= 300; i++) {
        seed = i * 0x9e3779b97f4a7c15u;
        one_round();
    }
}

// A restart of a restart: what the first metadata said survives in the second.
static void test_metadata_is_carried_on(void **state) {
    (void)state;
    char text[OFFSETS_TEXT_MAX + 1];
    struct offsets a = {0}, b = {0}, c = {0};
    uint32_t slots[100], slot;
    (void)offsets_begin(&a, 1000, STR_LIT(""));
    for (int i = 0; i < 100; i++) assert_true(offsets_take(&a, 1000 + i, &slots[i]));
    for (int i = 0; i < 100; i++)
        if (i % 10) offsets_finish(&a, slots[i]);
    assert_int_equal(offsets_commit_point(&a), 1000);
    assert_int_equal(offsets_finished_beyond(&a), 90);
    assert_true(offsets_begin(&b, 1000, encoded(&a, text)));
    assert_int_equal(offsets_finished_beyond(&b), 90);
    assert_true(offsets_take(&b, 1000, &slot));
    offsets_finish(&b, slot);
    for (int i = 1; i < 10; i++) assert_false(offsets_take(&b, 1000 + i, &slot));
    assert_int_equal(offsets_commit_point(&b), 1010);
    assert_true(offsets_begin(&c, 1010, encoded(&b, text)));
    for (int i = 10; i < 100; i++) assert_int_equal(offsets_take(&c, 1000 + i, &slot), i % 10 == 0);
    offsets_done(&a);
    offsets_done(&b);
    offsets_done(&c);
}

// Finishes of [1000, 1100) what is so by `is`, and tells it as a commit.
static struct str finished_where(bool (*is)(int), char text[OFFSETS_TEXT_MAX + 1]) {
    struct offsets o = {0};
    uint32_t slots[100];
    (void)offsets_begin(&o, 1000, STR_LIT(""));
    for (int i = 0; i < 100; i++) assert_true(offsets_take(&o, 1000 + i, &slots[i]));
    for (int i = 0; i < 100; i++)
        if (is(i)) offsets_finish(&o, slots[i]);
    struct str told = encoded(&o, text);
    assert_int_equal(offsets_commit_point(&o), 1000);
    offsets_done(&o);
    return told;
}

static bool is_third(int i) {
    return i % 3 == 1;
}

static bool is_late(int i) {
    return i >= 50 && i % 7;
}

static void test_two_commits_are_known(void **state) {
    (void)state;
    char thirds[OFFSETS_TEXT_MAX + 1], late[OFFSETS_TEXT_MAX + 1], text[OFFSETS_TEXT_MAX + 1];
    struct str a = finished_where(is_third, thirds), b = finished_where(is_late, late);
    struct offsets o = {0};
    uint32_t slot;
    for (int turn = 0; turn < 2; turn++) {
        assert_true(offsets_begin(&o, 1000, turn ? b : a));
        assert_true(offsets_know(&o, 1000, turn ? a : b));
        for (int i = 0; i < 100; i++) assert_int_equal(offsets_take(&o, 1000 + i, &slot), !is_third(i) && !is_late(i));
        assert_true(offsets_begin(&o, 1060, STR_LIT(""))); // further on, what lies before it is no news
        assert_true(offsets_know(&o, 1000, turn ? a : b));
        (void)encoded(&o, text);
        for (int i = 60; i < 100; i++) assert_int_equal(offsets_take(&o, 1000 + i, &slot), !(turn ? is_third(i) : is_late(i)));
    }
    assert_true(offsets_begin(&o, 1000, a));
    assert_false(offsets_know(&o, 1001, b));
    assert_true(offsets_know(&o, 1000, STR_LIT("")));
    for (int i = 0; i < 100; i++) assert_int_equal(offsets_take(&o, 1000 + i, &slot), !is_third(i));
    offsets_done(&o);
}

static void test_what_is_not_ours_is_ignored(void **state) {
    (void)state;
    static const char *const others[] = {"x", "w", "wAAAA", "w!!!!!!!!", "some consumer on host 7", "wAAAAAAEB"};
    char text[OFFSETS_TEXT_MAX + 1];
    struct offsets o = {0}, other = {0};
    uint32_t slots[3], slot;
    for (size_t i = 0; i < array_len(others); i++) {
        assert_false(offsets_begin(&o, 5, str_of(others[i])));
        for (int k = 0; k < 5; k++) assert_true(offsets_take(&o, 5 + k, &slot));
    }
    (void)offsets_begin(&o, 5, STR_LIT(""));
    for (int i = 0; i < 3; i++) assert_true(offsets_take(&o, 5 + i, &slots[i]));
    offsets_finish(&o, slots[1]);
    struct str good = encoded(&o, text);
    assert_false(offsets_begin(&other, 6, good)); // moved to another offset by somebody who kept the metadata
    for (size_t i = 0; i < good.len; i++) {
        char broken[OFFSETS_TEXT_MAX + 1];
        memcpy(broken, text, good.len);
        broken[i] = (char)(broken[i] == 'A' ? 'B' : 'A');
        assert_false(offsets_begin(&other, 5, (struct str){broken, good.len}));
        assert_false(offsets_begin(&other, 5, (struct str){text, i ? i : 1}));
    }
    offsets_done(&o);
    offsets_done(&other);
}

static void test_released_comes_again(void **state) {
    (void)state;
    struct offsets o = {0};
    uint32_t slots[10], slot;
    (void)offsets_begin(&o, 0, STR_LIT(""));
    for (int i = 0; i < 10; i++) assert_true(offsets_take(&o, i, &slots[i]));
    offsets_finish(&o, slots[4]);
    offsets_release(&o, slots[3]);
    offsets_release(&o, slots[6]);
    offsets_release(&o, slots[7]);
    assert_false(offsets_is_out(&o, slots[3]));
    assert_int_equal(offsets_reread(&o), 3);
    for (int i = 3; i < 10; i++) { // 7 was compacted away meanwhile
        if (i == 7) continue;
        bool taken = offsets_take(&o, i, &slot);
        assert_int_equal(taken, i == 3 || i == 6);
        if (taken) assert_int_equal(slot, slots[i]);
        if (taken) assert_int_equal(o.slots[slot].deliveries, 1);
    }
    assert_int_equal(o.released, 0);
    assert_int_equal(o.count, 8);
    assert_true(offsets_take(&o, 10, &slot));
    for (int i = 0; i < 10; i++)
        if (i != 4 && i != 7) offsets_finish(&o, slots[i]);
    assert_int_equal(offsets_commit_point(&o), 10);
    offsets_finish(&o, slot);
    assert_int_equal(offsets_commit_point(&o), 11);
    offsets_done(&o);
}

// As long as there is room, what is encoded is complete, whatever is finished next (up to OFFSETS_SPLITS more holes).
static void test_room(void **state) {
    (void)state;
    char text[OFFSETS_TEXT_MAX + 1];
    struct offsets o = {0}, again = {0};
    static uint32_t slots[100000];
    uint32_t n = 0, slot;
    (void)offsets_begin(&o, 7, STR_LIT(""));
    while (n < array_len(slots) && offsets_has_room(&o)) {
        assert_true(offsets_take(&o, 7 + n, &slots[n]));
        if (n % 2) offsets_finish(&o, slots[n]);
        n++;
    }
    assert_in_range(n, 1000, 4000); // 2 bytes a hole, 3,000 bytes
    assert_true(offsets_begin(&again, 7, encoded(&o, text)));
    for (uint32_t i = 0; i < n; i++) assert_int_equal(offsets_take(&again, 7 + i, &slot), i % 2 == 0);
    // Without room, what does not fit is unfinished to the next reader, never the other way round.
    for (; n < 20000; n++) {
        assert_true(offsets_take(&o, 7 + n, &slots[n]));
        if (n % 2) offsets_finish(&o, slots[n]);
    }
    assert_true(offsets_begin(&again, 7, encoded(&o, text)));
    for (uint32_t i = 0; i < n; i++) {
        bool taken = offsets_take(&again, 7 + i, &slot);
        if (i % 2 == 0) assert_true(taken);
    }
    for (uint32_t i = 0; i < n; i += 2) offsets_finish(&o, slots[i]);
    assert_true(offsets_has_room(&o));
    assert_int_equal(offsets_encode(&o, text), 0);
    offsets_done(&o);
    offsets_done(&again);
}

// One record that does not end, and millions behind it that did.
static void test_long_wait(void **state) {
    (void)state;
    char text[OFFSETS_TEXT_MAX + 1];
    struct offsets o = {0};
    uint32_t first, slot;
    (void)offsets_begin(&o, INT64_C(1) << 40, STR_LIT(""));
    assert_true(offsets_take(&o, INT64_C(1) << 40, &first));
    for (int64_t i = 1; i < 2000000; i++) {
        assert_true(offsets_take(&o, (INT64_C(1) << 40) + i, &slot));
        offsets_finish(&o, slot);
    }
    assert_true(offsets_has_room(&o));
    assert_true(o.room < 100);
    assert_true(offsets_encode(&o, text) < 30);
    assert_int_equal(offsets_finished_beyond(&o), 1999999);
    offsets_done(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_metadata_is_carried_on),
        cmocka_unit_test(test_two_commits_are_known),
        cmocka_unit_test(test_what_is_not_ours_is_ignored),
        cmocka_unit_test(test_released_comes_again),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_long_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
