/* SPDX-License-Identifier: Apache-2.0 */
/* backup_rpc — the Backup call. The copy is written to a file without a name in the state directory first, so that a slow caller holds no
 * snapshot of the database, and then sent from there. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/secret.h"
#include "control/backup.h"
#include "control/control_internal.h"
#include "control/schema.h"
#include "davit/control/v1/controlplane.pb-c.h"
#include "store/copy.h"

enum { CHUNK = 256 * 1024 };
static const usec_t DUMP_WAIT = 600 * USEC_SEC;

struct backup {
    struct control *c;
    struct archive_writer writer;
    int fd;
    off_t size, at;
    char *chunk;
    size_t n;
    struct err err;
};

static int open_copy(struct backup *b)
{
    AUTO_FREE char *name = str_printf("%s/backup.tmp", b->c->opt.state_dir);
    b->fd = open(b->c->opt.state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (b->fd >= 0)
        return 0;
    /* Not every file system has files without a name. */
    (void)unlink(name);
    b->fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (b->fd < 0 || unlink(name) != 0)
        return err_sys(&b->err, errno, "cannot make a file in %s", b->c->opt.state_dir);
    return 0;
}

static int put_file(struct backup *b, const char *name)
{
    AUTO_FREE char *path = str_printf("%s/%s", b->c->opt.state_dir, name);
    struct buf content = BUF_INIT(ARCHIVE_FILE_MAX);
    int rc = fd_read_file(path, &content, &b->err);
    if (rc == 0)
        rc = archive_put_file(&b->writer, name, buf_str(&content), &b->err);
    secret_buf_release(&content);
    return rc == -ERR_NOT_FOUND ? 0 : rc;
}

/* On a lane, before the tables. */
static int begin(void *arg)
{
    struct backup *b = arg;
    int rc = open_copy(b);
    if (rc == 0)
        rc = archive_begin(&b->writer, b->fd, &b->err);
    if (rc == 0)
        rc = archive_put_manifest(&b->writer, "controlplane", store_engine(), schema_migrations, schema_n_migrations, &b->err);
    for (size_t i = 0; rc == 0 && backup_files[i]; i++)
        rc = put_file(b, backup_files[i]);
    return rc;
}

/* And after them. */
static int end(void *arg)
{
    struct backup *b = arg;
    struct stat st;
    int rc = archive_end(&b->writer, &b->err);
    if (rc == 0 && fstat(b->fd, &st) != 0)
        rc = err_sys(&b->err, errno, "cannot look at the copy");
    if (rc == 0)
        b->size = st.st_size;
    return rc;
}

static int read_chunk(void *arg)
{
    struct backup *b = arg;
    ssize_t n = pread(b->fd, b->chunk, CHUNK, b->at);
    if (n < 0)
        return err_sys(&b->err, errno, "cannot read the copy");
    b->n = (size_t)n;
    b->at += n;
    return n == 0;
}

/* Its own failure has the words; a lane that did not get to it has none. */
static int told(const struct backup *b, int rc, struct err *err)
{
    if (rc < 0 && err && b->err.code)
        *err = b->err;
    return err_ensure(err, rc);
}

static int send_all(struct backup *b, struct rpc_call *call, struct err *err)
{
    Davit__Control__V1__BackupResponse m = DAVIT__CONTROL__V1__BACKUP_RESPONSE__INIT;
    int rc = 0;
    m.total_bytes = (uint64_t)b->size;
    while (rc == 0 && rpc_send(call, &m.base) == 0) {
        rc = lane_call(b->c->fast, read_chunk, b, deadline_in(STORE_WAIT));
        m.data = (ProtobufCBinaryData){.len = b->n, .data = (uint8_t *)b->chunk};
        if (rc != 0)
            return rc == 1 ? 0 : told(b, rc, err);
    }
    return err_set(err, ERR_CANCELLED, "the caller went away");
}

static int backup(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    (void)request;
    if (c->backing_up)
        return err_set(err, ERR_UNAVAILABLE, "another backup is being made");
    c->backing_up = true;
    struct backup *b = NEW(struct backup);
    b->c = c;
    b->fd = -1;
    b->chunk = mem_alloc(CHUNK);
    usec_t deadline = deadline_in(DUMP_WAIT);
    int rc = told(b, lane_call(c->fast, begin, b, deadline), err);
    if (rc == 0)
        rc = store_dump(c->store, &b->writer, rpc_call_deadline(call) < deadline ? rpc_call_deadline(call) : deadline, err);
    if (rc == 0)
        rc = told(b, lane_call(c->fast, end, b, deadline), err);
    archive_writer_release(&b->writer);
    if (rc == 0)
        rc = send_all(b, call, err);
    if (rc == 0)
        log_event(LOG_NOTICE, "backup taken", NULL);
    if (b->fd >= 0)
        (void)close(b->fd);
    explicit_bzero(b->chunk, CHUNK);
    free(b->chunk);
    free(b);
    c->backing_up = false;
    return rc;
}

CONTROL_HANDLER(backup)

const struct rpc_handler controlplane_handlers[] = {
    {.run = backup_tracked},
};
