// SPDX-License-Identifier: Apache-2.0
// A selection as people are shown it. What compares with a secret is as secret as the field: whoever asks for it has its value, or a part of it.
#include <ctype.h>

#include "core/base/clock.h"
#include "core/base/text.h"
#include "core/redact.h"
#include "dlq/select_impl.h"

#define REDACT_GROWTH 3 // core/redact.h

// --- values of the expression -----------------------------------------------------------------------------------------------

// headers.NAME, payload and its members. Places of lists have the name that core/redact gives them.
static bool is_secret(const struct redact *r, const struct select_field *f) {
    struct str names[SELECT_STEPS_MAX + 1];
    if (f->class != SELECT_HEADER && f->class != SELECT_BYTES && f->class != SELECT_MEMBER) return false;
    names[0] = str_of(f->column->name);
    for (size_t i = 0; i < f->step_count; i++) names[i + 1] = f->steps[i].name.data ? f->steps[i].name : STR_LIT("0");
    return redact_is_secret_path(r, names, f->step_count + 1);
}

void select_show_value(const struct redact *r, const struct select_field *f, const struct select_value *v, struct str written, struct buf *out) {
    struct buf masked;
    buf_init(&masked, v->text.len * REDACT_GROWTH);
    int rc;
    if (f->column && is_secret(r, f)) rc = buf_append(out, STR_LIT("\"" REDACT_MASK "\""));
    else if (v->type == SELECT_IS_TEXT && redact_append(r, v->text, &masked)) rc = text_append_json(out, buf_str(&masked));
    else rc = buf_append(out, written);
    MUST(rc == 0);
    buf_done(&masked);
}

// --- all of it ----------------------------------------------------------------------------------------------------------------

static bool is_plain(struct str s) {
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.data[i]) && !memchr("._:/@-", s.data[i], 6)) return false;
    return s.len > 0;
}

static void put_name(struct buf *out, const char *name) {
    MUST(buf_printf(out, "%s%s", buf_len(out) ? " " : "", name) == 0);
}

static void put_word(struct buf *out, const char *name, struct str text) {
    if (text.len == 0) return;
    put_name(out, name);
    MUST((is_plain(text) ? buf_append(out, text) : text_append_json(out, text)) == 0);
}

// A text that may itself say `password=`.
static void put_masked(struct buf *out, const char *name, struct str text, const struct redact *r) {
    struct buf masked;
    buf_init(&masked, text.len * REDACT_GROWTH);
    (void)redact_append(r, text, &masked);
    put_word(out, name, buf_str(&masked));
    buf_done(&masked);
}

static void put_time(struct buf *out, const char *name, int64_t unix_ms) {
    char text[CLOCK_TEXT_BYTES];
    if (unix_ms == 0) return;
    clock_format_utc(unix_ms, text);
    put_word(out, name, str_of(text));
}

#define IDS_SHOWN 3
static void put_ids(struct buf *out, const struct selection *s) {
    char text[ID_TEXT_BYTES];
    for (size_t i = 0; i < s->id_count && i < IDS_SHOWN; i++) {
        id_format(&s->ids[i], text);
        put_word(out, "id=", str_of(text));
    }
    if (s->id_count > IDS_SHOWN) MUST(buf_printf(out, " and %zu more", s->id_count - IDS_SHOWN) == 0);
}

// Lines and other control characters become blanks.
static void put_where(struct buf *out, struct str where) {
    if (select_is_blank(where)) return;
    put_name(out, "where ");
    while (where.len && select_is_blank((struct str){where.data, 1})) where = (struct str){where.data + 1, where.len - 1};
    while (where.len && select_is_blank((struct str){where.data + where.len - 1, 1})) where.len--;
    for (size_t i = 0; i < where.len; i++) {
        unsigned char c = (unsigned char)where.data[i];
        MUST(buf_append(out, c < 0x20 || c == 0x7f ? STR_LIT(" ") : (struct str){where.data + i, 1}) == 0);
    }
}

char *select_describe(const struct selection *s, const struct select_spec *spec) {
    struct buf b;
    buf_init(&b, SELECT_TEXT_MAX * 80); // seven texts: a control character becomes six bytes, and a mask can treble a text before
    put_ids(&b, s);
    put_word(&b, "state=", spec->state);
    put_word(&b, "function=", spec->function);
    put_word(&b, "group=", spec->group);
    put_word(&b, "error=", spec->error_type);
    put_word(&b, "source=", spec->source);
    put_time(&b, "since=", spec->since_ms);
    put_time(&b, "until=", spec->until_ms);
    put_masked(&b, "search=", spec->search, spec->redact);
    put_where(&b, s->where_shown);
    if (buf_len(&b) == 0) put_name(&b, "all letters");
    return buf_take(&b, NULL);
}
