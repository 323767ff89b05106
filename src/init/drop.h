/* SPDX-License-Identifier: Apache-2.0 */
/* drop — what happens in a child of PID 1 between fork and exec: it loses what it must not have and becomes the program.
 * Memory: none.  Thread: the child, alone. */
#ifndef DAVIT_INIT_DROP_H
#define DAVIT_INIT_DROP_H

#include <stdbool.h>

#include "init/account.h"

/* How far a child came that did not become its program. Lies in memory that it shares with init; all zero before the fork. */
struct drop_report {
    int sys;          /* errno; 0: it came through */
    const char *step; /* static: what failed; NULL: the exec */
};

/* With a terminal: init leads a session whose terminal it gave up, so the child makes a session of its own and takes it (DROP_TAKE_TTY); or the
 * terminal's session is somebody else's, and the child's group becomes its foreground group (DROP_FOREGROUND).
 * DROP_AS_PUT: it stays in the session and the group that it was put in. */
enum drop_tty { DROP_NO_TTY, DROP_TAKE_TTY, DROP_FOREGROUND, DROP_AS_PUT };

/* Every signal as at first: default dispositions, none blocked. */
void drop_signals(void);

/* Becomes @path as @who: own session or group, signals as at first, no descriptor but the standard ones, no capability in any set, no way to gain
 * one. Returns only by exit, with the status that a shell would give (126, 127), or 2 where the user could not be set, after it filled @report. */
_Noreturn void drop_exec(const struct account *who, enum drop_tty tty, const char *path, char **argv, char **envp,
                         struct drop_report *report);

#endif
