/* SPDX-License-Identifier: Apache-2.0 */
/* recover — see recover.h. */
#include "host/link/recover.h"

#include <inttypes.h>

#include "host/link/link_challenge.h"
#include "host/link/link_dial.h"

#define PURPOSE "recover"

static int sign(const struct agent_identity *id, const Davit__Link__V1__RecoverRequest *m, struct buf *out, struct err *err)
{
    AUTO_FREE char *generation = str_printf("%" PRIu32, m->generation);
    const struct str extra[] = {str_from(m->server_id), {(const char *)m->csr_der.data, m->csr_der.len}, str_from(generation)};
    uint8_t digest[PROOF_SIZE];
    AUTO_KEY key = NULL;
    int rc = key_from_pem(secret_reveal(id->key_pem), &key, err);
    proof_digest(PURPOSE, m->client_nonce.data, m->server_nonce.data, extra, ARRAY_LEN(extra) - (m->generation == 0), digest);
    return rc == 0 ? proof_sign(key, digest, out, err) : rc;
}

int recover_over(struct rpc_channel *ch, const char *server_id, const struct agent_identity *id, struct str csr, uint32_t generation,
                 Davit__Link__V1__RecoverResponse **ret, struct err *err)
{
    Davit__Link__V1__RecoverRequest m = DAVIT__LINK__V1__RECOVER_REQUEST__INIT;
    Davit__Link__V1__ChallengeResponse *given = NULL;
    AUTO_BUF signature = BUF_INIT(PROOF_SIGNATURE_MAX);
    uint8_t nonce[PROOF_NONCE_SIZE];
    ProtobufCMessage *answer = NULL;
    const struct proof_trust trust = {.roots_pem = buf_str(&id->ca_pem)};
    int rc = link_challenge_ask(ch, PURPOSE, server_id, RECOVER_WAIT, nonce, &given, err);
    if (rc == 0)
        rc = link_challenge_check(given, PURPOSE, &trust, nonce, err);
    if (rc == 0) {
        m.server_id = (char *)(uintptr_t)server_id;
        m.client_nonce = (ProtobufCBinaryData){sizeof(nonce), nonce};
        m.server_nonce = given->server_nonce;
        m.csr_der = (ProtobufCBinaryData){csr.n, (uint8_t *)(uintptr_t)csr.p};
        m.generation = given->takes_generation ? generation : 0;
        rc = sign(id, &m, &signature, err);
    }
    if (rc == 0) {
        m.signature = (ProtobufCBinaryData){signature.len, (uint8_t *)signature.data};
        rc = rpc_unary(ch, &davit_link_v1_identity_service, "Recover", &m.base, deadline_in(RECOVER_WAIT), &answer, err);
    }
    (void)rpc_message_free(given);
    *ret = (Davit__Link__V1__RecoverResponse *)answer;
    return rc;
}

int recover_ask(struct loop *loop, const char *endpoint, const char *server_id, const struct agent_identity *id, struct str csr,
                Davit__Link__V1__RecoverResponse **ret, struct err *err)
{
    struct tls_config config = {.ca_pem = buf_str(&id->ca_pem), .peer_uri = LINK_PEER_URI, .alpn = "h2"};
    struct tls_ctx *tls = NULL;
    struct rpc_channel *ch = NULL;
    struct err why = ERR_INIT;
    int rc = tls_ctx_new(&config, &tls, &why);
    if (rc == 0)
        rc = link_dial(loop, endpoint, tls, 0, deadline_in(RECOVER_WAIT), &ch, &why);
    if (rc == 0)
        rc = recover_over(ch, server_id, id, csr, 0, ret, &why);
    (void)rpc_channel_close(ch);
    (void)tls_ctx_unref(tls);
    if (rc == 0)
        return 0;
    (void)err_ensure(&why, rc);
    rc = err_wrap(&why, "no new credentials for the old key");
    if ((why.code == ERR_UNAUTHENTICATED || why.code == ERR_DENIED) && !*why.hint)
        err_hint(&why, "make a token on the control plane with \"davit server token NAME\" and enroll again with --force");
    if (err)
        *err = why;
    return rc;
}
