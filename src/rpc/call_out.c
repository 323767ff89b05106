/* SPDX-License-Identifier: Apache-2.0 */
/* call_out — the answer of a call: messages in their envelopes, room, and metadata. */
#include "net/gzip.h"
#include "rpc/rpc_internal.h"

#define CONN_FULL_WAIT (20 * USEC_MSEC)

bool call_compresses(const struct rpc_call *c)
{
    return c->gzip_out && c->gzip_ok;
}

static int encode(const struct rpc_call *c, const ProtobufCMessage *message, struct buf *out)
{
    return c->json ? rpc_to_json(message, out, NULL) : rpc_pack(message, out);
}

int call_envelope(struct rpc_call *c, const ProtobufCMessage *message, struct buf *out)
{
    static const uint8_t prefix[FRAMES_PREFIX];
    int rc = buf_append(out, prefix, sizeof(prefix));
    if (rc == 0)
        rc = encode(c, message, out);
    return rc < 0 ? rc : frames_seal(out, call_compresses(c));
}

/* The body of a unary answer of Connect. */
static int put_bare(struct rpc_call *c, const ProtobufCMessage *message)
{
    AUTO_BUF plain = BUF_INIT(RPC_MESSAGE_MAX);
    int rc = encode(c, message, &plain);
    if (rc < 0)
        return rc;
    buf_clear(&c->body);
    c->sent++;
    c->gzip_out = c->gzip_out && plain.len > RPC_COMPRESS_MIN;
    return call_compresses(c) ? gzip_deflate(buf_str(&plain), &c->body) : buf_append_str(&c->body, buf_str(&plain));
}

/* May a message be sent at all? Its envelope into @out; nothing where a unary answer of Connect took it (1). */
static int prepare(struct rpc_call *c, const ProtobufCMessage *message, struct buf *out)
{
    if (!c->method->server_streams && c->sent)
        return -ERR_INTERNAL; /* a second answer where one is expected */
    if (c->protocol != RPC_CONNECT)
        return call_envelope(c, message, out);
    int rc = put_bare(c, message);
    return rc < 0 ? rc : 1;
}

/* Queues what prepare made. The caller has seen to room in the stream. 1: there is none in the connection. */
static int put(struct rpc_call *c, struct str envelope)
{
    int rc;
    if (c->ws) {
        rc = ws_link_send(c->ws, envelope);
        if (rc == -ERR_EXHAUSTED)
            return 1;
    } else if (c->http) {
        rc = buf_append_str(&c->body, envelope);
        c->head_sent = true;
        event_signal(&c->done);
    } else {
        rc = c->protocol == RPC_GRPC ? grpc_head(c) : connect_head(c);
        if (rc == 0)
            rc = h2_write(c->st, envelope);
        if (rc == -ERR_EXHAUSTED)
            return 1;
    }
    if (rc == 0)
        c->sent++;
    return rc;
}

/* Packs once, however often there is no room. */
int rpc_send(struct rpc_call *c, const ProtobufCMessage *message)
{
    AUTO_BUF out = BUF_INIT(RPC_MESSAGE_MAX + FRAMES_PREFIX);
    for (;;) {
        if (c->state == CALL_OVER || fiber_cancelled())
            return -ERR_CANCELLED;
        int rc = 0;
        if (rpc_stream_queued(c) > RPC_QUEUE_MAX) {
            event_reset(&c->room);
            rc = event_wait(&c->room, c->deadline);
        } else if (out.len == 0 && (rc = prepare(c, message, &out)) != 0) {
            return rc < 0 ? rc : 0;
        } else if ((rc = put(c, buf_str(&out))) != 1) {
            return rc;
        } else { /* other streams fill the connection; nothing tells when they do no longer */
            rc = fiber_sleep(CONN_FULL_WAIT);
        }
        if (rc < 0)
            return rc;
    }
}

int rpc_stream_send(struct rpc_call *c, const ProtobufCMessage *message)
{
    if (c->state == CALL_OVER || (!c->st && !c->ws))
        return -ERR_UNAVAILABLE;
    if (rpc_stream_queued(c) > RPC_QUEUE_MAX)
        return -ERR_EXHAUSTED;
    AUTO_BUF out = BUF_INIT(RPC_MESSAGE_MAX + FRAMES_PREFIX);
    int rc = prepare(c, message, &out);
    if (rc != 0)
        return rc < 0 ? -ERR_RANGE : 0;
    rc = put(c, buf_str(&out));
    return rc == 1 ? -ERR_EXHAUSTED : rc;
}

void call_drained(struct rpc_call *c)
{
    event_signal(&c->room);
    if (c->state == CALL_RUNNING && c->on_room)
        c->on_room(c->room_arg);
    if (c->state == CALL_STREAMING && c->handler->stream->drain)
        c->handler->stream->drain(c->stream_state);
}

void rpc_call_on_room(struct rpc_call *c, void (*fn)(void *arg), void *arg)
{
    c->on_room = fn;
    c->room_arg = arg;
}

size_t rpc_stream_queued(const struct rpc_call *c)
{
    if (c->ws)
        return ws_link_queued(c->ws);
    if (c->http)
        return c->protocol == RPC_CONNECT_STREAM ? c->body.len : 0;
    return c->st ? h2_queued(c->st) : 0;
}

/* ---- metadata ---- */

static int set_field(struct rpc_call *c, struct meta_out *m, const struct meta_out *other, const char *name, struct str value)
{
    if (c->state == CALL_OVER)
        return -ERR_PRECONDITION;
    if (m->n + other->n >= RPC_META_FIELDS_MAX)
        return -ERR_EXHAUSTED;
    m->max = RPC_ANSWER_META_MAX - other->size;
    return meta_add(m, name, value);
}

int rpc_call_set_header(struct rpc_call *c, const char *name, struct str value)
{
    return c->head_sent ? -ERR_PRECONDITION : set_field(c, &c->header, &c->trailer, name, value);
}

int rpc_call_set_trailer(struct rpc_call *c, const char *name, struct str value)
{
    return set_field(c, &c->trailer, &c->header, name, value);
}

void rpc_call_compress(struct rpc_call *c)
{
    if (!c->head_sent)
        c->gzip_out = true;
}
