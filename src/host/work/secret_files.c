/* SPDX-License-Identifier: Apache-2.0 */
/* secret_files — see secret_files.h. Everything is opened step by step below a folder that was looked at, never by a path that may have changed. */
#include "host/work/secret_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"

enum { PLACES_MAX = 4, NAME_LIMIT = 200, DIRS_MAX = 4096 };

bool secret_files_any(const Davit__Common__V1__ServiceSpec *spec)
{
    for (size_t i = 0; i < spec->n_env; i++)
        if (*spec->env[i]->file)
            return true;
    return false;
}

/* A name of one folder, with nothing that leads elsewhere. */
static bool is_name(const char *s)
{
    return *s && *s != '.' && strlen(s) <= NAME_LIMIT && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == strlen(s);
}

/* --- Where ------------------------------------------------------------------------------------------------------------------------------ */

struct place {
    char *root; /* is there */
    char *base; /* our folder in it, or NULL: @root is ours */
};

static size_t places(struct place ret[PLACES_MAX])
{
    const char *runtime = getenv("RUNTIME_DIRECTORY"), *xdg = getenv("XDG_RUNTIME_DIR");
    size_t n = 0;
    /* Who gave us one wants it there; systemd writes several with colons between. */
    if (runtime && runtime[0] == '/' && !strchr(runtime, ':')) {
        ret[n++] = (struct place){str_dup(str_from(runtime)), NULL};
        return n;
    }
    if (geteuid() == 0)
        ret[n++] = (struct place){str_dup(STR("/run")), str_dup(STR("davit-agent"))};
    else if (xdg && xdg[0] == '/')
        ret[n++] = (struct place){str_dup(str_from(xdg)), str_dup(STR("davit-agent"))};
    ret[n++] = (struct place){str_dup(STR("/dev/shm")), str_printf("davit-agent-%u", (unsigned)geteuid())};
    return n;
}

static void places_release(struct place *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(p[i].root);
        free(p[i].base);
    }
}

static bool in_memory(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/* Ours, and closed to others? What is open to them by a umask of before is closed. */
static bool is_private(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return false;
    return (st.st_mode & 077) == 0 || fchmod(fd, 0700) == 0;
}

/* Opens @name below @at, making it if @make. Closes @at. The folder or -1. */
static int step(int at, const char *name, bool make)
{
    if (make && mkdirat(at, name, 0700) < 0 && errno != EEXIST) {
        (void)close(at);
        return -1;
    }
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    (void)close(at);
    if (fd >= 0 && (!is_private(fd) || !in_memory(fd))) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* The folder of this server's containers at @p, or -1. */
static int open_place(const struct work *w, const struct place *p, bool make)
{
    int fd = open(p->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && (!in_memory(fd) || (!p->base && !is_private(fd)))) {
        (void)close(fd);
        return -1;
    }
    if (fd >= 0 && p->base)
        fd = step(fd, p->base, make);
    if (fd >= 0)
        fd = step(fd, "secrets", make);
    return fd >= 0 ? step(fd, w->server_id, make) : -1;
}

static char *path_of(const struct work *w, const struct place *p, const char *container)
{
    return str_printf("%s%s%s/secrets/%s/%s", p->root, p->base ? "/" : "", p->base ? p->base : "", w->server_id, container);
}

/* --- Writing ------------------------------------------------------------------------------------------------------------------------------- */

static int write_one(int dir, const Davit__Common__V1__EnvVar *v, struct err *err)
{
    AUTO_FREE char *part = str_printf(".%s", v->file);
    const char *p = v->value;
    size_t left = strlen(p);
    int fd = openat(dir, part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "the secret file %s cannot be made", v->file);
    ssize_t n = 0;
    while (left && ((n = write(fd, p, left)) > 0 || (n < 0 && errno == EINTR))) {
        p += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
    int rc = 0;
    if (left || fchmod(fd, 0444) < 0)
        rc = err_sys(err, errno, "the secret file %s cannot be written", v->file);
    (void)close(fd);
    if (rc == 0 && renameat(dir, part, dir, v->file) < 0)
        rc = err_sys(err, errno, "the secret file %s cannot be put in its place", v->file);
    if (rc < 0)
        (void)unlinkat(dir, part, 0);
    return rc;
}

static int write_all(int parent, const Davit__Common__V1__ServiceSpec *spec, const char *container, struct err *err)
{
    int rc = 0;
    if (mkdirat(parent, container, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "the folder for secret files of %s cannot be made", container);
    int dir = openat(parent, container, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* The container's user goes through this one; nobody else comes as far. */
    if (dir < 0 || fchmod(dir, 0755) < 0)
        rc = err_sys(err, errno, "the folder for secret files of %s cannot be opened", container);
    for (size_t i = 0; rc == 0 && i < spec->n_env; i++)
        if (*spec->env[i]->file)
            rc = write_one(dir, spec->env[i], err);
    if (dir >= 0)
        (void)close(dir);
    return rc;
}

int secret_files_write(const struct work *w, const Davit__Common__V1__ServiceSpec *spec, const char *container, char **ret_dir, struct err *err)
{
    struct place all[PLACES_MAX];
    int rc, fd = -1;
    if (ret_dir)
        *ret_dir = NULL;
    if (!secret_files_any(spec))
        return 0;
    if (!is_name(container) || !is_name(w->server_id))
        return err_set(err, ERR_INVALID, "\"%.80s\" is no name for a folder of secret files", container);
    size_t n = places(all), i = 0;
    while (i < n && (fd = open_place(w, &all[i], true)) < 0)
        i++;
    if (fd < 0) {
        rc = err_set(err, ERR_PRECONDITION, "secret files need a folder in memory, and there is none that belongs to this agent alone");
        err_hint(err, "/run of this machine must be a tmpfs; or deliver the variables in the environment");
    } else {
        rc = write_all(fd, spec, container, err);
        (void)close(fd);
        if (rc == 0 && ret_dir)
            *ret_dir = path_of(w, &all[i], container);
    }
    places_release(all, n);
    return rc;
}

/* --- Removing -------------------------------------------------------------------------------------------------------------------------------- */

static void empty_dir(int fd)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        (void)close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            (void)unlinkat(dirfd(d), e->d_name, 0);
    (void)closedir(d);
}

static void remove_below(int parent, const char *container)
{
    int fd = openat(parent, container, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    empty_dir(fd);
    (void)unlinkat(parent, container, AT_REMOVEDIR);
}

/* Calls @fn with the folder of this server's containers in each place where there is one. */
static void each_place(const struct work *w, void (*fn)(int parent, void *arg), void *arg)
{
    struct place all[PLACES_MAX];
    if (!is_name(w->server_id))
        return;
    size_t n = places(all);
    for (size_t i = 0; i < n; i++) {
        int fd = open_place(w, &all[i], false);
        if (fd < 0)
            continue;
        fn(fd, arg);
        (void)close(fd);
    }
    places_release(all, n);
}

/* Is it a folder in which nothing was written at @until or later? */
static bool is_older(int parent, const char *name, usec_t until)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
        return false;
    return (usec_t)st.st_mtim.tv_sec * USEC_SEC + (usec_t)st.st_mtim.tv_nsec / 1000 < until;
}

struct removal {
    const char *container;
    usec_t until;
};

static void remove_fn(int parent, void *arg)
{
    const struct removal *r = arg;
    if (is_older(parent, r->container, r->until))
        remove_below(parent, r->container);
}

void secret_files_remove(const struct work *w, const char *container, usec_t until)
{
    struct removal r = {container, until};
    if (is_name(container))
        each_place(w, remove_fn, &r);
}

struct sweep {
    bool (*keep)(void *arg, const char *container);
    void *arg;
};

static void sweep_fn(int parent, void *arg)
{
    const struct sweep *s = arg;
    int copy = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (!d) {
        if (copy >= 0)
            (void)close(copy);
        return;
    }
    struct dirent *e;
    usec_t now = clock_real(), until = now > SECRET_FILES_YOUNG ? now - SECRET_FILES_YOUNG : 0;
    for (int i = 0; i < DIRS_MAX && (e = readdir(d)); i++)
        if (is_name(e->d_name) && is_older(parent, e->d_name, until) && !s->keep(s->arg, e->d_name))
            remove_below(parent, e->d_name);
    (void)closedir(d);
}

void secret_files_sweep(const struct work *w, bool (*keep)(void *arg, const char *container), void *arg)
{
    struct sweep s = {keep, arg};
    each_place(w, sweep_fn, &s);
}
