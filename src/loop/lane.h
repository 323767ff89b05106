/* SPDX-License-Identifier: Apache-2.0 */
/* lane — threads for work that blocks (SQLite, fsync, hashing, big files), apart from the loop and apart from libuv's pool.
 * Lanes of a daemon: db-write (1 thread), db-read, fast, slow.  Each has a bounded queue.
 * A job's function runs on a thread of the lane and may touch only what its argument points to; its end is delivered on the loop.
 * Ownership: @arg must stay valid until the end was delivered, even when the waiting fiber was cancelled; lane_call sees to that by
 * not returning before the function has ended once it has started. */
#ifndef DAVIT_LOOP_LANE_H
#define DAVIT_LOOP_LANE_H

#include "loop/fiber.h"

struct lane;

/* @threads 1..8, @queue_max jobs may wait. Never NULL (aborts if no thread can be made). */
struct lane *lane_new(struct loop *loop, const char *name, unsigned threads, unsigned queue_max) MUST_USE;
/* The same, but NULL when the system has no thread to give: for lanes that come and go. */
struct lane *lane_try_new(struct loop *loop, const char *name, unsigned threads, unsigned queue_max) MUST_USE;
/* Waits for running jobs, drops queued ones (their callers get -ERR_CANCELLED), ends the threads. Accepts NULL. Returns NULL. */
struct lane *lane_free(struct lane *lane);

/* Waits: runs @fn(@arg) on the lane and returns what it returned. A job that has not started when the deadline passes or the fiber is
 * cancelled is taken out (-ERR_DEADLINE, -ERR_CANCELLED). -ERR_EXHAUSTED when the queue is full. Only from a fiber. */
int lane_call(struct lane *lane, int (*fn)(void *arg), void *arg, usec_t deadline) MUST_USE;

/* The same for code without a fiber: @done(@arg, rc) is called on the loop, exactly once. -ERR_EXHAUSTED: not queued, @done is not called. */
int lane_post(struct lane *lane, int (*fn)(void *arg), void (*done)(void *arg, int rc), void *arg) MUST_USE;

/* Jobs that wait in the queue now. */
unsigned lane_queued(const struct lane *lane);

#endif
