/* SPDX-License-Identifier: Apache-2.0 */
/* links_renew — see links.h: an agent asks for its next certificate over its link. */
#include <stdio.h>

#include "control/servers/access.h"
#include "control/link/links_internal.h"

/* What the agent may do about it. */
static const char *reason_of(enum err_code code)
{
    switch (code) {
    case ERR_INVALID: return "bad_request";
    case ERR_PRECONDITION: return "key_reused";
    case ERR_EXHAUSTED: return "too_often";
    case ERR_UNAUTHENTICATED: return "revoked";
    default: return "unavailable";
    }
}

static void answer_refused(struct link *l, const struct err *why, usec_t wait)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__CredentialRefused refused = DAVIT__LINK__V1__CREDENTIAL_REFUSED__INIT;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;
    failure.code = (uint32_t)why->code;
    failure.message = lend(why->msg);
    failure.hint = lend(why->hint);
    failure.reason = lend(reason_of(why->code));
    refused.failure = &failure;
    refused.retry_after_ms = wait ? (uint32_t)(wait / USEC_MSEC + 1) : 0;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL_REFUSED;
    m.credential_refused = &refused;
    (void)links_send(l, &m); /* lost: the agent asks again */
}

static void answer(struct link *l, const struct credential *k)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Credential credential = DAVIT__LINK__V1__CREDENTIAL__INIT;
    credential.certificate_pem = lend(buf_cstr(&k->chain));
    credential.ca_pem = lend(buf_cstr(&k->roots));
    credential.cross_pem = lend(buf_cstr(&k->cross));
    credential.generation = k->generation;
    credential.access_token = lend(buf_cstr(&k->token));
    credential.access_token_expires_us = k->token_expires;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL;
    m.credential = &credential;
    (void)links_send(l, &m); /* lost: the agent asks again */
}

static int issue(struct link *l, const Davit__Link__V1__CredentialRequest *m, struct credential *k, usec_t *ret_wait, struct err *err)
{
    struct audit_record entry = {.count = 1};
    char uri[64];
    if (l->unix_peer)
        return err_set(err, ERR_INVALID, "the agent of this machine has no credentials to renew");
    if (!l->tunnel && (m->csr_der.len == 0 || m->csr_der.len > CSR_MAX))
        return err_set(err, ERR_INVALID, "csr_der: %zu bytes, allowed are 1 to %d", m->csr_der.len, CSR_MAX);
    (void)snprintf(uri, sizeof(uri), "davit://server/%s", l->id);
    audit_who(&entry, uri, l->serial);
    audit_what(&entry, "server.renewed", NULL);
    if (l->tunnel && m->csr_der.len)
        return err_set(err, ERR_INVALID, "csr_der: in tunnel mode the key stays, an access token is all that is renewed");
    if (l->tunnel)
        return access_issue(l->server, &l->credential, &entry, k, ret_wait, err);
    return credentials_issue(l->server, (struct str){(const char *)m->csr_der.data, m->csr_der.len}, &entry, k, ret_wait, err);
}

void link_renew(struct link *l, const Davit__Link__V1__CredentialRequest *m)
{
    struct err err = ERR_INIT;
    struct credential k;
    usec_t wait = 0;
    credential_init(&k);
    int rc = issue(l, m, &k, &wait, &err);
    if (rc == 0) {
        answer(l, &k);
    } else {
        (void)err_ensure(&err, rc);
        log_err(LOG_WARN, &err, "credentials were not renewed", "server", l->server->name, NULL);
        answer_refused(l, &err, wait);
    }
    credential_release(&k);
}
