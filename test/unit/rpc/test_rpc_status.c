/* SPDX-License-Identifier: Apache-2.0 */
/* The small codecs: grpc-message, grpc-timeout, status mapping, and the framing of messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "net/gzip.h"
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
    status_escape(" a b ", wire); /* HTTP strips or refuses blanks at the ends */
    assert_string_equal(wire, "%20a b%20");
    status_escape(" ", wire);
    assert_string_equal(wire, "%20");
    char big[3000];
    memset(big, ' ', sizeof(big) - 1);
    big[0] = 'a';
    big[sizeof(big) - 1] = 0;
    status_escape(big, wire); /* nor where it is cut */
    assert_string_equal(wire, "a");
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

static void test_list_has(void **state)
{
    (void)state;
    static const char *const with[] = {"gzip", "identity,gzip", "br;q=1, GZIP ;q=0.5", ",,gzip"};
    static const char *const without[] = {"", "gzi", "xgzip", "gzip2", "identity", "a;gzip", "gzip x"};
    for (size_t i = 0; i < ARRAY_LEN(with); i++)
        assert_true(status_list_has(with[i], "gzip"));
    for (size_t i = 0; i < ARRAY_LEN(without); i++)
        assert_false(status_list_has(without[i], "gzip"));
}

/* @n zeros in an envelope, sealed; what it weighs then. */
static size_t sealed(size_t n, bool compress, uint8_t *ret_flags)
{
    AUTO_BUF m = BUF_INIT(2 * RPC_MESSAGE_MAX);
    void *dst = buf_reserve(&m, n + FRAMES_PREFIX);
    assert_non_null(dst);
    memset(dst, 0, n + FRAMES_PREFIX);
    buf_commit(&m, n + FRAMES_PREFIX);
    if (frames_seal(&m, compress) < 0)
        return 0;
    *ret_flags = (uint8_t)m.data[0];
    return m.len;
}

static void test_seal(void **state)
{
    (void)state;
    uint8_t flags;
    assert_int_equal(sealed(RPC_COMPRESS_MIN, true, &flags), RPC_COMPRESS_MIN + FRAMES_PREFIX);
    assert_int_equal(flags, 0);
    assert_true(sealed(RPC_COMPRESS_MIN + 1, true, &flags) < 100);
    assert_int_equal(flags, FRAMES_COMPRESSED);
    assert_int_equal(sealed(RPC_MESSAGE_MAX, false, &flags), RPC_MESSAGE_MAX + FRAMES_PREFIX);
    assert_int_equal(flags, 0);
    assert_int_equal(sealed(RPC_MESSAGE_MAX + 1, true, &flags), 0);
}

/* At the limit, one beyond, cut anywhere, with something behind it. */
static void test_gzip(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO_BUF packed = BUF_INIT(4096), plain = BUF_INIT(4096);
    char text[1000] = "a text that is packed";
    assert_int_equal(gzip_deflate((struct str){text, sizeof(text)}, &packed), 0);
    assert_int_equal(gzip_inflate(buf_str(&packed), sizeof(text), &plain, &err), 0);
    assert_int_equal(plain.len, sizeof(text));
    assert_memory_equal(plain.data, text, sizeof(text));
    buf_clear(&plain);
    assert_int_equal(gzip_inflate(buf_str(&packed), sizeof(text) - 1, &plain, &err), -ERR_EXHAUSTED);
    assert_true(plain.len <= sizeof(text));
    for (size_t n = 1; n < packed.len; n++) {
        buf_clear(&plain);
        assert_int_equal(gzip_inflate((struct str){packed.data, n}, sizeof(text), &plain, &err), -ERR_INTERNAL);
    }
    buf_clear(&plain);
    assert_int_equal(gzip_inflate((struct str){NULL, 0}, 0, &plain, &err), 0);
    assert_int_equal(plain.len, 0);
    assert_int_equal(buf_append_byte(&packed, 0), 0);
    assert_int_equal(gzip_inflate(buf_str(&packed), sizeof(text), &plain, &err), -ERR_INTERNAL);
    AUTO_BUF small = BUF_INIT(10);
    assert_int_equal(gzip_deflate((struct str){text, sizeof(text)}, &small), -ERR_EXHAUSTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape), cmocka_unit_test(test_timeout),  cmocka_unit_test(test_mapping),
        cmocka_unit_test(test_frames), cmocka_unit_test(test_list_has), cmocka_unit_test(test_seal),
        cmocka_unit_test(test_gzip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
