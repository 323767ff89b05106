/* SPDX-License-Identifier: Apache-2.0 */
/* rollbacks — Rollback: a new deployment that is as one that was active once. Its spec is the stored one, environment included; the image is named
 * by the digest that ran then, so that a tag that has moved since brings back what was there; how many containers stays as it is. */
#include "base/mem.h"
#include "control/work/deployments.h"
#include "control/work/deploys.h"
#include "control/people/passes.h"
#include "control/sealed.h"
#include "ident/seal.h"
#include "spec/spec.h"

struct source_job {
    const Davit__Control__V1__RollbackRequest *r;
    const char *active;
    struct deployment_row row; /* that one is repeated; or, with `answered`, the one that answered this request */
    bool answered;
    struct buf spec; /* sealed */
};

/* The id of one row, or "" where there is none. */
static int take_id(struct rows *rows, char dst[40], struct err *err)
{
    int rc = rows_next(rows, err);
    dst[0] = '\0';
    if (rc == 1)
        (void)str_copy(dst, 40, row_text(rows, 0));
    return rc < 0 ? rc : 0;
}

static int answered_before(struct db *db, struct source_job *j, struct err *err)
{
    AUTO_ROWS rows = NULL;
    char id[40] = "";
    if (!*text(j->r->request_id))
        return 0;
    int rc = db_query(db, &rows, err, "SELECT id FROM deployments WHERE request_id = ?", "t", j->r->request_id);
    if (rc == 0)
        rc = take_id(rows, id, err);
    if (rc < 0 || !id[0])
        return rc;
    j->answered = true;
    return deployment_find(db, id, &j->row, err);
}

/* The one that was active before the present one. */
static int before(struct db *db, struct source_job *j, struct err *err)
{
    AUTO_ROWS rows = NULL;
    char id[40] = "";
    int rc = db_query(db, &rows, err,
                      "SELECT id FROM deployments WHERE project = ? AND service = ? AND activated_us > 0 AND id <> ?"
                      " ORDER BY activated_us DESC, created_us DESC LIMIT 1",
                      "ttt", j->r->project, j->r->service, j->active);
    if (rc == 0)
        rc = take_id(rows, id, err);
    if (rc < 0)
        return rc;
    if (!id[0])
        return err_set(err, ERR_PRECONDITION, "nothing was active in %.64s/%.64s before what is now", j->r->project, j->r->service);
    return deployment_find(db, id, &j->row, err);
}

static int check_source(const struct source_job *j, struct err *err)
{
    const struct deployment_row *row = &j->row;
    bool same = str_eq(str_from(row->project), str_from(j->r->project)) && str_eq(str_from(row->service), str_from(j->r->service));
    if (!same)
        return err_set(err, ERR_INVALID, "deployment %.8s is one of service %s/%s", row->id, row->project, row->service);
    if (str_eq(str_from(row->id), str_from(j->active)))
        return err_set(err, ERR_PRECONDITION, "deployment %.8s is what is active now", row->id);
    if (row->was_active)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "deployment %.8s was never active: it is %s", row->id, deployment_state_name(row->state));
    err_hint(err, "davit deployments shows which were");
    return -(int)ERR_PRECONDITION;
}

static int read_source(struct db *db, void *arg, struct err *err)
{
    struct source_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = answered_before(db, j, err);
    if (rc < 0 || j->answered)
        return rc;
    rc = *text(j->r->deployment_id) ? deployment_find(db, j->r->deployment_id, &j->row, err) : before(db, j, err);
    if (rc == 0)
        rc = check_source(j, err);
    if (rc == 0)
        rc = db_query(db, &rows, err, "SELECT spec FROM deployments WHERE id = ?", "t", j->row.id);
    if (rc == 0)
        rc = rows_next(rows, err);
    return rc == 1 ? buf_append_str(&j->spec, row_blob(rows, 0)) : rc;
}

/* What that deployment ran. */
static int revive(struct control *c, const struct source_job *j, Davit__Common__V1__ServiceSpec **ret, struct err *err)
{
    AUTO_SECRET wire = NULL;
    ProtobufCMessage *m = NULL;
    int rc = sealed_get(c, SEALED_SPEC, j->row.id, buf_str(&j->spec), &wire, err);
    if (rc < 0)
        return rc;
    if (rpc_unpack(&davit__common__v1__service_spec__descriptor, secret_reveal(wire), &m, NULL) != 0)
        return err_set(err, ERR_DATA_LOSS, "deployment %.8s was recorded by a newer version", j->row.id);
    Davit__Common__V1__ServiceSpec *spec = *ret = (Davit__Common__V1__ServiceSpec *)m;
    spec_complete(spec);
    spec->replicas = 0;
    if (j->row.image_digest[0])
        spec_pin_image(spec, j->row.image_digest);
    return spec_check(spec, err);
}

static int answer(struct rpc_call *call, const char *id, const char *source, const struct server *s, struct err *err)
{
    Davit__Control__V1__RollbackResponse m = DAVIT__CONTROL__V1__ROLLBACK_RESPONSE__INIT;
    m.deployment_id = lend(id);
    m.source_deployment_id = lend(source);
    m.server_name = lend(s->name);
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int roll_back(struct rpc_call *call, struct server *s, const struct source_job *j, struct err *err)
{
    Davit__Common__V1__ServiceSpec *spec = NULL;
    char id[40] = "";
    int rc = revive(s->control, j, &spec, err);
    if (rc == 0) {
        struct deploy_new n = {.request_id = *text(j->r->request_id) ? j->r->request_id : NULL,
                               .source = j->row.id,
                               .triggered_by = caller_name(call),
                               .spec = spec};
        rc = deploys_submit(s, &n, id, err);
    }
    if (rc == 0)
        rc = answer(call, id, j->row.id, s, err);
    (void)rpc_message_free(spec);
    return rc;
}

int rollbacks_rollback(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__RollbackRequest *r = (const Davit__Control__V1__RollbackRequest *)request;
    struct source_job j = {.r = r, .spec = BUF_INIT(RPC_MESSAGE_MAX + SEAL_OVERHEAD)};
    struct service_row row = {.server_id = ""};
    struct server *s = NULL;
    int rc = deploys_check_request_id(r->request_id, err);
    if (rc == 0)
        rc = workloads_service(c, r->project, r->service, &row, err);
    if (rc == 0)
        rc = workloads_server(c, &row, &s, err);
    if (rc < 0)
        return rc;
    BUG_ON(!s);
    (void)server_ref(s);
    j.active = row.active;
    rc = store_read(c->store, read_source, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0)
        rc = j.answered ? answer(call, j.row.id, j.row.source, s, err) : roll_back(call, s, &j, err);
    buf_release(&j.spec);
    server_unref(s);
    return rc;
}
