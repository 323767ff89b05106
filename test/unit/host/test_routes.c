/* SPDX-License-Identifier: Apache-2.0 */
/* test_routes — the table of the ingress and the configuration that HAProxy reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "host/reach/haproxy.h"
#include "host/reach/routes.h"

static const char *const host_a[] = {"a.example.org", "www.example.org"};
static const char *const host_b[] = {"b.example.org"};
static const struct ingress_server servers[] = {
    {.name = "davit-shop-web-1a2b3c4d", .address = "172.18.0.3", .port = 8080},
    {.name = "davit-shop-web-1a2b3c4d-2", .address = "172.18.0.4", .port = 8080, .weight = 7},
    {.name = "davit-shop-web-00000000", .address = "172.18.0.2", .port = 8080, .weight = 50, .drain = true},
};

static struct ingress_service shop(void)
{
    return (struct ingress_service){
        .project = "shop", .service = "web", .network = "davit-shop", .hosts = host_a, .n_hosts = 2, .servers = servers, .n_servers = 3};
}

static struct ingress_service other(void)
{
    return (struct ingress_service){.project = "alpha", .service = "api", .network = "davit-alpha", .hosts = host_b, .n_hosts = 1};
}

static int with(struct routes *t, const struct ingress_service *s, struct err *err)
{
    struct route *r = NULL;
    struct routes next = {0};
    int rc = route_new(s, &r, err);
    if (rc == 0)
        rc = routes_with(t, r, &next, err);
    if (rc == 0) {
        routes_release(t);
        *t = next;
    }
    return rc;
}

static struct routes both(void)
{
    struct routes t = {0};
    struct ingress_service a = shop(), b = other();
    assert_int_equal(with(&t, &a, NULL), 0);
    assert_int_equal(with(&t, &b, NULL), 0);
    return t;
}

static const char golden_end[] =
    "    use_backend %[var(txn.backend)]\n"
    "\n"
    "backend alpha.api\n"
    "\n"
    "backend shop.web\n"
    "    server davit-shop-web-1a2b3c4d 172.18.0.3:8080 weight 100\n"
    "    server davit-shop-web-1a2b3c4d-2 172.18.0.4:8080 weight 7\n"
    "    server davit-shop-web-00000000 172.18.0.2:8080 weight 0\n";
static const char golden_map[] = "b.example.org alpha.api\na.example.org shop.web\nwww.example.org shop.web\n";

static void test_text(void **state)
{
    struct routes t = both();
    AUTO_BUF config = BUF_INIT(ROUTES_TEXT_MAX);
    AUTO_BUF map = BUF_INIT(ROUTES_TEXT_MAX);
    char generation[ROUTES_GENERATION_SIZE];
    (void)state;
    assert_int_equal(routes_config(&t, "5f3a", &config, NULL), 0);
    assert_int_equal(routes_map(&t, &map, NULL), 0);
    assert_true(str_ends(buf_str(&config), STR(golden_end)));
    assert_string_equal(buf_cstr(&map), golden_map);
    const char *text = buf_cstr(&config);
    assert_non_null(strstr(text, "\n    description davit-5f3a\n"));
    assert_non_null(strstr(text, "map_str(/davit/config/hosts-5f3a.map)"));
    assert_non_null(strstr(text, "\n    bind :8080\n"));
    /* Workers of before do not pile up, however long their connections are. */
    assert_non_null(strstr(text, "\n    hard-stop-after 1h\n"));
    assert_non_null(strstr(text, "\n    mworker-max-reloads 32\n"));
    assert_in_range((int)ROUTES_OLD_MAX, 1, (int)HAPROXY_OLD_MAX - 1);
    assert_non_null(strstr(text, "set-header X-Forwarded-For %[src]\n"));
    assert_non_null(strstr(text, "\n    option disable-h2-upgrade\n"));
    assert_null(strstr(text, "%%"));
    assert_int_equal(routes_generation(buf_str(&config), generation), 0);
    assert_string_equal(generation, "5f3a");
    assert_int_equal(routes_generation(STR("global\n"), generation), -(int)ERR_INVALID);
    assert_int_equal(routes_generation(STR("    description davit-\n"), generation), -(int)ERR_INVALID);
    assert_int_equal(routes_generation(STR("    description davit-01234567890123456789\n"), generation), -(int)ERR_INVALID);
    routes_release(&t);
}

static void test_table(void **state)
{
    struct routes t = both(), u = both();
    struct ingress_service s = other();
    struct err err = ERR_INIT;
    (void)state;
    assert_true(routes_same_shape(&t, &u));
    assert_string_equal(routes_owner(&t, "www.example.org")->service, "web");
    assert_null(routes_owner(&t, "example.org"));
    s.hosts = host_a;
    assert_int_equal(with(&u, &s, &err), -(int)ERR_EXISTS);
    assert_string_equal(err.msg, "hostname a.example.org belongs to service web of project shop");
    assert_int_equal(u.n, 2);
    s.hosts = host_b;
    s.servers = servers;
    s.n_servers = 1;
    assert_int_equal(with(&u, &s, NULL), 0);
    assert_true(routes_same_shape(&t, &u));
    assert_ptr_not_equal(routes_find(&t, "alpha", "api"), routes_find(&u, "alpha", "api"));
    s.hosts = &host_a[1];
    struct routes v = routes_without(&u, "shop", "web");
    assert_int_equal(v.n, 1);
    assert_int_equal(with(&v, &s, NULL), 0);
    assert_false(routes_same_shape(&u, &v));
    routes_release(&t);
    routes_release(&u);
    routes_release(&v);
}

static void refused(const struct ingress_service *s, const char *why)
{
    struct route *r = NULL;
    struct err err = ERR_INIT;
    if (route_new(s, &r, &err) != -(int)ERR_INVALID || !strstr(err.msg, why))
        fail_msg("\"%s\" was expected, \"%s\" came", why, err.msg);
    assert_null(r);
}

/* None of them may become a line of its own, a second argument or a reference. */
static void test_hostile(void **state)
{
    static const char *const hosts[] = {"A.example.org", "a b", "a.example.org\nbackend x", "*.example.org", "a..b", "", "a.example.org shop.web",
                                        "#a", "%[src]", "a.example.org:80", "-a.org", "a/b"};
    static const char *const names[] = {"", "a b", "a\n", "a/b", "-a", ".a", "a;b", "a\"b", "a#b", "$a", "\xc3\xa4"};
    static const char *const addresses[] = {"", "0.0.0.0", "127.0.0.1", "172.18.0.3 ", "172.18.0.03", "172.18.0", "::1", "/tmp/x", "fd@3",
                                            "224.0.0.1", "a.example.org", "172.18.0.3:80 check", "255.255.255.255"};
    static const char *const labels[] = {"", "A", "a.b", "a b", "a\nb", "-a", "a_b"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct ingress_service s = shop();
        s.hosts = &hosts[i];
        s.n_hosts = 1;
        refused(&s, "hostname 1");
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct ingress_service s = shop();
        struct ingress_server v = {.name = names[i], .address = "172.18.0.3", .port = 1};
        s.servers = &v;
        s.n_servers = 1;
        refused(&s, "server 1 has a name");
        s = shop();
        s.network = names[i];
        refused(&s, "network");
    }
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct ingress_service s = shop();
        struct ingress_server v = {.name = "a", .address = addresses[i], .port = 1};
        s.servers = &v;
        s.n_servers = 1;
        refused(&s, "no IPv4 address");
    }
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        struct ingress_service s = shop();
        s.project = labels[i];
        refused(&s, "are names");
        s = shop();
        s.service = labels[i];
        refused(&s, "are names");
    }
}

static void test_limits(void **state)
{
    static char text[INGRESS_SERVICES_MAX + 1][24];
    const char *hosts[INGRESS_HOSTS_MAX + 1];
    AUTO_FREE struct ingress_server *many = mem_zalloc(INGRESS_SERVERS_MAX + 1, sizeof(*many));
    struct ingress_service s = shop();
    struct routes t = {0};
    struct err err = ERR_INIT;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(text); i++)
        (void)snprintf(text[i], sizeof(text[i]), "h%zu", i);
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
        hosts[i] = text[i];
    for (size_t i = 0; i <= INGRESS_SERVERS_MAX; i++)
        many[i] = (struct ingress_server){.name = text[i], .address = "10.0.0.1", .port = 65535, .weight = ROUTES_WEIGHT_MAX};
    s.hosts = hosts;
    s.servers = many;
    s.n_servers = INGRESS_SERVERS_MAX;
    s.n_hosts = INGRESS_HOSTS_MAX;
    assert_int_equal(with(&t, &s, NULL), 0);
    s.n_hosts++;
    refused(&s, "at most 16 hostnames");
    s.n_hosts = 0;
    refused(&s, "a hostname is expected");
    s.n_hosts = 1;
    s.n_servers++;
    refused(&s, "at most 16 hostnames and 64 containers");
    s.n_servers = 1;
    many[0].weight = ROUTES_WEIGHT_MAX + 1;
    refused(&s, "a weight of at most 256");
    many[0].weight = 1;
    many[0].port = 0;
    refused(&s, "a port");
    hosts[1] = hosts[0];
    s.n_servers = 0;
    s.n_hosts = 2;
    refused(&s, "stands there twice");
    s.n_hosts = 1;
    routes_release(&t);
    for (size_t i = 0; i < INGRESS_SERVICES_MAX; i++) {
        s.service = text[i];
        s.hosts = (const char *const[]){text[i]};
        assert_int_equal(with(&t, &s, NULL), 0);
    }
    s.service = text[INGRESS_SERVICES_MAX];
    s.hosts = (const char *const[]){text[INGRESS_SERVICES_MAX]};
    assert_int_equal(with(&t, &s, &err), -(int)ERR_EXHAUSTED);
    assert_int_equal(t.n, INGRESS_SERVICES_MAX);
    routes_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
