/* SPDX-License-Identifier: Apache-2.0 */
/* buf — growable bytes under a ceiling, see buf.h. */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { BUF_FIRST = 128 };

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = BUF_INIT(max_bytes);
}

void buf_release(struct buf *b)
{
    size_t max = b->max;

    free(b->data);
    *b = BUF_INIT(max);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data != NULL)
        b->data[0] = '\0';
}

/* Room for @n more bytes, doubling so that appends stay linear overall. The byte for the NUL is on top of cap. */
static int grow(struct buf *b, size_t n)
{
    size_t need, cap;

    if (__builtin_add_overflow(b->len, n, &need) || need > b->max || need > PTRDIFF_MAX - 1)
        return -(int)ERR_EXHAUSTED;
    if (b->data != NULL && need <= b->cap)
        return 0;
    cap = b->cap > BUF_FIRST / 2 ? b->cap * 2 : BUF_FIRST;
    if (cap < need)
        cap = need;
    if (cap > b->max)
        cap = b->max;
    b->data = mem_resize(b->data, cap + 1, 1);
    b->cap = cap;
    b->data[b->len] = '\0';
    return 0;
}

int buf_append(struct buf *b, const void *p, size_t n)
{
    int rc = grow(b, n);

    if (rc < 0)
        return rc;
    if (n > 0)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int buf_append_str(struct buf *b, struct str s)
{
    return buf_append(b, s.p, s.n);
}

int buf_append_cstr(struct buf *b, const char *s)
{
    return buf_append(b, s, s != NULL ? strlen(s) : 0);
}

int buf_append_byte(struct buf *b, uint8_t c)
{
    return buf_append(b, &c, 1);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int rc;

    va_start(ap, fmt);
    rc = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return rc;
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    size_t room = b->cap - b->len;
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(b->data != NULL ? b->data + b->len : NULL, b->data != NULL ? room + 1 : 0, fmt, ap);
    if (n < 0 || grow(b, (size_t)n) < 0) {
        va_end(again);
        if (b->data != NULL)
            b->data[b->len] = '\0';
        return -(int)ERR_EXHAUSTED;
    }
    if ((size_t)n > room || room == 0)
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
    va_end(again);
    b->len += (size_t)n;
    return 0;
}

void *buf_reserve(struct buf *b, size_t n)
{
    return grow(b, n) < 0 ? NULL : b->data + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
    BUG_ON(n > b->cap - b->len);
    if (b->data == NULL)
        return;
    b->len += n;
    b->data[b->len] = '\0';
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        buf_clear(b);
        return;
    }
    b->len -= n;
    memmove(b->data, b->data + n, b->len + 1);
}

struct str buf_str(const struct buf *b)
{
    return (struct str){buf_cstr(b), b->len};
}

const char *buf_cstr(const struct buf *b)
{
    return b->data != NULL ? b->data : "";
}

char *buf_take(struct buf *b)
{
    char *p = b->data;

    if (p == NULL) {
        p = mem_alloc(1);
        p[0] = '\0';
    }
    *b = BUF_INIT(b->max);
    return p;
}
