/* SPDX-License-Identifier: Apache-2.0 */
/* link_probe — asks whether a control plane would take our link, without taking it from anybody: a link is opened and begun with a heartbeat,
 * which no link begins with. The refusal of that can only come from a link's own handler, after it looked at our certificate; no epoch is said, so
 * a link that is up does not notice.
 * Thread: loop, on fibers. */
#ifndef DAVIT_HOST_LINK_LINK_PROBE_H
#define DAVIT_HOST_LINK_LINK_PROBE_H

#include "rpc/rpc.h"

/* What the clock of the other side said in its answer. */
struct link_skew {
    bool known;
    int64_t us; /* ours minus theirs, by the middle of question and answer */
};

/* Waits. 0: it would; else why not. @ret_skew may be NULL; it is also filled where the answer was another one. */
int link_probe(struct rpc_channel *ch, usec_t deadline, struct link_skew *ret_skew, struct err *err) MUST_USE;

#endif
