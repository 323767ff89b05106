/* SPDX-License-Identifier: Apache-2.0 */
/* control_fixture — see control_fixture.h. */
#include "control_fixture.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "control/people/oauth_internal.h"
#include "ident/cert.h"
#include "ident/pki_dir.h"

static void on_late(void *arg)
{
    (void)arg;
    (void)fprintf(stderr, "test hangs\n");
    abort();
}

static void start(struct fixture *f)
{
    struct err err = ERR_INIT;
    CHECK_OK(control_start(f->loop, &f->options, &f->c, &err));
}

void fixture_restart(struct fixture *f)
{
    f->api = rpc_channel_close(f->api);
    f->c = control_stop(f->c);
    start(f);
}

static void run(void *arg)
{
    struct fixture *f = arg;
    start(f);
    f->body(f);
    f->api = rpc_channel_close(f->api);
    f->c = control_stop(f->c);
    f->done = true;
    timer_stop(&f->watchdog);
    loop_stop(f->loop);
}

void fixture_run(void (*body)(struct fixture *f))
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    CHECK(f);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/davit-control-XXXXXX");
    CHECK(mkdtemp(f->dir));
    (void)snprintf(f->user, sizeof(f->user), "%s/user", f->dir);
    (void)snprintf(f->state, sizeof(f->state), "%s/state", f->dir);
    (void)snprintf(f->socket, sizeof(f->socket), "%s/link.sock", f->dir);
    (void)snprintf(f->address, sizeof(f->address), "unix:%s", f->socket);
    CHECK_OK(fd_mkdir_p(f->user, 0700, &err));
    CHECK_OK(fd_mkdir_p(f->state, 0700, &err));
    CHECK(pki_user_init(f->user, &err) >= 0 && pki_control_prepare(f->state, &err) >= 0 &&
          pki_user_sign(f->user, f->state, &err) >= 0);
    f->options = (struct control_options){.state_dir = f->state,
                                          .api_listen = "127.0.0.1:0",
                                          .link_listen = "127.0.0.1:0",
                                          .link_socket = f->socket,
                                          .health_listen = "127.0.0.1:0",
                                          .advertise = "127.0.0.1",
                                          .agent_uid = -1,
                                          .heartbeat_interval = USEC_SEC,
                                          .offline_after = 3 * USEC_SEC};
    log_setup("test", getenv("DAVIT_TEST_DEBUG") ? LOG_DEBUG : LOG_ERROR, LOG_FORMAT_TEXT);
    f->body = body;
    f->loop = loop_new();
    timer_init(&f->watchdog, f->loop, on_late, f);
    timer_set(&f->watchdog, 90 * USEC_SEC);
    CHECK(fiber_spawn(f->loop, "test", run, f, NULL) == 0);
    loop_run(f->loop);
    CHECK(f->done);
    loop_free(f->loop);
    CHECK_OK(fd_remove_tree(f->dir, &err));
    free(f);
}

void fixture_until(bool (*fn)(void *arg), void *arg)
{
    for (int i = 0; !fn(arg); i++) {
        CHECK(i < 1000);
        CHECK(fiber_sleep(20 * USEC_MSEC) == 0);
    }
}

struct tls_ctx *fixture_tls(struct fixture *f, struct str cert, struct str key, struct err *err)
{
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX);
    struct tls_ctx *tls = NULL;
    CHECK(pki_read(f->user, "root.crt", &root, err) == 0);
    struct tls_config config = {
        .cert_pem = cert, .key_pem = key, .ca_pem = buf_str(&root), .peer_uri = "davit://controlplane", .alpn = "h2"};
    int rc = tls_ctx_new(&config, &tls, err);
    CHECK(rc == 0);
    return tls;
}

static int show(void *arg, struct rpc_channel *ch, usec_t deadline, const char **ret, struct err *err)
{
    struct fixture *f = arg;
    (void)ch;
    (void)deadline;
    (void)err;
    *ret = f->token;
    return 0;
}

void fixture_show_token(struct fixture *f, struct rpc_channel *ch, struct str cert_pem)
{
    AUTO_CERT cert = NULL;
    AUTO_BUF token = BUF_INIT(JWS_MAX);
    struct cert_info info;
    struct err err = ERR_INIT;
    CHECK_OK(cert_from_pem(cert_pem, &cert, &err));
    CHECK_OK(cert_info(cert, &info, &err));
    CHECK_OK(oauth_sign(f->c->oauth, oauth_client_of("davit-cli"), SCOPE_ADMIN, info.cert_hash, &token, &err));
    (void)str_copy(f->token, sizeof(f->token), buf_str(&token));
    rpc_channel_set_bearer(ch, show, f);
}

int fixture_call(struct fixture *f, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
                 ProtobufCMessage **ret, struct err *err)
{
    if (!f->api) {
        AUTO_BUF cert = BUF_INIT(CERT_PEM_MAX);
        AUTO_BUF key = BUF_INIT(CERT_PEM_MAX);
        CHECK(pki_read(f->user, "cli.crt", &cert, err) == 0 && pki_read(f->user, "cli.key", &key, err) == 0);
        struct tls_ctx *tls = fixture_tls(f, buf_str(&cert), buf_str(&key), err);
        CHECK(rpc_channel_open(f->loop, control_api_addr(f->c), tls, 0, SOON, &f->api, err) == 0);
        fixture_show_token(f, f->api, buf_str(&cert));
        tls_ctx_unref(tls);
    }
    *ret = NULL;
    return rpc_unary(f->api, service, method, request, SOON, ret, err);
}

int agent_open(struct fixture *f, struct agent *a, struct tls_ctx *tls, struct err *err)
{
    *a = (struct agent){0};
    int rc = rpc_channel_open(f->loop, tls ? control_link_addr(f->c) : f->address, tls, 0, SOON, &a->channel, err);
    return rc < 0 ? rc : rpc_stream_open(a->channel, &davit_link_v1_link_service, "Connect", USEC_INFINITY, &a->stream, err);
}

void agent_close(struct agent *a)
{
    a->stream = rpc_stream_close(a->stream);
    a->channel = rpc_channel_close(a->channel);
}

int agent_put(struct agent *a, Davit__Link__V1__AgentMessage *m)
{
    struct err err = ERR_INIT;
    return rpc_stream_put(a->stream, &m->base, SOON, &err);
}

#define MESSAGE(kind, field, value)                                                                                              \
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;                                                      \
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_##kind;                                                                   \
    m.field = (value);                                                                                                           \
    CHECK(agent_put(a, &m) == 0)

void agent_hello_as(struct agent *a, const struct agent_self *self)
{
    Davit__Link__V1__Hello h = DAVIT__LINK__V1__HELLO__INIT;
    Davit__Common__V1__SystemInfo sys = DAVIT__COMMON__V1__SYSTEM_INFO__INIT;
    sys.hostname = W("Box.example");
    sys.arch = W("amd64");
    sys.docker_version = W("20.10");
    sys.agent_version = W("0.1.0");
    h.protocol_min = h.protocol_max = 1;
    h.epoch = self->epoch;
    h.last_received_seq = self->last_received;
    h.instance_id = W(self->instance ? self->instance : "");
    h.clock_us = self->clock ? self->clock : clock_real();
    h.clock_unsure = self->clock_unsure;
    h.takes_calls = !self->old;
    h.takes_sandboxes = self->sandboxes;
    h.counts_sandboxes = self->counts;
    h.system = &sys;
    MESSAGE(HELLO, hello, &h);
}

void agent_hello(struct agent *a, uint64_t epoch, uint64_t last_received)
{
    const struct agent_self self = {.epoch = epoch, .last_received = last_received};
    agent_hello_as(a, &self);
}

void agent_heartbeat(struct agent *a)
{
    Davit__Link__V1__Heartbeat h = DAVIT__LINK__V1__HEARTBEAT__INIT;
    h.clock_us = clock_real();
    MESSAGE(HEARTBEAT, heartbeat, &h);
}

void agent_container(struct agent *a, const char *id, const char *project, const char *service, const char *deployment)
{
    Davit__Link__V1__ContainerStates s = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    Davit__Common__V1__Container k = DAVIT__COMMON__V1__CONTAINER__INIT;
    Davit__Common__V1__Container *ks[] = {&k};
    k.id = W(id);
    k.name = W(service);
    k.state = W("running");
    k.project = W(project);
    k.service = W(service);
    k.deployment_id = W(deployment);
    k.started_at_us = clock_real();
    s.containers = ks;
    s.n_containers = 1;
    MESSAGE(CONTAINERS, containers, &s);
}

void agent_received(struct agent *a, const Davit__Link__V1__Command *cmd)
{
    Davit__Link__V1__CommandReceived r = DAVIT__LINK__V1__COMMAND_RECEIVED__INIT;
    r.seq = cmd->seq;
    r.id = cmd->id;
    MESSAGE(RECEIVED, received, &r);
}

void agent_progress(struct agent *a, const Davit__Link__V1__Command *cmd, const char *step)
{
    Davit__Link__V1__CommandProgress p = DAVIT__LINK__V1__COMMAND_PROGRESS__INIT;
    Davit__Common__V1__StepProgress s = DAVIT__COMMON__V1__STEP_PROGRESS__INIT;
    s.step = W(step);
    s.state = DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_RUNNING;
    p.seq = cmd->seq;
    p.id = cmd->id;
    p.progress = &s;
    MESSAGE(PROGRESS, progress, &p);
}

void agent_result(struct agent *a, const Davit__Link__V1__Command *cmd, const char *failure)
{
    Davit__Link__V1__CommandResult r = DAVIT__LINK__V1__COMMAND_RESULT__INIT;
    Davit__Common__V1__Failure f = DAVIT__COMMON__V1__FAILURE__INIT;
    r.seq = cmd->seq;
    r.id = cmd->id;
    r.outcome = W("done");
    r.container_id = W("c1");
    r.image_digest = W(AGENT_DIGEST);
    f.code = ERR_UNAVAILABLE;
    f.message = W(failure ? failure : "");
    f.reason = W("registry_denied");
    r.failure = failure ? &f : NULL;
    MESSAGE(RESULT, result, &r);
}

Davit__Link__V1__ControlMessage *agent_get(struct agent *a, int body, struct err *err)
{
    for (;;) {
        ProtobufCMessage *m = NULL;
        int rc = rpc_stream_get(a->stream, SOON, &m, err);
        if (rc != 0)
            return NULL;
        Davit__Link__V1__ControlMessage *c = (Davit__Link__V1__ControlMessage *)m;
        if ((int)c->body_case == body)
            return c;
        if (c->body_case != DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK)
            (void)fprintf(stderr, "unexpected message %d while waiting for %d\n", (int)c->body_case, body);
        CHECK(c->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK);
        (void)rpc_message_free(m);
    }
}

/* --- Work for an agent --- */

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)

bool work_online(void *arg)
{
    struct fixture *f = arg;
    return servers_local(f->c) && servers_local(f->c)->state == SERVER_ONLINE;
}

bool work_offline(void *arg)
{
    struct fixture *f = arg;
    return servers_local(f->c)->state == SERVER_OFFLINE;
}

void work_connect(struct fixture *f, struct agent *a, uint64_t epoch, uint64_t last)
{
    struct err err = ERR_INIT;
    CHECK_OK(agent_open(f, a, NULL, &err));
    agent_hello(a, epoch, last);
    Davit__Link__V1__ControlMessage *m = GET(a, WELCOME);
    CHECK(m);
    (void)rpc_message_free(m);
    agent_heartbeat(a);
    fixture_until(work_online, f);
}

static int sql_fn(struct db *db, void *arg, struct err *err)
{
    return db_exec(db, err, arg, "");
}

void fixture_sql(struct fixture *f, const char *sql)
{
    struct err err = ERR_INIT;
    CHECK_OK(store_write(f->c->store, sql_fn, (void *)(uintptr_t)sql, deadline_in(10 * USEC_SEC), &err));
}

Davit__Control__V1__DeployResponse *work_deploy(struct fixture *f, const char *image, bool if_changed)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__DeployRequest r = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    Davit__Common__V1__EnvVar env = DAVIT__COMMON__V1__ENV_VAR__INIT;
    Davit__Common__V1__EnvVar empty = DAVIT__COMMON__V1__ENV_VAR__INIT;
    Davit__Common__V1__EnvVar *envs[] = {&env, &empty};
    ProtobufCMessage *m = NULL;
    spec.project = W("shop");
    spec.name = W("web");
    spec.image = W(image);
    env.name = W("KEY");
    env.value = W("s3cret");
    empty.name = W("EMPTY");
    spec.env = envs;
    spec.n_env = 2;
    r.spec = &spec;
    r.if_changed = if_changed;
    CHECK_OK(fixture_call(f, &davit_control_v1_workload_service, "Deploy", &r.base, &m, &err));
    return (Davit__Control__V1__DeployResponse *)m;
}

/* Takes the next command and answers it with success. */
void work_obey(struct agent *a, const char *container, const char *deployment)
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
