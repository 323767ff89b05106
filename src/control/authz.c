/* SPDX-License-Identifier: Apache-2.0 */
/* authz — who may call what. The listener decides which audience a caller belongs to, and audiences do not mix: the certificate of a server
 * opens nothing on the API, the CLI's nothing on the link. */
#include <string.h>
#include <unistd.h>

#include "control/control_internal.h"

static const char cli_uri[] = "davit://cli";

static bool scope_is(const struct rpc_method *m, const char *scope)
{
    return str_eq(str_from(m->scope), str_from(scope));
}

const char *authz_server_id(const char *uri)
{
    static const struct str prefix = {"davit://server/", 15};
    struct str s = str_from(uri);
    if (!str_starts(s, prefix) || s.n != prefix.n + 36)
        return NULL;
    for (size_t i = prefix.n; i < s.n; i++)
        if (!strchr("0123456789abcdef-", s.p[i]))
            return NULL;
    return uri + prefix.n;
}

static int no_certificate(struct err *err)
{
    (void)err_set(err, ERR_UNAUTHENTICATED, "a client certificate is needed");
    err_hint(err, "davit up makes the one of this user");
    return -(int)ERR_UNAUTHENTICATED;
}

int authz_api(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
              struct err *err)
{
    const struct tls_peer *peer = conn_peer(rpc_call_conn(call));
    (void)ctx;
    if (scope_is(method, "public"))
        return 0;
    if (!scope_is(method, "read") && !scope_is(method, "write") && !scope_is(method, "admin"))
        return err_set(err, ERR_DENIED, "%s/%s is not served here", service->name, method->name);
    if (!peer || !peer->present)
        return no_certificate(err);
    if (!str_eq(str_from(peer->uri), STR("davit://cli")))
        return err_set(err, ERR_DENIED, "this certificate (%.100s) may not use the API, only %s may", peer->uri, cli_uri);
    return 0;
}

/* Root, our own user, and the one that the options name. */
static int authz_uid(const struct control *c, uid_t uid, struct err *err)
{
    if (uid == 0 || uid == geteuid() || (c->opt.agent_uid >= 0 && uid == (uid_t)c->opt.agent_uid))
        return 0;
    (void)err_set(err, ERR_DENIED, "uid %u may not act as the agent of this machine", (unsigned)uid);
    err_hint(err, "start davitd with --agent-uid %u, or run the agent as root", (unsigned)uid);
    return -(int)ERR_DENIED;
}

int authz_link(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
               struct err *err)
{
    const struct control *c = ctx;
    struct conn *conn = rpc_call_conn(call);
    struct stream_cred cred;
    if (scope_is(method, "enroll"))
        return 0;
    if (!scope_is(method, "link"))
        return err_set(err, ERR_DENIED, "%s/%s is not served here", service->name, method->name);
    if (conn_peer_cred(conn, &cred) == 0)
        return authz_uid(c, cred.uid, err);
    if (!conn_peer(conn) || !conn_peer(conn)->present) {
        (void)err_set(err, ERR_UNAUTHENTICATED, "the certificate of an enrolled server is needed");
        err_hint(err, "enroll this server first: davit-agent enroll");
        return -(int)ERR_UNAUTHENTICATED;
    }
    if (!authz_server_id(conn_peer(conn)->uri))
        return err_set(err, ERR_DENIED, "this certificate (%.100s) is not one of a server", conn_peer(conn)->uri);
    return 0;
}
