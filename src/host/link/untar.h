/* SPDX-License-Identifier: Apache-2.0 */
/* untar — reads the archive of a release as it comes in: of what base/tar reads only what such an archive is made of: one
 * directory, first, and in it regular files with plain names. Links, devices, further directories, absolute or climbing names, extended
 * headers, sparse files, names that come twice, sizes beyond the limits, checksums that do not hold, bytes behind the end: each is refused.
 * Nothing is written here; the handler gets names that are one file name each and bytes.
 * Ownership: embedded, plain.  Thread: any, one at a time.  Input trust: foreign bytes.
 * Limits: UNTAR_FILES_MAX files, UNTAR_NAME_SIZE, the caller's limit of bytes for all files together. */
#ifndef DAVIT_HOST_LINK_UNTAR_H
#define DAVIT_HOST_LINK_UNTAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/tar.h"

enum { UNTAR_BLOCK = TAR_BLOCK, UNTAR_FILES_MAX = 32, UNTAR_NAME_SIZE = 65 };

/* Negative ends the reading with that. */
struct untar_handler {
    /* A file begins. @name of [a-z0-9-] or "MANIFEST"; @program: it may be executed. */
    int (*on_file)(void *arg, const char *name, uint64_t size, bool program, struct err *err);
    int (*on_bytes)(void *arg, struct str bytes, struct err *err);
    /* All its bytes have come. */
    int (*on_end)(void *arg, struct err *err);
};

struct untar {
    struct tar_reader tar;
    const struct untar_handler *handler;
    void *arg;
    const char *directory; /* borrowed: the name that the one directory must have */
    uint64_t room;         /* bytes of files that may still come */
    bool begun, in_file;
    char names[UNTAR_FILES_MAX][UNTAR_NAME_SIZE];
    unsigned n_names;
};

/* @directory and @handler are borrowed. @bytes_max is for all files together. */
void untar_init(struct untar *u, const char *directory, uint64_t bytes_max, const struct untar_handler *handler, void *arg);
/* -ERR_INVALID: not such an archive; -ERR_EXHAUSTED: beyond a limit; or what the handler returned. Nothing may be fed after a failure. */
int untar_feed(struct untar *u, struct str bytes, struct err *err) MUST_USE;
/* Is it whole? -ERR_INVALID. */
int untar_end(const struct untar *u, struct err *err) MUST_USE;

#endif
