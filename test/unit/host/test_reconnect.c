/* SPDX-License-Identifier: Apache-2.0 */
/* When an agent dials again: back-off, the spread of a restart, who comes first, and the slow lane of the refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "host/link/reconnect.h"

static usec_t after(struct reconnect *r, enum err_code why, usec_t lived, usec_t spread, bool busy)
{
    const struct reconnect_link last = {.why = why, .lived = lived, .spread = spread, .busy = busy};
    return reconnect_wait(r, &last);
}

/* req: CL-7 CL-28 */
static void test_back_off_doubles_to_a_cap_with_jitter_after_it(void **state)
{
    (void)state;
    const usec_t cap[] = {2, 4, 8, 16, 32, 60, 60, 60};
    usec_t low = USEC_INFINITY, high = 0;
    for (unsigned round = 0; round < 400; round++) {
        struct reconnect r = {0};
        for (size_t i = 0; i < ARRAY_LEN(cap); i++) {
            usec_t wait = after(&r, ERR_UNAVAILABLE, RECONNECT_HEALTHY - 1, 0, false);
            assert_true(wait <= cap[i] * USEC_SEC);
            if (i == 7) {
                low = wait < low ? wait : low;
                high = wait > high ? wait : high;
            }
        }
    }
    assert_true(low < 10 * USEC_SEC && high > 50 * USEC_SEC); /* full jitter, also at the cap */
}

static void test_a_healthy_link_is_made_anew_within_the_spread(void **state)
{
    (void)state;
    usec_t high = 0;
    for (unsigned round = 0; round < 400; round++) {
        struct reconnect r = {.failed = 9};
        usec_t wait = after(&r, ERR_UNAVAILABLE, RECONNECT_HEALTHY, 20 * USEC_SEC, false);
        assert_true(wait <= 20 * USEC_SEC);
        assert_int_equal(r.failed, 0);
        high = wait > high ? wait : high;
    }
    assert_true(high > 15 * USEC_SEC);
    struct reconnect r = {0};
    assert_true(after(&r, ERR_UNAVAILABLE, 0, 20 * USEC_SEC, false) <= 2 * USEC_SEC);
}

static void test_who_has_work_in_flight_comes_first(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 400; round++) {
        struct reconnect r = {0};
        assert_true(after(&r, ERR_UNAVAILABLE, RECONNECT_HEALTHY, 16 * USEC_SEC, true) <= 2 * USEC_SEC);
    }
}

static void test_the_refused_are_slow(void **state)
{
    (void)state;
    struct reconnect r = {0};
    for (unsigned i = 0; i < 20; i++) {
        usec_t wait = after(&r, ERR_UNAUTHENTICATED, 0, 0, true);
        assert_true(wait >= RECONNECT_REFUSED_MIN && wait <= RECONNECT_REFUSED_MAX);
    }
}

/* `davit up` waits for the agent of its own machine, however often it was restarted before. */
static void test_on_one_machine_nobody_waits_long(void **state)
{
    (void)state;
    struct reconnect r = {.failed = 30};
    const struct reconnect_link brief = {.why = ERR_UNAVAILABLE, .lived = USEC_SEC, .spread = 20 * USEC_SEC, .local = true};
    struct reconnect_link healthy = brief;
    healthy.lived = RECONNECT_HEALTHY;
    for (unsigned round = 0; round < 400; round++) {
        assert_true(reconnect_wait(&r, &brief) <= RECONNECT_LOCAL_CAP);
        assert_true(reconnect_wait(&r, &healthy) <= RECONNECT_LOCAL_CAP);
    }
    /* Refused for what it is: slow as all. */
    assert_true(reconnect_wait(&r, &(struct reconnect_link){.why = ERR_DENIED, .local = true}) >= RECONNECT_REFUSED_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_back_off_doubles_to_a_cap_with_jitter_after_it),
        cmocka_unit_test(test_a_healthy_link_is_made_anew_within_the_spread),
        cmocka_unit_test(test_who_has_work_in_flight_comes_first),
        cmocka_unit_test(test_the_refused_are_slow),
        cmocka_unit_test(test_on_one_machine_nobody_waits_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
