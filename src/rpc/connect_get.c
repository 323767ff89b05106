/* SPDX-License-Identifier: Apache-2.0 */
/* connect_get — unary calls without side effects by GET: the message stands in the query.  Source: connectrpc.com protocol. */
#include <string.h>

#include "base/mem.h"
#include "rpc/rpc_internal.h"

enum { QUERY_MAX = 16 * 1024 }; /* HTTP limits lines and heads to less */

static struct str query_of(const struct rpc_call *c)
{
    struct str path = str_from(call_meta(c, ":path"));
    (void)str_cut(&path, '?');
    return path;
}

/* Appends what a value of a form means. 0 or -ERR_INVALID. */
static int unescape(struct str s, struct buf *out)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s.n; i++) {
        int hi = s.p[i] == '%' && s.n - i > 2 ? str_hex_digit(s.p[i + 1]) : -1;
        int lo = hi >= 0 ? str_hex_digit(s.p[i + 2]) : -1;
        if (s.p[i] == '%' && lo < 0)
            return -ERR_INVALID;
        rc = buf_append_byte(out, lo >= 0 ? (uint8_t)(hi * 16 + lo) : s.p[i] == '+' ? ' ' : (uint8_t)s.p[i]);
        i += lo >= 0 ? 2 : 0;
    }
    return rc;
}

/* The first value of @key, unescaped, appended to @out. 1, 0: there is none, or -ERR_INVALID. */
static int query_get(struct str query, const char *key, struct buf *out)
{
    while (query.n) {
        struct str value = str_cut(&query, '&'), name = str_cut(&value, '=');
        if (!str_eq(name, str_from(key)))
            continue;
        int rc = unescape(value, out);
        return rc < 0 ? rc : 1;
    }
    return 0;
}

/* Is @key there with this value? */
static bool query_is(struct str query, const char *key, const char *value)
{
    AUTO_BUF text = BUF_INIT(QUERY_MAX);
    return query_get(query, key, &text) == 1 && str_eq(buf_str(&text), str_from(value));
}

static bool query_has(struct str query, const char *key)
{
    AUTO_BUF text = BUF_INIT(QUERY_MAX);
    return query_get(query, key, &text) != 0;
}

int connect_get_route(struct rpc_call *c, struct err *err)
{
    struct str query = query_of(c);
    c->get = true;
    c->protocol = RPC_CONNECT;
    c->json = query_is(query, "encoding", "json");
    if (query_has(query, "connect") && !query_is(query, "connect", "v1"))
        return err_set(err, ERR_INVALID, "this version of Connect is not known: connect=v1 is");
    if (!c->json && !query_is(query, "encoding", "proto")) {
        c->http_status = 415;
        return err_set(err, ERR_INVALID, "the query needs encoding=json or encoding=proto");
    }
    c->gzip_in = query_is(query, "compression", "gzip");
    if (!c->gzip_in && query_has(query, "compression") && !query_is(query, "compression", "identity") &&
        !query_is(query, "compression", ""))
        return err_set(err, ERR_UNIMPLEMENTED, "this compression is not supported, only gzip and identity");
    return 0;
}

int connect_get_message(struct rpc_call *c, struct err *err)
{
    struct str query = query_of(c);
    AUTO_BUF text = BUF_INIT(QUERY_MAX);
    int rc = query_get(query, "message", &text);
    if (rc == 0)
        return err_set(err, ERR_INVALID, "the query has no message");
    if (rc < 0)
        return err_set(err, ERR_INVALID, "the query is not well escaped");
    if (!query_is(query, "base64", "1"))
        return err_ensure(err, buf_append_str(&c->body, buf_str(&text)));
    AUTO_FREE uint8_t *bytes = mem_alloc(text.len);
    size_t n;
    if (str_unbase64(buf_str(&text), bytes, text.len, &n) < 0)
        return err_set(err, ERR_INVALID, "the message is no base64");
    return err_ensure(err, buf_append(&c->body, bytes, n));
}
