/* SPDX-License-Identifier: Apache-2.0 */
/* archive — the file of a backup: a mark, then records, each with a check that covers all before it. One format for every engine of the store.
 *   file    = part, part*                         the first part is the control plane's, the second the user's keys
 *   part    = "davit backup 1\n" NUL, record*, the last of kind E
 *   record  = kind (1 byte), length (4 bytes), payload, check (8 bytes: SipHash-2-4 of kind, length and payload, keyed with the check of the
 *             record before it and the number of the record)
 *   kinds   = M manifest, JSON, always the first; F file: length of the name (1), name, content; T table: number of columns (1), then its
 *             name and, for each column, its type (i t b) and name, a name as length (1) and bytes; R row of that table: for each column 0
 *             (NULL), i and 8 bytes, or t or b with length (4) and bytes; E end: number of records before it (8)
 * Numbers are unsigned with the high byte first; i is two's complement. The checks find damage, not forgery: who can write the file can write
 * checks, and what it holds is believed as the state directory is.
 * Limits: ARCHIVE_RECORD_MAX for a record, ARCHIVE_FILE_MAX for a file, ARCHIVE_FILES_MAX files, VALUES_MAX columns. Memory: one record.
 * Thread: any, one at a time; calls block on the descriptor.  Input trust: a stranger's file. */
#ifndef DAVIT_STORE_ARCHIVE_H
#define DAVIT_STORE_ARCHIVE_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

struct value;
struct store_migration;

enum { ARCHIVE_FORMAT = 1, ARCHIVE_RECORD_MAX = 33 * 1024 * 1024, ARCHIVE_FILE_MAX = 1024 * 1024, ARCHIVE_FILES_MAX = 64,
       ARCHIVE_NAME_MAX = 64, ARCHIVE_SCHEMA_MAX = 1000 };

/* --- Writing --- */
struct archive_writer {
    int fd;
    uint64_t check, records;
    struct buf out;
};

/* Starts a part at the present place of @fd, which stays the caller's. End with archive_writer_release, whatever happened. */
int archive_begin(struct archive_writer *w, int fd, struct err *err) MUST_USE;
/* Appends a record whose payload is the parts one after the other. -ERR_EXHAUSTED: too large. */
int archive_put(struct archive_writer *w, char kind, const struct str *parts, size_t n, struct err *err) MUST_USE;
/* A file record. */
int archive_put_file(struct archive_writer *w, const char *name, struct str content, struct err *err) MUST_USE;
/* A row record. */
int archive_put_row(struct archive_writer *w, const struct value *values, size_t n, struct err *err) MUST_USE;
/* Writes the last record and all that is still in memory. */
int archive_end(struct archive_writer *w, struct err *err) MUST_USE;
void archive_writer_release(struct archive_writer *w);

/* --- Reading --- */
struct archive_reader {
    int fd;
    uint64_t check, records;
    struct buf in;
    size_t pos;   /* of the first byte in `in` that was not taken */
    bool ended;   /* this part */
};

/* Reads from the present place of @fd, which stays the caller's. -ERR_INVALID: no backup. End with archive_reader_release, whatever happened. */
int archive_open(struct archive_reader *r, int fd, struct err *err) MUST_USE;
/* 1: a record, borrowed until the next call; 0: the part ended as it should; -ERR_DATA_LOSS: cut off or damaged. */
int archive_next(struct archive_reader *r, char *ret_kind, struct str *ret, struct err *err) MUST_USE;
/* After the end of a part: 1: another one follows and was begun; 0: the file ends here; negative: something else follows. */
int archive_next_part(struct archive_reader *r, struct err *err) MUST_USE;
void archive_reader_release(struct archive_reader *r);

/* Taking payloads apart. Borrowed from @payload. -ERR_DATA_LOSS. */
int archive_file(struct str payload, struct str *ret_name, struct str *ret_content, struct err *err) MUST_USE;
int archive_row(struct str payload, struct value *values, size_t n, struct err *err) MUST_USE;
/* Cuts the head of a table off the front of @payload: the number of its columns, 1 to VALUES_MAX, and its name; then one column after the other. */
int archive_table(struct str *payload, size_t *ret_n, struct str *ret_name, struct err *err) MUST_USE;
int archive_column(struct str *payload, char *ret_letter, struct str *ret_name, struct err *err) MUST_USE;
/* Cuts a name off the front of @payload: 1 to ARCHIVE_NAME_MAX of [A-Za-z0-9._-], not starting with a point. */
int archive_name(struct str *payload, struct str *ret, struct err *err) MUST_USE;

/* --- The manifest --- */
struct archive_manifest {
    char part[16];       /* "controlplane" or "user" */
    char version[32];    /* of the program that wrote it */
    char store[16];      /* engine that it came from */
    uint64_t format;
    usec_t created;      /* real time */
    size_t n_schema;     /* steps of the schema */
    char schema[4096];   /* their names, each ended by a newline */
};

/* Appends the record. @migrations: the @n steps that the data has. */
int archive_put_manifest(struct archive_writer *w, const char *part, const char *store, const struct store_migration *migrations, size_t n,
                         struct err *err) MUST_USE;
/* Reads the first record of a part. -ERR_PRECONDITION: of a newer version or format; -ERR_DATA_LOSS. */
int archive_read_manifest(struct archive_reader *r, struct archive_manifest *ret, struct err *err) MUST_USE;
/* Reads all of @fd and believes nothing: every record, every check, every name. *ret: the manifest of the first part. */
int archive_verify(int fd, struct archive_manifest *ret, bool *ret_has_user, struct err *err) MUST_USE;

#endif
