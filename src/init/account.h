/* SPDX-License-Identifier: Apache-2.0 */
/* account — whom the main program runs as, out of a user name and the image's own passwd and group files. The parser is ours: the C library's would
 * load what the image's nsswitch.conf names.
 * Memory: none is allocated; the files are read through one buffer on the stack.  Thread: any.
 * Input trust: both files belong to the image, which may be hostile. A line over ACCOUNT_LINE_MAX bytes or with a NUL is as if it were not there;
 * past ACCOUNT_FILE_MAX bytes nothing is read. */
#ifndef DAVIT_INIT_ACCOUNT_H
#define DAVIT_INIT_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "init/wire.h"

enum { ACCOUNT_LINE_MAX = 4095, ACCOUNT_FILE_MAX = 4 * 1024 * 1024, ACCOUNT_SPEC_MAX = 128 };

struct account {
    uint32_t uid, gid;
    uint32_t groups_n;
    uint32_t groups[WIRE_GROUPS_MAX]; /* supplementary */
    char name[WIRE_USER_SIZE];        /* "": the uid has no line in passwd */
    char home[WIRE_HOME_SIZE];        /* absolute; "/" if none is known */
};

/* Resolves @spec: NAME[:GROUP] or UID[:GID], also mixed; digits are always a number. As Docker reads USER: without a group it is that of the account
 * and the groups that list it are added; a number that passwd does not know needs no passwd and has group 0; with a group there are no others.
 * @passwd_fd, @group_fd: open at their beginning, read by offset, stay the caller's; -1: the image has no such file.
 * 0, or a negative value and in *@ret_why (static) what is wrong: -ERR_INVALID (@spec), -ERR_NOT_FOUND (user or group), -ERR_EXHAUSTED (in more
 * groups than WIRE_GROUPS_MAX, which is not cut short: a program must not run with half of its groups). */
int account_resolve(struct str spec, int passwd_fd, int group_fd, struct account *ret, const char **ret_why) MUST_USE;

/* The same from /etc/passwd and /etc/group, if they are regular files. */
int account_lookup(struct str spec, struct account *ret, const char **ret_why) MUST_USE;

#endif
