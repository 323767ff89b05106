/* SPDX-License-Identifier: Apache-2.0 */
/* deploy_route — what the ingress sends to the containers of a service while they change. No new container gets a request before it was found
 * healthy, and no old one is told to end while a request of it is under way. */
#include <string.h>

#include "host/reach/ingress.h"
#include "host/work/deploy.h"

/* How long those before may take to end their connections. */
#define DRAIN_LIMIT      (30 * USEC_SEC)
#define DRAIN_LIMIT_DOWN (10 * USEC_SEC) /* while nobody serves, or the new ones failed */

enum part { PART_NONE, PART_SERVES, PART_DRAINS };

static const struct {
    enum part comes, stays, leaves;
    bool before; /* the hostnames are those of what ran before */
} modes[] = {
    [ROUTE_HELD] = {PART_NONE, PART_SERVES, PART_DRAINS, true},
    [ROUTE_BOTH] = {PART_SERVES, PART_SERVES, PART_SERVES, false},
    [ROUTE_SWITCH] = {PART_SERVES, PART_SERVES, PART_DRAINS, false},
    [ROUTE_NOW] = {PART_SERVES, PART_SERVES, PART_NONE, false},
    [ROUTE_BACK] = {PART_DRAINS, PART_SERVES, PART_SERVES, true},
    [ROUTE_BEFORE] = {PART_NONE, PART_SERVES, PART_SERVES, true},
    [ROUTE_CLOSED] = {PART_DRAINS, PART_DRAINS, PART_DRAINS, false},
};

/* Hostnames and the port behind them. */
struct route {
    char *hosts[INGRESS_HOSTS_MAX];
    size_t n;
    uint16_t port;
};

static void route_release(struct route *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->hosts[i]);
}

static void take_hosts(struct route *r, const Davit__Common__V1__ServiceSpec *s)
{
    for (size_t i = 0; i < s->n_routes && i < INGRESS_HOSTS_MAX; i++)
        r->hosts[r->n++] = str_dup(str_from(s->routes[i]->hostname));
}

int deploy_route_port(struct deploy *d, uint16_t *ret, usec_t deadline, struct err *err)
{
    const Davit__Common__V1__ServiceSpec *s = d->spec;
    uint32_t port = 0;

    for (size_t i = 0; i < s->n_routes && port == 0; i++)
        port = s->routes[i]->port;
    if (port == 0 && s->health)
        port = s->health->port;
    return deploy_port(d, port, "route", ret, deadline, err);
}

/* What led to the service before this command; none: r->n is 0. What is desired has its ports settled. */
static void route_before(const struct deploy *d, struct route *r)
{
    const struct desired_service *s = d->w->desired ? desired_get(d->w->desired, d->spec->project, d->spec->name) : NULL;

    if (!s || s->deploy->spec->n_routes == 0)
        return;
    take_hosts(r, s->deploy->spec);
    r->port = (uint16_t)s->deploy->spec->routes[0]->port;
}

bool deploy_routed(const struct deploy *d)
{
    const struct desired_service *s = d->w->desired ? desired_get(d->w->desired, d->spec->project, d->spec->name) : NULL;

    return d->w->ingress && (d->spec->n_routes > 0 || (s && s->deploy->spec->n_routes > 0));
}

static const char *address_in(const struct docker_summary *c, const char *network)
{
    for (size_t i = 0; i < c->n_networks; i++)
        if (strcmp(c->networks[i].network, network) == 0)
            return c->networks[i].ipv4;
    return "";
}

static enum part part_of(const struct deploy *d, enum route_mode mode, const struct docker_summary *c)
{
    if (deploy_leaves(d, c))
        return modes[mode].leaves;
    return deploy_made(d, &c->labels, "create") ? modes[mode].comes : modes[mode].stays;
}

static bool is_unfit(const struct deploy *d, const struct docker_summary *c)
{
    unsigned n = replica_number(&c->labels);

    return n > 0 && !deploy_leaves(d, c) && (d->unfit >> (n - 1) & 1);
}

/* The servers of @mode, at most INGRESS_SERVERS_MAX. Names and addresses are borrowed from @l. */
static size_t gather(const struct deploy *d, enum route_mode mode, const struct docker_summaries *l, uint16_t now, uint16_t before,
                     struct ingress_server *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < l->n && n < INGRESS_SERVERS_MAX; i++) {
        const struct docker_summary *c = &l->items[i];
        enum part part = part_of(d, mode, c);
        uint16_t port = deploy_leaves(d, c) || now == 0 ? before : now;
        const char *address = address_in(c, d->network);
        if (part == PART_NONE || is_unfit(d, c) || port == 0 || c->state != DOCKER_STATE_RUNNING || !*address)
            continue;
        bool held = d->held && strcmp(d->held, c->name) == 0;
        ret[n++] = (struct ingress_server){.name = c->name, .address = address, .port = port, .drain = held || part == PART_DRAINS};
    }
    return n;
}

static int set(struct deploy *d, enum route_mode mode, const struct route *hosts, uint16_t now, uint16_t before, usec_t deadline,
               struct err *err)
{
    struct docker_summaries l = {0};
    int rc = deploy_list(d, &l, deadline, err);

    if (rc >= 0) {
        struct ingress_server *servers = mem_zalloc(INGRESS_SERVERS_MAX, sizeof(*servers));
        struct ingress_service s = {.project = d->spec->project,
                                    .service = d->spec->name,
                                    .network = d->network,
                                    .hosts = (const char *const *)hosts->hosts,
                                    .n_hosts = hosts->n,
                                    .servers = servers,
                                    .n_servers = gather(d, mode, &l, now, before, servers)};
        rc = ingress_set(d->w->ingress, &s, deadline, err);
        free(servers);
    }
    docker_summaries_release(&l);
    return rc;
}

int deploy_route(struct deploy *d, enum route_mode mode, usec_t deadline, struct err *err)
{
    struct route before = {0}, now = {0};
    struct err unready = ERR_INIT;
    int rc = d->w->ingress ? deploy_count(d, deadline, err) : 1;

    if (rc == 0)
        rc = routes_ready(d->w, deadline, &unready);
    /* What leads nowhere is not kept up by an ingress that cannot be had: once it can, it is told of what is desired. */
    if (rc < 0 && unready.code != ERR_OK && mode == ROUTE_NOW && !deploy_routed(d) && !fiber_cancelled())
        return 0;
    if (rc < 0 && unready.code != ERR_OK && err)
        *err = unready;
    if (rc == 0 && d->spec->n_routes > 0)
        rc = deploy_route_port(d, &now.port, deadline, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    take_hosts(&now, d->spec);
    route_before(d, &before);
    bool old = modes[mode].before || (now.n == 0 && mode != ROUTE_NOW);
    const struct route *hosts = old ? &before : &now;
    if (hosts->n > 0)
        rc = set(d, mode, hosts, now.port, before.port, deadline, err);
    else if (now.n + before.n > 0 || mode == ROUTE_NOW)
        rc = ingress_remove(d->w->ingress, d->spec->project, d->spec->name, deadline, err);
    route_release(&before);
    route_release(&now);
    return rc < 0 ? rc : 0;
}

struct route_part {
    Davit__Link__V1__Deploy *msg;
    struct deploy d;
    struct docker_summaries l;
    struct route route;
    struct ingress_server servers[INGRESS_SERVERS_MAX];
};

void route_part_free(struct route_part *p)
{
    if (!p)
        return;
    route_release(&p->route);
    docker_summaries_release(&p->l);
    deploy_release(&p->d);
    deploy_copy_free(p->msg);
    free(p);
}

int route_part_of(struct work *w, const struct desired_service *s, struct route_part **ret, struct ingress_service *ret_service, usec_t deadline,
                  struct err *err)
{
    struct route_part *p = NEW(struct route_part);

    p->msg = deploy_copy(s->deploy);
    deploy_init(&p->d, w, NULL, p->msg);
    p->d.replicas = s->replicas;
    int rc = deploy_list(&p->d, &p->l, deadline, err);
    if (rc < 0) {
        route_part_free(p);
        return rc;
    }
    take_hosts(&p->route, p->d.spec);
    p->route.port = (uint16_t)p->d.spec->routes[0]->port;
    *ret_service = (struct ingress_service){.project = p->d.spec->project,
                                            .service = p->d.spec->name,
                                            .network = p->d.network,
                                            .hosts = (const char *const *)p->route.hosts,
                                            .n_hosts = p->route.n,
                                            .servers = p->servers,
                                            .n_servers = gather(&p->d, ROUTE_NOW, &p->l, p->route.port, p->route.port, p->servers)};
    *ret = p;
    return 0;
}

/* Waits for those containers that drain in @mode. */
static int drain(struct deploy *d, struct job *job, enum route_mode mode, usec_t limit, struct err *err)
{
    struct docker_summaries l = {0};
    usec_t end = deadline_in(limit);
    unsigned open = 0;
    int rc = deploy_list(d, &l, job_deadline(job), err);

    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        const struct docker_summary *c = &l.items[i];
        usec_t now = clock_mono();
        unsigned left = 0;
        bool held = d->held && strcmp(d->held, c->name) == 0;
        if (c->state != DOCKER_STATE_RUNNING || (!held && part_of(d, mode, c) != PART_DRAINS))
            continue;
        job_note(job, 0, "waiting for the connections of %s", c->name);
        rc = ingress_drained(d->w->ingress, d->spec->project, d->spec->name, c->name, end > now ? end - now : 0, &left, err);
        open += left;
    }
    docker_summaries_release(&l);
    if (rc >= 0 && open > 0)
        job_note(job, 100, "%u connection%s had not ended after %u s", open, open == 1 ? "" : "s", (unsigned)(limit / USEC_SEC));
    return rc < 0 ? rc : 0;
}

int deploy_hold(struct deploy *d, struct job *job, enum route_mode mode, struct err *err)
{
    if (!deploy_routed(d))
        return 0;
    int rc = deploy_route(d, mode, job_deadline(job), err);
    return rc < 0 ? rc : drain(d, job, mode, DRAIN_LIMIT_DOWN, err);
}

int deploy_check_routes(struct deploy *d, usec_t deadline, struct err *err)
{
    const Davit__Common__V1__ServiceSpec *s = d->spec;
    const char *project = NULL, *service = NULL;
    uint16_t port;

    if (s->n_routes == 0)
        return 0;
    if (!d->w->ingress) {
        (void)err_set(err, ERR_PRECONDITION, "this server has no ingress, so no hostname can lead to a service here");
        err_hint(err, "start its agent with --ingress");
        return deploy_reason(d, -ERR_PRECONDITION, "no_ingress");
    }
    for (size_t i = 0; i < s->n_routes; i++) {
        if (ingress_owner(d->w->ingress, s->routes[i]->hostname, &project, &service) != 0 ||
            (strcmp(project, s->project) == 0 && strcmp(service, s->name) == 0))
            continue;
        (void)err_set(err, ERR_EXISTS, "%s leads to service %s of project %s already", s->routes[i]->hostname, service, project);
        return deploy_reason(d, -ERR_EXISTS, "hostname_taken");
    }
    return deploy_reason(d, deploy_route_port(d, &port, deadline, err), "invalid");
}

/* NULL: as the error's code says. That a registry wants a login would be understood of the service's own image. */
static const char *unrouted(struct deploy *d, const struct err *err)
{
    if (ingress_unfetched(d->w->ingress) && (err->code == ERR_UNAVAILABLE || err->code == ERR_EXHAUSTED))
        return image_pull_reason(d->w, err);
    return err->code == ERR_EXISTS ? "hostname_taken" : err->code == ERR_PRECONDITION ? "ingress_failed" : NULL;
}

int step_route(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;

    if (!deploy_routed(d)) {
        job_note(job, 100, "no hostname leads here");
        return 0;
    }
    int rc = deploy_route(d, ROUTE_BOTH, job_deadline(job), err);
    if (rc >= 0)
        rc = deploy_route(d, ROUTE_SWITCH, job_deadline(job), err);
    if (rc < 0)
        return deploy_reason(d, rc, unrouted(d, err));
    return 0;
}

int undo_route(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;

    int rc = deploy_hold(d, job, ROUTE_BACK, err);
    return rc < 0 || !deploy_routed(d) ? rc : deploy_route(d, ROUTE_BEFORE, job_deadline(job), err);
}

int step_drain(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = deploy_count(d, job_deadline(job), err);

    if (rc < 0 || !deploy_routed(d))
        return rc;
    /* With the process before this one the ingress may have lost what it was told. */
    if (job->resumed_at >= 0)
        rc = deploy_route(d, ROUTE_SWITCH, job_deadline(job), err);
    return rc < 0 ? rc : drain(d, job, ROUTE_SWITCH, DRAIN_LIMIT, err);
}
