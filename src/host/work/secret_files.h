/* SPDX-License-Identifier: Apache-2.0 */
/* secret_files — variables that a container gets as files of /run/secrets instead of in its environment. They are in a folder of their own per
 * container, in memory only: in $RUNTIME_DIRECTORY where systemd gave one, else in the first of these that is on tmpfs: for root
 * /run/davit-agent, for others $XDG_RUNTIME_DIR/davit-agent, /dev/shm/davit-agent-UID; below it secrets/<server>/<container>/, which create.c
 * mounts read-only. Nobody else on the machine gets through the folders above; inside the container everybody may
 * read (0444), for its user is the image's affair.
 * After a reboot they are gone: they are written before each start of a container, not only before its first.
 * Thread: loop; short blocking calls on memory.  Input trust: the spec passed deploy_check; a folder that is there is believed only if it is ours. */
#ifndef DAVIT_HOST_WORK_SECRET_FILES_H
#define DAVIT_HOST_WORK_SECRET_FILES_H

#include "host/work/work_internal.h"
#include "spec/spec.h"

#define SECRET_FILES_TARGET SPEC_FILES_AT

/* Has this spec variables that become files? */
bool secret_files_any(const Davit__Common__V1__ServiceSpec *spec);

/* Writes those of @spec for the container called @container; a repeat is harmless, also while it runs. 0 also when there are none; *ret_dir (may be
 * NULL) is the folder then, malloc'ed, else NULL. -ERR_PRECONDITION when nothing here is in memory: they are never written elsewhere. */
int secret_files_write(const struct work *w, const Davit__Common__V1__ServiceSpec *spec, const char *container, char **ret_dir,
                       struct err *err) MUST_USE;
/* After the container has gone: those that were written before real time @until, when it started; newer ones are of another container that was made
 * under its name meanwhile. Harmless when there are none. */
void secret_files_remove(const struct work *w, const char *container, usec_t until);
/* Removes what no container has any more: neither @keep(@arg, its name) nor written within SECRET_FILES_YOUNG, when one may be in the making. */
#define SECRET_FILES_YOUNG (10 * USEC_MINUTE)
void secret_files_sweep(const struct work *w, bool (*keep)(void *arg, const char *container), void *arg);

#endif
