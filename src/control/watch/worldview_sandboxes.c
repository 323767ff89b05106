/* SPDX-License-Identifier: Apache-2.0 */
/* worldview_sandboxes — what the reports about one sandbox, each of which says how it is, come to as events: its life, its session, what the
 * registry says of it, its steps. */
#include "base/mem.h"
#include "control/watch/worldview_internal.h"

typedef Davit__Common__V1__Sandbox sandbox_message;
typedef Davit__Control__V1__Event event_message;

enum {
    STARTING = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_STARTING,
    RUNNING = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING,
    STOPPED = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_STOPPED,
    FAILED = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_FAILED,
    REMOVED = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_REMOVED,
    REGISTERED = DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_REGISTERED,
    UNTRUSTED = DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_UNTRUSTED,
};

static const char unknown[] = "unknown", connecting[] = "connecting", connected[] = "connected", broken[] = "broken", failed[] = "failed",
                  running[] = "running", completed[] = "completed";

/* Two reports of one sandbox. */
struct difference {
    struct control *c;
    struct world_sandbox *k;
    const sandbox_message *old; /* NULL: it is new */
    const sandbox_message *now;
    usec_t at;
    bool began; /* its container was started since */
};

struct world_sandbox *world_sandbox_free(struct world_sandbox *k)
{
    if (!k)
        return NULL;
    (void)rpc_message_free(k->m);
    free(k);
    return NULL;
}

static event_message about(const struct control *c, const sandbox_message *m)
{
    event_message e = DAVIT__CONTROL__V1__EVENT__INIT;
    const struct server *s = servers_by_id(c, text(m->server_id));
    e.server_id = lend(m->server_id);
    e.server = lend(s ? s->name : "");
    e.project = lend(m->project);
    e.sandbox_id = lend(m->id);
    e.sandbox = lend(m->name);
    e.container_id = lend(m->container_id);
    return e;
}

static void tell(const struct difference *d, enum bus_kind kind, const char *action)
{
    event_message e = about(d->c, d->now);
    bus_publish(d->c->bus, kind, action, &e);
}

static uint64_t since(const struct difference *d, usec_t begin)
{
    return begin && d->at > begin ? (d->at - begin) * 1000 : 0;
}

static bool up(const sandbox_message *m)
{
    return m && ((int)m->state == STARTING || (int)m->state == RUNNING);
}

static bool came_to(const struct difference *d, int state)
{
    return (int)d->now->state == state && (!d->old || (int)d->old->state != state || (d->began && state == RUNNING));
}

static void note_error(struct world_sandbox *k, const sandbox_message *m)
{
    const char *why = *text(m->message) ? m->message : text(m->reason);
    (void)str_copy(k->last_error, sizeof(k->last_error), str_from(why));
}

/* --- Its life ------------------------------------------------------------------------------------------------------------------------- */

static void tell_stop(const struct difference *d, const sandbox_message *m)
{
    event_message e = about(d->c, m);
    e.terminal = true;
    e.exited = true;
    e.exit_code = m->exit_code;
    e.reason = lend(m->oom_killed ? "oom_killed" : "");
    e.duration_ns = since(d, m->started_at_us);
    bus_publish(d->c->bus, BUS_SANDBOX, "stop", &e);
    d->k->session = unknown;
    d->k->exec = d->k->exec == running ? failed : d->k->exec;
    d->k->in_step = false;
}

static void tell_begin(struct difference *d)
{
    bool again = up(d->old) && up(d->now) && d->old->started_at_us && d->now->started_at_us && d->old->started_at_us != d->now->started_at_us;
    d->began = up(d->now) && (!up(d->old) || again);
    if (again)
        tell_stop(d, d->old);
    if (!d->began)
        return;
    d->k->attempts = 1;
    d->k->session = connecting;
    d->k->exec = unknown;
    d->k->in_step = false;
    d->k->last_error[0] = 0;
    d->k->connected = d->k->exec_started = d->k->exec_completed = 0;
    tell(d, BUS_SANDBOX, "start");
    event_message e = about(d->c, d->now);
    e.attempts = 1;
    bus_publish(d->c->bus, BUS_SESSION, connecting, &e);
}

static void tell_end(const struct difference *d)
{
    if (came_to(d, RUNNING))
        tell(d, BUS_SANDBOX, "running");
    if (came_to(d, STOPPED))
        tell_stop(d, d->now);
    if (!came_to(d, FAILED))
        return;
    event_message e = about(d->c, d->now);
    e.terminal = true;
    e.reason = lend(d->now->reason);
    e.detail = lend(d->now->message);
    bus_publish(d->c->bus, BUS_SANDBOX, failed, &e);
}

/* --- Its session ---------------------------------------------------------------------------------------------------------------------- */

static void tell_session(const struct difference *d)
{
    struct world_sandbox *k = d->k;
    event_message e = about(d->c, d->now);
    bool had = d->old && d->old->session && !d->began, has = d->now->session;
    if (had && !has && up(d->now)) {
        note_error(k, d->now);
        e.reason = lend(d->now->reason);
        e.detail = lend(d->now->message);
        e.duration_ns = since(d, k->connected);
        e.attempts = k->attempts;
        k->session = broken;
    } else if (!had && has) {
        k->attempts += k->session != connecting;
        e.attempts = k->attempts;
        k->connected = d->at;
        k->session = connected;
    } else if (came_to(d, FAILED) && str_eq(str_from(d->now->reason), STR("session_failed"))) {
        e.terminal = true;
        e.reason = lend(d->now->reason);
        e.detail = lend(d->now->message);
        e.attempts = k->attempts;
        k->session = failed;
    } else {
        return;
    }
    bus_publish(d->c->bus, BUS_SESSION, k->session, &e);
}

/* --- What the registry says ----------------------------------------------------------------------------------------------------------- */

static void tell_registry(const struct difference *d)
{
    int old = d->old ? (int)d->old->trust : 0, now = (int)d->now->trust;
    event_message e = about(d->c, d->now);
    if (old == now)
        return;
    e.detail = lend(d->now->message);
    if (now == REGISTERED) {
        bus_publish(d->c->bus, BUS_REGISTRY, "registered", &e);
    } else if (now == UNTRUSTED) {
        e.terminal = true;
        e.reason = lend(d->now->reason);
        note_error(d->k, d->now);
        bus_publish(d->c->bus, BUS_REGISTRY, "untrusted", &e);
    } else if (old == REGISTERED) {
        bus_publish(d->c->bus, BUS_REGISTRY, "evicted", &e);
    }
}

/* --- Its steps ------------------------------------------------------------------------------------------------------------------------ */

static void tell_step(const struct difference *d, const char *action, const sandbox_message *of, bool bad)
{
    event_message e = about(d->c, d->now);
    e.step_name = lend(of->step);
    e.step_index = of->step_index;
    e.step_count = of->step_total;
    e.terminal = bad;
    e.exited = bad;
    e.exit_code = bad ? d->now->exit_code : 0;
    e.reason = lend(bad ? d->now->reason : "");
    e.detail = lend(bad ? d->now->message : "");
    e.duration_ns = bad || str_eq(str_from(action), STR("step_completed")) ? since(d, d->k->step_started) : 0;
    bus_publish(d->c->bus, BUS_EXEC, action, &e);
}

static bool same_step(const sandbox_message *a, const sandbox_message *b)
{
    return a && a->step_index == b->step_index && str_eq(str_from(a->step), str_from(b->step));
}

static void tell_exec(const struct difference *d, const char *action)
{
    event_message e = about(d->c, d->now);
    e.step_count = d->now->step_total;
    e.duration_ns = since(d, d->k->exec_started);
    bus_publish(d->c->bus, BUS_EXEC, action, &e);
}

static void tell_steps(const struct difference *d)
{
    const sandbox_message *now = d->now;
    struct world_sandbox *k = d->k;
    bool withheld = came_to(d, FAILED), ready = came_to(d, RUNNING);
    bool shown = *text(now->step) && ((int)now->state == STARTING || (withheld && str_eq(str_from(now->reason), STR("step_failed"))));
    bool moved = !k->in_step || !same_step(d->old, now);
    if (k->exec != running && (shown || ready)) {
        k->exec_started = d->at;
        k->exec = running;
        tell_exec(d, "started");
    }
    if (k->in_step && ((shown && moved) || ready)) {
        tell_step(d, "step_completed", d->old, false);
        k->in_step = false;
    }
    if (shown && moved) {
        k->step_started = d->at;
        k->in_step = true;
        tell_step(d, "step_started", now, false);
    }
    if (ready) {
        k->exec = completed;
        k->exec_completed = d->at;
        tell_exec(d, "completed");
    }
    if (!withheld)
        return;
    if (k->in_step && shown)
        tell_step(d, "step_failed", now, true);
    k->in_step = false;
    k->exec = k->exec == running ? failed : k->exec;
    note_error(k, now);
}

/* --- All of it ------------------------------------------------------------------------------------------------------------------------ */

static void tell_gone(struct control *c, const sandbox_message *m)
{
    event_message e = about(c, m);
    e.terminal = up(m);
    if (up(m)) /* nobody knows how it ended */
        bus_publish(c->bus, BUS_SANDBOX, "stop", &e);
    e.terminal = false;
    if ((int)m->trust == REGISTERED || (int)m->trust == UNTRUSTED)
        bus_publish(c->bus, BUS_REGISTRY, "evicted", &e);
    e.terminal = true;
    bus_publish(c->bus, BUS_SANDBOX, "destroy", &e);
}

void worldview_sandbox_gone(struct control *c, const char *id)
{
    struct world_sandbox *k = hmap_remove(c->world->sandboxes, str_from(id));
    tell_gone(c, k->m);
    world_sandbox_free(k);
}

static void tell_difference(struct difference *d)
{
    if (!d->old) {
        d->k->session = d->k->exec = unknown;
        tell(d, BUS_SANDBOX, "create");
    } else if (!str_eq(str_from(d->old->name), str_from(d->now->name))) {
        event_message e = about(d->c, d->now);
        e.detail = lend(d->old->name);
        bus_publish(d->c->bus, BUS_SANDBOX, "rename", &e);
    }
    tell_begin(d);
    tell_session(d);
    tell_registry(d);
    tell_steps(d);
    tell_end(d);
}

void worldview_sandbox(struct control *c, const sandbox_message *before, const sandbox_message *after)
{
    ProtobufCMessage *copy = NULL;
    if (!c->world || !c->bus || (!before && !after))
        return;
    struct hmap *all = c->world->sandboxes;
    struct world_sandbox *k = hmap_get(all, str_from(after ? after->id : before->id));
    if (!after || (int)after->state == REMOVED) {
        if (k)
            worldview_sandbox_gone(c, k->m->id);
        else if (before)
            tell_gone(c, before);
        return;
    }
    struct difference d = {.c = c, .k = k, .old = k ? k->m : before, .now = after, .at = clock_real()};
    if (!*text(after->id) || rpc_copy(&after->base, &copy) != 0)
        return;
    if (!k) {
        k = NEW(struct world_sandbox);
        k->session = k->exec = unknown;
        if (hmap_put(all, str_from(after->id), k, NULL) != 0) {
            log_event(LOG_WARN, "more sandboxes than can be followed", "sandbox", after->id, NULL);
            (void)rpc_message_free(copy);
            free(k);
            return;
        }
        d.k = k;
    }
    tell_difference(&d);
    (void)rpc_message_free(k->m);
    k->m = (sandbox_message *)copy;
    k->updated = d.at;
}
