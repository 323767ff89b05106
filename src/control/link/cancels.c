/* SPDX-License-Identifier: Apache-2.0 */
/* cancels — CancelDeployment: ends a deployment before it is active. */
#include "control/link/commands.h"
#include "control/work/deployments.h"
#include "control/people/passes.h"
#include "control/work/workloads.h"

enum { CANCEL_WAIT_S = 60 };

struct find_job {
    const char *id;
    struct deployment_row *row;
};

static int find_fn(struct db *db, void *arg, struct err *err)
{
    struct find_job *j = arg;
    return deployment_find(db, j->id, j->row, err);
}

static int find(struct control *c, const char *id, struct deployment_row *row, struct err *err)
{
    struct find_job j = {.id = text(id), .row = row};
    return store_read(c->store, find_fn, &j, deadline_in(STORE_WAIT), err);
}

static int too_late(const struct deployment_row *row, struct err *err)
{
    if (row->state == DEPLOYMENT_ACTIVE) {
        (void)err_set(err, ERR_PRECONDITION, "it is too late: deployment %.8s of %s/%s is active", row->id, row->project, row->service);
        err_hint(err, "davit rollback %s/%s brings back the one before", row->project, row->service);
        return -(int)ERR_PRECONDITION;
    }
    return err_set(err, ERR_PRECONDITION, "deployment %.8s of %s/%s is over: %s", row->id, row->project, row->service,
                   deployment_state_name(row->state));
}

/* Waits for the agent, unless it is away: then it is told when it comes. */
static int wait_for_agent(struct server *s, struct command *cmd, usec_t wait, struct err *err)
{
    if (!s->link && s->state != SERVER_ONLINE)
        return 0;
    int rc = event_wait(&cmd->done, deadline_in(wait));
    if (rc == -(int)ERR_DEADLINE) {
        (void)err_set(err, ERR_DEADLINE, "server \"%s\" did not end the deployment in time", s->name);
        err_hint(err, "it is still asked to; davit deployments shows when it did");
        return -(int)ERR_DEADLINE;
    }
    return rc < 0 ? err_set(err, (enum err_code) - rc, "the wait for the agent was given up") : 0;
}

/* 1: its command is not known yet, or not any more, for it or its result is being written. */
static int give_up(struct control *c, const struct deployment_row *row, const char *by, usec_t wait, struct err *err)
{
    struct server *s = servers_by_id(c, row->server_id);
    struct command *cmd = s ? commands_by_deployment(s, row->id) : NULL;
    if (!cmd)
        return 1;
    (void)server_ref(s);
    (void)command_ref(cmd);
    int rc = commands_cancel(s, cmd, by, err);
    if (rc == 1)
        rc = wait_for_agent(s, cmd, wait, err);
    command_unref(cmd);
    server_unref(s);
    return rc;
}

int cancels_cancel(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__CancelDeploymentRequest *r = (const Davit__Control__V1__CancelDeploymentRequest *)request;
    Davit__Control__V1__CancelDeploymentResponse m = DAVIT__CONTROL__V1__CANCEL_DEPLOYMENT_RESPONSE__INIT;
    struct deployment_row row = {.id = ""};
    usec_t wait = 0;
    bool missed = false;
    int rc = workloads_wait(r->wait_s, CANCEL_WAIT_S, &wait, err);
    if (rc == 0)
        rc = find(c, r->deployment_id, &row, err);
    if (rc == 0 && !deployment_ended(row.state)) {
        rc = give_up(c, &row, caller_name(call), wait, err);
        missed = rc == 1;
        if (rc >= 0)
            rc = find(c, row.id, &row, err);
    }
    if (rc < 0)
        return rc;
    if (deployment_ended(row.state) && row.state != DEPLOYMENT_CANCELLED)
        return too_late(&row, err);
    if (!deployment_ended(row.state) && missed)
        return err_set(err, ERR_UNAVAILABLE, "deployment %.8s is being recorded at this moment; try again", row.id);
    m.state = (Davit__Common__V1__DeploymentState)row.state;
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}
