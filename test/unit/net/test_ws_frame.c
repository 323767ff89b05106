/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a WebSocket: everything that must be refused, and each limit; every input is fed whole and byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "net/ws_frame.h"

enum { MESSAGE_MAX = 70000 };

/* Appends a frame as a client sends it; @length_form: 0 the shortest, else 2 or 8 bytes. */
static void put_frame(struct buf *b, uint8_t first, const void *p, size_t n, size_t length_form)
{
    static const uint8_t mask[] = {0x37, 0xfa, 0x21, 0x3d};
    size_t form = length_form ? length_form : n < 126 ? 0 : n < 65536 ? 2 : 8;
    assert_int_equal(buf_append_byte(b, first), 0);
    assert_int_equal(buf_append_byte(b, (uint8_t)(0x80 | (form == 0 ? n : form == 2 ? 126 : 127))), 0);
    for (size_t i = form; i > 0; i--)
        assert_int_equal(buf_append_byte(b, (uint8_t)(n >> (8 * (i - 1)))), 0);
    assert_int_equal(buf_append(b, mask, sizeof(mask)), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(buf_append_byte(b, (uint8_t)(((const uint8_t *)p)[i] ^ mask[i % 4])), 0);
}

/* Feeds @b in pieces of @piece; returns the last event that is not 0. */
static int feed(struct ws_reader *r, const struct buf *b, size_t piece, unsigned *events)
{
    int last = 0;
    *events = 0;
    for (size_t at = 0; at < b->len && last >= 0;) {
        size_t n = b->len - at < piece ? b->len - at : piece, used = 0;
        struct err err = ERR_INIT;
        int rc = ws_reader_feed(r, (struct str){b->data + at, n}, &used, &err);
        assert_true(used <= n && (used > 0 || rc < 0));
        assert_int_equal(rc < 0, r->fault != 0);
        at += used;
        if (rc != 0) {
            last = rc;
            ++*events;
        }
        if (rc < 0)
            assert_int_equal(ws_reader_feed(r, STR("x"), &used, NULL), rc);
    }
    return last;
}

static void expect(const struct buf *b, int event, enum ws_code fault, struct str message)
{
    for (size_t piece = 1; piece <= b->len; piece = piece == 1 ? 7 : piece * 1000) {
        struct ws_reader r;
        unsigned events;
        ws_reader_init(&r, MESSAGE_MAX);
        assert_int_equal(feed(&r, b, piece, &events), event);
        assert_int_equal(r.fault, fault);
        if (event == WS_TEXT || event == WS_BINARY)
            assert_true(str_eq(buf_str(&r.message), message));
        else if (event > 0)
            assert_true(str_eq((struct str){(const char *)r.control, r.n_control}, message));
        ws_reader_release(&r);
    }
}

static void one(uint8_t first, struct str payload, size_t form, int event, enum ws_code fault)
{
    struct buf b = BUF_INIT(200000);
    put_frame(&b, first, payload.p, payload.n, form);
    expect(&b, event, fault, payload);
    buf_release(&b);
}

static void raw(struct str bytes, int event, enum ws_code fault)
{
    struct buf b = BUF_INIT(1000);
    assert_int_equal(buf_append_str(&b, bytes), 0);
    expect(&b, event, fault, STR(""));
    buf_release(&b);
}

static void test_messages(void **state)
{
    (void)state;
    char *big = calloc(1, MESSAGE_MAX + 1);
    assert_non_null(big);
    one(0x81, STR(""), 0, WS_TEXT, 0);
    one(0x81, STR("Hello"), 0, WS_TEXT, 0);
    one(0x82, (struct str){big, 125}, 0, WS_BINARY, 0);
    one(0x82, (struct str){big, 126}, 0, WS_BINARY, 0);
    one(0x82, (struct str){big, 65535}, 0, WS_BINARY, 0);
    one(0x82, (struct str){big, 65536}, 0, WS_BINARY, 0);
    one(0x82, (struct str){big, MESSAGE_MAX}, 0, WS_BINARY, 0);
    one(0x82, (struct str){big, MESSAGE_MAX + 1}, 0, -ERR_EXHAUSTED, WS_TOO_BIG);
    one(0x89, (struct str){big, 125}, 0, WS_PING, 0);
    one(0x8a, STR(""), 0, WS_PONG, 0);
    free(big);
}

static void test_framing_is_strict(void **state)
{
    (void)state;
    char zeros[200] = {0};
    for (uint8_t bit = 0x10; bit <= 0x40; bit = (uint8_t)(bit << 1))
        one(0x81 | bit, STR("x"), 0, -ERR_INVALID, WS_PROTOCOL);
    for (unsigned o = 3; o < 16; o++)
        if (o < 8 || o > 10)
            one((uint8_t)(0x80 | o), STR("x"), 0, -ERR_INVALID, WS_PROTOCOL);
    raw(STR("\x81\x01x"), -ERR_INVALID, WS_PROTOCOL);                  /* no mask */
    one(0x82, (struct str){zeros, 125}, 2, -ERR_INVALID, WS_PROTOCOL); /* longer than it must be */
    one(0x82, (struct str){zeros, 126}, 2, WS_BINARY, 0);
    one(0x82, (struct str){zeros, 200}, 8, -ERR_INVALID, WS_PROTOCOL);
    raw(STR("\x82\xff\x80\0\0\0\0\0\0\1mask"), -ERR_INVALID, WS_PROTOCOL);                /* 2^63 */
    raw(STR("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask"), -ERR_EXHAUSTED, WS_TOO_BIG); /* no memory is taken */
    one(0x09, STR("x"), 0, -ERR_INVALID, WS_PROTOCOL);                                    /* half a ping */
    one(0x89, (struct str){zeros, 126}, 0, -ERR_INVALID, WS_PROTOCOL);
    one(0x80, STR("x"), 0, -ERR_INVALID, WS_PROTOCOL); /* a continuation of nothing */
    raw(STR("\x81"), 0, 0);
    raw(STR("\x81\x85mas"), 0, 0);
}

static void test_fragments(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(200000);
    put_frame(&b, 0x01, "Hel", 3, 0);
    put_frame(&b, 0x00, "", 0, 0);
    put_frame(&b, 0x89, "between", 7, 0);
    put_frame(&b, 0x80, "lo", 2, 0);
    expect(&b, WS_TEXT, 0, STR("Hello"));
    put_frame(&b, 0x82, "next", 4, 0);
    expect(&b, WS_BINARY, 0, STR("next"));
    buf_clear(&b);
    put_frame(&b, 0x01, "a", 1, 0);
    put_frame(&b, 0x81, "b", 1, 0);
    expect(&b, -ERR_INVALID, WS_PROTOCOL, STR(""));
    /* The limit is that of all parts together. */
    static char piece[MESSAGE_MAX / 2];
    buf_clear(&b);
    put_frame(&b, 0x02, piece, sizeof(piece), 0);
    put_frame(&b, 0x00, piece, sizeof(piece), 0);
    put_frame(&b, 0x80, "", 0, 0);
    struct ws_reader r;
    unsigned events;
    ws_reader_init(&r, MESSAGE_MAX);
    assert_int_equal(feed(&r, &b, 4096, &events), WS_BINARY);
    assert_int_equal(r.message.len, MESSAGE_MAX);
    ws_reader_release(&r);
    buf_consume(&b, 0);
    b.len -= 6;
    put_frame(&b, 0x80, "x", 1, 0);
    expect(&b, -ERR_EXHAUSTED, WS_TOO_BIG, STR(""));
    buf_release(&b);
}

static void test_text_is_utf8(void **state)
{
    (void)state;
    const char *const good[] = {"\xc2\x80",     "\xdf\xbf",         "\xe0\xa0\x80",     "\xed\x9f\xbf", "\xee\x80\x80",
                                "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\x7f"};
    const char *const bad[] = {"\x80",         "\xc0\xaf",         "\xc1\xbf",         "\xe0\x9f\xbf",
                               "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                               "\xff",         "\xc2\x41"};
    const char *const cut[] = {"\xc2", "\xe2\x98", "a\xf0\x9f\x98"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        one(0x81, str_from(good[i]), 0, WS_TEXT, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        one(0x81, str_from(bad[i]), 0, -ERR_INVALID, WS_BAD_DATA);
        one(0x82, str_from(bad[i]), 0, WS_BINARY, 0);
        one(0x01, str_from(bad[i]), 0, -ERR_INVALID, WS_BAD_DATA); /* not first at its end */
    }
    for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
        one(0x81, str_from(cut[i]), 0, -ERR_INVALID, WS_BAD_DATA);
        one(0x01, str_from(cut[i]), 0, 0, 0);
    }
    /* Every two-byte sequence as str_is_utf8 has it. */
    for (unsigned v = 0; v < 0x10000; v++) {
        char two[2] = {(char)(v >> 8), (char)v};
        struct ws_utf8 u = {0};
        bool ok = ws_utf8_add(&u, (struct str){two, 1}) == 0 && ws_utf8_add(&u, (struct str){two + 1, 1}) == 0 && u.need == 0;
        assert_int_equal(ok, str_is_utf8((struct str){two, 2}));
    }
}

static void test_close_codes(void **state)
{
    (void)state;
    one(0x88, STR(""), 0, WS_CLOSE, 0);
    one(0x88, STR("\x03"), 0, -ERR_INVALID, WS_PROTOCOL);
    one(0x88, STR("\x03\xe8yes"), 0, WS_CLOSE, 0);
    one(0x88, STR("\x03\xe8\xff"), 0, -ERR_INVALID, WS_BAD_DATA);
    one(0x88, STR("\x03\xe8\xe2\x98"), 0, -ERR_INVALID, WS_BAD_DATA);
    for (unsigned code = 0; code < 65536; code += code < 5100 ? 1 : 997) {
        char p[2] = {(char)(code >> 8), (char)code};
        bool ok = (code >= 1000 && code < 1004) || (code > 1006 && code < 1015) || (code >= 3000 && code < 5000);
        one(0x88, (struct str){p, 2}, 0, ok ? WS_CLOSE : -ERR_INVALID, ok ? 0 : WS_PROTOCOL);
        assert_int_equal(ws_close_code((const uint8_t *)p, 2), code);
    }
    assert_int_equal(ws_close_code(NULL, 0), WS_NO_CODE);
}

static void test_writing(void **state)
{
    (void)state;
    uint8_t h[WS_HEAD_MAX];
    assert_int_equal(ws_frame_head(WS_TEXT, 125, NULL, h), 2);
    assert_memory_equal(h, "\x81\x7d", 2);
    assert_int_equal(ws_frame_head(WS_BINARY, 126, NULL, h), 4);
    assert_memory_equal(h, "\x82\x7e\x00\x7e", 4);
    assert_int_equal(ws_frame_head(WS_BINARY, 65535, NULL, h), 4);
    assert_int_equal(ws_frame_head(WS_BINARY, 65536, NULL, h), 10);
    assert_memory_equal(h, "\x82\x7f\0\0\0\0\0\1\0\0", 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),     cmocka_unit_test(test_framing_is_strict), cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_text_is_utf8), cmocka_unit_test(test_close_codes),       cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
