/* SPDX-License-Identifier: Apache-2.0 */
/* work — life of the module, its fibers, and the queue of commands: one at a time per service, in order. */
#include "host/reach/ingress.h"
#include "host/work/calls.h"
#include "host/work/heal.h"
#include "host/work/pools.h"
#include "host/work/work_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define USAGE_INTERVAL (10 * USEC_MINUTE)

static void worker_run(void *arg)
{
    struct worker *k = arg;
    struct work *w = k->w;

    k->fn(k->arg);
    list_remove(&k->node);
    fiber_unref(k->fiber);
    free(k);
    event_pulse(&w->idle);
}

struct worker *work_spawn(struct work *w, const char *name, void (*fn)(void *arg), void *arg)
{
    struct worker *k = NEW(struct worker);

    *k = (struct worker){.w = w, .fn = fn, .arg = arg};
    if (w->stopping || fiber_spawn(w->loop, name, worker_run, k, &k->fiber) < 0) {
        free(k);
        return NULL;
    }
    list_push(&w->workers, &k->node);
    return k;
}

static void set_pools(struct work *w, const struct work_config *config)
{
    struct pool standard;

    BUG_ON(pool_parse(STR(POOL_DEFAULT), &standard, NULL) < 0);
    w->n_pools = config->n_pools ? config->n_pools : 1;
    w->pools = mem_zalloc(w->n_pools, sizeof(*w->pools));
    for (size_t i = 0; i < w->n_pools; i++)
        w->pools[i] = config->n_pools ? config->pools[i] : standard;
}

struct work *work_new(const struct work_config *config)
{
    struct work *w = NEW(struct work);

    *w = (struct work){
        .loop = config->loop,
        .docker = config->docker,
        .server_id = str_dup(str_from(config->server_id)),
        .policy = config->policy ? str_dup(str_from(config->policy)) : NULL,
        .ingress = config->ingress,
        .desired = config->desired,
        .sandboxes_only = config->sandboxes_only,
        .disk_reserve = config->disk_reserve,
        .send = config->send,
        .wait_room = config->wait_room,
        .arg = config->arg,
    };
    set_pools(w, config);
    w->places = mem_zalloc(config->n_places + 1, sizeof(*w->places));
    for (; w->n_places < config->n_places; w->n_places++)
        w->places[w->n_places] = str_dup(str_from(config->places[w->n_places]));
    list_init(&w->workers);
    list_init(&w->commands);
    event_init(&w->idle, w->loop);
    event_init(&w->pull_ended, w->loop);
    event_init(&w->networks_free, w->loop);
    event_init(&w->routes_done, w->loop);
    work_set_usage_interval(w, config->usage_interval);
    logs_start(w);
    calls_start(w);
    BUG_ON(watch_start(w) < 0 || sampler_start(w) < 0);
    if (w->ingress)
        ingress_networks_by(w->ingress, networks_provide, w);
    routes_start(w);
    return w;
}

int work_stop(struct work *w, usec_t deadline)
{
    struct worker *k;
    struct command *c;

    w->stopping = true;
    list_each(k, &w->workers, struct worker, node)
        fiber_cancel(k->fiber);
    list_each(c, &w->commands, struct command, node)
        fiber_cancel(c->fiber);
    while (!list_empty(&w->workers) || !list_empty(&w->commands)) {
        int rc = event_wait(&w->idle, deadline);
        if (rc < 0)
            return rc;
    }
    return 0;
}

struct work *work_free(struct work *w)
{
    if (!w)
        return NULL;
    BUG_ON(!list_empty(&w->workers) || !list_empty(&w->commands));
    if (w->ingress)
        ingress_networks_by(w->ingress, NULL, NULL);
    heal_free(w);
    routes_free(w);
    watch_free(w);
    sampler_free(w);
    logs_free(w);
    calls_free(w);
    event_release(&w->idle);
    event_release(&w->pull_ended);
    event_release(&w->networks_free);
    event_release(&w->routes_done);
    free(w->server_id);
    for (size_t i = 0; i < w->n_places; i++)
        free(w->places[i]);
    free(w->places);
    free(w->policy);
    free(w->pools);
    free(w);
    return NULL;
}

void work_extend(struct work *w, const struct work_extension *x)
{
    w->extension = x;
}

void work_sandbox_message(struct work *w, const Davit__Link__V1__ControlMessage *m)
{
    if (w->extension && !w->stopping)
        w->extension->message(w->extension->arg, m);
}

void work_send(struct work *w, const Davit__Link__V1__AgentMessage *msg)
{
    if (!w->stopping)
        w->send(w->arg, msg);
}

int networks_lock(struct work *w, usec_t deadline)
{
    while (w->networks_held) {
        int rc = event_wait(&w->networks_free, deadline);
        if (rc < 0)
            return rc;
    }
    w->networks_held = true;
    return 0;
}

void networks_unlock(struct work *w)
{
    w->networks_held = false;
    event_pulse(&w->networks_free);
}

void work_set_usage_interval(struct work *w, usec_t interval)
{
    if (interval == 0)
        interval = USAGE_INTERVAL;
    w->usage_interval = interval < USEC_SEC ? USEC_SEC : interval;
    if (w->sampler)
        sampler_wake(w);
}

void work_usage_watch(struct work *w, const Davit__Link__V1__UsageWatch *watch)
{
    usec_t interval = watch->interval_ms * USEC_MSEC, lasts = watch->for_ms * USEC_MSEC;
    bool watched = clock_mono() < w->usage_until;

    interval = interval < USEC_SEC ? USEC_SEC : interval > USEC_MINUTE ? USEC_MINUTE : interval;
    /* Watched already, but too rarely for the new one: it gets its first samples at once, too. */
    bool hurry = !watched || interval < w->usage_watch;
    w->usage_watch = watched && w->usage_watch < interval ? w->usage_watch : interval;
    w->usage_until = deadline_in(lasts > WORK_WATCH_MAX ? WORK_WATCH_MAX : lasts);
    if (hurry)
        sampler_hurry(w, 2);
    else
        sampler_wake(w);
}

unsigned work_jobs_running(const struct work *w)
{
    return w->n_commands;
}

/* --- The result ------------------------------------------------------------------------------------------------------------- */

/* protobuf-c marks an empty string by one static address; those are not ours to free. */
static void free_text(char **s)
{
    if (*s && *s != (char *)protobuf_c_empty_string)
        free(*s);
    *s = (char *)protobuf_c_empty_string;
}

static void set_text(char **s, const char *value)
{
    free_text(s);
    if (value && *value)
        *s = str_dup(str_from(value));
}

void work_result_release(Davit__Link__V1__CommandResult *r)
{
    free_text(&r->id);
    free_text(&r->outcome);
    free_text(&r->container_id);
    free_text(&r->image_digest);
    if (r->failure) {
        free_text(&r->failure->message);
        free_text(&r->failure->hint);
        free_text(&r->failure->reason);
        free_text(&r->failure->detail);
        free(r->failure);
    }
    davit__link__v1__command_result__init(r);
}

void command_fail(struct command *c, const struct err *err, const char *reason, const char *detail)
{
    Davit__Common__V1__Failure *f = c->result->failure;

    if (!f) {
        f = NEW(Davit__Common__V1__Failure);
        davit__common__v1__failure__init(f);
        c->result->failure = f;
    }
    f->code = err->code == ERR_OK ? ERR_UNKNOWN : (uint32_t)err->code;
    set_text(&f->message, err->msg);
    set_text(&f->hint, err->hint);
    set_text(&f->reason, reason);
    set_text(&f->detail, detail);
}

void command_outcome(struct command *c, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    set_text(&c->result->outcome, text);
}

/* --- Jobs of commands --------------------------------------------------------------------------------------------------------- */

static void on_progress(void *arg, const struct job_report *r)
{
    struct command *c = arg;
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CommandProgress progress = DAVIT__LINK__V1__COMMAND_PROGRESS__INIT;
    Davit__Common__V1__StepProgress step = DAVIT__COMMON__V1__STEP_PROGRESS__INIT;
    AUTO_FREE char *message = text_tail(str_from(r->message), ERR_MSG_MAX);

    step.step = (char *)r->step;
    step.state = (Davit__Common__V1__StepState)r->state;
    step.message = message;
    step.percent = r->percent;
    step.index = r->index;
    step.total = r->total;
    progress.seq = c->msg->seq;
    progress.id = c->msg->id;
    progress.progress = &step;
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_PROGRESS;
    msg.progress = &progress;
    work_send(c->w, &msg);
}

int command_job(struct command *c, const struct job_step *steps, unsigned n_steps, void *ctx, struct job *ret)
{
    *ret = (struct job){
        .loop = c->w->loop,
        .steps = steps,
        .n_steps = n_steps,
        .ctx = ctx,
        .journal = c->journal,
        .progress = on_progress,
        .progress_arg = c,
    };
    ret->cancel = c->cancelled;
    c->job = ret;
    int rc = job_run(ret, c->resume_step);
    c->job = NULL;
    return rc;
}

/* --- The queue ---------------------------------------------------------------------------------------------------------------- */

static bool same_service(const struct command *a, const struct command *b)
{
    return strcmp(a->project, b->project) == 0 && strcmp(a->service, b->service) == 0;
}

bool command_project_busy(const struct command *c)
{
    struct command *other;

    list_each(other, &c->w->commands, struct command, node)
        if (other != c && strcmp(other->project, c->project) == 0)
            return true;
    return false;
}

/* Is there an earlier command for the same service? */
static bool must_wait(const struct command *c)
{
    struct command *other;

    list_each(other, &c->w->commands, struct command, node) {
        if (other == c)
            return false;
        if (same_service(other, c))
            return true;
    }
    return false;
}

void command_leave(struct command *c)
{
    struct work *w = c->w;
    struct command *other;

    list_remove(&c->node);
    w->n_commands--;
    list_each(other, &w->commands, struct command, node) {
        if (!same_service(other, c))
            continue;
        event_signal(&other->turn);
        break;
    }
    event_release(&c->turn);
    event_pulse(&w->idle);
}

static bool is_sandbox(const Davit__Link__V1__Command *m)
{
    return m->body_case == DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX || m->body_case == DAVIT__LINK__V1__COMMAND__BODY_SANDBOX_ACTION;
}

static int dispatch(struct command *c)
{
    struct err err = ERR_INIT;

    /* One that began already is undone by its job. */
    if (c->resume_step < 0 && c->cancelled) {
        (void)err_set(&err, ERR_CANCELLED, "cancelled");
        command_fail(c, &err, "cancelled", NULL);
        return 0;
    }
    if (c->resume_step < 0 && c->msg->deadline_us != 0 && clock_peer() > c->msg->deadline_us) {
        (void)err_set(&err, ERR_DEADLINE, "the command arrived after its deadline and was not started");
        command_fail(c, &err, "deadline", NULL);
        return 0;
    }
    if (is_sandbox(c->msg))
        return c->w->extension->command(c->w->extension->arg, c);
    if (work_check_role(c->w, &err) < 0) {
        command_fail(c, &err, "role", NULL);
        return 0;
    }
    if (check_label("project", c->project, &err) < 0 || check_label("service", c->service, &err) < 0) {
        command_fail(c, &err, "invalid", NULL);
        return 0;
    }
    switch (c->msg->body_case) {
    case DAVIT__LINK__V1__COMMAND__BODY_DEPLOY: return deploy_command(c);
    case DAVIT__LINK__V1__COMMAND__BODY_ACTION: return action_command(c);
    case DAVIT__LINK__V1__COMMAND__BODY_SCALE_SERVICE: return scale_command(c);
    default: return remove_command(c);
    }
}

/* Whom the command is for. 0, or -ERR_UNIMPLEMENTED. */
static int address(struct command *c)
{
    const Davit__Link__V1__Command *m = c->msg;

    switch (m->body_case) {
    case DAVIT__LINK__V1__COMMAND__BODY_DEPLOY:
        if (!m->deploy->spec)
            return -ERR_UNIMPLEMENTED;
        c->project = m->deploy->spec->project;
        c->service = m->deploy->spec->name;
        return 0;
    case DAVIT__LINK__V1__COMMAND__BODY_ACTION:
        c->project = m->action->project;
        c->service = m->action->service;
        return 0;
    case DAVIT__LINK__V1__COMMAND__BODY_REMOVE_SERVICE:
        c->project = m->remove_service->project;
        c->service = m->remove_service->service;
        return 0;
    case DAVIT__LINK__V1__COMMAND__BODY_SCALE_SERVICE:
        c->project = m->scale_service->project;
        c->service = m->scale_service->service;
        return 0;
    case DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX:
        if (!m->create_sandbox->spec || !c->w->extension)
            return -ERR_UNIMPLEMENTED;
        c->project = ""; /* no service has that */
        c->service = m->create_sandbox->spec->id;
        return 0;
    case DAVIT__LINK__V1__COMMAND__BODY_SANDBOX_ACTION:
        c->project = "";
        c->service = m->sandbox_action->sandbox_id;
        return c->w->extension ? 0 : -ERR_UNIMPLEMENTED;
    default: return -ERR_UNIMPLEMENTED;
    }
}

int command_enter(struct command *c)
{
    struct work *w = c->w;

    event_init(&c->turn, w->loop);
    list_push(&w->commands, &c->node);
    w->n_commands++;
    /* What began before a crash is undone in its turn. */
    while (must_wait(c) && !(c->cancelled && c->resume_step < 0)) {
        int rc = event_wait(&c->turn, USEC_INFINITY);
        if (rc < 0)
            return rc;
        event_reset(&c->turn);
    }
    return fiber_cancelled() ? -ERR_CANCELLED : 0;
}

void work_cancel(struct work *w, uint64_t seq, const char *id)
{
    struct command *c;

    list_each (c, &w->commands, struct command, node) {
        if (!c->msg || c->msg->seq != seq || strcmp(c->msg->id, id) != 0)
            continue;
        c->cancelled = true;
        if (c->job)
            job_cancel(c->job);
        else
            event_signal(&c->turn);
    }
}

int work_command(struct work *w, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                 Davit__Link__V1__CommandResult *ret)
{
    struct err err = ERR_INIT;
    struct command c = {.w = w, .msg = cmd, .journal = journal, .resume_step = resume_step, .fiber = fiber_self(), .result = ret};
    c.cancelled = journal && journal->cancelled && *journal->cancelled;
    int rc = 0;

    davit__link__v1__command_result__init(ret);
    if (w->stopping)
        return -ERR_CANCELLED;
    if (address(&c) < 0) {
        (void)err_set(&err, ERR_UNIMPLEMENTED, "this agent does not know this command");
        err_hint(&err, "update davit-agent on this server");
        command_fail(&c, &err, "unimplemented", NULL);
    } else if (w->n_commands >= WORK_QUEUE_MAX) {
        (void)err_set(&err, ERR_EXHAUSTED, "more than %d commands wait on this server", WORK_QUEUE_MAX);
        command_fail(&c, &err, "queue_full", NULL);
    } else {
        rc = command_enter(&c);
        if (rc == 0)
            rc = dispatch(&c);
        if (!is_sandbox(cmd))
            routes_command_ended(w, c.project, c.service, rc == 0 && !ret->failure ? c.judged : 0);
        command_leave(&c);
    }
    if (rc < 0) {
        work_result_release(ret);
        return rc;
    }
    ret->seq = cmd->seq;
    set_text(&ret->id, cmd->id);
    ret->finished_us = clock_real();
    return 0;
}
