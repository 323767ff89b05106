/* SPDX-License-Identifier: Apache-2.0 */
/* session_command — see session.h: commands from their arrival to the acknowledgement of their result. */
#include "base/log.h"
#include "base/mem.h"
#include "host/link/session_internal.h"

/* In the journal's `kind` beside the number of the body: it came with credentials, which are not in the journal. */
enum { KIND_CREDENTIALS = 0x10000 };
#define JOURNAL_RETRY (5 * USEC_SEC)

/* A command that runs, waits for its turn, or waits for its credentials. Owned by its fiber. */
struct run {
    struct list node;
    struct session *session;
    struct fiber *fiber;
    Davit__Link__V1__Command *cmd; /* whole, seq and id included */
    int resume_step;
    enum step_state resume_state;
    char resume_name[JOURNAL_STEP_SIZE];
    usec_t received;
    bool parked;                   /* until the control plane sends it again with its credentials */
    bool given;                    /* to the work, which keeps the order from there on */
    bool cancelled;                /* its user does not want it any more */
    struct event unpark;
};

/* How long a command that got no fiber waits for the next try. */
#define START_RETRY USEC_SEC

/* --- Messages ---- */

static void send_received(struct session *s, const Davit__Link__V1__Command *cmd)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CommandReceived received = DAVIT__LINK__V1__COMMAND_RECEIVED__INIT;
    received.seq = cmd->seq;
    received.id = cmd->id;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RECEIVED;
    m.received = &received;
    session_enqueue(s, &m);
}

static void send_result(struct session *s, Davit__Link__V1__CommandResult *r)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RESULT;
    m.result = r;
    session_enqueue(s, &m);
}

/* A failure as a result; the texts are those of @err, borrowed. */
static void fill_failure(const Davit__Link__V1__Command *cmd, struct err *err, const char *reason, Davit__Common__V1__Failure *f,
                         Davit__Link__V1__CommandResult *r)
{
    davit__common__v1__failure__init(f);
    davit__link__v1__command_result__init(r);
    f->code = (uint32_t)err->code;
    f->message = err->msg;
    f->hint = err->hint;
    f->reason = (char *)(uintptr_t)reason;
    r->seq = cmd->seq;
    r->id = cmd->id;
    r->failure = f;
    r->finished_us = clock_real();
}

static void send_failure(struct session *s, const Davit__Link__V1__Command *cmd, struct err *err, const char *reason)
{
    Davit__Common__V1__Failure f;
    Davit__Link__V1__CommandResult r;
    fill_failure(cmd, err, reason, &f, &r);
    send_result(s, &r);
}

/* What the journal keeps of a result, as a message. */
static void send_stored(struct session *s, const struct journal_entry *e)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;
    if (rpc_unpack(&davit__link__v1__command_result__descriptor, buf_str(&e->bytes), &m, &err) != 0) {
        log_err(LOG_ERROR, &err, "a result in the journal cannot be read", "command", e->id, NULL);
        return;
    }
    send_result(s, (Davit__Link__V1__CommandResult *)m);
    (void)rpc_message_free(m);
}

/* --- Running ---- */

static int journal_one_step(void *arg, unsigned index, const char *name, enum step_state state)
{
    struct run *r = arg;
    return journal_step(r->session->journal, r->cmd->seq, index, name, (uint32_t)state, NULL);
}

/* Writes the result down until it is there, however long the disk is full, then sends it. */
static void finish(struct run *r, Davit__Link__V1__CommandResult *result)
{
    struct session *s = r->session;
    AUTO_BUF bytes = BUF_INIT(JOURNAL_BYTES_MAX);
    Davit__Common__V1__Failure f;
    Davit__Link__V1__CommandResult small;
    struct err err = ERR_INIT;
    int rc;
    if (rpc_pack(&result->base, &bytes) != 0) {
        (void)err_set(&err, ERR_INTERNAL, "the result is larger than the journal takes");
        fill_failure(r->cmd, &err, "internal", &f, &small);
        result = &small;
        BUG_ON(rpc_pack(&small.base, &bytes) != 0);
    }
    while ((rc = journal_result(s->journal, r->cmd->seq, buf_str(&bytes), &err)) < 0) {
        if (rc == -(int)ERR_NOT_FOUND) /* emptied meanwhile: another control plane */
            return;
        if (rc != -(int)ERR_CANCELLED)
            log_err(LOG_ERROR, &err, "the result of a command cannot be written to the journal", "command", r->cmd->id, NULL);
        if (fiber_sleep(JOURNAL_RETRY) < 0)
            return; /* the program ends: it is resumed, and finds its steps done */
    }
    send_result(s, result);
}

static void end_run(struct run *r)
{
    struct session *s = r->session;
    list_remove(&r->node);
    s->n_runs--;
    s->ended++;
    event_release(&r->unpark);
    (void)rpc_message_free(r->cmd);
    (void)fiber_unref(r->fiber);
    free(r);
    event_pulse(&s->run_ended);
    event_pulse(&s->order);
}

static bool is_update(const struct run *r)
{
    return r->cmd->body_case == DAVIT__LINK__V1__COMMAND__BODY_UPDATE_AGENT;
}

/* Updates run one after the other. */
static bool updates_before(const struct run *r)
{
    const struct run *o;
    list_each (o, &r->session->runs, struct run, node)
        if (o->cmd->seq < r->cmd->seq && is_update(o))
            return true;
    return false;
}

/* Is an older command for the same service not with the work yet? After a crash it may still be in the journal, or wait for its credentials:
 * the newer one must not overtake it, or the older deployment would replace the newer one. */
static bool must_wait(const struct run *r)
{
    const struct session *s = r->session;
    struct str project, service, p, n;
    const struct run *o;
    if (s->hold == SESSION_HOLD_ALL || (s->hold == SESSION_HOLD_WORK && !is_update(r)))
        return true;
    if (is_update(r) && updates_before(r))
        return true;
    if (!command_address(r->cmd, &project, &service))
        return false;
    if (s->resuming && r->cmd->seq > s->resume_last)
        return true;
    list_each (o, &s->runs, struct run, node)
        if (o->cmd->seq < r->cmd->seq && !o->given && command_address(o->cmd, &p, &n) && str_eq(p, project) && str_eq(n, service))
            return true;
    return false;
}

/* Waits for its credentials and for older commands. 0, then the work has to be called without another wait. */
static int take_turn(struct run *r)
{
    int rc = r->parked ? event_wait(&r->unpark, USEC_INFINITY) : 0;
    r->parked = false;
    while (rc == 0 && must_wait(r) && !(r->cancelled && r->resume_step < 0))
        rc = event_wait(&r->session->order, USEC_INFINITY);
    if (rc == 0 && fiber_cancelled())
        rc = -(int)ERR_CANCELLED;
    r->given = true;
    event_pulse(&r->session->order);
    return rc;
}

/* It is not wanted any more and has not begun: there is nothing to undo. */
static void finish_unbegun(struct run *r)
{
    struct err err = ERR_INIT;
    Davit__Common__V1__Failure f;
    Davit__Link__V1__CommandResult result;
    (void)err_set(&err, ERR_CANCELLED, "cancelled");
    fill_failure(r->cmd, &err, "cancelled", &f, &result);
    finish(r, &result);
}

static int run_command(struct run *r, const struct job_journal *journal, Davit__Link__V1__CommandResult *ret)
{
    struct session *s = r->session;
    if (is_update(r) && s->update)
        return s->update(s->arg, r->cmd, journal, r->resume_step, ret);
    return s->work ? work_command(s->work, r->cmd, journal, r->resume_step, ret) : -(int)ERR_CANCELLED;
}

static void run_main(void *arg)
{
    struct run *r = arg;
    Davit__Link__V1__CommandResult result = DAVIT__LINK__V1__COMMAND_RESULT__INIT;
    struct job_journal journal = {.step = journal_one_step,
                                  .arg = r,
                                  .resume_state = r->resume_state,
                                  .resume_name = r->resume_step >= 0 ? r->resume_name : NULL,
                                  .received = r->received,
                                  .cancelled = &r->cancelled};
    int rc = take_turn(r);
    if (rc == 0 && r->cancelled && r->resume_step < 0) {
        finish_unbegun(r);
    } else if (rc == 0 && run_command(r, &journal, &result) == 0) {
        log_event(result.failure ? LOG_WARN : LOG_INFO, "command ended", "command", r->cmd->id, "outcome", result.outcome, "failure",
                  result.failure ? result.failure->message : NULL, NULL);
        finish(r, &result);
        work_result_release(&result);
    }
    end_run(r);
}

/* Those without a fiber, in order. */
static void start_waiting(struct session *s)
{
    struct run *r;
    list_each (r, &s->runs, struct run, node) {
        if (r->fiber || fiber_spawn(s->loop, "command", run_main, r, &r->fiber) == 0)
            continue;
        timer_set(&s->start_retry, START_RETRY);
        return;
    }
}

void commands_start_waiting(void *arg)
{
    start_waiting(arg);
}

/* Takes @cmd. @e NULL: a fresh one. */
static void start_run(struct session *s, Davit__Link__V1__Command *cmd, const struct journal_entry *e)
{
    struct run *r = NEW(struct run);
    r->session = s;
    r->cmd = cmd;
    r->resume_step = e ? e->step : -1;
    r->resume_state = e && e->step >= 0 ? (enum step_state)e->step_state : STEP_NONE;
    (void)str_copy(r->resume_name, sizeof(r->resume_name), str_from(e ? e->step_name : NULL));
    r->received = e ? e->received : clock_real();
    /* Only what has not begun to pull, or pulls, needs its credentials. */
    r->parked = e && (e->kind & KIND_CREDENTIALS) && (e->step < 0 || str_eq(str_from(e->step_name), STR("pull"))) &&
                r->resume_state != STEP_FAILED && r->resume_state != STEP_UNDONE;
    r->cancelled = cancel_take(s, cmd);
    list_init(&r->node);
    event_init(&r->unpark, s->loop);
    list_push(&s->runs, &r->node);
    if (r->cancelled)
        event_signal(&r->unpark);
    s->n_runs++;
    start_waiting(s);
}

static bool is_running(struct session *s, uint64_t seq)
{
    struct run *r;
    list_each (r, &s->runs, struct run, node)
        if (r->cmd->seq == seq)
            return true;
    return false;
}

static struct run *find_run(struct session *s, const Davit__Link__V1__Command *cmd)
{
    struct run *r;
    list_each (r, &s->runs, struct run, node)
        if (r->cmd->seq == cmd->seq && str_eq(str_from(r->cmd->id), str_from(cmd->id)))
            return r;
    return NULL;
}

static Davit__Link__V1__Command *copy_of(const Davit__Link__V1__Command *cmd)
{
    ProtobufCMessage *copy = NULL;
    return rpc_copy(&cmd->base, &copy) == 0 ? (Davit__Link__V1__Command *)copy : NULL;
}

/* --- Arrival ---- */

/* It was known already: says again what there is to say. 0 or -ERR_CANCELLED. */
static int arrived_again(struct session *s, const Davit__Link__V1__Command *cmd)
{
    struct run *r = find_run(s, cmd);
    struct err err = ERR_INIT;
    uint64_t ended = s->ended;
    if (r && r->parked && !r->unpark.set) {
        Davit__Link__V1__Command *whole = copy_of(cmd);
        if (whole) {
            (void)rpc_message_free(r->cmd);
            r->cmd = whole;
            event_signal(&r->unpark);
        }
    }
    send_received(s, cmd);
    if (r)
        return 0;
    struct journal_entry e = {0};
    int rc = journal_unacked(s->journal, cmd->seq - 1, &e, &err);
    bool stored = rc == 0 && e.seq == cmd->seq && str_eq(str_from(e.id), str_from(cmd->id));
    if (stored)
        send_stored(s, &e);
    journal_entry_release(&e);
    if (rc < 0 || stored)
        return rc == -(int)ERR_CANCELLED ? rc : 0;
    rc = journal_pending(s->journal, cmd->seq - 1, &e, &err);
    if (rc >= 0 && (ended != s->ended || find_run(s, cmd))) {
        /* While the journal was read the resumer may have started it, and it may have ended again: parked without its credentials it would
         * wait for a message that is here already. */
        journal_entry_release(&e);
        return arrived_again(s, cmd);
    }
    bool waits = rc == 0 && e.seq == cmd->seq && str_eq(str_from(e.id), str_from(cmd->id));
    if (waits && s->n_runs < SESSION_RUNS_MAX) {
        Davit__Link__V1__Command *whole = copy_of(cmd);
        e.kind = 0; /* whole: nothing is missing */
        if (whole)
            start_run(s, whole, &e);
    }
    journal_entry_release(&e);
    if (rc < 0 || waits)
        return rc == -(int)ERR_CANCELLED ? rc : 0;
    (void)err_set(&err, ERR_ABORTED, "this command, or another one with its number, was done before and its result was acknowledged");
    err_hint(&err, "was the control plane restored from a backup? Give the command again");
    send_failure(s, cmd, &err, "known");
    return 0;
}

/* It could not be written down, so it does not run. */
static int arrived_in_vain(struct session *s, const Davit__Link__V1__Command *cmd, int rc, struct err *err)
{
    if (rc == -(int)ERR_CANCELLED)
        return rc;
    (void)err_wrap(err, "the command cannot be written to the agent's journal");
    if (err->code == ERR_EXHAUSTED && !*err->hint)
        err_hint(err, "make room on the disk of this server");
    log_err(LOG_ERROR, err, "a command was refused", "command", cmd->id, NULL);
    send_failure(s, cmd, err, "journal");
    return 0;
}

int command_arrived(struct live *l, const Davit__Link__V1__Command *cmd)
{
    struct session *s = l->session;
    AUTO_BUF payload = BUF_INIT(JOURNAL_BYTES_MAX);
    struct err err = ERR_INIT;
    uint32_t kind = (uint32_t)cmd->body_case | (command_has_credentials(cmd) ? KIND_CREDENTIALS : 0);
    Davit__Link__V1__Command *copy = NULL;
    int rc = command_pack(cmd, &payload);
    if (rc < 0)
        rc = err_set(&err, ERR_INVALID, "it is larger than %d bytes", JOURNAL_BYTES_MAX);
    else if (s->n_runs >= SESSION_RUNS_MAX)
        rc = find_run(s, cmd) ? 1 : err_set(&err, ERR_EXHAUSTED, "%d commands wait already", SESSION_RUNS_MAX);
    else if (!(copy = copy_of(cmd)))
        rc = err_set(&err, ERR_INVALID, "it cannot be read");
    else
        rc = journal_add(s->journal, cmd->seq, cmd->id, kind, buf_str(&payload), cmd->deadline_us, &err);
    if (rc == 0) {
        send_received(s, cmd);
        log_event(LOG_INFO, "command received", "command", cmd->id, NULL);
        start_run(s, TAKE(copy), NULL);
        return 0;
    }
    (void)rpc_message_free(copy);
    return rc == 1 ? arrived_again(s, cmd) : arrived_in_vain(s, cmd, rc, &err);
}

void command_cancel(struct session *s, const Davit__Link__V1__CancelCommand *m)
{
    struct run *r;
    list_each (r, &s->runs, struct run, node) {
        if (r->cmd->seq != m->seq || !str_eq(str_from(r->cmd->id), str_from(m->id)))
            continue;
        log_event(LOG_INFO, "command is not wanted any more", "command", m->id, NULL);
        r->cancelled = true;
        event_signal(&r->unpark);
        event_pulse(&s->order);
        if (r->given && s->work && !is_update(r))
            work_cancel(s->work, m->seq, m->id);
        return;
    }
    if (s->resuming)
        cancel_keep(s, m);
}

int command_acked(struct live *l, uint64_t seq)
{
    struct err err = ERR_INIT;
    int rc = journal_acked(l->session->journal, seq, &err);
    if (rc == -(int)ERR_CANCELLED)
        return rc;
    if (rc < 0)
        log_err(LOG_WARN, &err, "an acknowledged result stays in the journal", NULL);
    return 0;
}

void commands_resend(struct live *l)
{
    struct session *s = l->session;
    struct err err = ERR_INIT;
    uint64_t after = 0;
    for (;;) {
        struct journal_entry e = {0};
        int rc = journal_unacked(s->journal, after, &e, &err);
        if (rc == 0) {
            after = e.seq;
            send_stored(s, &e);
        } else if (rc < 0 && rc != -(int)ERR_CANCELLED) {
            log_err(LOG_ERROR, &err, "results in the journal cannot be read", NULL);
        }
        journal_entry_release(&e);
        if (rc != 0)
            return;
        while (l->out_bytes >= SESSION_OUT_SOFT || l->out_items >= SESSION_ITEMS_SOFT)
            if (event_wait(&l->out_room, USEC_INFINITY) < 0)
                return;
    }
}

/* --- What the journal has ---- */

static void resume_one(struct session *s, const struct journal_entry *e)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;
    int rc = e->unreadable ? err_set(&err, ERR_DATA_LOSS, "its envelope does not open with journal.key")
                           : rpc_unpack(&davit__link__v1__command__descriptor, buf_str(&e->bytes), &m, &err);
    if (rc != 0) {
        Davit__Link__V1__Command unreadable = DAVIT__LINK__V1__COMMAND__INIT;
        Davit__Common__V1__Failure f;
        Davit__Link__V1__CommandResult r;
        AUTO_BUF bytes = BUF_INIT(JOURNAL_BYTES_MAX);
        unreadable.seq = e->seq;
        unreadable.id = (char *)(uintptr_t)e->id;
        (void)err_wrap(&err, "the command in the agent's journal cannot be read");
        fill_failure(&unreadable, &err, "journal", &f, &r);
        if (rpc_pack(&r.base, &bytes) != 0 || journal_result(s->journal, e->seq, buf_str(&bytes), &err) < 0)
            log_err(LOG_ERROR, &err, "a command in the journal cannot be read", "command", e->id, NULL);
        return;
    }
    log_event(LOG_NOTICE, "command resumed", "command", e->id, "step", e->step >= 0 ? e->step_name : NULL, NULL);
    start_run(s, (Davit__Link__V1__Command *)m, e);
}

/* Has every command that had begun before the crash been given to the work, which keeps the order? One that waits for credentials changed nothing
 * yet. */
static bool begun_are_given(const struct session *s)
{
    const struct run *r;
    list_each (r, &s->runs, struct run, node)
        if (r->resume_step >= 0 && !r->given && !r->parked && !is_update(r))
            return false;
    return true;
}

/* One at a time, and not many more than may run: new ones wait for these, so these cannot wait for new ones. */
static void resume_main(void *arg)
{
    struct session *s = arg;
    struct err err = ERR_INIT;
    uint64_t after = 0;
    int rc = 0;
    while (rc == 0) {
        struct journal_entry e = {0};
        uint64_t ended = s->ended;
        rc = journal_pending(s->journal, after, &e, &err);
        if (rc == 0 && e.seq > s->resume_last)
            rc = 1;
        /* One that ended while the journal was read may be the one that was read: look once more. */
        if (rc == 0 && ended == s->ended) {
            after = e.seq;
            if (!is_running(s, e.seq))
                resume_one(s, &e);
        }
        journal_entry_release(&e);
        while (rc == 0 && s->n_runs >= 2 * SESSION_RUNS_MAX)
            rc = event_wait(&s->run_ended, USEC_INFINITY);
    }
    if (rc < 0 && rc != -(int)ERR_CANCELLED)
        log_err(LOG_ERROR, &err, "commands in the journal cannot be resumed", NULL);
    s->resuming = false;
    cancels_drop(s);
    event_pulse(&s->order);
    while (rc != -(int)ERR_CANCELLED && !begun_are_given(s))
        rc = event_wait(&s->order, USEC_INFINITY);
    if (s->work && rc != -(int)ERR_CANCELLED)
        work_heal(s->work);
}

int session_set_work(struct session *s, struct work *work, struct err *err)
{
    s->work = work;
    if (s->resumer) {
        fiber_cancel(s->resumer);
        if (fiber_join(s->resumer, deadline_in(JOURNAL_WAIT)) < 0)
            return err_set(err, ERR_CANCELLED, "the agent ends");
        s->resumer = fiber_unref(s->resumer);
    }
    if (!work)
        return 0;
    /* What comes in from now on starts by itself. */
    int rc = journal_last_seq(s->journal, &s->resume_last, err);
    if (rc < 0)
        return rc;
    s->resuming = true;
    if (fiber_spawn(s->loop, "resume", resume_main, s, &s->resumer) < 0) {
        s->resuming = false;
        return err_set(err, ERR_EXHAUSTED, "too much runs at once");
    }
    return 0;
}

int session_join(struct session *s, usec_t deadline)
{
    struct run *r;
    timer_stop(&s->start_retry);
    list_each (r, &s->runs, struct run, node) {
        if (!r->fiber)
            end_run(r);
        else if (!r->given || is_update(r))
            fiber_cancel(r->fiber);
    }
    while (!list_empty(&s->runs)) {
        int rc = event_wait(&s->run_ended, deadline);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- Holding back ---- */

int session_drain(struct session *s, usec_t deadline)
{
    for (;;) {
        const struct run *r;
        bool busy = false;
        list_each (r, &s->runs, struct run, node)
            busy = busy || (r->given && !is_update(r));
        if (!busy)
            return 0;
        int rc = event_wait(&s->run_ended, deadline);
        if (rc < 0)
            return rc;
    }
}
