/* SPDX-License-Identifier: Apache-2.0 */
/* child — a program started by the daemon: argv without a shell, its own process group, output collected with a limit, a deadline that
 * kills the whole group (TERM, then KILL after 2 s).
 * Thread: loop only, on a fiber.  Environment: only what is given. */
#ifndef DAVIT_LOOP_CHILD_H
#define DAVIT_LOOP_CHILD_H

#include "base/buf.h"
#include "loop/fiber.h"

struct child_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is an absolute path, of a script or a program for this machine */
    const char *const *env;  /* NULL-terminated "K=V"; NULL: PATH and LC_ALL=C only */
    const char *dir;         /* or NULL */
    struct str input;        /* stdin; empty: /dev/null */
    size_t output_max;       /* bytes kept of stdout and of stderr each; more is dropped and counted as truncated */
};

struct child_result {
    int exit_status; /* 0..255, or 128 + signal */
    bool truncated;
    struct buf out, err;
};

/* Waits until it ended. 0 whatever its exit status; -ERR_NOT_FOUND (no such program), -ERR_DEADLINE, -ERR_CANCELLED (in both the group is gone).
 * *ret is filled on 0 and released with child_result_release. */
int child_run(struct loop *loop, const struct child_spec *spec, usec_t deadline, struct child_result *ret, struct err *err) MUST_USE;
void child_result_release(struct child_result *r);

#endif
