/* SPDX-License-Identifier: Apache-2.0 */
/* controlplane — the control plane's own care: backup here, restore in restore.c, the root in rotate_ca.c, `up` and `down` as the verbs of that
 * name, status in controlplane_status.c, agents in agents.c. A backup is an archive
 * (store/archive.h) of two parts: the first comes from davitd as it is, the second holds the keys of this user, without which a new machine could
 * not use the first, and what `davit up` was told. */
#include "cli/agents.h"
#include "cli/controlplane.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/secret.h"
#include "cli/out.h"
#include "davit/control/v1/controlplane.davit.h"
#include "davit/control/v1/controlplane.pb-c.h"
#include "store/archive.h"

struct backup_options {
    struct cli_common common;
    bool force, user_keys;
};

#define AT(field) offsetof(struct backup_options, field)
static const struct opt backup_opts[] = {
    {.name = "force", .type = OPT_BOOL, .offset = AT(force), .help = "replace FILE if it exists"},
    {.name = "user-keys", .type = OPT_BOOL, .offset = AT(user_keys), .def = "true",
     .help = "with the root key, the keys of this user and what davit up was told; --no-user-keys: a restore then needs them from elsewhere"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

const char *const user_files[] = {"root.key", "root.crt", "cli.key", "cli.crt", NULL};

/* Progress on one line of a terminal. */
static void show(const struct cli *cli, uint64_t done, uint64_t total, bool last)
{
    if (!cli->progress || total == 0)
        return;
    AUTO_FREE char *text = out_bytes(done);
    (void)fprintf(stderr, "\r%3u %% %s\033[K%s", (unsigned)(done * 100 / total), text, last ? "\n" : "");
    (void)fflush(stderr);
}

static int receive(struct cli *cli, int fd, uint64_t *ret_bytes, struct err *err)
{
    Davit__Control__V1__BackupRequest req = DAVIT__CONTROL__V1__BACKUP_REQUEST__INIT;
    struct rpc_stream *stream = NULL;
    usec_t deadline = deadline_in(3600 * USEC_SEC);
    uint64_t total = 0;
    int rc = rpc_stream_open(cli->channel, &davit_control_v1_control_plane_service, "Backup", deadline, &stream, err);

    if (rc == 0)
        rc = rpc_stream_put(stream, &req.base, deadline, err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    while (rc == 0) {
        ProtobufCMessage *message = NULL;
        if ((rc = rpc_stream_get(stream, deadline, &message, err)) != 0)
            break;
        const Davit__Control__V1__BackupResponse *r = (const void *)message;
        total = r->total_bytes;
        *ret_bytes += r->data.len;
        rc = fd_write_all(fd, r->data.data, r->data.len, err);
        show(cli, *ret_bytes, total, *ret_bytes == total && r->data.len > 0);
        if (r->data.len)
            explicit_bzero(r->data.data, r->data.len);
        rpc_message_free(message);
    }
    rpc_stream_close(stream);
    if (rc < 0)
        return rc;
    return *ret_bytes == total && total > 0 ? 0 : err_set(err, ERR_DATA_LOSS, "the control plane sent less than it had announced");
}

static int add_user_file(struct archive_writer *w, const struct cli *cli, const char *name, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/%s", cli->paths.config, name);
    struct buf content = BUF_INIT(ARCHIVE_FILE_MAX);
    int rc = fd_read_file(path, &content, err);

    if (rc == 0)
        rc = archive_put_file(w, name, buf_str(&content), err);
    secret_buf_release(&content);
    return rc;
}

static int add_user_keys(const struct cli *cli, int fd, struct err *err)
{
    struct archive_writer w;
    int rc = archive_begin(&w, fd, err);

    if (rc == 0)
        rc = archive_put_manifest(&w, "user", "files", NULL, 0, err);
    for (size_t i = 0; rc == 0 && user_files[i]; i++)
        rc = add_user_file(&w, cli, user_files[i], err);
    if (rc == 0 && (rc = add_user_file(&w, cli, SETTINGS_FILE, err)) == -ERR_NOT_FOUND)
        rc = 0;
    if (rc == 0)
        rc = archive_end(&w, err);
    archive_writer_release(&w);
    return rc;
}

/* What was written is read again: a backup that cannot be read is none. */
static int finish(int fd, const char *tmp, const char *path, bool force, struct archive_manifest *m, struct err *err)
{
    bool has_user;

    if (fsync(fd) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        return err_sys(err, errno, "cannot write %s", path);
    int rc = archive_verify(fd, m, &has_user, err);
    if (rc < 0)
        return rc;
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, force ? 0 : RENAME_NOREPLACE) != 0)
        return err_sys(err, errno, "cannot make %s", path);
    return fd_sync_parent(path, err);
}

static void report(const struct cli *cli, const char *path, uint64_t bytes, const struct archive_manifest *m, bool user_keys)
{
    AUTO_FREE char *size = out_bytes(bytes);

    if (cli->json) {
        printf("{\"bytes\":\"%llu\",\"schemaVersion\":%zu,\"version\":\"%s\",\"userKeys\":%s}\n", (unsigned long long)bytes, m->n_schema, m->version,
               user_keys ? "true" : "false");
        return;
    }
    printf("%s holds a backup of the control plane (%s, schema %zu).\n", path, size, m->n_schema);
    printf("It holds secrets: the keys of the control plane%s and every secret of its services. Who has this file can\n"
           "take over all its servers: keep it where you would keep those keys.\n",
           user_keys ? ", your root key" : "");
}

static int run_backup(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct backup_options *o = options;
    const char *path = operands[0];
    AUTO_FREE char *tmp = str_printf("%s.%ld.tmp", path, (long)getpid());
    struct archive_manifest *m = NULL;
    uint64_t bytes = 0;
    struct stat st;
    int rc;

    (void)n;
    if (strcmp(path, "-") == 0) {
        (void)err_set(err, ERR_INVALID, "a backup goes into a file, not to stdout: it is read again before it counts");
        err_hint(err, "name a file (./- if that is its name)");
        return -ERR_INVALID;
    }
    if (lstat(path, &st) == 0 && (!S_ISREG(st.st_mode) || !o->force)) {
        (void)err_set(err, ERR_EXISTS, "%s exists already", path);
        err_hint(err, S_ISREG(st.st_mode) ? "name another file, or --force to replace it" : "name a file that is not there");
        return -ERR_EXISTS;
    }
    if ((rc = cli_connect(cli, err)) < 0)
        return rc;
    AUTO_FD int fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "cannot make %s", tmp);
    m = calloc(1, sizeof(*m));
    BUG_ON(!m);
    rc = receive(cli, fd, &bytes, err);
    if (rc == 0 && o->user_keys)
        rc = add_user_keys(cli, fd, err);
    if (rc == 0)
        rc = finish(fd, tmp, path, o->force, m, err);
    if (rc == 0 && fstat(fd, &st) == 0)
        report(cli, path, (uint64_t)st.st_size, m, o->user_keys);
    if (rc < 0)
        (void)unlink(tmp);
    free(m);
    return rc;
}

static const struct verb subs[] = {
    {
        .name = "up",
        .usage = "[OPTIONS]",
        .about = "the same as `davit up`",
        .example = "davit controlplane up",
        .opts = up_opts,
        .opts_size = sizeof(struct up_options),
        .run = run_up,
    },
    {
        .name = "down",
        .usage = "[OPTIONS]",
        .about = "the same as `davit down`",
        .example = "davit controlplane down",
        .opts = down_opts,
        .opts_size = sizeof(struct down_options),
        .run = run_down,
    },
    {
        .name = "status",
        .usage = "[OPTIONS]",
        .about = "does it run here, and do all its parts answer?",
        .example = "davit controlplane status\ndavit controlplane status --output json",
        .opts = controlplane_status_opts,
        .opts_size = sizeof(struct controlplane_status_options),
        .run = run_controlplane_status,
    },
    {
        .name = "agents",
        .usage = "[OPTIONS]",
        .about = "who is registered: sandboxes by their certificates",
        .example = "davit controlplane agents\ndavit controlplane agents --output json",
        .opts = agents_opts,
        .opts_size = sizeof(struct agents_options),
        .run = run_agents,
        .wakes = true,
    },
    {
        .name = "backup",
        .usage = "[OPTIONS] FILE",
        .about = "write all that the control plane knows to FILE, while it works",
        .example = "davit controlplane backup davit.backup",
        .opts = backup_opts,
        .opts_size = sizeof(struct backup_options),
        .min_operands = 1,
        .max_operands = 1,
        .run = run_backup,
    },
    {
        .name = "restore",
        .usage = "[OPTIONS] FILE",
        .about = "put the control plane of this machine back to what FILE holds",
        .example = "davit controlplane restore davit.backup\ndavit controlplane restore --force davit.backup",
        .opts = restore_opts,
        .opts_size = sizeof(struct restore_options),
        .min_operands = 1,
        .max_operands = 1,
        .run = run_restore,
    },
    {
        .name = "rotate-ca",
        .usage = "[OPTIONS]",
        .about = "change the root of all certificates, while every server stays connected",
        .example = "davit controlplane rotate-ca\ndavit controlplane rotate-ca --status\ndavit controlplane rotate-ca --finish",
        .opts = rotate_ca_opts,
        .opts_size = sizeof(struct rotate_ca_options),
        .run = run_rotate_ca,
    },
    {.name = NULL},
};

const struct verb verb_controlplane = {
    .name = "controlplane",
    .group = "Control plane",
    .about = "its life; what it knows, in one file and back; change the root of all certificates",
    .sub = subs,
};
