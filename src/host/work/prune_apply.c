/* SPDX-License-Identifier: Apache-2.0 */
/* prune_apply — the calls of prune.h: makes a plan, and removes what stands in a plan and would stand in one made now. */
#include <string.h>

#include "host/work/calls.h"
#include "host/work/desired.h"
#include "host/work/prune.h"

#define ITEM_CALL (2 * USEC_MINUTE)

static bool project_busy(void *arg, const char *project)
{
    const struct work *w = arg;
    struct command *c;

    list_each(c, &w->commands, struct command, node)
        if (strcmp(c->project, project) == 0)
            return true;
    return false;
}

/* --- What this server shall run --- */

/* A list of the control plane's and more behind it. */
struct longer {
    char **items, **own; /* own: of those behind, to be freed */
    size_t n, n_own;
};

static void longer_init(struct longer *l, char *const *items, size_t n, size_t more)
{
    *l = (struct longer){.items = mem_zalloc(n + more + 1, sizeof(char *)), .own = mem_zalloc(more + 1, sizeof(char *)), .n = n};
    if (n)
        memcpy(l->items, items, n * sizeof(char *));
}

static void longer_add(struct longer *l, char *text)
{
    l->items[l->n++] = l->own[l->n_own++] = text;
}

static void longer_release(struct longer *l)
{
    for (size_t i = 0; i < l->n_own; i++)
        free(l->own[i]);
    free(l->own);
    free(l->items);
}

struct wider {
    struct longer deployments, services, volumes, images;
};

static size_t desired_volumes(const struct work *w)
{
    size_t n = 0;

    for (size_t i = 0; i < desired_count(w->desired); i++)
        n += desired_at(w->desired, i)->deploy->spec->n_volumes;
    return n;
}

/* What is desired here is needed, also if the control plane does not know it any more: it may have been restored from an old backup. */
static void widen(const struct work *w, const Davit__Link__V1__PrunePlanCall *ask, Davit__Link__V1__PrunePlanCall *ret, struct wider *x)
{
    size_t n = w->desired ? desired_count(w->desired) : 0;

    *ret = *ask;
    longer_init(&x->deployments, ask->known_deployments, ask->n_known_deployments, n);
    longer_init(&x->services, ask->known_services, ask->n_known_services, n);
    longer_init(&x->volumes, ask->keep_volumes, ask->n_keep_volumes, n ? desired_volumes(w) : 0);
    longer_init(&x->images, ask->keep_images, ask->n_keep_images, 2 * n);
    for (size_t i = 0; i < n; i++) {
        const struct desired_service *s = desired_at(w->desired, i);
        const Davit__Common__V1__ServiceSpec *spec = s->deploy->spec;
        longer_add(&x->deployments, str_dup(str_from(s->deploy->deployment_id)));
        longer_add(&x->services, str_printf("%s/%s", spec->project, spec->name));
        longer_add(&x->images, str_dup(str_from(spec->image)));
        longer_add(&x->images, str_dup(str_from(s->image_digest)));
        for (size_t k = 0; k < spec->n_volumes; k++)
            longer_add(&x->volumes, str_printf("davit-%s-%s", spec->project, spec->volumes[k]->name));
    }
    ret->known_deployments = x->deployments.items;
    ret->n_known_deployments = x->deployments.n;
    ret->known_services = x->services.items;
    ret->n_known_services = x->services.n;
    ret->keep_volumes = x->volumes.items;
    ret->n_keep_volumes = x->volumes.n;
    ret->keep_images = x->images.items;
    ret->n_keep_images = x->images.n;
}

/* Waits: a plan of what is there now. */
static int plan_now(struct work *w, const Davit__Link__V1__PrunePlanCall *ask, Davit__Common__V1__PrunePlan **ret, struct err *err)
{
    struct prune_engine e = {0};
    Davit__Link__V1__PrunePlanCall wide;
    struct wider x;
    int rc = prune_look(w->docker, &e, deadline_in(ENGINE_CALL), err);

    if (rc < 0)
        return rc;
    widen(w, ask, &wide, &x);
    *ret = prune_plan(w->server_id, &wide, &e, project_busy, w);
    longer_release(&x.deployments);
    longer_release(&x.services);
    longer_release(&x.volumes);
    longer_release(&x.images);
    prune_engine_release(&e);
    return 0;
}

int call_prune_plan(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    int rc = plan_now(call_work(c), call_open_message(c)->prune_plan, &end->prune_plan, err);

    (void)reason;
    if (rc == 0)
        end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_PRUNE_PLAN;
    return rc;
}

/* --- Applying ------------------------------------------------------------------------------------------------------------------------ */

static void note(Davit__Common__V1__PruneItem ***list, size_t *n, const Davit__Common__V1__PruneItem *item, const char *why)
{
    Davit__Common__V1__PruneItem *copy = NEW(Davit__Common__V1__PruneItem);

    davit__common__v1__prune_item__init(copy);
    copy->kind = str_dup(str_from(item->kind));
    copy->id = str_dup(str_from(item->id));
    copy->name = str_dup(str_from(item->name));
    copy->bytes = item->bytes;
    copy->why = str_dup(str_from(why));
    *list = mem_resize(*list, *n + 1, sizeof(**list));
    (*list)[(*n)++] = copy;
}

static bool stands_in(const Davit__Common__V1__PrunePlan *plan, const Davit__Common__V1__PruneItem *item)
{
    for (size_t i = 0; i < plan->n_items; i++) {
        const Davit__Common__V1__PruneItem *k = plan->items[i];
        if (strcmp(k->kind, item->kind) == 0 && strcmp(k->id, item->id) == 0 && strcmp(k->name, item->name) == 0)
            return true;
    }
    return false;
}

/* An image of several names does not go by its id: first the names, each while it still is that image's. */
static int untag(struct work *w, const char *id, struct err *err)
{
    struct docker_image m = {0};
    int rc = docker_image_inspect(w->docker, id, &m, deadline_in(ENGINE_CALL), err);

    for (size_t i = 0; rc >= 0 && i < m.n_repo_tags; i++) {
        struct docker_image again = {0};
        rc = docker_image_inspect(w->docker, m.repo_tags[i], &again, deadline_in(ENGINE_CALL), err);
        if (rc == 0 && strcmp(again.id, m.id) == 0)
            rc = docker_image_remove(w->docker, m.repo_tags[i], false, deadline_in(ITEM_CALL), err);
        docker_image_release(&again);
    }
    docker_image_release(&m);
    if (rc >= 0)
        rc = docker_image_remove(w->docker, id, false, deadline_in(ITEM_CALL), err);
    return rc == -ERR_NOT_FOUND ? 0 : rc; /* gone with its last name */
}

static int remove_image(struct work *w, const char *id, struct err *err)
{
    int rc = docker_image_remove(w->docker, id, false, deadline_in(ITEM_CALL), err);

    if (rc == -ERR_NOT_FOUND)
        return DOCKER_UNCHANGED;
    return rc == -ERR_PRECONDITION || rc == -ERR_EXISTS ? untag(w, id, err) : rc;
}

/* Never by force: the engine itself refuses what came into use this very moment. */
static int remove_item(struct work *w, const Davit__Common__V1__PruneItem *item, struct err *err)
{
    if (strcmp(item->kind, "container") == 0)
        return docker_container_remove(w->docker, item->id, false, false, deadline_in(ITEM_CALL), err);
    if (strcmp(item->kind, "network") == 0)
        return docker_network_remove(w->docker, item->id, deadline_in(ITEM_CALL), err);
    if (strcmp(item->kind, "volume") == 0)
        return docker_volume_remove(w->docker, item->id, false, deadline_in(ITEM_CALL), err);
    return remove_image(w, item->id, err);
}

static int apply_item(struct work *w, const Davit__Common__V1__PruneItem *item, const Davit__Common__V1__PrunePlan *now,
                      Davit__Common__V1__PruneResult *out)
{
    struct err err = ERR_INIT;
    const char *why = NULL;
    int rc = 0;

    if (!now->complete)
        why = "the engine did not tell everything";
    else if (!stands_in(now, item))
        why = "it changed since the plan was made: it is gone, or something needs it now";
    else
        rc = remove_item(w, item, &err);
    if (rc == -ERR_CANCELLED)
        return rc;
    if (rc < 0)
        why = err.msg;
    else if (rc == DOCKER_UNCHANGED)
        why = "it was gone already";
    if (why)
        note(&out->kept, &out->n_kept, item, why);
    else
        note(&out->removed, &out->n_removed, item, item->why);
    return 0;
}

static int apply_kind(struct work *w, const Davit__Link__V1__PruneApplyCall *m, const char *kind, Davit__Common__V1__PruneResult *out,
                      struct err *err)
{
    Davit__Common__V1__PrunePlan *now = NULL;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < m->plan->n_items; i++) {
        if (strcmp(m->plan->items[i]->kind, kind) != 0)
            continue;
        if (!now)
            rc = plan_now(w, m->now, &now, err); /* each kind anew: what is removed first uses what comes later */
        if (rc == 0)
            rc = apply_item(w, m->plan->items[i], now, out);
    }
    if (now)
        protobuf_c_message_free_unpacked(&now->base, NULL);
    return rc;
}

int call_prune_apply(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    static const char *const kinds[] = {"container", "network", "image", "volume"};
    const Davit__Link__V1__PruneApplyCall *m = call_open_message(c)->prune_apply;
    struct work *w = call_work(c);
    int rc = 0;

    (void)reason;
    if (!m->plan || !m->now || !m->plan->complete || m->plan->n_items > PRUNE_ITEMS_MAX)
        return err_set(err, ERR_INVALID, "this is no plan that can be applied");
    Davit__Common__V1__PruneResult *out = NEW(Davit__Common__V1__PruneResult);
    davit__common__v1__prune_result__init(out);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(kinds); i++) {
        bool lock = strcmp(kinds[i], "network") == 0;
        if (lock && (rc = networks_lock(w, deadline_in(ENGINE_CALL))) < 0)
            break;
        rc = apply_kind(w, m, kinds[i], out, err);
        if (lock)
            networks_unlock(w);
    }
    if (rc < 0) {
        protobuf_c_message_free_unpacked(&out->base, NULL);
        return rc;
    }
    end->prune_result = out;
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_PRUNE_RESULT;
    return 0;
}
