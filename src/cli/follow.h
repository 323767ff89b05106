/* SPDX-License-Identifier: Apache-2.0 */
/* follow — shows a deployment while it happens: on a terminal one line per step that is redrawn, elsewhere one plain line per change, with JSON one
 * object per event on stdout.
 * Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_FOLLOW_H
#define DAVIT_CLI_FOLLOW_H

#include "cli/cli.h"
#include "davit/control/v1/workloads.pb-c.h"

/* Until it ended or @deadline (then it goes on without us and the message says so). 0 active; 1 failed, reason shown; negative. A lost connection to
 * the control plane is taken up again. */
int follow_deployment(struct cli *cli, const Davit__Common__V1__ServiceSpec *spec,
                      const Davit__Control__V1__DeployResponse *response, usec_t deadline, struct err *err) MUST_USE;
/* Says that nothing is followed: the deployment was unchanged, or the user detached. */
int follow_skip(struct cli *cli, const Davit__Common__V1__ServiceSpec *spec, const Davit__Control__V1__DeployResponse *response,
                bool detached, struct err *err) MUST_USE;

#endif
