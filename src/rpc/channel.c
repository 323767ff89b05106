/* SPDX-License-Identifier: Apache-2.0 */
/* channel — the connections behind a channel and what they tell its streams; see rpc.h.  Source: grpc/grpc doc/PROTOCOL-HTTP2.md. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/client_internal.h"
#include "rpc/details.h"
#include "rpc/status.h"

#define RENEW_TIMEOUT (10 * USEC_SEC)

/* ---- the end of a stream ---- */

void stream_end(struct rpc_stream *s)
{
    s->over = true;
    s->st = NULL;
    if (s->out)
        ws_out_release(TAKE(s->out));
    timer_stop(&s->timer);
    event_signal(&s->readable);
    event_signal(&s->room);
}

void stream_fail(struct rpc_stream *s, enum err_code code, const char *fmt, ...)
{
    if (s->over)
        return;
    va_list ap;
    char text[ERR_MSG_MAX];
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)err_set(&s->status, code, "%s", text);
    if (s->st)
        h2_reset(s->st, H2_CANCEL);
    stream_end(s);
}

void stream_on_deadline(void *arg)
{
    stream_fail(arg, ERR_DEADLINE, "no answer in time");
}

/* ---- what the connection tells ---- */

static void take_meta(struct rpc_meta *m, struct h2_head *head)
{
    rpc_meta_release(m);
    m->store = head->store;
    head->store = BUF_INIT(0);
}

/* Trailers, also those that came as the only head. */
static void got_trailers(struct rpc_stream *s, struct h2_head *head)
{
    const char *status = h2_head_get(head, "grpc-status");
    if (!status) {
        enum err_code code = s->http_status[0] ? status_from_http(s->http_status) : ERR_UNKNOWN;
        stream_fail(s, code, "the answer is none of gRPC (HTTP status %s)", s->http_status);
        return;
    }
    s->told = true;
    int rc = status_from_trailers(status, h2_head_get(head, "grpc-message"), h2_head_get(head, "davit-hint"), &s->status);
    if (rc == 0 && head->too_big)
        (void)err_set(&s->status, ERR_EXHAUSTED, "the trailers are over the limit");
    take_meta(&s->trailer, head);
    AUTO_BUF details = BUF_INIT(H2_HEAD_MAX);
    if (rc < 0 && rpc_meta_bin(&s->trailer, "grpc-status-details-bin", 0, &details) == 0)
        details_read(buf_str(&details), &s->status);
    h2_release(s->st);
    stream_end(s);
}

/* The first head, with something behind it: what it says of the end is not looked at. */
static void got_first(struct rpc_stream *s, struct h2_head *head)
{
    const char *type = h2_head_get(head, "content-type"), *encoding = h2_head_get(head, "grpc-encoding");
    if (strcmp(s->http_status, "200") != 0)
        stream_fail(s, status_from_http(s->http_status), "HTTP status %s", s->http_status);
    else if (!type || strncmp(type, "application/grpc", 16) != 0)
        stream_fail(s, ERR_UNKNOWN, "the answer is none of gRPC");
    else if (head->too_big)
        stream_fail(s, ERR_EXHAUSTED, "the head of the answer is over the limit");
    else if (encoding && strcmp(encoding, "gzip") != 0 && strcmp(encoding, "identity") != 0)
        stream_fail(s, ERR_INTERNAL, "the answer is compressed in a way that was not offered");
    else if (encoding && strcmp(encoding, "gzip") == 0)
        s->in.allowed = FRAMES_COMPRESSED;
    take_meta(&s->header, head);
}

static void on_head(void *arg, struct h2_stream *st, struct h2_head *head, bool end)
{
    (void)arg;
    struct rpc_stream *s = h2_user(st);
    if (!s)
        return;
    if (s->post) {
        post_head(s, head, end);
        return;
    }
    if (!s->got_head) {
        s->got_head = true;
        (void)str_copy(s->http_status, sizeof(s->http_status), str_from(h2_head_get(head, ":status")));
        if (end)
            got_trailers(s, head);
        else
            got_first(s, head);
        return;
    }
    if (end)
        got_trailers(s, head);
    else
        stream_fail(s, ERR_INTERNAL, "the answer has a second head");
}

static void on_data(void *arg, struct h2_stream *st, struct str bytes)
{
    (void)arg;
    struct rpc_stream *s = h2_user(st);
    if (!s)
        return;
    if (s->post) {
        post_data(s, st, bytes);
        return;
    }
    struct err err = ERR_INIT;
    if (frames_add(&s->in, bytes, &err) < 0) {
        stream_fail(s, err.code, "%s", err.msg);
        return;
    }
    h2_consume(st, frames_settle(&s->in));
    event_signal(&s->readable);
}

static void on_end(void *arg, struct h2_stream *st)
{
    (void)arg;
    struct rpc_stream *s = h2_user(st);
    if (s && s->post)
        post_end(s);
    else if (s)
        stream_fail(s, s->http_status[0] ? status_from_http(s->http_status) : ERR_UNKNOWN, "the answer ended without a status");
}

static void on_closed(void *arg, struct h2_stream *st, uint32_t code)
{
    struct channel_conn *cc = arg;
    struct rpc_stream *s = h2_user(st);
    if (!s)
        return;
    s->st = NULL;
    s->refused = code == H2_REFUSED_STREAM && !s->got_head;
    if (code == H2_CANCEL && clock_mono() >= s->deadline)
        stream_fail(s, ERR_DEADLINE, "no answer in time");
    else if (s->refused)
        stream_fail(s, ERR_UNAVAILABLE, "the peer takes no new calls");
    else if (cc->dead || code == H2_CONNECT_ERROR)
        stream_fail(s, ERR_UNAVAILABLE, "the connection was lost");
    else
        stream_fail(s, status_from_reset(code), "the peer cut the call (HTTP/2 code %u)", code);
}

static void on_drain(void *arg, struct h2_stream *st)
{
    (void)arg;
    struct rpc_stream *s = h2_user(st);
    if (s)
        event_signal(&s->room);
}

static void on_goaway(void *arg)
{
    struct channel_conn *cc = arg;
    cc->goaway = true;
}

static void conn_free(struct channel_conn *cc)
{
    list_remove(&cc->node);
    cc->h2 = h2_free(cc->h2);
    free(cc);
}

static void on_dead(void *arg, const struct err *why)
{
    (void)why;
    struct channel_conn *cc = arg;
    cc->dead = true;
    if (cc != cc->ch->now)
        conn_free(cc);
}

static const struct h2_handler h2_handler = {on_head, on_data, on_end, on_closed, on_drain, on_goaway, on_dead};

/* ---- channels ---- */

static int dial(struct rpc_channel *ch, usec_t deadline, struct err *err)
{
    struct conn *conn;
    int rc = ch->proxy ? proxy_dial(ch->loop, ch->proxy, ch->addr, ch->tls, ch->server_name, deadline, &conn, err)
                       : conn_dial(ch->loop, ch->addr, ch->tls, ch->server_name, deadline, &conn, err);
    if (rc < 0)
        return rc;
    if (ch->tls && strcmp(conn_alpn(conn), "h2") != 0) {
        (void)conn_close(conn);
        return err_set(err, ERR_UNIMPLEMENTED, "%s does not speak HTTP/2", ch->addr);
    }
    if (ch->closed) {
        (void)conn_close(conn);
        return err_set(err, ERR_UNAVAILABLE, "the channel was closed");
    }
    struct channel_conn *old = ch->now, *cc = NEW(struct channel_conn);
    list_init(&cc->node);
    list_push(&ch->conns, &cc->node);
    cc->ch = ch;
    cc->h2 = h2_new(conn, false, &h2_handler, cc);
    if (old)
        ch->keepalive = h2_keepalive_next(old->h2); /* a peer that it was too often for is pinged less from now on */
    h2_keepalive(cc->h2, ch->keepalive);
    ch->now = cc;
    if (old && old->dead)
        conn_free(old);
    return 0;
}

void channel_unref(struct rpc_channel *ch)
{
    if (--ch->refs > 0)
        return;
    event_release(&ch->dialled);
    (void)tls_ctx_unref(ch->tls);
    (void)proxy_unref(ch->proxy);
    (void)http_client_free(ch->http);
    free(ch->addr);
    free(ch->authority);
    free(ch->server_name);
    free(ch);
}

int rpc_channel_open_with(struct loop *loop, const struct rpc_dial *d, usec_t deadline, struct rpc_channel **ret, struct err *err)
{
    struct rpc_channel *ch = NEW(struct rpc_channel);
    ch->loop = loop;
    ch->refs = 1;
    ch->addr = str_dup(str_from(d->addr));
    ch->tls = d->tls ? tls_ctx_ref(d->tls) : NULL;
    ch->server_name = d->server_name ? str_dup(str_from(d->server_name)) : NULL;
    ch->proxy = d->proxy ? proxy_ref(d->proxy) : NULL;
    ch->keepalive = d->keepalive;
    struct str rest = str_from(d->authority ? d->authority : strncmp(d->addr, "unix:", 5) == 0 ? "localhost" : d->addr);
    ch->authority = str_dup(str_cut(&rest, ',')); /* of several addresses the first stands for all */
    list_init(&ch->conns);
    list_init(&ch->streams);
    list_init(&ch->sockets);
    event_init(&ch->dialled, loop);
    if (d->websocket) {
        ch->http = http_client_new(loop, ch->addr, ch->authority, ch->tls);
        if (ch->proxy)
            http_client_set_proxy(ch->http, ch->proxy);
    }
    int rc = d->websocket ? 0 : dial(ch, deadline, err);
    if (rc < 0)
        channel_unref(ch);
    else
        *ret = ch;
    return rc;
}

int rpc_channel_open(struct loop *loop, const char *addr, struct tls_ctx *tls, usec_t keepalive, usec_t deadline,
                     struct rpc_channel **ret, struct err *err)
{
    return rpc_channel_open_with(loop, &(struct rpc_dial){.addr = addr, .tls = tls, .keepalive = keepalive}, deadline, ret, err);
}

void rpc_channel_set_bearer(struct rpc_channel *ch, rpc_bearer *fn, void *arg)
{
    ch->bearer = fn;
    ch->bearer_arg = arg;
}

bool channel_outworn(const struct rpc_channel *ch)
{
    return ch->now && ch->now->goaway;
}

int channel_renew(struct rpc_channel *ch, usec_t deadline, struct err *err)
{
    usec_t limit = deadline_in(RENEW_TIMEOUT);
    int rc = 0;
    ch->refs++;
    if (ch->dialling) {
        rc = event_wait(&ch->dialled, deadline < limit ? deadline : limit);
        if (rc < 0)
            rc = err_set(err, (enum err_code) - rc, "no new connection in time");
    } else {
        ch->dialling = true;
        event_reset(&ch->dialled);
        rc = dial(ch, deadline < limit ? deadline : limit, err);
        ch->dialling = false;
        event_signal(&ch->dialled);
    }
    if (rc == 0 && ch->closed)
        rc = err_set(err, ERR_UNAVAILABLE, "the channel was closed");
    channel_unref(ch);
    return rc;
}

struct rpc_channel *rpc_channel_close(struct rpc_channel *ch)
{
    if (!ch)
        return NULL;
    ch->closed = true;
    struct list *node;
    while ((node = list_pop(&ch->streams)) != NULL) {
        struct rpc_stream *s = list_entry(node, struct rpc_stream, node);
        s->ch = NULL;
        stream_fail(s, ERR_UNAVAILABLE, "the channel was closed");
    }
    ws_out_cut_all(ch);
    ch->now = NULL;
    while ((node = list_pop(&ch->conns)) != NULL)
        conn_free(list_entry(node, struct channel_conn, node));
    channel_unref(ch);
    return NULL;
}

struct conn *rpc_channel_conn(const struct rpc_channel *ch)
{
    return ch->now ? h2_conn(ch->now->h2) : NULL;
}

usec_t rpc_channel_keepalive(const struct rpc_channel *ch)
{
    return ch->now ? h2_keepalive_next(ch->now->h2) : ch->keepalive;
}

bool rpc_channel_alive(const struct rpc_channel *ch)
{
    return ch->http ? !ch->closed : !ch->now->dead && h2_alive(ch->now->h2);
}
