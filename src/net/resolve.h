/* SPDX-License-Identifier: Apache-2.0 */
/* resolve — names to addresses without the host's nsswitch: numeric addresses as they are, else /etc/hosts and DNS by c-ares, in a thread
 * of its own for the time of the look-up.
 * Limits: 10 s per look-up whatever the deadline.  Thread: loop, on a fiber.  Input trust: user's configuration; DNS answers of anybody. */
#ifndef DAVIT_NET_RESOLVE_H
#define DAVIT_NET_RESOLVE_H

#include "loop/loop.h"

enum { NET_ADDR_SIZE = 512 };

/* Waits. @hostport "name:port", "192.0.2.1:443", "[2001:db8::1]:443" or "unix:/path". @ret_numeric (@size bytes; NET_ADDR_SIZE is enough but for
 * long unix paths) gets what conn_dial takes: all addresses that there is a route to, IPv4 before IPv6, with commas between, CONN_ADDRS_MAX of
 * them. -ERR_INVALID malformed,
 * -ERR_NOT_FOUND no such name, -ERR_UNAVAILABLE no answer, -ERR_DEADLINE, -ERR_EXHAUSTED no thread to be had. */
int net_resolve(struct loop *loop, const char *hostport, usec_t deadline, char *ret_numeric, size_t size,
                struct err *err) MUST_USE;

/* Takes "host:port" apart: @ret_host (256 bytes, without brackets), *ret_port. 0 or -ERR_INVALID. */
int net_split_hostport(const char *hostport, char *ret_host, unsigned *ret_port) MUST_USE;

#endif
