/* SPDX-License-Identifier: Apache-2.0 */
/* deploy_swap — the steps that change containers for others: the new ones are made and started, the old ones stop, before that or after the commit.
 * Until the commit a failure brings back what was there; after it the old containers go. */
#include "host/work/deploy.h"
#include "host/work/secret_files.h"

#include <string.h>

/* --- create, start ---------------------------------------------------------------------------------------------------------------- */

int probe_create(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = deploy_count(d, job_deadline(job), err);

    for (unsigned i = 1; rc == 0 && i <= d->replicas; i++) {
        struct docker_container c = {0};
        rc = deploy_inspect(d, i, &c, job_deadline(job), err);
        docker_container_release(&c);
    }
    return rc < 0 ? rc : rc == 0;
}

/* 0 made; 1 it was here. */
static int create_one(struct deploy *d, unsigned replica, usec_t deadline, struct err *err)
{
    struct docker_container c = {0};
    int rc = deploy_inspect(d, replica, &c, deadline, err);

    docker_container_release(&c);
    if (rc < 0)
        return deploy_reason(d, rc, rc == -ERR_EXISTS ? "name_taken" : NULL);
    if (rc == 0)
        return 1;
    *err = ERR_INIT;
    return deploy_create(d, replica, deadline, err);
}

int step_create(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = deploy_count(d, job_deadline(job), err);
    unsigned here = 0;

    for (unsigned i = 1; rc >= 0 && i <= d->replicas; i++) {
        rc = create_one(d, i, job_deadline(job), err);
        here += rc > 0;
    }
    if (rc >= 0 && here == d->replicas)
        job_note(job, 100, here == 1 ? "the container is here" : "the containers are here");
    else if (rc >= 0 && d->replicas > 1)
        job_note(job, 100, "%u containers", d->replicas);
    return rc < 0 ? rc : 0;
}

/* Calls @fn for each container that this command made. */
static int each_made(struct deploy *d, struct job *job, int (*fn)(struct deploy *d, const char *id, usec_t deadline, struct err *err),
                     struct err *err)
{
    struct docker_summaries l = {0};
    int rc = deploy_list(d, &l, job_deadline(job), err);

    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        if (!deploy_owns(d, &l.items[i].labels) || !deploy_made(d, &l.items[i].labels, "create"))
            continue;
        rc = fn(d, l.items[i].id, job_deadline(job), err);
        if (rc == -ERR_NOT_FOUND)
            rc = 0;
    }
    docker_summaries_release(&l);
    return rc < 0 ? rc : 0;
}

static int remove_one(struct deploy *d, const char *id, usec_t deadline, struct err *err)
{
    return docker_container_remove(d->w->docker, id, true, true, deadline, err);
}

int undo_create(struct job *job, void *ctx, struct err *err)
{
    return each_made(ctx, job, remove_one, err);
}

static const char *start_reason(const struct deploy *d, const struct err *err)
{
    if (err->code == ERR_PRECONDITION && d->spec->n_ports > 0 &&
        (strcasestr(err->msg, "port is already allocated") || strcasestr(err->msg, "address already in use") ||
         strcasestr(err->msg, "port")))
        return "port_taken";
    if (err->code == ERR_UNAVAILABLE || err->code == ERR_DENIED || err->code == ERR_DEADLINE || err->code == ERR_EXHAUSTED)
        return NULL;
    return "start_failed";
}

static int start_one(struct deploy *d, unsigned replica, usec_t deadline, struct err *err)
{
    struct docker_container c = {0};
    AUTO_FREE char *name = deploy_name(d, replica);
    int rc = deploy_inspect(d, replica, &c, deadline, err);
    bool runs = rc == 0 && c.state == DOCKER_STATE_RUNNING;

    docker_container_release(&c);
    if (rc > 0)
        return err_set(err, ERR_ABORTED, "container %s was removed while it was being deployed", name);
    if (rc < 0)
        return rc;
    if (runs) {
        d->ran |= UINT32_C(1) << (replica - 1);
        return 0;
    }
    rc = secret_files_write(d->w, d->spec, name, NULL, err);
    if (rc < 0)
        return rc;
    rc = docker_container_start(d->w->docker, name, deadline, err);
    return rc < 0 ? deploy_reason(d, rc, start_reason(d, err)) : 0;
}

int step_start(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = deploy_count(d, job_deadline(job), err);

    d->ran = 0;
    for (unsigned i = 1; rc >= 0 && i <= d->replicas; i++)
        rc = start_one(d, i, job_deadline(job), err);
    if (rc >= 0 && deploy_ran(d))
        job_note(job, 100, d->replicas == 1 ? "it runs already" : "they run already");
    return rc < 0 ? rc : 0;
}

static int stop_one(struct deploy *d, const char *id, usec_t deadline, struct err *err)
{
    return docker_container_stop(d->w->docker, id, STOP_SECONDS, deadline, err);
}

int undo_start(struct job *job, void *ctx, struct err *err)
{
    return each_made(ctx, job, stop_one, err);
}

/* --- the containers before ---------------------------------------------------------------------------------------------------------- */

static bool is_up(const struct docker_summary *c)
{
    return c->state == DOCKER_STATE_RUNNING || c->state == DOCKER_STATE_RESTARTING || c->state == DOCKER_STATE_PAUSED;
}

int deploy_before(struct deploy *d, usec_t deadline, struct err *err)
{
    struct docker_summaries l = {0};
    int n = 0, rc = deploy_list(d, &l, deadline, err);

    for (size_t i = 0; rc >= 0 && i < l.n; i++)
        n += deploy_leaves(d, &l.items[i]) && is_up(&l.items[i]);
    docker_summaries_release(&l);
    return rc < 0 ? rc : n > 0;
}

static void remember_stopped(struct deploy *d, const char *id)
{
    d->stopped = mem_resize(d->stopped, d->n_stopped + 1, sizeof(*d->stopped));
    d->stopped[d->n_stopped++] = str_dup(str_from(id));
}

/* Only where both cannot run at once, or nobody could tell when the new ones are ready. */
int step_stop_old(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_summaries l = {0};
    int rc = deploy_strategy(d, job_deadline(job), err);

    if (rc >= 0)
        rc = deploy_count(d, job_deadline(job), err);
    if (rc < 0)
        return rc;
    if (d->strategy == STRATEGY_BLUE_GREEN) {
        job_note(job, 100, "not needed");
        return 0;
    }
    rc = deploy_hold(d, job, ROUTE_HELD, err);
    if (rc < 0)
        return rc;
    rc = deploy_list(d, &l, job_deadline(job), err);
    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        const struct docker_summary *c = &l.items[i];
        if (!deploy_leaves(d, c) || !is_up(c))
            continue;
        remember_stopped(d, c->id);
        job_note(job, 0, "stopping %s", c->name);
        rc = docker_container_stop(d->w->docker, c->id, STOP_SECONDS, job_deadline(job), err);
        if (rc == -ERR_NOT_FOUND)
            rc = 0;
    }
    docker_summaries_release(&l);
    return rc < 0 ? rc : 0;
}

/* After a crash nobody remembers which containers were stopped: those of the newest of the other deployments that has ever run. */
static void recall_stopped(struct deploy *d, const struct docker_summaries *l)
{
    const struct desired_service *s = d->w->desired ? desired_get(d->w->desired, d->spec->project, d->spec->name) : NULL;
    const char *before = NULL;

    /* Its user had stopped them. */
    if (s && s->stopped)
        return;
    for (size_t i = 0; i < l->n; i++) {
        const char *deployment = docker_map_get(&l->items[i].labels, LABEL_DEPLOYMENT);
        if (!deployment || deploy_owns(d, &l->items[i].labels) || l->items[i].state == DOCKER_STATE_CREATED)
            continue;
        before = before ? before : deployment;
        if (strcmp(before, deployment) == 0)
            remember_stopped(d, l->items[i].id);
    }
}

/* The failed containers go first: an engine that restarted meanwhile has started them again, and they hold the ports. */
static int bring_back(struct deploy *d, struct job *job, struct err *err)
{
    int rc = undo_create(job, d, err);

    for (size_t i = 0; rc >= 0 && i < d->n_stopped; i++) {
        rc = docker_container_start(d->w->docker, d->stopped[i], job_deadline(job), err);
        if (rc == -ERR_NOT_FOUND)
            rc = 0;
    }
    return rc;
}

int undo_stop_old(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_summaries l = {0};
    int rc = 0;

    /* Without the image nobody knows the strategy any more; what ran runs then, or shall. */
    if (deploy_strategy(d, job_deadline(job), err) == 0 && d->strategy == STRATEGY_BLUE_GREEN)
        return 0;
    if (d->n_stopped == 0 && job->resumed_at >= STEP_STOP_OLD) {
        rc = deploy_list(d, &l, job_deadline(job), err);
        if (rc >= 0)
            recall_stopped(d, &l);
        docker_summaries_release(&l);
    }
    if (rc >= 0)
        rc = bring_back(d, job, err);
    if (rc >= 0 && deploy_routed(d))
        rc = deploy_route(d, ROUTE_BEFORE, job_deadline(job), err);
    if (rc >= 0 || fiber_cancelled())
        return rc < 0 ? rc : 0;
    /* It ran before. An engine that is going down or a port that is not free yet refuses with any code: worth another try. */
    err->code = ERR_UNAVAILABLE;
    return -ERR_UNAVAILABLE;
}

int step_retire(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_summaries l = {0};
    unsigned all = 0, at = 0;
    int rc = deploy_count(d, job_deadline(job), err);

    if (rc >= 0 && job->resumed_at >= 0)
        rc = deploy_hold(d, job, ROUTE_SWITCH, err);
    if (rc >= 0)
        rc = deploy_route(d, ROUTE_NOW, job_deadline(job), err);
    if (rc >= 0)
        rc = deploy_list(d, &l, job_deadline(job), err);
    for (size_t i = 0; rc >= 0 && i < l.n; i++)
        all += deploy_leaves(d, &l.items[i]);
    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        if (!deploy_leaves(d, &l.items[i]))
            continue;
        if (all > 1)
            job_note(job, 0, "removing %u of %u containers", ++at, all);
        else
            job_note(job, 0, "removing %s", l.items[i].name);
        rc = docker_container_stop(d->w->docker, l.items[i].id, STOP_SECONDS, job_deadline(job), err);
        if (rc >= 0)
            rc = docker_container_remove(d->w->docker, l.items[i].id, false, true, job_deadline(job), err);
        if (rc == -ERR_NOT_FOUND)
            rc = 0;
        if (rc >= 0)
            d->retired++;
    }
    docker_summaries_release(&l);
    return rc < 0 ? rc : 0;
}
