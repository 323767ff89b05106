/* SPDX-License-Identifier: Apache-2.0 */
/* proc — see proc.h. */
#include "cli/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "loop/child.h"

enum { UNIT_MAX = 16384, LOG_TAIL = 1500, CMDLINE_MAX = 65536 };
static const usec_t STOP_PATIENCE = 15 * USEC_SEC;
static const usec_t SYSTEMCTL_TIMEOUT = 60 * USEC_SEC;
static const usec_t POLL_STEP = 50 * USEC_MSEC;

bool proc_has_systemd(void)
{
    struct stat st;

    return geteuid() == 0 && lstat("/run/systemd/system", &st) == 0 && S_ISDIR(st.st_mode);
}

/* The pid that the lock file names, or 0. */
static pid_t named_pid(const struct proc *p)
{
    AUTO_BUF text = BUF_INIT(64);
    struct str rest;
    uint64_t pid;

    if (fd_read_file(p->lock, &text, NULL) < 0)
        return 0;
    rest = buf_str(&text);
    return str_to_u64(str_cut(&rest, '\n'), INT32_MAX, &pid) == 0 && pid > 1 ? (pid_t)pid : 0;
}

int proc_alive(const struct proc *p, pid_t *ret_pid, struct err *err)
{
    AUTO_FD int fd = open(p->lock, O_RDONLY | O_CLOEXEC);
    pid_t pid = named_pid(p);

    *ret_pid = 0;
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "cannot read %s", p->lock);
    /* The lock is tried only where the named process exists: trying it could get in the way of a daemon that is just starting. */
    if (pid == 0 || (kill(pid, 0) < 0 && errno == ESRCH))
        return 0;
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        return 0; /* closing the descriptor gives it back */
    if (errno != EWOULDBLOCK)
        return err_sys(err, errno, "cannot test the lock %s", p->lock);
    *ret_pid = pid;
    return 1;
}

/* A process that we may not look into (no CAP_SYS_PTRACE in a container) counts as current: to restart it each time would be worse. */
static bool same_program(const struct proc *p, pid_t pid)
{
    AUTO_FREE char *link = str_printf("/proc/%ld/exe", (long)pid);
    struct stat running, installed;

    if (stat(link, &running) < 0)
        return errno == EACCES || errno == EPERM;
    return stat(p->args[0], &installed) == 0 && running.st_dev == installed.st_dev && running.st_ino == installed.st_ino;
}

bool proc_current(const struct proc *p, pid_t pid)
{
    AUTO_FREE char *path = str_printf("/proc/%ld/cmdline", (long)pid);
    AUTO_BUF text = BUF_INIT(CMDLINE_MAX);
    struct str rest;
    size_t i = 0;

    if (!same_program(p, pid) || fd_read_file(path, &text, NULL) < 0)
        return false;
    for (rest = buf_str(&text); rest.n > 0; i++)
        if (!p->args[i] || !str_eq(str_cut(&rest, '\0'), str_from(p->args[i])))
            return false;
    return p->args[i] == NULL;
}

static char *log_path(const struct cli *cli, const struct proc *p)
{
    return str_printf("%s/%s.log", cli->paths.log, p->name);
}

/* In the grandchild: only calls that are safe between fork and exec. */
static _Noreturn void become(const struct proc *p, int log)
{
    int null = open("/dev/null", O_RDONLY);
    sigset_t none;

    (void)setsid();
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    if (dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 || chdir("/") < 0)
        _exit(126);
    execv(p->args[0], (char *const *)(void *)p->args);
    dprintf(2, "cannot execute %s: %s\n", p->args[0], strerror(errno));
    _exit(127);
}

static int start_background(struct cli *cli, const struct proc *p, struct err *err)
{
    AUTO_FREE char *path = log_path(cli, p);
    AUTO_FD int log = -1;
    int status;
    pid_t child;
    /* Below it the account of davitd has a directory of its own. */
    int rc = fd_mkdir_p(cli->paths.log, geteuid() == 0 ? 0711 : 0700, err);

    if (rc < 0)
        return rc;
    log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0)
        return err_sys(err, errno, "cannot open %s", path);
    child = fork();
    if (child < 0)
        return err_sys(err, errno, "cannot start %s", p->name);
    if (child == 0) {
        pid_t daemon = fork(); /* twice, so that the daemon has no parent of ours to wait for it */
        if (daemon != 0)
            _exit(daemon < 0 ? 1 : 0);
        become(p, log);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

static int systemctl(struct cli *cli, const char *const *args, struct err *err)
{
    struct child_spec spec = {.argv = args, .output_max = 4096};
    struct child_result result;
    int rc = child_run(cli->loop, &spec, deadline_in(SYSTEMCTL_TIMEOUT), &result, err);

    if (rc < 0)
        return rc;
    if (result.exit_status != 0)
        rc = err_set(err, ERR_INTERNAL, "systemctl %s %s failed: %s", args[1], args[2] ? args[2] : "", buf_cstr(&result.err));
    child_result_release(&result);
    return rc;
}

static int append_exec(struct buf *unit, const struct proc *p)
{
    int rc = buf_append_cstr(unit, "ExecStart=");

    for (size_t i = 0; p->args[i] && rc == 0; i++)
        rc = buf_printf(unit, "%s\"%s\"", i ? " " : "", p->args[i]);
    return rc == 0 ? buf_append_byte(unit, '\n') : rc;
}

static int write_unit(const struct proc *p, struct err *err)
{
    AUTO_FREE char *path = str_printf("/etc/systemd/system/%s.service", p->name);
    AUTO_BUF unit = BUF_INIT(UNIT_MAX);
    const char *after = p->after ? p->after : "network-online.target";

    if (buf_printf(&unit, "[Unit]\nDescription=%s\nAfter=%s\nWants=network-online.target\n\n[Service]\n", p->about, after) < 0 ||
        append_exec(&unit, p) < 0 ||
        buf_append_cstr(&unit, "Restart=always\nRestartSec=2\nUMask=0077\nNoNewPrivileges=yes\nLimitNOFILE=20000\n\n"
                               "[Install]\nWantedBy=multi-user.target\n") < 0)
        return err_set(err, ERR_EXHAUSTED, "the unit of %s is too long", p->name);
    return fd_write_file(path, unit.data, unit.len, 0644, err);
}

static int start_unit(struct cli *cli, const struct proc *p, struct err *err)
{
    const char *const reload[] = {"/usr/bin/systemctl", "daemon-reload", NULL};
    const char *const enable[] = {"/usr/bin/systemctl", "enable", p->name, NULL};
    const char *const restart[] = {"/usr/bin/systemctl", "restart", p->name, NULL};
    int rc = write_unit(p, err);

    if (rc < 0 || (rc = systemctl(cli, reload, err)) < 0 || (rc = systemctl(cli, enable, err)) < 0)
        return rc;
    return systemctl(cli, restart, err);
}

int proc_start(struct cli *cli, const struct proc *p, struct err *err)
{
    if (access(p->args[0], X_OK) < 0)
        return err_sys(err, errno, "cannot execute %s", p->args[0]);
    return cli->settings.systemd ? start_unit(cli, p, err) : start_background(cli, p, err);
}

/* The lock lies where the account of davitd may write: what it names is killed only if it is such a program. */
static bool is_named(const struct proc *p, pid_t pid)
{
    AUTO_FREE char *path = str_printf("/proc/%ld/comm", (long)pid);
    AUTO_BUF text = BUF_INIT(64);
    const char *program = strrchr(p->args[0], '/') + 1;
    struct str rest;

    if (fd_read_file(path, &text, NULL) < 0)
        return false;
    rest = buf_str(&text);
    return str_eq(str_cut(&rest, '\n'), str_from(program));
}

static int stop_background(const struct proc *p, pid_t pid, struct err *err)
{
    usec_t patience = deadline_in(STOP_PATIENCE);
    bool killed = false;
    int rc;

    if (!is_named(p, pid) && kill(pid, 0) == 0)
        return err_set(err, ERR_PRECONDITION, "%s names process %ld, which is not %s", p->lock, (long)pid, p->name);
    if (kill(pid, SIGTERM) < 0 && errno != ESRCH)
        return err_sys(err, errno, "cannot stop %s (process %ld)", p->name, (long)pid);
    while ((rc = proc_alive(p, &pid, err)) == 1) {
        if (clock_mono() > patience) {
            if (killed || !is_named(p, pid))
                return err_set(err, ERR_DEADLINE, "%s (process %ld) does not end", p->name, (long)pid);
            (void)kill(pid, SIGKILL);
            killed = true;
            patience = deadline_in(STOP_PATIENCE);
        }
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
    return rc;
}

int proc_stop(struct cli *cli, const struct proc *p, struct err *err)
{
    const char *const stop[] = {"/usr/bin/systemctl", "stop", p->name, NULL};
    pid_t pid;
    int rc = proc_alive(p, &pid, err);

    if (rc < 0)
        return rc;
    if (cli->settings.systemd) {
        int stopped = systemctl(cli, stop, err);
        if (stopped < 0)
            return stopped;
        return rc == 1 ? 0 : 1;
    }
    return rc == 1 ? stop_background(p, pid, err) : 1;
}

int proc_forget(struct cli *cli, const struct proc *p, struct err *err)
{
    AUTO_FREE char *path = str_printf("/etc/systemd/system/%s.service", p->name);
    const char *const disable[] = {"/usr/bin/systemctl", "disable", p->name, NULL};
    const char *const reload[] = {"/usr/bin/systemctl", "daemon-reload", NULL};

    if (!cli->settings.systemd || access(path, F_OK) < 0)
        return 0;
    (void)systemctl(cli, disable, NULL);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove %s", path);
    return systemctl(cli, reload, err);
}

void proc_log_tail(struct cli *cli, const struct proc *p, struct buf *out)
{
    AUTO_FREE char *path = log_path(cli, p);
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[LOG_TAIL];
    off_t size;
    ssize_t n;

    if (fd < 0 || (size = lseek(fd, 0, SEEK_END)) < 0)
        return;
    n = pread(fd, text, sizeof text, size > LOG_TAIL ? size - LOG_TAIL : 0);
    if (n > 0)
        (void)buf_append(out, text, (size_t)n);
}

static const char *keep(struct local *l, char *text)
{
    BUG_ON(l->n_texts == ARRAY_LEN(l->texts));
    l->texts[l->n_texts++] = text;
    return text;
}

static void add(struct proc *p, const char *arg)
{
    size_t n = 0;

    while (p->args[n])
        n++;
    BUG_ON(n + 1 >= PROC_ARGS_MAX);
    p->args[n] = arg;
}

static void add_pair(struct proc *p, const char *name, const char *value)
{
    if (!value)
        return;
    add(p, name);
    add(p, value);
}

static void add_log(struct proc *p, const struct cli_settings *set, const char *path)
{
    /* The journal is one. */
    if (set->log_off || set->systemd)
        return;
    add_pair(p, "--log-file", path);
    add_pair(p, "--log-max-size", set->log_size);
    add_pair(p, "--log-max-age", set->log_age);
    add_pair(p, "--log-max-backups", set->log_backups);
}

bool proc_is_database(const char *store)
{
    return str_starts(str_from(store), STR("postgres:")) || str_starts(str_from(store), STR("postgresql:"));
}

void local_init(struct local *l, const struct cli *cli)
{
    const struct cli_paths *at = &cli->paths;
    const struct cli_settings *set = &cli->settings;
    const char *path, *socket;

    *l = (struct local){
        .davitd = {.name = "davitd", .about = "Davit control plane"},
        .agent = {.name = "davit-agent", .about = "Davit agent", .after = "davitd.service docker.service"},
    };
    path = keep(l, str_printf("%s/link.sock", at->run));
    socket = keep(l, str_printf("unix:%s", path));
    l->davitd.lock = keep(l, str_printf("%s/lock", at->state));
    l->agent.lock = keep(l, str_printf("%s/lock", at->agent));
    /* Which program it is follows from where its data is. */
    bool server = proc_is_database(set->store);
    add(&l->davitd, keep(l, str_printf("%s/davitd%s", at->bin, server ? "-pg" : "")));
    add_pair(&l->davitd, "--state-dir", at->state);
    add_pair(&l->davitd, "--store", set->store);
    add_pair(&l->davitd, "--api-listen", set->api);
    add_pair(&l->davitd, "--link-listen", set->link);
    add_pair(&l->davitd, "--web-listen", set->web);
    add_pair(&l->davitd, "--local-web-listen", set->local_web);
    add_pair(&l->davitd, "--release-dir", set->releases);
    add_pair(&l->davitd, "--link-socket", path);
    add_pair(&l->davitd, "--health-listen", set->health);
    add_pair(&l->davitd, "--token-listen", set->token);
    add_pair(&l->davitd, "--gate-listen", set->gate);
    add_pair(&l->davitd, "--advertise", set->advertise);
    add_pair(&l->davitd, "--hostname", set->hostname);
    if (geteuid() == 0)
        add_pair(&l->davitd, "--user", set->user);
    add_pair(&l->davitd, "--idle-exit", set->idle_exit);
    if (cli->for_sandboxes && !set->systemd)
        add(&l->davitd, "--for-sandboxes");
    add_log(&l->davitd, set, at->log_file);
    add(&l->agent, keep(l, str_printf("%s/davit-agent", at->bin)));
    add(&l->agent, "run");
    add_pair(&l->agent, "--config-dir", at->agent);
    add_pair(&l->agent, "--link", socket);
    add_pair(&l->agent, "--docker", set->docker);
    add_pair(&l->agent, "--ingress-listen", set->ingress);
    add_pair(&l->agent, "--ingress-image", set->ingress_image);
    if (!set->systemd)
        add(&l->agent, "--with-control-plane");
    add_log(&l->agent, set, at->agent_log_file);
}

void local_release(struct local *l)
{
    for (size_t i = 0; i < l->n_texts; i++)
        free(l->texts[i]);
    *l = (struct local){0};
}
