/* SPDX-License-Identifier: Apache-2.0 */
/* server — listeners, connections and routes: what a new connection speaks (ALPN, or the HTTP/2 preface), and which call a stream is. */
#include <string.h>

#include "base/mem.h"
#include "rpc/rpc_internal.h"

#define SNIFF_TIMEOUT (10 * USEC_SEC)
#define TLS_TIMEOUT   (10 * USEC_SEC)
#define KEEPALIVE     (60 * USEC_SEC)
#define STRANGER_IDLE (60 * USEC_SEC) /* without a certificate and without a call */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum { PREFACE_SIZE = sizeof(preface) - 1 };

struct rpc_listener {
    struct list node;
    struct rpc_server *server;
    struct listener *listener;
    struct tls_ctx *tls;
    char *addr; /* as given */
    unsigned n_conns;
    uint64_t tokens; /* connections that may come now */
    usec_t tokens_at;
    struct shares shares;
    struct list strangers; /* HTTP/2 over TLS without a certificate, the oldest first */
    unsigned n_strangers;
};

struct handshake {
    struct list node;
    struct rpc_listener *from;
    uint8_t source[RPC_SOURCE_SIZE]; /* zeroes: of none */
    struct conn_accept *accept;
};

/* A connection: first sniffed (conn set), then HTTP/2 (h2 set), or given to the HTTP/1.1 server and forgotten. */
struct server_conn {
    struct list node, stranger; /* the second: in from->strangers */
    struct rpc_server *server;
    struct rpc_listener *from;
    uint8_t source[RPC_SOURCE_SIZE];
    struct conn *conn;
    struct h2 *h2;
    struct timer timer;
    char first[PREFACE_SIZE];
    size_t n_first;
};

/* ---- HTTP/2 ---- */

static void forget_stranger(struct server_conn *sc)
{
    if (!list_linked(&sc->stranger))
        return;
    list_remove(&sc->stranger);
    sc->from->n_strangers--;
}

static void conn_free(struct server_conn *sc)
{
    forget_stranger(sc);
    timer_stop(&sc->timer);
    list_remove(&sc->node);
    sc->from->n_conns--;
    sc->conn = conn_close(sc->conn);
    sc->h2 = h2_free(sc->h2);
    free(sc);
}

static int begin(struct rpc_call *c, const struct h2_head *head, struct err *err)
{
    const char *verb = call_meta(c, ":method"), *type = call_meta(c, "content-type");
    bool grpc = type && strncmp(type, "application/grpc", 16) == 0 && strncmp(type, "application/grpc-web", 20) != 0;
    if (!head->too_big && verb && call_meta(c, ":path"))
        return page_wanted(c, verb) ? page_start(c, err) : call_route(c, verb, err);
    c->protocol = grpc ? RPC_GRPC : RPC_NONE;
    c->http_status = grpc ? 0 : 431;
    return err_set(err, ERR_EXHAUSTED, "the metadata is over the limit of %d bytes", H2_HEAD_MAX);
}

static void on_head(void *arg, struct h2_stream *st, struct h2_head *head, bool end)
{
    struct server_conn *sc = arg;
    struct err err = ERR_INIT;
    struct rpc_call *c = call_new(sc->server);
    c->st = st;
    call_set_conn(c, h2_conn(sc->h2));
    h2_set_user(st, c);
    rpc_meta_release(&c->meta);
    c->meta.store = head->store;
    head->store = BUF_INIT(0);
    int rc = begin(c, head, &err);
    if (rc < 0 && !end && c->protocol != RPC_GRPC)
        call_refuse(c, &err);
    else if (rc < 0)
        call_end(c, &err);
    else if (end)
        call_half_close(c);
}

static void on_data(void *arg, struct h2_stream *st, struct str bytes)
{
    (void)arg;
    struct rpc_call *c = h2_user(st);
    if (c)
        call_data(c, bytes);
}

static void on_end(void *arg, struct h2_stream *st)
{
    (void)arg;
    struct rpc_call *c = h2_user(st);
    if (c)
        call_half_close(c);
}

static void on_closed(void *arg, struct h2_stream *st, uint32_t code)
{
    (void)arg;
    (void)code;
    struct rpc_call *c = h2_user(st);
    if (c)
        call_lost(c, ERR_CANCELLED, "the peer has gone");
}

static void on_drain(void *arg, struct h2_stream *st)
{
    (void)arg;
    struct rpc_call *c = h2_user(st);
    if (c)
        call_drained(c);
}

static void on_dead(void *arg, const struct err *why)
{
    (void)why;
    conn_free(arg);
}

static const struct h2_handler h2_handler = {on_head, on_data, on_end, on_closed, on_drain, NULL, on_dead};

/* ---- what does it speak? ---- */

/* Strangers have a quarter of the connections: the newest cost the oldest theirs, never those of who is known. */
static void note_stranger(struct server_conn *sc)
{
    struct rpc_listener *l = sc->from;
    timer_set(&sc->timer, STRANGER_IDLE);
    list_push(&l->strangers, &sc->stranger);
    if (++l->n_strangers <= 1 + l->server->limits.conns / 4)
        return;
    struct server_conn *oldest = list_first(&l->strangers, struct server_conn, stranger);
    if (!oldest)
        return;
    forget_stranger(oldest);
    h2_cut(oldest->h2);
}

void rpc_call_vouch(struct rpc_call *call)
{
    struct rpc_server *s = call->server;
    struct rpc_listener *l;
    if (!call->stranger)
        return;
    call->stranger = false;
    s->held_strangers -= call->held;
    /* The newest are at the end, and who vouches does it soon. */
    list_each(l, &s->listeners, struct rpc_listener, node)
        for (struct list *n = l->strangers.prev; n != &l->strangers; n = n->prev) {
            struct server_conn *sc = list_entry(n, struct server_conn, stranger);
            if (sc->h2 && h2_conn(sc->h2) == call->conn) {
                forget_stranger(sc);
                return;
            }
        }
}

static void become_h2(struct server_conn *sc)
{
    timer_stop(&sc->timer);
    bool stranger = conn_is_tls(sc->conn) && !conn_peer(sc->conn)->present;
    sc->h2 = h2_new(TAKE(sc->conn), true, &h2_handler, sc);
    h2_keepalive(sc->h2, KEEPALIVE);
    if (sc->server->limits.max_age)
        h2_max_age(sc->h2, sc->server->limits.max_age);
    if (stranger)
        note_stranger(sc);
    h2_feed(sc->h2, (struct str){sc->first, sc->n_first});
    if (sc->server->draining)
        h2_drain(sc->h2);
}

static void become_http1(struct server_conn *sc)
{
    struct conn *c = TAKE(sc->conn);
    if (!sc->server->limits.h2_only && (sc->n_first == 0 || conn_unread(c, sc->first, sc->n_first) == 0))
        http_server_take(sc->server->http, c);
    else
        (void)conn_close(c);
    conn_free(sc);
}

static void sniff_read(void *arg, const void *p, size_t n)
{
    struct server_conn *sc = arg;
    size_t take = n < PREFACE_SIZE - sc->n_first ? n : PREFACE_SIZE - sc->n_first;
    memcpy(sc->first + sc->n_first, p, take);
    sc->n_first += take;
    bool fits = memcmp(sc->first, preface, sc->n_first) == 0;
    if (fits && sc->n_first < PREFACE_SIZE)
        return;
    struct str rest = {(const char *)p + take, n - take};
    if (fits) {
        become_h2(sc);
        if (rest.n)
            h2_feed(sc->h2, rest);
        return;
    }
    conn_read_stop(sc->conn);
    if (rest.n && conn_unread(sc->conn, rest.p, rest.n) < 0)
        conn_free(sc);
    else
        become_http1(sc);
}

static void sniff_eof(void *arg)
{
    conn_free(arg);
}

static void sniff_error(void *arg, const struct err *err)
{
    (void)err;
    conn_free(arg);
}

/* Nothing that can be known came; or one that nobody vouches for has no call open. */
static void conn_timeout(void *arg)
{
    struct server_conn *sc = arg;
    if (sc->h2 && h2_streams(sc->h2))
        timer_set(&sc->timer, STRANGER_IDLE);
    else
        conn_free(sc);
}

static const struct conn_handler sniff_handler = {sniff_read, sniff_eof, sniff_error, NULL};

static void take_conn(struct rpc_listener *from, struct conn *c, const uint8_t source[RPC_SOURCE_SIZE])
{
    struct rpc_server *s = from->server;
    struct server_conn *sc = NEW(struct server_conn);
    sc->server = s;
    sc->from = from;
    memcpy(sc->source, source, sizeof(sc->source));
    from->n_conns++;
    sc->conn = c;
    list_init(&sc->node);
    list_init(&sc->stranger);
    list_push(&s->conns, &sc->node);
    timer_init(&sc->timer, s->loop, conn_timeout, sc);
    if (strcmp(conn_alpn(c), "h2") == 0) {
        become_h2(sc);
    } else if (conn_alpn(c)[0]) {
        become_http1(sc);
    } else {
        timer_set(&sc->timer, SNIFF_TIMEOUT);
        conn_set_handler(c, &sniff_handler, sc);
        conn_read_start(c);
    }
}

/* ---- accepting ---- */

static void handshake_end(struct handshake *hs)
{
    list_remove(&hs->node);
    hs->from->n_conns--;
    free(hs);
}

static void tls_ready(void *arg, struct conn *c)
{
    struct handshake *hs = arg;
    take_conn(hs->from, c, hs->source);
    handshake_end(hs);
}

static void tls_failed(void *arg, const char *peer, const struct err *err)
{
    struct handshake *hs = arg;
    const struct rpc_server *s = hs->from->server;
    if (s->refused)
        s->refused(s->refused_arg, peer, err);
    handshake_end(hs);
}

/* How many connections of it are open. */
static unsigned n_of_source(const struct rpc_listener *l, const uint8_t source[RPC_SOURCE_SIZE])
{
    const struct handshake *hs;
    const struct server_conn *sc;
    unsigned n = 0;
    list_each(hs, &l->server->handshakes, struct handshake, node)
        n += hs->from == l && memcmp(hs->source, source, RPC_SOURCE_SIZE) == 0;
    list_each(sc, &l->server->conns, struct server_conn, node)
        n += sc->from == l && memcmp(sc->source, source, RPC_SOURCE_SIZE) == 0;
    return n;
}

/* One more connection? A handshake costs a millisecond of the loop: a crowd gets in by and by. The second half of what may come at once is
 * for addresses that do not come in crowds. */
static bool admit(struct rpc_listener *l, const char *peer, uint8_t source[RPC_SOURCE_SIZE])
{
    const struct rpc_limits *limits = &l->server->limits;
    usec_t now = clock_mono(), step = USEC_SEC / (limits->accept_per_sec ? limits->accept_per_sec : 1);
    uint64_t gained = (now - l->tokens_at) / step;
    l->tokens_at += gained * step;
    l->tokens = l->tokens + gained > limits->accept_burst ? limits->accept_burst : l->tokens + gained;
    bool known = server_source(peer, source), crowd = known && shares_take(&l->shares, source, now);
    if (l->n_conns >= limits->conns || (known && limits->of_source && n_of_source(l, source) >= limits->of_source) ||
        l->tokens <= (crowd ? limits->accept_burst / 2 : 0)) {
        l->server->conns_refused++;
        return false;
    }
    l->tokens--;
    return true;
}

static void on_accept(void *arg, struct stream *stream)
{
    struct rpc_listener *l = arg;
    uint8_t source[RPC_SOURCE_SIZE] = {0};
    if (!admit(l, stream_peer(stream), source)) {
        (void)stream_close(stream);
        return;
    }
    if (!l->tls) {
        take_conn(l, conn_plain(stream), source);
        return;
    }
    struct handshake *hs = NEW(struct handshake);
    hs->from = l;
    memcpy(hs->source, source, sizeof(source));
    l->n_conns++;
    list_init(&hs->node);
    list_push(&l->server->handshakes, &hs->node);
    hs->accept = conn_accept_tls(stream, l->tls, TLS_TIMEOUT, tls_ready, tls_failed, hs);
}

struct service_entry *server_find(struct rpc_server *s, struct str path, size_t *ret_method)
{
    if (!str_starts(path, STR("/")))
        return NULL;
    struct str method = {path.p + 1, path.n - 1}, service = str_cut(&method, '/');
    struct service_entry *e;
    list_each(e, &s->services, struct service_entry, node) {
        if (!str_eq(service, str_from(e->service->name)))
            continue;
        for (size_t i = 0; i < e->service->n_methods; i++)
            if (str_eq(method, str_from(e->service->methods[i].name))) {
                *ret_method = i;
                return e;
            }
    }
    return NULL;
}

/* ---- the interface ---- */

struct rpc_server *rpc_server_new(struct loop *loop, rpc_authorize *authorize, void *ctx)
{
    struct rpc_server *s = NEW(struct rpc_server);
    s->loop = loop;
    s->authorize = authorize;
    s->ctx = ctx;
    s->max_sockets = RPC_WS_MAX;
    s->limits = (struct rpc_limits){
        .conns = RPC_CONNS_MAX, .accept_burst = RPC_ACCEPT_BURST, .accept_per_sec = RPC_ACCEPT_PER_SEC, .running = RPC_RUNNING_MAX};
    list_init(&s->services);
    list_init(&s->listeners);
    list_init(&s->conns);
    list_init(&s->calls);
    list_init(&s->handshakes);
    list_init(&s->sockets);
    s->http = http_server_new(loop, connect_http1, s, RPC_MESSAGE_MAX + FRAMES_PREFIX);
    return s;
}

void rpc_server_on_refused(struct rpc_server *s, rpc_refused *fn, void *arg)
{
    s->refused = fn;
    s->refused_arg = arg;
}

void rpc_server_set_around(struct rpc_server *s, rpc_around *around, void *ctx)
{
    s->around = around;
    s->around_ctx = ctx;
}

void rpc_server_set_pages(struct rpc_server *s, rpc_page_handler *handler, void *ctx)
{
    s->pages = handler;
    http_server_stream(s->http, "PUT");
    s->pages_ctx = ctx;
}

void rpc_server_take_posts(struct rpc_server *s, const char *prefix)
{
    s->posts = prefix;
}

void rpc_server_allow_origins(struct rpc_server *s, const char *const *origins, size_t n)
{
    s->origins = origins;
    s->n_origins = n;
}

static void cut_calls(struct rpc_server *s)
{
    struct list *node;
    while ((node = list_pop(&s->calls)) != NULL) {
        struct rpc_call *c = list_entry(node, struct rpc_call, node);
        call_lost(c, ERR_CANCELLED, "the server ends");
        c->server = NULL;
        if (list_linked(&c->closed.node)) {
            task_cancel(&c->closed);
            c->closed.fn(c);
        }
    }
}

struct rpc_server *rpc_server_free(struct rpc_server *s)
{
    if (!s)
        return NULL;
    struct list *node;
    struct rpc_listener *l;
    list_each(l, &s->listeners, struct rpc_listener, node)
        l->listener = listener_close(l->listener);
    while ((node = s->handshakes.next) != &s->handshakes) {
        struct handshake *hs = list_entry(node, struct handshake, node);
        conn_accept_cancel(hs->accept);
        handshake_end(hs);
    }
    cut_calls(s);
    ws_cut_all(s);
    while ((node = s->conns.next) != &s->conns)
        conn_free(list_entry(node, struct server_conn, node));
    s->http = http_server_free(s->http);
    while ((node = list_pop(&s->services)) != NULL)
        free(list_entry(node, struct service_entry, node));
    while ((node = list_pop(&s->listeners)) != NULL) {
        l = list_entry(node, struct rpc_listener, node);
        (void)tls_ctx_unref(l->tls);
        free(l->addr);
        free(l);
    }
    free(s);
    return NULL;
}

void rpc_server_limit_sockets(struct rpc_server *s, unsigned max)
{
    s->max_sockets = max;
}

void rpc_server_set_limits(struct rpc_server *s, const struct rpc_limits *limits)
{
    s->limits = *limits;
}

void rpc_server_stats(const struct rpc_server *s, struct rpc_stats *ret)
{
    *ret = (struct rpc_stats){.running = s->running, .conns_refused = s->conns_refused, .calls_refused = s->calls_refused};
    const struct rpc_listener *l;
    list_each(l, &s->listeners, struct rpc_listener, node)
        ret->conns += l->n_conns;
}

void rpc_server_alias(struct rpc_server *s, const char *path, const char *method)
{
    s->alias = path;
    s->alias_of = method;
}

void rpc_server_add(struct rpc_server *s, const struct rpc_service *service, const struct rpc_handler *handlers, void *ctx)
{
    for (size_t i = 0; i < service->n_methods; i++) {
        BUG_ON(!handlers[i].run == !handlers[i].stream);
        BUG_ON(handlers[i].stream && !service->methods[i].client_streams);
    }
    struct service_entry *e = NEW(struct service_entry);
    *e = (struct service_entry){.service = service, .handlers = handlers, .ctx = ctx};
    list_init(&e->node);
    list_push(&s->services, &e->node);
}

int rpc_server_listen(struct rpc_server *s, const char *addr, mode_t unix_mode, struct tls_ctx *tls, struct err *err)
{
    struct rpc_listener *l = NEW(struct rpc_listener);
    l->server = s;
    l->tokens = s->limits.accept_burst;
    l->tokens_at = clock_mono();
    l->shares.seed = rng_below(UINT64_MAX);
    list_init(&l->strangers);
    int rc = listener_open(s->loop, addr, unix_mode, on_accept, l, &l->listener, err);
    if (rc < 0) {
        free(l);
        return rc;
    }
    l->tls = tls ? tls_ctx_ref(tls) : NULL;
    l->addr = str_dup(str_from(addr));
    list_init(&l->node);
    list_push(&s->listeners, &l->node);
    return 0;
}

int rpc_server_set_tls(struct rpc_server *s, const char *addr, struct tls_ctx *tls)
{
    struct rpc_listener *l;
    list_each(l, &s->listeners, struct rpc_listener, node) {
        if (!l->listener || (strcmp(l->addr, addr) != 0 && strcmp(listener_addr(l->listener), addr) != 0))
            continue;
        struct tls_ctx *old = l->tls;
        l->tls = tls ? tls_ctx_ref(tls) : NULL;
        (void)tls_ctx_unref(old);
        return 0;
    }
    return -ERR_NOT_FOUND;
}

const char *rpc_server_addr(const struct rpc_server *s, size_t i)
{
    const struct rpc_listener *l;
    list_each(l, &s->listeners, struct rpc_listener, node)
        if (i-- == 0)
            return l->listener ? listener_addr(l->listener) : NULL;
    return NULL;
}

void rpc_server_drain(struct rpc_server *s)
{
    s->draining = true;
    struct rpc_listener *l;
    list_each(l, &s->listeners, struct rpc_listener, node)
        l->listener = listener_close(l->listener);
    struct server_conn *sc;
    list_each(sc, &s->conns, struct server_conn, node)
        if (sc->h2)
            h2_drain(sc->h2);
}
