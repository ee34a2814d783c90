// SPDX-License-Identifier: Apache-2.0
// core/options: the value syntax, ranges, the three places that values come from, and what an error says.
#include "core/options.h"

#include <unistd.h>

#include "tests/support/support.h"

static int setup(void **state) {
    struct options *o = mem_zalloc(sizeof *o);
    options_init(o);
    *state = o;
    return 0;
}

static int teardown(void **state) {
    options_done(*state);
    free(*state);
    return 0;
}

static int write_and_read(struct options *o, const char *text, struct err *err) {
    char *dir = temp_dir_new();
    cleanup_free char *path = mem_printf("%s/weir.ini", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    int rc = options_read_file(o, path, err);
    temp_dir_remove(dir);
    return rc;
}

static void durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"250ms", 250}, {"5s", 5000},          {"10m", 600000},        {"6h", 21600000},
                {"30d", 2592000000}, {"0", 0}, {"0s", 0}, {"007s", 7000}, {"9223372036854775807ms", INT64_MAX}};
    static const char *const bad[] = {"",     "5",    "s",     "-5s",  "+5s",    "5 s", " 5s", "5s ", "1.5s", "5S", "5sec",
                                      "5s6m", "0x5s", "5days", "1m,", "9223372036854775808ms", "9223372036854776s",
                                      "106751991168d", "99999999999999999999s"};
    int64_t ms;
    for (size_t i = 0; i < array_len(good); i++) {
        assert_int_equal(parse_duration_ms(str_of(good[i].text), &ms, NULL), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < array_len(bad); i++) {
        struct err err = {0};
        if (parse_duration_ms(str_of(bad[i]), &ms, &err) != ERR_INVALID) fail_msg("'%s' was taken", bad[i]);
        assert_non_null(strstr(err.text, bad[i]));
    }
    assert_int_equal(parse_duration_ms(STR_NONE, &ms, NULL), ERR_INVALID);
    assert_int_equal(parse_duration_ms((struct str){"5s9", 2}, &ms, NULL), 0); // a span, not a C string
    assert_int_equal(ms, 5000);
}

static void byte_counts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"4096", 4096},      {"64KiB", 65536}, {"6MiB", 6291456}, {"10GiB", INT64_C(10737418240)},
                {"2TiB", INT64_C(2199023255552)}, {"0", 0}, {"7B", 7}, {"9223372036854775807", INT64_MAX}};
    static const char *const bad[] = {"", "KiB", "-1", "64kb", "64KB", "64K", "64 KiB", "1.5MiB", "9223372036854775808",
                                      "9007199254740992KiB", "8388608TiB"};
    int64_t bytes;
    for (size_t i = 0; i < array_len(good); i++) {
        assert_int_equal(parse_bytes(str_of(good[i].text), &bytes, NULL), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < array_len(bad); i++)
        if (parse_bytes(str_of(bad[i]), &bytes, NULL) != ERR_INVALID) fail_msg("'%s' was taken", bad[i]);
}

static void lists_of_durations(void **state) {
    (void)state;
    int64_t out[3] = {0};
    assert_int_equal(parse_durations_ms(STR_LIT("1s,5s,30s"), out, 3, NULL), 3);
    assert_int_equal(out[0], 1000);
    assert_int_equal(out[2], 30000);
    assert_int_equal(parse_durations_ms(STR_LIT("7ms"), out, 3, NULL), 1);
    assert_int_equal(out[0], 7);
    static const char *const bad[] = {"", ",", "1s,", ",1s", "1s,,2s", "1s, 2s", "1s;2s", "1s,2s,3s,4s"};
    for (size_t i = 0; i < array_len(bad); i++)
        if (parse_durations_ms(str_of(bad[i]), out, 3, NULL) != ERR_INVALID) fail_msg("'%s' was taken", bad[i]);
}

static void every_default_is_valid_and_says_so(void **state) {
    struct options *o = *state;
    size_t count = 0;
    for (const struct option_spec *spec = option_specs; spec->name; spec++, count++) {
        const struct option_value *v = options_get(o, spec);
        assert_string_equal(v->text, spec->fallback);
        assert_string_equal(v->origin, "default");
        assert_true(*spec->help);
    }
    assert_true(count > 20);
    assert_int_equal(o->grace_ms.number, 30000);
    assert_int_equal(o->credit_bytes.number, 64 << 20);
    assert_int_equal(o->credit.number, 2000);
    assert_string_equal(o->listen.text, "127.0.0.1:9000");
}

// The least and the most of every number, and one beyond each.
static void ranges_hold_at_both_ends(void **state) {
    struct options *o = *state;
    for (const struct option_spec *spec = option_specs; spec->name; spec++) {
        if (spec->type != OPTION_COUNT && spec->type != OPTION_BYTES && spec->type != OPTION_DURATION) continue;
        const char *unit = spec->type == OPTION_DURATION ? "ms" : "";
        const int64_t tries[] = {spec->least, spec->most, spec->most + 1, spec->least - 1};
        for (size_t i = 0; i < array_len(tries); i++) {
            if (tries[i] < 0) continue;
            cleanup_free char *text = mem_printf("%lld%s", (long long)tries[i], unit);
            struct err err = {0};
            int rc = options_set(o, spec->name, text, "test", &err);
            assert_int_equal(rc, i < 2 ? 0 : ERR_INVALID);
            if (rc) assert_non_null(strstr(err.text, spec->name));
            assert_int_equal(options_get(o, spec)->number, i < 2 ? tries[i] : tries[1]); // a refused one changes nothing
        }
    }
}

static void bounds_are_told_in_their_units(void **state) {
    struct options *o = *state;
    struct err err = {0};
    assert_int_equal(options_set(o, "max-body", "1", "test", &err), ERR_INVALID);
    assert_string_equal(err.text, "max-body: must be from 1KiB to 1GiB");
    assert_int_equal(options_set(o, "grace", "2h", "test", &err), ERR_INVALID);
    assert_string_equal(err.text, "grace: must be from 0 to 1h");
}

static void values_of_the_wrong_form(void **state) {
    struct options *o = *state;
    static const struct {
        const char *name, *value;
    } bad[] = {{"credit", "ten"}, {"credit", ""}, {"credit", "1.0"}, {"credit", "99999999999999999999"}, {"credit", "-1"},
               {"log-level", "INFO"}, {"log-level", ""}, {"log-level", "info|warn"}, {"log-level", "inf"}, {"sandbox", "docker"},
               {"grace", "30"}, {"max-body", "64kb"}};
    for (size_t i = 0; i < array_len(bad); i++) {
        struct err err = {0};
        if (options_set(o, bad[i].name, bad[i].value, "test", &err) != ERR_INVALID)
            fail_msg("%s = '%s' was taken", bad[i].name, bad[i].value);
        assert_int_equal(strncmp(err.text, bad[i].name, strlen(bad[i].name)), 0);
    }
    assert_int_equal(o->credit.number, 2000);
    assert_string_equal(o->log_level.text, "info");
    assert_int_equal(options_set(o, "log-level", "debug", "test", NULL), 0);
    assert_int_equal(options_set(o, "sandbox", "none", "test", NULL), 0);
    assert_string_equal(o->sandbox.origin, "test");
}

static void unknown_names_get_a_suggestion(void **state) {
    struct options *o = *state;
    static const struct {
        const char *name, *meant;
    } near[] = {{"log-levl", "'log-level'"}, {"log_level", "'log-level'"}, {"qeue", "'queue'"}, {"max-conections", "'max-connections'"},
                {"Listen", "'listen'"}};
    for (size_t i = 0; i < array_len(near); i++) {
        struct err err = {0};
        assert_int_equal(options_set(o, near[i].name, "1", "test", &err), ERR_INVALID);
        if (!strstr(err.text, "did you mean") || !strstr(err.text, near[i].meant)) fail_msg("%s", err.text);
    }
    static const char *const far[] = {"bananas", "", "xyzzy-plugh-frobnicate",
                                      "a-name-that-is-much-longer-than-any-option-of-this-program-will-ever-be-and-then-some"};
    for (size_t i = 0; i < array_len(far); i++) {
        struct err err = {0};
        assert_int_equal(options_set(o, far[i], "1", "test", &err), ERR_INVALID);
        assert_null(strstr(err.text, "did you mean"));
    }
}

// --- the file ---------------------------------------------------------------------------------------------------------

static void a_file_sets_what_it_names(void **state) {
    struct options *o = *state;
    struct err err = {0};
    if (write_and_read(o, "; ours\n# too\n\nlisten = 127.0.0.1:9001\n  credit=10\n\tgrace = 5s\nstore = postgresql://a@b/c\n", &err))
        fail_msg("%s", err.text);
    assert_string_equal(o->listen.text, "127.0.0.1:9001");
    assert_string_equal(o->listen.origin, "file");
    assert_int_equal(o->credit.number, 10);
    assert_int_equal(o->grace_ms.number, 5000);
    assert_string_equal(o->store.text, "postgresql://a@b/c");
    assert_string_equal(o->queue.origin, "default");
}

static void errors_in_a_file_name_its_line(void **state) {
    struct options *o = *state;
    static const struct {
        const char *text, *told;
    } bad[] = {
        {"credit = 1\n\n; c\ncredits = 5\n", "weir.ini:4: there is no option 'credits'; did you mean 'credit'?"},
        {"listen = x\ngrace = 5\n", "weir.ini:2: grace: '5' is not a duration"},
        {"credit = 0\n", "weir.ini:1: credit: must be from 1 to 65535"},
        {"credit = 5\nlisten = y\ncredit = 6\n", "weir.ini:3: credit is given twice"},
        {"[server]\ncredit = 5\n", "no sections"},
        {"credit = 5\njust words\n", "weir.ini:2:"},
    };
    for (size_t i = 0; i < array_len(bad); i++) {
        struct err err = {0};
        assert_int_equal(write_and_read(o, bad[i].text, &err), ERR_INVALID);
        if (!strstr(err.text, bad[i].told)) fail_msg("'%s' does not have '%s'", err.text, bad[i].told);
    }
}

static void a_missing_file_is_not_found(void **state) {
    struct err err = {0};
    assert_int_equal(options_read_file(*state, "/nonexistent/weir.ini", &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/weir.ini"));
}

// --- the environment, and who wins ------------------------------------------------------------------------------------

static void the_environment_is_read_by_name(void **state) {
    struct options *o = *state;
    struct err err = {0};
    setenv("WEIR_LOG_LEVEL", "debug", 1);
    setenv("WEIR_MAX_BODY", "2MiB", 1);
    setenv("WEIR_BANANAS", "5", 1); // not ours
    int rc = options_read_environment(o, &err);
    unsetenv("WEIR_LOG_LEVEL");
    unsetenv("WEIR_MAX_BODY");
    unsetenv("WEIR_BANANAS");
    assert_int_equal(rc, 0);
    assert_string_equal(o->log_level.text, "debug");
    assert_string_equal(o->log_level.origin, "environment");
    assert_int_equal(o->max_body_bytes.number, 2 << 20);
    setenv("WEIR_CREDIT", "many", 1);
    rc = options_read_environment(o, &err);
    unsetenv("WEIR_CREDIT");
    assert_int_equal(rc, ERR_INVALID);
    assert_non_null(strstr(err.text, "WEIR_CREDIT"));
    assert_int_equal(o->credit.number, 2000);
}

static void the_command_line_wins_over_environment_over_file(void **state) {
    struct options *o = *state;
    setenv("WEIR_CREDIT", "20", 1);
    setenv("WEIR_GRACE", "20s", 1);
    assert_int_equal(write_and_read(o, "credit = 10\ngrace = 10s\nlog-bytes = 10KiB\n", NULL), 0);
    assert_int_equal(options_read_environment(o, NULL), 0);
    assert_int_equal(options_set(o, "credit", "30", "command line", NULL), 0);
    unsetenv("WEIR_CREDIT");
    unsetenv("WEIR_GRACE");
    assert_int_equal(o->credit.number, 30);
    assert_string_equal(o->credit.origin, "command line");
    assert_int_equal(o->grace_ms.number, 20000);
    assert_string_equal(o->grace_ms.origin, "environment");
    assert_int_equal(o->log_bytes.number, 10240);
    assert_string_equal(o->log_bytes.origin, "file");
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(byte_counts),
        cmocka_unit_test(lists_of_durations),
        CASE(every_default_is_valid_and_says_so),
        CASE(ranges_hold_at_both_ends),
        CASE(bounds_are_told_in_their_units),
        CASE(values_of_the_wrong_form),
        CASE(unknown_names_get_a_suggestion),
        CASE(a_file_sets_what_it_names),
        CASE(errors_in_a_file_name_its_line),
        CASE(a_missing_file_is_not_found),
        CASE(the_environment_is_read_by_name),
        CASE(the_command_line_wins_over_environment_over_file),
    };
    return cmocka_run_group_tests_name("core/options", tests, NULL, NULL);
}
