/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of WatchService against a peer that takes what the test says (rpc_stream_send and its like are the linker's to replace), under a clock
 * that the test moves: what is told, what is merged, who is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/sandboxes/sandboxes.h"
#include "control/watch/watch.h"
#include "control/watch/watch_kept.h"

#define W(lit) ((char *)(uintptr_t)(lit))

/* --- The peer ----------------------------------------------------------------------------------------------------------------------- */

struct peer {
    size_t queued, room; /* bytes that it has not taken; as many are taken on */
    size_t largest;      /* of one message, 0: any */
    struct told {
        uint32_t id;
        int event;
        char name[64];
        int state;
    } *told;
    size_t n, max;
    unsigned ended;
    struct err end;
    void *state;
    const char *address;
};

int __wrap_rpc_stream_send(struct rpc_call *call, const ProtobufCMessage *message);
size_t __wrap_rpc_stream_queued(const struct rpc_call *call);
void __wrap_rpc_stream_finish(struct rpc_call *call, const struct err *failure);
struct conn *__wrap_rpc_call_conn(const struct rpc_call *call);
const char *__wrap_conn_peer_addr(const struct conn *conn);

int __wrap_rpc_stream_send(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct peer *p = (struct peer *)call;
    const Davit__Control__V1__WatchResponse *m = (const Davit__Control__V1__WatchResponse *)message;
    size_t size = protobuf_c_message_get_packed_size(message);
    if (p->ended)
        return -(int)ERR_UNAVAILABLE;
    if (p->largest && size > p->largest)
        return -(int)ERR_RANGE;
    if (p->queued + size > p->room)
        return -(int)ERR_EXHAUSTED;
    if (p->n == p->max)
        p->told = mem_resize(p->told, p->max = 2 * p->max + 16, sizeof(*p->told));
    struct told *t = &p->told[p->n++];
    *t = (struct told){.id = m->id, .event = (int)m->event_case};
    if (m->event_case == DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_SERVER) {
        (void)str_copy(t->name, sizeof(t->name), str_from(m->server->name));
        t->state = (int)m->server->state;
    } else if (m->event_case == DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_CONTAINERS) {
        t->state = (int)m->containers->n_containers;
    } else if (m->event_case == DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_SERVER_REMOVED) {
        (void)str_copy(t->name, sizeof(t->name), str_from(m->server_removed));
    } else if (m->event_case == DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_FAILED) {
        (void)str_copy(t->name, sizeof(t->name), str_from(m->failed->code));
    }
    p->queued += size;
    return 0;
}

size_t __wrap_rpc_stream_queued(const struct rpc_call *call)
{
    return ((const struct peer *)call)->queued;
}

void __wrap_rpc_stream_finish(struct rpc_call *call, const struct err *failure)
{
    struct peer *p = (struct peer *)call;
    p->ended++;
    p->end = *failure;
}

struct conn *__wrap_rpc_call_conn(const struct rpc_call *call)
{
    return (struct conn *)(uintptr_t)((const struct peer *)call)->address;
}

const char *__wrap_conn_peer_addr(const struct conn *conn)
{
    return (const char *)conn;
}

static const struct rpc_stream_handler *handler(void)
{
    return watch_handlers[0].stream;
}

/* NULL: it is refused. */
static struct peer *peer_try(struct control *c, const char *address)
{
    struct err err = ERR_INIT;
    struct peer *p = NEW(struct peer);
    p->room = SIZE_MAX / 2;
    p->address = address;
    if (handler()->open((struct rpc_call *)p, c, &p->state, &err) == 0)
        return p;
    assert_int_equal(err.code, ERR_EXHAUSTED);
    free(p);
    return NULL;
}

static struct peer *peer_new(struct control *c, const char *address)
{
    struct peer *p = peer_try(c, address);
    if (!p)
        abort();
    return p;
}

static void peer_free(struct peer *p)
{
    struct err err = ERR_INIT;
    handler()->closed(p->state, &err);
    free(p->told);
    free(p);
}

/* It has taken all. */
static void peer_takes(struct peer *p)
{
    p->queued = 0;
    handler()->drain(p->state);
}

static void ask_servers(struct peer *p, uint32_t id)
{
    Davit__Control__V1__WatchRequest r = DAVIT__CONTROL__V1__WATCH_REQUEST__INIT;
    Davit__Control__V1__ServersTopic topic = DAVIT__CONTROL__V1__SERVERS_TOPIC__INIT;
    r.id = id;
    r.what_case = DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_SERVERS;
    r.servers = &topic;
    handler()->message(p->state, &r.base);
}

static void ask_server_and(struct peer *p, uint32_t id, const char *name, bool foreign)
{
    Davit__Control__V1__WatchRequest r = DAVIT__CONTROL__V1__WATCH_REQUEST__INIT;
    Davit__Control__V1__ServerTopic topic = DAVIT__CONTROL__V1__SERVER_TOPIC__INIT;
    r.id = id;
    r.what_case = DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_SERVER;
    r.server = &topic;
    topic.server = W(name);
    topic.foreign = foreign;
    handler()->message(p->state, &r.base);
}

static void ask_server(struct peer *p, uint32_t id, const char *name)
{
    ask_server_and(p, id, name, false);
}

static size_t count(const struct peer *p, int event)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += p->told[i].event == event;
    return n;
}

#define COUNT(p, kind) count((p), DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_##kind)

static const struct told *last(const struct peer *p)
{
    assert_true(p->n > 0);
    return &p->told[p->n - 1];
}

/* --- The control plane ---------------------------------------------------------------------------------------------------------------- */

static struct control *control_new(unsigned n_servers)
{
    struct control *c = NEW(struct control);
    c->loop = loop_new();
    clock_fake(1000 * USEC_SEC, 1000 * USEC_SEC);
    list_init(&c->servers);
    list_init(&c->streams);
    changes_init(&c->changes, c->loop);
    c->kept = kept_new(c);
    for (unsigned i = 0; i < n_servers; i++) {
        struct server *s = NEW(struct server);
        s->refs = 1;
        s->control = c;
        s->state = SERVER_OFFLINE;
        list_init(&s->changed.node);
        list_init(&s->sampled.node);
        list_init(&s->commands);
        inventory_init(&s->inventory);
        timer_init(&s->offline, c->loop, NULL, NULL);
        list_init(&s->node);
        list_push(&c->servers, &s->node);
        (void)snprintf(s->id, sizeof(s->id), "%08x-0000-0000-0000-000000000000", i);
        (void)snprintf(s->name, sizeof(s->name), "s-%u", i);
        server_changed(s);
    }
    return c;
}

static struct server *nth(struct control *c, unsigned n)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "s-%u", n);
    return servers_by_name(c, name);
}

static void forget(struct control *c, struct server *s)
{
    s->gone = true;
    list_remove(&s->node);
    list_remove(&s->changed.node);
    list_remove(&s->sampled.node);
    (void)str_copy(changes_gone(&c->changes, &c->changes.servers_gone)->id, sizeof(s->id), str_from(s->id));
    server_unref(s);
}

static void control_free(struct control *c)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        forget(c, s);
    assert_int_equal(c->n_streams, 0);
    c->kept = kept_free(c->kept);
    changes_release(&c->changes);
    loop_free(c->loop);
    free(c);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
}

static void tick(struct control *c)
{
    loop_advance(c->loop, CHANGES_EVERY);
}

/* --- What is told --------------------------------------------------------------------------------------------------------------------- */

static void what_there_is_then_what_changed(void **state)
{
    (void)state;
    struct control *c = control_new(10);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    ask_servers(p, 7);
    assert_int_equal(COUNT(p, SERVER), 10);
    assert_int_equal(last(p)->event, DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_READY);
    assert_int_equal(last(p)->id, 7);
    loop_advance(c->loop, 10 * USEC_SEC);
    assert_int_equal(p->n, 11); /* nothing changed */
    /* Three changes of one within a tick are one; who watches it alone is told as well. */
    ask_server(p, 8, "s-3");
    size_t before = p->n;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(server_set_state(nth(c, 3), i == 1 ? SERVER_OFFLINE : SERVER_ONLINE, "test"), 0);
        server_changed(nth(c, 5));
    }
    tick(c);
    tick(c);
    assert_int_equal(p->n, before + 3);
    assert_string_equal(p->told[before].name, "s-3");
    assert_int_equal(p->told[before].state, SERVER_ONLINE);
    assert_string_equal(p->told[before + 1].name, "s-5");
    assert_int_equal(last(p)->id, 8);
    peer_free(p);
    control_free(c);
}

static void sandboxes_come_and_go(void **state)
{
    struct control *c = *state = control_new(1);
    Davit__Control__V1__WatchRequest r = DAVIT__CONTROL__V1__WATCH_REQUEST__INIT;
    Davit__Control__V1__SandboxesTopic topic = DAVIT__CONTROL__V1__SANDBOXES_TOPIC__INIT;
    Davit__Common__V1__SandboxSpec spec = DAVIT__COMMON__V1__SANDBOX_SPEC__INIT;
    struct sandbox *sb[2];
    c->sandboxes = sandboxes_new();
    spec.id = spec.name = W("ada");
    assert_int_equal(sandboxes_add(c, nth(c, 0), &spec, &sb[0], NULL), 0);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    r.what_case = DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_SANDBOXES, r.sandboxes = &topic, r.id = 7;
    handler()->message(p->state, &r.base);
    assert_int_equal(p->n, 2); /* one, and ready */
    spec.id = spec.name = W("bob");
    assert_int_equal(sandboxes_add(c, nth(c, 0), &spec, &sb[1], NULL), 0);
    sandbox_touched(sb[1]);
    tick(c);
    assert_int_equal(p->n, 3);
    sandbox_touched(sb[0]);
    sandboxes_drop(sb[1]);
    tick(c);
    assert_true(p->n == 5 && COUNT(p, SANDBOX_REMOVED) == 1);
    peer_free(p);
    c->sandboxes = sandboxes_free(c->sandboxes);
    control_free(c);
}

static void at_most_four_turns_a_second(void **state)
{
    (void)state;
    struct control *c = control_new(1);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    ask_servers(p, 1);
    size_t before = p->n;
    for (int i = 0; i < 1000; i++) {
        server_changed(nth(c, 0));
        loop_advance(c->loop, USEC_MSEC);
    }
    assert_in_range(p->n - before, 3, 5);
    peer_free(p);
    control_free(c);
}

static void a_heartbeat_is_no_news(void **state)
{
    (void)state;
    struct control *c = control_new(1);
    c->opt.offline_after = USEC_HOUR;
    struct server *s = nth(c, 0);
    assert_int_equal(server_set_state(s, SERVER_ONLINE, "test"), 0);
    s->heartbeat_saved = clock_real();
    struct peer *p = peer_new(c, "192.0.2.1:1");
    ask_servers(p, 1);
    size_t before = p->n;
    for (int i = 0; i < 200; i++) {
        server_heard(s, clock_real());
        loop_advance(c->loop, 100 * USEC_MSEC);
    }
    assert_in_range(p->n - before, 3, 4); /* in 20 s */
    timer_stop(&s->offline);
    peer_free(p);
    control_free(c);
}

/* What comes while nothing is taken is merged; the last state arrives, and once. */
static void back_pressure(void **state)
{
    (void)state;
    struct control *c = control_new(2000);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    p->room = 20000;
    ask_servers(p, 1);
    assert_in_range(p->n, 20, 1000);
    size_t first = p->n;
    for (int i = 0; i < 21; i++) {
        assert_int_equal(server_set_state(nth(c, 0), i % 2 ? SERVER_OFFLINE : SERVER_ONLINE, "test"), 0);
        tick(c);
    }
    assert_int_equal(p->n, first);
    unsigned drains = 0;
    while (last(p)->event != DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_READY) {
        peer_takes(p);
        assert_true(++drains < 500);
    }
    /* 2000, and the one that had been told before it changed. */
    assert_int_equal(COUNT(p, SERVER), 2001);
    assert_string_equal(p->told[p->n - 2].name, "s-0");
    assert_int_equal(p->told[p->n - 2].state, SERVER_ONLINE);
    peer_free(p);
    control_free(c);
}

/* One topic with much to tell leaves the others their turn. */
static void topics_take_turns(void **state)
{
    (void)state;
    struct control *c = control_new(3000);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    p->room = 100;
    ask_servers(p, 1);
    ask_server(p, 2, "s-0");
    p->room = SIZE_MAX / 2;
    peer_takes(p);
    size_t at = 0;
    while (p->told[at].id != 2)
        at++;
    assert_true(at < 600);
    assert_int_equal(COUNT(p, READY), 2);
    peer_free(p);
    control_free(c);
}

static void who_takes_nothing_is_cut(void **state)
{
    (void)state;
    struct control *c = control_new(2000);
    struct peer *p = peer_new(c, "192.0.2.1:1"), *slow = peer_new(c, "192.0.2.1:2");
    p->room = slow->room = 20000;
    ask_servers(p, 1);
    ask_servers(slow, 1);
    for (usec_t t = 0; t < WATCH_STALL - 2 * USEC_SEC; t += USEC_SEC) {
        slow->queued -= 10;
        loop_advance(c->loop, USEC_SEC);
    }
    assert_int_equal(p->ended, 0);
    for (int i = 0; i < 4; i++) {
        slow->queued -= 10;
        loop_advance(c->loop, USEC_SEC);
    }
    assert_int_equal(p->ended, 1);
    assert_int_equal(p->end.code, ERR_EXHAUSTED);
    assert_int_equal(slow->ended, 0); /* it takes something */
    peer_free(slow);
    peer_free(p);
    control_free(c);
}

/* req: WK-15 */
static void containers_of_others_where_asked(void **state)
{
    (void)state;
    struct control *c = control_new(1);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    Davit__Link__V1__ContainerStates m = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    Davit__Common__V1__Container ours = DAVIT__COMMON__V1__CONTAINER__INIT, other = ours, *all[] = {&ours, &other};
    ours.id = W("ours");
    other.id = W("other");
    other.foreign = true;
    m.full = true;
    m.containers = all;
    m.n_containers = 2;
    inventory_containers(&nth(c, 0)->inventory, &m);
    for (uint32_t foreign = 0; foreign < 2; foreign++) {
        size_t begun = p->n;
        ask_server_and(p, foreign + 1, nth(c, 0)->name, foreign);
        tick(c);
        for (size_t i = begun; i < p->n; i++)
            if (p->told[i].event == DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_CONTAINERS)
                assert_int_equal(p->told[i].state, foreign ? 2 : 1);
        assert_int_equal(COUNT(p, CONTAINERS), foreign + 1);
    }
    peer_free(p);
    control_free(c);
}

/* As JSON a message may be larger than we count: its topic fails, the others go on. */
static void what_cannot_be_sent_ends_its_topic(void **state)
{
    (void)state;
    struct control *c = control_new(2);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    struct server *big = nth(c, 1);
    memset(big->reason, 'x', sizeof(big->reason) - 1);
    p->largest = sizeof(big->reason);
    ask_server(p, 1, nth(c, 0)->name);
    ask_server(p, 2, big->name);
    tick(c);
    assert_int_equal(COUNT(p, SERVER), 1);
    assert_int_equal(COUNT(p, FAILED), 1);
    assert_string_equal(last(p)->name, "resource_exhausted");
    assert_int_equal(last(p)->id, 2);
    server_changed(nth(c, 0));
    tick(c);
    assert_int_equal(COUNT(p, SERVER), 2);
    assert_int_equal(p->ended, 0);
    peer_free(p);
    control_free(c);
}

/* As many as the ring holds are told late; one more, and the topic begins anew. */
static void gone_meanwhile(void **state)
{
    (void)state;
    for (unsigned more = 0; more < 2; more++) {
        struct control *c = control_new(CHANGES_GONE_MAX + 10);
        struct peer *p = peer_new(c, "192.0.2.1:1");
        ask_servers(p, 1);
        p->room = p->queued;
        server_changed(nth(c, 0)); /* is not taken */
        tick(c);
        for (unsigned i = 0; i < CHANGES_GONE_MAX + more; i++)
            forget(c, nth(c, i));
        p->room = SIZE_MAX / 2;
        peer_takes(p);
        tick(c);
        assert_int_equal(COUNT(p, SERVER_REMOVED), more ? 0 : CHANGES_GONE_MAX);
        assert_int_equal(COUNT(p, FAILED), more);
        if (more)
            assert_string_equal(last(p)->name, "aborted");
        peer_free(p);
        control_free(c);
    }
}

static void one_that_is_gone_ends_its_topic(void **state)
{
    (void)state;
    struct control *c = control_new(2);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    ask_server(p, 1, "s-1");
    assert_int_equal(COUNT(p, READY), 1);
    forget(c, nth(c, 1));
    tick(c);
    assert_int_equal(COUNT(p, SERVER_REMOVED), 1);
    assert_int_equal(last(p)->event, DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_ENDED);
    assert_int_equal(((struct watch *)p->state)->n_topics, 0);
    peer_free(p);
    control_free(c);
}

/* --- Limits --------------------------------------------------------------------------------------------------------------------------- */

static void streams_are_limited(void **state)
{
    (void)state;
    static char addresses[WATCH_STREAMS_MAX / WATCH_STREAMS_SOURCE_MAX + 1][32];
    struct control *c = control_new(0);
    struct peer *peers[WATCH_STREAMS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
        (void)snprintf(addresses[i], sizeof(addresses[i]), "192.0.2.%u:%u", i, i + 1);
        for (unsigned k = 0; n < WATCH_STREAMS_MAX && k < WATCH_STREAMS_SOURCE_MAX; k++) {
            peers[n++] = peer_new(c, addresses[i]);
        }
        assert_null(peer_try(c, addresses[i]));
    }
    assert_int_equal(n, WATCH_STREAMS_MAX);
    peer_free(peers[--n]);
    peers[n++] = peer_new(c, "192.0.2.200:1");
    while (n)
        peer_free(peers[--n]);
    control_free(c);
}

static void requests_are_limited(void **state)
{
    (void)state;
    struct control *c = control_new(0);
    struct peer *p = peer_new(c, "192.0.2.1:1");
    for (uint32_t i = 1; i <= WATCH_TOPICS_MAX + 1; i++)
        ask_servers(p, i);
    assert_int_equal(COUNT(p, FAILED), 1);
    assert_string_equal(last(p)->name, "resource_exhausted");
    assert_int_equal(last(p)->id, WATCH_TOPICS_MAX + 1);
    for (uint32_t i = WATCH_TOPICS_MAX + 1; i < WATCH_ASK_BURST; i++)
        ask_servers(p, 0);
    assert_int_equal(p->ended, 0);
    ask_servers(p, 0);
    assert_int_equal(p->ended, 1);
    peer_free(p);
    /* Failures that nobody takes. */
    p = peer_new(c, "192.0.2.1:1");
    p->room = 0;
    for (unsigned i = 0; i < WATCH_REFUSED_MAX; i++)
        ask_servers(p, 0);
    assert_int_equal(p->ended, 0);
    ask_servers(p, 0);
    assert_int_equal(p->ended, 1);
    peer_free(p);
    control_free(c);
}

/* Ten thousand servers and some viewers: a change costs each viewer that change. */
static void many_servers_and_viewers(void **state)
{
    (void)state;
    struct control *c = control_new(CONTROL_SERVERS_MAX);
    struct peer *peers[20];
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        peers[i] = peer_new(c, "192.0.2.1:1");
        ask_servers(peers[i], 1);
        assert_int_equal(peers[i]->n, CONTROL_SERVERS_MAX + 1);
    }
    struct server *s = nth(c, 77);
    clock_t before = clock();
    for (int i = 0; i < 40; i++) {
        server_changed(s);
        tick(c);
    }
    double ms = (double)(clock() - before) * 1000 / CLOCKS_PER_SEC;
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        assert_int_equal(peers[i]->n, CONTROL_SERVERS_MAX + 41);
        peer_free(peers[i]);
    }
    print_message("# 40 changes among 10000 servers for 20 viewers: %.1f ms; a stream has %zu bytes, a topic %zu\n", ms, sizeof(struct watch),
                  sizeof(struct topic));
    control_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_there_is_then_what_changed), cmocka_unit_test(at_most_four_turns_a_second),
        cmocka_unit_test(a_heartbeat_is_no_news),          cmocka_unit_test(back_pressure), cmocka_unit_test(sandboxes_come_and_go),
        cmocka_unit_test(topics_take_turns),               cmocka_unit_test(who_takes_nothing_is_cut),
        cmocka_unit_test(gone_meanwhile),                  cmocka_unit_test(one_that_is_gone_ends_its_topic),
        cmocka_unit_test(containers_of_others_where_asked),
        cmocka_unit_test(what_cannot_be_sent_ends_its_topic),
        cmocka_unit_test(streams_are_limited),             cmocka_unit_test(requests_are_limited),
        cmocka_unit_test(many_servers_and_viewers),
    };
    log_setup("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
