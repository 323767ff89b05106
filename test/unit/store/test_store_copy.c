/* SPDX-License-Identifier: Apache-2.0 */
/* Dump and restore: every kind of value, a snapshot while writers write, schema steps of then and now, and archives that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "store/engine.h"
#include "store/place.h"
#include "store/copy.h"

static const struct store_migration MIGRATIONS[] = {
    {"first", "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, data BLOB, size INTEGER) STRICT;"
              "CREATE TABLE part (item INTEGER NOT NULL REFERENCES item (id), PRIMARY KEY (item)) STRICT;"
              "INSERT INTO item (name) VALUES ('made by the first step')"},
    {"second", "ALTER TABLE item ADD COLUMN note TEXT NOT NULL DEFAULT 'none'"},
};

struct fixture {
    struct place from, to;
    struct store *store;
    int fd;
    char *kept;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    place_make(&f->from);
    place_make(&f->to);
    f->fd = memfd_create("archive", MFD_CLOEXEC);
    assert_true(f->fd >= 0);
    assert_int_equal(store_open(NULL, f->from.target, MIGRATIONS, 1, &f->store, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)store_close(f->store);
    (void)close(f->fd);
    free(f->kept);
    place_remove(&f->from);
    place_remove(&f->to);
    free(f);
    return 0;
}

static int fill_fn(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    static const char bytes[] = "\0\xff\x01";
    int rc = db_exec(db, err, "INSERT INTO item (name, data, size) VALUES (?, ?, ?)", "sbi", STR("it's \"ü\"\n?"), (struct str){bytes, 3}, INT64_MIN);
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO item (name, data, size) VALUES (?, ?, ?)", "sbn", STR("empty"), STR(""));
    return rc ? rc : db_exec(db, err, "INSERT INTO part (item) VALUES (?)", "i", (int64_t)3);
}

static int dump(struct fixture *f, struct err *err)
{
    struct archive_writer w;
    int rc = archive_begin(&w, f->fd, err);
    if (rc == 0)
        rc = archive_put_manifest(&w, "controlplane", store_engine(), MIGRATIONS, 1, err);
    if (rc == 0)
        rc = archive_put_file(&w, "a.key", STR("secret"), err);
    if (rc == 0)
        rc = store_dump_sync(f->store, &w, err);
    if (rc == 0)
        rc = archive_end(&w, err);
    archive_writer_release(&w);
    return rc;
}

/* The files behind the manifest, which the restore of the tables passes over. */
static int count_files(struct archive_reader *r)
{
    struct str payload, name, content;
    char kind = 0;
    int files = 0, rc;
    while ((rc = archive_next(r, &kind, &payload, NULL)) == 1) {
        if (kind != 'F')
            continue;
        assert_int_equal(archive_file(payload, &name, &content, NULL), 0);
        assert_true(str_eq(name, STR("a.key")) && str_eq(content, STR("secret")));
        files++;
    }
    assert_int_equal(rc, 0);
    return files;
}

static int restore(struct fixture *f, const struct store_migration *migrations, size_t n, struct err *err)
{
    struct archive_reader r = {0};
    struct archive_manifest *m = calloc(1, sizeof(*m));
    int rc = 0;
    for (int pass = 0; rc == 0 && pass < 2; pass++) {
        archive_reader_release(&r);
        assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
        rc = archive_open(&r, f->fd, err);
        if (rc == 0)
            rc = archive_read_manifest(&r, m, err);
        if (rc == 0 && pass == 0)
            assert_int_equal(count_files(&r), 1);
    }
    if (rc == 0)
        rc = store_restore(f->to.target, migrations, n, &r, m, &f->kept, err);
    archive_reader_release(&r);
    free(m);
    return rc;
}

static int look_fn(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    AUTO_ROWS rows = NULL;
    int64_t id = 0;
    assert_int_equal(db_query(db, &rows, err, "SELECT name, data, size, note FROM item ORDER BY id", ""), 0);
    assert_int_equal(rows_next(rows, err), 1);
    assert_true(str_eq(row_text(rows, 0), STR("made by the first step")));
    assert_true(row_is_null(rows, 1) && row_is_null(rows, 2));
    assert_int_equal(rows_next(rows, err), 1);
    assert_true(str_eq(row_text(rows, 0), STR("it's \"ü\"\n?")) && str_eq(row_blob(rows, 1), (struct str){"\0\xff\x01", 3}));
    assert_true(row_i64(rows, 2) == INT64_MIN && str_eq(row_text(rows, 3), STR("none")));
    assert_int_equal(rows_next(rows, err), 1);
    assert_true(!row_is_null(rows, 1) && row_blob(rows, 1).n == 0 && row_is_null(rows, 2));
    assert_int_equal(rows_next(rows, err), 0);
    /* New rows get numbers behind those that came along. */
    assert_int_equal(db_get_i64(db, &id, err, "INSERT INTO item (name) VALUES ('new') RETURNING id", ""), 0);
    assert_int_equal(id, 4);
    return 0;
}

/* Written at the first step of the schema, read by a program that knows two. */
/* req: PR-14 */
static void test_round_trip_and_upgrade(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct store *restored = NULL;
    assert_int_equal(store_write_sync(f->store, fill_fn, NULL, NULL), 0);
    assert_int_equal(dump(f, &err), 0);
    int rc = restore(f, MIGRATIONS, 2, &err);
    if (rc != 0)
        print_message("%s\n", err.msg);
    assert_int_equal(rc, 0);
    assert_string_equal(f->kept, "");
    assert_int_equal(store_open(NULL, f->to.target, MIGRATIONS, 2, &restored, &err), 0);
    assert_int_equal(store_write_sync(restored, look_fn, NULL, NULL), 0);
    (void)store_close(restored);
}

struct race {
    struct fixture *f;
    bool stop;
};

static int pair_fn(struct db *db, void *arg, struct err *err)
{
    int64_t id = 0;
    AUTO_FREE char *name = str_printf("pair %d", (int)*(int64_t *)arg);
    int rc = db_get_i64(db, &id, err, "INSERT INTO item (name) VALUES (?) RETURNING id", "t", name);
    return rc ? rc : db_exec(db, err, "INSERT INTO part (item) VALUES (?)", "i", id);
}

static void *write_on(void *arg)
{
    struct race *r = arg;
    for (int64_t n = 0; !__atomic_load_n(&r->stop, __ATOMIC_SEQ_CST); n++)
        assert_int_equal(store_write_sync(r->f->store, pair_fn, &n, NULL), 0);
    return NULL;
}

static int pairs_fn(struct db *db, void *arg, struct err *err)
{
    int64_t *n = arg;
    int rc = db_get_i64(db, &n[0], err, "SELECT count(*) FROM item", "");
    return rc ? rc : db_get_i64(db, &n[1], err, "SELECT count(*) FROM part", "");
}

/* req: PR-14 */
static void test_one_snapshot_while_writing(void **state)
{
    struct fixture *f = *state;
    struct race race = {f, false};
    struct store *restored = NULL;
    pthread_t thread;
    int64_t n[2] = {0}, acknowledged[2] = {0};
    assert_int_equal(pthread_create(&thread, NULL, write_on, &race), 0);
    while (acknowledged[1] < 20)
        assert_int_equal(store_read_sync(f->store, pairs_fn, acknowledged, NULL), 0);
    assert_int_equal(dump(f, NULL), 0);
    __atomic_store_n(&race.stop, true, __ATOMIC_SEQ_CST);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(restore(f, MIGRATIONS, 1, NULL), 0);
    assert_int_equal(store_open(NULL, f->to.target, MIGRATIONS, 1, &restored, NULL), 0);
    assert_int_equal(store_read_sync(restored, pairs_fn, n, NULL), 0);
    assert_true(n[0] == n[1] + 1 && n[1] >= acknowledged[1]);
    (void)store_close(restored);
}

static void test_schemas_that_do_not_fit(void **state)
{
    static const struct store_migration other[] = {{"another", "CREATE TABLE x (a INTEGER) STRICT"}};
    static const struct store_migration liar[] = {{"first", "CREATE TABLE item (a INTEGER) STRICT; CREATE TABLE part (item INTEGER) STRICT"}};
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(dump(f, NULL), 0);
    assert_int_equal(restore(f, MIGRATIONS, 0, &err), -ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "newer version"));
    assert_int_equal(restore(f, other, 1, &err), -ERR_PRECONDITION);
    assert_int_equal(restore(f, liar, 1, &err), -ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "does not fit"));
    /* Nothing of it stayed: the same place takes a good one. */
    assert_int_equal(restore(f, MIGRATIONS, 1, &err), 0);
}

/* Every byte counts: cut anywhere or changed anywhere, it is refused. */
static void test_every_damage_is_seen(void **state)
{
    struct fixture *f = *state;
    struct archive_manifest *m = calloc(1, sizeof(*m));
    AUTO_BUF whole = BUF_INIT(1 << 20);
    bool has_user = true;
    assert_int_equal(store_write_sync(f->store, fill_fn, NULL, NULL), 0);
    assert_int_equal(dump(f, NULL), 0);
    off_t size = lseek(f->fd, 0, SEEK_END);
    char *p = buf_reserve(&whole, (size_t)size);
    assert_true(pread(f->fd, p, (size_t)size, 0) == size);
    assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
    assert_int_equal(archive_verify(f->fd, m, &has_user, NULL), 0);
    assert_true(!has_user && m->n_schema == 1);
    for (off_t at = 0; at < size; at++) {
        struct err err = ERR_INIT;
        char changed = (char)(p[at] ^ 0x20);
        assert_true(pwrite(f->fd, &changed, 1, at) == 1);
        assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
        assert_true(archive_verify(f->fd, m, &has_user, &err) < 0);
        assert_true(err.msg[0] != '\0');
        assert_true(pwrite(f->fd, &p[at], 1, at) == 1);
    }
    for (off_t at = size - 1; at >= 0; at--) {
        assert_int_equal(ftruncate(f->fd, at), 0);
        assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
        assert_true(archive_verify(f->fd, m, &has_user, NULL) < 0);
    }
    free(m);
}

static void test_newer_program_refused(void **state)
{
    struct fixture *f = *state;
    struct archive_writer w;
    struct archive_reader r;
    struct archive_manifest *m = calloc(1, sizeof(*m));
    struct err err = ERR_INIT;
    const struct str manifest = STR("{\"format\":1,\"part\":\"controlplane\",\"version\":\"99.0.1\",\"store\":\"sqlite\","
                                    "\"schema\":[\"first\"],\"new\":{}}");
    assert_int_equal(archive_begin(&w, f->fd, NULL), 0);
    assert_int_equal(archive_put(&w, 'M', &manifest, 1, NULL), 0);
    assert_int_equal(archive_end(&w, NULL), 0);
    archive_writer_release(&w);
    assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
    assert_int_equal(archive_open(&r, f->fd, NULL), 0);
    assert_int_equal(archive_read_manifest(&r, m, &err), -ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "99.0.1"));
    archive_reader_release(&r);
    free(m);
}

static void test_names_and_limits(void **state)
{
    static const struct str bad[] = {{"\x00", 1}, {"\x03..a", 4}, {"\x03/ab", 4}, {"\x02" "a/", 3}, {"\x05" "abc", 4}, {"\x02" "a\0", 3}, {"", 0}};
    struct fixture *f = *state;
    struct archive_writer w;
    struct str name;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct str s = bad[i];
        assert_int_equal(archive_name(&s, &name, NULL), -ERR_DATA_LOSS);
    }
    assert_int_equal(archive_begin(&w, f->fd, NULL), 0);
    const struct str big = {calloc(1, (size_t)ARCHIVE_RECORD_MAX + 1), (size_t)ARCHIVE_RECORD_MAX + 1};
    assert_int_equal(archive_put(&w, 'R', &big, 1, NULL), -ERR_EXHAUSTED);
    const struct str fits = {big.p, ARCHIVE_RECORD_MAX};
    assert_int_equal(archive_put(&w, 'R', &fits, 1, NULL), 0);
    assert_int_equal(archive_put_file(&w, "x", (struct str){big.p, ARCHIVE_FILE_MAX + 1}, NULL), -ERR_EXHAUSTED);
    archive_writer_release(&w);
    free((char *)(uintptr_t)big.p);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_round_trip_and_upgrade), T(test_one_snapshot_while_writing), T(test_schemas_that_do_not_fit), T(test_every_damage_is_seen),
        T(test_newer_program_refused), T(test_names_and_limits),
    };
    return place_available() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
