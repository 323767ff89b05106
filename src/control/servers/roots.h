/* SPDX-License-Identifier: Apache-2.0 */
/* roots — the control plane's side of a change of the root (ident/pki_roots.h). Which roots a server believes its agent says in each Hello, and the
 * row keeps it: it has the new one together with a certificate under it, since both came in one grant. A server whose list is not the present one
 * is asked to renew: spread over time after a change, and at its next connects, ROOTS_ASKS times at most until the list changes again.
 * Sandboxes get new material from their agents, which are told the list; each says with which roots its own was made.
 * A change may have an end of its own: then it is finished by force, also when the control plane did not run at that time.
 * Everything that touches the files runs on the fast lane, where what is signed with them runs too: nobody sees half a change.
 * Thread: loop; what is said to wait runs on a fiber.  Input trust: pins come from agents; certificates from the user's side are checked. */
#ifndef DAVIT_CONTROL_ROOTS_H
#define DAVIT_CONTROL_ROOTS_H

#include "control/servers/servers.h"
#include "ident/pki_roots.h"

enum { ROOTS_ASKS = 3, ROOTS_LEFT_SHOWN = 8 };
#define ROOTS_OVERLAP_MAX (90 * USEC_DAY)

/* How long before its end a root is told about. */
#define ROOTS_WARN (90 * USEC_DAY)

/* Before all else. */
void roots_init(struct control *c);
/* Blocks, at start: reads the roots, and ends a change whose end came meanwhile. The audit log is told by roots_resume, when there is one. */
int roots_start(struct control *c, struct err *err) MUST_USE;
/* Waits for the end of a change that is going on. */
void roots_resume(struct control *c);
/* Nothing uses the keys any more. */
void roots_stop(struct control *c);
/* The agent of @s said Hello. */
void roots_hello(struct server *s, const Davit__Link__V1__Hello *hello);

/* Does its agent say which roots it has? */
bool roots_known(const struct server *s);
/* Has it the first one? */
bool roots_has_new(const struct server *s);
/* Has it one that is not the first? */
bool roots_has_old(const struct server *s);
/* Is it one that a finished change would lock out? */
bool roots_left_out(const struct server *s);

/* Was the material of @sb made with the first root, and is it what it shows? Has it been made with exactly the present ones? */
struct sandbox;
bool roots_sandbox_has_new(const struct sandbox *sb);
bool roots_sandbox_current(const struct sandbox *sb);

/* What a person should know: so many texts in *ret, borrowed until the next call. */
size_t roots_warn(struct control *c, char ***ret);

/* Waits: keys and requests of the next intermediates, as pki_control_next. */
int roots_prepare(struct control *c, struct buf requests[PKI_AUTHORITIES], struct err *err) MUST_USE;
/* Waits: pki_control_begin, and everything that follows from it. 0; 1: that root is the first one already. */
int roots_begin(struct control *c, const struct pki_begin *b, struct err *err) MUST_USE;
/* Waits: only the root with @pin stays. 0; 1: that was so. -ERR_PRECONDITION with names: roots_left_out says so of servers, and not @force. */
int roots_finish(struct control *c, struct str pin, bool force, struct err *err) MUST_USE;

#endif
