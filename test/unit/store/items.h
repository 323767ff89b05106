/* SPDX-License-Identifier: Apache-2.0 */
/* items — the store that most tests here work on: two steps of a schema with items, in an empty place. */
#ifndef DAVIT_TEST_STORE_ITEMS_H
#define DAVIT_TEST_STORE_ITEMS_H

#include "store/place.h"

enum { ITEMS_STEPS = 2 };

/* "first" makes item and part, "second" token. */
extern const struct store_migration items_migrations[ITEMS_STEPS];

struct fixture {
    struct place place;
    struct store *store; /* open; a test may close it and open another in its place */
};

/* cmocka's set-up and tear-down of one test: *state is a struct fixture. */
int items_setup(void **state);
int items_teardown(void **state);
/* How many items there are. */
int64_t items_count(struct store *store);
/* A unit of work: one item of the name @arg. */
int items_insert(struct db *db, void *arg, struct err *err);

#endif
