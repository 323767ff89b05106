/* SPDX-License-Identifier: Apache-2.0 */
/* identity_rpc — IdentityService: the control plane proves who it is and gives a nonce; a server whose certificate ran out gets another one by
 * signing that nonce with the key of the old one. Nothing of it needs a client certificate.
 * Limits: as in enroll.h, and for a server that names itself IDENTITY_BURST tries, one more each IDENTITY_EVERY.
 * Input trust: strangers, until the signature held. */
#include <inttypes.h>
#include <string.h>

#include "control/servers/access.h"
#include "control/bucket.h"
#include "control/servers/challenge.h"
#include "control/servers/credentials.h"
#include "control/servers/duplicates.h"
#include "control/servers/enroll.h"
#include "control/link/links.h"
#include "ident/pki_roots.h"
#include "ident/proof.h"
#include "ident/token.h"

enum { IDENTITY_BURST = 10 };
#define IDENTITY_EVERY (6 * USEC_SEC)

static struct str bytes(ProtobufCBinaryData b)
{
    return (struct str){(const char *)b.data, b.len};
}

/* Who names a server or an open token that are ours counts by that alone: all that come through one edge have one address. *ret_whose is
 * borrowed from the arguments. */
static int admit(struct control *c, const char *source, const char *subject, const char **ret_whose, struct err *err)
{
    struct server *s = *subject ? servers_by_id(c, subject) : NULL;
    usec_t wait = 0;
    *ret_whose = s || strlen(subject) == TOKEN_ID_LEN ? subject : source;
    if (!s)
        return enroll_admit(c->enroll, source, subject, clock_mono(), clock_real(), err);
    if (bucket_take(&s->proofs, clock_mono(), IDENTITY_EVERY, IDENTITY_BURST, &wait) == 0)
        return 0;
    return err_set(err, ERR_EXHAUSTED, "too many attempts to prove who you are; try again in %u s", (unsigned)(wait / USEC_SEC + 1));
}

/* --- Challenge --- */

struct signing {
    const char *dir;
    uint8_t digest[PROOF_SIZE];
    struct buf chain, signature;
    struct err err;
};

static void signing_release(struct signing *g)
{
    buf_release(&g->chain);
    buf_release(&g->signature);
}

/* On the lane. The root goes along, as in TLS: who enrolls knows only its pin. */
static int sign(void *arg)
{
    struct signing *g = arg;
    AUTO_FREE char *path = str_printf("%s/controlplane.key", g->dir);
    AUTO_KEY key = NULL;
    int rc = pki_control_chain(g->dir, &g->chain, &g->err);
    if (rc == 0)
        rc = key_load(path, &key, &g->err);
    return rc < 0 ? rc : proof_sign(key, g->digest, &g->signature, &g->err);
}

static int check_challenge(const Davit__Link__V1__ChallengeRequest *r, struct err *err)
{
    if (r->client_nonce.len != PROOF_NONCE_SIZE)
        return err_set(err, ERR_INVALID, "client_nonce: %zu bytes, it must be %d", r->client_nonce.len, PROOF_NONCE_SIZE);
    if (challenge_purpose_of(r->purpose) == CHALLENGE_NONE)
        return err_set(err, ERR_INVALID, "purpose: \"%.40s\" is unknown; enroll or recover", text(r->purpose));
    return 0;
}

static int challenge_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Link__V1__ChallengeRequest *r = (const Davit__Link__V1__ChallengeRequest *)request;
    Davit__Link__V1__ChallengeResponse m = DAVIT__LINK__V1__CHALLENGE_RESPONSE__INIT;
    CLEANUP(signing_release) struct signing g = {
        .dir = c->opt.state_dir, .chain = BUF_INIT(2 * CERT_PEM_MAX), .signature = BUF_INIT(PROOF_SIGNATURE_MAX), .err = ERR_INIT};
    uint8_t nonce[PROOF_NONCE_SIZE];
    char source[ADDRESS_SIZE];
    const char *whose;
    address_host(conn_peer_addr(rpc_call_conn(call)), source);
    int rc = check_challenge(r, err);
    if (rc == 0)
        rc = admit(c, source, text(r->subject), &whose, err);
    if (rc < 0)
        return rc;
    challenge_make(c->challenges, whose, challenge_purpose_of(r->purpose), r->client_nonce.data, clock_mono(), nonce);
    const struct str extra = str_from(r->purpose);
    proof_digest("challenge", r->client_nonce.data, nonce, &extra, 1, g.digest);
    rc = lane_call(c->fast, sign, &g, deadline_in(STORE_WAIT));
    if (rc < 0) {
        *err = g.err;
        return err_ensure(err, rc);
    }
    m.server_nonce = (ProtobufCBinaryData){sizeof(nonce), nonce};
    m.certificate_pem = lend(buf_cstr(&g.chain));
    m.signature = (ProtobufCBinaryData){g.signature.len, (uint8_t *)g.signature.data};
    m.clock_us = clock_real();
    m.takes_generation = true;
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

/* --- Recover --- */

static int check_recover(const Davit__Link__V1__RecoverRequest *r, struct err *err)
{
    if (strlen(text(r->server_id)) != 36)
        return err_set(err, ERR_INVALID, "server_id: it must be a UUID");
    if (r->client_nonce.len != PROOF_NONCE_SIZE || r->server_nonce.len != PROOF_NONCE_SIZE)
        return err_set(err, ERR_INVALID, "client_nonce, server_nonce: both must have %d bytes", PROOF_NONCE_SIZE);
    if (r->csr_der.len > CSR_MAX)
        return err_set(err, ERR_INVALID, "csr_der: %zu bytes, allowed are %d", r->csr_der.len, CSR_MAX);
    if (r->signature.len == 0 || r->signature.len > PROOF_SIGNATURE_MAX)
        return err_set(err, ERR_INVALID, "signature: %zu bytes, allowed are 1 to %d", r->signature.len, PROOF_SIGNATURE_MAX);
    return 0;
}

/* Is it in the time after the end of its certificate in which that may be done? */
static int check_grace(const struct server *s, const struct credential_row *row, struct err *err)
{
    usec_t grace = credentials_grace(s->control);
    if (clock_real() < clock_add(row->expires, grace))
        return 0;
    (void)err_set(err, ERR_UNAUTHENTICATED, "the certificate of server \"%s\" has expired longer than %llu s ago", s->name,
                  (unsigned long long)(grace / USEC_SEC));
    err_hint(err, "make a new token with: davit server token %s", s->name);
    return -(int)ERR_UNAUTHENTICATED;
}

static int prove(struct server *s, const Davit__Link__V1__RecoverRequest *r, struct credential_row *row, struct err *err)
{
    AUTO_FREE char *generation = str_printf("%" PRIu32, r->generation);
    const struct str extra[] = {str_from(r->server_id), bytes(r->csr_der), str_from(generation)};
    uint8_t digest[PROOF_SIZE];
    proof_digest("recover", r->client_nonce.data, r->server_nonce.data, extra, ARRAY_LEN(extra) - (r->generation == 0), digest);
    int rc = credentials_judge(s, s->generation, err);
    if (rc == 0)
        rc = credentials_prove(s, digest, bytes(r->signature), row, err);
    return rc < 0 ? rc : check_grace(s, row, err);
}

/* Where the key stays, a copy has it as well: one whose credentials were replaced by others in use is told by their generation, and while the
 * server is connected, and its link ends with its token, who asks for another is one. */
static int check_alone(struct server *s, const char *source, const struct credential_row *row, uint32_t told, struct err *err)
{
    const struct duplicate_agent a = {source, "", "", told ? told : row->generation};
    if (told && credentials_judge(s, told, err) != 0) {
        duplicate_suspect(s, &a, false);
        duplicate_confirm(s);
        return -(int)ERR_UNAUTHENTICATED;
    }
    if (!s->link || s->state != SERVER_ONLINE)
        return 0;
    duplicate_suspect(s, &a, false);
    links_doubt(s);
    (void)err_set(err, ERR_ABORTED, "server \"%s\" is connected, so that its key gets no second access token", s->name);
    err_hint(err, "another agent has this identity (a copied disk, a restored snapshot?): enroll this one anew");
    return -(int)ERR_ABORTED;
}

static int recover(struct server *s, struct rpc_call *call, const char *source, const Davit__Link__V1__RecoverRequest *r, struct err *err)
{
    Davit__Link__V1__RecoverResponse m = DAVIT__LINK__V1__RECOVER_RESPONSE__INIT;
    Davit__Link__V1__Credential credential = DAVIT__LINK__V1__CREDENTIAL__INIT;
    struct audit_record entry = {.count = 1};
    CLEANUP(credential_release) struct credential k;
    credential_init(&k);
    audit_who_conn(&entry, rpc_call_conn(call));
    audit_what(&entry, "server.recovered", NULL);
    struct credential_row row = {0};
    int rc = prove(s, r, &row, err);
    if (rc == 0 && r->csr_der.len == 0)
        rc = check_alone(s, source, &row, r->generation, err);
    if (rc == 0 && r->csr_der.len == 0) /* the key stays */
        rc = access_issue(s, &row, &entry, &k, NULL, err);
    else if (rc == 0)
        rc = credentials_issue(s, bytes(r->csr_der), &entry, &k, NULL, err);
    if (rc < 0)
        return rc;
    credential.certificate_pem = lend(buf_cstr(&k.chain));
    credential.ca_pem = lend(buf_cstr(&k.roots));
    credential.cross_pem = lend(buf_cstr(&k.cross));
    credential.generation = k.generation;
    credential.access_token = lend(buf_cstr(&k.token));
    credential.access_token_expires_us = k.token_expires;
    m.credential = &credential;
    m.server_name = s->name;
    log_event(LOG_NOTICE, "server recovered its credentials", "server", s->name, NULL);
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the server went away");
}

static int recover_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Link__V1__RecoverRequest *r = (const Davit__Link__V1__RecoverRequest *)request;
    char source[ADDRESS_SIZE];
    const char *whose;
    address_host(conn_peer_addr(rpc_call_conn(call)), source);
    int rc = check_recover(r, err);
    if (rc == 0)
        rc = admit(c, source, r->server_id, &whose, err);
    if (rc == 0)
        rc = challenge_take(c->challenges, CHALLENGE_RECOVER, bytes(r->client_nonce), bytes(r->server_nonce), clock_mono(), err);
    struct server *s = rc == 0 ? servers_by_id(c, r->server_id) : NULL;
    if (rc == 0 && !s) {
        rc = err_set(err, ERR_UNAUTHENTICATED, "this server is not enrolled here, or was removed");
        err_hint(err, "enroll it again with a new token");
    }
    if (rc == 0) {
        (void)server_ref(s);
        rc = recover(s, call, source, r, err);
        server_unref(s);
    }
    if (rc < 0)
        c->counters.recoveries_refused++;
    if (rc < 0 && rc != -(int)ERR_EXHAUSTED)
        log_event(LOG_NOTICE, "recovery refused", "peer", source, "reason", err->msg, NULL);
    return rc;
}

CONTROL_HANDLER(challenge_run)
CONTROL_HANDLER(recover_run)

const struct rpc_handler identity_handlers[] = {
    {.run = challenge_run_tracked},
    {.run = recover_run_tracked},
};
