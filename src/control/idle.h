/* SPDX-License-Identifier: Apache-2.0 */
/* idle — the end of a control plane that has nothing to do. Every idle_poll it counts the sandboxes that run, by asking the agents, who ask their
 * engines; two counts in a row that found none, and idle_grace since the start, and it drains: no more calls are taken, agents are told, the process
 * ends with 0. What happens in between (a sandbox starts, somebody is about to start one) begins the count anew: events lead, the poll decides.
 * A count that fails begins it anew too; IDLE_FAILED_MAX of those in a row are an error: it drains and ends with a failure.
 *   auto    only one that was started by itself for sandboxes (--for-sandboxes), and while it has nothing else: no remote server, no service (so
 *           no endpoint), no session of a person, no open watch
 *   never
 *   always  however it was started and whatever else it has
 * The machine is the table in idle.c.
 * Ownership: of struct control, NULL where it never ends.  Thread: loop; the poll waits on a fiber.  Input trust: counts of agents, each of its own
 * server. */
#ifndef DAVIT_CONTROL_IDLE_H
#define DAVIT_CONTROL_IDLE_H

#include "control/link/links.h"

enum { IDLE_FAILED_MAX = 20 };
#define IDLE_POLL  (30 * USEC_SEC)
#define IDLE_GRACE (60 * USEC_SEC)

enum idle_state { IDLE_WATCHING, IDLE_ZERO, IDLE_READY, IDLE_DRAINING, IDLE_BROKEN, IDLE_STATE_MAX };
enum idle_input { IDLE_BUSY, IDLE_NOTHING, IDLE_FAILED, IDLE_TOUCHED, IDLE_INPUT_MAX };

struct idle_machine {
    enum idle_state state;
    unsigned failed; /* in a row */
    usec_t grace;    /* its end, monotonic */
};

/* What a poll found, or that something goes on. The state after it: IDLE_DRAINING and IDLE_BROKEN are ends. */
enum idle_state idle_step(struct idle_machine *m, enum idle_input in, usec_t now);

/* Begins to watch, if it is to be watched at all. */
int idle_start(struct control *c, struct err *err) MUST_USE;
/* Something goes on: the count begins anew. */
void idle_touch(struct control *c);
/* An agent has counted. */
void idle_counted(struct server *s, const Davit__Link__V1__SandboxCounted *m);
/* Waits: the control plane stops. No more is counted; if it was for that, the agent of this machine is told, which lets go of its link. */
void idle_leave(struct control *c);
/* Its fiber has ended. Accepts NULL. Returns NULL. */
struct idle *idle_free(struct idle *i);

#endif
