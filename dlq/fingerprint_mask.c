// SPDX-License-Identifier: Apache-2.0
// The shape of a message: its words stay, what changes from event to event becomes one byte of enum mask.
//
// Every rule looks at the text from here on and says how many bytes it takes, or 0. One pass: what a rule looks at in vain is short
// (LOOK_AHEAD), or is remembered (`unclosed`, `looked`), so that a hostile message costs no more than a long one.
// Rules may take the numbers 5 and 10:30 for different things; the hash does not, so a wrong guess shows in the title only.
#include "core/base/text.h"
#include "dlq/fingerprint_impl.h"

#define LOOK_AHEAD 256u // longest part in front of the @ or :// of an address
#define MASK_COST 6u    // bytes of the longest mask in a title; every mask counts as much, so that the cut does not depend on which it is

struct masker {
    struct str in;
    size_t at;
    unsigned char before; // first byte of the character in front of `at`
    bool cut;             // the message goes on where the text ends
    bool unclosed[3];     // no quote of this kind is closed from here on
    size_t looked;        // no address begins in front of this byte
    struct shape *out;
    size_t cost;
    bool full;
    bool listing;         // since the last mask there were separators only
    struct {
        size_t len, cost;
    } listed;             // `out` at the last mask
};

static unsigned char byte_at(struct str s, size_t i) {
    return i < s.len ? (unsigned char)s.data[i] : 0;
}

// Letters beyond ASCII: those of Latin, Greek, Cyrillic and Armenian, by their first byte. Words of other scripts stand next to quotes.
static bool is_word(unsigned char c) {
    return is_alnum(c) || (c >= 0xc3 && c <= 0xd5);
}

static bool is_blank(unsigned char c) {
    return c <= ' ' || c == 0x7f;
}

static bool one_of(unsigned char c, const char *set) {
    return c && strchr(set, c);
}

// ---- ids ------------------------------------------------------------------------------------------------------------------

static size_t uuid_length(struct str s) {
    if (s.len < 36 || s.data[8] != '-') return 0;
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? s.data[i] != '-' : !is_hex(byte_at(s, i))) return 0;
    }
    return is_alnum(byte_at(s, 36)) ? 0 : 36;
}

static bool is_ulid(struct str word) {
    if (word.len != 26 || word.data[0] < '0' || word.data[0] > '7') return false;
    for (size_t i = 0; i < word.len; i++)
        if (one_of((unsigned char)word.data[i], "ILOUilou")) return false;
    return true;
}

size_t fingerprint_id_length(struct str s) {
    if (uuid_length(s)) return 36;
    size_t n = alnum_length(s), digits = 0;
    if (n < 8) return 0;
    bool hex = true;
    for (size_t i = 0; i < n; i++) {
        digits += is_digit((unsigned char)s.data[i]);
        hex = hex && is_hex((unsigned char)s.data[i]);
    }
    if (digits == 0 || digits == n) return 0;
    return hex || is_ulid(str_head(s, n)) || (n >= 16 && digits >= 3) ? n : 0;
}

// What Java's Object.toString prints behind the @.
static size_t object_hash_length(struct str s) {
    size_t n = 0;
    while (is_hex(byte_at(s, n))) n++;
    return n >= 5 && n <= 8 && !is_word(byte_at(s, n)) ? n : 0;
}

// ---- addresses ------------------------------------------------------------------------------------------------------------

static size_t mac_length(struct str s) {
    unsigned char separator = byte_at(s, 2);
    if (s.len < 17 || (separator != ':' && separator != '-')) return 0;
    for (size_t i = 0; i < 17; i++)
        if (i % 3 == 2 ? byte_at(s, i) != separator : !is_hex(byte_at(s, i))) return 0;
    return is_alnum(byte_at(s, 17)) ? 0 : 17;
}

static size_t ip6_length(struct str s) {
    size_t n = 0, colons = 0;
    bool gap = false, digit = false;
    for (; n < s.len && n < 64; n++) {
        unsigned char c = (unsigned char)s.data[n];
        if (c == ':') {
            colons++;
            gap = gap || byte_at(s, n + 1) == ':';
        } else if (!is_hex(c) && c != '.') {
            break;
        }
        digit = digit || is_digit(c);
    }
    if (!digit || colons < 2 || (!gap && colons != 7) || is_word(byte_at(s, n))) return 0;
    while (byte_at(s, n - 1) == '.' || (byte_at(s, n - 1) == ':' && byte_at(s, n - 2) != ':')) n--;
    return n;
}

static size_t without_tail(struct str s, size_t n, const char *tail) {
    while (n > 0 && one_of((unsigned char)s.data[n - 1], tail)) n--;
    return n;
}

static size_t url_length(struct str s, size_t scheme) {
    size_t start = scheme + strlen("://"), n = start;
    while (n < s.len && !is_blank((unsigned char)s.data[n])) {
        if (s.data[n] == '[' && one_of((unsigned char)s.data[n - 1], "/@")) { // an IPv6 address as host
            while (is_hex(byte_at(s, n + 1)) || one_of(byte_at(s, n + 1), ":.]")) n++;
        } else if (one_of((unsigned char)s.data[n], "\"'`<>()[]{},|")) {
            break;
        }
        n++;
    }
    n = without_tail(s, n, ".;:!?");
    return n > start ? n : 0;
}

static size_t email_length(struct str s, size_t local) {
    size_t n = local + 1, dot = 0;
    for (; is_alnum(byte_at(s, n)) || byte_at(s, n) == '.' || byte_at(s, n) == '-'; n++)
        if (byte_at(s, n) == '.' && is_alnum(byte_at(s, n + 1))) dot = n;
    return dot > local + 1 ? without_tail(s, n, ".-") : 0;
}

// A URL or an e-mail address.
static size_t address_length(struct masker *m, struct str s) {
    if (m->at < m->looked) return 0;
    size_t n = 0;
    while (n < LOOK_AHEAD && (is_alnum(byte_at(s, n)) || one_of(byte_at(s, n), "._%+-"))) n++;
    m->looked = m->at + n;
    if (byte_at(s, n) == '@') return email_length(s, n);
    return str_starts(str_from(s, n), "://") ? url_length(s, n) : 0;
}

// ---- paths ----------------------------------------------------------------------------------------------------------------

static bool is_path_byte(unsigned char c) {
    return !is_blank(c) && !one_of(c, "\"'`<>|()[]{},;:*?");
}

// An absolute path, or one that begins with ./, ../ or ~/, or with a drive or a server of Windows.
static size_t path_length(struct str s) {
    static const char *const starts[] = {"/", "./", "../", "~/", ".\\", "..\\", "\\\\"};
    size_t n = 0;
    for (size_t i = 0; i < array_len(starts) && n == 0; i++)
        if (str_starts(s, starts[i])) n = strlen(starts[i]);
    if (n == 0 && s.len > 2 && !is_digit(byte_at(s, 0)) && is_alnum(byte_at(s, 0)) && s.data[1] == ':' && one_of(byte_at(s, 2), "/\\")) n = 3;
    if (n == 0 || (!is_word(byte_at(s, n)) && !one_of(byte_at(s, n), "._-~@%$") && byte_at(s, n) < 0x80)) return 0;
    while (n < s.len && is_path_byte((unsigned char)s.data[n])) n++;
    return without_tail(s, n, ".!");
}

// ---- times ----------------------------------------------------------------------------------------------------------------

static size_t clock_length(struct str s) {
    size_t n = digits_length(s);
    if (n < 1 || n > 2 || byte_at(s, n) != ':' || digits_length(str_from(s, n + 1)) != 2) return 0;
    n += 3;
    if (byte_at(s, n) != ':' || !is_digit(byte_at(s, n + 1))) return n;
    n += 1 + digits_length(str_from(s, n + 1));
    if (one_of(byte_at(s, n), ".,") && is_digit(byte_at(s, n + 1))) n += 1 + digits_length(str_from(s, n + 1));
    return n;
}

// With the blank in front of it.
static size_t zone_length(struct str s) {
    size_t n = byte_at(s, 0) == ' ';
    if (byte_at(s, n) == 'Z' && !is_word(byte_at(s, n + 1))) return n + 1;
    struct str zone = n < s.len ? str_from(s, n) : STR_NONE;
    if (str_starts(zone, "UTC") || str_starts(zone, "GMT")) n += 3;
    if (one_of(byte_at(s, n), "+-") && is_digit(byte_at(s, n + 1))) {
        size_t hours = digits_length(str_from(s, n + 1));
        if (hours == 4) return n + 5;
        if (hours == 2 && byte_at(s, n + 3) == ':' && digits_length(str_from(s, n + 4)) == 2) return n + 6;
    }
    return n >= 3 ? n : 0;
}

static size_t iso_date_length(struct str s) {
    if (digits_length(s) != 4 || !one_of(byte_at(s, 4), "-/.")) return 0;
    size_t month = digits_length(str_from(s, 5));
    if (month < 1 || month > 2 || byte_at(s, 5 + month) != byte_at(s, 4)) return 0;
    size_t day = digits_length(str_from(s, 6 + month)), n = 6 + month + day;
    if (day < 1 || day > 2) return 0;
    size_t clock = one_of(byte_at(s, n), "Tt_ ") ? clock_length(str_from(s, n + 1)) : 0;
    if (clock == 0) return n;
    n += 1 + clock;
    return n + zone_length(str_from(s, n));
}

static size_t date_name_length(struct str s) {
    static const char *const names[] = {"Jan", "January", "Feb", "February", "Mar", "March", "Apr", "April", "May", "Jun", "June", "Jul", "July",
        "Aug", "August", "Sep", "Sept", "September", "Oct", "October", "Nov", "November", "Dec", "December", "Mon", "Monday", "Tue", "Tuesday",
        "Wed", "Wednesday", "Thu", "Thursday", "Fri", "Friday", "Sat", "Saturday", "Sun", "Sunday", "UTC", "GMT", "CET", "CEST", "EST", "EDT",
        "CST", "CDT", "MST", "MDT", "PST", "PDT", "BST", "IST", "JST"};
    size_t n = alnum_length(str_head(s, s.len < 10 ? s.len : 10));
    if (n < 3 || s.data[0] < 'A' || s.data[0] > 'Z') return 0;
    for (size_t i = 0; i < array_len(names); i++)
        if (str_is(str_head(s, n), names[i])) return n;
    return 0;
}

static size_t date_number_length(struct str s) {
    size_t clock = clock_length(s), n = clock ? clock : digits_length(s);
    return (clock || n <= 2 || n == 4) && !is_word(byte_at(s, n)) ? n : 0;
}

// "Mon Jan 2 15:04:05 2006", "Fri, 02 Jan 2026 15:04:05 GMT", "02/Jan/2026:15:04:05 +0000": names and numbers, a name among the first two.
static size_t named_date_length(struct str s) {
    size_t at = 0, end = 0, names = 0, numbers = 0;
    for (size_t parts = 0; parts < 8; parts++) {
        size_t name = date_name_length(str_from(s, at)), n = name ? name : date_number_length(str_from(s, at));
        if (n == 0 || (parts == 1 && !name && !names)) break;
        names += name > 0;
        numbers += name == 0;
        end = at += n;
        for (size_t blanks = 0; blanks < 2 && one_of(byte_at(s, at), " ,-/:") && at < s.len; blanks++) at++;
    }
    return names && numbers ? end + zone_length(str_from(s, end)) : 0;
}

static bool is_duration(struct str s) {
    static const char *const units[] = {"ns", "us", "ms", "s", "m", "h", "d", "sec", "secs", "min", "mins", "hr", "hrs", "day", "days"};
    while (s.len) {
        size_t digits = 0;
        while (is_digit(byte_at(s, digits)) || (digits && byte_at(s, digits) == '.')) digits++;
        size_t n = digits;
        while (n < s.len && !is_digit(byte_at(s, n))) n++;
        struct str unit = {s.data + digits, n - digits};
        bool known = false;
        for (size_t i = 0; i < array_len(units); i++) known = known || str_is(unit, units[i]);
        if (digits == 0 || !known) return false;
        s = str_from(s, n);
    }
    return true;
}

// ---- numbers --------------------------------------------------------------------------------------------------------------

static enum mask number_kind(struct str s, size_t dots, size_t colons) {
    if (byte_at(s, 0) == '0' && byte_at(s, 1) == 'x') return s.len > strlen("0x12345678") ? MASK_ADDR : MASK_N;
    if (dots == 3 && colons <= 1) return MASK_ADDR;
    if (colons == 2 || is_duration(s)) return MASK_TIME;
    return MASK_N;
}

// A word that begins with a digit, and what continues it: decimals, versions, IPv4, ports, hours and minutes, places (12:5), exponents, units.
static size_t number_length(struct str s, bool in_word, enum mask *ret_kind) {
    size_t n = 0, dots = 0, colons = 0;
    for (;;) {
        struct str rest = str_from(s, n);
        n += in_word ? digits_length(rest) : alnum_length(rest);
        if (!one_of(byte_at(s, n), ".:") || !is_digit(byte_at(s, n + 1))) break;
        if (byte_at(s, n) == '.') dots++;
        else colons++;
        n++;
    }
    *ret_kind = in_word ? MASK_N : number_kind(str_head(s, n), dots, colons);
    if (!in_word && n > 1 && (s.data[n - 1] | 0x20) == 'e' && is_digit(byte_at(s, n - 2)) && one_of(byte_at(s, n), "+-") && is_digit(byte_at(s, n + 1)))
        n += 1 + digits_length(str_from(s, n + 1));
    struct str unit = str_from(s, n);
    if (str_starts(unit, "\xc2\xb5s") || str_starts(unit, "\xce\xbcs")) { // µs, by either of its two letters
        *ret_kind = MASK_TIME;
        n += 3;
    }
    return n;
}

// ---- quotes ---------------------------------------------------------------------------------------------------------------

// b'…', u"…", r'…', f'…'
static bool is_string_prefix(const struct masker *m) {
    return one_of(m->before, "bBuUrRfF") && (m->at == 1 || !is_alnum((unsigned char)m->in.data[m->at - 2]));
}

static bool closes(unsigned char quote, struct str s, size_t i) {
    unsigned char c = byte_at(s, i);
    if (quote == '"') return c == '"';
    return (quote == '`' && c == '`') || (c == '\'' && !is_word(byte_at(s, i + 1)));
}

// A quote that is not closed ends with the text, when the text was cut; otherwise it is none.
static size_t quoted_length(struct masker *m, struct str s) {
    unsigned char quote = byte_at(s, 0);
    bool *unclosed = &m->unclosed[quote == '"' ? 0 : quote == '\'' ? 1 : 2];
    if (*unclosed || (quote == '\'' && is_word(m->before) && !is_string_prefix(m))) return 0;
    for (size_t i = 1; i < s.len; i++) {
        if (s.data[i] == '\\') i++;
        else if (closes(quote, s, i)) return i + 1;
    }
    *unclosed = true;
    return m->cut ? s.len : 0;
}

static size_t skip_string(struct str s, size_t i) {
    char quote = s.data[i];
    for (i++; i < s.len && s.data[i] != quote; i++)
        if (s.data[i] == '\\') i++;
    return i;
}

// A JSON object or what Python prints of a dict: a brace, then a quote. To its own closing brace, or to the end.
static size_t literal_length(struct str s) {
    size_t i = 1, depth = 0;
    while (i < s.len && is_blank((unsigned char)s.data[i])) i++;
    if (!one_of(byte_at(s, i), "\"'")) return 0;
    for (i = 0; i < s.len; i++) {
        char c = s.data[i];
        if (c == '"' || (c == '\'' && !is_word(byte_at(s, i - 1)))) i = skip_string(s, i);
        else if (c == '{' || c == '[') depth++;
        else if ((c == '}' || c == ']') && --depth == 0) return i + 1;
    }
    return s.len;
}

// ---- the pass -------------------------------------------------------------------------------------------------------------

static void put(struct masker *m, struct str s, size_t cost) {
    if (m->cost + cost > FINGERPRINT_TITLE_BYTES) {
        m->full = true;
        return;
    }
    memcpy(m->out->text + m->out->len, s.data, s.len);
    m->out->len += s.len;
    m->cost += cost;
}

// A list of variable parts, separated by commas, semicolons or blanks, is one of them: its length is variable too.
static void put_mask(struct masker *m, enum mask kind, size_t used) {
    m->before = (unsigned char)m->in.data[m->at + used - 1];
    m->at += used;
    if (m->listing) {
        m->out->len = m->listed.len;
        m->cost = m->listed.cost;
        return;
    }
    put(m, (struct str){&(char){(char)kind}, 1}, MASK_COST);
    m->listing = true;
    m->listed.len = m->out->len;
    m->listed.cost = m->cost;
}

static void put_blank(struct masker *m) {
    while (m->at < m->in.len && is_blank((unsigned char)m->in.data[m->at])) m->at++;
    m->before = ' ';
    if (m->out->len && m->at < m->in.len) put(m, STR_LIT(" "), 1);
}

// The character at the start of s, which is no ASCII; U+FFFD when it is broken.
static struct str wide_character(struct str s, size_t *ret_used) {
    for (size_t n = 2; n <= 4 && n <= s.len; n++) {
        if (!text_is_utf8(str_head(s, n))) continue;
        *ret_used = n;
        return str_head(s, n);
    }
    *ret_used = 1;
    return STR_LIT("\xef\xbf\xbd");
}

static void put_plain(struct masker *m, struct str s) {
    size_t used = 1;
    struct str c = byte_at(s, 0) < 0x80 ? str_head(s, 1) : wide_character(s, &used);
    if (c.data[0] != ',' && c.data[0] != ';') m->listing = false;
    m->before = (unsigned char)c.data[0];
    m->at += used;
    put(m, c, c.len);
}

// At a letter or a digit.
static size_t recognise_word(struct masker *m, struct str s, enum mask *ret_kind) {
    bool starts = !is_word(m->before), digit = is_digit(byte_at(s, 0));
    if (!starts && !digit) return 0;
    size_t n;
    if (starts) {
        *ret_kind = MASK_ADDR;
        if ((n = address_length(m, s))) return n;
        if (is_hex(byte_at(s, 0)) && ((n = mac_length(s)) || (!uuid_length(s) && (n = ip6_length(s))))) return n;
        if (m->before == '@' && (n = object_hash_length(s))) return n;
        *ret_kind = MASK_ID;
        if ((n = fingerprint_id_length(s))) return n;
        *ret_kind = MASK_TIME;
        if ((digit && (n = iso_date_length(s))) || (n = named_date_length(s))) return n;
        *ret_kind = MASK_PATH;
        if (!digit && (n = path_length(s))) return n;
    }
    return digit ? number_length(s, !starts, ret_kind) : 0;
}

static size_t recognise(struct masker *m, struct str s, enum mask *ret_kind) {
    unsigned char c = byte_at(s, 0);
    if (is_alnum(c)) return recognise_word(m, s, ret_kind);
    switch (c) {
    case '"':
    case '\'':
    case '`': *ret_kind = MASK_STR; return quoted_length(m, s);
    case '{': *ret_kind = MASK_STR; return literal_length(s);
    case ':': *ret_kind = MASK_ADDR; return is_word(m->before) || byte_at(s, 1) != ':' ? 0 : ip6_length(s);
    case '-':
    case '+': return !is_word(m->before) && is_digit(byte_at(s, 1)) ? 1 + number_length(str_from(s, 1), false, ret_kind) : 0;
    case '/':
    case '.':
    case '~':
    case '\\': *ret_kind = MASK_PATH; return is_word(m->before) ? 0 : path_length(s);
    default: return 0;
    }
}

static bool ends_with(struct str s, const char *tail) {
    size_t n = strlen(tail);
    return s.len >= n && memcmp(s.data + s.len - n, tail, n) == 0;
}

void fingerprint_shape(struct str message, struct shape *out) {
    struct str in = message.len > FINGERPRINT_BYTES ? str_head(message, FINGERPRINT_BYTES) : message;
    bool cut = in.len < message.len;
    while (in.len && is_blank((unsigned char)in.data[in.len - 1])) in.len--;
    cut = cut || ends_with(in, "...") || ends_with(in, "[...]") || ends_with(in, "\xe2\x80\xa6");
    struct masker m = {.in = in, .before = ' ', .cut = cut, .out = out};
    out->len = 0;
    while (m.at < in.len && !m.full) {
        struct str rest = str_from(in, m.at);
        enum mask kind = MASK_N;
        size_t used = recognise(&m, rest, &kind);
        if (used) put_mask(&m, kind, used);
        else if (is_blank(byte_at(rest, 0))) put_blank(&m);
        else put_plain(&m, rest);
    }
    if (out->len && out->text[out->len - 1] == ' ') out->len--;
}
