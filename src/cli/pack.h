/* SPDX-License-Identifier: Apache-2.0 */
/* pack — a folder of this machine as an archive, piece by piece: files, folders and links as they are, owned by root or by whose they are; what is
 * neither is left out with a notice. No link is followed.
 * Thread: any; blocks on files.  Limits: PACK_DEPTH_MAX folders in each other. */
#ifndef DAVIT_CLI_PACK_H
#define DAVIT_CLI_PACK_H

#include "base/tar.h"

enum { PACK_DEPTH_MAX = 200 };

struct pack {
    int (*put)(void *arg, struct str bytes, struct err *err); /* takes the archive */
    void (*notice)(void *arg, const char *name, const char *why);
    void *arg;
    bool owners; /* as they are, by number; else root's */
    uint64_t files;
};

/* All of @folder, under the name @name ("": what is in it, without a folder before the names). */
int pack_folder(struct pack *p, const char *folder, const char *name, struct err *err) MUST_USE;

#endif
