/* SPDX-License-Identifier: Apache-2.0 */
/* interop_client — the test cases of grpc.testing.TestService on our client: interop_client [--ca F] [--cert F --key F] [--host NAME] ADDR
 * CASE...  All cases go over one connection; one line "ok CASE" or "FAILED CASE: why" for each; exit status 1 if one failed.
 * Source: grpc/grpc doc/interop-test-descriptions.md, section Client. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt.h"
#include "interop.davit.h"
#include "interop.pb-c.h"
#include "interop_tls.h"
#include "loop/fiber.h"
#include "rpc/rpc.h"

#define SVC           (&grpc_testing_test_service)
#define ECHO_INITIAL  "x-grpc-test-echo-initial"
#define ECHO_TRAILING "x-grpc-test-echo-trailing-bin"
#define CASE_TIME     (20 * USEC_SEC)

enum { REQUEST_SIZE = 271828, RESPONSE_SIZE = 314159, PARALLEL = 20, OPERANDS_MAX = 40 };

typedef Grpc__Testing__SimpleRequest simple_request;
typedef Grpc__Testing__SimpleResponse simple_response;
typedef Grpc__Testing__StreamingOutputCallRequest output_request;
typedef Grpc__Testing__StreamingOutputCallResponse output_response;

static const uint8_t zeros[RESPONSE_SIZE];

/* The four rounds of ping_pong; the requests of client_streaming and the responses of server_streaming are the same numbers. */
static const int32_t request_sizes[] = {27182, 8, 1828, 45904}, response_sizes[] = {31415, 9, 2653, 58979};
enum { ROUNDS = ARRAY_LEN(request_sizes), REQUESTS_SUM = 74922 };

struct run {
    struct loop *loop;
    int argc;
    char **argv;
    struct rpc_channel *ch;
    int failed;
};

/* ---- helpers ---- */

static int fail(struct err *err, const char *what)
{
    return err_set(err, ERR_INTERNAL, "%s", what);
}

static Grpc__Testing__Payload payload_of(size_t n)
{
    Grpc__Testing__Payload p = GRPC__TESTING__PAYLOAD__INIT;
    p.body = (ProtobufCBinaryData){n, (uint8_t *)zeros};
    return p;
}

static int check_payload(const Grpc__Testing__Payload *p, size_t n, struct err *err)
{
    size_t len = p ? p->body.len : 0;
    if (len != n)
        return err_set(err, ERR_INTERNAL, "the response has %zu bytes, not %zu", len, n);
    return len && memcmp(p->body.data, zeros, len) != 0 ? fail(err, "the response is not all zeros") : 0;
}

/* The call ended with @rc, @got: it must be this failure. */
static int check_status(int rc, const struct err *got, enum err_code code, const char *message, struct err *err)
{
    if (rc != -(int)code)
        return err_set(err, ERR_INTERNAL, "status %s instead of %s", err_code_name((enum err_code) - rc), err_code_name(code));
    if (message && strcmp(got->msg, message) != 0)
        return err_set(err, ERR_INTERNAL, "status message \"%s\"", got->msg);
    return 0;
}

static int unary(struct run *r, simple_request *q, const struct rpc_options *options, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_unary_with(r->ch, SVC, "UnaryCall", &q->base, options, &m, err);
    if (rc == 0)
        rc = check_payload(((const simple_response *)(const void *)m)->payload, (size_t)q->response_size, err);
    (void)rpc_message_free(m);
    return rc;
}

static struct rpc_options by_default(void)
{
    return (struct rpc_options){.deadline = deadline_in(CASE_TIME)};
}

static int put_round(struct rpc_stream *s, int32_t request, int32_t response, struct err *err)
{
    output_request q = GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
    Grpc__Testing__ResponseParameters p = GRPC__TESTING__RESPONSE_PARAMETERS__INIT, *list[] = {&p};
    Grpc__Testing__Payload payload = payload_of((size_t)request);
    q.payload = &payload;
    p.size = response;
    q.response_parameters = list;
    q.n_response_parameters = response >= 0;
    return rpc_stream_put(s, &q.base, deadline_in(CASE_TIME), err);
}

/* One response of @size bytes. */
static int get_round(struct rpc_stream *s, int32_t size, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_stream_get(s, deadline_in(CASE_TIME), &m, err);
    if (rc == 1)
        rc = fail(err, "the stream ended too early");
    if (rc == 0)
        rc = check_payload(((const output_response *)(const void *)m)->payload, (size_t)size, err);
    (void)rpc_message_free(m);
    return rc;
}

/* The stream must end here, with OK. */
static int get_end(struct rpc_stream *s, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_stream_get(s, deadline_in(CASE_TIME), &m, err);
    if (rc == 0)
        rc = fail(err, "one response too many");
    (void)rpc_message_free(m);
    return rc == 1 ? 0 : rc;
}

/* ---- unary ---- */

static int empty_unary(struct run *r, struct err *err)
{
    Grpc__Testing__Empty q = GRPC__TESTING__EMPTY__INIT;
    ProtobufCMessage *m = NULL;
    int rc = rpc_unary(r->ch, SVC, "EmptyCall", &q.base, deadline_in(CASE_TIME), &m, err);
    (void)rpc_message_free(m);
    return rc;
}

static int large_unary_with(struct run *r, const struct rpc_options *options, bool compressed, struct err *err)
{
    simple_request q = GRPC__TESTING__SIMPLE_REQUEST__INIT;
    Grpc__Testing__Payload payload = payload_of(REQUEST_SIZE);
    Grpc__Testing__BoolValue yes = GRPC__TESTING__BOOL_VALUE__INIT;
    yes.value = true;
    q.payload = &payload;
    q.response_size = RESPONSE_SIZE;
    q.response_compressed = compressed ? &yes : NULL;
    return unary(r, &q, options, err);
}

static int large_unary(struct run *r, struct err *err)
{
    const struct rpc_options o = by_default();
    return large_unary_with(r, &o, false, err);
}

/* Both directions compressed, where the peer does it on demand. */
static int compressed_unary(struct run *r, struct err *err)
{
    struct rpc_options o = by_default();
    o.compress = true;
    return large_unary_with(r, &o, true, err);
}

struct one_of_many {
    struct run *run;
    struct err err;
    int rc;
};

static void run_one(void *arg)
{
    struct one_of_many *one = arg;
    one->rc = large_unary(one->run, &one->err);
}

static int concurrent_large_unary(struct run *r, struct err *err)
{
    struct one_of_many *many = mem_zalloc(PARALLEL, sizeof(*many));
    struct fiber *fibers[PARALLEL] = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < PARALLEL; i++) {
        many[i].run = r;
        rc = fiber_spawn(r->loop, "large unary", run_one, &many[i], &fibers[i]);
    }
    for (size_t i = 0; i < PARALLEL; i++) {
        if (fibers[i] && fiber_join(fibers[i], USEC_INFINITY) == 0 && rc == 0 && many[i].rc < 0) {
            *err = many[i].err;
            rc = many[i].rc;
        }
        (void)fiber_unref(fibers[i]);
    }
    free(many);
    return err_ensure(err, rc);
}

/* ---- streams ---- */

static int client_streaming_with(struct run *r, const struct rpc_options *options, struct err *err)
{
    struct rpc_stream *s;
    ProtobufCMessage *m = NULL;
    int rc = rpc_stream_open_with(r->ch, SVC, "StreamingInputCall", options, &s, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < ROUNDS; i++) {
        Grpc__Testing__StreamingInputCallRequest q = GRPC__TESTING__STREAMING_INPUT_CALL_REQUEST__INIT;
        Grpc__Testing__Payload payload = payload_of((size_t)request_sizes[i]);
        q.payload = &payload;
        rc = rpc_stream_put(s, &q.base, deadline_in(CASE_TIME), err);
    }
    rpc_stream_half_close(s);
    if (rc == 0)
        rc = rpc_stream_get(s, deadline_in(CASE_TIME), &m, err);
    if (rc == 1)
        rc = fail(err, "no response");
    if (rc == 0 && ((const Grpc__Testing__StreamingInputCallResponse *)(const void *)m)->aggregated_payload_size != REQUESTS_SUM)
        rc = fail(err, "wrong sum");
    if (rc == 0)
        rc = get_end(s, err);
    (void)rpc_message_free(m);
    (void)rpc_stream_close(s);
    return rc;
}

static int client_streaming(struct run *r, struct err *err)
{
    const struct rpc_options o = by_default();
    return client_streaming_with(r, &o, err);
}

static int compressed_streaming(struct run *r, struct err *err)
{
    struct rpc_options o = by_default();
    o.compress = true;
    return client_streaming_with(r, &o, err);
}

static int server_streaming(struct run *r, struct err *err)
{
    output_request q = GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
    Grpc__Testing__ResponseParameters p[ROUNDS], *list[ROUNDS];
    struct rpc_stream *s;
    for (size_t i = 0; i < ROUNDS; i++) {
        p[i] = (Grpc__Testing__ResponseParameters)GRPC__TESTING__RESPONSE_PARAMETERS__INIT;
        p[i].size = response_sizes[i];
        list[i] = &p[i];
    }
    q.response_parameters = list;
    q.n_response_parameters = ROUNDS;
    int rc = rpc_stream_open(r->ch, SVC, "StreamingOutputCall", deadline_in(CASE_TIME), &s, err);
    if (rc < 0)
        return rc;
    rc = rpc_stream_put(s, &q.base, deadline_in(CASE_TIME), err);
    rpc_stream_half_close(s);
    for (size_t i = 0; rc == 0 && i < ROUNDS; i++)
        rc = get_round(s, response_sizes[i], err);
    if (rc == 0)
        rc = get_end(s, err);
    (void)rpc_stream_close(s);
    return rc;
}

static int ping_pong(struct run *r, struct err *err)
{
    struct rpc_stream *s;
    int rc = rpc_stream_open(r->ch, SVC, "FullDuplexCall", deadline_in(CASE_TIME), &s, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < ROUNDS; i++) {
        rc = put_round(s, request_sizes[i], response_sizes[i], err);
        if (rc == 0)
            rc = get_round(s, response_sizes[i], err);
    }
    rpc_stream_half_close(s);
    if (rc == 0)
        rc = get_end(s, err);
    (void)rpc_stream_close(s);
    return rc;
}

/* All requests first: no answer may be needed to go on. */
static int half_duplex(struct run *r, struct err *err)
{
    struct rpc_stream *s;
    int rc = rpc_stream_open(r->ch, SVC, "HalfDuplexCall", deadline_in(CASE_TIME), &s, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < ROUNDS; i++)
        rc = put_round(s, request_sizes[i], response_sizes[i], err);
    rpc_stream_half_close(s);
    for (size_t i = 0; rc == 0 && i < ROUNDS; i++)
        rc = get_round(s, response_sizes[i], err);
    if (rc == 0)
        rc = get_end(s, err);
    (void)rpc_stream_close(s);
    return rc;
}

static int empty_stream(struct run *r, struct err *err)
{
    struct rpc_stream *s;
    int rc = rpc_stream_open(r->ch, SVC, "FullDuplexCall", deadline_in(CASE_TIME), &s, err);
    if (rc < 0)
        return rc;
    rpc_stream_half_close(s);
    rc = get_end(s, err);
    (void)rpc_stream_close(s);
    return rc;
}

/* ---- the end of calls ---- */

/* The connection goes on after a cancelled call. */
static int cancel_after_begin(struct run *r, struct err *err)
{
    struct rpc_stream *s;
    int rc = rpc_stream_open(r->ch, SVC, "StreamingInputCall", deadline_in(CASE_TIME), &s, err);
    if (rc < 0)
        return rc;
    (void)rpc_stream_close(s);
    return empty_unary(r, err);
}

static int cancel_after_first_response(struct run *r, struct err *err)
{
    struct rpc_stream *s;
    int rc = rpc_stream_open(r->ch, SVC, "FullDuplexCall", deadline_in(CASE_TIME), &s, err);
    if (rc < 0)
        return rc;
    rc = put_round(s, request_sizes[0], response_sizes[0], err);
    if (rc == 0)
        rc = get_round(s, response_sizes[0], err);
    (void)rpc_stream_close(s);
    return rc < 0 ? rc : empty_unary(r, err);
}

static int timeout_on_sleeping_server(struct run *r, struct err *err)
{
    struct err got = ERR_INIT;
    struct rpc_stream *s;
    ProtobufCMessage *m = NULL;
    int rc = rpc_stream_open(r->ch, SVC, "FullDuplexCall", deadline_in(100 * USEC_MSEC), &s, err);
    if (rc < 0)
        return rc;
    rc = put_round(s, request_sizes[0], -1, err);
    if (rc == 0)
        rc = check_status(rpc_stream_get(s, deadline_in(CASE_TIME), &m, &got), &got, ERR_DEADLINE, NULL, err);
    (void)rpc_message_free(m);
    (void)rpc_stream_close(s);
    return rc < 0 ? rc : empty_unary(r, err);
}

static int unary_status(struct run *r, Grpc__Testing__EchoStatus *status, const char *seen, struct err *err)
{
    struct err got = ERR_INIT;
    struct rpc_options o = by_default();
    simple_request q = GRPC__TESTING__SIMPLE_REQUEST__INIT;
    q.response_status = status;
    int rc = unary(r, &q, &o, &got);
    return check_status(rc, &got, (enum err_code)status->code, seen, err);
}

static int status_code_and_message(struct run *r, struct err *err)
{
    struct err got = ERR_INIT;
    struct rpc_stream *s;
    ProtobufCMessage *m = NULL;
    output_request q = GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
    Grpc__Testing__EchoStatus status = GRPC__TESTING__ECHO_STATUS__INIT;
    status.code = ERR_UNKNOWN;
    status.message = (char *)"test status message";
    int rc = unary_status(r, &status, status.message, err);
    if (rc == 0)
        rc = rpc_stream_open(r->ch, SVC, "FullDuplexCall", deadline_in(CASE_TIME), &s, err);
    if (rc < 0)
        return rc;
    q.response_status = &status;
    rc = rpc_stream_put(s, &q.base, deadline_in(CASE_TIME), err);
    rpc_stream_half_close(s);
    if (rc == 0)
        rc = check_status(rpc_stream_get(s, deadline_in(CASE_TIME), &m, &got), &got, ERR_UNKNOWN, status.message, err);
    (void)rpc_message_free(m);
    (void)rpc_stream_close(s);
    return rc;
}

/* What a peer says may be shown to people: our client lets none of its control characters through. */
static int special_status_message(struct run *r, struct err *err)
{
    Grpc__Testing__EchoStatus status = GRPC__TESTING__ECHO_STATUS__INIT;
    status.code = ERR_UNKNOWN;
    status.message = (char *)"\t\ntest with whitespace\r\nand Unicode BMP \xe2\x98\xba and non-BMP \xf0\x9f\x98\x88\t\n";
    return unary_status(r, &status, "??test with whitespace??and Unicode BMP \xe2\x98\xba and non-BMP \xf0\x9f\x98\x88??", err);
}

static int unimplemented(struct run *r, const struct rpc_service *service, struct err *err)
{
    struct err got = ERR_INIT;
    Grpc__Testing__Empty q = GRPC__TESTING__EMPTY__INIT;
    ProtobufCMessage *m = NULL;
    int rc = rpc_unary(r->ch, service, "UnimplementedCall", &q.base, deadline_in(CASE_TIME), &m, &got);
    (void)rpc_message_free(m);
    return check_status(rc, &got, ERR_UNIMPLEMENTED, NULL, err);
}

static int unimplemented_method(struct run *r, struct err *err)
{
    return unimplemented(r, SVC, err);
}

static int unimplemented_service(struct run *r, struct err *err)
{
    return unimplemented(r, &grpc_testing_unimplemented_service, err);
}

/* ---- metadata ---- */

static const char initial_value[] = "test_initial_metadata_value";
static const struct rpc_field echo_fields[] = {{ECHO_INITIAL, {initial_value, sizeof(initial_value) - 1}},
                                               {ECHO_TRAILING, {"\xab\xab\xab", 3}}};

static int check_echo(const struct rpc_meta *header, const struct rpc_meta *trailer, struct err *err)
{
    AUTO_BUF bin = BUF_INIT(64);
    const char *initial = rpc_meta_get(header, ECHO_INITIAL, 0);
    if (!initial || strcmp(initial, initial_value) != 0)
        return fail(err, "the leading metadata was not echoed");
    if (rpc_meta_bin(trailer, ECHO_TRAILING, 0, &bin) != 0 || !str_eq(buf_str(&bin), echo_fields[1].value))
        return fail(err, "the trailing metadata was not echoed");
    return 0;
}

static int custom_metadata(struct run *r, struct err *err)
{
    struct rpc_meta header = {0}, trailer = {0};
    struct rpc_stream *s;
    struct rpc_options o = by_default();
    o.metadata = echo_fields;
    o.n_metadata = ARRAY_LEN(echo_fields);
    o.header = &header;
    o.trailer = &trailer;
    int rc = large_unary_with(r, &o, false, err);
    if (rc == 0)
        rc = check_echo(&header, &trailer, err);
    rpc_meta_release(&header);
    rpc_meta_release(&trailer);
    o.header = o.trailer = NULL;
    if (rc == 0)
        rc = rpc_stream_open_with(r->ch, SVC, "FullDuplexCall", &o, &s, err);
    if (rc < 0)
        return rc;
    rc = put_round(s, REQUEST_SIZE, RESPONSE_SIZE, err);
    rpc_stream_half_close(s);
    if (rc == 0)
        rc = get_round(s, RESPONSE_SIZE, err);
    if (rc == 0)
        rc = get_end(s, err);
    if (rc == 0)
        rc = check_echo(rpc_stream_header(s), rpc_stream_trailer(s), err);
    (void)rpc_stream_close(s);
    return rc;
}

/* ---- the program ---- */

static const struct {
    const char *name;
    int (*run)(struct run *r, struct err *err);
} cases[] = {{"empty_unary", empty_unary},
             {"large_unary", large_unary},
             {"compressed_unary", compressed_unary},
             {"concurrent_large_unary", concurrent_large_unary},
             {"client_streaming", client_streaming},
             {"compressed_streaming", compressed_streaming},
             {"server_streaming", server_streaming},
             {"ping_pong", ping_pong},
             {"half_duplex", half_duplex},
             {"empty_stream", empty_stream},
             {"cancel_after_begin", cancel_after_begin},
             {"cancel_after_first_response", cancel_after_first_response},
             {"timeout_on_sleeping_server", timeout_on_sleeping_server},
             {"status_code_and_message", status_code_and_message},
             {"special_status_message", special_status_message},
             {"unimplemented_method", unimplemented_method},
             {"unimplemented_service", unimplemented_service},
             {"custom_metadata", custom_metadata}};

static void run_case(struct run *r, const char *name)
{
    struct err err = ERR_INIT;
    int rc = err_set(&err, ERR_NOT_FOUND, "no such case");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (strcmp(cases[i].name, name) == 0)
            rc = cases[i].run(r, &err);
    if (rc == 0)
        (void)printf("ok %s\n", name);
    else
        (void)printf("FAILED %s: %s: %s\n", name, err_code_name(err.code), err.msg);
    r->failed += rc != 0;
}

static const struct opt options[] = {
    {.name = "ca", .type = OPT_STRING, .offset = offsetof(struct interop_tls, ca), .arg = "FILE", .help = "root of the server"},
    {.name = "cert", .type = OPT_STRING, .offset = offsetof(struct interop_tls, cert), .arg = "FILE", .help = "own chain"},
    {.name = "key", .type = OPT_STRING, .offset = offsetof(struct interop_tls, key), .arg = "FILE", .help = "own key"},
    {.name = "host",
     .type = OPT_STRING,
     .offset = offsetof(struct interop_tls, host),
     .arg = "NAME",
     .help = "name of the server"},
    {0}};

static void run(void *arg)
{
    struct run *r = arg;
    struct err err = ERR_INIT;
    struct interop_tls files;
    struct tls_ctx *tls = NULL;
    const char *words[OPERANDS_MAX];
    size_t n = ARRAY_LEN(words);
    int rc = opt_parse(options, r->argc, r->argv, &files, words, &n, &err);
    if (rc == 0 && n < 1)
        rc = err_set(&err, ERR_INVALID, "no address");
    if (rc == 0)
        rc = interop_tls_make(&files, &tls, &err);
    if (rc == 0)
        rc = rpc_channel_open(r->loop, words[0], tls, 0, deadline_in(CASE_TIME), &r->ch, &err);
    (void)tls_ctx_unref(tls);
    for (size_t i = 1; rc == 0 && i < n; i++)
        run_case(r, words[i]);
    if (rc != 0)
        (void)fprintf(stderr, "interop_client: %s: %s\n", err_code_name(err.code), err.msg);
    r->failed += rc != 0;
    r->ch = rpc_channel_close(r->ch);
}

int main(int argc, char **argv)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    struct run r = {.loop = loop_new(), .argc = argc, .argv = argv};
    if (fiber_spawn(r.loop, "cases", run, &r, NULL) < 0)
        return 1;
    loop_run(r.loop);
    r.loop = loop_free(r.loop);
    return r.failed != 0;
}
