/* SPDX-License-Identifier: Apache-2.0 */
/* relay — port 7444 on the addresses that this server has in the networks of sandboxes: what a sandbox asks of the control plane goes over the link,
 * with what this agent itself knows: the thumbprint of the live handshake, and the container that has the peer's address. Nothing is decided here but
 * what is plainly false: the certificate is of another sandbox than the one at that address.
 * Limits: of one sandbox SOURCE_CONNS connections, CALLS_AT_ONCE calls and CALLS_BURST in a row, one more each CALLS_EVERY; of all RELAY_CONNS and
 * RELAY_HELD bytes of requests, each of MESSAGE_MAX at most. HTTP/2 alone is spoken. */
#include "host/contain/contain_internal.h"

#include <string.h>

#include "base/log.h"
#include "davit/agent/v1/agent.davit.h"
#include "davit/agent/v1/agent.pb-c.h"
#include "net/tls.h"

enum { TOKEN_MAX = 8 * 1024, ASSERTION_MAX = 8 * 1024, MESSAGE_MAX = 16 * 1024, RELAY_HELD = 16 * 1024 * 1024 };
enum { RELAY_CONNS = 256, SOURCE_CONNS = 4, CALLS_AT_ONCE = 2, CALLS_BURST = 20 };
#define CALLS_EVERY (2 * USEC_SEC)
#define ANSWER_WAIT (30 * USEC_SEC)

/* --- Who calls ---- */

static struct box *at_address(struct contain *k, const char *peer)
{
    const char *colon = strrchr(peer, ':');
    struct str ip = {peer, colon ? (size_t)(colon - peer) : strlen(peer)};

    for (struct hmap_entry *e = hmap_first(k->boxes); e; e = hmap_next(e)) {
        struct box *b = hmap_value(e);
        if (*b->ip && b->engine == DOCKER_STATE_RUNNING && str_eq(str_from(b->ip), ip))
            return b;
    }
    return NULL;
}

/* Each call is a question to the control plane, or a line in the log: may @b make another? */
static bool may_ask(struct box *b)
{
    usec_t now = clock_mono(), gained = (now - b->relay_at) / CALLS_EVERY;

    if (gained) {
        b->relay_used = gained < b->relay_used ? b->relay_used - (unsigned)gained : 0;
        b->relay_at = now;
    }
    if (b->relaying >= CALLS_AT_ONCE || b->relay_used >= CALLS_BURST)
        return false;
    b->relay_used++;
    return true;
}

/* The sandbox at the peer's address, referenced, and the thumbprint of its certificate. */
static int caller(struct contain *k, struct rpc_call *call, struct box **ret, char thumbprint[THUMBPRINT_SIZE], struct err *err)
{
    struct conn *conn = rpc_call_conn(call);
    const struct tls_peer *peer = conn ? conn_peer(conn) : NULL;

    if (!peer || !peer->present)
        return err_set(err, ERR_UNAUTHENTICATED, "a certificate of a sandbox is needed here");
    struct box *b = at_address(k, conn_peer_addr(conn));
    if (!b)
        return err_set(err, ERR_DENIED, "there is no sandbox at this address");
    if (!may_ask(b))
        return err_set(err, ERR_EXHAUSTED, "this sandbox asks too much");
    AUTO_FREE char *uri = str_printf("davit://sandbox/%s", b->id);
    if (!str_eq(str_from(peer->uri), str_from(uri))) {
        log_event(LOG_WARN, "a certificate of another sandbox was shown", "sandbox", b->id, "certificate", peer->uri, NULL);
        return err_set(err, ERR_DENIED, "the certificate is of another sandbox");
    }
    str_hex(peer->cert_sha256, sizeof(peer->cert_sha256), thumbprint);
    *ret = box_ref(b);
    return 0;
}

/* --- The two calls ---- */

static int ask(struct contain *k, Davit__Link__V1__AgentMessage *m, uint64_t *id, Davit__Link__V1__ControlMessage__BodyCase want,
               Davit__Link__V1__ControlMessage **ret, struct err *err)
{
    int rc = contain_ask(k, m, id, deadline_in(ANSWER_WAIT), ret, err);

    if (rc == 0 && (*ret)->body_case != want)
        rc = err_set(err, ERR_INTERNAL, "the control plane answered something else");
    return rc;
}

static int exchange(struct contain *k, struct rpc_call *call, const struct box *b, char *thumbprint, const Davit__Agent__V1__ExchangeRequest *q,
                    struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__SandboxExchange x = DAVIT__LINK__V1__SANDBOX_EXCHANGE__INIT;
    Davit__Link__V1__ControlMessage *answer = NULL;
    Davit__Agent__V1__ExchangeResponse r = DAVIT__AGENT__V1__EXCHANGE_RESPONSE__INIT;

    if (strlen(q->assertion) > ASSERTION_MAX)
        return err_set(err, ERR_INVALID, "assertion: more than %d bytes", ASSERTION_MAX);
    x.thumbprint = thumbprint;
    x.container_id = (char *)(uintptr_t)b->container;
    x.assertion = q->assertion;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_EXCHANGE;
    m.sandbox_exchange = &x;
    int rc = ask(k, &m, &x.request_id, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_EXCHANGED, &answer, err);
    if (rc == 0) {
        r.access_token = answer->sandbox_exchanged->access_token;
        r.expires_us = answer->sandbox_exchanged->expires_us;
        rc = rpc_send(call, &r.base);
    }
    (void)rpc_message_free(answer);
    return rc;
}

static int enter(struct contain *k, struct rpc_call *call, struct box *b, char *thumbprint, const Davit__Agent__V1__RegisterRequest *q,
                 struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__SandboxRegister x = DAVIT__LINK__V1__SANDBOX_REGISTER__INIT;
    Davit__Link__V1__ControlMessage *answer = NULL;
    Davit__Agent__V1__RegisterResponse r = DAVIT__AGENT__V1__REGISTER_RESPONSE__INIT;
    const char *bearer = rpc_call_metadata(call, "authorization");

    if (!bearer || !str_starts(str_from(bearer), STR("Bearer ")) || strlen(bearer) > TOKEN_MAX)
        return err_set(err, ERR_UNAUTHENTICATED, "the token of the exchange is needed");
    x.thumbprint = thumbprint;
    x.container_id = b->container;
    x.sandbox_id = b->id;
    x.label_project = b->spec ? b->spec->project : x.label_project;
    x.label_name = b->spec ? b->spec->name : x.label_name;
    x.agent_name = q->agent_name;
    x.project = q->project;
    x.access_token = (char *)(uintptr_t)bearer + strlen("Bearer ");
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_REGISTER;
    m.sandbox_register = &x;
    int rc = ask(k, &m, &x.request_id, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_VERDICT, &answer, err);
    if (rc == 0) {
        box_verdict(b, answer->sandbox_verdict);
        rc = rpc_send(call, &r.base);
    }
    (void)rpc_message_free(answer);
    return rc;
}

static int counted(struct contain *k, struct rpc_call *call, const ProtobufCMessage *q, bool first, struct err *err)
{
    char thumbprint[THUMBPRINT_SIZE];
    struct box *b = NULL;
    int rc = caller(k, call, &b, thumbprint, err);

    if (rc < 0 || !b)
        return rc;
    k->relayed++;
    b->relaying++;
    rc = first ? exchange(k, call, b, thumbprint, (const Davit__Agent__V1__ExchangeRequest *)q, err)
               : enter(k, call, b, thumbprint, (const Davit__Agent__V1__RegisterRequest *)q, err);
    b->relaying--;
    box_unref(b);
    k->relayed--;
    event_pulse(&k->relay_idle);
    return rc;
}

static int on_exchange(struct rpc_call *call, void *ctx, const ProtobufCMessage *q, struct err *err)
{
    return counted(ctx, call, q, true, err);
}

static int on_register(struct rpc_call *call, void *ctx, const ProtobufCMessage *q, struct err *err)
{
    return counted(ctx, call, q, false, err);
}

static const struct rpc_handler handlers[] = {{.run = on_exchange}, {.run = on_register}};

/* --- The listener ---- */

static int authorize(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method, struct err *err)
{
    struct conn *conn = rpc_call_conn(call);

    (void)ctx, (void)service, (void)method;
    if (conn && conn_peer(conn)->present && str_starts(str_from(conn_peer(conn)->uri), STR("davit://sandbox/")))
        return 0;
    return err_set(err, ERR_UNAUTHENTICATED, "a certificate of a sandbox is needed here");
}

int relay_listen(struct contain *k, const char *gateway, struct err *err)
{
    static const struct rpc_limits limits = {.conns = RELAY_CONNS,
                                             .accept_burst = 200,
                                             .accept_per_sec = 50,
                                             .running = 100,
                                             .of_source = SOURCE_CONNS,
                                             .message = MESSAGE_MAX,
                                             .held = RELAY_HELD,
                                             .h2_only = true};
    AUTO_FREE char *addr = str_printf("%s:%d", gateway, CONTAIN_RELAY_PORT);
    struct tls_ctx *tls = NULL;
    char **free_at = NULL;

    for (size_t i = 0; i < ARRAY_LEN(k->relay_at); i++) {
        if (k->relay_at[i] && strcmp(k->relay_at[i], addr) == 0)
            return 0;
        if (!k->relay_at[i] && !free_at)
            free_at = &k->relay_at[i];
    }
    if (!free_at)
        return err_set(err, ERR_EXHAUSTED, "the networks of sandboxes have changed: restart davit-agent");
    if (!k->relay) {
        k->relay = rpc_server_new(k->loop, authorize, k);
        rpc_server_set_limits(k->relay, &limits);
        rpc_server_limit_sockets(k->relay, 0);
        rpc_server_add(k->relay, &davit_agent_v1_agent_service, handlers, k);
    }
    int rc = contact_listen_tls(k->contact, &tls, err);
    if (rc == 0)
        rc = rpc_server_listen(k->relay, addr, 0, tls, err);
    if (rc == 0)
        *free_at = TAKE(addr);
    (void)tls_ctx_unref(tls);
    return rc;
}

void relay_retls(struct contain *k)
{
    struct tls_ctx *tls = NULL;
    struct err err = ERR_INIT;

    if (!k->relay)
        return;
    if (contact_listen_tls(k->contact, &tls, &err) < 0) {
        log_err(LOG_WARN, &err, "the listener for sandboxes keeps its certificate", NULL);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(k->relay_at); i++)
        if (k->relay_at[i])
            (void)rpc_server_set_tls(k->relay, k->relay_at[i], tls);
    (void)tls_ctx_unref(tls);
}

int relay_stop(struct contain *k, usec_t deadline)
{
    k->relay = rpc_server_free(k->relay);
    while (k->relayed > 0) {
        int rc = event_wait(&k->relay_idle, deadline);
        if (rc < 0)
            return rc;
    }
    return 0;
}
