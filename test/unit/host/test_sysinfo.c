/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent tells about its machine: the parsers on canned texts, hostile ones among them. */
#include "host/link/sysinfo.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "rpc/rpc.h"

static void check_text(char *got, const char *want)
{
    assert_string_equal(got, want);
    free(got);
}

static void test_texts_are_made_clean(void **state)
{
    char big[1000];
    (void)state;
    check_text(sysinfo_clean(STR("plain")), "plain");
    check_text(sysinfo_clean(STR("  trimmed\t")), "trimmed");
    check_text(sysinfo_clean(STR("")), "");
    check_text(sysinfo_clean(STR("a\033[31mb\nc\x7f")), "a [31mb c ");
    check_text(sysinfo_clean(STR("a\0b")), "a b");
    check_text(sysinfo_clean(STR("\xff\xc3(")), "\xef\xbf\xbd\xef\xbf\xbd(");
    check_text(sysinfo_clean(STR("gr\xc3\xbc\xc3\x9f")), "gr\xc3\xbc\xc3\x9f");
    memset(big, 'x', sizeof(big));
    char *cut = sysinfo_clean((struct str){big, sizeof(big)});
    assert_int_equal(strlen(cut), SYSINFO_TEXT_MAX);
    free(cut);
    memset(big, 0xc3, sizeof(big)); /* not cut inside of a character */
    cut = sysinfo_clean((struct str){big, sizeof(big)});
    assert_int_equal(strlen(cut), SYSINFO_TEXT_MAX / 3 * 3);
    free(cut);
}

/* req: CL-50 */
static void test_os_release(void **state)
{
    (void)state;
    check_text(sysinfo_pretty_name(STR("NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n")),
               "Debian GNU/Linux 12 (bookworm)");
    check_text(sysinfo_pretty_name(STR("PRETTY_NAME=Alpine\\ Linux\n")), "Alpine Linux");
    check_text(sysinfo_pretty_name(STR("PRETTY_NAME='It''s'")), "It");
    check_text(sysinfo_pretty_name(STR("PRETTY_NAME=\"A \\\"B\\\" \\$C\"")), "A \"B\" $C");
    check_text(sysinfo_pretty_name(STR("PRETTY_NAME=\"open")), "open");
    check_text(sysinfo_pretty_name(STR("# PRETTY_NAME=no\nID=x\n")), "");
    check_text(sysinfo_pretty_name(STR("")), "");
}

static void test_memory(void **state)
{
    (void)state;
    assert_int_equal(sysinfo_mem_total(STR("MemTotal:       16316412 kB\nMemFree: 1 kB\n")), 16316412ULL * 1024);
    assert_int_equal(sysinfo_mem_total(STR("MemFree: 1 kB\nMemTotal: 8 kB")), 8192);
    assert_int_equal(sysinfo_mem_total(STR("MemTotal: 18446744073709551615 kB\n")), 0);
    assert_int_equal(sysinfo_mem_total(STR("MemTotal: -1 kB\n")), 0);
    assert_int_equal(sysinfo_mem_total(STR("")), 0);
}

static void test_architecture(void **state)
{
    (void)state;
    assert_string_equal(sysinfo_arch("x86_64"), "amd64");
    assert_string_equal(sysinfo_arch("aarch64"), "arm64");
    assert_string_equal(sysinfo_arch("riscv64"), "riscv64");
}

#define ROUTE_HEAD "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"

static void test_default_route(void **state)
{
    char name[IFNAMSIZ] = "";
    (void)state;
    assert_int_equal(sysinfo_route4(STR(ROUTE_HEAD "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
                                                   "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
                                                   "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"), name), 0);
    assert_string_equal(name, "eth0");
    assert_int_equal(sysinfo_route4(STR(ROUTE_HEAD "tun0\t00000000\t0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"), name), 1);
    assert_int_equal(sysinfo_route4(STR(ROUTE_HEAD "eth0\t00000000\t0101A8C0\t0002\t0\t0\t100\t00000000\t0\t0\t0\n"), name), 1);
    assert_int_equal(sysinfo_route4(STR(ROUTE_HEAD "averyveryverylongname\t00000000\t00000000\t0003\t0\t0\t1\t00000000\n"), name), 1);
    assert_int_equal(sysinfo_route4(STR(ROUTE_HEAD), name), 1);
    assert_int_equal(sysinfo_route4(STR(""), name), 1);
    assert_int_equal(sysinfo_route4(STR("\n\t\n eth0\n"), name), 1);
#define ZERO6 "00000000000000000000000000000000"
    assert_int_equal(sysinfo_route6(STR("fe800000000000000000000000000000 40 " ZERO6 " 00 " ZERO6 " 00000100 00000001 00000000 00000001 eth0\n" ZERO6
                                        " 00 " ZERO6 " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1\n" ZERO6
                                        " 00 " ZERO6 " 00 " ZERO6 " ffffffff 00000001 00000000 00200200       lo\n"), name), 0);
    assert_string_equal(name, "eth1");
    assert_int_equal(sysinfo_route6(STR(ZERO6 " 00 " ZERO6 " 00 " ZERO6 " ffffffff 00000001 00000000 00200200 lo\n"), name), 1);
}

/* req: CL-51 */
static void test_which_interfaces_and_addresses_are_the_machines_own(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    static const char *const own4[] = {"192.168.1.4", "10.0.0.1", "100.64.0.7", "203.0.113.9"};
    static const char *const not4[] = {"127.0.0.1", "169.254.3.4", "0.0.0.0", "224.0.0.1", "255.255.255.255"};
    static const char *const own6[] = {"2001:db8::1", "fd00::4"};
    static const char *const not6[] = {"::1", "fe80::1", "::", "ff02::1"};
    char text[SYSINFO_ADDRESS_SIZE];
    (void)state;
    assert_true(sysinfo_own_interface("eth0", IFF_UP));
    assert_true(sysinfo_own_interface("tailscale0", IFF_UP));
    assert_true(sysinfo_own_interface("bridge0", IFF_UP));
    assert_false(sysinfo_own_interface("eth0", 0));
    assert_false(sysinfo_own_interface("lo", IFF_UP | IFF_LOOPBACK));
    static const char *const foreign[] = {"docker0", "br-1234", "veth12", "davit-net", "cni0"};
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        assert_false(sysinfo_own_interface(foreign[i], IFF_UP));
    for (size_t i = 0; i < ARRAY_LEN(own4); i++) {
        assert_int_equal(inet_pton(AF_INET, own4[i], &in.sin_addr), 1);
        assert_true(sysinfo_own_address((struct sockaddr *)(void *)&in, text));
        assert_string_equal(text, own4[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(not4); i++) {
        assert_int_equal(inet_pton(AF_INET, not4[i], &in.sin_addr), 1);
        assert_false(sysinfo_own_address((struct sockaddr *)(void *)&in, text));
    }
    for (size_t i = 0; i < ARRAY_LEN(own6); i++) {
        assert_int_equal(inet_pton(AF_INET6, own6[i], &in6.sin6_addr), 1);
        assert_true(sysinfo_own_address((struct sockaddr *)(void *)&in6, text));
        assert_string_equal(text, own6[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(not6); i++) {
        assert_int_equal(inet_pton(AF_INET6, not6[i], &in6.sin6_addr), 1);
        assert_false(sysinfo_own_address((struct sockaddr *)(void *)&in6, text));
    }
}

/* req: CL-52 */
static void test_only_an_address_is_taken_from_a_look_up(void **state)
{
    char text[SYSINFO_ADDRESS_SIZE];
    static const char *const bad[] = {"", "\n", "hello", "1.2.3", "1.2.3.4.5", "<html>1.2.3.4</html>", "1.2.3.4\n5.6.7.8", "2001:db8:::1",
                                      "999.1.1.1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    (void)state;
    assert_int_equal(sysinfo_public_address(STR(" 203.0.113.9\r\n"), text, NULL), 0);
    assert_string_equal(text, "203.0.113.9");
    assert_int_equal(sysinfo_public_address(STR("2001:DB8:0:0::1\n"), text, NULL), 0);
    assert_string_equal(text, "2001:db8::1");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(sysinfo_public_address(str_from(bad[i]), text, NULL), -ERR_INVALID);
    assert_int_equal(sysinfo_public_address(STR("1.2.3.4\0x"), text, NULL), -ERR_INVALID);
}

static int tailscale(const char *json, Davit__Common__V1__Tailscale **ret)
{
    *ret = calloc(1, sizeof(**ret));
    assert_non_null(*ret);
    davit__common__v1__tailscale__init(*ret);
    return sysinfo_tailscale(str_from(json), *ret, NULL);
}

/* req: CL-53 */
static void test_tailscale_status(void **state)
{
    Davit__Common__V1__Tailscale *t;
    (void)state;
    assert_int_equal(tailscale("{\"Version\":\"1.50\",\"BackendState\":\"Running\",\"TailscaleIPs\":[\"fd7a::7\",\"100.64.0.7\"],\"Self\":"
                               "{\"ID\":\"x\",\"DNSName\":\"web-1.tail.ts.net.\",\"TailscaleIPs\":[\"100.64.0.8\"],\"Capabilities\":null},"
                               "\"Peer\":{\"a\":{\"DNSName\":\"other.\",\"TailscaleIPs\":[\"100.1.1.1\"]}}}", &t), 0);
    assert_string_equal(t->state, "Running");
    assert_string_equal(t->address, "100.64.0.7");
    assert_string_equal(t->hostname, "web-1.tail.ts.net");
    (void)rpc_message_free(t);
    assert_int_equal(tailscale("{\"BackendState\":\"NeedsLogin\",\"TailscaleIPs\":null,\"Self\":null}", &t), 0);
    assert_string_equal(t->state, "NeedsLogin");
    assert_string_equal(t->address, "");
    (void)rpc_message_free(t);
    static const char *const bad[] = {"", "[]", "null", "{\"BackendState\":1}", "{\"Self\":[]}", "{\"TailscaleIPs\":\"x\"}",
                                      "{\"Self\":{\"DNSName\":", "failed to connect to local tailscaled"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(tailscale(bad[i], &t), -ERR_INVALID);
        assert_string_equal(t->state, "");
        (void)rpc_message_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_are_made_clean),
        cmocka_unit_test(test_os_release),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_architecture),
        cmocka_unit_test(test_default_route),
        cmocka_unit_test(test_which_interfaces_and_addresses_are_the_machines_own),
        cmocka_unit_test(test_only_an_address_is_taken_from_a_look_up),
        cmocka_unit_test(test_tailscale_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
