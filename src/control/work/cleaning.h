/* SPDX-License-Identifier: Apache-2.0 */
/* cleaning — what the control plane adds to a clean-up of a server (host/work/prune.h): what it knows and wants kept, and the plans that were shown.
 * A plan is named by the hash of its server and of all that stands in it, is good for PLAN_TIME, for its server, and once.
 * Ownership: plans_new .. plans_free.  Limits: PLANS_MAX plans are kept, the oldest goes; CLEANING_ROWS_MAX deployments are looked at: a server that
 * had more is not cleaned up (-ERR_EXHAUSTED).  Thread: loop.  Input trust: what agents plan is shown to a person, who decides. */
#ifndef DAVIT_CONTROL_CLEANING_H
#define DAVIT_CONTROL_CLEANING_H

#include "control/servers/servers.h"
#include "davit/link/v1/link.pb-c.h"

enum { PLANS_MAX = 16, CLEANING_ROWS_MAX = 4000, CLEANING_KEEP_IMAGES = 3 /* of deployments before the active one, for a rollback */ };
#define PLAN_TIME (10 * USEC_MINUTE)

struct plans;

/* Waits: what is known of the server with this id. *ret: rpc_message_free. */
int cleaning_ask(struct control *c, const char *server_id, bool volumes, Davit__Link__V1__PrunePlanCall **ret, struct err *err) MUST_USE;

/* Never NULL. */
struct plans *plans_new(void) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct plans *plans_free(struct plans *p);
/* Keeps a copy of @plan and writes its name there (plan_id becomes owned by @plan). */
int plans_keep(struct plans *p, const char *server_id, bool volumes, Davit__Common__V1__PrunePlan *plan, struct err *err) MUST_USE;
/* Takes the plan out: *ret (rpc_message_free). -ERR_NOT_FOUND: there is none of this name for this server, or no more. */
int plans_take(struct plans *p, const char *server_id, const char *plan_id, bool *ret_volumes, Davit__Common__V1__PrunePlan **ret,
               struct err *err) MUST_USE;

#endif
