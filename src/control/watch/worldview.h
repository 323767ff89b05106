/* SPDX-License-Identifier: Apache-2.0 */
/* worldview — what there is on all servers (servers, containers, sandboxes with their sessions and trust), and the events that follow from it when
 * it changes: each module that learns something new says so here, with what was known before; the difference is told on the bus.
 * So a report that was missed while a link was down is made up by the full one that comes after it, and state and events never disagree: a change
 * and its event happen in one turn of the loop. Containers stay where they are kept (inventory.h) and servers too; only what sandboxes' sessions
 * and steps came to is kept here.
 * Snapshots are deep copies.
 * Ownership: c->world and c->bus, both may be NULL in tests: nothing is told then.  Limits: WORLDVIEW_SANDBOXES_MAX.  Thread: loop.
 * Input trust: reports of agents, each about its own server. */
#ifndef DAVIT_CONTROL_WORLDVIEW_H
#define DAVIT_CONTROL_WORLDVIEW_H

#include "control/watch/bus.h"
#include "control/servers/servers.h"

enum { WORLDVIEW_SANDBOXES_MAX = 16384 };

/* Never NULL. */
struct worldview *worldview_new(struct control *c) MUST_USE;
/* Its fiber has ended. Accepts NULL. Returns NULL. */
struct worldview *worldview_free(struct worldview *w);
/* Its fiber comes to its end, and who follows is told so. */
void worldview_stopping(struct worldview *w);

/* The state of @s was set: to be called behind it. Gone: it was removed. */
void worldview_server(const struct server *s);
void worldview_server_gone(const struct server *s);
/* A report of @s came: to be called before it is applied to its inventory. */
void worldview_containers(const struct server *s, const Davit__Link__V1__ContainerStates *m);
/* A sandbox changed: @before NULL: it is new; @after NULL: it is gone. Borrowed. Nothing is told when nothing changed. */
void worldview_sandbox(struct control *c, const Davit__Common__V1__Sandbox *before, const Davit__Common__V1__Sandbox *after);
/* Deployment @id got events, or with NULL any: they are read from the store and told, in their order. See worldview_deployments.c. */
void worldview_deployment(struct control *c, const char *id);

/* What there is now; the number of the last event that it holds is in it. A deep copy, the caller's (rpc_message_free). @server NULL: all;
 * @project "": all. -ERR_EXHAUSTED: it is larger than a message may be. */
int worldview_state(struct control *c, const struct server *server, const char *project, Davit__Control__V1__GetStateResponse **ret,
                    struct err *err) MUST_USE;

#endif
