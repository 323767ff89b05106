/* SPDX-License-Identifier: Apache-2.0 */
/* store — one writer and a few readers on one file, each used by the threads of its lane. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "store/store_internal.h"

/* What a caller's fiber waits for; lives on its stack, which lane_call keeps alive until the function ended. */
struct unit {
    struct store *store;
    bool write;
    store_fn *fn;
    void *arg;
    const char *backup_path; /* instead of fn */
    usec_t deadline;
    struct err *err;
    bool ran;
};

/* SQLite would make the file by umask; its -wal and -shm take over the mode of this one. */
static int make_file(const char *path, struct err *err)
{
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_sys(err, errno, "cannot open %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_PRECONDITION, "%s is not a file", path);
    if ((st.st_mode & 077) != 0 && fchmod(fd, 0600) != 0)
        return err_sys(err, errno, "cannot close %s to other users", path);
    return 0;
}

static int open_all(struct store *store, const struct store_migration *migrations, size_t n, struct err *err)
{
    int rc = make_file(store->path, err);
    if (rc == 0)
        rc = db_open(&store->writer, store->path, false, err);
    if (rc == 0)
        rc = store_migrate(&store->writer, migrations, n, err);
    for (unsigned i = 0; rc == 0 && i < STORE_READERS; i++)
        rc = db_open(&store->readers[i], store->path, true, err);
    return rc;
}

int store_open(struct loop *loop, const char *path, const struct store_migration *migrations, size_t n, struct store **ret, struct err *err)
{
    struct store *store = NEW(struct store);
    store->loop = loop;
    store->path = str_dup(str_from(path));
    int rc = open_all(store, migrations, n, err);
    if (rc < 0) {
        rc = err ? err_wrap(err, "%s", path) : rc;
        (void)store_close(store);
        return rc;
    }
    if (loop) {
        store->write_lane = lane_new(loop, "db-write", 1, STORE_QUEUE_MAX);
        store->read_lane = lane_new(loop, "db-read", STORE_READ_THREADS, STORE_QUEUE_MAX);
    }
    *ret = store;
    return 0;
}

struct store *store_close(struct store *store)
{
    if (store == NULL)
        return NULL;
    store->write_lane = lane_free(store->write_lane);
    store->read_lane = lane_free(store->read_lane);
    for (unsigned i = 0; i < STORE_READERS; i++)
        db_close(&store->readers[i]);
    /* The writer goes last: the last connection folds the log into the file, and readers may not write. */
    db_close(&store->writer);
    free(store->path);
    free(store);
    return NULL;
}

/* One reader per thread of the lane, so one of them is always free for a job. */
static int on_reader(struct store *store, struct unit *unit)
{
    struct db *db = NULL;
    for (unsigned i = 0; db == NULL && i < STORE_READ_THREADS; i++) {
        if (pthread_mutex_trylock(&store->readers[i].mutex) == 0)
            db = &store->readers[i];
    }
    BUG_ON(db == NULL);
    int rc = unit->backup_path ? db_backup_locked(db, unit->backup_path, unit->deadline, unit->err)
                               : db_transaction_locked(db, false, unit->fn, unit->arg, unit->deadline, unit->err);
    (void)pthread_mutex_unlock(&db->mutex);
    return rc;
}

/* On a thread of a lane. */
static int unit_run(void *arg)
{
    struct unit *unit = arg;
    unit->ran = true;
    if (unit->write)
        return db_transaction(&unit->store->writer, true, unit->fn, unit->arg, unit->deadline, unit->err);
    return on_reader(unit->store, unit);
}

static int unit_wait(struct unit *unit)
{
    struct store *store = unit->store;
    BUG_ON(store->loop == NULL);
    int rc = lane_call(unit->write ? store->write_lane : store->read_lane, unit_run, unit, unit->deadline);
    if (unit->ran || rc >= 0)
        return rc;
    if (rc == -ERR_EXHAUSTED)
        return err_set(unit->err, ERR_EXHAUSTED, "the database has %d jobs waiting", STORE_QUEUE_MAX);
    if (rc == -ERR_DEADLINE)
        return err_set(unit->err, ERR_DEADLINE, "the database did not get to it in time");
    return err_set(unit->err, ERR_CANCELLED, "cancelled before the database got to it");
}

int store_write(struct store *store, store_fn *fn, void *arg, usec_t deadline, struct err *err)
{
    struct unit unit = {.store = store, .write = true, .fn = fn, .arg = arg, .deadline = deadline, .err = err};
    return unit_wait(&unit);
}

int store_read(struct store *store, store_fn *fn, void *arg, usec_t deadline, struct err *err)
{
    struct unit unit = {.store = store, .fn = fn, .arg = arg, .deadline = deadline, .err = err};
    return unit_wait(&unit);
}

int store_backup(struct store *store, const char *path, usec_t deadline, struct err *err)
{
    struct unit unit = {.store = store, .backup_path = path, .deadline = deadline, .err = err};
    return unit_wait(&unit);
}

int store_write_sync(struct store *store, store_fn *fn, void *arg, struct err *err)
{
    return db_transaction(&store->writer, true, fn, arg, USEC_INFINITY, err);
}

int store_read_sync(struct store *store, store_fn *fn, void *arg, struct err *err)
{
    return db_transaction(&store->readers[STORE_READ_THREADS], false, fn, arg, USEC_INFINITY, err);
}

int store_backup_sync(struct store *store, const char *path, struct err *err)
{
    struct db *db = &store->readers[STORE_READ_THREADS];
    (void)pthread_mutex_lock(&db->mutex);
    int rc = db_backup_locked(db, path, USEC_INFINITY, err);
    (void)pthread_mutex_unlock(&db->mutex);
    return rc;
}

static int limit_fn(struct db *db, void *arg, struct err *err)
{
    const uint64_t *bytes = arg;
    int64_t page = 0;
    int rc = db_get_i64(db, &page, err, "PRAGMA page_size", "");
    if (rc < 0)
        return rc;
    AUTO_FREE char *sql = str_printf("PRAGMA max_page_count=%" PRIu64, *bytes / (uint64_t)page + 1);
    return db_script(db, sql, err);
}

int store_limit_size(struct store *store, uint64_t bytes, struct err *err)
{
    return store_write_sync(store, limit_fn, &bytes, err);
}
