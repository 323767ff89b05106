/* SPDX-License-Identifier: Apache-2.0 */
/* bundle — credentials on disk, exchanged so that a crash at any moment leaves one whole set that works.
 *   <cert_dir>/client.key client.crt ca.crt      as the enrolment wrote them; they are the active ones while there is no pointer
 *   <cert_dir>/bundles/<generation>/             the same files of a later generation; a directory never changes once it has its name
 *   <cert_dir>/bundles/current                   pointer, a symbolic link to the name of the active one; changed by rename
 *   <cert_dir>/bundles/previous                  what was active before ("..": the files of the enrolment), until the active one has connected
 * Everything is flushed before what names it. What no pointer names is left over from a crash and goes with the next holder of the agent's lock.
 * All calls block: at program start, or in a lane.  Thread: any, one at a time; readers in other processes see one set or the other.
 * Input trust: files of the agent's own user; a pointer that leads anywhere else counts as none. */
#ifndef DAVIT_HOST_LINK_BUNDLE_H
#define DAVIT_HOST_LINK_BUNDLE_H

#include "host/link/agent_config.h"

enum bundle_which { BUNDLE_ACTIVE, BUNDLE_PREVIOUS };

/* What is written; borrowed. Empty: no such file. */
struct bundle_parts {
    struct str key_pem, cert_pem, ca_pem, token; /* client.key, client.crt, ca.crt, access.jwt */
};

/* The directory of the active or the previous credentials, fresh; NULL: there is no previous one. *ret_generation (may be NULL): by its name, or
 * that of config.yaml for the files of the enrolment. */
char *bundle_dir(const struct agent_config *c, enum bundle_which which, uint32_t *ret_generation) MUST_USE;
/* "<directory of the active ones>/@name", fresh. */
char *bundle_path(const struct agent_config *c, const char *name) MUST_USE;

/* Writes @parts as generation @generation and makes it the active one; what was active is the previous one then, unless the active one had not
 * connected yet: the one that is known to work stays. -ERR_INVALID: @generation is not higher than the active one's. */
int bundle_activate(const struct agent_config *c, uint32_t generation, const struct bundle_parts *parts, struct err *err) MUST_USE;
/* The active one has connected: all others go. Harmless when that was known. */
int bundle_confirm(const struct agent_config *c, struct err *err) MUST_USE;
/* The previous one is the active one again, the other goes. -ERR_NOT_FOUND: there is none. */
int bundle_revert(const struct agent_config *c, struct err *err) MUST_USE;

/* Removes what a crash left. The caller holds the agent's lock. */
void bundle_tidy(const struct agent_config *c);
/* Removes all but the files of the enrolment. The caller holds the lock, and config.yaml is not there. */
int bundle_forget(const struct agent_config *c, struct err *err) MUST_USE;

#endif
