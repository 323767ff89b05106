/* SPDX-License-Identifier: Apache-2.0 */
/* priv — giving up privileges for good, and the two account facts that need it.
 * Accounts are looked up in /etc/passwd only: a static program must not load the host's nsswitch modules.
 * Thread: at start, before any thread exists. */
#ifndef DAVIT_BASE_PRIV_H
#define DAVIT_BASE_PRIV_H

#include <sys/types.h>

#include "base/err.h"

/* Ids of account @name. 0, -ERR_NOT_FOUND, or a read failure. */
int priv_lookup(const char *name, uid_t *ret_uid, gid_t *ret_gid, struct err *err) MUST_USE;

/* In a process of uid 0 that may do so: becomes @uid and @gid with no supplementary group, no capability in any set (bounding and ambient emptied
 * too) and no way to gain any. Checked afterwards: a change that did not take is -ERR_INTERNAL. */
int priv_become(uid_t uid, gid_t gid, struct err *err) MUST_USE;

/* Becomes account @name with no supplementary group, no capability (bounding set emptied too) and no way to gain any. A process that is
 * not uid 0 may only name the account that it has already. Checked afterwards: a drop that did not take is -ERR_INTERNAL. */
int priv_drop(const char *name, struct err *err) MUST_USE;

#endif
