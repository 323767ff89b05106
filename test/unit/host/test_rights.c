/* SPDX-License-Identifier: Apache-2.0 */
/* What a service may ask for beyond the default: each right by its name, mounts where they may be, and what of it the owner is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/link/policy.h"
#include "host/work/rights.h"
#include "loop/loop.h"

static struct {
    Davit__Common__V1__ServiceSpec spec;
    Davit__Common__V1__BindMount bind[SPEC_BINDS_MAX + 1], *binds[SPEC_BINDS_MAX + 1];
    Davit__Common__V1__VolumeMount volume, *volumes[1];
    Davit__Common__V1__PortPublish port, *ports[1];
    char *allow[SPEC_ALLOW_MAX + 1], *caps[1];
    struct err err;
} f;

static int reset(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    davit__common__v1__service_spec__init(&f.spec);
    davit__common__v1__volume_mount__init(&f.volume);
    davit__common__v1__port_publish__init(&f.port);
    for (int i = 0; i <= SPEC_BINDS_MAX; i++) {
        davit__common__v1__bind_mount__init(&f.bind[i]);
        f.bind[i].source = (char *)"/srv/data";
        f.bind[i].path = (char *)"/data";
        f.binds[i] = &f.bind[i];
    }
    f.volume.name = (char *)"v";
    f.volume.path = (char *)"/volume";
    f.volumes[0] = &f.volume;
    f.port.container_port = 80;
    f.ports[0] = &f.port;
    f.spec.project = (char *)"p";
    f.spec.name = (char *)"web";
    f.spec.image = (char *)"web:1";
    f.spec.binds = f.binds;
    f.spec.volumes = f.volumes;
    f.spec.ports = f.ports;
    f.spec.allow = f.allow;
    f.spec.cap_add = f.caps;
    return 0;
}

static int check(void)
{
    f.err = ERR_INIT;
    return spec_check(&f.spec, &f.err);
}

static int check_allowed(const char *word)
{
    f.allow[0] = (char *)word;
    f.spec.n_allow = 1;
    int rc = check();
    f.spec.n_allow = 0;
    return rc;
}

/* req: WK-12 */
static void test_each_right_has_a_name(void **state)
{
    static const char *const good[] = {"privileged", "network:host", "pid:host", "ipc:host", "device:/dev/ttyUSB0", "device:/dev/bus/usb",
                                       "security:seccomp=unconfined", "security:apparmor=unconfined", "security:label=type:svirt_t",
                                       "security:no-new-privileges=false", "target:/etc/nginx", "source:/", "source:/etc/ssl"};
    static const char *const bad[] = {"", "Privileged", "privileged:", "network:none", "network:container:x", "pid:1", "device:", "device:/dev",
                                      "device:/dev/../etc", "device:/etc/shadow", "device:/dev/a:/dev/b:rwm", "security:", "security:seccomp={}",
                                      "security:seccomp=/x", "security:apparmor=", "security:label=a b", "target:", "target:/", "target:etc",
                                      "target:/a/../b", "source:srv", "cap:NET_ADMIN", "everything"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (check_allowed(good[i]) != 0)
            fail_msg("%s: %s", good[i], f.err.msg);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (check_allowed(bad[i]) != -ERR_INVALID)
            fail_msg("%s is taken for a right", bad[i]);
    f.allow[0] = f.allow[1] = (char *)"pid:host";
    f.spec.n_allow = 2;
    assert_int_equal(check(), -ERR_INVALID); /* twice */
    f.allow[1] = (char *)"network:host";
    assert_int_equal(check(), 0);
    f.spec.n_ports = 1;
    assert_int_equal(check(), -ERR_INVALID);
}

/* req: WK-12 */
static void test_forbidden_targets_want_their_name(void **state)
{
    static const char *const both[] = {"/proc", "/proc/sys", "/sys", "/sys/fs/cgroup", "/dev", "/dev/shm", "/boot", "/bin", "/bin/sh", "/sbin",
                                       "/lib", "/lib/x", "/lib64", "/usr", "/usr/bin", "/usr/bin/env", "/usr/sbin",
                                       "/usr/lib", "/var", "/etc", "/root",
                                       "/run", "/var/run"};
    static const char *const of_binds[] = {"/etc/nginx", "/root/.ssh", "/run/docker.sock", "/var/run/docker.sock"};
    static const char *const fine[] = {"/data", "/usr/share/nginx/html", "/usr/local/app", "/var/lib/db", "/etcetera", "/opt/app", "/library"};
    AUTO_FREE char *word = NULL;

    (void)state;
    f.spec.n_binds = f.spec.n_volumes = 1;
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        (void)reset(NULL);
        f.spec.n_binds = f.spec.n_volumes = 1;
        f.bind[0].path = (char *)both[i];
        assert_int_equal(check(), -ERR_INVALID);
        assert_non_null(strstr(f.err.hint, both[i]));
        free(word);
        word = str_printf("target:%s", both[i]);
        assert_int_equal(check_allowed(word), 0);
        assert_int_equal(check_allowed("target:/other"), -ERR_INVALID);
        f.bind[0].path = (char *)"/data";
        f.volume.path = (char *)both[i];
        assert_int_equal(check(), -ERR_INVALID);
        assert_int_equal(check_allowed(word), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(of_binds) + ARRAY_LEN(fine); i++) {
        bool ok = i >= ARRAY_LEN(of_binds);
        (void)reset(NULL);
        f.spec.n_volumes = 1;
        f.volume.path = (char *)(ok ? fine[i - ARRAY_LEN(of_binds)] : of_binds[i]);
        assert_int_equal(check(), 0);
        f.spec.n_volumes = 0;
        f.spec.n_binds = 1;
        f.bind[0].path = f.volume.path;
        assert_int_equal(check(), ok ? 0 : -ERR_INVALID);
    }
    f.bind[0].path = f.volume.path = (char *)"/data";
    f.spec.n_volumes = 1;
    assert_int_equal(check(), -ERR_INVALID); /* one place, two mounts */
}

/* req: WK-12 */
static void test_forbidden_sources_want_their_name(void **state)
{
    static const char *const bad[] = {"/", "/etc", "/etc/ssl", "/proc", "/sys", "/dev", "/boot", "/root", "/root/.ssh", "/run", "/run/docker.sock",
                                      "/var", "/var/run", "/var/run/docker.sock", "/var/lib", "/var/lib/docker", "/var/lib/docker/volumes", "/usr",
                                      "/usr/bin", "/bin", "/lib/systemd"};
    static const char *const never[] = {"", "srv", "/srv/", "/srv/../etc", "/srv//x", "/srv/./x", "/srv:x"};
    static const char *const fine[] = {"/srv", "/srv/data", "/srv/site", "/opt/x", "/mnt/disk", "/var/www", "/etcetera", "/var/lib/mydata"};
    AUTO_FREE char *word = NULL;

    (void)state;
    f.spec.n_binds = 1;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        f.bind[0].source = (char *)bad[i];
        assert_int_equal(check(), -ERR_INVALID);
        free(word);
        word = str_printf("source:%s", bad[i]);
        assert_int_equal(check_allowed(word), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(never); i++) {
        f.bind[0].source = (char *)never[i];
        assert_int_equal(check(), -ERR_INVALID);
    }
    for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
        f.bind[0].source = (char *)fine[i];
        assert_int_equal(check(), 0);
    }
}

static void test_limits_of_binds_and_rights(void **state)
{
    static char paths[SPEC_BINDS_MAX + 1][16], words[SPEC_ALLOW_MAX + 1][24];

    (void)state;
    for (int i = 0; i <= SPEC_BINDS_MAX; i++) {
        (void)snprintf(paths[i], sizeof(paths[i]), "/d%d", i);
        (void)snprintf(words[i], sizeof(words[i]), "device:/dev/d%d", i);
        f.bind[i].path = paths[i];
        f.allow[i] = words[i];
    }
    f.spec.n_binds = SPEC_BINDS_MAX;
    f.spec.n_allow = SPEC_ALLOW_MAX;
    assert_int_equal(check(), 0);
    f.spec.n_binds++;
    assert_int_equal(check(), -ERR_INVALID);
    f.spec.n_binds--;
    f.spec.n_allow++;
    assert_int_equal(check(), -ERR_INVALID);
}

/* A server with folders of its own, and an agent whose folder is among them. */
struct server {
    char top[64];
    struct loop *loop;
    struct work w;
    char *own, *data, *link, *policy, *socket;
};

static void server_make(struct server *s)
{
    (void)snprintf(s->top, sizeof(s->top), "/tmp/davit-rights-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    s->own = str_printf("%s/agent", s->top);
    s->data = str_printf("%s/data", s->top);
    s->link = str_printf("%s/data/link", s->top);
    s->policy = str_printf("%s/policy.yaml", s->own);
    s->socket = str_printf("%s/engine/docker.sock", s->top);
    AUTO_FREE char *engine = str_printf("%s/engine", s->top), *addr = str_printf("unix:%s", s->socket);
    assert_int_equal(mkdir(s->own, 0700) | mkdir(s->data, 0700) | mkdir(engine, 0700), 0);
    assert_int_equal(fd_write_file(s->socket, "", 0, 0600, NULL), 0);
    s->loop = loop_new();
    s->w = (struct work){.policy = s->policy};
    assert_int_equal(docker_new(s->loop, addr, &s->w.docker, NULL), 0);
}

static void server_end(struct server *s)
{
    (void)docker_free(s->w.docker);
    (void)loop_free(s->loop);
    assert_int_equal(fd_remove_tree(s->top, NULL), 0);
    free(s->own);
    free(s->data);
    free(s->link);
    free(s->policy);
    free(s->socket);
}

static int ask(struct server *s, const char *source, const char **reason)
{
    f.err = ERR_INIT;
    f.bind[0].source = (char *)source;
    f.spec.n_binds = 1;
    *reason = NULL;
    return rights_sources(&s->w, &f.spec, reason, &f.err);
}

/* req: WK-12 */
static void test_where_a_folder_leads_counts(void **state)
{
    struct server s = {0};
    const char *reason;

    (void)state;
    server_make(&s);
    AUTO_FREE char *missing = str_printf("%s/none", s.top), *inside = str_printf("%s/x", s.own);
    assert_int_equal(ask(&s, s.data, &reason), 0);
    assert_int_equal(ask(&s, missing, &reason), -ERR_NOT_FOUND);
    assert_string_equal(reason, "mount_missing");
    const char *const own[] = {s.own, s.top, s.socket, "/tmp"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        assert_int_equal(ask(&s, own[i], &reason), -ERR_DENIED);
        assert_string_equal(reason, "mount_forbidden");
    }
    assert_int_equal(mkdir(inside, 0700), 0);
    assert_int_equal(ask(&s, inside, &reason), -ERR_DENIED);
    assert_int_equal(symlink("/etc", s.link), 0);
    assert_int_equal(ask(&s, s.link, &reason), -ERR_DENIED);
    /* By its name, that of where it leads. */
    f.spec.n_allow = 1;
    f.allow[0] = s.link;
    assert_int_equal(ask(&s, s.link, &reason), -ERR_DENIED);
    f.allow[0] = (char *)"source:/etc";
    assert_int_equal(ask(&s, s.link, &reason), 0);
    AUTO_FREE char *word = str_printf("source:%s", s.own);
    f.allow[0] = word;
    assert_int_equal(ask(&s, s.own, &reason), 0);
    server_end(&s);
}

/* req: WK-12 */
static void test_the_engine_is_told_what_was_asked_for_and_no_more(void **state)
{
    struct server s = {0};
    struct rights r = {0};
    struct docker_mount mounts[3] = {{0}};
    struct docker_container_spec out = {.network = "davit-p", .n_aliases = 1, .hostname = "web", .no_new_privileges = true, .n_mounts = 1};
    const char *reason = NULL;
    static const char *const words[] = {"pid:host", "ipc:host", "device:/dev/null", "security:seccomp=unconfined", "target:/x", "source:/y"};

    (void)state;
    server_make(&s);
    assert_int_equal(rights_apply(&s.w, &f.spec, &r, mounts, &out, &reason, NULL), 0);
    assert_true(!out.privileged && !out.pid_mode && !out.ipc_mode && out.no_new_privileges && out.n_devices + out.n_security_opts == 0);
    assert_true(out.n_mounts == 1 && out.n_aliases == 1 && strcmp(out.network, "davit-p") == 0);
    rights_release(&r);
    f.bind[0].source = s.data;
    f.bind[0].read_only = true;
    f.spec.n_binds = 1;
    for (; f.spec.n_allow < ARRAY_LEN(words); f.spec.n_allow++)
        f.allow[f.spec.n_allow] = (char *)words[f.spec.n_allow];
    assert_int_equal(rights_apply(&s.w, &f.spec, &r, mounts, &out, &reason, NULL), 0);
    assert_true(!out.privileged && out.no_new_privileges && out.n_mounts == 2 && out.n_aliases == 1);
    assert_string_equal(out.pid_mode, "host");
    assert_string_equal(out.ipc_mode, "host");
    assert_true(out.n_devices == 1 && strcmp(out.devices[0], "/dev/null") == 0);
    assert_true(out.n_security_opts == 1 && strcmp(out.security_opts[0], "seccomp=unconfined") == 0);
    assert_true(mounts[1].type == DOCKER_MOUNT_BIND && mounts[1].read_only && strcmp(mounts[1].source, s.data) == 0);
    rights_release(&r);
    f.allow[0] = (char *)"network:host";
    f.allow[1] = (char *)"privileged";
    f.allow[2] = (char *)"security:no-new-privileges=false";
    f.spec.n_allow = 3;
    f.spec.n_binds = 0;
    out = (struct docker_container_spec){.network = "davit-p", .n_aliases = 1, .hostname = "web", .no_new_privileges = true};
    assert_int_equal(rights_apply(&s.w, &f.spec, &r, mounts, &out, &reason, NULL), 0);
    assert_true(out.privileged && !out.no_new_privileges && out.n_aliases == 0 && !out.hostname && out.n_security_opts == 0);
    assert_string_equal(out.network, "host");
    rights_release(&r);
    server_end(&s);
}

/* req: WK-12 */
static void test_the_owner_is_asked_about_each(void **state)
{
    char **words;

    (void)state;
    f.caps[0] = (char *)"CAP_NET_ADMIN";
    f.spec.n_cap_add = 1;
    f.allow[0] = (char *)"privileged";
    f.allow[1] = (char *)"target:/etc/nginx";
    f.spec.n_allow = 2;
    size_t n = rights_words(&f.spec, &words);
    assert_int_equal(n, 3);
    assert_string_equal(words[0], "cap:NET_ADMIN");
    assert_string_equal(words[1], "privileged");
    assert_string_equal(words[2], "target:/etc/nginx");
    struct policy_ask ask = {.privileged = (const char *const *)words, .n_privileged = n};
    struct policy p;
    const char *reason = NULL;
    static const char allowed[] = "privileged:\n  - cap:NET_ADMIN\n  - privileged\n  - target:/etc/nginx\n  - source:/etc/ssl\n";
    assert_int_equal(policy_parse(STR(allowed), "p", &p, NULL), 0);
    assert_int_equal(policy_judge(&p, "p", &ask, &reason, NULL), 0);
    policy_release(&p);
    assert_int_equal(policy_parse(STR("privileged:\n  - cap:NET_ADMIN\n  - privileged\n"), "p", &p, NULL), 0);
    assert_int_equal(policy_judge(&p, "p", &ask, &reason, NULL), -ERR_DENIED);
    assert_string_equal(reason, "policy_privileged");
    policy_release(&p);
    assert_int_equal(policy_parse(STR("privileged:\n  - target:etc\n"), "p", &p, NULL), -ERR_INVALID);
    for (size_t i = 0; i < n; i++)
        free(words[i]);
    free(words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_each_right_has_a_name, reset),
        cmocka_unit_test_setup(test_forbidden_targets_want_their_name, reset),
        cmocka_unit_test_setup(test_forbidden_sources_want_their_name, reset),
        cmocka_unit_test_setup(test_limits_of_binds_and_rights, reset),
        cmocka_unit_test_setup(test_where_a_folder_leads_counts, reset),
        cmocka_unit_test_setup(test_the_engine_is_told_what_was_asked_for_and_no_more, reset),
        cmocka_unit_test_setup(test_the_owner_is_asked_about_each, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
