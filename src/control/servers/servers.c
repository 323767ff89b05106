/* SPDX-License-Identifier: Apache-2.0 */
/* servers — see servers.h: states, heartbeats, health, and how a server is shown. What touches the store is in servers_store.c. */
#include "control/servers/servers.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "control/link/commands.h"
#include "control/servers/credentials.h"
#include "control/servers/duplicates.h"
#include "control/work/rollouts.h"
#include "control/servers/roots.h"
#include "control/watch/worldview.h"

enum { HEARTBEAT_SAVE_EVERY_S = 300 };

/* Who watches is told of a mere heartbeat at most this often; one of every half second would keep all of them busy. */
#define BEAT_EVERY (5 * USEC_SEC)

static const bool moves[SERVER_STATE_MAX][SERVER_STATE_MAX] = {
    [SERVER_NONE] = {[SERVER_PENDING] = true},
    [SERVER_PENDING] = {[SERVER_ONLINE] = true},
    [SERVER_ONLINE] = {[SERVER_OFFLINE] = true},
    [SERVER_OFFLINE] = {[SERVER_ONLINE] = true},
};

const char *server_state_name(enum server_state s)
{
    static const char *const names[SERVER_STATE_MAX] = {"none", "pending", "online", "offline"};
    return s < SERVER_STATE_MAX ? names[s] : "none";
}

bool server_move_allowed(enum server_state from, enum server_state to)
{
    return from < SERVER_STATE_MAX && to < SERVER_STATE_MAX && moves[from][to];
}

int server_set_state(struct server *s, enum server_state to, const char *reason)
{
    if (!server_move_allowed(s->state, to))
        return -(int)ERR_INTERNAL;
    log_event(LOG_INFO, "server changes state", "server", s->name, "from", server_state_name(s->state), "to",
              server_state_name(to), "reason", reason, NULL);
    s->state = to;
    (void)str_copy(s->reason, sizeof(s->reason), str_from(reason));
    server_changed(s);
    changes_work(&s->control->changes, false);
    worldview_server(s);
    return 0;
}

void server_changed(struct server *s)
{
    struct control *c = s->control;
    if (s->gone)
        return;
    s->beat = clock_mono();
    changes_put(&c->changes, &c->changes.servers, &s->changed);
}

void server_containers_changed(struct server *s)
{
    server_changed(s);
    s->moved = s->changed.seq;
    changes_work(&s->control->changes, false);
}

void server_sampled(struct server *s)
{
    struct control *c = s->control;
    if (!s->gone)
        changes_put(&c->changes, &c->changes.sampled, &s->sampled);
}

struct server *server_ref(struct server *s)
{
    s->refs++;
    return s;
}

struct server *server_unref(struct server *s)
{
    if (!s || --s->refs)
        return NULL;
    timer_stop(&s->offline);
    inventory_release(&s->inventory);
    (void)rpc_message_free(s->system);
    (void)rpc_message_free(s->update);
    free(s);
    return NULL;
}

struct server *servers_by_id(const struct control *c, const char *id)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (str_eq(str_from(s->id), str_from(id)))
            return s;
    return NULL;
}

struct server *servers_by_name(const struct control *c, const char *name)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (str_eq(str_from(s->name), str_from(name)))
            return s;
    return NULL;
}

struct server *servers_local(const struct control *c)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (s->local)
            return s;
    return NULL;
}

int servers_find(const struct control *c, const char *name_or_id, struct server **ret, struct err *err)
{
    if (!*text(name_or_id)) {
        if (c->n_servers == 0) {
            (void)err_set(err, ERR_PRECONDITION, "there is no server yet");
            err_hint(err, "add one with: davit server add NAME");
            return -(int)ERR_PRECONDITION;
        }
        if (c->n_servers > 1) {
            (void)err_set(err, ERR_INVALID, "server: there are %u servers, name one", c->n_servers);
            err_hint(err, "--server NAME does; davit server ls shows them");
            return -(int)ERR_INVALID;
        }
        *ret = list_first(&c->servers, struct server, node);
        return 0;
    }
    struct server *s = servers_by_name(c, name_or_id);
    if (!s)
        s = servers_by_id(c, name_or_id);
    if (!s) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no server \"%.64s\"", name_or_id);
        err_hint(err, "davit server ls shows them");
        return -(int)ERR_NOT_FOUND;
    }
    *ret = s;
    return 0;
}

void server_heard(struct server *s, usec_t agent_clock)
{
    struct control *c = s->control;
    usec_t now = clock_real();
    s->heartbeat = now;
    if (agent_clock && agent_clock < (usec_t)INT64_MAX)
        s->skew = (int64_t)agent_clock - (int64_t)now;
    timer_set(&s->offline, c->opt.offline_after);
    if (s->state != SERVER_ONLINE) {
        int rc = server_set_state(s, SERVER_ONLINE, s->state == SERVER_PENDING ? "first heartbeat" : "heartbeats again");
        BUG_ON(rc != 0);
        server_touch(s);
    } else if (clock_mono() >= s->beat + BEAT_EVERY) {
        server_changed(s);
    }
    if (now > s->heartbeat_saved + HEARTBEAT_SAVE_EVERY_S * USEC_SEC)
        server_touch(s);
}

void server_down(struct server *s, const char *reason)
{
    timer_stop(&s->offline);
    if (s->state == SERVER_ONLINE && server_set_state(s, SERVER_OFFLINE, reason) == 0)
        server_touch(s);
}

void server_set_system(struct server *s, const Davit__Common__V1__SystemInfo *system)
{
    ProtobufCMessage *copy = NULL;
    if (!system || rpc_copy(&system->base, &copy) != 0)
        return;
    (void)rpc_message_free(s->system);
    s->system = (Davit__Common__V1__SystemInfo *)copy;
    server_touch(s);
    rollouts_news(s->control->rollouts);
}

void server_label(const char *hostname, char dst[SERVER_NAME_SIZE])
{
    size_t n = 0;
    /* Room is left for a number that makes it unique. */
    for (const char *p = text(hostname); *p && *p != '.' && n < SERVER_NAME_SIZE - 8; p++) {
        char ch = *p;
        if (ch >= 'A' && ch <= 'Z')
            ch = (char)(ch - 'A' + 'a');
        bool fine = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
        if (fine || n)
            dst[n++] = fine ? ch : '-';
    }
    while (n && dst[n - 1] == '-')
        n--;
    dst[n] = '\0';
    if (!n)
        (void)str_copy(dst, SERVER_NAME_SIZE, STR("server"));
}

/* --- How a server is shown --------------------------------------------------------------------------------------------------- */

static char *next_reason(struct server_view *v)
{
    size_t i = v->m.n_health_reasons++;
    v->reason_ptrs[i] = v->reasons[i];
    return v->reasons[i];
}

static void say_disk(const struct server *s, struct server_view *v)
{
    struct usage last, before;
    if (inventory_last(&s->inventory, "", &last, &before) != 0 || !last.disk_total || last.disk_free >= last.disk_total / 10)
        return;
    (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "disk low: %" PRIu64 " MiB of %" PRIu64 " MiB are free",
                   last.disk_free >> 20, last.disk_total >> 20);
}

static void say_policy(const struct server *s, struct server_view *v)
{
    for (size_t i = 0; s->system && i < s->system->n_policy_forbids; i++)
        if (str_eq(str_from(s->system->policy_forbids[i]), STR("policy_unreadable")))
            (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE,
                           "its owner's policy file cannot be read, so all that it might forbid is refused: davit server doctor %s tells why",
                           s->name);
}

enum { LIFE_WARN_DIVISOR = 5 /* of a certificate's life is left: it should have been renewed at two thirds */ };

static void say_credentials(const struct server *s, struct server_view *v, usec_t now)
{
    usec_t life = s->certificate_expires - s->certificate_issued;
    if (credentials_revoked(s))
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "its credentials were revoked: davit server token %s makes a new token", s->name);
    else if (s->certificate_expires && s->certificate_expires <= now)
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "its certificate has expired");
    else if (s->certificate_expires && s->certificate_expires - now < life / LIFE_WARN_DIVISOR)
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "its certificate ends in %" PRIu64 " h and was not renewed",
                       (s->certificate_expires - now) / USEC_HOUR);
    if (*s->credential_error)
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "the last renewal failed: %s", s->credential_error);
}

static void say_roots(const struct server *s, struct server_view *v)
{
    if (!s->local && s->control->roots.n > 1 && !credentials_revoked(s) && !roots_has_new(s))
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE,
                       "the root is being changed, and it has not got the new one yet: it gets it when it connects");
}

static void say_duplicate(const struct server *s, struct server_view *v, usec_t now)
{
    const struct duplicate *d = &s->duplicate;
    if (!duplicate_shown(s, now))
        return;
    davit__control__v1__duplicate__init(&v->duplicate);
    v->duplicate.address = lend(d->address);
    v->duplicate.hostname = lend(d->hostname);
    v->duplicate.connected_address = lend(s->seen);
    v->duplicate.generation = d->generation;
    v->duplicate.seen_us = d->seen;
    v->m.duplicate = &v->duplicate;
    (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE,
                   "duplicate: another agent at %s (%.40s) uses this identity and is turned away; this one is at %s",
                   *d->address ? d->address : "-", *d->hostname ? d->hostname : "-", *s->seen ? s->seen : "-");
}

/* At most SERVER_HEALTH_MAX reasons: one of each kind. */
static void say_health(const struct server *s, struct server_view *v)
{
    v->m.health_reasons = v->reason_ptrs;
    v->m.health = lend("unknown");
    if (s->state == SERVER_PENDING)
        return;
    if (s->state == SERVER_OFFLINE)
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "offline: %s", s->reason);
    if (s->system && (*text(s->system->docker_error) || !*text(s->system->docker_version)))
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "Docker does not answer%s%s",
                       *text(s->system->docker_error) ? ": " : "", text(s->system->docker_error));
    uint64_t off = (uint64_t)(s->skew < 0 ? -s->skew : s->skew);
    if (s->clock_unsure)
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "its clock is not set: it is before the build of its agent");
    else if (off > SERVER_SKEW_MAX)
        (void)snprintf(next_reason(v), SERVER_HEALTH_SIZE, "its clock is %" PRIu64 " s %s", off / USEC_SEC,
                       s->skew < 0 ? "behind" : "ahead");
    say_disk(s, v);
    say_policy(s, v);
    say_credentials(s, v, clock_real());
    say_roots(s, v);
    say_duplicate(s, v, clock_real());
    v->m.health = lend(v->m.n_health_reasons ? "warning" : "ok");
}

void server_describe(const struct server *s, struct server_view *v)
{
    davit__control__v1__server__init(&v->m);
    /* What comes through an edge is seen from there. */
    address_public(str_eq(str_from(s->mode), STR("tunnel")) ? "" : s->seen, s->system, v->public_address);
    const char *source = address_preferred(s->preferred, v->public_address, s->system, v->preferred);
    v->m.id = lend(s->id);
    v->m.name = lend(s->name);
    v->m.state = (Davit__Control__V1__ServerState)s->state;
    v->m.state_reason = lend(s->reason);
    v->m.profile = (Davit__Control__V1__ServerProfile)s->profile;
    v->m.system = s->system;
    v->m.public_address = v->public_address;
    v->m.preferred_address = v->preferred;
    v->m.preferred_source = lend(source);
    v->m.created_us = s->created;
    v->m.enrolled_us = s->enrolled;
    v->m.last_heartbeat_us = s->heartbeat;
    v->m.agent_version = lend(s->system ? s->system->agent_version : "");
    v->m.local = s->local;
    v->m.clock_skew_us = s->skew;
    v->m.generation = s->generation;
    v->m.certificate_expires_us = s->certificate_expires;
    v->m.certificate_issued_us = s->certificate_issued;
    v->m.generation_connected = s->oldest > s->generation ? 0 : s->oldest;
    v->m.revoked = credentials_revoked(s);
    v->m.credential_error = lend(s->credential_error);
    v->m.clock_unsure = s->clock_unsure;
    v->m.token_expires_us = s->token_expires > clock_real() ? s->token_expires : 0;
    v->m.connection_mode = lend(s->mode);
    v->m.containers_running = inventory_running(&s->inventory);
    v->m.seen_address = lend(s->seen);
    v->m.update = s->update;
    say_health(s, v);
}
