// SPDX-License-Identifier: Apache-2.0
// Paths as people write them: payload.items[0]."a.b"
#include "dlq/edit_impl.h"

static const char *const roots[] = {"payload", "payloadText", "payloadBase64", "headers", "contentType", "orderingKey"};

static void append(struct buf *out, struct str s) {
    MUST(buf_append(out, s) == 0);
}

void edit_path_add(struct buf *pointer, struct str part) {
    append(pointer, STR_LIT("/"));
    for (size_t i = 0; i < part.len; i++) {
        if (part.data[i] == '~') append(pointer, STR_LIT("~0"));
        else if (part.data[i] == '/') append(pointer, STR_LIT("~1"));
        else append(pointer, (struct str){part.data + i, 1});
    }
}

static struct str skip(struct str s, size_t n) {
    return (struct str){s.data + n, s.len - n};
}

static int check_root(struct str pointer, struct err *err) {
    struct str root = skip(pointer, 1);
    const char *slash = root.len ? memchr(root.data, '/', root.len) : NULL;
    if (slash) root.len = (size_t)(slash - root.data);
    for (size_t i = 0; i < array_len(roots); i++)
        if (str_is(root, roots[i])) return 0;
    return err_set(err, ERR_INVALID, "a path begins with payload, payloadText, payloadBase64, headers, contentType or orderingKey");
}

static int check_pointer(struct str pointer, struct err *err) {
    for (size_t i = 0; i < pointer.len; i++)
        if (pointer.data[i] == '~' && (i + 1 == pointer.len || (pointer.data[i + 1] != '0' && pointer.data[i + 1] != '1')))
            return err_set(err, ERR_INVALID, "in a JSON Pointer ~ stands before 0 or 1 only");
    return check_root(pointer, err);
}

static int wrong(struct str path, struct str rest, const char *what, struct err *err) {
    return err_set(err, ERR_INVALID, "byte %zu of the path: %s", path.len - rest.len + 1, what);
}

// A name in quotes, with the escapes of JSON.
static int take_quoted(struct str path, struct str *rest, struct buf *out, struct err *err) {
    size_t n = 1;
    while (n < rest->len && rest->data[n] != '"') n += rest->data[n] == '\\' ? 2 : 1;
    struct str quoted = {rest->data, n + 1};
    if (n >= rest->len || json_text_check(quoted, NULL)) return wrong(path, *rest, "the quoted name is no JSON string", err);
    struct buf name;
    buf_init(&name, n);
    MUST(json_text_unescape((struct str){quoted.data + 1, n - 1}, &name) == 0); // never longer than it was
    edit_path_add(out, buf_str(&name));
    buf_done(&name);
    *rest = skip(*rest, n + 1);
    return 0;
}

static int take_name(struct str path, struct str *rest, struct buf *out, struct err *err) {
    if (rest->len && rest->data[0] == '"') return take_quoted(path, rest, out, err);
    size_t n = 0;
    while (n < rest->len && !strchr(".[]\"", rest->data[n])) n++;
    if (n == 0) return wrong(path, *rest, "a name is wanted", err);
    edit_path_add(out, (struct str){rest->data, n});
    *rest = skip(*rest, n);
    return 0;
}

static int take_index(struct str path, struct str *rest, struct buf *out, struct err *err) {
    size_t n = 1;
    while (n < rest->len && rest->data[n] >= '0' && rest->data[n] <= '9') n++;
    if (n == 1 && n < rest->len && rest->data[n] == '-') n++;
    if (n == 1 || n == rest->len || rest->data[n] != ']') return wrong(path, *rest, "[0], [1], … or [-] is wanted", err);
    edit_path_add(out, (struct str){rest->data + 1, n - 1});
    *rest = skip(*rest, n + 1);
    return 0;
}

int edit_path(struct str path, struct buf *out, struct err *err) {
    if (path.len && path.data[0] == '/') {
        append(out, path);
        return check_pointer(path, err);
    }
    struct str rest = path;
    int rc = take_name(path, &rest, out, err);
    while (rc == 0 && rest.len) {
        if (rest.data[0] == '[') {
            rc = take_index(path, &rest, out, err);
        } else if (rest.data[0] == '.') {
            rest = skip(rest, 1);
            rc = take_name(path, &rest, out, err);
        } else {
            rc = wrong(path, rest, "a dot or [ is wanted", err);
        }
    }
    return rc ? rc : check_root(buf_str(out), err);
}
