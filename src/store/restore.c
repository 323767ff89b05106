/* SPDX-License-Identifier: Apache-2.0 */
/* restore — see copy.h: an archive into a new database. Names of tables and columns in SQL are always our own: what the archive says is only
 * compared with them. */
#include <string.h>

#include "base/mem.h"
#include "store/copy.h"
#include "store/tables.h"

struct load {
    struct archive_reader *r;
    struct tables tables;
    struct table *table; /* whose rows come */
    struct buf sql;      /* that inserts one */
};

static int does_not_fit(struct err *err)
{
    return err_set(err, ERR_DATA_LOSS, "the backup does not fit the schema that it names");
}

static struct table *find(struct load *l, struct str name)
{
    for (size_t i = 0; i < l->tables.n; i++)
        if (str_eq(name, str_from(l->tables.v[i]->name)))
            return l->tables.v[i];
    return NULL;
}

static int begin_table(struct load *l, struct str payload, struct err *err)
{
    struct str name;
    size_t n;
    char letter;
    int rc = archive_table(&payload, &n, &name, err);
    if (rc < 0)
        return rc;
    struct table *t = l->table = find(l, name);
    if (!t || t->seen || t->n != n)
        return does_not_fit(err);
    t->seen = true;
    for (size_t i = 0; i < n; i++)
        if (archive_column(&payload, &letter, &name, err) < 0 || letter != t->columns[i].letter || !str_eq(name, str_from(t->columns[i].name)))
            return does_not_fit(err);
    buf_clear(&l->sql);
    rc = buf_printf(&l->sql, "INSERT INTO \"%s\" (", t->name);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = buf_printf(&l->sql, "%s\"%s\"", i ? ", " : "", t->columns[i].name);
    if (rc == 0)
        rc = buf_append_cstr(&l->sql, ") VALUES (");
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = buf_append_cstr(&l->sql, i ? ", ?" : "?");
    return rc < 0 || buf_append_byte(&l->sql, ')') < 0 ? does_not_fit(err) : 0;
}

static int load_row(struct db *db, struct load *l, struct str payload, struct err *err)
{
    struct value values[VALUES_MAX];
    const struct table *t = l->table;
    if (!t)
        return does_not_fit(err);
    for (size_t i = 0; i < t->n; i++)
        values[i] = (struct value){.letter = t->columns[i].letter};
    int rc = archive_row(payload, values, t->n, err);
    if (rc == 0)
        rc = db_exec_values(db, buf_cstr(&l->sql), values, t->n, err);
    /* What the database refuses was never in one. */
    return rc == -ERR_EXISTS || rc == -ERR_PRECONDITION || rc == -ERR_INVALID ? does_not_fit(err) : rc;
}

/* A migration may have put rows there that the backup has too. */
static int make_empty(struct db *db, const struct tables *t, struct err *err)
{
    int rc = 0;
    for (size_t i = t->n; rc == 0 && i-- > 0;) {
        AUTO_FREE char *sql = str_printf("DELETE FROM \"%s\"", t->v[i]->name);
        rc = db_exec(db, err, sql, "");
    }
    return rc;
}

static int one_record(struct db *db, struct load *l, char kind, struct str payload, unsigned *files, struct err *err)
{
    struct str name, content;
    if (kind == 'T')
        return begin_table(l, payload, err);
    if (kind == 'R')
        return load_row(db, l, payload, err);
    if (kind != 'F' || ++*files > ARCHIVE_FILES_MAX)
        return does_not_fit(err);
    return archive_file(payload, &name, &content, err);
}

/* Unit of work: the whole part in one transaction. */
static int load_fn(struct db *db, void *arg, struct err *err)
{
    struct load *l = arg;
    struct str payload;
    unsigned files = 0;
    char kind = 0;
    int rc = tables_read(db, &l->tables, err);
    if (rc == 0)
        rc = make_empty(db, &l->tables, err);
    while (rc == 0 && (rc = archive_next(l->r, &kind, &payload, err)) == 1)
        rc = one_record(db, l, kind, payload, &files, err);
    for (size_t i = 0; rc == 0 && i < l->tables.n; i++)
        rc = l->tables.v[i]->seen ? engine_loaded(db, l->tables.v[i]->name, err) : does_not_fit(err);
    return rc;
}

/* The steps of the backup must be the first of ours. */
static int check_schema(const struct archive_manifest *m, const struct store_migration *migrations, size_t n, struct err *err)
{
    struct str names = str_from(m->schema);
    if (m->n_schema > n) {
        (void)err_set(err, ERR_PRECONDITION, "the backup was written by a newer version of this program (schema %zu, this one knows %zu)",
                      m->n_schema, n);
        err_hint(err, "install that version or a newer one, then restore");
        return -ERR_PRECONDITION;
    }
    for (size_t i = 0; i < m->n_schema; i++)
        if (!str_eq(str_cut(&names, '\n'), str_from(migrations[i].name)))
            return err_set(err, ERR_PRECONDITION, "the backup has another schema than this program (step %zu is not \"%s\")", i + 1,
                           migrations[i].name);
    return 0;
}

static int fill(const char *beside, const struct store_migration *migrations, size_t n, const struct archive_manifest *m, struct load *l,
                struct err *err)
{
    struct store *store = NULL;
    int rc = store_open(NULL, beside, migrations, m->n_schema, &store, err);
    if (rc == 0)
        rc = store_write_sync(store, load_fn, l, err);
    store = store_close(store);
    if (rc == 0)
        rc = store_open(NULL, beside, migrations, n, &store, err);
    (void)store_close(store);
    return rc;
}

int store_restore(const char *target, const struct store_migration *migrations, size_t n, struct archive_reader *r,
                  const struct archive_manifest *m, char **ret_kept, struct err *err)
{
    struct load l = {.r = r, .sql = BUF_INIT(STORE_SQL_MAX)};
    AUTO_FREE char *beside = NULL;
    usec_t now = clock_real();
    int rc = check_schema(m, migrations, n, err);
    if (rc == 0)
        rc = engine_restore_begin(target, now, &beside, err);
    if (rc == 0)
        rc = fill(beside, migrations, n, m, &l, err);
    if (rc == 0)
        rc = engine_restore_end(target, beside, now, ret_kept, err);
    if (rc < 0 && beside)
        engine_restore_undo(target, beside);
    tables_release(&l.tables);
    if (l.sql.data)
        buf_release(&l.sql);
    return rc < 0 ? rc : 0;
}
