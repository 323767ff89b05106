/* SPDX-License-Identifier: Apache-2.0 */
/* frames — see frames.h. */
#include "rpc/frames.h"

#include <string.h>

#include "net/gzip.h"
#include "rpc/rpc.h"

void frames_init(struct frames *f)
{
    /* One message, what a window and the buffers of the connection may hold behind it, and room not to move bytes each time. */
    *f = (struct frames){.in = BUF_INIT(2 * (size_t)RPC_MESSAGE_MAX + 4 * 1024 * 1024), .max = RPC_MESSAGE_MAX};
}

void frames_release(struct frames *f)
{
    buf_release(&f->in);
    f->at = f->owed = 0;
}

/* Length of the message at the front into *ret: 1 if it is whole, 0 if not. */
static int peek(const struct frames *f, size_t *ret, struct err *err)
{
    size_t n = f->in.len - f->at;
    const uint8_t *p = (const uint8_t *)f->in.data + f->at;
    if (n >= 1 && p[0] == FRAMES_COMPRESSED && !(f->allowed & FRAMES_COMPRESSED))
        return err_set(err, ERR_INTERNAL, "a compressed message, but the head names no encoding");
    if (n >= 1 && p[0] & ~(unsigned)f->allowed)
        return err_set(err, ERR_INTERNAL, "a message with unknown flags 0x%02x", p[0]);
    if (n < FRAMES_PREFIX)
        return 0;
    *ret = frames_length(p);
    if (*ret > f->max)
        return err_set(err, ERR_EXHAUSTED, "a message of %zu bytes is over the limit of %zu", *ret, f->max);
    return n - FRAMES_PREFIX >= *ret;
}

int frames_add(struct frames *f, struct str bytes, struct err *err)
{
    if (f->at && (f->at == f->in.len || f->at >= f->in.len / 2)) {
        buf_consume(&f->in, f->at);
        f->at = 0;
    }
    if (buf_append_str(&f->in, bytes) < 0)
        return err_set(err, ERR_EXHAUSTED, "too much data waits to be read");
    f->owed += bytes.n;
    size_t n;
    int rc = peek(f, &n, err);
    return rc < 0 ? rc : 0;
}

int frames_take(struct frames *f, struct str *ret, struct err *err)
{
    size_t n;
    int rc = peek(f, &n, err);
    if (rc <= 0)
        return rc;
    *ret = (struct str){f->in.data + f->at + FRAMES_PREFIX, n};
    f->flags = (uint8_t)f->in.data[f->at];
    f->at += FRAMES_PREFIX + n;
    return 1;
}

size_t frames_settle(struct frames *f)
{
    size_t n, owed = f->owed;
    if (peek(f, &n, NULL) > 0)
        return 0;
    f->owed = 0;
    return owed;
}

void frames_trim(struct frames *f)
{
    if (!frames_empty(f))
        return;
    buf_release(&f->in);
    f->at = 0;
}

size_t frames_waiting(const struct frames *f)
{
    return f->in.len - f->at;
}

bool frames_empty(const struct frames *f)
{
    return f->at == f->in.len;
}

void frames_prefix(size_t n, uint8_t flags, uint8_t dst[FRAMES_PREFIX])
{
    dst[0] = flags;
    dst[1] = (uint8_t)(n >> 24);
    dst[2] = (uint8_t)(n >> 16);
    dst[3] = (uint8_t)(n >> 8);
    dst[4] = (uint8_t)n;
}

size_t frames_length(const uint8_t prefix[FRAMES_PREFIX])
{
    return (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
}

int frames_seal(struct buf *message, bool compress)
{
    uint8_t prefix[FRAMES_PREFIX] = {0}, flags = 0;
    size_t n = message->len - FRAMES_PREFIX;
    if (n > RPC_MESSAGE_MAX)
        return -ERR_EXHAUSTED;
    if (compress && n > RPC_COMPRESS_MIN) {
        AUTO_BUF packed = BUF_INIT(RPC_MESSAGE_MAX + RPC_MESSAGE_MAX / 64 + FRAMES_PREFIX);
        int rc = buf_append(&packed, prefix, sizeof(prefix));
        if (rc == 0)
            rc = gzip_deflate((struct str){message->data + FRAMES_PREFIX, n}, &packed);
        if (rc < 0)
            return rc;
        if (packed.len < message->len) {
            struct buf plain = *message;
            *message = packed;
            packed = plain;
            n = message->len - FRAMES_PREFIX;
            flags = FRAMES_COMPRESSED;
        }
    }
    frames_prefix(n, flags, prefix);
    memcpy(message->data, prefix, sizeof(prefix));
    return 0;
}
