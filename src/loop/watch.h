/* SPDX-License-Identifier: Apache-2.0 */
/* watch — a descriptor of a kind that is no stream (a socket that keeps packets apart): when there is something to read.
 * Ownership: watch_open .. watch_close; the descriptor stays the caller's and is closed after watch_close.  Thread: loop only. */
#ifndef DAVIT_LOOP_WATCH_H
#define DAVIT_LOOP_WATCH_H

#include "loop/loop.h"

struct watch;

/* @fn(@arg) is called in each turn in which reading @fd would not wait, the end of it included. It keeps loop_run from returning.
 * 0, or a failure for what cannot be watched (a regular file). */
int watch_open(struct loop *loop, int fd, void (*fn)(void *arg), void *arg, struct watch **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct watch *watch_close(struct watch *w);

#endif
