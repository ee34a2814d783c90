// SPDX-License-Identifier: Apache-2.0
#include "core/ini_file.h"

#include <errno.h>
#include <ini.h>

struct reading {
    ini_file_fn *fn;
    void *arg;
    struct err err;
    bool failed;
};

static int on_entry(void *user, const char *section, const char *name, const char *value) {
    struct reading *r = user;
    if (r->failed) return 0;
    r->failed = r->fn(r->arg, section, name, value, &r->err) < 0;
    return !r->failed;
}

int ini_file_read(const char *path, ini_file_fn *fn, void *arg, struct err *err) {
    struct reading r = {.fn = fn, .arg = arg};
    errno = 0;
    int line = ini_parse(path, on_entry, &r); // the number of the first line with an error, or -1
    if (line == 0) return 0;
    if (line < 0) return err_set_errno(err, ERR_NOT_FOUND, errno, "cannot read %s", path);
    const char *why = r.failed ? r.err.text : "neither a [section] nor a `name = value`";
    return err_set(err, ERR_INVALID, "%s:%d: %s", path, line, why);
}
