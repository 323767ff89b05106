/* SPDX-License-Identifier: Apache-2.0 */
/* lane — worker threads with a bounded queue.  The queue and the state of its jobs are under the lane's lock; everything else of a
 * job belongs to the loop.  A job's end travels as a task: posted by the worker when it ran, by the loop when it was dropped. */
#include "loop/lane.h"

#include <signal.h>

#include "base/str.h"
#include "loop/loop_internal.h"

enum { LANE_THREADS_MAX = 8 };

struct lane {
    struct loop *loop;
    char name[16]; /* what the kernel shows for a thread */
    pthread_t threads[LANE_THREADS_MAX];
    unsigned n_threads;
    unsigned queue_max;
    unsigned refs; /* loop only: the owner and each lane_call under way */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct list queue; /* under lock, as is what follows */
    unsigned queued;
    bool stopping;
};

struct job {
    struct list node;
    int (*fn)(void *arg);
    void *arg;
    int rc;
    struct loop *loop;
    struct task end;
    void (*done)(void *arg, int rc); /* of lane_post; the job is heap memory then */
    struct event ended;              /* of lane_call; the job is on the caller's stack */
};

static void *worker(void *arg)
{
    struct lane *lane = arg;

    (void)pthread_setname_np(pthread_self(), lane->name);
    pthread_mutex_lock(&lane->lock);
    for (;;) {
        struct list *n;
        struct job *job;

        while (list_empty(&lane->queue) && !lane->stopping)
            pthread_cond_wait(&lane->ready, &lane->lock);
        n = list_pop(&lane->queue);
        if (!n)
            break;
        lane->queued--;
        pthread_mutex_unlock(&lane->lock);
        job = list_entry(n, struct job, node);
        job->rc = job->fn(job->arg);
        loop_post_remote(job->loop, &job->end); /* @job is the loop's again */
        pthread_mutex_lock(&lane->lock);
    }
    pthread_mutex_unlock(&lane->lock);
    return NULL;
}

struct lane *lane_try_new(struct loop *loop, const char *name, unsigned threads, unsigned queue_max)
{
    struct lane *lane = NEW(struct lane);
    sigset_t all, old;

    BUG_ON(threads < 1 || threads > LANE_THREADS_MAX);
    lane->loop = loop;
    lane->queue_max = queue_max;
    lane->refs = 1;
    (void)str_copy(lane->name, sizeof(lane->name), str_from(name));
    list_init(&lane->queue);
    BUG_ON(pthread_mutex_init(&lane->lock, NULL) != 0);
    BUG_ON(pthread_cond_init(&lane->ready, NULL) != 0);
    /* Signals are the loop's. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    while (lane->n_threads < threads && pthread_create(&lane->threads[lane->n_threads], NULL, worker, lane) == 0)
        lane->n_threads++;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return lane->n_threads == threads ? lane : lane_free(lane);
}

struct lane *lane_new(struct loop *loop, const char *name, unsigned threads, unsigned queue_max)
{
    struct lane *lane = lane_try_new(loop, name, threads, queue_max);

    BUG_ON(!lane);
    return lane;
}

static void lane_unref(struct lane *lane)
{
    if (--lane->refs > 0)
        return;
    pthread_mutex_destroy(&lane->lock);
    pthread_cond_destroy(&lane->ready);
    free(lane);
}

struct lane *lane_free(struct lane *lane)
{
    struct list *n;

    if (!lane)
        return NULL;
    pthread_mutex_lock(&lane->lock);
    lane->stopping = true;
    while ((n = list_pop(&lane->queue)) != NULL) {
        struct job *job = list_entry(n, struct job, node);

        job->rc = -ERR_CANCELLED;
        loop_post(lane->loop, &job->end);
    }
    lane->queued = 0;
    pthread_cond_broadcast(&lane->ready);
    pthread_mutex_unlock(&lane->lock);
    for (unsigned i = 0; i < lane->n_threads; i++)
        (void)pthread_join(lane->threads[i], NULL);
    lane_unref(lane);
    return NULL;
}

static int enqueue(struct lane *lane, struct job *job)
{
    int rc = 0;

    pthread_mutex_lock(&lane->lock);
    if (lane->stopping) {
        rc = -ERR_CANCELLED;
    } else if (lane->queued >= lane->queue_max) {
        rc = -ERR_EXHAUSTED;
    } else {
        list_push(&lane->queue, &job->node);
        lane->queued++;
        pthread_cond_signal(&lane->ready);
    }
    pthread_mutex_unlock(&lane->lock);
    if (rc == 0)
        loop_expect(lane->loop);
    return rc;
}

/* Takes a job out that no thread has begun. */
static bool dequeue(struct lane *lane, struct job *job)
{
    bool out;

    pthread_mutex_lock(&lane->lock);
    out = list_linked(&job->node);
    if (out) {
        list_remove(&job->node);
        lane->queued--;
    }
    pthread_mutex_unlock(&lane->lock);
    if (out)
        loop_expected(lane->loop);
    return out;
}

static void on_call_end(void *arg)
{
    struct job *job = arg;

    loop_expected(job->loop);
    event_signal(&job->ended);
}

int lane_call(struct lane *lane, int (*fn)(void *arg), void *arg, usec_t deadline)
{
    struct job job = {.fn = fn, .arg = arg, .loop = lane->loop};
    int rc;

    BUG_ON(!fiber_self());
    if (fiber_cancelled())
        return -ERR_CANCELLED;
    list_init(&job.node);
    task_init(&job.end, on_call_end, &job);
    event_init(&job.ended, lane->loop);
    rc = enqueue(lane, &job);
    if (rc < 0)
        return rc;
    lane->refs++;
    rc = event_wait(&job.ended, deadline);
    if (rc < 0 && !job.ended.set && !dequeue(lane, &job)) {
        /* It runs, or its end is under way: @arg is in use until then. */
        fiber_shield();
        rc = event_wait(&job.ended, USEC_INFINITY);
        fiber_unshield();
    }
    if (job.ended.set)
        rc = job.rc;
    lane_unref(lane);
    return rc;
}

static void on_post_end(void *arg)
{
    struct job job = *(struct job *)arg;

    free(arg);
    loop_expected(job.loop);
    job.done(job.arg, job.rc);
}

int lane_post(struct lane *lane, int (*fn)(void *arg), void (*done)(void *arg, int rc), void *arg)
{
    struct job *job = NEW(struct job);
    int rc;

    job->fn = fn;
    job->arg = arg;
    job->loop = lane->loop;
    job->done = done;
    list_init(&job->node);
    task_init(&job->end, on_post_end, job);
    rc = enqueue(lane, job);
    if (rc < 0)
        free(job);
    return rc;
}

unsigned lane_queued(const struct lane *lane)
{
    struct lane *l = (struct lane *)lane; /* the lock is not part of what the caller sees as constant */
    unsigned n;

    pthread_mutex_lock(&l->lock);
    n = l->queued;
    pthread_mutex_unlock(&l->lock);
    return n;
}
