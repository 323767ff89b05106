/* SPDX-License-Identifier: Apache-2.0 */
/* ws_frame — WebSocket frames as either side reads and writes them (RFC 6455 section 5): bytes become messages and control frames, strictly.
 * Refused: frames from a client without a mask and from a server with one, reserved bits and opcodes, lengths not in their shortest form,
 * control frames that are fragmented or over WS_CONTROL_MAX, continuations of nothing, messages over their limit (by what is announced, before
 * memory is taken), text that is not UTF-8
 * (at the first wrong byte), close codes that nobody may send.  Pure.  Thread: any, one at a time.  Input trust: peer. */
#ifndef DAVIT_NET_WS_FRAME_H
#define DAVIT_NET_WS_FRAME_H

#include "base/buf.h"
#include "base/err.h"

enum { WS_CONTROL_MAX = 125, WS_HEAD_MAX = 14, WS_MASK_SIZE = 4 };

enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum ws_code {
    WS_NORMAL = 1000,
    WS_GOING_AWAY = 1001,
    WS_PROTOCOL = 1002,    /* framing broken */
    WS_UNSUPPORTED = 1003, /* a kind of message that is not taken here */
    WS_NO_CODE = 1005,     /* never on the wire: a close frame without one */
    WS_ABNORMAL = 1006,    /* never on the wire: no close frame */
    WS_BAD_DATA = 1007,    /* not UTF-8 */
    WS_POLICY = 1008,
    WS_TOO_BIG = 1009,
    WS_INTERNAL = 1011,
    WS_TRY_LATER = 1013
};

/* UTF-8 across pieces. Zeroed: at the start of a text. */
struct ws_utf8 {
    uint8_t need, low, high; /* bytes that must follow; bounds of the next one */
};
/* 0, or -ERR_INVALID at the first byte that cannot stand there. The text is whole when need is 0. */
int ws_utf8_add(struct ws_utf8 *u, struct str bytes) MUST_USE;

struct ws_reader {
    struct buf message; /* the data message so far */
    bool text;          /* what kind it is */
    uint8_t control[WS_CONTROL_MAX];
    size_t n_control;
    enum ws_code fault; /* after a failure: what to close with */
    bool plain;         /* set by the owner before the first byte: the frames come from a server, without masks */
    /* internal */
    struct ws_utf8 utf8;
    uint8_t head[14];
    size_t n_head;
    bool in_payload, fragmented, done;
    uint64_t left, at; /* of the payload; for the mask */
};

/* Embedded in its owner; ws_reader_release ends it. */
void ws_reader_init(struct ws_reader *r, size_t message_max);
void ws_reader_release(struct ws_reader *r);
/* Consumes bytes up to the end of one message or control frame; *ret_used tells how many. Returns its opcode (WS_TEXT or WS_BINARY: `message`
 * is whole, valid until the next call; WS_CLOSE, WS_PING, WS_PONG: `control`), 0 when all was consumed and more is needed, -ERR_INVALID, or
 * -ERR_EXHAUSTED for a message over the limit. After a failure every further call fails. */
int ws_reader_feed(struct ws_reader *r, struct str bytes, size_t *ret_used, struct err *err) MUST_USE;

/* Code of a close frame's payload that ws_reader_feed let through. */
enum ws_code ws_close_code(const uint8_t *payload, size_t n);
/* Head of an unfragmented frame; @mask: WS_MASK_SIZE bytes of a client's, NULL of a server's. Returns its length. */
size_t ws_frame_head(enum ws_opcode opcode, uint64_t n, const uint8_t *mask, uint8_t dst[WS_HEAD_MAX]);
/* Masks the @n bytes of a payload where they stand. */
void ws_frame_mask(const uint8_t mask[WS_MASK_SIZE], uint8_t *payload, size_t n);

#endif
