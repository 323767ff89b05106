/* SPDX-License-Identifier: Apache-2.0 */
/* h2_internal — what h2.c (sessions, run queue), h2_stream.c (streams, sending), h2_life.c (what ends a connection by time), h2_guard.c
 * (floods) and h2_mem.c share.  Not included elsewhere. */
#ifndef DAVIT_NET_H2_INTERNAL_H
#define DAVIT_NET_H2_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "net/h2.h"

enum {
    H2_WINDOW_CONN =
        1024 * 1024, /* given back as soon as bytes are handed over: what a stream holds back is bounded by its own window */
    H2_TRAILERS_MAX = 64,
    H2_COST_SLIP = 10 /* of a break of the protocol that cost its stream, in tokens of the guard */
};

enum event_kind { EV_HEAD, EV_DATA, EV_END, EV_CLOSED, EV_DRAIN, EV_GOAWAY, EV_DEAD };

struct h2_event {
    struct list node;
    enum event_kind kind;
    struct h2_stream *st;
    struct h2_head head;
    bool end;
    uint32_t code;
    struct buf data;
};

struct h2_bucket {
    uint64_t tokens;
    usec_t at; /* when it was filled last */
};

struct h2_guard {
    bool server;
    struct h2_bucket slips, starts;
    const char *flood; /* what there was too much of; NULL: nothing */
    /* The frame that is coming in. */
    uint8_t head[9];
    uint8_t n_head, type, flags;
    uint32_t skip; /* bytes of it (at first: of the preface) that are still to come */
    size_t block_size;
    unsigned strikes, updates;
    usec_t pinged_at; /* the last ping that was in order; 0: none that counts */
    /* When it has to be there; USEC_INFINITY: nothing is waited for. */
    usec_t preface_by, ack_by, block_by;
};

struct h2_mem {
    void *slot;
    bool making; /* the session is being made: only then is the frame buffer allocated */
};

struct h2_stream {
    struct list node;
    struct h2 *h;
    int32_t id;
    void *user;
    struct h2_head head; /* being received */
    size_t head_size;
    struct buf out;
    size_t out_at;
    usec_t moved_at; /* finishing: bytes were last taken */
    struct h2_head trailers;
    size_t high; /* 0: H2_QUEUE_HIGH */
    bool finishing, deferred, above, released;
    bool closed; /* nghttp2 has forgotten it */
};

struct h2 {
    struct conn *conn;
    struct loop *loop;
    nghttp2_session *session;
    const struct h2_handler *handler;
    void *arg;
    bool server, dead, freed, working, goaway, draining, last_goaway, calm;
    struct list streams, events;
    size_t n_streams;
    size_t queued; /* bytes of all streams that wait */
    struct task work;
    struct timer timer;
    struct h2_guard guard;
    struct h2_mem mem;
    usec_t keepalive, last_rx, ping_at;
    usec_t blocked_at; /* the connection takes nothing since; 0: it does */
    size_t blocked_n;  /* what was queued in it then */
    usec_t max_age_at; /* USEC_INFINITY: any age */
    usec_t drain_by;   /* draining: the end */
    bool peer_closed;  /* its side */
    bool ending;       /* all is said: what is queued in the connection goes, then the peer has a while to close */
    usec_t left_at;    /* ending: when less than before was queued, or nothing */
    size_t left_n;
    usec_t trim_at;    /* USEC_INFINITY: nothing was sent since the last time */
    const char *drain_text;
    struct err *why; /* dead */
};

/* Appends one field and counts it: 0 or -ERR_EXHAUSTED. */
int h2_head_add(struct h2_head *head, struct str name, struct str value) MUST_USE;
/* Empties it and gives the memory back. */
void h2_head_reset(struct h2_head *head);
/* Sees to it that the work task runs. */
void h2_post_work(struct h2 *h);
/* Appends to the run queue. Never NULL; owned by the queue. */
struct h2_event *h2_push(struct h2 *h, enum event_kind kind, struct h2_stream *st);
/* A stream in the list of @h, which owns it. Never NULL. */
struct h2_stream *h2_stream_new(struct h2 *h, int32_t id) MUST_USE;
/* Unlinks and frees it. */
void h2_stream_free(struct h2_stream *st);
/* Drops what is not sent. */
void h2_stream_drop(struct h2_stream *st);
/* Writes what nghttp2 has while the connection takes it. */
void h2_send_pending(struct h2 *h);
/* The end, once: streams are closed and the handler is told in turns of their own. */
void h2_fail(struct h2 *h, enum err_code code, const char *msg);
/* GOAWAY with @code and @text as debug data first. */
void h2_fail_telling(struct h2 *h, enum h2_code code, enum err_code err, const char *text);

/* h2_life.c: the timer of the connection. */
void h2_life_init(struct h2 *h);
/* The timer fires at @due or before. */
void h2_life_wake(struct h2 *h, usec_t due);
/* The answer to the PING of a drain. */
void h2_life_drain_ack(struct h2 *h);
/* After sending: notes whether the connection is stuck. */
void h2_life_sent(struct h2 *h);
/* The session has nothing more to say or to hear. */
void h2_life_end(struct h2 *h);
extern const uint8_t h2_drain_ping[8];

/* h2_guard.c. All times are of the caller. */
void h2_guard_init(struct h2_guard *g, bool server, usec_t now);
/* Counts the frames that begin in @bytes; sets flood. */
void h2_guard_scan(struct h2_guard *g, struct str bytes, usec_t now);
/* Something not quite right; sets flood. */
void h2_guard_charge(struct h2_guard *g, unsigned cost, const char *what);
/* One more request: false when there were too many. */
bool h2_guard_start(struct h2_guard *g) MUST_USE;
/* A frame of ours of this type went out. */
void h2_guard_sent(struct h2_guard *g, uint8_t type);
/* What is overdue, or NULL. */
const char *h2_guard_late(const struct h2_guard *g, usec_t now);
/* When something will be. */
usec_t h2_guard_due(const struct h2_guard *g);

/* h2_mem.c. The memory functions of a session; @m lives as long as it. */
nghttp2_mem h2_mem_functions(struct h2_mem *m);
/* Gives the pages of the frame buffer back; nothing may be being sent. */
void h2_mem_trim(struct h2_mem *m);

#endif
