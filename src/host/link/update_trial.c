/* SPDX-License-Identifier: Apache-2.0 */
/* update_trial — the new program is started: first its selftest, then as the agent that is to follow this one. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "host/link/notify.h"
#include "host/link/takeover.h"
#include "host/link/update_internal.h"
#include "loop/child.h"

enum { ARGS_MAX = 64, ENV_MAX = 256, CMDLINE_MAX = 64 * 1024, DETAIL_MAX = 2000, OUTPUT_MAX = 16 * 1024 };
#define SELFTEST_WAIT (20 * USEC_SEC)
#define TAKEN_WAIT (10 * USEC_SEC)
#define PAUSE_WAIT (20 * USEC_SEC)
#define END_WAIT USEC_SEC

extern char **environ;

/* The last whole lines of what a program wrote, fit to be shown. */
static char *last_lines(struct str s)
{
    if (s.n > DETAIL_MAX) {
        s.p += s.n - DETAIL_MAX;
        s.n = DETAIL_MAX;
        (void)str_cut(&s, '\n');
    }
    AUTO_BUF out = BUF_INIT(DETAIL_MAX + 1);
    while (s.n > 0) {
        size_t n = str_utf8_len(s);
        unsigned char c = (unsigned char)*s.p;
        bool shown = n > 1 ? !str_is_trick((struct str){s.p, n}) : n == 1 && ((c >= 0x20 && c != 0x7f) || c == '\n');
        n = n ? n : 1;
        if (buf_append_str(&out, shown ? (struct str){s.p, n} : STR("?")) < 0)
            break;
        s = (struct str){s.p + n, s.n - n};
    }
    while (out.len > 0 && out.data[out.len - 1] == '\n')
        out.len--;
    return str_dup(buf_str(&out));
}

/* The environment without what is this process' own. */
static void pass_environment(const char *ret[ENV_MAX])
{
    size_t n = 0;
    for (char **e = environ; *e && n < ENV_MAX - 1; e++)
        if (!str_starts(str_from(*e), STR("WATCHDOG_PID=")))
            ret[n++] = *e;
    ret[n] = NULL;
}

/* --- selftest ---- */

int step_selftest(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    const struct updater_config *c = &u->updater->config;
    AUTO_FREE char *program = slots_path(&u->slots, u->slot, "davit-agent");
    AUTO_FREE char *want = str_printf("davit-agent %s selftest passed\n", u->release.version);
    AUTO_FREE const char **env = mem_zalloc(ENV_MAX, sizeof(*env));
    const char *const argv[] = {program, "selftest", "--config-dir", c->config->dir, c->docker ? "--docker" : NULL, c->docker, NULL};
    struct child_spec spec = {.argv = argv, .env = env, .output_max = OUTPUT_MAX};
    struct child_result r = {0};
    pass_environment(env);
    (void)job;
    int rc = child_run(c->loop, &spec, deadline_in(SELFTEST_WAIT), &r, err);
    if (rc == 0 && (r.exit_status != 0 || !str_eq(buf_str(&r.out), str_from(want)))) {
        rc = err_set(err, ERR_ABORTED, "the selftest of version %s failed (exit status %d)", u->release.version, r.exit_status);
        u->detail = last_lines(buf_str(&r.err));
    }
    child_result_release(&r);
    return update_reason(u, rc, "update_selftest");
}

/* --- Trial ---- */

/* The command line of this program for the other one: its own name, and that it is to take over. */
static int pass_arguments(struct buf *cmdline, const char *program, const char *ret[ARGS_MAX], struct err *err)
{
    size_t n = 0;
    int rc = fd_read_file("/proc/self/cmdline", cmdline, err);
    if (rc == 0 && buf_append_byte(cmdline, '\0') < 0)
        rc = err_set(err, ERR_EXHAUSTED, "the command line is too long");
    if (rc < 0)
        return rc;
    const char *p = (const char *)cmdline->data, *end = p + cmdline->len - 1;
    ret[n++] = program;
    for (p += strlen(p) + 1; p < end && n < ARGS_MAX - 2; p += strlen(p) + 1)
        if (!str_eq(str_from(p), STR(TAKEOVER_OPTION)))
            ret[n++] = p;
    if (p < end)
        return err_set(err, ERR_EXHAUSTED, "the command line has more than %d words", ARGS_MAX);
    ret[n++] = TAKEOVER_OPTION;
    ret[n] = NULL;
    return 0;
}

static int start_child(struct update *u, struct err *err)
{
    const struct updater_config *c = &u->updater->config;
    AUTO_FREE char *program = slots_path(&u->slots, u->slot, "davit-agent");
    AUTO_FREE const char **env = mem_zalloc(ENV_MAX, sizeof(*env));
    const char *argv[ARGS_MAX];
    AUTO_BUF cmdline = BUF_INIT(CMDLINE_MAX);
    int pair[2] = {-1, -1};
    int rc = pass_arguments(&cmdline, program, argv, err);
    if (rc == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        rc = err_sys(err, errno, "cannot make a pair of sockets");
    if (rc < 0)
        return rc;
    pass_environment(env);
    const int fds[TAKEOVER_FDS] = {pair[1], c->lock_fd, c->machine_fd, STDERR_FILENO};
    const struct spawn_spec spec = {.argv = argv, .env = env, .fds = fds, .n_fds = TAKEOVER_FDS};
    rc = spawn_start(c->loop, &spec, &u->child, err);
    (void)close(pair[1]);
    if (rc < 0)
        (void)close(pair[0]);
    return rc < 0 ? rc : takeover_open(c->loop, pair[0], &u->takeover, err);
}

/* Waits for a word; the end of the child is told as such. */
static int hear(struct update *u, const char *word, usec_t deadline, char text[TAKEOVER_LINE_MAX], struct err *err)
{
    int status = 0;
    int rc = takeover_hear(u->takeover, word, deadline, text, err);
    if (rc == -(int)ERR_CANCELLED || rc == 0)
        return rc;
    if (rc == -(int)ERR_UNAVAILABLE && spawn_wait(u->child, deadline_in(END_WAIT)) == 0 && spawn_ended(u->child, &status))
        rc = err_set(err, ERR_ABORTED, "version %s ended with status %d before it had taken over", u->release.version, status);
    else if (rc == -(int)ERR_ABORTED)
        rc = err_wrap(err, "version %s", u->release.version);
    if (!u->detail)
        u->detail = last_lines(spawn_tail(u->child));
    return rc;
}

/* What the new one needs of us is given away, from here on undo_trial has something to take back. */
static int give(struct update *u, usec_t until, struct err *err)
{
    const struct updater_config *c = &u->updater->config;
    char text[TAKEOVER_LINE_MAX];
    int rc = c->pause(c->arg, deadline_in(PAUSE_WAIT), err);
    if (rc < 0)
        return rc;
    takeover_say(u->takeover, "adopt", NULL);
    return hear(u, "online", until, text, err);
}

int step_trial(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    const struct updater_config *c = &u->updater->config;
    char version[TAKEOVER_LINE_MAX] = "";
    u->held = true;
    job_note(job, 0, "waiting for commands that run");
    int rc = c->drain(c->arg, deadline_in(UPDATE_DRAIN_WAIT), err);
    if (rc < 0)
        return update_reason(u, rc, "update_busy");
    log_event(LOG_NOTICE, "another version is tried", "version", u->release.version, "slot", u->slot, NULL);
    job_note(job, 0, "starting version %s", u->release.version);
    usec_t until = deadline_in(c->trial_wait);
    rc = start_child(u, err);
    if (rc == 0)
        rc = hear(u, "ready", until, version, err);
    if (rc == 0 && !str_eq(str_from(version), str_from(u->release.version)))
        rc = err_set(err, ERR_ABORTED, "the program of version %s says that it is %.64s", u->release.version, version);
    if (rc == 0)
        rc = give(u, until, err);
    return update_reason(u, rc, "update_trial");
}

void trial_release(struct update *u)
{
    u->takeover = takeover_close(u->takeover);
    u->child = spawn_kill(u->child);
}

int undo_trial(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    const struct updater_config *c = &u->updater->config;
    bool tried = u->child != NULL;
    (void)job;
    trial_release(u);
    if (!u->held)
        return 0;
    int rc = c->resume(c->arg, err);
    if (rc == 0 && tried)
        log_event(LOG_WARN, "the other version did not do; this one goes on", "version", u->release.version, NULL);
    return rc;
}

int trial_hand_over(struct update *u, usec_t deadline, struct err *err)
{
    const struct updater_config *c = &u->updater->config;
    struct event never;
    char text[TAKEOVER_LINE_MAX];
    (void)deadline;
    takeover_say(u->takeover, "committed", NULL);
    int rc = hear(u, "taken", deadline_in(TAKEN_WAIT), text, err);
    if (rc < 0)
        return rc;
    log_event(LOG_NOTICE, "the other version has taken over", "version", u->release.version, NULL);
    if (notify_main_pid(spawn_pid(u->child), err) < 0)
        log_err(LOG_ERROR, err, "the service manager was not told of the new main process", NULL);
    u->child = spawn_leave(u->child);
    c->leave(c->arg);
    event_init(&never, c->loop);
    rc = event_wait(&never, USEC_INFINITY);
    event_release(&never);
    return rc < 0 ? rc : -(int)ERR_CANCELLED;
}
