/* SPDX-License-Identifier: Apache-2.0 */
/* echo_service — the handlers behind davit.test.v1.EchoService, for unit tests and for the server that other gRPC implementations call. */
#ifndef DAVIT_TEST_RPC_ECHO_SERVICE_H
#define DAVIT_TEST_RPC_ECHO_SERVICE_H

#include "rpc/rpc.h"

/* What happened, for tests. */
struct echo_log {
    unsigned opened, messages, closed, waits_cancelled, refused, drains;
    int last_send;   /* of Produce */
    int last_recv;   /* of Collect and Converse: how their reading ended */
    int late_header; /* of Converse: what setting leading metadata gave last, before it sent */
    usec_t slow;     /* set by tests: Collect waits so long after each message */
    enum err_code last_reason;
};
extern struct echo_log echo_log;

/* Adds the service to @s. */
void echo_service_add(struct rpc_server *s);
/* Allows everything but scope "admin"; a caller with metadata "x-deny" is unauthenticated. */
rpc_authorize echo_authorize;

#endif
