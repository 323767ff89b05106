/* SPDX-License-Identifier: Apache-2.0 */
/* deploy — the table of a deployment, how it is chosen to replace what was there, and the command. */
#include "host/work/deploy.h"

#include <stdio.h>
#include <string.h>

#include "host/work/rights.h"

void deploy_init(struct deploy *d, struct work *w, struct command *c, const Davit__Link__V1__Deploy *msg)
{
    *d = (struct deploy){.w = w, .c = c, .msg = msg, .spec = msg->spec, .job = c ? c->msg->id : NULL, .image_ref = msg->spec->image};
    d->network = str_printf("davit-%s", msg->spec->project);
}

void deploy_release(struct deploy *d)
{
    free(d->network);
    for (size_t i = 0; i < d->n_stopped; i++)
        free(d->stopped[i]);
    free(d->stopped);
    free(d->detail);
    docker_image_release(&d->image);
}

int deploy_reason(struct deploy *d, int rc, const char *reason)
{
    if (rc < 0 && !d->reason && reason)
        d->reason = reason;
    return rc;
}

bool deploy_ran(const struct deploy *d)
{
    return d->replicas > 0 && d->ran == UINT32_MAX >> (REPLICAS_MAX - d->replicas);
}

/* --- how it replaces what was there ------------------------------------------------------------------------------------------------- */

Davit__Common__V1__HealthKind deploy_health(const struct deploy *d)
{
    if (d->spec->health)
        return d->spec->health->kind;
    return d->image.has_healthcheck ? DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_DOCKER
                                    : DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE;
}

static bool on_host_network(const Davit__Common__V1__ServiceSpec *s)
{
    for (size_t i = 0; i < s->n_allow; i++)
        if (strcmp(s->allow[i], "network:host") == 0)
            return true;
    return false;
}

/* Why two of this service cannot serve at once; NULL: they can. After deploy_image. */
static const char *only_one(const struct deploy *d)
{
    if (d->spec->n_volumes > 0)
        return "it has a volume";
    if (d->spec->n_binds > 0)
        return "it has a folder of the server";
    if (d->spec->n_ports > 0)
        return "it publishes a port of the server";
    if (on_host_network(d->spec))
        return "it is on the server's own network";
    if (deploy_health(d) == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE)
        return "it has no health check";
    return NULL;
}

int deploy_strategy(struct deploy *d, usec_t deadline, struct err *err)
{
    if (d->strategy != STRATEGY_UNKNOWN)
        return 0;
    int rc = deploy_image(d, deadline, err);
    if (rc < 0)
        return rc;
    d->strategy = only_one(d) ? STRATEGY_RECREATE : STRATEGY_BLUE_GREEN;
    return 0;
}

static int check_health(struct deploy *d, struct err *err)
{
    if (deploy_health(d) != DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_DOCKER || d->image.has_healthcheck)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "image %s has no HEALTHCHECK of its own", d->spec->image);
    err_hint(err, "choose the health check kind http or tcp, or none");
    return deploy_reason(d, -ERR_PRECONDITION, "invalid");
}

int deploy_check_replicas(struct deploy *d, struct err *err)
{
    if (d->replicas <= 1 || (d->spec->n_ports == 0 && !on_host_network(d->spec)))
        return 0;
    (void)err_set(err, ERR_INVALID, "%u containers cannot have one port of the server", d->replicas);
    err_hint(err, "set replicas to 1, or lead to them by a route instead of a published port");
    return deploy_reason(d, -ERR_INVALID, "invalid");
}

/* The image's digest as the registry of its name has it; its own id where it did not come from there, for nobody else knows it by that name. */
static void note_digest(struct deploy *d)
{
    if (*d->digest)
        return;
    const char *asked = strchr(d->spec->image, '@');
    const char *digest = image_digest_from(&d->image, d->spec->image, asked ? asked + 1 : "");
    (void)str_copy(d->digest, sizeof(d->digest), str_from(*digest ? digest : d->image.id));
}

int step_inspect(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = deploy_strategy(d, job_deadline(job), err);

    if (rc < 0)
        return deploy_reason(d, rc, rc == -ERR_NOT_FOUND ? "image_not_found" : NULL);
    rc = check_health(d, err);
    if (rc >= 0)
        rc = deploy_count(d, job_deadline(job), err);
    if (rc >= 0)
        rc = deploy_check_replicas(d, err);
    if (rc >= 0)
        rc = deploy_check_routes(d, job_deadline(job), err);
    if (rc < 0)
        return rc;
    note_digest(d);
    bool blue_green = d->strategy == STRATEGY_BLUE_GREEN;
    if ((rc = deploy_before(d, job_deadline(job), err)) < 0)
        return rc;
    if (rc == 0)
        job_note(job, 100, "%s%s", blue_green ? "blue-green" : "recreate: ", blue_green ? "" : only_one(d));
    else if (blue_green)
        job_note(job, 100, "blue-green: what runs now serves until the new is healthy");
    else
        job_note(job, 100, "recreate: what runs now stops before the new starts, since %s", only_one(d));
    return 0;
}

/* From here the old containers may go. */
static int step_commit(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = deploy_count(d, job_deadline(job), err);

    if (rc >= 0)
        rc = deploy_image(d, job_deadline(job), err);
    if (rc < 0)
        return rc;
    note_digest(d);
    return record_active(d, job_deadline(job), err);
}

/* --- the command ------------------------------------------------------------------------------------------------------------------- */

static const struct job_step steps[] = {
    {.name = "pull", .run = step_pull, .timeout = 30 * USEC_MINUTE, .interruptible = true,
     .no_probe = "the engine fetches only the layers that it does not have"},
    {.name = "inspect", .run = step_inspect, .timeout = 2 * ENGINE_CALL, .no_probe = "it only looks"},
    {.name = "network", .probe = probe_network, .run = step_network, .undo = undo_network, .timeout = ENGINE_CALL},
    {.name = "volumes", .run = step_volumes, .undo = undo_volumes, .timeout = USEC_MINUTE, .no_probe = "it makes those that are not there, by name"},
    {.name = "create", .probe = probe_create, .run = step_create, .undo = undo_create, .timeout = 5 * USEC_MINUTE},
    [STEP_STOP_OLD] = {.name = "stop_old", .run = step_stop_old, .undo = undo_stop_old, .timeout = STOP_ALL,
                       .no_probe = "it stops those that run; the undo finds the others again"},
    {.name = "start", .run = step_start, .undo = undo_start, .timeout = STOP_ALL, .no_probe = "it leaves a container alone that runs"},
    {.name = "health", .run = step_health, .timeout = 8 * USEC_HOUR, .interruptible = true, .no_probe = "it only looks"},
    {.name = "route", .run = step_route, .undo = undo_route, .timeout = 3 * USEC_MINUTE, .no_probe = "the ingress is told the whole, not a change"},
    {.name = "drain", .run = step_drain, .timeout = 3 * USEC_MINUTE, .interruptible = true, .no_probe = "it only waits"},
    {.name = "commit", .run = step_commit, .timeout = 2 * ENGINE_CALL, .commit = true, .no_probe = "what is desired is written whole"},
    {.name = "retire", .run = step_retire, .timeout = STOP_ALL, .no_probe = "it removes the older containers that are still there"},
};

void deploy_table(struct job_table *ret)
{
    *ret = (struct job_table){"deploy", steps, ARRAY_LEN(steps)};
}

static void succeed(struct deploy *d, const struct job *job)
{
    struct command *c = d->c;
    char many[32] = "";

    if (!*d->id || !*d->digest) {
        /* Resumed behind the steps that find these out. */
        struct docker_container found = {0};
        (void)deploy_inspect(d, 1, &found, deadline_in(ENGINE_CALL), NULL);
        docker_container_release(&found);
        if (deploy_image(d, deadline_in(ENGINE_CALL), NULL) == 0)
            note_digest(d);
    }
    if (d->replicas > 1)
        (void)snprintf(many, sizeof(many), "%u ", d->replicas);
    c->result->container_id = *d->id ? str_dup(str_from(d->id)) : (char *)protobuf_c_empty_string;
    c->result->image_digest = *d->digest ? str_dup(str_from(d->digest)) : (char *)protobuf_c_empty_string;
    if (job->n_collected > 0)
        command_outcome(c, "%srunning, but an older container could not be removed: %s", many, job->collected.msg);
    else if (deploy_ran(d) && d->retired == 0)
        command_outcome(c, "%salready running", many);
    else if (d->retired > 0)
        command_outcome(c, "%srunning, %u older container%s removed", many, d->retired, d->retired == 1 ? "" : "s");
    else
        command_outcome(c, "%srunning", many);
}

void deploy_fail(struct deploy *d, struct job *job)
{
    const char *reason = d->reason && job->err.code != ERR_CANCELLED ? d->reason : reason_of(&job->err);

    /* The process that undid it is gone; the wish was sent again. */
    if (d->c->cancelled && job->err.code == ERR_ABORTED && job->resumed_at >= 0) {
        (void)err_set(&job->err, ERR_CANCELLED, "cancelled");
        reason = "cancelled";
    }
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
    if (c->resume_step < 0 && rights_judge(c->w, msg->spec, &(struct policy_ask){0}, &reason, &err) < 0) {
        command_fail(c, &err, reason, NULL);
        return 0;
    }
    struct deploy d;
    deploy_init(&d, c->w, c, msg);
    (void)command_job(c, steps, ARRAY_LEN(steps), &d, &job); /* its state says more */
    if (job.state == JOB_DONE) {
        succeed(&d, &job);
    } else if (job.state == JOB_UNDONE) {
        deploy_fail(&d, &job);
    } else if (job.state != JOB_SUSPENDED) {
        (void)err_set(&err, ERR_DATA_LOSS, "the journal of this command does not fit this agent");
        command_fail(c, &err, "interrupted", NULL);
    }
    deploy_release(&d);
    return job.state == JOB_SUSPENDED ? -ERR_CANCELLED : 0;
}
