// SPDX-License-Identifier: Apache-2.0
// Expressions to bit masks. The text is walked once, and every refusal carries the bytes that it is about, so that a caller can
// point at them. What another scheduler would write in a form of its own is refused with the form that means the same here.
#include "triggers/cron.h"

#include <stdarg.h>
#include <strings.h>

#define SECOND_S 1
#define MINUTE_S 60
#define HOUR_S 3600
#define DAY_S 86400
#define EVERY_MAX_S ((int64_t)366 * DAY_S)

enum kind { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, YEAR, KINDS };

static const struct field {
    const char *name;
    int min, max;
    const char *names; // three letters each, of min and what follows
    const char *wanted;
    char unit;         // in @every; 0: none
} fields[KINDS] = {
    [SECOND] = {"second", 0, 59, "", "a number 0 to 59", 's'},
    [MINUTE] = {"minute", 0, 59, "", "a number 0 to 59", 'm'},
    [HOUR] = {"hour", 0, 23, "", "a number 0 to 23", 'h'},
    [DAY] = {"day", 1, 31, "", "a number 1 to 31, L, L-3, LW or 15W", 'd'},
    [MONTH] = {"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC", "a number 1 to 12 or JAN to DEC", 0},
    [WEEKDAY] = {"weekday", 0, 6, "SUNMONTUEWEDTHUFRISAT", "a number 0 to 7, SUN to SAT, FRIL or FRI#2", 0},
    [YEAR] = {"year", 1970, 2099, "", "a number 1970 to 2099", 0},
};

static const struct {
    const char *word, *fields;
} words[] = {
    {"@yearly", "0 0 1 1 *"},  {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
    {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
};

struct parse {
    const char *text;  // the whole of it: what cron_error counts from
    struct cron *c;
    enum kind kind;
    int number;        // of the field, 1..; 0: not in a field
    uint64_t set[3];   // the field's values: bit n is min + n
    bool all;          // a member of its list is all values
    struct cron_error *where;
    struct err *err;
};

static const char *const dst_words[] = {
#define X(name, word) [name] = word,
    CRON_DSTS(X)
#undef X
};

const char *cron_dst_word(enum cron_dst d) {
    return dst_words[d];
}

int cron_dst_parse(struct str word, enum cron_dst *ret, struct err *err) {
    for (size_t i = 0; i < array_len(dst_words); i++)
        if (str_is(word, dst_words[i])) {
            *ret = (enum cron_dst)i;
            return 0;
        }
    return err_set(err, ERR_INVALID, "dst is cron, skip, once or both");
}

// ---- refusing --------------------------------------------------------------------------------------------------------------

// The text as a message can show it: cut, and without bytes that a terminal would obey.
struct shown {
    char text[48];
};
static struct shown show(struct str s) {
    struct shown out;
    snprintf(out.text, sizeof out.text, "%.*s%s", (int)(s.len < 40 ? s.len : 40), s.data ? s.data : "", s.len > 40 ? "..." : "");
    for (char *p = out.text; *p; p++)
        if (*p < ' ' || *p > '~') *p = '?';
    return out;
}
#define SHOW(s) show(s).text

static int refuse(struct parse *p, struct str at, const char *fmt, ...) printf_like(3, 4);
static int refuse(struct parse *p, struct str at, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t begin = (size_t)(at.data - p->text);
    *p->where = (struct cron_error){p->number, begin, begin + at.len};
    if (p->number == 0) return err_set(p->err, ERR_INVALID, "%s", text);
    return err_set(p->err, ERR_INVALID, "field %d (%s): %s", p->number, fields[p->kind].name, text);
}

// ---- pieces of text --------------------------------------------------------------------------------------------------------

static bool is_space(char ch) {
    return ch == ' ' || ch == '\t';
}

static bool is_digit(char ch) {
    return ch >= '0' && ch <= '9';
}

static bool is_letter(char ch) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
}

static struct str skip(struct str s, size_t bytes) {
    return (struct str){s.data + bytes, s.len - bytes};
}

static struct str trim(struct str s) {
    while (s.len && is_space(s.data[0])) s = skip(s, 1);
    while (s.len && is_space(s.data[s.len - 1])) s.len--;
    return s;
}

// The bytes before the first that is `stop` (' ' stands for any space); they are taken off `rest`, the stop is not.
static struct str take_until(struct str *rest, char stop) {
    size_t n = 0;
    while (n < rest->len && rest->data[n] != stop && !(stop == ' ' && is_space(rest->data[n]))) n++;
    struct str taken = {rest->data, n};
    *rest = skip(*rest, n);
    return taken;
}

static struct str take_run(struct str *rest, bool (*is)(char)) {
    size_t n = 0;
    while (n < rest->len && is(rest->data[n])) n++;
    struct str taken = {rest->data, n};
    *rest = skip(*rest, n);
    return taken;
}

static bool take_char(struct str *rest, char upper) {
    if (rest->len == 0 || (rest->data[0] != upper && !(is_letter(upper) && rest->data[0] == upper + 'a' - 'A'))) return false;
    *rest = skip(*rest, 1);
    return true;
}

static bool same_word(struct str s, const char *word) {
    return s.len == strlen(word) && strncasecmp(s.data, word, s.len) == 0;
}

static bool starts_word(struct str s, const char *word) {
    return s.len >= strlen(word) && strncasecmp(s.data, word, strlen(word)) == 0;
}

// Digits to a number; what is over `max` becomes max + 1.
static int64_t number_of(struct str digits, int64_t max) {
    int64_t n = 0;
    for (size_t i = 0; i < digits.len && n <= max; i++) n = n * 10 + (digits.data[i] - '0');
    return n <= max ? n : max + 1;
}

static struct str between(struct str from, struct str rest) {
    return (struct str){from.data, (size_t)(rest.data - from.data)};
}

// ---- one field -------------------------------------------------------------------------------------------------------------

static void set_add(struct parse *p, int value) {
    int bit = value - fields[p->kind].min;
    p->set[bit / 64] |= 1ULL << (bit % 64);
}

static int not_understood(struct parse *p, struct str s) {
    const struct field *f = &fields[p->kind];
    if (s.len == 0) return refuse(p, s, "a value is missing; wanted is %s", f->wanted);
    return refuse(p, s, "\"%s\" is not understood; wanted is %s, *, or a range, step or list of these", SHOW(s), f->wanted);
}

static int above(struct parse *p, struct str s, int max) {
    if (p->kind == WEEKDAY && number_of(s, 9999) >= 1970 && number_of(s, 9999) <= 2099)
        return refuse(p, s, "%s is above %d; with a year 7 fields are wanted, and the first is the second", SHOW(s), max);
    return refuse(p, s, "%s is above %d", SHOW(s), max);
}

// A number or a name. A weekday may be 7.
static int take_value(struct parse *p, struct str *rest, int *ret) {
    const struct field *f = &fields[p->kind];
    struct str from = *rest, text = take_run(rest, is_digit);
    if (text.len) {
        int max = p->kind == WEEKDAY ? 7 : f->max;
        int64_t n = number_of(text, max);
        if (n > max) return above(p, text, max);
        if (n < f->min) return refuse(p, text, "%s is below %d", SHOW(text), f->min);
        *ret = (int)n;
        return 0;
    }
    text = take_run(rest, is_letter);
    if (p->kind == WEEKDAY && text.len == 4) { // FRIL
        text.len = 3;
        *rest = skip(from, 3);
    }
    for (int i = 0; text.len == 3 && f->names[i * 3]; i++)
        if (strncasecmp(text.data, f->names + (ptrdiff_t)i * 3, 3) == 0) {
            *ret = f->min + i;
            return 0;
        }
    return not_understood(p, from);
}

static int take_step(struct parse *p, struct str *rest, int *ret) {
    const struct field *f = &fields[p->kind];
    struct str digits = take_run(rest, is_digit);
    if (digits.len == 0) return refuse(p, *rest, "after / a step is wanted, a number from 1");
    int max = p->kind == YEAR ? f->max - f->min : f->max;
    int64_t n = number_of(digits, max);
    if (n == 0) return refuse(p, digits, "a step of 0 never gets anywhere; steps begin at 1");
    if (n > max && f->unit)
        return refuse(p, digits, "the step %s is above %d, and steps begin anew with each field; for a steady pace write @every %s%c",
                      SHOW(digits), max, SHOW(digits), f->unit);
    if (n > max) return refuse(p, digits, "the step %s is above %d", SHOW(digits), max);
    *ret = (int)n;
    return 0;
}

static void write_value(const struct parse *p, bool by_name, int value, char out[8]) {
    const struct field *f = &fields[p->kind];
    if (by_name) snprintf(out, 8, "%.3s", f->names + (ptrdiff_t)(value - f->min) * 3);
    else snprintf(out, 8, "%d", value);
}

static void write_range(const struct parse *p, bool by_name, int from, int to, int step, char out[24]) {
    char a[8], b[8];
    write_value(p, by_name, from, a);
    write_value(p, by_name, to, b);
    if (from + step > to) snprintf(out, 24, "%s", a);
    else if (step == 1) snprintf(out, 24, "%s-%s", a, b);
    else snprintf(out, 24, "%s-%s/%d", a, b, step);
}

// 22-2 as "22-23,0-2".
static int refuse_backwards(struct parse *p, struct str item, int from, int to, int step) {
    const struct field *f = &fields[p->kind];
    char high[24], low[24];
    bool by_name = f->names[0] && is_letter(item.data[0]);
    if (p->kind == WEEKDAY) from %= 7;
    if (p->kind == YEAR) return refuse(p, item, "the range \"%s\" ends before it begins; write %d-%d", SHOW(item), to, from);
    int over = from + ((f->max - from) / step + 1) * step - (f->max + 1) + f->min; // the first value past the field's end
    write_range(p, by_name, from, from <= to ? to : f->max, step, high);
    write_range(p, by_name, over, to, step, low);
    bool split = from > to && over <= to;
    return refuse(p, item, "the range \"%s\" ends before it begins; write %s%s%s", SHOW(item), high, split ? "," : "", split ? low : "");
}

// * a a-b, each with /n
static int parse_values(struct parse *p, struct str item) {
    const struct field *f = &fields[p->kind];
    struct str rest = item;
    int from = f->min, to = f->max, step = 1, rc = 0;
    bool star = take_char(&rest, '*'), range = false;
    if (!star) {
        rc = take_value(p, &rest, &from);
        range = !rc && take_char(&rest, '-');
        if (range) rc = take_value(p, &rest, &to);
        if (rc) return rc;
        if (p->kind == WEEKDAY && range && to == 0 && from > 0) to = 7;
        if (p->kind == WEEKDAY && !range) from %= 7;
    }
    bool stepped = take_char(&rest, '/');
    if (stepped) rc = take_step(p, &rest, &step);
    if (rc) return rc;
    if (rest.len) return not_understood(p, item);
    if (!star && !range && !stepped) to = from;
    if (to < from) return refuse_backwards(p, item, from, to, step);
    for (int v = from; v <= to; v += step) set_add(p, p->kind == WEEKDAY ? v % 7 : v);
    p->all |= star && step == 1;
    return 0;
}

// L L-n LW nW
static int parse_day(struct parse *p, struct str item) {
    struct str rest = item;
    if (take_char(&rest, 'L')) {
        int64_t n = 0;
        if (take_char(&rest, 'W')) {
            p->c->near_days |= 1;
        } else if (take_char(&rest, '-')) {
            struct str digits = take_run(&rest, is_digit);
            n = number_of(digits, 30);
            if (digits.len == 0 || rest.len) return not_understood(p, item);
            if (n > 30) return refuse(p, digits, "%s days before the last day of a month is never in it; 30 is the most", SHOW(digits));
            p->c->last_days |= 1U << n;
        } else {
            p->c->last_days |= 1;
        }
        return rest.len ? not_understood(p, item) : 0;
    }
    struct str digits = take_run(&rest, is_digit);
    if (digits.len == 0 || !take_char(&rest, 'W')) return parse_values(p, item);
    if (rest.len) return not_understood(p, item);
    int day = 0, rc = take_value(p, &digits, &day);
    if (rc) return rc;
    p->c->near_days |= 1U << day;
    return 0;
}

// nL n#k
static int parse_weekday(struct parse *p, struct str item) {
    struct str rest = item;
    if (same_word(item, "L")) return refuse(p, item, "L wants a weekday before it: 5L or FRIL is the last Friday of the month");
    int day = 0;
    if (item.len == 0 || item.data[0] == '*') return parse_values(p, item);
    int rc = take_value(p, &rest, &day);
    if (rc) return rc;
    if (take_char(&rest, 'L')) {
        if (rest.len) return not_understood(p, item);
        p->c->last_weekdays |= (uint8_t)(1U << day % 7);
        return 0;
    }
    if (!take_char(&rest, '#')) return parse_values(p, item);
    struct str digits = take_run(&rest, is_digit);
    int64_t k = number_of(digits, 5);
    if (digits.len == 0 || rest.len) return refuse(p, item, "\"%s\" is not understood; FRI#2 is the second Friday of the month", SHOW(item));
    if (k < 1 || k > 5) return refuse(p, digits, "a month has the 1st to the 5th of a weekday, not #%s", SHOW(digits));
    p->c->nth_weekdays[k - 1] |= (uint8_t)(1U << day % 7);
    return 0;
}

static int parse_list(struct parse *p, struct str text) {
    struct str rest = text;
    for (;;) {
        struct str item = take_until(&rest, ',');
        int rc;
        if (memchr(item.data, '?', item.len)) rc = refuse(p, item, "? stands alone, for a whole day or weekday field");
        else if (p->kind == DAY) rc = parse_day(p, item);
        else if (p->kind == WEEKDAY) rc = parse_weekday(p, item);
        else rc = parse_values(p, item);
        if (rc) return rc;
        if (rest.len == 0) return 0;
        rest = skip(rest, 1);
    }
}

static int parse_field(struct parse *p, enum kind kind, int number, struct str text) {
    p->kind = kind;
    p->number = number;
    p->all = false;
    memset(p->set, 0, sizeof p->set);
    if (str_is(text, "?") && (kind == DAY || kind == WEEKDAY)) text = STR_LIT("*");
    int rc = parse_list(p, text);
    if (rc) return rc;
    struct cron *c = p->c;
    switch (kind) {
    case SECOND: c->seconds = p->set[0]; break;
    case MINUTE: c->minutes = p->set[0]; break;
    case HOUR: c->hours = (uint32_t)p->set[0]; break;
    case DAY: c->days = (uint32_t)(p->set[0] << 1); break;
    case MONTH: c->months = (uint16_t)(p->set[0] << 1); break;
    case WEEKDAY: c->weekdays = (uint8_t)p->set[0]; break;
    case YEAR: memcpy(c->years, p->set, sizeof c->years); break;
    case KINDS: break;
    }
    if (kind == DAY) c->any_day = p->all;
    if (kind == WEEKDAY) c->any_weekday = p->all;
    if (kind <= HOUR && text.data[0] == '*') c->fixed = false;
    return 0;
}

// ---- the whole -------------------------------------------------------------------------------------------------------------

static int parse_fields(struct parse *p, struct str text) {
    struct str field[KINDS], rest = text;
    size_t count = 0;
    for (; rest.len; rest = trim(rest), count++) {
        struct str one = take_until(&rest, ' ');
        if (count < KINDS) field[count] = one;
    }
    if (count < 5 || count > 7)
        return refuse(p, text,
                      "5, 6 or 7 fields are wanted, this has %zu: \"minute hour day month weekday\"; 6 have a second in front, 7 also a year "
                      "at the end",
                      count);
    p->c->fields = (uint8_t)count;
    p->c->fixed = true;
    p->c->seconds = 1;
    memset(p->c->years, 0xff, sizeof p->c->years);
    p->c->years[2] = 3;
    size_t first = count == 5 ? MINUTE : SECOND;
    for (size_t i = 0; i < count; i++) {
        int rc = parse_field(p, (enum kind)(first + i), (int)i + 1, field[i]);
        if (rc) return rc;
    }
    bool star = field[DAY - first].data[0] == '*' || field[WEEKDAY - first].data[0] == '*';
    p->c->both = count == 5 && star && !p->c->any_day && !p->c->any_weekday;
    return 0;
}

// 90s 5m 1h30m 1d: the larger unit first.
static int parse_every(struct parse *p, struct str text) {
    static const struct {
        char unit;
        int64_t s;
    } units[] = {{'D', DAY_S}, {'H', HOUR_S}, {'M', MINUTE_S}, {'S', SECOND_S}};
    struct str rest = text;
    int64_t sum = 0;
    for (size_t u = 0; u < array_len(units); u++) {
        struct str before = rest, digits = take_run(&rest, is_digit);
        if (digits.len && take_char(&rest, units[u].unit)) sum += number_of(digits, EVERY_MAX_S) * units[u].s;
        else rest = before;
    }
    if (rest.len || text.len == 0)
        return refuse(p, text, "@every wants a time such as 90s, 5m, 1h30m or 1d, not \"%s\"", SHOW(text));
    if (sum < 1 || sum > EVERY_MAX_S) return refuse(p, text, "@every wants a time between 1s and 366d, not \"%s\"", SHOW(text));
    *p->c = (struct cron){.every_s = sum};
    return 0;
}

static int parse_word(struct parse *p, struct str text) {
    struct str rest = text, word = take_until(&rest, ' '), argument = trim(rest);
    if (same_word(word, "@every")) return parse_every(p, argument);
    if (same_word(word, "@reboot"))
        return refuse(p, text,
                      "@reboot has no time: servers come and go while the schedule stays. Use a time such as @daily, or invoke the function "
                      "when the machine starts");
    for (size_t i = 0; i < array_len(words); i++) {
        if (!same_word(word, words[i].word)) continue;
        if (argument.len) return refuse(p, argument, "%s stands alone", words[i].word);
        int rc = parse_fields(p, str_of(words[i].fields));
        MUST(rc == 0);
        p->c->fields = 0;
        return 0;
    }
    return refuse(p, word, "\"%s\" is not known; there are @yearly, @monthly, @weekly, @daily, @hourly and \"@every 5m\"", SHOW(word));
}

// rate(5 minutes) -> "5m"; false: it is not of that form.
static bool rate_as_every(struct str inside, char out[16]) {
    static const char *const units[] = {"minute", "hour", "day"};
    struct str digits = take_run(&inside, is_digit), unit = trim(inside);
    for (size_t i = 0; i < array_len(units) && digits.len && digits.len < 8; i++)
        if (starts_word(unit, units[i]) && unit.len <= strlen(units[i]) + 1) {
            snprintf(out, 16, "%.*s%c", STR_ARG(digits), units[i][0]);
            return true;
        }
    return false;
}

// Amazon EventBridge's cron(minute hour day month weekday year) and rate(5 minutes).
static int refuse_call(struct parse *p, struct str text) {
    struct str rest = text, name = take_until(&rest, '('), inside = skip(rest, 1);
    if (inside.len && inside.data[inside.len - 1] == ')') inside.len--;
    inside = trim(inside);
    if (same_word(name, "rate")) {
        char every[16] = "5m";
        rate_as_every(inside, every);
        return refuse(p, text, "rate( ) is another scheduler's form; write @every %s", every);
    }
    return refuse(p, text,
                  "cron( ) is another scheduler's form; put a second in front and leave the brackets out: \"0 %s\". Weekdays by number count "
                  "from 0 for Sunday here, not from 1",
                  SHOW(inside));
}

static int parse_zone(struct parse *p, struct str *text, bool wanted, struct str *ret) {
    struct str zone = skip(*text, str_starts(*text, "TZ=") ? 3 : 8), rest = zone;
    zone = take_until(&rest, ' ');
    struct str all = between(*text, rest);
    if (!wanted) return refuse(p, all, "the zone is not part of the expression here; leave \"%s\" out", SHOW(all));
    if (zone.len == 0) return refuse(p, all, "after = the name of a zone is wanted, such as CRON_TZ=Europe/Berlin");
    *ret = zone;
    *text = trim(rest);
    return 0;
}

int cron_parse(struct str text, struct cron *ret, struct str *ret_zone, struct cron_error *where, struct err *err) {
    struct cron c = {0};
    struct cron_error nowhere;
    struct parse p = {.text = text.data, .c = &c, .where = where ? where : &nowhere, .err = err};
    struct str body = trim(text), zone = {text.data, 0};
    if (text.len > CRON_TEXT_MAX) return refuse(&p, text, "an expression has at most %d bytes, this has %zu", CRON_TEXT_MAX, text.len);
    int rc = 0;
    if (str_starts(body, "CRON_TZ=") || str_starts(body, "TZ=")) rc = parse_zone(&p, &body, ret_zone != NULL, &zone);
    if (rc) return rc;
    if (starts_word(body, "cron(") || starts_word(body, "rate(")) rc = refuse_call(&p, body);
    else if (body.len && body.data[0] == '@') rc = parse_word(&p, body);
    else rc = parse_fields(&p, body);
    if (rc) return rc;
    *ret = c;
    if (ret_zone) *ret_zone = zone;
    return 0;
}
