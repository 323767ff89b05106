/* SPDX-License-Identifier: Apache-2.0 */
/* h2_internal — what h2.c (sessions, run queue) and h2_stream.c (streams, sending) share.  Not included elsewhere. */
#ifndef DAVIT_NET_H2_INTERNAL_H
#define DAVIT_NET_H2_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "net/h2.h"

enum {
    H2_WINDOW_CONN =
        1024 * 1024, /* given back as soon as bytes are handed over: what a stream holds back is bounded by its own window */
    H2_TRAILERS_MAX = 64
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

struct h2_stream {
    struct list node;
    struct h2 *h;
    int32_t id;
    void *user;
    struct h2_head head; /* being received */
    size_t head_size;
    struct buf out;
    size_t out_at;
    struct h2_head trailers;
    bool finishing, deferred, above, released;
    bool closed; /* nghttp2 has forgotten it */
};

struct h2 {
    struct conn *conn;
    struct loop *loop;
    nghttp2_session *session;
    const struct h2_handler *handler;
    void *arg;
    bool server, dead, freed, working, flooded, goaway, draining, got_settings;
    struct list streams, events;
    size_t n_streams;
    struct task work;
    struct timer timer;
    usec_t keepalive, last_rx, ping_at, preface_by;
    uint64_t tokens;
    usec_t tokens_at;
    struct err why;
};

/* Appends one field: 0 or -ERR_EXHAUSTED. */
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

#endif
