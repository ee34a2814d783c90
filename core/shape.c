// SPDX-License-Identifier: Apache-2.0
// The words of the shapes, the way to the file that writes each, and which record a function means when it names one.
#include "core/fire.h"
#include "core/shape_parts.h"

static const char *const words[] = {
#define X(name, word, most) [name] = (word),
    SHAPES(X)
#undef X
};

static int put_raw(struct buf *out, const struct ev *const *evs, size_t count) {
    MUST(count == 1);
    return buf_append(out, evs[0]->f.payload);
}

static shape_render_fn *const renderers[] = {
    [SHAPE_RAW] = put_raw,
    [SHAPE_SCF] = shape_put_scf,
    [SHAPE_LAMBDA] = shape_put_lambda,
    [SHAPE_FC] = shape_put_fc,
    [SHAPE_CLOUDEVENTS] = shape_put_cloudevents,
};
static shape_render_fn *const timer_renderers[] = {
    [SHAPE_RAW] = put_raw,
    [SHAPE_SCF] = shape_put_timer_scf,
    [SHAPE_LAMBDA] = shape_put_timer_lambda,
    [SHAPE_FC] = shape_put_timer_fc,
    [SHAPE_CLOUDEVENTS] = shape_put_cloudevents,
};

const char *shape_word(enum shape s) {
    return words[s];
}

int shape_parse(struct str word, enum shape *ret, struct err *err) {
    if (word.len == 0) {
        *ret = SHAPE_RAW;
        return 0;
    }
    for (size_t i = 0; i < array_len(words); i++)
        if (str_is(word, words[i])) {
            *ret = (enum shape)i;
            return 0;
        }
#define X(name, word, most) " " word
    return err_set(err, ERR_INVALID, "no shape is called \"%.*s\"; there are:" SHAPES(X),
                   (int)(word.len < 60 ? word.len : 60), word.data);
#undef X
}

bool shape_is_single(enum shape s) {
    static const unsigned most[] = {
#define X(name, word, most) [name] = (most),
        SHAPES(X)
#undef X
    };
    return most[s] == 1;
}

int shape_append(struct buf *out, enum shape s, const struct ev *const *evs, size_t count, struct err *err) {
    MUST(count >= 1);
    size_t before = buf_len(out);
    bool timer = str_is(evs[0]->f.source_kind, FIRE_SOURCE);
    if ((timer ? timer_renderers : renderers)[s](out, evs, count) == 0) return 0;
    out->end = out->start + before;
    return err_set(err, ERR_TOO_LARGE, "%zu record(s) in the shape %s, in a message with %zu bytes before, pass %zu bytes", count,
                   words[s], before, out->cap);
}

// ---- names of records ------------------------------------------------------------------------------------------------------

static bool take(struct str *s, struct str part) {
    if (s->len < part.len || (part.len && memcmp(s->data, part.data, part.len) != 0)) return false;
    *s = (struct str){s->data + part.len, s->len - part.len};
    return true;
}

static bool is_coordinates(struct str text, const struct shape_at *at) {
    return at->topic.len && at->offset.len && take(&text, at->topic) && take(&text, STR_LIT("-")) && take(&text, at->partition) &&
           take(&text, STR_LIT("-")) && str_eq(text, at->offset);
}

// {"partition":"topic-0","offset":7}, as Lambda's functions for Kafka name a record.
static bool object_names(const json_t *item, const struct shape_at *at) {
    const json_t *name = json_object_get(item, "partition"), *offset = json_object_get(item, "offset");
    int64_t n;
    if (!json_is_string(name) || !json_is_integer(offset)) return false;
    struct str text = {json_string_value(name), json_string_length(name)};
    return at->topic.len && shape_integer(at->offset, &n) && n == json_integer_value(offset) && take(&text, at->topic) &&
           take(&text, STR_LIT("-")) && str_eq(text, at->partition);
}

bool shape_names_event(const json_t *item_identifier, const struct ev *ev) {
    struct shape_at at;
    shape_at_read(ev, &at);
    if (json_is_object(item_identifier)) return !at.amqp && object_names(item_identifier, &at);
    if (!json_is_string(item_identifier)) return false;
    struct str text = {json_string_value(item_identifier), json_string_length(item_identifier)};
    char id[ID_TEXT_BYTES];
    id_format(&ev->f.id, id);
    if (text.len == 0) return false;
    if (str_is(text, id)) return true;
    if (at.amqp ? str_eq(text, shape_header(ev, "message-id")) : is_coordinates(text, &at)) return true;
    return str_is(ev->f.shape, words[SHAPE_CLOUDEVENTS]) && shape_cloudevents_names(text, ev);
}

struct str source_at_member(struct str source_at, const char *name) {
    struct str wanted = str_of(name), found, value;
    while (shape_at_next(&source_at, &found, &value))
        if (str_eq(found, wanted)) return value;
    return STR_LIT("");
}
