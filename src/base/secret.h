/* SPDX-License-Identifier: Apache-2.0 */
/* secret — a byte string that cannot be printed: opaque to printf and log, wiped when freed, compared in constant time. Its bytes lie in pages
 * of their own, which a core dump leaves out and which are gone from the address space once it is freed.
 * The only ways to the bytes are secret_reveal and secret_writable, which are easy to grep for.
 * Ownership: sole owner, secret_free.  Thread: any, one at a time.  Cost: a page and two system calls each. */
#ifndef DAVIT_BASE_SECRET_H
#define DAVIT_BASE_SECRET_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

struct secret;

/* Copies @s. Aborts on out of memory. The caller wipes its own copy. */
struct secret *secret_new(struct str s) MUST_USE;
/* @n random bytes. */
struct secret *secret_random(size_t n) MUST_USE;
/* @n zero bytes, for a decoder that writes to secret_writable. */
struct secret *secret_blank(size_t n) MUST_USE;
/* Wipes and frees; accepts NULL; returns NULL. */
struct secret *secret_free(struct secret *s);
bool secret_eq(const struct secret *a, const struct secret *b);
size_t secret_len(const struct secret *s);
/* Borrowed, NUL-terminated, valid until secret_free. Each use must be one that needs the bytes. */
struct str secret_reveal(const struct secret *s);
/* The same bytes, secret_len of them, to be filled in. */
char *secret_writable(struct secret *s);

/* A buffer that held secrets: wipes its memory, then frees it as buf_release does. What it outgrew earlier is not reached: reserve first. */
void secret_buf_release(struct buf *b);

static inline void cleanup_secret(struct secret **s)
{
    secret_free(*s);
}
#define AUTO_SECRET     CLEANUP(cleanup_secret) struct secret *
#define AUTO_SECRET_BUF CLEANUP(secret_buf_release) struct buf

#endif
