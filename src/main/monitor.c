/* SPDX-License-Identifier: Apache-2.0 */
/* monitor — see monitor.h. It stays below 400 lines and keeps away from libraries: what it holds is all the privilege that there is here. */
#include "main/monitor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/priv.h"
#include "base/str.h"

#define BACKOFF_BASE  (250 * USEC_MSEC)
#define BACKOFF_CAP   (30 * USEC_SEC)
#define AGENT_AFTER   (150 * USEC_MSEC) /* davitd first: else the agent finds nobody, and waits */
#define LIVED         (10 * USEC_SEC) /* who lived as long begins with the shortest wait again */
#define AGENT_TO_END  (12 * USEC_SEC) /* together below the patience of who stops the container */
#define DAVITD_TO_END (13 * USEC_SEC)
#define KILLED_TO_END (2 * USEC_SEC)
enum { STILLBORN_MAX = 4, EXIT_USAGE = 2, EXIT_EXEC = 127 };

struct program {
    const char *name;
    char **argv;
    pid_t pid;        /* 0: does not run */
    usec_t started;   /* monotonic */
    usec_t due;       /* when it is started again */
    unsigned failures; /* in a row */
};

struct monitor {
    uid_t uid;
    gid_t gid;
    struct program davitd, agent;
    sigset_t signals;
    bool stop;       /* a signal said so */
    bool drained;    /* davitd ended by itself and well */
    bool given_up;   /* davitd does not live */
};

/* --- The command line ---- */

static int usage(const char *what)
{
    log_event(LOG_ERROR, what, "usage", MONITOR_USAGE, NULL);
    return EXIT_USAGE;
}

/* "172.18.0.0/16" */
static bool read_network(const char *text, uint32_t *ret_base, uint32_t *ret_mask)
{
    struct str rest = str_from(text), address = str_cut(&rest, '/');
    char copy[INET_ADDRSTRLEN];
    struct in_addr in;
    uint64_t bits;
    if (str_copy(copy, sizeof(copy), address) != 0 || inet_pton(AF_INET, copy, &in) != 1 || str_to_u64(rest, 30, &bits) != 0 || bits < 8)
        return false;
    *ret_mask = UINT32_MAX << (32 - bits);
    *ret_base = ntohl(in.s_addr) & *ret_mask;
    return true;
}

/* The address that this container has in the network, "" where it has none. */
static void own_address(uint32_t base, uint32_t mask, char ret[INET_ADDRSTRLEN])
{
    struct ifaddrs *all = NULL;
    ret[0] = '\0';
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *i = all; i && !ret[0]; i = i->ifa_next) {
        struct sockaddr_in sin;
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        memcpy(&sin, i->ifa_addr, sizeof(sin));
        if ((ntohl(sin.sin_addr.s_addr) & mask) == base && !inet_ntop(AF_INET, &sin.sin_addr, ret, INET_ADDRSTRLEN))
            ret[0] = '\0';
    }
    freeifaddrs(all);
}

/* Takes the two command lines apart: *ret_n words of davitd's, the agent's are behind the "--". */
static char **split(char **argv, int argc, int *ret_n)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--") == 0) {
            *ret_n = i;
            return i > 0 && i + 1 < argc ? argv + i + 1 : NULL;
        }
    return NULL;
}

/* --- Starting ---- */

/* In the child. It never has what the parent has: not for a moment does a program of another user run with it. */
static _Noreturn void become(const struct monitor *m, const struct program *p)
{
    struct err err = ERR_INIT;
    sigset_t none;
    bool plain = p == &m->davitd;
    if (plain && priv_become(m->uid, m->gid, &err) < 0) {
        log_err(LOG_ERROR, &err, "privileges cannot be given up", "program", p->name, NULL);
        _exit(EXIT_EXEC);
    }
    (void)setsid();
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        (void)execv(p->argv[0], p->argv);
    (void)err_sys(&err, errno, "cannot execute %s", p->argv[0]);
    log_err(LOG_ERROR, &err, "a program cannot be started", "program", p->name, NULL);
    _exit(EXIT_EXEC);
}

static void start(struct monitor *m, struct program *p)
{
    pid_t pid = fork();
    if (pid == 0)
        become(m, p);
    p->started = clock_mono();
    if (pid > 0) {
        p->pid = pid;
        return;
    }
    log_event(LOG_ERROR, "no process can be made", "program", p->name, NULL);
    p->due = p->started + BACKOFF_CAP;
}

/* --- Ends ---- */

static void put_status(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status))
        (void)snprintf(text, size, "signal %d", WTERMSIG(status));
    else
        (void)snprintf(text, size, "%d", WEXITSTATUS(status));
}

static void ended(struct monitor *m, struct program *p, int status)
{
    char how[32];
    bool young = clock_mono() - p->started < LIVED, well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    put_status(status, how, sizeof(how));
    p->pid = 0;
    if (m->stop || m->drained || m->given_up)
        return;
    if (p == &m->davitd && well) {
        log_event(LOG_NOTICE, "the control plane has ended, so does this container", NULL);
        m->drained = true;
        return;
    }
    p->failures = young ? p->failures + 1 : 1;
    if (p == &m->davitd && p->failures >= STILLBORN_MAX) {
        log_event(LOG_ERROR, "the control plane does not live: its own words stand above", "status", how, NULL);
        m->given_up = true;
        return;
    }
    p->due = clock_mono() + backoff_wait(p->failures - 1, BACKOFF_BASE, BACKOFF_CAP);
    log_event(LOG_WARN, "a program has ended and is started again", "program", p->name, "status", how, NULL);
}

static void reap(struct monitor *m)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) != 0;) {
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return;
        if (pid == m->davitd.pid)
            ended(m, &m->davitd, status);
        else if (pid == m->agent.pid)
            ended(m, &m->agent, status);
        /* else an orphan, which is nobody's */
    }
}

/* Waits for a signal until @deadline (monotonic) and heeds it. */
static void wait_signal(struct monitor *m, usec_t deadline)
{
    usec_t now = clock_mono(), left = deadline > now ? deadline - now : 0;
    const struct timespec patience = {.tv_sec = (time_t)(left / USEC_SEC), .tv_nsec = (long)(left % USEC_SEC) * 1000};
    int signum = deadline == USEC_INFINITY ? sigwaitinfo(&m->signals, NULL) : sigtimedwait(&m->signals, NULL, &patience);
    if (signum == SIGTERM || signum == SIGINT) {
        log_event(LOG_NOTICE, "stopping", "signal", signum == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
        m->stop = true;
    }
    reap(m);
}

static void end(struct monitor *m, struct program *p, usec_t patience)
{
    for (int signum = SIGTERM; p->pid; signum = SIGKILL) {
        usec_t deadline = clock_mono() + (signum == SIGTERM ? patience : KILLED_TO_END);
        (void)kill(p->pid, signum);
        while (p->pid && clock_mono() < deadline)
            wait_signal(m, deadline);
        if (signum == SIGKILL)
            return; /* what the kernel holds back ends with the container */
        if (p->pid)
            log_event(LOG_WARN, "a program does not end and is killed", "program", p->name, NULL);
    }
}

/* --- Life ---- */

static usec_t next_due(const struct monitor *m)
{
    usec_t due = USEC_INFINITY;
    if (!m->davitd.pid)
        due = m->davitd.due;
    if (!m->agent.pid && m->agent.due < due)
        due = m->agent.due;
    return due;
}

static int keep(struct monitor *m)
{
    m->agent.due = clock_mono() + AGENT_AFTER;
    while (!m->stop && !m->drained && !m->given_up) {
        usec_t now = clock_mono();
        if (!m->davitd.pid && m->davitd.due <= now)
            start(m, &m->davitd);
        if (!m->agent.pid && m->agent.due <= now)
            start(m, &m->agent);
        wait_signal(m, next_due(m));
    }
    /* The agent first: what it has to say still finds a control plane. */
    end(m, &m->agent, AGENT_TO_END);
    end(m, &m->davitd, DAVITD_TO_END);
    return m->given_up ? 1 : 0;
}

int monitor_main(int argc, char **argv)
{
    static char option[] = "--inside";
    static char inside[INET_ADDRSTRLEN];
    struct monitor m = {.davitd = {.name = "davitd"}, .agent = {.name = "davit-agent"}};
    uint32_t base, mask;
    uint64_t uid, gid;
    int n = 0;
    log_setup("davit-monitor", LOG_INFO, LOG_FORMAT_TEXT);
    if (argc < 3 || str_to_u64(str_from(argv[0]), UINT32_MAX - 1, &uid) != 0 || str_to_u64(str_from(argv[1]), UINT32_MAX - 1, &gid) != 0 ||
        !read_network(argv[2], &base, &mask))
        return usage("who davitd is and in which network it listens is not said");
    m.uid = (uid_t)uid;
    m.gid = (gid_t)gid;
    if (uid == 0 || gid == 0)
        return usage("davitd is never run as root");
    m.agent.argv = split(argv + 3, argc - 3, &n);
    if (!m.agent.argv)
        return usage("the command lines of davitd and davit-agent are not told apart by --");
    own_address(base, mask, inside);
    if (!inside[0]) {
        log_event(LOG_ERROR, "this container has no address in the network that it is to listen in", "network", argv[2], NULL);
        return 1;
    }
    m.davitd.argv = mem_zalloc((size_t)n + 3, sizeof(char *));
    memcpy(m.davitd.argv, argv + 3, (size_t)n * sizeof(char *));
    m.davitd.argv[n] = option;
    m.davitd.argv[n + 1] = inside;
    (void)sigemptyset(&m.signals);
    (void)sigaddset(&m.signals, SIGTERM);
    (void)sigaddset(&m.signals, SIGINT);
    (void)sigaddset(&m.signals, SIGCHLD);
    /* Blocked and waited for: PID 1 is not killed by a signal that nobody takes. */
    (void)sigprocmask(SIG_BLOCK, &m.signals, NULL);
    int rc = keep(&m);
    free(m.davitd.argv);
    return rc;
}
