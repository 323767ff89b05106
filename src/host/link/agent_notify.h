/* SPDX-License-Identifier: Apache-2.0 */
/* agent_notify — what the agent tells the service manager: READY when it is set up (whether or not the control plane is there), STATUS as its
 * link changes, WATCHDOG only while the loop, the worker of the engine and the sender of the link get on.
 * Ownership: agent_notify_new .. agent_notify_free; what it was given outlives it.  Thread: loop. */
#ifndef DAVIT_HOST_LINK_AGENT_NOTIFY_H
#define DAVIT_HOST_LINK_AGENT_NOTIFY_H

#include "docker/docker.h"
#include "host/link/session.h"

struct agent_notify;

/* Says READY. NULL where no manager wants to hear. */
struct agent_notify *agent_notify_new(struct loop *loop, struct docker *docker, const struct session *session) MUST_USE;
/* Says STOPPING, and that it takes up to @more. Accepts NULL; returns NULL. Waits for the worker's last question. */
struct agent_notify *agent_notify_free(struct agent_notify *n, usec_t more);

/* Waits a little: if @marker is there, says goodbye to the control plane, and removes it when that was heard. */
void agent_goodbye(const char *marker, struct session *session);

/* What was seen of the sender, for the judgement below. */
struct sender_watch {
    struct session_status seen;
    usec_t at; /* monotonic: when it was seen to change */
};
/* Does the link's sender get on? @st as it is at @now (monotonic). A link that waits for a control plane that is not there gets on. */
bool sender_gets_on(struct sender_watch *w, const struct session_status *st, usec_t now);

#endif
