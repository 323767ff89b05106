/* SPDX-License-Identifier: Apache-2.0 */
/* jws — see jws.h. */
#include "ident/jws.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "base/mem.h"
#include "ident/ident_internal.h"

enum { POINT_BYTES = 1 + 2 * JWK_NUMBER, HEADER_MAX = 512 };

/* --- Keys --- */

/* The key as OpenSSL has it; NULL: this is no point of the curve. */
static EVP_PKEY *pkey_of(const struct jwk *jwk)
{
    uint8_t point[POINT_BYTES] = {4}; /* not compressed */
    char group[] = "prime256v1";
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    memcpy(point + 1, jwk->x, JWK_NUMBER);
    memcpy(point + 1 + JWK_NUMBER, jwk->y, JWK_NUMBER);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                           OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)), OSSL_PARAM_construct_end()};
    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    if (pkey && !ident__is_p256(pkey)) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    ERR_clear_error();
    return pkey;
}

int jwk_of_key(const struct key *key, struct jwk *ret, struct err *err)
{
    uint8_t point[POINT_BYTES];
    size_t n = 0;
    ident__start();
    if (!ident__is_p256(key->pkey))
        return err_set(err, ERR_INVALID, "the key is not P-256");
    if (EVP_PKEY_get_octet_string_param(key->pkey, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &n) != 1 || n != sizeof(point) || point[0] != 4)
        return ident__fail(err, ERR_INTERNAL, "the public key cannot be read");
    memcpy(ret->x, point + 1, JWK_NUMBER);
    memcpy(ret->y, point + 1 + JWK_NUMBER, JWK_NUMBER);
    return 0;
}

/* A string of JSON, wanted literally or decoded to exactly 32 bytes. */
static bool read_member(struct json *j, const char *want, uint8_t *number)
{
    struct str s;
    size_t n = 0;
    if (json_read_str(j, &s, NULL) < 0)
        return false;
    if (want)
        return str_eq(s, str_from(want));
    return ident__unbase64url(s, number, JWK_NUMBER, &n) && n == JWK_NUMBER;
}

static bool read_jwk(struct json *j, struct jwk *ret)
{
    static const char *const names[] = {"kty", "crv", "x", "y"};
    const char *const want[] = {"EC", "P-256", NULL, NULL};
    uint8_t *const number[] = {NULL, NULL, ret->x, ret->y};
    unsigned seen = 0;
    struct str name;
    enum json_type end = JSON_NULL;
    int rc = json_enter(j, JSON_OBJECT, NULL);
    while (rc == 0 && (rc = json_key(j, &name, NULL)) == 1) {
        size_t k = 0;
        while (k < ARRAY_LEN(names) && !str_eq(name, str_from(names[k])))
            k++;
        if (str_eq(name, STR("d")) || (k < ARRAY_LEN(names) && (seen & 1u << k)))
            return false;
        seen |= k < ARRAY_LEN(names) ? 1u << k : 0;
        rc = k == ARRAY_LEN(names) ? json_skip(j, NULL) : read_member(j, want[k], number[k]) ? 0 : -(int)ERR_INVALID;
    }
    return rc == 0 && json_next(j, &end, NULL) == 0 && end == JSON_END && seen == 15;
}

int jwk_parse(struct str json, struct jwk *ret, struct err *err)
{
    struct jwk k = {0};
    AUTO_JSON j;
    ident__start();
    json_init(&j, json);
    if (json.n > JWK_MAX || !read_jwk(&j, &k))
        return err_set(err, ERR_INVALID, "this is no public key on P-256 as JSON");
    EVP_PKEY *pkey = pkey_of(&k);
    if (!pkey)
        return err_set(err, ERR_INVALID, "this public key is no point of P-256");
    EVP_PKEY_free(pkey);
    *ret = k;
    return 0;
}

void jwk_thumbprint(const struct jwk *jwk, char ret[JWK_THUMBPRINT_SIZE])
{
    uint8_t hash[32];
    AUTO_FREE char *x = str_base64url(jwk->x, JWK_NUMBER);
    AUTO_FREE char *y = str_base64url(jwk->y, JWK_NUMBER);
    AUTO_FREE char *text = str_printf("{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x, y);
    ident__start();
    BUG_ON(EVP_Digest(text, strlen(text), hash, NULL, EVP_sha256(), NULL) != 1);
    AUTO_FREE char *name = str_base64url(hash, sizeof(hash));
    BUG_ON(str_copy(ret, JWK_THUMBPRINT_SIZE, str_from(name)) != 0);
}

void jwk_write(const struct jwk *jwk, struct jsonw *w)
{
    char kid[JWK_THUMBPRINT_SIZE];
    AUTO_FREE char *x = str_base64url(jwk->x, JWK_NUMBER);
    AUTO_FREE char *y = str_base64url(jwk->y, JWK_NUMBER);
    jwk_thumbprint(jwk, kid);
    jsonw_object(w);
    jsonw_key(w, "kty"), jsonw_string(w, "EC");
    jsonw_key(w, "crv"), jsonw_string(w, "P-256");
    jsonw_key(w, "x"), jsonw_string(w, x);
    jsonw_key(w, "y"), jsonw_string(w, y);
    jsonw_key(w, "use"), jsonw_string(w, "sig");
    jsonw_key(w, "alg"), jsonw_string(w, "ES256");
    jsonw_key(w, "kid"), jsonw_string(w, kid);
    jsonw_object_end(w);
}

/* --- Signed texts --- */

static bool read_short(struct json *j, char *dst, size_t size)
{
    struct str s;
    return json_read_str(j, &s, NULL) == 0 && s.n > 0 && s.n < size && !memchr(s.p, 0, s.n) && str_copy(dst, size, s) == 0;
}

/* NULL, or what is wrong. */
static const char *read_header(struct str text, struct jws *ret)
{
    static const char *const names[] = {"alg", "typ", "kid"};
    unsigned seen = 0;
    struct str name;
    enum json_type end = JSON_NULL;
    AUTO_JSON j;
    json_init(&j, text);
    int rc = json_enter(&j, JSON_OBJECT, NULL);
    while (rc == 0 && (rc = json_key(&j, &name, NULL)) == 1) {
        size_t k = 0;
        while (k < ARRAY_LEN(names) && !str_eq(name, str_from(names[k])))
            k++;
        if (k < ARRAY_LEN(names) && (seen & 1u << k))
            return "its header says something twice";
        seen |= k < ARRAY_LEN(names) ? 1u << k : 0;
        if (str_eq(name, STR("crit")) || str_eq(name, STR("b64")) || str_eq(name, STR("zip")) || str_eq(name, STR("enc")))
            return "its header asks for what is not done here";
        if (k == 0 && !read_member(&j, "ES256", NULL))
            return "its algorithm is not ES256";
        rc = k == 0 ? 0 : k == 1 ? (read_short(&j, ret->type, sizeof(ret->type)) ? 0 : -1)
                        : k == 2 ? (read_short(&j, ret->kid, sizeof(ret->kid)) ? 0 : -1) : json_skip(&j, NULL);
    }
    if (rc != 0 || json_next(&j, &end, NULL) < 0 || end != JSON_END)
        return "its header is malformed";
    return seen & 1 ? NULL : "its header names no algorithm";
}

/* NULL, or what is wrong. */
static const char *take_apart(struct str text, struct jws *ret)
{
    char bytes[HEADER_MAX];
    size_t n = 0;
    struct str rest = text, header, payload;
    if (text.n == 0 || text.n > JWS_MAX)
        return "its length";
    header = str_cut(&rest, '.');
    payload = str_cut(&rest, '.');
    if (!header.n || !payload.n || !rest.n)
        return "it has not the three parts of a signed token";
    ret->input = (struct str){text.p, header.n + 1 + payload.n};
    if (!ident__unbase64url(header, bytes, sizeof(bytes), &n))
        return "its header is malformed";
    const char *why = read_header((struct str){bytes, n}, ret);
    if (why)
        return why;
    if (!ident__unbase64url(rest, ret->signature, sizeof(ret->signature), &n) || n != sizeof(ret->signature))
        return "its signature is malformed";
    return ident__unbase64url(payload, ret->payload, sizeof(ret->payload), &ret->payload_len) ? NULL : "its claims are malformed";
}

int jws_read(struct str text, struct jws *ret, struct err *err)
{
    memset(ret, 0, sizeof(*ret));
    const char *why = take_apart(text, ret);
    return why ? err_set(err, ERR_INVALID, "%s", why) : 0;
}

bool jws_holds(const struct jws *jws, const struct jwk *jwk)
{
    ident__start();
    EVP_PKEY *pkey = pkey_of(jwk);
    bool ok = pkey && ident__es256_holds(pkey, jws->input, jws->signature);
    EVP_PKEY_free(pkey);
    return ok;
}

static int write_header(const char *type, const char *kid, struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_object(&w);
    jsonw_key(&w, "alg"), jsonw_string(&w, "ES256");
    if (type)
        jsonw_key(&w, "typ"), jsonw_string(&w, type);
    if (kid)
        jsonw_key(&w, "kid"), jsonw_string(&w, kid);
    jsonw_object_end(&w);
    return jsonw_end(&w);
}

int jws_make(const struct key *key, const char *type, const char *kid, struct str payload, struct buf *out, struct err *err)
{
    AUTO_BUF header = BUF_INIT(HEADER_MAX), text = BUF_INIT(JWS_MAX);
    uint8_t raw[ES256_SIGNATURE_SIZE];
    ident__start();
    if (!ident__is_p256(key->pkey))
        return err_set(err, ERR_INVALID, "the key is not P-256");
    if (payload.n > JWS_PAYLOAD_MAX || write_header(type, kid, &header) < 0 || ident__base64url(&text, header.data, header.len) < 0 ||
        buf_append_byte(&text, '.') < 0 || ident__base64url(&text, payload.p, payload.n) < 0)
        return err_set(err, ERR_EXHAUSTED, "what is to be signed is too long");
    if (!ident__es256_sign(key->pkey, buf_str(&text), raw))
        return ident__fail(err, ERR_INTERNAL, "the token cannot be signed");
    if (buf_append_byte(&text, '.') < 0 || ident__base64url(&text, raw, sizeof(raw)) < 0 || buf_append_str(out, buf_str(&text)) < 0)
        return err_set(err, ERR_EXHAUSTED, "no room for the token");
    return 0;
}
