/* SPDX-License-Identifier: Apache-2.0 */
/* logs — log streams under credit. One fiber per stream reads from the engine and stops reading when the credit is used up, so nothing
 * piles up here: the engine's own log file is the buffer.  Entries are gathered for up to FLUSH_AFTER or WORK_BATCH_MAX. */
#include "host/work/work_internal.h"

#include <string.h>

#define FLUSH_AFTER (100 * USEC_MSEC)

struct entry {
    uint64_t at_ns;
    size_t offset, len;
    bool is_stderr, partial;
};

/* Where one of the two outputs of a container is. */
struct position {
    uint64_t last_ns;
    int64_t skew; /* real minus monotonic clock when that entry came, in microseconds */
    bool repeating;
};

/* What of one output was sent before: up to this stamp, and so many of those that have it. */
struct cursor {
    uint64_t at_ns;
    uint32_t entries;
};

struct log_stream {
    struct list node;
    struct work *w;
    struct worker *worker;
    uint64_t id;
    char *container;
    struct docker_log_options options;
    uint64_t opened_ns;
    struct position at[2];
    struct cursor from[2];
    bool resumed; /* `from` counts, not options.since_ns */
    int64_t credit;
    bool closed;       /* nothing may be sent any more */
    struct event more; /* credit came, or a batch went */
    struct timer flush;
    struct buf bytes;
    struct entry *entries;
    size_t n_entries, cap_entries;
};

struct logs {
    struct list streams;
    unsigned n;
};

static struct log_stream *find(struct work *w, uint64_t id)
{
    struct log_stream *s;

    list_each(s, &w->logs->streams, struct log_stream, node)
        if (s->id == id && !s->closed)
            return s;
    return NULL;
}

/* --- Sending ------------------------------------------------------------------------------------------------------------------- */

static void send_batch(struct log_stream *s)
{
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__LogBatch batch = DAVIT__LINK__V1__LOG_BATCH__INIT;

    timer_stop(&s->flush);
    if (s->n_entries == 0 || s->closed)
        return;
    Davit__Common__V1__LogEntry *items = mem_zalloc(s->n_entries, sizeof(*items));
    Davit__Common__V1__LogEntry **list = mem_zalloc(s->n_entries, sizeof(*list));
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct entry *e = &s->entries[i];
        davit__common__v1__log_entry__init(&items[i]);
        items[i].stream =
            e->is_stderr ? DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDERR : DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDOUT;
        items[i].at_ns = e->at_ns;
        items[i].partial = e->partial;
        items[i].line.len = e->len;
        items[i].line.data = e->len > 0 ? (uint8_t *)s->bytes.data + e->offset : NULL;
        list[i] = &items[i];
    }
    batch.stream_id = s->id;
    batch.entries = list;
    batch.n_entries = s->n_entries;
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_LOGS;
    msg.logs = &batch;
    work_send(s->w, &msg);
    free(items);
    free(list);
    s->n_entries = 0;
    buf_clear(&s->bytes);
    event_pulse(&s->more);
}

static void on_flush(void *arg)
{
    send_batch(arg);
}

static void send_end(struct work *w, uint64_t id, const struct err *err)
{
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__LogEnd end = DAVIT__LINK__V1__LOG_END__INIT;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;

    end.stream_id = id;
    if (err) {
        failure.code = (uint32_t)err->code;
        failure.message = (char *)err->msg;
        failure.hint = (char *)err->hint;
        failure.reason = (char *)reason_of(err);
        end.failure = &failure;
    }
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_LOG_END;
    msg.log_end = &end;
    work_send(w, &msg);
}

/* --- Reading ------------------------------------------------------------------------------------------------------------------- */

static void add(struct log_stream *s, const struct docker_log *e)
{
    if (s->n_entries == s->cap_entries) {
        s->cap_entries = s->cap_entries ? s->cap_entries * 2 : 64;
        s->entries = mem_resize(s->entries, s->cap_entries, sizeof(*s->entries));
    }
    s->entries[s->n_entries++] = (struct entry){e->time_ns, s->bytes.len, e->line.n, e->is_stderr, e->partial};
    int rc = buf_append_str(&s->bytes, e->line);
    BUG_ON(rc < 0); /* the caller has made room: a line and a batch have the same limit */
    s->credit -= (int64_t)e->line.n;
    if (!timer_armed(&s->flush))
        timer_set(&s->flush, FLUSH_AFTER);
}

/* An engine that rotates its log file under a reader may send the new file twice. What is older than what came already is such a
 * repetition, unless the clock was set back meanwhile, or it is history from before this stream, whose clock nobody knows. */
static bool is_repeated(struct log_stream *s, const struct docker_log *e)
{
    struct position *at = &s->at[e->is_stderr];
    int64_t skew = (int64_t)clock_real() - (int64_t)clock_mono();

    if (e->time_ns == at->last_ns)
        return at->repeating;
    at->repeating = e->time_ns < at->last_ns && at->last_ns > s->opened_ns && skew > at->skew - (int64_t)USEC_MSEC;
    if (at->repeating)
        return true;
    at->last_ns = e->time_ns;
    at->skew = skew;
    return false;
}

/* The engine's `since` includes the moment itself; ours does not. */
static bool is_known(struct log_stream *s, const struct docker_log *e)
{
    struct cursor *from = &s->from[e->is_stderr];

    if (!s->resumed)
        return s->options.since_ns != 0 && e->time_ns <= s->options.since_ns;
    if (e->time_ns != from->at_ns)
        return e->time_ns < from->at_ns;
    if (from->entries == 0)
        return false;
    from->entries--;
    return true;
}

static int on_line(void *arg, const struct docker_log *e)
{
    struct log_stream *s = arg;

    if (is_known(s, e))
        return 0;
    if (s->options.follow && is_repeated(s, e))
        return 0;
    if (s->bytes.len + e->line.n > WORK_BATCH_MAX)
        send_batch(s);
    /* Short lines hardly use credit: a batch full of them goes when its time has come. */
    while (s->n_entries >= WORK_ENTRIES_MAX || s->credit <= 0) {
        int rc = event_wait(&s->more, USEC_INFINITY);
        if (rc < 0)
            return rc;
    }
    if (s->closed)
        return DOCKER_STOPPED;
    add(s, e);
    if (s->bytes.len >= WORK_BATCH_MAX)
        send_batch(s);
    return fiber_cancelled() ? -ERR_CANCELLED : 0;
}

static int read_log(struct log_stream *s, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(s->w->docker, s->container, &c, deadline_in(ENGINE_CALL), err);
    bool ours = rc == 0 && labels_ours(&c.labels, NULL, NULL);

    docker_container_release(&c);
    if (rc < 0)
        return rc;
    if (!ours)
        return err_set(err, ERR_NOT_FOUND, "there is no such container of ours");
    return docker_logs(s->w->docker, s->container, &s->options, on_line, s, USEC_INFINITY, err);
}

static void stream_run(void *arg)
{
    struct log_stream *s = arg;
    struct err err = ERR_INIT;

    int rc = read_log(s, &err);
    if (rc < 0)
        (void)err_ensure(&err, rc);
    if (!s->closed && !fiber_cancelled()) {
        send_batch(s);
        send_end(s->w, s->id, rc < 0 ? &err : NULL);
    }
    timer_stop(&s->flush);
    list_remove(&s->node);
    if (!s->closed)
        s->w->logs->n--;
    event_release(&s->more);
    buf_release(&s->bytes);
    free(s->entries);
    free(s->container);
    free(s);
}

/* --- For the link --------------------------------------------------------------------------------------------------------------- */

static void close_stream(struct log_stream *s)
{
    if (s->closed)
        return;
    s->closed = true;
    s->w->logs->n--;
    timer_stop(&s->flush);
    fiber_cancel(s->worker->fiber);
}

static void refuse(struct work *w, uint64_t id, enum err_code code, const char *text)
{
    struct err err = ERR_INIT;

    (void)err_set(&err, code, "%s", text);
    send_end(w, id, &err);
}

struct refusal {
    struct work *w;
    uint64_t id;
};

static void refuse_run(void *arg)
{
    struct refusal *r = arg;

    refuse(r->w, r->id, ERR_EXHAUSTED, "too many log streams are open on this server");
    free(r);
}

static void resume_from(struct log_stream *s, const Davit__Link__V1__LogCursor *out, const Davit__Link__V1__LogCursor *err)
{
    s->resumed = true;
    s->from[0] = (struct cursor){out->at_ns, out->entries};
    s->from[1] = (struct cursor){err->at_ns, err->entries};
    s->options.since_ns = out->at_ns < err->at_ns ? out->at_ns : err->at_ns;
    s->options.tail = -1;
}

void work_log_open(struct work *w, const Davit__Link__V1__LogOpen *open)
{
    struct log_stream *s = find(w, open->stream_id);

    if (s)
        close_stream(s);
    if (w->logs->n >= WORK_LOGS_MAX) {
        struct refusal *r = NEW(struct refusal);
        *r = (struct refusal){w, open->stream_id};
        if (!work_spawn(w, "log-refused", refuse_run, r))
            free(r);
        return;
    }
    s = NEW(struct log_stream);
    *s = (struct log_stream){
        .w = w,
        .id = open->stream_id,
        .container = str_dup(str_from(open->container_id)),
        .options = {.follow = open->follow,
                    .since_ns = open->since_ns,
                    .tail = open->since_ns != 0 && open->tail == 0 ? -1 : open->tail},
        .credit = open->credit_bytes,
        .opened_ns = clock_real() * 1000,
        .bytes = BUF_INIT(WORK_BATCH_MAX + DOCKER_LINE_MAX),
    };
    if (open->stdout_from && open->stderr_from)
        resume_from(s, open->stdout_from, open->stderr_from);
    event_init(&s->more, w->loop);
    timer_init(&s->flush, w->loop, on_flush, s);
    s->worker = work_spawn(w, "log", stream_run, s);
    if (!s->worker) {
        event_release(&s->more);
        free(s->container);
        free(s);
        return;
    }
    list_push(&w->logs->streams, &s->node);
    w->logs->n++;
}

void work_log_credit(struct work *w, const Davit__Link__V1__LogCredit *credit)
{
    struct log_stream *s = find(w, credit->stream_id);

    if (!s)
        return;
    if (s->credit > INT64_MAX / 2)
        return;
    s->credit += credit->bytes;
    event_pulse(&s->more);
}

void work_log_close(struct work *w, const Davit__Link__V1__LogClose *close)
{
    struct log_stream *s = find(w, close->stream_id);

    if (s)
        close_stream(s);
}

void work_logs_reset(struct work *w)
{
    struct log_stream *s;

    list_each(s, &w->logs->streams, struct log_stream, node)
        close_stream(s);
}

void logs_start(struct work *w)
{
    w->logs = NEW(struct logs);
    list_init(&w->logs->streams);
}

void logs_free(struct work *w)
{
    free(w->logs);
    w->logs = NULL;
}
