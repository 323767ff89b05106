/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_query — statements of SQLite, compiled once per connection, and their rows. */
#include <string.h>

#include "base/mem.h"
#include "store/sqlite.h"

/* In the cache of its connection, or finalized with its rows when it is a second use of the same text. */
struct stmt {
    sqlite3_stmt *handle;
    bool cached;
    bool busy;
};

struct sqlite_rows {
    struct rows rows;
    struct stmt *stmt;
    bool on_row;
    bool ended;
};

static struct sqlite_rows *rows_of(const struct rows *rows)
{
    return CONTAINER_OF(rows, struct sqlite_rows, rows);
}

static int compile(struct sqlite_db *s, const char *sql, bool keep, struct stmt **ret, struct err *err)
{
    sqlite3_stmt *handle = NULL;
    const char *rest = NULL;
    size_t n = strlen(sql);
    int rc = sqlite3_prepare_v3(s->handle, sql, (int)n + 1, keep ? SQLITE_PREPARE_PERSISTENT : 0, &handle, &rest);
    if (rc != SQLITE_OK)
        return ERR_NEGATIVE(sqlite_fail(s->handle, rc, err));
    if (handle == NULL || rest[strspn(rest, " \n\t;")] != '\0') {
        (void)sqlite3_finalize(handle);
        return err_set(err, ERR_INTERNAL, "not exactly one SQL statement: %.80s", sql);
    }
    struct stmt *stmt = NEW(struct stmt);
    stmt->handle = handle;
    stmt->cached = keep && hmap_put(s->db.stmts, (struct str){sql, n}, stmt, NULL) == 0;
    *ret = stmt;
    return 0;
}

static int stmt_get(struct sqlite_db *s, const char *sql, struct stmt **ret, struct err *err)
{
    struct stmt *stmt = hmap_get(s->db.stmts, str_from(sql));
    if (stmt == NULL || stmt->busy) {
        int rc = compile(s, sql, stmt == NULL, &stmt, err);
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

void sqlite_forget_statements(struct sqlite_db *s)
{
    for (struct hmap_entry *e = hmap_first(s->db.stmts); e; e = hmap_next(e)) {
        struct stmt *stmt = hmap_value(e);
        (void)sqlite3_finalize(stmt->handle);
        free(stmt);
    }
}

static int bind_one(sqlite3_stmt *h, int at, const struct value *v)
{
    if (v->null)
        return sqlite3_bind_null(h, at);
    switch (v->letter) {
    case 'i': return sqlite3_bind_int64(h, at, v->i);
    case 'b': return sqlite3_bind_blob64(h, at, v->s.p, v->s.n, SQLITE_STATIC);
    default: return sqlite3_bind_text64(h, at, v->s.p, v->s.n, SQLITE_STATIC, SQLITE_UTF8);
    }
}

static int bind_all(struct sqlite_db *s, struct stmt *stmt, const struct value *values, size_t n, struct err *err)
{
    if (sqlite3_bind_parameter_count(stmt->handle) != (int)n)
        return err_set(err, ERR_INTERNAL, "%d placeholders for %zu values: %.80s", sqlite3_bind_parameter_count(stmt->handle), n,
                       sqlite3_sql(stmt->handle));
    for (size_t i = 0; i < n; i++) {
        int rc = bind_one(stmt->handle, (int)i + 1, &values[i]);
        if (rc != SQLITE_OK)
            return sqlite_fail(s->handle, rc, err);
    }
    return 0;
}

/* Rows always come one by one here. */
int engine_query(struct db *db, const char *sql, const struct value *values, size_t n, bool stream, struct rows **ret, struct err *err)
{
    struct sqlite_db *s = sqlite_of(db);
    struct stmt *stmt = NULL;
    (void)stream;
    int rc = stmt_get(s, sql, &stmt, err);
    if (rc < 0)
        return rc;
    rc = bind_all(s, stmt, values, n, err);
    if (rc < 0) {
        stmt_put(stmt);
        return rc;
    }
    struct sqlite_rows *r = NEW(struct sqlite_rows);
    r->rows.db = db;
    r->stmt = stmt;
    list_init(&r->rows.node);
    list_push(&db->open_rows, &r->rows.node);
    *ret = &r->rows;
    return 0;
}

int64_t db_changes(const struct db *db)
{
    return sqlite3_changes64(sqlite_of(db)->handle);
}

int rows_next(struct rows *rows, struct err *err)
{
    struct sqlite_rows *r = rows_of(rows);
    r->on_row = false;
    if (r->ended)
        return 0;
    int rc = sqlite3_step(r->stmt->handle);
    r->on_row = rc == SQLITE_ROW;
    r->ended = !r->on_row;
    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    rows->db->failed = true;
    return sqlite_fail(sqlite_of(rows->db)->handle, rc, err);
}

struct rows *rows_done(struct rows *rows)
{
    if (rows == NULL)
        return NULL;
    list_remove(&rows->node);
    stmt_put(rows_of(rows)->stmt);
    free(rows_of(rows));
    return NULL;
}

static sqlite3_stmt *column_of(const struct rows *rows, int column)
{
    const struct sqlite_rows *r = rows_of(rows);
    BUG_ON(!r->on_row || column < 0 || column >= sqlite3_column_count(r->stmt->handle));
    return r->stmt->handle;
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
