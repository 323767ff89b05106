/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads against an agent that speaks the link by hand: deployments, lists, actions, stats, health of servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/link/commands.h"
#include "control/link/links.h"
#include "control_fixture.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)
#define WORK         (&davit_control_v1_workload_service)

static Davit__Control__V1__ListServicesResponse *services(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__ListServicesRequest r = DAVIT__CONTROL__V1__LIST_SERVICES_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    CHECK_OK(fixture_call(f, WORK, "ListServices", &r.base, &m, &err));
    return (Davit__Control__V1__ListServicesResponse *)m;
}

static void deployments_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    ProtobufCMessage *m = NULL;
    work_connect(f, &a, 1, 0);
    Davit__Control__V1__DeployResponse *one = work_deploy(f, "web", false);
    work_obey(&a, "c1", one->deployment_id);
    Davit__Control__V1__ListServicesResponse *l = services(f);
    CHECK(l->n_services == 1 && l->services[0]->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_ACTIVE);
    CHECK_STR(l->services[0]->image, "web:latest");
    CHECK(l->services[0]->server_online && l->services[0]->n_containers == 1);
    CHECK_STR(l->services[0]->active_deployment_id, one->deployment_id);
    (void)rpc_message_free(l);

    /* The same spec while it runs: nothing is done. */
    Davit__Control__V1__DeployResponse *same = work_deploy(f, "web", true);
    CHECK(same->unchanged);
    CHECK_STR(same->deployment_id, one->deployment_id);
    (void)rpc_message_free(same);
    Davit__Control__V1__DeployResponse *two = work_deploy(f, "web:2", true);
    CHECK(!two->unchanged);
    work_obey(&a, NULL, NULL);
    Davit__Control__V1__ListDeploymentsRequest r = DAVIT__CONTROL__V1__LIST_DEPLOYMENTS_REQUEST__INIT;
    r.project = W("shop");
    CHECK_OK(fixture_call(f, WORK, "ListDeployments", &r.base, &m, &err));
    const Davit__Control__V1__ListDeploymentsResponse *d = (const Davit__Control__V1__ListDeploymentsResponse *)m;
    CHECK(d->n_deployments == 2);
    CHECK(d->deployments[0]->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_ACTIVE);
    CHECK(d->deployments[1]->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_SUPERSEDED);
    /* Names of variables are shown, values are not. */
    CHECK_STR(d->deployments[0]->spec->env[0]->name, "KEY");
    CHECK_STR(d->deployments[0]->spec->env[0]->value, "");
    (void)rpc_message_free(m);
    (void)rpc_message_free(one);
    (void)rpc_message_free(two);

    /* Another server does not take the service over. */
    Davit__Control__V1__CreateServerRequest cs = DAVIT__CONTROL__V1__CREATE_SERVER_REQUEST__INIT;
    cs.name = W("other");
    CHECK_OK(fixture_call(f, &davit_control_v1_server_service, "CreateServer", &cs.base, &m, &err));
    (void)rpc_message_free(m);
    Davit__Control__V1__DeployRequest dr = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    spec.project = W("shop");
    spec.name = W("web");
    spec.image = W("web:2");
    dr.spec = &spec;
    dr.server = W("other");
    CHECK(fixture_call(f, WORK, "Deploy", &dr.base, &m, &err) == -(int)ERR_PRECONDITION && err.hint[0]);
    spec.name = W("Web!");
    CHECK(fixture_call(f, WORK, "Deploy", &dr.base, &m, &err) == -(int)ERR_INVALID && strncmp(err.msg, "name:", 5) == 0);
    agent_close(&a);
}

static void deployments(void **state)
{
    (void)state;
    fixture_run(deployments_body);
}

/* --- Actions ---------------------------------------------------------------------------------------------------------------------- */

struct pending_call {
    struct fixture *f;
    const char *method;
    const ProtobufCMessage *request;
    ProtobufCMessage *answer;
    struct err err;
    int rc;
    struct fiber *fiber;
};

static void pending_run(void *arg)
{
    struct pending_call *p = arg;
    p->rc = fixture_call(p->f, WORK, p->method, p->request, &p->answer, &p->err);
}

static void begin(struct pending_call *p)
{
    CHECK(fiber_spawn(p->f->loop, "caller", pending_run, p, &p->fiber) == 0);
}

static void end(struct pending_call *p)
{
    CHECK(fiber_join(p->fiber, SOON) == 0);
    p->fiber = fiber_unref(p->fiber);
}

/* What the agent could not do comes back as its failure; nobody answering is a deadline. */
static void bad_actions(struct agent *a, struct pending_call *p, Davit__Control__V1__ControlServiceRequest *stop)
{
    struct err err = ERR_INIT;
    begin(p);
    Davit__Link__V1__ControlMessage *m = GET(a, COMMAND);
    agent_result(a, m->command, "Docker does not answer");
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(a, RESULT_ACK));
    end(p);
    CHECK(p->rc == -(int)ERR_UNAVAILABLE && strstr(p->err.msg, "Docker does not answer"));
    stop->wait_s = 1;
    begin(p);
    end(p);
    CHECK(p->rc == -(int)ERR_DEADLINE);
    (void)rpc_message_free(GET(a, COMMAND));
    stop->action = W("explode");
    begin(p);
    end(p);
    CHECK(p->rc == -(int)ERR_INVALID);
    stop->action = W("start");
    stop->service = W("nothing");
    begin(p);
    end(p);
    CHECK(p->rc == -(int)ERR_NOT_FOUND && p->err.hint[0]);
}

static void actions_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    work_connect(f, &a, 1, 0);
    Davit__Control__V1__DeployResponse *one = work_deploy(f, "web", false);
    work_obey(&a, "c1", one->deployment_id);

    Davit__Control__V1__ControlServiceRequest stop = DAVIT__CONTROL__V1__CONTROL_SERVICE_REQUEST__INIT;
    stop.project = W("shop");
    stop.service = W("web");
    stop.action = W("stop");
    struct pending_call p = {.f = f, .method = "ControlService", .request = &stop.base};
    begin(&p);
    Davit__Link__V1__ControlMessage *m = GET(&a, COMMAND);
    CHECK(m && m->command->action->action == DAVIT__LINK__V1__ACTION__ACTION_STOP && m->command->deadline_us > clock_real());
    agent_result(&a, m->command, NULL);
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(&a, RESULT_ACK));
    end(&p);
    CHECK(p.rc == 0);
    CHECK_STR(((Davit__Control__V1__ControlServiceResponse *)p.answer)->outcome, "done");
    (void)rpc_message_free(p.answer);

    bad_actions(&a, &p, &stop);
    Davit__Control__V1__RemoveServiceRequest rm = DAVIT__CONTROL__V1__REMOVE_SERVICE_REQUEST__INIT;
    rm.project = W("shop");
    rm.service = W("web");
    rm.volumes = 1;
    p = (struct pending_call){.f = f, .method = "RemoveService", .request = &rm.base};
    begin(&p);
    m = GET(&a, COMMAND);
    CHECK(m && m->command->remove_service->volumes);
    agent_result(&a, m->command, NULL);
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(&a, RESULT_ACK));
    end(&p);
    CHECK(p.rc == 0);
    (void)rpc_message_free(p.answer);
    Davit__Control__V1__ListServicesResponse *l = services(f);
    CHECK(l->n_services == 0);
    (void)rpc_message_free(l);
    (void)rpc_message_free(one);
    agent_close(&a);
}

/* req: CL-84 */
static void actions(void **state)
{
    (void)state;
    fixture_run(actions_body);
}

/* A deployment that is commanded while the removal is at work is newer than it, and outlives it. */
static void remove_then_deploy_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    work_connect(f, &a, 1, 0);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, NULL, NULL);
    Davit__Control__V1__RemoveServiceRequest rm = DAVIT__CONTROL__V1__REMOVE_SERVICE_REQUEST__INIT;
    rm.project = W("shop");
    rm.service = W("web");
    struct pending_call p = {.f = f, .method = "RemoveService", .request = &rm.base};
    begin(&p);
    Davit__Link__V1__ControlMessage *m = GET(&a, COMMAND);
    Davit__Control__V1__DeployResponse *two = work_deploy(f, "web:2", false);
    agent_result(&a, m->command, NULL);
    (void)rpc_message_free(m);
    end(&p);
    CHECK(p.rc == 0);
    (void)rpc_message_free(p.answer);
    Davit__Control__V1__ListServicesResponse *l = services(f);
    CHECK(l->n_services == 1 && l->services[0]->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_PENDING);
    CHECK_STR(l->services[0]->active_deployment_id, "");
    (void)rpc_message_free(l);
    m = GET(&a, COMMAND);
    CHECK_STR(m->command->deploy->deployment_id, two->deployment_id);
    (void)rpc_message_free(GET(&a, RESULT_ACK)); /* of the removal */
    agent_result(&a, m->command, NULL);
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(&a, RESULT_ACK));
    l = services(f);
    CHECK(l->n_services == 1);
    CHECK_STR(l->services[0]->active_deployment_id, two->deployment_id);
    (void)rpc_message_free(l);
    (void)rpc_message_free(two);
    agent_close(&a);
}

static void remove_then_deploy(void **state)
{
    (void)state;
    fixture_run(remove_then_deploy_body);
}

static int deploy_env_of(struct fixture *f, size_t bytes, const char *user, struct err *err)
{
    Davit__Control__V1__DeployRequest r = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    Davit__Common__V1__RegistryAuth auth = DAVIT__COMMON__V1__REGISTRY_AUTH__INIT;
    Davit__Common__V1__EnvVar env[32], *envs[32];
    char name[32][16];
    ProtobufCMessage *m = NULL;
    spec.project = W("shop");
    spec.name = W("large");
    spec.image = W("web");
    spec.env = envs;
    AUTO_FREE char *value = mem_zalloc(64 * 1024 + 1, 1);
    memset(value, 'x', 64 * 1024);
    for (; spec.n_env < bytes / (64 * 1024); spec.n_env++) {
        size_t i = spec.n_env;
        davit__common__v1__env_var__init(&env[i]);
        (void)snprintf(name[i], sizeof(name[i]), "N%zu", i);
        env[i].name = name[i];
        env[i].value = value;
        envs[i] = &env[i];
    }
    auth.username = W(user);
    r.spec = &spec;
    r.registry_auth = *user ? &auth : NULL;
    int rc = fixture_call(f, WORK, "Deploy", &r.base, &m, err);
    (void)rpc_message_free(m);
    return rc;
}

/* What a server cannot take is refused, and nothing waits behind it. */
static void large_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    work_connect(f, &a, 1, 0);
    AUTO_FREE char *user = mem_zalloc(COMMAND_AUTH_MAX + 1, 1);
    memset(user, 'u', COMMAND_AUTH_MAX);
    CHECK(deploy_env_of(f, 1024 * 1024, "", &err) == -(int)ERR_EXHAUSTED && strstr(err.msg, "a server takes"));
    CHECK(deploy_env_of(f, 64 * 1024, user, &err) == -(int)ERR_EXHAUSTED && strstr(err.msg, "credentials"));
    user[COMMAND_AUTH_MAX - 16] = '\0';
    CHECK_OK(deploy_env_of(f, 15 * 64 * 1024, user, &err));
    Davit__Link__V1__ControlMessage *m = GET(&a, COMMAND);
    CHECK(m->command->seq == 1 && m->command->deploy->spec->n_env == 15);
    (void)rpc_message_free(m);
    agent_close(&a);
}

static void large(void **state)
{
    (void)state;
    fixture_run(large_body);
}

/* An agent whose clock is an hour ahead: a command of one minute is not late there. */
static void wrong_clock_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    work_connect(f, &a, 1, 0);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, NULL, NULL);
    servers_local(f->c)->skew = (int64_t)USEC_HOUR;
    Davit__Control__V1__ControlServiceRequest stop = DAVIT__CONTROL__V1__CONTROL_SERVICE_REQUEST__INIT;
    stop.project = W("shop");
    stop.service = W("web");
    stop.action = W("stop");
    struct pending_call p = {.f = f, .method = "ControlService", .request = &stop.base};
    begin(&p);
    Davit__Link__V1__ControlMessage *m = GET(&a, COMMAND);
    CHECK(m->command->deadline_us > clock_real() + USEC_HOUR && m->command->deadline_us < clock_real() + USEC_HOUR + 2 * USEC_MINUTE);
    agent_result(&a, m->command, NULL);
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(&a, RESULT_ACK));
    end(&p);
    CHECK(p.rc == 0);
    (void)rpc_message_free(p.answer);
    agent_close(&a);
}

static void wrong_clock(void **state)
{
    (void)state;
    fixture_run(wrong_clock_body);
}

static void forget_body(struct fixture *f)
{
    struct agent a;
    work_connect(f, &a, 1, 0);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, NULL, NULL);
    agent_close(&a);
    Davit__Control__V1__RemoveServiceRequest rm = DAVIT__CONTROL__V1__REMOVE_SERVICE_REQUEST__INIT;
    rm.project = W("shop");
    rm.service = W("web");
    struct pending_call p = {.f = f, .method = "RemoveService", .request = &rm.base};
    fixture_until(work_offline, f); /* before that it may come back and take the command */
    begin(&p);
    end(&p);
    CHECK(p.rc == -(int)ERR_UNAVAILABLE && strstr(p.err.hint, "--forget"));
    (void)rpc_message_free(work_deploy(f, "web:2", false)); /* waits for the server */
    rm.forget = 1;
    begin(&p);
    end(&p);
    CHECK(p.rc == 0);
    (void)rpc_message_free(p.answer);
    Davit__Control__V1__ListServicesResponse *l = services(f);
    CHECK(l->n_services == 0);
    (void)rpc_message_free(l);
    /* What had not reached the server does not when it returns, not even through a restart. */
    struct err err = ERR_INIT;
    fixture_restart(f);
    work_connect(f, &a, 2, 1);
    Davit__Control__V1__DeployResponse *three = work_deploy(f, "web:3", false);
    Davit__Link__V1__ControlMessage *m = GET(&a, COMMAND);
    CHECK_STR(m->command->deploy->deployment_id, three->deployment_id);
    (void)rpc_message_free(m);
    (void)rpc_message_free(three);
    agent_close(&a);
}

static void forget(void **state)
{
    (void)state;
    fixture_run(forget_body);
}

/* --- Rows that cannot be written --------------------------------------------------------------------------------------------------- */

static bool is_clean(void *arg)
{
    struct fixture *f = arg;
    return !servers_local(f->c)->dirty && !f->c->saving;
}

static void dirty_body(struct fixture *f)
{
    struct agent a;
    work_connect(f, &a, 1, 0);
    fixture_until(is_clean, f);
    fixture_sql(f, "CREATE TRIGGER full BEFORE UPDATE ON servers BEGIN SELECT RAISE(ABORT, 'no room'); END");
    server_touch(servers_local(f->c));
    CHECK(fiber_sleep(500 * USEC_MSEC) == 0);
    CHECK(servers_local(f->c)->dirty && f->c->saving); /* it is tried again, without another change */
    fixture_sql(f, "DROP TRIGGER full");
    fixture_until(is_clean, f);
    agent_close(&a);
}

static void dirty(void **state)
{
    (void)state;
    fixture_run(dirty_body);
}

/* --- Stats and health ------------------------------------------------------------------------------------------------------------- */

static void send_usage(struct agent *a, const char *container, uint64_t at_s, uint64_t rx, uint64_t disk_free)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__UsageBatch b = DAVIT__LINK__V1__USAGE_BATCH__INIT;
    Davit__Common__V1__Usage u = DAVIT__COMMON__V1__USAGE__INIT;
    Davit__Common__V1__Usage *us[] = {&u};
    u.container_id = W(container);
    u.at_us = at_s * USEC_SEC;
    u.net_rx_bytes = rx;
    u.memory_bytes = 4096;
    u.disk_total_bytes = 100ULL << 30;
    u.disk_free_bytes = disk_free;
    b.samples = us;
    b.n_samples = 1;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_USAGE;
    m.usage = &b;
    CHECK(agent_put(a, &m) == 0);
}

static bool two_samples(void *arg)
{
    struct fixture *f = arg;
    struct usage last, before;
    return inventory_last(&servers_local(f->c)->inventory, "c1", &last, &before) == 0 && last.at_us != before.at_us;
}

static void health_is(struct fixture *f, const char *health, const char *reason)
{
    struct server_view v;
    server_describe(servers_local(f->c), &v);
    CHECK_STR(v.m.health, health);
    CHECK(reason ? v.m.n_health_reasons && strstr(v.m.health_reasons[0], reason) : v.m.n_health_reasons == 0);
}

static void stats_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    ProtobufCMessage *m = NULL;
    work_connect(f, &a, 1, 0);
    health_is(f, "ok", NULL);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, "c1", "d1");
    send_usage(&a, "", 1, 0, 1ULL << 30);
    send_usage(&a, "c1", 1, 1000, 0);
    send_usage(&a, "c1", 3, 5000, 0);
    fixture_until(two_samples, f);
    Davit__Control__V1__StatsRequest r = DAVIT__CONTROL__V1__STATS_REQUEST__INIT;
    /* As somebody who watches already: then nothing is waited for. */
    servers_local(f->c)->watched_until = deadline_in(USEC_MINUTE);
    CHECK_OK(fixture_call(f, WORK, "Stats", &r.base, &m, &err));
    const Davit__Control__V1__StatsResponse *s = (const Davit__Control__V1__StatsResponse *)m;
    CHECK(s->n_rows == 2);
    CHECK_STR(s->rows[0]->container_name, "");
    CHECK_STR(s->rows[1]->service, "web");
    CHECK(s->rows[1]->net_rx_rate == 2000 && s->rows[1]->usage->memory_bytes == 4096);
    (void)rpc_message_free(m);
    r.service = W("web");
    CHECK_OK(fixture_call(f, WORK, "Stats", &r.base, &m, &err));
    CHECK(((const Davit__Control__V1__StatsResponse *)m)->n_rows == 1);
    (void)rpc_message_free(m);
    for (unsigned i = 0; i < 2; i++) {
        Davit__Link__V1__ControlMessage *asked = GET(&a, USAGE_WATCH);
        CHECK(asked && asked->usage_watch->interval_ms && asked->usage_watch->for_ms > asked->usage_watch->interval_ms);
        (void)rpc_message_free(asked);
    }

    health_is(f, "warning", "disk low");
    send_usage(&a, "", 2, 0, 50ULL << 30);
    Davit__Link__V1__AgentMessage am = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Heartbeat h = DAVIT__LINK__V1__HEARTBEAT__INIT;
    Davit__Common__V1__SystemInfo sys = DAVIT__COMMON__V1__SYSTEM_INFO__INIT;
    sys.docker_error = W("connection refused");
    h.system = &sys;
    h.clock_us = clock_real();
    am.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HEARTBEAT;
    am.heartbeat = &h;
    CHECK(agent_put(&a, &am) == 0);
    (void)rpc_message_free(GET(&a, HEARTBEAT_ACK));
    for (int i = 0; !*text(servers_local(f->c)->system->docker_error); i++)
        CHECK(i < 100 && fiber_sleep(20 * USEC_MSEC) == 0);
    health_is(f, "warning", "Docker does not answer: connection refused");
    sys.docker_error = W("");
    sys.docker_version = W("20.10");
    h.clock_us = clock_real() - 120 * USEC_SEC;
    CHECK(agent_put(&a, &am) == 0);
    for (int i = 0; servers_local(f->c)->skew > -60 * (int64_t)USEC_SEC; i++)
        CHECK(i < 100 && fiber_sleep(20 * USEC_MSEC) == 0);
    health_is(f, "warning", "its clock is 1");
    agent_close(&a);
}

/* req: CL-16 CL-57 */
static void stats(void **state)
{
    (void)state;
    fixture_run(stats_body);
}

static bool is_warned(struct fixture *f, const char *text)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__GetStatusRequest r = DAVIT__CONTROL__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    bool found = false;
    CHECK_OK(fixture_call(f, &davit_control_v1_status_service, "GetStatus", &r.base, &m, &err));
    const Davit__Control__V1__GetStatusResponse *s = (const Davit__Control__V1__GetStatusResponse *)m;
    for (size_t i = 0; i < s->n_warnings; i++)
        found = found || strstr(s->warnings[i], text);
    (void)rpc_message_free(m);
    return found;
}

/* More than are named, with the longest names there are: the text is whole, with what to do at its end. */
static void unkept_at_the_limit(struct fixture *f)
{
    char p[64] = "", n[64] = "";
    memset(p, 'a', 63);
    memset(n, 'a', 62);
    for (char last = 'b'; last <= 'e'; last++) {
        AUTO_FREE char *sql = str_printf("INSERT INTO services (project, name, server_id, newest, active, updated_us) SELECT '%s', '%s%c',"
                                         " server_id, newest, active, updated_us FROM services WHERE project = 'shop'", p, n, last);
        fixture_sql(f, sql);
    }
    AUTO_FREE char *text = str_printf("5 services of an agent of before (%s/%sb, %s/%sc, %s/%sd, ...): not healed and not scaled until the"
                                      " next davit deploy --force", p, n, p, n, p, n);
    CHECK(is_warned(f, text));
    fixture_sql(f, "DELETE FROM services WHERE project <> 'shop'");
}

/* A service that no agent keeps is named until it is deployed anew. */
static void unkept_body(struct fixture *f)
{
    static const char one[] = "1 service of an agent of before (shop/web): not healed";
    struct agent a;
    work_connect(f, &a, 1, 0);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, NULL, NULL);
    CHECK(!is_warned(f, one));
    /* What the migration makes of a deployment that was active before agents keep what they deploy. */
    fixture_sql(f, "UPDATE deployments SET activated_us = created_us");
    CHECK(is_warned(f, one));
    unkept_at_the_limit(f);
    (void)rpc_message_free(work_deploy(f, "web:2", false));
    work_obey(&a, NULL, NULL);
    CHECK(!is_warned(f, one));
    agent_close(&a);
}

/* req: WK-16 */
static void unkept(void **state)
{
    (void)state;
    fixture_run(unkept_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deployments),
        cmocka_unit_test(actions),
        cmocka_unit_test(remove_then_deploy),
        cmocka_unit_test(wrong_clock),
        cmocka_unit_test(large),
        cmocka_unit_test(forget),
        cmocka_unit_test(dirty),
        cmocka_unit_test(stats),
        cmocka_unit_test(unkept),
    };
    return cmocka_run_group_tests_name("control_workloads", tests, NULL, NULL);
}
