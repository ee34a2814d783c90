// SPDX-License-Identifier: Apache-2.0
#include "cli/cron_expression.h"

#include "cli/commands.h"
#include "core/base/clock.h"

bool is_expression(const char *word) {
    return word[0] == '@' || strpbrk(word, " \t") != NULL;
}

int expression_one_word(const struct args *a) {
    if (a->word_count == 1) return EXIT_OK;
    return out_misuse("%s: write an expression in quotes, so that the shell leaves it whole: weir %s '0 30 2 * * * *'", a->path, a->path);
}

// --- errors -----------------------------------------------------------------------------------------------------------

// Columns of the first n bytes on a terminal: UTF-8 continuation bytes take no room.
static size_t columns(const char *text, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n && text[i]; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

int expression_complain(const char *text, const struct cron_error *where, const struct err *err) {
    cleanup_free char *line = mem_strdup(text);
    for (char *c = line; *c; c++)
        if (*c == '\t' || *c == '\n' || *c == '\r') *c = ' ';
    size_t end = where->end > where->begin ? where->end : where->begin + 1;
    size_t before = columns(text, where->begin), width = columns(text, end) - before;
    char carets[CRON_TEXT_MAX + 1];
    if (width < 1) width = 1; // behind its end: something is missing
    if (width > CRON_TEXT_MAX) width = CRON_TEXT_MAX;
    memset(carets, '^', width);
    carets[width] = '\0';
    if (strlen(text) > CRON_TEXT_MAX) return out_fail("%s", err->text);
    return out_fail("%s\n  %s\n  %*s%s", err->text, line, (int)before, "", carets);
}

// --- reading ----------------------------------------------------------------------------------------------------------

int expression_parse(const char *text, struct expression *ret, struct str *ret_zone, struct cron_error *where, struct err *err) {
    struct expression e = {.text = text};
    *where = (struct cron_error){0};
    int rc = cron_parse(str_of(text), &e.cron, ret_zone, where, err);
    if (rc) return rc;
    const char *fields = ret_zone->len ? ret_zone->data + ret_zone->len : text;
    e.fields = str_of(fields + strspn(fields, " \t"));
    *ret = e;
    return 0;
}

static int open_zone(const struct args *a, struct str own, struct zone **ret) {
    struct err err;
    const char *tz = args_text(a, "tz");
    if (own.len == 0) return cron_cmd_tz(a, ret);
    if (tz && !str_is(own, tz))
        return out_misuse("%s: the expression says zone %.*s, --tz says %s; give one of them", a->path, STR_ARG(own), tz);
    return zone_open(own, ret, &err) < 0 ? out_fail("%s", err.text) : EXIT_OK;
}

static int take_dst(const struct args *a, enum cron_dst *ret) {
    struct err err;
    const char *word = args_text(a, "dst");
    *ret = CRON_DST_CRON;
    if (word && cron_dst_parse(str_of(word), ret, &err) < 0) return out_misuse("--dst: %s", err.text);
    return EXIT_OK;
}

int expression_open(const struct args *a, const char *text, struct expression *ret) {
    struct err err = {0};
    struct cron_error where;
    struct str zone = STR_NONE;
    if (expression_parse(text, ret, &zone, &where, &err) < 0) return expression_complain(text, &where, &err);
    int rc = take_dst(a, &ret->dst);
    return rc == EXIT_OK ? open_zone(a, zone, &ret->zone) : rc;
}

void expression_done(struct expression *e) {
    zone_close(e->zone);
    e->zone = NULL;
}

// --- telling ----------------------------------------------------------------------------------------------------------

char *expression_words(const struct expression *e) {
    struct buf out;
    struct err err;
    buf_init(&out, 4096);
    char *words = cron_words(&e->cron, &out, &err) < 0 ? mem_strdup("") : mem_strndup(buf_str(&out));
    buf_done(&out);
    return words;
}

static json_t *mark_json(enum cron_mark mark) {
    static const char *const words[] = {[CRON_GAP_END] = "gap-end", [CRON_FIRST] = "first", [CRON_SECOND] = "second"};
    return mark == CRON_PLAIN ? json_null() : json_string(words[mark]);
}

static json_t *fires_json(const struct expression *e, int64_t from_ms, int64_t to_ms, size_t count) {
    json_t *list = json_array();
    int64_t begin_s = clock_unix_ms() / 1000, at = begin_s;
    if (from_ms) begin_s = (from_ms + 999) / 1000, at = begin_s - 1; // from then on, itself included
    while (json_array_size(list) < count) {
        enum cron_mark mark = CRON_PLAIN;
        char local[ZONE_TEXT_BYTES], utc[CLOCK_TEXT_BYTES];
        at = cron_next(&e->cron, e->zone, e->dst, begin_s, at, &mark);
        if (at == CRON_NEVER || (to_ms && at * 1000 >= to_ms)) break;
        zone_format(e->zone, at, local);
        clock_format_utc(at * 1000, utc);
        json_t *fire = json_pack("{s:I, s:s, s:o, s:o}", "scheduledMs", (json_int_t)at * 1000, "local", local, "utc",
                                 json_sprintf("%.19sZ", utc), "mark", mark_json(mark));
        MUST(json_array_append_new(list, fire) == 0);
    }
    return list;
}

json_t *expression_next(const struct expression *e, int64_t from_ms, int64_t to_ms, size_t count) {
    cleanup_free char *words = expression_words(e);
    json_t *next = json_pack("{s:s, s:s, s:s, s:o}", "zone", e->zone->name, "expression", e->text, "words", words, "fires",
                             fires_json(e, from_ms, to_ms, count));
    MUST(next); // cron_parse takes no text that is not ASCII
    return next;
}
