// SPDX-License-Identifier: Apache-2.0
// A letter as the vendors' platforms write it: Tencent SCF's dead-letter message and AWS Lambda's on-failure record.
//
// Sources: SCF: field names as in its dead-letter queue messages (RequestId, ErrorCode, ErrorMessage, Body{…}); Lambda Developer Guide, "Capturing
//   records of asynchronous invocations" (version 1.0: timestamp, requestContext, requestPayload, responseContext, responsePayload), and for
//   Kafka "on-failure destinations" (KafkaBatchInfo). docs/shapes.md lists every field.
// Threads: any; pure. Memory: at most three times the payload.
#ifndef DLQ_VENDOR_LETTER_H
#define DLQ_VENDOR_LETTER_H

#include "core/base/buf.h"
#include "core/ev.h"

// X(name, word)
#define VENDORS(X)              \
    X(VENDOR_WEIR, "weir")      \
    X(VENDOR_SCF, "scf")        \
    X(VENDOR_LAMBDA, "lambda")
enum vendor {
#define X(name, word) name,
    VENDORS(X)
#undef X
};
int vendor_parse(struct str word, enum vendor *ret, struct err *err) must_use; // ERR_INVALID lists the words

struct vendor_failure {
    const struct ev *ev;       // as the letter has it: history in place
    struct str kind;           // a word of LETTER_KINDS
    struct str error_type, error_message, stack;
    uint32_t version;
    int64_t died_ms;
};
// Appends one line of JSON, without a line feed. v is SCF or LAMBDA. ERR_TOO_LARGE: `out` is full.
int vendor_letter_append(struct buf *out, enum vendor v, const struct vendor_failure *f, struct err *err) must_use;

#endif
