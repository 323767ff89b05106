/* SPDX-License-Identifier: Apache-2.0 */
/* A served HTTP/2 connection on any frames: what comes after a good preface is the input, in pieces, while a handler answers, resets and
 * releases streams as the stream's number says. Nothing may be used after its end, and all memory is back when the connection is gone. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/h2.h"

static struct loop *loop;
static size_t n_open;
static bool dead;

static void on_head(void *arg, struct h2_stream *st, struct h2_head *head, bool end)
{
    static const struct h2_field ok = {":status", "200"}, trailer = {"x-end", "yes"};
    (void)arg;
    BUG_ON(dead);
    const char *path = h2_head_get(head, ":path");
    h2_set_user(st, &n_open);
    n_open++;
    switch (path ? path[1] : 0) {
    case 'r': /* reset at once */
        n_open--;
        h2_reset(st, H2_CANCEL);
        return;
    case 'f': /* forgotten */
        n_open--;
        h2_release(st);
        return;
    case 'e': (void)!h2_respond_end(st, &ok, 1); return;
    case 'w': return; /* waits for its end */
    default: break;
    }
    if (h2_respond(st, &ok, 1) == 0 && h2_write(st, STR("some bytes")) == 0)
        h2_finish(st, &trailer, end ? 1 : 0);
}

static void on_data(void *arg, struct h2_stream *st, struct str bytes)
{
    (void)arg;
    BUG_ON(dead || !h2_user(st));
    if (bytes.n % 2)
        h2_consume(st, bytes.n);
}

static void on_end(void *arg, struct h2_stream *st)
{
    static const struct h2_field ok = {":status", "200"};
    (void)arg;
    BUG_ON(dead || !h2_user(st));
    (void)!h2_respond_end(st, &ok, 1);
}

static void on_closed(void *arg, struct h2_stream *st, uint32_t code)
{
    (void)arg;
    (void)code;
    n_open -= h2_user(st) != NULL;
}

static void on_drain(void *arg, struct h2_stream *st)
{
    (void)arg;
    BUG_ON(dead || !h2_user(st));
}

static void on_dead(void *arg, const struct err *why)
{
    (void)arg;
    BUG_ON(dead || why->code == ERR_OK);
    dead = true;
    BUG_ON(n_open);
}

static const struct h2_handler handler = {on_head, on_data, on_end, on_closed, on_drain, NULL, on_dead};

static struct h2 *serve(int fd)
{
    struct stream *s = NULL;
    struct err err = ERR_INIT;
    BUG_ON(stream_from_fd(loop, fd, &s, &err) != 0);
    return h2_new(conn_plain(s), true, &handler, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    int fd[2];
    if (size == 0)
        return 0;
    size_t step = data[0] ? data[0] : SIZE_MAX;
    struct str rest = {(const char *)data + 1, size - 1};
    clock_fake(1000 * USEC_SEC, 1700000000 * USEC_SEC);
    BUG_ON(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0);
    loop = loop_new();
    n_open = 0;
    dead = false;
    struct h2 *h = serve(fd[1]);
    h2_feed(h, (struct str){preface, sizeof(preface) - 1});
    while (rest.n && !dead) {
        size_t n = rest.n < step ? rest.n : step;
        h2_feed(h, (struct str){rest.p, n});
        rest = (struct str){rest.p + n, rest.n - n};
        if (rest.n % 3 == 0)
            loop_advance(loop, 0);
    }
    loop_advance(loop, 30 * USEC_SEC); /* nobody acknowledges the settings */
    BUG_ON(!dead && rest.n == 0 && h2_alive(h) && h2_streams(h) > H2_STREAMS_MAX);
    h = h2_free(h);
    loop_advance(loop, USEC_MSEC);
    loop = loop_free(loop);
    (void)close(fd[0]);
    return 0;
}
