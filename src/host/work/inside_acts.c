/* SPDX-License-Identifier: Apache-2.0 */
/* inside_acts — see inside.h: list, remove, put in place. What begins with job_ runs on the lane, in parts that end soon. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/work/inside_internal.h"

enum { SLICE_ENTRIES = 2000, LINKS_MAX = 16, REAL_SIZE = 3 * 4096, COPY_SLICE = 16 * 1024 * 1024 };
#define JOB_WAIT (10 * USEC_MINUTE)

static int open2(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .mode = flags & O_CREAT ? 0600 : 0,
                           .resolve = resolve | RESOLVE_NO_MAGICLINKS};
    long fd;
    unsigned tries = 0;
    do
        fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || errno == EAGAIN) && ++tries < 1000); /* something was renamed on the way */
    return (int)fd;
}

static int failed(struct inside *in, int errnum, const char *what)
{
    static const struct {
        int errnum;
        enum err_code code;
        const char *text;
    } known[] = {
        {ENOENT, ERR_NOT_FOUND, "is not there"},
        {ENOTDIR, ERR_INVALID, "is no folder, or on the way to it is something that is none"},
        {ENOTEMPTY, ERR_PRECONDITION, "is not empty"},
        {EROFS, ERR_PRECONDITION, "is on a read-only file system"},
        {EBUSY, ERR_PRECONDITION, "is a mount of its own"},
        {EXDEV, ERR_PRECONDITION, "has a mount in it"},
        {ELOOP, ERR_INVALID, "leads through too many links"},
        {ENOSPC, ERR_EXHAUSTED, "does not fit: the disk is full"},
        {EDQUOT, ERR_EXHAUSTED, "does not fit: the quota is used up"},
        {EPERM, ERR_DENIED, "may not be changed"},
        {EACCES, ERR_DENIED, "may not be changed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (known[i].errnum == errnum)
            return err_set(&in->err, known[i].code, "%s %s", what, known[i].text);
    return err_sys(&in->err, errnum, "%s", what);
}

static int leads_out(struct inside *in)
{
    return err_set(&in->err, ERR_PRECONDITION, "a link on the way to %s leads out of the volume; name it by the path where that leads", in->whole);
}

/* Opens the folder @path below the root, negative with in->err. */
static int open_below(struct inside *in, const char *path, uint64_t flags)
{
    path += in->part ? strspn(path, "/") : 0;
    int fd = open2(in->root, *path ? path : ".", flags | O_DIRECTORY, in->part ? RESOLVE_BENEATH : RESOLVE_IN_ROOT);
    if (fd >= 0)
        return fd;
    return in->part && errno == EXDEV ? leads_out(in) : failed(in, errno, in->whole);
}

/* Where @fd is, as seen from the root. */
static int real_path(const struct inside *in, int fd, char dst[REAL_SIZE])
{
    char link[64], root[REAL_SIZE];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", in->root);
    ssize_t n = readlink(link, root, sizeof(root) - 1);
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t m = readlink(link, dst, REAL_SIZE - 1);
    if (n <= 0 || m <= 0)
        return -(int)ERR_UNKNOWN;
    root[n] = dst[m] = '\0';
    if (!inside_below(root, dst))
        return -(int)ERR_UNKNOWN;
    if (n > 1) {
        memmove(dst, dst + n, (size_t)(m - n) + 1);
        if (!*dst)
            (void)str_copy(dst, REAL_SIZE, STR("/"));
    }
    return 0;
}

/* What a volume covers while the container runs is not what was meant. */
static int judge_place(struct inside *in, const char *real)
{
    for (size_t i = 0; i < in->n_mounts; i++)
        if (inside_below(in->mounts[i], real))
            return err_set(&in->err, ERR_PRECONDITION, "%s leads into what is mounted at %s; name it by that path", in->whole,
                           in->mounts[i]);
    return 0;
}

/* Is something mounted on @leaf? The kernel lets nobody remove or replace what is mounted on where he sees the mount, but we are outside of the
 * container: its mount would be torn off, and with it the volume or the file of a running program. */
static bool is_mount(int dir, const char *leaf)
{
    int fd = open2(dir, leaf, O_PATH | O_NOFOLLOW, RESOLVE_BENEATH | RESOLVE_NO_XDEV);
    int errnum = errno;
    if (fd >= 0)
        (void)close(fd);
    return fd < 0 && errnum == EXDEV;
}

/* A folder that was opened, and a name in it. */
struct spot {
    int dir;
    char leaf[FILES_NAME_MAX + 1];
    char real[REAL_SIZE]; /* of both */
};

static int spot_of(struct inside *in, struct str path, struct spot *s)
{
    size_t at = path.n;
    while (at > 0 && path.p[at - 1] != '/')
        at--;
    struct str leaf = {path.p + at, path.n - at};
    AUTO_FREE char *folder = str_dup((struct str){path.p, at});
    if (leaf.n == 0 || leaf.n > FILES_NAME_MAX || str_eq(leaf, STR(".")) || str_eq(leaf, STR("..")))
        return err_set(&in->err, ERR_INVALID, "%s is not the name of a file", in->whole);
    (void)str_copy(s->leaf, sizeof(s->leaf), leaf);
    s->dir = open_below(in, folder, O_PATH);
    if (s->dir < 0)
        return s->dir;
    if (real_path(in, s->dir, s->real) < 0)
        return err_set(&in->err, ERR_PRECONDITION, "%s was moved meanwhile", in->whole);
    size_t n = strlen(s->real);
    if (n + leaf.n + 2 > sizeof(s->real))
        return err_set(&in->err, ERR_INVALID, "the path is too long");
    (void)snprintf(s->real + n, sizeof(s->real) - n, "%s%s", n > 1 ? "/" : "", s->leaf);
    return judge_place(in, s->real);
}

static void spot_close(struct spot *s)
{
    if (s->dir >= 0)
        (void)close(s->dir);
    s->dir = -1;
}

/* --- List ---- */

struct listing {
    struct inside *in;
    struct files_list list;
};

static int list_one(struct listing *l, DIR *d, const char *name)
{
    struct stat st;
    char target[FILES_PATH_MAX + 1];
    Davit__Common__V1__FileEntry e = DAVIT__COMMON__V1__FILE_ENTRY__INIT;
    ssize_t n = 0;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return 0; /* gone already */
    if (S_ISLNK(st.st_mode))
        n = readlinkat(dirfd(d), name, target, sizeof(target));
    e.kind = (char *)(uintptr_t)(S_ISREG(st.st_mode)   ? "file"
                                 : S_ISDIR(st.st_mode) ? "dir"
                                 : S_ISLNK(st.st_mode) ? "symlink"
                                                       : "other");
    e.size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    e.mode = st.st_mode & 07777;
    e.uid = st.st_uid;
    e.gid = st.st_gid;
    e.modified_us = st.st_mtim.tv_sec > 0 ? (uint64_t)st.st_mtim.tv_sec * USEC_SEC + (uint64_t)st.st_mtim.tv_nsec / 1000 : 0;
    return files_list_add(&l->list, str_from(name), &e, (struct str){target, n > 0 ? (size_t)n : 0});
}

static int job_list(void *arg)
{
    struct listing *l = arg;
    struct inside *in = l->in;
    char real[REAL_SIZE];
    int fd = open_below(in, in->path, O_RDONLY | O_NONBLOCK), rc = 0;
    if (fd < 0)
        return fd;
    if (real_path(in, fd, real) == 0)
        rc = judge_place(in, real);
    DIR *d = rc == 0 ? fdopendir(fd) : NULL;
    if (!d) {
        (void)close(fd);
        return rc < 0 ? rc : failed(in, errno, in->whole);
    }
    for (const struct dirent *e; rc == 0 && (e = readdir(d));)
        rc = list_one(l, d, e->d_name);
    (void)closedir(d);
    files_list_done(&l->list);
    return 0;
}

static int run(struct inside *in, int (*fn)(void *), void *arg, struct err *err)
{
    int rc;
    in->err = ERR_INIT;
    while ((rc = lane_call(in->lane, fn, arg, deadline_in(JOB_WAIT))) == 1)
        if (fiber_cancelled())
            return -(int)ERR_CANCELLED;
    if (rc < 0 && err)
        *err = in->err;
    return rc;
}

int inside_list(struct inside *in, Davit__Link__V1__FileEnd **ret, struct err *err)
{
    struct listing l = {.in = in, .list = files_list_new()};
    int rc = run(in, job_list, &l, err);
    *ret = l.list.end;
    return rc;
}

/* --- Remove ---- */

bool inside_is_top(const char *path)
{
    static const char *const tops[] = {"/",          "/bin",       "/boot",     "/dev",       "/etc",     "/home",
                                       "/lib",       "/lib32",     "/lib64",    "/libx32",    "/mnt",     "/opt",
                                       "/proc",      "/root",      "/run",      "/sbin",      "/srv",     "/sys",
                                       "/tmp",       "/usr",       "/var",      "/media",     "/usr/bin", "/usr/lib",
                                       "/usr/lib64", "/usr/local", "/usr/sbin", "/usr/share", "/var/lib"};
    for (size_t i = 0; i < ARRAY_LEN(tops); i++)
        if (strcmp(path, tops[i]) == 0)
            return true;
    return false;
}

struct removal {
    struct inside *in;
    bool recursive;
    unsigned left; /* of this slice */
};

/* What is in the folder @dir, which is closed. 0; 1: not all yet. */
static int empty(struct removal *r, int fd, unsigned depth)
{
    struct inside *in = r->in;
    DIR *d = fdopendir(fd);
    int rc = 0;
    if (!d) {
        (void)close(fd);
        return failed(in, errno, in->whole);
    }
    for (const struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (r->left-- == 0) {
            rc = 1;
            break;
        }
        if (is_mount(dirfd(d), e->d_name)) {
            rc = failed(in, EXDEV, in->whole);
            break;
        }
        if (unlinkat(dirfd(d), e->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR && errno != EPERM) {
            rc = failed(in, errno, in->whole);
            break;
        }
        if (depth >= FILES_DEPTH_MAX) {
            rc = err_set(&in->err, ERR_EXHAUSTED, "%s has folders more than %d deep in each other", in->whole, FILES_DEPTH_MAX);
            break;
        }
        int sub = open2(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK,
                        RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
        if (sub < 0) /* EPERM of a file that may not go, or a link by now */
            rc = failed(in, errno == ENOTDIR || errno == ELOOP ? EPERM : errno, in->whole);
        else
            rc = empty(r, sub, depth + 1);
        if (rc == 0 && unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) != 0 && errno != ENOENT)
            rc = failed(in, errno, in->whole);
    }
    (void)closedir(d);
    return rc;
}

static int remove_folder(struct removal *r, struct spot *s)
{
    struct inside *in = r->in;
    int rc = 0;
    if (r->recursive) {
        int fd = open2(s->dir, s->leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK,
                       RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
        rc = fd < 0 ? failed(in, errno == EXDEV ? EBUSY : errno, in->whole) : empty(r, fd, 1);
    }
    if (rc == 0 && unlinkat(s->dir, s->leaf, AT_REMOVEDIR) != 0)
        rc = failed(in, errno, in->whole);
    if (rc == -(int)ERR_PRECONDITION && !r->recursive)
        err_hint(&in->err, "a folder with what is in it: --recursive");
    return rc;
}

static int job_remove(void *arg)
{
    struct removal *r = arg;
    struct inside *in = r->in;
    AUTO_FREE struct spot *s = NEW(struct spot);
    struct stat st;
    int rc;
    s->dir = -1;
    r->left = SLICE_ENTRIES;
    if (in->read_only)
        return failed(in, EROFS, in->whole);
    if (inside_is_top(in->whole))
        return err_set(&in->err, ERR_DENIED, "%s is not removed: no container can do without it", in->whole);
    if (strcmp(in->path, "/") == 0)
        return failed(in, EBUSY, in->whole);
    rc = spot_of(in, str_from(in->path), s);
    if (rc == 0 && (in->hold || !in->folder) && inside_is_top(s->real)) /* in a volume's own place such names mean nothing */
        rc = err_set(&in->err, ERR_DENIED, "%s is not removed: it is %s, which no container can do without", in->whole, s->real);
    if (rc == 0 && fstatat(s->dir, s->leaf, &st, AT_SYMLINK_NOFOLLOW) != 0)
        rc = failed(in, errno, in->whole);
    if (rc == 0 && is_mount(s->dir, s->leaf))
        rc = failed(in, EBUSY, in->whole);
    if (rc == 0 && S_ISDIR(st.st_mode))
        rc = remove_folder(r, s);
    else if (rc == 0 && unlinkat(s->dir, s->leaf, 0) != 0)
        rc = failed(in, errno, in->whole);
    spot_close(s);
    return rc;
}

int inside_remove(struct inside *in, bool recursive, struct err *err)
{
    struct removal r = {.in = in, .recursive = recursive};
    return run(in, job_remove, &r, err);
}

/* --- Put in place ---- */

struct placing {
    struct inside *in;
    int from, to;
    uint64_t size, done;
    struct inside_owner owner;
    struct spot spot;
    char name[32]; /* until it is whole */
};

/* Follows links, which may lead anywhere below the root; *ret_there: something is there. */
static int find_target(struct placing *p, struct stat *st, bool *ret_there)
{
    struct inside *in = p->in;
    AUTO_FREE char *path = str_dup(str_from(in->path));
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        char target[FILES_PATH_MAX + 1];
        spot_close(&p->spot);
        int rc = spot_of(in, str_from(path), &p->spot);
        if (rc < 0)
            return rc;
        *ret_there = fstatat(p->spot.dir, p->spot.leaf, st, AT_SYMLINK_NOFOLLOW) == 0;
        if (!*ret_there || !S_ISLNK(st->st_mode))
            return 0;
        ssize_t n = readlinkat(p->spot.dir, p->spot.leaf, target, sizeof(target) - 1);
        if (n <= 0)
            return failed(in, n < 0 ? errno : EINVAL, in->whole);
        target[n] = '\0';
        if (in->part && *target == '/')
            return leads_out(in);
        struct str folder = {path, (size_t)(strrchr(path, '/') - path) + 1};
        char *next = str_printf(STR_FMT "%s", STR_ARG(*target == '/' ? STR("") : folder), target);
        free(path);
        path = next;
    }
    return failed(in, ELOOP, in->whole);
}

static int begin_placing(struct placing *p)
{
    struct inside *in = p->in;
    struct stat st;
    uint64_t random;
    bool there = false;
    int rc = in->read_only                ? failed(in, EROFS, in->whole)
             : strcmp(in->path, "/") == 0 ? failed(in, EBUSY, in->whole)
                                          : find_target(p, &st, &there);
    if (rc < 0)
        return rc;
    if (there && !S_ISREG(st.st_mode))
        return err_set(&in->err, ERR_PRECONDITION, "%s is %s", in->whole, S_ISDIR(st.st_mode) ? "a folder" : "no file");
    if (there && is_mount(p->spot.dir, p->spot.leaf))
        return failed(in, EBUSY, in->whole);
    if (p->owner.mode == 0)
        p->owner = there ? (struct inside_owner){st.st_mode & 07777, st.st_uid, st.st_gid} : (struct inside_owner){0644, 0, 0};
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return failed(in, errno, "random numbers");
    (void)snprintf(p->name, sizeof(p->name), ".davit-%016llx", (unsigned long long)random);
    p->to = open2(p->spot.dir, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, RESOLVE_BENEATH);
    return p->to < 0 ? failed(in, errno, in->whole) : 0;
}

static int end_placing(struct placing *p)
{
    struct inside *in = p->in;
    if (fchown(p->to, p->owner.uid, p->owner.gid) != 0 || fchmod(p->to, p->owner.mode & 07777) != 0 || fsync(p->to) != 0)
        return failed(in, errno, in->whole);
    if (renameat(p->spot.dir, p->name, p->spot.dir, p->spot.leaf) != 0)
        return failed(in, errno == EISDIR ? EBUSY : errno, in->whole);
    p->name[0] = '\0';
    return 0;
}

static int job_place(void *arg)
{
    struct placing *p = arg;
    struct inside *in = p->in;
    int rc = p->to < 0 ? begin_placing(p) : 0;
    for (uint64_t slice = COPY_SLICE; rc == 0 && p->done < p->size;) {
        uint64_t left = p->size - p->done;
        off_t at = (off_t)p->done;
        ssize_t n = sendfile(p->to, p->from, &at, (size_t)(left < slice ? left : slice));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? failed(in, errno, in->whole) : err_set(&in->err, ERR_DATA_LOSS, "the bytes that had come are gone");
        p->done += (uint64_t)n;
        slice -= (uint64_t)n;
        if (slice == 0)
            return 1;
    }
    return rc == 0 ? end_placing(p) : rc;
}

static int job_placed(void *arg)
{
    struct placing *p = arg;
    if (p->to >= 0 && p->name[0])
        (void)unlinkat(p->spot.dir, p->name, 0);
    if (p->to >= 0)
        (void)close(p->to);
    spot_close(&p->spot);
    return 0;
}

int inside_place(struct inside *in, int fd, uint64_t size, const struct inside_owner *owner, struct err *err)
{
    AUTO_FREE struct placing *p = NEW(struct placing);
    *p = (struct placing){.in = in, .from = fd, .to = -1, .size = size, .owner = *owner, .spot = {.dir = -1}};
    int rc = run(in, job_place, p, err);
    (void)job_placed(p); /* here: a cancelled fiber gets nothing onto a lane, and these calls do not wait long */
    return rc;
}
