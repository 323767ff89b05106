/* SPDX-License-Identifier: Apache-2.0 */
/* watch_kept — what watches share: all services with their containers and the figures of the overview, read once for all who watch them, compared
 * with what was there, and put in order of change (changes.h). Kept only while somebody watches; one fiber reads, and only when something changed.
 * Ownership: c->kept.  Limits: LISTS_SERVICES_MAX services, about their size as messages.  Thread: loop.  Input trust: the store. */
#ifndef DAVIT_CONTROL_WATCH_KEPT_H
#define DAVIT_CONTROL_WATCH_KEPT_H

#include "base/hmap.h"
#include "control/control_internal.h"
#include "davit/control/v1/status.pb-c.h"
#include "davit/control/v1/workloads.pb-c.h"

enum kept_what { KEPT_SERVICES, KEPT_OVERVIEW, KEPT_MAX };

struct service_kept {
    struct change changed; /* in kept.order */
    Davit__Control__V1__Service *m;
    uint64_t hash; /* of its wire form */
    unsigned round;
};

struct kept {
    struct control *c;
    struct change_watcher watcher;
    unsigned users[KEPT_MAX];
    bool running; /* the fiber */
    struct event news;

    struct hmap *services; /* "project/name" -> struct service_kept, owned, or NULL */
    bool services_read;    /* all of them */
    struct list order;
    struct gone_ring gone;
    uint64_t services_at; /* changes.work when they were read */
    unsigned round;
    struct err failure; /* of the last reading, code ERR_OK: it succeeded */

    Davit__Control__V1__GetStatusResponse *overview; /* owned; NULL: not read yet */
    uint64_t overview_seq, overview_at, overview_hash;
    usec_t overview_read;
};

/* Never NULL. */
struct kept *kept_new(struct control *c) MUST_USE;
/* Its fiber has ended. Accepts NULL. Returns NULL. */
struct kept *kept_free(struct kept *k);
/* The fiber comes to its end. */
void kept_stopping(struct kept *k);
/* One more, one less who watches @what. -ERR_EXHAUSTED: there is no fiber for it. */
int kept_hold(struct kept *k, enum kept_what what) MUST_USE;
void kept_let(struct kept *k, enum kept_what what);
/* 0: k->order holds them; 1: not read yet; negative: they could not be read. */
int kept_services(const struct kept *k, struct err *err) MUST_USE;
/* As it was read last, with its number; NULL: not yet. Borrowed until the next turn of the loop. */
const Davit__Control__V1__GetStatusResponse *kept_overview(const struct kept *k, uint64_t *ret_seq);

#endif
