/* SPDX-License-Identifier: Apache-2.0 */
/* h2_stream — heads, and the sending side of streams; see h2.h. */
#include <string.h>

#include "base/mem.h"
#include "net/h2_internal.h"

/* ---- heads ---- */

int h2_fields_add(struct buf *store, struct str name, struct str value)
{
    size_t before = store->len;
    int rc = buf_append_str(store, name);
    if (rc == 0)
        rc = buf_append_byte(store, 0);
    if (rc == 0)
        rc = buf_append_str(store, value);
    if (rc == 0)
        rc = buf_append_byte(store, 0);
    if (rc < 0)
        store->len = before;
    return rc;
}

bool h2_fields_next(const struct buf *store, size_t *at, struct h2_field *ret)
{
    if (*at >= store->len)
        return false;
    ret->name = store->data + *at;
    ret->value = ret->name + strlen(ret->name) + 1;
    *at += strlen(ret->name) + strlen(ret->value) + 2;
    return true;
}

int h2_head_add(struct h2_head *head, struct str name, struct str value)
{
    int rc = h2_fields_add(&head->store, name, value);
    if (rc == 0)
        head->n_fields++;
    return rc;
}

void h2_head_reset(struct h2_head *head)
{
    buf_release(&head->store);
    *head = (struct h2_head){.store = BUF_INIT(2 * H2_HEAD_MAX)};
}

const char *h2_head_get(const struct h2_head *head, const char *name)
{
    struct h2_field f;
    size_t at = 0;
    while (h2_fields_next(&head->store, &at, &f))
        if (strcmp(f.name, name) == 0)
            return f.value;
    return NULL;
}

/* ---- sending ---- */

/* Fields in nghttp2's form; it copies them. */
static size_t nv_from(nghttp2_nv *nv, const struct h2_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        nv[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)fields[i].name, (uint8_t *)(uintptr_t)fields[i].value, strlen(fields[i].name),
                             strlen(fields[i].value), NGHTTP2_NV_FLAG_NONE};
    return n;
}

static int submit_trailers(struct h2_stream *st)
{
    nghttp2_nv nv[H2_TRAILERS_MAX];
    struct h2_field f;
    size_t n = 0, at = 0;
    while (h2_fields_next(&st->trailers.store, &at, &f))
        n += nv_from(&nv[n], &f, 1);
    return nghttp2_submit_trailer(st->h->session, st->id, nv, n);
}

static ssize_t cb_read(nghttp2_session *session, int32_t id, uint8_t *dst, size_t size, uint32_t *flags,
                       nghttp2_data_source *source, void *arg)
{
    (void)session;
    (void)id;
    (void)arg;
    struct h2_stream *st = source->ptr;
    size_t left = st->out.len - st->out_at, n = left < size ? left : size;
    if (n)
        memcpy(dst, st->out.data + st->out_at, n);
    st->out_at += n;
    st->h->queued -= n;
    left -= n;
    if (n && st->finishing)
        st->moved_at = clock_mono();
    if (st->above && left < (st->high ? st->high / 4 : H2_QUEUE_LOW)) {
        st->above = false;
        (void)h2_push(st->h, EV_DRAIN, st);
    }
    if (left == 0) {
        buf_clear(&st->out);
        st->out_at = 0;
        if (st->finishing) {
            *flags |= NGHTTP2_DATA_FLAG_EOF;
            if (st->trailers.n_fields) {
                *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
                if (submit_trailers(st) != 0)
                    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
            }
            return (ssize_t)n;
        }
        if (n == 0) {
            st->deferred = true;
            return NGHTTP2_ERR_DEFERRED;
        }
    }
    return (ssize_t)n;
}

static void resume(struct h2_stream *st)
{
    if (!st->deferred)
        return;
    st->deferred = false;
    (void)nghttp2_session_resume_data(st->h->session, st->id);
    h2_post_work(st->h);
}

/* ---- the interface ---- */

int h2_request(struct h2 *h, const struct h2_field *fields, size_t n, struct h2_stream **ret)
{
    if (!h2_alive(h))
        return -ERR_UNAVAILABLE;
    BUG_ON(n > H2_FIELDS_MAX);
    nghttp2_nv nv[H2_FIELDS_MAX];
    struct h2_stream *st = h2_stream_new(h, 0);
    nghttp2_data_provider provider = {.source.ptr = st, .read_callback = cb_read};
    int32_t id = nghttp2_submit_request(h->session, NULL, nv, nv_from(nv, fields, n), &provider, st);
    if (id < 0) {
        h2_stream_free(st);
        return -ERR_UNAVAILABLE;
    }
    st->id = id;
    h2_post_work(h);
    *ret = st;
    return 0;
}

static int respond(struct h2_stream *st, const struct h2_field *fields, size_t n, bool body)
{
    if (st->closed)
        return -ERR_UNAVAILABLE;
    BUG_ON(n > H2_FIELDS_MAX);
    nghttp2_nv nv[H2_FIELDS_MAX];
    nghttp2_data_provider provider = {.source.ptr = st, .read_callback = cb_read};
    if (nghttp2_submit_response(st->h->session, st->id, nv, nv_from(nv, fields, n), body ? &provider : NULL) != 0)
        return -ERR_UNAVAILABLE;
    h2_post_work(st->h);
    return 0;
}

int h2_respond(struct h2_stream *st, const struct h2_field *fields, size_t n)
{
    return respond(st, fields, n, true);
}

int h2_respond_end(struct h2_stream *st, const struct h2_field *fields, size_t n)
{
    return respond(st, fields, n, false);
}

int h2_write(struct h2_stream *st, struct str bytes)
{
    if (st->closed || st->finishing)
        return -ERR_UNAVAILABLE;
    if (st->out_at >= 64 * 1024 && st->out_at >= st->out.len / 2) {
        buf_consume(&st->out, st->out_at);
        st->out_at = 0;
    }
    if (h2_queued(st) + bytes.n > H2_QUEUE_MAX || st->h->queued + bytes.n > H2_QUEUE_CONN_MAX)
        return -ERR_EXHAUSTED;
    BUG_ON(buf_append_str(&st->out, bytes) < 0);
    st->h->queued += bytes.n;
    if (st->out.len - st->out_at > (st->high ? st->high : H2_QUEUE_HIGH))
        st->above = true;
    resume(st);
    return 0;
}

void h2_set_high(struct h2_stream *st, size_t high)
{
    st->high = high;
}

void h2_finish(struct h2_stream *st, const struct h2_field *trailers, size_t n)
{
    if (st->closed || st->finishing)
        return;
    BUG_ON(n > H2_TRAILERS_MAX);
    for (size_t i = 0; i < n; i++)
        (void)!h2_head_add(&st->trailers, str_from(trailers[i].name), str_from(trailers[i].value));
    st->finishing = true;
    st->moved_at = clock_mono();
    if (st->h->server && h2_queued(st))
        h2_life_wake(st->h, st->moved_at + H2_STALL_MAX);
    resume(st);
}

void h2_reset(struct h2_stream *st, enum h2_code code)
{
    st->released = true;
    st->user = NULL;
    if (st->closed)
        return;
    (void)nghttp2_submit_rst_stream(st->h->session, NGHTTP2_FLAG_NONE, st->id, (uint32_t)code);
    h2_post_work(st->h);
}

void h2_release(struct h2_stream *st)
{
    st->released = true;
    st->user = NULL;
}

void h2_consume(struct h2_stream *st, size_t n)
{
    if (st->closed || n == 0)
        return;
    (void)nghttp2_session_consume_stream(st->h->session, st->id, n);
    h2_post_work(st->h);
}

size_t h2_queued(const struct h2_stream *st)
{
    return st->out.len - st->out_at;
}

void h2_set_user(struct h2_stream *st, void *user)
{
    st->user = user;
}

void *h2_user(const struct h2_stream *st)
{
    return st->user;
}
