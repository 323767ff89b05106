/* SPDX-License-Identifier: Apache-2.0 */
/* h2 — sessions of nghttp2 1.52 with a run queue; see h2.h.  Sources: RFC 9113; nghttp2's own documentation of its callbacks. */
#include "net/h2.h"

#include <string.h>

#include "base/mem.h"
#include "net/h2_internal.h"

/* A head that unpacks to more is no mistake of size: a block of some KB names one field thousands of times. */
enum { HEAD_BOMB = 16 * H2_HEAD_MAX, RESETS_MAX = 200, RESETS_PER_SEC = 20 };

/* ---- streams and the run queue ---- */

void h2_post_work(struct h2 *h)
{
    if (!h->freed)
        loop_post(h->loop, &h->work);
}

struct h2_event *h2_push(struct h2 *h, enum event_kind kind, struct h2_stream *st)
{
    struct h2_event *e = NEW(struct h2_event);
    list_init(&e->node);
    e->kind = kind;
    e->st = st;
    e->head.store = BUF_INIT(2 * H2_HEAD_MAX);
    e->data = BUF_INIT(2 * H2_WINDOW_CONN);
    list_push(&h->events, &e->node);
    h2_post_work(h);
    return e;
}

static void event_free(struct h2_event *e)
{
    list_remove(&e->node);
    buf_release(&e->head.store);
    buf_release(&e->data);
    free(e);
}

struct h2_stream *h2_stream_new(struct h2 *h, int32_t id)
{
    struct h2_stream *st = NEW(struct h2_stream);
    st->h = h;
    st->id = id;
    st->head.store = BUF_INIT(2 * H2_HEAD_MAX);
    st->trailers.store = BUF_INIT(2 * H2_HEAD_MAX);
    st->out = BUF_INIT(2 * (size_t)H2_QUEUE_MAX);
    list_init(&st->node);
    list_push(&h->streams, &st->node);
    h->n_streams++;
    return st;
}

void h2_stream_drop(struct h2_stream *st)
{
    st->h->queued -= h2_queued(st);
    st->out_at = 0;
    buf_release(&st->out);
}

void h2_stream_free(struct h2_stream *st)
{
    st->h->n_streams--;
    list_remove(&st->node);
    h2_stream_drop(st);
    buf_release(&st->head.store);
    buf_release(&st->trailers.store);
    free(st);
}

void h2_fail(struct h2 *h, enum err_code code, const char *msg)
{
    if (h->dead)
        return;
    h->dead = true;
    h->why = NEW(struct err);
    (void)err_set(h->why, code, "%s", msg);
    timer_stop(&h->timer);
    conn_read_stop(h->conn);
    struct h2_stream *st;
    list_each(st, &h->streams, struct h2_stream, node) {
        if (st->closed)
            continue;
        st->closed = true;
        h2_push(h, EV_CLOSED, st)->code = H2_CONNECT_ERROR;
    }
    (void)h2_push(h, EV_DEAD, NULL);
}

void h2_fail_telling(struct h2 *h, enum h2_code code, enum err_code err, const char *text)
{
    (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->session), (uint32_t)code,
                                (const uint8_t *)text, strlen(text));
    h2_send_pending(h);
    h2_fail(h, err, text);
}

static struct h2_stream *stream_of(struct h2 *h, int32_t id)
{
    struct h2_stream *st = id ? nghttp2_session_get_stream_user_data(h->session, id) : NULL;
    return st && !st->closed ? st : NULL;
}

/* ---- callbacks of nghttp2: they only record ---- */

static int cb_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h = arg;
    struct h2_stream *st = stream_of(h, frame->hd.stream_id);
    if (!st && h->server && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        st = h2_stream_new(h, frame->hd.stream_id);
        (void)nghttp2_session_set_stream_user_data(session, st->id, st);
    }
    if (st) {
        h2_head_reset(&st->head);
        st->head_size = 0;
    }
    return 0;
}

static int cb_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t namelen,
                     const uint8_t *value, size_t valuelen, uint8_t flags, void *arg)
{
    (void)session;
    (void)flags;
    struct h2_stream *st = stream_of(arg, frame->hd.stream_id);
    if (!st)
        return 0;
    st->head_size += namelen + valuelen + 32;
    if (st->head_size > HEAD_BOMB) {
        ((struct h2 *)arg)->guard.flood = "header list too large";
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (st->head.too_big)
        return 0;
    if (st->head_size > H2_HEAD_MAX || st->head.n_fields == H2_FIELDS_MAX ||
        h2_head_add(&st->head, (struct str){(const char *)name, namelen}, str_trim((struct str){(const char *)value, valuelen})) < 0)
        st->head.too_big = true;
    return 0;
}

/* nghttp2 would drop the field and go on. */
static int cb_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t namelen,
                             const uint8_t *value, size_t valuelen, uint8_t flags, void *arg)
{
    (void)session;
    (void)frame;
    (void)name;
    (void)namelen;
    (void)value;
    (void)valuelen;
    (void)flags;
    (void)arg;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void got_head(struct h2 *h, struct h2_stream *st, bool end, bool trailers)
{
    const char *status = h->server ? NULL : h2_head_get(&st->head, ":status");
    if (h->server && trailers) {
        if (end)
            (void)h2_push(h, EV_END, st);
        return;
    }
    if (status && status[0] == '1')
        return;
    if (h->server && !h2_guard_start(&h->guard)) {
        h2_reset(st, H2_REFUSED_STREAM);
        return;
    }
    struct h2_event *e = h2_push(h, EV_HEAD, st);
    e->head = st->head;
    st->head = (struct h2_head){.store = BUF_INIT(2 * H2_HEAD_MAX)};
    e->end = end;
}

static bool asks_for_calm(const nghttp2_goaway *g)
{
    static const char text[] = "too_many_pings";
    return g->error_code == NGHTTP2_ENHANCE_YOUR_CALM && g->opaque_data_len == sizeof(text) - 1 &&
           memcmp(g->opaque_data, text, sizeof(text) - 1) == 0;
}

static int cb_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h = arg;
    struct h2_stream *st = stream_of(h, frame->hd.stream_id);
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0, ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (st)
            got_head(h, st, end, frame->headers.cat == NGHTTP2_HCAT_HEADERS);
        break;
    case NGHTTP2_DATA:
        if (st && end)
            (void)h2_push(h, EV_END, st);
        if (!end && frame->hd.length > 0 && frame->hd.length == frame->data.padlen)
            h2_guard_charge(&h->guard, 1, "too many empty frames");
        break;
    case NGHTTP2_SETTINGS: *(ack ? &h->guard.ack_by : &h->guard.preface_by) = USEC_INFINITY; break;
    case NGHTTP2_PING:
        if (ack && memcmp(frame->ping.opaque_data, h2_drain_ping, sizeof(h2_drain_ping)) == 0)
            h2_life_drain_ack(h);
        break;
    case NGHTTP2_GOAWAY:
        h->calm = h->calm || asks_for_calm(&frame->goaway);
        if (!h->goaway)
            (void)h2_push(h, EV_GOAWAY, NULL);
        h->goaway = true;
        break;
    default: break;
    }
    /* A client whose answer is complete has nothing more to say. */
    if (!h->server && st && end && nghttp2_session_get_stream_local_close(session, st->id) == 0)
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_NO_ERROR);
    return 0;
}

static int cb_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *arg)
{
    (void)flags;
    struct h2 *h = arg;
    struct h2_stream *st = stream_of(h, id);
    if (!st || st->released || len == 0)
        return nghttp2_session_consume(session, id, len) == NGHTTP2_ERR_NOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
    struct h2_event *last = list_empty(&h->events) ? NULL : list_entry(h->events.prev, struct h2_event, node);
    struct h2_event *e = last && last->kind == EV_DATA && last->st == st ? last : h2_push(h, EV_DATA, st);
    return buf_append(&e->data, data, len) < 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int cb_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    (void)session;
    struct h2 *h = arg;
    struct h2_stream *st = stream_of(h, id);
    if (!st || st->closed)
        return 0;
    st->closed = true;
    h2_push(h, EV_CLOSED, st)->code = code;
    return 0;
}

static int cb_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code, void *arg)
{
    (void)session;
    (void)frame;
    (void)code;
    h2_guard_charge(&((struct h2 *)arg)->guard, H2_COST_SLIP, "too many protocol errors");
    return 0;
}

static int cb_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h = arg;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR &&
        frame->rst_stream.error_code != NGHTTP2_CANCEL) /* the peer made us do it */
        h2_guard_charge(&h->guard, frame->rst_stream.error_code == NGHTTP2_REFUSED_STREAM ? 1 : H2_COST_SLIP,
                        "too many protocol errors");
    h2_guard_sent(&h->guard, frame->hd.type);
    if (h->server && end && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
        nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

void h2_send_pending(struct h2 *h)
{
    bool sent = false;
    if (h->ending)
        return;
    while (!h->dead && conn_writable(h->conn)) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);
        if (n == 0)
            break;
        if (n < 0) {
            h2_fail(h, ERR_INTERNAL, nghttp2_strerror((int)n));
            return;
        }
        int rc = conn_write(h->conn, p, (size_t)n);
        if (rc < 0) {
            h2_fail(h, ERR_UNAVAILABLE, "the connection was lost");
            return;
        }
        sent = true;
    }
    if (sent && !h->dead)
        h2_life_sent(h);
    if (!h->dead && !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))
        h2_life_end(h);
}

/* ---- the work task ---- */

static void deliver_data(struct h2 *h, struct h2_event *e)
{
    (void)nghttp2_session_consume_connection(h->session, e->data.len);
    if (e->st->released)
        (void)nghttp2_session_consume_stream(h->session, e->st->id, e->data.len);
    else
        h->handler->on_data(h->arg, e->st, buf_str(&e->data));
}

static void deliver(struct h2 *h, struct h2_event *e)
{
    struct h2_stream *st = e->st;
    switch (e->kind) {
    case EV_HEAD:
        if (h->server && st->closed) /* reset before it was begun: no work for a handler */
            st->released = true;
        if (!st->released)
            h->handler->on_head(h->arg, st, &e->head, e->end);
        break;
    case EV_DATA: deliver_data(h, e); break;
    case EV_END:
        if (!st->released)
            h->handler->on_end(h->arg, st);
        break;
    case EV_CLOSED:
        if (!st->released)
            h->handler->on_closed(h->arg, st, e->code);
        if (!h->freed)
            h2_stream_free(st);
        break;
    case EV_DRAIN:
        if (!st->released)
            h->handler->on_drain(h->arg, st);
        break;
    case EV_GOAWAY:
        if (h->handler->on_goaway)
            h->handler->on_goaway(h->arg);
        break;
    case EV_DEAD: h->handler->on_dead(h->arg, h->why); break;
    }
}

static void destroy(struct h2 *h)
{
    struct h2_event *e;
    list_each(e, &h->events, struct h2_event, node)
        event_free(e);
    struct h2_stream *st;
    list_each(st, &h->streams, struct h2_stream, node)
        h2_stream_free(st);
    nghttp2_session_del(h->session);
    h->conn = conn_close(h->conn);
    free(h->why);
    free(h);
}

static void flooded(struct h2 *h)
{
    h2_fail_telling(h, H2_ENHANCE_YOUR_CALM, ERR_EXHAUSTED, h->guard.flood);
}

static void work(void *arg)
{
    struct h2 *h = arg;
    h->working = true;
    struct list *node;
    while (!h->freed && (node = list_pop(&h->events)) != NULL) {
        struct h2_event *e = list_entry(node, struct h2_event, node);
        deliver(h, e);
        event_free(e);
    }
    if (!h->freed && !h->dead)
        h2_send_pending(h);
    if (!h->freed && !h->dead && h->guard.flood)
        flooded(h);
    h->working = false;
    if (h->freed)
        destroy(h);
}

/* ---- the connection ---- */

void h2_feed(struct h2 *h, struct str bytes)
{
    if (h->dead)
        return;
    h->last_rx = clock_mono();
    if (h->ending) /* read all the same: a close with bytes unread could take from the peer what it has not read yet */
        return;
    h2_guard_scan(&h->guard, bytes, h->last_rx);
    ssize_t n = h->guard.flood ? 0 : nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes.p, bytes.n);
    if (h->guard.flood) {
        flooded(h);
    } else if (n < 0) {
        h2_send_pending(h);
        h2_fail(h, ERR_UNAVAILABLE, nghttp2_strerror((int)n));
    } else if (h->guard.block_by != USEC_INFINITY) {
        h2_life_wake(h, h->guard.block_by);
    }
    h2_post_work(h);
}

static void on_read(void *arg, const void *p, size_t n)
{
    h2_feed(arg, (struct str){p, n});
}

static void on_eof(void *arg)
{
    struct h2 *h = arg;
    h->peer_closed = true;
    if (!h->ending || conn_queued(h->conn) == 0)
        h2_fail(h, ERR_UNAVAILABLE, "the peer closed the connection");
}

static void on_error(void *arg, const struct err *err)
{
    h2_fail(arg, ERR_UNAVAILABLE, err->msg);
}

static void on_conn_drain(void *arg)
{
    ((struct h2 *)arg)->blocked_at = 0;
    h2_post_work(arg);
}

static const struct conn_handler conn_handler = {on_read, on_eof, on_error, on_conn_drain};

static void session_new(struct h2 *h)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;
    BUG_ON(nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&opt) != 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, cb_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, cb_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(cb, cb_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, cb_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, cb_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, cb_stream_close);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, cb_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, cb_frame_send);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_no_closed_streams(opt, 1);
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(opt, 1); /* gRPC lets blanks pass; they are cut off */
    nghttp2_option_set_stream_reset_rate_limit(opt, RESETS_MAX, RESETS_PER_SEC);
    nghttp2_mem mem = h2_mem_functions(&h->mem);
    h->mem.making = true;
    BUG_ON((h->server ? nghttp2_session_server_new3 : nghttp2_session_client_new3)(&h->session, cb, h, opt, &mem) != 0);
    h->mem.making = false;
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(opt);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, H2_STREAMS_MAX},
                                               {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_HEAD_MAX},
                                               {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
                                               {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    BUG_ON(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, h->server ? 3 : 4) != 0);
    BUG_ON(nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, H2_WINDOW_CONN) != 0);
}

struct h2 *h2_new(struct conn *conn, bool server, const struct h2_handler *handler, void *arg)
{
    struct h2 *h = NEW(struct h2);
    h->conn = conn;
    h->loop = conn_loop(conn);
    h->server = server;
    h->handler = handler;
    h->arg = arg;
    list_init(&h->streams);
    list_init(&h->events);
    task_init(&h->work, work, h);
    h->last_rx = clock_mono();
    h2_guard_init(&h->guard, server, h->last_rx);
    h2_life_init(h);
    session_new(h);
    conn_set_handler(conn, &conn_handler, h);
    conn_read_start(conn);
    h2_post_work(h);
    return h;
}

struct h2 *h2_free(struct h2 *h)
{
    if (!h)
        return NULL;
    task_cancel(&h->work);
    timer_stop(&h->timer);
    if (!h->dead) {
        (void)nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
        h2_send_pending(h);
        task_cancel(&h->work);
    }
    h->dead = h->freed = true;
    timer_stop(&h->timer);
    if (!h->working)
        destroy(h);
    return NULL;
}

void h2_cut(struct h2 *h)
{
    h2_fail(h, ERR_UNAVAILABLE, "the connection was cut");
}

bool h2_alive(const struct h2 *h)
{
    return !h->dead && !h->goaway && !h->draining;
}

struct conn *h2_conn(const struct h2 *h)
{
    return h->conn;
}

size_t h2_streams(const struct h2 *h)
{
    return h->n_streams;
}
