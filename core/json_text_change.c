// SPDX-License-Identifier: Apache-2.0
// Changes of one value, as splices: what is not named is copied byte for byte.
#include "core/base/text.h"
#include "core/json_text_impl.h"

// Where a change takes place: among the children of the last object or array of a path.
struct place {
    struct str text;      // all of it
    struct str parent;    // STR_NONE: the path is the whole, which is `found.value`
    bool in_object;
    struct str part;      // the path's last
    bool is_found;
    struct json_child found; // of members with one name, the last
    const char *found_gap;   // behind the child before it, or behind the bracket
    const char *gap;         // behind the last child, or behind the bracket
    size_t count;         // of children
};

static int look_among_children(struct place *p, struct err *err) {
    struct json_children children;
    struct json_child child;
    size_t index = SIZE_MAX;
    if (!json_children_open(&children, p->parent)) return json_no_container(p->part, err);
    p->in_object = children.is_object;
    if (!p->in_object && !str_is(p->part, "-") && !json_index(p->part, &index)) return json_no_index(p->part, err);
    p->gap = p->parent.data + 1;
    while (json_children_next(&children, &child)) {
        if (p->in_object ? json_name_is(child.name, p->part) : child.index == index) {
            p->is_found = true;
            p->found = child;
            p->found_gap = p->gap;
        }
        p->gap = child.value.data + child.value.len;
    }
    p->count = children.count;
    if (!p->in_object && !p->is_found && index != p->count && !str_is(p->part, "-"))
        return json_short_array(p->count, err);
    return 0;
}

static int look(struct place *p, const struct json_path *path, struct err *err) {
    struct str root;
    int rc = json_checked_value(p->text, &root, NULL, err);
    if (rc) return rc;
    if (path->count == 0) {
        p->is_found = true;
        p->found = (struct json_child){.from = root.data, .value = root};
        return 0;
    }
    rc = json_descend(root, path, path->count - 1, &p->parent, err);
    if (rc) return rc;
    p->part = path->parts[path->count - 1];
    return look_among_children(p, err);
}

static int append_until(const struct place *p, const char *end, struct buf *out) {
    return buf_append(out, (struct str){p->text.data, (size_t)(end - p->text.data)});
}

static int append_from(const struct place *p, const char *from, struct buf *out) {
    return buf_append(out, (struct str){from, (size_t)(p->text.data + p->text.len - from)});
}

static int put_in_place_of(const struct place *p, struct str value, struct buf *out) {
    int rc = append_until(p, p->found.value.data, out);
    if (rc == 0) rc = buf_append(out, value);
    return rc ? rc : append_from(p, p->found.value.data + p->found.value.len, out);
}

// The comma stands on the side where json_text_remove takes it away again, and everything is as it was.
static int put_before(const struct place *p, struct str value, struct buf *out) {
    bool first = p->found.index == 0;
    const char *gap = first ? p->found.from : p->found_gap;
    int rc = append_until(p, gap, out);
    if (rc == 0 && !first) rc = buf_append(out, STR_LIT(","));
    if (rc == 0) rc = buf_append(out, value);
    if (rc == 0 && first) rc = buf_append(out, STR_LIT(","));
    return rc ? rc : append_from(p, gap, out);
}

static int put_behind_all(const struct place *p, struct str value, struct buf *out) {
    int rc = append_until(p, p->gap, out);
    if (rc == 0 && p->count) rc = buf_append(out, STR_LIT(","));
    if (rc == 0 && p->in_object) rc = json_text_quote(p->part, out);
    if (rc == 0 && p->in_object) rc = buf_append(out, STR_LIT(":"));
    if (rc == 0) rc = buf_append(out, value);
    return rc ? rc : append_from(p, p->gap, out);
}

// Leaves out all members of the name (or the one of the array): the first that stays keeps the blanks before the first there was,
// each other one comes with what stood between it and the one before it.
static int leave_out(const struct place *p, struct buf *out) {
    struct json_children children;
    struct json_child child;
    const char *end = NULL; // of the child before
    bool kept_one = false;
    int rc = 0;
    MUST(json_children_open(&children, p->parent));
    while (rc == 0 && json_children_next(&children, &child)) {
        if (!end) rc = append_until(p, child.from, out);
        const char *before = end;
        end = child.value.data + child.value.len;
        if (p->in_object ? json_name_is(child.name, p->part) : child.index == p->found.index) continue;
        const char *from = kept_one ? before : child.from;
        if (rc == 0) rc = buf_append(out, (struct str){from, (size_t)(end - from)});
        kept_one = true;
    }
    return rc ? rc : append_from(p, end, out);
}

enum change { SET, INSERT, REMOVE };

static int change_text(const struct place *p, enum change change, struct str value, struct buf *out, struct err *err) {
    size_t before = buf_len(out);
    int rc;
    if (change == REMOVE) rc = leave_out(p, out);
    else if (!p->is_found) rc = put_behind_all(p, value, out);
    else if (change == INSERT && p->parent.data && !p->in_object) rc = put_before(p, value, out);
    else rc = put_in_place_of(p, value, out);
    if (rc == 0) return 0;
    out->end -= buf_len(out) - before;
    return err_set(err, ERR_TOO_LARGE, "the changed text is larger than %zu bytes", out->cap);
}

static int check_place(const struct place *p, enum change what, struct err *err) {
    if (what == REMOVE && !p->parent.data) return err_set(err, ERR_INVALID, "the whole cannot be removed");
    if (what == REMOVE && !p->is_found) return p->in_object ? json_no_member(p->part, err) : json_short_array(p->count, err);
    if (!p->is_found && p->in_object && !text_is_utf8(p->part)) return err_set(err, ERR_INVALID, "the name of the new member is not UTF-8");
    return 0;
}

static int change(struct str text, struct str path, enum change what, struct str value, struct buf *out, struct err *err) {
    struct place p = {.text = text};
    struct json_path parts;
    int rc = json_path_parse(path, &parts, err);
    if (rc) return rc;
    rc = look(&p, &parts, err);
    if (rc == 0) rc = check_place(&p, what, err);
    if (rc == 0) rc = change_text(&p, what, value, out, err);
    json_path_done(&parts);
    return rc;
}

static int put(struct str text, struct str path, enum change what, struct str value, struct buf *out, struct err *err) {
    struct str checked;
    struct err why;
    unsigned levels;
    size_t above = 0;
    if (json_checked_value(value, &checked, &levels, &why)) return err_set(err, ERR_INVALID, "the value is %s", why.text);
    for (size_t i = 0; i < path.len; i++) above += path.data[i] == '/';
    if (above + levels > JSON_TEXT_DEPTH) return err_set(err, ERR_TOO_LARGE, "there would be more than %d levels", JSON_TEXT_DEPTH);
    return change(text, path, what, checked, out, err);
}

int json_text_set(struct str text, struct str path, struct str value, struct buf *out, struct err *err) {
    return put(text, path, SET, value, out, err);
}

int json_text_insert(struct str text, struct str path, struct str value, struct buf *out, struct err *err) {
    return put(text, path, INSERT, value, out, err);
}

int json_text_remove(struct str text, struct str path, struct buf *out, struct err *err) {
    return change(text, path, REMOVE, STR_NONE, out, err);
}
