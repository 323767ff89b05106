/* SPDX-License-Identifier: Apache-2.0 */
/* echo_service — see echo_service.h. */
#include "rpc/echo_service.h"

#include <string.h>

#include "base/mem.h"
#include "echo.davit.h"

struct echo_log echo_log;

int echo_authorize(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
                   struct err *err)
{
    (void)ctx;
    (void)service;
    if (rpc_call_metadata(call, "x-deny"))
        return err_set(err, ERR_UNAUTHENTICATED, "who are you?");
    if (strcmp(method->scope, "admin") == 0)
        return err_set(err, ERR_DENIED, "%s needs scope admin", method->name);
    return 0;
}

/* What the caller asks for by metadata. */
static int answer_metadata(struct rpc_call *call)
{
    AUTO_BUF bytes = BUF_INIT(8192);
    const char *value;
    int rc = 0;
    if (rpc_call_metadata(call, "x-compress"))
        rpc_call_compress(call);
    for (size_t i = 0; rc == 0 && (value = rpc_call_metadata_at(call, "x-echo-header", i)) != NULL; i++)
        rc = rpc_call_set_header(call, "x-echo-header", str_from(value));
    for (size_t i = 0; rc == 0 && rpc_call_metadata_bin(call, "x-echo-trailer-bin", i, &bytes) == 0; i++) {
        rc = rpc_call_set_trailer(call, "x-echo-trailer-bin", buf_str(&bytes));
        buf_clear(&bytes);
    }
    return rc;
}

static int run_echo(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)err;
    const Davit__Test__V1__EchoRequest *q = (const void *)request;
    Davit__Test__V1__EchoResponse r = DAVIT__TEST__V1__ECHO_RESPONSE__INIT;
    r.text = q->text;
    r.payload = q->payload;
    int rc = answer_metadata(call);
    return rc < 0 ? err_set(err, (enum err_code) - rc, "the metadata cannot be sent back") : rpc_send(call, &r.base);
}

static int run_fail(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    const Davit__Test__V1__FailRequest *q = (const void *)request;
    int rc = answer_metadata(call);
    if (rc < 0)
        return rc;
    rc = err_set(err, (enum err_code)q->code, "%s", q->message);
    err_hint(err, "%s", q->hint);
    return rc;
}

static int run_produce(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)err;
    const Davit__Test__V1__ProduceRequest *q = (const void *)request;
    AUTO_FREE uint8_t *bytes = mem_zalloc(q->size + 1, 1);
    Davit__Test__V1__EchoResponse r = DAVIT__TEST__V1__ECHO_RESPONSE__INIT;
    r.payload = (ProtobufCBinaryData){q->size, bytes};
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < q->count; i++) {
        if (q->size)
            bytes[0] = (uint8_t)i;
        rc = rpc_send(call, &r.base);
    }
    echo_log.last_send = rc;
    return rc;
}

static int run_wait(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    const Davit__Test__V1__WaitRequest *q = (const void *)request;
    if (fiber_sleep(q->ms * USEC_MSEC) < 0) {
        echo_log.waits_cancelled++;
        return err_set(err, ERR_CANCELLED, "cancelled");
    }
    Davit__Test__V1__EchoResponse r = DAVIT__TEST__V1__ECHO_RESPONSE__INIT;
    return rpc_send(call, &r.base);
}

static int run_reflect(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)err;
    return rpc_send(call, request);
}

/* ---- Collect and Converse: the client streams, the handler reads ---- */

static int run_collect(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)request;
    AUTO_BUF text = BUF_INIT(65536);
    ProtobufCMessage *m;
    int rc = answer_metadata(call);
    if (rc < 0)
        return rc;
    while ((rc = rpc_recv(call, &m, err)) == 0) {
        const Davit__Test__V1__EchoRequest *q = (const void *)m;
        echo_log.messages++;
        bool stop = strcmp(q->text, "stop") == 0;
        rc = q->payload.len ? buf_printf(&text, "%s(%zu)", q->text, q->payload.len) : buf_append_cstr(&text, q->text);
        (void)rpc_message_free(m);
        if (rc < 0)
            return rc;
        if (stop)
            break;
        if (echo_log.slow && fiber_sleep(echo_log.slow) < 0)
            return -ERR_CANCELLED;
    }
    echo_log.last_recv = rc;
    if (rc < 0)
        return rc;
    Davit__Test__V1__EchoResponse r = DAVIT__TEST__V1__ECHO_RESPONSE__INIT;
    r.text = (char *)(uintptr_t)buf_cstr(&text);
    return rpc_send(call, &r.base);
}

static int run_converse(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)request;
    ProtobufCMessage *m;
    int rc = answer_metadata(call);
    if (rc < 0)
        return rc;
    while ((rc = rpc_recv(call, &m, err)) == 0) {
        const Davit__Test__V1__EchoRequest *q = (const void *)m;
        echo_log.late_header = rpc_call_set_header(call, "x-late", STR("v"));
        Davit__Test__V1__EchoResponse r = DAVIT__TEST__V1__ECHO_RESPONSE__INIT;
        r.text = q->text;
        r.payload = q->payload;
        rc = strcmp(q->text, "fail") == 0 ? err_set(err, ERR_PRECONDITION, "told to fail") : rpc_send(call, &r.base);
        (void)rpc_message_free(m);
        if (rc < 0)
            break;
    }
    echo_log.last_recv = rc;
    return rc < 0 ? rc : 0;
}

/* ---- Chat: an echo without a stack; "bye" ends it well, "fail" badly ---- */

static int chat_open(struct rpc_call *call, void *ctx, void **ret_state, struct err *err)
{
    (void)ctx;
    (void)err;
    echo_log.opened++;
    *ret_state = call;
    return 0;
}

static void chat_message(void *state, const ProtobufCMessage *message)
{
    struct rpc_call *call = state;
    const Davit__Test__V1__EchoRequest *q = (const void *)message;
    echo_log.messages++;
    if (strcmp(q->text, "bye") == 0) {
        rpc_stream_finish(call, NULL);
        return;
    }
    if (strcmp(q->text, "fail") == 0) {
        struct err err = ERR_INIT;
        (void)err_set(&err, ERR_PRECONDITION, "told to fail: \xe2\x98\xa0 100%%");
        err_hint(&err, "say something else");
        rpc_stream_finish(call, &err);
        return;
    }
    Davit__Test__V1__EchoResponse r = DAVIT__TEST__V1__ECHO_RESPONSE__INIT;
    r.text = q->text;
    r.payload = q->payload;
    echo_log.last_send = rpc_stream_send(call, &r.base);
    echo_log.refused += echo_log.last_send == -ERR_EXHAUSTED;
}

static void chat_half_close(void *state)
{
    rpc_stream_finish(state, NULL);
}

static void chat_drain(void *state)
{
    (void)state;
    echo_log.drains++;
}

static void chat_closed(void *state, const struct err *reason)
{
    (void)state;
    echo_log.closed++;
    echo_log.last_reason = reason->code;
}

static const struct rpc_stream_handler chat = {chat_open, chat_message, chat_half_close, chat_drain, chat_closed};

static const struct rpc_handler handlers[] = {{.run = run_echo},    {.run = run_fail},    {.run = run_produce},
                                              {.stream = &chat},    {.run = run_wait},    {.run = run_echo},
                                              {.run = run_reflect}, {.run = run_collect}, {.run = run_converse}};
_Static_assert(ARRAY_LEN(handlers) == davit_test_v1_echo_service_METHODS, "one handler for each method");

void echo_service_add(struct rpc_server *s)
{
    rpc_server_add(s, &davit_test_v1_echo_service, handlers, NULL);
}
