/* SPDX-License-Identifier: Apache-2.0 */
/* session_live — see session.h: a connection that is up. Three fibers: one reads, one sends what is queued, one beats. */
#include "base/log.h"
#include "base/mem.h"
#include "host/link/session_internal.h"

#define SEND_WAIT (60 * USEC_SEC)

void live_end(struct live *l, const struct err *why)
{
    if (l->ended.set)
        return;
    l->why = *why;
    event_signal(&l->ended);
}

/* --- Sending ---- */

static bool may_drop(const Davit__Link__V1__AgentMessage *m)
{
    return m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_PROGRESS || m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_USAGE ||
           m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CONTAINERS;
}

static bool crowded(const struct live *l)
{
    return l->out_bytes >= SESSION_OUT_SOFT || l->out_items >= SESSION_ITEMS_SOFT;
}

void session_enqueue(struct session *s, const Davit__Link__V1__AgentMessage *m)
{
    struct live *l = s->live;
    struct err err = ERR_INIT;
    ProtobufCMessage *copy = NULL;
    if (!l || l->ended.set)
        return;
    if (may_drop(m) && crowded(l)) {
        s->dropped++;
        if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CONTAINERS)
            l->states_lost = true;
        return;
    }
    if (rpc_copy(&m->base, &copy) != 0) {
        s->dropped++;
        return;
    }
    struct out *o = NEW(struct out);
    o->message = copy;
    o->size = protobuf_c_message_get_packed_size(copy);
    list_init(&o->node);
    list_push(&l->out, &o->node);
    l->out_bytes += o->size;
    l->out_items++;
    event_signal(&l->out_ready);
    if (l->out_bytes > SESSION_OUT_HARD) {
        (void)err_set(&err, ERR_UNAVAILABLE, "the control plane does not take what it asked for");
        live_end(l, &err);
    }
}

void session_send(void *session, const Davit__Link__V1__AgentMessage *msg)
{
    session_enqueue(session, msg);
}

int session_wait_room(void *session)
{
    struct session *s = session;
    while (s->live && !s->live->ended.set && s->live->out_bytes >= SESSION_OUT_CALLS) {
        int rc = event_wait(&s->live->out_low, USEC_INFINITY);
        if (rc < 0)
            return rc;
    }
    return s->live && !s->live->ended.set ? 0 : -(int)ERR_CANCELLED;
}

static struct out *pop(struct live *l)
{
    struct list *node = list_pop(&l->out);
    if (!node)
        return NULL;
    struct out *o = list_entry(node, struct out, node);
    l->out_bytes -= o->size;
    l->out_items--;
    return o;
}

void live_release(struct live *l)
{
    struct out *o;
    while ((o = pop(l)) != NULL) {
        (void)rpc_message_free(o->message);
        free(o);
    }
    event_release(&l->out_ready);
    event_release(&l->out_room);
    event_release(&l->out_low);
    event_release(&l->ended);
}

/* Room again: what was dropped and must not be missed goes once more. */
static void made_room(struct live *l)
{
    if (l->out_bytes < SESSION_OUT_CALLS)
        event_pulse(&l->out_low);
    if (crowded(l))
        return;
    event_pulse(&l->out_room);
    if (!l->states_lost)
        return;
    l->states_lost = false;
    if (l->session->work)
        work_containers_full(l->session->work);
}

static void sender_main(void *arg)
{
    struct live *l = arg;
    struct err err = ERR_INIT;
    for (;;) {
        struct out *o = pop(l);
        if (!o) {
            event_reset(&l->out_ready);
            if (event_wait(&l->out_ready, USEC_INFINITY) < 0)
                return;
            continue;
        }
        int rc = tunnel_put(l->stream, l->seal, (const Davit__Link__V1__AgentMessage *)o->message, deadline_in(SEND_WAIT), &err);
        (void)rpc_message_free(o->message);
        free(o);
        if (rc < 0) {
            (void)err_ensure(&err, rc);
            live_end(l, &err);
            return;
        }
        made_room(l);
    }
}

/* --- Heartbeats ---- */

static int beat(struct live *l)
{
    struct session *s = l->session;
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Heartbeat h = DAVIT__LINK__V1__HEARTBEAT__INIT;
    bool engine_down = s->work && *work_docker_error(s->work);
    if (s->work && engine_down != (*sysinfo_get(s->sysinfo)->docker_error != '\0'))
        sysinfo_touch_engine(s->sysinfo);
    int rc = sysinfo_collect(s->sysinfo);
    if (rc < 0)
        return rc;
    uint64_t hash = sysinfo_hash(s->sysinfo);
    if (hash != s->sent_hash)
        h.system = (Davit__Common__V1__SystemInfo *)(uintptr_t)sysinfo_get(s->sysinfo);
    s->sent_hash = hash;
    h.sequence = ++l->beats;
    h.clock_us = clock_real();
    h.containers_running = s->work ? work_containers_running(s->work) : 0;
    h.jobs_running = s->work ? work_jobs_running(s->work) : 0;
    if (s->renew) {
        struct renew_status st;
        renew_status(s->renew, &st);
        h.credential_error = (char *)(uintptr_t)st.error;
    }
    struct tunnel_status tunnel = {.error = ""};
    if (s->tunnel) {
        tunnel_status(s->tunnel, &tunnel);
        h.credential_error = (char *)(uintptr_t)tunnel.error;
    }
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HEARTBEAT;
    m.heartbeat = &h;
    session_enqueue(s, &m);
    if (!l->unanswered)
        l->unanswered = clock_mono();
    return 0;
}

static usec_t earlier(usec_t a, usec_t b)
{
    return a < b ? a : b;
}

static void beater_main(void *arg)
{
    struct live *l = arg;
    struct err err = ERR_INIT;
    usec_t next = clock_mono();
    for (;;) {
        usec_t now = clock_mono();
        if (l->unanswered && now >= clock_add(l->unanswered, SESSION_ACK_WAIT)) {
            (void)err_set(&err, ERR_UNAVAILABLE, "the control plane did not answer a heartbeat");
            live_end(l, &err);
            return;
        }
        if (now >= next) {
            next = clock_add(now, l->interval);
            if (beat(l) < 0)
                return;
        }
        usec_t until = l->unanswered ? earlier(next, clock_add(l->unanswered, SESSION_ACK_WAIT)) : next;
        now = clock_mono();
        if (fiber_sleep(until > now ? until - now : 0) < 0)
            return;
    }
}

static void answered(struct live *l, const Davit__Link__V1__HeartbeatAck *ack)
{
    if (ack->sequence == 0 || ack->sequence > l->beats)
        return;
    l->session->heartbeat = clock_real();
    if (l->session->renew)
        renew_hear(l->session->renew, ack->clock_us);
    if (l->session->tunnel)
        tunnel_online(l->session->tunnel, ack->clock_us);
    /* Whoever answers late answers: only silence ends a link. */
    l->unanswered = ack->sequence == l->beats ? 0 : clock_mono();
}

/* --- Reading ---- */

static void fence(struct live *l, const char *reason)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_ABORTED, "%s", *reason ? reason : "another agent uses the identity of this server");
    err_hint(&err, "two agents use one identity: stop one of them, or enroll it under its own name");
    l->fenced = true;
    live_end(l, &err);
}

/* This process has no work to give it to: somebody else is what we were, or the engine is none of ours. */
static void refuse_call(struct live *l, uint64_t id)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CallEnd end = DAVIT__LINK__V1__CALL_END__INIT;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;
    failure.code = ERR_UNAVAILABLE;
    failure.message = (char *)(uintptr_t)"this agent does no work now";
    end.call_id = id;
    end.failure = &failure;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_END;
    m.call_end = &end;
    session_enqueue(l->session, &m);
}

/* Is @m of a call? Then it was given to the work. */
static bool take_call(struct live *l, const Davit__Link__V1__ControlMessage *m)
{
    struct work *work = l->session->work;
    switch (m->body_case) {
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_OPEN:
        if (work)
            work_call_open(work, m->call_open);
        else
            refuse_call(l, m->call_open->call_id);
        return true;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_DATA:
        if (work)
            work_call_data(work, m->call_data);
        return true;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_CREDIT:
        if (work)
            work_call_credit(work, m->call_credit);
        return true;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_CLOSE:
        if (work)
            work_call_close(work, m->call_close);
        return true;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_RESIZE:
        if (work)
            work_call_resize(work, m->call_resize);
        return true;
    default:
        return false;
    }
}

/* 0, or negative when the fiber shall end. */
static int take(struct live *l, const Davit__Link__V1__ControlMessage *m)
{
    struct work *work = l->session->work;
    if (take_call(l, m))
        return 0;
    switch (m->body_case) {
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_COMMAND:
        return command_arrived(l, m->command);
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_RESULT_ACK:
        return command_acked(l, m->result_ack->seq);
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CANCEL_COMMAND:
        command_cancel(l->session, m->cancel_command);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_OPEN:
        if (work)
            work_log_open(work, m->log_open);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_CREDIT:
        if (work)
            work_log_credit(work, m->log_credit);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_CLOSE:
        if (work)
            work_log_close(work, m->log_close);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_USAGE_WATCH:
        if (work)
            work_usage_watch(work, m->usage_watch);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK:
        answered(l, m->heartbeat_ack);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL_REFUSED:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL_ROTATE:
        if (l->session->renew)
            renew_message(l->session->renew, m);
        if (l->session->tunnel)
            tunnel_message(l->session->tunnel, m);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_CERTIFIED:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_EXCHANGED:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_VERDICT:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_COUNT:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_ROOTS:
        if (work)
            work_sandbox_message(work, m);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_DRAINED:
        if (l->session->drained)
            l->session->drained(l->session->arg, m->drained->reason);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_DOCTOR_RUN:
        if (l->session->doctor)
            l->session->doctor(l->session->arg, m->doctor_run->request_id);
        return 0;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_FENCED:
        fence(l, m->fenced->reason);
        return -(int)ERR_ABORTED;
    default: /* of a newer protocol: passed over */
        return 0;
    }
}

static void reader_main(void *arg)
{
    struct live *l = arg;
    struct err err = ERR_INIT;
    int rc;
    do {
        ProtobufCMessage *got = NULL;
        rc = tunnel_get(l->stream, l->seal, USEC_INFINITY, &got, &err);
        if (rc == 0) {
            rc = take(l, (const Davit__Link__V1__ControlMessage *)got);
            (void)rpc_message_free(got);
            if (rc < 0)
                return;
        }
    } while (rc == 0);
    if (rc == 1)
        rc = err_set(&err, ERR_UNAVAILABLE, "the control plane ended the link");
    (void)err_ensure(&err, rc);
    /* The Fenced message may have been lost; the end of the call says the same. In tunnel mode the edge writes that end as it likes: only a sealed
     * message fences. */
    if (err.code == ERR_ABORTED && !l->seal)
        fence(l, err.msg);
    else
        live_end(l, &err);
}

/* --- All together ---- */

static void resend_main(void *arg)
{
    commands_resend(arg);
}

void live_run(struct live *l)
{
    static void (*const mains[])(void *arg) = {reader_main, sender_main, beater_main, resend_main};
    static const char *const names[] = {"link-read", "link-send", "link-beat", "link-resend"};
    struct loop *loop = l->session->loop;
    struct fiber *fibers[ARRAY_LEN(mains)] = {NULL};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(mains); i++) {
        if (fiber_spawn(loop, names[i], mains[i], l, &fibers[i]) == 0)
            continue;
        (void)err_set(&err, ERR_EXHAUSTED, "too much runs at once for a link");
        live_end(l, &err);
        break;
    }
    if (l->session->work)
        work_containers_full(l->session->work);
    (void)event_wait(&l->ended, USEC_INFINITY);
    for (size_t i = 0; i < ARRAY_LEN(mains); i++)
        fiber_cancel(fibers[i]);
    for (size_t i = 0; i < ARRAY_LEN(mains) && fibers[i]; i++) {
        (void)fiber_join(fibers[i], USEC_INFINITY);
        fibers[i] = fiber_unref(fibers[i]);
    }
}
