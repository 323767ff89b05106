/* SPDX-License-Identifier: Apache-2.0 */
/* pg — what the files of the PostgreSQL engine share. A connection is used without blocking in libpq, so that a deadline is kept even when
 * the server or the way to it is gone. */
#ifndef DAVIT_STORE_PG_H
#define DAVIT_STORE_PG_H

#include <libpq-fe.h>

#include "store/engine.h"

struct pg_db {
    struct db db;
    PGconn *conn; /* NULL while there is no connection */
    char *target;
    bool reader;
    bool streaming;       /* a query fetches row by row */
    bool collided;        /* the unit failed because of another one: it may be run again */
    int64_t changes;
    unsigned n_prepared;
    unsigned attempts;    /* to connect since the last success */
    usec_t next_attempt;  /* not before this */
    usec_t timeout_at;    /* when the server was told how long a statement of this unit may run */
    char xid[24];         /* of the transaction, if it writes: by this its end is found when the answer to the commit was lost */
};

static inline struct pg_db *pg_of(const struct db *db)
{
    return CONTAINER_OF(db, struct pg_db, db);
}

/* --- pg.c --- */
/* Runs constant SQL in PostgreSQL's own words; rows are dropped. */
int pg_command(struct pg_db *p, const char *sql, struct err *err) MUST_USE;

/* The same for one that answers: first column of the first row as text, "" for NULL; the caller frees. */
int pg_ask(struct pg_db *p, const char *sql, char **ret, struct err *err) MUST_USE;
/* Sees to a connection that works; -ERR_UNAVAILABLE. After a failure it tries again not before its time. */
int pg_ensure(struct pg_db *p, struct err *err) MUST_USE;
/* The part of a target that libpq gets; the caller frees. *ret_schema: the part behind #, "" for none, points into @target. */
char *pg_split_target(const char *target, const char **ret_schema) MUST_USE;

/* --- pg_unit.c --- */
/* Before a statement: nothing is sent past the deadline, and the server knows how long it has. */
int pg_keep_deadline(struct pg_db *p, struct err *err) MUST_USE;

/* --- pg_wait.c: the wire --- */
/* After a PQsend...: waits for the result. @stream: for the next one only, else to the last of the statement. NULL: the connection is lost
 * (told in @err). The caller clears it. */
PGresult *pg_result(struct pg_db *p, bool stream, struct err *err) MUST_USE;
/* Waits until a connection that was begun is there. */
int pg_finish_connect(PGconn *conn, usec_t deadline, struct err *err) MUST_USE;
/* Fills @err for a failed result, by its SQLSTATE. */
int pg_fail(struct pg_db *p, const PGresult *result, struct err *err) MUST_USE;
/* Gives up the connection; -ERR_UNAVAILABLE with libpq's reason. */
int pg_lost(struct pg_db *p, const char *what, struct err *err) MUST_USE;
/* Forgets which statements are prepared: they were, on another connection. */
void pg_forget_statements(struct pg_db *p);

#endif
