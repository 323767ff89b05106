/* SPDX-License-Identifier: Apache-2.0 */
/* secret — bytes that leave no copy behind, see secret.h. */
#include "base/secret.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct secret {
    size_t n;
    char bytes[]; /* n of them and a NUL */
};

static struct secret *blank(size_t n)
{
    struct secret *s;

    BUG_ON(n > PTRDIFF_MAX - sizeof(*s) - 1);
    s = mem_zalloc(1, sizeof(*s) + n + 1);
    s->n = n;
    return s;
}

struct secret *secret_new(struct str s)
{
    struct secret *ret = blank(s.n);

    if (s.n > 0)
        memcpy(ret->bytes, s.p, s.n);
    return ret;
}

struct secret *secret_random(size_t n)
{
    struct secret *ret = blank(n);

    rng_bytes(ret->bytes, n);
    return ret;
}

struct secret *secret_free(struct secret *s)
{
    if (s != NULL) {
        explicit_bzero(s->bytes, s->n);
        free(s);
    }
    return NULL;
}

bool secret_eq(const struct secret *a, const struct secret *b)
{
    return a != NULL && b != NULL && str_eq_secret(secret_reveal(a), secret_reveal(b));
}

size_t secret_len(const struct secret *s)
{
    return s != NULL ? s->n : 0;
}

struct str secret_reveal(const struct secret *s)
{
    return s != NULL ? (struct str){s->bytes, s->n} : STR("");
}
