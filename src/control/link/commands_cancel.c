/* SPDX-License-Identifier: Apache-2.0 */
/* commands_cancel — see commands.h: deployments that their user has given up. */
#include "base/mem.h"
#include "control/link/commands.h"
#include "control/work/deployments.h"
#include "control/link/links.h"

struct command *commands_by_deployment(const struct server *s, const char *id)
{
    struct command *cmd;
    list_each(cmd, &s->commands, struct command, node)
        if (cmd->kind == COMMAND_DEPLOY && str_eq(str_from(cmd->subject), str_from(id)))
            return cmd;
    return NULL;
}

int commands_send_cancel(struct server *s, const struct command *cmd)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__CancelCommand cancel = DAVIT__LINK__V1__CANCEL_COMMAND__INIT;
    if (!links_take_calls(s))
        return 0;
    cancel.seq = cmd->seq;
    cancel.id = lend(cmd->id);
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CANCEL_COMMAND;
    m.cancel_command = &cancel;
    return links_send(s->link, &m);
}

struct withdraw_job {
    const char *server_id;
    const struct command *cmd;
    char message[160];
};

static int withdraw_fn(struct db *db, void *arg, struct err *err)
{
    struct withdraw_job *j = arg;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;
    struct deployment_event ev = {.failure = &failure};
    failure.code = ERR_CANCELLED;
    failure.reason = lend("cancelled");
    failure.message = j->message;
    int rc = db_exec(db, err, "UPDATE commands SET state = 3, cancel = 1, payload = ?, finished_us = ? WHERE server_id = ? AND seq = ?", "biti",
                     STR(""), (int64_t)clock_real(), j->server_id, (int64_t)j->cmd->seq);
    if (rc == 0)
        rc = deployment_set_state(db, j->cmd->subject, DEPLOYMENT_CANCELLED, &ev, err);
    return rc > 0 || rc == -(int)ERR_NOT_FOUND ? 0 : rc; /* it was removed meanwhile: the command is over all the same */
}

/* Waits. @cmd is marked as leaving already. */
static int withdraw(struct server *s, struct command *cmd, const char *by, struct err *err)
{
    struct control *c = s->control;
    struct withdraw_job j = {.server_id = s->id, .cmd = cmd};
    (void)snprintf(j.message, sizeof(j.message), "cancelled%s%.64s before the server took it", *by ? " by " : "", by);
    (void)server_ref(s);
    (void)command_ref(cmd);
    int rc = store_write(c->store, withdraw_fn, &j, deadline_in(STORE_WAIT), err);
    if (rc < 0) {
        cmd->leaving = false;
    } else if (!cmd->dropped) {
        cmd->state = COMMAND_DONE;
        list_remove(&cmd->node);
        event_signal(&cmd->done);
        deployments_changed(c, cmd->subject);
        command_unref(cmd); /* the list's */
    }
    /* One that shall go and cannot is tried again at the next connect, not at once. */
    if (rc == 0 || !cmd->cancel)
        links_pump(s);
    command_unref(cmd);
    server_unref(s);
    return rc;
}

struct late {
    struct server *server;
    struct command *cmd;
};

static void withdraw_fiber(void *arg)
{
    struct late *l = arg;
    struct control *c = l->server->control;
    struct err err = ERR_INIT;
    if (withdraw(l->server, l->cmd, "", &err) < 0)
        log_err(LOG_WARN, &err, "a cancelled deployment could not be withdrawn", "server", l->server->name, NULL);
    command_unref(l->cmd);
    server_unref(l->server);
    free(l);
    control_fiber_end(c);
}

void commands_withdraw(struct server *s, struct command *cmd)
{
    if (cmd->leaving)
        return;
    struct late *l = NEW(struct late);
    *l = (struct late){server_ref(s), command_ref(cmd)};
    cmd->leaving = true;
    if (control_fiber(s->control, "withdraw", withdraw_fiber, l) == 0)
        return;
    cmd->leaving = false;
    command_unref(cmd);
    server_unref(s);
    free(l);
}

struct wish_job {
    const char *server_id;
    int64_t seq;
};

static int wish_fn(struct db *db, void *arg, struct err *err)
{
    struct wish_job *j = arg;
    return db_exec(db, err, "UPDATE commands SET cancel = 1 WHERE server_id = ? AND seq = ?", "ti", j->server_id, j->seq);
}

int commands_cancel(struct server *s, struct command *cmd, const char *by, struct err *err)
{
    struct wish_job j = {.server_id = s->id, .seq = (int64_t)cmd->seq};
    if (cmd->leaving)
        return 1;
    if (!cmd->sent) {
        cmd->leaving = true;
        return withdraw(s, cmd, by, err);
    }
    if (s->link && !links_take_calls(s)) {
        (void)err_set(err, ERR_PRECONDITION, "the agent of server \"%s\" is too old to cancel what it has begun", s->name);
        err_hint(err, "update the agent: davit server update %s", s->name);
        return -(int)ERR_PRECONDITION;
    }
    (void)server_ref(s);
    (void)command_ref(cmd);
    int rc = store_write(s->control->store, wish_fn, &j, deadline_in(STORE_WAIT), err);
    cmd->cancel = cmd->cancel || rc == 0;
    /* One that the link has not carried yet goes with its command; one that it does not take now is sent with it once more. */
    if (rc == 0 && cmd->state != COMMAND_DONE && links_has_sent(s, cmd->seq) && commands_send_cancel(s, cmd) < 0)
        links_send_again(s, cmd->seq);
    command_unref(cmd);
    server_unref(s);
    return rc < 0 ? rc : 1;
}
