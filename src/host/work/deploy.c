/* SPDX-License-Identifier: Apache-2.0 */
/* deploy — the table of a deployment and those of its steps that are about the objects around a container: network, volumes, the
 * containers before it.  Until the commit a failure brings back what was there; after it the old containers go. */
#include "host/work/deploy.h"

#include <string.h>

enum { STOP_SECONDS = 10, STEP_STOP_OLD = 5 };
#define STOP_CALL (STOP_SECONDS * USEC_SEC + ENGINE_CALL)

char *deploy_job_label(const struct deploy *d, const char *step)
{
    return str_printf("%s/%s", d->job, step);
}

bool deploy_made(const struct deploy *d, const struct docker_map *labels, const char *step)
{
    AUTO_FREE char *want = deploy_job_label(d, step);
    const char *job = docker_map_get(labels, LABEL_JOB);

    return job && strcmp(job, want) == 0;
}

int deploy_reason(struct deploy *d, int rc, const char *reason)
{
    if (rc < 0 && !d->reason && reason)
        d->reason = reason;
    return rc;
}

int deploy_inspect(struct deploy *d, struct docker_container *ret, usec_t deadline, struct err *err)
{
    int rc = docker_container_inspect(d->w->docker, d->container, ret, deadline, err);

    if (rc == -ERR_NOT_FOUND)
        return 1;
    if (rc < 0)
        return rc;
    const char *deployment = docker_map_get(&ret->labels, LABEL_DEPLOYMENT);
    if (!labels_ours(&ret->labels, d->spec->project, d->spec->name) || !deployment ||
        strcmp(deployment, d->msg->deployment_id) != 0) {
        docker_container_release(ret);
        (void)err_set(err, ERR_EXISTS, "a container named %s exists that is not of this deployment", d->container);
        err_hint(err, "rename or remove it");
        return -ERR_EXISTS;
    }
    (void)str_copy(d->id, sizeof(d->id), str_from(ret->id));
    return 0;
}

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

static int probe_network(struct job *job, void *ctx, struct err *err)
{
    bool made;
    return find_network(ctx, &made, job_deadline(job), err);
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
    return docker_network_ensure(d->w->docker, &spec, NULL, deadline, err);
}

static int step_network(struct job *job, void *ctx, struct err *err)
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

static int undo_network(struct job *job, void *ctx, struct err *err)
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

static int step_volumes(struct job *job, void *ctx, struct err *err)
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
static int undo_volumes(struct job *job, void *ctx, struct err *err)
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

/* --- create, start ---------------------------------------------------------------------------------------------------------------- */

static int probe_create(struct job *job, void *ctx, struct err *err)
{
    struct docker_container c = {0};
    int rc = deploy_inspect(ctx, &c, job_deadline(job), err);

    docker_container_release(&c);
    return rc < 0 ? rc : rc == 0;
}

static int undo_create(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_container c = {0};
    int rc = deploy_inspect(d, &c, job_deadline(job), err);
    bool made = rc == 0 && deploy_made(d, &c.labels, "create");

    docker_container_release(&c);
    if (rc == -ERR_EXISTS || rc > 0 || (rc == 0 && !made))
        return 0; /* absent, not ours, or from before this command */
    if (rc < 0)
        return rc;
    rc = docker_container_remove(d->w->docker, d->id, true, true, job_deadline(job), err);
    return rc < 0 ? rc : 0;
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

static int step_start(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_container c = {0};
    int rc = deploy_inspect(d, &c, job_deadline(job), err);

    d->was_running = rc == 0 && c.state == DOCKER_STATE_RUNNING;
    docker_container_release(&c);
    if (rc > 0)
        return err_set(err, ERR_ABORTED, "container %s was removed while it was being deployed", d->container);
    if (rc < 0)
        return rc;
    if (d->was_running) {
        job_note(job, 100, "it runs already");
        return 0;
    }
    d->started = true;
    rc = docker_container_start(d->w->docker, d->id, job_deadline(job), err);
    return rc < 0 ? deploy_reason(d, rc, start_reason(d, err)) : 0;
}

static int undo_start(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_container c = {0};
    int rc = deploy_inspect(d, &c, job_deadline(job), err);
    bool made = rc == 0 && deploy_made(d, &c.labels, "create");

    docker_container_release(&c);
    if (rc == -ERR_EXISTS || rc > 0 || (rc == 0 && !made && !d->started))
        return 0;
    if (rc < 0)
        return rc;
    rc = docker_container_stop(d->w->docker, d->id, STOP_SECONDS, job_deadline(job), err);
    return rc < 0 && rc != -ERR_NOT_FOUND ? rc : 0;
}

/* --- the containers before ---------------------------------------------------------------------------------------------------------- */

static bool is_other(const struct deploy *d, const struct docker_summary *c)
{
    return labels_ours(&c->labels, d->spec->project, d->spec->name) && strcmp(c->name, d->container) != 0;
}

/* Only where both cannot run at once: they would share a port or a volume. */
static int step_stop_old(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_summaries l = {0};

    if (d->spec->n_ports == 0 && d->spec->n_volumes == 0) {
        job_note(job, 100, "not needed");
        return 0;
    }
    int rc = service_containers(d->w, d->spec->project, d->spec->name, &l, job_deadline(job), err);
    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        const struct docker_summary *c = &l.items[i];
        if (!is_other(d, c) ||
            (c->state != DOCKER_STATE_RUNNING && c->state != DOCKER_STATE_RESTARTING && c->state != DOCKER_STATE_PAUSED))
            continue;
        d->stopped = mem_resize(d->stopped, d->n_stopped + 1, sizeof(*d->stopped));
        d->stopped[d->n_stopped++] = str_dup(str_from(c->id));
        job_note(job, 0, "stopping %s", c->name);
        rc = docker_container_stop(d->w->docker, c->id, STOP_SECONDS, job_deadline(job), err);
        if (rc == -ERR_NOT_FOUND)
            rc = 0;
    }
    docker_summaries_release(&l);
    return rc < 0 ? rc : 0;
}

/* After a crash nobody remembers which containers were stopped: it was the newest of the others that has ever run. */
static void recall_stopped(struct deploy *d, const struct docker_summaries *l)
{
    for (size_t i = 0; i < l->n && d->n_stopped == 0; i++) {
        if (!is_other(d, &l->items[i]) || l->items[i].state == DOCKER_STATE_CREATED)
            continue;
        d->stopped = mem_resize(d->stopped, 1, sizeof(*d->stopped));
        d->stopped[d->n_stopped++] = str_dup(str_from(l->items[i].id));
    }
}

/* The failed container goes first: an engine that restarted meanwhile has started it again, and it holds the ports. */
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

static int undo_stop_old(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_summaries l = {0};
    int rc = 0;

    if (d->spec->n_ports == 0 && d->spec->n_volumes == 0)
        return 0;
    if (d->n_stopped == 0 && job->resumed_at >= STEP_STOP_OLD) {
        rc = service_containers(d->w, d->spec->project, d->spec->name, &l, job_deadline(job), err);
        if (rc >= 0)
            recall_stopped(d, &l);
        docker_summaries_release(&l);
    }
    if (rc >= 0)
        rc = bring_back(d, job, err);
    if (rc >= 0 || fiber_cancelled())
        return rc < 0 ? rc : 0;
    /* It ran before. An engine that is going down or a port that is not free yet refuses with any code: worth another try. */
    err->code = ERR_UNAVAILABLE;
    return -ERR_UNAVAILABLE;
}

static int step_commit(struct job *job, void *ctx, struct err *err)
{
    /* The journal's record is the whole effect: from here the old containers may go. */
    (void)job;
    (void)ctx;
    (void)err;
    return 0;
}

static int step_retire(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    struct docker_summaries l = {0};
    int rc = service_containers(d->w, d->spec->project, d->spec->name, &l, job_deadline(job), err);

    for (size_t i = 0; rc >= 0 && i < l.n; i++) {
        if (!is_other(d, &l.items[i]))
            continue;
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

/* --- the command ------------------------------------------------------------------------------------------------------------------- */

static const struct job_step steps[] = {
    {.name = "pull", .run = step_pull, .timeout = 30 * USEC_MINUTE, .no_probe = "the engine fetches only the layers that it does not have"},
    {.name = "inspect", .run = step_inspect, .timeout = ENGINE_CALL, .no_probe = "it only looks"},
    {.name = "network", .probe = probe_network, .run = step_network, .undo = undo_network, .timeout = ENGINE_CALL},
    {.name = "volumes", .run = step_volumes, .undo = undo_volumes, .timeout = USEC_MINUTE, .no_probe = "it makes those that are not there, by name"},
    {.name = "create", .probe = probe_create, .run = step_create, .undo = undo_create, .timeout = 2 * USEC_MINUTE},
    [STEP_STOP_OLD] = {.name = "stop_old", .run = step_stop_old, .undo = undo_stop_old, .timeout = 2 * STOP_CALL,
                       .no_probe = "it stops those that run; the undo finds the others again"},
    {.name = "start", .run = step_start, .undo = undo_start, .timeout = 2 * USEC_MINUTE, .no_probe = "it leaves a container alone that runs"},
    {.name = "health", .run = step_health, .timeout = 8 * USEC_HOUR, .no_probe = "it only looks"},
    {.name = "commit", .run = step_commit, .timeout = ENGINE_CALL, .commit = true, .no_probe = "the record is the effect"},
    {.name = "retire", .run = step_retire, .timeout = 2 * STOP_CALL, .no_probe = "it removes the older containers that are still there"},
};

void deploy_table(struct job_table *ret)
{
    *ret = (struct job_table){"deploy", steps, ARRAY_LEN(steps)};
}

static void deploy_release(struct deploy *d)
{
    free(d->container);
    free(d->network);
    for (size_t i = 0; i < d->n_stopped; i++)
        free(d->stopped[i]);
    free(d->stopped);
    free(d->detail);
    docker_image_release(&d->image);
}

static void succeed(struct deploy *d, const struct job *job)
{
    struct command *c = d->c;

    if (!*d->id || !*d->digest) {
        /* Resumed behind the steps that find these out. */
        struct docker_container found = {0};
        (void)deploy_inspect(d, &found, deadline_in(ENGINE_CALL), NULL);
        docker_container_release(&found);
        if (deploy_image(d, deadline_in(ENGINE_CALL), NULL) == 0 && d->image.n_repo_digests > 0) {
            const char *at = strchr(d->image.repo_digests[0], '@');
            (void)str_copy(d->digest, sizeof(d->digest), str_from(at ? at + 1 : ""));
        }
    }
    c->result->container_id = *d->id ? str_dup(str_from(d->id)) : (char *)protobuf_c_empty_string;
    c->result->image_digest = *d->digest ? str_dup(str_from(d->digest)) : (char *)protobuf_c_empty_string;
    if (job->n_collected > 0)
        command_outcome(c, "running, but an older container could not be removed: %s", job->collected.msg);
    else if (d->was_running)
        command_outcome(c, "already running");
    else if (d->retired > 0)
        command_outcome(c, "running, %u older container%s removed", d->retired, d->retired == 1 ? "" : "s");
    else
        command_outcome(c, "running");
}

static void fail(struct deploy *d, struct job *job)
{
    const char *reason = d->reason ? d->reason : reason_of(&job->err);

    if (!*job->err.hint && job->n_collected > 0)
        err_hint(&job->err, "cleaning up was not complete: %s", job->collected.msg);
    command_fail(d->c, &job->err, reason, d->detail);
}

int deploy_command(struct command *c)
{
    const Davit__Link__V1__Deploy *msg = c->msg->deploy;
    const char *reason = NULL;
    struct err err = ERR_INIT;
    struct job job;

    if (deploy_check(msg, &err) < 0) {
        command_fail(c, &err, "invalid", NULL);
        return 0;
    }
    /* What began already comes to its end: it was allowed, and a half of it helps nobody. */
    if (c->resume_step < 0 && deploy_policy(c->w, msg, &reason, &err) < 0) {
        command_fail(c, &err, reason, NULL);
        return 0;
    }
    struct deploy d = {.c = c, .w = c->w, .msg = msg, .spec = msg->spec, .job = c->msg->id};
    d.container = str_printf("davit-%s-%s-%.8s", msg->spec->project, msg->spec->name, msg->deployment_id);
    d.network = str_printf("davit-%s", msg->spec->project);
    (void)command_job(c, steps, ARRAY_LEN(steps), &d, &job); /* its state says more */
    if (job.state == JOB_DONE) {
        succeed(&d, &job);
    } else if (job.state == JOB_UNDONE) {
        fail(&d, &job);
    } else if (job.state != JOB_SUSPENDED) {
        (void)err_set(&err, ERR_DATA_LOSS, "the journal of this command does not fit this agent");
        command_fail(c, &err, "interrupted", NULL);
    }
    deploy_release(&d);
    return job.state == JOB_SUSPENDED ? -ERR_CANCELLED : 0;
}
