/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane as a whole on loopback, against agents that speak the link by hand: enrolment, fencing, sequences, resending, audiences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/link/commands.h"
#include "control/link/links.h"
#include "control_fixture.h"
#include "ident/pki_dir.h"
#include "identity_fixture.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)

/* Hello, Welcome, first heartbeat. */
static void connect_local(struct fixture *f, struct agent *a, uint64_t epoch, uint64_t last)
{
    struct err err = ERR_INIT;
    CHECK_OK(agent_open(f, a, NULL, &err));
    agent_hello(a, epoch, last);
    Davit__Link__V1__ControlMessage *m = GET(a, WELCOME);
    CHECK(m);
    CHECK(m->welcome->protocol == 1 && m->welcome->heartbeat_interval_ms == 1000);
    (void)rpc_message_free(m);
    agent_heartbeat(a);
}

static bool is_online(void *arg)
{
    struct fixture *f = arg;
    return servers_local(f->c) && servers_local(f->c)->state == SERVER_ONLINE;
}

static bool is_offline(void *arg)
{
    struct fixture *f = arg;
    return servers_local(f->c)->state == SERVER_OFFLINE;
}

static char *deploy(struct fixture *f, const char *service, const char *request_id, const char *password)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__DeployRequest r = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    Davit__Common__V1__RegistryAuth auth = DAVIT__COMMON__V1__REGISTRY_AUTH__INIT;
    ProtobufCMessage *m = NULL;
    spec.project = W("shop");
    spec.name = W(service);
    spec.image = W("web:1");
    r.spec = &spec;
    r.request_id = W(request_id);
    auth.username = W("u");
    auth.password = W(password);
    r.registry_auth = password ? &auth : NULL;
    CHECK_OK(fixture_call(f, &davit_control_v1_workload_service, "Deploy", &r.base, &m, &err));
    char *id = str_dup(str_from(((Davit__Control__V1__DeployResponse *)m)->deployment_id));
    (void)rpc_message_free(m);
    return id;
}

/* The states that a deployment went through, as letters, up to its end. */
static void watch(struct fixture *f, const char *id, const char *states, struct err *failure)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__WatchDeploymentRequest r = DAVIT__CONTROL__V1__WATCH_DEPLOYMENT_REQUEST__INIT;
    struct rpc_stream *s = NULL;
    char seen[32] = "";
    size_t n = 0;
    r.deployment_id = W(id);
    CHECK_OK(rpc_stream_open(f->api, &davit_control_v1_workload_service, "WatchDeployment", USEC_INFINITY, &s, &err));
    CHECK_OK(rpc_stream_put(s, &r.base, SOON, &err));
    rpc_stream_half_close(s);
    for (;;) {
        ProtobufCMessage *m = NULL;
        int rc = rpc_stream_get(s, SOON, &m, &err);
        if (rc == 1)
            break;
        CHECK_OK(rc);
        Davit__Control__V1__WatchDeploymentResponse *w = (Davit__Control__V1__WatchDeploymentResponse *)m;
        char letter = "-PDHAFSR"[w->state];
        if (n < sizeof(seen) - 1 && (!n || seen[n - 1] != letter))
            seen[n++] = letter;
        if (w->failure && failure)
            (void)err_set(failure, (enum err_code)w->failure->code, "%s / %s", w->failure->message, w->failure->hint);
        (void)rpc_message_free(m);
    }
    (void)rpc_stream_close(s);
    CHECK_STR(seen, states);
}

/* --- States ----------------------------------------------------------------------------------------------------------------------- */

static void local_agent_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    CHECK(!servers_local(f->c));
    CHECK_OK(agent_open(f, &a, NULL, &err));
    agent_hello(&a, 1, 0);
    Davit__Link__V1__ControlMessage *m = GET(&a, WELCOME);
    CHECK(m);
    CHECK_STR(m->welcome->server_name, "box");
    (void)rpc_message_free(m);
    /* Pending until the first heartbeat. */
    CHECK(servers_local(f->c)->state == SERVER_PENDING);
    agent_heartbeat(&a);
    fixture_until(is_online, f);
    agent_close(&a);
    /* Offline only after the silence, not with the connection. */
    CHECK(servers_local(f->c)->state == SERVER_ONLINE);
    fixture_until(is_offline, f);
    CHECK(strstr(servers_local(f->c)->reason, "no heartbeat"));
    fixture_restart(f);
    CHECK(servers_local(f->c)->state == SERVER_OFFLINE);
    CHECK_STR(servers_local(f->c)->system->arch, "amd64");
    connect_local(f, &a, 2, 0);
    fixture_until(is_online, f);
    CHECK(f->c->n_servers == 1);
    agent_close(&a);
}

/* req: CL-72 CL-73 */
static void local_agent(void **state)
{
    (void)state;
    fixture_run(local_agent_body);
}

static void bad_hello_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    CHECK_OK(agent_open(f, &a, NULL, &err));
    agent_heartbeat(&a);
    CHECK(!GET(&a, WELCOME) && err.code == ERR_INVALID);
    agent_close(&a);

    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Hello h = DAVIT__LINK__V1__HELLO__INIT;
    h.protocol_min = 2;
    h.protocol_max = 3;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO;
    m.hello = &h;
    CHECK_OK(agent_open(f, &a, NULL, &err));
    CHECK(agent_put(&a, &m) == 0);
    CHECK(!GET(&a, WELCOME) && err.code == ERR_PRECONDITION && strstr(err.msg, "protocol 2 to 3"));
    agent_close(&a);
    CHECK(!servers_local(f->c));
}

static void bad_hello(void **state)
{
    (void)state;
    fixture_run(bad_hello_body);
}

static void fencing_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent first, second, third;
    connect_local(f, &first, 5, 0);
    connect_local(f, &second, 6, 0);
    /* The older stream is told and ends. */
    Davit__Link__V1__ControlMessage *m = GET(&first, FENCED);
    CHECK(m && *m->fenced->reason);
    (void)rpc_message_free(m);
    CHECK(!GET(&first, FENCED) && err.code == ERR_ABORTED);
    /* A lower epoch is refused; so is the same one. */
    for (uint64_t epoch = 5; epoch <= 6; epoch++) {
        CHECK_OK(agent_open(f, &third, NULL, &err));
        agent_hello(&third, epoch, 0);
        m = GET(&third, FENCED);
        CHECK(m);
        (void)rpc_message_free(m);
        CHECK(!GET(&third, FENCED) && err.code == ERR_ABORTED);
        agent_close(&third);
    }
    agent_heartbeat(&second);
    m = agent_get(&second, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK, &err);
    CHECK(m);
    (void)rpc_message_free(m);
    CHECK(f->c->counters.links_fenced == 3 && links_live(f->c) == 1);
    agent_close(&first);
    agent_close(&second);
}

/* req: CL-2 */
static void fencing(void **state)
{
    (void)state;
    fixture_run(fencing_body);
}

/* --- Commands --------------------------------------------------------------------------------------------------------------------- */

static void sequence_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    Davit__Link__V1__ControlMessage *one, *two, *m;
    connect_local(f, &a, 1, 0);
    fixture_until(is_online, f);
    char *d1 = deploy(f, "web", "r1", NULL);
    char *again = deploy(f, "web", "r1", NULL);
    CHECK_STR(again, d1);
    free(again);
    char *d2 = deploy(f, "db", "", "pw");
    one = GET(&a, COMMAND);
    two = GET(&a, COMMAND);
    CHECK(one && two && one->command->seq == 1 && two->command->seq == 2);
    CHECK_STR(one->command->deploy->deployment_id, d1);
    CHECK_STR(one->command->deploy->spec->image, "web:1");
    CHECK(!one->command->deploy->registry_auth);
    CHECK_STR(two->command->deploy->registry_auth->password, "pw");
    agent_received(&a, one->command);
    agent_progress(&a, one->command, "pull");
    agent_progress(&a, one->command, "health");
    agent_result(&a, one->command, NULL);
    m = GET(&a, RESULT_ACK);
    CHECK(m && m->result_ack->seq == 1);
    (void)rpc_message_free(m);
    watch(f, d1, "PDHA", NULL);
    /* The same result once more, as after a lost acknowledgement: acknowledged again, nothing changes. */
    agent_result(&a, one->command, "too late");
    m = GET(&a, RESULT_ACK);
    CHECK(m && m->result_ack->seq == 1);
    (void)rpc_message_free(m);
    watch(f, d1, "PDHA", NULL);
    agent_close(&a);

    /* The second was not journaled: after a reconnect it comes again under its number, now from disk and without the password. */
    fixture_restart(f);
    connect_local(f, &a, 2, 1);
    m = GET(&a, COMMAND);
    CHECK(m && m->command->seq == 2);
    CHECK_STR(m->command->id, two->command->id);
    CHECK(!m->command->deploy->registry_auth);
    (void)rpc_message_free(m);
    agent_result(&a, two->command, "the registry refuses");
    m = GET(&a, RESULT_ACK);
    CHECK(m && m->result_ack->seq == 2);
    (void)rpc_message_free(m);
    struct err failure = ERR_INIT;
    free(deploy(f, "third", "", NULL)); /* opens the channel of the API again */
    watch(f, d2, "PF", &failure);
    CHECK(strstr(failure.msg, "the registry refuses") && strstr(failure.msg, "keeps no registry passwords"));
    /* Numbers go on without a gap. */
    m = GET(&a, COMMAND);
    CHECK(m && m->command->seq == 3);
    (void)rpc_message_free(m);
    (void)rpc_message_free(one);
    (void)rpc_message_free(two);
    agent_close(&a);
    free(d1);
    free(d2);
}

/* req: CL-8 CL-47 */
static void sequence(void **state)
{
    (void)state;
    fixture_run(sequence_body);
}

static void resend_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    Davit__Link__V1__ControlMessage *m[3], *ack;
    connect_local(f, &a, 1, 0);
    fixture_until(is_online, f);
    for (int i = 0; i < 3; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "s%d", i);
        free(deploy(f, name, "", NULL));
        m[i] = GET(&a, COMMAND);
        CHECK(m[i] && m[i]->command->seq == (uint64_t)i + 1);
    }
    /* The middle one is done; the first is in the journal without result, the last never arrived. */
    agent_received(&a, m[0]->command);
    agent_result(&a, m[1]->command, NULL);
    ack = GET(&a, RESULT_ACK);
    CHECK(ack && ack->result_ack->seq == 2);
    (void)rpc_message_free(ack);
    agent_close(&a);
    connect_local(f, &a, 2, 2);
    for (int i = 0; i < 3; i += 2) {
        Davit__Link__V1__ControlMessage *again = GET(&a, COMMAND);
        CHECK(again && again->command->seq == (uint64_t)i + 1);
        CHECK_STR(again->command->id, m[i]->command->id);
        (void)rpc_message_free(again);
    }
    agent_close(&a);
    /* An agent whose journal is ahead of ours: numbers go on behind it. */
    connect_local(f, &a, 3, 40);
    for (int i = 0; i < 3; i += 2)
        (void)rpc_message_free(GET(&a, COMMAND));
    free(deploy(f, "s9", "", NULL));
    ack = GET(&a, COMMAND);
    CHECK(ack && ack->command->seq == 41);
    (void)rpc_message_free(ack);
    for (int i = 0; i < 3; i++)
        (void)rpc_message_free(m[i]);
    agent_close(&a);
}

static void resend(void **state)
{
    (void)state;
    fixture_run(resend_body);
}

static void limit_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    connect_local(f, &a, 1, 0);
    fixture_until(is_online, f);
    agent_close(&a);
    struct server *s = servers_local(f->c);
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__ContainerAction act = DAVIT__LINK__V1__CONTAINER_ACTION__INIT;
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_ACTION;
    wire.action = &act;
    struct command_new n = {.kind = COMMAND_ACTION, .subject = "p/s", .message = &wire};
    for (int i = 0; i < COMMANDS_MAX; i++)
        CHECK_OK(commands_submit(s, &n, NULL, &err));
    CHECK(commands_submit(s, &n, NULL, &err) == -(int)ERR_EXHAUSTED);
    CHECK(commands_pending(f->c) == COMMANDS_MAX);
    /* Removing the server wakes whoever waits. */
    struct command *cmd = command_ref(list_first(&s->commands, struct command, node));
    CHECK_OK(servers_remove(f->c, s, &err));
    CHECK(commands_wait(cmd, SOON, &err) == -(int)ERR_ABORTED);
    command_unref(cmd);
}

static void command_limit(void **state)
{
    (void)state;
    fixture_run(limit_body);
}

static void flood(struct fixture *f, bool running, enum err_code want)
{
    struct err err = ERR_INIT;
    struct agent a;
    connect_local(f, &a, running ? 1 : 2, 0);
    fixture_until(is_online, f);
    if (running)
        free(deploy(f, "web", "", NULL));
    Davit__Link__V1__ControlMessage *m = GET(&a, COMMAND);
    CHECK(m);
    Davit__Link__V1__AgentMessage am = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CommandProgress p = DAVIT__LINK__V1__COMMAND_PROGRESS__INIT;
    Davit__Common__V1__StepProgress s = DAVIT__COMMON__V1__STEP_PROGRESS__INIT;
    s.step = W("pull");
    s.state = running ? DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_RUNNING : DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_DONE;
    p.seq = m->command->seq;
    p.id = m->command->id;
    p.progress = &s;
    am.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_PROGRESS;
    am.progress = &p;
    for (int i = 0; i < 8 * LINK_QUEUE_MAX && agent_put(&a, &am) == 0; i++)
        s.percent = (uint32_t)i % 100;
    if (want) {
        CHECK(!GET(&a, RESULT_ACK) && err.code == want);
    } else {
        agent_result(&a, m->command, NULL);
        Davit__Link__V1__ControlMessage *ack = GET(&a, RESULT_ACK);
        CHECK(ack);
        (void)rpc_message_free(ack);
        free(deploy(f, "next", "", NULL));
    }
    (void)rpc_message_free(m);
    agent_close(&a);
}

/* Progress that is overtaken is dropped; more of what may not be dropped than fits ends the link, and the agent sends it again. */
static void queue_limit_body(struct fixture *f)
{
    flood(f, true, ERR_OK);
    flood(f, false, ERR_EXHAUSTED);
}

static void queue_limit(void **state)
{
    (void)state;
    fixture_run(queue_limit_body);
}

/* --- Enrolment and audiences ------------------------------------------------------------------------------------------------------ */

static void enrolment_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity a, b;
    struct agent agent;
    identity_make(&a);
    identity_make(&b);
    CHECK_STR(control_link_addr(f->c), "");
    char *old = create(f, "edge", false);
    CHECK(*control_link_addr(f->c));
    char *token = create(f, "edge", true);
    CHECK(enroll(f, old, &a, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "replaced"));
    CHECK(f->c->counters.enrol_ok == 0 && servers_by_name(f->c, "edge")->generation == 0);
    /* One character of the secret changed. */
    char *wrong = str_dup(str_from(token));
    wrong[20] = wrong[20] == 'A' ? 'B' : 'A';
    CHECK(enroll(f, wrong, &a, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "unknown"));
    CHECK_OK(enroll(f, token, &a, &err));
    /* A lost answer: the same key gets the same certificate, another key gets nothing. */
    AUTO_FREE char *first = str_dup(buf_str(&a.chain));
    CHECK_OK(enroll(f, token, &a, &err));
    CHECK_STR(buf_cstr(&a.chain), first);
    CHECK(enroll(f, token, &b, &err) == -(int)ERR_UNAUTHENTICATED && strstr(err.msg, "used"));

    struct tls_ctx *tls = fixture_tls(f, buf_str(&a.chain), secret_reveal(a.pem), &err);
    CHECK_OK(agent_open(f, &agent, tls, &err));
    agent_hello(&agent, 1, 0);
    Davit__Link__V1__ControlMessage *m = GET(&agent, WELCOME);
    CHECK(m);
    CHECK_STR(m->welcome->server_name, "edge");
    CHECK_STR(m->welcome->seen_address, "127.0.0.1");
    (void)rpc_message_free(m);
    CHECK(servers_by_name(f->c, "edge")->generation == 1);

    /* Enrolled anew: the old certificate opens nothing any more. */
    char *next = create(f, "edge", true);
    CHECK_OK(enroll(f, next, &b, &err));
    CHECK(!GET(&agent, WELCOME));
    agent_close(&agent);
    CHECK_OK(agent_open(f, &agent, tls, &err));
    agent_hello(&agent, 2, 0);
    CHECK(!GET(&agent, WELCOME) && err.code == ERR_UNAUTHENTICATED);
    agent_close(&agent);
    tls_ctx_unref(tls);
    free(old);
    free(token);
    free(wrong);
    free(next);
    identity_release(&a);
    identity_release(&b);
}

/* req: CL-43 CL-48 CL-49 */
static void enrolment(void **state)
{
    (void)state;
    fixture_run(enrolment_body);
}

static int version_call(struct fixture *f, const char *addr, struct str cert, struct str key, const char *method, struct err *err)
{
    struct tls_ctx *tls = fixture_tls(f, cert, key, err);
    struct rpc_channel *ch = NULL;
    ProtobufCMessage *m = NULL;
    Davit__Control__V1__GetStatusRequest r = DAVIT__CONTROL__V1__GET_STATUS_REQUEST__INIT;
    int rc = rpc_channel_open(f->loop, addr, tls, 0, SOON, &ch, err);
    if (rc == 0 && f->shows_token)
        fixture_show_token(f, ch, cert);
    if (rc == 0)
        rc = rpc_unary(ch, &davit_control_v1_status_service, method, &r.base, SOON, &m, err);
    (void)rpc_message_free(m);
    (void)rpc_channel_close(ch);
    tls_ctx_unref(tls);
    return rc;
}

static void audiences_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id;
    struct agent agent;
    AUTO_BUF cert = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF key = BUF_INIT(CERT_PEM_MAX);
    CHECK(pki_read(f->user, "cli.crt", &cert, &err) == 0 && pki_read(f->user, "cli.key", &key, &err) == 0);
    identity_make(&id);
    char *token = create(f, "edge", false);
    CHECK_OK(enroll(f, token, &id, &err));
    /* The CLI on the API: everything, with its token. A server there: nothing that has a scope, also not with a token of its certificate. Nobody:
     * not even a connection. */
    CHECK(version_call(f, control_api_addr(f->c), buf_str(&cert), buf_str(&key), "GetStatus", &err) == -(int)ERR_UNAUTHENTICATED);
    f->shows_token = true;
    CHECK_OK(version_call(f, control_api_addr(f->c), buf_str(&cert), buf_str(&key), "GetStatus", &err));
    CHECK(version_call(f, control_api_addr(f->c), buf_str(&id.chain), secret_reveal(id.pem), "GetStatus", &err) ==
          -(int)ERR_DENIED);
    f->shows_token = false;
    CHECK(version_call(f, control_api_addr(f->c), STR(""), STR(""), "GetStatus", &err) < 0);
    /* The CLI on the link: no agent. Nobody: neither. */
    struct tls_ctx *tls = fixture_tls(f, buf_str(&cert), buf_str(&key), &err);
    CHECK_OK(agent_open(f, &agent, tls, &err));
    CHECK(!GET(&agent, WELCOME) && err.code == ERR_DENIED);
    agent_close(&agent);
    tls_ctx_unref(tls);
    tls = fixture_tls(f, STR(""), STR(""), &err);
    CHECK_OK(agent_open(f, &agent, tls, &err));
    CHECK(!GET(&agent, WELCOME) && err.code == ERR_UNAUTHENTICATED);
    agent_close(&agent);
    tls_ctx_unref(tls);
    /* The API is not served on the link. */
    CHECK(version_call(f, control_link_addr(f->c), buf_str(&cert), buf_str(&key), "GetStatus", &err) < 0);
    free(token);
    identity_release(&id);
}

static void audiences(void **state)
{
    (void)state;
    fixture_run(audiences_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_agent), cmocka_unit_test(bad_hello), cmocka_unit_test(fencing),
        cmocka_unit_test(sequence),    cmocka_unit_test(resend),    cmocka_unit_test(command_limit),
        cmocka_unit_test(queue_limit), cmocka_unit_test(enrolment), cmocka_unit_test(audiences),
    };
    return cmocka_run_group_tests_name("control_links", tests, NULL, NULL);
}
