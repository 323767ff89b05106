/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of WatchService: requests, changes, a peer that takes or does not, time. The peer is the linker's to play. Topics that need the store or
 * an agent are left out. The input is a row of (what, length, bytes). */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "control/watch/watch.h"
#include "control/watch/watch_kept.h"

struct peer {
    size_t queued, room;
    bool ended;
};

int __wrap_rpc_stream_send(struct rpc_call *call, const ProtobufCMessage *message);
size_t __wrap_rpc_stream_queued(const struct rpc_call *call);
void __wrap_rpc_stream_finish(struct rpc_call *call, const struct err *failure);
struct conn *__wrap_rpc_call_conn(const struct rpc_call *call);
const char *__wrap_conn_peer_addr(const struct conn *conn);

int __wrap_rpc_stream_send(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct peer *p = (struct peer *)call;
    AUTO_BUF wire = BUF_INIT(RPC_MESSAGE_MAX);
    BUG_ON(rpc_pack(message, &wire) != 0);
    if (p->ended)
        return -(int)ERR_UNAVAILABLE;
    if (p->queued > p->room)
        return -(int)ERR_EXHAUSTED;
    p->queued += wire.len;
    return 0;
}

size_t __wrap_rpc_stream_queued(const struct rpc_call *call)
{
    return ((const struct peer *)call)->queued;
}

void __wrap_rpc_stream_finish(struct rpc_call *call, const struct err *failure)
{
    BUG_ON(!failure->code);
    ((struct peer *)call)->ended = true;
    ((struct peer *)call)->queued = 0;
}

struct conn *__wrap_rpc_call_conn(const struct rpc_call *call)
{
    (void)call;
    return NULL;
}

const char *__wrap_conn_peer_addr(const struct conn *conn)
{
    (void)conn;
    return "192.0.2.1:1";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_server(struct control *c, unsigned i)
{
    struct server *s = NEW(struct server);
    s->refs = 1;
    s->control = c;
    s->state = SERVER_OFFLINE;
    list_init(&s->node);
    list_init(&s->changed.node);
    list_init(&s->sampled.node);
    list_init(&s->commands);
    inventory_init(&s->inventory);
    timer_init(&s->offline, c->loop, NULL, NULL);
    list_push(&c->servers, &s->node);
    (void)snprintf(s->id, sizeof(s->id), "%08x-0000-0000-0000-000000000000", i);
    (void)snprintf(s->name, sizeof(s->name), "s%u", i);
    server_changed(s);
}

static void drop_server(struct control *c, struct server *s)
{
    s->gone = true;
    list_remove(&s->node);
    list_remove(&s->changed.node);
    list_remove(&s->sampled.node);
    (void)str_copy(changes_gone(&c->changes, &c->changes.servers_gone)->id, sizeof(s->id), str_from(s->id));
    server_unref(s);
}

static void ask(void *state, struct str bytes)
{
    ProtobufCMessage *m = NULL;
    if (rpc_unpack(&davit__control__v1__watch_request__descriptor, bytes, &m, NULL) != 0)
        return;
    switch (((Davit__Control__V1__WatchRequest *)m)->what_case) {
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_OVERVIEW:
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_SERVICES:
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_DEPLOYMENTS:
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_DEPLOYMENT:
    case DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_LOGS: break;
    default: watch_handlers[0].stream->message(state, m);
    }
    (void)rpc_message_free(m);
}

static void step(struct control *c, struct peer *p, void *state, uint8_t what, struct str bytes)
{
    struct server *first = list_first(&c->servers, struct server, node);
    switch (what % 8) {
    case 0: add_server(c, (unsigned)c->changes.seq); break;
    case 1:
        if (first)
            drop_server(c, first);
        break;
    case 2:
        if (first)
            server_containers_changed(first);
        break;
    case 3:
        if (first)
            server_sampled(first);
        break;
    case 4: loop_advance(c->loop, (bytes.n + 1) * 100 * USEC_MSEC); break;
    case 5: p->room = bytes.n * 64; break;
    case 6:
        p->queued = 0;
        watch_handlers[0].stream->drain(state);
        break;
    default: ask(state, bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control *c = NEW(struct control);
    struct peer p = {.room = 4096};
    struct err err = ERR_INIT;
    void *state = NULL;
    struct server *s;
    clock_fake(1000 * USEC_SEC, 1000 * USEC_SEC);
    c->loop = loop_new();
    list_init(&c->servers);
    list_init(&c->streams);
    changes_init(&c->changes, c->loop);
    c->kept = kept_new(c);
    BUG_ON(watch_handlers[0].stream->open((struct rpc_call *)&p, c, &state, &err) != 0);
    for (size_t i = 0; i + 2 <= size && !p.ended;) {
        size_t n = data[i + 1] < size - i - 2 ? data[i + 1] : size - i - 2;
        step(c, &p, state, data[i], (struct str){(const char *)data + i + 2, n});
        i += 2 + n;
    }
    watch_handlers[0].stream->closed(state, &err);
    list_each(s, &c->servers, struct server, node)
        drop_server(c, s);
    c->kept = kept_free(c->kept);
    changes_release(&c->changes);
    loop_free(c->loop);
    free(c);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    return 0;
}
