/* SPDX-License-Identifier: Apache-2.0 */
/* deployments — see deployments.h. */
#include "control/work/deployments.h"

#include "control/watch/worldview.h"

#define BIT(s) (1u << (s))
#define ENDS_EARLY (BIT(DEPLOYMENT_FAILED) | BIT(DEPLOYMENT_CANCELLED) | BIT(DEPLOYMENT_REMOVED))

/* What the agent reports may be lost with a link, so a result may come while we still believe an earlier state. */
static const unsigned moves[DEPLOYMENT_STATE_MAX] = {
    [DEPLOYMENT_NONE] = BIT(DEPLOYMENT_PENDING),
    [DEPLOYMENT_PENDING] = BIT(DEPLOYMENT_DEPLOYING) | BIT(DEPLOYMENT_HEALTH_CHECKING) | BIT(DEPLOYMENT_ACTIVE) | ENDS_EARLY,
    [DEPLOYMENT_DEPLOYING] = BIT(DEPLOYMENT_HEALTH_CHECKING) | BIT(DEPLOYMENT_ACTIVE) | ENDS_EARLY,
    [DEPLOYMENT_HEALTH_CHECKING] = BIT(DEPLOYMENT_ACTIVE) | ENDS_EARLY,
    [DEPLOYMENT_ACTIVE] = BIT(DEPLOYMENT_SUPERSEDED) | BIT(DEPLOYMENT_ROLLED_BACK) | BIT(DEPLOYMENT_REMOVED),
    [DEPLOYMENT_FAILED] = 0,
    [DEPLOYMENT_SUPERSEDED] = 0,
    [DEPLOYMENT_REMOVED] = 0,
    [DEPLOYMENT_ROLLED_BACK] = 0,
    [DEPLOYMENT_CANCELLED] = 0,
};

const char *deployment_state_name(enum deployment_state s)
{
    static const char *const names[DEPLOYMENT_STATE_MAX] = {"none",   "pending",    "deploying", "health_checking", "active",
                                                            "failed", "superseded", "removed",   "rolled_back",     "cancelled"};
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

int deployment_find(struct db *db, const char *id, struct deployment_row *ret, struct err *err)
{
    AUTO_ROWS rows = NULL;
    size_t n = str_from(id).n;
    if (n < DEPLOYMENT_PREFIX_MIN || n >= sizeof(ret->id))
        return err_set(err, ERR_INVALID, "\"%.64s\" is no deployment: its id, or the first %d characters of it or more", id, DEPLOYMENT_PREFIX_MIN);
    int rc = db_query(db, &rows, err,
                      "SELECT id, source, server_id, image_digest, project, service, state, activated_us FROM deployments"
                      " WHERE substr(id, 1, ?) = ? LIMIT 2",
                      "it", (int64_t)n, id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc == 0) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no deployment \"%.64s\"", id);
        err_hint(err, "davit deployments lists them");
        return -(int)ERR_NOT_FOUND;
    }
    if (rc < 0)
        return rc;
    *ret = (struct deployment_row){.state = (enum deployment_state)row_i64(rows, 6), .was_active = row_i64(rows, 7) != 0};
    (void)str_copy(ret->id, sizeof(ret->id), row_text(rows, 0));
    (void)str_copy(ret->source, sizeof(ret->source), row_text(rows, 1));
    (void)str_copy(ret->server_id, sizeof(ret->server_id), row_text(rows, 2));
    (void)str_copy(ret->image_digest, sizeof(ret->image_digest), row_text(rows, 3));
    (void)str_copy(ret->project, sizeof(ret->project), row_text(rows, 4));
    (void)str_copy(ret->service, sizeof(ret->service), row_text(rows, 5));
    rc = rows_next(rows, err);
    return rc == 1 ? err_set(err, ERR_INVALID, "more than one deployment begins with \"%.64s\": give more of it", id) : rc;
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

/* The deployment that the service runs now, into @dst; "" for none; and whether @id repeats another one. 1: the service has no row. */
static int active_of(struct db *db, const char *id, char dst[64], bool *ret_rollback, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(
        db, &rows, err,
        "SELECT s.active, d.source FROM services s JOIN deployments d ON d.project = s.project AND d.service = s.name WHERE d.id = ?",
        "t", id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    (void)str_copy(dst, 64, row_text(rows, 0));
    *ret_rollback = row_text(rows, 1).n > 0;
    return 0;
}

/* The service points to @id. */
static int point_to(struct db *db, const char *id, uint32_t replicas, struct err *err)
{
    int rc = db_exec(
        db, err,
        "UPDATE services SET active = ?, updated_us = ?, server_id = (SELECT server_id FROM deployments WHERE id = ?)"
        " WHERE EXISTS (SELECT 1 FROM deployments d WHERE d.id = ? AND d.project = services.project AND d.service = services.name)",
        "titt", id, (int64_t)clock_real(), id, id);
    if (rc < 0 || !replicas)
        return rc;
    return db_exec(db, err, "UPDATE services SET replicas = ? WHERE active = ?", "it", (int64_t)replicas, id);
}

int deployment_activate(struct db *db, const char *id, const char *container_id, const char *image_digest, uint32_t replicas,
                        struct err *err)
{
    bool rollback = false;
    struct deployment_event ev = {.container_id = container_id};
    char old[64] = "";
    int rc = deployment_set_state(db, id, DEPLOYMENT_ACTIVE, &ev, err);
    if (rc != 0)
        return rc;
    rc = db_exec(db, err, "UPDATE deployments SET container_id = ?, image_digest = ?, activated_us = ? WHERE id = ?", "ttit", container_id,
                 image_digest, (int64_t)clock_real(), id);
    if (rc == 0)
        rc = active_of(db, id, old, &rollback, err);
    if (rc != 0)
        return rc;
    if (old[0] && !str_eq(str_from(old), str_from(id))) {
        rc = deployment_set_state(db, old, rollback ? DEPLOYMENT_ROLLED_BACK : DEPLOYMENT_SUPERSEDED, NULL, err);
        if (rc < 0 && rc != -(int)ERR_NOT_FOUND)
            return rc;
    }
    return point_to(db, id, replicas, err);
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
    worldview_deployment(c, id);
    list_each(w, &c->watchers, struct watcher, node)
        if (!id || str_eq(str_from(id), str_from(w->deployment_id)))
            event_signal(&w->news);
}
