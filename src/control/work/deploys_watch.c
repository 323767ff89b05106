/* SPDX-License-Identifier: Apache-2.0 */
/* deploys_watch — WatchDeployment: the events of a deployment from the first to its end. */
#include <stdio.h>

#include "base/mem.h"
#include "control/work/deployments.h"
#include "control/work/workloads.h"

enum { EVENTS_PER_READ = 64, WATCH_TURN_S = 15 };

struct events_job {
    const char *id;
    int64_t after;
    bool found;
    enum deployment_state state;
    char server_id[40];
    struct buf events[EVENTS_PER_READ];
    size_t n;
};

static int read_events(struct db *db, void *arg, struct err *err)
{
    struct events_job *j = arg;
    AUTO_ROWS head = NULL;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &head, err, "SELECT state, server_id FROM deployments WHERE id = ?", "t", j->id);
    if (rc == 0)
        rc = rows_next(head, err);
    if (rc <= 0)
        return rc;
    j->found = true;
    j->state = (enum deployment_state)row_i64(head, 0);
    (void)str_copy(j->server_id, sizeof(j->server_id), row_text(head, 1));
    rc = db_query(db, &rows, err,
                  "SELECT number, event FROM deployment_events WHERE deployment_id = ? AND number > ? ORDER BY number LIMIT ?",
                  "tii", j->id, j->after, (int64_t)EVENTS_PER_READ);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        struct buf *b = &j->events[j->n++];
        buf_init(b, RPC_MESSAGE_MAX);
        j->after = row_i64(rows, 0);
        rc = buf_append_str(b, row_blob(rows, 1));
    }
    return rc;
}

/* Sends what was read; *last becomes the state of the last event. */
static int send_events(const struct deployment_sink *sink, struct events_job *j, enum deployment_state *last)
{
    int rc = 0;
    for (size_t i = 0; i < j->n; i++) {
        ProtobufCMessage *m = NULL;
        if (rc == 0 &&
            rpc_unpack(&davit__control__v1__watch_deployment_response__descriptor, buf_str(&j->events[i]), &m, NULL) == 0) {
            *last = (enum deployment_state)((Davit__Control__V1__WatchDeploymentResponse *)m)->state;
            rc = sink->send(sink->arg, (Davit__Control__V1__WatchDeploymentResponse *)m);
        }
        (void)rpc_message_free(m);
        buf_release(&j->events[i]);
    }
    return rc;
}

/* Says once per change what the deployment waits for. */
static int send_waiting(const struct deployment_sink *sink, struct control *c, const struct events_job *j, bool *said)
{
    Davit__Control__V1__WatchDeploymentResponse m = DAVIT__CONTROL__V1__WATCH_DEPLOYMENT_RESPONSE__INIT;
    const struct server *s = servers_by_id(c, j->server_id);
    char what[SERVER_NAME_SIZE + 64];
    if (!s || s->link || j->state != DEPLOYMENT_PENDING) {
        *said = false;
        return 0;
    }
    if (*said)
        return 0;
    *said = true;
    (void)snprintf(what, sizeof(what), "server %s is %s", s->name,
                   s->state == SERVER_ONLINE ? "not connected" : server_state_name(s->state));
    m.state = (Davit__Common__V1__DeploymentState)j->state;
    m.at_us = clock_real();
    m.waiting_for = what;
    return sink->send(sink->arg, &m);
}

/* A deployment that ended without an event: its server was removed. */
static int send_end(const struct deployment_sink *sink, enum deployment_state state)
{
    Davit__Control__V1__WatchDeploymentResponse m = DAVIT__CONTROL__V1__WATCH_DEPLOYMENT_RESPONSE__INIT;
    m.state = (Davit__Common__V1__DeploymentState)state;
    m.at_us = clock_real();
    return sink->send(sink->arg, &m);
}

static int watch(const struct deployment_sink *sink, struct control *c, struct watcher *w, struct events_job *j, struct err *err)
{
    enum deployment_state last = DEPLOYMENT_NONE;
    bool said = false;
    for (;;) {
        event_reset(&w->news);
        j->n = 0;
        int rc = store_read(c->store, read_events, j, deadline_in(STORE_WAIT), err);
        bool more = j->n == EVENTS_PER_READ;
        int sent = send_events(sink, j, &last);
        if (rc < 0)
            return rc;
        if (!j->found)
            return err_set(err, ERR_NOT_FOUND, "there is no deployment \"%.64s\"", j->id);
        bool end = !more && deployment_ended(j->state);
        if (sent == 0 && end && last != j->state)
            sent = send_end(sink, j->state);
        if (sent == 0 && !more && !end)
            sent = send_waiting(sink, c, j, &said);
        if (sent == 0 && !more && sink->caught_up)
            sent = sink->caught_up(sink->arg);
        if (sent == 0 && end)
            return 0;
        if (sent == 0 && !more)
            sent = event_wait(&w->news, deadline_in(WATCH_TURN_S * USEC_SEC));
        if (sent < 0 && sent != -(int)ERR_DEADLINE)
            return err_set(err, ERR_CANCELLED, "the caller went away");
    }
}

int deploys_follow(struct control *c, const char *id, const struct deployment_sink *sink, struct err *err)
{
    /* Not on the stack of a fiber: it holds a page of events. */
    struct events_job *j = NEW(struct events_job);
    struct watcher w;
    j->id = id;
    watcher_start(c, &w, id);
    int rc = watch(sink, c, &w, j, err);
    watcher_stop(&w);
    free(j);
    return rc;
}

static int to_caller(void *arg, const Davit__Control__V1__WatchDeploymentResponse *m)
{
    return rpc_send(arg, &m->base);
}

int deploys_watch(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__WatchDeploymentRequest *r = (const Davit__Control__V1__WatchDeploymentRequest *)request;
    const struct deployment_sink sink = {.send = to_caller, .arg = call};
    return deploys_follow(ctx, r->deployment_id, &sink, err);
}
