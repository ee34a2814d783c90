// SPDX-License-Identifier: Apache-2.0
// Lines `expression TAB zone TAB dst TAB after` from the standard input; for each a line with the next five times in Unix seconds, each
// with its mark (enum cron_mark) behind a slash, or `never`. What is wrong with a line is told as `error: …`.
#include "triggers/cron.h"

#define TIMES 5
#define ZONES_MAX 1000

static struct zone *held[ZONES_MAX]; // so that each is read once
static size_t held_count;

static struct zone *zone_of(struct str name, struct err *err) {
    struct zone *z;
    if (zone_open(name, &z, err)) return NULL;
    if (z->users > 1) {
        zone_close(z);
        return z;
    }
    MUST(held_count < ZONES_MAX);
    held[held_count++] = z;
    return z;
}

static int answer(char *line, struct err *err) {
    char *rest = line, *text = strsep(&rest, "\t"), *zone = strsep(&rest, "\t"), *word = strsep(&rest, "\t");
    if (!rest) return err_set(err, ERR_INVALID, "four columns are wanted");
    struct cron c;
    enum cron_dst dst;
    int rc = cron_parse(str_of(text), &c, NULL, NULL, err);
    if (!rc) rc = cron_dst_parse(str_of(word), &dst, err);
    if (rc) return rc;
    struct zone *z = zone_of(str_of(zone), err);
    if (!z) return (int)err->code;
    int64_t at = strtoll(rest, NULL, 10);
    for (int i = 0; i < TIMES; i++) {
        enum cron_mark mark;
        at = cron_next(&c, z, dst, at, at, &mark);
        if (at == CRON_NEVER) break;
        printf("%lld/%d ", (long long)at, (int)mark);
    }
    puts(at == CRON_NEVER ? "never" : "");
    return 0;
}

int main(void) {
    cleanup_free char *line = NULL;
    size_t room = 0;
    struct err err = {0};
    for (ssize_t n; (n = getline(&line, &room, stdin)) > 0;) {
        line[n - (line[n - 1] == '\n')] = '\0';
        if (answer(line, &err)) printf("error: %s\n", err.text);
    }
    while (held_count) zone_close(held[--held_count]);
    return 0;
}
