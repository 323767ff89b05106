/* SPDX-License-Identifier: Apache-2.0 */
/* tar — reads and writes archives as they pass by: POSIX ustar and pax (IEEE 1003.1), reading also GNU long names and base-256 numbers.
 * Nothing is collected but names: bytes of files go straight through. Names and links are given as they stand, so they may be absolute, climb,
 * or hold
 * any byte but NUL: whoever makes files of them has to see to that.
 * Of extended headers path, linkpath, size, uid, gid and mtime count; others are passed over. Sparse files, volumes and global headers that
 * rename are
 * refused, and so are checksums that do not hold and bytes behind the end.
 * Ownership: a reader is embedded; tar_reader_release ends it.  Thread: any, one at a time.  Input trust: foreign bytes.
 * Limits: TAR_NAME_MAX a name, TAR_EXTENSION_MAX an extended header. */
#ifndef DAVIT_BASE_TAR_H
#define DAVIT_BASE_TAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { TAR_BLOCK = 512, TAR_NAME_MAX = 4096, TAR_EXTENSION_MAX = 256 * 1024 };

enum tar_kind { TAR_FILE, TAR_DIR, TAR_SYMLINK, TAR_HARDLINK, TAR_CHAR, TAR_DEVICE, TAR_FIFO };

struct tar_entry {
    enum tar_kind kind;
    bool plain;       /* read: nothing but the one ustar header, and in it no prefix and no link */
    const char *name; /* never empty; a folder's may end in '/'. Borrowed for the call */
    const char *link; /* of TAR_SYMLINK and TAR_HARDLINK, else "" */
    uint64_t size;    /* of what follows; 0 but for TAR_FILE */
    uint32_t mode;    /* 07777 */
    uint32_t uid, gid;
    int64_t mtime; /* seconds since 1970 */
    uint32_t major, minor;
};

/* Negative ends the reading with that. */
struct tar_handler {
    int (*on_entry)(void *arg, const struct tar_entry *e, struct err *err);
    int (*on_bytes)(void *arg, struct str bytes, struct err *err);
    int (*on_end)(void *arg, struct err *err); /* of an entry: all its bytes have come; also where it has none */
};

struct tar_reader {
    const struct tar_handler *handler;
    void *arg;
    bool plain_only;
    uint8_t block[TAR_BLOCK];
    size_t have;        /* bytes of @block */
    uint64_t left, pad; /* of the present entry or extension */
    unsigned zeros;     /* blocks of zeros at the end so far */
    bool in_entry;
    char extension; /* the kind of header whose body is coming; 0: none */
    bool extended;  /* something is set for the next entry: */
    struct buf body, name, link;
    bool has_size, has_uid, has_gid, has_mtime;
    uint64_t size;
    uint32_t uid, gid;
    int64_t mtime;
    char own_name[TAR_BLOCK], own_link[TAR_BLOCK];
};

/* @handler is borrowed. @plain_only: entries that are not `plain` are refused, and nothing is allocated. */
void tar_reader_init(struct tar_reader *r, bool plain_only, const struct tar_handler *handler, void *arg);
void tar_reader_release(struct tar_reader *r);
/* -ERR_INVALID: no such archive; -ERR_EXHAUSTED: beyond a limit; or what the handler returned. Nothing may be fed after a failure. */
int tar_feed(struct tar_reader *r, struct str bytes, struct err *err) MUST_USE;
/* Is it whole? -ERR_INVALID. */
int tar_reader_end(const struct tar_reader *r, struct err *err) MUST_USE;

/* Appends the header of @e (with an extended one before it where ustar has no room). Then come e->size bytes and tar_pad(e->size) zeros.
 * -ERR_INVALID: a name that is empty or too long; -ERR_EXHAUSTED: no room in @out. */
int tar_put(struct buf *out, const struct tar_entry *e) MUST_USE;
/* The same for a plain file, with its content behind it. */
int tar_put_file(struct buf *out, const char *name, struct str content, uint32_t mode, int64_t mtime) MUST_USE;
/* Zeros that fill up the last block of @size bytes. */
size_t tar_pad(uint64_t size);
/* What every archive ends with: TAR_END zeros. */
enum { TAR_END = 2 * TAR_BLOCK };
extern const char tar_zeros[TAR_END];

#endif
