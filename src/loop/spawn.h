/* SPDX-License-Identifier: Apache-2.0 */
/* spawn — a program that stays: started with descriptors handed to it, watched, and at the end killed with its process group or left alone.
 * What it writes to standard output and error goes to the same outputs of this program, and its last bytes are kept.
 * Ownership: spawn_start .. spawn_kill or spawn_leave.  Thread: loop, on fibers.
 * Limits: SPAWN_FDS_MAX descriptors, SPAWN_TAIL_MAX bytes of output are kept.  Input trust: what it writes is hostile text. */
#ifndef DAVIT_LOOP_SPAWN_H
#define DAVIT_LOOP_SPAWN_H

#include <sys/types.h>

#include "base/str.h"
#include "loop/fiber.h"

enum { SPAWN_FDS_MAX = 8, SPAWN_TAIL_MAX = 8 * 1024 };

struct spawn;

struct spawn_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is an absolute path, of a script or a program for this machine */
    const char *const *env;  /* NULL-terminated "K=V" */
    const int *fds;          /* become 3, 4, ... of the program; -1: that number stays closed. Still the caller's */
    size_t n_fds;
};

/* Starts it in a session and process group of its own. 0, or -ERR_NOT_FOUND, -ERR_DENIED, ... when the system does not take the file. */
int spawn_start(struct loop *loop, const struct spawn_spec *spec, struct spawn **ret, struct err *err) MUST_USE;
pid_t spawn_pid(const struct spawn *s);
/* Has it ended? *ret_status is then 0..255, or 128 + signal. */
bool spawn_ended(const struct spawn *s, int *ret_status);
/* Waits until it ended. 0, -ERR_DEADLINE, -ERR_CANCELLED. */
int spawn_wait(struct spawn *s, usec_t deadline) MUST_USE;
/* The last bytes of its output; borrowed until the next wait. */
struct str spawn_tail(const struct spawn *s);
/* Waits, whatever happens to the fiber: TERM, KILL after 2 s, to the whole group; frees. Accepts NULL; returns NULL. */
struct spawn *spawn_kill(struct spawn *s);
/* Frees and lets it live on; nobody reads its output any more. Accepts NULL; returns NULL. */
struct spawn *spawn_leave(struct spawn *s);

#endif
