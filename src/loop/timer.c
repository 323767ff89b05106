/* SPDX-License-Identifier: Apache-2.0 */
/* timer — a binary heap of armed timers, ordered by due time and, at the same time, by the order in which they were set. */
#include "loop/loop_internal.h"

enum { HEAP_FIRST = 64 };

static bool earlier(const struct timer *a, const struct timer *b)
{
    if (a->due != b->due)
        return a->due < b->due;
    return (int)(a->seq - b->seq) < 0; /* survives a wrap */
}

static void place(struct loop *loop, unsigned at, struct timer *t)
{
    loop->heap[at] = t;
    t->heap_at = at + 1;
}

static void sift_up(struct loop *loop, unsigned at, struct timer *t)
{
    while (at > 0) {
        unsigned parent = (at - 1) / 2;

        if (!earlier(t, loop->heap[parent]))
            break;
        place(loop, at, loop->heap[parent]);
        at = parent;
    }
    place(loop, at, t);
}

static void sift_down(struct loop *loop, unsigned at, struct timer *t)
{
    for (;;) {
        unsigned child = 2 * at + 1;

        if (child >= loop->heap_n)
            break;
        if (child + 1 < loop->heap_n && earlier(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!earlier(loop->heap[child], t))
            break;
        place(loop, at, loop->heap[child]);
        at = child;
    }
    place(loop, at, t);
}

void timer_init(struct timer *t, struct loop *loop, void (*fn)(void *arg), void *arg)
{
    *t = (struct timer){.loop = loop, .fn = fn, .arg = arg};
}

void timer_stop(struct timer *t)
{
    struct loop *loop = t->loop;
    struct timer *last;
    unsigned at;

    if (!t->heap_at)
        return;
    at = t->heap_at - 1;
    t->heap_at = 0;
    t->due = 0;
    last = loop->heap[--loop->heap_n];
    if (last == t)
        return;
    if (at > 0 && earlier(last, loop->heap[(at - 1) / 2]))
        sift_up(loop, at, last);
    else
        sift_down(loop, at, last);
}

void timer_set_at(struct timer *t, usec_t due_mono)
{
    struct loop *loop = t->loop;
    usec_t now = clock_mono();

    timer_stop(t);
    if (due_mono == USEC_INFINITY)
        return;
    /* Not before now: timers_run relies on it to leave what its callbacks arm to the next turn. */
    t->due = due_mono > now ? due_mono : now;
    if (t->due == 0)
        t->due = 1;
    t->seq = loop->timer_seq++;
    if (loop->heap_n == loop->heap_cap) {
        unsigned cap = loop->heap_cap ? 2 * loop->heap_cap : HEAP_FIRST;

        loop->heap = mem_resize(loop->heap, cap, sizeof(*loop->heap));
        loop->heap_cap = cap;
    }
    sift_up(loop, loop->heap_n++, t);
}

void timer_set(struct timer *t, usec_t delay)
{
    timer_set_at(t, clock_add(clock_mono(), delay));
}

bool timer_armed(const struct timer *t)
{
    return t->heap_at != 0;
}

void timers_run(struct loop *loop)
{
    usec_t now = clock_mono();
    unsigned seq = loop->timer_seq;

    while (loop->heap_n > 0) {
        struct timer *t = loop->heap[0];

        if (t->due > now || (int)(t->seq - seq) >= 0)
            break;
        timer_stop(t);
        t->fn(t->arg);
    }
}

usec_t timers_next(const struct loop *loop)
{
    return loop->heap_n > 0 ? loop->heap[0]->due : USEC_INFINITY;
}
