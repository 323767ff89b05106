/* SPDX-License-Identifier: Apache-2.0 */
/* agent_notify — see agent_notify.h. The loop gets on if its timer fires; the worker is a fiber that asks the engine again and again, of which
 * the end counts and not the answer: an engine that is down is no reason to kill the agent. */
#include "host/link/agent_notify.h"

#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "host/link/notify.h"
#include "loop/fiber.h"

#define LOOK_EVERY (5 * USEC_SEC) /* at the status */
#define GOODBYE_WAIT (5 * USEC_SEC)
#define ASK_MAX    (10 * USEC_SEC)

/* How long a state may last without any change; what waits knows itself until when. */
#define CONNECTING_MAX (2 * USEC_MINUTE)
#define ONLINE_MAX     (7 * USEC_MINUTE) /* the longest interval of heartbeats is 5 minutes, an answer takes 15 s, a send 60 s */
#define WAITING_SLACK  USEC_MINUTE

struct agent_notify {
    struct loop *loop;
    struct docker *docker;
    const struct session *session;
    struct timer look;
    usec_t every;    /* of the watchdog, 0: none */
    usec_t asked;    /* monotonic: when the worker last came round */
    usec_t ping_due; /* monotonic: when WATCHDOG is due */
    struct fiber *worker;
    struct sender_watch sender;
    enum session_state told;
    bool told_any, failed, stuck;
};

bool sender_gets_on(struct sender_watch *w, const struct session_status *st, usec_t now)
{
    usec_t waits = st->next_try > st->since ? st->next_try - st->since : 0;
    if (!w->at || st->state != w->seen.state || st->since != w->seen.since || st->heartbeat != w->seen.heartbeat ||
        st->next_try != w->seen.next_try || st->connections != w->seen.connections) {
        w->seen = *st;
        w->at = now;
        return true;
    }
    switch (st->state) {
    case SESSION_NEW:
    case SESSION_CONNECTING:
        return now - w->at < CONNECTING_MAX;
    case SESSION_ONLINE:
        return now - w->at < ONLINE_MAX;
    case SESSION_WAITING:
    case SESSION_REFUSED:
        return now - w->at < clock_add(waits, WAITING_SLACK);
    default:
        return true;
    }
}

static usec_t least(usec_t a, usec_t b)
{
    return a < b ? a : b;
}

/* A failure is logged once, until it works again. */
static void said(struct agent_notify *n, int rc, const struct err *err)
{
    if (rc < 0 && !n->failed)
        log_err(LOG_WARN, err, "the service manager could not be told", NULL);
    n->failed = rc < 0;
}

static void tell_status(struct agent_notify *n, const struct session_status *st)
{
    struct err err = ERR_INIT;
    bool trouble = st->state != SESSION_ONLINE && *st->error;
    if (n->told_any && n->told == st->state)
        return;
    AUTO_FREE char *text = str_printf("%s: %s%s%s", session_state_name(st->state), st->endpoint, trouble ? ": " : "", trouble ? st->error : "");
    int rc = notify_status(text, &err);
    said(n, rc, &err);
    n->told = st->state;
    n->told_any = rc == 0;
}

static void feed_watchdog(struct agent_notify *n, const struct session_status *st, usec_t now)
{
    struct err err = ERR_INIT;
    bool sender = sender_gets_on(&n->sender, st, now), worker = now - n->asked < n->every;
    if (sender && worker) {
        said(n, notify_send("WATCHDOG=1", &err), &err);
        n->ping_due = clock_add(n->ping_due, n->every);
        if (n->ping_due < now)
            n->ping_due = now;
    } else if (!n->stuck)
        log_event(LOG_ERROR, "a part of the agent does not get on; the service manager will start it anew", "part", worker ? "link" : "engine", NULL);
    n->stuck = !sender || !worker;
}

static void look(void *arg)
{
    struct agent_notify *n = arg;
    struct session_status st;
    usec_t now = clock_mono();
    session_status(n->session, &st);
    tell_status(n, &st);
    if (n->every && now >= n->ping_due)
        feed_watchdog(n, &st, now);
    usec_t wait = n->every && n->ping_due > now ? least(LOOK_EVERY, n->ping_due - now) : LOOK_EVERY;
    timer_set(&n->look, n->every ? least(wait, n->every) : wait);
}

/* Comes round twice in the time of a WATCHDOG. */
static void worker_main(void *arg)
{
    struct agent_notify *n = arg;
    usec_t part = least(n->every / 4, ASK_MAX);
    do {
        struct err err = ERR_INIT;
        (void)docker_ping(n->docker, deadline_in(part), &err);
        n->asked = clock_mono();
    } while (fiber_sleep(part) == 0);
}

void agent_goodbye(const char *marker, struct session *session)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Goodbye goodbye = DAVIT__LINK__V1__GOODBYE__INIT;
    usec_t deadline = deadline_in(GOODBYE_WAIT);
    struct session_status st;
    session_status(session, &st);
    if (st.state != SESSION_ONLINE || access(marker, F_OK) != 0)
        return;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_GOODBYE;
    m.goodbye = &goodbye;
    session_send(session, &m);
    do { /* the control plane ends the link when it has heard it */
        if (fiber_sleep(20 * USEC_MSEC) < 0)
            return;
        session_status(session, &st);
    } while (st.state == SESSION_ONLINE && clock_mono() < deadline);
    if (st.state != SESSION_ONLINE && unlink(marker) == 0)
        log_event(LOG_NOTICE, "said goodbye to the control plane", NULL);
}

struct agent_notify *agent_notify_new(struct loop *loop, struct docker *docker, const struct session *session)
{
    struct err err = ERR_INIT;
    if (!notify_wanted())
        return NULL;
    struct agent_notify *n = NEW(struct agent_notify);
    n->loop = loop;
    n->docker = docker;
    n->session = session;
    n->every = notify_watchdog();
    n->asked = n->ping_due = clock_mono();
    timer_init(&n->look, loop, look, n);
    if (n->every && fiber_spawn(loop, "watchdog", worker_main, n, &n->worker) < 0)
        n->worker = NULL; /* the watchdog will tell */
    said(n, notify_send("READY=1", &err), &err);
    timer_set(&n->look, 1);
    return n;
}

struct agent_notify *agent_notify_free(struct agent_notify *n, usec_t more)
{
    struct err err = ERR_INIT;
    if (!n)
        return NULL;
    said(n, notify_send("STOPPING=1\nSTATUS=stopping", &err), &err);
    said(n, notify_extend(more, &err), &err);
    timer_stop(&n->look);
    fiber_cancel(n->worker);
    if (n->worker)
        (void)fiber_join(n->worker, USEC_INFINITY);
    (void)fiber_unref(n->worker);
    free(n);
    return NULL;
}
