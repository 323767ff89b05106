/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel — see tunnel.h. */
#include <inttypes.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/link/floor_time.h"
#include "host/link/recover.h"
#include "host/link/session.h"
#include "host/link/tunnel_internal.h"
#include "ident/cert.h"
#include "loop/lane.h"

enum { LINE_FILE_MAX = 64 };

#define ENROLL_AGAIN "make a token on the control plane with \"davit server token NAME\" and enroll again with --force"
#define DISK_WAIT    (60 * USEC_SEC)

/* --- Life ---- */

static void copy_config(struct agent_config *to, const struct agent_config *c)
{
    BUG_ON(agent_config_init(to, c->dir, NULL) < 0);
    agent_config_set(&to->server_id, c->server_id);
    agent_config_set(&to->grpc_endpoint, c->grpc_endpoint);
    agent_config_set(&to->cert_dir, c->cert_dir);
    agent_config_set(&to->tunnel_ca, c->tunnel_ca);
}

struct tunnel *tunnel_new(struct loop *loop, const struct agent_config *c)
{
    struct tunnel *t = NEW(struct tunnel);
    t->loop = loop;
    copy_config(&t->config, c);
    t->id.ca_pem = BUF_INIT(CERT_PEM_MAX);
    event_init(&t->wake, loop);
    event_init(&t->answered, loop);
    return t;
}

struct tunnel *tunnel_free(struct tunnel *t)
{
    if (!t)
        return NULL;
    (void)fiber_unref(t->fiber);
    event_release(&t->wake);
    event_release(&t->answered);
    (void)rpc_message_free(t->answer);
    (void)tunnel_edge_free(t->edge);
    (void)secret_free(t->token);
    (void)key_free(t->key);
    agent_identity_release(&t->id);
    agent_config_release(&t->config);
    free(t);
    return NULL;
}

uint32_t tunnel_generation(const struct tunnel *t)
{
    return t->claims.generation;
}

void tunnel_status(const struct tunnel *t, struct tunnel_status *ret)
{
    *ret = (struct tunnel_status){.carrier = t->carrier,
                                  .generation = t->claims.generation,
                                  .issued = t->claims.issued,
                                  .expires = t->claims.expires,
                                  .error = t->err.msg};
}

/* --- Files ---- */

static int read_key(struct tunnel *t, struct err *err)
{
    AUTO_FREE char *path = agent_config_cert_path(&t->config, "client.key");
    int rc = key_load(path, &t->key, err);
    return rc < 0 ? rc : key_to_pem(t->key, &t->id.key_pem, err);
}

/* A token that cannot be read is like one that ran out: the key gets another. */
static void read_token(struct tunnel *t)
{
    AUTO_FREE char *path = agent_config_cert_path(&t->config, TUNNEL_TOKEN_FILE);
    AUTO_SECRET_BUF text = BUF_INIT(JWT_MAX);
    struct err err = ERR_INIT;
    if (fd_read_file(path, &text, &err) == 0 &&
        tunnel_check_token(str_trim(buf_str(&text)), t->config.server_id, t->key, 0, &t->claims, &err) == 0)
        t->token = secret_new(str_trim(buf_str(&text)));
    else
        log_err(LOG_WARN, &err, "the control plane is asked for a new access token", NULL);
}

/* The line of a small file below our directory; empty: there is none. */
static struct str read_line(const struct tunnel *t, const char *name, struct buf *text)
{
    AUTO_FREE char *path = agent_config_path(&t->config, name);
    if (fd_read_file(path, text, NULL) < 0)
        return (struct str){0};
    struct str rest = buf_str(text);
    return str_cut(&rest, '\n');
}

static void read_carrier(struct tunnel *t)
{
    AUTO_BUF text = BUF_INIT(LINE_FILE_MAX);
    struct str rest = read_line(t, TUNNEL_CARRIER_FILE, &text), name = str_cut(&rest, ' ');
    uint64_t when = 0;
    for (unsigned c = TUNNEL_GRPC; c < TUNNEL_CARRIER_COUNT; c++) {
        if (!str_eq(name, str_from(tunnel_carrier_name((enum tunnel_carrier)c))) || str_to_u64(rest, UINT64_MAX, &when) < 0)
            continue;
        t->carrier = (enum tunnel_carrier)c;
        t->probed = when;
    }
}

/* What the file does not tell the control plane is not told. */
static void read_proven(struct tunnel *t)
{
    AUTO_BUF text = BUF_INIT(LINE_FILE_MAX);
    uint64_t n = 0;
    if (str_to_u64(read_line(t, TUNNEL_GENERATION_FILE, &text), UINT32_MAX, &n) == 0)
        t->proven = (uint32_t)n;
}

int tunnel_load(struct tunnel *t, struct err *err)
{
    AUTO_FREE char *roots = agent_config_cert_path(&t->config, "ca.crt");
    floor_time_load(&t->config);
    int rc = read_key(t, err);
    if (rc == 0)
        rc = fd_read_file(roots, &t->id.ca_pem, err);
    if (rc < 0) {
        err_hint(err, ENROLL_AGAIN);
        return rc;
    }
    read_token(t);
    read_carrier(t);
    read_proven(t);
    return tunnel_edge_new(t->config.grpc_endpoint, t->config.tunnel_ca, &t->edge, err);
}

static int write_proven(struct tunnel_job *j)
{
    AUTO_FREE char *path = agent_config_path(j->config, TUNNEL_GENERATION_FILE);
    AUTO_FREE char *text = str_printf("%" PRIu32 "\n", j->proven);
    return fd_write_file(path, text, strlen(text), 0600, &j->err);
}

static int write_job(void *arg)
{
    struct tunnel_job *j = arg;
    AUTO_FREE char *token = agent_config_cert_path(j->config, TUNNEL_TOKEN_FILE);
    AUTO_FREE char *roots = agent_config_cert_path(j->config, "ca.crt");
    AUTO_FREE char *carrier = agent_config_path(j->config, TUNNEL_CARRIER_FILE);
    int rc = 0;
    if (j->roots.n)
        rc = fd_write_file(roots, j->roots.p, j->roots.n, 0600, &j->err);
    if (rc == 0 && j->token.n)
        rc = fd_write_file(token, j->token.p, j->token.n, 0600, &j->err);
    if (rc == 0 && j->carrier)
        rc = fd_write_file(carrier, j->carrier, strlen(j->carrier), 0600, &j->err);
    if (rc == 0 && j->proven)
        rc = write_proven(j);
    return rc == 0 && j->good ? floor_time_save(j->config, j->good, &j->err) : rc;
}

int tunnel_write(struct tunnel *t, struct tunnel_job *j, struct err *err)
{
    struct lane *lane = lane_try_new(t->loop, "tunnel", 1, 1);
    j->config = &t->config;
    if (!lane)
        return err_set(err, ERR_EXHAUSTED, "no thread for the disk");
    int rc = lane_call(lane, write_job, j, deadline_in(DISK_WAIT));
    (void)lane_free(lane);
    if (rc < 0 && err && j->err.code)
        *err = j->err;
    return err_ensure(err, rc);
}

/* Waits: the way that worked, for the next time. */
static void remember(struct tunnel *t, enum tunnel_carrier carrier)
{
    usec_t now = clock_real();
    if (carrier == t->carrier && now - t->probed < TUNNEL_PROBE_AGAIN)
        return;
    struct err err = ERR_INIT;
    AUTO_FREE char *text = str_printf("%s %llu\n", tunnel_carrier_name(carrier), (unsigned long long)now);
    struct tunnel_job j = {.carrier = text, .err = ERR_INIT};
    t->carrier = carrier;
    t->probed = now;
    log_event(LOG_INFO, "the way to the control plane was found", "carried_by", tunnel_carrier_name(carrier), NULL);
    if (tunnel_write(t, &j, &err) < 0)
        log_err(LOG_WARN, &err, "the way will be looked for again after a restart", NULL);
}

static enum tunnel_carrier remembered(const struct tunnel *t)
{
    usec_t now = clock_real();
    return now >= t->probed && now - t->probed < TUNNEL_PROBE_AGAIN ? t->carrier : TUNNEL_UNKNOWN;
}

/* --- What is granted ---- */

int tunnel_install(struct tunnel *t, const Davit__Link__V1__Credential *c, bool sealed, struct err *err)
{
    const struct tunnel_held held = {
        .server_id = t->config.server_id, .key = t->key, .generation = t->claims.generation, .now = floor_time_now(&t->time), .sealed = sealed,
        .roots_pem = buf_str(&t->id.ca_pem)};
    struct str token = str_from(c->access_token);
    AUTO_BUF roots = BUF_INIT(CERT_PEM_MAX);
    struct jwt_claims claims;
    int rc = tunnel_judge(&held, c, &claims, &roots, err);
    if (rc < 0)
        return rc;
    struct tunnel_job j = {.token = token, .roots = buf_str(&roots), .err = ERR_INIT};
    rc = tunnel_write(t, &j, err);
    if (rc < 0)
        return rc;
    (void)secret_free(t->token);
    t->token = secret_new(token);
    t->claims = claims;
    if (roots.len)
        buf_clear(&t->id.ca_pem);
    (void)buf_append_str(&t->id.ca_pem, buf_str(&roots));
    if (t->session)
        session_set_roots(t->session, buf_str(&t->id.ca_pem));
    t->rotate = t->recover = false;
    t->failed = 0;
    t->err = ERR_INIT;
    char until[CLOCK_TEXT_SIZE];
    clock_format(claims.expires, 0, until);
    log_event(LOG_NOTICE, "access token renewed", "until", until, NULL);
    return 0;
}

/* --- The dial ---- */

static int recover_run(void *arg, struct rpc_channel *ch, bool *ret_answered, struct err *err)
{
    struct tunnel *t = arg;
    Davit__Link__V1__RecoverResponse *answer = NULL;
    int rc = recover_over(ch, t->config.server_id, &t->id, (struct str){0}, t->proven, &answer, err);
    *ret_answered = rc == 0;
    if (rc == 0 && !answer->credential)
        rc = err_set(err, ERR_DATA_LOSS, "the control plane gave no access token");
    if (rc == 0)
        rc = tunnel_install(t, answer->credential, false, err);
    (void)rpc_message_free(answer);
    return rc;
}

/* Waits: another token for who has the key. */
static int get_back(struct tunnel *t, struct err *err)
{
    const struct tunnel_try way = {.run = recover_run, .arg = t, .first = remembered(t)};
    enum tunnel_carrier carrier;
    t->recover = false;
    int rc = tunnel_edge_try(t->loop, t->edge, &way, &carrier, NULL, err);
    if (rc == -(int)ERR_UNAUTHENTICATED || rc == -(int)ERR_DENIED)
        err_hint(err, ENROLL_AGAIN);
    return rc < 0 ? err_wrap(err, "no new access token for the key of this server") : 0;
}

struct dial {
    struct tunnel *tunnel;
    struct rpc_stream *stream;
    struct channel *seal;
    bool probe; /* no more than to see who answers */
};

static int say_hello(struct dial *d, struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__TunnelHello h = DAVIT__LINK__V1__TUNNEL_HELLO__INIT;
    struct str ephemeral = channel_ephemeral(d->seal), nonce = channel_nonce(d->seal);
    h.server_id = d->tunnel->config.server_id;
    h.ephemeral = (ProtobufCBinaryData){ephemeral.n, (uint8_t *)(uintptr_t)ephemeral.p};
    h.nonce = (ProtobufCBinaryData){nonce.n, (uint8_t *)(uintptr_t)nonce.p};
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_TUNNEL_HELLO;
    m.tunnel_hello = &h;
    return rpc_stream_put(d->stream, &m.base, deadline_in(TUNNEL_PROBE_WAIT), err);
}

/* As TLS does it in direct mode: a clock that is not sure is not before the certificate, whose issuer vouches for its begin. */
static usec_t judged_at(struct str chain_pem)
{
    AUTO_CERT leaf = NULL;
    struct cert_info info;
    bool known = cert_from_pem(chain_pem, &leaf, NULL) == 0 && cert_info(leaf, &info, NULL) == 0;
    return known ? floor_time_judge(info.not_before) : clock_checked();
}

static int check_challenge(struct dial *d, const Davit__Link__V1__TunnelChallenge *c, struct err *err)
{
    const struct channel_peer peer = {.ephemeral = {(const char *)c->ephemeral.data, c->ephemeral.len},
                                      .nonce = {(const char *)c->nonce.data, c->nonce.len}};
    const struct proof_trust trust = {.roots_pem = buf_str(&d->tunnel->id.ca_pem)};
    struct str signature = {(const char *)c->signature.data, c->signature.len}, chain = str_from(c->certificate_pem);
    int rc = channel_challenged(d->seal, &peer, chain, signature, &trust, judged_at(chain), err);
    return rc < 0 ? err_wrap(err, "what answers behind %s is not the control plane of this enrolment", tunnel_edge_hostport(d->tunnel->edge)) : 0;
}

/* The first message back is what a way must carry, soon. */
static int hear_challenge(struct dial *d, bool *ret_answered, struct err *err)
{
    ProtobufCMessage *got = NULL;
    int rc = rpc_stream_get(d->stream, deadline_in(TUNNEL_PROBE_WAIT), &got, err);
    if (rc == 1)
        return err_set(err, ERR_UNAVAILABLE, "the link ended before it began");
    if (rc < 0)
        return rc;
    const Davit__Link__V1__ControlMessage *m = (const Davit__Link__V1__ControlMessage *)got;
    *ret_answered = m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_TUNNEL_CHALLENGE;
    rc = *ret_answered ? check_challenge(d, m->tunnel_challenge, err) : err_set(err, ERR_INTERNAL, "the control plane did not begin with its proof");
    (void)rpc_message_free(got);
    return rc;
}

static int prove(struct dial *d, struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__TunnelProof p = DAVIT__LINK__V1__TUNNEL_PROOF__INIT;
    AUTO_BUF signature = BUF_INIT(PROOF_SIGNATURE_MAX);
    int rc = channel_prove(d->seal, d->tunnel->key, secret_reveal(d->tunnel->token), &signature, err);
    if (rc < 0)
        return rc;
    p.signature = (ProtobufCBinaryData){signature.len, (uint8_t *)signature.data};
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_TUNNEL_PROOF;
    m.tunnel_proof = &p;
    return rpc_stream_put(d->stream, &m.base, deadline_in(TUNNEL_PROBE_WAIT), err);
}

static void dial_release(struct dial *d)
{
    d->stream = rpc_stream_close(d->stream);
    d->seal = channel_free(d->seal);
}

static int link_run(void *arg, struct rpc_channel *ch, bool *ret_answered, struct err *err)
{
    struct dial *d = arg;
    struct str token = d->tunnel->token ? secret_reveal(d->tunnel->token) : STR("none");
    AUTO_SECRET_BUF bearer = BUF_INIT(JWT_MAX + 16);
    int rc = buf_printf(&bearer, "Bearer " STR_FMT, STR_ARG(token));
    const struct rpc_field authorization = {"authorization", buf_str(&bearer)};
    const struct rpc_options options = {.deadline = USEC_INFINITY, .metadata = &authorization, .n_metadata = 1};
    if (rc == 0)
        rc = channel_new(CHANNEL_AGENT, d->tunnel->config.server_id, &d->seal, err);
    if (rc == 0)
        rc = rpc_stream_open_with(ch, &davit_link_v1_link_service, "Connect", &options, &d->stream, err);
    if (rc == 0)
        rc = say_hello(d, err);
    if (rc == 0)
        rc = hear_challenge(d, ret_answered, err);
    if (rc == 0 && !d->probe)
        rc = prove(d, err);
    if (rc < 0 || d->probe)
        dial_release(d);
    return rc;
}

int tunnel_probe(struct tunnel *t, enum tunnel_carrier *ret, struct err *err)
{
    struct dial d = {.tunnel = t, .probe = true};
    const struct tunnel_try way = {.run = link_run, .arg = &d, .first = remembered(t)};
    return tunnel_edge_try(t->loop, t->edge, &way, ret, NULL, err);
}

static bool is_expired(const struct tunnel *t)
{
    return !t->token || clock_add(floor_time_now(&t->time), tunnel_too_soon(&t->claims)) >= t->claims.expires;
}

bool tunnel_lasts(const struct tunnel *t)
{
    return !is_expired(t) && !t->recover;
}

int tunnel_connect(struct tunnel *t, usec_t keepalive, struct tunnel_link *ret, struct err *err)
{
    struct err why = ERR_INIT;
    bool expired = is_expired(t);
    int rc = expired || t->recover ? get_back(t, &why) : 0;
    if (rc < 0 && (expired || rc == -(int)ERR_CANCELLED)) {
        t->err = why;
        if (err)
            *err = why;
        return rc;
    }
    struct dial d = {.tunnel = t};
    const struct tunnel_try way = {.run = link_run, .arg = &d, .first = remembered(t), .keepalive = keepalive};
    enum tunnel_carrier carrier;
    rc = tunnel_edge_try(t->loop, t->edge, &way, &carrier, &ret->channel, err);
    if (rc < 0)
        return rc;
    ret->stream = d.stream;
    ret->seal = d.seal;
    remember(t, carrier);
    return 0;
}

/* --- Sealed messages ---- */

int tunnel_put(struct rpc_stream *s, struct channel *seal, const Davit__Link__V1__AgentMessage *m, usec_t deadline, struct err *err)
{
    if (!seal)
        return rpc_stream_put(s, &m->base, deadline, err);
    Davit__Link__V1__AgentMessage out = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    AUTO_SECRET_BUF plain = BUF_INIT(RPC_MESSAGE_MAX);
    AUTO_BUF box = BUF_INIT(RPC_MESSAGE_MAX);
    int rc = rpc_pack(&m->base, &plain);
    if (rc < 0)
        return err_set(err, ERR_EXHAUSTED, "a message is over the limit");
    rc = channel_seal(seal, buf_str(&plain), &box, err);
    if (rc < 0)
        return rc;
    out.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SEALED;
    out.sealed = (ProtobufCBinaryData){box.len, (uint8_t *)box.data};
    return rpc_stream_put(s, &out.base, deadline, err);
}

static int tampered(struct err *err, const char *what)
{
    (void)err_set(err, ERR_DATA_LOSS, "a message on the way through the edge is not as the control plane sent it: %s", what);
    err_hint(err, "something between this server and the control plane changes, repeats or drops messages");
    return -(int)ERR_DATA_LOSS;
}

int tunnel_get(struct rpc_stream *s, struct channel *seal, usec_t deadline, ProtobufCMessage **ret, struct err *err)
{
    ProtobufCMessage *got = NULL;
    struct err why = ERR_INIT;
    int rc = rpc_stream_get(s, deadline, seal ? &got : ret, err);
    if (rc != 0 || !seal)
        return rc;
    const Davit__Link__V1__ControlMessage *m = (const Davit__Link__V1__ControlMessage *)got;
    AUTO_SECRET_BUF plain = BUF_INIT(RPC_MESSAGE_MAX);
    if (m->body_case != DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SEALED)
        rc = tampered(err, "it is not sealed");
    else if (channel_unseal(seal, (struct str){(const char *)m->sealed.data, m->sealed.len}, &plain, &why) < 0)
        rc = tampered(err, why.msg);
    else
        rc = rpc_unpack(&davit__link__v1__control_message__descriptor, buf_str(&plain), ret, err);
    (void)rpc_message_free(got);
    return rc;
}
