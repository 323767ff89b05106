/* SPDX-License-Identifier: Apache-2.0 */
/* unpack — see unpack.h. */
#include "cli/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

static void skip(struct unpack *u, const char *name, const char *why)
{
    u->skipping = true;
    if (u->skipped++ < UNPACK_NOTICES_MAX && u->notice)
        u->notice(u->arg, name, why);
}

static int climbs(struct err *err)
{
    return err_set(err, ERR_INVALID, "the archive has a name that leads out of its folder");
}

/* The name below the folder, its first part renamed; malloc'ed, "" for what stands for the folder itself. NULL: it leads out. */
static char *place_of(const struct unpack *u, const char *name)
{
    struct str rest = str_from(name);
    AUTO_BUF out = BUF_INIT(2 * TAR_NAME_MAX);
    bool first = !u->root;
    if (rest.n && *rest.p == '/' && !u->root)
        return NULL;
    while (rest.n) {
        struct str part = str_cut(&rest, '/');
        if (part.n == 0 || str_eq(part, STR(".")))
            continue;
        if (str_eq(part, STR("..")))
            return NULL;
        if (first)
            part = str_from(u->rename);
        first = false;
        if (part.n && ((out.len && buf_append_byte(&out, '/') != 0) || buf_append_str(&out, part) != 0))
            return NULL;
    }
    return str_dup(buf_str(&out));
}

/* Opens the folder that @place is in, makes what is missing; *ret_leaf points into @place. No link is followed. */
static int open_parent(const struct unpack *u, char *place, bool make, int *ret_fd, const char **ret_leaf, struct err *err)
{
    int at = openat(u->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *slash;
    *ret_leaf = place;
    while (at >= 0 && (slash = strchr(place, '/'))) {
        *slash = '\0';
        if (make && mkdirat(at, place, 0755) != 0 && errno != EEXIST) {
            int errnum = errno;
            (void)close(at);
            return err_sys(err, errnum, "folder %s", place);
        }
        int next = openat(at, place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int errnum = errno;
        (void)close(at);
        if (next < 0 && (errnum == ELOOP || errnum == ENOTDIR))
            return err_set(err, ERR_INVALID, "the archive goes through %s, which is no folder", place);
        if (next < 0)
            return err_sys(err, errnum, "folder %s", place);
        at = next;
        place = slash + 1;
        *ret_leaf = place;
    }
    *ret_fd = at;
    return at >= 0 ? 0 : err_sys(err, errno, "the folder");
}

static int make_folder(int dir, const char *leaf, uint32_t mode, struct err *err)
{
    struct stat st;
    if (mkdirat(dir, leaf, (mode & 0777) | 0700) == 0)
        return 0;
    if (errno == EEXIST && fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return errno == EEXIST ? err_set(err, ERR_EXISTS, "%s is there and no folder", leaf) : err_sys(err, errno, "folder %s", leaf);
}

/* What is in the way goes, but for folders. */
static int make_way(int dir, const char *leaf, struct err *err)
{
    if (unlinkat(dir, leaf, 0) == 0 || errno == ENOENT)
        return 0;
    return errno == EISDIR ? err_set(err, ERR_EXISTS, "%s is a folder here", leaf) : err_sys(err, errno, "%s", leaf);
}

static int make_file(struct unpack *u, int dir, const char *leaf, uint32_t mode, struct err *err)
{
    int rc = make_way(dir, leaf, err);
    if (rc < 0)
        return rc;
    u->file = openat(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (u->file < 0 || fchmod(u->file, mode & 0777) != 0)
        return err_sys(err, errno, "file %s", leaf);
    u->files++;
    return 0;
}

/* Does a link at @place stay in the folder that is unpacked? Only by its words: nothing is followed. A ".." behind a name is none of them, for
 * the name
 * may be a link; so a chain of links stays inside if each of them does. */
static bool stays(const struct unpack *u, const char *place, const char *target)
{
    struct str rest = str_from(place), to = str_from(target);
    int depth = *u->rename ? -2 : -1; /* the link itself is no folder */
    bool named = false;
    if (to.n == 0 || *to.p == '/')
        return false;
    while (rest.n) {
        (void)str_cut(&rest, '/');
        depth++;
    }
    while (to.n) {
        struct str part = str_cut(&to, '/');
        bool up = str_eq(part, STR(".."));
        if (up && (named || --depth < 0))
            return false;
        named = named || (part.n && !up && !str_eq(part, STR(".")));
    }
    return true;
}

static int make_symlink(int dir, const char *leaf, const char *target, struct err *err)
{
    int rc = make_way(dir, leaf, err);
    return rc == 0 && symlinkat(target, dir, leaf) != 0 ? err_sys(err, errno, "link %s", leaf) : rc;
}

static int make_hardlink(struct unpack *u, int dir, const char *leaf, const char *target, struct err *err)
{
    AUTO_FREE char *place = place_of(u, target);
    const char *from;
    int fd = -1;
    struct stat st;
    if (!place || !*place)
        return climbs(err);
    int rc = open_parent(u, place, false, &fd, &from, err);
    if (rc < 0)
        return rc;
    if (fstatat(fd, from, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        rc = err_set(err, ERR_INVALID, "the archive links to %s, which is no file of it", from);
    if (rc == 0)
        rc = make_way(dir, leaf, err);
    if (rc == 0 && linkat(fd, from, dir, leaf, 0) != 0)
        rc = err_sys(err, errno, "link %s", leaf);
    (void)close(fd);
    return rc;
}

static int make(struct unpack *u, const struct tar_entry *e, const char *place, int dir, const char *leaf, struct err *err)
{
    switch (e->kind) {
    case TAR_DIR: return make_folder(dir, leaf, e->mode, err);
    case TAR_FILE: return make_file(u, dir, leaf, e->mode, err);
    case TAR_HARDLINK: return make_hardlink(u, dir, leaf, e->link, err);
    case TAR_SYMLINK:
        if (stays(u, place, e->link))
            return make_symlink(dir, leaf, e->link, err);
        skip(u, e->name, "a link that leads out of the folder");
        return 0;
    default: skip(u, e->name, "neither a file nor a folder"); return 0;
    }
}

static int on_entry(void *arg, const struct tar_entry *e, struct err *err)
{
    struct unpack *u = arg;
    AUTO_FREE char *place = place_of(u, e->name);
    const char *leaf;
    int dir = -1;
    u->skipping = false;
    if (!place)
        return climbs(err);
    if (!*place) { /* the folder that is there already */
        if (e->kind != TAR_DIR)
            return err_set(err, ERR_INVALID, "the archive is of no folder");
        return 0;
    }
    AUTO_FREE char *whole = str_dup(str_from(place));
    int rc = open_parent(u, place, true, &dir, &leaf, err);
    if (rc == 0)
        rc = make(u, e, whole, dir, leaf, err);
    if (dir >= 0)
        (void)close(dir);
    return rc;
}

static int on_bytes(void *arg, struct str bytes, struct err *err)
{
    const struct unpack *u = arg;
    return u->file >= 0 ? fd_write_all(u->file, bytes.p, bytes.n, err) : 0;
}

static int on_end(void *arg, struct err *err)
{
    struct unpack *u = arg;
    int fd = u->file;
    u->file = -1;
    return fd >= 0 && close(fd) != 0 ? err_sys(err, errno, "a file could not be written") : 0;
}

void unpack_init(struct unpack *u, int folder, const char *rename, void (*notice)(void *arg, const char *name, const char *why),
                 void *arg)
{
    static const struct tar_handler handler = {on_entry, on_bytes, on_end};
    *u = (struct unpack){.folder = folder, .rename = str_dup(str_from(rename)), .file = -1, .notice = notice, .arg = arg};
    tar_reader_init(&u->tar, false, &handler, u);
}

void unpack_release(struct unpack *u)
{
    if (u->file >= 0)
        (void)close(u->file);
    u->file = -1;
    tar_reader_release(&u->tar);
    free(u->rename);
    u->rename = NULL;
}

int unpack_feed(struct unpack *u, struct str bytes, struct err *err)
{
    return tar_feed(&u->tar, bytes, err);
}

int unpack_end(struct unpack *u, struct err *err)
{
    return tar_reader_end(&u->tar, err);
}
