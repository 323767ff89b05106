/* SPDX-License-Identifier: Apache-2.0 */
/* The store without a loop: migrations, transactions, values, errors, limits, power cuts, copies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "store/store.h"

static const struct store_migration MIGRATIONS[] = {
    {"first", "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, data BLOB, size INTEGER CHECK (size >= 0)) STRICT;"
              "CREATE TABLE part (item INTEGER NOT NULL REFERENCES item (id)) STRICT"},
    {"second", "CREATE TABLE token (id TEXT PRIMARY KEY, used_at INTEGER) STRICT"},
};

struct fixture {
    char dir[64];
    char path[96];
    struct store *store;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/davit-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/x.db", f->dir);
    assert_int_equal(store_open(NULL, f->path, MIGRATIONS, 2, &f->store, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)store_close(f->store);
    assert_int_equal(fd_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static int count_fn(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT count(*) FROM item", "");
}

static int64_t count(struct store *store)
{
    int64_t n = -1;
    assert_int_equal(store_read_sync(store, count_fn, &n, NULL), 0);
    return n;
}

static int insert_fn(struct db *db, void *arg, struct err *err)
{
    return db_exec(db, err, "INSERT INTO item (name) VALUES (?)", "t", (const char *)arg);
}

static void test_file_is_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
    f->store = store_close(f->store);
    assert_int_equal(chmod(f->path, 0644), 0);
    assert_int_equal(store_open(NULL, f->path, MIGRATIONS, 2, &f->store, NULL), 0);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_migrations_once_each(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(store_write_sync(f->store, insert_fn, (char *)"a", NULL), 0);
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->path, MIGRATIONS, 2, &f->store, NULL), 0);
    assert_int_equal(count(f->store), 1);
}

static void test_migration_appended(void **state)
{
    struct fixture *f = *state;
    static const struct store_migration more[] = {
        {"first", ""}, {"second", ""}, {"third", "INSERT INTO item (name) VALUES ('by third')"}};
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->path, more, 3, &f->store, NULL), 0);
    assert_int_equal(count(f->store), 1);
}

static void test_newer_schema_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct store *store = NULL;
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->path, MIGRATIONS, 1, &store, &err), -ERR_PRECONDITION);
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
    assert_int_equal(store_open(NULL, f->path, other, 2, &store, &err), -ERR_PRECONDITION);
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
    assert_true(store_open(NULL, f->path, bad, 3, &store, &err) < 0);
    assert_non_null(strstr(err.msg, "schema step 3 (third)"));
    assert_int_equal(store_open(NULL, f->path, good, 3, &f->store, NULL), 0);
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->path, lax, 4, &store, &err), -ERR_INTERNAL);
    assert_non_null(strstr(err.msg, "STRICT"));
    assert_int_equal(store_open(NULL, f->path, good, 3, &f->store, NULL), 0);
}

static void test_not_a_database(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct store *store = NULL;
    f->store = store_close(f->store);
    char junk[8192];
    memset(junk, 'x', sizeof(junk));
    assert_int_equal(fd_write_file(f->path, junk, sizeof(junk), 0600, NULL), 0);
    assert_int_equal(store_open(NULL, f->path, MIGRATIONS, 2, &store, &err), -ERR_DATA_LOSS);
    assert_null(store);
    assert_true(store_open(NULL, "/nonexistent/x.db", MIGRATIONS, 2, &store, &err) == -ERR_NOT_FOUND);
    assert_true(store_open(NULL, f->dir, MIGRATIONS, 2, &store, &err) < 0);
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
    int rc = insert_fn(db, (char *)"rolled back", err);
    return rc ? rc : *(int *)arg;
}

static void test_rollback(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    int rc = 5;
    assert_int_equal(store_write_sync(f->store, outcome_fn, &rc, &err), 5);
    assert_int_equal(count(f->store), 0);
    assert_int_equal(err.code, ERR_OK);
    rc = -ERR_ABORTED;
    assert_int_equal(store_write_sync(f->store, outcome_fn, &rc, &err), -ERR_ABORTED);
    assert_true(err.msg[0] != '\0');
    assert_int_equal(count(f->store), 0);
    rc = 0;
    assert_int_equal(store_write_sync(f->store, outcome_fn, &rc, &err), 0);
    assert_int_equal(count(f->store), 1);
}

static int sql_fn(struct db *db, void *arg, struct err *err)
{
    return db_exec(db, err, arg, "");
}

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
    assert_int_equal(count(f->store), 1);
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

static void fill(struct store *store, struct err *err)
{
    struct str data = {calloc(1, 65536), 65536};
    int rc = 0;
    for (int i = 0; rc == 0 && i < 1000; i++) {
        char sql[96];
        (void)snprintf(sql, sizeof(sql), "INSERT INTO item (name, data) VALUES ('n%d', zeroblob(65536))", i);
        rc = store_write_sync(store, sql_fn, sql, err);
    }
    free((char *)data.p);
    assert_int_equal(rc, -ERR_EXHAUSTED);
    assert_int_equal(err->code, ERR_EXHAUSTED);
    assert_non_null(strstr(err->hint, "Free space"));
}

static void test_size_limit(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(store_limit_size(f->store, 1 << 20, NULL), 0);
    fill(f->store, &err);
    int64_t before = count(f->store);
    assert_in_range(before, 10, 16);
    /* Full is no end: what exists can be read and deleted, and then there is room again. */
    assert_int_equal(store_write_sync(f->store, sql_fn, (char *)"DELETE FROM item", NULL), 0);
    assert_int_equal(store_write_sync(f->store, insert_fn, (char *)"again", NULL), 0);
}

/* In a child, since the limit is of the process: every file ends at 1 MiB, as on a disk that is full. */
static void test_disk_full(void **state)
{
    struct fixture *f = *state;
    f->store = store_close(f->store);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {1 << 20, 1 << 20};
        struct err err = ERR_INIT;
        (void)signal(SIGXFSZ, SIG_IGN);
        bool ok = setrlimit(RLIMIT_FSIZE, &limit) == 0 && store_open(NULL, f->path, MIGRATIONS, 2, &f->store, &err) == 0;
        int rc = 0;
        for (int i = 0; ok && rc == 0 && i < 100; i++) {
            char sql[96];
            (void)snprintf(sql, sizeof(sql), "INSERT INTO item (name, data) VALUES ('n%d', zeroblob(65536))", i);
            rc = store_write_sync(f->store, sql_fn, sql, &err);
        }
        if (rc != -ERR_EXHAUSTED)
            print_message("%d %s\n", rc, err.msg);
        _exit(ok && rc == -ERR_EXHAUSTED && err.hint[0] && count(f->store) > 2 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(store_open(NULL, f->path, MIGRATIONS, 2, &f->store, NULL), 0);
    assert_true(count(f->store) > 2);
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
    if (rc == 0)
        rc = db_get_i64(db, &ret[1], err, "SELECT count(*) FROM part", "");
    return rc ? rc : db_get_i64(db, &ret[2], err, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'", "");
}

static _Noreturn void write_pairs(struct fixture *f, int64_t from, int report)
{
    struct store *store = NULL;
    if (store_open(NULL, f->path, MIGRATIONS, 2, &store, NULL) < 0)
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
        int64_t counts[3] = {0};
        assert_int_equal(store_open(NULL, f->path, MIGRATIONS, 2, &f->store, NULL), 0);
        assert_int_equal(store_read_sync(f->store, pairs_fn, counts, NULL), 0);
        f->store = store_close(f->store);
        assert_true(last >= next);
        assert_true(counts[0] == counts[1] && counts[2] == 1);
        assert_true(counts[0] == last || counts[0] == last + 1);
        next = counts[0] + 1;
    }
}

static void test_backup(void **state)
{
    struct fixture *f = *state;
    char copy[128];
    struct stat st;
    struct store *second = NULL;
    (void)snprintf(copy, sizeof(copy), "%s/copy.db", f->dir);
    assert_int_equal(store_write_sync(f->store, insert_fn, (char *)"a", NULL), 0);
    assert_int_equal(store_backup_sync(f->store, copy, NULL), 0);
    assert_int_equal(store_write_sync(f->store, insert_fn, (char *)"b", NULL), 0);
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(store_open(NULL, copy, MIGRATIONS, 2, &second, NULL), 0);
    assert_int_equal(count(second), 1);
    second = store_close(second);
    assert_int_equal(store_backup_sync(f->store, copy, NULL), 0);
    assert_int_equal(store_open(NULL, copy, MIGRATIONS, 2, &second, NULL), 0);
    assert_int_equal(count(second), 2);
    second = store_close(second);
    assert_int_equal(store_backup_sync(f->store, "/nonexistent/copy.db", NULL), -ERR_NOT_FOUND);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_file_is_private), T(test_migrations_once_each), T(test_migration_appended), T(test_newer_schema_refused),
        T(test_foreign_history_refused), T(test_failing_migration_leaves_nothing), T(test_not_a_database), T(test_values_round_trip),
        T(test_rows_left_open), T(test_rollback), T(test_error_codes), T(test_value_limit), T(test_size_limit), T(test_disk_full),
        T(test_killed_writer), T(test_backup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
