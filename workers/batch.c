// SPDX-License-Identifier: Apache-2.0
#include "workers/batch.h"

#include <utlist.h>

#include "core/fire.h"

struct delivery *call_new(struct delivery *members) {
    struct batch *b = mem_zalloc(sizeof *b);
    struct delivery *d;
    b->members = members;
    DL_FOREACH(members, d) {
        delivery_move(d, DELIVERY_JOINED);
        b->count++;
    }
    b->call = (struct delivery){
        .state = DELIVERY_RECEIVED, .ev = members->ev, .lane = members->lane, .batch = b, .intake = members->intake, .probe = members->probe};
    return &b->call;
}

static void drop_rendered(struct batch *b) {
    if (b->rendered) ev_free(b->call.ev);
    b->rendered = false;
    b->call.ev = b->members ? b->members->ev : NULL;
}

void call_take(struct batch *b, struct delivery *member) {
    DL_DELETE(b->members, member);
    b->count--;
    drop_rendered(b);
}

struct delivery *call_take_all(struct batch *b) {
    struct delivery *all = TAKE_PTR(b->members);
    b->count = 0;
    drop_rendered(b);
    return all;
}

void call_free(struct batch *b) {
    MUST(!b->members);
    version_unref(b->call.version);
    free(b);
}

void call_release(struct delivery *d) {
    if (!d->batch) {
        delivery_release(d);
        return;
    }
    struct delivery *all = call_take_all(d->batch), *next;
    call_free(d->batch);
    DL_FOREACH_SAFE(all, d, next) {
        DL_DELETE(all, d);
        delivery_release(d);
    }
}

// --- what the function gets -----------------------------------------------------------------------------------------

static struct ev_fields fields_of(const struct batch *b) {
    const struct ev_fields *first = &b->members->ev->f;
    if (b->count > 1)
        return (struct ev_fields){.accepted_ms = first->accepted_ms,
                                  .function = first->function,
                                  .qualifier = first->qualifier,
                                  .source_kind = first->source_kind,
                                  .source_name = first->source_name,
                                  .content_type = STR_LIT("application/json")};
    struct ev_fields f = *first;
    f.payload = f.history = STR_NONE; // an instance does not look at the history
    f.content_type = STR_LIT("application/json");
    return f;
}

#define RECORD_BYTES 256 // about what a shape puts around a payload

static int append_records(const struct batch *b, struct buf *out, struct err *err) {
    enum shape shape;
    int rc = shape_parse(b->members->ev->f.shape, &shape, err);
    if (rc) return rc;
    cleanup_free const struct ev **evs = mem_array(b->count, sizeof *evs);
    size_t n = 0, about = 0;
    const struct delivery *d;
    DL_FOREACH(b->members, d) {
        evs[n++] = d->ev;
        about += d->ev->f.payload.len + RECORD_BYTES;
    }
    char *room = buf_reserve(out, about); // at once, as far as it is allowed: growing step by step copies
    (void)room;
    return shape_append(out, shape, evs, n, err);
}

int call_render(struct batch *b, size_t max_bytes, struct err *err) {
    if (b->rendered) return 0;
    struct buf out;
    buf_init(&out, max_bytes);
    int rc = append_records(b, &out, err);
    if (rc) {
        buf_done(&out);
        return rc;
    }
    const struct ev_fields f = fields_of(b);
    struct ev *ev = ev_new(&f);
    size_t len;
    ev->block = buf_take(&out, &len); // freed with it
    ev->f.payload = (struct str){ev->block, len};
    b->call.ev = ev;
    b->rendered = true;
    return 0;
}

// --- what it says about them ----------------------------------------------------------------------------------------

#define LOOKS_A_RECORD 100 // most names of one call are compared with so many records each, on the average

// The place of the record that is meant, looked for around `from`, as they are mostly named in order, up or down; count:
// none, or the call has used up its looks.
static size_t find_named(const struct batch *b, const struct delivery *const *members, const json_t *name, size_t from, size_t *looks) {
    for (size_t i = 0; i < b->count && *looks; i++) {
        size_t step = (i + 1) / 2, at = (i % 2 ? from + step : from + b->count - step) % b->count;
        --*looks;
        if (shape_names_event(name, members[at]->ev)) return at;
    }
    return b->count;
}

static enum verdict read_failures(const struct batch *b, const json_t *list, bool *failed) {
    if (!list || json_is_null(list)) return VERDICT_DONE;
    if (!json_is_array(list)) return VERDICT_FAILED;
    cleanup_free const struct delivery **members = mem_array(b->count, sizeof *members);
    size_t n = 0, from = 0, i, looks = LOOKS_A_RECORD * (b->count + 10);
    const struct delivery *d;
    DL_FOREACH(b->members, d) members[n++] = d;
    const json_t *item;
    json_array_foreach(list, i, item) {
        size_t at = find_named(b, members, json_object_get(item, "itemIdentifier"), from, &looks);
        if (at == b->count) return VERDICT_FAILED;
        failed[at] = true;
        from = at;
    }
    return json_array_size(list) ? VERDICT_SOME : VERDICT_DONE;
}

enum verdict call_verdict(const struct batch *b, struct str result, bool *failed) {
    static const char word[] = "batchItemFailures";
    if (str_is(b->members->ev->f.source_kind, FIRE_SOURCE)) return VERDICT_DONE;
    if (!result.len || !memmem(result.data, result.len, word, sizeof word - 1)) return VERDICT_DONE;
    json_t *o = json_loadb(result.data, result.len, JSON_ALLOW_NUL, NULL);
    enum verdict v = read_failures(b, json_object_get(o, word), failed);
    json_decref(o);
    return v;
}

void call_item_failed(struct outcome_report *r) {
    r->outcome = OUTCOME_ERROR;
    r->result = STR_NONE;
    r->error_type = STR_LIT("BatchItemFailure");
    r->error_message = STR_LIT("the function named this record in the batchItemFailures of its result");
}
