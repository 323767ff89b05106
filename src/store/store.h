/* SPDX-License-Identifier: Apache-2.0 */
/* store — what lasts: one transactional database behind an interface that leaks nothing of the engine behind it.
 * Two engines, one per program: SQLite (one file, WAL, every commit fsynced), and PostgreSQL 13 or later (four connections of one user).
 * SQL of callers is written once, as SQLite reads it, and keeps to what both do: plain `?` placeholders in order, INSERT ... ON CONFLICT,
 * RETURNING, no engine functions, no triggers; types INTEGER, TEXT and BLOB. Text is ordered by its bytes. Text is UTF-8 without NUL
 * (PostgreSQL: -ERR_INVALID). `INTEGER PRIMARY KEY` gives a number to a row that has none; in one table either all rows bring one or none.
 *
 * A unit of work is a function `fn(db, arg, err)`: it runs inside one transaction, on a thread of the store's lanes (db-write has one
 * thread, so writers never meet; db-read has two, each on its own snapshot, which never waits for the writer). It may touch only @db and
 * what @arg points to: no loop, no fiber, no log. It returns 0 (commit) or anything else (roll back; that value is passed on: negative
 * = failure with @err filled, positive = outcome of the caller's). After a statement failed nothing else can be asked in that unit, and it
 * cannot commit. On PostgreSQL a unit that met another writer is run again from its beginning: what it leaves in @arg must not depend on
 * how often it ran.
 *
 * Ownership: the caller of store_open ends with store_close. One process per database: for a file the caller holds the lock of its data
 * directory; on PostgreSQL the store holds a lock of the schema, and a second store_open fails.
 * Limits: 1,024 waiting jobs per lane (-ERR_EXHAUSTED), values of 16 MiB, SQL text of 64 KiB.
 * Errors: -ERR_EXHAUSTED disk full, -ERR_UNAVAILABLE file locked by somebody or server away (the next call after a short while connects
 * again), -ERR_DATA_LOSS corrupt file, -ERR_EXISTS unique or primary key taken, -ERR_PRECONDITION any other constraint, -ERR_ABORTED met
 * other writers again and again, -ERR_DEADLINE, -ERR_CANCELLED, -ERR_INTERNAL for SQL that is wrong. -ERR_UNKNOWN: the connection broke
 * during the commit, and the server could not be asked within 10 s how it ended; whether it was done only looking tells.
 * Input trust: SQL is ours and constant; values may come from peers and are always bound, never pasted. */
#ifndef DAVIT_STORE_STORE_H
#define DAVIT_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

struct loop;
struct store;
struct db;   /* one connection inside one transaction; valid inside fn only */
struct rows; /* a running query */

enum { STORE_QUEUE_MAX = 1024, STORE_SQL_MAX = 64 * 1024, STORE_VALUE_MAX = 16 * 1024 * 1024 };

/* One step of the schema. The version of entry i is i + 1: entries are only ever appended. @sql holds one or more statements; every table
 * must be STRICT. Borrowed, static. */
struct store_migration {
    const char *name;
    const char *sql;
};

typedef int store_fn(struct db *db, void *arg, struct err *err);

/* Which engine this program has: "sqlite" or "postgresql". Static. */
const char *store_engine(void);

/* Opens the database @target and brings the schema up to @n, each migration in its own transaction.
 * SQLite: a file, made if it is not there (0600; its directory must exist). PostgreSQL: postgres://USER@HOST:PORT/DATABASE?PARAMETERS, with
 * #SCHEMA behind it for a schema of its own, made if it is not there; never with a password (-ERR_INVALID): that comes from PGPASSFILE.
 * @loop may be NULL: then only the _sync calls work (CLI tools, tests). Blocks (files, fsync, network): call it at program start.
 * -ERR_PRECONDITION: the data was written by a newer program, or its migrations have other names than @migrations;
 * -ERR_DATA_LOSS: not a database or damaged; -ERR_EXISTS: another process works on it. On failure *ret is untouched and nothing stays open. */
int store_open(struct loop *loop, const char *target, const struct store_migration *migrations, size_t n, struct store **ret,
               struct err *err) MUST_USE;
/* Waits for running units of work, drops waiting ones (-ERR_CANCELLED), closes. Accepts NULL. Returns NULL. */
struct store *store_close(struct store *store);

/* Waits: runs @fn in a write transaction and returns what it returned, after the commit is on disk. When the deadline passes or the fiber
 * is cancelled before @fn has started, it never runs (-ERR_DEADLINE, -ERR_CANCELLED); once it runs, this returns after its end, and a
 * statement that is still running at the deadline is stopped and rolled back. A failing commit returns its own error. Only from a fiber. */
int store_write(struct store *store, store_fn *fn, void *arg, usec_t deadline, struct err *err) MUST_USE;
/* The same in a read transaction (one snapshot; statements that write fail). */
int store_read(struct store *store, store_fn *fn, void *arg, usec_t deadline, struct err *err) MUST_USE;

/* The same on the calling thread, blocking: for program start and end and for programs without a loop. Never while the loop serves. */
int store_write_sync(struct store *store, store_fn *fn, void *arg, struct err *err) MUST_USE;
int store_read_sync(struct store *store, store_fn *fn, void *arg, struct err *err) MUST_USE;

/* Refuses growth of the file beyond about @bytes: writers then get -ERR_EXHAUSTED. For journals with a budget and for tests. Before the
 * first store_write. SQLite only (-ERR_UNIMPLEMENTED). */
int store_limit_size(struct store *store, uint64_t bytes, struct err *err) MUST_USE;

/* --- Inside fn -----------------------------------------------------------------------------------------------------------------
 * @fmt has one letter per `?`, "" for none, with arguments of exactly these types (no plain int for 'i': cast):
 *   t  const char *, NUL-terminated text; NULL binds SQL NULL      s  struct str, text
 *   i  int64_t                                                     b  struct str, blob
 *   n  no argument: SQL NULL
 * Bytes are borrowed until the call returns (db_exec) or until rows_done (db_query).  @sql is compiled once per connection. */

/* Runs one statement to its end; result rows are ignored. */
int db_exec(struct db *db, struct err *err, const char *sql, const char *fmt, ...) MUST_USE;
/* Rows that the last db_exec of this connection inserted, changed or deleted. */
int64_t db_changes(const struct db *db);

/* Starts a query. *ret is owned by the caller until rows_done; what is left open when fn returns is ended by the store. */
int db_query(struct db *db, struct rows **ret, struct err *err, const char *sql, const char *fmt, ...) MUST_USE;
/* 1: stands on a row; 0: there is no further one; negative: failed. */
int rows_next(struct rows *rows, struct err *err) MUST_USE;
/* Ends the query. Accepts NULL. Returns NULL. */
struct rows *rows_done(struct rows *rows);

/* Columns of the present row, counted from 0 (a column that does not exist aborts). NULL reads as 0 or as the empty string. Text and
 * blobs are borrowed until the next rows_next or rows_done; text is followed by a NUL. */
int64_t row_i64(const struct rows *rows, int column);
struct str row_text(const struct rows *rows, int column);
struct str row_blob(const struct rows *rows, int column);
bool row_is_null(const struct rows *rows, int column);

/* First column of the first row as a number: for counters and RETURNING. 0, or 1 when there is no row (*ret untouched). */
int db_get_i64(struct db *db, int64_t *ret, struct err *err, const char *sql, const char *fmt, ...) MUST_USE;

/* Cleanup for `AUTO_ROWS rows = NULL;`. */
static inline void cleanup_rows(struct rows **rows)
{
    (void)rows_done(*rows);
}
#define AUTO_ROWS CLEANUP(cleanup_rows) struct rows *

#endif
