// SPDX-License-Identifier: Apache-2.0
// Fuzzes workers/frames. The first byte picks the side that sent the rest.
//
// Checked: no read outside the input; a frame never uses more than there is; whatever was cut short parses to the same
// frames when the rest arrives; a decoded header encodes to the same bytes.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "workers/frames.h"

static void check(int ok) {
    if (!ok) abort();
}

static void look_at(const struct frame *f, const char *raw) {
    uint8_t again[FRAME_HEADER_BYTES];
    frame_header_encode(&f->header, again);
    check(memcmp(again, raw, sizeof(again)) == 0);
    check(strcmp(frame_type_name(f->header.type), "unknown") != 0);
    if (f->header.type != FRAME_INVOKE) return;
    struct str meta, payload;
    if (frame_invoke_split(f->body, &meta, &payload, NULL) < 0) return;
    check(2 + meta.len + payload.len == f->body.len);
}

// A frame that was parsed from `in` is not there yet, and not bad either, one byte before its end.
static void look_at_truncated(struct str in, size_t used, enum frame_side from) {
    struct frame f;
    size_t ignored;
    check(frame_parse((struct str){in.data, used - 1}, from, &f, &ignored, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    enum frame_side from = data[0] & 1 ? FRAME_FROM_SERVER : FRAME_FROM_INSTANCE;
    struct str in = {(const char *)data + 1, size - 1};
    for (;;) {
        struct frame f;
        struct err err;
        size_t used = 0;
        int rc = frame_parse(in, from, &f, &used, &err);
        if (rc <= 0) {
            check(rc == 0 || err.code == rc);
            return 0;
        }
        check(used >= FRAME_HEADER_BYTES && used <= in.len && f.body.len == used - FRAME_HEADER_BYTES);
        look_at(&f, in.data);
        look_at_truncated(in, used, from);
        in = (struct str){in.data + used, in.len - used};
    }
}
