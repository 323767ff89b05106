/* SPDX-License-Identifier: Apache-2.0 */
/* workloads — see workloads.h; here also what ends with one answer of the agent: start, stop, restart, remove. */
#include "control/work/workloads.h"

#include "control/link/commands.h"
#include "control/work/deployments.h"
#include "control/link/links.h"
#include "control/lists.h"
#include "control/work/variables.h"
#include "spec/spec.h"

enum { WAIT_S = 60, SCALE_WAIT_S = 300, WAIT_MAX_S = 600, STOP_TIMEOUT_MAX_S = 600 };

struct service_job {
    const char *project, *service;
    struct service_row *row;
};

static int read_service(struct db *db, void *arg, struct err *err)
{
    struct service_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, "SELECT server_id, newest, active, replicas FROM services WHERE project = ? AND name = ?",
                      "tt", j->project, j->service);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    (void)str_copy(j->row->server_id, sizeof(j->row->server_id), row_text(rows, 0));
    (void)str_copy(j->row->newest, sizeof(j->row->newest), row_text(rows, 1));
    (void)str_copy(j->row->active, sizeof(j->row->active), row_text(rows, 2));
    j->row->replicas = (uint32_t)row_i64(rows, 3);
    return 0;
}

int workloads_service(struct control *c, const char *project, const char *service, struct service_row *ret, struct err *err)
{
    struct service_job j = {.project = text(project), .service = text(service), .row = ret};
    *ret = (struct service_row){.server_id = ""};
    int rc = store_read(c->store, read_service, &j, deadline_in(STORE_WAIT), err);
    if (rc <= 0)
        return rc;
    (void)err_set(err, ERR_NOT_FOUND, "there is no service \"%.64s\" in project \"%.64s\"", text(service), text(project));
    err_hint(err, "davit ps shows what there is");
    return -(int)ERR_NOT_FOUND;
}

const Davit__Common__V1__Container *workloads_container(const struct server *s, const char *project, const char *service,
                                                        const char *prefer)
{
    const Davit__Common__V1__Container *best = NULL;
    for (struct hmap_entry *e = hmap_first(s->inventory.containers); e; e = hmap_next(e)) {
        const Davit__Common__V1__Container *k = hmap_value(e);
        if (!str_eq(str_from(k->project), str_from(project)) || !str_eq(str_from(k->service), str_from(service)))
            continue;
        if (prefer && *prefer && str_eq(str_from(k->deployment_id), str_from(prefer)))
            return k;
        if (!best || k->started_at_us > best->started_at_us)
            best = k;
    }
    return best;
}

int workloads_server(struct control *c, const struct service_row *row, struct server **ret, struct err *err)
{
    *ret = servers_by_id(c, row->server_id);
    return *ret ? 0 : err_set(err, ERR_NOT_FOUND, "the server of this service was removed");
}

/* One that counts as online and has no link now (we or it have just started) is expected back: commands wait for it. */
static int need_link(const struct server *s, struct err *err)
{
    if (s->link || s->state == SERVER_ONLINE)
        return 0;
    (void)err_set(err, ERR_UNAVAILABLE, "server \"%s\" is %s: its agent is not connected", s->name, server_state_name(s->state));
    err_hint(err, "on that server: systemctl status davit-agent");
    return -(int)ERR_UNAVAILABLE;
}

/* Waits: submits @n, waits for the agent, answers with its outcome in fresh memory. */
static int command_and_wait(struct server *s, const struct command_new *n, usec_t wait, char **ret_outcome, struct err *err)
{
    struct command *cmd = NULL;
    n->message->deadline_us = clock_real() + wait;
    int rc = commands_submit(s, n, &cmd, err);
    if (rc != 0)
        return rc;
    rc = commands_wait(cmd, deadline_in(wait), err);
    if (rc == 0 && cmd->result->failure) {
        const Davit__Common__V1__Failure *f = cmd->result->failure;
        enum err_code code = f->code && f->code < ERR_CODE_MAX ? (enum err_code)f->code : ERR_UNKNOWN;
        rc = err_set(err, code, "%.400s", text(f->message));
        err_hint(err, "%.200s", text(f->hint));
    }
    if (rc == 0)
        *ret_outcome = str_dup(str_from(cmd->result->outcome));
    command_unref(cmd);
    return rc;
}

int workloads_wait(uint32_t wait_s, uint32_t none, usec_t *ret, struct err *err)
{
    *ret = (usec_t)(wait_s ? wait_s : none) * USEC_SEC;
    return wait_s <= WAIT_MAX_S ? 0 : err_set(err, ERR_INVALID, "wait: %u s are not allowed; at most %d", wait_s, WAIT_MAX_S);
}

static int parse_action(const char *action, Davit__Link__V1__Action *ret, struct err *err)
{
    if (str_eq(str_from(action), STR("start")))
        *ret = DAVIT__LINK__V1__ACTION__ACTION_START;
    else if (str_eq(str_from(action), STR("stop")))
        *ret = DAVIT__LINK__V1__ACTION__ACTION_STOP;
    else if (str_eq(str_from(action), STR("restart")))
        *ret = DAVIT__LINK__V1__ACTION__ACTION_RESTART;
    else
        return err_set(err, ERR_INVALID, "action: \"%.32s\" is unknown; start, stop or restart", text(action));
    return 0;
}

static int control_service(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__ControlServiceRequest *r = (const Davit__Control__V1__ControlServiceRequest *)request;
    Davit__Control__V1__ControlServiceResponse m = DAVIT__CONTROL__V1__CONTROL_SERVICE_RESPONSE__INIT;
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__ContainerAction act = DAVIT__LINK__V1__CONTAINER_ACTION__INIT;
    AUTO_FREE char *subject = str_printf("%.64s/%.64s", text(r->project), text(r->service));
    AUTO_FREE char *outcome = NULL;
    struct service_row row;
    struct server *s = NULL;
    usec_t wait = 0;
    int rc = parse_action(r->action, &act.action, err);
    if (rc == 0)
        rc = workloads_wait(r->wait_s, WAIT_S, &wait, err);
    if (rc == 0 && r->stop_timeout_s > STOP_TIMEOUT_MAX_S)
        rc = err_set(err, ERR_INVALID, "stop_timeout: %u s are not allowed; at most %d", r->stop_timeout_s, STOP_TIMEOUT_MAX_S);
    if (rc == 0)
        rc = workloads_service(c, r->project, r->service, &row, err);
    if (rc == 0)
        rc = workloads_server(c, &row, &s, err);
    if (rc == 0)
        rc = need_link(s, err);
    if (rc < 0)
        return rc;
    act.project = r->project;
    act.service = r->service;
    act.stop_timeout_s = r->stop_timeout_s;
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_ACTION;
    wire.action = &act;
    struct command_new n = {.kind = COMMAND_ACTION, .subject = subject, .message = &wire};
    rc = command_and_wait(s, &n, wait, &outcome, err);
    if (rc < 0)
        return rc;
    m.outcome = outcome;
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

struct forget_job {
    const char *project, *service;
    const char *server_id; /* NULL: it is connected and has its commands */
};

static int forget(struct db *db, void *arg, struct err *err)
{
    struct forget_job *j = arg;
    /* What its server did not take yet must not run behind our back when it returns. */
    int rc = j->server_id ? db_exec(db, err,
                                    "UPDATE commands SET state = 3, payload = ? WHERE server_id = ? AND state = 1 AND subject IN"
                                    " (SELECT id FROM deployments WHERE project = ? AND service = ?)",
                                    "bttt", STR(""), j->server_id, j->project, j->service)
                          : 0;
    return rc < 0 ? rc : deployments_drop_service(db, j->project, j->service, INT64_MAX, err);
}

/* Removes the records without asking the agent. */
static int forget_service(struct server *s, const char *project, const char *service, char **ret_outcome, struct err *err)
{
    struct control *c = s->control;
    struct forget_job j = {project, service, s->link ? NULL : s->id};
    (void)server_ref(s);
    int rc = store_write(c->store, forget, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0 && j.server_id)
        commands_forget(s, project, service);
    server_unref(s);
    if (rc < 0)
        return rc;
    deployments_changed(c, NULL);
    *ret_outcome = str_dup(STR("forgotten; its container, if there is one, was left alone"));
    return 0;
}

static int remove_by_agent(struct server *s, const Davit__Control__V1__RemoveServiceRequest *r, usec_t wait, char **ret_outcome,
                           struct err *err)
{
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__RemoveService rm = DAVIT__LINK__V1__REMOVE_SERVICE__INIT;
    AUTO_FREE char *subject = str_printf("%.64s/%.64s", text(r->project), text(r->service));
    int rc = need_link(s, err);
    if (rc < 0) {
        err_hint(err, "when it never comes back: davit rm --forget");
        return rc;
    }
    rm.project = r->project;
    rm.service = r->service;
    rm.volumes = r->volumes;
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_REMOVE_SERVICE;
    wire.remove_service = &rm;
    struct command_new n = {.kind = COMMAND_REMOVE, .subject = subject, .message = &wire};
    return command_and_wait(s, &n, wait, ret_outcome, err);
}

static int drop_variables(struct db *db, void *arg, struct err *err)
{
    const Davit__Control__V1__RemoveServiceRequest *r = arg;
    return variables_drop(db, text(r->project), text(r->service), err);
}

static int remove_service(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__RemoveServiceRequest *r = (const Davit__Control__V1__RemoveServiceRequest *)request;
    Davit__Control__V1__RemoveServiceResponse m = DAVIT__CONTROL__V1__REMOVE_SERVICE_RESPONSE__INIT;
    AUTO_FREE char *outcome = NULL;
    struct service_row row;
    struct server *s = NULL;
    usec_t wait = 0;
    int rc = workloads_wait(r->wait_s, WAIT_S, &wait, err);
    if (rc == 0)
        rc = workloads_service(c, r->project, r->service, &row, err);
    if (rc == 0)
        rc = workloads_server(c, &row, &s, err);
    if (rc == 0)
        rc = r->forget ? forget_service(s, r->project, r->service, &outcome, err) : remove_by_agent(s, r, wait, &outcome, err);
    if (rc == 0 && r->variables)
        rc = store_write(c->store, drop_variables, (void *)(uintptr_t)r, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    m.outcome = outcome;
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int check_scale(const struct server *s, const struct service_row *row, uint32_t replicas, struct err *err)
{
    if (replicas < 1 || replicas > SPEC_REPLICAS_MAX) {
        (void)err_set(err, ERR_INVALID, "replicas: %u are not allowed; 1 to %d", replicas, SPEC_REPLICAS_MAX);
        err_hint(err, "davit stop ends all of a service");
        return -(int)ERR_INVALID;
    }
    if (!row->active[0])
        return err_set(err, ERR_PRECONDITION, "the service has no active deployment that could be scaled");
    int rc = need_link(s, err);
    if (rc < 0 || !s->link || links_take_calls(s))
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "the agent of server \"%s\" is too old for more than one container of a service", s->name);
    err_hint(err, "update the agent: davit server update %s", s->name);
    return -(int)ERR_PRECONDITION;
}

/* Two containers cannot have one port of the server. */
static int check_ports(struct control *c, const struct service_row *row, uint32_t replicas, struct err *err)
{
    Davit__Control__V1__ListDeploymentsResponse *m = NULL;
    int rc = lists_read_deployment(c, row->active, &m, err);
    if (rc < 0)
        return rc;
    if (m->deployments[0]->spec) {
        m->deployments[0]->spec->replicas = replicas;
        rc = spec_check_replicas(m->deployments[0]->spec, err);
    }
    (void)rpc_message_free(m);
    return rc;
}

static int scale_service(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__ScaleServiceRequest *r = (const Davit__Control__V1__ScaleServiceRequest *)request;
    Davit__Control__V1__ScaleServiceResponse m = DAVIT__CONTROL__V1__SCALE_SERVICE_RESPONSE__INIT;
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__ScaleService scale = DAVIT__LINK__V1__SCALE_SERVICE__INIT;
    AUTO_FREE char *subject = str_printf("%.64s/%.64s", text(r->project), text(r->service));
    AUTO_FREE char *outcome = NULL;
    struct service_row row;
    struct server *s = NULL;
    usec_t wait = 0;
    int rc = workloads_wait(r->wait_s, SCALE_WAIT_S, &wait, err);
    if (rc == 0)
        rc = workloads_service(c, r->project, r->service, &row, err);
    if (rc == 0)
        rc = workloads_server(c, &row, &s, err);
    if (rc == 0)
        rc = check_scale(s, &row, r->replicas, err);
    if (rc < 0)
        return rc;
    (void)server_ref(s);
    rc = check_ports(c, &row, r->replicas, err);
    if (rc == 0 && s->gone)
        rc = err_set(err, ERR_ABORTED, "the server was removed meanwhile");
    if (rc < 0) {
        server_unref(s);
        return rc;
    }
    scale.project = r->project;
    scale.service = r->service;
    scale.deployment_id = row.active;
    scale.replicas = r->replicas;
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_SCALE_SERVICE;
    wire.scale_service = &scale;
    struct command_new n = {.kind = COMMAND_SCALE, .subject = subject, .message = &wire};
    rc = command_and_wait(s, &n, wait, &outcome, err);
    server_unref(s);
    if (rc < 0)
        return rc;
    m.outcome = outcome;
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

CONTROL_HANDLER(deploys_deploy)
CONTROL_HANDLER(deploys_watch)
CONTROL_HANDLER(lists_deployments)
CONTROL_HANDLER(lists_services)
CONTROL_HANDLER(control_service)
CONTROL_HANDLER(remove_service)
CONTROL_HANDLER(cancels_cancel)
CONTROL_HANDLER(rollbacks_rollback)
CONTROL_HANDLER(scale_service)
CONTROL_HANDLER(logs_run)
CONTROL_HANDLER(lists_stats)

const struct rpc_handler workloads_handlers[] = {
    {.run = deploys_deploy_tracked}, {.run = deploys_watch_tracked},      {.run = lists_deployments_tracked},
    {.run = lists_services_tracked}, {.run = control_service_tracked},    {.run = remove_service_tracked},
    {.run = cancels_cancel_tracked}, {.run = rollbacks_rollback_tracked}, {.run = scale_service_tracked},
    {.run = logs_run_tracked},       {.run = lists_stats_tracked},
};
