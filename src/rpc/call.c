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
    c->meta.store = BUF_INIT(4 * (size_t)H2_HEAD_MAX);
    meta_out_init(&c->header, RPC_ANSWER_META_MAX);
    meta_out_init(&c->trailer, RPC_ANSWER_META_MAX);
    c->body = BUF_INIT(RPC_MESSAGE_MAX + RPC_QUEUE_MAX + 64);
    frames_init(&c->in);
    c->in.max = s->limits.message ? s->limits.message : RPC_MESSAGE_MAX;
    event_init(&c->room, s->loop);
    event_init(&c->readable, s->loop);
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
    if (c->server) {
        c->server->held -= c->held;
        c->server->held_strangers -= c->stranger ? c->held : 0;
    }
    if (c->free_caller)
        c->free_caller(c->caller);
    (void)fiber_unref(c->fiber);
    (void)rpc_message_free(c->request);
    frames_release(&c->in);
    rpc_meta_release(&c->meta);
    meta_out_release(&c->header);
    meta_out_release(&c->trailer);
    buf_release(&c->body);
    event_release(&c->room);
    event_release(&c->readable);
    event_release(&c->done);
    free(c);
}

void call_set_conn(struct rpc_call *c, struct conn *conn)
{
    c->conn = conn;
    c->stranger = conn_is_tls(conn) && !conn_peer(conn)->present;
}

const char *call_meta(const struct rpc_call *c, const char *name)
{
    return rpc_meta_get(&c->meta, name, 0);
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
    if (c->ws)
        ws_link_release(c->ws);
    c->st = NULL;
    c->ws = NULL;
    c->conn = NULL;
    if (was == CALL_RUNNING && c->cancelled)
        fiber_cancel(c->fiber);
    event_signal(&c->room);
    event_signal(&c->readable);
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
    if (failure && c->state == CALL_RUNNING && fiber_self() != c->fiber)
        c->cancelled = true; /* the handler still runs */
    if (c->protocol == RPC_GRPC)
        grpc_end(c, failure);
    else if (c->protocol == RPC_PAGE && c->st)
        h2_reset(TAKE(c->st), H2_CANCEL); /* part of an answer may be out */
    else if (c->protocol != RPC_PAGE)
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
    timer_set_at(&c->timer, c->handler->stream || c->reads || c->deadline < read_by ? c->deadline : read_by);
    return 0;
}

static int route_encoding(struct rpc_call *c, struct err *err)
{
    static const char *const names[][2] = {[RPC_GRPC] = {"grpc-encoding", "grpc-accept-encoding"},
                                           [RPC_CONNECT] = {"content-encoding", "accept-encoding"},
                                           [RPC_CONNECT_STREAM] = {"connect-content-encoding", "connect-accept-encoding"}};
    const char *encoding = call_meta(c, names[c->protocol][0]), *accepted;
    for (size_t i = 0; (accepted = rpc_meta_get(&c->meta, names[c->protocol][1], i)) != NULL; i++)
        c->gzip_ok = c->gzip_ok || status_list_has(accepted, "gzip");
    if (c->get) /* the query tells */
        return 0;
    c->gzip_in = encoding && strcmp(encoding, "gzip") == 0;
    c->in.allowed = c->gzip_in ? FRAMES_COMPRESSED : 0;
    if (encoding && !c->gzip_in && strcmp(encoding, "identity") != 0)
        return err_set(err, ERR_UNIMPLEMENTED, "this compression is not supported, only gzip and identity");
    return 0;
}

/* What only plain HTTP can say. */
static int no_call(struct rpc_call *c, int http_status, enum err_code code, const char *why, struct err *err)
{
    c->protocol = RPC_NONE;
    c->http_status = http_status;
    return err_set(err, code, "%s", why);
}

static int route_method(struct rpc_call *c, const char *verb, struct err *err)
{
    struct str rest = str_from(call_meta(c, ":path"));
    struct str path = str_cut(&rest, '?');
    size_t at;
    if (c->upgrades && c->server->alias && str_eq(path, str_from(c->server->alias)))
        path = str_from(c->server->alias_of);
    struct service_entry *e = server_find(c->server, path, &at);
    c->get = strcmp(verb, "GET") == 0;
    if (!e && (c->protocol == RPC_NONE || c->get))
        return no_call(c, 404, ERR_UNIMPLEMENTED, "no such method", err);
    if (!e)
        return err_set(err, ERR_UNIMPLEMENTED, "no such method");
    c->service = e->service;
    c->method = &e->service->methods[at];
    c->handler = &e->handlers[at];
    c->ctx = e->ctx;
    c->reads = c->method->client_streams && c->handler->run;
    return 0;
}

/* Verb, content type and version of HTTP against the method. */
static int route_protocol(struct rpc_call *c, const char *verb, struct err *err)
{
    const struct rpc_method *m = c->method;
    bool streams = m->client_streams || m->server_streams;
    bool may_get = m->no_side_effects && !streams && c->protocol != RPC_GRPC;
    if (strcmp(verb, "POST") != 0 && !(c->get && may_get))
        return no_call(c, 405, ERR_UNIMPLEMENTED, "this method is called by another verb of HTTP", err);
    if (c->get) {
        int rc = connect_get_route(c, err);
        if (c->http_status)
            c->protocol = RPC_NONE;
        return rc;
    }
    if (c->protocol == RPC_NONE || (c->protocol == RPC_CONNECT && streams) || (c->protocol == RPC_CONNECT_STREAM && !streams && !c->upgrades))
        return no_call(c, 415, ERR_INVALID, "the content-type is none that this method speaks", err);
    if (c->http && !c->upgrades && (c->protocol == RPC_GRPC || (m->client_streams && m->server_streams) || c->handler->stream))
        return no_call(c, 505, ERR_UNIMPLEMENTED, "this call needs HTTP/2", err);
    const char *version = c->protocol == RPC_GRPC ? NULL : call_meta(c, "connect-protocol-version");
    return version && strcmp(version, "1") != 0 ? err_set(err, ERR_INVALID, "connect-protocol-version is not 1") : 0;
}

static int open_stream(struct rpc_call *c, struct err *err)
{
    int rc = err_ensure(err, c->handler->stream->open(c, c->ctx, &c->stream_state, err));
    if (rc < 0)
        return rc;
    c->opened = true;
    if (c->state != CALL_OVER)
        c->state = CALL_STREAMING;
    return 0;
}

int call_route(struct rpc_call *c, const char *verb, struct err *err)
{
    const char *type = call_meta(c, "content-type");
    c->protocol = protocol_of(type ? type : "", &c->json);
    int rc = route_method(c, verb, err);
    if (rc == 0)
        rc = route_protocol(c, verb, err);
    if (rc == 0)
        rc = route_encoding(c, err);
    if (rc == 0)
        rc = route_deadline(c, err);
    if (rc == 0 && c->server->authorize)
        rc = err_ensure(err, c->server->authorize(c, c->server->ctx, c->service, c->method, err));
    if (rc == 0 && c->get)
        rc = connect_get_message(c, err);
    return rc < 0 || c->upgrades ? rc : call_open(c, err);
}

int call_open(struct rpc_call *c, struct err *err)
{
    if (c->reads)
        call_start(c);
    return c->handler->stream ? open_stream(c, err) : 0;
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
    if (c->server)
        c->server->running--;
    call_unref(c);
}

void call_start(struct rpc_call *c)
{
    struct err err = ERR_INIT;
    struct rpc_server *s = c->server;
    c->state = CALL_RUNNING;
    timer_set_at(&c->timer, c->deadline);
    if (s->running < s->limits.running && fiber_spawn(s->loop, c->method->name, run, c, &c->fiber) == 0) {
        c->refs++;
        s->running++;
        return;
    }
    s->calls_refused++;
    (void)err_set(&err, ERR_UNAVAILABLE, "too many calls run at the same time");
    call_end(c, &err);
}

/* ---- what handlers ask ---- */

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

const struct rpc_method *rpc_call_method(const struct rpc_call *c)
{
    return c->method;
}

const char *rpc_call_metadata(const struct rpc_call *c, const char *name)
{
    return call_meta(c, name);
}

const char *rpc_call_metadata_at(const struct rpc_call *c, const char *name, size_t i)
{
    return rpc_meta_get(&c->meta, name, i);
}

int rpc_call_metadata_bin(const struct rpc_call *c, const char *name, size_t i, struct buf *out)
{
    return rpc_meta_bin(&c->meta, name, i, out);
}

void rpc_call_set_caller(struct rpc_call *c, void *who, void (*free)(void *who))
{
    BUG_ON(c->free_caller);
    c->caller = who;
    c->free_caller = free;
}

void *rpc_call_caller(const struct rpc_call *c)
{
    return c->caller;
}

bool rpc_call_cancelled(const struct rpc_call *c)
{
    return c->state == CALL_OVER && c->cancelled;
}
