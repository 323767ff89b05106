/* SPDX-License-Identifier: Apache-2.0 */
/* attach — a call that has the terminal of a sandbox's main program, or its input and output. Its end ends nothing in the sandbox: whoever comes next
 * has it again. The end of the main program is told with its exit code, after the last of its output. */
#include "host/contain/contain_internal.h"

#include <string.h>

#include "host/link/policy.h"

enum { PIECE = 32 * 1024, RESIZE_TRIES = 6 };
#define RESIZE_PAUSE (20 * USEC_MSEC)
#define EXIT_WAIT    (2 * USEC_MINUTE)

/* Shared by the fibers of one call; the last one frees it. */
struct attach {
    unsigned refs;
    struct call *c; /* theirs only while they are not cancelled */
    struct work *w;
    struct conn *conn;
    struct docker_demux demux;
    char container[DOCKER_ID_SIZE];
    bool tty;
    struct worker *input, *sizes;
};

static void attach_unref(struct attach *x)
{
    if (--x->refs)
        return;
    (void)conn_close(x->conn);
    free(x);
}

static void input_main(void *arg)
{
    struct attach *x = arg;
    struct str bytes;
    int rc = 0;

    while (rc == 0 && !fiber_cancelled()) {
        rc = call_input(x->c, &bytes, USEC_INFINITY);
        if (rc == 0)
            rc = conn_write_wait(x->conn, bytes.p, bytes.n, USEC_INFINITY, NULL);
    }
    if (rc == 1 && !x->tty)
        conn_shutdown(x->conn);
    x->input = NULL;
    attach_unref(x);
}

/* What stood on the terminal before, a prompt above all, is not in any log: a size that changes makes the program draw it again. */
static void repaint(const struct attach *x, const Davit__Link__V1__SandboxAttachCall *q)
{
    (void)docker_container_resize(x->w->docker, x->container, q->rows + 1, q->columns, deadline_in(ENGINE_CALL), NULL);
    (void)docker_container_resize(x->w->docker, x->container, q->rows, q->columns, deadline_in(ENGINE_CALL), NULL);
}

/* The engine knows the terminal a moment after it has answered. */
static void resize(const struct attach *x, unsigned rows, unsigned columns)
{
    for (unsigned i = 0; i < RESIZE_TRIES; i++)
        if (docker_container_resize(x->w->docker, x->container, rows, columns, deadline_in(ENGINE_CALL), NULL) == 0 ||
            fiber_sleep(RESIZE_PAUSE << i) < 0)
            return;
}

static void sizes_main(void *arg)
{
    struct attach *x = arg;
    unsigned rows = 0, columns = 0, r, c;

    while (x->tty && !fiber_cancelled()) {
        call_size(x->c, &r, &c);
        if (r && c && (r != rows || c != columns)) {
            rows = r;
            columns = c;
            resize(x, r, c);
        } else if (event_wait(call_resized(x->c), USEC_INFINITY) < 0) {
            break;
        }
    }
    x->sizes = NULL;
    attach_unref(x);
}

static int helpers(struct attach *x, bool input, struct err *err)
{
    x->refs++;
    x->sizes = work_spawn(x->w, "attach-size", sizes_main, x);
    if (!x->sizes) {
        x->refs--;
        return err_set(err, ERR_EXHAUSTED, "too much runs at once on this server");
    }
    if (!input)
        return 0;
    x->refs++;
    x->input = work_spawn(x->w, "attach-input", input_main, x);
    if (!x->input)
        x->refs--;
    return x->input ? 0 : err_set(err, ERR_EXHAUSTED, "too much runs at once on this server");
}

static int pass(struct attach *x, struct str bytes, struct err *err)
{
    struct str piece;
    int stream = 0, rc;
    bool last;

    if (x->tty)
        return call_send(x->c, 1, bytes);
    while ((rc = docker_demux_next(&x->demux, &bytes, &stream, &piece, &last, err)) == 1) {
        rc = call_send(x->c, stream == 2 ? 2 : 1, piece);
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int output(struct attach *x, struct err *err)
{
    AUTO_FREE char *bytes = mem_alloc(PIECE);

    for (;;) {
        size_t n = 0;
        int rc = conn_read(x->conn, bytes, PIECE, USEC_INFINITY, &n, err);
        if (rc < 0 || n == 0)
            return rc;
        rc = pass(x, (struct str){bytes, n}, err);
        if (rc < 0)
            return rc;
    }
}

static int pass_log(void *arg, const struct docker_log *e)
{
    struct attach *x = arg;
    int rc = call_send(x->c, e->is_stderr ? 2 : 1, e->line);

    return rc == 0 && !e->partial ? call_send(x->c, e->is_stderr ? 2 : 1, x->tty ? STR("\r\n") : STR("\n")) : rc;
}

/* The engine attaches to one that has ended, too, and is silent then. What ends later ends the stream. */
static bool has_ended(const struct attach *x)
{
    struct docker_container c;
    if (docker_container_inspect(x->w->docker, x->container, &c, deadline_in(ENGINE_CALL), NULL) != 0)
        return false;
    bool ended = c.state != DOCKER_STATE_RUNNING && c.state != DOCKER_STATE_CREATED;
    docker_container_release(&c);
    return ended;
}

static int run(struct attach *x, const Davit__Link__V1__SandboxAttachCall *q, bool ended, int *ret, struct err *err)
{
    const struct docker_log_options all = {.tail = -1};
    int rc = 0;

    if (ended) {
        if (q->from_start)
            rc = docker_logs(x->w->docker, x->container, &all, pass_log, x, deadline_in(EXIT_WAIT), err);
    } else {
        rc = docker_container_attach(x->w->docker, x->container, q->stdin, q->from_start, &x->conn, deadline_in(ENGINE_CALL), err);
        if (rc == 0 && x->tty && q->rows && q->columns) /* not started yet: later */
            repaint(x, q);
        if (rc == 0 && has_ended(x)) {
            (void)conn_close(x->conn);
            x->conn = NULL;
            return run(x, q, true, ret, err);
        }
        if (rc == 0)
            rc = helpers(x, q->stdin, err);
        if (rc == 0)
            rc = output(x, err);
    }
    return rc < 0 ? rc : docker_container_wait(x->w->docker, x->container, ret, deadline_in(EXIT_WAIT), err);
}

int sandbox_attach(void *arg, struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    struct contain *k = arg;
    const Davit__Link__V1__SandboxAttachCall *q = call_open_message(c)->sandbox_attach;
    Davit__Link__V1__ExecEnd result = DAVIT__LINK__V1__EXEC_END__INIT;
    ProtobufCMessage *copy = NULL;
    /* Who types into a program commands it; who only looks reads its log. */
    const struct policy_ask ask = {.exec = q->stdin};
    int rc = policy_check(k->w->policy, &ask, reason, err);

    if (rc < 0)
        return rc;
    struct box *b = box_find(k, q->sandbox_id);
    if (!b || !*b->container) {
        *reason = "not_found";
        return err_set(err, ERR_NOT_FOUND, "this sandbox has no container on this server");
    }
    struct attach *x = NEW(struct attach);
    *x = (struct attach){.refs = 1, .c = c, .w = k->w, .tty = b->spec && b->spec->tty};
    (void)str_copy(x->container, sizeof(x->container), str_from(b->container));
    bool ended = b->engine != DOCKER_STATE_RUNNING && b->engine != DOCKER_STATE_CREATED;
    int code = 0;
    rc = run(x, q, ended, &code, err);
    if (x->input)
        fiber_cancel(x->input->fiber);
    if (x->sizes)
        fiber_cancel(x->sizes->fiber);
    attach_unref(x);
    result.exit_code = code;
    if (rc == 0 && rpc_copy(&result.base, &copy) == 0) {
        end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_EXEC;
        end->exec = (Davit__Link__V1__ExecEnd *)copy;
    }
    return rc < 0 ? rc : 0;
}
