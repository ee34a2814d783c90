// SPDX-License-Identifier: Apache-2.0
// A collection lives until `done` was called and every asked part has answered, so that a late answer finds it.
// Invariant: `done` never runs inside status_collect, also when all parts answer at once.
#include "core/status.h"

struct section {
    char *name;
    status_fn *fn;
    void *arg;
};

struct collection {
    struct status *status;      // NULL after status_free
    struct collection *next;
    size_t unanswered;
    bool finished;              // done was called, or never will be
    json_t *all;
    struct timer *limit;
    struct defer defer;
    void (*done)(void *arg, json_t *all);
    void *arg;
};

struct status_reply {
    struct collection *collection;
    char *section;
};

struct status {
    struct loop *loop;
    struct section *sections;
    size_t count;
    struct collection *open; // not finished
};

struct status *status_new(struct loop *loop) {
    struct status *s = mem_zalloc(sizeof *s);
    s->loop = loop;
    return s;
}

static void collection_free_unless_awaited(struct collection *c) {
    if (!c->finished || c->unanswered > 0) return;
    free(c);
}

// Takes it off the open list and lets go of what belongs to the loop.
static void collection_end(struct collection *c) {
    struct collection **at = &c->status->open;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    loop_defer_cancel(c->status->loop, &c->defer);
    timer_free(c->limit);
    c->limit = NULL;
    c->status = NULL;
    c->finished = true;
}

static void name_missing(const struct status *s, json_t *all) {
    json_t *missing = json_array();
    for (size_t i = 0; i < s->count; i++)
        if (!json_object_get(all, s->sections[i].name)) json_array_append_new(missing, json_string(s->sections[i].name));
    if (json_array_size(missing)) json_object_set(all, "missing", missing);
    json_decref(missing);
}

static void collection_finish(void *arg) {
    struct collection *c = arg;
    json_t *all = TAKE_PTR(c->all);
    name_missing(c->status, all);
    collection_end(c);
    c->done(c->arg, all);
    collection_free_unless_awaited(c);
}

void status_free(struct status *s) {
    if (!s) return;
    while (s->open) {
        struct collection *c = s->open;
        collection_end(c);
        json_decref(TAKE_PTR(c->all)); // a late answer finds none
        collection_free_unless_awaited(c);
    }
    for (size_t i = 0; i < s->count; i++) free(s->sections[i].name);
    free(s->sections);
    free(s);
}

void status_add(struct status *s, const char *section, status_fn *fn, void *arg) {
    s->sections = mem_realloc(s->sections, (s->count + 1) * sizeof *s->sections);
    s->sections[s->count++] = (struct section){mem_strdup(section), fn, arg};
}

void status_answer(struct status_reply *reply, json_t *section) {
    struct collection *c = reply->collection;
    if (section && c->all) json_object_set_new(c->all, reply->section, section);
    else json_decref(section);
    free(reply->section);
    free(reply);
    c->unanswered--;
    if (c->finished) collection_free_unless_awaited(c);
    else if (c->unanswered == 0) loop_defer(c->status->loop, &c->defer);
}

void status_collect(struct status *s, int64_t wait_ms, void (*done)(void *arg, json_t *all), void *arg) {
    struct collection *c = mem_zalloc(sizeof *c);
    // One answer more than there are sections: ours, below, so that nothing ends while parts are still being asked.
    *c = (struct collection){.status = s, .next = s->open, .unanswered = s->count + 1, .all = json_object(), .done = done,
                             .arg = arg, .defer = {.fn = collection_finish, .arg = c}};
    s->open = c;
    c->limit = timer_new(s->loop, collection_finish, c);
    timer_start(c->limit, wait_ms);
    for (size_t i = 0; i < s->count; i++) {
        struct status_reply *reply = mem_zalloc(sizeof *reply);
        *reply = (struct status_reply){c, mem_strdup(s->sections[i].name)};
        s->sections[i].fn(s->sections[i].arg, reply);
    }
    struct status_reply *own = mem_zalloc(sizeof *own);
    own->collection = c;
    status_answer(own, NULL);
}
