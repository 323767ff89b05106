/* SPDX-License-Identifier: Apache-2.0 */
/* tls_server — a TLS server for tests, that counts what it got on one connection after the other. */
#ifndef DAVIT_TEST_TLS_SERVER_H
#define DAVIT_TEST_TLS_SERVER_H

#include <string.h>

#include "net/conn.h"
#include "net/on_fiber.h"
#include "net/testcert.h"

/* The root of all its certificates; made by main. */
static struct testcert root;

struct server {
    struct listener *listener;
    struct tls_ctx *ctx;
    struct conn_accept *accept;
    struct conn *conn;
    size_t got;
    unsigned failed, ready;
    struct err why;
    bool eof, lost;
    usec_t timeout;
    struct conn_handler handler; /* in place of server_handler, if it has an on_read */
};

static inline void on_read(void *arg, const void *p, size_t n)
{
    (void)p;
    ((struct server *)arg)->got += n;
}

static inline void on_eof(void *arg)
{
    ((struct server *)arg)->eof = true;
}

static inline void on_error(void *arg, const struct err *err)
{
    struct server *s = arg;
    s->lost = true;
    s->why = *err;
}

static const struct conn_handler server_handler = {on_read, on_eof, on_error, NULL};

static inline void on_ready(void *arg, struct conn *c)
{
    struct server *s = arg;
    s->accept = NULL;
    s->ready++;
    s->conn = c;
    conn_set_handler(c, s->handler.on_read ? &s->handler : &server_handler, s);
    conn_read_start(c);
}

static inline void on_failed(void *arg, const char *peer, const struct err *err)
{
    struct server *s = arg;
    CHECK(*peer);
    s->accept = NULL;
    s->failed++;
    s->why = *err;
}

static inline void on_accept(void *arg, struct stream *stream)
{
    struct server *s = arg;
    s->conn = conn_close(s->conn);
    s->accept = conn_accept_tls(stream, s->ctx, s->timeout, on_ready, on_failed, s);
}

static inline struct tls_config server_config(const struct testcert *cert, enum tls_verify verify)
{
    return (struct tls_config){.server = true,
                               .cert_pem = str_from(cert->chain_pem),
                               .key_pem = str_from(cert->key_pem),
                               .ca_pem = str_from(root.cert_pem),
                               .verify = verify,
                               .alpn = "h2,http/1.1"};
}

static inline void server_open(struct server *s, struct loop *loop, const struct testcert *cert, enum tls_verify verify)
{
    struct err err = ERR_INIT;
    *s = (struct server){.timeout = 5 * USEC_SEC};
    struct tls_config config = server_config(cert, verify);
    CHECK_OK(tls_ctx_new(&config, &s->ctx, &err));
    CHECK_OK(listener_open(loop, "127.0.0.1:0", 0, on_accept, s, &s->listener, &err));
}

static inline void server_close(struct server *s)
{
    if (s->accept)
        conn_accept_cancel(s->accept);
    conn_close(s->conn);
    listener_close(s->listener);
    tls_ctx_unref(s->ctx);
}

static inline void settle(void)
{
    CHECK(fiber_sleep(50 * USEC_MSEC) == 0);
}

#endif
