/* SPDX-License-Identifier: Apache-2.0 */
/* connect_http1 — Connect over HTTP/1.1: the request is collected by the HTTP server, whose fiber waits for the call and answers. */
#include "net/ws.h"
#include "rpc/rpc_internal.h"

enum { PIECE = 64 * 1024 };

#define HEAD_DELAY USEC_SEC /* a stream's head waits so long for the first message: until then the handler may set metadata */

int connect_take_head(struct rpc_call *c, const struct http_head *head, struct err *err)
{
    size_t size = 0;
    int rc = h2_fields_add(&c->meta.store, STR(":path"), str_from(head->target));
    for (size_t i = 0; rc == 0 && i < head->n_fields; i++) {
        struct str name = str_from(head->fields[i].name), value = str_from(head->fields[i].value);
        size += name.n + value.n + 32;
        rc = size > H2_HEAD_MAX ? -ERR_EXHAUSTED : h2_fields_add(&c->meta.store, name, value);
    }
    if (rc == 0)
        return 0;
    c->http_status = 431;
    return err_set(err, ERR_EXHAUSTED, "the metadata is over the limit of %d bytes", H2_HEAD_MAX);
}

static size_t http_fields(struct http_field *to, const struct h2_field *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (struct http_field){from[i].name, from[i].value};
    return n;
}

int connect_reply(struct rpc_call *c, struct http_call *http)
{
    struct connect_answer a;
    struct http_field fields[CONNECT_FIELDS_MAX];
    const struct err *failure = c->reason.code ? &c->reason : NULL;
    connect_answer(c, failure, &a);
    size_t n = http_fields(fields, a.fields, a.n);
    int rc = http_reply_fields(http, a.status, fields, n, buf_str(failure ? &a.body : &c->body));
    connect_answer_release(&a);
    return rc;
}

static int start_stream(struct rpc_call *c, struct http_call *http)
{
    struct h2_field from[CONNECT_FIELDS_MAX];
    struct http_field fields[CONNECT_FIELDS_MAX];
    size_t n = http_fields(fields, from, connect_stream_fields(c, from));
    c->head_sent = true;
    return http_reply_start(http, 200, fields, n);
}

/* Pieces, of which the peer has to take each in time: how long the whole takes is its line's matter. */
static int send_part(struct http_call *http, struct str part)
{
    int rc = 0;
    while (rc == 0 && part.n) {
        struct str piece = {part.p, part.n < PIECE ? part.n : PIECE};
        rc = http_reply_chunk(http, piece, deadline_in(H2_STALL_MAX));
        part = (struct str){part.p + piece.n, part.n - piece.n};
    }
    return rc;
}

/* Sends what the handler puts into the call's body until the call is over. */
static int reply_stream(struct rpc_call *c, struct http_call *http)
{
    int rc = event_wait(&c->done, deadline_in(HEAD_DELAY));
    if (rc == 0 || rc == -ERR_DEADLINE)
        rc = start_stream(c, http);
    while (rc == 0) {
        if (c->body.len) {
            AUTO_BUF part = c->body;
            c->body = BUF_INIT(part.max);
            event_signal(&c->room);
            rc = send_part(http, buf_str(&part));
        } else if (c->state == CALL_OVER) {
            return http_reply_end(http);
        } else {
            event_reset(&c->done);
            rc = event_wait(&c->done, USEC_INFINITY);
        }
    }
    return rc;
}

/* 1: it was for a page, which is done. */
static int begin(struct rpc_call *c, const struct http_head *head, struct err *err)
{
    int rc = connect_take_head(c, head, err);
    if (rc < 0 || !page_wanted(c, head->method))
        return rc < 0 ? rc : call_route(c, head->method, err);
    page_http1(c, head->method);
    return 1;
}

void connect_http1(void *arg, struct http_call *http)
{
    struct err err = ERR_INIT;
    if (ws_wanted(http_call_head(http))) {
        ws_serve(arg, http);
        return;
    }
    struct rpc_call *c = call_new(arg);
    c->refs++;
    c->http = http;
    call_set_conn(c, http_call_conn(http));
    int rc = begin(c, http_call_head(http), &err);
    if (rc > 0) {
        call_unref(c);
        return;
    }
    if (rc < 0) {
        call_end(c, &err);
    } else {
        call_data(c, http_call_body(http));
        call_half_close(c);
    }
    if (c->protocol == RPC_CONNECT_STREAM && !c->http_status)
        rc = reply_stream(c, http);
    else if ((rc = event_wait(&c->done, USEC_INFINITY)) == 0)
        rc = connect_reply(c, http);
    c->http = NULL;
    if (rc < 0)
        call_lost(c, ERR_CANCELLED, "the peer has gone");
    call_unref(c);
}
