/* SPDX-License-Identifier: Apache-2.0 */
/* The pure rules of the control plane: tables of states, addresses, tokens, specs, rates, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/address.h"
#include "control/deployments.h"
#include "control/front.h"
#include "control/inventory.h"
#include "control/servers.h"
#include "spec/spec.h"

/* --- States ----------------------------------------------------------------------------------------------------------------------- */

/* req: CL-71 CL-72 CL-73 */
static void server_states_walked_whole(void **state)
{
    (void)state;
    static const int allowed[][2] = {{SERVER_NONE, SERVER_PENDING},
                                     {SERVER_PENDING, SERVER_ONLINE},
                                     {SERVER_ONLINE, SERVER_OFFLINE},
                                     {SERVER_OFFLINE, SERVER_ONLINE}};
    for (int from = 0; from < SERVER_STATE_MAX; from++)
        for (int to = 0; to < SERVER_STATE_MAX; to++) {
            bool want = false;
            for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
                want = want || (allowed[i][0] == from && allowed[i][1] == to);
            assert_int_equal(server_move_allowed((enum server_state)from, (enum server_state)to), want);
        }
    assert_false(server_move_allowed(SERVER_ONLINE, SERVER_STATE_MAX));
    assert_false(server_move_allowed(SERVER_STATE_MAX, SERVER_ONLINE));
    assert_string_equal(server_state_name(SERVER_OFFLINE), "offline");
    assert_string_equal(server_state_name(SERVER_STATE_MAX), "none");
}

static void deployment_states_walked_whole(void **state)
{
    (void)state;
    /* Rows: from; columns: to, in the order of the enum. */
    static const char *const table[DEPLOYMENT_STATE_MAX] = {
        "01000000", /* none */
        "00111101", /* pending */
        "00011101", /* deploying */
        "00001101", /* health checking */
        "00000011", /* active */
        "00000000", "00000000", "00000000",
    };
    for (int from = 0; from < DEPLOYMENT_STATE_MAX; from++)
        for (int to = 0; to < DEPLOYMENT_STATE_MAX; to++)
            assert_int_equal(deployment_move_allowed((enum deployment_state)from, (enum deployment_state)to),
                             table[from][to] == '1');
    for (int s = 0; s < DEPLOYMENT_STATE_MAX; s++)
        assert_int_equal(deployment_ended((enum deployment_state)s), s >= DEPLOYMENT_ACTIVE);
    assert_false(deployment_move_allowed(DEPLOYMENT_STATE_MAX, DEPLOYMENT_ACTIVE));
}

/* --- Addresses -------------------------------------------------------------------------------------------------------------------- */

static void kinds_of_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum address_kind kind;
    } v[] = {
        {"8.8.8.8", ADDRESS_GLOBAL},
        {"10.1.2.3", ADDRESS_PRIVATE},
        {"172.16.0.1", ADDRESS_PRIVATE},
        {"172.32.0.1", ADDRESS_GLOBAL},
        {"192.168.1.1", ADDRESS_PRIVATE},
        {"100.64.0.1", ADDRESS_TAILNET},
        {"100.127.255.255", ADDRESS_TAILNET},
        {"100.128.0.1", ADDRESS_GLOBAL},
        {"127.0.0.1", ADDRESS_LOCAL},
        {"169.254.1.1", ADDRESS_LOCAL},
        {"0.0.0.0", ADDRESS_NONE},
        {"224.0.0.1", ADDRESS_NONE},
        {"255.255.255.255", ADDRESS_NONE},
        {"203.0.113.5", ADDRESS_PRIVATE},
        {"198.18.0.1", ADDRESS_PRIVATE},
        {"2600::1", ADDRESS_GLOBAL},
        {"2001:db8::1", ADDRESS_PRIVATE},
        {"fd00::1", ADDRESS_PRIVATE},
        {"fd7a:115c:a1e0::1", ADDRESS_TAILNET},
        {"fe80::1", ADDRESS_LOCAL},
        {"::1", ADDRESS_LOCAL},
        {"::", ADDRESS_NONE},
        {"ff02::1", ADDRESS_NONE},
        {"::ffff:10.0.0.1", ADDRESS_PRIVATE},
        {"::ffff:8.8.4.4", ADDRESS_GLOBAL},
        {"", ADDRESS_NONE},
        {"example.com", ADDRESS_NONE},
        {"8.8.8.8:1", ADDRESS_NONE},
        {NULL, ADDRESS_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        if (address_kind_of(v[i].text) != v[i].kind)
            fail_msg("%s: %d", v[i].text, address_kind_of(v[i].text));
}

static void hosts_of_peers(void **state)
{
    (void)state;
    char host[ADDRESS_SIZE];
    address_host("192.0.2.7:52100", host);
    assert_string_equal(host, "192.0.2.7");
    address_host("[2001:db8::7]:443", host);
    assert_string_equal(host, "2001:db8::7");
    address_host("2001:db8::7", host);
    assert_string_equal(host, "2001:db8::7");
    address_host("unix", host);
    assert_string_equal(host, "");
    address_host(NULL, host);
    assert_string_equal(host, "");
}

static char str8[] = "8.8.8.8", str9[] = "9.9.9.9", priv10[] = "10.0.0.5", lan1[] = "192.168.7.7", tail[] = "100.64.3.3",
            running[] = "Running", stopped[] = "Stopped";

/* req: CL-52 */
static void public_address_rule(void **state)
{
    (void)state;
    Davit__Common__V1__SystemInfo sys = DAVIT__COMMON__V1__SYSTEM_INFO__INIT;
    char out[ADDRESS_SIZE];
    address_public("8.8.8.8", NULL, out);
    assert_string_equal(out, "8.8.8.8");
    address_public("10.0.0.1", &sys, out);
    assert_string_equal(out, "");
    sys.looked_up_address = str9;
    address_public("10.0.0.1", &sys, out);
    assert_string_equal(out, "9.9.9.9");
    address_public("8.8.8.8", &sys, out);
    assert_string_equal(out, "8.8.8.8");
    sys.looked_up_address = priv10;
    address_public("", &sys, out);
    assert_string_equal(out, "");
}

/* req: CL-54 */
static void preferred_address_rule(void **state)
{
    (void)state;
    Davit__Common__V1__SystemInfo sys = DAVIT__COMMON__V1__SYSTEM_INFO__INIT;
    Davit__Common__V1__Tailscale ts = DAVIT__COMMON__V1__TAILSCALE__INIT;
    char *lans[] = {lan1};
    char out[ADDRESS_SIZE];
    assert_string_equal(address_preferred("", "", NULL, out), "");
    assert_string_equal(out, "");
    sys.lan_addresses = lans;
    sys.n_lan_addresses = 1;
    assert_string_equal(address_preferred("", "", &sys, out), "lan");
    assert_string_equal(out, "192.168.7.7");
    sys.default_route_address = priv10;
    assert_string_equal(address_preferred("", "", &sys, out), "lan");
    assert_string_equal(out, "10.0.0.5");
    sys.tailscale = &ts;
    ts.installed = 1;
    ts.address = tail;
    ts.state = stopped;
    assert_string_equal(address_preferred("", "", &sys, out), "lan");
    ts.state = running;
    assert_string_equal(address_preferred("", "", &sys, out), "tailnet");
    assert_string_equal(out, "100.64.3.3");
    assert_string_equal(address_preferred("", str8, &sys, out), "public");
    assert_string_equal(address_preferred("10.9.9.9", str8, &sys, out), "user");
    assert_string_equal(out, "10.9.9.9");
}

static void target_by(const char *way, const char *listen, const char *advertise, const char *hostname, const char *own, const char *mode,
                      const char *want)
{
    struct control_options opt = {.link_listen = listen, .advertise = advertise, .hostname = hostname};
    struct buf out = BUF_INIT(256);
    struct err err = ERR_INIT;
    const char *got = NULL;
    int rc = servers_install_target(&opt, way, STR("7442"), own, &got, &out, &err);
    if (mode) {
        assert_int_equal(rc, 0);
        assert_string_equal(got, mode);
        assert_string_equal(buf_cstr(&out), want);
    } else {
        assert_int_equal(rc, -(int)ERR_PRECONDITION);
        assert_non_null(strstr(err.hint, strcmp(way, "tunnel") == 0 ? "--hostname" : "--advertise"));
    }
    buf_release(&out);
}

static void target(const char *listen, const char *advertise, const char *hostname, const char *own, const char *mode, const char *want)
{
    target_by("", listen, advertise, hostname, own, mode, want);
}

/* req: CL-22 */
static void mode_of_the_install_line(void **state)
{
    (void)state;
    target("0.0.0.0:7442", "cp.example.com", NULL, "", "direct", "cp.example.com:7442");
    target("0.0.0.0:7442", "cp.example.com:9000", "x.example.com", "8.8.8.8", "direct", "cp.example.com:9000");
    target("0.0.0.0:7442", "2600::1", NULL, "", "direct", "[2600::1]:7442");
    target("0.0.0.0:7442", "[2600::1]:9000", NULL, "", "direct", "[2600::1]:9000");
    target("0.0.0.0:7442", NULL, "x.example.com", "8.8.8.8", "direct", "8.8.8.8:7442");
    target("0.0.0.0:7442", "", "x.example.com", "100.64.0.9", "direct", "100.64.0.9:7442");
    target("0.0.0.0:7442", NULL, "x.example.com", "", "tunnel", "https://x.example.com");
    target("0.0.0.0:7442", NULL, NULL, "", NULL, NULL);
    target("[::]:7442", NULL, NULL, "8.8.8.8", "direct", "8.8.8.8:7442");
    target("10.0.0.5:7442", NULL, "x.example.com", "8.8.8.8", "direct", "10.0.0.5:7442");
    target("127.0.0.1:7442", NULL, "x.example.com", "8.8.8.8", "tunnel", "https://x.example.com");
    target("127.0.0.1:7442", NULL, NULL, "8.8.8.8", "direct", "127.0.0.1:7442");
    target("127.0.0.1:7442", "cp.example.com", NULL, "", "direct", "cp.example.com:7442");
    /* Both are set up: the user chooses. */
    target("0.0.0.0:7442", "cp.example.org", "davit.example.org", "", "direct", "cp.example.org:7442");
    target_by("tunnel", "0.0.0.0:7442", "cp.example.org", "davit.example.org", "", "tunnel", "https://davit.example.org");
    target_by("direct", "0.0.0.0:7442", "", "davit.example.org", "8.8.4.4", "direct", "8.8.4.4:7442");
    target_by("direct", "0.0.0.0:7442", "", "davit.example.org", "", NULL, NULL);
    target_by("tunnel", "0.0.0.0:7442", "cp.example.org", "", "", NULL, NULL);
}

static void names_from_hosts(void **state)
{
    (void)state;
    char out[SERVER_NAME_SIZE];
    server_label("Web_1.example.com", out);
    assert_string_equal(out, "web-1");
    server_label("--", out);
    assert_string_equal(out, "server");
    server_label("", out);
    assert_string_equal(out, "server");
    server_label("a-very-long-name-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on", out);
    assert_true(strlen(out) <= 56 && str_is_label(str_from(out)));
}

/* --- Specs ------------------------------------------------------------------------------------------------------------------------ */

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
        {"a", "a:latest"}, {"a:1", "a:1"}, {"h:5000/a", "h:5000/a:latest"}, {"a@sha256:x", "a@sha256:x"}};
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        Davit__Common__V1__ServiceSpec s = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
        s.image = str_dup(str_from(v[i][0]));
        spec_complete(&s);
        assert_string_equal(s.image, v[i][1]);
        free(s.image);
    }
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

/* --- Inventory -------------------------------------------------------------------------------------------------------------------- */

/* req: CL-16 */
static void usage_and_rates(void **state)
{
    (void)state;
    assert_int_equal(usage_rate(3000, 1000, 3 * USEC_SEC, USEC_SEC), 1000);
    assert_int_equal(usage_rate(1000, 3000, 3 * USEC_SEC, USEC_SEC), 0);
    assert_int_equal(usage_rate(3000, 1000, USEC_SEC, USEC_SEC), 0);
    assert_true(usage_rate(UINT64_MAX, 0, 2 * USEC_SEC, USEC_SEC) > 0);

    struct inventory inv = {0};
    Davit__Common__V1__Container k = DAVIT__COMMON__V1__CONTAINER__INIT;
    Davit__Common__V1__Container *ks[] = {&k};
    Davit__Link__V1__ContainerStates states = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    Davit__Common__V1__Usage u = DAVIT__COMMON__V1__USAGE__INIT;
    Davit__Common__V1__Usage *us[] = {&u};
    Davit__Link__V1__UsageBatch batch = DAVIT__LINK__V1__USAGE_BATCH__INIT;
    struct usage last, before;
    inventory_init(&inv);
    batch.samples = us;
    batch.n_samples = 1;
    u.container_id = W("c1");
    inventory_usage(&inv, &batch); /* nobody knows it */
    assert_int_equal(inventory_last(&inv, "c1", &last, &before), 1);
    k.id = W("c1");
    k.state = W("running");
    states.full = 1;
    states.containers = ks;
    states.n_containers = 1;
    inventory_containers(&inv, &states);
    assert_int_equal(inventory_running(&inv), 1);
    for (unsigned i = 1; i <= INVENTORY_SAMPLES + 5; i++) {
        u.at_us = i * USEC_SEC;
        u.net_rx_bytes = i * 100;
        inventory_usage(&inv, &batch);
    }
    assert_int_equal(inventory_last(&inv, "c1", &last, &before), 0);
    assert_int_equal(last.net_rx, (INVENTORY_SAMPLES + 5) * 100);
    assert_int_equal(usage_rate(last.net_rx, before.net_rx, last.at_us, before.at_us), 100);
    /* The list replaced: the ring of what is gone goes as well. */
    states.n_containers = 0;
    inventory_containers(&inv, &states);
    assert_null(inventory_find(&inv, "c1"));
    assert_int_equal(inventory_last(&inv, "c1", &last, &before), 1);
    inventory_release(&inv);
}

static void inventory_has_a_limit(void **state)
{
    (void)state;
    struct inventory inv = {0};
    Davit__Common__V1__Container k = DAVIT__COMMON__V1__CONTAINER__INIT;
    Davit__Common__V1__Container *ks[] = {&k};
    Davit__Link__V1__ContainerStates states = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    char id[16];
    inventory_init(&inv);
    k.id = id;
    states.containers = ks;
    states.n_containers = 1;
    for (int i = 0; i < INVENTORY_CONTAINERS_MAX + 3; i++) {
        (void)snprintf(id, sizeof(id), "c%d", i);
        inventory_containers(&inv, &states);
    }
    assert_int_equal(hmap_count(inv.containers), INVENTORY_CONTAINERS_MAX);
    assert_int_equal(inv.dropped, 3);
    inventory_release(&inv);
}

static void server_ids_of_certificates(void **state)
{
    (void)state;
    assert_string_equal(authz_server_id("davit://server/0f3e8b1e-1111-4222-8333-444455556666"),
                        "0f3e8b1e-1111-4222-8333-444455556666");
    assert_null(authz_server_id("davit://server/"));
    assert_null(authz_server_id("davit://server/../cli"));
    assert_null(authz_server_id("davit://server/0f3e8b1e-1111-4222-8333-44445555666X"));
    assert_null(authz_server_id("davit://cli"));
    assert_null(authz_server_id(""));
}

/* req: CL-37 */
static void what_the_front_serves(void **state)
{
    (void)state;
    static const char *const good[] = {"release.json", "release.sig", "install.sh", "SHA256SUMS", "davit-0.1.0-linux-amd64.tar", "sub/release.json"};
    static const char *const bad[] = {"", ".", "..", "../release.json", "sub/../release.json", "/release.json", "sub//release.json", "sub/",
                                      "a/b/install.sh", ".a/install.sh", "release.key", "davit-x", "davit-%2e.tar", "davit-x y.tar"};
    struct str dir, name;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(front_release_path(str_from(good[i]), &dir, &name));
    assert_true(str_eq(dir, STR("sub")) && str_eq(name, STR("release.json")));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(front_release_path(str_from(bad[i]), &dir, &name));
    char host[257];
    memset(host, 'a', sizeof(host));
    assert_true(front_host_ok((struct str){host, 255}));
    assert_false(front_host_ok((struct str){host, 256}));
    assert_true(front_host_ok(STR("[2001:db8::1]:7440")));
    assert_false(front_host_ok(STR("")));
    assert_false(front_host_ok(STR("a'b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_states_walked_whole),
        cmocka_unit_test(deployment_states_walked_whole),
        cmocka_unit_test(kinds_of_addresses),
        cmocka_unit_test(hosts_of_peers),
        cmocka_unit_test(public_address_rule),
        cmocka_unit_test(preferred_address_rule),
        cmocka_unit_test(mode_of_the_install_line),
        cmocka_unit_test(names_from_hosts),
        cmocka_unit_test(images),
        cmocka_unit_test(images_get_a_tag),
        cmocka_unit_test(specs),
        cmocka_unit_test(spec_limits),
        cmocka_unit_test(usage_and_rates),
        cmocka_unit_test(inventory_has_a_limit),
        cmocka_unit_test(server_ids_of_certificates),
        cmocka_unit_test(what_the_front_serves),
    };
    return cmocka_run_group_tests_name("control_rules", tests, NULL, NULL);
}
