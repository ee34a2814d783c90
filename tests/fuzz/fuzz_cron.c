// SPDX-License-Identifier: Apache-2.0
// Any bytes are an expression or an error that says what is wrong and where; an expression has words, and times that only ever go
// forward. The input is the expression, a NUL, and bytes for the zone, the mode of daylight saving and the time to begin at.
#include "triggers/cron.h"

#define SPANS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t take_number(struct str *rest, size_t bytes) {
    uint64_t n = 0;
    for (; bytes && rest->len; bytes--) {
        n = n << 8 | (uint8_t)rest->data[0];
        *rest = (struct str){rest->data + 1, rest->len - 1};
    }
    return (int64_t)n;
}

static struct zone take_zone(struct str *rest, struct zone_span spans[SPANS_MAX]) {
    static char name[] = "fuzzed";
    struct zone z = {name, spans, 1, 1};
    spans[0] = (struct zone_span){.begin = INT64_MIN, .offset = (int16_t)take_number(rest, 2)};
    int64_t begin = (uint32_t)take_number(rest, 4);
    while (rest->len >= 5 && z.count < SPANS_MAX) {
        begin += 1 + take_number(rest, 3);
        spans[z.count++] = (struct zone_span){.begin = begin, .offset = (int16_t)take_number(rest, 2) * 3};
    }
    return z;
}

static void refused(size_t size, struct cron_error where, const struct err *err) {
    MUST(err->code == ERR_INVALID && err->text[0] != '\0');
    MUST(where.field >= 0 && where.field <= 7 && where.begin <= where.end && where.end <= size);
    for (const char *p = err->text; *p; p++) MUST(*p >= ' ' && *p <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str rest = {(const char *)data, size}, text = {rest.data, size ? strnlen(rest.data, size) : 0}, zone_name;
    rest = (struct str){rest.data + text.len, rest.len - text.len};
    struct cron c;
    struct cron_error where = {-1, 0, 0};
    struct err err = {0};
    if (cron_parse(text, &c, &zone_name, &where, &err)) {
        refused(text.len, where, &err);
        return 0;
    }
    struct buf words;
    buf_init(&words, 65536);
    MUST(cron_words(&c, &words, &err) == 0 && buf_len(&words) > 0);
    buf_done(&words);
    take_number(&rest, 1);
    enum cron_dst dst = (enum cron_dst)(take_number(&rest, 1) & 3);
    int64_t after = take_number(&rest, 8), anchor = take_number(&rest, 8);
    struct zone_span spans[SPANS_MAX];
    struct zone z = take_zone(&rest, spans);
    for (int i = 0; i < 5; i++) {
        enum cron_mark mark;
        int64_t next = cron_next(&c, &z, dst, anchor, after, &mark);
        if (next == CRON_NEVER) break;
        MUST(next > after && next >= 0 && mark <= CRON_SECOND);
        after = next;
    }
    return 0;
}
