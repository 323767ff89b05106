/* SPDX-License-Identifier: Apache-2.0 */
/* conn_internal — the record of a connection, shared by conn.c (the plain half and the interface) and conn_tls.c. Not included outside.
 * Reading: bytes that nobody took yet stand in `pending` (clear) and, with TLS, behind them in `held` (as received); while either has
 * something the stream is not read, so an idle connection owns neither. */
#ifndef DAVIT_NET_CONN_INTERNAL_H
#define DAVIT_NET_CONN_INTERNAL_H

#include "base/buf.h"
#include "net/conn.h"
#include "net/tls_internal.h"

enum { CONN_UNREAD_MAX = 64 * 1024, CONN_RECORD_MAX = 16 * 1024 };

struct conn {
    struct loop *loop;
    struct stream *stream;
    const struct conn_handler *handler;
    void *arg;
    struct task resume; /* reading goes on in a turn of its own */
    struct task flush;  /* TLS: what was written in this turn becomes records */
    struct buf pending;
    struct buf held;
    struct buf out; /* TLS: clear bytes for the next record */
    struct str in;  /* TLS: what the current read callback lent */
    bool want_read;
    bool eof, eof_told; /* the end is known; the handler knows */
    bool failed, failure_told;
    bool shut;
    unsigned busy;       /* callbacks of ours on the stack */
    bool closed;         /* free it when the last of them returns */
    struct err *failure; /* NULL while there is none */

    struct event wake; /* fiber reading and writing */

    SSL *ssl; /* NULL: plain */
    struct tls_ctx *ctx;
    struct tls_peer *peer; /* NULL: none */
    bool shaking;
    void (*on_shaken)(void *arg, int rc); /* in the stream's callback: post from it */
    void *shaken_arg;
};

/* A connection on @s, still without a handler below. */
struct conn *conn_make(struct stream *s);
/* Brackets of every callback: conn_leave says true if the connection is gone. */
void conn_enter(struct conn *c);
bool conn_leave(struct conn *c);
/* Gives bytes to the handler. */
void conn_deliver(struct conn *c, const void *p, size_t n);
void conn_deliver_eof(struct conn *c);
/* Records the failure and tells the handler, once. */
void conn_fail(struct conn *c, const struct err *err);
/* Starts or stops reading the stream to fit what is wanted and what is still there. */
void conn_adjust(struct conn *c);

/* conn_setup.c. Waits: a client's handshake on a connection that is plain so far and has nothing unread. */
int conn_start_tls(struct conn *c, struct tls_ctx *tls, const char *server_name, usec_t deadline, struct err *err) MUST_USE;

/* conn_tls.c. */
extern const struct stream_handler conn_tls_stream_handler;
/* Puts a session under a fresh connection. @ctx is referenced. */
int conn_tls_init(struct conn *c, struct tls_ctx *ctx, const char *server_name, struct err *err) MUST_USE;
void conn_tls_release(struct conn *c);
/* Begins the handshake; @done(@arg, 0 or -ERR_*) is called once, with c->failure set on failure. */
void conn_tls_handshake(struct conn *c, void (*done)(void *arg, int rc), void *arg);
/* Decrypts and delivers while reading is wanted and bytes are there. */
void conn_tls_pump(struct conn *c);
int conn_tls_write(struct conn *c, const void *p, size_t n) MUST_USE;
void conn_tls_flush(struct conn *c);
void conn_tls_shutdown(struct conn *c);
/* Is there something to deliver without reading the stream? */
bool conn_tls_has_input(const struct conn *c);

#endif
