/* SPDX-License-Identifier: Apache-2.0 */
/* jwt_oauth — see jwt_oauth.h. */
#include "ident/jwt_oauth.h"

#include <string.h>

#include "base/mem.h"
#include "ident/ident_internal.h"

static const char ACCESS_TYPE[] = "at+jwt";

/* --- Claims --- */

enum claim { ISS, SUB, AUD, JTI, IAT, NBF, EXP, CLIENT, SCOPE, CONTAINER, CNF, CLAIMS };
static const char *const NAMES[CLAIMS] = {"iss", "sub", "aud", "jti", "iat", "nbf", "exp", "client_id", "scope", "container", "cnf"};
#define BIT(claim) (1u << (claim))
/* What each kind has; the rest is passed over in neither. */
#define ASSERTION_NEEDS (BIT(ISS) | BIT(SUB) | BIT(AUD) | BIT(JTI) | BIT(IAT) | BIT(EXP))
#define ACCESS_NEEDS    (ASSERTION_NEEDS | BIT(CLIENT) | BIT(SCOPE) | BIT(CNF))

/* Printable ASCII, so that it can stand in a log, a row and a field as it is. */
static int read_text(struct json *j, char *dst, size_t size)
{
    struct str s;
    if (json_read_str(j, &s, NULL) < 0 || s.n == 0 || s.n >= size)
        return -(int)ERR_INVALID;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x20 || s.p[i] > 0x7e)
            return -(int)ERR_INVALID;
    return str_copy(dst, size, s);
}

/* One audience, alone or as an array of one: what is for others as well is no proof for us. */
static int read_audience(struct json *j, char *dst, size_t size)
{
    struct str raw;
    enum json_type end = JSON_NULL;
    if (json_read_raw(j, &raw, NULL) < 0)
        return -(int)ERR_INVALID;
    AUTO_JSON inner;
    json_init(&inner, raw);
    if (raw.n == 0 || *raw.p != '[')
        return read_text(&inner, dst, size);
    bool ok = json_enter(&inner, JSON_ARRAY, NULL) == 0 && json_item(&inner, NULL) == 1 && read_text(&inner, dst, size) == 0 &&
              json_item(&inner, NULL) == 0 && json_next(&inner, &end, NULL) == 0 && end == JSON_END;
    return ok ? 0 : -(int)ERR_INVALID;
}

static int read_seconds(struct json *j, usec_t *ret)
{
    uint64_t v = 0;
    if (json_read_u64(j, &v, NULL) < 0 || v == 0 || v > INT64_MAX / USEC_SEC)
        return -(int)ERR_INVALID;
    *ret = v * USEC_SEC;
    return 0;
}

static int read_confirmation(struct json *j, struct oauth_claims *c)
{
    struct str name, value;
    size_t n = 0;
    int rc = json_enter(j, JSON_OBJECT, NULL);
    while (rc == 0 && (rc = json_key(j, &name, NULL)) == 1) {
        if (!str_eq(name, STR("x5t#S256"))) {
            rc = json_skip(j, NULL);
            continue;
        }
        rc = c->bound || json_read_str(j, &value, NULL) < 0 || !ident__unbase64url(value, c->certificate, OAUTH_X5T_SIZE, &n) || n != OAUTH_X5T_SIZE
                 ? -(int)ERR_INVALID
                 : 0;
        c->bound = true;
    }
    return rc;
}

static int read_claim(struct json *j, enum claim claim, struct oauth_claims *c)
{
    switch (claim) {
    case ISS: return read_text(j, c->issuer, sizeof(c->issuer));
    case SUB: return read_text(j, c->subject, sizeof(c->subject));
    case AUD: return read_audience(j, c->audience, sizeof(c->audience));
    case JTI: return read_text(j, c->id, sizeof(c->id));
    case IAT: return read_seconds(j, &c->issued);
    case NBF: return read_seconds(j, &c->not_before);
    case EXP: return read_seconds(j, &c->expires);
    case CLIENT: return read_text(j, c->client, sizeof(c->client));
    case SCOPE: return read_text(j, c->scope, sizeof(c->scope));
    case CONTAINER: return read_text(j, c->container, sizeof(c->container));
    case CNF: return read_confirmation(j, c);
    case CLAIMS: break;
    }
    return -(int)ERR_INVALID;
}

/* NULL, or what is wrong. Each claim once. */
static const char *read_claims(const struct jws *jws, unsigned needs, struct oauth_claims *c)
{
    struct str name;
    unsigned seen = 0;
    enum json_type end = JSON_NULL;
    AUTO_JSON j;
    json_init(&j, (struct str){jws->payload, jws->payload_len});
    int rc = json_enter(&j, JSON_OBJECT, NULL);
    while (rc == 0 && (rc = json_key(&j, &name, NULL)) == 1) {
        unsigned k = 0;
        while (k < CLAIMS && !str_eq(name, str_from(NAMES[k])))
            k++;
        if (k == CLAIMS)
            rc = json_skip(&j, NULL);
        else
            rc = seen & BIT(k) ? -(int)ERR_INVALID : read_claim(&j, (enum claim)k, c);
        seen |= k < CLAIMS ? BIT(k) : 0;
    }
    if (rc != 0 || json_next(&j, &end, NULL) < 0 || end != JSON_END)
        return "its claims are malformed";
    unsigned missing = needs & ~seen;
    return missing & BIT(JTI)   ? "it has no jti"
           : missing & BIT(EXP) ? "it has no exp"
           : missing & BIT(IAT) ? "it has no iat"
           : missing & BIT(AUD) ? "it has no aud"
           : missing            ? "a claim is missing"
                                : NULL;
}

static void put_seconds(struct jsonw *w, enum claim claim, usec_t t)
{
    jsonw_key(w, NAMES[claim]), jsonw_u64(w, t / USEC_SEC);
}

static void put_text(struct jsonw *w, enum claim claim, const char *value)
{
    jsonw_key(w, NAMES[claim]), jsonw_string(w, value);
}

static int write_claims(const struct oauth_claims *c, struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_object(&w);
    put_text(&w, ISS, c->issuer);
    put_text(&w, SUB, c->subject);
    put_text(&w, AUD, c->audience);
    put_text(&w, JTI, c->id);
    put_seconds(&w, IAT, c->issued);
    put_seconds(&w, EXP, c->expires);
    if (*c->client)
        put_text(&w, CLIENT, c->client);
    if (*c->scope)
        put_text(&w, SCOPE, c->scope);
    if (*c->container)
        put_text(&w, CONTAINER, c->container);
    if (c->bound) {
        AUTO_FREE char *x5t = str_base64url(c->certificate, OAUTH_X5T_SIZE);
        jsonw_key(&w, NAMES[CNF]), jsonw_object(&w);
        jsonw_key(&w, "x5t#S256"), jsonw_string(&w, x5t);
        jsonw_object_end(&w);
    }
    jsonw_object_end(&w);
    return jsonw_end(&w);
}

/* --- Assertions --- */

int assertion_read(struct str text, struct jws *jws, struct oauth_claims *ret, struct err *err)
{
    memset(ret, 0, sizeof(*ret));
    int rc = jws_read(text, jws, err);
    const char *why = rc < 0 ? NULL : read_claims(jws, ASSERTION_NEEDS, ret);
    return why ? err_set(err, ERR_INVALID, "%s", why) : rc;
}

static bool among(const char *s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(s, list[i]) == 0)
            return true;
    return false;
}

static bool is_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

static const char *fault(const struct jws *jws, const struct oauth_claims *c, const struct jwk *key, const struct assertion_rules *r, usec_t now)
{
    if (strcmp(c->issuer, r->client) != 0 || strcmp(c->subject, r->client) != 0)
        return "iss and sub are not this client";
    if (*jws->kid && r->kid && strcmp(jws->kid, r->kid) != 0)
        return "kid is not that of this client's key";
    if (!jws_holds(jws, key))
        return "its signature does not hold";
    if (!among(c->audience, r->audiences, r->n_audiences))
        return "aud is not this issuer";
    if (c->issued > now + ASSERTION_SKEW || c->not_before > now + ASSERTION_SKEW)
        return ASSERTION_EARLY;
    if (now >= c->expires)
        return "it has expired";
    if (c->issued >= c->expires || c->expires - c->issued > r->life_max || c->expires > now + r->life_max + ASSERTION_SKEW)
        return "exp is too far ahead";
    if (r->bound && (!c->bound || !is_hex(c->container, OAUTH_CONTAINER_MAX)))
        return "it is not bound to a certificate and a container";
    return NULL;
}

int assertion_judge(const struct jws *jws, const struct oauth_claims *claims, const struct jwk *key, const struct assertion_rules *rules,
                    usec_t now, struct err *err)
{
    const char *why = fault(jws, claims, key, rules, now);
    return why ? err_set(err, ERR_UNAUTHENTICATED, "%s", why) : 0;
}

static int sign_assertion(const struct key *key, const struct oauth_claims *c, struct buf *out, struct err *err)
{
    struct jwk jwk;
    char kid[JWK_THUMBPRINT_SIZE];
    AUTO_BUF payload = BUF_INIT(JWS_PAYLOAD_MAX);
    if (write_claims(c, &payload) < 0)
        return err_set(err, ERR_INVALID, "a claim is too long");
    int rc = jwk_of_key(key, &jwk, err);
    if (rc < 0)
        return rc;
    jwk_thumbprint(&jwk, kid);
    return jws_make(key, "JWT", kid, buf_str(&payload), out, err);
}

int assertion_make_bound(const struct key *key, const struct oauth_claims *claims, struct buf *out, struct err *err)
{
    if (!claims->bound || !is_hex(claims->container, OAUTH_CONTAINER_MAX) || claims->issued >= claims->expires)
        return err_set(err, ERR_INVALID, "these claims make no bound assertion");
    return sign_assertion(key, claims, out, err);
}

int assertion_make(const struct key *key, const char *client, const char *audience, const char *id, usec_t now, usec_t life, struct buf *out,
                   struct err *err)
{
    struct oauth_claims c = {.issued = now, .expires = now + life};
    if (str_copy(c.issuer, sizeof(c.issuer), str_from(client)) || str_copy(c.subject, sizeof(c.subject), str_from(client)) ||
        str_copy(c.audience, sizeof(c.audience), str_from(audience)) || str_copy(c.id, sizeof(c.id), str_from(id)))
        return err_set(err, ERR_INVALID, "a claim is too long");
    return sign_assertion(key, &c, out, err);
}

/* --- Access tokens --- */

static int make_access(const struct key *key, const struct oauth_claims *claims, bool bound, struct buf *out, struct err *err)
{
    struct jwk jwk;
    char kid[JWK_THUMBPRINT_SIZE];
    AUTO_BUF payload = BUF_INIT(JWS_PAYLOAD_MAX);
    int rc = jwk_of_key(key, &jwk, err);
    if (rc < 0)
        return rc;
    if (claims->bound != bound || claims->issued >= claims->expires || write_claims(claims, &payload) < 0)
        return err_set(err, ERR_INVALID, "these claims make no access token");
    jwk_thumbprint(&jwk, kid);
    return jws_make(key, ACCESS_TYPE, kid, buf_str(&payload), out, err);
}

int access_make(const struct key *key, const struct oauth_claims *claims, struct buf *out, struct err *err)
{
    return make_access(key, claims, true, out, err);
}

int access_make_unbound(const struct key *key, const struct oauth_claims *claims, struct buf *out, struct err *err)
{
    return make_access(key, claims, false, out, err);
}

static const char *access_fault(const struct jwk *key, struct str token, const char *issuer, bool bound, usec_t now, struct oauth_claims *c)
{
    struct jws jws;
    struct err why = ERR_INIT;
    char kid[JWK_THUMBPRINT_SIZE];
    if (jws_read(token, &jws, &why) < 0)
        return "it is malformed";
    jwk_thumbprint(key, kid);
    if (strcmp(jws.type, ACCESS_TYPE) != 0)
        return "it is of another kind";
    if (strcmp(jws.kid, kid) != 0)
        return "its key is not known";
    if (!jws_holds(&jws, key))
        return "its signature does not hold";
    if (read_claims(&jws, bound ? ACCESS_NEEDS : ACCESS_NEEDS & ~BIT(CNF), c) || c->bound != bound)
        return "its claims are not those of our tokens";
    if (strcmp(c->issuer, issuer) != 0 || strcmp(c->audience, issuer) != 0)
        return "it is of another issuer or for another audience";
    if (now + ASSERTION_SKEW < c->issued || now + ASSERTION_SKEW < c->not_before)
        return "it is of a time to come";
    return now >= c->expires ? "it has expired" : NULL;
}

static int verify_access(const struct jwk *key, struct str token, const char *issuer, bool bound, usec_t now, struct oauth_claims *ret,
                         struct err *err)
{
    struct oauth_claims c = {0};
    const char *why = access_fault(key, token, issuer, bound, now, &c);
    if (why)
        return err_set(err, ERR_UNAUTHENTICATED, "the access token is not valid: %s", why);
    *ret = c;
    return 0;
}

/* The one of @keys that @token names, or else the last. */
static const struct jwk *key_of(const struct jwk *keys, size_t n, struct str token)
{
    struct jws jws;
    char kid[JWK_THUMBPRINT_SIZE];
    size_t i = 0;
    bool read = jws_read(token, &jws, NULL) == 0;
    for (; read && i + 1 < n; i++) {
        jwk_thumbprint(&keys[i], kid);
        if (strcmp(jws.kid, kid) == 0)
            break;
    }
    return &keys[i];
}

int access_verify(const struct jwk *key, struct str token, const char *issuer, usec_t now, struct oauth_claims *ret, struct err *err)
{
    return verify_access(key, token, issuer, true, now, ret, err);
}

int access_verify_any(const struct jwk *keys, size_t n, struct str token, const char *issuer, usec_t now, struct oauth_claims *ret, struct err *err)
{
    return verify_access(key_of(keys, n, token), token, issuer, true, now, ret, err);
}

int access_verify_unbound(const struct jwk *keys, size_t n, struct str token, const char *issuer, usec_t now, struct oauth_claims *ret,
                          struct err *err)
{
    return verify_access(key_of(keys, n, token), token, issuer, false, now, ret, err);
}
