/* SPDX-License-Identifier: Apache-2.0 */
/* events_rpc — EventService: the events that are kept, those that come, and the state that they change.
 * Limits: BUS_SUBSCRIBERS_MAX streams that follow; each takes at its own pace, and is told what it missed.
 * Input trust: requests from callers of scope read. */
#include "base/mem.h"
#include "control/watch/worldview.h"

struct reader {
    struct rpc_call *call;
    struct control *c;
    struct bus_filter filter;
};

static int gone(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "the caller went away");
}

static int parse(const Davit__Control__V1__WatchEventsRequest *r, struct bus_filter *f, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->n_kinds; i++) {
        enum bus_kind kind = BUS_SERVER;
        rc = bus_kind_parse(r->kinds[i], &kind, err);
        f->kinds |= 1u << kind;
    }
    if (rc == 0 && str_copy(f->project, sizeof(f->project), str_from(text(r->project))) != 0)
        rc = err_set(err, ERR_INVALID, "project: longer than any name");
    if (rc == 0 && str_copy(f->sandbox, sizeof(f->sandbox), str_from(text(r->sandbox))) != 0)
        rc = err_set(err, ERR_INVALID, "sandbox: longer than any name");
    return rc;
}

static int send_gap(const struct reader *r, const char *reason, uint64_t from, uint64_t to, uint64_t dropped)
{
    Davit__Control__V1__WatchEventsResponse m = DAVIT__CONTROL__V1__WATCH_EVENTS_RESPONSE__INIT;
    Davit__Control__V1__EventGap gap = DAVIT__CONTROL__V1__EVENT_GAP__INIT;
    gap.reason = lend(reason);
    gap.from_sequence = from;
    gap.to_sequence = to;
    gap.dropped = dropped;
    m.what_case = DAVIT__CONTROL__V1__WATCH_EVENTS_RESPONSE__WHAT_GAP;
    m.gap = &gap;
    return rpc_send(r->call, &m.base);
}

static int send_event(const struct reader *r, const struct bus_event *e)
{
    Davit__Control__V1__WatchEventsResponse m = DAVIT__CONTROL__V1__WATCH_EVENTS_RESPONSE__INIT;
    m.what_case = DAVIT__CONTROL__V1__WATCH_EVENTS_RESPONSE__WHAT_EVENT;
    m.event = e->m;
    return rpc_send(r->call, &m.base);
}

static int send_caught_up(const struct reader *r)
{
    Davit__Control__V1__WatchEventsResponse m = DAVIT__CONTROL__V1__WATCH_EVENTS_RESPONSE__INIT;
    m.what_case = DAVIT__CONTROL__V1__WATCH_EVENTS_RESPONSE__WHAT_CAUGHT_UP;
    m.caught_up = true;
    return rpc_send(r->call, &m.base);
}

/* What is missing before the first that can be told. *seq becomes that. */
static int begin(const struct reader *r, uint64_t from, uint64_t *seq)
{
    const struct bus *b = r->c->bus;
    uint64_t oldest = bus_oldest(b), next = bus_last(b) + 1;
    *seq = from && from >= oldest && from <= next ? from : oldest;
    if (!from || *seq == from)
        return 0;
    /* Numbers of an earlier start are below all of this one; those above the next are of one whose clock was ahead. */
    if (from > next || from < bus_first(b))
        return send_gap(r, "restarted", from, 0, 0);
    return send_gap(r, "forgotten", from, oldest - 1, oldest - from);
}

/* Told from the ring up to @last, which is the last one before what is queued. */
static int tell_kept(const struct reader *r, uint64_t from, uint64_t last)
{
    const struct bus *b = r->c->bus;
    uint64_t seq = 0;
    int rc = begin(r, from, &seq);
    for (; rc == 0 && seq <= last; seq++) {
        uint64_t oldest = bus_oldest(b);
        if (seq < oldest) { /* while we waited for the caller */
            uint64_t to = oldest <= last ? oldest - 1 : last;
            rc = send_gap(r, "slow", seq, to, to - seq + 1);
            seq = to;
            continue;
        }
        struct bus_event *e = bus_event_ref(bus_at(b, seq));
        if (bus_fits(&r->filter, e))
            rc = send_event(r, e);
        (void)bus_event_unref(e);
    }
    return rc == 0 ? send_caught_up(r) : rc;
}

static int tell_new(const struct reader *r, struct bus_sub *sub, struct err *err)
{
    for (;;) {
        struct bus_event *e = NULL;
        uint64_t dropped = 0;
        int rc = bus_next(sub, &e, &dropped, err);
        if (rc < 0)
            return rc;
        if (rc == 1) {
            if (event_wait(bus_news(sub), USEC_INFINITY) < 0) /* ends with the call */
                return gone(err);
            continue;
        }
        rc = dropped ? send_gap(r, "slow", 0, e->m->sequence - 1, dropped) : 0;
        if (rc == 0)
            rc = send_event(r, e);
        (void)bus_event_unref(e);
        if (rc < 0)
            return gone(err);
    }
}

static int watch_events(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__WatchEventsRequest *m = (const void *)request;
    struct reader r = {.call = call, .c = ctx};
    struct bus_sub *sub = NULL;
    uint64_t last = bus_last(r.c->bus);
    int rc = parse(m, &r.filter, err);
    if (rc == 0 && m->follow)
        rc = bus_subscribe(r.c->bus, &r.filter, BUS_QUEUE_MAX, &sub, err);
    if (rc < 0)
        return rc;
    rc = tell_kept(&r, m->from_sequence, last);
    rc = rc < 0 ? gone(err) : 0;
    if (rc == 0 && sub)
        rc = tell_new(&r, sub, err);
    (void)bus_unsubscribe(sub);
    return rc;
}
CONTROL_HANDLER(watch_events)

static int get_state(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__GetStateRequest *m = (const void *)request;
    struct control *c = ctx;
    struct server *s = NULL;
    Davit__Control__V1__GetStateResponse *state = NULL;
    int rc = *text(m->server) ? servers_find(c, m->server, &s, err) : 0;
    if (rc == 0)
        rc = worldview_state(c, s, text(m->project), &state, err);
    if (rc < 0)
        return rc;
    rc = rpc_send(call, &state->base) == 0 ? 0 : gone(err);
    (void)rpc_message_free(state);
    return rc;
}
CONTROL_HANDLER(get_state)

const struct rpc_handler events_handlers[] = {{.run = watch_events_tracked}, {.run = get_state_tracked}};
