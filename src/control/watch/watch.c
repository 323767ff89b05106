/* SPDX-License-Identifier: Apache-2.0 */
/* watch — see watch.h: the stream, its requests, its turns. */
#include "control/watch/watch.h"

#include "base/mem.h"
#include "control/bucket.h"

#define BEAT USEC_SEC

static void watch_turn(struct watch *w);

/* --- Topics ------------------------------------------------------------------------------------------------------------------------- */

/* It becomes one of which only the failure is to be told. */
static void topic_stop(struct topic *t)
{
    struct watch *w = t->watch;
    const struct topic_type *type = TAKE(t->type);
    if (!type)
        return;
    w->n_topics--;
    w->n_logs -= type == &topic_logs;
    w->n_sampling -= type->samples;
    w->n_refused++;
    if (type->end)
        type->end(t);
}

void topic_free(struct topic *t)
{
    topic_stop(t);
    t->watch->n_refused--;
    list_remove(&t->node);
    t->server = server_unref(t->server);
    free(t->failure);
    free(t);
}

void topic_fail(struct topic *t, const struct err *why)
{
    topic_stop(t);
    if (!t->failure)
        t->failure = NEW(struct err);
    *t->failure = *why;
}

/* From now on the peer must take something. */
void watch_wait(struct watch *w)
{
    if (w->waits || !w->call)
        return;
    w->waits = true;
    w->taken = w->pushed - rpc_stream_queued(w->call);
    w->progress = clock_mono();
    if (!timer_armed(&w->beat))
        timer_set(&w->beat, BEAT);
}

void watch_again(struct watch *w)
{
    changes_pulse(&w->control->changes);
}

int topic_tell(struct topic *t, Davit__Control__V1__WatchResponse *m, struct err *err)
{
    struct watch *w = t->watch;
    if (!w->call || w->blocked)
        return TOPIC_BLOCKED;
    m->id = t->id;
    if (protobuf_c_message_get_packed_size(&m->base) > WATCH_ANSWER_MAX)
        return err_set(err, ERR_EXHAUSTED, "what there is to tell is larger than a message of a watch may be");
    size_t before = rpc_stream_queued(w->call);
    int rc = rpc_stream_send(w->call, &m->base);
    size_t after = rpc_stream_queued(w->call);
    if (rc == 0 && after > before)
        w->pushed += after - before;
    if (rc == 0)
        return 0;
    if (rc != -(int)ERR_EXHAUSTED && rc != -(int)ERR_UNAVAILABLE)
        return err_set(err, ERR_EXHAUSTED, "what there is to tell is larger than a message may be");
    w->blocked = true; /* or over: `closed` follows */
    watch_wait(w);
    return TOPIC_BLOCKED;
}

int topic_ready(struct topic *t, struct err *err)
{
    Davit__Control__V1__WatchResponse m = DAVIT__CONTROL__V1__WATCH_RESPONSE__INIT;
    if (t->ready)
        return TOPIC_TOLD;
    m.event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_READY;
    m.ready = true;
    int rc = topic_tell(t, &m, err);
    t->ready = rc == 0;
    return rc;
}

int topic_server(struct topic *t, const char *server, struct err *err)
{
    struct server *s = NULL;
    if (!*text(server))
        return 0;
    int rc = servers_find(t->watch->control, server, &s, err);
    if (rc == 0)
        t->server = server_ref(s);
    return rc;
}

int topic_filter(struct topic *t, const char *project, const char *service, struct err *err)
{
    if (str_copy(t->project, sizeof(t->project), str_from(text(project))) != 0)
        return err_set(err, ERR_INVALID, "project: longer than any name");
    if (str_copy(t->service, sizeof(t->service), str_from(text(service))) != 0)
        return err_set(err, ERR_INVALID, "service: longer than any name");
    return 0;
}

/* --- Turns -------------------------------------------------------------------------------------------------------------------------- */

static int tell_failure(struct topic *t)
{
    Davit__Control__V1__WatchResponse m = DAVIT__CONTROL__V1__WATCH_RESPONSE__INIT;
    Davit__Control__V1__WatchFailure f = DAVIT__CONTROL__V1__WATCH_FAILURE__INIT;
    f.code = lend(err_code_name(t->failure->code));
    f.message = t->failure->msg;
    f.hint = t->failure->hint;
    m.event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_FAILED;
    m.failed = &f;
    return topic_tell(t, &m, NULL);
}

static int tell_end(struct topic *t)
{
    Davit__Control__V1__WatchResponse m = DAVIT__CONTROL__V1__WATCH_RESPONSE__INIT;
    m.event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_ENDED;
    m.ended = true;
    return topic_tell(t, &m, NULL);
}

/* @t may be gone afterwards. */
static int topic_turn(struct topic *t)
{
    struct err err = ERR_INIT;
    int rc = t->type && t->type->turn ? t->type->turn(t, &err) : TOPIC_TOLD;
    if (rc < 0)
        topic_fail(t, &err);
    bool over = t->failure || rc == TOPIC_ENDED;
    if (!over)
        return rc;
    rc = t->failure ? tell_failure(t) : tell_end(t);
    if (rc != 0)
        return TOPIC_BLOCKED;
    topic_free(t);
    return TOPIC_TOLD;
}

/* One share for each topic. Where the peer took no more, the next round begins. True: somebody has more. */
static bool watch_round(struct watch *w)
{
    struct topic *t;
    struct list *last = w->topics.prev;
    bool more = false;
    while (!w->blocked && (t = list_first(&w->topics, struct topic, node)) != NULL) {
        bool end = &t->node == last;
        list_remove(&t->node);
        list_push(&w->topics, &t->node);
        more = topic_turn(t) == TOPIC_MORE || more;
        if (end)
            break;
    }
    return more;
}

static void watch_turn(struct watch *w)
{
    while (w->call && !w->blocked && watch_round(w))
        ;
    if (w->call && w->n_sampling && !timer_armed(&w->beat))
        timer_set(&w->beat, BEAT);
}

static void on_change(struct change_watcher *cw)
{
    watch_turn(CONTAINER_OF(cw, struct watch, watcher));
}

static void watch_end(struct watch *w, enum err_code code, const char *why)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, code, "%s", why);
    if (w->call)
        rpc_stream_finish(w->call, &err);
}

static void on_beat(void *arg)
{
    struct watch *w = arg;
    if (!w->call)
        return;
    if (w->waits) {
        size_t queued = rpc_stream_queued(w->call);
        usec_t now = clock_mono();
        if (w->pushed - queued != w->taken)
            w->progress = now;
        w->taken = w->pushed - queued;
        if (now >= w->progress + WATCH_STALL) {
            watch_end(w, ERR_EXHAUSTED, "what there is to tell is not taken");
            return;
        }
        /* Where other streams fill the connection nothing says when they do no longer. */
        w->blocked = queued > RPC_QUEUE_MAX;
        w->waits = queued > 0;
    }
    watch_turn(w);
    if ((w->waits || w->n_sampling) && !timer_armed(&w->beat))
        timer_set(&w->beat, BEAT);
}

/* --- The stream --------------------------------------------------------------------------------------------------------------------- */

static int count_source(const struct control *c, const char *source)
{
    struct watch *w;
    int n = 0;
    list_each(w, &c->streams, struct watch, peers)
        n += str_eq(str_from(w->source), str_from(source));
    return n;
}

static int on_open(struct rpc_call *call, void *ctx, void **ret_state, struct err *err)
{
    struct control *c = ctx;
    char source[ADDRESS_SIZE];
    if (c->stopping)
        return err_set(err, ERR_UNAVAILABLE, "the control plane is stopping");
    address_host(conn_peer_addr(rpc_call_conn(call)), source);
    if (c->n_streams >= WATCH_STREAMS_MAX || count_source(c, source) >= WATCH_STREAMS_SOURCE_MAX) {
        (void)err_set(err, ERR_EXHAUSTED, "too many watch already");
        err_hint(err, "close windows that are not needed");
        return -(int)ERR_EXHAUSTED;
    }
    struct watch *w = NEW(struct watch);
    w->control = c;
    w->call = call;
    (void)str_copy(w->source, sizeof(w->source), str_from(source));
    w->watcher.turn = on_change;
    list_init(&w->topics);
    list_init(&w->peers);
    list_push(&c->streams, &w->peers);
    c->n_streams++;
    timer_init(&w->beat, c->loop, on_beat, w);
    changes_watch(&c->changes, &w->watcher);
    *ret_state = w;
    return 0;
}

static struct topic *find(struct watch *w, uint32_t id)
{
    struct topic *t;
    list_each(t, &w->topics, struct topic, node)
        if (t->id == id && t->type)
            return t;
    return NULL;
}

/* What is wrong with a request that begins a topic. */
static int check(const struct watch *w, const struct topic *t, const struct topic_type *type, bool taken, struct err *err)
{
    if (!t->id)
        return err_set(err, ERR_INVALID, "id: 0 is not allowed");
    if (!type)
        return err_set(err, ERR_UNIMPLEMENTED, "this control plane does not know the topic");
    if (taken)
        return err_set(err, ERR_EXISTS, "id: %u is a topic of this stream already; it is over now", t->id);
    if (w->n_topics >= WATCH_TOPICS_MAX)
        return err_set(err, ERR_EXHAUSTED, "there are %d topics in this stream already, which is the limit", WATCH_TOPICS_MAX);
    if (type == &topic_logs && w->n_logs >= WATCH_LOGS_MAX)
        return err_set(err, ERR_EXHAUSTED, "there are %d logs in this stream already, which is the limit", WATCH_LOGS_MAX);
    return 0;
}

static void subscribe(struct watch *w, const Davit__Control__V1__WatchRequest *r)
{
    struct err err = ERR_INIT;
    struct topic *old = find(w, r->id);
    bool end = r->what_case == DAVIT__CONTROL__V1__WATCH_REQUEST__WHAT_UNSUBSCRIBE;
    const struct topic_type *type = topic_type_of(r);
    struct topic *t;
    if (old)
        topic_free(old);
    /* What has ended by itself may be ended once more by who has not heard of it. */
    if (end)
        return;
    t = NEW(struct topic);
    t->watch = w;
    t->id = r->id;
    list_init(&t->node);
    list_push(&w->topics, &t->node);
    w->n_refused++;
    int rc = check(w, t, type, old != NULL, &err);
    if (rc == 0)
        rc = err_ensure(&err, type->begin(t, r, &err));
    if (rc < 0) {
        topic_fail(t, &err);
        return;
    }
    t->type = type;
    w->n_refused--;
    w->n_topics++;
    w->n_logs += type == &topic_logs;
    w->n_sampling += type->samples;
}

static void on_message(void *state, const ProtobufCMessage *message)
{
    struct watch *w = state;
    usec_t wait;
    if (protobuf_c_message_get_packed_size(message) > WATCH_REQUEST_MAX) {
        watch_end(w, ERR_EXHAUSTED, "a request is larger than 64 KiB");
        return;
    }
    if (w->n_refused >= WATCH_REFUSED_MAX || bucket_take(&w->asked, clock_mono(), WATCH_ASK_EVERY, WATCH_ASK_BURST, &wait) != 0) {
        watch_end(w, ERR_EXHAUSTED, "more requests than a viewer needs");
        return;
    }
    subscribe(w, (const Davit__Control__V1__WatchRequest *)message);
    watch_turn(w);
}

/* Who says no more goes on listening. */
static void on_half_close(void *state)
{
    (void)state;
}

static void on_drain(void *state)
{
    struct watch *w = state;
    w->blocked = false;
    watch_turn(w);
}

static void on_closed(void *state, const struct err *reason)
{
    struct watch *w = state;
    struct topic *t;
    (void)reason;
    w->call = NULL;
    changes_unwatch(&w->watcher);
    timer_stop(&w->beat);
    list_each(t, &w->topics, struct topic, node)
        topic_free(t);
    list_remove(&w->peers);
    w->control->n_streams--;
    free(w);
}

static const struct rpc_stream_handler stream = {
    .open = on_open,
    .message = on_message,
    .half_close = on_half_close,
    .drain = on_drain,
    .closed = on_closed,
};

const struct rpc_handler watch_handlers[] = {{.stream = &stream}};
