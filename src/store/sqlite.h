/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite — what the two files of the SQLite engine share. */
#ifndef DAVIT_STORE_SQLITE_H
#define DAVIT_STORE_SQLITE_H

#include <sqlite3.h>

#include "store/engine.h"

struct sqlite_db {
    struct db db;
    sqlite3 *handle;
};

static inline struct sqlite_db *sqlite_of(const struct db *db)
{
    return CONTAINER_OF(db, struct sqlite_db, db);
}

/* Fills @err for the result code @rc of @handle, which may be NULL. */
int sqlite_fail(sqlite3 *handle, int rc, struct err *err) MUST_USE;
/* Ends what engine_query kept of every statement. */
void sqlite_forget_statements(struct sqlite_db *s);

#endif
