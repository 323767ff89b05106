/* SPDX-License-Identifier: Apache-2.0 */
/* api_tokens_rpc — ApiTokenService: tokens for programs. Who has one can make no other, so that none outlives or exceeds its maker. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/people/people.h"
#include "davit/control/v1/people.pb-c.h"

#define REQUEST(type, m) ((const Davit__Control__V1__##type *)(m))

static int answer(struct rpc_call *call, const ProtobufCMessage *m, struct err *err)
{
    return rpc_send(call, m) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

/* A person with a session, or the CLI. @maker: as the audit log names it. */
static int need_person(const struct rpc_call *call, enum pass_scope scope, struct audit_record *maker, struct err *err)
{
    const struct caller *k = caller_of(call);
    audit_who_call(maker, call);
    if (k && !k->pass)
        return err_set(err, ERR_UNAUTHENTICATED, "you are not logged in any more");
    if (k && (k->pass->kind != PASS_SESSION || k->exchanged))
        return err_set(err, ERR_DENIED, "an API token makes no other: log in, or use davit token add");
    if (k && k->scope < scope)
        return err_set(err, ERR_DENIED, "a token may not do more than who makes it");
    return 0;
}

static void fill(Davit__Control__V1__ApiToken *m, const struct pass *t)
{
    davit__control__v1__api_token__init(m);
    m->id = lend(t->id);
    m->name = lend(t->name);
    m->scope = lend(scope_name(t->scope));
    m->created_us = t->created;
    m->expires_us = t->expires;
    m->used_us = t->used;
    m->used_from = lend(t->from);
    m->created_by = lend(t->maker);
}

static int create_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__CreateApiTokenRequest *r = REQUEST(CreateApiTokenRequest, request);
    Davit__Control__V1__CreateApiTokenResponse m = DAVIT__CONTROL__V1__CREATE_API_TOKEN_RESPONSE__INIT;
    Davit__Control__V1__ApiToken token;
    struct audit_record maker = {.count = 1};
    char secret[API_TOKEN_TEXT_SIZE] = "";
    struct pass *t = NULL;
    enum pass_scope scope = scope_of(text(r->scope));
    if (scope == SCOPE_NONE)
        return err_set(err, ERR_INVALID, "scope: read, write or admin");
    if (r->ttl_s > API_TOKEN_LIFE_MAX / USEC_SEC)
        return err_set(err, ERR_INVALID, "ttl_s: at most %llu, a year", (unsigned long long)(API_TOKEN_LIFE_MAX / USEC_SEC));
    int rc = need_person(call, scope, &maker, err);
    usec_t expires = clock_real() + (r->ttl_s ? r->ttl_s * USEC_SEC : API_TOKEN_LIFE);
    if (rc == 0)
        rc = people_add_token(c->people, text(r->name), scope, expires, maker.actor, secret, &t, err);
    if (rc == 0) {
        fill(&token, t);
        m.token = &token;
        m.secret = secret;
        rc = answer(call, &m.base, err);
    }
    explicit_bzero(secret, sizeof(secret));
    return rc;
}

/* --- Listing: of those that open nothing any more, too --- */

struct listing {
    Davit__Control__V1__ApiToken **v;
    size_t n;
};

enum { LIST_MAX = 1000 };

static void listing_release(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        davit__control__v1__api_token__free_unpacked(l->v[i], NULL);
    free(l->v);
}

static char *own(const struct rows *rows, int column)
{
    return str_dup(row_text(rows, column));
}

static int read_tokens(struct db *db, void *arg, struct err *err)
{
    struct listing *l = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT id, name, scope, created_by, used_from, created_us, expires_us, used_us, revoked_us FROM api_tokens"
                      " ORDER BY revoked_us, created_us DESC, id LIMIT 1000",
                      "");
    listing_release(l);
    *l = (struct listing){.v = mem_zalloc(LIST_MAX, sizeof(struct listing *))};
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        Davit__Control__V1__ApiToken *t = l->v[l->n++] = NEW(Davit__Control__V1__ApiToken);
        davit__control__v1__api_token__init(t);
        t->id = own(rows, 0);
        t->name = own(rows, 1);
        t->scope = own(rows, 2);
        t->created_by = own(rows, 3);
        t->used_from = own(rows, 4);
        t->created_us = (uint64_t)row_i64(rows, 5);
        t->expires_us = (uint64_t)row_i64(rows, 6);
        t->used_us = (uint64_t)row_i64(rows, 7);
        t->revoked = row_i64(rows, 8) > 0;
        rc = 0;
    }
    return rc;
}

static int list_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__ListApiTokensResponse m = DAVIT__CONTROL__V1__LIST_API_TOKENS_RESPONSE__INIT;
    CLEANUP(listing_release) struct listing l = {0};
    (void)request;
    int rc = store_read(c->store, read_tokens, &l, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < l.n; i++) {
        /* Use is written late. */
        const struct pass *t = passes_find(c->passes, PASS_API_TOKEN, l.v[i]->id);
        if (!t)
            continue;
        l.v[i]->used_us = t->used;
        free(l.v[i]->used_from);
        l.v[i]->used_from = str_dup(str_from(t->from));
    }
    m.tokens = l.v;
    m.n_tokens = l.n;
    return answer(call, &m.base, err);
}

static int revoke_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__RevokeApiTokenResponse m = DAVIT__CONTROL__V1__REVOKE_API_TOKEN_RESPONSE__INIT;
    int rc = people_revoke_token(c->people, text(REQUEST(RevokeApiTokenRequest, request)->token), call, err);
    return rc < 0 ? rc : answer(call, &m.base, err);
}

CONTROL_HANDLER(create_run)
CONTROL_HANDLER(list_run)
CONTROL_HANDLER(revoke_run)

const struct rpc_handler api_tokens_handlers[] = {
    {.run = create_run_tracked},
    {.run = list_run_tracked},
    {.run = revoke_run_tracked},
};
