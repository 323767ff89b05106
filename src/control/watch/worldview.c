/* SPDX-License-Identifier: Apache-2.0 */
/* worldview — see worldview.h: servers, containers, the snapshot. Sandboxes are in worldview_sandboxes.c. */
#include "control/watch/worldview.h"

#include <stdio.h>

#include "base/mem.h"
#include "control/watch/worldview_internal.h"

typedef Davit__Common__V1__Container container_message;
typedef Davit__Control__V1__Event event_message;

/* So that two messages of this size and their parts fit one of RPC_MESSAGE_MAX even as JSON. */
enum { STATE_MAX = RPC_MESSAGE_MAX / 2 };

struct worldview *worldview_new(struct control *c)
{
    struct worldview *w = NEW(struct worldview);
    w->sandboxes = hmap_new(WORLDVIEW_SANDBOXES_MAX);
    w->feed = deployment_feed_new(c);
    return w;
}

struct worldview *worldview_free(struct worldview *w)
{
    if (!w)
        return NULL;
    w->feed = deployment_feed_free(w->feed);
    for (struct hmap_entry *e = hmap_first(w->sandboxes); e; e = hmap_next(e))
        world_sandbox_free(hmap_value(e));
    w->sandboxes = hmap_free(w->sandboxes);
    free(w);
    return NULL;
}

void worldview_stopping(struct worldview *w)
{
    deployment_feed_stopping(w->feed);
}

void worldview_deployment(struct control *c, const char *id)
{
    if (c->world && c->bus)
        deployment_feed_news(c->world->feed, id);
}

/* --- Servers -------------------------------------------------------------------------------------------------------------------------- */

static void tell_server(const struct server *s, const char *action, bool terminal)
{
    event_message m = DAVIT__CONTROL__V1__EVENT__INIT;
    m.server_id = lend(s->id);
    m.server = lend(s->name);
    m.reason = lend(s->reason);
    m.terminal = terminal;
    bus_publish(s->control->bus, BUS_SERVER, action, &m);
}

void worldview_server(const struct server *s)
{
    tell_server(s, s->state == SERVER_PENDING ? "added" : server_state_name(s->state), false);
}

void worldview_server_gone(const struct server *s)
{
    struct worldview *w = s->control->world;
    struct hmap_entry *e = w ? hmap_first(w->sandboxes) : NULL;
    while (e) {
        const struct world_sandbox *k = hmap_value(e);
        e = hmap_next(e);
        if (str_eq(str_from(k->m->server_id), str_from(s->id)))
            worldview_sandbox_gone(s->control, k->m->id);
    }
    tell_server(s, "removed", true);
}

/* --- Containers ----------------------------------------------------------------------------------------------------------------------- */

/* Those that nobody made for Davit are nobody's business here. */
static const container_message *known(const struct server *s, const char *id)
{
    const container_message *k = inventory_find(&s->inventory, id);
    k = k ? k : hmap_get(s->inventory.foreign, str_from(id));
    return k && !k->foreign ? k : NULL;
}

static bool is(const char *state, const char *wanted)
{
    return str_eq(str_from(state), str_from(wanted));
}

static bool runs(const container_message *k)
{
    return k && (is(k->state, "running") || is(k->state, "paused"));
}

struct teller {
    const struct server *s;
    const container_message *k;
    bool resync;
};

static void tell(const struct teller *t, const char *action, bool stopped, const char *detail)
{
    event_message m = DAVIT__CONTROL__V1__EVENT__INIT;
    m.server_id = lend(t->s->id);
    m.server = lend(t->s->name);
    m.project = lend(t->k->project);
    m.service = lend(t->k->service);
    m.deployment_id = lend(t->k->deployment_id);
    m.container_id = lend(t->k->id);
    m.container = lend(t->k->name);
    m.detail = lend(detail);
    m.resync = t->resync;
    m.terminal = stopped || str_eq(str_from(action), STR("destroy"));
    /* Of an end that was missed nobody knows how it was. */
    m.exited = stopped && !runs(t->k);
    m.exit_code = m.exited ? t->k->exit_code : 0;
    m.reason = lend(m.exited && t->k->oom_killed ? "oom_killed" : "");
    bus_publish(t->s->control->bus, BUS_CONTAINER, action, &m);
}

static bool health_told(const container_message *k)
{
    return is(k->health, "healthy") || is(k->health, "unhealthy");
}

/* What must have happened between @old (NULL: there was none) and t->k. */
static void tell_difference(const struct teller *t, const container_message *old)
{
    const container_message *k = t->k;
    bool up = runs(k), was_up = runs(old), ended = is(k->state, "exited") || is(k->state, "dead") || is(k->state, "restarting");
    bool again = up && was_up && k->started_at_us != old->started_at_us;
    if (!old)
        tell(t, "create", false, k->image);
    else if (!is(old->name, text(k->name)))
        tell(t, "rename", false, old->name);
    if (again || (!up && was_up) || (!old && ended))
        tell(t, "stop", true, "");
    if (up && (!was_up || again))
        tell(t, "start", false, "");
    if (is(k->state, "paused") && (!was_up || again || !is(old->state, "paused")))
        tell(t, "pause", false, "");
    if (up && was_up && !again && is(old->state, "paused") && !is(k->state, "paused"))
        tell(t, "unpause", false, "");
    if (up && health_told(k) && (!old || !is(old->health, k->health)))
        tell(t, "health", false, k->health);
}

/* It is gone; one that ran has stopped before. */
static void tell_gone(const struct teller *t)
{
    if (runs(t->k))
        tell(t, "stop", true, "");
    tell(t, "destroy", false, "");
}

/* Those that a full report lacks are gone. */
static void tell_missing(const struct server *s, struct hmap *containers, const struct hmap *reported)
{
    struct teller t = {.s = s, .resync = true};
    for (struct hmap_entry *e = hmap_first(containers); e; e = hmap_next(e)) {
        t.k = hmap_value(e);
        if (!t.k->foreign && !hmap_get(reported, hmap_key(e)))
            tell_gone(&t);
    }
}

/* A report may name one container several times, as it came to be: each is compared with the one before. */
static void tell_reported(struct teller *t, const Davit__Link__V1__ContainerStates *m)
{
    struct hmap *before = hmap_new(m->n_containers + 1);
    for (size_t i = 0; i < m->n_containers; i++) {
        container_message *k = m->containers[i];
        void *old = NULL;
        if (k->foreign || !*text(k->id) || hmap_put(before, str_from(k->id), k, &old) != 0)
            continue;
        t->k = k;
        tell_difference(t, old ? old : known(t->s, k->id));
    }
    (void)hmap_free(before);
}

void worldview_containers(const struct server *s, const Davit__Link__V1__ContainerStates *m)
{
    struct teller t = {.s = s, .resync = m->full};
    if (m->full) {
        struct hmap *reported = hmap_new(m->n_containers + 1);
        for (size_t i = 0; i < m->n_containers; i++)
            (void)hmap_put(reported, str_from(m->containers[i]->id), m->containers[i], NULL);
        tell_missing(s, s->inventory.containers, reported);
        tell_missing(s, s->inventory.foreign, reported);
        (void)hmap_free(reported);
    }
    for (size_t i = 0; !m->full && i < m->n_removed_ids; i++) {
        t.k = known(s, m->removed_ids[i]);
        if (t.k)
            tell_gone(&t);
    }
    tell_reported(&t, m);
}

/* --- The snapshot --------------------------------------------------------------------------------------------------------------------- */

struct snapshot {
    Davit__Control__V1__GetStateResponse m;
    const char *project;
    size_t containers_max; /* room */
};

static bool fits(const struct snapshot *n, const char *project)
{
    return !*n->project || is(project, n->project);
}

static void add_containers(struct snapshot *n, struct hmap *containers)
{
    for (struct hmap_entry *e = hmap_first(containers); e; e = hmap_next(e)) {
        container_message *k = hmap_value(e);
        if (k->foreign || !fits(n, k->project))
            continue;
        if (n->m.n_containers == n->containers_max)
            n->m.containers = mem_resize(n->m.containers, n->containers_max = 2 * n->containers_max + 64, sizeof(*n->m.containers));
        n->m.containers[n->m.n_containers++] = k;
    }
}

static void add_sandbox(struct snapshot *n, const struct world_sandbox *k)
{
    Davit__Control__V1__StateSandbox *m = NEW(Davit__Control__V1__StateSandbox);
    davit__control__v1__state_sandbox__init(m);
    m->sandbox = k->m;
    m->session = lend(k->session);
    m->exec = lend(k->exec);
    m->attempts = k->attempts;
    m->last_error = lend(k->last_error);
    m->updated_us = k->updated;
    m->connected_us = k->connected;
    m->exec_started_us = k->exec_started;
    m->step_started_us = k->in_step ? k->step_started : 0;
    m->exec_completed_us = k->exec_completed;
    n->m.sandboxes[n->m.n_sandboxes++] = m;
}

static void add_sandboxes(struct snapshot *n, struct worldview *w, const struct server *server)
{
    n->m.sandboxes = mem_zalloc(hmap_count(w->sandboxes) + 1, sizeof(*n->m.sandboxes));
    for (struct hmap_entry *e = hmap_first(w->sandboxes); e; e = hmap_next(e)) {
        const struct world_sandbox *k = hmap_value(e);
        if (fits(n, k->m->project) && (!server || is(k->m->server_id, server->id)))
            add_sandbox(n, k);
    }
}

static void add_server(struct snapshot *n, struct server *s)
{
    Davit__Control__V1__StateServer *m = NEW(Davit__Control__V1__StateServer);
    davit__control__v1__state_server__init(m);
    m->id = s->id;
    m->name = s->name;
    m->state = lend(server_state_name(s->state));
    m->reason = s->reason;
    n->m.servers[n->m.n_servers++] = m;
    add_containers(n, s->inventory.containers);
    add_containers(n, s->inventory.foreign);
}

int worldview_state(struct control *c, const struct server *server, const char *project, Davit__Control__V1__GetStateResponse **ret,
                    struct err *err)
{
    struct snapshot n = {.m = DAVIT__CONTROL__V1__GET_STATE_RESPONSE__INIT, .project = text(project)};
    ProtobufCMessage *copy = NULL;
    struct server *s;
    int rc = 0;
    n.m.sequence = bus_last(c->bus);
    n.m.taken_us = clock_real();
    n.m.servers = mem_zalloc(c->n_servers + 1, sizeof(*n.m.servers));
    list_each(s, &c->servers, struct server, node)
        if ((!server || s == server) && n.m.n_servers < c->n_servers)
            add_server(&n, s);
    add_sandboxes(&n, c->world, server);
    /* All of it is borrowed so far. */
    if (protobuf_c_message_get_packed_size(&n.m.base) > STATE_MAX) {
        rc = err_set(err, ERR_EXHAUSTED, "the state of all is larger than a message may be");
        err_hint(err, "ask for one server, or for one project");
    } else if (rpc_copy(&n.m.base, &copy) != 0) {
        rc = err_set(err, ERR_EXHAUSTED, "there is no memory for a copy of the state");
    }
    *ret = (Davit__Control__V1__GetStateResponse *)copy;
    for (size_t i = 0; i < n.m.n_servers; i++)
        free(n.m.servers[i]);
    for (size_t i = 0; i < n.m.n_sandboxes; i++)
        free(n.m.sandboxes[i]);
    free(n.m.servers);
    free(n.m.containers);
    free(n.m.sandboxes);
    return rc;
}
