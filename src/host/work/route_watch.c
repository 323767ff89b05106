/* SPDX-License-Identifier: Apache-2.0 */
/* route_watch — the ingress knows what it shall know: at the start of the agent it is told of everything that is desired, and again of each service
 * whose containers came, went or started anew without a command (their addresses may be others), or that a command has changed. What it could not be
 * told is tried again, and a HAProxy that somebody stopped is started. */
#include <string.h>

#include "base/log.h"
#include "host/reach/ingress.h"
#include "host/work/deploy.h"

enum { TOLD_MAX = 2 * DESIRED_MAX };
#define SETTLE      (300 * USEC_MSEC)
#define LOOK_EVERY  (30 * USEC_SEC)
#define RETRY_EVERY (5 * USEC_SEC)
#define CALL_WAIT   (2 * USEC_MINUTE)

/* --- At the start ---- */

/* All services with a route, in one piece of memory each. */
struct table {
    struct ingress_service *services;
    struct route_part **parts;
    size_t n;
};

static void table_release(struct table *t)
{
    for (size_t i = 0; i < t->n; i++)
        route_part_free(t->parts[i]);
    free(t->parts);
    free(t->services);
}

/* What stands in the table of desired services may change while the engine is asked; then the next look finds it. */
static int fill(struct work *w, struct table *t, usec_t deadline, struct err *err)
{
    size_t max = desired_count(w->desired);
    int rc = 0;

    t->services = mem_zalloc(max + 1, sizeof(*t->services));
    t->parts = mem_zalloc(max + 1, sizeof(struct route_part *));
    for (size_t i = 0; rc >= 0 && i < max && i < desired_count(w->desired); i++) {
        if (desired_at(w->desired, i)->deploy->spec->n_routes == 0)
            continue;
        rc = route_part_of(w, desired_at(w->desired, i), &t->parts[t->n], &t->services[t->n], deadline, err);
        t->n += rc >= 0;
    }
    return rc;
}

static int restore(struct work *w, usec_t deadline, struct err *err)
{
    struct table t = {0};
    int rc = fill(w, &t, deadline, err);

    if (rc >= 0)
        rc = ingress_restore(w->ingress, t.services, t.n, deadline, err);
    /* Where nothing leads to a service nothing is lost with an ingress that is another server's, or an engine that is away. */
    bool none = t.n == 0 && desired_count(w->desired) == 0;
    table_release(&t);
    return rc < 0 && none && !fiber_cancelled() ? 0 : rc;
}

int routes_ready(struct work *w, usec_t deadline, struct err *err)
{
    int rc = 0;

    while (w->routes_busy && rc == 0)
        rc = event_wait(&w->routes_done, deadline);
    if (rc < 0)
        return err_set(err, (enum err_code) - rc, "the ingress is not ready yet");
    if (!w->ingress || !w->desired || w->routes_known)
        return 0;
    w->routes_busy = true;
    rc = restore(w, deadline, err);
    w->routes_busy = false;
    w->routes_known = rc >= 0;
    event_pulse(&w->routes_done);
    return rc < 0 ? rc : 0;
}

/* --- Afterwards ---- */

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    for (const unsigned char *c = p; n > 0; c++, n--)
        h = (h ^ *c) * UINT64_C(1099511628211);
    return h;
}

/* Which containers of a service run, since when: another value, other addresses. */
static uint64_t signature(const struct work *w, const char *project, const char *service)
{
    uint64_t sum = 0;

    for (struct hmap_entry *e = hmap_first(watch_known(w)); e; e = hmap_next(e)) {
        const struct seen *s = hmap_value(e);
        if (s->state != DOCKER_STATE_RUNNING || strcmp(s->project, project) != 0 || strcmp(s->service, service) != 0)
            continue;
        sum += mix(mix(UINT64_C(14695981039346656037), s->id, strlen(s->id)), &s->started, sizeof(s->started));
    }
    return sum;
}

static bool is_busy(const struct work *w, const char *project, const char *service)
{
    const struct command *c;

    list_each (c, &w->commands, struct command, node)
        if (strcmp(c->project, project) == 0 && strcmp(c->service, service) == 0)
            return true;
    return false;
}

/* With the service held, so that no command changes it meanwhile. */
static int tell(struct work *w, const struct desired_service *s, struct err *err)
{
    Davit__Link__V1__Deploy *msg = deploy_copy(s->deploy);
    struct command c = {.w = w, .project = msg->spec->project, .service = msg->spec->name, .fiber = fiber_self()};
    uint32_t replicas = s->replicas;
    struct deploy d;
    int rc = command_enter(&c);

    if (rc == 0) {
        const struct desired_service *now = desired_get(w->desired, msg->spec->project, msg->spec->name);
        deploy_init(&d, w, NULL, msg);
        d.replicas = replicas;
        if (now && strcmp(now->deploy->deployment_id, msg->deployment_id) == 0 && now->replicas == replicas)
            rc = deploy_route(&d, ROUTE_NOW, deadline_in(CALL_WAIT), err);
        deploy_release(&d);
    }
    command_leave(&c);
    deploy_copy_free(msg);
    return rc;
}

/* What the ingress was told of one service. */
struct told {
    uint64_t signature;
    usec_t again; /* when it is to be told once more, whatever its containers; 0: it knows */
};

static void told_clear(struct hmap *all)
{
    struct hmap_entry *e;

    while ((e = hmap_first(all)) != NULL)
        free(hmap_remove(all, hmap_key(e)));
}

/* Never NULL. Those that are not desired any more go when there are too many: then all are told of again. */
static struct told *told_of(struct hmap *all, const Davit__Common__V1__ServiceSpec *spec)
{
    AUTO_FREE char *name = str_printf("%s/%s", spec->project, spec->name);
    struct told *t = hmap_get(all, str_from(name));

    if (t)
        return t;
    if (hmap_count(all) >= TOLD_MAX)
        told_clear(all);
    t = NEW(struct told);
    t->again = 1;
    BUG_ON(hmap_put(all, str_from(name), t, NULL) < 0);
    return t;
}

/* The first service whose containers are others than the ingress was told of, or that a command has changed; NULL: all is well. *ret_again: when to
 * look again, no later than it was. */
static const struct desired_service *changed(struct work *w, struct hmap *all, struct told **ret, usec_t *ret_again)
{
    for (size_t i = 0; i < desired_count(w->desired); i++) {
        const struct desired_service *s = desired_at(w->desired, i);
        const Davit__Common__V1__ServiceSpec *spec = s->deploy->spec;
        if (spec->n_routes == 0)
            continue;
        struct told *t = told_of(all, spec);
        if (is_busy(w, spec->project, spec->name)) {
            t->again = 1; /* it may fail to undo what it told */
            if (deadline_in(RETRY_EVERY) < *ret_again)
                *ret_again = deadline_in(RETRY_EVERY);
            continue;
        }
        uint64_t now = signature(w, spec->project, spec->name);
        if (t->signature != now || (t->again && clock_mono() >= t->again)) {
            t->signature = now;
            t->again = 0;
            *ret = t;
            return s;
        }
        if (t->again && t->again < *ret_again)
            *ret_again = t->again;
    }
    return NULL;
}

/* When to look again. */
static usec_t look(struct work *w, struct hmap *all)
{
    usec_t again = deadline_in(LOOK_EVERY);
    const struct desired_service *s;
    struct err err = ERR_INIT;
    struct told *t = NULL;

    if (ingress_mend(w->ingress, deadline_in(CALL_WAIT), &err) < 0 && !fiber_cancelled())
        log_err(LOG_WARN, &err, "the ingress does not run and cannot be started", NULL);
    while (!fiber_cancelled() && (s = changed(w, all, &t, &again)) != NULL) {
        err = ERR_INIT;
        if (tell(w, s, &err) >= 0 || fiber_cancelled())
            continue;
        t->again = deadline_in(RETRY_EVERY);
        log_err(LOG_WARN, &err, "the ingress cannot be told of a service", NULL);
    }
    return again;
}

static void route_main(void *arg)
{
    struct work *w = arg;
    struct hmap *all = hmap_new(TOLD_MAX);

    while (!fiber_cancelled()) {
        struct err err = ERR_INIT;
        if (routes_ready(w, deadline_in(CALL_WAIT), &err) < 0) {
            if (!fiber_cancelled())
                log_err(LOG_WARN, &err, "the ingress cannot be told of the services yet", NULL);
            (void)fiber_sleep(RETRY_EVERY);
        } else if (watch_wait(w, look(w, all)) == 0) {
            (void)fiber_sleep(SETTLE);
        }
    }
    told_clear(all);
    hmap_free(all);
}

void routes_start(struct work *w)
{
    if (w->ingress && w->desired)
        (void)work_spawn(w, "routes", route_main, w);
}
