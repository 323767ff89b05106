/* SPDX-License-Identifier: Apache-2.0 */
/* notify — words to the service manager (systemd): one datagram each to $NOTIFY_SOCKET, a path or, with "@" in front, an abstract name.
 * Never waits: a manager whose queue is full is passed over, and the caller may say it again.
 * Limits: NOTIFY_MAX bytes a datagram.  Thread: any; the environment is read at each call.  Source: sd_notify(3). */
#ifndef DAVIT_HOST_LINK_NOTIFY_H
#define DAVIT_HOST_LINK_NOTIFY_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/err.h"

enum { NOTIFY_MAX = 2048 };

/* Is there a manager that wants to hear? */
bool notify_wanted(void);
/* Says @words: lines NAME=VALUE, e.g. "READY=1\nSTATUS=online". 0; 1: nobody wants to hear; negative: it was not said. */
int notify_send(const char *words, struct err *err) MUST_USE;
/* STATUS=@text, one line: control characters become blanks, what is too long is cut between characters. As notify_send. */
int notify_status(const char *text, struct err *err) MUST_USE;
/* Another process is the main one from now on. As notify_send. */
int notify_main_pid(pid_t pid, struct err *err) MUST_USE;
/* What is under way takes up to @more from now. As notify_send. */
int notify_extend(usec_t more, struct err *err) MUST_USE;
/* How often WATCHDOG=1 is due at the latest, half of what the manager allows; 0: no watchdog, or it is that of another process. */
usec_t notify_watchdog(void);

#endif
