/* SPDX-License-Identifier: Apache-2.0 */
/* store — one writer and a few readers on one database, each used by the threads of its lane. */
#include "store/store.h"

#include <pthread.h>

#include "base/mem.h"
#include "loop/lane.h"
#include "store/engine.h"

/* Readers: one per thread of the read lane, and one for the _sync calls. */
enum { STORE_READ_THREADS = 2, STORE_READERS = STORE_READ_THREADS + 1 };

/* A connection and who may use it. */
struct slot {
    pthread_mutex_t mutex;
    struct db *db;
};

struct store {
    struct loop *loop;
    char *target;
    struct lane *write_lane, *read_lane;
    struct slot writer;
    struct slot readers[STORE_READERS];
};

/* What a caller's fiber waits for; lives on its stack, which lane_call keeps alive until the function ended. */
struct unit {
    struct store *store;
    bool write;
    store_fn *fn;
    void *arg;
    usec_t deadline;
    struct err *err;
    bool ran;
};

static int open_all(struct store *store, const struct store_migration *migrations, size_t n, struct err *err)
{
    int rc = engine_check_target(store->target, err);
    if (rc == 0)
        rc = engine_open(store->target, false, &store->writer.db, err);
    if (rc == 0)
        rc = store_migrate(store->writer.db, migrations, n, err);
    for (unsigned i = 0; rc == 0 && i < STORE_READERS; i++)
        rc = engine_open(store->target, true, &store->readers[i].db, err);
    return rc;
}

int store_open(struct loop *loop, const char *target, const struct store_migration *migrations, size_t n, struct store **ret, struct err *err)
{
    struct store *store = NEW(struct store);
    store->loop = loop;
    store->target = str_dup(str_from(target));
    BUG_ON(pthread_mutex_init(&store->writer.mutex, NULL) != 0);
    for (unsigned i = 0; i < STORE_READERS; i++)
        BUG_ON(pthread_mutex_init(&store->readers[i].mutex, NULL) != 0);
    int rc = open_all(store, migrations, n, err);
    if (rc < 0) {
        /* What stands in the address of a server is not told on. */
        rc = err && target[0] == '/' ? err_wrap(err, "%s", target) : rc;
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
    /* The writer goes last: the last connection folds the log into the file, and readers may not write. */
    for (unsigned i = 0; i < STORE_READERS; i++) {
        (void)engine_close(store->readers[i].db);
        (void)pthread_mutex_destroy(&store->readers[i].mutex);
    }
    (void)engine_close(store->writer.db);
    (void)pthread_mutex_destroy(&store->writer.mutex);
    free(store->target);
    free(store);
    return NULL;
}

static int on_slot(struct slot *slot, bool write, store_fn *fn, void *arg, usec_t deadline, struct err *err)
{
    (void)pthread_mutex_lock(&slot->mutex);
    int rc = engine_transaction(slot->db, write, fn, arg, deadline, err);
    (void)pthread_mutex_unlock(&slot->mutex);
    return rc;
}

/* One reader per thread of the lane, so one of them is always free for a job. */
static int on_reader(struct store *store, const struct unit *unit)
{
    struct slot *slot = NULL;
    for (unsigned i = 0; slot == NULL && i < STORE_READ_THREADS; i++) {
        if (pthread_mutex_trylock(&store->readers[i].mutex) == 0)
            slot = &store->readers[i];
    }
    BUG_ON(slot == NULL);
    int rc = engine_transaction(slot->db, false, unit->fn, unit->arg, unit->deadline, unit->err);
    (void)pthread_mutex_unlock(&slot->mutex);
    return rc;
}

/* On a thread of a lane. */
static int unit_run(void *arg)
{
    struct unit *unit = arg;
    unit->ran = true;
    if (unit->write)
        return on_slot(&unit->store->writer, true, unit->fn, unit->arg, unit->deadline, unit->err);
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

int store_write_sync(struct store *store, store_fn *fn, void *arg, struct err *err)
{
    return on_slot(&store->writer, true, fn, arg, USEC_INFINITY, err);
}

int store_read_sync(struct store *store, store_fn *fn, void *arg, struct err *err)
{
    return on_slot(&store->readers[STORE_READ_THREADS], false, fn, arg, USEC_INFINITY, err);
}

int store_limit_size(struct store *store, uint64_t bytes, struct err *err)
{
    (void)pthread_mutex_lock(&store->writer.mutex);
    int rc = engine_limit_size(store->writer.db, bytes, err);
    (void)pthread_mutex_unlock(&store->writer.mutex);
    return rc;
}
