/* SPDX-License-Identifier: Apache-2.0 */
/* access — access tokens (ident/jwt.h) of servers in tunnel mode: what a certificate is in direct mode. A token is a row of the table of
 * certificates like one, with its id as serial, its generation, and the key that it is bound to; so who is let in, what is revoked and what is a
 * copy is decided in one place for both, credentials.h. The key that signs is ACCESS_KEY_FILE of the state directory; oauth.h signs with it too,
 * under another issuer and audience, so that no token is good for the other use.
 * A store without that file gets a new one: tokens of before are refused then, and agents recover with their own keys.
 * Limits: a token lives credentials_life, JWT_LIFE_MAX at most.  Thread: loop; what is said to wait runs on a fiber. */
#ifndef DAVIT_CONTROL_ACCESS_H
#define DAVIT_CONTROL_ACCESS_H

#include "control/servers/credentials.h"
#include "ident/jwt.h"
#include "ident/jws.h"
#include "ident/pki_roots.h"

#define ACCESS_KEY_FILE PKI_ACCESS ".key"
enum { ACCESS_KEYS = 2 };

/* Blocks, at the start: reads the key, or makes it. */
int access_start(struct control *c, struct err *err) MUST_USE;

/* Blocks: the keys as they lie there now; *ret_old NULL unless the root is being changed. The caller's. */
int access_load(const char *dir, struct key **ret, struct key **ret_old, struct err *err) MUST_USE;
/* Loop: they take the place of those that were used so far. */
void access_take(struct control *c, struct key *key, struct key *old);
/* The public halves of those that are good, the one that signs first. How many. */
size_t access_jwks(const struct control *c, struct jwk ret[ACCESS_KEYS]);
/* Is @token one of ours and good now? 0 or -ERR_UNAUTHENTICATED. Whether its server is still let in with it is credentials.h's to say. */
int access_judge(const struct control *c, struct str token, struct jwt_claims *ret, struct err *err) MUST_USE;
/* A token for @server_id, whose key has @key_hash, from now on; appended to @out. */
int access_sign(const struct control *c, const char *server_id, uint32_t generation, const uint8_t key_hash[SPKI_HASH_SIZE],
                struct buf *out, struct jwt_claims *ret, struct err *err) MUST_USE;

/* Waits: the next token of @s, for the key that it has with @present, which stays. @entry as in credentials_issue; failures too, and
 * -ERR_PRECONDITION for a server that is not in tunnel mode. */
int access_issue(struct server *s, const struct credential_row *present, struct audit_record *entry, struct credential *ret,
                 usec_t *ret_wait, struct err *err) MUST_USE;
/* Waits: appends the key that the token @id of @server_id is bound to. 0; 1: there is no such token. */
int access_key(struct control *c, const char *id, const char *server_id, struct buf *spki, struct err *err) MUST_USE;

#endif
