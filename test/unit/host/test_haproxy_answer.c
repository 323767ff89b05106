/* SPDX-License-Identifier: Apache-2.0 */
/* test_haproxy_answer — what HAProxy's runtime API answers, as 2.6 prints it, and what it must not be believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "host/reach/haproxy.h"

static const char stat[] =
    "# pxname,svname,qcur,qmax,scur,smax,last_chk,\n"
    "shop.web,w1,2,2,5,9,,\n"
    "shop.web,w2,0,0,1,1,\"said \"\"no\"\", twice\",\n"
    "\n";

static void test_load(void **state)
{
    unsigned n = 9;
    (void)state;
    assert_int_equal(haproxy_load(STR(stat), "w1", &n, NULL), 0);
    assert_int_equal(n, 7);
    assert_int_equal(haproxy_load(STR(stat), "w2", &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(haproxy_load(STR(stat), "w", &n, NULL), 0);
    assert_int_equal(n, 0);
    assert_int_equal(haproxy_load(STR("# svname,scur,qcur\nw1,x,0\n"), "w1", &n, NULL), -(int)ERR_INVALID);
    assert_int_equal(haproxy_load(STR("# svname,scur,qcur\nw1,1\n"), "w1", &n, NULL), -(int)ERR_INVALID);
    assert_int_equal(haproxy_load(STR("# svname,scur\nw1,1\n"), "w1", &n, NULL), -(int)ERR_INVALID);
    assert_int_equal(haproxy_load(STR("Unknown command\n"), "w1", &n, NULL), -(int)ERR_INVALID);
    assert_int_equal(haproxy_load(STR(""), "w1", &n, NULL), -(int)ERR_INVALID);
    assert_int_equal(haproxy_load(STR("# svname,scur,qcur\nw1,4294967296,0\n"), "w1", &n, NULL), -(int)ERR_INVALID);
}

static void test_quoted(void **state)
{
    static const char *const columns[] = {"b", "a"};
    struct str c[HAPROXY_COLUMNS_MAX];
    struct haproxy_table t;
    (void)state;
    assert_int_equal(haproxy_table_begin(&t, STR("# a,b\n\"x,\"\"y\",2\n\"open,3\n"), ',', columns, 2, NULL), 0);
    assert_int_equal(haproxy_table_next(&t, c, NULL), 1);
    assert_true(str_eq(c[1], STR("x,\"\"y")) && str_eq(c[0], STR("2")));
    assert_int_equal(haproxy_table_next(&t, c, NULL), -(int)ERR_INVALID);
}

/* A line at the limit is read, one beyond is not. */
static void test_line_limit(void **state)
{
    static const char *const columns[] = {"a"};
    static const char row[] = "# a b\nx ";
    struct str c[HAPROXY_COLUMNS_MAX];
    struct haproxy_table t;
    size_t n = sizeof(row) - 1 + HAPROXY_LINE_MAX;
    AUTO_FREE char *text = mem_alloc(n);
    (void)state;
    memset(text, 'y', n);
    memcpy(text, row, sizeof(row) - 1);
    assert_int_equal(haproxy_table_begin(&t, (struct str){text, n - 2}, ' ', columns, 1, NULL), 0);
    assert_int_equal(haproxy_table_next(&t, c, NULL), 1);
    assert_int_equal(haproxy_table_begin(&t, (struct str){text, n - 1}, ' ', columns, 1, NULL), 0);
    assert_int_equal(haproxy_table_next(&t, c, NULL), -(int)ERR_INVALID);
}

static void test_servers(void **state)
{
    static const char answer[] =
        "1\n"
        "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_fqdn srv_port\n"
        "3 shop.web 1 w1 10.0.0.1 2 0 0 100 - 8080\n"
        "3 shop.web 2 w2 10.0.0.2 0 1 50 50 - 80\n\n";
    struct haproxy_table t;
    struct haproxy_server s;
    (void)state;
    assert_int_equal(haproxy_servers_begin(&t, STR(answer), NULL), 0);
    assert_int_equal(haproxy_servers_next(&t, &s, NULL), 1);
    assert_true(str_eq(s.name, STR("w1")) && str_eq(s.address, STR("10.0.0.1")) && s.port == 8080 && s.weight == 0 && !s.maintenance);
    assert_int_equal(haproxy_servers_next(&t, &s, NULL), 1);
    assert_true(str_eq(s.name, STR("w2")) && s.port == 80 && s.weight == 50 && s.maintenance);
    assert_int_equal(haproxy_servers_next(&t, &s, NULL), 0);
}

static void test_processes(void **state)
{
    static const char head[] = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
                               "1               master          2 [failed: 0]   0d00h00m05s     2.6.12\n# workers\n"
                               "12              worker          0               0d00h00m02s     2.6.12\n# old workers\n";
    uint32_t pids[HAPROXY_OLD_MAX];
    size_t n = 9;
    AUTO_BUF text = BUF_INIT(64 * 1024);
    (void)state;
    assert_int_equal(buf_append_cstr(&text, head), 0);
    assert_int_equal(haproxy_old_workers(buf_str(&text), pids, &n, NULL), 0);
    assert_int_equal(n, 0);
    for (unsigned i = 0; i < HAPROXY_OLD_MAX; i++)
        assert_int_equal(buf_printf(&text, "%u worker 1 0d00h00m05s 2.6.12\n", 100 + i), 0);
    assert_int_equal(haproxy_old_workers(buf_str(&text), pids, &n, NULL), 0);
    assert_int_equal(n, HAPROXY_OLD_MAX);
    assert_int_equal(pids[HAPROXY_OLD_MAX - 1], 100 + HAPROXY_OLD_MAX - 1);
    assert_int_equal(buf_append_cstr(&text, "99 worker 1\n"), 0);
    assert_int_equal(haproxy_old_workers(buf_str(&text), pids, &n, NULL), -(int)ERR_INVALID);
    assert_int_equal(haproxy_old_workers(STR("nothing\n"), pids, &n, NULL), -(int)ERR_INVALID);
    assert_int_equal(haproxy_old_workers(STR("#<PID>\n# old workers\nx worker 1\n"), pids, &n, NULL), -(int)ERR_INVALID);
}

static void test_info(void **state)
{
    struct str s = STR("");
    (void)state;
    assert_int_equal(haproxy_info(STR("Name: HAProxy\ndescription: davit-12ab\n"), "description", &s), 0);
    assert_true(str_eq(s, STR("davit-12ab")));
    assert_int_equal(haproxy_info(STR("Name: HAProxy\n"), "description", &s), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),    cmocka_unit_test(test_quoted),    cmocka_unit_test(test_line_limit),
        cmocka_unit_test(test_servers), cmocka_unit_test(test_processes), cmocka_unit_test(test_info),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
