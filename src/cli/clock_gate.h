/* SPDX-License-Identifier: Apache-2.0 */
/* clock_gate — no sandbox starts while the clock of the control plane is behind that of this machine, by however little: what is signed here would be
 * from its future. A clock that was stopped with its machine (a laptop that slept) catches up within seconds; this waits for it.
 * Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_CLOCK_GATE_H
#define DAVIT_CLI_CLOCK_GATE_H

#include "cli/cli.h"

#define CLOCK_GATE_POLL (500 * USEC_MSEC)
#define CLOCK_GATE_WAIT "30s"

/* Of the verbs that start one. */
#define CLOCK_GATE_OPT(field_offset)                                                                                                   \
    {.name = "clock-wait", .type = OPT_USEC, .offset = (field_offset), .max = 600000000, .arg = "TIME", .def = CLOCK_GATE_WAIT,        \
     .help = "how long to wait for a control plane whose clock is behind this machine's"}

/* Waits, @wait at most. -ERR_DEADLINE: "...: cp clock sync deadline exceeded"; nothing was begun, the same again works once it is right. */
int clock_gate(struct cli *cli, usec_t wait, struct err *err) MUST_USE;

#endif
