/* SPDX-License-Identifier: Apache-2.0 */
/* What only a database in a file can be asked: modes, damage, a full disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "store/items.h"

static void test_file_is_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s%s", f->place.target, suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
    f->store = store_close(f->store);
    assert_int_equal(chmod(f->place.target, 0644), 0);
    assert_int_equal(store_open(NULL, f->place.target, items_migrations, 2, &f->store, NULL), 0);
    assert_int_equal(stat(f->place.target, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_not_a_database(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct store *store = NULL;
    f->store = store_close(f->store);
    char junk[8192];
    memset(junk, 'x', sizeof(junk));
    assert_int_equal(fd_write_file(f->place.target, junk, sizeof(junk), 0600, NULL), 0);
    assert_int_equal(store_open(NULL, f->place.target, items_migrations, 2, &store, &err), -ERR_DATA_LOSS);
    assert_null(store);
    assert_true(store_open(NULL, "/nonexistent/x.db", items_migrations, 2, &store, &err) == -ERR_NOT_FOUND);
    assert_true(store_open(NULL, f->place.dir, items_migrations, 2, &store, &err) < 0);
}

static int sql_fn(struct db *db, void *arg, struct err *err)
{
    return db_exec(db, err, arg, "");
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
    int64_t before = items_count(f->store);
    assert_in_range(before, 10, 16);
    /* Full is no end: what exists can be read and deleted, and then there is room again. */
    assert_int_equal(store_write_sync(f->store, sql_fn, (char *)"DELETE FROM item", NULL), 0);
    assert_int_equal(store_write_sync(f->store, items_insert, (char *)"again", NULL), 0);
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
        bool ok = setrlimit(RLIMIT_FSIZE, &limit) == 0 && store_open(NULL, f->place.target, items_migrations, 2, &f->store, &err) == 0;
        int rc = 0;
        for (int i = 0; ok && rc == 0 && i < 100; i++) {
            char sql[96];
            (void)snprintf(sql, sizeof(sql), "INSERT INTO item (name, data) VALUES ('n%d', zeroblob(65536))", i);
            rc = store_write_sync(f->store, sql_fn, sql, &err);
        }
        if (rc != -ERR_EXHAUSTED)
            print_message("%d %s\n", rc, err.msg);
        _exit(ok && rc == -ERR_EXHAUSTED && err.hint[0] && items_count(f->store) > 2 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(store_open(NULL, f->place.target, items_migrations, 2, &f->store, NULL), 0);
    assert_true(items_count(f->store) > 2);
}

/* A database of a server is no file's business. */
static void test_address_of_a_server_refused(void **state)
{
    struct err err = ERR_INIT;
    struct store *store = NULL;
    (void)state;
    assert_int_equal(store_open(NULL, "postgres://db.example.com/davit", items_migrations, 2, &store, &err), -ERR_INVALID);
    assert_non_null(strstr(err.msg, "davitd-pg"));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, items_setup, items_teardown)
    const struct CMUnitTest tests[] = {
        T(test_file_is_private), T(test_not_a_database), T(test_size_limit), T(test_disk_full), T(test_address_of_a_server_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
