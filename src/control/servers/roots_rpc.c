/* SPDX-License-Identifier: Apache-2.0 */
/* roots_rpc — RootService: the user's side of a change of the root asks and hands over, see roots.h. */
#include <stdlib.h>

#include "base/mem.h"
#include "control/servers/roots.h"
#include "control/sandboxes/sandboxes.h"
#include "davit/control/v1/roots.pb-c.h"

static int gone_away(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "the caller went away");
}

/* --- GetRoots --- */

struct view {
    Davit__Control__V1__Root roots[CERT_ROOTS_MAX], *root_ptrs[CERT_ROOTS_MAX];
    char pins[CERT_ROOTS_MAX][2 * SPKI_HASH_SIZE + 1];
    Davit__Control__V1__RootServer *servers, **server_ptrs;
    Davit__Control__V1__RootSandbox *boxes, **box_ptrs;
};

static void view_release(struct view *v)
{
    free(v->servers);
    free(v->server_ptrs);
    free(v->boxes);
    free(v->box_ptrs);
}

static void show_roots(const struct cert_roots *roots, struct view *v)
{
    for (size_t i = 0; i < roots->n; i++) {
        Davit__Control__V1__Root *m = v->root_ptrs[i] = &v->roots[i];
        davit__control__v1__root__init(m);
        str_hex(roots->v[i].pin, SPKI_HASH_SIZE, v->pins[i]);
        m->pin = v->pins[i];
        m->not_before_us = roots->v[i].not_before;
        m->not_after_us = roots->v[i].not_after;
    }
}

static size_t show_servers(const struct control *c, struct view *v)
{
    struct server *s;
    size_t n = 0;
    v->servers = mem_zalloc(c->n_servers + 1, sizeof(*v->servers));
    v->server_ptrs = mem_zalloc(c->n_servers + 1, sizeof(Davit__Control__V1__RootServer *));
    list_each(s, &c->servers, struct server, node) {
        bool old = c->roots.n == 1 && roots_has_old(s);
        if (s->local || !s->enrolled || (!roots_left_out(s) && !old))
            continue;
        Davit__Control__V1__RootServer *m = v->server_ptrs[n] = &v->servers[n];
        davit__control__v1__root_server__init(m);
        m->server = s->name;
        m->state = lend(server_state_name(s->state));
        m->known = roots_known(s);
        m->has_new = roots_has_new(s);
        m->has_old = roots_has_old(s);
        n++;
    }
    return n;
}

static size_t show_sandboxes(const struct control *c, struct view *v)
{
    const struct sandbox *sb;
    size_t n = 0;
    v->boxes = mem_zalloc(c->sandboxes->n + 1, sizeof(*v->boxes));
    v->box_ptrs = mem_zalloc(c->sandboxes->n + 1, sizeof(Davit__Control__V1__RootSandbox *));
    list_each(sb, &c->sandboxes->all, struct sandbox, node) {
        const struct server *s = servers_by_id(c, sb->server_id);
        if (!*sb->thumbprint || roots_sandbox_current(sb))
            continue;
        Davit__Control__V1__RootSandbox *m = v->box_ptrs[n] = &v->boxes[n];
        davit__control__v1__root_sandbox__init(m);
        m->project = lend(sb->project);
        m->name = lend(sb->name);
        m->server = lend(s ? s->name : "");
        m->running = sb->state->state == DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING;
        m->has_new = roots_sandbox_has_new(sb);
        n++;
    }
    return n;
}

static int get_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__GetRootsResponse m = DAVIT__CONTROL__V1__GET_ROOTS_RESPONSE__INIT;
    CLEANUP(view_release) struct view v = {0};
    (void)request;
    show_roots(&c->roots, &v);
    m.n_roots = c->roots.n;
    m.roots = v.root_ptrs;
    m.n_servers = show_servers(c, &v);
    m.servers = v.server_ptrs;
    m.n_sandboxes = show_sandboxes(c, &v);
    m.sandboxes = v.box_ptrs;
    m.ends_at_us = c->roots_end;
    return rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
}

/* --- Steps --- */

static void requests_release(struct buf (*requests)[PKI_AUTHORITIES])
{
    for (size_t i = 0; i < PKI_AUTHORITIES; i++)
        buf_release(&(*requests)[i]);
}

static int prepare_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__PrepareRootResponse m = DAVIT__CONTROL__V1__PREPARE_ROOT_RESPONSE__INIT;
    Davit__Control__V1__PrepareRootResponse__Request requests[PKI_AUTHORITIES], *ptrs[PKI_AUTHORITIES];
    CLEANUP(requests_release) struct buf ders[PKI_AUTHORITIES];
    (void)request;
    for (size_t i = 0; i < PKI_AUTHORITIES; i++)
        buf_init(&ders[i], CSR_MAX);
    int rc = roots_prepare(ctx, ders, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < PKI_AUTHORITIES; i++) {
        davit__control__v1__prepare_root_response__request__init(&requests[i]);
        requests[i].name = lend(pki_authority_name(i));
        requests[i].csr_der = (ProtobufCBinaryData){ders[i].len, (uint8_t *)ders[i].data};
        ptrs[i] = &requests[i];
    }
    m.n_requests = PKI_AUTHORITIES;
    m.requests = ptrs;
    return rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
}

static int begin_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__BeginRootResponse m = DAVIT__CONTROL__V1__BEGIN_ROOT_RESPONSE__INIT;
    const Davit__Control__V1__BeginRootRequest *r = (const Davit__Control__V1__BeginRootRequest *)request;
    struct pki_begin b = {.root = str_from(text(r->root_pem)),
                          .cross = str_from(text(r->cross_pem)),
                          .assertion = str_from(text(r->assertion_jwk)),
                          .end = r->overlap_us ? clock_add(clock_real(), r->overlap_us) : 0};
    if (r->overlap_us > ROOTS_OVERLAP_MAX)
        return err_set(err, ERR_INVALID, "overlap_us: at most 90 days");
    if (r->n_authorities_pem != PKI_AUTHORITIES)
        return err_set(err, ERR_INVALID, "authorities_pem: %zu certificates, there are %d intermediates", r->n_authorities_pem, PKI_AUTHORITIES);
    for (size_t i = 0; i < PKI_AUTHORITIES; i++)
        b.authorities[i] = str_from(text(r->authorities_pem[i]));
    int rc = roots_begin(ctx, &b, err);
    if (rc < 0)
        return rc;
    return rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
}

static int finish_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__FinishRootResponse m = DAVIT__CONTROL__V1__FINISH_ROOT_RESPONSE__INIT;
    const Davit__Control__V1__FinishRootRequest *r = (const Davit__Control__V1__FinishRootRequest *)request;
    struct server *s;
    int rc = roots_finish(c, str_from(text(r->pin)), r->force, err);
    if (rc < 0)
        return rc;
    AUTO_FREE char **left = mem_zalloc(c->n_servers + 1, sizeof(char *));
    list_each(s, &c->servers, struct server, node)
        if (roots_left_out(s))
            left[m.n_left++] = s->name;
    m.left = left;
    return rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
}

CONTROL_HANDLER(get_run)
CONTROL_HANDLER(prepare_run)
CONTROL_HANDLER(begin_run)
CONTROL_HANDLER(finish_run)

const struct rpc_handler roots_handlers[] = {
    {.run = get_run_tracked},
    {.run = prepare_run_tracked},
    {.run = begin_run_tracked},
    {.run = finish_run_tracked},
};
