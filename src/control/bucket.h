/* SPDX-License-Identifier: Apache-2.0 */
/* bucket — a token bucket kept as one time: the moment when it will be full again. 0 is a full one.  Thread: the owner's. */
#ifndef DAVIT_CONTROL_BUCKET_H
#define DAVIT_CONTROL_BUCKET_H

#include "base/clock.h"

/* Takes one out of @full, which holds @burst and gains one each @every. 0; 1: it is empty, *ret_wait says for how long. */
static inline int bucket_take(usec_t *full, usec_t now, usec_t every, unsigned burst, usec_t *ret_wait)
{
    usec_t from = *full > now ? *full : now;
    if (from + every > now + burst * every) {
        *ret_wait = from + every - (now + burst * every);
        return 1;
    }
    *full = from + every;
    return 0;
}

#endif
