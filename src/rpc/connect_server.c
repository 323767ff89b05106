/* SPDX-License-Identifier: Apache-2.0 */
/* connect_server — how a call's answer looks in Connect, and Connect over HTTP/1.1.  Source: connectrpc.com protocol.
 * The hint of a failure travels in the header davit-hint, percent-encoded as grpc-message is. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "rpc/rpc_internal.h"
#include "rpc/status.h"

enum { ERROR_MAX = 8192 };

static const char *content_type(const struct rpc_call *c)
{
    if (c->protocol == RPC_CONNECT_STREAM)
        return c->json ? "application/connect+json" : "application/connect+proto";
    return c->json ? "application/json" : "application/proto";
}

static void error_json(struct jsonw *w, const struct err *failure)
{
    jsonw_object(w);
    jsonw_key(w, "code");
    jsonw_string(w, err_code_name(failure->code));
    jsonw_key(w, "message");
    jsonw_string(w, failure->msg);
    jsonw_key(w, "details");
    jsonw_array(w);
    jsonw_array_end(w);
    jsonw_object_end(w);
}

int connect_head(struct rpc_call *c)
{
    if (c->head_sent)
        return 0;
    c->head_sent = true;
    const struct h2_field fields[] = {{":status", "200"}, {"content-type", content_type(c)}};
    return h2_respond(c->st, fields, ARRAY_LEN(fields));
}

/* The last message of a stream: flag 2, JSON. */
static void end_stream(struct rpc_call *c, const struct err *failure)
{
    AUTO_BUF out = BUF_INIT(ERROR_MAX);
    uint8_t prefix[FRAMES_PREFIX] = {0};
    struct jsonw w;
    if ((c->st && connect_head(c) < 0) || buf_append(&out, prefix, sizeof(prefix)) < 0)
        return;
    jsonw_init(&w, &out);
    jsonw_object(&w);
    if (failure) {
        jsonw_key(&w, "error");
        error_json(&w, failure);
        if (failure->hint[0]) {
            jsonw_key(&w, "metadata");
            jsonw_object(&w);
            jsonw_key(&w, "davit-hint");
            jsonw_array(&w);
            char hint[STATUS_TEXT_MAX];
            status_escape(failure->hint, hint);
            jsonw_string(&w, hint);
            jsonw_array_end(&w);
            jsonw_object_end(&w);
        }
    }
    jsonw_object_end(&w);
    if (jsonw_end(&w) < 0)
        return;
    frames_prefix(out.len - FRAMES_PREFIX, FRAMES_END, prefix);
    memcpy(out.data, prefix, sizeof(prefix));
    if (c->http) {
        (void)!buf_append_str(&c->body, buf_str(&out)); /* without room the stream ends without an end: an error for the peer */
        return;
    }
    if (h2_write(c->st, buf_str(&out)) == 0)
        h2_finish(c->st, NULL, 0);
    else
        h2_reset(TAKE(c->st), H2_CANCEL);
}

static int http_status(const struct rpc_call *c, const struct err *failure)
{
    if (!failure)
        return 200;
    return c->protocol == RPC_NONE && c->method ? 415 : c->protocol == RPC_NONE ? 404 : err_http_status(failure->code);
}

/* The whole answer of a unary call: status, fields (at most 3), body. */
static void unary_answer(struct rpc_call *c, const struct err *failure)
{
    char status[8], hint[STATUS_TEXT_MAX];
    AUTO_BUF body = BUF_INIT(ERROR_MAX);
    struct jsonw w;
    size_t n = 0;
    struct h2_field fields[3];
    (void)snprintf(status, sizeof(status), "%d", http_status(c, failure));
    fields[n++] = (struct h2_field){":status", status};
    fields[n++] = (struct h2_field){"content-type", failure ? "application/json" : content_type(c)};
    if (failure) {
        jsonw_init(&w, &body);
        error_json(&w, failure);
        if (jsonw_end(&w) < 0)
            buf_clear(&body);
        if (failure->hint[0]) {
            status_escape(failure->hint, hint);
            fields[n++] = (struct h2_field){"davit-hint", hint};
        }
    }
    if (h2_respond(c->st, fields, n) == 0 && h2_write(c->st, buf_str(failure ? &body : &c->body)) == 0)
        h2_finish(c->st, NULL, 0);
    else
        h2_reset(TAKE(c->st), H2_CANCEL);
}

void connect_end(struct rpc_call *c, const struct err *failure)
{
    if (c->protocol == RPC_CONNECT_STREAM && (c->http || c->st))
        end_stream(c, failure);
    else if (c->st)
        unary_answer(c, failure); /* HTTP/1.1: connect_http1 answers from the call's body and reason */
}

void connect_refuse(struct h2_stream *st, int status)
{
    char text[8];
    (void)snprintf(text, sizeof(text), "%d", status);
    const struct h2_field field = {":status", text};
    (void)!h2_respond_end(st, &field, 1);
    h2_release(st);
}

/* ---- HTTP/1.1 ---- */

static int add_meta(struct buf *meta, const char *name, const char *value)
{
    int rc = buf_append(meta, name, strlen(name) + 1);
    return rc < 0 ? rc : buf_append(meta, value, strlen(value) + 1);
}

static int http1_reply(struct rpc_call *c, struct http_call *http)
{
    const struct err *failure = c->reason.code ? &c->reason : NULL;
    if (!failure) {
        const struct http_field field = {"content-type", content_type(c)};
        return http_reply_fields(http, 200, &field, 1, buf_str(&c->body));
    }
    char hint[STATUS_TEXT_MAX];
    AUTO_BUF body = BUF_INIT(ERROR_MAX);
    struct jsonw w;
    jsonw_init(&w, &body);
    error_json(&w, failure);
    int rc = jsonw_end(&w);
    if (rc < 0)
        return rc;
    status_escape(failure->hint, hint);
    const struct http_field fields[] = {{"content-type", "application/json"}, {"davit-hint", hint}};
    return http_reply_fields(http, http_status(c, failure), fields, failure->hint[0] ? 2 : 1, buf_str(&body));
}

/* Sends what the handler puts into the call's body until the call is over. */
static int http1_stream(struct rpc_call *c, struct http_call *http)
{
    const struct http_field field = {"content-type", content_type(c)};
    int rc = http_reply_start(http, 200, &field, 1);
    while (rc == 0) {
        if (c->body.len) {
            AUTO_BUF part = c->body;
            c->body = BUF_INIT(part.max);
            event_signal(&c->room);
            rc = http_reply_chunk(http, buf_str(&part), USEC_INFINITY);
        } else if (c->state == CALL_OVER) {
            return http_reply_end(http);
        } else {
            event_reset(&c->done);
            rc = event_wait(&c->done, USEC_INFINITY);
        }
    }
    return rc;
}

void connect_http1(void *arg, struct http_call *http)
{
    struct rpc_server *s = arg;
    const struct http_head *head = http_call_head(http);
    if (strcmp(head->method, "POST") != 0) {
        (void)!http_reply(http, 405, "text/plain", STR("use POST\n"));
        return;
    }
    struct err err = ERR_INIT;
    struct rpc_call *c = call_new(s);
    c->refs++;
    c->http = http;
    c->conn = http_call_conn(http);
    int rc = add_meta(&c->meta.store, ":path", head->target);
    for (size_t i = 0; rc == 0 && i < head->n_fields; i++)
        rc = add_meta(&c->meta.store, head->fields[i].name, head->fields[i].value);
    if (rc < 0)
        (void)err_set(&err, ERR_EXHAUSTED, "the head is too large");
    else
        rc = call_route(c, &err);
    if (rc == 0 && (c->protocol == RPC_GRPC || c->handler->stream))
        rc = err_set(&err, ERR_UNIMPLEMENTED, "this call needs HTTP/2");
    if (rc < 0) {
        call_end(c, &err);
    } else {
        call_data(c, http_call_body(http));
        call_half_close(c);
    }
    if (c->protocol == RPC_CONNECT_STREAM)
        rc = http1_stream(c, http);
    else if ((rc = event_wait(&c->done, USEC_INFINITY)) == 0)
        rc = http1_reply(c, http);
    c->http = NULL;
    if (rc < 0)
        call_lost(c, ERR_CANCELLED, "the peer has gone");
    call_unref(c);
}
