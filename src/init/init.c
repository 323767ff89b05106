/* SPDX-License-Identifier: Apache-2.0 */
/* init — see init.h. One loop waits for signals, the session half and one deadline; what happens becomes an event, and table.c says what follows. */
#include "init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/conf.h"
#include "init/drop.h"
#include "init/facts.h"
#include "init/half.h"
#include "init/say.h"
#include "init/self.h"
#include "init/table.h"
#include "init/wire.h"

/* Per turn of the loop, so that none of them keeps the others waiting. */
enum { REAP_MAX = 512, FRAMES_MAX = 16, SIGNALS_MAX = 16 };
/* A look at all of /proc after so many reaped children, and at most once in so many ms. */
enum { ZOMBIES_EVERY = 4096, ZOMBIES_MS = 1000 };
enum { STATUS_NEVER = 1, STATUS_CONFIG = 2, STATUS_SIGNAL = 128 };

/* Shared with children: why they did not become what they should. */
struct reports {
    struct drop_report main, half;
};

struct init {
    enum init_state state; /* set_state() alone writes it */
    uint64_t deadline;     /* of the state; 0: none */
    uint64_t stop_began;   /* 0: nobody asked to stop */
    struct conf conf;
    struct half half;
    struct reports *reports;
    int signals;
    pid_t main;
    char program[64]; /* its name, once it was started */
    enum drop_tty tty;
    bool is_pid1, initialized, alone, again;
    uint8_t code; /* what to exit with */
    uint32_t oom_before;
    struct wire_end end;
    uint32_t reaped;
    struct wire_zombies zombies; /* the last look; its head is a frame's once there was one */
    uint64_t zombies_at;
    union wire_frame in; /* the last frame of the session half */
};

static void set_state(struct init *i, enum init_state next)
{
    if (i->state != next)
        i->deadline = 0;
    i->state = next;
}

static void happens(struct init *i, enum init_event event, int signo);

/* --- What the session half is told ---------------------------------------------------------------------------------------------------- */

static enum wire_state state_told(const struct init *i)
{
    if (i->state == ST_WAIT)
        return WIRE_WAITING;
    if (i->main == 0)
        return WIRE_ENDED;
    return i->state == ST_RUN ? WIRE_RUNNING : WIRE_TERMINATING;
}

static void tell_hello(struct init *i)
{
    const struct account *who = &i->conf.who;
    union wire_frame f;

    wire_begin(&f, WIRE_HELLO);
    f.hello.state = state_told(i);
    f.hello.main_pid = i->main;
    f.hello.initialized = i->initialized;
    f.hello.grace_ms = i->conf.grace_ms;
    f.hello.end = i->end;
    f.hello.uid = who->uid;
    f.hello.gid = who->gid;
    f.hello.groups_n = who->groups_n;
    memcpy(f.hello.groups, who->groups, sizeof(f.hello.groups));
    memcpy(f.hello.user, who->name, sizeof(f.hello.user));
    memcpy(f.hello.home, who->home, sizeof(f.hello.home));
    half_send(&i->half, &f, true);
}

static void tell_started(struct init *i)
{
    union wire_frame f;

    wire_begin(&f, WIRE_STARTED);
    f.started.pid = i->main;
    half_send(&i->half, &f, true);
}

static void tell_exited(struct init *i)
{
    union wire_frame f;

    wire_begin(&f, WIRE_EXITED);
    f.exited.end = i->end;
    half_send(&i->half, &f, true);
}

static void tell_stopping(struct init *i)
{
    union wire_frame f;

    wire_begin(&f, WIRE_STOPPING);
    f.stopping.within_ms = INIT_CLOSE_MS;
    half_send(&i->half, &f, true);
}

static void refuse(struct init *i, enum wire_reason reason)
{
    union wire_frame f;

    wire_begin(&f, WIRE_REFUSED);
    f.refused.type = i->in.head.type;
    f.refused.reason = reason;
    half_send(&i->half, &f, false);
}

/* Looks, unless it just did. */
static void count_zombies(struct init *i)
{
    uint64_t now = half_now();
    union wire_frame f;

    if (i->zombies_at != 0 && now - i->zombies_at < ZOMBIES_MS)
        return;
    wire_begin(&f, WIRE_ZOMBIES);
    facts_zombies(&f.zombies);
    i->zombies = f.zombies;
    i->zombies_at = now;
}

static void tell_zombies(struct init *i)
{
    union wire_frame f;

    wire_begin(&f, WIRE_ZOMBIES);
    if (i->zombies_at != 0)
        f.zombies = i->zombies;
    half_send(&i->half, &f, false);
}

/* --- The main program ------------------------------------------------------------------------------------------------------------------- */

/* To its group; before it has one, to itself. The kernel throws TSTP for an orphaned group away, as one in a session of its own is: STOP does it. */
static void signal_main(struct init *i, int signo)
{
    if (i->main <= 0)
        return;
    if (signo == SIGTSTP && getsid(i->main) != getsid(0))
        signo = SIGSTOP;
    if (kill(-i->main, signo) < 0)
        (void)kill(i->main, signo);
}

static void fail_spawn(struct init *i, uint8_t code)
{
    i->code = code;
    happens(i, EV_SPAWN_FAILED, 0);
}

static void act_spawn(struct init *i, int signo)
{
    static char path[CONF_PATH_MAX];
    char **argv = conf_arguments(&i->conf, &i->in.ready), **envp = conf_environment(&i->conf);

    (void)signo;
    if (argv[0] == NULL) {
        say("there is no program to start: neither the image nor the command line names one");
        fail_spawn(i, STATUS_CONFIG);
        return;
    }
    (void)conf_find_program(argv[0], i->conf.path, path);
    i->tty = self_release_terminal();
    i->end.oom_known = facts_oom_kills(&i->oom_before);
    i->reports->main = (struct drop_report){0, NULL};
    pid_t pid = fork();
    if (pid == 0)
        drop_exec(&i->conf.who, i->tty, path, argv, envp, &i->reports->main);
    if (pid < 0) {
        say("cannot start ", argv[0], ": ", strerror(errno));
        fail_spawn(i, STATUS_NEVER);
        return;
    }
    i->main = pid;
    (void)str_copy(i->program, sizeof(i->program), str_from(argv[0]));
    if (i->tty == DROP_FOREGROUND)
        (void)setpgid(pid, pid);
    tell_started(i);
}

static void main_ended(struct init *i, int status)
{
    const struct drop_report *r = &i->reports->main;
    uint32_t after = 0;

    i->main = 0;
    i->end.status = status;
    i->end.exec_errno = r->sys;
    i->end.oom_known = i->end.oom_known && facts_oom_kills(&after);
    i->end.oom_kills = i->end.oom_known ? after - i->oom_before : 0;
    i->code = (uint8_t)(WIFSIGNALED(status) ? STATUS_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status));
    if (r->sys != 0)
        say("cannot start ", i->program, ": ", r->step != NULL ? r->step : "", r->step != NULL ? ": " : "", strerror(r->sys));
    if (i->end.oom_kills > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        say("the kernel killed the program: the sandbox was out of memory");
    if (i->tty == DROP_FOREGROUND)
        (void)tcsetpgrp(STDIN_FILENO, getpgrp());
    tell_exited(i);
}

/* --- Actions of the table --------------------------------------------------------------------------------------------------------------- */

static void act_none(struct init *i, int signo)
{
    (void)i;
    (void)signo;
}

static void act_refuse(struct init *i, int signo)
{
    (void)signo;
    refuse(i, i->state >= ST_CLOSE ? WIRE_ENDING : WIRE_ALREADY);
}

static void begin_stop(struct init *i, uint32_t grace_ms)
{
    if (i->stop_began == 0)
        i->stop_began = half_now();
    i->deadline = i->stop_began + grace_ms;
}

static void act_ask(struct init *i, int signo)
{
    signal_main(i, signo);
    begin_stop(i, i->conf.grace_ms / 2);
}

static void act_term(struct init *i, int signo)
{
    (void)signo;
    signal_main(i, SIGTERM);
    /* A stopped program cannot obey. */
    signal_main(i, SIGCONT);
    begin_stop(i, i->conf.grace_ms);
}

static void act_kill(struct init *i, int signo)
{
    (void)signo;
    signal_main(i, SIGKILL);
    i->code = STATUS_SIGNAL + SIGKILL;
    i->deadline = half_now() + INIT_KILL_MS;
}

static void act_close(struct init *i, int signo)
{
    (void)signo;
    if (i->half.pid == 0) {
        happens(i, EV_SESSION_GONE, 0);
        return;
    }
    tell_stopping(i);
    i->deadline = half_now() + INIT_CLOSE_MS;
}

static void act_close_kill(struct init *i, int signo)
{
    (void)signo;
    half_kill(&i->half);
    i->deadline = half_now() + INIT_CLOSE_KILL_MS;
}

static void signal_all(struct init *i, int signo)
{
    if (i->is_pid1)
        (void)kill(-1, signo);
    else
        facts_signal_children(signo);
}

static void act_drain(struct init *i, int signo)
{
    (void)signo;
    signal_all(i, SIGTERM);
    signal_all(i, SIGCONT);
    i->deadline = half_now() + INIT_DRAIN_MS;
    i->again = true;
}

static void act_drain_kill(struct init *i, int signo)
{
    (void)signo;
    signal_all(i, SIGKILL);
    i->deadline = half_now() + INIT_DRAIN_MS;
}

static void act_restart(struct init *i, int signo)
{
    (void)signo;
    half_ended(&i->half);
}

static void act_config(struct init *i, int signo)
{
    i->code = STATUS_CONFIG;
    act_drain(i, signo);
}

static void (*const actions[ACT_MAX])(struct init *i, int signo) = {
    [ACT_NONE] = act_none,       [ACT_SPAWN] = act_spawn,
    [ACT_REFUSE] = act_refuse,   [ACT_FORWARD] = signal_main,
    [ACT_ASK] = act_ask,         [ACT_TERM] = act_term,
    [ACT_KILL] = act_kill,       [ACT_CLOSE] = act_close,
    [ACT_DRAIN] = act_drain,     [ACT_CLOSE_KILL] = act_close_kill,
    [ACT_CONFIG] = act_config,   [ACT_DRAIN_KILL] = act_drain_kill,
    [ACT_RESTART] = act_restart,
};

static void happens(struct init *i, enum init_event event, int signo)
{
    struct init_move m = table_move(i->state, event);

    set_state(i, m.next);
    actions[m.action](i, signo);
}

/* --- What comes in ---------------------------------------------------------------------------------------------------------------------- */

/* In a restart of the container its steps are not run again. */
static void remember_initialized(struct init *i)
{
    char *marker = i->conf.marker;

    i->initialized = true;
    for (char *p = strchr(marker + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        (void)mkdir(marker, 0755);
        *p = '/';
    }
    int fd = open(marker, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0)
        say("a restart will run the first steps again: cannot write ", marker, ": ", strerror(errno));
    else
        (void)close(fd);
}

static void act_on_frame(struct init *i)
{
    switch (i->in.head.type) {
    case WIRE_READY: happens(i, EV_READY, 0); break;
    case WIRE_INITIALIZED: remember_initialized(i); break;
    case WIRE_SIGNAL:
        if (i->main > 0)
            signal_main(i, i->in.signal.signo);
        else
            refuse(i, WIRE_NOT_RUNNING);
        break;
    case WIRE_STOP:
        if (i->state == ST_WAIT && i->in.stop.code > 0)
            i->code = (uint8_t)i->in.stop.code;
        happens(i, EV_STOP, SIGTERM);
        break;
    default:
        tell_hello(i);
        count_zombies(i);
        tell_zombies(i);
    }
}

static void read_frames(struct init *i)
{
    for (int n = 0; n < FRAMES_MAX && i->half.fd >= 0; n++) {
        int rc = wire_recv(i->half.fd, WIRE_TO_INIT, &i->in);
        if (rc == 1)
            return;
        if (rc == 0) {
            act_on_frame(i);
            continue;
        }
        if (rc < 0)
            say("davit-session sent what it may not: killed");
        /* On its way out it may hang up first; otherwise one that cannot be talked to is of no use. */
        if (rc == 2 && i->state >= ST_CLOSE)
            half_hang_up(&i->half);
        else
            half_kill(&i->half);
    }
}

static void read_signals(struct init *i)
{
    struct signalfd_siginfo s[SIGNALS_MAX];
    ssize_t n = read(i->signals, s, sizeof(s));

    for (size_t k = 0; n > 0 && k < (size_t)n / sizeof(s[0]); k++) {
        int signo = (int)s[k].ssi_signo;
        /* From nobody but the kernel, when a line of ours met a closed pipe. */
        if (s[k].ssi_pid == (uint32_t)getpid())
            continue;
        if (signo == SIGTERM)
            happens(i, EV_STOP, signo);
        else if (signo == SIGINT)
            happens(i, EV_INT, signo);
        else if (wire_signal_ok(signo))
            happens(i, EV_SIGNAL, signo);
    }
}

/* The session half @pid is dead, but its number is still its own: what its pipelines left is found by it. */
static void half_died(struct init *i, int status)
{
    const struct drop_report *r = &i->reports->half;
    struct say_digits d;
    bool config = WIFEXITED(status) && WEXITSTATUS(status) == WIRE_EXIT_CONFIG && i->state == ST_WAIT;

    if (r->sys != 0)
        say("cannot start ", i->conf.session, ": ", strerror(r->sys));
    else if (i->state < ST_CLOSE)
        say("davit-session ended, ", WIFSIGNALED(status) ? "signal " : "status ",
            say_number(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), &d), config ? "" : "; it is started again");
    half_hang_up(&i->half);
    i->half.pid = 0;
    happens(i, config ? EV_SESSION_CONFIG : EV_SESSION_GONE, 0);
}

/* As waitpid would tell it. */
static int status_of(const siginfo_t *si)
{
    if (si->si_code == CLD_EXITED)
        return (si->si_status & 0xff) << 8;
    return (si->si_status & 0x7f) | (si->si_code == CLD_DUMPED ? 0x80 : 0);
}

/* Waits for one dead child, any or @pid. False: there is none. */
static bool reap_one(struct init *i, pid_t pid)
{
    siginfo_t si = {0};

    if (waitid(pid == 0 ? P_ALL : P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) < 0) {
        i->alone = pid == 0 && errno == ECHILD;
        return false;
    }
    if (si.si_pid == 0)
        return false;
    int status = status_of(&si);
    if (si.si_pid == i->half.pid)
        facts_kill_session(si.si_pid);
    (void)waitid(P_PID, (id_t)si.si_pid, &si, WEXITED | WNOHANG);
    if (si.si_pid == i->half.pid) {
        half_died(i, status);
    } else if (si.si_pid == i->main) {
        main_ended(i, status);
        happens(i, EV_MAIN_GONE, 0);
    } else if (++i->reaped % ZOMBIES_EVERY == 0) {
        count_zombies(i);
        if (i->zombies.count > 0)
            tell_zombies(i);
    }
    return true;
}

/* Our two first: a storm of orphans does not hide their end. */
static void reap(struct init *i)
{
    int n = 0;

    if (i->main > 0)
        (void)reap_one(i, i->main);
    if (i->half.pid > 0)
        (void)reap_one(i, i->half.pid);
    while (n < REAP_MAX && reap_one(i, 0))
        n++;
    i->again = i->again || n == REAP_MAX;
    if (i->alone)
        happens(i, EV_ALONE, 0);
}

/* --- The loop --------------------------------------------------------------------------------------------------------------------------- */

static void start_half(struct init *i)
{
    if (half_start(&i->half, &i->conf, &i->reports->half))
        tell_hello(i);
    else
        half_ended(&i->half);
}

static int wait_ms(const struct init *i)
{
    uint64_t now = half_now(), at = i->deadline;

    if (i->again)
        return 0;
    if (i->half.pid == 0 && i->state < ST_CLOSE && (at == 0 || i->half.due < at))
        at = i->half.due;
    if (at == 0)
        return -1;
    return at <= now ? 0 : (int)(at - now);
}

static void turn(struct init *i)
{
    struct pollfd fds[] = {{.fd = i->signals, .events = POLLIN},
                           {.fd = i->half.fd, .events = (short)(i->half.owed ? POLLIN | POLLOUT : POLLIN)}};
    int timeout = wait_ms(i);

    i->again = false;
    if (poll(fds, ARRAY_LEN(fds), timeout) < 0)
        fds[0].revents = fds[1].revents = 0;
    if (fds[0].revents)
        read_signals(i);
    /* Before the dead are looked at: what a half said last counts. */
    if (fds[1].revents & ~POLLOUT)
        read_frames(i);
    if (i->half.owed && (fds[1].revents & POLLOUT)) {
        i->half.owed = false;
        tell_hello(i);
        if (i->state == ST_CLOSE)
            tell_stopping(i);
    }
    reap(i);
    if (i->deadline != 0 && half_now() >= i->deadline)
        happens(i, EV_DEADLINE, SIGTERM);
    if (i->half.pid == 0 && i->state < ST_CLOSE && half_now() >= i->half.due)
        start_half(i);
}

int init_main(int argc, char **argv, char **envp)
{
    static struct init init = {.code = STATUS_NEVER, .half = {.fd = -1}};
    struct init *i = &init;
    struct stat st;

    self_clean_descriptors();
    (void)prctl(PR_SET_NAME, "davit-init", 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    i->is_pid1 = getpid() == 1;
    if (!i->is_pid1) {
        say("not PID 1: reaping below this process as a subreaper");
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
    i->reports = mmap(NULL, sizeof(*i->reports), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (i->reports == MAP_FAILED || (i->signals = self_take_signals()) < 0) {
        say("cannot begin: ", strerror(errno));
        return STATUS_NEVER;
    }
    if (conf_read(argc, argv, envp, &i->conf) < 0)
        return STATUS_CONFIG;
    i->initialized = lstat(i->conf.marker, &st) == 0 && S_ISREG(st.st_mode);
    start_half(i);
    while (i->state != ST_END)
        turn(i);
    return i->code;
}
