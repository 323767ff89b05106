/* SPDX-License-Identifier: Apache-2.0 */
/* pg — the engine for a server of its own: connections to PostgreSQL, the lock that keeps a second control plane off, transactions.
 * A target is postgres://USER@HOST:PORT/DATABASE?PARAMETERS as libpq knows it, without a password, and #SCHEMA behind it if the tables lie
 * in a schema of their own. */
#include "store/pg.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/pg_sql.h"

enum { LOCK_CLASS = 0x44617669 };
static const usec_t CONNECT_WAIT = 5 * USEC_SEC, LOCK_WAIT = 5 * USEC_SEC;
static const usec_t RETRY_FIRST = 100 * USEC_MSEC, RETRY_MOST = 10 * USEC_SEC;

/* --- Commands --------------------------------------------------------------------------------------------------------------------- */

/* Runs SQL that libpq sends as it stands. *ret: the last result, cleared by the caller. */
static int simple(struct pg_db *p, const char *sql, PGresult **ret, struct err *err)
{
    if (p->conn == NULL || !PQsendQuery(p->conn, sql))
        return pg_lost(p, "the database cannot be asked", err);
    PGresult *result = pg_result(p, false, err);
    if (result == NULL)
        return -ERR_UNAVAILABLE;
    if (PQresultStatus(result) == PGRES_FATAL_ERROR) {
        int rc = pg_fail(p, result, err);
        PQclear(result);
        return rc;
    }
    *ret = result;
    return 0;
}

int pg_command(struct pg_db *p, const char *sql, struct err *err)
{
    PGresult *result = NULL;
    int rc = simple(p, sql, &result, err);
    PQclear(result);
    return rc;
}

int pg_ask(struct pg_db *p, const char *sql, char **ret, struct err *err)
{
    PGresult *result = NULL;
    int rc = simple(p, sql, &result, err);
    if (rc == 0)
        *ret = str_dup(str_from(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : ""));
    PQclear(result);
    return rc;
}

/* --- Connection ------------------------------------------------------------------------------------------------------------------- */

char *pg_split_target(const char *target, const char **ret_schema)
{
    struct str rest = str_from(target);
    struct str url = str_cut(&rest, '#');
    *ret_schema = target[url.n] == '#' ? target + url.n + 1 : "";
    return str_dup(url);
}

int engine_check_target(const char *target, struct err *err)
{
    const char *schema;
    AUTO_FREE char *url = pg_split_target(target, &schema);
    char *why = NULL;
    if (!str_starts(str_from(url), STR("postgres://")) && !str_starts(str_from(url), STR("postgresql://"))) {
        (void)err_set(err, ERR_INVALID, "this program keeps its data in PostgreSQL and needs an address of one");
        err_hint(err, "postgres://USER@HOST:PORT/DATABASE, without the password, which it reads from PGPASSFILE");
        return -ERR_INVALID;
    }
    PQconninfoOption *options = PQconninfoParse(url, &why);
    if (options == NULL) {
        struct str rest = str_from(why), line = str_cut(&rest, '\n');
        (void)err_set(err, ERR_INVALID, STR_FMT, STR_ARG(line));
        PQfreemem(why);
        return -ERR_INVALID;
    }
    bool secret = false;
    for (const PQconninfoOption *o = options; o->keyword; o++)
        secret = secret || (o->val && (strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0));
    PQconninfoFree(options);
    if (!secret)
        return 0;
    (void)err_set(err, ERR_INVALID, "the address of the database holds a password, which other users of this machine could read");
    err_hint(err, "put it into a file of mode 0600 and name that in PGPASSFILE or with ?passfile=FILE");
    return -ERR_INVALID;
}

static void ignore_notice(void *arg, const PGresult *result)
{
    (void)arg, (void)result;
}

static const char session_sql[] =
    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET standard_conforming_strings = on;"
    /* A commit that was told must be there after a power cut; what is stronger than "on" stays. */
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

static int use_schema(struct pg_db *p, const char *schema, struct err *err)
{
    AUTO_FREE char *now = NULL;
    if (*schema) {
        char *quoted = PQescapeIdentifier(p->conn, schema, strlen(schema));
        AUTO_FREE char *sql = str_printf("%s%s%sSET search_path TO %s", p->reader ? "" : "CREATE SCHEMA IF NOT EXISTS ",
                                         p->reader ? "" : quoted, p->reader ? "" : "; ", quoted);
        PQfreemem(quoted);
        int rc = pg_command(p, sql, err);
        if (rc < 0)
            return rc;
    }
    int rc = pg_ask(p, "SELECT current_schema()", &now, err);
    if (rc == 0 && *now == '\0')
        rc = err_set(err, ERR_PRECONDITION, "the database has no schema for this user's tables");
    return rc;
}

static int check_server(struct pg_db *p, struct err *err)
{
    AUTO_FREE char *encoding = NULL;
    int rc = pg_ask(p, "SHOW server_encoding", &encoding, err);
    if (rc == 0 && strcmp(encoding, "UTF8") != 0)
        rc = err_set(err, ERR_PRECONDITION, "the database has the encoding %.40s, UTF8 is needed", encoding);
    if (rc == 0 && PQserverVersion(p->conn) < 130000)
        rc = err_set(err, ERR_PRECONDITION, "PostgreSQL %d is too old, 13 is the oldest", PQserverVersion(p->conn) / 10000);
    return rc;
}

/* Held by the session of the writer: who has lost its connection has lost the lock, and writes nothing before it has it again. */
static int take_lock(struct pg_db *p, usec_t until, struct err *err)
{
    char sql[128];
    (void)snprintf(sql, sizeof(sql), "SELECT pg_try_advisory_lock(%d, hashtext(current_schema()))", LOCK_CLASS);
    for (;;) {
        AUTO_FREE char *got = NULL;
        int rc = pg_ask(p, sql, &got, err);
        if (rc < 0 || (got && *got == 't'))
            return rc;
        if (clock_mono() >= until) {
            (void)err_set(err, ERR_EXISTS, "another control plane works on this database");
            err_hint(err, "stop it, or give this one a database or a schema of its own");
            return -ERR_EXISTS;
        }
        /* The server may not have noticed yet that the one before is gone. */
        (void)usleep((useconds_t)backoff_wait(0, 50 * USEC_MSEC, 100 * USEC_MSEC));
    }
}

static int begin_connect(struct pg_db *p, const char *url, struct err *err)
{
    static const char *const keys[] = {"client_encoding", "application_name", "keepalives_idle", "keepalives_interval",
                                       "tcp_user_timeout", "dbname", NULL};
    const char *const values[] = {"UTF8", "davitd", "30", "10", "30000", url, NULL};
    p->conn = PQconnectStartParams(keys, values, 1);
    BUG_ON(p->conn == NULL);
    (void)PQsetNoticeReceiver(p->conn, ignore_notice, NULL);
    int rc = PQstatus(p->conn) == CONNECTION_BAD ? pg_lost(p, "the database cannot be reached", err)
                                                 : pg_finish_connect(p->conn, clock_mono() + CONNECT_WAIT, err);
    if (rc == 0 && PQsetnonblocking(p->conn, 1) != 0)
        rc = pg_lost(p, "the database cannot be reached", err);
    return rc;
}

/* Connects and brings the session to where statements can run. @lock_wait: how long another holder of the lock is waited for. */
static int connect_now(struct pg_db *p, usec_t lock_wait, struct err *err)
{
    const char *schema;
    AUTO_FREE char *url = pg_split_target(p->target, &schema);
    usec_t kept = p->db.deadline;
    int rc = begin_connect(p, url, err);
    p->db.deadline = clock_mono() + CONNECT_WAIT + lock_wait;
    if (rc == 0)
        rc = pg_command(p, session_sql, err);
    if (rc == 0)
        rc = check_server(p, err);
    if (rc == 0)
        rc = use_schema(p, schema, err);
    if (rc == 0 && !p->reader)
        rc = take_lock(p, clock_mono() + lock_wait, err);
    p->db.deadline = kept;
    if (rc < 0) {
        PQfinish(p->conn);
        p->conn = NULL;
    }
    return rc;
}

int pg_ensure(struct pg_db *p, struct err *err)
{
    if (p->conn && PQstatus(p->conn) == CONNECTION_OK)
        return 0;
    if (p->conn)
        (void)pg_lost(p, "", NULL);
    if (clock_mono() < p->next_attempt)
        return err_set(err, ERR_UNAVAILABLE, "the database cannot be reached; the next attempt follows in a moment");
    struct err why = ERR_INIT;
    int rc = connect_now(p, 0, &why);
    if (rc == 0) {
        p->attempts = 0;
        return 0;
    }
    p->next_attempt = clock_mono() + backoff_wait(p->attempts++, RETRY_FIRST, RETRY_MOST);
    /* Whatever the reason, for callers the database is away. */
    return err_set(err, ERR_UNAVAILABLE, "%s", why.msg);
}

int engine_open(const char *target, bool reader, struct db **ret, struct err *err)
{
    struct pg_db *p = NEW(struct pg_db);
    db_init(&p->db);
    p->target = str_dup(str_from(target));
    p->reader = reader;
    int rc = connect_now(p, LOCK_WAIT, err);
    if (rc < 0)
        (void)engine_close(&p->db);
    else
        *ret = &p->db;
    return rc;
}

struct db *engine_close(struct db *db)
{
    if (db == NULL)
        return NULL;
    struct pg_db *p = pg_of(db);
    PQfinish(p->conn);
    pg_forget_statements(p);
    p->db.stmts = hmap_free(p->db.stmts);
    free(p->target);
    free(p);
    return NULL;
}
