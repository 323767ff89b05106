/* SPDX-License-Identifier: Apache-2.0 */
/* Deployments that are cancelled, rolled back and scaled, and who owns a hostname, against an agent that speaks the link by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/link/commands.h"
#include "control_fixture.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)
#define WORK         (&davit_control_v1_workload_service)
#define STATE(word)  DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_##word

#define WHOLE(name, body)                                                                                                        \
    static void name(void **state)                                                                                               \
    {                                                                                                                            \
        (void)state;                                                                                                             \
        fixture_run(body);                                                                                                       \
    }

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

static Davit__Control__V1__ListDeploymentsResponse *history(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__ListDeploymentsRequest r = DAVIT__CONTROL__V1__LIST_DEPLOYMENTS_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    CHECK_OK(fixture_call(f, WORK, "ListDeployments", &r.base, &m, &err));
    return (Davit__Control__V1__ListDeploymentsResponse *)m;
}

/* The states of the deployments are these, the newest first. */
static void states_are(struct fixture *f, const Davit__Common__V1__DeploymentState *want, size_t n)
{
    Davit__Control__V1__ListDeploymentsResponse *l = history(f);
    CHECK(l->n_deployments == n);
    for (size_t i = 0; i < n; i++)
        if (l->deployments[i]->state != want[i]) {
            (void)fprintf(stderr, "deployment %zu: state %d, wanted %d\n", i, (int)l->deployments[i]->state, (int)want[i]);
            abort();
        }
    (void)rpc_message_free(l);
}
#define STATES(f, ...)                                                                                                           \
    do {                                                                                                                         \
        const Davit__Common__V1__DeploymentState want_[] = {__VA_ARGS__};                                                        \
        states_are((f), want_, ARRAY_LEN(want_));                                                                                \
    } while (0)

static Davit__Control__V1__Service *only_service(struct fixture *f, ProtobufCMessage **ret)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__ListServicesRequest r = DAVIT__CONTROL__V1__LIST_SERVICES_REQUEST__INIT;
    CHECK_OK(fixture_call(f, WORK, "ListServices", &r.base, ret, &err));
    Davit__Control__V1__ListServicesResponse *l = (Davit__Control__V1__ListServicesResponse *)*ret;
    CHECK(l->n_services == 1);
    return l->services[0];
}

static void replicas_are(struct fixture *f, uint32_t n)
{
    ProtobufCMessage *m = NULL;
    CHECK(only_service(f, &m)->replicas == n);
    (void)rpc_message_free(m);
}

/* A service shop/NAME with a variable, a limit, and what the test adds. */
struct wanted {
    Davit__Common__V1__ServiceSpec spec;
    Davit__Common__V1__EnvVar env, *envs[1];
    Davit__Common__V1__Route route, *routes[1];
    Davit__Common__V1__PortPublish port, *ports[1];
    bool if_changed, force;
};

static void want(struct wanted *w, const char *name, const char *image, const char *value, const char *host)
{
    *w = (struct wanted){.spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT, .env = DAVIT__COMMON__V1__ENV_VAR__INIT,
                         .route = DAVIT__COMMON__V1__ROUTE__INIT, .port = DAVIT__COMMON__V1__PORT_PUBLISH__INIT};
    w->spec.project = W("shop");
    w->spec.name = W(name);
    w->spec.image = W(image);
    w->spec.memory_bytes = 64 << 20;
    w->env.name = W("KEY");
    w->env.value = W(value);
    w->envs[0] = &w->env;
    w->spec.env = w->envs;
    w->spec.n_env = 1;
    w->route.hostname = W(host);
    w->route.port = 8080;
    w->routes[0] = &w->route;
    w->spec.routes = w->routes;
    w->spec.n_routes = *host ? 1 : 0;
    w->port.container_port = 80;
    w->ports[0] = &w->port;
    w->spec.ports = w->ports;
}

/* 0 with the id of the deployment. */
static int deploy(struct fixture *f, struct wanted *w, char id[40], bool *ret_unchanged, struct err *err)
{
    Davit__Control__V1__DeployRequest r = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    r.spec = &w->spec;
    r.if_changed = w->if_changed;
    r.force = w->force;
    int rc = fixture_call(f, WORK, "Deploy", &r.base, &m, err);
    if (rc < 0)
        return rc;
    (void)str_copy(id, 40, str_from(((Davit__Control__V1__DeployResponse *)m)->deployment_id));
    if (ret_unchanged)
        *ret_unchanged = ((Davit__Control__V1__DeployResponse *)m)->unchanged;
    (void)rpc_message_free(m);
    return 0;
}

static void agent_ends(struct agent *a, const Davit__Link__V1__Command *cmd, enum err_code code)
{
    struct err err = ERR_INIT;
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CommandResult r = DAVIT__LINK__V1__COMMAND_RESULT__INIT;
    Davit__Common__V1__Failure f = DAVIT__COMMON__V1__FAILURE__INIT;
    r.seq = cmd->seq;
    r.id = cmd->id;
    f.code = code;
    f.message = W("it was ended");
    f.reason = W("cancelled");
    r.failure = &f;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RESULT;
    m.result = &r;
    CHECK(agent_put(a, &m) == 0);
    (void)rpc_message_free(GET(a, RESULT_ACK));
}

/* Takes the next command and ends it well; the command is the caller's. */
static Davit__Link__V1__ControlMessage *obey(struct agent *a, const char *container, const char *id)
{
    struct err err = ERR_INIT;
    Davit__Link__V1__ControlMessage *m = GET(a, COMMAND);
    CHECK(m);
    if (container)
        agent_container(a, container, "shop", "web", id);
    agent_result(a, m->command, NULL);
    (void)rpc_message_free(GET(a, RESULT_ACK));
    return m;
}

static int cancel(struct fixture *f, const char *id, Davit__Common__V1__DeploymentState *ret, struct err *err)
{
    Davit__Control__V1__CancelDeploymentRequest r = DAVIT__CONTROL__V1__CANCEL_DEPLOYMENT_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    *err = (struct err)ERR_INIT;
    r.deployment_id = W(id);
    int rc = fixture_call(f, WORK, "CancelDeployment", &r.base, &m, err);
    if (rc == 0)
        *ret = ((Davit__Control__V1__CancelDeploymentResponse *)m)->state;
    (void)rpc_message_free(m);
    return rc;
}

static bool unlinked(void *arg)
{
    struct fixture *f = arg;
    return !servers_local(f->c)->link;
}

/* --- Cancelling ------------------------------------------------------------------------------------------------------------------- */

/* What its server has not seen is over at once and is never sent, not even after a restart; what runs goes on. */
static void cancel_unsent_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct wanted w;
    char one[40], two[40], three[40];
    Davit__Common__V1__DeploymentState state = 0;
    work_connect(f, &a, 1, 0);
    want(&w, "web", "web:1", "a", "");
    CHECK_OK(deploy(f, &w, one, NULL, &err));
    (void)rpc_message_free(obey(&a, "c1", one));
    agent_close(&a);
    fixture_until(unlinked, f);
    w.spec.image = W("web:2");
    CHECK_OK(deploy(f, &w, two, NULL, &err));
    two[8] = '\0'; /* the beginning is enough */
    CHECK_OK(cancel(f, two, &state, &err));
    CHECK(state == STATE(CANCELLED));
    STATES(f, STATE(CANCELLED), STATE(ACTIVE));
    CHECK(commands_pending(f->c) == 0);
    w.spec.image = W("web:3");
    CHECK_OK(deploy(f, &w, three, NULL, &err));
    work_connect(f, &a, 2, 1);
    Davit__Link__V1__ControlMessage *m = obey(&a, "c1", three);
    CHECK(m->command->seq == 3);
    CHECK_STR(m->command->deploy->deployment_id, three);
    (void)rpc_message_free(m);
    STATES(f, STATE(ACTIVE), STATE(CANCELLED), STATE(SUPERSEDED));
    agent_close(&a);
}

/* req: CX-4 */
static void cancel_unsent(void **state)
{
    (void)state;
    fixture_run(cancel_unsent_body);
}

/* What its agent has is asked for again after each connect until it ends; then the one before serves on. */
static void cancel_sent_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct wanted w;
    char one[40], two[40];
    Davit__Common__V1__DeploymentState state = 0;
    work_connect(f, &a, 1, 0);
    want(&w, "web", "web:1", "a", "");
    CHECK_OK(deploy(f, &w, one, NULL, &err));
    (void)rpc_message_free(obey(&a, "c1", one));
    w.spec.image = W("web:2");
    w.force = true;
    CHECK_OK(deploy(f, &w, two, NULL, &err));
    Davit__Link__V1__ControlMessage *cmd = GET(&a, COMMAND);
    CHECK(cmd->command->deploy->force);
    agent_received(&a, cmd->command);
    agent_progress(&a, cmd->command, "health");
    Davit__Control__V1__CancelDeploymentRequest r = DAVIT__CONTROL__V1__CANCEL_DEPLOYMENT_REQUEST__INIT;
    r.deployment_id = two;
    struct pending_call p = {.f = f, .method = "CancelDeployment", .request = &r.base};
    begin(&p);
    Davit__Link__V1__ControlMessage *m = GET(&a, CANCEL_COMMAND);
    CHECK(m->cancel_command->seq == 2);
    CHECK_STR(m->cancel_command->id, cmd->command->id);
    (void)rpc_message_free(m);
    agent_close(&a);
    fixture_until(unlinked, f);
    work_connect(f, &a, 2, 2);
    (void)rpc_message_free(GET(&a, COMMAND));
    m = GET(&a, CANCEL_COMMAND);
    CHECK(m->cancel_command->seq == 2);
    (void)rpc_message_free(m);
    agent_ends(&a, cmd->command, ERR_CANCELLED);
    (void)rpc_message_free(cmd);
    end(&p);
    CHECK(p.rc == 0 && ((Davit__Control__V1__CancelDeploymentResponse *)p.answer)->state == STATE(CANCELLED));
    (void)rpc_message_free(p.answer);
    STATES(f, STATE(CANCELLED), STATE(ACTIVE));
    CHECK(f->c->counters.deployments_failed == 0);
    CHECK_OK(cancel(f, two, &state, &err)); /* a repeat is harmless */
    CHECK(state == STATE(CANCELLED));
    CHECK(cancel(f, one, &state, &err) == -(int)ERR_PRECONDITION && strstr(err.msg, "too late") && strstr(err.hint, "davit rollback"));
    CHECK(cancel(f, "0000000", &state, &err) == -(int)ERR_NOT_FOUND);
    CHECK(cancel(f, "0", &state, &err) == -(int)ERR_INVALID);
    agent_close(&a);
}

/* req: CX-4 */
static void cancel_sent(void **state)
{
    (void)state;
    fixture_run(cancel_sent_body);
}

/* The agent was past the point: the deployment is active, and the caller learns it. One that failed by itself is not cancelled. */
static void cancel_late_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct wanted w;
    char id[40];
    work_connect(f, &a, 1, 0);
    want(&w, "web", "web:1", "a", "");
    for (int i = 0; i < 2; i++) {
        CHECK_OK(deploy(f, &w, id, NULL, &err));
        Davit__Link__V1__ControlMessage *cmd = GET(&a, COMMAND);
        Davit__Control__V1__CancelDeploymentRequest r = DAVIT__CONTROL__V1__CANCEL_DEPLOYMENT_REQUEST__INIT;
        r.deployment_id = id;
        struct pending_call p = {.f = f, .method = "CancelDeployment", .request = &r.base};
        begin(&p);
        (void)rpc_message_free(GET(&a, CANCEL_COMMAND));
        if (i == 0)
            agent_result(&a, cmd->command, NULL);
        else
            agent_result(&a, cmd->command, "no such image");
        (void)rpc_message_free(GET(&a, RESULT_ACK));
        (void)rpc_message_free(cmd);
        end(&p);
        CHECK(p.rc == -(int)ERR_PRECONDITION && strstr(p.err.msg, i == 0 ? "is active" : "is over: failed"));
    }
    STATES(f, STATE(FAILED), STATE(ACTIVE));
    agent_close(&a);
}

/* req: CX-4 */
static void cancel_late(void **state)
{
    (void)state;
    fixture_run(cancel_late_body);
}

static bool nothing_pending(void *arg)
{
    struct fixture *f = arg;
    return commands_pending(f->c) == 0;
}

/* The wish outlives a restart. The agent turns out not to have the command: then it never gets it. */
static void cancel_over_restart_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct wanted w;
    char id[40];
    Davit__Common__V1__DeploymentState state = 0;
    work_connect(f, &a, 1, 0);
    want(&w, "web", "web:1", "a", "");
    CHECK_OK(deploy(f, &w, id, NULL, &err));
    (void)rpc_message_free(GET(&a, COMMAND)); /* it was on the way, and is lost with its agent's machine */
    agent_close(&a);
    fixture_until(work_offline, f);
    CHECK_OK(cancel(f, id, &state, &err));
    CHECK(state == STATE(PENDING)); /* nobody knows whether it arrived */
    fixture_restart(f);
    CHECK(commands_pending(f->c) == 1);
    work_connect(f, &a, 2, 0);
    fixture_until(nothing_pending, f);
    STATES(f, STATE(CANCELLED));
    CHECK_OK(deploy(f, &w, id, NULL, &err));
    Davit__Link__V1__ControlMessage *m = obey(&a, NULL, NULL);
    CHECK(m->command->seq == 2);
    (void)rpc_message_free(m);
    agent_close(&a);
}
WHOLE(cancel_over_restart, cancel_over_restart_body)

/* An agent of before cannot be asked; the caller is told what helps. */
static void old_agent_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct wanted w;
    char id[40];
    const struct agent_self self = {.epoch = 1, .old = true};
    Davit__Common__V1__DeploymentState state = 0;
    ProtobufCMessage *m = NULL;
    CHECK_OK(agent_open(f, &a, NULL, &err));
    agent_hello_as(&a, &self);
    (void)rpc_message_free(GET(&a, WELCOME));
    agent_heartbeat(&a);
    fixture_until(work_online, f);
    want(&w, "web", "web:1", "a", "");
    CHECK_OK(deploy(f, &w, id, NULL, &err));
    Davit__Link__V1__ControlMessage *cmd = GET(&a, COMMAND);
    CHECK(cancel(f, id, &state, &err) == -(int)ERR_PRECONDITION && strstr(err.hint, "update the agent"));
    agent_result(&a, cmd->command, NULL);
    (void)rpc_message_free(cmd);
    (void)rpc_message_free(GET(&a, RESULT_ACK));
    Davit__Control__V1__ScaleServiceRequest r = DAVIT__CONTROL__V1__SCALE_SERVICE_REQUEST__INIT;
    r.project = W("shop");
    r.service = W("web");
    r.replicas = 2;
    CHECK(fixture_call(f, WORK, "ScaleService", &r.base, &m, &err) == -(int)ERR_PRECONDITION && strstr(err.hint, "update the agent"));
    CHECK((w.env.file = W("key")) && deploy(f, &w, id, NULL, &err) == -(int)ERR_PRECONDITION && strstr(err.msg, "too old for secret files"));
    agent_close(&a);
}
WHOLE(old_agent, old_agent_body)

/* --- Rolling back ----------------------------------------------------------------------------------------------------------------- */

static int roll_back(struct fixture *f, const char *to, const char *request_id, Davit__Control__V1__RollbackResponse **ret, struct err *err)
{
    Davit__Control__V1__RollbackRequest r = DAVIT__CONTROL__V1__ROLLBACK_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    *err = (struct err)ERR_INIT;
    r.project = W("shop");
    r.service = W("web");
    r.deployment_id = W(to);
    r.request_id = W(request_id);
    int rc = fixture_call(f, WORK, "Rollback", &r.base, &m, err);
    *ret = (Davit__Control__V1__RollbackResponse *)m;
    return rc;
}

/* One as it was, by digest; and what the list says of it afterwards. */
static void as_it_was(struct fixture *f, struct agent *a, const char *one)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__RollbackResponse *r = NULL, *again = NULL;
    CHECK_OK(roll_back(f, "", "rb1", &r, &err));
    CHECK_STR(r->source_deployment_id, one);
    CHECK_OK(roll_back(f, "", "rb1", &again, &err)); /* the same request */
    CHECK_STR(again->deployment_id, r->deployment_id);
    CHECK_STR(again->source_deployment_id, one);
    (void)rpc_message_free(again);
    Davit__Link__V1__ControlMessage *m = obey(a, "c1", r->deployment_id);
    const Davit__Common__V1__ServiceSpec *s = m->command->deploy->spec;
    CHECK_STR(m->command->deploy->deployment_id, r->deployment_id);
    CHECK_STR(s->image, "web:1@" AGENT_DIGEST);
    CHECK(s->n_env == 1 && s->memory_bytes == 64 << 20 && s->n_routes == 1 && s->replicas == 0);
    CHECK_STR(s->env[0]->value, "first");
    CHECK_STR(s->routes[0]->hostname, "one.example");
    CHECK(s->health->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP && s->health->port == 8080 && s->health->grace_ms == 30000);
    CHECK_STR(s->health->path, "/health");
    (void)rpc_message_free(m);
    Davit__Control__V1__ListDeploymentsResponse *l = history(f);
    CHECK_STR(l->deployments[0]->source_deployment_id, one);
    CHECK(l->deployments[0]->was_active && l->deployments[2]->was_active && !l->deployments[1]->was_active);
    CHECK_STR(l->deployments[0]->id, r->deployment_id);
    (void)rpc_message_free(l);
    (void)rpc_message_free(r);
}

static void rollback_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct wanted w;
    char one[40], two[40], bad[40];
    Davit__Control__V1__RollbackResponse *r = NULL;
    work_connect(f, &a, 1, 0);
    CHECK(roll_back(f, "", "", &r, &err) == -(int)ERR_NOT_FOUND);
    want(&w, "web", "web:1", "first", "One.example");
    CHECK_OK(deploy(f, &w, one, NULL, &err));
    (void)rpc_message_free(obey(&a, "c1", one));
    CHECK(roll_back(f, "", "", &r, &err) == -(int)ERR_PRECONDITION); /* nothing was before */
    want(&w, "web", "web:2", "second", "two.example");
    w.spec.replicas = 3;
    CHECK_OK(deploy(f, &w, two, NULL, &err));
    (void)rpc_message_free(obey(&a, "c1", two));
    replicas_are(f, 3);
    CHECK_OK(deploy(f, &w, bad, NULL, &err));
    Davit__Link__V1__ControlMessage *m = GET(&a, COMMAND);
    agent_result(&a, m->command, "no");
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(&a, RESULT_ACK));
    STATES(f, STATE(FAILED), STATE(ACTIVE), STATE(SUPERSEDED));
    CHECK(roll_back(f, bad, "", &r, &err) == -(int)ERR_PRECONDITION && strstr(err.msg, "never active"));
    CHECK(roll_back(f, two, "", &r, &err) == -(int)ERR_PRECONDITION && strstr(err.msg, "active now"));
    as_it_was(f, &a, one);
    STATES(f, STATE(ACTIVE), STATE(FAILED), STATE(ROLLED_BACK), STATE(SUPERSEDED));
    replicas_are(f, 3);
    /* And forth again, to any that was active. */
    two[8] = '\0';
    CHECK_OK(roll_back(f, two, "", &r, &err));
    (void)rpc_message_free(r);
    m = obey(&a, NULL, NULL);
    CHECK_STR(m->command->deploy->spec->env[0]->value, "second");
    (void)rpc_message_free(m);
    STATES(f, STATE(ACTIVE), STATE(ROLLED_BACK), STATE(FAILED), STATE(ROLLED_BACK), STATE(SUPERSEDED));
    agent_close(&a);
}

/* req: CX-4 CX-7 */
static void rollback(void **state)
{
    (void)state;
    fixture_run(rollback_body);
}

/* --- Scaling ---------------------------------------------------------------------------------------------------------------------- */

static int scale(struct fixture *f, struct agent *a, uint32_t replicas, const char *failure, struct err *ret_err)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__ScaleServiceRequest r = DAVIT__CONTROL__V1__SCALE_SERVICE_REQUEST__INIT;
    r.project = W("shop");
    r.service = W("web");
    r.replicas = replicas;
    struct pending_call p = {.f = f, .method = "ScaleService", .request = &r.base};
    begin(&p);
    if (a) {
        Davit__Link__V1__ControlMessage *m = GET(a, COMMAND);
        CHECK(m->command->scale_service->replicas == replicas && m->command->scale_service->deployment_id[0]);
        agent_result(a, m->command, failure);
        (void)rpc_message_free(m);
        (void)rpc_message_free(GET(a, RESULT_ACK));
    }
    end(&p);
    *ret_err = p.err;
    if (p.rc == 0)
        CHECK_STR(((Davit__Control__V1__ScaleServiceResponse *)p.answer)->outcome, "done");
    (void)rpc_message_free(p.answer);
    return p.rc;
}

static void scale_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct wanted w;
    char id[40];
    bool unchanged = false;
    work_connect(f, &a, 1, 0);
    want(&w, "web", "web:1", "a", "");
    CHECK_OK(deploy(f, &w, id, NULL, &err));
    CHECK(scale(f, NULL, 2, NULL, &err) == -(int)ERR_PRECONDITION); /* nothing is active */
    (void)rpc_message_free(obey(&a, "c1", id));
    replicas_are(f, 1);
    CHECK_OK(scale(f, &a, 32, NULL, &err));
    replicas_are(f, 32);
    CHECK(scale(f, NULL, 33, NULL, &err) == -(int)ERR_INVALID);
    CHECK(scale(f, NULL, 0, NULL, &err) == -(int)ERR_INVALID && strstr(err.hint, "davit stop"));
    CHECK(scale(f, &a, 5, "no room", &err) == -(int)ERR_UNAVAILABLE);
    replicas_are(f, 32);
    /* Who does not say how many takes as many as there are. */
    w.if_changed = true;
    CHECK_OK(deploy(f, &w, id, &unchanged, &err));
    CHECK(unchanged);
    w.spec.replicas = 32;
    CHECK_OK(deploy(f, &w, id, &unchanged, &err));
    CHECK(unchanged);
    w.spec.replicas = 1;
    w.port.host_port = 8080;
    w.spec.n_ports = 1;
    CHECK_OK(deploy(f, &w, id, &unchanged, &err));
    CHECK(!unchanged);
    (void)rpc_message_free(obey(&a, "c1", id));
    replicas_are(f, 1);
    /* Two cannot have one port of the server. */
    CHECK(scale(f, NULL, 2, NULL, &err) == -(int)ERR_INVALID && strstr(err.msg, "port 8080"));
    agent_close(&a);
}
WHOLE(scale_up_and_down, scale_body)

/* --- Hostnames -------------------------------------------------------------------------------------------------------------------- */

static void hostnames_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct wanted web, other;
    char id[40];
    ProtobufCMessage *m = NULL;
    work_connect(f, &a, 1, 0);
    want(&web, "web", "web:1", "a", "shop.example");
    want(&other, "other", "web:1", "a", "SHOP.example");
    CHECK_OK(deploy(f, &web, id, NULL, &err));
    /* From its first moment on; the refused one leaves nothing behind. */
    CHECK(deploy(f, &other, id, NULL, &err) == -(int)ERR_EXISTS && strstr(err.msg, "shop.example leads to service shop/web"));
    Davit__Control__V1__Service *s = only_service(f, &m);
    CHECK(s->n_routes == 1 && s->routes[0]->port == 8080);
    CHECK_STR(s->routes[0]->hostname, "shop.example");
    (void)rpc_message_free(m);
    Davit__Link__V1__ControlMessage *cmd = GET(&a, COMMAND);
    agent_result(&a, cmd->command, "no");
    (void)rpc_message_free(cmd);
    (void)rpc_message_free(GET(&a, RESULT_ACK));
    /* What failed has nothing. */
    CHECK_OK(deploy(f, &other, id, NULL, &err));
    (void)rpc_message_free(obey(&a, NULL, NULL));
    CHECK(deploy(f, &web, id, NULL, &err) == -(int)ERR_EXISTS && strstr(err.msg, "shop/other"));
    CHECK_OK(deploy(f, &other, id, NULL, &err)); /* its own it may keep */
    (void)rpc_message_free(obey(&a, NULL, NULL));
    other.spec.n_routes = 0;
    CHECK_OK(deploy(f, &other, id, NULL, &err));
    (void)rpc_message_free(obey(&a, NULL, NULL));
    CHECK_OK(deploy(f, &web, id, NULL, &err)); /* it was given up */
    (void)rpc_message_free(obey(&a, NULL, NULL));
    agent_close(&a);
}
WHOLE(hostnames, hostnames_body)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancel_unsent), cmocka_unit_test(cancel_sent), cmocka_unit_test(cancel_late),       cmocka_unit_test(cancel_over_restart),
        cmocka_unit_test(old_agent),     cmocka_unit_test(rollback),    cmocka_unit_test(scale_up_and_down), cmocka_unit_test(hostnames),
    };
    return cmocka_run_group_tests_name("control_deployments", tests, NULL, NULL);
}
