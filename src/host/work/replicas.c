/* SPDX-License-Identifier: Apache-2.0 */
/* replicas — which containers a service has: how many, by what name, and whose. */
#include <string.h>

#include "host/work/deploy.h"

char *deploy_name(const struct deploy *d, unsigned replica)
{
    const Davit__Common__V1__ServiceSpec *s = d->spec;

    if (replica <= 1)
        return str_printf("davit-%s-%s-%.8s", s->project, s->name, d->msg->deployment_id);
    return str_printf("davit-%s-%s-%.8s-%u", s->project, s->name, d->msg->deployment_id, replica);
}

unsigned replica_number(const struct docker_map *labels)
{
    const char *text = docker_map_get(labels, LABEL_REPLICA);
    uint64_t n = 0;

    if (!text)
        return 1;
    return str_to_u64(str_from(text), REPLICAS_MAX, &n) == 0 ? (unsigned)n : 0;
}

char *deploy_job_label(const struct deploy *d, const char *step)
{
    return str_printf("%s/%s", d->job ? d->job : "heal", step);
}

bool deploy_made(const struct deploy *d, const struct docker_map *labels, const char *step)
{
    const char *job = docker_map_get(labels, LABEL_JOB);

    if (!job || !d->job)
        return false;
    AUTO_FREE char *want = deploy_job_label(d, step);
    return strcmp(job, want) == 0;
}

bool deploy_owns(const struct deploy *d, const struct docker_map *labels)
{
    const char *deployment = docker_map_get(labels, LABEL_DEPLOYMENT);

    return labels_ours(labels, d->spec->project, d->spec->name) && deployment && strcmp(deployment, d->msg->deployment_id) == 0;
}

bool deploy_leaves(const struct deploy *d, const struct docker_summary *c)
{
    unsigned n = replica_number(&c->labels);

    return labels_ours(&c->labels, d->spec->project, d->spec->name) && (!deploy_owns(d, &c->labels) || n == 0 || n > d->replicas);
}

int deploy_list(struct deploy *d, struct docker_summaries *ret, usec_t deadline, struct err *err)
{
    return service_containers(d->w, d->spec->project, d->spec->name, ret, deadline, err);
}

int deploy_inspect(struct deploy *d, unsigned replica, struct docker_container *ret, usec_t deadline, struct err *err)
{
    AUTO_FREE char *name = deploy_name(d, replica);
    int rc = docker_container_inspect(d->w->docker, name, ret, deadline, err);

    if (rc == -ERR_NOT_FOUND)
        return 1;
    if (rc < 0)
        return rc;
    if (!deploy_owns(d, &ret->labels)) {
        docker_container_release(ret);
        (void)err_set(err, ERR_EXISTS, "a container named %s exists that is not of this deployment", name);
        err_hint(err, "rename or remove it");
        return -ERR_EXISTS;
    }
    if (replica == 1)
        (void)str_copy(d->id, sizeof(d->id), str_from(ret->id));
    return 0;
}

/* How many the service has: of the deployment before this one (the newest that ever ran), or of this one when it was here already, the more of both:
 * after the commit those before go one by one. */
static unsigned present(const struct deploy *d, const struct docker_summaries *l)
{
    const char *before = NULL;
    unsigned theirs = 0, own = 0;

    for (size_t i = 0; i < l->n; i++) {
        const struct docker_summary *c = &l->items[i];
        const char *deployment = docker_map_get(&c->labels, LABEL_DEPLOYMENT);
        if (deploy_owns(d, &c->labels)) {
            own++;
        } else if (deployment && c->state != DOCKER_STATE_CREATED) {
            before = before ? before : deployment;
            theirs += strcmp(before, deployment) == 0;
        }
    }
    return theirs > own ? theirs : own;
}

int deploy_count(struct deploy *d, usec_t deadline, struct err *err)
{
    struct docker_summaries l = {0};

    if (d->replicas > 0)
        return 0;
    d->replicas = d->spec->replicas;
    /* One that is missing just now is one of them all the same. */
    const struct desired_service *s = d->w->desired ? desired_get(d->w->desired, d->spec->project, d->spec->name) : NULL;
    if (d->replicas == 0 && s)
        d->replicas = s->replicas < REPLICAS_MAX ? s->replicas : REPLICAS_MAX;
    if (d->replicas > 0)
        return 0;
    int rc = deploy_list(d, &l, deadline, err);
    if (rc >= 0) {
        d->replicas = present(d, &l);
        if (d->replicas == 0)
            d->replicas = 1;
        if (d->replicas > REPLICAS_MAX)
            d->replicas = REPLICAS_MAX;
    }
    docker_summaries_release(&l);
    return rc < 0 ? rc : 0;
}
