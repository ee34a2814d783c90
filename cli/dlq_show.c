// SPDX-License-Identifier: Apache-2.0
// weir dlq show: one letter for reading, its payload for a file, or a replay by its number.
#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/dlq_replay.h"
#include "cli/pretty.h"
#include "core/digest.h"
#include "core/json_text.h"

#define SHOWN_BYTES 2048 // of a payload
#define HEX_SHOWN 256

static const struct arg_spec specs[] = {
    {"attempts", 'a', ARG_FLAG, NULL, "every attempt with its stack and log, not only the last one", NULL},
    {"payload", 'p', ARG_FLAG, NULL, "print the bytes of the payload and nothing else", NULL},
    {0},
};

static void print_text(const char *label, const char *text) {
    if (!text || !*text) return;
    printf("  %-12s", label);
    cleanup_free char *line = out_cut(text, 1000);
    out_text(stdout, str_of(line));
    putchar('\n');
}

static void print_title(const char *title) {
    printf("\n%s", out_tone(stdout, TONE_BOLD));
    out_text(stdout, str_of(title));
    printf("%s\n", out_tone(stdout, TONE_PLAIN));
}

static void print_head(const json_t *letter) {
    const char *state = member_text(letter, "state", "?"), *plain = out_tone(stdout, TONE_PLAIN);
    int64_t version = member_int(letter, "version", 0), attempts = member_int(letter, "attempts", 0);
    cleanup_free char *error = dlq_error_text(letter);
    printf("%s%s%s\n", out_tone(stdout, TONE_BOLD), member_text(letter, "id", "?"), plain);
    printf("  %-12s%s", "function", member_text(letter, "function", "?"));
    if (version) printf(":%lld", (long long)version);
    printf("\n  %-12s%s%s%s (kind %s, %lld attempt%s)\n", "state", out_tone(stdout, dlq_state_tone(state)), state, plain,
           member_text(letter, "kind", "?"), (long long)attempts, plural(attempts));
    print_text("error", error);
    print_text("place", member_text(letter, "place", NULL));
    print_text("group", member_text(letter, "group", NULL));
    print_text("replayed as", member_text(letter, "replayId", NULL));
    print_text("replayed to", member_text(letter, "to", NULL));
}

static void print_headers(const json_t *headers) {
    size_t i;
    const json_t *pair;
    if (json_array_size(headers) == 0) return;
    print_title("Headers");
    json_array_foreach(headers, i, pair) {
        cleanup_free char *name = pretty_bytes(json_array_get(pair, 0)), *value = pretty_bytes(json_array_get(pair, 1));
        cleanup_free char *line = mem_printf("%s: %s", name, value);
        out_block(stdout, "  ", str_of(line));
    }
}

// --- the payload --------------------------------------------------------------------------------------------------

// The payload's bytes: those of the letter, or of `room` when they came as base64.
static struct str payload_of(const json_t *letter, struct buf *room) {
    const json_t *text = json_object_get(letter, "payload");
    const char *base64 = member_text(letter, "payloadBase64", NULL);
    if (json_is_string(text)) return (struct str){json_string_value(text), json_string_length(text)};
    return base64 && base64_decode(str_of(base64), room, NULL) == 0 ? buf_str(room) : (struct str){"", 0};
}

static void print_hex(struct str bytes) {
    for (size_t i = 0; i < bytes.len && i < HEX_SHOWN; i++)
        printf("%s%02x%s", i % 32 == 0 ? "  " : "", (unsigned char)bytes.data[i],
               i % 32 == 31 || i + 1 == bytes.len || i + 1 == HEX_SHOWN ? "\n" : " ");
}

// The beginning that is shown: whole characters, and whole lines unless the first one is too long.
static struct str beginning(struct str text) {
    if (text.len <= SHOWN_BYTES) return text;
    size_t n = SHOWN_BYTES;
    while (n > 0 && ((unsigned char)text.data[n] & 0xc0) == 0x80) n--;
    const char *end = memrchr(text.data, '\n', n);
    return (struct str){text.data, end ? (size_t)(end - text.data) : n};
}

static void print_payload(const json_t *letter) {
    char size[OUT_SHORT_BYTES];
    struct buf room, pretty;
    buf_init(&room, (size_t)64 << 20);
    buf_init(&pretty, (size_t)4 * SHOWN_BYTES); // the beginning is enough
    struct str payload = payload_of(letter, &room), text = payload;
    cleanup_free char *type = pretty_bytes(json_object_get(letter, "contentType"));
    cleanup_free char *title = mem_printf("Payload (%s%s%s%s)", out_size(member_int(letter, "payloadBytes", 0), size),
                                          *type ? ", " : "", type, member_true(letter, "edited") ? ", edited" : "");
    print_title(title);
    bool is_text = json_is_string(json_object_get(letter, "payload")), cut = false;
    if (is_text && json_text_check(payload, NULL) == 0) {
        cut = pretty_json(payload, 2, &pretty) < 0;
        text = buf_str(&pretty);
    }
    struct str shown = beginning(text);
    if (is_text) out_block(stdout, "  ", shown);
    else print_hex(payload);
    if (cut || shown.len < text.len || (!is_text && payload.len > HEX_SHOWN))
        out_note("  … weir dlq show %s --payload prints all of it", member_text(letter, "id", "ID"));
    buf_done(&room);
    buf_done(&pretty);
}

static int print_raw_payload(const json_t *letter) {
    struct buf room;
    buf_init(&room, (size_t)64 << 20);
    struct str payload = payload_of(letter, &room);
    out_text(stdout, payload);
    if (out_is_terminal(stdout)) putchar('\n');
    buf_done(&room);
    if (member_true(letter, "redacted")) out_note("the server masks some of its values (--redact)");
    return EXIT_OK;
}

// --- show ---------------------------------------------------------------------------------------------------------

static void print_next(const json_t *letter) {
    const char *id = member_text(letter, "id", "?"), *group = member_text(letter, "group", "?");
    const char *state = member_text(letter, "state", "");
    if (strcmp(state, "discarded") == 0)
        out_note("\nnext:\n  weir dlq restore %s", id);
    else if (strcmp(state, "due") == 0)
        out_note("\nnext:\n  weir dlq retry %s\n  weir dlq discard %s --why TEXT", id, id);
    else if (strcmp(state, "dead") == 0)
        out_note("\nnext, for this letter, or with -g %s in place of its id for all of its group:\n"
                 "  weir dlq edit %s --set payload.PATH=JSON\n"
                 "  weir dlq try %s --to FUNCTION:VERSION\n"
                 "  weir dlq replay %s", group, id, id, id);
}

static void print_letter(const json_t *letter, bool all_attempts) {
    print_head(letter);
    print_title("Life");
    dlq_print_life(letter, all_attempts);
    print_headers(json_object_get(letter, "headers"));
    print_payload(letter);
    if (member_true(letter, "redacted")) out_note("*** stands for values that the server masks (--redact)");
    print_next(letter);
}

static bool is_number(const char *word) {
    size_t n = strspn(word, "0123456789");
    return n > 0 && n < 19 && word[n] == '\0';
}

static int run_show(const struct args *a) {
    bool payload = args_has(a, "payload");
    if (payload && args_has(a, "json")) return out_misuse("dlq show: give --payload or --json, not both");
    cleanup_client struct client *c = client_new(a);
    if (is_number(a->words[0])) {
        if (payload || args_has(a, "attempts")) return out_misuse("dlq show: %s is a replay; it has no payload and no attempts", a->words[0]);
        return dlq_show_replay(a, c, a->words[0]);
    }
    json_auto_t *letter = NULL;
    int rc = dlq_fetch_one(c, a->words[0], &letter);
    if (rc != EXIT_OK) return rc;
    if (payload) return print_raw_payload(letter);
    if (args_has(a, "json")) out_json(letter);
    else print_letter(letter, args_has(a, "attempts"));
    return EXIT_OK;
}

const struct command dlq_show = {
    .name = "show",
    .words = "ID",
    .summary = "Shows the whole life of a letter: origin, attempts, edits, replays, payload; or a replay by its number",
    .about = "\n  weir dlq show 0192f3c4-…\n"
             "  weir dlq show 0192f3c4-… --payload > case.json\n"
             "  weir dlq show 12                                   # a replay\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_show,
};
