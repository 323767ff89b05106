/* SPDX-License-Identifier: Apache-2.0 */
/* oauth — the issuer of short-lived access tokens, and who looks at them: beside its certificate a caller on 7443 shows one.
 *   POST /oauth2/token        client_credentials (RFC 6749, 4.4); the client shows who it is by an assertion (RFC 7523, ident/jwt_oauth.h)
 *   POST /oauth2/introspect   RFC 7662; POST /oauth2/revoke  RFC 7009; both authenticated the same way
 *   GET /.well-known/oauth-authorization-server (RFC 8414), /.well-known/jwks.json (RFC 7517)
 * On 7443, and on the loopback address of --token-listen for clients that know a port of its own (4444).
 * A token is bound to the certificate of the connection that asked for it (RFC 8705), lives OAUTH_TOKEN_LIFE, and is signed with the key of access.h.
 * An assertion is good for one exchange, whatever comes of it: its jti is on disk before the answer leaves, and stays there OAUTH_KEPT beyond
 * its end, so that a clock that is put back a little finds it. Without the store, or when its part of it is full, nobody gets a token.
 * Clients: davit-cli, whose key is assertion.jwk of the state directory, put there by `davit up`; read for each request, for it may be replaced.
 * A method wants its scope; admin holds write, write holds read. GetSystemTime of AdminService wants no token.
 * Limits: OAUTH_BODY_MAX bytes of a request, FORM_FIELDS_MAX parameters, OAUTH_ASSERTIONS_MAX used assertions of a client, OAUTH_REVOKED_MAX
 * revoked tokens, one exchange each OAUTH_EVERY for a client, OAUTH_BURST at once.  Thread: loop.  Input trust: who has a certificate of ours. */
#ifndef DAVIT_CONTROL_OAUTH_H
#define DAVIT_CONTROL_OAUTH_H

#include "control/control_internal.h"

enum { OAUTH_BODY_MAX = 8 * 1024, OAUTH_ASSERTIONS_MAX = 8192, OAUTH_REVOKED_MAX = 1024, OAUTH_BURST = 100 };
#define OAUTH_TOKEN_LIFE (5 * USEC_MINUTE)
#define OAUTH_KEPT       (10 * USEC_MINUTE)
#define OAUTH_EVERY      (100 * USEC_MSEC)

struct oauth;

/* Never NULL. */
struct oauth *oauth_new(struct control *c) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct oauth *oauth_free(struct oauth *o);
/* At start, when the store is open; blocks: the revoked tokens. */
int oauth_load(struct oauth *o, struct err *err) MUST_USE;
/* Waits, when the API listens: what the issuer is called; opens the second port (--token-listen), where only these pages are. */
int oauth_start(struct oauth *o, struct err *err) MUST_USE;
/* Loop: the keys of access.h are others now. */
void oauth_take_keys(struct oauth *o);
/* "https://127.0.0.1:7443": issuer and audience. Borrowed. */
const char *oauth_issuer(const struct oauth *o);

/* The pages of both; @ctx is the control plane. */
rpc_page_handler oauth_pages;

/* May @call, whose connection has shown the certificate of a client, be made with the token that it shows? 0, -ERR_UNAUTHENTICATED, -ERR_DENIED. */
int oauth_judge(struct oauth *o, struct rpc_call *call, const struct rpc_method *method, struct err *err) MUST_USE;

#endif
