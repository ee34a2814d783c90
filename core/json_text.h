// SPDX-License-Identifier: Apache-2.0
// JSON as text (RFC 8259): checks it, finds values in it, and changes one value while every other byte stays as it is.
//
// For payloads, which a parser would not give back as they came: numbers beyond 64 bits or with trailing zeros, order and doubles of
//   members, escapes, blanks. jansson reads what is ours.
// Paths: JSON Pointer (RFC 6901), "" is the whole; "/items/0/sku"; "-" behind the last member of an array. Of members with one name
//   twice, the last counts.
// Errors: ERR_INVALID with the place (byte, from 1) of what is not JSON; ERR_NOT_FOUND: nothing at the path; ERR_TOO_LARGE: `out` is full (and
//   stays as it was), or the changed text would have too many levels.
// Depth: at most JSON_TEXT_DEPTH levels, without recursion that grows with the input's own depth beyond that.
// Threads: any. Memory: nothing is kept; spans point into the text.
#ifndef CORE_JSON_TEXT_H
#define CORE_JSON_TEXT_H

#include "core/base/buf.h"

#define JSON_TEXT_DEPTH 512

// One JSON value with blanks around it, in well-formed UTF-8?
int json_text_check(struct str text, struct err *err) must_use;
// Is it JSON that a database's JSON type takes too: at most so many bytes and 128 levels, no \u0000, no half of a surrogate pair, no number of
// more than 400 characters or with an exponent beyond ±4,000? Such a text can be asked about with paths in the store.
#define JSON_TEXT_QUERYABLE_MAX (1024 * 1024)
bool json_text_is_queryable(struct str text);
// The same. *ret_plain: no object has two members of one name, and no name an escape for a character that it could hold as it is, so that any
// reader finds the same at a path. Seldom false by mistake: names are compared by 64 bits that they mix to.
bool json_text_queryable_names(struct str text, bool *ret_plain);

// The value at `path`, without the blanks around it.
int json_text_find(struct str text, struct str path, struct str *ret, struct err *err) must_use;
// Appends `text` with `value` (JSON) at `path`: replaces what is there; a member that is not there is added behind the last one of its
// object, an index equal to the array's length (or "-") behind its last one. ERR_NOT_FOUND: no object or array to add it to.
int json_text_set(struct str text, struct str path, struct str value, struct buf *out, struct err *err) must_use;
// The same for RFC 6902's "add": at an index of an array the value goes in front of what stands there.
int json_text_insert(struct str text, struct str path, struct str value, struct buf *out, struct err *err) must_use;
// Appends `text` without the value at `path`, its name and one comma; of members with one name, without them all. The whole ("") cannot
// be removed.
int json_text_remove(struct str text, struct str path, struct buf *out, struct err *err) must_use;
// Are the two equal as RFC 6902, 4.6, says? Numbers are compared by their value, exactly.
bool json_text_equal(struct str a, struct str b);

// Calls fn for each member of an object, in the order of the text: its name (still escaped, without quotes) and its value. fn returns true
// to go on inside the value (each level more goes through it once more). `text` must have passed json_text_check.
typedef bool json_text_member_fn(void *arg, struct str name, struct str value);
void json_text_members(struct str text, json_text_member_fn *fn, void *arg);
// The same for the members of one array, not of what is in them; fn returns false to end. Nothing when `text` is no array.
typedef bool json_text_item_fn(void *arg, struct str value);
void json_text_items(struct str text, json_text_item_fn *fn, void *arg);

// Appends a string that stands for exactly these characters, which are UTF-8 (a NUL too, unlike text_append_json). ERR_TOO_LARGE.
int json_text_quote(struct str plain, struct buf *out) must_use;
// Appends what a name or string (without its quotes, from a checked text) stands for. Half of a surrogate pair becomes three bytes, which
// are not UTF-8. ERR_TOO_LARGE: `out` is full.
int json_text_unescape(struct str content, struct buf *out) must_use;

#endif
