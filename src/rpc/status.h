/* SPDX-License-Identifier: Apache-2.0 */
/* status — how failures and time limits are written on the wire: percent-encoded text, grpc-timeout, codes of HTTP and of HTTP/2 resets.
 * Sources: grpc/grpc doc/PROTOCOL-HTTP2.md, doc/http-grpc-status-mapping.md; connectrpc.com protocol.  Input trust: peer.  Thread: any. */
#ifndef DAVIT_RPC_STATUS_H
#define DAVIT_RPC_STATUS_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

enum { STATUS_TEXT_MAX = 2048, TIMEOUT_TEXT_SIZE = 16 };

/* grpc-message form of @text into @dst (STATUS_TEXT_MAX bytes, NUL-terminated); cut at a whole escape when it does not fit. */
void status_escape(const char *text, char dst[STATUS_TEXT_MAX]);
/* The reverse into @dst of @size bytes: never fails, broken escapes stay as they are, controls and what is not UTF-8 become '?'. */
void status_unescape(const char *text, char *dst, size_t size);

/* grpc-timeout ("8 digits + HMSmun") in microseconds, rounded up, saturated. 0 or -ERR_INVALID. */
int status_parse_timeout(const char *text, usec_t *ret) MUST_USE;
/* Writes the largest unit that loses nothing of note within 8 digits. */
void status_format_timeout(usec_t timeout, char dst[TIMEOUT_TEXT_SIZE]);
/* connect-timeout-ms: at most 10 digits. 0 or -ERR_INVALID. */
int status_parse_timeout_ms(const char *text, usec_t *ret) MUST_USE;

/* Is @word one of the words of @list ("gzip, identity;q=0.5"), parameters aside? ASCII case does not matter. */
bool status_list_has(const char *list, const char *word);

/* The code for a stream that the peer reset. */
enum err_code status_from_reset(uint32_t h2_code);
/* The code for an answer without grpc-status. */
enum err_code status_from_http(const char *status);

/* Fills @err from grpc-status, grpc-message and davit-hint (the latter two may be NULL). Returns -(code), or 0 for OK. */
int status_from_trailers(const char *status, const char *message, const char *hint, struct err *err);

#endif
