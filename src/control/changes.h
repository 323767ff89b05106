/* SPDX-License-Identifier: Apache-2.0 */
/* changes — what changed, in order, for those who watch: every object carries the number of its last change and stands in a list in the order of
 * these numbers. So whoever has been told up to a number finds all that is newer at the end of the list, and that list from its beginning is what
 * there is; nobody scans, and what changes twice before it is told is told once, as it is then.
 * What is gone leaves its name in a ring of the last CHANGES_GONE_MAX; who is further behind than that must begin anew.
 * Watchers are called at most four times a second, all in one turn.
 * Ownership: objects embed their change and unlink it before they go.  Limits: as said.  Thread: loop.  Input trust: none of it comes from peers. */
#ifndef DAVIT_CONTROL_CHANGES_H
#define DAVIT_CONTROL_CHANGES_H

#include <stdint.h>

#include "base/list.h"
#include "loop/loop.h"

enum { CHANGES_GONE_MAX = 256 };
#define CHANGES_EVERY (250 * USEC_MSEC)

/* Embedded in what can change. 0: it never did. */
struct change {
    struct list node;
    uint64_t seq;
};

/* Something that is gone. */
struct gone {
    uint64_t seq;
    char id[37];                 /* a server, a sandbox, or the server of the service */
    char project[64], name[64];  /* of a service */
};
struct gone_ring {
    struct gone at[CHANGES_GONE_MAX];
    uint64_t n;    /* so many went in */
    uint64_t lost; /* number of the last one that fell out */
};

/* Somebody to call. */
struct change_watcher {
    struct list node;
    void (*turn)(struct change_watcher *w);
};

struct changes {
    struct loop *loop;
    uint64_t seq;          /* of the last change of all */
    uint64_t work;         /* of the last one that a service or the overview may show */
    uint64_t deployments;  /* of the last one of a deployment */
    struct list servers;   /* struct server.changed */
    struct list sampled;   /* struct server.sampled: samples of use came */
    struct list sandboxes; /* struct sandbox.changed */
    struct gone_ring servers_gone, sandboxes_gone;
    struct list watchers;
    struct timer tick;
    usec_t ticked;
};

/* Makes it ready. */
void changes_init(struct changes *ch, struct loop *loop);
/* No watcher is left. */
void changes_release(struct changes *ch);

/* @c, of @list, changed: it gets the next number and stands last. */
void changes_put(struct changes *ch, struct list *list, struct change *c);
/* Something changed that services, the overview or (@deployments) deployments show. */
void changes_work(struct changes *ch, bool deployments);
/* The next place of @ring, with its number; the caller fills in the rest. */
struct gone *changes_gone(struct changes *ch, struct gone_ring *ring);
/* The first of @ring behind @told, or NULL. */
const struct gone *changes_gone_next(const struct gone_ring *ring, uint64_t told);
/* The first of @list behind @told, or NULL; then, from it, the next one. */
struct change *changes_first(struct list *list, uint64_t told);
struct change *changes_next(struct list *list, struct change *c);

/* @w is called from now on when something changed. */
void changes_watch(struct changes *ch, struct change_watcher *w);
void changes_unwatch(struct change_watcher *w);
/* Has all watchers called soon. */
void changes_pulse(struct changes *ch);

#endif
