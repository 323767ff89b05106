/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers: order, waits and their ends (time, event, cancel), limits of number and stack. */
#include "loop/fiber.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

struct ctx {
    struct loop *loop;
    struct event ev;
    struct fiber *f;
    char trace[64];
    int rc, rc2;
    usec_t delay, took;
    unsigned n;
};

static void mark(struct ctx *c, char what)
{
    size_t n = strlen(c->trace);

    assert_true(n + 1 < sizeof(c->trace));
    c->trace[n] = what;
    c->trace[n + 1] = 0;
}

static int setup(void **state)
{
    struct ctx *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    c->loop = loop_new();
    event_init(&c->ev, c->loop);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct ctx *c = *state;

    (void)fiber_unref(c->f);
    event_release(&c->ev);
    loop_free(c->loop);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    free(c);
    return 0;
}

static void say_a(void *arg)
{
    struct ctx *c = arg;

    assert_non_null(fiber_self());
    mark(c, 'a');
    assert_int_equal(fiber_yield(), 0);
    mark(c, 'A');
}

static void say_b(void *arg)
{
    struct ctx *c = arg;

    mark(c, 'b');
    assert_int_equal(fiber_yield(), 0);
    mark(c, 'B');
}

static void test_spawn_never_runs_inline_and_yield_takes_turns(void **state)
{
    struct ctx *c = *state;

    assert_null(fiber_self());
    assert_int_equal(fiber_spawn(c->loop, "a", say_a, c, NULL), 0);
    assert_int_equal(fiber_spawn(c->loop, "b", say_b, c, &c->f), 0);
    assert_string_equal(c->trace, "");
    assert_int_equal(fiber_count(c->loop), 2);
    assert_false(fiber_done(c->f));
    loop_run(c->loop);
    assert_string_equal(c->trace, "abAB");
    assert_int_equal(fiber_count(c->loop), 0);
    assert_true(fiber_done(c->f));
}

static void sleeper(void *arg)
{
    struct ctx *c = arg;
    usec_t start = clock_mono();

    c->rc = fiber_sleep(c->delay);
    c->took = clock_mono() - start;
    c->rc2 = fiber_sleep(0);
}

static void test_sleep_is_never_short(void **state)
{
    struct ctx *c = *state;

    c->delay = 20 * USEC_MSEC;
    assert_int_equal(fiber_spawn(c->loop, "sleeper", sleeper, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->rc, 0);
    assert_int_equal(c->rc2, 0);
    assert_true(c->took >= c->delay);
    assert_true(c->took < USEC_SEC);
}

static void test_cancel_ends_a_sleep_and_all_later_waits(void **state)
{
    struct ctx *c = *state;

    c->delay = USEC_HOUR;
    assert_int_equal(fiber_spawn(c->loop, "sleeper", sleeper, c, &c->f), 0);
    loop_advance(c->loop, 0);
    fiber_cancel(c->f);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    assert_false(fiber_done(c->f)); /* never inline */
    loop_run(c->loop);
    assert_true(fiber_done(c->f));
    assert_int_equal(c->rc, -ERR_CANCELLED);
    assert_int_equal(c->rc2, -ERR_CANCELLED);
    fiber_cancel(c->f);
    fiber_cancel(NULL);
}

static void interrupted(void *arg)
{
    struct ctx *c = arg;

    c->rc = fiber_sleep(c->delay);
    c->rc2 = fiber_cancelled() ? fiber_sleep(USEC_MSEC) : 0;
    fiber_uninterrupt();
    if (fiber_cancelled() || fiber_sleep(USEC_MSEC) < 0)
        c->took = 1;
}

static void test_an_interruption_can_be_lifted_and_a_cancellation_not(void **state)
{
    struct ctx *c = *state;

    for (unsigned both = 0; both < 2; both++) {
        c->delay = USEC_HOUR;
        c->rc = c->rc2 = 1;
        c->took = 0;
        assert_int_equal(fiber_spawn(c->loop, "interrupted", interrupted, c, &c->f), 0);
        loop_advance(c->loop, 0);
        fiber_interrupt(c->f);
        if (both)
            fiber_cancel(c->f);
        loop_advance(c->loop, USEC_SEC);
        assert_true(fiber_done(c->f));
        assert_int_equal(c->rc, -ERR_CANCELLED);
        assert_int_equal(c->rc2, -ERR_CANCELLED);
        assert_int_equal(c->took, both);
        fiber_interrupt(c->f); /* it has ended: harmless */
        if (!both)
            c->f = fiber_unref(c->f);
    }
    fiber_interrupt(NULL);
}

static void test_cancel_before_the_first_turn(void **state)
{
    struct ctx *c = *state;

    c->delay = USEC_HOUR;
    assert_int_equal(fiber_spawn(c->loop, "sleeper", sleeper, c, &c->f), 0);
    fiber_cancel(c->f);
    loop_run(c->loop);
    assert_int_equal(c->rc, -ERR_CANCELLED);
}

static void joiner(void *arg)
{
    struct ctx *c = arg;

    assert_int_equal(fiber_join(c->f, deadline_in(USEC_MSEC)), -ERR_DEADLINE);
    mark(c, 'd');
    c->rc2 = fiber_join(c->f, deadline_in(5 * USEC_SEC));
    assert_true(fiber_done(c->f));
    assert_int_equal(fiber_join(c->f, 0), 0);
    mark(c, 'j');
}

static void test_join(void **state)
{
    struct ctx *c = *state;

    c->delay = 30 * USEC_MSEC;
    assert_int_equal(fiber_spawn(c->loop, "sleeper", sleeper, c, &c->f), 0);
    assert_int_equal(fiber_spawn(c->loop, "joiner", joiner, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->rc2, 0);
    assert_string_equal(c->trace, "dj");
}

static void waiter(void *arg)
{
    struct ctx *c = arg;
    int rc = event_wait(&c->ev, deadline_in(5 * USEC_SEC));

    mark(c, rc == 0 ? 'w' : rc == -ERR_CANCELLED ? 'c' : '?');
}

static void signaller(void *arg)
{
    struct ctx *c = arg;

    assert_int_equal(fiber_yield(), 0);
    mark(c, 's');
    event_signal(&c->ev);
    mark(c, 'S');
}

static void test_signal_wakes_all_and_stays(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(fiber_spawn(c->loop, "w", waiter, c, NULL), 0);
    assert_int_equal(fiber_spawn(c->loop, "w", waiter, c, NULL), 0);
    assert_int_equal(fiber_spawn(c->loop, "s", signaller, c, NULL), 0);
    loop_run(c->loop);
    assert_string_equal(c->trace, "sSww"); /* not inside event_signal */
    assert_int_equal(fiber_spawn(c->loop, "w", waiter, c, NULL), 0);
    loop_run(c->loop);
    assert_string_equal(c->trace, "sSwww");
    event_reset(&c->ev);
    assert_false(c->ev.set);
}

static void pulser(void *arg)
{
    struct ctx *c = arg;

    mark(c, 'p');
    event_pulse(&c->ev);
    c->rc = event_wait(&c->ev, deadline_in(USEC_MSEC));
    c->rc2 = event_wait(&c->ev, clock_mono());
}

static void test_pulse_wakes_the_present_waiters_only(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(fiber_spawn(c->loop, "w", waiter, c, NULL), 0);
    assert_int_equal(fiber_spawn(c->loop, "p", pulser, c, NULL), 0);
    loop_run(c->loop);
    assert_string_equal(c->trace, "pw");
    assert_int_equal(c->rc, -ERR_DEADLINE);
    assert_int_equal(c->rc2, -ERR_DEADLINE);
}

static void releaser(void *arg)
{
    struct ctx *c = arg;

    event_release(&c->ev);
}

static void test_release_of_an_event_cancels_its_waiters(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(fiber_spawn(c->loop, "w", waiter, c, NULL), 0);
    assert_int_equal(fiber_spawn(c->loop, "r", releaser, c, NULL), 0);
    loop_run(c->loop);
    assert_string_equal(c->trace, "c");
}

static void test_cancel_wins_over_a_wake_up_under_way(void **state)
{
    struct ctx *c = *state;

    assert_int_equal(fiber_spawn(c->loop, "w", waiter, c, &c->f), 0);
    loop_advance(c->loop, 0);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    event_signal(&c->ev);
    fiber_cancel(c->f);
    loop_run(c->loop);
    assert_string_equal(c->trace, "c");
}

/* Uses @depth frames of half a kilobyte. */
static __attribute__((noinline)) unsigned dig(unsigned depth)
{
    volatile char frame[512];

    frame[0] = (char)depth;
    frame[511] = 1;
    if (depth == 0)
        return 0;
    return dig(depth - 1) + (unsigned)frame[511];
}

static void digger(void *arg)
{
    struct ctx *c = arg;

    c->n = dig(c->n);
}

static void test_stack_holds_200_kilobytes(void **state)
{
    struct ctx *c = *state;

    c->n = 340; /* frames of about 560 bytes; far more under a sanitizer, which has the larger stack */
    assert_int_equal(fiber_spawn(c->loop, "digger", digger, c, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->n, 340);
}

static void test_stack_overflow_hits_the_guard_page(void **state)
{
    struct ctx *c = *state;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        (void)close(STDERR_FILENO);
        (void)signal(SIGSEGV, SIG_DFL);
        c->n = 1000000;
        if (fiber_spawn(c->loop, "digger", digger, c, NULL) == 0)
            loop_run(c->loop);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
}

static void count_me(void *arg)
{
    struct ctx *c = arg;

    assert_int_equal(event_wait(&c->ev, USEC_INFINITY), 0);
    c->n++;
}

static void test_limit_of_fibers(void **state)
{
    struct ctx *c = *state;

    for (int i = 0; i < FIBER_MAX; i++)
        assert_int_equal(fiber_spawn(c->loop, "count", count_me, c, NULL), 0);
    assert_int_equal(fiber_count(c->loop), FIBER_MAX);
    assert_int_equal(fiber_spawn(c->loop, "count", count_me, c, NULL), -ERR_EXHAUSTED);
    loop_advance(c->loop, 0);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    assert_int_equal(c->n, 0);
    event_signal(&c->ev);
    loop_run(c->loop);
    assert_int_equal(c->n, FIBER_MAX);
    assert_int_equal(fiber_spawn(c->loop, "count", count_me, c, NULL), 0);
    loop_run(c->loop);
}

static void float_keeper(void *arg)
{
    struct ctx *c = arg;
    double x = 1.5;

    for (int i = 0; i < 50; i++) {
        x = x * 1.01 + (double)c->delay;
        assert_int_equal(fiber_yield(), 0);
    }
    c->took = (usec_t)x;
}

static void test_registers_survive_the_switch(void **state)
{
    struct ctx *c = *state, other = {.delay = 7};

    c->delay = 3;
    assert_int_equal(fiber_spawn(c->loop, "f", float_keeper, c, NULL), 0);
    assert_int_equal(fiber_spawn(c->loop, "f", float_keeper, &other, NULL), 0);
    loop_run(c->loop);
    assert_int_equal(c->took, 195);
    assert_int_equal(other.took, 453);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_spawn_never_runs_inline_and_yield_takes_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sleep_is_never_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_ends_a_sleep_and_all_later_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_interruption_can_be_lifted_and_a_cancellation_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_before_the_first_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_join, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signal_wakes_all_and_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pulse_wakes_the_present_waiters_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_release_of_an_event_cancels_its_waiters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_wins_over_a_wake_up_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stack_holds_200_kilobytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stack_overflow_hits_the_guard_page, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit_of_fibers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registers_survive_the_switch, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
