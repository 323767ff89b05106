/* SPDX-License-Identifier: Apache-2.0 */
/* actions — start, stop and restart of a service's containers, and its removal. Each says what it found, so that a repeat is harmless. */
#include <string.h>

#include "host/reach/ingress.h"
#include "host/work/deploy.h"
#include "host/work/secret_files.h"

enum { STOP_SECONDS_MAX = 300 };

struct action {
    struct command *c;
    struct work *w;
    unsigned stop_s;
    unsigned changed, unchanged;
    Davit__Link__V1__Deploy *active; /* the deployment that is active, owned; NULL: not known */
    struct deploy d;                 /* of it */
    char id[DOCKER_ID_SIZE];
    /* Removal: */
    char **volumes; /* that containers of the service mounted, owned */
    size_t n_volumes;
};

static usec_t stop_deadline(const struct action *a)
{
    return deadline_in(a->stop_s * USEC_SEC + ENGINE_CALL);
}

/* --- start, stop, restart ---------------------------------------------------------------------------------------------------------- */

/* What is known of the service; nothing of one that an agent of an earlier version deployed: then there is no route either. */
static void load(struct action *a)
{
    const struct desired_service *s = a->w->desired ? desired_get(a->w->desired, a->c->project, a->c->service) : NULL;

    if (!s)
        return;
    a->active = deploy_copy(s->deploy);
    deploy_init(&a->d, a->w, a->c, a->active);
    a->d.job = NULL; /* it makes nothing */
    a->d.replicas = s->replicas <= REPLICAS_MAX ? s->replicas : REPLICAS_MAX;
}

static void unload(struct action *a)
{
    if (a->active)
        deploy_release(&a->d);
    deploy_copy_free(a->active);
}

static bool is_active(const struct action *a, const struct docker_summaries *l, const struct docker_summary *c)
{
    const char *newest = docker_map_get(&l->items[0].labels, LABEL_DEPLOYMENT);
    const char *its = docker_map_get(&c->labels, LABEL_DEPLOYMENT);

    if (a->active)
        return !deploy_leaves(&a->d, c);
    return newest && its && strcmp(newest, its) == 0;
}

static int lower_first(const void *x, const void *y)
{
    const struct docker_summary *a = x, *b = y;
    unsigned n = replica_number(&a->labels), m = replica_number(&b->labels);

    return n < m ? -1 : n > m;
}

/* The containers of the service by their numbers; with @active only those of the deployment that is active. */
static int each_container(struct action *a, struct job *job, bool active,
                          int (*fn)(struct action *a, struct job *job, const struct docker_summary *s, struct err *err), struct err *err)
{
    struct docker_summaries l = {0};
    struct docker_summary *sorted = NULL;
    size_t n = 0;
    int rc = service_containers(a->w, a->c->project, a->c->service, &l, deadline_in(ENGINE_CALL), err);

    if (rc == 0 && l.n == 0)
        rc = err_set(err, ERR_NOT_FOUND, "service %s of project %s has no container on this server", a->c->service, a->c->project);
    if (rc == 0)
        sorted = mem_zalloc(l.n, sizeof(*sorted));
    for (size_t i = 0; sorted && i < l.n; i++)
        if (!active || is_active(a, &l, &l.items[i]))
            sorted[n++] = l.items[i];
    if (n > 1)
        qsort(sorted, n, sizeof(*sorted), lower_first);
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        if (i == 0)
            (void)str_copy(a->id, sizeof(a->id), str_from(sorted[0].id));
        rc = fn(a, job, &sorted[i], err);
        if (rc == DOCKER_UNCHANGED)
            a->unchanged++;
        else if (rc == 0)
            a->changed++;
    }
    free(sorted);
    docker_summaries_release(&l);
    return rc < 0 ? rc : 0;
}

static bool is_routed(const struct action *a)
{
    return a->active && deploy_routed(&a->d);
}

/* Has the ingress been told of anything yet? What only goes does not wait for one that cannot be had: once it can, it is told of what is desired. */
static bool is_ready(const struct action *a, struct job *job)
{
    struct err err = ERR_INIT;

    if (routes_ready(a->w, job_deadline(job), &err) == 0)
        return true;
    job_note(job, 0, "without the ingress: %s", err.msg);
    return false;
}

static int write_secrets(struct action *a, const struct docker_summary *s, struct err *err)
{
    return a->active ? secret_files_write(a->w, a->active->spec, s->name, NULL, err) : 0;
}

static int start_one(struct action *a, struct job *job, const struct docker_summary *s, struct err *err)
{
    int rc = write_secrets(a, s, err);

    (void)job;
    return rc < 0 ? rc : docker_container_start(a->w->docker, s->id, deadline_in(2 * USEC_MINUTE), err);
}

static int stop_one(struct action *a, struct job *job, const struct docker_summary *s, struct err *err)
{
    (void)job;
    return docker_container_stop(a->w->docker, s->id, a->stop_s, stop_deadline(a), err);
}

/* Has it started since the command came? After a crash that was this command. */
static int look_at_start(struct action *a, const struct docker_summary *s, bool *ret, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(a->w->docker, s->id, &c, deadline_in(ENGINE_CALL), err);

    *ret = rc == 0 && a->c->journal && a->c->journal->received && engine_time(c.started) >= a->c->journal->received;
    docker_container_release(&c);
    return rc;
}

/* One at a time, and the next one only after this one is healthy and has its requests again. */
static int restart_one(struct action *a, struct job *job, const struct docker_summary *s, struct err *err)
{
    struct err ignored = ERR_INIT;
    bool done = false;
    bool rolling = is_routed(a);
    unsigned n = replica_number(&s->labels);
    int rc = job->resumed_at >= 0 ? look_at_start(a, s, &done, err) : 0;

    a->d.held = s->name;
    if (rc >= 0 && rolling && !done)
        rc = deploy_hold(&a->d, job, ROUTE_NOW, err);
    if (rc >= 0 && !done)
        rc = write_secrets(a, s, err);
    if (rc >= 0 && n > 0)
        a->d.unfit |= UINT32_C(1) << (n - 1); /* until it is found healthy */
    if (rc >= 0 && !done)
        rc = docker_container_restart(a->w->docker, s->id, a->stop_s, clock_add(stop_deadline(a), USEC_MINUTE), err);
    if (rc >= 0 && rolling)
        rc = health_wait(&a->d, job, n, err);
    a->d.held = NULL;
    /* Nobody undoes this: the others get theirs, and this one again if it was not touched. */
    if (rc < 0 && rolling && !fiber_cancelled())
        (void)deploy_route(&a->d, ROUTE_NOW, deadline_in(2 * ENGINE_CALL), &ignored);
    return rc < 0 || !rolling ? rc : deploy_route(&a->d, ROUTE_NOW, job_deadline(job), err);
}

static int run_start(struct job *job, void *ctx, struct err *err)
{
    struct action *a = ctx;
    int rc = record_stopped(a->c, false, err);

    if (rc >= 0 && is_routed(a))
        rc = routes_unfit(&a->d, job_deadline(job), err);
    if (rc >= 0)
        rc = each_container(a, job, true, start_one, err);
    for (unsigned i = 1; rc >= 0 && is_routed(a) && a->changed > 0 && i <= a->d.replicas; i++)
        rc = health_wait(&a->d, job, i, err);
    return rc >= 0 && is_routed(a) ? deploy_route(&a->d, ROUTE_NOW, job_deadline(job), err) : rc;
}

static int run_stop(struct job *job, void *ctx, struct err *err)
{
    struct action *a = ctx;
    int rc = record_stopped(a->c, true, err);
    bool routed = rc >= 0 && is_routed(a) && is_ready(a, job);

    if (rc >= 0 && fiber_cancelled())
        return -ERR_CANCELLED;
    if (routed)
        rc = deploy_hold(&a->d, job, ROUTE_CLOSED, err);
    if (rc >= 0)
        rc = each_container(a, job, false, stop_one, err);
    return rc >= 0 && routed ? deploy_route(&a->d, ROUTE_NOW, job_deadline(job), err) : rc;
}

static int run_restart(struct job *job, void *ctx, struct err *err)
{
    struct action *a = ctx;
    int rc = record_stopped(a->c, false, err);

    if (rc >= 0 && is_routed(a))
        rc = routes_unfit(&a->d, job_deadline(job), err);
    return rc < 0 ? rc : each_container(a, job, true, restart_one, err);
}

#define ACTION_TIMEOUT (10 * USEC_MINUTE)
static const struct job_step start_steps[] = {
    {.name = "start", .run = run_start, .timeout = ACTION_TIMEOUT, .no_probe = "it leaves a container alone that runs"}};
static const struct job_step stop_steps[] = {
    {.name = "stop", .run = run_stop, .timeout = ACTION_TIMEOUT, .no_probe = "it leaves a container alone that does not run"}};
static const struct job_step restart_steps[] = {
    {.name = "restart", .run = run_restart, .timeout = USEC_HOUR,
     .no_probe = "taken up again it leaves a container alone that started since the command came"}};

/* What is the same at the end of every job here. 0 or -ERR_CANCELLED; *ret_ok: it succeeded. */
static int conclude(struct command *c, const struct job *job, bool *ret_ok)
{
    struct err err = job->err;

    *ret_ok = false;
    if (job->state == JOB_SUSPENDED)
        return -ERR_CANCELLED;
    if (job->state == JOB_DONE) {
        *ret_ok = true;
        return 0;
    }
    if (job->state != JOB_UNDONE)
        (void)err_set(&err, ERR_DATA_LOSS, "the journal of this command does not fit this agent");
    command_fail(c, &err, reason_of(&err), NULL);
    return 0;
}

int action_command(struct command *c)
{
    const Davit__Link__V1__ContainerAction *m = c->msg->action;
    struct action a = {.c = c, .w = c->w, .stop_s = m->stop_timeout_s ? m->stop_timeout_s : STOP_SECONDS};
    const struct job_step *steps = NULL;
    struct err err = ERR_INIT;
    struct job job;
    bool ok;

    if (a.stop_s > STOP_SECONDS_MAX)
        a.stop_s = STOP_SECONDS_MAX;
    if (m->action == DAVIT__LINK__V1__ACTION__ACTION_START)
        steps = start_steps;
    else if (m->action == DAVIT__LINK__V1__ACTION__ACTION_STOP)
        steps = stop_steps;
    else if (m->action == DAVIT__LINK__V1__ACTION__ACTION_RESTART)
        steps = restart_steps;
    if (!steps) {
        (void)err_set(&err, ERR_UNIMPLEMENTED, "this agent does not know action %d", (int)m->action);
        command_fail(c, &err, "unimplemented", NULL);
        return 0;
    }
    load(&a);
    (void)command_job(c, steps, 1, &a, &job); /* its state says more */
    unload(&a);
    int rc = conclude(c, &job, &ok);
    if (!ok)
        return rc;
    if (*a.id)
        c->result->container_id = str_dup(str_from(a.id));
    if (steps == start_steps)
        command_outcome(c, a.changed > 0 ? "started" : "already running");
    else if (steps == stop_steps)
        command_outcome(c, a.changed > 0 ? "stopped" : "already stopped");
    else
        command_outcome(c, "restarted");
    return 0;
}

/* --- removal ------------------------------------------------------------------------------------------------------------------------- */

static void remember_volume(struct action *a, const char *name)
{
    for (size_t i = 0; i < a->n_volumes; i++)
        if (strcmp(a->volumes[i], name) == 0)
            return;
    a->volumes = mem_resize(a->volumes, a->n_volumes + 1, sizeof(*a->volumes));
    a->volumes[a->n_volumes++] = str_dup(str_from(name));
}

static int gather_volumes(struct action *a, const char *container, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(a->w->docker, container, &c, deadline_in(ENGINE_CALL), err);

    for (size_t i = 0; rc == 0 && i < c.n_mounts; i++)
        if (strcmp(c.mounts[i].type, "volume") == 0 && *c.mounts[i].name)
            remember_volume(a, c.mounts[i].name);
    docker_container_release(&c);
    return rc == -ERR_NOT_FOUND ? 0 : rc;
}

static int step_remove_containers(struct job *job, void *ctx, struct err *err)
{
    struct action *a = ctx;
    struct docker_summaries l = {0};
    int rc = record_removed(a->c, err);

    /* What does not lead there any more is not missed. */
    bool told = rc >= 0 && a->w->ingress && is_ready(a, job);
    if (rc >= 0 && fiber_cancelled())
        return -ERR_CANCELLED;
    if (told)
        rc = ingress_remove(a->w->ingress, a->c->project, a->c->service, job_deadline(job), err);
    if (rc >= 0)
        rc = service_containers(a->w, a->c->project, a->c->service, &l, job_deadline(job), err);
    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        const char *id = l.items[i].id;
        job_note(job, 0, "removing %s", l.items[i].name);
        rc = gather_volumes(a, id, err);
        if (rc >= 0)
            rc = docker_container_stop(a->w->docker, id, a->stop_s, stop_deadline(a), err);
        if (rc >= 0)
            rc = docker_container_remove(a->w->docker, id, false, true, deadline_in(ENGINE_CALL), err);
        if (rc == 0)
            a->changed++;
        if (rc == -ERR_NOT_FOUND)
            rc = 0;
    }
    docker_summaries_release(&l);
    return rc < 0 ? rc : 0;
}

/* Does any service of the project still have a container? */
static int project_in_use(struct action *a, usec_t deadline, struct err *err)
{
    AUTO_FREE char *label = str_printf(LABEL_PROJECT "=%s", a->c->project);
    const char *labels[] = {LABEL_MANAGED "=true", LABEL_SERVICE, label};
    struct docker_summaries l = {0};
    int rc = docker_container_list(a->w->docker, labels, ARRAY_LEN(labels), &l, deadline, err);
    bool used = l.n > 0;

    docker_summaries_release(&l);
    return rc < 0 ? rc : used;
}

static int remove_network(struct action *a, struct job *job, struct err *err)
{
    AUTO_FREE char *name = str_printf("davit-%s", a->c->project);
    struct docker_networks l = {0};
    int rc = project_in_use(a, job_deadline(job), err);

    /* A deployment that waits would look for the network that this one takes away. */
    if (rc != 0 || command_project_busy(a->c))
        return rc < 0 ? rc : 0;
    rc = docker_network_list(a->w->docker, LABEL_MANAGED "=true", &l, job_deadline(job), err);
    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        if (strcmp(l.items[i].name, name) != 0 || !labels_ours(&l.items[i].labels, a->c->project, NULL))
            continue;
        rc = docker_network_remove(a->w->docker, name, job_deadline(job), err);
        if (rc == 0)
            a->changed++;
        if (rc == -ERR_PRECONDITION)
            rc = 0; /* something that is not ours is attached: it stays */
    }
    docker_networks_release(&l);
    return rc < 0 ? rc : 0;
}

static int step_remove_network(struct job *job, void *ctx, struct err *err)
{
    struct action *a = ctx;
    int rc = networks_lock(a->w, job_deadline(job));

    if (rc < 0)
        return rc;
    rc = remove_network(a, job, err);
    networks_unlock(a->w);
    return rc;
}

static bool was_mounted(const struct action *a, const char *volume)
{
    for (size_t i = 0; i < a->n_volumes; i++)
        if (strcmp(a->volumes[i], volume) == 0)
            return true;
    return false;
}

static int step_remove_volumes(struct job *job, void *ctx, struct err *err)
{
    struct action *a = ctx;
    struct docker_volumes l = {0};

    if (!a->c->msg->remove_service->volumes) {
        job_note(job, 100, "volumes are kept");
        return 0;
    }
    int rc = docker_volume_list(a->w->docker, LABEL_MANAGED "=true", &l, job_deadline(job), err);
    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        const struct docker_volume *v = &l.items[i];
        if (!labels_ours(&v->labels, a->c->project, NULL) ||
            !(was_mounted(a, v->name) || labels_ours(&v->labels, a->c->project, a->c->service)))
            continue;
        rc = docker_volume_remove(a->w->docker, v->name, false, job_deadline(job), err);
        if (rc == 0)
            a->changed++;
        if (rc == -ERR_PRECONDITION)
            rc = 0; /* another service uses it */
    }
    docker_volumes_release(&l);
    return rc < 0 ? rc : 0;
}

static const struct job_step remove_steps[] = {
    /* There is no way back from the first step on: what follows is tried again, not undone. */
    {.name = "containers", .run = step_remove_containers, .timeout = ACTION_TIMEOUT, .commit = true,
     .no_probe = "it removes what is still there"},
    {.name = "network", .run = step_remove_network, .timeout = 2 * ENGINE_CALL, .no_probe = "it removes what is still there"},
    {.name = "volumes", .run = step_remove_volumes, .timeout = 2 * USEC_MINUTE, .no_probe = "it removes what is still there"},
};

size_t action_tables(struct job_table *ret)
{
    ret[0] = (struct job_table){"start", start_steps, ARRAY_LEN(start_steps)};
    ret[1] = (struct job_table){"stop", stop_steps, ARRAY_LEN(stop_steps)};
    ret[2] = (struct job_table){"restart", restart_steps, ARRAY_LEN(restart_steps)};
    ret[3] = (struct job_table){"remove", remove_steps, ARRAY_LEN(remove_steps)};
    return 4;
}

int remove_command(struct command *c)
{
    struct action a = {.c = c, .w = c->w, .stop_s = STOP_SECONDS};
    struct job job;
    bool ok;

    (void)command_job(c, remove_steps, ARRAY_LEN(remove_steps), &a, &job);
    for (size_t i = 0; i < a.n_volumes; i++)
        free(a.volumes[i]);
    free(a.volumes);
    int rc = conclude(c, &job, &ok);
    if (!ok)
        return rc;
    if (job.n_collected > 0)
        command_fail(c, &job.collected, reason_of(&job.collected), NULL);
    else
        command_outcome(c, a.changed > 0 ? "removed" : "already removed");
    return 0;
}
