// SPDX-License-Identifier: Apache-2.0
// The only file that knows inih. It stops at the first bad line; inih itself would read on.
#include "core/ini_file.h"

#include <errno.h>
#include <ini.h>

struct reading {
    FILE *f;
    ini_file_fn *fn;
    void *arg;
    int line;     // that inih is working on
    int bad_line; // 0: none so far
    struct err why;
};

// As fgets, but without leading blanks: inih would take an indented line for the rest of the one before.
static char *read_line(char *out, int room, void *stream) {
    struct reading *r = stream;
    if (r->bad_line || !fgets(out, room, r->f)) return NULL;
    r->line++;
    size_t len = strlen(out);
    if (len + 1 == (size_t)room && out[len - 1] != '\n') {
        r->bad_line = r->line;
        err_set(&r->why, ERR_INVALID, "the line is too long");
        return NULL;
    }
    size_t blanks = strspn(out, " \t");
    memmove(out, out + blanks, len - blanks + 1);
    return out;
}

static int on_entry(void *user, const char *section, const char *name, const char *value) {
    struct reading *r = user;
    if (r->bad_line) return 1;
    if (r->fn(r->arg, section, name, value, &r->why) < 0) r->bad_line = r->line;
    return 1;
}

int ini_file_read(const char *path, ini_file_fn *fn, void *arg, struct err *err) {
    cleanup_file FILE *f = fopen(path, "re");
    if (!f) return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INVALID, errno, "cannot open %.300s", path);
    struct reading r = {.f = f, .fn = fn, .arg = arg};
    int bad = ini_parse_stream(read_line, &r, on_entry, &r);
    if (ferror(f)) return err_set(err, ERR_INVALID, "cannot read %.300s", path);
    if (bad < 0) return err_set(err, ERR_INTERNAL, "cannot parse %.300s", path);
    if (bad > 0 && (r.bad_line == 0 || bad < r.bad_line)) {
        r.bad_line = bad;
        err_set(&r.why, ERR_INVALID, "expected `name = value`");
    }
    if (r.bad_line) return err_set(err, ERR_INVALID, "%.200s:%d: %.280s", path, r.bad_line, r.why.text);
    return 0;
}
