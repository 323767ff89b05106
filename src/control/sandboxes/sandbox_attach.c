/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_attach — AttachSandbox: the terminal of a sandbox's main program, or its input and outputs, through the link of its server, as exec_rpc.c
 * does it for a process: the handler passes on what is written, a fiber beside it what the caller sends, both under credit. A caller that goes away
 * lets go of the program, which runs on.
 * Limits: those of link_calls.h.  Input trust: peer. */
#include "base/mem.h"
#include "control/people/audit.h"
#include "control/sandboxes/sandboxes.h"
#include "control/link/link_calls.h"

enum { ATTACH_SIDE_MAX = 1000 /* rows and columns */ };

/* Shared by the two fibers; the last one frees it. */
struct attach {
    unsigned refs;
    struct control *control;
    struct rpc_call *call;
    struct link_call *remote;
    struct fiber *input;
    bool ended; /* its input */
};

static void attach_unref(struct attach *a)
{
    if (--a->refs == 0)
        free(a);
}

static uint32_t side(uint32_t n)
{
    return n < ATTACH_SIDE_MAX ? n : ATTACH_SIDE_MAX;
}

static int take(struct attach *a, const Davit__Control__V1__AttachSandboxRequest *q, struct err *err)
{
    if (q->target)
        return err_set(err, ERR_INVALID, "target: only in the first message");
    if (q->rows && q->columns)
        link_call_resize(a->remote, side(q->rows), side(q->columns));
    if (a->ended || (!q->data.len && !q->data_ends))
        return 0;
    a->ended = q->data_ends;
    return link_call_send(a->remote, (struct str){(const char *)q->data.data, q->data.len}, q->data_ends, USEC_INFINITY, err);
}

static void input_main(void *arg)
{
    struct attach *a = arg;
    struct control *c = a->control;
    struct err err = ERR_INIT;
    int rc = 0;
    while (rc == 0 && !fiber_cancelled()) {
        ProtobufCMessage *m = NULL;
        rc = rpc_recv(a->call, &m, &err);
        if (rc == 0)
            rc = take(a, (const Davit__Control__V1__AttachSandboxRequest *)m, &err);
        (void)rpc_message_free(m);
    }
    if (rc < 0 && !fiber_cancelled())
        link_call_abort(a->remote, &err);
    attach_unref(a);
    control_fiber_end(c);
}

static int spawn_input(struct attach *a, struct err *err)
{
    if (fiber_spawn(a->control->loop, "attach-input", input_main, a, &a->input) != 0)
        return err_set(err, ERR_EXHAUSTED, "the control plane has no room for another call now");
    a->control->fibers++;
    a->refs++;
    return 0;
}

static int reply(struct attach *a, const Davit__Control__V1__AttachSandboxResponse *m, struct err *err)
{
    return rpc_send(a->call, &m->base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int pass_output(struct attach *a, struct err *err)
{
    for (;;) {
        Davit__Control__V1__AttachSandboxResponse m = DAVIT__CONTROL__V1__ATTACH_SANDBOX_RESPONSE__INIT;
        struct link_call_piece p;
        int rc = link_call_next(a->remote, &p, USEC_INFINITY, err);
        if (rc < 0)
            return rc;
        if (p.end) {
            if (p.end->result_case != DAVIT__LINK__V1__CALL_END__RESULT_EXEC)
                return err_set(err, ERR_INTERNAL, "the agent did not say how the program ended");
            m.ended = true;
            m.exit_code = p.end->exec->exit_code;
            return reply(a, &m, err);
        }
        if (!p.data || !p.data->data.len)
            continue;
        if (p.data->output == 2)
            m.error_output = p.data->data;
        else
            m.output = p.data->data;
        if ((rc = reply(a, &m, err)) < 0)
            return rc;
    }
}

static void note(struct attach *a, const struct sandbox *sb)
{
    struct audit_record r = {.count = 1};
    AUTO_FREE char *object = str_printf("%s%s%s", sb->project, *sb->project ? "/" : "", sb->name);
    audit_who_call(&r, a->call);
    audit_what(&r, "sandbox.attach", object);
    audit_how(&r, AUDIT_OK, NULL);
    audit_note(a->control, &r);
}

static int begin(struct attach *a, const Davit__Control__V1__AttachSandboxRequest *q, struct err *err)
{
    Davit__Control__V1__AttachSandboxResponse m = DAVIT__CONTROL__V1__ATTACH_SANDBOX_RESPONSE__INIT;
    Davit__Link__V1__CallOpen open = DAVIT__LINK__V1__CALL_OPEN__INIT;
    Davit__Link__V1__SandboxAttachCall ask = DAVIT__LINK__V1__SANDBOX_ATTACH_CALL__INIT;
    struct sandbox *sb = NULL;
    int rc = sandboxes_find(a->control, q->target, &sb, err);
    if (rc < 0)
        return rc;
    struct server *s = servers_by_id(a->control, sb->server_id);
    if (!s)
        return err_set(err, ERR_NOT_FOUND, "the server of this sandbox was removed");
    ask.sandbox_id = sb->id;
    ask.stdin = q->input;
    ask.rows = side(q->rows);
    ask.columns = side(q->columns);
    ask.from_start = q->from_start;
    open.body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_SANDBOX_ATTACH;
    open.sandbox_attach = &ask;
    note(a, sb);
    rc = link_call_open(s, &open, &a->remote, err);
    m.tty = sb->tty;
    return rc < 0 ? rc : reply(a, &m, err);
}

static int run(struct attach *a, struct err *err)
{
    ProtobufCMessage *first = NULL;
    int rc = rpc_recv(a->call, &first, err);
    if (rc == 1)
        rc = err_set(err, ERR_INVALID, "target: the first message must have it");
    if (rc == 0)
        rc = begin(a, (const Davit__Control__V1__AttachSandboxRequest *)first, err);
    (void)rpc_message_free(first);
    if (rc == 0)
        rc = spawn_input(a, err);
    return rc == 0 ? pass_output(a, err) : rc;
}

int sandbox_attach(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct attach *a = NEW(struct attach);
    (void)request; /* the client streams */
    a->refs = 1;
    a->control = ctx;
    a->call = call;
    int rc = run(a, err);
    /* Without waiting: from here on it looks at neither call. */
    fiber_cancel(a->input);
    a->input = fiber_unref(a->input);
    a->remote = link_call_free(a->remote);
    attach_unref(a);
    return rc;
}
