// SPDX-License-Identifier: Apache-2.0
// Two renderers in the manner of core/shape_*.c: members are appended one after the other, and their errors are joined with |.
#include "dlq/vendor_letter.h"

#include <jansson.h>

#include "core/base/text.h"
#include "core/fire.h"
#include "core/shape_parts.h"

int vendor_parse(struct str word, enum vendor *ret, struct err *err) {
    static const char *const words[] = {
#define X(name, word) [name] = (word),
        VENDORS(X)
#undef X
    };
    for (size_t i = 0; i < array_len(words); i++)
        if (str_is(word, words[i])) {
            *ret = (enum vendor)i;
            return 0;
        }
#define X(name, word) " " word
    return err_set(err, ERR_INVALID, "no form of a letter is called \"%.*s\"; there are:" VENDORS(X),
                   (int)(word.len < 60 ? word.len : 60), word.data);
#undef X
}

// --- what failed --------------------------------------------------------------------------------------------------

// The outcome of the last attempt, a word of OUTCOMES, into out; "" when there was none.
static void last_outcome(const struct ev *ev, char out[16]) {
    json_auto_t *history = json_loadb(ev->f.history.data ? ev->f.history.data : "", ev->f.history.len, JSON_ALLOW_NUL, NULL);
    const json_t *attempt = json_array_get(history, json_array_size(history) - 1);
    const char *word = json_string_value(json_object_get(attempt, "outcome"));
    if (!word || text_format(out, 16, "%s", word) < 0) *out = '\0';
}

static bool is_out_of_memory(struct str type) {
    return str_is(type, "MemoryError") || str_is(type, "OutOfMemoryError") || str_is(type, "java.lang.OutOfMemoryError");
}

// SCF's status codes. -1 is what its own message has for an exception of the handler (whose status would be 430).
#define SCF_EXCEPTION (-1)
static int scf_code(const struct vendor_failure *f) {
    static const struct {
        const char *kind;
        int code;
    } kinds[] = {
        {"throttled", 432}, {"expired", 432},   {"platform", 500}, {"undecodable", 436},
        {"unroutable", 435}, {"delayed", 202},
    };
    static const struct {
        const char *outcome;
        int code;
    } outcomes[] = {{"timeout", 433}, {"crash", 439}, {"throttled", 432}, {"platform", 500}};
    for (size_t i = 0; i < array_len(kinds); i++)
        if (str_is(f->kind, kinds[i].kind)) return kinds[i].code;
    if (is_out_of_memory(f->error_type)) return 434;
    char outcome[16];
    last_outcome(f->ev, outcome);
    for (size_t i = 0; i < array_len(outcomes); i++)
        if (strcmp(outcome, outcomes[i].outcome) == 0) return outcomes[i].code;
    return SCF_EXCEPTION;
}

static struct str lambda_condition(const struct vendor_failure *f) {
    bool aged = str_is(f->kind, "throttled") || str_is(f->kind, "expired");
    return aged ? STR_LIT("EventAgeExceeded") : STR_LIT("RetriesExhausted");
}

// --- parts --------------------------------------------------------------------------------------------------------

static int put(struct buf *out, const char *literal) {
    return buf_append(out, str_of(literal));
}

static int put_number(struct buf *out, const char *name, int64_t n) {
    return buf_printf(out, "%s%lld", name, (long long)n);
}

static int put_text(struct buf *out, const char *name, struct str text) {
    int rc = put(out, name);
    return rc | text_append_json(out, text);
}

static struct str qualifier(const struct ev *ev) {
    return ev->f.qualifier.len ? ev->f.qualifier : STR_LIT("$LATEST");
}

// Of records and fires there is the vendor's shape; bytes that weir could not read have none.
static bool has_shape(const struct vendor_failure *f) {
    struct str kind = f->ev->f.source_kind;
    return (str_is(kind, "kafka") || str_is(kind, "amqp") || str_is(kind, FIRE_SOURCE)) && !str_is(f->kind, "undecodable");
}

static bool is_text(struct str bytes) {
    return text_is_utf8(bytes) && (bytes.len == 0 || !memchr(bytes.data, '\0', bytes.len));
}

// What the function got, as a string: text, or base64 of bytes that are none. *ret_base64 says which.
static int put_as_string(struct buf *out, struct str event, bool *ret_base64) {
    *ret_base64 = !is_text(event);
    return *ret_base64 ? shape_put_base64(out, event) : text_append_json(out, event);
}

// JSON as it is, but in one line: outside of its strings a line feed is a blank like any other, and inside there is none.
static int put_in_line(struct buf *out, struct str json) {
    char *to = buf_reserve(out, json.len);
    if (!to) return ERR_TOO_LARGE;
    for (size_t i = 0; i < json.len; i++) to[i] = json.data[i] == '\n' || json.data[i] == '\r' ? ' ' : json.data[i];
    buf_added(out, json.len);
    return 0;
}

// --- SCF ----------------------------------------------------------------------------------------------------------

// "TRIGGER_TIMER": the vendor's names of its triggers; a source that it does not have keeps its own name.
static int put_scf_source(struct buf *out, struct str kind) {
    char name[64] = "TRIGGER_";
    size_t n = strlen(name);
    if (str_is(kind, "kafka")) kind = STR_LIT("CKAFKA");
    else if (str_is(kind, "amqp")) kind = STR_LIT("CMQ");
    for (size_t i = 0; i < kind.len && n < sizeof name; i++, n++) {
        char c = kind.data[i];
        name[n] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    return put_text(out, ",\"RequestSource\":", (struct str){name, n});
}

// The traceback is the message, as the vendor has it; without one, "type: message".
static int put_scf_message(struct buf *out, const struct vendor_failure *f) {
    if (f->stack.len) return put_text(out, ",\"ErrorMessage\":", f->stack);
    int rc = put_text(out, ",\"ErrorMessage\":", f->error_type);
    if (f->error_type.len && f->error_message.len) rc = shape_more_text(out, rc, STR_LIT(": "));
    return shape_more_text(out, rc, f->error_message);
}

static int put_scf_body(struct buf *out, const struct vendor_failure *f, struct str event) {
    const struct ev_fields *e = &f->ev->f;
    bool base64 = false;
    int rc = put(out, ",\"Body\":{\"AppId\":0,\"Uin\":\"0\",\"SubAccountUin\":\"0\"");
    rc |= put_scf_source(out, e->source_kind);
    rc |= put_text(out, ",\"FunctionName\":", e->function);
    rc |= put_text(out, ",\"Namespace\":\"default\",\"Qualifier\":", qualifier(f->ev));
    rc |= put(out, e->invocation == EV_SYNC ? ",\"InvocationType\":\"RequestResponse\"" : ",\"InvocationType\":\"Event\"");
    rc |= put(out, ",\"ClientContext\":");
    rc |= put_as_string(out, event, &base64);
    rc |= base64 ? put(out, ",\"isBase64Encoded\":true") : 0;
    rc |= put_number(out, ",\"LogType\":\"None\",\"TimeStampForInvoker\":\"", e->accepted_ms);
    rc |= put(out, "\",\"RequestId\":");
    rc |= shape_put_id(out, f->ev);
    rc |= put(out, ",\"PushTime\":");
    rc |= shape_put_time(out, f->died_ms);
    rc |= put_number(out, ",\"RetryNum\":", e->attempt ? (int64_t)e->attempt - 1 : 0);
    return rc | put(out, ",\"Ttl\":0}");
}

static int put_scf(struct buf *out, const struct vendor_failure *f, struct str event) {
    int rc = put(out, "{\"RequestId\":");
    rc |= shape_put_id(out, f->ev);
    rc |= put_number(out, ",\"ErrorCode\":", scf_code(f));
    rc |= put_scf_message(out, f);
    rc |= put_scf_body(out, f, event);
    return rc | put(out, "}");
}

// --- Lambda -------------------------------------------------------------------------------------------------------

static int put_lambda_context(struct buf *out, const struct vendor_failure *f) {
    int rc = put(out, ",\"requestContext\":{\"requestId\":");
    rc |= shape_put_id(out, f->ev);
    rc |= put(out, ",\"functionArn\":\"arn:weir:lambda:::function:\"");
    rc = shape_more_text(out, rc, f->ev->f.function);
    rc = shape_more_text(out, rc, STR_LIT(":"));
    rc = shape_more_text(out, rc, qualifier(f->ev));
    rc |= put_text(out, ",\"condition\":", lambda_condition(f));
    rc |= put_number(out, ",\"approximateInvokeCount\":", f->ev->f.attempt);
    return rc | put(out, "}");
}

static int put_stack_lines(struct buf *out, struct str stack) {
    int rc = put(out, ",\"stackTrace\":");
    const char *before = "[";
    while (stack.len && rc == 0) {
        const char *end = memchr(stack.data, '\n', stack.len);
        size_t n = end ? (size_t)(end - stack.data) : stack.len;
        rc |= put_text(out, before, (struct str){stack.data, n});
        n += end != NULL;
        stack = (struct str){stack.data + n, stack.len - n};
        before = ",";
    }
    return rc | put(out, "]");
}

// responseContext is null when no version ran.
static int put_lambda_response(struct buf *out, const struct vendor_failure *f) {
    if (f->version == 0) return put(out, ",\"responseContext\":null");
    return buf_printf(out, ",\"responseContext\":{\"statusCode\":200,\"executedVersion\":\"%u\",\"functionError\":\"Unhandled\"}",
                      f->version);
}

static int put_lambda_error(struct buf *out, const struct vendor_failure *f) {
    int rc = put_text(out, ",\"responsePayload\":{\"errorMessage\":", f->error_message);
    if (f->error_type.len) rc |= put_text(out, ",\"errorType\":", f->error_type);
    if (f->stack.len) rc |= put_stack_lines(out, f->stack);
    return rc | put(out, "}");
}

static int put_lambda_payload(struct buf *out, struct str event) {
    bool base64 = false;
    int rc = put(out, ",\"requestPayload\":");
    rc |= shape_is_json(event) ? put_in_line(out, event) : put_as_string(out, event, &base64);
    return rc | (base64 ? put(out, ",\"isBase64Encoded\":true") : 0);
}

// Kafka has a record of its own, with the whole batch: here one record.
static int put_lambda_batch(struct buf *out, const struct ev *ev, struct str event) {
    struct shape_at at;
    shape_at_read(ev, &at);
    int rc = put(out, ",\"KafkaBatchInfo\":{\"batchSize\":1,\"eventSourceArn\":\"arn:weir:kafka:::\"");
    rc = shape_more_text(out, rc, ev->f.source_name);
    rc |= put_number(out, ",\"payloadSize\":", (int64_t)event.len);
    rc |= put(out, ",\"recordInfo\":{\"offset\":\"");
    rc |= shape_put_integer(out, at.offset);
    rc |= put(out, "\",\"timestamp\":");
    rc |= shape_put_time(out, shape_unix_ms(ev, &at));
    rc |= put(out, "}},\"payload\":");
    return rc | buf_append(out, event);
}

static int put_lambda(struct buf *out, const struct vendor_failure *f, struct str event) {
    bool kafka = has_shape(f) && str_is(f->ev->f.source_kind, "kafka");
    int rc = put(out, "{\"version\":\"1.0\",\"timestamp\":");
    rc |= shape_put_time(out, f->died_ms);
    rc |= put_lambda_context(out, f);
    rc |= kafka ? 0 : put_lambda_payload(out, event);
    rc |= put_lambda_response(out, f);
    rc |= put_lambda_error(out, f);
    rc |= kafka ? put_lambda_batch(out, f->ev, event) : 0;
    return rc | put(out, "}");
}

// ------------------------------------------------------------------------------------------------------------------

static int put_letter(struct buf *out, enum vendor v, const struct vendor_failure *f, struct buf *shaped) {
    struct str event = f->ev->f.payload;
    if (has_shape(f)) {
        int rc = shape_append(shaped, v == VENDOR_SCF ? SHAPE_SCF : SHAPE_LAMBDA, (const struct ev *const[]){f->ev}, 1, NULL);
        if (rc < 0) return rc;
        event = buf_str(shaped);
    }
    return v == VENDOR_SCF ? put_scf(out, f, event) : put_lambda(out, f, event);
}

int vendor_letter_append(struct buf *out, enum vendor v, const struct vendor_failure *f, struct err *err) {
    MUST(v == VENDOR_SCF || v == VENDOR_LAMBDA);
    size_t before = buf_len(out);
    struct buf shaped;
    buf_init(&shaped, out->cap);
    int rc = put_letter(out, v, f, &shaped);
    buf_done(&shaped);
    if (rc == 0) return 0;
    out->end = out->start + before;
    return err_set(err, ERR_TOO_LARGE, "a letter with a payload of %zu bytes passes %zu bytes in this form", f->ev->f.payload.len,
                   out->cap);
}
