/* SPDX-License-Identifier: Apache-2.0 */
/* The bus: order, bounds of a queue and what it drops, that what is terminal is never lost without a word, the ring, filters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/watch/bus.h"
#include "loop/loop.h"

#define W(lit) ((char *)(uintptr_t)(lit))
#define START  (7000 * USEC_MSEC)

struct place {
    struct loop *loop;
    struct bus *bus;
};

static void place_begin(struct place *p)
{
    p->loop = loop_new();
    p->bus = bus_new(p->loop, START);
}

static void place_end(struct place *p)
{
    bus_free(p->bus);
    loop_free(p->loop);
}

static void publish(struct place *p, const char *action, bool terminal)
{
    Davit__Control__V1__Event m = DAVIT__CONTROL__V1__EVENT__INIT;
    m.terminal = terminal;
    m.project = W("shop");
    bus_publish(p->bus, BUS_CONTAINER, action, &m);
}

static void publish_n(struct place *p, unsigned n, bool terminal)
{
    for (unsigned i = 0; i < n; i++)
        publish(p, "start", terminal);
}

static struct bus_sub *subscribe(struct place *p, unsigned queue)
{
    const struct bus_filter all = {.kinds = 0};
    struct bus_sub *s = NULL;
    assert_int_equal(bus_subscribe(p->bus, &all, queue, &s, NULL), 0);
    return s;
}

/* Number of the next one, 0: none; *dropped before it. */
static uint64_t next(struct bus_sub *s, uint64_t *dropped)
{
    struct bus_event *e = NULL;
    *dropped = 0;
    if (bus_next(s, &e, dropped, NULL) != 0)
        return 0;
    uint64_t seq = e->m->sequence;
    bus_event_unref(e);
    return seq;
}

/* req: CW-28 */
static void every_subscriber_has_the_same_order_without_gaps(void **state)
{
    (void)state;
    struct place p;
    uint64_t dropped;
    place_begin(&p);
    assert_int_equal(bus_last(p.bus), 7000);
    assert_int_equal(bus_oldest(p.bus), 7001);
    assert_null(bus_at(p.bus, 7000));
    struct bus_sub *a = subscribe(&p, 0), *b = subscribe(&p, 0);
    publish_n(&p, 100, false);
    struct bus_sub *late = subscribe(&p, 0);
    publish(&p, "stop", true);
    for (uint64_t i = 1; i <= 101; i++) {
        assert_int_equal(next(a, &dropped), 7000 + i);
        assert_int_equal(next(b, &dropped), 7000 + i);
    }
    assert_int_equal(next(late, &dropped), 7101);
    assert_int_equal(next(a, &dropped), 0);
    assert_false(bus_news(a)->set);
    publish(&p, "start", false);
    assert_true(bus_news(a)->set);
    bus_unsubscribe(a);
    bus_unsubscribe(b);
    bus_unsubscribe(late);
    place_end(&p);
}

/* req: CW-26 */
static void at_its_limit_a_queue_drops_the_oldest_and_counts_it(void **state)
{
    (void)state;
    struct place p;
    struct bus_stats stats;
    uint64_t dropped;
    place_begin(&p);
    struct bus_sub *s = subscribe(&p, 0);
    publish_n(&p, BUS_QUEUE, false);
    bus_stats(p.bus, &stats);
    assert_int_equal(stats.dropped, 0);
    publish_n(&p, 1, false);
    bus_stats(p.bus, &stats);
    assert_int_equal(stats.dropped, 1);
    assert_int_equal(stats.published, BUS_QUEUE + 1);
    assert_int_equal(next(s, &dropped), 7002);
    assert_int_equal(dropped, 1);
    assert_int_equal(next(s, &dropped), 7003);
    assert_int_equal(dropped, 0);
    bus_unsubscribe(s);
    place_end(&p);
}

/* req: CW-26 */
static void what_is_terminal_is_kept_and_what_is_not_goes(void **state)
{
    (void)state;
    struct place p;
    uint64_t dropped;
    place_begin(&p);
    struct bus_sub *s = subscribe(&p, 4);
    publish(&p, "start", false);   /* 1: dropped */
    publish(&p, "destroy", true);  /* 2 */
    publish(&p, "start", false);   /* 3: dropped */
    publish(&p, "destroy", true);  /* 4 */
    publish(&p, "destroy", true);  /* 5 */
    publish(&p, "destroy", true);  /* 6 */
    publish(&p, "start", false);   /* 7: nothing else may go */
    assert_int_equal(next(s, &dropped), 7002);
    assert_int_equal(dropped, 1);
    assert_int_equal(next(s, &dropped), 7004);
    assert_int_equal(dropped, 1);
    publish(&p, "start", false); /* 8 */
    assert_int_equal(next(s, &dropped), 7005);
    assert_int_equal(next(s, &dropped), 7006);
    assert_int_equal(dropped, 0);
    assert_int_equal(next(s, &dropped), 7008);
    assert_int_equal(dropped, 1);
    bus_unsubscribe(s);
    place_end(&p);
}

/* req: CW-26 */
static void one_terminal_beyond_the_limit_ends_the_subscriber_with_a_reason(void **state)
{
    (void)state;
    struct place p;
    struct bus_stats stats;
    struct bus_event *e = NULL;
    struct err err = ERR_INIT;
    uint64_t dropped;
    place_begin(&p);
    struct bus_sub *s = subscribe(&p, BUS_QUEUE_MAX), *other = subscribe(&p, BUS_QUEUE_MAX);
    publish_n(&p, BUS_QUEUE_MAX, true);
    while (next(other, &dropped))
        ;
    publish_n(&p, 1, true);
    publish_n(&p, 1, false);
    for (unsigned i = 1; i <= BUS_QUEUE_MAX; i++)
        assert_int_equal(next(s, &dropped), 7000 + i);
    assert_int_equal(bus_next(s, &e, NULL, &err), -ERR_ABORTED);
    assert_non_null(strstr(err.hint, "anew"));
    assert_true(bus_news(s)->set);
    assert_int_equal(next(other, &dropped), 7000 + BUS_QUEUE_MAX + 1);
    bus_stats(p.bus, &stats);
    assert_int_equal(stats.ended, 1);
    assert_int_equal(stats.dropped, 0);
    assert_int_equal(stats.subscribers, 2);
    bus_unsubscribe(s);
    bus_unsubscribe(other);
    place_end(&p);
}

static void limits_of_subscribers(void **state)
{
    (void)state;
    struct place p;
    struct bus_sub *all[BUS_SUBSCRIBERS_MAX], *more = NULL;
    const struct bus_filter filter = {.kinds = 0};
    struct err err = ERR_INIT;
    place_begin(&p);
    assert_int_equal(bus_subscribe(p.bus, &filter, BUS_QUEUE_MAX + 1, &more, &err), -ERR_INVALID);
    for (size_t i = 0; i < BUS_SUBSCRIBERS_MAX; i++)
        all[i] = subscribe(&p, BUS_QUEUE_MAX);
    assert_int_equal(bus_subscribe(p.bus, &filter, 1, &more, &err), -ERR_EXHAUSTED);
    bus_stopping(p.bus);
    for (size_t i = 0; i < BUS_SUBSCRIBERS_MAX; i++) {
        struct bus_event *e = NULL;
        assert_int_equal(bus_next(all[i], &e, NULL, &err), -ERR_UNAVAILABLE);
        bus_unsubscribe(all[i]);
    }
    more = subscribe(&p, 1);
    bus_unsubscribe(more);
    place_end(&p);
}

static void the_ring_holds_the_last_ones(void **state)
{
    (void)state;
    struct place p;
    place_begin(&p);
    publish_n(&p, BUS_RING_MAX, false);
    assert_int_equal(bus_oldest(p.bus), 7001);
    publish_n(&p, 1, false);
    assert_int_equal(bus_oldest(p.bus), 7002);
    assert_null(bus_at(p.bus, 7001));
    assert_int_equal(bus_at(p.bus, 7002)->m->sequence, 7002);
    assert_int_equal(bus_at(p.bus, bus_last(p.bus))->m->sequence, 7001 + BUS_RING_MAX);
    assert_null(bus_at(p.bus, bus_last(p.bus) + 1));
    place_end(&p);
}

static void filters_and_kinds(void **state)
{
    (void)state;
    struct place p;
    struct bus_filter f = {.kinds = 1u << BUS_CONTAINER};
    enum bus_kind kind = BUS_SERVER;
    struct err err = ERR_INIT;
    Davit__Control__V1__Event m = DAVIT__CONTROL__V1__EVENT__INIT;
    place_begin(&p);
    publish(&p, "start", false);
    m.project = W("other");
    m.sandbox = W("ada");
    m.sandbox_id = W("4b0d");
    bus_publish(p.bus, BUS_SESSION, "broken", &m);
    const struct bus_event *a = bus_at(p.bus, 7001), *b = bus_at(p.bus, 7002);
    assert_string_equal(b->m->kind, "session");
    assert_true(bus_fits(&f, a));
    assert_false(bus_fits(&f, b));
    f = (struct bus_filter){.project = "shop"};
    assert_true(bus_fits(&f, a));
    assert_false(bus_fits(&f, b));
    f = (struct bus_filter){.sandbox = "ada"};
    assert_false(bus_fits(&f, a));
    assert_true(bus_fits(&f, b));
    f = (struct bus_filter){.sandbox = "4b0d"};
    assert_true(bus_fits(&f, b));
    for (unsigned i = 0; i < BUS_KIND_MAX; i++) {
        assert_int_equal(bus_kind_parse(bus_kind_name((enum bus_kind)i), &kind, &err), 0);
        assert_int_equal(kind, i);
    }
    assert_int_equal(bus_kind_parse("weather", &kind, &err), -ERR_INVALID);
    bus_publish(NULL, BUS_SERVER, "online", &m); /* nobody is told */
    place_end(&p);
}

/* What peers say is bounded: one byte more is cut, at a character. */
static void texts_are_cut_at_their_limit(void **state)
{
    (void)state;
    struct place p;
    char text[BUS_TEXT_MAX + 3];
    Davit__Control__V1__Event m = DAVIT__CONTROL__V1__EVENT__INIT;
    place_begin(&p);
    memset(text, 'x', sizeof(text));
    text[BUS_TEXT_MAX] = 0;
    m.detail = text;
    bus_publish(p.bus, BUS_SERVER, "online", &m);
    assert_int_equal(strlen(bus_at(p.bus, 7001)->m->detail), BUS_TEXT_MAX);
    memcpy(text + BUS_TEXT_MAX - 1, "\xc3\xa4", 3);
    bus_publish(p.bus, BUS_SERVER, "online", &m);
    assert_int_equal(strlen(bus_at(p.bus, 7002)->m->detail), BUS_TEXT_MAX - 1);
    place_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_subscriber_has_the_same_order_without_gaps),
        cmocka_unit_test(at_its_limit_a_queue_drops_the_oldest_and_counts_it),
        cmocka_unit_test(what_is_terminal_is_kept_and_what_is_not_goes),
        cmocka_unit_test(one_terminal_beyond_the_limit_ends_the_subscriber_with_a_reason),
        cmocka_unit_test(limits_of_subscribers),
        cmocka_unit_test(the_ring_holds_the_last_ones),
        cmocka_unit_test(filters_and_kinds),
        cmocka_unit_test(texts_are_cut_at_their_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
