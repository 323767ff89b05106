/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel_edge — the way to the control plane through a proxy of somebody's that ends TLS ("https://HOST[:PORT]"): its certificate is checked as
 * a browser does, by the system's roots or a file of them, and that is all that is believed of it.
 * A way carries gRPC, or it does not: then calls go over WebSockets, a connection each.
 * Ownership: tunnel_edge_new .. tunnel_edge_free.  Thread: loop; calls marked "waits" on a fiber.  Input trust: the edge is nobody's friend. */
#ifndef DAVIT_HOST_LINK_TUNNEL_EDGE_H
#define DAVIT_HOST_LINK_TUNNEL_EDGE_H

#include "rpc/rpc.h"

enum tunnel_carrier { TUNNEL_UNKNOWN, TUNNEL_GRPC, TUNNEL_WEBSOCKET, TUNNEL_CARRIER_COUNT };

/* "grpc", "websocket", "" for TUNNEL_UNKNOWN. */
const char *tunnel_carrier_name(enum tunnel_carrier c);

struct tunnel_edge;

/* Takes "https://HOST[:PORT]" or "HOST[:PORT]" apart (without a port: 443) into @ret_hostport, fresh. -ERR_INVALID for anything else. */
int tunnel_edge_parse(const char *server, char **ret_hostport, struct err *err) MUST_USE;
/* Blocks (reads @ca_file; NULL or "": the system's roots). @server as tunnel_edge_parse. */
int tunnel_edge_new(const char *server, const char *ca_file, struct tunnel_edge **ret, struct err *err) MUST_USE;
/* Accepts NULL; returns NULL. */
struct tunnel_edge *tunnel_edge_free(struct tunnel_edge *e);
/* "host:port". Borrowed. */
const char *tunnel_edge_hostport(const struct tunnel_edge *e);

/* Waits: a channel by @carrier, through the proxy that the environment names, if one is. -ERR_UNIMPLEMENTED: the edge does not speak HTTP/2.
 * -ERR_UNAUTHENTICATED: its certificate is not good. */
int tunnel_edge_open(struct loop *loop, struct tunnel_edge *e, enum tunnel_carrier carrier, usec_t keepalive, usec_t deadline,
                     struct rpc_channel **ret, struct err *err) MUST_USE;

/* What is tried over a channel. *ret_answered: the control plane itself has spoken, so that the way is good and a failure is its word. */
struct tunnel_try {
    int (*run)(void *arg, struct rpc_channel *ch, bool *ret_answered, struct err *err);
    void *arg;
    enum tunnel_carrier first; /* what worked last; TUNNEL_UNKNOWN: gRPC comes first */
    usec_t keepalive;
};
/* Waits: runs @t over one carrier, and over the other where the first led to no answer of the control plane; not where the edge itself is not
 * reached. @ret (may be NULL: closed) is the channel that @t ran well over. -ERR_UNAVAILABLE: the edge has no way to the control plane now. */
int tunnel_edge_try(struct loop *loop, struct tunnel_edge *e, const struct tunnel_try *t, enum tunnel_carrier *ret_carrier,
                    struct rpc_channel **ret, struct err *err) MUST_USE;

#endif
