/* SPDX-License-Identifier: Apache-2.0 */
/* Which proxy leads where. The dial through a real one: test_tunnel_edges.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "net/proxy.h"

/* "host:port" of the proxy, "" for none, or NULL for a failure; *ret_rc tells which. */
static char *choose(const char *https, const char *none, const char *to, int *ret_rc)
{
    struct proxy *p = NULL;
    struct err err = ERR_INIT;
    *ret_rc = proxy_choose(https, none, to, &p, &err);
    assert_int_equal(*ret_rc, -(int)err.code);
    assert_null(strstr(err.msg, "secret"));
    char *addr = *ret_rc < 0 ? NULL : str_dup(str_from(p ? proxy_addr(p) : ""));
    (void)proxy_unref(p);
    return addr;
}

static bool through(const char *none, const char *to)
{
    int rc;
    AUTO_FREE char *addr = choose("http://proxy.example:3128", none, to, &rc);
    assert_int_equal(rc, 0);
    return *addr != '\0';
}

static void test_url(void **state)
{
    (void)state;
    static const struct {
        const char *text, *addr;
        int rc;
    } cases[] = {
        {NULL, "", 0},
        {"", "", 0},
        {" http://p.example:3128/ ", "p.example:3128", 0},
        {"p.example:3128", "p.example:3128", 0},
        {"http://p.example", "p.example:80", 0},
        {"http://[2001:db8::1]:8080", "[2001:db8::1]:8080", 0},
        {"http://[2001:db8::1]", "[2001:db8::1]:80", 0},
        {"http://user:secret%40x@p.example:1", "p.example:1", 0},
        {"http://user:secret%4@p.example:1", NULL, -(int)ERR_INVALID},
        {"http://user:secret%0a@p.example:1", NULL, -(int)ERR_INVALID},
        {"http://us%3aer:secret@p.example:1", NULL, -(int)ERR_INVALID},
        {"https://p.example:3128", NULL, -(int)ERR_UNIMPLEMENTED},
        {"socks5://p.example:1080", NULL, -(int)ERR_UNIMPLEMENTED},
        {"http://", NULL, -(int)ERR_INVALID},
        {"http://p.example:99999", NULL, -(int)ERR_INVALID},
        {"http://a b:1", NULL, -(int)ERR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int rc;
        AUTO_FREE char *addr = choose(cases[i].text, NULL, "cp.example:443", &rc);
        assert_int_equal(rc, cases[i].rc);
        if (rc == 0)
            assert_string_equal(addr, cases[i].addr);
    }
}

static void test_limit(void **state)
{
    (void)state;
    char text[PROXY_TEXT_MAX + 2];
    int rc;
    memset(text, 'a', sizeof(text));
    memcpy(text, "http://u:", 9);
    memcpy(text + PROXY_TEXT_MAX - 4, "@p:1", 5);
    AUTO_FREE char *at = choose(text, NULL, "cp.example:443", &rc);
    assert_int_equal(rc, 0);
    memcpy(text + PROXY_TEXT_MAX - 4, "a@p:1", 6);
    AUTO_FREE char *over = choose(text, NULL, "cp.example:443", &rc);
    assert_int_equal(rc, -(int)ERR_INVALID);
}

static void test_no_proxy(void **state)
{
    (void)state;
    assert_true(through(NULL, "cp.example:443"));
    assert_true(through("", "cp.example:443"));
    assert_false(through("*", "cp.example:443"));
    assert_false(through("cp.example", "CP.example:443"));
    assert_false(through(" other , .example ", "cp.example:443"));
    assert_false(through("example", "cp.example:443"));
    assert_false(through("*.example", "cp.example:443"));
    assert_true(through("xample", "cp.example:443"));
    assert_true(through("p.example", "cp.example:443"));
    assert_false(through("cp.example:443", "cp.example:443"));
    assert_true(through("cp.example:444", "cp.example:443"));
    assert_false(through("192.0.2.7", "192.0.2.7:443"));
    assert_false(through("192.0.2.0/24", "192.0.2.7:443"));
    assert_true(through("192.0.3.0/24", "192.0.2.7:443"));
    assert_false(through("192.0.2.6/31", "192.0.2.7:443"));
    assert_true(through("192.0.2.4/31", "192.0.2.7:443"));
    assert_true(through("192.0.2.0/33", "192.0.2.7:443"));
    assert_false(through("0.0.0.0/0", "192.0.2.7:443"));
    assert_false(through("2001:db8::/32", "[2001:db8::7]:443"));
    assert_false(through("[2001:db8::7]:443", "[2001:db8::7]:443"));
    assert_true(through("[2001:db8::7]:444", "[2001:db8::7]:443"));
    assert_true(through("192.0.2.0/24", "cp.example:443"));
    assert_true(through(",,,", "cp.example:443"));
    /* Never, whatever it says. */
    assert_false(through(NULL, "localhost:443"));
    assert_false(through(NULL, "127.0.0.2:443"));
    assert_false(through(NULL, "[::1]:443"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_url), cmocka_unit_test(test_limit), cmocka_unit_test(test_no_proxy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
