/* SPDX-License-Identifier: Apache-2.0 */
/* record — what a job's commit writes down of what shall run from now on, see host/work/desired.h. */
#include <string.h>

#include "host/work/deploy.h"
#include "spec/spec.h"

Davit__Link__V1__Deploy *deploy_copy(const Davit__Link__V1__Deploy *msg)
{
    size_t n = davit__link__v1__deploy__get_packed_size(msg);
    uint8_t *bytes = mem_alloc(n + 1);

    (void)davit__link__v1__deploy__pack(msg, bytes);
    Davit__Link__V1__Deploy *copy = davit__link__v1__deploy__unpack(NULL, n, bytes);
    explicit_bzero(bytes, n);
    free(bytes);
    BUG_ON(!copy);
    return copy;
}

void deploy_copy_free(Davit__Link__V1__Deploy *copy)
{
    if (!copy)
        return;
    for (size_t i = 0; i < copy->spec->n_env; i++)
        explicit_bzero(copy->spec->env[i]->value, strlen(copy->spec->env[i]->value));
    davit__link__v1__deploy__free_unpacked(copy, NULL);
}

int record_active(struct deploy *d, usec_t deadline, struct err *err)
{
    Davit__Link__V1__Deploy msg = *d->msg;
    Davit__Common__V1__ServiceSpec spec = *d->spec;
    Davit__Common__V1__Route routes[SPEC_ROUTES_MAX], *pointers[SPEC_ROUTES_MAX];
    uint16_t port = 0;

    if (!d->w->desired)
        return 0;
    int rc = spec.n_routes > 0 ? deploy_route_port(d, &port, deadline, err) : 0;
    if (rc < 0)
        return rc;
    BUG_ON(spec.n_routes > SPEC_ROUTES_MAX);
    for (size_t i = 0; i < spec.n_routes; i++) {
        routes[i] = *spec.routes[i];
        routes[i].port = port;
        pointers[i] = &routes[i];
    }
    spec.routes = pointers;
    spec.replicas = d->replicas;
    msg.spec = &spec;
    struct desired_service s = {.deploy = &msg, .replicas = d->replicas};
    (void)str_copy(s.image_digest, sizeof(s.image_digest), str_from(d->digest));
    return desired_put(d->w->desired, &s, err);
}

int record_stopped(struct command *c, bool stopped, struct err *err)
{
    return c->w->desired ? desired_set_stopped(c->w->desired, c->project, c->service, stopped, err) : 0;
}

int record_removed(struct command *c, struct err *err)
{
    return c->w->desired ? desired_drop(c->w->desired, c->project, c->service, err) : 0;
}
