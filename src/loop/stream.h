/* SPDX-License-Identifier: Apache-2.0 */
/* stream — sockets on the loop: TCP and unix, dialled or accepted, with explicit back-pressure and half-close.
 * Bytes come through a read callback that is on only between stream_read_start and stream_read_stop; writes are copied into a bounded
 * queue and @on_drain tells when it fell below the low-water mark.
 * Ownership: stream_close ends it: no callback runs afterwards; memory goes in a later turn. Descriptors are close-on-exec.
 * Limits: STREAM_HIGH_WATER is advice (stream_writable turns false), STREAM_QUEUE_MAX is the ceiling (write fails).
 * Thread: loop only. */
#ifndef DAVIT_LOOP_STREAM_H
#define DAVIT_LOOP_STREAM_H

#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"
#include "loop/fiber.h"

enum {
    STREAM_HIGH_WATER = 256 * 1024,
    STREAM_LOW_WATER = 64 * 1024,
    STREAM_QUEUE_MAX = 8 * 1024 * 1024,
    STREAM_ADDR_SIZE = 128
};

struct stream;

struct stream_handler {
    /* @n > 0: bytes, borrowed for the call. May call stream_read_stop or stream_close. */
    void (*on_read)(void *arg, const void *p, size_t n);
    /* The peer will send no more (half-close). Called once. May be NULL. */
    void (*on_eof)(void *arg);
    /* The connection failed (rc is negative, -ERR_*): nothing more will come; the owner still calls stream_close. */
    void (*on_error)(void *arg, int rc);
    /* The write queue fell below STREAM_LOW_WATER after having been above STREAM_HIGH_WATER. May be NULL. */
    void (*on_drain)(void *arg);
};

/* Waits: dials. @addr is "host:port" with a numeric host ("127.0.0.1:7442", "[::1]:7442") or "unix:/path". Names are resolved above
 * (net/resolve). *ret has no handler yet. 0, -ERR_UNAVAILABLE, -ERR_DEADLINE, -ERR_CANCELLED, -ERR_INVALID. */
int stream_dial(struct loop *loop, const char *addr, usec_t deadline, struct stream **ret, struct err *err) MUST_USE;

/* Takes over a connected, non-blocking socket or pipe. On success the stream owns @fd. */
int stream_from_fd(struct loop *loop, int fd, struct stream **ret, struct err *err) MUST_USE;

/* Installs or replaces the handler (borrowed, usually static const). */
void stream_set_handler(struct stream *s, const struct stream_handler *h, void *arg);
void stream_read_start(struct stream *s);
void stream_read_stop(struct stream *s);

/* Queues a copy of @n bytes. 0, -ERR_EXHAUSTED past STREAM_QUEUE_MAX, -ERR_UNAVAILABLE when the stream has failed or was shut down. */
int stream_write(struct stream *s, const void *p, size_t n) MUST_USE;
/* Bytes that wait to be sent. */
size_t stream_queued(const struct stream *s);
/* Below the high-water mark? */
bool stream_writable(const struct stream *s);
/* Sends what is queued, then FIN; reading goes on. A pipe has no FIN: when all of it is sent, on_eof says so, and the owner closes it. */
void stream_shutdown(struct stream *s);
/* Accepts NULL. Drops what is still queued after giving the kernel one chance to take it. Returns NULL. */
struct stream *stream_close(struct stream *s);

/* The loop that it was made on. */
struct loop *stream_loop(const struct stream *s);

/* Peer address as text ("192.0.2.7:52100", "unix"), borrowed for the life of the stream. */
const char *stream_peer(const struct stream *s);
/* Numeric local address as text. */
const char *stream_local(const struct stream *s);

struct stream_cred {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};
/* SO_PEERCRED of a unix stream. 0, or -ERR_PRECONDITION on any other. */
int stream_peer_cred(const struct stream *s, struct stream_cred *ret) MUST_USE;

/* Bytes that went over this stream, for the wire figures. */
uint64_t stream_bytes_in(const struct stream *s);
uint64_t stream_bytes_out(const struct stream *s);

struct listener;

/* Is @addr one that listener_open takes? 0 or -ERR_INVALID. */
int listener_check(const char *addr, struct err *err) MUST_USE;
/* Listens on "host:port" (port 0: any; see listener_addr) or "unix:/path" (a stale socket is replaced, a live one refused; created with
 * @unix_mode). @on_accept owns the new stream. TCP: SO_REUSEADDR, keep-alive 30/10/3, TCP_NODELAY. 0, -ERR_EXISTS (address in use), ... */
int listener_open(struct loop *loop, const char *addr, mode_t unix_mode, void (*on_accept)(void *arg, struct stream *s), void *arg,
                  struct listener **ret, struct err *err) MUST_USE;
/* The bound address as text. */
const char *listener_addr(const struct listener *l);
/* Accepts NULL. Returns NULL. */
struct listener *listener_close(struct listener *l);

#endif
