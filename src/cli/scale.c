/* SPDX-License-Identifier: Apache-2.0 */
/* scale — more or fewer containers of a service. */
#include <stdio.h>

#include "cli/names.h"
#include "cli/out.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"
#include "spec/spec.h"

struct scale_options {
    struct cli_common common;
    const char *project;
    usec_t wait;
};

#define AT(field) offsetof(struct scale_options, field)
static const struct opt scale_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .def = "default", .arg = "NAME", .help = "project", .env = true},
    {.name = "wait", .type = OPT_USEC, .offset = AT(wait), .min = 1000000, .max = 600000000, .def = "300s", .arg = "TIME",
     .help = "how long to wait for the server"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int run_scale(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct scale_options *o = options;
    Davit__Control__V1__ScaleServiceRequest req = DAVIT__CONTROL__V1__SCALE_SERVICE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    uint64_t replicas;
    int rc = service_name_parse(operands[0], o->project, &name, err);

    (void)n;
    if (rc < 0)
        return rc;
    if (str_to_u64(str_from(operands[1]), SPEC_REPLICAS_MAX, &replicas) < 0 || replicas == 0)
        return err_set(err, ERR_INVALID, "\"%.40s\" is no number of containers: 1 to %d", operands[1], SPEC_REPLICAS_MAX);
    req.project = name.project;
    req.service = name.service;
    req.replicas = (uint32_t)replicas;
    req.wait_s = (uint32_t)(o->wait / USEC_SEC);
    rc = cli_call(cli, &davit_control_v1_workload_service, "ScaleService", &req.base, o->wait + 5 * USEC_SEC, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        AUTO_FREE char *outcome = out_clean(str_from(((Davit__Control__V1__ScaleServiceResponse *)(void *)message)->outcome));
        printf("%s/%s: %s\n", name.project, name.service, outcome);
    }
    rpc_message_free(message);
    return rc;
}

const struct verb verb_scale = {
    .name = "scale",
    .group = "Services",
    .usage = "[OPTIONS] [PROJECT/]SERVICE N",
    .about = "run a service in N containers",
    .example = "davit scale shop/web 3",
    .opts = scale_opts,
    .opts_size = sizeof(struct scale_options),
    .min_operands = 2,
    .max_operands = 2,
    .run = run_scale,
};
