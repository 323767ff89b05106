/* SPDX-License-Identifier: Apache-2.0 */
/* What only a server can be asked: the lock against a second control plane, collisions with other writers, lost connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "store/place.h"

static const struct store_migration MIGRATIONS[] = {
    {"first", "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL DEFAULT 0) STRICT"},
};

struct fixture {
    struct place place, other_place;
    struct store *store, *other; /* the other one writes where it has no business, by the full name of the table */
    char table[64];
    char sql[512];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    place_make(&f->place);
    place_make(&f->other_place);
    assert_int_equal(store_open(NULL, f->place.target, MIGRATIONS, 1, &f->store, NULL), 0);
    assert_int_equal(store_open(NULL, f->other_place.target, NULL, 0, &f->other, NULL), 0);
    (void)snprintf(f->table, sizeof(f->table), "%s.item", strchr(f->place.target, '#') + 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)store_close(f->store);
    (void)store_close(f->other);
    place_remove(&f->place);
    place_remove(&f->other_place);
    free(f);
    return 0;
}

static int sql_fn(struct db *db, void *arg, struct err *err)
{
    return db_exec(db, err, arg, "");
}

static int count_fn(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT count(*) FROM item", "");
}

static void test_second_control_plane_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct store *second = NULL;
    assert_int_equal(store_open(NULL, f->place.target, MIGRATIONS, 1, &second, &err), -ERR_EXISTS);
    assert_non_null(strstr(err.msg, "another control plane works on this database"));
    assert_true(err.hint[0] != '\0');
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, f->place.target, MIGRATIONS, 1, &f->store, NULL), 0);
}

static void test_addresses(void **state)
{
    static const struct {
        const char *target, *why;
        int rc;
    } cases[] = {
        {"postgres://u:secret@localhost/x", "password", -ERR_INVALID},
        {"postgres://u@localhost/x?password=secret", "password", -ERR_INVALID},
        {"postgres://u@localhost/x?nonsense=1", "nonsense", -ERR_INVALID},
        {"x.db", "PostgreSQL", -ERR_INVALID},
        {"postgres:///x?host=/nonexistent", "cannot be reached", -ERR_UNAVAILABLE},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        struct store *store = NULL;
        assert_int_equal(store_open(NULL, cases[i].target, MIGRATIONS, 1, &store, &err), cases[i].rc);
        if (!strstr(err.msg, cases[i].why))
            print_message("%s: %s\n", cases[i].target, err.msg);
        assert_non_null(strstr(err.msg, cases[i].why));
        assert_null(strstr(err.msg, "secret@"));
    }
}

struct bump {
    struct fixture *f;
    int runs;
};

/* Reads, is overtaken once by the other one, writes what follows from what it read. */
static int bump_fn(struct db *db, void *arg, struct err *err)
{
    struct bump *b = arg;
    int64_t size = -1;
    int rc = db_get_i64(db, &size, err, "SELECT size FROM item WHERE name = 'a'", "");
    if (rc == 0 && b->runs++ == 0) {
        (void)snprintf(b->f->sql, sizeof(b->f->sql), "UPDATE %s SET size = size + 100", b->f->table);
        assert_int_equal(store_write_sync(b->f->other, sql_fn, b->f->sql, NULL), 0);
    }
    return rc ? rc : db_exec(db, err, "UPDATE item SET size = ? WHERE name = 'a'", "i", size + 1);
}

static int size_fn(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT size FROM item WHERE name = 'a'", "");
}

/* req: PR-1 */
static void test_collision_runs_the_unit_again(void **state)
{
    struct fixture *f = *state;
    struct bump b = {f, 0};
    struct err err = ERR_INIT;
    int64_t size = 0;
    assert_int_equal(store_write_sync(f->store, sql_fn, (char *)"INSERT INTO item (name) VALUES ('a')", NULL), 0);
    assert_int_equal(store_write_sync(f->store, bump_fn, &b, &err), 0);
    assert_int_equal(err.code, ERR_OK);
    assert_int_equal(b.runs, 2);
    assert_int_equal(store_read_sync(f->store, size_fn, &size, NULL), 0);
    assert_int_equal(size, 101);
}

static int pid_fn(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT pg_backend_pid()", "");
}

static void hang_up(struct fixture *f, int64_t pid)
{
    (void)snprintf(f->sql, sizeof(f->sql), "SELECT pg_terminate_backend(%d)", (int)pid);
    assert_int_equal(store_write_sync(f->other, sql_fn, f->sql, NULL), 0);
}

static int torn_fn(struct db *db, void *arg, struct err *err)
{
    struct fixture *f = arg;
    int64_t pid = 0;
    int rc = sql_fn(db, (char *)"INSERT INTO item (name) VALUES ('torn')", err);
    if (rc == 0)
        rc = pid_fn(db, &pid, err);
    if (rc == 0)
        hang_up(f, pid);
    return rc ? rc : sql_fn(db, (char *)"INSERT INTO item (name) VALUES ('torn 2')", err);
}

static void test_lost_connection(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    int64_t pid = 0, n = -1;
    /* Between two units nobody notices. */
    assert_int_equal(store_write_sync(f->store, pid_fn, &pid, NULL), 0);
    hang_up(f, pid);
    assert_int_equal(store_write_sync(f->store, sql_fn, (char *)"INSERT INTO item (name) VALUES ('a')", NULL), 0);
    /* Inside of one it fails, and nothing of it stays. */
    assert_int_equal(store_write_sync(f->store, torn_fn, f, &err), -ERR_UNAVAILABLE);
    assert_true(err.retryable);
    assert_int_equal(store_read_sync(f->store, count_fn, &n, NULL), 0);
    assert_int_equal(n, 1);
    int rc = -1;
    for (int i = 0; rc < 0 && i < 100; i++) {
        rc = store_write_sync(f->store, sql_fn, (char *)"INSERT INTO item (name) VALUES ('b')", NULL);
        (void)usleep(50000);
    }
    assert_int_equal(rc, 0);
}

struct slow_commit {
    struct fixture *f;
    int64_t pid;
    int rc;
    struct err err;
};

static int slow_commit_fn(struct db *db, void *arg, struct err *err)
{
    struct slow_commit *s = arg;
    int rc = pid_fn(db, &s->pid, err);
    return rc ? rc : sql_fn(db, (char *)"INSERT INTO item (name) VALUES ('who knows')", err);
}

static void *commit_slowly(void *arg)
{
    struct slow_commit *s = arg;
    s->rc = store_write_sync(s->f->store, slow_commit_fn, s, &s->err);
    return NULL;
}

static int waits_fn(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'", "");
}

/* A trigger makes the commit take long enough to cut it. */
static void test_commit_that_was_cut_off(void **state)
{
    static const char *const slow[] = {
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER nap AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nap()",
    };
    struct fixture *f = *state;
    struct slow_commit s = {.f = f};
    pthread_t thread;
    int64_t waits = 0;
    for (size_t i = 0; i < ARRAY_LEN(slow); i++)
        assert_int_equal(store_write_sync(f->store, sql_fn, (char *)(uintptr_t)slow[i], NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, commit_slowly, &s), 0);
    for (int i = 0; waits == 0 && i < 500; i++) {
        assert_int_equal(store_read_sync(f->other, waits_fn, &waits, NULL), 0);
        (void)usleep(10000);
    }
    assert_int_equal(waits, 1);
    hang_up(f, s.pid);
    assert_int_equal(pthread_join(thread, NULL), 0);
    /* The server, asked again, knows that it came to nothing. */
    int64_t n = -1;
    assert_int_equal(s.rc, -ERR_UNAVAILABLE);
    assert_non_null(strstr(s.err.msg, "nothing was changed"));
    assert_int_equal(store_read_sync(f->store, count_fn, &n, NULL), 0);
    assert_int_equal(n, 0);
}

/* --- Between us and the server: the answer to a commit does not come through ---------------------------------------------------------- */

enum { PAIRS_MAX = 16 };
enum cut { CUT_NOTHING, CUT_ANSWER, CUT_FOR_GOOD };

struct relay {
    char dir[64];
    struct sockaddr_un server;
    int listener;
    struct {
        int ours, theirs;
        bool cut;
    } pairs[PAIRS_MAX];
    enum cut cut;
    bool stop;
    pthread_t thread;
};

static void drop_pair(struct relay *r, unsigned i)
{
    (void)close(r->pairs[i].ours);
    (void)close(r->pairs[i].theirs);
    r->pairs[i].ours = r->pairs[i].theirs = -1;
    r->pairs[i].cut = false;
}

static void take_pair(struct relay *r)
{
    unsigned i = 0;
    int fd = accept(r->listener, NULL, NULL), up = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (i < PAIRS_MAX && r->pairs[i].ours >= 0)
        i++;
    assert_true(i < PAIRS_MAX && fd >= 0 && connect(up, (struct sockaddr *)&r->server, sizeof(r->server)) == 0);
    r->pairs[i].ours = fd;
    r->pairs[i].theirs = up;
}

static void pass(struct relay *r, unsigned i, bool from_us)
{
    char buf[65536];
    int from = from_us ? r->pairs[i].ours : r->pairs[i].theirs, to = from_us ? r->pairs[i].theirs : r->pairs[i].ours;
    ssize_t n = read(from, buf, sizeof(buf));
    if (n > 0 && from_us && r->cut != CUT_NOTHING && memmem(buf, (size_t)n, "COMMIT", 6))
        r->pairs[i].cut = true;
    if (n > 0 && !(r->pairs[i].cut && !from_us)) {
        assert_int_equal(fd_write_all(to, buf, (size_t)n, NULL), 0);
        return;
    }
    bool answered = n > 0, all = r->cut == CUT_FOR_GOOD;
    drop_pair(r, i);
    if (!answered)
        return;
    r->cut = CUT_NOTHING;
    if (all) {
        (void)close(r->listener);
        r->listener = -1;
    }
}

static void *relay_run(void *arg)
{
    struct relay *r = arg;
    while (!__atomic_load_n(&r->stop, __ATOMIC_SEQ_CST)) {
        struct pollfd fds[1 + 2 * PAIRS_MAX] = {{.fd = r->listener, .events = POLLIN}};
        for (unsigned i = 0; i < PAIRS_MAX; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = r->pairs[i].ours, .events = POLLIN};
            fds[2 + 2 * i] = (struct pollfd){.fd = r->pairs[i].theirs, .events = POLLIN};
        }
        if (poll(fds, ARRAY_LEN(fds), 20) <= 0)
            continue;
        for (unsigned i = 0; i < 2 * PAIRS_MAX; i++)
            if (fds[1 + i].revents && (i % 2 ? r->pairs[i / 2].theirs : r->pairs[i / 2].ours) == fds[1 + i].fd)
                pass(r, i / 2, i % 2 == 0);
        if (fds[0].revents && r->listener >= 0)
            take_pair(r);
    }
    return NULL;
}

/* Between the server that @target names and who uses *ret_target. */
static struct relay *relay_start(const char *target, char *ret_target, size_t size)
{
    struct relay *r = calloc(1, sizeof(*r));
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    struct str rest = str_from(strstr(target, "host=") + 5), host = str_cut(&rest, '&');
    for (unsigned i = 0; i < PAIRS_MAX; i++)
        r->pairs[i].ours = r->pairs[i].theirs = -1;
    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/davit-relay-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    r->server.sun_family = AF_UNIX;
    (void)snprintf(r->server.sun_path, sizeof(r->server.sun_path), STR_FMT "/.s.PGSQL.5432", STR_ARG(host));
    (void)snprintf(own.sun_path, sizeof(own.sun_path), "%s/.s.PGSQL.5432", r->dir);
    (void)snprintf(ret_target, size, "postgres:///postgres?host=%s&" STR_FMT, r->dir, STR_ARG(rest));
    r->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(r->listener, (struct sockaddr *)&own, sizeof(own)), 0);
    assert_int_equal(listen(r->listener, 16), 0);
    assert_int_equal(pthread_create(&r->thread, NULL, relay_run, r), 0);
    return r;
}

static void relay_end(struct relay *r)
{
    __atomic_store_n(&r->stop, true, __ATOMIC_SEQ_CST);
    assert_int_equal(pthread_join(r->thread, NULL), 0);
    for (unsigned i = 0; i < PAIRS_MAX; i++)
        if (r->pairs[i].ours >= 0)
            drop_pair(r, i);
    if (r->listener >= 0)
        (void)close(r->listener);
    assert_int_equal(fd_remove_tree(r->dir, NULL), 0);
    free(r);
}

/* req: PR-1 */
static void test_answer_to_a_commit_lost(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char target[512];
    int64_t n = -1;
    struct relay *r = relay_start(f->place.target, target, sizeof(target));
    f->store = store_close(f->store);
    assert_int_equal(store_open(NULL, target, MIGRATIONS, 1, &f->store, &err), 0);
    /* It was done, and the server says so when it is asked over another connection. */
    r->cut = CUT_ANSWER;
    assert_int_equal(store_write_sync(f->store, sql_fn, (char *)"INSERT INTO item (name) VALUES ('a')", &err), 0);
    assert_int_equal(r->cut, CUT_NOTHING);
    assert_int_equal(store_read_sync(f->store, count_fn, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(store_write_sync(f->store, sql_fn, (char *)"INSERT INTO item (name) VALUES ('b')", &err), 0);
    /* Nobody answers any more: then nobody knows. */
    r->cut = CUT_FOR_GOOD;
    assert_int_equal(store_write_sync(f->store, sql_fn, (char *)"INSERT INTO item (name) VALUES ('c')", &err), -ERR_UNKNOWN);
    assert_non_null(strstr(err.msg, "may have been done or not"));
    f->store = store_close(f->store);
    relay_end(r);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_second_control_plane_refused), T(test_addresses), T(test_collision_runs_the_unit_again), T(test_lost_connection),
        T(test_commit_that_was_cut_off), T(test_answer_to_a_commit_lost),
    };
    return place_available() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
