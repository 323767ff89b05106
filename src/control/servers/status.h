/* SPDX-License-Identifier: Apache-2.0 */
/* status — what GetStatus answers, made once for the call and for who watches.  Thread: fibers. */
#ifndef DAVIT_CONTROL_STATUS_H
#define DAVIT_CONTROL_STATUS_H

#include "control/control_internal.h"
#include "davit/control/v1/status.pb-c.h"

/* Waits: fills @m; its strings are borrowed from @c. */
int status_read(struct control *c, Davit__Control__V1__GetStatusResponse *m, struct err *err) MUST_USE;

#endif
