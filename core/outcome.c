// SPDX-License-Identifier: Apache-2.0
#include "core/outcome.h"

#include "core/base/mem.h"

const char *outcome_word(enum outcome o) {
    static const char *const words[] = {
#define X(name, word) [name] = word,
        OUTCOMES(X)
#undef X
    };
    MUST((size_t)o < array_len(words));
    return words[o];
}
