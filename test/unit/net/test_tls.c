/* SPDX-License-Identifier: Apache-2.0 */
/* TLS connections: who is let in, what is sent before, and how much may wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/lane.h"
#include "net/conn.h"
#include "net/http_client.h"
#include "net/on_fiber.h"
#include "net/testcert.h"

#define URI "davit://controlplane"

static struct testcert root, other_root, server_cert, client_cert, expired_cert, foreign_client;

/* A server that counts what it got, on one connection after the other. */
struct server {
    struct listener *listener;
    struct tls_ctx *ctx;
    struct conn_accept *accept;
    struct conn *conn;
    size_t got;
    unsigned failed, ready;
    struct err why;
    bool eof, lost;
    usec_t timeout;
    struct conn_handler handler; /* in place of server_handler, if it has an on_read */
};

static void on_read(void *arg, const void *p, size_t n)
{
    (void)p;
    ((struct server *)arg)->got += n;
}

static void on_eof(void *arg)
{
    ((struct server *)arg)->eof = true;
}

static void on_error(void *arg, const struct err *err)
{
    struct server *s = arg;
    s->lost = true;
    s->why = *err;
}

static const struct conn_handler server_handler = {on_read, on_eof, on_error, NULL};

static void on_ready(void *arg, struct conn *c)
{
    struct server *s = arg;
    s->accept = NULL;
    s->ready++;
    s->conn = c;
    conn_set_handler(c, s->handler.on_read ? &s->handler : &server_handler, s);
    conn_read_start(c);
}

static void on_failed(void *arg, const char *peer, const struct err *err)
{
    struct server *s = arg;
    CHECK(*peer);
    s->accept = NULL;
    s->failed++;
    s->why = *err;
}

static void on_accept(void *arg, struct stream *stream)
{
    struct server *s = arg;
    s->conn = conn_close(s->conn);
    s->accept = conn_accept_tls(stream, s->ctx, s->timeout, on_ready, on_failed, s);
}

static struct tls_config server_config(const struct testcert *cert, enum tls_verify verify)
{
    return (struct tls_config){.server = true,
                               .cert_pem = str_from(cert->chain_pem),
                               .key_pem = str_from(cert->key_pem),
                               .ca_pem = str_from(root.cert_pem),
                               .verify = verify,
                               .alpn = "h2,http/1.1"};
}

static void server_open(struct server *s, struct loop *loop, const struct testcert *cert, enum tls_verify verify)
{
    struct err err = ERR_INIT;
    *s = (struct server){.timeout = 5 * USEC_SEC};
    struct tls_config config = server_config(cert, verify);
    CHECK_OK(tls_ctx_new(&config, &s->ctx, &err));
    CHECK_OK(listener_open(loop, "127.0.0.1:0", 0, on_accept, s, &s->listener, &err));
}

static void server_close(struct server *s)
{
    if (s->accept)
        conn_accept_cancel(s->accept);
    conn_close(s->conn);
    listener_close(s->listener);
    tls_ctx_unref(s->ctx);
}

/* Dials with @config and closes; a failed dial must leave the server without a byte. */
static int dial(struct loop *loop, struct server *s, const struct tls_config *config, struct conn **ret, struct err *err)
{
    struct tls_ctx *ctx = NULL;
    struct conn *c = NULL;
    int rc = tls_ctx_new(config, &ctx, err);
    if (rc == 0)
        rc = conn_dial(loop, listener_addr(s->listener), ctx, "localhost", deadline_in(5 * USEC_SEC), &c, err);
    tls_ctx_unref(ctx);
    if (rc == 0 && ret)
        *ret = c;
    else
        conn_close(c);
    return rc;
}

static void settle(void)
{
    CHECK(fiber_sleep(50 * USEC_MSEC) == 0);
}

static void pins(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    struct conn *c = NULL;
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    struct tls_config config = {.pin = root.spki_sha256, .peer_uri = URI, .alpn = "h2"};
    CHECK_OK(dial(loop, &s, &config, &c, &err));
    CHECK(conn_peer(c)->present && strcmp(conn_peer(c)->uri, URI) == 0 && strcmp(conn_alpn(c), "h2") == 0);
    CHECK(memcmp(conn_peer(c)->spki_sha256, server_cert.spki_sha256, 32) == 0 && conn_peer(c)->not_after_us > clock_real());
    CHECK_OK(conn_write(c, "x", 1));
    settle();
    CHECK(s.got == 1 && !conn_peer(s.conn)->present);
    conn_close(c);
    settle();
    CHECK(s.eof && !s.lost); /* a close is told by close_notify */
    const struct tls_config wrong[] = {
        {.pin = other_root.spki_sha256, .peer_uri = URI},
        {.pin = server_cert.spki_sha256, .peer_uri = URI}, /* the leaf's key is no root's */
        {.pin = root.spki_sha256, .peer_uri = "davit://server/1"},
        {.ca_pem = str_from(other_root.cert_pem), .peer_uri = URI},
        {.ca_pem = str_from(root.cert_pem), .pin = other_root.spki_sha256},
        {.ca_pem = str_from(root.cert_pem), .verify_host = "example.test"},
        {.ca_pem = str_from(root.cert_pem), .verify_host = "127.0.0.1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        s.got = 0;
        CHECK(dial(loop, &s, &wrong[i], NULL, &err) == -(int)ERR_UNAUTHENTICATED);
        settle();
        CHECK(s.got == 0 && s.ready == 1 && s.failed == i + 1);
    }
    config = (struct tls_config){.ca_pem = str_from(root.cert_pem), .verify_host = "localhost"};
    CHECK_OK(dial(loop, &s, &config, NULL, &err));
    config = (struct tls_config){.ca_pem = str_from(root.cert_pem), .alpn = "other"};
    CHECK(dial(loop, &s, &config, NULL, &err) == -(int)ERR_UNIMPLEMENTED); /* an alert, and no word on who we are */
    config = (struct tls_config){.alpn = "h2"};
    CHECK(dial(loop, &s, &config, NULL, &err) == -(int)ERR_INVALID);
    server_close(&s);
}

static void client_certificates(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    struct conn *c = NULL;
    char b[8];
    size_t n;
    server_open(&s, loop, &server_cert, TLS_VERIFY_REQUIRED);
    struct tls_config config = {.pin = root.spki_sha256,
                                .cert_pem = str_from(client_cert.chain_pem),
                                .key_pem = str_from(client_cert.key_pem)};
    CHECK_OK(dial(loop, &s, &config, &c, &err));
    settle();
    CHECK(s.ready == 1 && strcmp(conn_peer(s.conn)->uri, "davit://server/7") == 0 && conn_peer(s.conn)->serial[0]);
    conn_close(c);
    /* A client of TLS 1.3 learns that its certificate is not accepted when it reads. */
    config = (struct tls_config){.pin = root.spki_sha256};
    CHECK_OK(dial(loop, &s, &config, &c, &err));
    CHECK_OK(conn_write(c, "secret", 6));
    CHECK(conn_read(c, b, sizeof(b), deadline_in(USEC_SEC), &n, &err) == -(int)ERR_UNAUTHENTICATED);
    conn_close(c);
    CHECK(s.failed == 1 && s.why.code == ERR_UNAUTHENTICATED);
    config = (struct tls_config){.pin = root.spki_sha256,
                                 .cert_pem = str_from(foreign_client.chain_pem),
                                 .key_pem = str_from(foreign_client.key_pem)};
    CHECK_OK(dial(loop, &s, &config, &c, &err));
    CHECK(conn_read(c, b, sizeof(b), deadline_in(USEC_SEC), &n, &err) == -(int)ERR_UNAUTHENTICATED);
    conn_close(c);
    CHECK(s.failed == 2 && s.ready == 1 && s.got == 0);
    server_close(&s);
    server_open(&s, loop, &server_cert, TLS_VERIFY_OPTIONAL);
    config = (struct tls_config){.pin = root.spki_sha256};
    CHECK_OK(dial(loop, &s, &config, NULL, &err));
    settle();
    CHECK(s.ready == 1);
    server_close(&s);
}

static void expired(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    server_open(&s, loop, &expired_cert, TLS_VERIFY_NONE);
    struct tls_config config = {.pin = root.spki_sha256};
    CHECK(dial(loop, &s, &config, NULL, &err) == -(int)ERR_UNAUTHENTICATED);
    CHECK(strstr(err.msg, "expired"));
    server_close(&s);
}

static void configs(struct loop *loop)
{
    (void)loop;
    struct err err = ERR_INIT;
    struct tls_ctx *ctx = NULL;
    struct tls_config config = server_config(&server_cert, TLS_VERIFY_NONE);
    config.key_pem = str_from(client_cert.key_pem);
    CHECK(tls_ctx_new(&config, &ctx, &err) == -(int)ERR_INVALID);
    config = server_config(&server_cert, TLS_VERIFY_NONE);
    config.cert_pem = STR("nonsense");
    CHECK(tls_ctx_new(&config, &ctx, &err) == -(int)ERR_INVALID);
    config = server_config(&server_cert, TLS_VERIFY_REQUIRED);
    config.ca_pem = STR("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    CHECK(tls_ctx_new(&config, &ctx, &err) == -(int)ERR_INVALID);
    config = (struct tls_config){.server = true};
    CHECK(tls_ctx_new(&config, &ctx, &err) == -(int)ERR_INVALID);
}

/* 20 MB to a server that reads nothing for a while: the writer is held up, nothing is lost. */
static void back_pressure(struct loop *loop)
{
    enum { TOTAL = 20000000, PIECE = 100000 };
    struct err err = ERR_INIT;
    struct server s;
    struct conn *c = NULL;
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    struct tls_config config = {.pin = root.spki_sha256};
    CHECK_OK(dial(loop, &s, &config, &c, &err));
    settle();
    conn_read_stop(s.conn);
    static char piece[PIECE];
    size_t sent = 0;
    int rc = 0;
    while (rc == 0 && sent < TOTAL) {
        rc = conn_write_wait(c, piece, PIECE, deadline_in(200 * USEC_MSEC), &err);
        sent += rc == 0 ? PIECE : 0;
    }
    CHECK(rc == -(int)ERR_DEADLINE && sent < TOTAL && conn_queued(c) < (size_t)STREAM_HIGH_WATER + 2 * PIECE);
    CHECK(s.got <= 65536);
    conn_read_start(s.conn);
    while (sent < TOTAL) {
        CHECK_OK(conn_write_wait(c, piece, PIECE, deadline_in(10 * USEC_SEC), &err));
        sent += PIECE;
    }
    conn_shutdown(c);
    for (int i = 0; i < 200 && !s.eof; i++)
        settle();
    CHECK(s.got == sent && s.eof);
    char *big = calloc(1, STREAM_QUEUE_MAX + 1);
    CHECK(big);
    CHECK(conn_write(s.conn, big, STREAM_QUEUE_MAX + 1) == -(int)ERR_EXHAUSTED);
    CHECK(conn_write(c, "x", 1) == -(int)ERR_UNAVAILABLE); /* shut */
    free(big);
    conn_close(c);
    server_close(&s);
}

static void handshake_timeout(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    struct stream *st = NULL;
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    s.timeout = 100 * USEC_MSEC;
    CHECK_OK(stream_dial(loop, listener_addr(s.listener), deadline_in(USEC_SEC), &st, &err));
    CHECK(fiber_sleep(300 * USEC_MSEC) == 0);
    CHECK(s.failed == 1 && s.why.code == ERR_DEADLINE && !s.accept);
    stream_close(st);
    CHECK_OK(stream_dial(loop, listener_addr(s.listener), deadline_in(USEC_SEC), &st, &err));
    CHECK_OK(stream_write(st, "GET / HTTP/1.1\r\n\r\n", 18));
    settle();
    CHECK(s.failed == 2 && s.why.code != ERR_DEADLINE);
    stream_close(st);
    CHECK_OK(stream_dial(loop, listener_addr(s.listener), deadline_in(USEC_SEC), &st, &err));
    settle();
    CHECK(s.accept);
    stream_close(st);
    server_close(&s); /* cancels it */
}

/* Half-close, and bytes put back. */
static void half_close(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    struct conn *c = NULL;
    char b[8];
    size_t n;
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    struct tls_config config = {.pin = root.spki_sha256};
    CHECK_OK(dial(loop, &s, &config, &c, &err));
    settle();
    CHECK_OK(conn_write(s.conn, "abc", 3));
    CHECK_OK(conn_read(c, b, sizeof(b), deadline_in(USEC_SEC), &n, &err));
    CHECK(n == 3);
    CHECK_OK(conn_unread(c, "12345", 5));
    CHECK_OK(conn_read(c, b, 3, deadline_in(USEC_SEC), &n, &err));
    CHECK(n == 3 && memcmp(b, "123", 3) == 0);
    CHECK_OK(conn_read(c, b, 3, deadline_in(USEC_SEC), &n, &err));
    CHECK(n == 2);
    conn_shutdown(s.conn);
    CHECK_OK(conn_read(c, b, sizeof(b), deadline_in(USEC_SEC), &n, &err));
    CHECK(n == 0);
    CHECK_OK(conn_write(c, "late", 4)); /* the other direction is open still */
    settle();
    CHECK(s.got == 4);
    conn_close(c);
    server_close(&s);
}

/* Somebody between the two who passes bytes on and then cuts. */
struct relay {
    struct loop *loop;
    const char *to;
    struct conn *a, *b;
};

static void relay_pass(void *arg)
{
    struct relay *r = arg;
    struct err err = ERR_INIT;
    char b[4096];
    size_t n;
    CHECK_OK(conn_dial(r->loop, r->to, NULL, NULL, deadline_in(USEC_SEC), &r->b, &err));
    while (conn_read(r->a, b, sizeof(b), deadline_in(100 * USEC_MSEC), &n, &err) == 0 && n)
        CHECK_OK(conn_write(r->b, b, n));
}

static void relay_back(void *arg)
{
    struct relay *r = arg;
    struct err err = ERR_INIT;
    char b[4096];
    size_t n;
    while (!r->b)
        CHECK_OK(fiber_sleep(USEC_MSEC));
    while (conn_read(r->b, b, sizeof(b), deadline_in(100 * USEC_MSEC), &n, &err) == 0 && n)
        CHECK_OK(conn_write(r->a, b, n));
    conn_shutdown(r->a); /* an end of the stream without the end of TLS */
}

static void on_relay(void *arg, struct stream *s)
{
    struct relay *r = arg;
    r->a = conn_plain(s);
    CHECK(fiber_spawn(r->loop, "pass", relay_pass, r, NULL) == 0);
    CHECK(fiber_spawn(r->loop, "back", relay_back, r, NULL) == 0);
}

/* An end without close_notify is a failure, not an end. */
static void truncation(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    struct listener *l = NULL;
    struct tls_ctx *ctx = NULL;
    struct conn *c = NULL;
    char b[8];
    size_t n;
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    struct relay r = {.loop = loop, .to = listener_addr(s.listener)};
    struct tls_config config = {.pin = root.spki_sha256};
    CHECK_OK(listener_open(loop, "127.0.0.1:0", 0, on_relay, &r, &l, &err));
    CHECK_OK(tls_ctx_new(&config, &ctx, &err));
    CHECK_OK(conn_dial(loop, listener_addr(l), ctx, NULL, deadline_in(USEC_SEC), &c, &err));
    settle();
    CHECK_OK(conn_write(s.conn, "abc", 3));
    CHECK_OK(conn_read(c, b, sizeof(b), deadline_in(USEC_SEC), &n, &err));
    CHECK(n == 3);
    CHECK(conn_read(c, b, sizeof(b), deadline_in(USEC_SEC), &n, &err) == -(int)ERR_UNAVAILABLE);
    conn_close(c);
    CHECK(fiber_sleep(200 * USEC_MSEC) == 0);
    conn_close(r.a);
    conn_close(r.b);
    listener_close(l);
    tls_ctx_unref(ctx);
    server_close(&s);
}

/* Puts back what it got first and takes it again by another handler, as one does who looked at what a connection speaks. */
struct second_look {
    struct conn *c;
    size_t got;
    bool in_order;
};

static void on_second_look(void *arg, const void *p, size_t n)
{
    struct second_look *l = arg;
    for (size_t i = 0; i < n; i++, l->got++)
        l->in_order = l->in_order && ((const uint8_t *)p)[i] == (uint8_t)(l->got / 1000);
}

static const struct conn_handler second_look = {on_second_look, NULL, on_error, NULL};

static void on_first_look(void *arg, const void *p, size_t n)
{
    struct second_look *l = arg;
    conn_read_stop(l->c);
    CHECK(conn_unread(l->c, p, n) == 0);
    conn_set_handler(l->c, &second_look, l);
    conn_read_start(l->c);
}

static const struct conn_handler first_look = {on_first_look, NULL, on_error, NULL};

/* Two records in one read: the second must not overtake the first one that was put back. */
static void put_back_order(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    struct conn *c = NULL;
    static uint8_t bytes[20000];
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    struct tls_config config = {.pin = root.spki_sha256};
    CHECK_OK(dial(loop, &s, &config, &c, &err));
    settle();
    struct second_look l = {.c = s.conn, .in_order = true};
    conn_set_handler(s.conn, &first_look, &l);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i / 1000);
    /* In this order both records leave with one write. */
    CHECK_OK(conn_write(c, bytes, 100));
    CHECK_OK(conn_write(c, bytes + 100, sizeof(bytes) - 100));
    settle();
    CHECK(l.got == sizeof(bytes) && l.in_order);
    conn_close(c);
    server_close(&s);
}

static void cut_later(void *arg)
{
    struct server *s = arg;
    settle();
    s->conn = conn_close(s->conn);
}

/* Who waits for room learns at once that the connection is gone, also where nothing was read from it yet. */
static void lost_while_writing(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    struct conn *c = NULL;
    enum { TOTAL = 20000000 };
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    struct tls_config config = {.pin = root.spki_sha256};
    CHECK_OK(dial(loop, &s, &config, &c, &err));
    settle();
    conn_read_stop(s.conn);
    char *big = calloc(1, TOTAL);
    CHECK(big && fiber_spawn(loop, "cut", cut_later, &s, NULL) == 0);
    CHECK(conn_write_wait(c, big, TOTAL, deadline_in(10 * USEC_SEC), &err) == -(int)ERR_UNAVAILABLE);
    free(big);
    conn_close(c);
    server_close(&s);
}

/* What a client sends first. */
struct hello {
    struct stream *stream;
    char bytes[4096];
    size_t n;
};

static void on_hello_read(void *arg, const void *p, size_t n)
{
    struct hello *h = arg;
    if (n < sizeof(h->bytes) - h->n) {
        memcpy(h->bytes + h->n, p, n);
        h->n += n;
    }
}

static void on_hello_error(void *arg, int rc)
{
    (void)arg;
    (void)rc;
}

static void on_hello(void *arg, struct stream *s)
{
    static const struct stream_handler handler = {.on_read = on_hello_read, .on_error = on_hello_error};
    struct hello *h = arg;
    h->stream = s;
    stream_set_handler(s, &handler, h);
    stream_read_start(s);
}

/* The name that a client of HTTP asks for is the host's without its port. */
static void server_name(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct listener *l = NULL;
    struct hello h = {.n = 0};
    struct tls_ctx *ctx = NULL;
    struct tls_config config = {.pin = root.spki_sha256};
    CHECK_OK(listener_open(loop, "127.0.0.1:0", 0, on_hello, &h, &l, &err));
    CHECK_OK(tls_ctx_new(&config, &ctx, &err));
    struct http_client *c = http_client_new(loop, listener_addr(l), "name.test:8443", ctx);
    struct http_request req = {.method = "GET", .target = "/"};
    struct http_exchange *x = NULL;
    CHECK(http_request(c, &req, deadline_in(100 * USEC_MSEC), &x, &err) == -(int)ERR_DEADLINE);
    CHECK(memmem(h.bytes, h.n, "name.test", 9) && !memmem(h.bytes, h.n, "name.test:", 10));
    http_client_free(c);
    tls_ctx_unref(ctx);
    stream_close(h.stream);
    listener_close(l);
}

#define CASE(name)                                                                                                               \
    static void test_##name(void **state)                                                                                        \
    {                                                                                                                            \
        (void)state;                                                                                                             \
        on_fiber(name);                                                                                                          \
    }
CASE(pins)
CASE(client_certificates)
CASE(expired)
CASE(configs)
CASE(back_pressure)
CASE(handshake_timeout)
CASE(half_close)
CASE(truncation)
CASE(put_back_order)
CASE(lost_while_writing)
CASE(server_name)

/* --- What another implementation is allowed: OpenSSL's client, blocking, on a thread ------------------------------------------- */

struct foreign {
    const char *addr;
    int max_version;
    const char *alpn; /* wire form; NULL: none */
    int connected, tickets, renegotiated;
    char chosen[16];
};

static int on_ticket(SSL *ssl, SSL_SESSION *session)
{
    (void)session;
    ((struct foreign *)SSL_get_app_data(ssl))->tickets++;
    return 0;
}

static int run_foreign(void *arg)
{
    struct foreign *f = arg;
    char b[1];
    const unsigned char *chosen = NULL;
    unsigned n = 0;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(ctx, f->max_version);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(ctx, on_ticket);
    BIO *bio = BIO_new_connect(f->addr);
    CHECK(bio && BIO_do_connect(bio) == 1);
    SSL *ssl = SSL_new(ctx);
    SSL_set_app_data(ssl, f);
    SSL_set_bio(ssl, bio, bio);
    if (f->alpn)
        CHECK(SSL_set_alpn_protos(ssl, (const unsigned char *)f->alpn, (unsigned)strlen(f->alpn)) == 0);
    f->connected = SSL_connect(ssl) == 1;
    if (f->connected) {
        f->renegotiated = SSL_renegotiate(ssl);
        SSL_get0_alpn_selected(ssl, &chosen, &n);
        CHECK(n < sizeof(f->chosen));
        memcpy(f->chosen, chosen ? (const char *)chosen : "", n);
        CHECK(SSL_write(ssl, "x", 1) == 1 && SSL_read(ssl, b, 1) == 1); /* tickets would come before the answer */
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return 0;
}

static void run_foreigner(struct loop *loop, struct server *s, struct foreign *f)
{
    struct lane *lane = lane_new(loop, "foreign", 1, 1);
    f->addr = listener_addr(s->listener);
    CHECK(lane_call(lane, run_foreign, f, deadline_in(20 * USEC_SEC)) == 0);
    lane_free(lane);
    settle();
}

static void on_read_answer(void *arg, const void *p, size_t n)
{
    struct server *s = arg;
    on_read(arg, p, n);
    CHECK(conn_write(s->conn, "y", 1) == 0);
}

static void versions_and_protocols(struct loop *loop)
{
    struct server s;
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    s.handler = (struct conn_handler){on_read_answer, on_eof, on_error, NULL};
    struct foreign old = {.max_version = TLS1_2_VERSION};
    run_foreigner(loop, &s, &old);
    CHECK(!old.connected && s.failed == 1 && s.ready == 0);
    const struct {
        const char *offered, *chosen;
        bool refused;
    } alpn[] = {{NULL, "", false}, {"\2h2", "h2", false}, {"\10http/1.1\2h2", "h2", false}, {"\10http/1.1", "http/1.1", false},
                {"\3foo", "", true}, {"\10http/1.0\2h3", "", true}};
    unsigned ready = 0;
    for (size_t i = 0; i < ARRAY_LEN(alpn); i++) {
        struct foreign f = {.max_version = TLS1_3_VERSION, .alpn = alpn[i].offered};
        run_foreigner(loop, &s, &f);
        CHECK(f.connected == !alpn[i].refused && strcmp(f.chosen, alpn[i].chosen) == 0);
        CHECK(f.tickets == 0 && f.renegotiated == 0);
        ready += !alpn[i].refused;
        CHECK(s.ready == ready);
    }
    server_close(&s);
}

/* --- A host with several addresses ---------------------------------------------------------------------------------------------- */

/* Nobody takes connections from it, and its queue is full: who connects hears nothing. */
static int full_socket(char *dst, size_t size, int fill[4])
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *)&sa, n) == 0 && listen(fd, 0) == 0 && getsockname(fd, (struct sockaddr *)&sa, &n) == 0);
    for (int i = 0; i < 4; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&sa, n);
    }
    CHECK((size_t)snprintf(dst, size, "127.0.0.1:%u", ntohs(sa.sin_port)) < size);
    return fd;
}

static int dial_list(struct loop *loop, const char *first, const char *last, usec_t wait, struct err *err)
{
    char list[256];
    struct conn *c = NULL;
    CHECK((size_t)snprintf(list, sizeof(list), "%s,%s", first, last) < sizeof(list));
    int rc = conn_dial(loop, list, NULL, NULL, deadline_in(wait), &c, err);
    CHECK(rc < 0 || strcmp(conn_peer_addr(c), last) == 0);
    conn_close(c);
    return rc;
}

static void several_addresses(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct server s;
    char silent[32], dead[32], many[32 * (CONN_ADDRS_MAX + 1)] = "";
    int fill[4];
    server_open(&s, loop, &server_cert, TLS_VERIFY_NONE);
    struct listener *gone = NULL;
    CHECK_OK(listener_open(loop, "127.0.0.1:0", 0, on_accept, &s, &gone, &err));
    CHECK(str_copy(dead, sizeof(dead), str_from(listener_addr(gone))) == 0);
    listener_close(gone);
    int fd = full_socket(silent, sizeof(silent), fill);
    settle();
    const char *live = listener_addr(s.listener);
    CHECK_OK(dial_list(loop, dead, live, 5 * USEC_SEC, &err));
    CHECK_OK(dial_list(loop, silent, live, USEC_SEC, &err)); /* half of the time for each */
    CHECK(dial_list(loop, silent, dead, USEC_SEC / 2, &err) == -(int)ERR_UNAVAILABLE);
    CHECK(dial_list(loop, dead, silent, USEC_SEC / 2, &err) == -(int)ERR_DEADLINE);
    CHECK(dial_list(loop, dead, "nonsense", USEC_SEC, &err) == -(int)ERR_INVALID);
    for (int i = 0; i <= CONN_ADDRS_MAX; i++) {
        size_t n = strlen(many);
        CHECK(snprintf(many + n, sizeof(many) - n, "%s%s", i ? "," : "", dead) > 0);
        struct conn *c = NULL;
        CHECK(conn_dial(loop, many, NULL, NULL, deadline_in(USEC_SEC), &c, &err) ==
              (i < CONN_ADDRS_MAX ? -(int)ERR_UNAVAILABLE : -(int)ERR_INVALID));
    }
    for (int i = 0; i < 4; i++)
        close(fill[i]);
    close(fd);
    server_close(&s);
}

/* req: MA-3 */
static void test_versions_and_protocols(void **state)
{
    (void)state;
    on_fiber(versions_and_protocols);
}

static void test_several_addresses(void **state)
{
    (void)state;
    on_fiber(several_addresses);
}

int main(void)
{
    testcert_make(&root, "root", NULL, NULL, NULL, 86400);
    testcert_make(&other_root, "other root", NULL, NULL, NULL, 86400);
    testcert_make(&server_cert, "server", &root, URI, "localhost", 86400);
    testcert_make(&client_cert, "client", &root, "davit://server/7", NULL, 86400);
    testcert_make(&expired_cert, "server", &root, URI, NULL, -3600);
    testcert_make(&foreign_client, "client", &other_root, "davit://server/7", NULL, 86400);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pins),       cmocka_unit_test(test_client_certificates), cmocka_unit_test(test_expired),
        cmocka_unit_test(test_configs),    cmocka_unit_test(test_back_pressure),       cmocka_unit_test(test_handshake_timeout),
        cmocka_unit_test(test_half_close), cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_put_back_order), cmocka_unit_test(test_lost_while_writing),
        cmocka_unit_test(test_server_name),
        cmocka_unit_test(test_versions_and_protocols),
        cmocka_unit_test(test_several_addresses),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    struct testcert *all[] = {&root, &other_root, &server_cert, &client_cert, &expired_cert, &foreign_client};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        testcert_free(all[i]);
    return rc;
}
