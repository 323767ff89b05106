/* SPDX-License-Identifier: Apache-2.0 */
/* sandboxes_rpc — SandboxService but for Attach: what users ask of sandboxes becomes commands of their servers (commands.h), whose steps are
 * passed on
 * until there is a result. Whoever goes away ends the call, not the command.
 * A snapshot of a workspace goes to the server first, as a call of its own; only when all of it is there is the sandbox commanded.
 * Limits: those of commands.h and sandboxes.h.  Input trust: peer. */
#include <string.h>

#include "base/mem.h"
#include "control/people/audit.h"
#include "control/link/link_calls.h"
#include "control/link/links.h"
#include "control/sandboxes/sandboxes.h"
#include "control/sealed.h"
#include "ident/seal.h"

enum { STOP_TIMEOUT_MAX_S = 600 };
/* A sandbox is for somebody who waits for it. */
#define RUN_WAIT  USEC_HOUR
#define STOP_WAIT (15 * USEC_MINUTE)
#define FILL_WAIT (10 * USEC_MINUTE) /* the end of a snapshot, once all of it was sent */

static int gone_away(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "the caller went away");
}

static int need_agent(const struct server *s, struct err *err)
{
    if (!s->link) {
        (void)err_set(err, ERR_UNAVAILABLE, "server \"%s\" is not connected", s->name);
        err_hint(err, "on that server: systemctl status davit-agent");
        return -(int)ERR_UNAVAILABLE;
    }
    if (links_take_sandboxes(s))
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "the agent of server \"%s\" runs no sandboxes", s->name);
    err_hint(err, "update it: davit server update %s; if it is of this version, davit server doctor %s tells what it lacks", s->name, s->name);
    return -(int)ERR_PRECONDITION;
}

static int failed(const struct command *cmd, struct err *err)
{
    if (cmd->dropped)
        return err_set(err, ERR_ABORTED, "the server was removed meanwhile");
    const Davit__Common__V1__Failure *f = cmd->result->failure;
    if (!f)
        return 0;
    enum err_code code = f->code && f->code < ERR_CODE_MAX ? (enum err_code)f->code : ERR_UNKNOWN;
    (void)err_set(err, code, "%.400s", text(f->message));
    err_hint(err, "%.200s", text(f->hint));
    return -(int)code;
}

/* Waits: passes the steps on (@call NULL: to nobody) until @cmd is over. */
static int follow(struct control *c, struct command *cmd, struct rpc_call *call, usec_t deadline, struct err *err)
{
    struct sandbox_wait w;
    int rc = 0;
    sandbox_wait_begin(c, &w, cmd);
    while (rc == 0) {
        Davit__Control__V1__RunSandboxResponse m = DAVIT__CONTROL__V1__RUN_SANDBOX_RESPONSE__INIT;
        rc = sandbox_wait_next(&w, deadline, &m.progress);
        if (rc == 0 && call && rpc_send(call, &m.base) != 0)
            rc = -(int)ERR_CANCELLED;
        (void)rpc_message_free(m.progress);
    }
    sandbox_wait_end(&w);
    if (rc == 1)
        return failed(cmd, err);
    return rc == -(int)ERR_DEADLINE ? err_set(err, ERR_DEADLINE, "the agent did not answer in time") : gone_away(err);
}

static int send_sandbox(struct rpc_call *call, const struct sandbox *sb, struct err *err)
{
    Davit__Control__V1__RunSandboxResponse m = DAVIT__CONTROL__V1__RUN_SANDBOX_RESPONSE__INIT;
    Davit__Common__V1__Sandbox shown;
    sandbox_describe(sb, &shown);
    m.sandbox = &shown;
    return rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
}

/* --- Run --- */

struct run {
    struct control *c;
    struct rpc_call *call;
    Davit__Control__V1__RunSandboxRequest *first;
    struct server *server;
    struct sandbox *sb;
};

static int next_piece(struct run *r, struct link_call *fill, bool *ret_last, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_recv(r->call, &m, err);
    if (rc == 1)
        return err_set(err, ERR_INVALID, "snapshot: it ends before snapshot_ends");
    if (rc < 0)
        return rc;
    const Davit__Control__V1__RunSandboxRequest *q = (const Davit__Control__V1__RunSandboxRequest *)m;
    *ret_last = q->snapshot_ends;
    rc = link_call_send(fill, (struct str){(const char *)q->snapshot.data, q->snapshot.len}, q->snapshot_ends, USEC_INFINITY, err);
    (void)rpc_message_free(m);
    return rc;
}

/* Waits until the server has the snapshot. */
static int fill_snapshot(struct run *r, struct err *err)
{
    Davit__Link__V1__CallOpen open = DAVIT__LINK__V1__CALL_OPEN__INIT;
    Davit__Link__V1__SandboxFillCall ask = DAVIT__LINK__V1__SANDBOX_FILL_CALL__INIT;
    const Davit__Link__V1__CallEnd *end = NULL;
    struct link_call *fill = NULL;
    bool last = r->first->snapshot_ends;
    ask.sandbox_id = r->sb->id;
    ask.force = r->first->force;
    open.body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_SANDBOX_FILL;
    open.sandbox_fill = &ask;
    int rc = link_call_open(r->server, &open, &fill, err);
    if (rc == 0)
        rc = link_call_send(fill, (struct str){(const char *)r->first->snapshot.data, r->first->snapshot.len}, last, USEC_INFINITY, err);
    while (rc == 0 && !last)
        rc = next_piece(r, fill, &last, err);
    if (rc >= 0) /* 1: it ended early, and its end says why */
        rc = link_call_end(fill, &end, deadline_in(FILL_WAIT), err);
    (void)link_call_free(fill);
    return rc;
}

static int submit(struct run *r, struct command **ret, struct err *err)
{
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__CreateSandbox create = DAVIT__LINK__V1__CREATE_SANDBOX__INIT;
    AUTO_SECRET_BUF bytes = BUF_INIT(RPC_MESSAGE_MAX);
    AUTO_BUF sealed = BUF_INIT(RPC_MESSAGE_MAX + SEAL_OVERHEAD);
    if (rpc_pack(&r->first->spec->base, &bytes) != 0)
        return err_set(err, ERR_INVALID, "spec: larger than a message may be");
    int rc = sealed_put(r->c, SEALED_SANDBOX, r->sb->id, buf_str(&bytes), &sealed, err);
    if (rc < 0)
        return rc;
    struct sandbox_row row = {r->sb, buf_str(&sealed)};
    create.spec = r->first->spec;
    create.force = r->first->force;
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX;
    wire.create_sandbox = &create;
    wire.deadline_us = clock_real() + RUN_WAIT;
    struct command_new n = {.kind = COMMAND_SANDBOX_CREATE, .subject = r->sb->id, .message = &wire, .auth = r->first->registry_auth,
                            .also = sandbox_insert, .also_arg = &row};
    return commands_submit(r->server, &n, ret, err);
}

/* @why NULL: it is asked for; else its server refuses it. */
static void note(struct run *r, const struct err *why)
{
    struct audit_record rec = {.count = 1};
    AUTO_FREE char *object = str_printf("%s%s%s", r->sb->project, *r->sb->project ? "/" : "", r->sb->name);
    audit_who_call(&rec, r->call);
    audit_what(&rec, "sandbox.run", object);
    audit_how(&rec, why ? AUDIT_REFUSED : AUDIT_OK, why);
    audit_note(r->c, &rec);
}

static void new_id(Davit__Common__V1__SandboxSpec *spec)
{
    char id[37];
    rng_uuid(id);
    if (spec->id != protobuf_c_empty_string)
        free(spec->id);
    spec->id = str_dup(str_from(id));
}

static int prepare(struct run *r, struct err *err)
{
    Davit__Control__V1__RunSandboxRequest *q = r->first;
    struct server *s = NULL;
    struct sandbox *sb = NULL;
    int rc = sandbox_spec_check(q->spec, err);
    if (rc == 0)
        rc = servers_find(r->c, text(q->server), &s, err);
    if (rc == 0)
        rc = need_agent(s, err);
    if (rc < 0)
        return rc;
    if (sandboxes_has(r->c, s, q->spec->project, q->spec->name)) {
        (void)err_set(err, ERR_EXISTS, "there is a sandbox \"%s\" on server \"%s\" already", q->spec->name, s->name);
        err_hint(err, "davit sandbox start %s starts it; davit sandbox rm %s removes it", q->spec->name, q->spec->name);
        return -(int)ERR_EXISTS;
    }
    new_id(q->spec);
    rc = sandboxes_add(r->c, s, q->spec, &sb, err);
    if (rc < 0)
        return rc;
    r->server = server_ref(s);
    r->sb = sandbox_ref(sb);
    return 0;
}

static int run(struct run *r, struct err *err)
{
    struct command *cmd = NULL;
    int rc = prepare(r, err);
    if (rc < 0)
        return rc;
    note(r, NULL);
    if (r->first->spec->workspace && r->first->spec->workspace->snapshot)
        rc = fill_snapshot(r, err);
    if (rc == 0 && r->server->gone)
        rc = err_set(err, ERR_ABORTED, "the server was removed meanwhile");
    if (rc == 0 && r->sb->gone)
        rc = err_set(err, ERR_ABORTED, "the sandbox was removed meanwhile");
    if (rc == 0)
        rc = submit(r, &cmd, err);
    if (rc < 0) {
        sandboxes_drop(r->sb);
        return rc;
    }
    rc = follow(r->c, cmd, r->call, deadline_in(RUN_WAIT), err);
    if (rc == -(int)ERR_DENIED) /* the word of the server's owner, or a folder that rules it */
        note(r, err);
    command_unref(cmd);
    return rc < 0 ? rc : send_sandbox(r->call, r->sb, err);
}

static int run_sandbox(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    ProtobufCMessage *first = NULL;
    struct run r = {.c = ctx, .call = call};
    (void)request; /* the client streams */
    int rc = rpc_recv(call, &first, err);
    if (rc == 1)
        rc = err_set(err, ERR_INVALID, "spec: the first message must have it");
    if (rc == 0) {
        r.first = (Davit__Control__V1__RunSandboxRequest *)first;
        rc = run(&r, err);
    }
    (void)rpc_message_free(first);
    sandbox_unref(r.sb);
    server_unref(r.server);
    return rc;
}

/* --- List --- */

static int list_sandboxes(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__ListSandboxesRequest *q = (const Davit__Control__V1__ListSandboxesRequest *)request;
    Davit__Control__V1__ListSandboxesResponse m = DAVIT__CONTROL__V1__LIST_SANDBOXES_RESPONSE__INIT;
    struct server *s = NULL;
    const struct sandbox *sb;
    if (*text(q->server)) {
        int rc = servers_find(c, q->server, &s, err);
        if (rc < 0)
            return rc;
    }
    Davit__Common__V1__Sandbox *rows = mem_zalloc(c->sandboxes->n + 1, sizeof(*rows)), **ptrs = mem_zalloc(c->sandboxes->n + 1, sizeof(*ptrs));
    list_each(sb, &c->sandboxes->all, struct sandbox, node) {
        if ((*text(q->project) && strcmp(sb->project, q->project) != 0) || (s && strcmp(sb->server_id, s->id) != 0))
            continue;
        ptrs[m.n_sandboxes] = &rows[m.n_sandboxes];
        sandbox_describe(sb, &rows[m.n_sandboxes++]);
    }
    m.sandboxes = ptrs;
    int rc = rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
    free(rows);
    free(ptrs);
    return rc;
}

/* --- Start, stop, remove --- */

struct act {
    struct control *c;
    struct rpc_call *progress; /* NULL: nobody sees the steps */
    struct sandbox *sb;        /* a reference */
    char *outcome;
};

/* Waits for the end of @what; then @a->sb is a reference, also after a failure. */
static int act(struct act *a, const Davit__Control__V1__SandboxRef *ref, Davit__Link__V1__SandboxAction *what, usec_t wait, struct err *err)
{
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    struct command *cmd = NULL;
    struct sandbox *sb = a->sb;
    int rc = sb ? 0 : sandboxes_find(a->c, ref, &sb, err);
    if (rc < 0)
        return rc;
    if (!a->sb)
        a->sb = sandbox_ref(sb);
    struct server *s = servers_by_id(a->c, sb->server_id);
    if (!s)
        return err_set(err, ERR_NOT_FOUND, "the server of this sandbox was removed");
    rc = need_agent(s, err);
    if (rc < 0)
        return rc;
    what->sandbox_id = sb->id;
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_SANDBOX_ACTION;
    wire.sandbox_action = what;
    wire.deadline_us = clock_real() + wait;
    struct command_new n = {.kind = COMMAND_SANDBOX_ACTION, .subject = sb->id, .message = &wire};
    rc = commands_submit(s, &n, &cmd, err);
    if (rc == 0)
        rc = follow(a->c, cmd, a->progress, deadline_in(wait), err);
    if (rc == 0)
        a->outcome = str_dup(str_from(text(cmd->result->outcome)));
    command_unref(cmd);
    return rc;
}

static int start_sandbox(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__SandboxRequest *q = (const Davit__Control__V1__SandboxRequest *)request;
    Davit__Link__V1__SandboxAction what = DAVIT__LINK__V1__SANDBOX_ACTION__INIT;
    struct act a = {.c = ctx, .progress = call};
    what.action = DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_START;
    int rc = act(&a, q->target, &what, RUN_WAIT, err);
    if (rc == 0)
        rc = send_sandbox(call, a.sb, err);
    sandbox_unref(a.sb);
    free(a.outcome);
    return rc;
}

static int answer(struct rpc_call *call, struct act *a, int rc, struct err *err)
{
    Davit__Control__V1__SandboxResponse m = DAVIT__CONTROL__V1__SANDBOX_RESPONSE__INIT;
    Davit__Common__V1__Sandbox shown;
    if (rc == 0) {
        sandbox_describe(a->sb, &shown);
        if (a->sb->gone)
            shown.state = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_REMOVED;
        m.sandbox = &shown;
        m.outcome = a->outcome;
        rc = rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
    }
    sandbox_unref(a->sb);
    free(a->outcome);
    return rc;
}

static int stop_sandbox(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__SandboxRequest *q = (const Davit__Control__V1__SandboxRequest *)request;
    Davit__Link__V1__SandboxAction what = DAVIT__LINK__V1__SANDBOX_ACTION__INIT;
    struct act a = {.c = ctx};
    if (q->stop_timeout_s > STOP_TIMEOUT_MAX_S)
        return err_set(err, ERR_INVALID, "stop_timeout: %u s are not allowed; at most %d", q->stop_timeout_s, STOP_TIMEOUT_MAX_S);
    what.action = DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_STOP;
    what.stop_timeout_s = q->stop_timeout_s;
    return answer(call, &a, act(&a, q->target, &what, STOP_WAIT, err), err);
}

static bool runs(const struct sandbox *sb)
{
    return sb->state->state == DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING ||
           sb->state->state == DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_STARTING || sb->creating;
}

static int remove_sandbox(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__RemoveSandboxRequest *q = (const Davit__Control__V1__RemoveSandboxRequest *)request;
    Davit__Link__V1__SandboxAction what = DAVIT__LINK__V1__SANDBOX_ACTION__INIT;
    struct act a = {.c = ctx};
    int rc = sandboxes_find(ctx, q->target, &a.sb, err);
    if (rc < 0)
        return rc;
    (void)sandbox_ref(a.sb);
    what.action = DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_REMOVE;
    what.volumes = q->volumes;
    if (!q->force && runs(a.sb)) {
        rc = err_set(err, ERR_PRECONDITION, "sandbox \"%s\" runs", a.sb->name);
        err_hint(err, "stop it first, or remove it with --force");
    } else {
        rc = act(&a, q->target, &what, STOP_WAIT, err);
    }
    return answer(call, &a, rc, err);
}

CONTROL_HANDLER(run_sandbox)
CONTROL_HANDLER(list_sandboxes)
CONTROL_HANDLER(start_sandbox)
CONTROL_HANDLER(stop_sandbox)
CONTROL_HANDLER(remove_sandbox)
CONTROL_HANDLER(sandbox_attach)

const struct rpc_handler sandboxes_handlers[] = {
    {.run = run_sandbox_tracked},  {.run = list_sandboxes_tracked}, {.run = start_sandbox_tracked},
    {.run = stop_sandbox_tracked}, {.run = remove_sandbox_tracked}, {.run = sandbox_attach_tracked},
};
