/* SPDX-License-Identifier: Apache-2.0 */
/* rollouts_internal — what rollouts.c and rollouts_begin.c share.  Thread: loop. */
#ifndef DAVIT_CONTROL_ROLLOUTS_INTERNAL_H
#define DAVIT_CONTROL_ROLLOUTS_INTERNAL_H

#include "control/work/rollouts.h"

/* An agent's time for an update; how much later its answer may come; then for the new version to report. */
#define UPDATE_WAIT (20 * USEC_MINUTE)
#define UPDATE_LATE (5 * USEC_MINUTE)
#define CONFIRM_WAIT (4 * USEC_MINUTE)

/* "waiting" ... */
const char *rollouts_step_name(enum step_state state);
/* @next is on disk: takes it over and tells watchers. */
void rollouts_step_changed(struct rollouts *rs, struct rollout *r, struct step *st, const struct step *next);
/* Waits: the turn of a waiting step: it is commanded, or is done, failed or skipped at once, or goes on waiting for its server. */
int rollouts_begin_step(struct rollouts *rs, struct rollout *r, struct step *st, struct err *err) MUST_USE;
/* Waits: ends @st. */
int rollouts_end_step(struct rollouts *rs, struct rollout *r, struct step *st, enum step_state state, const char *reason, const char *message,
                      struct err *err) MUST_USE;

#endif
