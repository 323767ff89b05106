/* SPDX-License-Identifier: Apache-2.0 */
/* drop — see drop.h. */
#include "init/drop.h"

#include <errno.h>
#include <grp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "init/sys.h"

enum { STATUS_CONFIG = 2, STATUS_CANNOT_EXECUTE = 126, STATUS_NOT_FOUND = 127, CAPS_MAX = 64, CAPS_VERSION = 0x20080522 };

void drop_signals(void)
{
    /* Dispositions first: what was blocked must not meet one of ours. */
    for (int s = 1; s <= SYS_SIGNALS; s++)
        if (s != SIGKILL && s != SIGSTOP)
            (void)sys_set_disposition(s, 0, 0);
    (void)sys_set_mask(0);
}

static bool take_terminal(enum drop_tty tty, struct drop_report *r)
{
    r->step = "cannot lead a session";
    if (tty == DROP_AS_PUT)
        return true;
    if (tty == DROP_FOREGROUND) {
        if (setpgid(0, 0) < 0)
            return false;
        /* TTOU is blocked here: the call is allowed from the background. */
        (void)tcsetpgrp(STDIN_FILENO, getpid());
        return true;
    }
    if (setsid() < 0)
        return false;
    /* One that cannot be taken is still good to read and write. */
    if (tty == DROP_TAKE_TTY)
        (void)ioctl(STDIN_FILENO, TIOCSCTTY, 0);
    return true;
}

static bool empty_bounding_set(void)
{
    for (unsigned long cap = 0; cap < CAPS_MAX; cap++) {
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0)
            return cap > 0;
        if (has == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return false;
    }
    return true;
}

/* A container that was made without CAP_SETGID has no groups to lose. */
static bool set_groups(const struct account *who)
{
    gid_t list[WIRE_GROUPS_MAX];

    for (uint32_t i = 0; i < who->groups_n; i++)
        list[i] = who->groups[i];
    return setgroups(who->groups_n, list) == 0 || (errno == EPERM && who->groups_n == 0 && getgroups(0, NULL) == 0);
}

/* All of them at once; a process that is no longer uid 0 has lost most already, not the inheritable ones. */
static bool empty_capabilities(void)
{
    struct {
        uint32_t version;
        int32_t pid;
    } head = {CAPS_VERSION, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } none[2] = {{0, 0, 0}, {0, 0, 0}};

    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &head, none) == 0;
}

static bool become(const struct account *who, struct drop_report *r)
{
    r->step = "cannot empty the capability bounding set";
    if (!empty_bounding_set())
        return false;
    r->step = "cannot set the groups";
    if (!set_groups(who) || setresgid(who->gid, who->gid, who->gid) < 0)
        return false;
    r->step = "cannot set the user";
    if (setresuid(who->uid, who->uid, who->uid) < 0)
        return false;
    r->step = "cannot give up capabilities";
    if (!empty_capabilities() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return false;
    errno = EPERM;
    r->step = "the change of user can be undone";
    return who->uid == 0 || setresuid((uid_t)-1, 0, (uid_t)-1) < 0;
}

_Noreturn void drop_exec(const struct account *who, enum drop_tty tty, const char *path, char **argv, char **envp,
                         struct drop_report *report)
{
    struct drop_report r = {0, NULL};
    bool good = take_terminal(tty, &r) && become(who, &r);

    if (!good) {
        r.sys = errno;
        *report = r;
        _exit(STATUS_CONFIG);
    }
    /* init's own are close-on-exec; what the engine may have left open was closed when init began. */
    (void)sys_close_from(STDERR_FILENO + 1);
    drop_signals();
    (void)execve(path, argv, envp);
    report->sys = errno;
    _exit(errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : STATUS_CANNOT_EXECUTE);
}
