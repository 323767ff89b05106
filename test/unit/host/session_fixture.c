/* SPDX-License-Identifier: Apache-2.0 */
/* session_fixture — see session_fixture.h. */
#include "host/session_fixture.h"

#include "base/fd.h"

/* --- Stand-ins ---- */

int work_command(struct work *w, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                 Davit__Link__V1__CommandResult *ret)
{
    davit__link__v1__command_result__init(ret);
    (void)str_copy(w->order + strlen(w->order), sizeof(w->order) - strlen(w->order), str_from(cmd->id));
    if (cmd->body_case == DAVIT__LINK__V1__COMMAND__BODY_DEPLOY)
        (void)str_copy(w->auth, sizeof(w->auth), str_from(cmd->deploy->registry_auth ? cmd->deploy->registry_auth->password : ""));
    if (resume_step < 0 && journal->step(journal->arg, 0, "pull", STEP_RUNNING) < 0)
        return -(int)ERR_CANCELLED;
    w->resume_step = resume_step;
    w->started++;
    w->cancel_known = journal->cancelled && *journal->cancelled;
    if (event_wait(&w->go, USEC_INFINITY) < 0)
        return -(int)ERR_CANCELLED;
    ret->seq = cmd->seq;
    ret->id = str_dup(str_from(cmd->id));
    ret->outcome = str_dup(STR("done"));
    return 0;
}

void work_cancel(struct work *w, uint64_t seq, const char *id)
{
    w->cancelled_seq = seq;
    (void)str_copy(w->cancelled, sizeof(w->cancelled), str_from(id));
}

void work_result_release(Davit__Link__V1__CommandResult *r)
{
    free(r->id);
    free(r->outcome);
    davit__link__v1__command_result__init(r);
}

void work_heal(struct work *w)
{
    (void)w;
}

void work_containers_full(struct work *w)
{
    w->fulls++;
}

unsigned work_containers_running(const struct work *w)
{
    (void)w;
    return 3;
}

unsigned work_jobs_running(const struct work *w)
{
    (void)w;
    return 0;
}

const char *work_docker_error(const struct work *w)
{
    (void)w;
    return "";
}

void work_set_usage_interval(struct work *w, usec_t interval)
{
    (void)w;
    (void)interval;
}

void work_usage_watch(struct work *w, const Davit__Link__V1__UsageWatch *watch)
{
    (void)w;
    (void)watch;
}

void work_log_open(struct work *w, const Davit__Link__V1__LogOpen *open)
{
    (void)w;
    (void)open;
}

void work_log_credit(struct work *w, const Davit__Link__V1__LogCredit *credit)
{
    (void)w;
    (void)credit;
}

void work_log_close(struct work *w, const Davit__Link__V1__LogClose *close)
{
    (void)w;
    (void)close;
}

void work_call_open(struct work *w, const Davit__Link__V1__CallOpen *m)
{
    (void)w;
    (void)m;
}

void work_call_data(struct work *w, const Davit__Link__V1__CallData *m)
{
    (void)w;
    (void)m;
}

void work_call_credit(struct work *w, const Davit__Link__V1__CallCredit *m)
{
    (void)w;
    (void)m;
}

void work_call_resize(struct work *w, const Davit__Link__V1__CallResize *m)
{
    (void)w;
    (void)m;
}

void work_sandbox_message(struct work *w, const Davit__Link__V1__ControlMessage *m)
{
    (void)w, (void)m;
}

void work_call_close(struct work *w, const Davit__Link__V1__CallClose *m)
{
    (void)w;
    (void)m;
}

void work_calls_reset(struct work *w)
{
    (void)w;
}

void work_logs_reset(struct work *w)
{
    w->resets++;
}

/* --- The control plane ---- */

static int allow(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method, struct err *err)
{
    (void)call;
    (void)ctx;
    (void)service;
    (void)method;
    (void)err;
    return 0;
}

void tell(struct ctx *x, const Davit__Link__V1__ControlMessage *m)
{
    if (x->call)
        assert_int_equal(rpc_stream_send(x->call, &m->base), 0);
}

static void welcome(struct ctx *x)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Welcome w = DAVIT__LINK__V1__WELCOME__INIT;
    w.protocol = 1;
    w.server_id = (char *)(uintptr_t)SERVER_ID;
    w.server_name = (char *)(uintptr_t)"web-1";
    w.heartbeat_interval_ms = x->interval_ms;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_WELCOME;
    m.welcome = &w;
    tell(x, &m);
}

static void ack_beat(struct ctx *x, uint64_t sequence)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__HeartbeatAck a = DAVIT__LINK__V1__HEARTBEAT_ACK__INIT;
    a.sequence = sequence;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK;
    m.heartbeat_ack = &a;
    tell(x, &m);
}

static void ack_result(struct ctx *x, uint64_t seq)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__ResultAck a = DAVIT__LINK__V1__RESULT_ACK__INIT;
    a.seq = seq;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_RESULT_ACK;
    m.result_ack = &a;
    tell(x, &m);
}

static int on_open(struct rpc_call *call, void *ctx, void **ret_state, struct err *err)
{
    struct ctx *x = ctx;
    (void)err;
    x->call = call;
    x->opened++;
    x->alive++;
    *ret_state = x;
    return 0;
}

static void on_message(void *state, const ProtobufCMessage *message)
{
    struct ctx *x = state;
    const Davit__Link__V1__AgentMessage *m = (const Davit__Link__V1__AgentMessage *)message;
    ProtobufCMessage *copy;
    assert_int_equal(rpc_copy(message, &copy), 0);
    assert_true(x->n < HEARD_MAX);
    x->heard[x->n++] = (Davit__Link__V1__AgentMessage *)copy;
    if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO) {
        assert_true(m->hello->epoch > x->epoch || (x->fenced[0] && m->hello->epoch == x->epoch));
        x->epoch = m->hello->epoch;
        x->last_seq = m->hello->last_received_seq;
        x->hellos++;
        x->ack_beats = x->ack_beats || x->deaf_once;
        welcome(x);
    } else if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HEARTBEAT && x->ack_beats) {
        ack_beat(x, m->heartbeat->sequence);
    } else if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RESULT && x->ack_results) {
        ack_result(x, m->result->seq);
    }
}

static void on_half_close(void *state)
{
    (void)state;
}

static void on_closed(void *state, const struct err *reason)
{
    struct ctx *x = state;
    (void)reason;
    if (--x->alive == 0) /* the end of an old one may be heard after the next has begun */
        x->call = NULL;
}

static const struct rpc_stream_handler stream_handler = {on_open, on_message, on_half_close, NULL, on_closed};
static const struct rpc_handler handlers[] = {{.stream = &stream_handler}};

void cut(struct ctx *x)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_UNAVAILABLE, "restarting");
    if (x->call)
        rpc_stream_finish(x->call, &err);
}

void command(struct ctx *x, uint64_t seq, const char *id, const char *password)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Command c = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__Deploy d = DAVIT__LINK__V1__DEPLOY__INIT;
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    Davit__Common__V1__RegistryAuth auth = DAVIT__COMMON__V1__REGISTRY_AUTH__INIT;
    auth.password = (char *)(uintptr_t)password;
    d.spec = &spec;
    d.registry_auth = password ? &auth : NULL;
    c.seq = seq;
    c.id = (char *)(uintptr_t)id;
    c.body_case = DAVIT__LINK__V1__COMMAND__BODY_DEPLOY;
    c.deploy = &d;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_COMMAND;
    m.command = &c;
    tell(x, &m);
}

unsigned count(const struct ctx *x, int body_case, const Davit__Link__V1__AgentMessage **last)
{
    unsigned n = 0;
    for (size_t i = 0; i < x->n; i++) {
        if ((int)x->heard[i]->body_case != body_case)
            continue;
        n++;
        if (last)
            *last = x->heard[i];
    }
    return n;
}

/* --- Frame ---- */

static int on_identify(void *arg, const char *server_id, const char *server_name, struct err *err)
{
    struct ctx *x = arg;
    assert_string_equal(server_id, SERVER_ID);
    assert_string_equal(server_name, "web-1");
    if (x->identified++)
        return 0;
    return session_set_work(x->session, &x->work, err);
}

static void on_fenced(void *arg, const char *reason)
{
    struct ctx *x = arg;
    (void)str_copy(x->fenced, sizeof(x->fenced), str_from(reason));
}

void make_session(struct ctx *x)
{
    struct session_config config = {
        .loop = x->loop,
        .journal = x->journal,
        .sysinfo = x->sysinfo,
        .endpoint = x->addr,
        .identify = on_identify,
        .fenced = on_fenced,
        .arg = x,
    };
    x->identified = 0;
    x->session = session_new(&config);
    assert_int_equal(session_start(x->session), 0);
}

void end_session(struct ctx *x)
{
    assert_int_equal(session_stop(x->session, deadline_in(PATIENCE)), 0);
    event_release(&x->work.go);
    assert_int_equal(session_join(x->session, deadline_in(PATIENCE)), 0);
    x->session = session_free(x->session);
    event_init(&x->work.go, x->loop);
}

int setup(void **state)
{
    struct ctx *x = calloc(1, sizeof(*x));
    struct err err = ERR_INIT;
    assert_non_null(x);
    x->loop = loop_new();
    x->ack_beats = x->ack_results = true;
    x->interval_ms = 30000;
    (void)str_copy(x->dir, sizeof(x->dir), STR("/tmp/davit-link-XXXXXX"));
    assert_non_null(mkdtemp(x->dir));
    AUTO_FREE char *path = str_printf("%s/journal.db", x->dir);
    x->addr = str_printf("unix:%s/link.sock", x->dir);
    assert_int_equal(journal_open(x->loop, path, &x->journal, &err), 0);
    struct sysinfo_config info = {.loop = x->loop, .tailscale = "/nonexistent"};
    x->sysinfo = sysinfo_new(&info);
    event_init(&x->work.go, x->loop);
    x->server = rpc_server_new(x->loop, allow, NULL);
    rpc_server_add(x->server, &davit_link_v1_link_service, handlers, x);
    assert_int_equal(rpc_server_listen(x->server, x->addr, 0600, NULL, &err), 0);

    *state = x;
    return 0;
}

int teardown(void **state)
{
    struct ctx *x = *state;
    for (size_t i = 0; i < x->n; i++)
        (void)rpc_message_free(x->heard[i]);
    event_release(&x->work.go);
    free(x->addr);
    assert_int_equal(fd_remove_tree(x->dir, NULL), 0);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    free(x);
    return 0;
}

static void release(struct ctx *x)
{
    x->server = rpc_server_free(x->server);
    x->sysinfo = sysinfo_free(x->sysinfo);
    x->journal = journal_close(x->journal);
}

static void body_main(void *arg)
{
    struct ctx *x = arg;
    x->body(x);
    if (x->session)
        end_session(x);
    release(x);
    loop_stop(x->loop);
}

void run(struct ctx *x, void (*body)(struct ctx *x))
{
    struct fiber *f;
    x->body = body;
    assert_int_equal(fiber_spawn(x->loop, "test", body_main, x, &f), 0);
    loop_run(x->loop);
    assert_true(fiber_done(f));
    (void)fiber_unref(f);
    x->loop = loop_free(x->loop);
}
