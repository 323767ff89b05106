/* SPDX-License-Identifier: Apache-2.0 */
/* spawn — see spawn.h. */
#include "loop/spawn.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "loop/loop_internal.h"

/* Heap memory; it goes when libuv has let go of the last handle. */
struct spawn {
    struct loop *loop;
    uv_process_t process;
    uv_pipe_t output[2]; /* its standard output and error */
    struct event changed;
    char tail[SPAWN_TAIL_MAX];
    size_t tail_n;
    int64_t exit_status;
    int exit_signal;
    unsigned handles; /* not closed yet */
    bool exited;
};

static void on_closed(uv_handle_t *h)
{
    struct spawn *s = h->data;

    if (--s->handles == 0)
        free(s);
}

static struct spawn *let_go(struct spawn *s)
{
    event_release(&s->changed);
    uv_close((uv_handle_t *)&s->process, on_closed);
    for (size_t i = 0; i < ARRAY_LEN(s->output); i++)
        uv_close((uv_handle_t *)&s->output[i], on_closed);
    return NULL;
}

static void on_exit_status(uv_process_t *p, int64_t status, int signum)
{
    struct spawn *s = p->data;

    s->loop->activity++;
    s->exited = true;
    s->exit_status = status;
    s->exit_signal = signum;
    event_pulse(&s->changed);
}

static void keep_tail(struct spawn *s, struct str more)
{
    if (more.n >= SPAWN_TAIL_MAX) {
        more.p += more.n - SPAWN_TAIL_MAX;
        more.n = SPAWN_TAIL_MAX;
    }
    size_t keep = s->tail_n < SPAWN_TAIL_MAX - more.n ? s->tail_n : SPAWN_TAIL_MAX - more.n;
    memmove(s->tail, s->tail + s->tail_n - keep, keep);
    memcpy(s->tail + keep, more.p, more.n);
    s->tail_n = keep + more.n;
}

static void on_output(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct spawn *s = h->data;

    if (n < 0) {
        (void)uv_read_stop(h);
        return;
    }
    keep_tail(s, (struct str){b->base, (size_t)n});
    (void)fd_write_all(STDERR_FILENO, b->base, (size_t)n, NULL);
}

int spawn_start(struct loop *loop, const struct spawn_spec *spec, struct spawn **ret, struct err *err)
{
    if (!loop_is_program(spec->argv[0]))
        return err_sys(err, ENOEXEC, "cannot start %s", spec->argv[0]);
    struct spawn *s = NEW(struct spawn);
    uv_stdio_container_t stdio[3 + SPAWN_FDS_MAX] = {
        {.flags = UV_IGNORE}, /* /dev/null */
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&s->output[0]},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&s->output[1]},
    };
    uv_process_options_t options = {
        .exit_cb = on_exit_status,
        .file = spec->argv[0],
        .args = (char **)spec->argv, /* libuv does not write to them */
        .env = (char **)spec->env,
        .flags = UV_PROCESS_DETACHED,
        .stdio_count = 3 + (int)spec->n_fds,
        .stdio = stdio,
    };

    BUG_ON(spec->n_fds > SPAWN_FDS_MAX);
    for (size_t i = 0; i < spec->n_fds; i++)
        stdio[3 + i] = (uv_stdio_container_t){.flags = spec->fds[i] < 0 ? UV_IGNORE : UV_INHERIT_FD, .data.fd = spec->fds[i]};
    s->loop = loop;
    s->handles = 3;
    s->process.data = s;
    event_init(&s->changed, loop);
    for (size_t i = 0; i < ARRAY_LEN(s->output); i++) {
        BUG_ON(uv_pipe_init(&loop->uv, &s->output[i], 0) < 0);
        s->output[i].data = s;
    }
    int rc = uv_spawn(&loop->uv, &s->process, &options);
    if (rc < 0) {
        (void)let_go(s);
        return err_sys(err, -rc, "cannot start %s", spec->argv[0]);
    }
    for (size_t i = 0; i < ARRAY_LEN(s->output); i++)
        BUG_ON(uv_read_start((uv_stream_t *)&s->output[i], loop_lend_buf, on_output) < 0);
    *ret = s;
    return 0;
}

pid_t spawn_pid(const struct spawn *s)
{
    return s->process.pid;
}

bool spawn_ended(const struct spawn *s, int *ret_status)
{
    *ret_status = s->exit_signal ? 128 + s->exit_signal : (int)s->exit_status;
    return s->exited;
}

int spawn_wait(struct spawn *s, usec_t deadline)
{
    int rc = 0;

    while (rc == 0 && !s->exited)
        rc = event_wait(&s->changed, deadline);
    return rc;
}

struct str spawn_tail(const struct spawn *s)
{
    return (struct str){s->tail, s->tail_n};
}

struct spawn *spawn_kill(struct spawn *s)
{
    if (!s)
        return NULL;
    loop_end_group(s->process.pid, &s->exited);
    return let_go(s);
}

struct spawn *spawn_leave(struct spawn *s)
{
    return s ? let_go(s) : NULL;
}
