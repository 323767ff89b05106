/* SPDX-License-Identifier: Apache-2.0 */
/* stack — memory for fibers: one mapping each, the lowest page a guard, a few kept for reuse with their pages given back. */
#include "loop/loop_internal.h"

#include <sys/mman.h>

#include "loop/fiber_san.h"

enum {
    STACK_KEEP = 64,          /* ready stacks per loop */
    STACK_WARM = 16 * 1024    /* stays resident at the top of a kept stack: most fibers need no more */
};

#ifdef FIBER_ASAN
enum { STACK_SIZE = 1024 * 1024 };
#else
enum { STACK_SIZE = 256 * 1024 };
#endif

/* Lives at the very top of its own mapping. */
struct stack {
    struct stack *next;
    char *map; /* guard page, then STACK_SIZE bytes */
    unsigned valgrind_id;
    _Alignas(16) char end[];
};

static size_t guard_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

struct stack *stack_get(struct loop *loop)
{
    struct stack *s = loop->stacks;
    char *map;

    if (s) {
        loop->stacks = s->next;
        loop->n_stacks--;
        return s;
    }
    map = mmap(NULL, guard_size() + STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    if (mprotect(map, guard_size(), PROT_NONE) < 0) {
        (void)munmap(map, guard_size() + STACK_SIZE);
        return NULL;
    }
    s = (struct stack *)(void *)(map + guard_size() + STACK_SIZE - sizeof(*s));
    s->map = map;
    s->valgrind_id = FIBER_VALGRIND_REGISTER(stack_bottom(s), stack_top(s));
    return s;
}

static void stack_unmap(struct stack *s)
{
    FIBER_VALGRIND_DEREGISTER(s->valgrind_id);
    (void)munmap(s->map, guard_size() + STACK_SIZE);
}

void stack_put(struct loop *loop, struct stack *s)
{
    if (loop->n_stacks >= STACK_KEEP) {
        stack_unmap(s);
        return;
    }
    (void)madvise(stack_bottom(s), STACK_SIZE - STACK_WARM, MADV_DONTNEED);
    s->next = loop->stacks;
    loop->stacks = s;
    loop->n_stacks++;
}

void fibers_release_stacks(struct loop *loop)
{
    struct stack *s;

    while ((s = loop->stacks) != NULL) {
        loop->stacks = s->next;
        stack_unmap(s);
    }
    loop->n_stacks = 0;
}

void *stack_top(struct stack *s)
{
    return s;
}

void *stack_bottom(struct stack *s)
{
    return s->map + guard_size();
}

size_t stack_size(struct stack *s)
{
    return (size_t)((char *)stack_top(s) - (char *)stack_bottom(s));
}
