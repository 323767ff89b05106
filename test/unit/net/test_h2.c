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
    bool free_when_dead; /* as owners do */
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
    struct side *s = arg;
    assert_true(why->code != ERR_OK);
    s->dead++;
    if (s->free_when_dead)
        s->h2 = h2_free(s->h2);
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
    put(bytes, &n,
        "\x83\x86\x84\x41\x01"
        "a",
        6);                                     /* POST http / a */
    put(bytes, &n, "\x40\x01x\x7f\xa1\x1e", 6); /* x: 4000 bytes */
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
    assert_non_null(memmem(answer, (size_t)got, "\0\0\0\013header list too large", 25)); /* GOAWAY(ENHANCE_YOUR_CALM) */
    assert_int_equal(server.heads, 0);
    assert_int_equal(server.dead, 1);
    end();
    close(pair[0]);
    close(fd);
}

static void test_resets_without_end(void **state)
{
    (void)state;
    begin(false);
    int i;
    for (i = 0; i < 300 && !server.dead; i++) {
        request(NULL);
        h2_reset(client.st, H2_CANCEL);
        if (!h2_alive(client.h2))
            break;
        loop_advance(loop, USEC_MSEC);
    }
    loop_advance(loop, USEC_MSEC);
    assert_int_equal(server.dead, 1); /* 200 at once, 20 a second */
    assert_in_range(i, 199, 210);
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

/* --- What a raw peer puts off, or does too often --- */

/* The server's end is @server; what it writes is read by read_answer. */
static int raw_fd, spare_fd;

static void begin_raw(void)
{
    int pair[2];
    spare_fd = begin(true);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    raw_fd = pair[0];
    server.h2 = h2_new(conn_of(pair[1]), true, &handler, &server);
    loop_advance(loop, USEC_MSEC);
}

static void end_raw(void)
{
    end();
    close(raw_fd);
    close(spare_fd);
}

static void send_raw(const void *p, size_t n)
{
    assert_int_equal(write(raw_fd, p, n), n);
    loop_advance(loop, USEC_MSEC);
}

#define PREFACE  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define ACK      "\0\0\0\4\1\0\0\0\0"
#define PING     "\0\0\010\6\0\0\0\0\0pingping"
#define GET      "\x82\x86\x84\x41\x01\x61" /* http / a */

/* Did the server say @text, after an error code of one byte? */
static bool said(uint8_t code, const char *text)
{
    static char answer[65536];
    ssize_t got = read(raw_fd, answer, sizeof(answer));
    char *at = got > 0 ? memmem(answer, (size_t)got, text, strlen(text)) : NULL;
    return at && (uint8_t)at[-1] == code;
}

static void test_preface_comes_late(void **state)
{
    (void)state;
    begin_raw();
    send_raw(PREFACE, 24);
    loop_advance(loop, 9 * USEC_SEC);
    assert_int_equal(server.dead, 0);
    loop_advance(loop, USEC_SEC);
    assert_int_equal(server.dead, 1);
    assert_true(said(H2_PROTOCOL_ERROR, "no HTTP/2 settings came"));
    end_raw();
}

static void test_settings_never_acknowledged(void **state)
{
    (void)state;
    begin_raw();
    send_raw(PREFACE SETTINGS, 33);
    loop_advance(loop, 19 * USEC_SEC);
    assert_int_equal(server.dead, 0);
    loop_advance(loop, USEC_SEC);
    assert_int_equal(server.dead, 1);
    assert_true(said(H2_SETTINGS_TIMEOUT, "HTTP/2 settings were not acknowledged"));
    end_raw();
}

static void test_head_never_completed(void **state)
{
    (void)state;
    begin_raw();
    send_raw(PREFACE SETTINGS ACK, 42);
    loop_advance(loop, 60 * USEC_SEC);
    assert_int_equal(server.dead, 0);
    send_raw("\0\0\6\1\1\0\0\0\1" GET, 15);
    loop_advance(loop, 5 * USEC_SEC);
    send_raw("\0\0\1\011\0\0\0\0\1\x84", 10); /* going on does not buy time */
    loop_advance(loop, 4 * USEC_SEC);
    assert_int_equal(server.dead, 0);
    loop_advance(loop, USEC_SEC);
    assert_int_equal(server.dead, 1);
    assert_int_equal(server.heads, 0);
    end_raw();
}

/* Blanks around a value are no error and no part of it; a control byte is. */
static void test_odd_values(void **state)
{
    (void)state;
    begin_raw();
    send_raw(PREFACE SETTINGS ACK "\0\0\021\1\5\0\0\0\1" GET "\0\5x-end\3 a ", 68);
    assert_int_equal(server.heads, 1);
    assert_string_equal(server.trailer, "a");
    send_raw("\0\0\021\1\5\0\0\0\3" GET "\0\5x-end\3b\1b", 26);
    assert_int_equal(server.heads, 1);
    assert_int_equal(server.dead, 0);
    end_raw();
}

static void test_ping_strikes(void **state)
{
    (void)state;
    begin_raw();
    send_raw(PREFACE SETTINGS ACK, 42);
    for (int i = 0; i < 20; i++) { /* as often as our own clients may */
        send_raw(PING, 17);
        loop_advance(loop, 10 * USEC_SEC);
    }
    assert_int_equal(server.dead, 0);
    for (int i = 0; i < 3; i++)
        send_raw(PING, 17);
    assert_int_equal(server.dead, 0);
    send_raw(PING, 17);
    assert_int_equal(server.dead, 1);
    assert_true(said(H2_ENHANCE_YOUR_CALM, "too_many_pings"));
    end_raw();
}

static void test_client_pings_less_when_told(void **state)
{
    (void)state;
    int fd = begin(true);
    h2_keepalive(client.h2, USEC_SEC);
    assert_int_equal(h2_keepalive_next(client.h2), H2_KEEPALIVE_MIN);
    assert_int_equal(write(fd, SETTINGS "\0\0\026\7\0\0\0\0\0\0\0\0\0\0\0\0\013too_many_pings", 40), 40);
    loop_advance(loop, USEC_MSEC);
    assert_int_equal(client.goaways, 1);
    assert_false(h2_alive(client.h2));
    assert_int_equal(h2_keepalive_next(client.h2), 2 * H2_KEEPALIVE_MIN);
    end();
    close(fd);
}

/* A finished answer without a window: kept for H2_STALL_MAX, then its stream is reset. */
static void test_answer_nobody_takes(void **state)
{
    (void)state;
    begin_raw();
    send_raw(PREFACE "\0\0\6\4\0\0\0\0\0\0\4\0\0\0\0" ACK "\0\0\6\1\5\0\0\0\1" GET, 63); /* INITIAL_WINDOW_SIZE 0 */
    assert_int_equal(server.heads, 1);
    const struct h2_field head = {":status", "200"};
    assert_int_equal(h2_respond(server.st, &head, 1), 0);
    assert_int_equal(h2_write(server.st, STR("an answer")), 0);
    h2_finish(server.st, NULL, 0);
    loop_advance(loop, H2_STALL_MAX - USEC_SEC);
    assert_int_equal(server.closed, 0);
    loop_advance(loop, USEC_SEC);
    assert_int_equal(server.closed, 1);
    assert_int_equal(server.code, H2_CANCEL);
    assert_int_equal(server.dead, 0);
    end_raw();
}

/* A connection that takes nothing at all. */
static void test_peer_that_reads_nothing(void **state)
{
    static char bytes[H2_QUEUE_HIGH];
    (void)state;
    begin_raw();
    send_raw(PREFACE "\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff" ACK "\0\0\4\010\0\0\0\0\0\x7f\xff\0\0"
                     "\0\0\6\1\5\0\0\0\1" GET,
             76);
    const struct h2_field head = {":status", "200"};
    assert_int_equal(h2_respond(server.st, &head, 1), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(h2_write(server.st, (struct str){bytes, sizeof(bytes)}), 0);
    loop_advance(loop, 59 * USEC_SEC);
    assert_int_equal(server.dead, 0);
    loop_advance(loop, 2 * USEC_SEC);
    assert_int_equal(server.dead, 1);
    end_raw();
}

/* All streams of a connection together hold no more than H2_QUEUE_CONN_MAX. */
static void test_queue_of_connection(void **state)
{
    static char bytes[4 * 1024 * 1024];
    (void)state;
    begin(false);
    server.consume = false;
    struct h2_stream *first = NULL;
    for (int i = 0; i < 8; i++) {
        request(NULL);
        first = first ? first : client.st;
        assert_int_equal(h2_write(client.st, (struct str){bytes, sizeof(bytes)}), 0);
    }
    request(NULL);
    unsigned pieces = 0; /* windows let some of it go */
    while (h2_write(client.st, (struct str){bytes, 64 * 1024}) == 0)
        pieces++;
    assert_in_range(pieces, 1, 16);
    h2_reset(first, H2_CANCEL);
    loop_advance(loop, USEC_MSEC);
    assert_int_equal(h2_write(client.st, STR("x")), 0);
    end();
}

static void test_max_age(void **state)
{
    (void)state;
    begin(false);
    h2_max_age(server.h2, 1000 * USEC_SEC);
    request(NULL);
    loop_advance(loop, 899 * USEC_SEC);
    assert_int_equal(client.goaways, 0);
    loop_advance(loop, 202 * USEC_SEC);
    assert_int_equal(client.goaways, 1);
    assert_int_equal(server.dead, 0); /* a stream is open */
    loop_advance(loop, H2_DRAIN_MAX);
    assert_int_equal(server.dead, 1);
    end();
}

/* What is last in the connection's queue when the session ends differs with the size. */
static void drain_while_read_slowly(size_t size)
{
    static char bytes[2 * H2_QUEUE_HIGH], part[32 * 1024];
    size_t total = 0;
    ssize_t n = 1;
    begin_raw();
    server.free_when_dead = true;
    send_raw(PREFACE "\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff" ACK "\0\0\4\010\0\0\0\0\0\x7f\xff\0\0"
                     "\0\0\6\1\5\0\0\0\1" GET,
             76);
    const struct h2_field head = {":status", "200"};
    assert_int_equal(h2_respond(server.st, &head, 1), 0);
    assert_int_equal(h2_write(server.st, (struct str){bytes, size}), 0);
    h2_finish(server.st, NULL, 0);
    h2_drain(server.h2);
    loop_advance(loop, USEC_MSEC);
    send_raw("\0\0\10\6\1\0\0\0\0drain\0\0\0", 17);
    for (int i = 0; i < 100 && n != 0; i++) {
        n = read(raw_fd, part, sizeof(part));
        total += n > 0 ? (size_t)n : 0;
        loop_advance(loop, USEC_SEC);
    }
    assert_true(total > size);
    assert_int_equal(n, 0);
    loop_advance(loop, 60 * USEC_SEC);
    assert_int_equal(server.dead, 1);
    end_raw();
}

/* The last answer of a connection that is drained arrives whole, however slowly its reader takes it. */
static void test_drained_to_the_last_byte(void **state)
{
    (void)state;
    for (size_t size = H2_QUEUE_HIGH; size <= H2_QUEUE_HIGH + H2_QUEUE_HIGH / 4; size += H2_QUEUE_HIGH / 32)
        drain_while_read_slowly(size);
}

static void test_keepalive(void **state)
{
    (void)state;
    begin(false);
    h2_keepalive(client.h2, 5 * USEC_SEC);
    loop_advance(loop, 300 * USEC_SEC);
    assert_int_equal(client.dead + server.dead, 0);
    client.free_when_dead = true;
    h2_drain(server.h2);
    loop_advance(loop, USEC_SEC);
    assert_int_equal(client.goaways, 1);
    assert_int_equal(server.dead, 1); /* nothing was open */
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_limit),
        cmocka_unit_test(test_window_and_queue),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_head_bomb),
        cmocka_unit_test(test_resets_without_end),
        cmocka_unit_test(test_silent_peer),
        cmocka_unit_test(test_keepalive),
        cmocka_unit_test(test_preface_comes_late),
        cmocka_unit_test(test_settings_never_acknowledged),
        cmocka_unit_test(test_head_never_completed),
        cmocka_unit_test(test_odd_values),
        cmocka_unit_test(test_ping_strikes),
        cmocka_unit_test(test_client_pings_less_when_told),
        cmocka_unit_test(test_answer_nobody_takes),
        cmocka_unit_test(test_peer_that_reads_nothing),
        cmocka_unit_test(test_queue_of_connection),
        cmocka_unit_test(test_max_age),
        cmocka_unit_test(test_drained_to_the_last_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
