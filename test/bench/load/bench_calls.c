/* SPDX-License-Identifier: Apache-2.0 */
/* bench_calls — restarts services of a seeded control plane (bench_seed, bench_agents), some at once, and tells how long each took from the call
 * to the agent's result in the caller's hands. usage: bench_calls API_ADDR USER_DIR SERVERS CALLS AT_ONCE */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"
#include "davit/control/v1/workloads.davit.h"
#include "loop/fiber.h"
#include "rpc/rpc.h"

enum { PEM_MAX = 64 * 1024, CALLS_MAX = 1000000, AT_ONCE_MAX = 1000 };

struct bench {
    struct loop *loop;
    struct rpc_channel *channel;
    char *api, *dir;
    struct cli cli; /* what asks for tokens */
    uint64_t servers, calls, at_once;
    uint64_t begun, done, failed;
    usec_t *took;
    struct event over;
};

static int call_one(const struct bench *b)
{
    Davit__Control__V1__ControlServiceRequest q = DAVIT__CONTROL__V1__CONTROL_SERVICE_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    struct err err = ERR_INIT;
    char name[32];
    (void)snprintf(name, sizeof(name), "s%llu", (unsigned long long)rng_below(b->servers));
    q.project = (char *)"bench";
    q.service = name;
    q.action = (char *)"restart";
    int rc = rpc_unary(b->channel, &davit_control_v1_workload_service, "ControlService", &q.base, deadline_in(60 * USEC_SEC), &answer, &err);
    rpc_message_free(answer);
    if (rc < 0)
        (void)fprintf(stderr, "bench_calls: %s\n", err.msg);
    return rc;
}

static void caller(void *arg)
{
    struct bench *b = arg;
    while (b->begun < b->calls) {
        usec_t *took = &b->took[b->begun++], began = clock_mono();
        if (call_one(b) < 0)
            b->failed++;
        *took = clock_mono() - began;
        b->done++;
    }
    if (b->done == b->calls)
        event_signal(&b->over);
}

static int dial(struct bench *b, struct err *err)
{
    AUTO_FREE char *crt_path = str_printf("%s/cli.crt", b->dir), *key_path = str_printf("%s/cli.key", b->dir),
                   *root_path = str_printf("%s/root.crt", b->dir);
    AUTO_BUF crt = BUF_INIT(PEM_MAX), key = BUF_INIT(PEM_MAX), root = BUF_INIT(PEM_MAX);
    struct tls_ctx *tls = NULL;
    int rc = fd_read_file(crt_path, &crt, err);
    if (rc >= 0)
        rc = fd_read_file(key_path, &key, err);
    if (rc >= 0)
        rc = fd_read_file(root_path, &root, err);
    struct tls_config config = {.cert_pem = buf_str(&crt), .key_pem = buf_str(&key), .ca_pem = buf_str(&root), .peer_uri = "davit://controlplane",
                                .alpn = "h2"};
    if (rc >= 0)
        rc = tls_ctx_new(&config, &tls, err);
    if (rc >= 0)
        rc = rpc_channel_open(b->loop, b->api, tls, 0, deadline_in(10 * USEC_SEC), &b->channel, err);
    tls_ctx_unref(tls);
    if (rc >= 0) {
        b->cli = (struct cli){.loop = b->loop, .channel = b->channel, .paths.config = b->dir, .settings.api = b->api};
        bearer_use(&b->cli, buf_str(&crt));
    }
    return rc;
}

static int by_time(const void *a, const void *b)
{
    usec_t x = *(const usec_t *)a, y = *(const usec_t *)b;
    return x < y ? -1 : x > y;
}

static void tell(const struct bench *b, usec_t began)
{
    double s = (double)(clock_mono() - began) / (double)USEC_SEC;
    qsort(b->took, b->calls, sizeof(*b->took), by_time);
    (void)printf("{\"what\": \"calls\", \"seconds\": %.3f, \"count\": %llu, \"failed\": %llu, \"p50_ms\": %.2f, \"p99_ms\": %.2f, "
                 "\"max_ms\": %.2f}\n",
                 s, (unsigned long long)b->calls, (unsigned long long)b->failed, (double)b->took[b->calls / 2] / 1000,
                 (double)b->took[b->calls * 99 / 100] / 1000, (double)b->took[b->calls - 1] / 1000);
}

static void main_fiber(void *arg)
{
    struct bench *b = arg;
    struct err err = ERR_INIT;
    if (dial(b, &err) < 0) {
        (void)fprintf(stderr, "bench_calls: %s\n", err.msg);
        exit(1);
    }
    usec_t began = clock_mono();
    for (uint64_t i = 0; i < b->at_once; i++)
        if (fiber_spawn(b->loop, "caller", caller, b, NULL) < 0)
            exit(1);
    (void)event_wait(&b->over, deadline_in(300 * USEC_SEC));
    tell(b, began);
    (void)fflush(stdout);
    _exit(0); /* the process goes with all that it has */
}

int main(int argc, char **argv)
{
    struct bench b = {.loop = loop_new()};
    if (argc != 6 || str_to_u64(str_from(argv[3]), CALLS_MAX, &b.servers) != 0 || str_to_u64(str_from(argv[4]), CALLS_MAX, &b.calls) != 0 ||
        str_to_u64(str_from(argv[5]), AT_ONCE_MAX, &b.at_once) != 0 || !b.servers || !b.calls || !b.at_once) {
        (void)fputs("usage: bench_calls API_ADDR USER_DIR SERVERS CALLS AT_ONCE\n", stderr);
        return 2;
    }
    b.api = argv[1];
    b.dir = argv[2];
    b.took = calloc(b.calls, sizeof(*b.took));
    event_init(&b.over, b.loop);
    if (!b.took || fiber_spawn(b.loop, "main", main_fiber, &b, NULL) < 0)
        return 1;
    loop_run(b.loop);
    return 0;
}
