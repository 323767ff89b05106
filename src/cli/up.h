/* SPDX-License-Identifier: Apache-2.0 */
/* up — one way to a control plane that runs on this machine: `davit up`, `davit controlplane up` and what starts it by itself.
 * Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_UP_H
#define DAVIT_CLI_UP_H

#include "cli/cli.h"

/* Waits: sees to it that control plane and agent run as they were told to last (or, the first time, by themselves choose to) and answer. Nothing on
 * stdout. Any number of callers at a time: one works, the others wait for it. 0: all was there already; 1: something was started. cli->settings are
 * those that it runs with. */
int up_ensure(struct cli *cli, struct err *err) MUST_USE;
/* By root: state and sockets are the account's of davitd. By others: nothing. */
int up_give(struct cli *cli, struct err *err) MUST_USE;

#endif
