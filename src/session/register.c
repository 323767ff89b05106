/* SPDX-License-Identifier: Apache-2.0 */
/* register — the one time that a sandbox dials: the assertion for a token, and with it RegisterAgent, at its server's agent.
 * The assertion is for one use. It counts as used once the exchange was answered for certain; before that, RegisterRequired may come again, and after
 * it as long as a token is left that was not answered. One run of tries takes REGISTER_WAIT at most. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "davit/agent/v1/agent.davit.h"
#include "session/session_internal.h"

#define REGISTER_WAIT (30 * USEC_SEC)
#define TRY_WAIT      (10 * USEC_SEC)
#define BACKOFF_BASE  (250 * USEC_MSEC)
#define BACKOFF_MAX   (5 * USEC_SEC)
#define DISK_STEP     (50 * USEC_MSEC)
enum { BEARER_MAX = 16 * 1024 };

struct registration {
    struct session *s;
    struct secret *assertion; /* NULL: there is none, or it was used */
    struct secret *token;     /* NULL: none was given, or it was used */
    struct fiber *fiber;      /* while it is under way, and until the next */
    bool running, registered;
    struct talk *talk; /* who waits for the answer; NULL: nobody any more */
    char id[SPEC_ID_MAX + 1];
};

/* May the same call have another answer later, or had it none? */
static bool may_pass(int rc)
{
    return rc == -(int)ERR_UNAVAILABLE || rc == -(int)ERR_DEADLINE || rc == -(int)ERR_CANCELLED || rc == -(int)ERR_EXHAUSTED;
}

static int exchange(struct registration *r, struct rpc_channel *ch, usec_t deadline, struct err *err)
{
    Davit__Agent__V1__ExchangeRequest request = DAVIT__AGENT__V1__EXCHANGE_REQUEST__INIT;
    ProtobufCMessage *m = NULL;

    request.assertion = (char *)(uintptr_t)secret_reveal(r->assertion).p;
    int rc = rpc_unary(ch, &davit_agent_v1_agent_service, "Exchange", &request.base, deadline, &m, err);
    if (rc < 0) {
        if (!may_pass(rc))
            r->assertion = secret_free(r->assertion);
        return rc;
    }
    r->assertion = secret_free(r->assertion);
    char *token = ((Davit__Agent__V1__ExchangeResponse *)m)->access_token;
    if (*token)
        r->token = secret_new(str_from(token));
    explicit_bzero(token, strlen(token));
    (void)rpc_message_free(m);
    return r->token ? 0 : err_set(err, ERR_INTERNAL, "the exchange gave no token");
}

static int register_agent(struct registration *r, struct rpc_channel *ch, usec_t deadline, struct err *err)
{
    Davit__Agent__V1__RegisterRequest request = DAVIT__AGENT__V1__REGISTER_REQUEST__INIT;
    AUTO_SECRET_BUF bearer = BUF_INIT(BEARER_MAX);
    ProtobufCMessage *m = NULL;

    if (!buf_reserve(&bearer, sizeof("Bearer ") + secret_len(r->token)) || buf_append_cstr(&bearer, "Bearer ") < 0 ||
        buf_append_str(&bearer, secret_reveal(r->token)) < 0)
        return err_set(err, ERR_EXHAUSTED, "the token is too long");
    const struct rpc_field field = {"authorization", buf_str(&bearer)};
    const struct rpc_options options = {.deadline = deadline, .metadata = &field, .n_metadata = 1};
    request.agent_name = (char *)(uintptr_t)(r->s->options->agent ? r->s->options->agent : "");
    request.project = (char *)(uintptr_t)(r->s->options->project ? r->s->options->project : "");
    int rc = rpc_unary_with(ch, &davit_agent_v1_agent_service, "RegisterAgent", &request.base, &options, &m, err);
    (void)rpc_message_free(m);
    if (!may_pass(rc))
        r->token = secret_free(r->token);
    return rc;
}

static int try_once(struct registration *r, struct tls_ctx *tls, usec_t deadline, struct err *err)
{
    struct rpc_channel *ch = NULL;
    usec_t until = deadline_in(TRY_WAIT) < deadline ? deadline_in(TRY_WAIT) : deadline;
    int rc = rpc_channel_open(r->s->loop, r->s->options->reg, tls, 0, until, &ch, err);

    /* Nothing of the assertion was sent to whoever that is. */
    if (rc < 0)
        return fiber_cancelled() ? -(int)ERR_CANCELLED : -(int)ERR_UNAVAILABLE;
    if (!r->token)
        rc = exchange(r, ch, until, err);
    if (rc == 0)
        rc = register_agent(r, ch, until, err);
    ch = rpc_channel_close(ch);
    return rc;
}

struct reading {
    const char *folder;
    struct material m;
    struct err err;
};

static int read_material(void *arg)
{
    struct reading *r = arg;
    return material_read(r->folder, &r->m, &r->err);
}

/* Of what lies on the disk now: a renewal may have replaced what was read at the start. */
static int make_tls(struct session *s, usec_t deadline, struct tls_ctx **ret, struct err *err)
{
    struct reading *r = NEW(struct reading);
    int rc = 0;

    r->folder = s->options->material;
    material_init(&r->m);
    while (rc == 0 && s->disk_busy)
        rc = clock_mono() < deadline ? fiber_sleep(DISK_STEP) : -(int)ERR_DEADLINE;
    if (rc == 0)
        rc = session_disk(s, read_material, r, deadline, &r->err);
    if (rc == 0)
        rc = material_tls(&r->m, s->options->peer, false, ret, &r->err);
    if (rc < 0)
        *err = r->err;
    material_release(&r->m);
    free(r);
    return rc < 0 ? err_ensure(err, rc) : 0;
}

static int run(struct registration *r, struct err *err)
{
    usec_t deadline = deadline_in(REGISTER_WAIT);
    struct tls_ctx *tls = NULL;
    int rc = make_tls(r->s, deadline, &tls, err);

    if (rc < 0)
        return rc;
    for (unsigned attempt = 0;; attempt++) {
        rc = try_once(r, tls, deadline, err);
        if (!may_pass(rc))
            break;
        usec_t wait = BACKOFF_BASE + backoff_wait(attempt, BACKOFF_BASE, BACKOFF_MAX);
        if (deadline_in(wait) >= deadline || fiber_sleep(wait) < 0)
            break;
    }
    tls = tls_ctx_unref(tls);
    return rc;
}

static void tell(struct registration *r, int rc, const struct err *err)
{
    Davit__Session__V1__Response m = DAVIT__SESSION__V1__RESPONSE__INIT;
    Davit__Session__V1__RegisterDone done = DAVIT__SESSION__V1__REGISTER_DONE__INIT;
    struct talk *t = r->talk;

    r->talk = NULL;
    done.ok = rc == 0;
    done.error = (char *)(uintptr_t)(rc == 0 ? "" : err->msg);
    m.body_case = DAVIT__SESSION__V1__RESPONSE__BODY_REGISTER_DONE;
    m.register_done = &done;
    talk_send(t, r->id, &m);
}

static void fail(struct registration *r, const struct err *err)
{
    log_err(LOG_ERROR, err, "this sandbox is not registered", "event", "register_failed", "agent", r->s->options->agent, "again",
            r->assertion || r->token ? "may be tried" : "useless", NULL);
}

static void registering(void *arg)
{
    struct registration *r = arg;
    struct err err = ERR_INIT;
    int rc = err_ensure(&err, run(r, &err));

    r->running = false;
    if (fiber_cancelled())
        return;
    if (rc == 0) {
        r->registered = true;
        log_event(LOG_INFO, "registered", "event", "registered", "agent", r->s->options->agent, NULL);
    } else {
        fail(r, &err);
    }
    tell(r, rc, &err);
}

void registration_begin(struct registration *r, struct talk *t, const char *id)
{
    struct err err = ERR_INIT;

    if (r->running && r->talk) {
        talk_send_error(t, id, DAVIT__SESSION__V1__ERROR_CODE__ERROR_CODE_BUSY, "the registration is under way");
        return;
    }
    r->talk = t;
    (void)str_copy(r->id, sizeof(r->id), str_from(id));
    if (r->running) /* for a session that was lost: its answer goes to this one */
        return;
    if (r->registered) {
        tell(r, 0, NULL);
        return;
    }
    r->fiber = fiber_unref(r->fiber);
    if (!r->s->options->reg)
        (void)err_set(&err, ERR_PRECONDITION, "no address to register at: DAVIT_REGISTER is not set");
    else if (!r->assertion && !r->token)
        (void)err_set(&err, ERR_PRECONDITION, "there is no assertion, or it was used");
    else if (fiber_spawn(r->s->loop, "register", registering, r, &r->fiber) < 0)
        (void)err_set(&err, ERR_EXHAUSTED, "no memory to register with");
    else
        r->running = true;
    if (!err.code)
        return;
    fail(r, &err);
    tell(r, -(int)err.code, &err);
}

void registration_lost(struct registration *r, const struct talk *t)
{
    if (r && r->talk == t)
        r->talk = NULL;
}

struct registration *registration_new(struct session *s, struct secret *assertion)
{
    struct registration *r = NEW(struct registration);

    r->s = s;
    r->assertion = assertion;
    return r;
}

void registration_cancel(struct registration *r)
{
    if (r)
        fiber_cancel(r->fiber);
}

struct registration *registration_free(struct registration *r)
{
    if (!r)
        return NULL;
    (void)secret_free(r->assertion);
    (void)secret_free(r->token);
    (void)fiber_unref(r->fiber);
    free(r);
    return NULL;
}
