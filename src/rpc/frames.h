/* SPDX-License-Identifier: Apache-2.0 */
/* frames — gRPC's length-prefixed messages out of a byte stream: DATA borders mean nothing, lengths are checked before memory is taken.
 * What is given back to the flow-control window follows use: bytes of a message that is not whole yet at once, whole messages when they are
 * taken; so at most one message and one window of bytes wait here.  Source: grpc/grpc doc/PROTOCOL-HTTP2.md.  Input trust: peer. */
#ifndef DAVIT_RPC_FRAMES_H
#define DAVIT_RPC_FRAMES_H

#include "base/buf.h"
#include "base/err.h"

enum { FRAMES_PREFIX = 5, FRAMES_COMPRESSED = 1, FRAMES_END = 2 };

struct frames {
    struct buf in;
    size_t at;       /* what stands before it was taken */
    size_t owed;     /* bytes not yet given back to the window */
    size_t max;      /* of a message; RPC_MESSAGE_MAX unless its owner sets less */
    uint8_t allowed; /* flags that messages may carry, set by the owner: FRAMES_COMPRESSED where an encoding was agreed on */
    uint8_t flags;   /* of the message that was taken last */
};

/* Embedded in its owner; frames_release ends it. */
void frames_init(struct frames *f);
void frames_release(struct frames *f);
/* Appends what came. -ERR_EXHAUSTED for a message over .max, -ERR_INTERNAL for a bad prefix or a flag that is not allowed. */
int frames_add(struct frames *f, struct str bytes, struct err *err) MUST_USE;
/* The next whole message (borrowed until frames_add or frames_release): 1, or 0 when there is none; failures as frames_add. */
int frames_take(struct frames *f, struct str *ret, struct err *err) MUST_USE;
/* How many bytes may be given back to the window now; counted as given. */
size_t frames_settle(struct frames *f);
/* Gives memory back where nothing waits. */
void frames_trim(struct frames *f);
/* Bytes that wait here. */
size_t frames_waiting(const struct frames *f);
/* Nothing waits, not even a part of a message? */
bool frames_empty(const struct frames *f);
/* Completes @message, which begins with FRAMES_PREFIX bytes to be filled: with @compress by gzip where that makes it smaller (not under
 * RPC_COMPRESS_MIN). -ERR_EXHAUSTED over RPC_MESSAGE_MAX. */
int frames_seal(struct buf *message, bool compress) MUST_USE;
/* The prefix of a message of @n bytes. */
void frames_prefix(size_t n, uint8_t flags, uint8_t dst[FRAMES_PREFIX]);
/* And back: what length it announces. */
size_t frames_length(const uint8_t prefix[FRAMES_PREFIX]);

#endif
