/* SPDX-License-Identifier: Apache-2.0 */
/* fd — whole files and trees, see fd.h. */
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/str.h"

enum { READ_CHUNK = 16384, TREE_FDS = 48, TREE_PASSES = 1000 };

static ssize_t read_some(int fd, void *p, size_t n)
{
    ssize_t got;

    do {
        got = read(fd, p, n);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* Appends what @fd still has. At the limit one more byte is asked for, to tell a full buffer from a longer file. */
static int read_rest(int fd, const char *path, struct buf *out, struct err *err)
{
    for (;;) {
        size_t room = out->max - out->len, want = room < READ_CHUNK ? room : READ_CHUNK;
        char extra;
        ssize_t got;

        if (room == 0) {
            got = read_some(fd, &extra, 1);
            if (got > 0)
                return err_set(err, ERR_EXHAUSTED, "%s is larger than %zu bytes", path, out->max);
        } else {
            void *p = buf_reserve(out, want);
            if (p == NULL)
                return err_set(err, ERR_EXHAUSTED, "%s is larger than %zu bytes", path, out->max);
            got = read_some(fd, p, want);
            if (got > 0)
                buf_commit(out, (size_t)got);
        }
        if (got < 0)
            return err_sys(err, errno, "cannot read %s", path);
        if (got == 0)
            return 0;
    }
}

int fd_read_file(const char *path, struct buf *out, struct err *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    size_t before = out->len;
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "cannot open %s", path);
    rc = read_rest(fd, path, out, err);
    if (rc < 0 && out->data != NULL) {
        out->len = before;
        out->data[before] = '\0';
    }
    return rc;
}

int fd_write_all(int fd, const void *p, size_t n, struct err *err)
{
    const char *at = p;

    while (n > 0) {
        ssize_t done = write(fd, at, n);
        if (done < 0) {
            if (errno == EINTR)
                continue;
            return err_sys(err, errno, "cannot write");
        }
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int fd_sync_parent(const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *dir = slash == NULL ? str_dup(STR("."))
                                        : str_dup((struct str){path, slash == path ? 1 : (size_t)(slash - path)});
    AUTO_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    /* Some file systems cannot flush a directory and say EINVAL; there is nothing more to do on those. */
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
        return err_sys(err, errno, "cannot flush directory %s", dir);
    return 0;
}

/* Everything up to the rename; the caller removes @tmp on failure. */
static int write_temp(const char *tmp, const void *p, size_t n, mode_t mode, struct err *err)
{
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "cannot create %s", tmp);
    rc = fd_write_all(fd, p, n, err);
    if (rc < 0)
        return err_wrap(err, "%s", tmp);
    /* The final mode is given by descriptor, past the umask, and only when the content is there. */
    if (fchmod(fd, mode) < 0)
        return err_sys(err, errno, "cannot set the mode of %s", tmp);
    if (fsync(fd) < 0)
        return err_sys(err, errno, "cannot flush %s", tmp);
    return 0;
}

int fd_write_file(const char *path, const void *p, size_t n, mode_t mode, struct err *err)
{
    unsigned char tag[8];
    char hex[2 * sizeof(tag) + 1];
    int rc;

    rng_bytes(tag, sizeof(tag));
    str_hex(tag, sizeof(tag), hex);
    AUTO_FREE char *tmp = str_printf("%s.%s.tmp", path, hex);
    rc = write_temp(tmp, p, n, mode, err);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = err_sys(err, errno, "cannot replace %s", path);
    if (rc < 0) {
        (void)unlink(tmp);
        return rc;
    }
    return fd_sync_parent(path, err);
}

bool fd_is_unfinished(struct str name, struct str of)
{
    static const struct str end = {".tmp", 4};
    const size_t tag = 16;
    if (!str_starts(name, of) || name.n != of.n + 1 + tag + end.n || name.p[of.n] != '.' || !str_ends(name, end))
        return false;
    for (size_t i = of.n + 1; i < name.n - end.n; i++)
        if (!strchr("0123456789abcdef", name.p[i]) || !name.p[i])
            return false;
    return true;
}

/* The last step of fd_mkdir_p: it must be a directory, and no more open than asked for. */
static int narrow(const char *path, mode_t mode, struct err *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot open directory %s", path);
    if ((st.st_mode & 0777 & ~mode) != 0 && fchmod(fd, st.st_mode & mode & 07777) < 0)
        return err_sys(err, errno, "cannot narrow the mode of %s", path);
    return 0;
}

int fd_mkdir_p(const char *path, mode_t mode, struct err *err)
{
    AUTO_FREE char *p = str_dup(str_from(path));
    size_t n = strlen(p);

    while (n > 1 && p[n - 1] == '/')
        p[--n] = '\0';
    if (n == 0)
        return err_set(err, ERR_INVALID, "empty directory name");
    for (char *slash = strchr(p + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int rc = mkdir(p, 0755);
        if (rc < 0 && errno != EEXIST)
            return err_sys(err, errno, "cannot create directory %s", p);
        *slash = '/';
    }
    if (mkdir(p, mode) < 0 && errno != EEXIST && errno != EROFS)
        return err_sys(err, errno, "cannot create directory %s", p);
    return narrow(p, mode, err);
}

int fd_lock_file(const char *path, int *ret_fd, struct err *err)
{
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    char pid[24] = "";
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "cannot open lock file %s", path);
    do {
        rc = flock(fd, LOCK_EX | LOCK_NB);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno == EWOULDBLOCK) {
        ssize_t got = read_some(fd, pid, sizeof(pid) - 1);
        struct str who = {pid, got > 0 ? (size_t)got : 0};
        who = str_cut(&who, '\n');
        return err_set(err, ERR_EXISTS, "%s is locked by process " STR_FMT, path, STR_ARG(who.n > 0 ? who : STR("unknown")));
    }
    if (rc < 0)
        return err_sys(err, errno, "cannot lock %s", path);
    int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0)
        return err_sys(err, errno, "cannot write %s", path);
    rc = fd_write_all(fd, pid, (size_t)n, err);
    if (rc < 0)
        return err_wrap(err, "%s", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* One removal: the directory that it started in, and the mount that it stays on. */
struct tree {
    int top;
    struct statx st;
    bool moved; /* something deep was moved to the top: another pass is due */
};

static void cleanup_dir(DIR **d)
{
    if (*d != NULL)
        (void)closedir(*d);
}

/* Mount ids tell bind mounts of one file system apart; where the kernel has none, the device number must do. */
static bool same_mount(const struct tree *t, int fd)
{
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0)
        return false;
    if (st.stx_dev_major != t->st.stx_dev_major || st.stx_dev_minor != t->st.stx_dev_minor)
        return false;
    return (st.stx_mask & t->st.stx_mask & STATX_MNT_ID) == 0 || st.stx_mnt_id == t->st.stx_mnt_id;
}

/* A tree may be deeper than we have descriptors: what lies too deep is moved up and taken in the next pass. */
static int move_up(struct tree *t, int dir, const char *name, struct err *err)
{
    char fresh[37];

    rng_uuid(fresh);
    if (renameat(dir, name, t->top, fresh) < 0)
        return err_sys(err, errno, "cannot move %s out of a deep tree", name);
    t->moved = true;
    return 0;
}

static int empty_dir(struct tree *t, int fd, unsigned depth, struct err *err);

static int remove_entry(struct tree *t, int dir, const char *name, unsigned depth, struct err *err)
{
    int rc;

    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_sys(err, errno, "cannot remove %s", name);
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return err_sys(err, errno, "cannot remove %s", name);
    if (depth >= TREE_FDS)
        return move_up(t, dir, name, err);
    AUTO_FD int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "cannot open directory %s", name);
    if (!same_mount(t, fd))
        return err_set(err, ERR_PRECONDITION, "%s is a mount point", name);
    rc = empty_dir(t, TAKE_FD(fd), depth + 1, err);
    if (rc < 0)
        return rc;
    if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove directory %s", name);
    return 0;
}

/* Consumes @fd. */
static int empty_dir(struct tree *t, int fd, unsigned depth, struct err *err)
{
    CLEANUP(cleanup_dir) DIR *d = fdopendir(fd);

    if (d == NULL) {
        int e = errno;
        (void)close(fd);
        return err_sys(err, e, "cannot read a directory");
    }
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (e == NULL)
            return errno != 0 ? err_sys(err, errno, "cannot read a directory") : 0;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        int rc = remove_entry(t, dirfd(d), e->d_name, depth, err);
        if (rc < 0)
            return rc;
    }
}

static int remove_dir(const char *path, struct tree *t, struct err *err)
{
    for (int pass = 0; pass < TREE_PASSES; pass++) {
        int fd = openat(t->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int rc;

        if (fd < 0)
            return err_sys(err, errno, "cannot open directory %s", path);
        t->moved = false;
        rc = empty_dir(t, fd, 0, err);
        if (rc < 0)
            return err_wrap(err, "%s", path);
        if (t->moved)
            continue;
        if (rmdir(path) == 0 || errno == ENOENT)
            return 0;
        if (errno != ENOTEMPTY && errno != EEXIST)
            return err_sys(err, errno, "cannot remove directory %s", path);
    }
    return err_set(err, ERR_ABORTED, "%s: the tree grows faster than it can be removed", path);
}

int fd_remove_tree(const char *path, struct err *err)
{
    struct tree t = {.top = -1};

    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_sys(err, errno, "cannot remove %s", path);
    AUTO_FD int top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (top < 0)
        return err_sys(err, errno, "cannot open directory %s", path);
    if (statx(top, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &t.st) < 0)
        return err_sys(err, errno, "cannot inspect %s", path);
    t.top = top;
    return remove_dir(path, &t, err);
}
