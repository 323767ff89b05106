/* SPDX-License-Identifier: Apache-2.0 */
/* rollback — deploys once more what was active before: image, environment, port, health check, limits and hostnames. */
#include <stdio.h>

#include "cli/follow.h"
#include "cli/names.h"
#include "cli/out.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"

static const usec_t CALL_TIMEOUT = 30 * USEC_SEC;

struct rollback_options {
    struct cli_common common;
    const char *project, *to;
    usec_t timeout;
    bool detach;
};

#define AT(field) offsetof(struct rollback_options, field)
static const struct opt rollback_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .def = "default", .arg = "NAME", .help = "project", .env = true},
    {.name = "to", .type = OPT_STRING, .offset = AT(to), .arg = "DEPLOYMENT",
     .help = "one that was active once, as davit deployments lists them; by default the one before the present one"},
    {.name = "detach", .letter = 'd', .type = OPT_BOOL, .offset = AT(detach), .help = "do not wait for the outcome"},
    {.name = "timeout", .type = OPT_USEC, .offset = AT(timeout), .min = 1000000, .max = 86400000000, .arg = "TIME", .def = "15m",
     .help = "how long to follow it"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* As a deployment, which it is. */
static int follow(struct cli *cli, const struct rollback_options *o, const struct service_name *name,
                  const Davit__Control__V1__RollbackResponse *r, struct err *err)
{
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    Davit__Control__V1__DeployResponse deployment = DAVIT__CONTROL__V1__DEPLOY_RESPONSE__INIT;

    spec.project = (char *)(uintptr_t)name->project;
    spec.name = (char *)(uintptr_t)name->service;
    deployment.deployment_id = r->deployment_id;
    deployment.server_name = r->server_name;
    if (o->detach && cli->json)
        return out_message(&r->base, err);
    if (o->detach)
        return follow_skip(cli, &spec, &deployment, true, err);
    out_note(cli, "back to deployment %.8s", r->source_deployment_id);
    return follow_deployment(cli, &spec, &deployment, deadline_in(o->timeout), err);
}

static int run_rollback(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct rollback_options *o = options;
    Davit__Control__V1__RollbackRequest req = DAVIT__CONTROL__V1__ROLLBACK_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    char request_id[37];
    int rc = service_name_parse(operands[0], o->project, &name, err);

    (void)n;
    if (rc < 0)
        return rc;
    rng_uuid(request_id);
    req.project = name.project;
    req.service = name.service;
    req.request_id = request_id;
    if (o->to)
        req.deployment_id = (char *)(uintptr_t)o->to;
    rc = cli_call(cli, &davit_control_v1_workload_service, "Rollback", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    rc = follow(cli, o, &name, (const void *)message, err);
    rpc_message_free(message);
    return rc;
}

const struct verb verb_rollback = {
    .name = "rollback",
    .group = "Services",
    .usage = "[OPTIONS] [PROJECT/]SERVICE",
    .about = "deploy what was active before once more, as it was",
    .example = "davit rollback shop/web\ndavit rollback shop/web --to 3ea6b93e",
    .opts = rollback_opts,
    .opts_size = sizeof(struct rollback_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = run_rollback,
};
