/* SPDX-License-Identifier: Apache-2.0 */
/* harness — a loop, an EchoService on a unix socket, and a fiber that runs a test's body against it. */
#ifndef DAVIT_TEST_RPC_HARNESS_H
#define DAVIT_TEST_RPC_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "echo.davit.h"
#include "rpc/echo_service.h"
#include "rpc/rpc.h"

#define E Davit__Test__V1__
typedef Davit__Test__V1__EchoRequest echo_request;
typedef Davit__Test__V1__EchoResponse echo_response;

struct harness {
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_channel *ch;
    char dir[64], addr[128];
    void (*body)(struct harness *h);
};

/* Calls go over WebSockets. */
static bool harness_websocket;

static inline void harness_fiber(void *arg)
{
    struct harness *h = arg;
    struct err err = ERR_INIT;
    const struct rpc_dial dial = {.addr = h->addr, .authority = "localhost", .websocket = harness_websocket};
    if (rpc_channel_open_with(h->loop, &dial, deadline_in(5 * USEC_SEC), &h->ch, &err) < 0)
        fail_msg("channel: %s", err.msg);
    h->body(h);
    h->ch = rpc_channel_close(h->ch);
    loop_stop(h->loop);
}

/* Runs @body on a fiber with h->ch open. */
static inline void harness_run(void (*body)(struct harness *h))
{
    struct harness h = {.body = body, .dir = "/tmp/rpc-XXXXXX"};
    struct err err = ERR_INIT;
    assert_non_null(mkdtemp(h.dir));
    (void)snprintf(h.addr, sizeof(h.addr), "unix:%s/s", h.dir);
    memset(&echo_log, 0, sizeof(echo_log));
    h.loop = loop_new();
    h.server = rpc_server_new(h.loop, echo_authorize, NULL);
    echo_service_add(h.server);
    if (rpc_server_listen(h.server, h.addr, 0600, NULL, &err) < 0)
        fail_msg("listen: %s", err.msg);
    assert_int_equal(fiber_spawn(h.loop, "test", harness_fiber, &h, NULL), 0);
    loop_run(h.loop);
    h.server = rpc_server_free(h.server);
    loop_run(h.loop);
    h.loop = loop_free(h.loop);
    (void)remove(h.addr + 5);
    (void)rmdir(h.dir);
}

#endif
