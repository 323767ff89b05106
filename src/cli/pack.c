/* SPDX-License-Identifier: Apache-2.0 */
/* pack — see pack.h. */
#include "cli/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/mem.h"

enum { PIECE = 64 * 1024, HEAD_MAX = 64 * 1024 };

static int put_head(struct pack *p, const char *name, const struct stat *st, enum tar_kind kind, const char *link,
                    struct err *err)
{
    AUTO_BUF head = BUF_INIT(HEAD_MAX);
    const struct tar_entry e = {.kind = kind,
                                .name = name,
                                .link = link,
                                .mode = st->st_mode & 07777,
                                .mtime = st->st_mtim.tv_sec,
                                .uid = p->owners ? st->st_uid : 0,
                                .gid = p->owners ? st->st_gid : 0,
                                .size = kind == TAR_FILE ? (uint64_t)st->st_size : 0};
    if (tar_put(&head, &e) != 0)
        return err_set(err, ERR_INVALID, "a path of more than %d bytes", TAR_NAME_MAX);
    return p->put(p->arg, buf_str(&head), err);
}

/* As many bytes as the head said. */
static int put_bytes(struct pack *p, int fd, uint64_t size, const char *name, struct err *err)
{
    AUTO_FREE char *piece = mem_alloc(PIECE);
    int rc = 0;
    for (uint64_t left = size; rc == 0 && left;) {
        ssize_t n = read(fd, piece, left < PIECE ? (size_t)left : PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_sys(err, errno, "%s", name)
                         : err_set(err, ERR_DATA_LOSS, "%s became shorter while it was read", name);
        left -= (uint64_t)n;
        rc = p->put(p->arg, (struct str){piece, (size_t)n}, err);
    }
    return rc == 0 ? p->put(p->arg, (struct str){tar_zeros, tar_pad(size)}, err) : rc;
}

static int pack_file(struct pack *p, int dir, const char *leaf, const char *name, struct err *err)
{
    struct stat st;
    int fd = openat(dir, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc;
    if (fd < 0 || fstat(fd, &st) != 0)
        rc = err_sys(err, errno, "%s", name);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, ERR_DATA_LOSS, "%s is no file any more", name);
    else if ((rc = put_head(p, name, &st, TAR_FILE, "", err)) == 0)
        rc = put_bytes(p, fd, (uint64_t)st.st_size, name, err);
    if (fd >= 0)
        (void)close(fd);
    p->files++;
    return rc;
}

static int pack_link(struct pack *p, int dir, const char *leaf, const char *name, const struct stat *st, struct err *err)
{
    AUTO_FREE char *target = mem_zalloc(1, TAR_NAME_MAX + 1);
    ssize_t n = readlinkat(dir, leaf, target, TAR_NAME_MAX);
    return n <= 0 ? err_sys(err, errno, "%s", name) : put_head(p, name, st, TAR_SYMLINK, target, err);
}

static int pack_dir(struct pack *p, int fd, const char *name, unsigned depth, struct err *err);

static int pack_one(struct pack *p, int dir, const char *leaf, const char *name, unsigned depth, struct err *err)
{
    struct stat st;
    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return err_sys(err, errno, "%s", name);
    if (S_ISREG(st.st_mode))
        return pack_file(p, dir, leaf, name, err);
    if (S_ISLNK(st.st_mode))
        return pack_link(p, dir, leaf, name, &st, err);
    if (!S_ISDIR(st.st_mode)) {
        p->notice(p->arg, name, "neither a file nor a folder");
        return 0;
    }
    int fd = openat(dir, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_sys(err, errno, "%s", name) : pack_dir(p, fd, name, depth + 1, err);
}

/* @fd is closed. */
static int pack_dir(struct pack *p, int fd, const char *name, unsigned depth, struct err *err)
{
    struct stat st;
    DIR *d = fdopendir(fd);
    int rc = 0;
    if (!d || fstat(fd, &st) != 0)
        rc = err_sys(err, errno, "%s", name);
    else if (depth > PACK_DEPTH_MAX)
        rc = err_set(err, ERR_EXHAUSTED, "%s is more than %d folders deep", name, PACK_DEPTH_MAX);
    else if (*name)
        rc = put_head(p, name, &st, TAR_DIR, "", err);
    for (const struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        AUTO_FREE char *sub = str_printf("%s%s%s", name, *name ? "/" : "", e->d_name);
        rc = pack_one(p, fd, e->d_name, sub, depth, err);
    }
    if (d)
        (void)closedir(d);
    else
        (void)close(fd);
    return rc;
}

int pack_folder(struct pack *p, const char *folder, const char *name, struct err *err)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? err_sys(err, errno, "%s", folder) : pack_dir(p, fd, name, 1, err);
    return rc == 0 ? p->put(p->arg, (struct str){tar_zeros, TAR_END}, err) : rc;
}
