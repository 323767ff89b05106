/* SPDX-License-Identifier: Apache-2.0 */
/* deploy_objects — the steps of a deployment that are about the objects around a container: network and volumes. */
#include "host/work/deploy.h"
#include "host/work/pools.h"

#include <stdio.h>
#include <string.h>

enum { SUBNET_TRIES = 8 };

/* --- network -------------------------------------------------------------------------------------------------------------------- */

/* The project's network: 1 ours, 0 absent, -ERR_EXISTS when it is somebody else's. *ret_made: by this command. */
static int find_network(struct deploy *d, bool *ret_made, usec_t deadline, struct err *err)
{
    struct docker_networks l = {0};
    int rc = docker_network_list(d->w->docker, NULL, &l, deadline, err);

    *ret_made = false;
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        if (strcmp(l.items[i].name, d->network) != 0)
            continue;
        *ret_made = deploy_made(d, &l.items[i].labels, "network");
        rc = labels_ours(&l.items[i].labels, d->spec->project, NULL)
                 ? 1
                 : err_set(err, ERR_EXISTS, "a network named %s exists that Davit did not make", d->network);
    }
    docker_networks_release(&l);
    return rc;
}

int probe_network(struct job *job, void *ctx, struct err *err)
{
    bool made;
    return find_network(ctx, &made, job_deadline(job), err);
}

/* A range of our own choice: the engine's runs out early, and overlaps with what it does not know. None of the @n_tried. 1: the pools have none. */
static int choose_subnet(struct work *w, const struct pool *pools, size_t n_pools, char tried[][POOL_TEXT_SIZE], unsigned n_tried,
                         char ret[POOL_TEXT_SIZE], usec_t deadline, struct err *err)
{
    struct docker_networks l = {0};
    struct pool_nets used = {0};
    int rc = docker_network_list(w->docker, NULL, &l, deadline, err);

    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        AUTO_FREE char *what = str_printf("network %s", l.items[i].name);
        rc = pool_nets_add(&used, str_from(l.items[i].subnet), what, err);
    }
    for (unsigned i = 0; rc >= 0 && i < n_tried; i++)
        rc = pool_nets_add(&used, str_from(tried[i]), "what the engine refused", err);
    if (rc >= 0)
        rc = pool_nets_host(&used, err);
    if (rc >= 0 && pool_choose(pools, n_pools, &used, ret, err) < 0)
        rc = 1;
    pool_nets_release(&used);
    docker_networks_release(&l);
    return rc;
}

/* What a network of 256 addresses has beside its range, "10.213.4.0/24". */
struct quarters {
    char gateway[POOL_TEXT_SIZE], lower[POOL_TEXT_SIZE];
};

static void divide(struct quarters *q, const char *subnet, struct docker_network_spec *spec)
{
    int n = (int)(strrchr(subnet, '.') - subnet);

    (void)snprintf(q->gateway, sizeof(q->gateway), "%.*s.1", n, subnet);
    (void)snprintf(q->lower, sizeof(q->lower), "%.*s.0/25", n, subnet);
    spec->gateway = q->gateway;
    spec->ip_range = q->lower;
}

/* The pools with pieces of 256 addresses; *ret_n of them. */
static struct pool *pools_of_256(const struct work *w, size_t *ret_n)
{
    struct pool *pools = mem_zalloc(w->n_pools + 1, sizeof(*pools));

    *ret_n = 0;
    for (size_t i = 0; i < w->n_pools; i++)
        if (w->pools[i].bits <= 24) {
            pools[*ret_n] = w->pools[i];
            pools[(*ret_n)++].size = 24;
        }
    return pools;
}

/* 1: the pools are exhausted, as *err says. */
static int ensure_network(struct work *w, const struct docker_network_spec *wanted, bool divided, usec_t deadline, struct err *err)
{
    struct docker_network_spec spec = *wanted;
    char tried[SUBNET_TRIES][POOL_TEXT_SIZE];
    struct quarters q;
    size_t n = w->n_pools;
    AUTO_FREE struct pool *large = divided ? pools_of_256(w, &n) : NULL;
    int rc = 0;

    /* Somebody else may have taken the range, and the engine tells of a network only when it is complete. That it overlaps it says in words only. */
    for (unsigned i = 0; i < SUBNET_TRIES; i++) {
        *err = ERR_INIT;
        if ((rc = choose_subnet(w, divided ? large : w->pools, n, tried, i, tried[i], deadline, err)) != 0)
            return rc;
        spec.subnet = tried[i];
        if (divided)
            divide(&q, tried[i], &spec);
        rc = docker_network_ensure(w->docker, &spec, NULL, deadline, err);
        if (rc >= 0 || !strcasestr(err->msg, "overlap"))
            return rc < 0 ? rc : 0;
    }
    return rc;
}

static int make_network(struct deploy *d, usec_t deadline, struct err *err)
{
    bool made;
    int rc = find_network(d, &made, deadline, err);

    if (rc != 0)
        return rc;
    AUTO_FREE char *label = deploy_job_label(d, "network");
    const struct docker_pair labels[] = {
        {LABEL_MANAGED, "true"}, {LABEL_PROJECT, d->spec->project}, {LABEL_JOB, label}, {LABEL_SERVER, d->w->server_id}};
    const struct docker_network_spec spec = {.name = d->network, .labels = labels, .n_labels = ARRAY_LEN(labels)};
    rc = ensure_network(d->w, &spec, false, deadline, err);
    return rc > 0 ? deploy_reason(d, -(int)err->code, "address_pool_exhausted") : rc;
}

/* Is there one of this name, whoever made it? */
static int is_there(struct work *w, const char *name, usec_t deadline, struct err *err)
{
    struct docker_networks l = {0};
    int rc = docker_network_list(w->docker, NULL, &l, deadline, err);

    for (size_t i = 0; rc == 0 && i < l.n; i++)
        rc = strcmp(l.items[i].name, name) == 0;
    docker_networks_release(&l);
    return rc;
}

static int provide(struct work *w, const struct docker_network_spec *spec, bool divided, usec_t deadline, struct err *err)
{
    struct err e = ERR_INIT;
    int rc = networks_lock(w, deadline);

    if (rc < 0)
        return err_set(err, (enum err_code)-rc, "other networks are being made");
    rc = is_there(w, spec->name, deadline, &e);
    if (rc == 0)
        rc = ensure_network(w, spec, divided, deadline, &e) == 0 ? 0 : -(int)e.code;
    networks_unlock(w);
    if (rc < 0 && err)
        *err = e;
    return rc < 0 ? rc : 0;
}

int networks_provide(void *w, const struct docker_network_spec *spec, usec_t deadline, struct err *err)
{
    return provide(w, spec, false, deadline, err);
}

int networks_provide_256(struct work *w, const struct docker_network_spec *spec, usec_t deadline, struct err *err)
{
    return provide(w, spec, true, deadline, err);
}

int step_network(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = networks_lock(d->w, job_deadline(job));

    if (rc < 0)
        return rc;
    rc = make_network(d, job_deadline(job), err);
    networks_unlock(d->w);
    return rc < 0 ? rc : 0;
}

static int unmake_network(struct deploy *d, usec_t deadline, struct err *err)
{
    bool made;
    int rc = find_network(d, &made, deadline, err);

    if (rc <= 0 || !made || command_project_busy(d->c))
        return rc == -ERR_EXISTS || rc > 0 ? 0 : rc;
    rc = docker_network_remove(d->w->docker, d->network, deadline, err);
    return rc == -ERR_PRECONDITION || rc > 0 ? 0 : rc; /* in use by now: it stays */
}

int undo_network(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = networks_lock(d->w, job_deadline(job));

    if (rc < 0)
        return rc;
    rc = unmake_network(d, job_deadline(job), err);
    networks_unlock(d->w);
    return rc;
}

/* --- volumes -------------------------------------------------------------------------------------------------------------------- */

static const struct docker_volume *find_volume(const struct docker_volumes *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->items[i].name, name) == 0)
            return &l->items[i];
    return NULL;
}

static int ensure_volume(struct deploy *d, const struct docker_volumes *l, const char *short_name, usec_t deadline,
                         struct err *err)
{
    AUTO_FREE char *name = str_printf("davit-%s-%s", d->spec->project, short_name);
    AUTO_FREE char *label = deploy_job_label(d, "volumes");
    const struct docker_volume *v = find_volume(l, name);
    const struct docker_pair labels[] = {
        {LABEL_MANAGED, "true"}, {LABEL_PROJECT, d->spec->project}, {LABEL_SERVICE, d->spec->name}, {LABEL_VOLUME, short_name},
        {LABEL_JOB, label},      {LABEL_SERVER, d->w->server_id},
    };

    if (!v)
        return docker_volume_ensure(d->w->docker, name, labels, ARRAY_LEN(labels), deadline, err);
    if (!labels_ours(&v->labels, d->spec->project, NULL))
        return err_set(err, ERR_EXISTS, "a volume named %s exists that is not of project %s", name, d->spec->project);
    return 0;
}

int step_volumes(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_volumes l = {0};

    if (d->spec->n_volumes == 0)
        return 0;
    int rc = docker_volume_list(d->w->docker, NULL, &l, job_deadline(job), err);
    for (size_t i = 0; rc >= 0 && i < d->spec->n_volumes; i++)
        rc = ensure_volume(d, &l, d->spec->volumes[i]->name, job_deadline(job), err);
    docker_volumes_release(&l);
    return rc < 0 ? rc : 0;
}

/* Removes the volumes that this very command made; nobody else can have put anything there. */
int undo_volumes(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_volumes l = {0};

    if (d->spec->n_volumes == 0)
        return 0;
    int rc = docker_volume_list(d->w->docker, LABEL_MANAGED "=true", &l, job_deadline(job), err);
    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        if (!labels_ours(&l.items[i].labels, d->spec->project, NULL) || !deploy_made(d, &l.items[i].labels, "volumes"))
            continue;
        rc = docker_volume_remove(d->w->docker, l.items[i].name, false, job_deadline(job), err);
        if (rc == -ERR_PRECONDITION)
            rc = 0;
    }
    docker_volumes_release(&l);
    return rc < 0 ? rc : 0;
}
