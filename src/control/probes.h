/* SPDX-License-Identifier: Apache-2.0 */
/* probes — does the control plane do its work? A table of parts that must answer, for /healthz, `controlplane status` and whoever starts it. What
 * is not of this installation is not looked at, and /healthz?verbose says so.
 * Ownership: of struct control.  Thread: loop, on a fiber.
 * Limits: PROBES_EVERY between two looks, whoever asks how often; each probe has PROBE_WAIT. */
#ifndef DAVIT_CONTROL_PROBES_H
#define DAVIT_CONTROL_PROBES_H

#include "control/control_internal.h"

#define PROBES_EVERY (2 * USEC_SEC)
#define PROBE_WAIT   (2 * USEC_SEC)

/* Waits for what is looked at. The name of the first part that does not answer, NULL: all do. Static. */
const char *probes_failed(struct control *c) MUST_USE;

/* The body of /healthz for that: {"status":"healthy","failed_probe":""}; @verbose: with "parts":{NAME: "ok" | "failed" | "unknown" (behind one that
 * failed nothing is looked at) | "not_probed"}. */
int probes_json(const struct control *c, const char *failed, bool verbose, struct buf *out) MUST_USE;

#endif
