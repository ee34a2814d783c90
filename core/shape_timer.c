// SPDX-License-Identifier: Apache-2.0
// The fire of a timer, as each vendor's timer trigger writes it: Tencent SCF's timer event, Alibaba FC's, and the scheduled event of
// AWS EventBridge. A fire is never part of a batch. The time is the scheduled one, which source_at has.
#include "core/base/text.h"
#include "core/shape_parts.h"

static int put_name(struct buf *out, struct str opening, const struct ev *ev) {
    int rc = buf_append(out, opening);
    return rc | text_append_json(out, ev->f.source_name);
}

int shape_put_scheduled(struct buf *out, struct str opening, const struct ev *ev) {
    struct str time = source_at_member(ev->f.source_at, "time");
    int rc = buf_append(out, opening);
    return rc | (time.len ? shape_put_escaped(out, time) : shape_put_time(out, ev->f.accepted_ms > 0 ? ev->f.accepted_ms : 0));
}

static int put_message(struct buf *out, struct str opening, const struct ev *ev) {
    int rc = buf_append(out, opening);
    rc |= text_append_json(out, ev->f.payload);
    return rc | buf_append(out, STR_LIT("}"));
}

int shape_put_timer_scf(struct buf *out, const struct ev *const *evs, size_t count) {
    MUST(count == 1);
    int rc = put_name(out, STR_LIT("{\"Type\":\"Timer\",\"TriggerName\":"), evs[0]);
    rc |= shape_put_scheduled(out, STR_LIT(",\"Time\":"), evs[0]);
    return rc | put_message(out, STR_LIT(",\"Message\":"), evs[0]);
}

int shape_put_timer_fc(struct buf *out, const struct ev *const *evs, size_t count) {
    MUST(count == 1);
    int rc = shape_put_scheduled(out, STR_LIT("{\"triggerTime\":"), evs[0]);
    rc |= put_name(out, STR_LIT(",\"triggerName\":"), evs[0]);
    return rc | put_message(out, STR_LIT(",\"payload\":"), evs[0]);
}

static bool is_object(struct str bytes) {
    size_t n = 0;
    while (n < bytes.len && (bytes.data[n] == ' ' || bytes.data[n] == '\n' || bytes.data[n] == '\t' || bytes.data[n] == '\r')) n++;
    return n < bytes.len && bytes.data[n] == '{' && shape_is_json(bytes);
}

static int put_detail(struct buf *out, const struct ev *ev) {
    if (ev->f.payload.len == 0) return buf_append(out, STR_LIT("{}"));
    if (is_object(ev->f.payload)) return buf_append(out, ev->f.payload);
    return put_message(out, STR_LIT("{\"message\":"), ev);
}

// Account and region are empty, as in the names of the other sources.
int shape_put_timer_lambda(struct buf *out, const struct ev *const *evs, size_t count) {
    MUST(count == 1);
    int rc = buf_append(out, STR_LIT("{\"version\":\"0\",\"id\":"));
    rc |= shape_put_id(out, evs[0]);
    rc |= buf_append(out, STR_LIT(",\"detail-type\":\"Scheduled Event\",\"source\":\"aws.events\",\"account\":\"\""));
    rc |= shape_put_scheduled(out, STR_LIT(",\"time\":"), evs[0]);
    rc |= buf_append(out, STR_LIT(",\"region\":\"\",\"resources\":[\"arn:weir:events:::rule/\""));
    rc = shape_more_text(out, rc, evs[0]->f.source_name);
    rc |= buf_append(out, STR_LIT("],\"detail\":"));
    rc |= put_detail(out, evs[0]);
    return rc | buf_append(out, STR_LIT("}"));
}
