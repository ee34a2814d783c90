// SPDX-License-Identifier: Apache-2.0
#include "dlq/edit.h"

#include "core/json_text.h"
#include "tests/support/support.h"

#define HEADERS_BEFORE 4

static struct ev *event_with(struct str payload) {
    const struct ev_header headers[HEADERS_BEFORE] = {
        {STR_LIT("X-Tenant"), STR_LIT("acme")},
        {STR_LIT("trace.id"), STR_LIT("t1")},
        {STR_LIT("x-tenant"), STR_LIT("second")},
        {STR_LIT("raw"), STR_LIT("\xff\x00\xfe")},
    };
    struct ev_fields f = {
        .id = {{1, 2, 3}},
        .origin_id = {{9}},
        .attempt = 4,
        .accepted_ms = 1767225600000,
        .function = STR_LIT("orders"),
        .qualifier = STR_LIT("7"),
        .source_kind = STR_LIT("kafka"),
        .source_name = STR_LIT("in"),
        .source_at = STR_LIT("{\"topic\":\"t\"}"),
        .ordering_key = STR_LIT("k1"),
        .content_type = STR_LIT("application/json"),
        .shape = STR_LIT("lambda"),
        .trace = STR_LIT("00-11-22-01"),
        .payload = payload,
        .history = STR_LIT("[{\"n\":1}]"),
        .headers = headers,
        .header_count = HEADERS_BEFORE,
    };
    return ev_new(&f);
}

static struct ev *event(const char *payload) {
    return event_with(str_of(payload));
}

static struct edit *parse(struct str json) {
    struct edit *e = NULL;
    struct err err = {0};
    if (edit_parse(json, &e, &err)) fail_msg("%.*s: %s", STR_ARG(json), err.text);
    return e;
}

static void assert_str(struct str got, struct str wanted) {
    if (!str_eq(got, wanted)) fail_msg("%.*s instead of %.*s", STR_ARG(got), STR_ARG(wanted));
}

static void assert_same_event(const struct ev *a, const struct ev *b) {
    const struct ev_fields *x = &a->f, *y = &b->f;
    assert_memory_equal(&x->id, &y->id, sizeof x->id);
    assert_memory_equal(&x->origin_id, &y->origin_id, sizeof x->origin_id);
    assert_int_equal(x->attempt, y->attempt);
    assert_int_equal(x->accepted_ms, y->accepted_ms);
#define X(field) assert_str(x->field, y->field);
    X(function) X(qualifier) X(source_kind) X(source_name) X(source_at) X(ordering_key) X(content_type) X(shape) X(trace) X(payload) X(history)
#undef X
    assert_int_equal(x->header_count, y->header_count);
    for (size_t i = 0; i < x->header_count; i++) {
        assert_str(x->headers[i].name, y->headers[i].name);
        assert_str(x->headers[i].value, y->headers[i].value);
    }
    assert_str(a->unknown, b->unknown);
    assert_int_equal(a->unknown_count, b->unknown_count);
}

// The patch, done to `from`, gives `to`.
static void assert_leads(const char *patch, const struct ev *from, const struct ev *to) {
    struct buf json;
    struct err err = {0};
    struct edited again = {0};
    buf_init(&json, SIZE_MAX / 2);
    assert_int_equal(buf_printf(&json, "{\"patch\":%s}", patch), 0);
    struct edit *e = parse(buf_str(&json));
    if (edit_apply(e, from, &again, &err)) fail_msg("%s: %s", patch, err.text);
    assert_non_null(again.ev);
    assert_same_event(again.ev, to);
    edit_free(e);
    edited_done(&again);
    buf_done(&json);
}

// 0, or the error; the patch there and back is tried too.
static int apply(struct str json, const struct ev *ev, struct edited *ret, struct err *err) {
    struct edit *e = parse(json);
    int rc = edit_apply(e, ev, ret, err);
    edit_free(e);
    if (rc || !ret->ev) return rc;
    assert_leads(ret->patch, ev, ret->ev);
    assert_leads(ret->inverse, ret->ev, ev);
    return 0;
}

// Takes ev. Each of the four may be NULL: not looked at.
static void edits_event(struct ev *ev, const char *edit, const char *payload, const char *patch, const char *inverse, const char *headers) {
    struct edited ed = {0};
    struct err err = {0};
    if (apply(str_of(edit), ev, &ed, &err)) fail_msg("%s: %s", edit, err.text);
    if (!ed.ev) fail_msg("%s changes nothing", edit);
    if (payload) assert_str(ed.ev->f.payload, str_of(payload));
    if (patch) assert_string_equal(ed.patch, patch);
    if (inverse) assert_string_equal(ed.inverse, inverse);
    if (headers) {
        struct buf got;
        buf_init(&got, 4096);
        for (size_t i = 0; i < ed.ev->f.header_count; i++)
            assert_int_equal(buf_printf(&got, "%.*s=%.*s;", STR_ARG(ed.ev->f.headers[i].name), STR_ARG(ed.ev->f.headers[i].value)), 0);
        assert_str(buf_str(&got), str_of(headers));
        buf_done(&got);
    }
    edited_done(&ed);
    ev_free(ev);
}

static void edits(const char *before, const char *edit, const char *payload, const char *patch, const char *inverse) {
    edits_event(event(before), edit, payload, patch, inverse, NULL);
}

static void refuses(const char *before, const char *edit, enum err_code code, const char *why) {
    struct ev *ev = event(before);
    struct edited ed = {0};
    struct err err = {0};
    assert_int_equal(apply(str_of(edit), ev, &ed, &err), code);
    if (!strstr(err.text, why)) fail_msg("%s: %s", edit, err.text);
    assert_null(ed.ev);
    ev_free(ev);
}

static void unreadable(const char *edit, const char *why) {
    struct edit *e = NULL;
    struct err err = {0};
    assert_int_equal(edit_parse(str_of(edit), &e, &err), ERR_INVALID);
    assert_null(e);
    if (!strstr(err.text, why)) fail_msg("%s: %s", edit, err.text);
}

// ---- set and unset ---------------------------------------------------------------------------------------------------------

#define ORDER " { \"n\" : 12345678901234567890.10 ,\"items\":[{\"sku\":\"a\"}, {\"sku\":\"b\"}],\"n2\":1,\"n2\":2,\"a.b\":{\"c d\":[0]} }\n"

static void test_set(void **state) {
    (void)state;
    edits(ORDER, "{\"set\":{\"payload.items[1].sku\":\"z\"}}",
          " { \"n\" : 12345678901234567890.10 ,\"items\":[{\"sku\":\"a\"}, {\"sku\":\"z\"}],\"n2\":1,\"n2\":2,\"a.b\":{\"c d\":[0]} }\n",
          "[{\"op\":\"replace\",\"path\":\"/payload/items/1/sku\",\"value\":\"z\"}]", "[{\"op\":\"replace\",\"path\":\"/payload/items/1/sku\",\"value\":\"b\"}]");
    edits(ORDER, "{\"set\":{\"payload.n\":98765432109876543210987.000}}",
          " { \"n\" : 98765432109876543210987.000 ,\"items\":[{\"sku\":\"a\"}, {\"sku\":\"b\"}],\"n2\":1,\"n2\":2,\"a.b\":{\"c d\":[0]} }\n",
          "[{\"op\":\"replace\",\"path\":\"/payload/n\",\"value\":98765432109876543210987.000}]",
          "[{\"op\":\"replace\",\"path\":\"/payload/n\",\"value\":12345678901234567890.10}]");
    edits(ORDER, "{\"set\":{\"payload.\\\"a.b\\\".\\\"c d\\\"[0]\":true}}",
          " { \"n\" : 12345678901234567890.10 ,\"items\":[{\"sku\":\"a\"}, {\"sku\":\"b\"}],\"n2\":1,\"n2\":2,\"a.b\":{\"c d\":[true]} }\n",
          "[{\"op\":\"replace\",\"path\":\"/payload/a.b/c d/0\",\"value\":true}]", NULL);
    edits("{\"a\":1}", "{\"set\":{\"payload.b\":{\"x\": [ 1 ]}}}", "{\"a\":1,\"b\":{\"x\": [ 1 ]}}", "[{\"op\":\"add\",\"path\":\"/payload/b\",\"value\":{\"x\": [ 1 ]}}]",
          "[{\"op\":\"replace\",\"path\":\"/payload\",\"value\":{\"a\":1}}]");
    edits("[1]", "{\"set\":{\"payload[1]\":2,\"payload[-]\":3}}", "[1,2,3]",
          "[{\"op\":\"add\",\"path\":\"/payload/1\",\"value\":2},{\"op\":\"add\",\"path\":\"/payload/-\",\"value\":3}]", NULL);
    edits("{\"a/b\":{\"~\":1}}", "{\"set\":{\"/payload/a~1b/~0\":2}}", "{\"a/b\":{\"~\":2}}", "[{\"op\":\"replace\",\"path\":\"/payload/a~1b/~0\",\"value\":2}]",
          "[{\"op\":\"replace\",\"path\":\"/payload/a~1b/~0\",\"value\":1}]");
    edits("{\"a\":1,\"a\":2}", "{\"set\":{\"payload\":{\"a\":3,\"a\":2}}}", "{\"a\":3,\"a\":2}", NULL,
          "[{\"op\":\"replace\",\"path\":\"/payload\",\"value\":{\"a\":1,\"a\":2}}]"); // no path leads to the first
    edits("{\"a\":1,\"a\":2}", "{\"set\":{\"payload.a\":3}}", "{\"a\":1,\"a\":3}", NULL, "[{\"op\":\"replace\",\"path\":\"/payload/a\",\"value\":2}]");
}

static void test_unset(void **state) {
    (void)state;
    edits("{\"a\":1, \"b\" : 2, \"c\":3}", "{\"unset\":[\"payload.b\"]}", "{\"a\":1, \"c\":3}", "[{\"op\":\"remove\",\"path\":\"/payload/b\"}]",
          "[{\"op\":\"replace\",\"path\":\"/payload\",\"value\":{\"a\":1, \"b\" : 2, \"c\":3}}]");
    edits("{\"o\":{\"a\":1,\"\\u0061\":2},\"z\":0}", "{\"unset\":[\"payload.o.a\"]}", "{\"o\":{},\"z\":0}", NULL,
          "[{\"op\":\"replace\",\"path\":\"/payload/o\",\"value\":{\"a\":1,\"\\u0061\":2}}]");
    edits("{\"a\":1}", "{\"unset\":[\"payload\"]}", "", "[{\"op\":\"remove\",\"path\":\"/payload\"}]",
          "[{\"op\":\"remove\",\"path\":\"/payloadText\"},{\"op\":\"add\",\"path\":\"/payload\",\"value\":{\"a\":1}}]");
    edits("{\"a\":1}", "{\"unset\":[\"payload\",\"payload\",\"payload.a\",\"contentType\",\"contentType\"]}", "",
          "[{\"op\":\"remove\",\"path\":\"/payload\"},{\"op\":\"remove\",\"path\":\"/contentType\"}]", NULL);
    edits("{\"a\":1,\"b\":2}", "{\"unset\":[\"payload.c\",\"payload.a\",\"payload.a\",\"headers.none\"]}", "{\"b\":2}",
          "[{\"op\":\"remove\",\"path\":\"/payload/a\"}]", NULL);
}

static void test_order_of_the_kinds(void **state) {
    (void)state;
    edits("{\"a\":0}", "{\"unset\":[\"payload.a\"],\"set\":{\"payload.b\":2},\"patch\":[{\"op\":\"move\",\"from\":\"/payload/a\",\"path\":\"/payload/b\"},"
                       "{\"op\":\"copy\",\"from\":\"/payload/b\",\"path\":\"/payload/a\"}]}", "{\"b\":2}", NULL, NULL);
}

static void test_a_change_that_changes_nothing(void **state) {
    (void)state;
    const char *const nothing[] = {
        "{\"set\":{\"payload.a\":1.0}}", "{\"set\":{\"headers.X-TENANT\":[\"acme\",\"second\"],\"orderingKey\":\"k1\"}}", "{\"set\":{},\"unset\":[],\"patch\":[]}",
        "{\"patch\":[{\"op\":\"test\",\"path\":\"/payload/a\",\"value\":1}]}", "{\"patch\":[{\"op\":\"move\",\"from\":\"/payload/a\",\"path\":\"/payload/a\"}]}",
        "{\"set\":{\"payload.b\":1},\"unset\":[\"payload.b\"]}", "{\"unset\":[\"headers.none\",\"headers.x-tenant[7]\"]}",
        "{\"unset\":[\"payload.b\",\"payload.b.c[1]\",\"payload.a.b\"]}",
    };
    struct ev *ev = event("{\"a\":1.0}");
    for (size_t i = 0; i < array_len(nothing); i++) {
        struct edited ed = {0};
        assert_int_equal(apply(str_of(nothing[i]), ev, &ed, NULL), 0);
        assert_null(ed.ev);
        assert_string_equal(ed.patch, "[]");
        assert_string_equal(ed.inverse, "[]");
        edited_done(&ed);
    }
    // What is equal but written in another way is a change, and what changes nothing is not in the patch.
    edits("{\"a\":1.0,\"b\":2}", "{\"set\":{\"payload.a\":1,\"payload.b\":2}}", "{\"a\":1,\"b\":2}", "[{\"op\":\"replace\",\"path\":\"/payload/a\",\"value\":1}]", NULL);
    ev_free(ev);
}

// ---- headers, content type, key --------------------------------------------------------------------------------------------

static void edits_headers(const char *edit, const char *headers) {
    edits_event(event("1"), edit, "1", NULL, NULL, headers);
}

static void test_headers(void **state) {
    (void)state;
    edits_headers("{\"set\":{\"headers.raw\":\"r\"}}", "X-Tenant=acme;trace.id=t1;x-tenant=second;raw=r;");
    edits_headers("{\"set\":{\"headers.raw\":\"r\",\"headers.x-TENANT\":\"one\"}}", "X-Tenant=one;trace.id=t1;raw=r;");
    edits_headers("{\"set\":{\"headers.raw\":\"r\",\"headers.x-tenant[1]\":\"one\"}}", "X-Tenant=acme;trace.id=t1;x-tenant=one;raw=r;");
    edits_headers("{\"set\":{\"headers.raw\":\"r\",\"headers.x-tenant\":[\"1\",\"2\",\"3\"]}}", "X-Tenant=1;trace.id=t1;x-tenant=2;raw=r;X-Tenant=3;");
    edits_headers("{\"set\":{\"headers.\\\"Trace.ID\\\"\":\"t2\"},\"unset\":[\"headers.RAW\",\"headers.X-Tenant\"]}", "trace.id=t2;");
    edits_headers("{\"set\":{\"headers.New\":\"n\\u00e9\"},\"unset\":[\"headers.raw\"]}", "X-Tenant=acme;trace.id=t1;x-tenant=second;New=n\xc3\xa9;");
    edits_headers("{\"unset\":[\"headers\"]}", "");
    edits_headers("{\"set\":{\"headers\":{\"raw\":\"r\",\"b\":\"2\",\"X-TENANT\":\"1\"}}}", "X-Tenant=1;raw=r;b=2;");
    edits_headers("{\"set\":{\"headers\":[[\"b\",\"2\"],[\"a\",\"1\"],[\"B\",\"3\"]]}}", "b=2;a=1;B=3;");
    edits_event(event("1"), "{\"set\":{\"headers.x-tenant[0]\":\"z\"}}", NULL, "[{\"op\":\"replace\",\"path\":\"/headers/X-Tenant/0\",\"value\":\"z\"}]", NULL, NULL);
}

static void test_a_header_that_no_path_can_name_stays(void **state) {
    (void)state;
    const struct ev_header odd[] = {{STR_LIT("a"), STR_LIT("1")}, {STR_LIT("\xff"), STR_LIT("2")}, {STR_LIT("b"), STR_LIT("3")}};
    struct ev_fields f = {.id = {{7}}, .accepted_ms = 5, .function = STR_LIT("f"), .payload = STR_LIT("1"), .headers = odd, .header_count = 3};
    edits_event(ev_new(&f), "{\"set\":{\"headers.a\":\"x\"},\"unset\":[\"headers.b\"]}", NULL, NULL, NULL, "a=x;\xff=2;");
    edits_event(ev_new(&f), "{\"unset\":[\"headers.a\"]}", NULL, NULL,
                "[{\"op\":\"replace\",\"path\":\"/headers\",\"value\":[[\"a\",\"1\"],[{\"base64\":\"/w==\"},\"2\"],[\"b\",\"3\"]]}]", "\xff=2;b=3;");
}

static void test_headers_are_texts(void **state) {
    (void)state;
    refuses("1", "{\"set\":{\"headers.retries\":3}}", ERR_INVALID, "set headers.retries: a text is wanted, in quotes");
    refuses("1", "{\"set\":{\"headers.raw\":{\"base64\":\"x\"}}}", ERR_INVALID, "set headers.raw: Base64");
    refuses("1", "{\"set\":{\"headers.raw\":\"\\ud800\"}}", ERR_INVALID, "surrogate");
    refuses("1", "{\"set\":{\"headers.raw\":[\"a\",[\"b\"]]}}", ERR_INVALID, "a text is wanted");
    refuses("1", "{\"set\":{\"headers\":{\"a\":\"1\",\"A\":\"2\"}}}", ERR_INVALID, "set headers: a header stands there twice");
    refuses("1", "{\"set\":{\"headers\":[[\"a\"]]}}", ERR_INVALID, "a list of headers is");
    refuses("1", "{\"set\":{\"headers\":[[\"a\",\"b\",\"c\"]]}}", ERR_INVALID, "a list of headers is");
    refuses("1", "{\"set\":{\"headers\":\"x\"}}", ERR_INVALID, "headers are an object");
    refuses("1", "{\"patch\":[{\"op\":\"remove\",\"path\":\"/headers/none\"}]}", ERR_NOT_FOUND, "the object has no member \"none\"");
    refuses("1", "{\"set\":{\"contentType\":null}}", ERR_INVALID, "set contentType: a text is wanted");
}

static void test_headers_are_counted(void **state) {
    (void)state;
    struct buf edit;
    buf_init(&edit, SIZE_MAX / 2);
    assert_int_equal(buf_append(&edit, STR_LIT("{\"set\":{\"headers.new\":[\"\"")), 0);
    for (size_t i = HEADERS_BEFORE + 1; i < EV_HEADERS_MAX; i++) assert_int_equal(buf_append(&edit, STR_LIT(",\"\"")), 0);
    size_t most = buf_len(&edit);
    assert_int_equal(buf_append(&edit, STR_LIT("]}}\0")), 0);
    edits(ORDER, edit.data, ORDER, NULL, NULL);
    edit.end = edit.start + most;
    assert_int_equal(buf_append(&edit, STR_LIT(",\"\"]}}\0")), 0);
    refuses("1", edit.data, ERR_TOO_LARGE, "1024 headers");
    buf_done(&edit);
}

static void test_content_type_and_key(void **state) {
    (void)state;
    struct ev *ev = event("1");
    struct edited ed = {0};
    assert_int_equal(apply(STR_LIT("{\"set\":{\"contentType\":\"text/plain\",\"orderingKey\":{\"base64\":\"/w==\"}}}"), ev, &ed, NULL), 0);
    assert_str(ed.ev->f.content_type, STR_LIT("text/plain"));
    assert_str(ed.ev->f.ordering_key, STR_LIT("\xff"));
    edited_done(&ed);
    assert_int_equal(apply(STR_LIT("{\"unset\":[\"contentType\",\"orderingKey\"]}"), ev, &ed, NULL), 0);
    assert_int_equal(ed.ev->f.content_type.len + ed.ev->f.ordering_key.len, 0);
    edited_done(&ed);
    ev_free(ev);
}

// ---- other payloads --------------------------------------------------------------------------------------------------------

static void test_forms_of_a_payload(void **state) {
    (void)state;
    edits("no json", "{\"set\":{\"payload\":{\"a\": 1}}}", "{\"a\": 1}",
          "[{\"op\":\"remove\",\"path\":\"/payloadText\"},{\"op\":\"add\",\"path\":\"/payload\",\"value\":{\"a\": 1}}]",
          "[{\"op\":\"remove\",\"path\":\"/payload\"},{\"op\":\"add\",\"path\":\"/payloadText\",\"value\":\"no json\"}]");
    edits("{\"a\":1}", "{\"set\":{\"payloadText\":\"x\\u0000y\"}}", NULL,
          "[{\"op\":\"remove\",\"path\":\"/payload\"},{\"op\":\"add\",\"path\":\"/payloadText\",\"value\":\"x\\u0000y\"}]", NULL);
    edits(" 1 ", "{\"set\":{\"payloadBase64\":\"/wD+\"}}", NULL, NULL,
          "[{\"op\":\"remove\",\"path\":\"/payloadBase64\"},{\"op\":\"add\",\"path\":\"/payloadText\",\"value\":\" 1 \"}]");
    edits("x", "{\"set\":{\"payloadText\":\"y\"}}", "y", "[{\"op\":\"replace\",\"path\":\"/payloadText\",\"value\":\"y\"}]",
          "[{\"op\":\"replace\",\"path\":\"/payloadText\",\"value\":\"x\"}]");
    edits("x", "{\"set\":{\"payloadText\":\" {} \",\"payload.a\":1}}", " {\"a\":1} ", NULL, NULL);
    edits("", "{\"set\":{\"payload\":1}}", "1", NULL, NULL);
    edits("{\"body\":\"t\"}", "{\"patch\":[{\"op\":\"copy\",\"from\":\"/payload/body\",\"path\":\"/payloadText\"}]}", "t", NULL, NULL);
    edits("1", "{\"patch\":[{\"op\":\"move\",\"from\":\"/headers/TRACE.id\",\"path\":\"/payload\"}]}", "\"t1\"", NULL, NULL);
    edits("x", "{\"patch\":[{\"op\":\"move\",\"from\":\"/payloadText\",\"path\":\"/payload\"}]}", "\"x\"", NULL, NULL);
    edits("x", "{\"patch\":[{\"op\":\"move\",\"from\":\"/headers/trace.id\",\"path\":\"/payload\"}]}", "\"t1\"",
          "[{\"op\":\"remove\",\"path\":\"/headers/trace.id\"},{\"op\":\"remove\",\"path\":\"/payloadText\"},{\"op\":\"add\",\"path\":\"/payload\",\"value\":\"t1\"}]", NULL);
    edits_event(event_with((struct str){"\xff\x00\x01", 3}), "{\"set\":{\"payload\":[]}}", "[]", NULL,
                "[{\"op\":\"remove\",\"path\":\"/payload\"},{\"op\":\"add\",\"path\":\"/payloadBase64\",\"value\":\"/wAB\"}]", NULL);
}

static void test_forms_are_kept_apart(void **state) {
    (void)state;
    refuses("x", "{\"set\":{\"payload.a\":1}}", ERR_NOT_FOUND, "set payload.a: the payload is text that is not JSON; it can only be replaced whole");
    refuses("\xff", "{\"unset\":[\"payload.a\"]}", ERR_NOT_FOUND, "unset payload.a: the payload is bytes");
    refuses("{}", "{\"unset\":[\"payloadText\"]}", ERR_NOT_FOUND, "unset payloadText: the payload is JSON");
    refuses("x", "{\"set\":{\"payloadText.a\":\"x\"}}", ERR_NOT_FOUND, "the payload is text");
    refuses("x", "{\"set\":{\"payloadText\":5}}", ERR_INVALID, "set payloadText: a text is wanted");
    refuses("x", "{\"set\":{\"payloadBase64\":\"a\"}}", ERR_INVALID, "set payloadBase64: Base64");
    refuses("{}", "{\"patch\":[{\"op\":\"copy\",\"from\":\"/payload\",\"path\":\"/payloadText\"}]}", ERR_INVALID, "patch[0] copy /payloadText: a text is wanted");
}

// ---- patches ---------------------------------------------------------------------------------------------------------------

static void test_patch(void **state) {
    (void)state;
    edits("{\"l\":[1,2]}", "{\"patch\":[{\"op\":\"add\",\"path\":\"/payload/l/0\",\"value\":0},{\"op\":\"remove\",\"path\":\"/payload/l/2\"},"
                           "{\"op\":\"test\",\"path\":\"/payload/l\",\"value\":[0.0,1e0]},{\"op\":\"copy\",\"from\":\"/payload/l/1\",\"path\":\"/payload/c\"},"
                           "{\"op\":\"replace\",\"path\":\"/payload/l/1\",\"value\":1.50},{\"op\":\"move\",\"from\":\"/payload/l\",\"path\":\"/payload/m\"}]}",
          "{\"c\":1,\"m\":[0,1.50]}",
          "[{\"op\":\"add\",\"path\":\"/payload/l/0\",\"value\":0},{\"op\":\"remove\",\"path\":\"/payload/l/2\"},"
          "{\"op\":\"copy\",\"from\":\"/payload/l/1\",\"path\":\"/payload/c\"},{\"op\":\"replace\",\"path\":\"/payload/l/1\",\"value\":1.50},"
          "{\"op\":\"move\",\"from\":\"/payload/l\",\"path\":\"/payload/m\"}]", NULL);
    edits("{\"l\":[1,2,3]}", "{\"patch\":[{\"op\":\"move\",\"from\":\"/payload/l/0\",\"path\":\"/payload/l/2\"}]}", "{\"l\":[2,3,1]}", NULL, NULL);
    edits("{\"t\":\"v\"}", "{\"patch\":[{\"op\":\"copy\",\"from\":\"/payload/t\",\"path\":\"/headers/t\"}]}", "{\"t\":\"v\"}", NULL, NULL);
}

static void test_patch_errors_name_the_operation(void **state) {
    (void)state;
    refuses("{\"a\":1}", "{\"patch\":[{\"op\":\"test\",\"path\":\"/payload/a\",\"value\":2}]}", ERR_CONFLICT, "patch[0] test /payload/a: the test fails");
    refuses("{\"a\":1}", "{\"patch\":[{\"op\":\"test\",\"path\":\"/payload/b\",\"value\":2}]}", ERR_CONFLICT, "has no member \"b\"");
    refuses("{\"a\":1}", "{\"patch\":[{\"op\":\"add\",\"path\":\"/payload/c\",\"value\":2},{\"op\":\"replace\",\"path\":\"/payload/b\",\"value\":2}]}", ERR_NOT_FOUND,
            "patch[1] replace /payload/b: the object has no member \"b\"");
    refuses("{\"a\":{}}", "{\"patch\":[{\"op\":\"move\",\"from\":\"/payload/a\",\"path\":\"/payload/a/b\"}]}", ERR_INVALID, "cannot be moved into itself");
    refuses("{\"a\":1}", "{\"patch\":[{\"op\":\"copy\",\"from\":\"/payload/b\",\"path\":\"/payload/c\"}]}", ERR_NOT_FOUND, "patch[0] copy /payload/c");
    refuses("{\"items\":[1,2]}", "{\"set\":{\"payload.items[9].sku\":1}}", ERR_NOT_FOUND, "set payload.items[9].sku: the array has 2 members");
    refuses("{\"items\":[1,2]}", "{\"set\":{\"payload.items[3]\":1}}", ERR_NOT_FOUND, "set payload.items[3]: the array has 2 members");
    refuses("{\"a\":1}", "{\"set\":{\"payload.b.c\":1}}", ERR_NOT_FOUND, "set payload.b.c: the object has no member \"b\"");
}

static void test_wrong_edits(void **state) {
    (void)state;
    unreadable("", "byte 1");
    unreadable("{\"set\":{\"payload\":01}}", "byte 20");
    unreadable("[]", "an object with set, unset or patch");
    unreadable("{\"sets\":{}}", "an object with set, unset or patch");
    unreadable("{\"set\":[]}", "set: an object is wanted");
    unreadable("{\"unset\":{}}", "unset: an array of paths");
    unreadable("{\"unset\":[1]}", "a path is a text");
    unreadable("{\"patch\":{}}", "patch: an array");
    unreadable("{\"patch\":[1]}", "patch[0]: \"op\" is wanted");
    unreadable("{\"patch\":[{\"op\":\"set\",\"path\":\"/payload\"}]}", "patch[0]: \"op\" is wanted");
    unreadable("{\"patch\":[{\"op\":\"add\",\"value\":1}]}", "\"path\" is wanted");
    unreadable("{\"patch\":[{\"op\":\"add\",\"path\":\"/payload\"}]}", "patch[0] add /payload: \"value\" is wanted");
    unreadable("{\"patch\":[{\"op\":\"move\",\"path\":\"/payload\"}]}", "\"from\" is wanted");
    unreadable("{\"patch\":[{\"op\":\"add\",\"path\":\"\",\"value\":1}]}", "a name is wanted");
    unreadable("{\"set\":{\"\":1}}", "byte 1 of the path: a name is wanted");
    unreadable("{\"set\":{\"payload.\":1}}", "byte 9 of the path: a name is wanted");
    unreadable("{\"set\":{\"payload..a\":1}}", "byte 9 of the path");
    unreadable("{\"set\":{\"payload[x]\":1}}", "byte 8 of the path: [0]");
    unreadable("{\"set\":{\"payload[]\":1}}", "byte 8 of the path: [0]");
    unreadable("{\"set\":{\"payload[1\":1}}", "byte 8 of the path: [0]");
    unreadable("{\"set\":{\"payload[1]a\":1}}", "byte 11 of the path: a dot or [");
    unreadable("{\"set\":{\"payload.\\\"a\":1}}", "byte 9 of the path: the quoted name");
    unreadable("{\"set\":{\"payload.\\\"\\\\x\\\"\":1}}", "byte 9 of the path: the quoted name");
    unreadable("{\"set\":{\"payload.\\\"a\\\"b\":1}}", "a dot or [");
    unreadable("{\"set\":{\"body.a\":1}}", "set body.a: a path begins with payload");
    unreadable("{\"set\":{\"attempt\":1}}", "a path begins with payload");
    unreadable("{\"set\":{\"body.\\ud800\":1}}", "set body.\xef\xbf\xbd"); // errors are clean text
    unreadable("{\"set\":{\"/payload/~\":1}}", "~ stands before");
}

static void test_operations_are_counted(void **state) {
    (void)state;
    struct buf json;
    struct edit *e = NULL;
    struct err err = {0};
    buf_init(&json, SIZE_MAX / 2);
    assert_int_equal(buf_append(&json, STR_LIT("{\"unset\":[\"payload.a\"")), 0);
    for (int i = 1; i <= EDIT_OPERATIONS_MAX; i++) assert_int_equal(buf_append(&json, STR_LIT(",\"payload.a\"")), 0);
    assert_int_equal(buf_append(&json, STR_LIT("]}")), 0);
    assert_int_equal(edit_parse(buf_str(&json), &e, &err), ERR_TOO_LARGE);
    buf_done(&json);
}

// ---- the event -------------------------------------------------------------------------------------------------------------

static void test_everything_else_stays(void **state) {
    (void)state;
    struct ev *ev = event("{\"a\":1}");
    ev->unknown = STR_LIT("\x63\xa1x");
    ev->unknown_count = 1;
    struct edited ed = {0};
    assert_int_equal(apply(STR_LIT("{\"set\":{\"payload.a\":2}}"), ev, &ed, NULL), 0);
    assert_str(ed.ev->f.payload, STR_LIT("{\"a\":2}"));
    ed.ev->f.payload = ev->f.payload;
    assert_same_event(ed.ev, ev);
    edited_done(&ed);
    ev_free(ev);
}

// before, then 'x' so many times, then after
static char *filled(const char *before, size_t count, const char *after) {
    char *text = mem_alloc(strlen(before) + count + strlen(after) + 1);
    memset(stpcpy(text, before), 'x', count);
    strcpy(text + strlen(before) + count, after);
    return text;
}

static void test_payloads_have_an_end(void **state) {
    (void)state;
    cleanup_free char *big = filled("[\"", EV_PAYLOAD_MAX - 6, "\",1]");
    edits(big, "{\"set\":{\"payload[0]\":1}}", "[1,1]", NULL, NULL);
    edits(big, "{\"set\":{\"headers.a\":\"b\"}}", big, NULL, NULL);
    refuses(big, "{\"set\":{\"payload[1]\":12}}", ERR_TOO_LARGE, "set payload[1]: the changed text is larger than");
    refuses(big, "{\"patch\":[{\"op\":\"copy\",\"from\":\"/payload/0\",\"path\":\"/payload/0\"}]}", ERR_TOO_LARGE, "patch[0]");
    cleanup_free char *text = filled("{\"set\":{\"payloadText\":\"", EV_PAYLOAD_MAX, "\"}}");
    cleanup_free char *longer = filled("{\"set\":{\"payloadText\":\"", EV_PAYLOAD_MAX + 1, "\"}}");
    cleanup_free char *json = filled("{\"set\":{\"payload\":\"", EV_PAYLOAD_MAX - 1, "\"}}");
    cleanup_free char *base64 = filled("{\"set\":{\"payloadBase64\":\"", EV_PAYLOAD_MAX / 3 * 4 + 4, "\"}}");
    cleanup_free char *header = filled("{\"set\":{\"headers.a\":\"", EV_ENCODED_MAX, "\"}}");
    edits("1", text, NULL, NULL, NULL);
    refuses("1", longer, ERR_TOO_LARGE, "set payloadText: a payload has at most");
    refuses("1", json, ERR_TOO_LARGE, "set payload: the changed text is larger than");
    refuses("x", json, ERR_TOO_LARGE, "set payload: a payload has at most");
    refuses("1", base64, ERR_TOO_LARGE, "set payloadBase64: a payload has at most");
    refuses("1", header, ERR_TOO_LARGE, "the event would have more than");
}

static void test_work_has_an_end(void **state) {
    (void)state;
    cleanup_free char *big = filled("[\"", EV_PAYLOAD_MAX - 6, "\",1]");
    struct buf many;
    buf_init(&many, SIZE_MAX / 2);
    assert_int_equal(buf_append(&many, STR_LIT("{\"patch\":[")), 0);
    for (int i = 0; i < EDIT_OPERATIONS_MAX; i++)
        assert_int_equal(buf_printf(&many, "%s{\"op\":\"replace\",\"path\":\"/payload/1\",\"value\":%d}", i ? "," : "", i % 10), 0);
    assert_int_equal(buf_append(&many, STR_LIT("]}\0")), 0);
    refuses(big, many.data, ERR_TOO_LARGE, "so many operations");
    edits("[0,\"\"]", many.data, "[0,9]", NULL, NULL);
    buf_done(&many);
}

static void test_deep_payloads(void **state) {
    (void)state;
    char deep[2 * JSON_TEXT_DEPTH + 1];
    memset(deep, '[', JSON_TEXT_DEPTH);
    memset(deep + JSON_TEXT_DEPTH, ']', JSON_TEXT_DEPTH);
    deep[2 * JSON_TEXT_DEPTH] = '\0';
    edits(deep, "{\"set\":{\"payload\":1}}", "1", NULL, NULL);
    edits(deep, "{\"unset\":[\"payload[0]\"]}", "[]", NULL, NULL);
    refuses("[0]", "{\"patch\":[{\"op\":\"copy\",\"from\":\"/payload\",\"path\":\"/payload/0\"},{\"op\":\"copy\",\"from\":\"/payload/9\",\"path\":\"/payload/0\"}]}", ERR_NOT_FOUND,
            "patch[1]");
}

static void test_document(void **state) {
    (void)state;
    const struct {
        struct str payload;
        const char *member;
    } cases[] = {
        {STR_LIT(" {\"n\": 1.0} "), "{\"payload\": {\"n\": 1.0} ,"},
        {STR_LIT("a\"b"), "{\"payloadText\":\"a\\\"b\","},
        {STR_LIT(""), "{\"payloadText\":\"\","},
        {STR_LIT("\xff"), "{\"payloadBase64\":\"/w==\","},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct ev *ev = event_with(cases[i].payload);
        struct buf out, wanted;
        buf_init(&out, EDIT_DOCUMENT_MAX);
        buf_init(&wanted, EDIT_DOCUMENT_MAX);
        edit_document(ev, &out);
        assert_int_equal(buf_printf(&wanted, "%s\"headers\":{\"X-Tenant\":[\"acme\",\"second\"],\"trace.id\":\"t1\",\"raw\":{\"base64\":\"/wD+\"}},%s", cases[i].member,
                                    "\"contentType\":\"application/json\",\"orderingKey\":\"k1\"}"), 0);
        assert_str(buf_str(&out), buf_str(&wanted));
        buf_done(&out);
        buf_done(&wanted);
        ev_free(ev);
    }
}

// ---- any edit of any event -------------------------------------------------------------------------------------------------

static uint64_t random_state;

static unsigned random_below(unsigned n) { // xorshift
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 11) % n;
}

static const char *any(const char *const *list, size_t count) {
    return list[random_below((unsigned)count)];
}
#define ANY(list) any(list, array_len(list))

static void put(struct buf *out, const char *text) {
    assert_int_equal(buf_append(out, str_of(text)), 0);
}

static const char *const blanks[] = {"", "", "", " ", "\n\t"};
static const char *const names[] = {"\"a\"", "\"b\"", "\"\\u0061\"", "\"c d\"", "\"0\"", "\"a/~b\"", "\"\"", "\"\xc3\xa9\"", "\"x\\u0000\""};
static const char *const scalars[] = {"0", "1.00", "-12345678901234567890123", "1e999", "\"x\"", "\"\\u0000\\ud83d\"", "\"\xe4\xb8\xad\"", "null", "true", "\"\"", "\"eA==\""};
static const char *const header_names[] = {"h", "H", "x-a", "X-A", "a", "\xff", "b/~"};
static const char *const header_values[] = {"", "v", "w", "\xfe", "\"{", "\xc3\xa9"};

static void put_json(struct buf *out, unsigned depth) {
    put(out, ANY(blanks));
    unsigned kind = depth ? random_below(3) : 0;
    if (kind == 0) put(out, ANY(scalars));
    for (unsigned n = kind ? random_below(4) : 0, i = 0; kind && i <= n; i++) {
        put(out, i ? "," : kind == 1 ? "{" : "[");
        if (n == 0) break;
        put(out, ANY(blanks));
        if (kind == 1) put(out, ANY(names));
        if (kind == 1) put(out, random_below(4) ? ":" : " : ");
        put_json(out, depth - 1);
    }
    if (kind) put(out, kind == 1 ? "}" : "]");
    put(out, ANY(blanks));
}

static void put_path(struct buf *out) {
    static const char *const parts[] = {"/a", "/b", "/0", "/1", "/2", "/-", "/c d", "/a~1~0b", "/", "/\xc3\xa9", "/x\\u0000"};
    static const char *const other[] = {"/headers/h", "/headers/X-a", "/headers/new", "/headers/h/0", "/headers/b~1~0", "/headers", "/contentType", "/orderingKey",
                                        "/payloadText", "/payloadBase64", "/headers/x-a/1"};
    if (random_below(3) == 0) {
        put(out, ANY(other));
        return;
    }
    put(out, "/payload");
    for (unsigned n = random_below(3); n; n--) put(out, ANY(parts));
}

static void put_edit(struct buf *out) {
    static const char *const ops[] = {"add", "remove", "replace", "move", "copy"};
    put(out, "{\"patch\":[");
    for (unsigned n = random_below(3), i = 0; i < n; i++) {
        put(out, i ? ",{\"op\":\"" : "{\"op\":\"");
        put(out, ANY(ops));
        put(out, "\",\"path\":\"");
        put_path(out);
        put(out, "\",\"from\":\"");
        put_path(out);
        put(out, "\",\"value\":");
        put_json(out, 2);
        put(out, "}");
    }
    put(out, "],\"set\":{");
    for (unsigned n = random_below(2), i = 0; i < n; i++) {
        put(out, i ? ",\"" : "\"");
        put_path(out);
        put(out, "\":");
        put_json(out, 1);
    }
    put(out, random_below(3) ? "},\"unset\":[]}" : "},\"unset\":[\"");
    if (buf_str(out).data[buf_len(out) - 1] == '}') return;
    put_path(out);
    put(out, "\"]}");
}

static struct ev *random_event(struct buf *payload) {
    struct ev_header headers[8];
    struct ev_fields f = {.id = {{7}}, .accepted_ms = 5, .function = STR_LIT("f"), .headers = headers, .header_count = random_below(7)};
    for (size_t i = 0; i < f.header_count; i++) headers[i] = (struct ev_header){str_of(ANY(header_names)), str_of(ANY(header_values))};
    f.ordering_key = str_of(ANY(header_values));
    f.content_type = str_of(ANY(header_values));
    buf_clear(payload);
    if (random_below(8) == 0) put(payload, ANY(header_values));
    else put_json(payload, 4);
    f.payload = buf_str(payload);
    return ev_new(&f);
}

static void test_patch_and_inverse_are_exact(void **state) {
    (void)state;
    struct buf payload, edit;
    buf_init(&payload, SIZE_MAX / 2);
    buf_init(&edit, SIZE_MAX / 2);
    random_state = 4711;
    unsigned done = 0;
    for (int i = 0; i < 100000; i++) {
        struct edited ed = {0};
        struct ev *ev = random_event(&payload);
        buf_clear(&edit);
        put_edit(&edit);
        if (apply(buf_str(&edit), ev, &ed, NULL) == 0 && ed.ev) done++;
        edited_done(&ed);
        ev_free(ev);
    }
    assert_true(done > 10000);
    buf_done(&payload);
    buf_done(&edit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_unset),
        cmocka_unit_test(test_order_of_the_kinds),
        cmocka_unit_test(test_a_change_that_changes_nothing),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_a_header_that_no_path_can_name_stays),
        cmocka_unit_test(test_headers_are_texts),
        cmocka_unit_test(test_headers_are_counted),
        cmocka_unit_test(test_content_type_and_key),
        cmocka_unit_test(test_forms_of_a_payload),
        cmocka_unit_test(test_forms_are_kept_apart),
        cmocka_unit_test(test_patch),
        cmocka_unit_test(test_patch_errors_name_the_operation),
        cmocka_unit_test(test_wrong_edits),
        cmocka_unit_test(test_operations_are_counted),
        cmocka_unit_test(test_everything_else_stays),
        cmocka_unit_test(test_payloads_have_an_end),
        cmocka_unit_test(test_work_has_an_end),
        cmocka_unit_test(test_deep_payloads),
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_patch_and_inverse_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
