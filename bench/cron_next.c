// SPDX-License-Identifier: Apache-2.0
// Times cron_next: for each expression a chain of COUNT next times from START in a zone.
//
//     cron_next ZONE START COUNT EXPRESSION…     prints "NANOSECONDS LAST" a line: of one call, and the last time of the chain
//
// The median of ROUNDS chains. bench/cron_next.py does the same with croniter.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "triggers/cron.h"

#define ROUNDS 7

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Stays at START when the expression comes to its end.
static int64_t chain(const struct cron *c, const struct zone *z, int64_t start, long count) {
    int64_t at = start;
    for (long n = 0; n < count; n++) {
        at = cron_next(c, z, CRON_DST_CRON, start, at, NULL);
        if (at == CRON_NEVER) at = start;
    }
    return at;
}

int main(int argc, char **argv) {
    struct zone *z;
    struct err err;
    if (argc < 5) {
        fprintf(stderr, "usage: cron_next ZONE START COUNT EXPRESSION...\n");
        return 2;
    }
    if (zone_open(str_of(argv[1]), &z, &err)) {
        fprintf(stderr, "cron_next: %s\n", err.text);
        return 1;
    }
    int64_t start = atoll(argv[2]), last = 0;
    long count = atol(argv[3]);
    for (int i = 4; i < argc; i++) {
        struct cron c;
        struct str zone;
        struct cron_error where;
        double ns[ROUNDS];
        if (cron_parse(str_of(argv[i]), &c, &zone, &where, &err)) {
            fprintf(stderr, "cron_next: %s: %s\n", argv[i], err.text);
            return 1;
        }
        for (int round = 0; round < ROUNDS; round++) {
            int64_t begin = now_ns();
            last = chain(&c, z, start, count);
            ns[round] = (double)(now_ns() - begin) / (double)count;
        }
        qsort(ns, ROUNDS, sizeof ns[0], by_value);
        printf("%.1f %lld\n", ns[ROUNDS / 2], (long long)last);
    }
    zone_close(z);
    return 0;
}
