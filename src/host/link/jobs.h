/* SPDX-License-Identifier: Apache-2.0 */
/* jobs — the step engine: a job is a static table of steps, journaled one by one, so that a crash at any moment leaves something that
 * can be resumed or undone.
 *
 * Before a step runs it is in the journal (RUNNING). A resumed job asks the probe of the step that the journal names last before it runs
 * that step again; the steps before it are done. A failure before the commit step is done undoes, in reverse, what was done (journaled
 * FAILED once, then UNDONE after each undo). An undo that fails with -ERR_UNAVAILABLE or -ERR_INTERNAL is tried again; other failures of
 * an undo are collected and do not stop it.  After the commit step the job only goes forward: a step that fails is tried again with
 * back-off and, when its tries are used up, passed over and collected.
 * A cancelled fiber suspends the job where it stands (JOB_SUSPENDED: nothing is undone; it is resumed from the journal later).
 * job_cancel ends it instead: before the commit by undoing, after it not at all. A step that only looks or waits says so (`interruptible`) and is
 * broken off; any other comes to its end first.
 * Ownership: the caller owns the struct job and everything it points to; nothing is allocated.  Thread: loop, on one fiber. */
#ifndef DAVIT_HOST_LINK_JOBS_H
#define DAVIT_HOST_LINK_JOBS_H

#include "loop/fiber.h"

enum { JOB_STEPS_MAX = 32, JOB_TRIES = 5, JOB_NOTE_MAX = 256 };

/* Same numbers as davit.common.v1.StepState. */
enum step_state { STEP_NONE, STEP_RUNNING, STEP_DONE, STEP_FAILED, STEP_UNDONE };

enum job_state {
    JOB_NEW,
    JOB_RUNNING, /* before the commit */
    JOB_UNDOING,
    JOB_COMMITTED, /* only forward from here */
    JOB_DONE,      /* every step is done, or passed over after the commit (see n_collected) */
    JOB_UNDONE,    /* failed and cleaned up; `err` says why */
    JOB_SUSPENDED, /* the fiber was cancelled; resume from the journal */
    JOB_STATE_COUNT
};

/* Where progress is written down so that it outlives the process. `step` returns 0 when the record is on disk, negative (-ERR_*) when it
 * is not; it may wait. `resume_state` is the state of the last record, for a job that is resumed: STEP_NONE means RUNNING.
 * `resume_name` is the name of the step in that record, which counts more than its number: another version of the program may have other steps.
 * NULL: the number counts.
 * `cancelled`: is it not wanted any more, from before it was given to the work? NULL: no.
 * `received` is when the command came, in real time: what has a later stamp may be its effect, what has an earlier one is not. 0: unknown. */
struct job_journal {
    int (*step)(void *arg, unsigned index, const char *name, enum step_state state);
    void *arg;
    enum step_state resume_state;
    const char *resume_name;
    usec_t received;
    const bool *cancelled;
};

struct job;

/* The calls of a step run on the job's fiber with the job's ctx. Each wait in them ends at job_deadline(job) at the latest. */
struct job_step {
    const char *name;
    /* Is the effect there? 0 no, 1 yes, negative: cannot tell. NULL: running again is harmless, and `no_probe` says why. */
    int (*probe)(struct job *job, void *ctx, struct err *err);
    /* 0 or negative. Must be harmless where a part of the effect is there already. */
    int (*run)(struct job *job, void *ctx, struct err *err);
    /* Removes the effect, whole or in part; harmless when it is absent. NULL: nothing to undo. */
    int (*undo)(struct job *job, void *ctx, struct err *err);
    usec_t timeout; /* of one call of probe, run or undo */
    bool commit;    /* at most one step of a table: done, there is no way back */
    /* job_cancel makes the waits of `run` return -ERR_CANCELLED. Only where what is broken off leaves no effect that would appear later. */
    bool interruptible;
    const char *no_probe;
};

/* A table by its name, for tests that walk all of them. */
struct job_table {
    const char *name;
    const struct job_step *steps;
    size_t n;
};

struct job_report {
    const char *step;
    enum step_state state;
    const char *message; /* for people; "" if there is none. Borrowed for the call */
    unsigned percent;    /* 0..100 */
    unsigned index;      /* 1..total */
    unsigned total;
};

struct job {
    /* Set by the caller before job_run: */
    struct loop *loop;
    const struct job_step *steps;
    unsigned n_steps; /* 1..JOB_STEPS_MAX */
    void *ctx;
    const struct job_journal *journal;                            /* NULL: not journaled */
    void (*progress)(void *arg, const struct job_report *report); /* NULL: nobody listens. Must not wait */
    void *progress_arg;
    /* For the caller to read: */
    enum job_state state;
    unsigned index;       /* of the present step */
    int resumed_at;       /* index of the step that it was taken up at, -1: fresh */
    struct err err;       /* why it failed (JOB_UNDONE) */
    unsigned failed_step; /* index of the step that failed first */
    struct err collected; /* the first failure of an undo, or of a step after the commit */
    unsigned n_collected;
    /* Internal: */
    usec_t deadline;
    bool cancel;
    struct fiber *waiting; /* in a step that may be broken off */
};

/* Runs the job to its end. @resume_step: -1 for a fresh job, else the index of the last record of the journal.
 * 0: JOB_DONE. Negative: JOB_UNDONE (the code of the first failure, details in job->err), or -ERR_CANCELLED with JOB_SUSPENDED.
 * -ERR_INVALID when the step is not in the table (nothing was run). */
int job_run(struct job *job, int resume_step) MUST_USE;

/* Asks a job that runs to end: takes effect when the present step returns, at once if that is interruptible. Too late after the commit. */
void job_cancel(struct job *job);
bool job_cancel_wanted(const struct job *job);

/* For steps: when the present call must be over (monotonic). */
usec_t job_deadline(const struct job *job);
/* For steps: reports how far the present one is. @percent 0 while unknown. */
void job_note(struct job *job, unsigned percent, const char *fmt, ...) PRINTF(3, 4);

/* Lower-case name, never NULL. */
const char *job_state_name(enum job_state state);
/* May @from turn into @to? */
bool job_may_move(enum job_state from, enum job_state to);

#endif
