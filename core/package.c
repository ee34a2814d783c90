// SPDX-License-Identifier: Apache-2.0
// Reads the archive with libarchive and writes the files itself, below a folder descriptor, one path component at a
// time and never through a link: what an archive calls its files cannot lead outside whatever came before.
//
// Invariant: a symbolic link that is let in stays inside however it is combined with others: its target goes up only
// at its beginning, no higher than the root, and through folders (which were not reached by a link), then only down.
#include "core/package.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <locale.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/registry.h"

#define DEPTH_MAX 64
#define PATH_MAX_BYTES 4096
#define TEMP_MARK ".tmp-"
#define SWEEP_AGE_S 3600

struct unpacking {
    struct archive *a;
    int root_fd;
    unsigned made;       // files, folders and links so far
    uint64_t bytes;
    char shown[200];     // the entry's name, fit for an error text
};

struct path {
    char *text;          // components separated by NUL
    const char *names[DEPTH_MAX];
    size_t count;
};

static int fail_errno(struct err *err, int errnum, const char *what, const char *name) {
    bool full = errnum == ENOSPC || errnum == EDQUOT;
    return err_set_errno(err, full ? ERR_FULL : ERR_INTERNAL, errnum, "%s %.200s", what, name);
}

static void fd_closep(int *fd) {
    if (*fd >= 0) close(*fd);
}
#define cleanup_fd __attribute__((cleanup(fd_closep)))

static void keep_shown(struct unpacking *u, const char *name) {
    size_t i = 0;
    for (; name[i] && i + 1 < sizeof u->shown; i++)
        u->shown[i] = name[i] >= 0x20 && name[i] < 0x7f ? name[i] : '?';
    u->shown[i] = '\0';
}

// Splits a name into components; empty ones and "." vanish. `text` is changed and must outlive `p`.
static int split_path(struct unpacking *u, char *text, struct path *p, struct err *err) {
    p->text = text;
    p->count = 0;
    if (*text == '/') return err_set(err, ERR_INVALID, "the package has an absolute path: %s", u->shown);
    if (strlen(text) > PATH_MAX_BYTES) return err_set(err, ERR_TOO_LARGE, "the package has a path that is too long: %s", u->shown);
    char *save = NULL;
    for (char *name = strtok_r(text, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
        if (strcmp(name, ".") == 0) continue;
        if (strcmp(name, "..") == 0) return err_set(err, ERR_INVALID, "the package has a path with '..': %s", u->shown);
        if (strlen(name) > 255) return err_set(err, ERR_TOO_LARGE, "the package has a name that is too long: %s", u->shown);
        if (p->count == DEPTH_MAX) return err_set(err, ERR_TOO_LARGE, "the package has a path that is too deep: %s", u->shown);
        p->names[p->count++] = name;
    }
    return 0;
}

static int count_made(struct unpacking *u, struct err *err) {
    if (++u->made > PACKAGE_FILES_MAX) return err_set(err, ERR_TOO_LARGE, "the package has more than %d files", PACKAGE_FILES_MAX);
    return 0;
}

// Opens the folder that the first `count` names lead to; makes what is missing when `make` says so.
static int open_folder(struct unpacking *u, const struct path *p, size_t count, bool make, int *ret_fd, struct err *err) {
    cleanup_fd int fd = dup(u->root_fd);
    if (fd < 0) return fail_errno(err, errno, "cannot open", u->shown);
    for (size_t i = 0; i < count; i++) {
        bool made = make && mkdirat(fd, p->names[i], 0755) == 0;
        if (make && !made && errno != EEXIST) return fail_errno(err, errno, "cannot make the folder of", u->shown);
        if (made && count_made(u, err)) return ERR_TOO_LARGE;
        int next = openat(fd, p->names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0 && (errno == ENOTDIR || errno == ELOOP))
            return err_set(err, ERR_INVALID, "the package has a path through a file or a link: %s", u->shown);
        if (next < 0) return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "no folder of %s", u->shown)
                                             : fail_errno(err, errno, "cannot open the folder of", u->shown);
        close(fd);
        fd = next;
        if (made && fchmod(fd, 0755) != 0) return fail_errno(err, errno, "cannot set the mode of", u->shown); // umask
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static int exists_error(struct unpacking *u, int errnum, struct err *err) {
    if (errnum == EEXIST) return err_set(err, ERR_INVALID, "the package has two files of the name %s", u->shown);
    return fail_errno(err, errnum, "cannot write", u->shown);
}

static int write_all(struct unpacking *u, int fd, const char *data, size_t len, struct err *err) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(err, errno, "cannot write", u->shown);
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int broken(struct unpacking *u, struct err *err) {
    const char *why = archive_error_string(u->a);
    return err_set(err, ERR_INVALID, "the package is broken at %s: %.150s", u->shown, why ? why : "unknown error");
}

static int write_content(struct unpacking *u, int fd, struct err *err) {
    char data[32768];
    for (;;) {
        la_ssize_t n = archive_read_data(u->a, data, sizeof data);
        if (n == 0) return 0;
        if (n < 0) return broken(u, err);
        u->bytes += (uint64_t)n;
        if (u->bytes > PACKAGE_UNPACKED_MAX)
            return err_set(err, ERR_TOO_LARGE, "the package has more than %u MiB of files", PACKAGE_UNPACKED_MAX >> 20);
        int rc = write_all(u, fd, data, (size_t)n, err);
        if (rc) return rc;
    }
}

static int make_file(struct unpacking *u, const struct path *p, int folder, struct archive_entry *e, struct err *err) {
    if (archive_entry_size_is_set(e) && archive_entry_size(e) > (la_int64_t)PACKAGE_UNPACKED_MAX)
        return err_set(err, ERR_TOO_LARGE, "the package has more than %u MiB in %s", PACKAGE_UNPACKED_MAX >> 20, u->shown);
    cleanup_fd int fd = openat(folder, p->names[p->count - 1], O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return exists_error(u, errno, err);
    int rc = write_content(u, fd, err);
    if (rc) return rc;
    mode_t mode = archive_entry_perm(e) & 0111 ? 0755 : 0644;
    return fchmod(fd, mode) == 0 ? 0 : fail_errno(err, errno, "cannot set the mode of", u->shown);
}

// The head of this file says which targets stay inside.
static bool link_stays_inside(const char *target, size_t depth) {
    if (*target == '/' || !*target) return false;
    bool going_up = true;
    while (*target) {
        size_t len = strcspn(target, "/");
        bool up = len == 2 && target[0] == '.' && target[1] == '.';
        bool here = len == 0 || (len == 1 && *target == '.');
        if (up && (!going_up || depth-- == 0)) return false;
        if (!up && !here) going_up = false;
        target += len + (target[len] == '/');
    }
    return true;
}

static int make_link(struct unpacking *u, const struct path *p, int folder, struct archive_entry *e, struct err *err) {
    const char *target = archive_entry_symlink_utf8(e);
    if (!target) target = archive_entry_symlink(e);
    if (!target || strlen(target) > PATH_MAX_BYTES || !link_stays_inside(target, p->count - 1))
        return err_set(err, ERR_INVALID, "the package has a link that leaves it: %s", u->shown);
    return symlinkat(target, folder, p->names[p->count - 1]) == 0 ? 0 : exists_error(u, errno, err);
}

static int make_entry(struct unpacking *u, const struct path *p, struct archive_entry *e, struct err *err) {
    mode_t type = archive_entry_filetype(e);
    if (archive_entry_hardlink(e) || archive_entry_hardlink_utf8(e))
        return err_set(err, ERR_INVALID, "the package has a hard link: %s", u->shown);
    if (archive_entry_is_encrypted(e)) return err_set(err, ERR_INVALID, "the package is encrypted: %s", u->shown);
    if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return err_set(err, ERR_INVALID, "the package has a device, pipe or socket: %s", u->shown);
    cleanup_fd int folder = -1;
    size_t above = type == AE_IFDIR ? p->count : p->count ? p->count - 1 : 0;
    int rc = open_folder(u, p, above, true, &folder, err);
    if (rc || type == AE_IFDIR) return rc;
    if (p->count == 0) return err_set(err, ERR_INVALID, "the package has a file without a name");
    if (count_made(u, err)) return ERR_TOO_LARGE;
    return type == AE_IFREG ? make_file(u, p, folder, e, err) : make_link(u, p, folder, e, err);
}

static int take_entry(struct unpacking *u, struct archive_entry *e, struct err *err) {
    const char *name = archive_entry_pathname_utf8(e);
    if (!name) name = archive_entry_pathname(e); // not UTF-8: the bytes as they are
    if (!name) return err_set(err, ERR_INVALID, "the package has a file whose name cannot be read");
    keep_shown(u, name);
    cleanup_free char *text = mem_strdup(name);
    struct path p;
    int rc = split_path(u, text, &p, err);
    return rc ? rc : make_entry(u, &p, e, err);
}

static int take_entries(struct unpacking *u, struct err *err) {
    for (;;) {
        struct archive_entry *e;
        int rc = archive_read_next_header(u->a, &e);
        if (rc == ARCHIVE_EOF) break;
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) {
            if (u->made > 0) return broken(u, err);
            return err_set(err, ERR_INVALID, "the package is not a zip, tar or tar.gz archive");
        }
        rc = take_entry(u, e, err);
        if (rc) return rc;
    }
    return u->made > 0 ? 0 : err_set(err, ERR_INVALID, "the package is empty");
}

static int open_archive(struct str bytes, struct archive **ret, struct err *err) {
    struct archive *a = archive_read_new();
    MUST(a);
    archive_read_support_filter_gzip(a);
    archive_read_support_format_tar(a);
    archive_read_support_format_zip(a);
    if (bytes.len == 0 || archive_read_open_memory(a, bytes.data, bytes.len) != ARCHIVE_OK) {
        archive_read_free(a);
        return err_set(err, ERR_INVALID, "the package is not a zip, tar or tar.gz archive");
    }
    *ret = a;
    return 0;
}

// libarchive turns UTF-8 names into the locale's letters and loses those that it does not have. The thread gets a locale
// that has all, whatever the process has; without it such a name is refused.
static int fill_folder(struct str archive, int root_fd, struct err *err) {
    struct unpacking u = {.root_fd = root_fd, .shown = "its beginning"};
    int rc = open_archive(archive, &u.a, err);
    if (rc) return rc;
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    rc = take_entries(&u, err);
    archive_read_free(u.a);
    if (utf8) uselocale(before), freelocale(utf8);
    return rc;
}

// Makes a file of the folder executable; a name that is not there is left to whoever runs it.
static int make_executable(int root_fd, const char *handler, struct err *err) {
    struct unpacking u = {.root_fd = root_fd};
    keep_shown(&u, handler);
    cleanup_free char *text = mem_strdup(handler);
    struct path p;
    int rc = split_path(&u, text, &p, err);
    if (rc || p.count == 0) return rc;
    cleanup_fd int folder = -1;
    rc = open_folder(&u, &p, p.count - 1, false, &folder, err);
    if (rc) return rc == ERR_NOT_FOUND ? 0 : rc;
    cleanup_fd int fd = openat(folder, p.names[p.count - 1], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return 0;
    return fchmod(fd, 0755) == 0 ? 0 : fail_errno(err, errno, "cannot make executable", u.shown);
}

static int sync_folder(const char *path) {
    cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? 0 : -1;
}

static int sync_parent(const char *path) {
    const char *slash = strrchr(path, '/');
    cleanup_free char *parent = slash && slash > path ? mem_strndup((struct str){path, (size_t)(slash - path)}) : mem_strdup(slash ? "/" : ".");
    return sync_folder(parent);
}

// Everything that was written reaches the disk before the name does.
static int publish(int root_fd, const char *temp, const char *dest, struct err *err) {
    if (fchmod(root_fd, 0755) != 0 || syncfs(root_fd) != 0) return fail_errno(err, errno, "cannot flush", temp);
    if (rename(temp, dest) != 0) return fail_errno(err, errno, "cannot rename to", dest);
    return sync_parent(dest) == 0 ? 0 : fail_errno(err, errno, "cannot flush the folder of", dest);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)ftw;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

static int remove_tree(const char *dir) {
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int unpack_new(struct str archive, const char *dest_dir, const char *exec_handler, struct err *err) {
    cleanup_free char *temp = mem_printf("%s" TEMP_MARK "XXXXXX", dest_dir);
    if (!mkdtemp(temp)) return fail_errno(err, errno, "cannot make the folder", temp);
    cleanup_fd int fd = open(temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int rc = fd < 0 ? fail_errno(err, errno, "cannot open", temp) : fill_folder(archive, fd, err);
    if (rc == 0 && exec_handler) rc = make_executable(fd, exec_handler, err);
    if (rc == 0) rc = publish(fd, temp, dest_dir, err);
    if (rc == 0) return 0;
    remove_tree(temp);
    return access(dest_dir, F_OK) == 0 && rc == ERR_INTERNAL ? 0 : rc; // another thread was first
}

int package_unpack(struct str archive, const char *dest_dir, const char *exec_handler, struct err *err) {
    cleanup_fd int fd = open(dest_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) return exec_handler ? make_executable(fd, exec_handler, err) : 0;
    if (errno != ENOENT) return fail_errno(err, errno, "cannot open", dest_dir);
    return unpack_new(archive, dest_dir, exec_handler, err);
}

int package_remove(const char *dir, struct err *err) {
    cleanup_free char *temp = mem_printf("%s" TEMP_MARK "gone-%d", dir, (int)getpid());
    if (rename(dir, temp) != 0) return errno == ENOENT ? 0 : fail_errno(err, errno, "cannot remove", dir);
    return remove_tree(temp) == 0 ? 0 : fail_errno(err, errno, "cannot remove", temp);
}

void package_sweep(const char *parent, bool (*keep)(void *arg, const char *name), void *arg) {
    DIR *d = opendir(parent);
    if (!d) return;
    time_t newest = time(NULL) - SWEEP_AGE_S;
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (!S_ISDIR(st.st_mode) || st.st_mtime > newest) continue;
        if (!strstr(e->d_name, TEMP_MARK) && (!keep || keep(arg, e->d_name))) continue;
        cleanup_free char *path = mem_printf("%s/%s", parent, e->d_name);
        remove_tree(path);
    }
    closedir(d);
}
