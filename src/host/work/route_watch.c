/* SPDX-License-Identifier: Apache-2.0 */
/* route_watch — the ingress knows what it shall know: at the start of the agent it is told of everything that is desired, and again of each service
 * whose containers came, went or started anew without a command (their addresses may be others), or that a command has changed. What it could not be
 * told is tried again, and a HAProxy that somebody stopped is started. What came without a command gets requests once it is found healthy
 * (route_verdict.h). */
#include <string.h>

#include "base/log.h"
#include "host/reach/ingress.h"
#include "host/work/route_verdict.h"

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

/* Which containers of a service run, since when, and which of them get no requests yet: another value, other addresses. */
static uint64_t signature(const struct work *w, const char *project, const char *service, uint32_t unfit)
{
    uint64_t sum = mix(UINT64_C(14695981039346656037), &unfit, sizeof(unfit));

    for (struct hmap_entry *e = hmap_first(watch_known(w)); e; e = hmap_next(e)) {
        const struct seen *s = hmap_value(e);
        if (s->state != DOCKER_STATE_RUNNING || strcmp(s->project, project) != 0 || strcmp(s->service, service) != 0)
            continue;
        sum += mix(mix(UINT64_C(14695981039346656037), s->id, strlen(s->id)), &s->started, sizeof(s->started));
    }
    return sum;
}

/* What the ingress was told of one service. */
struct told {
    uint64_t signature;
    usec_t again; /* when it is to be told once more, whatever its containers; 0: it knows */
    unsigned users; /* who wait with it: it is not dropped */
    struct verdicts verdicts;
};

static bool is_busy(const struct work *w, const char *project, const char *service)
{
    const struct command *c;

    list_each (c, &w->commands, struct command, node)
        if (strcmp(c->project, project) == 0 && strcmp(c->service, service) == 0)
            return true;
    return false;
}

/* NULL: nobody has told the ingress of it yet. */
static struct told *told_get(const struct deploy *d)
{
    AUTO_FREE char *name = str_printf("%s/%s", d->spec->project, d->spec->name);

    return d->w->routes_told ? hmap_get(d->w->routes_told, str_from(name)) : NULL;
}

/* While it waits nobody drops @t. */
static int ask(struct told *t, struct deploy *d, usec_t deadline, struct err *err)
{
    t->users++;
    int rc = verdicts_ask(&t->verdicts, d, &d->unfit, deadline, err);
    t->users--;
    return rc;
}

/* With the service held, so that no command changes it meanwhile. */
static int tell(struct work *w, struct told *t, const struct desired_service *s, struct err *err)
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
        bool same = now && strcmp(now->deploy->deployment_id, msg->deployment_id) == 0 && now->replicas == replicas;
        if (same)
            rc = ask(t, &d, deadline_in(CALL_WAIT), err);
        if (same && rc >= 0)
            rc = deploy_route(&d, ROUTE_NOW, deadline_in(CALL_WAIT), err);
        deploy_release(&d);
    }
    command_leave(&c);
    deploy_copy_free(msg);
    return rc;
}

/* Not while somebody is at it. */
static void told_drop(struct hmap *all, const char *key)
{
    struct told *t = hmap_get(all, str_from(key));

    if (!t || t->users > 0)
        return;
    (void)hmap_remove(all, str_from(key));
    verdicts_release(&t->verdicts);
    free(t);
}

static bool is_desired(const struct work *w, const char *key)
{
    struct str service = str_from(key);
    AUTO_FREE char *project = str_dup(str_cut(&service, '/'));

    return desired_get(w->desired, project, service.p) != NULL;
}

static void told_tidy(struct work *w)
{
    struct hmap_entry *next;

    for (struct hmap_entry *e = hmap_first(w->routes_told); e; e = next) {
        AUTO_FREE char *key = str_dup(hmap_key(e));
        next = hmap_next(e);
        if (!is_desired(w, key))
            told_drop(w->routes_told, key);
    }
}

/* Never NULL. */
static struct told *told_of(struct work *w, const Davit__Common__V1__ServiceSpec *spec)
{
    AUTO_FREE char *name = str_printf("%s/%s", spec->project, spec->name);
    struct told *t = hmap_get(w->routes_told, str_from(name));

    if (t)
        return t;
    if (hmap_count(w->routes_told) >= TOLD_MAX)
        told_tidy(w);
    t = NEW(struct told);
    t->again = 1;
    if (!w->routes_seen)
        verdicts_trust(&t->verdicts, clock_real());
    BUG_ON(hmap_put(w->routes_told, str_from(name), t, NULL) < 0);
    return t;
}

/* The first service whose containers are others than the ingress was told of, or that a command has changed; NULL: all is well. *ret_again: when to
 * look again, no later than it was. */
static const struct desired_service *changed(struct work *w, struct told **ret, usec_t *ret_again)
{
    for (size_t i = 0; i < desired_count(w->desired); i++) {
        const struct desired_service *s = desired_at(w->desired, i);
        const Davit__Common__V1__ServiceSpec *spec = s->deploy->spec;
        if (spec->n_routes == 0)
            continue;
        struct told *t = told_of(w, spec);
        if (is_busy(w, spec->project, spec->name)) {
            t->again = 1; /* it may fail to undo what it told */
            if (deadline_in(RETRY_EVERY) < *ret_again)
                *ret_again = deadline_in(RETRY_EVERY);
            continue;
        }
        uint32_t unfit = verdicts_look(&t->verdicts, w, s);
        uint64_t now = signature(w, spec->project, spec->name, unfit);
        if (unfit && deadline_in(RETRY_EVERY) < *ret_again)
            *ret_again = deadline_in(RETRY_EVERY);
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
static usec_t look(struct work *w)
{
    usec_t again = deadline_in(LOOK_EVERY);
    const struct desired_service *s;
    struct err err = ERR_INIT;
    struct told *t = NULL;

    bool up = watch_up(w);
    if (ingress_mend(w->ingress, deadline_in(CALL_WAIT), &err) < 0 && !fiber_cancelled())
        log_err(LOG_WARN, &err, "the ingress does not run and cannot be started", NULL);
    while (!fiber_cancelled() && (s = changed(w, &t, &again)) != NULL) {
        err = ERR_INIT;
        t->users++;
        int rc = tell(w, t, s, &err);
        t->users--;
        if (rc >= 0 || fiber_cancelled())
            continue;
        t->again = deadline_in(RETRY_EVERY);
        log_err(LOG_WARN, &err, "the ingress cannot be told of a service", NULL);
    }
    w->routes_seen = w->routes_seen || up; /* not before: what is seen first counts as judged */
    return again;
}

static void route_main(void *arg)
{
    struct work *w = arg;

    while (!fiber_cancelled()) {
        struct err err = ERR_INIT;
        if (routes_ready(w, deadline_in(CALL_WAIT), &err) < 0) {
            if (!fiber_cancelled())
                log_err(LOG_WARN, &err, "the ingress cannot be told of the services yet", NULL);
            (void)fiber_sleep(RETRY_EVERY);
        } else if (watch_wait(w, look(w)) == 0) {
            (void)fiber_sleep(SETTLE);
        }
    }
}

void routes_hold(struct deploy *d, usec_t deadline)
{
    struct err err = ERR_INIT;
    int rc = 0;

    if (!d->w->routes_told || !deploy_routed(d) || d->unheld)
        return;
    while (d->w->routes_busy && rc == 0)
        rc = event_wait(&d->w->routes_done, deadline);
    if (rc < 0 || !d->w->routes_known)
        rc = err_set(&err, ERR_UNAVAILABLE, "the ingress is not ready yet");
    struct told *t = told_get(d);
    if (rc >= 0 && t)
        rc = ask(t, d, deadline, &err);
    if (rc >= 0)
        rc = deploy_route(d, ROUTE_NOW, deadline, &err);
    d->unheld = rc < 0;
    if (rc < 0 && !fiber_cancelled())
        log_err(LOG_DEBUG, &err, "the ingress could not be told of a container that is gone", NULL);
}

int routes_unfit(struct deploy *d, usec_t deadline, struct err *err)
{
    struct told *t = deploy_routed(d) ? told_get(d) : NULL;

    return t ? ask(t, d, deadline, err) : 0;
}

void routes_judged(struct deploy *d, unsigned replica, const char *id, usec_t started)
{
    const struct desired_service *s = d->w->desired ? desired_get(d->w->desired, d->spec->project, d->spec->name) : NULL;
    struct told *t = told_get(d);

    d->unfit &= ~(UINT32_C(1) << (replica - 1));
    if (d->c)
        d->c->judged = clock_real();
    if (t)
        verdicts_found(&t->verdicts, d, replica, id, started, s && strcmp(s->deploy->deployment_id, d->msg->deployment_id) == 0);
}

void routes_command_ended(struct work *w, const char *project, const char *service, usec_t judged)
{
    const struct desired_service *s = w->routes_told ? desired_get(w->desired, project, service) : NULL;

    if (!w->routes_told)
        return;
    if (s && s->deploy->spec->n_routes > 0) {
        struct told *t = told_of(w, s->deploy->spec);
        verdicts_trust(&t->verdicts, judged);
        t->again = 1;
        watch_poke(w);
    } else if (!s) {
        AUTO_FREE char *key = str_printf("%s/%s", project, service);
        told_drop(w->routes_told, key);
    }
}

void routes_start(struct work *w)
{
    if (!w->ingress || !w->desired)
        return;
    w->routes_told = hmap_new(TOLD_MAX);
    (void)work_spawn(w, "routes", route_main, w);
}

void routes_free(struct work *w)
{
    struct hmap_entry *e;

    if (!w->routes_told)
        return;
    while ((e = hmap_first(w->routes_told)) != NULL) {
        AUTO_FREE char *key = str_dup(hmap_key(e));
        told_drop(w->routes_told, key);
    }
    w->routes_told = hmap_free(w->routes_told);
}
