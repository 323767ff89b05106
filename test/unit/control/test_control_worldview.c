/* SPDX-License-Identifier: Apache-2.0 */
/* The worldview: which events follow from a report, what a lost link is made up for by, and that a snapshot is nobody's but its holder's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/watch/worldview.h"

#define W(lit) ((char *)(uintptr_t)(lit))

typedef Davit__Common__V1__Container container_message;
typedef Davit__Common__V1__Sandbox sandbox_message;

static struct control *control_new(void)
{
    struct control *c = NEW(struct control);
    c->loop = loop_new();
    clock_fake(1000 * USEC_SEC, 1000 * USEC_SEC);
    list_init(&c->servers);
    changes_init(&c->changes, c->loop);
    c->bus = bus_new(c->loop, 0);
    c->world = worldview_new(c);
    struct server *s = NEW(struct server);
    s->refs = 1;
    s->control = c;
    list_init(&s->changed.node);
    list_init(&s->sampled.node);
    list_init(&s->commands);
    inventory_init(&s->inventory);
    timer_init(&s->offline, c->loop, NULL, NULL);
    list_init(&s->node);
    list_push(&c->servers, &s->node);
    c->n_servers = 1;
    (void)str_copy(s->id, sizeof(s->id), STR("00000000-0000-0000-0000-000000000001"));
    (void)str_copy(s->name, sizeof(s->name), STR("oak"));
    return c;
}

static struct server *server_of(struct control *c)
{
    return list_first(&c->servers, struct server, node);
}

static void control_free(struct control *c)
{
    struct server *s = server_of(c);
    s->gone = true;
    list_remove(&s->node);
    list_remove(&s->changed.node);
    server_unref(s);
    c->world = worldview_free(c->world);
    c->bus = bus_free(c->bus);
    changes_release(&c->changes);
    loop_free(c->loop);
    free(c);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
}

/* All that was told behind *seq, as "container.start session.broken": compared, and *seq moved on. */
static void assert_told(struct control *c, uint64_t *seq, const char *wanted)
{
    char told[1024] = "";
    size_t n = 0;
    for (; *seq < bus_last(c->bus); ++*seq) {
        const Davit__Control__V1__Event *m = bus_at(c->bus, *seq + 1)->m;
        n += (size_t)snprintf(told + n, sizeof(told) - n, "%s%s.%s%s", n ? " " : "", m->kind, m->action, m->terminal ? "!" : "");
    }
    assert_string_equal(told, wanted);
}

static const Davit__Control__V1__Event *last(struct control *c)
{
    return bus_at(c->bus, bus_last(c->bus))->m;
}

static container_message container(const char *id, const char *state)
{
    container_message k = DAVIT__COMMON__V1__CONTAINER__INIT;
    k.id = W(id);
    k.name = W("web");
    k.project = W("shop");
    k.service = W("web");
    k.state = W(state);
    k.started_at_us = 5;
    return k;
}

/* As a link does it. */
static void report(struct control *c, bool full, container_message *k, const char *removed)
{
    Davit__Link__V1__ContainerStates m = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    char *gone = W(removed);
    m.full = full;
    m.containers = &k;
    m.n_containers = k != NULL;
    m.removed_ids = &gone;
    m.n_removed_ids = removed != NULL;
    worldview_containers(server_of(c), &m);
    inventory_containers(&server_of(c)->inventory, &m);
}

/* req: CW-26 */
static void the_life_of_a_container(void **state)
{
    (void)state;
    struct control *c = control_new();
    uint64_t seq = 0;
    container_message k = container("a", "created");
    report(c, false, &k, NULL);
    assert_told(c, &seq, "container.create");
    k.state = W("running");
    report(c, false, &k, NULL);
    assert_told(c, &seq, "container.start");
    report(c, false, &k, NULL);
    assert_told(c, &seq, "");
    k.name = W("web-old");
    report(c, false, &k, NULL);
    assert_string_equal(last(c)->detail, "web");
    assert_told(c, &seq, "container.rename");
    k.state = W("paused");
    report(c, false, &k, NULL);
    k.state = W("running");
    k.health = W("unhealthy");
    report(c, false, &k, NULL);
    assert_told(c, &seq, "container.pause container.unpause container.health");
    k.state = W("exited");
    k.exit_code = 3;
    report(c, false, &k, NULL);
    assert_int_equal(last(c)->exit_code, 3);
    assert_true(last(c)->exited);
    assert_string_equal(last(c)->server, "oak");
    assert_told(c, &seq, "container.stop!");
    report(c, false, NULL, "a");
    assert_told(c, &seq, "container.destroy!");
    report(c, false, NULL, "a");
    assert_told(c, &seq, "");
    control_free(c);
}

/* req: CW-30 */
static void what_was_missed_while_a_link_was_down_is_made_up(void **state)
{
    (void)state;
    struct control *c = control_new();
    uint64_t seq = 0;
    container_message k = container("a", "running");
    report(c, true, &k, NULL);
    assert_true(last(c)->resync);
    assert_told(c, &seq, "container.create container.start");
    report(c, true, &k, NULL); /* nothing was missed */
    assert_told(c, &seq, "");
    k.started_at_us = 6; /* it was restarted */
    report(c, true, &k, NULL);
    assert_told(c, &seq, "container.stop! container.start");
    container_message other = container("b", "exited"); /* in place of it */
    report(c, true, &other, NULL);
    assert_false(bus_at(c->bus, seq + 1)->m->exited); /* nobody knows how */
    assert_told(c, &seq, "container.stop! container.destroy! container.create container.stop!");
    report(c, true, NULL, NULL);
    assert_told(c, &seq, "container.destroy!");
    control_free(c);
}

/* req: CW-29 */
static void what_nobody_made_for_davit_is_no_event(void **state)
{
    (void)state;
    struct control *c = control_new();
    uint64_t seq = 0;
    container_message k = container("a", "running");
    k.foreign = true;
    report(c, false, &k, NULL);
    report(c, true, NULL, NULL);
    report(c, false, &k, NULL);
    report(c, false, NULL, "a");
    assert_told(c, &seq, "");
    k.foreign = false;
    k.role = W("ingress"); /* Davit's own is managed too */
    report(c, false, &k, NULL);
    report(c, false, NULL, "a");
    assert_told(c, &seq, "container.create container.start container.stop! container.destroy!");
    control_free(c);
}

/* One report may hold two states of a container, the later one last. */
static void two_states_in_one_report_are_compared_with_each_other(void **state)
{
    (void)state;
    struct control *c = control_new();
    uint64_t seq = 0;
    container_message a = container("a", "running"), b = container("a", "exited"), d = container("a", "exited");
    container_message *all[] = {&a, &b, &d};
    Davit__Link__V1__ContainerStates m = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    m.containers = all;
    m.n_containers = 3;
    worldview_containers(server_of(c), &m);
    inventory_containers(&server_of(c)->inventory, &m);
    assert_told(c, &seq, "container.create container.start container.stop!");
    control_free(c);
}

static void servers_come_and_go(void **state)
{
    (void)state;
    struct control *c = control_new();
    uint64_t seq = 0;
    struct server *s = server_of(c);
    assert_int_equal(server_set_state(s, SERVER_PENDING, "new"), 0);
    assert_int_equal(server_set_state(s, SERVER_ONLINE, ""), 0);
    assert_int_equal(server_set_state(s, SERVER_OFFLINE, "no heartbeat"), 0);
    assert_string_equal(last(c)->reason, "no heartbeat");
    worldview_server_gone(s);
    assert_told(c, &seq, "server.added server.online server.offline server.removed!");
    control_free(c);
}

/* --- Sandboxes ------------------------------------------------------------------------------------------------------------------------ */

static sandbox_message sandbox(int how)
{
    sandbox_message m = DAVIT__COMMON__V1__SANDBOX__INIT;
    m.id = W("sb-1");
    m.name = W("ada");
    m.project = W("lab");
    m.server_id = W("00000000-0000-0000-0000-000000000001");
    m.state = (Davit__Common__V1__SandboxState)how;
    m.trust = DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_UNREGISTERED;
    return m;
}

#define SB(name) DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_##name
#define TRUST(name) DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_##name

/* req: CW-26 */
static void a_sandbox_from_its_start_to_its_end(void **state)
{
    (void)state;
    struct control *c = control_new();
    uint64_t seq = 0;
    sandbox_message m = sandbox(SB(CREATING));
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "sandbox.create");
    m.state = SB(STARTING);
    worldview_sandbox(c, NULL, &m);
    assert_int_equal(last(c)->attempts, 1);
    assert_told(c, &seq, "sandbox.start session.connecting");
    m.session = true;
    m.trust = TRUST(REGISTERED);
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "session.connected registry.registered");
    m.step = W("fetch");
    m.step_index = 1;
    m.step_total = 2;
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "exec.started exec.step_started");
    clock_fake(1002 * USEC_SEC, 1002 * USEC_SEC);
    m.step = W("build");
    m.step_index = 2;
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "exec.step_completed exec.step_started");
    assert_int_equal(bus_at(c->bus, seq - 1)->m->duration_ns, 2000000000);
    assert_string_equal(bus_at(c->bus, seq - 1)->m->step_name, "fetch");
    m.state = SB(RUNNING);
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "exec.step_completed exec.completed sandbox.running");
    worldview_sandbox(c, &m, &m);
    assert_told(c, &seq, "");
    m.session = false;
    m.message = W("reset by peer");
    worldview_sandbox(c, NULL, &m);
    assert_string_equal(last(c)->detail, "reset by peer");
    m.session = true;
    worldview_sandbox(c, NULL, &m);
    assert_int_equal(last(c)->attempts, 2);
    assert_told(c, &seq, "session.broken session.connected");
    m.session = false;
    m.state = SB(STOPPED);
    m.exit_code = 7;
    worldview_sandbox(c, NULL, &m);
    assert_int_equal(last(c)->exit_code, 7);
    assert_told(c, &seq, "sandbox.stop!");
    worldview_sandbox(c, &m, NULL);
    assert_told(c, &seq, "registry.evicted sandbox.destroy!");
    worldview_sandbox(c, &m, NULL); /* whoever knows it says so */
    assert_told(c, &seq, "registry.evicted sandbox.destroy!");
    control_free(c);
}

/* req: CW-26 */
static void verdicts_and_failures_are_terminal(void **state)
{
    (void)state;
    struct control *c = control_new();
    uint64_t seq = 0;
    sandbox_message m = sandbox(SB(STARTING));
    worldview_sandbox(c, NULL, &m);
    m.trust = TRUST(UNTRUSTED);
    m.state = SB(FAILED);
    m.reason = W("cert_thumbprint_mismatch");
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "sandbox.create sandbox.start session.connecting registry.untrusted! sandbox.failed!");
    assert_string_equal(last(c)->reason, "cert_thumbprint_mismatch");
    m = sandbox(SB(STARTING));
    worldview_sandbox(c, NULL, &m);
    m.state = SB(FAILED);
    m.reason = W("session_failed");
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "sandbox.start session.connecting session.failed! sandbox.failed!");
    m = sandbox(SB(STARTING));
    m.session = true;
    worldview_sandbox(c, NULL, &m);
    m.state = SB(FAILED);
    m.reason = W("step_failed");
    m.step = W("fetch");
    m.step_index = m.step_total = 1;
    m.exit_code = 2;
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "sandbox.start session.connecting session.connected exec.started exec.step_started exec.step_failed! sandbox.failed!");
    assert_int_equal(bus_at(c->bus, seq - 1)->m->exit_code, 2);
    worldview_server_gone(server_of(c));
    assert_told(c, &seq, "sandbox.destroy! server.removed!");
    control_free(c);
}

/* A report that skips what came between: it began anew. */
static void a_restart_that_was_missed_is_made_up(void **state)
{
    (void)state;
    struct control *c = control_new();
    uint64_t seq = 0;
    sandbox_message m = sandbox(SB(RUNNING));
    m.session = true;
    m.started_at_us = 10;
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "sandbox.create sandbox.start session.connecting session.connected exec.started exec.completed sandbox.running");
    m.started_at_us = 20;
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "sandbox.stop! sandbox.start session.connecting session.connected exec.started exec.completed sandbox.running");
    control_free(c);
}

static void one_sandbox_beyond_the_limit_is_not_followed(void **state)
{
    (void)state;
    struct control *c = control_new();
    char id[32];
    uint64_t seq = 0;
    sandbox_message m = sandbox(SB(STOPPED));
    m.id = id;
    for (unsigned i = 0; i < WORLDVIEW_SANDBOXES_MAX; i++) {
        (void)snprintf(id, sizeof(id), "sb-%u", i);
        worldview_sandbox(c, NULL, &m);
    }
    seq = bus_last(c->bus);
    (void)snprintf(id, sizeof(id), "sb-more");
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "");
    (void)snprintf(id, sizeof(id), "sb-0");
    worldview_sandbox(c, &m, NULL);
    assert_told(c, &seq, "sandbox.destroy!");
    (void)snprintf(id, sizeof(id), "sb-more");
    worldview_sandbox(c, NULL, &m);
    assert_told(c, &seq, "sandbox.create sandbox.stop!");
    control_free(c);
}

/* --- The snapshot --------------------------------------------------------------------------------------------------------------------- */

/* req: CW-27 CW-28 */
static void a_snapshot_is_a_deep_copy_with_its_number(void **state)
{
    (void)state;
    struct control *c = control_new();
    Davit__Control__V1__GetStateResponse *a = NULL, *b = NULL;
    container_message k = container("a", "running"), foreign = container("f", "running");
    sandbox_message m = sandbox(SB(RUNNING));
    foreign.foreign = true;
    report(c, false, &k, NULL);
    report(c, false, &foreign, NULL);
    m.session = true;
    m.trust = TRUST(REGISTERED);
    worldview_sandbox(c, NULL, &m);
    assert_int_equal(worldview_state(c, NULL, "", &a, NULL), 0);
    assert_int_equal(a->sequence, bus_last(c->bus));
    assert_int_equal(a->n_servers, 1);
    assert_int_equal(a->n_containers, 1);
    assert_int_equal(a->n_sandboxes, 1);
    assert_string_equal(a->sandboxes[0]->session, "connected");
    assert_string_equal(a->sandboxes[0]->exec, "completed");
    assert_int_equal(a->sandboxes[0]->sandbox->trust, TRUST(REGISTERED));
    /* Changing the copy changes nothing. */
    a->containers[0]->state[0] = 'X';
    a->sandboxes[0]->sandbox->name[0] = 'X';
    a->sandboxes[0]->session[0] = 'X';
    a->servers[0]->name[0] = 'X';
    a->sandboxes[0]->attempts = 99;
    assert_int_equal(worldview_state(c, server_of(c), "", &b, NULL), 0);
    assert_string_equal(b->containers[0]->state, "running");
    assert_string_equal(b->sandboxes[0]->sandbox->name, "ada");
    assert_string_equal(b->sandboxes[0]->session, "connected");
    assert_string_equal(b->servers[0]->name, "oak");
    assert_int_equal(b->sandboxes[0]->attempts, 1);
    /* And what changes later changes no copy. */
    k.state = W("exited");
    report(c, false, &k, NULL);
    worldview_sandbox(c, &m, NULL);
    assert_string_equal(b->containers[0]->state, "running");
    assert_string_equal(b->sandboxes[0]->sandbox->name, "ada");
    assert_true(b->sequence < bus_last(c->bus));
    rpc_message_free(a);
    rpc_message_free(b);
    assert_int_equal(worldview_state(c, NULL, "lab", &a, NULL), 0);
    assert_int_equal(a->n_containers + a->n_sandboxes, 0);
    assert_int_equal(a->sequence, bus_last(c->bus));
    rpc_message_free(a);
    control_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_life_of_a_container),
        cmocka_unit_test(what_was_missed_while_a_link_was_down_is_made_up),
        cmocka_unit_test(what_nobody_made_for_davit_is_no_event),
        cmocka_unit_test(two_states_in_one_report_are_compared_with_each_other),
        cmocka_unit_test(servers_come_and_go),
        cmocka_unit_test(a_sandbox_from_its_start_to_its_end),
        cmocka_unit_test(verdicts_and_failures_are_terminal),
        cmocka_unit_test(a_restart_that_was_missed_is_made_up),
        cmocka_unit_test(one_sandbox_beyond_the_limit_is_not_followed),
        cmocka_unit_test(a_snapshot_is_a_deep_copy_with_its_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
