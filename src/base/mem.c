/* SPDX-License-Identifier: Apache-2.0 */
/* mem — allocation that cannot fail, see mem.h. */
#include "base/mem.h"

#include <stdint.h>

#include "base/err.h"

void *mem_alloc(size_t n)
{
    void *p = malloc(n > 0 ? n : 1);

    if (p == NULL)
        err_bug(__FILE__, __LINE__, "out of memory");
    return p;
}

void *mem_zalloc(size_t count, size_t size)
{
    void *p = calloc(count > 0 ? count : 1, size > 0 ? size : 1);

    if (p == NULL)
        err_bug(__FILE__, __LINE__, "out of memory");
    return p;
}

void *mem_resize(void *p, size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n) || n > PTRDIFF_MAX)
        err_bug(__FILE__, __LINE__, "out of memory");
    p = realloc(p, n > 0 ? n : 1);
    if (p == NULL)
        err_bug(__FILE__, __LINE__, "out of memory");
    return p;
}
