/* SPDX-License-Identifier: Apache-2.0 */
/* restore — see backup.h: a state directory out of a backup. */
#include "control/backup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "control/people/audit.h"
#include "control/control_internal.h"
#include "control/schema.h"
#include "control/sealed.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"
#include "store/copy.h"

const char *const backup_files[] = {"root.crt",         "server-ca.key",    "server-ca.csr",    "server-ca.crt",
                                    "agents-ca.key",    "agents-ca.csr",    "agents-ca.crt",    "sandboxes-ca.key",
                                    "sandboxes-ca.csr", "sandboxes-ca.crt", "controlplane.key", "controlplane.crt",
                                    "master.key",       "access-token.key", PKI_CROSS,          PKI_OLD_ACCESS,
                                    PKI_OLD_ASSERTION,  PKI_END,            NULL};

static bool is_ours(struct str name)
{
    for (size_t i = 0; backup_files[i]; i++)
        if (str_eq(name, str_from(backup_files[i])))
            return true;
    return false;
}

/* A name that this program does not know comes from a program that is newer or from a hand. */
static int make_file(void *arg, struct str name, struct str content, struct err *err)
{
    const char *dir = arg;
    if (!is_ours(name))
        return err_set(err, ERR_DATA_LOSS, "the backup has a file of a name that does not belong there");
    AUTO_FREE char *path = str_printf("%s/" STR_FMT, dir, STR_ARG(name));
    if (access(path, F_OK) == 0)
        return err_set(err, ERR_DATA_LOSS, "the backup has a file twice");
    return fd_write_file(path, content.p, content.n, str_ends(name, STR(".key")) ? 0600 : 0644, err);
}

static int check_empty(const char *state_dir, struct err *err)
{
    static const char *const marks[] = {"control.db", "root.crt", "server-ca.key"};
    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        AUTO_FREE char *path = str_printf("%s/%s", state_dir, marks[i]);
        if (access(path, F_OK) != 0)
            continue;
        (void)err_set(err, ERR_EXISTS, "%s holds a control plane already", state_dir);
        err_hint(err, "name an empty directory, or let davit controlplane restore keep the old one aside");
        return -ERR_EXISTS;
    }
    return 0;
}

/* For the first start, and the end of the log that this one replaces goes: it was in nobody's backup. */
static int leave_mark(const char *state_dir, usec_t created, uid_t by, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/" RESTORED_FILE, state_dir);
    AUTO_FREE char *head = str_printf("%s/" AUDIT_HEAD_FILE, state_dir);
    AUTO_FREE char *text = str_printf("%" PRIu64 " %lu\n", (uint64_t)created, (unsigned long)by);
    if (unlink(head) != 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove %s", head);
    return fd_write_file(path, text, strlen(text), 0600, err);
}

/* Files come first, and are judged before any table changes places. */
static int read_files(const char *state_dir, struct archive_reader *r, struct err *err)
{
    AUTO_FREE char *master = str_printf("%s/" SEALED_KEY_FILE, state_dir);
    struct str payload, name, content;
    char kind = 0;
    int rc = 0;
    while (rc == 0 && (rc = archive_next(r, &kind, &payload, err)) == 1) {
        rc = kind == 'F' ? archive_file(payload, &name, &content, err) : 0;
        if (rc == 0 && kind == 'F')
            rc = make_file(lend(state_dir), name, content, err);
    }
    if (rc == 0)
        rc = pki_control_state(state_dir, err);
    if (rc > 0 || (rc == 0 && access(master, F_OK) != 0))
        rc = err_set(err, ERR_DATA_LOSS, "the backup lacks keys of the control plane");
    return rc;
}

/* From the beginning of @fd to behind the manifest, as often as it takes. */
static int open_again(struct archive_reader *r, int fd, struct archive_manifest *m, struct err *err)
{
    archive_reader_release(r);
    if (lseek(fd, 0, SEEK_SET) != 0)
        return err_set(err, ERR_INVALID, "the backup must be a file");
    int rc = archive_open(r, fd, err);
    return rc < 0 ? rc : archive_read_manifest(r, m, err);
}

int control_restore(const char *state_dir, const char *store, int fd, uid_t by, char **ret_kept, struct err *err)
{
    AUTO_FREE char *lock = str_printf("%s/lock", state_dir);
    AUTO_FREE char *db = str_printf("%s/control.db", state_dir);
    AUTO_FD int lock_fd = -1;
    struct archive_manifest *m = NEW(struct archive_manifest);
    struct archive_reader r = {0};
    bool has_user;
    int rc = fd_lock_file(lock, &lock_fd, err);
    if (rc == 0)
        rc = check_empty(state_dir, err);
    /* A first look at all of it: a file that was cut off is told before anything is made of it. */
    if (rc == 0)
        rc = archive_verify(fd, m, &has_user, err);
    if (rc == 0)
        rc = open_again(&r, fd, m, err);
    if (rc == 0)
        rc = read_files(state_dir, &r, err);
    if (rc == 0)
        rc = leave_mark(state_dir, m->created, by, err);
    if (rc == 0)
        rc = open_again(&r, fd, m, err);
    if (rc == 0)
        rc = store_restore(store && *store ? store : db, schema_migrations, schema_n_migrations, &r, m, ret_kept, err);
    free(m);
    archive_reader_release(&r);
    return rc;
}
