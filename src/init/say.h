/* SPDX-License-Identifier: Apache-2.0 */
/* say — what PID 1 has to tell people: one line on standard error, in one write, without memory or stdio. It is told only what somebody must know: a
 * sandbox that works has nothing from it in its log.
 * Thread: the only one. */
#ifndef DAVIT_INIT_SAY_H
#define DAVIT_INIT_SAY_H

/* Room for a number of say_number(). */
struct say_digits {
    char text[24];
};

/* "davit-init: " and @parts (ended by NULL, at most 12) and a newline. A standard error that is full or gone loses it: PID 1 does not wait. */
void say_parts(const char *const *parts);
#define say(...) say_parts((const char *const[]){__VA_ARGS__, NULL})

/* @v in decimal, in @d. */
const char *say_number(long long v, struct say_digits *d);

#endif
