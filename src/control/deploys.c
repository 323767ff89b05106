/* SPDX-License-Identifier: Apache-2.0 */
/* deploys — Deploy and WatchDeployment. */
#include <stdio.h>

#include "base/mem.h"
#include "control/commands.h"
#include "control/deployments.h"
#include "control/passes.h"
#include "control/sealed.h"
#include "ident/seal.h"
#include "spec/spec.h"
#include "control/workloads.h"

enum { REQUEST_ID_MAX = 64, EVENTS_PER_READ = 64, WATCH_TURN_S = 15 };

/* A deployment waits this long for a server that is offline. */
#define DEPLOY_WAIT USEC_DAY

struct deploy_job {
    char id[40];            /* in: of the new one; out: of the one that answers this request */
    const char *request_id; /* or NULL */
    const char *server_id, *server_name, *triggered_by;
    const Davit__Common__V1__ServiceSpec *spec;
    struct str sealed; /* the spec for its row */
};

/* 1: this request was answered before; its deployment is in @j->id. */
static int same_request(struct db *db, struct deploy_job *j, struct err *err)
{
    AUTO_ROWS rows = NULL;
    if (!j->request_id)
        return 0;
    int rc = db_query(db, &rows, err, "SELECT id FROM deployments WHERE request_id = ?", "t", j->request_id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc == 1)
        (void)str_copy(j->id, sizeof(j->id), row_text(rows, 0));
    return rc;
}

/* A service does not wander: what it left behind on the other server would serve on. */
static int same_server(struct db *db, const struct deploy_job *j, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(
        db, &rows, err,
        "SELECT v.name FROM services s JOIN servers v ON v.id = s.server_id WHERE s.project = ? AND s.name = ? AND s.server_id <> ?",
        "ttt", j->spec->project, j->spec->name, j->server_id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "service %s/%s runs on server \"" STR_FMT "\", not on \"%s\"", j->spec->project,
                  j->spec->name, STR_ARG(row_text(rows, 0)), j->server_name);
    err_hint(err, "deploy it there, or remove it first: davit rm %s/%s", j->spec->project, j->spec->name);
    return -(int)ERR_PRECONDITION;
}

static int record(struct db *db, void *arg, struct err *err)
{
    struct deploy_job *j = arg;
    int rc = same_request(db, j, err);
    if (rc == 0)
        rc = same_server(db, j, err);
    if (rc != 0)
        return rc;
    int64_t now = (int64_t)clock_real();
    rc = db_exec(
        db, err,
        "INSERT INTO deployments (id, request_id, project, service, server_id, server_name, spec, state, failure, container_id,"
        " image_digest, triggered_by, created_us, finished_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', ?, ?, 0)",
        "ttttttbibti", j->id, j->request_id, j->spec->project, j->spec->name, j->server_id, j->server_name, j->sealed,
        (int64_t)DEPLOYMENT_PENDING, STR(""), j->triggered_by, now);
    if (rc == 0)
        rc = deployment_set_state(db, j->id, DEPLOYMENT_PENDING, NULL, err);
    if (rc < 0)
        return rc;
    return db_exec(db, err,
                   "INSERT INTO services (project, name, server_id, newest, active, updated_us) VALUES (?, ?, ?, ?, '', ?)"
                   " ON CONFLICT (project, name) DO UPDATE SET newest = excluded.newest, updated_us = excluded.updated_us",
                   "tttti", j->spec->project, j->spec->name, j->server_id, j->id, now);
}

struct active_job {
    const char *id;
    struct buf spec;
    bool active;
    char container[80];
};

static int read_active(struct db *db, void *arg, struct err *err)
{
    struct active_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, "SELECT spec, container_id FROM deployments WHERE id = ? AND state = ?", "ti", j->id,
                      (int64_t)DEPLOYMENT_ACTIVE);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc;
    j->active = true;
    (void)str_copy(j->container, sizeof(j->container), row_text(rows, 1));
    return buf_append_str(&j->spec, row_blob(rows, 0));
}

/* Is what is active the same, and does it run? 1: yes. Waits. */
static int unchanged(struct control *c, const struct service_row *row, const struct server *s, struct str wire, struct err *err)
{
    struct active_job j = {.id = row->active, .spec = BUF_INIT(RPC_MESSAGE_MAX + SEAL_OVERHEAD)};
    AUTO_SECRET spec = NULL;
    if (!row->active[0] || !str_eq(str_from(row->active), str_from(row->newest)))
        return 0;
    int rc = store_read(c->store, read_active, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0 && j.active)
        rc = sealed_get(c, SEALED_SPEC, row->active, buf_str(&j.spec), &spec, err);
    if (rc == 0 && j.active && str_eq(secret_reveal(spec), wire) && !s->gone) {
        const Davit__Common__V1__Container *k = inventory_find(&s->inventory, j.container);
        rc = s->link && k && str_eq(str_from(k->state), STR("running")) ? 1 : 0;
    }
    buf_release(&j.spec);
    return rc;
}

static int answer(struct rpc_call *call, const char *id, bool same, const struct server *s, struct err *err)
{
    Davit__Control__V1__DeployResponse m = DAVIT__CONTROL__V1__DEPLOY_RESPONSE__INIT;
    m.deployment_id = lend(id);
    m.unchanged = same;
    m.server_name = lend(s->name);
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int submit(struct rpc_call *call, struct server *s, const Davit__Control__V1__DeployRequest *r, struct deploy_job *j,
                  struct err *err)
{
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__Deploy deploy = DAVIT__LINK__V1__DEPLOY__INIT;
    bool auth = r->registry_auth && (*text(r->registry_auth->username) || *text(r->registry_auth->password));
    char id[40];
    (void)snprintf(id, sizeof(id), "%s", j->id);
    deploy.deployment_id = id;
    deploy.spec = (Davit__Common__V1__ServiceSpec *)(uintptr_t)j->spec;
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_DEPLOY;
    wire.deploy = &deploy;
    wire.deadline_us = clock_real() + DEPLOY_WAIT;
    struct command_new n = {.kind = COMMAND_DEPLOY,
                            .subject = id,
                            .message = &wire,
                            .auth = auth ? r->registry_auth : NULL,
                            .also = record,
                            .also_arg = j};
    int rc = commands_submit(s, &n, NULL, err);
    if (rc == 0)
        deployments_changed(s->control, j->id);
    return rc < 0 ? rc : answer(call, j->id, false, s, err);
}

/* The server that was named, else the one where the service is, else the only one. */
static int choose_server(struct control *c, const Davit__Control__V1__DeployRequest *r, struct service_row *row,
                         struct server **ret, struct err *err)
{
    struct err none = ERR_INIT;
    int rc = workloads_service(c, r->spec->project, r->spec->name, row, &none);
    if (rc < 0 && rc != -(int)ERR_NOT_FOUND) {
        *err = none;
        return rc;
    }
    bool here = rc == 0 && !*text(r->server);
    return servers_find(c, here ? row->server_id : r->server, ret, err);
}

int deploys_deploy(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__DeployRequest *r = (const Davit__Control__V1__DeployRequest *)request;
    AUTO_SECRET_BUF wire = BUF_INIT(RPC_MESSAGE_MAX);
    AUTO_BUF sealed = BUF_INIT(RPC_MESSAGE_MAX + SEAL_OVERHEAD);
    struct service_row row;
    struct server *s = NULL;
    struct err own = ERR_INIT;
    err = err ? err : &own;
    int rc = spec_check(r->spec, err);
    if (rc == 0 && str_from(r->request_id).n > REQUEST_ID_MAX)
        rc = err_set(err, ERR_INVALID, "request_id: longer than %d bytes", REQUEST_ID_MAX);
    if (rc < 0)
        return rc;
    spec_complete(r->spec);
    if (rpc_pack(&r->spec->base, &wire) != 0)
        return err_set(err, ERR_INVALID, "spec: larger than a message may be");
    rc = choose_server(c, r, &row, &s, err);
    if (rc < 0)
        return rc;
    (void)server_ref(s);
    rc = r->if_changed ? unchanged(c, &row, s, buf_str(&wire), err) : 0;
    if (rc == 1) {
        rc = answer(call, row.active, true, s, err);
    } else if (rc == 0) {
        struct deploy_job j = {.request_id = *text(r->request_id) ? r->request_id : NULL,
                               .server_id = s->id,
                               .server_name = s->name,
                               .triggered_by = caller_name(call),
                               .spec = r->spec};
        rng_uuid(j.id);
        rc = sealed_put(c, SEALED_SPEC, j.id, buf_str(&wire), &sealed, err);
        j.sealed = buf_str(&sealed);
        if (rc == 0)
            rc = submit(call, s, r, &j, err);
    }
    server_unref(s);
    return rc;
}

/* --- Watching --------------------------------------------------------------------------------------------------------------------- */

struct events_job {
    const char *id;
    int64_t after;
    bool found;
    enum deployment_state state;
    char server_id[40];
    struct buf events[EVENTS_PER_READ];
    size_t n;
};

static int read_events(struct db *db, void *arg, struct err *err)
{
    struct events_job *j = arg;
    AUTO_ROWS head = NULL;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &head, err, "SELECT state, server_id FROM deployments WHERE id = ?", "t", j->id);
    if (rc == 0)
        rc = rows_next(head, err);
    if (rc <= 0)
        return rc;
    j->found = true;
    j->state = (enum deployment_state)row_i64(head, 0);
    (void)str_copy(j->server_id, sizeof(j->server_id), row_text(head, 1));
    rc = db_query(db, &rows, err,
                  "SELECT number, event FROM deployment_events WHERE deployment_id = ? AND number > ? ORDER BY number LIMIT ?",
                  "tii", j->id, j->after, (int64_t)EVENTS_PER_READ);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        struct buf *b = &j->events[j->n++];
        buf_init(b, RPC_MESSAGE_MAX);
        j->after = row_i64(rows, 0);
        rc = buf_append_str(b, row_blob(rows, 1));
    }
    return rc;
}

/* Sends what was read; *last becomes the state of the last event. */
static int send_events(const struct deployment_sink *sink, struct events_job *j, enum deployment_state *last)
{
    int rc = 0;
    for (size_t i = 0; i < j->n; i++) {
        ProtobufCMessage *m = NULL;
        if (rc == 0 &&
            rpc_unpack(&davit__control__v1__watch_deployment_response__descriptor, buf_str(&j->events[i]), &m, NULL) == 0) {
            *last = (enum deployment_state)((Davit__Control__V1__WatchDeploymentResponse *)m)->state;
            rc = sink->send(sink->arg, (Davit__Control__V1__WatchDeploymentResponse *)m);
        }
        (void)rpc_message_free(m);
        buf_release(&j->events[i]);
    }
    return rc;
}

/* Says once per change what the deployment waits for. */
static int send_waiting(const struct deployment_sink *sink, struct control *c, const struct events_job *j, bool *said)
{
    Davit__Control__V1__WatchDeploymentResponse m = DAVIT__CONTROL__V1__WATCH_DEPLOYMENT_RESPONSE__INIT;
    const struct server *s = servers_by_id(c, j->server_id);
    char what[SERVER_NAME_SIZE + 64];
    if (!s || s->link || j->state != DEPLOYMENT_PENDING) {
        *said = false;
        return 0;
    }
    if (*said)
        return 0;
    *said = true;
    (void)snprintf(what, sizeof(what), "server %s is %s", s->name,
                   s->state == SERVER_ONLINE ? "not connected" : server_state_name(s->state));
    m.state = (Davit__Common__V1__DeploymentState)j->state;
    m.at_us = clock_real();
    m.waiting_for = what;
    return sink->send(sink->arg, &m);
}

/* A deployment that ended without an event: its server was removed. */
static int send_end(const struct deployment_sink *sink, enum deployment_state state)
{
    Davit__Control__V1__WatchDeploymentResponse m = DAVIT__CONTROL__V1__WATCH_DEPLOYMENT_RESPONSE__INIT;
    m.state = (Davit__Common__V1__DeploymentState)state;
    m.at_us = clock_real();
    return sink->send(sink->arg, &m);
}

static int watch(const struct deployment_sink *sink, struct control *c, struct watcher *w, struct events_job *j, struct err *err)
{
    enum deployment_state last = DEPLOYMENT_NONE;
    bool said = false;
    for (;;) {
        event_reset(&w->news);
        j->n = 0;
        int rc = store_read(c->store, read_events, j, deadline_in(STORE_WAIT), err);
        bool more = j->n == EVENTS_PER_READ;
        int sent = send_events(sink, j, &last);
        if (rc < 0)
            return rc;
        if (!j->found)
            return err_set(err, ERR_NOT_FOUND, "there is no deployment \"%.64s\"", j->id);
        bool end = !more && deployment_ended(j->state);
        if (sent == 0 && end && last != j->state)
            sent = send_end(sink, j->state);
        if (sent == 0 && !more && !end)
            sent = send_waiting(sink, c, j, &said);
        if (sent == 0 && !more && sink->caught_up)
            sent = sink->caught_up(sink->arg);
        if (sent == 0 && end)
            return 0;
        if (sent == 0 && !more)
            sent = event_wait(&w->news, deadline_in(WATCH_TURN_S * USEC_SEC));
        if (sent < 0 && sent != -(int)ERR_DEADLINE)
            return err_set(err, ERR_CANCELLED, "the caller went away");
    }
}

int deploys_follow(struct control *c, const char *id, const struct deployment_sink *sink, struct err *err)
{
    /* Not on the stack of a fiber: it holds a page of events. */
    struct events_job *j = NEW(struct events_job);
    struct watcher w;
    j->id = id;
    watcher_start(c, &w, id);
    int rc = watch(sink, c, &w, j, err);
    watcher_stop(&w);
    free(j);
    return rc;
}

static int to_caller(void *arg, const Davit__Control__V1__WatchDeploymentResponse *m)
{
    return rpc_send(arg, &m->base);
}

int deploys_watch(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__WatchDeploymentRequest *r = (const Davit__Control__V1__WatchDeploymentRequest *)request;
    const struct deployment_sink sink = {.send = to_caller, .arg = call};
    return deploys_follow(ctx, r->deployment_id, &sink, err);
}
