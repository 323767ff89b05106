/* SPDX-License-Identifier: Apache-2.0 */
/* watch_foreign — containers that no service of ours has: those that Davit did not make, those of another server's agent on the same engine, and what
 * Davit runs for itself (the ingress). They are shown, and nothing that looks for a service's containers ever sees them.
 * What is known of them comes from the engine's list: a container of others that does not let itself be inspected holds nothing up.
 * Limits: WORK_FOREIGN_MAX, and WORK_CONTAINERS_MAX together with ours, which come first.  Thread: loop.
 * Input trust: names, images and labels of others are hostile: texts are cut and cleaned, no label is believed but that of our own server. */
#ifndef DAVIT_HOST_WORK_WATCH_FOREIGN_H
#define DAVIT_HOST_WORK_WATCH_FOREIGN_H

#include "host/work/work_internal.h"

/* What changed in one round; ids are owned. */
struct delta {
    char **changed, **removed;
    size_t n_changed, n_removed;
    bool ours; /* one that Davit made on this server is among them */
};
/* --- watch.c ---- */
void delta_add(char ***list, size_t *n, const char *id);
struct seen *seen_free(struct seen *s);
bool seen_equal(const struct seen *a, const struct seen *b);

/* --- watch_foreign.c ---- */

/* Puts @foreign (id -> struct seen) in accord with the list, beside @n_ours of ours. */
void foreign_compare(const struct work *w, struct hmap *foreign, size_t n_ours, const struct docker_summaries *l, struct delta *d);
/* One of them makes room for one of ours. */
void foreign_give_way(struct hmap *foreign, struct delta *d);
/* The exit code in the engine's words, "Exited (137) 3 minutes ago"; 0 where there is none. */
int foreign_exit_code(const char *status);

#endif
