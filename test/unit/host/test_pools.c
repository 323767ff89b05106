/* SPDX-License-Identifier: Apache-2.0 */
/* Which subnet a network gets, what is in its way, and when the disk is short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "host/work/admit.h"
#include "host/work/pools.h"

static struct pool pool_of(const char *text)
{
    struct pool p = {0};
    assert_int_equal(pool_parse(str_from(text), &p, NULL), 0);
    return p;
}

static void test_pools_are_read_strictly(void **state)
{
    static const char *const good[] = {POOL_DEFAULT, "172.30.0.0/16/27", "10.0.0.0/8/24", "192.168.7.0/29/29"};
    static const char *const bad[] = {"", "10.0.0.0", "10.0.0.0/8",
                                      "10.0.0.0/8/25", "10.0.0.1/8/24", "10.0.0.0/7/16", "10.0.0.0/24/30", "10.0.0.0/24/23",
                                      "10.0.0/8/24", "::/8/24", "10.0.0.0/8/24/1", "10.0.0.0/8/24 ", "a/b/c", "10.0.0.0//24", "256.0.0.0/8/24"};
    struct pool p;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(pool_parse(str_from(good[i]), &p, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (pool_parse(str_from(bad[i]), &p, NULL) != -ERR_INVALID)
            fail_msg("%s is taken for a pool", bad[i]);
}

static void test_the_first_piece_that_touches_nothing(void **state)
{
    struct pool p[] = {pool_of("10.213.0.0/16/24"), pool_of("172.30.0.0/24/25")};
    struct pool_nets used = {0};
    char got[POOL_TEXT_SIZE];
    (void)state;
    assert_int_equal(pool_choose(p, 2, &used, got, NULL), 0);
    assert_string_equal(got, "10.213.0.0/24");
    assert_int_equal(pool_nets_add(&used, STR("10.213.0.0/23"), "network a", NULL), 0);   /* greater than a piece */
    assert_int_equal(pool_nets_add(&used, STR("10.213.2.128/28"), "network b", NULL), 0); /* smaller */
    assert_int_equal(pool_nets_add(&used, STR("fd00::/64"), "network c", NULL), 1);
    assert_int_equal(pool_nets_add(&used, STR(""), "network d", NULL), 1);
    assert_int_equal(pool_choose(p, 2, &used, got, NULL), 0);
    assert_string_equal(got, "10.213.3.0/24");
    assert_int_equal(pool_nets_add(&used, STR("10.213.77.5/16"), "address of eth0", NULL), 0); /* host bits do not count */
    assert_int_equal(pool_choose(p, 2, &used, got, NULL), 0);
    assert_string_equal(got, "172.30.0.0/25");
    pool_nets_release(&used);
}

/* A route that overlaps, as a VPN or an office brings it, is avoided. */
static void test_routes_of_the_machine_are_avoided(void **state)
{
    static const char text[] = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                               "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                               "tun0\t0000D50A\t00000000\t0001\t0\t0\t0\t00FEFFFF\t0\t0\t0\n"
                               "eth0\t0002D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    static const char *const bad[] = {"eth0\t0002D50A\t0\t1\t0\t0\t0\t00FF00FF\n", "eth0\t0002D50\t0\t1\t0\t0\t0\t00FFFFFF\n", "eth0\n",
                                      "\t0002D50A\t0\t1\t0\t0\t0\t00FFFFFF\n", "eth0\t0002D50A\t0\t1\t0\t0\t0\tzzzzzzzz\n",
                                      "anamethatistoolong\t0002D50A\t0\t1\t0\t0\t0\t00FFFFFF\n"};
    struct pool p = pool_of(POOL_DEFAULT);
    struct pool_nets used = {0};
    char got[POOL_TEXT_SIZE];
    (void)state;
    assert_int_equal(pool_nets_routes(&used, (struct str){text, sizeof(text) - 1}, NULL), 0);
    assert_int_equal(used.n, 2);
    assert_string_equal(used.items[0].what, "route by tun0");
    assert_int_equal(pool_choose(&p, 1, &used, got, NULL), 0);
    assert_string_equal(got, "10.213.3.0/24");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_FREE char *whole = str_printf("head\n%s", bad[i]);
        if (pool_nets_routes(&used, str_from(whole), NULL) != -ERR_INVALID)
            fail_msg("a route: %s", bad[i]);
    }
    pool_nets_release(&used);
    assert_int_equal(pool_nets_host(&used, NULL), 0); /* this machine's own */
    assert_true(used.n > 0);
    pool_nets_release(&used);
}

static void test_exhaustion_names_what_is_in_use(void **state)
{
    struct pool p = pool_of("10.9.0.0/24/26");
    struct pool_nets used = {0};
    struct err err = ERR_INIT;
    char got[POOL_TEXT_SIZE];
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        char net[POOL_TEXT_SIZE];
        assert_int_equal(pool_choose(&p, 1, &used, got, NULL), 0);
        (void)snprintf(net, sizeof(net), "10.9.0.%u/26", i * 64);
        assert_string_equal(got, net);
        assert_int_equal(pool_nets_add(&used, str_from(net), i ? "network more" : "network shop", NULL), 0);
    }
    assert_int_equal(pool_nets_add(&used, STR("192.168.0.0/24"), "route by eth0", NULL), 0);
    assert_int_equal(pool_choose(&p, 1, &used, got, &err), -ERR_EXHAUSTED);
    assert_non_null(strstr(err.msg, "10.9.0.0/26 (network shop)"));
    assert_non_null(strstr(err.msg, "and 1 more"));
    assert_null(strstr(err.msg, "192.168"));
    assert_non_null(strstr(err.hint, "--address-pool"));
    while (used.n < POOL_NETS_MAX)
        assert_int_equal(pool_nets_add(&used, STR("1.1.1.1"), "x", NULL), 0);
    assert_int_equal(pool_nets_add(&used, STR("1.1.1.1"), "x", NULL), -ERR_EXHAUSTED);
    pool_nets_release(&used);
}

static void test_how_much_of_a_disk_stays_free(void **state)
{
    const uint64_t gib = UINT64_C(1) << 30;
    (void)state;
    assert_int_equal(admit_reserve(2 * gib, 0), gib / 2);
    assert_int_equal(admit_reserve(20 * gib, 0), gib);
    assert_int_equal(admit_reserve(100 * gib, 0) / (gib / 10), 30); /* 3 % */
    assert_int_equal(admit_reserve(4000 * gib, 0), 8 * gib);
    assert_int_equal(admit_reserve(2 * gib, 50 * gib), 50 * gib);
    /* On the border and one byte below it; what its owner said comes first. */
    assert_int_equal(admit_judge(gib, 20 * gib, 0), ADMIT_LOW);
    assert_int_equal(admit_judge(gib - 1, 20 * gib, 0), ADMIT_SHORT);
    assert_int_equal(admit_judge(2 * gib, 20 * gib, 0), ADMIT_ROOM);
    assert_int_equal(admit_judge(2 * gib - 1, 20 * gib, 0), ADMIT_LOW);
    assert_int_equal(admit_judge(5 * gib, 20 * gib, 5 * gib), ADMIT_LOW);
    assert_int_equal(admit_judge(5 * gib - 1, 20 * gib, 5 * gib), ADMIT_SHORT);
    assert_int_equal(admit_judge(0, 0, 0), ADMIT_ROOM); /* a file system that does not say */
    assert_int_equal(admit_judge(gib, 20 * gib, UINT64_MAX), ADMIT_SHORT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pools_are_read_strictly),
        cmocka_unit_test(test_the_first_piece_that_touches_nothing),
        cmocka_unit_test(test_routes_of_the_machine_are_avoided),
        cmocka_unit_test(test_exhaustion_names_what_is_in_use),
        cmocka_unit_test(test_how_much_of_a_disk_stays_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
