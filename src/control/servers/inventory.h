/* SPDX-License-Identifier: Apache-2.0 */
/* inventory — what one server runs, as its agent reports it: containers by id and the last samples of use of each. Those of services, and apart from
 * them those that Davit did not make or runs for itself: what looks for a service's containers sees only the first.
 * In memory only: an agent sends the whole list after each connect.
 * Ownership: embedded in struct server.  Limits: INVENTORY_CONTAINERS_MAX containers of each kind and as many rings of the first; more are dropped
 * and counted.
 * Thread: loop.  Input trust: peer (its own server only). */
#ifndef DAVIT_CONTROL_INVENTORY_H
#define DAVIT_CONTROL_INVENTORY_H

#include "base/hmap.h"
#include "davit/common/v1/service.pb-c.h"
#include "davit/link/v1/link.pb-c.h"

enum { INVENTORY_CONTAINERS_MAX = 2048, INVENTORY_SAMPLES = 240 };

/* One sample without the container id. */
struct usage {
    uint64_t at_us, cpu_usec, memory, memory_limit, disk_read, disk_write, net_rx, net_tx, disk_total, disk_free;
    uint32_t pids, cpu_milli;
};

/* The last samples, oldest overwritten. */
struct usage_ring {
    struct usage at[INVENTORY_SAMPLES];
    unsigned n, next;
};

struct inventory {
    struct hmap *containers; /* of services: id -> Davit__Common__V1__Container, owned */
    struct hmap *foreign;    /* likewise, the others */
    struct hmap *rings;      /* container id ("" for the host) -> struct usage_ring, owned */
    uint64_t dropped;
    uint64_t batches; /* of samples, that came so far */
};

/* Makes an empty one. */
void inventory_init(struct inventory *inv);
/* Frees everything; accepts one that was zeroed only. */
void inventory_release(struct inventory *inv);
/* Applies a report: a full one replaces the list. Rings of containers that are gone go too. */
void inventory_containers(struct inventory *inv, const Davit__Link__V1__ContainerStates *m);
/* Adds samples. */
void inventory_usage(struct inventory *inv, const Davit__Link__V1__UsageBatch *m);
/* The container of a service by id, or NULL. Borrowed until the next report. */
const Davit__Common__V1__Container *inventory_find(const struct inventory *inv, const char *id);
/* Newest sample into *last and the one before into *before (may be the same when there is one). 0, or 1 when there is none. */
int inventory_last(const struct inventory *inv, const char *container_id, struct usage *last, struct usage *before) MUST_USE;
/* Containers of services whose state is running. */
uint32_t inventory_running(const struct inventory *inv);
/* Growth per second between two counters; 0 when the counter went back or no time passed. */
uint64_t usage_rate(uint64_t now, uint64_t before, uint64_t now_us, uint64_t before_us);

#endif
