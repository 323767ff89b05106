/* SPDX-License-Identifier: Apache-2.0 */
/* idle — see idle.h: the machine, the count, the end. */
#include "control/idle.h"

#include <string.h>

#include "base/mem.h"
#include "control/watch/bus.h"
#include "control/link/commands.h"
#include "control/servers/credentials.h"
#include "control/people/passes.h"
#include "control/sandboxes/sandboxes.h"

/* An agent gives its engine less. */
#define COUNT_WAIT (10 * USEC_SEC)
/* How long an agent that ends too may take to let go of its link. */
#define TELL_WAIT (2 * USEC_SEC)

/* --- The machine --- */

static const enum idle_state table[IDLE_STATE_MAX][IDLE_INPUT_MAX] = {
    /*                  busy           nothing        failed         touched */
    [IDLE_WATCHING] = {IDLE_WATCHING, IDLE_ZERO, IDLE_WATCHING, IDLE_WATCHING},
    [IDLE_ZERO] = {IDLE_WATCHING, IDLE_READY, IDLE_WATCHING, IDLE_WATCHING},
    [IDLE_READY] = {IDLE_WATCHING, IDLE_READY, IDLE_WATCHING, IDLE_WATCHING},
    [IDLE_DRAINING] = {IDLE_DRAINING, IDLE_DRAINING, IDLE_DRAINING, IDLE_DRAINING},
    [IDLE_BROKEN] = {IDLE_BROKEN, IDLE_BROKEN, IDLE_BROKEN, IDLE_BROKEN},
};

enum idle_state idle_step(struct idle_machine *m, enum idle_input in, usec_t now)
{
    m->state = table[m->state][in];
    if (in != IDLE_TOUCHED)
        m->failed = in == IDLE_FAILED ? m->failed + 1 : 0;
    if (m->state == IDLE_READY && now >= m->grace)
        m->state = IDLE_DRAINING;
    if (m->failed >= IDLE_FAILED_MAX)
        m->state = IDLE_BROKEN;
    return m->state;
}

/* --- The count --- */

struct idle {
    struct control *control;
    struct idle_machine machine;
    struct fiber *fiber;
    uint64_t touches;
    uint64_t asked;    /* number of the last question */
    unsigned waiting;  /* agents that have not answered */
    uint32_t running;  /* by those that have */
    bool failed;       /* one could not count */
    struct event news; /* pulsed with each answer */
};

static int count_services(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT COUNT(*) FROM services", "");
}

/* Waits: is there anything that is not a sandbox? */
static enum idle_input look_around(struct control *c)
{
    struct err err = ERR_INIT;
    struct bus_stats bus;
    int64_t services = 0;
    const struct server *s;
    bus_stats(c->bus, &bus);
    if (passes_count(c->passes, PASS_SESSION) || c->n_streams || bus.subscribers)
        return IDLE_BUSY;
    list_each(s, &c->servers, struct server, node)
        if (!s->local)
            return IDLE_BUSY;
    if (store_read(c->store, count_services, &services, deadline_in(STORE_WAIT), &err) < 0) {
        log_err(LOG_WARN, &err, "whether there is something to do could not be read", NULL);
        return IDLE_FAILED;
    }
    return services ? IDLE_BUSY : IDLE_NOTHING;
}

static bool is_up(const struct sandbox *sb)
{
    return sb->state->state == DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_STARTING ||
           sb->state->state == DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING;
}

static int ask(struct idle *i, struct server *s)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__SandboxCount count = DAVIT__LINK__V1__SANDBOX_COUNT__INIT;
    const struct sandbox *sb;
    list_each(sb, &i->control->sandboxes->all, struct sandbox, node)
        count.known += strcmp(sb->server_id, s->id) == 0 && is_up(sb);
    count.request_id = ++i->asked;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_COUNT;
    m.sandbox_count = &count;
    if (links_send(s->link, &m) != 0)
        return -(int)ERR_UNAVAILABLE;
    s->counting = count.request_id;
    i->waiting++;
    return 0;
}

void idle_counted(struct server *s, const Davit__Link__V1__SandboxCounted *m)
{
    struct idle *i = s->control->idle_watch;
    if (!i || !s->counting || s->counting != m->request_id)
        return; /* nobody waits for it any more */
    s->counting = 0;
    i->waiting--;
    i->running += m->running;
    i->failed = i->failed || m->failure;
    if (m->failure)
        log_event(LOG_WARN, "an agent could not count its sandboxes", "server", s->name, "error", text(m->failure->message), NULL);
    event_pulse(&i->news);
}

/* Does @s take no part in the count? It has no sandboxes, then. */
static bool is_passed_over(const struct server *s)
{
    return s->state == SERVER_PENDING || credentials_revoked(s) || (s->link && !links_take_sandboxes(s));
}

/* An older agent may have sandboxes, and never says how many. */
static bool is_unknown(const struct server *s)
{
    return s->link && !is_passed_over(s) && !links_count_sandboxes(s);
}

/* Waits: asks all that may have sandboxes. One that is away may have some: not to know is a failure. */
static enum idle_input count(struct idle *i)
{
    struct control *c = i->control;
    usec_t deadline = deadline_in(COUNT_WAIT);
    struct server *s;
    i->waiting = 0;
    i->running = 0;
    i->failed = false;
    list_each(s, &c->servers, struct server, node)
        if (is_unknown(s))
            return IDLE_BUSY;
    list_each(s, &c->servers, struct server, node) {
        s->counting = 0;
        if (is_passed_over(s))
            continue;
        if (!s->link || ask(i, s) < 0)
            i->failed = true;
    }
    while (i->waiting && !c->stopping)
        if (event_wait(&i->news, deadline) < 0)
            break;
    if (i->running)
        return IDLE_BUSY;
    return i->failed || i->waiting ? IDLE_FAILED : IDLE_NOTHING;
}

int control_run(rpc_run *fn, struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const struct rpc_method *m = rpc_call_method(call);
    bool works = m->client_streams || !m->server_streams;
    c->fibers++;
    c->calls += works;
    int rc = c->stopping ? err_set(err, ERR_UNAVAILABLE, "the control plane is stopping") : fn(call, ctx, request, err);
    c->calls -= works;
    control_fiber_end(c);
    return rc;
}

/* Would an end cut something off? */
static bool is_at_work(struct control *c)
{
    const struct sandbox *sb;
    if (c->calls || commands_pending(c))
        return true;
    list_each(sb, &c->sandboxes->all, struct sandbox, node)
        if (sb->creating)
            return true;
    return false;
}

/* Waits. */
static enum idle_input poll_all(struct idle *i)
{
    struct control *c = i->control;
    uint64_t touches = i->touches;
    if (is_at_work(c))
        return IDLE_BUSY;
    enum idle_input in = c->opt.idle_exit == IDLE_EXIT_ALWAYS ? IDLE_NOTHING : look_around(c);
    if (in == IDLE_NOTHING)
        in = count(i);
    if (in != IDLE_NOTHING)
        return in;
    /* Something may have begun while the agents were asked. */
    return is_at_work(c) ? IDLE_BUSY : touches != i->touches ? IDLE_TOUCHED : IDLE_NOTHING;
}

/* --- The end --- */

static void finish(struct idle *i)
{
    struct control *c = i->control;
    bool broken = i->machine.state == IDLE_BROKEN;
    c->stopping = true; /* no call begins any more what would be cut off */
    c->drained = broken ? "whether sandboxes run could not be counted" : "nothing is left to do";
    log_event(broken ? LOG_ERROR : LOG_NOTICE, "draining", "event", "idle_exit", "reason", c->drained, NULL);
    if (c->opt.on_idle)
        c->opt.on_idle(c->opt.on_idle_arg, broken ? -(int)ERR_UNAVAILABLE : 0);
}

static void watch(void *arg)
{
    struct idle *i = arg;
    struct control *c = i->control;
    while (fiber_sleep(c->opt.idle_poll) == 0 && !c->stopping) {
        enum idle_state before = i->machine.state;
        enum idle_input in = poll_all(i);
        if (c->stopping)
            break;
        enum idle_state now = idle_step(&i->machine, in, clock_mono());
        if (now != before)
            log_event(LOG_DEBUG, "idle", "zero_polls", now == IDLE_WATCHING ? "0" : now == IDLE_ZERO ? "1" : "2", NULL);
        if (now >= IDLE_DRAINING) {
            finish(i);
            break;
        }
    }
    control_fiber_end(c);
}

void idle_touch(struct control *c)
{
    struct idle *i = c->idle_watch;
    if (!i)
        return;
    i->touches++;
    (void)idle_step(&i->machine, IDLE_TOUCHED, 0);
}

int idle_start(struct control *c, struct err *err)
{
    bool wanted = c->opt.idle_exit == IDLE_EXIT_ALWAYS || (c->opt.idle_exit == IDLE_EXIT_AUTO && c->opt.for_sandboxes);
    if (!wanted)
        return 0;
    if (!c->opt.idle_poll)
        c->opt.idle_poll = IDLE_POLL;
    struct idle *i = NEW(struct idle);
    i->control = c;
    i->machine.grace = deadline_in(c->opt.idle_grace ? c->opt.idle_grace : IDLE_GRACE);
    event_init(&i->news, c->loop);
    c->idle_watch = i;
    int rc = fiber_spawn(c->loop, "idle", watch, i, &i->fiber);
    if (rc == 0)
        c->fibers++;
    return rc < 0 ? err_set(err, ERR_EXHAUSTED, "too much runs at once") : 0;
}

void idle_leave(struct control *c)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Drained drained = DAVIT__LINK__V1__DRAINED__INIT;
    usec_t deadline = deadline_in(TELL_WAIT);
    struct server *s;
    if (c->idle_watch)
        fiber_cancel(c->idle_watch->fiber);
    /* Where sandboxes may run, the agent goes on, and waits for the next one. */
    if (!c->idle_watch || c->idle_watch->machine.state != IDLE_DRAINING)
        return;
    drained.reason = lend(c->drained);
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_DRAINED;
    m.drained = &drained;
    list_each(s, &c->servers, struct server, node)
        if (s->local && s->link)
            (void)links_send(s->link, &m);
    for (s = servers_local(c); s && s->link && clock_mono() < deadline; s = servers_local(c))
        if (fiber_sleep(20 * USEC_MSEC) < 0)
            break;
}

struct idle *idle_free(struct idle *i)
{
    if (!i)
        return NULL;
    i->fiber = fiber_unref(i->fiber);
    event_release(&i->news);
    free(i);
    return NULL;
}
