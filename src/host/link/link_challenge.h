/* SPDX-License-Identifier: Apache-2.0 */
/* link_challenge — the control plane proves who it is and gives a nonce for one use: how each exchange begins in which TLS is not ours to ask, or
 * in which no certificate of ours holds (format: ident/proof.h, IdentityService.Challenge).
 * Thread: loop, on a fiber.  Input trust: peer, until link_challenge_check held. */
#ifndef DAVIT_HOST_LINK_LINK_CHALLENGE_H
#define DAVIT_HOST_LINK_LINK_CHALLENGE_H

#include "davit/link/v1/link.davit.h"
#include "ident/proof.h"
#include "rpc/rpc.h"

/* Waits, for @wait at most: a nonce for @purpose ("enroll", "recover") of @subject (token or server). @nonce is ours, made here; *ret is the
 * caller's (rpc_message_free). */
int link_challenge_ask(struct rpc_channel *ch, const char *purpose, const char *subject, usec_t wait, uint8_t nonce[PROOF_NONCE_SIZE],
                       Davit__Link__V1__ChallengeResponse **ret, struct err *err) MUST_USE;
/* Is it the control plane that @trust names which gave this nonce? 0 or -ERR_UNAUTHENTICATED with the reason. */
int link_challenge_check(const Davit__Link__V1__ChallengeResponse *answer, const char *purpose, const struct proof_trust *trust,
                         const uint8_t nonce[PROOF_NONCE_SIZE], struct err *err) MUST_USE;

#endif
