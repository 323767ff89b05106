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

static int run_echo(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)err;
    const Davit__Test__V1__EchoRequest *q = (const void *)request;
    Davit__Test__V1__EchoResponse r = DAVIT__TEST__V1__ECHO_RESPONSE__INIT;
    r.text = q->text;
    r.payload = q->payload;
    return rpc_send(call, &r.base);
}

static int run_fail(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)call;
    (void)ctx;
    const Davit__Test__V1__FailRequest *q = (const void *)request;
    int rc = err_set(err, (enum err_code)q->code, "%s", q->message);
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

static const struct rpc_handler handlers[] = {{.run = run_echo}, {.run = run_fail}, {.run = run_produce}, {.stream = &chat},
                                              {.run = run_wait}, {.run = run_echo}, {.run = run_reflect}};
_Static_assert(ARRAY_LEN(handlers) == davit_test_v1_echo_service_METHODS, "one handler for each method");

void echo_service_add(struct rpc_server *s)
{
    rpc_server_add(s, &davit_test_v1_echo_service, handlers, NULL);
}
