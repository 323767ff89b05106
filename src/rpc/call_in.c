/* SPDX-License-Identifier: Apache-2.0 */
/* call_in — the request of a call: bytes become messages, for a handler that wants one, for one that reads, and for one without a stack. */
#include "net/gzip.h"
#include "rpc/rpc_internal.h"

#define READ_TIMEOUT (60 * USEC_SEC) /* for the rest of a request that was refused */

/* What waits of requests may be from anybody: counted for all of them together, until their memory goes. @total: what this one has now.
 * Strangers share a part of it, so that they take nothing from those who are known. */
static int keep(struct rpc_call *c, size_t total, struct err *err)
{
    struct rpc_server *s = c->server;
    size_t all = s->limits.held ? s->limits.held : RPC_HELD_MAX, left = all > s->held ? all - s->held : 0;
    size_t strangers = RPC_HELD_STRANGERS_MAX - s->held_strangers;
    if (total > c->held && total - c->held > (c->stranger && strangers < left ? strangers : left)) {
        s->calls_refused++;
        return err_set(err, ERR_UNAVAILABLE, "too many requests at once");
    }
    s->held += total - c->held;
    s->held_strangers += c->stranger ? total - c->held : 0;
    c->held = total;
    return 0;
}

static int hold(struct rpc_call *c, size_t total, struct err *err)
{
    return c->http ? 0 : keep(c, total, err); /* HTTP/1.1: counted where it was collected */
}

/* What the peer wrote wrongly, in the words of its protocol: limits keep their code. */
static int blame(const struct rpc_call *c, struct err *err, int rc)
{
    if (c->protocol == RPC_GRPC && rc == -ERR_INVALID)
        err->code = ERR_INTERNAL;
    else if (c->protocol != RPC_GRPC && rc == -ERR_INTERNAL)
        err->code = ERR_INVALID;
    return -(int)err->code;
}

static int parse(const struct rpc_call *c, struct str bytes, ProtobufCMessage **ret, size_t *ret_cost, struct err *err)
{
    return (c->json ? message_from_json : message_unpack)(c->method->input, bytes, ret, ret_cost, err);
}

static int decode(struct rpc_call *c, struct str bytes, bool packed, ProtobufCMessage **ret, size_t *ret_cost, struct err *err)
{
    if (!packed)
        return blame(c, err, parse(c, bytes, ret, ret_cost, err));
    AUTO_BUF plain = BUF_INIT(RPC_MESSAGE_MAX + 1);
    int rc = gzip_inflate(bytes, c->in.max, &plain, err);
    if (rc == 0 && c->state == CALL_READING)
        rc = hold(c, c->held + plain.len, err);
    if (rc == 0)
        rc = parse(c, buf_str(&plain), ret, ret_cost, err);
    return blame(c, err, rc);
}

static void got_message(struct rpc_call *c, struct str bytes, bool packed)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    size_t cost = 0;
    if (c->request)
        (void)err_set(&err, ERR_UNIMPLEMENTED, "more than one message where one is expected");
    else
        (void)decode(c, bytes, packed, &m, &cost, &err);
    if (!err.code && c->state != CALL_STREAMING) { /* from here on it is the unpacked message that takes memory */
        c->request = m;
        frames_trim(&c->in);
        buf_release(&c->body);
        if (keep(c, cost + frames_waiting(&c->in), &err) == 0)
            return;
    }
    if (err.code) {
        call_end(c, &err);
        return;
    }
    c->handler->stream->message(c->stream_state, m);
    (void)rpc_message_free(m);
}

void call_refuse(struct rpc_call *c, const struct err *failure)
{
    c->refused = true;
    c->reason = *failure;
    timer_set(&c->timer, READ_TIMEOUT);
}

/* The body of a call that was refused: counted and thrown away. */
static void pass_over(struct rpc_call *c, size_t n)
{
    c->in.owed += n;
    if (c->in.owed > RPC_MESSAGE_MAX)
        call_half_close(c);
    else
        h2_consume(c->st, n);
}

static void bare_data(struct rpc_call *c, struct str bytes)
{
    struct err err = ERR_INIT;
    if (c->state == CALL_READING && (c->body.len + bytes.n > c->in.max || buf_append_str(&c->body, bytes) < 0)) {
        (void)err_set(&err, ERR_EXHAUSTED, "a message over the limit of %zu bytes", c->in.max);
        if (c->st)
            call_refuse(c, &err);
        else
            call_end(c, &err);
    }
    if (c->st)
        h2_consume(c->st, bytes.n);
}

/* What was taken in makes room for more, or nothing more is read until it was. */
static void settle(struct rpc_call *c)
{
    size_t n = frames_settle(&c->in);
    if (c->st)
        h2_consume(c->st, n);
    if (c->ws)
        ws_link_hold(c->ws, c->reads && !frames_empty(&c->in));
}

static void framed_data(struct rpc_call *c, struct str bytes)
{
    struct err err = ERR_INIT;
    struct str message;
    int rc = frames_add(&c->in, bytes, &err);
    while (rc >= 0 && !c->reads && c->state != CALL_OVER && (rc = frames_take(&c->in, &message, &err)) > 0)
        got_message(c, message, c->in.flags & FRAMES_COMPRESSED);
    if (c->state == CALL_OVER)
        return;
    if (rc >= 0 && c->state != CALL_READING)
        rc = hold(c, frames_waiting(&c->in), &err);
    if (rc < 0) {
        (void)blame(c, &err, rc);
        call_end(c, &err);
        return;
    }
    event_signal(&c->readable);
    settle(c);
}

void call_data(struct rpc_call *c, struct str bytes)
{
    struct err err = ERR_INIT;
    if (c->refused) {
        pass_over(c, bytes.n);
    } else if (c->state == CALL_READING && hold(c, c->held + bytes.n, &err) < 0) {
        call_end(c, &err);
    } else if (c->protocol == RPC_PAGE) {
        page_data(c, bytes);
    } else if (c->get) {
        if (c->st) /* what it carries has no meaning */
            h2_consume(c->st, bytes.n);
    } else if (c->protocol == RPC_CONNECT) {
        bare_data(c, bytes);
    } else if (c->state != CALL_OVER) {
        framed_data(c, bytes);
    }
}

void call_half_close(struct rpc_call *c)
{
    struct err err = ERR_INIT;
    if (c->state == CALL_OVER)
        return;
    if (c->refused) {
        err = c->reason;
        call_end(c, &err);
        return;
    }
    if (c->reads) {
        c->half_closed = true;
        event_signal(&c->readable);
        return;
    }
    if (c->protocol == RPC_CONNECT && c->state == CALL_READING) {
        got_message(c, buf_str(&c->body), c->gzip_in);
        if (c->state == CALL_OVER)
            return;
    }
    if (!frames_empty(&c->in))
        (void)blame(c, &err, err_set(&err, ERR_INTERNAL, "the request ends inside a message"));
    else if (c->state == CALL_READING && !c->request)
        (void)err_set(&err, ERR_UNIMPLEMENTED, "no message where one is expected");
    if (err.code) {
        call_end(c, &err);
        return;
    }
    if (c->state == CALL_STREAMING)
        c->handler->stream->half_close(c->stream_state);
    else if (c->state == CALL_READING)
        call_start(c);
}

/* One message out of what waits: 1, 0 if there is none, negative. */
static int take(struct rpc_call *c, ProtobufCMessage **ret, struct err *err)
{
    struct str bytes;
    int rc = frames_take(&c->in, &bytes, err);
    if (rc <= 0)
        return rc < 0 ? blame(c, err, rc) : 0;
    size_t cost;
    rc = decode(c, bytes, c->in.flags & FRAMES_COMPRESSED, ret, &cost, err);
    if (rc < 0)
        return rc;
    (void)hold(c, frames_waiting(&c->in), NULL);
    settle(c);
    return 1;
}

int rpc_recv(struct rpc_call *c, ProtobufCMessage **ret, struct err *err)
{
    struct err own = ERR_INIT;
    err = err ? err : &own;
    for (;;) {
        if (c->state == CALL_OVER || fiber_cancelled())
            return err_set(err, ERR_CANCELLED, "the call has ended");
        int rc = take(c, ret, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        if (c->half_closed && !frames_empty(&c->in))
            return blame(c, err, err_set(err, ERR_INTERNAL, "the request ends inside a message"));
        if (c->half_closed)
            return 1;
        event_reset(&c->readable);
        rc = event_wait(&c->readable, c->deadline);
        if (rc < 0)
            return err_set(err, ERR_CANCELLED, "the call has ended");
    }
}
