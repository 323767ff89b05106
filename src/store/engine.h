/* SPDX-License-Identifier: Apache-2.0 */
/* engine — what the common half of the store asks of a database engine. Two are written: sqlite*.c, and pg*.c for PostgreSQL; a program links
 * exactly one of them (store_dep or store_pg_dep), so this is a contract between files and not a table of pointers.
 * Not included outside of src/store and its tests.  Thread: a struct db belongs to whoever holds the mutex of its slot. */
#ifndef DAVIT_STORE_ENGINE_H
#define DAVIT_STORE_ENGINE_H

#include <stdarg.h>

#include "base/hmap.h"
#include "base/list.h"
#include "store/store.h"

enum { STMT_CACHE_MAX = 128, VALUES_MAX = 64 };

/* A value to bind; @letter as in the formats of store.h. */
struct value {
    char letter;
    bool null;
    struct str s;
    int64_t i;
};

/* Head of an engine's connection. */
struct db {
    struct list open_rows; /* struct rows.node */
    struct hmap *stmts;    /* text of a statement -> what the engine keeps of it */
    usec_t deadline;       /* of the unit of work that runs */
    bool failed;           /* a statement of this unit failed: it can only be rolled back */
};

/* Head of an engine's running query. */
struct rows {
    struct list node;
    struct db *db;
};

/* Looks at the place before anything is opened: makes the file, or refuses what is no address of this engine. */
int engine_check_target(const char *target, struct err *err) MUST_USE;
/* Opens one connection. @reader: statements that write fail. The first one that is opened is the writer. On failure *ret is untouched. */
int engine_open(const char *target, bool reader, struct db **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct db *engine_close(struct db *db);
/* Runs @fn in a transaction, as store_write or store_read promise. */
int engine_transaction(struct db *db, bool write, store_fn *fn, void *arg, usec_t deadline, struct err *err) MUST_USE;
/* Runs the SQL of a migration, which may hold several statements; refuses tables that are not STRICT. */
int engine_script(struct db *db, const char *sql, struct err *err) MUST_USE;
/* Starts one statement. @stream: rows are fetched one by one, and nothing else may be asked until rows_done. */
int engine_query(struct db *db, const char *sql, const struct value *values, size_t n, bool stream, struct rows **ret,
                 struct err *err) MUST_USE;
/* After rows with numbers of their own were loaded into @table: new ones go on behind them. */
int engine_loaded(struct db *db, const char *table, struct err *err) MUST_USE;
/* See store_limit_size. */
int engine_limit_size(struct db *writer, uint64_t bytes, struct err *err) MUST_USE;
/* For a restore: an empty place beside the one that @target names, as a target of its own (*ret: the caller frees). */
int engine_restore_begin(const char *target, usec_t now, char **ret, struct err *err) MUST_USE;
/* Puts what lies at @beside in the place of @target, at once or not at all; what was there is kept and named in *ret_kept ("" if there was
 * nothing; the caller frees). Neither is open. */
int engine_restore_end(const char *target, const char *beside, usec_t now, char **ret_kept, struct err *err) MUST_USE;
/* Removes what engine_restore_begin made, after a failure. */
void engine_restore_undo(const char *target, const char *beside);

/* Names of our tables in the order in which they were made, and name and type of the columns of table `?`. */
extern const char engine_tables_sql[], engine_columns_sql[];

/* query.c. Runs one statement to its end with values in an array. */
int db_exec_values(struct db *db, const char *sql, const struct value *values, size_t n, struct err *err) MUST_USE;
/* db_query that fetches row by row, for tables of any size; see engine_query. */
int db_stream(struct db *db, struct rows **ret, const char *sql, struct err *err) MUST_USE;
/* Makes the head of a connection that nothing was asked of yet; the engine frees stmts. */
void db_init(struct db *db);
/* After fn returned @rc: ends the queries that it left open. Returns what the end of the transaction goes by: a unit that went on after a failed
 * statement is a failure. */
int db_unit_end(struct db *db, int rc, struct err *err) MUST_USE;

/* migrate.c. Brings the schema to version @n. */
int store_migrate(struct db *db, const struct store_migration *migrations, size_t n, struct err *err) MUST_USE;

#endif
