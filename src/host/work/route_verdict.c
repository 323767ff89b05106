/* SPDX-License-Identifier: Apache-2.0 */
/* route_verdict — see route_verdict.h. A fiber per container that is being judged, JUDGES_MAX at most; the others wait for the next look. */
#include "host/work/route_verdict.h"

#include <string.h>

#include "base/log.h"
#include "spec/spec.h"

#define JUDGE_WAIT  (8 * USEC_HOUR)
#define JUDGE_AGAIN (5 * USEC_SEC)
#define JUDGE_PAUSE USEC_SEC /* nobody waits for it as for a command */

enum { JUDGES_MAX = 32 };

struct verdict {
    unsigned refs; /* the table's, the fiber's */
    struct work *w;
    char *project, *service, *deployment, *name, *id;
    usec_t started; /* with the id: this very run of it */
    usec_t again;   /* not judged before */
    unsigned replica;
    bool fit, judging, told;
};

static struct verdict *verdict_unref(struct verdict *v)
{
    if (!v || --v->refs > 0)
        return NULL;
    free(v->project);
    free(v->service);
    free(v->deployment);
    free(v->name);
    free(v->id);
    free(v);
    return NULL;
}

static bool is_run(const struct verdict *v, const char *id, usec_t started)
{
    return v && strcmp(v->id, id) == 0 && v->started == started;
}

/* Does it still run as it did when it was first seen? 0; 1: no; negative: nobody knows. @ret_image (DOCKER_DIGEST_SIZE bytes) gets its image's id. */
static int look_at(const struct verdict *v, char *ret_image, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(v->w->docker, v->name, &c, deadline_in(ENGINE_CALL), err);

    if (rc == 0 && (c.state != DOCKER_STATE_RUNNING || !is_run(v, c.id, engine_time(c.started))))
        rc = 1;
    if (rc == 0)
        (void)str_copy(ret_image, DOCKER_DIGEST_SIZE, str_from(c.image_id));
    docker_container_release(&c);
    return rc == -ERR_NOT_FOUND ? 1 : rc;
}

/* One verdict as a deployment has it: 0, or negative. 1: nobody wants it any more. @image: what it runs, whatever the image's name means by now. */
static int ask(struct verdict *v, const char *image, struct err *err)
{
    const struct desired_service *s = desired_get(v->w->desired, v->project, v->service);
    struct job job = {.loop = v->w->loop, .deadline = deadline_in(JUDGE_WAIT)};
    struct deploy d;

    if (!s || strcmp(s->deploy->deployment_id, v->deployment) != 0)
        return 1;
    Davit__Link__V1__Deploy *m = deploy_copy(s->deploy);
    spec_pin_image(m->spec, s->image_digest);
    deploy_init(&d, v->w, NULL, m);
    d.replicas = s->replicas;
    d.pause = JUDGE_PAUSE;
    (void)str_copy(d.pinned, sizeof(d.pinned), str_from(image));
    int rc = deploy_image(&d, deadline_in(ENGINE_CALL), err);
    /* Where nothing is looked at, to run is enough. */
    if (rc >= 0 && deploy_health(&d) != DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE)
        rc = health_wait(&d, &job, v->replica, err);
    deploy_release(&d);
    deploy_copy_free(m);
    return rc < 0 ? rc : 0;
}

/* Once: whoever fails makes room for others, and is judged again later. */
static void judge(void *arg)
{
    struct verdict *v = arg;
    char image[DOCKER_DIGEST_SIZE];
    struct err err = ERR_INIT;
    int rc = look_at(v, image, &err);

    if (rc == 0)
        rc = ask(v, image, &err);
    if (rc == 0)
        rc = look_at(v, image, &err);
    v->fit = v->fit || rc == 0; /* a command may have found it */
    if (rc < 0 && !v->fit && !v->told && !fiber_cancelled()) {
        log_err(LOG_WARN, &err, "a container that came back is not healthy and gets no requests", "container", v->name, NULL);
        v->told = true;
    }
    if (v->fit && v->told)
        log_event(LOG_NOTICE, "a container that came back is healthy now", "container", v->name, NULL);
    v->again = deadline_in(JUDGE_AGAIN);
    v->judging = false;
    v->w->judging--;
    watch_poke(v->w);
    (void)verdict_unref(v);
}

/* One run of container @replica of @msg. */
struct run {
    const char *name, *id;
    usec_t started;
    unsigned replica;
};

static struct verdict *verdict_new(struct work *w, const Davit__Link__V1__Deploy *msg, const struct run *run)
{
    struct verdict *v = NEW(struct verdict);

    *v = (struct verdict){.refs = 1,
                          .w = w,
                          .project = str_dup(str_from(msg->spec->project)),
                          .service = str_dup(str_from(msg->spec->name)),
                          .deployment = str_dup(str_from(msg->deployment_id)),
                          .name = str_dup(str_from(run->name)),
                          .id = str_dup(str_from(run->id)),
                          .started = run->started,
                          .replica = run->replica};
    return v;
}

/* May it get requests? */
static bool is_fit(struct verdicts *all, struct work *w, const Davit__Link__V1__Deploy *msg, const struct run *run)
{
    const Davit__Common__V1__HealthCheck *health = msg->spec->health;
    struct verdict *v = all->of[run->replica - 1];

    if (!is_run(v, run->id, run->started)) {
        (void)verdict_unref(v);
        v = all->of[run->replica - 1] = verdict_new(w, msg, run);
        v->fit = run->started <= all->trusted || (health && health->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE);
    }
    if (v->fit || v->judging || w->judging >= JUDGES_MAX || clock_mono() < v->again)
        return v->fit;
    v->refs++;
    v->judging = true;
    w->judging++;
    if (!work_spawn(w, "verdict", judge, v)) {
        v->refs--;
        v->judging = false; /* the next look tries again */
        w->judging--;
    }
    return false;
}

static const struct seen *find_running(const struct work *w, const char *name)
{
    const struct hmap *known = watch_known(w);

    for (struct hmap_entry *e = hmap_first(known); e; e = hmap_next(e)) {
        const struct seen *s = hmap_value(e);
        if (s->state == DOCKER_STATE_RUNNING && strcmp(s->name, name) == 0)
            return s;
    }
    return NULL;
}

uint32_t verdicts_look(struct verdicts *v, struct work *w, const struct desired_service *s)
{
    uint32_t unfit = 0;
    struct deploy d;

    /* Before all of them were seen once nobody knows which are new. */
    if (!w->routes_seen)
        verdicts_trust(v, clock_real());
    deploy_init(&d, w, NULL, s->deploy);
    for (unsigned i = 1; i <= s->replicas && i <= REPLICAS_MAX; i++) {
        AUTO_FREE char *name = deploy_name(&d, i);
        const struct seen *seen = find_running(w, name);
        if (seen && !is_fit(v, w, s->deploy, &(struct run){name, seen->id, seen->started, i}))
            unfit |= UINT32_C(1) << (i - 1);
    }
    deploy_release(&d);
    return unfit;
}

int verdicts_ask(struct verdicts *v, struct deploy *d, uint32_t *ret_unfit, usec_t deadline, struct err *err)
{
    int rc = 0;

    *ret_unfit = 0;
    for (unsigned i = 1; rc >= 0 && i <= d->replicas && i <= REPLICAS_MAX; i++) {
        AUTO_FREE char *name = deploy_name(d, i);
        struct docker_container c = {0};
        rc = deploy_inspect(d, i, &c, deadline, err);
        if (rc == 0 && c.state == DOCKER_STATE_RUNNING && !is_fit(v, d->w, d->msg, &(struct run){name, c.id, engine_time(c.started), i}))
            *ret_unfit |= UINT32_C(1) << (i - 1);
        docker_container_release(&c);
        if (rc == -ERR_EXISTS)
            rc = 0; /* none of ours: it gets no requests anyway */
    }
    return rc < 0 ? rc : 0;
}

void verdicts_trust(struct verdicts *v, usec_t at)
{
    if (at > v->trusted)
        v->trusted = at;
}

void verdicts_found(struct verdicts *v, const struct deploy *d, unsigned replica, const char *id, usec_t started, bool active)
{
    struct verdict **its = &v->of[replica - 1];

    if (!is_run(*its, id, started)) {
        if (!active)
            return;
        AUTO_FREE char *name = deploy_name(d, replica);
        (void)verdict_unref(*its);
        *its = verdict_new(d->w, d->msg, &(struct run){name, id, started, replica});
    }
    (*its)->fit = true;
}

void verdicts_release(struct verdicts *v)
{
    for (unsigned i = 0; i < REPLICAS_MAX; i++)
        v->of[i] = verdict_unref(v->of[i]);
}
