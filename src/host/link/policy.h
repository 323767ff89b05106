/* SPDX-License-Identifier: Apache-2.0 */
/* policy — what the owner of this machine forbids, whoever commands it: policy.yaml in the agent's directory.
 *
 *     exec: forbid              # commands and files in containers: allow (default) | forbid
 *     self-update: forbid
 *     images:                   # only from these; also allow (default) or forbid
 *       - docker.io/library/web # REGISTRY/REPOSITORY; a * stands for any text within a part, and as the last part for any number of parts
 *     privileged:               # allow (default), forbid, or what is allowed:
 *       - cap:NET_ADMIN         # privileged, cap:NAME, network:host, pid:host, ipc:host, device:/PATH, security:OPTION,
 *                             # target:/PATH, source:/PATH, network:open
 *     mounts:                   # allow (default), forbid, or folders of this machine that may be mounted with all below them
 *       - /srv
 *     docker-socket: forbid     # it may not be mounted, nor a folder that it is in
 *     sandboxes: forbid         # none may be made; what else stands here holds for them as for services, and network:open is one's open network
 *
 * No file: all is allowed. A file that cannot be believed (not a plain file of root or of the agent's account, others may write it, empty, not
 * exactly of this form) forbids all that a policy can forbid. It is read anew for every question, so an edit counts at once.
 * A policy judges what begins; what runs already goes on.
 * Input trust: the file is judged as said; what is asked about comes from the control plane and is not believed.
 * Limits: POLICY_FILE_MAX bytes, POLICY_ITEMS_MAX items a list, POLICY_ITEM_MAX bytes each.
 * Thread: any; reading blocks on one small file.  Errors: -ERR_DENIED is a refusal. */
#ifndef DAVIT_HOST_LINK_POLICY_H
#define DAVIT_HOST_LINK_POLICY_H

#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

enum { POLICY_FILE_MAX = 64 * 1024, POLICY_ITEMS_MAX = 256, POLICY_ITEM_MAX = 255, POLICY_CODES = 7 };
#define POLICY_FILE_NAME "policy.yaml"

enum policy_rule { POLICY_ALLOW, POLICY_FORBID, POLICY_LISTED };

/* Of what may be listed. `line`: where the key stands, 0 if it does not; items are owned. */
struct policy_list {
    enum policy_rule rule;
    unsigned line;
    char **items;
    size_t n;
};

struct policy {
    struct policy_list exec, update, images, privileged, mounts, socket, sandboxes;
};

/* What is about to be done. Texts are borrowed; NULL and zeroes: not that. */
struct policy_ask {
    bool exec, update, sandbox;
    const char *image;             /* reference as in ServiceSpec */
    const char *const *privileged; /* words as in the file */
    size_t n_privileged;
    const char *const *mounts; /* paths of this machine */
    size_t n_mounts;
};

/* The policy may be @uid's, too: it is whom the machine belongs to where this program has an account that nobody works under (a container). At
 * start. */
void policy_believe_owner(uid_t uid);

/* May it be done? 0, or -ERR_DENIED: @err says what and names file and line, *ret_reason (static) is policy_exec, policy_update,
 * policy_image_source, policy_privileged, policy_mount, policy_sandbox or policy_unreadable; a refusal stands in the log, too, since who commanded it
 * may not be who would note it. @path NULL: there is no policy. */
int policy_check(const char *path, const struct policy_ask *ask, const char **ret_reason, struct err *err) MUST_USE;

/* Codes, as above, of what is forbidden wholly or in part, for SystemInfo.policy_forbids. Returns how many. */
size_t policy_forbids(const char *path, const char *ret[POLICY_CODES]);

/* Reads the file. 0; 1: there is none. Negative: it cannot be believed, @err says why. *ret is released by policy_release in any case. */
int policy_read(const char *path, struct policy *ret, struct err *err) MUST_USE;
/* The same from its text; @name stands in messages. -ERR_INVALID with the line. */
int policy_parse(struct str text, const char *name, struct policy *ret, struct err *err) MUST_USE;
/* Frees the lists and zeroes them. */
void policy_release(struct policy *p);
/* policy_check against rules that are at hand; @name stands in hints. */
int policy_judge(const struct policy *p, const char *name, const struct policy_ask *ask, const char **ret_reason, struct err *err) MUST_USE;
/* Tells people what these rules allow, a line per key. */
void policy_explain(FILE *out, const struct policy *p);

/* `davit-agent policy check`: whether @path can be believed and what it allows. 0, or what policy_read says; that there is none is fine, but for a
 * file that was @named (-ERR_NOT_FOUND). */
int policy_report(FILE *out, const char *path, bool named, struct err *err) MUST_USE;

/* --- Apart for tests ---- */

/* An image reference as REGISTRY/REPOSITORY, without tag and digest. 0 with *ret (freed by the caller); -ERR_INVALID: it is none, or names an image
 * by its id. */
int policy_image_name(const char *reference, char **ret, struct err *err) MUST_USE;
/* Does @name (of policy_image_name) fit the pattern? */
bool policy_image_fits(const char *pattern, const char *name);
/* Is @path the folder @root or below it? Both absolute; a path with "." or ".." is below nothing. */
bool policy_path_below(const char *root, const char *path);

#endif
