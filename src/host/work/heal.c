/* SPDX-License-Identifier: Apache-2.0 */
/* heal — see heal.h. One fiber compares; what it finds is judged once more, by the engine's own word, when the service is held. */
#include "host/work/heal.h"

#include <string.h>

#include "base/log.h"
#include "host/work/deploy.h"
#include "host/work/desired.h"
#include "host/work/secret_files.h"
#include "spec/spec.h"

/* All that one service may take, a pull included. */
#define HEAL_WAIT (10 * USEC_MINUTE)
/* And so long the ingress may keep it from being done. */
#define HOLD_WAIT (10 * USEC_SEC)
/* Events come in groups, and the engine starts much by itself when it comes up. */
#define HEAL_SETTLE (300 * USEC_MSEC)

struct heal {
    struct work *w;
    struct hmap *services; /* project/service -> struct watched */
    unsigned runs;
};

struct watched {
    struct heal_patience patience;
    char *project, *service;
    struct heal *h;
    bool running, listed;
};

enum heal_act heal_judge(bool there, enum docker_state state, int exit_code, const char *restart)
{
    if (!there)
        return HEAL_CREATE;
    if (state == DOCKER_STATE_CREATED)
        return HEAL_START;
    if (state != DOCKER_STATE_EXITED)
        return HEAL_NOTHING;
    if (strcmp(restart, "no") == 0 || (strcmp(restart, "on-failure") == 0 && exit_code == 0))
        return HEAL_NOTHING;
    return HEAL_START;
}

bool heal_may(const struct heal_patience *p, usec_t now)
{
    return now >= p->next;
}

void heal_acted(struct heal_patience *p, usec_t now)
{
    usec_t wait = HEAL_BASE;

    if (p->acts > 0 && now - p->last >= HEAL_CALM)
        p->acts = 0;
    for (unsigned i = 0; i < p->acts && wait < HEAL_CAP; i++)
        wait *= 2;
    p->acts++;
    p->last = now;
    p->next = now + (wait < HEAL_CAP ? wait : HEAL_CAP);
}

/* --- One service ---- */

/* A copy, since what is desired may change at each wait, with its image as it was resolved. NULL: it is not desired any more, or not to run. */
static Davit__Link__V1__Deploy *wanted(const struct watched *v, unsigned *ret_replicas)
{
    const struct desired_service *s = desired_get(v->h->w->desired, v->project, v->service);

    if (!s || s->stopped)
        return NULL;
    Davit__Link__V1__Deploy *m = deploy_copy(s->deploy);
    *ret_replicas = s->replicas < REPLICAS_MAX ? s->replicas : REPLICAS_MAX;
    spec_pin_image(m->spec, s->image_digest);
    return m;
}

static int make(struct deploy *d, unsigned replica, struct job *job, struct err *err)
{
    int rc = step_pull(job, d, err);

    if (rc == 0)
        rc = deploy_image(d, job_deadline(job), err);
    if (rc == 0)
        rc = step_network(job, d, err);
    if (rc == 0)
        rc = step_volumes(job, d, err);
    return rc < 0 ? rc : deploy_create(d, replica, job_deadline(job), err);
}

/* 1: something was done; 0: all is well. */
static int heal_replica(struct deploy *d, unsigned replica, struct job *job, struct err *err)
{
    AUTO_FREE char *name = deploy_name(d, replica);
    struct docker_container c = {0};
    int rc = deploy_inspect(d, replica, &c, job_deadline(job), err);

    if (rc < 0)
        return rc;
    enum heal_act act = heal_judge(rc == 0, c.state, c.exit_code, d->spec->restart);
    docker_container_release(&c);
    if (act == HEAL_NOTHING)
        return 0;
    if (err)
        *err = ERR_INIT;
    routes_hold(d, deadline_in(HOLD_WAIT));
    if (act == HEAL_CREATE)
        rc = make(d, replica, job, err);
    else
        rc = secret_files_write(d->w, d->spec, name, NULL, err);
    if (rc >= 0)
        rc = docker_container_start(d->w->docker, name, job_deadline(job), err);
    if (rc < 0)
        return rc;
    if (rc != DOCKER_UNCHANGED || act == HEAL_CREATE)
        log_event(LOG_NOTICE, act == HEAL_CREATE ? "a container that was missing was made again" : "a container that had ended was started",
                  "container", name, NULL);
    return 1;
}

/* Was anything done? */
static bool heal_service(struct watched *v)
{
    unsigned replicas = 0, done = 0;
    Davit__Link__V1__Deploy *m = wanted(v, &replicas);
    struct job job = {.loop = v->h->w->loop, .deadline = deadline_in(HEAL_WAIT)};
    struct err err = ERR_INIT;
    struct deploy d;
    int rc = 0;

    if (!m)
        return false;
    deploy_init(&d, v->h->w, NULL, m);
    d.replicas = replicas;
    for (unsigned i = 1; i <= replicas && rc >= 0; i++) {
        rc = heal_replica(&d, i, &job, &err);
        done += rc > 0;
    }
    if (done > 0 || rc < 0)
        heal_acted(&v->patience, clock_mono());
    if (rc < 0 && !fiber_cancelled())
        log_err(LOG_WARN, &err, "a service that shall run could not be healed", "project", v->project, "service", v->service, NULL);
    deploy_release(&d);
    deploy_copy_free(m);
    return done > 0;
}

static void heal_run(void *arg)
{
    struct watched *v = arg;
    struct command c = {.w = v->h->w, .project = v->project, .service = v->service, .fiber = fiber_self()};

    bool done = command_enter(&c) == 0 && heal_service(v);
    command_leave(&c);
    v->running = false;
    v->h->runs--;
    if (done)
        watch_poke(v->h->w); /* what was done can be judged now */
}

/* --- All of them ---- */

static bool is_busy(const struct work *w, const char *project, const char *service)
{
    struct command *c;

    list_each(c, &w->commands, struct command, node)
        if (strcmp(c->project, project) == 0 && strcmp(c->service, service) == 0)
            return true;
    return false;
}

static const struct seen *find_seen(const struct work *w, const char *name)
{
    const struct hmap *known = watch_known(w);

    for (struct hmap_entry *e = hmap_first(known); e; e = hmap_next(e)) {
        const struct seen *s = hmap_value(e);
        if (strcmp(s->name, name) == 0)
            return s;
    }
    return NULL;
}

/* By what the watch knows; may be late. */
static bool looks_ill(struct work *w, const struct desired_service *s)
{
    bool ill = false;
    struct deploy d;

    deploy_init(&d, w, NULL, s->deploy);
    for (unsigned i = 1; i <= s->replicas && i <= REPLICAS_MAX && !ill; i++) {
        AUTO_FREE char *name = deploy_name(&d, i);
        const struct seen *seen = find_seen(w, name);
        enum docker_state state = seen ? seen->state : DOCKER_STATE_UNKNOWN;
        ill = heal_judge(seen != NULL, state, seen ? seen->exit_code : 0, s->deploy->spec->restart) != HEAL_NOTHING;
    }
    deploy_release(&d);
    return ill;
}

static struct watched *watched(struct heal *h, const char *project, const char *service)
{
    AUTO_FREE char *key = str_printf("%s/%s", project, service);
    struct watched *v = hmap_get(h->services, str_from(key));

    if (v)
        return v;
    v = NEW(struct watched);
    *v = (struct watched){.h = h, .project = str_dup(str_from(project)), .service = str_dup(str_from(service))};
    if (hmap_put(h->services, str_from(key), v, NULL) == 0)
        return v;
    free(v->project);
    free(v->service);
    free(v);
    return NULL;
}

static void watched_free(struct watched *v)
{
    free(v->project);
    free(v->service);
    free(v);
}

/* Forgets those that are not desired any more. */
static void sweep(struct heal *h)
{
    struct hmap_entry *next;

    for (struct hmap_entry *e = hmap_first(h->services); e; e = next) {
        struct watched *v = hmap_value(e);
        next = hmap_next(e);
        if (!v->listed && !v->running) {
            (void)hmap_remove(h->services, hmap_key(e));
            watched_free(v);
        }
    }
}

/* When to look again. Nothing in it waits. */
static usec_t look(struct heal *h)
{
    struct work *w = h->w;
    usec_t now = clock_mono(), again = clock_add(now, HEAL_EVERY + backoff_wait(0, HEAL_EVERY / 5, HEAL_EVERY / 5));

    for (struct hmap_entry *e = hmap_first(h->services); e; e = hmap_next(e))
        ((struct watched *)hmap_value(e))->listed = false;
    for (size_t i = 0; i < desired_count(w->desired); i++) {
        const struct desired_service *s = desired_at(w->desired, i);
        struct watched *v = watched(h, s->deploy->spec->project, s->deploy->spec->name);
        if (!v)
            continue;
        v->listed = true;
        if (s->stopped || v->running || !watch_up(w) || !looks_ill(w, s))
            continue;
        if (is_busy(w, v->project, v->service) || !heal_may(&v->patience, now) || h->runs >= HEAL_RUNS_MAX) {
            usec_t soon = v->patience.next > now ? v->patience.next : clock_add(now, USEC_SEC);
            again = soon < again ? soon : again;
            continue;
        }
        v->running = work_spawn(w, "heal-service", heal_run, v) != NULL;
        h->runs += v->running;
    }
    sweep(h);
    return again;
}

static void heal_main(void *arg)
{
    struct heal *h = arg;

    while (!fiber_cancelled()) {
        usec_t again = look(h);
        if (watch_wait(h->w, again) == 0)
            (void)fiber_sleep(HEAL_SETTLE);
    }
}

void work_heal(struct work *w)
{
    if (w->heal || !w->desired || w->stopping)
        return;
    w->heal = NEW(struct heal);
    *w->heal = (struct heal){.w = w, .services = hmap_new(2 * DESIRED_MAX)};
    if (!work_spawn(w, "heal", heal_main, w->heal))
        heal_free(w); /* asked again with the next link */
}

void heal_free(struct work *w)
{
    if (!w->heal)
        return;
    for (struct hmap_entry *e = hmap_first(w->heal->services); e; e = hmap_next(e))
        watched_free(hmap_value(e));
    hmap_free(w->heal->services);
    free(w->heal);
    w->heal = NULL;
}
