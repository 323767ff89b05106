/* SPDX-License-Identifier: Apache-2.0 */
/* query — the calls of a unit of work: from variable arguments to an array of values, which is all that an engine sees. */
#include <string.h>

#include "store/engine.h"

/* 0; -ERR_RANGE: larger than any engine is asked to take. */
static int collect(const char *fmt, va_list *ap, struct value values[VALUES_MAX], struct err *err)
{
    BUG_ON(strlen(fmt) > VALUES_MAX);
    for (size_t i = 0; fmt[i]; i++) {
        struct value *v = &values[i];
        const char *t;
        *v = (struct value){.letter = fmt[i]};
        switch (fmt[i]) {
        case 't':
            t = va_arg(*ap, const char *);
            v->null = t == NULL;
            v->s = str_from(t);
            break;
        case 's':
        case 'b': v->s = va_arg(*ap, struct str); break;
        case 'i': v->i = va_arg(*ap, int64_t); break;
        case 'n': v->null = true; break;
        default: err_bug(__FILE__, __LINE__, "letter of a statement's format");
        }
        if (v->s.n > STORE_VALUE_MAX)
            return err_set(err, ERR_RANGE, "a value of %zu bytes is larger than the database takes", v->s.n);
        if (v->s.p == NULL) /* an empty text is not NULL, whatever its pointer */
            v->s.p = "";
    }
    return 0;
}

static int query_values(struct db *db, struct rows **ret, struct err *err, const char *sql, const struct value *values, size_t n, bool stream)
{
    int rc;
    if (db->failed)
        return err_set(err, ERR_ABORTED, "an earlier statement of this unit of work failed");
    if (strlen(sql) >= STORE_SQL_MAX)
        rc = err_set(err, ERR_INTERNAL, "SQL text of %zu bytes", strlen(sql));
    else
        rc = engine_query(db, sql, values, n, stream, ret, err);
    db->failed = rc < 0;
    return rc;
}

static int query_va(struct db *db, struct rows **ret, struct err *err, const char *sql, const char *fmt, va_list *ap)
{
    struct value values[VALUES_MAX];
    int rc = collect(fmt, ap, values, err);
    if (rc < 0) {
        db->failed = true;
        return rc;
    }
    return query_values(db, ret, err, sql, values, strlen(fmt), false);
}

static int to_the_end(struct rows *rows, struct err *err)
{
    int rc;
    while ((rc = rows_next(rows, err)) == 1)
        ;
    return rc;
}

int db_exec(struct db *db, struct err *err, const char *sql, const char *fmt, ...)
{
    AUTO_ROWS rows = NULL;
    va_list ap;
    va_start(ap, fmt);
    int rc = query_va(db, &rows, err, sql, fmt, &ap);
    va_end(ap);
    return rc < 0 ? rc : to_the_end(rows, err);
}

int db_exec_values(struct db *db, const char *sql, const struct value *values, size_t n, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = query_values(db, &rows, err, sql, values, n, false);
    return rc < 0 ? rc : to_the_end(rows, err);
}

int db_query(struct db *db, struct rows **ret, struct err *err, const char *sql, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = query_va(db, ret, err, sql, fmt, &ap);
    va_end(ap);
    return rc;
}

int db_stream(struct db *db, struct rows **ret, const char *sql, struct err *err)
{
    return query_values(db, ret, err, sql, NULL, 0, true);
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

void db_init(struct db *db)
{
    list_init(&db->open_rows);
    db->deadline = USEC_INFINITY;
    db->stmts = hmap_new(STMT_CACHE_MAX);
}

int db_unit_end(struct db *db, int rc, struct err *err)
{
    while (!list_empty(&db->open_rows))
        (void)rows_done(list_first(&db->open_rows, struct rows, node));
    if (rc < 0)
        return err_ensure(err, rc);
    if (rc == 0 && db->failed)
        return err_set(err, ERR_ABORTED, "a unit of work went on after one of its statements had failed");
    return rc;
}
