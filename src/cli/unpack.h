/* SPDX-License-Identifier: Apache-2.0 */
/* unpack — an archive from a container becomes files below one folder of this machine, and nothing of it lands anywhere else: names are taken apart,
 * each folder on the way is opened without following links, absolute and climbing names and links are refused or left out. Files get no owner,
 * no set-id bits; devices, pipes and links that lead out are left out, with a notice.
 * Ownership: embedded; unpack_release ends it.  Thread: any; blocks on files.  Input trust: foreign archive.
 * Limits: base/tar.h; UNPACK_NOTICES_MAX notices are given, the others counted. */
#ifndef DAVIT_CLI_UNPACK_H
#define DAVIT_CLI_UNPACK_H

#include "base/tar.h"

enum { UNPACK_NOTICES_MAX = 20 };

struct unpack {
    struct tar_reader tar;
    int folder;   /* borrowed: an open folder */
    char *rename; /* the first part of every name becomes this; "": falls away */
    bool root;    /* may be set: the archive is of "/", and its names begin with that instead of a part */
    int file;     /* being written, or -1 */
    bool skipping;
    uint64_t files, skipped;
    void (*notice)(void *arg, const char *name, const char *why);
    void *arg;
};

/* @notice may be NULL; its texts are hostile. */
void unpack_init(struct unpack *u, int folder, const char *rename, void (*notice)(void *arg, const char *name, const char *why),
                 void *arg);
void unpack_release(struct unpack *u);
int unpack_feed(struct unpack *u, struct str bytes, struct err *err) MUST_USE;
/* Is it whole? */
int unpack_end(struct unpack *u, struct err *err) MUST_USE;

#endif
