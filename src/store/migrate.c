/* SPDX-License-Identifier: Apache-2.0 */
/* migrate — numbered schema steps, each in a transaction of its own, recorded in the table schema_migrations.
 * A file that a newer program has touched is refused before anything is read from it: going back is by backup, not by luck. */
#include "store/engine.h"

#include <inttypes.h>

struct step {
    const struct store_migration *migrations;
    size_t n;
    int64_t version;
};

static int make_table(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    return engine_script(db,
                         "CREATE TABLE IF NOT EXISTS schema_migrations"
                         " (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_us INTEGER NOT NULL) STRICT",
                         err);
}

/* The steps that are recorded must be the first of ours, by number and name. Leaves how many there are in version. */
static int read_version(struct db *db, void *arg, struct err *err)
{
    struct step *step = arg;
    AUTO_ROWS rows = NULL;
    int64_t newest = 0;
    int rc = db_get_i64(db, &newest, err, "SELECT coalesce(max(version), 0) FROM schema_migrations", "");
    if (rc < 0)
        return rc;
    if (newest > (int64_t)step->n) {
        rc = err_set(err, ERR_PRECONDITION, "the data was written by a newer version of this program (schema %" PRId64 ", this one knows %zu)",
                     newest, step->n);
        err_hint(err, "Install the newer version again, or restore the backup that was made before the update.");
        return rc;
    }
    rc = db_query(db, &rows, err, "SELECT version, name FROM schema_migrations ORDER BY version", "");
    if (rc < 0)
        return rc;
    step->version = 0;
    while ((rc = rows_next(rows, err)) == 1) {
        const char *expected = step->migrations[step->version].name;
        if (row_i64(rows, 0) != ++step->version || !str_eq(row_text(rows, 1), str_from(expected)))
            return err_set(err, ERR_PRECONDITION, "schema step %" PRId64 " of the data is \"" STR_FMT "\", this program has \"%s\" as %" PRId64,
                           row_i64(rows, 0), STR_ARG(row_text(rows, 1)), expected, step->version);
    }
    return rc;
}

static int apply(struct db *db, void *arg, struct err *err)
{
    const struct step *step = arg;
    const struct store_migration *m = &step->migrations[step->version];
    int rc = engine_script(db, m->sql, err);
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO schema_migrations (version, name, applied_us) VALUES (?, ?, ?)", "iti", step->version + 1, m->name,
                     (int64_t)clock_real());
    return rc < 0 && err ? err_wrap(err, "schema step %" PRId64 " (%s)", step->version + 1, m->name) : rc;
}

int store_migrate(struct db *db, const struct store_migration *migrations, size_t n, struct err *err)
{
    struct step step = {migrations, n, 0};
    int rc = engine_transaction(db, true, make_table, NULL, USEC_INFINITY, err);
    if (rc == 0)
        rc = engine_transaction(db, true, read_version, &step, USEC_INFINITY, err);
    for (; rc == 0 && step.version < (int64_t)n; step.version++)
        rc = engine_transaction(db, true, apply, &step, USEC_INFINITY, err);
    return rc;
}
