/* SPDX-License-Identifier: Apache-2.0 */
/* ProtoJSON both ways: every type, and everything that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "echo.davit.h"

#define ALL (&davit__test__v1__all_types__descriptor)

/* Reads @in and expects @out when it is written again; NULL: refused. */
static void expect(const char *in, const char *out)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT(65536);
    int rc = rpc_from_json(ALL, str_from(in), &m, &err);
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
    assert_int_equal(rpc_unpack(ALL, buf_str(&wire), &again, &err), 0);
    assert_int_equal(rpc_to_json(again, &text, &err), 0);
    assert_string_equal(buf_cstr(&text), out);
    buf_release(&text);
    buf_release(&wire);
    m = rpc_message_free(m);
    again = rpc_message_free(again);
}

static void same(const char *json)
{
    expect(json, json);
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
        cmocka_unit_test(test_all_types),
        cmocka_unit_test(test_liberal_input),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
