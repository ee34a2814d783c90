// SPDX-License-Identifier: Apache-2.0
// Questions about a text: is it JSON, what is at a path, which members are there. The scanner is core/json_text_scan.c.
#include "core/base/text.h"
#include "core/json_text_impl.h"

int json_text_check(struct str text, struct err *err) {
    struct str value;
    return json_checked_value(text, &value, NULL, err);
}

// ---- paths -----------------------------------------------------------------------------------------------------------------

void json_path_done(struct json_path *p) {
    free(p->parts);
    free(p->bytes);
    *p = (struct json_path){0};
}

int json_path_parse(struct str path, struct json_path *ret, struct err *err) {
    *ret = (struct json_path){0};
    if (path.len == 0) return 0;
    if (path.data[0] != '/') return err_set(err, ERR_INVALID, "a JSON Pointer begins with /");
    size_t count = 0;
    for (size_t i = 0; i < path.len; i++) count += path.data[i] == '/';
    *ret = (struct json_path){.parts = mem_array(count, sizeof *ret->parts), .bytes = mem_alloc(path.len)};
    char *to = ret->bytes;
    for (size_t i = 0; i < path.len; i++) {
        char c = path.data[i];
        if (c == '/') {
            ret->parts[ret->count++] = (struct str){to, 0};
            continue;
        }
        if (c == '~') {
            char escaped = i + 1 < path.len ? path.data[++i] : '\0';
            if (escaped != '0' && escaped != '1') {
                json_path_done(ret);
                return err_set(err, ERR_INVALID, "in a JSON Pointer ~ stands before 0 or 1 only");
            }
            c = escaped == '0' ? '~' : '/';
        }
        *to++ = c;
        ret->parts[ret->count - 1].len++;
    }
    return 0;
}

bool json_index(struct str part, size_t *ret) {
    if (part.len == 0 || (part.len > 1 && part.data[0] == '0')) return false;
    size_t index = 0;
    for (size_t i = 0; i < part.len; i++) {
        if (part.data[i] < '0' || part.data[i] > '9') return false;
        index = i < 18 ? index * 10 + (size_t)(part.data[i] - '0') : SIZE_MAX;
    }
    *ret = index;
    return true;
}

#define NAME_SHOWN 60 // bytes of a name in errors

static int not_found(const char *before, struct str part, const char *behind, struct err *err) {
    struct buf name;
    buf_init(&name, NAME_SHOWN);
    MUST(text_append_clean(&name, part, NAME_SHOWN) == 0);
    err_set(err, ERR_NOT_FOUND, "%s\"%.*s\"%s", before, STR_ARG(buf_str(&name)), behind);
    buf_done(&name);
    return ERR_NOT_FOUND;
}

int json_no_container(struct str part, struct err *err) {
    return not_found("there is no object or array around ", part, "", err);
}

int json_no_index(struct str part, struct err *err) {
    return not_found("", part, " is no index of an array", err);
}

int json_no_member(struct str part, struct err *err) {
    return not_found("the object has no member ", part, "", err);
}

int json_short_array(size_t count, struct err *err) {
    return err_set(err, ERR_NOT_FOUND, "the array has %zu member%s", count, count == 1 ? "" : "s");
}

static int step(struct str value, struct str part, struct str *ret, struct err *err) {
    struct json_children children;
    struct json_child child;
    size_t index = 0;
    bool found = false;
    if (!json_children_open(&children, value)) return json_no_container(part, err);
    if (!children.is_object && !json_index(part, &index)) return json_no_index(part, err);
    while (json_children_next(&children, &child)) {
        if (children.is_object ? !json_name_is(child.name, part) : child.index != index) continue;
        *ret = child.value;
        found = true;
    }
    if (found) return 0;
    return children.is_object ? json_no_member(part, err) : json_short_array(children.count, err);
}

int json_descend(struct str value, const struct json_path *path, size_t count, struct str *ret, struct err *err) {
    for (size_t i = 0; i < count; i++) {
        struct str inner = STR_NONE;
        int rc = step(value, path->parts[i], &inner, err);
        if (rc) return rc;
        value = inner;
    }
    *ret = value;
    return 0;
}

int json_text_find(struct str text, struct str path, struct str *ret, struct err *err) {
    struct json_path parts;
    struct str root;
    int rc = json_checked_value(text, &root, NULL, err);
    if (rc == 0) rc = json_path_parse(path, &parts, err);
    if (rc) return rc;
    rc = json_descend(root, &parts, parts.count, ret, err);
    json_path_done(&parts);
    return rc;
}

// ---- members ---------------------------------------------------------------------------------------------------------------

static void visit(struct str value, json_text_member_fn *fn, void *arg) {
    struct json_children children;
    struct json_child child;
    if (!json_children_open(&children, value)) return;
    while (json_children_next(&children, &child))
        if (!children.is_object || fn(arg, child.name, child.value)) visit(child.value, fn, arg);
}

void json_text_members(struct str text, json_text_member_fn *fn, void *arg) {
    visit(json_trim(text), fn, arg);
}

void json_text_items(struct str text, json_text_item_fn *fn, void *arg) {
    struct json_children children;
    struct json_child child;
    if (!json_children_open(&children, json_trim(text)) || children.is_object) return;
    while (json_children_next(&children, &child))
        if (!fn(arg, child.value)) return;
}

int json_text_quote(struct str plain, struct buf *out) {
    int rc = buf_append(out, STR_LIT("\""));
    for (size_t i = 0; i < plain.len && rc == 0;) {
        size_t from = i;
        while (i < plain.len && (unsigned char)plain.data[i] >= 0x20 && plain.data[i] != '"' && plain.data[i] != '\\') i++;
        rc = buf_append(out, (struct str){plain.data + from, i - from});
        if (rc || i == plain.len) break;
        unsigned char c = (unsigned char)plain.data[i++];
        rc = buf_printf(out, c < 0x20 ? "\\u%04x" : "\\%c", c);
    }
    return rc ? rc : buf_append(out, STR_LIT("\""));
}

int json_text_unescape(struct str content, struct buf *out) {
    while (content.len) {
        char bytes[4];
        struct str c = {bytes, json_take_char(&content, bytes)};
        if (buf_append(out, c)) return ERR_TOO_LARGE;
    }
    return 0;
}
