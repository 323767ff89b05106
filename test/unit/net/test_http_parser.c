/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 parser against the shapes that smuggle requests: each vector is followed by a second, pipelined GET, and what counts is how
 * many messages are seen before the parser is content or refuses.  Every vector is fed whole, and byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/http.h"

#define H       "Host: a\r\n"
#define POST    "POST /1 HTTP/1.1\r\n"
#define NEXT    "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define V(name, ok, text)                                                                                                        \
    {                                                                                                                            \
        name, text NEXT, sizeof(text NEXT) - 1, ok                                                                               \
    }

struct vector {
    const char *name;
    const char *bytes;
    size_t n;
    int messages; /* complete ones; < 0: that many (minus one), then refused */
};

/* REFUSED: not even the first message is complete. ONE_THEN: the first is, what follows is refused. */
enum { REFUSED = -1, ONE_THEN = -2, BOTH = 2 };

static const struct vector vectors[] = {
    V("control: content-length", BOTH, POST H "Content-Length: 5\r\n\r\nhello"),
    V("control: chunked", BOTH, POST H CHUNKED "\r\n5\r\nhello\r\n0\r\n\r\n"),
    V("length, then chunked", REFUSED, POST H "Content-Length: 5\r\n" CHUNKED "\r\n0\r\n\r\n"),
    V("chunked, then length", REFUSED, POST H CHUNKED "Content-Length: 5\r\n\r\n0\r\n\r\n"),
    V("two equal lengths", REFUSED, POST H "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    V("two different lengths", REFUSED, POST H "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    V("length +5", REFUSED, POST H "Content-Length: +5\r\n\r\nhello"),
    V("length with trailing space", BOTH, POST H "Content-Length: 5 \r\n\r\nhello"),
    V("length 5 6", REFUSED, POST H "Content-Length: 5 6\r\n\r\nhello"),
    V("length 5,5", REFUSED, POST H "Content-Length: 5,5\r\n\r\nhello"),
    V("length 0x5", REFUSED, POST H "Content-Length: 0x5\r\n\r\nhello"),
    V("length -1", REFUSED, POST H "Content-Length: -1\r\n\r\nhello"),
    V("length empty", REFUSED, POST H "Content-Length: \r\n\r\nhello"),
    V("length 2^64+5", REFUSED, POST H "Content-Length: 18446744073709551621\r\n\r\nhello"),
    V("space before length", REFUSED, POST H " Content-Length: 5\r\n\r\nhello"),
    V("space after length's name", REFUSED, POST H "Content-Length : 5\r\n\r\nhello"),
    V("space before transfer-encoding", REFUSED, POST H " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    V("space after transfer-encoding's name", REFUSED, POST H "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    V("encoding xchunked", REFUSED, POST H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    V("encoding chunked, identity", REFUSED, POST H "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    V("encoding identity", REFUSED, POST H "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    V("encoding gzip", REFUSED, POST H "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
    V("encoding after VT", REFUSED,
      POST H "Transfer-Encoding: \x0b"
             "chunked\r\n\r\n0\r\n\r\n"),
    V("encoding twice chunked", REFUSED, POST H CHUNKED CHUNKED "\r\n0\r\n\r\n"),
    V("encoding chunked, then false", REFUSED, POST H CHUNKED "Transfer-Encoding: false\r\n\r\n0\r\n\r\n"),
    V("encoding folded", REFUSED, POST H "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    V("chunked in 1.0", REFUSED, "POST /1 HTTP/1.0\r\n" H CHUNKED "\r\n0\r\n\r\n"),
    V("fold on another header", REFUSED, POST H "X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    V("bare LF lines", REFUSED, "GET /1 HTTP/1.1\nHost: a\n\n"),
    V("CR in a value's middle", REFUSED, POST H "X: a\rb\r\nContent-Length: 0\r\n\r\n"),
    V("CR at a value's start", REFUSED, POST H "X: \rTransfer-Encoding: chunked\r\n\r\n"),
    V("double CR", REFUSED, POST H "X: a\r\r\nContent-Length: 0\r\n\r\n"),
    V("LF before the last CRLF", REFUSED, "GET /1 HTTP/1.1\r\n" H "\n\r\n"),
    V("NUL in a name", REFUSED, POST H "X\0Y: a\r\nContent-Length: 0\r\n\r\n"),
    V("NUL in a value", REFUSED, POST H "X: a\0b\r\nContent-Length: 0\r\n\r\n"),
    V("0x01 in a name", REFUSED, POST H "X\x01: a\r\nContent-Length: 0\r\n\r\n"),
    V("0x01 in a value", REFUSED, POST H "X: a\x01\r\nContent-Length: 0\r\n\r\n"),
    V("0x80 in a name", REFUSED, POST H "X\x80: a\r\nContent-Length: 0\r\n\r\n"),
    V("0x80 in a value is text", BOTH, POST H "X: a\x80\r\nContent-Length: 0\r\n\r\n"),
    V("empty name", REFUSED, POST H ": a\r\nContent-Length: 0\r\n\r\n"),
    V("chunk size 0x5", REFUSED, POST H CHUNKED "\r\n0x5\r\nhello\r\n0\r\n\r\n"),
    V("chunk size after space", REFUSED, POST H CHUNKED "\r\n 5\r\nhello\r\n0\r\n\r\n"),
    V("chunk size before space", REFUSED, POST H CHUNKED "\r\n5 \r\nhello\r\n0\r\n\r\n"),
    V("chunk size -5", REFUSED, POST H CHUNKED "\r\n-5\r\nhello\r\n0\r\n\r\n"),
    V("chunk size overflow", REFUSED, POST H CHUNKED "\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
    V("chunk size ended by LF", REFUSED, POST H CHUNKED "\r\n5\nhello\r\n0\r\n\r\n"),
    V("chunk data without CRLF", REFUSED, POST H CHUNKED "\r\n5\r\nhelloX0\r\n\r\n"),
    V("chunk extension", BOTH, POST H CHUNKED "\r\n5;a=b\r\nhello\r\n0\r\n\r\n"),
    V("chunk extension with LF", REFUSED, POST H CHUNKED "\r\n5;a\nb\r\nhello\r\n0\r\n\r\n"),
    V("chunk extension with CR", REFUSED, POST H CHUNKED "\r\n5;a\rb\r\nhello\r\n0\r\n\r\n"),
    V("trailer ended by LF", REFUSED, POST H CHUNKED "\r\n0\r\nX: y\n\r\n"),
    V("last chunk ended by LF", REFUSED, POST H CHUNKED "\r\n0\n\r\n"),
    V("two spaces in the request line", REFUSED, "GET  /1 HTTP/1.1\r\n" H "\r\n"),
    V("tab in the request line", REFUSED, "GET\t/1 HTTP/1.1\r\n" H "\r\n"),
    V("space before the request line", REFUSED, " GET /1 HTTP/1.1\r\n" H "\r\n"),
    V("HTTP/1.9", REFUSED, "GET /1 HTTP/1.9\r\n" H "\r\n"),
    V("HTTP/3.0", REFUSED, "GET /1 HTTP/3.0\r\n" H "\r\n"),
    V("HTTP/0.9", REFUSED, "GET /1 HTTP/0.9\r\n" H "\r\n"),
    V("lower-case method", REFUSED, "get /1 HTTP/1.1\r\n" H "\r\n"),
    V("no Host", REFUSED, "GET /1 HTTP/1.1\r\n\r\n"),
    V("two Hosts", REFUSED, "GET /1 HTTP/1.1\r\n" H H "\r\n"),
    V("preface of HTTP/2", REFUSED, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    V("bytes after Connection: close", ONE_THEN, "GET /1 HTTP/1.1\r\n" H "Connection: close\r\n\r\n"),
};

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

static void check_vector(const struct vector *v, size_t step)
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

static void test_vectors(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(vectors) >= 58);
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        check_vector(&vectors[i], SIZE_MAX);
        check_vector(&vectors[i], 1);
        check_vector(&vectors[i], 7);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
