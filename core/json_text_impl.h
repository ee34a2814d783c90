// SPDX-License-Identifier: Apache-2.0
// What the files of core/json_text share: the scanner, the walk over the children of a value, and pointers in parts.
//
// Flow: json_scan_text checks a text and gives its value; everything else walks over values that were checked so.
// Memory: spans point into the text; a json_path owns its parts.
#ifndef CORE_JSON_TEXT_IMPL_H
#define CORE_JSON_TEXT_IMPL_H

#include <stdint.h>

#include "core/json_text.h"

struct json_names;
struct json_scan {
    const char *at, *end;
    const char *wrong; // what is wrong at `at`
    bool queryable;    // only what a database takes
    struct json_names *names; // NULL: not kept
    unsigned depth, deepest, depth_max;
    uint64_t objects[JSON_TEXT_DEPTH / 64]; // one bit an open level: it is an object
};
// Passes over one value with the blanks before it; false: `wrong` says why not.
bool json_scan_value(struct json_scan *s);
bool json_scan_text(struct json_scan *s, struct str text, bool queryable, struct str *ret_value);
// ret_levels may be NULL.
int json_checked_value(struct str text, struct str *ret_value, unsigned *ret_levels, struct err *err) must_use;

struct str json_trim(struct str text); // a checked text: its value, without the blanks around it
struct json_child {
    size_t index;     // 0, 1, 2, …
    const char *from; // of its name, or of its value in an array
    struct str name;  // escaped, without quotes; of an object's member
    struct str value;
};
struct json_children { // of a checked value
    struct json_scan scan;
    size_t count; // so many were given
    bool is_object;
};
bool json_children_open(struct json_children *c, struct str value); // false: neither object nor array
bool json_children_next(struct json_children *c, struct json_child *ret);

// Takes one character off a string's content, which is not empty; its bytes in UTF-8. Half of a surrogate pair becomes three bytes.
size_t json_take_char(struct str *content, char ret[4]);
bool json_name_is(struct str name, struct str plain); // name: escaped

struct json_path {
    size_t count;
    struct str *parts; // unescaped
    char *bytes;       // of the parts
};
int json_path_parse(struct str path, struct json_path *ret, struct err *err) must_use;
void json_path_done(struct json_path *p);
int json_no_container(struct str part, struct err *err); // the errors of a part that leads nowhere
int json_no_index(struct str part, struct err *err);
int json_no_member(struct str part, struct err *err);
int json_short_array(size_t count, struct err *err);
bool json_index(struct str part, size_t *ret); // "0", "12", not "012"; beyond all arrays: SIZE_MAX
// From a checked value down the first `count` parts.
int json_descend(struct str value, const struct json_path *path, size_t count, struct str *ret, struct err *err) must_use;

#endif
