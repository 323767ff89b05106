/* SPDX-License-Identifier: Apache-2.0 */
/* call — the life of one call being served, whatever protocol carries it; see rpc.h and rpc_internal.h. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/rpc_internal.h"
#include "rpc/status.h"

#define READ_TIMEOUT (60 * USEC_SEC) /* for a request to come in */

_Static_assert((int)RPC_QUEUE_MAX == (int)H2_QUEUE_HIGH, "the drain of a stream is that of its HTTP/2 stream");
_Static_assert((int)RPC_STREAMS_MAX == (int)H2_STREAMS_MAX, "one limit");

static void on_deadline(void *arg)
{
    struct rpc_call *c = arg;
    struct err err = ERR_INIT;
    if (clock_mono() >= c->deadline)
        (void)err_set(&err, ERR_DEADLINE, "the call took longer than the caller allows");
    else
        (void)err_set(&err, ERR_DEADLINE, "the request did not come in time");
    call_end(c, &err);
}

static void run_closed(void *arg)
{
    struct rpc_call *c = arg;
    if (c->opened) {
        c->opened = false;
        c->handler->stream->closed(c->stream_state, &c->reason);
    }
    call_unref(c);
}

struct rpc_call *call_new(struct rpc_server *s)
{
    struct rpc_call *c = NEW(struct rpc_call);
    c->server = s;
    c->refs = 1;
    c->deadline = USEC_INFINITY;
    c->meta = BUF_INIT(4 * (size_t)H2_HEAD_MAX);
    c->body = BUF_INIT(RPC_MESSAGE_MAX + RPC_QUEUE_MAX + 64);
    frames_init(&c->in);
    event_init(&c->room, s->loop);
    event_init(&c->done, s->loop);
    timer_init(&c->timer, s->loop, on_deadline, c);
    task_init(&c->closed, run_closed, c);
    list_init(&c->node);
    list_push(&s->calls, &c->node);
    return c;
}

void call_unref(struct rpc_call *c)
{
    if (--c->refs > 0)
        return;
    BUG_ON(c->state != CALL_OVER);
    timer_stop(&c->timer);
    task_cancel(&c->closed);
    list_remove(&c->node);
    if (c->server)
        c->server->held -= c->held;
    (void)fiber_unref(c->fiber);
    (void)rpc_message_free(c->request);
    frames_release(&c->in);
    buf_release(&c->meta);
    buf_release(&c->body);
    event_release(&c->room);
    event_release(&c->done);
    free(c);
}

const char *call_meta(const struct rpc_call *c, const char *name)
{
    const struct h2_head head = {.store = c->meta};
    return h2_head_get(&head, name);
}

/* ---- the end ---- */

/* Over: no peer, no timer, waits of the handler end, the handler of a stream hears of it in a later turn. */
static void give_up(struct rpc_call *c)
{
    enum call_state was = c->state;
    c->state = CALL_OVER;
    timer_stop(&c->timer);
    if (c->st)
        h2_release(c->st);
    c->st = NULL;
    c->conn = NULL;
    if (was == CALL_RUNNING && c->cancelled)
        fiber_cancel(c->fiber);
    event_signal(&c->room);
    event_signal(&c->done);
    if (c->server)
        loop_post(c->server->loop, &c->closed);
}

void call_end(struct rpc_call *c, const struct err *failure)
{
    if (c->state == CALL_OVER)
        return;
    if (failure)
        c->reason = *failure;
    else
        c->reason.code = ERR_OK;
    if (failure && failure->code == ERR_DEADLINE && c->state == CALL_RUNNING)
        c->cancelled = true; /* the handler may still run */
    if (c->protocol == RPC_GRPC)
        grpc_end(c, failure);
    else
        connect_end(c, failure);
    give_up(c);
}

void call_lost(struct rpc_call *c, enum err_code code, const char *why)
{
    if (c->state == CALL_OVER)
        return;
    (void)err_set(&c->reason, code, "%s", why);
    c->cancelled = true;
    give_up(c);
}

/* ---- the beginning ---- */

static enum rpc_protocol protocol_of(const char *type, bool *ret_json)
{
    static const struct {
        const char *type;
        enum rpc_protocol protocol;
        bool json;
    } known[] = {{"application/grpc", RPC_GRPC, false},
                 {"application/grpc+proto", RPC_GRPC, false},
                 {"application/grpc+json", RPC_GRPC, true},
                 {"application/json", RPC_CONNECT, true},
                 {"application/proto", RPC_CONNECT, false},
                 {"application/connect+json", RPC_CONNECT_STREAM, true},
                 {"application/connect+proto", RPC_CONNECT_STREAM, false}};
    struct str rest = str_from(type), word = str_trim(str_cut(&rest, ';'));
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_eq_ci(word, str_from(known[i].type))) {
            *ret_json = known[i].json;
            return known[i].protocol;
        }
    return RPC_NONE;
}

static int route_deadline(struct rpc_call *c, struct err *err)
{
    const char *text = call_meta(c, c->protocol == RPC_GRPC ? "grpc-timeout" : "connect-timeout-ms");
    usec_t now = clock_mono(), timeout;
    if (text) {
        int rc = c->protocol == RPC_GRPC ? status_parse_timeout(text, &timeout) : status_parse_timeout_ms(text, &timeout);
        if (rc < 0)
            return err_set(err, c->protocol == RPC_GRPC ? ERR_INTERNAL : ERR_INVALID, "the time limit is malformed");
        c->deadline = clock_add(now, timeout);
    }
    usec_t read_by = clock_add(now, READ_TIMEOUT);
    timer_set_at(&c->timer, c->handler->stream || c->deadline < read_by ? c->deadline : read_by);
    return 0;
}

static int route_encoding(struct rpc_call *c, struct err *err)
{
    const char *name = c->protocol == RPC_GRPC      ? "grpc-encoding"
                       : c->protocol == RPC_CONNECT ? "content-encoding"
                                                    : "connect-content-encoding";
    const char *encoding = call_meta(c, name);
    if (encoding && strcmp(encoding, "identity") != 0)
        return err_set(err, ERR_UNIMPLEMENTED, "compression is not supported, only identity");
    return 0;
}

int call_route(struct rpc_call *c, struct err *err)
{
    const char *type = call_meta(c, "content-type"), *path = call_meta(c, ":path");
    c->protocol = protocol_of(type ? type : "", &c->json);
    size_t at;
    struct service_entry *e = path ? server_find(c->server, path, &at) : NULL;
    if (!e)
        return err_set(err, ERR_UNIMPLEMENTED, "no such method");
    c->service = e->service;
    c->method = &e->service->methods[at];
    c->handler = &e->handlers[at];
    c->ctx = e->ctx;
    bool streams = c->method->client_streams || c->method->server_streams;
    if ((c->protocol == RPC_CONNECT && streams) || (c->protocol == RPC_CONNECT_STREAM && !streams))
        c->protocol = RPC_NONE; /* 415 */
    if (c->protocol == RPC_NONE)
        return err_set(err, ERR_INVALID, "content-type is none that this method speaks");
    int rc = route_encoding(c, err);
    if (rc == 0)
        rc = route_deadline(c, err);
    if (rc == 0 && c->server->authorize)
        rc = err_ensure(err, c->server->authorize(c, c->server->ctx, c->service, c->method, err));
    if (rc < 0 || !c->handler->stream)
        return rc;
    rc = err_ensure(err, c->handler->stream->open(c, c->ctx, &c->stream_state, err));
    if (rc < 0)
        return rc;
    c->opened = true;
    if (c->state != CALL_OVER)
        c->state = CALL_STREAMING;
    return 0;
}

/* ---- the request ---- */

static int decode(struct rpc_call *c, struct str bytes, ProtobufCMessage **ret, struct err *err)
{
    return c->json ? rpc_from_json(c->method->input, bytes, ret, err) : rpc_unpack(c->method->input, bytes, ret, err);
}

static void got_message(struct rpc_call *c, struct str bytes)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    if (c->request) {
        (void)err_set(&err, ERR_UNIMPLEMENTED, "more than one message where one is expected");
        call_end(c, &err);
        return;
    }
    int rc = decode(c, bytes, &m, &err);
    if (rc < 0) {
        /* gRPC: what does not parse is INTERNAL; limits keep their code. */
        if (c->protocol == RPC_GRPC && err.code == ERR_INVALID)
            err.code = ERR_INTERNAL;
        call_end(c, &err);
        return;
    }
    if (c->state != CALL_STREAMING) {
        c->request = m;
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

/* Requests that are coming in may be from anybody: counted for all of them together, until their memory goes. */
static int hold(struct rpc_call *c, size_t n, struct err *err)
{
    if (c->state != CALL_READING || c->http) /* HTTP/1.1: counted where it was collected */
        return 0;
    if (n > RPC_HELD_MAX - c->server->held)
        return err_set(err, ERR_UNAVAILABLE, "too many requests at once");
    c->held += n;
    c->server->held += n;
    return 0;
}

void call_data(struct rpc_call *c, struct str bytes)
{
    struct err err = ERR_INIT;
    if (c->refused) {
        c->in.owed += bytes.n;
        if (c->in.owed > RPC_MESSAGE_MAX)
            call_half_close(c);
        else
            h2_consume(c->st, bytes.n);
        return;
    }
    if (hold(c, bytes.n, &err) < 0) {
        call_end(c, &err);
        return;
    }
    if (c->protocol == RPC_CONNECT) {
        if (c->state == CALL_READING && (c->body.len + bytes.n > RPC_MESSAGE_MAX || buf_append_str(&c->body, bytes) < 0)) {
            (void)err_set(&err, ERR_EXHAUSTED, "a message over the limit of %d bytes", RPC_MESSAGE_MAX);
            call_end(c, &err);
        } else if (c->st) {
            h2_consume(c->st, bytes.n);
        }
        return;
    }
    int rc = frames_add(&c->in, bytes, &err);
    struct str message;
    while (rc >= 0 && c->state != CALL_OVER && (rc = frames_take(&c->in, &message, &err)) > 0)
        got_message(c, message);
    if (rc < 0)
        call_end(c, &err);
    if (c->st)
        h2_consume(c->st, frames_settle(&c->in));
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
    if (c->protocol == RPC_CONNECT && c->state == CALL_READING) {
        got_message(c, buf_str(&c->body));
        buf_release(&c->body);
        if (c->state == CALL_OVER)
            return;
    }
    if (!frames_empty(&c->in))
        (void)err_set(&err, ERR_INTERNAL, "the request ends inside a message");
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

/* ---- the handler ---- */

static void run(void *arg)
{
    struct rpc_call *c = arg;
    struct err err = ERR_INIT;
    if (c->state == CALL_RUNNING) {
        struct rpc_server *s = c->server;
        int rc = s->around ? s->around(c, s->around_ctx, c->service, c->method, c->request, c->handler->run, c->ctx, &err)
                           : c->handler->run(c, c->ctx, c->request, &err);
        if (rc == 0 && !c->method->server_streams && c->sent != 1)
            rc = err_set(&err, ERR_INTERNAL, "the handler gave no answer");
        (void)err_ensure(&err, rc);
        call_end(c, rc < 0 ? &err : NULL);
    }
    call_unref(c);
}

void call_start(struct rpc_call *c)
{
    struct err err = ERR_INIT;
    c->state = CALL_RUNNING;
    c->refs++;
    timer_set_at(&c->timer, c->deadline);
    if (fiber_spawn(c->server->loop, c->method->name, run, c, &c->fiber) < 0) {
        c->refs--;
        (void)err_set(&err, ERR_EXHAUSTED, "too many calls run at the same time");
        call_end(c, &err);
    }
}

/* ---- what handlers call ---- */

/* Queues one message. The caller has seen to room. */
static int put(struct rpc_call *c, const ProtobufCMessage *message)
{
    if (c->protocol == RPC_CONNECT) {
        buf_clear(&c->body);
        c->sent++;
        return c->json ? rpc_to_json(message, &c->body, NULL) : rpc_pack(message, &c->body);
    }
    AUTO_BUF out = BUF_INIT(RPC_MESSAGE_MAX + FRAMES_PREFIX);
    int rc = envelope(c, message, &out);
    if (rc < 0)
        return rc;
    if (c->http) {
        rc = buf_append_str(&c->body, buf_str(&out));
        event_signal(&c->done);
    } else {
        rc = c->protocol == RPC_GRPC ? grpc_head(c) : connect_head(c);
        if (rc == 0)
            rc = h2_write(c->st, buf_str(&out));
    }
    if (rc == 0)
        c->sent++;
    return rc;
}

int rpc_send(struct rpc_call *c, const ProtobufCMessage *message)
{
    for (;;) {
        if (c->state == CALL_OVER || fiber_cancelled())
            return -ERR_CANCELLED;
        if (rpc_stream_queued(c) <= RPC_QUEUE_MAX)
            break;
        event_reset(&c->room);
        int rc = event_wait(&c->room, c->deadline);
        if (rc < 0)
            return rc;
    }
    return put(c, message);
}

int rpc_stream_send(struct rpc_call *c, const ProtobufCMessage *message)
{
    if (c->state == CALL_OVER || !c->st)
        return -ERR_UNAVAILABLE;
    if (h2_queued(c->st) > RPC_QUEUE_MAX)
        return -ERR_EXHAUSTED;
    return put(c, message);
}

size_t rpc_stream_queued(const struct rpc_call *c)
{
    if (c->http)
        return c->protocol == RPC_CONNECT_STREAM ? c->body.len : 0;
    return c->st ? h2_queued(c->st) : 0;
}

void rpc_stream_finish(struct rpc_call *c, const struct err *failure)
{
    call_end(c, failure);
}

struct conn *rpc_call_conn(const struct rpc_call *c)
{
    /* The server of HTTP/1.1 closes its connection before this call hears of it. */
    return c->conn && c->http ? http_call_conn(c->http) : c->conn;
}

usec_t rpc_call_deadline(const struct rpc_call *c)
{
    return c->deadline;
}

const char *rpc_call_metadata(const struct rpc_call *c, const char *name)
{
    return call_meta(c, name);
}

bool rpc_call_cancelled(const struct rpc_call *c)
{
    return c->state == CALL_OVER && c->cancelled;
}
