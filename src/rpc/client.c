/* SPDX-License-Identifier: Apache-2.0 */
/* client — gRPC calls over one HTTP/2 connection, from fibers; see rpc.h.  Source: grpc/grpc doc/PROTOCOL-HTTP2.md. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/h2.h"
#include "rpc/frames.h"
#include "rpc/rpc.h"
#include "rpc/status.h"

struct rpc_channel {
    struct loop *loop;
    struct h2 *h2;
    char *authority;
    bool tls;
    bool dead;
    struct list streams;
};

struct rpc_stream {
    struct list node;
    struct rpc_channel *ch; /* NULL when it was closed before us */
    struct loop *loop;
    struct h2_stream *st; /* NULL when over */
    const struct rpc_method *method;
    usec_t deadline;
    struct timer timer;
    struct frames in;
    struct event readable, room;
    bool got_head, over;
    char http_status[4];
    struct err status; /* code ERR_OK: ended well */
};

/* ---- the end of a stream ---- */

static void end_stream(struct rpc_stream *s)
{
    s->over = true;
    s->st = NULL;
    timer_stop(&s->timer);
    event_signal(&s->readable);
    event_signal(&s->room);
}

static void __attribute__((format(printf, 3, 4))) fail_stream(struct rpc_stream *s, enum err_code code, const char *fmt, ...)
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
    end_stream(s);
}

static void on_deadline(void *arg)
{
    fail_stream(arg, ERR_DEADLINE, "no answer in time");
}

/* ---- what the connection tells ---- */

/* Trailers, also those that came as the only head. */
static void got_trailers(struct rpc_stream *s, const struct h2_head *head)
{
    const char *status = h2_head_get(head, "grpc-status");
    if (!status) {
        enum err_code code = s->http_status[0] ? status_from_http(s->http_status) : ERR_UNKNOWN;
        fail_stream(s, code, "the answer is none of gRPC (HTTP status %s)", s->http_status);
        return;
    }
    int rc = status_from_trailers(status, h2_head_get(head, "grpc-message"), h2_head_get(head, "davit-hint"), &s->status);
    if (rc == 0 && head->too_big)
        (void)err_set(&s->status, ERR_EXHAUSTED, "the trailers are over the limit");
    h2_release(s->st);
    end_stream(s);
}

static void on_head(void *arg, struct h2_stream *st, struct h2_head *head, bool end)
{
    (void)arg;
    struct rpc_stream *s = h2_user(st);
    if (!s)
        return;
    if (!s->got_head) {
        s->got_head = true;
        const char *status = h2_head_get(head, ":status"), *type = h2_head_get(head, "content-type");
        (void)str_copy(s->http_status, sizeof(s->http_status), str_from(status));
        if (!end && strcmp(s->http_status, "200") != 0)
            fail_stream(s, status_from_http(s->http_status), "HTTP status %s", s->http_status);
        else if (!end && (!type || strncmp(type, "application/grpc", 16) != 0))
            fail_stream(s, ERR_UNKNOWN, "the answer is none of gRPC");
        else if (end)
            got_trailers(s, head);
        return;
    }
    if (end)
        got_trailers(s, head);
    else
        fail_stream(s, ERR_INTERNAL, "the answer has a second head");
}

static void on_data(void *arg, struct h2_stream *st, struct str bytes)
{
    (void)arg;
    struct rpc_stream *s = h2_user(st);
    if (!s)
        return;
    struct err err = ERR_INIT;
    if (frames_add(&s->in, bytes, &err) < 0) {
        fail_stream(s, err.code, "%s", err.msg);
        return;
    }
    h2_consume(st, frames_settle(&s->in));
    event_signal(&s->readable);
}

static void on_end(void *arg, struct h2_stream *st)
{
    (void)arg;
    struct rpc_stream *s = h2_user(st);
    if (s)
        fail_stream(s, s->http_status[0] ? status_from_http(s->http_status) : ERR_UNKNOWN, "the answer ended without a status");
}

static void on_closed(void *arg, struct h2_stream *st, uint32_t code)
{
    struct rpc_channel *ch = arg;
    struct rpc_stream *s = h2_user(st);
    if (!s)
        return;
    s->st = NULL;
    if (code == H2_CANCEL && clock_mono() >= s->deadline)
        fail_stream(s, ERR_DEADLINE, "no answer in time");
    else if (ch->dead || !h2_alive(ch->h2))
        fail_stream(s, ERR_UNAVAILABLE, "the connection was lost");
    else
        fail_stream(s, status_from_reset(code), "the peer cut the call (HTTP/2 code %u)", code);
}

static void on_drain(void *arg, struct h2_stream *st)
{
    (void)arg;
    struct rpc_stream *s = h2_user(st);
    if (s)
        event_signal(&s->room);
}

static void on_dead(void *arg, const struct err *why)
{
    (void)why;
    struct rpc_channel *ch = arg;
    ch->dead = true;
}

static const struct h2_handler h2_handler = {on_head, on_data, on_end, on_closed, on_drain, NULL, on_dead};

/* ---- channels ---- */

int rpc_channel_open(struct loop *loop, const char *addr, struct tls_ctx *tls, usec_t keepalive, usec_t deadline,
                     struct rpc_channel **ret, struct err *err)
{
    struct conn *conn;
    int rc = conn_dial(loop, addr, tls, NULL, deadline, &conn, err);
    if (rc < 0)
        return rc;
    if (tls && strcmp(conn_alpn(conn), "h2") != 0) {
        (void)conn_close(conn);
        return err_set(err, ERR_UNIMPLEMENTED, "%s does not speak HTTP/2", addr);
    }
    struct rpc_channel *ch = NEW(struct rpc_channel);
    ch->loop = loop;
    ch->tls = tls != NULL;
    ch->authority = str_dup(str_from(strncmp(addr, "unix:", 5) == 0 ? "localhost" : addr));
    list_init(&ch->streams);
    ch->h2 = h2_new(conn, false, &h2_handler, ch);
    h2_keepalive(ch->h2, keepalive);
    *ret = ch;
    return 0;
}

struct rpc_channel *rpc_channel_close(struct rpc_channel *ch)
{
    if (!ch)
        return NULL;
    struct list *node;
    while ((node = list_pop(&ch->streams)) != NULL) {
        struct rpc_stream *s = list_entry(node, struct rpc_stream, node);
        s->ch = NULL;
        fail_stream(s, ERR_UNAVAILABLE, "the channel was closed");
    }
    ch->h2 = h2_free(ch->h2);
    free(ch->authority);
    free(ch);
    return NULL;
}

struct conn *rpc_channel_conn(const struct rpc_channel *ch)
{
    return h2_conn(ch->h2);
}

bool rpc_channel_alive(const struct rpc_channel *ch)
{
    return !ch->dead && h2_alive(ch->h2);
}

/* ---- streams ---- */

static const struct rpc_method *find_method(const struct rpc_service *service, const char *name)
{
    for (size_t i = 0; i < service->n_methods; i++)
        if (strcmp(service->methods[i].name, name) == 0)
            return &service->methods[i];
    return NULL;
}

static int start(struct rpc_stream *s, const char *service, struct err *err)
{
    AUTO_FREE char *path = str_printf("/%s/%s", service, s->method->name);
    char timeout[TIMEOUT_TEXT_SIZE];
    struct h2_field fields[8];
    size_t n = 0;
    fields[n++] = (struct h2_field){":method", "POST"};
    fields[n++] = (struct h2_field){":scheme", s->ch->tls ? "https" : "http"};
    fields[n++] = (struct h2_field){":authority", s->ch->authority};
    fields[n++] = (struct h2_field){":path", path};
    if (s->deadline != USEC_INFINITY) {
        usec_t now = clock_mono();
        if (now >= s->deadline)
            return err_set(err, ERR_DEADLINE, "no time is left for the call");
        status_format_timeout(s->deadline - now, timeout);
        fields[n++] = (struct h2_field){"grpc-timeout", timeout};
    }
    fields[n++] = (struct h2_field){"te", "trailers"};
    fields[n++] = (struct h2_field){"content-type", "application/grpc+proto"};
    fields[n++] = (struct h2_field){"user-agent", "davit/" DAVIT_VERSION};
    if (h2_request(s->ch->h2, fields, n, &s->st) < 0)
        return err_set(err, ERR_UNAVAILABLE, "the connection takes no new calls");
    h2_set_user(s->st, s);
    return 0;
}

int rpc_stream_open(struct rpc_channel *ch, const struct rpc_service *service, const char *method, usec_t deadline,
                    struct rpc_stream **ret, struct err *err)
{
    const struct rpc_method *m = find_method(service, method);
    BUG_ON(!m);
    struct rpc_stream *s = NEW(struct rpc_stream);
    s->ch = ch;
    s->loop = ch->loop;
    s->method = m;
    s->deadline = deadline;
    list_init(&s->node);
    frames_init(&s->in);
    event_init(&s->readable, ch->loop);
    event_init(&s->room, ch->loop);
    timer_init(&s->timer, ch->loop, on_deadline, s);
    int rc = start(s, service->name, err);
    if (rc < 0) {
        s->over = true;
        (void)rpc_stream_close(s);
        return rc;
    }
    list_push(&ch->streams, &s->node);
    timer_set_at(&s->timer, deadline);
    *ret = s;
    return 0;
}

struct rpc_stream *rpc_stream_close(struct rpc_stream *s)
{
    if (!s)
        return NULL;
    list_remove(&s->node);
    timer_stop(&s->timer);
    if (s->st)
        h2_reset(s->st, H2_CANCEL);
    frames_release(&s->in);
    event_release(&s->readable);
    event_release(&s->room);
    free(s);
    return NULL;
}

static int report(const struct rpc_stream *s, struct err *err)
{
    if (err)
        *err = s->status;
    return -(int)s->status.code;
}

int rpc_stream_put(struct rpc_stream *s, const ProtobufCMessage *message, usec_t deadline, struct err *err)
{
    while (!s->over && h2_queued(s->st) > RPC_QUEUE_MAX) {
        event_reset(&s->room);
        int rc = event_wait(&s->room, deadline);
        if (rc < 0)
            return err_set(err, (enum err_code) - rc, "the peer takes no more messages now");
    }
    if (s->over)
        return s->status.code ? report(s, err) : err_set(err, ERR_UNAVAILABLE, "the call has ended");
    uint8_t prefix[FRAMES_PREFIX];
    AUTO_BUF out = BUF_INIT(RPC_MESSAGE_MAX + FRAMES_PREFIX);
    size_t n = protobuf_c_message_get_packed_size(message);
    frames_prefix(n, prefix);
    if (n > RPC_MESSAGE_MAX || buf_append(&out, prefix, sizeof(prefix)) < 0 || rpc_pack(message, &out) < 0)
        return err_set(err, ERR_EXHAUSTED, "a message of %zu bytes is over the limit of %d", n, RPC_MESSAGE_MAX);
    int rc = h2_write(s->st, buf_str(&out));
    return rc < 0 ? err_set(err, (enum err_code) - rc, "the message could not be queued") : 0;
}

void rpc_stream_half_close(struct rpc_stream *s)
{
    if (s->st)
        h2_finish(s->st, NULL, 0);
}

int rpc_stream_get(struct rpc_stream *s, usec_t deadline, ProtobufCMessage **ret, struct err *err)
{
    struct err bad = ERR_INIT;
    for (;;) {
        struct str bytes;
        int rc = frames_take(&s->in, &bytes, &bad);
        if (rc > 0)
            rc = rpc_unpack(s->method->output, bytes, ret, &bad) < 0 ? -1 : 1;
        if (rc < 0) {
            fail_stream(s, bad.code == ERR_INVALID ? ERR_INTERNAL : bad.code, "the answer: %s", bad.msg);
            if (err)
                *err = bad;
            return -(int)bad.code;
        }
        if (rc > 0) {
            if (s->st)
                h2_consume(s->st, frames_settle(&s->in));
            return 0;
        }
        if (s->over && s->status.code == ERR_OK && !frames_empty(&s->in))
            return err_set(err, ERR_INTERNAL, "the answer ends inside a message");
        if (s->over)
            return s->status.code ? report(s, err) : 1;
        event_reset(&s->readable);
        rc = event_wait(&s->readable, deadline);
        if (rc < 0)
            return err_set(err, (enum err_code) - rc, "no message came in time");
    }
}

int rpc_unary(struct rpc_channel *ch, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
              usec_t deadline, ProtobufCMessage **ret, struct err *err)
{
    struct rpc_stream *s;
    ProtobufCMessage *answer = NULL, *extra = NULL;
    int rc = rpc_stream_open(ch, service, method, deadline, &s, err);
    if (rc < 0)
        return rc;
    rc = rpc_stream_put(s, request, deadline, err);
    rpc_stream_half_close(s);
    if (rc == 0)
        rc = rpc_stream_get(s, deadline, &answer, err);
    if (rc == 1)
        rc = err_set(err, ERR_INTERNAL, "the call ended without an answer");
    if (rc == 0)
        rc = rpc_stream_get(s, deadline, &extra, err);
    if (rc == 0)
        rc = err_set(err, ERR_INTERNAL, "more than one answer");
    (void)rpc_message_free(extra);
    (void)rpc_stream_close(s);
    if (rc < 0) {
        (void)rpc_message_free(answer);
        return rc;
    }
    *ret = answer;
    return 0;
}
