// SPDX-License-Identifier: Apache-2.0
// A letter as the vendors' platforms write it: Tencent SCF's dead-letter message and AWS Lambda's on-failure record.
//
// Sources: SCF: "Dead Letter Queue" (RequestId, ErrorCode, ErrorMessage, Body{…}) and its table of status codes. Lambda Developer Guide,
//   "Capturing records of asynchronous invocations" (version 1.0: timestamp, requestContext, requestPayload, responseContext,
//   responsePayload), and for Kafka "Using a Kafka topic as an on-failure destination" (KafkaBatchInfo, payload). docs/shapes.md lists
//   every field.
// The event in it is what a function of that vendor would have got: records and fires in the vendor's shape, anything else as it is.
// Threads: any; pure. Memory: the event in the vendor's shape, for the time of the call.
#ifndef DLQ_VENDOR_LETTER_H
#define DLQ_VENDOR_LETTER_H

#include <jansson.h>

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
    uint32_t version;          // of the last attempt; 0: none ran
    int64_t died_ms;
};
// Appends one line of JSON, without a line feed, whatever bytes the event has. v is SCF or LAMBDA. ERR_TOO_LARGE: `out` is full, and as it
// was before. The line can be seven times the payload where that is control characters.
int vendor_letter_append(struct buf *out, enum vendor v, const struct vendor_failure *f, struct err *err) must_use;
// The same of a letter as letters_show gives it; {"error":text,"id":…} when it cannot be written. ERR_TOO_LARGE: `out` is full.
int vendor_letter_append_json(struct buf *out, enum vendor v, const json_t *letter) must_use;

#endif
