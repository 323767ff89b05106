/* SPDX-License-Identifier: Apache-2.0 */
/* links — see links.h: the stream, its queue, what goes out. */
#include "base/mem.h"
#include "control/link/commands.h"
#include "control/servers/duplicates.h"
#include "control/link/links_internal.h"
#include "control/watch/worldview.h"
#include "control/sandboxes/sandboxes.h"

struct item {
    struct list node;
    Davit__Link__V1__AgentMessage *m;
};

/* How often a watched agent samples, and how long nobody has to ask again. */
enum { WATCH_INTERVAL_MS = 5000, WATCH_FOR_MS = 60000 };

static struct link *link_unref(struct link *l)
{
    struct item *it;
    if (--l->refs)
        return NULL;
    list_each(it, &l->queue, struct item, node) {
        (void)rpc_message_free(it->m);
        free(it);
    }
    (void)tunnel_free(l->tunnel);
    server_unref(l->server);
    free(l);
    return NULL;
}

static void lose_logs(struct link *l)
{
    struct list *n;
    while ((n = list_pop(&l->logs))) {
        struct log_stream *ls = list_entry(n, struct log_stream, node);
        ls->link = NULL;
        ls->on_lost(ls);
    }
    l->n_logs = 0;
}

void link_end(struct link *l, enum err_code code, const char *message, const char *hint)
{
    struct err err = ERR_INIT;
    if (l->state == LINK_ENDED)
        return;
    l->state = LINK_ENDED;
    timer_stop(&l->hello);
    tunnel_stop(l->tunnel);
    if (l->server && l->server->link == l) {
        l->server->link = NULL;
        event_pulse(&l->control->credentials);
    }
    lose_logs(l);
    link_calls_lost(l);
    link_doctors_lost(l);
    (void)err_set(&err, code, "%s", message);
    err_hint(&err, "%s", hint ? hint : "");
    /* An edge ends what it carries every other minute; whether the agent is missed is told by its heartbeats. */
    bool usual = l->tunnel && (code == ERR_CANCELLED || code == ERR_UNAVAILABLE);
    log_event(usual ? LOG_DEBUG : LOG_INFO, "link ends", "server", l->server ? l->server->name : l->id, "peer", l->seen, "reason", message, NULL);
    if (l->call)
        rpc_stream_finish(l->call, &err);
}

static void on_hello_late(void *arg)
{
    link_end(arg, ERR_DEADLINE, "no Hello came in time", NULL);
}

/* Whoever only asks whether we answer (doctor) learns our clock too. */
static void tell_clock(struct rpc_call *call)
{
    AUTO_FREE char *now = str_printf("%llu", (unsigned long long)clock_real());
    (void)rpc_call_set_header(call, "davit-clock-us", str_from(now)); /* nobody needs it: no room is no failure */
}

int link_make(struct rpc_call *call, struct control *c, struct link **ret, struct err *err)
{
    if (c->stopping)
        return err_set(err, ERR_UNAVAILABLE, "the control plane is stopping");
    struct link *l = NEW(struct link);
    l->control = c;
    l->call = call;
    l->refs = 1;
    address_host(conn_peer_addr(rpc_call_conn(call)), l->seen);
    list_init(&l->queue);
    list_init(&l->logs);
    list_init(&l->calls);
    list_init(&l->doctors);
    timer_init(&l->hello, c->loop, on_hello_late, l);
    timer_set(&l->hello, LINK_HELLO_WAIT);
    tell_clock(call);
    *ret = l;
    return 0;
}

static int link_open(struct rpc_call *call, void *ctx, void **ret_state, struct err *err)
{
    struct conn *conn = rpc_call_conn(call);
    struct stream_cred cred;
    struct link *l = NULL;
    int rc = link_make(call, ctx, &l, err);
    if (rc < 0)
        return rc;
    l->unix_peer = conn_peer_cred(conn, &cred) == 0;
    const char *id = authz_server_id(conn_peer(conn)->uri);
    (void)str_copy(l->id, sizeof(l->id), str_from(l->unix_peer ? NULL : id));
    (void)str_copy(l->serial, sizeof(l->serial), str_from(conn_peer(conn)->serial));
    *ret_state = l;
    return 0;
}

static void on_heartbeat(struct link *l, const Davit__Link__V1__Heartbeat *h)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__HeartbeatAck ack = DAVIT__LINK__V1__HEARTBEAT_ACK__INIT;
    if (h->system)
        server_set_system(l->server, h->system);
    server_heard(l->server, h->clock_us);
    credentials_heard(l->server, text(h->credential_error));
    ack.sequence = h->sequence;
    ack.clock_us = clock_real();
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK;
    m.heartbeat_ack = &ack;
    (void)links_send(l, &m); /* one that does not fit is no loss: the next comes in half a minute */
}

static struct log_stream *find_log(struct link *l, uint64_t id)
{
    struct log_stream *ls;
    list_each(ls, &l->logs, struct log_stream, node)
        if (ls->id == id)
            return ls;
    return NULL;
}

static void on_log_end(struct link *l, const Davit__Link__V1__LogEnd *m)
{
    struct log_stream *ls = find_log(l, m->stream_id);
    if (!ls)
        return;
    list_remove(&ls->node);
    l->n_logs--;
    ls->link = NULL;
    ls->on_end(ls, m->failure);
}

/* What is of a call. */
static bool handle_call(struct link *l, const Davit__Link__V1__AgentMessage *m)
{
    switch (m->body_case) {
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_DATA: link_calls_data(l, m->call_data); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_CREDIT: link_calls_credit(l, m->call_credit); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_PROGRESS: link_calls_progress(l, m->call_progress); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_END: link_calls_ended(l, m->call_end); return true;
    default: return false;
    }
}

/* What needs no store. False: it does. */
static bool handle_now(struct link *l, const Davit__Link__V1__AgentMessage *m)
{
    struct log_stream *ls;
    switch (m->body_case) {
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HEARTBEAT: on_heartbeat(l, m->heartbeat); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CONTAINERS:
        worldview_containers(l->server, m->containers);
        inventory_containers(&l->server->inventory, m->containers);
        server_containers_changed(l->server);
        return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_USAGE:
        inventory_usage(&l->server->inventory, m->usage);
        server_sampled(l->server);
        return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_LOGS:
        ls = find_log(l, m->logs->stream_id);
        if (ls) /* else it was closed while this was on its way */
            ls->on_batch(ls, m->logs);
        return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_LOG_END: on_log_end(l, m->log_end); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_DOCTOR_REPORT: link_doctor_report(l, m->doctor_report); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_GOODBYE:
        server_down(l->server, "removed by its host: davit-agent was uninstalled there");
        link_end(l, ERR_CANCELLED, "the agent said goodbye", NULL);
        return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO: link_end(l, ERR_INVALID, "a second Hello on one link", NULL); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY__NOT_SET: /* of a newer protocol: passed over */ return true;
    default: return handle_call(l, m);
    }
}

static void ack_result(struct link *l, uint64_t seq)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__ResultAck ack = DAVIT__LINK__V1__RESULT_ACK__INIT;
    ack.seq = seq;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_RESULT_ACK;
    m.result_ack = &ack;
    (void)links_send(l, &m); /* lost: the agent sends the result again after the next Hello */
}

/* Waits. */
static void handle_stored(struct link *l, const Davit__Link__V1__AgentMessage *m)
{
    struct err err = ERR_INIT;
    int rc = 0;
    if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RECEIVED)
        rc = commands_received(l->server, m->received, &err);
    else if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_PROGRESS)
        rc = commands_progress(l->server, m->progress, &err);
    else if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RESULT &&
             (rc = commands_result(l->server, m->result, &err)) >= 0)
        ack_result(l, m->result->seq);
    else if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CREDENTIAL_REQUEST)
        link_renew(l, m->credential_request);
    else
        (void)sandboxes_message(l->server, m);
    if (rc >= 0)
        return;
    log_err(LOG_ERROR, &err, "a report of an agent could not be stored", "server", l->server->name, NULL);
    link_end(l, ERR_UNAVAILABLE, "the control plane cannot write now", NULL);
}

static void worker(void *arg)
{
    struct link *l = arg;
    struct control *c = l->control;
    struct list *n;
    while (l->state != LINK_ENDED && (n = list_pop(&l->queue))) {
        struct item *it = list_entry(n, struct item, node);
        l->queued--;
        if (l->tunnel && tunnel_concerns(it->m))
            tunnel_work(l, it->m);
        else if (l->state == LINK_GREETING && it->m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO)
            link_greet(l, it->m->hello);
        else if (l->state == LINK_GREETING)
            link_refuse_probe(l);
        else if (!handle_now(l, it->m))
            handle_stored(l, it->m);
        (void)rpc_message_free(it->m);
        free(it);
    }
    l->working = false;
    link_unref(l);
    control_fiber_end(c);
}

static const Davit__Common__V1__StepProgress *running(const Davit__Link__V1__AgentMessage *m)
{
    if (m->body_case != DAVIT__LINK__V1__AGENT_MESSAGE__BODY_PROGRESS || !m->progress->progress)
        return NULL;
    return m->progress->progress->state == DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_RUNNING ? m->progress->progress : NULL;
}

/* Progress that a newer one of the same step overtakes is dropped first; nothing else ever is. */
static void drop_progress(struct link *l, const Davit__Link__V1__AgentMessage *m)
{
    struct item *it;
    const Davit__Common__V1__StepProgress *p = running(m);
    list_each(it, &l->queue, struct item, node) {
        const Davit__Common__V1__StepProgress *q = running(it->m);
        bool same = p && q && it->m->progress->seq == m->progress->seq && str_eq(str_from(p->step), str_from(q->step));
        if (!same && !(q && l->queued >= LINK_QUEUE_MAX))
            continue;
        list_remove(&it->node);
        l->queued--;
        (void)rpc_message_free(it->m);
        free(it);
        return;
    }
}

void link_enqueue(struct link *l, const Davit__Link__V1__AgentMessage *m)
{
    ProtobufCMessage *copy = NULL;
    drop_progress(l, m);
    if (l->queued >= LINK_QUEUE_MAX || rpc_copy(&m->base, &copy) != 0) {
        link_end(l, ERR_EXHAUSTED, "more reports than the control plane can store", NULL);
        return;
    }
    struct item *it = NEW(struct item);
    it->m = (Davit__Link__V1__AgentMessage *)copy;
    list_init(&it->node);
    list_push(&l->queue, &it->node);
    l->queued++;
    if (l->working)
        return;
    if (control_fiber(l->control, "link", worker, l) != 0) {
        link_end(l, ERR_EXHAUSTED, "the control plane has no room for another link now", NULL);
        return;
    }
    l->working = true;
    l->refs++;
}

/* What went over the wire since the last message; the conn is gone when the link is closed, so it is counted on the way. */
void link_count(struct link *l)
{
    const struct conn *conn = l->call ? rpc_call_conn(l->call) : NULL;
    uint64_t now = conn ? conn_bytes_in(conn) + conn_bytes_out(conn) : l->bytes;
    l->control->counters.link_bytes += now - l->bytes;
    l->bytes = now;
}

void link_take(struct link *l, const Davit__Link__V1__AgentMessage *m)
{
    if (l->state == LINK_ENDED)
        return;
    if (l->state == LINK_WAIT_HELLO) {
        /* A heartbeat in place of the Hello asks only whether a Hello would be heard. */
        if (m->body_case != DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO && m->body_case != DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HEARTBEAT) {
            link_end(l, ERR_INVALID, "the first message of a link must be Hello", NULL);
            return;
        }
        timer_stop(&l->hello);
        l->state = LINK_GREETING;
        link_enqueue(l, m);
        return;
    }
    if (l->doubted) {
        l->doubted = false;
        duplicate_confirm(l->server);
    }
    if (l->state == LINK_GREETING || !handle_now(l, m))
        link_enqueue(l, m);
}

static void link_message(void *state, const ProtobufCMessage *message)
{
    link_count(state);
    link_take(state, (const Davit__Link__V1__AgentMessage *)message);
}

void link_half_close(void *state)
{
    link_end(state, ERR_CANCELLED, "the agent closed the link", NULL);
}

void link_drain(void *state)
{
    struct link *l = state;
    l->blocked = false;
    if (l->state != LINK_LIVE)
        return;
    link_calls_drained(l);
    links_pump(l->server);
}

void link_closed(void *state, const struct err *reason)
{
    struct link *l = state;
    l->call = NULL;
    link_end(l, reason->code ? reason->code : ERR_CANCELLED, reason->msg[0] ? reason->msg : "the connection was closed", NULL);
    timer_stop(&l->hello);
    link_unref(l);
}

static const struct rpc_stream_handler link_stream = {
    .open = link_open,
    .message = link_message,
    .half_close = link_half_close,
    .drain = link_drain,
    .closed = link_closed,
};

const struct rpc_handler links_handlers[] = {{.stream = &link_stream}};

int links_send(struct link *l, const Davit__Link__V1__ControlMessage *m)
{
    if (!l || l->state == LINK_ENDED || !l->call)
        return -(int)ERR_UNAVAILABLE;
    int rc = l->tunnel ? tunnel_send(l, m) : rpc_stream_send(l->call, &m->base);
    if (rc == -(int)ERR_EXHAUSTED)
        l->blocked = true;
    return rc;
}

void links_pump(struct server *s)
{
    struct link *l = s->link;
    if (l && l->state == LINK_LIVE && !l->blocked)
        l->next_seq = commands_pump(s, l->next_seq);
}

bool links_take_calls(const struct server *s)
{
    return s->link && s->link->takes_calls;
}

bool links_take_sandboxes(const struct server *s)
{
    return s->link && s->link->takes_sandboxes;
}

bool links_count_sandboxes(const struct server *s)
{
    return s->link && s->link->counts_sandboxes;
}

bool links_has_sent(const struct server *s, uint64_t seq)
{
    return s->link && s->link->next_seq > seq;
}

void links_send_again(struct server *s, uint64_t seq)
{
    struct link *l = s->link;
    if (l && l->next_seq > seq)
        l->next_seq = seq;
}

void links_cut(struct server *s, const char *reason)
{
    bool out = s->gone || credentials_revoked(s);
    if (s->link)
        link_end(s->link, out ? ERR_UNAUTHENTICATED : ERR_UNAVAILABLE, reason, out ? "enroll it again with a new token" : NULL);
}

void links_doubt(struct server *s)
{
    if (s->link)
        s->link->doubted = true;
}

unsigned links_live(const struct control *c)
{
    unsigned n = 0;
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (s->link)
            n++;
    return n;
}

int log_stream_open(struct server *s, struct log_stream *ls, const struct log_query *q, struct err *err)
{
    struct link *l = s->link;
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__LogOpen open = DAVIT__LINK__V1__LOG_OPEN__INIT;
    Davit__Link__V1__LogCursor from[2];
    if (!l)
        return err_set(err, ERR_UNAVAILABLE, "server \"%s\" is not connected", s->name);
    if (l->n_logs >= LINK_LOGS_MAX)
        return err_set(err, ERR_EXHAUSTED, "%d logs of server \"%s\" are being read already", LINK_LOGS_MAX, s->name);
    open.stream_id = ls->id = ++l->next_log;
    open.container_id = lend(q->container_id);
    open.since_ns = q->since_ns;
    open.tail = q->tail;
    open.follow = q->follow;
    open.credit_bytes = q->credit;
    if (q->from) {
        for (size_t i = 0; i < ARRAY_LEN(from); i++) {
            davit__link__v1__log_cursor__init(&from[i]);
            from[i].at_ns = q->from[i].at_ns;
            from[i].entries = q->from[i].entries;
        }
        open.stdout_from = &from[0];
        open.stderr_from = &from[1];
    }
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_OPEN;
    m.log_open = &open;
    if (links_send(l, &m) != 0)
        return err_set(err, ERR_UNAVAILABLE, "the link of server \"%s\" takes nothing now", s->name);
    ls->link = l;
    list_init(&ls->node);
    list_push(&l->logs, &ls->node);
    l->n_logs++;
    return 0;
}

void log_stream_credit(struct log_stream *ls, uint32_t bytes)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__LogCredit credit = DAVIT__LINK__V1__LOG_CREDIT__INIT;
    if (!ls->link)
        return;
    credit.stream_id = ls->id;
    credit.bytes = bytes;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_CREDIT;
    m.log_credit = &credit;
    /* Lost credit would stall the stream for good: the reader starts again instead. */
    if (links_send(ls->link, &m) != 0) {
        struct log_stream *lost = ls;
        log_stream_close(ls);
        lost->on_lost(lost);
    }
}

void log_stream_close(struct log_stream *ls)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__LogClose close_it = DAVIT__LINK__V1__LOG_CLOSE__INIT;
    struct link *l = ls->link;
    if (!l)
        return;
    list_remove(&ls->node);
    l->n_logs--;
    ls->link = NULL;
    close_it.stream_id = ls->id;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_CLOSE;
    m.log_close = &close_it;
    (void)links_send(l, &m); /* one that is lost costs the agent no more than the credit it has left */
}

void links_watch_usage(struct server *s)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__UsageWatch watch = DAVIT__LINK__V1__USAGE_WATCH__INIT;
    usec_t now = clock_mono();
    if (!s->link)
        return;
    watch.interval_ms = WATCH_INTERVAL_MS;
    watch.for_ms = WATCH_FOR_MS;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_USAGE_WATCH;
    m.usage_watch = &watch;
    if (links_send(s->link, &m) != 0)
        return;
    /* The two of the beginning make a rate; whoever comes while they are under way waits for the same ones. */
    if (now >= s->watched_until)
        s->watch_from = s->inventory.batches + 2;
    s->watched_until = clock_add(now, WATCH_FOR_MS * USEC_MSEC);
}

bool links_usage_due(const struct server *s)
{
    return s->link && clock_mono() < s->watched_until && s->inventory.batches < s->watch_from;
}
