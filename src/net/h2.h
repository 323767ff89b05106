/* SPDX-License-Identifier: Apache-2.0 */
/* h2 — an HTTP/2 connection (nghttp2 behind this wall) over a conn: streams of heads, bytes and trailers, both ends; rpc is its only user.
 * No handler ever runs inside a call into this module or inside nghttp2: what happens is appended to the connection's run queue, which a
 * task of the loop drains.
 * Limits: heads H2_HEAD_MAX (RFC 9113 6.5.2 counting) and H2_FIELDS_MAX, H2_STREAMS_MAX open streams, a stream's unread bytes by its window
 * (64 KiB until h2_consume), its unsent bytes H2_QUEUE_MAX. Pings by strikes as gRPC counts them (GOAWAY "too_many_pings"); resets, settings,
 * empty and unknown frames, window updates and protocol slips by a token bucket (GOAWAY ENHANCE_YOUR_CALM); 10 s for the peer's settings and
 * for a head once begun, 20 s for the acknowledgement of ours, 60 s for a connection that takes nothing of what is queued; a server that has
 * said all leaves its peer 30 s to close.
 * Ownership: h2 owns the conn; a stream lives until on_closed returned or h2_reset was called, whichever is first.
 * Thread: loop.  Input trust: peer. */
#ifndef DAVIT_NET_H2_H
#define DAVIT_NET_H2_H

#include "base/buf.h"
#include "net/conn.h"

struct h2;
struct h2_stream;

enum {
    H2_HEAD_MAX = 8192,
    H2_FIELDS_MAX = 100,
    H2_STREAMS_MAX = 100,
    H2_QUEUE_HIGH = 1024 * 1024, /* above: wait for on_drain */
    H2_QUEUE_LOW = 256 * 1024,
    H2_QUEUE_MAX = H2_QUEUE_HIGH + 4 * 1024 * 1024 + 64, /* one message of 4 MiB on top */
    H2_QUEUE_CONN_MAX = 32 * 1024 * 1024                 /* of all streams of a connection together */
};

#define H2_KEEPALIVE_MIN (10 * USEC_SEC)  /* a client pings no more often; a server counts strikes below 9 s */
#define H2_STALL_MAX     (300 * USEC_SEC) /* a complete answer that the peer takes nothing of is dropped */
#define H2_DRAIN_MAX     (600 * USEC_SEC) /* then a draining connection is cut, whatever is open */

/* Error codes of RFC 9113 section 7. */
enum h2_code {
    H2_NO_ERROR = 0,
    H2_PROTOCOL_ERROR = 1,
    H2_INTERNAL_ERROR = 2,
    H2_FLOW_CONTROL_ERROR = 3,
    H2_SETTINGS_TIMEOUT = 4,
    H2_STREAM_CLOSED = 5,
    H2_FRAME_SIZE_ERROR = 6,
    H2_REFUSED_STREAM = 7,
    H2_CANCEL = 8,
    H2_COMPRESSION_ERROR = 9,
    H2_CONNECT_ERROR = 10,
    H2_ENHANCE_YOUR_CALM = 11,
    H2_INADEQUATE_SECURITY = 12,
    H2_HTTP_1_1_REQUIRED = 13
};

struct h2_field {
    const char *name; /* lower case */
    const char *value;
};

/* Fields in a buffer, in order, each "name\0value\0". Appends one: 0, or -ERR_EXHAUSTED with nothing appended. */
int h2_fields_add(struct buf *store, struct str name, struct str value) MUST_USE;
/* Each field in turn, borrowed: *at begins as 0; false at the end. */
bool h2_fields_next(const struct buf *store, size_t *at, struct h2_field *ret);

/* A head as it came; pseudo-fields (":path") included. */
struct h2_head {
    struct buf store;
    size_t n_fields;
    bool too_big; /* over a limit: what is here is a part of it */
};
/* First value of @name, or NULL. Borrowed. */
const char *h2_head_get(const struct h2_head *head, const char *name);

/* @arg is that of h2_new; @user that of h2_set_user. */
struct h2_handler {
    /* A request (server), a final response or trailers (client). @head is borrowed, its store may be taken. @end: nothing follows. */
    void (*on_head)(void *arg, struct h2_stream *st, struct h2_head *head, bool end);
    /* Body bytes, borrowed. Give their number back with h2_consume as they are used up, or the peer stalls. */
    void (*on_data)(void *arg, struct h2_stream *st, struct str bytes);
    /* The peer sends no more on this stream (not called where on_head said so). */
    void (*on_end)(void *arg, struct h2_stream *st);
    /* The stream is over, with an enum h2_code; its memory goes after the return. */
    void (*on_closed)(void *arg, struct h2_stream *st, uint32_t code);
    /* Unsent bytes fell below H2_QUEUE_LOW after having been above H2_QUEUE_HIGH, or what h2_set_high made of them. */
    void (*on_drain)(void *arg, struct h2_stream *st);
    /* The peer takes no new streams. May be NULL. */
    void (*on_goaway)(void *arg);
    /* The connection is over, all its streams were closed before. The owner still calls h2_free. */
    void (*on_dead)(void *arg, const struct err *why);
};

/* Takes @conn and speaks first. Never NULL. */
struct h2 *h2_new(struct conn *conn, bool server, const struct h2_handler *handler, void *arg) MUST_USE;
/* Bytes that were read from the connection before h2 had it. */
void h2_feed(struct h2 *h, struct str bytes);
/* Cuts the connection; no handler runs afterwards. Accepts NULL; returns NULL. */
struct h2 *h2_free(struct h2 *h);
/* PING after @interval of silence; no answer in 20 s: dead. 0: none. A client's is at least H2_KEEPALIVE_MIN. */
void h2_keepalive(struct h2 *h, usec_t interval);
/* What the next connection to this peer should use: twice as much after it said "too_many_pings". */
usec_t h2_keepalive_next(const struct h2 *h);
/* Server: drains when it is as old as @age, give or take a tenth by chance. */
void h2_max_age(struct h2 *h, usec_t age);
/* Server: GOAWAY (notice, one round trip, then for good with a word why); open streams go on for H2_DRAIN_MAX; dead when they ended. */
void h2_drain(struct h2 *h);
/* Ends it at once, whatever is open: on_closed and on_dead follow in later turns. */
void h2_cut(struct h2 *h);
/* Not dead and takes new streams? */
bool h2_alive(const struct h2 *h);
/* Borrowed until h2_free. */
struct conn *h2_conn(const struct h2 *h);
/* Streams that are open. */
size_t h2_streams(const struct h2 *h);

/* Client: opens a stream whose body follows by h2_write and ends by h2_finish. Waits in line where the peer's limit of streams is reached.
 * 0 or -ERR_UNAVAILABLE. */
int h2_request(struct h2 *h, const struct h2_field *fields, size_t n, struct h2_stream **ret) MUST_USE;
/* Server: the head, then h2_write, h2_finish. 0, -ERR_UNAVAILABLE when the stream is over. */
int h2_respond(struct h2_stream *st, const struct h2_field *fields, size_t n) MUST_USE;
/* Server: head without body. */
int h2_respond_end(struct h2_stream *st, const struct h2_field *fields, size_t n) MUST_USE;
/* Queues body bytes. 0, -ERR_EXHAUSTED past H2_QUEUE_MAX or H2_QUEUE_CONN_MAX (nothing queued), -ERR_UNAVAILABLE when the stream is over. */
int h2_write(struct h2_stream *st, struct str bytes) MUST_USE;
/* Body complete; @trailers (at most 64) follow it if @n. No effect on a stream that is over. A server's stream that the peer has not ended is
 * reset with NO_ERROR when all is sent. */
void h2_finish(struct h2_stream *st, const struct h2_field *trailers, size_t n);
/* Resets the stream and forgets it: no handler runs for it any more, @st is gone. */
void h2_reset(struct h2_stream *st, enum h2_code code);
/* Forgets the stream: what is queued is sent, no handler runs for it any more, @st is gone for the caller. */
void h2_release(struct h2_stream *st);
/* The user is done with @n bytes of on_data. */
void h2_consume(struct h2_stream *st, size_t n);
/* @high instead of H2_QUEUE_HIGH for this stream, a quarter of it instead of H2_QUEUE_LOW. */
void h2_set_high(struct h2_stream *st, size_t high);
/* Bytes not yet taken by the connection. */
size_t h2_queued(const struct h2_stream *st);
/* The user's own pointer; NULL at first. */
void h2_set_user(struct h2_stream *st, void *user);
void *h2_user(const struct h2_stream *st);

#endif
