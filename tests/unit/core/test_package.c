// SPDX-License-Identifier: Apache-2.0
// core/package: archives made here with libarchive; what a hostile one tries must leave nothing, inside or outside.
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/package.h"
#include "core/registry.h"
#include "tests/support/support.h"

// --- making archives --------------------------------------------------------------------------------------------------

enum kind { ZIP, TAR, TAR_GZ };

struct maker {
    struct archive *a;
    char *bytes;
    size_t len;
};

static struct maker make(enum kind kind, size_t room) {
    struct maker m = {.a = archive_write_new(), .bytes = mem_alloc(room)};
    if (kind == ZIP) archive_write_set_format_zip(m.a);
    else archive_write_set_format_pax_restricted(m.a);
    if (kind == TAR_GZ) archive_write_add_filter_gzip(m.a);
    return m;
}

static void begin(struct maker *m, size_t room) {
    assert_int_equal(archive_write_open_memory(m->a, m->bytes, room, &m->len), ARCHIVE_OK);
}

#define ROOM (8u << 20)
static struct maker maker_new(enum kind kind) {
    return make(kind, ROOM);
}

struct entry {
    const char *name, *content; // content: of a file; the target of a link
    unsigned type;              // AE_IF..., 0: a file
    unsigned mode;
    bool hard;                  // a hard link to content
};

static void add(struct archive *a, const struct entry *x) {
    struct archive_entry *e = archive_entry_new();
    unsigned type = x->type ? x->type : AE_IFREG;
    bool has_data = type == AE_IFREG && !x->hard;
    size_t len = has_data && x->content ? strlen(x->content) : 0;
    archive_entry_set_pathname(e, x->name);
    archive_entry_set_filetype(e, type);
    archive_entry_set_perm(e, (mode_t)(x->mode ? x->mode : 0644));
    archive_entry_set_size(e, (la_int64_t)len);
    if (type == AE_IFLNK) archive_entry_set_symlink(e, x->content);
    if (x->hard) archive_entry_set_hardlink(e, x->content);
    assert_true(archive_write_header(a, e) >= ARCHIVE_WARN);
    if (len) assert_int_equal(archive_write_data(a, x->content, len), len);
    archive_entry_free(e);
}

static struct maker pack(enum kind kind, const struct entry *entries, size_t count) {
    struct maker m = maker_new(kind);
    begin(&m, ROOM);
    for (size_t i = 0; i < count; i++) add(m.a, &entries[i]);
    assert_int_equal(archive_write_close(m.a), ARCHIVE_OK);
    archive_write_free(m.a);
    return m;
}

// --- unpacking --------------------------------------------------------------------------------------------------------

struct world {
    char *dir;  // with "dest" for the package and "secret" outside of it
    char *dest, *secret;
};

static int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    w->dir = temp_dir_new();
    w->dest = mem_printf("%s/dest", w->dir);
    w->secret = mem_printf("%s/secret", w->dir);
    FILE *f = fopen(w->secret, "w");
    assert_non_null(f);
    fputs("untouched", f);
    fclose(f);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    temp_dir_remove(w->dir);
    free(w->dest);
    free(w->secret);
    free(w);
    return 0;
}

static int unpack(struct world *w, struct maker m, const char *exec_handler, struct err *err) {
    int rc = package_unpack((struct str){m.bytes, m.len}, w->dest, exec_handler, err);
    free(m.bytes);
    return rc;
}

static char *content_of(const char *dir, const char *name) {
    cleanup_free char *path = mem_printf("%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    if (!f) return mem_strdup("(none)");
    char text[200] = "";
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    return mem_strndup((struct str){text, n});
}

static void assert_content(const char *dir, const char *name, const char *want) {
    cleanup_free char *got = content_of(dir, name);
    assert_string_equal(got, want);
}

static unsigned mode_of(struct world *w, const char *name) {
    cleanup_free char *path = mem_printf("%s/%s", w->dest, name);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static size_t count_in(const char *dir) {
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

// Neither the destination, nor half of it under another name, nor anything elsewhere.
static void assert_nothing_left(struct world *w) {
    assert_int_equal(access(w->dest, F_OK), -1);
    assert_int_equal(count_in(w->dir), 1);
    assert_content(w->dir, "secret", "untouched");
}

static void every_kind_unpacks(void **state) {
    struct world *w = *state;
    static const struct entry entries[] = {
        {"main.py", "print(1)\n", 0, 0600, false},
        {"./lib/", NULL, AE_IFDIR, 0700, false},
        {"lib/sub/deep.txt", "deep", 0, 0666, false},
        {"bin/run", "#!/bin/sh\n", 0, 0700, false},
        {"setuid", "x", 0, 06755, false},
        {"empty", "", 0, 0644, false},
        {"caf\xc3\xa9.txt", "utf8", 0, 0644, false},
    };
    for (enum kind kind = ZIP; kind <= TAR_GZ; kind++) {
        struct err err = {0};
        if (unpack(w, pack(kind, entries, array_len(entries)), NULL, &err)) fail_msg("kind %d: %s", kind, err.text);
        assert_content(w->dest, "main.py", "print(1)\n");
        assert_content(w->dest, "lib/sub/deep.txt", "deep");
        assert_content(w->dest, "empty", "");
        assert_content(w->dest, "caf\xc3\xa9.txt", "utf8");
        assert_int_equal(mode_of(w, "main.py"), 0644);
        assert_int_equal(mode_of(w, "bin/run"), 0755);
        assert_int_equal(mode_of(w, "setuid"), 0755); // neither bit
        assert_int_equal(mode_of(w, "lib"), 0755);
        assert_int_equal(mode_of(w, "."), 0755);
        assert_int_equal(count_in(w->dir), 2);
        assert_int_equal(package_remove(w->dest, &err), 0);
        assert_nothing_left(w);
    }
}

static void links_inside_are_kept(void **state) {
    struct world *w = *state;
    static const struct entry entries[] = {
        {"a/b/file", "found", 0, 0, false},
        {"a/b/up", "../../top", AE_IFLNK, 0, false},
        {"top", "top!", 0, 0, false},
        {"link", "a/b/./file", AE_IFLNK, 0, false},
        {"dangling", "not/there", AE_IFLNK, 0, false},
    };
    struct err err = {0};
    if (unpack(w, pack(TAR, entries, array_len(entries)), NULL, &err)) fail_msg("%s", err.text);
    assert_content(w->dest, "link", "found");
    assert_content(w->dest, "a/b/up", "top!");
}

static void refuse(struct world *w, const char *what, struct maker m, int code, const char *word) {
    struct err err = {0};
    int rc = unpack(w, m, NULL, &err);
    if (rc != code) fail_msg("%s: %d %s", what, rc, err.text);
    if (!strstr(err.text, word)) fail_msg("%s: '%s' does not say '%s'", what, err.text, word);
    assert_nothing_left(w);
}

#define REFUSE(kind, word, ...)                                                                                        \
    do {                                                                                                               \
        const struct entry list_[] = {{"innocent", "x", 0, 0, false}, __VA_ARGS__};                                    \
        refuse(w, #__VA_ARGS__, pack(kind, list_, array_len(list_)), ERR_INVALID, word);                               \
    } while (0)

static void paths_that_leave_are_refused(void **state) {
    struct world *w = *state;
    cleanup_free char *absolute = mem_printf("%s/planted", w->dir);
    for (enum kind kind = ZIP; kind <= TAR_GZ; kind++) {
        REFUSE(kind, "'..'", {"../planted", "x", 0, 0, false});
        REFUSE(kind, "'..'", {"a/../../planted", "x", 0, 0, false});
        REFUSE(kind, "'..'", {"a/..", NULL, AE_IFDIR, 0755, false});
        REFUSE(kind, "absolute", {absolute, "x", 0, 0, false});
        REFUSE(kind, "absolute", {"//etc/x", "x", 0, 0, false});
        REFUSE(kind, "two files", {"innocent", "again", 0, 0, false});
        REFUSE(kind, "through a file", {"innocent/child", "x", 0, 0, false});
    }
}

static void links_that_leave_are_refused(void **state) {
    struct world *w = *state;
    REFUSE(TAR, "leaves", {"l", "../secret", AE_IFLNK, 0, false});
    REFUSE(TAR, "leaves", {"l", w->secret, AE_IFLNK, 0, false});
    REFUSE(TAR, "leaves", {"a/l", "../../secret", AE_IFLNK, 0, false});
    REFUSE(TAR, "leaves", {"a/l", "b/../../../secret", AE_IFLNK, 0, false});
    REFUSE(ZIP, "leaves", {"l", "../secret", AE_IFLNK, 0777, false});
    REFUSE(TAR, "leaves", {"d/t", "x/../y", AE_IFLNK, 0, false}); // x may become a link that leads elsewhere
    // A link, then a way through it: each alone looks harmless.
    REFUSE(TAR, "through a file or a link", {"d/", NULL, AE_IFDIR, 0755, false}, {"l", "d", AE_IFLNK, 0, false},
           {"l/x", "x", 0, 0, false});
    REFUSE(TAR, "two files", {"l", "d", AE_IFLNK, 0, false}, {"l", "x", 0, 0, false});
    REFUSE(TAR, "leaves", {"a/b/x", "x", 0, 0, false}, {"s", "a/b", AE_IFLNK, 0, false}, {"t", "s/../../secret", AE_IFLNK, 0, false});
}

static void hard_links_and_devices_are_refused(void **state) {
    struct world *w = *state;
    REFUSE(TAR, "hard link", {"h", "innocent", 0, 0, true});
    REFUSE(TAR, "hard link", {"h", "../secret", 0, 0, true});
    REFUSE(TAR, "hard link", {"h", w->secret, 0, 0, true});
    REFUSE(TAR, "device", {"null", NULL, AE_IFCHR, 0666, false});
    REFUSE(TAR, "device", {"disk", NULL, AE_IFBLK, 0666, false});
    REFUSE(TAR, "pipe", {"fifo", NULL, AE_IFIFO, 0666, false});
}

static void no_archive_is_refused(void **state) {
    struct world *w = *state;
    const struct str bad[] = {STR_LIT(""), STR_LIT("def main_handler(event, context): pass\n"), STR_LIT("PK\3\4 and then nothing"),
                                     STR_LIT("\x1f\x8b\x08 not gzip")};
    for (size_t i = 0; i < array_len(bad); i++) {
        struct maker m = {.bytes = mem_strndup(bad[i]), .len = bad[i].len};
        refuse(w, "no archive", m, ERR_INVALID, "package");
    }
    refuse(w, "an empty one", pack(TAR, NULL, 0), ERR_INVALID, "package");
    refuse(w, "an empty zip", pack(ZIP, NULL, 0), ERR_INVALID, "package");
}

// Every length at which the upload may have been cut.
static void a_cut_archive_is_refused(void **state) {
    struct world *w = *state;
    cleanup_free char *text = mem_zalloc(3001);
    for (size_t i = 0; i < 3000; i++) text[i] = (char)('a' + (i * i + i / 7) % 26);
    const struct entry entries[] = {{"one", text, 0, 0, false}, {"two", text, 0, 0, false}};
    struct maker whole = pack(TAR_GZ, entries, array_len(entries));
    for (size_t len = 0; len + 8 < whole.len; len += 1 + len / 16) {
        struct maker cut = {.bytes = mem_strndup((struct str){whole.bytes, len}), .len = len};
        refuse(w, "cut", cut, ERR_INVALID, "package");
    }
    free(whole.bytes);
}

// --- limits -----------------------------------------------------------------------------------------------------------

static void add_zeros(struct archive *a, const char *name, uint64_t bytes) {
    static const char zeros[1 << 20];
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    archive_entry_set_size(e, (la_int64_t)bytes);
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    for (; bytes >= sizeof zeros; bytes -= sizeof zeros) assert_int_equal(archive_write_data(a, zeros, sizeof zeros), sizeof zeros);
    if (bytes) assert_int_equal(archive_write_data(a, zeros, bytes), bytes);
    archive_entry_free(e);
}

// A zip of 600 KiB that becomes 520 MiB; the second says so nowhere, for its files are each small enough.
static void a_bomb_is_refused(void **state) {
    struct world *w = *state;
    for (unsigned files = 1; files <= 2; files++) {
        struct maker m = maker_new(ZIP);
        begin(&m, ROOM);
        for (unsigned i = 0; i < files; i++) add_zeros(m.a, i ? "b" : "a", (PACKAGE_UNPACKED_MAX + (8u << 20)) / files);
        archive_write_close(m.a);
        archive_write_free(m.a);
        assert_true(m.len < 1 << 20);
        refuse(w, "bomb", m, ERR_TOO_LARGE, "512 MiB");
    }
}

static void too_many_files_are_refused(void **state) {
    struct world *w = *state;
    struct maker m = make(TAR_GZ, 64u << 20);
    begin(&m, 64u << 20);
    for (unsigned i = 0; i <= PACKAGE_FILES_MAX; i++) {
        char name[32];
        assert_int_equal(text_format(name, sizeof name, "f%u", i), 0);
        add(m.a, &(struct entry){name, "", 0, 0, false});
    }
    archive_write_close(m.a);
    archive_write_free(m.a);
    refuse(w, "many", m, ERR_TOO_LARGE, "20000 files");
}

static void too_deep_or_long_a_path_is_refused(void **state) {
    struct world *w = *state;
    char deep[2 * 65 + 2] = "";
    for (unsigned i = 0; i < 65; i++) memcpy(deep + 2 * i, "d/", 3);
    const struct entry deep_entry = {deep, NULL, AE_IFDIR, 0755, false};
    refuse(w, "deep", pack(TAR, &deep_entry, 1), ERR_TOO_LARGE, "deep");
    char name[300];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    const struct entry long_entry = {name, "x", 0, 0, false};
    refuse(w, "long", pack(TAR, &long_entry, 1), ERR_TOO_LARGE, "long");
}

// --- the destination --------------------------------------------------------------------------------------------------

static void what_is_there_stays(void **state) {
    struct world *w = *state;
    static const struct entry first = {"f", "first", 0, 0, false}, second = {"f", "second", 0, 0, false};
    assert_int_equal(unpack(w, pack(TAR, &first, 1), NULL, NULL), 0);
    assert_int_equal(unpack(w, pack(TAR, &second, 1), NULL, NULL), 0);
    assert_content(w->dest, "f", "first");
    assert_int_equal(count_in(w->dir), 2);
}

static void the_exec_handler_becomes_executable(void **state) {
    struct world *w = *state;
    static const struct entry entries[] = {{"bin/run", "#!/bin/sh\n", 0, 0644, false}, {"other", "x", 0, 0644, false},
                                           {"link", "other", AE_IFLNK, 0, false}};
    assert_int_equal(unpack(w, pack(TAR, entries, 3), "bin/run", NULL), 0);
    assert_int_equal(mode_of(w, "bin/run"), 0755);
    assert_int_equal(mode_of(w, "other"), 0644);
    assert_int_equal(unpack(w, pack(TAR, entries, 3), "other", NULL), 0); // another version of the same code
    assert_int_equal(mode_of(w, "other"), 0755);
    assert_int_equal(unpack(w, pack(TAR, entries, 3), "not/there", NULL), 0);
    assert_int_equal(unpack(w, pack(TAR, entries, 3), "../secret", NULL), ERR_INVALID);
    struct stat st;
    assert_int_equal(stat(w->secret, &st), 0);
    assert_int_equal(st.st_mode & 0111, 0);
}

static void removing_twice_is_fine(void **state) {
    struct world *w = *state;
    static const struct entry entry = {"a/b/c", "x", 0, 0, false};
    assert_int_equal(unpack(w, pack(TAR, &entry, 1), NULL, NULL), 0);
    assert_int_equal(package_remove(w->dest, NULL), 0);
    assert_int_equal(package_remove(w->dest, NULL), 0);
    assert_nothing_left(w);
}

// --- what a crash left ------------------------------------------------------------------------------------------------

static char *make_folder(struct world *w, const char *name, bool old) {
    char *path = mem_printf("%s/%s", w->dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
    cleanup_free char *file = mem_printf("%s/file", path);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = clock_unix_ms() / 1000 - 7200}};
    if (old) assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    return path;
}

static bool keep_wanted(void *arg, const char *name) {
    (void)arg;
    assert_null(strstr(name, "fresh")); // a deploy that is under way is not asked about
    return strcmp(name, "wanted") == 0;
}

static void a_sweep_removes_what_a_crash_left(void **state) {
    struct world *w = *state;
    cleanup_free char *half = make_folder(w, "abc.tmp-XyZ123", true), *fresh_half = make_folder(w, "fresh.tmp-AAAAAA", false);
    cleanup_free char *wanted = make_folder(w, "wanted", true), *orphan = make_folder(w, "orphan", true);
    cleanup_free char *fresh = make_folder(w, "fresh", false);
    package_sweep(w->dir, NULL, NULL);
    assert_int_equal(access(half, F_OK), -1);
    assert_int_equal(access(orphan, F_OK), 0);
    package_sweep(w->dir, keep_wanted, NULL);
    assert_int_equal(access(orphan, F_OK), -1);
    assert_int_equal(access(wanted, F_OK), 0);
    assert_int_equal(access(fresh, F_OK), 0);
    assert_int_equal(access(fresh_half, F_OK), 0);
    assert_int_equal(access(w->secret, F_OK), 0);
    package_sweep("/nonexistent", keep_wanted, NULL);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(every_kind_unpacks),
        CASE(links_inside_are_kept),
        CASE(paths_that_leave_are_refused),
        CASE(links_that_leave_are_refused),
        CASE(hard_links_and_devices_are_refused),
        CASE(no_archive_is_refused),
        CASE(a_cut_archive_is_refused),
        CASE(a_bomb_is_refused),
        CASE(too_many_files_are_refused),
        CASE(too_deep_or_long_a_path_is_refused),
        CASE(what_is_there_stays),
        CASE(the_exec_handler_becomes_executable),
        CASE(removing_twice_is_fine),
        CASE(a_sweep_removes_what_a_crash_left),
    };
    return cmocka_run_group_tests_name("core/package", tests, NULL, NULL);
}
