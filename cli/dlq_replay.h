// SPDX-License-Identifier: Apache-2.0
// The commands of weir dlq that send letters back, try them, and carry them elsewhere; what they share about replays.
//
// Errors: functions that return int give an exit code, and have said what is wrong. Threads: one. Blocking: yes.
#ifndef CLI_DLQ_REPLAY_H
#define CLI_DLQ_REPLAY_H

#include "cli/client.h"

extern const struct command dlq_replay, dlq_replays, dlq_pause, dlq_resume, dlq_cancel;
extern const struct command dlq_try, dlq_export, dlq_import, dlq_pull;

// weir dlq show N: the replay of this number, and why letters were skipped, not sent, or failed again. a: takes --json.
int dlq_show_replay(const struct args *a, struct client *c, const char *number) must_use;

// What came of a replay that is not followed any longer; `unknown` of its events have not come to an end. Exit code: 0 when all letters were
// sent, and none failed again.
int dlq_report_replay(const struct args *a, struct client *c, const json_t *replay, int64_t unknown) must_use;

// Follows the replay until all was sent and the outcomes are known, or stand still; then reports. `replay` is what the server said of it
// last.
int dlq_follow_replay(const struct args *a, struct client *c, const json_t *replay) must_use;

#endif
