/* SPDX-License-Identifier: Apache-2.0 */
/* The store without a loop, the same for each engine: migrations, transactions, values, errors, limits, power cuts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "store/items.h"

static void test_migrations_once_each(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(store_write_sync(f->store, items_insert, (char *)"a", NULL), 0);
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->place.target, items_migrations, 2, &f->store, NULL), 0);
    assert_int_equal(items_count(f->store), 1);
}

static void test_migration_appended(void **state)
{
    struct fixture *f = *state;
    static const struct store_migration more[] = {
        {"first", ""}, {"second", ""}, {"third", "INSERT INTO item (name) VALUES ('by third')"}};
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->place.target, more, 3, &f->store, NULL), 0);
    assert_int_equal(items_count(f->store), 1);
}

static void test_newer_schema_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct store *store = NULL;
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->place.target, items_migrations, 1, &store, &err), -ERR_PRECONDITION);
    assert_null(store);
    assert_non_null(strstr(err.msg, "newer version"));
    assert_true(err.hint[0] != '\0');
}

static void test_foreign_history_refused(void **state)
{
    struct fixture *f = *state;
    static const struct store_migration other[] = {{"first", ""}, {"another", ""}};
    struct err err = ERR_INIT;
    struct store *store = NULL;
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->place.target, other, 2, &store, &err), -ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "second"));
}

static void test_failing_migration_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    static const struct store_migration bad[] = {
        {"first", ""}, {"second", ""}, {"third", "CREATE TABLE t3 (a INTEGER) STRICT; INSERT INTO t3 VALUES ('text')"}};
    static const struct store_migration good[] = {{"first", ""}, {"second", ""}, {"third", "CREATE TABLE t3 (a INTEGER) STRICT"}};
    static const struct store_migration lax[] = {{"first", ""}, {"second", ""}, {"third", ""}, {"fourth", "CREATE TABLE t4 (a INTEGER)"}};
    struct err err = ERR_INIT;
    struct store *store = NULL;
    f->store = store_close(f->store);
    assert_true(store_open(NULL, f->place.target, bad, 3, &store, &err) < 0);
    assert_non_null(strstr(err.msg, "schema step 3 (third)"));
    assert_int_equal(store_open(NULL, f->place.target, good, 3, &f->store, NULL), 0);
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->place.target, lax, 4, &store, &err), -ERR_INTERNAL);
    assert_non_null(strstr(err.msg, "STRICT"));
    assert_int_equal(store_open(NULL, f->place.target, good, 3, &f->store, NULL), 0);
}

struct value {
    struct str name, data;
    int64_t size;
};

static int values_write_fn(struct db *db, void *arg, struct err *err)
{
    struct value *v = arg;
    int rc = db_exec(db, err, "INSERT INTO item (name, data, size) VALUES (?, ?, ?)", "sbi", v->name, v->data, v->size);
    if (rc == 0)
        assert_int_equal(db_changes(db), 1);
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO item (name, data, size) VALUES ('nulls', ?, ?)", "nn");
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO item (name, data) VALUES (?, ?)", "sb", STR("empty"), (struct str){NULL, 0});
    return rc;
}

static int values_read_fn(struct db *db, void *arg, struct err *err)
{
    struct value *v = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, "SELECT name, data, size FROM item ORDER BY id", "");
    assert_int_equal(rc, 0);
    assert_int_equal(rows_next(rows, err), 1);
    assert_true(str_eq(row_text(rows, 0), v->name));
    assert_true(str_eq(row_blob(rows, 1), v->data));
    assert_true(row_i64(rows, 2) == v->size);
    assert_false(row_is_null(rows, 1));
    assert_int_equal(rows_next(rows, err), 1);
    assert_true(row_is_null(rows, 1));
    assert_true(row_is_null(rows, 2));
    assert_int_equal(row_blob(rows, 1).n, 0);
    assert_true(row_i64(rows, 2) == 0);
    assert_int_equal(rows_next(rows, err), 1);
    assert_false(row_is_null(rows, 1));
    assert_int_equal(rows_next(rows, err), 0);
    assert_int_equal(rows_next(rows, err), 0);
    int64_t none = 7;
    assert_int_equal(db_get_i64(db, &none, err, "SELECT id FROM item WHERE name = ?", "t", "absent"), 1);
    assert_int_equal(none, 7);
    /* The same text twice at once: each has a statement of its own. */
    AUTO_ROWS outer = NULL;
    AUTO_ROWS inner = NULL;
    assert_int_equal(db_query(db, &outer, err, "SELECT id FROM item ORDER BY id", ""), 0);
    assert_int_equal(rows_next(outer, err), 1);
    assert_int_equal(db_query(db, &inner, err, "SELECT id FROM item ORDER BY id", ""), 0);
    assert_int_equal(rows_next(inner, err), 1);
    assert_int_equal(rows_next(outer, err), 1);
    assert_true(row_i64(outer, 0) == 2 && row_i64(inner, 0) == 1);
    return 0;
}

/* req: PR-1 */
static void test_values_round_trip(void **state)
{
    struct fixture *f = *state;
    struct value v = {STR("it's \"ü\" %s ?"), {"\0\xff\x01", 3}, INT64_MAX};
    assert_int_equal(store_write_sync(f->store, values_write_fn, &v, NULL), 0);
    assert_int_equal(store_read_sync(f->store, values_read_fn, &v, NULL), 0);
}

static int open_rows_fn(struct db *db, void *arg, struct err *err)
{
    struct rows *rows = NULL;
    (void)arg;
    assert_int_equal(db_query(db, &rows, err, "SELECT version FROM schema_migrations", ""), 0);
    assert_int_equal(rows_next(rows, err), 1);
    return 0;
}

static void test_rows_left_open(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(store_write_sync(f->store, open_rows_fn, NULL, NULL), 0);
    assert_int_equal(store_read_sync(f->store, open_rows_fn, NULL, NULL), 0);
}

static int outcome_fn(struct db *db, void *arg, struct err *err)
{
    int rc = items_insert(db, (char *)"rolled back", err);
    return rc ? rc : *(int *)arg;
}

static void test_rollback(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    int rc = 5;
    assert_int_equal(store_write_sync(f->store, outcome_fn, &rc, &err), 5);
    assert_int_equal(items_count(f->store), 0);
    assert_int_equal(err.code, ERR_OK);
    rc = -ERR_ABORTED;
    assert_int_equal(store_write_sync(f->store, outcome_fn, &rc, &err), -ERR_ABORTED);
    assert_true(err.msg[0] != '\0');
    assert_int_equal(items_count(f->store), 0);
    rc = 0;
    assert_int_equal(store_write_sync(f->store, outcome_fn, &rc, &err), 0);
    assert_int_equal(items_count(f->store), 1);
}

static int sql_fn(struct db *db, void *arg, struct err *err)
{
    return db_exec(db, err, arg, "");
}

/* req: PR-1 */
static void test_error_codes(void **state)
{
    static const struct {
        const char *sql;
        int rc;
    } cases[] = {
        {"INSERT INTO item (name) VALUES ('a')", 0},
        {"INSERT INTO item (name) VALUES ('a')", -ERR_EXISTS},
        {"INSERT INTO item (id, name) VALUES (1, 'b')", -ERR_EXISTS},
        {"INSERT INTO item (name) VALUES (NULL)", -ERR_PRECONDITION},
        {"INSERT INTO item (name, size) VALUES ('c', -1)", -ERR_PRECONDITION},
        {"INSERT INTO item (name, size) VALUES ('c', 'text')", -ERR_PRECONDITION},
        {"INSERT INTO part (item) VALUES (99)", -ERR_PRECONDITION},
        {"INSERT INTO nothing VALUES (1)", -ERR_INTERNAL},
        {"SELECT 1; SELECT 2", -ERR_INTERNAL},
        {"SELECT ?", -ERR_INTERNAL},
        {"SELECT \"not a column\"", -ERR_INTERNAL},
        {"ATTACH 'x' AS y", -ERR_INTERNAL},
        {"", -ERR_INTERNAL},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        int rc = store_write_sync(f->store, sql_fn, (char *)cases[i].sql, &err);
        if (rc != cases[i].rc)
            print_message("%s: %d %s\n", cases[i].sql, rc, err.msg);
        assert_int_equal(rc, cases[i].rc);
        assert_int_equal(store_write_sync(f->store, sql_fn, (char *)cases[i].sql, NULL) < 0, rc < 0 || i == 0);
    }
    assert_int_equal(items_count(f->store), 1);
    struct err err = ERR_INIT;
    assert_int_equal(store_read_sync(f->store, sql_fn, (char *)"INSERT INTO item (name) VALUES ('r')", &err), -ERR_DENIED);
}

static int big_fn(struct db *db, void *arg, struct err *err)
{
    struct str *data = arg;
    return db_exec(db, err, "INSERT INTO item (name, data) VALUES ('big', ?)", "b", *data);
}

static void test_value_limit(void **state)
{
    struct fixture *f = *state;
    struct str data = {calloc(1, (size_t)STORE_VALUE_MAX + 2048), (size_t)STORE_VALUE_MAX + 2048};
    assert_int_equal(store_write_sync(f->store, big_fn, &data, NULL), -ERR_RANGE);
    data.n = STORE_VALUE_MAX;
    assert_int_equal(store_write_sync(f->store, big_fn, &data, NULL), 0);
    free((char *)data.p);
}

static int pair_fn(struct db *db, void *arg, struct err *err)
{
    int64_t n = *(int64_t *)arg;
    char name[32];
    (void)snprintf(name, sizeof(name), "p%d", (int)n);
    int rc = db_exec(db, err, "INSERT INTO item (id, name) VALUES (?, ?)", "it", n, name);
    return rc ? rc : db_exec(db, err, "INSERT INTO part (item) VALUES (?)", "i", n);
}

static int pairs_fn(struct db *db, void *arg, struct err *err)
{
    int64_t *ret = arg;
    int rc = db_get_i64(db, &ret[0], err, "SELECT count(*) FROM item", "");
    return rc ? rc : db_get_i64(db, &ret[1], err, "SELECT count(*) FROM part", "");
}

static _Noreturn void write_pairs(struct fixture *f, int64_t from, int report)
{
    struct store *store = NULL;
    if (store_open(NULL, f->place.target, items_migrations, 2, &store, NULL) < 0)
        _exit(1);
    for (int64_t n = from;; n++) {
        if (store_write_sync(store, pair_fn, &n, NULL) < 0 || write(report, &n, sizeof(n)) != sizeof(n))
            _exit(1);
    }
}

static void test_killed_writer(void **state)
{
    struct fixture *f = *state;
    f->store = store_close(f->store);
    int64_t next = 1;
    for (int round = 0; round < 10; round++) {
        int p[2];
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            write_pairs(f, next, p[1]);
        (void)close(p[1]);
        int64_t last = 0, n;
        int seen = 0;
        while (seen++ < 5 + round && read(p[0], &n, sizeof(n)) == sizeof(n))
            last = n;
        (void)usleep((useconds_t)round * 300);
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read(p[0], &n, sizeof(n)) == sizeof(n))
            last = n;
        (void)close(p[0]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        int64_t counts[2] = {0};
        assert_int_equal(store_open(NULL, f->place.target, items_migrations, 2, &f->store, NULL), 0);
        assert_int_equal(store_read_sync(f->store, pairs_fn, counts, NULL), 0);
        assert_true(place_is_whole(f->store));
        f->store = store_close(f->store);
        assert_true(last >= next);
        assert_true(counts[0] == counts[1]);
        assert_true(counts[0] == last || counts[0] == last + 1);
        next = counts[0] + 1;
    }
}

static int order_fn(struct db *db, void *arg, struct err *err)
{
    static const char *const names[] = {"b", "A", "a", "Z", "\u00e9", "-", "aa"};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(names); i++)
        rc = db_exec(db, err, "INSERT INTO item (name, size) VALUES (?, ?)", "ti", names[i], (int64_t)i);
    AUTO_ROWS rows = NULL;
    if (rc == 0)
        rc = db_query(db, &rows, err, "SELECT name FROM item WHERE name >= ? ORDER BY name", "t", "-");
    while (rc == 0 && rows_next(rows, err) == 1)
        rc = buf_append_str(arg, row_text(rows, 0));
    return rc;
}

static int numbers_fn(struct db *db, void *arg, struct err *err)
{
    int64_t *ret = arg;
    int rc = db_get_i64(db, &ret[0], err, "SELECT sum(size) FROM item", "");
    if (rc == 0)
        rc = db_get_i64(db, &ret[1], err, "SELECT EXISTS (SELECT 1 FROM item WHERE size = ?)", "i", (int64_t)6);
    if (rc == 0)
        rc = db_get_i64(db, &ret[2], err, "SELECT 0 - sum(size * 100000) FROM item", "");
    if (rc == 0)
        rc = db_get_i64(db, &ret[3], err, "SELECT coalesce(sum(size), 0) FROM item WHERE size > ?", "i", (int64_t)99);
    return rc;
}

/* req: PR-1 */
static void test_order_and_numbers(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF out = BUF_INIT(100);
    int64_t n[4] = {0, 0, 0, 7};
    assert_int_equal(store_write_sync(f->store, order_fn, &out, NULL), 0);
    assert_string_equal(buf_cstr(&out), "-AZaaab\u00e9");
    assert_int_equal(store_read_sync(f->store, numbers_fn, n, NULL), 0);
    assert_true(n[0] == 21 && n[1] == 1 && n[2] == -2100000 && n[3] == 0);
}

static int returning_fn(struct db *db, void *arg, struct err *err)
{
    int64_t *ret = arg;
    int rc = db_get_i64(db, &ret[0], err, "INSERT INTO item (name, size) VALUES ('r', 1) RETURNING id", "");
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO item (name, size) VALUES ('r', 5) ON CONFLICT (name) DO UPDATE SET size = excluded.size", "");
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO item (name, size) VALUES ('r', 9) ON CONFLICT (name) DO NOTHING", "");
    assert_int_equal(db_changes(db), 0);
    if (rc == 0)
        rc = db_exec(db, err, "UPDATE item SET data = x'00ff' WHERE name LIKE '%'", "");
    assert_int_equal(db_changes(db), 1);
    return rc ? rc : db_get_i64(db, &ret[1], err, "SELECT size FROM item WHERE data = ?", "b", (struct str){"\0\xff", 2});
}

static void test_returning_and_conflict(void **state)
{
    struct fixture *f = *state;
    int64_t n[2] = {0};
    assert_int_equal(store_write_sync(f->store, returning_fn, n, NULL), 0);
    assert_true(n[0] == 1 && n[1] == 5);
}

/* Goes on after a failure as if nothing were wrong. */
static int stubborn_fn(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    (void)items_insert(db, (char *)"same", err);
    assert_int_equal(items_insert(db, (char *)"same", err), -ERR_EXISTS);
    assert_int_equal(items_insert(db, (char *)"other", err), -ERR_ABORTED);
    return 0;
}

static void test_no_commit_after_a_failure(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(store_write_sync(f->store, stubborn_fn, NULL, &err), -ERR_ABORTED);
    assert_int_equal(items_count(f->store), 0);
    assert_int_equal(store_write_sync(f->store, items_insert, (char *)"same", NULL), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, items_setup, items_teardown)
    const struct CMUnitTest tests[] = {
        T(test_migrations_once_each), T(test_migration_appended), T(test_newer_schema_refused), T(test_foreign_history_refused),
        T(test_failing_migration_leaves_nothing), T(test_values_round_trip), T(test_order_and_numbers), T(test_returning_and_conflict),
        T(test_rows_left_open), T(test_rollback), T(test_no_commit_after_a_failure), T(test_error_codes), T(test_value_limit),
        T(test_killed_writer),
    };
    return place_available() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
