/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a WebSocket client: the same bytes in one piece and in pieces of the first byte's size must tell the same. */
#include <stdint.h>

#include "base/mem.h"
#include "net/ws_frame.h"

enum { MESSAGE_MAX = 5000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A digest of all events. */
static uint64_t run(struct str bytes, size_t piece)
{
    struct ws_reader r;
    uint64_t sum = 0;
    int rc = 0;
    ws_reader_init(&r, MESSAGE_MAX);
    while (bytes.n && rc >= 0) {
        size_t used = 0;
        rc = ws_reader_feed(&r, (struct str){bytes.p, bytes.n < piece ? bytes.n : piece}, &used, NULL);
        BUG_ON(used > bytes.n || (used == 0 && rc >= 0));
        bytes = (struct str){bytes.p + used, bytes.n - used};
        if (rc == 0)
            continue;
        sum = sum * 1000003 + (uint64_t)(unsigned)rc;
        struct str got = rc == WS_TEXT || rc == WS_BINARY ? buf_str(&r.message)
                                                          : (struct str){(const char *)r.control, rc > 0 ? r.n_control : 0};
        BUG_ON(rc == WS_TEXT && !str_is_utf8(got));
        BUG_ON(got.n > MESSAGE_MAX || (rc >= WS_CLOSE && got.n > WS_CONTROL_MAX));
        for (size_t i = 0; i < got.n; i++)
            sum = sum * 1000003 + (uint8_t)got.p[i];
    }
    sum = sum * 1000003 + (uint64_t)r.fault;
    ws_reader_release(&r);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct str bytes = {(const char *)data + 1, size - 1};
    BUG_ON(run(bytes, SIZE_MAX) != run(bytes, data[0] ? data[0] : 1));
    return 0;
}
