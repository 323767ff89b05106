/* SPDX-License-Identifier: Apache-2.0 */
/* conn — the interface of connections, their plain half, and reading and writing from fibers. */
#include "net/conn.h"

#include <string.h>

#include "base/mem.h"
#include "net/conn_internal.h"

enum { WRITE_PIECE = 128 * 1024 };

static void on_resume(void *arg);
static void on_flush(void *arg);

/* --- Making and ending -------------------------------------------------------------------------------------------------------------- */

struct conn *conn_make(struct stream *s)
{
    struct conn *c = NEW(struct conn);
    c->loop = stream_loop(s);
    c->stream = s;
    task_init(&c->resume, on_resume, c);
    task_init(&c->flush, on_flush, c);
    buf_init(&c->pending, 4 * CONN_UNREAD_MAX);
    buf_init(&c->held, 4 * CONN_UNREAD_MAX);
    buf_init(&c->out, CONN_RECORD_MAX);
    event_init(&c->wake, c->loop);
    return c;
}

static void conn_free(struct conn *c)
{
    conn_tls_release(c);
    buf_release(&c->pending);
    buf_release(&c->held);
    buf_release(&c->out);
    free(c->failure);
    free(c);
}

void conn_enter(struct conn *c)
{
    c->busy++;
}

bool conn_leave(struct conn *c)
{
    if (--c->busy || !c->closed)
        return c->closed;
    conn_free(c);
    return true;
}

struct conn *conn_close(struct conn *c)
{
    if (!c || c->closed)
        return NULL;
    c->closed = true;
    c->want_read = false;
    if (c->ssl)
        conn_tls_shutdown(c);
    task_cancel(&c->resume);
    task_cancel(&c->flush);
    c->stream = stream_close(c->stream);
    event_release(&c->wake);
    if (!c->busy)
        conn_free(c);
    return NULL;
}

/* --- Delivery ------------------------------------------------------------------------------------------------------------------------ */

void conn_deliver(struct conn *c, const void *p, size_t n)
{
    if (c->handler && n && !c->closed)
        c->handler->on_read(c->arg, p, n);
}

void conn_deliver_eof(struct conn *c)
{
    c->eof = true;
    if (!c->handler || !c->want_read || c->eof_told || c->closed)
        return;
    c->eof_told = true;
    event_pulse(&c->wake);
    if (c->handler->on_eof)
        c->handler->on_eof(c->arg);
}

static bool input_left(const struct conn *c)
{
    return c->pending.len || (c->ssl && conn_tls_has_input(c));
}

static void tell_failure(struct conn *c)
{
    if (!c->handler || c->failure_told || c->closed || (c->want_read && input_left(c)))
        return;
    c->failure_told = true;
    event_pulse(&c->wake);
    if (c->handler->on_error)
        c->handler->on_error(c->arg, c->failure);
}

void conn_fail(struct conn *c, const struct err *err)
{
    if (c->failed || c->closed)
        return;
    c->failed = true;
    c->failure = NEW(struct err);
    *c->failure = *err;
    event_pulse(&c->wake); /* a fiber that writes has no handler */
    tell_failure(c);
}

void conn_adjust(struct conn *c)
{
    if (c->closed)
        return;
    bool left = input_left(c);
    bool untold = (c->eof && !c->eof_told) || (c->failed && !c->failure_told);
    if (c->want_read && (left || untold))
        loop_post(c->loop, &c->resume);
    if (c->shaking || (c->want_read && !left && !c->eof && !c->failed))
        stream_read_start(c->stream);
    else
        stream_read_stop(c->stream);
}

static void on_resume(void *arg)
{
    struct conn *c = arg;
    conn_enter(c);
    if (c->want_read && c->pending.len) {
        struct buf pending = c->pending;
        buf_init(&c->pending, pending.max);
        conn_deliver(c, pending.data, pending.len);
        buf_release(&pending);
    }
    if (!c->closed && c->ssl)
        conn_tls_pump(c);
    if (!c->closed && c->want_read && !input_left(c)) {
        if (c->eof)
            conn_deliver_eof(c);
        if (c->failed)
            tell_failure(c);
    }
    conn_adjust(c);
    conn_leave(c);
}

static void on_flush(void *arg)
{
    conn_tls_flush(arg);
}

/* --- Plain streams ------------------------------------------------------------------------------------------------------------------- */

static void on_stream_read(void *arg, const void *p, size_t n)
{
    struct conn *c = arg;
    conn_enter(c);
    conn_deliver(c, p, n);
    conn_adjust(c);
    conn_leave(c);
}

static void on_stream_eof(void *arg)
{
    struct conn *c = arg;
    conn_enter(c);
    conn_deliver_eof(c);
    conn_leave(c);
}

static void on_stream_error(void *arg, int rc)
{
    struct conn *c = arg;
    struct err err = ERR_INIT;
    err_set(&err, (enum err_code) - rc, "connection to %s lost", conn_peer_addr(c));
    conn_enter(c);
    conn_fail(c, &err);
    conn_leave(c);
}

static void on_stream_drain(void *arg)
{
    struct conn *c = arg;
    conn_enter(c);
    event_pulse(&c->wake);
    if (c->handler && c->handler->on_drain)
        c->handler->on_drain(c->arg);
    conn_leave(c);
}

static const struct stream_handler plain_stream_handler = {on_stream_read, on_stream_eof, on_stream_error, on_stream_drain};

struct conn *conn_plain(struct stream *s)
{
    struct conn *c = conn_make(s);
    stream_set_handler(s, &plain_stream_handler, c);
    return c;
}

/* --- Interface ----------------------------------------------------------------------------------------------------------------------- */

void conn_set_handler(struct conn *c, const struct conn_handler *h, void *arg)
{
    c->handler = h;
    c->arg = arg;
}

void conn_read_start(struct conn *c)
{
    c->want_read = true;
    conn_adjust(c);
}

void conn_read_stop(struct conn *c)
{
    c->want_read = false;
    task_cancel(&c->resume);
    conn_adjust(c);
}

int conn_write(struct conn *c, const void *p, size_t n)
{
    if (c->shut || c->closed)
        return -(int)ERR_UNAVAILABLE;
    return c->ssl ? conn_tls_write(c, p, n) : stream_write(c->stream, p, n);
}

bool conn_writable(const struct conn *c)
{
    return stream_writable(c->stream);
}

size_t conn_queued(const struct conn *c)
{
    return stream_queued(c->stream) + c->out.len;
}

void conn_shutdown(struct conn *c)
{
    if (c->shut)
        return;
    c->shut = true;
    if (c->ssl)
        conn_tls_shutdown(c);
    stream_shutdown(c->stream);
}

struct loop *conn_loop(const struct conn *c)
{
    return c->loop;
}

const char *conn_peer_addr(const struct conn *c)
{
    return stream_peer(c->stream);
}

const struct tls_peer *conn_peer(const struct conn *c)
{
    static const struct tls_peer none;
    return c->peer ? c->peer : &none;
}

int conn_peer_cred(const struct conn *c, struct stream_cred *ret)
{
    return stream_peer_cred(c->stream, ret);
}

bool conn_is_tls(const struct conn *c)
{
    return c->ssl != NULL;
}

uint64_t conn_bytes_in(const struct conn *c)
{
    return stream_bytes_in(c->stream);
}

uint64_t conn_bytes_out(const struct conn *c)
{
    return stream_bytes_out(c->stream);
}

int conn_unread(struct conn *c, const void *p, size_t n)
{
    if (n > CONN_UNREAD_MAX)
        return -(int)ERR_EXHAUSTED;
    struct buf b = BUF_INIT(c->pending.max);
    if (buf_append(&b, p, n) != 0 || buf_append_str(&b, buf_str(&c->pending)) != 0) {
        buf_release(&b);
        return -(int)ERR_EXHAUSTED;
    }
    buf_release(&c->pending);
    c->pending = b;
    conn_adjust(c);
    return 0;
}

/* --- Fibers -------------------------------------------------------------------------------------------------------------------------- */

/* Waits for a change; the connection may be closed by somebody else meanwhile. */
static int wait_change(struct conn *c, usec_t deadline, const char *doing, struct err *err)
{
    conn_enter(c);
    int rc = event_wait(&c->wake, deadline);
    if (conn_leave(c) && rc == 0)
        rc = -(int)ERR_CANCELLED;
    if (rc == 0)
        return 0;
    return err_set(err, (enum err_code) - rc, "%s while %s", rc == -(int)ERR_DEADLINE ? "deadline exceeded" : "cancelled", doing);
}

static void on_fiber_read(void *arg, const void *p, size_t n)
{
    struct conn *c = arg;
    c->want_read = false;
    struct err err = ERR_INIT;
    if (buf_append(&c->pending, p, n) != 0) {
        err_set(&err, ERR_EXHAUSTED, "too many bytes read ahead");
        conn_fail(c, &err);
    }
    event_pulse(&c->wake);
}

static const struct conn_handler fiber_handler = {.on_read = on_fiber_read};

int conn_read(struct conn *c, void *dst, size_t size, usec_t deadline, size_t *ret_n, struct err *err)
{
    *ret_n = 0;
    if (c->handler != &fiber_handler) {
        conn_read_stop(c);
        conn_set_handler(c, &fiber_handler, c);
    }
    for (;;) {
        if (c->pending.len) {
            size_t n = c->pending.len < size ? c->pending.len : size;
            memcpy(dst, c->pending.data, n);
            if (n == c->pending.len)
                buf_release(&c->pending);
            else
                buf_consume(&c->pending, n);
            *ret_n = n;
            return 0;
        }
        bool more = c->ssl && conn_tls_has_input(c);
        if (!more && c->eof)
            return 0;
        if (!more && c->failed) {
            if (err)
                *err = *c->failure;
            return -(int)c->failure->code;
        }
        conn_read_start(c);
        int rc = wait_change(c, deadline, "reading", err);
        if (rc < 0)
            return rc;
    }
}

static int write_piece(struct conn *c, const char *p, size_t n, usec_t deadline, struct err *err)
{
    while (!conn_writable(c)) {
        if (c->failed) {
            if (err)
                *err = *c->failure;
            return -(int)c->failure->code;
        }
        int rc = wait_change(c, deadline, "writing", err);
        if (rc < 0)
            return rc;
    }
    int rc = conn_write(c, p, n);
    if (rc == -(int)ERR_UNAVAILABLE)
        return err_set(err, ERR_UNAVAILABLE, "connection lost while writing");
    return rc < 0 ? err_set(err, (enum err_code) - rc, "write queue full") : 0;
}

int conn_write_wait(struct conn *c, const void *p, size_t n, usec_t deadline, struct err *err)
{
    const char *at = p;
    while (n) {
        size_t piece = n < WRITE_PIECE ? n : WRITE_PIECE;
        int rc = write_piece(c, at, piece, deadline, err);
        if (rc < 0)
            return rc;
        at += piece;
        n -= piece;
    }
    return 0;
}
