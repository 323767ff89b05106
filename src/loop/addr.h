/* SPDX-License-Identifier: Apache-2.0 */
/* addr — "host:port" with a numeric host, "[v6]:port" and "unix:/path" to socket addresses and back.
 * Input trust: configuration and peers' addresses.  Not included outside of src/loop. */
#ifndef DAVIT_LOOP_ADDR_H
#define DAVIT_LOOP_ADDR_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

struct addr {
    bool is_unix;
    union {
        struct sockaddr sa;
        struct sockaddr_storage storage;
        struct sockaddr_un un;
    };
};

/* 0 or -ERR_INVALID. */
int addr_parse(const char *text, struct addr *ret, struct err *err) MUST_USE;
/* Text as in stream_peer ("192.0.2.7:52100", "[2001:db8::1]:443", "unix"), freed by the caller. An IPv4 address mapped into IPv6 is
 * written as IPv4. */
char *addr_text(const struct sockaddr *sa) MUST_USE;

#endif
