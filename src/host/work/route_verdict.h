/* SPDX-License-Identifier: Apache-2.0 */
/* route_verdict — which containers of a service may get requests. One that a command found healthy has been judged by that command; any other that
 * came (healed, started again by the engine, brought back by a command that failed) is judged here by the same check, for as long as it takes, and
 * gets no request before.
 * Ownership: a zeroed struct verdicts is empty; verdicts_release at the end. The fibers that judge end with the module.  Thread: loop. */
#ifndef DAVIT_HOST_WORK_ROUTE_VERDICT_H
#define DAVIT_HOST_WORK_ROUTE_VERDICT_H

#include "host/work/deploy.h"

struct verdict;
struct verdicts {
    struct verdict *of[REPLICAS_MAX]; /* by number - 1; owned */
    usec_t trusted;                   /* real time: what has started before counts as judged */
};

/* Those numbers of @s (bit N - 1) that run, by what the watch knows, and must not get requests yet. Begins to judge what is new. */
uint32_t verdicts_look(struct verdicts *v, struct work *w, const struct desired_service *s);
/* The same by the engine's own word, of which the watch hears later; waits. d->replicas is set. 0 or negative. */
int verdicts_ask(struct verdicts *v, struct deploy *d, uint32_t *ret_unfit, usec_t deadline, struct err *err) MUST_USE;
/* What had started by @at (real time) counts as judged, but for what is being judged. */
void verdicts_trust(struct verdicts *v, usec_t at);
/* Somebody has found this run of container @replica of @d healthy. @active: it is the deployment whose containers are judged; else what another
 * command leaves behind if it fails keeps its verdict. */
void verdicts_found(struct verdicts *v, const struct deploy *d, unsigned replica, const char *id, usec_t started, bool active);
void verdicts_release(struct verdicts *v);

#endif
