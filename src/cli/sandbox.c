/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox — `davit sandbox ls|start|stop|rm`, and what its other verbs share; those that pass bytes are in sandbox_io.c. */
#include "cli/sandbox.h"

#include "cli/clock_gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"
#include "davit/control/v1/sandboxes.davit.h"

static const usec_t CALL_TIMEOUT = 15 * USEC_SEC, ACTION_TIMEOUT = 15 * USEC_MINUTE;

struct sandbox_options {
    struct cli_common common;
    const char *project, *server;
    usec_t timeout, clock_wait;
    bool force, volumes;
};

#define AT(field) offsetof(struct sandbox_options, field)
static const struct opt ls_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "only this project", .env = true},
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER", .help = "only this server", .env = true},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
static const struct opt start_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "of this project", .env = true},
    CLOCK_GATE_OPT(AT(clock_wait)),
    CLI_COMMON_OPTS,
    {.name = NULL},
};
static const struct opt stop_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "of this project", .env = true},
    {.name = "timeout", .type = OPT_USEC, .offset = AT(timeout), .min = 1000000, .max = 600000000, .arg = "TIME",
     .help = "how long its program has to end before it is killed (its own, 10s)"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
static const struct opt rm_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "of this project", .env = true},
    {.name = "force", .letter = 'f', .type = OPT_BOOL, .offset = AT(force), .help = "although it runs"},
    {.name = "volumes", .letter = 'v', .type = OPT_BOOL, .offset = AT(volumes), .help = "its volumes and the snapshot of its workspace as well"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* --- Shared --- */

int sandbox_ref(const char *operand, const char *project, struct service_name *name, Davit__Control__V1__SandboxRef *ret, struct err *err)
{
    struct str rest = str_from(operand);
    struct str first = str_cut(&rest, '/');
    bool whole = memchr(operand, '/', strlen(operand)) != NULL;
    struct str p = whole ? first : str_from(project ? project : ""), n = whole ? rest : first;
    davit__control__v1__sandbox_ref__init(ret);
    if (!n.n || (whole && !p.n) || str_copy(name->project, sizeof(name->project), p) < 0 || str_copy(name->service, sizeof(name->service), n) < 0) {
        (void)err_set(err, ERR_INVALID, "\"%.80s\" names no sandbox", operand);
        err_hint(err, "NAME, PROJECT/NAME, or the beginning of an id");
        return -(int)ERR_INVALID;
    }
    ret->project = name->project;
    ret->name = name->service;
    return 0;
}

char *sandbox_title(const Davit__Common__V1__Sandbox *s)
{
    return *s->project ? str_printf("%s/%s", s->project, s->name) : str_dup(str_from(s->name));
}

const char *sandbox_state_word(int state)
{
    static const char *const words[] = {"-", "creating", "starting", "running", "stopped", "failed", "removed"};
    return state >= 0 && (size_t)state < sizeof(words) / sizeof(words[0]) ? words[state] : "-";
}

static void show_step(const struct cli *cli, const Davit__Common__V1__StepProgress *p)
{
    if (!p || !cli->progress || p->state == DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_DONE)
        return;
    /* A step without a word of its own is over at once. */
    if (!*p->message)
        return;
    AUTO_FREE char *message = out_clean(str_from(p->message));
    out_note(cli, "davit: %s", message);
}

int sandbox_follow(struct cli *cli, struct rpc_stream *stream, Davit__Control__V1__RunSandboxResponse **ret, struct err *err)
{
    for (;;) {
        ProtobufCMessage *message = NULL;
        int rc = rpc_stream_get(stream, USEC_INFINITY, &message, err);
        if (rc == 1)
            return err_set(err, ERR_UNAVAILABLE, "the control plane did not say what became of the sandbox");
        if (rc < 0)
            return rc;
        Davit__Control__V1__RunSandboxResponse *m = (void *)message;
        if (m->sandbox) {
            *ret = m;
            return 0;
        }
        show_step(cli, m->progress);
        (void)rpc_message_free(m);
    }
}

/* --- ls --- */

/* Running, and who it is has not been settled: the reason, else the step that it is at. */
static char *what_of(const Davit__Common__V1__Sandbox *s)
{
    bool ended = s->state == DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_STOPPED;
    if (ended && s->oom_killed)
        return str_printf("exit code %d, out of memory", s->exit_code);
    if (ended)
        return str_printf("exit code %d", s->exit_code);
    AUTO_FREE char *message = out_clean(str_from(s->message));
    AUTO_FREE char *step = *s->step ? str_printf("step %s (%u of %u)", s->step, s->step_index, s->step_total) : NULL;
    AUTO_BUF text = BUF_INIT(8192);
    const char *parts[] = {step, s->reason, message};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (parts[i] && *parts[i])
            (void)buf_printf(&text, "%s%s", text.len ? ": " : "", parts[i]);
    return text.len ? buf_take(&text) : NULL;
}

static const char *trust_word(int trust)
{
    static const char *const words[] = {"-", "unregistered", "registered", "untrusted"};
    return trust >= 0 && (size_t)trust < sizeof(words) / sizeof(words[0]) ? words[trust] : "-";
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    static const char *const heads[] = {"SANDBOX", "STATE", "TRUST", "IMAGE", "NETWORK", "STARTED", "REASON", NULL};
    const struct sandbox_options *o = options;
    Davit__Control__V1__ListSandboxesRequest q = DAVIT__CONTROL__V1__LIST_SANDBOXES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct out_table t;
    (void)operands;
    (void)n;
    if (o->project)
        q.project = (char *)(uintptr_t)o->project;
    if (o->server)
        q.server = (char *)(uintptr_t)o->server;
    int rc = cli_call(cli, &davit_control_v1_sandbox_service, "ListSandboxes", &q.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListSandboxesResponse *m = (const void *)message;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        out_table_init(&t, heads);
        for (size_t i = 0; i < m->n_sandboxes; i++) {
            const Davit__Common__V1__Sandbox *s = m->sandboxes[i];
            char *cells[] = {sandbox_title(s), str_dup(str_from(sandbox_state_word((int)s->state))), str_dup(str_from(trust_word((int)s->trust))),
                             str_dup(str_from(s->image)), str_dup(s->open_network ? STR("open") : STR("none")), out_age(s->started_at_us),
                             what_of(s)};
            out_table_row(&t, cells);
        }
        out_table_print(cli, &t);
        out_table_release(&t);
        if (!m->n_sandboxes)
            out_note(cli, "No sandbox yet. `davit run IMAGE` makes one.");
    }
    (void)rpc_message_free(message);
    return rc;
}

/* --- start, stop, rm --- */

static int run_start(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct sandbox_options *o = options;
    Davit__Control__V1__SandboxRequest q = DAVIT__CONTROL__V1__SANDBOX_REQUEST__INIT;
    Davit__Control__V1__RunSandboxResponse *m = NULL;
    Davit__Control__V1__SandboxRef ref;
    struct service_name name;
    struct rpc_stream *stream = NULL;
    (void)n;
    int rc = sandbox_ref(operands[0], o->project, &name, &ref, err);
    q.target = &ref;
    if (rc == 0)
        rc = clock_gate(cli, o->clock_wait, err);
    if (rc == 0)
        rc = rpc_stream_open(cli->channel, &davit_control_v1_sandbox_service, "StartSandbox", USEC_INFINITY, &stream, err);
    if (rc == 0)
        rc = rpc_stream_put(stream, &q.base, deadline_in(CALL_TIMEOUT), err);
    if (rc == 0) {
        rpc_stream_half_close(stream);
        rc = sandbox_follow(cli, stream, &m, err);
    }
    if (rc == 0 && cli->json) {
        rc = out_message(&m->sandbox->base, err);
    } else if (rc == 0) {
        AUTO_FREE char *title = sandbox_title(m->sandbox);
        printf("%s: %s\n", title, sandbox_state_word((int)m->sandbox->state));
    }
    (void)rpc_message_free(m);
    stream = rpc_stream_close(stream);
    return rc;
}

static int print_outcome(const struct cli *cli, const ProtobufCMessage *message, struct err *err)
{
    const Davit__Control__V1__SandboxResponse *m = (const void *)message;
    if (cli->json)
        return out_message(message, err);
    AUTO_FREE char *title = sandbox_title(m->sandbox);
    AUTO_FREE char *outcome = out_clean(str_from(*m->outcome ? m->outcome : sandbox_state_word((int)m->sandbox->state)));
    printf("%s: %s\n", title, outcome);
    return 0;
}

static int run_stop(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct sandbox_options *o = options;
    Davit__Control__V1__SandboxRequest q = DAVIT__CONTROL__V1__SANDBOX_REQUEST__INIT;
    Davit__Control__V1__SandboxRef ref;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = sandbox_ref(operands[i], o->project, &name, &ref, err);
        q.target = &ref;
        q.stop_timeout_s = (uint32_t)(o->timeout / USEC_SEC);
        if (rc == 0)
            rc = cli_call(cli, &davit_control_v1_sandbox_service, "StopSandbox", &q.base, ACTION_TIMEOUT, &message, err);
        if (rc == 0)
            rc = print_outcome(cli, message, err);
        message = rpc_message_free(message);
    }
    return rc;
}

static int run_rm(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct sandbox_options *o = options;
    Davit__Control__V1__RemoveSandboxRequest q = DAVIT__CONTROL__V1__REMOVE_SANDBOX_REQUEST__INIT;
    Davit__Control__V1__SandboxRef ref;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = sandbox_ref(operands[i], o->project, &name, &ref, err);
        q.target = &ref;
        q.force = o->force;
        q.volumes = o->volumes;
        if (rc == 0)
            rc = cli_call(cli, &davit_control_v1_sandbox_service, "RemoveSandbox", &q.base, ACTION_TIMEOUT, &message, err);
        if (rc == 0)
            rc = print_outcome(cli, message, err);
        message = rpc_message_free(message);
    }
    return rc;
}

static const struct verb subs[] = {
    {
        .name = "ls",
        .usage = "[OPTIONS]",
        .about = "list sandboxes: what they do, and whether they are registered",
        .example = "davit sandbox ls\ndavit sandbox ls --output json",
        .opts = ls_opts,
        .opts_size = sizeof(struct sandbox_options),
        .run = run_ls,
    },
    {
        .name = "start",
        .usage = "[OPTIONS] [PROJECT/]NAME",
        .about = "start a sandbox again",
        .example = "davit sandbox start shop/dev",
        .wakes = true,
        .opts = start_opts,
        .opts_size = sizeof(struct sandbox_options),
        .min_operands = 1,
        .max_operands = 1,
        .run = run_start,
    },
    {
        .name = "stop",
        .usage = "[OPTIONS] [PROJECT/]NAME...",
        .about = "end the programs of sandboxes",
        .example = "davit sandbox stop shop/dev",
        .opts = stop_opts,
        .opts_size = sizeof(struct sandbox_options),
        .min_operands = 1,
        .max_operands = CLI_OPERANDS_MAX,
        .run = run_stop,
    },
    {
        .name = "rm",
        .usage = "[OPTIONS] [PROJECT/]NAME...",
        .about = "remove sandboxes; one that runs with --force",
        .example = "davit sandbox rm shop/dev\ndavit sandbox rm --force --volumes shop/dev",
        .opts = rm_opts,
        .opts_size = sizeof(struct sandbox_options),
        .min_operands = 1,
        .max_operands = CLI_OPERANDS_MAX,
        .run = run_rm,
    },
    {
        .name = "attach",
        .usage = "[OPTIONS] [PROJECT/]NAME",
        .about = "take the terminal of a sandbox; ctrl-p ctrl-q lets go of it",
        .example = "davit sandbox attach shop/dev",
        .opts = sandbox_attach_opts,
        .opts_size = sizeof(struct sandbox_attach_options),
        .min_operands = 1,
        .max_operands = 1,
        .run = sandbox_run_attach,
    },
    {
        .name = "exec",
        .usage = "[OPTIONS] [PROJECT/]NAME -- COMMAND...",
        .about = "run one more command in a sandbox",
        .example = "davit sandbox exec shop/dev -- sh",
        .opts = sandbox_exec_opts,
        .opts_size = sizeof(struct exec_options),
        .min_operands = 1,
        .max_operands = CLI_OPERANDS_MAX,
        .command = 2,
        .run = sandbox_run_exec,
    },
    {
        .name = "logs",
        .usage = "[OPTIONS] [PROJECT/]NAME",
        .about = "show what a sandbox wrote",
        .example = "davit sandbox logs -f shop/dev",
        .opts = sandbox_logs_opts,
        .opts_size = sizeof(struct sandbox_logs_options),
        .min_operands = 1,
        .max_operands = 1,
        .run = sandbox_run_logs,
    },
    {.name = NULL},
};

const struct verb verb_sandbox = {
    .name = "sandbox",
    .group = "Sandboxes",
    .about = "ls, start, stop, rm, attach, exec, logs: contained programs",
    .sub = subs,
};
