/* SPDX-License-Identifier: Apache-2.0 */
/* http_server — the life of served connections: phases with a time limit each, one fiber per request. */
#include "net/http_server.h"

#include <string.h>

#include "base/mem.h"
#include "net/http_internal.h"

#define IDLE_MAX      (60 * USEC_SEC)
#define HEAD_MAX      (10 * USEC_SEC)
#define BODY_MAX      (60 * USEC_SEC)
#define LINGER_MAX    (2 * USEC_SEC)
#define HANDSHAKE_MAX (10 * USEC_SEC)

enum { LISTENERS_MAX = 8 };

struct door {
    struct http_server *server;
    struct listener *listener;
    struct tls_ctx *tls;
};

/* A TLS handshake under way. */
struct guest {
    struct list node;
    struct http_server *server;
    struct conn_accept *accept;
};

struct http_server {
    struct loop *loop;
    http_handler *handler;
    void *arg;
    size_t body_max;
    const char *stream_method; /* NULL: none */
    struct door doors[LISTENERS_MAX];
    size_t n_doors;
    struct list calls;
    struct list guests;
    unsigned n_conns; /* calls and guests */
    size_t bodies;    /* bytes of all request bodies that are held */
};

static void begin_request(struct http_call *c);
static void start_handler(struct http_call *c);

/* --- Ending -------------------------------------------------------------------------------------------------------------------------- */

static void call_free(struct http_call *c)
{
    task_cancel(&c->next);
    timer_stop(&c->timer);
    http_parser_free(c->parser);
    http_head_release(&c->head);
    buf_release(&c->body);
    buf_release(&c->taken);
    event_release(&c->came);
    fiber_unref(c->fiber);
    free(c);
}

/* The body's memory is about to go, or is no longer the server's. */
static void body_uncount(struct http_call *c)
{
    if (c->server && !c->streaming)
        c->server->bodies -= c->body.len;
}

/* The connection goes. The record goes with it unless a fiber has it. */
static void call_drop(struct http_call *c)
{
    if (c->server) {
        body_uncount(c);
        list_remove(&c->node);
        c->server->n_conns--;
        c->server = NULL;
    }
    timer_stop(&c->timer);
    task_cancel(&c->next);
    c->conn = conn_close(c->conn);
    if (!c->fiber || c->handler_done)
        call_free(c);
}

static void linger(struct http_call *c)
{
    c->phase = HTTP_LINGER;
    conn_shutdown(c->conn);
    timer_set(&c->timer, LINGER_MAX);
    conn_read_start(c->conn);
}

static void refuse(struct http_call *c, int status, const char *text)
{
    c->close = true;
    c->refused = true;
    conn_read_stop(c->conn);
    (void)http_reply(c, status, "text/plain", str_from(text));
    linger(c);
}

/* --- Receiving ----------------------------------------------------------------------------------------------------------------------- */

static int on_head(void *arg, struct http_head *head)
{
    struct http_call *c = arg;
    c->head = *head;
    head->store = BUF_INIT(HTTP_HEAD_MAX); /* the strings are the call's now */
    c->close = !head->keep_alive;
    const char *expect = http_field(&c->head, "expect");
    bool expects = expect && str_eq_ci(str_from(expect), STR("100-continue")) && (head->chunked || head->length);
    c->streaming = c->server->stream_method && strcmp(head->method, c->server->stream_method) == 0;
    c->expects = c->streaming && expects;
    if (c->streaming)
        return 0;
    if (head->has_length && head->length > c->server->body_max)
        return -(int)ERR_RANGE;
    c->phase = HTTP_BODY;
    timer_set(&c->timer, BODY_MAX);
    if (expects)
        (void)conn_write(c->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    return 0;
}

static int on_body(void *arg, struct str bytes)
{
    struct http_call *c = arg;
    struct http_server *s = c->server;
    if (c->streaming) /* one read of the connection at most: nothing is read until it was taken */
        return buf_append_str(&c->body, bytes) == 0 ? 0 : -(int)ERR_RANGE;
    if (bytes.n > HTTP_BODIES_MAX * s->body_max - s->bodies)
        return -(int)ERR_UNAVAILABLE;
    if (buf_append_str(&c->body, bytes) != 0)
        return -(int)ERR_RANGE;
    s->bodies += bytes.n;
    return 0;
}

static int on_end(void *arg)
{
    struct http_call *c = arg;
    c->complete = true;
    return 0;
}

static const struct http_parser_handler parser_handler = {on_head, on_body, on_end};

static void call_gone(struct http_call *c)
{
    fiber_cancel(c->fiber);
    call_drop(c);
}

/* More of a body that the handler reads. */
static void on_streamed(struct http_call *c, const char *p, size_t n)
{
    size_t used = 0;
    conn_read_stop(c->conn);
    if (http_parser_feed(c->parser, (struct str){p, n}, &used, NULL) < 0) {
        call_gone(c);
        return;
    }
    if (used < n && conn_unread(c->conn, p + used, n - used) != 0)
        c->close = true;
    event_signal(&c->came);
}

static void on_conn_read(void *arg, const void *p, size_t n)
{
    struct http_call *c = arg;
    if (c->phase == HTTP_LINGER)
        return;
    if (c->phase == HTTP_RUN && c->streaming && !c->complete) {
        on_streamed(c, p, n);
        return;
    }
    if (c->phase == HTTP_RUN) { /* the next request has to wait */
        conn_read_stop(c->conn);
        if (conn_unread(c->conn, p, n) != 0)
            c->close = true;
        return;
    }
    if (c->phase == HTTP_IDLE) {
        c->phase = HTTP_HEAD;
        timer_set(&c->timer, HEAD_MAX);
    }
    size_t used = 0;
    struct err err = ERR_INIT;
    int rc = http_parser_feed(c->parser, (struct str){p, n}, &used, &err);
    if (rc == -(int)ERR_RANGE) {
        refuse(c, 413, "request body too large\n");
    } else if (rc == -(int)ERR_UNAVAILABLE) {
        refuse(c, 503, "too many request bodies at once\n");
    } else if (rc == -(int)ERR_EXHAUSTED) {
        refuse(c, 431, err.msg);
    } else if (rc < 0) {
        refuse(c, 400, err.msg);
    } else if (c->complete || c->streaming) {
        conn_read_stop(c->conn);
        if (used < n && conn_unread(c->conn, (const char *)p + used, n - used) != 0) {
            refuse(c, 400, "too many bytes ahead\n");
            return;
        }
        timer_stop(&c->timer);
        c->phase = HTTP_RUN;
        start_handler(c);
    }
}

static void on_conn_eof(void *arg)
{
    struct http_call *c = arg;
    /* Whole answers still go to a client that closed its half; of a stream nothing tells it from one that has gone. */
    if (c->phase == HTTP_RUN && (c->complete || !c->streaming) && (!c->started || c->ended)) {
        c->close = true;
        return;
    }
    call_gone(c);
}

static void on_conn_error(void *arg, const struct err *err)
{
    (void)err;
    call_gone(arg);
}

static const struct conn_handler conn_handler = {on_conn_read, on_conn_eof, on_conn_error, NULL};

static void on_timer(void *arg)
{
    struct http_call *c = arg;
    if (c->phase == HTTP_HEAD || c->phase == HTTP_BODY)
        refuse(c, 408, "the request took too long\n");
    else
        call_drop(c);
}

/* --- Handlers ------------------------------------------------------------------------------------------------------------------------ */

static void on_next(void *arg)
{
    struct http_call *c = arg;
    c->fiber = fiber_unref(c->fiber);
    if (!c->conn || !c->server) {
        call_drop(c);
        return;
    }
    if (c->close)
        linger(c);
    else
        begin_request(c);
}

static void run_handler(void *arg)
{
    struct http_call *c = arg;
    if (c->server)
        c->server->handler(c->server->arg, c);
    if (c->conn && !c->started)
        (void)http_reply(c, 500, "text/plain", STR("no answer\n"));
    if (c->conn && c->streaming && !c->complete)
        c->close = true; /* where the next request begins is not known */
    if (c->conn && !c->ended)
        c->close = true; /* a broken answer ends by the connection's end, never by a false last chunk */
    c->handler_done = true;
    loop_post(c->loop, &c->next);
}

static void start_handler(struct http_call *c)
{
    if (fiber_spawn(c->loop, "http", run_handler, c, &c->fiber) != 0)
        refuse(c, 503, "too many requests at once\n");
}

static void begin_request(struct http_call *c)
{
    http_parser_reset(c->parser);
    http_head_release(&c->head);
    body_uncount(c);
    buf_release(&c->body);
    buf_release(&c->taken);
    c->streaming = c->expects = false;
    event_reset(&c->came);
    c->complete = c->started = c->ended = c->chunked = c->handler_done = false;
    c->phase = HTTP_IDLE;
    timer_set(&c->timer, IDLE_MAX);
    conn_read_start(c->conn);
}

void http_server_take(struct http_server *s, struct conn *conn)
{
    if (s->n_conns >= HTTP_CONNS_MAX) {
        conn_close(conn);
        return;
    }
    s->n_conns++;
    struct http_call *c = NEW(struct http_call);
    c->server = s;
    c->loop = s->loop;
    c->conn = conn;
    c->parser = http_parser_new(true, &parser_handler, c);
    buf_init(&c->body, s->body_max);
    buf_init(&c->taken, s->body_max);
    event_init(&c->came, s->loop);
    timer_init(&c->timer, s->loop, on_timer, c);
    task_init(&c->next, on_next, c);
    list_init(&c->node);
    list_push(&s->calls, &c->node);
    conn_set_handler(conn, &conn_handler, c);
    begin_request(c);
}

void http_server_stream(struct http_server *s, const char *method)
{
    s->stream_method = method;
}

int http_call_read(struct http_call *c, struct str *ret, usec_t deadline)
{
    *ret = STR("");
    buf_clear(&c->taken);
    while (c->body.len == 0) {
        if (!c->conn || fiber_cancelled())
            return -(int)ERR_CANCELLED;
        if (c->complete || !c->streaming)
            return 1;
        if (c->expects && !c->started)
            (void)conn_write(c->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        c->expects = false;
        event_reset(&c->came);
        conn_read_start(c->conn);
        int rc = event_wait(&c->came, deadline);
        if (rc < 0)
            return rc;
    }
    struct buf full = c->body;
    c->body = c->taken;
    c->taken = full;
    *ret = buf_str(&c->taken);
    return 0;
}

struct conn *http_call_take_conn(struct http_call *c)
{
    if (!c->conn || c->started)
        return NULL;
    struct conn *conn = TAKE(c->conn);
    conn_set_handler(conn, NULL, NULL);
    list_remove(&c->node);
    body_uncount(c);
    if (c->server)
        c->server->n_conns--;
    c->server = NULL;
    return conn;
}

/* --- Listening ----------------------------------------------------------------------------------------------------------------------- */

static void guest_free(struct guest *g)
{
    list_remove(&g->node);
    g->server->n_conns--;
    free(g);
}

static void on_guest_ready(void *arg, struct conn *c)
{
    struct guest *g = arg;
    struct http_server *s = g->server;
    guest_free(g);
    http_server_take(s, c);
}

static void on_guest_failed(void *arg, const char *peer, const struct err *err)
{
    (void)peer;
    (void)err;
    guest_free(arg);
}

static void on_accept(void *arg, struct stream *stream)
{
    struct door *door = arg;
    struct http_server *s = door->server;
    if (s->n_conns >= HTTP_CONNS_MAX) {
        stream_close(stream);
        return;
    }
    if (!door->tls) {
        http_server_take(s, conn_plain(stream));
        return;
    }
    s->n_conns++;
    struct guest *g = NEW(struct guest);
    g->server = s;
    list_init(&g->node);
    list_push(&s->guests, &g->node);
    g->accept = conn_accept_tls(stream, door->tls, HANDSHAKE_MAX, on_guest_ready, on_guest_failed, g);
}

int http_server_listen(struct http_server *s, const char *addr, mode_t unix_mode, struct tls_ctx *tls, struct err *err)
{
    if (s->n_doors == LISTENERS_MAX)
        return err_set(err, ERR_EXHAUSTED, "more than %d listeners", LISTENERS_MAX);
    struct door *door = &s->doors[s->n_doors];
    *door = (struct door){.server = s};
    int rc = listener_open(s->loop, addr, unix_mode, on_accept, door, &door->listener, err);
    if (rc < 0)
        return rc;
    door->tls = tls ? tls_ctx_ref(tls) : NULL;
    s->n_doors++;
    return 0;
}

const char *http_server_addr(const struct http_server *s, size_t i)
{
    return i < s->n_doors ? listener_addr(s->doors[i].listener) : NULL;
}

struct http_server *http_server_new(struct loop *loop, http_handler *handler, void *arg, size_t body_max)
{
    struct http_server *s = NEW(struct http_server);
    s->loop = loop;
    s->handler = handler;
    s->arg = arg;
    s->body_max = body_max;
    list_init(&s->calls);
    list_init(&s->guests);
    return s;
}

struct http_server *http_server_free(struct http_server *s)
{
    if (!s)
        return NULL;
    for (size_t i = 0; i < s->n_doors; i++) {
        listener_close(s->doors[i].listener);
        tls_ctx_unref(s->doors[i].tls);
    }
    struct guest *g;
    while ((g = list_first(&s->guests, struct guest, node))) {
        conn_accept_cancel(g->accept);
        guest_free(g);
    }
    struct http_call *c;
    while ((c = list_first(&s->calls, struct http_call, node))) {
        fiber_cancel(c->fiber);
        call_drop(c);
    }
    free(s);
    return NULL;
}

const struct http_head *http_call_head(const struct http_call *c)
{
    return &c->head;
}

struct str http_call_body(const struct http_call *c)
{
    return buf_str(&c->body);
}

struct conn *http_call_conn(const struct http_call *c)
{
    return c->conn;
}
