/* SPDX-License-Identifier: Apache-2.0 */
/* str — text from outside as pointer and length, and the strict conversions that everybody needs.
 * A `struct str` borrows: it never owns its bytes and they need not end in NUL. Passed by value.
 * Thread: any.  Input trust: peer; nothing here reads past `n`. */
#ifndef DAVIT_BASE_STR_H
#define DAVIT_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct str {
    const char *p;
    size_t n;
};

#define STR(lit) ((struct str){(lit), sizeof(lit) - 1})
#define STR_FMT "%.*s"
#define STR_ARG(s) (int)(s).n, (s).p

/* Borrows a C string; NULL gives the empty one. */
struct str str_from(const char *s);

/* Same bytes; the empty text equals the empty text whatever its pointer. */
bool str_eq(struct str a, struct str b);
bool str_eq_ci(struct str a, struct str b); /* ASCII case only */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);

/* Without ASCII space and tab at both ends. */
struct str str_trim(struct str s);

/* Cuts @s at the first @sep: returns what stands before it and moves @s behind it. Without @sep returns all and empties @s. */
struct str str_cut(struct str *s, char sep);

/* The next word of @s, between ASCII spaces and tabs; moves @s behind it. Empty: there is none. */
struct str str_word(struct str *s);

/* A NUL-terminated copy that the caller frees. Aborts on out of memory. */
char *str_dup(struct str s) MUST_USE;
/* As printf into fresh memory that the caller frees. Aborts on out of memory. */
char *str_printf(const char *fmt, ...) PRINTF(1, 2) MUST_USE;

/* Copies into @dst of @size > 0 bytes, always NUL-terminated. Returns 0, or 1 if it was cut (never inside a UTF-8 sequence). */
int str_copy(char *dst, size_t size, struct str s);

/* Decimal digits only, no sign, no space, all of @s. 0, or -ERR_INVALID (not a number), -ERR_RANGE (> max). */
int str_to_u64(struct str s, uint64_t max, uint64_t *ret) MUST_USE;
/* The same with one leading '-' allowed. */
int str_to_i64(struct str s, int64_t min, int64_t max, int64_t *ret) MUST_USE;
/* Non-negative decimal fraction such as "0.5"; at most 9 digits behind the point. *ret in thousandths, rounded down. */
int str_to_milli(struct str s, uint64_t max, uint64_t *ret_milli) MUST_USE;
/* "512m", "1g", "64k", "100" (bytes; powers of 1024; one letter of kmgtp, either case, optional trailing b). */
int str_to_bytes(struct str s, uint64_t max, uint64_t *ret) MUST_USE;
/* "500ms", "30s", "5m", "2h", also "us" and "d"; bare digits are seconds. *ret in microseconds. */
int str_to_usec(struct str s, uint64_t max_usec, uint64_t *ret) MUST_USE;

/* Well-formed UTF-8 (RFC 3629: no surrogates, shortest form, <= U+10FFFF). */
bool str_is_utf8(struct str s);
/* Bytes of the one well-formed sequence (same rules) that @s starts with: 1..4, or 0 if it does not or @s is empty. */
size_t str_utf8_len(struct str s);

/* Is this one well-formed sequence a character that moves the cursor or turns the text around: a C1 control, a line or paragraph
 * separator, a bidi control? What is shown on a terminal must not have it. (ASCII controls are the caller's to see.) */
bool str_is_trick(struct str c);

/* DNS label: 1..63 of [a-z0-9-], not starting or ending with '-'. What projects, services and servers are named by. */
bool str_is_label(struct str s);
/* DNS name: labels with dots between, at most 253 bytes, in lower case. */
bool str_is_dns_name(struct str s);

/* Constant-time comparison for secrets and digests. */
bool str_eq_secret(struct str a, struct str b);

/* What a hex digit stands for, either case, or -1. */
int str_hex_digit(char c);
/* Lower-case hex of @n bytes into @dst of 2n + 1 bytes, NUL-terminated. */
void str_hex(const void *src, size_t n, char *dst);
/* Both cases accepted. @dst holds s.n / 2 bytes. 0 or -ERR_INVALID. */
int str_unhex(struct str s, void *dst, size_t dst_size, size_t *ret_n) MUST_USE;

/* Base64 (RFC 4648). Encode: standard with padding, or URL-safe without. *ret is NUL-terminated, freed by the caller. */
char *str_base64(const void *src, size_t n) MUST_USE;
char *str_base64url(const void *src, size_t n) MUST_USE;
/* Accepts both alphabets, padded or not; nothing else. @dst of dst_size bytes. 0, -ERR_INVALID, -ERR_RANGE (does not fit). */
int str_unbase64(struct str s, void *dst, size_t dst_size, size_t *ret_n) MUST_USE;

#endif
