/* SPDX-License-Identifier: Apache-2.0 */
/* floor_time — how late it is at least, on a machine whose clock may say anything.
 * The floor (base/clock.h) is the latest of: the day this program was built; last_known_good_time in the agent's directory; the begin of our own
 * certificate. A clock before it is not sure: certificates are judged by the floor then, and the control plane is told (Hello.clock_unsure).
 * The file is written when a link comes up and each hour of one, and only while this machine's clock and that of the control plane agree: one
 * wrong clock alone never moves the floor. Once the control plane was heard, the time by which credentials are renewed is its own.
 * Ownership: embedded, nothing to release.  Thread: loop; calls marked "blocks" in a lane or at program start.
 * Input trust: the file is of the agent's own user, and what is no time in it is passed over; the other clock is that of an authenticated peer. */
#ifndef DAVIT_HOST_LINK_FLOOR_TIME_H
#define DAVIT_HOST_LINK_FLOOR_TIME_H

#include "host/link/agent_config.h"

#define FLOOR_TIME_FILE "last_known_good_time"
#define FLOOR_TIME_AGREE (5 * USEC_MINUTE) /* two clocks that differ by no more agree */
#define FLOOR_TIME_EVERY USEC_HOUR

/* Midnight of the day in @date ("Nov 28 2026", as a compiler writes it), less a day for time zones; 0 for another text. */
usec_t floor_time_build(const char *date);
/* Blocks: raises the floor to the day of the build and to what the file says. */
void floor_time_load(const struct agent_config *c);

/* By which moment to judge a certificate that begins at @not_before: max(clock, floor); where the clock is not sure also not before its begin, for
 * which its issuer vouches. */
usec_t floor_time_judge(usec_t not_before);

struct floor_time {
    bool heard;  /* the control plane's clock, see clock_peer() */
    usec_t next; /* monotonic: when to save next */
};
/* The control plane said how late it is. */
void floor_time_hear(struct floor_time *f, usec_t theirs);
/* How late it is: by the control plane's clock once it was heard, else max(clock, floor). */
usec_t floor_time_now(const struct floor_time *f);
/* Is it time to save, and is there something to? *ret: what. */
bool floor_time_due(const struct floor_time *f, usec_t *ret);
/* Blocks: writes the file and raises the floor, unless the file says more. */
int floor_time_save(const struct agent_config *c, usec_t good, struct err *err) MUST_USE;

#endif
