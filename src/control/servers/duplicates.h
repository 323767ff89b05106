/* SPDX-License-Identifier: Apache-2.0 */
/* duplicates — two agents with one identity: a copied disk, a restored snapshot, a cloned machine. A connect that takes the place of another may
 * be one agent that came back before we knew that it had gone; two are there for certain when one that lost its place comes again, when the one
 * that is connected says something after another was turned away (in tunnel mode also from a recovery), or when credentials are shown that were
 * replaced by others in use.
 * Then the server's health tells both addresses, the log has an entry, and the one that is connected is asked to renew its credentials: from the
 * moment that it has connected with them the other is let in no more.
 * In memory only: after a restart of the control plane the first try of the other one tells again.  Thread: loop. */
#ifndef DAVIT_CONTROL_DUPLICATES_H
#define DAVIT_CONTROL_DUPLICATES_H

#include "control/servers/servers.h"

/* Shown for so long after the other agent was there last: fenced agents come again within half an hour. */
#define DUPLICATE_SHOWN USEC_HOUR

/* An agent, as it said of itself in its Hello. Borrowed. */
struct duplicate_agent {
    const char *address, *hostname, *instance;
    uint32_t generation;
};

/* @a may be a copy: it is turned away, or, with @displaced, lost its place to another. */
void duplicate_suspect(struct server *s, const struct duplicate_agent *a, bool displaced);
/* Is @instance one that lost its place? */
bool duplicate_displaced(const struct server *s, const char *instance);
/* The suspect is a copy: the other agent lives as well. Harmless without one. */
void duplicate_confirm(struct server *s);
/* Shall it be shown? @now: real time. */
bool duplicate_shown(const struct server *s, usec_t now);

#endif
