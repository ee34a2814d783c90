// SPDX-License-Identifier: Apache-2.0
// What happened to a letter, in the order in which it happened.
#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/pretty.h"
#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/id.h"

#define ERROR_WIDTH 100
#define PATCH_WIDTH 120

// --- one line and what belongs to it --------------------------------------------------------------------------------

static void begin_line(int64_t ms) {
    char at[CLOCK_TEXT_BYTES] = "-";
    if (ms > 0) clock_format_utc(ms, at);
    printf("  %s%-24s%s  ", out_tone(stdout, TONE_DIM), at, out_tone(stdout, TONE_PLAIN));
}

static void print_line(int64_t ms, const char *text) {
    begin_line(ms);
    cleanup_free char *line = out_cut(text, 1000);
    out_text(stdout, str_of(line));
    putchar('\n');
}

static void print_part(const char *label, const char *text) {
    if (!*text) return;
    printf("    %s%s%s\n", out_tone(stdout, TONE_DIM), label, out_tone(stdout, TONE_PLAIN));
    out_block(stdout, "      ", str_of(text));
}

static char *value_text(const json_t *value) {
    if (json_is_string(value)) return mem_strdup(json_string_value(value));
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    return text ? text : mem_strdup("");
}

// --- where it came from ---------------------------------------------------------------------------------------------

// "topic orders, partition 3, offset 7" of {"topic":"orders",…}; other texts as they are. Caller frees.
static char *coordinates_text(const json_t *at) {
    json_auto_t *parsed = json_is_string(at) ? json_loads(json_string_value(at), 0, NULL) : NULL;
    const json_t *o = json_is_object(parsed) ? parsed : at;
    if (!json_is_object(o)) return value_text(o);
    char *text = mem_strdup("");
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)o, name, value) {
        cleanup_free char *shown = value_text(value), *before = text;
        text = mem_printf("%s%s%s %s", before, *before ? ", " : "", name, shown);
    }
    return text;
}

// "kafka: trigger kafka-orders, topic orders, partition 3, offset 7"; caller frees.
static char *source_text(const json_t *letter) {
    const json_t *source = json_object_get(letter, "source");
    const char *name = member_text(source, "name", "");
    cleanup_free char *at = coordinates_text(json_object_get(source, "at"));
    return mem_printf("%s%s%s%s%s", member_text(source, "kind", "?"), *name ? ": trigger " : "", name,
                      *at ? (*name ? ", " : ": ") : "", at);
}

// An event that is put off counts from when it is due; its id was made when it was accepted.
static int64_t accepted_ms(const json_t *letter) {
    struct id id;
    int64_t ms = member_int(letter, "acceptedMs", 0), now_ms = clock_unix_ms();
    bool http = strcmp(member_text(json_object_get(letter, "source"), "kind", ""), "http") == 0;
    if ((http || ms > now_ms) && id_parse(str_of(member_text(letter, "id", "")), &id) == 0 && id_unix_ms(&id) < ms) ms = id_unix_ms(&id);
    return ms > now_ms ? 0 : ms;
}

static void print_accepted(const json_t *letter) {
    const char *origin = member_text(letter, "originId", NULL);
    cleanup_free char *source = source_text(letter), *key = pretty_bytes(json_object_get(letter, "orderingKey"));
    cleanup_free char *text = mem_printf("accepted from %s%s%s%s%s", source, *key ? ", key " : "", key,
                                         origin ? ", as a replay of " : "", origin ? origin : "");
    print_line(accepted_ms(letter), text);
}

// --- attempts -------------------------------------------------------------------------------------------------------

static bool is_same_error(const json_t *a, const json_t *b) {
    return strcmp(member_text(a, "errorType", ""), member_text(b, "errorType", "")) == 0 &&
           strcmp(member_text(a, "errorMessage", ""), member_text(b, "errorMessage", "")) == 0;
}

static void print_attempt_line(const json_t *attempt) {
    char span[OUT_SHORT_BYTES];
    int64_t number = member_int(attempt, "attempt", 0);
    const char *outcome = member_text(attempt, "outcome", "?"), *worker = member_text(attempt, "worker", "");
    begin_line(member_int(attempt, "startMs", 0));
    if (number > 0) printf("attempt %lld  ", (long long)number);
    else fputs("not counted  ", stdout);
    printf("%s  %s", out_span(member_int(attempt, "durationMs", 0), span), out_tone(stdout, TONE_BAD));
    out_text(stdout, str_of(outcome));
    fputs(out_tone(stdout, TONE_PLAIN), stdout);
    if (member_int(attempt, "version", 0)) printf("  version %lld", (long long)member_int(attempt, "version", 0));
    if (*worker) {
        fputs("  on ", stdout);
        out_text(stdout, str_of(worker));
    }
    if (member_int(attempt, "instance", 0)) printf(" (process %lld)", (long long)member_int(attempt, "instance", 0));
    putchar('\n');
}

// The attempts before the last have one line of their error, none when it is that of the one before, unless all are wanted whole.
static void print_attempt(const json_t *history, size_t i, bool whole) {
    const json_t *attempt = json_array_get(history, i), *before = i > 0 ? json_array_get(history, i - 1) : NULL;
    cleanup_free char *error = dlq_error_text(attempt), *line = out_cut(error, ERROR_WIDTH);
    print_attempt_line(attempt);
    if (whole || i + 1 == json_array_size(history)) {
        out_block(stdout, "    ", str_of(error));
        print_part("stack", member_text(attempt, "stack", ""));
        print_part("log", member_text(attempt, "log", ""));
    } else if (!before || !is_same_error(attempt, before)) {
        out_block(stdout, "    ", str_of(line));
    } else {
        puts("    the same error");
    }
}

// --- edits, replays, ends -------------------------------------------------------------------------------------------

void dlq_print_patch(const json_t *patch, const char *indent) {
    size_t i;
    const json_t *operation;
    if (json_is_string(patch)) out_block(stdout, indent, str_of(json_string_value(patch))); // it has numbers beyond 64 bits
    json_array_foreach(patch, i, operation) {
        const json_t *value = json_object_get(operation, "value");
        cleanup_free char *shown = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        cleanup_free char *text = mem_printf("%s %s%s%s", member_text(operation, "op", "?"), member_text(operation, "path", "?"),
                                             shown ? " " : "", shown ? shown : "");
        cleanup_free char *line = out_cut(text, PATCH_WIDTH);
        out_block(stdout, indent, str_of(line));
    }
}

static void print_edit(const json_t *edit) {
    const char *who = member_text(edit, "who", ""), *why = member_text(edit, "why", "");
    cleanup_free char *text = mem_printf("edited%s%s, revision %lld%s%s", *who ? " by " : "", who,
                                         (long long)member_int(edit, "revision", 0), *why ? ": " : "", why);
    print_line(member_int(edit, "atMs", 0), text);
    dlq_print_patch(json_object_get(edit, "patch"), "    ");
}

static void print_replay(const json_t *replay) {
    const char *state = member_text(replay, "state", "?"), *why = member_text(replay, "why", "");
    const char *event = member_text(replay, "eventId", NULL), *outcome = member_text(replay, "outcome", NULL);
    bool sent = strcmp(state, "sent") == 0;
    cleanup_free char *text =
        mem_printf("replay %lld: %s%s%s%s%s%s%s", (long long)member_int(replay, "replay", 0), state, event ? " as " : "",
                   event ? event : "", sent && event ? ", " : "", sent && event ? (outcome ? outcome : "not ended yet") : "",
                   *why ? ": " : "", why);
    print_line(member_int(replay, "atMs", 0), text);
}

static void print_died(const json_t *letter) {
    char age[OUT_SHORT_BYTES];
    int64_t n = member_int(letter, "attempts", 0), ms = member_int(letter, "diedMs", 0);
    cleanup_free char *text = mem_printf("died after %lld attempt%s, %s ago", (long long)n, plural(n), out_age(ms, age));
    print_line(ms, text);
}

// Discarded, restored, replaying, or what it waits for; nothing for a letter that only died.
static void print_end(const json_t *letter) {
    char span[OUT_SHORT_BYTES];
    const char *state = member_text(letter, "state", ""), *why = member_text(letter, "why", "");
    int64_t changed_ms = member_int(letter, "changedMs", 0), due_ms = member_int(letter, "dueMs", 0);
    if (strcmp(state, "due") == 0) {
        int64_t left_ms = due_ms - clock_unix_ms();
        cleanup_free char *text = left_ms > 0 ? mem_printf("due in %s", out_span(left_ms, span)) : mem_strdup("due now");
        print_line(due_ms, text);
    } else if (strcmp(state, "dead") == 0 && *why) {
        cleanup_free char *text = mem_printf("restored: %s", why);
        print_line(changed_ms, text);
    } else if (strcmp(state, "discarded") == 0 || strcmp(state, "replaying") == 0) {
        cleanup_free char *text = mem_printf("%s%s%s", state, *why ? ": " : "", why);
        print_line(changed_ms, text);
    }
}

// --- in order -------------------------------------------------------------------------------------------------------

// At one time they stand in the order of these.
enum kind { ACCEPTED, ATTEMPT, DIED, EDITED, REPLAYED, ENDED };
struct happened {
    int64_t ms;
    enum kind kind;
    size_t index;
};

static int by_time(const void *a, const void *b) {
    const struct happened *x = a, *y = b;
    if (x->ms != y->ms) return x->ms < y->ms ? -1 : 1;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static size_t add_all(struct happened *list, size_t count, enum kind kind, const json_t *of, const char *time) {
    size_t i;
    const json_t *one;
    json_array_foreach(of, i, one) list[count++] = (struct happened){member_int(one, time, 0), kind, i};
    return count;
}

void dlq_print_life(const json_t *letter, bool all_attempts) {
    const json_t *history = json_object_get(letter, "history"), *edits = json_object_get(letter, "edits");
    const json_t *replays = json_object_get(letter, "replays");
    bool was_due = strcmp(member_text(letter, "state", ""), "due") == 0;
    size_t n = 0;
    cleanup_free struct happened *list =
        mem_array(3 + json_array_size(history) + json_array_size(edits) + json_array_size(replays), sizeof *list);
    list[n++] = (struct happened){INT64_MIN, ACCEPTED, 0};
    n = add_all(list, n, ATTEMPT, history, "startMs");
    if (!was_due && member_int(letter, "diedMs", 0)) list[n++] = (struct happened){member_int(letter, "diedMs", 0), DIED, 0};
    n = add_all(list, n, EDITED, edits, "atMs");
    n = add_all(list, n, REPLAYED, replays, "atMs");
    list[n++] = (struct happened){was_due ? INT64_MAX : member_int(letter, "changedMs", 0), ENDED, 0};
    qsort(list, n, sizeof *list, by_time);
    for (size_t i = 0; i < n; i++) {
        switch (list[i].kind) {
        case ACCEPTED: print_accepted(letter); break;
        case ATTEMPT: print_attempt(history, list[i].index, all_attempts); break;
        case DIED: print_died(letter); break;
        case EDITED: print_edit(json_array_get(edits, list[i].index)); break;
        case REPLAYED: print_replay(json_array_get(replays, list[i].index)); break;
        case ENDED: print_end(letter); break;
        }
    }
}
