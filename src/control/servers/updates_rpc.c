/* SPDX-License-Identifier: Apache-2.0 */
/* updates_rpc — the API of releases and rollouts: see updates.proto, releases.h and rollouts.h. */
#include "base/mem.h"
#include "control/people/passes.h"
#include "control/work/rollouts.h"

/* Answers can be long: they are copied at once, and nothing is borrowed while they are sent. */
static int reply(struct rpc_call *call, const ProtobufCMessage *m, struct err *err)
{
    ProtobufCMessage *copy = NULL;
    if (rpc_copy(m, &copy) < 0)
        return err_set(err, ERR_EXHAUSTED, "the answer is larger than a message may be");
    int rc = rpc_send(call, copy) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
    (void)rpc_message_free(copy);
    return rc;
}

/* --- Releases ------------------------------------------------------------------------------------------------------------------ */

struct release_view {
    Davit__Control__V1__Release m;
    char *platforms[RELEASE_FILES_MAX];
};

static void describe(struct release_entry *e, struct release_view *v)
{
    davit__control__v1__release__init(&v->m);
    v->m.version = lend(e->release.version);
    v->m.channel = lend(e->release.channel);
    v->m.counter = e->release.counter;
    v->m.min_from = lend(e->release.min_from);
    v->m.created_us = e->release.created;
    v->m.expires_us = e->release.expires;
    v->m.directory = lend(e->directory);
    v->m.problem = lend(e->problem);
    v->m.platforms = v->platforms;
    for (; v->m.n_platforms < e->release.n_files; v->m.n_platforms++)
        v->platforms[v->m.n_platforms] = e->release.files[v->m.n_platforms].platform;
}

static int list_releases(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__ListReleasesResponse m = DAVIT__CONTROL__V1__LIST_RELEASES_RESPONSE__INIT;
    (void)request;
    int rc = releases_refresh(c->releases, err);
    if (rc < 0)
        return rc;
    size_t n = releases_count(c->releases);
    struct release_view *views = mem_zalloc(n + 1, sizeof(*views));
    m.releases = mem_zalloc(n + 1, sizeof(*m.releases));
    for (; m.n_releases < n; m.n_releases++) {
        describe(releases_at(c->releases, m.n_releases), &views[m.n_releases]);
        m.releases[m.n_releases] = &views[m.n_releases].m;
    }
    ProtobufCMessage *copy = NULL;
    rc = rpc_copy(&m.base, &copy);
    free(views);
    free(m.releases);
    if (rc < 0)
        return err_set(err, ERR_EXHAUSTED, "the list of releases is larger than a message may be");
    rc = rpc_send(call, copy) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
    (void)rpc_message_free(copy);
    return rc;
}

/* --- Rollouts ------------------------------------------------------------------------------------------------------------------ */

static int check_start(const Davit__Control__V1__StartRolloutRequest *r, struct err *err)
{
    if (r->all && r->n_servers)
        return err_set(err, ERR_INVALID, "servers: either names or all, not both");
    if (!r->all && !r->n_servers)
        return err_set(err, ERR_INVALID, "servers: name at least one, or all");
    if (r->n_servers > CONTROL_SERVERS_MAX)
        return err_set(err, ERR_INVALID, "servers: more than %d", CONTROL_SERVERS_MAX);
    if (*text(r->version) && !release_version_valid(str_from(r->version)))
        return err_set(err, ERR_INVALID, "version: \"%.64s\" is none; as in 1.2.3", r->version);
    if (r->max_parallel > ROLLOUT_PARALLEL_MAX)
        return err_set(err, ERR_INVALID, "max_parallel: %u is not allowed; at most %d", r->max_parallel, ROLLOUT_PARALLEL_MAX);
    if (r->offline_wait_s > ROLLOUT_OFFLINE_WAIT_MAX_S)
        return err_set(err, ERR_INVALID, "offline_wait: %u s are not allowed; at most 7 days", r->offline_wait_s);
    return 0;
}

static int choose_version(struct control *c, const char *wanted, struct rollout *r, struct err *err)
{
    int rc = releases_refresh(c->releases, err);
    if (rc < 0)
        return rc;
    const struct release_entry *e = *wanted ? releases_find(c->releases, str_from(wanted)) : releases_newest(c->releases);
    if (!e) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no release %s%.64s that could be used", *wanted ? "" : "at all", wanted);
        err_hint(err, "davit server update --releases shows what is there, and what is wrong with it");
        return -(int)ERR_NOT_FOUND;
    }
    (void)str_copy(r->version, sizeof(r->version), str_from(e->release.version));
    return 0;
}

static void add_step(struct rollout *r, const struct server *s)
{
    for (size_t i = 0; i < r->n_steps; i++)
        if (str_eq(str_from(r->steps[i].server_id), str_from(s->id)))
            return;
    struct step *st = &r->steps[r->n_steps++];
    (void)str_copy(st->server_id, sizeof(st->server_id), str_from(s->id));
    (void)str_copy(st->server_name, sizeof(st->server_name), str_from(s->name));
    if (s->system)
        (void)str_copy(st->from, sizeof(st->from), str_from(s->system->agent_version));
}

/* Everything between two waits: the list of servers is as it is now. */
static int choose_servers(struct control *c, const Davit__Control__V1__StartRolloutRequest *q, struct rollout *r, struct err *err)
{
    struct server *s;
    int rc = 0;
    r->steps = mem_zalloc((q->all ? c->n_servers : q->n_servers) + 1, sizeof(*r->steps));
    for (size_t i = 0; rc == 0 && i < q->n_servers; i++) {
        if (!*text(q->servers[i]))
            return err_set(err, ERR_INVALID, "servers: an empty name");
        rc = servers_find(c, q->servers[i], &s, err);
        if (rc == 0)
            add_step(r, s);
    }
    /* One that was never there has nothing to update. */
    if (q->all)
        list_each(s, &c->servers, struct server, node)
            if (s->state != SERVER_PENDING && r->n_steps < c->n_servers)
                add_step(r, s);
    if (rc == 0 && r->n_steps == 0)
        rc = err_set(err, ERR_PRECONDITION, "no server was ever connected");
    return rc;
}

static int start_rollout(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__StartRolloutRequest *q = (const Davit__Control__V1__StartRolloutRequest *)request;
    Davit__Control__V1__StartRolloutResponse m = DAVIT__CONTROL__V1__START_ROLLOUT_RESPONSE__INIT;
    Davit__Control__V1__Rollout shown;
    int rc = check_start(q, err);
    if (rc < 0)
        return rc;
    struct rollout *r = NEW(struct rollout);
    r->refs = 1;
    r->max_parallel = q->max_parallel ? q->max_parallel : 1;
    r->halt_on_failure = q->halt_on_failure;
    r->offline_wait_s = q->offline_wait_s;
    (void)str_copy(r->triggered_by, sizeof(r->triggered_by), str_from(caller_name(call)));
    rc = choose_version(c, text(q->version), r, err);
    if (rc == 0)
        rc = choose_servers(c, q, r, err);
    if (rc == 0)
        rc = rollouts_start(c->rollouts, rollout_ref(r), err);
    if (rc < 0 && r->refs > 1)
        (void)rollout_unref(r);
    if (rc == 0) {
        rollout_describe(r, &shown);
        m.rollout = &shown;
        rc = reply(call, &m.base, err);
    }
    (void)rollout_unref(r);
    return rc;
}

/* The steps of @r that changed after @since; *ret_views is the caller's. */
static Davit__Control__V1__RolloutStep **steps_since(const struct rollout *r, uint64_t since, Davit__Control__V1__RolloutStep **ret_views, size_t *n)
{
    Davit__Control__V1__RolloutStep *views = mem_zalloc(r->n_steps + 1, sizeof(*views));
    Davit__Control__V1__RolloutStep **list = mem_zalloc(r->n_steps + 1, sizeof(*list));
    *n = 0;
    for (size_t i = 0; i < r->n_steps; i++)
        if (since == 0 || r->steps[i].change > since) {
            rollout_step_describe(r, &r->steps[i], &views[*n]);
            list[*n] = &views[*n];
            (*n)++;
        }
    *ret_views = views;
    return list;
}

static int get_rollout(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__GetRolloutResponse m = DAVIT__CONTROL__V1__GET_ROLLOUT_RESPONSE__INIT;
    Davit__Control__V1__RolloutStep *views = NULL;
    Davit__Control__V1__Rollout shown;
    struct rollout *r = NULL;
    int rc = rollouts_find(c->rollouts, text(((const Davit__Control__V1__GetRolloutRequest *)request)->rollout), &r, err);
    if (rc < 0)
        return rc;
    rollout_describe(r, &shown);
    m.rollout = &shown;
    m.steps = steps_since(r, 0, &views, &m.n_steps);
    rc = reply(call, &m.base, err);
    free(m.steps);
    free(views);
    (void)rollout_unref(r);
    return rc;
}

static int send_changes(struct rpc_call *call, const struct rollout *r, uint64_t since, struct err *err)
{
    Davit__Control__V1__WatchRolloutResponse m = DAVIT__CONTROL__V1__WATCH_ROLLOUT_RESPONSE__INIT;
    Davit__Control__V1__RolloutStep *views = NULL;
    Davit__Control__V1__Rollout shown;
    rollout_describe(r, &shown);
    m.rollout = &shown;
    m.steps = steps_since(r, since, &views, &m.n_steps);
    int rc = reply(call, &m.base, err);
    free(m.steps);
    free(views);
    return rc;
}

static int watch_rollout(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    struct rollout *r = NULL;
    uint64_t seen = 0;
    bool first = true;
    int rc = rollouts_find(c->rollouts, text(((const Davit__Control__V1__WatchRolloutRequest *)request)->rollout), &r, err);
    while (rc == 0) {
        /* Before it is sent: what changes meanwhile comes with the next. */
        uint64_t now = c->rollouts->changes;
        bool ended = r->state != ROLLOUT_RUNNING;
        if (first || now != seen || ended)
            rc = send_changes(call, r, seen, err);
        first = false;
        seen = now;
        if (rc < 0 || ended)
            break;
        bool wait = c->rollouts->changes == now && r->state == ROLLOUT_RUNNING;
        if (wait && event_wait(&c->rollouts->changed, deadline_in(USEC_SEC)) == -(int)ERR_CANCELLED)
            rc = err_set(err, ERR_CANCELLED, "the caller went away");
        if (rc == 0 && c->stopping)
            rc = err_set(err, ERR_UNAVAILABLE, "the control plane is stopping");
    }
    (void)rollout_unref(r);
    return rc;
}

static int cancel_rollout(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__CancelRolloutResponse m = DAVIT__CONTROL__V1__CANCEL_ROLLOUT_RESPONSE__INIT;
    Davit__Control__V1__Rollout shown;
    struct rollout *r = NULL;
    int rc = rollouts_find(c->rollouts, text(((const Davit__Control__V1__CancelRolloutRequest *)request)->rollout), &r, err);
    if (rc < 0)
        return rc;
    rc = rollouts_cancel(c->rollouts, r, err);
    if (rc == 1)
        rc = err_set(err, ERR_PRECONDITION, "this rollout has ended already");
    if (rc == 0) {
        rollout_describe(r, &shown);
        m.rollout = &shown;
        rc = reply(call, &m.base, err);
    }
    (void)rollout_unref(r);
    return rc;
}

CONTROL_HANDLER(list_releases)
CONTROL_HANDLER(start_rollout)
CONTROL_HANDLER(get_rollout)
CONTROL_HANDLER(watch_rollout)
CONTROL_HANDLER(cancel_rollout)

const struct rpc_handler updates_handlers[] = {
    {.run = list_releases_tracked},
    {.run = start_rollout_tracked},
    {.run = get_rollout_tracked},
    {.run = watch_rollout_tracked},
    {.run = cancel_rollout_tracked},
};
