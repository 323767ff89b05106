/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel_edge — see tunnel_edge.h. */
#include "host/link/tunnel_edge.h"

#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "host/link/link_dial.h"
#include "net/proxy.h"
#include "net/resolve.h"

enum { CA_FILE_MAX = 1024 * 1024, HOST_SIZE = 256 };

#define TUNNEL_OPEN_WAIT (15 * USEC_SEC)

struct tunnel_edge {
    char *hostport;
    char *authority; /* the same without a port that goes without saying */
    char *host;
    struct tls_ctx *h2, *http1;
};

static const char *const carrier_names[TUNNEL_CARRIER_COUNT] = {"", "grpc", "websocket"};

const char *tunnel_carrier_name(enum tunnel_carrier c)
{
    return (int)c >= 0 && c < TUNNEL_CARRIER_COUNT ? carrier_names[c] : "";
}

int tunnel_edge_parse(const char *server, char **ret_hostport, struct err *err)
{
    char host[HOST_SIZE];
    unsigned port;
    struct str s = str_trim(str_from(server ? server : "")), https = STR("https://");
    if (str_starts(s, https))
        s = (struct str){s.p + https.n, s.n - https.n};
    if (s.n && s.p[s.n - 1] == '/')
        s.n--;
    AUTO_FREE char *with = str_dup(s);
    AUTO_FREE char *without = str_printf(STR_FMT ":443", STR_ARG(s));
    bool clean = s.n > 0 && s.n < HOST_SIZE && !strpbrk(with, "/?#@ \t");
    if (clean && net_split_hostport(with, host, &port) == 0 && *host && port) {
        *ret_hostport = TAKE(with);
        return 0;
    }
    if (clean && *s.p != ':' && net_split_hostport(without, host, &port) == 0 && *host && s.p[s.n - 1] != ':') {
        *ret_hostport = TAKE(without);
        return 0;
    }
    (void)err_set(err, ERR_INVALID, "server: \"%.100s\" is no https://HOST", server ? server : "");
    err_hint(err, "tunnel mode needs the public address of the control plane, e.g. https://davit.example.org");
    return -(int)ERR_INVALID;
}

static int make_tls(struct tunnel_edge *e, struct str ca, struct err *err)
{
    struct tls_config config = {.ca_pem = ca, .verify_host = e->host, .alpn = "h2,http/1.1"};
    int rc = tls_ctx_new(&config, &e->h2, err);
    config.alpn = "http/1.1";
    return rc < 0 ? rc : tls_ctx_new(&config, &e->http1, err);
}

int tunnel_edge_new(const char *server, const char *ca_file, struct tunnel_edge **ret, struct err *err)
{
    char host[HOST_SIZE];
    unsigned port = 0;
    struct tunnel_edge *e = NEW(struct tunnel_edge);
    AUTO_BUF ca = BUF_INIT(CA_FILE_MAX);
    int rc = tunnel_edge_parse(server, &e->hostport, err);
    if (rc == 0 && ca_file && *ca_file) {
        rc = fd_read_file(ca_file, &ca, err);
        if (rc < 0)
            (void)err_wrap(err, "the roots for the edge");
    }
    if (rc == 0) {
        BUG_ON(net_split_hostport(e->hostport, host, &port) < 0);
        e->host = str_dup(str_from(host));
        e->authority = str_dup(port == 443 ? (struct str){e->hostport, strlen(e->hostport) - 4} : str_from(e->hostport));
        rc = make_tls(e, buf_str(&ca), err);
    }
    if (rc < 0)
        (void)tunnel_edge_free(e);
    else
        *ret = e;
    return rc;
}

struct tunnel_edge *tunnel_edge_free(struct tunnel_edge *e)
{
    if (!e)
        return NULL;
    (void)tls_ctx_unref(e->h2);
    (void)tls_ctx_unref(e->http1);
    free(e->hostport);
    free(e->authority);
    free(e->host);
    free(e);
    return NULL;
}

const char *tunnel_edge_hostport(const struct tunnel_edge *e)
{
    return e->hostport;
}

int tunnel_edge_open(struct loop *loop, struct tunnel_edge *e, enum tunnel_carrier carrier, usec_t keepalive, usec_t deadline,
                     struct rpc_channel **ret, struct err *err)
{
    char addr[NET_ADDR_SIZE];
    struct proxy *proxy = NULL;
    bool websocket = carrier == TUNNEL_WEBSOCKET;
    int rc = link_route(loop, e->hostport, deadline, addr, sizeof(addr), &proxy, err);
    if (rc < 0)
        return rc;
    const struct rpc_dial dial = {.addr = addr,
                                  .authority = e->authority,
                                  .tls = websocket ? e->http1 : e->h2,
                                  .server_name = e->host,
                                  .proxy = proxy,
                                  .keepalive = keepalive,
                                  .websocket = websocket};
    rc = rpc_channel_open_with(loop, &dial, deadline, ret, err);
    (void)proxy_unref(proxy);
    return rc;
}

/* --- One way or the other ---- */

struct attempt {
    bool reached;  /* the edge */
    bool answered; /* the control plane */
    struct err err;
};

static int attempt(struct loop *loop, struct tunnel_edge *e, const struct tunnel_try *t, enum tunnel_carrier carrier, struct rpc_channel **ret,
                   struct attempt *a)
{
    struct rpc_channel *ch = NULL;
    *a = (struct attempt){.err = ERR_INIT};
    int rc = tunnel_edge_open(loop, e, carrier, t->keepalive, deadline_in(TUNNEL_OPEN_WAIT), &ch, &a->err);
    if (rc == -(int)ERR_UNAUTHENTICATED && !*a->err.hint)
        err_hint(&a->err,
                 "if the proxy's certificate is of your own authority, name its roots with --tunnel-ca FILE; its name must be that in --server");
    /* Without HTTP/2 there is an edge all the same. */
    a->reached = rc == 0 || rc == -(int)ERR_UNIMPLEMENTED;
    if (rc == 0)
        rc = t->run(t->arg, ch, &a->answered, &a->err);
    if (rc == 0 && ret)
        *ret = TAKE(ch);
    (void)rpc_channel_close(ch);
    return err_ensure(&a->err, rc);
}

static bool is_refusal(const struct err *e)
{
    return e->code == ERR_UNAUTHENTICATED || e->code == ERR_DENIED;
}

/* The more telling of two failures: what was said to us before what something between said; else that of the way that worked before (@known). */
static const struct err *which(const struct attempt *first, const struct attempt *second, bool known)
{
    bool refused = is_refusal(&first->err) && second->err.code != ERR_UNAUTHENTICATED;
    return refused || (known && !is_refusal(&second->err)) ? &first->err : &second->err;
}

static int give_up(const struct tunnel_edge *e, const struct err *why, struct err *err)
{
    if (why->code == ERR_UNAUTHENTICATED || why->code == ERR_DENIED || why->code == ERR_CANCELLED || why->code == ERR_ABORTED) {
        if (err)
            *err = *why;
        return -(int)why->code;
    }
    struct err copy = *why;
    (void)err_set(err, ERR_UNAVAILABLE, "%s leads to no control plane: %s", e->hostport, copy.msg);
    err_hint(err, "is davitd running, and does the proxy at that address pass everything on to its port 7440, WebSockets too?");
    return -(int)ERR_UNAVAILABLE;
}

int tunnel_edge_try(struct loop *loop, struct tunnel_edge *e, const struct tunnel_try *t, enum tunnel_carrier *ret_carrier,
                    struct rpc_channel **ret, struct err *err)
{
    enum tunnel_carrier one = t->first == TUNNEL_WEBSOCKET ? TUNNEL_WEBSOCKET : TUNNEL_GRPC;
    enum tunnel_carrier two = one == TUNNEL_GRPC ? TUNNEL_WEBSOCKET : TUNNEL_GRPC;
    struct attempt a, b;
    *ret_carrier = one;
    int rc = attempt(loop, e, t, one, ret, &a);
    if (rc == 0)
        return 0;
    if (!a.reached || a.answered || rc == -(int)ERR_CANCELLED) {
        if (err)
            *err = a.err;
        return rc;
    }
    *ret_carrier = two;
    rc = attempt(loop, e, t, two, ret, &b);
    if (rc == 0)
        return 0;
    return give_up(e, b.answered ? &b.err : which(&a, &b, t->first != TUNNEL_UNKNOWN), err);
}
