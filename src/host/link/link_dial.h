/* SPDX-License-Identifier: Apache-2.0 */
/* link_dial — the way from the agent to its control plane: name resolution, TLS with the right proof of who answers, HTTP/2.
 * Thread: loop, on fibers.  Input trust: the endpoint is the user's; the peer is believed only after its certificate held. */
#ifndef DAVIT_HOST_LINK_LINK_DIAL_H
#define DAVIT_HOST_LINK_LINK_DIAL_H

#include "host/link/agent_config.h"
#include "net/proxy.h"
#include "rpc/rpc.h"

#define LINK_PEER_URI "davit://controlplane"

/* Before enrolment: only the root with this pin (TLS_PIN_SIZE bytes) is believed. *ret: tls_ctx_unref. */
int link_tls_pinned(const uint8_t *pin, struct tls_ctx **ret, struct err *err) MUST_USE;
/* Afterwards: our certificate, and the roots that came with it. *ret: tls_ctx_unref. */
int link_tls_identity(const struct agent_identity *id, struct tls_ctx **ret, struct err *err) MUST_USE;

/* Waits: which way to @endpoint ("host:port"): @addr (NET_ADDR_SIZE bytes) for conn_dial, or what the proxy that HTTPS_PROXY names gets asked for,
 * and that proxy (*ret: proxy_unref; NULL: none). */
int link_route(struct loop *loop, const char *endpoint, usec_t deadline, char *addr, size_t size, struct proxy **ret, struct err *err) MUST_USE;

/* Waits: resolves @endpoint ("host:port", "unix:/path"), connects (through the proxy of the environment, if one is named), shakes hands.
 * @tls NULL: plain, only for unix sockets (-ERR_INVALID else).
 * -ERR_UNAUTHENTICATED: somebody else answers; nothing of ours was sent. *ret: rpc_channel_close. */
int link_dial(struct loop *loop, const char *endpoint, struct tls_ctx *tls, usec_t keepalive, usec_t deadline, struct rpc_channel **ret,
              struct err *err) MUST_USE;

#endif
