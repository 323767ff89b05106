/* SPDX-License-Identifier: Apache-2.0 */
/* ws — see ws.h: the connection, of either side, and the handshake of the server's. */
#include <openssl/evp.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/ws_internal.h"

enum { SHA1_SIZE = 20, REASON_MAX = WS_CONTROL_MAX - 2, REPLY_MAX = 1024 };

#define LINGER_MAX USEC_SEC /* for the peer to end its side when it has all of ours */

enum ws_state {
    WS_OPEN,
    WS_CLOSING, /* our Close is out, the peer's awaited; its messages are passed over */
    WS_SHUT,    /* both are out: the end of the bytes is awaited */
    WS_OVER
};

struct ws {
    struct conn *conn;
    const struct ws_handler *handler;
    void *arg;
    enum ws_state state;
    struct ws_reader reader;
    struct timer timer;
    bool client; /* what we send is masked, what comes is not */
    bool asked;  /* a ping is out */
    bool held;
    uint64_t sent;    /* by then, when the last look found that too much waits */
    bool told;        /* on_close */
    struct task gone; /* tells on_gone */
    bool *freed;      /* set by ws_free while a callback runs */
};

/* ---- handshake ---- */

bool ws_wanted(const struct http_head *head)
{
    return strcmp(head->method, "GET") == 0 && head->upgrade && http_lists(head, "upgrade", STR("websocket"), str_eq_ci);
}

/* Browsers name the page's origin; what is not a browser does not. A page that came by plain HTTP is not of the host that speaks TLS. */
static bool origin_allowed(const struct http_head *head, bool tls, const char *const *origins, size_t n_origins)
{
    if (!http_field(head, "origin"))
        return true;
    const char *origin = http_field_once(head, "origin"), *host = http_field_once(head, "host");
    if (!origin)
        return false;
    for (size_t i = 0; i < n_origins; i++)
        if (str_eq_ci(str_from(origin), str_from(origins[i])))
            return true;
    struct str o = str_from(origin), https = STR("https://"), http = STR("http://"), scheme = str_starts(o, https) ? https : http;
    if (!host || !str_starts(o, scheme) || (tls && scheme.n != https.n))
        return false;
    return str_eq_ci((struct str){o.p + scheme.n, o.n - scheme.n}, str_from(host));
}

int ws_check(const struct http_head *head, bool tls, const char *protocol, const char *const *origins, size_t n_origins,
             int *ret_status, struct err *err)
{
    uint8_t key[WS_KEY_SIZE + 2];
    size_t n = 0;
    const char *text = http_field_once(head, "sec-websocket-key"), *version = http_field_once(head, "sec-websocket-version");
    *ret_status = 400;
    if (!ws_wanted(head) || head->minor != 1 || head->chunked || (head->has_length && head->length))
        return err_set(err, ERR_INVALID, "this is no handshake of a WebSocket");
    if (!version || strcmp(version, "13") != 0) {
        *ret_status = 426;
        return err_set(err, ERR_UNIMPLEMENTED, "only version 13 of WebSocket is spoken here");
    }
    if (!text || strlen(text) != 24 || str_unbase64(str_from(text), key, sizeof(key), &n) < 0 || n != WS_KEY_SIZE)
        return err_set(err, ERR_INVALID, "sec-websocket-key is not 16 bytes in base64");
    if (!http_lists(head, "sec-websocket-protocol", str_from(protocol), str_eq))
        return err_set(err, ERR_INVALID, "the sub-protocol %s is not offered", protocol);
    if (!origin_allowed(head, tls, origins, n_origins)) {
        *ret_status = 403;
        return err_set(err, ERR_DENIED, "pages of this origin may not connect");
    }
    return 0;
}

char *ws_proof(const char *key)
{
    uint8_t digest[SHA1_SIZE];
    size_t n = 0;
    AUTO_FREE char *text = str_printf("%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    BUG_ON(EVP_Q_digest(NULL, "SHA1", NULL, text, strlen(text), digest, &n) != 1 || n != sizeof(digest));
    return str_base64(digest, n);
}

/* 101, with the proof that the key was read. */
static int answer(struct conn *c, const char *key, const char *protocol)
{
    AUTO_FREE char *proof = ws_proof(key);
    AUTO_BUF out = BUF_INIT(REPLY_MAX);
    int rc =
        buf_printf(&out,
                   "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: %s\r\n"
                   "sec-websocket-protocol: %s\r\n\r\n",
                   proof, protocol);
    return rc < 0 ? rc : conn_write(c, out.data, out.len);
}

/* ---- ending ---- */

/* The callback may free @ws: has it? */
static bool tell_close(struct ws *ws, enum ws_code code)
{
    bool freed = false;
    if (ws->told)
        return false;
    ws->told = true;
    ws->freed = &freed;
    ws->handler->on_close(ws->arg, code);
    if (!freed)
        ws->freed = NULL;
    return freed;
}

/* Nothing comes and nothing goes any more. */
static void broken(struct ws *ws)
{
    if (ws->state == WS_OVER)
        return;
    ws->state = WS_OVER;
    timer_stop(&ws->timer);
    conn_read_stop(ws->conn);
    conn_set_handler(ws->conn, NULL, NULL);
    if (!tell_close(ws, WS_ABNORMAL))
        loop_post(conn_loop(ws->conn), &ws->gone);
}

static void on_gone(void *arg)
{
    struct ws *ws = arg;
    ws->handler->on_gone(ws->arg);
}

struct ws *ws_free(struct ws *ws)
{
    if (!ws)
        return NULL;
    if (ws->freed)
        *ws->freed = true;
    timer_stop(&ws->timer);
    task_cancel(&ws->gone);
    ws->conn = conn_close(ws->conn);
    ws_reader_release(&ws->reader);
    free(ws);
    return NULL;
}

/* ---- sending ---- */

/* Masks are new for each frame and not to be guessed. */
static int write_masked(struct ws *ws, const uint8_t mask[WS_MASK_SIZE], struct str bytes)
{
    AUTO_BUF copy = BUF_INIT(bytes.n);
    int rc = buf_append_str(&copy, bytes);
    if (rc < 0)
        return rc;
    ws_frame_mask(mask, (uint8_t *)copy.data, copy.len);
    return conn_write(ws->conn, copy.data, copy.len);
}

static int send_frame(struct ws *ws, enum ws_opcode opcode, struct str bytes)
{
    uint8_t head[WS_HEAD_MAX], mask[WS_MASK_SIZE];
    if (ws->client)
        rng_bytes(mask, sizeof(mask));
    size_t n = ws_frame_head(opcode, bytes.n, ws->client ? mask : NULL, head);
    if (n + bytes.n > STREAM_QUEUE_MAX - conn_queued(ws->conn))
        return -(int)ERR_EXHAUSTED;
    int rc = conn_write(ws->conn, head, n);
    if (rc == 0 && bytes.n)
        rc = ws->client ? write_masked(ws, mask, bytes) : conn_write(ws->conn, bytes.p, bytes.n);
    return rc == 0 ? 0 : -(int)ERR_UNAVAILABLE;
}

int ws_send(struct ws *ws, struct str bytes)
{
    return ws->state == WS_OPEN ? send_frame(ws, WS_BINARY, bytes) : -(int)ERR_UNAVAILABLE;
}

size_t ws_queued(const struct ws *ws)
{
    return conn_queued(ws->conn);
}

struct conn *ws_conn(const struct ws *ws)
{
    return ws->conn;
}

static void update_reading(struct ws *ws)
{
    bool closing = ws->state == WS_CLOSING || ws->state == WS_SHUT;
    if (closing || (ws->state == WS_OPEN && !ws->held && conn_writable(ws->conn)))
        conn_read_start(ws->conn);
    else
        conn_read_stop(ws->conn);
}

/* Reading may go on: what it was asked while nothing was read it may answer yet. */
static void read_again(struct ws *ws)
{
    if (ws->state == WS_OPEN) {
        ws->asked = false;
        timer_set(&ws->timer, WS_PING_AFTER);
    }
    update_reading(ws);
}

void ws_hold(struct ws *ws, bool held)
{
    if (ws->held == held)
        return;
    ws->held = held;
    read_again(ws);
}

/* @code WS_NO_CODE: a Close without one. */
static void send_close(struct ws *ws, enum ws_code code, struct str reason)
{
    uint8_t payload[WS_CONTROL_MAX] = {(uint8_t)((unsigned)code >> 8), (uint8_t)code};
    size_t n = reason.n < REASON_MAX ? reason.n : REASON_MAX;
    if (n)
        memcpy(payload + 2, reason.p, n);
    if (send_frame(ws, WS_CLOSE, (struct str){(const char *)payload, code == WS_NO_CODE ? 0 : n + 2}) < 0)
        conn_shutdown(ws->conn); /* no room for it: the peer sees an end without it */
    timer_set(&ws->timer, WS_CLOSE_MAX);
}

void ws_close(struct ws *ws, enum ws_code code, const char *reason)
{
    if (ws->state != WS_OPEN)
        return;
    ws->state = WS_CLOSING;
    ws->told = true;
    send_close(ws, code, str_from(reason));
    update_reading(ws);
}

/* ---- receiving ---- */

static void shut(struct ws *ws)
{
    ws->state = WS_SHUT;
    conn_shutdown(ws->conn);
    timer_set(&ws->timer, conn_queued(ws->conn) ? WS_CLOSE_MAX : LINGER_MAX);
    update_reading(ws);
}

/* The peer closes, or broke the rules (@fault). */
static bool closes(struct ws *ws, enum ws_code fault, const char *reason)
{
    enum ws_code code = fault ? fault : ws_close_code(ws->reader.control, ws->reader.n_control);
    if (ws->state == WS_OPEN)
        send_close(ws, code, str_from(reason));
    shut(ws);
    return tell_close(ws, fault ? WS_ABNORMAL : code);
}

static bool give_message(struct ws *ws, int kind)
{
    bool freed = false;
    if (ws->state != WS_OPEN)
        return false;
    ws->freed = &freed;
    ws->handler->on_message(ws->arg, kind == WS_TEXT, buf_str(&ws->reader.message));
    if (!freed)
        ws->freed = NULL;
    return freed;
}

/* One event of the reader's. Is @ws gone? */
static bool handle(struct ws *ws, int event, const struct err *err)
{
    if (event < 0)
        return closes(ws, ws->reader.fault, err->msg);
    switch (event) {
    case WS_TEXT:
    case WS_BINARY: return give_message(ws, event);
    case WS_CLOSE: return closes(ws, 0, NULL);
    case WS_PING:
        if (ws->state == WS_OPEN)
            (void)!send_frame(ws, WS_PONG, (struct str){(const char *)ws->reader.control, ws->reader.n_control});
        return false;
    default: return false; /* a pong was a sign of life, as every byte is */
    }
}

static void on_conn_read(void *arg, const void *p, size_t n)
{
    struct ws *ws = arg;
    struct str rest = {p, n};
    ws->asked = false;
    if (ws->state == WS_OPEN)
        timer_set(&ws->timer, WS_PING_AFTER);
    while (rest.n && (ws->state == WS_OPEN || ws->state == WS_CLOSING)) {
        struct err err = ERR_INIT;
        size_t used = 0;
        int event = ws_reader_feed(&ws->reader, rest, &used, &err);
        rest = (struct str){rest.p + used, rest.n - used};
        if (handle(ws, event, &err))
            return;
    }
    if (ws->state == WS_OPEN)
        update_reading(ws);
}

static void on_conn_eof(void *arg)
{
    broken(arg);
}

static void on_conn_error(void *arg, const struct err *err)
{
    (void)err;
    broken(arg);
}

static void on_conn_drain(void *arg)
{
    struct ws *ws = arg;
    bool freed = false;
    if (ws->state == WS_OPEN) {
        ws->freed = &freed;
        ws->handler->on_drain(ws->arg);
        if (freed)
            return;
        ws->freed = NULL;
    }
    read_again(ws);
}

static const struct conn_handler conn_handler = {on_conn_read, on_conn_eof, on_conn_error, on_conn_drain};

/* Silent for long, does not take what waits for it, or too long in closing. */
static void on_timer(void *arg)
{
    struct ws *ws = arg;
    uint64_t sent = conn_bytes_out(ws->conn);
    bool writable = conn_writable(ws->conn);
    if (ws->state != WS_OPEN || ws->asked || (!writable && ws->sent == sent)) {
        broken(ws);
        return;
    }
    ws->sent = writable ? UINT64_MAX : sent;
    if (writable && !ws->held)
        ws->asked = send_frame(ws, WS_PING, STR("")) == 0;
    timer_set(&ws->timer, ws->asked ? WS_DEAD_AFTER : WS_PING_AFTER);
}

struct ws *ws_on(struct conn *c, bool client, size_t message_max, const struct ws_handler *h, void *arg)
{
    struct ws *ws = NEW(struct ws);
    ws->conn = c;
    ws->client = client;
    ws->handler = h;
    ws->arg = arg;
    ws->sent = UINT64_MAX;
    ws_reader_init(&ws->reader, message_max);
    ws->reader.plain = client;
    timer_init(&ws->timer, conn_loop(c), on_timer, ws);
    task_init(&ws->gone, on_gone, ws);
    conn_set_handler(c, &conn_handler, ws);
    timer_set(&ws->timer, WS_PING_AFTER);
    conn_read_start(c);
    return ws;
}

struct ws *ws_accept(struct http_call *call, const char *protocol, size_t message_max, const struct ws_handler *h, void *arg)
{
    AUTO_FREE char *key = str_dup(str_from(http_field(http_call_head(call), "sec-websocket-key")));
    struct conn *c = http_call_take_conn(call);
    if (!c)
        return NULL;
    if (answer(c, key, protocol) < 0) {
        (void)conn_close(c);
        return NULL;
    }
    return ws_on(c, false, message_max, h, arg);
}
