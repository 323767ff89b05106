/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 parser on any bytes: as requests and as responses, whole and in pieces. Both ways must see the same. */
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "net/http.h"

struct seen {
    unsigned heads, ends;
    uint64_t body;
};

static int on_head(void *arg, struct http_head *head)
{
    struct seen *s = arg;
    s->heads++;
    for (size_t i = 0; i < head->n_fields; i++)
        BUG_ON(!http_field(head, head->fields[i].name));
    return 0;
}

static int on_body(void *arg, struct str bytes)
{
    ((struct seen *)arg)->body += bytes.n;
    return 0;
}

static int on_end(void *arg)
{
    ((struct seen *)arg)->ends++;
    return 0;
}

static int run(bool request, const uint8_t *data, size_t size, size_t step, struct seen *s)
{
    static const struct http_parser_handler handler = {on_head, on_body, on_end};
    struct http_parser *p = http_parser_new(request, &handler, s);
    int rc = 0;
    while (size && rc == 0) {
        size_t used = 0, n = size < step ? size : step;
        unsigned ends = s->ends;
        rc = http_parser_feed(p, (struct str){(const char *)data, n}, &used, NULL);
        BUG_ON(used > n || (rc == 0 && used == 0 && s->ends == ends));
        if (s->ends > ends)
            http_parser_reset(p);
        data += used;
        size -= used;
    }
    if (rc == 0)
        rc = http_parser_eof(p, NULL);
    http_parser_free(p);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int request = 0; request < 2; request++) {
        struct seen whole = {0}, pieces = {0};
        int a = run(request, data, size, SIZE_MAX, &whole);
        int b = run(request, data, size, 3, &pieces);
        BUG_ON(a != b || whole.ends != pieces.ends || whole.heads != pieces.heads);
        BUG_ON(a == 0 && whole.body != pieces.body);
    }
    return 0;
}
