/* SPDX-License-Identifier: Apache-2.0 */
/* program — see program.h. */
#include "cli/program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/terminal.h"
#include "loop/lane.h"

enum { READ_SIZE = 32 * 1024, WRITE_SIZE = 4096 /* what a pipe takes whole */, KEY_PREFIX = 'P' & 0x1f, KEY_DETACH = 'Q' & 0x1f };

struct session {
    const struct program *p;
    bool tty, input;
    int quit;             /* readable at the end: whatever blocks gives up */
    struct lane *in, *out;
    struct event done, resized;
    bool stop;            /* a signal wants the end */
    bool detached;        /* the keys for it were typed */
    unsigned keys;        /* so many of them came so far */
    int rc, exit_code;
    struct err err;
};

/* --- On the lanes ---- */

/* Waits for @fd: 1; 0: the end has come. */
static int ready(int fd, short events, int quit)
{
    struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = quit, .events = POLLIN}};
    while (poll(p, 2, -1) < 0)
        if (errno != EINTR)
            return 0;
    return p[1].revents ? 0 : 1;
}

struct reading {
    int quit;
    char bytes[READ_SIZE + 1];
    ssize_t n; /* 0: no more */
    char kept[READ_SIZE + 1]; /* of @bytes without the keys */
};

static int read_stdin(void *arg)
{
    struct reading *r = arg;
    r->n = 0;
    if (!ready(STDIN_FILENO, POLLIN, r->quit))
        return -(int)ERR_CANCELLED;
    do {
        r->n = read(STDIN_FILENO, r->bytes, READ_SIZE);
    } while (r->n < 0 && errno == EINTR);
    if (r->n < 0)
        r->n = 0; /* a terminal that is gone */
    return 0;
}

struct writing {
    int quit, fd;
    ProtobufCBinaryData bytes;
};

static int write_out(void *arg)
{
    struct writing *w = arg;
    while (w->bytes.len) {
        if (!ready(w->fd, POLLOUT, w->quit))
            return -(int)ERR_CANCELLED;
        ssize_t n = write(w->fd, w->bytes.data, w->bytes.len < WRITE_SIZE ? w->bytes.len : WRITE_SIZE);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -(int)ERR_UNAVAILABLE;
        w->bytes.data += n > 0 ? n : 0;
        w->bytes.len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* --- Fibers ---- */

/* Ctrl-P Ctrl-Q lets go of the program. Of a Ctrl-P that nothing of the kind follows nothing is lost: it goes with what comes behind it. True:
 * let go. */
static bool watch_keys(struct session *s, struct reading *r)
{
    size_t n = 0;
    if (!s->p->detachable || r->n <= 0)
        return false;
    for (ssize_t i = 0; i < r->n && !s->detached; i++) {
        char c = r->bytes[i];
        if (s->keys && c == KEY_DETACH) {
            s->detached = true;
        } else if (c == KEY_PREFIX && !s->keys) {
            s->keys = 1;
        } else {
            if (s->keys)
                r->kept[n++] = KEY_PREFIX;
            s->keys = 0;
            r->kept[n++] = c;
        }
    }
    memcpy(r->bytes, r->kept, n);
    r->n = (ssize_t)n;
    if (s->detached)
        event_signal(&s->done);
    return s->detached;
}

static void input_main(void *arg)
{
    struct session *s = arg;
    struct reading *r = NEW(struct reading);
    r->quit = s->quit;
    for (bool more = true; more;) {
        if (lane_call(s->in, read_stdin, r, USEC_INFINITY) != 0)
            break;
        more = r->n > 0;
        if (watch_keys(s, r) || s->p->kind->input(s->p->stream, (ProtobufCBinaryData){(size_t)r->n, (uint8_t *)r->bytes}, !more) != 0)
            break;
    }
    free(r);
}

static void size_main(void *arg)
{
    struct session *s = arg;
    while (event_wait(&s->resized, USEC_INFINITY) == 0) {
        unsigned rows, columns;
        event_reset(&s->resized);
        if (terminal_size(&rows, &columns) && s->p->kind->size(s->p->stream, rows, columns) != 0)
            return;
    }
}

static int show(struct session *s, int fd, ProtobufCBinaryData bytes, struct err *err)
{
    struct writing w = {.quit = s->quit, .fd = fd, .bytes = bytes};
    int rc = bytes.len ? lane_call(s->out, write_out, &w, USEC_INFINITY) : 0;
    if (rc == -(int)ERR_UNAVAILABLE)
        return err_set(err, ERR_CANCELLED, "standard output is closed");
    return rc < 0 ? err_set(err, (enum err_code)-rc, "interrupted") : 0;
}

/* 0; 1: the end. */
static int take(struct session *s, const ProtobufCMessage *message, struct err *err)
{
    struct program_output m = {0};
    s->p->kind->output(message, &m);
    int rc = show(s, STDOUT_FILENO, m.output, err);
    if (rc == 0)
        rc = show(s, STDERR_FILENO, m.error_output, err);
    if (rc < 0 || !m.ended)
        return rc;
    s->exit_code = m.exit_code < 0 || m.exit_code > 255 ? 255 : m.exit_code; /* what a status of ours can be */
    return 1;
}

static void output_main(void *arg)
{
    struct session *s = arg;
    int rc = 0;
    while (rc == 0) {
        ProtobufCMessage *m = NULL;
        rc = rpc_stream_get(s->p->stream, USEC_INFINITY, &m, &s->err);
        if (rc == 1)
            rc = err_set(&s->err, ERR_UNAVAILABLE, "the control plane did not say how the program ended");
        else if (rc == 0)
            rc = take(s, m, &s->err);
        (void)rpc_message_free(m);
    }
    s->rc = rc < 0 ? rc : 0;
    event_signal(&s->done);
}

/* --- Signals ---- */

static void on_stop(int signum, void *arg)
{
    struct session *s = arg;
    (void)signum;
    s->stop = true;
    event_signal(&s->done);
}

static void on_size(int signum, void *arg)
{
    struct session *s = arg;
    (void)signum;
    event_signal(&s->resized);
}

/* Whoever stops us from outside gets the terminal meanwhile. */
static void on_pause(int signum, void *arg)
{
    (void)signum;
    terminal_restore();
    (void)raise(SIGSTOP);
    if (((const struct session *)arg)->input)
        (void)terminal_raw(NULL);
    on_size(SIGWINCH, arg);
}

static const struct {
    int signum;
    void (*fn)(int signum, void *arg);
    bool tty; /* only with a terminal */
} signals[] = {{SIGINT, on_stop, false}, {SIGTERM, on_stop, false}, {SIGHUP, on_stop, false}, {SIGQUIT, on_stop, true},
               {SIGWINCH, on_size, true}, {SIGTSTP, on_pause, true}};

static int watch_signals(struct cli *cli, struct session *s, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(signals); i++)
        if (s->tty || !signals[i].tty)
            rc = loop_signal(cli->loop, signals[i].signum, signals[i].fn, s, err);
    return rc;
}

static void unwatch_signals(struct cli *cli)
{
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        (void)loop_signal(cli->loop, signals[i].signum, NULL, NULL, NULL);
}

/* --- All together ---- */

static int run_fibers(struct cli *cli, struct session *s, struct err *err)
{
    static void (*const mains[])(void *arg) = {output_main, input_main, size_main};
    static const char *const names[] = {"program-output", "program-input", "program-size"};
    struct fiber *fibers[ARRAY_LEN(mains)] = {NULL};
    int rc = 0;
    if (!s->input && !s->p->stays_open)
        rpc_stream_half_close(s->p->stream);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(mains); i++)
        if (i == 0 || s->input || (mains[i] == size_main && s->tty && s->p->stays_open))
            rc = fiber_spawn(cli->loop, names[i], mains[i], s, &fibers[i]);
    if (rc == 0)
        (void)event_wait(&s->done, USEC_INFINITY);
    else
        (void)err_set(err, ERR_EXHAUSTED, "no fiber for it");
    (void)eventfd_write(s->quit, 1);
    for (size_t i = 0; i < ARRAY_LEN(mains); i++)
        fiber_cancel(fibers[i]);
    for (size_t i = 0; i < ARRAY_LEN(mains); i++) {
        if (!fibers[i])
            continue;
        (void)fiber_join(fibers[i], USEC_INFINITY);
        fibers[i] = fiber_unref(fibers[i]);
    }
    return rc;
}

static int attach(struct cli *cli, struct session *s, struct err *err)
{
    int rc = watch_signals(cli, s, err);
    if (rc == 0 && s->tty && s->input && isatty(STDIN_FILENO)) /* else nobody would read the ^C of a raw one */
        rc = terminal_raw(err);
    if (rc == 0)
        rc = run_fibers(cli, s, err);
    terminal_restore();
    unwatch_signals(cli);
    if (rc < 0)
        return rc;
    if (s->detached)
        return PROGRAM_DETACHED;
    if (s->stop)
        return err_set(err, ERR_CANCELLED, "interrupted");
    if (s->rc < 0)
        *err = s->err;
    return s->rc < 0 ? s->rc : s->exit_code;
}

static void session_init(struct session *s, struct cli *cli)
{
    s->quit = eventfd(0, EFD_CLOEXEC);
    BUG_ON(s->quit < 0);
    s->in = lane_new(cli->loop, "stdin", 1, 1);
    s->out = lane_new(cli->loop, "stdout", 1, 1);
    event_init(&s->done, cli->loop);
    event_init(&s->resized, cli->loop);
}

static void session_release(struct session *s)
{
    s->in = lane_free(s->in);
    s->out = lane_free(s->out);
    event_release(&s->done);
    event_release(&s->resized);
    (void)close(s->quit);
}

int program_run(struct cli *cli, const struct program *p, struct err *err)
{
    struct session *s = NEW(struct session);
    session_init(s, cli);
    s->p = p;
    s->tty = p->tty;
    s->input = p->input;
    int rc = attach(cli, s, err);
    session_release(s);
    free(s);
    return rc;
}
