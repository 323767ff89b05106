/* SPDX-License-Identifier: Apache-2.0 */
/* Which versions go together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/skew.h"

static void test_one_minor_behind_goes(void **state)
{
    static const struct {
        const char *control, *other;
        enum skew skew;
    } CASES[] = {
        {"0.2.0", "0.2.0", SKEW_NONE},   {"0.2.0", "0.2.9", SKEW_NONE},   {"0.2.9", "0.2.0", SKEW_NONE},  {"0.2.0", "0.1.9", SKEW_NONE},
        {"0.2.0", "0.0.9", SKEW_BEHIND}, {"0.2.0", "0.3.0", SKEW_AHEAD},  {"1.0.0", "0.9.0", SKEW_BEHIND}, {"1.0.0", "2.0.0", SKEW_AHEAD},
        {"0.2.0", "0.2.0-rc.1", SKEW_NONE}, {"0.2.0", "", SKEW_NONE},     {"", "0.2.0", SKEW_NONE},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        if (skew_of(str_from(CASES[i].control), str_from(CASES[i].other)) != CASES[i].skew)
            fail_msg("%s %s", CASES[i].control, CASES[i].other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_minor_behind_goes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
