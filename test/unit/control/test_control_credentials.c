/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials of servers for life: renewed over the link, got back by the old key, taken away, exchanged on request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/servers/access.h"
#include "control/servers/challenge.h"
#include "control/servers/credentials.h"
#include "control_fixture.h"
#include "davit/control/v1/credentials.davit.h"
#include "ident/pki_dir.h"
#include "ident/proof.h"
#include "identity_fixture.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)

static struct server *edge(struct fixture *f)
{
    struct server *s = servers_by_name(f->c, "edge");
    CHECK(s);
    return s;
}

static void enroll_edge(struct fixture *f, struct identity *id, bool renew)
{
    struct err err = ERR_INIT;
    char *token = create(f, "edge", renew);
    identity_make(id);
    CHECK_OK(enroll(f, token, id, &err));
    free(token);
}

/* Connects with @id and says Hello. 0: Welcome came; else how it ended. */
static int come(struct fixture *f, struct agent *a, const struct identity *id, uint64_t epoch, struct err *err)
{
    struct tls_ctx *tls = fixture_tls(f, buf_str(&id->chain), secret_reveal(id->pem), err);
    int rc = agent_open(f, a, tls, err);
    tls_ctx_unref(tls);
    if (rc < 0)
        return rc;
    const struct agent_self self = {.epoch = epoch};
    agent_hello_as(a, &self);
    Davit__Link__V1__ControlMessage *m = agent_get(a, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_WELCOME, err);
    if (!m)
        return -(int)err->code;
    (void)rpc_message_free(m);
    return 0;
}

static void connect_as(struct fixture *f, struct agent *a, const struct identity *id, uint64_t epoch)
{
    struct err err = ERR_INIT;
    CHECK_OK(come(f, a, id, epoch, &err));
}

static void refused(struct fixture *f, const struct identity *id, uint64_t epoch, enum err_code code, const char *word)
{
    struct err err = ERR_INIT;
    struct agent a;
    int rc = come(f, &a, id, epoch, &err);
    if (rc != -(int)code || !strstr(err.msg, word))
        (void)fprintf(stderr, "%d: %s\n", rc, err.msg);
    CHECK(rc == -(int)code && strstr(err.msg, word));
    agent_close(&a);
}

static void ask(struct agent *a, const void *csr, size_t n)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CredentialRequest r = DAVIT__LINK__V1__CREDENTIAL_REQUEST__INIT;
    r.csr_der = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)csr};
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CREDENTIAL_REQUEST;
    m.credential_request = &r;
    CHECK(agent_put(a, &m) == 0);
}

/* The next certificate for the key of @id, which must get @generation. */
static void renew(struct agent *a, struct identity *id, uint32_t generation)
{
    struct err err = ERR_INIT;
    ask(a, id->csr.data, id->csr.len);
    Davit__Link__V1__ControlMessage *m = GET(a, CREDENTIAL);
    CHECK(m && m->credential->generation == generation && strstr(m->credential->ca_pem, "BEGIN CERTIFICATE"));
    buf_clear(&id->chain);
    CHECK(buf_append_cstr(&id->chain, m->credential->certificate_pem) == 0);
    (void)rpc_message_free(m);
}

static void renewal_refused(struct agent *a, const void *csr, size_t n, const char *reason)
{
    struct err err = ERR_INIT;
    ask(a, csr, n);
    Davit__Link__V1__ControlMessage *m = GET(a, CREDENTIAL_REFUSED);
    CHECK(m);
    CHECK_STR(m->credential_refused->failure->reason, reason);
    CHECK(*m->credential_refused->failure->message);
    CHECK((m->credential_refused->retry_after_ms > 0) == str_eq(str_from(reason), STR("too_often")));
    (void)rpc_message_free(m);
}

/* --- Renewal --- */

static void renewal_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity one, two, lost;
    struct agent a, b;
    enroll_edge(f, &one, false);
    identity_make(&two);
    identity_make(&lost);
    connect_as(f, &a, &one, 1);
    CHECK(edge(f)->generation == 1 && edge(f)->oldest == 1);
    usec_t before = edge(f)->certificate_expires;
    renew(&a, &lost, 2); /* its answer never arrived: the agent begins again with another key */
    renew(&a, &two, 3);
    AUTO_FREE char *first = str_dup(buf_str(&two.chain));
    renew(&a, &two, 3);
    CHECK_STR(buf_cstr(&two.chain), first);
    CHECK(edge(f)->generation == 3 && edge(f)->oldest == 1 && edge(f)->certificate_expires == before);
    /* Until the new one has connected the old one is good, also over a restart of the control plane. */
    agent_close(&a);
    connect_as(f, &a, &one, 2);
    agent_close(&a);
    fixture_restart(f);
    connect_as(f, &a, &one, 3);
    renewal_refused(&a, one.csr.data, one.csr.len, "key_reused");
    connect_as(f, &b, &two, 4);
    CHECK(edge(f)->oldest == 3 && edge(f)->certificate_expires >= before);
    renewal_refused(&b, two.csr.data, two.csr.len, "key_reused");
    agent_close(&a);
    refused(f, &one, 5, ERR_UNAUTHENTICATED, "was replaced by generation 3");
    refused(f, &lost, 5, ERR_UNAUTHENTICATED, "was replaced by generation 3");
    agent_close(&b);
    fixture_restart(f);
    CHECK(edge(f)->oldest == 3 && edge(f)->generation == 3 && edge(f)->certificate_issued > 0);
    refused(f, &one, 6, ERR_UNAUTHENTICATED, "was replaced by generation 3");
    connect_as(f, &b, &two, 7);
    agent_close(&b);
    (void)err;
    identity_release(&one);
    identity_release(&two);
    identity_release(&lost);
}

/* req: CB-9 */
static void renewal(void **state)
{
    (void)state;
    fixture_run(renewal_body);
}

static void bad_requests_body(struct fixture *f)
{
    static uint8_t large[CSR_MAX + 1];
    struct err err = ERR_INIT;
    struct identity id, next;
    struct agent a;
    enroll_edge(f, &id, false);
    connect_as(f, &a, &id, 1);
    renewal_refused(&a, "", 0, "bad_request");
    renewal_refused(&a, large, sizeof(large), "bad_request");
    renewal_refused(&a, large, CSR_MAX, "bad_request");
    identity_make(&next);
    next.csr.data[next.csr.len - 1] ^= 1; /* the signature */
    renewal_refused(&a, next.csr.data, next.csr.len, "bad_request");
    next.csr.data[next.csr.len - 1] ^= 1;
    /* What was of the wrong size did not count. */
    for (int i = 2; i < CREDENTIALS_BURST; i++)
        renew(&a, &next, 2);
    renewal_refused(&a, next.csr.data, next.csr.len, "too_often");
    CHECK(edge(f)->generation == 2);
    agent_close(&a);
    /* The agent of this machine has none. */
    work_connect(f, &a, 1, 0);
    renewal_refused(&a, next.csr.data, next.csr.len, "bad_request");
    agent_close(&a);
    (void)err;
    identity_release(&id);
    identity_release(&next);
}

static void bad_requests(void **state)
{
    (void)state;
    fixture_run(bad_requests_body);
}

/* --- Revocation --- */

static void take_away(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__RevokeRequest r = DAVIT__CONTROL__V1__REVOKE_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    r.server = W("edge");
    CHECK_OK(fixture_call(f, &davit_control_v1_credential_service, "Revoke", &r.base, &m, &err));
    (void)rpc_message_free(m);
}

/* Only asks whether a Hello would be heard. */
static void probe_refused(struct fixture *f, const struct identity *id, enum err_code code)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct tls_ctx *tls = fixture_tls(f, buf_str(&id->chain), secret_reveal(id->pem), &err);
    CHECK_OK(agent_open(f, &a, tls, &err));
    tls_ctx_unref(tls);
    agent_heartbeat(&a);
    CHECK(!GET(&a, WELCOME) && err.code == code);
    agent_close(&a);
}

static void revocation_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id, next, again;
    struct agent a;
    enroll_edge(f, &id, false);
    identity_make(&next);
    char *open = create(f, "edge", true);
    connect_as(f, &a, &id, 1);
    renew(&a, &next, 2);
    probe_refused(f, &id, ERR_INVALID);
    usec_t start = clock_mono();
    take_away(f);
    CHECK(!GET(&a, COMMAND) && err.code == ERR_UNAUTHENTICATED && strstr(err.msg, "revoked"));
    CHECK(clock_mono() - start < USEC_SEC);
    agent_close(&a);
    CHECK(credentials_revoked(edge(f)) && edge(f)->state != SERVER_ONLINE);
    for (int i = 0; i < 2; i++) {
        refused(f, &id, 2, ERR_UNAUTHENTICATED, "were revoked");
        refused(f, &next, 3, ERR_UNAUTHENTICATED, "were revoked");
        probe_refused(f, &id, ERR_UNAUTHENTICATED);
        CHECK(enroll(f, open, &id, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "replaced"));
        fixture_restart(f);
    }
    struct server_view v;
    server_describe(edge(f), &v);
    CHECK(v.m.revoked && v.m.n_health_reasons == 0); /* never online: pending */
    /* With a new token it is back; what was revoked is not. */
    enroll_edge(f, &again, true);
    connect_as(f, &a, &again, 4);
    CHECK(!credentials_revoked(edge(f)) && edge(f)->generation == 3);
    refused(f, &next, 5, ERR_UNAUTHENTICATED, "not one that holds");
    agent_close(&a);
    free(open);
    identity_release(&id);
    identity_release(&next);
    identity_release(&again);
}

static void revocation(void **state)
{
    (void)state;
    fixture_run(revocation_body);
}

/* --- Recovery --- */

struct recovery {
    uint8_t mine[PROOF_NONCE_SIZE], theirs[PROOF_NONCE_SIZE];
    char id[37];
    struct rpc_channel *channel;
};

static void recovery_begin(struct fixture *f, struct recovery *r)
{
    struct err err = ERR_INIT;
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX);
    ProtobufCMessage *m = NULL;
    Davit__Link__V1__ChallengeRequest q = DAVIT__LINK__V1__CHALLENGE_REQUEST__INIT;
    uint8_t digest[PROOF_SIZE];
    if (!r->channel) {
        struct tls_ctx *tls = fixture_tls(f, STR(""), STR(""), &err);
        CHECK_OK(rpc_channel_open(f->loop, control_link_addr(f->c), tls, 0, SOON, &r->channel, &err));
        tls_ctx_unref(tls);
    }
    (void)str_copy(r->id, sizeof(r->id), str_from(edge(f)->id));
    memset(r->mine, 7, sizeof(r->mine));
    q.client_nonce = (ProtobufCBinaryData){sizeof(r->mine), r->mine};
    q.purpose = W("recover");
    q.subject = r->id;
    CHECK_OK(rpc_unary(r->channel, &davit_link_v1_identity_service, "Challenge", &q.base, SOON, &m, &err));
    const Davit__Link__V1__ChallengeResponse *c = (const Davit__Link__V1__ChallengeResponse *)m;
    CHECK(c->server_nonce.len == sizeof(r->theirs) && c->clock_us);
    memcpy(r->theirs, c->server_nonce.data, sizeof(r->theirs));
    /* It is the control plane that answers. */
    CHECK(pki_read(f->user, "root.crt", &root, &err) == 0);
    const struct proof_trust trust = {.roots_pem = buf_str(&root)};
    const struct str extra = STR("recover");
    proof_digest("challenge", r->mine, r->theirs, &extra, 1, digest);
    CHECK_OK(proof_control_plane(str_from(c->certificate_pem), &trust, clock_real(), digest,
                                 (struct str){(const char *)c->signature.data, c->signature.len}, NULL, &err));
    (void)rpc_message_free(m);
}

/* @key signs for the request of @next, whose chain is filled. */
static int recovery_end(struct recovery *r, const struct key *key, struct identity *next, uint32_t *ret, struct err *err)
{
    AUTO_BUF signature = BUF_INIT(PROOF_SIGNATURE_MAX);
    Davit__Link__V1__RecoverRequest q = DAVIT__LINK__V1__RECOVER_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    uint8_t digest[PROOF_SIZE];
    const struct str extra[] = {str_from(r->id), buf_str(&next->csr)};
    proof_digest("recover", r->mine, r->theirs, extra, 2, digest);
    CHECK(proof_sign(key, digest, &signature, err) == 0);
    q.server_id = r->id;
    q.client_nonce = (ProtobufCBinaryData){sizeof(r->mine), r->mine};
    q.server_nonce = (ProtobufCBinaryData){sizeof(r->theirs), r->theirs};
    q.csr_der = (ProtobufCBinaryData){next->csr.len, (uint8_t *)next->csr.data};
    q.signature = (ProtobufCBinaryData){signature.len, (uint8_t *)signature.data};
    int rc = rpc_unary(r->channel, &davit_link_v1_identity_service, "Recover", &q.base, SOON, &m, err);
    if (rc == 0) {
        const Davit__Link__V1__RecoverResponse *a = (const Davit__Link__V1__RecoverResponse *)m;
        CHECK_STR(a->server_name, "edge");
        *ret = a->credential->generation;
        buf_clear(&next->chain);
        CHECK(buf_append_cstr(&next->chain, a->credential->certificate_pem) == 0);
    }
    (void)rpc_message_free(m);
    return rc;
}

static int recover(struct fixture *f, struct recovery *r, const struct key *key, struct identity *next, uint32_t *ret, struct err *err)
{
    recovery_begin(f, r);
    edge(f)->proofs = edge(f)->renewals = 0; /* limits have a test of their own */
    return recovery_end(r, key, next, ret, err);
}

static int write_end(struct db *db, void *arg, struct err *err)
{
    return db_exec(db, err, "UPDATE certificates SET expires_us = ?", "i", *(const int64_t *)arg);
}

/* All certificates ended so long ago. */
static void ended(struct fixture *f, usec_t ago)
{
    struct err err = ERR_INIT;
    int64_t end = (int64_t)(clock_real() - ago);
    CHECK_OK(store_write(f->c->store, write_end, &end, SOON, &err));
}

static void recovery_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity old, next, third;
    struct agent a;
    struct recovery r = {0};
    uint32_t generation = 0;
    f->options.agent_certificate_life = 2 * USEC_SEC;
    fixture_restart(f);
    enroll_edge(f, &old, false);
    identity_make(&next);
    identity_make(&third);
    CHECK(fiber_sleep(2500 * USEC_MSEC) == 0);
    f->options.agent_certificate_life = 0;
    fixture_restart(f);
    CHECK(come(f, &a, &old, 1, &err) < 0); /* TLS lets nobody in with it */
    agent_close(&a);
    /* Not with a key that has no certificate here, not with the same challenge twice. */
    CHECK(recover(f, &r, next.key, &next, &generation, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "signature"));
    CHECK(recovery_end(&r, old.key, &next, &generation, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "challenge"));
    CHECK_OK(recover(f, &r, old.key, &next, &generation, &err));
    CHECK(generation == 2);
    CHECK(recovery_end(&r, old.key, &next, &generation, &err) == -(int)ERR_UNAUTHENTICATED);
    /* Its answer was lost: the same key gets the same certificate. */
    AUTO_FREE char *first = str_dup(buf_str(&next.chain));
    CHECK_OK(recover(f, &r, old.key, &next, &generation, &err));
    CHECK(generation == 2);
    CHECK_STR(buf_cstr(&next.chain), first);
    connect_as(f, &a, &next, 1);
    agent_close(&a);
    /* Replaced. */
    CHECK(recover(f, &r, old.key, &third, &generation, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "signature"));
    /* At the end of the time in which it may, and beyond. */
    ended(f, CREDENTIALS_GRACE - USEC_MINUTE);
    CHECK_OK(recover(f, &r, next.key, &third, &generation, &err));
    CHECK(generation == 3);
    ended(f, CREDENTIALS_GRACE);
    CHECK(recover(f, &r, next.key, &third, &generation, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "expired longer than 2592000 s"));
    r.channel = rpc_channel_close(r.channel);
    identity_release(&old);
    identity_release(&next);
    identity_release(&third);
}

/* req: CB-9 */
static void recovery(void **state)
{
    (void)state;
    fixture_run(recovery_body);
}

static void no_recovery_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id, next;
    struct recovery r = {0};
    uint32_t generation = 0;
    enroll_edge(f, &id, false);
    identity_make(&next);
    take_away(f);
    CHECK(recover(f, &r, id.key, &next, &generation, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "revoked"));
    /* Ten at once, as for a token; another server is not kept out. */
    edge(f)->proofs = 0;
    for (int i = 0; i < 5; i++) {
        recovery_begin(f, &r);
        CHECK(recovery_end(&r, id.key, &next, &generation, &err) == -(int)ERR_UNAUTHENTICATED);
    }
    CHECK(recovery_end(&r, id.key, &next, &generation, &err) == -(int)ERR_EXHAUSTED);
    edge(f)->proofs = 0;
    recovery_begin(f, &r);
    CHECK_OK(servers_remove(f->c, edge(f), &err));
    CHECK(recovery_end(&r, id.key, &next, &generation, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "removed"));
    r.channel = rpc_channel_close(r.channel);
    identity_release(&id);
    identity_release(&next);
}

static void no_recovery(void **state)
{
    (void)state;
    fixture_run(no_recovery_body);
}

static int count_rows(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT COUNT(*) FROM certificates", "");
}

/* An agent that asks and asks, and never connects with what it got, fills no table; what it has is good all the while. */
static void kept_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id, other;
    struct agent a;
    struct recovery r = {0};
    uint32_t generation = 0;
    int64_t rows = 0;
    enroll_edge(f, &id, false);
    connect_as(f, &a, &id, 1);
    for (uint32_t i = 2; i < 2 * CREDENTIALS_KEPT; i++) {
        struct identity next;
        identity_make(&next);
        edge(f)->renewals = 0;
        renew(&a, &next, i);
        identity_release(&next);
    }
    CHECK(store_read(f->c->store, count_rows, &rows, SOON, &err) == 0);
    CHECK(rows == CREDENTIALS_KEPT + 2); /* with the newest, and the one that is used */
    agent_close(&a);
    connect_as(f, &a, &id, 2);
    agent_close(&a);
    identity_make(&other);
    CHECK_OK(recover(f, &r, id.key, &other, &generation, &err));
    CHECK(generation == 2 * CREDENTIALS_KEPT);
    r.channel = rpc_channel_close(r.channel);
    identity_release(&other);
    identity_release(&id);
}

static void kept(void **state)
{
    (void)state;
    fixture_run(kept_body);
}

/* The same of access tokens: an edge that drops every answer fills no table. */
static void kept_tokens_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id;
    const struct credential_row row = {.generation = 1};
    int64_t rows = 0;
    enroll_edge(f, &id, false);
    (void)str_copy(edge(f)->mode, sizeof(edge(f)->mode), STR("tunnel"));
    for (uint32_t i = 2; i < 2 * CREDENTIALS_KEPT; i++) {
        struct audit_record entry = {.count = 1};
        CLEANUP(credential_release) struct credential k;
        credential_init(&k);
        audit_what(&entry, "server.recovered", NULL);
        edge(f)->renewals = 0;
        CHECK_OK(access_issue(edge(f), &row, &entry, &k, NULL, &err));
        CHECK(k.generation == i && k.token.len);
    }
    CHECK(store_read(f->c->store, count_rows, &rows, SOON, &err) == 0);
    CHECK(rows == CREDENTIALS_KEPT + 2);
    identity_release(&id);
}

static void kept_tokens(void **state)
{
    (void)state;
    fixture_run(kept_tokens_body);
}

/* --- Rotation --- */

static struct rpc_stream *rotate(struct fixture *f, bool all, uint32_t timeout_s)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s = NULL;
    Davit__Control__V1__RotateRequest r = DAVIT__CONTROL__V1__ROTATE_REQUEST__INIT;
    r.server = W(all ? "" : "edge");
    r.all = all;
    r.timeout_s = timeout_s;
    CHECK_OK(rpc_stream_open(f->api, &davit_control_v1_credential_service, "Rotate", SOON, &s, &err));
    CHECK_OK(rpc_stream_put(s, &r.base, SOON, &err));
    rpc_stream_half_close(s);
    return s;
}

static void told(struct rpc_stream *s, int state, uint32_t generation, const char *why)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    CHECK_OK(rpc_stream_get(s, SOON, &m, &err));
    const Davit__Control__V1__RotateResponse *r = (const Davit__Control__V1__RotateResponse *)m;
    CHECK_STR(r->server, "edge");
    CHECK((int)r->state == state && r->generation == generation);
    CHECK(why ? r->failure && strstr(r->failure->message, why) : !r->failure);
    (void)rpc_message_free(m);
}

static void over(struct rpc_stream *s)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    CHECK(rpc_stream_get(s, SOON, &m, &err) == 1);
    (void)rpc_stream_close(s);
}

enum { ASKED = 1, DONE = 2, FAILED = 3 };

static void rotation_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id, next;
    struct agent a;
    enroll_edge(f, &id, false);
    identity_make(&next);
    connect_as(f, &a, &id, 1);
    struct rpc_stream *s = rotate(f, true, 20);
    told(s, ASKED, 1, NULL);
    Davit__Link__V1__ControlMessage *m = GET(&a, CREDENTIAL_ROTATE);
    CHECK(m && *m->credential_rotate->reason);
    (void)rpc_message_free(m);
    renew(&a, &next, 2);
    agent_close(&a);
    connect_as(f, &a, &next, 2);
    told(s, DONE, 2, NULL);
    over(s);
    /* One that does nothing is told of in time, and asked again when it comes. */
    s = rotate(f, false, 1);
    told(s, ASKED, 2, NULL);
    told(s, FAILED, 2, "in time");
    over(s);
    agent_close(&a);
    connect_as(f, &a, &next, 3);
    m = GET(&a, CREDENTIAL_ROTATE);
    CHECK(m);
    (void)rpc_message_free(m);
    agent_close(&a);
    bool gone = false;
    for (int i = 0; i < 100 && !gone; i++) {
        CHECK(fiber_sleep(20 * USEC_MSEC) == 0);
        gone = !edge(f)->link;
    }
    s = rotate(f, false, 20);
    told(s, FAILED, 2, "not connected");
    over(s);
    take_away(f);
    s = rotate(f, false, 20);
    told(s, FAILED, 0, "revoked");
    over(s);
    identity_release(&id);
    identity_release(&next);
}

static void rotation(void **state)
{
    (void)state;
    fixture_run(rotation_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renewal),  cmocka_unit_test(bad_requests), cmocka_unit_test(revocation),
        cmocka_unit_test(recovery), cmocka_unit_test(no_recovery),  cmocka_unit_test(rotation),     cmocka_unit_test(kept),
        cmocka_unit_test(kept_tokens),
    };
    return cmocka_run_group_tests_name("control_credentials", tests, NULL, NULL);
}
