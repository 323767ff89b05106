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

static int open_it(struct logfile *f)
{
    struct stat st;
    int fd = open(f->path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        errno = EINVAL;
        return -1;
    }
    (void)fchmod(fd, 0600);
    if (f->fd >= 0)
        (void)close(f->fd);
    f->fd = fd;
    f->size = (uint64_t)st.st_size;
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

static void put_aside(struct logfile *f)
{
    bool moved = f->conf.max_backups > 0;

    for (unsigned i = f->conf.max_backups; moved && i > 1; i--) {
        AUTO_FREE char *from = aside(f, i - 1);
        AUTO_FREE char *to = aside(f, i);
        (void)rename(from, to);
    }
    if (moved) {
        AUTO_FREE char *first = aside(f, 1);
        moved = rename(f->path, first) == 0 && open_it(f) == 0;
    }
    /* Nothing may be made here any more: the limit holds all the same. */
    if (!moved && ftruncate(f->fd, 0) == 0)
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
        put_aside(f);
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
