/* SPDX-License-Identifier: Apache-2.0 */
/* bus — see bus.h. */
#include "control/watch/bus.h"

#include <string.h>

#include "base/mem.h"
#include "rpc/rpc.h"

struct bus {
    struct loop *loop;
    struct bus_event *ring[BUS_RING_MAX]; /* by number */
    uint64_t first, last;                 /* numbers: of the first of all, of the last so far */
    struct list subs;
    struct bus_stats stats;
};

/* A place in a queue. */
struct entry {
    struct list node; /* in sub.queue, oldest first */
    struct list soft; /* in sub.droppable, unless it is terminal */
    struct bus_event *e;
    uint64_t dropped; /* so many stood before it and were dropped */
};

struct bus_sub {
    struct list node;
    struct bus *bus;
    struct bus_filter filter;
    struct list queue, droppable;
    unsigned n, max;
    uint64_t dropped; /* before what comes next */
    struct err end;   /* code ERR_OK: it goes on */
    struct event news;
};

static const char *const kind_names[BUS_KIND_MAX] = {"server", "container", "deployment", "sandbox", "session", "registry", "exec"};

const char *bus_kind_name(enum bus_kind kind)
{
    return kind < BUS_KIND_MAX ? kind_names[kind] : "none";
}

int bus_kind_parse(const char *name, enum bus_kind *ret, struct err *err)
{
    for (unsigned i = 0; i < BUS_KIND_MAX; i++)
        if (str_eq(str_from(name), str_from(kind_names[i]))) {
            *ret = (enum bus_kind)i;
            return 0;
        }
    return err_set(err, ERR_INVALID, "kind: \"%.20s\" is none; server, container, deployment, sandbox, session, registry or exec", name ? name : "");
}

/* --- Events --------------------------------------------------------------------------------------------------------------------------- */

struct bus_event *bus_event_ref(struct bus_event *e)
{
    e->refs++;
    return e;
}

struct bus_event *bus_event_unref(struct bus_event *e)
{
    if (!e || --e->refs)
        return NULL;
    (void)rpc_message_free(e->m);
    free(e);
    return NULL;
}

bool bus_fits(const struct bus_filter *f, const struct bus_event *e)
{
    struct str sandbox = str_from(f->sandbox);
    if (f->kinds && !(f->kinds & 1u << e->kind))
        return false;
    if (*f->project && !str_eq(str_from(f->project), str_from(e->m->project)))
        return false;
    return !sandbox.n || str_eq(sandbox, str_from(e->m->sandbox)) || str_eq(sandbox, str_from(e->m->sandbox_id));
}

/* --- Subscribers ---------------------------------------------------------------------------------------------------------------------- */

static struct bus_event *entry_take(struct bus_sub *s, struct entry *q)
{
    struct bus_event *e = q->e;
    list_remove(&q->node);
    if (list_linked(&q->soft))
        list_remove(&q->soft);
    free(q);
    s->n--;
    return e;
}

/* The oldest that may go. False: all are terminal. */
static bool drop_one(struct bus_sub *s)
{
    struct entry *q = list_first(&s->droppable, struct entry, soft);
    if (!q)
        return false;
    uint64_t dropped = q->dropped + 1;
    struct list *next = q->node.next;
    (void)bus_event_unref(entry_take(s, q));
    if (next == &s->queue)
        s->dropped += dropped;
    else
        list_entry(next, struct entry, node)->dropped += dropped;
    s->bus->stats.dropped++;
    return true;
}

static void end(struct bus_sub *s)
{
    (void)err_set(&s->end, ERR_ABORTED, "more came to its end than this subscriber took");
    err_hint(&s->end, "take the state anew and go on from there");
    s->bus->stats.ended++;
}

static void offer(struct bus_sub *s, struct bus_event *e)
{
    if (s->end.code || !bus_fits(&s->filter, e))
        return;
    if (s->n == s->max && !drop_one(s)) {
        if (e->m->terminal) {
            end(s);
        } else {
            s->dropped++;
            s->bus->stats.dropped++;
        }
        event_signal(&s->news);
        return;
    }
    struct entry *q = NEW(struct entry);
    list_init(&q->node);
    list_init(&q->soft);
    q->e = bus_event_ref(e);
    q->dropped = s->dropped;
    s->dropped = 0;
    list_push(&s->queue, &q->node);
    if (!e->m->terminal)
        list_push(&s->droppable, &q->soft);
    s->n++;
    event_signal(&s->news);
}

int bus_subscribe(struct bus *b, const struct bus_filter *filter, unsigned queue, struct bus_sub **ret, struct err *err)
{
    if (queue > BUS_QUEUE_MAX)
        return err_set(err, ERR_INVALID, "a queue of %u events is more than %d", queue, BUS_QUEUE_MAX);
    if (b->stats.subscribers >= BUS_SUBSCRIBERS_MAX) {
        (void)err_set(err, ERR_EXHAUSTED, "there are %d who follow events already, which is the limit", BUS_SUBSCRIBERS_MAX);
        err_hint(err, "end some that are not needed");
        return -(int)ERR_EXHAUSTED;
    }
    struct bus_sub *s = NEW(struct bus_sub);
    s->bus = b;
    s->filter = *filter;
    s->max = queue ? queue : BUS_QUEUE;
    list_init(&s->queue);
    list_init(&s->droppable);
    list_init(&s->node);
    event_init(&s->news, b->loop);
    list_push(&b->subs, &s->node);
    b->stats.subscribers++;
    *ret = s;
    return 0;
}

struct bus_sub *bus_unsubscribe(struct bus_sub *s)
{
    struct entry *q;
    if (!s)
        return NULL;
    while ((q = list_first(&s->queue, struct entry, node)) != NULL)
        (void)bus_event_unref(entry_take(s, q));
    list_remove(&s->node);
    s->bus->stats.subscribers--;
    event_release(&s->news);
    free(s);
    return NULL;
}

int bus_next(struct bus_sub *s, struct bus_event **ret, uint64_t *ret_dropped, struct err *err)
{
    struct entry *q = list_first(&s->queue, struct entry, node);
    if (q) {
        if (ret_dropped)
            *ret_dropped = q->dropped;
        *ret = entry_take(s, q);
        return 0;
    }
    if (s->end.code) {
        if (err)
            *err = s->end;
        return -(int)s->end.code;
    }
    event_reset(&s->news);
    return 1;
}

struct event *bus_news(struct bus_sub *s)
{
    return &s->news;
}

/* --- The bus -------------------------------------------------------------------------------------------------------------------------- */

struct bus *bus_new(struct loop *loop, usec_t start)
{
    struct bus *b = NEW(struct bus);
    b->loop = loop;
    b->last = start / USEC_MSEC;
    b->first = b->last + 1;
    list_init(&b->subs);
    return b;
}

struct bus *bus_free(struct bus *b)
{
    if (!b)
        return NULL;
    for (size_t i = 0; i < BUS_RING_MAX; i++)
        (void)bus_event_unref(b->ring[i]);
    free(b);
    return NULL;
}

uint64_t bus_last(const struct bus *b)
{
    return b->last;
}

uint64_t bus_first(const struct bus *b)
{
    return b->first;
}

uint64_t bus_oldest(const struct bus *b)
{
    uint64_t n = b->last + 1 - b->first;
    return n > BUS_RING_MAX ? b->last + 1 - BUS_RING_MAX : b->first;
}

struct bus_event *bus_at(const struct bus *b, uint64_t seq)
{
    return seq >= bus_oldest(b) && seq <= b->last ? b->ring[seq % BUS_RING_MAX] : NULL;
}

/* What is kept for long has a bound: a text of a peer is cut at a whole character. */
static void bound(char *s)
{
    size_t n = strnlen(s, BUS_TEXT_MAX + 1);
    if (n <= BUS_TEXT_MAX)
        return;
    for (n = BUS_TEXT_MAX; n && ((unsigned char)s[n] & 0xc0) == 0x80; n--)
        ;
    s[n] = 0;
}

void bus_publish(struct bus *b, enum bus_kind kind, const char *action, const Davit__Control__V1__Event *m)
{
    ProtobufCMessage *copy = NULL;
    Davit__Control__V1__Event whole = *m;
    struct bus_sub *s;
    if (!b)
        return;
    whole.sequence = b->last + 1;
    whole.time_ns = clock_real() * 1000;
    whole.kind = (char *)(uintptr_t)bus_kind_name(kind);
    whole.action = (char *)(uintptr_t)action;
    /* Names and texts of agents have bounds of their own far below what a message may be. */
    if (rpc_copy(&whole.base, &copy) != 0)
        return;
    struct bus_event *e = NEW(struct bus_event);
    e->refs = 1;
    e->kind = kind;
    e->m = (Davit__Control__V1__Event *)copy;
    char *const texts[] = {e->m->server, e->m->project,   e->m->service, e->m->container_id, e->m->container, e->m->sandbox,
                           e->m->reason, e->m->step_name, e->m->detail,  e->m->sandbox_id,   e->m->deployment_id};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        bound(texts[i]);
    b->last++;
    b->stats.published++;
    (void)bus_event_unref(b->ring[b->last % BUS_RING_MAX]);
    b->ring[b->last % BUS_RING_MAX] = e;
    list_each(s, &b->subs, struct bus_sub, node)
        offer(s, e);
}

void bus_stopping(struct bus *b)
{
    struct bus_sub *s;
    list_each(s, &b->subs, struct bus_sub, node) {
        if (!s->end.code)
            (void)err_set(&s->end, ERR_UNAVAILABLE, "the control plane is stopping");
        event_signal(&s->news);
    }
}

void bus_stats(const struct bus *b, struct bus_stats *ret)
{
    *ret = b->stats;
}
