/* SPDX-License-Identifier: Apache-2.0 */
/* post — a request of a channel that is no call: one body there, one back. For what has to be asked before a call can be made. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/client_internal.h"

void post_head(struct rpc_stream *s, struct h2_head *head, bool end)
{
    if (!s->got_head)
        (void)str_copy(s->http_status, sizeof(s->http_status), str_from(h2_head_get(head, ":status")));
    s->got_head = true;
    if (end)
        post_end(s);
}

void post_data(struct rpc_stream *s, struct h2_stream *st, struct str bytes)
{
    if (buf_append_str(s->post, bytes) < 0)
        stream_fail(s, ERR_EXHAUSTED, "the answer is over the limit of %zu bytes", s->post->max);
    else
        h2_consume(st, bytes.n);
}

void post_end(struct rpc_stream *s)
{
    if (s->over)
        return;
    h2_release(s->st);
    stream_end(s);
}

static int begin(struct rpc_stream *s, const char *path, const char *content_type, struct str body, struct err *err)
{
    AUTO_FREE char *length = str_printf("%zu", body.n);
    const struct h2_field fields[] = {{":method", "POST"},
                                      {":scheme", s->ch->tls ? "https" : "http"},
                                      {":authority", s->ch->authority},
                                      {":path", path},
                                      {"content-type", content_type},
                                      {"content-length", length},
                                      {"accept", "application/json"},
                                      {"user-agent", "davit/" DAVIT_VERSION}};
    if (!s->ch->now || h2_request(s->ch->now->h2, fields, ARRAY_LEN(fields), &s->st) < 0)
        return err_set(err, ERR_UNAVAILABLE, "the connection takes no new requests");
    h2_set_user(s->st, s);
    if (h2_write(s->st, body) < 0)
        return err_set(err, ERR_UNAVAILABLE, "the connection takes no more");
    h2_finish(s->st, NULL, 0);
    return 0;
}

static int finish(struct rpc_stream *s, usec_t deadline, unsigned *ret_status, struct err *err)
{
    uint64_t status = 0;
    int rc = 0;
    while (!s->over && rc == 0) {
        event_reset(&s->readable);
        rc = event_wait(&s->readable, deadline);
    }
    if (rc < 0)
        return err_set(err, (enum err_code) - rc, "no answer came in time");
    if (s->status.code) {
        if (err)
            *err = s->status;
        return -(int)s->status.code;
    }
    if (str_to_u64(str_from(s->http_status), 599, &status) < 0)
        return err_set(err, ERR_INTERNAL, "the answer has no status");
    *ret_status = (unsigned)status;
    return 0;
}

int rpc_channel_post(struct rpc_channel *ch, const char *path, const char *content_type, struct str body, usec_t deadline, unsigned *ret_status,
                     struct buf *out, struct err *err)
{
    if (ch->http)
        return err_set(err, ERR_UNIMPLEMENTED, "there are no posts where calls are WebSockets");
    struct rpc_stream *s = NEW(struct rpc_stream);
    s->ch = ch;
    s->post = out;
    s->deadline = deadline;
    frames_init(&s->in);
    event_init(&s->readable, ch->loop);
    event_init(&s->room, ch->loop);
    timer_init(&s->timer, ch->loop, stream_on_deadline, s);
    list_init(&s->node);
    list_push(&ch->streams, &s->node);
    int rc = begin(s, path, content_type, body, err);
    if (rc == 0)
        rc = finish(s, deadline, ret_status, err);
    (void)rpc_stream_close(s);
    return rc;
}
