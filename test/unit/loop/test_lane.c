/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes: results on the loop, the limit of the queue, deadline and cancel before and after a job began, the end of a lane. */
#include "loop/lane.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>

struct ctx {
    struct loop *loop;
    struct lane *lane;
    pthread_t loop_thread;
    sem_t gate, begun;
    struct fiber *f;
    int rc;
    unsigned ran, ended;
};

static int setup(void **state)
{
    struct ctx *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    c->loop = loop_new();
    c->lane = lane_new(c->loop, "test", 1, 2);
    c->loop_thread = pthread_self();
    c->rc = 99;
    (void)sem_init(&c->gate, 0, 0);
    (void)sem_init(&c->begun, 0, 0);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct ctx *c = *state;

    (void)fiber_unref(c->f);
    c->lane = lane_free(c->lane);
    loop_free(c->loop);
    (void)sem_destroy(&c->gate);
    (void)sem_destroy(&c->begun);
    free(c);
    return 0;
}

static int quick(void *arg)
{
    struct ctx *c = arg;

    c->ran++;
    return pthread_equal(pthread_self(), c->loop_thread) ? -ERR_INTERNAL : 42;
}

/* Blocks its thread until the gate opens. */
static int gated(void *arg)
{
    struct ctx *c = arg;

    (void)sem_post(&c->begun);
    while (sem_wait(&c->gate) < 0)
        continue;
    return 7;
}

static void count_end(void *arg, int rc)
{
    struct ctx *c = arg;

    assert_true(pthread_equal(pthread_self(), c->loop_thread));
    c->ended++;
    c->rc = rc;
}

static void call_quick(void *arg)
{
    struct ctx *c = arg;

    c->rc = lane_call(c->lane, quick, c, deadline_in(20 * USEC_SEC));
}

static void call_quick_soon(void *arg)
{
    struct ctx *c = arg;

    c->rc = lane_call(c->lane, quick, c, deadline_in(20 * USEC_MSEC));
    (void)sem_post(&c->gate);
}

static void call_gated(void *arg)
{
    struct ctx *c = arg;

    c->rc = lane_call(c->lane, gated, c, deadline_in(10 * USEC_MSEC));
}

static void open_gate_late(void *arg)
{
    struct ctx *c = arg;

    assert_int_equal(fiber_sleep(40 * USEC_MSEC), 0);
    assert_int_equal(c->rc, 99); /* the deadline passed, the job runs: the caller still waits */
    fiber_cancel(c->f);
    assert_int_equal(fiber_sleep(10 * USEC_MSEC), 0);
    assert_int_equal(c->rc, 99); /* cancelled: the same */
    (void)sem_post(&c->gate);
}

static void test_call_runs_on_a_thread_and_returns_its_result(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(fiber_spawn(c->loop, "call", call_quick, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->rc, 42);
}

static void test_post_ends_on_the_loop(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(lane_post(c->lane, quick, count_end, c), 0);
    loop_run(c->loop);
    assert_int_equal(c->ended, 1);
    assert_int_equal(c->rc, 42);
}

static void test_full_queue(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(lane_post(c->lane, gated, count_end, c), 0);
    (void)sem_wait(&c->begun);
    assert_int_equal(lane_post(c->lane, quick, count_end, c), 0);
    assert_int_equal(lane_post(c->lane, quick, count_end, c), 0);
    assert_int_equal(lane_queued(c->lane), 2);
    assert_int_equal(lane_post(c->lane, quick, count_end, c), -ERR_EXHAUSTED);
    (void)sem_post(&c->gate);
    loop_run(c->loop);
    assert_int_equal(c->ended, 3);
    assert_int_equal(c->ran, 2);
}

static void test_deadline_and_cancel_while_queued(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(lane_post(c->lane, gated, count_end, c), 0);
    (void)sem_wait(&c->begun);
    assert_int_equal(fiber_spawn(c->loop, "call", call_quick_soon, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->ran, 0);
    assert_int_equal(lane_queued(c->lane), 0);
    assert_int_equal(c->ended, 1);
    assert_int_equal(fiber_spawn(c->loop, "call", call_quick, c, &c->f), 0);
    fiber_cancel(c->f);
    loop_run(c->loop);
    assert_int_equal(c->rc, -ERR_CANCELLED);
    assert_int_equal(c->ran, 0);
}

static void test_deadline_and_cancel_while_running(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(fiber_spawn(c->loop, "call", call_gated, c, &c->f), 0);
    assert_int_equal(fiber_spawn(c->loop, "gate", open_gate_late, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->rc, 7);
}

/* Opens the gate once lane_free has emptied the queue. */
static void *open_when_dropped(void *arg)
{
    struct ctx *c = arg;

    while (lane_queued(c->lane) > 0)
        (void)usleep(1000);
    (void)sem_post(&c->gate);
    return NULL;
}

static void test_free_drops_what_is_queued(void **state)
{
    struct ctx *c = *state;
    struct lane *lane = c->lane;
    pthread_t opener;

    assert_int_equal(lane_post(c->lane, gated, count_end, c), 0);
    (void)sem_wait(&c->begun);
    assert_int_equal(lane_post(c->lane, quick, count_end, c), 0);
    assert_int_equal(pthread_create(&opener, NULL, open_when_dropped, c), 0);
    (void)lane_free(lane);
    assert_int_equal(pthread_join(opener, NULL), 0);
    c->lane = NULL;
    loop_run(c->loop);
    assert_int_equal(c->ended, 2); /* the one that ran and the one that was dropped */
    assert_int_equal(c->ran, 0);
}

/* A machine that has no thread to give: who can do without is told. */
static void test_no_thread(void **state)
{
    struct loop *loop = loop_new();
    pthread_attr_t attr;

    (void)state;
    assert_int_equal(pthread_getattr_default_np(&attr), 0);
    size_t size = 0;
    assert_int_equal(pthread_attr_getstacksize(&attr, &size), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, (size_t)1 << 50), 0); /* more than there are addresses */
    assert_int_equal(pthread_setattr_default_np(&attr), 0);
    assert_null(lane_try_new(loop, "none", 2, 1));
    assert_int_equal(pthread_attr_setstacksize(&attr, size), 0);
    assert_int_equal(pthread_setattr_default_np(&attr), 0);
    assert_int_equal(pthread_attr_destroy(&attr), 0);
    struct lane *lane = lane_try_new(loop, "one", 1, 1);
    assert_non_null(lane);
    lane = lane_free(lane);
    loop_free(loop);
}

/* What must be brought to its end asks lanes as if nobody had cancelled it. */
static void call_shielded(void *arg)
{
    struct ctx *c = arg;

    fiber_cancel(c->f);
    assert_int_equal(lane_call(c->lane, quick, c, deadline_in(5 * USEC_SEC)), -ERR_CANCELLED);
    fiber_shield();
    c->rc = lane_call(c->lane, quick, c, deadline_in(5 * USEC_SEC));
    fiber_unshield();
    assert_int_equal(lane_call(c->lane, quick, c, deadline_in(5 * USEC_SEC)), -ERR_CANCELLED);
}

static void test_shield(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(fiber_spawn(c->loop, "shielded", call_shielded, c, &c->f), 0);
    loop_run(c->loop);
    assert_int_equal(c->rc, 42);
    assert_int_equal(c->ran, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_call_runs_on_a_thread_and_returns_its_result, setup, teardown),
        cmocka_unit_test_setup_teardown(test_post_ends_on_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadline_and_cancel_while_queued, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadline_and_cancel_while_running, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shield, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_drops_what_is_queued, setup, teardown),
        cmocka_unit_test(test_no_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
