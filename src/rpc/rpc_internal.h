/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_internal — the serving side as its files see it: server.c (listeners, routes), call.c (a call's life), call_in.c (its
 * request), call_out.c (its answer), grpc_server.c and connect_server.c (how each protocol writes heads and ends).
 * Not included outside of src/rpc. */
#ifndef DAVIT_RPC_RPC_INTERNAL_H
#define DAVIT_RPC_RPC_INTERNAL_H

#include "net/h2.h"
#include "net/http_server.h"
#include "rpc/frames.h"
#include "rpc/meta.h"
#include "rpc/rpc.h"
#include "rpc/status.h"

enum rpc_protocol {
    RPC_GRPC,
    RPC_CONNECT,        /* unary: bare messages */
    RPC_CONNECT_STREAM, /* enveloped messages, the end in one of them */
    RPC_NONE,           /* content-type that we do not speak: HTTP 415 */
    RPC_PAGE            /* no call at all: see page.c */
};

enum call_state {
    CALL_READING,   /* the request is coming in */
    CALL_RUNNING,   /* the handler's fiber has it */
    CALL_STREAMING, /* a handler without stack has it */
    CALL_OVER       /* ended or given up: nothing is sent any more */
};

struct rpc_call {
    struct list node; /* in server->calls until over */
    struct rpc_server *server;
    const struct rpc_service *service;
    const struct rpc_method *method;
    const struct rpc_handler *handler;
    void *ctx;
    enum rpc_protocol protocol;
    enum call_state state;
    bool json, head_sent, cancelled, opened;
    bool reads;             /* the handler takes the messages itself, with rpc_recv */
    bool half_closed;       /* the peer sends no more */
    bool gzip_in;           /* the request is compressed */
    bool gzip_ok, gzip_out; /* the caller takes compressed answers; the handler allows them */
    bool get;               /* Connect: asked by GET */
    bool upgrades;          /* HTTP/1.1 becomes a WebSocket */
    int http_status;        /* Connect: the answer's where no code says it, or 0 */
    bool refused;           /* `reason` says why; reported when the request is complete */
    struct h2_stream *st;   /* NULL: HTTP/1.1, or gone */
    struct http_call *http; /* NULL: HTTP/2, or gone */
    struct ws_link *ws;     /* the WebSocket, until the call is over */
    struct conn *conn;      /* NULL once the peer has gone */
    struct rpc_meta meta;   /* as received */
    struct meta_out header, trailer;
    usec_t deadline;
    struct timer timer;
    struct frames in; /* enveloped requests */
    struct buf body;  /* Connect: request, then answer */
    ProtobufCMessage *request;
    struct fiber *fiber;
    struct event room;     /* rpc_send waits for it */
    void (*on_room)(void *arg);
    void *room_arg;
    struct event readable; /* rpc_recv waits for it */
    struct event done;     /* the fiber of an HTTP/1.1 connection waits for it */
    unsigned refs;         /* 1 for the life up to CALL_OVER and its `closed`, 1 for the fiber, 1 for the HTTP/1.1 fiber */
    size_t sent;
    size_t page_slot;  /* of a page: its place in the server */
    size_t held;   /* its part of the server's */
    bool stranger; /* came by TLS without a certificate */
    void *caller;  /* of who authorizes */
    void (*free_caller)(void *caller);
    void *stream_state;
    struct task closed;
    struct err reason; /* how it ended */
};

enum { RPC_SOURCE_SIZE = 8 }; /* an address of IPv4, or the net of 64 bits of one of IPv6 */

struct service_entry {
    struct list node;
    const struct rpc_service *service;
    const struct rpc_handler *handlers;
    void *ctx;
};

struct rpc_server {
    struct loop *loop;
    rpc_authorize *authorize;
    void *ctx;
    rpc_around *around;
    void *around_ctx;
    struct list services, listeners, conns, calls, handshakes, sockets;
    unsigned n_sockets, max_sockets; /* WebSockets */
    const char *alias, *alias_of; /* see rpc_server_alias; NULL: none */
    const char *const *origins;
    size_t n_origins;
    struct http_server *http;
    /* Bytes of requests that came in: RPC_HELD_MAX at most, and of strangers RPC_HELD_STRANGERS_MAX. */
    size_t held, held_strangers;
    struct rpc_limits limits;
    rpc_page_handler *pages;
    void *pages_ctx;
    rpc_refused *refused;
    void *refused_arg;
    const char *posts; /* paths below which POST is for pages; NULL: none */
    struct page_slot {
        bool taken, known;
        uint8_t source[RPC_SOURCE_SIZE];
    } page_slots[RPC_PAGES_MAX];
    unsigned running; /* handlers on fibers */
    uint64_t conns_refused, calls_refused;
    bool draining;
};

/* ---- call.c ---- */
/* A call in CALL_READING, owned by the server's list. */
struct rpc_call *call_new(struct rpc_server *s) MUST_USE;
void call_unref(struct rpc_call *c);
/* Says what it came by. */
void call_set_conn(struct rpc_call *c, struct conn *conn);
/* Header value or NULL. */
const char *call_meta(const struct rpc_call *c, const char *name);
/* Decides by head and @verb ("POST"): protocol, method, deadline, authorization, opens streams. 0, or a failure that call_end must report. */
int call_route(struct rpc_call *c, const char *verb, struct err *err) MUST_USE;
/* Gives a routed call to its handler if that does not wait for the request; call_route does it but for one that upgrades. 0, or a failure that
 * call_end must report. */
int call_open(struct rpc_call *c, struct err *err) MUST_USE;
/* The request is complete, or the handler reads it: starts the fiber, or reports why not. */
void call_start(struct rpc_call *c);
/* Reports the end to the peer and gives the call up; @failure NULL: success. Nothing if it is over. */
void call_end(struct rpc_call *c, const struct err *failure);
/* The peer has gone: nothing to report to it. */
void call_lost(struct rpc_call *c, enum err_code code, const char *why);

/* ---- message.c, json_in.c ---- */
/* As rpc_unpack and rpc_from_json; *ret_cost: bytes that the message has in memory, at most. */
int message_unpack(const ProtobufCMessageDescriptor *type, struct str bytes, ProtobufCMessage **ret, size_t *ret_cost,
                   struct err *err) MUST_USE;
int message_from_json(const ProtobufCMessageDescriptor *type, struct str json, ProtobufCMessage **ret, size_t *ret_cost,
                      struct err *err) MUST_USE;

/* ---- call_in.c ---- */
/* Keeps @failure until the peer has sent its request: some HTTP clients take an answer before that for a broken one. */
void call_refuse(struct rpc_call *c, const struct err *failure);
/* Bytes of the request body. */
void call_data(struct rpc_call *c, struct str bytes);
/* The request body is complete. */
void call_half_close(struct rpc_call *c);

/* ---- call_out.c ---- */
/* The peer has taken enough of what waited that there is room again. */
void call_drained(struct rpc_call *c);
/* One message in its envelope, compressed where that was agreed on. */
int call_envelope(struct rpc_call *c, const ProtobufCMessage *message, struct buf *out) MUST_USE;
/* Are this answer's messages compressed if they are large? */
bool call_compresses(const struct rpc_call *c);

/* ---- grpc_server.c ---- */
/* Sends the head if it has not been sent. 0 or -ERR_UNAVAILABLE. */
int grpc_head(struct rpc_call *c) MUST_USE;
/* Trailers, or trailers only. */
void grpc_end(struct rpc_call *c, const struct err *failure);

/* ---- connect_server.c ---- */
enum { CONNECT_FIELDS_MAX = 8 + RPC_META_FIELDS_MAX };
/* A whole answer in the making. Embedded; connect_answer_release ends it. */
struct connect_answer {
    int status;
    struct h2_field fields[CONNECT_FIELDS_MAX]; /* borrow from here and from the call */
    size_t n;
    char hint[STATUS_TEXT_MAX];
    struct buf names; /* of trailing metadata, prefixed */
    struct buf body;  /* of a failure; otherwise the call's body is sent */
};
/* What a unary call is answered with; the call is over or about to be. */
void connect_answer(const struct rpc_call *c, const struct err *failure, struct connect_answer *ret);
void connect_answer_release(struct connect_answer *a);
/* The fields that a stream begins with; returns how many. */
size_t connect_stream_fields(const struct rpc_call *c, struct h2_field fields[CONNECT_FIELDS_MAX]);
int connect_head(struct rpc_call *c) MUST_USE;
void connect_end(struct rpc_call *c, const struct err *failure);

/* ---- connect_get.c ---- */
/* A call asked by GET: protocol and message from the query. 0 or a failure. */
int connect_get_route(struct rpc_call *c, struct err *err) MUST_USE;
/* Puts the message of the query into the call's body; what the query says of the encoding is noted. 0 or a failure. */
int connect_get_message(struct rpc_call *c, struct err *err) MUST_USE;

/* ---- connect_http1.c ---- */
/* Handler of the HTTP/1.1 server; @arg is the rpc_server. */
void connect_http1(void *arg, struct http_call *http);
/* The head as HTTP/2 would have it, behind what the call has of it. -ERR_EXHAUSTED, with the answer's status, beyond what HTTP/2 allows. */
int connect_take_head(struct rpc_call *c, const struct http_head *head, struct err *err) MUST_USE;
/* Answers by what @c ended with, which is over. */
int connect_reply(struct rpc_call *c, struct http_call *http) MUST_USE;

/* ---- ws_server.c ---- */
/* Serves a request that ws_wanted, on the fiber of the HTTP server. */
void ws_serve(struct rpc_server *s, struct http_call *http);
/* One enveloped message to the client. 0, -ERR_EXHAUSTED (no room), -ERR_UNAVAILABLE. */
int ws_link_send(struct ws_link *l, struct str bytes) MUST_USE;
size_t ws_link_queued(const struct ws_link *l);
/* While @held nothing is read. */
void ws_link_hold(struct ws_link *l, bool held);
/* The call is over: closes. */
void ws_link_release(struct ws_link *l);
/* Cuts all connections of the server; their calls are over. */
void ws_cut_all(struct rpc_server *s);

/* ---- page.c ---- */
/* Is this request, of which the head is there, one for the handler of pages? */
bool page_wanted(const struct rpc_call *c, const char *verb);
/* HTTP/2: starts the handler. 0, or a failure that call_end must report. */
int page_start(struct rpc_call *c, struct err *err) MUST_USE;
/* HTTP/2: bytes of the body. */
void page_data(struct rpc_call *c, struct str bytes);
/* HTTP/1.1: runs it, on the fiber of the HTTP server; the call is over afterwards. */
void page_http1(struct rpc_call *c, const char *verb);

/* ---- share.c: who comes in crowds ---- */
/* How many connections each source address made of late. Addresses that fall into the same two slots share them. */
enum { SHARE_SLOTS = 1024, SHARE_ROWS = 2 };
struct shares {
    struct share {
        unsigned used;
        usec_t at;
    } rows[SHARE_ROWS][SHARE_SLOTS];
    uint64_t seed; /* chosen at random by the owner */
};
/* Counts one more of @source: has it taken more than its share? */
bool shares_take(struct shares *all, const uint8_t source[RPC_SOURCE_SIZE], usec_t now);
/* "192.0.2.7:443" and "[2001:db8::1]:443": the address, or the net. False for unix. */
bool server_source(const char *peer, uint8_t dst[RPC_SOURCE_SIZE]);

/* ---- server.c ---- */
/* The entry of "/pkg.Service/Method" and the index of the method, or NULL. */
struct service_entry *server_find(struct rpc_server *s, struct str path, size_t *ret_method);

#endif
