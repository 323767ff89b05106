/* SPDX-License-Identifier: Apache-2.0 */
/* workloads — what the handlers of WorkloadService share: finding services and their containers.  Thread: loop, fibers.
 * Input trust: names from users. */
#ifndef DAVIT_CONTROL_WORKLOADS_H
#define DAVIT_CONTROL_WORKLOADS_H

#include "control/servers/servers.h"
#include "davit/control/v1/workloads.pb-c.h"

/* The row of a service. */
struct service_row {
    char server_id[37];
    char newest[40], active[40];
    uint32_t replicas;
};

/* Waits: the row of a service. -ERR_NOT_FOUND with advice. */
int workloads_service(struct control *c, const char *project, const char *service, struct service_row *ret,
                      struct err *err) MUST_USE;
/* Waits: the server of @row. -ERR_NOT_FOUND: it was removed. */
int workloads_server(struct control *c, const struct service_row *row, struct server **ret, struct err *err) MUST_USE;
/* How long a call may wait for an agent: @wait_s, or @none where it is 0, in microseconds. -ERR_INVALID beyond ten minutes. */
int workloads_wait(uint32_t wait_s, uint32_t none, usec_t *ret, struct err *err) MUST_USE;
/* The container of a service as its server reports it: that of deployment @prefer if there is one, else the one that started last; NULL: none.
 * Borrowed until anything waits. */
const Davit__Common__V1__Container *workloads_container(const struct server *s, const char *project, const char *service,
                                                        const char *prefer);

/* Handlers, in files of their own. */
rpc_run deploys_deploy, deploys_watch;
rpc_run cancels_cancel, rollbacks_rollback;
rpc_run lists_deployments, lists_services, lists_stats;
rpc_run logs_run;

#endif
