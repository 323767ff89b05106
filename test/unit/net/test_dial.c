/* SPDX-License-Identifier: Apache-2.0 */
/* What a foreign TLS client is allowed, and dialling a host that has several addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/lane.h"
#include "net/tls_server.h"

static struct testcert server_cert;

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
    testcert_make(&server_cert, "server", &root, "davit://controlplane", NULL, 86400);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_versions_and_protocols), cmocka_unit_test(test_several_addresses)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    testcert_free(&root);
    testcert_free(&server_cert);
    return rc;
}
