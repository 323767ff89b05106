/* SPDX-License-Identifier: Apache-2.0 */
/* exec — `davit exec`: a process in a container, as if it ran here (program.h). */
#include "cli/exec.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/names.h"
#include "cli/program.h"
#include "cli/terminal.h"
#include "davit/control/v1/containers.davit.h"

#define FIRST_WAIT (30 * USEC_SEC)

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

static int put_input(struct rpc_stream *stream, ProtobufCBinaryData bytes, bool ends)
{
    Davit__Control__V1__ExecRequest q = DAVIT__CONTROL__V1__EXEC_REQUEST__INIT;
    q.input = bytes;
    q.input_ends = ends;
    return rpc_stream_put(stream, &q.base, USEC_INFINITY, NULL);
}

static int put_size(struct rpc_stream *stream, unsigned rows, unsigned columns)
{
    Davit__Control__V1__ExecRequest q = DAVIT__CONTROL__V1__EXEC_REQUEST__INIT;
    q.rows = rows;
    q.columns = columns;
    return rpc_stream_put(stream, &q.base, USEC_INFINITY, NULL);
}

static void read_output(const ProtobufCMessage *message, struct program_output *ret)
{
    const Davit__Control__V1__ExecResponse *m = (const Davit__Control__V1__ExecResponse *)message;
    *ret = (struct program_output){m->output, m->error_output, m->ended, m->exit_code};
}

static const struct program_kind kind = {put_input, put_size, read_output};

static int begin(struct cli *cli, struct program *s, struct request *r, struct err *err)
{
    Davit__Control__V1__ExecRequest q = DAVIT__CONTROL__V1__EXEC_REQUEST__INIT;
    q.start = &r->start;
    int rc = cli_connect(cli, err);
    if (rc == 0)
        rc = rpc_stream_open(cli->channel, &davit_control_v1_exec_service, "Exec", USEC_INFINITY, &s->stream, err);
    return rc == 0 ? rpc_stream_put(s->stream, &q.base, deadline_in(FIRST_WAIT), err) : rc;
}

int exec_run(struct cli *cli, const struct exec_options *o, const char **operands, size_t n, struct err *err)
{
    struct request *r = NEW(struct request);
    int rc = fill(o, operands, n, r, err);
    struct program p = {.kind = &kind, .tty = r->start.tty, .input = r->start.stdin};
    if (rc == 0)
        rc = begin(cli, &p, r, err);
    if (rc == 0)
        rc = program_run(cli, &p, err);
    p.stream = rpc_stream_close(p.stream);
    for (size_t i = 0; i < OPT_LIST_MAX; i++)
        free(r->names[i]);
    free(r);
    return rc;
}

static int run_exec(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    return exec_run(cli, options, operands, n, err);
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
