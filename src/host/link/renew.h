/* SPDX-License-Identifier: Apache-2.0 */
/* renew — the credentials of this agent for years: renewed in time, exchanged without a gap, got back when they ran out.
 * Renewal begins at 2/3 of the certificate's life plus a part of a tenth that follows from the server's id, or at once when the control plane asks,
 * over the live link: a new key each time, the answer is checked before a file changes (the key fits, the chain leads to the roots that we have
 * and to those that come with it, the name is ours, the generation grows, it is not due again already), staged as a bundle and made the active
 * one. Then the link is made anew with it at once; commands and jobs do not notice. The previous credentials are kept until the new ones have
 * connected, and used again if the control plane does not take the new ones. What fails is tried again after 1 minute doubling to 24 hours
 * (a hundredth and a tenth of the life, where that is less), with full jitter, and is told in heartbeats and by health.
 * A certificate that ran out, or that the control plane refuses, makes the next dial ask for a recovery first (recover.h).
 * Times are the control plane's own once it was heard (floor_time.h).
 * Ownership: renew_new .. renew_free; config is copied.  Thread: loop; calls marked "waits" on a fiber.
 * Input trust: the control plane is authenticated; what it grants is checked all the same. */
#ifndef DAVIT_HOST_LINK_RENEW_H
#define DAVIT_HOST_LINK_RENEW_H

#include "davit/link/v1/link.davit.h"
#include "host/link/agent_config.h"
#include "loop/fiber.h"
#include "net/tls.h"

#define RENEW_ANSWER_WAIT (30 * USEC_SEC)
#define RENEW_RETRY_MIN USEC_MINUTE
#define RENEW_RETRY_MAX USEC_DAY

struct renew;
struct session;

/* Copies what it needs of @c, which is enrolled (auth_mode mtls). Never NULL. */
struct renew *renew_new(struct loop *loop, const struct agent_config *c) MUST_USE;
/* Blocks, at program start: reads the credentials. 0; AGENT_IDENTITY_EXPIRED: the first dial recovers them. Negative as agent_identity_load. */
int renew_load(struct renew *r, struct err *err) MUST_USE;
/* What to dial with now (NULL: nothing yet), borrowed, and its generation. For the session's config. */
struct tls_ctx *renew_tls(const struct renew *r);
uint32_t renew_generation(const struct renew *r);
/* Begins to watch, for @s. 0 or -ERR_EXHAUSTED. */
int renew_start(struct renew *r, struct session *s) MUST_USE;
/* Waits. 0 or -ERR_DEADLINE. */
int renew_stop(struct renew *r, usec_t deadline) MUST_USE;
/* After renew_stop. Accepts NULL; returns NULL. */
struct renew *renew_free(struct renew *r);

/* --- What the session tells and asks --- */

/* Waits, before each dial: gets back what ran out, and gives the session what to dial with. Negative: there is nothing to dial with. */
int renew_prepare(struct renew *r, struct err *err) MUST_USE;
/* Welcome came on a link with these credentials; @theirs is the control plane's clock. */
void renew_online(struct renew *r, usec_t theirs);
/* The link that was up is gone. */
void renew_offline(struct renew *r);
/* The control plane's clock once more. */
void renew_hear(struct renew *r, usec_t theirs);
/* A link was refused for what we are. True: the next dial does something else about it, for the first time since a link was up, so it need not
 * wait as long as one that was refused does. */
bool renew_refused(struct renew *r) MUST_USE;
/* Credential, CredentialRefused or CredentialRotate. Borrowed. */
void renew_message(struct renew *r, const Davit__Link__V1__ControlMessage *m);

struct renew_status {
    uint32_t generation;
    usec_t expires, due; /* real time by the control plane's clock */
    bool staged;         /* the present ones have not connected yet */
    const char *error;   /* of the last renewal, "" if it did not fail; borrowed until the next turn */
};
void renew_status(const struct renew *r, struct renew_status *ret);

/* --- Apart for tests --- */

/* When to renew what lives from @issued to @expires. */
usec_t renew_due(const char *server_id, usec_t issued, usec_t expires);
/* How long to wait after @failed failures in a row, for credentials that live @life. */
usec_t renew_retry(unsigned failed, usec_t life);

/* What a grant is held against. */
struct renew_check {
    const char *server_id;
    struct str roots_pem; /* those that we have */
    const struct key *key;
    uint32_t generation;  /* of what we have */
    usec_t now;
};
/* Is @c good to be made the active credentials? 0, then @roots (of at least CERT_PEM_MAX) has the roots that are believed from then on; or
 * -ERR_DATA_LOSS with the reason. */
int renew_check(const struct renew_check *k, const Davit__Link__V1__Credential *c, struct buf *roots, struct err *err) MUST_USE;

#endif
