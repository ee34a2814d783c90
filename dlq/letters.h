// SPDX-License-Identifier: Apache-2.0
// Letters: events that wait in the store. A letter with a due time is a retry (or a delayed event); one without is dead.
//
// Owns: the table `letters`. Flow: a failed attempt -> letters_put (due or dead) -> dlq/due sends the due ones back
//   when their time has come; an operator's replay sends dead ones back as new events linked to their origin.
// Delivery: done with ERR_OK means durable. A letter that is put again (same event id) replaces the row unless an
//   operator has already replayed or discarded it.
// Threads: the loop's. Blocking: never; SQL runs on the store's thread.
// Errors: ERR_UNAVAILABLE, ERR_FULL, ERR_BUSY of the store; ERR_NOT_FOUND; ERR_CONFLICT (wrong state); ERR_INVALID.
#ifndef DLQ_LETTERS_H
#define DLQ_LETTERS_H

#include <jansson.h>

#include "core/ev.h"
#include "core/store.h"
#include "dlq/select.h"

// X(name, word): the word stands in the table.
#define LETTER_STATES(X)                                                               \
    X(LETTER_DUE, "due")             /* waits for its time */                          \
    X(LETTER_DEAD, "dead")           /* waits for an operator */                       \
    X(LETTER_REPLAYING, "replaying") /* is being sent back */                          \
    X(LETTER_REPLAYED, "replayed")   /* was sent back as a new event */                \
    X(LETTER_DISCARDED, "discarded") /* an operator gave it up */
enum letter_state {
#define X(name, word) name,
    LETTER_STATES(X)
#undef X
};
const char *letter_state_word(enum letter_state s);
int letter_state_parse(struct str word, enum letter_state *ret) must_use;

// Why it is here.
#define LETTER_KINDS(X)                                                                        \
    X(LETTER_FUNCTION, "function")       /* the handler failed its attempts */                 \
    X(LETTER_THROTTLED, "throttled")     /* no room until its maximum age */                   \
    X(LETTER_PLATFORM, "platform")       /* its delivery kept ending with a dead server */     \
    X(LETTER_EXPIRED, "expired")         /* its maximum age passed before it was tried */      \
    X(LETTER_UNDECODABLE, "undecodable") /* broken bytes on the queue, kept unchanged */       \
    X(LETTER_UNROUTABLE, "unroutable")   /* its function or version does not exist any more */ \
    X(LETTER_DELAYED, "delayed")         /* put off on purpose, never tried yet */
enum letter_kind {
#define X(name, word) name,
    LETTER_KINDS(X)
#undef X
};
const char *letter_kind_word(enum letter_kind k);

struct letters;
// reader: store_open_reader's, for looking. redact: masks what is shown; may be NULL.
struct redact;
struct letters *letters_new(struct loop *loop, struct store *store, struct store *reader, const struct redact *redact) must_use;
// Gives letters that were written before there were groups their fingerprint, headers and JSON, in portions, while others use them. Once.
void letters_upgrade(struct letters *l);
bool letters_stop(struct letters *l); // ends that after its portion; false: not yet
void letters_free(struct letters *l); // after its stores were closed

// --- writing ------------------------------------------------------------------------------------------------------
struct letter_draft {
    struct ev *ev;              // borrowed until done; f.history holds the attempts so far
    enum letter_state state;    // LETTER_DUE or LETTER_DEAD
    enum letter_kind kind;
    int64_t due_ms;             // LETTER_DUE
    uint32_t version;           // of the last attempt; 0: none ran
    struct str error_type, error_message, stack; // copied; stack: for the fingerprint only, the history holds it too
    uint64_t fingerprint;       // 0: that of these
};
typedef void letter_done_fn(void *arg, int code, const struct err *err);
// Many puts of one turn are written together.
void letters_put(struct letters *l, const struct letter_draft *draft, letter_done_fn *done, void *arg);

// --- reading ------------------------------------------------------------------------------------------------------
// All on the reader; what is shown is masked.
struct letter_page {
    struct str after;   // the cursor of the page before; empty: the first
    bool oldest_first;  // else newest first; by id, which begins with the time of the event
    bool full;          // whole letters as letters_show gives them, else summaries
    bool count;         // tell how many letters the selection has, too
    size_t limit;       // 1..1000; of whole letters also no more than LETTER_PAGE_BYTES together (payloads, histories, edits, originals), but one
};
#define LETTER_PAGE_BYTES (8u * 1024 * 1024)
typedef void letters_json_fn(void *arg, int code, const struct err *err, json_t *result); // owns result when ERR_OK
// {"letters":[{summary}…],"next":"<cursor>"|null}, with page->count also "count":n, of all pages. Takes sel.
void letters_list(struct letters *l, struct selection *sel, const struct letter_page *page, letters_json_fn *fn, void *arg);
// The whole letter: the summary, "history":[attempts], "payload" (text) or "payloadBase64", "headers":[[name,value]…], "trace", "shape" (headers,
// trace, orderingKey and contentType of any bytes: dlq/json_bytes.h),
// "edits":[{"revision","atMs","who","why","patch"}], "original":{"payload"|"payloadBase64","headers"}|null,
// "replays":[{"replay","state","eventId","outcome","why","atMs"}].
void letters_show(struct letters *l, const struct id *id, letters_json_fn *fn, void *arg);
// {"due":n,"dead":n,…} for each function: {"functions":{"name":{"due":…}},"total":{…}}; "delayed" are those of the due ones that are of this kind
void letters_count(struct letters *l, letters_json_fn *fn, void *arg);
// Up to `count` of them spread over the whole selection, with their events, changing nothing (not masked: they are run). Takes sel.
struct letter;
typedef void letters_claim_fn(void *arg, int code, const struct err *err, struct letter *letters, size_t count);
void letters_sample(struct letters *l, struct selection *sel, size_t count, letters_claim_fn *fn, void *arg);

// --- changing -----------------------------------------------------------------------------------------------------
// {"<verb>":n,"more":bool,"next":cursor|null,"refused":[{"id","state","why"}…]}: goes through at most `limit` (1..LETTERS_CHANGE_MAX) of the
// selection a call, on the reader (ERR_TIMEOUT when that takes too long), and changes them in portions; one that something else changes meanwhile
// counts less. more: call again with next as `after`, which leaves out what died since the first call.
// refused: of a selection by ids, those that were not changed (a letter that is being replayed: which replay). Each takes sel.
#define LETTERS_CHANGE_MAX 10000
struct letter_change {
    struct selection *sel;
    size_t limit;
    struct str why; // copied; may be empty
    struct str who;   // of edits
    struct str after; // the cursor of the call before; empty at first
};
void letters_discard(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg);  // dead, due -> discarded: "discarded"
void letters_restore(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg);  // discarded, replayed -> dead: "restored"
void letters_retry(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg);    // due -> due now: "retried"; by a filter, those of
    // kind delayed (put off on purpose) only when its expression asks for that kind
// Deletes replayed and discarded ones of the selection for ever; with dead also dead ones: "purged". Whole: bodies, edits, originals.
void letters_purge(struct letters *l, const struct letter_change *c, bool dead, letters_json_fn *fn, void *arg);
// Applies it to each dead or due letter (at most 100 of them and 64 MiB a call), a revision each: {"edited","unchanged","more","next",
// "refused","letters":[{"id","revision","patch":[…],"before":"…","after":"…"}…]}. before, after: the document (dlq/edit.h), masked, without it when it is
// over 64 KiB. A letter that the edit does not fit is refused and stays. dry_run: changes nothing. Takes e.
struct edit;
#define LETTERS_EDIT_MAX 100
void letters_edit(struct letters *l, const struct letter_change *c, struct edit *e, bool dry_run, letters_json_fn *fn, void *arg);
// Letters as letters_show gives them become dead letters, with their id, times, version and attempts: {"imported":n,"there":n,"refused":[{"line",
// "id","why"}…]}. One whose id is there already stays as it is; one that was masked is refused. At most 1,000 and 64 MiB a call.
void letters_import(struct letters *l, json_t *letters, letters_json_fn *fn, void *arg); // takes letters: an array

// --- moving: for dlq/due and dlq/ship -----------------------------------------------------------------------------
// A claim holds a letter until its lease runs out, by the store's clock. Whatever changes the letter meanwhile (it failed again, an operator
// discarded it) voids the claim, and what the claimer says about it later then does nothing.
struct letter {                 // handed out by a claim
    struct id id;
    int64_t lease_ms;           // Unix ms, the store's; names the claim
    struct ev *ev;              // belongs to the receiver; payload and history in place
    uint64_t fingerprint;       // of what it died of
};
// Takes up to `limit` due letters (due_ms <= now_ms, the caller's clock) for lease_ms; several nodes never get the same one.
void letters_claim_due(struct letters *l, int64_t now_ms, int64_t lease_ms, size_t limit, letters_claim_fn *fn, void *arg);
// Due letters whose event is durably on its queue again: deletes them. The letters' events are not looked at.
void letters_delivered(struct letters *l, const struct letter *claimed, size_t count, letter_done_fn *done, void *arg);
// Holds due letters for another lease_ms from now; fn gets the end of the lease, their new one. Those whose claim is void stay as they are.
void letters_renew(struct letters *l, const struct letter *claimed, size_t count, int64_t lease_ms,
                   void (*fn)(void *arg, int code, int64_t lease_ms), void *arg);
// Lets go of a claim that could not be carried out: due stays due and is tried again at due_ms.
void letters_unclaim(struct letters *l, const struct letter *claimed, size_t count, int64_t due_ms, letter_done_fn *done,
                     void *arg);
// Unix ms of the earliest due letter that nobody holds; 0: none.
void letters_next_due(struct letters *l, void (*fn)(void *arg, int code, int64_t due_ms), void *arg);

#endif
