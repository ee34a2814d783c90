// SPDX-License-Identifier: Apache-2.0
// Are two values equal? Numbers by their value, whatever their length; objects without regard to order.
//
// Recursive, at most JSON_TEXT_DEPTH levels, which the check of both texts has made sure of.
#include "core/json_text_impl.h"

static bool equal(struct str a, struct str b);

// ---- numbers ---------------------------------------------------------------------------------------------------------------

// 0.DIGITS * 10^(exponent + shift), without zeros at either end of DIGITS; zero has no digits.
struct number {
    bool minus;
    struct str whole, fraction; // digits without the outer zeros
    int64_t shift;
    struct str exponent;        // as written, without sign, + and leading zeros
    bool exponent_minus;
};

static struct str take_digits(struct str *s) {
    struct str digits = {s->data, 0};
    while (digits.len < s->len && s->data[digits.len] >= '0' && s->data[digits.len] <= '9') digits.len++;
    *s = (struct str){s->data + digits.len, s->len - digits.len};
    return digits;
}

static bool take(struct str *s, const char *any) {
    if (s->len == 0 || !strchr(any, s->data[0])) return false;
    *s = (struct str){s->data + 1, s->len - 1};
    return true;
}

static size_t trim_front(struct str *digits) {
    size_t n = 0;
    while (n < digits->len && digits->data[n] == '0') n++;
    *digits = (struct str){digits->data + n, digits->len - n};
    return n;
}

static void trim_back(struct str *digits) {
    while (digits->len && digits->data[digits->len - 1] == '0') digits->len--;
}

static struct number number_of(struct str s) {
    struct number n = {.minus = take(&s, "-"), .whole = take_digits(&s)};
    bool has_fraction = take(&s, ".");
    n.fraction = has_fraction ? take_digits(&s) : (struct str){s.data, 0};
    if (take(&s, "eE")) {
        n.exponent_minus = take(&s, "-");
        (void)take(&s, "+");
        n.exponent = take_digits(&s);
        trim_front(&n.exponent);
    }
    trim_front(&n.whole);
    n.shift = (int64_t)n.whole.len;
    if (n.whole.len == 0) n.shift = -(int64_t)trim_front(&n.fraction);
    trim_back(&n.fraction);
    if (n.fraction.len == 0) trim_back(&n.whole);
    return n;
}

static char digit_at(const struct number *n, size_t i) {
    return i < n->whole.len ? n->whole.data[i] : n->fraction.data[i - n->whole.len];
}

static int64_t small(struct str digits, bool minus) {
    int64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) value = value * 10 + (digits.data[i] - '0');
    return minus ? -value : value;
}

// Exponents that no 64 bits hold are only equal when they are written alike.
static bool equal_scales(const struct number *a, const struct number *b) {
    if (a->exponent.len <= 17 && b->exponent.len <= 17)
        return small(a->exponent, a->exponent_minus) + a->shift == small(b->exponent, b->exponent_minus) + b->shift;
    return a->shift == b->shift && a->exponent_minus == b->exponent_minus && str_eq(a->exponent, b->exponent);
}

static bool equal_numbers(struct str x, struct str y) {
    struct number a = number_of(x), b = number_of(y);
    size_t digits = a.whole.len + a.fraction.len;
    if (digits != b.whole.len + b.fraction.len) return false;
    if (digits == 0) return true;
    if (a.minus != b.minus || !equal_scales(&a, &b)) return false;
    for (size_t i = 0; i < digits; i++)
        if (digit_at(&a, i) != digit_at(&b, i)) return false;
    return true;
}

// ---- strings, arrays, objects ----------------------------------------------------------------------------------------------

static bool equal_strings(struct str a, struct str b) {
    a = (struct str){a.data + 1, a.len - 2};
    b = (struct str){b.data + 1, b.len - 2};
    struct buf plain;
    buf_init(&plain, b.len);
    MUST(json_text_unescape(b, &plain) == 0); // never longer than it was
    bool same = json_name_is(a, buf_str(&plain));
    buf_done(&plain);
    return same;
}

static bool equal_arrays(struct str a, struct str b) {
    struct json_children left, right;
    struct json_child x, y;
    MUST(json_children_open(&left, a) && json_children_open(&right, b));
    for (;;) {
        bool more = json_children_next(&left, &x);
        if (json_children_next(&right, &y) != more) return false;
        if (!more) return true;
        if (!equal(x.value, y.value)) return false;
    }
}

struct member {
    struct str name; // unescaped
    struct str value;
};
struct members {
    struct member *list; // by name, each once
    size_t count;
    char *names;
};

static int compare_names(struct str a, struct str b) {
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_members(const void *a, const void *b) {
    const struct member *x = a, *y = b;
    int order = compare_names(x->name, y->name);
    return order ? order : (x->value.data > y->value.data) - (x->value.data < y->value.data);
}

static struct members members_of(struct str object) {
    struct json_children children;
    struct json_child child;
    MUST(json_children_open(&children, object));
    while (json_children_next(&children, &child)) {}
    struct members m = {.list = mem_array(children.count + 1, sizeof *m.list), .names = mem_alloc(object.len)};
    struct member *to = m.list;
    char *at = m.names;
    MUST(json_children_open(&children, object));
    while (json_children_next(&children, &child)) {
        *to = (struct member){{at, 0}, child.value};
        while (child.name.len) {
            char bytes[4];
            size_t n = json_take_char(&child.name, bytes);
            memcpy(at, bytes, n);
            at += n;
        }
        to->name.len = (size_t)(at - to->name.data);
        to++;
    }
    qsort(m.list, children.count, sizeof *m.list, compare_members);
    for (size_t i = 0; i < children.count; i++)
        if (i + 1 == children.count || !str_eq(m.list[i].name, m.list[i + 1].name)) m.list[m.count++] = m.list[i];
    return m;
}

static bool equal_objects(struct str a, struct str b) {
    struct members x = members_of(a), y = members_of(b);
    bool same = x.count == y.count;
    for (size_t i = 0; same && i < x.count; i++) same = str_eq(x.list[i].name, y.list[i].name) && equal(x.list[i].value, y.list[i].value);
    free(x.list);
    free(x.names);
    free(y.list);
    free(y.names);
    return same;
}

// The first character tells the kind of a value, but for numbers.
static char kind_of(struct str value) {
    char c = value.data[0];
    return c == '-' || (c >= '0' && c <= '9') ? '0' : c;
}

static bool equal(struct str a, struct str b) {
    if (kind_of(a) != kind_of(b)) return false;
    if (str_eq(a, b)) return true;
    switch (kind_of(a)) {
    case '"': return equal_strings(a, b);
    case '0': return equal_numbers(a, b);
    case '[': return equal_arrays(a, b);
    case '{': return equal_objects(a, b);
    default: return true; // true, false, null
    }
}

bool json_text_equal(struct str a, struct str b) {
    struct str x, y;
    if (json_checked_value(a, &x, NULL, NULL) || json_checked_value(b, &y, NULL, NULL)) return false;
    return equal(x, y);
}
