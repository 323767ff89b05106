/* SPDX-License-Identifier: Apache-2.0 */
/* The store on its lanes: fibers that write and read at once, tokens that are used once, deadlines, cancellation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <unistd.h>

#include "loop/fiber.h"
#include "store/place.h"

static const struct store_migration MIGRATIONS[] = {
    {"first", "CREATE TABLE item (id INTEGER PRIMARY KEY, pair INTEGER NOT NULL) STRICT;"
              "CREATE TABLE token (id TEXT PRIMARY KEY, used_by INTEGER, used_at INTEGER) STRICT"},
};

enum { WRITERS = 40, TOKENS = 25 };

struct fixture {
    struct place place;
    struct loop *loop;
    struct store *store;
    int won[TOKENS];
    int torn, reads, writes, left;
    int rc;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    place_make(&f->place);
    f->loop = loop_new();
    assert_int_equal(store_open(f->loop, f->place.target, MIGRATIONS, 1, &f->store, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)store_close(f->store);
    (void)loop_free(f->loop);
    place_remove(&f->place);
    free(f);
    return 0;
}

/* Runs @n fibers of @fn to their ends; the last one stops the loop. */
static void run_fibers(struct fixture *f, void (*fn)(void *arg), int n)
{
    f->left = n;
    for (int i = 0; i < n; i++)
        assert_int_equal(fiber_spawn(f->loop, "test", fn, f, NULL), 0);
    loop_run(f->loop);
    assert_int_equal(f->left, 0);
}

static void fiber_end(struct fixture *f)
{
    if (--f->left == 0)
        loop_stop(f->loop);
}

/* --- One use of a token --- */

struct use {
    char id[16];
    int64_t who;
};

static int make_tokens_fn(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    int rc = 0;
    for (int i = 0; rc == 0 && i < TOKENS; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "t%d", i);
        rc = db_exec(db, err, "INSERT INTO token (id) VALUES (?)", "t", id);
    }
    return rc;
}

static int use_token_fn(struct db *db, void *arg, struct err *err)
{
    struct use *use = arg;
    int rc = db_exec(db, err, "UPDATE token SET used_at = ?, used_by = ? WHERE id = ? AND used_at IS NULL", "iit", (int64_t)1, use->who, use->id);
    return rc ? rc : db_changes(db) == 1 ? 0 : 1;
}

static void use_all(void *arg)
{
    struct fixture *f = arg;
    for (int i = 0; i < TOKENS; i++) {
        struct use use = {.who = i};
        (void)snprintf(use.id, sizeof(use.id), "t%d", i);
        int rc = store_write(f->store, use_token_fn, &use, deadline_in(60 * USEC_SEC), NULL);
        assert_true(rc == 0 || rc == 1);
        f->won[i] += rc == 0;
    }
    fiber_end(f);
}

/* req: CL-48 */
static void test_token_used_exactly_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(store_write_sync(f->store, make_tokens_fn, NULL, NULL), 0);
    run_fibers(f, use_all, WRITERS);
    for (int i = 0; i < TOKENS; i++)
        assert_int_equal(f->won[i], 1);
}

/* --- Readers see whole transactions, while writers write --- */

static int pair_fn(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    int rc = db_exec(db, err, "INSERT INTO item (pair) VALUES (1)", "");
    return rc ? rc : db_exec(db, err, "INSERT INTO item (pair) VALUES (2)", "");
}

static int odd_fn(struct db *db, void *arg, struct err *err)
{
    int64_t before = 0, after = 0;
    int rc = db_get_i64(db, &before, err, "SELECT count(*) FROM item", "");
    (void)usleep(300);
    if (rc == 0)
        rc = db_get_i64(db, &after, err, "SELECT count(*) FROM item", "");
    if (before % 2 != 0 || before != after)
        *(int *)arg += 1;
    return rc;
}

static void mixed(void *arg)
{
    struct fixture *f = arg;
    bool writer = f->writes < 3;
    if (writer)
        f->writes++;
    for (int i = 0; i < 50; i++) {
        int torn = 0;
        int rc = writer ? store_write(f->store, pair_fn, NULL, deadline_in(60 * USEC_SEC), NULL)
                        : store_read(f->store, odd_fn, &torn, deadline_in(60 * USEC_SEC), NULL);
        assert_int_equal(rc, 0);
        f->torn += torn;
        f->reads += !writer;
    }
    fiber_end(f);
}

static void test_readers_beside_writers(void **state)
{
    struct fixture *f = *state;
    run_fibers(f, mixed, 9);
    assert_int_equal(f->torn, 0);
    assert_int_equal(f->reads, 300);
}

/* --- Deadlines and cancellation --- */

static int endless_fn(struct db *db, void *arg, struct err *err)
{
    int rc = pair_fn(db, arg, err);
    int64_t n = 0;
    return rc ? rc
              : db_get_i64(db, &n, err, "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c", "");
}

static int items_fn(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT count(*) FROM item", "");
}

static void endless(void *arg)
{
    struct fixture *f = arg;
    struct err err = ERR_INIT;
    assert_int_equal(store_write(f->store, endless_fn, NULL, deadline_in(200 * USEC_MSEC), &err), -ERR_DEADLINE);
    assert_true(err.retryable);
    int64_t n = -1;
    assert_int_equal(store_write(f->store, items_fn, &n, deadline_in(60 * USEC_SEC), &err), 0);
    assert_int_equal(n, 0);
    fiber_end(f);
}

static void test_statement_stopped_at_deadline(void **state)
{
    run_fibers(*state, endless, 1);
}

static int slow_fn(struct db *db, void *arg, struct err *err)
{
    (void)usleep(300000);
    return pair_fn(db, arg, err);
}

static void waits_behind(void *arg)
{
    struct fixture *f = arg;
    struct err err = ERR_INIT;
    f->rc = store_write(f->store, pair_fn, NULL, deadline_in(20 * USEC_MSEC), &err);
    assert_int_equal(err.code, ERR_DEADLINE);
    fiber_end(f);
}

static void slow(void *arg)
{
    struct fixture *f = arg;
    assert_int_equal(store_write(f->store, slow_fn, NULL, deadline_in(60 * USEC_SEC), NULL), 0);
    fiber_end(f);
}

static void test_deadline_in_queue(void **state)
{
    struct fixture *f = *state;
    f->left = 2;
    assert_int_equal(fiber_spawn(f->loop, "slow", slow, f, NULL), 0);
    assert_int_equal(fiber_spawn(f->loop, "behind", waits_behind, f, NULL), 0);
    loop_run(f->loop);
    assert_int_equal(f->rc, -ERR_DEADLINE);
    int64_t n = 0;
    assert_int_equal(store_read_sync(f->store, items_fn, &n, NULL), 0);
    assert_int_equal(n, 2);
}

static int none_fn(struct db *db, void *arg, struct err *err)
{
    (void)db, (void)arg, (void)err;
    return 0;
}

static void one_more(void *arg)
{
    struct fixture *f = arg;
    struct err err = ERR_INIT;
    int rc = store_write(f->store, f->reads++ == 0 ? slow_fn : none_fn, NULL, deadline_in(60 * USEC_SEC), &err);
    f->writes += rc == 0;
    if (rc != 0) {
        assert_int_equal(rc, -ERR_EXHAUSTED);
        assert_int_equal(err.code, ERR_EXHAUSTED);
        f->rc++;
    }
    fiber_end(f);
}

static void test_queue_limit(void **state)
{
    struct fixture *f = *state;
    run_fibers(f, one_more, STORE_QUEUE_MAX + 10);
    assert_in_range(f->rc, 8, 10);
    assert_int_equal(f->writes + f->rc, STORE_QUEUE_MAX + 10);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_token_used_exactly_once), T(test_readers_beside_writers), T(test_statement_stopped_at_deadline), T(test_deadline_in_queue),
        T(test_queue_limit),
    };
    return !place_available() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
