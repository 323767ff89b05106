/* SPDX-License-Identifier: Apache-2.0 */
/* pools — which subnet a project's network and the ingress's own get: the engine's own choice runs out after some thirty networks and looks
 * neither at the machine's routes nor at those of its office. We cut pools into pieces of one size and take the first that touches nothing: no
 * network of the engine, no route and no address of the machine. IPv4. A network that is there stays as it is.
 * Thread: loop; reading routes blocks on /proc.  Input trust: options are the owner's, routes the kernel's: both are read strictly.
 * Limits: POOLS_MAX pools, POOL_NETS_MAX networks, routes and addresses together (more: -ERR_EXHAUSTED, nothing is chosen blindly). */
#ifndef DAVIT_HOST_WORK_POOLS_H
#define DAVIT_HOST_WORK_POOLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum { POOLS_MAX = 16, POOL_NETS_MAX = 4096, POOL_TEXT_SIZE = 24, POOL_WHAT_SIZE = 64 };
/* Where no other is named: 256 networks of 254 addresses. */
#define POOL_DEFAULT "10.213.0.0/16/24"

struct pool {
    uint32_t base; /* host order */
    unsigned bits; /* of the pool */
    unsigned size; /* of a piece */
};

/* "10.213.0.0/16/24": network, its bits, the bits of a piece. Bits 8..29, a piece at most 16 bits deeper, no host bits. -ERR_INVALID. */
int pool_parse(struct str text, struct pool *ret, struct err *err) MUST_USE;

/* Something that has addresses, and what it is. */
struct pool_net {
    uint32_t base;
    unsigned bits;
    char what[POOL_WHAT_SIZE]; /* "network shop", "route of eth0" */
};
struct pool_nets {
    struct pool_net *items; /* owned */
    size_t n;
};
void pool_nets_release(struct pool_nets *l);
/* "10.1.0.0/16"; host bits are cleared. What is no IPv4 network (IPv6, "") is passed over: 1. */
int pool_nets_add(struct pool_nets *l, struct str cidr, const char *what, struct err *err) MUST_USE;
/* Text of /proc/net/route. The default route counts for nothing. -ERR_INVALID for what the kernel would not write. */
int pool_nets_routes(struct pool_nets *l, struct str text, struct err *err) MUST_USE;
/* Routes and addresses of this machine. Blocks. */
int pool_nets_host(struct pool_nets *l, struct err *err) MUST_USE;

/* The first piece that overlaps with none of @used, as "10.213.4.0/24". -ERR_EXHAUSTED: there is none; @err says what is in the way. */
int pool_choose(const struct pool *pools, size_t n, const struct pool_nets *used, char ret[POOL_TEXT_SIZE], struct err *err) MUST_USE;

#endif
