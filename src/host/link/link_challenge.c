/* SPDX-License-Identifier: Apache-2.0 */
/* link_challenge — see link_challenge.h. */
#include "host/link/link_challenge.h"

int link_challenge_ask(struct rpc_channel *ch, const char *purpose, const char *subject, usec_t wait, uint8_t nonce[PROOF_NONCE_SIZE],
                       Davit__Link__V1__ChallengeResponse **ret, struct err *err)
{
    Davit__Link__V1__ChallengeRequest m = DAVIT__LINK__V1__CHALLENGE_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    rng_bytes(nonce, PROOF_NONCE_SIZE);
    m.client_nonce = (ProtobufCBinaryData){PROOF_NONCE_SIZE, nonce};
    m.purpose = (char *)(uintptr_t)purpose;
    m.subject = (char *)(uintptr_t)subject;
    int rc = rpc_unary(ch, &davit_link_v1_identity_service, "Challenge", &m.base, deadline_in(wait), &answer, err);
    *ret = (Davit__Link__V1__ChallengeResponse *)answer;
    return rc;
}

int link_challenge_check(const Davit__Link__V1__ChallengeResponse *answer, const char *purpose, const struct proof_trust *trust,
                         const uint8_t nonce[PROOF_NONCE_SIZE], struct err *err)
{
    const struct str extra = str_from(purpose), signature = {(const char *)answer->signature.data, answer->signature.len};
    uint8_t digest[PROOF_SIZE];
    if (answer->server_nonce.len != PROOF_NONCE_SIZE)
        return err_set(err, ERR_UNAUTHENTICATED, "the control plane gave a nonce of %zu bytes", answer->server_nonce.len);
    proof_digest("challenge", nonce, answer->server_nonce.data, &extra, 1, digest);
    /* Where nobody knows how late it is, what it says can only be later than the floor. */
    usec_t when = clock_checked();
    if (clock_unsure() && answer->clock_us > when)
        when = answer->clock_us;
    return proof_control_plane(str_from(answer->certificate_pem), trust, when, digest, signature, NULL, err);
}
