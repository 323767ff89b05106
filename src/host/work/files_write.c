/* SPDX-License-Identifier: Apache-2.0 */
/* files_write — see files.h: a file that comes whole or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/work/files_internal.h"
#include "host/work/inside.h"
#include "loop/lane.h"
#include "rpc/rpc.h"

#define DISK_WAIT  USEC_MINUTE
#define DISK_SPARE (64ULL << 20) /* stays free */

/* What has come so far: a file without a name. */
struct spool {
    struct lane *lane;
    int fd;
    uint64_t size, done;
    struct str piece; /* to be written, or where to read to */
    size_t n;
    struct err err;
};

static int job_open(void *arg)
{
    static const char *const folders[] = {"/var/tmp", "/tmp"};
    struct spool *s = arg;
    struct statvfs st;
    for (size_t i = 0; s->fd < 0 && i < ARRAY_LEN(folders); i++) {
        AUTO_FREE char *name = str_printf("%s/davit-file-XXXXXX", folders[i]);
        s->fd = open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (s->fd < 0 && (s->fd = mkostemp(name, O_CLOEXEC)) >= 0)
            (void)unlink(name);
    }
    if (s->fd < 0)
        return err_sys(&s->err, errno, "a file cannot be kept in /var/tmp of the server");
    if (fstatvfs(s->fd, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize < s->size + DISK_SPARE)
        return err_set(&s->err, ERR_EXHAUSTED, "the disk of the server has no room for %llu bytes", (unsigned long long)s->size);
    return 0;
}

static int job_write(void *arg)
{
    struct spool *s = arg;
    return fd_write_all(s->fd, s->piece.p, s->piece.n, &s->err);
}

static int job_read(void *arg)
{
    struct spool *s = arg;
    ssize_t n;
    do
        n = pread(s->fd, (char *)(uintptr_t)s->piece.p, s->piece.n, (off_t)s->done);
    while (n < 0 && errno == EINTR);
    s->n = n > 0 ? (size_t)n : 0;
    return n > 0 ? 0 : err_set(&s->err, ERR_DATA_LOSS, "the bytes that had come are gone");
}

static int spool_do(struct spool *s, int (*job)(void *), struct err *err)
{
    int rc = lane_call(s->lane, job, s, deadline_in(DISK_WAIT));
    if (rc < 0 && s->err.code && err)
        *err = s->err;
    return rc;
}

static void spool_release(struct spool *s)
{
    s->lane = lane_free(s->lane);
    if (s->fd >= 0)
        (void)close(s->fd);
}

/* All that comes, and it must be as much as was said. */
static int receive(struct spool *s, struct call *c, struct err *err)
{
    int rc = spool_do(s, job_open, err);
    while (rc == 0) {
        rc = call_input(c, &s->piece, deadline_in(FILES_STALL));
        if (rc == 0 && s->piece.n > s->size - s->done)
            rc = err_set(err, ERR_INVALID, "more bytes came than the %llu that were announced", (unsigned long long)s->size);
        if (rc == 0 && (rc = spool_do(s, job_write, err)) == 0)
            s->done += s->piece.n;
    }
    if (rc < 0)
        return rc;
    return s->done == s->size ? 0
                              : err_set(err, ERR_INVALID, "%llu bytes came of the %llu that were announced",
                                        (unsigned long long)s->done, (unsigned long long)s->size);
}

/* --- As an archive ---- */

struct archive {
    struct spool *s;
    struct buf head;
    size_t head_at, tail; /* zeros at the end */
};

static int archive_source(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct archive *a = arg;
    struct spool *s = a->s;
    size_t left = a->head.len - a->head_at;
    if (left) {
        *ret_n = left < size ? left : size;
        memcpy(dst, a->head.data + a->head_at, *ret_n);
        a->head_at += *ret_n;
        return 0;
    }
    if (s->done < s->size) {
        s->piece = (struct str){dst, s->size - s->done < size ? (size_t)(s->size - s->done) : size};
        int rc = spool_do(s, job_read, NULL);
        *ret_n = rc == 0 ? s->n : 0;
        s->done += *ret_n;
        return rc;
    }
    *ret_n = a->tail < size ? a->tail : size;
    memset(dst, 0, *ret_n);
    a->tail -= *ret_n;
    return 0;
}

static int put_archive(struct file_call *f, const char *path, struct spool *s, struct inside_owner owner, struct err *err)
{
    struct archive a = {.s = s, .head = BUF_INIT(64 * 1024), .tail = tar_pad(s->size) + TAR_END};
    Davit__Link__V1__FileEnd *there = NULL;
    struct tar_entry e = {.kind = TAR_FILE, .link = "", .size = s->size, .mtime = (int64_t)(clock_real() / USEC_SEC)};
    struct str folder;
    if (owner.mode == 0) {
        owner = (struct inside_owner){.mode = 0644};
        if (files_stat(f->w, f->info.id, path, &there, NULL) == 0 && there->n_entries == 1)
            owner = (struct inside_owner){there->entries[0]->mode, there->entries[0]->uid, there->entries[0]->gid};
        (void)rpc_message_free(there);
    }
    e.mode = owner.mode & 07777;
    e.uid = owner.uid;
    e.gid = owner.gid;
    files_split(path, &folder, &e.name);
    AUTO_FREE char *parent = str_dup(folder);
    s->done = 0;
    int rc = tar_put(&a.head, &e) == 0 ? 0 : err_set(err, ERR_INVALID, "%s is not the name of a file", path);
    if (rc == 0)
        rc = docker_archive_put(f->w->docker, f->info.id, parent, archive_source, &a, deadline_in(FILES_TRANSFER_MAX), err);
    buf_release(&a.head);
    return rc;
}

/* --- The call ---- */

/* Before any byte is taken: can it become a file there? *@path gets where it leads. */
static int judge_target(struct file_call *f, struct buf *path, struct err *err)
{
    struct err missing = ERR_INIT;
    struct str folder;
    const char *name;
    char kind = '-';
    int rc = files_follow(f->w, f->info.id, f->path, path, &kind, &missing);
    if (rc == -(int)ERR_NOT_FOUND) {
        if (path->len == 0 && buf_append_cstr(path, f->path) != 0)
            return err_set(err, ERR_INVALID, "the path is too long");
        files_split(buf_cstr(path), &folder, &name);
        AUTO_FREE char *parent = str_dup(folder);
        AUTO_BUF real = BUF_INIT(2 * FILES_PATH_MAX);
        rc = files_follow(f->w, f->info.id, parent, &real, &kind, err);
        if (rc == -(int)ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND, "there is no folder %s in this container", parent);
        return rc < 0 || kind == 'd' ? rc : err_set(err, ERR_INVALID, "%s is no folder", parent);
    }
    if (rc < 0) {
        if (err)
            *err = missing;
        return rc;
    }
    return kind == 'f' ? 0 : err_set(err, ERR_PRECONDITION, "%s is %s", f->path, kind == 'd' ? "a folder" : "no file");
}

int files_do_write(struct file_call *f, struct err *err)
{
    AUTO_BUF path = BUF_INIT(2 * FILES_PATH_MAX);
    CLEANUP(spool_release) struct spool s = {.fd = -1, .size = f->m->size};
    const struct inside_owner owner = {f->m->mode & 07777, f->m->uid, f->m->gid};
    struct inside *in = NULL;
    int rc = judge_target(f, &path, err);
    if (rc == 0 && files_read_only(&f->info, buf_cstr(&path)))
        rc = err_set(err, ERR_PRECONDITION, "%s is on a read-only file system", f->path);
    if (rc < 0)
        return rc;
    s.lane = lane_try_new(f->w->loop, "files-in", 1, 1);
    if (!s.lane)
        return err_set(err, ERR_EXHAUSTED, "too much runs at once on this server");
    rc = s.size > INT64_MAX / 2 ? err_set(err, ERR_INVALID, "no file is that large") : receive(&s, f->call, err);
    if (rc < 0)
        return rc;
    rc = inside_open(f->w, &f->info, f->path, &in, NULL);
    if (rc == 0)
        rc = inside_place(in, s.fd, s.size, &owner, err);
    else if (rc == 1)
        rc = put_archive(f, buf_cstr(&path), &s, owner, err);
    (void)inside_close(in);
    return rc;
}
