/* SPDX-License-Identifier: Apache-2.0 */
/* items — see items.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "store/items.h"

const struct store_migration items_migrations[ITEMS_STEPS] = {
    {"first", "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, data BLOB, size INTEGER CHECK (size >= 0)) STRICT;"
              "CREATE TABLE part (item INTEGER NOT NULL REFERENCES item (id)) STRICT"},
    {"second", "CREATE TABLE token (id TEXT PRIMARY KEY, used_at INTEGER) STRICT"},
};

int items_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    place_make(&f->place);
    assert_int_equal(store_open(NULL, f->place.target, items_migrations, ITEMS_STEPS, &f->store, NULL), 0);
    *state = f;
    return 0;
}

int items_teardown(void **state)
{
    struct fixture *f = *state;
    (void)store_close(f->store);
    place_remove(&f->place);
    free(f);
    return 0;
}

static int count_fn(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT count(*) FROM item", "");
}

int64_t items_count(struct store *store)
{
    int64_t n = -1;
    assert_int_equal(store_read_sync(store, count_fn, &n, NULL), 0);
    return n;
}

int items_insert(struct db *db, void *arg, struct err *err)
{
    return db_exec(db, err, "INSERT INTO item (name) VALUES (?)", "t", (const char *)arg);
}
