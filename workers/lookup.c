// SPDX-License-Identifier: Apache-2.0
#include "workers/lookup.h"

#include <utlist.h>

#include "workers/batch.h"

static void look(struct lookup *l);

static void on_refreshed(void *arg, int code, const struct err *err) {
    struct lookup *l = arg;
    struct delivery *list = l->under_way, *d, *next;
    l->under_way = NULL;
    look(l); // before the last of the list may end the owner
    DL_FOREACH_SAFE(list, d, next) {
        DL_DELETE(list, d);
        d->looked_for = code == 0;
        if (d->lost) call_release(d);
        else l->on_looked(l->arg, d, code, err);
    }
}

static void look(struct lookup *l) {
    if (l->under_way || !l->next) return;
    l->under_way = l->next;
    l->next = NULL;
    registry_refresh(l->registry, on_refreshed, l);
}

void lookup_wait(struct lookup *l, struct delivery *d) {
    DL_APPEND(l->next, d);
    look(l);
}

void lookup_lost(struct lookup *l) {
    struct delivery *d, *next;
    DL_FOREACH(l->under_way, d) d->lost = !delivery_is_sync(d);
    DL_FOREACH_SAFE(l->next, d, next) {
        if (delivery_is_sync(d)) continue;
        DL_DELETE(l->next, d);
        call_release(d);
    }
}
