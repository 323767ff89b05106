/* SPDX-License-Identifier: Apache-2.0 */
/* pg_unit — units of work on PostgreSQL: one transaction each, run again when it met another one; the schema; what a restore needs. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/pg.h"
#include "store/pg_sql.h"

enum { TRIES_MAX = 8 };
static const usec_t END_WAIT = 5 * USEC_SEC, SETTLE_WAIT = 10 * USEC_SEC, TIMEOUT_AGE = 500 * USEC_MSEC;
static const usec_t COLLISION_FIRST = 2 * USEC_MSEC, COLLISION_MOST = 200 * USEC_MSEC, RETRY_STEP = 50 * USEC_MSEC;

/* Milliseconds that the server may take; 0 means no limit to it. */
static uint64_t time_left(const struct pg_db *p)
{
    usec_t now = clock_mono();
    if (p->db.deadline == USEC_INFINITY)
        return 0;
    return p->db.deadline <= now ? 1 : (p->db.deadline - now) / 1000 + 1;
}

int pg_keep_deadline(struct pg_db *p, struct err *err)
{
    char sql[96];
    usec_t now = clock_mono();
    if (p->db.deadline == USEC_INFINITY)
        return 0;
    if (now >= p->db.deadline)
        return err_set(err, ERR_DEADLINE, "the database did not finish in time");
    if (now - p->timeout_at < TIMEOUT_AGE)
        return 0;
    p->timeout_at = now;
    (void)snprintf(sql, sizeof(sql), "SET LOCAL statement_timeout = %" PRIu64, time_left(p));
    return pg_command(p, sql, err);
}

static int begin_now(struct pg_db *p, bool write, struct err *err)
{
    char sql[160];
    AUTO_FREE char *xid = NULL;
    p->timeout_at = clock_mono();
    (void)snprintf(sql, sizeof(sql), "BEGIN ISOLATION LEVEL %s; SET LOCAL statement_timeout = %" PRIu64 "%s",
                   write ? "SERIALIZABLE" : "REPEATABLE READ READ ONLY", time_left(p), write ? "; SELECT pg_current_xact_id()" : "");
    int rc = pg_ask(p, sql, &xid, err);
    (void)str_copy(p->xid, sizeof(p->xid), str_from(xid));
    return rc;
}

static int begin(struct pg_db *p, bool write, struct err *err)
{
    int rc = pg_ensure(p, err);
    if (rc < 0)
        return rc;
    rc = begin_now(p, write, err);
    if (rc == 0 || p->conn)
        return rc;
    /* It broke while nobody used it (the server was restarted): nothing has begun yet, so another one is as good. */
    rc = pg_ensure(p, err);
    return rc < 0 ? rc : begin_now(p, write, err);
}

/* The answer to a commit was lost. The server is asked how it ended: who has the lock again knows that the session before is over. */
static int settle(struct pg_db *p, struct err *err)
{
    usec_t until = clock_mono() + SETTLE_WAIT;
    AUTO_FREE char *state = NULL;
    char sql[96];
    (void)snprintf(sql, sizeof(sql), "SELECT pg_xact_status('%s'::xid8)", p->xid);
    while (!state && clock_mono() < until) {
        p->db.deadline = clock_mono() + END_WAIT;
        if (pg_ensure(p, NULL) == 0 && pg_ask(p, sql, &state, NULL) < 0 && p->conn)
            break; /* another server, which knows nothing of it */
        if (!state)
            (void)usleep((useconds_t)RETRY_STEP);
    }
    if (state && strcmp(state, "committed") == 0)
        return 0;
    if (state && strcmp(state, "aborted") == 0)
        return err_set(err, ERR_UNAVAILABLE, "the connection to the database broke before the commit; nothing was changed");
    (void)err_set(err, ERR_UNKNOWN, "the connection to the database broke during the commit: it may have been done or not");
    err_hint(err, "look before you do it again");
    return -ERR_UNKNOWN;
}

/* A commit must not be cut off by the deadline of the unit: then nobody would know whether it was done. */
static int commit(struct pg_db *p, bool write, struct err *err)
{
    PGresult *result = NULL;
    p->db.deadline = clock_mono() + END_WAIT;
    if (!PQsendQuery(p->conn, "COMMIT"))
        (void)pg_lost(p, "", NULL);
    else
        result = pg_result(p, false, NULL);
    if (result == NULL)
        return write ? settle(p, err) : 0;
    int rc = 0;
    if (PQresultStatus(result) == PGRES_FATAL_ERROR)
        rc = pg_fail(p, result, err);
    else if (strcmp(PQcmdStatus(result), "COMMIT") != 0)
        rc = err_set(err, ERR_ABORTED, "the database rolled a transaction back");
    PQclear(result);
    return rc;
}

static int run(struct pg_db *p, bool write, store_fn *fn, void *arg, struct err *err)
{
    p->db.failed = p->collided = false;
    int rc = begin(p, write, err);
    if (rc < 0)
        return rc;
    rc = db_unit_end(&p->db, fn(&p->db, arg, err), err);
    if (rc == 0 && p->conn)
        return commit(p, write, err);
    p->db.deadline = clock_mono() + END_WAIT;
    if (p->conn)
        (void)pg_command(p, "ROLLBACK", NULL);
    return rc == 0 ? err_set(err, ERR_UNAVAILABLE, "the connection to the database broke") : rc;
}

int engine_transaction(struct db *db, bool write, store_fn *fn, void *arg, usec_t deadline, struct err *err)
{
    struct pg_db *p = pg_of(db);
    int rc;
    for (unsigned try = 0;; try++) {
        db->deadline = deadline;
        rc = run(p, write, fn, arg, err);
        db->deadline = USEC_INFINITY;
        if (rc >= 0 || !p->collided || try + 1 == TRIES_MAX || clock_mono() >= deadline)
            return rc;
        if (err)
            *err = ERR_INIT;
        (void)usleep((useconds_t)backoff_wait(try, COLLISION_FIRST, COLLISION_MOST));
    }
}

/* --- Schema ----------------------------------------------------------------------------------------------------------------------- */

int engine_script(struct db *db, const char *sql, struct err *err)
{
    AUTO_BUF text = BUF_INIT(2 * STORE_SQL_MAX);
    int rc = pg_sql_translate(sql, &text, err);
    if (rc == 0)
        rc = pg_command(pg_of(db), buf_cstr(&text), err);
    db->failed = db->failed || rc < 0;
    return rc;
}

#define OUR_SCHEMA "quote_ident(current_schema())::regnamespace"
const char engine_tables_sql[] = "SELECT relname FROM pg_class WHERE relnamespace = " OUR_SCHEMA
                                 " AND relkind = 'r' AND relname <> 'schema_migrations' ORDER BY oid";
const char engine_columns_sql[] =
    "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " WHERE c.relnamespace = " OUR_SCHEMA " AND c.relname = ? AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

static const char identity_sql[] = "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
                                   " WHERE c.relnamespace = " OUR_SCHEMA " AND c.relname = ? AND a.attidentity <> ''";

int engine_loaded(struct db *db, const char *table, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, identity_sql, "t", table);
    if (rc < 0)
        return rc;
    rc = rows_next(rows, err);
    if (rc <= 0)
        return rc;
    AUTO_FREE char *sql = str_printf("SELECT setval(pg_get_serial_sequence('\"%s\"', '" STR_FMT "'), coalesce(max(\"" STR_FMT
                                     "\"), 0) + 1, false) FROM \"%s\"",
                                     table, STR_ARG(row_text(rows, 0)), STR_ARG(row_text(rows, 0)), table);
    return pg_command(pg_of(db), sql, err);
}

int engine_limit_size(struct db *writer, uint64_t bytes, struct err *err)
{
    (void)writer, (void)bytes;
    return err_set(err, ERR_UNIMPLEMENTED, "the size of a database is limited by its server");
}

/* --- Restore: beside the schema in use, then in its place ----------------------------------------------------------------------------- */

/* Opens @target as its writer, so that nobody else works on it, and tells its schema. */
static int hold(const char *target, struct db **ret, char **ret_schema, struct err *err)
{
    int rc = engine_open(target, false, ret, err);
    return rc < 0 ? rc : pg_ask(pg_of(*ret), "SELECT current_schema()", ret_schema, err);
}

int engine_restore_begin(const char *target, usec_t now, char **ret, struct err *err)
{
    const char *schema;
    AUTO_FREE char *url = pg_split_target(target, &schema);
    AUTO_FREE char *current = NULL;
    struct db *db = NULL;
    int rc = engine_check_target(target, err);
    if (rc == 0)
        rc = hold(target, &db, &current, err);
    if (rc == 0)
        *ret = str_printf("%s#%.30s_restoring_%" PRIu64, url, current, now);
    (void)engine_close(db);
    return rc;
}

struct swap {
    const char *current, *beside, *kept;
    bool had_tables;
};

static int swap_fn(struct db *db, void *arg, struct err *err)
{
    struct swap *s = arg;
    int64_t n = 0;
    int rc = db_get_i64(db, &n, err, "SELECT count(*) FROM pg_class WHERE relnamespace = " OUR_SCHEMA, "");
    s->had_tables = n > 0;
    AUTO_FREE char *sql = n ? str_printf("ALTER SCHEMA \"%s\" RENAME TO \"%s\"; ALTER SCHEMA \"%s\" RENAME TO \"%s\"", s->current, s->kept,
                                         s->beside, s->current)
                            : str_printf("DROP SCHEMA \"%s\"; ALTER SCHEMA \"%s\" RENAME TO \"%s\"", s->current, s->beside, s->current);
    return rc < 0 ? rc : pg_command(pg_of(db), sql, err);
}

int engine_restore_end(const char *target, const char *beside, usec_t now, char **ret_kept, struct err *err)
{
    AUTO_FREE char *current = NULL;
    struct db *db = NULL;
    struct swap s;
    AUTO_FREE char *url = pg_split_target(beside, &s.beside);
    int rc = hold(target, &db, &current, err);
    AUTO_FREE char *kept = str_printf("%.30s_before_restore_%" PRIu64, rc == 0 ? current : "", now);
    s.current = current;
    s.kept = kept;
    if (rc == 0)
        rc = engine_transaction(db, true, swap_fn, &s, clock_mono() + 60 * USEC_SEC, err);
    if (rc == 0)
        *ret_kept = s.had_tables ? str_printf("schema %s", kept) : str_dup(STR(""));
    (void)engine_close(db);
    return rc;
}

static int drop_fn(struct db *db, void *arg, struct err *err)
{
    AUTO_FREE char *sql = str_printf("DROP SCHEMA IF EXISTS \"%s\" CASCADE", (const char *)arg);
    return pg_command(pg_of(db), sql, err);
}

void engine_restore_undo(const char *target, const char *beside)
{
    const char *schema;
    AUTO_FREE char *url = pg_split_target(beside, &schema);
    struct db *db = NULL;
    if (engine_open(target, false, &db, NULL) == 0)
        (void)engine_transaction(db, true, drop_fn, (char *)(uintptr_t)schema, clock_mono() + 60 * USEC_SEC, NULL);
    (void)engine_close(db);
}

const char *store_engine(void)
{
    return "postgresql";
}
