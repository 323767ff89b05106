/* SPDX-License-Identifier: Apache-2.0 */
/* When the certificate of a sandbox that runs is renewed again: seldom after one that was done, soon after one that failed, at once for other
 * roots. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "host/contain/contain_internal.h"

static void at(usec_t now)
{
    clock_fake(now, USEC_INFINITY - 1);
}

/* req: CW-93 */
static void test_when(void **state)
{
    struct renewal r = {.failed = 0};
    const usec_t now = 50 * USEC_HOUR;
    (void)state;
    at(now);
    assert_true(renewal_may(&r, "one"));
    renewal_begins(&r, "one");
    renewal_ended(&r, false);
    assert_false(renewal_may(&r, "one"));
    at(now + 2 * RENEW_AGAIN);
    assert_true(renewal_may(&r, "one"));
    for (int i = 0; i < 100; i++)
        renewal_ended(&r, false);
    assert_true(r.not_before <= clock_mono() + 2 * RENEW_EVERY);
    /* What failed for other roots says nothing about these. */
    assert_true(renewal_may(&r, "two one"));
    renewal_begins(&r, "two one");
    renewal_ended(&r, false);
    assert_false(renewal_may(&r, "two one"));
    at(clock_mono() + 2 * RENEW_AGAIN);
    assert_true(renewal_may(&r, "two one"));
    renewal_begins(&r, "two one");
    renewal_ended(&r, true);
    at(clock_mono() + RENEW_EVERY - 1);
    assert_false(renewal_may(&r, "two one"));
    assert_true(renewal_may(&r, "two"));
    at(clock_mono() + 1);
    assert_true(renewal_may(&r, "two one"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_when)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
