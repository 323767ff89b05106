/* SPDX-License-Identifier: Apache-2.0 */
/* Time and chance: texts of moments, saturation, bounds of random numbers and of back-off. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"

static void test_parse(void **state)
{
    static const struct {
        const char *text;
        usec_t want;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0}, {"2026-11-28T08:29:19.123456789Z", 1795854559123456}, {"1970-01-01T01:00:00+01:00", 0},
        {"2000-02-29T00:00:00-00:30", 951784200000000}, {"9999-12-31t23:59:59z", 253402300799000000},
        {"1970-01-01T00:00:00.1Z", 100000},
    };
    static const char *const bad[] = {
        "", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-04-31T00:00:00Z",
        "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.1234567890Z", "2026-01-01T00:00:00+1:00", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00Z ",
        "2026-01-01 00:00:00Z", "2026-1-01T00:00:00Z", "+026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:60",
    };
    usec_t t;
    uint64_t nsec;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        if (clock_parse(str_from(good[i].text), &t, NULL) != 0 || t != good[i].want)
            fail_msg("%s: %ju", good[i].text, (uintmax_t)t);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (clock_parse(str_from(bad[i]), &t, NULL) != -(int)ERR_INVALID)
            fail_msg("accepted: %s", bad[i]);
    }
    assert_int_equal(clock_parse(STR("2026-11-28T08:29:19.123456789Z"), &t, &nsec), 0);
    assert_true(nsec == 1795854559123456789u);
    assert_int_equal(clock_parse(STR("2555-01-01T00:00:00Z"), &t, &nsec), -(int)ERR_INVALID);
}

static void test_format_round_trip(void **state)
{
    char text[CLOCK_TEXT_SIZE], want[CLOCK_TEXT_SIZE];

    (void)state;
    for (usec_t t = 0; t < (usec_t)8000 * 365 * USEC_DAY; t += 97 * USEC_DAY + 12345678901) {
        struct tm tm;
        time_t sec = (time_t)(t / USEC_SEC);
        usec_t back;
        clock_format(t, 6, text);
        assert_int_equal(clock_parse(str_from(text), &back, NULL), 0);
        assert_true(back == t);
        clock_format(t, 0, text);
        assert_non_null(gmtime_r(&sec, &tm));
        assert_true(strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
        assert_string_equal(text, want);
    }
    clock_format(1999, 3, text);
    assert_string_equal(text, "1970-01-01T00:00:00.001Z");
    clock_format(1, 9, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000001000Z");
    clock_format(USEC_INFINITY, 0, text);
    assert_string_equal(text, "9999-12-31T23:59:59Z");
}

static void test_fake_and_add(void **state)
{
    (void)state;
    clock_fake(5, 7);
    assert_int_equal(clock_mono(), 5);
    assert_int_equal(clock_real(), 7);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    assert_true(clock_real() > (usec_t)1700000000 * USEC_SEC);
    assert_true(clock_mono() <= clock_mono());
    assert_true(clock_add(USEC_INFINITY - 1, 1) == USEC_INFINITY && clock_add(USEC_INFINITY, 9) == USEC_INFINITY);
    assert_int_equal(clock_add(2, 3), 5);
}

static void test_random(void **state)
{
    unsigned seen = 0;
    unsigned char big[1000] = {0};
    char a[37], b[37];

    (void)state;
    for (int i = 0; i < 1000; i++)
        seen |= 1u << rng_below(7);
    assert_int_equal(seen, 0x7f);
    assert_int_equal(rng_below(1), 0);
    assert_true(rng_below(UINT64_MAX) < UINT64_MAX);
    rng_bytes(big, sizeof(big));
    assert_true(memchr(big + 900, big[900] ^ 1, 100) != NULL || big[901] != big[902] || big[903] != big[904]);
    rng_uuid(a);
    rng_uuid(b);
    assert_int_equal(strlen(a), 36);
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
    assert_string_not_equal(a, b);
}

/* req: CB-10 */
static void test_floor_and_peer(void **state)
{
    (void)state;
    clock_fake(10 * USEC_SEC, 50 * USEC_SEC);
    assert_false(clock_unsure());
    assert_int_equal(clock_peer(), 50 * USEC_SEC);
    clock_floor_raise(100 * USEC_SEC);
    clock_floor_raise(90 * USEC_SEC);
    assert_int_equal(clock_floor(), 100 * USEC_SEC);
    assert_true(clock_unsure());
    assert_int_equal(clock_checked(), 100 * USEC_SEC);
    assert_int_equal(clock_peer(), 100 * USEC_SEC);
    clock_fake(10 * USEC_SEC, 101 * USEC_SEC);
    assert_false(clock_unsure());
    assert_int_equal(clock_checked(), 101 * USEC_SEC);
    clock_peer_hear(0);
    assert_int_equal(clock_peer(), 101 * USEC_SEC);
    clock_peer_hear(40 * USEC_SEC);
    clock_fake(13 * USEC_SEC, 0);
    assert_int_equal(clock_peer(), 43 * USEC_SEC);
    clock_peer_hear(USEC_INFINITY);
    assert_int_equal(clock_peer(), USEC_INFINITY);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
}

static void test_backoff_bounds(void **state)
{
    usec_t highest = 0;

    (void)state;
    for (unsigned attempt = 0; attempt < 200; attempt++) {
        usec_t wait = backoff_wait(attempt, 100, 1000);
        assert_true(wait <= (attempt < 4 ? 100u << attempt : 1000u));
        highest = wait > highest ? wait : highest;
    }
    assert_true(highest > 800); /* the jitter reaches the cap */
    assert_true(backoff_wait(63, 3, USEC_INFINITY) < USEC_INFINITY);
    assert_int_equal(backoff_wait(3, 0, 1000), 0);
    assert_int_equal(backoff_wait(3, 10, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse), cmocka_unit_test(test_format_round_trip), cmocka_unit_test(test_fake_and_add),
        cmocka_unit_test(test_random), cmocka_unit_test(test_floor_and_peer), cmocka_unit_test(test_backoff_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
