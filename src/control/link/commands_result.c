/* SPDX-License-Identifier: Apache-2.0 */
/* commands_result — see commands.h: what agents say about their commands, and what follows from it. */
#include <string.h>

#include "control/link/commands.h"
#include "control/work/deployments.h"
#include "control/work/registries.h"
#include "control/work/rollouts.h"
#include "control/sandboxes/sandboxes.h"

enum { COMMANDS_KEPT = 1000, RESULT_TEXT_MAX = 4 * 1024, RESULT_DETAIL_MAX = 64 * 1024 };

static struct command *find(const struct server *s, uint64_t seq, const char *id)
{
    struct command *cmd = commands_by_seq(s, seq);
    return cmd && str_eq(str_from(cmd->id), str_from(id)) ? cmd : NULL;
}

struct received_job {
    const char *server_id, *subject;
    int64_t seq;
    enum command_kind kind;
};

static int received(struct db *db, void *arg, struct err *err)
{
    struct received_job *j = arg;
    int rc = db_exec(db, err, "UPDATE commands SET state = 2, received_us = ? WHERE server_id = ? AND seq = ? AND state = 1",
                     "iti", (int64_t)clock_real(), j->server_id, j->seq);
    if (rc == 0 && j->kind == COMMAND_DEPLOY)
        rc = deployment_set_state(db, j->subject, DEPLOYMENT_DEPLOYING, NULL, err);
    return rc < 0 ? rc : 0;
}

int commands_received(struct server *s, const Davit__Link__V1__CommandReceived *m, struct err *err)
{
    struct command *cmd = find(s, m->seq, m->id);
    if (!cmd || cmd->state != COMMAND_QUEUED)
        return 1;
    struct received_job j = {.server_id = s->id, .subject = cmd->subject, .seq = (int64_t)cmd->seq, .kind = cmd->kind};
    (void)command_ref(cmd);
    int rc = store_write(s->control->store, received, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0) {
        cmd->state = COMMAND_RECEIVED;
        if (cmd->kind == COMMAND_DEPLOY)
            deployments_changed(s->control, cmd->subject);
    }
    command_unref(cmd);
    return rc;
}

struct progress_job {
    const char *subject;
    const Davit__Common__V1__StepProgress *progress;
};

static int progress(struct db *db, void *arg, struct err *err)
{
    struct progress_job *j = arg;
    struct deployment_event ev = {.progress = j->progress};
    enum deployment_state to =
        str_eq(str_from(j->progress->step), STR("health")) ? DEPLOYMENT_HEALTH_CHECKING : DEPLOYMENT_DEPLOYING;
    int rc = deployment_set_state(db, j->subject, to, &ev, err);
    if (rc == 1)
        rc = deployment_add_event(db, j->subject, &ev, err);
    return rc < 0 ? rc : 0;
}

int commands_progress(struct server *s, const Davit__Link__V1__CommandProgress *m, struct err *err)
{
    struct command *cmd = find(s, m->seq, m->id);
    if (cmd && cmd->kind == COMMAND_UPDATE && m->progress)
        rollouts_progress(s->control->rollouts, s, cmd, text(m->progress->step));
    if (cmd && m->progress)
        sandboxes_progress(s->control, cmd, m->progress);
    if (!cmd || cmd->kind != COMMAND_DEPLOY || !m->progress)
        return 1;
    struct progress_job j = {.subject = cmd->subject, .progress = m->progress};
    (void)command_ref(cmd);
    int rc = store_write(s->control->store, progress, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0)
        deployments_changed(s->control, cmd->subject);
    command_unref(cmd);
    return rc;
}

/* Cuts a text of ours to @max bytes at a character. */
static void cut(char *s, size_t max)
{
    if (!s || strlen(s) <= max)
        return;
    while (max && ((unsigned char)s[max] & 0xc0) == 0x80)
        max--;
    s[max] = '\0';
}

struct result_job {
    const char *server_id;
    const struct command *cmd;
    const Davit__Link__V1__CommandResult *result;
    struct str wire;
};

static bool was_cancelled(const struct command *cmd, const Davit__Link__V1__CommandResult *r)
{
    return cmd->cancel && r->failure && r->failure->code == ERR_CANCELLED;
}

static int apply(struct db *db, const struct result_job *j, struct err *err)
{
    const struct command *cmd = j->cmd;
    const Davit__Link__V1__CommandResult *r = j->result;
    struct deployment_event ev = {.failure = r->failure, .container_id = r->container_id};
    struct str rest = str_from(cmd->subject);
    if (cmd->kind == COMMAND_DEPLOY && r->failure)
        return deployment_set_state(db, cmd->subject, was_cancelled(cmd, r) ? DEPLOYMENT_CANCELLED : DEPLOYMENT_FAILED, &ev, err);
    if (cmd->kind == COMMAND_DEPLOY)
        return deployment_activate(db, cmd->subject, text(r->container_id), text(r->image_digest), cmd->message->deploy->spec->replicas, err);
    if (cmd->kind == COMMAND_SCALE && !r->failure)
        return db_exec(db, err, "UPDATE services SET replicas = ? WHERE active = ?", "it", (int64_t)cmd->message->scale_service->replicas,
                       cmd->message->scale_service->deployment_id);
    if (cmd->kind != COMMAND_REMOVE || r->failure)
        return 0;
    AUTO_FREE char *project = str_dup(str_cut(&rest, '/'));
    AUTO_FREE char *service = str_dup(rest);
    return deployments_drop_service(db, project, service, (int64_t)cmd->seq, err);
}

static int result(struct db *db, void *arg, struct err *err)
{
    struct result_job *j = arg;
    /* The spec with its secrets is not needed any more; the deployment has its own. */
    int rc = db_exec(db, err,
                     "UPDATE commands SET state = 3, result = ?, finished_us = ?, payload = ? WHERE server_id = ? AND seq = ?",
                     "bibti", j->wire, (int64_t)clock_real(), STR(""), j->server_id, (int64_t)j->cmd->seq);
    if (rc < 0)
        return rc;
    /* Old ones answer no question: an agent that repeats their result is acknowledged all the same. */
    rc = db_exec(db, err, "DELETE FROM commands WHERE server_id = ? AND state = 3 AND seq < ?", "ti", j->server_id,
                 (int64_t)j->cmd->seq - COMMANDS_KEPT);
    if (rc < 0)
        return rc;
    rc = apply(db, j, err);
    /* A deployment that was removed meanwhile: the command is done all the same. */
    return rc == -(int)ERR_NOT_FOUND || rc > 0 ? 0 : rc;
}

static void count(struct control *c, const struct command *cmd)
{
    c->counters.commands_done++;
    if (cmd->kind != COMMAND_DEPLOY)
        return;
    if (cmd->result->failure)
        c->counters.deployments_failed += was_cancelled(cmd, cmd->result) ? 0 : 1;
    else
        c->counters.deployments_ok++;
}

/* Registries answer "not found" to strangers, too. */
static bool for_want_of_credentials(const Davit__Common__V1__Failure *f)
{
    struct str reason = str_from(f->reason);
    return str_eq(reason, STR("registry_denied")) || str_eq(reason, STR("image_not_found"));
}

/* What its user can do about a registry that let nobody in, when the command had no login of its own. */
static void advise(const struct server *s, const struct command *cmd, Davit__Common__V1__Failure *f, char hint[ERR_HINT_MAX])
{
    struct registry_login login;
    char server[REGISTRY_NAME_SIZE];
    if (cmd->auth || cmd->kind != COMMAND_DEPLOY || !for_want_of_credentials(f))
        return;
    registry_of_image(str_from(cmd->message->deploy->spec->image), server, NULL);
    bool denied = str_eq(str_from(f->reason), STR("registry_denied"));
    if (registries_auth_for(s->control, cmd->message->deploy->spec->image, &login) == 0) {
        (void)snprintf(hint, ERR_HINT_MAX, "the login kept for %.180s was sent: davit registry login changes it", server);
        f->hint = denied ? hint : f->hint;
    } else if (cmd->credentials) {
        f->hint = lend("the control plane was restarted before the server took the command, and it keeps no registry passwords"
                       " that come with a deployment: deploy again with the credentials, or store them with davit registry login");
        f->reason = lend("credentials_lost");
    } else if (denied) {
        (void)snprintf(hint, ERR_HINT_MAX, "the registry wants a login: davit registry login --user NAME %.180s", server);
        f->hint = hint;
    }
}

static int write_result(struct server *s, struct command *cmd, Davit__Link__V1__CommandResult *r, struct err *err)
{
    AUTO_BUF wire = BUF_INIT(RPC_MESSAGE_MAX);
    Davit__Link__V1__CommandResult shown = *r;
    Davit__Common__V1__Failure failure;
    char hint[ERR_HINT_MAX];
    cut(r->outcome, RESULT_TEXT_MAX);
    if (r->failure) {
        cut(r->failure->message, RESULT_TEXT_MAX);
        cut(r->failure->hint, RESULT_TEXT_MAX);
        cut(r->failure->detail, RESULT_DETAIL_MAX);
        failure = *r->failure;
        advise(s, cmd, &failure, hint);
        shown.failure = &failure;
    }
    if (rpc_pack(&shown.base, &wire) != 0)
        return err_set(err, ERR_EXHAUSTED, "the result of a command is too large to be kept");
    struct result_job j = {.server_id = s->id, .cmd = cmd, .result = &shown, .wire = buf_str(&wire)};
    return store_write(s->control->store, result, &j, deadline_in(STORE_WAIT), err);
}

int commands_result(struct server *s, const Davit__Link__V1__CommandResult *m, struct err *err)
{
    struct control *c = s->control;
    struct command *cmd = find(s, m->seq, m->id);
    ProtobufCMessage *copy = NULL;
    if (!cmd)
        return 1;
    int rc = rpc_copy(&m->base, &copy);
    if (rc < 0)
        return err_set(err, ERR_EXHAUSTED, "the result of a command is too large");
    (void)command_ref(cmd);
    rc = write_result(s, cmd, (Davit__Link__V1__CommandResult *)copy, err);
    if (rc == 0 && !cmd->dropped)
        sandboxes_result(s, cmd, (Davit__Link__V1__CommandResult *)copy);
    if (rc < 0 || cmd->dropped) {
        (void)rpc_message_free(copy);
    } else {
        cmd->result = (Davit__Link__V1__CommandResult *)copy;
        cmd->state = COMMAND_DONE;
        count(c, cmd);
        list_remove(&cmd->node);
        event_signal(&cmd->done);
        sandboxes_done(c, cmd);
        deployments_changed(c, cmd->kind == COMMAND_DEPLOY ? cmd->subject : NULL);
        rollouts_news(c->rollouts);
        command_unref(cmd); /* the list's */
    }
    command_unref(cmd);
    return rc;
}
