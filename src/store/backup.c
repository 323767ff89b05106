/* SPDX-License-Identifier: Apache-2.0 */
/* backup — a consistent copy of a database that is in use.
 * The copy is taken from one read snapshot, so a busy writer cannot make it start over; it appears under its name only when it is whole and
 * on disk. */
#include "store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"

enum { BACKUP_PAGES = 256 };

static int copy_pages(struct db *db, sqlite3 *to, struct err *err)
{
    sqlite3_backup *copy = sqlite3_backup_init(to, "main", db->handle, "main");
    if (copy == NULL)
        return db_fail(to, sqlite3_errcode(to), err);
    int rc;
    while ((rc = sqlite3_backup_step(copy, BACKUP_PAGES)) == SQLITE_OK) {
        if (db->deadline != USEC_INFINITY && clock_mono() >= db->deadline) {
            rc = SQLITE_INTERRUPT;
            break;
        }
    }
    (void)sqlite3_backup_finish(copy);
    return rc == SQLITE_DONE ? 0 : db_fail(rc == SQLITE_INTERRUPT ? NULL : to, rc, err);
}

/* Unit of work on a reader; @arg is the path. */
static int backup_fn(struct db *db, void *arg, struct err *err)
{
    const char *path = arg;
    int64_t tables = 0;
    /* BEGIN alone takes no snapshot: the first read does. */
    int rc = db_get_i64(db, &tables, err, "SELECT count(*) FROM schema_migrations", "");
    if (rc < 0)
        return rc;
    sqlite3 *to = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    rc = sqlite3_open_v2(path, &to, flags, NULL);
    rc = rc == SQLITE_OK ? copy_pages(db, to, err) : db_fail(to, rc, err);
    if (sqlite3_close(to) != SQLITE_OK && rc == 0)
        rc = err_set(err, ERR_INTERNAL, "the copy cannot be closed");
    return rc;
}

static int make_empty(const char *path, struct err *err)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove %s", path);
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? err_sys(err, errno, "cannot make %s", path) : 0;
}

static int file_sync(const char *path, struct err *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return err_sys(err, errno, "cannot sync %s", path);
    return 0;
}

int db_backup_locked(struct db *db, const char *path, usec_t deadline, struct err *err)
{
    AUTO_FREE char *tmp = str_printf("%s.tmp", path);
    int rc = make_empty(tmp, err);
    if (rc < 0)
        return rc;
    rc = db_transaction_locked(db, false, backup_fn, tmp, deadline, err);
    if (rc == 0)
        rc = file_sync(tmp, err);
    if (rc == 0 && rename(tmp, path) != 0)
        rc = err_sys(err, errno, "cannot rename %s", tmp);
    if (rc < 0) {
        (void)unlink(tmp);
        return rc;
    }
    return fd_sync_parent(path, err);
}
