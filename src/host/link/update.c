/* SPDX-License-Identifier: Apache-2.0 */
/* update — see update.h: the command, its table, and the steps that look and that change `current`. */
#include "host/link/update_internal.h"

#include <stdio.h>
#include <unistd.h>

#include "host/link/policy.h"

#define MARGIN (16ULL * 1024 * 1024) /* what must be free beside archive and programs */

struct updater *updater_new(const struct updater_config *config)
{
    struct updater *u = NEW(struct updater);
    u->config = *config;
    if (!u->config.trial_wait)
        u->config.trial_wait = UPDATE_TRIAL_WAIT;
    return u;
}

struct updater *updater_free(struct updater *u)
{
    free(u);
    return NULL;
}

const char *update_method(void)
{
    struct slots s;
    const char *notify = getenv("NOTIFY_SOCKET");
    int rc = slots_open(NULL, &s, NULL);
    if (rc == 0)
        slots_close(&s);
    if (rc == 0 && notify && *notify)
        return "slots";
    return access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0 ? "container" : "package";
}

int update_reason(struct update *u, int rc, const char *reason)
{
    if (rc < 0 && !u->reason)
        u->reason = reason;
    return rc;
}

int update_block(struct update *u, int (*fn)(void *arg), usec_t deadline, struct err *err)
{
    u->block_err = ERR_INIT;
    int rc = lane_call(u->lane, fn, u, deadline);
    if (rc < 0 && err && u->block_err.code != ERR_OK)
        *err = u->block_err;
    return err_ensure(err, rc);
}

char *update_fetch_path(const struct update *u)
{
    AUTO_FREE char *name = str_printf(".fetch-%llu", (unsigned long long)u->cmd->seq);
    return slots_path(&u->slots, name, NULL);
}

/* --- What may be installed ---- */

/* Who signed it, and is it what the command says? Not whether it may be installed now: that is for the first look alone. */
static int believe(struct update *u, struct err *err)
{
    const Davit__Link__V1__UpdateAgent *m = u->msg;
    const struct str metadata = {(const char *)m->metadata.data, m->metadata.len};
    int rc = release_verify(metadata, str_from(m->signatures), release_keys_builtin(), err);
    if (rc == 0)
        rc = release_parse(metadata, &u->release, err);
    if (rc < 0)
        return update_reason(u, rc, "update_signature");
    if (!str_eq(str_from(u->release.version), str_from(m->version)))
        return update_reason(u, err_set(err, ERR_PRECONDITION, "the command says version %.64s, what is signed is %s", m->version,
                                        u->release.version), "update_version");
    u->file = release_file_for(&u->release, str_from(release_platform()));
    if (!u->file)
        return update_reason(u, err_set(err, ERR_PRECONDITION, "release %s has nothing for %s", u->release.version, release_platform()),
                             "update_version");
    if (!str_eq(str_from(u->file->sha256), str_from(m->sha256)) || u->file->size != m->size)
        return update_reason(u, err_set(err, ERR_PRECONDITION, "size or checksum of the command are not those that were signed"),
                             "update_checksum");
    AUTO_FREE char *end = str_printf("/%s", u->file->name);
    if (!str_starts(str_from(m->url), STR("https://")) || !str_ends(str_from(m->url), str_from(end)))
        return update_reason(u, err_set(err, ERR_INVALID, "the address is no https:// address of %s", u->file->name), "update_download");
    return slot_name(u->release.version, u->cmd->seq, u->slot, err);
}

static int look_job(void *arg)
{
    struct update *u = arg;
    struct err *err = &u->block_err;
    uint64_t seen = 0;
    int rc = slots_counter(&u->slots, &seen, err);
    if (rc == 0)
        rc = release_may_follow(&u->release, STR(DAVIT_VERSION), seen, err);
    if (rc == 1)
        rc = err_set(err, ERR_EXISTS, "this is version %s already", DAVIT_VERSION);
    if (rc == 0 && u->release.counter > seen)
        rc = slots_counter_set(&u->slots, u->release.counter, err);
    return rc;
}

static int step_check(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    struct release again;
    const struct str metadata = {(const char *)u->msg->metadata.data, u->msg->metadata.len};
    int rc = release_open(metadata, str_from(u->msg->signatures), release_keys_builtin(), clock_checked(), &again, err);
    if (rc < 0)
        return update_reason(u, rc, "update_signature");
    return update_reason(u, update_block(u, look_job, job_deadline(job), err), "update_version");
}

static int room_job(void *arg)
{
    struct update *u = arg;
    uint64_t room = 0, need = 2 * u->file->size + MARGIN;
    int rc = slots_room(&u->slots, &room, &u->block_err);
    if (rc == 0 && room < need) {
        rc = err_set(&u->block_err, ERR_EXHAUSTED, "%s has %llu MB of room, %llu MB are needed", u->slots.prefix, (unsigned long long)(room >> 20),
                     (unsigned long long)(need >> 20));
        err_hint(&u->block_err, "make room there and update again");
    }
    return rc;
}

static int step_room(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    return update_reason(u, update_block(u, room_job, job_deadline(job), err), "update_download");
}

/* --- The change ---- */

static bool is_new_one(const struct update *u)
{
    return str_eq(str_from(u->slots.running), str_from(u->slot));
}

static int fell_back(struct update *u, struct err *err)
{
    (void)err_set(err, ERR_ABORTED, "version %s came to an end in its first %d s; the previous one was restored", u->release.version,
                  (int)(UPDATE_SETTLE / USEC_SEC));
    err_hint(err, "the log of the server's agent tells why");
    return update_reason(u, -(int)ERR_ABORTED, "update_replace");
}

static int was_pending_job(void *arg)
{
    struct update *u = arg;
    char pending[SLOT_NAME_SIZE];
    int rc = slots_pending(&u->slots, pending, &u->block_err);
    return rc < 0 ? rc : str_eq(str_from(pending), str_from(u->slot));
}

/* The new one is asked: it runs, so it was tried and found good. The old one is asked: if the slot is pending, then the new one had taken over and
 * ended before it could note that; to try it again would go on for ever. */
static int probe_trial(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    if (is_new_one(u))
        return 1;
    int rc = update_block(u, was_pending_job, job_deadline(job), err);
    return rc == 1 ? fell_back(u, err) : rc;
}

static int probe_replace(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    (void)job;
    if (is_new_one(u))
        return 1;
    return update_reason(u, err_set(err, ERR_ABORTED, "the agent came to an end before the new version had taken over"), "update_replace");
}

static int replace_job(void *arg)
{
    struct update *u = arg;
    struct err *err = &u->block_err;
    int rc = slots_point(&u->slots, SLOTS_PREVIOUS, u->slots.running, err);
    if (rc == 0)
        rc = slots_pending_set(&u->slots, u->slot, false, err);
    if (rc == 0)
        rc = slots_point(&u->slots, SLOTS_CURRENT, u->slot, err);
    return rc;
}

static int step_replace(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    if (!u->takeover) {
        int rc = probe_replace(job, ctx, err);
        return rc < 0 ? rc : 0;
    }
    return update_reason(u, update_block(u, replace_job, job_deadline(job), err), "update_replace");
}

static int unreplace_job(void *arg)
{
    struct update *u = arg;
    struct err *err = &u->block_err;
    char current[SLOT_NAME_SIZE];
    int rc = slots_read(&u->slots, SLOTS_CURRENT, current, err);
    if (rc >= 0 && (rc == 1 || str_eq(str_from(current), str_from(u->slot))))
        rc = slots_point(&u->slots, SLOTS_CURRENT, u->slots.running, err);
    return rc < 0 ? rc : slots_pending_drop(&u->slots, u->slot, err);
}

static int undo_replace(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    return is_new_one(u) ? 0 : update_block(u, unreplace_job, job_deadline(job), err);
}

static int settled_job(void *arg)
{
    struct update *u = arg;
    return slots_pending_set(&u->slots, NULL, false, &u->block_err);
}

/* In the old one this is the end of it; in the new one, the time in which it has to live. */
static int step_settle(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    if (!is_new_one(u) && u->takeover)
        return update_reason(u, trial_hand_over(u, job_deadline(job), err), "update_trial");
    if (!is_new_one(u))
        return fell_back(u, err);
    if (fiber_sleep(UPDATE_SETTLE) < 0)
        return -(int)ERR_CANCELLED;
    return update_block(u, settled_job, job_deadline(job), err);
}

static int retire_job(void *arg)
{
    struct update *u = arg;
    return slots_collect(&u->slots, &u->block_err);
}

static int step_retire(struct job *job, void *ctx, struct err *err)
{
    return update_block(ctx, retire_job, job_deadline(job), err);
}

static const struct job_step steps[] = {
    {.name = "check", .run = step_check, .timeout = USEC_MINUTE, .no_probe = "it looks, and a counter that is noted twice is the same"},
    {.name = "room", .run = step_room, .timeout = USEC_MINUTE, .no_probe = "it only looks"},
    {.name = "download", .probe = probe_download, .run = step_download, .undo = undo_download, .timeout = USEC_HOUR},
    {.name = "unpack", .probe = probe_unpack, .run = step_unpack, .undo = undo_unpack, .timeout = 5 * USEC_MINUTE},
    {.name = "selftest", .run = step_selftest, .timeout = USEC_MINUTE, .no_probe = "it only looks"},
    {.name = "trial", .probe = probe_trial, .run = step_trial, .undo = undo_trial, .timeout = UPDATE_DRAIN_WAIT + UPDATE_TRIAL_MAX + USEC_MINUTE},
    {.name = "replace", .probe = probe_replace, .run = step_replace, .undo = undo_replace, .timeout = USEC_MINUTE},
    {.name = "settle", .run = step_settle, .timeout = USEC_MINUTE, .commit = true,
     .no_probe = "it waits once more; the slot of the program that runs tells how far it went"},
    {.name = "retire", .run = step_retire, .timeout = USEC_MINUTE, .no_probe = "it removes the slots that are still there"},
};

void update_table(struct job_table *ret)
{
    *ret = (struct job_table){"update", steps, ARRAY_LEN(steps)};
}

/* --- The command ---- */

static void on_progress(void *arg, const struct job_report *r)
{
    struct update *u = arg;
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CommandProgress progress = DAVIT__LINK__V1__COMMAND_PROGRESS__INIT;
    Davit__Common__V1__StepProgress step = DAVIT__COMMON__V1__STEP_PROGRESS__INIT;
    step.step = (char *)(uintptr_t)r->step;
    step.state = (Davit__Common__V1__StepState)r->state;
    step.message = (char *)(uintptr_t)r->message;
    step.percent = r->percent;
    step.index = r->index;
    step.total = r->total;
    progress.seq = u->cmd->seq;
    progress.id = u->cmd->id;
    progress.progress = &step;
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_PROGRESS;
    msg.progress = &progress;
    u->updater->config.send(u->updater->config.arg, &msg);
}

/* protobuf-c marks an empty string by one static address. */
static void set_text(char **at, const char *value)
{
    if (value && *value)
        *at = str_dup(str_from(value));
}

static void fail(const struct update *u, const struct err *err, Davit__Link__V1__CommandResult *ret)
{
    Davit__Common__V1__Failure *f = NEW(Davit__Common__V1__Failure);
    davit__common__v1__failure__init(f);
    f->code = err->code == ERR_OK ? ERR_UNKNOWN : (uint32_t)err->code;
    set_text(&f->message, err->msg);
    set_text(&f->hint, err->hint);
    set_text(&f->reason, u->reason ? u->reason : "internal");
    set_text(&f->detail, u->detail);
    ret->failure = f;
}

/* 0; 1: nothing is to be done; negative: refused. */
static int admit(struct update *u, int resume_step, struct err *err)
{
    usec_t deadline = u->cmd->deadline_us;
    const char *method = update_method();
    if (resume_step < 0 && deadline && clock_real() > deadline)
        return update_reason(u, err_set(err, ERR_DEADLINE, "the command came after its deadline"), "deadline");
    AUTO_FREE char *policy = agent_config_path(u->updater->config.config, POLICY_FILE_NAME);
    const struct policy_ask ask = {.update = true};
    const char *code = NULL;
    int rc = resume_step < 0 ? policy_check(policy, &ask, &code, err) : 0;
    if (rc < 0)
        return update_reason(u, rc, code);
    rc = slots_open(NULL, &u->slots, err);
    if (rc < 0)
        return update_reason(u, rc, "update_method");
    if (rc != 0 || !str_eq(str_from(method), STR("slots"))) {
        bool container = str_eq(str_from(method), STR("container"));
        rc = err_set(err, ERR_PRECONDITION, container ? "this agent runs in a container and does not replace itself"
                                                          : "this agent was not installed in a way in which it can replace itself");
        err_hint(err, container ? "start the container anew with the image of the new version"
                                : "update it the way in which it was installed; install.sh makes an agent that updates itself");
        return update_reason(u, rc, "update_method");
    }
    rc = believe(u, err);
    return rc == 0 && resume_step < 0 && str_eq(str_from(u->release.version), STR(DAVIT_VERSION)) ? 1 : rc;
}

static int tidy_job(void *arg)
{
    struct update *u = arg;
    return slots_tidy(&u->slots, &u->block_err);
}

static int run(struct update *u, const struct job_journal *journal, int resume_step, Davit__Link__V1__CommandResult *ret)
{
    struct job job = {.loop = u->updater->config.loop, .steps = steps, .n_steps = ARRAY_LEN(steps), .ctx = u, .journal = journal,
                      .progress = on_progress, .progress_arg = u};
    if (resume_step >= 0)
        (void)update_block(u, tidy_job, clock_mono() + USEC_MINUTE, NULL); /* rubbish does not keep an update from going on */
    (void)job_run(&job, resume_step); /* its state says more */
    trial_release(u);
    if (job.state == JOB_SUSPENDED)
        return -(int)ERR_CANCELLED;
    if (job.state == JOB_DONE) {
        AUTO_FREE char *text = str_printf("updated to %s", u->release.version);
        set_text(&ret->outcome, text);
        return 0;
    }
    if (job.state != JOB_UNDONE)
        (void)err_set(&job.err, ERR_DATA_LOSS, "the journal of this command does not fit this agent");
    else if (!*job.err.hint && job.n_collected > 0)
        err_hint(&job.err, "cleaning up was not complete: %s", job.collected.msg);
    fail(u, &job.err, ret);
    return 0;
}

int updater_command(struct updater *updater, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                    Davit__Link__V1__CommandResult *ret)
{
    struct update u = {.updater = updater, .cmd = cmd, .msg = cmd->update_agent, .slots = {.prefix_fd = -1, .dir_fd = -1}};
    struct err err = ERR_INIT;
    davit__link__v1__command_result__init(ret);
    int rc = admit(&u, resume_step, &err);
    if (rc == 1) {
        AUTO_FREE char *text = str_printf("already at %s", DAVIT_VERSION);
        set_text(&ret->outcome, text);
        rc = 0;
    } else if (rc < 0) {
        (void)err_ensure(&err, rc);
        fail(&u, &err, ret);
        rc = 0;
    } else {
        u.lane = lane_new(updater->config.loop, "update", 1, 1);
        rc = run(&u, journal, resume_step, ret);
        u.lane = lane_free(u.lane);
    }
    slots_close(&u.slots);
    free(u.detail);
    if (rc < 0)
        return rc;
    ret->seq = cmd->seq;
    set_text(&ret->id, cmd->id);
    ret->finished_us = clock_real();
    return 0;
}
