/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint: addresses as people write them into settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "net/endpoint.h"

static void good(const char *text, const char *host, unsigned port, bool v6)
{
    struct endpoint e;
    struct err err = ERR_INIT;
    int rc = endpoint_parse(text, &e, &err);
    if (rc != 0)
        fail_msg("%s: %s", text, err.msg);
    assert_string_equal(e.host, host);
    assert_int_equal(e.port, port);
    assert_int_equal(e.v6, v6);
}

static void bad(const char *text, const char *said)
{
    struct endpoint e;
    struct err err = ERR_INIT;
    if (endpoint_parse(text, &e, &err) != -(int)ERR_INVALID || !strstr(err.msg, said))
        fail_msg("%s: %s", text, err.msg);
}

static void hosts(void **state)
{
    (void)state;
    good("cp.example.com", "cp.example.com", 0, false);
    good("cp.example.com:7442", "cp.example.com", 7442, false);
    good("a", "a", 0, false);
    good("203.0.113.7", "203.0.113.7", 0, false);
    good("203.0.113.7:65535", "203.0.113.7", 65535, false);
    good("2001:db8::1", "2001:db8::1", 0, true);
    good("[2001:db8::1]", "2001:db8::1", 0, true);
    good("[2001:db8::1]:1", "2001:db8::1", 1, true);
    good("1password.example", "1password.example", 0, false);
}

static void what_is_none(void **state)
{
    (void)state;
    bad("", "names no host");
    bad(NULL, "names no host");
    bad(":7442", "names no host");
    bad("foo bar", "neither a host name");
    bad("CP.example.com", "lower case");
    bad("cp.example.com:99999", "port between 1 and 65535");
    bad("cp.example.com:65536", "port between");
    bad("cp.example.com:0", "port between");
    bad("cp.example.com:", "port between");
    bad("cp.example.com:+1", "port between");
    bad("cp.example.com:1:2", "port between");
    bad("https://cp.example.com", "port between");
    bad("cp.example.com.", "neither");
    bad("cp..example", "neither");
    bad("-cp.example", "neither");
    bad("user@cp", "neither");
    bad("cp/x", "neither");
    bad("b\xc3\xbcro", "neither");
    bad("300.1.1.1", "no IPv4 address");
    bad("10.0.0", "no IPv4 address");
    bad("7442", "no IPv4 address");
    bad("0.0.0.0", "where one listens");
    bad("[::]:7442", "where one listens");
    bad("[cp]:7442", "no IPv6 address");
    bad("[::1", "no HOST[:PORT]");
    bad("[::1]7442", "no HOST[:PORT]");
    bad("::1]:7442", "names no host");
    bad("fe80::1%eth0", "port between");
}

static void longest_name(void **state)
{
    char name[300];
    (void)state;
    memset(name, 'a', sizeof(name));
    for (size_t i = 63; i < 253; i += 64)
        name[i] = '.';
    name[253] = '\0';
    good(name, name, 0, false);
    name[253] = 'a';
    name[254] = '\0';
    bad(name, "too long");
}

static void options(void **state)
{
    static const struct {
        enum endpoint_kind kind;
        const char *value;
        int rc;
    } rows[] = {
        {ENDPOINT_LISTEN, NULL, 0},
        {ENDPOINT_LISTEN, "", 0},
        {ENDPOINT_LISTEN, "127.0.0.1:0", 0},
        {ENDPOINT_LISTEN, "[::]:7442", 0},
        {ENDPOINT_LISTEN, "unix:/run/x", 0},
        {ENDPOINT_LISTEN, "unix:x", -(int)ERR_INVALID},
        {ENDPOINT_LISTEN, "localhost:7442", -(int)ERR_INVALID},
        {ENDPOINT_LISTEN, "7442", -(int)ERR_INVALID},
        {ENDPOINT_LISTEN, "0.0.0.0:65536", -(int)ERR_INVALID},
        {ENDPOINT_LISTEN_TCP, "0.0.0.0:65535", 0},
        {ENDPOINT_LISTEN_TCP, "[::1]:1", 0},
        {ENDPOINT_LISTEN_TCP, "0.0.0.0:0", -(int)ERR_INVALID},
        {ENDPOINT_LISTEN_TCP, "0.0.0.0:000", -(int)ERR_INVALID},
        {ENDPOINT_LISTEN_TCP, "unix:/run/x", -(int)ERR_INVALID},
        {ENDPOINT_LOCAL, "none", 0},
        {ENDPOINT_LOCAL, "127.9.0.1:0", 0},
        {ENDPOINT_LOCAL, "[::1]:7441", 0},
        {ENDPOINT_LOCAL, "0.0.0.0:7441", -(int)ERR_INVALID},
        {ENDPOINT_LOCAL, "[::]:7441", -(int)ERR_INVALID},
        {ENDPOINT_LOCAL, "unix:/run/127.0.0.1:1", -(int)ERR_INVALID},
        {ENDPOINT_LOCAL, "off", -(int)ERR_INVALID},
        {ENDPOINT_REACH, "cp:1", 0},
        {ENDPOINT_REACH, "CP", -(int)ERR_INVALID},
        {ENDPOINT_NAME, "davit.example.com", 0},
        {ENDPOINT_NAME, "203.0.113.7", 0},
        {ENDPOINT_NAME, "davit.example.com:443", -(int)ERR_INVALID},
        {ENDPOINT_NAME, "2001:db8::1", -(int)ERR_INVALID},
        {ENDPOINT_NAME, "https://davit.example.com", -(int)ERR_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = ERR_INIT;
        int rc = endpoint_check(rows[i].kind, "option", rows[i].value, &err);
        if (rc != rows[i].rc || (rc && (!strstr(err.msg, "--option: ") || !err.hint[0])))
            fail_msg("%zu: %d %s", i, rc, err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts),
        cmocka_unit_test(what_is_none),
        cmocka_unit_test(longest_name),
        cmocka_unit_test(options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
