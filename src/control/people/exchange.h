/* SPDX-License-Identifier: Apache-2.0 */
/* exchange — on 7440 and 7441 a session or an API token is exchanged for a token that lives shortly (RFC 8693): POST /oauth2/token with
 *   grant_type          urn:ietf:params:oauth:grant-type:token-exchange
 *   subject_token_type  urn:ietf:params:oauth:token-type:access_token: subject_token is an API token;
 *                       urn:davit:oauth:token-type:session: it is the secret of a session, or is left out and the cookie says which
 *   scope               no wider than what is shown; without one: as wide
 * The token says who, with which scope, and of which pass it was made. It is good at the door where it was given (7440 or 7441) and nowhere else: at
 * 7443 it opens nothing, which takes a token that is bound to a certificate, and those open nothing here. It ends with its pass, at once, and calls
 * that are open with it; after OAUTH_TOKEN_LIFE; and when the keys of tokens are changed (access.h). It is exchanged for no other, and does not count
 * as being logged in: who has it makes no API token and sets no password.
 * Limits: OAUTH_BODY_MAX bytes of a request, one each EXCHANGE_EVERY for a pass, EXCHANGE_BURST at once.
 * Thread: loop, on a fiber.  Input trust: anybody. */
#ifndef DAVIT_CONTROL_EXCHANGE_H
#define DAVIT_CONTROL_EXCHANGE_H

#include "control/people/passes.h"

enum { EXCHANGE_BURST = 30 };
#define EXCHANGE_EVERY (USEC_SEC)

/* Is @page for exchange_page? */
bool exchange_wanted(const struct rpc_page *page);
void exchange_page(struct rpc_page *page, struct control *c, bool local);
/* The pass that @token was made of, and what it may at most; NULL with the reason. Borrowed. */
struct pass *exchange_pass(struct control *c, struct str token, bool local, enum pass_scope *ret_scope, struct err *err);

#endif
