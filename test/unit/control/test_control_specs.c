/* SPDX-License-Identifier: Apache-2.0 */
/* What may be asked for: references of images, each field of a spec at its limit and beyond, and what is written out of what was left open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rpc/rpc.h"
#include "spec/spec.h"

enum { HOST_BYTES = 253 };

static void images(void **state)
{
    (void)state;
    static const char *const good[] = {"busybox",
                                       "busybox:1",
                                       "library/busybox:1.36",
                                       "localhost:5000/a/b:latest",
                                       "127.0.0.1:5000/web:1",
                                       "registry.example.com/team/app:V1.2_3-x",
                                       "a__b/c-d.e:t",
                                       "busybox@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
    static const char *const bad[] = {"",          "Busybox",
                                      "busybox:",  "busybox:a b",
                                      ":1",        "/a",
                                      "a//b",      "a/",
                                      "busybox@",  "a@sha256:12",
                                      "a@md5:00",  "-a",
                                      "a:-x",      "http://a/b",
                                      "a b",       "a\n",
                                      "h:99999/a", "..",
                                      "a:1:2",     "UPPER/a",
                                      "a/../b",    "a@sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"};
    static char project[] = "p", name[] = "s";
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < (pass ? ARRAY_LEN(bad) : ARRAY_LEN(good)); i++) {
            Davit__Common__V1__ServiceSpec s = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
            struct err err = ERR_INIT;
            s.project = project;
            s.name = name;
            s.image = (char *)(uintptr_t)(pass ? bad[i] : good[i]);
            if ((spec_check(&s, &err) == 0) != !pass)
                fail_msg("image %s: %s", s.image, err.msg);
            if (pass)
                assert_non_null(strstr(err.msg, "image"));
        }
}

static void images_get_a_tag(void **state)
{
    (void)state;
    static const char *const v[][2] = {
        {"a", "a:latest"}, {"a:1", "a:1"}, {"h:5000/a", "h:5000/a:latest"}, {"a@sha256:x", "a@sha256:x"}, {"No Image", "No Image"}, {"", ""}};
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        Davit__Common__V1__ServiceSpec s = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
        s.image = str_dup(str_from(v[i][0]));
        spec_complete(&s);
        assert_string_equal(s.image, v[i][1]);
        free(s.image);
        free(s.health);
    }
}

/* An owned copy of a spec with @n_routes routes and a health check (or NULL), completed. */
static Davit__Common__V1__ServiceSpec *completed(Davit__Common__V1__HealthCheck *health, size_t n_routes)
{
    Davit__Common__V1__ServiceSpec s = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    Davit__Common__V1__Route route[2] = {DAVIT__COMMON__V1__ROUTE__INIT, DAVIT__COMMON__V1__ROUTE__INIT}, *routes[] = {&route[0], &route[1]};
    ProtobufCMessage *m = NULL;
    s.project = (char *)(uintptr_t)"p";
    s.name = (char *)(uintptr_t)"s";
    s.image = (char *)(uintptr_t)"a:1";
    route[0].hostname = (char *)(uintptr_t)"Shop.EXAMPLE.com";
    route[0].port = 8081;
    route[1].hostname = (char *)(uintptr_t)"other.example";
    s.routes = routes;
    s.n_routes = n_routes;
    s.health = health;
    assert_int_equal(rpc_copy(&s.base, &m), 0);
    Davit__Common__V1__ServiceSpec *spec = (Davit__Common__V1__ServiceSpec *)m;
    spec_complete(spec);
    spec_complete(spec); /* the second time changes nothing */
    assert_int_equal(spec_check(spec, NULL), 0);
    return spec;
}

static void health_is(Davit__Common__V1__ServiceSpec *spec, Davit__Common__V1__HealthKind kind, const char *path, uint32_t port,
                      const uint32_t times[4])
{
    const Davit__Common__V1__HealthCheck *h = spec->health;
    assert_int_equal(h->kind, kind);
    assert_string_equal(h->path, path);
    assert_int_equal(h->port, port);
    assert_int_equal(h->retries, times[0]);
    assert_int_equal(h->interval_ms, times[1]);
    assert_int_equal(h->timeout_ms, times[2]);
    assert_int_equal(h->grace_ms, times[3]);
    (void)rpc_message_free(spec);
}

/* req: CX-6 */
static void health_is_written_out(void **state)
{
    (void)state;
    static const uint32_t usual[4] = {3, 10000, 5000, 30000}, none[4] = {0, 0, 0, 2000}, own[4] = {7, 1000, 2000, 3000};
    Davit__Common__V1__HealthCheck h = DAVIT__COMMON__V1__HEALTH_CHECK__INIT;
    const Davit__Common__V1__HealthKind http = DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP,
                                        nothing = DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE;
    Davit__Common__V1__ServiceSpec *spec = completed(NULL, 2);
    assert_string_equal(spec->routes[0]->hostname, "shop.example.com");
    health_is(spec, http, "/health", 8081, usual); /* of what has a route */
    spec = completed(NULL, 0);
    assert_null(spec->health); /* the image may have its own */
    (void)rpc_message_free(spec);
    h.kind = nothing;
    health_is(completed(&h, 1), nothing, "", 0, none); /* said so */
    h.kind = http;
    health_is(completed(&h, 1), nothing, "", 0, none); /* an empty path skips */
    h.path = (char *)(uintptr_t)"/up";
    health_is(completed(&h, 0), http, "/up", 0, usual);
    h.port = 9000;
    h.retries = own[0];
    h.interval_ms = own[1];
    h.timeout_ms = own[2];
    h.grace_ms = own[3];
    health_is(completed(&h, 1), http, "/up", 9000, own);
}

/* req: CX-7 */
static void images_are_pinned(void **state)
{
    (void)state;
    static const char digest[] = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const char *const v[][2] = {{"h:5000/a:1", "h:5000/a:1@"}, {"a", "a@"}, {"a:1@sha256:x", "a:1@"}};
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        Davit__Common__V1__ServiceSpec s = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
        s.image = str_dup(str_from(v[i][0]));
        s.pull = str_dup(STR("always"));
        spec_pin_image(&s, "sha256:1234");
        assert_string_equal(s.image, v[i][0]); /* no digest */
        spec_pin_image(&s, digest);
        assert_true(str_starts(str_from(s.image), str_from(v[i][1])) && str_ends(str_from(s.image), str_from(digest)));
        assert_string_equal(s.pull, "missing");
        free(s.image);
        free(s.pull);
    }
    /* The longest that is taken has room for it. */
    char longest[SPEC_IMAGE_MAX + 1] = {0};
    Davit__Common__V1__ServiceSpec s = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    memset(longest, 'a', SPEC_IMAGE_MAX - SPEC_PIN_SIZE);
    s.project = s.name = (char *)(uintptr_t)"web";
    s.image = str_dup(str_from(longest));
    assert_int_equal(spec_check(&s, NULL), 0);
    spec_pin_image(&s, digest);
    assert_int_equal(strlen(s.image), SPEC_IMAGE_MAX);
    assert_int_equal(spec_check(&s, NULL), 0);
    free(s.image);
    longest[SPEC_IMAGE_MAX - SPEC_PIN_SIZE] = 'a';
    s.image = longest;
    assert_int_equal(spec_check(&s, NULL), -ERR_INVALID);
}

struct parts {
    Davit__Common__V1__ServiceSpec s;
    Davit__Common__V1__EnvVar env[2];
    Davit__Common__V1__VolumeMount vol[2];
    Davit__Common__V1__PortPublish port[2];
    Davit__Common__V1__HealthCheck health;
    Davit__Common__V1__EnvVar *envs[2];
    Davit__Common__V1__VolumeMount *vols[2];
    Davit__Common__V1__PortPublish *ports[2];
    char *caps[1];
};

#define W(lit) ((char *)(uintptr_t)(lit))

static void fill(struct parts *p)
{
    *p = (struct parts){.s = DAVIT__COMMON__V1__SERVICE_SPEC__INIT, .health = DAVIT__COMMON__V1__HEALTH_CHECK__INIT};
    p->s.project = W("shop");
    p->s.name = W("web");
    p->s.image = W("web:1");
    for (int i = 0; i < 2; i++) {
        davit__common__v1__env_var__init(&p->env[i]);
        davit__common__v1__volume_mount__init(&p->vol[i]);
        davit__common__v1__port_publish__init(&p->port[i]);
        p->envs[i] = &p->env[i];
        p->vols[i] = &p->vol[i];
        p->ports[i] = &p->port[i];
        p->env[i].name = i ? W("B") : W("A");
        p->vol[i].name = W("data");
        p->vol[i].path = i ? W("/b") : W("/a");
        p->port[i].container_port = 80;
        p->port[i].host_port = i ? 8081 : 8080;
    }
    p->s.env = p->envs;
    p->s.volumes = p->vols;
    p->s.ports = p->ports;
    p->s.n_env = p->s.n_volumes = p->s.n_ports = 2;
    p->s.health = &p->health;
    p->health.kind = DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP;
    p->health.path = W("/health");
    p->caps[0] = W("NET_ADMIN");
    p->s.cap_add = p->caps;
    p->s.n_cap_add = 1;
}

/* Refused, and the message begins with the field. */
static void refused(const struct parts *p, const char *field, int line)
{
    struct err err = ERR_INIT;
    if (spec_check(&p->s, &err) != -(int)ERR_INVALID || strncmp(err.msg, field, strlen(field)) != 0)
        fail_msg("line %d: wanted a refusal of %s, got \"%s\"", line, field, err.msg);
}

#define REFUSED(field, ...)                                                                                                      \
    do {                                                                                                                         \
        struct parts p;                                                                                                          \
        fill(&p);                                                                                                                \
        __VA_ARGS__;                                                                                                             \
        refused(&p, field, __LINE__);                                                                                            \
    } while (0)

#define ALLOWED(...)                                                                                                             \
    do {                                                                                                                         \
        struct parts p;                                                                                                          \
        struct err e_ = ERR_INIT;                                                                                                \
        fill(&p);                                                                                                                \
        __VA_ARGS__;                                                                                                             \
        if (spec_check(&p.s, &e_) != 0)                                                                                          \
            fail_msg("line %d: %s", __LINE__, e_.msg);                                                                           \
    } while (0)

static void specs(void **state)
{
    (void)state;
    assert_int_equal(spec_check(NULL, NULL), -(int)ERR_INVALID);
    ALLOWED((void)0);
    REFUSED("project", p.s.project = W(""));
    REFUSED("name", p.s.name = W("Web"));
    REFUSED("name", p.s.name = W("-web"));
    REFUSED("env", p.env[0].name = W("1A"));
    REFUSED("env", p.env[0].name = W("A=B"));
    REFUSED("env", p.env[0].name = W(""));
    REFUSED("env", p.env[1].name = W("A"));
    REFUSED("env.file", p.env[0].file = W("a/b"));
    REFUSED("env.file", p.env[0].file = W(".."));
    REFUSED("env.file", p.env[0].file = W("-a"));
    REFUSED("env.file", p.env[0].file = p.env[1].file = W("tls.key"));
    REFUSED("volumes.path", p.env[0].file = W("tls.key"); p.vol[0].path = W("/run/secrets"));
    REFUSED("volumes.path", p.env[0].file = W("tls.key"); p.vol[0].path = W("/run/secrets/more"));
    ALLOWED(p.env[0].file = W("tls.key"); p.vol[0].path = W("/run/secrets.d"));
    ALLOWED(p.vol[0].path = W("/run/secrets"));
    ALLOWED(p.env[0].file = W("tls_Key-1.pem"); p.env[1].file = W("_x"));
    REFUSED("volumes.name", p.vol[0].name = W("a/b"));
    REFUSED("volumes.path", p.vol[0].path = W("data"));
    REFUSED("volumes.path", p.vol[0].path = W("/"));
    REFUSED("volumes.path", p.vol[0].path = W("/a/../etc"));
    REFUSED("volumes.path", p.vol[0].path = W("/a:ro"));
    REFUSED("volumes.path", p.vol[1].path = W("/a"));
    REFUSED("ports.host_ip", p.port[0].host_ip = W("localhost"));
    REFUSED("ports.container_port", p.port[0].container_port = 0);
    REFUSED("ports.container_port", p.port[0].container_port = 65536);
    REFUSED("ports.host_port", p.port[0].host_port = 65536);
    REFUSED("ports.host_port", p.port[1].host_port = 8080);
    ALLOWED(p.port[1].host_port = 8080, p.port[1].protocol = W("udp"));
    ALLOWED(p.port[0].host_port = p.port[1].host_port = 0);
    REFUSED("ports.protocol", p.port[0].protocol = W("sctp"));
    REFUSED("cpu", p.s.cpu_milli = 9);
    ALLOWED(p.s.cpu_milli = 10);
    REFUSED("memory", p.s.memory_bytes = (6 << 20) - 1);
    ALLOWED(p.s.memory_bytes = 6 << 20);
    REFUSED("pids_limit", p.s.pids_limit = 4194305);
    REFUSED("restart", p.s.restart = W("sometimes"));
    REFUSED("pull", p.s.pull = W("maybe"));
    REFUSED("cap_add", p.caps[0] = W("ALL"));
    ALLOWED(p.caps[0] = W("CAP_SYS_PTRACE"));
    REFUSED("health.path", p.health.path = W("health"));
    REFUSED("health.path", p.health.path = W("/a b"));
    REFUSED("health.port", p.health.port = 65536);
    REFUSED("health.interval", p.health.interval_ms = 99);
    REFUSED("health.timeout", p.health.timeout_ms = 600001);
    REFUSED("health.retries", p.health.retries = 101);
    REFUSED("health.grace", p.health.grace_ms = 3600001);
    REFUSED("health.kind", p.health.kind = (Davit__Common__V1__HealthKind)9);
}

static void spec_limits(void **state)
{
    (void)state;
    static Davit__Common__V1__EnvVar env[SPEC_ENV_MAX + 1];
    static Davit__Common__V1__EnvVar *envs[SPEC_ENV_MAX + 1];
    static char names[SPEC_ENV_MAX + 1][16];
    char *value = mem_zalloc(SPEC_ENV_VALUE_MAX + 2, 1);
    for (int i = 0; i <= SPEC_ENV_MAX; i++) {
        davit__common__v1__env_var__init(&env[i]);
        (void)snprintf(names[i], sizeof(names[i]), "V%d", i);
        env[i].name = names[i];
        envs[i] = &env[i];
    }
    memset(value, 'v', SPEC_ENV_VALUE_MAX);
    ALLOWED(p.s.env = envs, p.s.n_env = SPEC_ENV_MAX);
    REFUSED("env", p.s.env = envs, p.s.n_env = SPEC_ENV_MAX + 1);
    ALLOWED(p.env[0].value = value);
    value[SPEC_ENV_VALUE_MAX] = 'v';
    REFUSED("env", p.env[0].value = value);
    free(value);
}

static void hostnames(void **state)
{
    (void)state;
    char host[HOST_BYTES + 2];
    Davit__Common__V1__Route route[SPEC_ROUTES_MAX + 1], *routes[SPEC_ROUTES_MAX + 1];
    char names[SPEC_ROUTES_MAX + 1][16];
    static const char *const bad[] = {"",     "*.example.com", "Shop.example.com", "shop_1.example.com", "-a.example.com", "a-.example.com",
                                      "a..b", "a.b.",          "10.0.0.1",         "example.1",          "a b",            "[::1]"};
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        davit__common__v1__route__init(&route[i]);
        (void)snprintf(names[i], sizeof(names[i]), "h%zu.example", i);
        route[i].hostname = names[i];
        routes[i] = &route[i];
    }
    ALLOWED(p.s.routes = routes, p.s.n_routes = SPEC_ROUTES_MAX);
    REFUSED("routes", p.s.routes = routes, p.s.n_routes = SPEC_ROUTES_MAX + 1);
    REFUSED("routes.hostname: h0.example is given twice", p.s.routes = routes, p.s.n_routes = 2, route[1].hostname = names[0]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        REFUSED("routes.hostname", p.s.routes = routes, p.s.n_routes = 1, route[0].hostname = W(bad[i]));
    ALLOWED(p.s.routes = routes, p.s.n_routes = 1, route[0].hostname = W("localhost"), route[0].port = 65535);
    ALLOWED(p.s.routes = routes, p.s.n_routes = 1, route[0].hostname = W("1.2.3.4a"));
    REFUSED("routes.port", p.s.routes = routes, p.s.n_routes = 1, route[0].port = 65536);
    REFUSED("routes.port", p.s.routes = routes, p.s.n_routes = 3, route[0].port = 80, route[2].port = 81);
    ALLOWED(p.s.routes = routes, p.s.n_routes = 3, route[0].port = 0, route[2].port = 81);
    route[2].port = 0;
    /* Labels of one letter, to the last byte. */
    for (int i = 0; i < HOST_BYTES; i++)
        host[i] = i % 2 ? '.' : 'a';
    host[HOST_BYTES] = '\0';
    ALLOWED(p.s.routes = routes, p.s.n_routes = 1, route[0].hostname = host);
    host[HOST_BYTES] = '.';
    host[HOST_BYTES - 1] = host[HOST_BYTES - 2] = 'a';
    host[HOST_BYTES + 1] = '\0';
    host[HOST_BYTES] = 'a';
    REFUSED("routes.hostname", p.s.routes = routes, p.s.n_routes = 1, route[0].hostname = host);
}

static void replicas(void **state)
{
    (void)state;
    ALLOWED(p.s.replicas = SPEC_REPLICAS_MAX, p.s.n_ports = 0);
    REFUSED("replicas", p.s.replicas = SPEC_REPLICAS_MAX + 1, p.s.n_ports = 0);
    ALLOWED(p.s.replicas = 1);
    REFUSED("replicas: 2 containers cannot have port 8080", p.s.replicas = 2);
    ALLOWED(p.s.replicas = 2, p.port[0].host_port = p.port[1].host_port = 0); /* each gets a free one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images), cmocka_unit_test(images_get_a_tag), cmocka_unit_test(images_are_pinned), cmocka_unit_test(health_is_written_out),
        cmocka_unit_test(specs),  cmocka_unit_test(spec_limits),      cmocka_unit_test(hostnames),         cmocka_unit_test(replicas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
