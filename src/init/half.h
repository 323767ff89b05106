/* SPDX-License-Identifier: Apache-2.0 */
/* half — the session half as PID 1 keeps it: started, talked to, started again with back-off when it dies.
 * Memory: none is allocated.  Thread: the only one. */
#ifndef DAVIT_INIT_HALF_H
#define DAVIT_INIT_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "init/conf.h"
#include "init/drop.h"
#include "init/wire.h"

/* Between two starts: doubled from the first to the last, with up to a quarter more or less; a half that lived for HALF_GOOD_MS begins anew. */
enum { HALF_DELAY_MIN_MS = 100, HALF_DELAY_MAX_MS = 10000, HALF_GOOD_MS = 60000 };

struct half {
    pid_t pid;      /* 0: none runs */
    int fd;         /* our end of its socket pair; -1 */
    bool owed;      /* it did not read: something that it must know was not sent */
    uint64_t due;   /* when to start the next one, in ms; meaningful while none runs */
    uint64_t began; /* when it was started */
    uint32_t delay; /* before the next start */
};

/* Milliseconds of a clock that only goes forward, never 0. */
uint64_t half_now(void);

/* Starts it with the container's own environment, no standard input, and standard output where errors go; @report as in drop_exec, for later. False:
 * it could not, which people were told; half_ended() must be called. */
bool half_start(struct half *h, const struct conf *c, struct drop_report *report) MUST_USE;

/* It is gone and was waited for: the next start is due after the delay. */
void half_ended(struct half *h);

/* Sends @f. When it does not read, the frame is lost, and with @must h->owed is set. No half, or one that hung up: nothing happens. */
void half_send(struct half *h, const union wire_frame *f, bool must);

/* Kills it: it broke the rules of the wire, or did not end in time. Its end is seen as any other. */
void half_kill(struct half *h);

/* Closes our end. */
void half_hang_up(struct half *h);

#endif
