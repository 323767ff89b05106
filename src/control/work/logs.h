/* SPDX-License-Identifier: Apache-2.0 */
/* logs — reading the log of a service for whoever takes it: the Logs call, or a topic of a watch.  Thread: fibers. */
#ifndef DAVIT_CONTROL_LOGS_H
#define DAVIT_CONTROL_LOGS_H

#include "control/control_internal.h"
#include "davit/control/v1/workloads.pb-c.h"

/* Who takes it. */
struct logs_sink {
    /* Waits until @m is taken. 0, or negative: nobody takes it any more. */
    int (*send)(void *arg, const Davit__Control__V1__LogsResponse *m);
    void *arg;
};

/* Waits: reads what @q asks for to its end, for a follower until @sink takes no more or the fiber is cancelled. @q is borrowed meanwhile. */
int logs_read(struct control *c, const Davit__Control__V1__LogsRequest *q, const struct logs_sink *sink, struct err *err) MUST_USE;

#endif
