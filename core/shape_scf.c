// SPDX-License-Identifier: Apache-2.0
// Tencent SCF: {"Records":[{"Ckafka":{…}}…]} of CKafka triggers, and {"Records":[{"CMQ":{…}}…]} of CMQ topics for AMQP.
//
// This is the shape of the fast path: nothing is allocated for a record, and nothing but its text is looked at.
#include "core/base/text.h"
#include "core/shape_parts.h"

static int put_ckafka(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = buf_append(out, STR_LIT("{\"Ckafka\":{\"topic\":"));
    rc |= shape_put_escaped(out, at->topic);
    rc |= buf_append(out, STR_LIT(",\"partition\":"));
    rc |= shape_put_integer(out, at->partition);
    rc |= buf_append(out, STR_LIT(",\"offset\":"));
    rc |= shape_put_integer(out, at->offset);
    rc |= buf_append(out, STR_LIT(",\"msgKey\":"));
    rc |= text_append_json(out, ev->f.ordering_key.len ? ev->f.ordering_key : STR_LIT("None"));
    rc |= buf_append(out, STR_LIT(",\"msgBody\":"));
    rc |= text_append_json(out, ev->f.payload);
    return rc | buf_append(out, STR_LIT("}}"));
}

// A queue that is fed by an exchange is a subscription of a topic; one that was published to directly is both.
static int put_cmq(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = buf_append(out, STR_LIT("{\"CMQ\":{\"type\":\"topic\",\"topicOwner\":0,\"topicName\":"));
    rc |= shape_put_escaped(out, at->exchange.len ? at->exchange : at->queue);
    rc |= buf_append(out, STR_LIT(",\"subscriptionName\":"));
    if (at->queue.len) rc |= shape_put_escaped(out, at->queue);
    else rc |= text_append_json(out, ev->f.source_name);
    rc |= buf_append(out, STR_LIT(",\"publishTime\":"));
    rc |= shape_put_time(out, shape_unix_ms(ev, at));
    rc |= buf_append(out, STR_LIT(",\"msgId\":"));
    rc |= shape_put_message_id(out, ev);
    rc |= buf_append(out, STR_LIT(",\"requestId\":"));
    rc |= shape_put_id(out, ev);
    rc |= buf_append(out, STR_LIT(",\"msgBody\":"));
    rc |= text_append_json(out, ev->f.payload);
    rc |= buf_append(out, STR_LIT(",\"msgTag\":"));
    rc |= shape_put_escaped(out, at->routing_key);
    return rc | buf_append(out, STR_LIT("}}"));
}

int shape_put_scf(struct buf *out, const struct ev *const *evs, size_t count) {
    int rc = buf_append(out, STR_LIT("{\"Records\":["));
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct shape_at at;
        shape_at_read(evs[i], &at);
        if (i) rc |= buf_append(out, STR_LIT(","));
        rc |= at.amqp ? put_cmq(out, evs[i], &at) : put_ckafka(out, evs[i], &at);
    }
    return rc | buf_append(out, STR_LIT("]}"));
}
