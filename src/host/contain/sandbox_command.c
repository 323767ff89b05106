/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_command — the command that makes a sandbox: a job whose steps are undone until its container is started; from there on it stays, so that
 * whoever made it can see why it does not run. Its last step waits for the session (keeper.c) to have started the main program. */
#include "host/contain/contain_internal.h"

#include <string.h>

#include "base/log.h"
#include "host/work/admit.h"
#include "host/work/rights.h"
#include "spec/spec.h"

#define READY_LIMIT (8 * USEC_HOUR)
#define AWAY_LIMIT  (60 * USEC_SEC) /* so long an unregistered one is waited for */

struct make {
    struct contain *k;
    struct command *c;
    const sandbox_spec *spec;
    struct box *b; /* referenced */
    const char *reason, *why_reason;
    struct err why;
};

/* --- Start ---- */

/* It has a row and does not run: what it was stopped for may be longer than its certificate lasts. */
static int renew_stopped(struct job *job, struct box *b, struct err *err)
{
    bool over = b->not_after && clock_real() >= b->not_after;

    if (!material_is_due(b, b->not_after) || (!b->k->linked && !over))
        return 0;
    if (!b->k->linked)
        return err_set(err, ERR_UNAVAILABLE, "its certificate has expired, and the control plane, which signs another, is not there");
    int rc = material_make(b, MATERIAL_STOPPED, job_deadline(job), NULL, err);
    if (rc != -ERR_UNAVAILABLE || over)
        return rc;
    *err = ERR_INIT; /* the link went: what it has is good for now */
    return 0;
}

int sandbox_step_material(struct job *job, struct box *b, struct err *err)
{
    char at[64], dns[64];
    int rc = sandbox_network(b->k, b->spec, at, dns, job_deadline(job), err);

    if (rc == 0 && *b->thumbprint && b->engine != DOCKER_STATE_RUNNING)
        rc = renew_stopped(job, b, err);
    /* What it has not used may be too old. */
    if (rc == 0 && !*b->thumbprint) {
        if (!b->k->linked)
            job_note(job, 0, "waiting for the control plane");
        rc = contain_wait_link(b->k, job_deadline(job));
        if (rc == 0)
            rc = material_make(b, MATERIAL_FIRST, job_deadline(job), NULL, err);
        if (rc == 0)
            b->refused = NULL; /* that was another certificate */
    }
    return rc == 0 ? relay_listen(b->k, at, err) : rc;
}

/* The engine follows the path of a bind anew at each start. */
static int check_mounts(struct job *job, struct box *b, const char **ret_reason, struct err *err)
{
    struct docker_container c;
    struct spec_sandbox room;
    int rc = docker_container_inspect(b->k->w->docker, b->container, &c, job_deadline(job), err);

    if (rc < 0)
        return rc;
    rc = rights_stays(b->k->w, spec_of_sandbox(b->spec, &room), &c, ret_reason, err);
    docker_container_release(&c);
    return rc;
}

int sandbox_step_start(struct job *job, struct box *b, const char **ret_reason, struct err *err)
{
    const char *network = sandbox_network_name(b->spec);
    int rc = 0;

    if (b->engine == DOCKER_STATE_RUNNING && b->trust == TRUST(UNTRUSTED))
        return err_set(err, ERR_PRECONDITION, "it runs, cut off, since it is not trusted: stop it first");
    if (b->engine != DOCKER_STATE_RUNNING && (rc = check_mounts(job, b, ret_reason, err)) < 0)
        return rc;
    /* After a quarantine it is in none. */
    if (b->engine != DOCKER_STATE_RUNNING && b->engine_started)
        rc = docker_network_connect(b->k->w->docker, network, b->container, NULL, 0, NULL, job_deadline(job), err);
    if (rc >= 0)
        rc = docker_container_start(b->k->w->docker, b->container, job_deadline(job), err);
    return rc < 0 ? rc : box_look(b, err);
}

static bool settled(const struct box *b)
{
    return b->state == STATE(RUNNING) || b->state == STATE(FAILED) ||
           (b->state == STATE(STOPPED) && !b->again) || b->gone;
}

int sandbox_step_ready(struct job *job, struct box *b, const char **ret_reason, struct err *ret_why, struct err *err)
{
    usec_t unregistered = deadline_in(AWAY_LIMIT);
    char step[sizeof(b->step)] = "";

    while (!settled(b)) {
        bool stuck = *b->reason && clock_mono() > unregistered;
        if (strcmp(step, b->step) != 0) {
            (void)str_copy(step, sizeof(step), str_from(b->step));
            job_note(job, 0, "step %s (%u of %u)", step, b->step_index, b->step_total);
        }
        if (stuck)
            break;
        usec_t until = deadline_in(USEC_SEC);
        int rc = event_wait(&b->changed, until < job_deadline(job) ? until : job_deadline(job));
        if (rc == -ERR_CANCELLED)
            return rc;
        if (clock_mono() >= job_deadline(job))
            return err_set(err, ERR_DEADLINE, "its main program did not start in time");
    }
    if (b->state == STATE(RUNNING) || (b->state == STATE(STOPPED) && b->ready))
        return 0;
    *ret_reason = *b->reason ? b->reason : "session_failed";
    (void)err_set(ret_why, ERR_PRECONDITION, "%s", *b->message ? b->message : "its container ended before its main program was started");
    return 0;
}

/* --- The steps ---- */

static int pull(struct make *m, struct job *job, struct err *err)
{
    const Davit__Common__V1__RegistryAuth *a = m->c->msg->create_sandbox->registry_auth;
    struct docker_auth auth = {0};

    if (a)
        auth = (struct docker_auth){a->server, a->username, a->password};
    job_note(job, 0, "pulling %.200s", m->spec->image);
    int rc = docker_pull(m->k->w->docker, m->spec->image, a ? &auth : NULL, NULL, NULL, NULL, job_deadline(job), err);
    if (rc < 0 && !fiber_cancelled())
        m->reason = image_pull_reason(m->k->w, err);
    return rc < 0 ? rc : 0;
}

static int step_pull(struct job *job, void *ctx, struct err *err)
{
    struct make *m = ctx;
    struct docker_image image = {0};
    int rc = admit_check(m->k->w, m->c->msg->create_sandbox->force, job, &m->reason, err);

    if (rc < 0)
        return rc;
    rc = -ERR_NOT_FOUND;
    if (strcmp(m->spec->pull, "always") != 0) {
        rc = docker_image_inspect(m->k->w->docker, m->spec->image, &image, job_deadline(job), err);
        docker_image_release(&image);
    }
    if (rc == 0)
        job_note(job, 100, "the image is here");
    if (rc != -ERR_NOT_FOUND)
        return rc;
    if (strcmp(m->spec->pull, "never") == 0) {
        m->reason = "image_not_found";
        (void)err_set(err, ERR_NOT_FOUND, "image %.200s is not on this server", m->spec->image);
        err_hint(err, "set pull to missing, or bring the image to this server");
        return -ERR_NOT_FOUND;
    }
    *err = ERR_INIT;
    return pull(m, job, err);
}

static int step_runtime(struct job *job, void *ctx, struct err *err)
{
    struct make *m = ctx;
    int rc = runtime_provide(m->k, job_deadline(job), err);

    if (rc < 0 && err->code == ERR_PRECONDITION)
        m->reason = "runtime_missing";
    return rc;
}

static int step_network(struct job *job, void *ctx, struct err *err)
{
    struct make *m = ctx;
    char at[64], dns[64];

    return sandbox_network(m->k, m->spec, at, dns, job_deadline(job), err);
}

static int step_create(struct job *job, void *ctx, struct err *err)
{
    struct make *m = ctx;
    struct box *b = m->b;

    /* Resumed, this program has not seen the runtime. */
    char id[DOCKER_ID_SIZE];
    int rc = m->k->runtime_volume ? 0 : runtime_provide(m->k, job_deadline(job), err);
    if (rc == 0)
        rc = sandbox_make(m->k, m->spec, id, &m->reason, job_deadline(job), err);
    if (rc == 0)
        rc = box_set_container(b, id, err);
    return rc == 0 ? box_look(b, err) : rc;
}

static int undo_create(struct job *job, void *ctx, struct err *err)
{
    struct make *m = ctx;
    int rc = sandbox_unmake(m->k, m->b->id, true, job_deadline(job), err);

    if (rc == 0)
        rc = box_forget(m->b, err);
    if (rc == 0) {
        m->b->state = STATE(REMOVED);
        box_tell(m->b);
        box_drop(m->b);
    }
    return rc;
}

/* Resumed behind the step that made it. */
static int find(struct make *m, struct job *job, struct err *err)
{
    return *m->b->container ? 0 : step_create(job, m, err);
}

static int step_material(struct job *job, void *ctx, struct err *err)
{
    struct make *m = ctx;
    int rc = find(m, job, err);

    return rc == 0 ? sandbox_step_material(job, m->b, err) : rc;
}

static int step_start(struct job *job, void *ctx, struct err *err)
{
    struct make *m = ctx;
    int rc = find(m, job, err);

    return rc == 0 ? sandbox_step_start(job, m->b, &m->reason, err) : rc;
}

static int step_ready(struct job *job, void *ctx, struct err *err)
{
    struct make *m = ctx;

    return sandbox_step_ready(job, m->b, &m->why_reason, &m->why, err);
}

static const struct job_step steps[] = {
    {.name = "pull", .run = step_pull, .timeout = 30 * USEC_MINUTE, .interruptible = true,
     .no_probe = "the engine fetches only the layers that it does not have"},
    {.name = "runtime", .run = step_runtime, .timeout = 2 * USEC_MINUTE, .no_probe = "it is named by what is in it"},
    {.name = "network", .run = step_network, .timeout = 2 * ENGINE_CALL, .no_probe = "one that is there is taken"},
    {.name = "create", .run = step_create, .undo = undo_create, .timeout = 5 * USEC_MINUTE, .no_probe = "one of this sandbox that is there is taken"},
    {.name = "material", .run = step_material, .timeout = 5 * USEC_MINUTE, .no_probe = "it is written whole, as often as it takes"},
    {.name = "start", .run = step_start, .timeout = 2 * USEC_MINUTE, .commit = true, .no_probe = "it leaves a container alone that runs"},
    {.name = "ready", .run = step_ready, .timeout = READY_LIMIT, .interruptible = true, .no_probe = "it only waits"},
};

int sandbox_conclude(struct command *c, struct job *job, const char *reason, const struct err *why, const char *outcome)
{
    if (job->state == JOB_SUSPENDED)
        return -ERR_CANCELLED;
    if (job->state == JOB_UNDONE) {
        command_fail(c, &job->err, reason ? reason : reason_of(&job->err), NULL);
    } else if (job->state != JOB_DONE) {
        (void)err_set(&job->err, ERR_DATA_LOSS, "the journal of this command does not fit this agent");
        command_fail(c, &job->err, "interrupted", NULL);
    } else if (why && why->code != ERR_OK) {
        command_fail(c, why, reason, NULL);
    } else if (job->n_collected > 0) {
        command_fail(c, &job->collected, reason_of(&job->collected), NULL);
    } else {
        command_outcome(c, "%s", outcome);
    }
    return 0;
}

/* Of what came to nothing before its container was made: its snapshot, which was filled before, and what is kept of it. A sandbox that @id names
 * already loses nothing. */
static void clear(struct contain *k, const char *id)
{
    struct box *b = box_find(k, id);
    struct err err = ERR_INIT;

    if (b && *b->container)
        return;
    AUTO_FREE char *volume = workspace_volume(id);
    int rc = docker_volume_remove(k->w->docker, volume, false, deadline_in(ENGINE_CALL), &err);
    if (rc < 0 && rc != -ERR_NOT_FOUND)
        log_err(LOG_WARN, &err, "a snapshot stays that belongs to nothing", "volume", volume, NULL);
    if (b && !*b->kept && box_forget(b, NULL) == 0)
        box_drop(b);
}

static int create(struct contain *k, struct command *c)
{
    struct make m = {.k = k, .c = c, .spec = c->msg->create_sandbox->spec, .why = ERR_INIT};
    struct err err = ERR_INIT;
    struct job job;
    int rc = sandbox_check(m.spec, &err);

    /* What began already comes to its end, as a deployment does. */
    if (rc == 0 && c->resume_step < 0)
        rc = sandbox_judge(k, m.spec, &m.reason, &err);
    struct box *b = rc < 0 ? NULL : box_get(k, m.spec->id);
    if (rc == 0 && !b)
        (void)err_set(&err, ERR_EXHAUSTED, "there are %d sandboxes on this server", CONTAIN_MAX);
    if (b && box_keep_spec(b, m.spec, &err) < 0)
        b = NULL;
    if (!b) {
        if (m.spec && str_is_label(str_from(m.spec->id)))
            clear(k, m.spec->id);
        command_fail(c, &err, m.reason ? m.reason : reason_of(&err), NULL);
        return 0;
    }
    m.b = box_ref(b);
    (void)command_job(c, steps, ARRAY_LEN(steps), &m, &job);
    rc = sandbox_conclude(c, &job, job.state == JOB_DONE ? m.why_reason : m.reason, &m.why, b->state == STATE(STOPPED) ? "ended" : "running");
    if (job.state == JOB_UNDONE)
        clear(k, m.spec->id);
    if (rc == 0 && *b->container)
        c->result->container_id = str_dup(str_from(b->container));
    box_unref(m.b);
    return rc;
}

int sandbox_command(void *arg, struct command *c)
{
    return c->msg->body_case == DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX ? create(arg, c) : sandbox_action(arg, c);
}
