/* SPDX-License-Identifier: Apache-2.0 */
/* stream — a connected socket: reading on demand, coalesced and bounded writing, half-close, close.
 * Writing: bytes gather in `out`; a task of the next turn offers them to the kernel and hands what it did not take to libuv as one
 * request, during which the next bytes gather.  An idle stream therefore holds no buffer.
 * A failed write does not end reading at once: what the peer had sent before it closed (an early answer) is still delivered, and
 * the failure is reported where the input ends. */
#include "loop/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/buf.h"
#include "loop/stream_internal.h"

struct stream {
    union stream_handle h;
    struct loop *loop;
    const struct stream_handler *handler;
    void *arg;
    struct buf out;
    size_t in_flight; /* size of the request that libuv has */
    struct task flush;
    uint64_t bytes_in, bytes_out;
    char *peer, *local;
    int write_rc;          /* not 0: writing has failed */
    bool is_unix;
    bool want_read;        /* between stream_read_start and stream_read_stop */
    bool eof;
    bool failed;           /* on_error is due or was called */
    bool error_told;
    bool shutting;         /* no more writes */
    bool fin_sent;
    bool was_high;
    bool closing;
};

struct write_req {
    uv_write_t req;
    struct stream *s;
    struct buf data;
};

static void on_flush(void *arg);

static int fd_of(const struct stream *s)
{
    uv_os_fd_t fd;

    return uv_fileno(&s->h.any, &fd) == 0 ? fd : -1;
}

struct stream *stream_new(struct loop *loop, bool is_unix)
{
    struct stream *s = NEW(struct stream);

    s->loop = loop;
    s->is_unix = is_unix;
    buf_init(&s->out, STREAM_QUEUE_MAX);
    task_init(&s->flush, on_flush, s);
    if (is_unix)
        BUG_ON(uv_pipe_init(&loop->uv, &s->h.pipe, 0) < 0);
    else
        BUG_ON(uv_tcp_init(&loop->uv, &s->h.tcp) < 0);
    s->h.any.data = s;
    return s;
}

union stream_handle *stream_handle(struct stream *s)
{
    return &s->h;
}

void stream_tune_tcp(int fd)
{
    const int on = 1, idle = 30, interval = 10, count = 3;

    /* Advice to the kernel: a connection without it still works. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

void stream_connected(struct stream *s)
{
    struct sockaddr_storage sa;
    int n = sizeof(sa);

    if (s->is_unix)
        return;
    stream_tune_tcp(fd_of(s));
    if (uv_tcp_getpeername(&s->h.tcp, (struct sockaddr *)&sa, &n) == 0)
        s->peer = addr_text((struct sockaddr *)&sa);
    n = sizeof(sa);
    if (uv_tcp_getsockname(&s->h.tcp, (struct sockaddr *)&sa, &n) == 0)
        s->local = addr_text((struct sockaddr *)&sa);
}

int stream_from_fd(struct loop *loop, int fd, struct stream **ret, struct err *err)
{
    uv_handle_type type = uv_guess_handle(fd);
    struct stream *s;
    int rc;

    if (type != UV_TCP && type != UV_NAMED_PIPE)
        return err_set(err, ERR_INVALID, "descriptor %d is neither a stream socket nor a pipe", fd);
    s = stream_new(loop, type == UV_NAMED_PIPE);
    rc = s->is_unix ? uv_pipe_open(&s->h.pipe, fd) : uv_tcp_open(&s->h.tcp, fd);
    if (rc < 0) {
        (void)stream_close(s);
        return err_sys(err, -rc, "cannot use descriptor %d as a stream", fd);
    }
    stream_connected(s);
    *ret = s;
    return 0;
}

void stream_set_handler(struct stream *s, const struct stream_handler *h, void *arg)
{
    s->handler = h;
    s->arg = arg;
}

/* May release @s. */
static void tell_error(struct stream *s, int rc)
{
    if (s->error_told)
        return;
    s->failed = s->error_told = true;
    s->want_read = false;
    (void)uv_read_stop(&s->h.stream);
    if (s->handler && s->handler->on_error)
        s->handler->on_error(s->arg, rc);
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct stream *s = h->data;

    if (s->closing || n == 0)
        return;
    if (n > 0) {
        s->bytes_in += (uint64_t)n;
        if (s->handler && s->handler->on_read)
            s->handler->on_read(s->arg, b->base, (size_t)n);
        return;
    }
    s->want_read = false;
    (void)uv_read_stop(h);
    if (n != UV_EOF) {
        tell_error(s, loop_uv_code((int)n));
        return;
    }
    s->eof = true;
    if (s->write_rc < 0)
        tell_error(s, s->write_rc);
    else if (s->handler && s->handler->on_eof)
        s->handler->on_eof(s->arg);
}

void stream_read_start(struct stream *s)
{
    if (s->want_read || s->eof || s->failed || s->closing)
        return;
    s->want_read = true;
    if (uv_read_start(&s->h.stream, loop_lend_buf, on_read) < 0) {
        s->want_read = false;
        s->write_rc = -ERR_UNAVAILABLE;
        loop_post(s->loop, &s->flush);
    }
}

void stream_read_stop(struct stream *s)
{
    if (!s->want_read || s->closing)
        return;
    s->want_read = false;
    (void)uv_read_stop(&s->h.stream);
    if (s->write_rc < 0)
        loop_post(s->loop, &s->flush);
}

/* Nothing can be sent any more. May release @s. */
static void write_failed(struct stream *s, int status)
{
    s->write_rc = loop_uv_code(status);
    buf_release(&s->out);
    if (!s->want_read)
        tell_error(s, s->write_rc);
}

static void send_fin_done(uv_shutdown_t *req, int status)
{
    struct stream *s = req->handle->data;

    free(req);
    /* A broken connection shows on the reading side. */
    if (status == UV_ENOTSOCK && !s->closing && s->handler && s->handler->on_eof)
        s->handler->on_eof(s->arg);
}

static void send_fin(struct stream *s)
{
    uv_shutdown_t *req;

    if (!s->shutting || s->fin_sent || s->out.len > 0 || s->in_flight > 0)
        return;
    s->fin_sent = true;
    req = NEW(uv_shutdown_t);
    if (uv_shutdown(req, &s->h.stream, send_fin_done) < 0)
        free(req);
}

/* May release @s. */
static void check_drain(struct stream *s)
{
    if (!s->was_high || stream_queued(s) >= STREAM_LOW_WATER || s->write_rc < 0)
        return;
    s->was_high = false;
    if (s->handler && s->handler->on_drain)
        s->handler->on_drain(s->arg);
}

static void on_written(uv_write_t *req, int status)
{
    struct write_req *w = CONTAINER_OF(req, struct write_req, req);
    struct stream *s = w->s;

    s->loop->activity++;
    s->in_flight = 0;
    if (status == 0)
        s->bytes_out += w->data.len;
    buf_release(&w->data);
    free(w);
    if (s->closing)
        return;
    if (status < 0) {
        write_failed(s, status);
        return;
    }
    if (s->out.len > 0 || s->shutting)
        loop_post(s->loop, &s->flush);
    check_drain(s);
}

/* Offers `out` to the kernel; a negative libuv status when the connection is gone. */
static int try_write(struct stream *s)
{
    uv_buf_t b = uv_buf_init(s->out.data, (unsigned)s->out.len);
    int n = uv_try_write(&s->h.stream, &b, 1);

    if (n == UV_EAGAIN)
        return 0;
    if (n < 0)
        return n;
    s->bytes_out += (uint64_t)n;
    if ((size_t)n == s->out.len)
        buf_release(&s->out);
    else
        buf_consume(&s->out, (size_t)n);
    return 0;
}

static int start_write(struct stream *s)
{
    struct write_req *w = NEW(struct write_req);
    uv_buf_t b;
    int rc;

    w->s = s;
    w->data = s->out;
    buf_init(&s->out, STREAM_QUEUE_MAX);
    b = uv_buf_init(w->data.data, (unsigned)w->data.len);
    rc = uv_write(&w->req, &s->h.stream, &b, 1, on_written);
    if (rc < 0) {
        buf_release(&w->data);
        free(w);
        return rc;
    }
    s->in_flight = w->data.len;
    return 0;
}

static void on_flush(void *arg)
{
    struct stream *s = arg;
    int rc = 0;

    if (s->write_rc < 0) {
        if (!s->want_read)
            tell_error(s, s->write_rc);
        return;
    }
    if (s->in_flight > 0)
        return;
    if (s->out.len > 0)
        rc = try_write(s);
    if (rc == 0 && s->out.len > 0)
        rc = start_write(s);
    if (rc < 0) {
        write_failed(s, rc);
        return;
    }
    send_fin(s);
    check_drain(s);
}

int stream_write(struct stream *s, const void *p, size_t n)
{
    if (s->failed || s->write_rc < 0 || s->shutting || s->closing)
        return -ERR_UNAVAILABLE;
    if (n == 0)
        return 0;
    if (n > STREAM_QUEUE_MAX - stream_queued(s))
        return -ERR_EXHAUSTED;
    if (buf_append(&s->out, p, n) < 0)
        return -ERR_EXHAUSTED;
    if (stream_queued(s) >= STREAM_HIGH_WATER)
        s->was_high = true;
    if (s->in_flight == 0)
        loop_post(s->loop, &s->flush);
    return 0;
}

size_t stream_queued(const struct stream *s)
{
    return s->out.len + (s->in_flight > 0 ? uv_stream_get_write_queue_size(&s->h.stream) : 0);
}

bool stream_writable(const struct stream *s)
{
    return stream_queued(s) < STREAM_HIGH_WATER;
}

void stream_shutdown(struct stream *s)
{
    if (s->shutting || s->failed || s->closing)
        return;
    s->shutting = true;
    loop_post(s->loop, &s->flush);
}

static void on_closed(uv_handle_t *h)
{
    struct stream *s = h->data;

    buf_release(&s->out);
    free(s->peer);
    free(s->local);
    free(s);
}

struct stream *stream_close(struct stream *s)
{
    if (!s)
        return NULL;
    BUG_ON(s->closing);
    if (s->out.len > 0 && s->in_flight == 0 && !s->failed && s->write_rc == 0)
        (void)try_write(s);
    s->closing = true;
    s->handler = NULL;
    task_cancel(&s->flush);
    uv_close(&s->h.any, on_closed);
    return NULL;
}

struct loop *stream_loop(const struct stream *s)
{
    return s->loop;
}

const char *stream_peer(const struct stream *s)
{
    return s->peer ? s->peer : "unix";
}

const char *stream_local(const struct stream *s)
{
    return s->local ? s->local : "unix";
}

int stream_peer_cred(const struct stream *s, struct stream_cred *ret)
{
    struct ucred cred;
    socklen_t n = sizeof(cred);

    if (!s->is_unix || getsockopt(fd_of(s), SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 || n != sizeof(cred))
        return -ERR_PRECONDITION;
    *ret = (struct stream_cred){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
    return 0;
}

uint64_t stream_bytes_in(const struct stream *s)
{
    return s->bytes_in;
}

uint64_t stream_bytes_out(const struct stream *s)
{
    return s->bytes_out;
}
