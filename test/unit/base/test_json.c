/* SPDX-License-Identifier: Apache-2.0 */
/* JSON reader and writer: limits, hostile input, and agreement with jansson on what is a document. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/json.h"
#include "oracle_jansson.h"

static bool accepts(struct str text)
{
    AUTO_JSON j;
    enum json_type type;

    json_init(&j, text);
    do {
        if (json_next(&j, &type, NULL) < 0) {
            assert_int_equal(json_next(&j, &type, NULL), -(int)ERR_INVALID); /* stays failed */
            return false;
        }
    } while (type != JSON_END);
    return true;
}

static const struct str documents[] = {
    STR("{}"), STR("[]"), STR("0"), STR("-0"), STR("1"), STR("-1.5e+3"), STR("1E5"), STR("0.0"), STR("\"\""), STR("\"a\""),
    STR("null"), STR("true"), STR("false"), STR(" [ 1 , 2 ] "), STR("{\"a\":1,\"b\":[{}]}"), STR("{\"a\":{\"a\":{}}}"),
    STR("\"\\u0041\""), STR("\"\\ud83d\\ude00\""), STR("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), STR("\"\xc3\xa4\""),
    STR("\"\xf4\x8f\xbf\xbf\""), STR("[[[[[]]]]]"), STR("\t\r\n1\n"), STR("123456789012345678"), STR("\"\x7f\""), STR("1e0"),
    /* not documents */
    STR(""), STR(" "), STR("{"), STR("["), STR("]"), STR("}"), STR("[1,]"), STR("[,1]"), STR("{\"a\"}"), STR("{\"a\":}"),
    STR("{\"a\":1,}"), STR("{a:1}"), STR("{'a':1}"), STR("[1 2]"), STR("1 2"), STR("[] []"), STR("01"), STR("-"), STR("+1"),
    STR("1."), STR(".5"), STR("1e"), STR("1e+"), STR("0x1"), STR("NaN"), STR("Infinity"), STR("tru"), STR("nulll"), STR("True"),
    STR("\""), STR("\"a"), STR("\"\\\""), STR("\"\\x\""), STR("\"\\u12\""), STR("\"\\u12g4\""), STR("\"\\ud800\""),
    STR("\"\\udc00\""), STR("\"\\ud800\\u0041\""), STR("\"\n\""), STR("\"\0\""), STR("\"\x80\""), STR("\"\xc0\x80\""),
    STR("\"\xed\xa0\x80\""), STR("\"\xf5\x80\x80\x80\""), STR("\"\xe2\x82\""), STR("\xef\xbb\xbf{}"), STR("[1}"), STR("{]"),
    STR("/**/1"), STR("[1]//"), STR("\"\\u0000"), STR("{\"a\" 1}"), STR("{1:2}"), STR("{\"a\":1 \"b\":2}"), STR("[\"a\":1]"),
    STR("\0"), STR("\f1"), STR("--1"), STR("1e1.5"), STR("-01"), STR("\"\\U0041\""),
};

static void test_agrees_with_jansson(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
        if (accepts(documents[i]) != jansson_accepts(documents[i].p, documents[i].n))
            fail_msg("document %zu differs: " STR_FMT, i, STR_ARG(documents[i]));
    }
}

/* Where jansson is more lenient than RFC 8259: it passes over a NUL behind the value. */
static void test_nul_after_the_value(void **state)
{
    (void)state;
    assert_false(accepts(STR("1\0")));
    assert_false(accepts(STR("[]\0")));
}

static void test_every_prefix_fails(void **state)
{
    static const struct str text = STR("{\"a\":[1.5e3,\"\\ud83d\\ude00\xc3\xa4\",true,null,{\"b\":false}]}");

    (void)state;
    for (size_t n = 0; n < text.n; n++) {
        /* Exact heap copy: a read past the end is seen by the sanitizer. */
        AUTO_FREE char *copy = malloc(n > 0 ? n : 1);
        memcpy(copy, text.p, n);
        assert_false(accepts((struct str){copy, n}));
    }
    assert_true(accepts(text));
}

static void test_depth_limit(void **state)
{
    char text[2 * (JSON_DEPTH_MAX + 1)];

    (void)state;
    for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(accepts((struct str){text, 2 * depth}), depth == JSON_DEPTH_MAX);
    }
}

static void test_number_length(void **state)
{
    char digits[65];

    (void)state;
    memset(digits, '1', sizeof(digits));
    assert_true(accepts((struct str){digits, 64}));
    assert_false(accepts((struct str){digits, 65}));
}

static int read_i64(const char *text, int64_t *ret)
{
    AUTO_JSON j;

    json_init(&j, str_from(text));
    return json_read_i64(&j, ret, NULL);
}

static int read_u64(const char *text, uint64_t *ret)
{
    AUTO_JSON j;

    json_init(&j, str_from(text));
    return json_read_u64(&j, ret, NULL);
}

static void test_integers(void **state)
{
    static const struct {
        const char *text;
        int rc;
        int64_t value;
    } cases[] = {
        {"0", 0, 0}, {"-0", 0, 0}, {"null", 0, 0}, {"1e3", 0, 1000}, {"12.0", 0, 12}, {"1.5e1", 0, 15}, {"150e-1", 0, 15},
        {"0e99999", 0, 0}, {"9223372036854775807", 0, INT64_MAX}, {"-9223372036854775808", 0, INT64_MIN}, {"0.001e3", 0, 1},
        {"9223372036854775808", -3, 0}, {"-9223372036854775809", -3, 0}, {"1.5", -3, 0}, {"1e-1", -3, 0}, {"1e19", -3, 0},
        {"1e99999999999999999999", -3, 0}, {"1e-99", -3, 0}, {"\"1\"", -3, 0}, {"true", -3, 0}, {"15e-1", -3, 0},
        {"99999999999999999999999", -3, 0},
    };
    uint64_t u = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t v = 0;
        if (read_i64(cases[i].text, &v) != cases[i].rc || v != cases[i].value)
            fail_msg("%s gives %jd", cases[i].text, (intmax_t)v);
    }
    assert_int_equal(read_u64("18446744073709551615", &u), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(read_u64("18446744073709551616", &u), -(int)ERR_INVALID);
    assert_int_equal(read_u64("-1", &u), -(int)ERR_INVALID);
}

static void test_walk(void **state)
{
    AUTO_JSON j;
    struct err err = ERR_INIT;
    struct str key, raw;
    AUTO_FREE char *name = NULL;
    int64_t sum = 0, v;

    (void)state;
    json_init(&j, STR("{\"skip\":{\"x\":[1,{}]},\"na\\u006de\":\"J\\u00f6\",\"raw\": [1, 2] ,\"list\":[ 1,2 , 3],\"none\":[]}"));
    assert_int_equal(json_enter(&j, JSON_OBJECT, &err), 0);
    while (json_key(&j, &key, &err) > 0) {
        if (str_eq(key, STR("name"))) {
            assert_int_equal(json_read_string(&j, &name, &err), 0);
        } else if (str_eq(key, STR("raw"))) {
            assert_int_equal(json_read_raw(&j, &raw, &err), 0);
        } else if (str_eq(key, STR("list")) || str_eq(key, STR("none"))) {
            assert_int_equal(json_enter(&j, JSON_ARRAY, &err), 0);
            while (json_item(&j, &err) > 0) {
                assert_int_equal(json_read_i64(&j, &v, &err), 0);
                sum += v;
            }
        } else {
            assert_int_equal(json_skip(&j, &err), 0);
        }
    }
    assert_int_equal(err.code, ERR_OK);
    assert_string_equal(name, "J\xc3\xb6");
    assert_true(str_eq(raw, STR("[1, 2]")));
    assert_int_equal(sum, 6);
}

static void test_raw_items(void **state)
{
    AUTO_JSON j;
    struct str raw;

    (void)state;
    json_init(&j, STR("[{\"a\":1} , 2]"));
    assert_int_equal(json_enter(&j, JSON_ARRAY, NULL), 0);
    assert_int_equal(json_read_raw(&j, &raw, NULL), 0);
    assert_true(str_eq(raw, STR("{\"a\":1}")));
    assert_int_equal(json_read_raw(&j, &raw, NULL), 0);
    assert_true(str_eq(raw, STR("2")));
    assert_int_equal(json_item(&j, NULL), 0);
    assert_int_equal(json_item(&j, NULL), -(int)ERR_INVALID);
}

static void test_nul_in_string(void **state)
{
    AUTO_JSON j, k;
    struct str s;
    char *p = NULL;

    (void)state;
    json_init(&j, STR("\"a\\u0000b\""));
    assert_int_equal(json_read_str(&j, &s, NULL), 0);
    assert_int_equal(s.n, 3);
    json_init(&k, STR("\"a\\u0000b\""));
    assert_int_equal(json_read_string(&k, &p, NULL), -(int)ERR_INVALID);
    assert_null(p);
}

static void test_error_names_the_place(void **state)
{
    AUTO_JSON j;
    struct err err = ERR_INIT;
    bool b;

    (void)state;
    json_init(&j, STR("  x"));
    assert_int_equal(json_read_bool(&j, &b, &err), -(int)ERR_INVALID);
    assert_string_equal(err.msg, "JSON: value expected at byte 2");
}

static void test_writer(void **state)
{
    AUTO_BUF b = BUF_INIT(4096);
    struct jsonw w;

    (void)state;
    jsonw_init(&w, &b);
    jsonw_object(&w);
    jsonw_key(&w, "a\"");
    jsonw_array(&w);
    jsonw_i64(&w, INT64_MIN);
    jsonw_u64(&w, UINT64_MAX);
    jsonw_array(&w);
    jsonw_array_end(&w);
    jsonw_bool(&w, true);
    jsonw_string(&w, NULL);
    jsonw_array_end(&w);
    jsonw_key(&w, "s");
    jsonw_str(&w, STR("\x01\n\\\xff\xc3\xa4\xed\xa0\x80"));
    jsonw_key(&w, "r");
    jsonw_raw(&w, STR("[1]"));
    jsonw_object_end(&w);
    assert_int_equal(jsonw_end(&w), 0);
    assert_string_equal(buf_cstr(&b),
                        "{\"a\\\"\":[-9223372036854775808,18446744073709551615,[],true,null],"
                        "\"s\":\"\\u0001\\n\\\\\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"r\":[1]}");
    assert_true(accepts(buf_str(&b)));
}

static void test_writer_limits(void **state)
{
    AUTO_BUF b = BUF_INIT(5), deep = BUF_INIT(4096);
    struct jsonw w;

    (void)state;
    jsonw_init(&w, &b);
    jsonw_str(&w, STR("abc"));
    assert_int_equal(jsonw_end(&w), 0);
    buf_clear(&b);
    jsonw_init(&w, &b);
    jsonw_str(&w, STR("abcd"));
    assert_int_equal(jsonw_end(&w), -(int)ERR_EXHAUSTED);
    jsonw_init(&w, &deep);
    for (int i = 0; i <= JSON_DEPTH_MAX; i++)
        jsonw_array(&w);
    assert_int_equal(jsonw_end(&w), -(int)ERR_EXHAUSTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_jansson), cmocka_unit_test(test_nul_after_the_value),
        cmocka_unit_test(test_every_prefix_fails),
        cmocka_unit_test(test_depth_limit), cmocka_unit_test(test_number_length), cmocka_unit_test(test_integers),
        cmocka_unit_test(test_walk), cmocka_unit_test(test_raw_items), cmocka_unit_test(test_nul_in_string),
        cmocka_unit_test(test_error_names_the_place), cmocka_unit_test(test_writer), cmocka_unit_test(test_writer_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
