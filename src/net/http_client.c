/* SPDX-License-Identifier: Apache-2.0 */
/* http_client — requests from fibers over a small pool of kept connections.
 * An exchange reads its connection only when its caller asks for more, so a slow caller slows the server down. */
#include "net/http_client.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { POOL_MAX = 4, READ_SIZE = 64 * 1024, INTERIM_MAX = 16 };

struct idle {
    struct http_client *client;
    struct conn *conn;
};

struct http_client {
    struct loop *loop;
    char *addr, *host;
    char *name; /* @host without port and brackets: for SNI */
    struct tls_ctx *tls;
    struct proxy *proxy; /* NULL: none */
    struct idle idle[POOL_MAX];
};

struct http_exchange {
    struct http_client *client;
    struct conn *conn;
    struct http_parser *parser;
    struct http_head head;
    struct buf raw; /* received; parsed up to `at` */
    size_t at;
    bool no_body; /* HEAD */
    bool kept;    /* the connection came from the pool */
    bool heard;   /* a byte of the answer arrived */
    bool stream_body;
    bool got_head, ended;
    bool interim_ended; /* an answer of 1xx */
    unsigned interim;
    char *dst; /* of the http_read under way */
    size_t dst_n;
};

/* --- Pool ---------------------------------------------------------------------------------------------------------------------------- */

/* An idle connection has nothing to say: bytes, end and failure all mean that it is of no more use. */
static void on_idle_end(void *arg)
{
    struct idle *i = arg;
    i->conn = conn_close(i->conn);
}

static void on_idle_read(void *arg, const void *p, size_t n)
{
    (void)p;
    (void)n;
    on_idle_end(arg);
}

static void on_idle_error(void *arg, const struct err *err)
{
    (void)err;
    on_idle_end(arg);
}

static const struct conn_handler idle_handler = {on_idle_read, on_idle_end, on_idle_error, NULL};

static void pool_put(struct http_client *client, struct conn *c)
{
    for (size_t i = 0; i < POOL_MAX; i++) {
        if (client->idle[i].conn)
            continue;
        client->idle[i] = (struct idle){client, c};
        conn_set_handler(c, &idle_handler, &client->idle[i]);
        conn_read_start(c);
        return;
    }
    conn_close(c);
}

static struct conn *pool_get(struct http_client *client)
{
    for (size_t i = POOL_MAX; i-- > 0;) {
        struct conn *c = TAKE(client->idle[i].conn);
        if (!c)
            continue;
        conn_read_stop(c);
        conn_set_handler(c, NULL, NULL);
        return c;
    }
    return NULL;
}

static char *name_of(const char *host)
{
    struct str s = str_from(host), rest = s;
    if (s.n && *s.p == '[') {
        rest = (struct str){s.p + 1, s.n - 1};
        return str_dup(str_cut(&rest, ']'));
    }
    const char *colon = strchr(host, ':');
    return str_dup(colon && !strchr(colon + 1, ':') ? str_cut(&rest, ':') : s);
}

struct http_client *http_client_new(struct loop *loop, const char *addr, const char *host, struct tls_ctx *tls)
{
    struct http_client *c = NEW(struct http_client);
    c->loop = loop;
    c->addr = str_dup(str_from(addr));
    c->host = str_dup(str_from(host));
    c->name = name_of(host);
    c->tls = tls ? tls_ctx_ref(tls) : NULL;
    return c;
}

void http_client_set_proxy(struct http_client *c, struct proxy *proxy)
{
    c->proxy = proxy_ref(proxy);
}

struct http_client *http_client_free(struct http_client *c)
{
    if (!c)
        return NULL;
    for (size_t i = 0; i < POOL_MAX; i++)
        conn_close(c->idle[i].conn);
    tls_ctx_unref(c->tls);
    (void)proxy_unref(c->proxy);
    free(c->addr);
    free(c->host);
    free(c->name);
    free(c);
    return NULL;
}

/* --- Sending ------------------------------------------------------------------------------------------------------------------------- */

static bool clean(const char *s)
{
    for (; *s; s++) {
        if ((uint8_t)*s < 0x20 || *s == 0x7f)
            return false;
    }
    return true;
}

static int write_fields(struct buf *out, const struct http_request *req, struct err *err)
{
    for (size_t i = 0; i < req->n_fields; i++) {
        if (!clean(req->fields[i].name) || !clean(req->fields[i].value))
            return err_set(err, ERR_INVALID, "control byte in a header field");
        if (buf_printf(out, "%s: %s\r\n", req->fields[i].name, req->fields[i].value) != 0)
            return err_set(err, ERR_EXHAUSTED, "request header too large");
    }
    return 0;
}

static int write_head(struct buf *out, const struct http_client *c, const struct http_request *req, struct err *err)
{
    if (!clean(req->target) || strchr(req->target, ' '))
        return err_set(err, ERR_INVALID, "space or control byte in a request target");
    int rc = buf_printf(out, "%s %s HTTP/1.1\r\nhost: %s\r\n", req->method, req->target, c->host);
    if (rc == 0)
        rc = write_fields(out, req, err);
    if (rc == 0 && req->upgrade)
        rc = buf_printf(out, "connection: upgrade\r\nupgrade: %s\r\n", req->upgrade_to ? req->upgrade_to : "tcp");
    bool bodiless = strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0;
    if (rc == 0 && req->stream_body)
        rc = buf_append_cstr(out, "transfer-encoding: chunked\r\n");
    else if (rc == 0 && (req->body.n || !bodiless))
        rc = buf_printf(out, "content-length: %zu\r\n", req->body.n);
    if (rc == 0)
        rc = buf_append_cstr(out, "\r\n");
    return rc == 0 || rc == -(int)ERR_INVALID ? rc : err_set(err, ERR_EXHAUSTED, "request header too large");
}

static int send_request(struct http_exchange *x, const struct http_request *req, usec_t deadline, struct err *err)
{
    AUTO_BUF head = BUF_INIT(256 * 1024);
    int rc = write_head(&head, x->client, req, err);
    if (rc == 0)
        rc = conn_write_wait(x->conn, head.data, head.len, deadline, err);
    if (rc == 0 && req->body.n && !req->stream_body)
        rc = conn_write_wait(x->conn, req->body.p, req->body.n, deadline, err);
    return rc;
}

/* --- Receiving ----------------------------------------------------------------------------------------------------------------------- */

static int on_head(void *arg, struct http_head *head)
{
    struct http_exchange *x = arg;
    if (head->status / 100 == 1 && head->status != 101)
        return 0;
    x->head = *head;
    head->store = BUF_INIT(HTTP_HEAD_MAX); /* the strings are the exchange's now */
    x->got_head = true;
    return 0;
}

static int on_body(void *arg, struct str bytes)
{
    struct http_exchange *x = arg;
    memcpy(x->dst + x->dst_n, bytes.p, bytes.n); /* never more than was fed, and no more is fed than fits */
    x->dst_n += bytes.n;
    return 0;
}

static int on_end(void *arg)
{
    struct http_exchange *x = arg;
    if (x->got_head)
        x->ended = true;
    else
        x->interim_ended = true;
    return 0;
}

static const struct http_parser_handler parser_handler = {on_head, on_body, on_end};

/* Reads more into `raw`, all of which was parsed, or learns of the end. */
static int fill(struct http_exchange *x, usec_t deadline, struct err *err)
{
    size_t n = 0;
    buf_clear(&x->raw);
    x->at = 0;
    void *p = buf_reserve(&x->raw, READ_SIZE);
    BUG_ON(!p);
    int rc = conn_read(x->conn, p, READ_SIZE, deadline, &n, err);
    if (rc < 0)
        return rc;
    if (n) {
        x->heard = true;
        buf_commit(&x->raw, n);
        return 0;
    }
    if (!x->got_head)
        return err_set(err, ERR_UNAVAILABLE, "the server closed the connection before it answered");
    rc = http_parser_eof(x->parser, err);
    return rc < 0 ? rc : x->ended ? 0 : err_set(err, ERR_DATA_LOSS, "the server's answer ended too early");
}

/* Parses at most @max of the bytes at hand. */
static int parse(struct http_exchange *x, size_t max, struct err *err)
{
    size_t used = 0;
    size_t n = x->raw.len - x->at;
    int rc = http_parser_feed(x->parser, (struct str){x->raw.data + x->at, n < max ? n : max}, &used, err);
    if (rc < 0)
        return err_wrap(err, "answer of the server");
    x->at += used;
    return 0;
}

/* Line by line: a body must not begin before there is somewhere to put it. The parser stops after each interim answer (1xx). */
static int await_head(struct http_exchange *x, usec_t deadline, struct err *err)
{
    while (!x->got_head) {
        int rc = x->at < x->raw.len ? 0 : fill(x, deadline, err);
        if (rc < 0)
            return rc;
        const char *at = x->raw.data + x->at;
        const char *lf = memchr(at, '\n', x->raw.len - x->at);
        rc = parse(x, lf ? (size_t)(lf - at) + 1 : SIZE_MAX, err);
        if (rc < 0)
            return rc;
        if (!x->interim_ended)
            continue;
        if (++x->interim > INTERIM_MAX)
            return err_set(err, ERR_INVALID, "too many interim answers");
        x->interim_ended = false;
        http_parser_reset(x->parser);
        if (x->no_body)
            http_parser_no_body(x->parser);
    }
    return 0;
}

int http_read(struct http_exchange *x, void *dst, size_t size, usec_t deadline, size_t *ret_n, struct err *err)
{
    x->dst = dst;
    x->dst_n = 0;
    *ret_n = 0;
    while (x->dst_n == 0 && !x->ended) {
        int rc = x->at < x->raw.len ? 0 : fill(x, deadline, err);
        if (rc == 0 && x->at < x->raw.len && !x->ended)
            rc = parse(x, size, err);
        if (rc < 0)
            return rc;
    }
    *ret_n = x->dst_n;
    return 0;
}

int http_read_all(struct http_exchange *x, struct buf *out, usec_t deadline, struct err *err)
{
    for (;;) {
        size_t room = out->max - out->len;
        if (room > READ_SIZE)
            room = READ_SIZE;
        char past;
        void *p = room ? buf_reserve(out, room) : &past;
        size_t n = 0;
        int rc = http_read(x, p, room ? room : 1, deadline, &n, err);
        if (rc < 0 || n == 0)
            return rc;
        if (room == 0)
            return err_set(err, ERR_EXHAUSTED, "the answer is larger than %zu bytes", out->max);
        buf_commit(out, n);
    }
}

const struct http_head *http_head(const struct http_exchange *x)
{
    return &x->head;
}

/* --- Exchanges ----------------------------------------------------------------------------------------------------------------------- */

static int open_exchange(struct http_client *c, bool may_reuse, bool no_body, usec_t deadline, struct http_exchange **ret,
                         struct err *err)
{
    struct conn *conn = may_reuse ? pool_get(c) : NULL;
    bool kept = conn;
    if (!conn) {
        int rc = c->proxy ? proxy_dial(c->loop, c->proxy, c->addr, c->tls, c->name, deadline, &conn, err)
                          : conn_dial(c->loop, c->addr, c->tls, c->name, deadline, &conn, err);
        if (rc < 0)
            return rc;
    }
    struct http_exchange *x = NEW(struct http_exchange);
    x->client = c;
    x->conn = conn;
    x->kept = kept;
    x->no_body = no_body;
    x->raw = BUF_INIT(READ_SIZE);
    x->parser = http_parser_new(false, &parser_handler, x);
    if (no_body)
        http_parser_no_body(x->parser);
    *ret = x;
    return 0;
}

static bool repeatable(const struct http_request *req)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (strcmp(req->method, methods[i]) == 0)
            return !req->stream_body && !req->upgrade;
    }
    return false;
}

static int run(struct http_exchange *x, const struct http_request *req, usec_t deadline, struct err *err)
{
    x->stream_body = req->stream_body;
    struct err sending = ERR_INIT;
    int rc = send_request(x, req, deadline, &sending);
    if (rc < 0 && (rc != -(int)ERR_UNAVAILABLE || req->stream_body)) {
        if (err)
            *err = sending;
        return rc;
    }
    /* A server may refuse a body without reading it all: its answer counts for more than the failed write. */
    return req->stream_body ? 0 : await_head(x, deadline, err);
}

int http_request(struct http_client *c, const struct http_request *req, usec_t deadline, struct http_exchange **ret,
                 struct err *err)
{
    bool no_body = strcmp(req->method, "HEAD") == 0;
    for (unsigned attempt = 0;; attempt++) {
        struct http_exchange *x = NULL;
        int rc = open_exchange(c, attempt == 0, no_body, deadline, &x, err);
        if (rc < 0)
            return rc;
        rc = run(x, req, deadline, err);
        if (rc == 0) {
            *ret = x;
            return 0;
        }
        bool again = attempt == 0 && x->kept && !x->heard && repeatable(req) && rc == -(int)ERR_UNAVAILABLE;
        http_finish(x);
        if (!again)
            return rc;
    }
}

int http_send_body(struct http_exchange *x, struct str bytes, usec_t deadline, struct err *err)
{
    if (bytes.n == 0)
        return 0;
    char size[24];
    int n = snprintf(size, sizeof(size), "%zx\r\n", bytes.n);
    int rc = conn_write_wait(x->conn, size, (size_t)n, deadline, err);
    if (rc == 0)
        rc = conn_write_wait(x->conn, bytes.p, bytes.n, deadline, err);
    return rc < 0 ? rc : conn_write_wait(x->conn, "\r\n", 2, deadline, err);
}

int http_response(struct http_exchange *x, usec_t deadline, struct err *err)
{
    if (x->stream_body) {
        x->stream_body = false;
        int rc = conn_write_wait(x->conn, "0\r\n\r\n", 5, deadline, err);
        if (rc < 0 && rc != -(int)ERR_UNAVAILABLE) /* an early answer may still be there */
            return rc;
    }
    return await_head(x, deadline, err);
}

int http_take_conn(struct http_exchange *x, struct conn **ret, struct err *err)
{
    if (x->at < x->raw.len && conn_unread(x->conn, x->raw.data + x->at, x->raw.len - x->at) != 0)
        return err_set(err, ERR_EXHAUSTED, "too many bytes behind the head of an upgrade");
    *ret = TAKE(x->conn);
    http_finish(x);
    return 0;
}

struct http_exchange *http_finish(struct http_exchange *x)
{
    if (!x)
        return NULL;
    bool keep = x->conn && x->ended && x->head.keep_alive && x->head.status != 101 && x->at == x->raw.len && !x->stream_body;
    if (keep)
        pool_put(x->client, x->conn);
    else
        conn_close(x->conn);
    http_parser_free(x->parser);
    http_head_release(&x->head);
    buf_release(&x->raw);
    free(x);
    return NULL;
}
