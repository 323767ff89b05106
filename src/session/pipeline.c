/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline — what runs for the agent: the stages in one process group, bytes in both directions, and the end.
 * Output: standard output of the last stage and the error output of all are pipes that are read only while the stream has room, so that a flood waits
 * in its own writers. When the stages have ended, what is in the pipes by then is still sent, and of what comes in DRAIN_WAIT as much as DRAIN_MAX;
 * then they are closed, whoever else holds them.
 * The end by force: TERM to the group, KILL after KILL_WAIT. Whether it is over is looked at in a task (on_check), never in what changed it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "loop/stream.h"
#include "session/session_internal.h"

#define V1(name)   Davit__Session__V1__##name
#define INPUT_WAIT (10 * USEC_SEC)
#define KILL_WAIT  (2 * USEC_SEC)
#define KILL_STEP  (20 * USEC_MSEC)
#define DRAIN_WAIT (200 * USEC_MSEC)
enum { SOURCES = 2, DRAIN_MAX = 128 * 1024 };

/* One output. */
struct source {
    struct pipeline *p;
    struct stream *s; /* NULL: it ended */
    int fd;
    size_t left, more; /* once the stages ended: what was in there then; what is taken beyond it */
    bool error_output;
};

struct stage {
    pid_t pid;
    bool ended, doomed;
    int status;
};

struct pipeline {
    struct list node;
    struct session *s;
    struct talk *talk; /* whom it answers; NULL: nobody any more */
    char id[SPEC_ID_MAX + 1];
    pid_t group;
    struct stage stages[SPEC_STAGES_MAX];
    size_t n, alive;
    struct drop_report *reports; /* shared with the children */
    struct stream *in;           /* NULL: closed */
    struct event in_room;
    struct source out[SOURCES];
    struct timer deadline, kill, drain;
    struct task check;
    usec_t kill_at, drain_at;
    bool killing, killed, draining; /* the whole group is being ended; was sent KILL; the stages have ended */
    bool print, exit_on_non_zero;
    V1(ErrorCode) failure; /* what it ends with, in place of Done */
    char why[128];
};

/* --- Force ------------------------------------------------------------------------------------------------------------------------ */

/* While a stage was not waited for, its group's number cannot be anybody else's; afterwards, as long as it has members. */
static bool group_gone(const struct pipeline *p)
{
    return p->alive == 0 && (p->group == 0 || (kill(-p->group, 0) < 0 && errno == ESRCH));
}

static void signal_group(const struct pipeline *p, int signo)
{
    if (!group_gone(p))
        (void)kill(-p->group, signo);
}

static void doom(struct pipeline *p)
{
    if (!timer_armed(&p->kill)) {
        p->kill_at = deadline_in(KILL_WAIT);
        timer_set(&p->kill, KILL_STEP);
    }
}

static void terminate(struct pipeline *p)
{
    if (p->killing)
        return;
    p->killing = true;
    p->killed = false;
    timer_stop(&p->kill);
    signal_group(p, SIGTERM);
    signal_group(p, SIGCONT); /* one that is stopped cannot obey */
    doom(p);
    loop_post(p->s->loop, &p->check);
}

static void on_kill(void *arg)
{
    struct pipeline *p = arg;

    loop_post(p->s->loop, &p->check);
    if (clock_mono() < p->kill_at) {
        timer_set(&p->kill, KILL_STEP);
        return;
    }
    p->killed = true;
    if (p->killing)
        signal_group(p, SIGKILL);
    for (size_t i = 0; i < p->n; i++)
        if (p->stages[i].doomed && !p->stages[i].ended)
            (void)kill(p->stages[i].pid, SIGKILL);
}

void pipeline_break(struct pipeline *p, V1(ErrorCode) code, const char *why)
{
    if (p->failure == DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_UNSPECIFIED) {
        p->failure = code;
        (void)str_copy(p->why, sizeof(p->why), str_from(why));
    }
    terminate(p);
}

static void on_deadline(void *arg)
{
    pipeline_break(arg, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_TIMEOUT, "it took longer than timeout_seconds");
}

int pipeline_signal(struct pipeline *p, int signo)
{
    if (signo < 1 || signo > SIGRTMAX)
        return -(int)ERR_INVALID;
    signal_group(p, signo);
    return 0;
}

/* --- Output ----------------------------------------------------------------------------------------------------------------------- */

static void close_source(struct source *src)
{
    src->s = stream_close(src->s);
    loop_post(src->p->s->loop, &src->p->check);
}

static void hold_all(const struct session *s, const struct talk *t)
{
    struct pipeline *p;

    list_each(p, &s->pipelines, struct pipeline, node)
        for (size_t i = 0; p->talk == t && i < SOURCES; i++)
            if (p->out[i].s)
                stream_read_stop(p->out[i].s);
}

static void on_output(void *arg, const void *bytes, size_t n)
{
    struct source *src = arg;
    struct pipeline *p = src->p;
    V1(Response) r = DAVIT__SESSION__V1__RESPONSE__INIT;
    V1(OutputChunk) chunk = DAVIT__SESSION__V1__OUTPUT_CHUNK__INIT;

    if (p->print)
        session_print(bytes, n);
    chunk.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)bytes};
    chunk.error_output = src->error_output;
    r.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_OUTPUT;
    r.output = &chunk;
    talk_send(p->talk, p->id, &r);
    /* Nobody may be there any more: sending can end the stream. */
    if (!src->s)
        return;
    size_t late = n > src->left ? n - src->left : 0;
    src->left -= n - late;
    src->more -= late < src->more ? late : src->more;
    if (p->draining && src->left == 0 && (src->more == 0 || clock_mono() >= p->drain_at))
        close_source(src);
    else if (!talk_has_room(p->talk))
        hold_all(p->s, p->talk);
}

static void on_output_eof(void *arg)
{
    close_source(arg);
}

static void on_output_error(void *arg, int rc)
{
    (void)rc;
    close_source(arg);
}

static const struct stream_handler source_handler = {on_output, on_output_eof, on_output_error, NULL};

void pipelines_resume(struct session *s, const struct talk *t)
{
    struct pipeline *p;

    list_each(p, &s->pipelines, struct pipeline, node)
        for (size_t i = 0; p->talk == t && i < SOURCES; i++)
            if (p->out[i].s)
                stream_read_start(p->out[i].s);
}

/* The stages have ended. What they wrote is in the pipes; what others who hold them still write is no part of the answer. */
static void begin_drain(struct pipeline *p)
{
    p->draining = true;
    p->drain_at = deadline_in(DRAIN_WAIT);
    timer_set_at(&p->drain, p->drain_at);
    for (size_t i = 0; i < SOURCES; i++) {
        int n = 0;
        p->out[i].more = DRAIN_MAX;
        if (p->out[i].s && ioctl(p->out[i].fd, FIONREAD, &n) == 0 && n > 0)
            p->out[i].left = (size_t)n;
    }
}

static void on_drained(void *arg)
{
    struct pipeline *p = arg;

    for (size_t i = 0; i < SOURCES; i++)
        if (p->out[i].s && p->out[i].left == 0)
            close_source(&p->out[i]);
}

/* --- Input ------------------------------------------------------------------------------------------------------------------------ */

static void close_in(struct pipeline *p)
{
    p->in = stream_close(p->in);
    event_signal(&p->in_room);
}

static void on_in_sent(void *arg)
{
    close_in(arg);
}

static void on_in_error(void *arg, int rc)
{
    (void)rc; /* a program need not read its input */
    close_in(arg);
}

static void on_in_room(void *arg)
{
    struct pipeline *p = arg;
    event_signal(&p->in_room);
}

static const struct stream_handler in_handler = {NULL, on_in_sent, on_in_error, on_in_room};

void pipeline_close_input(struct pipeline *p)
{
    if (p->in)
        stream_shutdown(p->in);
}

int pipeline_feed(struct session *s, struct talk *t, const char *id, struct str bytes)
{
    usec_t deadline = deadline_in(INPUT_WAIT);

    for (;;) {
        struct pipeline *p = pipeline_find(s, t, id);
        if (!p || fiber_cancelled())
            return -(int)ERR_CANCELLED;
        if (!p->in)
            return 1;
        if (stream_writable(p->in))
            return stream_write(p->in, bytes.p, bytes.n) == 0 ? 0 : 1;
        event_reset(&p->in_room);
        /* -ERR_CANCELLED: the pipeline went, or this fiber must; the next look tells. */
        if (event_wait(&p->in_room, deadline) == -(int)ERR_DEADLINE)
            return -(int)ERR_DEADLINE;
    }
}

/* --- The end ---------------------------------------------------------------------------------------------------------------------- */

static void pipeline_free(struct pipeline *p)
{
    list_remove(&p->node);
    if (--p->s->n_pipelines == 0 && !p->s->stopping)
        session_rests(p->s);
    timer_stop(&p->deadline);
    timer_stop(&p->kill);
    timer_stop(&p->drain);
    task_cancel(&p->check);
    p->in = stream_close(p->in);
    for (size_t i = 0; i < SOURCES; i++)
        p->out[i].s = stream_close(p->out[i].s);
    event_release(&p->in_room);
    if (p->reports)
        (void)munmap(p->reports, SPEC_STAGES_MAX * sizeof(*p->reports));
    free(p);
}

static int shell_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void answer(struct pipeline *p)
{
    V1(Response) r = DAVIT__SESSION__V1__RESPONSE__INIT;
    V1(Done) done = DAVIT__SESSION__V1__DONE__INIT;

    if (p->failure != DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_UNSPECIFIED) {
        talk_send_error(p->talk, p->id, p->failure, p->why);
        return;
    }
    done.final_exit_code = shell_code(p->stages[p->n - 1].status);
    r.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_DONE;
    r.done = &done;
    talk_send(p->talk, p->id, &r);
}

static void on_check(void *arg)
{
    struct pipeline *p = arg;

    if (p->alive > 0)
        return;
    timer_stop(&p->deadline);
    if (p->in)
        close_in(p);
    if (!p->draining)
        begin_drain(p);
    for (size_t i = 0; i < SOURCES; i++)
        if (p->out[i].s)
            return;
    if (p->killing && !p->killed && !group_gone(p))
        return;
    answer(p);
    pipeline_free(p);
}

static void send_exit(struct pipeline *p, size_t at)
{
    V1(Response) r = DAVIT__SESSION__V1__RESPONSE__INIT;
    V1(StageExit) e = DAVIT__SESSION__V1__STAGE_EXIT__INIT;
    int status = p->stages[at].status;

    e.stage_index = (uint32_t)at;
    e.exit_code = shell_code(status);
    e.signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    r.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_STAGE_EXIT;
    r.stage_exit = &e;
    talk_send(p->talk, p->id, &r);
}

/* It did not become its program. */
static void tell_report(struct pipeline *p, size_t at)
{
    const struct drop_report *r = &p->reports[at];
    bool not_found = !r->step && (r->sys == ENOENT || r->sys == ENOTDIR);
    char why[sizeof(p->why)];

    if (not_found)
        (void)snprintf(why, sizeof(why), "stage %zu: its program was not found", at);
    else
        (void)snprintf(why, sizeof(why), "stage %zu: %s: %s", at, r->step ? r->step : "cannot be executed", strerror(r->sys));
    pipeline_break(p, not_found ? DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_NOT_FOUND
                                : DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_SPAWN_FAILED, why);
}

static void stage_ended(struct pipeline *p, size_t at, int status)
{
    p->stages[at].ended = true;
    p->stages[at].status = status;
    p->alive--;
    send_exit(p, at);
    if (p->reports[at].sys)
        tell_report(p, at);
    else if (p->exit_on_non_zero && shell_code(status) != 0) {
        for (size_t i = at + 1; i < p->n; i++) {
            if (p->stages[i].ended || p->stages[i].doomed)
                continue;
            p->stages[i].doomed = true;
            (void)kill(p->stages[i].pid, SIGTERM);
            doom(p);
        }
    }
    loop_post(p->s->loop, &p->check);
}

void pipelines_reap(struct session *s)
{
    struct pipeline *p;
    int status;

    list_each(p, &s->pipelines, struct pipeline, node)
        for (size_t i = 0; i < p->n; i++)
            if (!p->stages[i].ended && waitpid(p->stages[i].pid, &status, WNOHANG) == p->stages[i].pid)
                stage_ended(p, i, status);
}

void pipelines_lost(struct session *s, const struct talk *t)
{
    struct pipeline *p;

    list_each(p, &s->pipelines, struct pipeline, node) {
        if (p->talk != t)
            continue;
        p->talk = NULL;
        for (size_t i = 0; i < SOURCES; i++)
            p->out[i].s = stream_close(p->out[i].s);
        close_in(p);
        terminate(p);
    }
}

void pipelines_free(struct session *s)
{
    struct pipeline *p;

    list_each(p, &s->pipelines, struct pipeline, node) {
        signal_group(p, SIGKILL);
        pipeline_free(p);
    }
}

struct pipeline *pipeline_find(struct session *s, const struct talk *t, const char *id)
{
    struct pipeline *p;

    list_each(p, &s->pipelines, struct pipeline, node)
        if (p->talk == t && strcmp(p->id, id) == 0)
            return p;
    return NULL;
}

/* --- The beginning ---------------------------------------------------------------------------------------------------------------- */

static struct pipeline *pipeline_new(struct session *s, struct talk *t, const char *id, const V1(ShellCommand) * cmd)
{
    struct pipeline *p = NEW(struct pipeline);

    p->s = s;
    p->talk = t;
    (void)str_copy(p->id, sizeof(p->id), str_from(id));
    p->print = cmd->print_output;
    p->exit_on_non_zero = cmd->exit_on_non_zero;
    event_init(&p->in_room, s->loop);
    timer_init(&p->deadline, s->loop, on_deadline, p);
    timer_init(&p->kill, s->loop, on_kill, p);
    timer_init(&p->drain, s->loop, on_drained, p);
    task_init(&p->check, on_check, p);
    for (size_t i = 0; i < SOURCES; i++)
        p->out[i] = (struct source){.p = p, .error_output = i == 1};
    list_init(&p->node);
    list_push(&s->pipelines, &p->node);
    s->n_pipelines++;
    return p;
}

/* Descriptors that the children get, while they are made; -1: none. */
struct ends {
    int in, out, err;
};

static void close_ends(struct ends *e)
{
    cleanup_fd(&e->in);
    cleanup_fd(&e->out);
    cleanup_fd(&e->err);
}

/* A pipe: our end as a stream, the other one in *ret. */
static int open_end(struct loop *loop, bool ours_reads, struct stream **ret_stream, int *ret_fd, int *ret, struct err *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    *ret = fds[ours_reads ? 1 : 0];
    *ret_fd = fds[ours_reads ? 0 : 1];
    int rc = stream_from_fd(loop, *ret_fd, ret_stream, err);
    if (rc < 0)
        (void)close(*ret_fd);
    return rc;
}

static int open_ends(struct pipeline *p, struct ends *e, struct err *err)
{
    int in;
    int rc = open_end(p->s->loop, false, &p->in, &in, &e->in, err);

    if (rc == 0)
        rc = open_end(p->s->loop, true, &p->out[0].s, &p->out[0].fd, &e->out, err);
    if (rc == 0)
        rc = open_end(p->s->loop, true, &p->out[1].s, &p->out[1].fd, &e->err, err);
    if (rc < 0)
        return rc;
    void *shared = mmap(NULL, SPEC_STAGES_MAX * sizeof(*p->reports), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return err_sys(err, errno, "no memory for a pipeline");
    p->reports = shared;
    stream_set_handler(p->in, &in_handler, p);
    for (size_t i = 0; i < SOURCES; i++)
        stream_set_handler(p->out[i].s, &source_handler, &p->out[i]);
    return 0;
}

/* Starts the stages, each with the output of the one before. On a failure those that were started are there. */
static int start_stages(struct pipeline *p, const V1(ShellCommand) * cmd, struct ends *e, struct err *err)
{
    for (size_t i = 0; i < cmd->n_stages; i++) {
        const V1(PipeStage) *stage = cmd->stages[i];
        char *argv[SPEC_WORDS_MAX + 1] = {NULL};
        struct account who;
        int between[2] = {-1, -1};

        if (i + 1 < cmd->n_stages && pipe2(between, O_CLOEXEC) < 0)
            return err_sys(err, errno, "cannot make a pipe");
        memcpy(argv, stage->argv, stage->n_argv * sizeof(*argv));
        stage_account(p->s, stage, &who);
        const struct stage_spec spec = {.who = &who, .argv = argv, .env = stage_environment(p->s, &who, stage), .cwd = stage->cwd, .in = e->in,
                                        .out = between[1] >= 0 ? between[1] : e->out, .err = e->err, .group = p->group};
        int pid = stage_start(&spec, &p->reports[i], err);
        cleanup_fd(&e->in);
        e->in = between[0];
        cleanup_fd(&between[1]);
        if (pid < 0)
            return pid;
        p->group = p->group ? p->group : pid;
        p->stages[p->n++].pid = pid;
        p->alive++;
    }
    return 0;
}

static void send_started(struct pipeline *p)
{
    V1(Response) r = DAVIT__SESSION__V1__RESPONSE__INIT;
    V1(Started) started = DAVIT__SESSION__V1__STARTED__INIT;
    int32_t pids[SPEC_STAGES_MAX];

    for (size_t i = 0; i < p->n; i++)
        pids[i] = p->stages[i].pid;
    started.n_pids = p->n;
    started.pids = pids;
    r.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_STARTED;
    r.started = &started;
    talk_send(p->talk, p->id, &r);
}

static void begin_io(struct pipeline *p, const V1(ShellCommand) * cmd)
{
    (void)stream_write(p->in, cmd->initial_stdin.data, cmd->initial_stdin.len);
    if (!cmd->keep_stdin)
        pipeline_close_input(p);
    if (talk_has_room(p->talk))
        pipelines_resume(p->s, p->talk);
}

int pipeline_start(struct session *s, struct talk *t, const char *id, const V1(ShellCommand) * cmd, V1(ErrorCode) * ret_code,
                   struct err *err)
{
    struct ends e = {-1, -1, -1};

    if (s->n_pipelines >= PIPELINES_MAX || s->stopping) {
        *ret_code = DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_BUSY;
        return err_set(err, ERR_EXHAUSTED, "%d pipelines run already", (int)PIPELINES_MAX);
    }
    struct pipeline *p = pipeline_new(s, t, id, cmd);
    int rc = open_ends(p, &e, err);
    if (rc == 0)
        rc = start_stages(p, cmd, &e, err);
    close_ends(&e);
    if (rc < 0 && p->n == 0) {
        *ret_code = DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_SPAWN_FAILED;
        pipeline_free(p);
        return rc;
    }
    send_started(p);
    if (p->talk != t) /* the answer could not be sent: the stream is over, and with it this */
        return 0;
    timer_set(&p->deadline, (cmd->timeout_seconds ? cmd->timeout_seconds : SPEC_TIMEOUT) * USEC_SEC);
    begin_io(p, cmd);
    if (rc < 0)
        pipeline_break(p, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_SPAWN_FAILED, err && err->msg[0] ? err->msg : "not all stages could be started");
    return 0;
}
