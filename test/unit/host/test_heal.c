/* SPDX-License-Identifier: Apache-2.0 */
/* What healing does about a container, and how patient it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host/work/heal.h"

/* req: WK-16 */
static void test_what_is_missing_is_made_and_what_should_run_is_started(void **state)
{
    static const char *const policies[] = {"", "unless-stopped", "always", "on-failure", "no"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        assert_int_equal(heal_judge(false, DOCKER_STATE_UNKNOWN, 0, policies[i]), HEAL_CREATE);
        assert_int_equal(heal_judge(true, DOCKER_STATE_CREATED, 0, policies[i]), HEAL_START);
        assert_int_equal(heal_judge(true, DOCKER_STATE_RUNNING, 0, policies[i]), HEAL_NOTHING);
        assert_int_equal(heal_judge(true, DOCKER_STATE_PAUSED, 0, policies[i]), HEAL_NOTHING);
        assert_int_equal(heal_judge(true, DOCKER_STATE_RESTARTING, 1, policies[i]), HEAL_NOTHING);
        assert_int_equal(heal_judge(true, DOCKER_STATE_REMOVING, 0, policies[i]), HEAL_NOTHING);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(heal_judge(true, DOCKER_STATE_EXITED, 0, policies[i]), HEAL_START);
        assert_int_equal(heal_judge(true, DOCKER_STATE_EXITED, 1, policies[i]), HEAL_START);
    }
    assert_int_equal(heal_judge(true, DOCKER_STATE_EXITED, 0, "on-failure"), HEAL_NOTHING);
    assert_int_equal(heal_judge(true, DOCKER_STATE_EXITED, 137, "on-failure"), HEAL_START);
    assert_int_equal(heal_judge(true, DOCKER_STATE_EXITED, 0, "no"), HEAL_NOTHING);
    assert_int_equal(heal_judge(true, DOCKER_STATE_EXITED, 1, "no"), HEAL_NOTHING);
}

static void test_patience_grows_and_comes_back(void **state)
{
    struct heal_patience p = {0};
    usec_t now = 1000 * USEC_SEC, waits[12];
    (void)state;
    assert_true(heal_may(&p, now));
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        heal_acted(&p, now);
        assert_false(heal_may(&p, now));
        waits[i] = p.next - now;
        assert_false(heal_may(&p, p.next - 1));
        now = p.next;
        assert_true(heal_may(&p, now));
    }
    assert_int_equal(waits[0], HEAL_BASE);
    assert_int_equal(waits[3], 8 * HEAL_BASE);
    assert_int_equal(waits[9], HEAL_CAP);
    assert_int_equal(waits[11], HEAL_CAP);
    now = p.last + HEAL_CALM - 1;
    heal_acted(&p, now);
    assert_int_equal(p.next - now, HEAL_CAP);
    now += HEAL_CALM;
    heal_acted(&p, now);
    assert_int_equal(p.next - now, HEAL_BASE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_missing_is_made_and_what_should_run_is_started),
        cmocka_unit_test(test_patience_grows_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
