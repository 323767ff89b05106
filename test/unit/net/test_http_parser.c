/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 parser against the shapes that smuggle requests (http_vectors.h), whole and in pieces; responses; its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/http.h"
#include "net/http_vectors.h"

struct seen {
    int heads, ends;
    char target[8][8];
    char body[64];
    size_t n_body;
    struct http_head head;
};

static int on_head(void *arg, struct http_head *head)
{
    struct seen *s = arg;
    if (s->heads < 8 && head->target)
        str_copy(s->target[s->heads], sizeof(s->target[0]), str_from(head->target));
    s->heads++;
    http_head_release(&s->head);
    s->head = *head;
    head->store = BUF_INIT(0);
    return 0;
}

static int on_body(void *arg, struct str bytes)
{
    struct seen *s = arg;
    for (size_t i = 0; i < bytes.n && s->n_body < sizeof(s->body); i++)
        s->body[s->n_body++] = bytes.p[i];
    return 0;
}

static int on_end(void *arg)
{
    ((struct seen *)arg)->ends++;
    return 0;
}

static const struct http_parser_handler handler = {on_head, on_body, on_end};

/* Feeds pieces of @step bytes and starts anew after each message. */
static int feed(struct http_parser *p, struct str bytes, size_t step, struct seen *s, struct err *err)
{
    while (bytes.n) {
        size_t used = 0;
        int ends = s->ends;
        int rc = http_parser_feed(p, (struct str){bytes.p, bytes.n < step ? bytes.n : step}, &used, err);
        if (rc < 0)
            return rc;
        if (s->ends > ends)
            http_parser_reset(p);
        bytes.p += used;
        bytes.n -= used;
    }
    return 0;
}

static void check_vector(const struct http_vector *v, size_t step)
{
    struct seen seen = {0};
    struct http_parser *p = http_parser_new(true, &handler, &seen);
    struct err err = ERR_INIT;
    int rc = feed(p, (struct str){v->bytes, v->n}, step, &seen, &err);
    int want = v->messages < 0 ? -v->messages - 1 : v->messages;
    if ((rc < 0) != (v->messages < 0) || seen.ends != want)
        fail_msg("%s (steps of %zu): %d messages, rc %d %s", v->name, step, seen.ends, rc, err.msg);
    http_head_release(&seen.head);
    http_parser_free(p);
}

/* req: MA-3 */
static void test_vectors(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(http_vectors) >= 58);
    for (size_t i = 0; i < ARRAY_LEN(http_vectors); i++) {
        check_vector(&http_vectors[i], SIZE_MAX);
        check_vector(&http_vectors[i], 1);
        check_vector(&http_vectors[i], 7);
    }
}

static int parse_one(bool request, const char *text, size_t n, struct seen *s, bool eof, bool no_body)
{
    struct http_parser *p = http_parser_new(request, &handler, s);
    struct err err = ERR_INIT;
    if (no_body)
        http_parser_no_body(p);
    int rc = feed(p, (struct str){text, n}, 3, s, &err);
    if (rc == 0 && eof)
        rc = http_parser_eof(p, &err);
    http_parser_free(p);
    return rc;
}

#define ONE(request, text, s, eof, no_body) parse_one(request, text, sizeof(text) - 1, s, eof, no_body)

static void test_responses(void **state)
{
    (void)state;
    struct seen s = {0};
    assert_int_equal(ONE(false, "HTTP/1.1 200 OK\r\n\r\nuntil the end", &s, true, false), 0);
    assert_int_equal(s.ends, 1);
    assert_memory_equal(s.body, "until the end", 13);
    assert_false(s.head.keep_alive);
    http_head_release(&s.head);
    s = (struct seen){0};
    assert_int_equal(ONE(false, "HTTP/1.1 204\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", &s, true, false),
                     0);
    assert_int_equal(s.ends, 2);
    http_head_release(&s.head);
    s = (struct seen){0};
    assert_int_equal(ONE(false, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", &s, true, true), 0);
    assert_int_equal(s.ends, 1);
    http_head_release(&s.head);
    s = (struct seen){0};
    assert_int_equal(ONE(false, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", &s, true, false), 0);
    assert_true(s.head.upgrade);
    http_head_release(&s.head);
    s = (struct seen){0};
    assert_int_equal(ONE(false, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfive.", &s, true, false), -(int)ERR_DATA_LOSS);
    http_head_release(&s.head);
    s = (struct seen){0};
    assert_int_equal(ONE(false, "HTTP/1.1 99 X\r\n\r\n", &s, false, false), -(int)ERR_INVALID);
    http_head_release(&s.head);
}

/* A request with one header line of @n bytes and @fields short ones. */
static int with_limits(size_t line, size_t fields)
{
    struct seen s = {0};
    AUTO_BUF b = BUF_INIT(1 << 20);
    assert_int_equal(buf_append_cstr(&b, "GET / HTTP/1.1\r\nHost: a\r\n"), 0);
    if (line) {
        assert_int_equal(buf_append_cstr(&b, "X:"), 0);
        for (size_t i = 2; i < line; i++)
            assert_int_equal(buf_append_byte(&b, 'v'), 0);
        assert_int_equal(buf_append_cstr(&b, "\r\n"), 0);
    }
    for (size_t i = 0; i < fields; i++)
        assert_int_equal(buf_append_cstr(&b, "A: b\r\n"), 0);
    assert_int_equal(buf_append_cstr(&b, "\r\n"), 0);
    int rc = parse_one(true, b.data, b.len, &s, false, false);
    http_head_release(&s.head);
    return rc;
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(with_limits(HTTP_LINE_MAX, 0), 0);
    assert_int_equal(with_limits(HTTP_LINE_MAX + 1, 0), -(int)ERR_EXHAUSTED);
    assert_int_equal(with_limits(0, HTTP_FIELDS_MAX - 1), 0);
    assert_int_equal(with_limits(0, HTTP_FIELDS_MAX), -(int)ERR_EXHAUSTED);
    struct seen s = {0};
    AUTO_BUF b = BUF_INIT(1 << 20);
    assert_int_equal(buf_append_cstr(&b, POST H CHUNKED "\r\n5;"), 0);
    for (int i = 0; i < HTTP_CHUNK_EXT_MAX; i++)
        assert_int_equal(buf_append_byte(&b, 'e'), 0);
    assert_int_equal(parse_one(true, b.data, b.len, &s, false, false), 0);
    assert_int_equal(buf_append_byte(&b, 'e'), 0);
    assert_int_equal(parse_one(true, b.data, b.len, &s, false, false), -(int)ERR_EXHAUSTED);
    http_head_release(&s.head);
}

/* A trailer is bounded as a head is. */
static void test_trailer_limit(void **state)
{
    (void)state;
    for (int over = 0; over <= 1; over++) {
        struct seen s = {0};
        AUTO_BUF b = BUF_INIT(1 << 20);
        assert_int_equal(buf_append_cstr(&b, POST H CHUNKED "\r\n0\r\n"), 0);
        for (int i = 0; i < HTTP_FIELDS_MAX + over; i++)
            assert_int_equal(buf_append_cstr(&b, "A: b\r\n"), 0);
        assert_int_equal(buf_append_cstr(&b, "\r\n"), 0);
        assert_int_equal(parse_one(true, b.data, b.len, &s, false, false), over ? -(int)ERR_EXHAUSTED : 0);
        assert_int_equal(s.ends, 1 - over);
        http_head_release(&s.head);
    }
}

static void test_head_limit(void **state)
{
    (void)state;
    for (int over = 0; over <= 1; over++) {
        struct seen s = {0};
        AUTO_BUF b = BUF_INIT(1 << 20);
        assert_int_equal(buf_append_cstr(&b, "GET / HTTP/1.1\r\nHost: a\r\n"), 0);
        while (b.len + 4 < HTTP_HEAD_MAX) {
            size_t line = HTTP_HEAD_MAX - 4 - b.len > 4096 ? 4000 : HTTP_HEAD_MAX - 4 - b.len;
            assert_int_equal(buf_append_cstr(&b, "X:"), 0);
            for (size_t i = 2; i < line; i++)
                assert_int_equal(buf_append_byte(&b, 'v'), 0);
            assert_int_equal(buf_append_cstr(&b, "\r\n"), 0);
        }
        b.len -= 2;
        if (over)
            assert_int_equal(buf_append_byte(&b, 'v'), 0);
        assert_int_equal(buf_append_cstr(&b, "\r\n\r\n"), 0);
        assert_int_equal(b.len, (size_t)HTTP_HEAD_MAX + (over ? 1 : 0));
        assert_int_equal(parse_one(true, b.data, b.len, &s, false, false), over ? -(int)ERR_EXHAUSTED : 0);
        http_head_release(&s.head);
    }
}

static void test_escape(void **state)
{
    (void)state;
    AUTO_BUF b = BUF_INIT(64);
    assert_int_equal(http_escape(&b, STR("a-_.~Z0 /%\xff{\"")), 0);
    assert_string_equal(buf_cstr(&b), "a-_.~Z0%20%2F%25%FF%7B%22");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),    cmocka_unit_test(test_responses), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_head_limit), cmocka_unit_test(test_escape),
        cmocka_unit_test(test_trailer_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
