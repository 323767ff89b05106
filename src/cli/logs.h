/* SPDX-License-Identifier: Apache-2.0 */
/* logs — what `davit logs` and `davit sandbox logs` have in common.  Thread: main, on a fiber. */
#ifndef DAVIT_CLI_LOGS_H
#define DAVIT_CLI_LOGS_H

#include "cli/cli.h"
#include "davit/control/v1/workloads.pb-c.h"

/* Waits: prints what @q asks for until it ends. */
int logs_show(struct cli *cli, const Davit__Control__V1__LogsRequest *q, bool timestamps, struct err *err) MUST_USE;

#endif
