/* SPDX-License-Identifier: Apache-2.0 */
/* heal — keeps what is desired (desired.h) running without anybody's command: after a reboot, after a container was removed or ended, with the
 * control plane away.  It looks when containers change, when the engine comes back, and each HEAL_EVERY.
 * It makes what is missing again and starts what ended, and nothing else: what is not desired is left alone, and so is what its user stopped, what is
 * paused, and what ended by itself where its restart policy says that it stays so.  It holds the service in the queue of commands meanwhile, and does
 * nothing while a command for it waits or runs. Per service it waits longer after each act, HEAL_BASE to HEAL_CAP; HEAL_CALM without one and the
 * patience is back.
 * Thread: loop; one fiber, and one per service that it acts for, HEAL_RUNS_MAX at most. It logs what it did and what did not work. */
#ifndef DAVIT_HOST_WORK_HEAL_H
#define DAVIT_HOST_WORK_HEAL_H

#include "host/work/work_internal.h"

enum { HEAL_RUNS_MAX = 4 };
#define HEAL_EVERY (30 * USEC_SEC)
#define HEAL_BASE  USEC_SEC
#define HEAL_CAP   (5 * USEC_MINUTE)
#define HEAL_CALM  (10 * USEC_MINUTE)

/* What is to be done about one container of a service that shall run. */
enum heal_act { HEAL_NOTHING, HEAL_CREATE, HEAL_START };
/* @there: is there one; @restart: the service's policy, "" for the default; the rest as the engine shows it. Pure. */
enum heal_act heal_judge(bool there, enum docker_state state, int exit_code, const char *restart);

/* Patience of one service. Zeroed: none was needed yet. */
struct heal_patience {
    unsigned acts;
    usec_t last, next; /* monotonic */
};
/* May something be done at @now? */
bool heal_may(const struct heal_patience *p, usec_t now);
/* Something was done at @now. */
void heal_acted(struct heal_patience *p, usec_t now);

/* After the workers ended. Accepts what was never begun. */
void heal_free(struct work *w);

#endif
