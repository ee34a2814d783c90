// SPDX-License-Identifier: Apache-2.0
// Follows a replay: asks the server how far it is until everything was sent and the outcomes are known. A server that is away for a while
// is asked again; Ctrl-C ends the following only.
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/dlq_replay.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "core/base/clock.h"

#define ASK_FIRST_MS 100
#define ASK_LAST_MS 1000
#define ASK_TIMEOUT_MS 10000
#define STILL_MS 10000 // outcomes that do not change for so long are not waited for
#define AWAY_MS 60000  // a server may be away for so long

struct follow {
    const struct args *a;
    struct client *c;
    int64_t number;
    json_t *replay;     // as the server said last
    struct progress progress;
    int64_t known;      // outcomes
    int64_t changed_ns; // when that number changed last
    int64_t away_ns;    // since when no answer comes; 0: they come
    int64_t pause_ms;   // before the next question
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo) {
    (void)signo;
    interrupted = 1;
}

// The second Ctrl-C ends the process, as ever. One that ignores it (nohup) goes on ignoring it.
static void catch_interrupt(void) {
    struct sigaction before, act = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN) (void)sigaction(SIGINT, &act, NULL);
}

static int64_t count(const struct follow *f, const char *member) {
    return member_int(f->replay, member, 0);
}

static bool is_state(const struct follow *f, const char *state) {
    return strcmp(member_text(f->replay, "state", ""), state) == 0;
}

// --- asking -------------------------------------------------------------------------------------------------------

static void take_answer(struct follow *f, json_t *replay) {
    json_decref(f->replay);
    f->replay = replay;
    int64_t known = count(f, "ok") + count(f, "failing") + count(f, "dead"), now_ns = clock_mono_ns();
    if (known != f->known || is_state(f, "running")) f->changed_ns = now_ns;
    f->known = known;
}

// No usable answer. Says why when it has been so for too long.
static int on_away(struct follow *f, const char *why) {
    int64_t now_ns = clock_mono_ns();
    if (!f->away_ns) f->away_ns = now_ns;
    if (now_ns - f->away_ns < AWAY_MS * NS_PER_MS) {
        if (progress_due(&f->progress)) progress_show("replay %" PRId64 ": the server is away, trying again", f->number);
        return EXIT_OK;
    }
    progress_end();
    out_fail("%s", why);
    out_note("the replay goes on where the server goes on; weir dlq replays --watch %" PRId64 " follows it", f->number);
    return EXIT_FAILED;
}

static bool is_away(int status) {
    return status == 429 || status >= 500;
}

static int ask(struct follow *f) {
    char path[64];
    MUST(text_format(path, sizeof path, "/v1/replays/%" PRId64, f->number) == 0);
    const struct request request = {.method = "GET", .path = path, .timeout_ms = ASK_TIMEOUT_MS};
    struct reply reply;
    struct err err;
    if (client_send(f->c, &request, &reply, &err) < 0) return on_away(f, err.text);
    json_t *answer = reply.status < 400 ? json_loadb(reply.body, reply.body_len, 0, NULL) : NULL;
    int rc = EXIT_OK;
    if (answer) {
        f->away_ns = 0;
        take_answer(f, answer);
    } else {
        cleanup_free char *why = reply_error(&reply);
        rc = is_away(reply.status) ? on_away(f, why) : out_fail("%s", why);
    }
    reply_done(&reply);
    return rc;
}

static void wait_a_little(struct follow *f) {
    struct timespec t = {.tv_sec = f->pause_ms / 1000, .tv_nsec = f->pause_ms % 1000 * NS_PER_MS};
    (void)nanosleep(&t, NULL); // Ctrl-C ends it
    f->pause_ms = f->pause_ms * 2 < ASK_LAST_MS ? f->pause_ms * 2 : ASK_LAST_MS;
}

// --- showing ------------------------------------------------------------------------------------------------------

// ", 3 skipped" when there are any; caller frees.
static char *also_text(const struct follow *f, const char *member, const char *what) {
    return count(f, member) ? mem_printf(", %" PRId64 " %s", count(f, member), what) : mem_strdup("");
}

static void show_progress(struct follow *f) {
    char bar[PROGRESS_BAR_BYTES], left[OUT_SHORT_BYTES] = "";
    if (f->away_ns || !progress_due(&f->progress)) return;
    int64_t total = count(f, "total"), sent = count(f, "sent"), eta_ms = member_int(f->replay, "etaMs", -1);
    bool running = is_state(f, "running");
    if (running && eta_ms >= 0) out_span(eta_ms, left);
    cleanup_free char *pace = running ? mem_printf("%.0f/s", member_real(f->replay, "perSecond", 0)) : mem_strdup("waiting for outcomes");
    cleanup_free char *skipped = also_text(f, "skipped", "skipped"), *unsent = also_text(f, "failed", "not sent");
    progress_show("replay %" PRId64 " %s %" PRId64 "/%" PRId64 " sent%s%s  %s  %" PRId64 " ok, %" PRId64 " failed%s%s%s", f->number,
                  progress_bar(sent, total, bar), sent, total, skipped, unsent, pace, count(f, "ok"), count(f, "failing") + count(f, "dead"),
                  *left ? "  " : "", left, *left ? " left" : "");
}

static int64_t unknown_outcomes(const struct follow *f) {
    if (member_true(f->replay, "toOrigin")) return 0; // nobody tells
    int64_t n = count(f, "sent") - count(f, "ok") - count(f, "dead");
    return n > 0 ? n : 0;
}

// Nothing is being sent, and the outcomes are known or stand still.
static bool is_over(const struct follow *f) {
    if (is_state(f, "selecting") || is_state(f, "running")) return false;
    return unknown_outcomes(f) == 0 || clock_mono_ns() - f->changed_ns >= STILL_MS * NS_PER_MS;
}

static int show_interrupted(const struct follow *f) {
    progress_end();
    out_note("replay %" PRId64 " goes on without this command", f->number);
    out_note("  weir dlq replays --watch %" PRId64 "   follows it again", f->number);
    out_note("  weir dlq pause %" PRId64 "             pauses it; weir dlq resume %" PRId64 " goes on", f->number, f->number);
    out_note("  weir dlq cancel %" PRId64 "            ends it; what was not sent stays dead", f->number);
    return EXIT_FAILED;
}

static int follow(struct follow *f) {
    for (;;) {
        if (interrupted) return show_interrupted(f);
        if (is_over(f)) break;
        show_progress(f);
        wait_a_little(f);
        if (interrupted) continue;
        int rc = ask(f);
        if (rc != EXIT_OK) return rc;
    }
    progress_end();
    return dlq_report_replay(f->a, f->c, f->replay, unknown_outcomes(f));
}

int dlq_follow_replay(const struct args *a, struct client *c, const json_t *replay) {
    struct follow f = {.a = a, .c = c, .number = member_int(replay, "replay", 0), .pause_ms = ASK_FIRST_MS};
    if (f.number <= 0) return out_fail("the server did not say the number of the replay; is it a weir server of this version?");
    catch_interrupt();
    progress_begin(&f.progress);
    take_answer(&f, json_deep_copy(replay));
    f.changed_ns = clock_mono_ns();
    int rc = follow(&f);
    json_decref(f.replay);
    return rc;
}
