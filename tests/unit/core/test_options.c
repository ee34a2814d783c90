// SPDX-License-Identifier: Apache-2.0
// core/options: the value syntax, the file with its line numbers, the environment, suggestions.

#include <stdlib.h>
#include <unistd.h>

#include "core/options.h"
#include "tests/support/support.h"

struct fixture {
    char *dir, *path;
    struct options o;
};

static int setup(void **state) {
    struct fixture *f = mem_zalloc(sizeof *f);
    f->dir = temp_dir_new();
    f->path = mem_printf("%s/weir.ini", f->dir);
    options_init(&f->o);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    options_done(&f->o);
    free(f->path);
    temp_dir_remove(f->dir);
    free(f);
    return 0;
}

static void every_default_is_valid(void **state) {
    struct fixture *f = *state;
    for (const struct option_spec *spec = option_specs; spec->name; spec++) {
        const struct option_value *v = options_get(&f->o, spec);
        assert_string_equal(v->text, spec->fallback);
        assert_string_equal(v->origin, "default");
        assert_true(*spec->help);
    }
    assert_int_equal(f->o.grace_ms.number, 30000);
    assert_int_equal(f->o.credit_bytes.number, 64 << 20);
}

static void durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t want; // -1: refused
    } cases[] = {{"250ms", 250},  {"5s", 5000},  {"10m", 600000}, {"6h", 21600000}, {"30d", 2592000000}, {"0", 0},
                 {"0s", 0},       {"", -1},      {"5", -1},       {"s", -1},        {"5 s", -1},         {"-5s", -1},
                 {"+5s", -1},     {"5S", -1},    {"5ss", -1},     {"1.5s", -1},     {"5s ", -1},         {"9223372036854775807ms", INT64_MAX},
                 {"9223372036854775808ms", -1}, {"9223372036854775807s", -1}, {"106751991168d", -1}, {"99999999999999999999999s", -1}};
    for (size_t i = 0; i < array_len(cases); i++) {
        struct err err;
        int64_t ms = -2;
        int rc = parse_duration_ms(str_of(cases[i].text), &ms, &err);
        if (cases[i].want < 0 ? rc != ERR_INVALID || ms != -2 : rc != 0 || ms != cases[i].want)
            fail_msg("%s: %d %lld", cases[i].text, rc, (long long)ms);
    }
}

static void bytes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t want;
    } cases[] = {{"4096", 4096}, {"1B", 1}, {"64KiB", 65536}, {"6MiB", 6 << 20}, {"10GiB", INT64_C(10) << 30}, {"1TiB", INT64_C(1) << 40},
                 {"", -1}, {"KiB", -1}, {"1KB", -1}, {"1k", -1}, {"-1", -1}, {"8388608TiB", -1}, {"9223372036854775808", -1}};
    for (size_t i = 0; i < array_len(cases); i++) {
        struct err err;
        int64_t n = -2;
        int rc = parse_bytes(str_of(cases[i].text), &n, &err);
        if (cases[i].want < 0 ? rc != ERR_INVALID : rc != 0 || n != cases[i].want) fail_msg("%s: %d", cases[i].text, rc);
    }
}

static void lists_of_durations(void **state) {
    (void)state;
    struct err err;
    int64_t out[3];
    assert_int_equal(parse_durations_ms(STR_LIT("1s,5s,30s"), out, 3, &err), 3);
    assert_int_equal(out[2], 30000);
    assert_int_equal(parse_durations_ms(STR_LIT("1s,5s,30s,1m"), out, 3, &err), ERR_INVALID);
    static const char *const wrong[] = {"", ",", "1s,", ",1s", "1s,,2s", "1s;2s", "1s, 2s"};
    for (size_t i = 0; i < array_len(wrong); i++) assert_int_equal(parse_durations_ms(str_of(wrong[i]), out, 3, &err), ERR_INVALID);
}

static void refuse(struct options *o, const char *name, const char *value, const char *word) {
    struct err err;
    assert_int_equal(options_set(o, name, value, "test", &err), ERR_INVALID);
    if (!strstr(err.text, word)) fail_msg("%s=%s: %s", name, value, err.text);
}

static void values_are_checked(void **state) {
    struct fixture *f = *state;
    refuse(&f->o, "credit", "0", "from 1 to 65535");
    refuse(&f->o, "credit", "65536", "from 1 to 65535");
    refuse(&f->o, "credit", "1e3", "whole number");
    refuse(&f->o, "max-body", "1B", "from 1KiB to 1GiB");
    refuse(&f->o, "grace", "2h", "from 0 to 1h");
    refuse(&f->o, "grace", "30", "'30' is not a duration");
    refuse(&f->o, "log-level", "loud", "error|warn|info|debug");
    refuse(&f->o, "log-level", "", "is none of");
    refuse(&f->o, "log-level", "war", "is none of");
    assert_string_equal(f->o.log_level.text, "info");
    struct err err;
    assert_int_equal(options_set(&f->o, "log-level", "debug", "command line", &err), 0);
    assert_string_equal(f->o.log_level.text, "debug");
    assert_string_equal(f->o.log_level.origin, "command line");
}

static void unknown_names_suggest(void **state) {
    struct fixture *f = *state;
    refuse(&f->o, "log-levle", "info", "did you mean 'log-level'");
    refuse(&f->o, "log_level", "info", "did you mean 'log-level'");
    refuse(&f->o, "stor", "x", "did you mean 'store'");
    struct err err;
    assert_int_equal(options_set(&f->o, "zzzzzzzzzzzz", "x", "test", &err), ERR_INVALID);
    assert_null(strstr(err.text, "did you mean"));
    char name[2000];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(options_set(&f->o, name, "x", "test", &err), ERR_INVALID);
}

static int read_text(struct fixture *f, const char *text, struct err *err) {
    cleanup_file FILE *file = fopen(f->path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fflush(file), 0);
    return options_read_file(&f->o, f->path, err);
}

static void reads_a_file(void **state) {
    struct fixture *f = *state;
    struct err err;
    const char *text = "; the server\n\n# also a comment\nlisten = 127.0.0.1:9100\n   credit=7\ngrace : 5s ; soon\n"
                       "queue = amqp://guest:guest@127.0.0.1:5672/v?heartbeat=5";
    assert_int_equal(read_text(f, text, &err), 0);
    assert_string_equal(f->o.listen.text, "127.0.0.1:9100");
    assert_int_equal(f->o.credit.number, 7);
    assert_int_equal(f->o.grace_ms.number, 5000);
    assert_string_equal(f->o.queue.text, "amqp://guest:guest@127.0.0.1:5672/v?heartbeat=5");
    assert_string_equal(f->o.queue.origin, "file");
}

static void refuse_file(struct fixture *f, const char *text, int line, const char *word) {
    struct err err = {0};
    int rc = read_text(f, text, &err);
    cleanup_free char *where = mem_printf("%s:%d: ", f->path, line);
    if (rc != ERR_INVALID || !strstr(err.text, where) || !strstr(err.text, word)) fail_msg("%s -> %d %s", text, rc, err.text);
}

static void file_errors_name_the_line(void **state) {
    struct fixture *f = *state;
    refuse_file(f, "credit = 5\n\nlog-levle = info\ncredit = 0\n", 3, "did you mean 'log-level'");
    refuse_file(f, "credit = 5\ngrace = soon\n", 2, "grace: 'soon' is not a duration");
    refuse_file(f, "credit = 5\nnonsense\n", 2, "name = value");
    refuse_file(f, "nonsense\ncredit = 0\n", 1, "name = value");
    refuse_file(f, "credit = 0\nnonsense\n", 1, "credit");
    refuse_file(f, "[server]\ncredit = 5\n", 2, "no sections");
    refuse_file(f, "credit = 5\ncredit = 6\n", 2, "twice");
    char lines[5000] = "credit = 5\nstore = ";
    size_t used = strlen(lines);
    memset(lines + used, 'x', sizeof lines - used - 1);
    refuse_file(f, lines, 2, "too long");
    struct err err;
    assert_int_equal(options_read_file(&f->o, "/nowhere/weir.ini", &err), ERR_NOT_FOUND);
    assert_int_equal(options_read_file(&f->o, f->dir, &err), ERR_INVALID);
}

static void reads_the_environment(void **state) {
    struct fixture *f = *state;
    struct err err;
    setenv("WEIR_LOG_LEVEL", "warn", 1);
    setenv("WEIR_SERVER", "elsewhere", 1);
    assert_int_equal(options_read_environment(&f->o, &err), 0);
    assert_string_equal(f->o.log_level.text, "warn");
    assert_string_equal(f->o.log_level.origin, "environment");
    setenv("WEIR_CREDIT", "many", 1);
    assert_int_equal(options_read_environment(&f->o, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "WEIR_CREDIT"));
    unsetenv("WEIR_LOG_LEVEL");
    unsetenv("WEIR_SERVER");
    unsetenv("WEIR_CREDIT");
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(every_default_is_valid), test(values_are_checked),    test(unknown_names_suggest),    test(reads_a_file),
        test(file_errors_name_the_line), test(reads_the_environment), cmocka_unit_test(durations), cmocka_unit_test(bytes),
        cmocka_unit_test(lists_of_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
