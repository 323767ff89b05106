/* SPDX-License-Identifier: Apache-2.0 */
/* image — the steps of a deployment that are about its image: pull by policy with condensed progress, and a look at what it is. */
#include <string.h>

#include "host/work/admit.h"
#include "host/work/deploy.h"

enum { LAYERS_MAX = 128 };
#define NOTE_EVERY (500 * USEC_MSEC)

struct layer {
    char id[16];
    uint64_t current, total;
    bool done;
};

struct pull {
    struct job *job;
    struct layer layers[LAYERS_MAX];
    size_t n;
    usec_t noted;
};

static struct layer *layer_of(struct pull *p, const char *id)
{
    for (size_t i = 0; i < p->n; i++)
        if (strncmp(p->layers[i].id, id, sizeof(p->layers[i].id) - 1) == 0)
            return &p->layers[i];
    if (p->n == LAYERS_MAX)
        return NULL;
    struct layer *l = &p->layers[p->n++];
    (void)str_copy(l->id, sizeof(l->id), str_from(id));
    return l;
}

/* One line for all layers, not more often than NOTE_EVERY. */
static void note(struct pull *p, bool force)
{
    uint64_t current = 0, total = 0;
    size_t done = 0;
    usec_t now = clock_mono();

    if (p->n == 0 || (!force && now < p->noted + NOTE_EVERY))
        return;
    p->noted = now;
    for (size_t i = 0; i < p->n; i++) {
        current += p->layers[i].current;
        total += p->layers[i].total;
        done += p->layers[i].done;
    }
    size_t at = done < p->n ? done + 1 : p->n;
    if (total == 0) {
        job_note(p->job, 0, "layer %zu of %zu", at, p->n);
        return;
    }
    job_note(p->job, (unsigned)(current * 100 / total), "layer %zu of %zu, %.1f of %.1f MB", at, p->n, (double)current / 1e6,
             (double)total / 1e6);
}

static int on_progress(void *arg, const struct docker_progress *pr)
{
    struct pull *p = arg;

    if (job_cancel_wanted(p->job))
        return -ERR_CANCELLED;
    if (!*pr->layer || str_starts(str_from(pr->status), STR("Pulling from")))
        return 0;
    struct layer *l = layer_of(p, pr->layer);
    if (!l)
        return 0;
    if (strcmp(pr->status, "Downloading") == 0 && pr->total > 0 && pr->total < UINT64_MAX / 1024) {
        l->total = pr->total;
        l->current = pr->current < pr->total ? pr->current : pr->total;
    } else if (strcmp(pr->status, "Pull complete") == 0 || strcmp(pr->status, "Already exists") == 0) {
        l->done = true;
        l->current = l->total;
    } else if (strcmp(pr->status, "Download complete") == 0) {
        l->current = l->total;
    }
    note(p, false);
    return 0;
}

/* Which of the closed list a failed pull is. */
const char *image_pull_reason(struct work *w, const struct err *err)
{
    switch (err->code) {
    case ERR_NOT_FOUND: return "image_not_found";
    case ERR_UNAUTHENTICATED: return "registry_denied";
    case ERR_DENIED:
    case ERR_UNAVAILABLE:
        if (docker_ping(w->docker, deadline_in(5 * USEC_SEC), NULL) < 0)
            return "engine_unavailable";
        return err->code == ERR_DENIED ? "registry_denied" : "registry_unreachable";
    case ERR_EXHAUSTED: return strcmp(reason_of(err), "disk_full") == 0 ? "disk_full" : "registry_unreachable";
    default: return reason_of(err);
    }
}

static int pull(struct deploy *d, struct job *job, struct err *err)
{
    const Davit__Common__V1__RegistryAuth *a = d->msg->registry_auth;
    struct docker_auth auth = {0};
    struct work *w = d->w;

    if (a)
        auth = (struct docker_auth){a->server, a->username, a->password};
    while (w->pulls >= WORK_PULLS_MAX) {
        job_note(job, 0, "waiting for other pulls");
        int rc = event_wait(&w->pull_ended, job_deadline(job));
        if (rc == -ERR_DEADLINE)
            return err_set(err, ERR_DEADLINE, "other pulls did not end in time");
        if (rc < 0)
            return rc;
    }
    struct pull *p = NEW(struct pull);
    p->job = job;
    w->pulls++;
    int rc = docker_pull(w->docker, d->spec->image, a ? &auth : NULL, on_progress, p, d->digest, job_deadline(job), err);
    w->pulls--;
    event_pulse(&w->pull_ended);
    if (rc >= 0)
        note(p, true);
    free(p);
    return rc;
}

int deploy_image(struct deploy *d, usec_t deadline, struct err *err)
{
    const char *digest = strchr(d->spec->image, '@');

    if (d->image.pool)
        return 0;
    d->image_ref = *d->pinned ? d->pinned : d->spec->image;
    int rc = docker_image_inspect(d->w->docker, d->image_ref, &d->image, deadline, err);
    if (rc != -ERR_NOT_FOUND || !digest)
        return rc;
    struct err by_id = ERR_INIT;
    if (docker_image_inspect(d->w->docker, digest + 1, &d->image, deadline, &by_id) < 0)
        return rc;
    *err = ERR_INIT;
    d->image_ref = digest + 1;
    return 0;
}

int step_pull(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    bool always = strcmp(d->spec->pull, "always") == 0, never = strcmp(d->spec->pull, "never") == 0;

    /* What is healed ran before, and shall. */
    const char *reason = NULL;
    int rc = d->c ? admit_check(d->w, d->msg->force, job, &reason, err) : 0;
    if (rc < 0)
        return reason ? deploy_reason(d, rc, reason) : rc;
    if (!always) {
        rc = deploy_image(d, job_deadline(job), err);
        if (rc == 0) {
            job_note(job, 100, "the image is here");
            return 0;
        }
        if (rc != -ERR_NOT_FOUND)
            return rc;
        if (never) {
            err_hint(err, "set pull to missing, or bring the image to this server");
            return deploy_reason(d, rc, "image_not_found");
        }
        *err = ERR_INIT;
    }
    rc = pull(d, job, err);
    if (rc < 0)
        return fiber_cancelled() ? rc : deploy_reason(d, rc, image_pull_reason(d->w, err));
    docker_image_release(&d->image);
    return 0;
}
