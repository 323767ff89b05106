/* SPDX-License-Identifier: Apache-2.0 */
/* http_server — HTTP/1.1 on an accepted conn: health, metrics, Connect over HTTP/1.1.  Each request runs its handler on a fiber.
 * The body is collected before the handler runs (limit per server), but for requests of the method that http_server_stream names: their handler runs
 * when the head is there, and reads the body as it comes.  Keep-alive, no pipelining ahead: the next request is read when the answer is out.
 * Limits: body_max, HTTP_BODIES_MAX times as much in all bodies together (503), HTTP_CONNS_MAX connections (more are closed at once),
 * idle 60 s, a head must be complete within 10 s, a body within 60 s.  Thread: loop.  Input trust: peer. */
#ifndef DAVIT_NET_HTTP_SERVER_H
#define DAVIT_NET_HTTP_SERVER_H

#include "net/conn.h"
#include "net/http.h"

enum { HTTP_CONNS_MAX = 1024, HTTP_BODIES_MAX = 16 };

struct http_call;

/* Fiber. Must answer by http_reply or by http_reply_start .. http_reply_end; returning without an answer sends 500. */
typedef void http_handler(void *arg, struct http_call *call);

struct http_server;
/* @body_max bytes of a request body. Connections made on it live until they close or http_server_free. */
struct http_server *http_server_new(struct loop *loop, http_handler *handler, void *arg, size_t body_max) MUST_USE;
/* Cuts all connections and cancels their fibers; waits for nothing. Accepts NULL; returns NULL. */
struct http_server *http_server_free(struct http_server *s);
/* The body of a request of @method ("PUT", borrowed) is the handler's to read, and the limits of bodies are not for it. */
void http_server_stream(struct http_server *s, const char *method);
/* Serves @c, which is taken. */
void http_server_take(struct http_server *s, struct conn *c);
/* Listens itself, plain or TLS. May be called several times. */
int http_server_listen(struct http_server *s, const char *addr, mode_t unix_mode, struct tls_ctx *tls, struct err *err) MUST_USE;
/* Address of the @i-th listener as bound, or NULL. */
const char *http_server_addr(const struct http_server *s, size_t i);

/* Request head, whole body, and the connection it came by. Borrowed until the call ends. */
/* The request, its body and its connection: borrowed until the handler returns. The connection is NULL once it is gone. */
const struct http_head *http_call_head(const struct http_call *c);
struct str http_call_body(const struct http_call *c);
struct conn *http_call_conn(const struct http_call *c);
/* Waits for the next part of a body that is the handler's to read; what is not read stays with the peer. 0 with *ret, borrowed until the next call or
 * wait of this kind; 1: there is no more; -ERR_CANCELLED: the peer has gone, or sent what is no body; -ERR_DEADLINE. A handler that returns
 * before the
 * end closes the connection. */
int http_call_read(struct http_call *c, struct str *ret, usec_t deadline) MUST_USE;
/* Gives the connection away, bytes read too far included (WebSocket); no answer may have been begun, none may follow. NULL if it is gone. */
struct conn *http_call_take_conn(struct http_call *c) MUST_USE;

/* Answers: 0, or -ERR_* when the connection is gone, the queue full, the deadline over or the fiber cancelled.
 * Whole answer at once. */
int http_reply(struct http_call *c, int status, const char *content_type, struct str body) MUST_USE;
/* Chunked answer. @fields may be NULL. From here on a client of HTTP/1.1 that ends its side has gone: the
 * fiber is cancelled. */
int http_reply_start(struct http_call *c, int status, const struct http_field *fields, size_t n_fields) MUST_USE;
/* As http_reply_start, for a body of exactly @length bytes, which the caller sees to: http_reply_end only after as many. */
int http_reply_sized(struct http_call *c, int status, const struct http_field *fields, size_t n_fields, uint64_t length) MUST_USE;
int http_reply_chunk(struct http_call *c, struct str bytes, usec_t deadline) MUST_USE; /* waits while the peer is slow */
int http_reply_end(struct http_call *c) MUST_USE;
/* Whole answer with own fields. */
int http_reply_fields(struct http_call *c, int status, const struct http_field *fields, size_t n_fields, struct str body) MUST_USE;

#endif
