/* SPDX-License-Identifier: Apache-2.0 */
/* watch — states of our containers: the engine's event stream says which container to look at, an inspection says what it is, and a list
 * each RESYNC finds what the events lost.  One fiber listens, one fiber inspects; only the second changes what is known.
 * Containers that no service of ours has are known apart (watch_foreign.c), from the list alone: nothing of theirs is ever waited for. */
#include "host/work/secret_files.h"
#include "host/work/watch_foreign.h"

#include <string.h>

#define RESYNC     (30 * USEC_SEC)
#define COALESCE   (50 * USEC_MSEC)
#define RETRY_BASE (500 * USEC_MSEC)
#define RETRY_CAP  (10 * USEC_SEC)
#define FOREIGN_EVERY USEC_SEC

enum { DIRTY_MAX = 4096 };

struct watch {
    struct work *w;
    struct hmap *known;   /* id -> struct seen */
    struct hmap *foreign; /* likewise, those that no service of ours has */
    struct hmap *dirty;   /* ids to inspect */
    struct event wake;
    struct event changed;
    uint64_t events_since; /* ns */
    usec_t foreign_due;    /* the list is wanted for a foreign one, then; 0: it is not */
    bool full_wanted, list_wanted, inspect_all, up;
    char error[ERR_MSG_MAX];
};

void delta_add(char ***list, size_t *n, const char *id)
{
    *list = mem_resize(*list, *n + 1, sizeof(**list));
    (*list)[(*n)++] = str_dup(str_from(id));
}

static void delta_release(struct delta *d)
{
    for (size_t i = 0; i < d->n_changed; i++)
        free(d->changed[i]);
    for (size_t i = 0; i < d->n_removed; i++)
        free(d->removed[i]);
    free(d->changed);
    free(d->removed);
    *d = (struct delta){0};
}

/* --- What is known ------------------------------------------------------------------------------------------------------------ */

struct seen *seen_free(struct seen *s)
{
    if (!s)
        return NULL;
    free(s->id);
    free(s->name);
    free(s->image);
    free(s->project);
    free(s->service);
    free(s->deployment);
    for (size_t i = 0; i < s->n_ports; i++) {
        free((char *)s->ports[i].proto);
        free((char *)s->ports[i].host_ip);
    }
    free(s->ports);
    free(s);
    return NULL;
}

static char *label_copy(const struct docker_container *c, const char *name)
{
    return str_dup(str_from(docker_map_get(&c->labels, name)));
}

static struct seen *seen_new(const struct docker_container *c)
{
    struct seen *s = NEW(struct seen);

    *s = (struct seen){
        .id = str_dup(str_from(c->id)),
        .name = str_dup(str_from(c->name)),
        .image = str_dup(str_from(c->image)),
        .project = label_copy(c, LABEL_PROJECT),
        .service = label_copy(c, LABEL_SERVICE),
        .deployment = label_copy(c, LABEL_DEPLOYMENT),
        .state = c->state,
        .health = c->health,
        .exit_code = c->exit_code,
        .pid = c->pid,
        .oom_killed = c->oom_killed,
        .started = engine_time(c->started),
        .finished = engine_time(c->finished),
        .ports = mem_zalloc(c->n_ports + 1, sizeof(struct docker_binding)),
        .listed = true,
    };
    for (size_t i = 0; i < c->n_ports; i++) {
        if (c->ports[i].host_port == 0)
            continue;
        s->ports[s->n_ports] = c->ports[i];
        s->ports[s->n_ports].proto = str_dup(str_from(c->ports[i].proto));
        s->ports[s->n_ports++].host_ip = str_dup(str_from(c->ports[i].host_ip));
    }
    return s;
}

bool seen_equal(const struct seen *a, const struct seen *b)
{
    if (a->state != b->state || a->health != b->health || a->exit_code != b->exit_code || a->oom_killed != b->oom_killed ||
        a->started != b->started || a->finished != b->finished || a->n_ports != b->n_ports || strcmp(a->name, b->name) != 0)
        return false;
    for (size_t i = 0; i < a->n_ports; i++)
        if (a->ports[i].host_port != b->ports[i].host_port || a->ports[i].container_port != b->ports[i].container_port)
            return false;
    return true;
}

static void forget(struct watch *wt, const char *id, struct delta *d)
{
    struct seen *s = hmap_remove(wt->known, str_from(id));

    if (!s)
        return;
    delta_add(&d->removed, &d->n_removed, s->id);
    secret_files_remove(wt->w, s->name, s->started);
    d->ours = true;
    seen_free(s);
}

/* Looks at one container and notes what changed. */
static int look(struct watch *wt, const char *id, struct delta *d, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(wt->w->docker, id, &c, deadline_in(ENGINE_CALL), err);

    if (rc == -ERR_NOT_FOUND || (rc == 0 && !labels_service(wt->w, &c.labels))) {
        docker_container_release(&c);
        forget(wt, id, d);
        return 0;
    }
    if (rc < 0)
        return rc;
    struct seen *now = seen_new(&c), *before = hmap_get(wt->known, str_from(c.id));
    docker_container_release(&c);
    void *old = NULL;
    if (!before && hmap_count(wt->known) + hmap_count(wt->foreign) >= WORK_CONTAINERS_MAX)
        foreign_give_way(wt->foreign, d);
    if (hmap_put(wt->known, str_from(now->id), now, &old) < 0) {
        seen_free(now); /* more than WORK_CONTAINERS_MAX: not shown */
        return 0;
    }
    if (!before || !seen_equal(before, now)) {
        delta_add(&d->changed, &d->n_changed, now->id);
        d->ours = true;
    }
    seen_free(old);
    return 0;
}

/* --- Messages ----------------------------------------------------------------------------------------------------------------- */

/* Fills @m with what borrows from @s; the ports are the caller's to free. */
static void fill(Davit__Common__V1__Container *m, const struct seen *s)
{
    davit__common__v1__container__init(m);
    m->id = s->id;
    m->name = s->name;
    m->image = s->image;
    m->state = (char *)docker_state_name(s->state);
    m->health = (char *)docker_health_name(s->health);
    m->exit_code = s->exit_code;
    m->started_at_us = s->started;
    m->finished_at_us = s->finished;
    m->project = s->project;
    m->service = s->service;
    m->deployment_id = s->deployment;
    m->oom_killed = s->oom_killed;
    m->foreign = s->foreign;
    m->role = (char *)(s->role ? s->role : "");
    if (s->n_ports == 0)
        return;
    Davit__Common__V1__PortPublish *ports = mem_zalloc(s->n_ports, sizeof(*ports));
    m->ports = mem_zalloc(s->n_ports, sizeof(*m->ports));
    m->n_ports = s->n_ports;
    for (size_t i = 0; i < s->n_ports; i++) {
        davit__common__v1__port_publish__init(&ports[i]);
        ports[i].host_ip = (char *)s->ports[i].host_ip;
        ports[i].host_port = s->ports[i].host_port;
        ports[i].container_port = s->ports[i].container_port;
        ports[i].protocol = (char *)s->ports[i].proto;
        m->ports[i] = &ports[i];
    }
}

static void send_states(struct watch *wt, const struct seen *const *seen, size_t n, bool full, char **removed, size_t n_removed)
{
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__ContainerStates states = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    Davit__Common__V1__Container *items = mem_zalloc(n + 1, sizeof(*items));
    Davit__Common__V1__Container **list = mem_zalloc(n + 1, sizeof(*list));

    for (size_t i = 0; i < n; i++) {
        fill(&items[i], seen[i]);
        list[i] = &items[i];
    }
    states.full = full;
    states.containers = list;
    states.n_containers = n;
    states.removed_ids = removed;
    states.n_removed_ids = n_removed;
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CONTAINERS;
    msg.containers = &states;
    work_send(wt->w, &msg);
    for (size_t i = 0; i < n; i++) {
        if (items[i].n_ports > 0)
            free(items[i].ports[0]);
        free(items[i].ports);
    }
    free(items);
    free(list);
}

static void send_full(struct watch *wt)
{
    size_t n = 0;
    const struct seen **all = mem_zalloc(hmap_count(wt->known) + hmap_count(wt->foreign) + 1, sizeof(*all));

    for (struct hmap_entry *e = hmap_first(wt->known); e; e = hmap_next(e))
        all[n++] = hmap_value(e);
    for (struct hmap_entry *e = hmap_first(wt->foreign); e; e = hmap_next(e))
        all[n++] = hmap_value(e);
    send_states(wt, all, n, true, NULL, 0);
    free(all);
    wt->full_wanted = false;
}

static void send_delta(struct watch *wt, struct delta *d)
{
    if (d->n_changed == 0 && d->n_removed == 0)
        return;
    size_t n = 0;
    const struct seen **changed = mem_zalloc(d->n_changed + 1, sizeof(*changed));
    for (size_t i = 0; i < d->n_changed; i++) {
        const struct seen *s = hmap_get(wt->known, str_from(d->changed[i]));
        if (!s)
            s = hmap_get(wt->foreign, str_from(d->changed[i]));
        if (s)
            changed[n++] = s;
    }
    /* A full list that is due says the same and more. */
    if (!wt->full_wanted)
        send_states(wt, changed, n, false, d->removed, d->n_removed);
    free(changed);
    if (d->ours)
        event_pulse(&wt->changed);
}

/* --- The two fibers ------------------------------------------------------------------------------------------------------------ */

static bool is_in_list(void *arg, const char *container)
{
    const struct docker_summaries *l = arg;

    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->items[i].name, container) == 0)
            return true;
    return false;
}

static int resync(struct watch *wt, struct delta *d, struct err *err)
{
    struct docker_summaries l = {0};
    bool all = wt->inspect_all;

    wt->foreign_due = 0;
    int rc = docker_container_list(wt->w->docker, NULL, 0, &l, deadline_in(ENGINE_CALL), err);
    if (rc < 0)
        return rc;
    for (struct hmap_entry *e = hmap_first(wt->known); e; e = hmap_next(e))
        ((struct seen *)hmap_value(e))->listed = false;
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        if (!labels_service(wt->w, &l.items[i].labels))
            continue;
        struct seen *s = hmap_get(wt->known, str_from(l.items[i].id));
        if (s)
            s->listed = true;
        if (all || !s || s->state != l.items[i].state || s->health != l.items[i].health)
            rc = look(wt, l.items[i].id, d, err);
    }
    if (rc == 0) {
        secret_files_sweep(wt->w, is_in_list, &l);
        foreign_compare(wt->w, wt->foreign, hmap_count(wt->known), &l, d);
    }
    docker_summaries_release(&l);
    if (rc < 0)
        return rc;
    struct hmap_entry *next;
    for (struct hmap_entry *e = hmap_first(wt->known); e; e = next) {
        struct seen *s = hmap_value(e);
        next = hmap_next(e);
        if (!s->listed)
            forget(wt, s->id, d);
    }
    wt->inspect_all = wt->list_wanted = false;
    return 0;
}

static int look_at_dirty(struct watch *wt, struct delta *d, struct err *err)
{
    while (hmap_count(wt->dirty) > 0) {
        AUTO_FREE char *id = str_dup(hmap_key(hmap_first(wt->dirty)));
        (void)hmap_remove(wt->dirty, str_from(id));
        int rc = look(wt, id, d, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void set_up(struct watch *wt, int rc, const struct err *err)
{
    bool came = rc == 0 && !wt->up;

    wt->up = rc == 0;
    if (came)
        event_pulse(&wt->changed); /* also where there is nothing to be seen */
    (void)str_copy(wt->error, sizeof(wt->error), str_from(rc == 0 ? "" : err->msg));
}

static void watch_states(void *arg)
{
    struct watch *wt = arg;
    usec_t next_list = 0;
    unsigned attempt = 0;

    while (!fiber_cancelled()) {
        struct delta d = {0};
        struct err err = ERR_INIT;
        int rc = 0;
        usec_t now = clock_mono();
        bool list = wt->list_wanted || now >= next_list || (wt->foreign_due && now >= wt->foreign_due);

        if (list)
            rc = resync(wt, &d, &err);
        if (rc == 0 && (list || wt->up))
            rc = look_at_dirty(wt, &d, &err);
        if (list || rc < 0)
            set_up(wt, rc, &err);
        if (rc < 0) {
            wt->list_wanted = false;
            wt->inspect_all = true;
            next_list = deadline_in(USEC_MSEC * 200 + backoff_wait(attempt++, RETRY_BASE, RETRY_CAP));
        } else if (list) {
            attempt = 0;
            next_list = deadline_in(RESYNC);
        }
        if (!fiber_cancelled()) {
            send_delta(wt, &d);
            if (wt->full_wanted && wt->up)
                send_full(wt);
        }
        delta_release(&d);
        usec_t until = wt->foreign_due && wt->foreign_due < next_list ? wt->foreign_due : next_list;
        if (event_wait(&wt->wake, until) == 0 && fiber_sleep(COALESCE) == 0)
            event_reset(&wt->wake);
    }
}

static int on_event(void *arg, const struct docker_event *e)
{
    struct watch *wt = arg;

    if (e->time_ns > wt->events_since)
        wt->events_since = e->time_ns;
    if (*e->id && (labels_service(wt->w, e->attributes) || hmap_get(wt->known, str_from(e->id)))) {
        watch_touch(wt->w, e->id);
    } else if (!wt->foreign_due) {
        /* However busy others are: one list in a while. */
        wt->foreign_due = deadline_in(FOREIGN_EVERY);
        event_signal(&wt->wake);
    }
    return 0;
}

static void watch_events(void *arg)
{
    struct watch *wt = arg;
    unsigned attempt = 0;

    while (!fiber_cancelled()) {
        usec_t began = clock_mono();
        (void)docker_events(wt->w->docker, NULL, wt->events_since, on_event, wt, USEC_INFINITY, NULL);
        if (fiber_cancelled())
            break;
        /* The engine went away, or was not there: a list tells, and catches up with what happened meanwhile. */
        wt->inspect_all = wt->list_wanted = true;
        event_signal(&wt->wake);
        if (clock_mono() - began > 10 * USEC_SEC)
            attempt = 0;
        (void)fiber_sleep(USEC_MSEC * 200 + backoff_wait(attempt++, RETRY_BASE, RETRY_CAP));
    }
}

int watch_start(struct work *w)
{
    struct watch *wt = NEW(struct watch);

    *wt = (struct watch){
        .w = w,
        .known = hmap_new(WORK_CONTAINERS_MAX),
        .foreign = hmap_new(WORK_FOREIGN_MAX),
        .dirty = hmap_new(DIRTY_MAX),
        .events_since = clock_real() * 1000,
        .inspect_all = true,
    };
    event_init(&wt->wake, w->loop);
    event_init(&wt->changed, w->loop);
    w->watch = wt;
    if (!work_spawn(w, "watch-states", watch_states, wt) || !work_spawn(w, "watch-events", watch_events, wt))
        return -ERR_EXHAUSTED;
    return 0;
}

void watch_free(struct work *w)
{
    struct watch *wt = w->watch;

    for (struct hmap_entry *e = hmap_first(wt->known); e; e = hmap_next(e))
        seen_free(hmap_value(e));
    for (struct hmap_entry *e = hmap_first(wt->foreign); e; e = hmap_next(e))
        seen_free(hmap_value(e));
    hmap_free(wt->known);
    hmap_free(wt->foreign);
    hmap_free(wt->dirty);
    event_release(&wt->wake);
    event_release(&wt->changed);
    free(wt);
    w->watch = NULL;
}

const struct hmap *watch_known(const struct work *w)
{
    return w->watch->known;
}

bool watch_up(const struct work *w)
{
    return w->watch->up;
}

int watch_wait(struct work *w, usec_t deadline)
{
    return event_wait(&w->watch->changed, deadline);
}

void watch_poke(struct work *w)
{
    event_pulse(&w->watch->changed);
}

void watch_touch(struct work *w, const char *id)
{
    struct watch *wt = w->watch;

    if (hmap_put(wt->dirty, str_from(id), wt, NULL) < 0)
        wt->inspect_all = wt->list_wanted = true;
    event_signal(&wt->wake);
}

/* --- For the link --------------------------------------------------------------------------------------------------------------- */

void work_containers_full(struct work *w)
{
    w->watch->full_wanted = true;
    event_signal(&w->watch->wake);
    /* Whoever hears us now knows nothing of what we use. */
    sampler_hurry(w, 1);
    if (w->extension)
        w->extension->linked(w->extension->arg);
}

unsigned work_containers_running(const struct work *w)
{
    unsigned n = 0;

    for (struct hmap_entry *e = hmap_first(w->watch->known); e; e = hmap_next(e))
        n += ((const struct seen *)hmap_value(e))->state == DOCKER_STATE_RUNNING;
    return n;
}

const char *work_docker_error(const struct work *w)
{
    return w->watch->error;
}
