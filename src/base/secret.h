/* SPDX-License-Identifier: Apache-2.0 */
/* secret — a byte string that cannot be printed: opaque to printf and log, wiped when freed, compared in constant time.
 * The only way to the bytes is secret_reveal, which is easy to grep for.
 * Ownership: sole owner, secret_free.  Thread: any, one at a time. */
#ifndef DAVIT_BASE_SECRET_H
#define DAVIT_BASE_SECRET_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/str.h"

struct secret;

/* Copies @s. Aborts on out of memory. The caller wipes its own copy. */
struct secret *secret_new(struct str s) MUST_USE;
/* @n random bytes. */
struct secret *secret_random(size_t n) MUST_USE;
/* Wipes and frees; accepts NULL; returns NULL. */
struct secret *secret_free(struct secret *s);
bool secret_eq(const struct secret *a, const struct secret *b);
size_t secret_len(const struct secret *s);
/* Borrowed, NUL-terminated, valid until secret_free. Each use must be one that needs the bytes. */
struct str secret_reveal(const struct secret *s);

static inline void cleanup_secret(struct secret **s)
{
    secret_free(*s);
}
#define AUTO_SECRET CLEANUP(cleanup_secret) struct secret *

#endif
