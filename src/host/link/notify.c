/* SPDX-License-Identifier: Apache-2.0 */
/* notify — see notify.h. */
#include "host/link/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

#define WATCHDOG_MAX USEC_DAY

bool notify_wanted(void)
{
    const char *at = getenv("NOTIFY_SOCKET");
    return at && *at;
}

/* -ERR_INVALID for what is no address of a manager. */
static int address(const char *at, struct sockaddr_un *ret, socklen_t *ret_size, struct err *err)
{
    size_t n = strlen(at);
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((*at != '/' && *at != '@') || n < 2 || n >= sizeof(ret->sun_path))
        return err_set(err, ERR_INVALID, "NOTIFY_SOCKET is neither a path nor an abstract name");
    memcpy(ret->sun_path, at, n);
    if (*at == '@')
        ret->sun_path[0] = '\0';
    *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (*at == '/' ? 1 : 0));
    return 0;
}

int notify_send(const char *words, struct err *err)
{
    struct sockaddr_un to;
    socklen_t size = 0;
    size_t n = strlen(words);
    const char *at = getenv("NOTIFY_SOCKET");
    if (!at || !*at)
        return 1;
    int rc = address(at, &to, &size, err);
    if (rc < 0)
        return rc;
    if (n == 0 || n > NOTIFY_MAX)
        return err_set(err, ERR_INVALID, "a notification has 1 to %d bytes", NOTIFY_MAX);
    AUTO_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, errno, "no socket for the service manager");
    if (sendto(fd, words, n, MSG_NOSIGNAL, (struct sockaddr *)&to, size) != (ssize_t)n)
        return err_sys(err, errno, "the service manager was not told");
    return 0;
}

int notify_status(const char *text, struct err *err)
{
    char words[NOTIFY_MAX + 1] = "STATUS=";
    size_t at = strlen(words), n;
    struct str rest = str_from(text);
    while (rest.n && (n = str_utf8_len(rest), n = n ? n : 1) <= NOTIFY_MAX - at) {
        bool plain = n > 1 || ((unsigned char)*rest.p >= 0x20 && (unsigned char)*rest.p < 0x7f);
        if (plain)
            memcpy(words + at, rest.p, n);
        else
            words[at] = ' ';
        at += n;
        rest = (struct str){rest.p + n, rest.n - n};
    }
    words[at] = '\0';
    return notify_send(words, err);
}

int notify_main_pid(pid_t pid, struct err *err)
{
    char words[64];
    (void)snprintf(words, sizeof(words), "MAINPID=%ld", (long)pid);
    return notify_send(words, err);
}

int notify_extend(usec_t more, struct err *err)
{
    char words[64];
    (void)snprintf(words, sizeof(words), "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)more);
    return notify_send(words, err);
}

usec_t notify_watchdog(void)
{
    const char *every = getenv("WATCHDOG_USEC"), *whose = getenv("WATCHDOG_PID");
    uint64_t usec = 0, pid = 0;
    if (!notify_wanted() || !every || str_to_u64(str_from(every), WATCHDOG_MAX, &usec) < 0)
        return 0;
    if (whose && (str_to_u64(str_from(whose), INT32_MAX, &pid) < 0 || (pid_t)pid != getpid()))
        return 0;
    return usec / 2;
}
