/* SPDX-License-Identifier: Apache-2.0 */
/* files — files in containers: what FileCall of link.proto asks for.
 *   STAT, READ, GET: the engine's archive of the path; works in containers that do not run or have no program but their own.
 *   PUT, MKDIR: an archive put by the engine.
 *   WRITE: the bytes are collected in a file without a name on this machine; when all are there, the file is put in place in one step (inside.h), or
 *   where that has no way, as an archive whose bytes cannot fail to come.
 *   LIST: inside.h, else the heads of the engine's archive, of which everything below the folder has to be passed over.
 *   REMOVE: inside.h, which spares what is mounted below a folder; where that has no way (an agent that is not root), by the engine, which makes room
 *   for an entry of an archive: a folder with something mounted in it, by the container or on the server below a bind, is refused then; so is one
 *   below a bind of which the agent does not see the same as the engine (files_mounts.c). Nothing may come into an empty folder meanwhile, and no
 *   link or mount onto the way: the engine has no call that judges and removes in one step. The way is judged once more directly before.
 * Davit's own containers (ingress, control plane) and the one of the agent are refused, as they are by exec.
 * Input trust: paths from users; archives from containers.  Limits: below. */
#ifndef DAVIT_HOST_WORK_FILES_H
#define DAVIT_HOST_WORK_FILES_H

#include "base/buf.h"
#include "base/err.h"
#include "davit/link/v1/link.pb-c.h"
#include "docker/docker.h"

enum {
    FILES_PATH_MAX = 4095,
    FILES_NAME_MAX = 255,
    FILES_LIST_MAX = 5000,        /* entries of one listing */
    FILES_NAMES_MAX = 512 * 1024, /* bytes of all their names */
    FILES_DEPTH_MAX = 200,        /* folders in each other that REMOVE goes down */
};
#define FILES_PASS_MAX  (256ULL << 20) /* bytes that LIST passes over where it reads an archive */
#define FILES_LIST_WAIT (20 * USEC_SEC)
/* As long as nothing comes or goes for this time, a transfer is given up. */
#define FILES_STALL        (2 * USEC_MINUTE)
#define FILES_TRANSFER_MAX (24 * USEC_HOUR)

/* Absolute, no "..", each part at most FILES_NAME_MAX bytes; appends it without "." and doubled or last slashes. -ERR_INVALID. */
int files_clean(const char *path, struct buf *ret, struct err *err) MUST_USE;
/* Is it a container that has no business with users? */
bool files_is_ours(const struct docker_container *c);
/* Adds an entry to a listing. 0; 1: the listing is full. Texts are copied, what is not UTF-8 replaced. */
struct files_list {
    Davit__Link__V1__FileEnd *end; /* rpc_message_free */
    size_t cap, names;
};
int files_list_add(struct files_list *l, struct str name, const Davit__Common__V1__FileEntry *facts, struct str target);
struct files_list files_list_new(void);
/* Sorts it. */
void files_list_done(struct files_list *l);

#endif
