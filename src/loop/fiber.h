/* SPDX-License-Identifier: Apache-2.0 */
/* fiber — code that waits and still reads from top to bottom: stackful coroutines on the loop thread.
 * A fiber runs until it waits in one of the calls marked "waits"; the loop resumes it later. There is no preemption, so state
 * needs no lock between two waits.  Each waiting call takes a deadline (monotonic; USEC_INFINITY allowed only where the wait ends
 * with the program or with fiber_cancel) and returns 0, -ERR_DEADLINE, or -ERR_CANCELLED once the fiber was cancelled (then at
 * once, every time, until the fiber ends: unwind).
 * Limits: stack 256 KB reserved (1 MB under ASan) with a guard page; at most FIBER_MAX alive.  No big arrays on a stack.
 * Thread: loop only.  A fiber is never resumed inside a callback of a library: wake-ups are posted. */
#ifndef DAVIT_LOOP_FIBER_H
#define DAVIT_LOOP_FIBER_H

#include "loop/loop.h"

enum { FIBER_MAX = 4000 };

struct fiber;

/* Starts @fn(@arg) in a later turn. @name is borrowed and static (for dumps). *ret (may be NULL) gets a reference that the
 * caller ends with fiber_unref. 0, or -ERR_EXHAUSTED at FIBER_MAX. */
int fiber_spawn(struct loop *loop, const char *name, void (*fn)(void *arg), void *arg, struct fiber **ret) MUST_USE;
/* Ends a reference; the fiber itself goes on. Accepts NULL. Returns NULL. */
struct fiber *fiber_unref(struct fiber *f);
/* Makes the present and all later waits of @f return -ERR_CANCELLED. Harmless on an ended fiber. Accepts NULL. */
void fiber_cancel(struct fiber *f);
/* The same, but @f itself may lift it: a job whose step is broken off still has to undo what was done. Accepts NULL. */
void fiber_interrupt(struct fiber *f);
/* On the running fiber: its waits wait again, unless it was cancelled as well. */
void fiber_uninterrupt(void);
bool fiber_done(const struct fiber *f);
/* The running fiber, or NULL outside of any. */
struct fiber *fiber_self(void);
/* Has the running fiber been cancelled, or interrupted? */
bool fiber_cancelled(void);
/* Between these two the running fiber's waits ignore its cancellation: for work that must be brought to an end. Each wait in between has a deadline.
 * They nest. */
void fiber_shield(void);
void fiber_unshield(void);
/* Number alive, for metrics and tests. */
unsigned fiber_count(const struct loop *loop);

/* Waits until @f ended. */
int fiber_join(struct fiber *f, usec_t deadline) MUST_USE;
/* Waits @delay. 0 after the full time, or -ERR_CANCELLED. */
int fiber_sleep(usec_t delay) MUST_USE;
/* Lets the rest of the loop run one turn. 0 or -ERR_CANCELLED. */
int fiber_yield(void) MUST_USE;

/* An event that fibers wait for: a latch. event_signal wakes all waiters and stays set until event_reset; event_pulse wakes the
 * present waiters only. Embedded in its owner; event_release wakes waiters with -ERR_CANCELLED. */
struct event {
    struct loop *loop;
    struct list waiters;
    bool set;
};
void event_init(struct event *e, struct loop *loop);
void event_release(struct event *e);
void event_signal(struct event *e);
void event_pulse(struct event *e);
void event_reset(struct event *e);
/* Waits until set (returns at once if it is). 0, -ERR_DEADLINE, -ERR_CANCELLED. */
int event_wait(struct event *e, usec_t deadline) MUST_USE;

/* clock_mono() + @delay: what to pass as a deadline. */
usec_t deadline_in(usec_t delay);

#endif
