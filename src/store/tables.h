/* SPDX-License-Identifier: Apache-2.0 */
/* tables — which tables and columns a database has, for what copies all of it. */
#ifndef DAVIT_STORE_TABLES_H
#define DAVIT_STORE_TABLES_H

#include "store/archive.h"
#include "store/engine.h"

enum { TABLES_MAX = 200 };

struct table {
    char name[ARCHIVE_NAME_MAX + 1];
    size_t n;
    bool seen; /* by who reads an archive */
    struct {
        char name[ARCHIVE_NAME_MAX + 1];
        char letter; /* as in archive.h */
    } columns[VALUES_MAX];
};

struct tables {
    struct table *v[TABLES_MAX];
    size_t n;
};

/* Fills @ret, which is zeroed, in the order in which the tables were made. End with tables_release, also after a failure. */
int tables_read(struct db *db, struct tables *ret, struct err *err) MUST_USE;
void tables_release(struct tables *t);

#endif
