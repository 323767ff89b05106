/* SPDX-License-Identifier: Apache-2.0 */
/* TLS connections: who is let in, what is sent before, and how much may wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/conn.h"
#include "net/http_client.h"
#include "net/on_fiber.h"
#include "net/testcert.h"
#include "net/tls_server.h"

#define URI "davit://controlplane"

static struct testcert other_root, server_cert, client_cert, expired_cert, foreign_client;

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
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    struct testcert *all[] = {&root, &other_root, &server_cert, &client_cert, &expired_cert, &foreign_client};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        testcert_free(all[i]);
    return rc;
}
