/* SPDX-License-Identifier: Apache-2.0 */
/* init — davit-init: PID 1 of a sandbox. Starts the session half; starts the main program, its own arguments, when that half says so; passes signals
 * on, reaps, ends everything in order, and exits with the program's status. Parses nothing from a network and allocates no memory.
 * Exit status: of the program, 128 + its signal, 126 it cannot be executed, 127 it was not found, 2 wrong configuration, 1 never started.
 * When it is not PID 1 it says so and reaps what is below it as a subreaper.
 * Thread: the only one.  Input trust: the session half is taken for hostile (wire.h), the image too (account.h). */
#ifndef DAVIT_INIT_INIT_H
#define DAVIT_INIT_INIT_H

/* Times of the end, in ms: for the session half to close and go, to die when killed, for orphans between TERM and KILL, and after KILL. */
enum { INIT_CLOSE_MS = 2000, INIT_CLOSE_KILL_MS = 1000, INIT_KILL_MS = 2000, INIT_DRAIN_MS = 2000 };

/* Everything, from the arguments of main() to its exit status. Uses the process as a whole: call it once. */
int init_main(int argc, char **argv, char **envp);

#endif
