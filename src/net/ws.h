/* SPDX-License-Identifier: Apache-2.0 */
/* ws — a WebSocket connection (RFC 6455): messages both ways, closing; the handshake of the side that serves. For browsers, and for links
 * through proxies that carry no HTTP/2 to the end; ws_client.h has the other side's handshake.
 * One sub-protocol, which the client must offer; no extensions; pages of other origins are refused.
 * Limits: the message size given; while more than STREAM_HIGH_WATER waits to be sent nothing is read; WS_PING_AFTER of silence asks for a sign
 * of life, WS_DEAD_AFTER without one ends it; WS_CLOSE_MAX for the closing handshake.
 * Callbacks come from the loop, never inside a call into this module.  Thread: loop.  Input trust: peer. */
#ifndef DAVIT_NET_WS_H
#define DAVIT_NET_WS_H

#include "net/http_server.h"
#include "net/ws_frame.h"

#define WS_PING_AFTER (30 * USEC_SEC)
#define WS_DEAD_AFTER (20 * USEC_SEC)
#define WS_CLOSE_MAX  (5 * USEC_SEC)

struct ws;

struct ws_handler {
    /* A whole message, borrowed for the call. */
    void (*on_message)(void *arg, bool text, struct str bytes);
    /* What waits to be sent fell below STREAM_LOW_WATER after having been above STREAM_HIGH_WATER. */
    void (*on_drain)(void *arg);
    /* The peer closes, or the connection broke or went silent: no messages any more, nothing can be sent. At most once, before on_gone; not if
     * ws_close was first. @code: what it closed with, WS_NO_CODE or WS_ABNORMAL. */
    void (*on_close)(void *arg, enum ws_code code);
    /* The connection has ended; ws_free may be called from here. Once. */
    void (*on_gone)(void *arg);
};

/* Does this request ask for a WebSocket? */
bool ws_wanted(const struct http_head *head);
/* May it have one? @protocol: the sub-protocol; @origins: pages that may besides those of this host itself; @tls: did it come by TLS. A request
 * without Origin comes from no page. 0, or a failure with the status of HTTP to answer it by. */
int ws_check(const struct http_head *head, bool tls, const char *protocol, const char *const *origins, size_t n_origins,
             int *ret_status, struct err *err) MUST_USE;
/* Takes @call's connection (of a request that passed ws_check) and answers 101. NULL if it is gone. End with ws_free. @h is static. */
struct ws *ws_accept(struct http_call *call, const char *protocol, size_t message_max, const struct ws_handler *h,
                     void *arg) MUST_USE;
/* Cuts it if it is not gone; no callback afterwards. Accepts NULL; returns NULL. */
struct ws *ws_free(struct ws *ws);

/* Queues a binary message. 0, -ERR_EXHAUSTED when there is no room, -ERR_UNAVAILABLE when it is closed. */
int ws_send(struct ws *ws, struct str bytes) MUST_USE;
/* Bytes that wait to be sent. */
size_t ws_queued(const struct ws *ws);
/* While @held nothing is read: whoever takes the messages has enough. */
void ws_hold(struct ws *ws, bool held);
/* Sends what is queued, then Close. on_gone follows. Nothing if it is closing. */
void ws_close(struct ws *ws, enum ws_code code, const char *reason);
struct conn *ws_conn(const struct ws *ws);

#endif
