/* SPDX-License-Identifier: Apache-2.0 */
/* Calls from end to end over a unix socket: our client against our server. */
#include "rpc/harness.h"

#define SVC (&davit_test_v1_echo_service)

static int echo(struct harness *h, const char *method, char *text, usec_t timeout, echo_response **ret, struct err *err)
{
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    q.text = text;
    ProtobufCMessage *m = NULL;
    int rc = rpc_unary(h->ch, SVC, method, &q.base, deadline_in(timeout), &m, err);
    *ret = (echo_response *)(void *)m;
    return rc;
}

static void unary_body(struct harness *h)
{
    struct err err = ERR_INIT;
    echo_response *r;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(echo(h, "Echo", (char *)(uintptr_t) "hello", 5 * USEC_SEC, &r, &err), 0);
        assert_string_equal(r->text, "hello");
        r = rpc_message_free(r);
    }
}

static void test_unary(void **state)
{
    (void)state;
    harness_run(unary_body);
}

static void fail_body(struct harness *h)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    Davit__Test__V1__FailRequest q = DAVIT__TEST__V1__FAIL_REQUEST__INIT;
    q.code = ERR_NOT_FOUND;
    q.message = (char *)(uintptr_t) "no server \xe2\x80\x9cweb\xe2\x80\x9d: 100%";
    q.hint = (char *)(uintptr_t) "list them with `davit server list`";
    assert_int_equal(rpc_unary(h->ch, SVC, "Fail", &q.base, deadline_in(5 * USEC_SEC), &m, &err), -ERR_NOT_FOUND);
    assert_string_equal(err.msg, q.message);
    assert_string_equal(err.hint, q.hint);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_failure_with_hint(void **state)
{
    (void)state;
    harness_run(fail_body);
}

/* Requests that do not end: what all of them hold is limited, and comes back with them. */
static void held_body(struct harness *h)
{
    enum { N = RPC_HELD_MAX / RPC_MESSAGE_MAX + 1, SIZE = RPC_MESSAGE_MAX - 100 };
    struct err err = ERR_INIT;
    struct rpc_stream *s[N];
    ProtobufCMessage *m;
    echo_response *r;
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    q.payload = (ProtobufCBinaryData){SIZE, calloc(1, SIZE)};
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(rpc_stream_open(h->ch, SVC, "Echo", deadline_in(60 * USEC_SEC), &s[i], &err), 0);
        assert_int_equal(rpc_stream_put(s[i], &q.base, deadline_in(60 * USEC_SEC), &err), 0);
    }
    free(q.payload.data);
    int rc = -ERR_DEADLINE;
    for (size_t i = 0; rc == -ERR_DEADLINE && i < 100 * N; i++) /* one of them has no place; which, the connection decides */
        rc = rpc_stream_get(s[i % N], deadline_in(20 * USEC_MSEC), &m, &err);
    assert_int_equal(rc, -ERR_UNAVAILABLE);
    assert_string_equal(err.msg, "too many requests at once");
    for (size_t i = 0; i < N; i++)
        s[i] = rpc_stream_close(s[i]);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    assert_int_equal(echo(h, "Echo", (char *)(uintptr_t) "again", 5 * USEC_SEC, &r, &err), 0);
    r = rpc_message_free(r);
}

static void test_requests_held(void **state)
{
    (void)state;
    harness_run(held_body);
}

/* Little on the wire, much in memory: what counts is what it takes. */
static void unpacked_body(struct harness *h)
{
    enum { INNERS = 60000, N = 20 };
    struct err err = ERR_INIT;
    struct rpc_stream *s[N];
    ProtobufCMessage *m;
    Davit__Test__V1__Inner inner = DAVIT__TEST__V1__INNER__INIT;
    Davit__Test__V1__AllTypes q = DAVIT__TEST__V1__ALL_TYPES__INIT;
    struct rpc_stats stats;
    q.n_inners = INNERS;
    q.inners = calloc(INNERS, sizeof(*q.inners));
    for (size_t i = 0; i < INNERS; i++)
        q.inners[i] = &inner;
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(rpc_stream_open(h->ch, SVC, "Reflect", deadline_in(60 * USEC_SEC), &s[i], &err), 0);
        assert_int_equal(rpc_stream_put(s[i], &q.base, deadline_in(60 * USEC_SEC), &err), 0);
    }
    free(q.inners);
    assert_int_equal(rpc_stream_get(s[N - 1], deadline_in(20 * USEC_SEC), &m, &err), -ERR_UNAVAILABLE);
    assert_string_equal(err.msg, "too many requests at once");
    rpc_server_stats(h->server, &stats);
    assert_true(stats.calls_refused >= N - RPC_HELD_MAX / (INNERS * 56) && stats.calls_refused < N);
    for (size_t i = 0; i < N; i++)
        s[i] = rpc_stream_close(s[i]);
}

/* req: MA-3 */
static void test_requests_held_as_unpacked(void **state)
{
    (void)state;
    harness_run(unpacked_body);
}

static void denied_body(struct harness *h)
{
    struct err err = ERR_INIT;
    echo_response *r;
    assert_int_equal(echo(h, "Forbidden", (char *)(uintptr_t) "x", 5 * USEC_SEC, &r, &err), -ERR_DENIED);
    assert_string_equal(err.msg, "Forbidden needs scope admin");
}

static void test_unauthorized_scope(void **state)
{
    (void)state;
    harness_run(denied_body);
}

struct around_log {
    unsigned calls;
    bool refuse;
    int rc;
};

static int note_around(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
                       const ProtobufCMessage *request, rpc_run *run, void *run_ctx, struct err *err)
{
    struct around_log *log = ctx;
    log->calls++;
    assert_string_equal(service->name, "davit.test.v1.EchoService");
    assert_string_equal(method->object, "-");
    if (log->refuse)
        return err_set(err, ERR_UNAVAILABLE, "not now");
    return log->rc = run(call, run_ctx, request, err);
}

static void around_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct around_log log = {.rc = 1};
    Davit__Test__V1__EchoResponse *r = NULL;
    rpc_server_set_around(h->server, note_around, &log);
    assert_int_equal(echo(h, "Echo", (char *)(uintptr_t) "x", 5 * USEC_SEC, &r, &err), 0);
    r = rpc_message_free(r);
    assert_int_equal(log.calls, 1);
    assert_int_equal(log.rc, 0);
    log.refuse = true;
    assert_int_equal(echo(h, "Echo", (char *)(uintptr_t) "x", 5 * USEC_SEC, &r, &err), -ERR_UNAVAILABLE);
    assert_string_equal(err.msg, "not now");
    assert_int_equal(log.calls, 2);
    assert_int_equal(echo(h, "Forbidden", (char *)(uintptr_t) "x", 5 * USEC_SEC, &r, &err), -ERR_DENIED);
    assert_int_equal(log.calls, 2);
}

static void test_around(void **state)
{
    (void)state;
    harness_run(around_body);
}

static void produce_body(struct harness *h)
{
    struct err err = ERR_INIT;
    Davit__Test__V1__ProduceRequest q = DAVIT__TEST__V1__PRODUCE_REQUEST__INIT;
    q.count = 100;
    q.size = 100 * 1024;
    struct rpc_stream *s;
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Produce", deadline_in(60 * USEC_SEC), &s, &err), 0);
    assert_int_equal(rpc_stream_put(s, &q.base, USEC_INFINITY, &err), 0);
    rpc_stream_half_close(s);
    ProtobufCMessage *m;
    int rc;
    unsigned n = 0;
    size_t bytes = 0;
    while ((rc = rpc_stream_get(s, USEC_INFINITY, &m, &err)) == 0) {
        echo_response *r = (echo_response *)(void *)m;
        assert_int_equal(r->payload.data[0], n & 0xff);
        n++;
        bytes += r->payload.len;
        m = rpc_message_free(m);
        if (n == 3)
            assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0); /* the server runs into the limit of its queue */
    }
    assert_int_equal(rc, 1);
    assert_int_equal(n, 100);
    assert_int_equal(bytes, 100 * 100 * 1024);
    s = rpc_stream_close(s);
}

static void test_server_streaming_flow_control(void **state)
{
    (void)state;
    harness_run(produce_body);
}

static int chat(struct rpc_stream *s, const char *text, struct err *err)
{
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    q.text = (char *)(uintptr_t)text;
    return rpc_stream_put(s, &q.base, deadline_in(5 * USEC_SEC), err);
}

static void bidi_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s;
    ProtobufCMessage *m;
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &s, &err), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(chat(s, "ping", &err), 0);
        assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), 0);
        assert_string_equal(((echo_response *)(void *)m)->text, "ping");
        m = rpc_message_free(m);
    }
    rpc_stream_half_close(s);
    assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), 1);
    s = rpc_stream_close(s);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    assert_int_equal(echo_log.closed, 1);
    assert_int_equal(echo_log.last_reason, ERR_OK);
    /* The server ends it, well and badly. */
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &s, &err), 0);
    assert_int_equal(chat(s, "bye", &err), 0);
    assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), 1);
    s = rpc_stream_close(s);
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &s, &err), 0);
    assert_int_equal(chat(s, "fail", &err), 0);
    assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), -ERR_PRECONDITION);
    assert_string_equal(err.msg, "told to fail: \xe2\x98\xa0 100%");
    assert_string_equal(err.hint, "say something else");
    s = rpc_stream_close(s);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    assert_int_equal(echo_log.opened, 3);
    assert_int_equal(echo_log.closed, 3);
}

static void test_bidi(void **state)
{
    (void)state;
    harness_run(bidi_body);
}

static void deadline_body(struct harness *h)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    Davit__Test__V1__WaitRequest q = DAVIT__TEST__V1__WAIT_REQUEST__INIT;
    q.ms = 10000;
    usec_t before = clock_mono();
    assert_int_equal(rpc_unary(h->ch, SVC, "Wait", &q.base, deadline_in(100 * USEC_MSEC), &m, &err), -ERR_DEADLINE);
    assert_true(clock_mono() - before < 2 * USEC_SEC);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    assert_int_equal(echo_log.waits_cancelled, 1);
    q.ms = 10;
    assert_int_equal(rpc_unary(h->ch, SVC, "Wait", &q.base, deadline_in(5 * USEC_SEC), &m, &err), 0);
    m = rpc_message_free(m);
}

static void test_deadline(void **state)
{
    (void)state;
    harness_run(deadline_body);
}

static void cancel_body(struct harness *h)
{
    struct err err = ERR_INIT;
    Davit__Test__V1__WaitRequest q = DAVIT__TEST__V1__WAIT_REQUEST__INIT;
    q.ms = 10000;
    struct rpc_stream *s;
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Wait", USEC_INFINITY, &s, &err), 0);
    assert_int_equal(rpc_stream_put(s, &q.base, USEC_INFINITY, &err), 0);
    rpc_stream_half_close(s);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    s = rpc_stream_close(s);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    assert_int_equal(echo_log.waits_cancelled, 1);
    /* A link that is cut, then one whose connection goes. */
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &s, &err), 0);
    assert_int_equal(chat(s, "x", &err), 0);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    s = rpc_stream_close(s);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    assert_int_equal(echo_log.closed, 1);
    assert_int_equal(echo_log.last_reason, ERR_CANCELLED);
    struct rpc_channel *other;
    assert_int_equal(rpc_channel_open(h->loop, h->addr, NULL, 0, deadline_in(USEC_SEC), &other, &err), 0);
    assert_int_equal(rpc_stream_open(other, SVC, "Chat", USEC_INFINITY, &s, &err), 0);
    assert_int_equal(chat(s, "x", &err), 0);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    other = rpc_channel_close(other);
    ProtobufCMessage *m = NULL;
    assert_int_equal(rpc_stream_get(s, deadline_in(USEC_SEC), &m, &err), 0);
    m = rpc_message_free(m);
    assert_int_equal(rpc_stream_get(s, deadline_in(USEC_SEC), &m, &err), -ERR_UNAVAILABLE);
    s = rpc_stream_close(s);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    assert_int_equal(echo_log.closed, 2);
}

static void test_cancelled_by_peer(void **state)
{
    (void)state;
    harness_run(cancel_body);
}

/* A reader that does not read: the handler on a fiber waits for room until the deadline; one without a stack is told. */
static void stalled_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s;
    ProtobufCMessage *m = NULL;
    Davit__Test__V1__ProduceRequest q = DAVIT__TEST__V1__PRODUCE_REQUEST__INIT;
    q.count = 1000;
    q.size = 100000;
    echo_log.last_send = 1;
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Produce", deadline_in(200 * USEC_MSEC), &s, &err), 0);
    assert_int_equal(rpc_stream_put(s, &q.base, USEC_INFINITY, &err), 0);
    rpc_stream_half_close(s);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
    assert_int_equal(echo_log.last_send, 1); /* it waits */
    assert_int_equal(fiber_sleep(300 * USEC_MSEC), 0);
    assert_true(echo_log.last_send < 0);
    int rc;
    while ((rc = rpc_stream_get(s, USEC_INFINITY, &m, &err)) == 0)
        m = rpc_message_free(m);
    assert_int_equal(rc, -ERR_DEADLINE);
    s = rpc_stream_close(s);

    static uint8_t bytes[100000];
    echo_request e = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    e.payload = (ProtobufCBinaryData){sizeof(bytes), bytes};
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &s, &err), 0);
    for (int i = 0; i < 30; i++)
        assert_int_equal(rpc_stream_put(s, &e.base, deadline_in(5 * USEC_SEC), &err), 0);
    assert_int_equal(fiber_sleep(200 * USEC_MSEC), 0);
    assert_int_equal(echo_log.messages, 30);
    assert_true(echo_log.refused >= 15); /* a megabyte may wait */
    assert_int_equal(echo_log.drains, 0);
    for (unsigned i = 0; i < 30 - echo_log.refused; i++) {
        assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), 0);
        m = rpc_message_free(m);
    }
    assert_int_equal(echo_log.drains, 1);
    s = rpc_stream_close(s);
}

static void test_stalled_reader(void **state)
{
    (void)state;
    harness_run(stalled_body);
}

static int put_bytes(struct harness *h, size_t n, echo_response **ret, struct err *err)
{
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    uint8_t *p = calloc(1, n);
    assert_non_null(p);
    q.payload = (ProtobufCBinaryData){n, p};
    int rc = rpc_unary(h->ch, SVC, "Echo", &q.base, deadline_in(30 * USEC_SEC), &m, err);
    free(p);
    *ret = (echo_response *)(void *)m;
    return rc;
}

static void size_body(struct harness *h)
{
    struct err err = ERR_INIT;
    echo_response *r;
    /* Tag and length of the payload take five bytes. */
    assert_int_equal(put_bytes(h, RPC_MESSAGE_MAX - 5, &r, &err), 0);
    assert_int_equal(r->payload.len, RPC_MESSAGE_MAX - 5);
    r = rpc_message_free(r);
    assert_int_equal(put_bytes(h, RPC_MESSAGE_MAX - 4, &r, &err), -ERR_EXHAUSTED);
    Davit__Test__V1__ProduceRequest q = DAVIT__TEST__V1__PRODUCE_REQUEST__INIT;
    q.count = 1;
    q.size = RPC_MESSAGE_MAX;
    struct rpc_stream *s;
    ProtobufCMessage *m;
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Produce", deadline_in(10 * USEC_SEC), &s, &err), 0);
    assert_int_equal(rpc_stream_put(s, &q.base, USEC_INFINITY, &err), 0);
    rpc_stream_half_close(s);
    assert_int_equal(rpc_stream_get(s, USEC_INFINITY, &m, &err), -ERR_EXHAUSTED);
    s = rpc_stream_close(s);
}

static void test_message_limit(void **state)
{
    (void)state;
    harness_run(size_body);
}

static void streams_body(struct harness *h)
{
    struct err err = ERR_INIT;
    static struct rpc_stream *s[RPC_STREAMS_MAX + 1];
    ProtobufCMessage *m = NULL;
    for (size_t i = 0; i <= RPC_STREAMS_MAX; i++) {
        assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &s[i], &err), 0);
        assert_int_equal(chat(s[i], "x", &err), 0);
    }
    for (size_t i = 0; i < RPC_STREAMS_MAX; i++) {
        assert_int_equal(rpc_stream_get(s[i], deadline_in(5 * USEC_SEC), &m, &err), 0);
        m = rpc_message_free(m);
    }
    /* The one too many waits in line until another ends. */
    assert_int_equal(rpc_stream_get(s[RPC_STREAMS_MAX], deadline_in(100 * USEC_MSEC), &m, &err), -ERR_DEADLINE);
    assert_int_equal(echo_log.opened, RPC_STREAMS_MAX);
    s[0] = rpc_stream_close(s[0]);
    assert_int_equal(rpc_stream_get(s[RPC_STREAMS_MAX], deadline_in(5 * USEC_SEC), &m, &err), 0);
    m = rpc_message_free(m);
    for (size_t i = 1; i <= RPC_STREAMS_MAX; i++)
        s[i] = rpc_stream_close(s[i]);
}

static void test_stream_limit(void **state)
{
    (void)state;
    harness_run(streams_body);
}

static void drain_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s, *t;
    ProtobufCMessage *m = NULL;
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &s, &err), 0);
    assert_int_equal(chat(s, "x", &err), 0);
    assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), 0);
    m = rpc_message_free(m);
    rpc_server_drain(h->server);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    assert_false(rpc_channel_alive(h->ch));
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &t, &err), -ERR_UNAVAILABLE);
    assert_int_equal(chat(s, "still here", &err), 0);
    assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), 0);
    m = rpc_message_free(m);
    s = rpc_stream_close(s);
}

static void test_drain(void **state)
{
    (void)state;
    harness_run(drain_body);
}

static void server_ends_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s, *w;
    ProtobufCMessage *m = NULL;
    Davit__Test__V1__WaitRequest q = DAVIT__TEST__V1__WAIT_REQUEST__INIT;
    q.ms = 10000;
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", USEC_INFINITY, &s, &err), 0);
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Wait", USEC_INFINITY, &w, &err), 0);
    assert_int_equal(rpc_stream_put(w, &q.base, USEC_INFINITY, &err), 0);
    rpc_stream_half_close(w);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    h->server = rpc_server_free(h->server);
    assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), -ERR_UNAVAILABLE);
    assert_int_equal(rpc_stream_get(w, deadline_in(5 * USEC_SEC), &m, &err), -ERR_UNAVAILABLE);
    assert_int_equal(echo_log.closed, 1);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    assert_int_equal(echo_log.waits_cancelled, 1);
    s = rpc_stream_close(s);
    w = rpc_stream_close(w);
}

static void test_server_ends(void **state)
{
    (void)state;
    harness_run(server_ends_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_failure_with_hint),
        cmocka_unit_test(test_requests_held),
        cmocka_unit_test(test_requests_held_as_unpacked),
        cmocka_unit_test(test_unauthorized_scope),
        cmocka_unit_test(test_around),
        cmocka_unit_test(test_server_streaming_flow_control),
        cmocka_unit_test(test_bidi),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_cancelled_by_peer),
        cmocka_unit_test(test_stalled_reader),
        cmocka_unit_test(test_message_limit),
        cmocka_unit_test(test_stream_limit),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_server_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
