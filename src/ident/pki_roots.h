/* SPDX-License-Identifier: Apache-2.0 */
/* pki_roots — the root is changed: a second one takes over from the first while everybody stays able to believe everybody else.
 *   begun      root.crt of the control plane holds the new root, then the old one. What it issues comes from new intermediates under the new root;
 *              the cross certificate (root-cross.crt) goes along, so that who has only the old root believes it too. The keys for tokens and
 *              assertions change in the same step, and the ones before are kept beside them.
 *   finished   root.crt holds the new root alone, and the control plane has a new key.
 * The old root's key stays at the user, as old-root.key, until the change is finished.
 * A step that changes several files fills the directory next/ first, then makes next/ready, and then moves them to their places. A crash before
 * next/ready: nothing has happened, and a repeat uses what is there. After it: pki_*_settle ends the step; whoever opens the directory calls it.
 * Order: pki_user_next, pki_control_next, pki_user_sign_next, pki_control_begin, pki_user_switch ... pki_control_finish, pki_user_drop_old.
 * Thread: any; all calls block on files.  Input trust: own files; pki_control_begin checks what the user's side hands it. */
#ifndef DAVIT_IDENT_PKI_ROOTS_H
#define DAVIT_IDENT_PKI_ROOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "ident/cert.h"

enum { PKI_AUTHORITIES = 3 };
#define PKI_CROSS "root-cross.crt"
/* The control plane's key for tokens. While the root is changed, this key and the CLI's key for assertions are there twice: what the ones of before
 * signed is good until the end, which PKI_END tells, if it comes by itself. */
#define PKI_ACCESS        "access-token"
#define PKI_ACCESS_FILE   "access-token.key"
#define PKI_OLD_ACCESS    "old-access-token.key"
#define PKI_OLD_ASSERTION "old-assertion.jwk"
#define PKI_END           "roots.end"

/* The name of the intermediate @i ("server-ca"). Static. */
const char *pki_authority_name(size_t i);

/* --- The user's side --- */

/* Ends a switch that a crash interrupted. 0: there was none, 1: it did. */
int pki_user_settle(const char *dir, struct err *err) MUST_USE;
/* Makes the next root and CLI identity of the user in @dir, or finds those of an earlier call; appends the new root and the cross certificate. */
int pki_user_next(const char *dir, struct buf *root, struct buf *cross, struct err *err) MUST_USE;
/* Makes the next key for assertions, or finds it; appends its public half. After pki_user_next. */
int pki_user_next_assertion(const char *dir, struct buf *jwk, struct err *err) MUST_USE;
/* Appends the certificate of the intermediate @i, under the next root, for the key of @csr_der. */
int pki_user_sign_next(const char *dir, size_t i, struct str csr_der, struct buf *out, struct err *err) MUST_USE;
/* The control plane's first root is the one with @pin: makes it the user's. 0: it is now; 1: the next root is another one, or there is none. */
int pki_user_switch(const char *dir, const uint8_t pin[SPKI_HASH_SIZE], struct err *err) MUST_USE;
/* Goes on with a change that was cut off at the user in @dir: ends a switch, and switches where the control plane in @dir_control, if it can be read,
 * has the next root for its first. 0: nothing was to do; 1: it did. */
int pki_user_follow(const char *dir, const char *dir_control, struct err *err) MUST_USE;
/* Where the next root and CLI identity of the user in @dir wait, fresh; a directory as @dir is, which may not be there. */
char *pki_user_next_dir(const char *dir) MUST_USE;
/* Destroys the old root's key and its certificate. 0; 1: there were none. */
int pki_user_drop_old(const char *dir, struct err *err) MUST_USE;

/* --- The control plane's side --- */

/* Ends a step that a crash interrupted. 0: there was none, 1: it did. */
int pki_control_settle(const char *dir, struct err *err) MUST_USE;
/* Keys and requests of the next intermediates; appends the request of @i for each. The same ones until the change has
 * begun; -ERR_PRECONDITION from then on until it is finished. */
int pki_control_next(const char *dir, struct buf requests[PKI_AUTHORITIES], struct err *err) MUST_USE;

/* What the user's side made; PEM, borrowed. */
struct pki_begin {
    struct str root, cross, authorities[PKI_AUTHORITIES];
    struct str assertion; /* JWK; empty: that key stays */
    usec_t end;           /* real time; 0: it does not end by itself */
};
/* Begins the change. 0; 1: the first root is that one already; -ERR_PRECONDITION: another change has begun, or pki_control_next was not called;
 * -ERR_INVALID: something in @b does not fit; nothing was changed then. The control plane's certificate has to be made anew: pki_control_leaf. */
int pki_control_begin(const char *dir, const struct pki_begin *b, struct err *err) MUST_USE;
/* When it ends by itself; 0: never, or there is no change. */
usec_t pki_control_end(const char *dir);
/* Ends it. 0; 1: there is but one root; what a crash has left of the old keys goes. The control plane's certificate has to be made anew. */
int pki_control_finish(const char *dir, struct err *err) MUST_USE;

/* The roots in root.crt, the present one first. */
int pki_control_roots(const char *dir, struct cert_roots *ret, struct err *err) MUST_USE;
/* Appends what the control plane shows of itself: its certificate, the intermediate, the cross certificate while there are two roots, and the
 * roots, for those who know only a pin. */
int pki_control_chain(const char *dir, struct buf *out, struct err *err) MUST_USE;
/* Appends the cross certificate while there are two roots. */
int pki_control_cross(const char *dir, struct buf *out, struct err *err) MUST_USE;
/* Appends what a server is told of the roots: to @roots the list, to @cross the cross certificate while there are two. */
int pki_control_tell(const char *dir, struct buf *roots, struct buf *cross, struct err *err) MUST_USE;

#endif
