/* SPDX-License-Identifier: Apache-2.0 */
/* page — requests that are no calls: a script, a file, later the pages of the dashboard. For the life of the request there is a call of the
 * protocol RPC_PAGE, so that connections, streams and their ends are one thing for all that is served. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "rpc/rpc_internal.h"

enum { FIELDS_MAX = 16, PIECE = 64 * 1024, PAGE_BODY_MAX = 256 * 1024 };

struct rpc_page {
    struct rpc_call *call;
    const char *method;
    uint64_t left; /* of the body */
    bool head, begun;
    size_t slot;
    struct buf taken; /* what rpc_page_read lent */
    bool read;        /* the body of a POST by HTTP/1.1, which comes whole */
};

const char *rpc_page_method(const struct rpc_page *p)
{
    return p->method;
}

const char *rpc_page_target(const struct rpc_page *p)
{
    return call_meta(p->call, ":path");
}

const char *rpc_page_field(const struct rpc_page *p, const char *name)
{
    return call_meta(p->call, name);
}

/* ---- which, and how many ---- */

bool page_wanted(const struct rpc_call *c, const char *verb)
{
    const char *type = call_meta(c, "content-type");
    /* No call is asked by PUT. */
    bool reads = strcmp(verb, "GET") == 0 || strcmp(verb, "HEAD") == 0 || strcmp(verb, "PUT") == 0;
    struct str rest = str_from(call_meta(c, ":path"));
    size_t at;
    if (c->server->pages && c->server->posts && strcmp(verb, "POST") == 0 && str_starts(rest, str_from(c->server->posts)))
        return true;
    if (!c->server->pages || server_find(c->server, str_cut(&rest, '?'), &at))
        return false;
    if (type && str_starts(str_from(type), STR("application/grpc")))
        return false;
    /* A call of a method that is not there hears so in its own protocol. */
    return reads || !type || !str_starts(str_from(type), STR("application/"));
}

/* 0 with a slot, or a failure. */
static int enter(struct rpc_page *p, struct err *err)
{
    struct rpc_server *s = p->call->server;
    uint8_t source[RPC_SOURCE_SIZE];
    bool known = p->call->conn && server_source(conn_peer_addr(p->call->conn), source);
    size_t of_source = 0, slot = RPC_PAGES_MAX;
    for (size_t i = 0; i < RPC_PAGES_MAX; i++) {
        const struct page_slot *at = &s->page_slots[i];
        if (!at->taken)
            slot = i;
        else if (known && at->known && memcmp(at->source, source, sizeof(source)) == 0)
            of_source++;
    }
    if (slot == RPC_PAGES_MAX || of_source >= RPC_PAGES_SOURCE_MAX) {
        s->calls_refused++;
        return err_set(err, ERR_UNAVAILABLE, "too many requests at once");
    }
    s->page_slots[slot] = (struct page_slot){.taken = true, .known = known};
    if (known)
        memcpy(s->page_slots[slot].source, source, sizeof(source));
    p->slot = slot;
    return 0;
}

static void leave(const struct rpc_page *p)
{
    if (p->call->server)
        p->call->server->page_slots[p->slot].taken = false;
}

/* ---- the body of the request ---- */

struct rpc_call *rpc_page_call(const struct rpc_page *p)
{
    return p->call;
}

void page_data(struct rpc_call *c, struct str bytes)
{
    const char *verb = call_meta(c, ":method");
    bool wanted = strcmp(verb, "PUT") == 0 || (c->server && c->server->posts && strcmp(verb, "POST") == 0);
    bool kept = c->state == CALL_RUNNING && wanted && c->body.len + bytes.n <= PAGE_BODY_MAX;
    if (kept && buf_append_str(&c->body, bytes) == 0)
        event_signal(&c->readable);
    else if (c->st)
        h2_consume(c->st, bytes.n);
}

int rpc_page_read(struct rpc_page *p, struct str *ret)
{
    struct rpc_call *c = p->call;
    *ret = STR("");
    if (c->state == CALL_OVER)
        return -ERR_CANCELLED;
    if (c->http && strcmp(p->method, "POST") == 0) {
        bool again = p->read || http_call_body(c->http).n == 0;
        p->read = true;
        *ret = again ? STR("") : http_call_body(c->http);
        return again;
    }
    if (c->http)
        return http_call_read(c->http, ret, deadline_in(RPC_PAGE_STALL));
    h2_consume(c->st, p->taken.len);
    buf_release(&p->taken);
    while (c->body.len == 0) {
        if (c->half_closed)
            return 1;
        event_reset(&c->readable);
        int rc = event_wait(&c->readable, deadline_in(RPC_PAGE_STALL));
        if (rc < 0 || c->state == CALL_OVER || fiber_cancelled())
            return rc < 0 ? rc : -ERR_CANCELLED;
    }
    p->taken = c->body;
    c->body = BUF_INIT(p->taken.max);
    *ret = buf_str(&p->taken);
    return 0;
}

/* ---- the answer ---- */

static int begin_h2(struct rpc_page *p, int status, const struct http_field *fields, size_t n, uint64_t length)
{
    char code[8], size[24];
    struct h2_field all[FIELDS_MAX + 2] = {{":status", code}, {"content-length", size}};
    (void)snprintf(code, sizeof(code), "%d", status);
    (void)snprintf(size, sizeof(size), "%" PRIu64, length);
    size_t first = length == RPC_PAGE_OPEN ? 1 : 2;
    for (size_t i = 0; i < n; i++)
        all[i + first] = (struct h2_field){fields[i].name, fields[i].value};
    h2_set_high(p->call->st, RPC_PAGE_AHEAD);
    return h2_respond(p->call->st, all, n + first);
}

int rpc_page_begin(struct rpc_page *p, int status, const struct http_field *fields, size_t n, uint64_t length)
{
    BUG_ON(p->begun || n > FIELDS_MAX);
    if (p->call->state == CALL_OVER || fiber_cancelled())
        return -ERR_CANCELLED;
    p->begun = true;
    p->left = p->head ? 0 : length;
    if (!p->call->http)
        return begin_h2(p, status, fields, n, length);
    return length == RPC_PAGE_OPEN ? http_reply_start(p->call->http, status, fields, n) : http_reply_sized(p->call->http, status, fields, n, length);
}

static int write_h2(struct rpc_call *c, struct str piece)
{
    for (;;) {
        int rc = 0;
        if (c->state == CALL_OVER || fiber_cancelled())
            return -ERR_CANCELLED;
        if (h2_queued(c->st) <= RPC_PAGE_AHEAD)
            return h2_write(c->st, piece);
        event_reset(&c->room);
        if ((rc = event_wait(&c->room, deadline_in(RPC_PAGE_STALL))) < 0)
            return rc;
    }
}

int rpc_page_write(struct rpc_page *p, struct str bytes)
{
    int rc = 0;
    if (p->head)
        return 0;
    if (!p->begun || bytes.n > p->left)
        return -ERR_RANGE;
    while (rc == 0 && bytes.n) {
        struct str piece = {bytes.p, bytes.n < PIECE ? bytes.n : PIECE};
        if (p->call->state == CALL_OVER)
            return -ERR_CANCELLED;
        rc = p->call->http ? http_reply_chunk(p->call->http, piece, deadline_in(RPC_PAGE_STALL)) : write_h2(p->call, piece);
        bytes = (struct str){bytes.p + piece.n, bytes.n - piece.n};
        p->left -= rc == 0 && p->left != RPC_PAGE_OPEN ? piece.n : 0;
    }
    return rc;
}

void rpc_page_end(struct rpc_page *p)
{
    if (p->left == RPC_PAGE_OPEN)
        p->left = 0;
}

static void run(struct rpc_page *p)
{
    struct rpc_server *s = p->call->server;
    s->pages(p, s->pages_ctx);
    if (!p->begun && rpc_page_begin(p, 500, NULL, 0, 0) < 0)
        p->left = 1; /* nobody to tell */
    buf_release(&p->taken);
    leave(p);
}

/* ---- HTTP/2 ---- */

static void page_main(void *arg)
{
    struct rpc_call *c = arg;
    struct rpc_page p = {.call = c, .method = call_meta(c, ":method"), .head = strcmp(call_meta(c, ":method"), "HEAD") == 0, .slot = c->page_slot};
    if (c->state == CALL_RUNNING)
        run(&p);
    else
        leave(&p);
    if (c->state == CALL_RUNNING && p.left == 0)
        h2_finish(c->st, NULL, 0);
    else if (c->state == CALL_RUNNING)
        h2_reset(TAKE(c->st), H2_INTERNAL_ERROR);
    call_lost(c, ERR_CANCELLED, "the page is done");
    if (c->server)
        c->server->running--;
    call_unref(c);
}

int page_start(struct rpc_call *c, struct err *err)
{
    struct rpc_server *s = c->server;
    struct rpc_page p = {.call = c};
    int rc = enter(&p, err);
    c->reads = true;
    if (rc == 0 && (s->running >= s->limits.running || fiber_spawn(s->loop, "page", page_main, c, &c->fiber) < 0)) {
        leave(&p);
        s->calls_refused++;
        rc = err_set(err, ERR_UNAVAILABLE, "too many requests at once");
    }
    if (rc < 0) {
        c->protocol = RPC_NONE;
        c->http_status = 503;
        return rc;
    }
    c->protocol = RPC_PAGE;
    c->page_slot = p.slot;
    c->state = CALL_RUNNING;
    c->refs++;
    s->running++;
    return 0;
}

/* ---- HTTP/1.1 ---- */

void page_http1(struct rpc_call *c, const char *verb)
{
    struct rpc_page p = {.call = c, .method = verb, .head = strcmp(verb, "HEAD") == 0};
    struct http_call *http = c->http;
    struct err err = ERR_INIT;
    c->protocol = RPC_PAGE;
    if (enter(&p, &err) < 0) {
        (void)http_reply(http, 503, "text/plain", str_from(err.msg));
    } else {
        run(&p);
        if (p.left == 0)
            (void)http_reply_end(http);
    }
    c->http = NULL;
    call_lost(c, ERR_CANCELLED, "the page is done");
}
