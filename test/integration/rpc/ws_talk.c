/* SPDX-License-Identifier: Apache-2.0 */
/* rpc-ws-talk ADDR COUNT SIZE — our client of calls over WebSockets, for a foreign server: a Chat of COUNT messages with SIZE bytes each, which
 * must come back. Prints "ok", or the failure's code and text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "echo.davit.h"
#include "loop/fiber.h"
#include "rpc/rpc.h"

struct talk {
    struct loop *loop;
    const char *addr;
    uint64_t count, size;
    int rc;
};

static int one(struct rpc_stream *s, const Davit__Test__V1__EchoRequest *q, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_stream_put(s, &q->base, deadline_in(10 * USEC_SEC), err);
    if (rc == 0)
        rc = rpc_stream_get(s, deadline_in(10 * USEC_SEC), &m, err);
    if (rc == 1)
        rc = err_set(err, ERR_DATA_LOSS, "the call ended early");
    if (rc == 0 && ((Davit__Test__V1__EchoResponse *)(void *)m)->payload.len != q->payload.len)
        rc = err_set(err, ERR_DATA_LOSS, "another message came back");
    (void)rpc_message_free(m);
    return rc;
}

static int talk(struct talk *t, struct rpc_channel *ch, struct err *err)
{
    Davit__Test__V1__EchoRequest q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    AUTO_FREE uint8_t *bytes = mem_zalloc(t->size + 1, 1);
    ProtobufCMessage *m = NULL;
    struct rpc_stream *s;
    q.payload = (ProtobufCBinaryData){t->size, bytes};
    int rc = rpc_stream_open(ch, &davit_test_v1_echo_service, "Chat", deadline_in(20 * USEC_SEC), &s, err);
    if (rc < 0)
        return rc;
    for (uint64_t i = 0; i < t->count && rc == 0; i++)
        rc = one(s, &q, err);
    if (rc == 0) {
        rpc_stream_half_close(s);
        rc = rpc_stream_get(s, deadline_in(10 * USEC_SEC), &m, err);
        if (rc == 0)
            rc = err_set(err, ERR_DATA_LOSS, "a message too many");
    }
    (void)rpc_message_free(m);
    (void)rpc_stream_close(s);
    return rc == 1 ? 0 : rc;
}

static void talk_main(void *arg)
{
    struct talk *t = arg;
    struct err err = ERR_INIT;
    struct rpc_channel *ch = NULL;
    const struct rpc_dial dial = {.addr = t->addr, .websocket = true};
    t->rc = rpc_channel_open_with(t->loop, &dial, deadline_in(10 * USEC_SEC), &ch, &err);
    if (t->rc == 0)
        t->rc = talk(t, ch, &err);
    (void)printf("%s%s%s\n", t->rc == 0 ? "ok" : err_code_name(err.code), t->rc == 0 ? "" : " ", err.msg);
    (void)rpc_channel_close(ch);
    loop_stop(t->loop);
}

int main(int argc, char **argv)
{
    struct talk t = {.addr = argc > 1 ? argv[1] : ""};
    if (argc != 4 || str_to_u64(str_from(argv[2]), 100000, &t.count) < 0 || str_to_u64(str_from(argv[3]), RPC_MESSAGE_MAX, &t.size) < 0)
        return 2;
    t.loop = loop_new();
    if (fiber_spawn(t.loop, "talk", talk_main, &t, NULL) == 0)
        loop_run(t.loop);
    t.loop = loop_free(t.loop);
    return t.rc == 0 ? 0 : 1;
}
