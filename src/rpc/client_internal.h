/* SPDX-License-Identifier: Apache-2.0 */
/* client_internal — what channel.c (connections of a channel, what they tell), client.c (streams, unary calls) and ws_client.c (calls over
 * WebSockets) share.  Not included elsewhere. */
#ifndef DAVIT_RPC_CLIENT_INTERNAL_H
#define DAVIT_RPC_CLIENT_INTERNAL_H

#include "net/h2.h"
#include "net/ws_client.h"
#include "rpc/frames.h"
#include "rpc/meta.h"
#include "rpc/rpc.h"

/* A connection: the channel's present one, or one whose peer takes no new calls and has some to finish. */
struct channel_conn {
    struct list node;
    struct rpc_channel *ch;
    struct h2 *h2;
    bool dead, goaway;
};

struct rpc_channel {
    struct loop *loop;
    char *addr;
    struct tls_ctx *tls;
    usec_t keepalive;
    char *authority, *server_name;
    struct proxy *proxy;      /* NULL: none */
    struct http_client *http; /* makes the connections of WebSockets; NULL: HTTP/2 */
    struct list sockets;      /* struct ws_out */
    struct list conns;
    struct channel_conn *now; /* for new calls; NULL with WebSockets */
    bool closed, dialling;
    struct event dialled;
    unsigned refs; /* the owner's, and those who wait in channel_renew */
    struct list streams;
    rpc_bearer *bearer; /* NULL: none */
    void *bearer_arg;
};

struct rpc_stream {
    struct list node;
    struct rpc_channel *ch; /* NULL when it was closed before us */
    struct h2_stream *st; /* NULL when over, or by WebSocket */
    struct ws_out *out;   /* NULL when over, or by HTTP/2 */
    const struct rpc_method *method; /* NULL: a post */
    struct buf *post;                /* of a post: what came back */
    usec_t deadline;
    struct timer timer;
    struct frames in;
    struct event readable, room;
    bool woken; /* see rpc_stream_wake */
    struct rpc_meta header, trailer;
    bool got_head, over;
    bool refused; /* the peer did nothing of it */
    bool told;    /* the peer said how it ended */
    bool compress;
    char http_status[4];
    struct err status; /* code ERR_OK: ended well */
};

/* Ends a reference. */
void channel_unref(struct rpc_channel *ch);
/* Waits: another connection in place of one that takes no new calls. 0 or a failure; where several want it, one dials. */
int channel_renew(struct rpc_channel *ch, usec_t deadline, struct err *err) MUST_USE;
/* Would channel_renew help: has the peer said that it takes no new calls? */
bool channel_outworn(const struct rpc_channel *ch);
/* Ends a stream from here with this failure; nothing if it is over. */
void stream_fail(struct rpc_stream *s, enum err_code code, const char *fmt, ...) PRINTF(3, 4);
/* Fails with DEADLINE; @arg is the stream. */
void stream_on_deadline(void *arg);
/* It is over, s->status says how. */
void stream_end(struct rpc_stream *s);

/* ---- post.c: what the connection tells a stream that is a post ---- */
void post_head(struct rpc_stream *s, struct h2_head *head, bool end);
void post_data(struct rpc_stream *s, struct h2_stream *st, struct str bytes);
void post_end(struct rpc_stream *s);

/* ---- ws_client.c ---- */
/* Waits: the connection and the handshake of one call. 0 or a failure. */
int ws_out_open(struct rpc_stream *s, const char *service, const struct meta_out *meta, struct err *err) MUST_USE;
/* One envelope. 0, -ERR_EXHAUSTED no room, -ERR_UNAVAILABLE. */
int ws_out_send(struct ws_out *o, struct str envelope) MUST_USE;
size_t ws_out_queued(const struct ws_out *o);
/* No more comes from us. */
void ws_out_finish(struct ws_out *o);
/* Messages were taken: reading may go on. */
void ws_out_taken(struct ws_out *o);
/* The call is over: closes politely; the rest is the channel's. */
void ws_out_release(struct ws_out *o);
/* All that @ch has, at once. */
void ws_out_cut_all(struct rpc_channel *ch);

/* ---- connect_error.c ---- */
/* The failure that the JSON of Connect tells into @status: {"code", "message", "details"}. 0, or -ERR_INVALID: it is none. */
int connect_read_error(struct str json, struct err *status) MUST_USE;
/* The end of a stream: @status (ERR_OK: ended well), trailing metadata as h2_fields_add into @trailer. 0, or -ERR_INVALID. */
int connect_read_end(struct str json, struct err *status, struct buf *trailer) MUST_USE;

#endif
