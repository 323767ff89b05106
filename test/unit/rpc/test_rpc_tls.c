/* SPDX-License-Identifier: Apache-2.0 */
/* Calls over TLS on loopback: ALPN decides, the handler sees who calls, a certificate can be replaced while it listens. */
#include "net/testcert.h"
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

static void test_tls(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    assert_int_equal(fiber_spawn(loop, "tls", body, loop, NULL), 0);
    loop_run(loop);
    loop_run(loop);
    loop = loop_free(loop);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tls), cmocka_unit_test(test_stranger_without_call)};
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
