/* SPDX-License-Identifier: Apache-2.0 */
/* The small codecs: grpc-message, grpc-timeout, status mapping, and the framing of messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "net/h2.h"
#include "rpc/frames.h"
#include "rpc/rpc.h"
#include "rpc/status.h"

static void test_escape(void **state)
{
    (void)state;
    char wire[STATUS_TEXT_MAX], text[600];
    status_escape("a b%\n\xe2\x98\xa0~", wire);
    assert_string_equal(wire, "a b%25%0A%E2%98%A0~");
    status_unescape(wire, text, sizeof(text));
    assert_string_equal(text, "a b%?\xe2\x98\xa0~");
    status_unescape("%zz%4", text, sizeof(text));
    assert_string_equal(text, "%zz%4");
    status_unescape("x%C3%28", text, sizeof(text));
    assert_string_equal(text, "x?(");
    char big[3000];
    memset(big, '%', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    status_escape(big, wire);
    assert_int_equal(strlen(wire), (STATUS_TEXT_MAX - 1) / 3 * 3);
}

static void test_timeout(void **state)
{
    (void)state;
    usec_t v;
    char text[TIMEOUT_TEXT_SIZE];
    assert_int_equal(status_parse_timeout("5S", &v), 0);
    assert_int_equal(v, 5 * USEC_SEC);
    assert_int_equal(status_parse_timeout("99999999H", &v), 0);
    assert_int_equal(v, 99999999 * USEC_HOUR);
    assert_int_equal(status_parse_timeout("1n", &v), 0);
    assert_int_equal(v, 1);
    const char *const wrong[] = {"", "S", "5", "123456789S", "-1S", "+1S", "1s", "1SS", " 1S", "1 S"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(status_parse_timeout(wrong[i], &v), -ERR_INVALID);
    status_format_timeout(1500, text);
    assert_string_equal(text, "1500u");
    status_format_timeout(100 * USEC_SEC, text);
    assert_string_equal(text, "100000m");
    status_format_timeout(USEC_INFINITY - 1, text);
    assert_string_equal(text, "99999999H");
    assert_int_equal(status_parse_timeout_ms("9999999999", &v), 0);
    assert_int_equal(status_parse_timeout_ms("99999999999", &v), -ERR_INVALID);
    assert_int_equal(status_parse_timeout_ms("", &v), -ERR_INVALID);
}

static void test_mapping(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(status_from_reset(H2_REFUSED_STREAM), ERR_UNAVAILABLE);
    assert_int_equal(status_from_reset(H2_CANCEL), ERR_CANCELLED);
    assert_int_equal(status_from_reset(H2_NO_ERROR), ERR_INTERNAL);
    assert_int_equal(status_from_reset(999), ERR_INTERNAL);
    assert_int_equal(status_from_http("503"), ERR_UNAVAILABLE);
    assert_int_equal(status_from_http("200"), ERR_UNKNOWN);
    assert_int_equal(status_from_trailers("0", NULL, NULL, &err), 0);
    assert_int_equal(status_from_trailers("5", "no%20such", "try%20it", &err), -ERR_NOT_FOUND);
    assert_string_equal(err.msg, "no such");
    assert_string_equal(err.hint, "try it");
    assert_int_equal(status_from_trailers("77", NULL, NULL, &err), -ERR_UNKNOWN);
    assert_int_equal(status_from_trailers("x", NULL, NULL, &err), -ERR_UNKNOWN);
    assert_int_equal(status_from_trailers("14", NULL, NULL, &err), -ERR_UNAVAILABLE);
    assert_string_equal(err.msg, "unavailable");
}

static void test_frames(void **state)
{
    (void)state;
    struct frames f;
    struct str m;
    struct err err = ERR_INIT;
    const char two[] = "\0\0\0\0\3abc\0\0\0\0\0";
    frames_init(&f);
    for (size_t i = 0; i + 1 < sizeof(two); i++) {
        assert_int_equal(frames_add(&f, (struct str){two + i, 1}, &err), 0);
        if (i < 7) {
            assert_int_equal(frames_take(&f, &m, &err), 0);
            assert_int_equal(frames_settle(&f), 1);
        }
    }
    assert_int_equal(frames_settle(&f), 0); /* a whole message waits: the window stays */
    assert_int_equal(frames_take(&f, &m, &err), 1);
    assert_true(str_eq(m, STR("abc")));
    assert_int_equal(frames_take(&f, &m, &err), 1);
    assert_int_equal(m.n, 0);
    assert_true(frames_empty(&f));
    assert_int_equal(frames_settle(&f), 6);
    assert_int_equal(frames_add(&f, (struct str){"\1", 1}, &err), -ERR_INTERNAL);
    frames_release(&f);
    frames_init(&f);
    uint8_t prefix[FRAMES_PREFIX];
    frames_prefix(RPC_MESSAGE_MAX, 0, prefix);
    assert_int_equal(frames_add(&f, (struct str){(const char *)prefix, 5}, &err), 0);
    frames_release(&f);
    frames_prefix(RPC_MESSAGE_MAX + 1, 0, prefix);
    assert_int_equal(frames_add(&f, (struct str){(const char *)prefix, 5}, &err), -ERR_EXHAUSTED);
    frames_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_mapping),
        cmocka_unit_test(test_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
