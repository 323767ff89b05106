/* SPDX-License-Identifier: Apache-2.0 */
/* rights — what a service has beyond the default: is it the owner's wish, may these folders of the server be seen, and how the engine is told.
 * Ownership: struct rights is embedded and released.  Thread: loop; looking where a path leads blocks on the server's own file systems.
 * Input trust: the spec passed spec_check; paths are followed here, for a link may lead where its name does not say. */
#ifndef DAVIT_HOST_WORK_RIGHTS_H
#define DAVIT_HOST_WORK_RIGHTS_H

#include "host/link/policy.h"
#include "host/work/work_internal.h"
#include "spec/spec.h"

/* What the engine's spec points to. */
struct rights {
    char *sources[SPEC_BINDS_MAX]; /* where the binds lead, owned */
    size_t n_sources;
    const char *devices[SPEC_ALLOW_MAX], *security[SPEC_ALLOW_MAX];
};

/* The words of @s as a policy has them: its capabilities (cap:NAME) and rights. *ret is the caller's, as is each; returns how many. */
size_t rights_words(const Davit__Common__V1__ServiceSpec *s, char ***ret);

/* Does the owner of this machine allow what @s asks for, and @more (its .sandbox, and words in .privileged), and may its folders be mounted? Of
 * services and sandboxes alike: this is the one judgement. 0, or negative with *ret_reason: of policy_check, or as rights_sources. A refusal stands
 * in the log. */
int rights_judge(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const struct policy_ask *more, const char **ret_reason,
                 struct err *err) MUST_USE;

/* May the folders be mounted that @s binds, wherever they lead? By what no service may mount, and by the owner's policy. 0; -ERR_DENIED or
 * -ERR_NOT_FOUND with *ret_reason (static: mount_forbidden, mount_missing, those of policy_check). */
int rights_sources(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const char **ret_reason, struct err *err) MUST_USE;

/* The same of one of them; *ret (the caller's, may be NULL): where it leads, which is what is to be mounted. A link at @path that is changed from
 * then on changes nothing; a folder on that way which is replaced by a link does, at the next start: see rights_stays. */
int rights_source(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const char *path, char **ret, const char **ret_reason,
                  struct err *err) MUST_USE;

/* Before a container that was made earlier starts: is each folder that it binds (@of, its mounts) still where it was, and may it still be mounted?
 * 0, or as rights_source; *ret_reason mount_moved (static): there is a link on the way by now. */
int rights_stays(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const struct docker_container *of, const char **ret_reason,
                 struct err *err) MUST_USE;

/* Adds binds and rights to @out, whose mounts have room for those of the binds behind @n_mounts. As rights_sources. */
int rights_apply(const struct work *w, const Davit__Common__V1__ServiceSpec *s, struct rights *r, struct docker_mount *mounts,
                 struct docker_container_spec *out, const char **ret_reason, struct err *err) MUST_USE;
void rights_release(struct rights *r);

#endif
