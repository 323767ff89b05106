/* SPDX-License-Identifier: Apache-2.0 */
/* cancel — ends a deployment before it is active. */
#include <stdio.h>

#include "cli/names.h"
#include "cli/out.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"

struct cancel_options {
    struct cli_common common;
    usec_t wait;
};

static const struct opt cancel_opts[] = {
    {.name = "wait", .type = OPT_USEC, .offset = offsetof(struct cancel_options, wait), .min = 1000000, .max = 600000000, .def = "60s",
     .arg = "TIME", .help = "how long to wait for the server"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int run_cancel(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct cancel_options *o = options;
    Davit__Control__V1__CancelDeploymentRequest req = DAVIT__CONTROL__V1__CANCEL_DEPLOYMENT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    (void)n;
    req.deployment_id = (char *)(uintptr_t)operands[0];
    req.wait_s = (uint32_t)(o->wait / USEC_SEC);
    int rc = cli_call(cli, &davit_control_v1_workload_service, "CancelDeployment", &req.base, o->wait + 5 * USEC_SEC, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__CancelDeploymentResponse *r = (const void *)message;
    bool over = r->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_CANCELLED;
    if (cli->json)
        rc = out_message(message, err);
    else
        printf("deployment %.8s %s\n", operands[0], over ? "is cancelled" : "will be cancelled as soon as its server is connected");
    rpc_message_free(message);
    return rc;
}

const struct verb verb_cancel = {
    .name = "cancel",
    .group = "Services",
    .usage = "[OPTIONS] DEPLOYMENT",
    .about = "end a deployment before it is active; what was there before goes on",
    .example = "davit cancel 3ea6b93e",
    .opts = cancel_opts,
    .opts_size = sizeof(struct cancel_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = run_cancel,
};
