/* SPDX-License-Identifier: Apache-2.0 */
/* http — what HTTP/1.1 and HTTP/2 share: field lists with limits, and the strict HTTP/1.1 message parser (RFC 9112).
 * The parser accepts CRLF only, no folding, one Host, Content-Length xor Transfer-Encoding: chunked (1.1 only); whatever else is refused and
 * the connection closes.  Chunk extensions are tokens and dropped; trailers are checked as fields are, must not frame, and are dropped.
 * Limits: HTTP_LINE_MAX, HTTP_HEAD_MAX, HTTP_FIELDS_MAX.
 * Input trust: peer.  Thread: any. */
#ifndef DAVIT_NET_HTTP_H
#define DAVIT_NET_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum { HTTP_LINE_MAX = 8192, HTTP_HEAD_MAX = 16384, HTTP_FIELDS_MAX = 100, HTTP_CHUNK_EXT_MAX = 256 };

struct http_field {
    const char *name; /* lower case */
    const char *value;
};

/* A message head. Strings point into `store`. Release with http_head_release. */
struct http_head {
    bool is_response;
    char method[24];
    const char *target;   /* request target as sent */
    int status;           /* responses */
    int minor;            /* HTTP/1.x */
    struct http_field fields[HTTP_FIELDS_MAX];
    size_t n_fields;
    struct buf store;
    /* Framing, decided by the parser: */
    bool chunked;
    bool has_length;
    uint64_t length;
    bool keep_alive;
    bool upgrade;         /* Connection: upgrade with an Upgrade field, or status 101 */
};

/* Frees what the parser put into it; it is empty afterwards. */
void http_head_release(struct http_head *h);
/* First value of @name (lower case), or NULL. */
const char *http_field(const struct http_head *h, const char *name);
/* The value of @name (lower case) if it stands there exactly once, else NULL. */
const char *http_field_once(const struct http_head *h, const char *name);
/* Is @word among the words, separated by commas, of any field @name (lower case)? @same: str_eq, or str_eq_ci where case means nothing. */
bool http_lists(const struct http_head *h, const char *name, struct str word, bool (*same)(struct str, struct str));

/* Incremental parser of one message after another. */
struct http_parser;
struct http_parser_handler {
    /* Head complete; borrowed for the call, or taken by moving the struct and zeroing the original's `store`. Return negative to stop (the
     * parser fails with it). */
    int (*on_head)(void *arg, struct http_head *head);
    int (*on_body)(void *arg, struct str bytes);
    int (*on_end)(void *arg); /* message complete */
};
/* @request: parse requests, else responses. Ends with http_parser_free. */
struct http_parser *http_parser_new(bool request, const struct http_parser_handler *h, void *arg) MUST_USE;
struct http_parser *http_parser_free(struct http_parser *p);
/* Consumes up to one complete message (stops after on_end, and after the head of an upgrade); *ret_used tells how many bytes.
 * -ERR_INVALID: malformed (message says what), -ERR_EXHAUSTED: over a limit (431/413). */
int http_parser_feed(struct http_parser *p, struct str bytes, size_t *ret_used, struct err *err) MUST_USE;
/* End of stream: completes a response that is read until close; -ERR_DATA_LOSS inside a message. */
int http_parser_eof(struct http_parser *p, struct err *err) MUST_USE;
/* The response that comes next has no body whatever its head says (HEAD request). */
void http_parser_no_body(struct http_parser *p);
/* Ready for the next message. */
void http_parser_reset(struct http_parser *p);

/* Percent-encodes everything but unreserved characters (RFC 3986) and appends it. */
int http_escape(struct buf *out, struct str s) MUST_USE;

#endif
