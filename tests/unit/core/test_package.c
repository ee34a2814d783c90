// SPDX-License-Identifier: Apache-2.0
// core/package: the three formats, modes, and archives that mean harm; each is built here and must leave nothing behind.

#include <dirent.h>
#include <locale.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/package.h"
#include "core/registry.h"
#include "tests/support/support.h"

struct fixture {
    char *dir, *dest;
    struct archive *a;
    char *bytes;
    size_t len, room;
};

static int setup(void **state) {
    struct fixture *f = mem_zalloc(sizeof *f);
    f->dir = temp_dir_new();
    f->dest = mem_printf("%s/code", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    free(f->bytes);
    free(f->dest);
    temp_dir_remove(f->dir);
    free(f);
    return 0;
}

enum form { TAR, TAR_GZ, ZIP };

static void begin(struct fixture *f, enum form form) {
    free(f->bytes);
    f->room = 16 << 20;
    f->bytes = mem_alloc(f->room);
    f->len = 0;
    setlocale(LC_CTYPE, "C.UTF-8"); // the writer's; the server has none
    f->a = archive_write_new();
    assert_int_equal(form == ZIP ? archive_write_set_format_zip(f->a) : archive_write_set_format_pax_restricted(f->a), ARCHIVE_OK);
    if (form == TAR_GZ) assert_int_equal(archive_write_add_filter_gzip(f->a), ARCHIVE_OK);
    archive_write_set_bytes_in_last_block(f->a, 1);
    assert_int_equal(archive_write_open_memory(f->a, f->bytes, f->room, &f->len), ARCHIVE_OK);
}

struct item {
    const char *name, *text, *link, *hard;
    mode_t type, mode;
    bool encrypted;
};

static void add(struct fixture *f, struct item it) {
    struct archive_entry *e = archive_entry_new();
    size_t len = it.text ? strlen(it.text) : 0;
    archive_entry_set_pathname_utf8(e, it.name);
    archive_entry_set_filetype(e, it.type ? it.type : AE_IFREG);
    archive_entry_set_perm(e, it.mode ? it.mode : 0644);
    archive_entry_set_size(e, (la_int64_t)len);
    if (it.link) archive_entry_set_symlink(e, it.link);
    if (it.hard) archive_entry_set_hardlink(e, it.hard);
    assert_int_equal(archive_write_header(f->a, e), ARCHIVE_OK);
    if (len) assert_int_equal(archive_write_data(f->a, it.text, len), len);
    archive_entry_free(e);
}

static void add_file(struct fixture *f, const char *name, const char *text) {
    add(f, (struct item){.name = name, .text = text});
}

static int unpack_as(struct fixture *f, const char *handler, struct err *err) {
    if (f->a) {
        assert_int_equal(archive_write_close(f->a), ARCHIVE_OK);
        archive_write_free(TAKE_PTR(f->a));
    }
    setlocale(LC_CTYPE, "C");
    *err = (struct err){0};
    return package_unpack((struct str){f->bytes, f->len}, f->dest, handler, err);
}

static unsigned count_entries(const char *dir) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static void refuse(struct fixture *f, int want, const char *word) {
    struct err err;
    int rc = unpack_as(f, NULL, &err);
    if (rc != want || !strstr(err.text, word)) fail_msg("%d '%s', not %d '%s'", rc, err.text, want, word);
    assert_int_equal(count_entries(f->dir), 0);
}

static mode_t mode_of(struct fixture *f, const char *name) {
    cleanup_free char *path = mem_printf("%s/%s", f->dest, name);
    struct stat st;
    if (lstat(path, &st) != 0) fail_msg("no %s", path);
    return st.st_mode & 07777;
}

static void expect_text(struct fixture *f, const char *name, const char *want) {
    cleanup_free char *path = mem_printf("%s/%s", f->dest, name);
    cleanup_file FILE *file = fopen(path, "re");
    char text[100] = {0};
    assert_non_null(file);
    (void)!fread(text, 1, sizeof text - 1, file);
    assert_string_equal(text, want);
}

static void unpacks(struct fixture *f, enum form form) {
    struct err err;
    mode_t before = umask(077); // the server's umask does not matter
    begin(f, form);
    add_file(f, "hello.py", "print(1)");
    add(f, (struct item){.name = "bin/", .type = AE_IFDIR, .mode = 0700});
    add(f, (struct item){.name = "bin/run", .text = "#!/bin/sh\n", .mode = 04711});
    add_file(f, "./a//b/./c.txt", "deep");
    add_file(f, "\xc3\xa4.txt", "umlaut");
    add_file(f, "empty", "");
    add(f, (struct item){.name = "a/link", .link = "../bin/run", .type = AE_IFLNK});
    assert_int_equal(unpack_as(f, NULL, &err), 0);
    umask(before);
    expect_text(f, "hello.py", "print(1)");
    expect_text(f, "a/b/c.txt", "deep");
    expect_text(f, "\xc3\xa4.txt", "umlaut");
    expect_text(f, "a/link", "#!/bin/sh\n");
    expect_text(f, "empty", "");
    assert_int_equal(mode_of(f, "."), 0755);
    assert_int_equal(mode_of(f, "a/b"), 0755);
    assert_int_equal(mode_of(f, "bin"), 0755);
    assert_int_equal(mode_of(f, "hello.py"), 0644);
    assert_int_equal(mode_of(f, "bin/run"), 0755);
    assert_int_equal(count_entries(f->dir), 1);
}

static void unpacks_tar(void **state) {
    unpacks(*state, TAR);
}
static void unpacks_tar_gz(void **state) {
    unpacks(*state, TAR_GZ);
}
static void unpacks_zip(void **state) {
    unpacks(*state, ZIP);
}

static void makes_the_handler_executable(void **state) {
    struct fixture *f = *state;
    struct err err;
    begin(f, ZIP);
    add_file(f, "sub/run.sh", "");
    add_file(f, "other.sh", "");
    assert_int_equal(unpack_as(f, "sub/run.sh", &err), 0);
    assert_int_equal(mode_of(f, "sub/run.sh"), 0755);
    assert_int_equal(mode_of(f, "other.sh"), 0644);
    // Another version of the same code with another handler.
    assert_int_equal(unpack_as(f, "other.sh", &err), 0);
    assert_int_equal(mode_of(f, "other.sh"), 0755);
    assert_int_equal(unpack_as(f, "missing", &err), 0);
    assert_int_equal(unpack_as(f, "../x", &err), ERR_INVALID);
}

static void refuses_paths_that_leave(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"../x", "a/../../x", "a/..", "..", "./../x"};
    for (size_t i = 0; i < array_len(names); i++) {
        begin(f, i % 2 ? TAR : ZIP);
        add_file(f, "good", "x");
        add_file(f, names[i], "x");
        refuse(f, ERR_INVALID, "'..'");
    }
    begin(f, TAR);
    add_file(f, "/tmp/weir-evil", "x");
    refuse(f, ERR_INVALID, "absolute");
}

static void refuses_links_that_leave(void **state) {
    struct fixture *f = *state;
    static const char *const targets[] = {"/etc/passwd", "..", "../x", "a/../../x", "a/..", "d/../..", "./..", "x/../y"};
    for (size_t i = 0; i < array_len(targets); i++) {
        begin(f, TAR);
        add(f, (struct item){.name = "l", .link = targets[i], .type = AE_IFLNK});
        refuse(f, ERR_INVALID, "link that leaves");
    }
    begin(f, ZIP);
    add(f, (struct item){.name = "a/l", .text = NULL, .link = "../../x", .type = AE_IFLNK});
    refuse(f, ERR_INVALID, "link that leaves");
}

static void refuses_paths_through_links(void **state) {
    struct fixture *f = *state;
    begin(f, TAR);
    add(f, (struct item){.name = "dir/", .type = AE_IFDIR});
    add(f, (struct item){.name = "l", .link = "dir", .type = AE_IFLNK});
    add_file(f, "l/x", "x");
    refuse(f, ERR_INVALID, "through a file or a link");
    begin(f, TAR);
    add_file(f, "file", "x");
    add_file(f, "file/x", "x");
    refuse(f, ERR_INVALID, "through a file or a link");
    begin(f, TAR);
    add(f, (struct item){.name = "l", .link = "dir", .type = AE_IFLNK});
    add_file(f, "l", "written through");
    refuse(f, ERR_INVALID, "two files");
}

static void refuses_other_kinds(void **state) {
    struct fixture *f = *state;
    static const mode_t types[] = {AE_IFCHR, AE_IFBLK, AE_IFIFO};
    for (size_t i = 0; i < array_len(types); i++) {
        begin(f, TAR);
        add(f, (struct item){.name = "dev", .type = types[i]});
        refuse(f, ERR_INVALID, "device");
    }
    begin(f, TAR);
    add_file(f, "a", "x");
    add(f, (struct item){.name = "b", .hard = "a"});
    refuse(f, ERR_INVALID, "hard link");
    begin(f, TAR);
    add_file(f, "a", "x");
    add_file(f, "./a", "y");
    refuse(f, ERR_INVALID, "two files");
}

static void refuses_what_is_no_archive(void **state) {
    struct fixture *f = *state;
    static const char *const texts[] = {"", "x", "def main_handler(event, context): pass\n", "PK\3\4", "\x1f\x8b\b"};
    for (size_t i = 0; i < array_len(texts); i++) {
        free(f->bytes);
        f->bytes = mem_strdup(texts[i]);
        f->len = strlen(texts[i]);
        refuse(f, ERR_INVALID, "not a zip, tar or tar.gz");
    }
    begin(f, TAR);
    refuse(f, ERR_INVALID, "");
    begin(f, TAR);
    add(f, (struct item){.name = "./", .type = AE_IFDIR});
    refuse(f, ERR_INVALID, "empty");
}

// A file of incompressible bytes, cut everywhere: refused or, when only padding is missing, whole.
static void survives_every_cut(void **state) {
    struct fixture *f = *state;
    for (enum form form = TAR; form <= ZIP; form++) {
        begin(f, form);
        add_file(f, "a/file.py", "some text that is here");
        struct err err;
        assert_int_equal(unpack_as(f, NULL, &err), 0);
        assert_int_equal(package_remove(f->dest, &err), 0);
        size_t whole = f->len;
        for (f->len = 0; f->len < whole; f->len += 1 + f->len / 40) {
            int rc = unpack_as(f, NULL, &err);
            if (rc == 0) {
                expect_text(f, "a/file.py", "some text that is here");
                assert_int_equal(package_remove(f->dest, &err), 0);
            }
            assert_int_equal(count_entries(f->dir), 0);
        }
    }
}

static void refuses_bombs(void **state) {
    struct fixture *f = *state;
    begin(f, TAR_GZ);
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, "zeros");
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    la_int64_t size = (la_int64_t)(PACKAGE_UNPACKED_MAX / 2) + 1024;
    static const char zeros[1 << 20];
    for (int i = 0; i < 2; i++) { // each is within the limit, both are not
        archive_entry_set_size(e, size);
        archive_entry_set_pathname(e, i ? "more" : "zeros");
        assert_int_equal(archive_write_header(f->a, e), ARCHIVE_OK);
        for (la_int64_t done = 0; done < size; done += (la_int64_t)sizeof zeros)
            assert_true(archive_write_data(f->a, zeros, sizeof zeros) >= 0);
    }
    archive_entry_free(e);
    assert_true(f->len < 4 << 20);
    refuse(f, ERR_TOO_LARGE, "MiB");
}

static void refuses_a_lying_size(void **state) {
    struct fixture *f = *state;
    // A ustar header by hand that promises 8 GiB.
    f->bytes = mem_zalloc(1024);
    f->len = 1024;
    memcpy(f->bytes, "big", 3);
    memcpy(f->bytes + 100, "0000644", 7);
    memcpy(f->bytes + 124, "77777777777", 11);
    memcpy(f->bytes + 257, "ustar\0" "00", 8);
    f->bytes[156] = '0';
    unsigned sum = 8 * ' ';
    for (int i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? 0 : (unsigned char)f->bytes[i];
    snprintf(f->bytes + 148, 8, "%06o", sum);
    refuse(f, ERR_TOO_LARGE, "MiB");
}

static void refuses_too_many_and_too_deep(void **state) {
    struct fixture *f = *state;
    begin(f, TAR_GZ);
    for (int i = 0; i <= PACKAGE_FILES_MAX; i++) {
        char name[32];
        assert_int_equal(text_format(name, sizeof name, "f%d", i), 0);
        add_file(f, name, "");
    }
    refuse(f, ERR_TOO_LARGE, "files");
    // Folders that are only named in paths count too.
    begin(f, TAR_GZ);
    for (int i = 0; i <= PACKAGE_FILES_MAX / 50; i++) {
        char name[200];
        int used = snprintf(name, sizeof name, "f%d", i);
        for (int d = 0; d < 50; d++) used += snprintf(name + used, sizeof name - (size_t)used, "/d");
        add(f, (struct item){.name = name, .type = AE_IFDIR});
    }
    refuse(f, ERR_TOO_LARGE, "files");
    char deep[401];
    for (size_t i = 0; i < 400; i++) deep[i] = i % 2 ? '/' : 'd';
    deep[399] = 'x';
    deep[400] = '\0';
    begin(f, TAR);
    add_file(f, deep, "");
    refuse(f, ERR_TOO_LARGE, "deep");
    char wide[301];
    memset(wide, 'w', 300);
    wide[300] = '\0';
    begin(f, TAR);
    add_file(f, wide, "");
    refuse(f, ERR_TOO_LARGE, "too long");
}

static void leaves_an_existing_folder_alone(void **state) {
    struct fixture *f = *state;
    struct err err;
    begin(f, ZIP);
    add_file(f, "a", "first");
    assert_int_equal(unpack_as(f, NULL, &err), 0);
    begin(f, ZIP);
    add_file(f, "a", "second");
    assert_int_equal(unpack_as(f, NULL, &err), 0);
    expect_text(f, "a", "first");
    assert_int_equal(package_remove(f->dest, &err), 0);
    assert_int_equal(package_remove(f->dest, &err), 0);
    assert_int_equal(count_entries(f->dir), 0);
}

static bool keep_kept(void *arg, const char *name) {
    ++*(unsigned *)arg;
    return strcmp(name, "kept") == 0;
}

static void sweeps_what_a_crash_left(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"code.tmp-Ab12cd", "old", "kept", "young", "young.tmp-Ab12cd"};
    for (size_t i = 0; i < array_len(names); i++) {
        cleanup_free char *path = mem_printf("%s/%s", f->dir, names[i]);
        cleanup_free char *inside = mem_printf("%s/sub", path);
        assert_int_equal(mkdir(path, 0755), 0);
        assert_int_equal(mkdir(inside, 0755), 0);
        struct timeval long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
        if (i < 3) assert_int_equal(utimes(path, long_ago), 0);
    }
    unsigned asked = 0;
    package_sweep(f->dir, keep_kept, &asked);
    assert_int_equal(asked, 2);
    assert_int_equal(count_entries(f->dir), 3); // kept and the young ones
    package_sweep("/nowhere", keep_kept, &asked);
}

static void says_when_it_cannot_write(void **state) {
    struct fixture *f = *state;
    struct err err;
    begin(f, ZIP);
    add_file(f, "a", "x");
    free(f->dest);
    f->dest = mem_printf("%s/missing/code", f->dir);
    assert_int_equal(unpack_as(f, NULL, &err), ERR_INTERNAL);
    assert_non_null(strstr(err.text, "cannot make the folder"));
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(unpacks_tar), test(unpacks_tar_gz), test(unpacks_zip), test(makes_the_handler_executable), test(refuses_paths_that_leave),
        test(refuses_links_that_leave), test(refuses_paths_through_links), test(refuses_other_kinds), test(refuses_what_is_no_archive),
        test(survives_every_cut), test(refuses_bombs), test(refuses_a_lying_size), test(refuses_too_many_and_too_deep),
        test(leaves_an_existing_folder_alone), test(sweeps_what_a_crash_left), test(says_when_it_cannot_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
