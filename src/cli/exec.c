/* SPDX-License-Identifier: Apache-2.0 */
/* exec — `davit exec`: a process in a container, as if it ran here: its input, its two outputs byte for byte, its terminal, its exit code.
 * Reading and writing here block, so each has a lane; the fibers that wait for them end before the verb does, and the terminal is as it was. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/names.h"
#include "cli/terminal.h"
#include "davit/control/v1/containers.davit.h"
#include "loop/lane.h"

enum { READ_SIZE = 32 * 1024, WRITE_SIZE = 4096 /* what a pipe takes whole */ };
#define FIRST_WAIT (30 * USEC_SEC)

struct exec_options {
    struct cli_common common;
    const char *project, *user, *workdir, *server, *container;
    struct opt_list env;
    bool tty, no_tty, interactive;
    int64_t replica;
};

#define AT(field) offsetof(struct exec_options, field)
static const struct opt exec_opts[] = {
    {.name = "tty", .letter = 't', .type = OPT_BOOL, .offset = AT(tty),
     .help = "give it a terminal; by itself where standard input and output are one"},
    {.name = "no-tty", .letter = 'T', .type = OPT_BOOL, .offset = AT(no_tty), .help = "give it none"},
    {.name = "interactive", .letter = 'i', .type = OPT_BOOL, .offset = AT(interactive),
     .help = "pass standard input on; by itself with a terminal"},
    {.name = "user", .letter = 'u', .type = OPT_STRING, .offset = AT(user), .arg = "USER", .help = "run as this user of the container"},
    {.name = "workdir", .letter = 'w', .type = OPT_STRING, .offset = AT(workdir), .arg = "DIR", .help = "folder to run it in"},
    {.name = "env", .letter = 'e', .type = OPT_LIST, .offset = AT(env), .arg = "NAME=VALUE",
     .help = "variable besides those of the container; NAME alone: as it is here"},
    {.name = "replica", .type = OPT_INT, .offset = AT(replica), .min = 0, .max = 999, .def = "0", .arg = "N",
     .help = "in this replica; 0: the first that runs"},
    {.name = "server", .type = OPT_STRING, .offset = AT(server), .arg = "NAME", .help = "with --container: on this server"},
    {.name = "container", .type = OPT_STRING, .offset = AT(container), .arg = "NAME", .operand = true,
     .help = "in this container instead of a service's, also one that Davit did not make"},
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .def = "default", .arg = "NAME", .help = "project", .env = true},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

struct session {
    struct rpc_stream *stream;
    bool tty, input;
    int quit;             /* readable at the end: whatever blocks gives up */
    struct lane *in, *out;
    struct event done, resized;
    bool stop;            /* a signal wants the end */
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
    char bytes[READ_SIZE];
    ssize_t n; /* 0: no more */
};

static int read_stdin(void *arg)
{
    struct reading *r = arg;
    r->n = 0;
    if (!ready(STDIN_FILENO, POLLIN, r->quit))
        return -(int)ERR_CANCELLED;
    do {
        r->n = read(STDIN_FILENO, r->bytes, sizeof(r->bytes));
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

static void input_main(void *arg)
{
    struct session *s = arg;
    struct reading *r = NEW(struct reading);
    r->quit = s->quit;
    for (bool more = true; more;) {
        Davit__Control__V1__ExecRequest q = DAVIT__CONTROL__V1__EXEC_REQUEST__INIT;
        if (lane_call(s->in, read_stdin, r, USEC_INFINITY) != 0)
            break;
        more = r->n > 0;
        q.input = (ProtobufCBinaryData){(size_t)r->n, (uint8_t *)r->bytes};
        q.input_ends = !more;
        if (rpc_stream_put(s->stream, &q.base, USEC_INFINITY, NULL) != 0)
            break;
    }
    free(r);
}

static void size_main(void *arg)
{
    struct session *s = arg;
    while (event_wait(&s->resized, USEC_INFINITY) == 0) {
        Davit__Control__V1__ExecRequest q = DAVIT__CONTROL__V1__EXEC_REQUEST__INIT;
        event_reset(&s->resized);
        if (terminal_size(&q.rows, &q.columns) && rpc_stream_put(s->stream, &q.base, USEC_INFINITY, NULL) != 0)
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
static int take(struct session *s, const Davit__Control__V1__ExecResponse *m, struct err *err)
{
    int rc = show(s, STDOUT_FILENO, m->output, err);
    if (rc == 0)
        rc = show(s, STDERR_FILENO, m->error_output, err);
    if (rc < 0 || !m->ended)
        return rc;
    s->exit_code = m->exit_code < 0 || m->exit_code > 255 ? 255 : m->exit_code; /* what a status of ours can be */
    return 1;
}

static void output_main(void *arg)
{
    struct session *s = arg;
    int rc = 0;
    while (rc == 0) {
        ProtobufCMessage *m = NULL;
        rc = rpc_stream_get(s->stream, USEC_INFINITY, &m, &s->err);
        if (rc == 1)
            rc = err_set(&s->err, ERR_UNAVAILABLE, "the control plane did not say how the process ended");
        else if (rc == 0)
            rc = take(s, (const Davit__Control__V1__ExecResponse *)m, &s->err);
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
    static const char *const names[] = {"exec-output", "exec-input", "exec-size"};
    struct fiber *fibers[ARRAY_LEN(mains)] = {NULL};
    int rc = 0;
    if (!s->input)
        rpc_stream_half_close(s->stream);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(mains); i++)
        if (i == 0 || s->input)
            rc = fiber_spawn(cli->loop, names[i], mains[i], s, &fibers[i]);
    if (rc == 0)
        (void)event_wait(&s->done, USEC_INFINITY);
    else
        (void)err_set(err, ERR_EXHAUSTED, "no fiber for it");
    (void)eventfd_write(s->quit, 1);
    for (size_t i = 0; i < ARRAY_LEN(mains); i++)
        fiber_cancel(fibers[i]);
    for (size_t i = 0; i < ARRAY_LEN(mains) && fibers[i]; i++) {
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
    s->stream = rpc_stream_close(s->stream);
    s->in = lane_free(s->in);
    s->out = lane_free(s->out);
    event_release(&s->done);
    event_release(&s->resized);
    (void)close(s->quit);
}

/* --- What is asked for ---- */

struct request {
    Davit__Control__V1__ExecStart start;
    Davit__Control__V1__ContainerRef target;
    struct service_name name;
    Davit__Common__V1__EnvVar vars[OPT_LIST_MAX], *var_ptrs[OPT_LIST_MAX];
    char *names[OPT_LIST_MAX];
};

static int read_env(const struct exec_options *o, struct request *r, struct err *err)
{
    for (size_t i = 0; i < o->env.n; i++) {
        struct str value = str_from(o->env.v[i]), name = str_cut(&value, '=');
        const char *eq = strchr(o->env.v[i], '=');
        if (!name.n)
            return err_set(err, ERR_INVALID, "--env: \"%.64s\" has no name", o->env.v[i]);
        davit__common__v1__env_var__init(&r->vars[i]);
        r->names[i] = str_dup(name);
        const char *here = eq ? eq + 1 : getenv(r->names[i]);
        r->vars[i].name = r->names[i];
        r->vars[i].value = (char *)(uintptr_t)(here ? here : "");
        r->var_ptrs[i] = &r->vars[i];
    }
    r->start.env = r->var_ptrs;
    r->start.n_env = o->env.n;
    return 0;
}

static int read_target(const struct exec_options *o, const char **operands, size_t n, struct request *r, struct err *err)
{
    size_t first = o->container ? 0 : 1;
    if (o->server && !o->container)
        return err_set(err, ERR_INVALID, "--server: goes with --container");
    if (n <= first) {
        (void)err_set(err, ERR_INVALID, "what shall run there is missing");
        err_hint(err, "for example: davit exec web -- sh");
        return -(int)ERR_INVALID;
    }
    if (!o->container) {
        int rc = service_name_parse(operands[0], o->project, &r->name, err);
        if (rc < 0)
            return rc;
        r->target.project = r->name.project;
        r->target.service = r->name.service;
        r->target.replica = (uint32_t)o->replica;
    } else {
        r->target.container = (char *)(uintptr_t)o->container;
        if (o->server)
            r->target.server = (char *)(uintptr_t)o->server;
    }
    r->start.command = (char **)(uintptr_t)(operands + first);
    r->start.n_command = n - first;
    return 0;
}

static int fill(const struct exec_options *o, const char **operands, size_t n, struct request *r, struct err *err)
{
    bool both = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    davit__control__v1__exec_start__init(&r->start);
    davit__control__v1__container_ref__init(&r->target);
    int rc = read_target(o, operands, n, r, err);
    if (rc == 0)
        rc = read_env(o, r, err);
    if (rc < 0)
        return rc;
    if (o->user)
        r->start.user = (char *)(uintptr_t)o->user;
    if (o->workdir)
        r->start.working_dir = (char *)(uintptr_t)o->workdir;
    r->start.tty = !o->no_tty && (o->tty || both);
    r->start.stdin = o->interactive || (both && !o->no_tty);
    r->start.target = &r->target;
    if (r->start.tty)
        (void)terminal_size(&r->start.rows, &r->start.columns);
    return 0;
}

static int begin(struct cli *cli, struct session *s, struct request *r, struct err *err)
{
    Davit__Control__V1__ExecRequest q = DAVIT__CONTROL__V1__EXEC_REQUEST__INIT;
    q.start = &r->start;
    int rc = cli_connect(cli, err);
    if (rc == 0)
        rc = rpc_stream_open(cli->channel, &davit_control_v1_exec_service, "Exec", USEC_INFINITY, &s->stream, err);
    return rc == 0 ? rpc_stream_put(s->stream, &q.base, deadline_in(FIRST_WAIT), err) : rc;
}

static int run_exec(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    struct request *r = NEW(struct request);
    struct session *s = NEW(struct session);
    int rc = fill(options, operands, n, r, err);
    session_init(s, cli);
    s->tty = r->start.tty;
    s->input = r->start.stdin;
    if (rc == 0)
        rc = begin(cli, s, r, err);
    if (rc == 0)
        rc = attach(cli, s, err);
    session_release(s);
    for (size_t i = 0; i < OPT_LIST_MAX; i++)
        free(r->names[i]);
    free(s);
    free(r);
    return rc;
}

const struct verb verb_exec = {
    .name = "exec",
    .group = "Services",
    .usage = "[OPTIONS] [PROJECT/]SERVICE -- COMMAND...",
    .about = "run a command in a container of a service",
    .example = "davit exec web -- sh\ndavit exec -i db -- psql -U app < dump.sql\ndavit exec --server nas --container plex -- ls /config",
    .opts = exec_opts,
    .opts_size = sizeof(struct exec_options),
    .min_operands = 1,
    .max_operands = CLI_OPERANDS_MAX,
    .command = 2,
    .run = run_exec,
};
