/* SPDX-License-Identifier: Apache-2.0 */
/* backup — what of a state directory goes into a backup, and the way back. A backup is an archive (store/archive.h) with the files that are
 * listed in restore.c and all tables; it holds every secret of the control plane. */
#ifndef DAVIT_CONTROL_BACKUP_H
#define DAVIT_CONTROL_BACKUP_H

#include <sys/types.h>

#include "base/err.h"

/* A file that control_restore leaves in the state directory for the log of the control plane that starts there first (audit_open): when the
 * backup was made, in microseconds since 1970, and the user who put it back, in decimal with a space between. */
#define RESTORED_FILE "restored"

/* Blocks, without a loop: makes the files of @fd, a backup, in @state_dir, which exists and holds no control plane, and its tables in @store
 * (NULL: control.db there), brought up to the schema of this program. What @store held before is kept: *ret_kept names it ("": nothing; the
 * caller frees). @by: the user who wants it, for the log. Damage of @fd is seen before anything is believed; after a failure @store is as it
 * was and the directory holds leftovers. -ERR_EXISTS: there is a control plane; -ERR_INVALID: no backup; -ERR_PRECONDITION: of a newer
 * version; -ERR_DATA_LOSS: damaged. */
int control_restore(const char *state_dir, const char *store, int fd, uid_t by, char **ret_kept, struct err *err) MUST_USE;

/* Names of the files that a backup has, ended by NULL. */
extern const char *const backup_files[];

#endif
