/* SPDX-License-Identifier: Apache-2.0 */
/* admin_rpc — AdminService, on 7443 only: the clock, who is registered, and the filter of what sandboxes send, which is not set up. */
#include "base/mem.h"
#include "control/idle.h"
#include "control/sandboxes/sandboxes.h"
#include "davit/admin/v1/admin.davit.h"

static int gone_away(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "the caller went away");
}

static int get_system_time(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Admin__V1__GetSystemTimeResponse m = DAVIT__ADMIN__V1__GET_SYSTEM_TIME_RESPONSE__INIT;
    (void)request;
    /* Who asks is about to start a sandbox. */
    idle_touch(ctx);
    m.unix_nanos = (int64_t)clock_real() * 1000;
    return rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
}

static int list_agents(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Admin__V1__ListAgentsResponse m = DAVIT__ADMIN__V1__LIST_AGENTS_RESPONSE__INIT;
    Davit__Admin__V1__Agent *rows = mem_zalloc(c->sandboxes->n + 1, sizeof(*rows)), **ptrs = mem_zalloc(c->sandboxes->n + 1, sizeof(*ptrs));
    const struct sandbox *sb;
    (void)request;
    list_each(sb, &c->sandboxes->all, struct sandbox, node) {
        Davit__Admin__V1__Agent *a = &rows[m.n_agents];
        if (!*sb->thumbprint)
            continue;
        davit__admin__v1__agent__init(a);
        a->agent_name = lend(sb->name);
        a->project = lend(sb->project);
        a->container_id = lend(sb->container);
        a->cert_thumbprint = lend(sb->thumbprint);
        a->registered_at_unix = (int64_t)(sb->registered / USEC_SEC);
        a->last_seen_unix = (int64_t)(sandbox_seen(sb) / USEC_SEC);
        ptrs[m.n_agents++] = a;
    }
    m.agents = ptrs;
    int rc = rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
    free(rows);
    free(ptrs);
    return rc;
}

/* Sandboxes are on an internal network: there is nothing to filter yet, and nothing passes. */
static int firewall(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)call;
    (void)ctx;
    (void)request;
    (void)err_set(err, ERR_PRECONDITION, "the firewall is not set up: sandboxes have no way out");
    err_hint(err, "a sandbox that shall reach the world: davit run --network open");
    if (err)
        err->reason = "FIREWALL_NOT_INITIALIZED";
    return -(int)ERR_PRECONDITION;
}

CONTROL_HANDLER(get_system_time)
CONTROL_HANDLER(list_agents)
CONTROL_HANDLER(firewall)

const struct rpc_handler admin_handlers[] = {
    {.run = get_system_time_tracked},
    {.run = list_agents_tracked},
    /* FirewallInit .. FirewallResolveHostname */
    {.run = firewall_tracked}, {.run = firewall_tracked}, {.run = firewall_tracked}, {.run = firewall_tracked}, {.run = firewall_tracked},
    {.run = firewall_tracked}, {.run = firewall_tracked}, {.run = firewall_tracked}, {.run = firewall_tracked}, {.run = firewall_tracked},
    {.run = firewall_tracked}, {.run = firewall_tracked}, {.run = firewall_tracked},
};
