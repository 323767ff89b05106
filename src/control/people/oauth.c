/* SPDX-License-Identifier: Apache-2.0 */
/* oauth — see oauth.h: who may ask for a token, what a token says, and whether one opens a call. HTTP is in oauth_pages.c. */
#include "control/people/oauth.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/people/oauth_internal.h"
#include "ident/pki_dir.h"
#include "ident/proof.h"

static const struct oauth_client clients[] = {
    {.id = "davit-cli", .file = PKI_ASSERTION ".jwk", .old_file = PKI_OLD_ASSERTION, .uri = "davit://cli", .scope = SCOPE_ADMIN,
     .rules = {.life_max = ASSERTION_LIFE_MAX}},
};

const struct oauth_client *oauth_client_of(const char *id)
{
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        if (strcmp(clients[i].id, id) == 0)
            return &clients[i];
    return NULL;
}

struct oauth *oauth_new(struct control *c)
{
    struct oauth *o = NEW(struct oauth);
    o->c = c;
    return o;
}

struct oauth *oauth_free(struct oauth *o)
{
    if (o)
        free(o->revoked);
    free(o);
    return NULL;
}

const char *oauth_issuer(const struct oauth *o)
{
    return o->issuer;
}

/* What listens everywhere is called by the address by which it is reached from here. */
static void name_issuer(struct oauth *o, const char *addr)
{
    struct str s = str_from(addr);
    const char *port = strrchr(addr, ':');
    const char *host = str_starts(s, STR("0.0.0.0:")) ? "127.0.0.1" : str_starts(s, STR("[::]:")) ? "[::1]" : NULL;
    AUTO_FREE char *issuer = host && port ? str_printf("https://%s%s", host, port) : str_printf("https://%s", addr);
    AUTO_FREE char *endpoint = str_printf("%s/oauth2/token", issuer);
    (void)str_copy(o->issuer, sizeof(o->issuer), str_from(issuer));
    (void)str_copy(o->endpoint, sizeof(o->endpoint), str_from(endpoint));
    o->audiences[0] = o->issuer;
    o->audiences[1] = o->endpoint;
    o->n_audiences = 2;
}

/* The second port is known only by its endpoint: it is the same issuer. */
static int open_second(struct oauth *o, struct err *err)
{
    struct control *c = o->c;
    const char *addr = text(c->opt.token_listen);
    if (!*addr || strcmp(addr, "none") == 0)
        return 0;
    int rc = control_listen_tls(c, c->token, addr, TLS_VERIFY_REQUIRED, err);
    if (rc < 0) {
        err_hint(err, "tokens are asked for there, too: see --token-listen");
        return rc;
    }
    AUTO_FREE char *endpoint = str_printf("https://%s/oauth2/token", control_token_addr(c));
    (void)str_copy(o->second, sizeof(o->second), str_from(endpoint));
    o->audiences[o->n_audiences++] = o->second;
    log_aloud(LOG_NOTICE, "token endpoint opened", "address", control_token_addr(c), NULL);
    return 0;
}

int oauth_start(struct oauth *o, struct err *err)
{
    name_issuer(o, control_api_addr(o->c));
    oauth_take_keys(o);
    return o->n_keys ? open_second(o, err) : err_set(err, ERR_PRECONDITION, "the key that signs tokens cannot be used");
}

void oauth_take_keys(struct oauth *o)
{
    o->n_keys = access_jwks(o->c, o->keys);
    memset(o->seen, 0, sizeof(o->seen)); /* what was judged good may be of a key that is not any more */
}

/* --- Tokens --- */

int oauth_sign(struct oauth *o, const struct oauth_client *client, enum pass_scope scope, const uint8_t certificate[OAUTH_X5T_SIZE],
               struct buf *out, struct err *err)
{
    uint8_t id[(TOKEN_ID_SIZE - 1) / 2];
    struct oauth_claims k = {.issued = clock_real() / USEC_SEC * USEC_SEC, .bound = true};
    k.expires = k.issued + OAUTH_TOKEN_LIFE;
    rng_bytes(id, sizeof(id));
    str_hex(id, sizeof(id), k.id);
    (void)str_copy(k.issuer, sizeof(k.issuer), str_from(o->issuer));
    (void)str_copy(k.audience, sizeof(k.audience), str_from(o->issuer));
    (void)str_copy(k.subject, sizeof(k.subject), str_from(client->id));
    (void)str_copy(k.client, sizeof(k.client), str_from(client->id));
    (void)str_copy(k.scope, sizeof(k.scope), str_from(scope_name(scope)));
    memcpy(k.certificate, certificate, sizeof(k.certificate));
    return access_make(o->c->access_key, &k, out, err);
}

int oauth_verify(const struct oauth *o, struct str token, struct oauth_claims *ret, struct err *err)
{
    struct oauth_claims k;
    int rc = access_verify_any(o->keys, o->n_keys, token, o->issuer, clock_real(), &k, err);
    if (rc == 0 && oauth_is_revoked(o, k.id))
        rc = err_set(err, ERR_UNAUTHENTICATED, "the access token is not valid: it was revoked");
    if (rc == 0)
        *ret = k;
    return rc;
}

/* --- Calls --- */

static int refuse(struct err *err, const char *why)
{
    (void)err_set(err, ERR_UNAUTHENTICATED, "%s", why);
    err_hint(err, "davit asks for one by itself: if this davit is older than its control plane, install the same version; then run davit up");
    return -(int)ERR_UNAUTHENTICATED;
}

/* A signature costs more than many a call: what was judged good is known again by its hash, and only what changes is asked anew. */
static int judge_seen(const struct oauth *o, const struct token_seen *t, struct err *err)
{
    usec_t now = clock_real();
    if (now >= t->claims.expires || now + ASSERTION_SKEW < t->claims.issued)
        return err_set(err, ERR_UNAUTHENTICATED, "the access token is not valid: it has expired");
    if (oauth_is_revoked(o, t->claims.id))
        return err_set(err, ERR_UNAUTHENTICATED, "the access token is not valid: it was revoked");
    return 0;
}

static int judge_token(struct oauth *o, struct str token, const struct token_seen **ret, struct err *err)
{
    struct oauth_claims k;
    uint8_t hash[32];
    proof_spki_hash(token, hash);
    struct token_seen *t = &o->seen[hash[0] % TOKEN_SEEN_MAX];
    *ret = t;
    if (memcmp(t->hash, hash, sizeof(hash)) == 0)
        return judge_seen(o, t, err);
    int rc = oauth_verify(o, token, &k, err);
    if (rc == 0) {
        *t = (struct token_seen){.claims = k, .scope = scope_of(k.scope)};
        memcpy(t->hash, hash, sizeof(hash));
    }
    return rc;
}

static struct str bytes(const uint8_t x5t[OAUTH_X5T_SIZE])
{
    return (struct str){(const char *)x5t, OAUTH_X5T_SIZE};
}

int oauth_judge(struct oauth *o, struct rpc_call *call, const struct rpc_method *method, struct err *err)
{
    const struct tls_peer *peer = conn_peer(rpc_call_conn(call));
    const char *token = authz_bearer(call);
    const struct token_seen *t = NULL;
    struct err why = ERR_INIT;
    enum pass_scope wanted = scope_of(method->scope);
    if (!token)
        return refuse(err, "a short-lived token is needed beside the certificate");
    if (judge_token(o, str_from(token), &t, &why) < 0)
        return refuse(err, why.msg);
    if (!peer || !peer->present || !str_eq_secret(bytes(peer->cert_sha256), bytes(t->claims.certificate)))
        return refuse(err, "the access token is bound to another certificate");
    /* What anybody may call with a certificate of ours wants a token that is good, and no more. */
    if (t->scope < wanted || t->scope == SCOPE_NONE)
        return err_set(err, ERR_DENIED, "the scope of the access token is %s, this call needs %s", t->claims.scope, method->scope);
    return 0;
}
