// SPDX-License-Identifier: Apache-2.0
// What a key does to a group, a letter or a replay: the questions that come first, the request, and what is said of its answer.
#include <inttypes.h>

#include "cli/client.h"
#include "cli/dlq.h"
#include "cli/watch.h"

#define DISCARD_A_CALL 1000
#define SAMPLE_DEFAULT "20"
#define SAMPLE_MAX 200

#define BIT(view) (1u << (view))
#define LISTED (BIT(VIEW_GROUPS) | BIT(VIEW_LETTERS))
#define ANYWHERE (LISTED | BIT(VIEW_LETTER) | BIT(VIEW_REPLAYS) | BIT(VIEW_PAGE))

enum means { MEANS_LETTERS, MEANS_FOUND, MEANS_GROUP, MEANS_REPLAY, MEANS_VIEW };

struct act {
    char key;
    unsigned views;
    enum means means;
    const char *name;             // "Discard"
    const char *texts[WATCH_ANSWERS]; // the questions for a text, in order
    const char *(*first)(const struct watch *w, size_t step); // what stands there at first; NULL: nothing
    char *(*sure)(const struct watch *w);           // the last question, which wants y; NULL: there is none. Caller frees
    bool (*check)(struct watch *w, size_t step);    // the answer; false: it was said why it will not do. NULL: any will
    void (*go)(struct watch *w);                    // all was answered
    void (*came)(struct watch *w, const json_t *answer); // what the server said of it
};

// --- what is meant ------------------------------------------------------------------------------------------------

static void mean(struct watch *w, char *what, json_t *target) {
    free(w->prompt.what);
    json_decref(w->prompt.target);
    w->prompt.what = what;
    w->prompt.target = target;
}

static json_t *selection_of(const struct watch *w, const char *group) {
    json_t *o = json_pack("{s:s}", "group", group);
    if (w->function) json_object_set_new(o, "function", json_string(w->function));
    if (w->since_ms) json_object_set_new(o, "sinceMs", json_integer(w->since_ms));
    return o;
}

static const char *called(const json_t *group) {
    const char *name = member_text(group, "name", "");
    return *name ? name : member_text(group, "group", "?");
}

static bool mean_group_letters(struct watch *w, const json_t *group) {
    int64_t n = member_int(group, "count", 0);
    if (n == 0) return false;
    mean(w, mem_printf("%" PRId64 " letter%s of group %s", n, plural(n), called(group)), selection_of(w, member_text(group, "group", "")));
    return true;
}

static bool mean_found(struct watch *w, const struct view *v) {
    size_t n = json_array_size(v->rows);
    json_t *o = selection_of(w, v->subject);
    bool all = !*v->search && !*v->where;
    if (*v->search) json_object_set_new(o, "search", json_string(v->search));
    if (*v->where) json_object_set_new(o, "where", json_string(v->where));
    mean(w, mem_printf("%s%zu letter%s of %s%s", member_text(v->data, "next", NULL) ? "more than " : "all ", n, plural((int64_t)n), v->title,
                       all ? "" : " that the filter finds"), o);
    return n > 0;
}

static bool mean_letter(struct watch *w, const json_t *letter) {
    const char *id = member_text(letter, "id", NULL);
    if (!id) return false;
    mean(w, mem_printf("letter %s", id), json_pack("{s:[s]}", "ids", id));
    return true;
}

// The group of the row, or of the letters that are listed.
static bool mean_group(struct watch *w, const struct view *v) {
    const struct view *groups = v->kind == VIEW_GROUPS ? v : &w->stack[w->depth - 2];
    const json_t *group = watch_row(groups);
    if (!group || groups->kind != VIEW_GROUPS) return false;
    mean(w, mem_printf("group %s", called(group)), json_deep_copy(group));
    return true;
}

static bool mean_replay(struct watch *w, const struct view *v) {
    const json_t *replay = watch_row(v);
    if (!replay) return false;
    mean(w, mem_printf("replay %" PRId64, member_int(replay, "replay", 0)), json_deep_copy(replay));
    return true;
}

static bool find_meant(struct watch *w, const struct act *act) {
    const struct view *v = watch_top(w);
    switch (act->means) {
    case MEANS_LETTERS:
        if (v->kind == VIEW_GROUPS) return mean_group_letters(w, watch_row(v));
        return mean_letter(w, v->kind == VIEW_LETTER ? v->data : watch_row(v));
    case MEANS_FOUND: return mean_found(w, v);
    case MEANS_GROUP: return mean_group(w, v);
    case MEANS_REPLAY: return mean_replay(w, v);
    case MEANS_VIEW: break;
    }
    mean(w, mem_strdup("view"), NULL);
    return true;
}

// --- requests -----------------------------------------------------------------------------------------------------

static const char *answered(const struct watch *w, size_t step) {
    return w->prompt.answers[step] ? w->prompt.answers[step] : "";
}

// Takes over path and body.
static void request(struct watch *w, const char *method, char *path, json_t *body) {
    w->change = (struct change){.act = w->prompt.act, .method = method, .path = path, .body = body, .what = TAKE_PTR(w->prompt.what)};
    watch_say(w, TONE_WARN, "%s: %s …", w->change.act->name, w->change.what);
}

static json_t *selection(const struct watch *w) {
    return json_deep_copy(w->prompt.target);
}

static void say_refused(struct watch *w, const json_t *answer) {
    const json_t *refused = json_object_get(answer, "refused"), *first = json_array_get(refused, 0);
    if (!first) return;
    watch_say(w, TONE_BAD, "%" PRId64 " done, %zu refused: %s", w->change.done, json_array_size(refused),
              member_text(first, "why", member_text(first, "state", "?")));
}

// --- try ----------------------------------------------------------------------------------------------------------

static const char *first_of_try(const struct watch *w, size_t step) {
    (void)w;
    return step == 1 ? SAMPLE_DEFAULT : "";
}

static bool check_try(struct watch *w, size_t step) {
    const char *text = answered(w, step);
    size_t n = strlen(text);
    long sample = n < 9 ? strtol(text, NULL, 10) : 0;
    if (step == 0 || (strspn(text, "0123456789") == n && sample >= 1 && sample <= SAMPLE_MAX)) return true;
    watch_say(w, TONE_BAD, "'%s' is not a number of letters from 1 to %d", text, SAMPLE_MAX);
    return false;
}

static void go_try(struct watch *w) {
    json_t *o = selection(w);
    if (*answered(w, 0)) json_object_set_new(o, "to", json_string(answered(w, 0)));
    if (!json_object_get(o, "ids")) json_object_set_new(o, "sample", json_integer(strtol(answered(w, 1), NULL, 10)));
    request(w, "POST", path_new("/v1/letters/try"), o);
}

static void came_try(struct watch *w, const json_t *answer) {
    const json_t *results = json_object_get(answer, "results");
    cleanup_free char *title = mem_printf("try of %s", w->change.what);
    int64_t passed = member_int(answer, "passed", 0);
    watch_say(w, passed == (int64_t)json_array_size(results) && passed ? TONE_GOOD : TONE_WARN, "%" PRId64 " of %zu pass", passed,
              json_array_size(results));
    if (watch_push(w, VIEW_PAGE, "", title)) watch_try_lines(answer, &watch_top(w)->lines);
}

// --- replay -------------------------------------------------------------------------------------------------------

static bool check_replay(struct watch *w, size_t step) {
    double rate;
    struct err err;
    if (step == 0 || !*answered(w, 1) || args_parse_rate(answered(w, 1), &rate, &err) == 0) return true;
    watch_say(w, TONE_BAD, "%s", err.text);
    return false;
}

static char *sure_replay(const struct watch *w) {
    const char *to = answered(w, 0), *rate = answered(w, 1);
    return mem_printf("Replay %s%s%s%s%s%s?", w->prompt.what, *to ? " to " : "", to, *rate ? " at " : "", rate, *rate && !strchr(rate, '/') ? "/s" : "");
}

static void go_replay(struct watch *w) {
    json_t *o = selection(w);
    double rate;
    if (*answered(w, 0)) json_object_set_new(o, "to", json_string(answered(w, 0)));
    if (*answered(w, 1) && args_parse_rate(answered(w, 1), &rate, NULL) == 0) json_object_set_new(o, "rate", json_real(rate));
    request(w, "POST", path_new("/v1/replays"), o);
}

static void came_replay(struct watch *w, const json_t *replay) {
    int64_t n = member_int(replay, "total", 0);
    watch_say(w, TONE_GOOD, "replay %" PRId64 " began: %" PRId64 " letter%s", member_int(replay, "replay", 0), n, plural(n));
    if (watch_top(w)->kind != VIEW_REPLAYS) (void)watch_push(w, VIEW_REPLAYS, "", "replays");
}

// --- discard ------------------------------------------------------------------------------------------------------

static char *sure_discard(const struct watch *w) {
    return mem_printf("Discard %s%s%s?", w->prompt.what, *answered(w, 0) ? ": " : "", answered(w, 0));
}

static void go_discard(struct watch *w) {
    json_t *o = selection(w);
    if (*answered(w, 0)) json_object_set_new(o, "why", json_string(answered(w, 0)));
    json_object_set_new(o, "limit", json_integer(DISCARD_A_CALL));
    request(w, "POST", path_new("/v1/letters/discard"), o);
}

static void came_discard(struct watch *w, const json_t *answer) {
    int64_t n = member_int(answer, "discarded", 0);
    w->change.done += n;
    json_t *next = json_object_get(answer, "next"); // goes on behind the last one, and leaves out what died since the first call
    bool again = member_true(answer, "more") && json_is_string(next) && !json_object_get(w->change.body, "ids") && !w->change.stop;
    if (again) json_object_set(w->change.body, "cursor", next);
    w->change.sent = !again;
    watch_say(w, again ? TONE_WARN : TONE_GOOD, "%" PRId64 " letter%s discarded%s", w->change.done, plural(w->change.done),
              again ? " … Esc stops" : "");
    say_refused(w, answer);
}

// --- groups -------------------------------------------------------------------------------------------------------

static char *group_path(const struct watch *w) {
    char *path = path_new("/v1/groups");
    path_add(&path, member_text(w->prompt.target, "group", ""));
    return path;
}

static char *sure_mute(const struct watch *w) {
    return mem_printf("%s %s?", member_true(w->prompt.target, "muted") ? "Show again" : "Mute", w->prompt.what);
}

static void go_mute(struct watch *w) {
    bool muted = member_true(w->prompt.target, "muted");
    request(w, "PATCH", group_path(w), json_pack("{s:b}", "muted", (int)!muted));
}

static const char *first_of_name(const struct watch *w, size_t step) {
    return member_text(w->prompt.target, step == 0 ? "name" : "note", "");
}

static char *sure_name(const struct watch *w) {
    const char *name = answered(w, 0), *note = answered(w, 1);
    return mem_printf("%s: name '%s', note '%s'?", w->prompt.what, name, note);
}

static void go_name(struct watch *w) {
    request(w, "PATCH", group_path(w), json_pack("{s:s, s:s}", "name", answered(w, 0), "note", answered(w, 1)));
}

static void came_group(struct watch *w, const json_t *group) {
    const char *name = member_text(group, "name", ""), *note = member_text(group, "note", "");
    watch_say(w, TONE_GOOD, "group %s%s%s%s%s%s", member_text(group, "group", "?"), *name ? " is called " : "", name,
              member_true(group, "muted") ? ", muted (M shows it)" : "", *note ? ", note: " : "", note);
}

// --- replays ------------------------------------------------------------------------------------------------------

static const char *verb_of_pause(const struct watch *w) {
    return strcmp(member_text(w->prompt.target, "state", ""), "paused") == 0 ? "resume" : "pause";
}

static char *sure_pause(const struct watch *w) {
    return mem_printf("%s %s?", strcmp(verb_of_pause(w), "pause") == 0 ? "Pause" : "Resume", w->prompt.what);
}

static void request_of_replay(struct watch *w, const char *verb) {
    request(w, "POST", mem_printf("/v1/replays/%" PRId64 "/%s", member_int(w->prompt.target, "replay", 0), verb), json_object());
}

static void go_pause(struct watch *w) {
    request_of_replay(w, verb_of_pause(w));
}

static char *sure_cancel(const struct watch *w) {
    int64_t n = member_int(w->prompt.target, "pending", 0);
    return mem_printf("Cancel %s? %" PRId64 " letter%s not sent yet: dead they stay", w->prompt.what, n, plural(n));
}

static void go_cancel(struct watch *w) {
    request_of_replay(w, "cancel");
}

static void came_state(struct watch *w, const json_t *replay) {
    watch_say(w, TONE_GOOD, "replay %" PRId64 " is %s", member_int(replay, "replay", 0), member_text(replay, "state", "?"));
}

// --- an editor, filters -------------------------------------------------------------------------------------------

static void go_edit(struct watch *w) {
    const json_t *id = json_array_get(json_object_get(w->prompt.target, "ids"), 0);
    w->edit_id = mem_strdup(json_string_value(id));
    w->edit_why = mem_strdup(answered(w, 0));
}

void watch_edited(struct watch *w, bool edited) {
    if (edited) watch_say(w, TONE_GOOD, "back from the editor");
    else watch_say(w, TONE_BAD, "nothing was edited");
    watch_ask_now(w);
}

static const char *first_of_search(const struct watch *w, size_t step) {
    (void)step;
    return watch_top(w)->search;
}

static const char *first_of_where(const struct watch *w, size_t step) {
    (void)step;
    return watch_top(w)->where;
}

static void go_search(struct watch *w) {
    struct view *v = watch_top(w);
    free(v->search);
    v->search = mem_strdup(answered(w, 0));
    if (v->kind == VIEW_LETTER || v->kind == VIEW_PAGE) watch_find(w, true);
    else if (v->kind == VIEW_GROUPS) watch_arrange(v);
    else watch_ask_now(w);
}

static void go_where(struct watch *w) {
    struct view *v = watch_top(w);
    free(v->where);
    v->where = mem_strdup(answered(w, 0));
    watch_ask_now(w);
}

// --- the table ----------------------------------------------------------------------------------------------------

#define ASK_TO "to FUNCTION[:VERSION] (empty: their own): "
#define TRY .name = "Try", .texts = {"on FUNCTION[:VERSION] (empty: their own): ", "how many (1 to 200): "}, .first = first_of_try, \
            .check = check_try, .go = go_try, .came = came_try
#define REPLAY .name = "Replay", .texts = {ASK_TO, "rate, such as 50/s (empty: as fast as it goes): "}, .check = check_replay, \
               .sure = sure_replay, .go = go_replay, .came = came_replay
#define DISCARD .name = "Discard", .texts = {"why: "}, .sure = sure_discard, .go = go_discard, .came = came_discard

static const struct act acts[] = {
    {.key = 't', .views = LISTED | BIT(VIEW_LETTER), .means = MEANS_LETTERS, TRY},
    {.key = 'T', .views = BIT(VIEW_LETTERS), .means = MEANS_FOUND, TRY},
    {.key = 'r', .views = LISTED | BIT(VIEW_LETTER), .means = MEANS_LETTERS, REPLAY},
    {.key = 'R', .views = BIT(VIEW_LETTERS), .means = MEANS_FOUND, REPLAY},
    {.key = 'd', .views = LISTED | BIT(VIEW_LETTER), .means = MEANS_LETTERS, DISCARD},
    {.key = 'D', .views = BIT(VIEW_LETTERS), .means = MEANS_FOUND, DISCARD},
    {.key = 'e', .views = BIT(VIEW_LETTERS) | BIT(VIEW_LETTER), .means = MEANS_LETTERS, .name = "Edit in $EDITOR",
     .texts = {"why (Esc: do not edit): "}, .go = go_edit},
    {.key = 'm', .views = LISTED, .means = MEANS_GROUP, .name = "Mute", .sure = sure_mute, .go = go_mute, .came = came_group},
    {.key = 'n', .views = LISTED, .means = MEANS_GROUP, .name = "Name", .texts = {"name (empty: none): ", "note (empty: none): "},
     .first = first_of_name, .sure = sure_name, .go = go_name, .came = came_group},
    {.key = 'p', .views = BIT(VIEW_REPLAYS), .means = MEANS_REPLAY, .name = "Pause", .sure = sure_pause, .go = go_pause, .came = came_state},
    {.key = 'c', .views = BIT(VIEW_REPLAYS), .means = MEANS_REPLAY, .name = "Cancel", .sure = sure_cancel, .go = go_cancel,
     .came = came_state},
    {.key = '/', .views = ANYWHERE & ~BIT(VIEW_REPLAYS), .means = MEANS_VIEW, .name = "Search", .texts = {"text (empty: all): "},
     .first = first_of_search, .go = go_search},
    {.key = 'w', .views = BIT(VIEW_LETTERS), .means = MEANS_VIEW, .name = "Where", .texts = {"condition (empty: all): "},
     .first = first_of_where, .go = go_where},
};

// --- the questions ------------------------------------------------------------------------------------------------

static size_t text_count(const struct act *act) {
    size_t n = 0;
    while (n < WATCH_ANSWERS && act->texts[n]) n++;
    return n;
}

static void begin_question(struct watch *w) {
    struct prompt *p = &w->prompt;
    const char *text = p->act->first && act_wants_text(w) ? p->act->first(w, p->step) : "";
    p->len = strlen(text) < WATCH_INPUT_BYTES ? strlen(text) : 0;
    memcpy(p->input, text, p->len);
    p->input[p->len] = '\0';
    p->at = p->len;
}

bool act_begin(struct watch *w, uint32_t key) {
    const struct act *act = NULL;
    for (size_t i = 0; i < array_len(acts); i++)
        if ((uint32_t)acts[i].key == key && acts[i].views & BIT(watch_top(w)->kind)) act = &acts[i];
    if (!act) return false;
    if (act->came && w->change.act) {
        watch_say(w, TONE_WARN, "one thing at a time: %s of %s is under way", w->change.act->name, w->change.what);
        return true;
    }
    if (!find_meant(w, act)) {
        watch_say(w, TONE_WARN, "there is nothing here to do that to");
        act_give_up(w);
        return true;
    }
    watch_say(w, TONE_PLAIN, "%s", "");
    w->prompt.act = act;
    w->prompt.step = 0;
    w->prompt.title = act->means == MEANS_VIEW ? mem_strdup(act->name) : mem_printf("%s: %s", act->name, w->prompt.what);
    begin_question(w);
    return true;
}

bool act_wants_text(const struct watch *w) {
    return w->prompt.step < text_count(w->prompt.act);
}

const char *act_question(const struct watch *w, char **ret_room) {
    *ret_room = NULL;
    if (act_wants_text(w)) return w->prompt.act->texts[w->prompt.step];
    return *ret_room = w->prompt.act->sure(w);
}

void act_give_up(struct watch *w) {
    struct prompt *p = &w->prompt;
    for (size_t i = 0; i < WATCH_ANSWERS; i++) free(p->answers[i]);
    free(p->what);
    free(p->title);
    json_decref(p->target);
    *p = (struct prompt){0};
}

void act_answer(struct watch *w, const char *text) {
    struct prompt *p = &w->prompt;
    const struct act *act = p->act;
    if (act_wants_text(w)) {
        free(p->answers[p->step]);
        p->answers[p->step] = mem_strdup(text);
        if (act->check && !act->check(w, p->step)) return;
        p->step++;
        // One letter needs no sample.
        if (act->go == go_try && p->step == 1 && json_object_get(p->target, "ids")) p->step++;
        if (act_wants_text(w) || act->sure) {
            begin_question(w);
            return;
        }
    }
    watch_say(w, TONE_PLAIN, "%s", "");
    act->go(w);
    act_give_up(w);
}

// --- doing it -----------------------------------------------------------------------------------------------------

bool watch_next_change(struct watch *w) {
    if (!w->change.act || w->change.sent) return false;
    w->change.sent = true;
    return true;
}

void watch_drop_change(struct watch *w) {
    free(w->change.path);
    free(w->change.what);
    json_decref(w->change.body);
    w->change = (struct change){0};
}

void watch_take_change(struct watch *w, const struct watch_answer *answer) {
    const struct act *act = w->change.act;
    if (!json_is_object(answer->json) || answer->status >= 400) {
        watch_say(w, TONE_BAD, "%s of %s: %s%s", act->name, w->change.what, answer->why ? answer->why : "the answer is not JSON",
                  answer->status ? "" : "; whether it was done is not known");
        watch_drop_change(w);
    } else {
        act->came(w, answer->json);
        if (w->change.sent) watch_drop_change(w);
    }
    watch_ask_now(w);
}
