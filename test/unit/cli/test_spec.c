/* SPDX-License-Identifier: Apache-2.0 */
/* Flags of `davit deploy` into a spec; names of services and words of states. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "cli/manifest.h"
#include "cli/names.h"
#include "rpc/rpc.h"

typedef int (*add_fn)(Davit__Common__V1__ServiceSpec *, struct str, struct err *);

static void check(add_fn add, const char *text, bool good, const char *hint)
{
    Davit__Common__V1__ServiceSpec *spec = spec_new();
    struct err err = ERR_INIT;
    int rc = add(spec, str_from(text), &err);

    if ((rc == 0) != good || (rc < 0 && rc != -ERR_INVALID) || !strstr(err.hint, hint))
        fail_msg("\"%s\": %d, %s (%s)", text, rc, err.msg, err.hint);
    rpc_message_free(spec);
}

static void test_ports(void **state)
{
    static const char *const good[] = {"8080:80", "1:65535", "127.0.0.1:8080:80", "0.0.0.0:53:53/udp", "53:53/tcp", "[::1]:80:80", "::1:80:80"};
    static const char *const bad[] = {"", ":", "80", "80:", ":80", "80:80/", "80:80/icmp", "a:80", "80:b", "-1:80", " 80:80", "80:80:"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        check(spec_add_port, good[i], true, "");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check(spec_add_port, bad[i], false, "");
    check(spec_add_port, "80", false, "write HOST:CONTAINER");
}

static void test_volumes(void **state)
{
    static const char *const good[] = {"a:/b", "data:/var/lib/x:ro", "data:/x:rw"};
    static const char *const bad[] = {"", "a", "a:", ":/b", "A:/b", "a:b", "a:/b:", "a:/b:x", "a:/b:ro:ro", "../x:/b"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        check(spec_add_volume, good[i], true, "");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check(spec_add_volume, bad[i], false, "write NAME:/path");
}

static void test_env(void **state)
{
    (void)state;
    check(spec_add_env, "A=", true, "");
    check(spec_add_env, "A==", true, "");
    check(spec_add_env, "A", false, "");
    check(spec_add_env, "=1", false, "");
    check(spec_add_env, "", false, "");
}

static void test_health(void **state)
{
    static const char *const good[] = {"/", "/a?b=c", "8080/", "1/x", "tcp", "tcp:1", "docker", "none", ""};
    static const char *const bad[] = {"http", "8080", "0/x", "65536/x", "x/y", "tcp:", "tcp:x", "Docker", "none "};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        check(spec_set_health, good[i], true, "");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check(spec_set_health, bad[i], false, "");
    check(spec_set_health, "http", false, "/path, 8080/path, tcp, tcp:8080, docker or none");
}

static void test_routes(void **state)
{
    static const char *const good[] = {"a", "shop.example.com", "shop.example.com:8080", "Shop.Example.com:1", "*.example.com"};
    static const char *const bad[] = {"", ":", ":80", "a:", "a:0", "a:65536", "a:b", "http://a", "a/b", "a:80:81"};
    Davit__Common__V1__ServiceSpec *spec = spec_new();
    char long_name[255];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        check(spec_add_route, good[i], true, "");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check(spec_add_route, bad[i], false, "");
    check(spec_add_route, "a/b", false, "shop.example.com:8080");
    memset(long_name, 'a', sizeof(long_name));
    long_name[254] = '\0';
    check(spec_add_route, long_name, false, "write HOST");
    long_name[253] = '\0';
    check(spec_add_route, long_name, true, "");
    assert_int_equal(spec_add_route(spec, STR("shop.example.com:8080"), NULL), 0);
    assert_string_equal(spec->routes[0]->hostname, "shop.example.com");
    assert_int_equal(spec->routes[0]->port, 8080);
    rpc_message_free(spec);
}

/* Who says nothing about health leaves it to the control plane; times alone are those of its default. */
static void test_settled_health(void **state)
{
    Davit__Common__V1__ServiceSpec *spec = spec_new();

    (void)state;
    spec_settle_health(spec, true);
    assert_non_null(spec->health);
    assert_int_equal(spec->health->kind, DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE);
    spec_settle_health(spec, false);
    assert_null(spec->health);
    rpc_message_free(spec);
    spec = spec_new();
    spec->health->interval_ms = 500;
    spec_settle_health(spec, false);
    assert_int_equal(spec->health->kind, DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE);
    assert_int_equal(spec_add_route(spec, STR("a.example:81"), NULL), 0);
    spec_settle_health(spec, false);
    assert_int_equal(spec->health->kind, DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP);
    assert_string_equal(spec->health->path, "/health");
    assert_int_equal(spec->health->port, 81);
    rpc_message_free(spec);
}

static void test_service_names(void **state)
{
    static const char *const bad[] = {"", "/", "a/", "/a", "a/b/c", "A", "a b", "-a", "shop/We", "a/\x1b[31m"};
    char label[65] = "";
    struct service_name name;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(service_name_parse("web", "default", &name, &err), 0);
    assert_string_equal(name.project, "default");
    assert_string_equal(name.service, "web");
    assert_int_equal(service_name_parse("shop/web", "default", &name, &err), 0);
    assert_string_equal(name.project, "shop");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(service_name_parse(bad[i], "default", &name, &err), -ERR_INVALID);
        assert_non_null(strstr(err.hint, "PROJECT/SERVICE"));
    }
    memset(label, 'a', 63);
    assert_int_equal(service_name_parse(label, label, &name, &err), 0);
    assert_string_equal(name.project, label);
    label[63] = 'a';
    assert_int_equal(service_name_parse(label, "default", &name, &err), -ERR_INVALID);
}

static void test_state_names(void **state)
{
    (void)state;
    assert_string_equal(deployment_state_name(DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_ACTIVE), "active");
    assert_string_equal(deployment_state_name(DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_REMOVED), "removed");
    assert_string_equal(deployment_state_name(0), "-");
    assert_string_equal(deployment_state_name(-1), "-");
    assert_string_equal(deployment_state_name(8), "rolled-back");
    assert_string_equal(deployment_state_name(9), "cancelled");
    assert_string_equal(deployment_state_name(10), "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ports),  cmocka_unit_test(test_volumes),       cmocka_unit_test(test_env),
        cmocka_unit_test(test_health), cmocka_unit_test(test_service_names), cmocka_unit_test(test_state_names),
        cmocka_unit_test(test_routes), cmocka_unit_test(test_settled_health),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
