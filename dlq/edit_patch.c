// SPDX-License-Identifier: Apache-2.0
// One operation on a draft, and its line in the patch. What the line says, done again from the same event, comes to the same bytes.
#include "dlq/edit_impl.h"

static void append(struct buf *out, struct str s) {
    MUST(buf_append(out, s) == 0);
}

const char *edit_op_word(enum edit_op op) {
    static const char *const words[] = {
#define X(name, word) word,
        EDIT_OPS(X)
#undef X
    };
    return words[op];
}

void patch_add(struct buf *patch, enum edit_op op, struct str from, struct str path, struct str value) {
    append(patch, buf_len(patch) > 1 ? STR_LIT(",{\"op\":\"") : STR_LIT("{\"op\":\""));
    append(patch, str_of(edit_op_word(op)));
    if (from.len) {
        append(patch, STR_LIT("\",\"from\":"));
        MUST(json_text_quote(from, patch) == 0);
        append(patch, STR_LIT(",\"path\":"));
    } else {
        append(patch, STR_LIT("\",\"path\":"));
    }
    MUST(json_text_quote(path, patch) == 0);
    if (value.len) {
        append(patch, STR_LIT(",\"value\":"));
        append(patch, value);
    }
    append(patch, STR_LIT("}"));
}

struct step { // an operation with its paths as they stand in the draft
    enum edit_op op;
    struct str from, path;
    struct str value; // what is written; STR_NONE: nothing is
};

static bool is_inside(struct str pointer, struct str outer) {
    return pointer.len > outer.len && memcmp(pointer.data, outer.data, outer.len) == 0 && pointer.data[outer.len] == '/';
}

static int remove_at(struct draft *d, struct str path, struct buf *patch, struct err *err) {
    int rc = draft_remove(d, path, err);
    if (rc == 0) patch_add(patch, EDIT_REMOVE, STR_NONE, path, STR_NONE);
    return rc;
}

// A payload of another form than the path's may well have what it names.
static bool can_lack(const struct draft *d, struct str path) {
    bool in_json = str_is(path, "/payload") || str_starts(path, "/payload/");
    return !str_starts(path, "/payload") || d->form == FORM_NONE || (in_json && d->form == FORM_JSON);
}

// What is not there stays away.
static int unset_at(struct draft *d, struct str path, struct buf *patch, struct err *err) {
    int rc = remove_at(d, path, patch, err);
    return rc == ERR_NOT_FOUND && can_lack(d, path) ? 0 : rc;
}

// A payload of another form takes the place of the one that is there: said as the removal of that and an "add".
static int change_form(const struct step *s, struct draft *d, struct buf *patch, struct err *err) {
    struct str old = str_of(draft_form_path(d->form));
    int rc = 0;
    if (s->op == EDIT_MOVE && !str_eq(s->from, old) && !is_inside(s->from, old)) rc = remove_at(d, s->from, patch, err);
    if (rc == 0) rc = remove_at(d, old, patch, err);
    if (rc == 0) rc = draft_write(d, s->path, s->value, true, err);
    if (rc == 0) patch_add(patch, EDIT_ADD, STR_NONE, s->path, s->value);
    return rc;
}

static int write_step(const struct step *s, struct draft *d, struct buf *patch, struct err *err) {
    enum edit_form form = draft_form_of(s->path);
    if (form != FORM_NONE && d->form != FORM_NONE && form != d->form) return change_form(s, d, patch, err);
    enum edit_op logged = s->op;
    int rc = 0;
    bool moved = false;
    if (s->op == EDIT_SET) {
        struct buf there;
        buf_init(&there, SIZE_MAX / 2);
        logged = draft_read(d, s->path, &there, NULL) ? EDIT_ADD : EDIT_REPLACE;
        buf_done(&there);
    } else if (s->op == EDIT_MOVE) {
        moved = !str_eq(s->from, s->path);
        if (moved) rc = draft_remove(d, s->from, err);
    }
    if (rc == 0) rc = draft_write(d, s->path, s->value, s->op != EDIT_SET && s->op != EDIT_REPLACE, err);
    if (rc || !(d->changed || moved)) return rc;
    bool copied = s->op == EDIT_MOVE || s->op == EDIT_COPY;
    patch_add(patch, logged, copied ? s->from : STR_NONE, s->path, copied ? STR_NONE : s->value);
    return 0;
}

static int test_step(const struct step *s, struct draft *d, struct err *err) {
    struct buf there;
    struct err why;
    buf_init(&there, SIZE_MAX / 2);
    int rc = draft_read(d, s->path, &there, &why);
    if (rc) rc = err_set(err, ERR_CONFLICT, "the test fails: %s", why.text);
    else if (!json_text_equal(buf_str(&there), s->value)) rc = err_set(err, ERR_CONFLICT, "the test fails: another value is there");
    buf_done(&there);
    return rc;
}

static int do_step(struct step *s, struct draft *d, struct buf *patch, struct err *err) {
    struct buf value;
    int rc = 0;
    if (s->op == EDIT_TEST) return test_step(s, d, err);
    if (s->op == EDIT_UNSET) return unset_at(d, s->path, patch, err);
    if (s->op == EDIT_REMOVE) return remove_at(d, s->path, patch, err);
    buf_init(&value, SIZE_MAX / 2);
    if (s->op == EDIT_REPLACE) rc = draft_read(d, s->path, &value, err); // it must be there
    if (s->op == EDIT_MOVE && is_inside(s->path, s->from)) rc = err_set(err, ERR_INVALID, "a value cannot be moved into itself");
    if (rc == 0 && (s->op == EDIT_MOVE || s->op == EDIT_COPY)) {
        rc = draft_read(d, s->from, &value, err);
        s->value = buf_str(&value);
    }
    if (rc == 0) rc = write_step(s, d, patch, err);
    buf_done(&value);
    return rc;
}

int patch_apply(const struct edit_operation *o, struct draft *d, struct buf *patch, struct err *err) {
    struct buf from, path;
    buf_init(&from, SIZE_MAX / 2);
    buf_init(&path, SIZE_MAX / 2);
    draft_resolve(d, buf_str(&o->from), &from);
    draft_resolve(d, buf_str(&o->path), &path);
    struct step s = {o->op, buf_str(&from), buf_str(&path), o->value};
    int rc = do_step(&s, d, patch, err);
    buf_done(&from);
    buf_done(&path);
    return rc;
}
