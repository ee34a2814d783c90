// SPDX-License-Identifier: Apache-2.0
// Texts to scroll in: a letter, what a try said, the keys.
#include "cli/dlq.h"
#include "cli/pretty.h"
#include "cli/watch.h"
#include "core/digest.h"
#include "core/json_text.h"

#define PAYLOAD_SHOWN ((size_t)256 << 10)
#define PAYLOAD_MAX ((size_t)64 << 20) // decoded
#define HEX_SHOWN 1024
#define HEX_A_LINE 16

// --- a letter -----------------------------------------------------------------------------------------------------

static void add_row(struct lines *l, enum tone tone, const char *label, const char *text) {
    if (*text) lines_add(l, tone, "  %-12s%s", label, text);
}

static void add_title(struct lines *l, const char *title) {
    lines_add(l, TONE_PLAIN, "%s", "");
    lines_add(l, TONE_BOLD, "%s", title);
}

static void add_head(const json_t *letter, struct lines *l) {
    const char *state = member_text(letter, "state", "?"), *why = member_text(letter, "why", "");
    int64_t version = member_int(letter, "version", 0), n = member_int(letter, "attempts", 0);
    cleanup_free char *error = dlq_error_text(letter), *key = pretty_bytes(json_object_get(letter, "orderingKey"));
    cleanup_free char *function = version ? mem_printf("%s:%lld", member_text(letter, "function", "?"), (long long)version)
                                          : mem_strdup(member_text(letter, "function", "?"));
    cleanup_free char *stands = mem_printf("%s (kind %s, %lld attempt%s)", state, member_text(letter, "kind", "?"), (long long)n, plural(n));
    lines_add(l, TONE_BOLD, "%s", member_text(letter, "id", "?"));
    add_row(l, TONE_PLAIN, "function", function);
    add_row(l, dlq_state_tone(state), "state", stands);
    add_row(l, TONE_BAD, "error", error);
    add_row(l, TONE_PLAIN, "place", member_text(letter, "place", ""));
    add_row(l, TONE_PLAIN, "group", member_text(letter, "group", ""));
    add_row(l, TONE_PLAIN, "key", key);
    add_row(l, TONE_PLAIN, "why", why);
    add_row(l, TONE_PLAIN, "replayed as", member_text(letter, "replayId", ""));
    add_row(l, TONE_PLAIN, "replayed to", member_text(letter, "to", ""));
}

// weir dlq show prints it; here its text is wanted (stdout is a variable in glibc).
static void add_life(const json_t *letter, struct lines *l) {
    char *text = NULL;
    size_t len = 0;
    FILE *terminal = stdout, *memory = open_memstream(&text, &len);
    MUST(memory);
    stdout = memory;
    dlq_print_life(letter, true);
    stdout = terminal;
    MUST(fclose(memory) == 0);
    add_title(l, "Life");
    lines_add_block(l, TONE_PLAIN, "", (struct str){text, len});
    free(text);
}

static void add_headers(const json_t *headers, struct lines *l) {
    size_t i;
    const json_t *pair;
    if (json_array_size(headers)) add_title(l, "Headers");
    json_array_foreach(headers, i, pair) {
        cleanup_free char *name = pretty_bytes(json_array_get(pair, 0)), *value = pretty_bytes(json_array_get(pair, 1));
        lines_add(l, TONE_PLAIN, "  %s: %s", name, value);
    }
}

static void add_hex(struct lines *l, struct str bytes) {
    for (size_t i = 0; i < bytes.len && i < HEX_SHOWN; i += HEX_A_LINE) {
        char hex[3 * HEX_A_LINE + 1], text[HEX_A_LINE + 1];
        size_t n = bytes.len - i < HEX_A_LINE ? bytes.len - i : HEX_A_LINE;
        for (size_t j = 0; j < n; j++) {
            unsigned char c = (unsigned char)bytes.data[i + j];
            snprintf(hex + 3 * j, 4, "%02x ", c);
            text[j] = (char)(c >= 0x20 && c < 0x7f ? c : '.');
        }
        text[n] = '\0';
        lines_add(l, TONE_PLAIN, "  %06zx  %-*s %s", i, 3 * HEX_A_LINE, hex, text);
    }
}

// The text laid out when it is JSON, at most PAYLOAD_SHOWN of it. Returns whether that is all.
static bool add_text(struct lines *l, struct str payload) {
    struct buf pretty;
    buf_init(&pretty, PAYLOAD_SHOWN);
    bool is_json = json_text_check(payload, NULL) == 0, whole = is_json && pretty_json(payload, 2, &pretty) == 0;
    struct str shown = is_json ? buf_str(&pretty) : payload;
    if (!is_json) whole = shown.len <= PAYLOAD_SHOWN;
    if (shown.len > PAYLOAD_SHOWN) shown.len = PAYLOAD_SHOWN;
    lines_add_block(l, TONE_PLAIN, "  ", shown);
    buf_done(&pretty);
    return whole;
}

static void add_payload(const json_t *letter, struct lines *l) {
    char size[OUT_SHORT_BYTES];
    const json_t *text = json_object_get(letter, "payload");
    const char *base64 = member_text(letter, "payloadBase64", "");
    cleanup_free char *type = pretty_bytes(json_object_get(letter, "contentType"));
    cleanup_free char *title = mem_printf("Payload (%s%s%s%s)", out_size(member_int(letter, "payloadBytes", 0), size), *type ? ", " : "", type,
                                          member_true(letter, "edited") ? ", edited" : "");
    struct buf bytes;
    buf_init(&bytes, PAYLOAD_MAX);
    bool whole = true;
    add_title(l, title);
    if (json_is_string(text)) {
        whole = add_text(l, (struct str){json_string_value(text), json_string_length(text)});
    } else if (base64_decode(str_of(base64), &bytes, NULL) == 0) {
        add_hex(l, buf_str(&bytes));
        whole = buf_len(&bytes) <= HEX_SHOWN;
    }
    if (!whole) lines_add(l, TONE_DIM, "  … weir dlq show %s --payload prints all of it", member_text(letter, "id", "ID"));
    if (member_true(letter, "redacted")) lines_add(l, TONE_DIM, "  *** stands for values that the server masks (--redact)");
    buf_done(&bytes);
}

void watch_letter_lines(const json_t *letter, struct lines *out) {
    add_head(letter, out);
    add_life(letter, out);
    add_headers(json_object_get(letter, "headers"), out);
    add_payload(letter, out);
}

// --- a try --------------------------------------------------------------------------------------------------------

static bool is_verdict(const json_t *result, const char *verdict) {
    return strcmp(member_text(result, "verdict", ""), verdict) == 0;
}

static enum tone verdict_tone(const json_t *result) {
    if (is_verdict(result, "passes")) return TONE_GOOD;
    return is_verdict(result, "same") ? TONE_BAD : TONE_WARN;
}

static void add_verdicts(const json_t *results, struct lines *l) {
    static const struct {
        const char *verdict, *means;
        enum tone tone;
    } kinds[] = {{"passes", "pass", TONE_GOOD}, {"same", "fail as before", TONE_BAD}, {"other", "fail otherwise", TONE_WARN},
                 {"not-run", "not run", TONE_WARN}};
    for (size_t k = 0; k < array_len(kinds); k++) {
        size_t i, n = 0;
        const json_t *result;
        json_array_foreach(results, i, result) n += is_verdict(result, kinds[k].verdict);
        if (n || k == 0) lines_add(l, n ? kinds[k].tone : TONE_PLAIN, "%6zu of %zu %s", n, json_array_size(results), kinds[k].means);
    }
}

static void add_result(const json_t *result, struct lines *l) {
    char span[OUT_SHORT_BYTES];
    cleanup_free char *error = dlq_error_text(result);
    lines_add(l, TONE_PLAIN, "%s", "");
    lines_add(l, verdict_tone(result), "%-8s %s  %s:%lld  %s", member_text(result, "verdict", "?"), member_text(result, "id", "?"),
              member_text(result, "function", "?"), (long long)member_int(result, "version", 0),
              out_span(member_int(result, "durationMs", 0), span));
    lines_add_block(l, TONE_PLAIN, "    ", str_of(is_verdict(result, "passes") ? member_text(result, "result", "") : error));
    lines_add_block(l, TONE_DIM, "      ", str_of(member_text(result, "stack", "")));
    lines_add_block(l, TONE_DIM, "    | ", str_of(member_text(result, "log", "")));
}

void watch_try_lines(const json_t *answer, struct lines *out) {
    const json_t *results = json_object_get(answer, "results"), *result;
    size_t i;
    add_verdicts(results, out);
    json_array_foreach(results, i, result) add_result(result, out);
}

// --- help ---------------------------------------------------------------------------------------------------------

void watch_help_lines(struct lines *out) {
    static const char text[] =
        "  j k  arrows  PgUp PgDn   move\n"
        "  g G  Home End            first, last\n"
        "  Enter l                  open: a group, a letter\n"
        "  Esc h                    forget the filter, then back\n"
        "  q                        back; out of the first view; Ctrl-C ends it anywhere\n"
        "  Tab                      the replays, and back\n"
        "  Ctrl-L                   ask the server now, and draw the screen anew\n"
        "\n"
        "  /                        groups: only those with this text\n"
        "                           letters: search in error, key, source and payload\n"
        "                           texts: find; n and N go on\n"
        "  w                        letters: only where this holds:\n"
        "                           payload.customer = \"acme\" and attempt >= 3\n"
        "  s                        sort otherwise\n"
        "  M                        groups: the muted ones too\n"
        "  < >  left right          texts: scroll sideways\n"
        "\n"
        "  t                        try on a version: marks nothing, shows what changes\n"
        "  r                        replay\n"
        "  d                        discard\n"
        "  T R D                    letters: the same for all that are found\n"
        "  e                        letters: edit the payload in $EDITOR\n"
        "  m                        mute a group, or show it again\n"
        "  n                        name a group, and note what is known about it\n"
        "  p c                      replays: pause or resume; cancel\n"
        "\n"
        "  What changes something asks first; Esc leaves the question.\n";
    lines_add(out, TONE_BOLD, "Keys");
    lines_add_block(out, TONE_PLAIN, "", str_of(text));
}
