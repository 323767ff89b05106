/* SPDX-License-Identifier: Apache-2.0 */
/* conn_tls — TLS on a stream without a buffer between: OpenSSL reads from the bytes of the current read callback and writes into the
 * stream's queue.  OpenSSL is entered only from the loop's callbacks and from writes; what it yields is delivered after it returned.
 * A connection that ends without close_notify has failed: its end could be somebody's cut. */
#include <openssl/err.h>
#include <string.h>

#include "base/mem.h"
#include "net/conn_internal.h"

/* Clear text on its way to a handler; no two deliveries are under way at once on a thread. */
static _Thread_local uint8_t clear[CONN_RECORD_MAX];

/* --- The BIO ------------------------------------------------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *dst, int size)
{
    struct conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (c->in.n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = c->in.n < (size_t)size ? c->in.n : (size_t)size;
    memcpy(dst, c->in.p, n);
    c->in.p += n;
    c->in.n -= n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *p, int n)
{
    struct conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0 || !c->stream)
        return -1;
    return stream_write(c->stream, p, (size_t)n) == 0 ? n : -1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

static BIO *bio_new(struct conn *c)
{
    static BIO_METHOD *method;
    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
        BUG_ON(!method);
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_ctrl);
    }
    BIO *bio = BIO_new(method);
    if (bio) {
        BIO_set_data(bio, c);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* --- Session ------------------------------------------------------------------------------------------------------------------------- */

int conn_tls_init(struct conn *c, struct tls_ctx *ctx, const char *server_name, struct err *err)
{
    SSL *ssl = NULL;
    int rc = tls_session_new(ctx, server_name, &ssl, err);
    if (rc < 0)
        return rc;
    BIO *bio = bio_new(c);
    if (!bio) {
        SSL_free(ssl);
        return err_set(err, ERR_INTERNAL, "TLS session");
    }
    SSL_set_bio(ssl, bio, bio);
    c->ssl = ssl;
    c->ctx = tls_ctx_ref(ctx);
    stream_set_handler(c->stream, &conn_tls_stream_handler, c);
    return 0;
}

void conn_tls_release(struct conn *c)
{
    SSL_free(c->ssl);
    c->ssl = NULL;
    c->ctx = tls_ctx_unref(c->ctx);
    free(c->peer);
    c->peer = NULL;
}

bool conn_tls_has_input(const struct conn *c)
{
    return !c->shaking && (c->held.len || SSL_pending(c->ssl) > 0);
}

static void end_handshake(struct conn *c, int rc)
{
    c->shaking = false;
    if (rc == 0) {
        struct tls_peer peer;
        tls_peer_read(c->ssl, &peer);
        if (peer.present) {
            c->peer = NEW(struct tls_peer);
            *c->peer = peer;
        }
        tls_session_trim(c->ssl);
    }
    c->on_shaken(c->shaken_arg, rc);
}

static void fail_handshake(struct conn *c, const struct err *err)
{
    conn_fail(c, err);
    end_handshake(c, -(int)err->code);
}

static void shake(struct conn *c)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(c->ssl);
    if (rc == 1) {
        end_handshake(c, 0);
        return;
    }
    if (SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ)
        return;
    struct err err = ERR_INIT;
    tls_fail(c->ssl, ERR_UNAVAILABLE, "TLS handshake", &err);
    fail_handshake(c, &err);
}

void conn_tls_handshake(struct conn *c, void (*done)(void *arg, int rc), void *arg)
{
    c->shaking = true;
    c->on_shaken = done;
    c->shaken_arg = arg;
    shake(c);
    conn_adjust(c);
}

/* --- Reading ------------------------------------------------------------------------------------------------------------------------- */

static void read_failed(struct conn *c, int rc)
{
    int why = SSL_get_error(c->ssl, rc);
    if (why == SSL_ERROR_WANT_READ)
        return;
    c->in = (struct str){0};
    buf_release(&c->held);
    if (why == SSL_ERROR_ZERO_RETURN) {
        conn_deliver_eof(c);
        return;
    }
    struct err err = ERR_INIT;
    tls_fail(c->ssl, ERR_UNAVAILABLE, "TLS", &err);
    conn_fail(c, &err);
}

static void decrypt(struct conn *c)
{
    /* What a handler put back comes first: it goes by the resume task. */
    while (c->want_read && !c->closed && !c->eof && !c->pending.len) {
        ERR_clear_error();
        int n = SSL_read(c->ssl, clear, sizeof(clear));
        if (n <= 0) {
            read_failed(c, n);
            return;
        }
        conn_deliver(c, clear, (size_t)n);
    }
}

void conn_tls_pump(struct conn *c)
{
    if (!conn_tls_has_input(c) || c->closed)
        return;
    c->in = buf_str(&c->held);
    decrypt(c);
    size_t left = c->in.n;
    c->in = (struct str){0};
    if (left == 0)
        buf_release(&c->held);
    else if (left < c->held.len)
        buf_consume(&c->held, c->held.len - left);
}

static void on_stream_read(void *arg, const void *p, size_t n)
{
    struct conn *c = arg;
    conn_enter(c);
    if (c->held.len == 0) {
        c->in = (struct str){p, n};
        if (c->shaking)
            shake(c);
        else
            decrypt(c);
    } else {
        c->in = (struct str){p, n};
    }
    if (!c->closed && c->in.n && !c->failed && buf_append_str(&c->held, c->in) != 0) {
        struct err err = ERR_INIT;
        err_set(&err, ERR_EXHAUSTED, "too many bytes read ahead");
        conn_fail(c, &err);
    }
    c->in = (struct str){0};
    conn_adjust(c);
    conn_leave(c);
}

static void on_stream_end(struct conn *c, enum err_code code, const char *what)
{
    struct err err = ERR_INIT;
    err_set(&err, code, "connection to %s %s", conn_peer_addr(c), what);
    conn_enter(c);
    if (c->shaking)
        fail_handshake(c, &err);
    else if (!c->eof)
        conn_fail(c, &err);
    conn_adjust(c);
    conn_leave(c);
}

static void on_stream_eof(void *arg)
{
    on_stream_end(arg, ERR_UNAVAILABLE, "was cut");
}

static void on_stream_error(void *arg, int rc)
{
    on_stream_end(arg, (enum err_code) - rc, "lost");
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

const struct stream_handler conn_tls_stream_handler = {on_stream_read, on_stream_eof, on_stream_error, on_stream_drain};

/* --- Writing ------------------------------------------------------------------------------------------------------------------------- */

static int encrypt(struct conn *c, const char *p, size_t n)
{
    while (n) {
        ERR_clear_error();
        int piece = n < CONN_RECORD_MAX ? (int)n : CONN_RECORD_MAX;
        int rc = SSL_write(c->ssl, p, piece);
        if (rc <= 0)
            return -(int)ERR_UNAVAILABLE;
        p += rc;
        n -= (size_t)rc;
    }
    return 0;
}

static int flush_out(struct conn *c)
{
    int rc = c->out.len ? encrypt(c, c->out.data, c->out.len) : 0;
    buf_release(&c->out);
    return rc;
}

int conn_tls_write(struct conn *c, const void *p, size_t n)
{
    if (c->shaking || c->failed)
        return -(int)ERR_UNAVAILABLE;
    if (n > STREAM_QUEUE_MAX || conn_queued(c) + n + n / 256 + 1024 > STREAM_QUEUE_MAX) /* with what records add */
        return -(int)ERR_EXHAUSTED;
    const char *at = p;
    int rc = 0;
    while (n && rc == 0) {
        size_t room = CONN_RECORD_MAX - c->out.len;
        size_t take = n < room ? n : room;
        if (take == CONN_RECORD_MAX) {
            rc = encrypt(c, at, take);
        } else {
            rc = buf_append(&c->out, at, take);
            if (rc == 0 && c->out.len == CONN_RECORD_MAX)
                rc = flush_out(c);
        }
        at += take;
        n -= take;
    }
    if (c->out.len)
        loop_post(c->loop, &c->flush);
    return rc;
}

void conn_tls_flush(struct conn *c)
{
    if (flush_out(c) == 0)
        return;
    struct err err = ERR_INIT;
    tls_fail(c->ssl, ERR_UNAVAILABLE, "TLS write", &err);
    conn_enter(c);
    conn_fail(c, &err);
    conn_leave(c);
}

void conn_tls_shutdown(struct conn *c)
{
    if (c->shaking || c->failed || !SSL_is_init_finished(c->ssl))
        return;
    (void)flush_out(c);
    if (SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN)
        return;
    ERR_clear_error();
    (void)SSL_shutdown(c->ssl);
    ERR_clear_error();
}

const char *conn_alpn(const struct conn *c)
{
    static _Thread_local char text[32];
    const unsigned char *p = NULL;
    unsigned n = 0;
    if (c->ssl)
        SSL_get0_alpn_selected(c->ssl, &p, &n);
    if (n >= sizeof(text))
        n = 0;
    if (n)
        memcpy(text, p, n);
    text[n] = '\0';
    return text;
}
