/* SPDX-License-Identifier: Apache-2.0 */
/* watch_follow — the topics that wait for the store or for an agent: lists of deployments, the steps of one, logs. Each has a fiber of its own while
 * it lives; what it tells waits for room in the stream, a log until next to nothing waits there. */
#include "base/hmap.h"
#include "base/mem.h"
#include "control/work/deployments.h"
#include "control/lists.h"
#include "control/work/logs.h"
#include "control/watch/watch.h"

/* How often room is looked for where nothing says that there is some; and the least time between two lists. */
#define ROOM_POLL  (20 * USEC_MSEC)
#define LIST_EVERY (500 * USEC_MSEC)

struct follower {
    struct control *c;
    struct topic *topic; /* NULL: it has gone */
    struct fiber *fiber;
    struct event news; /* something changed */
    int (*run)(struct follower *f, struct err *err);
    Davit__Control__V1__WatchRequest *request; /* owned */
    uint64_t hash; /* of the deployment as it was told */
    struct err failure; /* why it could not be told */
};

static int gone(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "nobody watches any more");
}

/* Waits until at most @room waits in the stream, then tells. 0, or negative: nobody is there, or the topic fails. */
static int tell(struct follower *f, Davit__Control__V1__WatchResponse *m, size_t room, struct err *err)
{
    for (;;) {
        struct topic *t = f->topic;
        if (!t || fiber_cancelled())
            return gone(err);
        if (!t->watch->blocked && rpc_stream_queued(t->watch->call) <= room) {
            int rc = topic_tell(t, m, err);
            if (rc <= 0)
                return rc;
        }
        watch_wait(t->watch);
        if (fiber_sleep(ROOM_POLL) < 0)
            return gone(err);
    }
}

/* The same for what somebody else works off, to whom a failure says only that nobody is there. */
static int told(struct follower *f, Davit__Control__V1__WatchResponse *m, size_t room)
{
    return tell(f, m, room, &f->failure);
}

static int tell_ready(struct follower *f, struct err *err)
{
    Davit__Control__V1__WatchResponse m = DAVIT__CONTROL__V1__WATCH_RESPONSE__INIT;
    if (!f->topic || f->topic->ready)
        return f->topic ? 0 : gone(err);
    m.event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_READY;
    m.ready = true;
    int rc = tell(f, &m, RPC_QUEUE_MAX, err);
    if (rc == 0)
        f->topic->ready = true;
    return rc;
}

static void follow(void *arg)
{
    struct follower *f = arg;
    struct control *c = f->c;
    struct err err = ERR_INIT;
    int rc = f->topic ? err_ensure(&err, f->run(f, &err)) : 0;
    struct topic *t = f->topic;
    if (t) {
        t->follower = NULL;
        t->done = rc == 0;
        if (rc < 0)
            topic_fail(t, f->failure.code ? &f->failure : &err);
        watch_again(t->watch);
    }
    (void)rpc_message_free(f->request);
    event_release(&f->news);
    (void)fiber_unref(f->fiber);
    free(f);
    control_fiber_end(c);
}

static int follower_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, int (*run)(struct follower *f, struct err *err),
                          struct err *err)
{
    struct control *c = t->watch->control;
    ProtobufCMessage *copy = NULL;
    if (rpc_copy(&r->base, &copy) != 0)
        return err_set(err, ERR_EXHAUSTED, "the request is too large");
    struct follower *f = NEW(struct follower);
    f->c = c;
    f->topic = t;
    f->run = run;
    f->request = (Davit__Control__V1__WatchRequest *)copy;
    event_init(&f->news, c->loop);
    if (fiber_spawn(c->loop, "watch", follow, f, &f->fiber) != 0) {
        event_release(&f->news);
        (void)rpc_message_free(copy);
        free(f);
        return err_set(err, ERR_EXHAUSTED, "the control plane has no room for another topic now");
    }
    c->fibers++;
    t->follower = f;
    return 0;
}

static void follower_end(struct topic *t)
{
    struct follower *f = TAKE(t->follower);
    if (!f)
        return;
    f->topic = NULL;
    fiber_cancel(f->fiber);
}

/* A turn has nothing to tell by itself, but knows that something changed, and the end. */
static int follower_turn(struct topic *t, struct err *err)
{
    uint64_t now = t->watch->control->changes.deployments;
    (void)err;
    if (t->done)
        return TOPIC_ENDED;
    if (t->told < now && t->follower)
        event_signal(&t->follower->news);
    t->told = now;
    return TOPIC_TOLD;
}

/* --- Deployments -------------------------------------------------------------------------------------------------------------------- */

/* What was told of the list, in its order. */
struct told_list {
    size_t n;
    struct told_deployment {
        char id[40];
        uint64_t hash;
    } at[LISTS_DEPLOYMENTS_MAX];
};

static uint64_t hash_of(const Davit__Control__V1__Deployment *d)
{
    AUTO_BUF wire = BUF_INIT(2 * (size_t)RPC_MESSAGE_MAX);
    return rpc_pack(&d->base, &wire) == 0 ? hash_bytes(wire.data, wire.len) : 0;
}

static bool is_told(const struct told_list *list, const struct told_deployment *d)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->at[i].hash == d->hash && str_eq(str_from(list->at[i].id), str_from(d->id)))
            return true;
    return false;
}

static int tell_list(struct follower *f, struct told_list *before, struct told_list *now, struct err *err)
{
    const Davit__Control__V1__DeploymentsTopic *q = f->request->deployments;
    Davit__Control__V1__ListDeploymentsResponse *list = NULL;
    int rc = lists_read_deployments(f->c, q->project, q->service, q->limit, &list, err);
    now->n = 0;
    for (size_t i = 0; rc == 0 && i < list->n_deployments; i++) {
        Davit__Control__V1__WatchResponse m = DAVIT__CONTROL__V1__WATCH_RESPONSE__INIT;
        struct told_deployment *d = &now->at[now->n++];
        (void)str_copy(d->id, sizeof(d->id), str_from(list->deployments[i]->id));
        d->hash = hash_of(list->deployments[i]);
        m.event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_DEPLOYMENT;
        m.deployment = list->deployments[i];
        rc = is_told(before, d) ? 0 : tell(f, &m, RPC_QUEUE_MAX, err);
    }
    if (list)
        (void)rpc_message_free(list);
    return rc < 0 ? rc : tell_ready(f, err);
}

static int run_deployments(struct follower *f, struct err *err)
{
    /* Not on the stack of a fiber. */
    AUTO_FREE struct told_list *before = NEW(struct told_list);
    AUTO_FREE struct told_list *now = NEW(struct told_list);
    for (;;) {
        event_reset(&f->news);
        int rc = tell_list(f, before, now, err);
        if (rc < 0)
            return rc;
        struct told_list *swap = before;
        before = now;
        now = swap;
        if (event_wait(&f->news, USEC_INFINITY) < 0 || fiber_sleep(LIST_EVERY) < 0) /* ends with the topic */
            return gone(err);
    }
}

static int deployments_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    int rc = topic_filter(t, r->deployments->project, r->deployments->service, err);
    return rc < 0 ? rc : follower_begin(t, r, run_deployments, err);
}

const struct topic_type topic_deployments = {.begin = deployments_begin, .turn = follower_turn, .end = follower_end};

/* --- One deployment ----------------------------------------------------------------------------------------------------------------- */

static int on_step(void *arg, const Davit__Control__V1__WatchDeploymentResponse *step)
{
    Davit__Control__V1__WatchResponse m = DAVIT__CONTROL__V1__WATCH_RESPONSE__INIT;
    m.event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_STEP;
    m.step = (Davit__Control__V1__WatchDeploymentResponse *)(uintptr_t)step;
    return told(arg, &m, RPC_QUEUE_MAX);
}

/* The deployment itself, unless that was told as it is. */
static int tell_deployment(struct follower *f, struct err *err)
{
    Davit__Control__V1__WatchResponse m = DAVIT__CONTROL__V1__WATCH_RESPONSE__INIT;
    Davit__Control__V1__ListDeploymentsResponse *list = NULL;
    int rc = lists_read_deployment(f->c, f->request->deployment->deployment_id, &list, err);
    if (rc < 0)
        return rc;
    uint64_t hash = hash_of(list->deployments[0]);
    m.event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_DEPLOYMENT;
    m.deployment = list->deployments[0];
    rc = hash == f->hash ? 0 : tell(f, &m, RPC_QUEUE_MAX, err);
    f->hash = hash;
    (void)rpc_message_free(list);
    return rc;
}

static int on_caught_up(void *arg)
{
    struct follower *f = arg;
    int rc = tell_deployment(f, &f->failure);
    return rc == 0 ? tell_ready(f, &f->failure) : rc;
}

static int run_deployment(struct follower *f, struct err *err)
{
    const struct deployment_sink sink = {on_step, on_caught_up, f};
    int rc = tell_deployment(f, err);
    return rc < 0 ? rc : deploys_follow(f->c, f->request->deployment->deployment_id, &sink, err);
}

static int deployment_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    return follower_begin(t, r, run_deployment, err);
}

const struct topic_type topic_deployment = {.begin = deployment_begin, .turn = follower_turn, .end = follower_end};

/* --- Logs --------------------------------------------------------------------------------------------------------------------------- */

static int on_log(void *arg, const Davit__Control__V1__LogsResponse *log)
{
    Davit__Control__V1__WatchResponse m = DAVIT__CONTROL__V1__WATCH_RESPONSE__INIT;
    m.event_case = DAVIT__CONTROL__V1__WATCH_RESPONSE__EVENT_LOGS;
    m.logs = (Davit__Control__V1__LogsResponse *)(uintptr_t)log;
    return told(arg, &m, WATCH_LOG_ROOM);
}

static int run_logs(struct follower *f, struct err *err)
{
    const Davit__Control__V1__LogsTopic *q = f->request->logs;
    Davit__Control__V1__LogsRequest r = DAVIT__CONTROL__V1__LOGS_REQUEST__INIT;
    const struct logs_sink sink = {on_log, f};
    r.project = q->project;
    r.service = q->service;
    r.follow = q->follow;
    r.tail = q->tail;
    r.since_ns = q->since_ns;
    r.sandbox_id = q->sandbox_id;
    return logs_read(f->c, &r, &sink, err);
}

static int logs_begin(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err)
{
    return follower_begin(t, r, run_logs, err);
}

const struct topic_type topic_logs = {.begin = logs_begin, .turn = follower_turn, .end = follower_end};
