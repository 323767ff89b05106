/* SPDX-License-Identifier: Apache-2.0 */
/* lists — what ListDeployments, ListServices and Stats answer, made once for the calls and for who watches.
 * Ownership: answers are whole messages of their own (rpc_message_free).  Limits: LISTS_*.  Thread: fibers, but for lists_usage.
 * Input trust: names from users. */
#ifndef DAVIT_CONTROL_LISTS_H
#define DAVIT_CONTROL_LISTS_H

#include "control/servers/servers.h"
#include "davit/control/v1/workloads.pb-c.h"

enum { LISTS_DEPLOYMENTS = 50, LISTS_DEPLOYMENTS_MAX = 500, LISTS_SERVICES_MAX = 5000, LISTS_ROWS_MAX = 5000 };

/* Waits: services with their containers; "": all projects, all servers. */
int lists_read_services(struct control *c, const char *project, const char *server_id, Davit__Control__V1__ListServicesResponse **ret,
                        struct err *err) MUST_USE;
/* Waits: the newest @limit deployments, the newest first; "": all projects, all services; 0: LISTS_DEPLOYMENTS. -ERR_INVALID for a limit that is
 * not allowed. */
int lists_read_deployments(struct control *c, const char *project, const char *service, uint32_t limit,
                           Davit__Control__V1__ListDeploymentsResponse **ret, struct err *err) MUST_USE;
/* Waits: a list of the one deployment @id. -ERR_NOT_FOUND. */
int lists_read_deployment(struct control *c, const char *id, Davit__Control__V1__ListDeploymentsResponse **ret, struct err *err) MUST_USE;
/* Appends rows of the last samples of @s and its containers that fit the filter (NULL or "": all; the host only without one) to @rows, which has
 * room for @max. */
void lists_usage(const struct server *s, const char *project, const char *service, Davit__Control__V1__UsageRow **rows, size_t *n, size_t max);

#endif
