/* SPDX-License-Identifier: Apache-2.0 */
/* watch_topics — the topics that a stream tells from memory: overview, servers, one server, services, sandboxes, usage. Each says what there is and
 * what is new in the same way: what stands behind the number that it was told up to. */
#include "base/mem.h"
#include "control/link/links.h"
#include "control/lists.h"
#include "control/sandboxes/sandboxes.h"
#include "control/watch/watch.h"
#include "control/watch/watch_kept.h"

enum { TOPIC_SHARE = 256 /* messages of a turn */, USAGE_ROWS = INVENTORY_CONTAINERS_MAX + 1 };

/* Agents are asked for samples again this often, before the time for which they were asked last is over; sooner where containers changed. */
#define ASK_EVERY (5 * USEC_SEC)
#define ASK_SOON  USEC_SEC
#define ASK_AHEAD (20 * USEC_SEC)

#define RESPONSE(kind) {.base = PROTOBUF_C_MESSAGE_INIT(&davit__control__v1__watch_response__descriptor), \
                        .event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_##kind}

static int too_far_behind(const struct topic *t, const struct gone_ring *ring, struct err *err)
{
    if (t->gone >= ring->lost)
        return 0;
    (void)err_set(err, ERR_ABORTED, "more is gone than could be told");
    err_hint(err, "subscribe again");
    return -(int)ERR_ABORTED;
}

/* --- Overview ----------------------------------------------------------------------------------------------------------------------- */

static int overview_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    (void)r;
    return err_ensure(err, kept_hold(t->watch->control->kept, KEPT_OVERVIEW));
}

static void overview_end(struct topic *t)
{
    kept_let(t->watch->control->kept, KEPT_OVERVIEW);
}

static int overview_turn(struct topic *t, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(OVERVIEW);
    const struct kept *k = t->watch->control->kept;
    uint64_t seq;
    m.overview = (Davit__Control__V1__GetStatusResponse *)(uintptr_t)kept_overview(k, &seq);
    if (!m.overview && k->failure.code) {
        *err = k->failure;
        return -(int)err->code;
    }
    if (!m.overview)
        return TOPIC_TOLD;
    int rc = t->told < seq ? topic_tell(t, &m, err) : 0;
    if (rc != 0)
        return rc;
    t->told = seq;
    return topic_ready(t, err);
}

/* --- Servers ------------------------------------------------------------------------------------------------------------------------ */

static int tell_server(struct topic *t, const struct server *s, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(SERVER);
    struct server_view view;
    server_describe(s, &view);
    m.server = &view.m;
    return topic_tell(t, &m, err);
}

static int tell_server_removed(struct topic *t, const char *id, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(SERVER_REMOVED);
    m.server_removed = lend(id);
    return topic_tell(t, &m, err);
}

static int servers_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    (void)r;
    (void)err;
    t->gone = t->watch->control->changes.seq;
    return 0;
}

static int servers_turn(struct topic *t, struct err *err)
{
    struct changes *ch = &t->watch->control->changes;
    const struct gone *g;
    unsigned n = 0;
    int rc = too_far_behind(t, &ch->servers_gone, err);
    /* What is gone first: what bears the same name now is told behind it. */
    while (rc == 0 && (g = changes_gone_next(&ch->servers_gone, t->gone)) != NULL && (rc = tell_server_removed(t, g->id, err)) == 0)
        t->gone = g->seq;
    for (struct change *c = changes_first(&ch->servers, t->told); rc == 0 && c; c = changes_next(&ch->servers, c)) {
        if (++n > TOPIC_SHARE)
            return TOPIC_MORE;
        rc = tell_server(t, list_entry(c, struct server, changed), err);
        if (rc == 0)
            t->told = c->seq;
    }
    return rc != 0 ? rc : topic_ready(t, err);
}

/* --- One server --------------------------------------------------------------------------------------------------------------------- */

static int server_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    t->foreign = r->server->foreign;
    return *text(r->server->server) ? topic_server(t, r->server->server, err) : err_set(err, ERR_INVALID, "server: which one?");
}

static int tell_containers(struct topic *t, const struct server *s, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(CONTAINERS);
    Davit__Control__V1__ServerContainers list = DAVIT__CONTROL__V1__SERVER_CONTAINERS__INIT;
    size_t max = hmap_count(s->inventory.containers) + hmap_count(s->inventory.foreign);
    AUTO_FREE Davit__Common__V1__Container **containers = mem_zalloc(max + 1, sizeof(*containers));
    for (struct hmap_entry *e = hmap_first(s->inventory.containers); e; e = hmap_next(e))
        containers[list.n_containers++] = hmap_value(e);
    for (struct hmap_entry *e = t->foreign ? hmap_first(s->inventory.foreign) : NULL; e; e = hmap_next(e))
        containers[list.n_containers++] = hmap_value(e);
    list.server_id = lend(s->id);
    list.containers = containers;
    m.containers = &list;
    return topic_tell(t, &m, err);
}

static int server_turn(struct topic *t, struct err *err)
{
    const struct server *s = t->server;
    int rc = 0;
    if (s->gone) {
        rc = tell_server_removed(t, s->id, err);
        return rc == 0 ? TOPIC_ENDED : rc;
    }
    if (t->told < s->changed.seq && (rc = tell_server(t, s, err)) == 0)
        t->told = s->changed.seq;
    if (rc == 0 && (!t->ready || t->told_containers < s->moved) && (rc = tell_containers(t, s, err)) == 0)
        t->told_containers = s->moved;
    return rc != 0 ? rc : topic_ready(t, err);
}

/* --- Services ----------------------------------------------------------------------------------------------------------------------- */

static bool fits(const struct topic *t, const char *server_id, const char *project, const char *service)
{
    bool server = !t->server || str_eq(str_from(t->server->id), str_from(server_id));
    bool project_fits = !*t->project || str_eq(str_from(t->project), str_from(project));
    return server && project_fits && (!*t->service || str_eq(str_from(t->service), str_from(service)));
}

static int services_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    struct control *c = t->watch->control;
    int rc = topic_filter(t, r->services->project, r->services->service, err);
    if (rc == 0)
        rc = topic_server(t, r->services->server, err);
    if (rc < 0)
        return rc;
    t->gone = c->changes.seq;
    return err_ensure(err, kept_hold(c->kept, KEPT_SERVICES));
}

static void services_end(struct topic *t)
{
    kept_let(t->watch->control->kept, KEPT_SERVICES);
}

static int tell_service_removed(struct topic *t, const struct gone *g, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(SERVICE_REMOVED);
    Davit__Control__V1__ServiceName name = DAVIT__CONTROL__V1__SERVICE_NAME__INIT;
    if (!fits(t, g->id, g->project, g->name))
        return 0;
    name.project = lend(g->project);
    name.name = lend(g->name);
    m.service_removed = &name;
    return topic_tell(t, &m, err);
}

static int tell_service(struct topic *t, Davit__Control__V1__Service *s, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(SERVICE);
    if (!fits(t, s->server_id, s->project, s->name))
        return 0;
    m.service = s;
    return topic_tell(t, &m, err);
}

static int services_turn(struct topic *t, struct err *err)
{
    struct kept *k = t->watch->control->kept;
    const struct gone *g;
    unsigned n = 0;
    int rc = kept_services(k, err);
    if (rc != 0)
        return rc == 1 ? TOPIC_TOLD : rc;
    rc = too_far_behind(t, &k->gone, err);
    while (rc == 0 && (g = changes_gone_next(&k->gone, t->gone)) != NULL && (rc = tell_service_removed(t, g, err)) == 0)
        t->gone = g->seq;
    for (struct change *c = changes_first(&k->order, t->told); rc == 0 && c; c = changes_next(&k->order, c)) {
        if (++n > TOPIC_SHARE)
            return TOPIC_MORE;
        rc = tell_service(t, list_entry(c, struct service_kept, changed)->m, err);
        if (rc == 0)
            t->told = c->seq;
    }
    return rc != 0 ? rc : topic_ready(t, err);
}

/* --- Sandboxes ---------------------------------------------------------------------------------------------------------------------- */

static int sandboxes_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    (void)r;
    (void)err;
    t->gone = t->watch->control->changes.seq;
    return 0;
}

static int tell_sandbox(struct topic *t, const struct sandbox *sb, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(SANDBOX);
    Davit__Common__V1__Sandbox shown;
    sandbox_describe(sb, &shown);
    m.sandbox = &shown;
    return topic_tell(t, &m, err);
}

static int tell_sandbox_removed(struct topic *t, const char *id, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(SANDBOX_REMOVED);
    m.sandbox_removed = lend(id);
    return topic_tell(t, &m, err);
}

static int sandboxes_turn(struct topic *t, struct err *err)
{
    struct changes *ch = &t->watch->control->changes;
    const struct gone *g;
    unsigned n = 0;
    int rc = too_far_behind(t, &ch->sandboxes_gone, err);
    while (rc == 0 && (g = changes_gone_next(&ch->sandboxes_gone, t->gone)) != NULL && (rc = tell_sandbox_removed(t, g->id, err)) == 0)
        t->gone = g->seq;
    for (struct change *c = changes_first(&ch->sandboxes, t->told); rc == 0 && c; c = changes_next(&ch->sandboxes, c)) {
        if (++n > TOPIC_SHARE)
            return TOPIC_MORE;
        rc = tell_sandbox(t, list_entry(c, struct sandbox, changed), err);
        if (rc == 0)
            t->told = c->seq;
    }
    return rc != 0 ? rc : topic_ready(t, err);
}

/* --- Usage -------------------------------------------------------------------------------------------------------------------------- */

static int usage_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    int rc = topic_filter(t, r->usage->project, r->usage->service, err);
    return rc < 0 ? rc : topic_server(t, r->usage->server, err);
}

/* Does @s run something that the topic is about? */
static bool concerns(const struct topic *t, const struct server *s)
{
    if (t->server)
        return t->server == s;
    if (!*t->project && !*t->service)
        return true;
    for (struct hmap_entry *e = hmap_first(s->inventory.containers); e; e = hmap_next(e)) {
        const Davit__Common__V1__Container *k = hmap_value(e);
        if (fits(t, s->id, k->project, k->service))
            return true;
    }
    return false;
}

/* Agents send next to nothing of this while nobody watches. */
static void ask(struct topic *t)
{
    struct control *c = t->watch->control;
    usec_t now = clock_mono();
    struct server *s;
    bool changed = t->told_containers != c->changes.work;
    if (now < t->asked + (changed ? ASK_SOON : ASK_EVERY))
        return;
    t->asked = now;
    t->told_containers = c->changes.work;
    list_each(s, &c->servers, struct server, node)
        if (s->link && s->watched_until < now + ASK_AHEAD && concerns(t, s))
            links_watch_usage(s);
}

static int tell_usage(struct topic *t, const struct server *s, struct err *err)
{
    Davit__Control__V1__WatchResponse m = RESPONSE(USAGE);
    Davit__Control__V1__UsageSample sample = DAVIT__CONTROL__V1__USAGE_SAMPLE__INIT;
    if (!concerns(t, s))
        return 0;
    AUTO_FREE Davit__Control__V1__UsageRow **rows = mem_zalloc(USAGE_ROWS, sizeof(*rows));
    lists_usage(s, t->project, t->service, rows, &sample.n_rows, USAGE_ROWS);
    sample.rows = rows;
    m.usage = &sample;
    int rc = sample.n_rows ? topic_tell(t, &m, err) : 0;
    for (size_t i = 0; i < sample.n_rows; i++)
        (void)rpc_message_free(rows[i]);
    return rc;
}

static int usage_turn(struct topic *t, struct err *err)
{
    struct changes *ch = &t->watch->control->changes;
    unsigned n = 0;
    int rc = 0;
    if (t->server && t->server->gone)
        return TOPIC_ENDED;
    ask(t);
    for (struct change *c = changes_first(&ch->sampled, t->told); rc == 0 && c; c = changes_next(&ch->sampled, c)) {
        if (++n > TOPIC_SHARE)
            return TOPIC_MORE;
        rc = tell_usage(t, list_entry(c, struct server, sampled), err);
        if (rc == 0)
            t->told = c->seq;
    }
    return rc != 0 ? rc : topic_ready(t, err);
}

const struct topic_type *topic_type_of(const Davit__Control__V1__WatchRequest *r)
{
    static const struct topic_type overview = {.begin = overview_begin, .turn = overview_turn, .end = overview_end};
    static const struct topic_type servers = {.begin = servers_begin, .turn = servers_turn};
    static const struct topic_type server = {.begin = server_begin, .turn = server_turn};
    static const struct topic_type services = {.begin = services_begin, .turn = services_turn, .end = services_end};
    static const struct topic_type sandboxes = {.begin = sandboxes_begin, .turn = sandboxes_turn};
    static const struct topic_type usage = {.begin = usage_begin, .turn = usage_turn, .samples = true};
    switch (r->what_case) {
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_OVERVIEW: return &overview;
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_SERVERS: return &servers;
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_SERVER: return &server;
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_SERVICES: return &services;
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_DEPLOYMENTS: return &topic_deployments;
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_DEPLOYMENT: return &topic_deployment;
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_USAGE: return &usage;
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_SANDBOXES: return &sandboxes;
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_LOGS: return &topic_logs;
    default: return NULL;
    }
}
