/* SPDX-License-Identifier: Apache-2.0 */
/* facts — what /proc and the memory cgroup tell PID 1 about its container. Read at the moment of an event, never by a timer.
 * Memory: static buffers, at most FACTS_WALK_MAX processes are looked at.  Thread: the only one. */
#ifndef DAVIT_INIT_FACTS_H
#define DAVIT_INIT_FACTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"
#include "init/wire.h"

enum { FACTS_WALK_MAX = 65536 };

/* One line of /proc/PID/stat. */
struct facts_process {
    pid_t pid, parent, group, session;
    char state;
    char name[WIRE_NAME_SIZE]; /* unprintable bytes are '?' */
};

/* Reads @text, the content of /proc/PID/stat; the name in it is the process's own choice and may be anything. 0 or -ERR_INVALID. */
int facts_parse(struct str text, struct facts_process *ret) MUST_USE;

/* Counts dead processes with a living parent other than us into @ret (a frame that was begun). */
void facts_zombies(struct wire_zombies *ret);

/* Sends KILL to all processes of session @session but its leader, again until there are none. */
void facts_kill_session(pid_t session);

/* Sends @signo to each child of ours. For a supervisor that is not PID 1: that one has kill(-1). */
void facts_signal_children(int signo);

/* How many processes the kernel killed for memory in our cgroup so far. False: it does not say. */
bool facts_oom_kills(uint32_t *ret);

#endif
