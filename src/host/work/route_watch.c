/* SPDX-License-Identifier: Apache-2.0 */
/* route_watch — the ingress knows what it shall know: at the start of the agent it is told of everything that is desired, and again of each service
 * whose containers came, went or started anew without a command: their addresses may be others. */
#include <string.h>

#include "base/log.h"
#include "host/reach/ingress.h"
#include "host/work/deploy.h"

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

/* The first service whose containers are others than the ingress was told of; NULL: all is well. @told: signature by name, values malloc'ed. */
static const struct desired_service *changed(struct work *w, struct hmap *told)
{
    for (size_t i = 0; i < desired_count(w->desired); i++) {
        const struct desired_service *s = desired_at(w->desired, i);
        const Davit__Common__V1__ServiceSpec *spec = s->deploy->spec;
        if (spec->n_routes == 0 || is_busy(w, spec->project, spec->name))
            continue;
        AUTO_FREE char *name = str_printf("%s/%s", spec->project, spec->name);
        uint64_t now = signature(w, spec->project, spec->name), *was = hmap_get(told, str_from(name));
        if (was && *was == now)
            continue;
        if (!was) {
            was = NEW(uint64_t);
            if (hmap_put(told, str_from(name), was, NULL) < 0) {
                free(was);
                return NULL;
            }
        }
        *was = now;
        return s;
    }
    return NULL;
}

static void route_main(void *arg)
{
    struct work *w = arg;
    struct hmap *told = hmap_new(2 * DESIRED_MAX);
    struct err err = ERR_INIT;

    while (!fiber_cancelled() && routes_ready(w, deadline_in(CALL_WAIT), &err) < 0) {
        log_err(LOG_WARN, &err, "the ingress cannot be told of the services yet", NULL);
        err = ERR_INIT;
        (void)fiber_sleep(RETRY_EVERY);
    }
    while (!fiber_cancelled()) {
        const struct desired_service *s;
        while (!fiber_cancelled() && (s = changed(w, told)) != NULL) {
            err = ERR_INIT;
            if (tell(w, s, &err) < 0 && !fiber_cancelled())
                log_err(LOG_WARN, &err, "the ingress cannot be told of a service", NULL);
        }
        if (watch_wait(w, deadline_in(LOOK_EVERY)) == 0)
            (void)fiber_sleep(SETTLE);
    }
    for (struct hmap_entry *e = hmap_first(told); e; e = hmap_next(e))
        free(hmap_value(e));
    hmap_free(told);
}

void routes_start(struct work *w)
{
    if (w->ingress && w->desired)
        (void)work_spawn(w, "routes", route_main, w);
}
