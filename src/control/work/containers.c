/* SPDX-License-Identifier: Apache-2.0 */
/* containers — see containers.h. */
#include "control/work/containers.h"

#include <stdio.h>

#include "control/work/workloads.h"

enum { REPLICAS_MAX = 999, DEPLOYMENT_PART = 8 };

unsigned container_replica(const Davit__Common__V1__Container *k)
{
    char part[DEPLOYMENT_PART + 1];
    uint64_t n = 1;
    (void)str_copy(part, sizeof(part), str_from(k->deployment_id));
    const char *at = *part ? strstr(text(k->name), part) : NULL;
    if (!at)
        return 0;
    at += strlen(part);
    if (*at && (*at != '-' || str_to_u64(str_from(at + 1), REPLICAS_MAX, &n) < 0))
        return 0;
    return (unsigned)n;
}

/* Is @k rather meant than @best, for one that is asked for no number: of the active deployment, running, the first. */
static bool better(const Davit__Common__V1__Container *k, const Davit__Common__V1__Container *best, const char *active)
{
    if (!best)
        return true;
    bool ours[2] = {str_eq(str_from(k->deployment_id), str_from(active)), str_eq(str_from(best->deployment_id), str_from(active))};
    bool runs[2] = {str_eq(str_from(k->state), STR("running")), str_eq(str_from(best->state), STR("running"))};
    if (ours[0] != ours[1])
        return ours[0];
    if (runs[0] != runs[1])
        return runs[0];
    unsigned a = container_replica(k), b = container_replica(best);
    return a != b ? a < b : k->started_at_us > best->started_at_us;
}

static const Davit__Common__V1__Container *of_service(const struct server *s, const Davit__Control__V1__ContainerRef *ref, const char *active)
{
    const Davit__Common__V1__Container *best = NULL;
    for (struct hmap_entry *e = hmap_first(s->inventory.containers); e; e = hmap_next(e)) {
        const Davit__Common__V1__Container *k = hmap_value(e);
        if (k->foreign || !str_eq(str_from(k->project), str_from(ref->project)) || !str_eq(str_from(k->service), str_from(ref->service)))
            continue;
        if (ref->replica && container_replica(k) != ref->replica)
            continue;
        if (better(k, best, active))
            best = k;
    }
    return best;
}

static int no_container(const struct server *s, const Davit__Control__V1__ContainerRef *ref, struct err *err)
{
    if (ref->replica)
        (void)err_set(err, ERR_NOT_FOUND, "server \"%s\" shows no replica %u of %.64s/%.64s", s->name, ref->replica, ref->project, ref->service);
    else
        (void)err_set(err, ERR_NOT_FOUND, "server \"%s\" shows no container of %.64s/%.64s", s->name, ref->project, ref->service);
    err_hint(err, "davit ps shows the state of the deployment");
    return -(int)ERR_NOT_FOUND;
}

static int find_service(struct control *c, const Davit__Control__V1__ContainerRef *ref, struct container_place *ret, struct err *err)
{
    struct service_row row;
    int rc = workloads_service(c, ref->project, ref->service, &row, err);
    if (rc < 0)
        return rc;
    struct server *s = servers_by_id(c, row.server_id);
    if (!s)
        return err_set(err, ERR_NOT_FOUND, "the server of this service was removed");
    if (!s->link)
        return err_set(err, ERR_UNAVAILABLE, "server \"%s\" is not connected", s->name);
    const Davit__Common__V1__Container *k = of_service(s, ref, row.active);
    if (!k)
        return no_container(s, ref, err);
    ret->server = server_ref(s);
    (void)str_copy(ret->id, sizeof(ret->id), str_from(k->id));
    (void)str_copy(ret->name, sizeof(ret->name), str_from(k->name));
    return 0;
}

static int find_named(struct control *c, const Davit__Control__V1__ContainerRef *ref, struct container_place *ret, struct err *err)
{
    struct server *s = NULL;
    int rc = servers_find(c, ref->server, &s, err);
    if (rc < 0)
        return rc;
    if (!s->link)
        return err_set(err, ERR_UNAVAILABLE, "server \"%s\" is not connected", s->name);
    if (str_copy(ret->id, sizeof(ret->id), str_from(ref->container)) != 0)
        return err_set(err, ERR_INVALID, "container: a name has at most %d bytes", CONTAINER_NAME_SIZE - 1);
    ret->server = server_ref(s);
    (void)str_copy(ret->name, sizeof(ret->name), str_from(ref->container));
    (void)snprintf(ret->subject, sizeof(ret->subject), "%s/%.80s", s->name, ref->container);
    return 0;
}

int containers_find(struct control *c, const Davit__Control__V1__ContainerRef *ref, struct container_place *ret, struct err *err)
{
    bool service = ref && *text(ref->service), named = ref && *text(ref->container);
    if (service == named || (service && !*text(ref->project)) || (named && ref->replica)) {
        (void)err_set(err, ERR_INVALID, "target: name a project and a service, or a server and a container");
        return -(int)ERR_INVALID;
    }
    if (named)
        return find_named(c, ref, ret, err);
    (void)snprintf(ret->subject, sizeof(ret->subject), "%.64s/%.64s", ref->project, ref->service);
    return find_service(c, ref, ret, err);
}

void container_place_release(struct container_place *p)
{
    server_unref(p->server);
    *p = (struct container_place){0};
}
