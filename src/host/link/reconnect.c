/* SPDX-License-Identifier: Apache-2.0 */
/* reconnect — see reconnect.h. */
#include "host/link/reconnect.h"

usec_t reconnect_wait(struct reconnect *r, const struct reconnect_link *last)
{
    bool refused = last->why == ERR_UNAUTHENTICATED || last->why == ERR_DENIED || last->why == ERR_PRECONDITION || last->why == ERR_UNIMPLEMENTED;
    usec_t cap = last->local ? RECONNECT_LOCAL_CAP : USEC_INFINITY;
    if (refused)
        return RECONNECT_REFUSED_MIN + backoff_wait(r->refused++, RECONNECT_REFUSED_MIN, RECONNECT_REFUSED_MAX - RECONNECT_REFUSED_MIN);
    if (last->lived >= RECONNECT_HEALTHY) {
        *r = (struct reconnect){0};
        usec_t spread = last->busy ? last->spread / RECONNECT_BUSY_PART : last->spread;
        if (spread > cap)
            spread = cap;
        if (spread > 0)
            return rng_below(spread + 1);
    }
    return backoff_wait(r->failed++, RECONNECT_BASE, last->local ? RECONNECT_LOCAL_CAP : RECONNECT_CAP);
}
