/* SPDX-License-Identifier: Apache-2.0 */
/* loop_internal — what the files of src/loop share: the loop's own record, libuv's types, and waiting that cannot be cancelled.
 * Not included outside of src/loop.
 * One turn is: due timers, then the tasks that were posted up to now, then one poll of libuv.  Everything that wakes a fiber or
 * flushes a stream is a task, so no code of ours runs deeper than one callback of libuv. */
#ifndef DAVIT_LOOP_INTERNAL_H
#define DAVIT_LOOP_INTERNAL_H

#include <pthread.h>
#include <stdlib.h>
#include <uv.h>

#include "base/mem.h"
#include "loop/fiber.h"
#include "loop/loop.h"

enum { LOOP_READ_SIZE = 64 * 1024 };

struct stack;

struct loop {
    uv_loop_t uv;
    uv_timer_t tick;  /* wakes the poll when the first timer is due */
    uv_async_t wake;  /* wakes the poll when another thread posted */
    char *read_buf;   /* LOOP_READ_SIZE, shared by all streams: a read is consumed before the next begins */
    struct list tasks;
    bool stop;
    bool in_turn;

    struct timer **heap; /* binary heap; timer->heap_at is the index + 1 */
    unsigned heap_n, heap_cap;
    unsigned timer_seq;

    pthread_mutex_t remote_lock;
    struct list remote;  /* under remote_lock: tasks from other threads */
    unsigned remote_due; /* posts that other threads owe us; the loop stays alive for them */

    struct list fibers;
    unsigned n_fibers;
    struct stack *stacks; /* ready for reuse */
    unsigned n_stacks;
    const void *main_bottom; /* the loop's own stack, for the address sanitizer */
    size_t main_size;

    struct list signals;
    usec_t lag;
    uint64_t activity; /* counts callbacks of libuv; loop_advance uses it to see silence */
};

/* A promise that another thread will call loop_post_remote, and its end on the loop. */
void loop_expect(struct loop *loop);
void loop_expected(struct loop *loop);

/* alloc_cb of all streams: lends the shared buffer. @h->loop->data is the struct loop. */
void loop_lend_buf(uv_handle_t *h, size_t hint, uv_buf_t *ret);

/* Waits, on a fiber: brings the process group @group to its end, by TERM and then KILL, whatever happens to the fiber. @leader_ended is set by
 * the loop when the end of its leader was seen. */
void loop_end_group(pid_t group, const bool *leader_ended);

/* Is this a script or a program for this machine? execvp hands anything else to a shell, which runs of random bytes what it can. True also where
 * it cannot be looked at: the system says why when it is started. Blocks for one read. */
bool loop_is_program(const char *path);

/* The code for a negative libuv status; -ERR_* of err_code_from_errno. */
int loop_uv_code(int status);

/* Fires what is due. */
void timers_run(struct loop *loop);
/* When the first timer is due, or USEC_INFINITY. */
usec_t timers_next(const struct loop *loop);

/* At the end of the loop: the stacks that are kept for later fibers. */
void fibers_release_stacks(struct loop *loop);

/* Stacks: mapped with a guard page below. stack_get returns NULL when the system has no memory for one. */
struct stack *stack_get(struct loop *loop);
void stack_put(struct loop *loop, struct stack *s);
void *stack_top(struct stack *s);
void *stack_bottom(struct stack *s);
size_t stack_size(struct stack *s);

#endif
