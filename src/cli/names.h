/* SPDX-License-Identifier: Apache-2.0 */
/* names — words for states, and the "PROJECT/SERVICE" operand that verbs share. Thread: any. */
#ifndef DAVIT_CLI_NAMES_H
#define DAVIT_CLI_NAMES_H

#include "base/err.h"
#include "base/str.h"

/* Word for a davit.common.v1.DeploymentState; "-" for none. */
const char *deployment_state_name(int state);

struct service_name {
    char project[64];
    char service[64];
};
/* "project/service", or "service" alone: then the project is @project. -ERR_INVALID with the right form. */
int service_name_parse(const char *operand, const char *project, struct service_name *ret, struct err *err) MUST_USE;

#endif
