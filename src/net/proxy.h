/* SPDX-License-Identifier: Apache-2.0 */
/* proxy — the way out through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6), as HTTPS_PROXY and NO_PROXY of the environment say it.
 * Names are looked up by the proxy, not here. Basic credentials go to the proxy only, are wiped, and stand in no message.
 * Loopback addresses and localhost never go by a proxy; unix sockets are not asked about.
 * Limits: a URL of PROXY_TEXT_MAX; an answer of HTTP_HEAD_MAX without a byte behind it.
 * Thread: loop; the dial on a fiber.  Input trust: user's configuration; the proxy's answer is a peer's. */
#ifndef DAVIT_NET_PROXY_H
#define DAVIT_NET_PROXY_H

#include "net/conn.h"

enum { PROXY_TEXT_MAX = 1024 };

struct proxy;

/* Which proxy leads to @hostport ("host:port") by @https_proxy ("http://[user:password@]host[:port]", the scheme may be left out) and
 * @no_proxy (words with commas between: "*", a name and all below it, an address, ADDRESS/BITS, each also with ":port"); both may be NULL.
 * *ret NULL: none; else proxy_unref. -ERR_INVALID malformed, -ERR_UNIMPLEMENTED a proxy of another kind. */
int proxy_choose(const char *https_proxy, const char *no_proxy, const char *hostport, struct proxy **ret, struct err *err) MUST_USE;
/* The same by the environment: https_proxy before HTTPS_PROXY, no_proxy before NO_PROXY. */
int proxy_from_env(const char *hostport, struct proxy **ret, struct err *err) MUST_USE;
struct proxy *proxy_ref(struct proxy *p);
/* Accepts NULL; returns NULL. */
struct proxy *proxy_unref(struct proxy *p);
/* "host:port" of the proxy itself. Borrowed. */
const char *proxy_addr(const struct proxy *p);

/* Waits: as conn_dial, through @p to @hostport. -ERR_DENIED: the proxy wants credentials; -ERR_UNAVAILABLE: it has no way there. */
int proxy_dial(struct loop *loop, const struct proxy *p, const char *hostport, struct tls_ctx *tls, const char *server_name,
               usec_t deadline, struct conn **ret, struct err *err) MUST_USE;

#endif
