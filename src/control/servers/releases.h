/* SPDX-License-Identifier: Apache-2.0 */
/* releases — what lies in the directory of releases (--release-dir): it is itself a release, or has directories that are, or both.
 * Read again when release.json or release.sig of one changed. Each is verified with the keys that this program was built with, its archives by
 * their checksums; one that does not hold is shown with its problem and never used.
 * Ownership: the list holds a reference of each entry; who waits takes one more.  Thread: loop; reading is done on a thread of its own.
 * Limits: RELEASES_MAX directories, those of release.h.  Input trust: a directory that the local user names. */
#ifndef DAVIT_CONTROL_RELEASES_H
#define DAVIT_CONTROL_RELEASES_H

#include "control/control_internal.h"
#include "ident/release.h"

enum { RELEASES_MAX = 64, RELEASE_DIRECTORY_SIZE = 129, RELEASE_PROBLEM_SIZE = 224 };

struct release_entry {
    unsigned refs;
    char directory[RELEASE_DIRECTORY_SIZE]; /* below the directory of releases; "": that itself */
    char problem[RELEASE_PROBLEM_SIZE];     /* why it cannot be used; "": it can */
    struct release release;                 /* with a problem: what could be read of it */
    struct buf metadata, signatures;        /* as they lie there */
};

struct releases;

/* @dir NULL or "": there are none. Reads nothing yet. Never NULL. */
struct releases *releases_new(struct loop *loop, const char *dir) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct releases *releases_free(struct releases *rs);

/* Waits: reads what changed. -ERR_PRECONDITION without a directory, -ERR_NOT_FOUND when it is not there. */
int releases_refresh(struct releases *rs, struct err *err) MUST_USE;
/* Of the last refresh, newest first; borrowed until the next wait. */
size_t releases_count(const struct releases *rs);
struct release_entry *releases_at(const struct releases *rs, size_t i);
/* The newest that can be used (of channel "stable" if there is one), or the one with @version (of several: the highest counter). NULL: none.
 * Borrowed until the next wait. */
struct release_entry *releases_newest(const struct releases *rs);
struct release_entry *releases_find(const struct releases *rs, struct str version);

/* One more holder. */
struct release_entry *release_entry_ref(struct release_entry *e);
/* Accepts NULL. Returns NULL. */
struct release_entry *release_entry_unref(struct release_entry *e);

#endif
