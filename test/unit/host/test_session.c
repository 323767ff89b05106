/* SPDX-License-Identifier: Apache-2.0 */
/* The link against a control plane made here with src/rpc, and a work made here that does as it is told. */
#include "host/link/session.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/fd.h"
#include "davit/link/v1/link.davit.h"
#include "rpc/rpc.h"

enum { HEARD_MAX = 4096 };
#define SERVER_ID "11111111-2222-3333-4444-555555555555"
#define PATIENCE (20 * USEC_SEC)


/* The work that host/link sees. */
struct work {
    struct event go;      /* commands end when it is set */
    unsigned started, fulls, resets;
    int resume_step;
    char auth[64];
};

struct ctx {
    struct loop *loop;
    char dir[64];
    char *addr;
    struct journal *journal;
    struct sysinfo *sysinfo;
    struct session *session;
    struct work work;
    struct rpc_server *server;
    /* The control plane: */
    struct rpc_call *call;
    unsigned opened, alive, hellos;
    uint64_t epoch, last_seq;
    bool ack_beats, ack_results;
    bool deaf_once; /* the next connection answers again */
    uint32_t interval_ms;
    Davit__Link__V1__AgentMessage *heard[HEARD_MAX];
    size_t n;
    char fenced[128];
    unsigned identified;
    void (*body)(struct ctx *x);
};

/* --- Stand-ins ---- */

int work_command(struct work *w, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                 Davit__Link__V1__CommandResult *ret)
{
    davit__link__v1__command_result__init(ret);
    if (cmd->body_case == DAVIT__LINK__V1__COMMAND__BODY_DEPLOY)
        (void)str_copy(w->auth, sizeof(w->auth), str_from(cmd->deploy->registry_auth ? cmd->deploy->registry_auth->password : ""));
    if (resume_step < 0 && journal->step(journal->arg, 0, "pull", STEP_RUNNING) < 0)
        return -(int)ERR_CANCELLED;
    w->resume_step = resume_step;
    w->started++;
    if (event_wait(&w->go, USEC_INFINITY) < 0)
        return -(int)ERR_CANCELLED;
    ret->seq = cmd->seq;
    ret->id = str_dup(str_from(cmd->id));
    ret->outcome = str_dup(STR("done"));
    return 0;
}

void work_result_release(Davit__Link__V1__CommandResult *r)
{
    free(r->id);
    free(r->outcome);
    davit__link__v1__command_result__init(r);
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

static void tell(struct ctx *x, const Davit__Link__V1__ControlMessage *m)
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
        assert_true(m->hello->epoch > x->epoch);
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

static void cut(struct ctx *x)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_UNAVAILABLE, "restarting");
    if (x->call)
        rpc_stream_finish(x->call, &err);
}

static void command(struct ctx *x, uint64_t seq, const char *id, const char *password)
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

/* Messages of this kind that were heard so far; the last of them to @last. */
static unsigned count(const struct ctx *x, int body_case, const Davit__Link__V1__AgentMessage **last)
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

#define HEARD(x, kind) count((x), DAVIT__LINK__V1__AGENT_MESSAGE__BODY_##kind, NULL)
#define LAST(x, kind, last) count((x), DAVIT__LINK__V1__AGENT_MESSAGE__BODY_##kind, (last))

/* On the test's fiber, by the real clock. */
#define WAIT(cond)                                                     \
    do {                                                               \
        usec_t until_ = deadline_in(PATIENCE);                         \
        while (!(cond)) {                                              \
            if (clock_mono() > until_)                                 \
                fail_msg("not in time: %s", #cond);                    \
            assert_int_equal(fiber_sleep(5 * USEC_MSEC), 0);           \
        }                                                              \
    } while (0)

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

static void make_session(struct ctx *x)
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

/* As the agent does it: commands that run are suspended. */
static void end_session(struct ctx *x)
{
    assert_int_equal(session_stop(x->session, deadline_in(PATIENCE)), 0);
    event_release(&x->work.go);
    assert_int_equal(session_join(x->session, deadline_in(PATIENCE)), 0);
    x->session = session_free(x->session);
    event_init(&x->work.go, x->loop);
}

static int setup(void **state)
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

static int teardown(void **state)
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

static void run(struct ctx *x, void (*body)(struct ctx *x))
{
    struct fiber *f;
    x->body = body;
    assert_int_equal(fiber_spawn(x->loop, "test", body_main, x, &f), 0);
    loop_run(x->loop);
    assert_true(fiber_done(f));
    (void)fiber_unref(f);
    x->loop = loop_free(x->loop);
}

/* --- Tests ---- */

static void hello_body(struct ctx *x)
{
    const Davit__Link__V1__AgentMessage *m = NULL;
    struct session_status st;
    make_session(x);
    WAIT(HEARD(x, HEARTBEAT) == 1);
    assert_int_equal(x->heard[0]->body_case, DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO);
    const Davit__Link__V1__Hello *h = x->heard[0]->hello;
    assert_int_equal(h->protocol_min, 1);
    assert_true(*h->instance_id && *h->boot_id && h->epoch == 1 && h->clock_us > 0);
    assert_true(*h->system->hostname && *h->system->kernel && *h->system->arch && h->system->cpu_count && h->system->memory_bytes);
    assert_string_equal(h->system->agent_version, DAVIT_VERSION);
    assert_int_equal(LAST(x, HEARTBEAT, &m), 1);
    assert_non_null(m->heartbeat->system);
    assert_int_equal(m->heartbeat->containers_running, 3);
    assert_int_equal(x->work.fulls, 1);
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_ONLINE);
    WAIT((session_status(x->session, &st), st.heartbeat > 0));
}

/* req: CL-46 */
static void test_hello_then_at_once_a_heartbeat_with_everything(void **state)
{
    run(*state, hello_body);
}

static void journal_body(struct ctx *x)
{
    const Davit__Link__V1__AgentMessage *m = NULL;
    struct journal_entry e = {0};
    struct err err = ERR_INIT;
    uint64_t last;
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "a", NULL);
    WAIT(HEARD(x, RECEIVED) == 1);
    assert_int_equal(journal_pending(x->journal, 0, &e, &err), 0);
    assert_string_equal(e.id, "a");
    journal_entry_release(&e);
    assert_int_equal(HEARD(x, RESULT), 0);
    command(x, 1, "a", NULL); /* twice is once */
    WAIT(HEARD(x, RECEIVED) == 2);
    event_signal(&x->work.go);
    WAIT(HEARD(x, RESULT) == 1);
    (void)LAST(x, RESULT, &m);
    assert_string_equal(m->result->outcome, "done");
    assert_null(m->result->failure);
    assert_int_equal(x->work.started, 1);
    /* The acknowledged result is forgotten, its number is not. */
    WAIT(journal_unacked(x->journal, 0, &e, &err) == 1 || (journal_entry_release(&e), false));
    assert_int_equal(journal_last_seq(x->journal, &last, &err), 0);
    assert_int_equal(last, 1);
    /* What the journal does not take does not run. */
    command(x, 2, "an id that is longer than any that the journal takes", NULL);
    WAIT(HEARD(x, RESULT) == 2);
    (void)LAST(x, RESULT, &m);
    assert_int_equal(m->result->failure->code, ERR_INVALID);
    assert_int_equal(HEARD(x, RECEIVED), 2);
    assert_int_equal(x->work.started, 1);
}

/* req: CL-8 */
static void test_a_command_is_in_the_journal_before_it_is_received(void **state)
{
    run(*state, journal_body);
}

static void resend_body(struct ctx *x)
{
    struct journal_entry e = {0};
    struct err err = ERR_INIT;
    x->ack_results = false;
    event_signal(&x->work.go);
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "a", NULL);
    WAIT(HEARD(x, RESULT) == 1);
    cut(x);
    WAIT(x->work.fulls == 2);
    assert_int_equal(x->work.resets, 1);
    assert_int_equal(x->last_seq, 1);
    WAIT(HEARD(x, RESULT) == 2);
    x->ack_results = true;
    cut(x);
    WAIT(HEARD(x, RESULT) == 3);
    WAIT(journal_unacked(x->journal, 0, &e, &err) == 1 || (journal_entry_release(&e), false));
    unsigned beats = HEARD(x, HEARTBEAT);
    cut(x);
    WAIT(HEARD(x, HEARTBEAT) > beats);
    assert_int_equal(HEARD(x, RESULT), 3);
    assert_int_equal(x->work.started, 1);
}

static void test_a_result_goes_again_until_it_is_acknowledged(void **state)
{
    run(*state, resend_body);
}

static void offline_body(struct ctx *x)
{
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "a", NULL);
    WAIT(x->work.started == 1);
    cut(x);
    event_signal(&x->work.go); /* ends while there is no link */
    WAIT(HEARD(x, RESULT) == 1);
    assert_int_equal(x->work.started, 1);
}

/* req: CL-29 */
static void test_work_goes_on_while_the_link_is_down(void **state)
{
    run(*state, offline_body);
}

static void resume_body(struct ctx *x)
{
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "plain", NULL);
    command(x, 2, "secret", "hunter2");
    WAIT(x->work.started == 2);
    assert_string_equal(x->work.auth, "hunter2");
    end_session(x);
    x->work.started = 0;
    x->work.auth[0] = '\0';
    make_session(x);
    WAIT(x->work.started == 1); /* the one without credentials */
    assert_int_equal(x->work.resume_step, 0);
    WAIT(x->work.fulls == 2);
    assert_int_equal(x->last_seq, 2);
    command(x, 2, "secret", "hunter2");
    WAIT(x->work.started == 2);
    assert_string_equal(x->work.auth, "hunter2");
    assert_int_equal(x->work.resume_step, 0);
    event_signal(&x->work.go);
    WAIT(HEARD(x, RESULT) == 2);
}

static void test_commands_are_resumed_and_credentials_never_stored(void **state)
{
    run(*state, resume_body);
}

static void fenced_body(struct ctx *x)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Fenced f = DAVIT__LINK__V1__FENCED__INIT;
    struct session_status st;
    make_session(x);
    WAIT(x->work.fulls == 1);
    f.reason = (char *)(uintptr_t)"another one came";
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_FENCED;
    m.fenced = &f;
    tell(x, &m);
    WAIT(x->fenced[0]);
    assert_string_equal(x->fenced, "another one came");
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_FENCED);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
    assert_int_equal(x->opened, 1);
}

static void test_a_fenced_agent_does_not_come_back(void **state)
{
    run(*state, fenced_body);
}

static void limit_body(struct ctx *x)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__UsageBatch u = DAVIT__LINK__V1__USAGE_BATCH__INIT;
    struct session_status st;
    make_session(x);
    WAIT(x->work.fulls == 1);
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_USAGE;
    m.usage = &u;
    session_status(x->session, &st);
    assert_int_equal(st.dropped, 0);
    WAIT(HEARD(x, HEARTBEAT) == 1);
    for (unsigned i = 0; i < SESSION_ITEMS_SOFT + 10; i++)
        session_send(x->session, &m);
    session_status(x->session, &st);
    assert_int_equal(st.dropped, 10);
    WAIT(HEARD(x, USAGE) == SESSION_ITEMS_SOFT);
}

static void test_usage_is_dropped_and_counted_when_the_queue_is_full(void **state)
{
    run(*state, limit_body);
}

/* The end of a test on the fake clock, once the time is real again. */
static void nothing(struct ctx *x)
{
    (void)x;
}

/* req: CL-27 */
static void test_a_heartbeat_every_30_seconds(void **state)
{
    struct ctx *x = *state;
    clock_fake(1000 * USEC_SEC, 1700000000 * USEC_SEC);
    make_session(x);
    loop_advance(x->loop, USEC_SEC);
    assert_int_equal(HEARD(x, HEARTBEAT), 1);
    for (unsigned i = 2; i <= 6; i++) {
        loop_advance(x->loop, 28 * USEC_SEC);
        assert_int_equal(HEARD(x, HEARTBEAT), i - 1);
        loop_advance(x->loop, 2 * USEC_SEC);
        assert_int_equal(HEARD(x, HEARTBEAT), i);
    }
    assert_int_equal(x->opened, 1);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    run(x, nothing);
}

/* req: CL-2 CL-7 */
static void test_silence_is_noticed_within_a_minute_and_the_link_made_anew(void **state)
{
    struct ctx *x = *state;
    struct session_status st;
    clock_fake(1000 * USEC_SEC, 1700000000 * USEC_SEC);
    make_session(x);
    loop_advance(x->loop, USEC_SEC);
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_ONLINE);
    x->ack_beats = false; /* right after the last answer: the worst moment */
    x->deaf_once = true;
    loop_advance(x->loop, 46 * USEC_SEC);
    session_status(x->session, &st);
    assert_true(st.state != SESSION_ONLINE || st.connections > 1);
    assert_non_null(strstr(st.error, "heartbeat"));
    loop_advance(x->loop, 14 * USEC_SEC);
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_ONLINE);
    assert_int_equal(x->hellos, 2);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    run(x, nothing);
}

/* req: CL-7 CL-28 */
static void test_back_off_doubles_to_a_cap_with_jitter_after_it(void **state)
{
    (void)state;
    usec_t cap[] = {2, 4, 8, 16, 32, 60, 60, 60};
    usec_t low = USEC_INFINITY, high = 0;
    for (unsigned round = 0; round < 400; round++) {
        struct session_backoff b = {0};
        for (size_t i = 0; i < ARRAY_LEN(cap); i++) {
            usec_t wait = session_next_wait(&b, ERR_UNAVAILABLE, 59 * USEC_SEC, 0);
            assert_true(wait <= cap[i] * USEC_SEC);
            if (i == 7) {
                low = wait < low ? wait : low;
                high = wait > high ? wait : high;
            }
        }
    }
    assert_true(low < 10 * USEC_SEC && high > 50 * USEC_SEC); /* full jitter, also at the cap */
    struct session_backoff b = {.failed = 9};
    assert_true(session_next_wait(&b, ERR_UNAVAILABLE, 60 * USEC_SEC, 5 * USEC_SEC) <= 5 * USEC_SEC);
    assert_int_equal(b.failed, 0);
    assert_true(session_next_wait(&b, ERR_UNAVAILABLE, 0, 5 * USEC_SEC) <= 2 * USEC_SEC);
    for (unsigned i = 0; i < 20; i++) {
        usec_t wait = session_next_wait(&b, ERR_UNAUTHENTICATED, 0, 0);
        assert_true(wait >= USEC_MINUTE && wait <= 30 * USEC_MINUTE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello_then_at_once_a_heartbeat_with_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_command_is_in_the_journal_before_it_is_received, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_result_goes_again_until_it_is_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_work_goes_on_while_the_link_is_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commands_are_resumed_and_credentials_never_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_fenced_agent_does_not_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_usage_is_dropped_and_counted_when_the_queue_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_heartbeat_every_30_seconds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence_is_noticed_within_a_minute_and_the_link_made_anew, setup, teardown),
        cmocka_unit_test(test_back_off_doubles_to_a_cap_with_jitter_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
