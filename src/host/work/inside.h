/* SPDX-License-Identifier: Apache-2.0 */
/* inside — the files of a container as the kernel of this machine shows them, for what the engine's archive calls cannot do: list one folder without
 * what is below it, put a file in place in one step, remove.
 *
 * Of a container that runs: the root of its first process. Of one that does not: a volume's or bound folder's own place, else where the engine
 * mounts the
 * root, which it does while an (empty) archive is being put there; that also keeps the container from starting meanwhile.
 * Every path is resolved below that root by the kernel (openat2), so that neither links nor ".." nor anything renamed at the wrong moment leads
 * out of
 * it; whatever is removed is removed by the folder that was opened, and no mount is entered.
 * There is no such way where the agent is not root, the engine is on another machine, it maps users, or it stores containers otherwise than by
 * overlay2.
 * Ownership: inside_open .. inside_close.  Thread: loop, on fibers; what touches files runs on a lane of its own.
 * Input trust: paths come from users, everything below the root belongs to the container, which may change it at any moment.
 * Limits: FILES_* of files.h. */
#ifndef DAVIT_HOST_WORK_INSIDE_H
#define DAVIT_HOST_WORK_INSIDE_H

#include "host/work/work_internal.h"

struct inside;

/* Waits. @path: the one that is meant, absolute and clean (files_clean). 0; 1: there is no such way (@err says why); negative. @c is not kept. */
int inside_open(struct work *w, const struct docker_container *c, const char *path, struct inside **ret,
                struct err *err) MUST_USE;
/* Waits until the engine has let go of the container. Accepts NULL. Returns NULL. */
struct inside *inside_close(struct inside *in);

/* Each waits; the path is that of inside_open. -ERR_NOT_FOUND, -ERR_INVALID (no folder), -ERR_PRECONDITION (read-only, in use, not empty),
 * -ERR_EXHAUSTED, -ERR_DENIED, -ERR_CANCELLED.
 * What is in the folder, sorted. */
int inside_list(struct inside *in, Davit__Link__V1__FileEnd **ret, struct err *err) MUST_USE;
/* A file, link or empty folder; with @recursive a folder with what is in it. Folders that no container can do without are refused, by whatever
 * path. */
int inside_remove(struct inside *in, bool recursive, struct err *err) MUST_USE;
/* @size bytes of @fd become the file, in one step; links are followed. @mode 0: as what was there, else 0644 and root. */
struct inside_owner {
    uint32_t mode, uid, gid;
};
int inside_place(struct inside *in, int fd, uint64_t size, const struct inside_owner *owner, struct err *err) MUST_USE;

/* Is it a folder that may not be removed? @path clean. For tests too. */
bool inside_is_top(const char *path);
/* For tests: a folder of this machine as the root. */
int inside_open_at(struct loop *loop, const char *folder, const char *path, struct inside **ret, struct err *err) MUST_USE;
/* For tests: it is a volume of a container that does not run. */
void inside_be_part(struct inside *in);

#endif
