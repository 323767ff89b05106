/* SPDX-License-Identifier: Apache-2.0 */
/* agent_takeover — an update as the agent sees it: in the old one, what it gives away and takes back; in the new one, its way in. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "host/link/agent_internal.h"
#include "host/link/link_dial.h"
#include "host/link/link_probe.h"
#include "host/link/slots.h"
#include "host/link/tunnel.h"

#define ASK_WAIT (20 * USEC_SEC)
#define ASK_AGAIN USEC_SEC
#define LOOK_EVERY (50 * USEC_MSEC)
#define COMMIT_WAIT (2 * USEC_MINUTE)

/* --- The old one ---- */

static int drain(void *arg, usec_t deadline, struct err *err)
{
    struct agent *a = arg;
    session_set_hold(a->session, SESSION_HOLD_WORK);
    int rc = session_drain(a->session, deadline);
    if (rc == 0)
        return 0;
    (void)err_set(err, (enum err_code)-rc, "commands still run on this server");
    err_hint(err, "update again when they are through");
    return rc;
}

static int pause_agent(void *arg, usec_t deadline, struct err *err)
{
    struct agent *a = arg;
    a->paused = true;
    a->http = http_server_free(a->http);
    int rc = session_pause(a->session, deadline);
    if (rc < 0)
        event_signal(&a->quit); /* nothing can be done with it any more; the service manager starts it anew */
    return rc < 0 ? err_set(err, (enum err_code)-rc, "the link did not end in time") : 0;
}

/* The other one may have written commands into the journal: it is read again. */
static int resume_agent(void *arg, struct err *err)
{
    struct agent *a = arg;
    int rc = 0;
    if (a->paused) {
        struct err e = ERR_INIT;
        a->paused = false;
        /* Without health (a full disk) it is still managed; without a link nobody could mend it from afar. */
        if (agent_health_listen(a, a->options->health_listen, &e) < 0)
            log_err(LOG_ERROR, &e, "health could not be opened again", NULL);
        rc = session_start(a->session);
        if (rc == 0 && a->work)
            rc = session_set_work(a->session, a->work, err);
        if (rc < 0)
            event_signal(&a->quit); /* the service manager starts it anew */
    }
    session_set_hold(a->session, SESSION_HOLD_NONE);
    return err_ensure(err, rc);
}

static void leave(void *arg)
{
    struct agent *a = arg;
    a->left = true;
    (void)unsetenv("NOTIFY_SOCKET"); /* the service manager listens to the other one */
    event_signal(&a->quit);
}

static void send_progress(void *arg, const Davit__Link__V1__AgentMessage *msg)
{
    const struct agent *a = arg;
    session_send(a->session, msg);
}

void agent_updater(struct agent *a)
{
    struct updater_config config = {
        .loop = a->loop,
        .config = &a->config,
        .docker = a->options->docker,
        .trial_wait = a->options->trial_wait,
        .lock_fd = a->lock_fd,
        .machine_fd = a->machine_fd,
        .drain = drain,
        .pause = pause_agent,
        .resume = resume_agent,
        .leave = leave,
        .send = send_progress,
        .arg = a,
    };
    a->updater = updater_new(&config);
}

int agent_update(void *arg, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                 Davit__Link__V1__CommandResult *ret)
{
    struct agent *a = arg;
    return updater_command(a->updater, cmd, journal, resume_step, ret);
}

/* --- The new one ---- */

/* The same in tunnel mode. */
static int ask_through_edge(struct agent *a, const struct agent_config *c, struct err *err)
{
    struct tunnel *t = tunnel_new(a->loop, c);
    enum tunnel_carrier carrier;
    int rc = tunnel_load(t, err);
    if (rc == 0)
        rc = tunnel_probe(t, &carrier, err);
    (void)tunnel_free(t);
    return rc;
}

/* Would the control plane take our link? Reads and asks, and touches nothing of the old one. */
static int ask(struct agent *a, struct err *err)
{
    CLEANUP(agent_config_release) struct agent_config c = {0};
    CLEANUP(agent_identity_release) struct agent_identity id = {0};
    struct rpc_channel *ch = NULL;
    struct tls_ctx *tls = NULL;
    int rc = agent_config_init(&c, a->options->config_dir, err);
    if (rc == 0)
        rc = agent_config_load(&c, err);
    if (rc == 1)
        rc = err_set(err, ERR_PRECONDITION, "%s holds no enrolment", c.dir);
    if (rc == 0 && str_eq(str_from(c.auth_mode), STR("mtls")) && (rc = agent_identity_load(&c, &id, err)) >= 0)
        rc = link_tls_identity(&id, &tls, err);
    if (rc == 0 && tls)
        rc = link_dial(a->loop, c.grpc_endpoint, tls, 0, deadline_in(ASK_WAIT), &ch, err);
    if (rc == 0 && ch)
        rc = link_probe(ch, deadline_in(ASK_WAIT), NULL, err);
    if (rc == 0 && str_eq(str_from(c.auth_mode), STR("tunnel")))
        rc = ask_through_edge(a, &c, err);
    (void)rpc_channel_close(ch);
    (void)tls_ctx_unref(tls);
    return rc;
}

/* As often as the old one has patience. */
static int ask_until_reached(struct agent *a, struct err *err)
{
    struct err e = ERR_INIT;
    int rc;
    while ((rc = ask(a, &e)) < 0 && !takeover_gone(a->takeover)) {
        log_err(LOG_WARN, &e, "the control plane was not reached", NULL);
        if (rc == -(int)ERR_PRECONDITION || fiber_sleep(ASK_AGAIN) < 0)
            break;
        e = ERR_INIT;
    }
    if (rc < 0 && err)
        *err = e;
    return rc;
}

static int fd_if_open(int fd)
{
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
}

static int fail(struct agent *a, int rc, struct err *err)
{
    if (rc < 0)
        takeover_say(a->takeover, "failed", err && *err->msg ? err->msg : err_code_name((enum err_code)-rc));
    return rc;
}

int agent_takeover_adopt(struct agent *a, struct err *err)
{
    char text[TAKEOVER_LINE_MAX];
    (void)fd_if_open(TAKEOVER_LOG_FD);
    int lock_fd = fd_if_open(TAKEOVER_LOCK_FD), machine_fd = fd_if_open(TAKEOVER_MACHINE_FD);
    int rc = takeover_open(a->loop, TAKEOVER_FD, &a->takeover, err);
    if (rc < 0)
        return rc;
    rc = ask_until_reached(a, err);
    if (rc < 0)
        return fail(a, rc, err);
    takeover_say(a->takeover, "ready", DAVIT_VERSION);
    rc = takeover_hear(a->takeover, "adopt", USEC_INFINITY, text, err);
    if (rc < 0)
        return rc;
    a->lock_fd = lock_fd;
    a->machine_fd = machine_fd;
    return 0;
}

/* Whoever finds the lock taken is told by whom. */
static void sign_lock(int fd)
{
    AUTO_FREE char *pid = str_printf("%ld\n", (long)getpid());
    if (fd >= 0 && ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0)
        (void)fd_write_all(fd, pid, strlen(pid), NULL);
}

int agent_takeover_finish(struct agent *a, struct err *err)
{
    char text[TAKEOVER_LINE_MAX];
    struct session_status st;
    for (session_status(a->session, &st); st.state != SESSION_ONLINE; session_status(a->session, &st)) {
        if (takeover_gone(a->takeover))
            return err_set(err, ERR_UNAVAILABLE, "the agent that this one was to follow is gone");
        if (fiber_sleep(LOOK_EVERY) < 0)
            return -(int)ERR_CANCELLED;
    }
    takeover_say(a->takeover, "online", NULL);
    int rc = takeover_hear(a->takeover, "committed", deadline_in(COMMIT_WAIT), text, err);
    if (rc < 0)
        return rc;
    /* So far the old one read our output. */
    (void)fflush(stderr);
    if (dup2(TAKEOVER_LOG_FD, STDERR_FILENO) >= 0 && dup2(TAKEOVER_LOG_FD, STDOUT_FILENO) >= 0)
        (void)close(TAKEOVER_LOG_FD);
    sign_lock(a->lock_fd);
    sign_lock(a->machine_fd);
    takeover_say(a->takeover, "taken", NULL);
    session_set_hold(a->session, SESSION_HOLD_NONE);
    return 0;
}

void agent_note_stop(const struct agent *a)
{
    struct slots s;
    char pending[SLOT_NAME_SIZE];
    struct err err = ERR_INIT;
    if (a->left || slots_open(NULL, &s, NULL) != 0)
        return;
    int rc = slots_pending(&s, pending, &err);
    if (rc == 0 && str_eq(str_from(pending), str_from(s.running)))
        rc = slots_pending_set(&s, s.running, true, &err);
    if (rc < 0)
        log_err(LOG_WARN, &err, "the slots cannot be written to", NULL);
    slots_close(&s);
}
