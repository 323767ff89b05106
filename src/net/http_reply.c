/* SPDX-License-Identifier: Apache-2.0 */
/* http_reply — writing answers: whole with a length, or chunked (to an HTTP/1.0 client: until close). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "net/http_internal.h"

enum { REPLY_HEAD_MAX = 64 * 1024 };

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].text;
    }
    return "Status";
}

/* A value with a line end in it would be a header of somebody else's making. */
static bool clean(const char *s)
{
    for (; *s; s++) {
        if (((uint8_t)*s < 0x20 && *s != '\t') || *s == 0x7f)
            return false;
    }
    return true;
}

static bool bodiless(const struct http_call *c, int status)
{
    return strcmp(c->head.method, "HEAD") == 0 || status / 100 == 1 || status == 204 || status == 304;
}

static int write_head(struct http_call *c, struct buf *out, int status, const struct http_field *fields, size_t n_fields)
{
    int rc = buf_printf(out, "HTTP/1.1 %d %s\r\n", status, reason(status));
    for (size_t i = 0; rc == 0 && i < n_fields; i++) {
        if (!clean(fields[i].name) || !clean(fields[i].value))
            return -(int)ERR_INVALID;
        rc = buf_printf(out, "%s: %s\r\n", fields[i].name, fields[i].value);
    }
    if (rc == 0 && c->close)
        rc = buf_append_cstr(out, "connection: close\r\n");
    else if (rc == 0 && c->head.minor == 0)
        rc = buf_append_cstr(out, "connection: keep-alive\r\n");
    return rc;
}

int http_reply_fields(struct http_call *c, int status, const struct http_field *fields, size_t n_fields, struct str body)
{
    if (!c->conn)
        return -(int)ERR_UNAVAILABLE;
    BUG_ON(c->started);
    AUTO_BUF out = BUF_INIT(REPLY_HEAD_MAX + body.n);
    int rc = write_head(c, &out, status, fields, n_fields);
    if (rc == 0 && status / 100 != 1 && status != 204)
        rc = buf_printf(&out, "content-length: %zu\r\n", body.n);
    if (rc == 0)
        rc = buf_append_cstr(&out, "\r\n");
    if (rc == 0 && !bodiless(c, status))
        rc = buf_append_str(&out, body);
    if (rc < 0)
        return rc;
    c->started = true;
    if (fiber_self() && !c->refused)
        rc = conn_write_wait(c->conn, out.data, out.len, deadline_in(USEC_MINUTE), NULL);
    else
        rc = conn_write(c->conn, out.data, out.len);
    c->ended = rc == 0;
    return rc;
}

int http_reply(struct http_call *c, int status, const char *content_type, struct str body)
{
    struct http_field type = {"content-type", content_type};
    return http_reply_fields(c, status, &type, content_type ? 1 : 0, body);
}

int http_reply_start(struct http_call *c, int status, const struct http_field *fields, size_t n_fields)
{
    if (!c->conn)
        return -(int)ERR_UNAVAILABLE;
    BUG_ON(c->started);
    bool none = bodiless(c, status);
    c->chunked = !none && c->head.minor == 1;
    if (!none && !c->chunked)
        c->close = true;
    AUTO_BUF out = BUF_INIT(REPLY_HEAD_MAX);
    int rc = write_head(c, &out, status, fields, n_fields);
    if (rc == 0)
        rc = buf_append_cstr(&out, c->chunked ? "transfer-encoding: chunked\r\n\r\n" : "\r\n");
    if (rc < 0)
        return rc;
    c->started = true;
    rc = conn_write(c->conn, out.data, out.len);
    if (rc == 0 && c->chunked)
        conn_read_start(c->conn); /* a stream may be silent for long: only reading tells that its taker has gone */
    return rc;
}

int http_reply_sized(struct http_call *c, int status, const struct http_field *fields, size_t n_fields, uint64_t length)
{
    if (!c->conn)
        return -(int)ERR_UNAVAILABLE;
    BUG_ON(c->started);
    AUTO_BUF out = BUF_INIT(REPLY_HEAD_MAX);
    int rc = write_head(c, &out, status, fields, n_fields);
    if (rc == 0)
        rc = buf_printf(&out, "content-length: %" PRIu64 "\r\n\r\n", length);
    if (rc < 0)
        return rc;
    c->started = true;
    return conn_write(c->conn, out.data, out.len);
}

int http_reply_chunk(struct http_call *c, struct str bytes, usec_t deadline)
{
    if (!c->conn)
        return -(int)ERR_UNAVAILABLE;
    if (bytes.n == 0 || strcmp(c->head.method, "HEAD") == 0)
        return 0;
    if (!c->chunked)
        return conn_write_wait(c->conn, bytes.p, bytes.n, deadline, NULL);
    char size[24];
    int n = snprintf(size, sizeof(size), "%zx\r\n", bytes.n);
    int rc = conn_write_wait(c->conn, size, (size_t)n, deadline, NULL);
    if (rc == 0)
        rc = conn_write_wait(c->conn, bytes.p, bytes.n, deadline, NULL);
    return rc < 0 || !c->conn ? rc : conn_write(c->conn, "\r\n", 2);
}

int http_reply_end(struct http_call *c)
{
    if (!c->conn)
        return -(int)ERR_UNAVAILABLE;
    int rc = c->chunked ? conn_write(c->conn, "0\r\n\r\n", 5) : 0;
    c->ended = rc == 0;
    return rc;
}
