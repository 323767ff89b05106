/* SPDX-License-Identifier: Apache-2.0 */
/* loop — libuv behind a wall: the one thread that owns all state of a program.
 * No type of libuv leaves src/loop.  Rules that every callback may rely on: it is never run inline from the call that armed it;
 * objects may be released inside their own callbacks; after x_stop / x_close of an object its callback does not run again.
 * Thread: everything here belongs to the thread that runs the loop, except loop_post_remote.
 * Errors: negative, see base/err.h.  Time: monotonic microseconds (base/clock.h). */
#ifndef DAVIT_LOOP_LOOP_H
#define DAVIT_LOOP_LOOP_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"

struct loop;

/* Creates the loop; ignores SIGPIPE for the process. Aborts on out of memory. End with loop_free after loop_run returned. */
struct loop *loop_new(void) MUST_USE;
/* Everything that was made on it must be released before (checked: leftovers abort in debug builds). Accepts NULL. Returns NULL. */
struct loop *loop_free(struct loop *loop);
/* Runs until loop_stop or until nothing is left to wait for. */
void loop_run(struct loop *loop);
/* Makes loop_run return after this turn. */
void loop_stop(struct loop *loop);

/* Runs @fn(@arg) in a later turn of the loop, once, in order of posting. The task is embedded in its owner; unlink it with
 * task_cancel before the owner goes. Posting a posted task changes nothing. */
struct task {
    struct list node;
    void (*fn)(void *arg);
    void *arg;
};
void task_init(struct task *t, void (*fn)(void *arg), void *arg);
void loop_post(struct loop *loop, struct task *t);
void task_cancel(struct task *t);
/* loop_post for any thread. @t must not be posted already and cannot be cancelled; it keeps no loop alive by itself. */
void loop_post_remote(struct loop *loop, struct task *t);

/* One-shot timer, embedded. timer_set on an armed timer moves it; USEC_INFINITY disarms it. Resolution is a millisecond; it never
 * fires early. Owners stop it before they go. */
struct timer {
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    usec_t due;        /* monotonic; 0 when not armed */
    unsigned heap_at;  /* internal */
    unsigned seq;      /* internal: timers due at the same time fire in the order in which they were set */
};
void timer_init(struct timer *t, struct loop *loop, void (*fn)(void *arg), void *arg);
void timer_set(struct timer *t, usec_t delay);
void timer_set_at(struct timer *t, usec_t due_mono);
void timer_stop(struct timer *t);
bool timer_armed(const struct timer *t);

/* Calls @fn(@arg) for each delivery of @signum, on the loop. At most one watcher per signal; NULL @fn stops it.
 * A watcher alone does not keep loop_run from returning. */
int loop_signal(struct loop *loop, int signum, void (*fn)(int signum, void *arg), void *arg, struct err *err) MUST_USE;

/* Longest time, in microseconds, that one turn kept the loop busy since the last call: the loop-lag metric. */
usec_t loop_take_lag(struct loop *loop);

/* Test only, outside of loop_run and after clock_fake: moves both clocks on by @delta, stopping at each timer on the way so that
 * timers fire in order at their own time and what they cause (tasks, fibers, jobs of lanes, local sockets) is done before the next. */
void loop_advance(struct loop *loop, usec_t delta);

#endif
