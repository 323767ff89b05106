/* SPDX-License-Identifier: Apache-2.0 */
/* Calls over TLS on loopback: ALPN decides, the handler sees who calls, a certificate can be replaced while it listens. */
#include "net/testcert.h"
#include "rpc/client_internal.h"
#include "rpc/harness.h"

#define SVC (&davit_test_v1_echo_service)

static struct testcert root, server_cert, renewed_cert, client_cert, stranger_root;
static char seen_uri[256];

static int remember(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
                    struct err *err)
{
    const struct tls_peer *peer = conn_peer(rpc_call_conn(call));
    (void)snprintf(seen_uri, sizeof(seen_uri), "%s", peer->present ? peer->uri : "none");
    return echo_authorize(call, ctx, service, method, err);
}

static struct tls_ctx *server_ctx(const struct testcert *cert)
{
    struct err err = ERR_INIT;
    struct tls_ctx *ctx = NULL;
    const struct tls_config config = {.server = true,
                                      .cert_pem = str_from(cert->chain_pem),
                                      .key_pem = str_from(cert->key_pem),
                                      .ca_pem = str_from(root.cert_pem),
                                      .verify = TLS_VERIFY_OPTIONAL,
                                      .alpn = "h2,http/1.1"};
    assert_int_equal(tls_ctx_new(&config, &ctx, &err), 0);
    return ctx;
}

static struct tls_ctx *client_ctx(const uint8_t *pin, const struct testcert *cert, const char *alpn)
{
    struct err err = ERR_INIT;
    struct tls_ctx *ctx = NULL;
    struct tls_config config = {.pin = pin, .peer_uri = "davit://controlplane", .alpn = alpn};
    if (cert) {
        config.cert_pem = str_from(cert->chain_pem);
        config.key_pem = str_from(cert->key_pem);
    }
    assert_int_equal(tls_ctx_new(&config, &ctx, &err), 0);
    return ctx;
}

/* One call over a channel of its own. @ret_cert: digest of the server's certificate. */
static int call_once(struct loop *loop, const char *addr, struct tls_ctx *ctx, uint8_t *ret_cert, struct err *err)
{
    struct rpc_channel *ch;
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    static uint8_t bytes[300000];
    q.payload = (ProtobufCBinaryData){sizeof(bytes), bytes};
    int rc = rpc_channel_open(loop, addr, ctx, USEC_SEC, deadline_in(5 * USEC_SEC), &ch, err);
    if (rc == 0) {
        memcpy(ret_cert, conn_peer(rpc_channel_conn(ch))->cert_sha256, 32);
        rc = rpc_unary(ch, SVC, "Echo", &q.base, deadline_in(10 * USEC_SEC), &m, err);
        ch = rpc_channel_close(ch);
    }
    if (rc == 0)
        assert_int_equal(((echo_response *)(void *)m)->payload.len, sizeof(bytes));
    m = rpc_message_free(m);
    tls_ctx_unref(ctx);
    return rc;
}

static void body(void *arg)
{
    struct loop *loop = arg;
    struct err err = ERR_INIT;
    uint8_t first[32], second[32];
    struct rpc_server *s = rpc_server_new(loop, remember, NULL);
    echo_service_add(s);
    struct tls_ctx *tls = server_ctx(&server_cert), *renewed = server_ctx(&renewed_cert);
    assert_int_equal(rpc_server_listen(s, "127.0.0.1:0", 0, tls, &err), 0);
    const char *addr = rpc_server_addr(s, 0);
    assert_int_equal(call_once(loop, addr, client_ctx(root.spki_sha256, NULL, "h2"), first, &err), 0);
    assert_string_equal(seen_uri, "none");
    assert_int_equal(call_once(loop, addr, client_ctx(root.spki_sha256, &client_cert, "h2"), first, &err), 0);
    assert_string_equal(seen_uri, "davit://server/7");
    assert_int_equal(call_once(loop, addr, client_ctx(stranger_root.spki_sha256, NULL, "h2"), second, &err),
                     -ERR_UNAUTHENTICATED);
    assert_int_equal(call_once(loop, addr, client_ctx(root.spki_sha256, NULL, "http/1.1"), second, &err), -ERR_UNIMPLEMENTED);
    assert_int_equal(rpc_server_set_tls(s, "127.0.0.1:1", renewed), -ERR_NOT_FOUND);
    assert_int_equal(rpc_server_set_tls(s, addr, renewed), 0);
    assert_int_equal(call_once(loop, addr, client_ctx(root.spki_sha256, NULL, "h2"), second, &err), 0);
    assert_memory_not_equal(first, second, 32);
    tls_ctx_unref(tls);
    tls_ctx_unref(renewed);
    s = rpc_server_free(s);
    loop_stop(loop);
}

/* Runs @fn, which gets the loop and stops it, and then what is left to unwind. */
static void on_fresh_loop(void (*fn)(void *loop))
{
    struct loop *loop = loop_new();
    assert_int_equal(fiber_spawn(loop, "test", fn, loop, NULL), 0);
    loop_run(loop);
    loop_run(loop);
    loop = loop_free(loop);
}

static void test_tls(void **state)
{
    (void)state;
    on_fresh_loop(body);
}

struct idler {
    struct loop *loop;
    const char *addr;
    const struct testcert *cert;
    struct rpc_channel *ch;
};

static void idle(void *arg)
{
    struct idler *i = arg;
    struct err err = ERR_INIT;
    struct tls_ctx *ctx = client_ctx(root.spki_sha256, i->cert, "h2");
    assert_int_equal(rpc_channel_open(i->loop, i->addr, ctx, 5 * USEC_SEC, deadline_in(5 * USEC_SEC), &i->ch, &err), 0);
    tls_ctx_unref(ctx);
}

/* Who sent no certificate and makes no call has a minute, even if it answers pings; who sent one may stay. */
static void test_stranger_without_call(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    clock_fake(1000 * USEC_SEC, clock_real());
    struct loop *loop = loop_new();
    struct rpc_server *s = rpc_server_new(loop, remember, NULL);
    struct tls_ctx *tls = server_ctx(&server_cert);
    assert_int_equal(rpc_server_listen(s, "127.0.0.1:0", 0, tls, &err), 0);
    struct idler i[2] = {{loop, rpc_server_addr(s, 0), NULL, NULL}, {loop, rpc_server_addr(s, 0), &client_cert, NULL}};
    for (size_t k = 0; k < 2; k++)
        assert_int_equal(fiber_spawn(loop, "idle", idle, &i[k], NULL), 0);
    for (int k = 0; k < 100 && !(i[0].ch && i[1].ch); k++)
        loop_advance(loop, USEC_MSEC);
    loop_advance(loop, 55 * USEC_SEC);
    assert_true(rpc_channel_alive(i[0].ch) && rpc_channel_alive(i[1].ch));
    loop_advance(loop, 10 * USEC_SEC);
    assert_false(rpc_channel_alive(i[0].ch));
    assert_true(rpc_channel_alive(i[1].ch));
    for (size_t k = 0; k < 2; k++)
        i[k].ch = rpc_channel_close(i[k].ch);
    tls_ctx_unref(tls);
    s = rpc_server_free(s);
    loop_advance(loop, USEC_SEC);
    loop = loop_free(loop);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
}

struct caller {
    struct loop *loop;
    struct conn *conn;
    const char *addr;
    bool over;
};

static void on_bytes(void *arg, const void *p, size_t n)
{
    (void)arg;
    (void)p;
    (void)n;
}

static void on_end(void *arg)
{
    ((struct caller *)arg)->over = true;
}

static void on_failure(void *arg, const struct err *err)
{
    (void)err;
    on_end(arg);
}

/* HTTP/2 by its first bytes, nothing by ALPN. */
static void without_alpn(void *arg)
{
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0";
    static const struct conn_handler handler = {on_bytes, on_end, on_failure, NULL};
    struct caller *c = arg;
    struct err err = ERR_INIT;
    struct tls_ctx *ctx = client_ctx(root.spki_sha256, NULL, NULL);
    assert_int_equal(conn_dial(c->loop, c->addr, ctx, NULL, deadline_in(5 * USEC_SEC), &c->conn, &err), 0);
    conn_set_handler(c->conn, &handler, c);
    assert_int_equal(conn_write(c->conn, hello, sizeof(hello) - 1), 0);
    conn_read_start(c->conn);
    tls_ctx_unref(ctx);
}

/* The same minute for who says without ALPN that it speaks HTTP/2. */
static void test_stranger_without_alpn(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    clock_fake(1000 * USEC_SEC, clock_real());
    struct loop *loop = loop_new();
    struct rpc_server *s = rpc_server_new(loop, remember, NULL);
    struct tls_ctx *tls = server_ctx(&server_cert);
    assert_int_equal(rpc_server_listen(s, "127.0.0.1:0", 0, tls, &err), 0);
    struct caller c = {.loop = loop, .addr = rpc_server_addr(s, 0)};
    assert_int_equal(fiber_spawn(loop, "caller", without_alpn, &c, NULL), 0);
    for (int k = 0; k < 100 && !c.conn; k++)
        loop_advance(loop, USEC_MSEC);
    loop_advance(loop, 55 * USEC_SEC);
    assert_false(c.over);
    loop_advance(loop, 10 * USEC_SEC);
    assert_true(c.over);
    c.conn = conn_close(c.conn);
    tls_ctx_unref(tls);
    s = rpc_server_free(s);
    loop_advance(loop, USEC_SEC);
    loop = loop_free(loop);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
}

/* @n requests that do not end, one after the other; how many have no place? */
static size_t crowd(struct rpc_channel *ch, struct rpc_stream **s, size_t n)
{
    enum { SIZE = RPC_MESSAGE_MAX - 1024 };
    struct err err = ERR_INIT;
    size_t refused = 0;
    ProtobufCMessage *m;
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    q.payload = (ProtobufCBinaryData){SIZE, calloc(1, SIZE)};
    for (size_t i = 0; i < n; i++) {
        int rc = -ERR_DEADLINE;
        assert_int_equal(rpc_stream_open(ch, SVC, "Echo", deadline_in(60 * USEC_SEC), &s[i], &err), 0);
        assert_int_equal(rpc_stream_put(s[i], &q.base, deadline_in(60 * USEC_SEC), &err), 0);
        for (unsigned quiet = 0; rc == -ERR_DEADLINE && quiet < 10; quiet += s[i]->st && h2_queued(s[i]->st) == 0)
            rc = rpc_stream_get(s[i], deadline_in(20 * USEC_MSEC), &m, &err);
        refused += rc == -ERR_UNAVAILABLE;
    }
    free(q.payload.data);
    return refused;
}

static void crowd_body(void *arg)
{
    enum { STRANGERS = RPC_HELD_STRANGERS_MAX / RPC_MESSAGE_MAX, KNOWN = 2 };
    struct loop *loop = arg;
    struct err err = ERR_INIT;
    struct rpc_channel *stranger, *known;
    struct rpc_stream *of_stranger[STRANGERS + 1], *of_known[KNOWN];
    struct rpc_server *s = rpc_server_new(loop, remember, NULL);
    echo_service_add(s);
    struct tls_ctx *tls = server_ctx(&server_cert), *with = client_ctx(root.spki_sha256, &client_cert, "h2"),
                   *without = client_ctx(root.spki_sha256, NULL, "h2");
    assert_int_equal(rpc_server_listen(s, "127.0.0.1:0", 0, tls, &err), 0);
    const char *addr = rpc_server_addr(s, 0);
    assert_int_equal(rpc_channel_open(loop, addr, without, 0, deadline_in(5 * USEC_SEC), &stranger, &err), 0);
    assert_int_equal(rpc_channel_open(loop, addr, with, 0, deadline_in(5 * USEC_SEC), &known, &err), 0);
    assert_int_equal(crowd(stranger, of_stranger, STRANGERS + 1), 1);
    assert_int_equal(crowd(known, of_known, KNOWN), 0);
    for (size_t i = 0; i <= STRANGERS; i++)
        of_stranger[i] = rpc_stream_close(of_stranger[i]);
    for (size_t i = 0; i < KNOWN; i++)
        of_known[i] = rpc_stream_close(of_known[i]);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
    assert_int_equal(crowd(stranger, of_stranger, 1), 0); /* it came back */
    of_stranger[0] = rpc_stream_close(of_stranger[0]);
    stranger = rpc_channel_close(stranger);
    known = rpc_channel_close(known);
    tls_ctx_unref(with);
    tls_ctx_unref(without);
    tls_ctx_unref(tls);
    s = rpc_server_free(s);
    loop_stop(loop);
}

static void newest_body(void *arg)
{
    struct loop *loop = arg;
    struct err err = ERR_INIT;
    struct rpc_channel *ch[4];
    struct rpc_stream *call;
    ProtobufCMessage *m;
    struct rpc_server *s = rpc_server_new(loop, remember, NULL);
    echo_service_add(s);
    /* 2 of them for strangers */
    rpc_server_set_limits(s, &(struct rpc_limits){.conns = 4, .accept_burst = 100, .accept_per_sec = 100, .running = 10});
    struct tls_ctx *tls = server_ctx(&server_cert), *with = client_ctx(root.spki_sha256, &client_cert, "h2"),
                   *without = client_ctx(root.spki_sha256, NULL, "h2");
    assert_int_equal(rpc_server_listen(s, "127.0.0.1:0", 0, tls, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(ch); i++) {
        assert_int_equal(
            rpc_channel_open(loop, rpc_server_addr(s, 0), i ? without : with, 0, deadline_in(5 * USEC_SEC), &ch[i], &err), 0);
        assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
        if (i == 1)
            assert_int_equal(rpc_stream_open(ch[i], SVC, "Collect", deadline_in(60 * USEC_SEC), &call, &err), 0);
    }
    assert_int_equal(rpc_stream_get(call, deadline_in(5 * USEC_SEC), &m, &err), -ERR_UNAVAILABLE);
    assert_true(rpc_channel_alive(ch[0]) && rpc_channel_alive(ch[2]) && rpc_channel_alive(ch[3]));
    assert_false(rpc_channel_alive(ch[1]));
    call = rpc_stream_close(call);
    for (size_t i = 0; i < ARRAY_LEN(ch); i++)
        ch[i] = rpc_channel_close(ch[i]);
    tls_ctx_unref(with);
    tls_ctx_unref(without);
    tls_ctx_unref(tls);
    s = rpc_server_free(s);
    loop_stop(loop);
}

/* Strangers have a part of the connections, and among them the newest counts: neither the known nor new ones are kept out. */
static void test_strangers_take_no_connections(void **state)
{
    (void)state;
    on_fresh_loop(newest_body);
}

/* What strangers hold takes nothing from those who sent a certificate.  req: MA-3 */
static void test_strangers_take_no_room(void **state)
{
    (void)state;
    on_fresh_loop(crowd_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tls), cmocka_unit_test(test_stranger_without_call),
                                       cmocka_unit_test(test_stranger_without_alpn),
                                       cmocka_unit_test(test_strangers_take_no_room),
                                       cmocka_unit_test(test_strangers_take_no_connections)};
    testcert_make(&root, "root", NULL, NULL, NULL, 3600);
    testcert_make(&stranger_root, "stranger", NULL, NULL, NULL, 3600);
    testcert_make(&server_cert, "server", &root, "davit://controlplane", NULL, 3600);
    testcert_make(&renewed_cert, "server", &root, "davit://controlplane", NULL, 3600);
    testcert_make(&client_cert, "client", &root, "davit://server/7", NULL, 3600);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    testcert_free(&root);
    testcert_free(&stranger_root);
    testcert_free(&server_cert);
    testcert_free(&renewed_cert);
    testcert_free(&client_cert);
    return rc;
}
