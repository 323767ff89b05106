/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads against an agent that speaks the link by hand: deployments, lists, actions, logs under credit, stats, health of servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/commands.h"
#include "control/links.h"
#include "control_fixture.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)
#define WORK         (&davit_control_v1_workload_service)

static bool is_online(void *arg)
{
    struct fixture *f = arg;
    return servers_local(f->c) && servers_local(f->c)->state == SERVER_ONLINE;
}

static void connect_agent(struct fixture *f, struct agent *a, uint64_t epoch, uint64_t last)
{
    struct err err = ERR_INIT;
    CHECK_OK(agent_open(f, a, NULL, &err));
    agent_hello(a, epoch, last);
    Davit__Link__V1__ControlMessage *m = GET(a, WELCOME);
    CHECK(m);
    (void)rpc_message_free(m);
    agent_heartbeat(a);
    fixture_until(is_online, f);
}

static Davit__Control__V1__DeployResponse *deploy(struct fixture *f, const char *image, bool if_changed)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__DeployRequest r = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    Davit__Common__V1__EnvVar env = DAVIT__COMMON__V1__ENV_VAR__INIT;
    Davit__Common__V1__EnvVar *envs[] = {&env};
    ProtobufCMessage *m = NULL;
    spec.project = W("shop");
    spec.name = W("web");
    spec.image = W(image);
    env.name = W("KEY");
    env.value = W("s3cret");
    spec.env = envs;
    spec.n_env = 1;
    r.spec = &spec;
    r.if_changed = if_changed;
    CHECK_OK(fixture_call(f, WORK, "Deploy", &r.base, &m, &err));
    return (Davit__Control__V1__DeployResponse *)m;
}

/* Takes the next command and answers it with success. */
static void obey(struct agent *a, const char *container, const char *deployment)
{
    struct err err = ERR_INIT;
    Davit__Link__V1__ControlMessage *m = GET(a, COMMAND);
    CHECK(m);
    if (container)
        agent_container(a, container, "shop", "web", deployment);
    agent_result(a, m->command, NULL);
    (void)rpc_message_free(m);
    m = GET(a, RESULT_ACK);
    CHECK(m);
    (void)rpc_message_free(m);
}

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
    connect_agent(f, &a, 1, 0);
    Davit__Control__V1__DeployResponse *one = deploy(f, "web", false);
    obey(&a, "c1", one->deployment_id);
    Davit__Control__V1__ListServicesResponse *l = services(f);
    CHECK(l->n_services == 1 && l->services[0]->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_ACTIVE);
    CHECK_STR(l->services[0]->image, "web:latest");
    CHECK(l->services[0]->server_online && l->services[0]->n_containers == 1);
    CHECK_STR(l->services[0]->active_deployment_id, one->deployment_id);
    (void)rpc_message_free(l);

    /* The same spec while it runs: nothing is done. */
    Davit__Control__V1__DeployResponse *same = deploy(f, "web", true);
    CHECK(same->unchanged);
    CHECK_STR(same->deployment_id, one->deployment_id);
    (void)rpc_message_free(same);
    Davit__Control__V1__DeployResponse *two = deploy(f, "web:2", true);
    CHECK(!two->unchanged);
    obey(&a, NULL, NULL);
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
    connect_agent(f, &a, 1, 0);
    Davit__Control__V1__DeployResponse *one = deploy(f, "web", false);
    obey(&a, "c1", one->deployment_id);

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

static void forget_body(struct fixture *f)
{
    struct agent a;
    connect_agent(f, &a, 1, 0);
    (void)rpc_message_free(deploy(f, "web", false));
    obey(&a, NULL, NULL);
    agent_close(&a);
    Davit__Control__V1__RemoveServiceRequest rm = DAVIT__CONTROL__V1__REMOVE_SERVICE_REQUEST__INIT;
    rm.project = W("shop");
    rm.service = W("web");
    struct pending_call p = {.f = f, .method = "RemoveService", .request = &rm.base};
    for (int i = 0; servers_local(f->c)->link; i++)
        CHECK(i < 100 && fiber_sleep(20 * USEC_MSEC) == 0);
    begin(&p);
    end(&p);
    CHECK(p.rc == -(int)ERR_UNAVAILABLE && strstr(p.err.hint, "--forget"));
    rm.forget = 1;
    begin(&p);
    end(&p);
    CHECK(p.rc == 0);
    (void)rpc_message_free(p.answer);
    Davit__Control__V1__ListServicesResponse *l = services(f);
    CHECK(l->n_services == 0);
    (void)rpc_message_free(l);
}

static void forget(void **state)
{
    (void)state;
    fixture_run(forget_body);
}

/* --- Logs ------------------------------------------------------------------------------------------------------------------------- */

static void send_logs(struct agent *a, uint64_t stream, uint64_t from_ns, size_t n, size_t size)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__LogBatch b = DAVIT__LINK__V1__LOG_BATCH__INIT;
    Davit__Common__V1__LogEntry *e = mem_zalloc(n, sizeof(*e));
    Davit__Common__V1__LogEntry **list = mem_zalloc(n, sizeof(*list));
    uint8_t *line = mem_zalloc(size + 1, 1);
    memset(line, 'x', size);
    for (size_t i = 0; i < n; i++) {
        davit__common__v1__log_entry__init(&e[i]);
        e[i].stream = i % 2 ? DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDERR : DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDOUT;
        e[i].at_ns = from_ns + i;
        e[i].line = (ProtobufCBinaryData){size, line};
        list[i] = &e[i];
    }
    b.stream_id = stream;
    b.entries = list;
    b.n_entries = n;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_LOGS;
    m.logs = &b;
    CHECK(agent_put(a, &m) == 0);
    free(line);
    free(list);
    free(e);
}

static void end_logs(struct agent *a, uint64_t stream)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__LogEnd e = DAVIT__LINK__V1__LOG_END__INIT;
    e.stream_id = stream;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_LOG_END;
    m.log_end = &e;
    CHECK(agent_put(a, &m) == 0);
}

static struct rpc_stream *open_logs(struct fixture *f, bool follow, int64_t tail)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s = NULL;
    Davit__Control__V1__LogsRequest r = DAVIT__CONTROL__V1__LOGS_REQUEST__INIT;
    r.project = W("shop");
    r.service = W("web");
    r.follow = follow;
    r.tail = tail;
    CHECK_OK(rpc_stream_open(f->api, WORK, "Logs", USEC_INFINITY, &s, &err));
    CHECK_OK(rpc_stream_put(s, &r.base, SOON, &err));
    rpc_stream_half_close(s);
    return s;
}

/* Entries of the next answer that has some; notices are passed over. -1: the end. */
static int next_entries(struct rpc_stream *s, uint64_t *ret_last_ns)
{
    struct err err = ERR_INIT;
    for (;;) {
        ProtobufCMessage *m = NULL;
        int rc = rpc_stream_get(s, SOON, &m, &err);
        if (rc != 0)
            return -1;
        const Davit__Control__V1__LogsResponse *l = (const Davit__Control__V1__LogsResponse *)m;
        int n = (int)l->n_entries;
        if (n)
            *ret_last_ns = l->entries[n - 1]->at_ns;
        (void)rpc_message_free(m);
        if (n)
            return n;
    }
}

static void logs_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    uint64_t at = 0;
    connect_agent(f, &a, 1, 0);
    (void)rpc_message_free(deploy(f, "web", false));
    obey(&a, "c1", "d1");
    struct rpc_stream *s = open_logs(f, true, 10);
    Davit__Link__V1__ControlMessage *m = GET(&a, LOG_OPEN);
    CHECK(m && m->log_open->tail == 10 && m->log_open->follow && m->log_open->credit_bytes > 0);
    CHECK_STR(m->log_open->container_id, "c1");
    send_logs(&a, m->log_open->stream_id, 1000, 4, 10);
    (void)rpc_message_free(m);
    CHECK(next_entries(s, &at) == 4 && at == 1003);
    m = GET(&a, LOG_CREDIT);
    CHECK(m && m->log_credit->bytes == 40);
    (void)rpc_message_free(m);

    /* The link is lost: the caller stays, and the next link is asked for what comes behind the last entry. */
    agent_close(&a);
    connect_agent(f, &a, 2, 1);
    m = GET(&a, LOG_OPEN);
    CHECK(m && m->log_open->since_ns == 1003 && m->log_open->tail == -1);
    send_logs(&a, m->log_open->stream_id, 1004, 1, 10);
    CHECK(next_entries(s, &at) == 1 && at == 1004);
    (void)rpc_message_free(GET(&a, LOG_CREDIT));

    /* Another container takes over. */
    Davit__Link__V1__AgentMessage gone = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__ContainerStates states = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    char *removed[] = {W("c1")};
    states.removed_ids = removed;
    states.n_removed_ids = 1;
    gone.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CONTAINERS;
    gone.containers = &states;
    end_logs(&a, m->log_open->stream_id);
    (void)rpc_message_free(m);
    CHECK(agent_put(&a, &gone) == 0);
    agent_container(&a, "c2", "shop", "web", "d2");
    m = GET(&a, LOG_OPEN);
    CHECK(m);
    CHECK_STR(m->log_open->container_id, "c2");
    (void)rpc_message_free(m);
    /* The caller goes: the agent is told to stop. */
    (void)rpc_stream_close(s);
    m = GET(&a, LOG_CLOSE);
    CHECK(m);
    (void)rpc_message_free(m);
    agent_close(&a);
}

/* req: CL-15 */
static void logs(void **state)
{
    (void)state;
    fixture_run(logs_body);
}

static void logs_end_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    uint64_t at = 0;
    connect_agent(f, &a, 1, 0);
    (void)rpc_message_free(deploy(f, "web", false));
    obey(&a, "c1", "d1");
    struct rpc_stream *s = open_logs(f, false, -1);
    Davit__Link__V1__ControlMessage *m = GET(&a, LOG_OPEN);
    send_logs(&a, m->log_open->stream_id, 1, 3, 5);
    end_logs(&a, m->log_open->stream_id);
    (void)rpc_message_free(m);
    CHECK(next_entries(s, &at) == 3);
    CHECK(next_entries(s, &at) == -1);
    (void)rpc_stream_close(s);
    agent_close(&a);
    /* Without an agent, and for what is not there: told at once. */
    for (int i = 0; servers_local(f->c)->link; i++)
        CHECK(i < 100 && fiber_sleep(20 * USEC_MSEC) == 0);
    s = open_logs(f, false, -1);
    ProtobufCMessage *none = NULL;
    CHECK(rpc_stream_get(s, SOON, &none, &err) == -(int)ERR_UNAVAILABLE);
    (void)rpc_stream_close(s);
}

static void logs_end(void **state)
{
    (void)state;
    fixture_run(logs_end_body);
}

/* A caller that does not read: the agent gets no more credit than what has gone out, and memory stays bounded. */
static void backpressure_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    uint64_t at = 0;
    connect_agent(f, &a, 1, 0);
    (void)rpc_message_free(deploy(f, "web", false));
    obey(&a, "c1", "d1");
    struct rpc_stream *s = open_logs(f, true, -1);
    Davit__Link__V1__ControlMessage *m = GET(&a, LOG_OPEN);
    CHECK(m);
    uint64_t id = m->log_open->stream_id, credit = m->log_open->credit_bytes, sent = 0;
    enum { LINE = 1000, LINES = 16 };
    (void)rpc_message_free(m);
    /* Keeps to its credit; stops when none has come for a while. */
    for (;;) {
        while (credit >= LINE * LINES) {
            send_logs(&a, id, sent + 1, LINES, LINE);
            sent += LINES;
            credit -= LINE * LINES;
        }
        ProtobufCMessage *got = NULL;
        int rc = rpc_stream_get(a.stream, deadline_in(700 * USEC_MSEC), &got, &err);
        if (rc == -(int)ERR_DEADLINE)
            break;
        CHECK(rc == 0);
        const Davit__Link__V1__ControlMessage *c = (const Davit__Link__V1__ControlMessage *)got;
        if (c->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_CREDIT)
            credit += c->log_credit->bytes;
        (void)rpc_message_free(got);
        CHECK(sent * LINE < 64 << 20); /* nobody reads: it must come to a halt */
    }
    CHECK(sent > 0);
    /* All that was sent arrives, in order, once it is read. */
    uint64_t got = 0;
    while (got < sent) {
        int n = next_entries(s, &at);
        CHECK(n > 0);
        got += (uint64_t)n;
        CHECK(at == got);
    }
    (void)rpc_stream_close(s);
    agent_close(&a);
}

static void backpressure(void **state)
{
    (void)state;
    fixture_run(backpressure_body);
}

static void reader_limit_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct rpc_stream *s[LINK_LOGS_MAX + 1];
    ProtobufCMessage *none = NULL;
    connect_agent(f, &a, 1, 0);
    (void)rpc_message_free(deploy(f, "web", false));
    obey(&a, "c1", "d1");
    for (int i = 0; i < LINK_LOGS_MAX; i++) {
        s[i] = open_logs(f, false, -1);
        (void)rpc_message_free(GET(&a, LOG_OPEN));
    }
    s[LINK_LOGS_MAX] = open_logs(f, false, -1);
    CHECK(rpc_stream_get(s[LINK_LOGS_MAX], SOON, &none, &err) == -(int)ERR_EXHAUSTED);
    for (int i = 0; i <= LINK_LOGS_MAX; i++)
        (void)rpc_stream_close(s[i]);
    agent_close(&a);
}

static void reader_limit(void **state)
{
    (void)state;
    fixture_run(reader_limit_body);
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
    connect_agent(f, &a, 1, 0);
    health_is(f, "ok", NULL);
    (void)rpc_message_free(deploy(f, "web", false));
    obey(&a, "c1", "d1");
    send_usage(&a, "", 1, 0, 1ULL << 30);
    send_usage(&a, "c1", 1, 1000, 0);
    send_usage(&a, "c1", 3, 5000, 0);
    fixture_until(two_samples, f);
    Davit__Control__V1__StatsRequest r = DAVIT__CONTROL__V1__STATS_REQUEST__INIT;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deployments), cmocka_unit_test(actions),      cmocka_unit_test(forget), cmocka_unit_test(logs),
        cmocka_unit_test(logs_end),    cmocka_unit_test(backpressure), cmocka_unit_test(stats),  cmocka_unit_test(reader_limit),
    };
    return cmocka_run_group_tests_name("control_workloads", tests, NULL, NULL);
}
