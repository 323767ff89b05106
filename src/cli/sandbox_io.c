/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_io — `davit sandbox attach`, `exec` and `logs`: what goes in and comes out of one. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/exec.h"
#include "cli/logs.h"
#include "cli/out.h"
#include "cli/sandbox.h"
#include "cli/terminal.h"
#include "davit/control/v1/sandboxes.davit.h"

#define FIRST_WAIT (30 * USEC_SEC)
static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

/* --- Attaching --- */

static int put_input(struct rpc_stream *stream, ProtobufCBinaryData bytes, bool ends)
{
    Davit__Control__V1__AttachSandboxRequest q = DAVIT__CONTROL__V1__ATTACH_SANDBOX_REQUEST__INIT;
    q.data = bytes;
    q.data_ends = ends;
    return rpc_stream_put(stream, &q.base, USEC_INFINITY, NULL);
}

static int put_size(struct rpc_stream *stream, unsigned rows, unsigned columns)
{
    Davit__Control__V1__AttachSandboxRequest q = DAVIT__CONTROL__V1__ATTACH_SANDBOX_REQUEST__INIT;
    q.rows = rows;
    q.columns = columns;
    return rpc_stream_put(stream, &q.base, USEC_INFINITY, NULL);
}

static void read_output(const ProtobufCMessage *message, struct program_output *ret)
{
    const Davit__Control__V1__AttachSandboxResponse *m = (const Davit__Control__V1__AttachSandboxResponse *)message;
    *ret = (struct program_output){m->output, m->error_output, m->ended, m->exit_code};
}

static const struct program_kind kind = {put_input, put_size, read_output};

/* Waits for the first answer: has it a terminal? */
static int begin(struct cli *cli, const struct sandbox_attach *a, struct program *p, struct err *err)
{
    Davit__Control__V1__AttachSandboxRequest q = DAVIT__CONTROL__V1__ATTACH_SANDBOX_REQUEST__INIT;
    ProtobufCMessage *first = NULL;
    q.target = a->target;
    q.input = a->input;
    q.from_start = a->from_start;
    (void)terminal_size(&q.rows, &q.columns);
    int rc = cli_connect(cli, err);
    if (rc == 0)
        rc = rpc_stream_open(cli->channel, &davit_control_v1_sandbox_service, "AttachSandbox", USEC_INFINITY, &p->stream, err);
    if (rc == 0)
        rc = rpc_stream_put(p->stream, &q.base, deadline_in(FIRST_WAIT), err);
    if (rc == 0)
        rc = rpc_stream_get(p->stream, deadline_in(FIRST_WAIT), &first, err);
    if (rc == 1)
        rc = err_set(err, ERR_UNAVAILABLE, "the control plane ended the call");
    if (rc == 0)
        p->tty = ((const Davit__Control__V1__AttachSandboxResponse *)(const void *)first)->tty;
    (void)rpc_message_free(first);
    return rc;
}

int sandbox_attach(struct cli *cli, const struct sandbox_attach *a, struct err *err)
{
    struct program p = {.kind = &kind, .input = a->input, .stays_open = true};
    int rc = begin(cli, a, &p, err);
    p.detachable = p.tty && a->input && isatty(STDIN_FILENO);
    if (rc == 0)
        rc = program_run(cli, &p, err);
    p.stream = rpc_stream_close(p.stream);
    return rc;
}

#define AT(field) offsetof(struct sandbox_attach_options, field)
const struct opt sandbox_attach_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "of this project", .env = true},
    {.name = "no-stdin", .type = OPT_BOOL, .offset = AT(no_stdin), .help = "only show what it writes"},
    {.name = "from-start", .type = OPT_BOOL, .offset = AT(from_start), .help = "show first what it wrote before"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
#undef AT

int sandbox_run_attach(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct sandbox_attach_options *o = options;
    Davit__Control__V1__SandboxRef ref;
    struct service_name name;
    (void)n;
    int rc = sandbox_ref(operands[0], o->project, &name, &ref, err);
    if (rc < 0)
        return rc;
    const struct sandbox_attach a = {.target = &ref, .input = !o->no_stdin, .from_start = o->from_start};
    rc = sandbox_attach(cli, &a, err);
    if (rc != PROGRAM_DETACHED)
        return rc;
    out_note(cli, "\ndavit: detached; it runs on");
    return 0;
}

/* --- Another program in it --- */

int sandbox_look_up(struct cli *cli, const Davit__Control__V1__SandboxRef *ref, ProtobufCMessage **ret, const Davit__Common__V1__Sandbox **found,
                    struct err *err)
{
    Davit__Control__V1__ListSandboxesRequest q = DAVIT__CONTROL__V1__LIST_SANDBOXES_REQUEST__INIT;
    size_t n = strlen(ref->name), matches = 0;
    int rc = cli_call(cli, &davit_control_v1_sandbox_service, "ListSandboxes", &q.base, CALL_TIMEOUT, ret, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListSandboxesResponse *m = (const void *)*ret;
    *found = NULL;
    for (int turn = 0; turn < 3 && !matches; turn++)
        for (size_t i = 0; i < m->n_sandboxes; i++) {
            const Davit__Common__V1__Sandbox *s = m->sandboxes[i];
            bool named = strcmp(s->name, ref->name) == 0;
            bool is = turn == 0 ? named && strcmp(s->project, ref->project) == 0
                                : !*ref->project && (turn == 1 ? named : n >= 4 && strncmp(s->id, ref->name, n) == 0);
            if (is) {
                *found = s;
                matches++;
            }
        }
    if (matches == 1)
        return 0;
    (void)err_set(err, matches ? ERR_INVALID : ERR_NOT_FOUND,
                  matches ? "there are several sandboxes \"%s\"" : "there is no sandbox \"%s\"", ref->name);
    err_hint(err, "davit sandbox ls shows what there is");
    return -(int)(matches ? ERR_INVALID : ERR_NOT_FOUND);
}

#define AT(field) offsetof(struct exec_options, field)
const struct opt sandbox_exec_opts[] = {
    {.name = "tty", .letter = 't', .type = OPT_BOOL, .offset = AT(tty),
     .help = "give it a terminal; by itself where standard input and output are one"},
    {.name = "no-tty", .letter = 'T', .type = OPT_BOOL, .offset = AT(no_tty), .help = "give it none"},
    {.name = "interactive", .letter = 'i', .type = OPT_BOOL, .offset = AT(interactive),
     .help = "pass standard input on; by itself with a terminal"},
    {.name = "user", .letter = 'u', .type = OPT_STRING, .offset = AT(user), .arg = "USER", .help = "run as this user of the sandbox"},
    {.name = "workdir", .letter = 'w', .type = OPT_STRING, .offset = AT(workdir), .arg = "DIR", .help = "folder to run it in"},
    {.name = "env", .letter = 'e', .type = OPT_LIST, .offset = AT(env), .arg = "NAME=VALUE",
     .help = "variable besides those of the sandbox; NAME alone: as it is here"},
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "of this project", .env = true},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
#undef AT

int sandbox_run_exec(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    struct exec_options o = *(const struct exec_options *)options;
    const Davit__Common__V1__Sandbox *s = NULL;
    Davit__Control__V1__SandboxRef ref;
    struct service_name name;
    ProtobufCMessage *m = NULL;
    int rc = sandbox_ref(operands[0], o.project, &name, &ref, err);
    if (rc == 0)
        rc = sandbox_look_up(cli, &ref, &m, &s, err);
    if (rc == 0 && !*s->container_id)
        rc = err_set(err, ERR_PRECONDITION, "the sandbox has no container now");
    if (rc == 0) {
        o.container = s->container_id;
        o.server = s->server_id;
        rc = exec_run(cli, &o, operands + 1, n - 1, err);
    }
    (void)rpc_message_free(m);
    return rc;
}

/* --- Its log --- */

#define AT(field) offsetof(struct sandbox_logs_options, field)
const struct opt sandbox_logs_opts[] = {
    {.name = "follow", .letter = 'f', .type = OPT_BOOL, .offset = AT(follow), .help = "go on with new lines"},
    {.name = "tail", .letter = 'n', .type = OPT_INT, .offset = AT(tail), .min = -1, .max = 1000000000, .def = "-1", .arg = "N",
     .help = "only the last N lines; -1: all"},
    {.name = "since", .type = OPT_USEC, .offset = AT(since), .max = 31536000000000, .arg = "TIME",
     .help = "only lines younger than this, for example 10m"},
    {.name = "timestamps", .letter = 't', .type = OPT_BOOL, .offset = AT(timestamps), .help = "the engine's time before each line"},
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "of this project", .env = true},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
#undef AT

int sandbox_run_logs(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct sandbox_logs_options *o = options;
    Davit__Control__V1__LogsRequest q = DAVIT__CONTROL__V1__LOGS_REQUEST__INIT;
    const Davit__Common__V1__Sandbox *s = NULL;
    Davit__Control__V1__SandboxRef ref;
    struct service_name name;
    ProtobufCMessage *m = NULL;
    (void)n;
    int rc = sandbox_ref(operands[0], o->project, &name, &ref, err);
    if (rc == 0)
        rc = sandbox_look_up(cli, &ref, &m, &s, err);
    if (rc == 0) {
        q.sandbox_id = s->id;
        q.follow = o->follow;
        q.tail = o->tail;
        q.since_ns = o->since ? (clock_real() - o->since) * 1000 : 0;
        rc = logs_show(cli, &q, o->timestamps, err);
    }
    (void)rpc_message_free(m);
    return rc;
}
