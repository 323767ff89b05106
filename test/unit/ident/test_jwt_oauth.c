/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions and access tokens of the issuer: another implementation's is read, each claim counts, times at their limits, and no known attack on
 * JWT passes. The clock is an argument. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "ident/jwt_oauth.h"

/* x of its public key begins with a zero byte: one key in 256 has such a number. */
static const char KEY_PEM[] = "-----BEGIN PRIVATE KEY-----\n"
                              "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA\n"
                              "AAAAAAAAAAAAAAAAAAAAAAAAAXuhRANCAAQAVUOJSvPQDtfXQKvb11yWsGh3t4fb\n"
                              "X3Dup4uQqNfACrtMhaPY6invqvokQGkS3YTVsU3DK/ZW72xr1YpdlD+S\n"
                              "-----END PRIVATE KEY-----\n";
#define X   "AFVDiUrz0A7X10Cr29dclrBod7eH219w7qeLkKjXwAo"
#define Y   "u0yFo9jqKe-q-iRAaRLdhNWxTcMr9lbvbGvVil2UP5I"
#define KID "7Yxe6c_3bAa6kiaK1G-BZmi9EeNsUmlcbdnrtLeuK4E" /* by python3-cryptography and hashlib */

/* Made by PyJWT. */
static const char FOREIGN[] = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9."
                              "eyJpc3MiOiJkYXZpdC1jbGkiLCJzdWIiOiJkYXZpdC1jbGkiLCJhdWQiOiJodHRwczovLzEyNy4wLjAuMTo3NDQzIiwianRpIjoiMDAxMSIsImlh"
                              "dCI6MTcwMDAwMDAwMCwiZXhwIjoxNzAwMDAwMDYwfQ."
                              "4ubMtJsmbJ_w0cyfyD2b8BvAOpHs5c_k5cLeXy5iaIjO44zlPJIlslkv6u-sW236xhg3Ram1Xjm4WxkIkyPNNQ";

#define ISSUER "https://127.0.0.1:7443"

#define T0     (1700000000 * USEC_SEC)

static struct key *key;
static struct jwk jwk;

static int setup(void **state)
{
    (void)state;
    return key_from_pem(str_from(KEY_PEM), &key, NULL) == 0 ? jwk_of_key(key, &jwk, NULL) : -1;
}

static int teardown(void **state)
{
    (void)state;
    key = key_free(key);
    return 0;
}

static const char *const audiences[] = {ISSUER, ISSUER "/oauth2/token"};
static const struct assertion_rules cli = {.client = "davit-cli", .kid = KID, .audiences = audiences, .n_audiences = 2,
                                           .life_max = ASSERTION_LIFE_MAX};
static const struct assertion_rules stored = {.client = "davit-cli", .audiences = audiences, .n_audiences = 2, .life_max = ASSERTION_LIFE_STORED,
                                              .bound = true};

/* "" or why it is refused. Static until the next call. */
static const char *judge_by(struct str text, const struct assertion_rules *rules, usec_t now)
{
    static struct err err;
    static struct jws jws;
    struct oauth_claims c;
    err = ERR_INIT;
    int rc = assertion_read(text, &jws, &c, &err);
    if (rc == 0)
        rc = assertion_judge(&jws, &c, &jwk, rules, now, &err);
    assert_int_equal(rc == 0, err.msg[0] == '\0');
    return err.msg;
}

static const char *judge(const char *text, usec_t now)
{
    return judge_by(str_from(text), &cli, now);
}

/* The claims @json under our signature. */
static const char *judge_claims(const char *json, const struct assertion_rules *rules, usec_t now)
{
    AUTO_BUF t = BUF_INIT(JWS_MAX);
    assert_int_equal(jws_make(key, NULL, NULL, str_from(json), &t, NULL), 0);
    return judge_by(buf_str(&t), rules, now);
}

/* @header, which jws_make would not write, before the rest of FOREIGN. */
static char *with_header(const char *header)
{
    AUTO_FREE char *h = str_base64url(header, strlen(header));
    return str_printf("%s%s", h, strchr(FOREIGN, '.'));
}

static void test_keys(void **state)
{
    (void)state;
    struct jwk k;
    char kid[JWK_THUMBPRINT_SIZE];
    AUTO_BUF text = BUF_INIT(JWK_MAX);
    struct jsonw w;
    jsonw_init(&w, &text);
    jwk_write(&jwk, &w);
    assert_int_equal(jsonw_end(&w), 0);
    assert_string_equal(buf_cstr(&text), "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y
                                         "\",\"use\":\"sig\",\"alg\":\"ES256\",\"kid\":\"" KID "\"}");
    jwk_thumbprint(&jwk, kid);
    assert_string_equal(kid, KID);
    assert_int_equal(jwk_parse(buf_str(&text), &k, NULL), 0);
    assert_memory_equal(&k, &jwk, sizeof(k));
#define EC "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
    const char *bad[] = {"",
                         "{}",
                         EC "\"" X "\"}",
                         EC "\"VUOJSvPQDtfXQKvb11yWsGh3t4fbX3Dup4uQqNfACg\",\"y\":\"" Y "\"}", /* without its zero */
                         EC "\"" X "\",\"y\":\"" X "\"}",                                         /* no point of the curve */
                         EC "\"" X "\",\"y\":\"" Y "\",\"d\":\"" X "\"}",
                         EC "\"" X "\",\"x\":\"" X "\",\"y\":\"" Y "\"}",
                         EC "\"" X "\",\"y\":\"" Y "\"} x",
                         "{\"kty\":\"RSA\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\"}",
                         "{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"" X "\",\"y\":\"" Y "\"}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(jwk_parse(str_from(bad[i]), &k, NULL), -ERR_INVALID);
}

/* req: CW-7 */
static void test_foreign_assertion_is_read(void **state)
{
    (void)state;
    struct jws jws;
    struct oauth_claims c;
    assert_int_equal(assertion_read(str_from(FOREIGN), &jws, &c, NULL), 0);
    assert_string_equal(c.issuer, "davit-cli");
    assert_string_equal(c.audience, ISSUER);
    assert_string_equal(c.id, "0011");
    assert_int_equal(c.expires, T0 + 60 * USEC_SEC);
    assert_string_equal(judge(FOREIGN, T0), "");
}

/* req: CW-117 */
static void test_times_at_their_limits(void **state)
{
    (void)state;
    AUTO_BUF t = BUF_INIT(JWS_MAX), far = BUF_INIT(JWS_MAX);
    assert_string_equal(judge(FOREIGN, T0 - ASSERTION_SKEW), "");
    assert_string_equal(judge(FOREIGN, T0 - ASSERTION_SKEW - 1), "Token used before issued");
    assert_string_equal(judge(FOREIGN, T0 + 60 * USEC_SEC - 1), "");
    assert_string_equal(judge(FOREIGN, T0 + 60 * USEC_SEC), "it has expired");
    assert_int_equal(assertion_make(key, "davit-cli", ISSUER, "x", T0, ASSERTION_LIFE_MAX, &t, NULL), 0);
    assert_string_equal(judge_by(buf_str(&t), &cli, T0), "");
    assert_int_equal(assertion_make(key, "davit-cli", ISSUER, "x", T0, ASSERTION_LIFE_MAX + USEC_SEC, &far, NULL), 0);
    assert_string_equal(judge_by(buf_str(&far), &cli, T0), "exp is too far ahead");
    /* Issued long ago, for long: no way around it. */
    assert_string_equal(judge_claims("{\"iss\":\"davit-cli\",\"sub\":\"davit-cli\",\"aud\":\"" ISSUER
                                     "\",\"jti\":\"1\",\"iat\":1600000000,\"exp\":1700000030}",
                                     &cli, T0),
                        "exp is too far ahead");
    assert_string_equal(judge_claims("{\"iss\":\"davit-cli\",\"sub\":\"davit-cli\",\"aud\":\"" ISSUER
                                     "\",\"jti\":\"1\",\"iat\":1700000000,\"nbf\":1700000011,\"exp\":1700000030}",
                                     &cli, T0),
                        "Token used before issued");
}

#define WHO   "\"iss\":\"davit-cli\",\"sub\":\"davit-cli\""
#define WHEN  "\"iat\":1700000000,\"exp\":1700000060"
#define GOOD  WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"1\"," WHEN
#define LONG_ "\"iat\":1700000000,\"exp\":1700086400"
#define CNF   "\"cnf\":{\"x5t#S256\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}"
#define BOX   "\"container\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\""

/* req: CW-7 */
static void test_each_claim_counts(void **state)
{
    (void)state;
    const struct {
        const char *claims, *why;
    } all[] = {
        {"{" GOOD "}", ""},
        {"{" GOOD ",\"more\":{\"a\":[1]}}", ""},
        {"{" WHO ",\"aud\":[\"" ISSUER "/oauth2/token\"],\"jti\":\"1\"," WHEN "}", ""},
        {"{" WHO ",\"aud\":[\"" ISSUER "\",\"https://evil.example\"],\"jti\":\"1\"," WHEN "}", "its claims are malformed"},
        {"{" WHO ",\"aud\":[],\"jti\":\"1\"," WHEN "}", "its claims are malformed"},
        {"{" WHO ",\"aud\":\"" ISSUER "/\",\"jti\":\"1\"," WHEN "}", "aud is not this issuer"},
        {"{" WHO ",\"aud\":\"https://127.0.0.1:7444\",\"jti\":\"1\"," WHEN "}", "aud is not this issuer"},
        {"{" WHO ",\"jti\":\"1\"," WHEN "}", "it has no aud"},
        {"{" WHO ",\"aud\":\"" ISSUER "\"," WHEN "}", "it has no jti"},
        {"{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"\"," WHEN "}", "its claims are malformed"},
        {"{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":null," WHEN "}", "its claims are malformed"},
        {"{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"a\\u0000b\"," WHEN "}", "its claims are malformed"},
        {"{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"1\",\"iat\":1700000000}", "it has no exp"},
        {"{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"1\",\"exp\":1700000060}", "it has no iat"},
        {"{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"1\",\"iat\":-1,\"exp\":1700000060}", "its claims are malformed"},
        {"{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"1\",\"iat\":1700000000,\"exp\":1e30}", "its claims are malformed"},
        {"{" GOOD ",\"jti\":\"2\"}", "its claims are malformed"},
        {"{\"iss\":\"davit-cli\",\"sub\":\"other\",\"aud\":\"" ISSUER "\",\"jti\":\"1\"," WHEN "}", "iss and sub are not this client"},
        {"{\"iss\":\"other\",\"sub\":\"davit-cli\",\"aud\":\"" ISSUER "\",\"jti\":\"1\"," WHEN "}", "iss and sub are not this client"},
        {"[]", "its claims are malformed"},
        {"{" GOOD "} {}", "its claims are malformed"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        assert_string_equal(judge_claims(all[i].claims, &cli, T0), all[i].why);
}

static void test_bound_ones_for_later(void **state)
{
    (void)state;
    const char who[] = WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"1\"," LONG_;
    AUTO_FREE char *good = str_printf("{%s," CNF "," BOX "}", who);
    AUTO_FREE char *unbound = str_printf("{%s," BOX "}", who);
    AUTO_FREE char *short_ = str_printf("{%s,\"cnf\":{\"x5t#S256\":\"AAEC\"}," BOX "}", who);
    AUTO_FREE char *nowhere = str_printf("{%s," CNF "}", who);
    AUTO_FREE char *elsewhere = str_printf("{%s," CNF ",\"container\":\"0123\"}", who);
    assert_string_equal(judge_claims(good, &stored, T0), "");
    assert_string_equal(judge_claims(good, &stored, T0 + USEC_DAY - 1), "");
    assert_string_equal(judge_claims(good, &stored, T0 + USEC_DAY), "it has expired");
    assert_string_equal(judge_claims(good, &cli, T0), "exp is too far ahead");
    assert_string_equal(judge_claims(short_, &stored, T0), "its claims are malformed");
    const char *bad[] = {unbound, nowhere, elsewhere};
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(judge_claims(bad[i], &stored, T0), "it is not bound to a certificate and a container");
}

/* req: CW-7 SA-7 */
static void test_attacks(void **state)
{
    (void)state;
    const char *const headers[] = {
        "{\"alg\":\"none\"}", "{\"alg\":\"HS256\"}", "{\"alg\":\"RS256\"}", "{\"alg\":\"ES384\"}", "{\"alg\":\"es256\"}", "{\"alg\":null}", "{}",
        "{\"typ\":\"JWT\"}", "{\"alg\":\"ES256\",\"alg\":\"ES256\"}", "{\"alg\":\"ES256\",\"crit\":[\"exp\"]}", "{\"alg\":\"ES256\",\"b64\":false}",
        "{\"alg\":\"ES256\",\"kid\":\"\"}", "{\"alg\":\"ES256\"", "[\"ES256\"]", "{\"alg\":\"ES256\"} x",
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        AUTO_FREE char *t = with_header(headers[i]);
        assert_string_not_equal(judge(t, T0), "");
        assert_string_not_equal(judge(t, T0), "its signature does not hold"); /* never so far */
    }
    AUTO_FREE char *jwk_inside = with_header("{\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\"}}");
    assert_string_equal(judge(jwk_inside, T0), "its signature does not hold");
    const char *signature = strrchr(FOREIGN, '.');
    int body = (int)(signature - FOREIGN);
    AUTO_FREE char *unsigned_ = str_printf("%.*s.", body, FOREIGN);
    AUTO_FREE char *two = str_printf("%.*s", body, FOREIGN);
    AUTO_FREE char *padded = str_printf("%s=", FOREIGN);
    AUTO_FREE char *more = str_printf("%s.x", FOREIGN);
    AUTO_FREE char *zeros = str_printf("%.*s.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", body, FOREIGN);
    const char *bad[] = {unsigned_, two, padded, more, zeros, "", ".", "..", "a.b.c"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_string_not_equal(judge(bad[i], T0), "");
    /* The key of another. */
    AUTO_KEY other = NULL;
    AUTO_BUF t = BUF_INIT(JWS_MAX);
    assert_int_equal(key_generate(&other, NULL), 0);
    assert_int_equal(assertion_make(other, "davit-cli", ISSUER, "x", T0, ASSERTION_LIFE_MAX, &t, NULL), 0);
    assert_string_equal(judge_by(buf_str(&t), &cli, T0), "kid is not that of this client's key");
    buf_release(&t);
    assert_int_equal(jws_make(other, "JWT", NULL, STR("{" GOOD "}"), &t, NULL), 0);
    assert_string_equal(judge_by(buf_str(&t), &cli, T0), "its signature does not hold");
    buf_release(&t);
    assert_int_equal(jws_make(other, "JWT", KID, STR("{" GOOD "}"), &t, NULL), 0);
    assert_string_equal(judge_by(buf_str(&t), &cli, T0), "its signature does not hold");
}

static void test_lengths(void **state)
{
    (void)state;
    AUTO_BUF out = BUF_INIT(2 * JWS_MAX), small = BUF_INIT(64);
    AUTO_FREE char *id = str_printf("%0128d", 1);
    AUTO_FREE char *long_id = str_printf("%0129d", 1);
    AUTO_FREE char *fill = str_printf("%0*d", JWS_PAYLOAD_MAX, 1);
    AUTO_FREE char *over = str_printf("%0*d", JWS_PAYLOAD_MAX + 1, 1);
    AUTO_FREE char *text = str_printf("%0*d", JWS_MAX + 1, 1);
    AUTO_FREE char *a = str_printf("{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"%s\"," WHEN "}", id);
    AUTO_FREE char *b = str_printf("{" WHO ",\"aud\":\"" ISSUER "\",\"jti\":\"%s\"," WHEN "}", long_id);
    assert_string_equal(judge_claims(a, &cli, T0), "");
    assert_string_equal(judge_claims(b, &cli, T0), "its claims are malformed");
    assert_int_equal(assertion_make(key, "davit-cli", ISSUER, long_id, T0, USEC_SEC, &out, NULL), -ERR_INVALID);
    assert_int_equal(jws_make(key, NULL, NULL, str_from(fill), &out, NULL), 0);
    assert_int_equal(jws_make(key, NULL, NULL, str_from(over), &out, NULL), -ERR_EXHAUSTED);
    assert_int_equal(jws_make(key, NULL, NULL, STR("{}"), &small, NULL), -ERR_EXHAUSTED);
    assert_string_equal(judge(text, T0), "its length");
}

/* --- Access tokens --- */

static struct oauth_claims token_claims(void)
{
    struct oauth_claims c = {.issuer = ISSUER, .audience = ISSUER, .subject = "davit-cli", .client = "davit-cli", .id = "00ff", .scope = "admin",
                             .issued = T0, .expires = T0 + 300 * USEC_SEC, .bound = true};
    for (unsigned i = 0; i < OAUTH_X5T_SIZE; i++)
        c.certificate[i] = (uint8_t)i;
    return c;
}

static int verify(struct str token, usec_t now)
{
    struct oauth_claims c = {0};
    struct err err = ERR_INIT;
    int rc = access_verify(&jwk, token, ISSUER, now, &c, &err);
    assert_true(rc == 0 ? c.subject[0] != '\0' : rc == -ERR_UNAUTHENTICATED && err.msg[0] != '\0' && c.subject[0] == '\0');
    return rc;
}

/* req: CW-8 */
static void test_access_tokens(void **state)
{
    (void)state;
    struct oauth_claims c = token_claims(), back;
    AUTO_BUF t = BUF_INIT(JWS_MAX), bad = BUF_INIT(JWS_MAX);
    assert_int_equal(access_make(key, &c, &t, NULL), 0);
    assert_int_equal(access_verify(&jwk, buf_str(&t), ISSUER, T0, &back, NULL), 0);
    assert_string_equal(back.scope, "admin");
    assert_memory_equal(back.certificate, c.certificate, OAUTH_X5T_SIZE);
    assert_int_equal(verify(buf_str(&t), T0 + 300 * USEC_SEC - 1), 0);
    assert_int_equal(verify(buf_str(&t), T0 + 300 * USEC_SEC), -ERR_UNAUTHENTICATED);
    assert_int_equal(verify(buf_str(&t), T0 - ASSERTION_SKEW), 0);
    assert_int_equal(verify(buf_str(&t), T0 - ASSERTION_SKEW - 1), -ERR_UNAUTHENTICATED);
    assert_int_equal(verify(str_from(FOREIGN), T0), -ERR_UNAUTHENTICATED); /* an assertion is no token */
    assert_int_equal(access_verify(&jwk, buf_str(&t), "https://127.0.0.1:7444", T0, &back, NULL), -ERR_UNAUTHENTICATED);
    c.bound = false;
    assert_int_equal(access_make(key, &c, &bad, NULL), -ERR_INVALID);
    /* Another key, the same claims. */
    AUTO_KEY other = NULL;
    struct jwk its;
    assert_int_equal(key_generate(&other, NULL), 0);
    assert_int_equal(jwk_of_key(other, &its, NULL), 0);
    assert_int_equal(access_verify(&its, buf_str(&t), ISSUER, T0, &back, NULL), -ERR_UNAUTHENTICATED);
    /* Each byte counts. */
    for (size_t i = 0; i < t.len; i += 7) {
        char was = t.data[i];
        t.data[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(verify(buf_str(&t), T0), -ERR_UNAUTHENTICATED);
        t.data[i] = was;
    }
}

/* req: CW-8 */
static void test_access_tokens_of_another_shape(void **state)
{
    (void)state;
#define REST "\"sub\":\"davit-cli\",\"client_id\":\"davit-cli\",\"jti\":\"1\"," WHEN
#define ISS  "\"iss\":\"" ISSUER "\",\"aud\":\"" ISSUER "\","
    const struct {
        const char *type, *kid, *claims;
        bool ok;
    } all[] = {
        {"at+jwt", KID, "{" ISS REST ",\"scope\":\"admin\"," CNF "}", true},
        {"JWT", KID, "{" ISS REST ",\"scope\":\"admin\"," CNF "}", false},
        {NULL, KID, "{" ISS REST ",\"scope\":\"admin\"," CNF "}", false},
        {"at+jwt", NULL, "{" ISS REST ",\"scope\":\"admin\"," CNF "}", false},
        {"at+jwt", "x", "{" ISS REST ",\"scope\":\"admin\"," CNF "}", false},
        {"at+jwt", KID, "{" ISS REST "," CNF "}", false},
        {"at+jwt", KID, "{" ISS REST ",\"scope\":\"admin\"}", false},
        {"at+jwt", KID, "{" ISS REST ",\"scope\":\"admin\",\"cnf\":{}}", false},
        {"at+jwt", KID, "{" ISS REST ",\"scope\":\"admin\",\"cnf\":{\"jkt\":\"x\"}}", false},
        {"at+jwt", KID, "{\"iss\":\"" ISSUER "\",\"aud\":\"https://other\"," REST ",\"scope\":\"admin\"," CNF "}", false},
        {"at+jwt", KID, "{\"iss\":\"https://other\",\"aud\":\"" ISSUER "\"," REST ",\"scope\":\"admin\"," CNF "}", false},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        AUTO_BUF t = BUF_INIT(JWS_MAX);
        assert_int_equal(jws_make(key, all[i].type, all[i].kid, str_from(all[i].claims), &t, NULL), 0);
        assert_int_equal(verify(buf_str(&t), T0) == 0, all[i].ok);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_foreign_assertion_is_read),
        cmocka_unit_test(test_times_at_their_limits),
        cmocka_unit_test(test_each_claim_counts),
        cmocka_unit_test(test_bound_ones_for_later),
        cmocka_unit_test(test_attacks),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_access_tokens),
        cmocka_unit_test(test_access_tokens_of_another_shape),
    };
    return cmocka_run_group_tests_name("jwt_oauth", tests, setup, teardown);
}
