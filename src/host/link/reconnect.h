/* SPDX-License-Identifier: Apache-2.0 */
/* reconnect — how long an agent waits before it dials again. A restart of the control plane sends all agents away in one moment: they come
 * back spread over the time that the last Welcome gave, those with work in flight in the first part of it. What goes wrong after that backs
 * off, with full jitter after the cap. Being refused for what we are is no fault of the network: slow.
 * Ownership: plain values.  Thread: any.  Input trust: the spread is the control plane's, limited by the caller. */
#ifndef DAVIT_HOST_LINK_RECONNECT_H
#define DAVIT_HOST_LINK_RECONNECT_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"

#define RECONNECT_BASE        (2 * USEC_SEC)
#define RECONNECT_CAP         (60 * USEC_SEC)
#define RECONNECT_LOCAL_CAP   (2 * USEC_SEC) /* by a unix socket */
#define RECONNECT_REFUSED_MIN USEC_MINUTE
#define RECONNECT_REFUSED_MAX (30 * USEC_MINUTE)
#define RECONNECT_HEALTHY     (60 * USEC_SEC) /* a link that lived so long ends the back-off */
enum { RECONNECT_BUSY_PART = 8 }; /* who has work in flight waits at most this part of the spread */

/* Zeroed: nothing failed so far. */
struct reconnect {
    unsigned failed;  /* tries in a row without a healthy link */
    unsigned refused; /* of them: refused for what we are */
};

/* What became of the last link. */
struct reconnect_link {
    enum err_code why;
    usec_t lived;  /* since its Welcome; 0: never */
    usec_t spread; /* of its Welcome; 0: none */
    bool busy;     /* commands run or their results wait */
    bool local;    /* by a unix socket: nobody else is sent away with us, and somebody may sit and wait */
};

/* The time to wait; counts the try. */
usec_t reconnect_wait(struct reconnect *r, const struct reconnect_link *last);

#endif
