// SPDX-License-Identifier: Apache-2.0
// Edits: read from JSON text, and applied. The text is not parsed into values: what it says about numbers would be lost.
#include "core/base/text.h"
#include "dlq/edit_impl.h"

struct edit {
    char *text; // that values point into
    struct edit_operation *list;
    size_t count, room;
};

static void append(struct buf *out, struct str s) {
    MUST(buf_append(out, s) == 0);
}

void edit_free(struct edit *e) {
    if (!e) return;
    for (size_t i = 0; i < e->count; i++) {
        buf_done(&e->list[i].shown);
        buf_done(&e->list[i].path);
        buf_done(&e->list[i].from);
    }
    free(e->list);
    free(e->text);
    free(e);
}

// ---- reading ---------------------------------------------------------------------------------------------------------------

struct reader {
    struct edit *edit;
    size_t patched; // operations of the patch that were read
    int rc;
    struct err *err;
};

static bool fail(struct reader *r, const struct edit_operation *o, enum err_code code, const char *why) {
    r->rc = err_set(r->err, code, "%.*s: %s", STR_ARG(buf_str(&o->shown)), why);
    return false;
}

static struct edit_operation *add(struct reader *r, enum edit_op op) {
    struct edit *e = r->edit;
    if (r->rc) return NULL;
    if (e->count == EDIT_OPERATIONS_MAX) {
        r->rc = err_set(r->err, ERR_TOO_LARGE, "edit: it has more than %d operations", EDIT_OPERATIONS_MAX);
        return NULL;
    }
    if (e->count == e->room) {
        e->room = e->room ? 2 * e->room : 8;
        e->list = mem_realloc(e->list, e->room * sizeof *e->list);
    }
    struct edit_operation *o = &e->list[e->count++];
    *o = (struct edit_operation){.op = op};
    buf_init(&o->shown, SIZE_MAX / 2);
    buf_init(&o->path, SIZE_MAX / 2);
    buf_init(&o->from, SIZE_MAX / 2);
    return o;
}

#define SHOWN_PATH 120 // bytes of a path in errors

static void show(struct edit_operation *o, struct str path) {
    MUST(buf_printf(&o->shown, "%s ", edit_op_word(o->op)) == 0);
    MUST(text_append_clean(&o->shown, path, SHOWN_PATH) == 0);
}

// content: of a JSON string
static bool take_path(struct reader *r, struct edit_operation *o, struct str content, struct buf *ret) {
    struct err why;
    struct buf path;
    buf_init(&path, content.len);
    MUST(json_text_unescape(content, &path) == 0); // never longer than it was
    if (ret == &o->path) show(o, buf_str(&path));
    int rc = edit_path(buf_str(&path), ret, &why);
    buf_done(&path);
    return rc == 0 || fail(r, o, (enum err_code)rc, why.text);
}

static bool take_quoted_path(struct reader *r, struct edit_operation *o, struct str json, struct buf *ret) {
    if (json.data[0] != '"') return fail(r, o, ERR_INVALID, "a path is a text, in quotes");
    return take_path(r, o, (struct str){json.data + 1, json.len - 2}, ret);
}

static bool on_set(void *arg, struct str name, struct str value) {
    struct reader *r = arg;
    struct edit_operation *o = add(r, EDIT_SET);
    if (o && take_path(r, o, name, &o->path)) o->value = value;
    return false; // not into the value
}

static bool on_unset(void *arg, struct str path) {
    struct reader *r = arg;
    struct edit_operation *o = add(r, EDIT_UNSET);
    return o && take_quoted_path(r, o, path, &o->path);
}

static bool find(struct str json, const char *pointer, struct str *ret) {
    return json_text_find(json, str_of(pointer), ret, NULL) == 0;
}

static bool op_of(struct str json, enum edit_op *ret) {
    struct str word;
    char quoted[16];
    if (!find(json, "/op", &word)) return false;
    for (enum edit_op op = EDIT_ADD; op <= EDIT_TEST; op++) {
        snprintf(quoted, sizeof quoted, "\"%s\"", edit_op_word(op));
        *ret = op;
        if (json_text_equal(word, str_of(quoted))) return true;
    }
    return false;
}

static bool on_patch(void *arg, struct str json) {
    struct reader *r = arg;
    enum edit_op op;
    struct str path, from;
    size_t number = r->patched++;
    if (!op_of(json, &op)) {
        r->rc = err_set(r->err, ERR_INVALID, "patch[%zu]: \"op\" is wanted: add, remove, replace, move, copy or test", number);
        return false;
    }
    struct edit_operation *o = add(r, op);
    if (!o) return false;
    bool copies = op == EDIT_MOVE || op == EDIT_COPY, writes = op == EDIT_ADD || op == EDIT_REPLACE || op == EDIT_TEST;
    MUST(buf_printf(&o->shown, "patch[%zu] ", number) == 0);
    if (!find(json, "/path", &path)) return fail(r, o, ERR_INVALID, "\"path\" is wanted");
    if (!take_quoted_path(r, o, path, &o->path)) return false;
    if (copies && !find(json, "/from", &from)) return fail(r, o, ERR_INVALID, "\"from\" is wanted");
    if (copies && !take_quoted_path(r, o, from, &o->from)) return false;
    return !writes || find(json, "/value", &o->value) || fail(r, o, ERR_INVALID, "\"value\" is wanted");
}

static int read_all(struct reader *r, struct str json) {
    struct str set, unset, patch, root;
    int rc = json_text_find(json, STR_LIT(""), &root, r->err);
    if (rc) return rc;
    bool has_patch = find(root, "/patch", &patch), has_set = find(root, "/set", &set), has_unset = find(root, "/unset", &unset);
    if (root.data[0] != '{' || (!has_patch && !has_set && !has_unset))
        return err_set(r->err, ERR_INVALID, "edit: an object with set, unset or patch is wanted");
    if (has_patch && patch.data[0] != '[') return err_set(r->err, ERR_INVALID, "patch: an array of operations is wanted");
    if (has_set && set.data[0] != '{') return err_set(r->err, ERR_INVALID, "set: an object is wanted, of paths and values");
    if (has_unset && unset.data[0] != '[') return err_set(r->err, ERR_INVALID, "unset: an array of paths is wanted");
    if (has_patch) json_text_items(patch, on_patch, r);
    if (has_set && r->rc == 0) json_text_members(set, on_set, r);
    if (has_unset && r->rc == 0) json_text_items(unset, on_unset, r);
    return r->rc;
}

int edit_parse(struct str json, struct edit **ret, struct err *err) {
    struct edit *e = mem_zalloc(sizeof *e);
    e->text = mem_strndup(json);
    struct reader r = {.edit = e, .err = err};
    int rc = read_all(&r, (struct str){e->text, json.len});
    if (rc) edit_free(e);
    else *ret = e;
    return rc;
}

// ---- applying --------------------------------------------------------------------------------------------------------------

static bool same_event(const struct ev *a, const struct ev *b) {
    const struct ev_fields *x = &a->f, *y = &b->f;
    bool same = str_eq(x->payload, y->payload) && str_eq(x->content_type, y->content_type) && str_eq(x->ordering_key, y->ordering_key) &&
                x->header_count == y->header_count;
    for (size_t i = 0; same && i < x->header_count; i++)
        same = str_eq(x->headers[i].name, y->headers[i].name) && str_eq(x->headers[i].value, y->headers[i].value);
    return same;
}

static int apply_all(const struct edit *e, struct draft *d, struct buf *patch, struct ev **ret, struct err *err) {
    struct err why;
    for (size_t i = 0; i < e->count; i++) {
        const struct edit_operation *o = &e->list[i];
        int rc = patch_apply(o, d, patch, &why);
        if (rc) return err_set(err, (enum err_code)rc, "%.*s: %s", STR_ARG(buf_str(&o->shown)), why.text);
    }
    return draft_event(d, ret, err);
}

static void end_patch(struct buf *patch, bool empty) {
    if (empty) patch->end = patch->start + 1;
    append(patch, STR_LIT("]"));
}

int edit_apply(const struct edit *e, const struct ev *ev, struct edited *ret, struct err *err) {
    struct draft d;
    struct buf patch, inverse;
    struct ev *now = NULL;
    draft_init(&d, ev);
    buf_init(&patch, SIZE_MAX / 2);
    buf_init(&inverse, SIZE_MAX / 2);
    append(&patch, STR_LIT("["));
    append(&inverse, STR_LIT("["));
    int rc = apply_all(e, &d, &patch, &now, err);
    draft_done(&d);
    if (now) {
        bool same = same_event(now, ev);
        if (!same) patch_inverse(now, ev, &inverse);
        end_patch(&patch, same);
        end_patch(&inverse, same);
        if (same) ev_free(TAKE_PTR(now));
        *ret = (struct edited){now, buf_take(&patch, NULL), buf_take(&inverse, NULL)};
    }
    buf_done(&patch);
    buf_done(&inverse);
    return rc;
}

void edited_done(struct edited *ed) {
    ev_free(ed->ev);
    free(ed->patch);
    free(ed->inverse);
    *ed = (struct edited){0};
}
