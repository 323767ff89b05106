/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes of passwords: what is kept, what it may cost, and what may be a password. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "ident/password.h"

#define SALT "AAECAwQFBgcICQoLDA0ODw"
#define HASH "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

/* req: PE-2 */
static void test_round_trip(void **state)
{
    char one[PASSWORD_TEXT_SIZE], two[PASSWORD_TEXT_SIZE];
    struct password_text t;
    (void)state;
    assert_int_equal(password_hash(STR("correct horse"), one, NULL), 0);
    assert_int_equal(password_hash(STR("correct horse"), two, NULL), 0);
    assert_string_not_equal(one, two);
    assert_null(strstr(one, "correct"));
    assert_true(str_starts(str_from(one), STR("$scrypt$ln=15,r=8,p=1$")));
    assert_int_equal(password_verify(str_from(one), STR("correct horse"), NULL), 0);
    assert_int_equal(password_verify(str_from(one), STR("correct horsf"), NULL), 1);
    assert_int_equal(password_verify(str_from(one), STR(""), NULL), 1);
    assert_int_equal(password_parse(str_from(one), &t), 0);
    assert_int_equal(t.n_salt, PASSWORD_SALT_SIZE);
    /* That of nobody costs the same, and is nobody's. */
    struct password_text nobody;
    assert_int_equal(password_parse(str_from(password_nobody()), &nobody), 0);
    assert_true(nobody.ln == t.ln && nobody.r == t.r && nobody.p == t.p && nobody.n_salt == t.n_salt);
    assert_int_equal(password_verify(str_from(password_nobody()), STR("correct horse"), NULL), 1);
}

/* Of another implementation of RFC 7914. */
static void test_vector(void **state)
{
    (void)state;
    /* scrypt("pleaseletmein", "SodiumChloride..", N=1024, r=8, p=4, 32) */
    const struct str text = STR("$scrypt$ln=10,r=8,p=4$U29kaXVtQ2hsb3JpZGUuLg$aqVlaYrNr/E5iIXxLM5dZunn1mNtEPHnHA6aBEjSL2M");
    assert_int_equal(password_verify(text, STR("pleaseletmein"), NULL), 0);
    assert_int_equal(password_verify(text, STR("pleaseletmeit"), NULL), 1);
}

/* req: PE-2 */
static void test_texts(void **state)
{
    static const char *const good[] = {
        "$scrypt$ln=15,r=8,p=1$" SALT "$" HASH,
        "$scrypt$ln=10,r=1,p=4$" SALT "$" HASH,
        "$scrypt$ln=16,r=8,p=4$" HASH "$" HASH,
    };
    static const char *const bad[] = {
        "",
        "$",
        "scrypt",
        "$scrypt$ln=15,r=8,p=1$" SALT "$",
        "$scrypt$ln=15,r=8,p=1$" SALT,
        "$scrypt$ln=15,r=8,p=1$$" HASH,
        "$scrypt$ln=17,r=8,p=1$" SALT "$" HASH,
        "$scrypt$ln=9,r=8,p=1$" SALT "$" HASH,
        "$scrypt$ln=15,r=9,p=1$" SALT "$" HASH,
        "$scrypt$ln=15,r=0,p=1$" SALT "$" HASH,
        "$scrypt$ln=15,r=8,p=5$" SALT "$" HASH,
        "$scrypt$ln=15,r=8,p=0$" SALT "$" HASH,
        "$scrypt$ln=015,r=8,p=1$" SALT "$" HASH,
        "$scrypt$ln=-5,r=8,p=1$" SALT "$" HASH,
        "$scrypt$ln=15,r=8$" SALT "$" HASH,
        "$scrypt$ln=15,r=8,p=1,x=1$" SALT "$" HASH,
        "$scrypt$r=8,ln=15,p=1$" SALT "$" HASH,
        "$argon2$ln=15,r=8,p=1$" SALT "$" HASH,
        "x$scrypt$ln=15,r=8,p=1$" SALT "$" HASH,
        "$scrypt$ln=15,r=8,p=1$" SALT "$" HASH "$",
        "$scrypt$ln=15,r=8,p=1$" SALT "$" HASH "AA",
        "$scrypt$ln=15,r=8,p=1$" SALT "$AAECAw",
        "$scrypt$ln=15,r=8,p=1$AAEC$" HASH,
        "$scrypt$ln=15,r=8,p=1$" HASH HASH "$" HASH,
    };
    struct password_text t;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(password_parse(str_from(good[i]), &t), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        if (password_parse(str_from(bad[i]), &t) >= 0)
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(password_verify(str_from(bad[i]), STR("x"), &err), -ERR_DATA_LOSS);
    }
}

/* req: PE-2 */
static void test_what_may_be_one(void **state)
{
    char text[PASSWORD_CHARS_MAX * 4 + 8];
    (void)state;
    memset(text, 'x', sizeof(text));
    assert_int_equal(password_check((struct str){text, PASSWORD_CHARS_MIN - 1}, NULL), -ERR_INVALID);
    assert_int_equal(password_check((struct str){text, PASSWORD_CHARS_MIN}, NULL), 0);
    assert_int_equal(password_check((struct str){text, PASSWORD_CHARS_MAX}, NULL), 0);
    assert_int_equal(password_check((struct str){text, PASSWORD_CHARS_MAX + 1}, NULL), -ERR_INVALID);
    /* Characters, not bytes. */
    for (size_t i = 0; i < PASSWORD_CHARS_MAX; i++)
        memcpy(text + 4 * i, "\xf0\x9f\x9a\xa2", 4);
    assert_int_equal(password_check((struct str){text, (size_t)4 * PASSWORD_CHARS_MAX}, NULL), 0);
    assert_int_equal(password_check((struct str){text, (size_t)4 * (PASSWORD_CHARS_MIN - 1)}, NULL), -ERR_INVALID);
    assert_int_equal(password_check((struct str){text, 41}, NULL), -ERR_INVALID);
    assert_int_equal(password_check(STR("0123456789\0"), NULL), -ERR_INVALID);
    assert_int_equal(password_check(STR(""), NULL), -ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_vector),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_what_may_be_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
