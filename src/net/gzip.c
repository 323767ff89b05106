/* SPDX-License-Identifier: Apache-2.0 */
/* gzip — see gzip.h. */
#include "net/gzip.h"

#include <zlib.h>

enum { WINDOW_GZIP = 15 + 16, LEVEL = 5, MEM_LEVEL = 8, STEP_MIN = 4096 };

static int unpack(z_stream *z, size_t max, struct buf *out, struct err *err)
{
    size_t begin = out->len;
    for (;;) {
        size_t have = out->len - begin, left = max + 1 - have, step = have < STEP_MIN ? STEP_MIN : have;
        if (step > left)
            step = left;
        uint8_t *dst = buf_reserve(out, step);
        if (!dst)
            return err_set(err, ERR_EXHAUSTED, "a message unpacks to more than %zu bytes", max);
        z->next_out = dst;
        z->avail_out = (uInt)step;
        int rc = inflate(z, Z_NO_FLUSH);
        buf_commit(out, step - z->avail_out);
        if (out->len - begin > max)
            return err_set(err, ERR_EXHAUSTED, "a message unpacks to more than %zu bytes", max);
        if (rc == Z_STREAM_END)
            return z->avail_in ? err_set(err, ERR_INTERNAL, "bytes behind a compressed message") : 0;
        if (rc != Z_OK || (z->avail_in == 0 && z->avail_out))
            return err_set(err, ERR_INTERNAL, "a compressed message is broken");
    }
}

int gzip_inflate(struct str in, size_t max, struct buf *out, struct err *err)
{
    if (in.n == 0)
        return 0;
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.p, .avail_in = (uInt)in.n};
    BUG_ON(in.n > UINT32_MAX || inflateInit2(&z, WINDOW_GZIP) != Z_OK);
    int rc = unpack(&z, max, out, err);
    (void)inflateEnd(&z);
    return rc;
}

int gzip_deflate(struct str in, struct buf *out)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.p, .avail_in = (uInt)in.n};
    BUG_ON(in.n > UINT32_MAX || deflateInit2(&z, LEVEL, Z_DEFLATED, WINDOW_GZIP, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK);
    size_t room = deflateBound(&z, (uLong)in.n);
    uint8_t *dst = buf_reserve(out, room);
    if (dst) {
        z.next_out = dst;
        z.avail_out = (uInt)room;
        BUG_ON(deflate(&z, Z_FINISH) != Z_STREAM_END);
        buf_commit(out, room - z.avail_out);
    }
    (void)deflateEnd(&z);
    return dst ? 0 : -ERR_EXHAUSTED;
}
