/* SPDX-License-Identifier: Apache-2.0 */
/* db — one SQLite connection: settings, transactions, statements, rows, and what its errors mean to our callers. */
#include "store/store_internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"

enum { BUSY_TIMEOUT_MS = 5000, PROGRESS_OPS = 10000 };

/* --- Errors --- */

/* The errno of the last failed call on the file or on its log; sqlite3_system_errno is overwritten by the rollback that follows. */
static int file_errno(sqlite3 *handle)
{
    int sys = 0;
    sqlite3_file *log = NULL;
    (void)sqlite3_file_control(handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (log && log->pMethods)
        (void)log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &sys);
    if (sys == 0)
        (void)sqlite3_file_control(handle, "main", SQLITE_FCNTL_LAST_ERRNO, &sys);
    return sys ? sys : sqlite3_system_errno(handle);
}

static int fail_io(sqlite3 *handle, struct err *err)
{
    int sys = handle ? file_errno(handle) : 0;
    if (sys == ENOSPC || sys == EDQUOT || sys == EFBIG) {
        int rc = err_set(err, ERR_EXHAUSTED, "the database cannot grow: %s", sqlite3_errmsg(handle));
        err_hint(err, "Free space on the file system of the data directory, or raise its quota.");
        return rc;
    }
    return err_set(err, ERR_INTERNAL, "the database cannot be read or written: %s (error number %d)",
                   handle ? sqlite3_errmsg(handle) : "no connection", sys);
}

int db_fail(sqlite3 *handle, int rc, struct err *err)
{
    const char *text = handle ? sqlite3_errmsg(handle) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_FULL:
        rc = err_set(err, ERR_EXHAUSTED, "the database cannot grow: %s", text);
        err_hint(err, "Free space on the file system of the data directory, or raise its quota.");
        return rc;
    case SQLITE_IOERR:
        return fail_io(handle, err);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        rc = err_set(err, ERR_UNAVAILABLE, "the database is locked by another program: %s", text);
        err_hint(err, "End the program that holds the database file open.");
        return rc;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        rc = err_set(err, ERR_DATA_LOSS, "the database file is damaged: %s", text);
        err_hint(err, "Restore it from the last backup.");
        return rc;
    case SQLITE_CONSTRAINT: {
        int full = handle ? sqlite3_extended_errcode(handle) : rc;
        bool taken = full == SQLITE_CONSTRAINT_UNIQUE || full == SQLITE_CONSTRAINT_PRIMARYKEY || full == SQLITE_CONSTRAINT_ROWID;
        return err_set(err, taken ? ERR_EXISTS : ERR_PRECONDITION, "%s", text);
    }
    case SQLITE_INTERRUPT:
        return err_set(err, ERR_DEADLINE, "the database did not finish in time");
    case SQLITE_CANTOPEN:
        return err_set(err, ERR_NOT_FOUND, "the database file cannot be opened: %s", text);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return err_set(err, ERR_DENIED, "the database cannot be written: %s", text);
    case SQLITE_TOOBIG:
        return err_set(err, ERR_RANGE, "a value is larger than the database takes: %s", text);
    case SQLITE_NOMEM:
        return err_set(err, ERR_EXHAUSTED, "out of memory in the database");
    default:
        return err_set(err, ERR_INTERNAL, "database: %s", text);
    }
}

int db_script(struct db *db, const char *sql, struct err *err)
{
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : db_fail(db->handle, rc, err);
}

/* --- Connection --- */

/* Called by SQLite every PROGRESS_OPS steps of its machine: non-zero stops the statement. */
static int on_progress(void *arg)
{
    const struct db *db = arg;
    return db->deadline != USEC_INFINITY && clock_mono() >= db->deadline;
}

int db_open(struct db *db, const char *path, bool reader, struct err *err)
{
    list_init(&db->open_rows);
    db->deadline = USEC_INFINITY;
    BUG_ON(pthread_mutex_init(&db->mutex, NULL) != 0);
    db->stmts = hmap_new(STMT_CACHE_MAX);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (rc != SQLITE_OK)
        return db_fail(db->handle, rc, err);
    (void)sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    (void)sqlite3_limit(db->handle, SQLITE_LIMIT_LENGTH, STORE_VALUE_MAX + 1024);
    (void)sqlite3_limit(db->handle, SQLITE_LIMIT_SQL_LENGTH, STORE_SQL_MAX);
    (void)sqlite3_limit(db->handle, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    sqlite3_progress_handler(db->handle, PROGRESS_OPS, on_progress, db);
    /* A cell of the cache is a page of 4 KiB: small daemons keep it at 1 MiB per connection. */
    const char *settings = reader ? "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-1024; PRAGMA query_only=ON"
                                  : "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-1024;"
                                    "PRAGMA journal_size_limit=4194304; PRAGMA secure_delete=ON";
    return db_script(db, settings, err);
}

void db_close(struct db *db)
{
    if (db->stmts == NULL)
        return;
    for (struct hmap_entry *e = hmap_first(db->stmts); e; e = hmap_next(e)) {
        struct stmt *stmt = hmap_value(e);
        (void)sqlite3_finalize(stmt->handle);
        free(stmt);
    }
    db->stmts = hmap_free(db->stmts);
    (void)sqlite3_close_v2(db->handle);
    db->handle = NULL;
    (void)pthread_mutex_destroy(&db->mutex);
}

/* --- Transactions --- */

static int run_fn(struct db *db, bool write, store_fn *fn, void *arg, struct err *err)
{
    int rc = db_script(db, write ? "BEGIN IMMEDIATE" : "BEGIN", err);
    if (rc < 0)
        return rc;
    rc = fn(db, arg, err);
    while (!list_empty(&db->open_rows))
        (void)rows_done(list_first(&db->open_rows, struct rows, node));
    if (rc == 0)
        rc = db_script(db, "COMMIT", err);
    else if (rc < 0)
        rc = err_ensure(err, rc);
    /* Some failures (disk full) have rolled back already. */
    if (!sqlite3_get_autocommit(db->handle)) {
        db->deadline = USEC_INFINITY;
        BUG_ON(rc == 0);
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    }
    return rc;
}

int db_transaction_locked(struct db *db, bool write, store_fn *fn, void *arg, usec_t deadline, struct err *err)
{
    db->deadline = deadline;
    int rc = run_fn(db, write, fn, arg, err);
    db->deadline = USEC_INFINITY;
    return rc;
}

int db_transaction(struct db *db, bool write, store_fn *fn, void *arg, usec_t deadline, struct err *err)
{
    (void)pthread_mutex_lock(&db->mutex);
    int rc = db_transaction_locked(db, write, fn, arg, deadline, err);
    (void)pthread_mutex_unlock(&db->mutex);
    return rc;
}

/* --- Statements --- */

static int stmt_compile(struct db *db, const char *sql, bool keep, struct stmt **ret, struct err *err)
{
    sqlite3_stmt *handle = NULL;
    const char *rest = NULL;
    size_t n = strlen(sql);
    if (n >= STORE_SQL_MAX)
        return err_set(err, ERR_INTERNAL, "SQL text of %zu bytes", n);
    int rc = sqlite3_prepare_v3(db->handle, sql, (int)n + 1, keep ? SQLITE_PREPARE_PERSISTENT : 0, &handle, &rest);
    if (rc != SQLITE_OK)
        return ERR_NEGATIVE(db_fail(db->handle, rc, err));
    if (handle == NULL || rest[strspn(rest, " \n\t;")] != '\0') {
        (void)sqlite3_finalize(handle);
        return err_set(err, ERR_INTERNAL, "not exactly one SQL statement: %.80s", sql);
    }
    struct stmt *stmt = NEW(struct stmt);
    stmt->handle = handle;
    stmt->cached = keep && hmap_put(db->stmts, (struct str){sql, n}, stmt, NULL) == 0;
    *ret = stmt;
    return 0;
}

static int stmt_get(struct db *db, const char *sql, struct stmt **ret, struct err *err)
{
    struct stmt *stmt = hmap_get(db->stmts, str_from(sql));
    if (stmt == NULL || stmt->busy) {
        int rc = stmt_compile(db, sql, stmt == NULL, &stmt, err);
        if (rc < 0)
            return rc;
    }
    stmt->busy = true;
    *ret = stmt;
    return 0;
}

static void stmt_put(struct stmt *stmt)
{
    if (!stmt->cached) {
        (void)sqlite3_finalize(stmt->handle);
        free(stmt);
        return;
    }
    (void)sqlite3_reset(stmt->handle);
    (void)sqlite3_clear_bindings(stmt->handle);
    stmt->busy = false;
}

/* An empty string is not NULL, whatever its pointer. */
static const char *bytes_of(struct str s)
{
    return s.p ? s.p : "";
}

static int bind_one(sqlite3_stmt *h, int at, char letter, va_list *ap)
{
    struct str s;
    const char *t;
    switch (letter) {
    case 't':
        t = va_arg(*ap, const char *);
        return t ? sqlite3_bind_text64(h, at, t, strlen(t), SQLITE_STATIC, SQLITE_UTF8) : sqlite3_bind_null(h, at);
    case 's':
        s = va_arg(*ap, struct str);
        return sqlite3_bind_text64(h, at, bytes_of(s), s.n, SQLITE_STATIC, SQLITE_UTF8);
    case 'b':
        s = va_arg(*ap, struct str);
        return sqlite3_bind_blob64(h, at, bytes_of(s), s.n, SQLITE_STATIC);
    case 'i':
        return sqlite3_bind_int64(h, at, va_arg(*ap, int64_t));
    case 'n':
        return sqlite3_bind_null(h, at);
    default:
        err_bug(__FILE__, __LINE__, "letter of a statement's format");
    }
}

static int stmt_bind(struct db *db, struct stmt *stmt, struct err *err, const char *fmt, va_list *ap)
{
    size_t n = strlen(fmt);
    if (sqlite3_bind_parameter_count(stmt->handle) != (int)n)
        return err_set(err, ERR_INTERNAL, "%d placeholders for %zu values: %.80s", sqlite3_bind_parameter_count(stmt->handle), n,
                       sqlite3_sql(stmt->handle));
    for (size_t i = 0; i < n; i++) {
        int rc = bind_one(stmt->handle, (int)i + 1, fmt[i], ap);
        if (rc != SQLITE_OK)
            return db_fail(db->handle, rc, err);
    }
    return 0;
}

static int query_va(struct db *db, struct rows **ret, struct err *err, const char *sql, const char *fmt, va_list *ap)
{
    struct stmt *stmt = NULL;
    int rc = stmt_get(db, sql, &stmt, err);
    if (rc < 0)
        return rc;
    rc = stmt_bind(db, stmt, err, fmt, ap);
    if (rc < 0) {
        stmt_put(stmt);
        return rc;
    }
    struct rows *rows = NEW(struct rows);
    rows->db = db;
    rows->stmt = stmt;
    list_init(&rows->node);
    list_push(&db->open_rows, &rows->node);
    *ret = rows;
    return 0;
}

int db_exec(struct db *db, struct err *err, const char *sql, const char *fmt, ...)
{
    AUTO_ROWS rows = NULL;
    va_list ap;
    va_start(ap, fmt);
    int rc = query_va(db, &rows, err, sql, fmt, &ap);
    va_end(ap);
    while (rc == 0 || rc == 1) {
        rc = rows_next(rows, err);
        if (rc == 0)
            return 0;
    }
    return rc;
}

int64_t db_changes(const struct db *db)
{
    return sqlite3_changes64(db->handle);
}

int db_query(struct db *db, struct rows **ret, struct err *err, const char *sql, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = query_va(db, ret, err, sql, fmt, &ap);
    va_end(ap);
    return rc;
}

int db_get_i64(struct db *db, int64_t *ret, struct err *err, const char *sql, const char *fmt, ...)
{
    AUTO_ROWS rows = NULL;
    va_list ap;
    va_start(ap, fmt);
    int rc = query_va(db, &rows, err, sql, fmt, &ap);
    va_end(ap);
    if (rc < 0)
        return rc;
    rc = rows_next(rows, err);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return 1;
    *ret = row_i64(rows, 0);
    return 0;
}

/* --- Rows --- */

int rows_next(struct rows *rows, struct err *err)
{
    rows->on_row = false;
    if (rows->ended)
        return 0;
    int rc = sqlite3_step(rows->stmt->handle);
    rows->on_row = rc == SQLITE_ROW;
    rows->ended = !rows->on_row;
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : db_fail(rows->db->handle, rc, err);
}

struct rows *rows_done(struct rows *rows)
{
    if (rows == NULL)
        return NULL;
    list_remove(&rows->node);
    stmt_put(rows->stmt);
    free(rows);
    return NULL;
}

static sqlite3_stmt *column_of(const struct rows *rows, int column)
{
    BUG_ON(!rows->on_row || column < 0 || column >= sqlite3_column_count(rows->stmt->handle));
    return rows->stmt->handle;
}

int64_t row_i64(const struct rows *rows, int column)
{
    return sqlite3_column_int64(column_of(rows, column), column);
}

struct str row_text(const struct rows *rows, int column)
{
    sqlite3_stmt *h = column_of(rows, column);
    const char *p = (const char *)sqlite3_column_text(h, column);
    return p ? (struct str){p, (size_t)sqlite3_column_bytes(h, column)} : STR("");
}

struct str row_blob(const struct rows *rows, int column)
{
    sqlite3_stmt *h = column_of(rows, column);
    const char *p = sqlite3_column_blob(h, column);
    return p ? (struct str){p, (size_t)sqlite3_column_bytes(h, column)} : STR("");
}

bool row_is_null(const struct rows *rows, int column)
{
    return sqlite3_column_type(column_of(rows, column), column) == SQLITE_NULL;
}
