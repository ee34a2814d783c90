// SPDX-License-Identifier: Apache-2.0
// Python is read line by line, not parsed: a name that is bound at the start of a line outside of a long string is at the
// top level. What this cannot see (a name bound in an `if` or by `import *`) is settled by --handler, and the server loads
// the code for real.
#include "cli/guess.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/pack.h"
#include "core/base/buf.h"
#include "core/registry.h"

#define SOURCE_BYTES_MAX ((size_t)16 * 1024 * 1024)

void guess_done(struct guess *g) {
    free(g->name);
    free(g->runtime);
    free(g->handler);
    *g = (struct guess){0};
}

// --- Python -------------------------------------------------------------------------------------------------------

#define FUNCTIONS_SHOWN 20
static const char *const usual_names[] = {"handler", "lambda_handler", "handle", "main", "run", "process"};

struct scan {
    bool has_main_handler;
    struct str usual[array_len(usual_names)]; // found functions with usual names
    size_t usual_count;
    struct str all[FUNCTIONS_SHOWN];
    size_t all_count;
};

static size_t word_len(struct str s) {
    size_t n = 0;
    while (n < s.len && (isalnum((unsigned char)s.data[n]) || s.data[n] == '_' || (unsigned char)s.data[n] >= 0x80)) n++;
    return n;
}

static struct str after(struct str s, const char *prefix) {
    size_t n = strlen(prefix);
    while (n < s.len && (s.data[n] == ' ' || s.data[n] == '\t')) n++;
    return (struct str){s.data + n, s.len - n};
}

static void note_function(struct scan *scan, struct str name) {
    if (str_is(name, "main_handler")) scan->has_main_handler = true;
    for (size_t i = 0; i < scan->all_count; i++)
        if (str_eq(scan->all[i], name)) return; // bound twice
    if (scan->all_count < FUNCTIONS_SHOWN) scan->all[scan->all_count++] = name;
    for (size_t i = 0; i < array_len(usual_names); i++)
        if (str_is(name, usual_names[i])) scan->usual[scan->usual_count++] = name;
}

// `def name(`, `async def name(`, and `main_handler = …`, `from x import main_handler` for the one name.
static void note_line(struct scan *scan, struct str line) {
    struct str rest = line;
    if (str_starts(rest, "async ")) rest = after(rest, "async ");
    if (str_starts(rest, "def ")) {
        rest = after(rest, "def ");
        rest.len = word_len(rest);
        if (rest.len) note_function(scan, rest);
        return;
    }
    if (str_starts(line, "from ") || str_starts(line, "main_handler")) {
        struct str name = STR_LIT("main_handler");
        const char *at = memmem(line.data, line.len, name.data, name.len);
        if (!at) return;
        size_t begin = (size_t)(at - line.data), end = begin + name.len;
        struct str behind = {line.data + end, line.len - end};
        if (begin > 0 ? word_len(behind) == 0 : str_starts(after(behind, ""), "=")) scan->has_main_handler = true;
    }
}

// Follows """…""" and '''…''' through a line; quote: the one that is open, 0 none. Returns the one open at its end.
static char follow_quotes(struct str line, char quote) {
    char small = 0; // inside '…' or "…", which end with their line
    for (size_t i = 0; i < line.len; i++) {
        char c = line.data[i];
        bool triple = (c == '"' || c == '\'') && i + 2 < line.len && line.data[i + 1] == c && line.data[i + 2] == c;
        if (c == '\\') {
            i++;
        } else if (quote || (triple && !small)) {
            if (!triple || (quote && c != quote)) continue;
            quote = quote ? 0 : c;
            i += 2;
        } else if (small) {
            if (c == small) small = 0;
        } else if (c == '"' || c == '\'') {
            small = c;
        } else if (c == '#') {
            break;
        }
    }
    return quote;
}

static void scan_text(struct scan *scan, struct str text) {
    char quote = 0;
    if (str_starts(text, "\xef\xbb\xbf")) text = (struct str){text.data + 3, text.len - 3};
    while (text.len) {
        const char *end = memchr(text.data, '\n', text.len);
        struct str line = {text.data, end ? (size_t)(end - text.data) : text.len};
        if (!quote) note_line(scan, line);
        quote = follow_quotes(line, quote);
        size_t n = line.len + (end != NULL);
        text = (struct str){text.data + n, text.len - n};
    }
}

static char *list_functions(const struct scan *scan) {
    struct buf b;
    buf_init(&b, 16384);
    for (size_t i = 0; i < scan->all_count; i++) // a list that is cut still helps
        if (buf_printf(&b, "%s%.*s", i ? ", " : "", STR_ARG(scan->all[i])) < 0) break;
    return buf_take(&b, NULL);
}

int guess_python_function(struct str text, const char *stem, char **ret, struct err *err) {
    struct scan scan = {0};
    scan_text(&scan, text);
    if (scan.has_main_handler) {
        *ret = mem_strdup("main_handler");
        return 0;
    }
    if (scan.usual_count == 1) {
        *ret = mem_strndup(scan.usual[0]);
        return 0;
    }
    cleanup_free char *names = list_functions(&scan);
    if (scan.all_count == 0)
        return err_set(err, ERR_INVALID, "%s.py has no function; it needs a def main_handler(event, context)", stem);
    return err_set(err, ERR_INVALID,
                   "%s.py has no def main_handler(event, context); say which function takes the events: "
                   "--handler %s.FUNCTION (its functions: %.300s)",
                   stem, stem, names);
}

static int read_source(const char *path, struct buf *ret, struct err *err) {
    cleanup_file FILE *f = fopen(path, "rbe");
    if (!f) return err_set_errno(err, ERR_INVALID, errno, "%s", path);
    buf_init(ret, SOURCE_BYTES_MAX);
    char chunk[16384];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        if (buf_append(ret, (struct str){chunk, n}) < 0) break; // who writes that much has main_handler further up
    return 0;
}

static int guess_python_handler(struct guess *g, const char *file, const char *stem, struct err *err) {
    struct buf text;
    int rc = read_source(file, &text, err);
    if (rc < 0) return rc;
    cleanup_free char *function = NULL;
    rc = guess_python_function(buf_str(&text), stem, &function, err);
    buf_done(&text);
    if (rc == 0) g->handler = mem_printf("%s.%s", stem, function);
    return rc;
}

// --- names --------------------------------------------------------------------------------------------------------

static char *name_of(const char *base) {
    char *name = mem_strdup(base), *to = name;
    for (const char *from = base; *from && to - name < FUNCTION_NAME_MAX; from++) {
        unsigned char c = (unsigned char)*from;
        bool valid = c < 0x80 && (isalnum(c) || c == '-' || c == '_');
        if (to == name && !isalpha(c)) continue;
        if (!valid && to[-1] == '-') continue; // one dash for a run of invalid characters
        *to++ = (char)(valid ? c : '-');
    }
    while (to > name && (to[-1] == '-' || to[-1] == '_')) to--;
    *to = '\0';
    return name;
}

// The last part of the path, without the folder; "." and ".." and "x/" become real names.
static char *base_of(const char *path) {
    cleanup_free char *real = realpath(path, NULL);
    const char *whole = real ? real : path;
    const char *slash = strrchr(whole, '/');
    return mem_strdup(slash ? slash + 1 : whole);
}

static char *stem_of(const char *base) {
    size_t n = strlen(base);
    if (n > 7 && strcmp(base + n - 7, ".tar.gz") == 0) return mem_strndup((struct str){base, n - 7});
    const char *dot = strrchr(base, '.');
    return dot && dot != base ? mem_strndup((struct str){base, (size_t)(dot - base)}) : mem_strdup(base);
}

static int fill_name(struct guess *g, const char *stem, struct err *err) {
    if (g->name) return 0;
    g->name = name_of(stem);
    if (*g->name) return 0;
    return err_set(err, ERR_INVALID, "no function name can be made from '%s'; give one with --name NAME", stem);
}

// --- files and folders --------------------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), e = strlen(end);
    return n > e && strcmp(text + n - e, end) == 0;
}

static bool runs_by_itself(const char *path, const char *base) {
    if (ends_with(base, ".sh") || ends_with(base, ".bash") || access(path, X_OK) == 0) return true;
    cleanup_file FILE *f = fopen(path, "rbe");
    char head[2];
    return f && fread(head, 1, 2, f) == 2 && head[0] == '#' && head[1] == '!';
}

static int fill_file(struct guess *g, const char *path, const char *base, const char *stem, struct err *err) {
    if (!g->runtime) {
        if (ends_with(base, ".py")) g->runtime = mem_strdup("python");
        else if (runs_by_itself(path, base)) g->runtime = mem_strdup("exec");
        else
            return err_set(err, ERR_INVALID, "%s is neither a .py file nor executable; give --runtime python or exec", path);
    }
    if (g->handler) return 0;
    if (strcmp(g->runtime, "exec") == 0) {
        g->handler = mem_strdup(base);
        return 0;
    }
    if (strcmp(g->runtime, "python") == 0) return guess_python_handler(g, path, stem, err);
    return err_set(err, ERR_INVALID, "give the handler of runtime %s with --handler H", g->runtime);
}

static bool is_file_in(const char *folder, const char *name) {
    cleanup_free char *path = mem_printf("%s/%s", folder, name);
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool may_be(const struct guess *g, const char *runtime) {
    return !g->runtime || strcmp(g->runtime, runtime) == 0;
}

static int fill_python_folder(struct guess *g, const char *folder, const char *file, struct err *err) {
    if (!g->runtime) g->runtime = mem_strdup("python");
    if (g->handler) return 0;
    cleanup_free char *path = mem_printf("%s/%s", folder, file);
    cleanup_free char *stem = stem_of(file);
    return guess_python_handler(g, path, stem, err);
}

// A handler that was given tells the runtime: a file of that name is executed, else it is file.function.
static int fill_from_handler(struct guess *g, const char *folder) {
    if (!g->runtime) g->runtime = mem_strdup(is_file_in(folder, g->handler) ? "exec" : "python");
    return 0;
}

static int fill_folder(struct guess *g, const char *folder, const char *base, struct err *err) {
    if (g->handler) return fill_from_handler(g, folder);
    cleanup_free char *own = mem_printf("%s.py", base);
    const char *const names[] = {"index.py", "main.py", "handler.py", "app.py", own};
    for (size_t i = 0; may_be(g, "python") && i < array_len(names); i++)
        if (is_file_in(folder, names[i])) return fill_python_folder(g, folder, names[i], err);
    if (may_be(g, "exec") && is_file_in(folder, "bootstrap")) {
        if (!g->runtime) g->runtime = mem_strdup("exec");
        g->handler = mem_strdup("bootstrap");
        return 0;
    }
    return err_set(err, ERR_INVALID,
                   "%s has none of index.py, main.py, handler.py, app.py, %s, bootstrap; say what runs: --handler FILE.FUNCTION "
                   "(python) or --handler FILE (exec)",
                   folder, own);
}

static int fill_archive(struct guess *g, const char *path, struct err *err) {
    if (!g->handler) return err_set(err, ERR_INVALID, "%s: give the handler of a ready archive with --handler H", path);
    if (!g->runtime) g->runtime = mem_strdup("python");
    return 0;
}

static int look(const char *path, bool *ret_folder, struct err *err) {
    struct stat st;
    if (stat(path, &st) < 0)
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INVALID, errno, "%s", path);
    *ret_folder = S_ISDIR(st.st_mode);
    return 0;
}

int guess_name(struct guess *g, const char *path, struct err *err) {
    bool folder;
    int rc = look(path, &folder, err);
    if (rc < 0) return rc;
    cleanup_free char *base = base_of(path);
    cleanup_free char *stem = folder ? mem_strdup(base) : stem_of(base);
    return fill_name(g, stem, err);
}

int guess_fill(struct guess *g, const char *path, struct err *err) {
    bool folder;
    int rc = guess_name(g, path, err);
    if (rc == 0) rc = look(path, &folder, err);
    if (rc < 0) return rc;
    cleanup_free char *base = base_of(path);
    cleanup_free char *stem = folder ? mem_strdup(base) : stem_of(base);
    if (folder) return fill_folder(g, path, base, err);
    return pack_is_archive(base) ? fill_archive(g, path, err) : fill_file(g, path, base, stem, err);
}
