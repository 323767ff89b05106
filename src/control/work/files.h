/* SPDX-License-Identifier: Apache-2.0 */
/* files — files in containers, through the link of their server: what the handlers of FileService and the pages of tickets share. Bytes go through in
 * pieces, both ways under credit: a slow end holds up the other, and nothing piles up here. The audit log has who touched which path where.
 * Thread: loop, on fibers.  Input trust: paths from users; bytes from containers.  Limits: link_calls.h; FILE_STALL without a byte. */
#ifndef DAVIT_CONTROL_FILES_H
#define DAVIT_CONTROL_FILES_H

#include "control/work/containers.h"
#include "control/link/link_calls.h"

#define FILE_STALL (3 * USEC_MINUTE)
/* For what has no bytes: a removal may take long. */
#define FILE_WAIT (30 * USEC_MINUTE)

/* One action on one path; release by file_move_release in any case. */
struct file_move {
    struct container_place where;
    struct link_call *remote;
};

/* Waits: finds the container and opens the call of @file (container_id is set here). @action: for the audit log, "file.read". */
int file_move_open(struct control *c, struct rpc_call *call, const Davit__Control__V1__ContainerRef *target,
                   Davit__Link__V1__FileCall *file, const char *action, struct file_move *ret, struct err *err) MUST_USE;
void file_move_release(struct file_move *m);

/* Waits: all bytes that come, to @put, which may wait; what it returns if negative ends it. */
typedef int file_put_fn(void *arg, struct str bytes, struct err *err);
int file_move_out(struct file_move *m, file_put_fn *put, void *arg, struct err *err) MUST_USE;
/* Waits: all bytes of @get to the container. @get: 0 with *ret (borrowed until the next call), 1: there is no more, negative: given up, and nothing
 * becomes of what was sent. */
typedef int file_get_fn(void *arg, struct str *ret, struct err *err);
int file_move_in(struct file_move *m, file_get_fn *get, void *arg, uint64_t *ret_bytes, struct err *err) MUST_USE;

/* A page of /files/NAME on 7440 or 7441. */
bool file_page_wanted(const struct rpc_page *p);
void file_page(struct rpc_page *p, struct control *c, bool local);

/* Appends the value of content-disposition for a file of this path. */
int file_disposition(const char *path, bool archive, struct buf *out) MUST_USE;

#endif
