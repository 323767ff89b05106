/* SPDX-License-Identifier: Apache-2.0 */
/* Join tokens: round trip, and what is said about each way of pasting one wrongly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ident/token.h"

#define ID "abcdefgh27"
#define S43 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define P43 "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA"
#define GOOD "davit1." ID "." S43 "." P43

static const struct {
    const char *text;
    enum token_fault fault;
} CASES[] = {
    {GOOD, TOKEN_OK},
    {"  " GOOD "\t", TOKEN_OK},
    {GOOD "\n", TOKEN_OK},
    {GOOD "\r\n", TOKEN_OK},
    {"", TOKEN_EMPTY},
    {"   ", TOKEN_EMPTY},
    {"\n", TOKEN_EMPTY},
    {"d", TOKEN_TRUNCATED},
    {"davit", TOKEN_TRUNCATED},
    {"davit1", TOKEN_TRUNCATED},
    {"davit1.", TOKEN_TRUNCATED},
    {"davit1.abc", TOKEN_TRUNCATED},
    {"davit1." ID, TOKEN_TRUNCATED},
    {"davit1." ID ".", TOKEN_TRUNCATED},
    {"davit1." ID "." "AAEC", TOKEN_TRUNCATED},
    {"davit1." ID "." S43, TOKEN_TRUNCATED},
    {"davit1." ID "." S43 ".", TOKEN_TRUNCATED},
    {"davit1." ID "." S43 "." "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4e", TOKEN_TRUNCATED},
    {"hello", TOKEN_WRONG_PREFIX},
    {"davit2." ID "." S43 "." P43, TOKEN_WRONG_PREFIX},
    {"davit0." ID "." S43 "." P43, TOKEN_WRONG_PREFIX},
    {"Davit1." ID "." S43 "." P43, TOKEN_WRONG_PREFIX},
    {"davit1 ." ID "." S43 "." P43, TOKEN_WRONG_PREFIX},
    {"davit11." ID "." S43 "." P43, TOKEN_WRONG_PREFIX},
    {ID "." S43 "." P43, TOKEN_WRONG_PREFIX},
    {"davit1:" ID ":" S43 ":" P43, TOKEN_WRONG_PREFIX},
    {"DOCKPAL_TOKEN=abcdef", TOKEN_WRONG_PREFIX},
    {"\"" GOOD "\"", TOKEN_WRONG_PREFIX},
    {"davit1." "abcdefgh2" "." S43 "." P43, TOKEN_WRONG_LENGTH},
    {"davit1." ID "a." S43 "." P43, TOKEN_WRONG_LENGTH},
    {"davit1.." S43 "." P43, TOKEN_WRONG_LENGTH},
    {"davit1." ID "..", TOKEN_WRONG_LENGTH},
    {"davit1." ID "." "AAEC" "." P43, TOKEN_WRONG_LENGTH},
    {"davit1." ID "." S43 "A." P43, TOKEN_WRONG_LENGTH},
    {GOOD "A", TOKEN_WRONG_LENGTH},
    {GOOD ".", TOKEN_WRONG_LENGTH},
    {GOOD "." S43, TOKEN_WRONG_LENGTH},
    {"davit1." "ABCDEFGH27" "." S43 "." P43, TOKEN_BAD_CHARACTER},
    {"davit1." "abcdefgh01" "." S43 "." P43, TOKEN_BAD_CHARACTER},
    {"davit1." ID "." "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+" "." P43, TOKEN_BAD_CHARACTER},
    {"davit1." ID "." "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh/" "." P43, TOKEN_BAD_CHARACTER},
    {"davit1." ID "." "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9" "." P43, TOKEN_BAD_CHARACTER}, /* stray bits */
    {"davit1." ID "." "AAECAwQFBgcICQoL DA0ODxAREhMUFRYXGBkaGxwdHh" "." P43, TOKEN_BAD_CHARACTER},
    {"davit1." ID "." "AAECAwQFBgcICQoL\nDA0ODxAREhMUFRYXGBkaGxwdHh" "." P43, TOKEN_BAD_CHARACTER},
    {"davit1." ID "." S43 "." "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4e=", TOKEN_BAD_CHARACTER},
    {"davit1." ID "." S43 "." "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eB", TOKEN_BAD_CHARACTER},
    {GOOD "\"", TOKEN_BAD_CHARACTER},
    {GOOD " " GOOD, TOKEN_WRONG_LENGTH},
    {"davit1." ID "." S43 "." "\xc3\xbc", TOKEN_BAD_CHARACTER},
};

static void test_parse_table(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(CASES) >= 40);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct join_token token = {0};
        struct err err = ERR_INIT;
        enum token_fault fault = TOKEN_FAULT_MAX;
        int rc = join_token_parse(str_from(CASES[i].text), &token, &fault, &err);
        if (fault != CASES[i].fault)
            print_message("case %zu: %s -> %d, expected %d\n", i, CASES[i].text, (int)fault, (int)CASES[i].fault);
        assert_int_equal(fault, CASES[i].fault);
        assert_int_equal(rc, CASES[i].fault == TOKEN_OK ? 0 : -ERR_INVALID);
        if (rc == 0) {
            assert_string_equal(token.id, ID);
            assert_int_equal(secret_reveal(token.secret).p[31], 31);
            assert_int_equal(token.pin[31], 0xe0);
            join_token_release(&token);
            join_token_release(&token);
        } else {
            assert_null(token.secret);
            assert_true(err.msg[0] && err.hint[0]);
            assert_null(strstr(err.msg, "AAEC"));
            assert_null(strstr(err.hint, "AAEC"));
        }
    }
}

/* Every cut of a good token says that it is cut, whichever byte was the last. */
static void test_every_prefix_is_truncated(void **state)
{
    (void)state;
    for (size_t n = 1; n < sizeof(GOOD) - 1; n++) {
        enum token_fault fault;
        assert_int_equal(join_token_parse((struct str){GOOD, n}, &(struct join_token){0}, &fault, NULL), -ERR_INVALID);
        assert_int_equal(fault, TOKEN_TRUNCATED);
    }
}

static void test_nul_inside(void **state)
{
    (void)state;
    char text[] = GOOD;
    text[20] = '\0';
    enum token_fault fault;
    assert_int_equal(join_token_parse((struct str){text, sizeof(text) - 1}, &(struct join_token){0}, &fault, NULL), -ERR_INVALID);
    assert_int_equal(fault, TOKEN_BAD_CHARACTER);
}

/* req: CL-35 */
static void test_make_and_read(void **state)
{
    (void)state;
    uint8_t pin[TOKEN_PIN_SIZE];
    memset(pin, 0xa5, sizeof(pin));
    struct join_token one = {0}, two = {0}, back = {0};
    join_token_make(pin, &one);
    join_token_make(pin, &two);
    assert_string_not_equal(one.id, two.id);
    assert_false(secret_eq(one.secret, two.secret));
    AUTO_SECRET text = join_token_text(&one);
    assert_int_equal(secret_len(text), TOKEN_TEXT_LEN);
    assert_int_equal(join_token_parse(secret_reveal(text), &back, NULL, NULL), 0);
    assert_string_equal(one.id, back.id);
    assert_true(secret_eq(one.secret, back.secret));
    assert_memory_equal(back.pin, pin, sizeof(pin));
    join_token_release(&one);
    join_token_release(&two);
    join_token_release(&back);
}

static void test_hash(void **state)
{
    (void)state;
    uint8_t hash[TOKEN_HASH_SIZE];
    char hex[2 * TOKEN_HASH_SIZE + 1];
    token_secret_hash(STR("abc"), hash);
    str_hex(hash, sizeof(hash), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_table), cmocka_unit_test(test_every_prefix_is_truncated), cmocka_unit_test(test_nul_inside),
        cmocka_unit_test(test_make_and_read), cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
