/* SPDX-License-Identifier: Apache-2.0 */
/* ws_server — calls over a WebSocket each: how a browser makes those whose messages stream, since it has neither HTTP/2 trailers nor full
 * duplex, and how an agent makes all of them through a proxy that carries no gRPC (ws_client.c).
 * GET /pkg.Service/Method with the sub-protocol RPC_WS_PROTOCOL; `?encoding=proto` for binary messages, JSON otherwise. Each WebSocket message
 * is one envelope of Connect (flags, u32 length, payload), both ways. From the client also: a text message is the payload alone, JSON; an
 * envelope with flag 2 says that no more comes. The server's last message has flag 2 and says how the call ended, as in Connect; then it closes.
 * Who may is asked before the connection is switched: a refusal is an answer of plain HTTP. */
#include "base/mem.h"
#include "net/ws.h"
#include "rpc/rpc_internal.h"

enum { MESSAGE_MAX = RPC_MESSAGE_MAX + FRAMES_PREFIX };

struct ws_link {
    struct list node; /* in server->sockets */
    struct rpc_server *server;
    struct ws *ws;
    struct rpc_call *call; /* NULL: over; what remains is the closing */
};

static void link_free(struct ws_link *l)
{
    list_remove(&l->node);
    l->server->n_sockets--;
    l->ws = ws_free(l->ws);
    free(l);
}

/* ---- what comes ---- */

static void end_with(struct rpc_call *c, const char *what)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_INVALID, "%s", what);
    call_end(c, &err);
}

static void no_more(struct rpc_call *c)
{
    c->half_closed = true;
    call_half_close(c);
}

static void on_message(void *arg, bool text, struct str bytes)
{
    struct ws_link *l = arg;
    struct rpc_call *c = l->call;
    uint8_t prefix[FRAMES_PREFIX];
    if (!c)
        return;
    if (c->half_closed) {
        end_with(c, "a message behind the last");
    } else if (text && !c->json) {
        end_with(c, "text, where messages are binary");
    } else if (text && bytes.n > RPC_MESSAGE_MAX) {
        end_with(c, "the message is too long");
    } else if (text) {
        frames_prefix(bytes.n, 0, prefix);
        call_data(c, (struct str){(const char *)prefix, sizeof(prefix)});
        if (l->call)
            call_data(c, bytes);
    } else if (bytes.n < FRAMES_PREFIX || frames_length((const uint8_t *)bytes.p) != bytes.n - FRAMES_PREFIX) {
        end_with(c, "a message that is not one envelope");
    } else if ((uint8_t)*bytes.p == FRAMES_END) {
        no_more(c);
        return;
    } else {
        call_data(c, bytes);
    }
    /* Where one message is the request, nothing more is to be said. */
    if (l->call && c->request && !c->method->client_streams)
        no_more(c);
}

static void on_drain(void *arg)
{
    struct ws_link *l = arg;
    if (l->call)
        call_drained(l->call);
}

static void on_close(void *arg, enum ws_code code)
{
    struct ws_link *l = arg;
    (void)code;
    if (l->call)
        call_lost(l->call, ERR_CANCELLED, "the peer has gone");
}

static void on_gone(void *arg)
{
    link_free(arg);
}

static const struct ws_handler handler = {on_message, on_drain, on_close, on_gone};

/* ---- what call.c and its siblings need ---- */

int ws_link_send(struct ws_link *l, struct str bytes)
{
    return ws_send(l->ws, bytes);
}

size_t ws_link_queued(const struct ws_link *l)
{
    return ws_queued(l->ws);
}

void ws_link_hold(struct ws_link *l, bool held)
{
    ws_hold(l->ws, held);
}

void ws_link_release(struct ws_link *l)
{
    l->call = NULL;
    ws_hold(l->ws, false);
    ws_close(l->ws, l->server->draining ? WS_GOING_AWAY : WS_NORMAL, "");
}

void ws_cut_all(struct rpc_server *s)
{
    struct list *node;
    while ((node = s->sockets.next) != &s->sockets)
        link_free(list_entry(node, struct ws_link, node));
}

/* ---- the beginning ---- */

static bool wants_proto(const char *target)
{
    struct str query = str_from(target);
    (void)str_cut(&query, '?');
    while (query.n)
        if (str_eq(str_cut(&query, '&'), STR("encoding=proto")))
            return true;
    return false;
}

/* What is wrong before there is a call to speak of: 0, or the status of HTTP. */
static int refusal(struct rpc_server *s, struct http_call *http, struct err *err)
{
    int status;
    if (ws_check(http_call_head(http), conn_is_tls(http_call_conn(http)), RPC_WS_PROTOCOL, s->origins, s->n_origins, &status,
                 err) < 0)
        return status;
    if (!s->draining && s->n_sockets < s->max_sockets)
        return 0;
    s->calls_refused++;
    (void)err_set(err, ERR_UNAVAILABLE, "too many connections at once");
    return 503;
}

/* Everything but the connection. 0, or a failure that HTTP must report. */
static int begin(struct rpc_call *c, const struct http_head *head, struct err *err)
{
    struct str type = wants_proto(head->target) ? STR("application/connect+proto") : STR("application/connect+json");
    BUG_ON(h2_fields_add(&c->meta.store, STR("content-type"), type) < 0);
    int rc = connect_take_head(c, head, err);
    return rc < 0 ? rc : call_route(c, "POST", err);
}

/* The connection becomes a WebSocket, which the call goes on by. */
static void switch_over(struct rpc_call *c)
{
    struct err err = ERR_INIT;
    struct rpc_server *s = c->server;
    struct http_call *http = TAKE(c->http);
    struct ws_link *l = NEW(struct ws_link);
    l->server = s;
    l->ws = ws_accept(http, RPC_WS_PROTOCOL, MESSAGE_MAX, &handler, l);
    if (!l->ws) {
        free(l);
        call_lost(c, ERR_CANCELLED, "the peer has gone");
        return;
    }
    l->call = c;
    list_init(&l->node);
    list_push(&s->sockets, &l->node);
    s->n_sockets++;
    c->ws = l;
    c->conn = ws_conn(l->ws);
    if (call_open(c, &err) < 0)
        call_end(c, &err);
}

void ws_serve(struct rpc_server *s, struct http_call *http)
{
    struct err err = ERR_INIT;
    int status = refusal(s, http, &err);
    if (status) {
        const struct http_field fields[] = {{"content-type", "text/plain"}, {"sec-websocket-version", "13"}};
        (void)!http_reply_fields(http, status, fields, status == 426 ? 2 : 1, str_from(err.msg));
        return;
    }
    struct rpc_call *c = call_new(s);
    c->refs++;
    c->http = http;
    call_set_conn(c, http_call_conn(http));
    c->upgrades = true;
    if (begin(c, http_call_head(http), &err) == 0) {
        switch_over(c);
    } else {
        c->protocol = c->http_status ? RPC_NONE : RPC_CONNECT; /* a whole answer */
        call_end(c, &err);
        (void)!connect_reply(c, http);
        c->http = NULL;
    }
    call_unref(c);
}
