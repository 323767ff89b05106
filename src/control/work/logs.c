/* SPDX-License-Identifier: Apache-2.0 */
/* logs — the Logs call: reads the log of a service's container through the link of its server and passes it on as fast as the caller takes it.
 * The agent may send what it has credit for; credit is given back when an entry has gone out to the caller, so a slow caller slows down the
 * reading of the engine's log and nothing piles up. After a lost link, or when another container takes over, a following caller goes on
 * behind the last entry that it got. */
#include <stdio.h>

#include "base/mem.h"
#include "control/link/links.h"
#include "control/work/logs.h"
#include "control/sandboxes/sandboxes.h"
#include "control/work/workloads.h"

enum { LOG_CREDIT_BYTES = 256 * 1024, LOG_BATCHES_MAX = 4096, LOG_TAIL_MAX = 1000000, LOG_POLL_MS = 500 };

struct batch {
    struct list node;
    Davit__Link__V1__LogBatch *m;
    size_t bytes;
};

enum outcome { READING, ENDED, LOST, FAILED, OVERRUN };

struct reader {
    struct log_stream stream;
    struct control *c;
    const struct logs_sink *sink;
    const Davit__Control__V1__LogsRequest *request;
    struct event news;
    struct list batches;
    unsigned n_batches;
    size_t bytes; /* in the batches */
    enum outcome outcome;
    struct err failure;

    char container[80]; /* the one being read, or the last one */
    uint64_t started;   /* of that container: a restart makes a new run of the same one */
    struct log_cursor cursor[2]; /* of stdout and stderr: what went out */
    uint64_t first;              /* time of the first entry that went out, 0: none did */
    bool begun;
    bool noticed; /* the caller knows that we wait */
};

static size_t bytes_of(const Davit__Link__V1__LogBatch *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_entries; i++)
        n += m->entries[i]->line.len;
    return n;
}

static void on_batch(struct log_stream *ls, const Davit__Link__V1__LogBatch *m)
{
    struct reader *r = CONTAINER_OF(ls, struct reader, stream);
    ProtobufCMessage *copy = NULL;
    size_t bytes = bytes_of(m);
    /* One line may go over the credit; an agent that sends much more does not keep to it. */
    bool fits = r->n_batches < LOG_BATCHES_MAX && r->bytes + bytes <= 2 * LOG_CREDIT_BYTES + RPC_MESSAGE_MAX;
    if (!fits || rpc_copy(&m->base, &copy) != 0) {
        log_stream_close(ls);
        r->outcome = OVERRUN;
        event_signal(&r->news);
        return;
    }
    struct batch *b = NEW(struct batch);
    b->m = (Davit__Link__V1__LogBatch *)copy;
    b->bytes = bytes;
    list_init(&b->node);
    list_push(&r->batches, &b->node);
    r->n_batches++;
    r->bytes += bytes;
    event_signal(&r->news);
}

static void on_end(struct log_stream *ls, const Davit__Common__V1__Failure *failure)
{
    struct reader *r = CONTAINER_OF(ls, struct reader, stream);
    r->outcome = failure ? FAILED : ENDED;
    if (failure) {
        enum err_code code = failure->code && failure->code < ERR_CODE_MAX ? (enum err_code)failure->code : ERR_UNKNOWN;
        (void)err_set(&r->failure, code, "%.400s", text(failure->message));
        err_hint(&r->failure, "%.200s", text(failure->hint));
    }
    event_signal(&r->news);
}

static void on_lost(struct log_stream *ls)
{
    struct reader *r = CONTAINER_OF(ls, struct reader, stream);
    r->outcome = LOST;
    event_signal(&r->news);
}

static int gone(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "the caller went away");
}

static int notice(struct reader *r, const char *what, struct err *err)
{
    Davit__Control__V1__LogsResponse m = DAVIT__CONTROL__V1__LOGS_RESPONSE__INIT;
    if (r->noticed)
        return 0;
    r->noticed = true;
    m.notice = lend(what);
    m.service = r->request->service;
    m.container_id = r->container;
    return r->sink->send(r->sink->arg, &m) == 0 ? 0 : gone(err);
}

/* Stamps of an output ascend, unless a clock is set back: then what comes until it has caught up is not found again after a lost link. */
static void advance(struct reader *r, const Davit__Common__V1__LogEntry *e)
{
    struct log_cursor *c = &r->cursor[e->stream == DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDERR];
    if (!r->first)
        r->first = e->at_ns;
    if (e->at_ns > c->at_ns)
        *c = (struct log_cursor){.at_ns = e->at_ns};
    if (e->at_ns == c->at_ns)
        c->entries++;
}

/* Where another container takes over: a deployment starts the new one beside the old one, which writes to its end. What the new one wrote
 * meanwhile was not seen; what it wrote in an earlier life was. */
static void take_over(struct reader *r, uint64_t started_ns)
{
    uint64_t last = r->cursor[0].at_ns > r->cursor[1].at_ns ? r->cursor[0].at_ns : r->cursor[1].at_ns;
    if (!r->first)
        return;
    if (started_ns && started_ns <= last)
        last = started_ns - 1;
    r->first = last;
    r->cursor[0] = r->cursor[1] = (struct log_cursor){.at_ns = last};
}

/* From where a stream is resumed. An output of which nothing came has nothing before the first entry of the other one either. */
static void resume_at(const struct reader *r, struct log_cursor from[2])
{
    for (size_t i = 0; i < 2; i++)
        from[i] = r->cursor[i].at_ns ? r->cursor[i] : (struct log_cursor){.at_ns = r->first};
}

/* Sends one batch and gives its credit back. */
static int pass_on(struct reader *r, struct err *err)
{
    struct batch *b = list_entry(list_pop(&r->batches), struct batch, node);
    Davit__Control__V1__LogsResponse m = DAVIT__CONTROL__V1__LOGS_RESPONSE__INIT;
    r->n_batches--;
    m.entries = b->m->entries;
    m.n_entries = b->m->n_entries;
    m.lost = b->m->lost;
    m.container_id = r->container;
    m.service = r->request->service;
    int rc = r->sink->send(r->sink->arg, &m);
    r->bytes -= b->bytes;
    for (size_t i = 0; i < b->m->n_entries; i++)
        advance(r, b->m->entries[i]);
    if (rc == 0 && b->bytes)
        log_stream_credit(&r->stream, (uint32_t)b->bytes);
    (void)rpc_message_free(b->m);
    free(b);
    return rc == 0 ? 0 : gone(err);
}

static void drop_batches(struct reader *r)
{
    struct list *n;
    while ((n = list_pop(&r->batches))) {
        struct batch *b = list_entry(n, struct batch, node);
        (void)rpc_message_free(b->m);
        free(b);
    }
    r->n_batches = 0;
    r->bytes = 0;
}

/* Reads one stream to its end; what came before the end goes out first. 0: look at r->outcome. */
static int read_stream(struct reader *r, struct err *err)
{
    for (;;) {
        event_reset(&r->news);
        while (!list_empty(&r->batches)) {
            int rc = pass_on(r, err);
            if (rc < 0)
                return rc;
        }
        if (r->outcome != READING)
            return 0;
        if (event_wait(&r->news, USEC_INFINITY) < 0) /* ends with the call, or the topic */
            return gone(err);
    }
}

/* The container that is meant and when it was started; *ret_id is borrowed until anything waits, NULL: there is none. */
static uint64_t find_container(const struct reader *r, const struct server *s, const struct service_row *row, const char **ret_id)
{
    const Davit__Control__V1__LogsRequest *q = r->request;
    if (*text(q->sandbox_id)) {
        const struct sandbox *sb = sandboxes_by_id(r->c, q->sandbox_id);
        const char *id = sb ? (*sb->container ? sb->container : text(sb->state->container_id)) : "";
        *ret_id = *id ? id : NULL;
        return sb ? sb->state->started_at_us : 0;
    }
    const Davit__Common__V1__Container *k = workloads_container(s, q->project, q->service, row->active);
    *ret_id = k ? k->id : NULL;
    return k ? k->started_at_us : 0;
}

/* Waits: whose log it is, and where. -ERR_NOT_FOUND. */
static int find_place(const struct reader *r, struct service_row *row, struct err *err)
{
    const char *id = text(r->request->sandbox_id);
    const struct sandbox *sb = *id ? sandboxes_by_id(r->c, id) : NULL;
    if (!*id)
        return workloads_service(r->c, r->request->project, r->request->service, row, err);
    if (!sb)
        return err_set(err, ERR_NOT_FOUND, "there is no such sandbox");
    *row = (struct service_row){.server_id = ""};
    (void)str_copy(row->server_id, sizeof(row->server_id), str_from(sb->server_id));
    return 0;
}

/* Opens the container that is to be read now. 0; 1: there is nothing new to read yet. */
static int open_next(struct reader *r, struct server *s, const struct service_row *row, struct err *err)
{
    const Davit__Control__V1__LogsRequest *q = r->request;
    const char *id = NULL;
    uint64_t started = find_container(r, s, row, &id);
    if (!id)
        return 1;
    bool other = !str_eq(str_from(id), str_from(r->container));
    bool resume = r->outcome == LOST || r->outcome == OVERRUN;
    if (r->begun && !other && !resume && started == r->started)
        return 1;
    if (other)
        take_over(r, started * 1000);
    struct log_cursor from[2];
    struct log_query lq = {
        .container_id = id, .since_ns = q->since_ns, .tail = q->tail, .follow = q->follow, .credit = LOG_CREDIT_BYTES};
    if (r->first) {
        resume_at(r, from);
        lq.from = from;
        lq.tail = -1;
    } else if (r->begun && other) {
        lq.tail = -1; /* nothing has come yet, and of this one all is wanted */
    }
    r->stream.on_batch = on_batch;
    r->stream.on_end = on_end;
    r->stream.on_lost = on_lost;
    int rc = log_stream_open(s, &r->stream, &lq, err);
    if (rc < 0)
        return rc;
    (void)str_copy(r->container, sizeof(r->container), str_from(id));
    r->started = started;
    r->begun = true;
    r->noticed = false;
    r->outcome = READING;
    return 0;
}

/* What a stream that could not be opened means: a follower waits, others are told. */
static int cannot_open(struct reader *r, const struct server *s, int rc, struct err *err)
{
    char what[SERVER_NAME_SIZE + 64];
    if (rc == 1 && !r->request->follow && r->begun)
        return 1; /* read to the end */
    if (rc == 1 && !r->request->follow) {
        (void)err_set(err, ERR_NOT_FOUND, "server \"%s\" shows no container of %s/%s", s->name, r->request->project,
                      r->request->service);
        err_hint(err, "davit ps shows the state of the deployment");
        return -(int)ERR_NOT_FOUND;
    }
    if (rc < 0 && !r->request->follow)
        return rc;
    (void)snprintf(what, sizeof(what), rc == 1 ? "waiting for a container on %s" : "link to server %s lost, resuming", s->name);
    int sent = notice(r, what, err);
    if (sent < 0)
        return sent;
    return fiber_sleep(LOG_POLL_MS * USEC_MSEC) < 0 ? gone(err) : 0;
}

/* One turn: find, open, read. 0: another turn; 1: the end. */
static int turn(struct reader *r, struct err *err)
{
    struct service_row row;
    struct err open_err = ERR_INIT;
    int rc = find_place(r, &row, err);
    if (rc < 0)
        return rc == -(int)ERR_NOT_FOUND && r->begun ? 1 : rc; /* removed while it was followed: the end */
    struct server *s = servers_by_id(r->c, row.server_id);
    if (!s)
        return r->begun ? 1 : err_set(err, ERR_NOT_FOUND, "the server of this service was removed");
    (void)server_ref(s);
    rc = open_next(r, s, &row, &open_err);
    if (rc != 0) {
        if (rc < 0)
            *err = open_err;
        rc = cannot_open(r, s, rc, err);
    } else {
        rc = read_stream(r, err);
        bool done = rc == 0 && !r->request->follow && r->outcome == ENDED;
        if (rc == 0 && r->outcome == FAILED && (!r->request->follow || r->failure.code != ERR_NOT_FOUND)) {
            *err = r->failure;
            rc = -(int)r->failure.code;
        }
        rc = done ? 1 : rc;
    }
    server_unref(s);
    return rc;
}

int logs_read(struct control *c, const Davit__Control__V1__LogsRequest *q, const struct logs_sink *sink, struct err *err)
{
    struct err own = ERR_INIT;
    int rc;
    err = err ? err : &own;
    if (q->tail < -1 || q->tail > LOG_TAIL_MAX)
        return err_set(err, ERR_INVALID, "tail: %lld is not allowed; 0 to %d, or -1 for all", (long long)q->tail, LOG_TAIL_MAX);
    struct reader *r = NEW(struct reader);
    r->c = c;
    r->sink = sink;
    r->request = q;
    list_init(&r->batches);
    list_init(&r->stream.node);
    event_init(&r->news, r->c->loop);
    do {
        rc = turn(r, err);
    } while (rc == 0);
    log_stream_close(&r->stream);
    drop_batches(r);
    event_release(&r->news);
    free(r);
    return rc > 0 ? 0 : rc;
}

static int to_caller(void *arg, const Davit__Control__V1__LogsResponse *m)
{
    return rpc_send(arg, &m->base);
}

int logs_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const struct logs_sink sink = {to_caller, call};
    return logs_read(ctx, (const Davit__Control__V1__LogsRequest *)request, &sink, err);
}
