/* SPDX-License-Identifier: Apache-2.0 */
/* session — see session.h: the fiber that connects, says Hello, hears Welcome, and comes back after a loss. */
#include "base/log.h"
#include "base/mem.h"
#include "host/link/link_dial.h"
#include "host/link/session_internal.h"

#define HEARTBEAT_MIN (100 * USEC_MSEC)
#define HEARTBEAT_MAX (5 * USEC_MINUTE)
#define SPREAD_MAX (10 * USEC_MINUTE)

static const char *const state_names[SESSION_STATE_COUNT] = {"new", "connecting", "online", "waiting", "refused", "fenced", "stopped"};

const char *session_state_name(enum session_state state)
{
    return (int)state >= 0 && state < SESSION_STATE_COUNT ? state_names[state] : "unknown";
}

/* The allowed moves; what is not listed cannot happen. */
static const unsigned moves[SESSION_STATE_COUNT] = {
    [SESSION_NEW] = 1 << SESSION_CONNECTING | 1 << SESSION_STOPPED,
    [SESSION_CONNECTING] =
        1 << SESSION_ONLINE | 1 << SESSION_WAITING | 1 << SESSION_REFUSED | 1 << SESSION_FENCED | 1 << SESSION_STOPPED,
    [SESSION_ONLINE] =
        1 << SESSION_CONNECTING | 1 << SESSION_WAITING | 1 << SESSION_REFUSED | 1 << SESSION_FENCED | 1 << SESSION_STOPPED,
    [SESSION_WAITING] = 1 << SESSION_CONNECTING | 1 << SESSION_STOPPED,
    [SESSION_REFUSED] = 1 << SESSION_CONNECTING | 1 << SESSION_STOPPED,
    [SESSION_FENCED] = 1 << SESSION_CONNECTING | 1 << SESSION_STOPPED,
    [SESSION_STOPPED] = 1 << SESSION_NEW, /* after a pause */
};

static void set_state(struct session *s, enum session_state to)
{
    BUG_ON(!(moves[s->state] & 1u << to));
    s->state = to;
    s->since = clock_real();
    s->next_try = 0;
}

struct session *session_new(const struct session_config *config)
{
    struct session *s = NEW(struct session);
    s->loop = config->loop;
    s->journal = config->journal;
    s->sysinfo = config->sysinfo;
    s->tls = config->tls ? tls_ctx_ref(config->tls) : NULL;
    s->keepalive = SESSION_KEEPALIVE;
    s->endpoint = str_dup(str_from(config->endpoint));
    s->server_id = str_dup(str_from(config->server_id));
    s->generation = config->generation;
    s->renew = config->renew;
    s->tunnel = config->tunnel;
    s->is_fenced = config->was_fenced;
    s->identify = config->identify;
    s->fenced = config->fenced;
    s->doctor = config->doctor;
    s->drained = config->drained;
    s->update = config->update;
    s->arg = config->arg;
    s->since = clock_real();
    rng_uuid(s->instance_id);
    list_init(&s->runs);
    list_init(&s->cancels);
    event_init(&s->run_ended, s->loop);
    event_init(&s->order, s->loop);
    timer_init(&s->start_retry, s->loop, commands_start_waiting, s);
    event_init(&s->stop, s->loop);
    return s;
}

struct session *session_free(struct session *s)
{
    if (!s)
        return NULL;
    BUG_ON(s->live || !list_empty(&s->runs));
    cancels_drop(s);
    (void)fiber_unref(s->fiber);
    (void)fiber_unref(s->resumer);
    event_release(&s->run_ended);
    event_release(&s->order);
    timer_stop(&s->start_retry);
    event_release(&s->stop);
    (void)tls_ctx_unref(s->tls);
    free(s->endpoint);
    free(s->server_id);
    free(s);
    return NULL;
}

void session_set_credentials(struct session *s, struct tls_ctx *tls, uint32_t generation)
{
    struct tls_ctx *old = s->tls;
    s->tls = tls_ctx_ref(tls);
    (void)tls_ctx_unref(old);
    s->generation = generation;
}

void session_set_roots(struct session *s, struct str pem)
{
    s->roots = (struct cert_roots){0};
    (void)cert_roots_read(pem, &s->roots, NULL);
}

void session_relink(struct session *s, const char *why)
{
    struct err err = ERR_INIT;
    if (!s->live || s->live->ended.set)
        return;
    (void)err_set(&err, ERR_CANCELLED, "%s", why);
    s->live->relink = true;
    live_end(s->live, &err);
}

void session_status(const struct session *s, struct session_status *ret)
{
    *ret = (struct session_status){
        .state = s->state,
        .endpoint = s->endpoint,
        .error = s->last.msg,
        .hint = s->last.hint,
        .seen_address = s->seen_address,
        .since = s->since,
        .heartbeat = s->heartbeat,
        .next_try = s->next_try,
        .connections = s->connections,
        .dropped = s->dropped,
        .commands = s->n_runs,
    };
}

/* --- Hello and Welcome ---- */

static int say_hello(struct live *l, struct err *err)
{
    struct session *s = l->session;
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Hello h = DAVIT__LINK__V1__HELLO__INIT;
    ProtobufCBinaryData pins[CERT_ROOTS_MAX];
    const Davit__Common__V1__SystemInfo *system = sysinfo_get(s->sysinfo);
    int rc = s->is_fenced ? journal_epoch(s->journal, &h.epoch, err) : journal_next_epoch(s->journal, &h.epoch, err);
    if (rc == 0)
        rc = journal_last_seq(s->journal, &h.last_received_seq, err);
    if (rc < 0)
        return rc;
    h.protocol_min = h.protocol_max = SESSION_PROTOCOL;
    h.boot_id = system->boot_id;
    h.instance_id = s->instance_id;
    h.clock_us = clock_real();
    h.system = (Davit__Common__V1__SystemInfo *)(uintptr_t)system;
    h.generation = s->generation;
    h.clock_unsure = clock_unsure();
    for (h.n_root_pins = 0; h.n_root_pins < s->roots.n; h.n_root_pins++)
        pins[h.n_root_pins] = (ProtobufCBinaryData){SPKI_HASH_SIZE, s->roots.v[h.n_root_pins].pin};
    h.root_pins = pins;
    h.takes_calls = true;
    h.takes_sandboxes = true;
    h.counts_sandboxes = true;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO;
    m.hello = &h;
    return tunnel_put(l->stream, l->seal, &m, deadline_in(SESSION_DIAL_WAIT), err);
}

static usec_t clamp_ms(uint32_t ms, usec_t min, usec_t max, usec_t otherwise)
{
    usec_t t = ms * USEC_MSEC;
    if (t == 0)
        return otherwise;
    return t < min ? min : t > max ? max : t;
}

static int check_welcome(struct live *l, const Davit__Link__V1__Welcome *w, struct err *err)
{
    struct session *s = l->session;
    if (w->protocol != SESSION_PROTOCOL)
        return err_set(err, ERR_PRECONDITION, "the control plane chose protocol %u, this agent speaks %d", w->protocol, SESSION_PROTOCOL);
    if (*s->server_id && !str_eq(str_from(s->server_id), str_from(w->server_id)))
        return err_set(err, ERR_UNAUTHENTICATED, "the control plane takes this agent for another server");
    int rc = s->identify(s->arg, w->server_id, w->server_name, err);
    if (rc < 0)
        return rc;
    s->is_fenced = false;
    if (s->renew)
        renew_online(s->renew, w->clock_us);
    if (s->tunnel)
        tunnel_online(s->tunnel, w->clock_us);
    l->interval = clamp_ms(w->heartbeat_interval_ms, HEARTBEAT_MIN, HEARTBEAT_MAX, SESSION_HEARTBEAT);
    l->spread = clamp_ms(w->reconnect_spread_ms, 0, SPREAD_MAX, 0);
    (void)str_copy(s->seen_address, sizeof(s->seen_address), str_from(w->seen_address));
    if (s->work)
        work_set_usage_interval(s->work, w->usage_interval_ms * USEC_MSEC);
    return 0;
}

static int hear_welcome(struct live *l, struct err *err)
{
    ProtobufCMessage *got = NULL;
    int rc = tunnel_get(l->stream, l->seal, deadline_in(SESSION_DIAL_WAIT), &got, err);
    if (rc == 1)
        return err_set(err, ERR_UNAVAILABLE, "the control plane ended the link before its Welcome");
    if (rc < 0)
        return rc;
    Davit__Link__V1__ControlMessage *m = (Davit__Link__V1__ControlMessage *)got;
    if (m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_WELCOME)
        rc = check_welcome(l, m->welcome, err);
    else if (m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_FENCED) {
        l->fenced = true;
        rc = err_set(err, ERR_ABORTED, "%s", m->fenced->reason);
    } else
        rc = err_set(err, ERR_INTERNAL, "the control plane did not begin with a Welcome");
    (void)rpc_message_free(got);
    return rc;
}

/* --- One connection ---- */

/* The way through an edge that ends TLS. */
static int dial_tunnel(struct live *l, struct err *err)
{
    struct tunnel_link link = {0};
    /* The key of a copy is the same: with a token of its own it would take the place of the agent that is what we were, and that one ours again. */
    if (l->session->is_fenced && !tunnel_lasts(l->session->tunnel)) {
        l->fenced = true;
        return err_set(err, ERR_ABORTED, "another agent uses this identity, and the access token of this one has ended: enroll it anew");
    }
    int rc = tunnel_connect(l->session->tunnel, l->session->keepalive, &link, err);
    l->channel = link.channel;
    l->stream = link.stream;
    l->seal = link.seal;
    return rc;
}

static int dial_direct(struct live *l, struct err *err)
{
    struct session *s = l->session;
    int rc = s->renew ? renew_prepare(s->renew, err) : 0;
    if (rc == 0)
        rc = link_dial(s->loop, s->endpoint, s->tls, s->keepalive, deadline_in(SESSION_DIAL_WAIT), &l->channel, err);
    return rc == 0 ? rpc_stream_open(l->channel, &davit_link_v1_link_service, "Connect", USEC_INFINITY, &l->stream, err) : rc;
}

static int connect_link(struct live *l, struct err *err)
{
    struct session *s = l->session;
    int rc = sysinfo_collect(s->sysinfo);
    if (rc < 0)
        return err_set(err, (enum err_code)-rc, "the link was given up");
    rc = s->tunnel ? dial_tunnel(l, err) : dial_direct(l, err);
    if (rc == 0)
        rc = say_hello(l, err);
    return rc == 0 ? hear_welcome(l, err) : rc;
}

static void connector_main(void *arg)
{
    struct live *l = arg;
    int rc = connect_link(l, &l->why);
    if (rc < 0)
        (void)err_ensure(&l->why, rc);
    else
        l->up = clock_mono();
}

/* Until its end, which is in l->why. */
static void one_connection(struct live *l)
{
    struct session *s = l->session;
    if (!s->recycled)
        set_state(s, SESSION_CONNECTING);
    if (fiber_spawn(s->loop, "link-connect", connector_main, l, &s->connector) == 0) {
        (void)fiber_join(s->connector, USEC_INFINITY);
        s->connector = fiber_unref(s->connector);
    } else {
        (void)err_set(&l->why, ERR_EXHAUSTED, "too much runs at once for a link");
    }
    if (l->up && !s->stopping) {
        s->connections++;
        s->live = l;
        if (!s->recycled)
            set_state(s, SESSION_ONLINE);
        log_event(s->recycled ? LOG_DEBUG : LOG_NOTICE, "connected to the control plane", "endpoint", s->endpoint, NULL);
        live_run(l);
        s->live = NULL;
        if (s->work) {
            work_logs_reset(s->work);
            work_calls_reset(s->work);
        }
    }
    if (s->renew)
        renew_offline(s->renew);
    if (s->tunnel)
        tunnel_offline(s->tunnel);
    l->told = l->stream && rpc_stream_told(l->stream);
    l->stream = rpc_stream_close(l->stream);
    l->seal = channel_free(l->seal);
    if (l->channel)
        s->keepalive = rpc_channel_keepalive(l->channel);
    l->channel = rpc_channel_close(l->channel);
}

/* Waits until the next try, or the stop. @soon: it was refused, and the next try is another one. @quiet: nobody needs to know. */
static void wait_for_next(struct session *s, const struct live *l, bool soon, bool quiet)
{
    usec_t lived = l->up ? clock_mono() - l->up : 0;
    const struct reconnect_link last = {.why = soon ? ERR_UNAVAILABLE : l->why.code, .lived = lived, .spread = l->spread, .busy = s->n_runs > 0,
                                        .local = str_starts(str_from(s->endpoint), STR("unix:"))};
    usec_t wait = reconnect_wait(&s->backoff, &last);
    bool refused = wait >= RECONNECT_REFUSED_MIN && s->backoff.refused > 0;
    AUTO_FREE char *text = str_printf("%.1fs", (double)wait / (double)USEC_SEC);
    const char *what = l->up ? "the link to the control plane was lost" : "the control plane was not reached";
    log_err(quiet ? LOG_INFO : LOG_WARN, &l->why, what, "endpoint", s->endpoint, "next_try", text, NULL);
    set_state(s, refused ? SESSION_REFUSED : SESSION_WAITING);
    s->next_try = clock_add(clock_real(), wait);
    (void)event_wait(&s->stop, deadline_in(wait));
}

static bool was_refused(const struct live *l)
{
    return l->why.code == ERR_UNAUTHENTICATED || l->why.code == ERR_DENIED;
}

/* Edges end streams after some minutes, each in its own way; the link that was healthy until then goes on as if nothing was. */
static bool was_recycled(const struct session *s, const struct live *l)
{
    return s->tunnel && l->up && clock_mono() - l->up >= SESSION_RECYCLE_MIN && !l->told && !l->fenced && !was_refused(l) &&
           l->why.code != ERR_DATA_LOSS;
}

/* Another agent is what we were: the work ends, and now and then we ask whether that is still so. */
static void stay_fenced(struct session *s, const struct live *l)
{
    bool again = s->is_fenced;
    s->is_fenced = true;
    set_state(s, SESSION_FENCED);
    s->fenced(s->arg, l->why.msg);
    const struct reconnect_link last = {.why = ERR_UNAUTHENTICATED}; /* the lane of what does not change by itself */
    /* Once more at once: that we still live tells the control plane that there are two. */
    usec_t wait = again ? reconnect_wait(&s->backoff, &last) : USEC_SEC + rng_below(2 * USEC_SEC);
    s->next_try = clock_add(clock_real(), wait);
    (void)event_wait(&s->stop, deadline_in(wait));
}

static void session_main(void *arg)
{
    struct session *s = arg;
    while (!s->stopping) {
        struct live l = {.session = s, .why = ERR_INIT};
        list_init(&l.out);
        event_init(&l.out_ready, s->loop);
        event_init(&l.out_room, s->loop);
        event_init(&l.out_low, s->loop);
        event_init(&l.ended, s->loop);
        one_connection(&l);
        live_release(&l);
        if (s->stopping)
            break;
        /* An edge that has just ended one may not take the next one at once (HTTP 524, 502): once that is still the same. */
        bool quiet = s->recycled && !l.up && !was_refused(&l);
        s->recycled = was_recycled(s, &l);
        if (s->recycled) {
            log_err(LOG_DEBUG, &l.why, "the edge ended the link; it goes on", "endpoint", s->endpoint, NULL);
            continue;
        }
        if (l.relink) {
            log_event(LOG_INFO, l.why.msg, "endpoint", s->endpoint, NULL);
            continue;
        }
        s->last = l.why;
        bool soon = s->renew && !l.fenced && was_refused(&l) && renew_refused(s->renew);
        if (s->tunnel && !l.fenced && was_refused(&l))
            tunnel_refused(s->tunnel);
        if (l.fenced)
            stay_fenced(s, &l);
        else
            wait_for_next(s, &l, soon, quiet);
    }
}

int session_start(struct session *s)
{
    return fiber_spawn(s->loop, "session", session_main, s, &s->fiber);
}

int session_stop(struct session *s, usec_t deadline)
{
    struct err err = ERR_INIT;
    int rc = 0;
    s->stopping = true;
    event_signal(&s->stop);
    fiber_cancel(s->resumer);
    fiber_cancel(s->connector);
    (void)err_set(&err, ERR_CANCELLED, "the agent ends");
    if (s->live)
        live_end(s->live, &err);
    if (s->fiber)
        rc = fiber_join(s->fiber, deadline);
    if (rc == 0 && s->resumer)
        rc = fiber_join(s->resumer, deadline);
    if (rc == 0 && s->state != SESSION_STOPPED)
        set_state(s, SESSION_STOPPED);
    return rc;
}

int session_pause(struct session *s, usec_t deadline)
{
    int rc = session_stop(s, deadline);
    if (rc < 0)
        return rc;
    s->fiber = fiber_unref(s->fiber);
    s->stopping = false;
    event_reset(&s->stop);
    set_state(s, SESSION_NEW);
    return 0;
}

void session_set_hold(struct session *s, enum session_hold hold)
{
    s->hold = hold;
    event_pulse(&s->order);
}
