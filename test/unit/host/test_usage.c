/* SPDX-License-Identifier: Apache-2.0 */
/* test_usage — parsers of usage.h against texts as kernels of three layouts write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "host/work/usage.h"

#define HYBRID_MOUNTS                                                                                                            \
    "24 1 0:22 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755\n"                                                           \
    "25 24 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"                                   \
    "28 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:5 master:1 - cgroup cgroup rw,cpu,cpuacct\n"                       \
    "29 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"                                                          \
    "30 24 0:28 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n"                                                            \
    "31 24 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"                                                              \
    "32 24 0:29 /docker/abc /mnt/bind rw - cgroup cgroup rw,pids\n"                                                              \
    "short line\n"
#define V2_MOUNTS "25 24 0:23 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw\n"

static void test_v1_and_hybrid_folders(void **state)
{
    struct usage_mounts m;
    struct usage_cgroup g;

    (void)state;
    usage_parse_mountinfo(STR(HYBRID_MOUNTS), &m);
    assert_string_equal(m.v2, "/sys/fs/cgroup/unified");
    assert_string_equal(m.v1[USAGE_CPU], "/sys/fs/cgroup/cpu,cpuacct");
    assert_string_equal(m.v1[USAGE_PIDS], "/sys/fs/cgroup/pids");

    assert_int_equal(usage_parse_cgroup(STR("12:pids:/docker/abc\n5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"
                                            "3:blkio:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n"),
                                        &m, &g),
                     0);
    assert_string_equal(g.dir[USAGE_CPU], "/sys/fs/cgroup/cpu,cpuacct/docker/abc");
    assert_string_equal(g.dir[USAGE_MEMORY], "/sys/fs/cgroup/memory/docker/abc");
    assert_string_equal(g.dir[USAGE_IO], "/sys/fs/cgroup/blkio/docker/abc");
    for (int c = 0; c < USAGE_CONTROLLERS; c++)
        assert_false(g.v2[c]);
}

static void test_hybrid_with_a_controller_in_v2(void **state)
{
    struct usage_mounts m;
    struct usage_cgroup g;

    (void)state;
    usage_parse_mountinfo(STR("25 24 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
                              "28 24 0:26 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"),
                          &m);
    assert_int_equal(usage_parse_cgroup(STR("4:cpuacct:/a\n0::/b\n"), &m, &g), 0);
    assert_false(g.v2[USAGE_CPU]);
    assert_true(g.v2[USAGE_MEMORY]);
    assert_string_equal(g.dir[USAGE_MEMORY], "/sys/fs/cgroup/unified/b");
}

static void test_v2_folders(void **state)
{
    struct usage_mounts m;
    struct usage_cgroup g;

    (void)state;
    usage_parse_mountinfo(STR(V2_MOUNTS), &m);
    assert_int_equal(usage_parse_cgroup(STR("0::/system.slice/docker-abc.scope\n"), &m, &g), 0);
    for (int c = 0; c < USAGE_CONTROLLERS; c++) {
        assert_true(g.v2[c]);
        assert_string_equal(g.dir[c], "/sys/fs/cgroup/system.slice/docker-abc.scope");
    }
}

static void test_cgroup_out_of_sight(void **state)
{
    struct usage_mounts m;
    struct usage_cgroup g;
    char text[1200];

    (void)state;
    usage_parse_mountinfo(STR(V2_MOUNTS), &m);
    assert_int_equal(usage_parse_cgroup(STR("0::/../docker-abc.scope\n"), &m, &g), -ERR_NOT_FOUND);
    assert_int_equal(usage_parse_cgroup(STR(""), &m, &g), -ERR_NOT_FOUND);
    /* A path that does not fit is none, not a cut one. */
    memset(text, 'a', sizeof(text));
    memcpy(text, "0::/", 4);
    assert_int_equal(usage_parse_cgroup((struct str){text, sizeof(text)}, &m, &g), -ERR_NOT_FOUND);
    usage_parse_mountinfo(STR(""), &m);
    assert_int_equal(usage_parse_cgroup(STR("0::/x\n"), &m, &g), -ERR_NOT_FOUND);
}

/* req: CL-16 */
static void test_container_figures(void **state)
{
    struct usage u = {0};
    uint64_t v = 7;

    (void)state;
    usage_cpu_stat(STR("usage_usec 123456\nuser_usec 100000\nsystem_usec 23456\nnr_periods 0\n"), &u);
    assert_int_equal(u.cpu_usec, 123456);
    usage_io_stat(STR("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:16 rbytes=1 wbytes=2\n"), &u);
    assert_int_equal(u.read_bytes, 4097);
    assert_int_equal(u.write_bytes, 8194);
    usage_blkio(STR("254:0 Read 1000\n254:0 Write 2000\n254:0 Sync 3000\n254:0 Total 3000\n8:0 Read 5\nTotal 3005\n"), &u);
    assert_int_equal(u.read_bytes, 1005);
    assert_int_equal(u.write_bytes, 2000);
    assert_int_equal(usage_inactive_file(STR("cache 9\ninactive_file 11\ntotal_inactive_file 22\n"), true), 11);
    assert_int_equal(usage_inactive_file(STR("cache 9\ninactive_file 11\ntotal_inactive_file 22\n"), false), 22);
    assert_int_equal(usage_inactive_file(STR(""), false), 0);
    assert_int_equal(usage_number(STR("67108864\n"), &v), 0);
    assert_int_equal(v, 67108864);
    assert_int_equal(usage_number(STR("max\n"), &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(usage_number(STR("9223372036854771712\n"), &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(usage_number(STR("x\n"), &v), -ERR_INVALID);
    assert_int_equal(usage_number(STR(""), &v), -ERR_INVALID);
}

#define NET_DEV                                                                                                                  \
    "Inter-|   Receive                                                |  Transmit\n"                                             \
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"                                  \
    "    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n"                                                                              \
    "  eth0:5000000000 10 0 0 0 0 0 0 700 20 0 0 0 0 0 0\n"                                                                      \
    "veth1a: 11 1 0 0 0 0 0 0 12 1 0 0 0 0 0 0\n"                                                                                \
    "  bad: 1 2\n"

static void test_net(void **state)
{
    struct usage u = {0};

    (void)state;
    usage_net_dev(STR(NET_DEV), true, &u);
    assert_int_equal(u.rx_bytes, 5000000000);
    assert_int_equal(u.tx_bytes, 700);
    usage_net_dev(STR(NET_DEV), false, &u);
    assert_int_equal(u.rx_bytes, 5000000011);
    assert_int_equal(u.tx_bytes, 712);
}

static void test_host_figures(void **state)
{
    struct usage u = {0};

    (void)state;
    usage_proc_stat(STR("cpu  100 10 50 1000 200 1 2 3 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 5\n"), 100, &u);
    assert_int_equal(u.cpu_usec, 166 * 10000);
    usage_meminfo(STR("MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\n"), &u);
    assert_int_equal(u.memory_limit, 1000 * 1024);
    assert_int_equal(u.memory, 600 * 1024);
    usage_diskstats(STR(" 254 0 vda 10 0 8 0 20 0 16 0 0 0 0\n 254 1 vda1 10 0 8 0 20 0 16 0 0 0 0\n"
                        " 259 0 nvme0n1 1 0 1 0 1 0 1 0 0 0 0\n 259 1 nvme0n1p1 1 0 1 0 1 0 1 0 0 0 0\n"
                        " 7 0 loop0 1 0 900 0 1 0 900 0 0 0 0\n 253 0 dm-0 1 0 900 0 1 0 900 0 0 0 0\n"),
                    &u);
    assert_int_equal(u.read_bytes, 9 * 512);
    assert_int_equal(u.write_bytes, 17 * 512);
}

static void test_cpu_rate(void **state)
{
    (void)state;
    assert_int_equal(usage_cpu_milli(1000000, 2500000, 1000000), 1500);
    assert_int_equal(usage_cpu_milli(5, 4, 1000), 0);
    assert_int_equal(usage_cpu_milli(0, 4, 0), 0);
    assert_int_equal(usage_cpu_milli(0, UINT64_MAX, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1_and_hybrid_folders),
        cmocka_unit_test(test_hybrid_with_a_controller_in_v2),
        cmocka_unit_test(test_v2_folders),
        cmocka_unit_test(test_cgroup_out_of_sight),
        cmocka_unit_test(test_container_figures),
        cmocka_unit_test(test_net),
        cmocka_unit_test(test_host_figures),
        cmocka_unit_test(test_cpu_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
