/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel — see tunnel.h: the handshake of a link, and its boxes. */
#include "control/servers/tunnel.h"

#include "base/mem.h"
#include "control/servers/access.h"
#include "control/bucket.h"
#include "control/link/links_internal.h"
#include "davit/link/v1/link.davit.h"
#include "ident/channel.h"
#include "ident/key.h"
#include "ident/pki_roots.h"

enum step { WAIT_HELLO, CHALLENGING, WAIT_PROOF, PROVING, OPEN };

struct tunnel {
    enum step step;
    struct jwt_claims claims;
    char *token;
    struct channel *channel;
    unsigned waiting;  /* boxes in the queue of the link */
    struct buf unsent; /* a message whose box has its number and did not fit into the connection */
    struct timer end;  /* of the token */
};

/* --- Beginning and end --- */

static void on_token_end(void *arg)
{
    link_end(arg, ERR_UNAUTHENTICATED, "the access token has expired", "the agent asks for another one by itself");
}

struct tunnel *tunnel_free(struct tunnel *t)
{
    if (!t)
        return NULL;
    timer_stop(&t->end);
    (void)channel_free(t->channel);
    buf_release(&t->unsent);
    free(t->token);
    free(t);
    return NULL;
}

void tunnel_stop(struct tunnel *t)
{
    if (t)
        timer_stop(&t->end);
}

static int tunnel_open(struct rpc_call *call, void *ctx, void **ret_state, struct err *err)
{
    struct jwt_claims claims;
    const char *token = authz_bearer(call);
    struct link *l = NULL;
    if (!token || jwt_peek(str_from(token), &claims, NULL) < 0) /* authz_web has judged it */
        return err_set(err, ERR_INTERNAL, "no access token");
    int rc = link_make(call, ctx, &l, err);
    if (rc < 0 || !l)
        return rc;
    struct tunnel *t = NEW(struct tunnel);
    t->claims = claims;
    t->token = str_dup(str_from(token));
    buf_init(&t->unsent, RPC_MESSAGE_MAX);
    timer_init(&t->end, l->control->loop, on_token_end, l);
    usec_t now = clock_real();
    timer_set(&t->end, claims.expires > now ? claims.expires - now : 0);
    l->tunnel = t;
    (void)str_copy(l->id, sizeof(l->id), str_from(claims.subject));
    (void)str_copy(l->serial, sizeof(l->serial), str_from(claims.id));
    *ret_state = l;
    return 0;
}

/* --- The handshake; runs on the worker --- */

static void refuse(struct link *l, const char *why)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_UNAUTHENTICATED, "%s", why);
    link_refuse(l, &err);
}

struct job {
    const char *dir;
    struct channel *channel;
    const char *token;
    const Davit__Link__V1__TunnelHello *hello;
    const Davit__Link__V1__TunnelProof *proof;
    struct buf chain, signature, spki;
    struct err err;
};

static void job_init(struct job *j, const struct link *l)
{
    *j = (struct job){.dir = l->control->opt.state_dir,
                      .channel = l->tunnel->channel,
                      .token = l->tunnel->token,
                      .chain = BUF_INIT(CERT_PEM_MAX),
                      .signature = BUF_INIT(PROOF_SIGNATURE_MAX),
                      .spki = BUF_INIT(PROOF_SPKI_MAX),
                      .err = ERR_INIT};
}

static void job_release(struct job *j)
{
    buf_release(&j->chain);
    buf_release(&j->signature);
    buf_release(&j->spki);
}

static struct str bytes(ProtobufCBinaryData b)
{
    return (struct str){(const char *)b.data, b.len};
}

/* On the lane. The root goes along, as in TLS. */
static int sign_challenge(void *arg)
{
    struct job *j = arg;
    AUTO_FREE char *path = str_printf("%s/controlplane.key", j->dir);
    AUTO_KEY key = NULL;
    const struct channel_peer agent = {bytes(j->hello->ephemeral), bytes(j->hello->nonce)};
    int rc = pki_control_chain(j->dir, &j->chain, &j->err);
    if (rc == 0)
        rc = key_load(path, &key, &j->err);
    return rc < 0 ? rc : channel_challenge(j->channel, &agent, buf_str(&j->chain), key, &j->signature, &j->err);
}

static int judge_proof(void *arg)
{
    struct job *j = arg;
    return channel_proved(j->channel, buf_str(&j->spki), str_from(j->token), bytes(j->proof->signature), &j->err);
}

static void send_challenge(struct link *l, const struct job *j)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__TunnelChallenge challenge = DAVIT__LINK__V1__TUNNEL_CHALLENGE__INIT;
    struct str ephemeral = channel_ephemeral(j->channel), nonce = channel_nonce(j->channel);
    challenge.ephemeral = (ProtobufCBinaryData){ephemeral.n, (uint8_t *)lend(ephemeral.p)};
    challenge.nonce = (ProtobufCBinaryData){nonce.n, (uint8_t *)lend(nonce.p)};
    challenge.certificate_pem = lend(buf_cstr(&j->chain));
    challenge.signature = (ProtobufCBinaryData){j->signature.len, (uint8_t *)j->signature.data};
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_TUNNEL_CHALLENGE;
    m.tunnel_challenge = &challenge;
    if (!l->call || rpc_stream_send(l->call, &m.base) != 0)
        link_end(l, ERR_UNAVAILABLE, "the challenge could not be sent", NULL);
    else
        l->tunnel->step = WAIT_PROOF;
}

/* Who has read a token at an edge cannot prove anything with it, and shall not keep us busy signing. */
static bool too_often(struct link *l)
{
    struct control *c = l->control;
    struct server *s = servers_by_id(c, l->tunnel->claims.subject);
    usec_t wait = 0;
    if (bucket_take(s ? &s->handshakes : &c->strange_handshakes, clock_mono(), TUNNEL_EVERY, TUNNEL_BURST, &wait) == 0)
        return false;
    link_end(l, ERR_EXHAUSTED, "too many links of this server begin", "an agent tries again by itself");
    return true;
}

static void on_hello(struct link *l, const Davit__Link__V1__TunnelHello *hello)
{
    struct tunnel *t = l->tunnel;
    CLEANUP(job_release) struct job j;
    job_init(&j, l);
    if (!str_eq(str_from(hello->server_id), str_from(t->claims.subject))) {
        refuse(l, "the access token is another server's");
        return;
    }
    if (too_often(l))
        return;
    int rc = channel_new(CHANNEL_CONTROL, t->claims.subject, &t->channel, &j.err);
    if (rc == 0) {
        j.channel = t->channel;
        j.hello = hello;
        rc = lane_call(l->control->fast, sign_challenge, &j, deadline_in(STORE_WAIT));
    }
    if (rc < 0 && j.err.code == ERR_UNAUTHENTICATED)
        link_refuse(l, &j.err);
    else if (rc < 0)
        link_end(l, ERR_UNAVAILABLE, "the control plane cannot prove who it is now", NULL);
    else if (l->state != LINK_ENDED)
        send_challenge(l, &j);
}

static void on_proof(struct link *l, const Davit__Link__V1__TunnelProof *proof)
{
    struct tunnel *t = l->tunnel;
    uint8_t hash[SPKI_HASH_SIZE];
    CLEANUP(job_release) struct job j;
    job_init(&j, l);
    j.proof = proof;
    int rc = access_key(l->control, t->claims.id, t->claims.subject, &j.spki, &j.err);
    if (rc == 1) {
        l->revoked = true;
        refuse(l, "the access token is not one that holds");
        return;
    }
    proof_spki_hash(buf_str(&j.spki), hash);
    if (rc == 0 && memcmp(hash, t->claims.key_hash, sizeof(hash)) != 0)
        rc = err_set(&j.err, ERR_UNAUTHENTICATED, "the access token is of another key");
    if (rc == 0)
        rc = lane_call(l->control->fast, judge_proof, &j, deadline_in(STORE_WAIT));
    if (rc == 0 && l->call)
        rpc_call_vouch(l->call);
    if (rc == 0)
        t->step = OPEN;
    else if (j.err.code == ERR_UNAUTHENTICATED)
        link_refuse(l, &j.err);
    else
        link_end(l, ERR_UNAVAILABLE, "the control plane cannot look at proofs now", NULL);
}

/* --- Boxes --- */

static void broken(struct link *l, const char *why)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_UNAUTHENTICATED, "%s", why);
    log_event(LOG_WARN, "something between this control plane and an agent changes messages", "server", l->id, "peer", l->seen,
              "reason", why, NULL);
    link_refuse(l, &err);
}

static void unseal(struct link *l, ProtobufCBinaryData box)
{
    AUTO_BUF plain = BUF_INIT(RPC_MESSAGE_MAX);
    struct err err = ERR_INIT;
    ProtobufCMessage *inner = NULL;
    if (channel_unseal(l->tunnel->channel, bytes(box), &plain, &err) < 0) {
        broken(l, err.msg);
        return;
    }
    if (rpc_unpack(&davit__link__v1__agent_message__descriptor, buf_str(&plain), &inner, &err) < 0) {
        link_end(l, err.code, err.msg, NULL);
        return;
    }
    const Davit__Link__V1__AgentMessage *m = (const Davit__Link__V1__AgentMessage *)inner;
    if (tunnel_concerns(m))
        link_end(l, ERR_INVALID, "a sealed message holds another one", NULL);
    else
        link_take(l, m);
    (void)rpc_message_free(inner);
}

bool tunnel_concerns(const Davit__Link__V1__AgentMessage *m)
{
    return m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_TUNNEL_HELLO ||
           m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_TUNNEL_PROOF ||
           m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SEALED;
}

void tunnel_work(struct link *l, const Davit__Link__V1__AgentMessage *m)
{
    if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_TUNNEL_HELLO) {
        on_hello(l, m->tunnel_hello);
    } else if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_TUNNEL_PROOF) {
        on_proof(l, m->tunnel_proof);
    } else {
        l->tunnel->waiting--;
        if (l->tunnel->step == OPEN)
            unseal(l, m->sealed);
        else
            link_end(l, ERR_INVALID, "a sealed message before the proof", NULL);
    }
}

/* May @m come now? NULL, or why not. */
static const char *next_step(struct tunnel *t, const Davit__Link__V1__AgentMessage *m)
{
    switch (m->body_case) {
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_TUNNEL_HELLO:
        if (t->step != WAIT_HELLO)
            return "a second TunnelHello on one link";
        t->step = CHALLENGING;
        return NULL;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_TUNNEL_PROOF:
        if (t->step != WAIT_PROOF)
            return "TunnelProof out of order";
        t->step = PROVING;
        return NULL;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SEALED:
        if (t->step < PROVING)
            return "a sealed message before the proof";
        if (t->step == PROVING && (t->waiting >= TUNNEL_EARLY_MAX || m->sealed.len > TUNNEL_EARLY_BYTES))
            return "too much before the proof was looked at";
        return NULL;
    default:
        return t->step == WAIT_HELLO ? "the first message of a link in tunnel mode must be TunnelHello"
                                     : "a message that is not sealed";
    }
}

static int flush_unsent(struct link *l)
{
    struct tunnel *t = l->tunnel;
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    if (t->unsent.len == 0)
        return 0;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SEALED;
    m.sealed = (ProtobufCBinaryData){t->unsent.len, (uint8_t *)t->unsent.data};
    int rc = l->call ? rpc_stream_send(l->call, &m.base) : -(int)ERR_UNAVAILABLE;
    if (rc == 0)
        buf_clear(&t->unsent);
    return rc;
}

int tunnel_send(struct link *l, const Davit__Link__V1__ControlMessage *m)
{
    struct tunnel *t = l->tunnel;
    AUTO_BUF plain = BUF_INIT(CHANNEL_PLAIN_MAX);
    if (t->step != OPEN || !channel_is_open(t->channel))
        return -(int)ERR_UNAVAILABLE;
    int rc = flush_unsent(l);
    if (rc == 0 && rpc_stream_queued(l->call) > RPC_QUEUE_MAX)
        rc = -(int)ERR_EXHAUSTED;
    if (rc < 0)
        return rc;
    if (rpc_pack(&m->base, &plain) != 0)
        return -(int)ERR_RANGE;
    rc = channel_seal(t->channel, buf_str(&plain), &t->unsent, NULL);
    if (rc < 0)
        return rc;
    /* Its number is taken: what does not fit now goes before the next one. */
    rc = flush_unsent(l);
    return rc == -(int)ERR_EXHAUSTED ? 0 : rc;
}

/* --- The stream --- */

static void tunnel_message(void *state, const ProtobufCMessage *message)
{
    struct link *l = state;
    const Davit__Link__V1__AgentMessage *m = (const Davit__Link__V1__AgentMessage *)message;
    link_count(l);
    if (l->state == LINK_ENDED)
        return;
    const char *wrong = next_step(l->tunnel, m);
    if (wrong && l->tunnel->step == OPEN) {
        broken(l, wrong);
    } else if (wrong) {
        link_end(l, ERR_INVALID, wrong, NULL);
    } else if (l->tunnel->step == OPEN && l->tunnel->waiting == 0) {
        unseal(l, m->sealed);
    } else {
        l->tunnel->waiting += m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SEALED;
        link_enqueue(l, m);
    }
    if (l->state != LINK_ENDED)
        (void)flush_unsent(l);
}

static void tunnel_drain(void *state)
{
    struct link *l = state;
    if (flush_unsent(l) == 0)
        link_drain(l);
}

static const struct rpc_stream_handler tunnel_stream = {
    .open = tunnel_open,
    .message = tunnel_message,
    .half_close = link_half_close,
    .drain = tunnel_drain,
    .closed = link_closed,
};

static const struct rpc_handler tunnel_handlers[] = {{.stream = &tunnel_stream}};

void tunnel_mount(struct control *c)
{
    rpc_server_add(c->web, &davit_link_v1_enroll_service, enroll_web_handlers, c);
    rpc_server_add(c->web, &davit_link_v1_identity_service, identity_handlers, c);
    rpc_server_add(c->web, &davit_link_v1_link_service, tunnel_handlers, c);
    rpc_server_alias(c->web, "/link", "/davit.link.v1.LinkService/Connect");
}
