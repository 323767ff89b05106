/* SPDX-License-Identifier: Apache-2.0 */
/* prune — what a clean-up may remove, as a pure function of what the engine lists and of what the control plane knows, and the removal of just that.
 * Cleaning up must never touch what others made. So an object stands in a plan only if all of this is true:
 *   container  labels of this server, of no deployment that the control plane knows, and it does not run;
 *   network    labels of this server, the name that Davit gives, no known service in its project, no container attached in any state;
 *   volume     asked for, labels of this server, the name that Davit gives, its service unknown, no kept deployment mounts it, no container has it;
 *   image      (an image has no label of ours) each of its digests and each of its names is one that a deployment of this server had and that none
 *              which is kept needs, no container has it in any state;
 * and no command for its project runs or waits. What the engine could not tell completely makes a plan without items.
 * Applying looks anew, plans anew, and removes what stands in both plans, never by force.
 * Ownership: results are messages of their own (protobuf_c_message_free_unpacked).  Limits: PRUNE_ITEMS_MAX of a plan, the rest is for the next one.
 * Input trust: the engine's lists hold hostile names and labels; the control plane's word is needed and not enough.  Thread: loop. */
#ifndef DAVIT_HOST_WORK_PRUNE_H
#define DAVIT_HOST_WORK_PRUNE_H

#include "davit/link/v1/link.pb-c.h"
#include "docker/docker.h"

enum { PRUNE_ITEMS_MAX = 2000 };

/* What the engine has. */
struct prune_engine {
    struct docker_summaries containers;
    struct docker_images images;
    struct docker_networks networks;
    struct docker_volumes volumes;
};
/* Waits: asks for all four lists. On failure nothing is held. */
int prune_look(struct docker *d, struct prune_engine *ret, usec_t deadline, struct err *err) MUST_USE;
void prune_engine_release(struct prune_engine *e);

/* Does a command for this project run or wait? */
typedef bool prune_busy_fn(void *arg, const char *project);

/* Never NULL. Texts of items are cleaned; an object whose name does not survive that is left alone. */
Davit__Common__V1__PrunePlan *prune_plan(const char *server_id, const Davit__Link__V1__PrunePlanCall *ask, const struct prune_engine *e,
                                         prune_busy_fn *busy, void *arg) MUST_USE;

#endif
