/* SPDX-License-Identifier: Apache-2.0 */
/* tickets — one GET or PUT of a file by a browser, which cannot take or give bytes of any size otherwise: a name that nobody guesses, made by a
 * call of
 * FileService, good for TICKET_LIFE, for one use, and only with the session (or API token) that made it. In memory.
 * Ownership: sole owner, tickets_free.  Thread: loop.  Input trust: names come from anybody.
 * Limits: TICKETS_EACH for a session, of which the oldest goes for a new one; TICKETS_MAX in all; TICKET_WHAT_MAX bytes of what one is for. */
#ifndef DAVIT_CONTROL_TICKETS_H
#define DAVIT_CONTROL_TICKETS_H

#include "control/people/passes.h"
#include "davit/control/v1/containers.pb-c.h"

enum { TICKET_NAME_SIZE = 33, TICKETS_EACH = 32, TICKETS_MAX = 1024, TICKET_WHAT_MAX = 8 * 1024 };
#define TICKET_LIFE USEC_MINUTE

struct tickets;

/* Never NULL. */
struct tickets *tickets_new(void) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct tickets *tickets_free(struct tickets *t);

/* @what is copied; @pass: id of the session or token. @now: monotonic. -ERR_EXHAUSTED; -ERR_INVALID: TICKET_WHAT_MAX. */
int tickets_make(struct tickets *t, const char *pass, const Davit__Control__V1__MakeTicketRequest *what, usec_t now,
                 char ret_name[TICKET_NAME_SIZE], struct err *err) MUST_USE;
/* The use of one: it is gone afterwards, also where it was not @pass's. What it is for (rpc_message_free), or NULL: unknown, used, too old,
 * another's. */
Davit__Control__V1__MakeTicketRequest *tickets_take(struct tickets *t, struct str name, const char *pass, usec_t now) MUST_USE;

#endif
