// SPDX-License-Identifier: Apache-2.0
// Times as people write them.
#include "core/when.h"

#include "tests/support/support.h"

#define NOW_MS INT64_C(1766584800123) // 2025-12-24T14:00:00.123Z

static struct zone *opened(const char *name) {
    struct zone *z = NULL;
    assert_int_equal(zone_open(str_of(name), &z, NULL), 0);
    return z;
}

struct reading {
    const char *text, *is; // is: in UTC
};

static void check(const struct zone *zone, const struct reading *r) {
    int64_t ms;
    struct err err = {0};
    char text[CLOCK_TEXT_BYTES];
    if (when_parse(str_of(r->text), zone, NOW_MS, &ms, &err)) fail_msg("%s: %s", r->text, err.text);
    clock_format_utc(ms, text);
    if (strcmp(text, r->is)) fail_msg("%s is %s, not %s", r->text, text, r->is);
}

static void test_with_offset(void **state) {
    (void)state;
    static const struct reading readings[] = {
        {"2026-12-24T18:00:00Z", "2026-12-24T18:00:00.000Z"},
        {"2026-12-24t18:00z", "2026-12-24T18:00:00.000Z"},
        {"2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00.000Z"},
        {"2026-12-24 18:00-0530", "2026-12-24T23:30:00.000Z"},
        {"2026-12-24T18:00:30+01", "2026-12-24T17:00:30.000Z"},
        {"2026-12-24T18:00:00.5Z", "2026-12-24T18:00:00.500Z"},
        {"2026-12-24T18:00:00.123999999Z", "2026-12-24T18:00:00.123Z"},
        {"2026-12-31T23:59:60Z", "2027-01-01T00:00:00.000Z"},
        {"2024-02-29T00:00Z", "2024-02-29T00:00:00.000Z"},
        {"1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"},
        {"1969-12-31T23:00:00-01:00", "1970-01-01T00:00:00.000Z"},
        {"2099-12-31T23:59:59.999Z", "2099-12-31T23:59:59.999Z"},
    };
    struct zone *berlin = opened("Europe/Berlin"); // must not matter
    for (size_t i = 0; i < array_len(readings); i++) {
        check(NULL, &readings[i]);
        check(berlin, &readings[i]);
    }
    zone_close(berlin);
}

static void test_local(void **state) {
    (void)state;
    static const struct reading in_utc[] = {
        {"2026-12-24T18:00", "2026-12-24T18:00:00.000Z"},
        {"2026-12-24", "2026-12-24T00:00:00.000Z"},
    };
    static const struct reading in_berlin[] = {
        {"2026-12-24T18:00", "2026-12-24T17:00:00.000Z"},
        {"2026-07-24 18:00:30", "2026-07-24T16:00:30.000Z"},
        {"2026-07-24 18:00:30.25", "2026-07-24T16:00:30.250Z"},
        {"2026-12-24", "2026-12-23T23:00:00.000Z"},
        {"2026-03-29T02:30", "2026-03-29T01:00:00.000Z"}, // in the gap: its end
        {"2026-10-25T02:30", "2026-10-25T00:30:00.000Z"}, // twice: the first
        {"2026-12-24T18:00 America/New_York", "2026-12-24T23:00:00.000Z"},
        {"2026-12-24T18:00 Europe/Berlin", "2026-12-24T17:00:00.000Z"},
        {"2026-12-24 18:00 UTC", "2026-12-24T18:00:00.000Z"},
        {"2026-12-24T18:00:00 Z", "2026-12-24T18:00:00.000Z"},
        {"2026-12-24 Asia/Kathmandu", "2026-12-23T18:15:00.000Z"},
        {"2011-12-30 Pacific/Apia", "2011-12-30T10:00:00.000Z"}, // a day that was not there
    };
    struct zone *berlin = opened("Europe/Berlin");
    for (size_t i = 0; i < array_len(in_utc); i++) check(NULL, &in_utc[i]);
    for (size_t i = 0; i < array_len(in_berlin); i++) check(berlin, &in_berlin[i]);
    assert_int_equal(berlin->users, 1); // the one that a text names is let go
    zone_close(berlin);
}

static void test_from_now(void **state) {
    (void)state;
    static const struct reading readings[] = {
        {"now", "2025-12-24T14:00:00.123Z"},  {"+10m", "2025-12-24T14:10:00.123Z"},  {"-2h", "2025-12-24T12:00:00.123Z"},
        {"+3d", "2025-12-27T14:00:00.123Z"},  {"+500ms", "2025-12-24T14:00:00.623Z"}, {"-0s", "2025-12-24T14:00:00.123Z"},
    };
    for (size_t i = 0; i < array_len(readings); i++) check(NULL, &readings[i]);
}

static void refused(struct str text, const char *because) {
    int64_t ms = 42;
    struct err err = {0};
    assert_int_equal(when_parse(text, NULL, NOW_MS, &ms, &err), ERR_INVALID);
    assert_int_equal(ms, 42);
    if (!strstr(err.text, because)) fail_msg("\"%s\" does not say \"%s\"", err.text, because);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *text, *because;
    } bad[] = {
        {"", "it does not begin with a date"},
        {"tomorrow", "it does not begin with a date"},
        {"NOW", "it does not begin with a date"},
        {"20261224", "it does not begin with a date"},
        {" 2026-12-24", "it does not begin with a date"},
        {"2026-1-24", "it does not begin with a date"},
        {"2026-02-29", "\"2026-02-29\" is no time: there is no such day; give a time such as 2026-12-24T18:00+01:00"},
        {"2026-13-01", "there is no such day"},
        {"2026-00-10", "there is no such day"},
        {"2026-12-00", "there is no such day"},
        {"2026-12-24T", "needs hours and minutes"},
        {"2026-12-24T18", "needs hours and minutes"},
        {"2026-12-24 1800", "needs hours and minutes"},
        {"2026-12-24T18:00:0", "seconds have two digits"},
        {"2026-12-24T18:00:00.Z", "digits must follow the point"},
        {"2026-12-24T24:00", "no such time of day"},
        {"2026-12-24T18:60", "no such time of day"},
        {"2026-12-24T18:00:61", "no such time of day"},
        {"2026-12-24T18:00Z!", "something follows the offset"},
        {"2026-12-24T18:00Z UTC", "something follows the offset"},
        {"2026-12-24T18:00!", "no offset from UTC"},
        {"2026-12-24T18:00+1", "the offset from UTC is wrong"},
        {"2026-12-24T18:00+24:00", "the offset from UTC is wrong"},
        {"2026-12-24T18:00+01:60", "the offset from UTC is wrong"},
        {"2026-12-24T18:00+01:", "the offset from UTC is wrong"},
        {"2026-12-24T18:00 Europe/Belrin", "did you mean Europe/Berlin?"},
        {"2026-12-24T18:00 ", "a time zone is needed"},
        {"2026-12-24T18:00 ../UTC", "is no time zone"},
        {"1969-12-31", "not in the years 1970 to 2099"},
        {"1970-01-01T00:00+00:01", "not in the years 1970 to 2099"},
        {"2100-01-01", "not in the years 1970 to 2099"},
        {"9999-12-31", "not in the years 1970 to 2099"},
        {"+", "followed by a duration"},
        {"+10", "followed by a duration"},
        {"-10 m", "followed by a duration"},
        {"+-10m", "followed by a duration"},
        {"+99999999999999999999d", "followed by a duration"},
        {"+9223372036854775807ms", "too far from now"},
        {"-9223372036854775807ms", "not in the years 1970 to 2099"},
        {"+50000d", "not in the years 1970 to 2099"},
    };
    for (size_t i = 0; i < array_len(bad); i++) refused(str_of(bad[i].text), bad[i].because);
    refused(STR_NONE, "is no time");
    refused(STR_LIT("2026-12-24\0"), "no offset from UTC");
    char longest[5000];
    memset(longest, '9', sizeof longest);
    refused((struct str){longest, sizeof longest}, "is no time");
}

static void test_parts(void **state) {
    (void)state;
    static const struct {
        const char *text, *left, *utc;
        int64_t unit_ms;
        int offset_s;
        bool has_offset;
    } readings[] = {
        {"2026-12-24", "", "2026-12-24T00:00:00.000Z", 86400000, 0, false},
        {"2026-12-24T18:00", "", "2026-12-24T18:00:00.000Z", 60000, 0, false},
        {"2026-12-24 18:00:30", "", "2026-12-24T18:00:30.000Z", 1000, 0, false},
        {"2026-12-24T18:00:30.25", "", "2026-12-24T18:00:30.250Z", 1, 0, false},
        {"2026-12-24T18:00:30Z", "", "2026-12-24T18:00:30.000Z", 1000, 0, true},
        {"2026-12-24T18:00-05:30", "", "2026-12-24T23:30:00.000Z", 60000, -19800, true},
        {"2026-12-24+01:00", "", "2026-12-23T23:00:00.000Z", 86400000, 3600, true},
        {"2026-12-24 Europe/Berlin", " Europe/Berlin", "2026-12-24T00:00:00.000Z", 86400000, 0, false},
        {"2026-12-24T18:00Z 7", " 7", "2026-12-24T18:00:00.000Z", 60000, 0, true},
        {"2026-12-24T18:00,", ",", "2026-12-24T18:00:00.000Z", 60000, 0, false},
        {"1066-10-14T09:00Z", "", "1066-10-14T09:00:00.000Z", 60000, 0, true},
    };
    for (size_t i = 0; i < array_len(readings); i++) {
        struct str rest = str_of(readings[i].text);
        struct when w;
        char utc[CLOCK_TEXT_BYTES];
        assert_null(when_take(&rest, &w));
        clock_format_utc(when_unix_ms(&w), utc);
        assert_string_equal(utc, readings[i].utc);
        assert_true(str_is(rest, readings[i].left));
        assert_int_equal(w.unit_ms, readings[i].unit_ms);
        assert_int_equal(w.offset_s, readings[i].offset_s);
        assert_int_equal(w.has_offset, readings[i].has_offset);
    }
}

static void test_what_is_none_is_not_taken(void **state) {
    (void)state;
    struct str rest = STR_LIT("2026-12-24T18:00+1");
    struct when w = {.ms = 42};
    assert_string_equal(when_take(&rest, &w), "the offset from UTC is wrong");
    assert_true(str_is(rest, "2026-12-24T18:00+1"));
    assert_int_equal(w.ms, 42);
    rest = STR_NONE;
    assert_non_null(when_take(&rest, &w));
}

// --- noise ------------------------------------------------------------------------------------------------------------

// The same numbers each time.
static uint32_t chance(uint32_t below) {
    static uint64_t x = 20261224;
    x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(x >> 33) % below;
}

// Texts are copied to a place of just their size, so that a sanitizer sees a step beyond.
static bool try_text(const char *text, size_t len) {
    cleanup_free char *exact = mem_alloc(len ? len : 1);
    memcpy(exact, text, len);
    int64_t ms = -1;
    struct err err = {0};
    int rc = when_parse((struct str){exact, len}, NULL, NOW_MS, &ms, &err);
    if (rc == 0 ? ms < 0 || ms >= WHEN_END_MS : rc != ERR_INVALID || !err.text[0] || ms != -1)
        fail_msg("%.*s: %d, %lld, %s", (int)len, exact, rc, (long long)ms, err.text);
    return rc == 0;
}

static void test_noise(void **state) {
    (void)state;
    static const char *const seeds[] = {"2026-12-24T18:00:00.123+01:00", "2026-12-24 18:00 Asia/Tokyo", "2099-12-31T23:59:60Z", "+3d", "now", "-2h"};
    static const char alphabet[] = "0123456789-+:. TZtz/nowdhms\0\xff";
    size_t good = 0;
    for (int i = 0; i < 100000; i++) {
        char text[40];
        const char *seed = seeds[chance(array_len(seeds))];
        size_t len = chance(4) ? strlen(seed) : chance(sizeof text);
        for (size_t j = 0; j < len; j++) text[j] = (char)chance(256);
        if (len == strlen(seed)) memcpy(text, seed, len);
        for (uint32_t changes = chance(4); changes && len; changes--) text[chance((uint32_t)len)] = alphabet[chance(sizeof alphabet)];
        good += try_text(text, chance(8) ? len : chance((uint32_t)len + 1));
    }
    assert_in_range(good, 10000, 90000); // both sides were reached
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_with_offset), cmocka_unit_test(test_local), cmocka_unit_test(test_from_now),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_parts),  cmocka_unit_test(test_what_is_none_is_not_taken),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
