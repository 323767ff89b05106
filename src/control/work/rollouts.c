/* SPDX-License-Identifier: Apache-2.0 */
/* rollouts — the worker that takes the steps of a rollout, see rollouts.h. It looks at all steps whenever something happened, and every second. */
#include "control/work/rollouts.h"

#include <string.h>

#include "base/mem.h"
#include "control/work/rollouts_internal.h"

static const usec_t TURN = 1 * USEC_SEC, RETRY = 5 * USEC_SEC;

struct rollouts *rollouts_new(struct control *c)
{
    struct rollouts *rs = NEW(struct rollouts);
    rs->c = c;
    rs->changes = 1; /* 0 is before everything */
    event_init(&rs->wake, c->loop);
    event_init(&rs->changed, c->loop);
    return rs;
}

struct rollouts *rollouts_free(struct rollouts *rs)
{
    if (!rs)
        return NULL;
    rs->worker = fiber_unref(rs->worker);
    rs->current = rollout_unref(rs->current);
    event_release(&rs->wake);
    event_release(&rs->changed);
    free(rs);
    return NULL;
}

void rollouts_news(struct rollouts *rs)
{
    if (rs && rs->worker)
        event_signal(&rs->wake);
}

void rollouts_stopping(struct rollouts *rs)
{
    rollouts_news(rs);
    if (rs)
        event_pulse(&rs->changed);
}

static void tell(struct rollouts *rs, struct step *st)
{
    if (st)
        st->change = ++rs->changes;
    event_pulse(&rs->changed);
}

/* --- One step ------------------------------------------------------------------------------------------------------------------ */

/* Takes @next, a changed copy of @st, into the store and then into memory. */
static int put_step(struct rollouts *rs, struct rollout *r, struct step *st, struct step *next, struct err *err)
{
    usec_t now = clock_real();
    next->changed = now;
    if (next->state != st->state)
        next->since = now;
    struct step_write w = {.id = r->id, .st = next};
    int rc = store_write(rs->c->store, rollouts_write_step_fn, &w, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    rollouts_step_changed(rs, r, st, next);
    return 0;
}

void rollouts_step_changed(struct rollouts *rs, struct rollout *r, struct step *st, const struct step *next)
{
    struct server *s = servers_by_id(rs->c, st->server_id);
    struct command *cmd = st->cmd;
    *st = *next;
    st->cmd = cmd;
    if (st->state != STEP_RUNNING)
        st->cmd = command_unref(st->cmd);
    if (s)
        rollouts_show(s, r, st);
    tell(rs, st);
}

int rollouts_end_step(struct rollouts *rs, struct rollout *r, struct step *st, enum step_state state, const char *reason, const char *message,
                    struct err *err)
{
    struct step next = *st;
    next.state = state;
    (void)str_copy(next.reason, sizeof(next.reason), str_from(reason));
    (void)str_copy(next.message, sizeof(next.message), str_from(message));
    int rc = put_step(rs, r, st, &next, err);
    if (rc == 0)
        log_event(state == STEP_FAILED ? LOG_WARN : LOG_INFO, "update of a server", "server", st->server_name, "version", r->version, "outcome",
                  rollouts_step_name(state), "reason", st->reason, "message", st->message, NULL);
    return rc;
}

const char *rollouts_step_name(enum step_state state)
{
    static const char *const NAMES[] = {"-", "waiting", "running", "confirming", "done", "failed", "skipped"};
    return NAMES[state > STEP_NONE && state <= STEP_SKIPPED ? state : STEP_NONE];
}

static int take_result(struct rollouts *rs, struct rollout *r, struct step *st, const Davit__Link__V1__CommandResult *result, struct err *err)
{
    const Davit__Common__V1__Failure *f = result->failure;
    if (f) {
        const char *reason = *text(f->reason) ? f->reason : f->code < ERR_CODE_MAX ? err_code_name((enum err_code)f->code) : "unknown";
        return rollouts_end_step(rs, r, st, STEP_FAILED, reason, text(f->message), err);
    }
    struct step next = *st;
    next.state = STEP_CONFIRMING;
    (void)str_copy(next.message, sizeof(next.message), str_from(result->outcome));
    return put_step(rs, r, st, &next, err);
}

/* Runs and has no command here: its result came while nobody was here, or the server took the command along when it went. */
static int take_old_result(struct rollouts *rs, struct rollout *r, struct step *st, struct err *err)
{
    Davit__Link__V1__CommandResult *result = NULL;
    int rc = rollouts_read_result(rs->c, st->server_id, r->id, &result, err);
    if (rc == 1)
        return rollouts_end_step(rs, r, st, STEP_FAILED, "lost", "the command is not known any more", err);
    if (rc == 0)
        rc = take_result(rs, r, st, result, err);
    (void)rpc_message_free(result);
    return rc;
}

static bool runs_version(const struct server *s, const struct rollout *r)
{
    return s && s->system && str_eq(str_from(s->system->agent_version), str_from(r->version));
}

static int follow_running(struct rollouts *rs, struct rollout *r, struct step *st, const struct server *s, struct err *err)
{
    if (!s)
        return rollouts_end_step(rs, r, st, STEP_SKIPPED, "removed", "the server was removed", err);
    if (!st->cmd)
        return take_old_result(rs, r, st, err);
    if (st->cmd->result)
        return take_result(rs, r, st, st->cmd->result, err);
    if (clock_real() < st->since + UPDATE_WAIT + UPDATE_LATE)
        return 0;
    if (runs_version(s, r))
        return rollouts_end_step(rs, r, st, STEP_DONE, "", "", err);
    return rollouts_end_step(rs, r, st, STEP_FAILED, "no_answer", "its agent did not tell the outcome in time", err);
}

static int follow_confirming(struct rollouts *rs, struct rollout *r, struct step *st, const struct server *s, struct err *err)
{
    if (!s)
        return rollouts_end_step(rs, r, st, STEP_SKIPPED, "removed", "the server was removed", err);
    if (runs_version(s, r) && s->link)
        return rollouts_end_step(rs, r, st, STEP_DONE, "", "", err);
    if (clock_real() < st->since + CONFIRM_WAIT)
        return 0;
    return rollouts_end_step(rs, r, st, STEP_FAILED, "not_confirmed", "its agent said that it was updated, but does not report the new version", err);
}

/* --- All steps ----------------------------------------------------------------------------------------------------------------- */

static bool at_work(const struct step *st)
{
    return st->state == STEP_RUNNING || st->state == STEP_CONFIRMING;
}

struct sum {
    size_t waiting, working, failed;
};

static struct sum count(const struct rollout *r)
{
    struct sum sum = {0};
    for (size_t i = 0; i < r->n_steps; i++) {
        sum.waiting += r->steps[i].state == STEP_WAITING;
        sum.working += at_work(&r->steps[i]);
        sum.failed += r->steps[i].state == STEP_FAILED;
    }
    return sum;
}

static int follow_all(struct rollouts *rs, struct rollout *r, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < r->n_steps && !rs->c->stopping; i++) {
        struct step *st = &r->steps[i];
        const struct server *s = servers_by_id(rs->c, st->server_id);
        if (st->state == STEP_RUNNING)
            rc = follow_running(rs, r, st, s, err);
        else if (st->state == STEP_CONFIRMING)
            rc = follow_confirming(rs, r, st, s, err);
    }
    return rc;
}

static int begin_some(struct rollouts *rs, struct rollout *r, struct err *err)
{
    size_t working = count(r).working;
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < r->n_steps && working < r->max_parallel && !rs->c->stopping && !r->cancelled; i++) {
        struct step *st = &r->steps[i];
        if (st->state != STEP_WAITING)
            continue;
        rc = rollouts_begin_step(rs, r, st, err);
        working += at_work(st);
        /* A failure at the first look counts as one under way does: the next turn skips the rest. */
        if (r->halt_on_failure && st->state == STEP_FAILED) {
            event_signal(&rs->wake);
            break;
        }
    }
    return rc;
}

static int skip_rest(struct rollouts *rs, struct rollout *r, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->n_steps && !rs->c->stopping; i++)
        if (r->steps[i].state == STEP_WAITING)
            rc = rollouts_end_step(rs, r, &r->steps[i], STEP_SKIPPED, r->cancelled ? "cancelled" : "halted",
                          r->cancelled ? "the rollout was cancelled" : "another server failed before its turn", err);
    return rc;
}

static int finish(struct rollouts *rs, struct rollout *r, bool halted, struct err *err)
{
    struct rollout next = *r;
    next.state = r->cancelled ? ROLLOUT_CANCELLED : halted ? ROLLOUT_HALTED : count(r).failed ? ROLLOUT_FAILED : ROLLOUT_DONE;
    next.finished = clock_real();
    int rc = rollouts_write(rs->c, &next, err);
    if (rc < 0)
        return rc;
    r->state = next.state;
    r->finished = next.finished;
    log_event(LOG_NOTICE, "rollout ended", "rollout", r->id, "version", r->version, NULL);
    tell(rs, NULL);
    return 0;
}

/* Did servers keep their version because another failed? */
static bool was_halted(const struct rollout *r)
{
    for (size_t i = 0; i < r->n_steps; i++)
        if (r->steps[i].state == STEP_SKIPPED && str_eq(str_from(r->steps[i].reason), STR("halted")))
            return true;
    return false;
}

static int turn(struct rollouts *rs, struct rollout *r, struct err *err)
{
    int rc = follow_all(rs, r, err);
    bool halted = r->halt_on_failure && count(r).failed > 0;
    if (rc >= 0 && (halted || r->cancelled))
        rc = skip_rest(rs, r, err);
    else if (rc >= 0)
        rc = begin_some(rs, r, err);
    struct sum sum = count(r);
    if (rc < 0 || rs->c->stopping)
        return rc;
    return sum.waiting == 0 && sum.working == 0 ? finish(rs, r, was_halted(r), err) : 0;
}

static void work(void *arg)
{
    struct rollouts *rs = arg;
    struct rollout *r = rollout_ref(rs->current);
    while (r->state == ROLLOUT_RUNNING && !rs->c->stopping) {
        struct err err = ERR_INIT;
        event_reset(&rs->wake);
        int rc = turn(rs, r, &err);
        if (rc < 0 && !rs->c->stopping)
            log_err(LOG_ERROR, &err, "the rollout could not go on; it is tried again", NULL);
        if (r->state == ROLLOUT_RUNNING && event_wait(&rs->wake, deadline_in(rc < 0 ? RETRY : TURN)) == -(int)ERR_CANCELLED)
            break;
    }
    (void)rollout_unref(r);
    rs->worker = fiber_unref(rs->worker);
    control_fiber_end(rs->c);
}

/* --- From outside -------------------------------------------------------------------------------------------------------------- */

static int spawn(struct rollouts *rs, struct err *err)
{
    if (rs->worker)
        return 0;
    int rc = fiber_spawn(rs->c->loop, "rollout", work, rs, &rs->worker);
    if (rc < 0)
        return err_set(err, ERR_EXHAUSTED, "no fiber for the rollout");
    rs->c->fibers++;
    return 0;
}

int rollouts_load(struct rollouts *rs, struct err *err)
{
    int rc = rollouts_read_all(rs->c, &rs->current, err);
    struct rollout *r = rs->current;
    for (size_t i = 0; rc == 0 && r && i < r->n_steps; i++) {
        struct server *s = servers_by_id(rs->c, r->steps[i].server_id);
        struct command *cmd;
        if (!s || r->steps[i].state != STEP_RUNNING)
            continue;
        list_each(cmd, &s->commands, struct command, node)
            if (cmd->kind == COMMAND_UPDATE && str_eq(str_from(cmd->subject), str_from(r->id)) && !r->steps[i].cmd)
                r->steps[i].cmd = command_ref(cmd);
    }
    return rc;
}

int rollouts_resume(struct rollouts *rs, struct err *err)
{
    return rs->current && rs->current->state == ROLLOUT_RUNNING ? spawn(rs, err) : 0;
}

/* Nobody is there to take @r on: it is over before it began. */
static void give_up(struct rollouts *rs, struct rollout *r)
{
    struct err err = ERR_INIT;
    r->cancelled = true;
    int rc = skip_rest(rs, r, &err);
    if (rc == 0)
        rc = finish(rs, r, false, &err);
    if (rc < 0)
        log_err(LOG_ERROR, &err, "the end of a rollout could not be written", NULL);
    r->state = ROLLOUT_CANCELLED;
}

int rollouts_start(struct rollouts *rs, struct rollout *r, struct err *err)
{
    /* Also the one that is being written: nobody comes in between. */
    if (rs->current && rs->current->state == ROLLOUT_RUNNING) {
        int rc = err_set(err, ERR_PRECONDITION, "a rollout of %s is under way", rs->current->version);
        err_hint(err, "davit server update --status shows it, --cancel stops it");
        return rc;
    }
    struct rollout *before = rs->current;
    rng_uuid(r->id);
    r->created = clock_real();
    r->state = ROLLOUT_RUNNING;
    for (size_t i = 0; i < r->n_steps; i++) {
        r->steps[i].state = STEP_WAITING;
        r->steps[i].since = r->steps[i].changed = r->created;
        r->steps[i].change = ++rs->changes;
    }
    rs->current = r;
    int rc = rollouts_insert(rs->c, r, err);
    if (rc < 0) {
        rs->current = before;
        return rc;
    }
    (void)rollout_unref(before);
    for (size_t i = 0; i < r->n_steps; i++) {
        struct server *s = servers_by_id(rs->c, r->steps[i].server_id);
        if (s)
            rollouts_show(s, r, &r->steps[i]);
    }
    rc = spawn(rs, err);
    if (rc < 0)
        give_up(rs, rollout_ref(r)); /* the caller keeps its own */
    return rc;
}

int rollouts_cancel(struct rollouts *rs, struct rollout *r, struct err *err)
{
    if (r->state != ROLLOUT_RUNNING)
        return 1;
    bool before = r->cancelled;
    r->cancelled = true;
    struct rollout now = *r; /* what is written does not change under the writer */
    int rc = rollouts_write(rs->c, &now, err);
    if (rc == 0 && r->state != ROLLOUT_RUNNING) { /* it came to its end meanwhile, and this must not undo that */
        now = *r;
        rc = rollouts_write(rs->c, &now, err);
    }
    if (rc < 0)
        r->cancelled = before;
    rollouts_news(rs);
    return rc;
}

int rollouts_find(struct rollouts *rs, const char *id, struct rollout **ret, struct err *err)
{
    if (rs->current && (!*id || str_eq(str_from(id), str_from(rs->current->id)))) {
        *ret = rollout_ref(rs->current);
        return 0;
    }
    int rc = *id ? rollouts_read(rs->c, id, ret, err) : 1;
    if (rc != 1)
        return rc;
    rc = *id ? err_set(err, ERR_NOT_FOUND, "there is no rollout \"%.64s\"", id) : err_set(err, ERR_NOT_FOUND, "there was no rollout yet");
    err_hint(err, "davit server update NAME|--all starts one");
    return rc;
}

void rollouts_progress(struct rollouts *rs, const struct server *s, const struct command *cmd, const char *phase)
{
    struct rollout *r = rs ? rs->current : NULL;
    if (!r || r->state != ROLLOUT_RUNNING || !str_eq(str_from(cmd->subject), str_from(r->id)))
        return;
    for (size_t i = 0; i < r->n_steps; i++) {
        struct step *st = &r->steps[i];
        if (st->state != STEP_RUNNING || !str_eq(str_from(st->server_id), str_from(s->id)) || str_eq(str_from(st->phase), str_from(phase)))
            continue;
        struct step next = *st;
        (void)str_copy(next.phase, sizeof(next.phase), str_from(phase));
        next.changed = clock_real();
        /* On disk with the next change of its state: a phase is for those who watch. */
        rollouts_step_changed(rs, r, st, &next);
    }
}
