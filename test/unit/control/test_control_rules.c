/* SPDX-License-Identifier: Apache-2.0 */
/* The pure rules of the control plane: tables of states, addresses, tokens, rates, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/servers/address.h"
#include "control/work/deployments.h"
#include "control/web/front.h"
#include "control/servers/inventory.h"
#include "control/servers/servers.h"

#define W(lit) ((char *)(uintptr_t)(lit))

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

/* req: CX-4 */
static void deployment_states_walked_whole(void **state)
{
    (void)state;
    /* Rows: from; columns: to, in the order of the enum. */
    static const char *const table[DEPLOYMENT_STATE_MAX] = {
        "0100000000", /* none */
        "0011110101", /* pending */
        "0001110101", /* deploying */
        "0000110101", /* health checking */
        "0000001110", /* active */
        "0000000000", "0000000000", "0000000000", "0000000000", "0000000000",
    };
    for (int from = 0; from < DEPLOYMENT_STATE_MAX; from++)
        for (int to = 0; to < DEPLOYMENT_STATE_MAX; to++)
            assert_int_equal(deployment_move_allowed((enum deployment_state)from, (enum deployment_state)to),
                             table[from][to] == '1');
    for (int s = 0; s < DEPLOYMENT_STATE_MAX; s++)
        assert_int_equal(deployment_ended((enum deployment_state)s), s >= DEPLOYMENT_ACTIVE);
    static const char *const names[DEPLOYMENT_STATE_MAX] = {"none",   "pending",    "deploying", "health_checking", "active",
                                                            "failed", "superseded", "removed",   "rolled_back",     "cancelled"};
    for (int s = 0; s < DEPLOYMENT_STATE_MAX; s++)
        assert_string_equal(deployment_state_name((enum deployment_state)s), names[s]);
    assert_string_equal(deployment_state_name(DEPLOYMENT_STATE_MAX), "none");
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
        cmocka_unit_test(usage_and_rates),
        cmocka_unit_test(inventory_has_a_limit),
        cmocka_unit_test(server_ids_of_certificates),
        cmocka_unit_test(what_the_front_serves),
    };
    return cmocka_run_group_tests_name("control_rules", tests, NULL, NULL);
}
