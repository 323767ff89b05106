/* SPDX-License-Identifier: Apache-2.0 */
/* exchange — see exchange.h. */
#include "control/people/exchange.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/people/audit.h"
#include "control/bucket.h"
#include "control/people/doors.h"
#include "control/people/oauth_internal.h"

static const char GRANT[] = "urn:ietf:params:oauth:grant-type:token-exchange";
static const char ACCESS[] = "urn:ietf:params:oauth:token-type:access_token", SESSION[] = "urn:davit:oauth:token-type:session";
static const char OF_SESSION[] = "session:", OF_API_TOKEN[] = "api-token:";

static const char *door_of(bool local)
{
    return local ? "davit://local-web" : "davit://web";
}

bool exchange_wanted(const struct rpc_page *page)
{
    struct str rest = str_from(rpc_page_target(page));
    return str_eq(str_cut(&rest, '?'), STR("/oauth2/token"));
}

/* --- What a token says --- */

static int make(const struct control *c, const struct pass *pass, bool local, enum pass_scope scope, usec_t *ret_life, struct buf *out,
                struct err *err)
{
    uint8_t id[(TOKEN_ID_SIZE - 1) / 2];
    struct oauth_claims k = {.issued = clock_real() / USEC_SEC * USEC_SEC};
    bool session = pass->kind == PASS_SESSION;
    usec_t end = passes_good_until(pass) / USEC_SEC * USEC_SEC;
    k.expires = k.issued + OAUTH_TOKEN_LIFE < end ? k.issued + OAUTH_TOKEN_LIFE : end;
    *ret_life = k.expires > k.issued ? k.expires - k.issued : 0;
    rng_bytes(id, sizeof(id));
    str_hex(id, sizeof(id), k.id);
    (void)str_copy(k.issuer, sizeof(k.issuer), str_from(door_of(local)));
    (void)str_copy(k.audience, sizeof(k.audience), str_from(door_of(local)));
    (void)str_copy(k.subject, sizeof(k.subject), str_from(session ? pass->person : pass->id));
    (void)snprintf(k.client, sizeof(k.client), "%s%s", session ? OF_SESSION : OF_API_TOKEN, pass->id);
    (void)str_copy(k.scope, sizeof(k.scope), str_from(scope_name(scope)));
    return access_make_unbound(c->access_key, &k, out, err);
}

static struct pass *by_id(const struct passes *p, enum pass_kind kind, const char *id)
{
    for (struct pass *pass = passes_next(p, kind, NULL); pass; pass = passes_next(p, kind, pass))
        if (strcmp(pass->id, id) == 0)
            return pass;
    return NULL;
}

struct pass *exchange_pass(struct control *c, struct str token, bool local, enum pass_scope *ret_scope, struct err *err)
{
    struct jwk keys[ACCESS_KEYS];
    struct oauth_claims k;
    struct pass *pass = NULL;
    size_t n = access_jwks(c, keys);
    if (!n || access_verify_unbound(keys, n, token, door_of(local), clock_real(), &k, err) < 0)
        return NULL;
    if (strncmp(k.client, OF_SESSION, sizeof(OF_SESSION) - 1) == 0)
        pass = by_id(c->passes, PASS_SESSION, k.client + sizeof(OF_SESSION) - 1);
    else if (strncmp(k.client, OF_API_TOKEN, sizeof(OF_API_TOKEN) - 1) == 0)
        pass = by_id(c->passes, PASS_API_TOKEN, k.client + sizeof(OF_API_TOKEN) - 1);
    if (!pass || passes_good_until(pass) <= clock_real()) {
        (void)err_set(err, ERR_UNAUTHENTICATED, "the access token is not valid: what it was made of has ended");
        return NULL;
    }
    *ret_scope = scope_of(k.scope);
    return pass;
}

/* --- The request --- */

static int no_subject(struct oauth_failure *f, const char *why)
{
    return oauth_fail(f, 400, "invalid_request", why);
}

static struct pass *subject(struct control *c, struct rpc_page *p, bool local, const struct form *form, struct oauth_failure *f)
{
    const char *type = form_get(form, "subject_token_type"), *shown = form_get(form, "subject_token");
    const char *wanted = form_get(form, "requested_token_type");
    struct pass *pass = NULL;
    if (form_get(form, "actor_token") || form_get(form, "actor_token_type") || (wanted && strcmp(wanted, ACCESS) != 0)) {
        (void)no_subject(f, "only an access token for the subject itself is given");
        return NULL;
    }
    if (form_get(form, "audience") || form_get(form, "resource")) {
        (void)oauth_fail(f, 400, "invalid_target", "a token is good for where it is given, and for nothing else");
        return NULL;
    }
    if (type && strcmp(type, SESSION) == 0) {
        struct str secret = shown ? str_from(shown) : doors_cookie(rpc_page_call(p), local);
        pass = passes_session(c->passes, secret, local);
    } else if (type && strcmp(type, ACCESS) == 0 && shown) {
        pass = passes_token(c->passes, str_from(shown));
    } else {
        (void)no_subject(f, "subject_token and its subject_token_type are needed: an API token, or a session");
        return NULL;
    }
    if (!pass)
        (void)no_subject(f, "the subject_token is not one that holds");
    return pass;
}

static void note(struct control *c, const struct pass *pass, enum pass_scope scope)
{
    struct audit_record r = {.count = 1};
    AUTO_FREE char *actor = str_printf("%s:%s", pass->kind == PASS_SESSION ? "person" : "token", pass->name);
    struct err none = ERR_INIT;
    audit_who(&r, actor, pass->id);
    audit_what(&r, "oauth/exchange", scope_name(scope));
    audit_how(&r, AUDIT_OK, &none);
    audit_note(c, &r);
}

static void tell(struct rpc_page *p, struct str token, usec_t life, enum pass_scope scope)
{
    AUTO_SECRET_BUF body = BUF_INIT(2 * JWS_MAX);
    struct jsonw w;
    BUG_ON(!buf_reserve(&body, 2 * JWS_MAX));
    jsonw_init(&w, &body);
    jsonw_object(&w);
    jsonw_key(&w, "access_token"), jsonw_str(&w, token);
    jsonw_key(&w, "issued_token_type"), jsonw_string(&w, ACCESS);
    jsonw_key(&w, "token_type"), jsonw_string(&w, "Bearer");
    jsonw_key(&w, "expires_in"), jsonw_u64(&w, life / USEC_SEC);
    jsonw_key(&w, "scope"), jsonw_string(&w, scope_name(scope));
    jsonw_object_end(&w);
    BUG_ON(jsonw_end(&w) < 0);
    oauth_answer(p, 200, buf_str(&body), NULL, NULL);
}

static int serve(struct control *c, struct rpc_page *p, bool local, const struct form *form, struct oauth_failure *f)
{
    AUTO_SECRET_BUF token = BUF_INIT(JWS_MAX);
    const char *grant = form_get(form, "grant_type");
    struct err err = ERR_INIT;
    enum pass_scope scope = SCOPE_NONE;
    usec_t life = 0, wait = 0;
    BUG_ON(!buf_reserve(&token, JWS_MAX));
    if (doors_judge_page(c, rpc_page_call(p), local, &err) < 0)
        return oauth_fail(f, 403, "invalid_request", err.msg);
    if (!grant || strcmp(grant, GRANT) != 0)
        return oauth_fail(f, 400, grant ? "unsupported_grant_type" : "invalid_request", "only token exchange (RFC 8693)");
    struct pass *pass = subject(c, p, local, form, f);
    static const char too_wide[] = "no wider scope is given than that of what is shown";
    if (!pass || oauth_choose_scope(pass->scope, form_get(form, "scope"), too_wide, &scope, f) < 0)
        return -1;
    if (bucket_take(&pass->exchanges, clock_mono(), EXCHANGE_EVERY, EXCHANGE_BURST, &wait) != 0) {
        f->extra = "retry-after";
        f->value = "1";
        return oauth_fail(f, 429, "temporarily_unavailable", "too many exchanges of this session or API token");
    }
    if (make(c, pass, local, scope, &life, &token, &err) < 0)
        return oauth_fail(f, 503, "temporarily_unavailable", "the token cannot be signed");
    note(c, pass, scope);
    tell(p, buf_str(&token), life, scope);
    return 0;
}

void exchange_page(struct rpc_page *page, struct control *c, bool local)
{
    CLEANUP(form_release) struct form form = {0};
    struct oauth_failure f = {0};
    if (oauth_read_form(page, &form, &f) < 0 || serve(c, page, local, &form, &f) < 0)
        oauth_tell_failure(c, page, "oauth/exchange", &f);
}
