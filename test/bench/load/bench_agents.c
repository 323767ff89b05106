/* SPDX-License-Identifier: Apache-2.0 */
/* bench_agents — many agents in one process that speak the real protocol: mutual TLS, one link each, Hello, heartbeats, commands answered at once
 * (no journal, no engine). "handshakes" in an answer is the most that one agent began since the answer before.
 * usage: bench_agents LINK_ADDR OUT_DIR FIRST COUNT    (OUT_DIR: of bench_seed)
 * Orders, one a line on stdin; each is answered by one line of JSON on stdout:
 *   connect        all agents dial at once, and again by the rule of the real agent; answered when all have their Welcome
 *   wait           answered when all are connected (after a restart of the control plane they come back by themselves)
 *   beat SECONDS   each agent sends heartbeats as fast as they are answered
 *   quit */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "davit/link/v1/link.davit.h"
#include "host/link/reconnect.h"
#include "loop/fiber.h"
#include "loop/lane.h"
#include "rpc/rpc.h"

enum { AGENTS_MAX = 3000, LINE_SIZE = 128, PEM_MAX = 64 * 1024, DIALS_MAX = 200 };
static const usec_t DIAL_WAIT = 60 * USEC_SEC, GET_WAIT = 120 * USEC_SEC;

struct bench;

struct agent {
    struct bench *bench;
    struct tls_ctx *tls;
    struct rpc_stream *stream; /* while connected */
    struct reconnect reconnect;
    struct reconnect_link last;
    unsigned handshakes;
    uint64_t epoch, beat, last_seq;
    bool beating;
};

struct bench {
    struct loop *loop;
    struct lane *lane;
    const char *addr, *dir;
    unsigned first, n;
    struct agent *agents;
    struct event go, all_up;
    unsigned up, dialling;
    uint64_t refused, lost, acks, commands;
    bool stopping;
    char line[LINE_SIZE];
};

/* --- One agent --- */

static int put(struct agent *a, Davit__Link__V1__AgentMessage *m)
{
    return rpc_stream_put(a->stream, &m->base, deadline_in(GET_WAIT), NULL);
}

static int send_hello(struct agent *a)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Hello h = DAVIT__LINK__V1__HELLO__INIT;
    h.protocol_min = h.protocol_max = 1;
    h.boot_id = h.instance_id = (char *)"bench";
    h.epoch = ++a->epoch;
    h.last_received_seq = a->last_seq;
    h.clock_us = clock_real();
    h.generation = 1;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO;
    m.hello = &h;
    return put(a, &m);
}

static int send_beat(struct agent *a)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Heartbeat h = DAVIT__LINK__V1__HEARTBEAT__INIT;
    h.sequence = ++a->beat;
    h.clock_us = clock_real();
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HEARTBEAT;
    m.heartbeat = &h;
    return put(a, &m);
}

static int answer(struct agent *a, const Davit__Link__V1__Command *c)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CommandReceived received = DAVIT__LINK__V1__COMMAND_RECEIVED__INIT;
    Davit__Link__V1__CommandResult result = DAVIT__LINK__V1__COMMAND_RESULT__INIT;
    a->last_seq = c->seq;
    a->bench->commands++;
    received.seq = result.seq = c->seq;
    received.id = result.id = c->id;
    result.outcome = (char *)"done";
    result.finished_us = clock_real();
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RECEIVED;
    m.received = &received;
    int rc = put(a, &m);
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RESULT;
    m.result = &result;
    return rc < 0 ? rc : put(a, &m);
}

static int take(struct agent *a, const Davit__Link__V1__ControlMessage *m)
{
    switch (m->body_case) {
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_COMMAND:
        return answer(a, m->command);
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK:
        a->bench->acks++;
        return a->beating ? send_beat(a) : 0;
    default:
        return 0;
    }
}

/* Reads until the link ends. The heartbeat of the house is 30 s; a bench is shorter than three of them or beats by itself. */
static void serve(struct agent *a)
{
    for (;;) {
        ProtobufCMessage *m = NULL;
        int rc = rpc_stream_get(a->stream, deadline_in(25 * USEC_SEC), &m, NULL);
        if (rc == -(int)ERR_DEADLINE)
            rc = send_beat(a);
        else if (rc == 0)
            rc = take(a, (const Davit__Link__V1__ControlMessage *)m);
        else
            rc = -1;
        rpc_message_free(m);
        if (rc < 0)
            return;
    }
}

static int greet(struct agent *a, struct rpc_channel *ch)
{
    ProtobufCMessage *m = NULL;
    int rc = rpc_stream_open(ch, &davit_link_v1_link_service, "Connect", USEC_INFINITY, &a->stream, NULL);
    if (rc == 0)
        rc = send_hello(a);
    if (rc == 0)
        rc = rpc_stream_get(a->stream, deadline_in(DIAL_WAIT), &m, NULL);
    const Davit__Link__V1__ControlMessage *got = (const Davit__Link__V1__ControlMessage *)m;
    if (rc == 0 && got->body_case != DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_WELCOME)
        rc = -1;
    if (rc == 0)
        a->last.spread = got->welcome->reconnect_spread_ms * USEC_MSEC;
    rpc_message_free(m);
    return rc == 0 ? 0 : -1;
}

/* One life of a link. */
static void link_once(struct agent *a)
{
    struct bench *b = a->bench;
    struct rpc_channel *ch = NULL;
    struct err err = ERR_INIT;
    while (b->dialling >= DIALS_MAX)
        if (fiber_sleep(5 * USEC_MSEC) < 0)
            return;
    b->dialling++;
    int rc = rpc_channel_open(b->loop, b->addr, a->tls, 0, deadline_in(DIAL_WAIT), &ch, &err);
    if (err.sys != ECONNREFUSED) /* nobody listened: that is no handshake */
        a->handshakes++;
    if (rc == 0)
        rc = greet(a, ch);
    b->dialling--;
    a->last.why = ERR_UNAVAILABLE;
    a->last.lived = 0;
    if (rc == 0) {
        usec_t began = clock_mono();
        if (++b->up == b->n)
            event_signal(&b->all_up);
        serve(a);
        if (b->up-- == b->n)
            event_reset(&b->all_up);
        b->lost++;
        a->last.lived = clock_mono() - began;
    } else {
        b->refused++;
    }
    a->stream = rpc_stream_close(a->stream);
    rpc_channel_close(ch);
}

static void agent_main(void *arg)
{
    struct agent *a = arg;
    if (event_wait(&a->bench->go, USEC_INFINITY) < 0)
        return;
    while (!a->bench->stopping) {
        link_once(a);
        if (fiber_sleep(reconnect_wait(&a->reconnect, &a->last)) < 0)
            return;
    }
}

/* --- Orders --- */

static int read_line(void *arg)
{
    struct bench *b = arg;
    return fgets(b->line, sizeof(b->line), stdin) ? 0 : -1;
}

static unsigned most_handshakes(struct bench *b)
{
    unsigned most = 0;
    for (unsigned i = 0; i < b->n; i++) {
        most = b->agents[i].handshakes > most ? b->agents[i].handshakes : most;
        b->agents[i].handshakes = 0;
    }
    return most;
}

static void tell(struct bench *b, const char *what, usec_t began, uint64_t count)
{
    double s = (double)(clock_mono() - began) / (double)USEC_SEC;
    (void)printf("{\"what\": \"%s\", \"seconds\": %.3f, \"up\": %u, \"handshakes\": %u, \"count\": %llu, \"refused\": %llu, \"lost\": %llu, "
                 "\"commands\": %llu}\n", what,
                 s, b->up, most_handshakes(b), (unsigned long long)count, (unsigned long long)b->refused, (unsigned long long)b->lost,
                 (unsigned long long)b->commands);
    (void)fflush(stdout);
}

static void beat_all(struct bench *b, unsigned seconds)
{
    usec_t began = clock_mono();
    uint64_t before = b->acks;
    for (unsigned i = 0; i < b->n; i++) {
        b->agents[i].beating = true;
        if (b->agents[i].stream)
            (void)send_beat(&b->agents[i]);
    }
    (void)fiber_sleep(seconds * USEC_SEC);
    for (unsigned i = 0; i < b->n; i++)
        b->agents[i].beating = false;
    tell(b, "beat", began, b->acks - before);
}

static void orders_main(void *arg)
{
    struct bench *b = arg;
    while (lane_call(b->lane, read_line, b, USEC_INFINITY) == 0) {
        usec_t began = clock_mono();
        if (strncmp(b->line, "quit", 4) == 0)
            break;
        if (strncmp(b->line, "beat ", 5) == 0) {
            uint64_t seconds = 5;
            (void)str_to_u64(str_trim(str_from(b->line + 5)), 60, &seconds);
            beat_all(b, (unsigned)seconds);
            continue;
        }
        if (strncmp(b->line, "connect", 7) == 0)
            event_signal(&b->go);
        (void)event_wait(&b->all_up, deadline_in(300 * USEC_SEC));
        tell(b, "connected", began, b->up);
    }
    /* The process goes with all its links: taking them down one by one is nobody's figure. */
    _exit(0);
}

/* --- Start --- */

static int load_agents(struct bench *b, struct err *err)
{
    AUTO_FREE char *key_path = str_printf("%s/agent.key", b->dir), *root_path = str_printf("%s/root.crt", b->dir);
    AUTO_BUF key = BUF_INIT(PEM_MAX), root = BUF_INIT(PEM_MAX);
    int rc = fd_read_file(key_path, &key, err);
    if (rc >= 0)
        rc = fd_read_file(root_path, &root, err);
    for (unsigned i = 0; rc >= 0 && i < b->n; i++) {
        struct agent *a = &b->agents[i];
        AUTO_FREE char *path = str_printf("%s/%u.crt", b->dir, b->first + i);
        AUTO_BUF crt = BUF_INIT(PEM_MAX);
        a->bench = b;
        rc = fd_read_file(path, &crt, err);
        struct tls_config config = {.cert_pem = buf_str(&crt), .key_pem = buf_str(&key), .ca_pem = buf_str(&root),
                                    .peer_uri = "davit://controlplane", .alpn = "h2"};
        if (rc >= 0)
            rc = tls_ctx_new(&config, &a->tls, err);
        if (rc >= 0)
            rc = fiber_spawn(b->loop, "agent", agent_main, a, NULL);
    }
    return rc < 0 ? rc : 0;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    uint64_t first = 0, n = 0;
    if (argc != 5 || str_to_u64(str_from(argv[3]), UINT32_MAX, &first) != 0 || str_to_u64(str_from(argv[4]), AGENTS_MAX, &n) != 0 || n == 0) {
        (void)fputs("usage: bench_agents LINK_ADDR OUT_DIR FIRST COUNT\n", stderr);
        return 2;
    }
    struct bench b = {.addr = argv[1], .dir = argv[2], .first = (unsigned)first, .n = (unsigned)n, .loop = loop_new()};
    b.agents = calloc(n, sizeof(struct agent));
    b.lane = lane_new(b.loop, "stdin", 1, 2);
    event_init(&b.go, b.loop);
    event_init(&b.all_up, b.loop);
    int rc = b.agents ? load_agents(&b, &err) : -1;
    if (rc >= 0)
        rc = fiber_spawn(b.loop, "orders", orders_main, &b, NULL);
    if (rc < 0) {
        (void)fprintf(stderr, "bench_agents: %s\n", err.msg);
        return 1;
    }
    loop_run(b.loop);
    return 0;
}
