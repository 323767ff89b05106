/* SPDX-License-Identifier: Apache-2.0 */
/* child — starting a program, collecting its output, and making sure that its process group ends in time. */
#include "loop/child.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>

#include "loop/loop_internal.h"

#define KILL_GRACE (2 * USEC_SEC)      /* from TERM to KILL */
#define KILL_PATIENCE (1 * USEC_SEC)   /* from KILL to giving up on corpses that nobody reaps */
#define KILL_STEP (10 * USEC_MSEC)
#define OUTPUT_GRACE (1 * USEC_SEC)    /* for output after the program ended: something it left behind holds the pipe */

/* One of the program's outputs. */
struct sink {
    uv_pipe_t pipe;
    struct buf *buf;
    bool ended;
};

/* Heap memory; it goes when libuv has let go of the last handle. */
struct child {
    struct loop *loop;
    uv_process_t process;
    uv_pipe_t input;
    uv_write_t input_req;
    struct sink out, err;
    struct child_result result;
    struct event changed;
    int64_t exit_status;
    int exit_signal;
    unsigned handles; /* not closed yet */
    bool exited;
};

static const char *const plain_env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};

static void on_closed(uv_handle_t *h)
{
    struct child *c = h->data;

    if (--c->handles > 0)
        return;
    child_result_release(&c->result);
    free(c);
}

static void close_handle(uv_handle_t *h)
{
    if (!uv_is_closing(h))
        uv_close(h, on_closed);
}

/* Ends all handles; @c may be gone at the next turn. */
static void child_close(struct child *c)
{
    event_release(&c->changed);
    close_handle((uv_handle_t *)&c->process);
    close_handle((uv_handle_t *)&c->input);
    close_handle((uv_handle_t *)&c->out.pipe);
    close_handle((uv_handle_t *)&c->err.pipe);
}

static void on_exit_status(uv_process_t *p, int64_t status, int signum)
{
    struct child *c = p->data;

    c->loop->activity++;
    c->exited = true;
    c->exit_status = status;
    c->exit_signal = signum;
    event_pulse(&c->changed);
}

static void on_output(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct child *c = h->data;
    struct sink *s = CONTAINER_OF(h, struct sink, pipe);
    size_t room = s->buf->max - s->buf->len, keep;

    if (n < 0) {
        (void)uv_read_stop(h);
        s->ended = true;
        event_pulse(&c->changed);
        return;
    }
    keep = (size_t)n < room ? (size_t)n : room;
    if (keep > 0 && buf_append(s->buf, b->base, keep) < 0)
        keep = 0;
    if (keep < (size_t)n)
        c->result.truncated = true;
}

static void on_input_written(uv_write_t *req, int status)
{
    (void)status; /* a program need not read its input */
    close_handle((uv_handle_t *)req->handle);
}

static struct child *child_new(struct loop *loop, size_t output_max)
{
    struct child *c = NEW(struct child);

    c->loop = loop;
    buf_init(&c->result.out, output_max);
    buf_init(&c->result.err, output_max);
    c->out.buf = &c->result.out;
    c->err.buf = &c->result.err;
    event_init(&c->changed, loop);
    BUG_ON(uv_pipe_init(&loop->uv, &c->input, 0) < 0);
    BUG_ON(uv_pipe_init(&loop->uv, &c->out.pipe, 0) < 0);
    BUG_ON(uv_pipe_init(&loop->uv, &c->err.pipe, 0) < 0);
    c->process.data = c->input.data = c->out.pipe.data = c->err.pipe.data = c;
    c->handles = 4;
    return c;
}

static int child_start(struct child *c, const struct child_spec *spec)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE}, /* /dev/null */
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->out.pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->err.pipe},
    };
    /* libuv takes both arrays without const and does not write to them. */
    uv_process_options_t options = {
        .exit_cb = on_exit_status,
        .file = spec->argv[0],
        .args = (char **)spec->argv,
        .env = (char **)(spec->env ? spec->env : plain_env),
        .cwd = spec->dir,
        .flags = UV_PROCESS_DETACHED, /* a session and group of its own */
        .stdio_count = 3,
        .stdio = stdio,
    };
    uv_buf_t in = uv_buf_init((char *)spec->input.p, (unsigned)spec->input.n);
    int rc;

    if (spec->input.n > 0) {
        stdio[0].flags = UV_CREATE_PIPE | UV_READABLE_PIPE;
        stdio[0].data.stream = (uv_stream_t *)&c->input;
    }
    rc = uv_spawn(&c->loop->uv, &c->process, &options);
    if (rc < 0)
        return rc;
    BUG_ON(uv_read_start((uv_stream_t *)&c->out.pipe, loop_lend_buf, on_output) < 0);
    BUG_ON(uv_read_start((uv_stream_t *)&c->err.pipe, loop_lend_buf, on_output) < 0);
    if (spec->input.n == 0 || uv_write(&c->input_req, (uv_stream_t *)&c->input, &in, 1, on_input_written) < 0)
        close_handle((uv_handle_t *)&c->input);
    return 0;
}

static bool finished(const struct child *c)
{
    return c->exited && c->out.ended && c->err.ended;
}

/* 0 when it ended, else why the wait ended first. */
static int child_wait(struct child *c, usec_t deadline)
{
    usec_t until = deadline;

    while (!finished(c)) {
        int rc;

        if (c->exited && until == deadline && deadline_in(OUTPUT_GRACE) < deadline)
            until = deadline_in(OUTPUT_GRACE);
        rc = event_wait(&c->changed, until);
        if (rc == -ERR_DEADLINE && c->exited)
            return 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The group outlives its leader while it has members, and its number cannot be given anew until then. */
static bool group_gone(pid_t group, const bool *leader_ended)
{
    return *leader_ended && kill(-group, 0) < 0 && errno == ESRCH;
}

void loop_end_group(pid_t group, const bool *leader_ended)
{
    usec_t term_until = deadline_in(KILL_GRACE), kill_until = clock_add(term_until, KILL_PATIENCE);
    bool killed = false;

    fiber_shield();
    (void)kill(-group, SIGTERM);
    while (!group_gone(group, leader_ended) && clock_mono() < kill_until) {
        if (!killed && clock_mono() >= term_until) {
            (void)kill(-group, SIGKILL);
            killed = true;
        }
        BUG_ON(fiber_sleep(KILL_STEP) < 0);
    }
    fiber_unshield();
}

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#endif

bool loop_is_program(const char *path)
{
    unsigned char head[offsetof(Elf64_Ehdr, e_machine) + 2] = {0};
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return true;
    ssize_t n = pread(fd, head, sizeof(head), 0);
    if (n >= 2 && head[0] == '#' && head[1] == '!')
        return true;
    return n == (ssize_t)sizeof(head) && memcmp(head, ELFMAG, SELFMAG) == 0 && head[EI_DATA] == ELFDATA2LSB &&
           (head[sizeof(head) - 2] | head[sizeof(head) - 1] << 8) == MACHINE;
}

int child_run(struct loop *loop, const struct child_spec *spec, usec_t deadline, struct child_result *ret, struct err *err)
{
    struct child *c;
    const char *program = spec->argv[0];
    int rc;

    if (fiber_cancelled())
        return err_set(err, ERR_CANCELLED, "%s was not started", program);
    if (program[0] != '/')
        return err_set(err, ERR_INVALID, "%s is not an absolute path", program);
    if (!loop_is_program(program))
        return err_sys(err, ENOEXEC, "cannot start %s", program);
    c = child_new(loop, spec->output_max);
    rc = child_start(c, spec);
    if (rc < 0) {
        child_close(c);
        return err_sys(err, -rc, "cannot start %s", program);
    }
    rc = child_wait(c, deadline);
    if (rc < 0) {
        loop_end_group(c->process.pid, &c->exited);
        child_close(c);
        return err_set(err, (enum err_code)-rc, "%s %s", program, rc == -ERR_DEADLINE ? "took too long" : "was cancelled");
    }
    *ret = c->result;
    ret->exit_status = c->exit_signal ? 128 + c->exit_signal : (int)c->exit_status;
    buf_init(&c->result.out, 0);
    buf_init(&c->result.err, 0);
    child_close(c);
    return 0;
}

void child_result_release(struct child_result *r)
{
    buf_release(&r->out);
    buf_release(&r->err);
}
