/* SPDX-License-Identifier: Apache-2.0 */
/* link_calls — see link_calls.h: what waits to be read of each call, and what it may send. */
#include "base/mem.h"
#include "control/link/links_internal.h"

enum {
    CREDIT_STEP = LINK_CALL_CREDIT / 4, /* credit is given back in parts of at least so much */
    RECORD_HEAD = 1 + sizeof(uint32_t),
    /* The most that a queue can hold: a byte each with a head of its own, behind what was read. */
    QUEUE_MAX = LINK_CALL_CREDIT * (RECORD_HEAD + 2) + LINK_CALL_PIECE + RECORD_HEAD
};
/* Data waits while more than this is queued for the connection, so that what must not wait finds room. */
#define ROOM      (RPC_QUEUE_MAX / 4)
#define ROOM_POLL (10 * USEC_MSEC)

struct progress {
    struct list node;
    Davit__Link__V1__CallProgress *m;
};

struct link_call {
    struct list node;
    struct link *link; /* NULL: it has ended, or the link */
    uint64_t id;
    char server[SERVER_NAME_SIZE];
    bool closing;      /* given up; CallClose found no room yet */

    struct buf in;     /* records: output, length, that many bytes */
    size_t at, last;   /* the first that was not read; where the last one begins, SIZE_MAX: none */
    bool in_last, last_told; /* the agent sends no more; the reader knows */
    uint64_t allowed;  /* so much data it may send */
    size_t owed;       /* read, and not given back */
    struct list progress;
    unsigned n_progress;
    Davit__Link__V1__CallEnd *end;
    struct err aborted; /* code ERR_OK: it was not */
    struct event news;

    uint64_t credit;   /* so much data we may send */
    bool unsized;      /* a size of the terminal found no room: */
    unsigned rows, columns;
    struct event room; /* pulsed: credit, room in the connection, or the end */

    /* What the reader was given. */
    Davit__Link__V1__CallProgress *shown;
    Davit__Link__V1__CallData data;
    struct buf bytes;
};

static struct link_call *find(struct link *l, uint64_t id)
{
    struct link_call *c;
    list_each(c, &l->calls, struct link_call, node)
        if (c->id == id)
            return c->closing ? NULL : c;
    return NULL;
}

static void leave_link(struct link_call *c)
{
    if (!c->link)
        return;
    list_remove(&c->node);
    c->link->n_calls--;
    c->link = NULL;
    event_signal(&c->news);
    event_pulse(&c->room);
}

static void drop(struct link_call *c)
{
    struct list *n;
    while ((n = list_pop(&c->progress))) {
        struct progress *p = list_entry(n, struct progress, node);
        (void)rpc_message_free(p->m);
        free(p);
    }
    (void)rpc_message_free(c->shown);
    (void)rpc_message_free(c->end);
    buf_release(&c->in);
    buf_release(&c->bytes);
    event_release(&c->news);
    event_release(&c->room);
    free(c);
}

/* --- Small messages: what finds no room goes at the drain ---- */

static int send_close(struct link_call *c)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__CallClose body = DAVIT__LINK__V1__CALL_CLOSE__INIT;
    body.call_id = c->id;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_CLOSE;
    m.call_close = &body;
    return links_send(c->link, &m);
}

static void give_credit(struct link_call *c)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__CallCredit body = DAVIT__LINK__V1__CALL_CREDIT__INIT;
    if (!c->link || c->owed < CREDIT_STEP || c->in_last)
        return;
    body.call_id = c->id;
    body.bytes = (uint32_t)c->owed;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_CREDIT;
    m.call_credit = &body;
    if (links_send(c->link, &m) != 0)
        return;
    c->allowed += c->owed;
    c->owed = 0;
}

static void send_size(struct link_call *c)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__CallResize body = DAVIT__LINK__V1__CALL_RESIZE__INIT;
    body.call_id = c->id;
    body.rows = c->rows;
    body.columns = c->columns;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_RESIZE;
    m.call_resize = &body;
    c->unsized = c->link && links_send(c->link, &m) != 0;
}

void link_call_resize(struct link_call *c, unsigned rows, unsigned columns)
{
    c->rows = rows;
    c->columns = columns;
    send_size(c);
}

void link_calls_drained(struct link *l)
{
    struct link_call *c;
    list_each(c, &l->calls, struct link_call, node) {
        if (c->closing) {
            if (send_close(c) != 0)
                return;
            leave_link(c);
            drop(c);
            continue;
        }
        give_credit(c);
        if (c->unsized)
            send_size(c);
        event_pulse(&c->room);
    }
}

/* --- Beginning and end ---- */

static int live_link(struct server *s, struct link **ret, struct err *err)
{
    struct link *l = *ret = s->link;
    if (!l)
        return err_set(err, ERR_UNAVAILABLE, "server \"%s\" is not connected", s->name);
    if (!l->takes_calls) {
        (void)err_set(err, ERR_UNAVAILABLE, "the agent of server \"%s\" is too old for this", s->name);
        err_hint(err, "davit server update %s", s->name);
        return -(int)ERR_UNAVAILABLE;
    }
    if (l->n_calls >= LINK_CALLS_MAX)
        return err_set(err, ERR_EXHAUSTED, "%d calls to server \"%s\" are open already", LINK_CALLS_MAX, s->name);
    return 0;
}

int link_call_open(struct server *s, Davit__Link__V1__CallOpen *open, struct link_call **ret, struct err *err)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    struct link *l = NULL;
    int rc = live_link(s, &l, err);
    if (rc < 0 || !l)
        return rc;
    open->call_id = ++l->next_call;
    open->credit_bytes = LINK_CALL_CREDIT;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_OPEN;
    m.call_open = open;
    if (links_send(l, &m) != 0)
        return err_set(err, ERR_UNAVAILABLE, "the link of server \"%s\" takes nothing now", s->name);
    struct link_call *c = NEW(struct link_call);
    c->link = l;
    c->id = open->call_id;
    c->allowed = LINK_CALL_CREDIT;
    c->last = SIZE_MAX;
    buf_init(&c->in, QUEUE_MAX);
    buf_init(&c->bytes, LINK_CALL_PIECE);
    (void)str_copy(c->server, sizeof(c->server), str_from(s->name));
    list_init(&c->node);
    list_init(&c->progress);
    event_init(&c->news, l->control->loop);
    event_init(&c->room, l->control->loop);
    list_push(&l->calls, &c->node);
    l->n_calls++;
    *ret = c;
    return 0;
}

struct link_call *link_call_free(struct link_call *c)
{
    if (!c)
        return NULL;
    if (c->link && send_close(c) != 0 && c->link) {
        c->closing = true; /* the agent hears of it at the drain */
        return NULL;
    }
    leave_link(c);
    drop(c);
    return NULL;
}

void link_calls_lost(struct link *l)
{
    struct link_call *c;
    list_each(c, &l->calls, struct link_call, node) {
        bool closing = c->closing;
        leave_link(c);
        if (closing)
            drop(c);
    }
}

/* --- What comes ---- */

static void cut(struct link *l, const char *why)
{
    link_end(l, ERR_INVALID, why, NULL);
}

static void add_record(struct link_call *c, uint32_t output, ProtobufCBinaryData bytes)
{
    uint32_t n = (uint32_t)bytes.len, had = 0;
    if (c->at == c->in.len) {
        buf_clear(&c->in);
        c->at = 0;
        c->last = SIZE_MAX;
    } else if (c->at > LINK_CALL_CREDIT) {
        buf_consume(&c->in, c->at);
        c->last -= c->at; /* one that was not read is behind it */
        c->at = 0;
    }
    if (c->last != SIZE_MAX)
        memcpy(&had, c->in.data + c->last + 1, sizeof(had));
    int rc = 0;
    if (c->last != SIZE_MAX && (uint8_t)c->in.data[c->last] == output && had + n <= LINK_CALL_PIECE) {
        had += n;
        memcpy(c->in.data + c->last + 1, &had, sizeof(had));
    } else {
        c->last = c->in.len;
        rc = buf_append_byte(&c->in, (uint8_t)output);
        if (rc == 0)
            rc = buf_append(&c->in, &n, sizeof(n));
    }
    if (rc == 0)
        rc = buf_append(&c->in, bytes.data, bytes.len);
    BUG_ON(rc != 0); /* QUEUE_MAX holds what the credit allows */
}

void link_calls_data(struct link *l, const Davit__Link__V1__CallData *m)
{
    struct link_call *c = find(l, m->call_id);
    if (m->data.len > LINK_CALL_PIECE || m->output > UINT8_MAX) {
        cut(l, "a piece of a call's data that is larger than agreed");
        return;
    }
    if (!c || c->in_last) /* it was given up while this was on its way */
        return;
    if (m->data.len > c->allowed) {
        cut(l, "more of a call's data than the agent was allowed to send");
        return;
    }
    c->allowed -= m->data.len;
    if (m->data.len)
        add_record(c, m->output, m->data);
    c->in_last = m->last;
    if (m->data.len || m->last)
        event_signal(&c->news);
}

void link_calls_credit(struct link *l, const Davit__Link__V1__CallCredit *m)
{
    struct link_call *c = find(l, m->call_id);
    if (!c || c->credit > UINT64_MAX / 2)
        return;
    c->credit += m->bytes;
    event_pulse(&c->room);
}

static const char *step_of(const Davit__Link__V1__CallProgress *m)
{
    return m->progress ? text(m->progress->step) : "";
}

void link_calls_progress(struct link *l, const Davit__Link__V1__CallProgress *m)
{
    struct link_call *c = find(l, m->call_id);
    struct progress *p, *same = NULL;
    ProtobufCMessage *copy = NULL;
    if (!c || protobuf_c_message_get_packed_size(&m->base) > LINK_CALL_PROGRESS_SIZE)
        return;
    list_each(p, &c->progress, struct progress, node)
        if (str_eq(str_from(step_of(p->m)), str_from(step_of(m))))
            same = p;
    if ((!same && c->n_progress >= LINK_CALL_PROGRESS) || rpc_copy(&m->base, &copy) != 0)
        return;
    if (same) {
        (void)rpc_message_free(same->m);
    } else {
        same = NEW(struct progress);
        list_init(&same->node);
        list_push(&c->progress, &same->node);
        c->n_progress++;
    }
    same->m = (Davit__Link__V1__CallProgress *)copy;
    event_signal(&c->news);
}

void link_calls_ended(struct link *l, const Davit__Link__V1__CallEnd *m)
{
    struct link_call *c;
    ProtobufCMessage *copy = NULL;
    list_each(c, &l->calls, struct link_call, node) {
        if (c->id != m->call_id)
            continue;
        bool closing = c->closing;
        if (!closing && rpc_copy(&m->base, &copy) == 0)
            c->end = (Davit__Link__V1__CallEnd *)copy;
        leave_link(c);
        if (closing)
            drop(c);
        return;
    }
}

/* --- Reading ---- */

static void take_record(struct link_call *c, struct link_call_piece *ret)
{
    uint32_t n = 0;
    uint8_t output = (uint8_t)c->in.data[c->at];
    if (c->last == c->at)
        c->last = SIZE_MAX;
    memcpy(&n, c->in.data + c->at + 1, sizeof(n));
    buf_clear(&c->bytes);
    int rc = buf_append(&c->bytes, c->in.data + c->at + RECORD_HEAD, n);
    BUG_ON(rc != 0);
    c->at += RECORD_HEAD + n;
    davit__link__v1__call_data__init(&c->data);
    c->data.call_id = c->id;
    c->data.output = output;
    c->data.data = (ProtobufCBinaryData){c->bytes.len, (uint8_t *)c->bytes.data};
    c->data.last = c->last_told = c->in_last && c->at == c->in.len;
    ret->data = &c->data;
}

static void take_progress(struct link_call *c, struct link_call_piece *ret)
{
    struct progress *p = list_entry(c->progress.next, struct progress, node);
    list_remove(&p->node);
    c->n_progress--;
    c->shown = p->m;
    ret->progress = p->m;
    free(p);
}

static int take_end(struct link_call *c, struct link_call_piece *ret, struct err *err)
{
    const Davit__Common__V1__Failure *f = c->end ? c->end->failure : NULL;
    if (!c->end)
        return err_set(err, ERR_UNAVAILABLE, "the link of server \"%s\" was lost", c->server);
    ret->end = c->end;
    if (!f)
        return 0;
    ret->end = NULL;
    enum err_code code = f->code && f->code < ERR_CODE_MAX ? (enum err_code)f->code : ERR_UNKNOWN;
    (void)err_set(err, code, "%.400s", text(f->message));
    err_hint(err, "%.200s", text(f->hint));
    return -(int)code;
}

/* 1: there is nothing yet. */
static int take(struct link_call *c, struct link_call_piece *ret, struct err *err)
{
    if (c->aborted.code != ERR_OK) {
        if (err)
            *err = c->aborted;
        return -(int)c->aborted.code;
    }
    if (c->n_progress) {
        take_progress(c, ret);
    } else if (c->at < c->in.len) {
        take_record(c, ret);
    } else if (c->in_last && !c->last_told) {
        c->last_told = true;
        davit__link__v1__call_data__init(&c->data);
        c->data.call_id = c->id;
        c->data.last = true;
        ret->data = &c->data;
    } else if (!c->link) {
        return take_end(c, ret, err);
    } else {
        return 1;
    }
    return 0;
}

static int waited(int rc, struct err *err)
{
    if (rc == -(int)ERR_DEADLINE)
        return err_set(err, ERR_DEADLINE, "the agent did not answer in time");
    return err_set(err, (enum err_code)-rc, "the caller went away");
}

int link_call_next(struct link_call *c, struct link_call_piece *ret, usec_t deadline, struct err *err)
{
    *ret = (struct link_call_piece){0};
    c->shown = rpc_message_free(c->shown);
    c->owed += c->bytes.len;
    buf_clear(&c->bytes);
    give_credit(c);
    for (;;) {
        event_reset(&c->news);
        int rc = take(c, ret, err);
        if (rc <= 0)
            return rc;
        rc = event_wait(&c->news, deadline);
        if (rc < 0)
            return waited(rc, err);
    }
}

int link_call_end(struct link_call *c, const Davit__Link__V1__CallEnd **ret, usec_t deadline, struct err *err)
{
    struct link_call_piece p;
    int rc;
    do {
        rc = link_call_next(c, &p, deadline, err);
    } while (rc == 0 && !p.end);
    *ret = rc == 0 ? p.end : NULL;
    return rc;
}

void link_call_abort(struct link_call *c, const struct err *why)
{
    c->aborted = *why;
    event_signal(&c->news);
}

const char *link_call_reason(const struct link_call *c)
{
    return c->end && c->end->failure ? text(c->end->failure->reason) : "";
}

/* --- Sending ---- */

static bool has_room(const struct link_call *c)
{
    const struct link *l = c->link;
    return !l->blocked && l->call && rpc_stream_queued(l->call) <= ROOM;
}

/* 0; 1: the call has ended. */
static int wait_to_send(struct link_call *c, bool needs_credit, usec_t deadline, struct err *err)
{
    while (c->link) {
        bool credit = !needs_credit || c->credit > 0;
        if (credit && has_room(c))
            return 0;
        /* Of room in a connection that is not full nobody tells. */
        usec_t soon = clock_add(clock_mono(), ROOM_POLL);
        bool poll = credit && soon < deadline;
        int rc = event_wait(&c->room, poll ? soon : deadline);
        if (rc < 0 && !(poll && rc == -(int)ERR_DEADLINE))
            return waited(rc, err);
    }
    return c->end ? 1 : err_set(err, ERR_UNAVAILABLE, "the link of server \"%s\" was lost", c->server);
}

int link_call_send(struct link_call *c, struct str bytes, bool last, usec_t deadline, struct err *err)
{
    while (bytes.n || last) {
        Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
        Davit__Link__V1__CallData data = DAVIT__LINK__V1__CALL_DATA__INIT;
        int rc = wait_to_send(c, bytes.n > 0, deadline, err);
        if (rc != 0)
            return rc;
        size_t n = bytes.n < LINK_CALL_PIECE ? bytes.n : LINK_CALL_PIECE;
        n = n < c->credit ? n : c->credit;
        data.call_id = c->id;
        data.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)bytes.p};
        data.last = last && n == bytes.n;
        m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_DATA;
        m.call_data = &data;
        rc = links_send(c->link, &m);
        if (rc == -(int)ERR_EXHAUSTED) /* the drain tells */
            continue;
        if (rc < 0)
            return err_set(err, ERR_UNAVAILABLE, "the link of server \"%s\" was lost", c->server);
        c->credit -= n;
        bytes = (struct str){bytes.p + n, bytes.n - n};
        if (data.last)
            return 0;
    }
    return c->link ? 0 : c->end ? 1 : err_set(err, ERR_UNAVAILABLE, "the link of server \"%s\" was lost", c->server);
}
