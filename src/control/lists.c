/* SPDX-License-Identifier: Apache-2.0 */
/* lists — ListDeployments, ListServices, Stats. Answers are built as owned messages on the store's thread or from the inventory, so that
 * nothing is borrowed while an answer waits for its caller. */
#include <string.h>

#include "base/mem.h"
#include "control/work/deployments.h"
#include "control/link/links.h"
#include "control/lists.h"
#include "control/sealed.h"
#include "control/work/workloads.h"

#define STATS_WAIT (3 * USEC_SEC)
#define STATS_POLL (50 * USEC_MSEC)

static char *own(struct str s)
{
    return str_dup(s);
}

static int send_and_free(struct rpc_call *call, ProtobufCMessage *m, struct err *err)
{
    int rc = rpc_send(call, m);
    (void)rpc_message_free(m);
    return rc == 0 ? 0 : err_set(err, ERR_CANCELLED, "the answer could not be sent");
}

/* --- Deployments ------------------------------------------------------------------------------------------------------------------ */

struct deployments_job {
    const struct control *c;
    const char *id; /* that one alone, or NULL */
    const char *project, *service;
    int64_t limit;
    Davit__Control__V1__ListDeploymentsResponse *m;
};

static void hide_values(Davit__Common__V1__ServiceSpec *spec)
{
    for (size_t i = 0; i < spec->n_env; i++)
        if (spec->env[i]->value[0]) /* an empty one is a constant of protobuf-c, which cannot be written to */
            spec->env[i]->value[0] = '\0';
}

/* The spec in column @column of the deployment @id; *ret stays NULL when a newer version wrote it. */
static int spec_from(const struct control *c, const char *id, const struct rows *r, int column, Davit__Common__V1__ServiceSpec **ret,
                     struct err *err)
{
    AUTO_SECRET wire = NULL;
    ProtobufCMessage *m = NULL;
    int rc = sealed_get(c, SEALED_SPEC, id, row_blob(r, column), &wire, err);
    if (rc == 0 && rpc_unpack(&davit__common__v1__service_spec__descriptor, secret_reveal(wire), &m, NULL) == 0)
        *ret = (Davit__Common__V1__ServiceSpec *)m;
    return rc;
}

static int deployment_from(const struct control *c, const struct rows *r, Davit__Control__V1__Deployment *d, struct err *err)
{
    ProtobufCMessage *m = NULL;
    d->id = own(row_text(r, 0));
    d->server_id = own(row_text(r, 1));
    d->server_name = own(row_text(r, 2));
    int rc = spec_from(c, d->id, r, 3, &d->spec, err);
    if (rc < 0)
        return rc;
    if (d->spec)
        hide_values(d->spec);
    d->state = (Davit__Common__V1__DeploymentState)row_i64(r, 4);
    if (row_blob(r, 5).n && rpc_unpack(&davit__common__v1__failure__descriptor, row_blob(r, 5), &m, NULL) == 0)
        d->failure = (Davit__Common__V1__Failure *)m;
    d->container_id = own(row_text(r, 6));
    d->image_digest = own(row_text(r, 7));
    d->created_us = (uint64_t)row_i64(r, 8);
    d->finished_us = (uint64_t)row_i64(r, 9);
    d->triggered_by = own(row_text(r, 10));
    d->source_deployment_id = own(row_text(r, 11));
    d->was_active = row_i64(r, 12) != 0;
    return 0;
}

#define DEPLOYMENT_COLUMNS                                                                                                  \
    "SELECT id, server_id, server_name, spec, state, failure, container_id, image_digest, created_us, finished_us,"        \
    " triggered_by, source, activated_us FROM deployments"

static int read_deployments(struct db *db, void *arg, struct err *err)
{
    struct deployments_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = j->id ? db_query(db, &rows, err, DEPLOYMENT_COLUMNS " WHERE id = ?", "t", j->id)
                   : db_query(db, &rows, err,
                              DEPLOYMENT_COLUMNS " WHERE (? = '' OR project = ?) AND (? = '' OR service = ?)"
                                                 " ORDER BY created_us DESC, id LIMIT ?",
                              "tttti", j->project, j->project, j->service, j->service, j->limit);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        Davit__Control__V1__Deployment *d = NEW(Davit__Control__V1__Deployment);
        davit__control__v1__deployment__init(d);
        j->m->deployments[j->m->n_deployments++] = d;
        rc = deployment_from(j->c, rows, d, err);
    }
    return rc;
}

static int read_list(struct deployments_job *j, Davit__Control__V1__ListDeploymentsResponse **ret, struct err *err)
{
    j->m = NEW(Davit__Control__V1__ListDeploymentsResponse);
    davit__control__v1__list_deployments_response__init(j->m);
    j->m->deployments = mem_zalloc((size_t)j->limit, sizeof(Davit__Control__V1__Deployment *));
    int rc = store_read(j->c->store, read_deployments, j, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        (void)rpc_message_free(j->m);
    else
        *ret = j->m;
    return rc;
}

int lists_read_deployments(struct control *c, const char *project, const char *service, uint32_t limit,
                           Davit__Control__V1__ListDeploymentsResponse **ret, struct err *err)
{
    struct deployments_job j = {
        .c = c, .project = text(project), .service = text(service), .limit = limit ? limit : LISTS_DEPLOYMENTS};
    if (limit > LISTS_DEPLOYMENTS_MAX)
        return err_set(err, ERR_INVALID, "limit: %u is not allowed; at most %d", limit, LISTS_DEPLOYMENTS_MAX);
    return read_list(&j, ret, err);
}

int lists_read_deployment(struct control *c, const char *id, Davit__Control__V1__ListDeploymentsResponse **ret, struct err *err)
{
    struct deployments_job j = {.c = c, .id = id, .limit = 1};
    if (!*text(id))
        return err_set(err, ERR_INVALID, "deployment_id: which one?");
    int rc = read_list(&j, ret, err);
    if (rc < 0 || (*ret)->n_deployments)
        return rc;
    (void)rpc_message_free(*ret);
    *ret = NULL;
    return err_set(err, ERR_NOT_FOUND, "there is no deployment \"%.64s\"", id);
}

int lists_deployments(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__ListDeploymentsRequest *r = (const Davit__Control__V1__ListDeploymentsRequest *)request;
    Davit__Control__V1__ListDeploymentsResponse *m = NULL;
    int rc = lists_read_deployments(ctx, r->project, r->service, r->limit, &m, err);
    return rc < 0 ? rc : send_and_free(call, &m->base, err);
}

/* --- Services --------------------------------------------------------------------------------------------------------------------- */

struct services_job {
    const struct control *c;
    const char *project, *server_id;
    Davit__Control__V1__ListServicesResponse *m;
};

static int service_from(const struct control *c, const struct rows *r, Davit__Control__V1__Service *s, struct err *err)
{
    Davit__Common__V1__ServiceSpec *spec = NULL;
    ProtobufCMessage *m = NULL;
    s->project = own(row_text(r, 0));
    s->name = own(row_text(r, 1));
    s->server_id = own(row_text(r, 2));
    s->server_name = own(row_text(r, 3));
    s->deployment_id = own(row_text(r, 4));
    s->active_deployment_id = own(row_text(r, 5));
    s->updated_us = (uint64_t)row_i64(r, 6);
    s->state = (Davit__Common__V1__DeploymentState)row_i64(r, 7);
    s->replicas = (uint32_t)row_i64(r, 10);
    int rc = spec_from(c, s->deployment_id, r, 8, &spec, err);
    if (rc < 0)
        return rc;
    if (spec) {
        s->image = own(str_from(spec->image));
        s->ports = spec->ports;
        s->n_ports = spec->n_ports;
        s->routes = spec->routes;
        s->n_routes = spec->n_routes;
        spec->ports = NULL; /* handed over */
        spec->routes = NULL;
        spec->n_ports = spec->n_routes = 0;
        (void)rpc_message_free(spec);
    }
    if (row_blob(r, 9).n && rpc_unpack(&davit__common__v1__failure__descriptor, row_blob(r, 9), &m, NULL) == 0) {
        s->failure = own(str_from(((Davit__Common__V1__Failure *)m)->message));
        (void)rpc_message_free(m);
    }
    return 0;
}

static int read_services(struct db *db, void *arg, struct err *err)
{
    struct services_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc =
        db_query(db, &rows, err,
                 "SELECT s.project, s.name, s.server_id, v.name, s.newest, s.active, s.updated_us, d.state, d.spec, d.failure, s.replicas"
                 " FROM services s JOIN servers v ON v.id = s.server_id JOIN deployments d ON d.id = s.newest"
                 " WHERE (? = '' OR s.project = ?) AND (? = '' OR s.server_id = ?) ORDER BY s.project, s.name LIMIT ?",
                 "tttti", j->project, j->project, j->server_id, j->server_id, (int64_t)LISTS_SERVICES_MAX);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        Davit__Control__V1__Service *s = NEW(Davit__Control__V1__Service);
        davit__control__v1__service__init(s);
        j->m->services[j->m->n_services++] = s;
        rc = service_from(j->c, rows, s, err);
    }
    return rc;
}

/* A container to its service. */
static void add_container(Davit__Control__V1__Service *s, const Davit__Common__V1__Container *k)
{
    ProtobufCMessage *copy = NULL;
    if (rpc_copy(&k->base, &copy) != 0)
        return;
    Davit__Common__V1__Container *mine = (Davit__Common__V1__Container *)copy;
    if (!*text(mine->server_id))
        mine->server_id = own(str_from(s->server_id));
    if ((s->n_containers & (s->n_containers - 1)) == 0) /* full: as much again */
        s->containers = mem_resize(s->containers, s->n_containers ? 2 * s->n_containers : 1, sizeof(*s->containers));
    s->containers[s->n_containers++] = mine;
}

/* Containers and servers are gone through once, not once for each service. */
static void add_containers(const struct control *c, Davit__Control__V1__ListServicesResponse *m)
{
    struct hmap *by_key = hmap_new(LISTS_SERVICES_MAX);
    struct hmap *online = hmap_new(CONTROL_SERVERS_MAX);
    const struct server *server;
    AUTO_BUF key = BUF_INIT(1024);
    for (size_t i = 0; i < m->n_services; i++) {
        Davit__Control__V1__Service *s = m->services[i];
        buf_clear(&key);
        if (buf_printf(&key, "%s/%s/%s", s->server_id, s->project, s->name) == 0)
            BUG_ON(hmap_put(by_key, buf_str(&key), s, NULL) != 0);
    }
    list_each(server, &c->servers, struct server, node) {
        if (server->state == SERVER_ONLINE)
            BUG_ON(hmap_put(online, str_from(server->id), online, NULL) != 0);
        for (struct hmap_entry *e = hmap_first(server->inventory.containers); e; e = hmap_next(e)) {
            const Davit__Common__V1__Container *k = hmap_value(e);
            buf_clear(&key);
            Davit__Control__V1__Service *s =
                buf_printf(&key, "%s/%s/%s", server->id, text(k->project), text(k->service)) == 0 ? hmap_get(by_key, buf_str(&key)) : NULL;
            if (s)
                add_container(s, k);
        }
    }
    for (size_t i = 0; i < m->n_services; i++)
        m->services[i]->server_online = hmap_get(online, str_from(m->services[i]->server_id)) != NULL;
    (void)hmap_free(by_key);
    (void)hmap_free(online);
}

int lists_read_services(struct control *c, const char *project, const char *server_id, Davit__Control__V1__ListServicesResponse **ret,
                        struct err *err)
{
    struct services_job j = {.c = c, .project = text(project), .server_id = text(server_id)};
    j.m = NEW(Davit__Control__V1__ListServicesResponse);
    davit__control__v1__list_services_response__init(j.m);
    j.m->services = mem_zalloc(LISTS_SERVICES_MAX, sizeof(Davit__Control__V1__Service *));
    int rc = store_read(c->store, read_services, &j, deadline_in(STORE_WAIT), err);
    if (rc < 0) {
        (void)rpc_message_free(j.m);
        return rc;
    }
    add_containers(c, j.m);
    *ret = j.m;
    return 0;
}

int lists_services(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__ListServicesRequest *r = (const Davit__Control__V1__ListServicesRequest *)request;
    Davit__Control__V1__ListServicesResponse *m = NULL;
    char server_id[37] = "";
    if (*text(r->server)) {
        struct server *s = NULL;
        int found = servers_find(c, r->server, &s, err);
        if (found < 0)
            return found;
        (void)str_copy(server_id, sizeof(server_id), str_from(s->id));
    }
    int rc = lists_read_services(c, r->project, server_id, &m, err);
    return rc < 0 ? rc : send_and_free(call, &m->base, err);
}

/* --- Stats ------------------------------------------------------------------------------------------------------------------------ */

static Davit__Control__V1__UsageRow *row_from(const struct server *s, const Davit__Common__V1__Container *k,
                                              const struct usage *u, const struct usage *b)
{
    Davit__Control__V1__UsageRow *row = NEW(Davit__Control__V1__UsageRow);
    davit__control__v1__usage_row__init(row);
    row->server_name = own(str_from(s->name));
    if (k) {
        row->project = own(str_from(k->project));
        row->service = own(str_from(k->service));
        row->container_name = own(str_from(k->name));
    }
    Davit__Common__V1__Usage *m = NEW(Davit__Common__V1__Usage);
    davit__common__v1__usage__init(m);
    m->container_id = own(str_from(k ? k->id : ""));
    m->at_us = u->at_us;
    m->cpu_usec = u->cpu_usec;
    m->memory_bytes = u->memory;
    m->memory_limit_bytes = u->memory_limit;
    m->disk_read_bytes = u->disk_read;
    m->disk_write_bytes = u->disk_write;
    m->net_rx_bytes = u->net_rx;
    m->net_tx_bytes = u->net_tx;
    m->pids = u->pids;
    m->disk_total_bytes = u->disk_total;
    m->disk_free_bytes = u->disk_free;
    m->cpu_milli = u->cpu_milli;
    row->usage = m;
    row->net_rx_rate = usage_rate(u->net_rx, b->net_rx, u->at_us, b->at_us);
    row->net_tx_rate = usage_rate(u->net_tx, b->net_tx, u->at_us, b->at_us);
    row->disk_read_rate = usage_rate(u->disk_read, b->disk_read, u->at_us, b->at_us);
    row->disk_write_rate = usage_rate(u->disk_write, b->disk_write, u->at_us, b->at_us);
    return row;
}

static bool wanted(const char *project, const char *service, const Davit__Common__V1__Container *k)
{
    bool same_project = !*text(project) || str_eq(str_from(project), str_from(k->project));
    bool same_service = !*text(service) || str_eq(str_from(service), str_from(k->service));
    return same_project && same_service;
}

void lists_usage(const struct server *s, const char *project, const char *service, Davit__Control__V1__UsageRow **rows, size_t *n, size_t max)
{
    struct usage last, before;
    bool host = !*text(project) && !*text(service);
    if (host && *n < max && inventory_last(&s->inventory, "", &last, &before) == 0)
        rows[(*n)++] = row_from(s, NULL, &last, &before);
    for (struct hmap_entry *e = hmap_first(s->inventory.containers); e && *n < max; e = hmap_next(e)) {
        const Davit__Common__V1__Container *k = hmap_value(e);
        if (wanted(project, service, k) && inventory_last(&s->inventory, k->id, &last, &before) == 0)
            rows[(*n)++] = row_from(s, k, &last, &before);
    }
}

/* Agents send next to nothing of this while nobody watches: asks them, and waits until they answered, or long enough. -ERR_CANCELLED. */
static int freshen(struct control *c, const struct server *only)
{
    usec_t end = deadline_in(STATS_WAIT);
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (!only || only == s)
            links_watch_usage(s);
    for (bool due = true; due && clock_mono() < end;) {
        due = false;
        list_each(s, &c->servers, struct server, node)
            due = due || ((!only || only == s) && links_usage_due(s));
        if (due && fiber_sleep(STATS_POLL) < 0)
            return -(int)ERR_CANCELLED;
    }
    return 0;
}

int lists_stats(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__StatsRequest *r = (const Davit__Control__V1__StatsRequest *)request;
    struct server *only = NULL;
    struct server *s;
    if (*text(r->server)) {
        int rc = servers_find(c, r->server, &only, err);
        if (rc < 0)
            return rc;
    }
    if (freshen(c, only) < 0)
        return err_set(err, ERR_CANCELLED, "the caller went away");
    Davit__Control__V1__StatsResponse *m = NEW(Davit__Control__V1__StatsResponse);
    davit__control__v1__stats_response__init(m);
    m->rows = mem_zalloc(LISTS_ROWS_MAX, sizeof(Davit__Control__V1__UsageRow *));
    list_each(s, &c->servers, struct server, node)
        if (!only || only == s)
            lists_usage(s, r->project, r->service, m->rows, &m->n_rows, LISTS_ROWS_MAX);
    return send_and_free(call, &m->base, err);
}
