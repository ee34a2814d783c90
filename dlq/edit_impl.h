// SPDX-License-Identifier: Apache-2.0
// What the files of dlq/edit share: operations, paths, and the draft that operations change.
//
// Flow: edit.c reads an edit and applies it; edit_path.c makes pointers of people's paths; edit_draft.c is an event as a document that can
// be changed, and makes an event of it again; edit_patch.c does one operation; edit_inverse.c finds the way back.
#ifndef DLQ_EDIT_IMPL_H
#define DLQ_EDIT_IMPL_H

#include "core/json_text.h"
#include "dlq/edit.h"

// X(name, word)
#define EDIT_OPS(X)                                                                                                                          \
    X(EDIT_SET, "set")                                                                                                                       \
    X(EDIT_UNSET, "unset")                                                                                                                   \
    X(EDIT_ADD, "add")                                                                                                                       \
    X(EDIT_REMOVE, "remove")                                                                                                                 \
    X(EDIT_REPLACE, "replace")                                                                                                               \
    X(EDIT_MOVE, "move")                                                                                                                     \
    X(EDIT_COPY, "copy")                                                                                                                     \
    X(EDIT_TEST, "test")
enum edit_op {
#define X(name, word) name,
    EDIT_OPS(X)
#undef X
};
const char *edit_op_word(enum edit_op op);

struct edit_operation {
    enum edit_op op;
    struct buf shown;      // what an error calls it: "set payload.items[9].sku"
    struct buf path, from; // JSON Pointers on the document
    struct str value;      // JSON; of set, add, replace, test
};

// ---- paths -----------------------------------------------------------------------------------------------------------------

// Appends the JSON Pointer of a path as people write it, or of a pointer; its first part is one of the document's.
int edit_path(struct str path, struct buf *out, struct err *err) must_use;
void edit_path_add(struct buf *pointer, struct str part); // appends "/part", escaped

// ---- drafts ----------------------------------------------------------------------------------------------------------------

enum edit_form { FORM_NONE, FORM_JSON, FORM_TEXT, FORM_BASE64 }; // of a payload

struct draft {
    const struct ev *ev;   // that it began as
    enum edit_form form;
    struct buf payload;    // its bytes
    struct buf rest;       // the document without the payload
    bool changed;          // by the last call that changes
    size_t work;           // bytes of payloads that were gone through
};
void draft_init(struct draft *d, const struct ev *ev);
void draft_done(struct draft *d);
const char *draft_form_path(enum edit_form form); // "/payload", …; of FORM_NONE ""
enum edit_form draft_form_of(struct str pointer); // FORM_NONE: it is not the payload as a whole
enum edit_form draft_form_of_bytes(struct str payload);
// The pointer with a header's name as it stands in the draft.
void draft_resolve(const struct draft *d, struct str pointer, struct buf *out);

// Appends the JSON that is there.
int draft_read(struct draft *d, struct str pointer, struct buf *out, struct err *err) must_use;
int draft_write(struct draft *d, struct str pointer, struct str value, bool insert, struct err *err) must_use;
int draft_remove(struct draft *d, struct str pointer, struct err *err) must_use;
int draft_event(const struct draft *d, struct ev **ret, struct err *err) must_use;

// A list of headers from the JSON of "headers" and what stood there before. Memory: texts in `text`, the list malloc'ed.
struct edit_headers {
    struct ev_header *list;
    size_t count;
    struct buf text;
};
int edit_headers_read(struct str json, const struct ev_fields *before, struct edit_headers *ret, struct err *err) must_use;
void edit_headers_done(struct edit_headers *h);
void edit_headers_write(const struct ev_fields *f, struct buf *out);         // as an object
void edit_headers_write_in_order(const struct ev_fields *f, struct buf *out); // as [[name, value], …]
void edit_text_write(struct str text, struct buf *out); // "…" or {"base64":"…"}
// Appends what it stands for.
int edit_text_read(struct str json, struct buf *out, struct err *err) must_use;

// ---- operations ------------------------------------------------------------------------------------------------------------

// Appends one operation to a patch that is open ("[…").
void patch_add(struct buf *patch, enum edit_op op, struct str from, struct str path, struct str value);
int patch_apply(const struct edit_operation *o, struct draft *d, struct buf *patch, struct err *err) must_use;
// Appends the operations that lead from `now` back to `before`.
void patch_inverse(const struct ev *now, const struct ev *before, struct buf *patch);

#endif
