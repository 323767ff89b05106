/* SPDX-License-Identifier: Apache-2.0 */
/* jobs — runs the tables of steps of jobs.h: journal, probe, run, undo. */
#include "host/link/jobs.h"

#include <stdio.h>
#include <string.h>

enum { UNDO_TRIES = 10 };

#define RETRY_BASE (500 * USEC_MSEC)
#define RETRY_CAP  (10 * USEC_SEC)

static const char *const state_names[JOB_STATE_COUNT] = {
    [JOB_NEW] = "new",   [JOB_RUNNING] = "running", [JOB_UNDOING] = "undoing",     [JOB_COMMITTED] = "committed",
    [JOB_DONE] = "done", [JOB_UNDONE] = "undone",   [JOB_SUSPENDED] = "suspended",
};

#define TO(state) (1U << (state))

/* Which states may follow which. A resumed job starts from JOB_NEW again. */
static const unsigned moves[JOB_STATE_COUNT] = {
    [JOB_NEW] = TO(JOB_RUNNING) | TO(JOB_UNDOING) | TO(JOB_COMMITTED),
    [JOB_RUNNING] = TO(JOB_UNDOING) | TO(JOB_COMMITTED) | TO(JOB_DONE) | TO(JOB_SUSPENDED),
    [JOB_UNDOING] = TO(JOB_UNDONE) | TO(JOB_SUSPENDED),
    [JOB_COMMITTED] = TO(JOB_DONE) | TO(JOB_SUSPENDED),
};

const char *job_state_name(enum job_state state)
{
    return (unsigned)state < JOB_STATE_COUNT ? state_names[state] : "unknown";
}

bool job_may_move(enum job_state from, enum job_state to)
{
    return (unsigned)from < JOB_STATE_COUNT && (unsigned)to < JOB_STATE_COUNT && (moves[from] & TO(to));
}

static void set_state(struct job *job, enum job_state to)
{
    BUG_ON(!job_may_move(job->state, to));
    job->state = to;
}

void job_cancel(struct job *job)
{
    job->cancel = true;
    if (job->state == JOB_RUNNING)
        fiber_interrupt(job->waiting);
}

bool job_cancel_wanted(const struct job *job)
{
    return job->cancel;
}

usec_t job_deadline(const struct job *job)
{
    return job->deadline;
}

static void report(struct job *job, enum step_state state, const char *message, unsigned percent)
{
    if (!job->progress)
        return;
    struct job_report r = {
        .step = job->steps[job->index].name,
        .state = state,
        .message = message,
        .percent = percent > 100 ? 100 : percent,
        .index = job->index + 1,
        .total = job->n_steps,
    };
    job->progress(job->progress_arg, &r);
}

void job_note(struct job *job, unsigned percent, const char *fmt, ...)
{
    char text[JOB_NOTE_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    report(job, STEP_RUNNING, text, percent);
}

static int record(struct job *job, enum step_state state, struct err *err)
{
    if (!job->journal || !job->journal->step)
        return 0;
    int rc = job->journal->step(job->journal->arg, job->index, job->steps[job->index].name, state);
    if (rc < 0 && rc != -ERR_CANCELLED)
        return err_set(err, (enum err_code) - rc, "the journal cannot record step %s", job->steps[job->index].name);
    return rc;
}

static void collect(struct job *job, const struct err *err)
{
    if (job->n_collected++ == 0)
        job->collected = *err;
}

static int call(struct job *job, int (*fn)(struct job *job, void *ctx, struct err *err), struct err *err)
{
    job->deadline = deadline_in(job->steps[job->index].timeout);
    int rc = fn(job, job->ctx, err);
    if (rc < 0)
        (void)err_ensure(err, rc);
    return rc;
}

/* One attempt at the present step. @probe: its effect may be there already. */
static int attempt(struct job *job, bool probe, struct err *err)
{
    const struct job_step *s = &job->steps[job->index];
    int rc = 0;

    if (probe && s->probe) {
        rc = call(job, s->probe, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    job->waiting = s->interruptible ? fiber_self() : NULL;
    /* While the journal was written nobody waited that could be interrupted. */
    if (job->waiting && job->cancel && job->state == JOB_RUNNING)
        rc = -ERR_CANCELLED;
    else
        rc = call(job, s->run, err);
    job->waiting = NULL;
    fiber_uninterrupt();
    return rc;
}

/* Has the wait been broken off because the fiber is to end? Then nothing may be concluded from a failure. */
static bool interrupted(int rc)
{
    return rc == -ERR_CANCELLED && fiber_cancelled();
}

static int suspend(struct job *job)
{
    set_state(job, JOB_SUSPENDED);
    return -ERR_CANCELLED;
}

/* What the undo needs may be away for a moment, or on its way out: a daemon that restarts. That alone is waited for. */
static int undo_step(struct job *job, struct err *err)
{
    int rc = 0;

    for (unsigned try = 0; try < UNDO_TRIES; try++) {
        if (try > 0 && fiber_sleep(backoff_wait(try, RETRY_BASE, RETRY_CAP)) < 0)
            return -ERR_CANCELLED;
        *err = ERR_INIT;
        rc = call(job, job->steps[job->index].undo, err);
        if (rc != -ERR_UNAVAILABLE && rc != -ERR_INTERNAL)
            break;
    }
    return rc;
}

/* Undoes from the present step down to the first. @partial: the present step may have left a part of its effect. */
static int undo_all(struct job *job, bool partial)
{
    set_state(job, JOB_UNDOING);
    for (unsigned n = job->index + (partial ? 1 : 0); n-- > 0;) {
        const struct job_step *s = &job->steps[n];
        job->index = n;
        if (s->undo) {
            struct err err = ERR_INIT;
            int rc = undo_step(job, &err);
            if (fiber_cancelled())
                return suspend(job);
            if (rc < 0)
                collect(job, &err);
            report(job, rc < 0 ? STEP_FAILED : STEP_UNDONE, rc < 0 ? err.msg : "", 0);
        }
        struct err err = ERR_INIT;
        int rc = record(job, STEP_UNDONE, &err);
        if (interrupted(rc))
            return suspend(job);
        /* A journal that cannot be written does not keep us from cleaning up: an undo done twice is harmless. */
        if (rc < 0) {
            (void)err_ensure(&err, rc);
            collect(job, &err);
        }
    }
    set_state(job, JOB_UNDONE);
    return -(int)job->err.code;
}

static int fail(struct job *job, const struct err *cause)
{
    struct err err = ERR_INIT;

    job->err = *cause;
    job->failed_step = job->index;
    report(job, STEP_FAILED, cause->msg, 0);
    int rc = record(job, STEP_FAILED, &err);
    if (interrupted(rc))
        return suspend(job);
    return undo_all(job, true);
}

/* A step behind the commit: tried again and again, then passed over. Only cancellation stops it. */
static int run_forward(struct job *job, bool probe)
{
    struct err err = ERR_INIT;

    for (unsigned try = 0; try < JOB_TRIES; try++) {
        if (try > 0 && fiber_sleep(backoff_wait(try, RETRY_BASE, RETRY_CAP)) < 0)
            return suspend(job);
        err = ERR_INIT;
        int rc = try == 0 ? record(job, STEP_RUNNING, &err) : 0;
        if (interrupted(rc))
            return suspend(job);
        if (rc < 0) {
            (void)err_ensure(&err, rc);
            collect(job, &err);
        }
        if (try == 0)
            report(job, STEP_RUNNING, "", 0);
        rc = attempt(job, probe || try > 0, &err);
        if (fiber_cancelled())
            return suspend(job);
        if (rc >= 0) {
            report(job, STEP_DONE, "", 100);
            return 0;
        }
    }
    collect(job, &err);
    report(job, STEP_FAILED, err.msg, 0);
    return 0;
}

/* A step up to and including the commit. */
static int run_step(struct job *job, bool probe)
{
    struct err err = ERR_INIT;

    /* A commit that was begun before a crash may have been made. */
    if (job->cancel && !(probe && job->steps[job->index].commit)) {
        (void)err_set(&err, ERR_CANCELLED, "cancelled");
        return fail(job, &err);
    }
    int rc = record(job, STEP_RUNNING, &err);
    if (interrupted(rc))
        return suspend(job);
    if (rc == 0) {
        report(job, STEP_RUNNING, "", 0);
        rc = attempt(job, probe, &err);
    }
    if (fiber_cancelled())
        return suspend(job);
    if (rc < 0 && job->cancel && (rc == -ERR_CANCELLED || job->steps[job->index].interruptible)) {
        rc = -ERR_CANCELLED;
        err = ERR_INIT;
        (void)err_set(&err, ERR_CANCELLED, "cancelled");
    }
    if (rc < 0) {
        (void)err_ensure(&err, rc);
        return fail(job, &err);
    }
    report(job, STEP_DONE, "", 100);
    return 0;
}

static int run_from(struct job *job, unsigned first, bool probe, bool committed)
{
    set_state(job, committed ? JOB_COMMITTED : JOB_RUNNING);
    for (unsigned i = first; i < job->n_steps; i++, probe = false) {
        job->index = i;
        int rc = committed ? run_forward(job, probe) : run_step(job, probe);
        if (rc < 0)
            return rc;
        if (job->steps[i].commit) {
            committed = true;
            set_state(job, JOB_COMMITTED);
        }
    }
    set_state(job, JOB_DONE);
    return 0;
}

/* Where a journal's record stands in this table; n_steps when it does not. */
static unsigned find_step(const struct job *job, int resume_step)
{
    const char *name = job->journal ? job->journal->resume_name : NULL;

    for (unsigned i = 0; name && i < job->n_steps; i++)
        if (strcmp(job->steps[i].name, name) == 0)
            return i;
    return !name && (unsigned)resume_step < job->n_steps ? (unsigned)resume_step : job->n_steps;
}

int job_run(struct job *job, int resume_step)
{
    BUG_ON(job->n_steps == 0 || job->n_steps > JOB_STEPS_MAX);
    job->state = JOB_NEW;
    job->err = job->collected = ERR_INIT;
    job->n_collected = job->failed_step = 0;
    job->resumed_at = -1;
    if (resume_step < 0) {
        job->index = 0;
        return run_from(job, 0, false, false);
    }
    unsigned at = find_step(job, resume_step);
    if (at >= job->n_steps)
        return -ERR_INVALID;

    enum step_state last = job->journal && job->journal->resume_state != STEP_NONE ? job->journal->resume_state : STEP_RUNNING;
    bool committed = false;
    for (unsigned i = 0; i < at; i++)
        committed = committed || job->steps[i].commit;
    job->resumed_at = (int)at;
    job->index = job->failed_step = at;
    switch (last) {
    case STEP_DONE: return run_from(job, at + 1, false, committed || job->steps[at].commit);
    case STEP_FAILED:
    case STEP_UNDONE:
        if (committed)
            break;
        (void)err_set(&job->err, ERR_ABORTED, "interrupted while it was being undone; the undoing has been finished");
        return undo_all(job, last == STEP_FAILED);
    case STEP_NONE:
    case STEP_RUNNING: break;
    }
    return run_from(job, at, true, committed);
}
