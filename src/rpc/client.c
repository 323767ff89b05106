/* SPDX-License-Identifier: Apache-2.0 */
/* client — gRPC calls over one HTTP/2 connection, from fibers; see rpc.h.  Source: grpc/grpc doc/PROTOCOL-HTTP2.md. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/h2.h"
#include "rpc/details.h"
#include "rpc/frames.h"
#include "rpc/gzip.h"
#include "rpc/meta.h"
#include "rpc/rpc.h"
#include "rpc/status.h"

#define CONN_FULL_WAIT (20 * USEC_MSEC)

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
    struct rpc_meta header, trailer;
    bool got_head, over;
    bool compress;
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
        fail_stream(s, code, "the answer is none of gRPC (HTTP status %s)", s->http_status);
        return;
    }
    int rc = status_from_trailers(status, h2_head_get(head, "grpc-message"), h2_head_get(head, "davit-hint"), &s->status);
    if (rc == 0 && head->too_big)
        (void)err_set(&s->status, ERR_EXHAUSTED, "the trailers are over the limit");
    take_meta(&s->trailer, head);
    AUTO_BUF details = BUF_INIT(H2_HEAD_MAX);
    if (rc < 0 && rpc_meta_bin(&s->trailer, "grpc-status-details-bin", 0, &details) == 0)
        details_read(buf_str(&details), &s->status);
    h2_release(s->st);
    end_stream(s);
}

/* The first head, with something behind it: what it says of the end is not looked at. */
static void got_first(struct rpc_stream *s, struct h2_head *head)
{
    const char *type = h2_head_get(head, "content-type"), *encoding = h2_head_get(head, "grpc-encoding");
    if (strcmp(s->http_status, "200") != 0)
        fail_stream(s, status_from_http(s->http_status), "HTTP status %s", s->http_status);
    else if (!type || strncmp(type, "application/grpc", 16) != 0)
        fail_stream(s, ERR_UNKNOWN, "the answer is none of gRPC");
    else if (head->too_big)
        fail_stream(s, ERR_EXHAUSTED, "the head of the answer is over the limit");
    else if (encoding && strcmp(encoding, "gzip") != 0 && strcmp(encoding, "identity") != 0)
        fail_stream(s, ERR_INTERNAL, "the answer is compressed in a way that was not offered");
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

enum { OWN_FIELDS = 12 };

static int start(struct rpc_stream *s, const char *service, const struct meta_out *meta, struct err *err)
{
    AUTO_FREE char *path = str_printf("/%s/%s", service, s->method->name);
    char timeout[TIMEOUT_TEXT_SIZE];
    struct h2_field fields[OWN_FIELDS + RPC_META_FIELDS_MAX];
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
    if (s->compress)
        fields[n++] = (struct h2_field){"grpc-encoding", "gzip"};
    fields[n++] = (struct h2_field){"grpc-accept-encoding", "identity,gzip"};
    fields[n++] = (struct h2_field){"user-agent", "davit/" DAVIT_VERSION};
    n = meta_fields(meta, fields, n);
    if (h2_request(s->ch->h2, fields, n, &s->st) < 0)
        return err_set(err, ERR_UNAVAILABLE, "the connection takes no new calls");
    h2_set_user(s->st, s);
    return 0;
}

static int own_metadata(struct meta_out *m, const struct rpc_options *options, struct err *err)
{
    for (size_t i = 0; i < options->n_metadata; i++) {
        const struct rpc_field *f = &options->metadata[i];
        int rc = meta_add(m, f->name, f->value);
        if (rc == -ERR_INVALID)
            return err_set(err, ERR_INVALID, "the field %s may not be sent as metadata", f->name);
        if (rc < 0)
            return err_set(err, ERR_EXHAUSTED, "the metadata is over the limit of %d bytes", RPC_REQUEST_META_MAX);
    }
    return 0;
}

int rpc_stream_open_with(struct rpc_channel *ch, const struct rpc_service *service, const char *method,
                         const struct rpc_options *options, struct rpc_stream **ret, struct err *err)
{
    const struct rpc_method *m = find_method(service, method);
    BUG_ON(!m);
    struct rpc_stream *s = NEW(struct rpc_stream);
    struct meta_out meta;
    meta_out_init(&meta, RPC_REQUEST_META_MAX);
    s->ch = ch;
    s->loop = ch->loop;
    s->method = m;
    s->deadline = options->deadline;
    s->compress = options->compress;
    list_init(&s->node);
    frames_init(&s->in);
    event_init(&s->readable, ch->loop);
    event_init(&s->room, ch->loop);
    timer_init(&s->timer, ch->loop, on_deadline, s);
    int rc = own_metadata(&meta, options, err);
    if (rc == 0)
        rc = start(s, service->name, &meta, err);
    meta_out_release(&meta);
    if (rc < 0) {
        s->over = true;
        (void)rpc_stream_close(s);
        return rc;
    }
    list_push(&ch->streams, &s->node);
    timer_set_at(&s->timer, s->deadline);
    *ret = s;
    return 0;
}

int rpc_stream_open(struct rpc_channel *ch, const struct rpc_service *service, const char *method, usec_t deadline,
                    struct rpc_stream **ret, struct err *err)
{
    return rpc_stream_open_with(ch, service, method, &(struct rpc_options){.deadline = deadline}, ret, err);
}

const struct rpc_meta *rpc_stream_header(const struct rpc_stream *s)
{
    return &s->header;
}

const struct rpc_meta *rpc_stream_trailer(const struct rpc_stream *s)
{
    return &s->trailer;
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
    rpc_meta_release(&s->header);
    rpc_meta_release(&s->trailer);
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

/* One message of @n bytes in its envelope. */
static int pack(const struct rpc_stream *s, const ProtobufCMessage *message, size_t n, struct buf *out)
{
    uint8_t prefix[FRAMES_PREFIX] = {0}, flags = 0;
    int rc = buf_append(out, prefix, sizeof(prefix));
    if (rc == 0 && s->compress && n > RPC_COMPRESS_MIN) {
        AUTO_BUF plain = BUF_INIT(RPC_MESSAGE_MAX);
        flags = FRAMES_COMPRESSED;
        rc = rpc_pack(message, &plain);
        if (rc == 0)
            rc = gzip_deflate(buf_str(&plain), out);
    } else if (rc == 0) {
        rc = rpc_pack(message, out);
    }
    if (rc < 0)
        return rc;
    frames_prefix(out->len - FRAMES_PREFIX, flags, prefix);
    memcpy(out->data, prefix, sizeof(prefix));
    return 0;
}

/* Until the stream may have more. 0, or why not. */
static int wait_room(struct rpc_stream *s, usec_t deadline, struct err *err)
{
    while (!s->over && h2_queued(s->st) > RPC_QUEUE_MAX) {
        event_reset(&s->room);
        int rc = event_wait(&s->room, deadline);
        if (rc < 0)
            return err_set(err, (enum err_code) - rc, "the peer takes no more messages now");
    }
    if (s->over)
        return s->status.code ? report(s, err) : err_set(err, ERR_UNAVAILABLE, "the call has ended");
    return 0;
}

int rpc_stream_put(struct rpc_stream *s, const ProtobufCMessage *message, usec_t deadline, struct err *err)
{
    AUTO_BUF out = BUF_INIT(RPC_MESSAGE_MAX + FRAMES_PREFIX + RPC_COMPRESS_MIN);
    size_t n = protobuf_c_message_get_packed_size(message);
    int rc = wait_room(s, deadline, err);
    if (rc < 0)
        return rc;
    if (n > RPC_MESSAGE_MAX || pack(s, message, n, &out) < 0)
        return err_set(err, ERR_EXHAUSTED, "a message of %zu bytes is over the limit of %d", n, RPC_MESSAGE_MAX);
    while ((rc = wait_room(s, deadline, err)) == 0 && (rc = h2_write(s->st, buf_str(&out))) == -ERR_EXHAUSTED) {
        /* Other streams fill the connection; nothing tells when they do no longer. */
        rc = clock_mono() >= deadline ? -ERR_DEADLINE : fiber_sleep(CONN_FULL_WAIT);
        if (rc < 0)
            return err_set(err, (enum err_code) - rc, "the connection takes no more messages now");
    }
    return err_ensure(err, rc);
}

void rpc_stream_half_close(struct rpc_stream *s)
{
    if (s->st)
        h2_finish(s->st, NULL, 0);
}

static int unpack(const struct rpc_stream *s, struct str bytes, ProtobufCMessage **ret, struct err *err)
{
    if (!(s->in.flags & FRAMES_COMPRESSED))
        return rpc_unpack(s->method->output, bytes, ret, err);
    AUTO_BUF plain = BUF_INIT(RPC_MESSAGE_MAX + 1);
    int rc = gzip_inflate(bytes, RPC_MESSAGE_MAX, &plain, err);
    return rc < 0 ? rc : rpc_unpack(s->method->output, buf_str(&plain), ret, err);
}

int rpc_stream_get(struct rpc_stream *s, usec_t deadline, ProtobufCMessage **ret, struct err *err)
{
    struct err bad = ERR_INIT;
    for (;;) {
        struct str bytes;
        int rc = frames_take(&s->in, &bytes, &bad);
        if (rc > 0)
            rc = unpack(s, bytes, ret, &bad) < 0 ? -1 : 1;
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

/* The one answer of a unary call, and its end. */
static int one_answer(struct rpc_stream *s, usec_t deadline, ProtobufCMessage **ret, struct err *err)
{
    ProtobufCMessage *extra = NULL;
    int rc = rpc_stream_get(s, deadline, ret, err);
    if (rc == 1)
        return err_set(err, ERR_UNIMPLEMENTED, "the call ended without an answer");
    if (rc < 0)
        return rc;
    rc = rpc_stream_get(s, deadline, &extra, err);
    if (rc == 1)
        return 0;
    if (rc == 0)
        rc = err_set(err, ERR_UNIMPLEMENTED, "more than one answer");
    (void)rpc_message_free(extra);
    *ret = rpc_message_free(*ret);
    return rc;
}

static void give_meta(struct rpc_meta *to, struct rpc_meta *from)
{
    if (!to)
        return;
    *to = *from;
    *from = (struct rpc_meta){0};
}

int rpc_unary_with(struct rpc_channel *ch, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
                   const struct rpc_options *options, ProtobufCMessage **ret, struct err *err)
{
    struct rpc_stream *s;
    ProtobufCMessage *answer = NULL;
    give_meta(options->header, &(struct rpc_meta){0});
    give_meta(options->trailer, &(struct rpc_meta){0});
    int rc = rpc_stream_open_with(ch, service, method, options, &s, err);
    if (rc < 0)
        return rc;
    rc = rpc_stream_put(s, request, options->deadline, err);
    rpc_stream_half_close(s);
    if (rc == 0)
        rc = one_answer(s, options->deadline, &answer, err);
    give_meta(options->header, &s->header);
    give_meta(options->trailer, &s->trailer);
    (void)rpc_stream_close(s);
    if (rc == 0)
        *ret = answer;
    return rc;
}

int rpc_unary(struct rpc_channel *ch, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
              usec_t deadline, ProtobufCMessage **ret, struct err *err)
{
    return rpc_unary_with(ch, service, method, request, &(struct rpc_options){.deadline = deadline}, ret, err);
}
