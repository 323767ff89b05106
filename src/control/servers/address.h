/* SPDX-License-Identifier: Apache-2.0 */
/* address — which address of a server is its public one and which one is preferred, and which of our own an agent can reach.
 * Pure rules over text; nothing is looked up.  Input trust: peer.  Thread: any. */
#ifndef DAVIT_CONTROL_ADDRESS_H
#define DAVIT_CONTROL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "davit/common/v1/system.pb-c.h"

enum { ADDRESS_SIZE = 64 };

enum address_kind {
    ADDRESS_NONE,    /* not an IP address, or one that names no host (unspecified, multicast, reserved) */
    ADDRESS_LOCAL,   /* loopback, link-local */
    ADDRESS_PRIVATE, /* RFC 1918, unique local, documentation, benchmarks */
    ADDRESS_TAILNET, /* 100.64.0.0/10, and the IPv6 range that tailscale uses */
    ADDRESS_GLOBAL
};

/* The kind of an IPv4 or IPv6 address in text without port or brackets. NULL is NONE. */
enum address_kind address_kind_of(const char *text);

/* The host part of "host:port", "[host]:port" or a bare host into @dst; "" for a unix socket. */
void address_host(const char *peer, char dst[ADDRESS_SIZE]);

/* The address that the control plane sees if it is global, else the answer of the look-up that the user set, else "".
 * @seen without port. @system may be NULL. */
void address_public(const char *seen, const Davit__Common__V1__SystemInfo *system, char dst[ADDRESS_SIZE]);

/* The user's choice, else public, else tailnet, else LAN. Returns the source: "user", "public", "tailnet", "lan", or "" for none. */
const char *address_preferred(const char *user, const char *public_address, const Davit__Common__V1__SystemInfo *system,
                              char dst[ADDRESS_SIZE]);

/* An address of this machine that agents elsewhere can reach, global before tailnet, into @dst. Asks the kernel, does not block.
 * 0, or 1 when there is none. */
int address_reachable(char dst[ADDRESS_SIZE]) MUST_USE;

#endif
