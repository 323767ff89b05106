/* SPDX-License-Identifier: Apache-2.0 */
/* files_internal — what the files of the module files share. Not included elsewhere. */
#ifndef DAVIT_HOST_WORK_FILES_INTERNAL_H
#define DAVIT_HOST_WORK_FILES_INTERNAL_H

#include "base/tar.h"
#include "host/work/calls.h"
#include "host/work/files.h"

/* One call, on its fiber's stack. */
struct file_call {
    struct call *call;
    struct work *w;
    const Davit__Link__V1__FileCall *m;
    const char *path; /* clean */
    struct docker_container info;
};

/* "/a/b" as "/a" and "b"; "/" as "/" and "". @ret_name points into @path. */
void files_split(const char *path, struct str *ret_folder, const char **ret_name);
/* What an archive says of an entry, but for its name and target; texts are static. */
void files_facts(const struct tar_entry *e, Davit__Common__V1__FileEntry *to);
/* Waits: one entry with all that the engine knows of what is at @path; *ret in any case: rpc_message_free. */
int files_stat(struct work *w, const char *id, const char *path, Davit__Link__V1__FileEnd **ret, struct err *err) MUST_USE;
/* Waits: appends @path, or where the link there leads to; *ret_kind as docker_path_stat. */
int files_follow(struct work *w, const char *id, const char *path, struct buf *ret, char *ret_kind, struct err *err) MUST_USE;
/* Is what is at @path on a read-only root or mount? */
bool files_read_only(const struct docker_container *c, const char *path);

/* files_list.c, files_write.c, files_remove.c */
int files_do_list(struct file_call *f, Davit__Link__V1__FileEnd **ret, struct err *err) MUST_USE;
/* Waits, by the engine's archive: is anything in this folder? 1 yes, 0 no; the first entry ends it. */
int files_has_any(struct file_call *f, struct err *err) MUST_USE;
int files_do_write(struct file_call *f, struct err *err) MUST_USE;
int files_do_remove(struct file_call *f, struct err *err) MUST_USE;

/* --- files_mounts.c: what is mounted where this agent sees the engine's machine ---- */

/* Of the folder @at in the text of a mountinfo: 1 and the place if something is mounted there or below, else 0 and the place of the mount that @at is
 * on ("/"). -ERR_INVALID: it tells nothing. @ret_place is appended to, unescaped. A function of the text; for tests too. */
int files_mounted_below(struct str mountinfo, const char *at, struct buf *ret_place) MUST_USE;
/* Waits: may the folder @real (in the container, no links on the way) be emptied by the engine, as far as this machine's mounts go? @m is the mount
 * that it lies on, @top where that is in the container. -ERR_PRECONDITION: something is mounted there or below, or that cannot be seen from here. */
int files_judge_host(struct file_call *f, const char *real, struct str top, const struct docker_container_mount *m, struct err *err) MUST_USE;

#endif
