// SPDX-License-Identifier: Apache-2.0
#include "core/base/fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"

bool fault_is_armed;
static char armed[64];
static _Atomic long passes_left;
static int sent;

void fault_arm(const char *spec, int sig) {
    fault_is_armed = spec && spec[0];
    if (!fault_is_armed) return;
    size_t len = strcspn(spec, ":");
    MUST(text_format(armed, sizeof armed, "%.*s", (int)len, spec) == 0);
    passes_left = spec[len] ? strtol(spec + len + 1, NULL, 10) : 1;
    sent = sig;
    log_warn("fault", sig == SIGSTOP ? "this server will stop itself, for a test" : "this server will kill itself, for a test",
             LOG_STR("at", spec));
}

void fault_pass(const char *prefix, const char *rest) {
    size_t len = strlen(prefix);
    if (strncmp(armed, prefix, len) != 0 || strcmp(armed + len, rest) != 0) return;
    if (atomic_fetch_sub(&passes_left, 1) != 1) return;
    raise(sent); // to this thread: it goes no further, whatever the others do
    while (sent == SIGKILL) pause(); // nothing may happen after the point
}
