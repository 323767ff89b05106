/* SPDX-License-Identifier: Apache-2.0 */
/* client — calls from fibers, by gRPC or a WebSocket each; see rpc.h.  Source: grpc/grpc doc/PROTOCOL-HTTP2.md. */
#include <string.h>

#include "base/mem.h"
#include "net/gzip.h"
#include "rpc/client_internal.h"
#include "rpc/meta.h"
#include "rpc/status.h"

#define CONN_FULL_WAIT (20 * USEC_MSEC)

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
    if (h2_request(s->ch->now->h2, fields, n, &s->st) < 0)
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

/* Waits, if the token has to be asked for first. */
static int show_bearer(struct rpc_channel *ch, usec_t deadline, struct meta_out *m, struct err *err)
{
    const char *token = NULL;
    if (!ch->bearer)
        return 0;
    ch->refs++;
    int rc = ch->bearer(ch->bearer_arg, ch, deadline, &token, err);
    if (rc == 0 && ch->closed)
        rc = err_set(err, ERR_UNAVAILABLE, "the channel was closed");
    channel_unref(ch);
    if (rc < 0 || !token)
        return rc;
    AUTO_FREE char *value = str_printf("Bearer %s", token);
    rc = meta_add(m, "authorization", str_from(value)) < 0 ? err_set(err, ERR_INVALID, "the token cannot be shown") : 0;
    explicit_bzero(value, strlen(value));
    return rc;
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
    s->method = m;
    s->deadline = options->deadline;
    s->compress = options->compress;
    list_init(&s->node);
    frames_init(&s->in);
    event_init(&s->readable, ch->loop);
    event_init(&s->room, ch->loop);
    timer_init(&s->timer, ch->loop, stream_on_deadline, s);
    int rc = own_metadata(&meta, options, err);
    if (rc == 0)
        rc = show_bearer(ch, options->deadline, &meta, err);
    if (rc == 0)
        rc = ch->http ? ws_out_open(s, service->name, &meta, err) : start(s, service->name, &meta, err);
    meta_out_release(&meta);
    if (rc < 0) {
        s->over = true;
        (void)rpc_stream_close(s);
        return rc;
    }
    if (!s->over)
        list_push(&ch->streams, &s->node);
    if (!s->over)
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

bool rpc_stream_told(const struct rpc_stream *s)
{
    return s->told;
}

struct rpc_stream *rpc_stream_close(struct rpc_stream *s)
{
    if (!s)
        return NULL;
    list_remove(&s->node);
    timer_stop(&s->timer);
    if (s->st)
        h2_reset(s->st, H2_CANCEL);
    if (s->out)
        ws_out_release(s->out);
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

/* One message in its envelope. */
static int pack(const struct rpc_stream *s, const ProtobufCMessage *message, struct buf *out)
{
    static const uint8_t prefix[FRAMES_PREFIX];
    int rc = buf_append(out, prefix, sizeof(prefix));
    if (rc == 0)
        rc = rpc_pack(message, out);
    return rc < 0 ? rc : frames_seal(out, s->compress && !s->out);
}

static size_t queued(const struct rpc_stream *s)
{
    return s->out ? ws_out_queued(s->out) : h2_queued(s->st);
}

/* Until the stream may have more. 0, or why not. */
static int wait_room(struct rpc_stream *s, usec_t deadline, struct err *err)
{
    while (!s->over && queued(s) > RPC_QUEUE_MAX) {
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
    AUTO_BUF out = BUF_INIT(RPC_MESSAGE_MAX + FRAMES_PREFIX);
    size_t n = protobuf_c_message_get_packed_size(message);
    int rc = wait_room(s, deadline, err);
    if (rc < 0)
        return rc;
    if (n > RPC_MESSAGE_MAX || pack(s, message, &out) < 0)
        return err_set(err, ERR_EXHAUSTED, "a message of %zu bytes is over the limit of %d", n, RPC_MESSAGE_MAX);
    while ((rc = wait_room(s, deadline, err)) == 0 &&
           (rc = s->out ? ws_out_send(s->out, buf_str(&out)) : h2_write(s->st, buf_str(&out))) == -ERR_EXHAUSTED) {
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
    if (s->out)
        ws_out_finish(s->out);
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
            if (bad.code == ERR_INVALID)
                bad.code = ERR_INTERNAL;
            stream_fail(s, bad.code, "the answer: %s", bad.msg);
            if (err)
                *err = bad;
            return -(int)bad.code;
        }
        if (rc > 0) {
            if (s->st)
                h2_consume(s->st, frames_settle(&s->in));
            if (s->out)
                ws_out_taken(s->out);
            return 0;
        }
        if (s->over && s->status.code == ERR_OK && !frames_empty(&s->in))
            return err_set(err, ERR_INTERNAL, "the answer ends inside a message");
        if (s->over)
            return s->status.code ? report(s, err) : 1;
        event_reset(&s->readable);
        rc = event_wait(&s->readable, deadline);
        if (rc == 0 && s->woken)
            rc = -ERR_DEADLINE;
        s->woken = false;
        if (rc < 0)
            return err_set(err, (enum err_code) - rc, "no message came in time");
    }
}

void rpc_stream_wake(struct rpc_stream *s)
{
    s->woken = true;
    event_signal(&s->readable);
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

/* One attempt. 0, negative, or 1: the peer did nothing of it, and what it said is in @err. */
static int attempt(struct rpc_channel *ch, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
                   const struct rpc_options *options, ProtobufCMessage **ret, struct err *err)
{
    struct rpc_stream *s;
    ProtobufCMessage *answer = NULL;
    int rc = rpc_stream_open_with(ch, service, method, options, &s, err);
    if (rc < 0)
        return rc == -ERR_UNAVAILABLE ? 1 : rc;
    rc = rpc_stream_put(s, request, options->deadline, err);
    rpc_stream_half_close(s);
    if (rc == 0)
        rc = one_answer(s, options->deadline, &answer, err);
    give_meta(options->header, &s->header);
    give_meta(options->trailer, &s->trailer);
    bool refused = s->refused;
    (void)rpc_stream_close(s);
    if (rc == 0)
        *ret = answer;
    return rc < 0 && refused ? 1 : rc;
}

int rpc_unary_with(struct rpc_channel *ch, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
                   const struct rpc_options *options, ProtobufCMessage **ret, struct err *err)
{
    struct err own = ERR_INIT;
    err = err ? err : &own;
    give_meta(options->header, &(struct rpc_meta){0});
    give_meta(options->trailer, &(struct rpc_meta){0});
    ch->refs++;
    int rc = attempt(ch, service, method, request, options, ret, err);
    if (rc == 1 && !ch->closed && !ch->http && (channel_outworn(ch) || rpc_channel_alive(ch))) {
        rc = rpc_channel_alive(ch) ? 0 : channel_renew(ch, options->deadline, err);
        if (rc == 0 && !ch->closed)
            rc = attempt(ch, service, method, request, options, ret, err);
    }
    channel_unref(ch);
    return rc == 1 ? -(int)err->code : rc;
}

int rpc_unary(struct rpc_channel *ch, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
              usec_t deadline, ProtobufCMessage **ret, struct err *err)
{
    return rpc_unary_with(ch, service, method, request, &(struct rpc_options){.deadline = deadline}, ret, err);
}
