/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_action — start, stop and removal of a sandbox. Each says what it found, so that a repeat is harmless. */
#include "host/contain/contain_internal.h"

#include <string.h>

enum { STOP_DEFAULT = 10, STOP_MAX = 3600, STOP_SLACK = 7 };

struct act {
    struct contain *k;
    const Davit__Link__V1__SandboxAction *m;
    struct box *b; /* referenced; NULL: there is none */
    unsigned stop_s;
    bool changed;
    const char *reason;
    struct err why;
};

static int step_stop(struct job *job, void *ctx, struct err *err)
{
    struct act *a = ctx;

    (void)job;
    if (!a->b || !*a->b->container)
        return 0;
    int rc = docker_container_stop(a->k->w->docker, a->b->container, a->stop_s + STOP_SLACK,
                                   deadline_in((a->stop_s + STOP_SLACK) * USEC_SEC + ENGINE_CALL), err);
    a->changed = a->changed || rc == 0;
    if (rc == -ERR_NOT_FOUND)
        return 0;
    return rc < 0 ? rc : box_look(a->b, err);
}

static int step_material(struct job *job, void *ctx, struct err *err)
{
    struct act *a = ctx;
    int rc = 0;

    /* Of a start that failed nothing more comes: it begins anew. A program that runs, cut off, is not ended without having been named. */
    if (a->b->engine == DOCKER_STATE_RUNNING && a->b->failed && !a->b->ready && (rc = step_stop(job, a, err)) < 0)
        return rc;
    if (a->b->engine == DOCKER_STATE_RUNNING)
        return 0;
    a->changed = true;
    return sandbox_step_material(job, a->b, err);
}

static int step_start(struct job *job, void *ctx, struct err *err)
{
    struct act *a = ctx;

    return sandbox_step_start(job, a->b, &a->reason, err);
}

static int step_ready(struct job *job, void *ctx, struct err *err)
{
    struct act *a = ctx;

    return sandbox_step_ready(job, a->b, &a->reason, &a->why, err);
}

static int step_remove(struct job *job, void *ctx, struct err *err)
{
    struct act *a = ctx;
    int rc = sandbox_unmake(a->k, a->m->sandbox_id, a->m->volumes, job_deadline(job), err);

    if (rc == 0 && a->b) {
        rc = box_forget(a->b, err);
        a->changed = true;
        a->b->state = STATE(REMOVED);
        box_tell(a->b);
        box_drop(a->b);
    }
    return rc;
}

#define STOP_TIMEOUT (STOP_MAX * USEC_SEC + 2 * USEC_MINUTE)
static const struct job_step start_steps[] = {
    {.name = "material", .run = step_material, .timeout = 5 * USEC_MINUTE, .no_probe = "it is written whole, as often as it takes"},
    {.name = "start", .run = step_start, .timeout = 2 * USEC_MINUTE, .commit = true, .no_probe = "it leaves a container alone that runs"},
    {.name = "ready", .run = step_ready, .timeout = 8 * USEC_HOUR, .interruptible = true, .no_probe = "it only waits"},
};
static const struct job_step stop_steps[] = {
    {.name = "stop", .run = step_stop, .timeout = STOP_TIMEOUT, .no_probe = "it leaves a container alone that does not run"},
};
static const struct job_step remove_steps[] = {
    {.name = "stop", .run = step_stop, .timeout = STOP_TIMEOUT, .commit = true, .no_probe = "it leaves a container alone that does not run"},
    {.name = "remove", .run = step_remove, .timeout = 2 * USEC_MINUTE, .no_probe = "it removes what is still there"},
};

static const char *outcome_of(const struct act *a)
{
    switch (a->m->action) {
    case DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_START: return a->changed ? "started" : "already running";
    case DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_STOP: return a->changed ? "stopped" : "already stopped";
    default: return a->changed ? "removed" : "already removed";
    }
}

int sandbox_action(struct contain *k, struct command *c)
{
    struct act a = {.k = k, .m = c->msg->sandbox_action, .why = ERR_INIT};
    bool remove = a.m->action == DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_REMOVE;
    bool start = a.m->action == DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_START;
    struct box *b = str_is_label(str_from(a.m->sandbox_id)) ? box_find(k, a.m->sandbox_id) : NULL;
    struct err err = ERR_INIT;
    struct job job;

    if (!str_is_label(str_from(a.m->sandbox_id)))
        (void)err_set(&err, ERR_INVALID, "the id of a sandbox is a UUID");
    else if (!remove && !start && a.m->action != DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_STOP)
        (void)err_set(&err, ERR_UNIMPLEMENTED, "this agent does not know action %d", (int)a.m->action);
    else if (!remove && (!b || !*b->container || !b->spec))
        (void)err_set(&err, ERR_NOT_FOUND, "this sandbox has no container on this server");
    if (err.code != ERR_OK) {
        command_fail(c, &err, reason_of(&err), NULL);
        return 0;
    }
    a.b = b ? box_ref(b) : NULL;
    a.stop_s = a.m->stop_timeout_s ? a.m->stop_timeout_s : b && b->spec && b->spec->stop_grace_s ? b->spec->stop_grace_s : STOP_DEFAULT;
    a.stop_s = a.stop_s > STOP_MAX ? STOP_MAX : a.stop_s;
    const struct job_step *steps = start ? start_steps : remove ? remove_steps : stop_steps;
    unsigned n = start ? ARRAY_LEN(start_steps) : remove ? ARRAY_LEN(remove_steps) : ARRAY_LEN(stop_steps);
    (void)command_job(c, steps, n, &a, &job);
    int rc = sandbox_conclude(c, &job, a.reason, &a.why, outcome_of(&a));
    if (a.b)
        box_unref(a.b);
    return rc;
}
