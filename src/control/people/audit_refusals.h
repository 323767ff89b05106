/* SPDX-License-Identifier: Apache-2.0 */
/* audit_refusals — refusals by the thousand become few entries: the first of a kind (who, what, why) is told at once, the others of its minute
 * are counted and told as one. What is too much to tell apart is one count for all, once a minute.
 * Limits: REFUSALS_KINDS_MAX kinds are told apart, REFUSALS_PER_MINUTE entries a minute leave in all (and one for the rest), whatever comes.
 * Thread: loop.  Input trust: strangers. */
#ifndef DAVIT_CONTROL_AUDIT_REFUSALS_H
#define DAVIT_CONTROL_AUDIT_REFUSALS_H

#include "control/people/audit.h"

enum { REFUSALS_KINDS_MAX = 512, REFUSALS_PER_MINUTE = 60 };
#define REFUSALS_WINDOW USEC_MINUTE

struct refusals;

/* @emit gets what is to be written; borrowed. Never NULL. */
struct refusals *refusals_new(void (*emit)(void *ctx, const struct audit_record *r), void *ctx) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct refusals *refusals_free(struct refusals *r);
/* @now: monotonic. */
void refusals_add(struct refusals *r, const struct audit_record *record, usec_t now);
/* Tells what was counted in windows that are over; @all: in all of them (at the end). Call it now and then while refusals_pending. */
void refusals_tick(struct refusals *r, usec_t now, bool all);
bool refusals_pending(const struct refusals *r);

#endif
