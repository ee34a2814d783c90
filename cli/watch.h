// SPDX-License-Identifier: Apache-2.0
// Inside of weir dlq watch: a plain model of what is looked at, which keys and answers change and which is drawn into a frame.
//
// Flow: a key or an answer goes into the model; the model says what to ask for next; watch_draw makes a frame of it. No terminal and
//   no network is touched: cli/watch.c has the loop, cli/watch_screen the terminal, cli/watch_http the requests.
// Time: now_ms is monotonic and decides what is asked for when; ages are by the wall clock. Threads: one.
#ifndef CLI_WATCH_H
#define CLI_WATCH_H

#include <jansson.h>
#include <stdint.h>

#include "cli/out.h"
#include "core/base/buf.h"

// --- text for a terminal (cli/watch_text.c) ---------------------------------------------------------------------------------

// The columns skip … skip + width of one line of text from anywhere, safe to print: control characters are '?', broken UTF-8 is
// U+FFFD, what has no column of its own and stands alone, or turns text around, is left out, a tab is blanks. "…" ends what was cut
// off. Returns the columns it takes, at most width. Caller frees *ret.
size_t watch_clean(const char *text, size_t skip, size_t width, char **ret);
// A character as UTF-8, up to 4 bytes; returns where they end.
char *watch_encode(char *at, uint32_t c) must_use;

struct line {
    enum tone tone;
    char *text;
};
struct lines { // a text to scroll in; more than LINES_MAX are left out
    struct line *list;
    size_t count, room;
};
void lines_add(struct lines *l, enum tone tone, const char *fmt, ...) printf_like(3, 4);
void lines_add_block(struct lines *l, enum tone tone, const char *indent, struct str text); // split at its line feeds
void lines_clear(struct lines *l);
void watch_letter_lines(const json_t *letter, struct lines *out);  // the whole letter
void watch_try_lines(const json_t *answer, struct lines *out);     // what POST /v1/letters/try said
void watch_help_lines(struct lines *out);

// --- the frame (cli/watch_draw.c) ------------------------------------------------------------------------------------------

struct span {
    size_t row, col;
    enum tone tone;
    bool reversed;
    char *text; // clean UTF-8
};
struct frame {
    size_t rows, cols;
    struct span *list;
    size_t count, room;
    bool has_caret;
    size_t caret_row, caret_col;
};
void frame_init(struct frame *f, size_t rows, size_t cols);
void frame_done(struct frame *f);

// --- the model (cli/watch_model.c) ------------------------------------------------------------------------------------------

enum view_kind { VIEW_GROUPS, VIEW_LETTERS, VIEW_LETTER, VIEW_REPLAYS, VIEW_PAGE };

struct view {
    enum view_kind kind;
    char *subject;  // LETTERS: group; LETTER: its id
    char *title;    // how it is called
    char *search;   // "": none. GROUPS: rows with it; LETTERS: the server searches; texts: where it stands
    char *where;    // LETTERS; "": none
    size_t sort;
    size_t limit;   // LETTERS: so many are asked for
    json_t *data;   // what the server said last; NULL: nothing yet
    json_t *rows;   // of it, as they are listed
    struct lines lines;
    size_t at, top; // the chosen row, the first one shown; texts have `top` only
    size_t left;    // columns scrolled out, of texts
};

#define WATCH_DEPTH 6
#define WATCH_INPUT_BYTES 500
#define WATCH_ANSWERS 2

struct act; // what a key does to something: cli/watch_acts.c
struct prompt {
    const struct act *act; // NULL: nothing is asked
    size_t step;           // which of its questions
    char input[WATCH_INPUT_BYTES];
    size_t len, at;        // bytes; `at` is the caret's
    char *answers[WATCH_ANSWERS];
    // What is meant stands when the first question is asked, so that a list that moves meanwhile changes nothing.
    char *what;            // "40112 letters of group no-total"
    json_t *target;        // members of a request: the selection; or the group's description, or the replay
    char *title;           // what it is about, above the question
};

struct change { // what is being done, one at a time
    const struct act *act; // NULL: nothing
    bool sent;             // the request is under way
    bool stop;             // do not go on after it
    const char *method;
    char *path;
    json_t *body;
    char *what;
    int64_t done;          // so far, of one that takes several requests
};

struct watch {
    const char *url;
    const char *function;  // only of this function; NULL: of all
    int64_t since_ms;      // only died since; 0: ever
    bool muted;            // muted groups too
    struct view stack[WATCH_DEPTH];
    size_t depth;
    struct {
        bool open;         // a question is under way
        bool refused;      // the server refused the question; it is not asked again
        int64_t next_ms, delay_ms;
        char *why;         // there is no answer; NULL: there is
    } poll;
    struct prompt prompt;
    struct change change;
    char *status;          // what came of the last key
    enum tone status_tone;
    char *edit_id, *edit_why; // hand the letter to an editor
    size_t body_rows;      // of the last frame
    bool over;
};

struct watch_answer {
    int status;    // 0: none came
    char *why;     // of none, or of an error
    json_t *json;  // the whole answer
};

void watch_init(struct watch *w, const char *url);
void watch_done(struct watch *w);
struct view *watch_top(const struct watch *w);
// Opens a view above the others, whose subject and title are copied; false: there is no room.
bool watch_push(struct watch *w, enum view_kind kind, const char *subject, const char *title);
void watch_pop(struct watch *w);            // the last one ends it all
void watch_ask_now(struct watch *w);        // the question under way, if any, is not waited for any longer
void watch_say(struct watch *w, enum tone tone, const char *fmt, ...) printf_like(3, 4);
void watch_arrange(struct view *v);         // rows and lines anew, of the data
json_t *watch_row(const struct view *v);    // the chosen one; NULL: none
void watch_move(struct watch *w, int64_t rows);
int64_t watch_poll_ms(const struct watch *w); // when the next question is due; INT64_MAX: none will be
// The path of the question that is due; NULL: none is. The caller answers with watch_take_poll.
char *watch_next_poll(struct watch *w, int64_t now_ms) must_use;
void watch_take_poll(struct watch *w, const struct watch_answer *answer, int64_t now_ms);

// --- keys (cli/watch_keys.c, cli/watch_acts.c) ------------------------------------------------------------------------------

enum watch_key { // beside the characters, which are Unicode code points
    WATCH_KEY_UP = 0x110000,
    WATCH_KEY_DOWN,
    WATCH_KEY_LEFT,
    WATCH_KEY_RIGHT,
    WATCH_KEY_PAGE_UP,
    WATCH_KEY_PAGE_DOWN,
    WATCH_KEY_HOME,
    WATCH_KEY_END,
    WATCH_KEY_ENTER,
    WATCH_KEY_ESCAPE,
    WATCH_KEY_BACKSPACE,
    WATCH_KEY_DELETE,
    WATCH_KEY_TAB,
    WATCH_KEY_OTHER,
};
void watch_key(struct watch *w, uint32_t key);
const char *watch_hints(const struct watch *w); // the keys of the view
void watch_find(struct watch *w, bool forward); // texts: the next line with what is searched

bool act_begin(struct watch *w, uint32_t key);  // false: the key does nothing here
const char *act_question(const struct watch *w, char **ret_room); // *ret_room: to be freed
bool act_wants_text(const struct watch *w);     // the question is for a text, else for y
void act_answer(struct watch *w, const char *text);
void act_give_up(struct watch *w);              // the prompt
// The request that is to be sent now; false: none. The caller answers with watch_take_change, unless the change is gone by then.
bool watch_next_change(struct watch *w);
void watch_take_change(struct watch *w, const struct watch_answer *answer);
void watch_drop_change(struct watch *w);
void watch_edited(struct watch *w, bool edited);

// --- drawing (cli/watch_draw.c) ---------------------------------------------------------------------------------------------

// Fills the empty frame; also scrolls so that the chosen row is in it.
void watch_draw(struct watch *w, struct frame *f, int64_t now_ms);

extern const struct command dlq_watch; // cli/watch.c

#endif
