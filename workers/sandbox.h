// SPDX-License-Identifier: Apache-2.0
// Starts the process of an instance, fenced in as far as the machine allows.
//
// With bubblewrap: the file system read-only, its own /tmp (gone with it), its own process ids (nothing of it outlives
//   it), no capabilities, the server's data folder hidden except for the unpacked code. Without: its own session only.
//   Always: no new privileges' worth of descriptors, a small environment, dies with the server.
// Does not: limit memory (the runtime does, see schema/frames.md) or the network.
// Blocking: sandbox_open runs a probe; sandbox_spawn waits for the exec. Threads: the loop's.
#ifndef WORKERS_SANDBOX_H
#define WORKERS_SANDBOX_H

#include <sys/types.h>

#include "core/base/err.h"
#include "workers/runtime.h"

struct sandbox;
// mode: "auto", "bubblewrap", "none". data_dir and code_dir (inside it) are absolute.
int sandbox_open(const char *mode, const char *data_dir, const char *code_dir, const struct runtimes *runtimes,
                 struct sandbox **ret, struct err *err) must_use;
void sandbox_free(struct sandbox *s);
const char *sandbox_kind(const struct sandbox *s); // "bubblewrap" or "none"

struct child {
    pid_t pid;     // leads a session; killing -pid ends all of it
    int pid_fd;    // readable when it has ended
    int socket_fd; // frames
    int output_fd; // its descriptors 1 and 2, the read end of a pipe
};
// The caller owns the descriptors and reaps the process. ERR_UNAVAILABLE when the system has no room for it.
int sandbox_spawn(const struct sandbox *s, const struct runtime *rt, struct child *ret, struct err *err) must_use;

#endif
