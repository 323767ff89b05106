/* SPDX-License-Identifier: Apache-2.0 */
/* deployments — see deployments.h. */
#include "control/deployments.h"

#define BIT(s) (1u << (s))

/* What the agent reports may be lost with a link, so a result may come while we still believe an earlier state. */
static const unsigned moves[DEPLOYMENT_STATE_MAX] = {
    [DEPLOYMENT_NONE] = BIT(DEPLOYMENT_PENDING),
    [DEPLOYMENT_PENDING] = BIT(DEPLOYMENT_DEPLOYING) | BIT(DEPLOYMENT_HEALTH_CHECKING) | BIT(DEPLOYMENT_ACTIVE) |
                           BIT(DEPLOYMENT_FAILED) | BIT(DEPLOYMENT_REMOVED),
    [DEPLOYMENT_DEPLOYING] =
        BIT(DEPLOYMENT_HEALTH_CHECKING) | BIT(DEPLOYMENT_ACTIVE) | BIT(DEPLOYMENT_FAILED) | BIT(DEPLOYMENT_REMOVED),
    [DEPLOYMENT_HEALTH_CHECKING] = BIT(DEPLOYMENT_ACTIVE) | BIT(DEPLOYMENT_FAILED) | BIT(DEPLOYMENT_REMOVED),
    [DEPLOYMENT_ACTIVE] = BIT(DEPLOYMENT_SUPERSEDED) | BIT(DEPLOYMENT_REMOVED),
    [DEPLOYMENT_FAILED] = 0,
    [DEPLOYMENT_SUPERSEDED] = 0,
    [DEPLOYMENT_REMOVED] = 0,
};

const char *deployment_state_name(enum deployment_state s)
{
    static const char *const names[DEPLOYMENT_STATE_MAX] = {"none",   "pending", "deploying",  "health_checking",
                                                            "active", "failed",  "superseded", "removed"};
    return s < DEPLOYMENT_STATE_MAX ? names[s] : "none";
}

bool deployment_move_allowed(enum deployment_state from, enum deployment_state to)
{
    return from < DEPLOYMENT_STATE_MAX && to < DEPLOYMENT_STATE_MAX && (moves[from] & BIT(to));
}

bool deployment_ended(enum deployment_state s)
{
    return s >= DEPLOYMENT_ACTIVE && s < DEPLOYMENT_STATE_MAX;
}

/* State of @id and number of its events. 1: no such deployment. */
static int look(struct db *db, const char *id, enum deployment_state *ret_state, int64_t *ret_events, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT d.state, (SELECT COUNT(*) FROM deployment_events e WHERE e.deployment_id = d.id) FROM deployments d"
                      " WHERE d.id = ?",
                      "t", id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return 1;
    *ret_state = (enum deployment_state)row_i64(rows, 0);
    *ret_events = row_i64(rows, 1);
    return 0;
}

static int insert_event(struct db *db, const char *id, enum deployment_state state, int64_t number,
                        const struct deployment_event *ev, struct err *err)
{
    Davit__Control__V1__WatchDeploymentResponse m = DAVIT__CONTROL__V1__WATCH_DEPLOYMENT_RESPONSE__INIT;
    AUTO_BUF wire = BUF_INIT(RPC_MESSAGE_MAX);
    m.state = (Davit__Common__V1__DeploymentState)state;
    m.at_us = clock_real();
    if (ev) {
        m.progress = (Davit__Common__V1__StepProgress *)(uintptr_t)ev->progress;
        m.failure = (Davit__Common__V1__Failure *)(uintptr_t)ev->failure;
        m.container_id = lend(ev->container_id);
    }
    if (rpc_pack(&m.base, &wire) != 0)
        return err_set(err, ERR_EXHAUSTED, "an event of a deployment is too large to be kept");
    return db_exec(db, err, "INSERT INTO deployment_events (deployment_id, number, state, event) VALUES (?, ?, ?, ?)", "tiib", id,
                   number + 1, (int64_t)state, buf_str(&wire));
}

static int write_failure(struct db *db, const char *id, const Davit__Common__V1__Failure *failure, struct err *err)
{
    AUTO_BUF wire = BUF_INIT(RPC_MESSAGE_MAX);
    if (!failure)
        return 0;
    if (rpc_pack(&failure->base, &wire) != 0)
        return err_set(err, ERR_EXHAUSTED, "a failure is too large to be kept");
    return db_exec(db, err, "UPDATE deployments SET failure = ? WHERE id = ?", "bt", buf_str(&wire), id);
}

int deployment_set_state(struct db *db, const char *id, enum deployment_state to, const struct deployment_event *ev,
                         struct err *err)
{
    enum deployment_state from = DEPLOYMENT_NONE;
    int64_t n = 0;
    int rc = look(db, id, &from, &n, err);
    if (rc == 1)
        return err_set(err, ERR_NOT_FOUND, "there is no deployment %s", id);
    if (rc < 0)
        return rc;
    /* A new row is born PENDING and has no event yet. */
    bool born = from == DEPLOYMENT_PENDING && to == DEPLOYMENT_PENDING && n == 0;
    if (!born && !deployment_move_allowed(from, to))
        return 1;
    rc = db_exec(db, err, "UPDATE deployments SET state = ?, finished_us = ? WHERE id = ?", "iit", (int64_t)to,
                 (int64_t)(deployment_ended(to) ? clock_real() : 0), id);
    if (rc == 0)
        rc = write_failure(db, id, ev ? ev->failure : NULL, err);
    return rc < 0 ? rc : insert_event(db, id, to, n, ev, err);
}

int deployment_add_event(struct db *db, const char *id, const struct deployment_event *ev, struct err *err)
{
    enum deployment_state state = DEPLOYMENT_NONE;
    int64_t n = 0;
    int rc = look(db, id, &state, &n, err);
    if (rc != 0)
        return rc;
    if (n >= DEPLOYMENT_EVENTS_MAX || deployment_ended(state))
        return 1;
    return insert_event(db, id, state, n, ev, err);
}

/* The deployment that the service runs now, into @dst; "" for none. 1: the service has no row. */
static int active_of(struct db *db, const char *id, char dst[64], struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(
        db, &rows, err,
        "SELECT s.active FROM services s JOIN deployments d ON d.project = s.project AND d.service = s.name WHERE d.id = ?", "t",
        id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    (void)str_copy(dst, 64, row_text(rows, 0));
    return 0;
}

int deployment_activate(struct db *db, const char *id, const char *container_id, const char *image_digest, struct err *err)
{
    struct deployment_event ev = {.container_id = container_id};
    char old[64] = "";
    int rc = deployment_set_state(db, id, DEPLOYMENT_ACTIVE, &ev, err);
    if (rc != 0)
        return rc;
    rc = db_exec(db, err, "UPDATE deployments SET container_id = ?, image_digest = ? WHERE id = ?", "ttt", container_id,
                 image_digest, id);
    if (rc == 0)
        rc = active_of(db, id, old, err);
    if (rc != 0)
        return rc;
    if (old[0] && !str_eq(str_from(old), str_from(id))) {
        rc = deployment_set_state(db, old, DEPLOYMENT_SUPERSEDED, NULL, err);
        if (rc < 0 && rc != -(int)ERR_NOT_FOUND)
            return rc;
    }
    return db_exec(
        db, err,
        "UPDATE services SET active = ?, updated_us = ?, server_id = (SELECT server_id FROM deployments WHERE id = ?)"
        " WHERE EXISTS (SELECT 1 FROM deployments d WHERE d.id = ? AND d.project = services.project AND d.service = services.name)",
        "titt", id, (int64_t)clock_real(), id, id);
}

/* The row goes, unless a newer deployment is on its way; then nothing is active until that one is. */
static int drop_row(struct db *db, const char *project, const char *service, struct err *err)
{
    int rc = db_exec(db, err,
                     "DELETE FROM services WHERE project = ? AND name = ? AND NOT EXISTS (SELECT 1 FROM deployments d"
                     " WHERE d.project = services.project AND d.service = services.name AND d.state IN (1, 2, 3, 4))",
                     "tt", project, service);
    return rc < 0 ? rc
                  : db_exec(db, err,
                            "UPDATE services SET active = '' WHERE project = ? AND name = ? AND active IN"
                            " (SELECT d.id FROM deployments d WHERE d.id = services.active AND d.state = ?)",
                            "tti", project, service, (int64_t)DEPLOYMENT_REMOVED);
}

int deployments_drop_service(struct db *db, const char *project, const char *service, int64_t upto, struct err *err)
{
    for (;;) {
        char id[64] = "";
        struct rows *rows = NULL;
        int rc = db_query(db, &rows, err,
                          "SELECT d.id FROM deployments d WHERE d.project = ? AND d.service = ? AND d.state IN (1, 2, 3, 4) AND NOT EXISTS"
                          " (SELECT 1 FROM commands c WHERE c.server_id = d.server_id AND c.seq > ? AND c.subject = d.id) LIMIT 1",
                          "tti", project, service, upto);
        if (rc == 0)
            rc = rows_next(rows, err);
        if (rc == 1)
            (void)str_copy(id, sizeof(id), row_text(rows, 0));
        rows = rows_done(rows);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        rc = deployment_set_state(db, id, DEPLOYMENT_REMOVED, NULL, err);
        if (rc < 0)
            return rc;
    }
    return drop_row(db, project, service, err);
}

int deployments_reconcile(struct db *db, void *unused, struct err *err)
{
    (void)unused;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;
    struct deployment_event ev = {.failure = &failure};
    failure.code = ERR_ABORTED;
    failure.message = lend("the control plane lost the command of this deployment");
    failure.hint = lend("deploy again");
    failure.reason = lend("command_lost");
    for (;;) {
        char id[64] = "";
        struct rows *rows = NULL;
        int rc = db_query(db, &rows, err,
                          "SELECT d.id FROM deployments d WHERE d.state IN (1, 2, 3) AND NOT EXISTS"
                          " (SELECT 1 FROM commands c WHERE c.subject = d.id AND c.state <> 3) LIMIT 1",
                          "");
        if (rc == 0)
            rc = rows_next(rows, err);
        if (rc == 1)
            (void)str_copy(id, sizeof(id), row_text(rows, 0));
        rows = rows_done(rows);
        if (rc <= 0)
            return rc;
        rc = deployment_set_state(db, id, DEPLOYMENT_FAILED, &ev, err);
        if (rc < 0)
            return rc;
    }
}

void watcher_start(struct control *c, struct watcher *w, const char *id)
{
    w->deployment_id = id;
    event_init(&w->news, c->loop);
    list_init(&w->node);
    list_push(&c->watchers, &w->node);
}

void watcher_stop(struct watcher *w)
{
    list_remove(&w->node);
    event_release(&w->news);
}

void deployments_changed(struct control *c, const char *id)
{
    struct watcher *w;
    changes_work(&c->changes, true);
    list_each(w, &c->watchers, struct watcher, node)
        if (!id || str_eq(str_from(id), str_from(w->deployment_id)))
            event_signal(&w->news);
}
