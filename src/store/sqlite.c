/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite — the engine of one machine: connections to one file, transactions, and what SQLite's errors mean to our callers. */
#include "store/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
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

int sqlite_fail(sqlite3 *handle, int rc, struct err *err)
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

static int script(struct sqlite_db *s, const char *sql, struct err *err)
{
    int rc = sqlite3_exec(s->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : sqlite_fail(s->handle, rc, err);
}

/* --- Connection --- */

/* Called by SQLite every PROGRESS_OPS steps of its machine: non-zero stops the statement. */
static int on_progress(void *arg)
{
    const struct db *db = arg;
    return db->deadline != USEC_INFINITY && clock_mono() >= db->deadline;
}

/* SQLite would make the file by umask; its -wal and -shm take over the mode of this one. */
int engine_check_target(const char *path, struct err *err)
{
    static const char *const urls[] = {"postgres:", "postgresql:"};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++)
        if (str_starts(str_from(path), str_from(urls[i])))
            return err_set(err, ERR_INVALID, "this program keeps its data in a file; PostgreSQL is for davitd-pg");
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_sys(err, errno, "cannot open %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_PRECONDITION, "%s is not a file", path);
    if ((st.st_mode & 077) != 0 && fchmod(fd, 0600) != 0)
        return err_sys(err, errno, "cannot close %s to other users", path);
    return 0;
}

static int set_up(struct sqlite_db *s, const char *path, bool reader, struct err *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(path, &s->handle, flags, NULL);
    if (rc != SQLITE_OK)
        return sqlite_fail(s->handle, rc, err);
    (void)sqlite3_busy_timeout(s->handle, BUSY_TIMEOUT_MS);
    (void)sqlite3_limit(s->handle, SQLITE_LIMIT_LENGTH, STORE_VALUE_MAX + 1024);
    (void)sqlite3_limit(s->handle, SQLITE_LIMIT_SQL_LENGTH, STORE_SQL_MAX);
    (void)sqlite3_limit(s->handle, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_db_config(s->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(s->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(s->handle, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    (void)sqlite3_db_config(s->handle, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    sqlite3_progress_handler(s->handle, PROGRESS_OPS, on_progress, &s->db);
    /* A cell of the cache is a page of 4 KiB: small daemons keep it at 1 MiB per connection. */
    const char *settings = reader ? "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-1024; PRAGMA query_only=ON"
                                  : "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-1024;"
                                    "PRAGMA journal_size_limit=4194304; PRAGMA secure_delete=ON";
    return script(s, settings, err);
}

int engine_open(const char *path, bool reader, struct db **ret, struct err *err)
{
    struct sqlite_db *s = NEW(struct sqlite_db);
    db_init(&s->db);
    int rc = set_up(s, path, reader, err);
    if (rc < 0)
        (void)engine_close(&s->db);
    else
        *ret = &s->db;
    return rc;
}

struct db *engine_close(struct db *db)
{
    if (db == NULL)
        return NULL;
    struct sqlite_db *s = sqlite_of(db);
    sqlite_forget_statements(s);
    s->db.stmts = hmap_free(s->db.stmts);
    (void)sqlite3_close_v2(s->handle);
    free(s);
    return NULL;
}

/* --- Transactions --- */

static int run(struct sqlite_db *s, bool write, store_fn *fn, void *arg, struct err *err)
{
    int rc = script(s, write ? "BEGIN IMMEDIATE" : "BEGIN", err);
    if (rc < 0)
        return rc;
    rc = db_unit_end(&s->db, fn(&s->db, arg, err), err);
    if (rc == 0)
        rc = script(s, "COMMIT", err);
    /* Some failures (disk full) have rolled back already. */
    if (!sqlite3_get_autocommit(s->handle)) {
        s->db.deadline = USEC_INFINITY;
        BUG_ON(rc == 0);
        (void)sqlite3_exec(s->handle, "ROLLBACK", NULL, NULL, NULL);
    }
    return rc;
}

int engine_transaction(struct db *db, bool write, store_fn *fn, void *arg, usec_t deadline, struct err *err)
{
    db->deadline = deadline;
    db->failed = false;
    int rc = run(sqlite_of(db), write, fn, arg, err);
    db->deadline = USEC_INFINITY;
    return rc;
}

/* --- Schema --- */

/* Declared types are checked only in STRICT tables, and PostgreSQL always checks them. */
static int check_strict(struct db *db, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0"
                      " AND name NOT LIKE 'sqlite!_%' ESCAPE '!'",
                      "");
    if (rc < 0)
        return rc;
    rc = rows_next(rows, err);
    if (rc == 1)
        return err_set(err, ERR_INTERNAL, "table " STR_FMT " is not STRICT", STR_ARG(row_text(rows, 0)));
    return rc;
}

int engine_script(struct db *db, const char *sql, struct err *err)
{
    int rc = script(sqlite_of(db), sql, err);
    return rc < 0 ? rc : check_strict(db, err);
}

const char engine_tables_sql[] = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
                                 " AND name <> 'schema_migrations' ORDER BY rowid";
const char engine_columns_sql[] = "SELECT name, type FROM pragma_table_info(?) ORDER BY cid";

int engine_loaded(struct db *db, const char *table, struct err *err)
{
    (void)db, (void)table, (void)err;
    return 0; /* the next number is the largest plus one */
}

static int limit_fn(struct db *db, void *arg, struct err *err)
{
    const uint64_t *bytes = arg;
    int64_t page = 0;
    int rc = db_get_i64(db, &page, err, "PRAGMA page_size", "");
    if (rc < 0)
        return rc;
    AUTO_FREE char *sql = str_printf("PRAGMA max_page_count=%" PRIu64, *bytes / (uint64_t)page + 1);
    return script(sqlite_of(db), sql, err);
}

int engine_limit_size(struct db *writer, uint64_t bytes, struct err *err)
{
    return engine_transaction(writer, true, limit_fn, &bytes, USEC_INFINITY, err);
}

/* A file is restored into a new directory, which its owner puts in the place of the old one as a whole. */
int engine_restore_begin(const char *path, usec_t now, char **ret, struct err *err)
{
    (void)now;
    if (access(path, F_OK) == 0)
        return err_set(err, ERR_EXISTS, "%s exists already", path);
    *ret = str_dup(str_from(path));
    return 0;
}

int engine_restore_end(const char *path, const char *beside, usec_t now, char **ret_kept, struct err *err)
{
    (void)path, (void)beside, (void)now, (void)err;
    *ret_kept = str_dup(STR(""));
    return 0;
}

void engine_restore_undo(const char *path, const char *beside)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    (void)path;
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        AUTO_FREE char *name = str_printf("%s%s", beside, suffixes[i]);
        (void)unlink(name);
    }
}

const char *store_engine(void)
{
    return "sqlite";
}
