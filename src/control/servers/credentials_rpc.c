/* SPDX-License-Identifier: Apache-2.0 */
/* credentials_rpc — CredentialService: what a person does about the credentials of servers. */
#include <stdlib.h>

#include "base/mem.h"
#include "control/servers/credentials.h"
#include "davit/control/v1/credentials.pb-c.h"

enum { ROTATE_TIMEOUT_S = 60, ROTATE_TIMEOUT_MAX_S = 3600, ROTATE_PARALLEL = 16, ROTATE_PARALLEL_MAX = 256 };

static int gone_away(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "the caller went away");
}

/* Not the local one: its agent is known by the user it runs as. */
static int check_remote(const struct server *s, struct err *err)
{
    if (!s->local)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "server \"%s\" is this machine; its agent has no credentials", s->name);
    err_hint(err, "davit down stops it");
    return -(int)ERR_PRECONDITION;
}

static int revoke_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__RevokeResponse m = DAVIT__CONTROL__V1__REVOKE_RESPONSE__INIT;
    const char *name = ((const Davit__Control__V1__RevokeRequest *)request)->server;
    struct server *s = NULL;
    if (!*text(name))
        return err_set(err, ERR_INVALID, "server: name one");
    int rc = servers_find(ctx, name, &s, err);
    if (rc == 0)
        rc = check_remote(s, err);
    if (rc < 0)
        return rc;
    (void)server_ref(s);
    rc = credentials_revoke(s, err);
    if (rc == 0)
        log_event(LOG_NOTICE, "credentials revoked", "server", s->name, NULL);
    server_unref(s);
    if (rc < 0)
        return rc;
    return rpc_send(call, &m.base) == 0 ? 0 : gone_away(err);
}

/* --- Rotate --- */

enum turn_state { TURN_WAITS, TURN_ASKED, TURN_OVER };

struct turn {
    struct server *server; /* a reference */
    enum turn_state state;
    uint32_t from; /* `oldest` at the beginning */
    usec_t until;
};

struct turns {
    struct rpc_call *call;
    struct turn *v;
    size_t n, running, over, max;
    usec_t timeout;
};

static void turns_release(struct turns *t)
{
    for (size_t i = 0; i < t->n; i++)
        server_unref(t->v[i].server);
    free(t->v);
}

static int tell(struct turns *t, const struct server *s, Davit__Control__V1__RotateState state, const struct err *why, struct err *err)
{
    Davit__Control__V1__RotateResponse m = DAVIT__CONTROL__V1__ROTATE_RESPONSE__INIT;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;
    m.server = lend(s->name);
    m.state = state;
    m.generation = credentials_revoked(s) ? 0 : s->oldest;
    if (why) {
        failure.code = (uint32_t)why->code;
        failure.message = lend(why->msg);
        failure.hint = lend(why->hint);
        m.failure = &failure;
    }
    return rpc_send(t->call, &m.base) == 0 ? 0 : gone_away(err);
}

static int ends(struct turns *t, struct turn *it, const struct err *why, struct err *err)
{
    if (it->state == TURN_ASKED)
        t->running--;
    it->state = TURN_OVER;
    t->over++;
    return tell(t, it->server, why ? DAVIT__CONTROL__V1__ROTATE_STATE__ROTATE_STATE_FAILED : DAVIT__CONTROL__V1__ROTATE_STATE__ROTATE_STATE_DONE,
                why, err);
}

/* Why it cannot be asked; 0: it can. */
static int ask_refused(struct server *s, struct err *why)
{
    if (s->gone)
        return err_set(why, ERR_NOT_FOUND, "the server was removed");
    int rc = credentials_judge(s, s->generation, why);
    if (rc < 0)
        return rc;
    if (!s->link) {
        (void)err_set(why, ERR_UNAVAILABLE, "the server is not connected");
        err_hint(why, "it is asked when it connects");
        return -(int)ERR_UNAVAILABLE;
    }
    return 0;
}

static int begin(struct turns *t, struct turn *it, struct err *err)
{
    struct server *s = it->server;
    struct err why = ERR_INIT;
    it->from = s->oldest;
    int rc = ask_refused(s, &why);
    if (rc == 0 || rc == -(int)ERR_UNAVAILABLE)
        credentials_rotate(s, "asked for");
    if (rc < 0)
        return ends(t, it, &why, err);
    it->state = TURN_ASKED;
    it->until = deadline_in(t->timeout);
    t->running++;
    return tell(t, s, DAVIT__CONTROL__V1__ROTATE_STATE__ROTATE_STATE_ASKED, NULL, err);
}

static int look(struct turns *t, struct turn *it, struct err *err)
{
    const struct server *s = it->server;
    struct err why = ERR_INIT;
    if (it->state != TURN_ASKED)
        return 0;
    if (s->gone || credentials_revoked(s))
        (void)err_set(&why, ERR_ABORTED, "the server was %s", s->gone ? "removed" : "revoked");
    else if (s->oldest > it->from)
        return ends(t, it, NULL, err);
    else if (clock_mono() >= it->until)
        (void)err_set(&why, ERR_DEADLINE, "it has not connected with new credentials in time%s%s", *s->credential_error ? ": " : "",
                      s->credential_error);
    else
        return 0;
    return ends(t, it, &why, err);
}

/* Looks at each, begins the next ones. Waits only where the caller is slow. */
static int advance(struct turns *t, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < t->n && rc == 0; i++)
        rc = look(t, &t->v[i], err);
    for (size_t i = 0; i < t->n && rc == 0 && t->running < t->max; i++)
        if (t->v[i].state == TURN_WAITS)
            rc = begin(t, &t->v[i], err);
    return rc;
}

/* A pulse that came while the caller was being told is not heard: a second later at most it is looked again. */
static usec_t first_deadline(const struct turns *t)
{
    usec_t first = deadline_in(USEC_SEC);
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].state == TURN_ASKED && t->v[i].until < first)
            first = t->v[i].until;
    return first;
}

static int collect(struct control *c, const Davit__Control__V1__RotateRequest *r, struct turns *t, struct err *err)
{
    struct server *s = NULL;
    t->v = mem_zalloc(c->n_servers + 1, sizeof(*t->v));
    if (*text(r->server)) {
        int rc = servers_find(c, r->server, &s, err);
        if (rc == 0)
            rc = check_remote(s, err);
        if (rc == 0)
            t->v[t->n++].server = server_ref(s);
        return rc;
    }
    if (!r->all)
        return err_set(err, ERR_INVALID, "server: name one, or set all");
    list_each(s, &c->servers, struct server, node)
        if (!s->local && s->enrolled)
            t->v[t->n++].server = server_ref(s);
    return 0;
}

static int rotate_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__RotateRequest *r = (const Davit__Control__V1__RotateRequest *)request;
    if (r->timeout_s > ROTATE_TIMEOUT_MAX_S)
        return err_set(err, ERR_INVALID, "timeout_s: %u, allowed are up to %d", r->timeout_s, ROTATE_TIMEOUT_MAX_S);
    if (r->max_parallel > ROTATE_PARALLEL_MAX)
        return err_set(err, ERR_INVALID, "max_parallel: %u, allowed are up to %d", r->max_parallel, ROTATE_PARALLEL_MAX);
    CLEANUP(turns_release) struct turns t = {.call = call,
                                             .max = r->max_parallel ? r->max_parallel : ROTATE_PARALLEL,
                                             .timeout = (r->timeout_s ? r->timeout_s : ROTATE_TIMEOUT_S) * USEC_SEC};
    int rc = collect(c, r, &t, err);
    while (rc == 0) {
        rc = advance(&t, err);
        if (rc < 0 || t.over == t.n)
            break;
        rc = event_wait(&c->credentials, first_deadline(&t));
        if (rc == -(int)ERR_DEADLINE)
            rc = 0;
        if (rc < 0 || c->stopping)
            return err_set(err, ERR_UNAVAILABLE, c->stopping ? "the control plane is stopping" : "the wait was given up");
    }
    return rc;
}

CONTROL_HANDLER(revoke_run)
CONTROL_HANDLER(rotate_run)

const struct rpc_handler credentials_handlers[] = {
    {.run = revoke_run_tracked},
    {.run = rotate_run_tracked},
};
