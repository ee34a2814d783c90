// SPDX-License-Identifier: Apache-2.0
#include "core/filter.h"

#include "core/base/buf.h"
#include "tests/support/support.h"

#define KAFKA_AT "{\"topic\":\"orders\",\"partition\":3,\"offset\":9007199254740993,\"timestamp\":1767225600000,\"timestampType\":\"CREATE_TIME\"}"
#define AMQP_AT "{\"queue\":\"q1\",\"exchange\":\"sh\\\"op\",\"routingKey\":\"order.new\",\"redelivered\":false}"

static struct ev *record(const char *kind, const char *at, const char *key, struct str body) {
    const struct ev_header headers[] = {
        {STR_LIT("type"), STR_LIT("new")}, {STR_LIT("type"), STR_LIT("vip")}, {STR_LIT("retries"), STR_LIT("3")}, {STR_LIT("none"), STR_LIT("")}};
    struct ev_fields f = {
        .function = STR_LIT("f"),
        .source_kind = str_of(kind),
        .source_at = str_of(at),
        .ordering_key = str_of(key),
        .payload = body,
        .headers = headers,
        .header_count = array_len(headers),
    };
    return ev_new(&f);
}

static bool matches_record(const char *pattern, struct ev *ev) {
    struct filter *f = NULL;
    struct err err = {0};
    if (filter_parse(str_of(pattern), &f, &err)) fail_msg("%s: %s", pattern, err.text);
    bool yes = filter_matches(f, ev);
    assert_int_equal(filter_matches(f, ev), yes); // nothing is left behind
    filter_free(f);
    ev_free(ev);
    return yes;
}

static bool matches(const char *pattern, const char *body) {
    return matches_record(pattern, record("kafka", KAFKA_AT, "k-1", str_of(body)));
}

static void yes(const char *pattern, const char *body) {
    if (!matches(pattern, body)) fail_msg("%s does not match %s", pattern, body);
}

static void no(const char *pattern, const char *body) {
    if (matches(pattern, body)) fail_msg("%s matches %s", pattern, body);
}

static void test_literals(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[\"x\"]}}", "{\"a\":\"x\"}");
    yes("{\"body\":{\"a\":[\"y\",\"x\"]}}", "{\"a\":\"x\",\"b\":1}");
    no("{\"body\":{\"a\":[\"x\"]}}", "{\"a\":\"xx\"}");
    no("{\"body\":{\"a\":[\"x\"]}}", "{\"a\":\"X\"}");
    no("{\"body\":{\"a\":[\"x\"]}}", "{\"b\":\"x\"}");
    yes("{\"body\":{\"a\":[\"\"]}}", "{\"a\":\"\"}");
    no("{\"body\":{\"a\":[\"\"]}}", "{\"a\":null}");
    yes("{\"body\":{\"a\":[null]}}", "{\"a\":null}");
    no("{\"body\":{\"a\":[null]}}", "{}");
    no("{\"body\":{\"a\":[null]}}", "{\"a\":\"\"}");
    yes("{\"body\":{\"a\":[true]}}", "{\"a\":true}");
    no("{\"body\":{\"a\":[true]}}", "{\"a\":false}");
    no("{\"body\":{\"a\":[true]}}", "{\"a\":\"true\"}");
    yes("{\"body\":{\"a\":[false]}}", "{\"a\":false}");
    yes("{\"body\":{\"a\":[\"\\u00e9\"]}}", "{\"a\":\"\xc3\xa9\"}");
}

static void test_numbers(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[1]}}", "{\"a\":1}");
    yes("{\"body\":{\"a\":[300]}}", "{\"a\":3.0e2}");
    yes("{\"body\":{\"a\":[0.1]}}", "{\"a\":0.10}");
    no("{\"body\":{\"a\":[1]}}", "{\"a\":\"1\"}");
    no("{\"body\":{\"a\":[1]}}", "{\"a\":true}");
    // As doubles these two would be the same.
    yes("{\"body\":{\"a\":[9007199254740993]}}", "{\"a\":9007199254740993}");
    no("{\"body\":{\"a\":[9007199254740993]}}", "{\"a\":9007199254740992}");
    no("{\"body\":{\"a\":[{\"numeric\":[\">\",9007199254740992]}]}}", "{\"a\":9007199254740992}");
    yes("{\"body\":{\"a\":[{\"numeric\":[\">\",9007199254740992]}]}}", "{\"a\":9007199254740993}");
    // Beyond 64 bits they are doubles.
    yes("{\"body\":{\"a\":[{\"numeric\":[\">\",1e20]}],\"b\":[5]}}", "{\"a\":123456789012345678901234567890,\"b\":5}");
}

static void test_numeric(void **state) {
    (void)state;
    static const struct {
        const char *range, *inside[3], *outside[3];
    } cases[] = {
        {"[\">\",0,\"<=\",5]", {"1", "5", "0.001"}, {"0", "5.5", "-1"}},
        {"[\"<=\",5,\">\",0]", {"1", "5", "0.001"}, {"0", "5.5", "-1"}},
        {"[\"<\",10]", {"9", "-1e9", "9.99"}, {"10", "11", "1e9"}},
        {"[\">=\",10]", {"10", "10.0", "11"}, {"9", "9.99", "-10"}},
        {"[\"=\",3.5]", {"3.5", "35e-1", "3.50"}, {"3", "4", "-3.5"}},
        {"[\">=\",2,\"<=\",2]", {"2", "2.0", "2e0"}, {"1", "3", "2.1"}},
        {"[\">\",0,\"<\",1]", {"0.5", "0.1", "0.9"}, {"0", "1", "\"0.5\""}},
    };
    for (size_t i = 0; i < array_len(cases); i++)
        for (size_t k = 0; k < 3; k++) {
            char pattern[128], body[64];
            snprintf(pattern, sizeof pattern, "{\"body\":{\"a\":[{\"numeric\":%s}]}}", cases[i].range);
            snprintf(body, sizeof body, "{\"a\":%s}", cases[i].inside[k]);
            yes(pattern, body);
            snprintf(body, sizeof body, "{\"a\":%s}", cases[i].outside[k]);
            no(pattern, body);
        }
}

static void test_prefix_and_suffix(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[{\"prefix\":\"us-\"}]}}", "{\"a\":\"us-east\"}");
    yes("{\"body\":{\"a\":[{\"prefix\":\"us-\"}]}}", "{\"a\":\"us-\"}");
    no("{\"body\":{\"a\":[{\"prefix\":\"us-\"}]}}", "{\"a\":\"us\"}");
    no("{\"body\":{\"a\":[{\"prefix\":\"us-\"}]}}", "{\"a\":\"US-east\"}");
    no("{\"body\":{\"a\":[{\"prefix\":\"1\"}]}}", "{\"a\":12}");
    yes("{\"body\":{\"a\":[{\"prefix\":\"\"}]}}", "{\"a\":\"\"}");
    yes("{\"body\":{\"a\":[{\"suffix\":\".png\"}]}}", "{\"a\":\"x.png\"}");
    no("{\"body\":{\"a\":[{\"suffix\":\".png\"}]}}", "{\"a\":\"x.png \"}");
    no("{\"body\":{\"a\":[{\"suffix\":\".png\"}]}}", "{\"a\":\"png\"}");
    yes("{\"body\":{\"a\":[{\"prefix\":{\"equals-ignore-case\":\"EventB\"}}]}}", "{\"a\":\"eventbridge\"}");
    yes("{\"body\":{\"a\":[{\"suffix\":{\"equals-ignore-case\":\"tBridge\"}}]}}", "{\"a\":\"EVENTBRIDGE\"}");
    no("{\"body\":{\"a\":[{\"suffix\":{\"equals-ignore-case\":\"tBridge\"}}]}}", "{\"a\":\"bridge\"}");
}

static void test_ignore_case(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[{\"equals-ignore-case\":\"aLiCe\"}]}}", "{\"a\":\"AlIcE\"}");
    no("{\"body\":{\"a\":[{\"equals-ignore-case\":\"alice\"}]}}", "{\"a\":\"alice2\"}");
    no("{\"body\":{\"a\":[{\"equals-ignore-case\":\"a[c\"}]}}", "{\"a\":\"a{c\"}"); // these differ by the same bit as letters do
}

static void test_exists(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[{\"exists\":true}]}}", "{\"a\":0}");
    yes("{\"body\":{\"a\":[{\"exists\":true}]}}", "{\"a\":null}");
    no("{\"body\":{\"a\":[{\"exists\":true}]}}", "{\"b\":0}");
    no("{\"body\":{\"a\":[{\"exists\":true}]}}", "{\"a\":{\"b\":1}}"); // no value itself
    yes("{\"body\":{\"a\":[{\"exists\":false}]}}", "{\"b\":0}");
    no("{\"body\":{\"a\":[{\"exists\":false}]}}", "{\"a\":false}");
    yes("{\"body\":{\"a\":{\"b\":[{\"exists\":false}]}}}", "{}");
    yes("{\"body\":{\"a\":{\"b\":[{\"exists\":false}]}}}", "{\"a\":5}");
    no("{\"body\":{\"a\":{\"b\":[{\"exists\":false}]}}}", "{\"a\":{\"b\":5}}");
    yes("{\"body\":{\"a\":[{\"exists\":false},\"x\"]}}", "{\"a\":\"x\"}");
    yes("{\"body\":{\"a\":[{\"exists\":false},\"x\"]}}", "{}");
}

static void test_anything_but(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[{\"anything-but\":\"x\"}]}}", "{\"a\":\"y\"}");
    no("{\"body\":{\"a\":[{\"anything-but\":\"x\"}]}}", "{\"a\":\"x\"}");
    no("{\"body\":{\"a\":[{\"anything-but\":\"x\"}]}}", "{}");
    yes("{\"body\":{\"a\":[{\"anything-but\":\"x\"}]}}", "{\"a\":null}");
    yes("{\"body\":{\"a\":[{\"anything-but\":100}]}}", "{\"a\":99}");
    no("{\"body\":{\"a\":[{\"anything-but\":100}]}}", "{\"a\":1e2}");
    yes("{\"body\":{\"a\":[{\"anything-but\":[\"x\",\"y\"]}]}}", "{\"a\":\"z\"}");
    no("{\"body\":{\"a\":[{\"anything-but\":[\"x\",\"y\"]}]}}", "{\"a\":\"y\"}");
    no("{\"body\":{\"a\":[{\"anything-but\":[1,2]}]}}", "{\"a\":2}");
    no("{\"body\":{\"a\":[{\"anything-but\":{\"prefix\":\"init\"}}]}}", "{\"a\":\"initial\"}");
    yes("{\"body\":{\"a\":[{\"anything-but\":{\"prefix\":\"init\"}}]}}", "{\"a\":\"in\"}");
    no("{\"body\":{\"a\":[{\"anything-but\":{\"prefix\":[\"a\",\"b\"]}}]}}", "{\"a\":\"bx\"}");
    yes("{\"body\":{\"a\":[{\"anything-but\":{\"suffix\":\".png\"}}]}}", "{\"a\":\"x.txt\"}");
    no("{\"body\":{\"a\":[{\"anything-but\":{\"suffix\":[\".png\",\".txt\"]}}]}}", "{\"a\":\"x.txt\"}");
    no("{\"body\":{\"a\":[{\"anything-but\":{\"equals-ignore-case\":[\"X\",\"Y\"]}}]}}", "{\"a\":\"y\"}");
    yes("{\"body\":{\"a\":[{\"anything-but\":{\"equals-ignore-case\":\"X\"}}]}}", "{\"a\":\"y\"}");
    no("{\"body\":{\"a\":[{\"anything-but\":{\"wildcard\":\"*/lib/*\"}}]}}", "{\"a\":\"/usr/lib/x\"}");
    yes("{\"body\":{\"a\":[{\"anything-but\":{\"wildcard\":[\"*/lib/*\",\"*.so\"]}}]}}", "{\"a\":\"/usr/bin/x\"}");
}

static void test_wildcard(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool yes;
    } cases[] = {
        {"*", "", true},           {"*", "abc", true},       {"a*", "a", true},      {"a*", "ba", false},    {"*a", "ba", true},
        {"*a", "ab", false},       {"a*a", "a", false},      {"a*a", "aa", true},    {"a*b*c", "aXbYc", true}, {"a*b*c", "acb", false},
        {"*ab*ab*", "aab", false}, {"*ab*ab*", "xabyab", true}, {"abc", "abc", true}, {"abc", "abcd", false}, {"dir/*.png", "dir/x.png", true},
        {"a\\\\*b", "a*b", true},  {"a\\\\*b", "axb", false}, {"a\\\\\\\\*", "a\\\\x", true}, {"a\\\\\\\\*", "ax", false},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        char pattern[128], body[64];
        snprintf(pattern, sizeof pattern, "{\"body\":{\"a\":[{\"wildcard\":\"%s\"}]}}", cases[i].pattern);
        snprintf(body, sizeof body, "{\"a\":\"%s\"}", cases[i].text);
        if (cases[i].yes) yes(pattern, body);
        else no(pattern, body);
    }
    no("{\"body\":{\"a\":[{\"wildcard\":\"1*\"}]}}", "{\"a\":12}");
}

// A matcher that tries every place would need more than 10^20 steps here.
static void test_wildcard_does_not_blow_up(void **state) {
    (void)state;
    char pattern[512] = "{\"body\":[{\"wildcard\":\"", body[4000];
    for (int i = 0; i < 100; i++) strcat(pattern, "*aa");
    strcat(pattern, "*b\"}]}");
    memset(body, 'a', sizeof body - 1);
    body[sizeof body - 1] = '\0';
    no(pattern, body);
    body[sizeof body - 2] = 'b';
    yes(pattern, body);
}

static void test_cidr(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[{\"cidr\":\"10.0.0.0/24\"}]}}", "{\"a\":\"10.0.0.255\"}");
    no("{\"body\":{\"a\":[{\"cidr\":\"10.0.0.0/24\"}]}}", "{\"a\":\"10.0.1.0\"}");
    yes("{\"body\":{\"a\":[{\"cidr\":\"10.128.0.0/9\"}]}}", "{\"a\":\"10.129.0.1\"}");
    no("{\"body\":{\"a\":[{\"cidr\":\"10.128.0.0/9\"}]}}", "{\"a\":\"10.127.0.1\"}");
    yes("{\"body\":{\"a\":[{\"cidr\":\"0.0.0.0/0\"}]}}", "{\"a\":\"192.0.2.1\"}");
    yes("{\"body\":{\"a\":[{\"cidr\":\"192.0.2.1/32\"}]}}", "{\"a\":\"192.0.2.1\"}");
    no("{\"body\":{\"a\":[{\"cidr\":\"192.0.2.1/32\"}]}}", "{\"a\":\"192.0.2.2\"}");
    yes("{\"body\":{\"a\":[{\"cidr\":\"2001:db8::/33\"}]}}", "{\"a\":\"2001:db8:7fff::1\"}");
    no("{\"body\":{\"a\":[{\"cidr\":\"2001:db8::/33\"}]}}", "{\"a\":\"2001:db8:8000::1\"}");
    no("{\"body\":{\"a\":[{\"cidr\":\"0.0.0.0/0\"}]}}", "{\"a\":\"::1\"}");
    no("{\"body\":{\"a\":[{\"cidr\":\"0.0.0.0/0\"}]}}", "{\"a\":\"10.0.0\"}");
    no("{\"body\":{\"a\":[{\"cidr\":\"0.0.0.0/0\"}]}}", "{\"a\":10}");
}

static void test_and_or(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[1],\"b\":[2]}}", "{\"a\":1,\"b\":2}");
    no("{\"body\":{\"a\":[1],\"b\":[2]}}", "{\"a\":1,\"b\":3}");
    const char *either = "{\"body\":{\"c\":[0],\"$or\":[{\"a\":[1]},{\"b\":[2]}]}}";
    yes(either, "{\"a\":1,\"c\":0}");
    yes(either, "{\"b\":2,\"c\":0}");
    no(either, "{\"b\":1,\"c\":0}");
    no(either, "{\"a\":1,\"b\":2}");
    yes("{\"$or\":[{\"topic\":[\"other\"]},{\"body\":{\"a\":[1]}}]}", "{\"a\":1}");
    yes("{\"$or\":[{\"topic\":[\"orders\"]},{\"body\":{\"a\":[1]}}]}", "no JSON");
    no("{\"$or\":[{\"topic\":[\"other\"]},{\"body\":{\"a\":[1]}}]}", "no JSON");
    yes("{\"headers\":{\"$or\":[{\"type\":[\"x\"]},{\"retries\":[3]}]}}", "");
    no("{\"headers\":{\"$or\":[{\"type\":[\"x\"]},{\"retries\":[4]}]}}", "");
    yes("{\"body\":{\"$or\":[{\"$or\":[{\"a\":[1]},{\"b\":[1]}]},{\"c\":[1]}]}}", "{\"b\":1}");
}

static void test_lists_in_the_body(void **state) {
    (void)state;
    yes("{\"body\":{\"a\":[\"x\"]}}", "{\"a\":[\"y\",\"x\"]}");
    no("{\"body\":{\"a\":[\"x\"]}}", "{\"a\":[\"y\",\"z\"]}");
    yes("{\"body\":{\"a\":[\"x\"]}}", "{\"a\":[[\"x\"],1]}");
    yes("{\"body\":{\"a\":[{\"anything-but\":\"x\"}]}}", "{\"a\":[\"x\",\"y\"]}");
    no("{\"body\":{\"a\":[{\"anything-but\":\"x\"}]}}", "{\"a\":[\"x\"]}");
    no("{\"body\":{\"a\":[{\"exists\":true}]}}", "{\"a\":[]}");
    yes("{\"body\":{\"a\":[{\"exists\":false}]}}", "{\"a\":[]}");
    const char *both = "{\"body\":{\"items\":{\"sku\":[\"A\"],\"n\":[{\"numeric\":[\">\",1]}]}}}";
    yes(both, "{\"items\":[{\"sku\":\"B\",\"n\":9},{\"sku\":\"A\",\"n\":2}]}");
    no(both, "{\"items\":[{\"sku\":\"B\",\"n\":9},{\"sku\":\"A\",\"n\":1}]}"); // not by two members together
    yes("{\"body\":{\"a\":[1]}}", "[{\"a\":0},{\"a\":1}]");
}

static void test_coordinates(void **state) {
    (void)state;
    yes("{\"topic\":[\"orders\"],\"partition\":[3],\"key\":[{\"prefix\":\"k-\"}]}", "");
    no("{\"partition\":[2]}", "");
    yes("{\"offset\":[{\"numeric\":[\">\",9007199254740992]}]}", "");
    yes("{\"timestamp\":[{\"numeric\":[\">=\",1767225600000]}]}", "");
    yes("{\"queue\":[{\"exists\":false}]}", "");
    assert_true(matches_record("{\"exchange\":[\"sh\\\"op\"],\"routing_key\":[{\"wildcard\":\"order.*\"}],\"queue\":[\"q1\"]}",
                               record("amqp", AMQP_AT, "", STR_LIT(""))));
    assert_true(matches_record("{\"topic\":[{\"exists\":false}],\"offset\":[{\"exists\":false}]}", record("amqp", AMQP_AT, "", STR_LIT(""))));
    assert_false(matches_record("{\"routing_key\":[\"order.old\"]}", record("amqp", AMQP_AT, "", STR_LIT(""))));
}

static void test_headers(void **state) {
    (void)state;
    yes("{\"headers\":{\"type\":[\"new\"]}}", "");
    yes("{\"headers\":{\"type\":[\"vip\"]}}", ""); // the second of that name
    no("{\"headers\":{\"type\":[\"old\"]}}", "");
    no("{\"headers\":{\"Type\":[\"new\"]}}", "");
    yes("{\"headers\":{\"retries\":[{\"numeric\":[\">\",2]}]}}", "");
    yes("{\"headers\":{\"retries\":[3,4]}}", "");
    yes("{\"headers\":{\"retries\":[\"3\"]}}", "");
    no("{\"headers\":{\"type\":[{\"numeric\":[\">\",2]}]}}", "");
    no("{\"headers\":{\"none\":[{\"numeric\":[\"<\",2]}]}}", "");
    yes("{\"headers\":{\"none\":[\"\"],\"absent\":[{\"exists\":false}]}}", "");
    no("{\"headers\":{\"absent\":[{\"anything-but\":\"x\"}]}}", "");
}

static void test_null_keys_and_tombstones(void **state) {
    (void)state;
    const char *no_key = "{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"tombstone\":true}";
    static const char *const match[] = {"{\"key\":[null]}",  "{\"key\":[{\"exists\":false}]}",  "{\"key\":[{\"anything-but\":\"x\"}]}",
                                      "{\"body\":[null]}", "{\"body\":[{\"exists\":false}]}", "{\"body\":{\"a\":[{\"exists\":false}]}}"};
    static const char *const differ[] = {"{\"key\":[\"\"]}", "{\"key\":[{\"exists\":true}]}", "{\"body\":[\"\"]}", "{\"body\":[{\"exists\":true}]}",
                                     "{\"body\":{\"a\":[null]}}"};
    for (size_t i = 0; i < array_len(match); i++)
        if (!matches_record(match[i], record("kafka", no_key, "", STR_LIT("")))) fail_msg("%s", match[i]);
    for (size_t i = 0; i < array_len(differ); i++)
        if (matches_record(differ[i], record("kafka", no_key, "", STR_LIT("")))) fail_msg("%s", differ[i]);
    no("{\"key\":[null]}", "");
    yes("{\"body\":[\"\"]}", "");
    yes("{\"body\":[{\"exists\":true}]}", "");
}

static void test_bodies_that_are_no_objects(void **state) {
    (void)state;
    yes("{\"body\":[{\"prefix\":\"ERROR\"}]}", "ERROR: disk");
    yes("{\"body\":[{\"wildcard\":\"*\\\"level\\\":9*\"}]}", "{\"level\":9}"); // the text of an object
    yes("{\"body\":[\"hi\"]}", "\"hi\"");
    yes("{\"body\":[\"hi\"]}", "hi");
    yes("{\"body\":[42]}", "42");
    yes("{\"body\":[42]}", "[1,42]");
    yes("{\"body\":[null]}", " null");
    no("{\"body\":{\"a\":[{\"exists\":false}]}}", "no JSON"); // asks for members that cannot be known
    yes("{\"body\":{\"a\":[{\"exists\":false}]}}", "42");
    no("{\"body\":{\"a\":[1]}}", "{\"a\":1");
    yes("{\"topic\":[\"orders\"]}", "{\"a\":1");
}

// What docs/filters.md shows.
static void test_examples_of_the_manual(void **state) {
    (void)state;
    const char *both = "{\"key\":[{\"prefix\":\"k\"}],\"$or\":[{\"key\":[{\"suffix\":\"1\"}]}]}";
    yes(both, "");
    no("{\"key\":[{\"prefix\":\"k\"}],\"$or\":[{\"key\":[{\"suffix\":\"2\"}]}]}", "");
    const char *paid = "{\"body\":{\"status\":[\"paid\"],\"country\":[\"DE\",\"FR\"]},\"key\":[{\"anything-but\":{\"prefix\":\"loadtest-\"}}]}";
    yes(paid, "{\"status\":\"paid\",\"country\":\"FR\"}");
    no(paid, "{\"status\":\"paid\",\"country\":\"IT\"}");
    assert_false(matches_record(paid, record("kafka", KAFKA_AT, "loadtest-1", STR_LIT("{\"status\":\"paid\",\"country\":\"FR\"}"))));
    const char *large = "{\"$or\":[{\"headers\":{\"priority\":[{\"numeric\":[\">=\",8]}]}},{\"body\":{\"amount\":[{\"numeric\":[\">=\",1000]}]}}]}";
    yes(large, "{\"amount\":1000}");
    no(large, "{\"amount\":999}");
    yes("{\"key\":[{\"exists\":true}],\"body\":[{\"exists\":true}]}", "x");
    assert_true(matches_record("{\"routing_key\":[{\"wildcard\":\"order.*.eu\"}]}",
                               record("amqp", "{\"queue\":\"q\",\"exchange\":\"e\",\"routingKey\":\"order.new.eu\"}", "", STR_LIT(""))));
    const char *log = "{\"body\":[{\"wildcard\":\"* ERROR *\"},{\"prefix\":\"panic:\"}]}";
    yes(log, "10:00 ERROR disk");
    yes(log, "panic: disk");
    no(log, "10:00 INFO disk");
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *says[2];
    } cases[] = {
        {"", {"no JSON at line 1", ""}},
        {"{\"key\":[}", {"no JSON at line 1 column", ""}},
        {"{\"key\":[\"a\"],\"key\":[\"b\"]}", {"duplicate", ""}},
        {"[1]", {"a pattern is an object", "a list"}},
        {"{}", {"an empty pattern", ""}},
        {"{\"heders\":{}}", {"at heders:", "key headers topic"}},
        {"{\"headers\":[\"a\"]}", {"at headers:", "by name"}},
        {"{\"headers\":{\"a\":{\"b\":[1]}}}", {"at headers.a", "alternatives stand in a list"}},
        {"{\"topic\":\"orders\"}", {"at topic:", "[\"a\",\"b\"]"}},
        {"{\"topic\":{\"prefix\":\"o\"}}", {"at topic:", "[{\"prefix\":\"a\"}]"}},
        {"{\"key\":[\"a\"],\"partition\":[1],\"topic\":5}", {"at topic:", "here is a number"}}, // of a later member
        {"{\"body\":{\"a\":[]}}", {"at body.a:", "empty"}},
        {"{\"body\":{}}", {"at body:", "empty pattern"}},
        {"{\"body\":{\"a\":[[1]]}}", {"at body.a[0]:", "list within a list"}},
        {"{\"body\":{\"amount\":[{\"greater\":1}]}}", {"at body.amount[0]:", "\"greater\" is no operator; there are prefix"}},
        {"{\"body\":{\"a\":[1,{\"prefix\":1}]}}", {"at body.a[1]:", "wants text, not a number"}},
        {"{\"body\":{\"a\":[{\"prefix\":\"a\",\"suffix\":\"b\"}]}}", {"at body.a[0]:", "one member"}},
        {"{\"body\":{\"a\":[{}]}}", {"at body.a[0]:", "one member"}},
        {"{\"body\":{\"a\":[{\"prefix\":{\"suffix\":\"x\"}}]}}", {"at body.a[0]:", "equals-ignore-case"}},
        {"{\"body\":{\"a\":[{\"numeric\":[\">\"]}]}}", {"at body.a[0]:", "wants a list such as"}},
        {"{\"body\":{\"a\":[{\"numeric\":[\"!=\",1]}]}}", {"at body.a[0]:", "compares by"}},
        {"{\"body\":{\"a\":[{\"numeric\":[\">\",\"1\"]}]}}", {"at body.a[0]:", "with numbers, not with text"}},
        {"{\"body\":{\"a\":[{\"numeric\":[\">\",1,\">\",2]}]}}", {"at body.a[0]:", "one of > or >="}},
        {"{\"body\":{\"a\":[{\"numeric\":[\"<\",2,\"<\",1]}]}}", {"at body.a[0]:", "one of > or >="}},
        {"{\"body\":{\"a\":[{\"numeric\":[\"=\",1,\"<\",2]}]}}", {"at body.a[0]:", "one of > or >="}},
        {"{\"body\":{\"a\":[{\"numeric\":[\">\",5,\"<\",5]}]}}", {"at body.a[0]:", "no number lies between"}},
        {"{\"body\":{\"a\":[{\"numeric\":[\"<\",1,\">\",5]}]}}", {"at body.a[0]:", "no number lies between"}},
        {"{\"body\":{\"a\":[{\"exists\":\"yes\"}]}}", {"at body.a[0]:", "true or false"}},
        {"{\"body\":{\"a\":[{\"wildcard\":\"a**\"}]}}", {"at body.a[0]:", "two stars"}},
        {"{\"body\":{\"a\":[{\"wildcard\":\"a\\\\b\"}]}}", {"at body.a[0]:", "backslash"}},
        {"{\"body\":{\"a\":[{\"wildcard\":\"a\\\\\"}]}}", {"at body.a[0]:", "backslash"}},
        {"{\"body\":{\"a\":[{\"cidr\":\"10.0.0.0\"}]}}", {"at body.a[0]:", "10.0.0.0/8"}},
        {"{\"body\":{\"a\":[{\"cidr\":\"10.0.0.0/33\"}]}}", {"at body.a[0]:", "at most 32"}},
        {"{\"body\":{\"a\":[{\"cidr\":\"10.0.0/8\"}]}}", {"at body.a[0]:", "10.0.0.0/8"}},
        {"{\"body\":{\"a\":[{\"anything-but\":[]}]}}", {"at body.a[0]:", "is empty"}},
        {"{\"body\":{\"a\":[{\"anything-but\":{\"numeric\":[\">\",1]}}]}}", {"at body.a[0]:", "anything-but"}},
        {"{\"body\":{\"a\":[{\"anything-but\":[[1]]}]}}", {"at body.a[0]:", "not a list"}},
        {"{\"$or\":{\"key\":[1]}}", {"at $or:", "wants a list"}},
        {"{\"$or\":[]}", {"at $or:", "wants a list"}},
        {"{\"$or\":[{\"key\":[1]},5]}", {"at $or[1]:", "not a number"}},
        {"{\"$or\":[{\"key\":[1]},{\"kay\":[1]}]}", {"at $or[1].kay:", "no such member"}},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct filter *f = NULL;
        struct err err = {0};
        assert_int_equal(filter_parse(str_of(cases[i].pattern), &f, &err), ERR_INVALID);
        assert_null(f);
        if (!strstr(err.text, cases[i].says[0]) || !strstr(err.text, cases[i].says[1])) fail_msg("%s: %s", cases[i].pattern, err.text);
    }
}

static void test_caps(void **state) {
    (void)state;
    struct filter *f = NULL;
    struct err err = {0};
    char *big = mem_alloc(FILTER_MAX_BYTES + 1);
    memset(big, ' ', FILTER_MAX_BYTES + 1);
    assert_int_equal(filter_parse((struct str){big, FILTER_MAX_BYTES + 1}, &f, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "65536"));
    free(big);
    struct buf deep;
    buf_init(&deep, 10000);
    assert_int_equal(buf_append(&deep, STR_LIT("{\"body\":")), 0);
    for (int i = 0; i < 40; i++) assert_int_equal(buf_append(&deep, STR_LIT("{\"a\":")), 0);
    assert_int_equal(buf_append(&deep, STR_LIT("[1]")), 0);
    for (int i = 0; i < 41; i++) assert_int_equal(buf_append(&deep, STR_LIT("}")), 0);
    assert_int_equal(filter_parse(buf_str(&deep), &f, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "32 deep"));
    buf_done(&deep);
    filter_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literals),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_prefix_and_suffix),
        cmocka_unit_test(test_ignore_case),
        cmocka_unit_test(test_exists),
        cmocka_unit_test(test_anything_but),
        cmocka_unit_test(test_wildcard),
        cmocka_unit_test(test_wildcard_does_not_blow_up),
        cmocka_unit_test(test_cidr),
        cmocka_unit_test(test_and_or),
        cmocka_unit_test(test_lists_in_the_body),
        cmocka_unit_test(test_coordinates),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_null_keys_and_tombstones),
        cmocka_unit_test(test_bodies_that_are_no_objects),
        cmocka_unit_test(test_examples_of_the_manual),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_caps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
