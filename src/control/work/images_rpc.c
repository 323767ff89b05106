/* SPDX-License-Identifier: Apache-2.0 */
/* images_rpc — ImageService: images and volumes of a server, and cleaning up. All of it is asked of the server's agent. */
#include "base/mem.h"
#include "control/work/cleaning.h"
#include "control/work/registries.h"
#include "control/link/server_call.h"
#include "davit/control/v1/images.pb-c.h"

#define LIST_TIME   (90 * USEC_SEC)
#define CHECK_TIME  (2 * USEC_MINUTE)
#define REMOVE_TIME (5 * USEC_MINUTE)
#define PULL_TIME   (125 * USEC_MINUTE)
#define PRUNE_TIME  USEC_HOUR

enum { NAME_LENGTH_MAX = 512 };

#define REQUEST(type, m)  ((const Davit__Control__V1__##type *)(m))
#define OPEN(field, kind) {.base = PROTOBUF_C_MESSAGE_INIT(&davit__link__v1__call_open__descriptor), \
                           .body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_##kind, .field = &ask}
#define RESULT(kind)      DAVIT__LINK__V1__CALL_END__RESULT_##kind

static int reply(struct rpc_call *call, const ProtobufCMessage *m, struct err *err)
{
    return rpc_send(call, m) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int need_name(const char *field, const char *name, struct err *err)
{
    size_t n = str_from(text(name)).n;
    return n > 0 && n <= NAME_LENGTH_MAX ? 0 : err_set(err, ERR_INVALID, "%s: 1 to %d bytes", field, NAME_LENGTH_MAX);
}

/* --- Images ------------------------------------------------------------------------------------------------------------------------- */

static int list_images(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__ListImagesResponse m = DAVIT__CONTROL__V1__LIST_IMAGES_RESPONSE__INIT;
    Davit__Link__V1__ImageListCall ask = DAVIT__LINK__V1__IMAGE_LIST_CALL__INIT;
    Davit__Link__V1__CallOpen open = OPEN(image_list, IMAGE_LIST);
    struct server_call sc;
    int rc = server_call(ctx, REQUEST(ListImagesRequest, request)->server, &open, RESULT(IMAGE_LIST), LIST_TIME, &sc, err);
    if (rc == 0) {
        m.images = sc.end->image_list->images;
        m.n_images = sc.end->image_list->n_images;
        m.truncated = sc.end->image_list->truncated;
        rc = reply(call, &m.base, err);
    }
    server_call_release(&sc);
    return rc;
}

/* Sends progress as it comes; *ret_end is set at the end. */
static int pass_progress(struct rpc_call *call, struct server_call *sc, struct err *err)
{
    usec_t deadline = deadline_in(PULL_TIME);
    while (!sc->end) {
        struct link_call_piece piece = {0};
        int rc = link_call_next(sc->call, &piece, deadline, err);
        if (rc < 0)
            return rc;
        sc->end = piece.end;
        if (!piece.progress || !piece.progress->progress)
            continue;
        Davit__Control__V1__PullImageResponse m = DAVIT__CONTROL__V1__PULL_IMAGE_RESPONSE__INIT;
        m.progress = piece.progress->progress;
        if ((rc = reply(call, &m.base, err)) < 0)
            return rc;
    }
    return server_call_check(sc, RESULT(IMAGE_DIGEST), err);
}

static int pull_image(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__PullImageRequest *r = REQUEST(PullImageRequest, request);
    Davit__Control__V1__PullImageResponse m = DAVIT__CONTROL__V1__PULL_IMAGE_RESPONSE__INIT;
    Davit__Link__V1__ImagePullCall ask = DAVIT__LINK__V1__IMAGE_PULL_CALL__INIT;
    Davit__Link__V1__CallOpen open = OPEN(image_pull, IMAGE_PULL);
    struct registry_login login;
    struct server_call sc = {0};
    int rc = need_name("image", r->image, err);
    if (rc < 0)
        return rc;
    ask.image = r->image;
    if (registries_auth_for(ctx, r->image, &login) == 0)
        ask.registry_auth = &login.auth;
    rc = server_call_open(ctx, r->server, &open, &sc, err);
    if (rc == 0)
        rc = pass_progress(call, &sc, err);
    if (rc == 0) {
        m.digest = sc.end->image_digest;
        rc = reply(call, &m.base, err);
    }
    server_call_release(&sc);
    return rc;
}

static int check_image(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__CheckImageRequest *r = REQUEST(CheckImageRequest, request);
    Davit__Control__V1__CheckImageResponse m = DAVIT__CONTROL__V1__CHECK_IMAGE_RESPONSE__INIT;
    Davit__Link__V1__ImageCheckCall ask = DAVIT__LINK__V1__IMAGE_CHECK_CALL__INIT;
    Davit__Link__V1__CallOpen open = OPEN(image_check, IMAGE_CHECK);
    struct registry_login login;
    struct server_call sc = {0};
    int rc = need_name("image", r->image, err);
    if (rc < 0)
        return rc;
    ask.image = r->image;
    if (registries_auth_for(ctx, r->image, &login) == 0)
        ask.registry_auth = &login.auth;
    rc = server_call(ctx, r->server, &open, RESULT(IMAGE_CHECK), CHECK_TIME, &sc, err);
    if (rc == 0) {
        m.check = sc.end->image_check;
        rc = reply(call, &m.base, err);
    }
    server_call_release(&sc);
    return rc;
}

static int remove_image(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__RemoveImageRequest *r = REQUEST(RemoveImageRequest, request);
    Davit__Control__V1__RemoveImageResponse m = DAVIT__CONTROL__V1__REMOVE_IMAGE_RESPONSE__INIT;
    Davit__Link__V1__ImageRemoveCall ask = DAVIT__LINK__V1__IMAGE_REMOVE_CALL__INIT;
    Davit__Link__V1__CallOpen open = OPEN(image_remove, IMAGE_REMOVE);
    struct server_call sc = {0};
    int rc = need_name("image", r->image, err);
    if (rc < 0)
        return rc;
    ask.image = r->image;
    rc = server_call(ctx, r->server, &open, RESULT(OUTCOME), REMOVE_TIME, &sc, err);
    if (rc == 0) {
        m.outcome = sc.end->outcome;
        rc = reply(call, &m.base, err);
    }
    server_call_release(&sc);
    return rc;
}

/* --- Cleaning up -------------------------------------------------------------------------------------------------------------------- */

/* Waits: what is known of the server that is named so; *ret_server is borrowed from the registry. */
static int ask_for(struct control *c, const char *server, bool volumes, char ret_id[37], Davit__Link__V1__PrunePlanCall **ret, struct err *err)
{
    struct server *s = NULL;
    int rc = servers_find(c, text(server), &s, err);
    if (rc < 0)
        return rc;
    (void)str_copy(ret_id, 37, str_from(s->id));
    return cleaning_ask(c, ret_id, volumes, ret, err);
}

/* A copy: the name is added to it. */
static int keep_plan(struct control *c, const struct server_call *sc, bool volumes, Davit__Common__V1__PrunePlan **ret, struct err *err)
{
    ProtobufCMessage *copy = NULL;
    if (rpc_copy(&sc->end->prune_plan->base, &copy) != 0)
        return err_set(err, ERR_EXHAUSTED, "the plan is too large");
    *ret = (Davit__Common__V1__PrunePlan *)copy;
    return (*ret)->complete && (*ret)->n_items ? plans_keep(c->plans, sc->server->id, volumes, *ret, err) : 0;
}

static int plan_prune(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__PlanPruneRequest *r = REQUEST(PlanPruneRequest, request);
    Davit__Control__V1__PlanPruneResponse m = DAVIT__CONTROL__V1__PLAN_PRUNE_RESPONSE__INIT;
    Davit__Link__V1__CallOpen open = DAVIT__LINK__V1__CALL_OPEN__INIT;
    struct server_call sc = {0};
    char id[37];
    int rc = ask_for(ctx, r->server, r->volumes, id, &open.prune_plan, err);
    if (rc < 0)
        return rc;
    open.body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_PRUNE_PLAN;
    rc = server_call(ctx, id, &open, RESULT(PRUNE_PLAN), LIST_TIME, &sc, err);
    if (rc == 0)
        rc = keep_plan(ctx, &sc, r->volumes, &m.plan, err);
    if (rc == 0) {
        m.server_name = lend(sc.server->name);
        rc = reply(call, &m.base, err);
    }
    server_call_release(&sc);
    (void)rpc_message_free(m.plan);
    (void)rpc_message_free(open.prune_plan);
    return rc;
}

static int apply_prune(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__ApplyPruneRequest *r = REQUEST(ApplyPruneRequest, request);
    Davit__Control__V1__ApplyPruneResponse m = DAVIT__CONTROL__V1__APPLY_PRUNE_RESPONSE__INIT;
    Davit__Link__V1__PruneApplyCall ask = DAVIT__LINK__V1__PRUNE_APPLY_CALL__INIT;
    Davit__Link__V1__CallOpen open = OPEN(prune_apply, PRUNE_APPLY);
    struct control *c = ctx;
    struct server_call sc = {0};
    struct server *s = NULL;
    bool volumes = false;
    char id[37];
    int rc = servers_find(c, text(r->server), &s, err);
    if (rc == 0)
        rc = plans_take(c->plans, s->id, text(r->plan_id), &volumes, &ask.plan, err);
    if (rc == 0) {
        (void)str_copy(id, sizeof(id), str_from(s->id));
        rc = cleaning_ask(c, id, volumes, &ask.now, err); /* a service may have come since */
    }
    if (rc == 0)
        rc = server_call(c, id, &open, RESULT(PRUNE_RESULT), PRUNE_TIME, &sc, err);
    if (rc == 0) {
        m.result = sc.end->prune_result;
        rc = reply(call, &m.base, err);
    }
    server_call_release(&sc);
    (void)rpc_message_free(ask.plan);
    (void)rpc_message_free(ask.now);
    return rc;
}

/* --- Volumes ------------------------------------------------------------------------------------------------------------------------ */

static int list_volumes(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__ListVolumesResponse m = DAVIT__CONTROL__V1__LIST_VOLUMES_RESPONSE__INIT;
    Davit__Link__V1__VolumeListCall ask = DAVIT__LINK__V1__VOLUME_LIST_CALL__INIT;
    Davit__Link__V1__CallOpen open = OPEN(volume_list, VOLUME_LIST);
    struct server_call sc;
    int rc = server_call(ctx, REQUEST(ListVolumesRequest, request)->server, &open, RESULT(VOLUME_LIST), LIST_TIME, &sc, err);
    if (rc == 0) {
        m.volumes = sc.end->volume_list->volumes;
        m.n_volumes = sc.end->volume_list->n_volumes;
        m.truncated = sc.end->volume_list->truncated;
        rc = reply(call, &m.base, err);
    }
    server_call_release(&sc);
    return rc;
}

static int remove_volume(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__RemoveVolumeRequest *r = REQUEST(RemoveVolumeRequest, request);
    Davit__Control__V1__RemoveVolumeResponse m = DAVIT__CONTROL__V1__REMOVE_VOLUME_RESPONSE__INIT;
    Davit__Link__V1__VolumeRemoveCall ask = DAVIT__LINK__V1__VOLUME_REMOVE_CALL__INIT;
    Davit__Link__V1__CallOpen open = OPEN(volume_remove, VOLUME_REMOVE);
    struct server_call sc = {0};
    int rc = need_name("name", r->name, err);
    if (rc < 0)
        return rc;
    ask.name = r->name;
    ask.force = r->force;
    rc = server_call(ctx, r->server, &open, RESULT(OUTCOME), REMOVE_TIME, &sc, err);
    if (rc == 0) {
        m.outcome = sc.end->outcome;
        rc = reply(call, &m.base, err);
    }
    server_call_release(&sc);
    return rc;
}

CONTROL_HANDLER(list_images)
CONTROL_HANDLER(pull_image)
CONTROL_HANDLER(check_image)
CONTROL_HANDLER(remove_image)
CONTROL_HANDLER(plan_prune)
CONTROL_HANDLER(apply_prune)
CONTROL_HANDLER(list_volumes)
CONTROL_HANDLER(remove_volume)

const struct rpc_handler images_handlers[] = {
    {.run = list_images_tracked}, {.run = pull_image_tracked},  {.run = check_image_tracked},  {.run = remove_image_tracked},
    {.run = plan_prune_tracked},  {.run = apply_prune_tracked}, {.run = list_volumes_tracked}, {.run = remove_volume_tracked},
};
