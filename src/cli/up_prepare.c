/* SPDX-License-Identifier: Apache-2.0 */
/* up_prepare — what must be there before anything is started: directories, keys, the account of davitd. See up_internal.h. */
#include "cli/up_internal.h"
#include "cli/plane.h"
#include "cli/up.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/priv.h"
#include "cli/out.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"
#include "loop/child.h"

/* Root starts davitd under an account of its own. */
static int ensure_account(struct cli *cli, struct err *err)
{
    const char *name = cli->settings.user;
    const char *const argv[] = {"/usr/sbin/useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
                                "--shell", "/usr/sbin/nologin", name, NULL};
    struct child_spec spec = {.argv = argv, .output_max = 4096};
    struct child_result result;
    uid_t uid;
    gid_t gid;
    int rc;

    if (geteuid() != 0 || priv_lookup(name, &uid, &gid, NULL) == 0)
        return 0;
    if ((rc = child_run(cli->loop, &spec, deadline_in(30 * USEC_SEC), &result, err)) < 0)
        return rc;
    if (result.exit_status != 0) {
        rc = err_set(err, ERR_INTERNAL, "cannot create the account \"%s\": %s", name, buf_cstr(&result.err));
        err_hint(err, "create it yourself, or name another with --user");
    }
    child_result_release(&result);
    cli->settings.made_user = rc == 0;
    return rc;
}

/* Gives a directory and the plain files in it (nothing below) to an account. */
static int give(const char *dir, uid_t uid, gid_t gid, struct err *err)
{
    AUTO_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d;
    int rc = 0;

    if (fd < 0 || fchown(fd, uid, gid) < 0 || !(d = fdopendir(fd)))
        return err_sys(err, errno, "cannot give %s to the account of davitd", dir);
    TAKE_FD(fd);
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        struct stat st;
        /* That account may have made what is there now: a file with a second name may be somebody else's. */
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
            continue;
        if (fchownat(dirfd(d), e->d_name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
            rc = err_sys(err, errno, "cannot give %s/%s to the account of davitd", dir, e->d_name);
    }
    (void)closedir(d);
    return rc;
}

/* davitd, under its account, must be able to walk to @path. */
static int check_reach(const char *path, const char *account, struct err *err)
{
    AUTO_FREE char *part = str_dup(str_from(path));

    for (char *slash = strrchr(part, '/'); slash && slash != part; slash = strrchr(part, '/')) {
        struct stat st;
        *slash = 0;
        if (stat(part, &st) == 0 && !(st.st_mode & S_IXOTH)) {
            (void)err_set(err, ERR_PRECONDITION, "account \"%s\" cannot reach %s: %s is closed to it", account, path, part);
            err_hint(err, "chmod o+x %s, or use another --home", part);
            return -ERR_PRECONDITION;
        }
    }
    return 0;
}

/* Its log is put aside by davitd itself: the directory is its own. */
static int give_log(struct cli *cli, uid_t uid, gid_t gid, struct err *err)
{
    AUTO_FREE char *dir = str_dup(str_from(cli->paths.log_file));
    int rc = fd_mkdir_p(cli->paths.log, 0711, err);

    *strrchr(dir, '/') = '\0';
    if (rc == 0 && chmod(cli->paths.log, 0711) < 0) /* one of an older version is closed */
        rc = err_sys(err, errno, "cannot open %s to the account of davitd", cli->paths.log);
    if (rc == 0)
        rc = fd_mkdir_p(dir, 0700, err);
    if (rc == 0)
        rc = plane_mode(&cli->settings) ? 0 : check_reach(dir, cli->settings.user, err);
    return rc < 0 ? rc : give(dir, uid, gid, err);
}

/* Of a user who is not root, for a container: it is mounted from there, and made by nobody else. */
static int make_log(struct cli *cli, struct err *err)
{
    AUTO_FREE char *dir = str_dup(str_from(cli->paths.log_file));

    *strrchr(dir, '/') = '\0';
    return fd_mkdir_p(dir, 0700, err);
}

/* davitd makes another by itself. */
static void warn_leaf(struct cli *cli)
{
    struct err err = ERR_INIT;

    if (pki_control_check_leaf(cli->paths.state, &err) < 0)
        out_note(cli, "warning: %s; davitd makes another certificate, and %s", err.msg, err.hint);
}

/* A control plane that runs may change its root between two files that are looked at: when that step has ended they belong together. */
static int look_at_keys(const char *dir, struct err *err)
{
    int rc = pki_control_settle(dir, err);

    if (rc < 0 || (rc = pki_control_state(dir, err)) >= 0 || pki_control_settle(dir, NULL) < 0)
        return rc;
    *err = ERR_INIT;
    return pki_control_state(dir, err);
}

static int prepare_keys(struct cli *cli, struct err *err)
{
    int rc = look_at_keys(cli->paths.state, err);

    /* What was there and does not belong together is told, not made anew without a word; a first `davit up` that was cut off is gone on with. */
    if (rc < 0 && !pki_user_unfinished(cli->paths.config, cli->paths.state))
        return rc;
    if (rc < 0)
        *err = ERR_INIT;
    if (rc == 0)
        warn_leaf(cli);
    rc = pki_user_init(cli->paths.config, err);
    if (rc < 0 || (rc = pki_control_prepare(cli->paths.state, err)) < 0)
        return rc;
    return pki_user_sign(cli->paths.config, cli->paths.state, err);
}

int up_give(struct cli *cli, struct err *err)
{
    uid_t uid;
    gid_t gid;
    int rc = geteuid() == 0 ? priv_lookup(cli->settings.user, &uid, &gid, err) : 1;

    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = give(cli->paths.state, uid, gid, err);
    if (rc == 0)
        rc = give(cli->paths.run, uid, gid, err);
    return rc < 0 ? rc : give_log(cli, uid, gid, err);
}

int up_prepare(struct cli *cli, const struct up_before *b, struct err *err)
{
    int rc;

    if ((rc = fd_mkdir_p(cli->paths.config, 0700, err)) < 0 || (rc = fd_mkdir_p(cli->paths.state, 0700, err)) < 0 ||
        (rc = fd_mkdir_p(cli->paths.agent, 0700, err)) < 0 || (rc = prepare_keys(cli, err)) < 0 || (rc = ensure_account(cli, err)) < 0)
        return rc;
    /* Settings that replace others are saved when davitd works with them; the first ones at once, `down` needs them. A container is left standing
     * when it does not come up, so that its log can be read: there is no way back to other settings then. */
    if ((!b->known || plane_mode(&cli->settings)) && (rc = cli_settings_save(&cli->paths, &cli->settings, err)) < 0)
        return rc;
    if (geteuid() != 0)
        return plane_mode(&cli->settings) ? make_log(cli, err) : 0;
    /* A container sees what it needs wherever it is. */
    if (plane_mode(&cli->settings))
        return up_give(cli, err);
    if ((rc = check_reach(cli->paths.state, cli->settings.user, err)) < 0 ||
        (rc = check_reach(cli->paths.run, cli->settings.user, err)) < 0 ||
        (cli->settings.releases && (rc = check_reach(cli->settings.releases, cli->settings.user, err)) < 0))
        return rc;
    return up_give(cli, err);
}
