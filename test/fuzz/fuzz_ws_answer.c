/* SPDX-License-Identifier: Apache-2.0 */
/* What a server says to our handshake, and its frames behind it: any bytes are refused or read within the limits. */
#include <stdint.h>

#include "net/ws_client.h"

enum { MESSAGE_MAX = 5000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct answer {
    bool head, end, accepted;
};

static int on_head(void *arg, struct http_head *head)
{
    struct answer *a = arg;
    a->head = true;
    a->accepted = ws_check_answer(head, "dGhlIHNhbXBsZSBub25jZQ==", "p", NULL) == 0;
    BUG_ON(a->accepted && head->status != 101);
    return 0;
}

static int on_body(void *arg, struct str bytes)
{
    (void)arg;
    (void)bytes;
    return 0;
}

static int on_end(void *arg)
{
    struct answer *a = arg;
    a->end = true;
    return 0;
}

static void read_frames(struct str bytes)
{
    struct ws_reader r;
    int rc = 0;
    ws_reader_init(&r, MESSAGE_MAX);
    r.plain = true;
    while (bytes.n && rc >= 0) {
        size_t used = 0;
        rc = ws_reader_feed(&r, bytes, &used, NULL);
        BUG_ON(used > bytes.n || (used == 0 && rc >= 0));
        BUG_ON(r.message.len > MESSAGE_MAX || r.n_control > WS_CONTROL_MAX);
        bytes = (struct str){bytes.p + used, bytes.n - used};
    }
    ws_reader_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http_parser_handler handler = {on_head, on_body, on_end};
    struct answer a = {0};
    size_t used = 0;
    struct str bytes = {(const char *)data, size};
    struct http_parser *p = http_parser_new(false, &handler, &a);
    int rc = http_parser_feed(p, bytes, &used, NULL);
    BUG_ON(used > size);
    (void)http_parser_free(p);
    if (rc == 0 && a.accepted)
        read_frames((struct str){bytes.p + used, bytes.n - used});
    return 0;
}
