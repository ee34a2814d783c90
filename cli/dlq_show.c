// SPDX-License-Identifier: Apache-2.0
// weir dlq show: the whole life of one letter, for reading.
#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/out.h"
#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/digest.h"

#define HEX_SHOWN 256

static void print_text(const char *label, const char *text) {
    if (!text || !*text) return;
    printf("  %-12s", label);
    out_text(stdout, str_of(text));
    putchar('\n');
}

static void print_time(const char *label, int64_t ms) {
    char at[CLOCK_TEXT_BYTES], age[OUT_SHORT_BYTES];
    if (ms <= 0) return;
    clock_format_utc(ms, at);
    printf("  %-12s%s", label, at);
    if (ms > clock_unix_ms()) printf(" (in %s)\n", out_span(ms - clock_unix_ms(), age));
    else printf(" (%s ago)\n", out_age(ms, age));
}

static void print_title(const char *title) {
    printf("\n%s%s%s\n", out_tone(stdout, TONE_BOLD), title, out_tone(stdout, TONE_PLAIN));
}

static void print_source(const json_t *letter) {
    const json_t *source = json_object_get(letter, "source");
    if (!json_is_object(source)) return;
    const json_t *at = json_object_get(source, "at");
    cleanup_free char *coordinates = NULL;
    if (json_is_string(at)) coordinates = mem_strdup(json_string_value(at));
    else if (at && !json_is_null(at)) coordinates = json_dumps(at, JSON_COMPACT | JSON_ENCODE_ANY);
    const char *name = member_text(source, "name", "");
    cleanup_free char *text = mem_printf("%s%s%s%s%s", member_text(source, "kind", ""), *name ? " " : "", name,
                                         coordinates && *coordinates ? " " : "", coordinates ? coordinates : "");
    print_text("source", text);
}

static void print_head(const json_t *letter) {
    const char *state = member_text(letter, "state", "?");
    enum tone tone = strcmp(state, "dead") == 0 ? TONE_BAD : TONE_WARN;
    printf("%s%s%s\n", out_tone(stdout, TONE_BOLD), member_text(letter, "id", "?"), out_tone(stdout, TONE_PLAIN));
    printf("  %-12s%s", "function", member_text(letter, "function", "?"));
    if (member_int(letter, "version", 0)) printf(":%lld", (long long)member_int(letter, "version", 0));
    printf("\n  %-12s%s%s%s", "state", out_tone(stdout, tone), state, out_tone(stdout, TONE_PLAIN));
    printf(" (kind %s, %lld attempt%s)\n", member_text(letter, "kind", "?"), (long long)member_int(letter, "attempts", 0),
           plural(member_int(letter, "attempts", 0)));
    const char *type = member_text(letter, "errorType", ""), *message = member_text(letter, "errorMessage", "");
    cleanup_free char *error = mem_printf("%s%s%s", type, *type && *message ? ": " : "", message);
    print_text("error", error);
    print_time("accepted", member_int(letter, "acceptedMs", 0));
    print_time("changed", member_int(letter, "changedMs", 0));
    print_time("due", member_int(letter, "dueMs", 0));
    print_source(letter);
    print_text("key", member_text(letter, "orderingKey", NULL));
    print_text("replays", member_text(letter, "originId", NULL));
    print_text("replayed as", member_text(letter, "replayId", NULL));
    print_text("replayed to", member_text(letter, "to", NULL));
}

// --- attempts -----------------------------------------------------------------------------------------------------

static void print_part(const char *label, const char *text) {
    if (!*text) return;
    printf("    %s%s%s\n", out_tone(stdout, TONE_DIM), label, out_tone(stdout, TONE_PLAIN));
    out_block(stdout, "      ", str_of(text));
}

static bool is_same_error(const json_t *a, const json_t *b) {
    return strcmp(member_text(a, "errorMessage", ""), member_text(b, "errorMessage", "")) == 0 &&
           strcmp(member_text(a, "stack", ""), member_text(b, "stack", "")) == 0;
}

static void print_error(const json_t *attempt) {
    const char *type = member_text(attempt, "errorType", ""), *message = member_text(attempt, "errorMessage", "");
    cleanup_free char *error = mem_printf("%s%s%s", type, *type && *message ? ": " : "", message);
    out_block(stdout, "    ", str_of(error));
    print_part("stack", member_text(attempt, "stack", ""));
}

// `before` is the attempt above it, whose error is not said twice; NULL: none.
static void print_attempt(const json_t *attempt, const json_t *before) {
    char at[CLOCK_TEXT_BYTES] = "-", span[OUT_SHORT_BYTES];
    int64_t number = member_int(attempt, "attempt", 0), start_ms = member_int(attempt, "startMs", 0);
    if (start_ms > 0) clock_format_utc(start_ms, at);
    if (number > 0) printf("  %lld  ", (long long)number);
    else fputs("  -  ", stdout); // not charged
    printf("%s  %6s  %s%s%s", at, out_span(member_int(attempt, "durationMs", 0), span), out_tone(stdout, TONE_BAD),
           member_text(attempt, "outcome", "?"), out_tone(stdout, TONE_PLAIN));
    if (member_int(attempt, "version", 0)) printf("  version %lld", (long long)member_int(attempt, "version", 0));
    const char *worker = member_text(attempt, "worker", "");
    if (*worker) printf("  on %s", worker);
    if (member_int(attempt, "instance", 0)) printf(" (process %lld)", (long long)member_int(attempt, "instance", 0));
    putchar('\n');
    if (before && is_same_error(attempt, before)) puts("    the same error");
    else print_error(attempt);
    print_part("log", member_text(attempt, "log", ""));
}

static void print_attempts(const json_t *history) {
    size_t i;
    const json_t *attempt, *before = NULL;
    if (json_array_size(history) == 0) return;
    print_title("Attempts");
    json_array_foreach(history, i, attempt) {
        print_attempt(attempt, before);
        before = attempt;
    }
}

// --- headers, payload ---------------------------------------------------------------------------------------------

static void print_headers(const json_t *headers) {
    size_t i;
    const json_t *pair;
    if (json_array_size(headers) == 0) return;
    print_title("Headers");
    json_array_foreach(headers, i, pair) {
        const char *name = json_string_value(json_array_get(pair, 0)), *value = json_string_value(json_array_get(pair, 1));
        cleanup_free char *line = mem_printf("%s: %s", name ? name : "?", value ? value : "");
        out_block(stdout, "  ", str_of(line));
    }
}

static void print_hex(struct str bytes) {
    for (size_t i = 0; i < bytes.len && i < HEX_SHOWN; i++)
        printf("%s%02x%s", i % 32 == 0 ? "  " : "", (unsigned char)bytes.data[i], i % 32 == 31 || i + 1 == bytes.len ? "\n" : " ");
    if (bytes.len > HEX_SHOWN) printf("  … (--json has all of it, as base64)\n");
}

static void print_binary(const char *base64) {
    struct buf bytes;
    buf_init(&bytes, (size_t)64 << 20);
    if (base64_decode(str_of(base64), &bytes, NULL) == 0) print_hex(buf_str(&bytes));
    else print_text("base64", base64);
    buf_done(&bytes);
}

static void print_payload(const json_t *letter) {
    char size[OUT_SHORT_BYTES];
    const char *type = member_text(letter, "contentType", ""), *binary = member_text(letter, "payloadBase64", NULL);
    const json_t *payload = json_object_get(letter, "payload");
    cleanup_free char *title = mem_printf("Payload (%s%s%s)", out_size(member_int(letter, "payloadBytes", 0), size),
                                          *type ? ", " : "", type);
    print_title(title);
    if (json_is_string(payload)) {
        // As it is: reading and writing it again could change a number.
        out_block(stdout, "  ", (struct str){json_string_value(payload), json_string_length(payload)});
    } else if (binary) {
        print_binary(binary);
    }
}

static int run_show(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    json_auto_t *letter = NULL;
    int rc = dlq_fetch_one(c, a->words[0], &letter);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        out_json(letter);
        return EXIT_OK;
    }
    print_head(letter);
    print_attempts(json_object_get(letter, "history"));
    print_headers(json_object_get(letter, "headers"));
    print_payload(letter);
    return EXIT_OK;
}

const struct command dlq_show = {
    .name = "show",
    .words = "ID",
    .summary = "Shows the whole life of a letter: origin, attempts with their errors and logs, payload",
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_show,
};
