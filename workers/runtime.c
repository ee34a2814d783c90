// SPDX-License-Identifier: Apache-2.0
// The keys of a manifest are explained in runtimes/README.md. Keys that only the CLI needs are passed over here.
#include "workers/runtime.h"

#include <dirent.h>
#include <sys/stat.h>

#include "core/base/buf.h"
#include "core/ini_file.h"

#define ARGV_MAX 32
#define RUNTIMES_MAX 64

struct manifest {
    char *name, *probe, *command;
};

static int on_key(void *arg, const char *section, const char *name, const char *value, struct err *err) {
    (void)section, (void)err;
    struct manifest *m = arg;
    char **at = strcmp(name, "name") == 0      ? &m->name
                : strcmp(name, "probe") == 0   ? &m->probe
                : strcmp(name, "command") == 0 ? &m->command
                                               : NULL;
    if (at) {
        free(*at);
        *at = mem_strdup(value);
    }
    return 0;
}

static void manifest_done(struct manifest *m) {
    free(m->name);
    free(m->probe);
    free(m->command);
}

// The first line that the shell command prints, or NULL when it fails.
static char *run_probe(const char *command) {
    FILE *out = popen(command, "re"); // NOLINT(cert-env33-c): the command comes from the installation's own manifest
    if (!out) return NULL;
    char line[4096] = "";
    bool got = fgets(line, sizeof line, out) != NULL;
    for (char rest[1024]; fgets(rest, sizeof rest, out);) continue; // else it may die of SIGPIPE
    bool ok = pclose(out) == 0;
    line[strcspn(line, "\r\n")] = '\0';
    return got && ok && line[0] == '/' ? mem_strdup(line) : NULL;
}

static char *replace(const char *word, const char *placeholder, const char *value) {
    struct buf out;
    buf_init(&out, 65536);
    const char *at;
    int rc = 0;
    while ((at = strstr(word, placeholder))) {
        rc |= buf_append(&out, (struct str){word, (size_t)(at - word)});
        rc |= buf_append(&out, str_of(value));
        word = at + strlen(placeholder);
    }
    rc |= buf_append(&out, str_of(word));
    MUST(rc == 0);
    return buf_take(&out, NULL);
}

// Split at blanks first, so that the paths put in may contain some.
static char **make_argv(const char *command, const char *interpreter, const char *dir) {
    char **argv = mem_array(ARGV_MAX + 1, sizeof *argv);
    cleanup_free char *words = mem_strdup(command);
    char *save = NULL;
    size_t n = 0;
    for (char *w = strtok_r(words, " \t", &save); w && n < ARGV_MAX; w = strtok_r(NULL, " \t", &save)) {
        cleanup_free char *half = replace(w, "{interpreter}", interpreter);
        argv[n++] = replace(half, "{runtime_dir}", dir);
    }
    return argv;
}

static int load_one(const char *dir, struct runtime *rt, struct err *err) {
    cleanup_free char *path = mem_printf("%s/manifest.ini", dir);
    struct manifest m = {0};
    int rc = ini_file_read(path, on_key, &m, err);
    if (rc == 0 && (!m.name || !m.probe || !m.command))
        rc = err_set(err, ERR_INVALID, "%s needs name, probe and command", path);
    if (rc == 0) {
        *rt = (struct runtime){.name = mem_strdup(m.name), .dir = mem_strdup(dir), .interpreter = run_probe(m.probe)};
        if (rt->interpreter) rt->argv = make_argv(m.command, rt->interpreter, dir);
        else rt->missing = mem_printf("`%s` failed: is the language installed?", m.probe);
    }
    manifest_done(&m);
    return rc;
}

int runtimes_load(const char *dir, struct runtimes *ret, struct err *err) {
    char *full = realpath(dir, NULL);
    DIR *d = full ? opendir(full) : NULL;
    if (!d) {
        free(full);
        return err_set(err, ERR_NOT_FOUND, "there is no folder of runtimes at %s; set --runtimes", dir);
    }
    struct runtimes r = {.dir = full, .list = mem_array(RUNTIMES_MAX, sizeof *r.list)};
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        cleanup_free char *manifest = mem_printf("%s/%s/manifest.ini", full, e->d_name);
        struct stat st;
        if (e->d_name[0] == '.' || stat(manifest, &st) || r.count == RUNTIMES_MAX) continue;
        cleanup_free char *sub = mem_printf("%s/%s", full, e->d_name);
        rc = load_one(sub, &r.list[r.count], err);
        if (rc == 0) r.count++;
    }
    closedir(d);
    if (rc == 0 && r.count == 0) rc = err_set(err, ERR_NOT_FOUND, "no runtime has a manifest.ini in %s", full);
    if (rc) runtimes_done(&r);
    else *ret = r;
    return rc;
}

void runtimes_done(struct runtimes *r) {
    for (size_t i = 0; i < r->count; i++) {
        struct runtime *rt = &r->list[i];
        free(rt->name);
        free(rt->dir);
        free(rt->interpreter);
        free(rt->missing);
        for (size_t k = 0; rt->argv && rt->argv[k]; k++) free(rt->argv[k]);
        free(rt->argv);
    }
    free(r->list);
    free(r->dir);
    *r = (struct runtimes){0};
}

int runtimes_find(const struct runtimes *r, const char *name, const struct runtime **ret, struct err *err) {
    char names[200] = "";
    size_t used = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct runtime *rt = &r->list[i];
        if (strcmp(rt->name, name) == 0) {
            if (!rt->interpreter) return err_set(err, ERR_INVALID, "the runtime %s cannot be used: %s", name, rt->missing);
            *ret = rt;
            return 0;
        }
        int n = snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", rt->name);
        if (n > 0 && (size_t)n < sizeof names - used) used += (size_t)n;
    }
    return err_set(err, ERR_INVALID, "there is no runtime %s; there are: %s", name, names);
}
