/* SPDX-License-Identifier: Apache-2.0 */
/* on_fiber — runs the body of a test on a fiber of a fresh loop, with a watchdog. */
#ifndef DAVIT_TEST_ON_FIBER_H
#define DAVIT_TEST_ON_FIBER_H

#include <stdio.h>

#include "loop/fiber.h"

struct on_fiber {
    struct loop *loop;
    void (*fn)(struct loop *loop);
    struct timer watchdog;
    bool done;
};

static inline void on_fiber_late(void *arg)
{
    (void)arg;
    (void)fprintf(stderr, "test hangs\n");
    abort();
}

static inline void on_fiber_run(void *arg)
{
    struct on_fiber *t = arg;
    t->fn(t->loop);
    t->done = true;
    timer_stop(&t->watchdog);
    loop_stop(t->loop);
}

/* cmocka's assertions leave by longjmp, which must not cross from the fiber to the loop's stack: CHECK aborts instead. */
#define CHECK(cond)                                                                                                              \
    do {                                                                                                                         \
        if (!(cond)) {                                                                                                           \
            (void)fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);                                             \
            abort();                                                                                                             \
        }                                                                                                                        \
    } while (0)

#define CHECK_OK(call)                                                                                                           \
    do {                                                                                                                         \
        int rc_ = (call);                                                                                                        \
        if (rc_ != 0) {                                                                                                          \
            (void)fprintf(stderr, "%s:%d: %s = %d (%s)\n", __FILE__, __LINE__, #call, rc_, err.msg);                             \
            abort();                                                                                                             \
        }                                                                                                                        \
    } while (0)

static inline void on_fiber(void (*fn)(struct loop *loop))
{
    struct on_fiber t = {.loop = loop_new(), .fn = fn};
    timer_init(&t.watchdog, t.loop, on_fiber_late, &t);
    timer_set(&t.watchdog, 120 * USEC_SEC);
    CHECK(fiber_spawn(t.loop, "test", on_fiber_run, &t, NULL) == 0);
    loop_run(t.loop);
    CHECK(t.done);
    loop_free(t.loop);
}

#endif
