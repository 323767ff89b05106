/* SPDX-License-Identifier: Apache-2.0 */
/* http_client — HTTP/1.1 requests from fibers: keep-alive pool, streaming bodies both ways, upgraded connections (Docker's attach).
 * Ownership: the client owns idle connections; an exchange owns its connection until http_finish.  Limits: pool of 4 idle; head limits of http.h;
 * bodies are streamed, so the caller sets their limit.  Thread: loop, on fibers. */
#ifndef DAVIT_NET_HTTP_CLIENT_H
#define DAVIT_NET_HTTP_CLIENT_H

#include "net/conn.h"
#include "net/http.h"
#include "net/proxy.h"

struct http_client;
struct http_exchange;

/* @addr as stream_dial; @host for the Host field and, without its port, for SNI; @tls NULL: plain (referenced, not taken). */
struct http_client *http_client_new(struct loop *loop, const char *addr, const char *host, struct tls_ctx *tls) MUST_USE;
/* From now on new connections go through @proxy (referenced), which gets @addr as it is: "name:port" too. */
void http_client_set_proxy(struct http_client *c, struct proxy *proxy);
/* No exchange may be open. Accepts NULL; returns NULL. */
struct http_client *http_client_free(struct http_client *c);

struct http_request {
    const char *method;
    const char *target;
    const struct http_field *fields; /* besides Host, Content-Length, Transfer-Encoding, Connection */
    size_t n_fields;
    struct str body;
    bool stream_body;                /* the body follows by http_send_body, chunked */
    bool upgrade;                    /* ask for `Upgrade: tcp` */
    const char *upgrade_to;          /* with upgrade: for this protocol instead; NULL: tcp */
};

/* Waits for the response head (or, with stream_body, only until the request head is sent: then http_send_body..., http_response).
 * A request on a pooled connection that the server closed before answering is sent again once on a new one if it is GET, HEAD, PUT or DELETE without
 * a streamed body. *ret owned by the caller: http_finish. */
int http_request(struct http_client *c, const struct http_request *req, usec_t deadline, struct http_exchange **ret, struct err *err) MUST_USE;
int http_send_body(struct http_exchange *x, struct str bytes, usec_t deadline, struct err *err) MUST_USE;
/* Ends a streamed body and waits for the response head. */
int http_response(struct http_exchange *x, usec_t deadline, struct err *err) MUST_USE;
/* Valid until http_finish. */
const struct http_head *http_head(const struct http_exchange *x);
/* Waits for body bytes: up to @size into @dst; *ret_n = 0 is the end of the body. */
int http_read(struct http_exchange *x, void *dst, size_t size, usec_t deadline, size_t *ret_n, struct err *err) MUST_USE;
/* The rest of the body appended to @out; -ERR_EXHAUSTED past its max. */
int http_read_all(struct http_exchange *x, struct buf *out, usec_t deadline, struct err *err) MUST_USE;
/* After 101 or an upgraded 200: gives the connection away, bytes read too far included. The exchange is finished. */
int http_take_conn(struct http_exchange *x, struct conn **ret, struct err *err) MUST_USE;
/* Returns the connection to the pool if the body was read to its end, else closes it. Accepts NULL; returns NULL. */
struct http_exchange *http_finish(struct http_exchange *x);

/* An absolute http:// or https:// URL, taken apart. */
struct http_url {
    bool tls;
    char host[256];       /* without brackets */
    char hostport[300];   /* always with the port; for net_resolve */
    char host_field[300]; /* for http_client_new */
    const char *target;   /* points into the URL */
};
/* 0, or -ERR_INVALID: another scheme, credentials or a fragment in it, no host. */
int http_url_parse(const char *text, struct http_url *ret, struct err *err) MUST_USE;

/* One GET of an absolute http:// or https:// URL with system roots; the body appended to @out. For the user's look-up URL. */
int http_get_url(struct loop *loop, const char *url, struct buf *out, usec_t deadline, struct err *err) MUST_USE;

#endif
