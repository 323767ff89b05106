/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_identity — who a sandbox is: its certificate and assertion, what it exchanges that for, and its registration. The agent of its server
 * relays:
 * the thumbprint is that of the handshake which it saw, the container the one that has the peer's address. We decide, and write.
 *   certify   a key of a container that runs a sandbox which this server was told to make; the first container has it until it is gone. A renewal
 *             leaves the certificate that its supervisor shows at that moment good, until the agent has seen the new one
 *   exchange  the assertion, once: its jti is on disk before the answer leaves (oauth.h, the same table); bound to thumbprint and container
 *   register  the token, and that certificate, labels, container and project all say what we know of the sandbox
 * Assertions and tokens are signed with the key of access.h, and are told apart from all others by issuer and audience; the certificate of a sandbox
 * opens nothing of ours.
 * What is refused is in the audit log.  Thread: loop, fibers.  Input trust: the agent may speak for the sandboxes of its server only. */
#include <string.h>

#include "base/mem.h"
#include "control/people/audit.h"
#include "control/link/links.h"
#include "control/people/oauth_internal.h"
#include "control/servers/roots.h"
#include "control/sandboxes/sandboxes.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"

enum { ASSERTION_MAX = 8 * 1024, CLIENT_SIZE = OAUTH_NAME_MAX + 1 };
static const char CLIENT[] = "davit-sandbox/", AUDIENCE[] = "davit-sandboxes", ISSUER[] = "davit://sandboxes", SCOPE[] = "agent:self:register";
#define TOKEN_LIFE (5 * USEC_MINUTE)

/* What is wrong, for the agent and the log. */
struct refusal {
    struct err err;
    const char *reason; /* static */
};

static int no(struct refusal *f, enum err_code code, const char *reason, const char *message)
{
    f->reason = reason;
    return err_set(&f->err, code, "%s", message);
}

/* Of the store and the key files: it may work the next time. */
static int broken(struct refusal *f, int rc)
{
    f->reason = "unavailable";
    return err_ensure(&f->err, rc);
}

static void fill(const struct refusal *f, Davit__Common__V1__Failure *m)
{
    davit__common__v1__failure__init(m);
    m->code = f->err.code;
    m->message = lend(f->err.msg);
    m->hint = lend(f->err.hint);
    m->reason = lend(f->reason);
}

static void actor(struct audit_record *r, const char *id, const char *thumbprint)
{
    AUTO_FREE char *who = str_printf("davit://sandbox/%.36s", id);
    *r = (struct audit_record){.count = 1};
    audit_who(r, who, thumbprint);
}

static void refused(struct server *s, const char *id, const char *thumbprint, const char *action, const struct refusal *f)
{
    struct audit_record r;
    if (f->err.code == ERR_UNAVAILABLE)
        return;
    actor(&r, id, thumbprint);
    audit_refused(s->control, &r, action, s->name, &f->err);
    log_event(LOG_WARN, "sandbox refused", "server", s->name, "sandbox", id, "action", action, "reason", f->reason, NULL);
}

static struct sandbox *of_server(struct server *s, const char *id, struct refusal *f)
{
    struct sandbox *sb = sandboxes_by_id(s->control, id);
    if (sb && strcmp(sb->server_id, s->id) == 0)
        return sb;
    (void)no(f, ERR_NOT_FOUND, "unknown_sandbox", "this server was not told to make such a sandbox");
    return NULL;
}

void sandbox_tell(struct server *s, const struct sandbox *sb, uint64_t request_id)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__SandboxVerdict v = DAVIT__LINK__V1__SANDBOX_VERDICT__INIT;
    v.request_id = request_id;
    v.sandbox_id = lend(sb->id);
    v.container_id = lend(sb->container);
    v.thumbprint = lend(sb->thumbprint);
    v.registered_at_us = sb->registered;
    if (*sb->previous && clock_real() < sb->previous_until)
        v.previous_thumbprint = lend(sb->previous);
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_VERDICT;
    m.sandbox_verdict = &v;
    (void)links_send(s->link, &m); /* lost: the agent asks again, or gets it with the next link */
}

/* --- Certify --- */

struct certify {
    const Davit__Link__V1__SandboxCertify *m;
    struct sandbox *sb;
    const char *dir;
    struct pki_issued issued;
    struct buf chain, roots, cross, assertion;
    char thumbprint[SANDBOX_HASH_SIZE], present[SANDBOX_HASH_SIZE], previous[SANDBOX_HASH_SIZE]; /* present: of the row when it was judged */
    usec_t previous_until;
    struct audit_record entry;
    struct err err;
};

/* Another sandbox, of whatever server, has that container. */
static bool is_taken(const struct certify *x)
{
    const struct sandbox *other;
    list_each(other, &x->sb->control->sandboxes->all, struct sandbox, node)
        if (other != x->sb && strcmp(other->container, text(x->m->container_id)) == 0)
            return true;
    return false;
}

static int may_certify(const struct certify *x, struct refusal *f)
{
    const struct sandbox *sb = x->sb;
    bool same = strcmp(sb->container, text(x->m->container_id)) == 0;
    if (x->m->renewal && (!*sb->thumbprint || !same))
        return no(f, ERR_PRECONDITION, "not_registered", "only a sandbox that is registered renews its certificate");
    const char *live = text(x->m->live_thumbprint);
    if (x->m->renewal && *live && strcmp(live, sb->thumbprint) != 0 && strcmp(live, sb->previous) != 0)
        return no(f, ERR_PRECONDITION, "cert_thumbprint_mismatch", "the certificate that it shows is not one that it was given");
    /* While it is being made its agent may begin anew; from the registration on the container has it until it is gone. */
    if (*sb->container && !same && (*sb->thumbprint || !sb->creating))
        return no(f, ERR_PRECONDITION, "container_taken", "another container is this sandbox, and its agent did not say that it is gone");
    return *text(x->m->container_id) && is_taken(x) ? no(f, ERR_PRECONDITION, "container_taken", "this container is another sandbox") : 0;
}

static int sign(void *arg)
{
    struct certify *x = arg;
    const struct str csr = {(const char *)x->m->csr_der.data, x->m->csr_der.len};
    int rc = pki_control_sign_sandbox(x->dir, csr, x->sb->id, text(x->m->container_id), &x->chain, &x->issued, &x->err);
    return rc < 0 ? rc : pki_control_tell(x->dir, &x->roots, &x->cross, &x->err);
}

static int make_assertion(struct certify *x, struct err *err)
{
    struct oauth_claims k = {.issued = clock_real() / USEC_SEC * USEC_SEC, .bound = true};
    uint8_t id[16];
    char hex[33];
    k.expires = k.issued + ASSERTION_LIFE_SANDBOX;
    rng_bytes(id, sizeof(id));
    str_hex(id, sizeof(id), hex);
    (void)snprintf(k.issuer, sizeof(k.issuer), "%s%s", CLIENT, x->sb->id);
    (void)snprintf(k.subject, sizeof(k.subject), "%s%s", CLIENT, x->sb->id);
    (void)str_copy(k.audience, sizeof(k.audience), str_from(AUDIENCE));
    (void)str_copy(k.id, sizeof(k.id), str_from(hex));
    (void)str_copy(k.container, sizeof(k.container), str_from(x->m->container_id));
    memcpy(k.certificate, x->issued.cert_hash, sizeof(k.certificate));
    return assertion_make_bound(x->sb->control->access_key, &k, &x->assertion, err);
}

/* 1: its row went meanwhile, or another got that container. */
static int record_certified(struct db *db, void *arg, struct err *err)
{
    struct certify *x = arg;
    int rc = x->m->renewal ? db_exec(db, err,
                                     "UPDATE sandbox_agents SET thumbprint = ?, previous = ?, previous_until_us = ?"
                                     " WHERE sandbox_id = ? AND container_id = ? AND thumbprint = ?",
                                     "ttittt", x->thumbprint, x->previous, (int64_t)x->previous_until, x->sb->id, x->m->container_id, x->present)
                           : db_exec(db, err,
                                     "UPDATE sandboxes SET container_id = ? WHERE id = ?"
                                     " AND NOT EXISTS (SELECT 1 FROM sandboxes WHERE container_id = ? AND id <> ?)",
                                     "tttt", x->m->container_id, x->sb->id, x->m->container_id, x->sb->id);
    if (rc < 0)
        return rc;
    return db_changes(db) == 1 ? audit_append(db, &x->entry, err) : 1;
}

/* Of one that is stopped nobody knows what it has: that of before, or what a start that was cut off wrote, and which the next start replaces. */
static void note_previous(struct certify *x)
{
    const struct sandbox *sb = x->sb;
    const char *live = text(x->m->live_thumbprint), *good = *live ? live : *sb->previous ? sb->previous : sb->thumbprint;
    (void)str_copy(x->present, sizeof(x->present), str_from(sb->thumbprint));
    (void)str_copy(x->previous, sizeof(x->previous), str_from(good));
    x->previous_until = clock_add(clock_real(), CERT_SANDBOX_DAYS * USEC_DAY);
}

static int certify(struct server *s, struct certify *x, struct refusal *f)
{
    struct control *c = s->control;
    int rc = may_certify(x, f);
    if (rc == 0 && (rc = lane_call(c->fast, sign, x, deadline_in(STORE_WAIT))) < 0) {
        f->err = x->err;
        f->reason = rc == -(int)ERR_INVALID ? "invalid" : "unavailable";
        return err_ensure(&f->err, rc);
    }
    if (rc < 0)
        return rc;
    str_hex(x->issued.cert_hash, sizeof(x->issued.cert_hash), x->thumbprint);
    if (!x->m->renewal && (rc = make_assertion(x, &f->err)) < 0)
        return broken(f, rc);
    note_previous(x);
    actor(&x->entry, x->sb->id, x->thumbprint);
    audit_what(&x->entry, x->m->renewal ? "sandbox.renew" : "sandbox.certify", s->name);
    audit_how(&x->entry, AUDIT_OK, NULL);
    rc = store_write(c->store, record_certified, x, deadline_in(STORE_WAIT), &f->err);
    if (rc < 0)
        return broken(f, rc);
    if (rc > 0 || x->sb->gone)
        return no(f, ERR_NOT_FOUND, "unknown_sandbox", "the sandbox was removed meanwhile");
    audit_touched(c);
    (void)str_copy(x->sb->container, sizeof(x->sb->container), str_from(x->m->container_id));
    if (x->m->renewal) {
        log_event(LOG_NOTICE, "sandbox renewed", "sandbox", x->sb->id, "before", x->sb->thumbprint, "thumbprint", x->thumbprint, NULL);
        (void)str_copy(x->sb->thumbprint, sizeof(x->sb->thumbprint), str_from(x->thumbprint));
        (void)str_copy(x->sb->previous, sizeof(x->sb->previous), str_from(x->previous));
        x->sb->previous_until = x->previous_until;
    }
    sandbox_touched(x->sb);
    return 0;
}

void sandbox_certify(struct server *s, const Davit__Link__V1__SandboxCertify *q)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__SandboxCertified a = DAVIT__LINK__V1__SANDBOX_CERTIFIED__INIT;
    Davit__Common__V1__Failure failure;
    struct refusal f = {.err = ERR_INIT, .reason = ""};
    struct certify x = {.m = q, .dir = s->control->opt.state_dir, .chain = BUF_INIT(CERT_PEM_MAX), .roots = BUF_INIT(CERT_PEM_MAX),
                        .cross = BUF_INIT(CERT_PEM_MAX), .assertion = BUF_INIT(JWS_MAX), .err = ERR_INIT};
    struct sandbox *sb = x.sb = of_server(s, text(q->sandbox_id), &f);
    int rc = sb ? certify(s, (sandbox_ref(sb), &x), &f) : -(int)ERR_NOT_FOUND;
    a.request_id = q->request_id;
    if (rc < 0) {
        refused(s, text(q->sandbox_id), "", "sandbox.certify", &f);
        fill(&f, &failure);
        a.failure = &failure;
    } else {
        a.certificate_pem = lend(buf_cstr(&x.chain));
        a.ca_pem = lend(buf_cstr(&x.roots));
        a.assertion = lend(buf_cstr(&x.assertion));
    }
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_CERTIFIED;
    m.sandbox_certified = &a;
    (void)links_send(s->link, &m); /* lost: the agent asks anew */
    if (rc == 0 && q->renewal)
        sandbox_tell(s, sb, 0);
    sandbox_unref(sb);
    buf_release(&x.chain);
    buf_release(&x.roots);
    buf_release(&x.cross);
    secret_buf_release(&x.assertion);
}

/* --- Exchange --- */

static bool is_thumbprint(const uint8_t hash[OAUTH_X5T_SIZE], const char *hex)
{
    char mine[SANDBOX_HASH_SIZE];
    str_hex(hash, OAUTH_X5T_SIZE, mine);
    return strcmp(mine, text(hex)) == 0;
}

/* Is it bound to who shows it? */
static int judge_bound(const struct oauth_claims *k, const struct sandbox *sb, const char *thumbprint, const char *container, struct refusal *f)
{
    if (!is_thumbprint(k->certificate, thumbprint))
        return no(f, ERR_UNAUTHENTICATED, "cert_thumbprint_mismatch", "it is bound to another certificate");
    if (strcmp(k->container, text(container)) != 0 || strcmp(sb->container, k->container) != 0)
        return no(f, ERR_UNAUTHENTICATED, "container_mismatch", "it is bound to another container");
    return 0;
}

static int unauthenticated(struct refusal *f)
{
    f->reason = "unauthenticated";
    return -(int)ERR_UNAUTHENTICATED;
}

static int judge_assertion(struct server *s, const Davit__Link__V1__SandboxExchange *q, struct oauth_claims *k, struct sandbox **ret,
                           struct refusal *f)
{
    static const char *const audiences[] = {AUDIENCE};
    struct assertion_rules rules = {.audiences = audiences, .n_audiences = 1, .life_max = ASSERTION_LIFE_SANDBOX, .bound = true};
    struct jws jws;
    struct jwk keys[ACCESS_KEYS];
    if (strlen(text(q->assertion)) > ASSERTION_MAX || assertion_read(str_from(text(q->assertion)), &jws, k, &f->err) < 0)
        return no(f, ERR_UNAUTHENTICATED, "unauthenticated", f->err.code ? f->err.msg : "it is too long");
    if (strncmp(k->issuer, CLIENT, sizeof(CLIENT) - 1) != 0)
        return no(f, ERR_UNAUTHENTICATED, "unauthenticated", "it is not one of a sandbox");
    *ret = of_server(s, k->issuer + sizeof(CLIENT) - 1, f);
    if (!*ret)
        return -(int)ERR_NOT_FOUND;
    size_t n = access_jwks(s->control, keys), i = 0;
    rules.client = k->issuer;
    while (i < n && assertion_judge(&jws, k, &keys[i], &rules, clock_real(), &f->err) < 0)
        i++;
    if (i == n)
        return unauthenticated(f);
    f->err = ERR_INIT;
    return judge_bound(k, *ret, q->thumbprint, q->container_id, f);
}

static int make_token(struct sandbox *sb, const struct oauth_claims *assertion, struct buf *out, usec_t *ret_expires, struct err *err)
{
    struct oauth_claims k = {.issued = clock_real() / USEC_SEC * USEC_SEC, .bound = true};
    uint8_t id[16];
    k.expires = k.issued + TOKEN_LIFE;
    rng_bytes(id, sizeof(id));
    str_hex(id, sizeof(id), k.id);
    (void)str_copy(k.issuer, sizeof(k.issuer), str_from(ISSUER));
    (void)str_copy(k.audience, sizeof(k.audience), str_from(ISSUER));
    (void)str_copy(k.subject, sizeof(k.subject), str_from(assertion->subject));
    (void)str_copy(k.client, sizeof(k.client), str_from(assertion->subject));
    (void)str_copy(k.scope, sizeof(k.scope), str_from(SCOPE));
    (void)str_copy(k.container, sizeof(k.container), str_from(assertion->container));
    memcpy(k.certificate, assertion->certificate, sizeof(k.certificate));
    *ret_expires = k.expires;
    return access_make(sb->control->access_key, &k, out, err);
}

/* Waits. From oauth_use on the assertion is used, whatever comes of it. */
static int exchange(struct server *s, const Davit__Link__V1__SandboxExchange *q, struct buf *token, usec_t *ret_expires, struct refusal *f)
{
    struct sandbox *sb = NULL;
    struct oauth_claims k;
    int rc = judge_assertion(s, q, &k, &sb, f);
    if (rc < 0)
        return rc;
    (void)sandbox_ref(sb);
    rc = oauth_use(s->control->oauth, k.issuer, k.id, k.expires, &f->err);
    if (rc == 1)
        rc = no(f, ERR_UNAUTHENTICATED, "assertion_replayed", "this assertion was used before");
    else if (rc == 2)
        rc = no(f, ERR_EXHAUSTED, "unavailable", "too many assertions of this sandbox were used");
    else
        rc = rc < 0 ? broken(f, rc) : make_token(sb, &k, token, ret_expires, &f->err);
    sandbox_unref(sb);
    return rc;
}

void sandbox_exchange(struct server *s, const Davit__Link__V1__SandboxExchange *q)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__SandboxExchanged a = DAVIT__LINK__V1__SANDBOX_EXCHANGED__INIT;
    Davit__Common__V1__Failure failure;
    AUTO_SECRET_BUF token = BUF_INIT(JWS_MAX);
    struct refusal f = {.err = ERR_INIT, .reason = ""};
    usec_t expires = 0;
    BUG_ON(!buf_reserve(&token, JWS_MAX));
    a.request_id = q->request_id;
    if (exchange(s, q, &token, &expires, &f) < 0) {
        refused(s, "-", text(q->thumbprint), "sandbox.exchange", &f);
        fill(&f, &failure);
        a.failure = &failure;
    } else {
        a.access_token = lend(buf_cstr(&token));
        a.expires_us = expires;
    }
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_EXCHANGED;
    m.sandbox_exchanged = &a;
    (void)links_send(s->link, &m); /* lost: the assertion is spent, and the agent has another one made */
}

/* --- Register --- */

struct row {
    struct sandbox *sb;
    const char *thumbprint, *container;
    usec_t now;
    struct audit_record entry;
};

/* In place of its own row only: container and certificate are one of a kind, what another has is refused. 1: the sandbox went meanwhile. */
static int write_row(struct db *db, void *arg, struct err *err)
{
    struct row *r = arg;
    int64_t n = 0;
    int rc = db_get_i64(db, &n, err, "SELECT count(*) FROM sandboxes WHERE id = ?", "t", r->sb->id);
    if (rc == 0 && n == 0)
        return 1;
    if (rc == 0)
        rc = db_exec(db, err, "DELETE FROM sandbox_agents WHERE sandbox_id = ?", "t", r->sb->id);
    if (rc == 0)
        rc = db_exec(db, err,
                     "INSERT INTO sandbox_agents (thumbprint, container_id, sandbox_id, project, name, registered_us, last_seen_us)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?)",
                     "tttttii", r->thumbprint, r->container, r->sb->id, r->sb->project, r->sb->name, (int64_t)r->now, (int64_t)r->now);
    return rc < 0 ? rc : audit_append(db, &r->entry, err);
}

/* Everything that says who it is says the same. */
static int judge_labels(const struct sandbox *sb, const Davit__Link__V1__SandboxRegister *q, struct refusal *f)
{
    const struct {
        const char *said, *known, *message;
    } all[] = {{q->sandbox_id, sb->id, "its certificate is another sandbox's than its token"},
               {q->label_name, sb->name, "the name in the labels of its container is not the one that it was made with"},
               {q->label_project, sb->project, "the project in the labels of its container is not the one that it was made with"},
               {q->agent_name, sb->name, "it calls itself by another name"},
               {q->project, sb->project, "it says that it is of another project"}};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (strcmp(text(all[i].said), all[i].known) != 0)
            return no(f, ERR_DENIED, "label_mismatch", all[i].message);
    return 0;
}

static int judge_token(struct server *s, const Davit__Link__V1__SandboxRegister *q, struct sandbox *sb, struct refusal *f)
{
    struct oauth_claims k;
    struct jwk keys[ACCESS_KEYS];
    size_t n = access_jwks(s->control, keys);
    if (!n || access_verify_any(keys, n, str_from(text(q->access_token)), ISSUER, clock_real(), &k, &f->err) < 0)
        return unauthenticated(f);
    if (strcmp(k.scope, SCOPE) != 0 || strncmp(k.subject, CLIENT, sizeof(CLIENT) - 1) != 0 ||
        strcmp(k.subject + sizeof(CLIENT) - 1, sb->id) != 0)
        return no(f, ERR_UNAUTHENTICATED, "label_mismatch", "the access token is another sandbox's");
    return judge_bound(&k, sb, q->thumbprint, q->container_id, f);
}

/* Who is not what it says is cut off until it shows itself as what it is. */
static void distrust(struct sandbox *sb, const struct refusal *f)
{
    static const char *const words[] = {"cert_thumbprint_mismatch", "container_mismatch", "label_mismatch"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(f->reason, words[i]) == 0) {
            Davit__Common__V1__Sandbox now = *sb->state;
            Davit__Common__V1__Sandbox before, *old = sb->state;
            ProtobufCMessage *copy = NULL;
            sandbox_describe(sb, &before);
            now.trust = DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_UNTRUSTED;
            now.reason = lend(f->reason);
            now.message = lend(f->err.msg);
            if (rpc_copy(&now.base, &copy) != 0)
                return;
            sb->state = (Davit__Common__V1__Sandbox *)copy;
            sandbox_changed(sb, &before);
            (void)rpc_message_free(old);
            (void)sandbox_save(sb, NULL);
            return;
        }
}

static int enter(struct server *s, const Davit__Link__V1__SandboxRegister *q, struct sandbox *sb, struct refusal *f)
{
    struct row r = {.sb = sb, .thumbprint = text(q->thumbprint), .container = text(q->container_id), .now = clock_real()};
    int rc = judge_token(s, q, sb, f);
    if (rc == 0)
        rc = judge_labels(sb, q, f);
    if (rc < 0)
        return rc;
    actor(&r.entry, sb->id, q->thumbprint);
    audit_what(&r.entry, "sandbox.register", s->name);
    audit_how(&r.entry, AUDIT_OK, NULL);
    rc = store_write(s->control->store, write_row, &r, deadline_in(STORE_WAIT), &f->err);
    if (rc == -(int)ERR_EXISTS)
        return no(f, ERR_DENIED, "container_taken", "another sandbox has this container or this certificate");
    if (rc < 0)
        return broken(f, rc);
    if (rc > 0 || sb->gone)
        return no(f, ERR_NOT_FOUND, "unknown_sandbox", "the sandbox was removed meanwhile");
    audit_touched(s->control);
    Davit__Common__V1__Sandbox before;
    char empty[] = "";
    sandbox_describe(sb, &before);
    before.thumbprint = *sb->thumbprint ? lend(r.thumbprint) : empty;
    (void)str_copy(sb->thumbprint, sizeof(sb->thumbprint), str_from(r.thumbprint));
    sb->previous[0] = '\0';
    sb->registered = sb->last_seen = sb->last_saved = r.now;
    sb->state->trust = DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_REGISTERED;
    sandbox_changed(sb, &before);
    log_event(LOG_NOTICE, "sandbox registered", "sandbox", sb->id, "name", sb->name, "thumbprint", sb->thumbprint, NULL);
    return 0;
}

void sandbox_register(struct server *s, const Davit__Link__V1__SandboxRegister *q)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__SandboxVerdict v = DAVIT__LINK__V1__SANDBOX_VERDICT__INIT;
    Davit__Common__V1__Failure failure;
    struct refusal f = {.err = ERR_INIT, .reason = ""};
    struct sandbox *sb = of_server(s, text(q->sandbox_id), &f);
    int rc = sb ? enter(s, q, sandbox_ref(sb), &f) : -(int)ERR_NOT_FOUND;
    if (rc == 0) {
        sandbox_tell(s, sb, q->request_id);
        sandbox_unref(sb);
        return;
    }
    refused(s, text(q->sandbox_id), text(q->thumbprint), "sandbox.register", &f);
    if (sb)
        distrust(sb, &f);
    fill(&f, &failure);
    v.request_id = q->request_id;
    v.failure = &failure;
    v.sandbox_id = q->sandbox_id;
    v.container_id = q->container_id;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_VERDICT;
    m.sandbox_verdict = &v;
    (void)links_send(s->link, &m); /* lost: it asks again */
    sandbox_unref(sb);
}
