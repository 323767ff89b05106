/* SPDX-License-Identifier: Apache-2.0 */
/* relay — port 7444 on the addresses that this server has in the networks of sandboxes: what a sandbox asks of the control plane goes over the link,
 * with what this agent itself knows: the thumbprint of the live handshake, and the container that has the peer's address. Nothing is decided here but
 * what is plainly false: the certificate is of another sandbox than the one at that address. */
#include "host/contain/contain_internal.h"

#include <string.h>

#include "base/log.h"
#include "davit/agent/v1/agent.davit.h"
#include "davit/agent/v1/agent.pb-c.h"
#include "net/tls.h"

enum { TOKEN_MAX = 8 * 1024, ASSERTION_MAX = 8 * 1024 };
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

static int exchange(struct contain *k, struct rpc_call *call, const Davit__Agent__V1__ExchangeRequest *q, struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__SandboxExchange x = DAVIT__LINK__V1__SANDBOX_EXCHANGE__INIT;
    Davit__Link__V1__ControlMessage *answer = NULL;
    Davit__Agent__V1__ExchangeResponse r = DAVIT__AGENT__V1__EXCHANGE_RESPONSE__INIT;
    char thumbprint[THUMBPRINT_SIZE];
    struct box *b = NULL;

    if (strlen(q->assertion) > ASSERTION_MAX)
        return err_set(err, ERR_INVALID, "assertion: more than %d bytes", ASSERTION_MAX);
    int rc = caller(k, call, &b, thumbprint, err);
    if (rc < 0)
        return rc;
    x.thumbprint = thumbprint;
    x.container_id = b->container;
    x.assertion = q->assertion;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_EXCHANGE;
    m.sandbox_exchange = &x;
    rc = ask(k, &m, &x.request_id, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_EXCHANGED, &answer, err);
    if (rc == 0) {
        r.access_token = answer->sandbox_exchanged->access_token;
        r.expires_us = answer->sandbox_exchanged->expires_us;
        rc = rpc_send(call, &r.base);
    }
    (void)rpc_message_free(answer);
    box_unref(b);
    return rc;
}

static int enter(struct contain *k, struct rpc_call *call, const Davit__Agent__V1__RegisterRequest *q, struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__SandboxRegister x = DAVIT__LINK__V1__SANDBOX_REGISTER__INIT;
    Davit__Link__V1__ControlMessage *answer = NULL;
    Davit__Agent__V1__RegisterResponse r = DAVIT__AGENT__V1__REGISTER_RESPONSE__INIT;
    const char *bearer = rpc_call_metadata(call, "authorization");
    char thumbprint[THUMBPRINT_SIZE];
    struct box *b = NULL;

    if (!bearer || !str_starts(str_from(bearer), STR("Bearer ")) || strlen(bearer) > TOKEN_MAX)
        return err_set(err, ERR_UNAUTHENTICATED, "the token of the exchange is needed");
    int rc = caller(k, call, &b, thumbprint, err);
    if (rc < 0)
        return rc;
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
    rc = ask(k, &m, &x.request_id, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_VERDICT, &answer, err);
    if (rc == 0) {
        box_verdict(b, answer->sandbox_verdict);
        rc = rpc_send(call, &r.base);
    }
    (void)rpc_message_free(answer);
    box_unref(b);
    return rc;
}

static int counted(struct contain *k, struct rpc_call *call, const ProtobufCMessage *q, bool first, struct err *err)
{
    k->relayed++;
    int rc = first ? exchange(k, call, (const Davit__Agent__V1__ExchangeRequest *)q, err)
                   : enter(k, call, (const Davit__Agent__V1__RegisterRequest *)q, err);
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
    static const struct rpc_limits limits = {.conns = 200, .accept_burst = 200, .accept_per_sec = 50, .running = 100};
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
