/* SPDX-License-Identifier: Apache-2.0 */
/* renew — see renew.h. One fiber waits until it is time and asks; what is granted is installed in the same way for a renewal and a recovery. */
#include "host/link/renew.h"

#include "base/log.h"
#include "base/mem.h"
#include "host/link/bundle.h"
#include "host/link/floor_time.h"
#include "host/link/link_dial.h"
#include "host/link/recover.h"
#include "host/link/session.h"
#include "ident/cert.h"
#include "loop/lane.h"

#define DISK_WAIT (60 * USEC_SEC)
#define LOOK_AGAIN USEC_HOUR
#define RENEW_RETRY_LEAST (100 * USEC_MSEC)

struct renew {
    struct loop *loop;
    struct agent_config config;
    struct session *session;
    struct fiber *fiber;
    struct event wake;
    struct event idle;         /* the fiber has no job on the disk and no request */

    struct agent_identity id;  /* what is dialled with */
    struct tls_ctx *tls;       /* NULL: the certificate ran out */
    bool unconfirmed;          /* id is the active one and has not connected; the previous one is there */
    bool older;                /* id is the previous one, tried because the active one was refused */
    bool confirm;              /* id connected: the other one may go */
    bool switch_over;          /* take the other one at the next dial */
    bool recover;              /* refused: ask with the old key at the next dial */
    unsigned refusals;         /* of links, since one was up */

    bool online, rotate;
    struct floor_time time;
    unsigned failed;
    usec_t retry_at;           /* monotonic */
    struct err err;            /* of the last failure */

    bool asking;
    struct event answered;
    ProtobufCMessage *answer;  /* a ControlMessage, or NULL: the link was lost */
};

/* --- Times ---- */

static usec_t life_of(usec_t issued, usec_t expires)
{
    return expires > issued ? expires - issued : 0;
}

static usec_t issued_at(usec_t not_before)
{
    return not_before + CERT_BACKDATE;
}

usec_t renew_due(const char *server_id, usec_t issued, usec_t expires)
{
    uint32_t mix = 2166136261u; /* FNV-1a: spreads servers, keeps no secret */
    usec_t life = life_of(issued, expires);
    for (const char *p = server_id; *p; p++)
        mix = (mix ^ (unsigned char)*p) * 16777619u;
    return issued + life / 3 * 2 + life / 10 * (mix % 1000) / 1000;
}

usec_t renew_retry(unsigned failed, usec_t life)
{
    usec_t base = life / 100 < RENEW_RETRY_MIN ? life / 100 : RENEW_RETRY_MIN;
    usec_t cap = life / 10 < RENEW_RETRY_MAX ? life / 10 : RENEW_RETRY_MAX;
    if (base < RENEW_RETRY_LEAST)
        base = RENEW_RETRY_LEAST;
    return base + backoff_wait(failed, base, cap > base ? cap - base : 0);
}

static usec_t life(const struct renew *r)
{
    return life_of(issued_at(r->id.not_before), r->id.not_after);
}

static usec_t due(const struct renew *r)
{
    return renew_due(r->config.server_id, issued_at(r->id.not_before), r->id.not_after);
}

/* --- Judging ---- */

static int bad(struct err *err, const char *what)
{
    (void)err_set(err, ERR_DATA_LOSS, "the control plane granted credentials that were not accepted: %s", what);
    err_hint(err, "the present ones stay; look at the log of davitd");
    return -(int)ERR_DATA_LOSS;
}

/* Of what was granted, what is believed; without a word about roots the present ones stay. */
static int believe(const struct renew_check *k, const Davit__Link__V1__Credential *c, usec_t when, struct buf *roots, struct err *err)
{
    if (!*c->ca_pem)
        return buf_append_str(roots, k->roots_pem);
    return cert_roots_believed(str_from(c->ca_pem), k->roots_pem, str_from(*c->cross_pem ? c->cross_pem : c->certificate_pem), when, roots, err);
}

int renew_check(const struct renew_check *k, const Davit__Link__V1__Credential *c, struct buf *roots, struct err *err)
{
    struct str chain = str_from(c->certificate_pem);
    AUTO_FREE char *uri = str_printf("davit://server/%s", k->server_id);
    AUTO_CERT cert = NULL;
    struct cert_info leaf;
    struct err why = ERR_INIT;
    if (c->generation <= k->generation)
        return bad(err, "their generation does not grow");
    if (cert_from_pem(chain, &cert, &why) < 0 || cert_info(cert, &leaf, &why) < 0)
        return bad(err, why.msg);
    if (!cert_fits_key(cert, k->key))
        return bad(err, "the certificate is for another key");
    if (!str_eq(str_from(leaf.uri), str_from(uri)))
        return bad(err, "the certificate is for another server");
    usec_t when = k->now > leaf.not_before ? k->now : leaf.not_before;
    if (cert_verify_chain(chain, k->roots_pem, CERT_CLIENT, when, NULL, &why) < 0)
        return bad(err, why.msg);
    if (believe(k, c, when, roots, &why) < 0)
        return bad(err, why.msg);
    if (cert_verify_chain(chain, buf_str(roots), CERT_CLIENT, when, NULL, &why) < 0)
        return bad(err, "the certificate does not lead to the roots that came with it");
    if (renew_due(k->server_id, issued_at(leaf.not_before), leaf.not_after) <= k->now)
        return bad(err, "the certificate is too near to its end");
    return 0;
}

/* --- Disk: jobs of a lane ---- */

struct disk_job {
    struct renew *r;
    uint32_t generation; /* 0: nothing is written */
    struct bundle_parts parts;
    bool older;          /* read the previous ones */
    usec_t good;         /* floor time to save */
    struct agent_identity id;
    struct tls_ctx *tls;
    int outcome;         /* of the reading */
    struct err err;
};

/* Waits: @fn(@j) off the loop. */
static int off_loop(struct renew *r, int (*fn)(void *arg), struct disk_job *j, struct err *err)
{
    struct lane *lane = lane_try_new(r->loop, "credentials", 1, 1);
    if (!lane)
        return err_set(err, ERR_EXHAUSTED, "no thread for the disk");
    int rc = lane_call(lane, fn, j, deadline_in(DISK_WAIT));
    (void)lane_free(lane);
    if (rc < 0 && err && j->err.code)
        *err = j->err;
    return err_ensure(err, rc);
}

static int read_job(void *arg)
{
    struct disk_job *j = arg;
    int rc = j->older ? agent_identity_load_previous(&j->r->config, &j->id, &j->err) : agent_identity_load(&j->r->config, &j->id, &j->err);
    if (rc < 0)
        return rc;
    j->outcome = rc;
    rc = rc == 0 ? link_tls_identity(&j->id, &j->tls, &j->err) : 0;
    if (rc < 0)
        agent_identity_release(&j->id);
    return rc;
}

static int install_job(void *arg)
{
    struct disk_job *j = arg;
    int rc = bundle_activate(&j->r->config, j->generation, &j->parts, &j->err);
    return rc == 0 ? read_job(j) : rc;
}

static int confirm_job(void *arg)
{
    struct disk_job *j = arg;
    return j->older ? bundle_revert(&j->r->config, &j->err) : bundle_confirm(&j->r->config, &j->err);
}

static int save_time_job(void *arg)
{
    struct disk_job *j = arg;
    return floor_time_save(&j->r->config, j->good, &j->err);
}

/* What was read is what is dialled with from now on. */
static void take(struct renew *r, struct disk_job *j)
{
    agent_identity_release(&r->id);
    (void)tls_ctx_unref(r->tls);
    r->id = j->id;
    r->tls = j->tls;
    clock_floor_raise(r->id.not_before);
    if (r->session && r->tls)
        session_set_credentials(r->session, r->tls, r->id.generation);
    if (r->session)
        session_set_roots(r->session, buf_str(&r->id.ca_pem));
}

static bool has_previous(const struct renew *r)
{
    AUTO_FREE char *dir = bundle_dir(&r->config, BUNDLE_PREVIOUS, NULL);
    return dir != NULL;
}

/* --- Installing ---- */

/* Waits: checks @c, for @key, and makes it the active credentials. */
static int install(struct renew *r, const struct key *key, const Davit__Link__V1__Credential *c, struct err *err)
{
    const struct renew_check check = {.server_id = r->config.server_id,
                                      .roots_pem = buf_str(&r->id.ca_pem),
                                      .key = key,
                                      .generation = r->id.generation,
                                      .now = floor_time_now(&r->time)};
    AUTO_SECRET pem = NULL;
    AUTO_BUF roots = BUF_INIT(CERT_PEM_MAX);
    int rc = renew_check(&check, c, &roots, err);
    if (rc == 0)
        rc = key_to_pem(key, &pem, err);
    if (rc < 0)
        return rc;
    struct disk_job j = {.r = r, .generation = c->generation, .err = ERR_INIT};
    j.parts.key_pem = secret_reveal(pem);
    j.parts.cert_pem = str_from(c->certificate_pem);
    j.parts.ca_pem = buf_str(&roots);
    rc = off_loop(r, install_job, &j, err);
    if (rc < 0)
        return rc;
    take(r, &j);
    r->unconfirmed = true;
    r->older = r->switch_over = r->recover = r->rotate = r->confirm = false;
    r->failed = 0;
    r->err = ERR_INIT;
    char until[CLOCK_TEXT_SIZE];
    clock_format(r->id.not_after, 0, until);
    AUTO_FREE char *generation = str_printf("%u", r->id.generation);
    log_event(LOG_NOTICE, "credentials renewed", "generation", generation, "until", until, NULL);
    return 0;
}

static int make_request(struct key **ret_key, struct buf *csr, struct err *err)
{
    int rc = key_generate(ret_key, err);
    return rc == 0 ? csr_make(*ret_key, "davit-agent", csr, err) : rc;
}

/* --- Renewal ---- */

static int refused(const Davit__Link__V1__CredentialRefused *m, struct err *err)
{
    const Davit__Common__V1__Failure *f = m->failure;
    enum err_code code = f && f->code > 0 && f->code < ERR_CODE_MAX ? (enum err_code)f->code : ERR_DENIED;
    (void)err_set(err, code, "the control plane refused new credentials: %s", f && *f->message ? f->message : "no reason was given");
    if (f && *f->hint)
        err_hint(err, "%s", f->hint);
    return -(int)code;
}

/* Waits: asks over the link. 0: *ret is the answer, owned by the caller. */
static int ask(struct renew *r, const struct buf *csr, ProtobufCMessage **ret, struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CredentialRequest request = DAVIT__LINK__V1__CREDENTIAL_REQUEST__INIT;
    request.csr_der = (ProtobufCBinaryData){csr->len, (uint8_t *)csr->data};
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CREDENTIAL_REQUEST;
    m.credential_request = &request;
    event_reset(&r->answered);
    r->asking = true;
    session_send(r->session, &m);
    int rc = event_wait(&r->answered, deadline_in(RENEW_ANSWER_WAIT));
    r->asking = false;
    *ret = TAKE(r->answer);
    if (rc == -(int)ERR_DEADLINE)
        return err_set(err, ERR_DEADLINE, "the control plane did not answer the request for new credentials");
    if (rc < 0)
        return err_set(err, (enum err_code)-rc, "the agent ends");
    return *ret ? 0 : err_set(err, ERR_UNAVAILABLE, "the link was lost before the new credentials came");
}

/* *ret_wait: when to ask again, as the control plane wishes, 0: it did not say. */
static int renew_now(struct renew *r, usec_t *ret_wait, struct err *err)
{
    AUTO_KEY key = NULL;
    AUTO_BUF csr = BUF_INIT(CSR_MAX);
    ProtobufCMessage *answer = NULL;
    int rc = make_request(&key, &csr, err);
    if (rc == 0)
        rc = ask(r, &csr, &answer, err);
    const Davit__Link__V1__ControlMessage *m = (const Davit__Link__V1__ControlMessage *)answer;
    if (rc == 0 && m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL) {
        rc = install(r, key, m->credential, err);
    } else if (rc == 0) {
        *ret_wait = m->credential_refused->retry_after_ms * USEC_MSEC;
        rc = refused(m->credential_refused, err);
    }
    (void)rpc_message_free(answer);
    return rc;
}

/* Has it new credentials now? */
static bool renew_once(struct renew *r)
{
    struct err err = ERR_INIT;
    usec_t wished = 0;
    int rc = renew_now(r, &wished, &err);
    if (rc == 0 || fiber_cancelled())
        return rc == 0;
    usec_t wait = renew_retry(r->failed++, life(r)), most = life(r) / 10;
    if (wished > wait)
        wait = wished < most ? wished : most;
    r->retry_at = clock_add(clock_mono(), wait);
    (void)err_ensure(&err, rc);
    r->err = err;
    AUTO_FREE char *text = str_printf("%.1fs", (double)wait / (double)USEC_SEC);
    log_err(LOG_WARN, &err, "the credentials were not renewed", "next_try", text, NULL);
    return false;
}

/* --- The fiber ---- */

static void confirm(struct renew *r)
{
    struct disk_job j = {.r = r, .older = r->older, .err = ERR_INIT};
    struct err err = ERR_INIT;
    r->confirm = false;
    if (off_loop(r, confirm_job, &j, &err) < 0)
        log_err(LOG_WARN, &err, "credentials that are not needed any more stay", NULL);
    r->unconfirmed = r->older = false;
}

static void save_time(struct renew *r)
{
    struct disk_job j = {.r = r, .err = ERR_INIT};
    struct err err = ERR_INIT;
    if (!r->online || !floor_time_due(&r->time, &j.good))
        return;
    r->time.next = clock_add(clock_mono(), FLOOR_TIME_EVERY);
    if (off_loop(r, save_time_job, &j, &err) < 0 && !fiber_cancelled())
        log_err(LOG_WARN, &err, "the time cannot be written down", NULL);
}

static bool is_time(const struct renew *r)
{
    return r->online && !r->confirm && clock_mono() >= r->retry_at && (r->rotate || floor_time_now(&r->time) >= due(r));
}

static usec_t until_next(const struct renew *r)
{
    usec_t now = floor_time_now(&r->time), mono = clock_mono(), at = due(r), wait = at > now && !r->rotate ? at - now : 0;
    if (r->retry_at > mono && r->retry_at - mono > wait)
        wait = r->retry_at - mono;
    return r->online && wait < LOOK_AGAIN ? wait : LOOK_AGAIN;
}

static void renew_main(void *arg)
{
    struct renew *r = arg;
    while (!fiber_cancelled()) {
        event_reset(&r->wake);
        event_reset(&r->idle);
        if (r->confirm && r->online)
            confirm(r);
        save_time(r);
        bool done = is_time(r) && renew_once(r);
        event_signal(&r->idle);
        if (done)
            session_relink(r->session, "the link is made anew with the new credentials");
        if (is_time(r))
            continue;
        if (event_wait(&r->wake, deadline_in(until_next(r))) == -(int)ERR_CANCELLED)
            return;
    }
}

/* --- Before a dial ---- */

/* Waits: takes the other credentials, while there are two. */
static void change_over(struct renew *r)
{
    struct disk_job j = {.r = r, .older = !r->older, .err = ERR_INIT};
    r->switch_over = false;
    if (off_loop(r, read_job, &j, NULL) < 0)
        return;
    r->older = !r->older;
    take(r, &j);
    log_event(LOG_WARN, r->older ? "the new credentials were refused; the previous ones are tried" : "the new credentials are tried once more", NULL);
}

/* Waits. */
static int get_back(struct renew *r, struct err *err)
{
    AUTO_KEY key = NULL;
    AUTO_BUF csr = BUF_INIT(CSR_MAX);
    Davit__Link__V1__RecoverResponse *answer = NULL;
    struct session_status st;
    r->recover = false;
    session_status(r->session, &st);
    int rc = make_request(&key, &csr, err);
    if (rc == 0)
        rc = recover_ask(r->loop, st.endpoint, r->config.server_id, &r->id, buf_str(&csr), &answer, err);
    if (rc == 0 && !answer->credential)
        rc = bad(err, "there are none");
    if (rc == 0)
        rc = install(r, key, answer->credential, err);
    (void)rpc_message_free(answer);
    return rc;
}

int renew_prepare(struct renew *r, struct err *err)
{
    struct err why = ERR_INIT;
    if (event_wait(&r->idle, deadline_in(DISK_WAIT)) < 0)
        return err_set(err, ERR_UNAVAILABLE, "the disk does not answer");
    if (r->switch_over)
        change_over(r);
    bool expired = !r->tls || floor_time_now(&r->time) >= r->id.not_after;
    if (!expired && !r->recover)
        return 0;
    int rc = get_back(r, &why);
    if (rc == 0)
        return 0;
    r->err = why;
    if (!expired && rc != -(int)ERR_CANCELLED)
        return 0; /* refused a moment ago; whether that is still so the link will tell */
    if (err)
        *err = why;
    return rc;
}

/* --- What the session tells ---- */

void renew_hear(struct renew *r, usec_t theirs)
{
    if (theirs && theirs < (usec_t)INT64_MAX)
        floor_time_hear(&r->time, theirs);
}

void renew_online(struct renew *r, usec_t theirs)
{
    renew_hear(r, theirs);
    r->online = true;
    r->recover = r->switch_over = false;
    r->refusals = 0;
    r->confirm = r->unconfirmed;
    event_signal(&r->wake);
}

void renew_offline(struct renew *r)
{
    r->online = false;
    event_signal(&r->answered);
}

bool renew_refused(struct renew *r)
{
    if (r->unconfirmed)
        r->switch_over = true;
    r->recover = !r->unconfirmed || r->older;
    return r->refusals++ < (r->unconfirmed ? 2 : 1);
}

void renew_message(struct renew *r, const Davit__Link__V1__ControlMessage *m)
{
    if (m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL_ROTATE) {
        r->rotate = true;
        r->retry_at = 0;
        r->failed = 0;
        event_signal(&r->wake);
    } else if (r->asking && !r->answered.set && rpc_copy(&m->base, &r->answer) == 0) {
        event_signal(&r->answered);
    }
}

void renew_status(const struct renew *r, struct renew_status *ret)
{
    *ret = (struct renew_status){
        .generation = r->id.generation, .expires = r->id.not_after, .due = due(r), .staged = r->unconfirmed, .error = r->err.msg};
}

/* --- Life ---- */

struct renew *renew_new(struct loop *loop, const struct agent_config *c)
{
    struct renew *r = NEW(struct renew);
    r->loop = loop;
    r->config.generation = c->generation;
    r->config.dir = str_dup(str_from(c->dir));
    r->config.cert_dir = str_dup(str_from(c->cert_dir));
    r->config.server_id = str_dup(str_from(c->server_id));
    event_init(&r->wake, loop);
    event_init(&r->answered, loop);
    event_init(&r->idle, loop);
    event_signal(&r->idle);
    return r;
}

int renew_load(struct renew *r, struct err *err)
{
    struct disk_job j = {.r = r, .err = ERR_INIT};
    floor_time_load(&r->config);
    int rc = read_job(&j);
    if (rc < 0) {
        if (err)
            *err = j.err;
        return err_ensure(err, rc);
    }
    take(r, &j);
    if (r->id.fallback)
        log_err(LOG_WARN, &j.err, "the newest credentials cannot be read; the previous ones are used", NULL);
    r->older = r->id.fallback;
    r->unconfirmed = has_previous(r);
    return j.outcome;
}

struct tls_ctx *renew_tls(const struct renew *r)
{
    return r->tls;
}

uint32_t renew_generation(const struct renew *r)
{
    return r->id.generation;
}

int renew_start(struct renew *r, struct session *s)
{
    r->session = s;
    session_set_roots(s, buf_str(&r->id.ca_pem));
    return fiber_spawn(r->loop, "renew", renew_main, r, &r->fiber);
}

int renew_stop(struct renew *r, usec_t deadline)
{
    fiber_cancel(r->fiber);
    return r->fiber ? fiber_join(r->fiber, deadline) : 0;
}

struct renew *renew_free(struct renew *r)
{
    if (!r)
        return NULL;
    r->fiber = fiber_unref(r->fiber);
    event_release(&r->wake);
    event_release(&r->answered);
    event_release(&r->idle);
    (void)rpc_message_free(r->answer);
    agent_identity_release(&r->id);
    (void)tls_ctx_unref(r->tls);
    agent_config_release(&r->config);
    free(r);
    return NULL;
}
