// SPDX-License-Identifier: Apache-2.0
// What an expression is read as, what it is in words, and what is said of a wrong one.
#include "triggers/cron.h"

#include "tests/support/support.h"

static struct cron parsed(const char *text) {
    struct cron c;
    struct str zone;
    struct err err = {0};
    if (cron_parse(str_of(text), &c, &zone, NULL, &err)) fail_msg("\"%s\": %s", text, err.text);
    return c;
}

// ---- reading ---------------------------------------------------------------------------------------------------------------

static void test_seven_fields(void **state) {
    (void)state;
    struct cron c = parsed(" 5,50-52\t*/20 22/1 L,L-3,LW,15W,1-2 jan,3 5L,MON#2,7 1970,2099 ");
    assert_int_equal(c.fields, 7);
    assert_int_equal(c.seconds, 1ULL << 5 | 7ULL << 50);
    assert_int_equal(c.minutes, 1ULL | 1ULL << 20 | 1ULL << 40);
    assert_int_equal(c.hours, 3U << 22);
    assert_int_equal(c.days, 1U << 1 | 1U << 2);
    assert_int_equal(c.last_days, 1U | 1U << 3);
    assert_int_equal(c.near_days, 1U | 1U << 15);
    assert_int_equal(c.months, 1U << 1 | 1U << 3);
    assert_int_equal(c.weekdays, 1);
    assert_int_equal(c.last_weekdays, 1U << 5);
    assert_int_equal(c.nth_weekdays[1], 1U << 1);
    assert_int_equal(c.years[0], 1);
    assert_int_equal(c.years[1], 0);
    assert_int_equal(c.years[2], 2);
    assert_false(c.any_day || c.any_weekday || c.both || c.fixed);
}

static void test_weekday_ranges(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int bits;
    } cases[] = {{"FRI-SUN", 0x61}, {"5-7", 0x61}, {"SAT-SUN", 0x41}, {"0-7", 0x7f}, {"SUN-TUE", 0x07}, {"7", 1},
                 {"1/2", 0x2a},     {"*/3", 0x49}, {"7/2", 0x55},     {"mOn", 2},    {"MON-FRI/2", 0x2a}};
    for (size_t i = 0; i < array_len(cases); i++) {
        char text[64];
        assert_int_equal(text_format(text, sizeof text, "0 0 * * %s", cases[i].text), 0);
        assert_int_equal(parsed(text).weekdays, cases[i].bits);
    }
}

// Which of day and weekday restrict, and whether both must match.
static void test_day_and_weekday(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool any_day, any_weekday, both;
    } cases[] = {
        {"0 0 * * *", true, true, false},      {"0 0 ? * ?", true, true, false},     {"0 0 1 * *", false, true, false},
        {"0 0 * * 1", true, false, false},     {"0 0 1 * 1", false, false, false},   {"0 0 */2 * 1", false, false, true},
        {"0 0 1 * */2", false, false, true},   {"0 0 0 */2 * 1", false, false, false}, {"0 0 0 1 * ? *", false, true, false},
        {"0 0 0 ? * 1 *", true, false, false}, {"0 0 */1 * 1", true, false, false},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct cron c = parsed(cases[i].text);
        if (c.any_day != cases[i].any_day || c.any_weekday != cases[i].any_weekday || c.both != cases[i].both) fail_msg("%s", cases[i].text);
    }
}

static void test_fixed(void **state) {
    (void)state;
    assert_true(parsed("30 2 * * *").fixed);
    assert_true(parsed("0 30 2 * * * *").fixed);
    assert_true(parsed("0 0/5 1-3 * * *").fixed);
    assert_true(parsed("@daily").fixed);
    assert_false(parsed("@hourly").fixed);
    assert_false(parsed("*/5 2 * * *").fixed);
    assert_false(parsed("* 30 2 * * *").fixed);
}

static void test_words_of_one(void **state) {
    (void)state;
    assert_int_equal(parsed("@every 90s").every_s, 90);
    assert_int_equal(parsed("@every 1d2h3m4s").every_s, 86400 + 2 * 3600 + 3 * 60 + 4);
    assert_int_equal(parsed("@every 366d").every_s, (int64_t)366 * 86400);
    struct cron weekly = parsed("@WEEKLY");
    assert_int_equal(weekly.fields, 0);
    assert_int_equal(weekly.weekdays, 1);
}

static void test_zone(void **state) {
    (void)state;
    static const char *const texts[] = {"CRON_TZ=Europe/Berlin 0 9 * * *", " TZ=Europe/Berlin  @daily"};
    struct cron c;
    struct str zone;
    struct err err = {0};
    struct cron_error where;
    for (size_t i = 0; i < array_len(texts); i++) {
        assert_int_equal(cron_parse(str_of(texts[i]), &c, &zone, &where, &err), 0);
        assert_true(str_is(zone, "Europe/Berlin"));
        assert_int_equal(cron_parse(str_of(texts[i]), &c, NULL, &where, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, "not part of the expression"));
    }
    assert_int_equal(cron_parse(str_of("@daily"), &c, &zone, &where, &err), 0);
    assert_int_equal(zone.len, 0);
}

static void test_dst_words(void **state) {
    (void)state;
    enum cron_dst d;
    struct err err = {0};
    for (int i = CRON_DST_CRON; i <= CRON_DST_BOTH; i++) {
        assert_int_equal(cron_dst_parse(str_of(cron_dst_word((enum cron_dst)i)), &d, &err), 0);
        assert_int_equal(d, i);
    }
    assert_int_equal(cron_dst_parse(STR_LIT("never"), &d, &err), ERR_INVALID);
}

// ---- refusing --------------------------------------------------------------------------------------------------------------

// Braces enclose what the error must point at.
static const struct {
    const char *text;
    int field;
    const char *says;
} wrong[] = {
    {"0 {24} * * *", 2, "field 2 (hour): 24 is above 23"},
    {" 0 0 {24} * * *", 3, "field 3 (hour): 24 is above 23"},
    {"{60} * * * *", 1, "field 1 (minute): 60 is above 59"},
    {"{60} * * * * *", 1, "field 1 (second): 60 is above 59"},
    {"0 0 {0} * *", 3, "field 3 (day): 0 is below 1"},
    {"0 0 1-{32} * *", 3, "32 is above 31"},
    {"0 0 * {13} *", 4, "field 4 (month): 13 is above 12"},
    {"0 0 * * {8}", 5, "field 5 (weekday): 8 is above 7"},
    {"0 0 0 * * * {2100}", 7, "field 7 (year): 2100 is above 2099"},
    {"0 0 0 * * * {1969}", 7, "1969 is below 1970"},
    {"0 10 * * 1 {2026}", 6, "with a year 7 fields are wanted"},
    {"99999999999999999999 * * * *", 1, "is above 59"},
    {"*/{0} * * * *", 1, "a step of 0"},
    {"*/{90} * * * *", 1, "write @every 90m"},
    {"0 0 * */{13} *", 4, "the step 13 is above 12"},
    {"*/{} * * * *", 1, "after / a step is wanted"},
    {"0 {22-2} * * *", 2, "write 22-23,0-2"},
    {"0 {22-2/2} * * *", 2, "write 22,0-2/2"},
    {"0 0 * * {FRI-MON}", 5, "write FRI-SAT,SUN-MON"},
    {"0 0 * * {7-2}", 5, "write 0-2"},
    {"0 0 * {NOV-FEB} *", 4, "write NOV-DEC,JAN-FEB"},
    {"0 0 0 * * * {2030-2026}", 7, "write 2026-2030"},
    {"1,{},2 * * * *", 1, "a value is missing"},
    {"1,{} * * * *", 1, "a value is missing"},
    {"1-{} * * * *", 1, "a value is missing"},
    {"{x} * * * *", 1, "\"x\" is not understood"},
    {"{1-2-3} * * * *", 1, "is not understood"},
    {"{**} * * * *", 1, "is not understood"},
    {"{5#2} * * * *", 1, "is not understood"},
    {"0 0 * {JANUARY} *", 4, "JAN to DEC"},
    {"0 0 * * {FRIDAY}", 5, "SUN to SAT"},
    {"0 0 * * {L}", 5, "FRIL is the last Friday"},
    {"0 0 * * FRI#{6}", 5, "1st to the 5th"},
    {"0 0 * * FRI#{0}", 5, "1st to the 5th"},
    {"0 0 * * {FRI#}", 5, "FRI#2 is the second"},
    {"0 0 * * {MON-FRIL}", 5, "is not understood"},
    {"0 0 L-{31} * *", 3, "30 is the most"},
    {"0 0 {L-3W} * *", 3, "is not understood"},
    {"0 0 {32}W * *", 3, "32 is above 31"},
    {"0 0 {1-5W} * *", 3, "is not understood"},
    {"{?} * * * *", 1, "? stands alone"},
    {"0 0 {?/2} * *", 3, "? stands alone"},
    {"0 0 1,{?} * *", 3, "? stands alone"},
    {"{* * * *}", 0, "5, 6 or 7 fields are wanted, this has 4"},
    {" {* * * * * * * *} ", 0, "this has 8"},
    {"{}", 0, "this has 0"},
    {"{@reboot}", 0, "servers come and go"},
    {"{@fortnightly}", 0, "there are @yearly"},
    {"@daily {5}", 0, "@daily stands alone"},
    {"@every {5}", 0, "90s, 5m, 1h30m or 1d"},
    {"@every {5m1h}", 0, "90s, 5m, 1h30m or 1d"},
    {"@every {1.5h}", 0, "90s, 5m, 1h30m or 1d"},
    {"@every {0s}", 0, "between 1s and 366d"},
    {"@every {366d1s}", 0, "between 1s and 366d"},
    {"@every {99999999999999999999s}", 0, "between 1s and 366d"},
    {"@every{}", 0, "90s, 5m, 1h30m or 1d"},
    {"{cron(0 10 * * ? *)}", 0, "\"0 0 10 * * ? *\""},
    {"{rate(5 minutes)}", 0, "write @every 5m"},
    {"{rate(1 day)}", 0, "write @every 1d"},
    {"{CRON_TZ=} 0 9 * * *", 0, "CRON_TZ=Europe/Berlin"},
    {"0 0 {\x01\xff\x1b[} * *", 3, "\"???[\" is not understood"},
};

static void refused(const char *marked, int field, const char *says) {
    char text[128];
    size_t len = 0, marks = 0, mark[2] = {0, 0};
    for (const char *at = marked; *at; at++) {
        if (*at == '{' || *at == '}') mark[marks++] = len;
        else text[len++] = *at;
    }
    struct cron c = {.fields = 99};
    struct str zone;
    struct err err = {0};
    struct cron_error where = {-1, 0, 0};
    assert_int_equal(cron_parse((struct str){text, len}, &c, &zone, &where, &err), ERR_INVALID);
    if (!strstr(err.text, says)) fail_msg("%s: \"%s\" does not say \"%s\"", marked, err.text, says);
    if (where.field != field) fail_msg("%s: field %d", marked, where.field);
    if (marks && (where.begin != mark[0] || where.end != mark[1])) fail_msg("%s: points at %zu to %zu", marked, where.begin, where.end);
    assert_int_equal(c.fields, 99);
}

static void test_wrong(void **state) {
    (void)state;
    for (size_t i = 0; i < array_len(wrong); i++) refused(wrong[i].text, wrong[i].field, wrong[i].says);
    char longest[CRON_TEXT_MAX + 1];
    memset(longest, ' ', sizeof longest);
    memcpy(longest, "@daily", 6);
    struct cron c;
    struct err err = {0};
    struct cron_error where;
    assert_int_equal(cron_parse((struct str){longest, CRON_TEXT_MAX}, &c, NULL, &where, &err), 0);
    assert_int_equal(cron_parse((struct str){longest, CRON_TEXT_MAX + 1}, &c, NULL, &where, &err), ERR_INVALID);
    assert_int_equal(cron_parse(STR_NONE, &c, NULL, &where, &err), ERR_INVALID);
}

// ---- in words --------------------------------------------------------------------------------------------------------------

static const struct {
    const char *text, *words;
} told[] = {
    {"0 30 2 * * * *", "at 02:30, every day"},
    {"0 0 10,14,16 * * * *", "at 10:00, 14:00 and 16:00, every day"},
    {"15 30 2 * * *", "at 02:30:15, every day"},
    {"*/5 * * * *", "every 5 minutes"},
    {"*/7 * * * *", "at every 7th minute from 0 to 56 of every hour"},
    {"1/5 * * * *", "at every 5th minute from 1 to 56 of every hour"},
    {"* * * * * *", "every second"},
    {"* * * * *", "every minute"},
    {"@hourly", "every hour"},
    {"30 * * * *", "at minute 30 of every hour"},
    {"0 */2 * * *", "every 2 hours"},
    {"0 1/2 * * *", "every 2 hours from 01:00 to 23:00"},
    {"0 */5 * * *", "every 5 hours from 00:00 to 20:00"},
    {"0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00, every day"},
    {"30 9-17 * * *", "every hour from 09:30 to 17:30"},
    {"*/5 9-17 * * 1-5", "every 5 minutes from 09:00 to 17:55, Monday to Friday"},
    {"* 9 * * *", "every minute from 09:00 to 09:59"},
    {"*/5 9,11 * * *", "at every 5th minute from 0 to 55 of hours 9 and 11"},
    {"*/10 * * * * *", "every 10 seconds"},
    {"*/10 30 * * * *", "every 10 seconds of minute 30 of every hour"},
    {"5/10 * * * * *", "at every 10th second from 5 to 55 of every minute"},
    {"15 3,7 1-3,9 * * *", "at second 15 of minutes 3 and 7 of hours 1 to 3 and 9"},
    {"0 9 * * MON-FRI", "at 09:00, Monday to Friday"},
    {"0 9 * * 1,3", "at 09:00 on Monday and Wednesday"},
    {"0 0 0 L * ?", "at 00:00 on the last day of the month"},
    {"0 0 0 L-3,LW * ?", "at 00:00 on the last Monday-to-Friday day of the month and the 3rd day before the last of the month"},
    {"0 0 0 15W * ?", "at 00:00 on the Monday-to-Friday day nearest to day 15"},
    {"0 0 9 ? * 2#1", "at 09:00 on the first Tuesday of the month"},
    {"0 0 9 ? * FRIL", "at 09:00 on the last Friday of the month"},
    {"0 0 1,15 * *", "at 00:00 on days 1 and 15"},
    {"0 0 13 * 5", "at 00:00 on day 13, and also on Friday"},
    {"0 0 */2 * 5", "at 00:00 on every 2nd day from 1 to 31 of the month if that is Friday"},
    {"0 0 13 3 5", "at 00:00 on day 13, and also on Friday, in March"},
    {"0 0 0 29 2 ? 2096", "at 00:00 on day 29 in February of 2096"},
    {"0 0 1 JAN-MAR,DEC *", "at 00:00 on day 1 in January to March and December"},
    {"0 0 12 ? * * 2026,2028", "at 12:00, every day in 2026 and 2028"},
    {"@every 5m", "every 5 minutes"},
    {"@every 1h30m", "every 1 hour and 30 minutes"},
    {"@every 1d", "every 24 hours"},
    {"@every 1s", "every second"},
};

static void test_words(void **state) {
    (void)state;
    struct err err = {0};
    for (size_t i = 0; i < array_len(told); i++) {
        struct cron c = parsed(told[i].text);
        struct buf out;
        buf_init(&out, 1000);
        assert_int_equal(cron_words(&c, &out, &err), 0);
        if (!str_is(buf_str(&out), told[i].words)) fail_msg("%s: \"%.*s\"", told[i].text, STR_ARG(buf_str(&out)));
        buf_done(&out);
        buf_init(&out, strlen(told[i].words) - 1);
        assert_int_equal(cron_words(&c, &out, &err), ERR_TOO_LARGE);
        buf_done(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seven_fields), cmocka_unit_test(test_weekday_ranges), cmocka_unit_test(test_day_and_weekday),
        cmocka_unit_test(test_fixed),        cmocka_unit_test(test_words_of_one),   cmocka_unit_test(test_zone),
        cmocka_unit_test(test_dst_words),    cmocka_unit_test(test_wrong),          cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
