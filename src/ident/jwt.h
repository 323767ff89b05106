/* SPDX-License-Identifier: Apache-2.0 */
/* jwt — access tokens of tunnel mode (JSON Web Token, RFC 7519; compact JWS, RFC 7515; ES256): "server <sub>, whose key has this hash, may link".
 * A token is made and judged by the control plane alone, with one key that does nothing else. Its header is always the same bytes: nothing in a
 * token chooses an algorithm or a key. It opens nothing by itself: whoever shows it proves to have the key of `cnf`, see channel.h.
 *   {"iss":"davit://controlplane","aud":"davit-link","sub":"<server id>","gen":3,"iat":s,"nbf":s,"exp":s,"jti":"<32 hex>","cnf":{"kid":"<hash>"}}
 *   cnf (RFC 7800): base64url of the SHA-256 of the host key's DER SubjectPublicKeyInfo.  exp - iat is at most JWT_LIFE_MAX.
 * Thread: any.  Input trust: peer; nothing of a token is read before its signature held.  Limits: JWT_MAX bytes. */
#ifndef DAVIT_IDENT_JWT_H
#define DAVIT_IDENT_JWT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "ident/key.h"

enum { JWT_MAX = 1024, JWT_SUBJECT_SIZE = 37, JWT_ID_SIZE = 33 };
#define JWT_LIFE_MAX USEC_DAY
#define JWT_LEEWAY   (60 * USEC_SEC) /* our own clock may have been put back a little since */

struct jwt_claims {
    char subject[JWT_SUBJECT_SIZE]; /* UUID, lower case */
    char id[JWT_ID_SIZE];           /* 32 lower-case hex digits */
    uint32_t generation;
    usec_t issued, not_before, expires; /* real time, whole seconds */
    uint8_t key_hash[SPKI_HASH_SIZE];
};

/* Appends the token to @out. @key is P-256. -ERR_INVALID for claims that jwt_verify would refuse or a key of another kind, -ERR_EXHAUSTED. */
int jwt_make(const struct key *key, const struct jwt_claims *claims, struct buf *out, struct err *err) MUST_USE;
/* Is @token one that @key made, and good at real time @now? 0, or -ERR_UNAUTHENTICATED with the reason. @ret is filled on 0 only. */
int jwt_verify(const struct key *key, struct str token, usec_t now, struct jwt_claims *ret, struct err *err) MUST_USE;
/* The same without a look at the clock: for an agent, which has no key to judge with, only to know when its token ends. The signature is not
 * checked. 0 or -ERR_INVALID. */
int jwt_peek(struct str token, struct jwt_claims *ret, struct err *err) MUST_USE;

#endif
