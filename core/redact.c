// SPDX-License-Identifier: Apache-2.0
// Names, and masking in JSON: one pass over the text of a value that was checked, which copies all that is not masked as it stands.
//
// A string inside JSON is often a text with secrets of its own, or JSON again (a body in an envelope): one that mentions a name is masked
// like a payload and written anew; any other stays as it was. Elements of arrays count as members without a name of their own, so
// card.number is masked in {"card": [{"number": …}]} too.
#include <ctype.h>

#include "core/base/text.h"
#include "core/json_text.h"
#include "core/redact_impl.h"

#define NAME_MAX_BYTES 100
#define NESTED_MAX 4             // JSON in strings of JSON in strings …: deeper ones are masked as text
#define GROWTH 3
#define ELEMENT STR_LIT("0")     // what an element of an array is called in a path

// ---- names -----------------------------------------------------------------------------------------------------------------

struct str redact_last_member(struct str name) {
    size_t from = name.len;
    while (from && name.data[from - 1] != '.' && name.data[from - 1] != '/') from--;
    return (struct str){name.data + from, name.len - from};
}

bool redact_same(const char *a, const char *b, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (a[i] == b[i]) continue;
        if ((a[i] ^ b[i]) != 0x20 || !((a[i] | 0x20) >= 'a' && (a[i] | 0x20) <= 'z')) return false;
    }
    return true;
}

static bool same_name(struct str a, struct str b) {
    return a.len == b.len && redact_same(a.data, b.data, a.len);
}

static int check_name(struct str name, struct err *err) {
    if (name.len == 0) return err_set(err, ERR_INVALID, "an empty name among the names to mask; separate them by single commas");
    if (name.len > NAME_MAX_BYTES || !text_is_utf8(name))
        return err_set(err, ERR_INVALID, "a name to mask must be UTF-8 of at most %d bytes", NAME_MAX_BYTES);
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        if ((unsigned char)c < 0x20 || c == 0x7f || strchr("\"'`\\=:;&*?()[]{}<>", c))
            return err_set(err, ERR_INVALID, "'%.*s' is no name of a field: it is masked by its whole name, without patterns", STR_ARG(name));
        if ((c == '.' || c == '/') && (i == 0 || i + 1 == name.len || strchr("./", name.data[i - 1])))
            return err_set(err, ERR_INVALID, "'%.*s' is no path of names such as card.number", STR_ARG(name));
    }
    return 0;
}

static struct str trimmed(struct str s) {
    while (s.len && s.data[0] == ' ') s = (struct str){s.data + 1, s.len - 1};
    while (s.len && s.data[s.len - 1] == ' ') s.len--;
    return s;
}

static int add_name(struct redact *r, struct str name, struct err *err) {
    int rc = check_name(name, err);
    if (rc) return rc;
    if (r->count == REDACT_NAMES_MAX) return err_set(err, ERR_INVALID, "more than %d names to mask", REDACT_NAMES_MAX);
    r->names[r->count++] = (struct str){mem_strndup(name), name.len};
    unsigned char first = (unsigned char)redact_last_member(name).data[0];
    r->starts[first] = r->starts[tolower(first)] = r->starts[toupper(first)] = true;
    return 0;
}

int redact_new(const char *names, struct redact **ret, struct err *err) {
    struct redact *r = NULL;
    while (names && *names) {
        struct str name = {names, strcspn(names, ",")};
        bool more = names[name.len] == ',';
        if (!r) r = mem_zalloc(sizeof *r);
        int rc = add_name(r, trimmed(name), err);
        if (rc == 0 && more && !names[name.len + 1]) rc = check_name(STR_LIT(""), err);
        if (rc) {
            redact_free(r);
            return rc;
        }
        names += name.len + more;
    }
    *ret = r;
    return 0;
}

void redact_free(struct redact *r) {
    if (!r) return;
    for (size_t i = 0; i < r->count; i++) mem_freep(&r->names[i].data);
    free(r);
}

static bool is_index(struct str s) {
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] < '0' || s.data[i] > '9') return false;
    return s.len > 0;
}

// A path that is read from its end. A name in it can be a path itself: user.password, payload.items[0].sku, /card/number.
struct tail {
    const struct str *names;
    size_t count, left; // bytes of the last name that are left
};

static struct tail tail_of(const struct str *names, size_t count) {
    return (struct tail){names, count, names[count - 1].len};
}

static bool is_between(char c) {
    return c == '.' || c == '/' || c == '[' || c == ']' || c == '"';
}

static bool take_last(struct tail *t, struct str *ret) {
    for (;;) {
        struct str name = {t->names[t->count - 1].data, t->left};
        while (name.len && is_between(name.data[name.len - 1])) name.len--;
        size_t from = name.len;
        while (from && !is_between(name.data[from - 1])) from--;
        t->left = from;
        *ret = (struct str){name.data + from, name.len - from};
        if (ret->len) return true;
        if (t->count == 1) return false;
        t->count--;
        t->left = t->names[t->count - 1].len;
    }
}

// Does the path end with the members of `name`? Indexes may stand between them.
static bool ends_with(struct str name, const struct str *path, size_t count) {
    struct tail wanted = tail_of(&name, 1), given = tail_of(path, count);
    struct str member, one;
    for (bool last = true; take_last(&wanted, &member); last = false) {
        do {
            if (!take_last(&given, &one)) return false;
        } while (!last && is_index(one) && !same_name(member, one));
        if (!same_name(member, one)) return false;
    }
    return true;
}

static bool is_secret_end(const struct redact *r, const struct str *path, size_t count) {
    for (size_t i = 0; i < r->count; i++)
        if (ends_with(r->names[i], path, count)) return true;
    return false;
}

bool redact_is_secret(const struct redact *r, struct str name) {
    return r && is_secret_end(r, &name, 1);
}

bool redact_is_secret_path(const struct redact *r, const struct str *names, size_t count) {
    for (size_t n = 1; r && n <= count; n++)
        if (is_secret_end(r, names, n)) return true;
    return false;
}

// Could there be something to mask? A name that is written with escapes counts as one.
static bool mentions(const struct redact *r, struct str text) {
    for (size_t at = 0; at < text.len; at++) {
        if (text.data[at] == '\\' && at + 1 < text.len && text.data[at + 1] == 'u') return true;
        if (!r->starts[(unsigned char)text.data[at]]) continue;
        for (size_t i = 0; i < r->count; i++) {
            struct str member = redact_last_member(r->names[i]);
            if (member.len <= text.len - at && redact_same(member.data, text.data + at, member.len)) return true;
        }
    }
    return false;
}

// ---- JSON ------------------------------------------------------------------------------------------------------------------

static bool append_any(const struct redact *r, struct str text, struct buf *out, unsigned nested);

void redact_put(struct buf *out, struct str s) {
    MUST(buf_append(out, s) == 0);
}

static struct str span(const char *from, const char *to) {
    return (struct str){from, (size_t)(to - from)};
}

// `text` is well-formed all through, so no end needs a check.
struct walk {
    const struct redact *r;
    const char *at, *end;
    struct buf *out;
    unsigned nested;
    bool masked;
    size_t depth;                         // open objects and arrays
    struct str path[JSON_TEXT_DEPTH];     // of each the member that is looked at
    char *unescaped[JSON_TEXT_DEPTH];     // its memory when it was written with escapes
};

static const char *past_blanks(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p;
}

static const char *past_string(const char *p) {
    for (p++; *p != '"'; p++)
        if (*p == '\\') p++;
    return p + 1;
}

static const char *past_value(const char *p, const char *end) {
    size_t depth = 0;
    do {
        if (*p == '"') {
            p = past_string(p);
            continue;
        }
        if (*p == '{' || *p == '[') depth++;
        if (*p == '}' || *p == ']') depth--;
        p++;
    } while (p < end && (depth || !strchr(",]} \t\r\n", *p)));
    return p;
}

static void set_name(struct walk *w, struct str escaped) {
    size_t level = w->depth - 1;
    mem_freep(&w->unescaped[level]);
    w->path[level] = escaped;
    if (!escaped.len || !memchr(escaped.data, '\\', escaped.len)) return;
    struct buf plain;
    buf_init(&plain, escaped.len);
    MUST(json_text_unescape(escaped, &plain) == 0);
    w->unescaped[level] = buf_take(&plain, &w->path[level].len);
    w->path[level].data = w->unescaped[level];
}

// A string that is a value, without its quotes.
static void walk_text(struct walk *w, struct str escaped) {
    struct buf plain, masked;
    buf_init(&plain, escaped.len);
    buf_init(&masked, escaped.len * GROWTH);
    bool changed = false;
    if (mentions(w->r, escaped)) {
        MUST(json_text_unescape(escaped, &plain) == 0);
        changed = append_any(w->r, buf_str(&plain), &masked, w->nested + 1);
    }
    if (changed) MUST(text_append_json(w->out, buf_str(&masked)) == 0);
    else redact_put(w->out, span(escaped.data - 1, escaped.data + escaped.len + 1));
    w->masked |= changed;
    buf_done(&plain);
    buf_done(&masked);
}

static void walk_string(struct walk *w) {
    const char *from = w->at, *to = past_string(from), *next = past_blanks(to, w->end);
    struct str content = span(from + 1, to - 1);
    if (next == w->end || *next != ':') {
        walk_text(w, content);
        w->at = to;
        return;
    }
    next = past_blanks(next + 1, w->end);
    redact_put(w->out, span(from, next));
    set_name(w, content);
    w->at = next;
    if (!is_secret_end(w->r, w->path, w->depth)) return;
    redact_put(w->out, STR_LIT("\"" REDACT_MASK "\""));
    w->at = past_value(next, w->end);
    w->masked = true;
}

static void walk(struct walk *w) {
    while (w->at < w->end) {
        const char *from = w->at;
        while (w->at < w->end && !strchr("\"{}[]", *w->at)) w->at++;
        redact_put(w->out, span(from, w->at));
        if (w->at == w->end) return;
        char c = *w->at;
        if (c == '"') {
            walk_string(w);
            continue;
        }
        if (c == '{' || c == '[') w->path[w->depth++] = ELEMENT;
        else mem_freep(&w->unescaped[--w->depth]);
        redact_put(w->out, span(w->at, w->at + 1));
        w->at++;
    }
}

static bool append_json(const struct redact *r, struct str text, struct buf *out, unsigned nested) {
    struct walk *w = mem_zalloc(sizeof *w);
    w->r = r;
    w->at = text.data;
    w->end = text.data + text.len;
    w->out = out;
    w->nested = nested;
    walk(w);
    bool masked = w->masked;
    free(w);
    return masked;
}

static bool is_json(struct str text) {
    const char *first = past_blanks(text.data, text.data + text.len);
    return first < text.data + text.len && strchr("{[\"", *first) && json_text_check(text, NULL) == 0;
}

static bool append_any(const struct redact *r, struct str text, struct buf *out, unsigned nested) {
    return nested <= NESTED_MAX && is_json(text) ? append_json(r, text, out, nested) : redact_text(r, text, out);
}

bool redact_append(const struct redact *r, struct str text, struct buf *out) {
    if (r && mentions(r, text)) return append_any(r, text, out, 0);
    redact_put(out, text);
    return false;
}

// ---- JSON values of ours -----------------------------------------------------------------------------------------------------

static bool mask_value(const struct redact *r, json_t *value, struct str *path, size_t depth);

static bool mask_string(const struct redact *r, json_t *value) {
    struct str text = {json_string_value(value), json_string_length(value)};
    struct buf out;
    buf_init(&out, text.len * GROWTH);
    bool masked = redact_append(r, text, &out);
    // What was valid stays so: a mask takes whole characters.
    if (masked) MUST(json_string_setn(value, buf_str(&out).data, buf_len(&out)) == 0);
    buf_done(&out);
    return masked;
}

static bool mask_members(const struct redact *r, json_t *object, struct str *path, size_t depth) {
    const char *patched = json_string_value(json_object_get(object, "path"));
    bool masked = false;
    for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
        const char *key = json_object_iter_key(i);
        path[depth] = str_of(patched && strcmp(key, "value") == 0 ? patched : key);
        if (is_secret_end(r, path, depth + 1)) {
            MUST(json_object_iter_set_new(object, i, json_string(REDACT_MASK)) == 0);
            masked = true;
        } else {
            masked |= mask_value(r, json_object_iter_value(i), path, depth + 1);
        }
    }
    return masked;
}

static bool mask_elements(const struct redact *r, json_t *array, struct str *path, size_t depth) {
    bool masked = false;
    size_t i;
    json_t *value;
    path[depth] = ELEMENT;
    json_array_foreach(array, i, value) masked |= mask_value(r, value, path, depth + 1);
    return masked;
}

static bool mask_value(const struct redact *r, json_t *value, struct str *path, size_t depth) {
    if (json_is_string(value)) return mask_string(r, value);
    if (!json_is_object(value) && !json_is_array(value)) return false;
    if (depth < JSON_TEXT_DEPTH) return json_is_object(value) ? mask_members(r, value, path, depth) : mask_elements(r, value, path, depth);
    return json_object_clear(value) == 0 || json_array_clear(value) == 0; // nobody reads so deep
}

bool redact_json(const struct redact *r, json_t *value) {
    struct str path[JSON_TEXT_DEPTH];
    return r && mask_value(r, value, path, 0);
}
