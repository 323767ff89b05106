/* SPDX-License-Identifier: Apache-2.0 */
/* control — start, stop, restart, rm of a service: each waits for the agent's answer; a repeat is harmless and says so. */
#include <stdio.h>

#include "cli/names.h"
#include "cli/out.h"
#include "davit/control/v1/environment.davit.h"
#include "davit/control/v1/environment.pb-c.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"

static const usec_t LOOK_TIMEOUT = 5 * USEC_SEC;

struct control_options {
    struct cli_common common;
    const char *project;
    usec_t stop_timeout, wait;
    bool volumes, variables, forget;
};

#define AT(field) offsetof(struct control_options, field)
#define PROJECT_OPT \
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .def = "default", .arg = "NAME", .help = "project", .env = true}
#define WAIT_OPT                                                                                                       \
    {.name = "wait", .type = OPT_USEC, .offset = AT(wait), .min = 1000000, .max = 3600000000, .def = "60s", .arg = "TIME", \
     .help = "how long to wait for the server"}

static const struct opt control_opts[] = {
    PROJECT_OPT,
    {.name = "time", .letter = 't', .type = OPT_USEC, .offset = AT(stop_timeout), .min = 1000000, .max = 3600000000, .def = "10s", .arg = "TIME",
     .help = "from the stop signal until the process is killed"},
    WAIT_OPT,
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static const struct opt start_opts[] = {
    PROJECT_OPT,
    WAIT_OPT,
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static const struct opt rm_opts[] = {
    PROJECT_OPT,
    {.name = "volumes", .type = OPT_BOOL, .offset = AT(volumes), .help = "also remove the named volumes that only this service used"},
    {.name = "variables", .type = OPT_BOOL, .offset = AT(variables), .help = "also remove what `davit env` keeps for it"},
    {.name = "forget", .type = OPT_BOOL, .offset = AT(forget), .help = "drop it from the records although its server cannot be reached"},
    WAIT_OPT,
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int finish(struct cli *cli, ProtobufCMessage *message, const struct service_name *name, const char *outcome, struct err *err)
{
    int rc = 0;

    if (cli->json) {
        rc = out_message(message, err);
    } else {
        AUTO_FREE char *clean = out_clean(str_from(outcome));
        printf("%s/%s: %s\n", name->project, name->service, clean);
    }
    rpc_message_free(message);
    return rc;
}

static int control(struct cli *cli, const char *action, const void *options, const char **operands, struct err *err)
{
    const struct control_options *o = options;
    Davit__Control__V1__ControlServiceRequest req = DAVIT__CONTROL__V1__CONTROL_SERVICE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    int rc = service_name_parse(operands[0], o->project, &name, err);

    if (rc < 0)
        return rc;
    req.project = name.project;
    req.service = name.service;
    req.action = (char *)(uintptr_t)action;
    req.stop_timeout_s = (uint32_t)(o->stop_timeout / USEC_SEC);
    req.wait_s = (uint32_t)(o->wait / USEC_SEC);
    rc = cli_call(cli, &davit_control_v1_workload_service, "ControlService", &req.base, o->wait + 5 * USEC_SEC, &message, err);
    if (rc < 0)
        return rc;
    return finish(cli, message, &name, ((Davit__Control__V1__ControlServiceResponse *)(void *)message)->outcome, err);
}

static int run_start(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)n;
    return control(cli, "start", options, operands, err);
}
static int run_stop(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)n;
    return control(cli, "stop", options, operands, err);
}
static int run_restart(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)n;
    return control(cli, "restart", options, operands, err);
}

static size_t volumes_of(struct cli *cli, const struct service_name *name)
{
    Davit__Control__V1__ListDeploymentsRequest req = DAVIT__CONTROL__V1__LIST_DEPLOYMENTS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    req.project = (char *)(uintptr_t)name->project;
    req.service = (char *)(uintptr_t)name->service;
    req.limit = 1;
    if (cli_call(cli, &davit_control_v1_workload_service, "ListDeployments", &req.base, LOOK_TIMEOUT, &message, NULL) < 0)
        return 0;
    const Davit__Control__V1__ListDeploymentsResponse *m = (const void *)message;
    size_t n = m->n_deployments && m->deployments[0]->spec ? m->deployments[0]->spec->n_volumes : 0;
    rpc_message_free(message);
    return n;
}

static size_t variables_of(struct cli *cli, const struct service_name *name)
{
    Davit__Control__V1__ListVariablesRequest req = DAVIT__CONTROL__V1__LIST_VARIABLES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    req.project = (char *)(uintptr_t)name->project;
    req.service = (char *)(uintptr_t)name->service;
    if (cli_call(cli, &davit_control_v1_environment_service, "ListVariables", &req.base, LOOK_TIMEOUT, &message, NULL) < 0)
        return 0;
    size_t n = ((const Davit__Control__V1__ListVariablesResponse *)(const void *)message)->n_variables;
    rpc_message_free(message);
    return n;
}

/* It is removed all the same where this cannot be asked for. */
static void tell_what_stays(struct cli *cli, const struct control_options *o, const struct service_name *name)
{
    size_t volumes = o->volumes ? 0 : volumes_of(cli, name), variables = o->variables ? 0 : variables_of(cli, name);

    if (volumes)
        out_note(cli, "Its volumes stay: `davit volume ls`.");
    if (variables)
        out_note(cli, "What is stored of its variables stays: `davit env ls %s/%s`.", name->project, name->service);
}

static int run_rm(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct control_options *o = options;
    Davit__Control__V1__RemoveServiceRequest req = DAVIT__CONTROL__V1__REMOVE_SERVICE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    int rc = service_name_parse(operands[0], o->project, &name, err);

    (void)n;
    if (rc < 0)
        return rc;
    req.project = name.project;
    req.service = name.service;
    req.volumes = o->volumes;
    req.variables = o->variables;
    req.forget = o->forget;
    req.wait_s = (uint32_t)(o->wait / USEC_SEC);
    rc = cli_call(cli, &davit_control_v1_workload_service, "RemoveService", &req.base, o->wait + 5 * USEC_SEC, &message, err);
    if (rc < 0)
        return rc;
    rc = finish(cli, message, &name, ((Davit__Control__V1__RemoveServiceResponse *)(void *)message)->outcome, err);
    if (rc == 0 && !cli->json)
        tell_what_stays(cli, o, &name);
    return rc;
}

#define CONTROL_VERB(word, options_, text)                                                                                                  \
    const struct verb verb_##word = {                                                                                                       \
        .name = #word,                                                                                                                      \
        .group = "Services",                                                                                                                \
        .usage = "[OPTIONS] [PROJECT/]SERVICE",                                                                                             \
        .about = text,                                                                                                                      \
        .example = "davit " #word " shop/web",                                                                                              \
        .opts = options_,                                                                                                                   \
        .opts_size = sizeof(struct control_options),                                                                                        \
        .min_operands = 1,                                                                                                                  \
        .max_operands = 1,                                                                                                                  \
        .run = run_##word,                                                                                                                  \
    }

CONTROL_VERB(start, start_opts, "start a stopped service");
CONTROL_VERB(stop, control_opts, "stop a service; it stays deployed");
CONTROL_VERB(restart, control_opts, "stop and start a service");

const struct verb verb_rm = {
    .name = "rm",
    .group = "Services",
    .usage = "[OPTIONS] [PROJECT/]SERVICE",
    .about = "remove a service and its containers; volumes and variables stay unless named",
    .example = "davit rm shop/web\ndavit rm --volumes shop/db",
    .opts = rm_opts,
    .opts_size = sizeof(struct control_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = run_rm,
};
