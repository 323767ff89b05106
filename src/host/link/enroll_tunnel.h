/* SPDX-License-Identifier: Apache-2.0 */
/* enroll_tunnel — the first contact where an edge that nobody trusts ends TLS: the control plane proves by a signature under the root that the
 * token names who it is, then the token proves itself by a MAC; its secret stays here.
 * Thread: loop, on a fiber.  Input trust: edge and peer. */
#ifndef DAVIT_HOST_LINK_ENROLL_TUNNEL_H
#define DAVIT_HOST_LINK_ENROLL_TUNNEL_H

#include "davit/link/v1/link.davit.h"
#include "host/link/tunnel_edge.h"
#include "ident/key.h"
#include "ident/token.h"

/* Waits: one try. @request: all but what the token says. *ret_sent: the MAC left this machine. 0: *ret is the caller's (rpc_message_free). */
int enroll_tunnel_ask(struct loop *loop, struct tunnel_edge *edge, const struct join_token *token, Davit__Link__V1__EnrollRequest *request,
                      Davit__Link__V1__EnrollResponse **ret, bool *ret_sent, struct err *err) MUST_USE;
/* Does the answer hold: is there a root with the token's pin, and is the access token for this server and key? 0 or -ERR_DATA_LOSS. Nothing seals the
 * answer: of the roots in it that one alone is believed, and appended to @root; the edge may have put one of its own beside it. */
int enroll_tunnel_check(const Davit__Link__V1__EnrollResponse *a, const struct join_token *token, const struct key *key, struct buf *root,
                        struct err *err) MUST_USE;

#endif
