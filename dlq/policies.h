// SPDX-License-Identifier: Apache-2.0
// Policies: what happens to a function's letters by itself: how long they are kept, how many, and that they are replayed after a deploy.
//
// Owns: the table `letter_policies`. Flow: once a minute, and when a policy was changed here, a round: gauges weir_letters_dead and
//   weir_letters_cap_ratio; a warning in the log from 90 % of a cap, once until it is under again; then letters are deleted, at most 2,000 a
//   step, with a pause after each: dead ones that died before keepMs, closed ones (replayed, discarded) that were closed before it; of dead
//   ones over the cap the oldest (by id, so by the time of acceptance). With a store that is shared one node deletes at a time.
// Deploys: a deploy is a higher version than any since autoReplay was set that becomes current; a version that was current then is none. The store
//   keeps up to which version the policy is done (done_version), and each round of each node looks for a deploy that is not, so the replay is made
//   whoever dies meanwhile; made once, since its cause (deploy:FUNCTION:VERSION:CREATED) is unique. Of several deploys that wait the last one counts,
//   and while an older version is current again none does.
// Only a policy deletes dead letters. The audit is told what was deleted by function, at most once an hour, and of each automatic replay.
// Housekeeping: without any policy go edits and originals whose letter has been gone for 30 days, and replays that ended 90 days ago.
// Clock: the store's. A letter whose id is ahead of its time (a record with a wrong timestamp) may be kept an hour longer.
// Threads: the loop's. Errors: the store's; ERR_NOT_FOUND (function, or no policy); ERR_INVALID.
#ifndef DLQ_POLICIES_H
#define DLQ_POLICIES_H

#include "core/audit.h"
#include "core/metrics.h"
#include "dlq/replays.h"

#define POLICY_CAP_MAX 100000000

struct policies;
struct policies_config {
    struct loop *loop;
    struct store *store, *reader;
    struct letters *letters;
    struct replays *replays;
    struct audit *audit;     // may be NULL
    struct metrics *metrics;
};
struct policies *policies_new(const struct policies_config *config) must_use;
void policies_start(struct policies *p);
bool policies_stop(struct policies *p); // true when nothing is under way
void policies_free(struct policies *p);

// {"function","keepMs"|null,"cap"|null,"autoReplay":{"sample","rate","abortShare"}|null,"changedMs","who","dead":n,"usedShare"|null}
void policies_list(struct policies *p, letters_json_fn *fn, void *arg); // {"policies":[…]}
void policies_show(struct policies *p, struct str function, letters_json_fn *fn, void *arg);
// settings: {"keepMs","cap","autoReplay"}; a member that is missing stays, null takes it away.
void policies_change(struct policies *p, struct str function, const json_t *settings, struct str who, letters_json_fn *fn, void *arg);
void policies_remove(struct policies *p, struct str function, letter_done_fn *done, void *arg);
// Looks for deploys now instead of in the next round: functions changed, here or on another node. Before policies_start it does nothing.
void policies_look(struct policies *p);

#endif
