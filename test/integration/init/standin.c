/* SPDX-License-Identifier: Apache-2.0 */
/* standin — takes the place of davit-session in the tests of davit-init. It has no mind of its own: it connects to the unix socket (SOCK_SEQPACKET)
 * that DAVIT_TEST_SOCKET names, gives init's frames to the test there, and does what the test says, by the first byte of each packet:
 *   f FRAME  send FRAME to init as it is        x BYTE  exit with that status
 *   d FRAME  the same with a descriptor         q       ask init 3000 times, without reading an answer
 *   l        listen on TCP 127.0.0.1:7700       c       close the wire
 *   p        start a pipeline: a process in a group of its own, and its child; answers "p" PID PID
 * Without the variable it says at once that the program may start, and exits when init says that it should. Frames go up as "f" FRAME, the end of the
 * wire as "e". */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "init/wire.h"

enum { PACKET_MAX = 4096 };

static int test_fd = -1;

/* Alone, as in a container that no test looks into. */
static _Noreturn void obey_init(void)
{
    union wire_frame f;

    wire_begin(&f, WIRE_READY);
    (void)wire_send(WIRE_FD, &f);
    while (recv(WIRE_FD, &f, sizeof(f), 0) > 0)
        if (f.head.type == WIRE_STOPPING)
            _exit(0);
    _exit(95);
}

static void dial(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    test_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connect(test_fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        _exit(99);
}

static void pipeline(void)
{
    pid_t pids[2];
    int pair[2];
    char answer[1 + sizeof(pids)] = "p";

    if (pipe(pair) < 0 || (pids[0] = fork()) < 0)
        _exit(98);
    if (pids[0] == 0) {
        (void)setpgid(0, 0);
        (void)signal(SIGTERM, SIG_IGN);
        pids[1] = fork();
        if (pids[1] > 0)
            (void)!write(pair[1], &pids[1], sizeof(pids[1]));
        for (;;)
            (void)pause();
    }
    (void)!read(pair[0], &pids[1], sizeof(pids[1]));
    memcpy(answer + 1, pids, sizeof(pids));
    (void)send(test_fd, answer, sizeof(answer), 0);
}

static void listener(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7700), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 1) < 0)
        _exit(97);
}

static void send_with_descriptor(const char *frame, size_t n)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)frame, .iov_len = n};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

    memcpy(CMSG_DATA(&control.head), &test_fd, sizeof(int));
    (void)sendmsg(WIRE_FD, &msg, 0);
}

static void flood(void)
{
    union wire_frame f;

    wire_begin(&f, WIRE_QUERY);
    for (int i = 0; i < 3000; i++)
        (void)send(WIRE_FD, &f, f.head.size, 0);
}

static void obey(const char *packet, size_t n)
{
    switch (packet[0]) {
    case 'f': (void)send(WIRE_FD, packet + 1, n - 1, 0); break;
    case 'd': send_with_descriptor(packet + 1, n - 1); break;
    case 'x': _exit((unsigned char)packet[1]);
    case 'c': (void)close(WIRE_FD); break;
    case 'p': pipeline(); break;
    case 'l': listener(); break;
    case 'q': flood(); break;
    default: _exit(96);
    }
}

int main(void)
{
    struct pollfd fds[2] = {{.fd = WIRE_FD, .events = POLLIN}, {.events = POLLIN}};
    const char *path = getenv("DAVIT_TEST_SOCKET");
    char packet[PACKET_MAX];

    if (path == NULL)
        obey_init();
    dial(path);
    fds[1].fd = test_fd;
    for (;;) {
        (void)poll(fds, 2, -1);
        if (fds[0].revents != 0) {
            ssize_t n = recv(WIRE_FD, packet + 1, sizeof(packet) - 1, 0);
            packet[0] = n > 0 ? 'f' : 'e';
            (void)send(test_fd, packet, n > 0 ? (size_t)n + 1 : 1, 0);
            if (n <= 0)
                fds[0].fd = -1;
        }
        if (fds[1].revents != 0) {
            ssize_t n = recv(test_fd, packet, sizeof(packet), 0);
            if (n <= 0)
                fds[1].fd = -1;
            else
                obey(packet, (size_t)n);
        }
    }
}
