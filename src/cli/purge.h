/* SPDX-License-Identifier: Apache-2.0 */
/* purge — removes what Davit made on this machine, for `davit down --purge`: containers, networks and volumes that carry the label of this
 * server, then configuration, state, sockets, logs and the account that `up` created. Nothing without our label is touched.
 * Thread: loop, on a fiber, with both daemons stopped. */
#ifndef DAVIT_CLI_PURGE_H
#define DAVIT_CLI_PURGE_H

#include "cli/cli.h"

/* Does the agent of this machine serve another control plane than the one here (it was enrolled by token)? 1 yes, 0 no or there is none. */
int agent_is_foreign(const struct cli *cli, struct err *err) MUST_USE;

/* 0 also when there is nothing. A Docker Engine that does not answer is an error unless the agent never had a server id: else its containers
 * would be left without anybody who knows them. */
int purge_all(struct cli *cli, struct err *err) MUST_USE;

/* Id under which the native agent of this machine knows itself; NULL: it does not. The caller frees. */
char *agent_server_id(const struct cli *cli) MUST_USE;

#endif
