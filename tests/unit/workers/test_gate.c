// SPDX-License-Identifier: Apache-2.0
// workers/gate: what one call is made of, and who waits for whom.
#include "workers/gate.h"

#include <utlist.h>

#include "tests/support/support.h"

#define MOST 4
#define ALL_BYTES SIZE_MAX

struct world {
    struct gate gate;
    struct delivery records[32];
    size_t count;
};

// "a1" is record 1 of key a; "-1" has no key. The partition is 0.
static struct delivery *add(struct world *w, const char *name) {
    struct delivery *d = &w->records[w->count++];
    const struct ev_fields f = {.ordering_key = {name, name[0] != '-'}, .payload = str_of(name)};
    *d = (struct delivery){.ev = ev_new(&f), .joins = MOST, .bytes = 10};
    gate_add(&w->gate, d);
    return d;
}

static void add_all(struct world *w, const char *names) {
    for (const char *at = names; *at; at += strcspn(at, " "), at += strspn(at, " ")) {
        char name[8];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " "), at);
        add(w, name);
    }
}

static const char *text_of(struct delivery *list) {
    static char text[200];
    text[0] = '\0';
    struct delivery *d;
    DL_FOREACH(list, d) {
        size_t len = strlen(text);
        snprintf(text + len, sizeof text - len, "%s%.*s", len ? " " : "", STR_ARG(d->ev->f.payload));
    }
    return text;
}

static struct delivery *take(struct world *w, const char *expected) {
    size_t count = 0;
    struct delivery *list = gate_take(&w->gate, MOST, ALL_BYTES, &count);
    assert_string_equal(text_of(list), expected);
    return list;
}

static void done(struct world *w, struct delivery *list) {
    struct delivery *d, *next;
    DL_FOREACH_SAFE(list, d, next) gate_done(&w->gate, d);
}

static void give_back(struct world *w, struct delivery *list, uint32_t joins) {
    while (list) {
        struct delivery *d = list->prev;
        DL_DELETE(list, d);
        d->joins = joins;
        gate_return(&w->gate, d);
    }
}

static int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    gate_init(&w->gate, ORDER_KEY, MOST);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    (void)gate_drop(&w->gate, true, 0);
    gate_free(&w->gate); // nothing is held: or it ends the process
    for (size_t i = 0; i < w->count; i++) ev_free(w->records[i].ev);
    free(w);
    return 0;
}

static void a_key_is_in_one_call_and_keys_take_turns(void **state) {
    struct world *w = *state;
    add_all(w, "a1 b1 a2 a3 a4 a5 a6 b2 -1");
    assert_int_equal(w->gate.ready, 9);
    struct delivery *first = take(w, "a1 a2 a3 a4");
    assert_int_equal(w->gate.ready, 3); // a5 and a6 wait
    assert_int_equal(gate_parked_keys(&w->gate), 1);
    struct delivery *second = take(w, "b1 b2 -1");
    assert_null(gate_take(&w->gate, MOST, ALL_BYTES, &(size_t){0}));
    add_all(w, "c1");
    done(w, first);
    assert_int_equal(gate_parked_keys(&w->gate), 0);
    struct delivery *third = take(w, "c1 a5 a6");
    done(w, second);
    done(w, third);
    assert_int_equal(w->gate.waiting, 0);
}

static void what_comes_back_goes_first_and_with_its_like(void **state) {
    struct world *w = *state;
    add_all(w, "a1 a2 b1 b2");
    struct delivery *call = take(w, "a1 a2 b1 b2");
    add_all(w, "a3 c1");
    give_back(w, call, 2);
    assert_true(gate_has_suspects(&w->gate));
    struct delivery *one = take(w, "a1 a2"), *two = take(w, "b1 b2"), *fresh = take(w, "c1");
    done(w, two);
    give_back(w, one, 1);
    struct delivery *alone = take(w, "a1");
    assert_null(gate_take(&w->gate, MOST, ALL_BYTES, &(size_t){0})); // a2 waits for a1, a3 for both
    done(w, alone);
    alone = take(w, "a2");
    done(w, alone);
    alone = take(w, "a3");
    done(w, alone);
    done(w, fresh);
}

static void a_call_ends_at_its_bytes(void **state) {
    struct world *w = *state;
    add_all(w, "a1 b1 c1");
    size_t count;
    struct delivery *list = gate_take(&w->gate, MOST, 20, &count);
    assert_string_equal(text_of(list), "a1 b1");
    done(w, list);
    list = gate_take(&w->gate, MOST, 5, &count); // one goes in any case
    assert_int_equal(count, 1);
    done(w, list);
}

static void a_probe_is_one_that_has_not_failed(void **state) {
    struct world *w = *state;
    add_all(w, "a1 b1");
    struct delivery *call = take(w, "a1 b1");
    give_back(w, call, 1);
    add_all(w, "c1 c2");
    struct delivery *probe = gate_take_probe(&w->gate);
    assert_string_equal(text_of(probe), "c1");
    done(w, probe);
}

static void what_is_dropped_leaves_the_others_in_order(void **state) {
    struct world *w = *state;
    struct delivery *held = add(w, "a1");
    size_t count;
    struct delivery *list = gate_take(&w->gate, MOST, ALL_BYTES, &count);
    assert_ptr_equal(list, held);
    add_all(w, "a2 b1 -1 -2 a3");
    for (size_t i = 0; i < w->count; i++) w->records[i].partition = i == 3; // "-1"
    assert_string_equal(text_of(gate_drop(&w->gate, false, 1)), "-1");
    done(w, list);
    list = take(w, "b1 -2 a2 a3");
    done(w, list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_is_in_one_call_and_keys_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(what_comes_back_goes_first_and_with_its_like, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_ends_at_its_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_probe_is_one_that_has_not_failed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_dropped_leaves_the_others_in_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
