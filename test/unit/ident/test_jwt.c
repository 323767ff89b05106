/* SPDX-License-Identifier: Apache-2.0 */
/* Access tokens: another implementation's is read, each claim counts, and no known attack on JWT passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "ident/jwt.h"

static const char KEY_PEM[] = "-----BEGIN PRIVATE KEY-----\n"
                              "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAQIDBAUGBwgJCgsM\n"
                              "DQ4PEBESExQVFhcYGRobHB0eHyChRANCAARRXD1uueOWuQTT/sp/VP3NDMHpl783\n"
                              "XcpRWtCmw7QDX0U2vjpQ8xj7+aVHWQKiIVAr7w1X4IxTsswKVvF9n5NU\n"
                              "-----END PRIVATE KEY-----\n";

/* Made by PyJWT. */
static const char TOKEN[] = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJkYXZpdDovL2NvbnRyb2xwbGFuZSIsImF1ZCI6ImRhdml0LWx"
                            "pbmsiLCJzdWIiOiIwMTIzNDU2Ny04OWFiLWNkZWYtMDEyMy00NTY3ODlhYmNkZWYiLCJnZW4iOjcsImlhdCI6MTcwMDAwMDA"
                            "wMCwibmJmIjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwODY0MDAsImp0aSI6IjAwMTEyMjMzNDQ1NTY2Nzc4ODk5YWFiYmNjZGR"
                            "lZWZmIiwiY25mIjp7ImtpZCI6IkFBRUNBd1FGQmdjSUNRb0xEQTBPRHhBUkVoTVVGUllYR0JrYUd4d2RIaDgifX0.7AiLjo9"
                            "PFgFFeEGG1_sSnEuUOH4iuxd034m_39YRotkzgWxZLcV5rM8Qfxt9hc-50Eez2-1Bm_-nBSmO9ii30A";

/* The same claims under HS256 with the public key's PEM as secret. */
static const char TOKEN_HS256[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJkYXZpdDovL2NvbnRyb2xwbGFuZSIsImF1ZCI6ImRhdml0LWx"
    "pbmsiLCJzdWIiOiIwMTIzNDU2Ny04OWFiLWNkZWYtMDEyMy00NTY3ODlhYmNkZWYiLCJnZW4iOjcsImlhdCI6MTcwMDAwMDA"
    "wMCwibmJmIjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwODY0MDAsImp0aSI6IjAwMTEyMjMzNDQ1NTY2Nzc4ODk5YWFiYmNjZGR"
    "lZWZmIiwiY25mIjp7ImtpZCI6IkFBRUNBd1FGQmdjSUNRb0xEQTBPRHhBUkVoTVVGUllYR0JrYUd4d2RIaDgifX0.HZl89Tq"
    "MDOubFHfQt3ihym3rYXaXWXMM5kksTGa2Rk0";

#define SERVER "01234567-89ab-cdef-0123-456789abcdef"
#define T0     (1700000000 * USEC_SEC)

static struct key *key;

static int setup(void **state)
{
    (void)state;
    return key_from_pem(str_from(KEY_PEM), &key, NULL);
}

static int teardown(void **state)
{
    (void)state;
    key = key_free(key);
    return 0;
}

static struct jwt_claims good(void)
{
    struct jwt_claims c = {.subject = SERVER,
                           .id = "00112233445566778899aabbccddeeff",
                           .generation = 7,
                           .issued = T0,
                           .not_before = T0,
                           .expires = T0 + JWT_LIFE_MAX};
    for (unsigned i = 0; i < 32; i++)
        c.key_hash[i] = (uint8_t)i;
    return c;
}

static int verify(struct str token, usec_t now)
{
    struct jwt_claims c = {0};
    struct err err = ERR_INIT;
    int rc = jwt_verify(key, token, now, &c, &err);
    assert_true(rc == 0 ? c.subject[0] != '\0' : err.msg[0] != '\0' && c.subject[0] == '\0');
    return rc;
}

static void test_foreign_token_is_read(void **state)
{
    (void)state;
    struct jwt_claims c, want = good();
    assert_int_equal(jwt_verify(key, str_from(TOKEN), T0, &c, NULL), 0);
    assert_string_equal(c.subject, want.subject);
    assert_string_equal(c.id, want.id);
    assert_int_equal(c.generation, 7);
    assert_int_equal(c.issued, want.issued);
    assert_int_equal(c.not_before, want.not_before);
    assert_int_equal(c.expires, want.expires);
    assert_memory_equal(c.key_hash, want.key_hash, 32);
    assert_int_equal(jwt_peek(str_from(TOKEN), &c, NULL), 0);
    assert_int_equal(c.expires, want.expires);
}

static void test_round_trip_and_times(void **state)
{
    (void)state;
    struct jwt_claims c = good();
    AUTO_BUF t = BUF_INIT(JWT_MAX);
    assert_int_equal(jwt_make(key, &c, &t, NULL), 0);
    assert_int_equal(verify(buf_str(&t), T0), 0);
    assert_int_equal(verify(buf_str(&t), T0 + JWT_LIFE_MAX - 1), 0);
    assert_int_equal(verify(buf_str(&t), T0 + JWT_LIFE_MAX), -ERR_UNAUTHENTICATED);
    assert_int_equal(verify(buf_str(&t), T0 - JWT_LEEWAY), 0);
    assert_int_equal(verify(buf_str(&t), T0 - JWT_LEEWAY - 1), -ERR_UNAUTHENTICATED);
}

static void test_claims_that_make_no_token(void **state)
{
    (void)state;
    AUTO_BUF t = BUF_INIT(JWT_MAX);
    AUTO_BUF small = BUF_INIT(100);
    struct jwt_claims c = good();
    c.expires += USEC_SEC; /* a second over a day */
    assert_int_equal(jwt_make(key, &c, &t, NULL), -ERR_INVALID);
    c = good(), c.subject[0] = 'G';
    assert_int_equal(jwt_make(key, &c, &t, NULL), -ERR_INVALID);
    c = good(), c.subject[35] = '\0';
    assert_int_equal(jwt_make(key, &c, &t, NULL), -ERR_INVALID);
    c = good(), c.id[31] = '\0';
    assert_int_equal(jwt_make(key, &c, &t, NULL), -ERR_INVALID);
    c = good(), c.not_before = c.expires;
    assert_int_equal(jwt_make(key, &c, &t, NULL), -ERR_INVALID);
    c = good();
    assert_int_equal(jwt_make(key, &c, &small, NULL), -ERR_EXHAUSTED);
    assert_int_equal(t.len + small.len, 0);
}

/* req: CL-86 */
static void test_attacks(void **state)
{
    (void)state;
    AUTO_KEY other = NULL;
    struct jwt_claims c = good();
    const char *payload = strchr(TOKEN, '.'), *signature = strrchr(TOKEN, '.');
    AUTO_FREE char *none = str_printf("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0%.*s.", (int)(signature - payload), payload);
    AUTO_FREE char *unsigned_ = str_printf("%.*s.", (int)(signature - TOKEN), TOKEN);
    AUTO_FREE char *padded = str_printf("%s=", TOKEN);
    AUTO_FREE char *more = str_printf("%s.x", TOKEN);
    AUTO_FREE char *zeros =
        str_printf("%.*s.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                   (int)(signature - TOKEN), TOKEN);
    AUTO_FREE char *cut = str_dup((struct str){TOKEN, strlen(TOKEN) - 1});
    const char *bad[] = {TOKEN_HS256, none, unsigned_, padded, more, zeros, cut, "", ".", "..", "a.b.c"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(verify(str_from(bad[i]), T0), -ERR_UNAUTHENTICATED);
    /* Any one bit: of the header, of a claim, of the signature. */
    for (size_t i = 0; i < strlen(TOKEN); i++) {
        AUTO_FREE char *t = str_dup(str_from(TOKEN));
        t[i] = (char)(t[i] ^ 1);
        assert_int_equal(verify(str_from(t), T0), -ERR_UNAUTHENTICATED);
    }
    assert_int_equal(key_generate(&other, NULL), 0);
    AUTO_BUF t = BUF_INIT(JWT_MAX);
    assert_int_equal(jwt_make(other, &c, &t, NULL), 0);
    assert_int_equal(verify(buf_str(&t), T0), -ERR_UNAUTHENTICATED);
}

static void test_length_limit(void **state)
{
    (void)state;
    AUTO_BUF t = BUF_INIT(JWT_MAX + 1);
    assert_int_equal(buf_append_cstr(&t, TOKEN), 0);
    while (t.len <= JWT_MAX)
        assert_int_equal(buf_append_byte(&t, 'A'), 0);
    assert_int_equal(verify(buf_str(&t), T0), -ERR_UNAUTHENTICATED);
    t.len--;
    assert_int_equal(verify(buf_str(&t), T0), -ERR_UNAUTHENTICATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_token_is_read),
        cmocka_unit_test(test_round_trip_and_times),
        cmocka_unit_test(test_claims_that_make_no_token),
        cmocka_unit_test(test_attacks),
        cmocka_unit_test(test_length_limit),
    };
    return cmocka_run_group_tests_name("jwt", tests, setup, teardown);
}
