/* SPDX-License-Identifier: Apache-2.0 */
/* oauth_pages — see oauth.h: what of the issuer is HTTP. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "control/people/audit.h"
#include "control/bucket.h"
#include "control/people/oauth_internal.h"

/* Refusals that are logged: so many at once, then one each REFUSED_EVERY. The audit log has them all, in its own way. */
enum { ANSWER_MAX = 8 * 1024, REFUSED_BURST = 20 };
#define REFUSED_EVERY (10 * USEC_SEC)
static const char ASSERTION_TYPE[] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/* --- Answers --- */

void oauth_answer(struct rpc_page *p, int status, struct str body, const char *extra, const char *value)
{
    const struct http_field fields[] = {{"content-type", "application/json"}, {"cache-control", "no-store"}, {"pragma", "no-cache"},
                                        {"x-content-type-options", "nosniff"}, {extra, value}};
    if (rpc_page_begin(p, status, fields, ARRAY_LEN(fields) - (extra ? 0 : 1), body.n) == 0)
        (void)rpc_page_write(p, body);
}

int oauth_fail(struct oauth_failure *f, int status, const char *error, const char *why)
{
    f->status = status;
    f->error = error;
    (void)str_copy(f->why, sizeof(f->why), str_from(why));
    /* What may stand there is less than what a message may have. */
    for (char *ch = f->why; *ch; ch++)
        if (*ch == '"' || *ch == '\\' || *ch < 0x20 || *ch > 0x7e)
            *ch = '\'';
    return -1;
}

static int bad_client(struct oauth_failure *f, const char *why)
{
    return oauth_fail(f, 401, "invalid_client", why);
}

static int no_store(struct oauth_failure *f, const char *why)
{
    f->extra = "retry-after";
    f->value = "30";
    return oauth_fail(f, 503, "temporarily_unavailable", why);
}

/* Anybody on this machine can have as many as he likes. */
static void log_refusal(struct oauth *o, const char *action, const struct oauth_failure *f)
{
    char untold[16];
    usec_t wait;
    if (bucket_take(&o->told, clock_mono(), REFUSED_EVERY, REFUSED_BURST, &wait) != 0) {
        o->untold++;
        return;
    }
    (void)snprintf(untold, sizeof(untold), "%u", o->untold);
    o->untold = 0;
    log_aloud(LOG_NOTICE, "token refused", "what", action, "error", f->error, "why", f->why, "untold_before", untold, NULL);
}

void oauth_tell_failure(struct control *c, struct rpc_page *p, const char *action, const struct oauth_failure *f)
{
    struct audit_record who = {.count = 1};
    AUTO_BUF body = BUF_INIT(ANSWER_MAX);
    struct err err = ERR_INIT;
    struct jsonw w;
    jsonw_init(&w, &body);
    jsonw_object(&w);
    jsonw_key(&w, "error"), jsonw_string(&w, f->error);
    jsonw_key(&w, "error_description"), jsonw_string(&w, f->why);
    jsonw_object_end(&w);
    BUG_ON(jsonw_end(&w) < 0);
    (void)err_set(&err, f->status == 401 ? ERR_UNAUTHENTICATED : f->status >= 429 ? ERR_UNAVAILABLE : ERR_INVALID, "%s: %s", f->error, f->why);
    audit_who_call(&who, rpc_page_call(p));
    audit_refused(c, &who, action, "-", &err);
    log_refusal(c->oauth, action, f);
    oauth_answer(p, f->status, buf_str(&body), f->extra, f->value);
}

/* --- The request --- */

static int read_body(struct rpc_page *p, struct buf *body, struct oauth_failure *f)
{
    struct str part;
    int rc = 0;
    while ((rc = rpc_page_read(p, &part)) == 0)
        if (buf_append_str(body, part) < 0)
            return oauth_fail(f, 413, "invalid_request", "the body is too long");
    return rc < 0 ? oauth_fail(f, 400, "invalid_request", "the body did not come") : 0;
}

int oauth_read_form(struct rpc_page *p, struct form *form, struct oauth_failure *f)
{
    AUTO_SECRET_BUF body = BUF_INIT(OAUTH_BODY_MAX);
    struct err err = ERR_INIT;
    BUG_ON(!buf_reserve(&body, OAUTH_BODY_MAX));
    if (strcmp(rpc_page_method(p), "POST") != 0) {
        f->extra = "allow";
        f->value = "POST";
        return oauth_fail(f, 405, "invalid_request", "only POST");
    }
    if (!form_type_ok(rpc_page_field(p, "content-type")))
        return oauth_fail(f, 400, "invalid_request", "the body must be application/x-www-form-urlencoded");
    int rc = read_body(p, &body, f);
    if (rc == 0 && form_parse(buf_str(&body), form, &err) < 0)
        rc = oauth_fail(f, 400, "invalid_request", err.msg);
    return rc;
}

/* --- Who asks --- */

struct asking {
    const struct oauth_client *client;
    struct jws jws;
    struct oauth_claims claims;
    struct jwk keys[ACCESS_KEYS]; /* of its assertions: the present one, and while the root is changed the one before */
    size_t n_keys;
    uint8_t certificate[OAUTH_X5T_SIZE];
};

struct key_job {
    char *path, *old;
    struct buf text, old_text; /* old_text: empty where there is none */
    struct err err;
};

static int read_key(void *arg)
{
    struct key_job *j = arg;
    (void)fd_read_file(j->old, &j->old_text, NULL);
    return fd_read_file(j->path, &j->text, &j->err);
}

/* Waits: the key as it lies there now. */
static int load_key(struct oauth *o, struct asking *a, struct oauth_failure *f)
{
    AUTO_FREE char *path = str_printf("%s/%s", o->c->opt.state_dir, a->client->file);
    AUTO_FREE char *old = str_printf("%s/%s", o->c->opt.state_dir, a->client->old_file);
    struct key_job j = {.path = path, .old = old, .text = BUF_INIT(JWK_MAX), .old_text = BUF_INIT(JWK_MAX), .err = ERR_INIT};
    struct err err = ERR_INIT;
    int rc = lane_call(o->c->fast, read_key, &j, deadline_in(STORE_WAIT)), bad = rc;
    if (rc == 0)
        bad = jwk_parse(buf_str(&j.text), &a->keys[0], &err);
    a->n_keys = 1;
    if (rc == 0 && o->c->roots.n > 1 && j.old_text.len)
        a->n_keys += jwk_parse(buf_str(&j.old_text), &a->keys[1], NULL) == 0;
    buf_release(&j.text);
    buf_release(&j.old_text);
    if (rc == -(int)ERR_NOT_FOUND)
        return bad_client(f, "the key of this client was not handed over yet: run davit up");
    if (rc < 0)
        return no_store(f, "the key of this client cannot be read");
    return bad < 0 ? no_store(f, "the key of this client is damaged: run davit up") : 0;
}

static int find_client(struct oauth *o, struct rpc_page *p, const struct form *form, struct asking *a, struct oauth_failure *f)
{
    const struct tls_peer *peer = conn_peer(rpc_call_conn(rpc_page_call(p)));
    const char *type = form_get(form, "client_assertion_type"), *assertion = form_get(form, "client_assertion");
    const char *named = form_get(form, "client_id"), *basic = rpc_page_field(p, "authorization");
    struct err err = ERR_INIT;
    usec_t wait = 0;
    if (form_get(form, "client_secret") || (basic && str_eq_ci((struct str){basic, strlen(basic) < 6 ? 0 : 6}, STR("basic "))))
        return oauth_fail(f, 400, "invalid_request", "clients authenticate by an assertion only");
    if (!type || !assertion || strcmp(type, ASSERTION_TYPE) != 0)
        return bad_client(f, "a client_assertion of the type jwt-bearer is needed");
    if (assertion_read(str_from(assertion), &a->jws, &a->claims, &err) < 0)
        return bad_client(f, err.msg);
    a->client = oauth_client_of(a->claims.issuer);
    if (!a->client)
        return bad_client(f, "there is no such client");
    if (named && strcmp(named, a->client->id) != 0)
        return bad_client(f, "client_id is not whose assertion this is");
    if (!peer || !peer->present || strcmp(peer->uri, a->client->uri) != 0)
        return bad_client(f, "this client comes with another certificate");
    memcpy(a->certificate, peer->cert_sha256, sizeof(a->certificate));
    if (bucket_take(&o->bucket, clock_mono(), OAUTH_EVERY, OAUTH_BURST, &wait) != 0) {
        f->extra = "retry-after";
        f->value = "1";
        return oauth_fail(f, 429, "temporarily_unavailable", "too many requests of this client");
    }
    return 0;
}

/* By the key that it names, or else by the present one. */
static int judge(const struct oauth *o, const struct asking *a, struct err *err)
{
    struct assertion_rules rules = a->client->rules;
    char kids[ACCESS_KEYS][JWK_THUMBPRINT_SIZE];
    size_t i = a->n_keys;
    while (i-- > 1) {
        jwk_thumbprint(&a->keys[i], kids[i]);
        if (strcmp(a->jws.kid, kids[i]) == 0)
            break;
    }
    jwk_thumbprint(&a->keys[i], kids[i]);
    rules.client = a->client->id;
    rules.kid = kids[i];
    rules.audiences = o->audiences;
    rules.n_audiences = o->n_audiences;
    return assertion_judge(&a->jws, &a->claims, &a->keys[i], &rules, clock_real(), err);
}

/* Waits: is this assertion good, and used for the first time? From here on it is used. */
static int authenticate(struct oauth *o, struct rpc_page *p, const struct form *form, struct asking *a, struct oauth_failure *f)
{
    struct err err = ERR_INIT;
    int rc = find_client(o, p, form, a, f);
    if (rc < 0 || !a->client)
        return -1;
    if (load_key(o, a, f) < 0)
        return -1;
    if (judge(o, a, &err) < 0)
        return bad_client(f, err.msg);
    rc = oauth_use(o, a->client->id, a->claims.id, a->claims.expires, &err);
    if (rc == 1)
        return bad_client(f, "this assertion was used before");
    if (rc == 2)
        return no_store(f, "too many assertions were used of late");
    return rc < 0 ? no_store(f, "the store cannot be reached") : 0;
}

/* --- /oauth2/token --- */

int oauth_choose_scope(enum pass_scope most, const char *asked, const char *too_wide, enum pass_scope *ret, struct oauth_failure *f)
{
    struct str rest = str_from(asked);
    *ret = asked ? SCOPE_NONE : most;
    while (rest.n) {
        struct str one = str_cut(&rest, ' ');
        AUTO_FREE char *name = str_dup(one);
        enum pass_scope scope = scope_of(name);
        if (one.n == 0)
            continue;
        if (scope == SCOPE_NONE || scope > most)
            return oauth_fail(f, 400, "invalid_scope", too_wide);
        *ret = scope > *ret ? scope : *ret;
    }
    return *ret == SCOPE_NONE ? oauth_fail(f, 400, "invalid_scope", "no scope is asked for") : 0;
}

static int serve_token(struct oauth *o, struct rpc_page *p, const struct form *form, struct oauth_failure *f)
{
    AUTO_SECRET_BUF token = BUF_INIT(JWS_MAX), body = BUF_INIT(ANSWER_MAX);
    const char *grant = form_get(form, "grant_type");
    struct asking a = {0};
    struct err err = ERR_INIT;
    enum pass_scope scope = SCOPE_NONE;
    struct jsonw w;
    BUG_ON(!buf_reserve(&token, JWS_MAX) || !buf_reserve(&body, ANSWER_MAX));
    int rc = authenticate(o, p, form, &a, f);
    if (rc < 0)
        return rc;
    if (!grant)
        return oauth_fail(f, 400, "invalid_request", "grant_type is missing");
    if (strcmp(grant, "client_credentials") != 0)
        return oauth_fail(f, 400, "unsupported_grant_type", "only client_credentials");
    rc = oauth_choose_scope(a.client->scope, form_get(form, "scope"), "this client may not have that scope", &scope, f);
    if (rc < 0)
        return rc;
    if (oauth_sign(o, a.client, scope, a.certificate, &token, &err) < 0)
        return no_store(f, "the token cannot be signed");
    jsonw_init(&w, &body);
    jsonw_object(&w);
    jsonw_key(&w, "access_token"), jsonw_str(&w, buf_str(&token));
    jsonw_key(&w, "token_type"), jsonw_string(&w, "Bearer");
    jsonw_key(&w, "expires_in"), jsonw_u64(&w, OAUTH_TOKEN_LIFE / USEC_SEC);
    jsonw_key(&w, "scope"), jsonw_string(&w, scope_name(scope));
    jsonw_object_end(&w);
    BUG_ON(jsonw_end(&w) < 0);
    log_aloud(LOG_INFO, "token issued", "client", a.client->id, "scope", scope_name(scope), NULL);
    oauth_answer(p, 200, buf_str(&body), NULL, NULL);
    return 0;
}

/* --- /oauth2/introspect, /oauth2/revoke --- */

static void write_active(struct jsonw *w, const struct oauth_claims *k)
{
    AUTO_FREE char *x5t = str_base64url(k->certificate, OAUTH_X5T_SIZE);
    const struct {
        const char *name, *value;
    } texts[] = {{"scope", k->scope}, {"client_id", k->client}, {"sub", k->subject}, {"aud", k->audience},
                 {"iss", k->issuer},  {"jti", k->id},           {"token_type", "Bearer"}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        jsonw_key(w, texts[i].name), jsonw_string(w, texts[i].value);
    jsonw_key(w, "iat"), jsonw_u64(w, k->issued / USEC_SEC);
    jsonw_key(w, "exp"), jsonw_u64(w, k->expires / USEC_SEC);
    jsonw_key(w, "cnf"), jsonw_object(w);
    jsonw_key(w, "x5t#S256"), jsonw_string(w, x5t);
    jsonw_object_end(w);
}

static int serve_introspect(struct oauth *o, struct rpc_page *p, const struct form *form, struct oauth_failure *f)
{
    AUTO_BUF body = BUF_INIT(ANSWER_MAX);
    const char *token = form_get(form, "token");
    struct asking a = {0};
    struct oauth_claims k;
    struct jsonw w;
    int rc = authenticate(o, p, form, &a, f);
    if (rc < 0)
        return rc;
    if (!token)
        return oauth_fail(f, 400, "invalid_request", "token is missing");
    bool active = oauth_verify(o, str_from(token), &k, NULL) == 0;
    jsonw_init(&w, &body);
    jsonw_object(&w);
    jsonw_key(&w, "active"), jsonw_bool(&w, active);
    if (active)
        write_active(&w, &k);
    jsonw_object_end(&w);
    BUG_ON(jsonw_end(&w) < 0);
    oauth_answer(p, 200, buf_str(&body), NULL, NULL);
    return 0;
}

/* A token that is none any more is no failure (RFC 7009, 2.2). */
static int serve_revoke(struct oauth *o, struct rpc_page *p, const struct form *form, struct oauth_failure *f)
{
    const char *token = form_get(form, "token");
    struct asking a = {0};
    struct oauth_claims k;
    struct err err = ERR_INIT;
    int rc = authenticate(o, p, form, &a, f);
    if (rc < 0)
        return rc;
    if (!token)
        return oauth_fail(f, 400, "invalid_request", "token is missing");
    if (oauth_verify(o, str_from(token), &k, NULL) == 0) {
        if (strcmp(k.client, a.client->id) != 0)
            return oauth_fail(f, 400, "unauthorized_client", "the token is another client's");
        rc = oauth_revoke(o, k.id, k.expires, &err);
        if (rc != 0)
            return no_store(f, rc == 2 ? "too many tokens were revoked of late" : "the store cannot be reached: revoked until a restart only");
        log_aloud(LOG_NOTICE, "token revoked", "client", k.client, "token", k.id, NULL);
    }
    oauth_answer(p, 200, STR("{}"), NULL, NULL);
    return 0;
}

/* --- Documents --- */

static void put_url(struct jsonw *w, const char *name, const char *issuer, const char *path)
{
    AUTO_FREE char *url = str_printf("%s%s", issuer, path);
    jsonw_key(w, name), jsonw_string(w, url);
}

static void put_list(struct jsonw *w, const char *name, const char *const *values, size_t n)
{
    jsonw_key(w, name), jsonw_array(w);
    for (size_t i = 0; i < n; i++)
        jsonw_string(w, values[i]);
    jsonw_array_end(w);
}

static void write_metadata(const struct oauth *o, struct jsonw *w)
{
    static const char *const grants[] = {"client_credentials"}, *const methods[] = {"private_key_jwt"}, *const algs[] = {"ES256"};
    static const char *const scopes[] = {"read", "write", "admin"}, *const kinds[] = {"token", "introspection", "revocation"};
    jsonw_object(w);
    put_url(w, "issuer", o->issuer, "");
    put_url(w, "token_endpoint", o->issuer, "/oauth2/token");
    put_url(w, "introspection_endpoint", o->issuer, "/oauth2/introspect");
    put_url(w, "revocation_endpoint", o->issuer, "/oauth2/revoke");
    put_url(w, "jwks_uri", o->issuer, "/.well-known/jwks.json");
    put_list(w, "response_types_supported", NULL, 0);
    put_list(w, "grant_types_supported", grants, 1);
    put_list(w, "scopes_supported", scopes, ARRAY_LEN(scopes));
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        AUTO_FREE char *how = str_printf("%s_endpoint_auth_methods_supported", kinds[i]);
        AUTO_FREE char *alg = str_printf("%s_endpoint_auth_signing_alg_values_supported", kinds[i]);
        put_list(w, how, methods, 1);
        put_list(w, alg, algs, 1);
    }
    jsonw_key(w, "tls_client_certificate_bound_access_tokens"), jsonw_bool(w, true);
    jsonw_object_end(w);
}

static void write_keys(const struct oauth *o, struct jsonw *w)
{
    jsonw_object(w);
    jsonw_key(w, "keys"), jsonw_array(w);
    for (size_t i = 0; i < o->n_keys; i++)
        jwk_write(&o->keys[i], w);
    jsonw_array_end(w);
    jsonw_object_end(w);
}

static void serve_document(const struct oauth *o, struct rpc_page *p, void (*write)(const struct oauth *o, struct jsonw *w))
{
    AUTO_BUF body = BUF_INIT(ANSWER_MAX);
    const char *verb = rpc_page_method(p);
    struct jsonw w;
    if (strcmp(verb, "GET") != 0 && strcmp(verb, "HEAD") != 0) {
        oauth_answer(p, 405, STR("{}"), "allow", "GET, HEAD");
        return;
    }
    jsonw_init(&w, &body);
    write(o, &w);
    BUG_ON(jsonw_end(&w) < 0);
    oauth_answer(p, 200, buf_str(&body), NULL, NULL);
}

/* --- Which --- */

static const struct {
    const char *path, *action;
    int (*serve)(struct oauth *o, struct rpc_page *p, const struct form *form, struct oauth_failure *f);
    void (*write)(const struct oauth *o, struct jsonw *w);
} pages[] = {
    {"/oauth2/token", "oauth/token", serve_token, NULL},
    {"/oauth2/introspect", "oauth/introspect", serve_introspect, NULL},
    {"/oauth2/revoke", "oauth/revoke", serve_revoke, NULL},
    {"/.well-known/oauth-authorization-server", NULL, NULL, write_metadata},
    {"/.well-known/jwks.json", NULL, NULL, write_keys},
};

static void serve(struct oauth *o, struct rpc_page *p, size_t i)
{
    CLEANUP(form_release) struct form form = {0};
    struct oauth_failure f = {0};
    if (pages[i].write)
        serve_document(o, p, pages[i].write);
    else if (oauth_read_form(p, &form, &f) < 0 || pages[i].serve(o, p, &form, &f) < 0)
        oauth_tell_failure(o->c, p, pages[i].action, &f);
}

void oauth_pages(struct rpc_page *page, void *ctx)
{
    struct control *c = ctx;
    struct str rest = str_from(rpc_page_target(page)), path = str_cut(&rest, '?');
    size_t i = 0;
    while (i < ARRAY_LEN(pages) && !str_eq(path, str_from(pages[i].path)))
        i++;
    c->fibers++;
    if (c->stopping)
        oauth_answer(page, 503, STR("{\"error\":\"temporarily_unavailable\"}"), NULL, NULL);
    else if (i == ARRAY_LEN(pages))
        oauth_answer(page, 404, STR("{\"error\":\"invalid_request\",\"error_description\":\"there is nothing here\"}"), NULL, NULL);
    else
        serve(c->oauth, page, i);
    control_fiber_end(c);
}
