/* SPDX-License-Identifier: Apache-2.0 */
/* logfile — see logfile.h. */
#include "base/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

#define LOOK_EVERY  USEC_SEC    /* is it still the file of its name? */
#define SWEEP_EVERY USEC_HOUR   /* what became too old */

struct logfile {
    struct logfile_conf conf;
    char *path;
    pthread_mutex_t lock;
    int fd; /* -1: it could not be opened */
    uint64_t size;
    usec_t looked, swept; /* monotonic */
};

/* @more: flags of open beyond the usual. */
static int open_file(const char *path, int more, uint64_t *ret_size)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | more, 0600);

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        errno = EINVAL;
        return -1;
    }
    (void)fchmod(fd, 0600);
    *ret_size = (uint64_t)st.st_size;
    return fd;
}

static void use(struct logfile *f, int fd, uint64_t size)
{
    if (f->fd >= 0)
        (void)close(f->fd);
    f->fd = fd;
    f->size = size;
}

static int open_it(struct logfile *f)
{
    uint64_t size = 0;
    int fd = open_file(f->path, 0, &size);

    if (fd < 0)
        return -1;
    use(f, fd, size);
    return 0;
}

static char *aside(const struct logfile *f, unsigned which)
{
    return str_printf("%s.%u", f->path, which);
}

/* What is beyond the number or the age that is kept. */
static void sweep(const struct logfile *f)
{
    for (unsigned i = 1; i <= LOGFILE_BACKUPS_MAX + 1; i++) {
        AUTO_FREE char *path = aside(f, i);
        struct stat st;
        if (lstat(path, &st) < 0) {
            if (i > f->conf.max_backups)
                return;
            continue;
        }
        usec_t changed = (usec_t)st.st_mtim.tv_sec * USEC_SEC;
        if (i > f->conf.max_backups || (f->conf.max_age && clock_add(changed, f->conf.max_age) < clock_real()))
            (void)unlink(path);
    }
}

/* The next file is there before one is moved: what was put aside is never written to, nor cut. 0; 1: not now, but another time; -1: it cannot be. */
static int begin_next(struct logfile *f)
{
    AUTO_FREE char *next = str_printf("%s.next", f->path);
    AUTO_FREE char *first = aside(f, 1);
    uint64_t size = 0;

    (void)unlink(next);
    int fd = open_file(next, O_EXCL, &size);
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOSPC || errno == EDQUOT || errno == EIO ? 1 : -1;
    for (unsigned i = f->conf.max_backups; i > 1; i--) {
        AUTO_FREE char *from = aside(f, i - 1);
        AUTO_FREE char *to = aside(f, i);
        (void)rename(from, to);
    }
    bool moved = rename(f->path, first) == 0;
    if (moved && rename(next, f->path) == 0) {
        use(f, fd, 0);
        return 0;
    }
    (void)close(fd);
    (void)unlink(next);
    return moved && rename(first, f->path) < 0 ? 1 : -1;
}

/* @n: bytes that are to come. */
static void put_aside(struct logfile *f, size_t n)
{
    int rc = f->conf.max_backups > 0 ? begin_next(f) : -1;

    /* Nothing may be made here any more: the limit holds all the same; where there is hope, twice the limit. */
    if ((rc < 0 || (rc > 0 && f->size + n > 2 * f->conf.max_bytes)) && ftruncate(f->fd, 0) == 0)
        f->size = 0;
    sweep(f);
}

static void look(struct logfile *f, usec_t now)
{
    struct stat here, there;

    f->looked = now;
    if (f->fd < 0 || fstat(f->fd, &here) < 0 || stat(f->path, &there) < 0 || here.st_dev != there.st_dev || here.st_ino != there.st_ino)
        (void)open_it(f);
    else
        f->size = (uint64_t)here.st_size; /* somebody may have cut it */
    if (now >= f->swept + SWEEP_EVERY) {
        f->swept = now;
        sweep(f);
    }
}

static int put(struct logfile *f, const char *line, size_t n)
{
    usec_t now = clock_mono();
    ssize_t done;

    if (now >= f->looked + LOOK_EVERY)
        look(f, now);
    if (f->fd >= 0 && f->size > 0 && f->size + n > f->conf.max_bytes)
        put_aside(f, n);
    if (f->fd < 0)
        return -1;
    do {
        done = write(f->fd, line, n);
    } while (done < 0 && errno == EINTR);
    if (done == (ssize_t)n) {
        f->size += n;
        return 0;
    }
    if (done > 0 && ftruncate(f->fd, (off_t)f->size) < 0)
        f->size += (uint64_t)done;
    return -1;
}

int logfile_put(struct logfile *f, const char *line, size_t n)
{
    int kept = errno;

    (void)pthread_mutex_lock(&f->lock);
    int rc = put(f, line, n);
    (void)pthread_mutex_unlock(&f->lock);
    errno = kept;
    return rc;
}

int logfile_open(const struct logfile_conf *conf, struct logfile **ret, struct err *err)
{
    struct logfile *f = NEW(struct logfile);

    f->conf = *conf;
    f->path = str_dup(str_from(conf->path));
    f->conf.path = f->path;
    f->fd = -1;
    if (f->conf.max_backups > LOGFILE_BACKUPS_MAX)
        f->conf.max_backups = LOGFILE_BACKUPS_MAX;
    (void)pthread_mutex_init(&f->lock, NULL);
    if (open_it(f) < 0) {
        int rc = err_sys(err, errno, "cannot open the log %s", f->path);
        (void)logfile_close(f);
        return rc;
    }
    f->looked = f->swept = clock_mono();
    sweep(f);
    *ret = f;
    return 0;
}

struct logfile *logfile_close(struct logfile *f)
{
    if (!f)
        return NULL;
    if (f->fd >= 0)
        (void)close(f->fd);
    (void)pthread_mutex_destroy(&f->lock);
    free(f->path);
    free(f);
    return NULL;
}
