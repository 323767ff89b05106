/* SPDX-License-Identifier: Apache-2.0 */
/* deploys — records a deployment and queues its command in one transaction: for Deploy and for Rollback.
 * Thread: loop, on fibers.  Input trust: specs from users, checked by spec_check before they come here. */
#ifndef DAVIT_CONTROL_DEPLOYS_H
#define DAVIT_CONTROL_DEPLOYS_H

#include "control/work/workloads.h"

enum { DEPLOYS_REQUEST_ID_MAX = 64 };

/* What a new deployment is made of; all borrowed. */
struct deploy_new {
    const char *request_id; /* the same one, the same deployment; or NULL */
    const char *source;     /* the deployment that it repeats, or NULL */
    const char *triggered_by;
    const Davit__Common__V1__ServiceSpec *spec;  /* complete and checked */
    const Davit__Common__V1__RegistryAuth *auth; /* or NULL */
    bool force;                                  /* although the server is short of disk space */
};
/* Waits: @ret_id is that of the new deployment, or of the one that answered this request before. -ERR_PRECONDITION: the service runs on another
 * server, or the connected agent is too old for what the spec asks; -ERR_EXISTS: a hostname leads to another service there; those of
 * commands_submit. */
int deploys_submit(struct server *s, const struct deploy_new *n, char ret_id[40], struct err *err) MUST_USE;
/* 0 or -ERR_INVALID. NULL and "" are fine. */
int deploys_check_request_id(const char *id, struct err *err) MUST_USE;

#endif
