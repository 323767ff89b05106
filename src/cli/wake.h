/* SPDX-License-Identifier: Apache-2.0 */
/* wake — the verbs that work with sandboxes bring the control plane up by themselves when it does not answer: as it was told to run last, or, for who
 * never said `davit up`, is not root and names no --home, as `davit up` begins. By the one way of `davit up`, under its lock: of several at a
 * time one works.
 * One that is brought up so ends by itself when it has nothing to do (control/idle.h), and comes back the same way.
 * Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_WAKE_H
#define DAVIT_CLI_WAKE_H

#include "cli/cli.h"

/* Does the verb of @cli bring up a control plane that could not be connected to with the outcome @rc? */
bool wake_helps(const struct cli *cli, int rc);
/* Waits: brings it up; told on stderr. */
int wake(struct cli *cli, struct err *err) MUST_USE;

#endif
