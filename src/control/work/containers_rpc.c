/* SPDX-License-Identifier: Apache-2.0 */
/* containers_rpc — ContainerService: containers of servers as they are, those of services and others; one of them is changed only by its name. */
#include "base/mem.h"
#include "control/lists.h"
#include "control/link/server_call.h"
#include "davit/control/v1/containers.pb-c.h"

#define ACTION_TIME (10 * USEC_MINUTE)

enum { STOP_TIMEOUT_MAX_S = 300, CONTAINER_NAME_MAX = 512 };

static void add(Davit__Control__V1__ListContainersResponse *m, const struct server *s, const struct hmap *containers)
{
    for (struct hmap_entry *e = hmap_first(containers); e && m->n_containers < LISTS_ROWS_MAX; e = hmap_next(e)) {
        const Davit__Common__V1__Container *k = hmap_value(e);
        ProtobufCMessage *copy = NULL;
        if (rpc_copy(&k->base, &copy) != 0)
            continue;
        Davit__Common__V1__Container *mine = (Davit__Common__V1__Container *)copy;
        if (mine->server_id && *mine->server_id)
            free(mine->server_id);
        mine->server_id = str_dup(str_from(s->id));
        m->containers[m->n_containers++] = mine;
    }
}

static int list_containers(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__ListContainersRequest *r = (const Davit__Control__V1__ListContainersRequest *)request;
    struct control *c = ctx;
    struct server *only = NULL, *s;
    int rc = *text(r->server) ? servers_find(c, r->server, &only, err) : 0;
    if (rc < 0)
        return rc;
    Davit__Control__V1__ListContainersResponse *m = NEW(Davit__Control__V1__ListContainersResponse);
    davit__control__v1__list_containers_response__init(m);
    m->containers = mem_zalloc(LISTS_ROWS_MAX, sizeof(*m->containers));
    list_each(s, &c->servers, struct server, node) {
        if (only && only != s)
            continue;
        add(m, s, s->inventory.containers);
        if (r->all)
            add(m, s, s->inventory.foreign);
    }
    rc = rpc_send(call, &m->base);
    (void)rpc_message_free(m);
    return rc == 0 ? 0 : err_set(err, ERR_CANCELLED, "the answer could not be sent");
}

static int parse_action(const char *action, Davit__Link__V1__ContainerCall__Action *ret, struct err *err)
{
    static const char *const words[] = {"", "start", "stop", "restart", "remove"}; /* the numbers of the link */
    for (size_t i = 1; i < ARRAY_LEN(words); i++)
        if (str_eq(str_from(action), str_from(words[i]))) {
            *ret = (Davit__Link__V1__ContainerCall__Action)i;
            return 0;
        }
    return err_set(err, ERR_INVALID, "action: \"%.32s\" is unknown; start, stop, restart or remove", text(action));
}

static int control_container(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__ControlContainerRequest *r = (const Davit__Control__V1__ControlContainerRequest *)request;
    Davit__Control__V1__ControlContainerResponse m = DAVIT__CONTROL__V1__CONTROL_CONTAINER_RESPONSE__INIT;
    Davit__Link__V1__ContainerCall ask = DAVIT__LINK__V1__CONTAINER_CALL__INIT;
    Davit__Link__V1__CallOpen open = DAVIT__LINK__V1__CALL_OPEN__INIT;
    struct server_call sc = {0};
    size_t n = str_from(text(r->container)).n;
    int rc = parse_action(r->action, &ask.action, err);
    if (rc == 0 && (n == 0 || n > CONTAINER_NAME_MAX))
        rc = err_set(err, ERR_INVALID, "container: its name or its id");
    if (rc == 0 && r->stop_timeout_s > STOP_TIMEOUT_MAX_S)
        rc = err_set(err, ERR_INVALID, "stop_timeout: %u s are not allowed; at most %d", r->stop_timeout_s, STOP_TIMEOUT_MAX_S);
    if (rc < 0)
        return rc;
    ask.container = r->container;
    ask.stop_timeout_s = r->stop_timeout_s;
    ask.force = r->force;
    open.body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_CONTAINER;
    open.container = &ask;
    rc = server_call(ctx, r->server, &open, DAVIT__LINK__V1__CALL_END__RESULT_OUTCOME, ACTION_TIME, &sc, err);
    if (rc == 0) {
        m.outcome = sc.end->outcome;
        rc = rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
    }
    server_call_release(&sc);
    return rc;
}

CONTROL_HANDLER(list_containers)
CONTROL_HANDLER(control_container)

const struct rpc_handler containers_handlers[] = {{.run = list_containers_tracked}, {.run = control_container_tracked}};
