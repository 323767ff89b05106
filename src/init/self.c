/* SPDX-License-Identifier: Apache-2.0 */
/* self — see self.h. */
#include "init/self.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "init/sys.h"

void self_clean_descriptors(void)
{
    enum { WITHOUT_CLOSE_RANGE = 1024 };
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (sys_close_from(STDERR_FILENO + 1) < 0)
        for (fd = STDERR_FILENO + 1; fd < WITHOUT_CLOSE_RANGE; fd++)
            (void)close(fd);
}

int self_take_signals(void)
{
    uint64_t all = ~(SYS_BIT(SIGTTIN) | SYS_BIT(SIGTTOU));

    (void)sys_set_disposition(SIGTTIN, 1, 0);
    (void)sys_set_disposition(SIGTTOU, 1, 0);
    (void)sys_set_disposition(SIGCHLD, 0, SA_NOCLDSTOP);
    return sys_set_mask(all) < 0 ? -1 : sys_signalfd(all);
}

enum drop_tty self_release_terminal(void)
{
    if (!isatty(STDIN_FILENO))
        return DROP_NO_TTY;
    if (getsid(0) != getpid())
        return DROP_FOREGROUND;
    if (ioctl(STDIN_FILENO, TIOCNOTTY) < 0)
        return DROP_NO_TTY;
    /* It tells the group in front, ours, that its terminal is gone. */
    while (sys_take_signal(SYS_BIT(SIGHUP) | SYS_BIT(SIGCONT)) > 0)
        continue;
    return DROP_TAKE_TTY;
}
