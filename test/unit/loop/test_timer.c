/* SPDX-License-Identifier: Apache-2.0 */
/* Timers, tasks, signals and the turn of the loop. */
#include "loop/loop.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>

enum { MANY = 500 };

struct ctx {
    struct loop *loop;
    struct timer a, b, c;
    struct task t, u;
    char trace[64];
    unsigned n;
    usec_t at;
};

static void mark(struct ctx *c, char what)
{
    size_t n = strlen(c->trace);

    assert_true(n + 1 < sizeof(c->trace));
    c->trace[n] = what;
}

static void fire_a(void *arg)
{
    mark(arg, 'a');
}

static void fire_b(void *arg)
{
    mark(arg, 'b');
}

static void fire_c(void *arg)
{
    mark(arg, 'c');
}

static int setup(void **state)
{
    struct ctx *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    c->loop = loop_new();
    timer_init(&c->a, c->loop, fire_a, c);
    timer_init(&c->b, c->loop, fire_b, c);
    timer_init(&c->c, c->loop, fire_c, c);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct ctx *c = *state;

    timer_stop(&c->a);
    timer_stop(&c->b);
    timer_stop(&c->c);
    loop_free(c->loop);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    free(c);
    return 0;
}

static void test_order_move_and_stop(void **state)
{
    struct ctx *c = *state;

    timer_set(&c->a, 15 * USEC_MSEC);
    timer_set(&c->b, 5 * USEC_MSEC);
    timer_set(&c->c, USEC_MSEC);
    timer_set(&c->c, 20 * USEC_MSEC); /* moved */
    assert_true(timer_armed(&c->a));
    loop_run(c->loop);
    assert_string_equal(c->trace, "bac");
    assert_false(timer_armed(&c->a));
    timer_set(&c->a, USEC_MSEC);
    timer_set(&c->b, USEC_MSEC);
    timer_stop(&c->a);
    timer_stop(&c->a);
    timer_set(&c->c, USEC_INFINITY);
    assert_false(timer_armed(&c->c));
    loop_run(c->loop);
    assert_string_equal(c->trace, "bacb");
}

static void stop_b(void *arg)
{
    struct ctx *c = arg;

    mark(c, 'x');
    timer_stop(&c->b);
}

static void test_stop_inside_a_callback(void **state)
{
    struct ctx *c = *state;

    clock_fake(1000000, 1000000);
    timer_init(&c->a, c->loop, stop_b, c);
    timer_set(&c->a, 10);
    timer_set(&c->b, 10); /* due at the same time, after a */
    timer_set(&c->c, 10);
    loop_advance(c->loop, 10);
    assert_string_equal(c->trace, "xc");
}

static void again(void *arg)
{
    struct ctx *c = arg;

    c->at = clock_mono();
    if (++c->n < 5)
        timer_set(&c->a, 0);
}

static void test_a_timer_may_set_itself(void **state)
{
    struct ctx *c = *state;

    timer_init(&c->a, c->loop, again, c);
    timer_set(&c->a, 0);
    assert_int_equal(c->n, 0); /* never inline */
    loop_run(c->loop);
    assert_int_equal(c->n, 5);
}

static void test_advance_fires_at_the_due_time(void **state)
{
    struct ctx *c = *state;

    clock_fake(5000000, 7000000);
    c->n = 4;
    timer_init(&c->a, c->loop, again, c);
    timer_set(&c->a, USEC_HOUR);
    timer_set(&c->b, USEC_MINUTE);
    loop_advance(c->loop, USEC_MINUTE - 1);
    assert_string_equal(c->trace, "");
    loop_advance(c->loop, 1);
    assert_string_equal(c->trace, "b");
    loop_advance(c->loop, USEC_DAY);
    assert_int_equal(c->n, 5);
    assert_int_equal(c->at, 5000000 + USEC_HOUR);
    assert_int_equal(clock_mono(), 5000000 + USEC_DAY + USEC_MINUTE);
    assert_int_equal(clock_real(), 7000000 + USEC_DAY + USEC_MINUTE);
}

struct many {
    struct timer t;
    usec_t want;
    usec_t *last;
    unsigned *n;
};

static void fire_many(void *arg)
{
    struct many *m = arg;

    assert_true(m->want >= *m->last);
    assert_int_equal(clock_mono(), m->want);
    *m->last = m->want;
    (*m->n)++;
}

static void test_many_timers_with_moves_and_stops(void **state)
{
    struct ctx *c = *state;
    static struct many many[MANY];
    usec_t last = 0;
    unsigned n = 0;

    clock_fake(1000000, 1000000);
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = (struct many){.want = 1000001 + (i * 7919) % 1009, .last = &last, .n = &n};
        timer_init(&many[i].t, c->loop, fire_many, &many[i]);
        timer_set_at(&many[i].t, 1000000 + (i * 31) % 97);
    }
    for (unsigned i = 0; i < MANY; i++) {
        timer_set_at(&many[i].t, many[i].want);
        if (i % 5 == 0)
            timer_stop(&many[i].t);
    }
    loop_advance(c->loop, 2000);
    assert_int_equal(n, MANY - MANY / 5);
}

static void second(void *arg)
{
    mark(arg, '2');
}

static void first(void *arg)
{
    struct ctx *c = arg;

    mark(c, '1');
    loop_post(c->loop, &c->u);
    loop_stop(c->loop);
}

static void test_tasks_and_stop(void **state)
{
    struct ctx *c = *state;

    task_init(&c->t, first, c);
    task_init(&c->u, second, c);
    loop_post(c->loop, &c->t);
    loop_post(c->loop, &c->t); /* changes nothing */
    assert_string_equal(c->trace, "");
    loop_run(c->loop);
    assert_string_equal(c->trace, "1"); /* what it posted is for a later turn */
    loop_run(c->loop);
    assert_string_equal(c->trace, "12");
    loop_post(c->loop, &c->u);
    task_cancel(&c->u);
    task_cancel(&c->u);
    loop_run(c->loop);
    assert_string_equal(c->trace, "12");
    (void)loop_take_lag(c->loop);
    assert_int_equal(loop_take_lag(c->loop), 0);
}

static void on_signal(int signum, void *arg)
{
    struct ctx *c = arg;

    assert_int_equal(signum, SIGUSR1);
    mark(c, 's');
    timer_stop(&c->a);
}

static void test_signal(void **state)
{
    struct ctx *c = *state;
    struct err err;

    assert_int_equal(loop_signal(c->loop, SIGUSR1, on_signal, c, &err), 0);
    timer_set(&c->a, 20 * USEC_SEC);
    assert_int_equal(raise(SIGUSR1), 0);
    loop_run(c->loop);
    assert_string_equal(c->trace, "s");
    assert_int_equal(loop_signal(c->loop, SIGUSR1, NULL, NULL, &err), 0);
    assert_true(loop_signal(c->loop, 4711, on_signal, c, &err) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order_move_and_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_inside_a_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_timer_may_set_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_advance_fires_at_the_due_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_timers_with_moves_and_stops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tasks_and_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signal, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
