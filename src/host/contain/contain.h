/* SPDX-License-Identifier: Apache-2.0 */
/* contain — sandboxes on this server: containers with our PID 1, made and started by commands of the link, kept by sessions to the supervisor in
 * each.
 *
 * It adds itself to the work (work_extend), whose engine, link and fibers it uses. Objects in the engine: see doc/sandboxes.md. What it must know
 * while the control plane is away (specs without their variables, verdicts of registration, roots) is in files below `folder`.
 * A sandbox whose certificate in the live handshake is not the registered one gets no word to start, and is cut off its network.
 * Limits: CONTAIN_MAX sandboxes; CONTAIN_ASKS questions to the control plane at once.
 * Thread: loop; the calls marked "waits" on a fiber.  Input trust: commands come from the control plane and are checked here once more; what a
 * sandbox says is hostile. */
#ifndef DAVIT_HOST_CONTAIN_CONTAIN_H
#define DAVIT_HOST_CONTAIN_CONTAIN_H

#include "base/err.h"
#include "loop/fiber.h"

enum { CONTAIN_MAX = 1000, CONTAIN_ASKS = 1000, CONTAIN_SESSION_PORT = 7700, CONTAIN_RELAY_PORT = 7444, CONTAIN_OWN_OCTET = 202 };
#define CONTAIN_NET  "davit-net"
#define CONTAIN_OPEN "davit-open"

struct work;
struct contain;

struct contain_config {
    struct loop *loop;
    struct work *work;       /* borrowed; lives longer */
    const char *folder;      /* made 0700; copied */
    const char *key;         /* file of seal.h: what is kept of a spec is sealed by it. NULL: it is not */
    const char *runtime_dir; /* where davit-init and davit-session lie; copied. NULL: beside this program */
    const char *self;        /* the container that this agent runs in: it joins the networks of its sandboxes; copied. NULL: none */
};

/* Blocks: reads what is in the folder, and makes the key that this server shows to its sandboxes. Begins to watch the engine in a later turn. */
int contain_new(const struct contain_config *config, struct contain **ret, struct err *err) MUST_USE;
/* Waits, after work_stop: ends what serves sandboxes. 0 or -ERR_DEADLINE. Accepts NULL. */
int contain_stop(struct contain *k, usec_t deadline) MUST_USE;
/* Are sandboxes kept from what this machine serves on all of its addresses? If not, why, or "" before there was one. Borrowed. @k may be NULL. */
const char *contain_fence(const struct contain *k, bool *ret_up);
/* After a contain_stop that returned 0, before work_free. Accepts NULL; returns NULL. */
struct contain *contain_free(struct contain *k);

#endif
