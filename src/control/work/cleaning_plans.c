/* SPDX-License-Identifier: Apache-2.0 */
/* cleaning_plans — see cleaning.h: the plans that were shown. */
#include "control/work/cleaning.h"

#include <string.h>

#include "base/mem.h"
#include "ident/digest.h"

struct plan {
    struct list node;
    char server_id[37];
    char id[DIGEST_HEX_SIZE];
    bool volumes;
    usec_t made; /* monotonic */
    Davit__Common__V1__PrunePlan *m;
};

struct plans {
    struct list all; /* oldest first */
    unsigned n;
};

struct plans *plans_new(void)
{
    struct plans *p = NEW(struct plans);
    list_init(&p->all);
    return p;
}

static void drop(struct plans *p, struct plan *k)
{
    list_remove(&k->node);
    p->n--;
    (void)rpc_message_free(k->m);
    free(k);
}

struct plans *plans_free(struct plans *p)
{
    if (!p)
        return NULL;
    while (!list_empty(&p->all))
        drop(p, list_entry(p->all.next, struct plan, node));
    free(p);
    return NULL;
}

static int name_it(const char *server_id, const Davit__Common__V1__PrunePlan *plan, char ret[DIGEST_HEX_SIZE], struct err *err)
{
    AUTO_BUF wire = BUF_INIT(RPC_MESSAGE_MAX);
    AUTO_DIGEST d = digest_new();
    if (rpc_pack(&plan->base, &wire) < 0)
        return err_set(err, ERR_EXHAUSTED, "the plan is too large");
    digest_add(d, server_id, str_from(server_id).n + 1);
    digest_add(d, wire.data, wire.len);
    digest_hex(d, ret);
    return 0;
}

int plans_keep(struct plans *p, const char *server_id, bool volumes, Davit__Common__V1__PrunePlan *plan, struct err *err)
{
    struct plan *k = NEW(struct plan), *other;
    ProtobufCMessage *copy = NULL;
    int rc = name_it(server_id, plan, k->id, err);
    if (rc == 0 && rpc_copy(&plan->base, &copy) != 0)
        rc = err_set(err, ERR_EXHAUSTED, "the plan is too large");
    if (rc < 0) {
        free(k);
        return rc;
    }
    k->m = (Davit__Common__V1__PrunePlan *)copy;
    k->volumes = volumes;
    k->made = clock_mono();
    (void)str_copy(k->server_id, sizeof(k->server_id), str_from(server_id));
    list_each(other, &p->all, struct plan, node)
        if (str_eq(str_from(other->id), str_from(k->id))) {
            drop(p, other); /* the same once more: its time begins anew */
            break;
        }
    while (p->n >= PLANS_MAX)
        drop(p, list_entry(p->all.next, struct plan, node));
    list_push(&p->all, &k->node);
    p->n++;
    plan->plan_id = str_dup(str_from(k->id));
    return 0;
}

int plans_take(struct plans *p, const char *server_id, const char *plan_id, bool *ret_volumes, Davit__Common__V1__PrunePlan **ret, struct err *err)
{
    struct plan *k;
    list_each(k, &p->all, struct plan, node) {
        if (!str_eq(str_from(k->id), str_from(plan_id)) || !str_eq(str_from(k->server_id), str_from(server_id)) ||
            clock_mono() > clock_add(k->made, PLAN_TIME))
            continue;
        *ret = k->m;
        *ret_volumes = k->volumes;
        k->m = NULL;
        drop(p, k);
        return 0;
    }
    (void)err_set(err, ERR_NOT_FOUND, "there is no such plan for this server, or it is older than ten minutes");
    err_hint(err, "make a new one: davit prune");
    return -(int)ERR_NOT_FOUND;
}
