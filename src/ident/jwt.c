/* SPDX-License-Identifier: Apache-2.0 */
/* jwt — see jwt.h. */
#include "ident/jwt.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "ident/ident_internal.h"

enum { PAYLOAD_MAX = 640 };

/* {"alg":"ES256","typ":"JWT"} */
static const char HEADER[] = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9";
static const char ISSUER[] = "davit://controlplane";
static const char AUDIENCE[] = "davit-link";

static int refuse(struct err *err, const char *why)
{
    return err_set(err, ERR_UNAUTHENTICATED, "the access token is not valid: %s", why);
}

/* --- Claims --- */

static bool hex_only(struct str s, size_t n)
{
    if (s.n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!memchr("0123456789abcdef", s.p[i], 16))
            return false;
    return true;
}

static const char *fault(const struct jwt_claims *c)
{
    if (!ident__is_uuid(c->subject))
        return "its subject is no server";
    if (!hex_only(str_from(c->id), JWT_ID_SIZE - 1))
        return "its id is malformed";
    if (c->issued > c->not_before || c->not_before >= c->expires || c->expires - c->issued > JWT_LIFE_MAX)
        return "its times do not fit together";
    return NULL;
}

enum claim { ISS, AUD, SUB, GEN, IAT, NBF, EXP, JTI, CNF, CLAIMS };
static const char *const NAMES[CLAIMS] = {"iss", "aud", "sub", "gen", "iat", "nbf", "exp", "jti", "cnf"};

static int read_text(struct json *j, const char *want, char *dst, size_t size)
{
    struct str s;
    if (json_read_str(j, &s, NULL) < 0 || (want && !str_eq(s, str_from(want))) || (dst && (s.n >= size || memchr(s.p, 0, s.n))))
        return -(int)ERR_INVALID;
    return dst ? str_copy(dst, size, s) : 0;
}

static int read_seconds(struct json *j, usec_t *ret)
{
    uint64_t v = 0;
    if (json_read_u64(j, &v, NULL) < 0 || v > INT64_MAX / USEC_SEC)
        return -(int)ERR_INVALID;
    *ret = v * USEC_SEC;
    return 0;
}

static int read_confirmation(struct json *j, uint8_t ret[SPKI_HASH_SIZE])
{
    struct str name, value;
    size_t n = 0;
    bool found = false;
    int rc = json_enter(j, JSON_OBJECT, NULL);
    while (rc == 0 && (rc = json_key(j, &name, NULL)) == 1) {
        rc = found || !str_eq(name, STR("kid")) || json_read_str(j, &value, NULL) < 0 ||
                     !ident__unbase64url(value, ret, SPKI_HASH_SIZE, &n) || n != SPKI_HASH_SIZE
                 ? -(int)ERR_INVALID
                 : 0;
        found = true;
    }
    return rc == 0 && found ? 0 : -(int)ERR_INVALID;
}

static int read_claim(struct json *j, enum claim claim, struct jwt_claims *c)
{
    uint64_t v = 0;
    switch (claim) {
    case ISS: return read_text(j, ISSUER, NULL, 0);
    case AUD: return read_text(j, AUDIENCE, NULL, 0);
    case SUB: return read_text(j, NULL, c->subject, sizeof(c->subject));
    case JTI: return read_text(j, NULL, c->id, sizeof(c->id));
    case IAT: return read_seconds(j, &c->issued);
    case NBF: return read_seconds(j, &c->not_before);
    case EXP: return read_seconds(j, &c->expires);
    case CNF: return read_confirmation(j, c->key_hash);
    case GEN:
        if (json_read_u64(j, &v, NULL) < 0 || v > UINT32_MAX)
            return -(int)ERR_INVALID;
        c->generation = (uint32_t)v;
        return 0;
    default: return -(int)ERR_INVALID;
    }
}

/* Each claim once; others are passed over. */
static int read_claims(struct str text, struct jwt_claims *c)
{
    struct str name;
    unsigned seen = 0;
    enum json_type end = JSON_NULL;
    AUTO_JSON j;
    json_init(&j, text);
    int rc = json_enter(&j, JSON_OBJECT, NULL);
    while (rc == 0 && (rc = json_key(&j, &name, NULL)) == 1) {
        unsigned k = 0;
        while (k < CLAIMS && !str_eq(name, str_from(NAMES[k])))
            k++;
        if (k == CLAIMS)
            rc = json_skip(&j, NULL);
        else
            rc = seen & 1u << k ? -(int)ERR_INVALID : read_claim(&j, (enum claim)k, c);
        seen |= k < CLAIMS ? 1u << k : 0;
    }
    if (rc == 0)
        rc = json_next(&j, &end, NULL);
    return rc == 0 && end == JSON_END && seen == (1u << CLAIMS) - 1 ? 0 : -(int)ERR_INVALID;
}

/* --- Tokens --- */

static int write_claims(const struct jwt_claims *c, struct buf *out)
{
    struct jsonw w;
    AUTO_FREE char *kid = str_base64url(c->key_hash, sizeof(c->key_hash));
    jsonw_init(&w, out);
    jsonw_object(&w);
    jsonw_key(&w, NAMES[ISS]), jsonw_string(&w, ISSUER);
    jsonw_key(&w, NAMES[AUD]), jsonw_string(&w, AUDIENCE);
    jsonw_key(&w, NAMES[SUB]), jsonw_string(&w, c->subject);
    jsonw_key(&w, NAMES[GEN]), jsonw_u64(&w, c->generation);
    jsonw_key(&w, NAMES[IAT]), jsonw_u64(&w, c->issued / USEC_SEC);
    jsonw_key(&w, NAMES[NBF]), jsonw_u64(&w, c->not_before / USEC_SEC);
    jsonw_key(&w, NAMES[EXP]), jsonw_u64(&w, c->expires / USEC_SEC);
    jsonw_key(&w, NAMES[JTI]), jsonw_string(&w, c->id);
    jsonw_key(&w, NAMES[CNF]), jsonw_object(&w);
    jsonw_key(&w, "kid"), jsonw_string(&w, kid);
    jsonw_object_end(&w);
    jsonw_object_end(&w);
    return jsonw_end(&w);
}

int jwt_make(const struct key *key, const struct jwt_claims *claims, struct buf *out, struct err *err)
{
    AUTO_BUF payload = BUF_INIT(PAYLOAD_MAX), text = BUF_INIT(JWT_MAX);
    uint8_t raw[ES256_SIGNATURE_SIZE];
    const char *why = fault(claims);
    ident__start();
    if (why || !ident__is_p256(key->pkey))
        return err_set(err, ERR_INVALID, "no access token: %s", why ? why : "the key is not P-256");
    BUG_ON(write_claims(claims, &payload) < 0 || buf_append_cstr(&text, HEADER) < 0 || buf_append_byte(&text, '.') < 0 ||
           ident__base64url(&text, payload.data, payload.len) < 0);
    if (!ident__es256_sign(key->pkey, buf_str(&text), raw))
        return ident__fail(err, ERR_INTERNAL, "the access token cannot be signed");
    BUG_ON(buf_append_byte(&text, '.') < 0 || ident__base64url(&text, raw, sizeof(raw)) < 0);
    return buf_append_str(out, buf_str(&text)) < 0 ? err_set(err, ERR_EXHAUSTED, "no room for the access token") : 0;
}

/* @key NULL: the signature is not asked. NULL, or what is wrong. */
static const char *judge(const struct key *key, struct str token, struct jwt_claims *ret)
{
    uint8_t raw[ES256_SIGNATURE_SIZE], bytes[PAYLOAD_MAX];
    size_t n = 0;
    struct str rest = token, header, payload;
    if (token.n == 0 || token.n > JWT_MAX)
        return "its length";
    header = str_cut(&rest, '.');
    if (!str_eq(header, str_from(HEADER)))
        return "its header is not that of our tokens";
    payload = str_cut(&rest, '.');
    if (!ident__unbase64url(rest, raw, sizeof(raw), &n) || n != sizeof(raw))
        return "its signature is malformed";
    if (key && (!ident__is_p256(key->pkey) || !ident__es256_holds(key->pkey, (struct str){token.p, header.n + 1 + payload.n}, raw)))
        return "its signature does not hold";
    if (!ident__unbase64url(payload, bytes, sizeof(bytes), &n))
        return "its claims are malformed";
    if (read_claims((struct str){(const char *)bytes, n}, ret) < 0)
        return "its claims are not those of our tokens";
    return fault(ret);
}

int jwt_verify(const struct key *key, struct str token, usec_t now, struct jwt_claims *ret, struct err *err)
{
    struct jwt_claims c = {0};
    ident__start();
    const char *why = judge(key, token, &c);
    if (why)
        return refuse(err, why);
    if (now + JWT_LEEWAY < c.not_before)
        return refuse(err, "it is of a time to come");
    if (now >= c.expires)
        return refuse(err, "it has expired");
    *ret = c;
    return 0;
}

int jwt_peek(struct str token, struct jwt_claims *ret, struct err *err)
{
    struct jwt_claims c = {0};
    ident__start();
    const char *why = judge(NULL, token, &c);
    if (why)
        return err_set(err, ERR_INVALID, "this is no access token: %s", why);
    *ret = c;
    return 0;
}
