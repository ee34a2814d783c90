// SPDX-License-Identifier: Apache-2.0
// workers/runtime: manifests that are whole, broken or of a language that is not here, and the command that comes out.
#include "workers/runtime.h"

#include <sys/stat.h>

#include "tests/support/support.h"

static int setup(void **state) {
    *state = temp_dir_new();
    return 0;
}

static int teardown(void **state) {
    temp_dir_remove(*state);
    return 0;
}

static void write_manifest(const char *dir, const char *name, const char *text) {
    cleanup_free char *folder = mem_printf("%s/%s", dir, name), *path = mem_printf("%s/manifest.ini", folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct runtimes load(const char *dir) {
    struct runtimes r;
    struct err err = {0};
    if (runtimes_load(dir, &r, &err)) fail_msg("%s", err.text);
    return r;
}

static const struct runtime *find(const struct runtimes *r, const char *name) {
    const struct runtime *rt = NULL;
    struct err err = {0};
    if (runtimes_find(r, name, &rt, &err)) fail_msg("%s", err.text);
    return rt;
}

static void a_manifest_makes_a_command(void **state) {
    cleanup_free char *dir = mem_printf("%s/with a blank", (char *)*state);
    assert_int_equal(mkdir(dir, 0755), 0);
    write_manifest(dir, "lua",
                   "; a comment\nname = lua\ndescription = Lua\nextensions = .lua\ndefault_handler = {stem}.main\n"
                   "probe = echo /opt/the lua/bin/lua; echo more\n"
                   "command = {interpreter} -u\t{runtime_dir}/main.lua --x={runtime_dir}:{runtime_dir}\n");
    struct runtimes r = load(dir);
    assert_int_equal(r.count, 1);
    const struct runtime *rt = find(&r, "lua");
    cleanup_free char *real = realpath(dir, NULL);
    cleanup_free char *main_file = mem_printf("%s/lua/main.lua", real), *twice = mem_printf("--x=%s/lua:%s/lua", real, real);
    assert_string_equal(rt->interpreter, "/opt/the lua/bin/lua");
    assert_string_equal(rt->argv[0], "/opt/the lua/bin/lua");
    assert_string_equal(rt->argv[1], "-u");
    assert_string_equal(rt->argv[2], main_file);
    assert_string_equal(rt->argv[3], twice);
    assert_null(rt->argv[4]);
    assert_null(rt->missing);
    runtimes_done(&r);
}

static void a_language_that_is_not_here_is_listed_and_refused(void **state) {
    const char *dir = *state;
    write_manifest(dir, "good", "name=good\nprobe=echo /bin/true\ncommand={interpreter}\n");
    write_manifest(dir, "fails", "name=fails\nprobe=echo /bin/true; exit 3\ncommand={interpreter}\n");
    write_manifest(dir, "silent", "name=silent\nprobe=true\ncommand={interpreter}\n");
    write_manifest(dir, "relative", "name=relative\nprobe=echo python3\ncommand={interpreter}\n");
    struct runtimes r = load(dir);
    assert_int_equal(r.count, 4);
    find(&r, "good");
    static const char *const missing[] = {"fails", "silent", "relative"};
    for (size_t i = 0; i < array_len(missing); i++) {
        const struct runtime *rt = NULL;
        struct err err = {0};
        assert_int_equal(runtimes_find(&r, missing[i], &rt, &err), ERR_INVALID);
        assert_null(rt);
        assert_non_null(strstr(err.text, missing[i]));
        assert_non_null(strstr(err.text, "installed"));
    }
    runtimes_done(&r);
}

static void an_unknown_one_is_told_with_those_there_are(void **state) {
    const char *dir = *state;
    write_manifest(dir, "one", "name=one\nprobe=echo /bin/true\ncommand={interpreter}\n");
    write_manifest(dir, "two", "name=two\nprobe=echo /bin/true\ncommand={interpreter}\n");
    struct runtimes r = load(dir);
    const struct runtime *rt;
    struct err err = {0};
    assert_int_equal(runtimes_find(&r, "three", &rt, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "three"));
    assert_non_null(strstr(err.text, "one"));
    assert_non_null(strstr(err.text, "two"));
    assert_int_equal(runtimes_find(&r, "on", &rt, &err), ERR_INVALID);
    assert_int_equal(runtimes_find(&r, "", &rt, &err), ERR_INVALID);
    runtimes_done(&r);
}

static void a_long_name_does_not_hide_the_others(void **state) {
    const char *dir = *state;
    for (char c = 'a'; c <= 'p'; c++) {
        cleanup_free char *name = mem_printf("runtime-with-a-rather-long-name-%c", c);
        cleanup_free char *text = mem_printf("name=%s\nprobe=echo /bin/true\ncommand={interpreter}\n", name);
        write_manifest(dir, name, text);
    }
    struct runtimes r = load(dir);
    const struct runtime *rt;
    struct err err = {0};
    assert_int_equal(r.count, 16);
    assert_int_equal(runtimes_find(&r, "none", &rt, &err), ERR_INVALID); // the list of names is cut, not overrun
    find(&r, "runtime-with-a-rather-long-name-p");
    runtimes_done(&r);
}

static void only_folders_with_a_manifest_count(void **state) {
    const char *dir = *state;
    write_manifest(dir, "real", "name=real\nprobe=echo /bin/true\ncommand={interpreter}\n");
    write_manifest(dir, ".hidden", "name=hidden\nprobe=echo /bin/true\ncommand={interpreter}\n");
    cleanup_free char *empty = mem_printf("%s/__pycache__", dir), *file = mem_printf("%s/README", dir);
    assert_int_equal(mkdir(empty, 0755), 0);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    struct runtimes r = load(dir);
    assert_int_equal(r.count, 1);
    runtimes_done(&r);
}

static void refuse(const char *dir, const char *text, const char *word) {
    cleanup_free char *parent = mem_printf("%s/refused", dir);
    assert_int_equal(mkdir(parent, 0755), 0);
    write_manifest(parent, "bad", text);
    struct runtimes r;
    struct err err = {0};
    assert_int_equal(runtimes_load(parent, &r, &err), ERR_INVALID);
    if (!strstr(err.text, word)) fail_msg("'%s' does not say '%s'", err.text, word);
    const char *argv[] = {"rm", "-rf", "--", parent, NULL};
    assert_int_equal(run_program(argv), 0);
}

static void a_broken_manifest_is_told_with_its_file(void **state) {
    refuse(*state, "name=bad\nprobe=true\n", "manifest.ini needs name, probe and command");
    refuse(*state, "name=bad\ncommand=x\n", "manifest.ini needs");
    refuse(*state, "probe=true\ncommand=x\n", "manifest.ini needs");
    refuse(*state, "name=bad\nwhat is this\n", "manifest.ini:2:");
}

static void no_runtimes_at_all_is_told(void **state) {
    struct runtimes r;
    struct err err = {0};
    assert_int_equal(runtimes_load("/nonexistent", &r, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "--runtimes"));
    assert_int_equal(runtimes_load(*state, &r, &err), ERR_NOT_FOUND);
}

// The tests run in the repository's root.
static void the_runtimes_of_the_repository_load(void **state) {
    (void)state;
    struct runtimes r = load("runtimes");
    static const char *const names[] = {"python", "exec"};
    for (size_t i = 0; i < array_len(names); i++) {
        const struct runtime *rt = find(&r, names[i]);
        assert_int_equal(rt->argv[0][0], '/');
        assert_string_equal(rt->argv[0], rt->interpreter);
    }
    runtimes_done(&r);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_manifest_makes_a_command),
        CASE(a_language_that_is_not_here_is_listed_and_refused),
        CASE(an_unknown_one_is_told_with_those_there_are),
        CASE(a_long_name_does_not_hide_the_others),
        CASE(only_folders_with_a_manifest_count),
        CASE(a_broken_manifest_is_told_with_its_file),
        CASE(no_runtimes_at_all_is_told),
        cmocka_unit_test(the_runtimes_of_the_repository_load),
    };
    return cmocka_run_group_tests_name("workers/runtime", tests, NULL, NULL);
}
