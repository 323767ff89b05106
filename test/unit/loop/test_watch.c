/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that are no streams, and the end of a pipe that is written to: it has no half-close. */
#include "loop/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/stream.h"

struct seen {
    struct loop *loop;
    struct watch *w;
    int fd;
    unsigned packets;
    bool end;
};

/* One packet at a time: the rest is told of again. */
static void on_ready(void *arg)
{
    struct seen *x = arg;
    char packet[8];
    ssize_t n = recv(x->fd, packet, sizeof(packet), MSG_DONTWAIT);

    x->packets += n > 0;
    x->end = n == 0;
    if (x->end)
        x->w = watch_close(x->w);
}

static void test_packets_and_their_end(void **state)
{
    struct seen x = {.loop = loop_new()};
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    x.fd = pair[0];
    assert_int_equal(watch_open(x.loop, x.fd, on_ready, &x, &x.w, NULL), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(send(pair[1], "abc", 3, 0), 3);
    (void)close(pair[1]);
    loop_run(x.loop); /* until nothing is watched any more */
    assert_int_equal(x.packets, 3);
    assert_true(x.end);
    assert_null(watch_close(NULL));
    (void)loop_free(x.loop);
    (void)close(pair[0]);
}

static void test_what_cannot_be_watched(void **state)
{
    struct loop *loop = loop_new();
    struct watch *w = NULL;
    struct err err = ERR_INIT;
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(watch_open(loop, fd, on_ready, NULL, &w, &err) < 0);
    assert_true(err.msg[0] != '\0');
    (void)loop_free(loop);
    (void)close(fd);
}

struct writer {
    struct stream *s;
    unsigned ends, errors;
};

static void on_sent(void *arg)
{
    struct writer *x = arg;

    x->ends++;
    x->s = stream_close(x->s);
}

static void on_error(void *arg, int rc)
{
    struct writer *x = arg;

    assert_true(rc < 0);
    x->errors++;
    x->s = stream_close(x->s);
}

static const struct stream_handler handler = {NULL, on_sent, on_error, NULL};

static void write_to_pipe(bool reader_goes, struct writer *x, char *ret, ssize_t *ret_n)
{
    struct loop *loop = loop_new();
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(stream_from_fd(loop, fds[1], &x->s, NULL), 0);
    stream_set_handler(x->s, &handler, x);
    assert_int_equal(stream_write(x->s, "hello", 5), 0);
    stream_shutdown(x->s);
    if (reader_goes)
        (void)close(fds[0]);
    loop_run(loop);
    if (!reader_goes) {
        *ret_n = read(fds[0], ret, 16);
        assert_int_equal(read(fds[0], ret + 8, 1), 0); /* its writer has closed */
        (void)close(fds[0]);
    }
    (void)loop_free(loop);
}

static void test_a_pipe_says_when_all_is_sent(void **state)
{
    struct writer x = {0};
    char got[32] = "";
    ssize_t n = 0;

    (void)state;
    write_to_pipe(false, &x, got, &n);
    assert_int_equal(n, 5);
    assert_memory_equal(got, "hello", 5);
    assert_int_equal(x.ends, 1);
    assert_int_equal(x.errors, 0);
}

static void test_a_pipe_that_nobody_reads(void **state)
{
    struct writer x = {0};

    (void)state;
    write_to_pipe(true, &x, NULL, NULL);
    assert_int_equal(x.ends, 0);
    assert_int_equal(x.errors, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packets_and_their_end),
        cmocka_unit_test(test_what_cannot_be_watched),
        cmocka_unit_test(test_a_pipe_says_when_all_is_sent),
        cmocka_unit_test(test_a_pipe_that_nobody_reads),
    };
    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
