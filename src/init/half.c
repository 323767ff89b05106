/* SPDX-License-Identifier: Apache-2.0 */
/* half — see half.h. */
#include "init/half.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "init/say.h"
#include "init/sys.h"

enum { STATUS_CANNOT_EXECUTE = 126 };

uint64_t half_now(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 + 1;
}

/* In the child. Its end of the pair comes to its place, what is above is closed. */
static _Noreturn void become_half(const struct conf *c, int fd, struct drop_report *report)
{
    char *argv[] = {(char *)(uintptr_t) "davit-session", NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setsid();
    /* What the program reads is not for it; without /dev/null it has a standard input that it cannot read. */
    (void)dup2(null >= 0 ? null : fd, STDIN_FILENO);
    (void)dup2(STDERR_FILENO, STDOUT_FILENO);
    if (fd == WIRE_FD ? fcntl(fd, F_SETFD, 0) < 0 : dup2(fd, WIRE_FD) < 0)
        _exit(STATUS_CANNOT_EXECUTE);
    (void)sys_close_from(WIRE_FD + 1);
    drop_signals();
    (void)execve(c->session, argv, c->envp);
    report->sys = errno;
    _exit(STATUS_CANNOT_EXECUTE);
}

bool half_start(struct half *h, const struct conf *c, struct drop_report *report)
{
    int pair[2];

    h->began = half_now();
    *report = (struct drop_report){0, NULL};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        say("cannot talk to davit-session: ", strerror(errno));
        return false;
    }
    pid_t pid = fork();
    if (pid == 0)
        become_half(c, pair[1], report);
    (void)close(pair[1]);
    if (pid < 0) {
        say("cannot start davit-session: ", strerror(errno));
        (void)close(pair[0]);
        return false;
    }
    h->pid = pid;
    h->fd = pair[0];
    h->owed = false;
    return true;
}

/* After the limit: many sandboxes of a host that lost its memory at one time must not come back at one time. */
static uint32_t jitter(uint32_t delay)
{
    uint32_t random = (uint32_t)half_now();

    (void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
    return delay - delay / 4 + random % (delay / 2 + 1);
}

void half_ended(struct half *h)
{
    uint64_t now = half_now();

    if (h->delay == 0 || now - h->began >= HALF_GOOD_MS)
        h->delay = HALF_DELAY_MIN_MS;
    half_hang_up(h);
    h->pid = 0;
    h->due = now + jitter(h->delay);
    h->delay = h->delay * 2 > HALF_DELAY_MAX_MS ? HALF_DELAY_MAX_MS : h->delay * 2;
}

void half_send(struct half *h, const union wire_frame *f, bool must)
{
    if (h->fd < 0)
        return;
    /* That one is gone is seen where it is read from. */
    if (wire_send(h->fd, f) == 1 && must)
        h->owed = true;
}

void half_kill(struct half *h)
{
    half_hang_up(h);
    if (h->pid > 0)
        (void)kill(h->pid, SIGKILL);
}

void half_hang_up(struct half *h)
{
    if (h->fd >= 0)
        (void)close(h->fd);
    h->fd = -1;
    h->owed = false;
}
