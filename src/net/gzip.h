/* SPDX-License-Identifier: Apache-2.0 */
/* gzip — messages in gzip (zlib behind this wall), each by itself.  Limits: output by the caller, reached before memory is taken for more.
 * Source: RFC 1952.  Thread: any.  Input trust: peer. */
#ifndef DAVIT_NET_GZIP_H
#define DAVIT_NET_GZIP_H

#include "base/buf.h"
#include "base/err.h"

/* Appends what @in unpacks to. Nothing unpacks to nothing. -ERR_EXHAUSTED beyond @max bytes (at most @max + 1 were unpacked), -ERR_INTERNAL for
 * what is no gzip, is cut short or has something behind it. */
int gzip_inflate(struct str in, size_t max, struct buf *out, struct err *err) MUST_USE;
/* Appends @in packed. 0, or -ERR_EXHAUSTED without room in @out. */
int gzip_deflate(struct str in, struct buf *out) MUST_USE;

#endif
