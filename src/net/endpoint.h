/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint — addresses as people write them into settings: where a program listens, and under which name others reach it. One reading for the
 * program that asks for them and for the one that is told; nothing is looked up.
 * Ownership: plain values.  Thread: any.  Input trust: the user's. */
#ifndef DAVIT_NET_ENDPOINT_H
#define DAVIT_NET_ENDPOINT_H

#include <stdbool.h>

#include "base/err.h"

enum { ENDPOINT_HOST_SIZE = 254 };

struct endpoint {
    char host[ENDPOINT_HOST_SIZE]; /* a DNS name in lower case or a numeric address, without brackets */
    unsigned port;                 /* 0: none is named */
    bool v6;                       /* wants brackets where a port follows */
};

/* HOST, HOST:PORT, [IPv6], [IPv6]:PORT or a bare IPv6 address; the host is one that a certificate can carry and that can be dialled.
 * 0, or -ERR_INVALID that says what is wrong. */
int endpoint_parse(const char *text, struct endpoint *ret, struct err *err) MUST_USE;

enum endpoint_kind {
    ENDPOINT_LISTEN,     /* ADDR:PORT with a numeric address, or unix:/PATH; port 0 is any */
    ENDPOINT_LISTEN_TCP, /* ADDR:PORT, a port that others can be told: not 0 */
    ENDPOINT_LOCAL,      /* ADDR:PORT of loopback for what is not to leave this machine, or "none" */
    ENDPOINT_REACH,      /* HOST[:PORT] as endpoint_parse reads it */
    ENDPOINT_NAME        /* a public name as browsers know it: DNS name or IPv4 address, no port */
};

/* The value of --@option; NULL and "" are no value and fine. 0, or -ERR_INVALID that names the option. */
int endpoint_check(enum endpoint_kind kind, const char *option, const char *value, struct err *err) MUST_USE;

#endif
