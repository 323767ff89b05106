/* SPDX-License-Identifier: Apache-2.0 */
/* exec_rpc — ExecService: a process in a container, through the link of its server. The handler passes on what the process writes, a fiber beside it
 * what the caller sends; both ways under credit, so that a slow reader holds up the process and nothing else. Whoever goes away ends the process.
 * The audit log has who ran what where: of the command the first word only, for arguments may be secrets.
 * Limits: those of link_calls.h.  Input trust: peer. */
#include <stdio.h>

#include "base/mem.h"
#include "control/people/audit.h"
#include "control/work/containers.h"
#include "control/link/link_calls.h"

enum { EXEC_SIZE_MAX = 1000 /* rows and columns of a terminal */ };

/* Shared by the two fibers; the last one frees it. */
struct exec {
    unsigned refs;
    struct control *control;
    struct rpc_call *call;    /* the handler's, and while it is not cancelled the other's */
    struct link_call *remote; /* likewise */
    bool ended;               /* its input */
    struct fiber *input;
};

static void exec_unref(struct exec *x)
{
    if (--x->refs == 0)
        free(x);
}

static uint32_t side(uint32_t n)
{
    return n < EXEC_SIZE_MAX ? n : EXEC_SIZE_MAX;
}

/* --- What the caller sends ---- */

/* 0; 1: the process has ended; negative. */
static int take_request(struct exec *x, const Davit__Control__V1__ExecRequest *q, struct err *err)
{
    if (q->start)
        return err_set(err, ERR_INVALID, "start: only in the first message");
    if (q->rows && q->columns)
        link_call_resize(x->remote, side(q->rows), side(q->columns));
    if (x->ended || (!q->input.len && !q->input_ends))
        return 0;
    x->ended = q->input_ends;
    return link_call_send(x->remote, (struct str){(const char *)q->input.data, q->input.len}, q->input_ends, USEC_INFINITY, err);
}

static int pass_input(struct exec *x, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_recv(x->call, &m, err);
    if (rc == 0)
        rc = take_request(x, (const Davit__Control__V1__ExecRequest *)m, err);
    else if (rc == 1 && !x->ended)
        (void)link_call_send(x->remote, STR(""), true, USEC_INFINITY, NULL); /* nobody is there to be told */
    (void)rpc_message_free(m);
    return rc;
}

static void input_main(void *arg)
{
    struct exec *x = arg;
    struct control *c = x->control;
    struct err err = ERR_INIT;
    int rc = 0;
    while (rc == 0 && !fiber_cancelled())
        rc = pass_input(x, &err);
    if (rc < 0 && !fiber_cancelled())
        link_call_abort(x->remote, &err);
    exec_unref(x);
    control_fiber_end(c);
}

static int spawn_input(struct exec *x, struct err *err)
{
    if (fiber_spawn(x->control->loop, "exec-input", input_main, x, &x->input) != 0)
        return err_set(err, ERR_EXHAUSTED, "the control plane has no room for another call now");
    x->control->fibers++;
    x->refs++;
    return 0;
}

/* --- What the process writes ---- */

static int reply(struct exec *x, const Davit__Control__V1__ExecResponse *m, struct err *err)
{
    return rpc_send(x->call, &m->base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int pass_output(struct exec *x, struct err *err)
{
    for (;;) {
        Davit__Control__V1__ExecResponse m = DAVIT__CONTROL__V1__EXEC_RESPONSE__INIT;
        struct link_call_piece p;
        int rc = link_call_next(x->remote, &p, USEC_INFINITY, err);
        if (rc < 0)
            return rc;
        if (p.end) {
            if (p.end->result_case != DAVIT__LINK__V1__CALL_END__RESULT_EXEC)
                return err_set(err, ERR_INTERNAL, "the agent did not say how the process ended");
            m.ended = true;
            m.exit_code = p.end->exec->exit_code;
            return reply(x, &m, err);
        }
        if (!p.data || !p.data->data.len)
            continue;
        if (p.data->output == 2)
            m.error_output = p.data->data;
        else
            m.output = p.data->data;
        rc = reply(x, &m, err);
        if (rc < 0)
            return rc;
    }
}

/* --- The call ---- */

static void note(struct exec *x, const struct container_place *where, const Davit__Control__V1__ExecStart *q)
{
    struct audit_record r = {.count = 1};
    AUTO_FREE char *object = str_printf("%s %s: %.64s", where->subject, where->name, q->command[0]);
    audit_who_call(&r, x->call);
    audit_what(&r, "exec.start", object);
    audit_how(&r, AUDIT_OK, NULL);
    audit_note(x->control, &r);
}

static int open_remote(struct exec *x, const struct container_place *where, const Davit__Control__V1__ExecStart *q, struct err *err)
{
    Davit__Link__V1__CallOpen open = DAVIT__LINK__V1__CALL_OPEN__INIT;
    Davit__Link__V1__ExecCall exec = DAVIT__LINK__V1__EXEC_CALL__INIT;
    exec.container_id = lend(where->id);
    exec.command = q->command;
    exec.n_command = q->n_command;
    exec.env = q->env;
    exec.n_env = q->n_env;
    exec.user = q->user;
    exec.working_dir = q->working_dir;
    exec.tty = q->tty;
    exec.stdin = q->stdin;
    exec.rows = side(q->rows);
    exec.columns = side(q->columns);
    open.body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_EXEC;
    open.exec = &exec;
    note(x, where, q);
    return link_call_open(where->server, &open, &x->remote, err);
}

static int begin(struct exec *x, const Davit__Control__V1__ExecStart *q, struct err *err)
{
    Davit__Control__V1__ExecResponse m = DAVIT__CONTROL__V1__EXEC_RESPONSE__INIT;
    struct container_place where = {0};
    if (!q)
        return err_set(err, ERR_INVALID, "start: the first message must have it");
    if (!q->n_command || !*q->command[0])
        return err_set(err, ERR_INVALID, "command: there is none");
    int rc = containers_find(x->control, q->target, &where, err);
    if (rc == 0)
        rc = open_remote(x, &where, q, err);
    m.container = where.name;
    if (rc == 0)
        rc = reply(x, &m, err);
    container_place_release(&where);
    return rc;
}

static int run(struct exec *x, struct err *err)
{
    ProtobufCMessage *first = NULL;
    int rc = rpc_recv(x->call, &first, err);
    if (rc == 1)
        rc = err_set(err, ERR_INVALID, "start: the first message must have it");
    if (rc == 0)
        rc = begin(x, ((const Davit__Control__V1__ExecRequest *)first)->start, err);
    (void)rpc_message_free(first);
    if (rc == 0)
        rc = spawn_input(x, err);
    return rc == 0 ? pass_output(x, err) : rc;
}

static int run_exec(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct exec *x = NEW(struct exec);
    (void)request; /* the client streams */
    x->refs = 1;
    x->control = ctx;
    x->call = call;
    int rc = run(x, err);
    const char *reason = x->remote ? link_call_reason(x->remote) : "";
    if (rc < 0 && *reason)
        (void)rpc_call_set_trailer(call, "davit-reason", str_from(reason)); /* the message says it too */
    /* Without waiting: from here on it looks at neither call. */
    fiber_cancel(x->input);
    x->input = fiber_unref(x->input);
    x->remote = link_call_free(x->remote);
    exec_unref(x);
    return rc;
}

CONTROL_HANDLER(run_exec)

const struct rpc_handler exec_handlers[] = {{.run = run_exec_tracked}};
