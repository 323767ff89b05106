/* SPDX-License-Identifier: Apache-2.0 */
/* ws_client — a WebSocket of our own making (RFC 6455 section 4.1): asks, and believes only an answer that proves to have read the question.
 * Messages and closing are those of ws.h. No extensions are offered, one sub-protocol is.
 * Limits: the head limits of http.h; of an answer that refuses WS_REFUSAL_MAX bytes are read.
 * Thread: loop, on a fiber.  Input trust: peer. */
#ifndef DAVIT_NET_WS_CLIENT_H
#define DAVIT_NET_WS_CLIENT_H

#include "net/http_client.h"
#include "net/ws.h"

enum { WS_REFUSAL_MAX = 8192 };

/* Another answer than 101. Zeroed or released before; ws_refusal_release ends it. */
struct ws_refusal {
    int status;
    bool json;       /* by its content-type */
    char hint[1024]; /* field davit-hint, as sent */
    struct buf body; /* what was read of it in time */
};
void ws_refusal_release(struct ws_refusal *r);

struct ws_request {
    const char *target, *protocol;
    const struct http_field *fields; /* besides those of the handshake */
    size_t n_fields;
    size_t message_max;
};

/* Is this head the answer to a request with @key (base64) and @protocol? 0, or -ERR_UNIMPLEMENTED: what answers speaks no WebSocket. Pure. */
int ws_check_answer(const struct http_head *head, const char *key, const char *protocol, struct err *err) MUST_USE;

/* Waits: connects with @client, whose TLS must offer http/1.1 alone, and shakes hands. 0: *ret is open, its callbacks have begun (ws_free). 1:
 * an answer of HTTP that refuses, in @refusal. Failures as http_request and ws_check_answer. @h is static. */
int ws_dial(struct http_client *client, const struct ws_request *req, const struct ws_handler *h, void *arg, usec_t deadline,
            struct ws **ret, struct ws_refusal *refusal, struct err *err) MUST_USE;

#endif
