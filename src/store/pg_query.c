/* SPDX-License-Identifier: Apache-2.0 */
/* pg_query — statements of PostgreSQL, prepared once per connection, and their rows, both in the binary format. */
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "store/pg.h"
#include "store/pg_sql.h"

/* Numbers of the types in pg_type, which never change. */
enum { T_BOOL = 16, T_BYTEA = 17, T_NAME = 19, T_INT8 = 20, T_INT2 = 21, T_INT4 = 23, T_TEXT = 25, T_UNKNOWN = 705, T_VARCHAR = 1043,
       T_NUMERIC = 1700 };

struct prepared {
    char name[16];
};

struct pg_rows {
    struct rows rows;
    PGresult *result; /* all rows, or with @stream the present one */
    int at, n;
    bool stream;
    bool ended;
};

static struct pg_rows *rows_of(const struct rows *rows)
{
    return CONTAINER_OF(rows, struct pg_rows, rows);
}

/* --- Statements ------------------------------------------------------------------------------------------------------------------- */

void pg_forget_statements(struct pg_db *p)
{
    for (struct hmap_entry *e = hmap_first(p->db.stmts); e;) {
        struct hmap_entry *next = hmap_next(e);
        struct prepared *s = hmap_value(e);
        (void)hmap_remove(p->db.stmts, hmap_key(e));
        free(s);
        e = next;
    }
}

static Oid type_of(const struct value *v)
{
    switch (v->letter) {
    case 'i': return T_INT8;
    case 'b': return T_BYTEA;
    case 'n': return 0;
    default: return T_TEXT;
    }
}

static int prepare(struct pg_db *p, const char *name, const char *sql, const struct value *values, size_t n, struct err *err)
{
    AUTO_BUF text = BUF_INIT(2 * STORE_SQL_MAX);
    Oid types[VALUES_MAX];
    int rc = pg_sql_translate(sql, &text, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        types[i] = type_of(&values[i]);
    if (!PQsendPrepare(p->conn, name, buf_cstr(&text), (int)n, types))
        return pg_lost(p, "the database cannot be asked", err);
    PGresult *result = pg_result(p, false, err);
    if (result == NULL)
        return -ERR_UNAVAILABLE;
    rc = PQresultStatus(result) == PGRES_COMMAND_OK ? 0 : pg_fail(p, result, err);
    PQclear(result);
    return rc;
}

/* Name of the statement on the server; what finds no place in the cache is prepared anew under the empty name each time. */
static int statement(struct pg_db *p, const char *sql, const struct value *values, size_t n, char name[16], struct err *err)
{
    AUTO_BUF key = BUF_INIT(STORE_SQL_MAX + VALUES_MAX);
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = buf_append_byte(&key, (uint8_t)values[i].letter);
    if (rc < 0 || buf_append_byte(&key, ' ') < 0 || buf_append_cstr(&key, sql) < 0)
        return err_set(err, ERR_INTERNAL, "SQL text is too long");
    const struct prepared *known = hmap_get(p->db.stmts, buf_str(&key));
    name[0] = '\0';
    if (known) {
        (void)str_copy(name, 16, str_from(known->name));
        return 0;
    }
    if (hmap_count(p->db.stmts) < STMT_CACHE_MAX)
        (void)snprintf(name, 16, "s%u", ++p->n_prepared);
    rc = prepare(p, name, sql, values, n, err);
    if (rc < 0 || !name[0])
        return rc;
    struct prepared *s = NEW(struct prepared);
    (void)str_copy(s->name, sizeof(s->name), str_from(name));
    BUG_ON(hmap_put(p->db.stmts, buf_str(&key), s, NULL) != 0);
    return 0;
}

static int send_it(struct pg_db *p, const char *name, const struct value *values, size_t n, struct err *err)
{
    const char *bytes[VALUES_MAX];
    int lengths[VALUES_MAX], formats[VALUES_MAX];
    uint64_t numbers[VALUES_MAX];
    for (size_t i = 0; i < n; i++) {
        const struct value *v = &values[i];
        numbers[i] = htobe64((uint64_t)v->i);
        bytes[i] = v->null ? NULL : v->letter == 'i' ? (const char *)&numbers[i] : v->s.p;
        lengths[i] = v->letter == 'i' ? (int)sizeof(numbers[i]) : (int)v->s.n;
        formats[i] = 1;
    }
    if (!PQsendQueryPrepared(p->conn, name, (int)n, bytes, lengths, formats, 1))
        return pg_lost(p, "the database cannot be asked", err);
    return 0;
}

static int check(struct pg_db *p, const PGresult *result, const char *sql, struct err *err)
{
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
    case PGRES_COMMAND_OK: return 0;
    case PGRES_EMPTY_QUERY: return err_set(err, ERR_INTERNAL, "not exactly one SQL statement: %.80s", sql);
    default: return pg_fail(p, result, err);
    }
}

int engine_query(struct db *db, const char *sql, const struct value *values, size_t n, bool stream, struct rows **ret, struct err *err)
{
    struct pg_db *p = pg_of(db);
    char name[16];
    BUG_ON(p->streaming);
    if (p->conn == NULL)
        return err_set(err, ERR_UNAVAILABLE, "the connection to the database broke");
    int rc = pg_keep_deadline(p, err);
    if (rc == 0)
        rc = statement(p, sql, values, n, name, err);
    if (rc == 0)
        rc = send_it(p, name, values, n, err);
    if (rc < 0)
        return rc;
    struct pg_rows r = {.rows.db = db, .at = -1, .stream = stream};
    p->streaming = stream;
    if (stream && !PQsetSingleRowMode(p->conn))
        return pg_lost(p, "the database cannot be asked", err);
    if (!stream) {
        r.result = pg_result(p, false, err);
        if (r.result == NULL)
            return -ERR_UNAVAILABLE;
        rc = check(p, r.result, sql, err);
        if (rc < 0) {
            PQclear(r.result);
            return rc;
        }
        r.n = PQntuples(r.result);
        uint64_t changed = 0;
        (void)!str_to_u64(str_from(PQcmdTuples(r.result)), INT64_MAX, &changed);
        p->changes = (int64_t)changed;
    }
    struct pg_rows *kept = NEW(struct pg_rows);
    *kept = r;
    list_init(&kept->rows.node);
    list_push(&db->open_rows, &kept->rows.node);
    *ret = &kept->rows;
    return 0;
}

int64_t db_changes(const struct db *db)
{
    return pg_of(db)->changes;
}

/* --- Rows ------------------------------------------------------------------------------------------------------------------------- */

static int next_streamed(struct pg_rows *r, struct err *err)
{
    struct pg_db *p = pg_of(r->rows.db);
    PQclear(r->result);
    r->result = pg_result(p, true, err);
    if (r->result == NULL) {
        r->ended = true;
        r->rows.db->failed = true;
        return -ERR_UNAVAILABLE;
    }
    r->at = r->n = 0;
    int rc = check(p, r->result, "", err);
    if (rc == 0 && PQresultStatus(r->result) == PGRES_SINGLE_TUPLE) {
        r->n = 1;
        return 1;
    }
    r->ended = true;
    r->rows.db->failed = rc < 0;
    p->streaming = false;
    /* What follows is the end of the statement. */
    while (p->conn) {
        PGresult *rest = PQgetResult(p->conn);
        if (rest == NULL)
            break;
        PQclear(rest);
    }
    return rc;
}

int rows_next(struct rows *rows, struct err *err)
{
    struct pg_rows *r = rows_of(rows);
    if (r->ended)
        return 0;
    if (r->stream)
        return next_streamed(r, err);
    r->ended = ++r->at >= r->n;
    return !r->ended;
}

struct rows *rows_done(struct rows *rows)
{
    if (rows == NULL)
        return NULL;
    struct pg_rows *r = rows_of(rows);
    struct pg_db *p = pg_of(rows->db);
    list_remove(&rows->node);
    /* Rows that nobody wants are still on their way: cheaper to hang up than to listen to the end. */
    if (r->stream && p->streaming)
        (void)pg_lost(p, "", NULL);
    PQclear(r->result);
    free(r);
    return NULL;
}

static const struct pg_rows *row_of(const struct rows *rows, int column)
{
    const struct pg_rows *r = rows_of(rows);
    BUG_ON(r->ended || r->at < 0 || r->at >= r->n || column < 0 || column >= PQnfields(r->result));
    return r;
}

bool row_is_null(const struct rows *rows, int column)
{
    const struct pg_rows *r = row_of(rows, column);
    return PQgetisnull(r->result, r->at, column);
}

static uint64_t big_endian(const char *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | (unsigned char)p[i];
    return v;
}

/* The whole part: digits to base 10000, the first of weight 10000^weight (src/backend/utils/adt/numeric.c, numeric_send). */
static int64_t numeric(const char *p, int n)
{
    int digits = n >= 8 ? (int)big_endian(p, 2) : 0;
    int weight = (int16_t)big_endian(p + 2, n >= 8 ? 2 : 0);
    uint64_t v = 0;
    for (int i = 0; i <= weight; i++)
        v = v * 10000 + (i < digits && 8 + 2 * i + 2 <= n ? big_endian(p + 8 + 2 * i, 2) : 0);
    return n >= 8 && big_endian(p + 4, 2) == 0x4000 ? -(int64_t)v : (int64_t)v;
}

int64_t row_i64(const struct rows *rows, int column)
{
    const struct pg_rows *r = row_of(rows, column);
    const char *p = PQgetvalue(r->result, r->at, column);
    int n = PQgetlength(r->result, r->at, column);
    if (PQgetisnull(r->result, r->at, column))
        return 0;
    switch (PQftype(r->result, column)) {
    case T_INT8: return (int64_t)big_endian(p, 8);
    case T_INT4: return (int32_t)big_endian(p, 4);
    case T_INT2: return (int16_t)big_endian(p, 2);
    case T_BOOL: return *p != 0;
    case T_NUMERIC: return numeric(p, n);
    default: err_bug(__FILE__, __LINE__, "a column that is no number");
    }
}

/* Text, bytes and names come as they are. */
struct str row_text(const struct rows *rows, int column)
{
    const struct pg_rows *r = row_of(rows, column);
    Oid type = PQftype(r->result, column);
    if (PQgetisnull(r->result, r->at, column))
        return STR("");
    BUG_ON(type != T_TEXT && type != T_VARCHAR && type != T_NAME && type != T_BYTEA && type != T_UNKNOWN);
    return (struct str){PQgetvalue(r->result, r->at, column), (size_t)PQgetlength(r->result, r->at, column)};
}

struct str row_blob(const struct rows *rows, int column)
{
    return row_text(rows, column);
}
