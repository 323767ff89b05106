/* SPDX-License-Identifier: Apache-2.0 */
/* clock — one unit of time (microseconds), three clocks, and the random numbers that jitter needs.
 * Timers and deadlines use the monotonic clock; what a person reads uses the real one. Scenario tests replace both.
 * Thread: any. */
#ifndef DAVIT_BASE_CLOCK_H
#define DAVIT_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"

typedef uint64_t usec_t;

#define USEC_MSEC ((usec_t)1000)
#define USEC_SEC ((usec_t)1000000)
#define USEC_MINUTE (60 * USEC_SEC)
#define USEC_HOUR (60 * USEC_MINUTE)
#define USEC_DAY (24 * USEC_HOUR)
#define USEC_INFINITY UINT64_MAX

usec_t clock_mono(void); /* CLOCK_BOOTTIME: goes on while the machine sleeps */
usec_t clock_real(void); /* since 1970 */

/* Before this moment (real time) it cannot be: a clock that says so is wrong. Only grows; 0 at first. */
void clock_floor_raise(usec_t real);
usec_t clock_floor(void);
/* Is clock_real() before the floor, so that nobody knows how late it is? */
bool clock_unsure(void);
/* max(clock_real(), floor): what certificates are judged by. */
usec_t clock_checked(void);

/* What a peer that is believed said of how late it is; 0 is passed over. */
void clock_peer_hear(usec_t real);
/* How late it is by that peer, since it was heard; clock_checked() before. What the peer set a time for is judged by it. */
usec_t clock_peer(void);

/* @now + @delta without overflow. */
usec_t clock_add(usec_t now, usec_t delta);

/* RFC 3339 in UTC with @digits (0, 3, 6 or 9) of fraction into @dst (CLOCK_TEXT_SIZE). */
enum { CLOCK_TEXT_SIZE = 56 }; /* what a compiler can prove, not what comes */
void clock_format(usec_t real, int digits, char dst[CLOCK_TEXT_SIZE]);
/* RFC 3339 with offset and up to 9 fraction digits, years 1970..9999. *ret_nsec may be NULL: nanoseconds since
 * 1970, which end in 2554. 0 or -ERR_INVALID. */
int clock_parse(struct str s, usec_t *ret_real, uint64_t *ret_nsec) MUST_USE;

/* Test only: freezes both clocks at these values until called again; USEC_INFINITY for both returns to the real ones. */
void clock_fake(usec_t mono, usec_t real);

/* Fills from getrandom(2); aborts if the kernel has none to give. */
void rng_bytes(void *dst, size_t n);
/* Uniform in [0, bound), bound > 0. */
uint64_t rng_below(uint64_t bound);
/* Random UUID (version 4) as 36 characters and NUL. */
void rng_uuid(char dst[37]);

/* Exponential back-off with full jitter: the wait before try number @attempt (0, 1, ...): uniform in
 * [0, min(cap, base * 2^attempt)], so the jitter comes after the cap. */
usec_t backoff_wait(unsigned attempt, usec_t base, usec_t cap);

#endif
