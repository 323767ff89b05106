/* SPDX-License-Identifier: Apache-2.0 */
/* deploys — Deploy, and what Rollback has in common with it: see deploys.h. */
#include "control/work/deploys.h"

#include <stdio.h>

#include "base/mem.h"
#include "control/link/commands.h"
#include "control/work/deployments.h"
#include "control/link/links.h"
#include "control/people/passes.h"
#include "control/sealed.h"
#include "control/work/variables.h"
#include "ident/seal.h"
#include "spec/spec.h"

/* A deployment waits this long for a server that is offline. */
#define DEPLOY_WAIT USEC_DAY

struct deploy_job {
    char id[40]; /* in: of the new one; out: of the one that answers this request */
    const struct deploy_new *n;
    const char *server_id, *server_name;
    struct str sealed; /* the spec for its row */
};

/* 1: this request was answered before; its deployment is in @j->id. */
static int same_request(struct db *db, struct deploy_job *j, struct err *err)
{
    AUTO_ROWS rows = NULL;
    if (!j->n->request_id)
        return 0;
    int rc = db_query(db, &rows, err, "SELECT id FROM deployments WHERE request_id = ?", "t", j->n->request_id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc == 1)
        (void)str_copy(j->id, sizeof(j->id), row_text(rows, 0));
    return rc;
}

/* A service does not wander: what it left behind on the other server would serve on. */
static int same_server(struct db *db, const struct deploy_job *j, struct err *err)
{
    const Davit__Common__V1__ServiceSpec *spec = j->n->spec;
    AUTO_ROWS rows = NULL;
    int rc = db_query(
        db, &rows, err,
        "SELECT v.name FROM services s JOIN servers v ON v.id = s.server_id WHERE s.project = ? AND s.name = ? AND s.server_id <> ?",
        "ttt", spec->project, spec->name, j->server_id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "service %s/%s runs on server \"" STR_FMT "\", not on \"%s\"", spec->project,
                  spec->name, STR_ARG(row_text(rows, 0)), j->server_name);
    err_hint(err, "deploy it there, or remove it first: davit rm %s/%s", spec->project, spec->name);
    return -(int)ERR_PRECONDITION;
}

/* One name leads to one service of a server: who has it, or waits to have it, keeps it. */
static int claim_hostname(struct db *db, const struct deploy_job *j, const char *hostname, struct err *err)
{
    const Davit__Common__V1__ServiceSpec *spec = j->n->spec;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT d.project, d.service FROM hostnames h JOIN deployments d ON d.id = h.deployment_id WHERE h.hostname = ?"
                      " AND d.server_id = ? AND d.state IN (1, 2, 3, 4) AND (d.project <> ? OR d.service <> ?) LIMIT 1",
                      "tttt", hostname, j->server_id, spec->project, spec->name);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return db_exec(db, err, "INSERT INTO hostnames (deployment_id, hostname) VALUES (?, ?)", "tt", j->id, hostname);
    (void)err_set(err, ERR_EXISTS, "%.253s leads to service " STR_FMT "/" STR_FMT " of that server already", hostname,
                  STR_ARG(row_text(rows, 0)), STR_ARG(row_text(rows, 1)));
    err_hint(err, "take it from that service first, or choose another name");
    return -(int)ERR_EXISTS;
}

static int insert(struct db *db, const struct deploy_job *j, int64_t now, struct err *err)
{
    const struct deploy_new *n = j->n;
    int rc = db_exec(
        db, err,
        "INSERT INTO deployments (id, request_id, project, service, server_id, server_name, spec, state, failure, container_id,"
        " image_digest, triggered_by, created_us, finished_us, source) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', ?, ?, 0, ?)",
        "ttttttbibtit", j->id, n->request_id, n->spec->project, n->spec->name, j->server_id, j->server_name, j->sealed,
        (int64_t)DEPLOYMENT_PENDING, STR(""), n->triggered_by, now, n->source ? n->source : "");
    for (size_t i = 0; rc == 0 && i < n->spec->n_routes; i++)
        rc = claim_hostname(db, j, n->spec->routes[i]->hostname, err);
    return rc;
}

static int record(struct db *db, void *arg, struct err *err)
{
    struct deploy_job *j = arg;
    int64_t now = (int64_t)clock_real();
    int rc = same_request(db, j, err);
    if (rc == 0)
        rc = same_server(db, j, err);
    if (rc == 0)
        rc = insert(db, j, now, err);
    if (rc != 0)
        return rc;
    rc = deployment_set_state(db, j->id, DEPLOYMENT_PENDING, NULL, err);
    if (rc < 0)
        return rc;
    return db_exec(db, err,
                   "INSERT INTO services (project, name, server_id, newest, active, updated_us) VALUES (?, ?, ?, ?, '', ?)"
                   " ON CONFLICT (project, name) DO UPDATE SET newest = excluded.newest, updated_us = excluded.updated_us",
                   "tttti", j->n->spec->project, j->n->spec->name, j->server_id, j->id, now);
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

/* Earlier versions of the CLI wrote down an empty check where nothing was said about health. */
static void forget_no_health(Davit__Common__V1__ServiceSpec *spec)
{
    const Davit__Common__V1__HealthCheck *h = spec->health;
    if (!h || protobuf_c_message_get_packed_size(&h->base) > 0)
        return;
    (void)rpc_message_free(spec->health);
    spec->health = NULL;
}

/* Does @stored ask for what @spec asks for? How many containers stands apart: 0 asks for as many as there are. */
static bool same_spec(const struct secret *stored, const Davit__Common__V1__ServiceSpec *spec, uint32_t replicas)
{
    AUTO_SECRET_BUF before = BUF_INIT(RPC_MESSAGE_MAX);
    AUTO_SECRET_BUF after = BUF_INIT(RPC_MESSAGE_MAX);
    Davit__Common__V1__ServiceSpec now = *spec;
    ProtobufCMessage *m = NULL;
    if (spec->replicas && spec->replicas != replicas)
        return false;
    if (rpc_unpack(&davit__common__v1__service_spec__descriptor, secret_reveal(stored), &m, NULL) != 0)
        return false; /* a newer version wrote it */
    Davit__Common__V1__ServiceSpec *old = (Davit__Common__V1__ServiceSpec *)m;
    forget_no_health(old);
    spec_complete(old); /* what earlier versions left open */
    old->replicas = now.replicas = 0;
    bool same = rpc_pack(&old->base, &before) == 0 && rpc_pack(&now.base, &after) == 0 && str_eq(buf_str(&before), buf_str(&after));
    (void)rpc_message_free(m);
    return same;
}

/* Is what is active the same, and does it run? 1: yes. Waits. */
static int unchanged(struct control *c, const struct service_row *row, const struct server *s,
                     const Davit__Common__V1__ServiceSpec *want, struct err *err)
{
    struct active_job j = {.id = row->active, .spec = BUF_INIT(RPC_MESSAGE_MAX + SEAL_OVERHEAD)};
    AUTO_SECRET spec = NULL;
    if (!row->active[0] || !str_eq(str_from(row->active), str_from(row->newest)))
        return 0;
    int rc = store_read(c->store, read_active, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0 && j.active)
        rc = sealed_get(c, SEALED_SPEC, row->active, buf_str(&j.spec), &spec, err);
    if (rc == 0 && j.active && same_spec(spec, want, row->replicas) && !s->gone) {
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

static int check_agent(const struct server *s, const Davit__Common__V1__ServiceSpec *spec, struct err *err)
{
    const char *what = s->link && !links_take_calls(s) ? commands_beyond_old(spec) : NULL;
    if (!what)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "the agent of server \"%s\" is too old for %s", s->name, what);
    err_hint(err, "update the agent: davit server update %s", s->name);
    return -(int)ERR_PRECONDITION;
}

int deploys_submit(struct server *s, const struct deploy_new *n, char ret_id[40], struct err *err)
{
    struct control *c = s->control;
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__Deploy deploy = DAVIT__LINK__V1__DEPLOY__INIT;
    AUTO_SECRET_BUF bytes = BUF_INIT(RPC_MESSAGE_MAX);
    AUTO_BUF sealed = BUF_INIT(RPC_MESSAGE_MAX + SEAL_OVERHEAD);
    struct deploy_job j = {.n = n, .server_id = s->id, .server_name = s->name};
    char id[40];
    int rc = check_agent(s, n->spec, err);
    if (rc < 0)
        return rc;
    if (rpc_pack(&n->spec->base, &bytes) != 0)
        return err_set(err, ERR_INVALID, "spec: larger than a message may be");
    rng_uuid(j.id);
    rc = sealed_put(c, SEALED_SPEC, j.id, buf_str(&bytes), &sealed, err);
    if (rc < 0)
        return rc;
    j.sealed = buf_str(&sealed);
    (void)snprintf(id, sizeof(id), "%s", j.id);
    deploy.deployment_id = id;
    deploy.spec = (Davit__Common__V1__ServiceSpec *)(uintptr_t)n->spec;
    deploy.force = n->force;
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_DEPLOY;
    wire.deploy = &deploy;
    wire.deadline_us = clock_real() + DEPLOY_WAIT;
    struct command_new command = {
        .kind = COMMAND_DEPLOY, .subject = id, .message = &wire, .auth = n->auth, .also = record, .also_arg = &j};
    rc = commands_submit(s, &command, NULL, err);
    if (rc == 0)
        deployments_changed(c, j.id);
    (void)str_copy(ret_id, 40, str_from(j.id));
    return rc < 0 ? rc : 0;
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

static int check_request(const Davit__Control__V1__DeployRequest *r, struct err *err)
{
    if (r->spec)
        spec_complete(r->spec);
    int rc = spec_check(r->spec, err);
    return rc < 0 ? rc : deploys_check_request_id(r->request_id, err);
}

int deploys_check_request_id(const char *id, struct err *err)
{
    if (str_from(id).n > DEPLOYS_REQUEST_ID_MAX)
        return err_set(err, ERR_INVALID, "request_id: longer than %d bytes", DEPLOYS_REQUEST_ID_MAX);
    return 0;
}

int deploys_deploy(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__DeployRequest *r = (const Davit__Control__V1__DeployRequest *)request;
    const Davit__Common__V1__RegistryAuth *a = r->registry_auth;
    struct service_row row = {.server_id = ""};
    struct server *s = NULL;
    struct err own = ERR_INIT;
    char id[40] = "";
    err = err ? err : &own;
    int rc = check_request(r, err);
    if (rc == 0)
        rc = variables_merge(c, r->spec, err);
    if (rc == 0)
        rc = choose_server(c, r, &row, &s, err);
    if (rc < 0)
        return rc;
    BUG_ON(!s);
    (void)server_ref(s);
    rc = r->if_changed ? unchanged(c, &row, s, r->spec, err) : 0;
    if (rc == 1) {
        rc = answer(call, row.active, true, s, err);
    } else if (rc == 0) {
        struct deploy_new n = {.request_id = *text(r->request_id) ? r->request_id : NULL,
                               .triggered_by = caller_name(call),
                               .spec = r->spec,
                               .auth = a && (*text(a->username) || *text(a->password)) ? a : NULL,
                               .force = r->force};
        rc = deploys_submit(s, &n, id, err);
        if (rc == 0)
            rc = answer(call, id, false, s, err);
    }
    server_unref(s);
    return rc;
}
