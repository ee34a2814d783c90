// SPDX-License-Identifier: Apache-2.0
// core/ini_file: what reaches the callback, and which line an error names.
#include "core/ini_file.h"
#include "tests/support/support.h"

struct seen {
    char text[400];
    const char *refuse; // a name
};

static int on_entry(void *arg, const char *section, const char *name, const char *value, struct err *err) {
    struct seen *s = arg;
    if (s->refuse && strcmp(name, s->refuse) == 0) return err_set(err, ERR_INVALID, "no %s here", name);
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof s->text - used, "[%s]%s=%s;", section, name, value);
    return 0;
}

static int read_text(const char *text, struct seen *s, struct err *err) {
    char *dir = temp_dir_new();
    cleanup_free char *path = mem_printf("%s/file.ini", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    int rc = ini_file_read(path, on_entry, s, err);
    temp_dir_remove(dir);
    return rc;
}

static void sections_names_and_values(void **state) {
    (void)state;
    struct seen s = {0};
    struct err err = {0};
    int rc = read_text("; a comment\n# another\na = 1\n\n  b=two words  \n[part]\nc = x ; said by the way\n\td = \n", &s, &err);
    if (rc) fail_msg("%s", err.text);
    assert_string_equal(s.text, "[]a=1;[]b=two words;[part]c=x;[part]d=;");
}

static void a_refused_entry_is_told_with_its_line(void **state) {
    (void)state;
    struct seen s = {.refuse = "b"};
    struct err err = {0};
    assert_int_equal(read_text("a = 1\n\nb = 2\nc = 3\n", &s, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "file.ini:3: no b here"));
    assert_string_equal(s.text, "[]a=1;"); // nothing after it
}

static void a_line_that_is_neither_is_told(void **state) {
    (void)state;
    struct seen s = {0};
    struct err err = {0};
    assert_int_equal(read_text("a = 1\nnonsense\nb = 2\n", &s, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "file.ini:2:"));
}

static void a_line_is_never_cut(void **state) {
    (void)state;
    cleanup_free char *text = mem_zalloc(5000);
    strcpy(text, "a = 1\nb = ");
    memset(text + strlen(text), 'x', 4000);
    struct seen s = {0};
    struct err err = {0};
    assert_int_equal(read_text(text, &s, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "file.ini:2:"));
}

static void no_file_is_not_found(void **state) {
    (void)state;
    struct seen s = {0};
    struct err err = {0};
    assert_int_equal(ini_file_read("/nonexistent/file.ini", on_entry, &s, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/file.ini"));
    assert_int_equal(ini_file_read("/", on_entry, &s, &err), ERR_INVALID); // a folder
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_names_and_values), cmocka_unit_test(a_refused_entry_is_told_with_its_line),
        cmocka_unit_test(a_line_that_is_neither_is_told), cmocka_unit_test(a_line_is_never_cut),
        cmocka_unit_test(no_file_is_not_found),
    };
    return cmocka_run_group_tests_name("core/ini_file", tests, NULL, NULL);
}
