/* SPDX-License-Identifier: Apache-2.0 */
/* test_jobs — the step engine against a small world whose effects are counted, with a crash at every boundary. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host/link/jobs.h"

enum { N = 6, LOOKS = 2, COMMIT = 3 };
enum point { NOWHERE, BEFORE_JOURNAL, AFTER_JOURNAL, AFTER_EFFECT };

/* What outlives a crash: the effects and the journal. */
struct world {
    struct loop *loop;
    bool there[N];
    unsigned made[N], unmade[N];
    char order[256]; /* "+0+1-1-0": what was made and unmade, in order */
    int last;        /* last record of the journal */
    enum step_state last_state;
    unsigned records;
    /* The plan of this run: */
    int crash_at;
    enum point crash;
    bool crash_undo;
    int fail_at;
    unsigned fail_times;
    bool fail_after_effect;
    int undo_fails_at;
    unsigned undo_unavailable; /* times */
    int wait_at;
    int journal_fails_at;
    int cancel_at;
    int cancel_in_journal; /* while this step is written down */
    struct job *job;
    struct event never;
};

struct run {
    struct world *w;
    struct job job;
    struct job_journal journal;
    int resume;
    int rc;
    bool over;
    struct fiber *fiber;
};

static void hang(struct world *w)
{
    assert_int_equal(event_wait(&w->never, USEC_INFINITY), -ERR_CANCELLED);
}

static int on_journal(void *arg, unsigned index, const char *name, enum step_state state)
{
    struct world *w = arg;
    bool here = w->crash_at == (int)index && (state == STEP_RUNNING) == !w->crash_undo;

    assert_int_equal(name[0], 's');
    if (here && w->crash == BEFORE_JOURNAL) {
        hang(w);
        return -ERR_CANCELLED;
    }
    if (w->journal_fails_at == (int)index && state == STEP_RUNNING)
        return -ERR_EXHAUSTED;
    w->last = (int)index;
    w->last_state = state;
    w->records++;
    if (w->cancel_in_journal == (int)index && state == STEP_RUNNING)
        job_cancel(w->job);
    if (here && w->crash == AFTER_JOURNAL) {
        hang(w);
        return -ERR_CANCELLED;
    }
    return 0;
}

static void note_order(struct world *w, char sign, unsigned i)
{
    size_t n = strlen(w->order);
    w->order[n] = sign;
    w->order[n + 1] = (char)('0' + i);
    w->order[n + 2] = '\0';
}

static int do_probe(struct job *job, void *ctx, struct err *err)
{
    (void)err;
    return ((struct world *)ctx)->there[job->index] ? 1 : 0;
}

static int do_run(struct job *job, void *ctx, struct err *err)
{
    struct world *w = ctx;
    unsigned i = job->index;

    if (w->wait_at == (int)i) {
        while (clock_mono() < job_deadline(job))
            if (fiber_sleep(USEC_SEC) < 0)
                return -ERR_CANCELLED;
        return err_set(err, ERR_DEADLINE, "step %u took too long", i);
    }
    if (w->cancel_at == (int)i)
        job_cancel(job);
    if (w->fail_at == (int)i && w->fail_times > 0) {
        w->fail_times--;
        if (w->fail_after_effect) {
            w->there[i] = true;
            w->made[i]++;
            note_order(w, '+', i);
        }
        return err_set(err, ERR_UNAVAILABLE, "step %u failed", i);
    }
    assert_false(w->there[i]); /* an effect that is there is never made again */
    w->there[i] = true;
    w->made[i]++;
    note_order(w, '+', i);
    if (w->crash == AFTER_EFFECT && w->crash_at == (int)i && !w->crash_undo)
        hang(w);
    return 0;
}

static int do_undo(struct job *job, void *ctx, struct err *err)
{
    struct world *w = ctx;
    unsigned i = job->index;

    if (w->undo_unavailable > 0) {
        w->undo_unavailable--;
        return err_set(err, ERR_UNAVAILABLE, "undo %u must wait", i);
    }
    if (w->undo_fails_at == (int)i)
        return err_set(err, ERR_INTERNAL, "undo %u failed", i);
    if (w->there[i]) {
        w->there[i] = false;
        w->unmade[i]++;
        note_order(w, '-', i);
    }
    if (w->crash == AFTER_EFFECT && w->crash_at == (int)i && w->crash_undo)
        hang(w);
    return 0;
}

#define STEP(i)                                                                                                                  \
    {                                                                                                                            \
        .name = "s" #i, .probe = do_probe, .run = do_run, .undo = do_undo, .timeout = 10 * USEC_SEC, .commit = (i) == COMMIT,    \
        .interruptible = (i) == LOOKS                                                                                            \
    }
static const struct job_step table[N] = {STEP(0), STEP(1), STEP(2), STEP(3), STEP(4), STEP(5)};

static void world_init(struct world *w, struct loop *loop)
{
    memset(w, 0, sizeof(*w));
    w->loop = loop;
    w->last = w->crash_at = w->fail_at = w->undo_fails_at = w->wait_at = w->journal_fails_at = w->cancel_at = w->cancel_in_journal = -1;
    w->fail_times = 1;
    event_init(&w->never, loop);
}

static void on_fiber(void *arg)
{
    struct run *r = arg;
    r->rc = job_run(&r->job, r->resume);
    r->over = true;
}

static void start_at(struct run *r, struct world *w, int resume, const char *name)
{
    *r = (struct run){.w = w, .resume = resume};
    r->journal = (struct job_journal){.step = on_journal, .arg = w, .resume_state = resume >= 0 ? w->last_state : STEP_NONE, .resume_name = name};
    r->job = (struct job){.loop = w->loop, .steps = table, .n_steps = N, .ctx = w, .journal = &r->journal};
    w->job = &r->job;
    assert_int_equal(fiber_spawn(w->loop, "job", on_fiber, r, &r->fiber), 0);
    loop_advance(w->loop, 5 * USEC_MINUTE);
}

static void start(struct run *r, struct world *w, int resume)
{
    start_at(r, w, resume, NULL);
}

static void finish(struct run *r)
{
    fiber_cancel(r->fiber);
    loop_advance(r->w->loop, USEC_SEC);
    assert_true(r->over);
    r->fiber = fiber_unref(r->fiber);
}

static int setup(void **state)
{
    clock_fake(USEC_HOUR, 1000 * USEC_DAY);
    *state = loop_new();
    return 0;
}

static int teardown(void **state)
{
    loop_free(*state);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    return 0;
}

static void test_all_steps_in_order(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    start(&r, &w, -1);
    assert_true(r.over);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.job.state, JOB_DONE);
    assert_string_equal(w.order, "+0+1+2+3+4+5");
    assert_int_equal(w.records, N);
    finish(&r);
}

/* req: CL-8 */
static void test_crash_at_every_boundary(void **state)
{
    for (int at = 0; at < N; at++) {
        for (enum point p = BEFORE_JOURNAL; p <= AFTER_EFFECT; p++) {
            struct world w;
            struct run dead, next;

            world_init(&w, *state);
            w.crash_at = at;
            w.crash = p;
            start(&dead, &w, -1);
            assert_false(dead.over);

            w.crash = NOWHERE;
            start(&next, &w, w.last);
            assert_int_equal(next.rc, 0);
            assert_int_equal(next.job.state, JOB_DONE);
            assert_string_equal(w.order, "+0+1+2+3+4+5");
            for (unsigned i = 0; i < N; i++)
                assert_int_equal(w.made[i], 1);
            finish(&next);
            /* The fiber that hung is cut: it suspends and leaves the world alone. */
            finish(&dead);
            assert_int_equal(dead.job.state, JOB_SUSPENDED);
            assert_int_equal(dead.rc, -ERR_CANCELLED);
            assert_string_equal(w.order, "+0+1+2+3+4+5");
        }
    }
}

static void test_crash_during_undo(void **state)
{
    for (int at = 2; at >= 0; at--) {
        for (enum point p = BEFORE_JOURNAL; p <= AFTER_EFFECT; p++) {
            struct world w;
            struct run dead, next;

            world_init(&w, *state);
            w.fail_at = 2;
            w.fail_after_effect = true;
            w.crash_at = at;
            w.crash = p;
            w.crash_undo = true;
            start(&dead, &w, -1);
            assert_false(dead.over);

            w.crash = NOWHERE;
            w.fail_at = 2;
            w.fail_times = 1;
            start(&next, &w, w.last);
            /* A failure that did not reach the journal is not known: the probe finds the effect and the job goes on. */
            bool unknown = at == 2 && p == BEFORE_JOURNAL;
            assert_string_equal(w.order, unknown ? "+0+1+2+3+4+5" : "+0+1+2-2-1-0");
            assert_int_equal(next.job.state, unknown ? JOB_DONE : JOB_UNDONE);
            assert_int_equal(next.rc, unknown ? 0 : -ERR_ABORTED);
            finish(&next);
            finish(&dead);
        }
    }
}

static void test_failure_undoes_in_reverse(void **state)
{
    for (int at = 0; at <= COMMIT; at++) {
        struct world w;
        struct run r;

        world_init(&w, *state);
        w.fail_at = at;
        start(&r, &w, -1);
        assert_int_equal(r.rc, -ERR_UNAVAILABLE);
        assert_int_equal(r.job.state, JOB_UNDONE);
        assert_int_equal(r.job.failed_step, at);
        char want[64] = "";
        struct world expected = {0};
        for (int i = 0; i < at; i++)
            note_order(&expected, '+', (unsigned)i);
        for (int i = at - 1; i >= 0; i--)
            note_order(&expected, '-', (unsigned)i);
        memcpy(want, expected.order, sizeof(want));
        assert_string_equal(w.order, want);
        finish(&r);
    }
}

static void test_partial_effect_of_the_failed_step_is_undone(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.fail_at = 1;
    w.fail_after_effect = true;
    start(&r, &w, -1);
    assert_string_equal(w.order, "+0+1-1-0");
    finish(&r);
}

static void test_undo_failures_are_collected(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.fail_at = 2;
    w.undo_fails_at = 1;
    start(&r, &w, -1);
    assert_int_equal(r.rc, -ERR_UNAVAILABLE);
    assert_string_equal(w.order, "+0+1-0");
    assert_int_equal(r.job.n_collected, 1);
    assert_string_equal(r.job.collected.msg, "undo 1 failed");
    assert_string_equal(r.job.err.msg, "step 2 failed");
    finish(&r);
}

static void test_undo_waits_for_what_is_away(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.fail_at = 2;
    w.undo_unavailable = 4;
    start(&r, &w, -1);
    assert_string_equal(w.order, "+0+1-1-0");
    assert_int_equal(r.job.n_collected, 0);
    finish(&r);
}

static void test_after_the_commit_it_only_goes_forward(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.fail_at = 4;
    w.fail_times = JOB_TRIES - 1;
    start(&r, &w, -1);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.job.n_collected, 0);
    assert_string_equal(w.order, "+0+1+2+3+4+5");
    finish(&r);

    world_init(&w, *state);
    w.fail_at = 4;
    w.fail_times = JOB_TRIES;
    start(&r, &w, -1);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.job.state, JOB_DONE);
    assert_int_equal(r.job.n_collected, 1);
    assert_string_equal(w.order, "+0+1+2+3+5");
    finish(&r);
}

static void test_deadline_of_a_step(void **state)
{
    struct world w;
    struct run r;
    usec_t before = clock_mono();

    world_init(&w, *state);
    w.wait_at = 1;
    start(&r, &w, -1);
    assert_int_equal(r.rc, -ERR_DEADLINE);
    assert_string_equal(w.order, "+0-0");
    assert_true(r.job.deadline >= before + 10 * USEC_SEC);
    finish(&r);
}

static void test_cancel(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.cancel_at = 1;
    start(&r, &w, -1);
    assert_int_equal(r.rc, -ERR_CANCELLED);
    assert_int_equal(r.job.state, JOB_UNDONE);
    assert_string_equal(w.order, "+0+1-1-0");
    finish(&r);

    world_init(&w, *state);
    w.cancel_at = COMMIT;
    start(&r, &w, -1);
    assert_int_equal(r.rc, 0);
    assert_string_equal(w.order, "+0+1+2+3+4+5");
    finish(&r);
}

static void begin(struct run *r, struct world *w)
{
    *r = (struct run){.w = w, .resume = -1};
    r->journal = (struct job_journal){.step = on_journal, .arg = w};
    r->job = (struct job){.loop = w->loop, .steps = table, .n_steps = N, .ctx = w, .journal = &r->journal};
    w->job = &r->job;
    assert_int_equal(fiber_spawn(w->loop, "job", on_fiber, r, &r->fiber), 0);
    loop_advance(w->loop, 2 * USEC_SEC);
}

/* A step that may be broken off ends at once; the undoing waits as it must. */
static void test_cancel_breaks_off_a_step_that_only_waits(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.wait_at = LOOKS;
    w.undo_unavailable = 1; /* the undo of step 1 waits for another try */
    begin(&r, &w);
    assert_false(r.over);
    job_cancel(&r.job);
    loop_advance(w.loop, 2 * USEC_SEC);
    assert_true(r.over);
    assert_int_equal(r.job.state, JOB_UNDONE);
    assert_int_equal(r.job.err.code, ERR_CANCELLED);
    assert_string_equal(w.order, "+0+1-1-0");
    finish(&r);

    world_init(&w, *state);
    w.wait_at = 1; /* this one comes to its end first */
    begin(&r, &w);
    job_cancel(&r.job);
    loop_advance(w.loop, 2 * USEC_SEC);
    assert_false(r.over);
    finish(&r);
}

/* The step that waits has not begun when its user changes his mind. */
static void test_cancel_while_the_journal_is_written(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.wait_at = w.cancel_in_journal = LOOKS;
    begin(&r, &w);
    assert_true(r.over);
    assert_int_equal(r.job.state, JOB_UNDONE);
    assert_int_equal(r.job.err.code, ERR_CANCELLED);
    assert_string_equal(w.order, "+0+1-1-0");
    finish(&r);
}

/* What a commit made is not undone by who did not see it end. */
static void test_cancel_after_a_crash_in_the_commit_comes_too_late(void **state)
{
    struct world w;
    struct run r;

    for (int last = COMMIT - 1; last <= COMMIT; last++) {
        world_init(&w, *state);
        for (int i = 0; i <= last; i++)
            w.there[i] = true;
        w.last_state = STEP_RUNNING;
        r = (struct run){.w = &w, .resume = last};
        r.journal = (struct job_journal){.step = on_journal, .arg = &w, .resume_state = STEP_RUNNING};
        r.job = (struct job){.loop = w.loop, .steps = table, .n_steps = N, .ctx = &w, .journal = &r.journal, .cancel = true};
        assert_int_equal(fiber_spawn(w.loop, "job", on_fiber, &r, &r.fiber), 0);
        loop_advance(w.loop, 5 * USEC_MINUTE);
        assert_int_equal(r.job.state, last == COMMIT ? JOB_DONE : JOB_UNDONE);
        finish(&r);
    }
}

static void test_journal_that_fails_stops_the_job(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.journal_fails_at = 2;
    start(&r, &w, -1);
    assert_int_equal(r.rc, -ERR_EXHAUSTED);
    assert_string_equal(w.order, "+0+1-1-0");
    finish(&r);
}

static void test_resume_out_of_the_table(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    start(&r, &w, N);
    assert_int_equal(r.rc, -ERR_INVALID);
    assert_string_equal(w.order, "");
    finish(&r);
}

/* An agent that was updated in the midst of a job has another table. */
static void test_the_name_of_a_step_counts_more_than_its_number(void **state)
{
    struct world w;
    struct run r;

    world_init(&w, *state);
    w.there[0] = w.there[1] = w.there[2] = true;
    w.last_state = STEP_RUNNING;
    start_at(&r, &w, 5, "s2");
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.job.resumed_at, 2);
    assert_string_equal(w.order, "+3+4+5");
    finish(&r);
    world_init(&w, *state);
    start_at(&r, &w, 2, "gone");
    assert_int_equal(r.rc, -ERR_INVALID);
    assert_string_equal(w.order, "");
    finish(&r);
}

static void test_move_table(void **state)
{
    (void)state;
    assert_true(job_may_move(JOB_NEW, JOB_RUNNING));
    assert_true(job_may_move(JOB_RUNNING, JOB_UNDOING));
    assert_true(job_may_move(JOB_COMMITTED, JOB_DONE));
    assert_false(job_may_move(JOB_COMMITTED, JOB_UNDOING));
    assert_false(job_may_move(JOB_UNDOING, JOB_RUNNING));
    for (int s = 0; s < JOB_STATE_COUNT; s++) {
        assert_false(job_may_move(JOB_DONE, (enum job_state)s));
        assert_false(job_may_move(JOB_UNDONE, (enum job_state)s));
        assert_false(job_may_move(JOB_SUSPENDED, (enum job_state)s));
    }
    assert_string_equal(job_state_name(JOB_COMMITTED), "committed");
    assert_string_equal(job_state_name((enum job_state)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_steps_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crash_at_every_boundary, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crash_during_undo, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failure_undoes_in_reverse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_partial_effect_of_the_failed_step_is_undone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_undo_failures_are_collected, setup, teardown),
        cmocka_unit_test_setup_teardown(test_undo_waits_for_what_is_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_after_the_commit_it_only_goes_forward, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadline_of_a_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_breaks_off_a_step_that_only_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_while_the_journal_is_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_after_a_crash_in_the_commit_comes_too_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_journal_that_fails_stops_the_job, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resume_out_of_the_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_name_of_a_step_counts_more_than_its_number, setup, teardown),
        cmocka_unit_test(test_move_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
