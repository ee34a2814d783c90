// SPDX-License-Identifier: Apache-2.0
// What weir dlq edit is to change: from --set, --unset and --patch, or from what an editor saved.
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/dlq_edit.h"
#include "cli/out.h"
#include "cli/pretty.h"
#include "core/base/text.h"
#include "core/json_text.h"

#define CHANGES_MAX 1000 // values of --set and --unset
#define EDITOR_BYTES_MAX ((size_t)1 << 20)
#define VALUES_MAX 100000 // members of one object of an edited payload

static int too_large(void) {
    return out_fail("the change is larger than %zu MiB", EDIT_CHANGE_MAX >> 20);
}

// --- options ------------------------------------------------------------------------------------------------------

// Where the path ends: at the first '=' outside of quotes.
static const char *path_end(const char *text) {
    bool quoted = false;
    for (; *text && (quoted || *text != '='); text++) quoted ^= *text == '"';
    return *text ? text : NULL;
}

static bool was_set_before(const struct args *a, size_t index, struct str path) {
    const char *other;
    for (size_t i = 0; i < index && (other = args_nth(a, "set", i)); i++)
        if (str_eq((struct str){other, (size_t)(path_end(other) - other)}, path)) return true;
    return false;
}

static int add_set(const struct args *a, size_t index, struct buf *out) {
    const char *text = args_nth(a, "set", index), *equals = path_end(text);
    if (!equals || equals == text) return out_misuse("dlq edit: --set %s: it looks like PATH=JSON, such as payload.total=12", text);
    struct str path = {text, (size_t)(equals - text)}, value = str_of(equals + 1);
    struct err err;
    if (json_text_check(value, &err) < 0)
        return out_misuse("dlq edit: --set %s: the value is not JSON (%s); a text has quotes, and the shell needs its own: "
                          "--set %.*s='\"EUR\"'", text, err.text, STR_ARG(path));
    if (was_set_before(a, index, path)) return out_misuse("dlq edit: --set %.*s is there twice", STR_ARG(path));
    int rc = buf_append(out, index ? STR_LIT(",") : STR_LIT(""));
    if (rc == 0) rc = text_append_json(out, path);
    if (rc == 0) rc = buf_append(out, STR_LIT(":"));
    if (rc == 0) rc = buf_append(out, value);
    return rc == 0 ? EXIT_OK : too_large();
}

static int add_sets(const struct args *a, struct buf *out) {
    if (!args_has(a, "set")) return EXIT_OK;
    if (buf_append(out, STR_LIT(",\"set\":{")) < 0) return too_large();
    for (size_t i = 0; args_nth(a, "set", i); i++) {
        if (i == CHANGES_MAX) return out_misuse("dlq edit: at most %d --set; more go into --patch FILE", CHANGES_MAX);
        int rc = add_set(a, i, out);
        if (rc != EXIT_OK) return rc;
    }
    return buf_append(out, STR_LIT("}")) == 0 ? EXIT_OK : too_large();
}

static int add_unsets(const struct args *a, struct buf *out) {
    json_auto_t *paths = json_array();
    const char *path;
    for (size_t i = 0; (path = args_nth(a, "unset", i)); i++) json_array_append_new(paths, json_string(path));
    if (json_array_size(paths) == 0) return EXIT_OK;
    cleanup_free char *text = json_dumps(paths, JSON_COMPACT);
    return buf_printf(out, ",\"unset\":%s", text) == 0 ? EXIT_OK : too_large();
}

static int read_all(FILE *f, size_t most, struct buf *ret) {
    for (;;) {
        char *at = buf_reserve(ret, 65536);
        if (!at) return out_fail("it is larger than %zu MiB", most >> 20);
        size_t n = fread(at, 1, 65536, f);
        buf_added(ret, n);
        if (n == 0) return ferror(f) ? out_fail("reading failed: %s", strerror(errno)) : EXIT_OK;
    }
}

static int add_patch(const char *file, struct buf *out) {
    bool is_stdin = strcmp(file, "-") == 0;
    cleanup_file FILE *opened = is_stdin ? NULL : fopen(file, "re");
    if (!is_stdin && !opened) return out_fail("cannot read %s: %s", file, strerror(errno));
    struct buf text;
    struct err err;
    buf_init(&text, EDIT_CHANGE_MAX);
    int rc = read_all(is_stdin ? stdin : opened, EDIT_CHANGE_MAX, &text);
    struct str patch = buf_str(&text);
    if (rc == EXIT_OK && json_text_check(patch, &err) < 0) rc = out_fail("%s is not JSON: %s", file, err.text);
    if (rc == EXIT_OK && patch.data[strspn(patch.data, " \t\r\n")] != '[')
        rc = out_fail("%s is not a JSON Patch: an array such as [{\"op\":\"remove\",\"path\":\"/payload/x\"}]", file);
    if (rc == EXIT_OK && (buf_append(out, STR_LIT(",\"patch\":")) < 0 || buf_append(out, patch) < 0)) rc = too_large();
    buf_done(&text);
    return rc;
}

int edit_read_options(const struct args *a, struct buf *ret_members) {
    int rc = add_sets(a, ret_members);
    if (rc == EXIT_OK) rc = add_unsets(a, ret_members);
    if (rc == EXIT_OK && args_has(a, "patch")) rc = add_patch(args_text(a, "patch"), ret_members);
    return rc;
}

// --- the patch between two texts ----------------------------------------------------------------------------------

struct member {
    struct str name, value; // the name still escaped
};
struct members {
    struct member *list;
    size_t count;
    bool too_many;
};

static bool take_member(void *arg, struct str name, struct str value) {
    struct members *m = arg;
    m->too_many = m->count == VALUES_MAX;
    if (m->too_many) return false;
    if ((m->count & (m->count - 1)) == 0) m->list = mem_realloc(m->list, (m->count ? 2 * m->count : 1) * sizeof *m->list);
    m->list[m->count++] = (struct member){name, value};
    return false; // only this level
}

// The last of its name counts.
static const struct member *find_member(const struct members *m, struct str name) {
    for (size_t i = m->count; i > 0; i--)
        if (str_eq(m->list[i - 1].name, name)) return &m->list[i - 1];
    return NULL;
}

// path/name as a JSON Pointer; NULL when the name is nothing that a pointer's text can hold (a NUL). Caller frees.
static char *path_of(const char *path, struct str name) {
    cleanup_free char *quoted = mem_printf("\"%.*s\"", STR_ARG(name));
    json_auto_t *decoded = json_loads(quoted, JSON_DECODE_ANY, NULL);
    const char *text = json_string_value(decoded);
    if (!text) return NULL;
    char *longer = mem_alloc(strlen(path) + 2 + 2 * strlen(text)), *at = stpcpy(stpcpy(longer, path), "/");
    for (; *text; text++) {
        if (*text == '~' || *text == '/') at = stpcpy(at, *text == '~' ? "~0" : "~1");
        else *at++ = *text;
    }
    *at = '\0';
    return longer;
}

// value: STR_NONE for remove.
static int add_operation(const char *op, const char *path, struct str value, struct buf *out) {
    int rc = buf_printf(out, "%s{\"op\":\"%s\",\"path\":", buf_len(out) ? "," : "", op);
    if (rc == 0) rc = text_append_json(out, str_of(path));
    if (rc == 0 && value.data) rc = buf_append(out, STR_LIT(",\"value\":"));
    if (rc == 0 && value.data) rc = pretty_json(value, 0, out);
    return rc == 0 ? buf_append(out, STR_LIT("}")) : rc;
}

static int change_value(const char *path, struct str from, struct str to, struct buf *out) {
    int rc = add_operation("test", path, from, out);
    return rc == 0 ? add_operation(to.data ? "replace" : "remove", path, to, out) : rc;
}

static int patch_members(const char *path, const struct members *from, const struct members *to, struct buf *out) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < from->count; i++) {
        const struct member *was = &from->list[i], *is = find_member(to, was->name);
        if (was != find_member(from, was->name)) continue;
        cleanup_free char *below = path_of(path, was->name);
        if (!below) rc = ERR_INVALID;
        else rc = is ? edit_patch(below, was->value, is->value, out) : change_value(below, was->value, STR_NONE, out);
    }
    for (size_t i = 0; rc == 0 && i < to->count; i++) {
        const struct member *is = &to->list[i];
        if (is != find_member(to, is->name) || find_member(from, is->name)) continue;
        cleanup_free char *below = path_of(path, is->name);
        rc = below ? add_operation("add", below, is->value, out) : ERR_INVALID;
    }
    return rc;
}

// json_text_check bounds how deep it goes.
int edit_patch(const char *path, struct str from, struct str to, struct buf *out) {
    if (json_text_equal(from, to)) return 0;
    struct str a, b;
    if (json_text_find(from, STR_LIT(""), &a, NULL) < 0 || json_text_find(to, STR_LIT(""), &b, NULL) < 0) return ERR_INVALID;
    if (a.data[0] != '{' || b.data[0] != '{') return change_value(path, a, b, out);
    struct members m = {0}, n = {0};
    json_text_members(a, take_member, &m);
    json_text_members(b, take_member, &n);
    int rc = m.too_many || n.too_many ? change_value(path, a, b, out) : patch_members(path, &m, &n, out);
    free(m.list);
    free(n.list);
    return rc;
}

// --- the editor ---------------------------------------------------------------------------------------------------

// Returns 0 when the editor ended well.
static int run_editor(const char *file) {
    const char *editor = getenv("VISUAL");
    if (!editor || !*editor) editor = getenv("EDITOR");
    if (!editor || !*editor) editor = "vi";
    cleanup_free char *script = mem_printf("%s \"$1\"", editor);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", script, "sh", file, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0) return out_fail("cannot start %s: %s", editor, strerror(errno));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return out_fail("%s failed; nothing was edited", editor);
    return EXIT_OK;
}

static int write_file(struct str text, char **ret_path) {
    const char *folder = getenv("TMPDIR");
    cleanup_free char *path = mem_printf("%s/weir-letter-XXXXXX.json", folder && *folder ? folder : "/tmp");
    int fd = mkostemps(path, (int)strlen(".json"), O_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f) return out_fail("cannot make %s: %s", path, strerror(errno));
    bool ok = fwrite(text.data, 1, text.len, f) == text.len && fputc('\n', f) != EOF;
    ok = fclose(f) == 0 && ok;
    if (!ok) return out_fail("cannot write %s: %s", path, strerror(errno));
    *ret_path = TAKE_PTR(path);
    return EXIT_OK;
}

// Until what was saved is JSON, or the user gives up; then the file stays.
static int edit_file(const char *path, struct buf *ret) {
    for (;;) {
        int rc = run_editor(path);
        if (rc != EXIT_OK) return rc;
        cleanup_file FILE *f = fopen(path, "re");
        if (!f) return out_fail("cannot read %s: %s", path, strerror(errno));
        buf_clear(ret);
        rc = read_all(f, EDITOR_BYTES_MAX, ret);
        struct err err;
        if (rc != EXIT_OK || json_text_check(buf_str(ret), &err) == 0) return rc;
        bool again = out_is_terminal(stdin) && out_is_terminal(stderr) && out_confirm("It is not JSON: %s. Edit it again?", err.text);
        if (!again) return out_fail("what was saved is not JSON: %s\n      it is kept in %s; nothing was edited", err.text, path);
    }
}

static int patch_payload(struct str payload, struct str saved, struct buf *out) {
    struct buf operations;
    buf_init(&operations, EDIT_CHANGE_MAX);
    int rc = edit_patch("/payload", payload, saved, &operations);
    if (rc == 0 && buf_len(&operations)) {
        rc = buf_append(out, STR_LIT(",\"patch\":["));
        if (rc == 0) rc = buf_append(out, buf_str(&operations));
        if (rc == 0) rc = buf_append(out, STR_LIT("]"));
    }
    buf_done(&operations);
    if (rc == ERR_INVALID) return out_fail("a member's name holds a NUL; use --patch FILE");
    return rc == 0 ? EXIT_OK : too_large();
}

int edit_in_editor(const json_t *letter, struct buf *ret_members) {
    const json_t *text = json_object_get(letter, "payload");
    struct str payload = {json_string_value(text), json_string_length(text)};
    if (!payload.data || json_text_check(payload, NULL) < 0)
        return out_fail("its payload is not JSON; replace it whole with --set payloadText='\"…\"'");
    if (member_true(letter, "redacted"))
        return out_fail("the server masks some of its values, an editor would not show them; use --set PATH=JSON");
    struct buf pretty, saved;
    buf_init(&pretty, EDITOR_BYTES_MAX);
    buf_init(&saved, EDITOR_BYTES_MAX + 65536);
    cleanup_free char *path = NULL;
    int rc = pretty_json(payload, 2, &pretty) == 0 ? write_file(buf_str(&pretty), &path)
                                                   : out_fail("its payload is too large for an editor; use --set PATH=JSON");
    if (rc == EXIT_OK) rc = edit_file(path, &saved);
    if (rc == EXIT_OK) rc = patch_payload(payload, buf_str(&saved), ret_members);
    if (rc == EXIT_OK) unlink(path);
    buf_done(&pretty);
    buf_done(&saved);
    return rc;
}
