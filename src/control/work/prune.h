/* SPDX-License-Identifier: Apache-2.0 */
/* prune — what is kept of the past: of each service the newest PRUNE_DEPLOYMENTS_KEPT deployments that were active once and as many others, and
 * about PRUNE_EVENTS_KEPT events of deployments in all, beside the last one of each. What is active, newest, or not over yet stays whatever its
 * age. */
#ifndef DAVIT_CONTROL_PRUNE_H
#define DAVIT_CONTROL_PRUNE_H

#include "control/control_internal.h"

enum { PRUNE_DEPLOYMENTS_KEPT = 200, PRUNE_EVENTS_KEPT = 5000, PRUNE_STEP = 500 };

/* Unit of work: removes at most PRUNE_STEP deployments, and the events of as many; *arg (int64_t): how many rows went. */
store_fn prune_fn;
/* A fiber of the control plane (struct control): a minute after the start, then each hour, until it is cancelled. */
void prune_fiber(void *arg);

#endif
