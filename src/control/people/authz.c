/* SPDX-License-Identifier: Apache-2.0 */
/* authz — who may call what. The listener decides which audience a caller belongs to, and audiences do not mix: the certificate of a server
 * opens nothing on the API, the CLI's nothing on the link. */
#include <string.h>
#include <unistd.h>

#include "control/servers/access.h"
#include "control/people/audit.h"
#include "control/people/doors.h"
#include "control/people/oauth.h"
#include "davit/admin/v1/admin.davit.h"

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

/* Who was not let in goes into the audit log. */
static int tell(struct control *c, struct rpc_call *call, const struct rpc_service *service, const struct rpc_method *method, int rc,
                const struct err *err)
{
    struct audit_record who = {.count = 1};
    char action[96];
    if (rc == 0)
        return 0;
    audit_action(service, method, action, sizeof(action));
    audit_who_call(&who, call);
    audit_refused(c, &who, action, "-", err);
    return rc;
}

/* Who has no token yet looks at our clock first. */
static bool wants_no_token(const struct rpc_service *service, const struct rpc_method *method)
{
    return service == &davit_admin_v1_admin_service && scope_is(method, "public");
}

static int judge_api(const struct control *c, struct rpc_call *call, const struct rpc_service *service, const struct rpc_method *method,
                     struct err *err)
{
    const struct tls_peer *peer = conn_peer(rpc_call_conn(call));
    /* Public is what anybody may call on 7440 and 7441, where strangers come; here it is for nobody else either. */
    if (!scope_is(method, "read") && !scope_is(method, "write") && !scope_is(method, "admin") && !scope_is(method, "public"))
        return err_set(err, ERR_DENIED, "%s/%s is not served here", service->name, method->name);
    if (!peer || !peer->present)
        return no_certificate(err);
    if (!str_eq(str_from(peer->uri), STR("davit://cli")))
        return err_set(err, ERR_DENIED, "this certificate (%.100s) may not use the API, only %s may", peer->uri, cli_uri);
    return wants_no_token(service, method) ? 0 : oauth_judge(c->oauth, call, method, err);
}

int authz_api(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
              struct err *err)
{
    int rc = tell(ctx, call, service, method, judge_api(ctx, call, service, method, err), err);
    if (rc == 0)
        audit_login(ctx, rpc_call_conn(call));
    return rc;
}

int authz_none(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method, struct err *err)
{
    (void)call;
    (void)ctx;
    return err_set(err, ERR_DENIED, "%s/%s is not served here", service->name, method->name);
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

static int judge_link(const struct control *c, struct rpc_call *call, const struct rpc_service *service, const struct rpc_method *method,
                      struct err *err)
{
    struct conn *conn = rpc_call_conn(call);
    struct stream_cred cred;
    if (scope_is(method, "enroll") || scope_is(method, "public"))
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

int authz_link(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
               struct err *err)
{
    return tell(ctx, call, service, method, judge_link(ctx, call, service, method, err), err);
}

const char *authz_bearer(const struct rpc_call *call)
{
    static const struct str scheme = {"bearer ", 7};
    const char *value = rpc_call_metadata(call, "authorization");
    if (!value || rpc_call_metadata_at(call, "authorization", 1) || strlen(value) <= scheme.n)
        return NULL;
    return str_eq_ci((struct str){value, scheme.n}, scheme) ? value + scheme.n : NULL;
}

/* Sessions and API tokens open what people have; 7440 has the services of agents in tunnel mode, too. */
static bool is_for_people(const struct rpc_service *service)
{
    for (size_t i = 0; i < control_n_services; i++)
        if (control_services[i].service == service)
            return !control_services[i].link;
    return false;
}

static int judge_tunnel(const struct control *c, struct rpc_call *call, const struct rpc_service *service, const struct rpc_method *method,
                        struct err *err)
{
    struct jwt_claims claims;
    if (scope_is(method, "enroll") || scope_is(method, "public"))
        return 0;
    if (!scope_is(method, "link"))
        return err_set(err, ERR_DENIED, "%s/%s is not served here", service->name, method->name);
    const char *token = authz_bearer(call);
    if (token)
        return access_judge(c, str_from(token), &claims, err);
    (void)err_set(err, ERR_UNAUTHENTICATED, "the access token of a server in tunnel mode is needed");
    err_hint(err, "enroll this server first: davit-agent enroll --mode tunnel");
    return -(int)ERR_UNAUTHENTICATED;
}

int authz_web(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method, struct err *err)
{
    struct control *c = ctx;
    int rc = is_for_people(service) ? doors_judge(c, call, false, method, err) : judge_tunnel(c, call, service, method, err);
    return tell(c, call, service, method, rc, err);
}

int authz_local(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method, struct err *err)
{
    return tell(ctx, call, service, method, doors_judge(ctx, call, true, method, err), err);
}
