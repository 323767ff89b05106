/* SPDX-License-Identifier: Apache-2.0 */
/* gate — see gate.h. */
#include "control/people/gate.h"

#include "base/mem.h"
#include "control/people/audit.h"
#include "control/people/doors.h"

static void answer(struct rpc_page *p, int status, const char *user, const char *scope)
{
    const struct http_field fields[] = {{"cache-control", "no-store"}, {"x-content-type-options", "nosniff"},
                                        {status == 200 ? "x-davit-user" : "www-authenticate", status == 200 ? user : "Bearer"},
                                        {"x-davit-scope", scope}};
    (void)rpc_page_begin(p, status, fields, ARRAY_LEN(fields) - (status == 200 ? 0 : 1), 0);
}

/* By whichever of the two doors they came in; that of 7440 first, whose cookie no other host or plain page can plant. */
static struct pass *known(struct control *c, struct rpc_call *call, enum pass_scope *ret_scope, struct err *err)
{
    for (int local = 0; local <= 1; local++) {
        struct pass *pass = NULL;
        enum pass_scope limit = SCOPE_NONE;
        *err = ERR_INIT;
        if (doors_find_pass(c, call, local == 1, &pass, &limit, err) < 0 || !pass)
            continue;
        *ret_scope = limit != SCOPE_NONE && limit < pass->scope ? limit : pass->scope;
        return pass;
    }
    return NULL;
}

static void judge(struct control *c, struct rpc_page *p)
{
    struct rpc_call *call = rpc_page_call(p);
    struct err err = ERR_INIT;
    enum pass_scope scope = SCOPE_NONE;
    const struct pass *pass = c->stopping ? NULL : known(c, call, &scope, &err);
    if (pass) {
        AUTO_FREE char *user = str_printf("%s:%s", pass->kind == PASS_SESSION ? "person" : "token", pass->name);
        answer(p, 200, user, scope_name(scope));
        return;
    }
    if (err.code != ERR_OK) { /* something was shown that does not hold */
        struct audit_record who = {.count = 1};
        audit_who_call(&who, call);
        audit_refused(c, &who, "gate", "-", &err);
    }
    answer(p, 401, "", "");
}

static void page(struct rpc_page *p, void *ctx)
{
    struct control *c = ctx;
    c->fibers++;
    judge(c, p);
    control_fiber_end(c);
}

int gate_open(struct control *c, struct err *err)
{
    const char *addr = text(c->opt.gate_listen);
    c->gate = rpc_server_new(c->loop, authz_none, c);
    rpc_server_set_pages(c->gate, page, c);
    if (!*addr || str_eq(str_from(addr), STR("none")))
        return 0;
    int rc = rpc_server_listen(c->gate, addr, 0, NULL, err);
    if (rc < 0)
        err_hint(err, "proxies ask there who is logged in: see --gate-listen");
    else
        log_event(LOG_NOTICE, "auth gate opened", "address", gate_addr(c), NULL);
    return rc;
}

const char *gate_addr(const struct control *c)
{
    const char *addr = c->gate ? rpc_server_addr(c->gate, 0) : NULL;
    return addr ? addr : "";
}
