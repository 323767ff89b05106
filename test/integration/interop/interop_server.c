/* SPDX-License-Identifier: Apache-2.0 */
/* interop_server — grpc.testing.TestService on src/rpc: interop_server [--cert F --key F [--ca F]] ADDR...
 * Prints each address as bound and ends on SIGTERM. With --ca a client must show a certificate of that root. Where it is asked for the user
 * name it tells the URI of the client's certificate.  Source: grpc/grpc doc/interop-test-descriptions.md, section Server. */
#include <signal.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/opt.h"
#include "interop.davit.h"
#include "interop.pb-c.h"
#include "interop_tls.h"
#include "loop/fiber.h"
#include "rpc/rpc.h"

#define ECHO_INITIAL  "x-grpc-test-echo-initial"
#define ECHO_TRAILING "x-grpc-test-echo-trailing-bin"

typedef Grpc__Testing__SimpleRequest simple_request;
typedef Grpc__Testing__StreamingOutputCallRequest output_request;
typedef Grpc__Testing__ResponseParameters parameters;

enum { COLLECTED_MAX = 64, ADDRS_MAX = 8 };

static const uint8_t zeros[RPC_MESSAGE_MAX];
static struct loop *loop;

/* ---- what several methods do ---- */

static int check_size(int32_t size, struct err *err)
{
    return size >= 0 && size <= RPC_MESSAGE_MAX ? 0 : err_set(err, ERR_INVALID, "a response of %d bytes", (int)size);
}

static int echo_metadata(struct rpc_call *call, struct err *err)
{
    AUTO_BUF bin = BUF_INIT(4096);
    const char *initial = rpc_call_metadata(call, ECHO_INITIAL);
    int rc = initial ? rpc_call_set_header(call, ECHO_INITIAL, str_from(initial)) : 0;
    if (rc == 0)
        rc = rpc_call_metadata_bin(call, ECHO_TRAILING, 0, &bin);
    if (rc == 0)
        rc = rpc_call_set_trailer(call, ECHO_TRAILING, buf_str(&bin));
    return rc < 0 ? err_set(err, (enum err_code) - rc, "the metadata cannot be echoed") : 0;
}

static int echo_status(const Grpc__Testing__EchoStatus *status, struct err *err)
{
    if (!status || status->code == 0)
        return 0;
    bool known = status->code > 0 && status->code < ERR_CODE_MAX;
    int rc = err_set(err, known ? (enum err_code)status->code : ERR_UNKNOWN, "echo");
    /* Past what keeps our own messages on one line: the wire carries all. */
    (void)str_copy(err->msg, sizeof(err->msg), str_from(status->message));
    return rc;
}

static bool is_true(const Grpc__Testing__BoolValue *v)
{
    return v && v->value;
}

/* ---- unary ---- */

static int run_empty(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)request;
    (void)err;
    Grpc__Testing__Empty r = GRPC__TESTING__EMPTY__INIT;
    return rpc_send(call, &r.base);
}

static int run_unary(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    const simple_request *q = (const void *)request;
    Grpc__Testing__SimpleResponse r = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
    Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
    int rc = echo_metadata(call, err);
    if (rc == 0)
        rc = echo_status(q->response_status, err);
    if (rc == 0)
        rc = check_size(q->response_size, err);
    if (rc < 0)
        return rc;
    payload.type = q->response_type;
    payload.body = (ProtobufCBinaryData){(size_t)q->response_size, (uint8_t *)zeros};
    r.payload = &payload;
    if (is_true(q->response_compressed))
        rpc_call_compress(call);
    AUTO_FREE char *name = NULL;
    if (q->fill_username) {
        const struct conn *conn = rpc_call_conn(call);
        name = str_dup(str_from(conn ? conn_peer(conn)->uri : ""));
        r.username = name;
    }
    return rpc_send(call, &r.base);
}

/* ---- streams ---- */

static int send_responses(struct rpc_call *call, const output_request *q, struct err *err)
{
    int rc = echo_status(q->response_status, err);
    for (size_t i = 0; rc == 0 && i < q->n_response_parameters; i++) {
        const parameters *p = q->response_parameters[i];
        Grpc__Testing__StreamingOutputCallResponse r = GRPC__TESTING__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
        Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
        rc = check_size(p->size, err);
        if (rc == 0 && p->interval_us > 0)
            rc = fiber_sleep((usec_t)p->interval_us);
        if (rc < 0)
            return rc;
        payload.type = q->response_type;
        payload.body = (ProtobufCBinaryData){(size_t)p->size, (uint8_t *)zeros};
        r.payload = &payload;
        if (is_true(p->compressed))
            rpc_call_compress(call);
        rc = rpc_send(call, &r.base);
    }
    return rc;
}

static int run_output(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    return send_responses(call, (const void *)request, err);
}

static int run_input(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)request;
    Grpc__Testing__StreamingInputCallResponse r = GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;
    ProtobufCMessage *m;
    int rc;
    while ((rc = rpc_recv(call, &m, err)) == 0) {
        const Grpc__Testing__StreamingInputCallRequest *q = (const void *)m;
        r.aggregated_payload_size += q->payload ? (int32_t)q->payload->body.len : 0;
        (void)rpc_message_free(m);
    }
    return rc < 0 ? rc : rpc_send(call, &r.base);
}

static int run_full_duplex(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)request;
    ProtobufCMessage *m;
    int rc = echo_metadata(call, err);
    while (rc == 0 && (rc = rpc_recv(call, &m, err)) == 0) {
        rc = send_responses(call, (const void *)m, err);
        (void)rpc_message_free(m);
    }
    return rc < 0 ? rc : 0;
}

static int run_half_duplex(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    (void)ctx;
    (void)request;
    ProtobufCMessage *collected[COLLECTED_MAX], *m;
    size_t n = 0;
    int rc = echo_metadata(call, err);
    while (rc == 0 && (rc = rpc_recv(call, &m, err)) == 0) {
        if (n == COLLECTED_MAX) {
            (void)rpc_message_free(m);
            rc = err_set(err, ERR_EXHAUSTED, "more than %d messages", COLLECTED_MAX);
        } else {
            collected[n++] = m;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (rc >= 0)
            rc = send_responses(call, (const void *)collected[i], err);
        (void)rpc_message_free(collected[i]);
    }
    return rc < 0 ? rc : 0;
}

static const struct rpc_handler handlers[] = {{.run = run_empty},      {.run = run_unary}, {.run = run_unary},
                                              {.run = run_output},     {.run = run_input}, {.run = run_full_duplex},
                                              {.run = run_half_duplex}};
_Static_assert(ARRAY_LEN(handlers) == grpc_testing_test_service_METHODS - 1, "all but UnimplementedCall, the last");

/* ---- the program ---- */

static int anybody(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
                   struct err *err)
{
    (void)call;
    (void)ctx;
    (void)service;
    (void)method;
    (void)err;
    return 0;
}

static void on_term(int signum, void *arg)
{
    (void)signum;
    (void)arg;
    loop_stop(loop);
}

static const struct opt options[] = {
    {.name = "ca", .type = OPT_STRING, .offset = offsetof(struct interop_tls, ca), .arg = "FILE", .help = "root of the clients"},
    {.name = "cert", .type = OPT_STRING, .offset = offsetof(struct interop_tls, cert), .arg = "FILE", .help = "own chain"},
    {.name = "key", .type = OPT_STRING, .offset = offsetof(struct interop_tls, key), .arg = "FILE", .help = "own key"},
    {0}};

static int serve(struct rpc_server *s, int argc, char **argv, struct err *err)
{
    struct interop_tls files;
    struct tls_ctx *tls = NULL;
    const char *addrs[ADDRS_MAX];
    size_t n = ARRAY_LEN(addrs);
    int rc = opt_parse(options, argc, argv, &files, addrs, &n, err);
    if (rc == 0) {
        files.server = true;
        files.client_cert = files.ca != NULL;
        rc = interop_tls_make(&files, &tls, err);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = rpc_server_listen(s, addrs[i], 0600, tls, err);
        if (rc == 0)
            (void)printf("%s\n", rpc_server_addr(s, i));
    }
    (void)tls_ctx_unref(tls);
    (void)fflush(stdout);
    return rc;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct rpc_service service = grpc_testing_test_service;
    service.n_methods = ARRAY_LEN(handlers);
    loop = loop_new();
    struct rpc_server *s = rpc_server_new(loop, anybody, NULL);
    rpc_server_add(s, &service, handlers, NULL);
    int rc = loop_signal(loop, SIGTERM, on_term, NULL, &err);
    if (rc == 0)
        rc = serve(s, argc, argv, &err);
    if (rc == 0)
        loop_run(loop);
    else
        (void)fprintf(stderr, "interop_server: %s\n", err.msg);
    s = rpc_server_free(s);
    (void)!loop_signal(loop, SIGTERM, NULL, NULL, NULL);
    loop_run(loop);
    loop = loop_free(loop);
    return rc != 0;
}
