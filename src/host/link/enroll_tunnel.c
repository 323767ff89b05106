/* SPDX-License-Identifier: Apache-2.0 */
/* enroll_tunnel — see enroll_tunnel.h. */
#include "host/link/enroll_tunnel.h"

#include <string.h>

#include "base/mem.h"
#include "host/link/enroll.h"
#include "host/link/link_challenge.h"
#include "host/link/tunnel.h"
#include "ident/cert.h"
#include "ident/jwt.h"

#define PURPOSE "enroll"

struct ask {
    const struct join_token *token;
    Davit__Link__V1__EnrollRequest *request;
    Davit__Link__V1__EnrollResponse *answer;
    bool sent;
};

/* Is it the token's control plane that gave this nonce? */
static int check_challenge(const struct ask *a, const Davit__Link__V1__ChallengeResponse *given, const uint8_t nonce[PROOF_NONCE_SIZE],
                           struct err *err)
{
    const struct proof_trust trust = {.pin = a->token->pin};
    struct err why = ERR_INIT;
    if (link_challenge_check(given, PURPOSE, &trust, nonce, &why) == 0)
        return 0;
    (void)err_set(err, ERR_UNAUTHENTICATED, "another control plane than the token's answers: %s; nothing of the token was sent", why.msg);
    err_hint(err, "check the address; if the control plane was set up anew, or its root was changed, make a new token there");
    return -(int)ERR_UNAUTHENTICATED;
}

static int run(void *arg, struct rpc_channel *ch, bool *ret_answered, struct err *err)
{
    struct ask *a = arg;
    Davit__Link__V1__ChallengeResponse *given = NULL;
    ProtobufCMessage *answer = NULL;
    uint8_t nonce[PROOF_NONCE_SIZE], digest[PROOF_SIZE], mac[PROOF_MAC_SIZE];
    int rc = link_challenge_ask(ch, PURPOSE, a->token->id, ENROLL_TRY_WAIT, nonce, &given, err);
    *ret_answered = rc == 0;
    if (rc == 0)
        rc = check_challenge(a, given, nonce, err);
    if (rc == 0) {
        const struct str csr = {(const char *)a->request->csr_der.data, a->request->csr_der.len};
        AUTO_SECRET key = proof_mac_key(secret_reveal(a->token->secret));
        proof_digest(PURPOSE, nonce, given->server_nonce.data, &csr, 1, digest);
        proof_mac(key, digest, mac);
        a->request->client_nonce = (ProtobufCBinaryData){sizeof(nonce), nonce};
        a->request->server_nonce = given->server_nonce;
        a->request->token_mac = (ProtobufCBinaryData){sizeof(mac), mac};
        a->sent = true;
        rc = rpc_unary(ch, &davit_link_v1_enroll_service, "Enroll", &a->request->base, deadline_in(ENROLL_TRY_WAIT), &answer, err);
        a->request->client_nonce = a->request->server_nonce = a->request->token_mac = (ProtobufCBinaryData){0};
        a->answer = (Davit__Link__V1__EnrollResponse *)answer;
    }
    (void)rpc_message_free(given);
    return rc;
}

int enroll_tunnel_ask(struct loop *loop, struct tunnel_edge *edge, const struct join_token *token, Davit__Link__V1__EnrollRequest *request,
                      Davit__Link__V1__EnrollResponse **ret, bool *ret_sent, struct err *err)
{
    struct ask a = {.token = token, .request = request};
    const struct tunnel_try way = {.run = run, .arg = &a};
    enum tunnel_carrier carrier;
    int rc = tunnel_edge_try(loop, edge, &way, &carrier, NULL, err);
    *ret_sent = a.sent;
    *ret = a.answer;
    return rc;
}

int enroll_tunnel_check(const Davit__Link__V1__EnrollResponse *a, const struct join_token *token, const struct key *key, struct buf *root,
                        struct err *err)
{
    struct str list = str_from(a->ca_pem);
    struct cert_roots roots;
    struct jwt_claims claims;
    struct err why = ERR_INIT;
    if (cert_roots_read(list, &roots, &why) < 0 || cert_pem_by_pin(list, token->pin, root) != 0)
        return err_set(err, ERR_DATA_LOSS, "its root is not the one that the token names");
    if (!*a->access_token)
        return err_set(err, ERR_DATA_LOSS, "it has no access token");
    return tunnel_check_token(str_from(a->access_token), a->server_id, key, 0, &claims, err);
}
