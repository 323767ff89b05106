/* SPDX-License-Identifier: Apache-2.0 */
/* container — single containers, as the verbs `container` and `ps --all` show them.  Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_CONTAINER_H
#define DAVIT_CLI_CONTAINER_H

#include "cli/cli.h"
#include "davit/control/v1/containers.pb-c.h"

/* Waits. @server NULL: all servers. *ret, a ListContainersResponse: rpc_message_free. */
int container_list(struct cli *cli, const char *server, bool all, ProtobufCMessage **ret, struct err *err) MUST_USE;
/* @others: only what is of no service. */
void container_table(struct cli *cli, const Davit__Control__V1__ListContainersResponse *list, bool others);

#endif
