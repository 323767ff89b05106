/* SPDX-License-Identifier: Apache-2.0 */
/* client_internal — what channel.c (connections of a channel, what they tell) and client.c (streams, unary calls) share.  Not included elsewhere. */
#ifndef DAVIT_RPC_CLIENT_INTERNAL_H
#define DAVIT_RPC_CLIENT_INTERNAL_H

#include "net/h2.h"
#include "rpc/frames.h"
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
    char *authority;
    struct list conns;
    struct channel_conn *now; /* for new calls */
    bool closed, dialling;
    struct event dialled;
    unsigned refs; /* the owner's, and those who wait in channel_renew */
    struct list streams;
};

struct rpc_stream {
    struct list node;
    struct rpc_channel *ch; /* NULL when it was closed before us */
    struct h2_stream *st; /* NULL when over */
    const struct rpc_method *method;
    usec_t deadline;
    struct timer timer;
    struct frames in;
    struct event readable, room;
    struct rpc_meta header, trailer;
    bool got_head, over;
    bool refused; /* the peer did nothing of it */
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

#endif
