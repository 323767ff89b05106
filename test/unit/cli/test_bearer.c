/* SPDX-License-Identifier: Apache-2.0 */
/* What an issuer may answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "cli/cli.h"

/* "" where it is refused. */
static const char *parse(const char *json, usec_t *ret_life)
{
    static char token[BEARER_TOKEN_MAX + 1];
    struct secret *secret = NULL;
    struct err err = ERR_INIT;
    token[0] = '\0';
    *ret_life = 0;
    if (bearer_parse(str_from(json), &secret, ret_life, &err) == 0)
        (void)str_copy(token, sizeof(token), secret_reveal(secret));
    else
        assert_int_equal(err.code, ERR_INVALID);
    (void)secret_free(secret);
    return token;
}

/* req: CW-7 SA-7 */
static void test_answers(void **state)
{
    usec_t life;
    (void)state;
    assert_string_equal(parse("{\"access_token\":\"a.b.c\",\"token_type\":\"Bearer\",\"expires_in\":300,\"scope\":\"admin\"}", &life), "a.b.c");
    assert_int_equal(life, 300 * USEC_SEC);
    assert_string_equal(parse("{\"expires_in\":99999999999,\"token_type\":\"bearer\",\"more\":[{}],\"access_token\":\"a\"}", &life), "a");
    assert_int_equal(life, BEARER_LIFE_MAX);
    const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"access_token\":\"a\",\"token_type\":\"Bearer\"}",
        "{\"access_token\":\"a\",\"token_type\":\"Bearer\",\"expires_in\":0}",
        "{\"access_token\":\"a\",\"token_type\":\"Bearer\",\"expires_in\":-1}",
        "{\"access_token\":\"a\",\"token_type\":\"mac\",\"expires_in\":300}",
        "{\"access_token\":\"a\",\"expires_in\":300}",
        "{\"access_token\":\"\",\"token_type\":\"Bearer\",\"expires_in\":300}",
        "{\"access_token\":\"a\\r\\nx: y\",\"token_type\":\"Bearer\",\"expires_in\":300}",
        "{\"access_token\":\"a b\",\"token_type\":\"Bearer\",\"expires_in\":300}",
        "{\"access_token\":null,\"token_type\":\"Bearer\",\"expires_in\":300}",
        "{\"access_token\":\"a\",\"token_type\":\"Bearer\",\"expires_in\":300} x",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_string_equal(parse(bad[i], &life), "");
}

static void test_length(void **state)
{
    usec_t life;
    (void)state;
    AUTO_FREE char *fits = str_printf("{\"token_type\":\"Bearer\",\"expires_in\":1,\"access_token\":\"%0*d\"}", (int)BEARER_TOKEN_MAX, 1);
    AUTO_FREE char *over = str_printf("{\"token_type\":\"Bearer\",\"expires_in\":1,\"access_token\":\"%0*d\"}", (int)BEARER_TOKEN_MAX + 1, 1);
    assert_int_equal(strlen(parse(fits, &life)), BEARER_TOKEN_MAX);
    assert_string_equal(parse(over, &life), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers), cmocka_unit_test(test_length)};
    return cmocka_run_group_tests_name("bearer", tests, NULL, NULL);
}
