/* SPDX-License-Identifier: Apache-2.0 */
/* up_native — davitd and the local agent as processes of this machine. See up_internal.h. */
#include "cli/up_internal.h"

#include <stdlib.h>
#include <unistd.h>

#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/proc.h"
#include "cli/settings_file.h"
#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/servers.pb-c.h"

static const usec_t POLL_STEP = 100 * USEC_MSEC;
static const usec_t CALL_TIMEOUT = 10 * USEC_SEC;
static const usec_t BRING_BACK_WAIT = 30 * USEC_SEC;

/* The end of a daemon's log goes into the hint: that is where its reason stands. */
static int died(struct cli *cli, const struct proc *p, struct err *err)
{
    AUTO_BUF tail = BUF_INIT(4096);
    struct str text, last = STR("");

    proc_log_tail(cli, p, &tail);
    for (text = str_trim(buf_str(&tail)); text.n > 0;) {
        struct str line = str_cut(&text, '\n');
        last = line.n > 0 ? line : last;
    }
    (void)err_set(err, ERR_UNAVAILABLE, "%s did not come up", p->name);
    if (cli->settings.systemd)
        err_hint(err, "journalctl -u %s tells why", p->name);
    else
        err_hint(err, "%s/%s.log ends with: " STR_FMT, cli->paths.log, p->name, STR_ARG(last));
    return -ERR_UNAVAILABLE;
}

/* Starts @p unless it runs as it should; restarts one that is an older program or has other arguments. 1: it was left alone. */
static int ensure_running(struct cli *cli, const struct proc *p, struct err *err)
{
    pid_t pid;
    int rc = proc_alive(p, &pid, err);

    if (rc < 0)
        return rc;
    if (rc == 1 && proc_current(p, pid))
        return 1;
    if (rc == 1) {
        out_note(cli, "%s runs with an older program or other settings: restarting it", p->name);
        if ((rc = proc_stop(cli, p, err)) < 0)
            return rc;
    }
    return proc_start(cli, p, err);
}

static int wait_davitd(struct cli *cli, const struct proc *p, usec_t deadline, struct err *err)
{
    usec_t must_live = deadline_in(3 * USEC_SEC);
    pid_t pid;
    int rc;

    for (;;) {
        /* Another program may hold the port: an answer counts only while ours is alive. */
        if ((rc = proc_alive(p, &pid, err)) < 0)
            return rc;
        if (rc == 1 && health_look(cli, NULL) == 0)
            return 0;
        if (clock_mono() > deadline || (rc == 0 && clock_mono() > must_live))
            return died(cli, p, err);
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
}

/* Up, and of no use: better told now than by the first deployment that fails. */
static void warn(struct cli *cli, const Davit__Control__V1__Server *s)
{
    for (size_t i = 0; i < s->n_health_reasons; i++) {
        AUTO_FREE char *reason = out_clean(str_from(s->health_reasons[i]));
        out_note(cli, "warning: %s", reason);
    }
}

int up_local_online(struct cli *cli, usec_t since_us, char **ret_name, struct err *err)
{
    Davit__Control__V1__ListServersRequest req = DAVIT__CONTROL__V1__LIST_SERVERS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc = cli_call(cli, &davit_control_v1_server_service, "ListServers", &req.base, CALL_TIMEOUT, &message, err);

    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListServersResponse *list = (const void *)message;
    for (size_t i = 0; i < list->n_servers && !*ret_name; i++)
        if (list->servers[i]->local && list->servers[i]->state == DAVIT__CONTROL__V1__SERVER_STATE__SERVER_STATE_ONLINE &&
            list->servers[i]->last_heartbeat_us >= since_us) {
            *ret_name = str_dup(str_from(list->servers[i]->name));
            free(cli->settings.server);
            cli->settings.server = str_dup(str_from(list->servers[i]->id));
            warn(cli, list->servers[i]);
        }
    rpc_message_free(message);
    return *ret_name ? 1 : 0;
}

/* One that runs is left alone, one that is about to end is waited for. 1: it answers; 0: there is none. */
static int leave_running(struct cli *cli, const struct proc *p, usec_t deadline, struct err *err)
{
    pid_t pid;
    int rc;

    while ((rc = proc_alive(p, &pid, err)) == 1) {
        if (health_look(cli, NULL) == 0)
            return 1;
        if (clock_mono() > deadline)
            return died(cli, p, err);
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
    return rc;
}

/* A control plane counts a server as online for a while after its agent died: one that was just started must have been heard itself. One that was
 * there (@found) may have been about to end, with the control plane before. */
static int wait_agent(struct cli *cli, const struct proc *p, bool found, usec_t since_us, usec_t deadline, char **ret_name, struct err *err)
{
    usec_t must_live = deadline_in(3 * USEC_SEC);
    pid_t pid;
    int rc;

    while ((rc = up_local_online(cli, since_us, ret_name, err)) == 0) {
        if ((rc = proc_alive(p, &pid, err)) < 0)
            return rc;
        if (rc == 0 && found) {
            found = false;
            must_live = deadline_in(3 * USEC_SEC);
            since_us = clock_real();
            if ((rc = proc_start(cli, p, err)) < 0)
                return rc;
            continue;
        }
        if (clock_mono() > deadline || (rc == 0 && clock_mono() > must_live))
            return died(cli, p, err);
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
    return rc < 0 ? rc : 0;
}

/* Again as it was before. 0, or the reason in @why. */
static int restart_old(struct cli *cli, bool ran, struct err *why)
{
    struct local local;
    int rc;

    local_init(&local, cli);
    rc = ran ? ensure_running(cli, &local.davitd, why) : 0;
    if (rc >= 0 && ran)
        rc = wait_davitd(cli, &local.davitd, deadline_in(BRING_BACK_WAIT), why);
    local_release(&local);
    return rc < 0 ? rc : 0;
}

/* @err holds why davitd does not come up; what became of the settings is put in front of it. */
static void bring_back(struct cli *cli, struct up_before *b, const struct proc *failed, bool ran, struct err *err)
{
    const struct cli_settings given = cli->settings;
    struct err why = ERR_INIT;
    int rc = proc_stop(cli, failed, &why);

    if (given.made_user && !b->settings.made_user) {
        b->settings.made_user = true;
        (void)cli_settings_save(&cli->paths, &b->settings, NULL); /* at worst an account stays */
    }
    cli->settings = b->settings;
    if (rc >= 0)
        rc = restart_old(cli, ran, &why);
    cli->settings = given;
    if (rc < 0)
        (void)err_wrap(err, "davitd comes up neither with these settings nor again with those of before (%.200s), which are kept", why.msg);
    else
        (void)err_wrap(err, "davitd does not come up with these settings; those of before are kept%s", ran ? " and it runs with them again" : "");
}

/* 0: davitd was started; 1: it ran as it should already. */
static int start_davitd(struct cli *cli, struct up_before *b, const struct proc *p, usec_t deadline, struct err *err)
{
    pid_t pid;
    int ran = proc_alive(p, &pid, err), started = ran < 0 ? ran : settings_ports_free(cli, &b->settings, ran == 1, err);
    if (started < 0)
        return started;
    started = ensure_running(cli, p, err);
    int rc = started < 0 ? started : wait_davitd(cli, p, deadline, err);

    if (started == 0)
        bearer_drop(cli);
    /* Interrupted: it runs with the new ones, and the next `up` shall find that. */
    if (rc == 0 || rc == -ERR_CANCELLED) {
        int saved = b->known ? cli_settings_save(&cli->paths, &cli->settings, rc == 0 ? err : NULL) : 0;
        return rc < 0 ? rc : saved < 0 ? saved : started;
    }
    if (ran >= 0 && started != 1 && b->known && !cli_settings_equal(&cli->settings, &b->settings))
        bring_back(cli, b, p, ran == 1, err);
    return rc;
}

static void swap_settings(struct cli *cli, struct up_before *b)
{
    struct cli_settings given = cli->settings;

    cli->settings = b->settings;
    b->settings = given;
}

/* 0: davitd was started; 1: it ran. With want.leave the settings of one that runs are those that are remembered. */
static int provide_davitd(struct cli *cli, const struct up_want *want, struct up_before *b, struct local *local, usec_t deadline, struct err *err)
{
    if (want->leave && b->known) {
        swap_settings(cli, b);
        int rc = leave_running(cli, &local->davitd, deadline, err);
        if (rc != 0)
            return rc;
        swap_settings(cli, b);
    }
    return start_davitd(cli, b, &local->davitd, deadline, err);
}

static int provide_agent(struct cli *cli, const struct up_want *want, const struct proc *p, struct err *err)
{
    pid_t pid;
    int rc = want->leave ? proc_alive(p, &pid, err) : 0;

    return rc != 0 ? rc : ensure_running(cli, p, err);
}

int up_native(struct cli *cli, const struct up_want *want, struct up_before *b, struct up_result *ret, struct err *err)
{
    struct local local;
    usec_t deadline = deadline_in(want->wait);
    usec_t begin = clock_real();
    int davitd, agent = 1, rc;

    local_init(&local, cli);
    rc = davitd = provide_davitd(cli, want, b, &local, deadline, err);
    if (rc >= 0 && want->agent)
        rc = agent = provide_agent(cli, want, &local.agent, err);
    if (rc >= 0 && want->agent)
        rc = wait_agent(cli, &local.agent, want->leave && agent == 1, davitd == 0 || agent == 0 ? begin : 0, deadline, &ret->server, err);
    ret->changed = davitd == 0 || agent == 0;
    local_release(&local);
    return rc < 0 ? rc : 0;
}
