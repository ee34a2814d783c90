// SPDX-License-Identifier: Apache-2.0
// What is hashed: version, function, error type, the shape of the message, then file and function of each frame, each ended by SEPARATOR.
// Files and functions are cleaned on the way into the hash of what differs from place to place and from build to build.
#include "dlq/fingerprint.h"

#include "core/base/text.h"
#include "dlq/fingerprint_impl.h"

#define SEPARATOR 0xff // occurs in no field: it is hashed as 0xfe there
#define MASKED 0x01    // any variable part

static void add_byte(uint64_t *h, unsigned char c) { // FNV-1a
    *h = (*h ^ c) * UINT64_C(1099511628211);
}

static void add_raw(uint64_t *h, struct str s) {
    for (size_t i = 0; i < s.len; i++) add_byte(h, (unsigned char)s.data[i] == SEPARATOR ? 0xfe : (unsigned char)s.data[i]);
}

static void add_field(uint64_t *h, struct str s) {
    add_raw(h, s);
    add_byte(h, SEPARATOR);
}

static void add_shape(uint64_t *h, struct str text) {
    struct shape shape;
    fingerprint_shape(text, &shape);
    for (size_t i = 0; i < shape.len; i++) add_byte(h, (unsigned char)shape.text[i] <= MASK_LAST ? MASKED : (unsigned char)shape.text[i]);
}

// ---- files ----------------------------------------------------------------------------------------------------------------

// A path or a part of one; ids are masked (bundles have them in their names), numbers when they are to be.
static void add_part(uint64_t *h, struct str s, bool with_numbers) {
    bool in_word = false;
    for (size_t i = 0; i < s.len;) {
        struct str rest = str_from(s, i);
        unsigned char c = (unsigned char)rest.data[0];
        size_t masked = in_word ? 0 : fingerprint_id_length(rest);
        if (!masked && with_numbers) masked = digits_length(rest);
        in_word = is_alnum(c);
        if (masked) add_byte(h, MASKED);
        else add_raw(h, c == '\\' ? STR_LIT("/") : str_head(rest, 1));
        i += masked ? masked : 1;
    }
}

static struct str last_part(struct str *path) {
    size_t n = path->len;
    while (n > 0 && path->data[n - 1] != '/' && path->data[n - 1] != '\\') n--;
    struct str part = str_from(*path, n);
    path->len = n ? n - 1 : 0;
    return part;
}

// Is it absolute? Takes away what stands in front of a URL's path.
static bool cut_root(struct str *file) {
    const char *scheme = file->len ? memmem(file->data, file->len, "://", 3) : NULL;
    if (scheme) {
        *file = str_from(*file, (size_t)(scheme - file->data) + 3);
        const char *query = memchr(file->data, '?', file->len);
        if (query) file->len = (size_t)(query - file->data);
        return true;
    }
    return file->len && (file->data[0] == '/' || (file->len > 2 && file->data[1] == ':' && (file->data[2] == '\\' || file->data[2] == '/')));
}

// Of an absolute path the last two parts. Numbers and ids in the folder do not count, nor does a folder that stands in a temporary one.
static void add_file(uint64_t *h, struct str file) {
    struct str path = file;
    if (!cut_root(&path)) {
        while (str_starts(path, "./")) path = str_from(path, 2);
        add_part(h, path, false);
        return;
    }
    struct str name = last_part(&path), folder = last_part(&path), above = last_part(&path);
    if (str_is(above, "tmp") || str_is(above, "Temp")) add_byte(h, MASKED);
    else add_part(h, folder, true);
    add_byte(h, '/');
    add_part(h, name, false);
}

// ---- functions ------------------------------------------------------------------------------------------------------------

static size_t length_to(struct str s, const char *stops) {
    size_t n = 0;
    while (n < s.len && (!s.data[n] || !strchr(stops, s.data[n]))) n++;
    return n;
}

static size_t generated_id_length(struct str s) {
    size_t n = alnum_length(s), digits = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_hex((unsigned char)s.data[i])) return 0;
        digits += is_digit((unsigned char)s.data[i]);
    }
    return digits ? n : 0;
}

// Compilers and frameworks number what they make: lambda$run$0, Orders$$Lambda$14/0x0000000800c03000, Orders$$SpringCGLIB$$1a2b3c, $Proxy12.
static void add_java_function(uint64_t *h, struct str s) {
    static const char *const numbered[] = {"$Proxy", "Accessor"};
    bool in_lambda = false;
    for (size_t i = 0; i < s.len;) {
        struct str rest = str_from(s, i);
        size_t used = 1, masked = 0;
        if (str_starts(rest, "lambda$") || str_starts(rest, "anonfun$")) in_lambda = true;
        if (str_starts(rest, "$$Lambda")) {
            used = strlen("$$Lambda");
            masked = length_to(str_from(rest, used), ".");
        } else if (str_starts(rest, "$$")) {
            used = 2;
            masked = generated_id_length(str_from(rest, used));
        } else if (in_lambda && rest.data[0] == '$') {
            masked = digits_length(str_from(rest, used));
        }
        for (size_t n = 0; n < array_len(numbered); n++) {
            if (!str_starts(rest, numbered[n])) continue;
            used = strlen(numbered[n]);
            masked = digits_length(str_from(rest, used));
        }
        add_raw(h, str_head(rest, used));
        if (masked) add_byte(h, MASKED);
        i += used + masked;
    }
}

// {closure:/srv/orders.php:12} · {closure:Orders::main():12} · class@anonymous, then a NUL, and /srv/orders.php:12$0->run
static void add_php_function(uint64_t *h, struct str s) {
    bool generated = false;
    for (size_t i = 0; i < s.len;) {
        struct str rest = str_from(s, i);
        generated = generated || rest.data[0] == '{' || str_starts(rest, "@anonymous");
        size_t skip = 0;
        if (generated && rest.data[0] == '/') { // to the last part of the path
            for (size_t n = length_to(rest, ":$}"); n > 0 && skip == 0; n--)
                if (rest.data[n - 1] == '/') skip = n;
        } else if (generated && (rest.data[0] == ':' || rest.data[0] == '$')) {
            skip = 1 + generated_id_length(str_from(rest, 1));
            if (skip == 1) skip = 0;
        }
        if (!skip) add_raw(h, str_head(rest, 1));
        i += skip ? skip : 1;
    }
}

static void add_frame(uint64_t *h, const struct frame *f) {
    if (f->language == LANGUAGE_JAVA) add_raw(h, f->file); // a name without folders
    else add_file(h, f->file);
    add_byte(h, SEPARATOR);
    switch (f->language) {
    case LANGUAGE_JAVA: add_java_function(h, f->function); break;
    case LANGUAGE_PHP: add_php_function(h, f->function); break;
    case LANGUAGE_OTHER: add_shape(h, f->function); break;
    case LANGUAGE_PYTHON:
    case LANGUAGE_NODE:
    case LANGUAGE_GO: add_raw(h, f->function); break;
    }
    add_byte(h, SEPARATOR);
}

// ---- the whole ------------------------------------------------------------------------------------------------------------

uint64_t fingerprint_of(struct str function, struct str error_type, struct str message, struct str stack) {
    uint64_t h = UINT64_C(14695981039346656037);
    add_byte(&h, FINGERPRINT_VERSION);
    add_field(&h, function);
    add_field(&h, error_type);
    add_shape(&h, message);
    add_byte(&h, SEPARATOR);
    struct frame top[FINGERPRINT_FRAMES];
    size_t count = fingerprint_frames(stack, top);
    for (size_t i = 0; i < count; i++) add_frame(&h, &top[i]);
    return h ? h : 1;
}

void fingerprint_mask(struct str message, struct buf *out) {
    static const char *const names[] = {"", "<n>", "<id>", "<str>", "<addr>", "<time>", "<path>"};
    struct shape shape;
    fingerprint_shape(message, &shape);
    for (size_t i = 0; i < shape.len; i++) {
        unsigned char c = (unsigned char)shape.text[i];
        int rc = buf_append(out, c <= MASK_LAST ? str_of(names[c]) : (struct str){shape.text + i, 1});
        MUST(rc == 0);
    }
}

void fingerprint_format(uint64_t fingerprint, char out[FINGERPRINT_TEXT_BYTES]) {
    MUST(text_format(out, FINGERPRINT_TEXT_BYTES, "%016llx", (unsigned long long)fingerprint) == 0);
}

int fingerprint_parse(struct str text, uint64_t *ret) {
    if (text.len != FINGERPRINT_TEXT_BYTES - 1) return ERR_INVALID;
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (!is_hex(c)) return ERR_INVALID;
        value = value << 4 | (uint64_t)(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    *ret = value;
    return 0;
}

void fingerprint_place(struct str stack, struct buf *out) {
    struct frame top[FINGERPRINT_FRAMES];
    if (stack.len > FINGERPRINT_BYTES) stack.len = FINGERPRINT_BYTES;
    if (stack.len == 0 || fingerprint_frames(stack, top) == 0) return;
    int rc = text_append_clean(out, top[0].function, 200);
    if (top[0].file.len) rc |= buf_append(out, STR_LIT(" (")) | text_append_clean(out, top[0].file, 200) | buf_append(out, STR_LIT(")"));
    MUST(rc == 0);
}
