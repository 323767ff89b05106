/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers that read, metadata both ways, compression, and what a server bears: our client against our server. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/harness.h"

#include "base/mem.h"

#define SVC (&davit_test_v1_echo_service)

static int say(struct rpc_stream *s, const char *text, size_t payload, struct err *err)
{
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    AUTO_FREE uint8_t *bytes = mem_zalloc(payload + 1, 1);
    q.text = (char *)(uintptr_t)text;
    q.payload = (ProtobufCBinaryData){payload, bytes};
    return rpc_stream_put(s, &q.base, deadline_in(10 * USEC_SEC), err);
}

static struct rpc_stream *open_call(struct harness *h, const char *method)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s;
    if (rpc_stream_open(h->ch, SVC, method, deadline_in(30 * USEC_SEC), &s, &err) < 0)
        fail_msg("%s: %s", method, err.msg);
    return s;
}

/* The next answer's text, freed by the caller; NULL at the end. */
static char *hear(struct rpc_stream *s)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    int rc = rpc_stream_get(s, deadline_in(10 * USEC_SEC), &m, &err);
    if (rc < 0)
        fail_msg("%s", err.msg);
    if (rc == 1)
        return NULL;
    char *text = str_dup(str_from(((echo_response *)(void *)m)->text));
    (void)rpc_message_free(m);
    return text;
}

static void expect(struct rpc_stream *s, const char *text)
{
    AUTO_FREE char *heard = hear(s);
    assert_non_null(heard);
    assert_string_equal(heard, text);
}

static void collect_body(struct harness *h)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    struct rpc_stream *s = open_call(h, "Collect");
    assert_int_equal(say(s, "a", 0, &err), 0);
    assert_int_equal(say(s, "b", 70000, &err), 0);
    assert_int_equal(say(s, "c", 0, &err), 0);
    rpc_stream_half_close(s);
    expect(s, "ab(70000)c");
    assert_null(hear(s));
    s = rpc_stream_close(s);
    assert_int_equal(echo_log.last_recv, 1);
    s = open_call(h, "Collect"); /* none at all */
    rpc_stream_half_close(s);
    expect(s, "");
    s = rpc_stream_close(s);
    s = open_call(h, "Collect"); /* the handler answers before we are done */
    assert_int_equal(say(s, "stop", 0, &err), 0);
    expect(s, "stop");
    assert_null(hear(s));
    assert_true(say(s, "too late", 0, &err) < 0);
    s = rpc_stream_close(s);
    s = open_call(h, "Collect"); /* we go before the handler is done */
    assert_int_equal(say(s, "a", 0, &err), 0);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    s = rpc_stream_close(s);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    assert_int_equal(echo_log.last_recv, -ERR_CANCELLED);
    assert_int_equal(rpc_stream_open(h->ch, SVC, "Collect", deadline_in(50 * USEC_MSEC), &s, &err), 0);
    echo_log.last_recv = 0;
    assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), -ERR_DEADLINE);
    s = rpc_stream_close(s);
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    assert_int_equal(echo_log.last_recv, -ERR_CANCELLED);
}

static void test_client_streaming(void **state)
{
    (void)state;
    harness_run(collect_body);
}

static void converse_body(struct harness *h)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    struct rpc_stream *s = open_call(h, "Converse");
    for (int i = 0; i < 20; i++) {
        assert_int_equal(say(s, "ping", 0, &err), 0);
        expect(s, "ping");
        assert_int_equal(echo_log.late_header, i ? -ERR_PRECONDITION : 0); /* the first answer took the head along */
    }
    assert_string_equal(rpc_meta_get(rpc_stream_header(s), "x-late", 0), "v");
    rpc_stream_half_close(s);
    assert_null(hear(s));
    s = rpc_stream_close(s);
    s = open_call(h, "Converse");
    assert_int_equal(say(s, "fail", 0, &err), 0);
    assert_int_equal(rpc_stream_get(s, deadline_in(5 * USEC_SEC), &m, &err), -ERR_PRECONDITION);
    assert_string_equal(err.msg, "told to fail");
    s = rpc_stream_close(s);
}

static void test_bidi_on_a_fiber(void **state)
{
    (void)state;
    harness_run(converse_body);
}

/* What the handler does not take stays with the client. */
static void slow_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s = open_call(h, "Collect");
    unsigned sent = 0;
    int rc = 0;
    echo_log.slow = 30 * USEC_SEC;
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    AUTO_FREE uint8_t *bytes = mem_zalloc(60000, 1);
    q.payload = (ProtobufCBinaryData){60000, bytes};
    while (rc == 0 && sent < 1000) {
        rc = rpc_stream_put(s, &q.base, deadline_in(300 * USEC_MSEC), &err);
        sent += rc == 0;
    }
    assert_int_equal(rc, -ERR_DEADLINE);
    assert_int_equal(echo_log.messages, 1);
    /* Our own queue, one message being read, one waiting and a window behind it. */
    assert_true((size_t)sent * 60000 < RPC_QUEUE_MAX + 5 * 65536);
    s = rpc_stream_close(s);
    echo_log.slow = 0;
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
}

static void test_slow_handler_holds_the_client(void **state)
{
    (void)state;
    harness_run(slow_body);
}

/* ---- metadata ---- */

static int echo_with(struct harness *h, const struct rpc_options *options, size_t payload, struct err *err)
{
    echo_request q = DAVIT__TEST__V1__ECHO_REQUEST__INIT;
    AUTO_FREE uint8_t *bytes = mem_zalloc(payload + 1, 1);
    ProtobufCMessage *m = NULL;
    q.payload = (ProtobufCBinaryData){payload, bytes};
    int rc = rpc_unary_with(h->ch, SVC, "Echo", &q.base, options, &m, err);
    if (rc == 0)
        assert_int_equal(((echo_response *)(void *)m)->payload.len, payload);
    (void)rpc_message_free(m);
    return rc;
}

static void metadata_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_meta header, trailer;
    const struct rpc_field fields[] = {{"x-echo-header", STR("one")},
                                       {"x-echo-header", STR("two, and a half")},
                                       {"x-echo-trailer-bin", {"\0\xff,=", 4}},
                                       {"x-echo-trailer-bin", {"", 0}},
                                       {"x-echo-trailer-bin", {"a", 1}}};
    struct rpc_options o = {
        .deadline = deadline_in(10 * USEC_SEC), .metadata = fields, .n_metadata = 5, .header = &header, .trailer = &trailer};
    assert_int_equal(echo_with(h, &o, 10, &err), 0);
    assert_string_equal(rpc_meta_get(&header, "x-echo-header", 0), "one");
    assert_string_equal(rpc_meta_get(&header, "x-echo-header", 1), "two, and a half");
    assert_null(rpc_meta_get(&header, "x-echo-header", 2));
    assert_string_equal(rpc_meta_get(&trailer, "x-echo-trailer-bin", 0), "AP8sPQ"); /* no padding */
    AUTO_BUF bytes = BUF_INIT(100);
    assert_int_equal(rpc_meta_bin(&trailer, "x-echo-trailer-bin", 0, &bytes), 0);
    assert_memory_equal(bytes.data, "\0\xff,=", 4);
    assert_int_equal(rpc_meta_bin(&trailer, "x-echo-trailer-bin", 1, &bytes), 0);
    assert_int_equal(rpc_meta_bin(&trailer, "x-echo-trailer-bin", 2, &bytes), 0);
    assert_int_equal(bytes.len, 5);
    assert_int_equal(rpc_meta_bin(&trailer, "x-echo-trailer-bin", 3, &bytes), 1);
    assert_string_equal(rpc_meta_get(&trailer, "grpc-status", 0), "0");
    rpc_meta_release(&header);
    rpc_meta_release(&trailer);
}

static void test_metadata_both_ways(void **state)
{
    (void)state;
    harness_run(metadata_body);
}

static int try_field(struct harness *h, const char *name, struct str value)
{
    struct err err = ERR_INIT;
    const struct rpc_field f = {name, value};
    return echo_with(h, &(struct rpc_options){.deadline = deadline_in(10 * USEC_SEC), .metadata = &f, .n_metadata = 1}, 0, &err);
}

static void rules_body(struct harness *h)
{
    static const char *const bad[] = {"",      "X-Upper", "a b",          "grpc-timeout", "grpc-x", "connect-x",
                                      ":path", "te",      "content-type", "host",         "a:"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(try_field(h, bad[i], STR("v")), -ERR_INVALID);
    assert_int_equal(try_field(h, "0-az_.9", STR("v")), 0);
    assert_int_equal(try_field(h, "x", STR("a\nb")), -ERR_INVALID);
    assert_int_equal(try_field(h, "x", STR("\xc3\xa9")), -ERR_INVALID);
    assert_int_equal(try_field(h, "x", STR(" a")), -ERR_INVALID);
    assert_int_equal(try_field(h, "x", STR("a ")), -ERR_INVALID);
    assert_int_equal(try_field(h, "x", STR("")), 0);
    assert_int_equal(try_field(h, "x-bin", STR("\n\0 ")), 0);
    /* At the limit and one beyond: of the request... */
    AUTO_FREE char *big = mem_alloc(RPC_REQUEST_META_MAX);
    memset(big, 'v', RPC_REQUEST_META_MAX);
    assert_int_equal(try_field(h, "k", (struct str){big, RPC_REQUEST_META_MAX - 33}), 0);
    assert_int_equal(try_field(h, "k", (struct str){big, RPC_REQUEST_META_MAX - 32}), -ERR_EXHAUSTED);
    assert_int_equal(try_field(h, "k-bin", (struct str){big, (RPC_REQUEST_META_MAX - 37) * 3 / 4}), 0);
    assert_int_equal(try_field(h, "k-bin", (struct str){big, RPC_REQUEST_META_MAX}), -ERR_EXHAUSTED);
    /* ... and of the answer: 13 + 32 for name and field. */
    assert_int_equal(try_field(h, "x-echo-header", (struct str){big, RPC_ANSWER_META_MAX - 45}), 0);
    assert_int_equal(try_field(h, "x-echo-header", (struct str){big, RPC_ANSWER_META_MAX - 44}), -ERR_EXHAUSTED);
    struct rpc_field many[RPC_META_FIELDS_MAX + 1];
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = (struct rpc_field){"x-echo-header", STR("v")};
    struct rpc_options o = {.deadline = deadline_in(10 * USEC_SEC), .metadata = many, .n_metadata = RPC_META_FIELDS_MAX};
    assert_int_equal(echo_with(h, &o, 0, &err), 0);
    o.n_metadata++;
    assert_int_equal(echo_with(h, &o, 0, &err), -ERR_EXHAUSTED);
}

/* The longest failure with the most metadata is one block that everybody takes. */
static void largest_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_meta trailer;
    ProtobufCMessage *m;
    char message[ERR_MSG_MAX], hint[ERR_HINT_MAX], value[RPC_ANSWER_META_MAX - 45];
    memset(message, '%', sizeof(message));
    memset(hint, '%', sizeof(hint));
    memset(value, 'v', sizeof(value));
    message[sizeof(message) - 1] = hint[sizeof(hint) - 1] = 0;
    Davit__Test__V1__FailRequest q = DAVIT__TEST__V1__FAIL_REQUEST__INIT;
    q.code = ERR_UNAUTHENTICATED;
    q.message = message;
    q.hint = hint;
    const struct rpc_field f = {"x-echo-header", {value, sizeof(value)}};
    struct rpc_options o = {.deadline = deadline_in(10 * USEC_SEC), .metadata = &f, .n_metadata = 1, .trailer = &trailer};
    assert_int_equal(rpc_unary_with(h->ch, SVC, "Fail", &q.base, &o, &m, &err), -ERR_UNAUTHENTICATED);
    assert_string_equal(err.msg, message);
    assert_string_equal(err.hint, hint);
    assert_int_equal(strlen(rpc_meta_get(&trailer, "x-echo-header", 0)), sizeof(value));
    assert_non_null(rpc_meta_get(&trailer, "grpc-status-details-bin", 0));
    rpc_meta_release(&trailer);
}

static void test_largest_failure(void **state)
{
    (void)state;
    harness_run(largest_body);
}

static void test_metadata_rules_and_limits(void **state)
{
    (void)state;
    harness_run(rules_body);
}

/* ---- compression ---- */

static void gzip_body(struct harness *h)
{
    struct err err = ERR_INIT;
    const struct rpc_field ask = {"x-compress", STR("1")};
    struct rpc_meta header;
    struct rpc_options o = {.deadline = deadline_in(20 * USEC_SEC), .compress = true, .header = &header};
    assert_int_equal(echo_with(h, &o, 100000, &err), 0);
    assert_null(rpc_meta_get(&header, "grpc-encoding", 0)); /* the handler did not allow it */
    assert_string_equal(rpc_meta_get(&header, "grpc-accept-encoding", 0), "identity,gzip");
    rpc_meta_release(&header);
    o.metadata = &ask;
    o.n_metadata = 1;
    static const size_t sizes[] = {0, RPC_COMPRESS_MIN - 3, RPC_COMPRESS_MIN, 100000, RPC_MESSAGE_MAX - 10};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(echo_with(h, &o, sizes[i], &err), 0);
        assert_string_equal(rpc_meta_get(&header, "grpc-encoding", 0), "gzip");
        rpc_meta_release(&header);
    }
    assert_int_equal(echo_with(h, &o, RPC_MESSAGE_MAX, &err), -ERR_EXHAUSTED);
    rpc_meta_release(&header);
}

static void test_compression(void **state)
{
    (void)state;
    harness_run(gzip_body);
}

/* ---- what a server bears ---- */

static void running_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s[3];
    struct rpc_stats stats;
    ProtobufCMessage *m;
    Davit__Test__V1__WaitRequest q = DAVIT__TEST__V1__WAIT_REQUEST__INIT;
    q.ms = 100;
    rpc_server_set_limits(h->server, &(struct rpc_limits){.conns = 10, .accept_burst = 10, .accept_per_sec = 10, .running = 2});
    for (size_t i = 0; i < 3; i++) {
        s[i] = open_call(h, "Wait");
        assert_int_equal(rpc_stream_put(s[i], &q.base, USEC_INFINITY, &err), 0);
        rpc_stream_half_close(s[i]);
    }
    assert_int_equal(rpc_stream_get(s[2], deadline_in(5 * USEC_SEC), &m, &err), -ERR_UNAVAILABLE);
    rpc_server_stats(h->server, &stats);
    assert_int_equal(stats.running, 2);
    assert_int_equal(stats.calls_refused, 1);
    for (size_t i = 0; i < 3; i++) {
        if (i < 2) {
            assert_int_equal(rpc_stream_get(s[i], deadline_in(5 * USEC_SEC), &m, &err), 0);
            (void)rpc_message_free(m);
        }
        s[i] = rpc_stream_close(s[i]);
    }
    assert_int_equal(fiber_sleep(20 * USEC_MSEC), 0);
    rpc_server_stats(h->server, &stats);
    assert_int_equal(stats.running, 0);
    assert_int_equal(echo_with(h, &(struct rpc_options){.deadline = deadline_in(5 * USEC_SEC)}, 1, &err), 0);
}

static void test_handlers_at_once(void **state)
{
    (void)state;
    harness_run(running_body);
}

/* Is a new connection served? */
static bool served(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_channel *own = h->ch, *ch;
    if (rpc_channel_open(h->loop, h->addr, NULL, 0, deadline_in(5 * USEC_SEC), &ch, &err) < 0)
        return false;
    h->ch = ch;
    bool ok = echo_with(h, &(struct rpc_options){.deadline = deadline_in(2 * USEC_SEC)}, 1, &err) == 0;
    h->ch = own;
    (void)rpc_channel_close(ch);
    (void)fiber_sleep(20 * USEC_MSEC); /* the server sees it */
    return ok;
}

static void conns_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stats stats;
    assert_int_equal(echo_with(h, &(struct rpc_options){.deadline = deadline_in(5 * USEC_SEC)}, 1, &err), 0);
    rpc_server_set_limits(h->server, &(struct rpc_limits){.conns = 2, .accept_burst = 100, .accept_per_sec = 100, .running = 10});
    assert_true(served(h)); /* the second */
    rpc_server_set_limits(h->server, &(struct rpc_limits){.conns = 1, .accept_burst = 100, .accept_per_sec = 100, .running = 10});
    assert_false(served(h));
    rpc_server_stats(h->server, &stats);
    assert_int_equal(stats.conns, 1);
    assert_int_equal(stats.conns_refused, 1);
    rpc_server_set_limits(h->server, &(struct rpc_limits){.conns = 10, .accept_burst = 3, .accept_per_sec = 1, .running = 10});
    for (int i = 0; i < 3; i++)
        assert_true(served(h));
    assert_false(served(h));
    assert_int_equal(fiber_sleep(USEC_SEC), 0); /* one more a second */
    assert_true(served(h));
    rpc_server_stats(h->server, &stats);
    assert_int_equal(stats.conns_refused, 2);
    assert_int_equal(echo_with(h, &(struct rpc_options){.deadline = deadline_in(5 * USEC_SEC)}, 1, &err), 0);
}

/* @n connections from @source, kept open in @fds. */
static void come(const char *server, const char *source, int *fds, int n)
{
    struct sockaddr_in to = {.sin_family = AF_INET}, from = {.sin_family = AF_INET};
    const char *colon = strrchr(server, ':');
    uint64_t port;
    assert_int_equal(str_to_u64(str_from(colon + 1), 65535, &port), 0);
    to.sin_port = htons((uint16_t)port);
    assert_int_equal(inet_pton(AF_INET, "127.0.0.1", &to.sin_addr), 1);
    assert_int_equal(inet_pton(AF_INET, source, &from.sin_addr), 1);
    for (int i = 0; i < n; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fds[i], (struct sockaddr *)&from, sizeof(from)), 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&to, sizeof(to)), 0);
    }
}

static void crowd_body(struct harness *h)
{
    enum { CROWD = 200, OTHERS = 40 };
    struct err err = ERR_INIT;
    struct rpc_stats stats;
    int fds[CROWD + OTHERS];
    rpc_server_set_limits(h->server, &(struct rpc_limits){.conns = 1000, .accept_burst = CROWD, .accept_per_sec = 1, .running = 10});
    assert_int_equal(rpc_server_listen(h->server, "127.0.0.1:0", 0, NULL, &err), 0);
    const char *addr = rpc_server_addr(h->server, 1);
    come(addr, "127.0.0.1", fds, CROWD);
    assert_int_equal(fiber_sleep(300 * USEC_MSEC), 0);
    rpc_server_stats(h->server, &stats);
    assert_in_range(stats.conns_refused, CROWD / 2 - 5, CROWD / 2); /* some time has passed: one a second */
    uint64_t before = stats.conns_refused;
    come(addr, "127.0.0.2", fds + CROWD, OTHERS);
    assert_int_equal(fiber_sleep(300 * USEC_MSEC), 0);
    rpc_server_stats(h->server, &stats);
    assert_int_equal(stats.conns_refused, before);
    for (size_t i = 0; i < CROWD + OTHERS; i++)
        (void)close(fds[i]);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
}

/* One address has so many connections at once, whatever they are for; when one ends, another may come. */
static void source_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_stats stats;
    int fds[6];
    rpc_server_set_limits(h->server, &(struct rpc_limits){.conns = 100, .accept_burst = 100, .accept_per_sec = 100, .running = 10, .of_source = 3});
    assert_int_equal(rpc_server_listen(h->server, "127.0.0.1:0", 0, NULL, &err), 0);
    const char *addr = rpc_server_addr(h->server, 1);
    come(addr, "127.0.0.1", fds, 4);
    come(addr, "127.0.0.2", fds + 4, 1);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
    rpc_server_stats(h->server, &stats);
    assert_int_equal(stats.conns_refused, 1);
    (void)close(fds[0]);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
    come(addr, "127.0.0.1", fds + 5, 1);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
    rpc_server_stats(h->server, &stats);
    assert_int_equal(stats.conns_refused, 1);
    for (size_t i = 1; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
}

/* req: CW-18 */
static void test_connections_of_one_address(void **state)
{
    (void)state;
    harness_run(source_body);
}

static void message_body(struct harness *h)
{
    struct err err = ERR_INIT;
    const struct rpc_options o = {.deadline = deadline_in(5 * USEC_SEC)};
    rpc_server_set_limits(h->server, &(struct rpc_limits){.conns = 10, .accept_burst = 10, .accept_per_sec = 10, .running = 10, .message = 1024});
    assert_int_equal(echo_with(h, &o, 1000, &err), 0);
    assert_int_equal(echo_with(h, &o, 1100, &err), -ERR_EXHAUSTED);
    assert_non_null(strstr(err.msg, "limit of 1024"));
    rpc_server_set_limits(h->server, &(struct rpc_limits){.conns = 10, .accept_burst = 10, .accept_per_sec = 10, .running = 10, .held = 4096});
    assert_int_equal(echo_with(h, &o, 2000, &err), 0);
    assert_int_equal(echo_with(h, &o, 5000, &err), -ERR_UNAVAILABLE);
}

/* req: CW-18 */
static void test_smaller_requests(void **state)
{
    (void)state;
    harness_run(message_body);
}

/* Who comes in a crowd from one address keeps no other out. */
static void test_crowd_from_one_address(void **state)
{
    (void)state;
    harness_run(crowd_body);
}

static void test_connections_and_accepts(void **state)
{
    (void)state;
    harness_run(conns_body);
}

/* A server that drains while another one takes its place: a unary call finds it. */
static void renew_body(struct harness *h)
{
    struct err err = ERR_INIT;
    struct rpc_options o = {.deadline = deadline_in(20 * USEC_SEC)};
    struct rpc_stream *s = open_call(h, "Converse");
    assert_int_equal(say(s, "before", 0, &err), 0);
    expect(s, "before");
    rpc_server_drain(h->server);
    struct rpc_server *next = rpc_server_new(h->loop, echo_authorize, NULL);
    echo_service_add(next);
    assert_int_equal(rpc_server_listen(next, h->addr, 0600, NULL, &err), 0);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    assert_false(rpc_channel_alive(h->ch));
    assert_int_equal(echo_with(h, &o, 10, &err), 0);
    assert_true(rpc_channel_alive(h->ch));
    assert_int_equal(say(s, "after", 0, &err), 0); /* the old connection ends what it has */
    expect(s, "after");
    s = rpc_stream_close(s);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    assert_int_equal(echo_with(h, &o, 10, &err), 0);
    rpc_server_drain(next);
    assert_int_equal(fiber_sleep(50 * USEC_MSEC), 0);
    assert_int_equal(echo_with(h, &o, 10, &err), -ERR_UNAVAILABLE); /* nobody is there */
    next = rpc_server_free(next);
}

static void test_new_connection_after_goaway(void **state)
{
    (void)state;
    harness_run(renew_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_streaming),
        cmocka_unit_test(test_bidi_on_a_fiber),
        cmocka_unit_test(test_slow_handler_holds_the_client),
        cmocka_unit_test(test_metadata_both_ways),
        cmocka_unit_test(test_metadata_rules_and_limits),
        cmocka_unit_test(test_largest_failure),
        cmocka_unit_test(test_compression),
        cmocka_unit_test(test_handlers_at_once),
        cmocka_unit_test(test_connections_and_accepts),
        cmocka_unit_test(test_crowd_from_one_address),
        cmocka_unit_test(test_connections_of_one_address),
        cmocka_unit_test(test_smaller_requests),
        cmocka_unit_test(test_new_connection_after_goaway),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
