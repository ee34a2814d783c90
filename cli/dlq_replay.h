// SPDX-License-Identifier: Apache-2.0
// The commands of weir dlq that send letters back, try them, and carry them elsewhere; what they share about replays.
//
// Errors: functions that return int give an exit code, and have said what is wrong. Threads: one. Blocking: yes.
#ifndef CLI_DLQ_REPLAY_H
#define CLI_DLQ_REPLAY_H

#include "cli/client.h"

extern const struct command dlq_replay, dlq_replays, dlq_pause, dlq_resume, dlq_cancel; // cli/dlq_replay.c, cli/dlq_replays.c
extern const struct command dlq_try, dlq_export, dlq_import, dlq_pull;

// weir dlq show N: the replay of this number, and why letters were skipped, not sent, or failed again. a: takes --json.
int dlq_show_replay(const struct args *a, struct client *c, const char *number) must_use;

// Follows the replay until all was sent and the outcomes are known, or stand still; then tells what came of it. `replay` is what the
// server said of it last. Exit code: 0 when all went and none failed again.
int dlq_follow_replay(const struct args *a, struct client *c, const json_t *replay) must_use;

#endif
