/* SPDX-License-Identifier: Apache-2.0 */
/* Calls over WebSockets: our client against our server. What a foreign server makes of it: test_rpc_ws_client.py. */
#include "rpc/harness.h"

#include "base/mem.h"

#define SVC (&davit_test_v1_echo_service)
#define SOON deadline_in(10 * USEC_SEC)

static struct rpc_stream *open_call(struct harness *h, const char *method)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s;
    if (rpc_stream_open(h->ch, SVC, method, deadline_in(30 * USEC_SEC), &s, &err) < 0)
        fail_msg("%s: %s", method, err.msg);
    return s;
}

static int say(struct rpc_stream *s, const char *text, size_t payload, struct err *err)
{
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    AUTO_FREE uint8_t *bytes = mem_zalloc(payload + 1, 1);
    q.text = (char *)(uintptr_t)text;
    q.payload = (ProtobufCBinaryData){payload, bytes};
    return rpc_stream_put(s, &q.base, SOON, err);
}

/* The next answer has this text and so many bytes. */
static void expect(struct rpc_stream *s, const char *text, size_t payload)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    if (rpc_stream_get(s, SOON, &m, &err) != 0)
        fail_msg("%s: %s", text, err.msg);
    echo_response *r = (echo_response *)(void *)m;
    assert_string_equal(r->text, text);
    assert_int_equal(r->payload.len, payload);
    (void)rpc_message_free(m);
}

static int end_of(struct rpc_stream *s, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_stream_get(s, SOON, &m, err);
    assert_null(m);
    return rc;
}

static void kinds_body(struct harness *h)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    q.text = (char *)(uintptr_t) "hello";
    if (rpc_unary(h->ch, SVC, "Echo", &q.base, SOON, &m, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(((echo_response *)(void *)m)->text, "hello");
    (void)rpc_message_free(m);
    struct rpc_stream *s = open_call(h, "Collect");
    assert_int_equal(say(s, "a", 0, &err), 0);
    assert_int_equal(say(s, "b", 70000, &err), 0);
    rpc_stream_half_close(s);
    expect(s, "ab(70000)", 0);
    assert_int_equal(end_of(s, &err), 1);
    s = rpc_stream_close(s);
    static const char *const both[] = {"Chat", "Converse"};
    for (size_t k = 0; k < ARRAY_LEN(both); k++) {
        s = open_call(h, both[k]);
        for (size_t i = 0; i < 100; i++) {
            char text[16];
            (void)snprintf(text, sizeof(text), "%zu", i);
            assert_int_equal(say(s, text, i * 1000, &err), 0);
            expect(s, text, i * 1000);
        }
        rpc_stream_half_close(s);
        assert_int_equal(end_of(s, &err), 1);
        s = rpc_stream_close(s);
    }
}

static void test_kinds_of_calls(void **state)
{
    (void)state;
    harness_run(kinds_body);
}

static void failures_body(struct harness *h)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    Davit__Test__V1__FailRequest f = DAVIT__TEST__V1__FAIL_REQUEST__INIT;
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    Davit__Test__V1__WaitRequest w = DAVIT__TEST__V1__WAIT_REQUEST__INIT;
    f.code = ERR_NOT_FOUND;
    f.message = (char *)(uintptr_t) "no server \xe2\x80\x9cweb\xe2\x80\x9d: 100%";
    f.hint = (char *)(uintptr_t) "list them with `davit server list`";
    assert_int_equal(rpc_unary(h->ch, SVC, "Fail", &f.base, SOON, &m, &err), -ERR_NOT_FOUND);
    assert_string_equal(err.msg, f.message);
    assert_string_equal(err.hint, f.hint);
    f.code = ERR_UNAVAILABLE;
    f.hint = NULL;
    assert_int_equal(rpc_unary(h->ch, SVC, "Fail", &f.base, SOON, &m, &err), -ERR_UNAVAILABLE);
    assert_true(err.retryable);
    /* Refused before the connection is a WebSocket. */
    assert_int_equal(rpc_unary(h->ch, SVC, "Forbidden", &q.base, SOON, &m, &err), -ERR_DENIED);
    const struct rpc_field deny = {"x-deny", STR("1")};
    const struct rpc_options options = {.deadline = SOON, .metadata = &deny, .n_metadata = 1};
    assert_int_equal(rpc_unary_with(h->ch, SVC, "Echo", &q.base, &options, &m, &err), -ERR_UNAUTHENTICATED);
    w.ms = 20000;
    assert_int_equal(rpc_unary(h->ch, SVC, "Wait", &w.base, deadline_in(50 * USEC_MSEC), &m, &err), -ERR_DEADLINE);
}

static void test_failures(void **state)
{
    (void)state;
    harness_run(failures_body);
}

static void limits_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s = open_call(h, "Chat");
    assert_int_equal(say(s, "x", RPC_MESSAGE_MAX - 3 - 5, &err), 0);
    expect(s, "x", RPC_MESSAGE_MAX - 3 - 5);
    assert_int_equal(say(s, "x", RPC_MESSAGE_MAX - 3 - 4, &err), -ERR_EXHAUSTED);
    assert_int_equal(say(s, "still", 0, &err), 0);
    expect(s, "still", 0);
    s = rpc_stream_close(s);
}

static void test_message_at_the_limit(void **state)
{
    (void)state;
    harness_run(limits_body);
}

/* Who does not read holds the server up, and loses nothing. */
static void slow_body(struct harness *h)
{
    enum { N = 200, SIZE = 100 * 1000 };
    struct err err = ERR_INIT;
    struct rpc_stream *s = open_call(h, "Produce");
    Davit__Test__V1__ProduceRequest q = DAVIT__TEST__V1__PRODUCE_REQUEST__INIT;
    q.count = N;
    q.size = SIZE;
    assert_int_equal(rpc_stream_put(s, &q.base, SOON, &err), 0);
    rpc_stream_half_close(s);
    assert_int_equal(fiber_sleep(200 * USEC_MSEC), 0);
    size_t got = 0;
    ProtobufCMessage *m;
    int rc;
    while ((rc = rpc_stream_get(s, SOON, &m, &err)) == 0) {
        assert_int_equal(((echo_response *)(void *)m)->payload.len, SIZE);
        (void)rpc_message_free(m);
        if (got++ == 0)
            assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    }
    assert_int_equal(rc, 1);
    assert_int_equal(got, N);
    s = rpc_stream_close(s);
}

static void test_slow_reader(void **state)
{
    (void)state;
    harness_run(slow_body);
}

static void cut_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s = open_call(h, "Chat"), *other = open_call(h, "Chat");
    assert_int_equal(say(s, "x", 0, &err), 0);
    expect(s, "x", 0);
    s = rpc_stream_close(s); /* we go first: the handler hears of it */
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    assert_int_equal(echo_log.closed, 1);
    h->server = rpc_server_free(h->server);
    assert_int_equal(end_of(other, &err), -ERR_UNAVAILABLE);
    assert_true(say(other, "x", 0, &err) < 0);
    other = rpc_stream_close(other);
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Chat", SOON, &s, &err), -ERR_UNAVAILABLE);
}

static void test_ends_of_connections(void **state)
{
    (void)state;
    harness_run(cut_body);
}

static void channel_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s = open_call(h, "Chat");
    h->ch = rpc_channel_close(h->ch);
    assert_int_equal(end_of(s, &err), -ERR_UNAVAILABLE);
    s = rpc_stream_close(s);
}

static void test_channel_closed_first(void **state)
{
    (void)state;
    harness_run(channel_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_of_calls), cmocka_unit_test(test_failures),          cmocka_unit_test(test_message_at_the_limit),
        cmocka_unit_test(test_slow_reader),    cmocka_unit_test(test_ends_of_connections), cmocka_unit_test(test_channel_closed_first),
    };
    harness_websocket = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
