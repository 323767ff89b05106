/* SPDX-License-Identifier: Apache-2.0 */
/* fd — files and descriptors done the one right way: close-on-exec at birth, EINTR handled, whole-file reads with a limit,
 * writes that survive a power cut.  All calls block: keep them off the loop (use a lane) except on /proc, /sys and at start.
 * Thread: any. */
#ifndef DAVIT_BASE_FD_H
#define DAVIT_BASE_FD_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Reads all of @path, at most @out->max bytes, appended to @out. -ERR_NOT_FOUND, -ERR_EXHAUSTED past the limit, ... */
int fd_read_file(const char *path, struct buf *out, struct err *err) MUST_USE;

/* Replaces @path by @n bytes with @mode: temporary file beside it, fsync, rename, fsync of the directory. */
int fd_write_file(const char *path, const void *p, size_t n, mode_t mode, struct err *err) MUST_USE;
/* Is @name that temporary file for a file called @of? One stays where the program was killed while it wrote. */
bool fd_is_unfinished(struct str name, struct str of);

/* Flushes the directory that holds @path: without it a name that was made or renamed may be lost with the power. */
int fd_sync_parent(const char *path, struct err *err) MUST_USE;

/* Makes the directory and its missing parents (parents 0755, last @mode). Existing is fine; a mode that is wider than @mode is
 * narrowed on the last one. */
int fd_mkdir_p(const char *path, mode_t mode, struct err *err) MUST_USE;

/* Takes an exclusive lock on @path (created 0600), held until the descriptor closes. 0, or -ERR_EXISTS when another process
 * holds it (its pid is in the message), or a fatal error. Writes our pid into it. *ret_fd owned by the caller. */
int fd_lock_file(const char *path, int *ret_fd, struct err *err) MUST_USE;

/* Writes all @n bytes to a blocking descriptor. */
int fd_write_all(int fd, const void *p, size_t n, struct err *err) MUST_USE;

/* Removes the tree at @path without following links or crossing file systems; absent is fine. */
int fd_remove_tree(const char *path, struct err *err) MUST_USE;

#endif
