/* SPDX-License-Identifier: Apache-2.0 */
/* inside_internal — the handle, as inside.c (ways in) and inside_acts.c (what is done there) share it. Not included elsewhere. */
#ifndef DAVIT_HOST_WORK_INSIDE_INTERNAL_H
#define DAVIT_HOST_WORK_INSIDE_INTERNAL_H

#include "base/tar.h"
#include "host/work/files.h"
#include "host/work/inside.h"
#include "loop/lane.h"

struct inside_hold;

struct inside {
    struct lane *lane;
    int root;       /* O_PATH */
    char *path;     /* below root, "/..." */
    char *whole;    /* as the container sees it */
    bool read_only; /* a volume that is mounted so */
    bool part;      /* root is a volume, not the container's: a link that is absolute or climbs out means nothing there */
    char **mounts;  /* where others are mounted that are not to be seen here */
    size_t n_mounts;
    char *id, *engine; /* of the container; address */
    int pid;
    char *folder; /* of the engine's machine */
    struct inside_hold *hold;
    struct err err; /* of what ran on the lane */
};

/* Is @path @folder, or below it? */
bool inside_below(const char *folder, const char *path);

#endif
