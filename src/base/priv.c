/* SPDX-License-Identifier: Apache-2.0 */
/* priv — see priv.h. */
#include "base/priv.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"

enum { PASSWD_MAX = 4 * 1024 * 1024, CAP_LAST_POSSIBLE = 63 };

/* One line of passwd(5): name:password:uid:gid:... */
static int parse_entry(struct str line, struct str name, uid_t *ret_uid, gid_t *ret_gid)
{
    uint64_t uid, gid;

    if (!str_eq(str_cut(&line, ':'), name))
        return 1;
    str_cut(&line, ':');
    if (str_to_u64(str_cut(&line, ':'), UINT32_MAX - 1, &uid) < 0 || str_to_u64(str_cut(&line, ':'), UINT32_MAX - 1, &gid) < 0)
        return 1;
    *ret_uid = (uid_t)uid;
    *ret_gid = (gid_t)gid;
    return 0;
}

int priv_lookup(const char *name, uid_t *ret_uid, gid_t *ret_gid, struct err *err)
{
    AUTO_BUF text = BUF_INIT(PASSWD_MAX);
    int rc = fd_read_file("/etc/passwd", &text, err);

    if (rc < 0)
        return rc;
    for (struct str rest = buf_str(&text); rest.n > 0;) {
        struct str line = str_cut(&rest, '\n');
        if (parse_entry(line, str_from(name), ret_uid, ret_gid) == 0)
            return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "there is no account \"%s\" in /etc/passwd", name);
}

static int drop_capabilities(struct err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (syscall(SYS_capset, &head, none) < 0)
        return err_sys(err, errno, "cannot give up capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(err, errno, "cannot set no-new-privileges");
    return 0;
}

int priv_become(uid_t uid, gid_t gid, struct err *err)
{
    for (unsigned long cap = 0; cap <= CAP_LAST_POSSIBLE; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
            return err_sys(err, errno, "cannot empty the capability bounding set");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_sys(err, errno, "cannot empty the ambient capabilities");
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return err_sys(err, errno, "cannot become uid %lu", (unsigned long)uid);
    int rc = drop_capabilities(err);
    if (rc == 0 && uid != 0 && setuid(0) == 0)
        return err_set(err, ERR_INTERNAL, "the change to uid %lu can be undone", (unsigned long)uid);
    return rc;
}

int priv_drop(const char *name, struct err *err)
{
    uid_t uid;
    gid_t gid;
    int rc = priv_lookup(name, &uid, &gid, err);

    if (rc < 0)
        return rc;
    if (geteuid() != 0) {
        if (geteuid() != uid)
            return err_set(err, ERR_DENIED, "only root can become account \"%s\"", name);
        return drop_capabilities(err);
    }
    rc = priv_become(uid, gid, err);
    return rc < 0 ? err_wrap(err, "account \"%s\"", name) : 0;
}
