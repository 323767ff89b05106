/* SPDX-License-Identifier: Apache-2.0 */
/* connect_server — how a call's answer looks in Connect.  Source: connectrpc.com protocol.
 * The hint of a failure travels in the header davit-hint too, percent-encoded as grpc-message is. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "rpc/details.h"
#include "rpc/rpc_internal.h"

enum { ERROR_MAX = 32 * 1024 };

static const char *content_type(const struct rpc_call *c)
{
    if (c->protocol == RPC_CONNECT_STREAM)
        return c->json ? "application/connect+json" : "application/connect+proto";
    return c->json ? "application/json" : "application/proto";
}

/* ---- failures ---- */

static void detail_json(struct jsonw *w, const struct err *failure)
{
    AUTO_BUF info = BUF_INIT(DETAILS_MAX);
    if (details_info(failure, &info) < 0)
        return;
    AUTO_FREE char *text = meta_base64(buf_str(&info));
    jsonw_object(w);
    jsonw_key(w, "type");
    jsonw_string(w, DETAILS_INFO_TYPE);
    jsonw_key(w, "value");
    jsonw_string(w, text);
    jsonw_object_end(w);
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
    detail_json(w, failure);
    jsonw_array_end(w);
    jsonw_object_end(w);
}

/* ---- streams ---- */

size_t connect_stream_fields(const struct rpc_call *c, struct h2_field fields[CONNECT_FIELDS_MAX])
{
    size_t n = 0;
    fields[n++] = (struct h2_field){"content-type", content_type(c)};
    fields[n++] = (struct h2_field){"connect-accept-encoding", "gzip"};
    if (call_compresses(c))
        fields[n++] = (struct h2_field){"connect-content-encoding", "gzip"};
    return meta_fields(&c->header, fields, n);
}

int connect_head(struct rpc_call *c)
{
    if (c->head_sent)
        return 0;
    struct h2_field fields[CONNECT_FIELDS_MAX + 1] = {{":status", "200"}};
    size_t n = connect_stream_fields(c, fields + 1);
    c->head_sent = true;
    return h2_respond(c->st, fields, n + 1);
}

/* Trailing metadata, the values of one name together. */
static void metadata_json(struct jsonw *w, const struct meta_out *m)
{
    const struct rpc_meta all = {m->store};
    const char *other;
    struct h2_field f;
    size_t at = 0;
    while (h2_fields_next(&m->store, &at, &f)) {
        if (rpc_meta_get(&all, f.name, 0) != f.value)
            continue;
        jsonw_key(w, f.name);
        jsonw_array(w);
        for (size_t i = 0; (other = rpc_meta_get(&all, f.name, i)) != NULL; i++)
            jsonw_string(w, other);
        jsonw_array_end(w);
    }
}

static void end_json(struct jsonw *w, const struct rpc_call *c, const struct err *failure)
{
    char hint[STATUS_TEXT_MAX];
    jsonw_object(w);
    if (failure) {
        jsonw_key(w, "error");
        error_json(w, failure);
    }
    if (c->trailer.n || (failure && failure->hint[0])) {
        jsonw_key(w, "metadata");
        jsonw_object(w);
        metadata_json(w, &c->trailer);
        if (failure && failure->hint[0]) {
            status_escape(failure->hint, hint);
            jsonw_key(w, "davit-hint");
            jsonw_array(w);
            jsonw_string(w, hint);
            jsonw_array_end(w);
        }
        jsonw_object_end(w);
    }
    jsonw_object_end(w);
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
    end_json(&w, c, failure);
    if (jsonw_end(&w) < 0)
        return;
    frames_prefix(out.len - FRAMES_PREFIX, FRAMES_END, prefix);
    memcpy(out.data, prefix, sizeof(prefix));
    if (c->ws) {
        (void)!ws_link_send(c->ws, buf_str(&out)); /* likewise */
        return;
    }
    if (c->http) {
        (void)!buf_append_str(&c->body, buf_str(&out)); /* without room the stream ends without an end: an error for the peer */
        return;
    }
    if (h2_write(c->st, buf_str(&out)) == 0)
        h2_finish(c->st, NULL, 0);
    else
        h2_reset(TAKE(c->st), H2_CANCEL);
}

/* ---- unary ---- */

static void add_field(struct connect_answer *a, const char *name, const char *value)
{
    a->fields[a->n++] = (struct h2_field){name, value};
}

/* What is no call of this protocol at all: plain HTTP says so. */
static void plain_answer(const struct rpc_call *c, const struct err *failure, struct connect_answer *a)
{
    a->status = c->http_status;
    add_field(a, "content-type", "text/plain");
    if (a->status == 405)
        add_field(a, "allow", c->method && c->method->no_side_effects ? "GET, POST" : "POST");
    if (a->status == 415)
        add_field(a, "accept-post",
                  c->method && (c->method->client_streams || c->method->server_streams)
                      ? "application/grpc, application/grpc+json, application/connect+json, application/connect+proto"
                      : "application/grpc, application/grpc+json, application/json, application/proto");
    (void)!buf_printf(&a->body, "%s\n", failure->msg);
}

static void failure_answer(const struct err *failure, struct connect_answer *a)
{
    struct jsonw w;
    a->status = err_http_status(failure->code);
    add_field(a, "content-type", "application/json");
    jsonw_init(&w, &a->body);
    error_json(&w, failure);
    if (jsonw_end(&w) < 0)
        buf_clear(&a->body);
    if (failure->code == ERR_UNIMPLEMENTED)
        add_field(a, "accept-encoding", "gzip, identity");
    if (failure->hint[0]) {
        status_escape(failure->hint, a->hint);
        add_field(a, "davit-hint", a->hint);
    }
}

static void add_metadata(const struct rpc_call *c, struct connect_answer *a)
{
    struct h2_field f;
    size_t at = 0;
    while (h2_fields_next(&c->trailer.store, &at, &f))
        if (buf_printf(&a->names, "trailer-%s%c%s%c", f.name, 0, f.value, 0) < 0)
            break;
    a->n = meta_fields(&c->header, a->fields, a->n);
    at = 0;
    while (h2_fields_next(&a->names, &at, &a->fields[a->n]))
        a->n++;
}

void connect_answer(const struct rpc_call *c, const struct err *failure, struct connect_answer *ret)
{
    *ret = (struct connect_answer){.status = 200, .names = BUF_INIT(2 * RPC_ANSWER_META_MAX), .body = BUF_INIT(ERROR_MAX)};
    if (c->http_status) {
        plain_answer(c, failure, ret);
        return;
    }
    if (failure) {
        failure_answer(failure, ret);
    } else {
        add_field(ret, "content-type", content_type(c));
        if (call_compresses(c))
            add_field(ret, "content-encoding", "gzip");
        if (c->get)
            add_field(ret, "vary", "accept-encoding");
    }
    add_metadata(c, ret);
}

void connect_answer_release(struct connect_answer *a)
{
    buf_release(&a->names);
    buf_release(&a->body);
}

static void unary_end(struct rpc_call *c, const struct err *failure)
{
    struct connect_answer a;
    char status[8];
    connect_answer(c, failure, &a);
    struct h2_field fields[CONNECT_FIELDS_MAX + 1] = {{":status", status}};
    (void)snprintf(status, sizeof(status), "%d", a.status);
    memcpy(fields + 1, a.fields, a.n * sizeof(*fields));
    if (h2_respond(c->st, fields, a.n + 1) == 0 && h2_write(c->st, buf_str(failure ? &a.body : &c->body)) == 0)
        h2_finish(c->st, NULL, 0);
    else
        h2_reset(TAKE(c->st), H2_CANCEL);
    connect_answer_release(&a);
}

void connect_end(struct rpc_call *c, const struct err *failure)
{
    if (c->protocol == RPC_CONNECT_STREAM && !c->http_status && (c->http || c->st || c->ws))
        end_stream(c, failure);
    else if (c->st)
        unary_end(c, failure); /* HTTP/1.1: connect_http1 answers from the call's body and reason */
}
