/* SPDX-License-Identifier: Apache-2.0 */
/* self — what PID 1 does to its own process: descriptors, signals, terminal.
 * Thread: the only one. */
#ifndef DAVIT_INIT_SELF_H
#define DAVIT_INIT_SELF_H

#include "init/drop.h"

/* Descriptors 0 to 2 are there, and no others: an engine may have left some open. Comes before anything is opened. */
void self_clean_descriptors(void);

/* From now on all signals are read from the descriptor that is returned (struct signalfd_siginfo, never waits), but TTIN and TTOU, which are ignored:
 * a process in the background must not be stopped by its own output. -1: errno. */
int self_take_signals(void);

/* Gives the terminal up, if it leads that one's session, so that the program can take it: one that leads the session has working job control, and
 * one without a shell above it is not stopped for ever by the suspend key. Says what the program has to do. */
enum drop_tty self_release_terminal(void);

#endif
