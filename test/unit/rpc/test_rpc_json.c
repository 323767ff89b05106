/* SPDX-License-Identifier: Apache-2.0 */
/* ProtoJSON both ways: every type, and everything that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "echo.davit.h"
#include "every.davit.h"
#include "rpc/json_text.h"
#include "rpc/schema.h"

#define ALL   (&davit__test__v1__all_types__descriptor)
#define EVERY (&davit__test__v1__every__descriptor)

/* Reads @in and expects @out when it is written again; NULL: refused. */
static void expect_of(const ProtobufCMessageDescriptor *type, const char *in, const char *out)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT(65536);
    int rc = rpc_from_json(type, str_from(in), &m, &err);
    if (!out) {
        if (rc == 0)
            fail_msg("accepted: %s", in);
        assert_true(err.code == ERR_INVALID || err.code == ERR_EXHAUSTED);
        return;
    }
    if (rc < 0)
        fail_msg("%s: %s", in, err.msg);
    assert_int_equal(rpc_to_json(m, &text, &err), 0);
    assert_string_equal(buf_cstr(&text), out);
    buf_release(&text);
    /* Over the wire form and back it is the same. */
    struct buf wire = BUF_INIT(65536);
    ProtobufCMessage *again;
    assert_int_equal(rpc_pack(m, &wire), 0);
    assert_int_equal(rpc_unpack(type, buf_str(&wire), &again, &err), 0);
    assert_int_equal(rpc_to_json(again, &text, &err), 0);
    assert_string_equal(buf_cstr(&text), out);
    buf_release(&text);
    buf_release(&wire);
    m = rpc_message_free(m);
    again = rpc_message_free(again);
}

static void expect(const char *in, const char *out)
{
    expect_of(ALL, in, out);
}

static void same(const char *json)
{
    expect(json, json);
}

static void every(const char *in, const char *out)
{
    expect_of(EVERY, in, out);
}

static void every_same(const char *json)
{
    every(json, json);
}

static void test_all_types(void **state)
{
    (void)state;
    same("{}");
    same("{\"aInt32\":-2147483648,\"aSint32\":2147483647,\"aSfixed32\":-1,\"aUint32\":4294967295,\"aFixed32\":1,"
         "\"aInt64\":\"-9223372036854775808\",\"aSint64\":\"9223372036854775807\",\"aSfixed64\":\"-1\","
         "\"aUint64\":\"18446744073709551615\",\"aFixed64\":\"1\",\"aFloat\":0.1,\"aDouble\":1e+300,\"aBool\":true,"
         "\"aColor\":\"COLOR_BLUE\",\"aString\":\"\xe2\x98\xa0\\n\\\"\",\"aBytes\":\"AAEC/w==\",\"anInner\":{}}");
    same(
        "{\"ints\":[1,-2,0],\"strings\":[\"a\",\"\"],\"blobs\":[\"\",\"YQ==\"],\"inners\":[{\"name\":\"x\",\"numbers\":[\"1\",\"0\"]},{}],"
        "\"colors\":[\"COLOR_RED\",\"COLOR_UNSPECIFIED\"],\"bools\":[true,false]}");
    same("{\"choiceText\":\"\"}");
    same("{\"choiceNumber\":0}");
    same("{\"choiceInner\":{\"name\":\"n\"}}");
    same("{\"with3digitsX\":\"5\"}");
    same("{\"aDouble\":\"NaN\"}");
    same("{\"aFloat\":\"Infinity\",\"aDouble\":\"-Infinity\"}");
    same("{\"aColor\":7}");
}

static void test_liberal_input(void **state)
{
    (void)state;
    expect("{\"a_int32\":\"7\",\"aInt64\":7,\"aUint64\":1e3,\"aUint32\":12.0,\"aFixed64\":\"1.5e1\"}",
           "{\"aInt32\":7,\"aUint32\":12,\"aInt64\":\"7\",\"aUint64\":\"1000\",\"aFixed64\":\"15\"}");
    expect("{\"aString\":null,\"ints\":null,\"anInner\":null,\"choiceText\":null,\"choiceNumber\":3}", "{\"choiceNumber\":3}");
    expect("{\"unknown\":{\"deep\":[1,{\"x\":null}]},\"aBool\":true}", "{\"aBool\":true}");
    expect("{\"aBytes\":\"_-8\"}", "{\"aBytes\":\"/+8=\"}");
    expect("{\"aColor\":1,\"aFloat\":\"0.5\"}", "{\"aFloat\":0.5,\"aColor\":\"COLOR_RED\"}");
    expect("{\"aColor\":-2}", "{\"aColor\":\"COLOR_BLUE\"}");
    expect(" { \"aInt32\" : 0 , \"aString\" : \"\" } ", "{}");
    expect("{\"aInt64\":-0}", "{}");
}

static void test_refused(void **state)
{
    (void)state;
    const char *const wrong[] = {
        "",
        "[]",
        "1",
        "{} {}",
        "{\"aInt32\":1,}",
        "{\"aInt32\":2147483648}",
        "{\"aInt32\":-2147483649}",
        "{\"aUint32\":-1}",
        "{\"aUint32\":4294967296}",
        "{\"aInt64\":\"9223372036854775808\"}",
        "{\"aUint64\":\"18446744073709551616\"}",
        "{\"aInt32\":1.5}",
        "{\"aInt32\":\"\"}",
        "{\"aInt32\":\" 1\"}",
        "{\"aInt32\":\"0x1\"}",
        "{\"aInt32\":\"01\"}",
        "{\"aInt32\":true}",
        "{\"aInt32\":1e30}",
        "{\"aBool\":1}",
        "{\"aBool\":\"true\"}",
        "{\"aString\":1}",
        "{\"aString\":\"\\u0000\"}",
        "{\"aString\":\"\\ud800\"}",
        "{\"aBytes\":\"a\"}",
        "{\"aBytes\":\"a!bc\"}",
        "{\"aColor\":\"COLOR_GREEN\"}",
        "{\"aColor\":1.5}",
        "{\"aDouble\":1e400}",
        "{\"aFloat\":1e39}",
        "{\"aDouble\":\"inf\"}",
        "{\"aInt32\":1,\"aInt32\":1}",
        "{\"aInt32\":1,\"a_int32\":1}",
        "{\"choiceText\":\"a\",\"choiceNumber\":1}",
        "{\"ints\":[1,null]}",
        "{\"ints\":1}",
        "{\"ints\":{}}",
        "{\"anInner\":[]}",
        "{\"anInner\":\"x\"}",
        "{\"inners\":[{\"name\":1}]}",
        "{\"anInner\":{\"name\":\"a\"",
        "{\"aInt32\":",
        "{\"strings\":[\"a\" \"b\"]}",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        expect(wrong[i], NULL);
}

static void test_presence(void **state)
{
    (void)state;
    every_same("{\"optI32\":0,\"optU64\":\"0\",\"optDb\":0,\"optFl\":0,\"optBo\":false,\"optSt\":\"\",\"optBy\":\"\",\"optEn\":"
               "\"KIND_UNSPECIFIED\",\"optLeaf\":{}}");
    every_same("{\"leaf\":{\"flag\":false}}");
    every("{\"optI32\":null,\"optSt\":null,\"optLeaf\":null,\"opt_bo\":null}", "{}");
    every_same("{\"choiceNull\":null}");
    every_same("{\"choiceTime\":\"1970-01-01T00:00:00Z\"}");
    every_same("{\"value\":null}");
    every("{\"null\":null,\"boxI32\":null,\"time\":null}", "{}");
    every_same("{\"repNull\":[null,null]}");
    every_same("{\"repValue\":[null,1]}");
    every_same("{\"empty\":{},\"boxI32\":0,\"boxSt\":\"\"}");
    every("{\"mapValue\":{\"a\":null}}", "{\"mapValue\":{\"a\":null}}");
    every("{\"repDb\":[-0,0,-0.0]}", "{\"repDb\":[-0,0,-0]}");
}

static void test_names(void **state)
{
    (void)state;
    every("{\"@own name\":\"a\",\"FooBar_baz2\":1,\"with_3digits_x\":2,\"__two_lines__\":3,\"ALLCAPS\":4}",
          "{\"@own name\":\"a\",\"FooBarBaz2\":1,\"with3digitsX\":2,\"TwoLines\":3,\"ALLCAPS\":4}");
    every("{\"own\":\"a\",\"FooBarBaz2\":1}", "{\"@own name\":\"a\",\"FooBarBaz2\":1}");
    every("{\"ow\":\"a\",\"ownx\":1,\"\":1,\"fooBarBaz2\":1}", "{}");
    every("{\"own\":\"a\",\"@own name\":\"a\"}", NULL);
}

/* A key is as long as it is, whatever stands in it: NUL ends it in no comparison. */
static void test_names_with_nul(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(65536);
    expect("{\"aInt32\\u0000\":1}", "{}");
    expect("{\"\\u0000\":1,\"aInt32\\u0000x\":1,\"aInt32\":5}", "{\"aInt32\":5}");
    expect("{\"aColor\":\"COLOR_RED\\u0000\"}", NULL);
    expect("{\"aColor\":\"\"}", NULL);
    for (unsigned i = 0; i < davit__test__v1__all_types__descriptor.n_fields; i++) {
        buf_clear(&text);
        assert_int_equal(buf_printf(&text, "{\"%s\\u0000%0512d\":1}", ALL->fields[i].name, 0), 0);
        expect(buf_cstr(&text), "{}");
    }
    buf_release(&text);
}

static void test_maps(void **state)
{
    (void)state;
    every("{\"mapI32\":{\"5\":\"e\",\"1e1\":\"j\",\"-1\":\"\"}}", "{\"mapI32\":{\"5\":\"e\",\"10\":\"j\",\"-1\":\"\"}}");
    every_same("{\"mapU64\":{\"18446744073709551615\":\"NaN\"},\"mapBo\":{\"false\":\"1\",\"true\":\"-1\"}}");
    every_same("{\"mapSt\":{\"\":{},\"a\":{\"name\":\"x\"}}}");
    every("{\"mapSt\":{},\"mapBo\":null}", "{}");
    every("{\"mapI32\":{\"1\":\"a\",\"1.0\":\"b\"}}", NULL);
    every("{\"mapSt\":{\"a\":{},\"b\":{},\"a\":{}}}", NULL);
    every("{\"mapSt\":{\"\\u0000\":{}}}", NULL);
    /* An entry without key and value, as proto3 writes that of two zeros. */
    ProtobufCMessage *m = NULL;
    struct buf text = BUF_INIT(1000);
    assert_int_equal(rpc_unpack(EVERY, STR("\xca\x03\x00\x9a\x03\x00\xda\x03\x00"), &m, NULL), 0);
    assert_int_equal(rpc_to_json(m, &text, NULL), 0);
    assert_string_equal(buf_cstr(&text), "{\"mapI32\":{\"0\":\"\"},\"mapSt\":{\"\":{}},\"mapSpan\":{\"\":\"0s\"}}");
    buf_release(&text);
    m = rpc_message_free(m);
}

/* @n brackets around nothing as a google.protobuf.Value, or in a field that is passed over. */
static int nested(const char *field, size_t n)
{
    struct buf in = BUF_INIT(1000);
    ProtobufCMessage *m = NULL;
    assert_int_equal(buf_printf(&in, "{\"%s\":", field), 0);
    for (size_t i = 0; i < 2 * n; i++)
        assert_int_equal(buf_append_byte(&in, i < n ? '[' : ']'), 0);
    assert_int_equal(buf_append_byte(&in, '}'), 0);
    int rc = rpc_from_json(EVERY, buf_str(&in), &m, NULL);
    buf_clear(&in);
    if (rc == 0) { /* what was read can be packed, unpacked and written */
        struct buf wire = BUF_INIT(1000);
        ProtobufCMessage *again;
        assert_int_equal(rpc_pack(m, &wire), 0);
        assert_int_equal(rpc_unpack(EVERY, buf_str(&wire), &again, NULL), 0);
        assert_int_equal(rpc_to_json(again, &in, NULL), 0);
        buf_release(&wire);
        again = rpc_message_free(again);
    }
    buf_release(&in);
    m = rpc_message_free(m);
    return rc;
}

static void test_depth(void **state)
{
    (void)state;
    assert_int_equal(nested("value", RPC_DEPTH_MAX / 2 - 1), 0);
    assert_int_equal(nested("value", RPC_DEPTH_MAX / 2), -ERR_INVALID);
    assert_int_equal(nested("unknown", JSON_DEPTH_MAX - 1), 0);
    assert_int_equal(nested("unknown", JSON_DEPTH_MAX), -ERR_INVALID);
}

static void test_number_length(void **state)
{
    (void)state;
    char text[200];
    for (int n = JSON_TEXT_MAX; n <= JSON_TEXT_MAX + 1; n++) {
        for (int quoted = 0; quoted < 2; quoted++) {
            const char *quote = quoted ? "\"" : "";
            (void)snprintf(text, sizeof(text), "{\"db\":%s1%0*d%s}", quote, n - 1, 0, quote);
            every(text, n == JSON_TEXT_MAX ? "{\"db\":1e+63}" : NULL);
        }
    }
}

/* An Any in an Any in an Any, up to the type of the fourth. */
#define BOX "{\"@type\":\"x/google.protobuf.Any\",\"value\":"
#define ANY "\"any\":" BOX BOX BOX "{\"@type\":\"x/"

static void test_any(void **state)
{
    (void)state;
    every_same("{\"any\":{\"@type\":\"x/google.protobuf.Struct\",\"value\":{\"a\":[1]}},\"repAny\":[{}]}");
    every_same("{\"any\":{\"@type\":\"x/google.protobuf.Value\",\"value\":null}}");
    every("{\"any\":{\"a\":1,\"value\":\"1s\",\"b\":{},\"@type\":\"a/b/google.protobuf.Duration\"}}",
          "{\"any\":{\"@type\":\"a/b/google.protobuf.Duration\",\"value\":\"1s\"}}");
    every_same("{\"any\":{\"@type\":\"x/google.protobuf.Empty\"}}");
    every("{\"any\":{\"@type\":\"x/google.protobuf.Empty\",\"value\":{}}}", "{\"any\":{\"@type\":\"x/google.protobuf.Empty\"}}");
    every("{\"any\":{\"@type\":\"x/google.protobuf.Empty\",\"@type\":\"x/google.protobuf.Empty\"}}", NULL);
    every("{\"any\":{\"@type\":\"x/google.protobuf.Int32Value\",\"value\":1,\"value\":1}}", NULL);
    every("{\"any\":{\"@type\":\"\"}}", NULL);
    every("{\"any\":{\"@type\":1}}", NULL);
    every("{\"any\":{\"@type\":\"x/davit.test.v1.Every.Leaf\"}}", NULL); /* nobody said that it may */
    every_same("{" ANY "google.protobuf.Empty\"}}}}}");
    every("{" ANY "google.protobuf.Any\",\"value\":{\"@type\":\"x/google.protobuf.Empty\"}}}}}}", NULL);
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        int64_t seconds;
        int32_t nanos;
        const char *out;
    } good[] = {{"1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00Z"},
                {"0001-01-01T00:00:00Z", -62135596800, 0, "0001-01-01T00:00:00Z"},
                {"9999-12-31T23:59:59.999999999Z", 253402300799, 999999999, "9999-12-31T23:59:59.999999999Z"},
                {"2000-02-29T12:00:00.100Z", 951825600, 100000000, "2000-02-29T12:00:00.100Z"},
                {"2000-02-29T12:00:00.000001-00:30", 951827400, 1000, "2000-02-29T12:30:00.000001Z"},
                {"1969-12-31T23:59:59.5Z", -1, 500000000, "1969-12-31T23:59:59.500Z"},
                {"1900-03-01T00:00:00+23:59", -2203977540, 0, "1900-02-28T00:01:00Z"}};
    static const char *const bad[] = {"1900-02-29T00:00:00Z",      "2001-00-01T00:00:00Z",      "2001-13-01T00:00:00Z",
                                      "2001-01-00T00:00:00Z",      "2001-01-01T00:60:00Z",      "2001-01-01T00:00:60Z",
                                      "2001-01-01T00:00:00",       "2001-01-01 00:00:00Z",      "2001-1-1T00:00:00Z",
                                      "2001-01-01T00:00:00.Z",     "2001-01-01T00:00:00+24:00", "2001-01-01T00:00:00+0100",
                                      "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2001-01-01T00:00:00Zx",
                                      "+001-01-01T00:00:00Z"};
    int64_t seconds;
    int32_t nanos;
    char text[JSON_TEXT_MAX];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(json_text_time(str_from(good[i].in), &seconds, &nanos), 0);
        assert_int_equal(seconds, good[i].seconds);
        assert_int_equal(nanos, good[i].nanos);
        assert_int_equal(json_text_put_time(seconds, nanos, text), 0);
        assert_string_equal(text, good[i].out);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (json_text_time(str_from(bad[i]), &seconds, &nanos) == 0)
            fail_msg("accepted: %s", bad[i]);
    /* Days of the whole calendar come back. */
    for (int64_t day = -719162; day <= 2932896; day += 13) {
        assert_int_equal(json_text_put_time(day * 86400, 0, text), 0);
        assert_int_equal(json_text_time(str_from(text), &seconds, &nanos), 0);
        assert_int_equal(seconds, day * 86400);
    }
}

static void test_spans(void **state)
{
    (void)state;
    every_same("{\"span\":\"-0.500s\"}");
    every_same("{\"span\":\"315576000000s\"}");
    every("{\"span\":\"-00001.2s\"}", "{\"span\":\"-1.200s\"}");
    const char *const bad[] = {
        "315576000000.1s", "-315576000001s", "1.s", ".5s", "+1s", "s", "-s", "1", "1s ", "--1s", "1.0000000000s", "1e3s"};
    int64_t seconds;
    int32_t nanos;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (json_text_span(str_from(bad[i]), &seconds, &nanos) == 0)
            fail_msg("accepted: %s", bad[i]);
    every_same("{\"mask\":\"fooBar.b2,x\"}");
    every_same("{\"mask\":\"\"}");
    every("{\"mask\":\",\"}", NULL);
    every("{\"mask\":\"a b\"}", NULL);
}

static void test_budget(void **state)
{
    (void)state;
    struct buf in = BUF_INIT(RPC_MESSAGE_MAX + 100);
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    assert_int_equal(buf_append_cstr(&in, "{\"inners\":[{}"), 0);
    while (in.len < RPC_MESSAGE_MAX / 4)
        assert_int_equal(buf_append_cstr(&in, ",{}"), 0);
    assert_int_equal(buf_append_cstr(&in, "]}"), 0);
    assert_int_equal(rpc_from_json(ALL, buf_str(&in), &m, &err), -ERR_EXHAUSTED);
    while (in.len <= RPC_MESSAGE_MAX)
        assert_int_equal(buf_append_cstr(&in, " "), 0);
    assert_int_equal(rpc_from_json(ALL, buf_str(&in), &m, &err), -ERR_EXHAUSTED);
    assert_null(m);
    buf_release(&in);
    /* Writing stops at the buffer's end. */
    assert_int_equal(rpc_from_json(ALL, STR("{\"aString\":\"0123456789\"}"), &m, &err), 0);
    struct buf small = BUF_INIT(10);
    assert_int_equal(rpc_to_json(m, &small, &err), -ERR_EXHAUSTED);
    buf_release(&small);
    m = rpc_message_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_types), cmocka_unit_test(test_liberal_input), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_presence),  cmocka_unit_test(test_names),         cmocka_unit_test(test_names_with_nul),
        cmocka_unit_test(test_maps),      cmocka_unit_test(test_depth),         cmocka_unit_test(test_number_length),
        cmocka_unit_test(test_any),       cmocka_unit_test(test_times),         cmocka_unit_test(test_spans),
        cmocka_unit_test(test_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
