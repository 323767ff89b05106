/* SPDX-License-Identifier: Apache-2.0 */
/* gate — the auth gate of --gate-listen (4456), plain HTTP on loopback: a proxy of this machine asks, with the fields of a request that it holds
 * back, whether who sent it is known here. 200 with x-davit-user and x-davit-scope, or 401. What counts is what counts on 7440 and 7441: an API
 * token or a token that was exchanged for one in Authorization, or the cookie of a session. Whatever is asked, and by whatever path, nothing is done
 * and nothing else is told.  Limits: as of every listener.  Thread: loop, on a fiber.  Input trust: anybody. */
#ifndef DAVIT_CONTROL_GATE_H
#define DAVIT_CONTROL_GATE_H

#include "control/control_internal.h"

/* Opens it, if it is to be. */
int gate_open(struct control *c, struct err *err) MUST_USE;
/* "127.0.0.1:4456", or "". Borrowed. */
const char *gate_addr(const struct control *c);

#endif
