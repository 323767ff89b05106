/* SPDX-License-Identifier: Apache-2.0 */
/* store_internal — what the files of src/store share: connections, the statement cache, the mapping of SQLite's errors.
 * Thread: a struct db belongs to whoever holds its mutex. */
#ifndef DAVIT_STORE_STORE_INTERNAL_H
#define DAVIT_STORE_STORE_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>

#include "base/hmap.h"
#include "base/list.h"
#include "loop/lane.h"
#include "store/store.h"

/* Readers: one per thread of the read lane, and one for the _sync calls. */
enum { STORE_READ_THREADS = 2, STORE_READERS = STORE_READ_THREADS + 1, STMT_CACHE_MAX = 128 };

/* A compiled statement; in the cache of its connection, or finalized with its rows when it is a second use of the same text. */
struct stmt {
    sqlite3_stmt *handle;
    bool cached;
    bool busy;
};

struct db {
    sqlite3 *handle;
    pthread_mutex_t mutex;
    struct hmap *stmts;     /* SQL text -> struct stmt */
    struct list open_rows;
    usec_t deadline;        /* of the unit of work that runs */
};

struct rows {
    struct list node;
    struct db *db;
    struct stmt *stmt;
    bool on_row;
    bool ended;
};

struct store {
    struct loop *loop;
    char *path;
    struct lane *write_lane, *read_lane;
    struct db writer;
    struct db readers[STORE_READERS];
};

/* Opens one connection with the settings of the house. @reader: statements that write fail. */
int db_open(struct db *db, const char *path, bool reader, struct err *err) MUST_USE;
/* Closes it; harmless on a zeroed one. */
void db_close(struct db *db);
/* Runs @fn in a transaction; takes the mutex. @write: BEGIN IMMEDIATE, else one read snapshot. */
int db_transaction(struct db *db, bool write, store_fn *fn, void *arg, usec_t deadline, struct err *err) MUST_USE;
/* The same for who holds the mutex. */
int db_transaction_locked(struct db *db, bool write, store_fn *fn, void *arg, usec_t deadline, struct err *err) MUST_USE;
/* Runs constant SQL, which may hold several statements. */
int db_script(struct db *db, const char *sql, struct err *err) MUST_USE;
/* Fills @err for the result code @rc of @handle. */
int db_fail(sqlite3 *handle, int rc, struct err *err) MUST_USE;
/* Brings the schema to version @n. */
int store_migrate(struct db *db, const struct store_migration *migrations, size_t n, struct err *err) MUST_USE;
/* Copies the database behind @db to @path; the caller holds the mutex. */
int db_backup_locked(struct db *db, const char *path, usec_t deadline, struct err *err) MUST_USE;

#endif
