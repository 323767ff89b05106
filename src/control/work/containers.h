/* SPDX-License-Identifier: Apache-2.0 */
/* containers — which container a ContainerRef means.  Thread: loop, fibers.  Input trust: names from users, reports of agents. */
#ifndef DAVIT_CONTROL_CONTAINERS_H
#define DAVIT_CONTROL_CONTAINERS_H

#include "control/servers/servers.h"
#include "davit/control/v1/containers.pb-c.h"

enum { CONTAINER_NAME_SIZE = 256 };

/* What a ContainerRef means. Zeroed before; released by container_place_release in any case. */
struct container_place {
    struct server *server;          /* a reference */
    char id[CONTAINER_NAME_SIZE];   /* what the agent knows it by: its id, or the user's word for it */
    char name[CONTAINER_NAME_SIZE]; /* for people */
    char subject[160];              /* "project/service" or "server/container", for the audit log and messages */
};

/* Waits: finds it. Of a service: replica N, or the first one that runs (where none does, the first there is) of the active deployment; else any
 * container of a server by name or id, which is the agent's to find. -ERR_INVALID for what names nothing, -ERR_NOT_FOUND, both with advice;
 * -ERR_UNAVAILABLE: its server is not connected. */
int containers_find(struct control *c, const Davit__Control__V1__ContainerRef *ref, struct container_place *ret, struct err *err) MUST_USE;
void container_place_release(struct container_place *p);

/* 1 for the first one of a deployment, by its name (see DESIGN: "-2", "-3" behind it); 0: it has none of ours. */
unsigned container_replica(const Davit__Common__V1__Container *k);

#endif
