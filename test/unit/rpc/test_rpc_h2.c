/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 sessions against each other over a socket pair: heads at their limit, windows, resets, a peer that falls silent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/h2.h"

struct side {
    struct h2 *h2;
    struct h2_stream *st;
    unsigned heads, ends, closed, drains, dead, goaways;
    bool too_big, consume;
    size_t got;
    uint32_t code;
    char trailer[32];
};

static struct loop *loop;
static struct side client, server;

static void on_head(void *arg, struct h2_stream *st, struct h2_head *head, bool end)
{
    struct side *s = arg;
    s->heads++;
    s->st = st;
    s->too_big = head->too_big;
    s->ends += end;
    const char *t = h2_head_get(head, "x-end");
    if (t)
        (void)str_copy(s->trailer, sizeof(s->trailer), str_from(t));
}

static void on_data(void *arg, struct h2_stream *st, struct str bytes)
{
    struct side *s = arg;
    s->got += bytes.n;
    if (s->consume)
        h2_consume(st, bytes.n);
}

static void on_end(void *arg, struct h2_stream *st)
{
    (void)st;
    ((struct side *)arg)->ends++;
}

static void on_closed(void *arg, struct h2_stream *st, uint32_t code)
{
    struct side *s = arg;
    s->closed++;
    s->code = code;
    if (s->st == st)
        s->st = NULL;
}

static void on_drain(void *arg, struct h2_stream *st)
{
    (void)st;
    ((struct side *)arg)->drains++;
}

static void on_goaway(void *arg)
{
    ((struct side *)arg)->goaways++;
}

static void on_dead(void *arg, const struct err *why)
{
    assert_true(why->code != ERR_OK);
    ((struct side *)arg)->dead++;
}

static const struct h2_handler handler = {on_head, on_data, on_end, on_closed, on_drain, on_goaway, on_dead};

static struct conn *conn_of(int fd)
{
    struct stream *s;
    struct err err = ERR_INIT;
    assert_int_equal(stream_from_fd(loop, fd, &s, &err), 0);
    return conn_plain(s);
}

/* @silent: the server's end is a socket that nobody reads. Returns its descriptor or -1. */
static int begin(bool silent)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    clock_fake(1000 * USEC_SEC, 1700000000 * USEC_SEC);
    loop = loop_new();
    client = server = (struct side){.consume = true};
    client.h2 = h2_new(conn_of(fd[0]), false, &handler, &client);
    if (silent)
        return fd[1];
    server.h2 = h2_new(conn_of(fd[1]), true, &handler, &server);
    loop_advance(loop, USEC_MSEC);
    return -1;
}

static void end(void)
{
    client.h2 = h2_free(client.h2);
    server.h2 = h2_free(server.h2);
    loop_advance(loop, USEC_SEC);
    loop = loop_free(loop);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
}

static void request(const char *extra)
{
    const struct h2_field fields[] = {
        {":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}, {"x-extra", extra}};
    assert_int_equal(h2_request(client.h2, fields, extra ? 5 : 4, &client.st), 0);
    loop_advance(loop, USEC_MSEC);
}

static void test_head_limit(void **state)
{
    (void)state;
    /* Name, value and 32 of each field: this is what is left for the last value. */
    const size_t others = 7 + 4 + 32 + 7 + 4 + 32 + 10 + 1 + 32 + 5 + 1 + 32 + 7 + 32;
    static char extra[H2_HEAD_MAX + 1];
    memset(extra, 'v', sizeof(extra));
    extra[H2_HEAD_MAX - others] = 0;
    begin(false);
    request(extra);
    assert_int_equal(server.heads, 1);
    assert_false(server.too_big);
    extra[H2_HEAD_MAX - others] = 'v';
    extra[H2_HEAD_MAX - others + 1] = 0;
    request(extra);
    assert_int_equal(server.heads, 2);
    assert_true(server.too_big);
    end();
}

static void test_window_and_queue(void **state)
{
    (void)state;
    static char bytes[H2_QUEUE_HIGH];
    begin(false);
    server.consume = false;
    request(NULL);
    assert_int_equal(h2_write(client.st, (struct str){bytes, sizeof(bytes)}), 0);
    assert_int_equal(h2_write(client.st, (struct str){bytes, 100000}), 0);
    loop_advance(loop, USEC_MSEC);
    assert_int_equal(server.got, 65535); /* nothing is given back: the window is all that comes */
    assert_int_equal(client.drains, 0);
    assert_int_equal(h2_queued(client.st), sizeof(bytes) + 100000 - 65535);
    for (int i = 0; i < 3; i++)
        assert_int_equal(h2_write(client.st, (struct str){bytes, sizeof(bytes)}), 0);
    assert_int_equal(h2_write(client.st, (struct str){bytes, sizeof(bytes)}), -ERR_EXHAUSTED);
    server.consume = true;
    h2_consume(server.st, 65535);
    h2_finish(client.st, NULL, 0);
    loop_advance(loop, USEC_SEC);
    assert_int_equal(server.got, 4 * sizeof(bytes) + 100000);
    assert_int_equal(client.drains, 1);
    assert_int_equal(server.ends, 1);
    const struct h2_field head = {":status", "200"}, trailer = {"x-end", "done"};
    assert_int_equal(h2_respond(server.st, &head, 1), 0);
    assert_int_equal(h2_write(server.st, STR("abc")), 0);
    h2_finish(server.st, &trailer, 1);
    loop_advance(loop, USEC_MSEC);
    assert_int_equal(client.got, 3);
    assert_string_equal(client.trailer, "done");
    assert_int_equal(client.closed, 1);
    assert_int_equal(server.closed, 1);
    assert_int_equal(h2_streams(client.h2), 0);
    assert_int_equal(h2_streams(server.h2), 0);
    end();
}

static void test_reset(void **state)
{
    (void)state;
    begin(false);
    request(NULL);
    h2_reset(client.st, H2_CANCEL);
    loop_advance(loop, USEC_MSEC);
    assert_int_equal(server.closed, 1);
    assert_int_equal(server.code, H2_CANCEL);
    assert_int_equal(client.closed, 0); /* whoever resets hears no more of it */
    assert_int_equal(h2_streams(client.h2), 0);
    /* An answer before the request is complete frees the stream on both sides. */
    request(NULL);
    const struct h2_field head = {":status", "200"};
    assert_int_equal(h2_respond_end(server.st, &head, 1), 0);
    loop_advance(loop, USEC_MSEC);
    assert_int_equal(client.closed, 1);
    assert_int_equal(h2_streams(server.h2), 0);
    end();
}

static void put(char *to, size_t *n, const void *p, size_t size)
{
    memcpy(to + *n, p, size);
    *n += size;
}

/* One field of 4 KB goes into the table and is named again for each byte of the block: 60 MB in one frame of 16 KB. */
static void test_head_bomb(void **state)
{
    enum { BLOCK = 16000, VALUE = 4000 };
    static char bytes[BLOCK + 200];
    size_t n = 0, at;
    (void)state;
    int fd = begin(true);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    server.h2 = h2_new(conn_of(pair[1]), true, &handler, &server);
    put(bytes, &n, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
    put(bytes, &n, (uint8_t[]){BLOCK >> 16, (BLOCK >> 8) & 255, BLOCK & 255, 1, 5, 0, 0, 0, 1}, 9);
    at = n;
    put(bytes, &n, "\x83\x86\x84\x41\x01" "a", 6);                      /* POST http / a */
    put(bytes, &n, "\x40\x01x\x7f\xa1\x1e", 6);                          /* x: 4000 bytes */
    memset(bytes + n, 'v', VALUE);
    n += VALUE;
    memset(bytes + n, 0xbe, BLOCK - (n - at)); /* the newest entry of the table */
    n = at + BLOCK;
    for (size_t sent = 0; sent < n;) {
        ssize_t rc = write(pair[0], bytes + sent, n - sent);
        assert_true(rc > 0);
        sent += (size_t)rc;
        loop_advance(loop, USEC_MSEC);
    }
    static char answer[4096];
    ssize_t got = read(pair[0], answer, sizeof(answer));
    assert_true(got > 0);
    assert_non_null(memmem(answer, (size_t)got, "\0\0\4\3\0\0\0\0\1\0\0\0\2", 13)); /* RST_STREAM(INTERNAL_ERROR) */
    assert_int_equal(server.heads, 0);
    assert_int_equal(server.dead, 0);
    end();
    close(pair[0]);
    close(fd);
}

static void test_resets_without_end(void **state)
{
    (void)state;
    begin(false);
    for (int i = 0; i < 1100 && !server.dead; i++) {
        request(NULL);
        h2_reset(client.st, H2_CANCEL);
        if (!h2_alive(client.h2))
            break;
        loop_advance(loop, USEC_MSEC);
    }
    loop_advance(loop, USEC_MSEC);
    assert_int_equal(server.dead, 1); /* 1000 at once, 100 a second */
    end();
}

static void test_silent_peer(void **state)
{
    (void)state;
    int fd = begin(true);
    h2_keepalive(client.h2, 5 * USEC_SEC);
    loop_advance(loop, 9 * USEC_SEC);
    assert_int_equal(client.dead, 0);
    loop_advance(loop, 20 * USEC_SEC);
    assert_int_equal(client.dead, 1);
    assert_false(h2_alive(client.h2));
    end();
    close(fd);
}

static void test_keepalive(void **state)
{
    (void)state;
    begin(false);
    h2_keepalive(client.h2, 5 * USEC_SEC);
    loop_advance(loop, 300 * USEC_SEC);
    assert_int_equal(client.dead + server.dead, 0);
    h2_drain(server.h2);
    loop_advance(loop, USEC_SEC);
    assert_int_equal(client.goaways, 1);
    assert_int_equal(server.dead, 1); /* nothing was open */
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_limit),         cmocka_unit_test(test_window_and_queue), cmocka_unit_test(test_reset),
        cmocka_unit_test(test_head_bomb),
        cmocka_unit_test(test_resets_without_end), cmocka_unit_test(test_silent_peer),      cmocka_unit_test(test_keepalive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
