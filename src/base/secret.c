/* SPDX-License-Identifier: Apache-2.0 */
/* secret — bytes that leave no copy behind, see secret.h. */
#include "base/secret.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct secret {
    size_t n;
    size_t mapped;
    char *bytes; /* n of them and a NUL, in pages of their own */
};

struct secret *secret_blank(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct secret *s = NEW(struct secret);

    BUG_ON(n > PTRDIFF_MAX - page);
    s->n = n;
    s->mapped = (n + page) / page * page;
    s->bytes = mmap(NULL, s->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    BUG_ON(s->bytes == MAP_FAILED);
    /* Older kernels and sandboxes may not know it; the wipe does not depend on it. */
    (void)madvise(s->bytes, s->mapped, MADV_DONTDUMP);
    return s;
}

struct secret *secret_new(struct str s)
{
    struct secret *ret = secret_blank(s.n);

    if (s.n > 0)
        memcpy(ret->bytes, s.p, s.n);
    return ret;
}

struct secret *secret_random(size_t n)
{
    struct secret *ret = secret_blank(n);

    rng_bytes(ret->bytes, n);
    return ret;
}

struct secret *secret_free(struct secret *s)
{
    if (s != NULL) {
        explicit_bzero(s->bytes, s->n);
        (void)munmap(s->bytes, s->mapped);
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

char *secret_writable(struct secret *s)
{
    return s->bytes;
}

void secret_buf_release(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->cap);
    buf_release(b);
}
