/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a sandbox, as a table. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "init/table.h"

static enum init_action go(enum init_state *state, enum init_event event)
{
    struct init_move m = table_move(*state, event);

    assert_true(m.next < ST_MAX && m.action < ACT_MAX);
    *state = m.next;
    return m.action;
}

/* req: CW-82 */
static void test_only_ready_starts_the_program(void **state)
{
    (void)state;
    for (int s = 0; s < ST_MAX; s++)
        for (int e = 0; e < EV_MAX; e++) {
            struct init_move m = table_move(s, e);
            assert_int_equal(m.action == ACT_SPAWN, s == ST_WAIT && e == EV_READY);
            /* What was once left does not come back. */
            assert_true(m.next >= s);
        }
}

/* req: CW-85 CW-86 */
static void test_stop_goes_down_in_order(void **state)
{
    static const struct {
        enum init_event event;
        enum init_action action;
        enum init_state next;
    } steps[] = {
        {EV_READY, ACT_SPAWN, ST_RUN},       {EV_STOP, ACT_TERM, ST_TERM},           {EV_DEADLINE, ACT_KILL, ST_KILL},
        {EV_MAIN_GONE, ACT_CLOSE, ST_CLOSE}, {EV_ALONE, ACT_NONE, ST_CLOSE},         {EV_DEADLINE, ACT_CLOSE_KILL, ST_CLOSE_KILL},
        {EV_ALONE, ACT_NONE, ST_CLOSE_KILL}, {EV_SESSION_GONE, ACT_DRAIN, ST_DRAIN}, {EV_DEADLINE, ACT_DRAIN_KILL, ST_DRAIN_KILL},
        {EV_ALONE, ACT_NONE, ST_END},
    };
    enum init_state s = ST_WAIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        assert_int_equal(go(&s, steps[i].event), steps[i].action);
        assert_int_equal(s, steps[i].next);
    }
    /* Orphans are sent a signal only behind the session half's end. */
    for (int from = 0; from < ST_CLOSE; from++)
        for (int e = 0; e < EV_MAX; e++)
            if (e != EV_SESSION_CONFIG)
                assert_true(table_move(from, e).action != ACT_DRAIN);
}

/* req: CW-84 */
static void test_every_way_ends(void **state)
{
    (void)state;
    /* Whatever comes or does not: time alone brings a sandbox that was told to stop to its end. */
    for (int first = 0; first < ST_MAX; first++) {
        enum init_state s = first;
        (void)go(&s, EV_STOP);
        if (s == ST_WAIT || s == ST_RUN)
            fail();
        for (int i = 0; i < ST_MAX; i++)
            (void)go(&s, EV_DEADLINE);
        assert_int_equal(s, ST_END);
    }
    /* The main program's end does as well. */
    for (int first = ST_RUN; first <= ST_KILL; first++) {
        enum init_state s = first;
        assert_int_equal(go(&s, EV_MAIN_GONE), ACT_CLOSE);
    }
}

/* req: SA-5 */
static void test_a_dead_session_half_is_started_again(void **state)
{
    (void)state;
    for (int s = ST_WAIT; s <= ST_KILL; s++) {
        struct init_move m = table_move(s, EV_SESSION_GONE);
        assert_true(m.next == s && m.action == ACT_RESTART);
        m = table_move(s, EV_SESSION_CONFIG);
        assert_true(s == ST_WAIT ? m.action == ACT_CONFIG : m.action == ACT_RESTART && m.next == s);
    }
}

static void test_out_of_range_ends(void **state)
{
    (void)state;
    assert_int_equal(table_move(ST_MAX, EV_READY).next, ST_END);
    assert_int_equal(table_move(ST_WAIT, EV_MAX).next, ST_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_ready_starts_the_program),
        cmocka_unit_test(test_stop_goes_down_in_order),
        cmocka_unit_test(test_every_way_ends),
        cmocka_unit_test(test_a_dead_session_half_is_started_again),
        cmocka_unit_test(test_out_of_range_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
