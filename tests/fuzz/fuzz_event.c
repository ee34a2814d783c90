// SPDX-License-Identifier: Apache-2.0
// Any bytes are an event or an error; an event that was read is written and read again as the same.
#include "core/base/buf.h"
#include "core/ev.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err err = {0};
    struct ev *ev, *again;
    if (ev_decode(mem_strndup((struct str){(const char *)data, size}), size, &ev, &err)) return 0;
    struct buf out;
    buf_init(&out, 2u * EV_ENCODED_MAX);
    if (ev_encode(ev, &out, &err) == 0) {
        size_t len;
        char *bytes = buf_take(&out, &len);
        MUST(ev_decode(bytes, len, &again, &err) == 0);
        MUST(str_eq(ev->f.payload, again->f.payload) && id_eq(&ev->f.id, &again->f.id));
        MUST(ev->f.header_count == again->f.header_count && ev->unknown_count == again->unknown_count);
        ev_free(again);
    }
    buf_done(&out);
    ev_free(ev);
    return 0;
}
