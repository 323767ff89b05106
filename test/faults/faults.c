/* SPDX-License-Identifier: Apache-2.0 */
/* faults — runs a program and makes one of its system calls the last one, or one that fails.
 *
 * faults [OPTIONS] -- PROGRAM [ARG]...
 * Counts the calls of the chosen classes on files and sockets (never on descriptors 0 to 2, pipes or devices) by all threads of PROGRAM, and at
 * number --at kills it before or after that call, or lets the call fail. A seccomp filter stops only at calls that count, so the rest runs at
 * full speed; the filter needs no privilege. Children of PROGRAM are counted with --children only.
 * --report FILE gets a line per event: "armed", "call N NAME PATH|socket" (with --trace), "fault N NAME PATH|socket", "count N" (on SIGUSR2
 * and at the end), "exit STATUS" or "signal N". With --wait nothing is counted until SIGUSR1, which counts from zero.
 * SIGTERM and SIGINT are passed on, SIGQUIT as SIGKILL: the tool ends when PROGRAM is gone, its locks with it.
 * Ends as PROGRAM did (128 + signal). PROGRAM dies with it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/opt.h"
#include "base/str.h"
#include "calls.h"

enum { FILTER_MAX = 128, EXITS_MAX = 64, OPERANDS_MAX = 256, EXIT_BROKEN = 125 };

struct options {
    struct opt_list calls, paths;
    const char *fd, *action, *error, *report;
    int64_t at;
    bool always, wait, trace, children;
};

#define AT(field) offsetof(struct options, field)
static const struct opt table[] = {
    {.name = "call",
     .type = OPT_LIST,
     .offset = AT(calls),
     .arg = "CLASS",
     .help = "write, sync, name, open, connect (default: all)"},
    {.name = "path", .type = OPT_LIST, .offset = AT(paths), .arg = "PREFIX", .help = "of files, only those below"},
    {.name = "fd",
     .type = OPT_ENUM,
     .choices = "any|file|socket",
     .def = "any",
     .offset = AT(fd),
     .arg = "KIND",
     .help = "what is counted"},
    {.name = "at",
     .type = OPT_INT,
     .offset = AT(at),
     .arg = "N",
     .help = "the call that is hit, from 1 on (0: none, count only)"},
    {.name = "do",
     .type = OPT_ENUM,
     .choices = "kill-before|kill-after|fail",
     .def = "kill-before",
     .offset = AT(action),
     .arg = "WHAT",
     .help = "what happens to it"},
    {.name = "error",
     .type = OPT_ENUM,
     .choices = "EIO|ENOSPC|ECONNRESET|EINTR|ENOMEM|EPIPE|EACCES",
     .def = "EIO",
     .offset = AT(error),
     .arg = "ERRNO",
     .help = "with --do fail"},
    {.name = "always", .type = OPT_BOOL, .offset = AT(always), .help = "with --do fail: that call and all after it"},
    {.name = "wait", .type = OPT_BOOL, .offset = AT(wait), .help = "count from SIGUSR1 on"},
    {.name = "trace", .type = OPT_BOOL, .offset = AT(trace), .help = "report every call that counts"},
    {.name = "children", .type = OPT_BOOL, .offset = AT(children), .help = "count what child processes do, too"},
    {.name = "report", .type = OPT_STRING, .offset = AT(report), .arg = "FILE", .help = "where events are written"},
    {.name = NULL},
};

struct tracer {
    struct options o;
    unsigned classes;
    int error;
    bool counting, done;
    int64_t n;
    pid_t child;
    int report;
    pid_t exits[EXITS_MAX]; /* threads whose present call is the last one of the program */
    size_t n_exits;
    int status; /* of the child */
    bool ended;
};

static volatile sig_atomic_t got_arm, got_snapshot, got_end;

static void on_signal(int signum)
{
    if (signum == SIGUSR1)
        got_arm = 1;
    else if (signum == SIGUSR2)
        got_snapshot = 1;
    else if (signum != SIGCHLD)
        got_end = signum == SIGQUIT ? SIGKILL : signum;
}

static int error_of(const char *name)
{
    static const struct {
        const char *name;
        int code;
    } errors[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"ECONNRESET", ECONNRESET}, {"EINTR", EINTR},
                  {"ENOMEM", ENOMEM}, {"EPIPE", EPIPE},   {"EACCES", EACCES}};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (strcmp(errors[i].name, name) == 0)
            return errors[i].code;
    return EIO;
}

static void say(const struct tracer *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct tracer *t, const char *fmt, ...)
{
    va_list ap;

    if (t->report < 0)
        return;
    va_start(ap, fmt);
    (void)vdprintf(t->report, fmt, ap);
    va_end(ap);
}

static void say_call(const struct tracer *t, const char *what, const struct call *c)
{
    say(t, "%s %lld %s %s\n", what, (long long)t->n, c->name, c->target == TARGET_SOCKET ? "socket" : c->path);
}

/* --- The child ------------------------------------------------------------------------------------------------------------------ */

/* Waits until it is traced, then becomes the program. */
static void become(const struct tracer *t, const sigset_t *mask, int go, const char **argv)
{
    struct sock_filter filter[FILTER_MAX];
    struct sock_fprog program = {.len = (unsigned short)calls_filter(t->classes, filter, FILTER_MAX), .filter = filter};
    char byte;

    if (read(go, &byte, 1) != 1)
        _exit(EXIT_BROKEN);
    (void)close(go);
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("faults: seccomp");
        _exit(EXIT_BROKEN);
    }
    (void)execv(argv[0], (char *const *)(uintptr_t)argv);
    perror(argv[0]);
    _exit(127);
}

static int begin(struct tracer *t, const sigset_t *mask, const char **argv)
{
    int go[2];
    const uintptr_t options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                              PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;

    if (pipe2(go, O_CLOEXEC) != 0 || (t->child = fork()) < 0)
        return -1;
    if (t->child == 0)
        become(t, mask, go[0], argv);
    (void)close(go[0]);
    if (ptrace(PTRACE_SEIZE, t->child, NULL, (void *)options) != 0 || write(go[1], "x", 1) != 1)
        return -1;
    return close(go[1]);
}

/* --- Stops ---------------------------------------------------------------------------------------------------------------------- */

/* The process that a thread belongs to. */
static pid_t group_of(pid_t tid)
{
    char path[64], line[256];
    pid_t found = -1;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
    FILE *f = fopen(path, "re");
    while (f && found < 0 && fgets(line, sizeof(line), f)) {
        uint64_t value = 0;
        struct str rest = str_from(line), s = str_cut(&rest, '\n');
        if (str_starts(s, STR("Tgid:")) && str_to_u64(str_trim((struct str){s.p + 5, s.n - 5}), INT32_MAX, &value) == 0)
            found = (pid_t)value;
    }
    if (f)
        (void)fclose(f);
    return found;
}

static bool counts(const struct tracer *t, const struct call *c)
{
    if (strcmp(t->o.fd, "file") == 0 && c->target != TARGET_FILE)
        return false;
    if (strcmp(t->o.fd, "socket") == 0 && c->target != TARGET_SOCKET)
        return false;
    if (c->target != TARGET_FILE || t->o.paths.n == 0)
        return true;
    for (size_t i = 0; i < t->o.paths.n; i++)
        if (str_starts(str_from(c->path), str_from(t->o.paths.v[i])))
            return true;
    return false;
}

static void kill_it(struct tracer *t)
{
    (void)kill(t->child, SIGKILL);
}

/* The thread stands before this call, which counted. Returns how it goes on. */
static int hit(struct tracer *t, pid_t tid, const struct call *c)
{
    bool now = t->o.at > 0 && (t->n == t->o.at || (t->o.always && t->n > t->o.at));

    if (!now)
        return PTRACE_CONT;
    say_call(t, "fault", c);
    if (strcmp(t->o.action, "fail") == 0) {
        if (regs_skip(tid, t->error) != 0)
            say(t, "broken: %s\n", strerror(errno));
        return PTRACE_CONT;
    }
    if (strcmp(t->o.action, "kill-after") == 0 && t->n_exits < EXITS_MAX) {
        t->exits[t->n_exits++] = tid;
        return PTRACE_SYSCALL;
    }
    kill_it(t);
    return PTRACE_CONT;
}

static int before_call(struct tracer *t, pid_t tid)
{
    struct regs regs;
    struct call c;

    if (!t->counting || regs_get(tid, &regs) != 0)
        return PTRACE_CONT;
    if (!t->o.children && tid != t->child && group_of(tid) != t->child)
        return PTRACE_CONT;
    if (!call_describe(tid, &regs, &c) || !counts(t, &c))
        return PTRACE_CONT;
    t->n++;
    if (t->o.trace)
        say_call(t, "call", &c);
    return hit(t, tid, &c);
}

static int after_call(struct tracer *t, pid_t tid)
{
    for (size_t i = 0; i < t->n_exits; i++)
        if (t->exits[i] == tid)
            kill_it(t);
    return PTRACE_CONT;
}

static void stopped(struct tracer *t, pid_t tid, int status)
{
    int sig = WSTOPSIG(status), event = status >> 16, how = PTRACE_CONT;
    uintptr_t deliver = 0;

    if (event == PTRACE_EVENT_SECCOMP)
        how = before_call(t, tid);
    else if (event == PTRACE_EVENT_STOP && sig != SIGTRAP)
        how = PTRACE_LISTEN; /* stopped by job control */
    else if (event != 0)
        how = PTRACE_CONT;
    else if (sig == (SIGTRAP | 0x80))
        how = after_call(t, tid);
    else
        deliver = (uintptr_t)sig;
    (void)ptrace((enum __ptrace_request)how, tid, NULL, (void *)deliver);
}

static void take_signals(struct tracer *t)
{
    if (got_arm) {
        got_arm = 0;
        t->counting = true;
        t->n = 0;
        say(t, "armed\n");
    }
    if (got_snapshot) {
        got_snapshot = 0;
        say(t, "count %lld\n", (long long)t->n);
    }
    if (got_end) {
        (void)kill(t->child, got_end);
        got_end = 0;
    }
}

/* Signals come only while it waits: none is lost between a look and the wait. */
static void trace(struct tracer *t, const sigset_t *open)
{
    while (!t->ended) {
        int status = 0;
        pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);
        if (tid < 0)
            return;
        if (tid == 0) {
            (void)sigsuspend(open);
            take_signals(t);
            continue;
        }
        if (WIFSTOPPED(status)) {
            stopped(t, tid, status);
        } else if (tid == t->child) {
            t->status = status;
            t->ended = true;
        }
    }
}

static int conclude(const struct tracer *t)
{
    say(t, "count %lld\n", (long long)t->n);
    if (WIFSIGNALED(t->status)) {
        say(t, "signal %d\n", WTERMSIG(t->status));
        return 128 + WTERMSIG(t->status);
    }
    say(t, "exit %d\n", WEXITSTATUS(t->status));
    return WEXITSTATUS(t->status);
}

static int set_up(struct tracer *t, int argc, char **argv, const char **operands)
{
    size_t n = OPERANDS_MAX - 1;
    struct err err = ERR_INIT;
    int rc = opt_parse(table, argc, argv, &t->o, operands, &n, &err);

    if (rc == 1 || (rc == 0 && n == 0)) {
        opt_help(stdout, "faults [OPTIONS] -- PROGRAM [ARG]...", "runs a program and breaks one of its system calls", table,
                 NULL);
        return rc == 1 ? 0 : 2;
    }
    for (size_t i = 0; rc == 0 && i < t->o.calls.n; i++) {
        unsigned class = call_class_of(t->o.calls.v[i]);
        if (!class)
            rc = err_set(&err, ERR_INVALID, "call: %s is none of the classes", t->o.calls.v[i]);
        t->classes |= class;
    }
    if (rc < 0) {
        fprintf(stderr, "faults: %s\n", err.msg);
        return 2;
    }
    if (t->classes == 0)
        t->classes = CALL_ALL;
    t->error = error_of(t->o.error);
    t->counting = !t->o.wait;
    t->report = t->o.report ? open(t->o.report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    operands[n] = NULL;
    return -1;
}

int main(int argc, char **argv)
{
    static struct tracer t;
    const char *operands[OPERANDS_MAX];
    const int signals[] = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGQUIT, SIGCHLD};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t ours, before;

    int rc = set_up(&t, argc, argv, operands);
    if (rc >= 0)
        return rc;
    (void)sigemptyset(&ours);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        (void)sigaddset(&ours, signals[i]);
    (void)sigprocmask(SIG_BLOCK, &ours, &before);
    action.sa_mask = ours;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        (void)sigaction(signals[i], &action, NULL);
    if (begin(&t, &before, operands) != 0) {
        perror("faults");
        return EXIT_BROKEN;
    }
    trace(&t, &before);
    return conclude(&t);
}
