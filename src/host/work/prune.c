/* SPDX-License-Identifier: Apache-2.0 */
/* prune — see prune.h: the plan. Its removal is in prune_apply.c. */
#include "host/work/prune.h"

#include <string.h>

#include "base/mem.h"
#include "host/link/policy.h"
#include "host/work/work_internal.h"

struct planner {
    const char *server_id;
    const Davit__Link__V1__PrunePlanCall *ask;
    const struct prune_engine *e;
    prune_busy_fn *busy;
    void *arg;
    Davit__Common__V1__PrunePlan *plan;
};

int prune_look(struct docker *d, struct prune_engine *ret, usec_t deadline, struct err *err)
{
    *ret = (struct prune_engine){0};
    int rc = docker_container_list(d, NULL, 0, &ret->containers, deadline, err);
    if (rc == 0)
        rc = docker_image_list(d, &ret->images, deadline, err);
    if (rc == 0)
        rc = docker_network_list(d, NULL, &ret->networks, deadline, err);
    if (rc == 0)
        rc = docker_volume_list(d, NULL, &ret->volumes, deadline, err);
    if (rc < 0)
        prune_engine_release(ret);
    return rc;
}

void prune_engine_release(struct prune_engine *e)
{
    docker_summaries_release(&e->containers);
    docker_images_release(&e->images);
    docker_networks_release(&e->networks);
    docker_volumes_release(&e->volumes);
}

static bool in_list(char *const *list, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], text) == 0)
            return true;
    return false;
}

static const char *label(const struct docker_map *labels, const char *name)
{
    const char *value = docker_map_get(labels, name);
    return value ? value : "";
}

/* Of this server, and of a project that nothing is done with just now. */
static bool ours(const struct planner *p, const struct docker_map *labels)
{
    const char *project = label(labels, LABEL_PROJECT);

    return labels_ours(labels, NULL, NULL) && strcmp(label(labels, LABEL_SERVER), p->server_id) == 0 && *project &&
           !docker_map_get(labels, LABEL_INGRESS) && !p->busy(p->arg, project);
}

static void add(struct planner *p, const char *kind, const char *id, const char *name, uint64_t bytes, const char *why)
{
    Davit__Common__V1__PrunePlan *plan = p->plan;
    AUTO_FREE char *clean = text_tail(str_from(name), ERR_MSG_MAX);

    if (plan->n_items >= PRUNE_ITEMS_MAX || !*id || !*name || strcmp(clean, name) != 0)
        return;
    Davit__Common__V1__PruneItem *item = NEW(Davit__Common__V1__PruneItem);
    davit__common__v1__prune_item__init(item);
    item->kind = str_dup(str_from(kind));
    item->id = str_dup(str_from(id));
    item->name = str_dup(str_from(name));
    item->bytes = bytes;
    item->why = str_dup(str_from(why));
    plan->items = mem_resize(plan->items, plan->n_items + 1, sizeof(*plan->items));
    plan->items[plan->n_items++] = item;
}

/* --- Containers, networks, volumes -------------------------------------------------------------------------------------------------- */

static bool at_rest(enum docker_state s)
{
    return s == DOCKER_STATE_CREATED || s == DOCKER_STATE_EXITED || s == DOCKER_STATE_DEAD;
}

static void plan_containers(struct planner *p)
{
    for (size_t i = 0; i < p->e->containers.n; i++) {
        const struct docker_summary *c = &p->e->containers.items[i];
        const char *deployment = label(&c->labels, LABEL_DEPLOYMENT);
        if (!ours(p, &c->labels) || !*label(&c->labels, LABEL_SERVICE) || !*deployment || !at_rest(c->state) ||
            in_list(p->ask->known_deployments, p->ask->n_known_deployments, deployment))
            continue;
        add(p, "container", c->id, c->name, 0, "it does not run, and no deployment that is kept has it");
    }
}

static bool project_known(const struct planner *p, const char *project)
{
    size_t n = strlen(project);

    for (size_t i = 0; i < p->ask->n_known_services; i++)
        if (strncmp(p->ask->known_services[i], project, n) == 0 && p->ask->known_services[i][n] == '/')
            return true;
    return false;
}

static bool network_used(const struct planner *p, const struct docker_network *net)
{
    for (size_t i = 0; i < p->e->containers.n; i++) {
        const struct docker_summary *c = &p->e->containers.items[i];
        for (size_t j = 0; j < c->n_networks; j++)
            if (strcmp(c->networks[j].network, net->name) == 0 || strcmp(c->networks[j].network_id, net->id) == 0)
                return true;
    }
    return false;
}

static void plan_networks(struct planner *p)
{
    for (size_t i = 0; i < p->e->networks.n; i++) {
        const struct docker_network *net = &p->e->networks.items[i];
        const char *project = label(&net->labels, LABEL_PROJECT);
        AUTO_FREE char *name = str_printf("davit-%s", project);
        if (ours(p, &net->labels) && strcmp(net->name, name) == 0 && !project_known(p, project) && !network_used(p, net))
            add(p, "network", net->id, net->name, 0, "its project has no service and no container");
    }
}

static bool volume_used(const struct planner *p, const char *name)
{
    for (size_t i = 0; i < p->e->containers.n; i++) {
        const struct docker_summary *c = &p->e->containers.items[i];
        for (size_t j = 0; j < c->n_volumes; j++)
            if (strcmp(c->volumes[j], name) == 0)
                return true;
    }
    return false;
}

static void plan_volumes(struct planner *p)
{
    for (size_t i = 0; i < p->e->volumes.n; i++) {
        const struct docker_volume *v = &p->e->volumes.items[i];
        const char *project = label(&v->labels, LABEL_PROJECT), *service = label(&v->labels, LABEL_SERVICE);
        const char *volume = label(&v->labels, LABEL_VOLUME);
        AUTO_FREE char *name = str_printf("davit-%s-%s", project, volume);
        AUTO_FREE char *of = str_printf("%s/%s", project, service);
        if (!ours(p, &v->labels) || !*service || !*volume || strcmp(v->name, name) != 0 ||
            in_list(p->ask->known_services, p->ask->n_known_services, of) ||
            in_list(p->ask->keep_volumes, p->ask->n_keep_volumes, v->name) || volume_used(p, v->name))
            continue;
        add(p, "volume", v->name, v->name, 0, "its service is gone, and no container has it");
    }
}

/* --- Images -------------------------------------------------------------------------------------------------------------------------- */

static const char *digest_of(const char *reference)
{
    const char *at = strchr(reference, '@');
    return at ? at + 1 : "";
}

/* "" where there is none; a port of the registry is no tag. */
static struct str tag_of(const char *reference)
{
    const char *at = strchrnul(reference, '@'), *slash = memrchr(reference, '/', (size_t)(at - reference));
    const char *from = slash ? slash : reference, *colon = memchr(from, ':', (size_t)(at - from));
    return colon ? (struct str){colon + 1, (size_t)(at - colon - 1)} : *at ? STR("") : STR("latest");
}

/* Do both references name one repository, and with @tags one tag? */
static bool same_name(const char *a, const char *b, bool tags)
{
    AUTO_FREE char *x = NULL, *y = NULL;

    if (tags && !str_eq(tag_of(a), tag_of(b)))
        return false;
    return policy_image_name(a, &x, NULL) == 0 && policy_image_name(b, &y, NULL) == 0 && strcmp(x, y) == 0;
}

static bool named(char *const *list, size_t n, const char *reference, bool tags)
{
    for (size_t i = 0; i < n; i++)
        if (same_name(list[i], reference, tags))
            return true;
    return false;
}

/* Davit had it pulled, under just these names, and needs it no more. */
static bool image_old(const struct planner *p, const struct docker_image_summary *m)
{
    const Davit__Link__V1__PrunePlanCall *a = p->ask;

    if (m->n_repo_digests == 0 || in_list(a->keep_images, a->n_keep_images, m->id))
        return false; /* one without a digest could not be pulled again */
    for (size_t i = 0; i < m->n_repo_digests; i++) {
        const char *digest = digest_of(m->repo_digests[i]);
        if (!in_list(a->old_digests, a->n_old_digests, digest) || in_list(a->keep_images, a->n_keep_images, digest) ||
            !named(a->old_images, a->n_old_images, m->repo_digests[i], false))
            return false;
    }
    for (size_t i = 0; i < m->n_repo_tags; i++)
        if (!named(a->old_images, a->n_old_images, m->repo_tags[i], true) || named(a->keep_images, a->n_keep_images, m->repo_tags[i], true))
            return false;
    return true;
}

static bool image_used(const struct planner *p, const struct docker_image_summary *m)
{
    for (size_t i = 0; i < p->e->containers.n; i++)
        if (strcmp(p->e->containers.items[i].image_id, m->id) == 0)
            return true;
    return false;
}

static void plan_images(struct planner *p)
{
    for (size_t i = 0; i < p->e->images.n; i++) {
        const struct docker_image_summary *m = &p->e->images.items[i];
        if (image_old(p, m) && !image_used(p, m))
            add(p, "image", m->id, m->n_repo_tags ? m->repo_tags[0] : m->repo_digests[0], m->size,
                "its deployments are older than those that are kept for a rollback, and no container has it");
    }
}

/* Is there an answer that cannot be the whole truth? */
static bool complete(const struct prune_engine *e)
{
    for (size_t i = 0; i < e->containers.n; i++) {
        const struct docker_summary *c = &e->containers.items[i];
        if (!*c->id || !*c->name || !*c->image_id || c->state == DOCKER_STATE_UNKNOWN)
            return false;
    }
    for (size_t i = 0; i < e->images.n; i++)
        if (!*e->images.items[i].id)
            return false;
    for (size_t i = 0; i < e->networks.n; i++)
        if (!*e->networks.items[i].id || !*e->networks.items[i].name)
            return false;
    for (size_t i = 0; i < e->volumes.n; i++)
        if (!*e->volumes.items[i].name)
            return false;
    return !e->volumes.incomplete;
}

Davit__Common__V1__PrunePlan *prune_plan(const char *server_id, const Davit__Link__V1__PrunePlanCall *ask, const struct prune_engine *e,
                                         prune_busy_fn *busy, void *arg)
{
    struct planner p = {.server_id = server_id, .ask = ask, .e = e, .busy = busy, .arg = arg, .plan = NEW(Davit__Common__V1__PrunePlan)};

    davit__common__v1__prune_plan__init(p.plan);
    p.plan->complete = complete(e);
    if (!p.plan->complete)
        return p.plan;
    if (ask->containers)
        plan_containers(&p);
    if (ask->networks)
        plan_networks(&p);
    if (ask->images)
        plan_images(&p);
    if (ask->volumes)
        plan_volumes(&p);
    return p.plan;
}
