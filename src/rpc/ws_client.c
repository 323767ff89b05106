/* SPDX-License-Identifier: Apache-2.0 */
/* ws_client — calls over a WebSocket each, the mirror of ws_server.c: one envelope of Connect in each message, binary, until the peer's last
 * says how the call ended. What refuses the handshake with Connect's JSON is that failure; other answers are those of something between.
 * A call that is over leaves its connection to the channel, for the closing handshake. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/client_internal.h"
#include "rpc/status.h"

enum { HELD_MAX = 1024 * 1024, OWN_FIELDS = 4 };

_Static_assert(OWN_FIELDS + RPC_META_FIELDS_MAX <= 61, "the fields of a handshake fit with ws_dial's own");

struct ws_out {
    struct list node; /* in channel->sockets */
    struct ws *ws;
    struct rpc_stream *stream; /* NULL: over; what remains is the closing */
    bool held;
};

static void out_free(struct ws_out *o)
{
    list_remove(&o->node);
    o->ws = ws_free(o->ws);
    free(o);
}

/* ---- what comes ---- */

static void ended(struct rpc_stream *s, struct str json)
{
    struct err status = ERR_INIT;
    struct buf trailer = BUF_INIT(H2_HEAD_MAX);
    if (connect_read_end(json, &status, &trailer) < 0) {
        buf_release(&trailer);
        stream_fail(s, ERR_INTERNAL, "the end of the call is malformed");
        return;
    }
    s->told = true;
    rpc_meta_release(&s->trailer);
    s->trailer.store = trailer;
    s->status = status;
    const char *hint = rpc_meta_get(&s->trailer, "davit-hint", 0);
    if (status.code && hint) {
        char text[ERR_HINT_MAX];
        status_unescape(hint, text, sizeof(text));
        err_hint(&s->status, "%s", text);
    }
    stream_end(s);
}

static void on_message(void *arg, bool text, struct str bytes)
{
    struct ws_out *o = arg;
    struct rpc_stream *s = o->stream;
    struct err err = ERR_INIT;
    if (!s)
        return;
    if (text || bytes.n < FRAMES_PREFIX || frames_length((const uint8_t *)bytes.p) != bytes.n - FRAMES_PREFIX) {
        stream_fail(s, ERR_INTERNAL, "a message that is not one envelope");
        return;
    }
    if ((uint8_t)*bytes.p == FRAMES_END) {
        ended(s, (struct str){bytes.p + FRAMES_PREFIX, bytes.n - FRAMES_PREFIX});
        return;
    }
    if (frames_add(&s->in, bytes, &err) < 0) {
        stream_fail(s, err.code, "%s", err.msg);
        return;
    }
    o->held = frames_waiting(&s->in) > HELD_MAX;
    ws_hold(o->ws, o->held);
    event_signal(&s->readable);
}

static void on_drain(void *arg)
{
    struct ws_out *o = arg;
    if (o->stream)
        event_signal(&o->stream->room);
}

static void on_close(void *arg, enum ws_code code)
{
    struct ws_out *o = arg;
    if (!o->stream)
        return;
    if (code == WS_ABNORMAL || code == WS_GOING_AWAY)
        stream_fail(o->stream, ERR_UNAVAILABLE, "the connection was lost");
    else if (code == WS_TOO_BIG)
        stream_fail(o->stream, ERR_EXHAUSTED, "the message is over the peer's limit");
    else
        stream_fail(o->stream, ERR_UNAVAILABLE, "the peer closed the connection (WebSocket code %d)", (int)code);
}

static void on_gone(void *arg)
{
    struct ws_out *o = arg;
    if (o->stream)
        stream_fail(o->stream, ERR_UNAVAILABLE, "the connection was lost");
    out_free(o);
}

static const struct ws_handler handler = {on_message, on_drain, on_close, on_gone};

/* ---- what client.c and channel.c need ---- */

int ws_out_send(struct ws_out *o, struct str envelope)
{
    return ws_send(o->ws, envelope);
}

size_t ws_out_queued(const struct ws_out *o)
{
    return ws_queued(o->ws);
}

void ws_out_finish(struct ws_out *o)
{
    uint8_t end[FRAMES_PREFIX + 2] = {[FRAMES_PREFIX] = '{', '}'};
    if (!o->stream->method->client_streams) /* the one message said it */
        return;
    frames_prefix(2, FRAMES_END, end);
    if (ws_send(o->ws, (struct str){(const char *)end, sizeof(end)}) < 0)
        stream_fail(o->stream, ERR_UNAVAILABLE, "the end of the request could not be sent");
}

void ws_out_taken(struct ws_out *o)
{
    if (!o->held || frames_waiting(&o->stream->in) > HELD_MAX)
        return;
    o->held = false;
    ws_hold(o->ws, false);
}

void ws_out_release(struct ws_out *o)
{
    o->stream = NULL;
    ws_hold(o->ws, false);
    ws_close(o->ws, WS_NORMAL, "");
}

void ws_out_cut_all(struct rpc_channel *ch)
{
    struct list *node;
    while ((node = ch->sockets.next) != &ch->sockets)
        out_free(list_entry(node, struct ws_out, node));
}

/* ---- the beginning ---- */

/* An answer that is no WebSocket, as a failure of the call. */
static int refused(const struct ws_refusal *r, struct err *err)
{
    struct err told = ERR_INIT;
    char status[8];
    if (r->json && connect_read_error(buf_str(&r->body), &told) == 0) {
        if (r->hint[0]) {
            char text[ERR_HINT_MAX];
            status_unescape(r->hint, text, sizeof(text));
            err_hint(&told, "%s", text);
        }
        if (err)
            *err = told;
        return -(int)told.code;
    }
    (void)snprintf(status, sizeof(status), "%d", r->status);
    return err_set(err, status_from_http(status), "HTTP status %d in place of a WebSocket", r->status);
}

static size_t fields_of(const struct rpc_stream *s, const struct meta_out *meta, char *timeout, size_t timeout_size,
                        struct http_field fields[OWN_FIELDS + RPC_META_FIELDS_MAX])
{
    struct h2_field own[RPC_META_FIELDS_MAX];
    size_t n = 0;
    fields[n++] = (struct http_field){"user-agent", "davit/" DAVIT_VERSION};
    fields[n++] = (struct http_field){"connect-protocol-version", "1"};
    if (s->deadline != USEC_INFINITY) {
        usec_t now = clock_mono(), ms = s->deadline > now ? (s->deadline - now) / USEC_MSEC + 1 : 1;
        (void)snprintf(timeout, timeout_size, "%" PRIu64, (uint64_t)(ms < 9999999999u ? ms : 9999999999u));
        fields[n++] = (struct http_field){"connect-timeout-ms", timeout};
    }
    size_t n_own = meta_fields(meta, own, 0);
    for (size_t i = 0; i < n_own; i++)
        fields[n++] = (struct http_field){own[i].name, own[i].value};
    return n;
}

int ws_out_open(struct rpc_stream *s, const char *service, const struct meta_out *meta, struct err *err)
{
    AUTO_FREE char *target = str_printf("/%s/%s?encoding=proto", service, s->method->name);
    CLEANUP(ws_refusal_release) struct ws_refusal refusal = {0};
    struct http_field fields[OWN_FIELDS + RPC_META_FIELDS_MAX];
    struct rpc_channel *ch = s->ch;
    char timeout[16];
    struct ws_request req = {.target = target,
                             .protocol = RPC_WS_PROTOCOL,
                             .fields = fields,
                             .n_fields = fields_of(s, meta, timeout, sizeof(timeout), fields),
                             .message_max = RPC_MESSAGE_MAX + FRAMES_PREFIX};
    struct ws_out *o = NEW(struct ws_out);
    usec_t limit = deadline_in(RPC_OPEN_WAIT);
    list_init(&o->node);
    ch->refs++;
    int rc = ws_dial(ch->http, &req, &handler, o, s->deadline < limit ? s->deadline : limit, &o->ws, &refusal, err);
    if (rc == 1)
        rc = refused(&refusal, err);
    if (rc == 0 && ch->closed)
        rc = err_set(err, ERR_UNAVAILABLE, "the channel was closed");
    if (rc < 0) {
        out_free(o);
    } else {
        list_push(&ch->sockets, &o->node);
        o->stream = s;
        s->out = o;
    }
    channel_unref(ch);
    return rc;
}
