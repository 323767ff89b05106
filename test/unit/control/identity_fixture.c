/* SPDX-License-Identifier: Apache-2.0 */
/* identity_fixture — see identity_fixture.h. */
#include "identity_fixture.h"

#include <string.h>

#include "ident/token.h"

void identity_make(struct identity *id)
{
    struct err err = ERR_INIT;
    *id = (struct identity){.csr = BUF_INIT(CSR_MAX), .chain = BUF_INIT(CERT_PEM_MAX)};
    CHECK_OK(key_generate(&id->key, &err));
    CHECK_OK(csr_make(id->key, "x", &id->csr, &err));
    CHECK_OK(key_to_pem(id->key, &id->pem, &err));
}

void identity_release(struct identity *id)
{
    id->key = key_free(id->key);
    id->pem = secret_free(id->pem);
    buf_release(&id->csr);
    buf_release(&id->chain);
}

char *create(struct fixture *f, const char *name, bool renew)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__CreateServerRequest r = DAVIT__CONTROL__V1__CREATE_SERVER_REQUEST__INIT;
    Davit__Control__V1__CreateTokenRequest t = DAVIT__CONTROL__V1__CREATE_TOKEN_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    r.name = t.server = W(name);
    CHECK_OK(fixture_call(f, &davit_control_v1_server_service, renew ? "CreateToken" : "CreateServer", renew ? &t.base : &r.base,
                          &m, &err));
    const Davit__Control__V1__CreateServerResponse *s = (const Davit__Control__V1__CreateServerResponse *)m;
    const char *token = renew ? ((const Davit__Control__V1__CreateTokenResponse *)m)->token : s->token;
    const char *line = renew ? ((const Davit__Control__V1__CreateTokenResponse *)m)->install_command : s->install_command;
    if (!renew)
        CHECK(s->server->state == DAVIT__CONTROL__V1__SERVER_STATE__SERVER_STATE_PENDING);
    CHECK(strlen(token) == TOKEN_TEXT_LEN && strstr(line, token) && strstr(line, "--mode direct --server 127.0.0.1:"));
    CHECK(!strstr(line, ":0 "));
    char *copy = str_dup(str_from(token));
    (void)rpc_message_free(m);
    return copy;
}

int enroll(struct fixture *f, const char *token_text, struct identity *id, struct err *err)
{
    Davit__Link__V1__EnrollRequest r = DAVIT__LINK__V1__ENROLL_REQUEST__INIT;
    struct join_token token = {0};
    struct rpc_channel *ch = NULL;
    ProtobufCMessage *m = NULL;
    CHECK(join_token_parse(str_from(token_text), &token, NULL, err) == 0);
    struct tls_config config = {.pin = token.pin, .peer_uri = "davit://controlplane", .alpn = "h2"};
    struct tls_ctx *tls = NULL;
    CHECK(tls_ctx_new(&config, &tls, err) == 0);
    CHECK(rpc_channel_open(f->loop, control_link_addr(f->c), tls, 0, SOON, &ch, err) == 0);
    struct str secret = secret_reveal(token.secret);
    r.token_id = token.id;
    r.token_secret = (ProtobufCBinaryData){secret.n, (uint8_t *)(uintptr_t)secret.p};
    r.csr_der = (ProtobufCBinaryData){id->csr.len, (uint8_t *)id->csr.data};
    int rc = rpc_unary(ch, &davit_link_v1_enroll_service, "Enroll", &r.base, SOON, &m, err);
    if (rc == 0) {
        const Davit__Link__V1__EnrollResponse *e = (const Davit__Link__V1__EnrollResponse *)m;
        buf_clear(&id->chain);
        CHECK(buf_append_cstr(&id->chain, e->certificate_pem) == 0);
    }
    (void)rpc_message_free(m);
    (void)rpc_channel_close(ch);
    tls_ctx_unref(tls);
    join_token_release(&token);
    return rc;
}
