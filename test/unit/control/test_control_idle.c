/* SPDX-License-Identifier: Apache-2.0 */
/* The end of an idle control plane: what follows from what, with the times of the product. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "control/idle.h"

struct run {
    struct idle_machine m;
    usec_t now;
};

static void begin(struct run *r)
{
    *r = (struct run){.m = {.grace = IDLE_GRACE}};
}

/* The next poll. */
static enum idle_state poll(struct run *r, enum idle_input in)
{
    r->now += IDLE_POLL;
    return idle_step(&r->m, in, r->now);
}

/* req: CW-31 CW-32 */
static void test_two_zero_polls_after_the_grace(void **state)
{
    struct run r;
    (void)state;
    assert_int_equal(IDLE_POLL, 30 * USEC_SEC);
    assert_int_equal(IDLE_GRACE, 60 * USEC_SEC);
    begin(&r);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_ZERO);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_DRAINING); /* 60 s: what was found within the grace counts */
    assert_int_equal(poll(&r, IDLE_BUSY), IDLE_DRAINING);
    begin(&r);
    r.m.grace = 4 * IDLE_POLL;
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_ZERO);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_READY);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_READY);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_DRAINING);
}

/* req: CW-31 */
static void test_what_happens_between_begins_the_count_anew(void **state)
{
    static const enum idle_input news[] = {IDLE_BUSY, IDLE_FAILED, IDLE_TOUCHED};
    struct run r;
    (void)state;
    for (size_t i = 0; i < sizeof(news) / sizeof(news[0]); i++) {
        begin(&r);
        for (int k = 0; k < 50; k++) {
            assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_ZERO);
            assert_int_equal(idle_step(&r.m, news[i], r.now + 1), IDLE_WATCHING);
        }
        assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_ZERO);
        assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_DRAINING);
    }
}

static void test_twenty_failures_in_a_row_are_an_error(void **state)
{
    struct run r;
    (void)state;
    begin(&r);
    for (int i = 1; i < IDLE_FAILED_MAX; i++)
        assert_int_equal(poll(&r, IDLE_FAILED), IDLE_WATCHING);
    assert_int_equal(poll(&r, IDLE_BUSY), IDLE_WATCHING);
    for (int i = 1; i < IDLE_FAILED_MAX; i++) {
        assert_int_equal(poll(&r, IDLE_FAILED), IDLE_WATCHING);
        assert_int_equal(idle_step(&r.m, IDLE_TOUCHED, r.now), IDLE_WATCHING); /* no poll: the row goes on */
    }
    assert_int_equal(poll(&r, IDLE_FAILED), IDLE_BROKEN);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_zero_polls_after_the_grace),
        cmocka_unit_test(test_what_happens_between_begins_the_count_anew),
        cmocka_unit_test(test_twenty_failures_in_a_row_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
