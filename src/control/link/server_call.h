/* SPDX-License-Identifier: Apache-2.0 */
/* server_call — one call to the agent of a server that is answered at its end: what images, volumes and containers are asked with.
 * Ownership: server_call .. server_call_release, also after a failure.  Thread: loop, fibers.  Input trust: names from users; what an agent answers
 * is shown and not believed. */
#ifndef DAVIT_CONTROL_SERVER_CALL_H
#define DAVIT_CONTROL_SERVER_CALL_H

#include "control/link/link_calls.h"

struct server_call {
    struct server *server;                /* a reference, or NULL */
    struct link_call *call;
    const Davit__Link__V1__CallEnd *end;  /* borrowed until the release */
};

/* Waits: finds @server (name or id; "": the only one), opens the call. */
int server_call_open(struct control *c, const char *server, Davit__Link__V1__CallOpen *open, struct server_call *ret, struct err *err) MUST_USE;
/* Waits: the same and its end, at most @timeout. @want: the case of the result that must be there, else -ERR_DATA_LOSS. */
int server_call(struct control *c, const char *server, Davit__Link__V1__CallOpen *open, Davit__Link__V1__CallEnd__ResultCase want, usec_t timeout,
                struct server_call *ret, struct err *err) MUST_USE;
/* Gives the call up unless it has ended. Accepts one that was zeroed only. */
void server_call_release(struct server_call *sc);

/* Is the result there that was asked for? 0 or -ERR_DATA_LOSS. */
int server_call_check(const struct server_call *sc, Davit__Link__V1__CallEnd__ResultCase want, struct err *err) MUST_USE;

#endif
