/* SPDX-License-Identifier: Apache-2.0 */
/* The judges of doctor: from facts to OK, WARN or FAIL, at and around every threshold; and the parsers that make the facts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/json.h"
#include "host/link/doctor_judge.h"

#define MB ((uint64_t)1000 * 1000)

/* Whoever is not OK says what to do; whoever is OK does not. */
static void expect(const struct doctor_check *c, enum doctor_result r, const char *says)
{
    if (c->result != r || !strstr(c->message, says))
        print_error("%s: %s\n", doctor_result_name(c->result), c->message);
    assert_int_equal(c->result, r);
    assert_non_null(strstr(c->message, says));
    assert_int_equal(*c->fix == '\0', r == DOCTOR_OK);
}

/* req: CL-62 */
static void test_disk_space_at_its_thresholds(void **state)
{
    static const struct {
        uint64_t root, docker;
        enum doctor_result r;
    } cases[] = {
        {2000 * MB, 2000 * MB, DOCTOR_OK},   {2000 * MB - 1, 9000 * MB, DOCTOR_WARN}, {9000 * MB, 2000 * MB - 1, DOCTOR_WARN},
        {500 * MB, 9000 * MB, DOCTOR_WARN},  {500 * MB - 1, 9000 * MB, DOCTOR_FAIL},  {9000 * MB, 500 * MB, DOCTOR_WARN},
        {9000 * MB, 500 * MB - 1, DOCTOR_FAIL}, {1000 * MB, 0, DOCTOR_FAIL},
    };
    struct doctor_check c = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct doctor_disk d[] = {{.what = "/", .path = "/", .known = true, .free = cases[i].root},
                                  {.what = "Docker's root", .path = "/data/docker", .known = true, .free = cases[i].docker}};
        doctor_judge_disk(&c, d, 2);
        expect(&c, cases[i].r, "Docker's root (/data/docker): ");
    }
    struct doctor_disk unknown[] = {{.what = "/", .path = "/", .known = true, .free = 9000 * MB}, {.what = "Docker's root"}};
    doctor_judge_disk(&c, unknown, 2);
    expect(&c, DOCTOR_WARN, "not known");
    unknown[1].path = "/elsewhere";
    doctor_judge_disk(&c, unknown, 2);
    expect(&c, DOCTOR_WARN, "cannot be seen");
    unknown[0].free = 1;
    doctor_judge_disk(&c, unknown, 2);
    expect(&c, DOCTOR_FAIL, "0.0 GB free");
    assert_non_null(strstr(c.fix, "free space"));
}

static struct doctor_socket sock(void)
{
    return (struct doctor_socket){.path = "/s", .is_socket = true, .mode = S_IFSOCK | 0660, .uid = 0, .gid = 990, .group = "docker",
                                  .account = "ann", .account_uid = 1000, .account_gid = 1000};
}

/* req: CL-60 */
static void test_who_may_use_the_socket(void **state)
{
    struct doctor_check c = {0};
    struct doctor_socket s = sock();
    (void)state;
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_FAIL, "ann may not");
    assert_non_null(strstr(c.fix, "usermod -aG docker ann"));
    s.listed = true;
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_OK, "ann may use it");
    s.is_self = true; /* in the group by the file, but not in this process */
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_FAIL, "not yet");
    s.accessible = true;
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_OK, "ann may use it");
    s = sock();
    s.account_uid = 0;
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_OK, "may use it");
    s = sock();
    s.mode = S_IFSOCK | 0066; /* the owner's own bits count for the owner */
    s.account_uid = s.uid = 1000;
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_FAIL, "may not");
    s.is_socket = false;
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_FAIL, "is no socket");
    s.error = EACCES;
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_FAIL, "Permission denied");
    s.error = ENOENT;
    doctor_judge_socket(&c, &s);
    expect(&c, DOCTOR_FAIL, "does not exist");
}

/* req: CL-61 */
static void test_who_is_in_the_group_of_the_socket(void **state)
{
    struct doctor_check c = {0};
    struct doctor_socket s = sock();
    (void)state;
    doctor_judge_group(&c, &s);
    expect(&c, DOCTOR_WARN, "ann is not in the group docker");
    s.listed = true;
    doctor_judge_group(&c, &s);
    expect(&c, DOCTOR_OK, "ann is in the group docker");
    s.listed = false;
    s.account_gid = 990;
    doctor_judge_group(&c, &s);
    expect(&c, DOCTOR_OK, "ann is in the group docker");
    s = sock();
    s.uid = 1000;
    doctor_judge_group(&c, &s);
    expect(&c, DOCTOR_OK, "owns the socket");
    s.error = ENOENT;
    doctor_judge_group(&c, &s);
    expect(&c, DOCTOR_WARN, "not known");
    s.account_uid = 0;
    doctor_judge_group(&c, &s);
    expect(&c, DOCTOR_OK, "needs no group");
}

static void test_accounts_and_groups_are_read(void **state)
{
    const struct str passwd = STR("root:x:0:0:root:/root:/bin/bash\n\nbad\nbad2:x:y:1::\nann:x:1000:1001:Ann,,,:/:/bin/sh");
    const struct str group = STR("root:x:0:\ndocker:x:990:bob,ann\nx:x:990:eve\nempty:x:5:\n");
    char name[DOCTOR_ACCOUNT_SIZE];
    gid_t gid = 7;
    (void)state;
    assert_int_equal(doctor_account(passwd, 1000, name, &gid), 0);
    assert_string_equal(name, "ann");
    assert_int_equal(gid, 1001);
    assert_int_equal(doctor_account(passwd, 12, name, &gid), 1);
    assert_string_equal(name, "12");
    assert_true(doctor_group(group, 990, "ann", name));
    assert_string_equal(name, "docker");
    assert_false(doctor_group(group, 990, "an", name));
    assert_false(doctor_group(group, 990, "", name));
    assert_false(doctor_group(group, 5, "ann", name));
    assert_string_equal(name, "empty");
    assert_false(doctor_group(group, 77, "ann", name));
    assert_string_equal(name, "");
}

/* req: CL-63 */
static void test_modes_of_the_directory(void **state)
{
    struct doctor_check c = {0};
    (void)state;
    doctor_judge_modes(&c, "/d", 040700, 0100600, "/k/client.key", 0100600);
    expect(&c, DOCTOR_OK, "/d/config.yaml is readable");
    doctor_judge_modes(&c, "/d", 040755, 0100600, "/k/client.key", 0);
    expect(&c, DOCTOR_WARN, "others may look into /d");
    doctor_judge_modes(&c, "/d", 040700, 0100644, "/k/client.key", 0100600);
    expect(&c, DOCTOR_WARN, "others may look");
    doctor_judge_modes(&c, "/d", 040770, 0100600, "/k/client.key", 0100600);
    expect(&c, DOCTOR_FAIL, "others may change");
    doctor_judge_modes(&c, "/d", 040700, 0100600, "/k/client.key", 0100640);
    expect(&c, DOCTOR_FAIL, "private key");
    assert_non_null(strstr(c.fix, "chmod 600 /k/client.key"));
}

/* req: CL-64 */
static void test_certificate_at_its_thresholds(void **state)
{
    const usec_t now = 1000 * USEC_DAY;
    struct doctor_check c = {0};
    (void)state;
    struct doctor_cert k = {.issued = now - 28 * USEC_DAY, .not_after = now + 7 * USEC_DAY}; /* a fifth of its life is left */
    doctor_judge_certificate(&c, now, &k);
    expect(&c, DOCTOR_OK, "(7 days)");
    k.staged = true;
    doctor_judge_certificate(&c, now, &k);
    expect(&c, DOCTOR_OK, "has not connected yet");
    doctor_judge_certificate(&c, now + 1, &k);
    expect(&c, DOCTOR_WARN, "expires soon");
    doctor_judge_certificate(&c, k.not_after - 1, &k);
    expect(&c, DOCTOR_WARN, "expires soon");
    (void)str_copy(k.error, sizeof(k.error), STR("too many at once"));
    doctor_judge_certificate(&c, now, &k);
    expect(&c, DOCTOR_WARN, "its renewal failed: too many at once");
    k.fallback = true;
    doctor_judge_certificate(&c, now, &k);
    expect(&c, DOCTOR_WARN, "cannot be read");
    doctor_judge_certificate(&c, k.not_after, &k);
    expect(&c, DOCTOR_FAIL, "expired at 1972-10-04T00:00:00Z");
    k.fenced = true;
    doctor_judge_certificate(&c, now, &k);
    expect(&c, DOCTOR_FAIL, "another agent uses the identity");
}

/* req: CB-14 */
static void test_clock_at_its_thresholds(void **state)
{
    const usec_t now = 1000 * USEC_DAY, floor = now - USEC_DAY;
    const int64_t s = (int64_t)USEC_SEC;
    struct doctor_check c = {0};
    (void)state;
    doctor_judge_clock(&c, now, floor, false, 0);
    expect(&c, DOCTOR_OK, "not compared");
    doctor_judge_clock(&c, floor - 1, floor, false, 0);
    expect(&c, DOCTOR_FAIL, "later than 1972-09-26");
    doctor_judge_clock(&c, now, floor, true, 5 * s);
    expect(&c, DOCTOR_OK, "5.000 s ahead of");
    doctor_judge_clock(&c, now, floor, true, -5 * s - 1);
    expect(&c, DOCTOR_WARN, "behind");
    doctor_judge_clock(&c, now, floor, true, 300 * s);
    expect(&c, DOCTOR_WARN, "300.0 s ahead of");
    doctor_judge_clock(&c, now, floor, true, 300 * s + 1);
    expect(&c, DOCTOR_FAIL, "ahead of");
    doctor_judge_clock(&c, now, floor, true, INT64_MIN);
    expect(&c, DOCTOR_FAIL, "behind");
}

/* req: CL-66 */
static void test_what_systemd_says(void **state)
{
    struct doctor_check c = {0};
    (void)state;
    doctor_judge_systemd(&c, STR("LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"), false);
    expect(&c, DOCTOR_OK, "installed and active");
    doctor_judge_systemd(&c, STR("UnitFileState=disabled\nActiveState=active\nLoadState=loaded\n"), false);
    expect(&c, DOCTOR_WARN, "not start at boot");
    doctor_judge_systemd(&c, STR("LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n"), false);
    expect(&c, DOCTOR_WARN, "not active (inactive)");
    doctor_judge_systemd(&c, STR("LoadState=loaded\nActiveState=failed\n"), false);
    expect(&c, DOCTOR_FAIL, "failed");
    doctor_judge_systemd(&c, STR("LoadState=not-found\nActiveState=inactive\n"), false);
    expect(&c, DOCTOR_WARN, "not installed (not-found)");
    doctor_judge_systemd(&c, STR("LoadState=not-found\nActiveState=inactive\n"), true);
    expect(&c, DOCTOR_OK, "davit up");
    doctor_judge_systemd(&c, STR("System has not been booted\n"), false);
    expect(&c, DOCTOR_WARN, "does not say");
}

/* req: CL-67 */
static void test_tailscale_is_never_a_failure(void **state)
{
    struct doctor_check c = {0};
    (void)state;
    doctor_judge_tailscale(&c, false, "", "");
    expect(&c, DOCTOR_WARN, "not installed");
    doctor_judge_tailscale(&c, true, "", "");
    expect(&c, DOCTOR_WARN, "does not answer");
    doctor_judge_tailscale(&c, true, "NeedsLogin", "");
    expect(&c, DOCTOR_WARN, "NeedsLogin");
    doctor_judge_tailscale(&c, true, "Running", "100.64.0.7");
    expect(&c, DOCTOR_OK, "100.64.0.7");
}

/* req: CB-14 */
static void test_versions_of_the_engines_api(void **state)
{
    static const struct {
        const char *min, *max;
        enum doctor_result r;
    } cases[] = {
        {"1.12", "1.41", DOCTOR_OK},  {"1.24", "1.52", DOCTOR_OK},  {"1.45", "1.60", DOCTOR_OK}, {"", "1.43", DOCTOR_OK},
        {"1.12", "1.40", DOCTOR_FAIL}, {"1.46", "1.60", DOCTOR_FAIL}, {"1.12", "", DOCTOR_FAIL},   {"1.12", "2.0", DOCTOR_FAIL},
        {"x", "1.41", DOCTOR_FAIL},    {"1.12", "1.", DOCTOR_FAIL},
    };
    struct doctor_check c = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        doctor_judge_api(&c, cases[i].min, cases[i].max);
        expect(&c, cases[i].r, "");
    }
}

static void test_cgroup_bpf_and_log_driver(void **state)
{
    static const char *const warns[] = {"v1", "hybrid", ""};
    static const char *const drivers[] = {"none", "syslog", "gelf", ""};
    struct doctor_check c = {0};
    (void)state;
    doctor_judge_cgroup(&c, "v2");
    expect(&c, DOCTOR_OK, "v2");
    for (size_t i = 0; i < ARRAY_LEN(warns); i++) {
        doctor_judge_cgroup(&c, warns[i]);
        expect(&c, DOCTOR_WARN, "cgroup");
    }
    doctor_judge_bpf(&c, "5.15.0-1-amd64", true);
    expect(&c, DOCTOR_OK, "5.15.0");
    doctor_judge_bpf(&c, "6.1", true);
    expect(&c, DOCTOR_OK, "6.1");
    doctor_judge_bpf(&c, "6.1", false);
    expect(&c, DOCTOR_WARN, "no bpf file system");
    doctor_judge_bpf(&c, "5.14.99", true);
    expect(&c, DOCTOR_WARN, "older");
    doctor_judge_bpf(&c, "4.19.0", true);
    expect(&c, DOCTOR_WARN, "older");
    doctor_judge_bpf(&c, "", true);
    expect(&c, DOCTOR_WARN, "cannot be read");
    doctor_judge_log_driver(&c, "json-file");
    expect(&c, DOCTOR_OK, "json-file");
    doctor_judge_log_driver(&c, "journald");
    expect(&c, DOCTOR_OK, "journald");
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        doctor_judge_log_driver(&c, drivers[i]);
        expect(&c, DOCTOR_WARN, drivers[i]);
    }
}

static struct doctor_net net(const char *name, const char *subnet, bool bridge)
{
    struct doctor_net n = {.bridge = bridge};
    assert_int_equal(doctor_subnet(str_from(subnet), &n), 0);
    (void)str_copy(n.name, sizeof(n.name), str_from(name));
    return n;
}

/* req: CB-14 */
static void test_subnets_and_routes_that_overlap(void **state)
{
    const struct doctor_net docker[] = {net("bridge", "172.17.0.0/16", false), net("shop", "10.1.2.0/24", false)};
    const struct doctor_net own = net("docker0", "172.17.0.0/16", true), same = net("eth1", "172.17.0.0/16", false);
    const struct doctor_net within = net("vpn", "172.17.5.0/24", true), around = net("wg0", "10.0.0.0/8", false);
    const struct doctor_net beside[] = {own, net("eth0", "172.18.0.0/16", false), net("eth0", "10.1.3.0/24", false)};
    struct doctor_check c = {0};
    (void)state;
    doctor_judge_pools(&c, docker, 2, beside, 3);
    expect(&c, DOCTOR_OK, "2 subnets");
    doctor_judge_pools(&c, docker, 0, beside, 3);
    expect(&c, DOCTOR_OK, "0 subnets");
    doctor_judge_pools(&c, docker, 2, &same, 1);
    expect(&c, DOCTOR_WARN, "network bridge 172.17.0.0/16 and the route by eth1 172.17.0.0/16");
    doctor_judge_pools(&c, docker, 2, &within, 1);
    expect(&c, DOCTOR_WARN, "vpn 172.17.5.0/24");
    doctor_judge_pools(&c, docker, 2, &around, 1);
    expect(&c, DOCTOR_WARN, "network shop 10.1.2.0/24 and the route by wg0 10.0.0.0/8");
    const struct doctor_net many[] = {around, around, around, around, around};
    doctor_judge_pools(&c, docker, 2, many, 5);
    expect(&c, DOCTOR_WARN, " and 2 more");
}

static void test_subnets_and_routes_are_read(void **state)
{
    static const char *const bad[] = {"", "10.0.0.0", "10.0.0/8", "10.0.0.0.0/8", "10.0.0.0/33", "10.0.0.256/8", "10.0.0.0/", "fd00::/64", "/8"};
    static const char table[] = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                                "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                                "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0   \n"
                                "down0\t000012AC\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
                                "host0\t010012AC\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
                                "short\n\n"
                                "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    struct doctor_net got[4], n = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(doctor_subnet(str_from(bad[i]), &n), -ERR_INVALID);
    assert_int_equal(doctor_subnet(STR("10.1.2.3/8"), &n), 0);
    assert_int_equal(n.addr, 0x0a000000);
    assert_int_equal(doctor_subnet(STR("10.1.2.3/0"), &n), 0);
    assert_int_equal(n.addr, 0);
    assert_int_equal(doctor_routes(str_from(table), got, 4), 2);
    assert_string_equal(got[0].name, "docker0");
    assert_int_equal(got[0].addr, 0xac110000);
    assert_int_equal(got[0].bits, 16);
    assert_int_equal(got[1].addr, 0xc0000200);
    assert_int_equal(got[1].bits, 24);
    assert_int_equal(doctor_routes(str_from(table), got, 1), 1);
    assert_int_equal(doctor_routes(STR(""), got, 4), 0);
}

/* req: CL-68 CL-69 */
static void test_report_in_json_and_what_is_hostile_in_it(void **state)
{
    AUTO_BUF out = BUF_INIT(4096), small = BUF_INIT(64);
    struct doctor_report r = {.n = 2, .checks = {{.name = "a"}, {.name = "b"}}};
    (void)state;
    doctor_say(&r.checks[0], DOCTOR_OK, NULL, "fine");
    doctor_say(&r.checks[1], DOCTOR_WARN, "do \x1b[2J\"it\"", "bad\n\xff\xc2\x9b\xe2\x80\xae%s", "\t.");
    assert_string_equal(r.checks[1].message, "bad????????.");
    assert_true(doctor_ok(&r));
    assert_int_equal(doctor_json(&r, &out, NULL), 0);
    assert_string_equal(buf_cstr(&out), "{\"version\":\"" DAVIT_VERSION "\",\"ok\":true,\"checks\":[{\"name\":\"a\",\"result\":\"OK\",\"message\":"
                                        "\"fine\",\"fix\":\"\"},{\"name\":\"b\",\"result\":\"WARN\",\"message\":\"bad????????.\",\"fix\":"
                                        "\"do ?[2J\\\"it\\\"\"}]}\n");
    r.checks[0].result = DOCTOR_FAIL;
    assert_false(doctor_ok(&r));
    assert_int_equal(doctor_json(&r, &small, NULL), -ERR_EXHAUSTED);
    /* What does not fit is cut. */
    AUTO_FREE char *text = str_printf("%0*d", 2 * DOCTOR_TEXT_MAX, 1);
    doctor_say(&r.checks[0], DOCTOR_FAIL, text, "%s", text);
    assert_int_equal(strlen(r.checks[0].message), DOCTOR_TEXT_MAX - 1);
    assert_int_equal(strlen(r.checks[0].fix), DOCTOR_FIX_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk_space_at_its_thresholds),
        cmocka_unit_test(test_who_may_use_the_socket),
        cmocka_unit_test(test_who_is_in_the_group_of_the_socket),
        cmocka_unit_test(test_accounts_and_groups_are_read),
        cmocka_unit_test(test_modes_of_the_directory),
        cmocka_unit_test(test_certificate_at_its_thresholds),
        cmocka_unit_test(test_clock_at_its_thresholds),
        cmocka_unit_test(test_what_systemd_says),
        cmocka_unit_test(test_tailscale_is_never_a_failure),
        cmocka_unit_test(test_versions_of_the_engines_api),
        cmocka_unit_test(test_cgroup_bpf_and_log_driver),
        cmocka_unit_test(test_subnets_and_routes_that_overlap),
        cmocka_unit_test(test_subnets_and_routes_are_read),
        cmocka_unit_test(test_report_in_json_and_what_is_hostile_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
