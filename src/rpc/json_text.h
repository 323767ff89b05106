/* SPDX-License-Identifier: Apache-2.0 */
/* json_text — values that ProtoJSON writes as text: numbers, points and spans of time, field masks.  Pure functions.  Thread: any.
 * Input trust: peer.  Source: protobuf.dev, ProtoJSON format; RFC 3339. */
#ifndef DAVIT_RPC_JSON_TEXT_H
#define DAVIT_RPC_JSON_TEXT_H

#include "base/buf.h"
#include "base/err.h"

enum { JSON_TEXT_MAX = 64 }; /* a number's characters in, and what the writers below need */

/* Digits with optional sign, fraction and exponent, all of @s; whole, at most @max, and not below -@max_negative. *ret in two's complement.
 * 0, -ERR_INVALID: no number, -ERR_RANGE. */
int json_text_integer(struct str s, uint64_t max, uint64_t max_negative, uint64_t *ret) MUST_USE;
/* The same grammar; what overflows (as a float if @single) is -ERR_RANGE. */
int json_text_double(struct str s, bool single, double *ret) MUST_USE;
/* The shortest decimal that reads back the same. @v is finite. */
void json_text_put_double(double v, bool single, char dst[JSON_TEXT_MAX]);

/* "2001-02-03T04:05:06.789Z" or with an offset, upper case, at most nine digits; years 1 to 9999. 0 or -ERR_INVALID. */
int json_text_time(struct str s, int64_t *ret_seconds, int32_t *ret_nanos) MUST_USE;
/* 0, 3, 6 or 9 digits and Z. -ERR_RANGE outside of those years or of a second's nanoseconds. */
int json_text_put_time(int64_t seconds, int32_t nanos, char dst[JSON_TEXT_MAX]) MUST_USE;
/* "-1.5s": at most ten thousand years, nine digits. 0 or -ERR_INVALID. */
int json_text_span(struct str s, int64_t *ret_seconds, int32_t *ret_nanos) MUST_USE;
/* -ERR_RANGE past that limit or when the signs differ. */
int json_text_put_span(int64_t seconds, int32_t nanos, char dst[JSON_TEXT_MAX]) MUST_USE;

/* One path of a field mask: "fooBar.baz" -> "foo_bar.baz" and back, appended to @out. -ERR_INVALID for what would not come back the same,
 * -ERR_EXHAUSTED. */
int json_text_path(struct str s, struct buf *out) MUST_USE;
int json_text_put_path(struct str s, struct buf *out) MUST_USE;

#endif
