/* SPDX-License-Identifier: Apache-2.0 */
/* rollouts_store — rows of rollouts and of their steps, see rollouts.h. */
#include "base/mem.h"
#include "control/work/rollouts.h"

#define ROLLOUT_COLUMNS \
    "id, version, state, cancelled, max_parallel, halt_on_failure, offline_wait_s, triggered_by, created_us, finished_us"
#define STEP_COLUMNS "server_id, server_name, state, phase, reason, message, from_version, since_us, changed_us"

struct rollout *rollout_ref(struct rollout *r)
{
    r->refs++;
    return r;
}

struct rollout *rollout_unref(struct rollout *r)
{
    if (!r || --r->refs)
        return NULL;
    for (size_t i = 0; i < r->n_steps; i++)
        (void)command_unref(r->steps[i].cmd);
    free(r->steps);
    free(r);
    return NULL;
}

/* --- Writing ------------------------------------------------------------------------------------------------------------------- */

static int insert_steps(struct db *db, const struct rollout *r, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->n_steps; i++) {
        const struct step *st = &r->steps[i];
        rc = db_exec(db, err, "INSERT INTO rollout_steps (rollout_id, place, " STEP_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                     "tittittttii",
                     r->id, (int64_t)i, st->server_id, st->server_name, (int64_t)st->state, st->phase, st->reason, st->message, st->from,
                     (int64_t)st->since, (int64_t)st->changed);
    }
    return rc;
}

static int insert(struct db *db, void *arg, struct err *err)
{
    const struct rollout *r = arg;
    int rc = db_exec(db, err,
                     "DELETE FROM rollouts WHERE id NOT IN (SELECT id FROM (SELECT id FROM rollouts ORDER BY created_us DESC, id LIMIT ?) AS kept)",
                     "i", (int64_t)ROLLOUTS_KEPT - 1);
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO rollouts (" ROLLOUT_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "ttiiiiitii", r->id, r->version,
                     (int64_t)r->state, (int64_t)r->cancelled, (int64_t)r->max_parallel, (int64_t)r->halt_on_failure, (int64_t)r->offline_wait_s,
                     r->triggered_by, (int64_t)r->created, (int64_t)r->finished);
    return rc == 0 ? insert_steps(db, r, err) : rc;
}

int rollouts_insert(struct control *c, const struct rollout *r, struct err *err)
{
    return store_write(c->store, insert, (void *)(uintptr_t)r, deadline_in(STORE_WAIT), err);
}

static int write_rollout(struct db *db, void *arg, struct err *err)
{
    const struct rollout *r = arg;
    return db_exec(db, err, "UPDATE rollouts SET state = ?, cancelled = ?, finished_us = ? WHERE id = ?", "iiit", (int64_t)r->state,
                   (int64_t)r->cancelled, (int64_t)r->finished, r->id);
}

int rollouts_write(struct control *c, const struct rollout *r, struct err *err)
{
    return store_write(c->store, write_rollout, (void *)(uintptr_t)r, deadline_in(STORE_WAIT), err);
}

int rollouts_write_step_fn(struct db *db, void *arg, struct err *err)
{
    const struct step_write *w = arg;
    const struct step *st = w->st;
    return db_exec(db, err,
                   "UPDATE rollout_steps SET state = ?, phase = ?, reason = ?, message = ?, from_version = ?, since_us = ?, changed_us = ?"
                   " WHERE rollout_id = ? AND server_id = ?",
                   "ittttiitt", (int64_t)st->state, st->phase, st->reason, st->message, st->from, (int64_t)st->since, (int64_t)st->changed, w->id,
                   st->server_id);
}

/* --- Reading ------------------------------------------------------------------------------------------------------------------- */

static void step_from_row(const struct rows *rows, struct step *st)
{
    (void)str_copy(st->server_id, sizeof(st->server_id), row_text(rows, 0));
    (void)str_copy(st->server_name, sizeof(st->server_name), row_text(rows, 1));
    st->state = (enum step_state)row_i64(rows, 2);
    (void)str_copy(st->phase, sizeof(st->phase), row_text(rows, 3));
    (void)str_copy(st->reason, sizeof(st->reason), row_text(rows, 4));
    (void)str_copy(st->message, sizeof(st->message), row_text(rows, 5));
    (void)str_copy(st->from, sizeof(st->from), row_text(rows, 6));
    st->since = (usec_t)row_i64(rows, 7);
    st->changed = (usec_t)row_i64(rows, 8);
}

static void rollout_from_row(const struct rows *rows, struct rollout *r)
{
    (void)str_copy(r->id, sizeof(r->id), row_text(rows, 0));
    (void)str_copy(r->version, sizeof(r->version), row_text(rows, 1));
    r->state = (enum rollout_state)row_i64(rows, 2);
    r->cancelled = row_i64(rows, 3) != 0;
    r->max_parallel = (uint32_t)row_i64(rows, 4);
    r->halt_on_failure = row_i64(rows, 5) != 0;
    r->offline_wait_s = (uint32_t)row_i64(rows, 6);
    (void)str_copy(r->triggered_by, sizeof(r->triggered_by), row_text(rows, 7));
    r->created = (usec_t)row_i64(rows, 8);
    r->finished = (usec_t)row_i64(rows, 9);
}

static int read_steps(struct db *db, struct rollout *r, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int64_t n = 0;
    int rc = db_get_i64(db, &n, err, "SELECT COUNT(*) FROM rollout_steps WHERE rollout_id = ?", "t", r->id);
    if (rc == 0)
        rc = db_query(db, &rows, err, "SELECT " STEP_COLUMNS " FROM rollout_steps WHERE rollout_id = ? ORDER BY place", "t", r->id);
    if (rc < 0)
        return rc;
    r->steps = mem_zalloc((size_t)n + 1, sizeof(*r->steps));
    while (r->n_steps < (size_t)n && (rc = rows_next(rows, err)) == 1)
        step_from_row(rows, &r->steps[r->n_steps++]);
    return rc < 0 ? rc : 0;
}

struct read_job {
    const char *id;
    struct rollout *r; /* the caller's, also on failure */
};

static int read_rollout(struct db *db, void *arg, struct err *err)
{
    struct read_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = *j->id ? db_query(db, &rows, err, "SELECT " ROLLOUT_COLUMNS " FROM rollouts WHERE id = ?", "t", j->id)
                    : db_query(db, &rows, err, "SELECT " ROLLOUT_COLUMNS " FROM rollouts ORDER BY created_us DESC, id LIMIT 1", "");
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    j->r = rollout_unref(j->r); /* of an attempt that the store took back */
    j->r = NEW(struct rollout);
    j->r->refs = 1;
    rollout_from_row(rows, j->r);
    rows = rows_done(rows);
    return read_steps(db, j->r, err);
}

int rollouts_read(struct control *c, const char *id, struct rollout **ret, struct err *err)
{
    struct read_job j = {.id = id};
    int rc = store_read(c->store, read_rollout, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0)
        *ret = j.r;
    else
        (void)rollout_unref(j.r);
    return rc;
}

struct result_job {
    const char *server_id, *subject;
    Davit__Link__V1__CommandResult *result;
};

static int read_result(struct db *db, void *arg, struct err *err)
{
    struct result_job *j = arg;
    AUTO_ROWS rows = NULL;
    ProtobufCMessage *m = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT result FROM commands WHERE server_id = ? AND kind = ? AND subject = ? AND state = 3 ORDER BY seq DESC LIMIT 1", "tit",
                      j->server_id, (int64_t)COMMAND_UPDATE, j->subject);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    if (rpc_unpack(&davit__link__v1__command_result__descriptor, row_blob(rows, 0), &m, NULL) != 0)
        return err_set(err, ERR_DATA_LOSS, "the result of an update cannot be read");
    (void)rpc_message_free(j->result);
    j->result = (Davit__Link__V1__CommandResult *)m;
    return 0;
}

int rollouts_read_result(struct control *c, const char *server_id, const char *subject, Davit__Link__V1__CommandResult **ret, struct err *err)
{
    struct result_job j = {.server_id = server_id, .subject = subject};
    int rc = store_read(c->store, read_result, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0)
        *ret = j.result;
    else
        (void)rpc_message_free(j.result);
    return rc;
}

struct all_job {
    struct control *c;
    struct read_job newest;
};

static int read_last(struct db *db, struct control *c, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT " STEP_COLUMNS ", rollout_id, version FROM (SELECT s.*, r.version AS version, row_number()"
                      " OVER (PARTITION BY s.server_id ORDER BY r.created_us DESC, r.id) AS age FROM rollout_steps s JOIN rollouts r"
                      " ON r.id = s.rollout_id) AS ranked WHERE age = 1",
                      "");
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        struct step st = {.server_id = ""};
        struct rollout r = {.refs = 1};
        step_from_row(rows, &st);
        (void)str_copy(r.id, sizeof(r.id), row_text(rows, 9));
        (void)str_copy(r.version, sizeof(r.version), row_text(rows, 10));
        struct server *s = servers_by_id(c, st.server_id);
        if (s)
            rollouts_show(s, &r, &st);
        rc = 0;
    }
    return rc;
}

static int read_all(struct db *db, void *arg, struct err *err)
{
    struct all_job *j = arg;
    int rc = read_rollout(db, &j->newest, err);
    return rc < 0 ? rc : read_last(db, j->c, err);
}

int rollouts_read_all(struct control *c, struct rollout **ret, struct err *err)
{
    struct all_job j = {.c = c, .newest = {.id = ""}};
    int rc = store_read_sync(c->store, read_all, &j, err);
    if (rc < 0)
        j.newest.r = rollout_unref(j.newest.r);
    *ret = j.newest.r;
    return rc;
}

/* --- What is shown ------------------------------------------------------------------------------------------------------------- */

void rollout_step_describe(const struct rollout *r, const struct step *st, Davit__Control__V1__RolloutStep *m)
{
    davit__control__v1__rollout_step__init(m);
    m->rollout = lend(r->id);
    m->server_id = lend(st->server_id);
    m->server_name = lend(st->server_name);
    m->state = (Davit__Control__V1__RolloutStepState)st->state;
    m->phase = lend(st->phase);
    m->reason = lend(st->reason);
    m->message = lend(st->message);
    m->from_version = lend(st->from);
    m->to_version = lend(r->version);
    m->changed_us = st->changed;
}

void rollout_describe(const struct rollout *r, Davit__Control__V1__Rollout *m)
{
    davit__control__v1__rollout__init(m);
    m->id = lend(r->id);
    m->version = lend(r->version);
    m->state = (Davit__Control__V1__RolloutState)r->state;
    m->max_parallel = r->max_parallel;
    m->halt_on_failure = r->halt_on_failure;
    m->offline_wait_s = r->offline_wait_s;
    m->triggered_by = lend(r->triggered_by);
    m->created_us = r->created;
    m->finished_us = r->finished;
    m->servers = (uint32_t)r->n_steps;
    for (size_t i = 0; i < r->n_steps; i++) {
        m->done += r->steps[i].state == STEP_DONE;
        m->failed += r->steps[i].state == STEP_FAILED;
        m->skipped += r->steps[i].state == STEP_SKIPPED;
    }
}

void rollouts_show(struct server *s, const struct rollout *r, const struct step *st)
{
    Davit__Control__V1__RolloutStep m;
    ProtobufCMessage *copy = NULL;
    rollout_step_describe(r, st, &m);
    if (rpc_copy(&m.base, &copy) != 0)
        return;
    (void)rpc_message_free(s->update);
    s->update = (Davit__Control__V1__RolloutStep *)copy;
    server_changed(s);
}
