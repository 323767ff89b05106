/* SPDX-License-Identifier: Apache-2.0 */
/* buf — a growable byte buffer with a ceiling fixed at birth.
 * Invariants: len <= cap <= max (+1 for a NUL that always follows the content once allocated); data is NULL while cap is 0.
 * Going over `max` fails with -ERR_EXHAUSTED and leaves the content as it was: the limit of every input that is
 * collected in memory is the `max` of its buf.  Out of memory aborts.
 * Ownership: embedded in its owner; buf_release at the end.  Thread: any, one at a time. */
#ifndef DAVIT_BASE_BUF_H
#define DAVIT_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"

struct buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max;
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})
#define AUTO_BUF CLEANUP(buf_release) struct buf

/* An empty buffer; allocates nothing yet. */
void buf_init(struct buf *b, size_t max_bytes);
/* Frees the memory; the buffer is empty and usable again with the same max. */
void buf_release(struct buf *b);
/* Empties it and keeps the memory. */
void buf_clear(struct buf *b);

/* Each appends and returns 0, or -ERR_EXHAUSTED with nothing appended. */
int buf_append(struct buf *b, const void *p, size_t n) MUST_USE;
int buf_append_str(struct buf *b, struct str s) MUST_USE;
int buf_append_cstr(struct buf *b, const char *s) MUST_USE;
int buf_append_byte(struct buf *b, uint8_t c) MUST_USE;
int buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3) MUST_USE;
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) MUST_USE;

/* Makes room for @n more bytes and returns where to write them (then call buf_commit), or NULL past max. */
void *buf_reserve(struct buf *b, size_t n) MUST_USE;
void buf_commit(struct buf *b, size_t n);

/* Drops @n bytes at the front (all, if n >= len). */
void buf_consume(struct buf *b, size_t n);

/* The content, borrowed until the next change. */
struct str buf_str(const struct buf *b);
/* NUL-terminated content, borrowed; "" for an empty one. */
const char *buf_cstr(const struct buf *b);
/* Gives the content away as malloc'ed NUL-terminated memory (freed by the caller); the buffer is empty after. */
char *buf_take(struct buf *b) MUST_USE;

#endif
