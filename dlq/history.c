// SPDX-License-Identifier: Apache-2.0
#include "dlq/history.h"

#include <unistd.h>

#include "core/base/text.h"

#define STACK_MAX (16u * 1024)
#define MESSAGE_MAX (8u * 1024)

static struct str first_bytes(struct str s, size_t max) {
    return s.len > max ? (struct str){s.data, max} : s;
}

// "host:pid" of this process, made once.
static const char *worker_name(void) {
    static char name[96];
    if (name[0]) return name;
    char host[64] = "localhost";
    if (gethostname(host, sizeof host - 1)) snprintf(host, sizeof host, "localhost");
    snprintf(name, sizeof name, "%s:%d", host, (int)getpid());
    return name;
}

static int put_text(struct buf *out, const char *key, struct str value) {
    if (value.len == 0) return 0;
    int rc = buf_printf(out, ",\"%s\":", key);
    return rc ? rc : text_append_json(out, value);
}

static int put_attempt(struct buf *out, uint32_t attempt, const struct outcome_report *r) {
    int rc = buf_printf(out,
                        "{\"attempt\":%u,\"startMs\":%lld,\"durationMs\":%.3f,\"instance\":%d,\"version\":%u,\"outcome\":\"%s\"",
                        attempt, (long long)r->start_unix_ms, (double)r->duration_us / 1000.0, r->instance_pid, r->version,
                        outcome_word(r->outcome));
    if (rc == 0) rc = put_text(out, "worker", str_of(worker_name()));
    if (rc == 0) rc = put_text(out, "errorType", first_bytes(r->error_type, 256));
    if (rc == 0) rc = put_text(out, "errorMessage", first_bytes(r->error_message, MESSAGE_MAX));
    if (rc == 0) rc = put_text(out, "stack", first_bytes(r->stack, STACK_MAX));
    if (rc == 0) rc = put_text(out, "log", r->log_tail);
    return rc ? rc : buf_append(out, STR_LIT("}"));
}

void history_append(struct buf *out, struct str old, uint32_t attempt, const struct outcome_report *report) {
    struct buf one;
    buf_init(&one, HISTORY_MAX);
    int rc = put_attempt(&one, attempt, report);
    MUST(rc == 0); // the parts are capped far below it: escapes make six bytes of one at most
    bool has_old = old.len > 2 && old.data[0] == '[' && old.data[old.len - 1] == ']';
    if (has_old && old.len + buf_len(&one) + 2 > HISTORY_MAX) {
        rc = buf_append(out, STR_LIT("[{\"omitted\":true},"));
    } else if (has_old) {
        rc = buf_append(out, (struct str){old.data, old.len - 1});
        if (rc == 0) rc = buf_append(out, STR_LIT(","));
    } else {
        rc = buf_append(out, STR_LIT("["));
    }
    if (rc == 0) rc = buf_append(out, buf_str(&one));
    if (rc == 0) rc = buf_append(out, STR_LIT("]"));
    MUST(rc == 0);
    buf_done(&one);
}

json_t *history_parse(struct str history) {
    return json_loadb(history.data ? history.data : "", history.len, JSON_ALLOW_NUL, NULL);
}

struct str history_last_stack(const json_t *history) {
    size_t n = json_array_size(history);
    const json_t *stack = n ? json_object_get(json_array_get(history, n - 1), "stack") : NULL;
    return (struct str){json_string_value(stack), json_string_length(stack)};
}
