/* SPDX-License-Identifier: Apache-2.0 */
/* Strict conversions of text: what is accepted, and that everything else is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"

enum { BAD = -(int)ERR_INVALID, OVER = -(int)ERR_RANGE };

static void test_basics(void **state)
{
    struct str s = STR("a=b=c"), empty = {0};

    (void)state;
    assert_true(str_eq(str_from(NULL), empty));
    assert_true(str_eq(str_cut(&s, '='), STR("a")));
    assert_true(str_eq(str_cut(&s, '='), STR("b")));
    assert_true(str_eq(str_cut(&s, '='), STR("c")));
    assert_int_equal(s.n, 0);
    assert_int_equal(str_cut(&empty, ',').n, 0);
    assert_true(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
    assert_int_equal(str_trim(STR(" \t")).n, 0);
    assert_true(str_eq_ci(STR("aZ"), STR("Az")));
    assert_false(str_eq_ci(STR("@"), STR("`")));
    assert_true(str_starts(STR("abc"), STR("ab")) && str_ends(STR("abc"), STR("bc")) && str_ends(empty, empty));
    assert_false(str_starts(STR("a"), STR("ab")) || str_ends(STR("b"), STR("ab")));
    assert_true(str_eq_secret(STR("abc"), STR("abc")));
    assert_false(str_eq_secret(STR("abc"), STR("abd")) || str_eq_secret(STR("ab"), STR("abc")));
}

static void test_copy_keeps_utf8_whole(void **state)
{
    char dst[5];

    (void)state;
    assert_int_equal(str_copy(dst, sizeof(dst), STR("abcd")), 0);
    assert_int_equal(str_copy(dst, sizeof(dst), STR("abcde")), 1);
    assert_string_equal(dst, "abcd");
    assert_int_equal(str_copy(dst, sizeof(dst), STR("abc\xc3\xa4")), 1);
    assert_string_equal(dst, "abc");
    assert_int_equal(str_copy(dst, sizeof(dst), STR("a\xf0\x9f\x98\x80")), 1);
    assert_string_equal(dst, "a");
    assert_int_equal(str_copy(dst, sizeof(dst), STR("\x80\x80\x80\x80\x80\x80")), 1);
    assert_int_equal(strlen(dst), 4);
    assert_int_equal(str_copy(dst, 1, STR("a")), 1);
    assert_string_equal(dst, "");
}

struct number_case {
    const char *text;
    uint64_t max;
    int rc;
    uint64_t value;
};

static void run(const struct number_case *cases, size_t n, int (*parse)(struct str, uint64_t, uint64_t *))
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = 0;
        int rc = parse(str_from(cases[i].text), cases[i].max, &v);
        if (rc != cases[i].rc || v != cases[i].value)
            fail_msg("\"%s\": rc %d, value %ju", cases[i].text, rc, (uintmax_t)v);
    }
}

static void test_u64(void **state)
{
    static const struct number_case cases[] = {
        {"0", 9, 0, 0}, {"007", 9, 0, 7}, {"9", 9, 0, 9}, {"10", 9, OVER, 0},
        {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX}, {"18446744073709551616", UINT64_MAX, OVER, 0},
        {"99999999999999999999999", UINT64_MAX, OVER, 0}, {"99999999999999999999999x", UINT64_MAX, BAD, 0},
        {"", 9, BAD, 0}, {"-1", 9, BAD, 0}, {"+1", 9, BAD, 0}, {" 1", 9, BAD, 0}, {"1 ", 9, BAD, 0}, {"0x1", 9, BAD, 0},
    };

    (void)state;
    run(cases, ARRAY_LEN(cases), str_to_u64);
}

static void test_i64(void **state)
{
    int64_t v = 0;

    (void)state;
    assert_int_equal(str_to_i64(STR("-9223372036854775808"), INT64_MIN, INT64_MAX, &v), 0);
    assert_true(v == INT64_MIN);
    assert_int_equal(str_to_i64(STR("9223372036854775807"), INT64_MIN, INT64_MAX, &v), 0);
    assert_true(v == INT64_MAX);
    assert_int_equal(str_to_i64(STR("9223372036854775808"), INT64_MIN, INT64_MAX, &v), OVER);
    assert_int_equal(str_to_i64(STR("-9223372036854775809"), INT64_MIN, INT64_MAX, &v), OVER);
    assert_int_equal(str_to_i64(STR("-5"), -4, 4, &v), OVER);
    assert_int_equal(str_to_i64(STR("--5"), -9, 9, &v), BAD);
    assert_int_equal(str_to_i64(STR("-"), -9, 9, &v), BAD);
    assert_int_equal(str_to_i64(STR(""), -9, 9, &v), BAD);
}

static void test_milli_bytes_usec(void **state)
{
    static const struct number_case milli[] = {
        {"0.5", 9999, 0, 500}, {"1", 9999, 0, 1000}, {"1.0009", 9999, 0, 1000}, {"0.123456789", 9999, 0, 123},
        {"9.999", 9999, 0, 9999}, {"10", 9999, OVER, 0}, {"18446744073709551", UINT64_MAX, 0, 18446744073709551000u},
        {"18446744073709552", UINT64_MAX, OVER, 0}, {"0.1234567890", 9999, BAD, 0}, {"1.", 9999, BAD, 0}, {".5", 9999, BAD, 0},
        {"1.5.5", 9999, BAD, 0}, {"-1", 9999, BAD, 0}, {"1e3", 9999, BAD, 0}, {"", 9999, BAD, 0},
    };
    static const struct number_case bytes[] = {
        {"100", 100, 0, 100}, {"512m", UINT64_MAX, 0, 512u << 20}, {"1G", UINT64_MAX, 0, 1u << 30},
        {"64kb", UINT64_MAX, 0, 65536},
        {"64KB", UINT64_MAX, 0, 65536}, {"7b", UINT64_MAX, 0, 7}, {"16383p", UINT64_MAX, 0, 16383ull << 50},
        {"16384p", UINT64_MAX, OVER, 0}, {"1k", 1023, OVER, 0}, {"1k", 1024, 0, 1024}, {"k", 9, BAD, 0}, {"1kk", 9, BAD, 0},
        {"1bb", 9, BAD, 0}, {"1 k", 9, BAD, 0}, {"1.5g", 9, BAD, 0}, {"1e", 9, BAD, 0}, {"", 9, BAD, 0},
    };
    static const struct number_case usec[] = {
        {"500ms", UINT64_MAX, 0, 500000}, {"30s", UINT64_MAX, 0, 30000000}, {"30", UINT64_MAX, 0, 30000000},
        {"5m", UINT64_MAX, 0, 300000000}, {"2h", UINT64_MAX, 0, 7200000000}, {"1d", UINT64_MAX, 0, 86400000000},
        {"7us", UINT64_MAX, 0, 7}, {"18446744073709551615", UINT64_MAX, OVER, 0}, {"1s", 999999, OVER, 0}, {"s", 9, BAD, 0},
        {"1S", 9, BAD, 0}, {"1 s", 9, BAD, 0}, {"1h30m", 9, BAD, 0}, {"-1s", 9, BAD, 0}, {"", 9, BAD, 0},
    };

    (void)state;
    run(milli, ARRAY_LEN(milli), str_to_milli);
    run(bytes, ARRAY_LEN(bytes), str_to_bytes);
    run(usec, ARRAY_LEN(usec), str_to_usec);
}

static void test_utf8_and_label(void **state)
{
    char label[65];

    (void)state;
    assert_true(str_is_utf8(STR("")) && str_is_utf8(STR("a\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\xed\x9f\xbf")));
    static const struct str bad[] = {STR("\x80"), STR("\xc1\xbf"), STR("\xc2"), STR("\xe0\x9f\xbf"), STR("\xed\xa0\x80"),
                                     STR("\xf0\x8f\xbf\xbf"), STR("\xf4\x90\x80\x80"), STR("\xf5\x80\x80\x80"), STR("\xff"),
                                     STR("\xe2\x82"), STR("\xc3\x28")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(str_is_utf8(bad[i]));
    memset(label, 'a', sizeof(label));
    assert_true(str_is_label((struct str){label, 63}) && str_is_label(STR("0-9")));
    assert_false(str_is_label((struct str){label, 64}) || str_is_label(STR("")) || str_is_label(STR("-a")) ||
                 str_is_label(STR("a-")) || str_is_label(STR("A")) || str_is_label(STR("a.b")) || str_is_label(STR("a\0")));
    assert_true(str_is_dns_name(STR("a")) && str_is_dns_name(STR("a-1.example")));
    assert_false(str_is_dns_name(STR("")) || str_is_dns_name(STR("a.")) || str_is_dns_name(STR(".a")) || str_is_dns_name(STR("a..b")) ||
                 str_is_dns_name(STR("A.b")) || str_is_dns_name(STR("a b")));
}

static void test_hex(void **state)
{
    char text[7];
    unsigned char b[3];
    size_t n = 0;

    (void)state;
    str_hex("\x00\xff\x1a", 3, text);
    assert_string_equal(text, "00ff1a");
    assert_int_equal(str_unhex(STR("00Ff1A"), b, sizeof(b), &n), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(b, "\x00\xff\x1a", 3);
    assert_int_equal(str_unhex(STR("00ff1a00"), b, sizeof(b), &n), BAD);
    assert_int_equal(str_unhex(STR("0"), b, sizeof(b), &n), BAD);
    assert_int_equal(str_unhex(STR("0g"), b, sizeof(b), &n), BAD);
}

static void test_base64(void **state)
{
    unsigned char src[70], dst[70];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(src); i++)
        src[i] = (unsigned char)(i * 37 + 251);
    for (size_t len = 0; len <= sizeof(src); len++) {
        AUTO_FREE char *std = str_base64(src, len), *url = str_base64url(src, len);
        assert_int_equal(str_unbase64(str_from(std), dst, len, &n), 0);
        assert_int_equal(n, len);
        assert_memory_equal(src, dst, len);
        assert_int_equal(str_unbase64(str_from(url), dst, len, &n), 0);
        assert_memory_equal(src, dst, len);
        if (len > 0)
            assert_int_equal(str_unbase64(str_from(std), dst, len - 1, &n), OVER);
    }
    AUTO_FREE char *foobar = str_base64("fooba", 5);
    assert_string_equal(foobar, "Zm9vYmE=");
    static const struct str bad[] = {STR("A"), STR("AAAAA"), STR("===="), STR("A==="), STR("AA=A"), STR("AA="), STR("AAA=="),
                                     STR("="), STR("AB=="), STR("AAB="), STR("AB"), STR("AA\n="), STR(" AAA"),
                                     STR("AA==AA=="), STR("A.AA")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (str_unbase64(bad[i], dst, sizeof(dst), &n) != BAD)
            fail_msg("accepted: " STR_FMT, STR_ARG(bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics), cmocka_unit_test(test_copy_keeps_utf8_whole), cmocka_unit_test(test_u64),
        cmocka_unit_test(test_i64), cmocka_unit_test(test_milli_bytes_usec), cmocka_unit_test(test_utf8_and_label),
        cmocka_unit_test(test_hex), cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
