// SPDX-License-Identifier: Apache-2.0
// The corpus is a folder of files; a file has several appearances of one failure, separated by "=====": type, message (\n, \\ and \" as in C),
// stack. All of a file are one group, and no two files are.
#include <dirent.h>

#include "core/base/text.h"
#include "dlq/fingerprint.h"
#include "tests/support/support.h"

#define CORPUS "tests/unit/dlq/corpus"
#define FILES_MAX 200
#define APPEARANCES_MAX 8

struct appearance {
    struct str type, stack;
    char *message;
};
struct failure {
    char *name, *text;
    struct appearance seen[APPEARANCES_MAX];
    size_t count;
};

static struct failure corpus[FILES_MAX];
static size_t corpus_count;

// ---- chance ---------------------------------------------------------------------------------------------------------------

static uint64_t seed = 6;

static uint32_t chance(uint32_t below) { // splitmix64
    uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) % below);
}

static void add_chars(struct buf *out, size_t count, const char *from) {
    for (size_t i = 0; i < count; i++) assert_int_equal(buf_append(out, (struct str){from + chance((uint32_t)strlen(from)), 1}), 0);
}

// ---- the corpus -----------------------------------------------------------------------------------------------------------

static char *read_file(const char *path) {
    cleanup_file FILE *f = fopen(path, "re");
    if (!f) fail_msg("cannot open %s", path);
    struct buf all;
    buf_init(&all, 1 << 20);
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;) assert_int_equal(buf_append(&all, (struct str){chunk, n}), 0);
    return buf_take(&all, &(size_t){0});
}

static char *unescaped(struct str s) {
    char *out = mem_strndup(s);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        bool escape = s.data[i] == '\\' && i + 1 < s.len;
        if (escape) i++;
        out[n++] = escape && s.data[i] == 'n' ? '\n' : s.data[i];
    }
    out[n] = '\0';
    return out;
}

static struct str take_line(char **at, const char *label) {
    char *end = strchr(*at, '\n');
    if (!end || strncmp(*at, label, strlen(label)) != 0) fail_msg("no %s in: %.40s", label, *at);
    struct str line = {*at + strlen(label), (size_t)(end - *at) - strlen(label)};
    *at = end + 1;
    return line;
}

static void read_failure(struct failure *f, const char *name) {
    cleanup_free char *path = mem_printf(CORPUS "/%s", name);
    f->name = mem_strndup((struct str){name, strlen(name) - strlen(".txt")});
    f->text = read_file(path);
    for (char *at = f->text; at;) {
        assert_true(f->count < APPEARANCES_MAX);
        struct appearance *a = &f->seen[f->count++];
        a->type = take_line(&at, "type: ");
        a->message = unescaped(take_line(&at, "message: "));
        take_line(&at, "stack:");
        char *end = strstr(at, "=====\n");
        a->stack = (struct str){at, end ? (size_t)(end - at) : strlen(at)};
        at = end ? end + strlen("=====\n") : NULL;
    }
}

static int read_corpus(void **state) {
    (void)state;
    DIR *dir = opendir(CORPUS);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        assert_true(corpus_count < FILES_MAX);
        read_failure(&corpus[corpus_count++], entry->d_name);
    }
    closedir(dir);
    return 0;
}

static int free_corpus(void **state) {
    (void)state;
    for (size_t i = 0; i < corpus_count; i++) {
        for (size_t k = 0; k < corpus[i].count; k++) free(corpus[i].seen[k].message);
        free(corpus[i].name);
        free(corpus[i].text);
    }
    return 0;
}

static uint64_t value_of(const struct appearance *a) {
    return fingerprint_of(STR_LIT("orders"), a->type, str_of(a->message), a->stack);
}

static const struct failure *failure_of(const char *name) {
    for (size_t i = 0; i < corpus_count; i++)
        if (strcmp(corpus[i].name, name) == 0) return &corpus[i];
    fail_msg("no %s in the corpus", name);
    return NULL;
}

static void each_file_of_the_corpus_is_one_group(void **state) {
    (void)state;
    assert_true(corpus_count >= 60);
    for (size_t i = 0; i < corpus_count; i++) {
        const struct failure *f = &corpus[i];
        assert_true(f->count >= 2);
        for (size_t k = 1; k < f->count; k++)
            if (value_of(&f->seen[k]) != value_of(&f->seen[0])) fail_msg("%s: appearance %zu is in a group of its own", f->name, k + 1);
        for (size_t j = 0; j < i; j++)
            if (value_of(&corpus[j].seen[0]) == value_of(&f->seen[0])) fail_msg("%s and %s are one group", corpus[j].name, f->name);
    }
}

// ---- values that must not change -------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    uint64_t value;
} golden[] = {
    {"go-concurrent-map", UINT64_C(0x5db4a755319191aa)},
    {"go-deadlock", UINT64_C(0x32c0822a751480d5)},
    {"go-debug-stack", UINT64_C(0xa59bf280b19443a1)},
    {"go-error-no-stack", UINT64_C(0xe67225d46082ad99)},
    {"go-error-no-stack-other", UINT64_C(0xa05702734473d907)},
    {"go-index", UINT64_C(0x82730f141a277432)},
    {"go-module", UINT64_C(0x288dec7475d87be6)},
    {"go-nil-map", UINT64_C(0x90c78928b09f66bf)},
    {"go-nil-pointer", UINT64_C(0x9c6a30a769c08813)},
    {"go-repanic", UINT64_C(0xae0d09fc89a0ceb7)},
    {"java-anonymous-class", UINT64_C(0x9a355ddb04945371)},
    {"java-cause-only-in-library", UINT64_C(0xa29939e3acb02182)},
    {"java-kotlin", UINT64_C(0x4c7f4321072e4b53)},
    {"java-lambda", UINT64_C(0xbc1d8ac98f12c1ad)},
    {"java-null-pointer", UINT64_C(0x5a9c8dfc53113a47)},
    {"java-number-format", UINT64_C(0x6671e57ce58227b3)},
    {"java-object-in-message", UINT64_C(0x9dae967171725529)},
    {"java-only-library", UINT64_C(0xdf402465233890f7)},
    {"java-proxy", UINT64_C(0x92935e1069c039e0)},
    {"java-root-cause", UINT64_C(0xc94ee5174c1e78df)},
    {"java-suppressed", UINT64_C(0x95d2dc427dcdd3a7)},
    {"java-thread", UINT64_C(0x2f8ad0a5e6aa6067)},
    {"node-anonymous", UINT64_C(0x132756370b044b8a)},
    {"node-async-frames", UINT64_C(0xe75f5c561eb7c6ed)},
    {"node-cause", UINT64_C(0xabff36549052fa6e)},
    {"node-class", UINT64_C(0xc4775be12864dbcd)},
    {"node-duplicate-key", UINT64_C(0xfa2dc298b01a2901)},
    {"node-eval", UINT64_C(0x682327cbea9f343e)},
    {"node-json", UINT64_C(0x4c1dda4f5b82ac4a)},
    {"node-node-modules", UINT64_C(0xb2bd4e3a7b9889c3)},
    {"node-only-library", UINT64_C(0xc8ef6f2e0e98f5f2)},
    {"node-recursion", UINT64_C(0xaa68245a2d786d73)},
    {"node-reset-in-library", UINT64_C(0x99c7a6f3d5ce677f)},
    {"node-type-error", UINT64_C(0xa1aefdf52c60f720)},
    {"node-validation", UINT64_C(0x922d2e3447b325f2)},
    {"node-webpack", UINT64_C(0x958f5c113c53e027)},
    {"node-windows", UINT64_C(0x4901ccae5dcc00ab)},
    {"php-anonymous-class", UINT64_C(0xbaa67673d1978e95)},
    {"php-closure", UINT64_C(0x84d3ecb0bfa441ce)},
    {"php-eval", UINT64_C(0x328c5fee32ef39a6)},
    {"php-main-only", UINT64_C(0x9e23e2831957d36a)},
    {"php-memory", UINT64_C(0x6c413beaddb2b583)},
    {"php-next", UINT64_C(0xdf1498eca964557e)},
    {"php-trace-as-string", UINT64_C(0x8d485b86a1b06f18)},
    {"php-uncaught", UINT64_C(0xe18ab412b7205905)},
    {"php-vendor", UINT64_C(0xb8487bd9942bebd0)},
    {"python-after-logs", UINT64_C(0x4715aed9e5b17d0c)},
    {"python-boto-client-error", UINT64_C(0x6938fddd6a2d6c05)},
    {"python-chained-from", UINT64_C(0xb1e197773a67a2bb)},
    {"python-deployed-folder", UINT64_C(0xf74f0c60a4d48921)},
    {"python-exception-group", UINT64_C(0x1e2792a338cff33b)},
    {"python-json-in-library", UINT64_C(0xd4a224d199b8e1aa)},
    {"python-key-error", UINT64_C(0xda36a04f6bc8e9f5)},
    {"python-key-error-elsewhere", UINT64_C(0x68e4328f2197d2ef)},
    {"python-key-error-other-file", UINT64_C(0xc82151187674d80b)},
    {"python-lambda", UINT64_C(0x909fb4d5d0c74f0b)},
    {"python-module-level", UINT64_C(0xaf7962a8136d857c)},
    {"python-no-stack", UINT64_C(0x2bc737cd65a8b40b)},
    {"python-only-library", UINT64_C(0xa40e93cd0a9f2112)},
    {"python-recursion", UINT64_C(0x9f172527a9a79c97)},
    {"python-release-folder", UINT64_C(0x80d2ab3ddcd3aab8)},
    {"python-requests-timeout", UINT64_C(0xbbcb7faac301d027)},
    {"python-sqlalchemy", UINT64_C(0xe3a53545d2c4d0d9)},
    {"python-syntax-error", UINT64_C(0x03597ecf213b812d)},
    {"python-temporary-folder", UINT64_C(0x36edbde62e4a6809)},
    {"python-unicode", UINT64_C(0xe016a9830a0bf616)},
    {"python-value-error", UINT64_C(0x8c65a28c4295cad6)},
    {"python-worker-folder", UINT64_C(0x5e6b3c40bc53315a)},
    {"text-dotnet", UINT64_C(0xf0e823d0fb3ba3e8)},
    {"text-ruby", UINT64_C(0x1a6484eb8d429f76)},
    {"text-rust", UINT64_C(0x17d5b6d1962f5327)},
    {"text-shell", UINT64_C(0x905ec4e00009caaf)},
    {"text-shell-other", UINT64_C(0x0cdcf54d60a2ead2)},
    {"text-signal", UINT64_C(0x335159fe102fa9bc)},
};

static void stored_values_keep_their_meaning(void **state) {
    (void)state;
    for (size_t i = 0; i < array_len(golden); i++) {
        uint64_t value = value_of(&failure_of(golden[i].name)->seen[0]);
        if (value != golden[i].value)
            fail_msg("%s: %016llx; another rule needs another FINGERPRINT_VERSION", golden[i].name, (unsigned long long)value);
    }
}

// ---- variable parts -------------------------------------------------------------------------------------------------------

static bool follows(struct str s, size_t i, const char *what) {
    size_t n = strlen(what);
    return i >= n && memcmp(s.data + i - n, what, n) == 0;
}

// The stack with other line numbers, blanks at the ends of lines and, every second time, CRLF.
static void add_mutated_stack(struct buf *out, struct str stack) {
    bool crlf = chance(2);
    for (size_t i = 0; i < stack.len; i++) {
        size_t n = strspn(stack.data + i, "0123456789");
        bool place = follows(stack, i, ":") || follows(stack, i, "line ") || (follows(stack, i, "(") && stack.data[i + n] == ')');
        if (n && place) {
            assert_int_equal(buf_printf(out, "%u", chance(chance(2) ? 9 : 99999)), 0);
            i += n - 1;
            continue;
        }
        if (stack.data[i] == '\n') add_chars(out, chance(3), " \t");
        if (stack.data[i] == '\n' && crlf) assert_int_equal(buf_append(out, STR_LIT("\r")), 0);
        assert_int_equal(buf_append(out, (struct str){stack.data + i, 1}), 0);
    }
}

static void places_and_line_ends_do_not_count(void **state) {
    (void)state;
    for (size_t i = 0; i < corpus_count; i++) {
        for (int again = 0; again < 50; again++) {
            struct appearance a = corpus[i].seen[0];
            struct buf stack;
            buf_init(&stack, 1 << 20);
            add_mutated_stack(&stack, a.stack);
            a.stack = buf_str(&stack);
            if (value_of(&a) != value_of(&corpus[i].seen[0])) fail_msg("%s is another group as:\n%.*s", corpus[i].name, STR_ARG(a.stack));
            buf_done(&stack);
        }
    }
}

#define DIGITS "0123456789"
#define HEX "0123456789abcdef"
#define WORD "abcdefghijklmnopqrstuvwxyz ABCDEF 0123456789 .,:/-{}[]"

static void add_uuid(struct buf *out) {
    static const size_t groups[] = {8, 4, 4, 4, 12};
    for (size_t i = 0; i < array_len(groups); i++) {
        if (i) assert_int_equal(buf_append(out, STR_LIT("-")), 0);
        add_chars(out, groups[i], HEX);
    }
}

static void add_date(struct buf *out) {
    static const char *const names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static const char *const days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
    unsigned year = 1970 + chance(130), month = chance(12), day = 1 + chance(28), hour = chance(24), minute = chance(60), second = chance(60);
    const char *name = names[month], *of_week = days[chance(7)];
    switch (chance(9)) {
    case 0: assert_int_equal(buf_printf(out, "%u-%02u-%02u", year, month + 1, day), 0); break;
    case 1: assert_int_equal(buf_printf(out, "%u-%02u-%02dT%02u:%02u:%02uZ", year, month + 1, day, hour, minute, second), 0); break;
    case 2: assert_int_equal(buf_printf(out, "%u-%02u-%02d %02u:%02u:%02u.%06u+0%u:00", year, month + 1, day, hour, minute, second, chance(1000000), chance(9)), 0); break;
    case 3: assert_int_equal(buf_printf(out, "%s %s %2u %02u:%02u:%02u %u", of_week, name, day, hour, minute, second, year), 0); break;
    case 4: assert_int_equal(buf_printf(out, "%s, %02u %s %u %02u:%02u:%02u GMT", of_week, day, name, year, hour, minute, second), 0); break;
    case 5: assert_int_equal(buf_printf(out, "%s %u", name, day), 0); break;
    case 6: assert_int_equal(buf_printf(out, "%02u/%s/%u:%02u:%02u:%02u +0000", day, name, year, hour, minute, second), 0); break;
    case 7: assert_int_equal(buf_printf(out, "%02u:%02u:%02u.%03u", hour, minute, second, chance(1000)), 0); break;
    default: assert_int_equal(buf_printf(out, "%u/%02u/%02u %02u:%02u:%02u", year, month + 1, day, hour, minute, second), 0); break;
    }
}

static void add_number(struct buf *out) {
    static const char *const forms[] = {"%u", "-%u", "%u.5", "1e%u", "%u,000", "%u%%", "0x%x", "%u.5e-7", "%ums", "%us", "1h%um", "%u.25s", "%u\xc2\xb5s", "%uMB"};
    unsigned n = chance(chance(2) ? 20 : 2000000000);
    size_t form = chance(array_len(forms));
    if (strstr(forms[form], "%%")) form = 0; // the sign would stay
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    assert_int_equal(buf_printf(out, forms[form], n), 0);
#pragma GCC diagnostic pop
}

static void add_quoted(struct buf *out) {
    const char *quote = (const char *const[]){"'", "\"", "`"}[chance(3)];
    assert_int_equal(buf_append(out, str_of(quote)), 0);
    add_chars(out, chance(60), WORD);
    assert_int_equal(buf_append(out, str_of(quote)), 0);
}

static void add_address(struct buf *out) {
    unsigned a = chance(256), b = chance(256), port = 1 + chance(65535);
    switch (chance(8)) {
    case 0: assert_int_equal(buf_printf(out, "10.%u.%u.%u", a, b, chance(256)), 0); break;
    case 1: assert_int_equal(buf_printf(out, "10.%u.%u.1:%u", a, b, port), 0); break;
    case 2: assert_int_equal(buf_printf(out, "2001:db8:%x::%x", port, a), 0); break;
    case 3: assert_int_equal(buf_printf(out, "https://shop-%u.example.com/orders/%x?id=%u", a, port, b), 0); break;
    case 4: assert_int_equal(buf_printf(out, "ann.%u+x@mail-%u.example.com", a, b), 0); break;
    case 5: assert_int_equal(buf_printf(out, "0x7f%010x", a * port), 0); break;
    case 6: assert_int_equal(buf_printf(out, "amqp://u:p@[::%x]:%u/", a, port), 0); break;
    default: assert_int_equal(buf_printf(out, "00:1b:44:%02x:%02x:b7", a, b), 0); break;
    }
}

static void add_path(struct buf *out) {
    unsigned n = chance(1000);
    switch (chance(5)) {
    case 0: assert_int_equal(buf_printf(out, "/var/lib/weir/%x/x.db", n), 0); break;
    case 1: assert_int_equal(buf_printf(out, "/tmp/t%u", n), 0); break;
    case 2: assert_int_equal(buf_printf(out, "C:\\Users\\u%u\\orders.csv", n), 0); break;
    case 3: assert_int_equal(buf_printf(out, "./out/%u", n), 0); break;
    default: assert_int_equal(buf_printf(out, "~/orders-%u.csv", n), 0); break;
    }
}

static void add_id(struct buf *out) {
    switch (chance(4)) {
    case 0: add_uuid(out); break;
    case 1:
        assert_int_equal(buf_append(out, STR_LIT("01")), 0);
        add_chars(out, 24, "0123456789ABCDEFGHJKMNPQRSTVWXYZ");
        break;
    case 2: add_chars(out, 24, HEX); break;
    default:
        assert_int_equal(buf_append(out, STR_LIT("a1")), 0);
        add_chars(out, 6 + chance(50), HEX);
        break;
    }
}

static void add_json(struct buf *out) {
    assert_int_equal(buf_printf(out, "{\"id\": %u, \"tags\": [\"}\", {\"x'\": null}], \"name\": \"", chance(1000)), 0);
    add_chars(out, chance(30), "abc '\x20{}[]");
    assert_int_equal(buf_append(out, STR_LIT("\"}")), 0);
}

static void add_list(struct buf *out) {
    uint32_t count = 1 + chance(5);
    for (uint32_t i = 0; i < count; i++) {
        if (i) assert_int_equal(buf_append(out, STR_LIT(", ")), 0);
        add_number(out);
    }
}

// Every { } is a variable part of any kind: the value does not tell the kinds apart.
static void add_message(struct buf *out, const char *pattern) {
    static void (*const parts[])(struct buf *) = {add_number, add_id, add_quoted, add_address, add_date, add_path, add_json, add_list};
    for (; *pattern; pattern++) {
        if (*pattern == '#') parts[chance(array_len(parts))](out);
        else assert_int_equal(buf_append(out, (struct str){pattern, 1}), 0);
    }
}

static void variable_parts_of_a_message_do_not_count(void **state) {
    (void)state;
    static const char *const patterns[] = {"order # of # is not known", "#", "cannot open #: no such file", "can't charge (#) now", "failed with <#>; it isn't #!",
        "Zeitüberschreitung nach # für Auftrag #", "缺少字段 # 的值", "a=# b=# c=#\nDETAIL: # and then"};
    for (size_t p = 0; p < array_len(patterns); p++) {
        uint64_t first = 0;
        for (int again = 0; again < 3000; again++) {
            struct buf message, title;
            buf_init(&message, 1 << 16);
            buf_init(&title, FINGERPRINT_TITLE_BYTES);
            add_message(&message, patterns[p]);
            uint64_t value = fingerprint_of(STR_LIT("f"), STR_LIT("E"), buf_str(&message), STR_NONE);
            if (again == 0) first = value;
            fingerprint_mask(buf_str(&message), &title);
            if (value != first) fail_msg("another group: %.*s\nas: %.*s", STR_ARG(buf_str(&message)), STR_ARG(buf_str(&title)));
            buf_done(&message);
            buf_done(&title);
        }
    }
}

static char *title_of(struct str message) {
    struct buf title;
    buf_init(&title, FINGERPRINT_TITLE_BYTES);
    fingerprint_mask(message, &title);
    assert_true(text_is_utf8(buf_str(&title)));
    return buf_take(&title, &(size_t){0});
}

static void a_title_says_what_was_masked(void **state) {
    (void)state;
    static const struct {
        const char *message, *title;
    } rows[] = {
        {"", ""},
        {"'currency'", "<str>"},
        {"can't open \"a b\": it isn't there, users' own", "can't open <str>: it isn't there, users' own"},
        {"say \"a \\\" b\" or 'it\\'s' or b'x' or `y' now", "say <str> or <str> or b<str> or <str> now"},
        {"not closed 'here", "not closed 'here"},
        {"cut off: '{\"a\": 1, \"b...", "cut off: <str>"},
        {"-5 of 1e9 and +3.14 or 1,234,567.89", "<n> of <n> and <n> or <n>"},
        {"user_12 worker-3 utf-8 v1.2.3", "user_<n> worker-<n> utf-<n> v<n>"},
        {"ids [1, 2, 3] and (4 5)", "ids [<n>] and (<n>)"},
        {"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "<id>"},
        {"F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6!", "<id>!"},
        {"order-f81d4fae-7dec-11d0-a765-00a0c91e6bf6x", "order-<id>-<n>-<n>-a<n>-<n>"},
        {"01ARZ3NDEKTSV4RRFFQ69G5FAV", "<id>"},
        {"ObjectId 507f1f77bcf86cd799439011", "ObjectId <id>"},
        {"deadbeef deadbee1 cafe", "deadbeef <id> cafe"},
        {"object at 0x7f3a12345678, byte 0xff", "object at <addr>, byte <n>"},
        {"com.acme.Order@6d06d69c is gone", "com.acme.Order@<addr> is gone"},
        {"mail to bob.b@acme.com.", "mail to <addr>."},
        {"GET https://acme.com/a?b=1, then", "GET <addr>, then"},
        {"10.0.0.1:5432 refused", "<addr> refused"},
        {"to [fe80::1]:80 or http://[::1]:80/x.", "to [<addr>]:<n> or <addr>."},
        {"std::vector abc::def", "std::vector abc::def"},
        {"at 2026-01-02T03:04:05.678+01:00 late", "at <time> late"},
        {"at 2026-01-02", "at <time>"},
        {"at 2026-01-02 ", "at <time>"},
        {"Mon Jan  2 15:04:05 2006: x", "<time>: x"},
        {"You may go in March", "You may go in March"},
        {"after 1m30.5s", "after <time>"},
        {"after 12\xc2\xb5s", "after <time>"},
        {"open /var/lib/x.db: no", "open <path>: no"},
        {"open C:\\Users\\bob\\x.txt or ~/x and/or n/a", "open <path> or <path> and/or n/a"},
        {"bad {\"a\": {\"b\": \"}\"}} here {}", "bad <str> here {}"},
        {"bad {'a': \"it's\"} here", "bad <str> here"},
        {"a\tb\r\n\x01 c  ", "a b c"},
        {"Größe 5 überschritten – 数量 7", "Größe <n> überschritten – 数量 <n>"},
        {"bad \xff\xc3 byte \xe2\x82", "bad \xef\xbf\xbd\xef\xbf\xbd byte \xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < array_len(rows); i++) {
        cleanup_free char *title = title_of(str_of(rows[i].message));
        assert_string_equal(title, rows[i].title);
    }
}

// Where the title is cut does not depend on how long the masks are that it has.
static void a_long_message_is_cut_at_the_same_word(void **state) {
    (void)state;
    struct buf numbers, paths;
    buf_init(&numbers, FINGERPRINT_BYTES);
    buf_init(&paths, FINGERPRINT_BYTES);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(buf_printf(&numbers, "%c %d ", 'g' + i % 20, i), 0);
        assert_int_equal(buf_printf(&paths, "%c /x/%d ", 'g' + i % 20, i), 0);
    }
    assert_int_equal(fingerprint_of(STR_NONE, STR_NONE, buf_str(&numbers), STR_NONE), fingerprint_of(STR_NONE, STR_NONE, buf_str(&paths), STR_NONE));
    cleanup_free char *title = title_of(buf_str(&paths));
    assert_int_equal(strncmp(title, "g <path> h <path> i", 19), 0);
    buf_done(&numbers);
    buf_done(&paths);
}

static void a_title_has_an_end(void **state) {
    (void)state;
    struct buf message;
    buf_init(&message, 4 * FINGERPRINT_BYTES);
    for (size_t i = 0; i < FINGERPRINT_BYTES; i++) assert_int_equal(buf_append(&message, STR_LIT("ü")), 0);
    cleanup_free char *umlauts = title_of(buf_str(&message));
    assert_int_equal(strlen(umlauts), FINGERPRINT_TITLE_BYTES);
    message.data[message.start] = 'u'; // now a character lies across the end
    message.data[message.start + 1] = 'u';
    message.start++;
    cleanup_free char *uneven = title_of(buf_str(&message));
    assert_int_equal(strlen(uneven), FINGERPRINT_TITLE_BYTES - 1);
    buf_clear(&message);
    assert_int_equal(buf_append(&message, STR_LIT("bad \"")), 0);
    for (size_t i = 0; i < 2 * FINGERPRINT_BYTES; i++) assert_int_equal(buf_append(&message, STR_LIT("x")), 0);
    cleanup_free char *quoted = title_of(buf_str(&message));
    assert_string_equal(quoted, "bad <str>");
    buf_done(&message);
}

// ---- what must count ------------------------------------------------------------------------------------------------------

static uint64_t of(const char *function, const char *type, const char *message, const char *stack) {
    return fingerprint_of(str_of(function), str_of(type), str_of(message), str_of(stack));
}

static void every_part_counts(void **state) {
    (void)state;
    static const char stack[] = "  File \"a.py\", line 1, in f\n  File \"b.py\", line 2, in g\n";
    const uint64_t values[] = {
        of("orders", "KeyError", "no x", stack), of("refunds", "KeyError", "no x", stack), of("orders", "ValueError", "no x", stack),
        of("orders", "KeyError", "no y", stack), of("orders", "KeyError", "no x", ""), of("ordersKey", "Error", "no x", stack),
        of("orders", "KeyError", "no x", "  File \"a.py\", line 1, in f\n  File \"b.py\", line 2, in h\n"),
        of("orders", "KeyError", "no x", "  File \"a.py\", line 1, in f\n  File \"c.py\", line 2, in g\n"),
        of("orders", "KeyError", "no x", "  File \"b.py\", line 1, in g\n  File \"a.py\", line 2, in f\n"),
        of("orders", "KeyError", "no x", "  File \"v1/a.py\", line 1, in f\n"), of("orders", "KeyError", "no x", "  File \"v2/a.py\", line 1, in f\n"),
        of("orders", "KeyError", "no x", "    at f1 (a.js:1:1)\n"), of("orders", "KeyError", "no x", "    at f2 (a.js:1:1)\n"),
        of("orders", "KeyError", "no x", "    at f2 (a2.js:1:1)\n"), of("orders", "KeyError", "no x", "    at a2.js:1:1\n"),
        of("", "", "", ""),
    };
    for (size_t i = 0; i < array_len(values); i++) {
        assert_true(values[i] != 0);
        for (size_t k = 0; k < i; k++)
            if (values[i] == values[k]) fail_msg("%zu and %zu are one group", k, i);
    }
}

static void only_the_innermost_frames_count(void **state) {
    (void)state;
    static const char three[] = "  File \"c.py\", line 1, in c\n  File \"b.py\", line 1, in b\n  File \"a.py\", line 1, in a\n";
    cleanup_free char *four = mem_printf("Traceback (most recent call last):\n  File \"d.py\", line 1, in d\n%s", three);
    assert_int_equal(of("f", "E", "m", four), of("f", "E", "m", three));
    static const char js[] = "at a (a.js:1:1)\nat b (b.js:1:1)\nat c (c.js:1:1)\n";
    cleanup_free char *outer = mem_printf("%sat d (d.js:1:1)\n", js), *inner = mem_printf("at d (d.js:1:1)\n%s", js);
    assert_int_equal(of("f", "E", "m", outer), of("f", "E", "m", js));
    assert_int_not_equal(of("f", "E", "m", inner), of("f", "E", "m", js));
}

// Each pair is one failure, seen in two ways that the rules call the same.
static void what_stands_around_the_frames_does_not_count(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        // libraries, and their folders
        {"at f (a.js:1:1)\nat x (/n/node_modules/q/x.js:1:1)\nat g (b.js:1:1)", "at f (a.js:1:1)\nat g (b.js:1:1)\nat run (node:internal/q:1:1)"},
        {"  File \"/usr/lib/python3.11/json/decoder.py\", line 1, in decode", "  File \"/home/x/.pyenv/versions/3.13.1/lib/python3.13/json/decoder.py\", line 9, in decode"},
        // absolute paths
        {"  File \"/srv/a/app/o.py\", line 1, in f", "  File \"/opt/b/c/app/o.py\", line 1, in f"},
        {"  File \"/srv/worker-1/o.py\", line 1, in f", "  File \"/srv/worker-22/o.py\", line 1, in f"},
        {"  File \"/tmp/abcdef/o.py\", line 1, in f", "  File \"/var/tmp/xyz_1/o.py\", line 1, in f"},
        {"at f (file:///srv/app/o.mjs?x=1:1:1)", "at f (file:///opt/app/o.mjs?x=2:2:2)"},
        // recursion
        {"at f (a.js:1:1)\nat g (b.js:1:1)", "at f (a.js:1:1)\nat f (a.js:2:1)\nat f (a.js:2:1)\nat f (a.js:2:1)\nat g (b.js:1:1)"},
        {"  File \"a.py\", line 1, in g\n  File \"a.py\", line 1, in f", "  File \"a.py\", line 1, in g\n  File \"a.py\", line 1, in f\n  File \"a.py\", line 2, in f"},
        // the exception that counts
        {"\tat a.B.c(B.java:1)\nCaused by: x\n\tat a.D.e(D.java:1)", "\tat a.X.y(X.java:1)\nCaused by: x\n\tat a.Y.z(X.java:1)\nCaused by: x\n\tat a.D.e(D.java:1)"},
        {"\tat a.B.c(B.java:1)\nCaused by: x\n\tat org.postgresql.P.q(P.java:1)", "\tat a.B.c(B.java:1)"},
        {"Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nE\n\nDuring handling of the above exception, another exception occurred:\n\n"
         "Traceback (most recent call last):\n  File \"b.py\", line 1, in g\n", "Traceback (most recent call last):\n  File \"b.py\", line 1, in g\n"},
        {"goroutine 1 [running]:\nmain.f(0x1)\n\t/a/b.go:1 +0x1\ngoroutine 2 [select]:\nmain.g()\n\t/a/b.go:2 +0x1", "goroutine 7 [running]:\nmain.f(0x2, 0x3)\n\t/a/b.go:7"},
        {"goroutine 1 [running]:\nmain.f(0x1)\n\t/a/b.go:1 +0x1\ncreated by main.g(0x1)\n\t/a/b.go:2 +0x1", "main.f()\n\t/a/b.go:7"},
        {"\tat a.B.c(B.java:1)\n\tSuppressed: x\n\t\tat a.C.d(C.java:1)\n\tCaused by: x\n\t\tat a.C.e(C.java:1)\nCaused by: x\n\tat a.D.e(D.java:1)", "\tat a.D.e(D.java:1)"},
        {"  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1, in f\n  +-+---------------- 1 ----------------\n"
         "    |   File \"a.py\", line 1, in g\n    +---------------- 2 ----------------\n    | Traceback (most recent call last):\n    |   File \"a.py\", line 1, in h\n"
         "    +------------------------------------\n\nDuring handling of the above exception, another exception occurred:\n\n"
         "Traceback (most recent call last):\n  File \"b.py\", line 1, in g\n", "  File \"b.py\", line 1, in g\n"},
        // names that are made by compilers
        {"\tat a.B$$Lambda$14/0x0000000800c03000.apply(Unknown Source)", "\tat a.B$$Lambda/0x00007f1a.apply(Unknown Source)"},
        {"\tat a.B.lambda$run$0(B.java:1)", "\tat a.B.lambda$run$12(B.java:1)"},
        {"\tat java.base/java.util.L.get(L.java:1)", "\tat java.util.L.get(L.java:2)"},
        {"#0 /s/a.php(1): {closure:/s/a.php:2}()", "#0 /t/s/a.php(1): {closure:/t/s/a.php:3}(4)"},
    };
    for (size_t i = 0; i < array_len(pairs); i++)
        if (of("f", "E", "m", pairs[i][0]) != of("f", "E", "m", pairs[i][1])) fail_msg("two groups:\n%s\n--\n%s", pairs[i][0], pairs[i][1]);
}

static void no_more_than_the_cap_is_read(void **state) {
    (void)state;
    struct buf text;
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < FINGERPRINT_BYTES / 8; i++) assert_int_equal(buf_append(&text, STR_LIT("lib line")), 0);
    assert_int_equal(buf_append(&text, STR_LIT("\nat f (a.js:1:1)\n")), 0);
    assert_int_equal(fingerprint_of(STR_NONE, STR_NONE, STR_NONE, buf_str(&text)), of("", "", "", "at f (a.js:1:1)\n")); // the end of the stack counts
    buf_done(&text);
}

// ---- any bytes ------------------------------------------------------------------------------------------------------------

// Pieces of the corpus, of what the rules look for, and of nothing.
static void add_noise(struct buf *out) {
    static const char *const tokens[] = {"'", "\"", "`", "{\"", "::", "0x", "@", "://", "/", "at ", "File \"", "\", line 1, in ", "#0 ", "goroutine 1 [", "Caused by: ", "\n", "\n\t",
        "Suppressed: ", ".go:1", "| ", "+-", "---- 2", "[cause]: ", "$$Lambda", "{closure:", "2026-01-02", "Jan 2", " (", "):", " {", "...", "eval at ", " in x.php:1", "\xc2\xb5s", "1e-5", "12:34"};
    switch (chance(4)) {
    case 0: {
        const struct appearance *a = &corpus[chance((uint32_t)corpus_count)].seen[0];
        size_t from = a->stack.len ? chance((uint32_t)a->stack.len) : 0;
        assert_int_equal(buf_append(out, (struct str){a->stack.data + from, chance((uint32_t)(a->stack.len - from) + 1)}), 0);
        break;
    }
    case 1:
    case 2: assert_int_equal(buf_append(out, str_of(tokens[chance(array_len(tokens))])), 0); break;
    default:
        for (uint32_t n = chance(12); n > 0; n--) assert_int_equal(buf_append(out, (struct str){&(char){(char)chance(256)}, 1}), 0);
        break;
    }
}

// In memory of its own, so that a sanitizer sees a read past the end.
static struct str exact_copy(const struct buf *b) {
    char *copy = malloc(buf_len(b) ? buf_len(b) : 1);
    if (buf_len(b)) memcpy(copy, b->data + b->start, buf_len(b));
    return (struct str){copy, buf_len(b)};
}

static void any_bytes_have_a_value_and_a_title(void **state) {
    (void)state;
    struct buf noise, title;
    buf_init(&noise, 1 << 20);
    buf_init(&title, FINGERPRINT_TITLE_BYTES);
    for (int i = 0; i < 100000; i++) {
        buf_clear(&noise);
        buf_clear(&title);
        for (uint32_t n = chance(8); n > 0; n--) add_noise(&noise);
        struct str text = exact_copy(&noise);
        uint64_t value = fingerprint_of(text, text, text, text);
        assert_true(value != 0 && value == fingerprint_of(text, text, text, text));
        fingerprint_mask(text, &title);
        assert_true(text_is_utf8(buf_str(&title)));
        free((void *)(uintptr_t)text.data);
    }
    buf_done(&noise);
    buf_done(&title);
}

// ---- text of the value ----------------------------------------------------------------------------------------------------

static void a_value_is_read_as_it_is_written(void **state) {
    (void)state;
    char text[FINGERPRINT_TEXT_BYTES];
    for (int i = 0; i < 1000; i++) {
        uint64_t value = (uint64_t)chance(UINT32_MAX) << 32 | chance(UINT32_MAX), back;
        fingerprint_format(value, text);
        assert_int_equal(fingerprint_parse(str_of(text), &back), 0);
        assert_true(back == value);
    }
    fingerprint_format(UINT64_C(0xabc), text);
    assert_string_equal(text, "0000000000000abc");
    static const char *const wrong[] = {"", "0", "0000000000000abg", "0000000000000ab", "00000000000000abc", "0x00000000000abc", " 000000000000abc"};
    for (size_t i = 0; i < array_len(wrong); i++) {
        uint64_t value = 7;
        assert_int_equal(fingerprint_parse(str_of(wrong[i]), &value), ERR_INVALID);
        assert_int_equal(value, 7);
    }
}

// ---- the manual -----------------------------------------------------------------------------------------------------------

static bool take_code(const char **at, char *out, size_t out_bytes) {
    const char *from = strchr(*at, '`'), *to = from ? strchr(from + 1, '`') : NULL;
    if (!to || memchr(*at, '\n', (size_t)(to - *at))) return false;
    assert_int_equal(text_format(out, out_bytes, "%.*s", (int)(to - from - 1), from + 1), 0);
    *at = to + 1;
    return true;
}

// In docs/fingerprints.md, rows of tables end with two pieces of code: a message and its title, or a file of the corpus and its value.
static void the_examples_of_the_manual_are_true(void **state) {
    (void)state;
    cleanup_free char *manual = read_file("docs/fingerprints.md");
    int titles = 0, values = 0;
    for (const char *at = manual; (at = strstr(at, "\n| "));) {
        at += 3;
        char left[400], right[400];
        uint64_t value;
        if (!take_code(&at, left, sizeof left) || !take_code(&at, right, sizeof right) || strncmp(at, " |\n", 3) != 0) continue;
        if (fingerprint_parse(str_of(right), &value) == 0) {
            assert_true(value_of(&failure_of(left)->seen[0]) == value);
            values++;
        } else {
            cleanup_free char *title = title_of(str_of(left));
            assert_string_equal(title, right);
            titles++;
        }
    }
    assert_true(titles >= 10 && values >= 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_file_of_the_corpus_is_one_group),
        cmocka_unit_test(stored_values_keep_their_meaning),
        cmocka_unit_test(places_and_line_ends_do_not_count),
        cmocka_unit_test(variable_parts_of_a_message_do_not_count),
        cmocka_unit_test(a_title_says_what_was_masked),
        cmocka_unit_test(a_title_has_an_end),
        cmocka_unit_test(a_long_message_is_cut_at_the_same_word),
        cmocka_unit_test(every_part_counts),
        cmocka_unit_test(only_the_innermost_frames_count),
        cmocka_unit_test(what_stands_around_the_frames_does_not_count),
        cmocka_unit_test(no_more_than_the_cap_is_read),
        cmocka_unit_test(any_bytes_have_a_value_and_a_title),
        cmocka_unit_test(a_value_is_read_as_it_is_written),
        cmocka_unit_test(the_examples_of_the_manual_are_true),
    };
    return cmocka_run_group_tests(tests, read_corpus, free_corpus);
}
