// SPDX-License-Identifier: Apache-2.0
// Keys: moving about, and the line in which questions are answered. What keys do to letters is in cli/watch_acts.c.
#include "cli/client.h"
#include "cli/watch.h"

#define SORTS_OF_GROUPS 4
#define SORTS_OF_LETTERS 2
#define SIDEWAYS 8 // columns
#define LEFT_MOST ((size_t)1 << 20)

// --- the line of a question ---------------------------------------------------------------------------------------

static bool is_inner(char c) {
    return ((unsigned char)c & 0xc0) == 0x80;
}

static size_t before(const struct prompt *p, size_t at) {
    if (at > 0) at--;
    while (at > 0 && is_inner(p->input[at])) at--;
    return at;
}

static size_t behind(const struct prompt *p, size_t at) {
    if (at < p->len) at++;
    while (at < p->len && is_inner(p->input[at])) at++;
    return at;
}

static void take_out(struct prompt *p, size_t from, size_t to) {
    memmove(p->input + from, p->input + to, p->len - to + 1);
    p->len -= to - from;
    p->at = from;
}

static void put_in(struct prompt *p, uint32_t c) {
    char bytes[4];
    size_t n = (size_t)(watch_encode(bytes, c) - bytes);
    if (p->len + n >= WATCH_INPUT_BYTES) return;
    memmove(p->input + p->at + n, p->input + p->at, p->len - p->at + 1);
    memcpy(p->input + p->at, bytes, n);
    p->at += n;
    p->len += n;
}

#define CTRL(letter) ((letter) & 0x1f)

static void edit_line(struct prompt *p, uint32_t key) {
    switch (key) {
    case WATCH_KEY_LEFT: p->at = before(p, p->at); break;
    case WATCH_KEY_RIGHT: p->at = behind(p, p->at); break;
    case CTRL('A'):
    case WATCH_KEY_HOME: p->at = 0; break;
    case CTRL('E'):
    case WATCH_KEY_END: p->at = p->len; break;
    case WATCH_KEY_BACKSPACE: take_out(p, before(p, p->at), p->at); break;
    case WATCH_KEY_DELETE: take_out(p, p->at, behind(p, p->at)); break;
    case CTRL('U'): take_out(p, 0, p->at); break;
    case CTRL('K'): take_out(p, p->at, p->len); break;
    default:
        if (key >= 0x20 && key < 0x110000 && (key < 0x7f || key >= 0xa0)) put_in(p, key);
    }
}

static void key_in_prompt(struct watch *w, uint32_t key) {
    struct prompt *p = &w->prompt;
    bool wants_text = act_wants_text(w);
    if (key == WATCH_KEY_ESCAPE || (!wants_text && key != 'y' && key != 'Y')) {
        act_give_up(w);
        watch_say(w, TONE_PLAIN, "nothing was done");
    } else if (!wants_text) {
        act_answer(w, "");
    } else if (key == WATCH_KEY_ENTER) {
        cleanup_free char *text = mem_strdup(p->input);
        act_answer(w, text);
    } else {
        edit_line(p, key);
    }
}

// --- moving about -------------------------------------------------------------------------------------------------

static void open_group(struct watch *w, const json_t *group) {
    const char *name = member_text(group, "name", ""), *id = member_text(group, "group", "");
    cleanup_free char *title = mem_printf("group %s", *name ? name : id);
    (void)watch_push(w, VIEW_LETTERS, id, title);
}

static void open_row(struct watch *w) {
    const struct view *v = watch_top(w);
    const json_t *row = watch_row(v);
    if (!row) return;
    if (v->kind == VIEW_GROUPS) {
        open_group(w, row);
    } else if (v->kind == VIEW_LETTERS) {
        const char *id = member_text(row, "id", "");
        cleanup_free char *title = mem_printf("letter %s", id);
        (void)watch_push(w, VIEW_LETTER, id, title);
    }
}

static void open_help(struct watch *w) {
    if (watch_top(w)->kind != VIEW_PAGE && watch_push(w, VIEW_PAGE, "", "help")) watch_help_lines(&watch_top(w)->lines);
}

static void sort_otherwise(struct watch *w) {
    struct view *v = watch_top(w);
    if (v->kind == VIEW_GROUPS) v->sort = (v->sort + 1) % SORTS_OF_GROUPS;
    if (v->kind == VIEW_LETTERS) v->sort = (v->sort + 1) % SORTS_OF_LETTERS;
    if (v->kind == VIEW_GROUPS) watch_arrange(v);
    v->at = v->top = 0;
    watch_ask_now(w);
}

static void show_muted(struct watch *w) {
    if (watch_top(w)->kind != VIEW_GROUPS) return;
    w->muted = !w->muted;
    watch_say(w, TONE_PLAIN, "muted groups are %s", w->muted ? "shown too" : "not shown");
    watch_ask_now(w);
}

static void sideways(struct watch *w, bool right) {
    struct view *v = watch_top(w);
    if (right) v->left = v->left < LEFT_MOST ? v->left + SIDEWAYS : v->left;
    else v->left = v->left > SIDEWAYS ? v->left - SIDEWAYS : 0;
}

// What is under way is not waited for, or not gone on with.
static bool stop_change(struct watch *w) {
    if (!w->change.act || w->change.stop) return false;
    w->change.stop = true;
    if (strcmp(w->change.path, "/v1/letters/try") == 0) {
        watch_drop_change(w);
        watch_say(w, TONE_WARN, "what the try says will not be shown");
    }
    return true;
}

static bool forget_filter(struct watch *w) {
    struct view *v = watch_top(w);
    if (!*v->search && !*v->where) return false;
    v->search[0] = v->where[0] = '\0';
    watch_arrange(v);
    watch_ask_now(w);
    return true;
}

static bool moves(struct watch *w, uint32_t key) {
    int64_t page = w->body_rows > 1 ? (int64_t)w->body_rows - 1 : 1, all = INT32_MAX;
    switch (key) {
    case 'k':
    case WATCH_KEY_UP: watch_move(w, -1); return true;
    case 'j':
    case WATCH_KEY_DOWN: watch_move(w, 1); return true;
    case CTRL('B'):
    case WATCH_KEY_PAGE_UP: watch_move(w, -page); return true;
    case ' ':
    case CTRL('F'):
    case WATCH_KEY_PAGE_DOWN: watch_move(w, page); return true;
    case 'g':
    case WATCH_KEY_HOME: watch_move(w, -all); return true;
    case 'G':
    case WATCH_KEY_END: watch_move(w, all); return true;
    case '<':
    case WATCH_KEY_LEFT: sideways(w, false); return true;
    case '>':
    case WATCH_KEY_RIGHT: sideways(w, true); return true;
    default: return false;
    }
}

static void key_in_view(struct watch *w, uint32_t key) {
    enum view_kind kind = watch_top(w)->kind;
    bool text = kind == VIEW_LETTER || kind == VIEW_PAGE;
    if (!w->change.act) watch_say(w, TONE_PLAIN, "%s", "");
    switch (key) {
    case 'l':
    case WATCH_KEY_ENTER: open_row(w); break;
    case 'h':
    case WATCH_KEY_ESCAPE:
        if (!stop_change(w) && !forget_filter(w) && w->depth > 1) watch_pop(w);
        break;
    case 'q':
        if (!stop_change(w)) watch_pop(w);
        break;
    case WATCH_KEY_TAB:
        if (kind == VIEW_REPLAYS) watch_pop(w);
        else (void)watch_push(w, VIEW_REPLAYS, "", "replays");
        break;
    case '?': open_help(w); break;
    case 's': sort_otherwise(w); break;
    case 'M': show_muted(w); break;
    case CTRL('L'): watch_ask_now(w); break;
    default:
        if (text && (key == 'n' || key == 'N')) watch_find(w, key == 'n');
        else if (!moves(w, key) && !act_begin(w, key) && key != WATCH_KEY_OTHER) watch_say(w, TONE_DIM, "? lists the keys");
    }
}

void watch_key(struct watch *w, uint32_t key) {
    if (w->prompt.act) key_in_prompt(w, key);
    else key_in_view(w, key);
}

const char *watch_hints(const struct watch *w) {
    static const char *const hints[] = {
        [VIEW_GROUPS] = "? keys  Enter open  Tab replays  t try  r replay  d discard  m mute  q quit",
        [VIEW_LETTERS] = "? keys  Enter open  / find  w where  t try  r replay  d discard  e edit  q back",
        [VIEW_LETTER] = "? keys  / find  t try  r replay  d discard  e edit  q back",
        [VIEW_REPLAYS] = "? keys  p pause or resume  c cancel  q back",
        [VIEW_PAGE] = "/ find  < > sideways  q back",
    };
    return hints[watch_top(w)->kind];
}
