/* SPDX-License-Identifier: Apache-2.0 */
/* ws_frame — see ws_frame.h. */
#include "net/ws_frame.h"

#include <string.h>

enum { FIN = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASK = 0x80, LENGTH = 0x7f, PIECE = 16 * 1024 };

/* ---- UTF-8 ---- */

static int lead(struct ws_utf8 *u, uint8_t c)
{
    if (c < 0x80)
        return 0;
    if (c < 0xc2 || c > 0xf4)
        return -ERR_INVALID;
    u->need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    u->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;  /* shortest form */
    u->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf; /* no surrogates, nothing over U+10FFFF */
    return 0;
}

int ws_utf8_add(struct ws_utf8 *u, struct str bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        uint8_t c = (uint8_t)bytes.p[i];
        if (!u->need) {
            if (lead(u, c) < 0)
                return -ERR_INVALID;
            continue;
        }
        if (c < u->low || c > u->high)
            return -ERR_INVALID;
        u->need--;
        u->low = 0x80;
        u->high = 0xbf;
    }
    return 0;
}

/* ---- reading ---- */

void ws_reader_init(struct ws_reader *r, size_t message_max)
{
    *r = (struct ws_reader){.message = BUF_INIT(message_max)};
}

void ws_reader_release(struct ws_reader *r)
{
    buf_release(&r->message);
}

static int fail(struct ws_reader *r, enum ws_code code, const char *why, struct err *err)
{
    r->fault = code;
    return err_set(err, code == WS_TOO_BIG ? ERR_EXHAUSTED : ERR_INVALID, "WebSocket: %s", why);
}

static enum ws_opcode opcode(const struct ws_reader *r)
{
    return r->head[0] & OPCODE;
}

static bool is_control(enum ws_opcode o)
{
    return o >= WS_CLOSE;
}

/* Bytes of the head, as far as it can be told from those that are there. */
static size_t head_size(const struct ws_reader *r)
{
    if (r->n_head < 2)
        return 2;
    unsigned length = r->head[1] & LENGTH;
    return 2 + (length == 126 ? 2u : length == 127 ? 8u : 0u) + (r->plain ? 0u : WS_MASK_SIZE);
}

/* What the first two bytes say, before more is awaited. */
static int check_start(struct ws_reader *r, struct err *err)
{
    enum ws_opcode o = opcode(r);
    bool fin = r->head[0] & FIN;
    if (r->head[0] & RESERVED)
        return fail(r, WS_PROTOCOL, "a reserved bit is set", err);
    if ((o > WS_BINARY && o < WS_CLOSE) || o > WS_PONG)
        return fail(r, WS_PROTOCOL, "unknown opcode", err);
    if (!(r->head[1] & MASK) != r->plain)
        return fail(r, WS_PROTOCOL, r->plain ? "a frame with a mask" : "a frame without a mask", err);
    if (is_control(o) && (!fin || (r->head[1] & LENGTH) > WS_CONTROL_MAX))
        return fail(r, WS_PROTOCOL, "a control frame that is fragmented or too long", err);
    if (o == WS_CONTINUATION && !r->fragmented)
        return fail(r, WS_PROTOCOL, "a continuation of nothing", err);
    if ((o == WS_TEXT || o == WS_BINARY) && r->fragmented)
        return fail(r, WS_PROTOCOL, "a message inside a message", err);
    return 0;
}

static int take_length(struct ws_reader *r, struct err *err)
{
    unsigned length = r->head[1] & LENGTH;
    size_t n = length == 126 ? 2 : length == 127 ? 8 : 0;
    uint64_t v = n ? 0 : length;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | r->head[2 + i];
    if ((n == 2 && v < 126) || (n == 8 && v < 65536) || v >> 63)
        return fail(r, WS_PROTOCOL, "a length not in its shortest form", err);
    enum ws_opcode o = opcode(r);
    if (o == WS_TEXT || o == WS_BINARY) {
        r->text = o == WS_TEXT;
        r->utf8 = (struct ws_utf8){0};
        r->fragmented = true;
    }
    if (!is_control(o) && v > r->message.max - r->message.len)
        return fail(r, WS_TOO_BIG, "a message over the limit", err);
    r->left = v;
    r->at = 0;
    r->n_control = is_control(o) ? 0 : r->n_control;
    r->in_payload = true;
    return 0;
}

static size_t take_head(struct ws_reader *r, struct str bytes, int *ret_rc, struct err *err)
{
    size_t used = 0;
    while (used < bytes.n && !r->in_payload && *ret_rc == 0) {
        r->head[r->n_head++] = (uint8_t)bytes.p[used++];
        if (r->n_head == 2)
            *ret_rc = check_start(r, err);
        if (*ret_rc == 0 && r->n_head >= 2 && r->n_head == head_size(r))
            *ret_rc = take_length(r, err);
    }
    return used;
}

static void take_bytes(struct ws_reader *r, const char *from, size_t n, uint8_t *to)
{
    const uint8_t *mask = r->head + r->n_head - WS_MASK_SIZE;
    for (size_t i = 0; i < n; i++)
        to[i] = r->plain ? (uint8_t)from[i] : (uint8_t)from[i] ^ mask[(r->at + i) % WS_MASK_SIZE];
    r->at += n;
    r->left -= n;
}

/* Pieces, so that memory grows with what came and not with what was announced. */
static size_t take_payload(struct ws_reader *r, struct str bytes, int *ret_rc, struct err *err)
{
    size_t used = 0;
    while (used < bytes.n && r->left && *ret_rc == 0) {
        size_t n = bytes.n - used < r->left ? bytes.n - used : (size_t)r->left;
        if (is_control(opcode(r))) {
            take_bytes(r, bytes.p + used, n, r->control + r->n_control);
            r->n_control += n;
        } else {
            n = n < PIECE ? n : PIECE;
            uint8_t *to = buf_reserve(&r->message, n);
            if (!to) {
                *ret_rc = fail(r, WS_TOO_BIG, "a message over the limit", err);
                break;
            }
            take_bytes(r, bytes.p + used, n, to);
            buf_commit(&r->message, n);
            if (r->text && ws_utf8_add(&r->utf8, (struct str){(const char *)to, n}) < 0)
                *ret_rc = fail(r, WS_BAD_DATA, "text that is not UTF-8", err);
        }
        used += n;
    }
    return used;
}

static bool may_be_sent(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static int check_close(struct ws_reader *r, struct err *err)
{
    if (r->n_control == 0)
        return WS_CLOSE;
    if (r->n_control == 1 || !may_be_sent((unsigned)r->control[0] << 8 | r->control[1]))
        return fail(r, WS_PROTOCOL, "a close code that nobody may send", err);
    if (!str_is_utf8((struct str){(const char *)r->control + 2, r->n_control - 2}))
        return fail(r, WS_BAD_DATA, "the reason of a close is not UTF-8", err);
    return WS_CLOSE;
}

/* The frame is complete: the opcode of what it completes, or 0. */
static int end_frame(struct ws_reader *r, struct err *err)
{
    enum ws_opcode o = opcode(r);
    bool fin = r->head[0] & FIN;
    r->n_head = 0;
    r->in_payload = false;
    if (o == WS_CLOSE)
        return check_close(r, err);
    if (is_control(o))
        return (int)o;
    if (!fin)
        return 0;
    if (r->text && r->utf8.need)
        return fail(r, WS_BAD_DATA, "text that ends inside a character", err);
    r->fragmented = false;
    r->done = true;
    return r->text ? WS_TEXT : WS_BINARY;
}

int ws_reader_feed(struct ws_reader *r, struct str bytes, size_t *ret_used, struct err *err)
{
    int rc = 0;
    *ret_used = 0;
    if (r->fault)
        return fail(r, r->fault, "broken before", err);
    if (r->done) {
        buf_clear(&r->message);
        r->done = false;
    }
    while (rc == 0 && *ret_used < bytes.n) {
        *ret_used += take_head(r, (struct str){bytes.p + *ret_used, bytes.n - *ret_used}, &rc, err);
        if (rc < 0 || !r->in_payload)
            break;
        *ret_used += take_payload(r, (struct str){bytes.p + *ret_used, bytes.n - *ret_used}, &rc, err);
        if (rc < 0 || r->left)
            break;
        rc = end_frame(r, err);
    }
    return rc;
}

enum ws_code ws_close_code(const uint8_t *payload, size_t n)
{
    return n < 2 ? WS_NO_CODE : (enum ws_code)(payload[0] << 8 | payload[1]);
}

/* ---- writing ---- */

size_t ws_frame_head(enum ws_opcode o, uint64_t n, const uint8_t *mask, uint8_t dst[WS_HEAD_MAX])
{
    size_t bytes = n < 126 ? 0 : n < 65536 ? 2 : 8;
    unsigned masked = mask ? MASK : 0;
    dst[0] = (uint8_t)(FIN | (unsigned)o);
    dst[1] = (uint8_t)((bytes == 0 ? (unsigned)n : bytes == 2 ? 126u : 127u) | masked);
    for (size_t i = 0; i < bytes; i++)
        dst[2 + i] = (uint8_t)(n >> (8 * (bytes - 1 - i)));
    if (mask)
        memcpy(dst + 2 + bytes, mask, WS_MASK_SIZE);
    return 2 + bytes + (mask ? (size_t)WS_MASK_SIZE : 0);
}

void ws_frame_mask(const uint8_t mask[WS_MASK_SIZE], uint8_t *payload, size_t n)
{
    for (size_t i = 0; i < n; i++)
        payload[i] ^= mask[i % WS_MASK_SIZE];
}
