/* SPDX-License-Identifier: Apache-2.0 */
/* link_calls — calls to the agent of a server through its live link: processes, files, images (see CallOpen in link.proto).
 * A handler opens one on its fiber, sends and takes data, and reads the end; nothing is journaled, and the loss of the link ends it.
 * Ownership: link_call_open .. link_call_free by the caller.  Thread: loop, on one fiber but for link_call_send; calls marked "waits" may wait.
 * Limits: LINK_CALLS_MAX per link, LINK_CALL_CREDIT of data on the way to us per call, LINK_CALL_PIECE a message, LINK_CALL_PROGRESS steps whose
 * newest progress waits to be read (one of more than LINK_CALL_PROGRESS_SIZE bytes is passed over); an agent that sends more than it has credit for
 * loses its link.  Input trust: the agent's identity is proved, what it sends is not believed. */
#ifndef DAVIT_CONTROL_LINK_CALLS_H
#define DAVIT_CONTROL_LINK_CALLS_H

#include "control/servers/servers.h"
#include "davit/link/v1/link.pb-c.h"

enum { LINK_CALLS_MAX = 64, LINK_CALL_CREDIT = 256 * 1024, LINK_CALL_PIECE = 64 * 1024, LINK_CALL_PROGRESS = 256,
       LINK_CALL_PROGRESS_SIZE = 16 * 1024 };

struct link_call;

/* Opens a call; @open is borrowed and copied, its call_id and credit_bytes are set here. -ERR_UNAVAILABLE: the server is not connected, or its agent
 * does not know calls (with the hint to update it); -ERR_EXHAUSTED: LINK_CALLS_MAX. */
int link_call_open(struct server *s, Davit__Link__V1__CallOpen *open, struct link_call **ret, struct err *err) MUST_USE;
/* Gives it up unless it has ended. Accepts NULL. Returns NULL. */
struct link_call *link_call_free(struct link_call *c);

/* What came. Pointers are borrowed until the next link_call_next or link_call_end of this call. Data of one output may come in other pieces than it
 * was sent, of LINK_CALL_PIECE at most. */
struct link_call_piece {
    const Davit__Link__V1__CallData *data;         /* or NULL; credit for it is given back at the next call */
    const Davit__Link__V1__CallProgress *progress; /* or NULL; only the newest of a step */
    const Davit__Link__V1__CallEnd *end;           /* or NULL; without a failure. Lives until link_call_free */
};
/* Waits for the next piece. 0; after `end` the call is over. The failure of the end becomes @err and its code the result. -ERR_UNAVAILABLE: the link
 * was lost; -ERR_DEADLINE; -ERR_CANCELLED. */
int link_call_next(struct link_call *c, struct link_call_piece *ret, usec_t deadline, struct err *err) MUST_USE;
/* The same for a call without data: passes over progress and data, and returns at the end. */
int link_call_end(struct link_call *c, const Davit__Link__V1__CallEnd **ret, usec_t deadline, struct err *err) MUST_USE;
/* Of the failure that the agent ended it with, e.g. "policy_exec"; "" without. Borrowed until link_call_free. */
const char *link_call_reason(const struct link_call *c);

/* Waits until the agent takes it, in pieces: input of a process, the bytes of a file. @last: no more follows. 0; 1: the call has ended, its end is
 * still to be read; negative as link_call_next. May run on another fiber than link_call_next, which ends before link_call_free. */
int link_call_send(struct link_call *c, struct str bytes, bool last, usec_t deadline, struct err *err) MUST_USE;
/* What the caller wants cannot be gone on with: the present and the next link_call_next of @c fail with @why, which is copied. Never waits. */
void link_call_abort(struct link_call *c, const struct err *why);
/* The size of the terminal. Never waits; harmless at the end. */
void link_call_resize(struct link_call *c, unsigned rows, unsigned columns);

/* --- for links.c ---- */
struct link;
void link_calls_data(struct link *l, const Davit__Link__V1__CallData *m);
void link_calls_credit(struct link *l, const Davit__Link__V1__CallCredit *m);
void link_calls_progress(struct link *l, const Davit__Link__V1__CallProgress *m);
void link_calls_ended(struct link *l, const Davit__Link__V1__CallEnd *m);
/* There is room in the connection again. */
void link_calls_drained(struct link *l);
/* The link has ended. */
void link_calls_lost(struct link *l);

#endif
