// SPDX-License-Identifier: Apache-2.0
// The tree is walked first, into a list that is sorted as a whole; then it is written. The order of a folder on disk
// thus never shows.
#include "cli/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/registry.h"

struct member {
    char *disk; // path to read from
    char *name; // path in the archive
};
struct pack {
    struct member *members;
    size_t count, room;
    int64_t bytes; // unpacked
    struct err *err;
    struct buf *out;
    struct archive *archive;
};

#define DEPTH_MAX 64

// --- walking ------------------------------------------------------------------------------------------------------

static bool is_skipped(const char *name) {
    size_t n = strlen(name);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return true;
    if (strcmp(name, ".git") == 0 || strcmp(name, "__pycache__") == 0) return true;
    return n > 4 && strcmp(name + n - 4, ".pyc") == 0;
}

static int add_file(struct pack *p, const char *disk, const char *name, int64_t bytes) {
    p->bytes += bytes;
    if (p->count >= PACKAGE_FILES_MAX)
        return err_set(p->err, ERR_TOO_LARGE, "more than %d files; deploy a folder that holds only the function",
                       PACKAGE_FILES_MAX);
    if (p->bytes > (int64_t)PACKAGE_UNPACKED_MAX)
        return err_set(p->err, ERR_TOO_LARGE, "the files are more than %u MiB together (reached at %s); leave out what the "
                       "function does not need", PACKAGE_UNPACKED_MAX / (1024 * 1024), name);
    if (p->count == p->room) {
        p->room = p->room ? p->room * 2 : 32;
        p->members = mem_realloc(p->members, p->room * sizeof *p->members);
    }
    p->members[p->count++] = (struct member){mem_strdup(disk), mem_strdup(name)};
    return 0;
}

static int walk(struct pack *p, const char *disk, const char *name, int depth);

static int walk_entry(struct pack *p, const char *disk, const char *name, int depth) {
    struct stat link, st;
    if (lstat(disk, &link) < 0 || stat(disk, &st) < 0)
        return err_set_errno(p->err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INVALID, errno, "%s", disk);
    if (S_ISREG(st.st_mode)) return add_file(p, disk, name, st.st_size);
    if (!S_ISDIR(st.st_mode))
        return err_set(p->err, ERR_INVALID, "%s is neither a file nor a folder; a package cannot hold it", disk);
    if (S_ISLNK(link.st_mode))
        return err_set(p->err, ERR_INVALID, "%s is a link to a folder; put the folder itself there", disk);
    if (depth >= DEPTH_MAX) return err_set(p->err, ERR_TOO_LARGE, "%s: folders more than %d deep", disk, DEPTH_MAX);
    return walk(p, disk, name, depth + 1);
}

static int walk(struct pack *p, const char *disk, const char *name, int depth) {
    DIR *dir = opendir(disk);
    if (!dir) return err_set_errno(p->err, ERR_INVALID, errno, "%s", disk);
    int rc = 0;
    for (const struct dirent *e; rc == 0 && (e = readdir(dir));) {
        if (is_skipped(e->d_name)) continue;
        cleanup_free char *below = mem_printf("%s/%s", disk, e->d_name);
        cleanup_free char *inside = mem_printf("%s%s%s", name, *name ? "/" : "", e->d_name);
        rc = walk_entry(p, below, inside, depth);
    }
    closedir(dir);
    return rc;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct member *)a)->name, ((const struct member *)b)->name);
}

// --- writing ------------------------------------------------------------------------------------------------------

static la_ssize_t on_packed(struct archive *archive, void *arg, const void *data, size_t len) {
    struct pack *p = arg;
    if (buf_append(p->out, (struct str){data, len}) < 0) {
        archive_set_error(archive, EFBIG, "too large");
        err_set(p->err, ERR_TOO_LARGE, "the package is over %zu MiB; leave out what the function does not need",
                PACK_MAX / (1024 * 1024));
        return -1;
    }
    return (la_ssize_t)len;
}

static int archive_failed(struct pack *p, const char *name) {
    if (p->err->code == ERR_OK) err_set(p->err, ERR_INTERNAL, "packing %s: %s", name, archive_error_string(p->archive));
    return p->err->code;
}

static int write_head(struct pack *p, const char *name, int64_t bytes, bool executable) {
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, executable ? 0755 : 0644);
    archive_entry_set_size(entry, bytes);
    archive_entry_set_mtime(entry, 0, 0);
    int rc = archive_write_header(p->archive, entry);
    archive_entry_free(entry);
    return rc == ARCHIVE_OK ? 0 : archive_failed(p, name);
}

static int write_body(struct pack *p, const struct member *m, FILE *f, int64_t bytes) {
    char chunk[65536];
    while (bytes > 0) {
        size_t want = bytes < (int64_t)sizeof chunk ? (size_t)bytes : sizeof chunk;
        size_t n = fread(chunk, 1, want, f);
        if (n == 0) return err_set(p->err, ERR_INVALID, "%s became shorter while it was read; try again", m->disk);
        if (archive_write_data(p->archive, chunk, n) != (la_ssize_t)n) return archive_failed(p, m->name);
        bytes -= (int64_t)n;
    }
    return 0;
}

// A script without the executable bit is still one: what counts is its first line.
static bool is_executable(FILE *f, mode_t mode) {
    char head[2] = {0};
    bool script = fread(head, 1, 2, f) == 2 && head[0] == '#' && head[1] == '!';
    rewind(f);
    return script || (mode & 0111) != 0;
}

static int write_member(struct pack *p, const struct member *m) {
    cleanup_file FILE *f = fopen(m->disk, "rbe");
    struct stat st;
    if (!f || fstat(fileno(f), &st) < 0) return err_set_errno(p->err, ERR_INVALID, errno, "%s", m->disk);
    int rc = write_head(p, m->name, st.st_size, is_executable(f, st.st_mode));
    return rc < 0 ? rc : write_body(p, m, f, st.st_size);
}

static int write_all(struct pack *p) {
    p->archive = archive_write_new();
    MUST(p->archive);
    archive_write_set_format_pax_restricted(p->archive); // plain ustar while names and sizes allow it
    archive_write_add_filter_gzip(p->archive);
    archive_write_set_filter_option(p->archive, "gzip", "timestamp", NULL);
    archive_write_set_bytes_in_last_block(p->archive, 1);
    int rc = archive_write_open(p->archive, p, NULL, on_packed, NULL) == ARCHIVE_OK ? 0 : archive_failed(p, "");
    for (size_t i = 0; rc == 0 && i < p->count; i++) rc = write_member(p, &p->members[i]);
    if (rc == 0 && archive_write_close(p->archive) != ARCHIVE_OK) rc = archive_failed(p, "the end");
    if (rc < 0) archive_write_fail(p->archive);
    archive_write_free(p->archive);
    return rc;
}

int pack_path(const char *path, struct buf *ret, struct err *err) {
    struct buf out;
    buf_init(&out, PACK_MAX);
    *err = (struct err){0};
    struct pack p = {.err = err, .out = &out};
    const char *slash = strrchr(path, '/');
    struct stat st;
    int rc;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) rc = walk(&p, path, "", 0);
    else rc = walk_entry(&p, path, slash ? slash + 1 : path, 0);
    if (rc == 0 && p.count == 0) rc = err_set(err, ERR_INVALID, "%s holds no files", path);
    if (rc == 0) {
        qsort(p.members, p.count, sizeof *p.members, by_name);
        rc = write_all(&p);
    }
    for (size_t i = 0; i < p.count; i++) {
        free(p.members[i].disk);
        free(p.members[i].name);
    }
    free(p.members);
    if (rc == 0) *ret = out;
    else buf_done(&out);
    return rc;
}

// --- ready archives -----------------------------------------------------------------------------------------------

bool pack_is_archive(const char *path) {
    static const char *const ends[] = {".zip", ".tar", ".tar.gz", ".tgz"};
    size_t n = strlen(path);
    for (size_t i = 0; i < array_len(ends); i++) {
        size_t e = strlen(ends[i]);
        if (n > e && strcmp(path + n - e, ends[i]) == 0) return true;
    }
    return false;
}

int pack_read(const char *path, struct buf *ret, struct err *err) {
    cleanup_file FILE *f = fopen(path, "rbe");
    if (!f) return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INVALID, errno, "%s", path);
    struct buf out;
    buf_init(&out, PACK_MAX);
    char chunk[65536];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;) {
        if (buf_append(&out, (struct str){chunk, n}) == 0) continue;
        buf_done(&out);
        return err_set(err, ERR_TOO_LARGE, "%s is over %zu MiB; leave out what the function does not need", path,
                       PACK_MAX / (1024 * 1024));
    }
    *ret = out;
    return 0;
}
