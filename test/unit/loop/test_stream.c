/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over loopback TCP and unix sockets: bytes, half-close, back-pressure, limits, failures, ends inside callbacks. */
#include "loop/stream.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/buf.h"

enum { GOT_MAX = 32 * 1024 * 1024 };

/* One side of a connection as its handler saw it. */
struct side {
    struct stream *s;
    struct buf got;
    struct event changed;
    int rc;
    unsigned reads, eofs, errors, drains;
    bool close_on_read, stop_on_read, close_on_eof, echo;
};

struct ctx {
    struct loop *loop;
    struct listener *l;
    struct side server, client;
    char dir[64];
    char path[96];
    char addr[128];
};

static void side_init(struct side *x, struct loop *loop)
{
    buf_init(&x->got, GOT_MAX);
    event_init(&x->changed, loop);
}

static void on_read(void *arg, const void *p, size_t n)
{
    struct side *x = arg;

    x->reads++;
    assert_int_equal(buf_append(&x->got, p, n), 0);
    event_pulse(&x->changed);
    if (x->echo)
        assert_int_equal(stream_write(x->s, p, n), 0);
    if (x->stop_on_read)
        stream_read_stop(x->s);
    if (x->close_on_read)
        x->s = stream_close(x->s);
}

static void on_eof(void *arg)
{
    struct side *x = arg;

    x->eofs++;
    event_pulse(&x->changed);
    if (x->echo)
        stream_shutdown(x->s);
    if (x->close_on_eof)
        x->s = stream_close(x->s);
}

static void on_error(void *arg, int rc)
{
    struct side *x = arg;

    x->errors++;
    x->rc = rc;
    event_pulse(&x->changed);
}

static void on_drain(void *arg)
{
    struct side *x = arg;

    assert_true(stream_queued(x->s) < STREAM_LOW_WATER);
    x->drains++;
    event_pulse(&x->changed);
}

static const struct stream_handler handler = {on_read, on_eof, on_error, on_drain};

static void on_accept(void *arg, struct stream *s)
{
    struct ctx *c = arg;

    c->server.s = s;
    stream_set_handler(s, &handler, &c->server);
    stream_read_start(s);
    event_pulse(&c->server.changed);
}

static int setup(void **state)
{
    struct ctx *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    c->loop = loop_new();
    side_init(&c->server, c->loop);
    side_init(&c->client, c->loop);
    (void)snprintf(c->dir, sizeof(c->dir), "/tmp/test_stream.XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    (void)snprintf(c->path, sizeof(c->path), "%s/s", c->dir);
    (void)snprintf(c->addr, sizeof(c->addr), "unix:%s", c->path);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct ctx *c = *state;

    c->server.s = stream_close(c->server.s);
    c->client.s = stream_close(c->client.s);
    c->l = listener_close(c->l);
    loop_free(c->loop);
    buf_release(&c->server.got);
    buf_release(&c->client.got);
    (void)unlink(c->path);
    (void)rmdir(c->dir);
    free(c);
    return 0;
}

/* Runs @fn on a fiber to its end, then ends both sides so that the loop has nothing left. */
struct run {
    struct ctx *c;
    void (*fn)(struct ctx *c);
};

static void run_main(void *arg)
{
    struct run *r = arg;

    r->fn(r->c);
    loop_stop(r->c->loop);
}

static void run(struct ctx *c, void (*fn)(struct ctx *c))
{
    struct run r = {c, fn};

    assert_int_equal(fiber_spawn(c->loop, "test", run_main, &r, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(fiber_count(c->loop), 0);
}

/* Waits for @cond, which some handler changes. */
#define WAIT_FOR(x, cond)                                                                  \
    while (!(cond))                                                                        \
        assert_int_equal(event_wait(&(x)->changed, deadline_in(20 * USEC_SEC)), 0)

static void connect_both(struct ctx *c, const char *addr)
{
    struct err err;

    if (!c->l)
        assert_int_equal(listener_open(c->loop, addr, 0600, on_accept, c, &c->l, &err), 0);
    assert_int_equal(stream_dial(c->loop, listener_addr(c->l), deadline_in(5 * USEC_SEC), &c->client.s, &err), 0);
    stream_set_handler(c->client.s, &handler, &c->client);
    WAIT_FOR(&c->server, c->server.s);
}

static void send_str(struct side *x, const char *s)
{
    assert_int_equal(stream_write(x->s, s, strlen(s)), 0);
}

static void echo_with_half_close(struct ctx *c, const char *addr)
{
    c->server.echo = true;
    connect_both(c, addr);
    send_str(&c->client, "hello ");
    send_str(&c->client, "world");
    assert_int_equal(stream_queued(c->client.s), 11);
    stream_shutdown(c->client.s);
    assert_int_equal(stream_write(c->client.s, "x", 1), -ERR_UNAVAILABLE);
    stream_read_start(c->client.s);
    WAIT_FOR(&c->client, c->client.eofs == 1);
    assert_string_equal(buf_cstr(&c->client.got), "hello world");
    assert_int_equal(c->server.eofs, 1);
    assert_int_equal(c->server.errors + c->client.errors, 0);
    assert_int_equal(stream_bytes_in(c->client.s), 11);
    assert_int_equal(stream_bytes_out(c->client.s), 11);
    assert_int_equal(stream_queued(c->client.s), 0);
}

static void tcp_main(struct ctx *c)
{
    struct stream_cred cred;

    echo_with_half_close(c, "127.0.0.1:0");
    assert_string_not_equal(listener_addr(c->l), "127.0.0.1:0");
    assert_string_equal(stream_peer(c->client.s), listener_addr(c->l));
    assert_string_equal(stream_local(c->client.s), stream_peer(c->server.s));
    assert_int_equal(stream_peer_cred(c->client.s, &cred), -ERR_PRECONDITION);
}

static void test_tcp_echo_half_close_and_addresses(void **state)
{
    run(*state, tcp_main);
}

static void tcp6_main(struct ctx *c)
{
    echo_with_half_close(c, "[::1]:0");
    assert_memory_equal(stream_peer(c->client.s), "[::1]:", 6);
}

static void test_tcp_over_ipv6(void **state)
{
    struct ctx *c = *state;
    struct listener *l;
    struct err err;

    if (listener_open(c->loop, "[::1]:0", 0, on_accept, c, &l, &err) < 0)
        skip();
    listener_close(l);
    run(c, tcp6_main);
}

static void unix_main(struct ctx *c)
{
    struct stream_cred cred;
    struct stat st;

    echo_with_half_close(c, c->addr);
    assert_int_equal(stat(c->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_string_equal(stream_peer(c->server.s), "unix");
    assert_int_equal(stream_peer_cred(c->server.s, &cred), 0);
    assert_int_equal(cred.uid, getuid());
    assert_int_equal(cred.gid, getgid());
    assert_int_equal(cred.pid, getpid());
    c->l = listener_close(c->l);
    assert_int_equal(stat(c->path, &st), -1);
}

static void test_unix_echo_mode_and_peer_cred(void **state)
{
    run(*state, unix_main);
}

static void test_unix_live_socket_refused_stale_replaced(void **state)
{
    struct ctx *c = *state;
    struct listener *second = NULL;
    struct err err;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd;

    assert_int_equal(listener_open(c->loop, c->addr, 0600, on_accept, c, &c->l, &err), 0);
    assert_int_equal(listener_open(c->loop, c->addr, 0600, on_accept, c, &second, &err), -ERR_EXISTS);
    c->l = listener_close(c->l);
    (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", c->path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    (void)close(fd);
    assert_int_equal(listener_open(c->loop, c->addr, 0660, on_accept, c, &c->l, &err), 0);
}

static void test_unix_path_that_is_no_socket_stays(void **state)
{
    struct ctx *c = *state;
    struct err err;
    FILE *f = fopen(c->path, "w");

    assert_non_null(f);
    (void)fclose(f);
    assert_int_equal(listener_open(c->loop, c->addr, 0600, on_accept, c, &c->l, &err), -ERR_EXISTS);
    assert_int_equal(access(c->path, F_OK), 0);
}

static void test_tcp_address_in_use(void **state)
{
    struct ctx *c = *state;
    struct listener *second = NULL;
    struct err err;

    assert_int_equal(listener_open(c->loop, "127.0.0.1:0", 0, on_accept, c, &c->l, &err), 0);
    assert_int_equal(listener_open(c->loop, listener_addr(c->l), 0, on_accept, c, &second, &err), -ERR_EXISTS);
}

static void bad_addr_main(struct ctx *c)
{
    static const char *const bad[] = {"",        "localhost:80", "127.0.0.1",     "127.0.0.1:",  "127.0.0.1:65536", "127.0.0.1:-1",
                                      "::1:80",  "[::1]",        "[::1:80",       "unix:",       "unix:relative",   "[127.0.0.1]:80",
                                      "1.2.3:4", ":80",          "127.0.0.1: 80", "unix:a/b:80", "300.1.1.1:1"};
    char deep[256];
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(stream_dial(c->loop, bad[i], deadline_in(USEC_SEC), &c->client.s, &err), -ERR_INVALID);
    memset(deep, 'x', sizeof(deep) - 1);
    memcpy(deep, "unix:/", 6);
    deep[sizeof(deep) - 1] = 0;
    assert_int_equal(stream_dial(c->loop, deep, deadline_in(USEC_SEC), &c->client.s, &err), -ERR_INVALID);
    deep[5 + sizeof(((struct sockaddr_un *)0)->sun_path)] = 0; /* one too long */
    assert_int_equal(stream_dial(c->loop, deep, deadline_in(USEC_SEC), &c->client.s, &err), -ERR_INVALID);
}

static void test_bad_addresses(void **state)
{
    run(*state, bad_addr_main);
}

static void refused_main(struct ctx *c)
{
    struct err err = ERR_INIT;
    char addr[STREAM_ADDR_SIZE];

    assert_int_equal(listener_open(c->loop, "127.0.0.1:0", 0, on_accept, c, &c->l, &err), 0);
    (void)snprintf(addr, sizeof(addr), "%s", listener_addr(c->l));
    c->l = listener_close(c->l);
    assert_int_equal(stream_dial(c->loop, addr, deadline_in(5 * USEC_SEC), &c->client.s, &err), -ERR_UNAVAILABLE);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.msg, addr));
    assert_int_equal(stream_dial(c->loop, c->addr, deadline_in(5 * USEC_SEC), &c->client.s, NULL), -ERR_UNAVAILABLE);
    assert_null(c->client.s);
}

static void test_dial_refused(void **state)
{
    run(*state, refused_main);
}

/* A listening socket whose queue is full drops further SYNs: connects hang. */
static void hang_main(struct ctx *c)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(in);
    struct err err = ERR_INIT;
    struct stream *filler[8];
    char addr[STREAM_ADDR_SIZE];
    int fd = socket(AF_INET, SOCK_STREAM, 0), rc = 0;
    size_t i;

    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    (void)snprintf(addr, sizeof(addr), "127.0.0.1:%u", (unsigned)ntohs(in.sin_port));
    for (i = 0; i < ARRAY_LEN(filler) && rc == 0; i++)
        rc = stream_dial(c->loop, addr, deadline_in(50 * USEC_MSEC), &filler[i], &err);
    assert_int_equal(rc, -ERR_DEADLINE);
    assert_int_equal(err.code, ERR_DEADLINE);
    for (size_t k = 0; k + 1 < i; k++)
        stream_close(filler[k]);
    (void)close(fd);
}

static void test_dial_deadline(void **state)
{
    run(*state, hang_main);
}

static void dialler(void *arg)
{
    struct ctx *c = arg;

    c->client.rc = stream_dial(c->loop, c->addr, deadline_in(5 * USEC_SEC), &c->client.s, NULL);
}

static void cancel_main(struct ctx *c)
{
    struct fiber *f;
    struct err err;

    assert_int_equal(listener_open(c->loop, c->addr, 0600, on_accept, c, &c->l, &err), 0);
    assert_int_equal(fiber_spawn(c->loop, "dialler", dialler, c, &f), 0);
    fiber_cancel(f);
    assert_int_equal(fiber_join(f, deadline_in(USEC_SEC)), 0);
    assert_int_equal(c->client.rc, -ERR_CANCELLED);
    fiber_unref(f);
}

static void test_dial_cancelled(void **state)
{
    run(*state, cancel_main);
}

static void pressure_main(struct ctx *c)
{
    static char block[32 * 1024];
    size_t sent = 0;

    connect_both(c, "127.0.0.1:0");
    stream_read_stop(c->server.s);
    memset(block, 'b', sizeof(block));
    while (stream_writable(c->client.s)) {
        assert_int_equal(stream_write(c->client.s, block, sizeof(block)), 0);
        sent += sizeof(block);
        if (!stream_writable(c->client.s)) /* the kernel takes some: go on until it does not */
            assert_int_equal(fiber_sleep(2 * USEC_MSEC), 0);
    }
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    c->client.drains = 0; /* while the kernel still took all there may have been some */
    assert_true(stream_queued(c->client.s) >= STREAM_HIGH_WATER);
    assert_int_equal(c->server.got.len, 0);
    stream_read_start(c->server.s);
    WAIT_FOR(&c->client, c->client.drains == 1);
    assert_true(stream_writable(c->client.s));
    WAIT_FOR(&c->server, c->server.got.len == sent);
    assert_int_equal(c->client.drains, 1);
    /* Stop inside the read callback: one chunk per start. */
    c->server.stop_on_read = true;
    c->server.reads = 0;
    for (int i = 0; i < 8; i++)
        assert_int_equal(stream_write(c->client.s, block, sizeof(block)), 0);
    WAIT_FOR(&c->server, c->server.reads == 1);
    assert_int_equal(fiber_sleep(10 * USEC_MSEC), 0);
    assert_int_equal(c->server.reads, 1);
    stream_read_start(c->server.s);
    WAIT_FOR(&c->server, c->server.reads == 2);
}

static void test_back_pressure(void **state)
{
    run(*state, pressure_main);
}

static void ceiling_main(struct ctx *c)
{
    char *big = malloc(STREAM_QUEUE_MAX);

    assert_non_null(big);
    memset(big, 'c', STREAM_QUEUE_MAX);
    connect_both(c, c->addr);
    stream_read_stop(c->server.s);
    assert_int_equal(stream_write(c->client.s, big, STREAM_QUEUE_MAX), 0);
    assert_int_equal(stream_queued(c->client.s), STREAM_QUEUE_MAX);
    assert_int_equal(stream_write(c->client.s, big, 1), -ERR_EXHAUSTED);
    assert_int_equal(stream_write(c->client.s, big, 0), 0);
    assert_int_equal(fiber_sleep(5 * USEC_MSEC), 0); /* the kernel took some */
    assert_true(stream_queued(c->client.s) < STREAM_QUEUE_MAX);
    assert_int_equal(stream_write(c->client.s, big, STREAM_QUEUE_MAX), -ERR_EXHAUSTED);
    assert_int_equal(stream_write(c->client.s, big, STREAM_QUEUE_MAX - stream_queued(c->client.s)), 0);
    assert_int_equal(stream_write(c->client.s, big, 1), -ERR_EXHAUSTED);
    stream_shutdown(c->client.s);
    stream_read_start(c->server.s);
    WAIT_FOR(&c->server, c->server.eofs == 1);
    assert_true(c->server.got.len > STREAM_QUEUE_MAX);
    assert_int_equal(c->server.got.len, stream_bytes_out(c->client.s));
    free(big);
}

static void test_queue_ceiling(void **state)
{
    run(*state, ceiling_main);
}

static void close_main(struct ctx *c)
{
    connect_both(c, "127.0.0.1:0");
    c->server.close_on_read = true;
    send_str(&c->client, "bye");
    stream_read_start(c->client.s);
    WAIT_FOR(&c->client, c->client.eofs + c->client.errors == 1);
    assert_int_equal(c->server.reads, 1);
    assert_null(c->server.s);
}

static void test_close_inside_the_read_callback(void **state)
{
    run(*state, close_main);
}

static void close_eof_main(struct ctx *c)
{
    connect_both(c, c->addr);
    c->server.close_on_eof = true;
    send_str(&c->client, "last words");
    c->client.s = stream_close(c->client.s); /* one chance for the kernel */
    WAIT_FOR(&c->server, c->server.eofs == 1);
    assert_string_equal(buf_cstr(&c->server.got), "last words");
    assert_null(c->server.s);
    assert_null(stream_close(NULL));
}

static void test_close_sends_what_it_can_and_eof_may_close(void **state)
{
    run(*state, close_eof_main);
}

/* The peer answers early and goes while we are still sending: its answer arrives, then the failure. */
static void early_main(struct ctx *c)
{
    char *big = calloc(1, STREAM_QUEUE_MAX);
    int fds[2];
    struct err err;

    assert_non_null(big);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(stream_from_fd(c->loop, fds[0], &c->client.s, &err), 0);
    stream_set_handler(c->client.s, &handler, &c->client);
    assert_int_equal(stream_write(c->client.s, big, STREAM_QUEUE_MAX), 0);
    assert_int_equal(fiber_sleep(2 * USEC_MSEC), 0);
    assert_int_equal(write(fds[1], "413", 3), 3);
    stream_read_start(c->client.s);
    (void)shutdown(fds[1], SHUT_RD);
    WAIT_FOR(&c->client, c->client.got.len == 3);
    (void)close(fds[1]);
    WAIT_FOR(&c->client, c->client.errors == 1);
    assert_string_equal(buf_cstr(&c->client.got), "413");
    assert_int_equal(c->client.rc, -ERR_UNAVAILABLE);
    assert_int_equal(c->client.eofs, 0);
    assert_int_equal(stream_write(c->client.s, "x", 1), -ERR_UNAVAILABLE);
    assert_int_equal(fiber_sleep(5 * USEC_MSEC), 0);
    assert_int_equal(c->client.errors, 1);
    free(big);
}

static void test_early_answer_then_failure(void **state)
{
    run(*state, early_main);
}

/* Without reading, a failed write is reported at once. */
static void broken_main(struct ctx *c)
{
    int fds[2];
    struct err err;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(stream_from_fd(c->loop, fds[0], &c->client.s, &err), 0);
    stream_set_handler(c->client.s, &handler, &c->client);
    (void)close(fds[1]);
    send_str(&c->client, "x");
    assert_int_equal(c->client.errors, 0); /* never inline */
    WAIT_FOR(&c->client, c->client.errors == 1);
    assert_int_equal(c->client.rc, -ERR_UNAVAILABLE);
    stream_read_start(c->client.s);
    assert_int_equal(fiber_sleep(2 * USEC_MSEC), 0);
    assert_int_equal(c->client.errors, 1);
    assert_int_equal(c->client.eofs, 0);
}

static void test_failed_write_is_reported_once(void **state)
{
    run(*state, broken_main);
}

static void test_from_fd_refuses_a_file(void **state)
{
    struct ctx *c = *state;
    struct err err;
    FILE *f = tmpfile();

    assert_non_null(f);
    assert_int_equal(stream_from_fd(c->loop, fileno(f), &c->client.s, &err), -ERR_INVALID);
    (void)fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tcp_echo_half_close_and_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tcp_over_ipv6, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unix_echo_mode_and_peer_cred, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unix_live_socket_refused_stale_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unix_path_that_is_no_socket_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tcp_address_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dial_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dial_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dial_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue_ceiling, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_inside_the_read_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_sends_what_it_can_and_eof_may_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_answer_then_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_write_is_reported_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_fd_refuses_a_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
