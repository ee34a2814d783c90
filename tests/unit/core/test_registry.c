// SPDX-License-Identifier: Apache-2.0
// core/registry over a SQLite store in a temporary folder: deploy, versions, deletion, and what must leave nothing behind.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/base/clock.h"
#include "core/offload.h"
#include "core/registry.h"

#define WAIT_NS (INT64_C(20) * 1000 * 1000000)

struct fixture {
    char dir[64];
    struct loop *loop;
    struct store *store;
    struct options options;
    struct registry *r;
    bool refuse;           // what the check hook says
    bool aside;            // deploys do not switch
    unsigned checked;
    char checked_dir[200]; // the code folder that it was shown
    unsigned changes, gone, revisions;
};

struct answer {
    bool there;
    int code;
    struct err err;
    uint32_t number;
    char sha256[65];
};

static void on_done(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    assert_false(a->there);
    a->there = true;
    a->code = code;
    if (code) a->err = *err;
}

static void on_deployed(void *arg, int code, const struct err *err, const struct version *v) {
    struct answer *a = arg;
    on_done(arg, code, err);
    if (code) return;
    a->number = v->number;
    memcpy(a->sha256, v->sha256, sizeof a->sha256);
}

static void wait_for(struct fixture *f, struct answer *a) {
    int64_t limit = clock_mono_ns() + WAIT_NS;
    assert_false(a->there); // never inside the call
    while (!a->there && clock_mono_ns() < limit) loop_turn(f->loop, 20);
    assert_true(a->there);
}

static void check_hook(void *arg, struct version *v, void (*done)(void *arg, int code, const struct err *err), void *done_arg) {
    struct fixture *f = arg;
    f->checked++;
    snprintf(f->checked_dir, sizeof f->checked_dir, "%s", v->code_dir);
    assert_int_equal(access(v->code_dir, F_OK), 0);
    struct err err;
    if (f->refuse) done(done_arg, err_set(&err, ERR_INVALID, "SyntaxError: line 1"), &err);
    else done(done_arg, 0, NULL);
}

static void on_change(void *arg, struct str name, struct function *fn) {
    struct fixture *f = arg;
    f->changes++;
    if (!fn) f->gone++;
    assert_true(name.len > 0);
}

static void on_revision(void *arg) {
    struct fixture *f = arg;
    f->revisions++;
}

static struct registry *open_registry(struct fixture *f) {
    struct registry_config config = {.loop = f->loop, .store = f->store, .options = &f->options, .check = check_hook,
                                     .check_arg = f, .on_change = on_change, .on_revision = on_revision,
                                     .change_arg = f};
    struct registry *r = registry_new(&config);
    struct answer a = {0};
    registry_load(r, on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    return r;
}

static int setup(void **state) {
    struct fixture *f = mem_zalloc(sizeof *f);
    struct err err;
    snprintf(f->dir, sizeof f->dir, "/tmp/weir-registry-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = loop_new();
    options_init(&f->options);
    assert_int_equal(options_set(&f->options, "data", f->dir, "test", &err), 0);
    cleanup_free char *url = mem_printf("sqlite:%s/weir.db", f->dir);
    assert_int_equal(store_open(f->loop, url, &f->store, &err), 0);
    f->r = open_registry(f);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    registry_free(f->r);
    store_close(f->store);
    offload_wait(f->loop);
    loop_free(f->loop);
    options_done(&f->options);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

// A tar of one file.
static char *make_tar(const char *name, const char *text, size_t *ret_len) {
    size_t room = 65536;
    char *out = mem_alloc(room);
    struct archive *a = archive_write_new();
    archive_write_set_format_ustar(a);
    archive_write_set_bytes_in_last_block(a, 1);
    assert_int_equal(archive_write_open_memory(a, out, room, ret_len), ARCHIVE_OK);
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    archive_entry_set_size(e, (la_int64_t)strlen(text));
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, text, strlen(text)), strlen(text));
    archive_entry_free(e);
    archive_write_close(a);
    archive_write_free(a);
    return out;
}

static void begin_deploy(struct fixture *f, const char *name, const char *file, const char *text, const char *json,
                         struct answer *a) {
    struct settings s;
    struct err err;
    size_t len;
    settings_init(&s);
    const char *usual = "{\"runtime\":\"python\",\"handler\":\"hello.main_handler\"}";
    assert_int_equal(settings_from_json(str_of(json ? json : usual), &s, &err), 0);
    char *tar = make_tar(file, text, &len);
    *a = (struct answer){0};
    registry_deploy(f->r, str_of(name), &s, tar, len, !f->aside, on_deployed, a);
}

static struct answer deploy(struct fixture *f, const char *name, const char *text, const char *json) {
    struct answer a;
    begin_deploy(f, name, "hello.py", text, json, &a);
    wait_for(f, &a);
    return a;
}

static uint32_t resolve(struct registry *r, const char *name, const char *qualifier) {
    struct version *v;
    struct err err;
    int rc = registry_resolve(r, str_of(name), str_of(qualifier), &v, &err);
    return rc ? 0 : v->number;
}

static unsigned count_folders(struct fixture *f) {
    cleanup_free char *path = mem_printf("%s/versions", f->dir);
    DIR *d = opendir(path);
    assert_non_null(d);
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void expect_folders(struct fixture *f, unsigned want) {
    int64_t limit = clock_mono_ns() + WAIT_NS;
    while (count_folders(f) != want && clock_mono_ns() < limit) loop_turn(f->loop, 20);
    assert_int_equal(count_folders(f), want);
}

static int count_packages_run(struct store_job *job, struct sql *sql, struct err *err);
struct count_job {
    struct store_job job;
    int64_t packages;
    struct answer answer;
};
static int read_count(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}
static int count_packages_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct count_job *c = container_of(job, struct count_job, job);
    return sql_exec(sql, "SELECT COUNT(*) FROM packages", NULL, 0, read_count, &c->packages, NULL, err);
}
static void count_done(struct store_job *job, int code, const struct err *err) {
    on_done(&container_of(job, struct count_job, job)->answer, code, err);
}
static int64_t count_packages(struct fixture *f) {
    struct count_job c = {.job = {.run = count_packages_run, .done = count_done}};
    store_submit(f->store, &c.job);
    wait_for(f, &c.answer);
    assert_int_equal(c.answer.code, 0);
    return c.packages;
}

static void deploys_and_resolves(void **state) {
    struct fixture *f = *state;
    struct answer a = deploy(f, "hello", "one", NULL);
    assert_int_equal(a.code, 0);
    assert_int_equal(a.number, 1);
    assert_int_equal(f->checked, 1);
    assert_int_equal(f->changes, 1);
    assert_int_equal(f->revisions, 2); // the first load, the deploy
    a = deploy(f, "hello", "two", NULL);
    assert_int_equal(a.number, 2);
    assert_int_equal(resolve(f->r, "hello", ""), 2);
    assert_int_equal(resolve(f->r, "hello", "1"), 1);
    assert_int_equal(resolve(f->r, "hello", "2"), 2);
    assert_int_equal(count_folders(f), 2);
    struct function *fn = registry_find(f->r, STR_LIT("hello"));
    assert_int_equal(fn->version_count, 2);
    assert_ptr_equal(registry_first(f->r), fn);
    cleanup_free char *path = mem_printf("%s/hello.py", fn->versions[1]->code_dir);
    cleanup_file FILE *file = fopen(path, "re");
    char text[8] = {0};
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    assert_string_equal(text, "two");
}

static void refuses_what_cannot_be_resolved(void **state) {
    struct fixture *f = *state;
    assert_int_equal(deploy(f, "hello", "one", NULL).code, 0);
    static const char *const wrong[] = {"0", "01", "+1", "-1", "1 ", "x", "2", "4294967297", "99999999999999999999"};
    for (size_t i = 0; i < array_len(wrong); i++) assert_int_equal(resolve(f->r, "hello", wrong[i]), 0);
    assert_int_equal(resolve(f->r, "hell", ""), 0);
    assert_int_equal(resolve(f->r, "", ""), 0);
    struct version *v;
    struct err err;
    assert_int_equal(registry_resolve(f->r, STR_LIT("nobody"), STR_NONE, &v, &err), ERR_NOT_FOUND);
    assert_int_equal(registry_resolve(f->r, STR_LIT("hello"), STR_LIT("7"), &v, &err), ERR_NOT_FOUND);
}

static void same_deploy_changes_nothing(void **state) {
    struct fixture *f = *state;
    struct answer first = deploy(f, "hello", "one", NULL), again = deploy(f, "hello", "one", NULL);
    assert_int_equal(again.code, 0);
    assert_int_equal(again.number, 1);
    assert_string_equal(first.sha256, again.sha256);
    assert_int_equal(f->checked, 1);
    assert_int_equal(f->changes, 1);
    // The same code with other settings is another version.
    again = deploy(f, "hello", "one", "{\"runtime\":\"python\",\"handler\":\"hello.main_handler\",\"retries\":5}");
    assert_int_equal(again.number, 2);
    assert_int_equal(count_folders(f), 1);
    assert_int_equal(count_packages(f), 1);
}

static void deploy_aside_leaves_the_current_version(void **state) {
    struct fixture *f = *state;
    f->aside = true;
    assert_int_equal(deploy(f, "hello", "one", NULL).number, 1);
    assert_int_equal(resolve(f->r, "hello", ""), 1); // the first one has nothing to stand aside of
    assert_int_equal(deploy(f, "hello", "two", NULL).number, 2);
    assert_int_equal(resolve(f->r, "hello", ""), 1);
    assert_int_equal(resolve(f->r, "hello", "2"), 2);
    assert_int_equal(f->checked, 2);
    // Sent again, it is there already; so is the current one.
    assert_int_equal(deploy(f, "hello", "two", NULL).number, 2);
    assert_int_equal(deploy(f, "hello", "one", NULL).number, 1);
    assert_int_equal(f->checked, 2);
    f->aside = false;
    assert_int_equal(deploy(f, "hello", "two", NULL).number, 3);
    assert_int_equal(resolve(f->r, "hello", ""), 3);
    // What another registry on this store reads is the same.
    registry_free(f->r);
    f->r = open_registry(f);
    assert_int_equal(resolve(f->r, "hello", ""), 3);
}

static void functions_share_code(void **state) {
    struct fixture *f = *state;
    deploy(f, "one", "same", NULL);
    deploy(f, "two", "same", NULL);
    assert_int_equal(count_packages(f), 1);
    struct answer a = {0};
    registry_delete(f->r, STR_LIT("one"), on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    assert_int_equal(count_packages(f), 1);
    a = (struct answer){0};
    registry_prepare(f->r, registry_find(f->r, STR_LIT("two"))->versions[0], on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    assert_int_equal(count_folders(f), 1);
}

static void rolls_back(void **state) {
    struct fixture *f = *state;
    deploy(f, "hello", "one", NULL);
    deploy(f, "hello", "two", NULL);
    struct answer a = {0};
    registry_set_current(f->r, STR_LIT("hello"), 1, on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    assert_int_equal(resolve(f->r, "hello", ""), 1);
    assert_int_equal(resolve(f->r, "hello", "2"), 2);
    a = (struct answer){0};
    registry_set_current(f->r, STR_LIT("hello"), 9, on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, ERR_NOT_FOUND);
    assert_int_equal(resolve(f->r, "hello", ""), 1);
    // After a rollback the newest code is a change again.
    assert_int_equal(deploy(f, "hello", "two", NULL).number, 3);
}

static void deletes(void **state) {
    struct fixture *f = *state;
    deploy(f, "hello", "one", NULL);
    deploy(f, "hello", "two", NULL);
    struct version *held = version_ref(registry_find(f->r, STR_LIT("hello"))->versions[0]);
    struct answer a = {0};
    registry_delete(f->r, STR_LIT("hello"), on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    assert_int_equal(f->gone, 1);
    assert_null(registry_find(f->r, STR_LIT("hello")));
    assert_int_equal(count_packages(f), 0);
    expect_folders(f, 1); // somebody still runs the other one
    assert_int_equal(access(held->code_dir, F_OK), 0);
    version_unref(held);
    expect_folders(f, 0);
    a = (struct answer){0};
    registry_delete(f->r, STR_LIT("hello"), on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, ERR_NOT_FOUND);
    assert_int_equal(deploy(f, "hello", "one", NULL).number, 1);
}

static void a_name_with_nul_is_nobody(void **state) {
    struct fixture *f = *state;
    deploy(f, "hello", "one", NULL);
    struct answer a = {0};
    registry_delete(f->r, (struct str){"hello\0x", 7}, on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, ERR_NOT_FOUND);
    assert_int_equal(resolve(f->r, "hello", ""), 1);
}

static void another_registry_sees_all(void **state) {
    struct fixture *f = *state;
    deploy(f, "hello", "one", "{\"runtime\":\"python\",\"handler\":\"hello.main_handler\",\"env\":{\"A\":\"b\"},\"backoffMs\":[7]}");
    deploy(f, "hello", "two", NULL);
    deploy(f, "other", "three", NULL);
    struct registry *second = open_registry(f);
    assert_int_equal(resolve(second, "hello", ""), 2);
    assert_int_equal(resolve(second, "other", ""), 1);
    struct version *v = registry_find(second, STR_LIT("hello"))->versions[0];
    assert_string_equal(v->settings.env, "{\"A\":\"b\"}");
    assert_int_equal(v->settings.backoff_count, 1);
    assert_int_equal(v->settings.backoff_ms[0], 7);
    // Loading again keeps the objects and tells of no change.
    unsigned changes = f->changes;
    struct answer a = {0};
    registry_load(second, on_done, &a);
    wait_for(f, &a);
    assert_ptr_equal(registry_find(second, STR_LIT("hello"))->versions[0], v);
    assert_int_equal(f->changes, changes);
    registry_free(second);
}

static void prepare_brings_code_back(void **state) {
    struct fixture *f = *state;
    deploy(f, "hello", "one", NULL);
    struct version *v = registry_find(f->r, STR_LIT("hello"))->versions[0];
    cleanup_free char *file = mem_printf("%s/hello.py", v->code_dir);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(v->code_dir), 0);
    struct answer a = {0};
    registry_prepare(f->r, v, on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    assert_int_equal(access(file, F_OK), 0);
    a = (struct answer){0};
    registry_prepare(f->r, v, on_done, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
}

static void exec_handler_is_executable(void **state) {
    struct fixture *f = *state;
    struct answer a;
    begin_deploy(f, "run", "run.sh", "#!/bin/sh\n", "{\"runtime\":\"exec\",\"handler\":\"run.sh\"}", &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    cleanup_free char *file = mem_printf("%s/run.sh", registry_find(f->r, STR_LIT("run"))->versions[0]->code_dir);
    assert_int_equal(access(file, X_OK), 0);
}

static void failed_check_leaves_nothing(void **state) {
    struct fixture *f = *state;
    f->refuse = true;
    struct answer a = deploy(f, "hello", "broken(", NULL);
    assert_int_equal(a.code, ERR_INVALID);
    assert_non_null(strstr(a.err.text, "SyntaxError"));
    assert_null(registry_find(f->r, STR_LIT("hello")));
    assert_int_equal(count_packages(f), 0);
    expect_folders(f, 0);
    assert_int_equal(access(f->checked_dir, F_OK), -1);
    // When another function has the same code, it keeps it.
    f->refuse = false;
    deploy(f, "good", "shared", NULL);
    f->refuse = true;
    assert_int_equal(deploy(f, "bad", "shared", NULL).code, ERR_INVALID);
    struct answer b = {0};
    registry_load(f->r, on_done, &b);
    wait_for(f, &b);
    assert_int_equal(count_folders(f), 1);
}

static void refuses_hostile_packages(void **state) {
    struct fixture *f = *state;
    struct answer a;
    begin_deploy(f, "evil", "../evil.py", "x", NULL, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, ERR_INVALID);
    assert_non_null(strstr(a.err.text, "'..'"));
    assert_int_equal(f->checked, 0);
    assert_int_equal(count_folders(f), 0);
    struct settings s;
    struct err err;
    settings_init(&s);
    assert_int_equal(settings_from_json(STR_LIT("{\"runtime\":\"python\",\"handler\":\"a.b\"}"), &s, &err), 0);
    a = (struct answer){0};
    registry_deploy(f->r, STR_LIT("evil"), &s, mem_strdup("no archive"), 10, true, on_deployed, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, ERR_INVALID);
}

static void deploys_of_one_function_queue_up(void **state) {
    struct fixture *f = *state;
    struct answer a[6];
    for (size_t i = 0; i < array_len(a); i++) begin_deploy(f, "hello", "hello.py", i % 3 == 0 ? "x" : i % 3 == 1 ? "y" : "z", NULL, &a[i]);
    struct answer twin;
    begin_deploy(f, "twin", "hello.py", "x", NULL, &twin);
    wait_for(f, &a[5]);
    for (size_t i = 0; i < array_len(a); i++) {
        assert_true(a[i].there);
        assert_int_equal(a[i].number, i + 1);
    }
    if (!twin.there) wait_for(f, &twin);
    assert_int_equal(twin.number, 1);
}

static void names(void **state) {
    (void)state;
    static const char *const good[] = {"a", "Z9", "a-b_c", "hello"};
    static const char *const bad[] = {"", "1a", "-a", "_a", "a-", "a_", "a b", "a.b", "a/b", "\xc3\xa4", "a\n"};
    char longest[FUNCTION_NAME_MAX + 2];
    memset(longest, 'a', sizeof longest);
    struct err err;
    for (size_t i = 0; i < array_len(good); i++) assert_int_equal(function_name_check(str_of(good[i]), &err), 0);
    for (size_t i = 0; i < array_len(bad); i++) assert_int_equal(function_name_check(str_of(bad[i]), &err), ERR_INVALID);
    assert_int_equal(function_name_check((struct str){longest, FUNCTION_NAME_MAX}, &err), 0);
    assert_int_equal(function_name_check((struct str){longest, FUNCTION_NAME_MAX + 1}, &err), ERR_INVALID);
    // Not NUL-terminated: nothing behind its end is read.
    char *exact = mem_alloc(2);
    memcpy(exact, "a!", 2);
    assert_int_equal(function_name_check((struct str){exact, 2}, &err), ERR_INVALID);
    free(exact);
}

static void freed_while_busy(void **state) {
    struct fixture *f = *state;
    static struct answer dropped[4];
    memset(dropped, 0, sizeof dropped);
    begin_deploy(f, "one", "hello.py", "x", NULL, &dropped[0]);
    begin_deploy(f, "one", "hello.py", "y", NULL, &dropped[1]);
    begin_deploy(f, "two", "hello.py", "z", NULL, &dropped[2]);
    registry_load(f->r, on_done, &dropped[3]);
    registry_free(TAKE_PTR(f->r));
    offload_wait(f->loop);
    loop_turn(f->loop, 10);
    for (size_t i = 0; i < array_len(dropped); i++) assert_false(dropped[i].there);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(deploys_and_resolves),
        test(refuses_what_cannot_be_resolved),
        test(same_deploy_changes_nothing),
        test(deploy_aside_leaves_the_current_version),
        test(functions_share_code),
        test(rolls_back),
        test(deletes),
        test(a_name_with_nul_is_nobody),
        test(another_registry_sees_all),
        test(prepare_brings_code_back),
        test(exec_handler_is_executable),
        test(failed_check_leaves_nothing),
        test(refuses_hostile_packages),
        test(deploys_of_one_function_queue_up),
        test(freed_while_busy),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
