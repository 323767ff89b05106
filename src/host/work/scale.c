/* SPDX-License-Identifier: Apache-2.0 */
/* scale — more or fewer containers of the deployment that is active. New ones are routed once they are healthy; the highest numbers leave, after
 * their last request. */
#include <string.h>

#include "host/work/deploy.h"

/* Further containers are of the image that the first ones run, whatever its name means by now. */
static int pin_image(struct deploy *d, usec_t deadline, struct err *err)
{
    struct docker_summaries l = {0};
    int rc = deploy_list(d, &l, deadline, err);

    for (size_t i = 0; rc >= 0 && i < l.n && !*d->pinned; i++)
        if (deploy_owns(d, &l.items[i].labels))
            (void)str_copy(d->pinned, sizeof(d->pinned), str_from(l.items[i].image_id));
    docker_summaries_release(&l);
    return rc < 0 ? rc : 0;
}

static int step_look(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = deploy_image(d, job_deadline(job), err);

    if (rc < 0)
        return deploy_reason(d, rc, rc == -ERR_NOT_FOUND ? "image_not_found" : NULL);
    rc = deploy_count(d, job_deadline(job), err);
    if (rc >= 0)
        rc = deploy_check_replicas(d, err);
    return rc < 0 ? rc : routes_unfit(d, job_deadline(job), err);
}

static int step_commit(struct job *job, void *ctx, struct err *err)
{
    return record_active(ctx, job_deadline(job), err);
}

static const struct job_step steps[] = {
    {.name = "inspect", .run = step_look, .timeout = 2 * ENGINE_CALL, .no_probe = "it only looks"},
    {.name = "create", .probe = probe_create, .run = step_create, .undo = undo_create, .timeout = 5 * USEC_MINUTE},
    {.name = "start", .run = step_start, .undo = undo_start, .timeout = STOP_ALL, .no_probe = "it leaves a container alone that runs"},
    {.name = "health", .run = step_health, .timeout = 8 * USEC_HOUR, .interruptible = true, .no_probe = "it only looks"},
    {.name = "route", .run = step_route, .undo = undo_route, .timeout = 3 * USEC_MINUTE, .no_probe = "the ingress is told the whole, not a change"},
    {.name = "drain", .run = step_drain, .timeout = 3 * USEC_MINUTE, .interruptible = true, .no_probe = "it only waits"},
    {.name = "commit", .run = step_commit, .timeout = ENGINE_CALL, .commit = true, .no_probe = "what is desired is written whole"},
    {.name = "retire", .run = step_retire, .timeout = STOP_ALL, .no_probe = "it removes the containers that are still there"},
};

void scale_table(struct job_table *ret)
{
    *ret = (struct job_table){"scale", steps, ARRAY_LEN(steps)};
}

static void conclude(struct deploy *d, struct job *job)
{
    struct command *c = d->c;
    struct err err = ERR_INIT;

    if (job->state == JOB_UNDONE) {
        deploy_fail(d, job);
    } else if (job->state == JOB_DONE && job->n_collected > 0) {
        command_outcome(c, "%u running, but a container could not be removed: %s", d->replicas, job->collected.msg);
    } else if (job->state == JOB_DONE) {
        command_outcome(c, deploy_ran(d) && d->retired == 0 ? "already %u running" : "%u running", d->replicas);
    } else if (job->state != JOB_SUSPENDED) {
        (void)err_set(&err, ERR_DATA_LOSS, "the journal of this command does not fit this agent");
        command_fail(c, &err, "interrupted", NULL);
    }
}

/* 0 with what is active copied to *ret, or it is refused. */
static int active(struct command *c, Davit__Link__V1__Deploy **ret, struct err *err, const char **reason)
{
    const Davit__Link__V1__ScaleService *m = c->msg->scale_service;
    const struct desired_service *s = c->w->desired ? desired_get(c->w->desired, c->project, c->service) : NULL;

    if (m->replicas < 1 || m->replicas > REPLICAS_MAX) {
        *reason = "invalid";
        return err_set(err, ERR_INVALID, "replicas: 1 to %d", REPLICAS_MAX);
    }
    if (!s) {
        *reason = "not_found";
        (void)err_set(err, ERR_NOT_FOUND, "no deployment of service %s of project %s is active on this server", c->service, c->project);
        err_hint(err, "one that an agent of before deployed counts from its next deployment on");
        return -ERR_NOT_FOUND;
    }
    if (strcmp(s->deploy->deployment_id, m->deployment_id) != 0) {
        *reason = "aborted";
        return err_set(err, ERR_ABORTED, "another deployment of service %s is active on this server by now", c->service);
    }
    if (s->stopped && c->resume_step < 0) {
        *reason = "stopped";
        (void)err_set(err, ERR_PRECONDITION, "service %s is stopped", c->service);
        err_hint(err, "start it first");
        return -ERR_PRECONDITION;
    }
    *ret = deploy_copy(s->deploy);
    (*ret)->spec->replicas = m->replicas;
    return 0;
}

int scale_command(struct command *c)
{
    Davit__Link__V1__Deploy *msg = NULL;
    const char *reason = NULL;
    struct err err = ERR_INIT;
    struct deploy d;
    struct job job;

    if (active(c, &msg, &err, &reason) < 0) {
        command_fail(c, &err, reason, NULL);
        return 0;
    }
    deploy_init(&d, c->w, c, msg);
    d.scales = true;
    (void)str_copy(d.digest, sizeof(d.digest), str_from(desired_get(c->w->desired, c->project, c->service)->image_digest));
    int rc = pin_image(&d, deadline_in(ENGINE_CALL), &err);
    if (rc < 0 && !fiber_cancelled() && c->resume_step < 0) {
        command_fail(c, &err, reason_of(&err), NULL);
    } else {
        (void)command_job(c, steps, ARRAY_LEN(steps), &d, &job);
        conclude(&d, &job);
        rc = job.state == JOB_SUSPENDED ? -ERR_CANCELLED : 0;
    }
    deploy_release(&d);
    deploy_copy_free(msg);
    return rc == -ERR_CANCELLED ? rc : 0;
}
