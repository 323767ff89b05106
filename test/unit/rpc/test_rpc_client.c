/* SPDX-License-Identifier: Apache-2.0 */
/* Our client against a peer that answers as it is told, by the book or not: statuses, resets, heads, messages, retries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "echo.davit.h"
#include "net/gzip.h"
#include "net/h2.h"
#include "rpc/details.h"
#include "rpc/rpc.h"

#define SVC (&davit_test_v1_echo_service)

/* What the peer does with one call. */
struct answer {
    const struct h2_field *head; /* NULL: none */
    size_t n_head;
    const struct h2_field *trailers; /* NULL: none */
    size_t n_trailers;
    struct str body;
    bool no_end; /* nothing follows, the stream stays open */
    bool trailers_only;
    bool reset;
    uint32_t code;  /* of the reset */
    bool cut;       /* the connection ends */
    bool after_end; /* only once the request is complete */
};

struct peer {
    struct loop *loop;
    struct listener *listener;
    struct h2 *h2;
    struct rpc_channel *ch;
    char dir[64], addr[128];
    const struct answer *answers;
    size_t n_answers, calls;
    char timeout[32];
    void (*body)(struct peer *p);
};

static void give(struct peer *p, struct h2_stream *st, const struct answer *a)
{
    if (a->cut) {
        p->h2 = h2_free(p->h2);
        return;
    }
    if (a->trailers_only)
        assert_int_equal(h2_respond_end(st, a->head, a->n_head), 0);
    else if (a->head)
        assert_int_equal(h2_respond(st, a->head, a->n_head), 0);
    if (a->body.n)
        assert_int_equal(h2_write(st, a->body), 0);
    if (a->reset)
        h2_reset(st, (enum h2_code)a->code);
    else if (!a->no_end && !a->trailers_only)
        h2_finish(st, a->trailers, a->n_trailers);
}

static void peer_head(void *arg, struct h2_stream *st, struct h2_head *head, bool end)
{
    struct peer *p = arg;
    (void)end;
    const char *timeout = h2_head_get(head, "grpc-timeout");
    (void)str_copy(p->timeout, sizeof(p->timeout), str_from(timeout ? timeout : ""));
    assert_string_equal(h2_head_get(head, "te"), "trailers");
    assert_string_equal(h2_head_get(head, ":method"), "POST");
    const struct answer *a = &p->answers[p->calls < p->n_answers ? p->calls : p->n_answers - 1];
    p->calls++;
    h2_set_user(st, (void *)(uintptr_t)a);
    if (!a->after_end)
        give(p, st, a);
}

static void peer_data(void *arg, struct h2_stream *st, struct str bytes)
{
    (void)arg;
    h2_consume(st, bytes.n);
}

static void peer_end(void *arg, struct h2_stream *st)
{
    const struct answer *a = h2_user(st);
    if (a && a->after_end)
        give(arg, st, a);
}

static void peer_closed(void *arg, struct h2_stream *st, uint32_t code)
{
    (void)arg;
    (void)st;
    (void)code;
}

static void peer_drain(void *arg, struct h2_stream *st)
{
    (void)arg;
    (void)st;
}

static void peer_dead(void *arg, const struct err *why)
{
    struct peer *p = arg;
    (void)why;
    p->h2 = h2_free(p->h2);
}

static const struct h2_handler peer_handler = {peer_head, peer_data, peer_end, peer_closed, peer_drain, NULL, peer_dead};

static void peer_accept(void *arg, struct stream *stream)
{
    struct peer *p = arg;
    p->h2 = h2_free(p->h2);
    p->h2 = h2_new(conn_plain(stream), true, &peer_handler, p);
}

static void fiber_body(void *arg)
{
    struct peer *p = arg;
    struct err err = ERR_INIT;
    if (rpc_channel_open(p->loop, p->addr, NULL, 0, deadline_in(5 * USEC_SEC), &p->ch, &err) < 0)
        fail_msg("channel: %s", err.msg);
    p->body(p);
    p->ch = rpc_channel_close(p->ch);
    loop_stop(p->loop);
}

static void peer_run(void (*body)(struct peer *p))
{
    struct peer p = {.body = body, .dir = "/tmp/rpc-XXXXXX"};
    struct err err = ERR_INIT;
    assert_non_null(mkdtemp(p.dir));
    (void)snprintf(p.addr, sizeof(p.addr), "unix:%s/s", p.dir);
    p.loop = loop_new();
    assert_int_equal(listener_open(p.loop, p.addr, 0600, peer_accept, &p, &p.listener, &err), 0);
    assert_int_equal(fiber_spawn(p.loop, "test", fiber_body, &p, NULL), 0);
    loop_run(p.loop);
    p.h2 = h2_free(p.h2);
    p.listener = listener_close(p.listener);
    loop_run(p.loop);
    p.loop = loop_free(p.loop);
    (void)remove(p.addr + 5);
    (void)rmdir(p.dir);
}

/* A unary call against @n @answers: its code; details in @err. */
static enum err_code call(struct peer *p, const struct answer *answers, size_t n, struct err *err)
{
    Davit__Test__V1__EchoRequest q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    *err = ERR_INIT;
    p->answers = answers;
    p->n_answers = n;
    p->calls = 0;
    int rc = rpc_unary(p->ch, SVC, "Echo", &q.base, deadline_in(5 * USEC_SEC), &m, err);
    assert_true(rc <= 0);
    (void)rpc_message_free(m);
    return (enum err_code) - rc;
}

#define HEAD(type, status)                                                                                                       \
    {":status", status},                                                                                                         \
    {                                                                                                                            \
        "content-type", type                                                                                                     \
    }
static const struct h2_field good[] = {HEAD("application/grpc", "200")};
static const struct h2_field ok[] = {{"grpc-status", "0"}};
#define EMPTY ((struct str){"\0\0\0\0\0", 5})

/* ---- codes ---- */

static void resets_body(struct peer *p)
{
    static const struct {
        uint32_t h2;
        enum err_code code;
    } map[] = {{H2_NO_ERROR, ERR_INTERNAL},           {H2_PROTOCOL_ERROR, ERR_INTERNAL},   {H2_INTERNAL_ERROR, ERR_INTERNAL},
               {H2_FLOW_CONTROL_ERROR, ERR_INTERNAL}, {H2_SETTINGS_TIMEOUT, ERR_INTERNAL}, {H2_FRAME_SIZE_ERROR, ERR_INTERNAL},
               {H2_COMPRESSION_ERROR, ERR_INTERNAL},  {H2_CANCEL, ERR_CANCELLED},          {H2_ENHANCE_YOUR_CALM, ERR_EXHAUSTED},
               {H2_INADEQUATE_SECURITY, ERR_DENIED},  {H2_REFUSED_STREAM, ERR_UNAVAILABLE}};
    struct err err;
    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        const struct answer a = {.reset = true, .code = map[i].h2, .after_end = true};
        assert_int_equal(call(p, &a, 1, &err), map[i].code);
        assert_int_equal(p->calls, map[i].h2 == H2_REFUSED_STREAM ? 2 : 1);
    }
}

static void test_codes_of_resets(void **state)
{
    (void)state;
    peer_run(resets_body);
}

static void http_body(struct peer *p)
{
    static const struct {
        const char *http;
        enum err_code code;
    } map[] = {{"400", ERR_INTERNAL},    {"401", ERR_UNAUTHENTICATED}, {"403", ERR_DENIED},  {"404", ERR_UNIMPLEMENTED},
               {"429", ERR_UNAVAILABLE}, {"431", ERR_INTERNAL},        {"500", ERR_UNKNOWN}, {"502", ERR_UNAVAILABLE},
               {"503", ERR_UNAVAILABLE}, {"504", ERR_UNAVAILABLE},     {"200", ERR_UNKNOWN}, {"302", ERR_UNKNOWN},
               {"418", ERR_UNKNOWN}};
    struct err err;
    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        const struct h2_field head[] = {HEAD("text/html", map[i].http)};
        const struct answer only = {.head = head, .n_head = 2, .trailers_only = true};
        assert_int_equal(call(p, &only, 1, &err), map[i].code);
        const struct answer with_body = {.head = head, .n_head = 2, .body = STR("<html>")};
        assert_int_equal(call(p, &with_body, 1, &err), map[i].code);
        assert_int_equal(p->calls, 1);
    }
    /* grpc-status counts more than that of HTTP, where it is the only head. */
    const struct h2_field both[] = {HEAD("application/grpc", "503"), {"grpc-status", "5"}};
    const struct answer a = {.head = both, .n_head = 3, .trailers_only = true};
    assert_int_equal(call(p, &a, 1, &err), ERR_NOT_FOUND);
}

static void test_codes_of_http(void **state)
{
    (void)state;
    peer_run(http_body);
}

static void statuses_body(struct peer *p)
{
    struct err err;
    char text[8];
    for (unsigned i = 1; i < ERR_CODE_MAX; i++) {
        (void)snprintf(text, sizeof(text), "%u", i);
        const struct h2_field head[] = {HEAD("application/grpc", "200"),
                                        {"grpc-status", text},
                                        {"grpc-message", "no %E2%98%A0 %zz %"}};
        const struct answer only = {.head = head, .n_head = 4, .trailers_only = true};
        assert_int_equal(call(p, &only, 1, &err), i);
        assert_string_equal(err.msg, "no \xe2\x98\xa0 %zz %");
        const struct answer trailers = {.head = good, .n_head = 2, .trailers = head + 2, .n_trailers = 2, .body = EMPTY};
        assert_int_equal(call(p, &trailers, 1, &err), i);
    }
    static const char *const odd[] = {"17", "99", "-1", "x", "", "4294967296"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        const struct h2_field head[] = {HEAD("application/grpc", "200"), {"grpc-status", odd[i]}};
        const struct answer only = {.head = head, .n_head = 3, .trailers_only = true};
        assert_int_equal(call(p, &only, 1, &err), ERR_UNKNOWN);
    }
}

static void test_statuses(void **state)
{
    (void)state;
    peer_run(statuses_body);
}

/* ---- heads and messages ---- */

static void heads_body(struct peer *p)
{
    struct err err;
    const struct h2_field status_early[] = {HEAD("application/grpc", "200"), {"grpc-status", "5"}, {"grpc-message", "ignore me"}};
    const struct answer ignored = {.head = status_early, .n_head = 4, .trailers = ok, .n_trailers = 1, .body = EMPTY};
    assert_int_equal(call(p, &ignored, 1, &err), ERR_OK);
    const struct answer no_trailers = {.head = status_early, .n_head = 4, .body = EMPTY};
    assert_int_equal(call(p, &no_trailers, 1, &err), ERR_UNKNOWN);
    const struct answer none = {.head = good, .n_head = 2, .trailers = ok, .n_trailers = 1};
    assert_int_equal(call(p, &none, 1, &err), ERR_UNIMPLEMENTED);
    const struct answer two = {.head = good, .n_head = 2, .trailers = ok, .n_trailers = 1, .body = {"\0\0\0\0\0\0\0\0\0\0", 10}};
    assert_int_equal(call(p, &two, 1, &err), ERR_UNIMPLEMENTED);
    const struct answer partial = {.head = good, .n_head = 2, .trailers = ok, .n_trailers = 1, .body = {"\0\0\0\0\5ab", 7}};
    assert_int_equal(call(p, &partial, 1, &err), ERR_INTERNAL);
    const struct answer flag = {.head = good, .n_head = 2, .trailers = ok, .n_trailers = 1, .body = {"\1\0\0\0\0", 5}};
    assert_int_equal(call(p, &flag, 1, &err), ERR_INTERNAL);
    const struct answer bad_flag = {.head = good, .n_head = 2, .trailers = ok, .n_trailers = 1, .body = {"\2\0\0\0\0", 5}};
    assert_int_equal(call(p, &bad_flag, 1, &err), ERR_INTERNAL);
    const struct answer big = {.head = good, .n_head = 2, .trailers = ok, .n_trailers = 1, .body = {"\0\0\x40\0\1", 5}};
    assert_int_equal(call(p, &big, 1, &err), ERR_EXHAUSTED);
    const struct answer broken = {.head = good, .n_head = 2, .trailers = ok, .n_trailers = 1, .body = {"\0\0\0\0\2\x0a\xff", 7}};
    assert_int_equal(call(p, &broken, 1, &err), ERR_INTERNAL);
    /* An early answer: we have not sent all, and hear it. */
    const struct h2_field denied[] = {HEAD("application/grpc", "200"), {"grpc-status", "7"}};
    const struct answer early = {.head = denied, .n_head = 3, .trailers_only = true};
    assert_int_equal(call(p, &early, 1, &err), ERR_DENIED);
    const struct answer cut = {.cut = true, .after_end = true};
    assert_int_equal(call(p, &cut, 1, &err), ERR_UNAVAILABLE);
}

static void test_heads_and_messages(void **state)
{
    (void)state;
    peer_run(heads_body);
}

static void gzip_body(struct peer *p)
{
    struct err err;
    const struct h2_field head[] = {HEAD("application/grpc", "200"), {"grpc-encoding", "gzip"}};
    const struct h2_field brotli[] = {HEAD("application/grpc", "200"), {"grpc-encoding", "br"}};
    AUTO_BUF body = BUF_INIT(2 * RPC_MESSAGE_MAX), plain = BUF_INIT(2 * RPC_MESSAGE_MAX);
    struct answer a = {.head = head, .n_head = 3, .trailers = ok, .n_trailers = 1, .body = {"\1\0\0\0\3abc", 8}};
    assert_int_equal(call(p, &a, 1, &err), ERR_INTERNAL);
    a.body = EMPTY;
    assert_int_equal(call(p, &a, 1, &err), ERR_OK);
    a.head = brotli;
    assert_int_equal(call(p, &a, 1, &err), ERR_INTERNAL);
    a.head = head;
    /* A bomb: at the limit it is one message, beyond it none. */
    for (size_t over = 0; over < 2; over++) {
        static const uint8_t prefix[5] = {1};
        uint8_t *text = buf_reserve(&plain, RPC_MESSAGE_MAX + 1);
        static const uint8_t tag[] = {0x12, 0xfb, 0xff, 0xff, 0x01}; /* payload of 4 MiB - 5 bytes */
        memset(text, 0, RPC_MESSAGE_MAX + 1);
        memcpy(text, tag, sizeof(tag));
        assert_int_equal(buf_append(&body, prefix, 5), 0);
        assert_int_equal(gzip_deflate((struct str){(const char *)text, RPC_MESSAGE_MAX + over}, &body), 0);
        body.data[3] = (char)((body.len - 5) >> 8);
        body.data[4] = (char)(body.len - 5);
        a.body = buf_str(&body);
        assert_int_equal(call(p, &a, 1, &err), over ? ERR_EXHAUSTED : ERR_OK);
        buf_clear(&body);
    }
}

static void test_compressed_answers(void **state)
{
    (void)state;
    peer_run(gzip_body);
}

/* ---- details ---- */

static void details_body(struct peer *p)
{
    struct err err, failure = ERR_INIT;
    (void)err_set(&failure, ERR_PRECONDITION, "no");
    err_hint(&failure, "do that");
    failure.retryable = true;
    AUTO_BUF status = BUF_INIT(DETAILS_MAX);
    assert_int_equal(details_status(&failure, &status), 0);
    AUTO_FREE char *text = str_base64(status.data, status.len);
    const struct h2_field head[] = {
        HEAD("application/grpc", "200"), {"grpc-status", "9"}, {"grpc-message", "no"}, {"grpc-status-details-bin", text}};
    struct answer a = {.head = head, .n_head = 5, .trailers_only = true};
    assert_int_equal(call(p, &a, 1, &err), ERR_PRECONDITION);
    assert_string_equal(err.hint, "do that");
    assert_true(err.retryable);
    const struct h2_field other[] = {
        HEAD("application/grpc", "200"), {"grpc-status", "5"}, {"grpc-message", "no"}, {"grpc-status-details-bin", text}};
    a.head = other; /* they do not agree: the head counts */
    assert_int_equal(call(p, &a, 1, &err), ERR_NOT_FOUND);
    assert_string_equal(err.hint, "");
}

static void test_details(void **state)
{
    (void)state;
    peer_run(details_body);
}

/* Malformed details change nothing; each cut of a good one neither. */
static void test_broken_details(void **state)
{
    (void)state;
    struct err failure = ERR_INIT;
    (void)err_set(&failure, ERR_ABORTED, "x");
    err_hint(&failure, "hint");
    AUTO_BUF status = BUF_INIT(DETAILS_MAX);
    assert_int_equal(details_status(&failure, &status), 0);
    for (size_t n = 0; n < status.len; n++) {
        struct err err = {.code = ERR_ABORTED};
        AUTO_FREE char *cut = str_dup((struct str){status.data, n});
        details_read((struct str){cut, n}, &err);
        assert_string_equal(err.hint, "");
    }
    for (size_t i = 0; i < status.len * 8; i++) {
        struct err err = {.code = ERR_ABORTED};
        status.data[i / 8] = (char)(status.data[i / 8] ^ (1 << i % 8));
        details_read(buf_str(&status), &err);
        status.data[i / 8] = (char)(status.data[i / 8] ^ (1 << i % 8));
    }
}

/* ---- retries and time ---- */

static void retry_body(struct peer *p)
{
    struct err err;
    const struct answer answers[] = {
        {.reset = true, .code = H2_REFUSED_STREAM},
        {.head = good, .n_head = 2, .trailers = ok, .n_trailers = 1, .body = EMPTY, .after_end = true}};
    assert_int_equal(call(p, answers, 2, &err), ERR_OK);
    assert_int_equal(p->calls, 2);
    /* The time that is left travels. */
    usec_t left = 0;
    assert_int_equal(p->timeout[strlen(p->timeout) - 1], 'u');
    uint64_t v;
    assert_int_equal(str_to_u64((struct str){p->timeout, strlen(p->timeout) - 1}, 5000000, &v), 0);
    left = v;
    assert_in_range(left, 1000000, 5000000);
    /* Deadline before an answer; the stream is reset, the next call is served. */
    const struct answer silent = {.head = good, .n_head = 2, .no_end = true};
    Davit__Test__V1__EchoRequest q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *m;
    p->answers = &silent;
    p->n_answers = 1;
    assert_int_equal(rpc_unary(p->ch, SVC, "Echo", &q.base, deadline_in(50 * USEC_MSEC), &m, &err), -ERR_DEADLINE);
    assert_int_equal(rpc_unary(p->ch, SVC, "Echo", &q.base, clock_mono(), &m, &err), -ERR_DEADLINE);
    assert_int_equal(call(p, answers + 1, 1, &err), ERR_OK);
}

static void test_retry_and_deadline(void **state)
{
    (void)state;
    peer_run(retry_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_of_resets),    cmocka_unit_test(test_codes_of_http),      cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_heads_and_messages), cmocka_unit_test(test_compressed_answers), cmocka_unit_test(test_details),
        cmocka_unit_test(test_broken_details),     cmocka_unit_test(test_retry_and_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
