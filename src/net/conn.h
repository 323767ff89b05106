/* SPDX-License-Identifier: Apache-2.0 */
/* conn — a byte connection, plain or TLS: what http1, h2 and ws speak over, so that none of them knows about TLS.
 * Bytes arrive through a handler that is on only between conn_read_start and conn_read_stop; writes are queued under the limits of
 * loop/stream.h; with TLS they are coalesced into records of at most 16 KB per turn of the loop.
 * Callbacks never run inside a call into this module or into OpenSSL; they are posted.
 * Ownership: conn_close ends it; no callback afterwards.  Thread: loop. */
#ifndef DAVIT_NET_CONN_H
#define DAVIT_NET_CONN_H

#include "loop/stream.h"
#include "net/tls.h"

struct conn;

struct conn_handler {
    void (*on_read)(void *arg, const void *p, size_t n); /* borrowed; may stop reading or close */
    void (*on_eof)(void *arg);                           /* half-close by the peer (TLS: close_notify). May be NULL */
    void (*on_error)(void *arg, const struct err *err);  /* failed; the owner still calls conn_close */
    void (*on_drain)(void *arg);                         /* writable again. May be NULL */
};

/* Takes @s. */
struct conn *conn_plain(struct stream *s) MUST_USE;

enum { CONN_ADDRS_MAX = 8 };

/* Waits: dials @addr (as stream_dial, or up to CONN_ADDRS_MAX addresses of one host with commas between, tried in turn until one answers, 5 s
 * for each but the last) and, with @tls, shakes hands with SNI @server_name (may be NULL). A pin, URI or chain that does not
 * fit is -ERR_UNAUTHENTICATED and nothing of the caller's data was sent; a peer that has no version or protocol in common with us and says so
 * is -ERR_UNIMPLEMENTED. */
int conn_dial(struct loop *loop, const char *addr, struct tls_ctx *tls, const char *server_name, usec_t deadline, struct conn **ret,
              struct err *err) MUST_USE;

/* Starts a server handshake on @s, which is taken. Exactly one of on_ready (owns the conn) or on_failed is called, in a later turn; the
 * handshake has @timeout. The returned handle may be cancelled while neither was called (then neither is, and the stream is closed). */
struct conn_accept;
struct conn_accept *conn_accept_tls(struct stream *s, struct tls_ctx *tls, usec_t timeout, void (*on_ready)(void *arg, struct conn *c),
                                    void (*on_failed)(void *arg, const char *peer, const struct err *err), void *arg) MUST_USE;
void conn_accept_cancel(struct conn_accept *a);

/* From now on @h gets the events, with @arg; it is static. Nothing is read before conn_read_start. */
void conn_set_handler(struct conn *c, const struct conn_handler *h, void *arg);
void conn_read_start(struct conn *c);
void conn_read_stop(struct conn *c);
/* Queues a copy. 0, -ERR_EXHAUSTED, -ERR_UNAVAILABLE. */
int conn_write(struct conn *c, const void *p, size_t n) MUST_USE;
bool conn_writable(const struct conn *c);
size_t conn_queued(const struct conn *c);
/* Sends what is queued, then FIN (with TLS: close_notify first). */
void conn_shutdown(struct conn *c);
/* Accepts NULL; returns NULL. */
struct conn *conn_close(struct conn *c);

/* Fiber reading, for protocols that read top to bottom. Replaces the handler. Waits for at least one byte: *ret_n 0 is end of stream. */
int conn_read(struct conn *c, void *dst, size_t size, usec_t deadline, size_t *ret_n, struct err *err) MUST_USE;
/* Waits until the queue is below the high-water mark, then queues all of it. */
int conn_write_wait(struct conn *c, const void *p, size_t n, usec_t deadline, struct err *err) MUST_USE;
/* Puts bytes back in front of what is read next (what an HTTP parser read too far). 0 or -ERR_EXHAUSTED (64 KiB). */
int conn_unread(struct conn *c, const void *p, size_t n) MUST_USE;

/* The loop that it was made on. */
struct loop *conn_loop(const struct conn *c);
/* "192.0.2.7:52100" or "unix". Borrowed. */
const char *conn_peer_addr(const struct conn *c);
/* Peer certificate; present = false on plain connections and where none was sent. Borrowed. */
const struct tls_peer *conn_peer(const struct conn *c);
/* Of a unix connection. 0 or -ERR_PRECONDITION. */
int conn_peer_cred(const struct conn *c, struct stream_cred *ret) MUST_USE;
bool conn_is_tls(const struct conn *c);
/* Negotiated ALPN, "" if none. */
const char *conn_alpn(const struct conn *c);
uint64_t conn_bytes_in(const struct conn *c);  /* on the wire, TLS included */
uint64_t conn_bytes_out(const struct conn *c);

#endif
