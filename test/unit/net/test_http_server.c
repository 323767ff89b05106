/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 client and server against each other over loopback and unix sockets, and the server against raw bytes. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/http_client.h"
#include "net/http_server.h"
#include "net/http_vectors.h"
#include "net/on_fiber.h"
#include "net/resolve.h"

enum { BODY_MAX = 100000 };

static char last_conn_peer[64];

static void reply_chunks(struct http_call *call)
{
    struct http_field type = {"content-type", "application/octet-stream"};
    if (http_reply_start(call, 200, &type, 1) != 0)
        return;
    static char piece[10000];
    memset(piece, 'c', sizeof(piece));
    for (int i = 0; i < 100; i++) {
        if (http_reply_chunk(call, (struct str){piece, sizeof(piece)}, deadline_in(10 * USEC_SEC)) != 0)
            return;
    }
    (void)http_reply_end(call);
}

static unsigned stream_ends;

/* A stream with nothing to say for long. */
static void reply_quietly(struct http_call *call)
{
    if (http_reply_start(call, 200, NULL, 0) == 0 && http_reply_chunk(call, STR("a"), deadline_in(USEC_SEC)) == 0)
        stream_ends += fiber_sleep(60 * USEC_SEC) == -(int)ERR_CANCELLED;
    if (http_call_conn(call))
        (void)http_reply_end(call);
}

static void upgrade(struct http_call *call)
{
    struct conn *c = http_call_take_conn(call);
    struct err err = ERR_INIT;
    char b[64];
    size_t n = 0;
    CHECK_OK(conn_write(c, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello", 65));
    do {
        CHECK_OK(conn_read(c, b, sizeof(b), deadline_in(5 * USEC_SEC), &n, &err));
        CHECK_OK(conn_write_wait(c, b, n, deadline_in(USEC_SEC), &err));
    } while (n);
    conn_shutdown(c);
    CHECK_OK(fiber_sleep(20 * USEC_MSEC));
    conn_close(c);
}

/* A body that the handler reads: all of it, or one part, or nothing. */
static void reply_count(struct http_call *call, unsigned parts)
{
    char text[32];
    struct str piece;
    size_t n = 0;
    int rc = 0;
    CHECK(http_call_body(call).n <= 65536);
    for (unsigned i = 0; rc == 0 && i < parts; i++) {
        CHECK(fiber_sleep(USEC_MSEC) == 0);
        rc = http_call_read(call, &piece, deadline_in(10 * USEC_SEC));
        n += rc == 0 ? piece.n : 0;
    }
    (void)snprintf(text, sizeof(text), "%zu %d", n, rc);
    (void)http_reply(call, 200, "text/plain", str_from(text));
}

static void handler(void *arg, struct http_call *call)
{
    (void)arg;
    const struct http_head *head = http_call_head(call);
    str_copy(last_conn_peer, sizeof(last_conn_peer), str_from(conn_peer_addr(http_call_conn(call))));
    if (strcmp(head->target, "/echo") == 0)
        (void)http_reply(call, 200, "text/plain", http_call_body(call));
    else if (strcmp(head->target, "/count") == 0)
        reply_count(call, UINT_MAX);
    else if (strcmp(head->target, "/part") == 0)
        reply_count(call, 1);
    else if (strcmp(head->target, "/unread") == 0)
        reply_count(call, 0);
    else if (strcmp(head->target, "/chunks") == 0)
        reply_chunks(call);
    else if (strcmp(head->target, "/quiet") == 0)
        reply_quietly(call);
    else if (strcmp(head->target, "/upgrade") == 0)
        upgrade(call);
    else if (strcmp(head->target, "/broken") == 0)
        (void)http_reply_start(call, 200, NULL, 0);
    else if (strcmp(head->target, "/slow") == 0)
        (void)fiber_sleep(20 * USEC_SEC);
    else if (strcmp(head->target, "/silent") != 0)
        (void)http_reply(call, 404, "text/plain", STR("no\n"));
}

static struct http_server *serve(struct loop *loop, const char *addr)
{
    struct err err = ERR_INIT;
    struct http_server *s = http_server_new(loop, handler, NULL, BODY_MAX);
    CHECK_OK(http_server_listen(s, addr, 0600, NULL, &err));
    return s;
}

static int fetch(struct http_client *c, const char *method, const char *target, struct str body, struct buf *out, struct err *err)
{
    struct http_exchange *x = NULL;
    struct http_request req = {.method = method, .target = target, .body = body};
    int rc = http_request(c, &req, deadline_in(10 * USEC_SEC), &x, err);
    if (rc < 0)
        return rc;
    int status = http_head(x)->status;
    rc = http_read_all(x, out, deadline_in(10 * USEC_SEC), err);
    http_finish(x);
    return rc < 0 ? rc : status;
}

static void exchange_all(struct loop *loop, const char *addr)
{
    struct err err = ERR_INIT;
    struct http_client *c = http_client_new(loop, addr, "localhost", NULL);
    AUTO_BUF out = BUF_INIT(2000000);
    CHECK(fetch(c, "POST", "/echo", STR("ping"), &out, &err) == 200);
    CHECK(str_eq(buf_str(&out), STR("ping")));
    char peer[64];
    str_copy(peer, sizeof(peer), str_from(last_conn_peer));
    buf_clear(&out);
    CHECK(fetch(c, "GET", "/chunks", STR(""), &out, &err) == 200);
    CHECK(out.len == 1000000);
    CHECK(strcmp(peer, last_conn_peer) == 0); /* the connection was kept */
    buf_clear(&out);
    CHECK(fetch(c, "HEAD", "/chunks", STR(""), &out, &err) == 200 && out.len == 0);
    CHECK(fetch(c, "GET", "/silent", STR(""), &out, &err) == 500);
    CHECK(fetch(c, "GET", "/else", STR(""), &out, &err) == 404);
    buf_clear(&out);
    CHECK(fetch(c, "GET", "/broken", STR(""), &out, &err) == -(int)ERR_DATA_LOSS);
    http_client_free(c);
}

/* @n bytes to @target, ten thousand at a time; what was answered. */
static void upload(struct http_client *c, const char *target, size_t n, const char *want)
{
    static const char piece[10000];
    struct http_exchange *x = NULL;
    struct http_request req = {.method = "PUT", .target = target, .stream_body = true};
    struct err err = ERR_INIT;
    AUTO_BUF out = BUF_INIT(1000);
    CHECK_OK(http_request(c, &req, deadline_in(10 * USEC_SEC), &x, &err));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i += sizeof(piece))
        rc = http_send_body(x, (struct str){piece, sizeof(piece)}, deadline_in(10 * USEC_SEC), &err);
    if (want) {
        CHECK_OK(rc);
        CHECK_OK(http_response(x, deadline_in(10 * USEC_SEC), &err));
        CHECK_OK(http_read_all(x, &out, deadline_in(10 * USEC_SEC), &err));
        CHECK(strcmp(buf_cstr(&out), want) == 0);
    }
    (void)http_finish(x);
}

static void bodies_that_are_read(struct loop *loop)
{
    struct http_server *s = serve(loop, "127.0.0.1:0");
    struct http_client *c = http_client_new(loop, http_server_addr(s, 0), "localhost", NULL);
    char peer[64];
    http_server_stream(s, "PUT");
    upload(c, "/count", 20 * BODY_MAX, "2000000 1"); /* far beyond what a body may be that is collected */
    str_copy(peer, sizeof(peer), str_from(last_conn_peer));
    upload(c, "/count", 0, "0 1");
    CHECK(strcmp(peer, last_conn_peer) == 0); /* the connection was kept */
    upload(c, "/unread", 10000, "0 0");
    upload(c, "/part", 200 * BODY_MAX, NULL); /* cut off */
    upload(c, "/count", 10000, "10000 1");
    CHECK(strcmp(peer, last_conn_peer) != 0);
    (void)http_client_free(c);
    (void)http_server_free(s);
}

static void keep_alive_tcp(struct loop *loop)
{
    struct http_server *s = serve(loop, "127.0.0.1:0");
    exchange_all(loop, http_server_addr(s, 0));
    http_server_free(s);
}

static void keep_alive_unix(struct loop *loop)
{
    char dir[] = "/tmp/davit-test-XXXXXX", addr[64];
    CHECK(mkdtemp(dir));
    (void)snprintf(addr, sizeof(addr), "unix:%s/s", dir);
    struct http_server *s = serve(loop, addr);
    exchange_all(loop, addr);
    http_server_free(s);
    (void)unlink(addr + 5);
    (void)rmdir(dir);
}

static void streamed_request(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct http_server *s = serve(loop, "127.0.0.1:0");
    struct http_client *c = http_client_new(loop, http_server_addr(s, 0), "h", NULL);
    struct http_request req = {.method = "POST", .target = "/echo", .stream_body = true};
    struct http_exchange *x = NULL;
    CHECK_OK(http_request(c, &req, deadline_in(USEC_SEC), &x, &err));
    for (int i = 0; i < 10; i++)
        CHECK_OK(http_send_body(x, STR("0123456789"), deadline_in(USEC_SEC), &err));
    CHECK_OK(http_response(x, deadline_in(USEC_SEC), &err));
    AUTO_BUF out = BUF_INIT(100);
    CHECK_OK(http_read_all(x, &out, deadline_in(USEC_SEC), &err));
    CHECK(out.len == 100);
    http_finish(x);
    http_client_free(c);
    http_server_free(s);
}

static void upgraded(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct http_server *s = serve(loop, "127.0.0.1:0");
    struct http_client *c = http_client_new(loop, http_server_addr(s, 0), "h", NULL);
    struct http_request req = {.method = "POST", .target = "/upgrade", .upgrade = true};
    struct http_exchange *x = NULL;
    struct conn *conn = NULL;
    CHECK_OK(http_request(c, &req, deadline_in(USEC_SEC), &x, &err));
    CHECK(http_head(x)->status == 101);
    CHECK_OK(http_take_conn(x, &conn, &err));
    CHECK_OK(conn_write(conn, " again", 6));
    char b[64];
    size_t have = 0, n = 0;
    while (have < 11) {
        CHECK_OK(conn_read(conn, b + have, sizeof(b) - have, deadline_in(USEC_SEC), &n, &err));
        CHECK(n);
        have += n;
    }
    CHECK(memcmp(b, "hello again", 11) == 0);
    conn_shutdown(conn);
    CHECK_OK(conn_read(conn, b, sizeof(b), deadline_in(USEC_SEC), &n, &err));
    CHECK(n == 0);
    conn_close(conn);
    http_client_free(c);
    CHECK_OK(fiber_sleep(50 * USEC_MSEC));
    http_server_free(s);
}

static void limits(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct http_server *s = serve(loop, "127.0.0.1:0");
    struct http_client *c = http_client_new(loop, http_server_addr(s, 0), "h", NULL);
    static char big[BODY_MAX + 1];
    memset(big, 'b', sizeof(big));
    AUTO_BUF out = BUF_INIT(BODY_MAX);
    CHECK(fetch(c, "POST", "/echo", (struct str){big, BODY_MAX}, &out, &err) == 200 && out.len == BODY_MAX);
    buf_clear(&out);
    CHECK(fetch(c, "POST", "/echo", (struct str){big, BODY_MAX + 1}, &out, &err) == 413);
    AUTO_BUF small = BUF_INIT(BODY_MAX - 1);
    CHECK(fetch(c, "POST", "/echo", (struct str){big, BODY_MAX}, &small, &err) == -(int)ERR_EXHAUSTED);
    struct http_field bad = {"x", "a\r\nb: c"};
    struct http_request req = {.method = "GET", .target = "/echo", .fields = &bad, .n_fields = 1};
    struct http_exchange *x = NULL;
    CHECK(http_request(c, &req, deadline_in(USEC_SEC), &x, &err) == -(int)ERR_INVALID);
    req = (struct http_request){.method = "GET", .target = "/echo HTTP/1.1"};
    CHECK(http_request(c, &req, deadline_in(USEC_SEC), &x, &err) == -(int)ERR_INVALID);
    http_client_free(c);
    http_server_free(s);
}

/* Sends raw bytes and returns all that comes back. */
static void raw(struct loop *loop, struct http_server *s, const char *text, struct buf *out)
{
    struct err err = ERR_INIT;
    struct conn *c = NULL;
    CHECK_OK(conn_dial(loop, http_server_addr(s, 0), NULL, NULL, deadline_in(USEC_SEC), &c, &err));
    CHECK_OK(conn_write(c, text, strlen(text)));
    conn_shutdown(c);
    char b[4096];
    size_t n = 0;
    do {
        CHECK_OK(conn_read(c, b, sizeof(b), deadline_in(5 * USEC_SEC), &n, &err));
        CHECK_OK(buf_append(out, b, n));
    } while (n);
    conn_close(c);
}

static unsigned count(const struct buf *b, const char *what)
{
    unsigned n = 0;
    for (const char *p = buf_cstr(b); (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void pipelined_and_malformed(struct loop *loop)
{
    struct http_server *s = serve(loop, "127.0.0.1:0");
    AUTO_BUF out = BUF_INIT(2000000);
    raw(loop, s,
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n",
        &out);
    CHECK(count(&out, "HTTP/1.1 404") == 2 && count(&out, "connection: close") == 1);
    buf_clear(&out);
    raw(loop, s, "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &out);
    CHECK(count(&out, "HTTP/1.1 400") == 1);
    buf_clear(&out);
    raw(loop, s, "GET /chunks HTTP/1.0\r\n\r\n", &out);
    CHECK(count(&out, "transfer-encoding") == 0);
    http_server_free(s);
}

static void cut_while_running(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct http_server *s = serve(loop, "127.0.0.1:0");
    struct http_client *c = http_client_new(loop, http_server_addr(s, 0), "h", NULL);
    struct http_request req = {.method = "GET", .target = "/slow"};
    struct http_exchange *x = NULL;
    CHECK(http_request(c, &req, deadline_in(50 * USEC_MSEC), &x, &err) == -(int)ERR_DEADLINE);
    http_server_free(s); /* its fiber is cancelled and ends by itself */
    http_client_free(c);
    CHECK_OK(fiber_sleep(20 * USEC_MSEC));
    CHECK(fiber_count(loop) == 1);
}

/* The taker of a silent stream goes: its handler is told without writing anything. */
static void gone_while_silent(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct http_server *s = serve(loop, "127.0.0.1:0");
    struct http_client *c = http_client_new(loop, http_server_addr(s, 0), "h", NULL);
    struct http_request req = {.method = "GET", .target = "/quiet"};
    struct http_exchange *x = NULL;
    CHECK_OK(http_request(c, &req, deadline_in(5 * USEC_SEC), &x, &err));
    CHECK(fiber_count(loop) == 2);
    http_finish(x);
    CHECK_OK(fiber_sleep(100 * USEC_MSEC));
    CHECK(fiber_count(loop) == 1 && stream_ends == 1);
    http_client_free(c);
    http_server_free(s);
}

/* Bodies that do not end: together they take no more than the server's sum, and what they took comes back. */
static void bodies_together(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct http_server *s = serve(loop, "127.0.0.1:0");
    AUTO_FREE char *head = str_printf("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", BODY_MAX);
    static char most[BODY_MAX - 1];
    struct conn *c[HTTP_BODIES_MAX + 1];
    char b[64] = "";
    size_t n = 0;
    memset(most, 'm', sizeof(most));
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        CHECK_OK(conn_dial(loop, http_server_addr(s, 0), NULL, NULL, deadline_in(USEC_SEC), &c[i], &err));
        CHECK_OK(conn_write(c[i], head, strlen(head)));
        CHECK_OK(conn_write(c[i], most, sizeof(most)));
        CHECK_OK(fiber_sleep(20 * USEC_MSEC));
    }
    CHECK_OK(conn_read(c[HTTP_BODIES_MAX], b, sizeof(b) - 1, deadline_in(5 * USEC_SEC), &n, &err));
    CHECK(n && strncmp(b, "HTTP/1.1 503 ", 13) == 0);
    CHECK_OK(conn_write(c[0], "m", 1));
    CHECK_OK(conn_read(c[0], b, sizeof(b) - 1, deadline_in(5 * USEC_SEC), &n, &err));
    CHECK(n && strncmp(b, "HTTP/1.1 200 ", 13) == 0);
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        conn_close(c[i]);
    CHECK_OK(fiber_sleep(50 * USEC_MSEC));
    struct http_client *client = http_client_new(loop, http_server_addr(s, 0), "h", NULL);
    AUTO_BUF out = BUF_INIT(BODY_MAX);
    CHECK(fetch(client, "POST", "/echo", (struct str){most, sizeof(most)}, &out, &err) == 200);
    http_client_free(client);
    http_server_free(s);
}

/* A connection that the server closed while it lay in the pool. */
static void stale_pool(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct http_server *s = serve(loop, "127.0.0.1:0");
    char addr[64];
    str_copy(addr, sizeof(addr), str_from(http_server_addr(s, 0)));
    struct http_client *c = http_client_new(loop, addr, "h", NULL);
    AUTO_BUF out = BUF_INIT(1000);
    CHECK(fetch(c, "GET", "/x", STR(""), &out, &err) == 404);
    http_server_free(s);
    s = serve(loop, addr);
    CHECK(fetch(c, "GET", "/x", STR(""), &out, &err) == 404);
    http_server_free(s);
    CHECK(fetch(c, "GET", "/x", STR(""), &out, &err) == -(int)ERR_UNAVAILABLE);
    http_client_free(c);
}

static void resolve(struct loop *loop)
{
    struct err err = ERR_INIT;
    char addr[NET_ADDR_SIZE];
    CHECK_OK(net_resolve(loop, "127.0.0.1:80", deadline_in(USEC_SEC), addr, sizeof(addr), &err));
    CHECK(strcmp(addr, "127.0.0.1:80") == 0);
    CHECK_OK(net_resolve(loop, "[::1]:443", deadline_in(USEC_SEC), addr, sizeof(addr), &err));
    CHECK(strcmp(addr, "[::1]:443") == 0);
    CHECK_OK(net_resolve(loop, "unix:/x", deadline_in(USEC_SEC), addr, sizeof(addr), &err));
    CHECK_OK(net_resolve(loop, "localhost:7", deadline_in(5 * USEC_SEC), addr, sizeof(addr), &err));
    CHECK(strncmp(addr, "127.0.0.1:7", 11) == 0 && (!addr[11] || addr[11] == ',')); /* whatever else it is: IPv4 first */
    static const char *const bad[] = {"", "a", ":1", "a:", "a:b", "a:65536", "::1:80", "[]:1", "a b:1", "a/b:1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(net_resolve(loop, bad[i], deadline_in(USEC_SEC), addr, sizeof(addr), &err) == -(int)ERR_INVALID);
    AUTO_BUF out = BUF_INIT(1000);
    struct http_server *s = serve(loop, "127.0.0.1:0");
    AUTO_FREE char *url = str_printf("http://%s/none", http_server_addr(s, 0));
    CHECK(http_get_url(loop, url, &out, deadline_in(USEC_SEC), &err) == -(int)ERR_NOT_FOUND);
    CHECK(http_get_url(loop, "ftp://a/", &out, deadline_in(USEC_SEC), &err) == -(int)ERR_INVALID);
    CHECK(http_get_url(loop, "http://u@a/", &out, deadline_in(USEC_SEC), &err) == -(int)ERR_INVALID);
    http_server_free(s);
}

/* --- The smuggling vectors, over a socket --------------------------------------------------------------------------------------------- */

static char targets[64];

/* Notes what requests there were. */
static void count_handler(void *arg, struct http_call *call)
{
    (void)arg;
    const char *target = http_call_head(call)->target;
    size_t n = strlen(targets);
    CHECK(n + strlen(target) < sizeof(targets));
    str_copy(targets + n, sizeof(targets) - n, str_from(target));
    (void)http_reply(call, 200, "text/plain", STR("ok\n"));
}

/* All that comes back until the server ends the connection, which is true, or says nothing for a moment. */
static bool talk(struct loop *loop, const char *addr, struct str bytes, struct buf *out)
{
    struct err err = ERR_INIT;
    struct conn *c = NULL;
    size_t n = 1;
    int rc = 0;
    CHECK_OK(conn_dial(loop, addr, NULL, NULL, deadline_in(5 * USEC_SEC), &c, &err));
    CHECK_OK(conn_write(c, bytes.p, bytes.n));
    while (rc == 0 && n) {
        char b[4096];
        rc = conn_read(c, b, sizeof(b), deadline_in(USEC_SEC / 4), &n, &err);
        if (rc == 0)
            CHECK(buf_append(out, b, n) == 0);
    }
    conn_close(c);
    return rc != -(int)ERR_DEADLINE;
}

static unsigned count_of(struct str s, const char *what)
{
    unsigned n = 0;
    for (size_t i = 0; i + strlen(what) <= s.n; i++)
        n += memcmp(s.p + i, what, strlen(what)) == 0;
    return n;
}

static void vector_over_socket(struct loop *loop, const char *addr, const struct http_vector *v)
{
    AUTO_BUF out = BUF_INIT(100000);
    targets[0] = '\0';
    bool closed = talk(loop, addr, (struct str){v->bytes, v->n}, &out);
    unsigned answers = count_of(buf_str(&out), "HTTP/1.1 "), refusals = count_of(buf_str(&out), "HTTP/1.1 400 ");
    const char *want = v->messages == BOTH ? "/1/2" : v->messages == ONE_THEN ? "/1" : "";
    if (strcmp(targets, want) != 0 || closed != (v->messages != BOTH) || refusals != (v->messages == REFUSED) ||
        answers != (v->messages == BOTH ? 2 : 1)) {
        (void)fprintf(stderr, "%s: served \"%s\", %u answers, %sclosed: %s\n", v->name, targets, answers, closed ? "" : "not ",
                      buf_cstr(&out));
        abort();
    }
}

static void vectors_over_socket(struct loop *loop)
{
    struct err err = ERR_INIT;
    struct http_server *s = http_server_new(loop, count_handler, NULL, BODY_MAX);
    CHECK_OK(http_server_listen(s, "127.0.0.1:0", 0600, NULL, &err));
    for (size_t i = 0; i < ARRAY_LEN(http_vectors); i++)
        vector_over_socket(loop, http_server_addr(s, 0), &http_vectors[i]);
    http_server_free(s);
}

/* req: MA-3 */
static void test_bodies_that_are_read(void **state)
{
    (void)state;
    on_fiber(bodies_that_are_read);
}

static void test_vectors_over_socket(void **state)
{
    (void)state;
    on_fiber(vectors_over_socket);
}

#define CASE(name)                                                                                                               \
    static void test_##name(void **state)                                                                                        \
    {                                                                                                                            \
        (void)state;                                                                                                             \
        on_fiber(name);                                                                                                          \
    }
CASE(keep_alive_tcp)
CASE(keep_alive_unix)
CASE(streamed_request)
CASE(upgraded)
CASE(limits)
CASE(pipelined_and_malformed)
CASE(cut_while_running)
CASE(gone_while_silent)
CASE(bodies_together)
CASE(stale_pool)
CASE(resolve)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive_tcp),
        cmocka_unit_test(test_bodies_that_are_read),
        cmocka_unit_test(test_keep_alive_unix),
        cmocka_unit_test(test_streamed_request),
        cmocka_unit_test(test_upgraded),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_pipelined_and_malformed),
        cmocka_unit_test(test_cut_while_running),
        cmocka_unit_test(test_gone_while_silent),
        cmocka_unit_test(test_bodies_together),
        cmocka_unit_test(test_stale_pool),
        cmocka_unit_test(test_vectors_over_socket),
        cmocka_unit_test(test_resolve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
