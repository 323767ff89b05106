/* SPDX-License-Identifier: Apache-2.0 */
/* exec — a call that runs a process in a container: its output under the credit of the call, its input until the half-close (which a terminal is
 * told as ^D), the size of its terminal, its exit code after the last of its output. The engine has no way to end such a process: when the call is
 * given up, its process gets SIGHUP (with a terminal) or SIGTERM, and SIGKILL after EXEC_GRACE, where the agent may send it signals; else it goes
 * on without input and output.
 * Input trust: the call's texts go to the engine as they are, after the owner's policy. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "host/link/policy.h"
#include "host/work/calls.h"
#include "host/work/files.h"
#include "rpc/rpc.h"

enum { EXEC_READ = 32 * 1024, EXEC_HELD_MAX = 4096, EXEC_RESIZE_TRIES = 8 };
#define EXEC_GRACE    (3 * USEC_SEC)
#define EXEC_SIZING   (5 * USEC_SEC) /* so long what is typed waits for the size of the terminal */
#define EXEC_EOF_MIN  (100 * USEC_MSEC)
#define EXEC_EOF_MAX  (5 * USEC_SEC)
#define EXEC_POLL_MIN (5 * USEC_MSEC)
#define EXEC_POLL_MAX (500 * USEC_MSEC)

/* Shared by the fibers of one process; the last one frees it. */
struct exec {
    unsigned refs;
    struct work *w;
    struct call *c; /* theirs only while they are not cancelled */
    bool tty, reads, over, sizing; /* reads: it has an input */
    struct event sized; /* the terminal has its first size, or will not have it */
    char container[DOCKER_ID_SIZE], id[DOCKER_ID_SIZE];
    unsigned rows, columns;
    struct conn *conn;
    struct docker_demux demux;
    struct buf held;      /* the first output, while it may be the engine's own words */
    bool begun;
    int pidfd;            /* of the process, -1: not known */
    struct worker *input, *attend;
};

static void close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

static void exec_unref(struct exec *x)
{
    if (--x->refs)
        return;
    (void)conn_close(x->conn);
    close_fd(x->pidfd);
    buf_release(&x->held);
    event_release(&x->sized);
    free(x);
}

/* --- Which process it is ---- */

/* Is process @pid, as we see it, one of the container? The engine may count in another namespace than we do. */
static bool is_in(pid_t pid, const char *container)
{
    char path[48], text[4096];
    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close_fd(fd);
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, container) != NULL;
}

/* Waits: a descriptor of the process of @id, or -1. */
static int open_process(struct work *w, const char *id, const char *container)
{
    struct docker_exec_state st = {0};
    if (docker_exec_state(w->docker, id, &st, deadline_in(ENGINE_CALL), NULL) < 0 || !st.running || st.pid <= 1)
        return -1;
    int fd = pidfd_open(st.pid, 0);
    if (fd >= 0 && !is_in(st.pid, container)) {
        close_fd(fd);
        fd = -1;
    }
    return fd;
}

/* --- The end of one that was given up ---- */

struct kill {
    struct work *w;
    int pidfd, gentle;
    char container[DOCKER_ID_SIZE], id[DOCKER_ID_SIZE];
};

static void kill_main(void *arg)
{
    struct kill *k = arg;
    if (k->pidfd < 0)
        k->pidfd = open_process(k->w, k->id, k->container);
    if (k->pidfd >= 0) {
        (void)pidfd_send_signal(k->pidfd, k->gentle, NULL, 0);
        (void)fiber_sleep(EXEC_GRACE); /* cut short when the agent ends */
        (void)pidfd_send_signal(k->pidfd, SIGKILL, NULL, 0);
    }
    close_fd(k->pidfd);
    free(k);
}

static void end_process(struct exec *x)
{
    struct kill *k = NEW(struct kill);
    k->w = x->w;
    k->pidfd = x->pidfd;
    k->gentle = x->tty ? SIGHUP : SIGTERM;
    (void)str_copy(k->container, sizeof(k->container), str_from(x->container));
    (void)str_copy(k->id, sizeof(k->id), str_from(x->id));
    x->pidfd = -1;
    if (work_spawn(x->w, "exec-kill", kill_main, k))
        return;
    if (k->pidfd >= 0)
        (void)pidfd_send_signal(k->pidfd, SIGKILL, NULL, 0);
    close_fd(k->pidfd);
    free(k);
}

/* --- Beside the output ---- */

/* A terminal's end of input is typed: with one the engine takes a half-close as the end of the output, too. Typed again and again, for each ends
 * one read only, and none if it comes before the program has set up its terminal, or behind half a line. */
static void end_terminal(struct exec *x)
{
    static const char eof = 4; /* ^D */
    for (usec_t pause = EXEC_EOF_MIN; !fiber_cancelled(); pause = pause * 2 < EXEC_EOF_MAX ? pause * 2 : EXEC_EOF_MAX)
        if (conn_write_wait(x->conn, &eof, 1, USEC_INFINITY, NULL) < 0 || fiber_sleep(pause) < 0)
            return;
}

static void input_main(void *arg)
{
    struct exec *x = arg;
    struct str bytes;
    int rc = 0;
    /* What was typed before must not be read by a program whose terminal has no size yet. */
    if (x->sizing)
        (void)event_wait(&x->sized, deadline_in(EXEC_SIZING));
    while (rc == 0 && !fiber_cancelled()) {
        rc = call_input(x->c, &bytes, USEC_INFINITY);
        if (rc == 0)
            rc = conn_write_wait(x->conn, bytes.p, bytes.n, USEC_INFINITY, NULL);
    }
    if (rc == 1 && x->tty && x->reads)
        end_terminal(x);
    else if (rc == 1 && !x->tty)
        conn_shutdown(x->conn);
    x->input = NULL;
    exec_unref(x);
}

/* The engine knows the terminal a moment after it has answered. */
static void resize(struct exec *x)
{
    usec_t pause = 10 * USEC_MSEC;
    for (unsigned i = 0; i < EXEC_RESIZE_TRIES; i++, pause *= 2)
        if (docker_exec_resize(x->w->docker, x->id, x->rows, x->columns, deadline_in(ENGINE_CALL), NULL) == 0 || fiber_sleep(pause) < 0)
            return;
}

static void attend_main(void *arg)
{
    struct exec *x = arg;
    if (x->sizing)
        resize(x);
    x->sizing = false;
    event_signal(&x->sized);
    int fd = fiber_cancelled() ? -1 : open_process(x->w, x->id, x->container);
    if (x->pidfd < 0)
        x->pidfd = fd;
    else
        close_fd(fd);
    while (x->tty && !fiber_cancelled()) {
        unsigned rows, columns;
        call_size(x->c, &rows, &columns);
        if (rows && columns && (rows != x->rows || columns != x->columns)) {
            x->rows = rows;
            x->columns = columns;
            resize(x);
        } else if (event_wait(call_resized(x->c), USEC_INFINITY) < 0) {
            break;
        }
    }
    x->attend = NULL;
    exec_unref(x);
}

static int spawn_helpers(struct exec *x, struct err *err)
{
    x->refs++;
    x->attend = work_spawn(x->w, "exec-attend", attend_main, x);
    if (x->attend) {
        x->refs++;
        x->input = work_spawn(x->w, "exec-input", input_main, x);
    }
    if (x->input)
        return 0;
    exec_unref(x);
    return err_set(err, ERR_EXHAUSTED, "too much runs at once on this server");
}

/* Without waiting: they may not look at the call any more. */
static void leave_helpers(struct exec *x)
{
    if (x->input)
        fiber_cancel(x->input->fiber);
    if (x->attend)
        fiber_cancel(x->attend->fiber);
}

/* --- Output ---- */

static int flush_held(struct exec *x, unsigned output)
{
    int rc = call_send(x->c, output, buf_str(&x->held));
    buf_release(&x->held);
    return rc;
}

/* A command that could not be started is told by the engine on stdout. */
static bool sounds_of_engine(struct str text)
{
    static const char *const begins[] = {"OCI runtime exec failed", "unable to find user", "unable to find group"};
    for (size_t i = 0; i < ARRAY_LEN(begins); i++)
        if (str_starts(text, str_from(begins[i])))
            return true;
    return false;
}

static int pass(struct exec *x, unsigned output, struct str bytes)
{
    bool first = !x->begun;
    x->begun = true;
    if ((first && output == 1 && sounds_of_engine(bytes)) || x->held.len) {
        if (buf_append_str(&x->held, bytes) == 0)
            return 0;
        int rc = flush_held(x, 1);
        if (rc < 0)
            return rc;
    }
    return call_send(x->c, output, bytes);
}

static int pass_frames(struct exec *x, struct str bytes, struct err *err)
{
    struct str piece;
    int stream = 0, rc;
    bool end;
    while ((rc = docker_demux_next(&x->demux, &bytes, &stream, &piece, &end, err)) == 1) {
        rc = pass(x, stream == 1 ? 1 : 2, piece);
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int pass_output(struct exec *x, struct err *err)
{
    AUTO_FREE char *bytes = mem_alloc(EXEC_READ);
    for (;;) {
        size_t n = 0;
        int rc = conn_read(x->conn, bytes, EXEC_READ, USEC_INFINITY, &n, err);
        if (rc < 0 || n == 0)
            return rc;
        rc = x->tty ? pass(x, 1, (struct str){bytes, n}) : pass_frames(x, (struct str){bytes, n}, err);
        if (rc < 0)
            return rc;
    }
}

/* A process may go on after it has closed its output. */
static int wait_exit(struct exec *x, int *ret, struct err *err)
{
    struct docker_exec_state st = {0};
    for (usec_t pause = EXEC_POLL_MIN;; pause = pause * 2 < EXEC_POLL_MAX ? pause * 2 : EXEC_POLL_MAX) {
        int rc = docker_exec_state(x->w->docker, x->id, &st, deadline_in(ENGINE_CALL), err);
        if (rc < 0)
            return rc;
        if (!st.running)
            break;
        rc = fiber_sleep(pause);
        if (rc < 0)
            return rc;
    }
    x->over = true;
    *ret = st.exit_code;
    return x->held.len ? flush_held(x, st.exit_code == 126 || st.exit_code == 127 ? 2 : 1) : 0;
}

/* --- The call ---- */

static int check(const Davit__Link__V1__ExecCall *q, struct err *err)
{
    if (!q->n_command || !*q->command[0])
        return err_set(err, ERR_INVALID, "command: there is none");
    for (size_t i = 0; i < q->n_env; i++)
        if (!*q->env[i]->name || strchr(q->env[i]->name, '='))
            return err_set(err, ERR_INVALID, "env: \"%.64s\" is no name of a variable", q->env[i]->name);
    return 0;
}

/* Of a sandbox: its PID 1 is root, and its program runs as somebody else. The engine resolves names. NULL: whom the engine takes. */
static char *user_of_sandbox(const struct docker_container *c)
{
    static const char *const names[] = {"DAVIT_USER=", "DAVIT_IMAGE_USER="};
    const char *purpose = docker_map_get(&c->labels, "davit.purpose");
    if (!purpose || strcmp(purpose, "sandbox") != 0)
        return NULL;
    for (size_t k = 0; k < ARRAY_LEN(names); k++)
        for (size_t i = 0, n = strlen(names[k]); i < c->n_env; i++)
            if (strncmp(c->env[i], names[k], n) == 0 && c->env[i][n])
                return str_dup(str_from(c->env[i] + n));
    return NULL;
}

/* The caller frees *ret_user. */
static int look_up(struct exec *x, const char *name, char **ret_user, const char **reason, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(x->w->docker, name, &c, deadline_in(ENGINE_CALL), err);
    if (rc == 0 && files_is_ours(&c)) /* it has the engine's socket or keys, past every policy */
        rc = err_set(err, ERR_DENIED, "%s is a part of Davit: no commands are run in it", c.name);
    const char *purpose = rc == 0 ? docker_map_get(&c.labels, LABEL_PURPOSE) : NULL;
    if (rc == 0 && !(purpose && strcmp(purpose, "sandbox") == 0))
        rc = work_check_role(x->w, err);
    if (rc == 0 && c.state != DOCKER_STATE_RUNNING) {
        rc = err_set(err, ERR_PRECONDITION, "container \"%.80s\" does not run", *c.name ? c.name : name);
        AUTO_FREE char *service = containers_service(x->w, &c);
        err_hint(err, "davit %s %.200s", service ? "start" : "container start", service ? service : name);
        *reason = "not_running";
    }
    if (rc == 0) {
        (void)str_copy(x->container, sizeof(x->container), str_from(c.id));
        *ret_user = user_of_sandbox(&c);
    }
    docker_container_release(&c);
    return rc;
}

static int start(struct exec *x, const Davit__Link__V1__ExecCall *q, const char *user, struct err *err)
{
    struct docker_pair *env = mem_zalloc(q->n_env + 1, sizeof(*env));
    for (size_t i = 0; i < q->n_env; i++)
        env[i] = (struct docker_pair){q->env[i]->name, q->env[i]->value};
    const struct docker_exec_spec spec = {.command = (const char *const *)q->command,
                                          .n_command = q->n_command,
                                          .env = env,
                                          .n_env = q->n_env,
                                          .user = *q->user ? q->user : user,
                                          .working_dir = *q->working_dir ? q->working_dir : NULL,
                                          .tty = q->tty,
                                          .stdin_open = q->stdin};
    int rc = docker_exec_start(x->w->docker, x->container, &spec, x->id, &x->conn, deadline_in(ENGINE_CALL), err);
    free(env);
    return rc;
}

static int run(struct exec *x, const Davit__Link__V1__ExecCall *q, int *ret, const char **reason, struct err *err)
{
    const struct policy_ask ask = {.exec = true};
    AUTO_FREE char *user = NULL;
    int rc = policy_check(x->w->policy, &ask, reason, err);
    if (rc == 0)
        rc = check(q, err);
    if (rc == 0)
        rc = look_up(x, q->container_id, &user, reason, err);
    if (rc == 0)
        rc = start(x, q, user, err);
    if (rc == 0)
        rc = spawn_helpers(x, err);
    if (rc == 0)
        rc = pass_output(x, err);
    return rc == 0 ? wait_exit(x, ret, err) : rc;
}

int call_exec(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    const Davit__Link__V1__ExecCall *q = call_open_message(c)->exec;
    Davit__Link__V1__ExecEnd result = DAVIT__LINK__V1__EXEC_END__INIT;
    ProtobufCMessage *copy = NULL;
    struct exec *x = NEW(struct exec);
    int code = 0;
    *x = (struct exec){.refs = 1, .w = call_work(c), .c = c, .tty = q->tty, .reads = q->stdin, .rows = q->rows, .columns = q->columns, .pidfd = -1,
                       .sizing = q->tty && q->rows && q->columns, .held = BUF_INIT(EXEC_HELD_MAX)};
    event_init(&x->sized, x->w->loop);
    int rc = run(x, q, &code, reason, err);
    leave_helpers(x);
    if (*x->id && !x->over)
        end_process(x);
    exec_unref(x);
    result.exit_code = code;
    if (rc == 0 && rpc_copy(&result.base, &copy) == 0) {
        end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_EXEC;
        end->exec = (Davit__Link__V1__ExecEnd *)copy;
    }
    return rc;
}
