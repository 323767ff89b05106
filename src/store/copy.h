/* SPDX-License-Identifier: Apache-2.0 */
/* copy — a database into an archive while it is used, and out of one into a new place. Rows travel as typed values, so what one engine wrote the
 * other reads. */
#ifndef DAVIT_STORE_COPY_H
#define DAVIT_STORE_COPY_H

#include "store/archive.h"
#include "store/store.h"

/* Waits: appends all tables, as one snapshot shows them, to @w. Writers go on; one of the two reading threads is busy meanwhile. */
int store_dump(struct store *store, struct archive_writer *w, usec_t deadline, struct err *err) MUST_USE;
/* The same, blocking. */
int store_dump_sync(struct store *store, struct archive_writer *w, struct err *err) MUST_USE;

/* Blocks: reads the rest of the part of @r, whose manifest is @m: gives its tables to a new database at @target, brings that up to the @n steps
 * of @migrations and puts it in the place of what @target held, which is kept: *ret_kept names it ("" if there was nothing; the caller frees).
 * Files are checked and passed over: they are the caller's. Nobody may work on @target. SQLite: the file must not exist.
 * -ERR_PRECONDITION: the steps that the data has are not the first of @migrations (a newer or another program's); -ERR_DATA_LOSS: damaged. On
 * failure @target is as it was. */
int store_restore(const char *target, const struct store_migration *migrations, size_t n, struct archive_reader *r,
                  const struct archive_manifest *m, char **ret_kept, struct err *err) MUST_USE;

#endif
