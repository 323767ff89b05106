/* SPDX-License-Identifier: Apache-2.0 */
/* bus — what happened, event by event, for those in this process who want to know: typed, numbered without gaps, in one order for all.
 * (changes.h is the other way round: it tells what there is, and merges. Who must see each step subscribes here, who shows a state there.)
 * Publishing never waits and calls nobody: an event goes into a ring of the last BUS_RING_MAX and into the queue of each subscriber that it fits;
 * subscribers are woken in a later turn. A full queue drops its oldest event that is not terminal and counts it. Terminal ones (something came to
 * its end) are never dropped: where a queue holds nothing else and another one comes, its subscriber is ended and must take the state anew.
 * Numbers begin with the time of the start in milliseconds, so they are above all of an earlier start.
 * Ownership: events are immutable and shared by reference; a queue holds one each.  Limits: BUS_*; texts of an event are cut to BUS_TEXT_MAX.
 * Thread: loop.  Input trust: texts come from agents, as valid UTF-8. */
#ifndef DAVIT_CONTROL_BUS_H
#define DAVIT_CONTROL_BUS_H

#include "base/list.h"
#include "davit/control/v1/events.pb-c.h"
#include "loop/fiber.h"

enum {
    BUS_RING_MAX = 4096,
    BUS_QUEUE = 256, /* of a subscriber that asks for none */
    BUS_QUEUE_MAX = 2048,
    BUS_SUBSCRIBERS_MAX = 256,
    BUS_TEXT_MAX = 1024,
    BUS_NAME_MAX = 256 /* of a filter */
};

enum bus_kind {
    BUS_SERVER,     /* added, online, offline, removed */
    BUS_CONTAINER,  /* create, start, pause, unpause, stop, health, rename, destroy */
    BUS_DEPLOYMENT, /* names of its states */
    BUS_SANDBOX,    /* create, start, running, stop, failed, rename, destroy */
    BUS_SESSION,    /* connecting, connected, broken, failed */
    BUS_REGISTRY,   /* registered, untrusted, evicted */
    BUS_EXEC,       /* started, step_started, step_completed, step_failed, completed */
    BUS_KIND_MAX
};
/* "server" ... */
const char *bus_kind_name(enum bus_kind kind);
/* 0, or -ERR_INVALID with what there is. */
int bus_kind_parse(const char *name, enum bus_kind *ret, struct err *err) MUST_USE;

struct bus_event {
    unsigned refs;
    enum bus_kind kind;
    Davit__Control__V1__Event *m; /* whole, with its sequence and time */
};
/* One more holder. */
struct bus_event *bus_event_ref(struct bus_event *e);
/* Accepts NULL. Returns NULL. */
struct bus_event *bus_event_unref(struct bus_event *e);

/* Which events. Zeroed: all. */
struct bus_filter {
    unsigned kinds; /* bits 1 << enum bus_kind; 0: all */
    char project[BUS_NAME_MAX], sandbox[BUS_NAME_MAX]; /* "": all; a sandbox by name or id */
};
bool bus_fits(const struct bus_filter *f, const struct bus_event *e);

struct bus;
struct bus_sub;

/* @start: real time of the start. Never NULL. */
struct bus *bus_new(struct loop *loop, usec_t start) MUST_USE;
/* No subscriber is left. Accepts NULL. Returns NULL. */
struct bus *bus_free(struct bus *b);

/* Tells @m, which is copied and gets its number, time, kind and action; @action is static. Accepts a NULL @b, which tells nobody. */
void bus_publish(struct bus *b, enum bus_kind kind, const char *action, const Davit__Control__V1__Event *m);
/* Number of the last event of all, of the first one, and of the oldest in the ring; one above the last where there was none. */
uint64_t bus_last(const struct bus *b);
uint64_t bus_first(const struct bus *b);
uint64_t bus_oldest(const struct bus *b);
/* The event @seq, or NULL: it is not in the ring. Borrowed. */
struct bus_event *bus_at(const struct bus *b, uint64_t seq);

/* Subscribes to what comes from now on. @queue: 0 for BUS_QUEUE. -ERR_INVALID: above BUS_QUEUE_MAX; -ERR_EXHAUSTED: there are too many. */
int bus_subscribe(struct bus *b, const struct bus_filter *filter, unsigned queue, struct bus_sub **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct bus_sub *bus_unsubscribe(struct bus_sub *s);
/* The next event, the caller's to unref. 0; 1: there is none now; -ERR_ABORTED: the subscriber was ended, what was queued before that is told
 * first. *ret_dropped (may be NULL): so many were dropped before this one since the last call. */
int bus_next(struct bus_sub *s, struct bus_event **ret, uint64_t *ret_dropped, struct err *err) MUST_USE;
/* Signalled while there is something to take, or the end. Who waits for it waits on a fiber. */
struct event *bus_news(struct bus_sub *s);
/* Ends all subscribers: the control plane is stopping. */
void bus_stopping(struct bus *b);

struct bus_stats {
    unsigned subscribers;
    uint64_t published, dropped, ended; /* dropped from queues; subscribers that were ended */
};
void bus_stats(const struct bus *b, struct bus_stats *ret);

#endif
