// SPDX-License-Identifier: Apache-2.0
// The option table, the value syntax, and the three places that values come from.
//
// Invariant: a struct options holds a valid value for every option at any time; a refused value changes nothing.
#include "core/options.h"

#include <ctype.h>
#include <inttypes.h>

#include "core/base/text.h"
#include "core/ini_file.h"

const struct option_spec option_specs[] = {
#define X(member, name, type, fallback, least, most, words, help)                                                       \
    {name, type, fallback, least, most, words, help, offsetof(struct options, member)},
    OPTIONS(X)
#undef X
    {0}};

struct unit {
    const char *word;
    int64_t factor;
};
// From the largest, as the text of a bound takes the largest that divides it.
static const struct unit duration_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {0}};
static const struct unit byte_units[] = {{"TiB", INT64_C(1) << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
                                         {"B", 1},                  {0}};

// --- values -----------------------------------------------------------------------------------------------------------

// Digits at the front of `text`; the rest of it stays. False when there are none or they overflow.
static bool take_digits(struct str *text, int64_t *ret) {
    int64_t n = 0;
    size_t i = 0;
    for (; i < text->len && isdigit((unsigned char)text->data[i]); i++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, text->data[i] - '0', &n)) return false;
    if (i == 0) return false;
    *text = (struct str){text->data + i, text->len - i};
    *ret = n;
    return true;
}

// The whole of `text` as a number with one of the units; without a unit only when `bare` allows it (or for 0).
static bool parse_with_unit(struct str text, const struct unit *units, bool bare, int64_t *ret) {
    int64_t n;
    if (!take_digits(&text, &n)) return false;
    if (text.len == 0 && (bare || n == 0)) {
        *ret = n;
        return true;
    }
    for (const struct unit *u = units; u->word; u++)
        if (str_is(text, u->word)) {
            if (__builtin_mul_overflow(n, u->factor, &n)) return false;
            *ret = n;
            return true;
        }
    return false;
}

int parse_duration_ms(struct str text, int64_t *ret, struct err *err) {
    if (parse_with_unit(text, duration_units, false, ret)) return 0;
    return err_set(err, ERR_INVALID, "'%.*s' is not a duration such as 250ms, 5s, 10m, 6h or 30d", STR_ARG(text));
}

int parse_bytes(struct str text, int64_t *ret, struct err *err) {
    if (parse_with_unit(text, byte_units, true, ret)) return 0;
    return err_set(err, ERR_INVALID, "'%.*s' is not a number of bytes such as 4096, 64KiB, 6MiB or 10GiB", STR_ARG(text));
}

int parse_durations_ms(struct str text, int64_t *out, size_t room, struct err *err) {
    size_t count = 0;
    for (;;) {
        const char *comma = text.len ? memchr(text.data, ',', text.len) : NULL;
        struct str one = {text.data, comma ? (size_t)(comma - text.data) : text.len};
        int64_t ms;
        if (parse_duration_ms(one, &ms, err)) return ERR_INVALID;
        if (count == room) return err_set(err, ERR_INVALID, "more than %zu durations in the list", room);
        out[count++] = ms;
        if (!comma) return (int)count;
        text = (struct str){comma + 1, text.len - one.len - 1};
    }
}

static int parse_count(struct str text, int64_t *ret, struct err *err) {
    struct str rest = text;
    int64_t n;
    if (!take_digits(&rest, &n) || rest.len > 0)
        return err_set(err, ERR_INVALID, "'%.*s' is not a whole number", STR_ARG(text));
    *ret = n;
    return 0;
}

static int check_word(struct str text, const char *words, struct err *err) {
    for (const char *at = words; *at;) {
        size_t len = strcspn(at, "|");
        if (str_eq(text, (struct str){at, len})) return 0;
        at += len + (at[len] == '|');
    }
    return err_set(err, ERR_INVALID, "'%.*s' is none of %s", STR_ARG(text), words);
}

static int parse_value(const struct option_spec *spec, struct str text, int64_t *ret, struct err *err) {
    int64_t list[64];
    *ret = 0;
    switch (spec->type) {
    case OPTION_TEXT: return 0;
    case OPTION_PATH: return 0;
    case OPTION_COUNT: return parse_count(text, ret, err);
    case OPTION_BYTES: return parse_bytes(text, ret, err);
    case OPTION_DURATION: return parse_duration_ms(text, ret, err);
    case OPTION_DURATIONS: return parse_durations_ms(text, list, array_len(list), err) < 0 ? ERR_INVALID : 0;
    case OPTION_WORD: return check_word(text, spec->words, err);
    }
    return err_set(err, ERR_INTERNAL, "option %s has an unknown type", spec->name);
}

// "64KiB" for 65536 when the option is one of bytes: the text of a bound.
static void format_bound(enum option_type type, int64_t n, char out[32]) {
    const struct unit *u = type == OPTION_BYTES ? byte_units : type == OPTION_DURATION ? duration_units : NULL;
    while (u && u->word && (n == 0 || n % u->factor != 0)) u++;
    bool plain = !u || !u->word || strcmp(u->word, "B") == 0;
    int rc = plain ? text_format(out, 32, "%" PRId64, n) : text_format(out, 32, "%" PRId64 "%s", n / u->factor, u->word);
    MUST(rc == 0);
}

static int check_range(const struct option_spec *spec, int64_t n, struct err *err) {
    bool has_range = spec->type == OPTION_COUNT || spec->type == OPTION_BYTES || spec->type == OPTION_DURATION;
    if (!has_range || (n >= spec->least && n <= spec->most)) return 0;
    char least[32], most[32];
    format_bound(spec->type, spec->least, least);
    format_bound(spec->type, spec->most, most);
    return err_set(err, ERR_INVALID, "must be from %s to %s", least, most);
}

// --- names ------------------------------------------------------------------------------------------------------------

// NULL when no name is near enough to be meant.
static const char *nearest_name(const char *name) {
    struct text_nearest n = text_nearest_init(name);
    for (const struct option_spec *spec = option_specs; spec->name; spec++) text_nearest_offer(&n, spec->name);
    return n.name;
}

static const struct option_spec *find_spec(const char *name, struct err *err) {
    for (const struct option_spec *spec = option_specs; spec->name; spec++)
        if (strcmp(name, spec->name) == 0) return spec;
    const char *near = nearest_name(name);
    err_set(err, ERR_INVALID, "there is no option '%.100s'%s%s%s", name, near ? "; did you mean '" : "", near ? near : "",
            near ? "'?" : "");
    return NULL;
}

// --- setting ----------------------------------------------------------------------------------------------------------

static struct option_value *value_of(struct options *o, const struct option_spec *spec) {
    return (struct option_value *)(void *)((char *)o + spec->offset);
}

const struct option_value *options_get(const struct options *o, const struct option_spec *spec) {
    return (const struct option_value *)(const void *)((const char *)o + spec->offset);
}

static int set(struct options *o, const struct option_spec *spec, const char *value, const char *origin, struct err *err) {
    struct err why;
    int64_t number;
    int rc = parse_value(spec, str_of(value), &number, &why);
    if (rc == 0) rc = check_range(spec, number, &why);
    if (rc) return err_set(err, (enum err_code)rc, "%s: %.400s", spec->name, why.text);
    struct option_value *v = value_of(o, spec);
    free(v->text);
    *v = (struct option_value){mem_strdup(value), number, origin};
    return 0;
}

void options_init(struct options *o) {
    *o = (struct options){0};
    for (const struct option_spec *spec = option_specs; spec->name; spec++)
        MUST(set(o, spec, spec->fallback, "default", NULL) == 0);
}

void options_done(struct options *o) {
    for (const struct option_spec *spec = option_specs; spec->name; spec++) free(value_of(o, spec)->text);
    *o = (struct options){0};
}

int options_set(struct options *o, const char *name, const char *value, const char *origin, struct err *err) {
    const struct option_spec *spec = find_spec(name, err);
    return spec ? set(o, spec, value, origin, err) : ERR_INVALID;
}

int options_read_environment(struct options *o, struct err *err) {
    for (const struct option_spec *spec = option_specs; spec->name; spec++) {
        char name[72];
        MUST(text_format(name, sizeof name, "WEIR_%s", spec->name) == 0);
        for (char *c = name; *c; c++) *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        const char *value = getenv(name);
        struct err why;
        int rc = value ? set(o, spec, value, "environment", &why) : 0;
        if (rc) return err_set(err, (enum err_code)rc, "%s: %.400s", name, why.text);
    }
    return 0;
}

// --- the file ---------------------------------------------------------------------------------------------------------

struct file_reading {
    struct options *o;
    bool given[array_len(option_specs)];
};

static int on_entry(void *arg, const char *section, const char *name, const char *value, struct err *err) {
    struct file_reading *r = arg;
    if (*section) return err_set(err, ERR_INVALID, "the file has no sections: remove the [...] line");
    const struct option_spec *spec = find_spec(name, err);
    if (!spec) return ERR_INVALID;
    if (r->given[spec - option_specs]) return err_set(err, ERR_INVALID, "%s is given twice", name);
    r->given[spec - option_specs] = true;
    return set(r->o, spec, value, "file", err);
}

int options_read_file(struct options *o, const char *path, struct err *err) {
    struct file_reading r = {.o = o};
    return ini_file_read(path, on_entry, &r, err);
}
