/* SPDX-License-Identifier: Apache-2.0 */
/* test_check — what the agent refuses of a service, whoever asks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host/work/deploy.h"
#include "spec/spec.h"

struct fixture {
    Davit__Link__V1__Deploy msg;
    Davit__Common__V1__ServiceSpec spec;
    Davit__Common__V1__VolumeMount volume[2], *volumes[2];
    Davit__Common__V1__PortPublish port, *ports[1];
    Davit__Common__V1__EnvVar env, *envs[1];
    Davit__Common__V1__HealthCheck health;
    char *caps[1];
};

static struct fixture f;

static int reset(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    davit__link__v1__deploy__init(&f.msg);
    davit__common__v1__service_spec__init(&f.spec);
    davit__common__v1__port_publish__init(&f.port);
    davit__common__v1__env_var__init(&f.env);
    davit__common__v1__health_check__init(&f.health);
    for (int i = 0; i < 2; i++) {
        davit__common__v1__volume_mount__init(&f.volume[i]);
        f.volumes[i] = &f.volume[i];
        f.volume[i].name = (char *)"data";
    }
    f.volume[0].path = (char *)"/data";
    f.volume[1].path = (char *)"/more";
    f.port.container_port = 80;
    f.ports[0] = &f.port;
    f.env.name = (char *)"A";
    f.envs[0] = &f.env;
    f.spec.project = (char *)"p";
    f.spec.name = (char *)"web";
    f.spec.image = (char *)"registry.test:5000/a/b:1";
    f.spec.volumes = f.volumes;
    f.spec.n_volumes = 2;
    f.spec.ports = f.ports;
    f.spec.n_ports = 1;
    f.spec.env = f.envs;
    f.spec.n_env = 1;
    f.spec.health = &f.health;
    f.spec.cap_add = f.caps;
    f.msg.deployment_id = (char *)"0f9c7d1e-0000-4000-8000-000000000000";
    f.msg.spec = &f.spec;
    return 0;
}

static int check(void)
{
    struct err err = ERR_INIT;
    int rc = deploy_check(&f.msg, &err);
    assert_true(rc == 0 || err.msg[0] != '\0');
    return rc;
}

static void test_accepts_what_is_right(void **state)
{
    (void)state;
    assert_int_equal(check(), 0);
    f.spec.restart = (char *)"on-failure";
    f.spec.pull = (char *)"always";
    f.port.host_ip = (char *)"::1";
    f.port.protocol = (char *)"udp";
    f.volume[0].path = (char *)"/etc/app";
    f.caps[0] = (char *)"NET_ADMIN";
    f.spec.n_cap_add = 1;
    assert_int_equal(check(), 0);
}

static void test_refuses_mounts_on_system_paths(void **state)
{
    static const char *const bad[] = {"/",         "/proc",  "/proc/sys", "/sys", "/dev",  "/dev/shm",
                                      "/etc",      "/run",   "/var/run",  "data", "/a//b", "/a/",
                                      "/a/../etc", "/./etc", "/etc/..",   "",     "/a:ro", "//"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        f.volume[0].path = (char *)bad[i];
        assert_int_equal(check(), -ERR_INVALID);
    }
    f.volume[0].path = (char *)"/more";
    assert_int_equal(check(), -ERR_INVALID);
    f.volume[0].path = (char *)"/develop";
    assert_int_equal(check(), 0);
    f.volume[0].name = (char *)"../x";
    assert_int_equal(check(), -ERR_INVALID);
}

static void test_refuses_names_that_are_none(void **state)
{
    (void)state;
    f.msg.deployment_id = (char *)"1234567";
    assert_int_equal(check(), -ERR_INVALID);
    f.msg.deployment_id = (char *)"12345678/../x";
    assert_int_equal(check(), -ERR_INVALID);
    (void)reset(NULL);
    f.spec.image = (char *)"";
    assert_int_equal(check(), -ERR_INVALID);
    f.spec.image = (char *)"a b";
    assert_int_equal(check(), -ERR_INVALID);
    (void)reset(NULL);
    f.env.name = (char *)"A=B";
    assert_int_equal(check(), -ERR_INVALID);
    f.env.name = (char *)"";
    assert_int_equal(check(), -ERR_INVALID);
}

static void test_refuses_ports_and_rights(void **state)
{
    static const char *const caps[] = {"ALL", "sys_admin", "", "SYS ADMIN", "A1"};

    (void)state;
    f.port.container_port = 65536;
    assert_int_equal(check(), -ERR_INVALID);
    (void)reset(NULL);
    f.port.host_ip = (char *)"localhost";
    assert_int_equal(check(), -ERR_INVALID);
    (void)reset(NULL);
    f.port.protocol = (char *)"sctp";
    assert_int_equal(check(), -ERR_INVALID);
    (void)reset(NULL);
    f.spec.restart = (char *)"sometimes";
    assert_int_equal(check(), -ERR_INVALID);
    (void)reset(NULL);
    f.spec.n_cap_add = 1;
    for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
        f.caps[0] = (char *)caps[i];
        assert_int_equal(check(), -ERR_INVALID);
    }
}

static void test_bounds_of_health(void **state)
{
    (void)state;
    f.health.kind = DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP;
    f.health.path = (char *)"/health?x=1";
    f.health.retries = 100;
    assert_int_equal(check(), 0);
    f.health.retries = 101;
    assert_int_equal(check(), -ERR_INVALID);
    f.health.retries = 3;
    f.health.path = (char *)"health";
    assert_int_equal(check(), -ERR_INVALID);
    f.health.path = (char *)"/a b";
    assert_int_equal(check(), -ERR_INVALID);
    f.health.path = (char *)"/a\r\nHost: x";
    assert_int_equal(check(), -ERR_INVALID);
    f.health.kind = (Davit__Common__V1__HealthKind)77;
    assert_int_equal(check(), -ERR_INVALID);
}

static void test_limits_of_lists(void **state)
{
    Davit__Common__V1__PortPublish *ports[SPEC_PORTS_MAX + 1];
    Davit__Common__V1__EnvVar **envs = mem_zalloc(SPEC_ENV_MAX + 1, sizeof(*envs));

    (void)state;
    for (size_t i = 0; i <= SPEC_PORTS_MAX; i++)
        ports[i] = &f.port;
    for (size_t i = 0; i <= SPEC_ENV_MAX; i++) {
        envs[i] = mem_zalloc(1, sizeof(**envs));
        davit__common__v1__env_var__init(envs[i]);
        envs[i]->name = str_printf("A%zu", i);
    }
    f.spec.ports = ports;
    f.spec.env = envs;
    f.spec.n_ports = SPEC_PORTS_MAX;
    f.spec.n_env = SPEC_ENV_MAX;
    assert_int_equal(check(), 0);
    f.spec.n_ports++;
    assert_int_equal(check(), -ERR_INVALID);
    f.spec.n_ports--;
    f.spec.n_env++;
    assert_int_equal(check(), -ERR_INVALID);
    for (size_t i = 0; i <= SPEC_ENV_MAX; i++) {
        free(envs[i]->name);
        free(envs[i]);
    }
    free(envs);
}

static void test_tail_of_a_text(void **state)
{
    (void)state;
    char *s = text_tail(STR("ab\xff\x01\tc\xc3\xa4\n"), 100);
    assert_string_equal(s, "ab??\tc\xc3\xa4\n");
    free(s);
    s = text_tail(STR("aa\xc3\xa4zz"), 3); /* the cut falls into a character */
    assert_string_equal(s, "zz");
    free(s);
    s = text_tail(STR("x\xe2\x82"), 10);
    assert_string_equal(s, "x??");
    free(s);
    s = text_tail(STR(""), 10);
    assert_string_equal(s, "");
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_accepts_what_is_right, reset),
        cmocka_unit_test_setup(test_refuses_mounts_on_system_paths, reset),
        cmocka_unit_test_setup(test_refuses_names_that_are_none, reset),
        cmocka_unit_test_setup(test_refuses_ports_and_rights, reset),
        cmocka_unit_test_setup(test_bounds_of_health, reset),
        cmocka_unit_test_setup(test_limits_of_lists, reset),
        cmocka_unit_test(test_tail_of_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
