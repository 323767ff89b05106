/* SPDX-License-Identifier: Apache-2.0 */
/* loop — turns, tasks, posts from other threads, signals.  See loop_internal.h for the order within a turn. */
#include "loop/loop_internal.h"

#include <signal.h>
#include <stdio.h>

enum {
    TICK_MAX_MS = 10000,     /* the poll runs on CLOCK_MONOTONIC and our timers do not: look again after a sleep of the machine */
    END_TURNS_MAX = 256,     /* what loop_free grants to tasks and closing handles that are under way */
    SETTLE_TURNS_MAX = 20000 /* what loop_advance grants between two timers */
};

struct signal_watch {
    struct list node;
    uv_signal_t handle;
    void (*fn)(int signum, void *arg);
    void *arg;
};

void loop_lend_buf(uv_handle_t *h, size_t hint, uv_buf_t *ret)
{
    struct loop *loop = h->loop->data;

    (void)hint;
    loop->activity++;
    *ret = uv_buf_init(loop->read_buf, LOOP_READ_SIZE);
}

int loop_uv_code(int status)
{
    return -(int)err_code_from_errno(-status);
}

static void on_tick(uv_timer_t *t)
{
    /* The turn looks at the heap. libuv also runs timers before it polls, and then it must not sleep. */
    uv_stop(t->loop);
}

static void on_wake(uv_async_t *a)
{
    struct loop *loop = a->data;
    struct list *n;

    loop->activity++;
    pthread_mutex_lock(&loop->remote_lock);
    while ((n = list_pop(&loop->remote)) != NULL)
        list_push(&loop->tasks, n);
    pthread_mutex_unlock(&loop->remote_lock);
}

struct loop *loop_new(void)
{
    struct loop *loop = NEW(struct loop);

    (void)signal(SIGPIPE, SIG_IGN);
    list_init(&loop->tasks);
    list_init(&loop->remote);
    list_init(&loop->fibers);
    list_init(&loop->signals);
    loop->read_buf = mem_alloc(LOOP_READ_SIZE);
    BUG_ON(pthread_mutex_init(&loop->remote_lock, NULL) != 0);
    BUG_ON(uv_loop_init(&loop->uv) < 0);
    BUG_ON(uv_loop_configure(&loop->uv, UV_METRICS_IDLE_TIME) < 0);
    loop->uv.data = loop;
    BUG_ON(uv_timer_init(&loop->uv, &loop->tick) < 0);
    BUG_ON(uv_async_init(&loop->uv, &loop->wake, on_wake) < 0);
    loop->wake.data = loop;
    uv_unref((uv_handle_t *)&loop->wake);
    return loop;
}

static void run_tasks(struct loop *loop)
{
    struct list now, *n;

    if (list_empty(&loop->tasks))
        return;
    /* Only what was posted up to now: a task that posts another must not keep the poll waiting. */
    list_init(&now);
    while ((n = list_pop(&loop->tasks)) != NULL)
        list_push(&now, n);
    while ((n = list_pop(&now)) != NULL) {
        struct task *t = list_entry(n, struct task, node);
        t->fn(t->arg);
    }
}

static void arm_tick(struct loop *loop)
{
    usec_t due = timers_next(loop), now, ms;

    if (due == USEC_INFINITY) {
        (void)uv_timer_stop(&loop->tick);
        return;
    }
    now = clock_mono();
    ms = due > now ? (due - now + 999) / 1000 : 0;
    if (ms > TICK_MAX_MS)
        ms = TICK_MAX_MS;
    uv_update_time(&loop->uv);
    (void)uv_timer_start(&loop->tick, on_tick, ms, 0);
}

static void turn(struct loop *loop, uv_run_mode mode)
{
    uint64_t start = uv_hrtime(), idle = uv_metrics_idle_time(&loop->uv), busy;

    BUG_ON(loop->in_turn);
    loop->in_turn = true;
    timers_run(loop);
    run_tasks(loop);
    arm_tick(loop);
    if (!list_empty(&loop->tasks) || loop->stop)
        mode = UV_RUN_NOWAIT;
    (void)uv_run(&loop->uv, mode);
    loop->in_turn = false;

    busy = uv_hrtime() - start;
    idle = uv_metrics_idle_time(&loop->uv) - idle;
    busy = busy > idle ? (busy - idle) / 1000 : 0;
    if (busy > loop->lag)
        loop->lag = busy;
}

static bool alive(const struct loop *loop)
{
    return !list_empty(&loop->tasks) || loop->heap_n > 0 || uv_loop_alive(&loop->uv);
}

void loop_run(struct loop *loop)
{
    while (!loop->stop && alive(loop))
        turn(loop, UV_RUN_ONCE);
    loop->stop = false;
}

void loop_stop(struct loop *loop)
{
    loop->stop = true;
}

/* Turns without waiting until nothing happens any more, except that jobs of lanes are waited for. */
static void settle(struct loop *loop)
{
    for (int i = 0; i < SETTLE_TURNS_MAX; i++) {
        uint64_t before = loop->activity;

        turn(loop, loop->remote_due > 0 ? UV_RUN_ONCE : UV_RUN_NOWAIT);
        if (list_empty(&loop->tasks) && loop->activity == before && loop->remote_due == 0)
            return;
    }
}

void loop_advance(struct loop *loop, usec_t delta)
{
    usec_t now = clock_mono(), real = clock_real(), end = clock_add(now, delta);

    settle(loop);
    for (;;) {
        usec_t due = timers_next(loop);

        if (due > end)
            break;
        if (due > now) {
            real += due - now;
            now = due;
            clock_fake(now, real);
        }
        settle(loop);
    }
    clock_fake(end, real + (end - now));
    settle(loop);
}

static void on_signal_closed(uv_handle_t *h)
{
    free(CONTAINER_OF(h, struct signal_watch, handle));
}

static void signal_drop(struct signal_watch *w)
{
    list_remove(&w->node);
    w->fn = NULL;
    uv_close((uv_handle_t *)&w->handle, on_signal_closed);
}

static void on_handle_left(uv_handle_t *h, void *arg)
{
    bool *found = arg;

    if (uv_is_closing(h))
        return;
    *found = true;
    (void)fprintf(stderr, "loop_free: a %s is still open\n", uv_handle_type_name(uv_handle_get_type(h)));
}

static void check_left(struct loop *loop)
{
    bool found = false;

    uv_walk(&loop->uv, on_handle_left, &found);
    if (loop->n_fibers > 0) {
        (void)fprintf(stderr, "loop_free: %u fibers are still alive\n", loop->n_fibers);
        found = true;
    }
#ifndef NDEBUG
    BUG_ON(found);
#endif
}

struct loop *loop_free(struct loop *loop)
{
    struct signal_watch *w;

    if (!loop)
        return NULL;
    list_each(w, &loop->signals, struct signal_watch, node)
        signal_drop(w);
    for (int i = 0; i < END_TURNS_MAX && (!list_empty(&loop->tasks) || uv_loop_alive(&loop->uv)); i++) {
        (void)uv_timer_stop(&loop->tick);
        run_tasks(loop);
        (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    }
    uv_close((uv_handle_t *)&loop->tick, NULL);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    check_left(loop);
    (void)uv_loop_close(&loop->uv);
    fibers_release_stacks(loop);
    pthread_mutex_destroy(&loop->remote_lock);
    free(loop->heap);
    free(loop->read_buf);
    free(loop);
    return NULL;
}

void task_init(struct task *t, void (*fn)(void *arg), void *arg)
{
    list_init(&t->node);
    t->fn = fn;
    t->arg = arg;
}

void loop_post(struct loop *loop, struct task *t)
{
    if (!list_linked(&t->node))
        list_push(&loop->tasks, &t->node);
}

void loop_post_remote(struct loop *loop, struct task *t)
{
    pthread_mutex_lock(&loop->remote_lock);
    list_push(&loop->remote, &t->node);
    /* Under the lock: the loop may be freed as soon as it has seen the last post. */
    (void)uv_async_send(&loop->wake);
    pthread_mutex_unlock(&loop->remote_lock);
}

void task_cancel(struct task *t)
{
    list_remove(&t->node);
}

void loop_expect(struct loop *loop)
{
    if (loop->remote_due++ == 0)
        uv_ref((uv_handle_t *)&loop->wake);
}

void loop_expected(struct loop *loop)
{
    BUG_ON(loop->remote_due == 0);
    if (--loop->remote_due == 0)
        uv_unref((uv_handle_t *)&loop->wake);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct signal_watch *w = CONTAINER_OF(h, struct signal_watch, handle);

    ((struct loop *)h->loop->data)->activity++;
    if (w->fn)
        w->fn(signum, w->arg);
}

static struct signal_watch *signal_find(struct loop *loop, int signum)
{
    struct signal_watch *w;

    list_each(w, &loop->signals, struct signal_watch, node) {
        if (w->handle.signum == signum)
            return w;
    }
    return NULL;
}

int loop_signal(struct loop *loop, int signum, void (*fn)(int signum, void *arg), void *arg, struct err *err)
{
    struct signal_watch *w = signal_find(loop, signum);
    int rc;

    if (!fn) {
        if (w)
            signal_drop(w);
        return 0;
    }
    if (w) {
        w->fn = fn;
        w->arg = arg;
        return 0;
    }
    w = NEW(struct signal_watch);
    w->fn = fn;
    w->arg = arg;
    list_init(&w->node);
    BUG_ON(uv_signal_init(&loop->uv, &w->handle) < 0);
    list_push(&loop->signals, &w->node);
    rc = uv_signal_start(&w->handle, on_signal, signum);
    if (rc < 0) {
        signal_drop(w);
        return err_sys(err, -rc, "cannot watch signal %d", signum);
    }
    uv_unref((uv_handle_t *)&w->handle);
    return 0;
}

usec_t loop_take_lag(struct loop *loop)
{
    usec_t lag = loop->lag;

    loop->lag = 0;
    return lag;
}
