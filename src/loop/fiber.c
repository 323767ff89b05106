/* SPDX-License-Identifier: Apache-2.0 */
/* fiber — the switch between the loop and its fibers, waiting, and events. */
#include "loop/fiber.h"

#include <string.h>

#include "loop/fiber_san.h"
#include "loop/loop_internal.h"

struct fiber {
    struct list node; /* loop->fibers */
    struct loop *loop;
    const char *name;
    void (*fn)(void *arg);
    void *arg;
    struct stack *stack;
    void *sp;      /* while it is not running */
    void *back_sp; /* the loop's, while it is running */
    void *fake_stack, *back_fake_stack;
    struct task resume;
    struct timer timer;
    struct list waiting; /* event->waiters */
    struct event ended;
    unsigned refs; /* one of its own until it ended, one per holder */
    unsigned shield;
    int wait_rc;
    bool parked; /* in a wait that nothing has ended yet */
    bool cancelled;
    bool interrupted; /* until it is lifted */
    bool done;
};

static _Thread_local struct fiber *current;

void fiber_switch(void **save_sp, void *next_sp);
void fiber_start(void);
_Noreturn void fiber_main(struct fiber *f);

/* Out of line and without instrumentation: it never returns, so an instrumented frame would stay poisoned on a reused stack. */
#ifdef FIBER_ASAN
__attribute__((no_sanitize_address))
#endif
_Noreturn void fiber_main(struct fiber *f)
{
    FIBER_SAN_ENTER(NULL, &f->loop->main_bottom, &f->loop->main_size);
    f->fn(f->arg);
    f->done = true;
    FIBER_SAN_LEAVE(NULL, f->loop->main_bottom, f->loop->main_size);
    fiber_switch(&f->sp, f->back_sp);
    err_bug(__FILE__, __LINE__, "an ended fiber ran again");
}

/* The frame that fiber_switch expects below fiber_start; see fiber_switch.S. */
static void *first_frame(struct fiber *f)
{
    uintptr_t *top = stack_top(f->stack);
#if defined(__x86_64__)
    uint32_t mxcsr;
    uint16_t fcw;
    uintptr_t *sp = top - 10;

    memset(sp, 0, 10 * sizeof(*sp));
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(fcw));
    sp[0] = (uintptr_t)mxcsr | (uintptr_t)fcw << 32;
    sp[4] = (uintptr_t)f;           /* r12 */
    sp[7] = (uintptr_t)fiber_start; /* popped by ret: the stack is 16-byte aligned in fiber_start */
#else
    uintptr_t *sp = top - 20;

    memset(sp, 0, 20 * sizeof(*sp));
    sp[0] = (uintptr_t)f;            /* x19 */
    sp[11] = (uintptr_t)fiber_start; /* x30 */
#endif
    return sp;
}

static void fiber_end(struct fiber *f)
{
    struct loop *loop = f->loop;

    stack_put(loop, f->stack);
    f->stack = NULL;
    list_remove(&f->node);
    loop->n_fibers--;
    event_signal(&f->ended);
    (void)fiber_unref(f);
}

static void on_resume(void *arg)
{
    struct fiber *f = arg;

    BUG_ON(current != NULL);
    current = f;
    FIBER_SAN_LEAVE(&f->back_fake_stack, stack_bottom(f->stack), stack_size(f->stack));
    fiber_switch(&f->back_sp, f->sp);
    FIBER_SAN_ENTER(f->back_fake_stack, NULL, NULL);
    current = NULL;
    if (f->done)
        fiber_end(f);
}

/* Goes on in the loop; returns when on_resume comes back to us. */
static void park(struct fiber *f)
{
    FIBER_SAN_LEAVE(&f->fake_stack, f->loop->main_bottom, f->loop->main_size);
    fiber_switch(&f->sp, f->back_sp);
    FIBER_SAN_ENTER(f->fake_stack, &f->loop->main_bottom, &f->loop->main_size);
}

static void wake(struct fiber *f, int rc)
{
    if (!f->parked)
        return;
    f->parked = false;
    f->wait_rc = rc;
    list_remove(&f->waiting);
    timer_stop(&f->timer);
    loop_post(f->loop, &f->resume);
}

static void on_deadline(void *arg)
{
    wake(arg, -ERR_DEADLINE);
}

static bool interrupted(const struct fiber *f)
{
    return (f->cancelled || f->interrupted) && f->shield == 0;
}

/* The one place where a fiber waits: for a wake-up through @waiters (may be NULL) or until @deadline. */
static int wait_on(struct list *waiters, usec_t deadline)
{
    struct fiber *f = current;

    BUG_ON(!f);
    if (interrupted(f))
        return -ERR_CANCELLED;
    if (waiters)
        list_push(waiters, &f->waiting);
    if (deadline != USEC_INFINITY)
        timer_set_at(&f->timer, deadline);
    f->parked = true;
    park(f);
    return interrupted(f) ? -ERR_CANCELLED : f->wait_rc;
}

int fiber_spawn(struct loop *loop, const char *name, void (*fn)(void *arg), void *arg, struct fiber **ret)
{
    struct fiber *f;
    struct stack *stack;

    if (loop->n_fibers >= FIBER_MAX)
        return -ERR_EXHAUSTED;
    stack = stack_get(loop);
    if (!stack)
        return -ERR_EXHAUSTED;
    f = NEW(struct fiber);
    f->loop = loop;
    f->name = name;
    f->fn = fn;
    f->arg = arg;
    f->stack = stack;
    f->refs = 1;
    f->sp = first_frame(f);
    list_init(&f->node);
    list_init(&f->waiting);
    task_init(&f->resume, on_resume, f);
    timer_init(&f->timer, loop, on_deadline, f);
    event_init(&f->ended, loop);
    list_push(&loop->fibers, &f->node);
    loop->n_fibers++;
    loop_post(loop, &f->resume);
    if (ret) {
        f->refs++;
        *ret = f;
    }
    return 0;
}

struct fiber *fiber_unref(struct fiber *f)
{
    if (f && --f->refs == 0) {
        event_release(&f->ended);
        free(f);
    }
    return NULL;
}

void fiber_cancel(struct fiber *f)
{
    if (!f || f->done)
        return;
    f->cancelled = true;
    if (f->shield == 0)
        wake(f, -ERR_CANCELLED);
}

void fiber_interrupt(struct fiber *f)
{
    if (!f || f->done)
        return;
    f->interrupted = true;
    if (f->shield == 0)
        wake(f, -ERR_CANCELLED);
}

void fiber_uninterrupt(void)
{
    BUG_ON(!current);
    current->interrupted = false;
}

bool fiber_done(const struct fiber *f)
{
    return f->done;
}

struct fiber *fiber_self(void)
{
    return current;
}

bool fiber_cancelled(void)
{
    return current && interrupted(current);
}

unsigned fiber_count(const struct loop *loop)
{
    return loop->n_fibers;
}

void fiber_shield(void)
{
    BUG_ON(!current);
    current->shield++;
}

void fiber_unshield(void)
{
    BUG_ON(!current || current->shield == 0);
    current->shield--;
}

int fiber_join(struct fiber *f, usec_t deadline)
{
    int rc;

    BUG_ON(f == current);
    f->refs++;
    rc = event_wait(&f->ended, deadline);
    (void)fiber_unref(f);
    return rc;
}

int fiber_sleep(usec_t delay)
{
    int rc = wait_on(NULL, clock_add(clock_mono(), delay));

    return rc == -ERR_DEADLINE ? 0 : rc;
}

int fiber_yield(void)
{
    struct fiber *f = current;

    BUG_ON(!f);
    if (interrupted(f))
        return -ERR_CANCELLED;
    f->wait_rc = 0;
    loop_post(f->loop, &f->resume);
    park(f);
    return interrupted(f) ? -ERR_CANCELLED : 0;
}

void event_init(struct event *e, struct loop *loop)
{
    e->loop = loop;
    e->set = false;
    list_init(&e->waiters);
}

static void wake_all(struct event *e, int rc)
{
    while (!list_empty(&e->waiters))
        wake(list_entry(e->waiters.next, struct fiber, waiting), rc);
}

void event_release(struct event *e)
{
    wake_all(e, -ERR_CANCELLED);
}

void event_signal(struct event *e)
{
    e->set = true;
    wake_all(e, 0);
}

void event_pulse(struct event *e)
{
    wake_all(e, 0);
}

void event_reset(struct event *e)
{
    e->set = false;
}

int event_wait(struct event *e, usec_t deadline)
{
    BUG_ON(!current);
    if (interrupted(current))
        return -ERR_CANCELLED;
    if (e->set)
        return 0;
    if (deadline <= clock_mono())
        return -ERR_DEADLINE;
    return wait_on(&e->waiters, deadline);
}

usec_t deadline_in(usec_t delay)
{
    return clock_add(clock_mono(), delay);
}
