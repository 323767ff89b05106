/* SPDX-License-Identifier: Apache-2.0 */
/* prune — see prune.h. Numbers of states are those of enum deployment_state: 5 failed, 6 superseded, 7 removed, 8 rolled back,
 * 9 cancelled. */
#include "control/work/prune.h"

static const usec_t FIRST_AFTER = 60 * USEC_SEC, EVERY = 3600 * USEC_SEC;

/* Ended, and nothing points to it. */
#define OVER                                                                                                                     \
    " AND state IN (5, 6, 7, 8, 9) AND NOT EXISTS (SELECT 1 FROM services s WHERE s.newest = ranked.id OR s.active = ranked.id)"

/* Those that were active once are counted by themselves: however many fail, they do not crowd out what a rollback brings back. */
static const char deployments_sql[] =
    "DELETE FROM deployments WHERE id IN (SELECT id FROM (SELECT id, state, row_number()"
    " OVER (PARTITION BY project, service, activated_us > 0 ORDER BY created_us DESC, id DESC) AS place FROM deployments) AS ranked"
    " WHERE place > ?" OVER " LIMIT ?)";

/* The last event stays: it tells whoever watches that the deployment is over. */
static const char events_sql[] =
    "DELETE FROM deployment_events WHERE deployment_id IN (SELECT id FROM (SELECT d.id AS id, d.state AS state, sum(e.n)"
    " OVER (ORDER BY d.created_us DESC, d.id DESC) AS total FROM deployments d JOIN (SELECT deployment_id, count(*) AS n"
    " FROM deployment_events GROUP BY deployment_id HAVING count(*) > 1) AS e ON e.deployment_id = d.id) AS ranked"
    " WHERE total > ?" OVER " LIMIT ?) AND number < (SELECT max(x.number) FROM deployment_events x"
    " WHERE x.deployment_id = deployment_events.deployment_id)";

int prune_fn(struct db *db, void *arg, struct err *err)
{
    int64_t *removed = arg;
    int rc = db_exec(db, err, deployments_sql, "ii", (int64_t)PRUNE_DEPLOYMENTS_KEPT, (int64_t)PRUNE_STEP);
    *removed = rc == 0 ? db_changes(db) : 0;
    if (rc == 0)
        rc = db_exec(db, err, events_sql, "ii", (int64_t)PRUNE_EVENTS_KEPT, (int64_t)PRUNE_STEP);
    if (rc == 0)
        *removed += db_changes(db);
    return rc;
}

static void prune(struct control *c)
{
    struct err err = ERR_INIT;
    int64_t removed = 1, all = 0;
    int rc = 0;
    /* In small steps, so that no writer waits long. */
    while (rc == 0 && removed > 0 && !c->stopping) {
        rc = store_write(c->store, prune_fn, &removed, deadline_in(STORE_WAIT), &err);
        all += rc == 0 ? removed : 0;
    }
    if (rc < 0 && rc != -(int)ERR_CANCELLED)
        log_err(LOG_WARN, &err, "old deployments could not be removed", NULL);
    if (all)
        log_event(LOG_INFO, "old deployments and events removed", NULL);
}

void prune_fiber(void *arg)
{
    struct control *c = arg;
    usec_t wait = FIRST_AFTER;
    while (fiber_sleep(wait) == 0) {
        prune(c);
        wait = EVERY;
    }
    control_fiber_end(c);
}
