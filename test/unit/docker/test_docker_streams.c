/* SPDX-License-Identifier: Apache-2.0 */
/* Frames, log lines, records and errors of the engine, from canned bytes in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "docker/docker_internal.h"
#include "docker/docker_log_reader.h"

#define T1    "2026-01-02T03:04:05.000000001Z "
#define T2    "2026-01-02T03:04:05.000000002Z "
#define T1_NS 1767323045000000001ULL

struct got {
    struct buf text; /* "o:" or "e:", "+" when partial, the line, "|" */
    uint64_t first_ns, last_ns;
    unsigned n;
    int answer;
};

static int on_log(void *arg, const struct docker_log *e)
{
    struct got *g = arg;
    if (g->n++ == 0)
        g->first_ns = e->time_ns;
    g->last_ns = e->time_ns;
    assert_true(e->line.n <= DOCKER_LINE_MAX);
    assert_int_equal(buf_printf(&g->text, "%s%s", e->is_stderr ? "e:" : "o:", e->partial ? "+" : ""), 0);
    assert_int_equal(buf_append_str(&g->text, e->line), 0);
    assert_int_equal(buf_append_cstr(&g->text, "|"), 0);
    return g->answer;
}

static void frame(struct buf *b, uint8_t stream, const char *text, size_t n)
{
    uint8_t head[8] = {stream, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    assert_int_equal(buf_append(b, head, 8), 0);
    assert_int_equal(buf_append(b, text, n), 0);
}

static int read_all(bool tty, struct str bytes, size_t step, struct got *g, struct err *err)
{
    struct docker_log_reader r;
    *g = (struct got){.text = BUF_INIT(1 << 20), .answer = g->answer};
    docker_log_reader_init(&r, tty, on_log, g);
    int rc = 0;
    while (bytes.n && rc == 0) {
        size_t n = bytes.n < step ? bytes.n : step;
        rc = docker_log_reader_feed(&r, (struct str){bytes.p, n}, err);
        bytes.p += n;
        bytes.n -= n;
    }
    if (rc == 0)
        rc = docker_log_reader_end(&r, err);
    docker_log_reader_release(&r);
    return rc;
}

static void test_demux(void **state)
{
    (void)state;
    AUTO_BUF b = BUF_INIT(1 << 20);
    static const char one[] = T1 "one\n", err_line[] = T2 "oops\n", part1[] = T1 "par", part2[] = T2 "tial\n",
                      two[] = T1 "a\nb\n", none[] = "no stamp\n", open[] = T2 "open";
    frame(&b, 1, one, sizeof(one) - 1);
    frame(&b, 2, err_line, sizeof(err_line) - 1);
    frame(&b, 1, part1, sizeof(part1) - 1);
    frame(&b, 2, one, sizeof(one) - 1);
    frame(&b, 1, part2, sizeof(part2) - 1);
    frame(&b, 1, two, sizeof(two) - 1);
    frame(&b, 1, none, sizeof(none) - 1);
    frame(&b, 1, "", 0);
    frame(&b, 1, open, sizeof(open) - 1);
    for (size_t step = 1; step < 40; step++) {
        struct got g = {.answer = 0};
        struct err err = ERR_INIT;
        assert_int_equal(read_all(false, buf_str(&b), step, &g, &err), 0);
        assert_string_equal(buf_cstr(&g.text), "o:one|e:oops|e:one|o:partial|o:a|o:b|o:no stamp|o:open|");
        assert_true(g.first_ns == T1_NS && g.last_ns == T1_NS + 1);
        buf_release(&g.text);
    }
}

static void test_bad_frames(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct got g = {.answer = 0};
    assert_int_equal(read_all(false, STR("\x04\0\0\0\0\0\0\x01x"), 3, &g, &err), -(int)ERR_INVALID);
    buf_release(&g.text);
    assert_int_equal(read_all(false, STR("HTTP/1.1 200 OK"), 3, &g, &err), -(int)ERR_INVALID);
    buf_release(&g.text);
    AUTO_BUF b = BUF_INIT(1000);
    frame(&b, 3, "no space left on device", 23); /* the engine's own words */
    assert_int_equal(read_all(false, buf_str(&b), 100, &g, &err), -(int)ERR_EXHAUSTED);
    buf_release(&g.text);
    g.answer = DOCKER_STOPPED;
    buf_clear(&b);
    frame(&b, 1, T1 "a\nb\n", 35);
    assert_int_equal(read_all(false, buf_str(&b), 100, &g, &err), DOCKER_STOPPED);
    assert_int_equal(g.n, 1);
    buf_release(&g.text);
    g.answer = -(int)ERR_ABORTED;
    assert_int_equal(read_all(false, buf_str(&b), 100, &g, &err), -(int)ERR_ABORTED);
    buf_release(&g.text);
}

/* A line of @n bytes in parts of 16 KiB, as the engine cuts them. */
static void long_line(struct buf *b, size_t n)
{
    static char part[64 + DOCKER_PART_SIZE];
    while (n) {
        size_t take = n < DOCKER_PART_SIZE ? n : DOCKER_PART_SIZE;
        size_t at = sizeof(T1) - 1;
        memcpy(part, T1, at);
        memset(part + at, 'x', take);
        at += take;
        n -= take;
        if (n == 0)
            part[at++] = '\n';
        frame(b, 1, part, at);
    }
}

static void test_long_lines(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        unsigned entries;
    } cases[] = {{DOCKER_PART_SIZE, 1}, {DOCKER_LINE_MAX, 1}, {DOCKER_LINE_MAX + 1, 2}, {3 * DOCKER_LINE_MAX, 3}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF b = BUF_INIT(1 << 20);
        struct got g = {.answer = 0};
        struct err err = ERR_INIT;
        long_line(&b, cases[i].n);
        assert_int_equal(read_all(false, buf_str(&b), 32768, &g, &err), 0);
        assert_int_equal(g.n, cases[i].entries);
        assert_int_equal(g.text.len, cases[i].n + 3 * cases[i].entries + cases[i].entries - 1);
        buf_release(&g.text);
    }
}

static void test_tty(void **state)
{
    (void)state;
    AUTO_BUF b = BUF_INIT(1 << 20);
    static char part[DOCKER_PART_SIZE];
    memset(part, 'y', sizeof(part));
    assert_int_equal(buf_append_cstr(&b, T1 "one\r\n" T2 "\r\n" T1), 0);
    assert_int_equal(buf_append(&b, part, sizeof(part)), 0);
    assert_int_equal(buf_append_cstr(&b, T2 "zz\r\n" T2 "open"), 0);
    for (size_t step = 1; step < 60; step += 7) {
        struct got g = {.answer = 0};
        struct err err = ERR_INIT;
        assert_int_equal(read_all(true, buf_str(&b), step, &g, &err), 0);
        assert_int_equal(g.n, 4);
        assert_true(strncmp(buf_cstr(&g.text), "o:one|o:|o:yy", 13) == 0);
        assert_non_null(strstr(buf_cstr(&g.text), "yyzz|o:open|"));
        assert_int_equal(g.text.len, 6 + 3 + 3 + DOCKER_PART_SIZE + 2 + 7);
        buf_release(&g.text);
    }
}

static int on_record(void *arg, struct str json, struct err *err)
{
    (void)err;
    return buf_append_str(arg, json) == 0 && buf_append_cstr(arg, "|") == 0 ? 0 : -1;
}

static void test_records(void **state)
{
    (void)state;
    struct str s = STR("{\"a\":\"}{\\\"\\\\\"}\r\n{\"b\":{\"c\":{}}}{}\n");
    for (size_t step = 1; step < s.n; step++) {
        struct docker_records r = {0};
        AUTO_BUF out = BUF_INIT(1000);
        for (size_t at = 0; at < s.n; at += step)
            assert_int_equal(
                docker_records_feed(&r, (struct str){s.p + at, s.n - at < step ? s.n - at : step}, on_record, &out, NULL), 0);
        assert_string_equal(buf_cstr(&out), "{\"a\":\"}{\\\"\\\\\"}|{\"b\":{\"c\":{}}}|{}|");
        buf_release(&r.pending);
    }
    struct docker_records r = {0};
    assert_int_equal(docker_records_feed(&r, STR("}"), on_record, NULL, NULL), -(int)ERR_INVALID);
    for (int over = 0; over <= 1; over++) {
        AUTO_BUF big = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
        r = (struct docker_records){0};
        assert_int_equal(buf_append_cstr(&big, "{\""), 0);
        while (big.len < (size_t)DOCKER_RECORD_MAX - 2 + (size_t)over)
            assert_int_equal(buf_append_byte(&big, 'k'), 0);
        assert_int_equal(docker_records_feed(&r, buf_str(&big), on_record, &out, NULL), 0);
        assert_int_equal(docker_records_feed(&r, STR("\"}"), on_record, &out, NULL), over ? -(int)ERR_EXHAUSTED : 0);
        buf_release(&r.pending);
    }
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *text;
        enum err_code code;
        bool hint;
    } cases[] = {
        {404, "No such container: x", ERR_NOT_FOUND, false},
        {404, "No such image: x:1", ERR_NOT_FOUND, false},
        {409, "Conflict. The container name \"/a\" is already in use by container \"1\"", ERR_EXISTS, false},
        {409, "network with name a already exists", ERR_EXISTS, false},
        {409, "Container 1 is not running", ERR_PRECONDITION, false},
        {400, "bad parameter", ERR_INVALID, false},
        {500,
         "driver failed programming external connectivity on endpoint a: Bind for 0.0.0.0:80 failed: port is already allocated",
         ERR_PRECONDITION, true},
        {500, "write /var/lib/docker/tmp/x: no space left on device", ERR_EXHAUSTED, true},
        {500, "Get \"http://r/v2/\": unauthorized: incorrect username or password", ERR_UNAUTHENTICATED, true},
        {500, "Head \"http://r/v2/a/manifests/1\": no basic auth credentials", ERR_UNAUTHENTICATED, true},
        {500, "errors:\ndenied: requested access to the resource is denied\n", ERR_DENIED, true},
        {404, "pull access denied for a, repository does not exist or may require 'docker login'", ERR_NOT_FOUND, true},
        {500, "dial tcp: lookup r: no such host", ERR_UNAVAILABLE, true},
        {500, "dial tcp 127.0.0.1:1: connect: connection refused", ERR_UNAVAILABLE, true},
        {500, "toomanyrequests: You have reached your pull rate limit", ERR_EXHAUSTED, true},
        {501, "configured logging driver does not support reading", ERR_PRECONDITION, true},
        {500, "manifest for a:2 not found: manifest unknown: manifest unknown", ERR_NOT_FOUND, true},
        {500, "something else", ERR_UNKNOWN, false},
        {503, "", ERR_UNAVAILABLE, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(docker_engine_error(cases[i].status, str_from(cases[i].text), &err), -(int)cases[i].code);
        assert_int_equal(err.hint[0] != '\0', cases[i].hint);
        assert_null(strchr(err.msg, '\n'));
        assert_true(strncmp(err.msg, "Docker: ", 8) == 0);
    }
}

static void test_an_error_is_said_once(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"no such image: nosuch:1: No such image: nosuch:1", "Docker: No such image: nosuch:1"},
        {"No such image: a: b", "Docker: No such image: a: b"},
        {"a: b", "Docker: a: b"},
        {"a: A", "Docker: A"},
        {": ", "Docker: :"},
        {"ab", "Docker: ab"},
        {"x", "Docker: x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(docker_engine_error(404, str_from(cases[i][0]), &err), -(int)ERR_NOT_FOUND);
        assert_string_equal(err.msg, cases[i][1]);
        assert_string_equal(err.hint, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demux), cmocka_unit_test(test_bad_frames), cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_tty),   cmocka_unit_test(test_records),    cmocka_unit_test(test_errors),
        cmocka_unit_test(test_an_error_is_said_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
