// SPDX-License-Identifier: Apache-2.0
// Any text is masked within three times its length, JSON stays JSON, what is not said to be masked is as it was, and a secret that stands
// on a line of its own or in a member of its own never comes through, whatever is around it. The input is two parts around a NUL: names, and
// the text.
#include <stdint.h>

#include "core/base/text.h"
#include "core/json_text.h"
#include "core/redact.h"

#define SECRET "s3cr3t-value"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *masked(const struct redact *r, struct str text) {
    struct buf out;
    buf_init(&out, text.len * 3);
    bool changed = redact_append(r, text, &out);
    MUST(changed || str_eq(buf_str(&out), text));
    MUST(json_text_check(text, NULL) || json_text_check(buf_str(&out), NULL) == 0);
    return buf_take(&out, NULL);
}

static void must_hide(const struct redact *r, struct buf *text) {
    size_t len = buf_len(text);
    cleanup_free char *taken = buf_take(text, NULL), *shown = masked(r, (struct str){taken, len});
    MUST(!strstr(shown, SECRET));
    buf_done(text);
}

static void plant(const struct redact *r, struct str text) {
    struct buf b;
    buf_init(&b, text.len * 6 + 100);
    MUST(buf_append(&b, text) == 0 && buf_append(&b, STR_LIT("\nPassword=" SECRET "\n")) == 0);
    must_hide(r, &b);
    buf_init(&b, text.len * 6 + 100);
    MUST(buf_append(&b, STR_LIT("{\"a\":[")) == 0 && text_append_json(&b, text) == 0);
    MUST(buf_append(&b, STR_LIT("],\"card\":[{\"number\":{\"b\":\"" SECRET "\"}}]}")) == 0);
    must_hide(r, &b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str all = {(const char *)data, size};
    const char *end = size ? memchr(data, '\0', size) : NULL;
    struct str first = {all.data, end ? (size_t)(end - all.data) : 0};
    struct str text = end ? (struct str){end + 1, size - first.len - 1} : all;
    cleanup_free char *names = mem_strndup(first);
    struct redact *r = NULL;
    struct err err = {0};
    int rc = redact_new(names, &r, &err);
    MUST(rc == 0 || (rc == ERR_INVALID && err.text[0]));
    free(masked(r, text));
    redact_free(r);
    MUST(redact_new("password,card.number", &r, &err) == 0);
    free(masked(r, text));
    if (!memmem(text.data, text.len, SECRET, strlen(SECRET))) plant(r, text);
    redact_free(r);
    return 0;
}
