/* SPDX-License-Identifier: Apache-2.0 */
/* talk — the stream of the agent: what it says is done in the order in which it comes; what is answered is sent from wherever it happens.
 * Reading waits where a pipeline does not take its input (for INPUT_WAIT), and else for nothing but a renewal. What cannot be sent for want of room
 * is kept in the order in which it was said: BACKLOG_MAX answers at most. Output stays in its pipes. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/mem.h"
#include "session/session_internal.h"

#define V1(name) Davit__Session__V1__##name
#define RENEW_WAIT (30 * USEC_SEC)

struct talk {
    struct session *s;
    struct rpc_call *call;
    struct list backlog;
    unsigned n_backlog;
    bool over;
};

/* What waits for room. */
struct late {
    struct list node;
    ProtobufCMessage *message;
};

/* --- Saying ----------------------------------------------------------------------------------------------------------------------- */

static void drop_backlog(struct talk *t)
{
    struct list *n;

    while ((n = list_pop(&t->backlog)) != NULL) {
        struct late *late = list_entry(n, struct late, node);
        (void)rpc_message_free(late->message);
        free(late);
    }
    t->n_backlog = 0;
}

static void keep(struct talk *t, const ProtobufCMessage *m)
{
    struct late *late = NEW(struct late);
    struct err err = ERR_INIT;

    list_init(&late->node);
    if (t->n_backlog >= BACKLOG_MAX || rpc_copy(m, &late->message) < 0) {
        free(late);
        (void)err_set(&err, ERR_EXHAUSTED, "the agent does not read what it is answered");
        talk_end(t, &err);
        return;
    }
    list_push(&t->backlog, &late->node);
    t->n_backlog++;
}

void talk_send(struct talk *t, const char *id, V1(Response) * r)
{
    if (!t || t->over)
        return;
    r->command_id = (char *)(uintptr_t)id;
    int rc = t->n_backlog > 0 ? -(int)ERR_EXHAUSTED : rpc_stream_send(t->call, &r->base);
    if (rc == -(int)ERR_EXHAUSTED) {
        keep(t, &r->base);
    } else if (rc < 0) {
        struct err err = ERR_INIT;
        (void)err_set(&err, (enum err_code)-rc, "an answer cannot be sent");
        talk_end(t, &err);
    }
}

static void on_room(void *arg)
{
    struct talk *t = arg;

    while (!list_empty(&t->backlog)) {
        struct late *late = list_first(&t->backlog, struct late, node);
        if (!late || rpc_stream_send(t->call, late->message) == -(int)ERR_EXHAUSTED)
            return;
        list_remove(&late->node);
        t->n_backlog--;
        (void)rpc_message_free(late->message);
        free(late);
    }
    pipelines_resume(t->s, t);
}

bool talk_has_room(const struct talk *t)
{
    return !t->over && t->n_backlog == 0 && rpc_stream_queued(t->call) <= RPC_QUEUE_MAX;
}

bool talk_flushed(const struct talk *t)
{
    const struct conn *c = t->over ? NULL : rpc_call_conn(t->call);
    return !c || (t->n_backlog == 0 && rpc_stream_queued(t->call) == 0 && conn_queued(c) == 0);
}

void talk_send_error(struct talk *t, const char *id, V1(ErrorCode) code, const char *message)
{
    V1(Response) r = DAVIT__SESSION__V1__RESPONSE__INIT;
    V1(Error) e = DAVIT__SESSION__V1__ERROR__INIT;

    e.code = code;
    e.message = (char *)(uintptr_t)message;
    r.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_ERROR;
    r.error = &e;
    talk_send(t, id, &r);
}

static int exit_code(const struct wire_end *end)
{
    if (WIFSIGNALED(end->status))
        return 128 + WTERMSIG(end->status);
    return WEXITSTATUS(end->status);
}

static V1(State) state_of(const struct session *s, char parent[WIRE_NAME_SIZE])
{
    static const V1(State__Main) names[] = {
        [WIRE_WAITING] = DAVIT__SESSION__V1__STATE__MAIN__MAIN_WAITING,
        [WIRE_RUNNING] = DAVIT__SESSION__V1__STATE__MAIN__MAIN_RUNNING,
        [WIRE_TERMINATING] = DAVIT__SESSION__V1__STATE__MAIN__MAIN_TERMINATING,
        [WIRE_ENDED] = DAVIT__SESSION__V1__STATE__MAIN__MAIN_ENDED,
    };
    V1(State) m = DAVIT__SESSION__V1__STATE__INIT;

    m.main = names[s->state.state];
    m.pid = s->state.main_pid;
    if (s->state.state == WIRE_ENDED) {
        m.exit_code = exit_code(&s->state.end);
        m.oom_killed = s->state.end.oom_known && s->state.end.oom_kills > 0;
    }
    m.zombies = s->zombies.count;
    (void)str_copy(parent, WIRE_NAME_SIZE, (struct str){s->zombies.name, strnlen(s->zombies.name, sizeof(s->zombies.name))});
    m.zombie_parent = parent;
    return m;
}

void talk_send_state(struct talk *t)
{
    V1(Response) r = DAVIT__SESSION__V1__RESPONSE__INIT;
    char parent[WIRE_NAME_SIZE];

    if (!t)
        return;
    V1(State) state = state_of(t->s, parent);
    r.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_STATE;
    r.state = &state;
    talk_send(t, "", &r);
}

static void send_hello_ack(struct talk *t, const char *id)
{
    V1(Response) r = DAVIT__SESSION__V1__RESPONSE__INIT;
    V1(HelloAck) ack = DAVIT__SESSION__V1__HELLO_ACK__INIT;
    char parent[WIRE_NAME_SIZE];
    V1(State) state = state_of(t->s, parent);

    ack.initialized = t->s->state.initialized != 0;
    ack.cmd_running = t->s->state.state != WIRE_WAITING;
    ack.state = &state;
    r.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_HELLO_ACK;
    r.hello_ack = &ack;
    talk_send(t, id, &r);
}

void talk_end(struct talk *t, const struct err *why)
{
    if (t->over)
        return;
    t->over = true;
    if (t->s->live == t)
        t->s->live = NULL;
    rpc_call_on_room(t->call, NULL, NULL);
    drop_backlog(t);
    pipelines_lost(t->s, t);
    registration_lost(t->s->registration, t);
    rpc_stream_finish(t->call, why);
}

/* --- Hearing ---------------------------------------------------------------------------------------------------------------------- */

static void do_shell(struct talk *t, const V1(Command) * c)
{
    V1(ErrorCode) code = DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_INVALID_REQUEST;
    struct err err = ERR_INIT;

    if (pipeline_find(t->s, t, c->command_id))
        (void)err_set(&err, ERR_INVALID, "a pipeline with this command_id runs");
    else if (spec_check(c->shell, &err) == 0 && pipeline_start(t->s, t, c->command_id, c->shell, &code, &err) == 0)
        return;
    talk_send_error(t, c->command_id, code, err.msg);
}

static void do_stdin(struct talk *t, const V1(Command) * c)
{
    struct str bytes = {(const char *)c->stdin->data.data, c->stdin->data.len};

    if (bytes.n > SPEC_STDIN_MAX) {
        talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_INVALID_REQUEST, "more than 64 KiB of input in one message");
    } else if (!pipeline_find(t->s, t, c->command_id)) {
        talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_UNKNOWN_COMMAND_ID, "no pipeline of this command_id runs");
    } else if (pipeline_feed(t->s, t, c->command_id, bytes) == -(int)ERR_DEADLINE) {
        struct pipeline *p = pipeline_find(t->s, t, c->command_id);
        if (p)
            pipeline_break(p, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_IO_ERROR, "it did not read its input in time");
    }
}

static void do_close_stdin(struct talk *t, const V1(Command) * c)
{
    struct pipeline *p = pipeline_find(t->s, t, c->command_id);

    if (p)
        pipeline_close_input(p);
    else
        talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_UNKNOWN_COMMAND_ID, "no pipeline of this command_id runs");
}

static void tell_init(struct talk *t, const char *id, const union wire_frame *f)
{
    if (session_tell_init(t->s, f) < 0)
        talk_send_error(t, id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_IO_ERROR, "PID 1 could not be told");
}

static void do_signal(struct talk *t, const V1(Command) * c)
{
    struct pipeline *p = pipeline_find(t->s, t, c->command_id);
    union wire_frame f;

    if (!c->signal->main) {
        /* One that has ended meanwhile must not be taken for the main program. */
        if (!p)
            talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_UNKNOWN_COMMAND_ID, "no pipeline of this command_id runs");
        else if (pipeline_signal(p, c->signal->signo) < 0)
            talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_INVALID_REQUEST, "this is no signal");
        return;
    }
    if (!wire_signal_ok(c->signal->signo)) {
        talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_INVALID_REQUEST, "no signal that the main program may be sent");
        return;
    }
    if (t->s->state.state != WIRE_RUNNING && t->s->state.state != WIRE_TERMINATING) {
        talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_NOT_FOUND, "the main program does not run");
        return;
    }
    wire_begin(&f, WIRE_SIGNAL);
    f.signal.signo = c->signal->signo;
    tell_init(t, c->command_id, &f);
}

static void do_ready(struct talk *t, const V1(Command) * c)
{
    union wire_frame f;
    struct err err = ERR_INIT;

    wire_begin(&f, WIRE_READY);
    if (spec_words(c->agent_ready->n_default_cmd, c->agent_ready->default_cmd, &f.ready, &err) < 0)
        talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_INVALID_REQUEST, err.msg);
    else
        tell_init(t, c->command_id, &f);
}

static void do_initialized(struct talk *t, const V1(Command) * c)
{
    union wire_frame f;

    wire_begin(&f, WIRE_INITIALIZED);
    t->s->state.initialized = 1;
    tell_init(t, c->command_id, &f);
}

/* --- Renewal ---- */

struct renewal {
    const char *folder;
    struct material m;
    struct err err;
};

static int write_material(void *arg)
{
    struct renewal *r = arg;
    return material_write(r->folder, &r->m, &r->err);
}

static int renew(struct talk *t, const V1(Renew) * m, struct renewal *r)
{
    struct session *s = t->s;
    struct tls_ctx *tls = NULL;
    int rc = material_set(m->certificate_pem, m->key_pem, m->ca_pem, &r->m, &r->err);

    if (rc == 0)
        rc = material_tls(&r->m, s->options->peer, true, &tls, &r->err);
    if (rc < 0)
        return rc;
    rc = session_disk(s, write_material, r, deadline_in(RENEW_WAIT), &r->err);
    if (rc < 0)
        tls = tls_ctx_unref(tls);
    else
        session_use_tls(s, tls);
    return err_ensure(&r->err, rc);
}

static void do_renew(struct talk *t, const V1(Command) * c)
{
    V1(Response) response = DAVIT__SESSION__V1__RESPONSE__INIT;
    V1(Renewed) renewed = DAVIT__SESSION__V1__RENEWED__INIT;
    struct renewal *r = NEW(struct renewal);

    r->folder = t->s->options->material;
    material_init(&r->m);
    int rc = renew(t, c->renew, r);
    if (rc == 0) {
        log_event(LOG_INFO, "certificate renewed", NULL);
        response.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_RENEWED;
        response.renewed = &renewed;
        talk_send(t, c->command_id, &response);
    } else {
        log_err(LOG_WARN, &r->err, "the certificate was not renewed", NULL);
        talk_send_error(t, c->command_id,
                        rc == -(int)ERR_INVALID ? DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_INVALID_REQUEST
                        : t->s->disk_busy       ? DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_BUSY
                                                : DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_IO_ERROR,
                        r->err.msg);
    }
    material_release(&r->m);
    free(r);
}

/* --- The stream ------------------------------------------------------------------------------------------------------------------- */

static void obey(struct talk *t, const V1(Command) * c)
{
    if (!spec_id_ok(c->command_id)) {
        talk_send_error(t, "", DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_INVALID_REQUEST, "a command_id has 1 to 64 printable bytes");
        return;
    }
    switch (c->body_case) {
    case DAVIT__SESSION__V1__COMMAND__BODY_SHELL: do_shell(t, c); break;
    case DAVIT__SESSION__V1__COMMAND__BODY_STDIN: do_stdin(t, c); break;
    case DAVIT__SESSION__V1__COMMAND__BODY_CLOSE_STDIN: do_close_stdin(t, c); break;
    case DAVIT__SESSION__V1__COMMAND__BODY_SIGNAL: do_signal(t, c); break;
    case DAVIT__SESSION__V1__COMMAND__BODY_REGISTER_REQUIRED: registration_begin(t->s->registration, t, c->command_id); break;
    case DAVIT__SESSION__V1__COMMAND__BODY_AGENT_READY: do_ready(t, c); break;
    case DAVIT__SESSION__V1__COMMAND__BODY_AGENT_INITIALIZED: do_initialized(t, c); break;
    case DAVIT__SESSION__V1__COMMAND__BODY_RENEW: do_renew(t, c); break;
    default: talk_send_error(t, c->command_id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_INVALID_REQUEST, "no command of this kind"); break;
    }
}

static int next(struct rpc_call *call, V1(Command) * *ret, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_recv(call, &m, err);

    *ret = (V1(Command) *)m;
    return rc;
}

/* The first message. The newer stream takes over: the agent was started again and does not know the older one. */
static int greet(struct talk *t, struct err *err)
{
    V1(Command) *c = NULL;
    struct err taken = ERR_INIT;
    int rc = next(t->call, &c, err);

    if (rc != 0)
        return rc < 0 ? rc : err_set(err, ERR_INVALID, "the stream ended without a word");
    if (c->body_case != DAVIT__SESSION__V1__COMMAND__BODY_HELLO || !spec_id_ok(c->command_id)) {
        rc = err_set(err, ERR_INVALID, "the first command must be Hello, with a command_id");
    } else if (t->s->stopping) {
        rc = err_set(err, ERR_UNAVAILABLE, "the sandbox ends");
    } else {
        if (t->s->live) {
            (void)err_set(&taken, ERR_ABORTED, "another session took over");
            talk_end(t->s->live, &taken);
        }
        t->s->live = t;
        send_hello_ack(t, c->command_id);
        session_rests(t->s);
    }
    (void)rpc_message_free(c);
    return rc;
}

static int run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct talk t = {.s = ctx, .call = call};
    V1(Command) *c = NULL;

    (void)request;
    list_init(&t.backlog);
    rpc_call_on_room(call, on_room, &t);
    int rc = greet(&t, err);
    while (rc == 0 && !t.over && (rc = next(call, &c, err)) == 0) {
        obey(&t, c);
        (void)rpc_message_free(c);
    }
    /* What it began ends with it; the call itself ends when this returns. */
    if (!t.over)
        talk_end(&t, rc < 0 ? err : NULL);
    return rc < 0 ? rc : 0;
}

const struct rpc_handler session_handlers[] = {{.run = run}};
_Static_assert(ARRAY_LEN(session_handlers) == davit_session_v1_session_service_METHODS, "one handler for each method");
