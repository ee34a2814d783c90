// SPDX-License-Identifier: Apache-2.0
// Invariant: every record taken is in exactly one shipment until it was settled, released or refused.
#include "workers/outlet.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/shape.h"
#include "dlq/vendor_letter.h"

struct shipment {
    struct shipment *prev, *next;
    struct outlet *outlet;
    struct delivery *records;
    struct ev *message;      // headers, key, content type and payload of the message, kept as an event
    struct sink *sink;
    const char *to, *key;    // key: "" the record's
    bool failure, tombstone;
    int64_t again_ms;        // the last pause; 0: none yet
    struct timer *again;     // runs until the next try
    bool waiting;
};

struct outlet {
    struct outlet_config c;
    struct shipment *shipments;
    size_t count, troubled;
    struct log_repeat trouble;
    char why[200];
    bool stopping;
};

// --- the end of a message -------------------------------------------------------------------------------------------

static void end_records(struct shipment *s, void (*end)(struct delivery *d)) {
    struct delivery *d, *next;
    DL_FOREACH_SAFE(s->records, d, next) {
        DL_DELETE(s->records, d);
        end(d);
    }
}

static void shipment_done(struct shipment *s) {
    struct outlet *o = s->outlet;
    DL_DELETE(o->shipments, s);
    o->count--;
    if (s->again_ms) o->troubled--;
    timer_free(s->again);
    ev_free(s->message);
    free(s);
    if (o->count == 0) o->c.on_idle(o->c.arg);
}

static void give_up(struct shipment *s) {
    end_records(s, delivery_release);
    shipment_done(s);
}

static void refuse(struct shipment *s, const struct err *why) {
    struct outlet *o = s->outlet;
    if (s->failure) {
        log_error("outlet", "on_failure: the sink never takes this record; its letter is kept", LOG_STR("trigger", o->c.binding->name),
                  LOG_STR("why", why->text));
        end_records(s, delivery_settle);
    } else {
        struct delivery *d, *next;
        DL_FOREACH_SAFE(s->records, d, next) {
            DL_DELETE(s->records, d);
            o->c.on_refused(o->c.arg, d, why);
        }
    }
    shipment_done(s);
}

static void pause_before_next(struct shipment *s, const struct err *why) {
    struct outlet *o = s->outlet;
    if (s->again_ms == 0) o->troubled++;
    log_repeating(&o->trouble, LOG_LEVEL_ERROR, "outlet", "cannot send to a sink; its records stay unacknowledged", why->text);
    snprintf(o->why, sizeof o->why, "%.150s: %.40s", why->text, s->to);
    s->again_ms = s->again_ms ? 2 * s->again_ms : OUTLET_AGAIN_MS;
    if (s->again_ms > OUTLET_AGAIN_MAX_MS) s->again_ms = OUTLET_AGAIN_MAX_MS;
    s->waiting = true;
    timer_start(s->again, s->again_ms);
}

static void on_sent(void *arg, int code, const struct err *err) {
    struct shipment *s = arg;
    if (code == ERR_OK) {
        end_records(s, delivery_settle);
        shipment_done(s);
    } else if (code == ERR_TOO_LARGE) {
        refuse(s, err);
    } else if (s->outlet->stopping) {
        give_up(s);
    } else {
        pause_before_next(s, err);
    }
}

static void send(void *arg) {
    struct shipment *s = arg;
    const struct ev_fields *f = &s->message->f;
    char id[ID_TEXT_BYTES];
    id_format(&f->id, id);
    const struct sink_message m = {.to = str_of(s->to),
                                   .key = *s->key ? str_of(s->key) : f->ordering_key,
                                   .content_type = f->content_type,
                                   .message_id = str_of(id),
                                   .headers = f->headers,
                                   .header_count = f->header_count,
                                   .payload = f->payload,
                                   .null_payload = s->tombstone};
    s->waiting = false;
    sink_send(s->sink, &m, on_sent, s);
}

// --- messages -------------------------------------------------------------------------------------------------------

static void ship(struct outlet *o, struct delivery *records, const struct ev_fields *message, bool failure) {
    const struct binding *b = o->c.binding;
    struct shipment *s = mem_zalloc(sizeof *s);
    *s = (struct shipment){.outlet = o,
                           .records = records,
                           .message = ev_new(message),
                           .sink = failure ? b->on_failure : b->on_success,
                           .to = failure ? b->failure_to : b->success_to,
                           .key = failure ? b->failure_key : b->success_key,
                           .failure = failure};
    if (!s->to) s->to = "";
    if (!s->key) s->key = "";
    s->tombstone = failure && message->payload.len == 0 && str_is(source_at_member(records->ev->f.source_at, "tombstone"), "true");
    s->again = timer_new(o->c.loop, send, s);
    DL_APPEND(o->shipments, s);
    o->count++;
    send(s);
}

void outlet_result(struct outlet *o, struct delivery *list, const struct id *id, struct str result) {
    const struct binding *b = o->c.binding;
    struct delivery *d;
    DL_FOREACH(list, d) delivery_move(d, DELIVERY_SENDING);
    const char *prefix = b->on_success->ops->ce_prefix ? b->on_success->ops->ce_prefix : "ce_";
    char id_text[ID_TEXT_BYTES], time[CLOCK_TEXT_BYTES], names[6][40], source[100];
    id_format(id, id_text);
    clock_format_utc(clock_unix_ms(), time);
    snprintf(source, sizeof source, "/functions/%s", b->function);
    const char *const attributes[6][2] = {{"specversion", "1.0"}, {"id", id_text},     {"source", source},
                                          {"type", "dev.weir.function.result"}, {"time", time}, {"subject", b->name}};
    struct ev_header headers[6];
    for (size_t i = 0; i < array_len(headers); i++) {
        snprintf(names[i], sizeof names[i], "%.20s%s", prefix, attributes[i][0]);
        headers[i] = (struct ev_header){str_of(names[i]), str_of(attributes[i][1])};
    }
    const struct ev_fields message = {.id = *id,
                                      .ordering_key = list->next ? STR_NONE : list->ev->f.ordering_key,
                                      .content_type = STR_LIT("application/json"),
                                      .payload = result,
                                      .headers = headers,
                                      .header_count = array_len(headers)};
    ship(o, list, &message, false);
}

// The platform's dead-letter message instead of the record; one that cannot be written is sent as the record.
static void set_vendor_message(struct ev_fields *message, struct buf *text, const char *shape, const struct letter_draft *letter) {
    enum vendor vendor = VENDOR_WEIR;
    struct err err = {0};
    if (!shape || vendor_parse(str_of(shape), &vendor, &err) || vendor == VENDOR_WEIR) return;
    const struct vendor_failure failure = {.ev = letter->ev,
                                           .kind = str_of(letter_kind_word(letter->kind)),
                                           .error_type = letter->error_type,
                                           .error_message = letter->error_message,
                                           .stack = letter->stack,
                                           .version = letter->version,
                                           .died_ms = clock_unix_ms()};
    if (vendor_letter_append(text, vendor, &failure, &err)) {
        log_warn("outlet", "on_failure: cannot write the platform's message; the record itself goes", LOG_STR("why", err.text));
        return;
    }
    message->payload = buf_str(text);
    message->content_type = STR_LIT("application/json");
}

void outlet_failure(struct outlet *o, struct delivery *d, const struct letter_draft *letter) {
    delivery_move(d, DELIVERY_SENDING);
    const struct ev *after = letter->ev;
    struct ev_fields message = after->f;
    struct buf text;
    char id[ID_TEXT_BYTES], attempts[12];
    id_format(&after->f.id, id);
    snprintf(attempts, sizeof attempts, "%u", after->f.attempt);
    const struct ev_header ours[] = {{STR_LIT("weir-error-type"), letter->error_type},
                                     {STR_LIT("weir-error-message"), letter->error_message},
                                     {STR_LIT("weir-attempts"), str_of(attempts)},
                                     {STR_LIT("weir-letter-id"), str_of(id)},
                                     {STR_LIT("weir-function"), after->f.function},
                                     {STR_LIT("weir-source-at"), after->f.source_at}};
    size_t theirs = message.header_count;
    cleanup_free struct ev_header *headers = mem_array(theirs + array_len(ours), sizeof *headers);
    if (theirs) memcpy(headers, message.headers, theirs * sizeof *headers);
    memcpy(headers + theirs, ours, sizeof ours);
    message.headers = headers;
    message.header_count = theirs + array_len(ours);
    message.history = STR_NONE;
    buf_init(&text, 8 * EV_ENCODED_MAX);
    set_vendor_message(&message, &text, o->c.binding->failure_shape, letter);
    struct delivery *list = NULL;
    DL_APPEND(list, d);
    ship(o, list, &message, true);
    buf_done(&text);
}

// --- life -----------------------------------------------------------------------------------------------------------

struct outlet *outlet_new(const struct outlet_config *config) {
    struct outlet *o = mem_zalloc(sizeof *o);
    o->c = *config;
    return o;
}

size_t outlet_pending(const struct outlet *o) {
    return o->count;
}

const char *outlet_trouble(const struct outlet *o) {
    return o->troubled ? o->why : NULL;
}

void outlet_stop(struct outlet *o) {
    o->stopping = true;
    struct shipment *s, *next;
    DL_FOREACH_SAFE(o->shipments, s, next) if (s->waiting) give_up(s);
}

void outlet_free(struct outlet *o) {
    if (!o) return;
    MUST(o->count == 0);
    free(o);
}
