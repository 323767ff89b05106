/* SPDX-License-Identifier: Apache-2.0 */
/* worldview_deployments — changes of state of deployments as events. They are written by the store's threads in transactions that may be rolled
 * back or run twice, so they are not told from there: whoever has committed something says for which deployment, and a fiber reads what the store
 * now has behind what was told. Told is each change of state, once, in order; progress within a state is for who watches that deployment.
 * A deployment whose last change is older than TOLD_KEEP is told no more than what is younger: so little must be remembered.
 * Limits: FEED_PENDING_MAX deployments wait to be read, above it all that changed lately are; FEED_TOLD_MAX are remembered. */
#include <stdio.h>

#include "base/mem.h"
#include "control/work/deployments.h"
#include "control/watch/worldview_internal.h"

enum {
    FEED_PENDING_MAX = 256,
    FEED_TOLD_MAX = 8192,
    FEED_ROWS = 512, /* of one reading; of deployments that end for one cause, those beyond it are not told */
    DEPLOYMENT_ID_SIZE = 40
};

/* The store may take STORE_WAIT to commit what bears the time of its begin. */
#define TOLD_RECENT (3 * STORE_WAIT)
#define TOLD_KEEP   (2 * TOLD_RECENT)

/* What was told of a deployment. */
struct told {
    int64_t number; /* of its last event */
    int state;
    usec_t at; /* real time */
};

struct deployment_feed {
    struct control *c;
    struct hmap *pending; /* ids, to be read */
    bool all;             /* those that ended lately, whichever */
    bool running;
    struct hmap *told; /* id -> struct told, owned */
    usec_t swept;
    struct event stop;
};

/* One change of state as the store has it. */
struct row {
    char id[DEPLOYMENT_ID_SIZE], server_id[DEPLOYMENT_ID_SIZE], project[64], service[64];
    int64_t number;
    int state;
    struct buf event;
};

struct feed_job {
    char id[DEPLOYMENT_ID_SIZE]; /* "": any */
    int64_t after;               /* events of @id behind this number */
    usec_t recent;               /* others that ended since */
    struct row rows[FEED_ROWS];
    size_t n;
};

struct deployment_feed *deployment_feed_new(struct control *c)
{
    struct deployment_feed *f = NEW(struct deployment_feed);
    f->c = c;
    f->pending = hmap_new(FEED_PENDING_MAX);
    f->told = hmap_new(FEED_TOLD_MAX);
    event_init(&f->stop, c->loop);
    return f;
}

struct deployment_feed *deployment_feed_free(struct deployment_feed *f)
{
    if (!f)
        return NULL;
    for (struct hmap_entry *e = hmap_first(f->told); e; e = hmap_next(e))
        free(hmap_value(e));
    (void)hmap_free(f->told);
    (void)hmap_free(f->pending);
    event_release(&f->stop);
    free(f);
    return NULL;
}

void deployment_feed_stopping(struct deployment_feed *f)
{
    event_signal(&f->stop);
}

/* --- What the store has --------------------------------------------------------------------------------------------------------------- */

#define COLUMNS "e.deployment_id, d.server_id, d.project, d.service, e.number, e.state, e.event"

static void clear_rows(struct feed_job *j)
{
    for (size_t i = 0; i < j->n; i++)
        buf_release(&j->rows[i].event);
    j->n = 0;
}

static int take_rows(struct feed_job *j, struct rows *rows, struct err *err)
{
    int rc = 0;
    while (rc == 0 && j->n < FEED_ROWS && (rc = rows_next(rows, err)) == 1) {
        struct row *r = &j->rows[j->n++];
        (void)str_copy(r->id, sizeof(r->id), row_text(rows, 0));
        (void)str_copy(r->server_id, sizeof(r->server_id), row_text(rows, 1));
        (void)str_copy(r->project, sizeof(r->project), row_text(rows, 2));
        (void)str_copy(r->service, sizeof(r->service), row_text(rows, 3));
        r->number = row_i64(rows, 4);
        r->state = (int)row_i64(rows, 5);
        buf_init(&r->event, RPC_MESSAGE_MAX);
        rc = buf_append_str(&r->event, row_blob(rows, 6));
    }
    return rc;
}

/* The first event in each state is the change to it. */
static int read_one(struct db *db, struct feed_job *j, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT " COLUMNS " FROM deployment_events e JOIN deployments d ON d.id = e.deployment_id"
                      " WHERE e.deployment_id = ? AND e.number > ? AND NOT EXISTS (SELECT 1 FROM deployment_events b"
                      " WHERE b.deployment_id = e.deployment_id AND b.number = e.number - 1 AND b.state = e.state)"
                      " ORDER BY e.number LIMIT ?",
                      "tii", j->id, j->after, (int64_t)FEED_ROWS);
    return rc < 0 ? rc : take_rows(j, rows, err);
}

/* What one deployment ends for others: the one before it is superseded. */
static int read_ended(struct db *db, struct feed_job *j, struct err *err)
{
    AUTO_ROWS rows = NULL;
    char project[64] = "", service[64] = "";
    if (j->n) {
        (void)str_copy(project, sizeof(project), str_from(j->rows[0].project));
        (void)str_copy(service, sizeof(service), str_from(j->rows[0].service));
    }
    int rc = db_query(db, &rows, err,
                      "SELECT " COLUMNS " FROM deployments d JOIN deployment_events e ON e.deployment_id = d.id WHERE d.finished_us >= ?"
                      " AND (? = '' OR (d.project = ? AND d.service = ?)) AND d.id <> ? AND e.number ="
                      " (SELECT MAX(m.number) FROM deployment_events m WHERE m.deployment_id = d.id) ORDER BY d.finished_us, d.id LIMIT ?",
                      "itttti", (int64_t)j->recent, project, project, service, j->id, (int64_t)FEED_ROWS);
    return rc < 0 ? rc : take_rows(j, rows, err);
}

static int read_feed(struct db *db, void *arg, struct err *err)
{
    struct feed_job *j = arg;
    clear_rows(j); /* a unit of work may run twice */
    int rc = *j->id ? read_one(db, j, err) : 0;
    bool ended = j->n && deployment_ended((enum deployment_state)j->rows[j->n - 1].state);
    return rc == 0 && (!*j->id || ended) ? read_ended(db, j, err) : rc;
}

/* --- What is told --------------------------------------------------------------------------------------------------------------------- */

static void tell(struct deployment_feed *f, const struct row *r)
{
    Davit__Control__V1__Event m = DAVIT__CONTROL__V1__EVENT__INIT;
    ProtobufCMessage *event = NULL;
    const struct server *s = servers_by_id(f->c, r->server_id);
    (void)rpc_unpack(&davit__control__v1__watch_deployment_response__descriptor, buf_str(&r->event), &event, NULL);
    const Davit__Control__V1__WatchDeploymentResponse *w = (const void *)event;
    m.deployment_id = lend(r->id);
    m.server_id = lend(r->server_id);
    m.server = lend(s ? s->name : "");
    m.project = lend(r->project);
    m.service = lend(r->service);
    m.container_id = lend(w ? w->container_id : "");
    if (w && w->failure) {
        m.reason = lend(w->failure->reason);
        m.detail = lend(w->failure->message);
    }
    m.terminal = r->state > DEPLOYMENT_ACTIVE;
    bus_publish(f->c->bus, BUS_DEPLOYMENT, deployment_state_name((enum deployment_state)r->state), &m);
    (void)rpc_message_free(event);
}

static void tell_new(struct deployment_feed *f, const struct row *r, usec_t now)
{
    struct told *t = hmap_get(f->told, str_from(r->id));
    if (t && (t->number >= r->number || t->state == r->state))
        return;
    if (!t) {
        t = NEW(struct told);
        if (hmap_put(f->told, str_from(r->id), t, NULL) != 0) {
            free(t); /* more than FEED_TOLD_MAX within a minute: rather told twice than not */
            t = NULL;
        }
    }
    if (t)
        *t = (struct told){r->number, r->state, now};
    tell(f, r);
}

static void sweep(struct deployment_feed *f, usec_t now)
{
    struct hmap_entry *e = now >= f->swept + TOLD_KEEP || now < f->swept ? hmap_first(f->told) : NULL;
    if (e)
        f->swept = now;
    while (e) {
        struct hmap_entry *next = hmap_next(e);
        struct told *t = hmap_value(e);
        if (now >= t->at + TOLD_KEEP) {
            (void)hmap_remove(f->told, hmap_key(e));
            free(t);
        }
        e = next;
    }
}

/* What was told of it before it was forgotten is told no second time: only what is young, then. */
static bool is_old(const struct deployment_feed *f, const struct row *r, usec_t recent)
{
    ProtobufCMessage *event = NULL;
    if (hmap_get(f->told, str_from(r->id)) ||
        rpc_unpack(&davit__control__v1__watch_deployment_response__descriptor, buf_str(&r->event), &event, NULL) != 0)
        return false;
    bool old = ((const Davit__Control__V1__WatchDeploymentResponse *)event)->at_us < recent;
    (void)rpc_message_free(event);
    return old;
}

/* One of what waits. Negative: the store could not be read. */
static int pass(struct deployment_feed *f, struct feed_job *j, struct err *err)
{
    usec_t now = clock_real();
    struct hmap_entry *e = hmap_first(f->pending);
    j->id[0] = 0;
    j->after = 0;
    j->recent = now - TOLD_RECENT;
    if (e) {
        (void)str_copy(j->id, sizeof(j->id), hmap_key(e));
        (void)hmap_remove(f->pending, str_from(j->id));
        const struct told *t = hmap_get(f->told, str_from(j->id));
        j->after = t ? t->number : 0;
    } else {
        f->all = false;
    }
    int rc = store_read(f->c->store, read_feed, j, deadline_in(STORE_WAIT), err);
    for (size_t i = 0; rc == 0 && i < j->n; i++)
        if (!is_old(f, &j->rows[i], j->recent))
            tell_new(f, &j->rows[i], now);
    clear_rows(j);
    sweep(f, now);
    return rc;
}

static void run(void *arg)
{
    struct deployment_feed *f = arg;
    struct control *c = f->c;
    struct feed_job *j = NEW(struct feed_job); /* not on the stack of a fiber */
    struct err err = ERR_INIT;
    int rc = 0;
    while (rc == 0 && !f->stop.set && (f->all || hmap_count(f->pending)))
        rc = pass(f, j, &err);
    if (rc < 0) {
        log_err(LOG_WARN, &err, "changes of deployments could not be read for who follows events", NULL);
        (void)hmap_free(f->pending);
        f->pending = hmap_new(FEED_PENDING_MAX);
        f->all = false;
    }
    free(j);
    f->running = false;
    control_fiber_end(c);
}

void deployment_feed_news(struct deployment_feed *f, const char *id)
{
    static char here; /* the set has no values */
    if (f->stop.set || f->c->stopping || !f->c->store)
        return;
    if (!id || hmap_put(f->pending, str_from(id), &here, NULL) != 0)
        f->all = true;
    if (!f->running && control_fiber(f->c, "events", run, f) == 0)
        f->running = true;
}
