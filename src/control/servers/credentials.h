/* SPDX-License-Identifier: Apache-2.0 */
/* credentials — what a server may show when it connects. Every certificate of a server has a generation, one more than the one before; it is
 * counted in the transaction that records the certificate. struct server holds two of them: `generation`, the last one issued, and `oldest`, the
 * lowest one that is let in: the highest that was ever used to connect. So a new certificate and the one before are both good until the new one
 * has connected, and from then on the old one is that of a copy. `oldest` above `generation` means: revoked, only a new token helps.
 * A renewal whose answer was lost is asked for again: with the same key it gets the same certificate, with another key the next generation.
 * Limits: per server CREDENTIALS_BURST renewals, one more each CREDENTIALS_EVERY; CREDENTIALS_KEPT old certificates are remembered.
 * Thread: loop; what is said to wait runs on a fiber.  Input trust: requests come from peers. */
#ifndef DAVIT_CONTROL_CREDENTIALS_H
#define DAVIT_CONTROL_CREDENTIALS_H

#include "control/people/audit.h"
#include "control/servers/servers.h"
#include "ident/cert.h"
#include "ident/pki_dir.h"

enum { CREDENTIALS_BURST = 10, CREDENTIALS_KEPT = 64 };
#define CREDENTIALS_EVERY USEC_SEC
#define CREDENTIALS_LIFE  (90 * USEC_DAY)
#define CREDENTIALS_GRACE (30 * USEC_DAY)

/* The options, or what stands above. */
usec_t credentials_life(const struct control *c);
usec_t credentials_grace(const struct control *c);

/* --- Who is let in --- */

static inline bool credentials_revoked(const struct server *s)
{
    return s->oldest > s->generation;
}
/* May @s connect with this generation? 0; 1: it was replaced, so who shows it is a copy; -ERR_UNAUTHENTICATED: revoked. @err is filled but for 0. */
int credentials_judge(const struct server *s, uint32_t generation, struct err *err) MUST_USE;

/* What is kept of a certificate. */
struct credential_row {
    uint32_t generation;
    usec_t issued, expires; /* real time */
};
/* Waits: the certificate @serial (hex, as anybody prints it) of @server_id. 0; 1: not one of ours, or revoked; negative. */
int credentials_lookup(struct control *c, const char *serial, const char *server_id, struct credential_row *ret, struct err *err) MUST_USE;
/* Waits: @s connects with this certificate; from now on none before it is let in. */
int credentials_connected(struct server *s, const struct credential_row *row, struct err *err) MUST_USE;

/* A heartbeat of @s came: why its last renewal failed, "" for nothing. */
void credentials_heard(struct server *s, const char *error);

/* --- Issuing --- */

/* What goes to the server. credential_release, also after a failure. */
struct credential {
    struct buf chain, roots, cross;
    struct buf token; /* in tunnel mode, in place of the chain: see access.h */
    usec_t token_expires;
    uint32_t generation;
};
void credential_init(struct credential *k);
void credential_release(struct credential *k);

/* Waits: the next certificate of @s, for the key in @csr. @entry: who asks, and the action; it is written in the same transaction.
 * -ERR_INVALID the request; -ERR_PRECONDITION the key is one that has a certificate already; -ERR_UNAUTHENTICATED revoked or removed;
 * -ERR_EXHAUSTED too often, *ret_wait (may be NULL) for how long; -ERR_ABORTED another one came first. */
int credentials_issue(struct server *s, struct str csr, struct audit_record *entry, struct credential *ret, usec_t *ret_wait,
                      struct err *err) MUST_USE;
/* What is recorded of a certificate, or of what stands for one; borrowed. */
struct credential_new {
    const char *serial; /* hex, as anybody prints it */
    uint32_t generation;
    usec_t issued, expires;
    struct str chain, spki; /* PEM, or empty; SubjectPublicKeyInfo in DER */
};
/* Inside a write transaction. */
int credentials_insert(struct db *db, const char *server_id, const struct credential_new *n, struct err *err) MUST_USE;
/* Waits: does @signature of @digest come from the key of a certificate that @s is still let in with, expired or not? 0, *ret is that one;
 * -ERR_UNAUTHENTICATED: of none. */
int credentials_prove(struct server *s, const uint8_t digest[32], struct str signature, struct credential_row *ret, struct err *err) MUST_USE;

/* --- Taking away, asking for new ones --- */

/* Waits: nothing that was issued to @s opens anything any more, open tokens neither; its link is cut. */
int credentials_revoke(struct server *s, struct err *err) MUST_USE;
/* Asks the agent of @s for new ones: now, and at every connect until it has come with a newer generation. @reason: static. */
void credentials_rotate(struct server *s, const char *reason);
/* It has just connected: asks if it has to. */
void credentials_remind(struct server *s);

#endif
