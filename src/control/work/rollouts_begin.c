/* SPDX-License-Identifier: Apache-2.0 */
/* rollouts_begin — what becomes of a server whose turn it is, and the command that it gets; see rollouts.h. */
#include "base/mem.h"
#include "control/web/front.h"
#include "control/work/rollouts_internal.h"

/* Why a server is not commanded: where its step goes instead. */
struct verdict {
    enum step_state state; /* STEP_NONE: command it */
    const char *reason;
    char message[ROLLOUT_MESSAGE_SIZE];
};

static void judge(struct verdict *v, enum step_state state, const char *reason, const char *message)
{
    v->state = state;
    v->reason = reason;
    (void)str_copy(v->message, sizeof(v->message), str_from(message));
}

static bool forbids_update(const Davit__Common__V1__SystemInfo *system)
{
    for (size_t i = 0; i < system->n_policy_forbids; i++)
        if (str_eq(str_from(system->policy_forbids[i]), STR("policy_update")))
            return true;
    return false;
}

/* May it go to @release by itself? */
static void judge_version(struct verdict *v, const struct server *s, const struct release *release)
{
    struct err err = ERR_INIT;
    struct str runs = str_from(s->system->agent_version);
    if (release_version_valid(runs) && release_version_compare(runs, str_from(release->version)) > 0) {
        judge(v, STEP_DONE, "newer", "it runs a newer version");
        return;
    }
    int rc = release_may_follow(release, runs, 0, &err);
    if (rc == 1)
        judge(v, STEP_DONE, "current", "it runs this version");
    else if (rc < 0)
        judge(v, STEP_FAILED, rc == -(int)ERR_PRECONDITION ? "too_old" : "unknown_version", err.msg);
}

static void judge_server(struct verdict *v, const struct server *s, const struct release *release)
{
    const Davit__Common__V1__SystemInfo *system = s->system;
    const char *method = system->update_method;
    judge_version(v, s, release);
    if (v->state != STEP_NONE)
        return;
    if (*method && !str_eq(str_from(method), STR("slots")))
        judge(v, STEP_SKIPPED, str_eq(str_from(method), STR("container")) ? "container" : "package",
              str_eq(str_from(method), STR("container")) ? "its agent runs in a container: update the image of that"
                                                         : "its agent was not installed by install.sh: update it the way it came");
    else if (forbids_update(system))
        judge(v, STEP_SKIPPED, "policy_update", "the policy of its owner forbids updates from here");
}

/* The command, which borrows everything that it holds. */
static int command_server(struct rollouts *rs, struct rollout *r, struct step *st, struct server *s, const struct release_entry *e,
                          const struct release_file *file, struct err *err)
{
    Davit__Link__V1__Command wire = DAVIT__LINK__V1__COMMAND__INIT;
    Davit__Link__V1__UpdateAgent update = DAVIT__LINK__V1__UPDATE_AGENT__INIT;
    struct command *cmd = NULL;
    AUTO_BUF url = BUF_INIT(1024);
    int rc = front_url(rs->c, s, &url, err);
    if (rc == 0)
        rc = buf_printf(&url, "/releases/%s%s%s", e->directory, *e->directory ? "/" : "", file->name);
    if (rc < 0)
        return rollouts_end_step(rs, r, st, STEP_FAILED, "no_address", err && *err->msg ? err->msg : "there is no address to load it from", err);
    update.version = r->version;
    update.url = lend(buf_cstr(&url));
    update.sha256 = lend(file->sha256);
    update.size = file->size;
    update.metadata = (ProtobufCBinaryData){.len = e->metadata.len, .data = (uint8_t *)e->metadata.data};
    update.signatures = lend(buf_cstr(&e->signatures));
    wire.body_case = DAVIT__LINK__V1__COMMAND__BODY_UPDATE_AGENT;
    wire.update_agent = &update;
    wire.deadline_us = clock_real() + UPDATE_WAIT;
    struct step next = *st;
    next.state = STEP_RUNNING;
    next.reason[0] = next.message[0] = '\0';
    next.since = next.changed = clock_real();
    (void)str_copy(next.from, sizeof(next.from), str_from(s->system->agent_version));
    /* Commanded and known as such in one transaction: after a crash it is either both or none. */
    struct step_write w = {.id = r->id, .st = &next};
    struct command_new n = {.kind = COMMAND_UPDATE, .subject = r->id, .message = &wire, .also = rollouts_write_step_fn, .also_arg = &w};
    rc = commands_submit(s, &n, &cmd, err);
    if (rc < 0)
        return rc == -(int)ERR_EXHAUSTED ? rollouts_end_step(rs, r, st, STEP_FAILED, "queue_full", err ? err->msg : "", err) : rc;
    st->cmd = cmd;
    rollouts_step_changed(rs, r, st, &next);
    return 0;
}

static int begin(struct rollouts *rs, struct rollout *r, struct step *st, struct server *s, const struct release_entry *e, struct err *err)
{
    struct verdict v = {.state = STEP_NONE};
    judge_server(&v, s, &e->release);
    if (v.state != STEP_NONE)
        return rollouts_end_step(rs, r, st, v.state, v.reason, v.message, err);
    AUTO_FREE char *platform = str_printf("linux-%s", s->system->arch);
    const struct release_file *file = release_file_for(&e->release, str_from(platform));
    if (file)
        return command_server(rs, r, st, s, e, file, err);
    AUTO_FREE char *message = str_printf("the release has no programs for %s", platform);
    return rollouts_end_step(rs, r, st, STEP_SKIPPED, "no_build", message, err);
}

/* The entry of the rollout's release, as a reference; NULL in *ret: there is none (any more). */
static int find_release(struct rollouts *rs, const struct rollout *r, struct release_entry **ret, struct err *err)
{
    /* Read again: it may have been taken back since the last server. */
    int rc = releases_refresh(rs->c->releases, err);
    if (rc == -(int)ERR_CANCELLED || rc == -(int)ERR_DEADLINE || rc == -(int)ERR_EXHAUSTED)
        return rc;
    struct release_entry *e = rc == 0 ? releases_find(rs->c->releases, str_from(r->version)) : NULL;
    *ret = e ? release_entry_ref(e) : NULL;
    return 0;
}

int rollouts_begin_step(struct rollouts *rs, struct rollout *r, struct step *st, struct err *err)
{
    struct server *s = servers_by_id(rs->c, st->server_id);
    struct release_entry *e = NULL;
    if (!s)
        return rollouts_end_step(rs, r, st, STEP_SKIPPED, "removed", "the server was removed", err);
    if (!s->link || !s->system) {
        bool wait = clock_real() < r->created + r->offline_wait_s * USEC_SEC;
        return wait ? 0 : rollouts_end_step(rs, r, st, STEP_SKIPPED, "offline", "its agent is not connected", err);
    }
    (void)server_ref(s);
    int rc = find_release(rs, r, &e, err);
    if (rc == 0 && (!e || clock_real() >= e->release.expires))
        rc = rollouts_end_step(rs, r, st, STEP_FAILED, "no_release", e ? "the release has expired" : "the release is not there any more", err);
    else if (rc == 0 && s->system && !s->gone)
        rc = begin(rs, r, st, s, e, err);
    (void)release_entry_unref(e);
    server_unref(s);
    return rc;
}
