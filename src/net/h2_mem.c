/* SPDX-License-Identifier: Apache-2.0 */
/* h2_mem — the one large block of a session, the 16 KB in which nghttp2 packs a frame, in pages of its own: what an idle session does not need
 * goes back to the system and comes back as zeroes when the next frame is packed.  All else of nghttp2 is malloc's.
 * Slots are cut from chunks of 2 MB, aligned to their size so that a slot tells its chunk; a chunk without slots in use is unmapped. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/list.h"
#include "net/h2_internal.h"

enum {
    CHUNK = 2 * 1024 * 1024,
    PAGE = 4096,
    SLOT = 5 * PAGE,
    SLOTS = (CHUNK - PAGE) / SLOT,
    /* nghttp2's buffer: a frame header, the byte of a padding length, and the payload. */
    FRAME_BUF_MIN = 16 * 1024 + 1,
    FRAME_BUF_MAX = SLOT
};

/* In the first page of its own chunk. */
struct chunk {
    struct list node;
    unsigned used;
    bool taken[SLOTS];
};

/* Chunks with a slot to give, of this thread's loop. */
static _Thread_local struct list room;

static struct chunk *chunk_new(void)
{
    /* Twice the size, of which the aligned middle is kept. */
    char *p = mmap(NULL, 2 * (size_t)CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t before = (CHUNK - ((uintptr_t)p & (CHUNK - 1))) & (CHUNK - 1);
    if (before)
        (void)munmap(p, before);
    (void)munmap(p + before + CHUNK, CHUNK - before);
    struct chunk *c = (struct chunk *)(void *)(p + before);
    (void)madvise(c, CHUNK, MADV_NOHUGEPAGE); /* one touched page must not become 2 MB */
    list_init(&c->node);
    list_push(&room, &c->node);
    return c;
}

static void *slot_get(void)
{
    if (!room.next)
        list_init(&room);
    struct chunk *c = list_first(&room, struct chunk, node);
    if (!c && !(c = chunk_new()))
        return NULL;
    size_t i = 0;
    while (c->taken[i])
        i++;
    c->taken[i] = true;
    if (++c->used == SLOTS)
        list_remove(&c->node);
    return (char *)c + PAGE + i * SLOT;
}

static void slot_put(void *slot)
{
    struct chunk *c = (struct chunk *)(void *)((char *)slot - ((uintptr_t)slot & (CHUNK - 1)));
    if (c->used == SLOTS)
        list_push(&room, &c->node);
    c->taken[(size_t)((char *)slot - (char *)c - PAGE) / SLOT] = false;
    if (--c->used) {
        (void)madvise(slot, SLOT, MADV_DONTNEED);
        return;
    }
    list_remove(&c->node);
    (void)munmap(c, CHUNK);
}

/* ---- what nghttp2 calls ---- */

static void *mem_malloc(size_t n, void *arg)
{
    struct h2_mem *m = arg;
    if (m->making && !m->slot && n >= FRAME_BUF_MIN && n <= FRAME_BUF_MAX)
        m->slot = slot_get();
    else
        return malloc(n);
    return m->slot ? m->slot : malloc(n);
}

static void mem_free(void *p, void *arg)
{
    struct h2_mem *m = arg;
    if (p && p == m->slot) {
        slot_put(p);
        m->slot = NULL;
    } else {
        free(p);
    }
}

static void *mem_calloc(size_t count, size_t size, void *arg)
{
    (void)arg;
    return calloc(count, size);
}

static void *mem_realloc(void *p, size_t n, void *arg)
{
    struct h2_mem *m = arg;
    if (!p)
        return mem_malloc(n, arg);
    if (p != m->slot)
        return realloc(p, n);
    if (n <= SLOT)
        return p;
    void *bigger = malloc(n);
    if (bigger) {
        memcpy(bigger, p, SLOT);
        mem_free(p, arg);
    }
    return bigger;
}

nghttp2_mem h2_mem_functions(struct h2_mem *m)
{
    return (nghttp2_mem){.mem_user_data = m, .malloc = mem_malloc, .free = mem_free, .calloc = mem_calloc, .realloc = mem_realloc};
}

void h2_mem_trim(struct h2_mem *m)
{
    if (m->slot)
        (void)madvise(m->slot, SLOT, MADV_DONTNEED);
}
