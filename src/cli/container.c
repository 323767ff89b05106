/* SPDX-License-Identifier: Apache-2.0 */
/* container — single containers of a server, also those that Davit did not make: ls, start, stop, restart, rm. */
#include "cli/container.h"

#include <stdio.h>

#include "cli/out.h"
#include "davit/control/v1/containers.davit.h"
#include "davit/control/v1/containers.pb-c.h"

static const usec_t CALL_TIMEOUT = 11 * USEC_MINUTE;

struct container_options {
    struct cli_common common;
    const char *server;
    bool force, all;
    usec_t timeout;
};

#define AT(field) offsetof(struct container_options, field)
#define SERVER_OPT                                                                                                            \
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER",                              \
     .help = "which server; needed if there are several"}
#define FORCE_OPT                                                                                                             \
    {.name = "force", .type = OPT_BOOL, .offset = AT(force),                                                                  \
     .help = "also one of a service, Davit's own ingress, and to remove one that runs"}
static const struct opt ls_opts[] = {
    {.name = "all", .letter = 'a', .type = OPT_BOOL, .offset = AT(all), .help = "also those that Davit did not make"},
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER", .help = "only this server"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
static const struct opt start_opts[] = {FORCE_OPT, SERVER_OPT, CLI_COMMON_OPTS, {.name = NULL}};
static const struct opt stop_opts[] = {
    FORCE_OPT, SERVER_OPT,
    {.name = "stop-timeout", .type = OPT_USEC, .offset = AT(timeout), .max = 300000000, .def = "10s", .arg = "TIME",
     .help = "how long it may take to stop before it is killed"},
    CLI_COMMON_OPTS, {.name = NULL}};

/* ---- ls ---- */

static char *ports_text(const Davit__Common__V1__Container *c)
{
    AUTO_BUF text = BUF_INIT(4096);

    for (size_t i = 0; i < c->n_ports; i++)
        (void)buf_printf(&text, "%s%s:%u->%u/%s", i ? ", " : "", c->ports[i]->host_ip, c->ports[i]->host_port, c->ports[i]->container_port,
                         *c->ports[i]->protocol ? c->ports[i]->protocol : "tcp");
    return text.len ? buf_take(&text) : NULL;
}

static char *whose(const Davit__Common__V1__Container *c)
{
    if (*c->role)
        return str_printf("davit %s", c->role);
    return c->foreign ? str_dup(STR("not Davit's")) : str_printf("%s/%s", c->project, c->service);
}

static char *state_text(const Davit__Common__V1__Container *c)
{
    if (str_eq(str_from(c->state), STR("exited")))
        return str_printf("exited %lld", (long long)c->exit_code);
    if (*c->health && !str_eq(str_from(c->health), STR("none")))
        return str_printf("%s (%s)", c->state, c->health);
    return str_dup(str_from(c->state));
}

void container_table(struct cli *cli, const Davit__Control__V1__ListContainersResponse *list, bool others)
{
    static const char *const heads[] = {"CONTAINER", "OF", "STATE", "IMAGE", "PORTS", "ID", NULL};
    struct out_table t;

    out_table_init(&t, heads);
    for (size_t i = 0; i < list->n_containers; i++) {
        const Davit__Common__V1__Container *c = list->containers[i];
        if (others && !c->foreign && !*c->role)
            continue;
        char *cells[] = {str_dup(str_from(c->name)), whose(c), state_text(c), str_dup(str_from(c->image)), ports_text(c), str_printf("%.12s", c->id)};
        out_table_row(&t, cells);
    }
    out_table_print(cli, &t);
    out_table_release(&t);
}

int container_list(struct cli *cli, const char *server, bool all, ProtobufCMessage **ret, struct err *err)
{
    Davit__Control__V1__ListContainersRequest req = DAVIT__CONTROL__V1__LIST_CONTAINERS_REQUEST__INIT;

    req.server = (char *)(uintptr_t)(server ? server : "");
    req.all = all;
    return cli_call(cli, &davit_control_v1_container_service, "ListContainers", &req.base, 15 * USEC_SEC, ret, err);
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct container_options *o = options;
    ProtobufCMessage *message = NULL;

    (void)operands;
    (void)n;
    int rc = container_list(cli, o->server, o->all, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        container_table(cli, (const void *)message, false);
    rpc_message_free(message);
    return rc;
}

/* ---- start, stop, restart, rm ---- */

static int act(struct cli *cli, const struct container_options *o, const char *container, const char *action, struct err *err)
{
    Davit__Control__V1__ControlContainerRequest req = DAVIT__CONTROL__V1__CONTROL_CONTAINER_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    req.server = (char *)(uintptr_t)(o->server ? o->server : "");
    req.container = (char *)(uintptr_t)container;
    req.action = (char *)(uintptr_t)action;
    req.stop_timeout_s = (uint32_t)((o->timeout + USEC_SEC - 1) / USEC_SEC);
    req.force = o->force;
    int rc = cli_call(cli, &davit_control_v1_container_service, "ControlContainer", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        printf("%s: %s\n", container, ((const Davit__Control__V1__ControlContainerResponse *)(const void *)message)->outcome);
    rpc_message_free(message);
    return rc;
}

static int run_start(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)n;
    return act(cli, options, operands[0], "start", err);
}

static int run_stop(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)n;
    return act(cli, options, operands[0], "stop", err);
}

static int run_restart(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)n;
    return act(cli, options, operands[0], "restart", err);
}

static int run_rm(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)n;
    return act(cli, options, operands[0], "remove", err);
}

#define ACTION(verb, text, options, run_fn, line)                                                                             \
    {.name = (verb), .usage = "[OPTIONS] CONTAINER", .about = (text), .opts = (options), .opts_size = sizeof(struct container_options), \
     .min_operands = 1, .max_operands = 1, .run = (run_fn), .example = (line)}
static const struct verb container_verbs[] = {
    {.name = "ls", .usage = "[OPTIONS]", .about = "list containers one by one", .opts = ls_opts, .opts_size = sizeof(struct container_options),
     .run = run_ls, .example = "davit container ls --all --server web-1"},
    ACTION("start", "start one", start_opts, run_start, "davit container start --server web-1 old-proxy"),
    ACTION("stop", "stop one", stop_opts, run_stop, "davit container stop --server web-1 old-proxy"),
    ACTION("restart", "stop and start one", stop_opts, run_restart, "davit container restart --server web-1 old-proxy"),
    ACTION("rm", "remove one; its volumes stay", start_opts, run_rm, "davit container rm --server web-1 old-proxy"),
    {.name = NULL},
};

const struct verb verb_container = {
    .name = "container",
    .group = "Servers",
    .about = "ls, start, stop, restart, rm: single containers, also those that Davit did not make",
    .sub = container_verbs,
};
