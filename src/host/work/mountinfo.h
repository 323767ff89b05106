/* SPDX-License-Identifier: Apache-2.0 */
/* mountinfo — the lines of /proc/self/mountinfo (kernel: Documentation/filesystems/proc.rst 3.5), cut in one place.
 * Ownership: an entry points into the text.  Thread: any.  Input trust: the kernel's; a line that is none is told. */
#ifndef DAVIT_HOST_WORK_MOUNTINFO_H
#define DAVIT_HOST_WORK_MOUNTINFO_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

struct mount_entry {
    struct str root;  /* of the file system that is seen there, escaped */
    struct str place; /* where it is mounted, escaped: see mountinfo_unescape */
    struct str type, super;
};

/* The next line of @text, which moves behind it. 0; 1: there is none; -ERR_INVALID: it is no such line. */
int mountinfo_next(struct str *text, struct mount_entry *ret) MUST_USE;
/* Appends @s with spaces and their like, which are written as "\040", as they are. 0 or -ERR_INVALID: there is no room in @ret. */
int mountinfo_unescape(struct str s, struct buf *ret) MUST_USE;

#endif
