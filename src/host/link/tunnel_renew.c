/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel_renew — see tunnel.h: the access token for years. One fiber waits until it is time and asks for the next one over the link. */
#include "base/log.h"
#include "host/link/renew.h"
#include "host/link/session.h"
#include "host/link/tunnel_internal.h"

#define LOOK_AGAIN USEC_HOUR

static usec_t life(const struct tunnel *t)
{
    return t->claims.expires > t->claims.issued ? t->claims.expires - t->claims.issued : 0;
}

static usec_t due(const struct tunnel *t)
{
    return renew_due(t->config.server_id, t->claims.issued, t->claims.expires);
}

static bool is_time(const struct tunnel *t)
{
    return t->online && clock_mono() >= t->retry_at && (t->rotate || floor_time_now(&t->time) >= due(t));
}

static usec_t until_next(const struct tunnel *t)
{
    usec_t now = floor_time_now(&t->time), mono = clock_mono(), at = due(t), wait = at > now && !t->rotate ? at - now : 0;
    if (t->retry_at > mono && t->retry_at - mono > wait)
        wait = t->retry_at - mono;
    return t->online && wait < LOOK_AGAIN ? wait : LOOK_AGAIN;
}

/* Waits: asks over the link. *ret_wished: when to ask again, as the control plane says, 0: it does not. */
static int ask(struct tunnel *t, usec_t *ret_wished, struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CredentialRequest request = DAVIT__LINK__V1__CREDENTIAL_REQUEST__INIT;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CREDENTIAL_REQUEST;
    m.credential_request = &request;
    event_reset(&t->answered);
    t->asking = true;
    session_send(t->session, &m);
    int rc = event_wait(&t->answered, deadline_in(TUNNEL_ANSWER_WAIT));
    t->asking = false;
    ProtobufCMessage *got = TAKE(t->answer);
    const Davit__Link__V1__ControlMessage *a = (const Davit__Link__V1__ControlMessage *)got;
    if (rc < 0)
        rc = err_set(err, (enum err_code)-rc, "the control plane did not answer the request for a new access token");
    else if (!a)
        rc = err_set(err, ERR_UNAVAILABLE, "the link was lost before the new access token came");
    else if (a->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL)
        rc = tunnel_install(t, a->credential, true, err);
    else {
        const Davit__Common__V1__Failure *f = a->credential_refused->failure;
        *ret_wished = a->credential_refused->retry_after_ms * USEC_MSEC;
        rc = err_set(err, ERR_DENIED, "the control plane refused a new access token: %s", f && *f->message ? f->message : "no reason was given");
    }
    (void)rpc_message_free(got);
    return rc;
}

static void renew_once(struct tunnel *t)
{
    struct err err = ERR_INIT;
    usec_t wished = 0;
    uint32_t generation = t->claims.generation;
    int rc = ask(t, &wished, &err);
    if (rc == 0 && t->claims.generation != generation)
        session_relink(t->session, "the link is made anew with the new access token");
    if (rc == 0 || fiber_cancelled())
        return;
    usec_t wait = renew_retry(t->failed++, life(t)), most = life(t) / 10;
    if (wished > wait)
        wait = wished < most ? wished : most;
    t->retry_at = clock_add(clock_mono(), wait);
    (void)err_ensure(&err, rc);
    t->err = err;
    AUTO_FREE char *text = str_printf("%.1fs", (double)wait / (double)USEC_SEC);
    log_err(LOG_WARN, &err, "the access token was not renewed", "next_try", text, NULL);
}

static void save_time(struct tunnel *t)
{
    struct tunnel_job j = {.err = ERR_INIT};
    struct err err = ERR_INIT;
    if (!t->online || !floor_time_due(&t->time, &j.good))
        return;
    t->time.next = clock_add(clock_mono(), FLOOR_TIME_EVERY);
    if (tunnel_write(t, &j, &err) < 0 && !fiber_cancelled())
        log_err(LOG_WARN, &err, "the time cannot be written down", NULL);
}

/* A copy of this disk shows by it how old it is. */
static void save_proven(struct tunnel *t)
{
    struct tunnel_job j = {.proven = t->claims.generation, .err = ERR_INIT};
    struct err err = ERR_INIT;
    if (!t->online || t->proven == t->claims.generation)
        return;
    t->proven = t->claims.generation;
    if (tunnel_write(t, &j, &err) < 0 && !fiber_cancelled())
        log_err(LOG_WARN, &err, "the generation of the access token cannot be written down", NULL);
}

static void renew_main(void *arg)
{
    struct tunnel *t = arg;
    while (!fiber_cancelled()) {
        event_reset(&t->wake);
        save_time(t);
        save_proven(t);
        if (is_time(t))
            renew_once(t);
        if (!is_time(t) && event_wait(&t->wake, deadline_in(until_next(t))) == -(int)ERR_CANCELLED)
            return;
    }
}

int tunnel_start(struct tunnel *t, struct session *s)
{
    t->session = s;
    session_set_roots(s, buf_str(&t->id.ca_pem));
    return fiber_spawn(t->loop, "tunnel", renew_main, t, &t->fiber);
}

int tunnel_stop(struct tunnel *t, usec_t deadline)
{
    if (!t->fiber)
        return 0;
    fiber_cancel(t->fiber);
    return fiber_join(t->fiber, deadline);
}

/* --- What the session tells ---- */

void tunnel_online(struct tunnel *t, usec_t theirs)
{
    t->online = true;
    if (theirs)
        floor_time_hear(&t->time, theirs);
    event_signal(&t->wake);
}

void tunnel_offline(struct tunnel *t)
{
    t->online = false;
    if (t->asking)
        event_signal(&t->answered);
}

void tunnel_refused(struct tunnel *t)
{
    t->recover = true;
}

void tunnel_message(struct tunnel *t, const Davit__Link__V1__ControlMessage *m)
{
    if (m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL_ROTATE) {
        t->rotate = true;
        t->retry_at = 0;
        t->failed = 0;
        event_signal(&t->wake);
        return;
    }
    if (!t->asking || t->answer || rpc_copy(&m->base, &t->answer) < 0)
        return;
    event_signal(&t->answered);
}
