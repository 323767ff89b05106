/* SPDX-License-Identifier: Apache-2.0 */
/* keeper — the session to the supervisor in a running sandbox: dialled as long as its container runs, with back-off; judged by the certificate of the
 * live handshake; registered if it is not; then kept, so that the agent knows how it is and can tell it new material. */
#include "host/contain/contain_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "davit/session/v1/session.davit.h"
#include "net/tls.h"

#define DIAL_WAIT    (10 * USEC_SEC)
#define HELLO_WAIT   (20 * USEC_SEC)
#define KEEPALIVE    (15 * USEC_SEC)
#define TICK         (15 * USEC_SEC)
#define RETRY_BASE   (40 * USEC_MSEC)
/* A container that was just started: its supervisor is about to listen, and its program waits for us. */
#define YOUNG        (2 * USEC_SEC)
#define YOUNG_EVERY  (5 * USEC_MSEC)
/* A session that ended is most often the end of its container, which the engine tells soon. Who dials meanwhile asks the network for an address that
 * is gone: the next one that has it is not heard for a second, or gets a call that was meant for this one. */
#define AFTER_SESSION (600 * USEC_MSEC)
#define RETRY_CAP    (5 * USEC_SEC)
#define CUT_BASE     (100 * USEC_MSEC)
#define CUT_CAP      (10 * USEC_SEC)
#define REGISTER_WAIT (60 * USEC_SEC)
#define REGISTER_BASE (500 * USEC_MSEC)
#define REGISTER_CAP  (60 * USEC_SEC)

/* --- Quarantine ---- */

static bool is_cut_in(const struct box *b, usec_t life)
{
    return b->failed && !b->gone && b->engine == DOCKER_STATE_RUNNING && b->engine_started == life && *b->network;
}

/* As often as it takes, as long as this life of its container lasts. */
static void cut_main(void *arg)
{
    struct box *b = arg;
    usec_t life = b->engine_started;

    for (unsigned tries = 1; is_cut_in(b, life) && !fiber_cancelled(); tries++) {
        struct err err = ERR_INIT;
        char network[sizeof(b->network)], container[DOCKER_ID_SIZE];
        (void)str_copy(network, sizeof(network), str_from(b->network));
        (void)str_copy(container, sizeof(container), str_from(b->container));
        int rc = docker_network_disconnect(b->k->w->docker, network, container, true, deadline_in(ENGINE_CALL), &err);
        if (rc >= 0) {
            b->ip[0] = '\0'; /* may be another's from now on */
            rc = box_look(b, &err);
        }
        if (rc < 0)
            log_err(LOG_ERROR, &err, "a sandbox that is not trusted could not be cut off its network", "sandbox", b->id, NULL);
        if (is_cut_in(b, life))
            (void)fiber_sleep(backoff_wait(tries < 8 ? tries : 8, CUT_BASE, CUT_CAP));
    }
    b->cutting = false;
    box_unref(b);
}

static void cut(struct box *b)
{
    if (!*b->network || b->cutting)
        return;
    b->cutting = true;
    if (work_spawn(b->k->w, "sandbox-cut", cut_main, box_ref(b)))
        return;
    b->cutting = false;
    box_unref(b);
}

void keeper_quarantine(struct box *b, const char *reason, const char *message)
{
    bool known = b->trust == TRUST(UNTRUSTED);

    b->trust = TRUST(UNTRUSTED);
    b->failed = true;
    if (!known || strcmp(b->reason, reason) != 0)
        box_state(b, STATE(FAILED), reason, message);
    cut(b);
}

/* --- Messages ---- */

int keeper_put(struct keeper *s, Davit__Session__V1__Command *m, const char *id, struct err *err)
{
    m->command_id = (char *)(uintptr_t)id;
    return rpc_stream_put(s->stream, &m->base, deadline_in(HELLO_WAIT), err);
}

static void pass_on(const struct keeper *s)
{
    struct box *b = s->b;

    if (s->over) {
        b->exit_code = s->exit_code;
        b->oom_killed = s->oom_killed;
        return;
    }
    if (!s->running || b->state == STATE(RUNNING))
        return;
    if (!b->started)
        b->started = clock_real();
    if (!b->failed) {
        b->step[0] = '\0';
        box_state(b, STATE(RUNNING), "", NULL);
    }
}

static void note_state(struct keeper *s, const Davit__Session__V1__State *st)
{
    s->over = st->main == DAVIT__SESSION__V1__STATE__MAIN__MAIN_ENDED;
    s->running = s->running || st->main == DAVIT__SESSION__V1__STATE__MAIN__MAIN_RUNNING;
    s->exit_code = st->exit_code;
    s->oom_killed = st->oom_killed;
    if (s->settled)
        pass_on(s);
}

void keeper_settled(struct keeper *s)
{
    s->settled = true;
    pass_on(s);
}

int keeper_get(struct keeper *s, usec_t deadline, Davit__Session__V1__Response **ret, struct err *err)
{
    ProtobufCMessage *got = NULL;
    int rc = rpc_stream_get(s->stream, deadline, &got, err);

    *ret = NULL;
    if (rc > 0) {
        (void)err_set(err, ERR_UNAVAILABLE, "the supervisor ended the session");
        return -(int)ERR_UNAVAILABLE;
    }
    if (rc < 0) {
        (void)err_ensure(err, rc);
        return rc;
    }
    *ret = (Davit__Session__V1__Response *)got;
    s->b->seen = clock_real();
    if ((*ret)->body_case == DAVIT__SESSION__V1__RESPONSE__BODY_STATE)
        note_state(s, (*ret)->state);
    return 0;
}

static int hello(struct keeper *s, struct err *err)
{
    Davit__Session__V1__Command m = DAVIT__SESSION__V1__COMMAND__INIT;
    Davit__Session__V1__Hello h = DAVIT__SESSION__V1__HELLO__INIT;
    usec_t deadline = deadline_in(HELLO_WAIT);

    m.body_case = DAVIT__SESSION__V1__COMMAND__BODY_HELLO;
    m.hello = &h;
    int rc = keeper_put(s, &m, "hello", err);
    for (bool acked = false; rc == 0 && !acked;) {
        Davit__Session__V1__Response *r = NULL;
        rc = keeper_get(s, deadline, &r, err);
        if (rc == 0 && r->body_case == DAVIT__SESSION__V1__RESPONSE__BODY_HELLO_ACK) {
            acked = true;
            s->initialized = r->hello_ack->initialized;
            s->running = r->hello_ack->cmd_running;
            if (r->hello_ack->state)
                note_state(s, r->hello_ack->state);
        }
        (void)rpc_message_free(r);
    }
    return rc;
}

/* --- Who it is ---- */

/* 0: its certificate is the registered one; 1: it is not registered; 2: it is not to be trusted. */
static int judge(struct keeper *s)
{
    struct box *b = s->b;

    if (b->refused) {
        keeper_quarantine(b, b->refused, "the control plane does not trust it");
        return 2;
    }
    if (!*b->thumbprint)
        return 1;
    if (box_knows(b, s->live)) {
        b->trust = TRUST(REGISTERED);
        if (strcmp(b->thumbprint, s->live) == 0)
            box_confirm(b, s->not_after);
        return 0;
    }
    AUTO_FREE char *text = str_printf("its supervisor showed the certificate %.16s..., registered is %.16s...", s->live, b->thumbprint);
    keeper_quarantine(b, "cert_thumbprint_mismatch", text);
    return 2;
}

static void unregistered(struct box *b, const char *message)
{
    b->trust = TRUST(UNREGISTERED);
    box_state(b, STATE(STARTING), "register_failed", message);
}

/* It exchanges its assertion by itself, through the relay; the verdict comes by the link. 0; 1: it did not succeed. */
static int ask_to_register(struct keeper *s, struct err *err)
{
    Davit__Session__V1__Command m = DAVIT__SESSION__V1__COMMAND__INIT;
    Davit__Session__V1__RegisterRequired q = DAVIT__SESSION__V1__REGISTER_REQUIRED__INIT;
    usec_t deadline = deadline_in(REGISTER_WAIT);
    int done = -1;

    m.body_case = DAVIT__SESSION__V1__COMMAND__BODY_REGISTER_REQUIRED;
    m.register_required = &q;
    int rc = keeper_put(s, &m, "register", err);
    while (rc == 0 && done < 0) {
        Davit__Session__V1__Response *r = NULL;
        rc = keeper_get(s, deadline, &r, err);
        if (rc == 0 && r->body_case == DAVIT__SESSION__V1__RESPONSE__BODY_REGISTER_DONE) {
            done = r->register_done->ok && *s->b->thumbprint ? 0 : 1;
            if (done && !s->b->failed)
                unregistered(s->b, *r->register_done->error ? r->register_done->error : "the control plane knows nothing of its registration");
        }
        (void)rpc_message_free(r);
    }
    return rc < 0 ? rc : done;
}

static int renew(struct keeper *s, struct err *err)
{
    Davit__Session__V1__Command m = DAVIT__SESSION__V1__COMMAND__INIT;
    Davit__Session__V1__Renew *fresh = NULL;
    int rc = material_make(s->b, MATERIAL_SESSION, deadline_in(REGISTER_WAIT), &fresh, err);
    usec_t deadline = deadline_in(HELLO_WAIT);
    bool done = false;

    m.body_case = DAVIT__SESSION__V1__COMMAND__BODY_RENEW;
    m.renew = fresh;
    if (rc == 0)
        rc = fresh ? keeper_put(s, &m, "renew", err) : err_set(err, ERR_INTERNAL, "new material cannot be sent");
    while (rc == 0 && !done) {
        Davit__Session__V1__Response *r = NULL;
        rc = keeper_get(s, deadline, &r, err);
        if (rc == 0 && r->body_case == DAVIT__SESSION__V1__RESPONSE__BODY_ERROR && strcmp(r->command_id, "renew") == 0)
            rc = err_set(err, ERR_ABORTED, "the supervisor did not take new material: %.200s", r->error->message);
        done = rc == 0 && r->body_case == DAVIT__SESSION__V1__RESPONSE__BODY_RENEWED;
        (void)rpc_message_free(r);
    }
    (void)rpc_message_free(fresh);
    if (rc == 0)
        log_event(LOG_NOTICE, "the certificate of a sandbox was renewed", "sandbox", s->b->id, NULL);
    return rc;
}

/* Its assertion was used, or is too old. Its supervisor reads another one only when it starts; nothing of the image runs yet, so all of it may. */
static int begin_again(struct keeper *s, struct err *err)
{
    struct box *b = s->b;

    b->unregistered += b->unregistered < 8;
    int rc = fiber_sleep(backoff_wait(b->unregistered, REGISTER_BASE, REGISTER_CAP));
    /* It was registered meanwhile, or cut off; or it runs, and is not ended for this. */
    if (rc == 0 && (*b->thumbprint || b->failed || s->running))
        return err_set(err, ERR_ABORTED, "it is judged again");
    if (rc == 0)
        rc = material_make(b, MATERIAL_FIRST, deadline_in(REGISTER_WAIT), NULL, err);
    b->again = rc == 0;
    if (rc == 0)
        rc = docker_container_restart(b->k->w->docker, b->container, 2, deadline_in(ENGINE_CALL), err);
    b->again = b->again && rc >= 0;
    return rc < 0 ? rc : err_set(err, ERR_ABORTED, "new material");
}

/* 0: go on; 1: withheld, the session stays; negative: the session is over. */
static int settle(struct keeper *s, struct err *err)
{
    struct box *b = s->b;
    int rc = judge(s);

    if (rc == 2 || b->failed)
        return 1;
    if (rc == 0)
        return 0;
    if (!b->k->linked)
        unregistered(b, "the control plane is not there; it registers when it is");
    if (contain_wait_link(b->k, USEC_INFINITY) < 0)
        return -ERR_CANCELLED;
    rc = ask_to_register(s, err);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        b->unregistered = 0;
        return judge(s) == 0 ? 0 : 1;
    }
    if (b->failed)
        return 1;
    return begin_again(s, err);
}

/* --- A session ---- */

static int open_session(struct keeper *s, struct err *err)
{
    struct box *b = s->b;
    AUTO_FREE char *addr = str_printf("%s:%d", b->ip, CONTAIN_SESSION_PORT);
    struct tls_ctx *tls = NULL;

    (void)str_copy(s->ip, sizeof(s->ip), str_from(b->ip));
    int rc = *b->ip ? contact_dial_tls(b->k->contact, b->id, &tls, err) : err_set(err, ERR_UNAVAILABLE, "it has no address");

    if (rc == 0)
        rc = rpc_channel_open(b->k->loop, addr, tls, KEEPALIVE, deadline_in(DIAL_WAIT), &s->channel, err);
    (void)tls_ctx_unref(tls);
    if (rc < 0)
        return rc;
    const struct tls_peer *peer = conn_peer(rpc_channel_conn(s->channel));
    str_hex(peer->cert_sha256, sizeof(peer->cert_sha256), s->live);
    s->not_after = b->certificate_ends = peer->not_after_us;
    return rpc_stream_open(s->channel, &davit_session_v1_session_service, "Session", USEC_INFINITY, &s->stream, err);
}

/* Its certificate runs out, or the roots are changed, or a renewal was cut off. */
static bool wants_renewal(const struct keeper *s)
{
    const struct box *b = s->b;
    bool due = material_is_due(b, s->not_after) || strcmp(b->thumbprint, s->live) != 0;

    return due && s->not_after && b->k->linked && *b->thumbprint && !b->failed &&
           renewal_may(&b->renewal, contact_pins(b->k->contact));
}

/* Another certificate takes its place, in the register and in the sandbox; the next session is by that. */
static int look_after(struct keeper *s, struct err *err)
{
    struct box *b = s->b;

    if (!wants_renewal(s))
        return 0;
    renewal_begins(&b->renewal, contact_pins(b->k->contact));
    int rc = renew(s, err);
    renewal_ended(&b->renewal, rc == 0);
    return rc < 0 ? rc : err_set(err, ERR_ABORTED, "new material");
}

static int keep(struct keeper *s, struct err *err)
{
    usec_t tick = deadline_in(TICK);
    int rc = look_after(s, err);

    while (rc == 0 && !s->over && !fiber_cancelled()) {
        Davit__Session__V1__Response *r = NULL;
        s->b->waits = s->stream;
        rc = keeper_get(s, tick, &r, err);
        s->b->waits = NULL;
        (void)rpc_message_free(r);
        if (rc != -ERR_DEADLINE && (rc < 0 || clock_mono() < tick))
            continue;
        tick = deadline_in(TICK);
        if (s->b->failed && s->b->trust == TRUST(UNTRUSTED))
            cut(s->b);
        if (rpc_channel_alive(s->channel))
            s->b->seen = clock_real();
        box_tell(s->b);
        rc = look_after(s, err);
    }
    return rc;
}

static int session(struct keeper *s, struct err *err)
{
    struct box *b = s->b;
    int rc = open_session(s, err);

    s->invalid = rc == -ERR_UNAUTHENTICATED && !s->channel;
    if (rc == 0)
        rc = hello(s, err);
    if (rc < 0)
        return rc;
    (void)str_copy(b->live, sizeof(b->live), str_from(s->live));
    b->session = true;
    b->seen = clock_real();
    box_tell(b);
    rc = settle(s, err);
    if (rc == 0)
        rc = keeper_conduct(s, err);
    return rc < 0 ? rc : keep(s, err);
}

static bool has_life(const struct box *b, usec_t life)
{
    return !b->gone && b->engine == DOCKER_STATE_RUNNING && b->engine_started == life && !fiber_cancelled();
}

/* Before its supervisor was ever heard in this life of it: it starts, or it cannot. */
static void note_failure(struct keeper *s, usec_t life, const struct err *err, unsigned failed)
{
    struct box *b = s->b;

    if (s->invalid) {
        bool over = b->not_after && clock_real() >= b->not_after;
        /* Its address may be another's by now. */
        if (box_look(b, NULL) == 0 && has_life(b, life) && strcmp(b->ip, s->ip) == 0)
            keeper_quarantine(b, over ? "cert_expired" : "cert_invalid",
                              over ? "its certificate has expired: stop it and start it, and it gets another" : err->msg);
        return;
    }
    if (failed == 8 && !b->failed && !b->ready && b->state == STATE(STARTING) && !*b->reason)
        box_state(b, b->state, "session_failed", err->msg);
}

static void keeper_main(void *arg)
{
    struct box *b = arg;
    usec_t life = b->engine_started;
    unsigned failed = 0;
    usec_t young = deadline_in(YOUNG);

    while (has_life(b, life)) {
        struct err err = ERR_INIT;
        struct keeper s = {.b = b};
        usec_t began = clock_mono();
        int rc = session(&s, &err);
        s.stream = rpc_stream_close(s.stream);
        s.channel = rpc_channel_close(s.channel);
        bool had = b->session;
        b->session = false;
        if (had && has_life(b, life))
            box_tell(b);
        if (s.over || !has_life(b, life))
            (void)box_look(b, NULL);
        if (!had && !failed && rc == -ERR_UNAVAILABLE && clock_mono() < young && has_life(b, life)) {
            (void)fiber_sleep(YOUNG_EVERY);
            continue;
        }
        failed = clock_mono() - began > RETRY_CAP ? 0 : failed + 1;
        if (rc < 0 && has_life(b, life))
            note_failure(&s, life, &err, failed);
        if (has_life(b, life))
            (void)event_wait(&b->changed, deadline_in(had ? AFTER_SESSION : backoff_wait(failed < 8 ? failed : 8, RETRY_BASE, RETRY_CAP)));
        /* What changed may have been told by this very fiber: no more often than that. */
        if (has_life(b, life))
            (void)fiber_sleep(RETRY_BASE);
    }
    b->keeper = NULL;
    if (!b->gone && b->engine == DOCKER_STATE_RUNNING && !fiber_cancelled())
        keeper_start(b);
    box_unref(b);
}

void keeper_start(struct box *b)
{
    if (b->keeper || b->gone)
        return;
    b->keeper = work_spawn(b->k->w, "sandbox-keeper", keeper_main, box_ref(b));
    if (!b->keeper)
        box_unref(b);
}
