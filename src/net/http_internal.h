/* SPDX-License-Identifier: Apache-2.0 */
/* http_internal — a served connection, shared by http_server.c and http_reply.c. Not included outside of src/net.
 * A connection is a state machine without a stack; a fiber exists only while a handler runs. When the connection or the server goes first, the
 * call stays with its fiber (`conn` NULL) and is freed by it. */
#ifndef DAVIT_NET_HTTP_INTERNAL_H
#define DAVIT_NET_HTTP_INTERNAL_H

#include "net/http_server.h"

enum http_phase {
    HTTP_IDLE, /* no byte of a request yet */
    HTTP_HEAD,
    HTTP_BODY,
    HTTP_RUN,   /* the handler has it; nothing is read */
    HTTP_LINGER /* answered, closing: what the peer still sends is dropped, so that it can read the answer */
};

struct http_call {
    struct list node;           /* in the server, while both exist */
    struct http_server *server; /* NULL: gone */
    struct loop *loop;
    struct conn *conn; /* NULL: gone */
    enum http_phase phase;
    struct http_parser *parser;
    struct http_head head;
    struct buf body;
    struct timer timer;
    struct task next; /* after a request: go on with the connection */
    struct fiber *fiber;
    bool streaming;      /* the handler reads the body: */
    bool expects;        /* the peer waits until it is wanted */
    struct buf taken;    /* what http_call_read lent */
    struct event came;
    bool handler_done;   /* the fiber will not touch this any more */
    bool complete;       /* the request is */
    bool refused;        /* answered by the server itself */
    bool started, ended; /* of the answer */
    bool chunked;
    bool close; /* no further request */
};

#endif
