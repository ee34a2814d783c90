// SPDX-License-Identifier: Apache-2.0
// The views and what is in them; what to ask the server for, and when.
#include <inttypes.h>
#include <stdarg.h>

#include "cli/client.h"
#include "cli/dlq.h"
#include "cli/watch.h"

#define POLL_MS 2000
#define POLL_REPLAYS_MS 1000
#define POLL_LAST_MS 16000     // when no answer comes
#define GROUPS_LIMIT 500
#define LETTERS_FIRST 200
#define LETTERS_LAST 1000      // the server's
#define REPLAYS_LIMIT 100      // the server's
#define LIVE_BYTES (64 << 10)  // a letter with a larger payload is asked for once
#define SPARK_MS INT64_C(86400000)

// --- views --------------------------------------------------------------------------------------------------------

static void view_done(struct view *v) {
    free(v->subject);
    free(v->title);
    free(v->search);
    free(v->where);
    json_decref(v->data);
    json_decref(v->rows);
    lines_clear(&v->lines);
    *v = (struct view){0};
}

struct view *watch_top(const struct watch *w) {
    MUST(w->depth > 0);
    return (struct view *)(uintptr_t)&w->stack[w->depth - 1];
}

bool watch_push(struct watch *w, enum view_kind kind, const char *subject, const char *title) {
    if (w->depth == WATCH_DEPTH) return false;
    w->stack[w->depth++] = (struct view){.kind = kind, .subject = mem_strdup(subject), .title = mem_strdup(title), .search = mem_strdup(""),
                                         .where = mem_strdup(""), .rows = json_array(), .limit = LETTERS_FIRST};
    watch_ask_now(w);
    return true;
}

void watch_pop(struct watch *w) {
    if (w->depth == 1) {
        w->over = true;
        return;
    }
    view_done(&w->stack[--w->depth]);
    watch_ask_now(w);
}

void watch_init(struct watch *w, const char *url) {
    *w = (struct watch){.url = url, .status = mem_strdup("")};
    MUST(watch_push(w, VIEW_GROUPS, "", "groups"));
}

void watch_done(struct watch *w) {
    act_give_up(w);
    watch_drop_change(w);
    while (w->depth) view_done(&w->stack[--w->depth]);
    free(w->poll.why);
    free(w->status);
    free(w->edit_id);
    free(w->edit_why);
}

void watch_say(struct watch *w, enum tone tone, const char *fmt, ...) {
    va_list ap;
    free(w->status);
    va_start(ap, fmt);
    MUST(vasprintf(&w->status, fmt, ap) >= 0);
    va_end(ap);
    w->status_tone = tone;
}

// --- rows ---------------------------------------------------------------------------------------------------------

// What tells an item of a list from the others; caller frees.
static char *key_of(enum view_kind kind, const json_t *row) {
    if (kind == VIEW_REPLAYS) return mem_printf("%" PRId64, member_int(row, "replay", 0));
    return mem_strdup(member_text(row, kind == VIEW_GROUPS ? "group" : "id", ""));
}

static const json_t *items_of(const struct view *v) {
    const char *name = v->kind == VIEW_GROUPS ? "groups" : v->kind == VIEW_LETTERS ? "letters" : v->kind == VIEW_REPLAYS ? "replays" : "";
    return json_object_get(v->data, name);
}

static int by_member(const json_t *a, const json_t *b, const char *name) {
    int64_t x = member_int(a, name, 0), y = member_int(b, name, 0);
    return (x < y) - (x > y); // the largest first
}

static int by_functions(const json_t *a, const json_t *b) {
    const char *x = json_string_value(json_array_get(json_object_get(a, "functions"), 0));
    const char *y = json_string_value(json_array_get(json_object_get(b, "functions"), 0));
    return strcmp(x ? x : "", y ? y : "");
}

// In the order of watch_draw's words for it.
static int compare_groups(const void *a, const void *b, void *sort) {
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    size_t how = *(size_t *)sort;
    int n = how == 1 ? by_member(x, y, "lastMs") : how == 2 ? by_member(x, y, "firstMs") : how == 3 ? by_functions(x, y) : 0;
    if (n == 0) n = by_member(x, y, "count");
    return n ? n : strcmp(member_text(x, "group", ""), member_text(y, "group", ""));
}

static bool group_has(const json_t *group, const char *text) {
    static const char *const members[] = {"group", "name", "note", "errorType", "title", "place"};
    size_t i;
    const json_t *function;
    for (i = 0; i < array_len(members); i++)
        if (strcasestr(member_text(group, members[i], ""), text)) return true;
    json_array_foreach(json_object_get(group, "functions"), i, function)
        if (json_is_string(function) && strcasestr(json_string_value(function), text)) return true;
    return false;
}

static json_t *sorted(json_t *rows, size_t sort) {
    size_t n = json_array_size(rows), i;
    if (n == 0) return rows;
    json_t *row, **list = mem_array(n, sizeof(json_t *)), *after = json_array();
    json_array_foreach(rows, i, row) list[i] = row;
    qsort_r(list, n, sizeof *list, compare_groups, &sort);
    for (i = 0; i < n; i++) json_array_append(after, list[i]);
    free(list);
    json_decref(rows);
    return after;
}

json_t *watch_row(const struct view *v) {
    return json_array_get(v->rows, v->at);
}

// The chosen row stays the same item where that is still there.
static void choose(struct view *v, const char *key) {
    size_t n = json_array_size(v->rows);
    for (size_t i = 0; key && i < n; i++) {
        cleanup_free char *other = key_of(v->kind, json_array_get(v->rows, i));
        if (strcmp(other, key) != 0) continue;
        v->at = i;
        return;
    }
    if (v->at >= n) v->at = n ? n - 1 : 0;
}

static void list_rows(struct view *v) {
    const json_t *chosen = watch_row(v), *items = items_of(v);
    cleanup_free char *key = chosen ? key_of(v->kind, chosen) : NULL;
    json_t *rows = json_array(), *item;
    size_t i;
    json_array_foreach(items, i, item) {
        if (v->kind == VIEW_GROUPS && *v->search && !group_has(item, v->search)) continue;
        json_array_append(rows, item);
    }
    if (v->kind == VIEW_GROUPS) rows = sorted(rows, v->sort);
    json_decref(v->rows);
    v->rows = rows;
    choose(v, key);
}

void watch_arrange(struct view *v) {
    if (v->kind == VIEW_LETTER && v->data) {
        lines_clear(&v->lines);
        watch_letter_lines(v->data, &v->lines);
    } else if (v->kind != VIEW_LETTER && v->kind != VIEW_PAGE) {
        list_rows(v);
    }
}

static bool is_text(const struct view *v) {
    return v->kind == VIEW_LETTER || v->kind == VIEW_PAGE;
}

static size_t moved(size_t from, int64_t by, size_t most) {
    if (by < 0) return (uint64_t)-by > from ? 0 : from - (size_t)-by;
    return (uint64_t)by > most - from ? most : from + (size_t)by;
}

void watch_move(struct watch *w, int64_t rows) {
    struct view *v = watch_top(w);
    if (is_text(v)) {
        size_t most = v->lines.count > w->body_rows ? v->lines.count - w->body_rows : 0;
        if (v->top > most) v->top = most;
        v->top = moved(v->top, rows, most);
        return;
    }
    size_t n = json_array_size(v->rows);
    v->at = n ? moved(v->at, rows, n - 1) : 0;
    bool more = v->kind == VIEW_LETTERS && member_text(v->data, "next", NULL);
    if (!more || v->at + 1 < n || v->limit == LETTERS_LAST) return;
    v->limit = LETTERS_LAST;
    watch_ask_now(w);
}

void watch_find(struct watch *w, bool forward) {
    struct view *v = watch_top(w);
    if (!*v->search) return;
    for (size_t i = forward ? v->top + 1 : v->top; forward ? i < v->lines.count : i-- > 0; i += forward) {
        if (!strcasestr(v->lines.list[i].text, v->search)) continue;
        v->top = i;
        return;
    }
    watch_say(w, TONE_WARN, "no '%s' %s here", v->search, forward ? "below" : "above");
}

// --- asking -------------------------------------------------------------------------------------------------------

void watch_ask_now(struct watch *w) {
    w->poll.open = w->poll.refused = false;
    w->poll.next_ms = 0;
    w->poll.delay_ms = POLL_MS;
}

static void add_restriction(const struct watch *w, char **path) {
    path_query(path, "function", w->function);
    if (w->since_ms) path_query_number(path, "sinceMs", w->since_ms);
}

static char *groups_path(const struct watch *w) {
    char *path = path_new("/v1/groups");
    add_restriction(w, &path);
    if (w->muted) path_query(&path, "muted", "true");
    path_query_number(&path, "sparkMs", SPARK_MS);
    path_query_number(&path, "limit", GROUPS_LIMIT);
    return path;
}

static char *letters_path(const struct watch *w, const struct view *v) {
    char *path = path_new("/v1/letters");
    add_restriction(w, &path);
    path_query(&path, "group", v->subject);
    if (*v->search) path_query(&path, "search", v->search);
    if (*v->where) path_query(&path, "where", v->where);
    path_query(&path, "order", v->sort ? "oldest" : "newest");
    path_query_number(&path, "limit", (int64_t)v->limit);
    return path;
}

static char *letter_path(const struct view *v) {
    char *path = path_new("/v1/letters");
    path_add(&path, v->subject);
    return path;
}

int64_t watch_poll_ms(const struct watch *w) {
    bool asks = !w->poll.open && !w->poll.refused && watch_top(w)->kind != VIEW_PAGE;
    return asks ? w->poll.next_ms : INT64_MAX;
}

char *watch_next_poll(struct watch *w, int64_t now_ms) {
    const struct view *v = watch_top(w);
    if (now_ms < watch_poll_ms(w)) return NULL;
    w->poll.open = true;
    switch (v->kind) {
    case VIEW_LETTERS: return letters_path(w, v);
    case VIEW_LETTER: return letter_path(v);
    case VIEW_REPLAYS: return mem_printf("/v1/replays?limit=%d", REPLAYS_LIMIT);
    case VIEW_GROUPS:
    case VIEW_PAGE: break;
    }
    return groups_path(w);
}

static void on_no_answer(struct watch *w, const struct watch_answer *answer, int64_t now_ms) {
    bool first = !w->poll.why;
    free(w->poll.why);
    w->poll.why = mem_strdup(answer->why ? answer->why : "the answer is not JSON; is it a weir server?");
    w->poll.refused = answer->status >= 400 && answer->status < 500 && answer->status != 429;
    if (!first && w->poll.delay_ms < POLL_LAST_MS) w->poll.delay_ms *= 2;
    w->poll.next_ms = now_ms + w->poll.delay_ms;
}

void watch_take_poll(struct watch *w, const struct watch_answer *answer, int64_t now_ms) {
    struct view *v = watch_top(w);
    w->poll.open = false;
    if (!json_is_object(answer->json) || answer->status >= 400) {
        on_no_answer(w, answer, now_ms);
        return;
    }
    free(w->poll.why);
    w->poll.why = NULL;
    w->poll.delay_ms = POLL_MS;
    bool once = v->kind == VIEW_LETTER && member_int(answer->json, "payloadBytes", 0) > LIVE_BYTES;
    w->poll.next_ms = once ? INT64_MAX : now_ms + (v->kind == VIEW_REPLAYS ? POLL_REPLAYS_MS : POLL_MS);
    json_decref(v->data);
    v->data = json_incref(answer->json);
    watch_arrange(v);
}
