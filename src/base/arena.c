/* SPDX-License-Identifier: Apache-2.0 */
/* arena — bump allocation from a chain of chunks, see arena.h. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

enum { ARENA_ALIGN = 16, ARENA_CHUNK = 4096 };

struct arena_chunk {
    struct arena_chunk *next;
    alignas(ARENA_ALIGN) char bytes[];
};

void arena_init(struct arena *a, size_t max)
{
    *a = (struct arena){.max = max};
}

static char *add_chunk(struct arena *a, size_t n)
{
    struct arena_chunk *c = mem_zalloc(1, sizeof(*c) + n);

    c->next = a->chunks;
    a->chunks = c;
    return c->bytes;
}

void *arena_alloc(struct arena *a, size_t n)
{
    char *p;

    n = n > 0 ? n : 1;
    if (n > a->max - a->used || n > PTRDIFF_MAX / 2)
        return NULL;
    n = (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (n > a->max - a->used)
        return NULL;
    a->used += n;
    if (n <= a->left) {
        p = a->at;
        a->at += n;
        a->left -= n;
        return p;
    }
    /* A large piece gets a chunk of its own, so that at most a quarter of a shared one is ever given up. */
    if (n > ARENA_CHUNK / 4)
        return add_chunk(a, n);
    p = add_chunk(a, ARENA_CHUNK);
    a->at = p + n;
    a->left = ARENA_CHUNK - n;
    return p;
}

char *arena_strdup(struct arena *a, struct str s)
{
    char *p = s.n < SIZE_MAX ? arena_alloc(a, s.n + 1) : NULL;

    if (p != NULL && s.n > 0)
        memcpy(p, s.p, s.n);
    return p;
}

void arena_release(struct arena *a)
{
    struct arena_chunk *c = a->chunks;

    while (c != NULL) {
        struct arena_chunk *next = c->next;
        free(c);
        c = next;
    }
    arena_init(a, a->max);
}
