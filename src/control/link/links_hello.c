/* SPDX-License-Identifier: Apache-2.0 */
/* links_hello — see links.h: who an agent is, whether it may stay, and the Welcome. Runs on the worker of the link. */
#include <stdio.h>
#include <unistd.h>

#include "control/people/audit.h"
#include "control/link/commands.h"
#include "control/servers/duplicates.h"
#include "control/link/links_internal.h"
#include "control/servers/roots.h"
#include "control/sandboxes/sandboxes.h"

enum { USAGE_INTERVAL_MS = 600000 /* while nobody watches */, SPREAD_MIN_MS = 5000, RECONNECTS_PER_S = 500 };

/* Into the audit log: that @l was not let in, or was let go. */
static void tell(const struct link *l, const char *action, const struct err *err)
{
    struct audit_record who = {.count = 1};
    char uri[64];
    (void)snprintf(uri, sizeof(uri), "davit://server/%s", l->id);
    if (!l->tunnel && l->call && rpc_call_conn(l->call))
        audit_who_conn(&who, rpc_call_conn(l->call));
    else
        audit_who(&who, l->unix_peer ? "unix" : uri, l->serial);
    audit_refused(l->control, &who, action, l->server ? l->server->name : "-", err);
}

static void fence(struct link *l, const char *reason)
{
    struct err why = ERR_INIT;
    (void)err_set(&why, ERR_ABORTED, "%s", reason);
    tell(l, "link.fenced", &why);
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Fenced fenced = DAVIT__LINK__V1__FENCED__INIT;
    fenced.reason = lend(reason);
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_FENCED;
    m.fenced = &fenced;
    (void)links_send(l, &m); /* the failure that ends the call says the same */
    l->control->counters.links_fenced++;
    link_end(l, ERR_ABORTED, reason, "two agents use one identity: stop one of them, or enroll it under its own name");
}

/* Name and row for the agent of this machine, at its first contact. */
static int make_local(struct link *l, const Davit__Link__V1__Hello *hello, struct err *err)
{
    struct control *c = l->control;
    struct server_new n = {.profile = DAVIT__CONTROL__V1__SERVER_PROFILE__SERVER_PROFILE_UNKNOWN, .mode = "local", .local = true};
    struct server *s = NULL;
    char own[256] = "", label[SERVER_NAME_SIZE], name[SERVER_NAME_SIZE + 8];
    if (c->making_local)
        return err_set(err, ERR_ABORTED, "another local agent is being taken in at this moment");
    (void)gethostname(own, sizeof(own) - 1);
    const char *reported = hello->system ? text(hello->system->hostname) : "";
    server_label(*reported ? reported : own, label);
    (void)snprintf(name, sizeof(name), "%s", label);
    for (unsigned i = 2; i < 100 && servers_by_name(c, name); i++)
        (void)snprintf(name, sizeof(name), "%s-%u", label, i);
    n.name = name;
    c->making_local = true;
    int rc = servers_add(c, &n, &s, err);
    c->making_local = false;
    if (rc < 0)
        return rc;
    struct audit_record r = {.count = 1};
    audit_who_conn(&r, l->call ? rpc_call_conn(l->call) : NULL);
    audit_what(&r, "server.local", s->name);
    audit_how(&r, AUDIT_OK, NULL);
    audit_note(c, &r);
    l->server = server_ref(s);
    return 0;
}

/* A certificate that was replaced, revoked, or that this control plane never issued, opens nothing. Waits for nothing. */
static int check_generation(struct link *l, struct err *err)
{
    int rc = credentials_judge(l->server, l->credential.generation, err);
    l->revoked = rc != 0;
    l->superseded = rc == 1;
    return rc == 0 ? 0 : -(int)ERR_UNAUTHENTICATED;
}

static int check_certificate(struct link *l, struct err *err)
{
    int rc = credentials_lookup(l->control, l->serial, l->server->id, &l->credential, err);
    if (rc < 0)
        return rc;
    if (rc == 0 && l->credential.expires > clock_real())
        return check_generation(l, err);
    l->revoked = true;
    if (credentials_revoked(l->server))
        return check_generation(l, err);
    (void)err_set(err, ERR_UNAUTHENTICATED, "this certificate of server \"%s\" %s", l->server->name, rc ? "is not one that holds" : "has expired");
    err_hint(err, "make a new token with: davit server token %s", l->server->name);
    return -(int)ERR_UNAUTHENTICATED;
}

static int identify(struct link *l, const Davit__Link__V1__Hello *hello, struct err *err)
{
    struct server *s = l->unix_peer ? servers_local(l->control) : servers_by_id(l->control, l->id);
    if (s)
        l->server = server_ref(s);
    if (l->unix_peer)
        return s ? 0 : make_local(l, hello, err);
    if (!s) {
        (void)err_set(err, ERR_UNAUTHENTICATED, "this server is not enrolled here, or was removed");
        err_hint(err, "enroll it again with a new token");
        return -(int)ERR_UNAUTHENTICATED;
    }
    return check_certificate(l, err);
}

static int check_protocol(const Davit__Link__V1__Hello *hello, struct err *err)
{
    if (hello->protocol_min <= LINK_PROTOCOL && hello->protocol_max >= LINK_PROTOCOL)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "the agent speaks protocol %u to %u, this control plane %d", hello->protocol_min,
                  hello->protocol_max, LINK_PROTOCOL);
    err_hint(err, "update the older of the two");
    return -(int)ERR_PRECONDITION;
}

static int welcome(struct link *l)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Welcome w = DAVIT__LINK__V1__WELCOME__INIT;
    uint32_t spread = l->control->n_servers * 1000 / RECONNECTS_PER_S;
    w.protocol = LINK_PROTOCOL;
    w.server_id = l->server->id;
    w.server_name = l->server->name;
    w.heartbeat_interval_ms = (uint32_t)(l->control->opt.heartbeat_interval / USEC_MSEC);
    w.clock_us = clock_real();
    w.reconnect_spread_ms = spread > SPREAD_MIN_MS ? spread : SPREAD_MIN_MS;
    w.usage_interval_ms = USAGE_INTERVAL_MS;
    w.seen_address = l->seen;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_WELCOME;
    m.welcome = &w;
    return links_send(l, &m);
}

static void suspect(struct link *l, bool displaced)
{
    const struct duplicate_agent a = {l->seen, l->hostname, l->instance, l->credential.generation};
    duplicate_suspect(l->server, &a, displaced);
}

/* Two links of one server: a later generation wins, of the same one the higher epoch. False: @l is the one that goes. */
static bool take_place(struct link *l, const Davit__Link__V1__Hello *hello)
{
    struct link *old = l->server->link;
    bool same = *l->instance && str_eq(str_from(l->instance), str_from(old->instance));
    bool later = l->credential.generation != old->credential.generation ? l->credential.generation > old->credential.generation
                                                                        : hello->epoch > old->epoch;
    /* One that lost its place to the present one, and is alive. */
    bool again = !same && duplicate_displaced(l->server, l->instance);
    if (same && later) {
        link_end(old, ERR_UNAVAILABLE, "the agent has connected again", NULL);
        return true;
    }
    if (!same)
        suspect(later ? old : l, later);
    if (again)
        duplicate_confirm(l->server);
    if (later) {
        fence(old, "another connection of the same identity with a higher epoch took over");
        return true;
    }
    old->doubted = !same && !again;
    fence(l, "another connection of the same identity has a higher epoch");
    return false;
}

/* From here to the end nothing waits, so no two links can both become the live one. */
static void go_live(struct link *l, const Davit__Link__V1__Hello *hello)
{
    struct server *s = l->server;
    if (s->link && !take_place(l, hello))
        return;
    l->epoch = hello->epoch;
    l->takes_calls = hello->takes_calls;
    l->takes_sandboxes = hello->takes_sandboxes;
    l->counts_sandboxes = hello->counts_sandboxes;
    l->next_seq = commands_resume_at(s, hello->last_received_seq);
    l->state = LINK_LIVE;
    s->link = l;
    s->clock_unsure = hello->clock_unsure;
    s->watched_until = 0; /* it may be another process */
    (void)str_copy(s->seen, sizeof(s->seen), str_from(l->seen));
    if (hello->clock_us && hello->clock_us < (usec_t)INT64_MAX)
        s->skew = (int64_t)hello->clock_us - (int64_t)clock_real();
    server_set_system(s, hello->system);
    roots_hello(s, hello);
    server_touch(s);
    l->control->counters.links_opened++;
    enum log_level level = l->tunnel && s->state == SERVER_ONLINE ? LOG_DEBUG : LOG_INFO;
    log_event(level, "agent connected", "server", s->name, "peer", l->unix_peer ? "unix" : l->seen, NULL);
    if (welcome(l) != 0) {
        link_end(l, ERR_UNAVAILABLE, "the Welcome could not be sent", NULL);
        return;
    }
    credentials_remind(s);
    sandboxes_greet(s);
    links_pump(s);
}

/* What may have changed while the worker waited for the store. */
static int check_still_enrolled(struct link *l, struct err *err)
{
    if (l->server->gone)
        return err_set(err, ERR_UNAUTHENTICATED, "the server was removed");
    return l->unix_peer ? 0 : check_generation(l, err);
}

/* Who is not let in is in the log also when it has gone already. */
void link_refuse(struct link *l, const struct err *why)
{
    if (l->superseded && *l->instance) {
        suspect(l, false);
        duplicate_confirm(l->server);
        fence(l, why->msg);
        return;
    }
    tell(l, l->revoked ? "link.revoked" : "link.refused", why);
    if (l->state == LINK_ENDED)
        return;
    l->control->counters.links_refused++;
    link_end(l, why->code, why->msg, why->hint);
}

void link_refuse_probe(struct link *l)
{
    struct err err = ERR_INIT;
    int rc = l->unix_peer ? 0 : identify(l, NULL, &err); /* nothing is made for a local one that only asks */
    if (rc == 0 && l->server)
        rc = check_still_enrolled(l, &err);
    if (rc < 0)
        link_refuse(l, &err);
    else
        link_end(l, ERR_INVALID, "the first message of a link must be Hello", NULL);
}

void link_greet(struct link *l, const Davit__Link__V1__Hello *hello)
{
    struct err err = ERR_INIT;
    (void)str_copy(l->instance, sizeof(l->instance), str_from(hello->instance_id));
    (void)str_copy(l->hostname, sizeof(l->hostname), str_from(hello->system ? hello->system->hostname : ""));
    int rc = check_protocol(hello, &err);
    if (rc == 0)
        rc = identify(l, hello, &err);
    if (rc == 0)
        rc = commands_skip_to(l->server, hello->last_received_seq, &err);
    if (rc == 0 && !l->unix_peer)
        rc = credentials_connected(l->server, &l->credential, &err);
    if (rc == 0)
        rc = check_still_enrolled(l, &err);
    if (rc < 0)
        link_refuse(l, &err);
    else if (l->state != LINK_ENDED)
        go_live(l, hello);
}
