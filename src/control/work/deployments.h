/* SPDX-License-Identifier: Apache-2.0 */
/* deployments — immutable attempts to run a service, their states and events. The store holds them; nothing is kept in memory but who
 * watches. All database functions here run inside a unit of work (see store.h).
 * Limits: DEPLOYMENT_EVENTS_MAX events each; after it only changes of state are kept.
 * Thread: what takes a struct db runs on the store's threads, the rest on the loop. */
#ifndef DAVIT_CONTROL_DEPLOYMENTS_H
#define DAVIT_CONTROL_DEPLOYMENTS_H

#include "control/control_internal.h"
#include "davit/common/v1/service.pb-c.h"
#include "davit/common/v1/system.pb-c.h"
#include "davit/control/v1/workloads.pb-c.h"

/* The numbers of davit.common.v1.DeploymentState. */
enum deployment_state {
    DEPLOYMENT_NONE,
    DEPLOYMENT_PENDING,
    DEPLOYMENT_DEPLOYING,
    DEPLOYMENT_HEALTH_CHECKING,
    DEPLOYMENT_ACTIVE,
    DEPLOYMENT_FAILED,
    DEPLOYMENT_SUPERSEDED,
    DEPLOYMENT_REMOVED,
    DEPLOYMENT_ROLLED_BACK,
    DEPLOYMENT_CANCELLED,
    DEPLOYMENT_STATE_MAX
};

enum { DEPLOYMENT_EVENTS_MAX = 1000, DEPLOYMENT_PREFIX_MIN = 6 };

/* "pending" ... */
const char *deployment_state_name(enum deployment_state s);
/* May a deployment go from @from to @to? */
bool deployment_move_allowed(enum deployment_state from, enum deployment_state to);
/* Does a watcher have nothing more to wait for? */
bool deployment_ended(enum deployment_state s);

/* One event; pointers borrowed, NULL where it has none. */
struct deployment_event {
    const Davit__Common__V1__StepProgress *progress;
    const Davit__Common__V1__Failure *failure;
    const char *container_id;
};

/* What Cancel and Rollback need of one. */
struct deployment_row {
    char id[40], source[40], server_id[37], image_digest[80];
    char project[64], service[64];
    enum deployment_state state;
    bool was_active;
};
/* @id or the beginning of one, at least DEPLOYMENT_PREFIX_MIN characters. -ERR_NOT_FOUND; -ERR_INVALID: more than one begin so. */
int deployment_find(struct db *db, const char *id, struct deployment_row *ret, struct err *err) MUST_USE;

/* The one setter: moves @id to @to with an event. 0; 1 when it is in that state already or the move is not allowed (then nothing
 * changes); -ERR_NOT_FOUND, ... */
int deployment_set_state(struct db *db, const char *id, enum deployment_state to, const struct deployment_event *ev,
                         struct err *err) MUST_USE;
/* Adds an event in the present state. 0, or 1 when it was left out (limit, unknown deployment). */
int deployment_add_event(struct db *db, const char *id, const struct deployment_event *ev, struct err *err) MUST_USE;
/* ACTIVE with its container; what was active before is SUPERSEDED, or ROLLED_BACK if @id repeats an earlier one, and the service points here.
 * @replicas: as many it has from now on, 0: as before. */
int deployment_activate(struct db *db, const char *id, const char *container_id, const char *image_digest, uint32_t replicas,
                        struct err *err) MUST_USE;
/* The service is gone: its unfinished and active deployments are REMOVED, its row goes. What was commanded behind number @upto is newer
 * than the removal: it stays, and the row with it. INT64_MAX: nothing is. */
int deployments_drop_service(struct db *db, const char *project, const char *service, int64_t upto, struct err *err) MUST_USE;
/* At start: what is unfinished and has no command any more cannot end by itself: FAILED. */
int deployments_reconcile(struct db *db, void *unused, struct err *err) MUST_USE;

/* Who waits for news of one deployment. */
struct watcher {
    struct list node;
    const char *deployment_id;
    struct event news;
};
/* @w and @id stay the caller's, until watcher_stop. */
void watcher_start(struct control *c, struct watcher *w, const char *id);
void watcher_stop(struct watcher *w);
/* Wakes those who watch @id, or with NULL all; and who watches lists of deployments or services is told. */
void deployments_changed(struct control *c, const char *id);

/* Who takes the events of one deployment; both wait until they are taken, negative: nobody takes them any more. */
struct deployment_sink {
    int (*send)(void *arg, const Davit__Control__V1__WatchDeploymentResponse *m);
    int (*caught_up)(void *arg); /* all that there is was sent; after each time when there was something new. May be NULL. */
    void *arg;
};
/* Waits: sends all events of @id, from the first, until it ends, until @sink takes no more or the fiber is cancelled. */
int deploys_follow(struct control *c, const char *id, const struct deployment_sink *sink, struct err *err) MUST_USE;

#endif
