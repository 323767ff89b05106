/* SPDX-License-Identifier: Apache-2.0 */
/* jwt_oauth — the two tokens of the issuer of short-lived access tokens (OAuth 2.0), both signed ES256.
 * Assertion (RFC 7523): with it a client shows who it is; made with the client's own key, good for one exchange.
 *   {"iss":"davit-cli","sub":"davit-cli","aud":"https://127.0.0.1:7443","jti":"..","iat":s,"exp":s}, of clients that are bound also
 *   "cnf":{"x5t#S256":".."} and "container":"<64 hex>"
 * Access token (RFC 9068, bound to a certificate by RFC 8705): what the issuer gives for it, judged by the issuer alone. Header "at+jwt" and kid.
 *   {"iss":"https://127.0.0.1:7443","aud":"https://127.0.0.1:7443","sub":"davit-cli","client_id":"davit-cli","scope":"admin","jti":"..","iat":s,
 *    "exp":s,"cnf":{"x5t#S256":"<base64url of the SHA-256 of the certificate in DER>"}}
 * Times are whole seconds since 1970.  Thread: any.  Input trust: peer; nothing of a text counts before its signature held.
 * Limits: JWS_MAX bytes, OAUTH_*_MAX for what it says. */
#ifndef DAVIT_IDENT_JWT_OAUTH_H
#define DAVIT_IDENT_JWT_OAUTH_H

#include <stdbool.h>

#include "base/clock.h"
#include "ident/jws.h"

enum { OAUTH_NAME_MAX = 63, OAUTH_ID_MAX = 128, OAUTH_URL_MAX = 255, OAUTH_SCOPE_MAX = 127, OAUTH_CONTAINER_MAX = 64, OAUTH_X5T_SIZE = 32 };

/* How far our clock may be behind a client's. */
#define ASSERTION_SKEW        (10 * USEC_SEC)
#define ASSERTION_LIFE_MAX    (60 * USEC_SEC) /* of a client that is there when it asks */
#define ASSERTION_LIFE_STORED USEC_DAY        /* of one that is made to be used later; such are bound */
#define ASSERTION_LIFE_SANDBOX (30 * USEC_DAY) /* of a sandbox's, which may start for the first time long after it was made */
/* What a client says whose clock is ahead of ours beyond that. */
#define ASSERTION_EARLY "Token used before issued"

struct oauth_claims {
    char issuer[OAUTH_URL_MAX + 1], audience[OAUTH_URL_MAX + 1];
    char subject[OAUTH_NAME_MAX + 1], client[OAUTH_NAME_MAX + 1]; /* client: "" in assertions */
    char id[OAUTH_ID_MAX + 1];
    char scope[OAUTH_SCOPE_MAX + 1];         /* "" in assertions */
    char container[OAUTH_CONTAINER_MAX + 1]; /* "" where there is none */
    usec_t issued, not_before, expires;      /* not_before 0: none */
    bool bound;
    uint8_t certificate[OAUTH_X5T_SIZE]; /* where it is bound */
};

/* --- Assertions --- */

/* Reads what @text says, to find whose it is; nothing of it is proved. 0, -ERR_INVALID. */
int assertion_read(struct str text, struct jws *jws, struct oauth_claims *ret, struct err *err) MUST_USE;

/* What is asked of an assertion. */
struct assertion_rules {
    const char *client;           /* whose it must be */
    const char *kid;              /* the header may name this key or none */
    const char *const *audiences; /* one of these, letter by letter */
    size_t n_audiences;
    usec_t life_max;
    bool bound; /* must name certificate and container */
};
/* After assertion_read: is it one of @rules->client, signed with @key, and good at real time @now? 0 or -ERR_UNAUTHENTICATED with the reason.
 * That it is used once only is for the caller to see to. */
int assertion_judge(const struct jws *jws, const struct oauth_claims *claims, const struct jwk *key, const struct assertion_rules *rules,
                    usec_t now, struct err *err) MUST_USE;
/* Appends one for @client, from @now for @life. @id is fresh. -ERR_INVALID, -ERR_EXHAUSTED. */
int assertion_make(const struct key *key, const char *client, const char *audience, const char *id, usec_t now, usec_t life, struct buf *out,
                   struct err *err) MUST_USE;

/* The same of all that @claims say, which must be bound to certificate and container. */
int assertion_make_bound(const struct key *key, const struct oauth_claims *claims, struct buf *out, struct err *err) MUST_USE;

/* --- Access tokens --- */

/* Appends the token of @claims, all of which but not_before are used. */
int access_make(const struct key *key, const struct oauth_claims *claims, struct buf *out, struct err *err) MUST_USE;
/* Is @token one that @key made, of this issuer and for it, and good at real time @now? 0 or -ERR_UNAUTHENTICATED with the reason; @ret is filled
 * on 0 only. Whose certificate it is bound to is for the caller to compare. */
int access_verify(const struct jwk *key, struct str token, const char *issuer, usec_t now, struct oauth_claims *ret, struct err *err) MUST_USE;
/* Tokens that are bound to no certificate, for other issuers: none of one kind is one of the other. */
int access_make_unbound(const struct key *key, const struct oauth_claims *claims, struct buf *out, struct err *err) MUST_USE;
int access_verify_unbound(const struct jwk *keys, size_t n, struct str token, const char *issuer, usec_t now, struct oauth_claims *ret,
                          struct err *err) MUST_USE;
/* The same as access_verify with whichever of @keys made it. */
int access_verify_any(const struct jwk *keys, size_t n, struct str token, const char *issuer, usec_t now, struct oauth_claims *ret,
                      struct err *err) MUST_USE;

#endif
