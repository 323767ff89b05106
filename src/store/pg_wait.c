/* SPDX-License-Identifier: Apache-2.0 */
/* pg_wait — the wire to PostgreSQL: waiting with a deadline, and what its errors mean to our callers. */
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "store/pg.h"

/* The server stops a statement at the deadline by itself; who does not hear that for this long believes that it is gone. */
static const usec_t GRACE = 2 * USEC_SEC;

/* The first line of what libpq says, without the place in the SQL text. */
static struct str first_line(const char *text)
{
    struct str s = str_from(text);
    return str_trim(str_cut(&s, '\n'));
}

int pg_lost(struct pg_db *p, const char *what, struct err *err)
{
    struct str why = p->conn ? first_line(PQerrorMessage(p->conn)) : STR("");
    int rc = err_set(err, ERR_UNAVAILABLE, "%s" STR_FMT STR_FMT, what, STR_ARG(why.n ? STR(": ") : STR("")), STR_ARG(why));
    PQfinish(p->conn);
    p->conn = NULL;
    p->streaming = false;
    pg_forget_statements(p);
    return rc;
}

static int milliseconds(usec_t until)
{
    usec_t now = clock_mono();
    if (until == USEC_INFINITY)
        return -1;
    return until <= now ? 0 : until - now > 600 * USEC_SEC ? 600000 : (int)((until - now) / 1000) + 1;
}

/* 1: ready; 0: @until has passed. */
static int wait_for(const PGconn *conn, short events, usec_t until)
{
    for (;;) {
        struct pollfd f = {.fd = PQsocket(conn), .events = events};
        int ms = milliseconds(until);
        int n = poll(&f, 1, ms);
        if (n > 0)
            return 1;
        if (n == 0 && milliseconds(until) == 0)
            return 0;
    }
}

int pg_finish_connect(PGconn *conn, usec_t deadline, struct err *err)
{
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (state != PGRES_POLLING_OK) {
        if (state == PGRES_POLLING_FAILED)
            return err_set(err, ERR_UNAVAILABLE, "the database cannot be reached: " STR_FMT, STR_ARG(first_line(PQerrorMessage(conn))));
        if (!wait_for(conn, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
            return err_set(err, ERR_UNAVAILABLE, "the database cannot be reached: no answer in time");
        state = PQconnectPoll(conn);
    }
    return 0;
}

/* One result, NULL at the end of a statement. 0, or negative: lost. */
static int next_result(struct pg_db *p, PGresult **ret, struct err *err)
{
    usec_t until = p->db.deadline == USEC_INFINITY ? USEC_INFINITY : p->db.deadline + GRACE;
    for (;;) {
        int unsent = PQflush(p->conn);
        if (unsent < 0 || !PQconsumeInput(p->conn))
            return pg_lost(p, "the connection to the database broke", err);
        if (unsent == 0 && !PQisBusy(p->conn))
            break;
        if (!wait_for(p->conn, unsent ? POLLIN | POLLOUT : POLLIN, until))
            return pg_lost(p, "the database does not answer", err);
    }
    *ret = PQgetResult(p->conn);
    return 0;
}

PGresult *pg_result(struct pg_db *p, bool stream, struct err *err)
{
    PGresult *result = NULL, *next = NULL;
    if (p->conn == NULL) {
        (void)err_set(err, ERR_UNAVAILABLE, "there is no connection to the database");
        return NULL;
    }
    for (;;) {
        if (next_result(p, &next, err) < 0) {
            PQclear(result);
            return NULL;
        }
        if (stream && next)
            return next;
        if (next == NULL)
            break;
        /* Of several statements the first failure is what counts, else the last. */
        if (result && PQresultStatus(result) == PGRES_FATAL_ERROR) {
            PQclear(next);
            continue;
        }
        PQclear(result);
        result = next;
    }
    if (result == NULL)
        (void)pg_lost(p, "the connection to the database broke", err);
    return result;
}

/* --- Errors ----------------------------------------------------------------------------------------------------------------------- */

/* SQLSTATE or the beginning of one, longest first where both stand here (PostgreSQL 15, appendix A). */
static const struct {
    const char *state;
    enum err_code code;
} codes[] = {
    {"23505", ERR_EXISTS},       {"23", ERR_PRECONDITION},   {"22021", ERR_INVALID},     {"22", ERR_PRECONDITION},
    {"25006", ERR_DENIED},       {"28", ERR_UNAUTHENTICATED}, {"3D", ERR_NOT_FOUND},     {"40001", ERR_ABORTED},
    {"40P01", ERR_ABORTED},      {"42501", ERR_DENIED},      {"53", ERR_EXHAUSTED},      {"54", ERR_RANGE},
    {"55P03", ERR_UNAVAILABLE},  {"57014", ERR_DEADLINE},    {"57P", ERR_UNAVAILABLE},   {"08P01", ERR_INTERNAL},     {"08", ERR_UNAVAILABLE},
    {"XX001", ERR_DATA_LOSS},    {"XX002", ERR_DATA_LOSS},
};

static enum err_code code_of(const char *state)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (str_starts(str_from(state), str_from(codes[i].state)))
            return codes[i].code;
    return ERR_INTERNAL;
}

int pg_fail(struct pg_db *p, const PGresult *result, struct err *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    enum err_code code = code_of(state ? state : "");
    p->db.failed = true;
    p->collided = code == ERR_ABORTED;
    /* Without a state it is libpq that says so: the connection is gone. */
    if (!state || PQstatus(p->conn) == CONNECTION_BAD)
        return pg_lost(p, "the connection to the database broke", err);
    if (code == ERR_DEADLINE)
        return err_set(err, code, "the database did not finish in time");
    int rc = err_set(err, code, "database: " STR_FMT, STR_ARG(first_line(text ? text : "no reason given")));
    if (code == ERR_EXHAUSTED)
        err_hint(err, "Free space on the file system of the database, or raise the limit that it names.");
    else if (code == ERR_DATA_LOSS)
        err_hint(err, "Restore it from the last backup.");
    else if (code == ERR_ABORTED && err)
        err->retryable = true;
    return rc;
}
