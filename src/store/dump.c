/* SPDX-License-Identifier: Apache-2.0 */
/* dump — see copy.h: all rows of all tables out of one snapshot. */
#include "store/tables.h"

#include <string.h>

#include "base/mem.h"
#include "store/copy.h"

static char letter_of(struct str type)
{
    static const struct {
        const char *type;
        char letter;
    } types[] = {{"INTEGER", 'i'}, {"BIGINT", 'i'}, {"TEXT", 't'}, {"BLOB", 'b'}, {"BYTEA", 'b'}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (str_eq_ci(type, str_from(types[i].type)))
            return types[i].letter;
    return 0;
}

static int read_columns(struct db *db, struct table *t, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, engine_columns_sql, "t", t->name);
    if (rc < 0)
        return rc;
    for (t->n = 0; (rc = rows_next(rows, err)) == 1; t->n++) {
        char letter = letter_of(row_text(rows, 1));
        if (t->n == VALUES_MAX || letter == 0 || row_text(rows, 0).n > ARCHIVE_NAME_MAX)
            return err_set(err, ERR_INTERNAL, "table %s cannot be copied", t->name);
        (void)str_copy(t->columns[t->n].name, sizeof(t->columns[0].name), row_text(rows, 0));
        t->columns[t->n].letter = letter;
    }
    return rc;
}

int tables_read(struct db *db, struct tables *ret, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, engine_tables_sql, "");
    if (rc < 0)
        return rc;
    for (ret->n = 0; (rc = rows_next(rows, err)) == 1; ret->n++) {
        if (ret->n == TABLES_MAX || row_text(rows, 0).n > ARCHIVE_NAME_MAX)
            return err_set(err, ERR_INTERNAL, "the database has too many tables to be copied");
        ret->v[ret->n] = NEW(struct table);
        (void)str_copy(ret->v[ret->n]->name, sizeof(ret->v[0]->name), row_text(rows, 0));
    }
    for (size_t i = 0; rc == 0 && i < ret->n; i++)
        rc = read_columns(db, ret->v[i], err);
    return rc;
}

void tables_release(struct tables *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->v[i]);
    t->n = 0;
}

/* --- Out -------------------------------------------------------------------------------------------------------------------------- */

static int put_table(struct archive_writer *w, const struct table *t, struct err *err)
{
    AUTO_BUF head = BUF_INIT(VALUES_MAX * (ARCHIVE_NAME_MAX + 2) + 2 * ARCHIVE_NAME_MAX);
    int rc = buf_append_byte(&head, (uint8_t)t->n);
    if (rc == 0)
        rc = buf_append_byte(&head, (uint8_t)strlen(t->name));
    if (rc == 0)
        rc = buf_append_cstr(&head, t->name);
    for (size_t i = 0; rc == 0 && i < t->n; i++) {
        const char *name = t->columns[i].name;
        if (buf_append_byte(&head, (uint8_t)t->columns[i].letter) < 0 || buf_append_byte(&head, (uint8_t)strlen(name)) < 0)
            rc = -(int)ERR_EXHAUSTED;
        if (rc == 0)
            rc = buf_append_cstr(&head, name);
    }
    const struct str payload = buf_str(&head);
    return rc < 0 ? err_set(err, ERR_INTERNAL, "table %s cannot be copied", t->name) : archive_put(w, 'T', &payload, 1, err);
}

static int put_row(struct archive_writer *w, const struct table *t, const struct rows *rows, struct err *err)
{
    struct value values[VALUES_MAX];
    for (size_t i = 0; i < t->n; i++) {
        struct value *v = &values[i];
        *v = (struct value){.letter = t->columns[i].letter, .null = row_is_null(rows, (int)i)};
        if (v->null)
            continue;
        if (v->letter == 'i')
            v->i = row_i64(rows, (int)i);
        else
            v->s = v->letter == 't' ? row_text(rows, (int)i) : row_blob(rows, (int)i);
    }
    return archive_put_row(w, values, t->n, err);
}

static int put_rows(struct db *db, struct archive_writer *w, const struct table *t, struct err *err)
{
    AUTO_BUF sql = BUF_INIT(STORE_SQL_MAX);
    AUTO_ROWS rows = NULL;
    int rc = buf_append_cstr(&sql, "SELECT");
    for (size_t i = 0; rc == 0 && i < t->n; i++)
        rc = buf_printf(&sql, "%s \"%s\"", i ? "," : "", t->columns[i].name);
    if (rc == 0)
        rc = buf_printf(&sql, " FROM \"%s\"", t->name);
    if (rc < 0)
        return err_set(err, ERR_INTERNAL, "table %s cannot be copied", t->name);
    rc = db_stream(db, &rows, buf_cstr(&sql), err);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1)
        rc = put_row(w, t, rows, err);
    return rc;
}

/* Unit of work on a reader. */
static int dump_fn(struct db *db, void *arg, struct err *err)
{
    struct archive_writer *w = arg;
    CLEANUP(tables_release) struct tables tables = {0};
    int rc = tables_read(db, &tables, err);
    for (size_t i = 0; rc == 0 && i < tables.n; i++) {
        rc = put_table(w, tables.v[i], err);
        if (rc == 0)
            rc = put_rows(db, w, tables.v[i], err);
    }
    return rc;
}

int store_dump(struct store *store, struct archive_writer *w, usec_t deadline, struct err *err)
{
    return store_read(store, dump_fn, w, deadline, err);
}

int store_dump_sync(struct store *store, struct archive_writer *w, struct err *err)
{
    return store_read_sync(store, dump_fn, w, err);
}
