/* SPDX-License-Identifier: Apache-2.0 */
/* update_unpack — the archive into a slot: into a directory with another name first, whole and on disk, then renamed. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/link/untar.h"
#include "host/link/update_internal.h"

enum { CHUNK = 64 * 1024 };

/* One unpacking, in the lane. */
struct unpack {
    int dir_fd, file_fd;
    bool agent, manifest;
};

static int on_file(void *arg, const char *name, uint64_t size, bool program, struct err *err)
{
    struct unpack *p = arg;
    (void)size;
    p->agent = p->agent || (program && str_eq(str_from(name), STR("davit-agent")));
    p->manifest = p->manifest || str_eq(str_from(name), STR("MANIFEST"));
    p->file_fd = openat(p->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, program ? 0755 : 0644);
    if (p->file_fd < 0 || fchmod(p->file_fd, program ? 0755 : 0644) < 0)
        return err_sys(err, errno, "cannot make %s", name);
    return 0;
}

static int on_bytes(void *arg, struct str bytes, struct err *err)
{
    const struct unpack *p = arg;
    return fd_write_all(p->file_fd, bytes.p, bytes.n, err);
}

static int on_end(void *arg, struct err *err)
{
    struct unpack *p = arg;
    int rc = fsync(p->file_fd) < 0 ? err_sys(err, errno, "cannot flush a program") : 0;
    (void)close(p->file_fd);
    p->file_fd = -1;
    return rc;
}

static const struct untar_handler handler = {on_file, on_bytes, on_end};

static int read_archive(const struct update *u, struct unpack *p, struct err *err)
{
    AUTO_FREE char *path = update_fetch_path(u);
    AUTO_FREE char *chunk = mem_alloc(CHUNK);
    AUTO_FREE char *directory = str_printf("davit-%s-%s", u->release.version, u->file->platform);
    AUTO_FREE struct untar *tar = NEW(struct untar);
    AUTO_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int rc = fd < 0 ? err_sys(err, errno, "cannot read %s", path) : 0;
    untar_init(tar, directory, u->file->size, &handler, p);
    while (rc == 0) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0)
            rc = err_sys(err, errno, "cannot read %s", path);
        else if (n == 0)
            break;
        else
            rc = untar_feed(tar, (struct str){chunk, (size_t)n}, err);
    }
    if (rc == 0)
        rc = untar_end(tar, err);
    if (rc == 0 && !(p->agent && p->manifest))
        rc = err_set(err, ERR_INVALID, "the archive has no davit-agent or no MANIFEST");
    return rc;
}

static int clear(const struct update *u, const char *name, struct err *err)
{
    AUTO_FREE char *path = slots_path(&u->slots, name, NULL);
    return fd_remove_tree(path, err);
}

static int unpack_job(void *arg)
{
    struct update *u = arg;
    struct err *err = &u->block_err;
    struct unpack p = {.dir_fd = -1, .file_fd = -1};
    AUTO_FREE char *fresh = str_printf(".new-%llu", (unsigned long long)u->cmd->seq);
    int rc = clear(u, fresh, err);
    if (rc == 0)
        rc = clear(u, u->slot, err); /* of a command with this number that is forgotten: it is neither current nor previous */
    if (rc == 0 && mkdirat(u->slots.dir_fd, fresh, 0755) < 0)
        rc = err_sys(err, errno, "cannot make a slot");
    if (rc == 0) {
        p.dir_fd = openat(u->slots.dir_fd, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        rc = p.dir_fd < 0 || fchmod(p.dir_fd, 0755) < 0 ? err_sys(err, errno, "cannot open the slot") : read_archive(u, &p, err);
    }
    if (rc == 0 && fsync(p.dir_fd) < 0)
        rc = err_sys(err, errno, "cannot flush the slot");
    if (rc == 0 && (renameat(u->slots.dir_fd, fresh, u->slots.dir_fd, u->slot) < 0 || fsync(u->slots.dir_fd) < 0))
        rc = err_sys(err, errno, "cannot give the slot its name");
    if (p.file_fd >= 0)
        (void)close(p.file_fd);
    if (p.dir_fd >= 0)
        (void)close(p.dir_fd);
    return rc;
}

static int forget_job(void *arg)
{
    struct update *u = arg;
    AUTO_FREE char *path = update_fetch_path(u);
    return unlink(path) == 0 || errno == ENOENT ? 0 : err_sys(&u->block_err, errno, "cannot remove %s", path);
}

/* Is the name in use for a slot that must stay? */
static int in_use(const struct update *u, struct err *err)
{
    for (int link = SLOTS_CURRENT; link <= SLOTS_PREVIOUS; link++) {
        char name[SLOT_NAME_SIZE];
        int rc = slots_read(&u->slots, (enum slots_link)link, name, err);
        if (rc < 0)
            return rc;
        if (str_eq(str_from(name), str_from(u->slot)))
            return err_set(err, ERR_EXISTS, "slot %s is in use", u->slot);
    }
    return 0;
}

int step_unpack(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    int rc = in_use(u, err);
    if (rc == 0)
        rc = update_block(u, unpack_job, job_deadline(job), err);
    if (rc == 0)
        rc = update_block(u, forget_job, job_deadline(job), err);
    return update_reason(u, rc, "update_extract");
}

int probe_unpack(struct job *job, void *ctx, struct err *err)
{
    const struct update *u = ctx;
    (void)job;
    (void)err;
    return slots_has(&u->slots, u->slot);
}

static int remove_job(void *arg)
{
    struct update *u = arg;
    AUTO_FREE char *fresh = str_printf(".new-%llu", (unsigned long long)u->cmd->seq);
    int rc = in_use(u, NULL);
    if (rc == 0)
        rc = clear(u, u->slot, &u->block_err);
    if (rc == 0)
        rc = slots_pending_drop(&u->slots, u->slot, &u->block_err);
    return clear(u, fresh, &u->block_err) < 0 ? -(int)u->block_err.code : rc == -(int)ERR_EXISTS ? 0 : rc;
}

int undo_unpack(struct job *job, void *ctx, struct err *err)
{
    return update_block(ctx, remove_job, job_deadline(job), err);
}

int undo_download(struct job *job, void *ctx, struct err *err)
{
    return update_block(ctx, forget_job, job_deadline(job), err);
}
