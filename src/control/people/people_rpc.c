/* SPDX-License-Identifier: Apache-2.0 */
/* people_rpc — SessionService: who is logged in, and how one comes in. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/people/doors.h"
#include "control/web/front.h"
#include "control/people/people.h"
#include "davit/control/v1/people.pb-c.h"

#define REQUEST(type, m) ((const Davit__Control__V1__##type *)(m))

static int answer(struct rpc_call *call, const ProtobufCMessage *m, struct err *err)
{
    return rpc_send(call, m) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

/* --- What a caller brings --- */

static int open_door(struct rpc_call *call, struct people_door *ret, struct err *err)
{
    const struct caller *k = caller_of(call);
    struct conn *conn = rpc_call_conn(call);
    if (!k)
        return err_set(err, ERR_PRECONDITION, "this is for browsers, on the port of the dashboard");
    *ret = (struct people_door){.call = call, .local = k->local};
    if (conn)
        address_host(conn_peer_addr(conn), ret->host);
    audit_text(ret->agent, sizeof(ret->agent), str_from(rpc_call_metadata(call, "user-agent")));
    if (k->pass && k->pass->kind == PASS_SESSION && !k->exchanged)
        (void)str_copy(ret->before, sizeof(ret->before), str_from(k->pass->id));
    return 0;
}

/* Who is logged in themselves: not a token, nor the certificate of the CLI. */
static int need_session(const struct people_door *door, struct err *err)
{
    return *door->before ? 0 : err_set(err, ERR_DENIED, "only who is logged in may do this, not an API token");
}

static int give_cookie(const struct people_door *door, const char *secret, struct err *err)
{
    char cookie[DOOR_COOKIE_SIZE];
    doors_set_cookie(door->local, secret, cookie);
    int rc = rpc_call_set_header(door->call, "set-cookie", str_from(cookie));
    explicit_bzero(cookie, sizeof(cookie));
    return rc < 0 ? err_set(err, ERR_CANCELLED, "the caller went away") : 0;
}

static void wipe(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
}

/* --- Addresses --- */

enum { LINK_URLS_MAX = 3, URL_MAX = 512 };

struct urls {
    struct buf text[LINK_URLS_MAX];
    char *at[LINK_URLS_MAX];
    size_t n;
};

static void urls_release(struct urls *u)
{
    for (size_t i = 0; i < LINK_URLS_MAX; i++)
        secret_buf_release(&u->text[i]);
}

static void add_url(struct urls *u, const char *secret)
{
    struct buf *b = &u->text[u->n];
    int rc = *secret ? buf_printf(b, "/setup#%s", secret) : buf_append_byte(b, '/');
    for (size_t i = 0; rc == 0 && i < u->n; i++)
        if (str_eq(buf_str(b), buf_str(&u->text[i])))
            rc = 1;
    if (rc == 0)
        u->at[u->n++] = lend(buf_cstr(b));
    else
        buf_clear(b);
}

/* Where the dashboard is, the nearest first; with the secret of a link, or "". */
static void find_urls(const struct control *c, struct urls *u, const char *secret)
{
    for (size_t i = 0; i < LINK_URLS_MAX; i++) {
        u->text[i] = BUF_INIT(URL_MAX);
        BUG_ON(!buf_reserve(&u->text[i], URL_MAX));
    }
    const char *local = front_local_addr(c);
    if (*local && buf_printf(&u->text[u->n], "http://%s", local) == 0)
        add_url(u, secret);
    if (front_base(c, NULL, true, &u->text[u->n], NULL) == 0)
        add_url(u, secret);
    else
        buf_clear(&u->text[u->n]);
    if (front_base(c, NULL, false, &u->text[u->n], NULL) == 0)
        add_url(u, secret);
}

/* --- Coming in --- */

/* @ret, filled for @pass, which it borrows from. */
static Davit__Control__V1__Person *person_of(const struct pass *pass, Davit__Control__V1__Person *ret)
{
    ret->name = lend(pass->name);
    ret->role = lend("owner");
    return ret;
}

/* Where @rc says that a session began: its secret goes into the cookie. Here it is gone in any case. */
static int hand_over(const struct people_door *door, int rc, char secret[PASS_SECRET_TEXT + 1], struct err *err)
{
    if (rc == 0)
        rc = give_cookie(door, secret, err);
    explicit_bzero(secret, PASS_SECRET_TEXT + 1);
    return rc;
}

static int get_session_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__GetSessionResponse m = DAVIT__CONTROL__V1__GET_SESSION_RESPONSE__INIT;
    Davit__Control__V1__Person person = DAVIT__CONTROL__V1__PERSON__INIT;
    CLEANUP(urls_release) struct urls u = {.n = 0};
    const struct caller *k = caller_of(call);
    (void)request;
    m.owner_exists = people_have_owner(c->people);
    if (k && k->pass && k->pass->kind == PASS_SESSION) {
        m.person = person_of(k->pass, &person);
        m.session_id = k->pass->id;
        m.expires_us = k->pass->expires;
    }
    if (!k || k->pass) {
        find_urls(c, &u, "");
        m.version = lend(DAVIT_VERSION);
        m.urls = u.at;
        m.n_urls = u.n;
    }
    return answer(call, &m.base, err);
}

static int set_up_owner_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__SetUpOwnerRequest *r = REQUEST(SetUpOwnerRequest, request);
    Davit__Control__V1__SetUpOwnerResponse m = DAVIT__CONTROL__V1__SET_UP_OWNER_RESPONSE__INIT;
    Davit__Control__V1__Person person = DAVIT__CONTROL__V1__PERSON__INIT;
    struct people_door door;
    struct pass *pass = NULL;
    char secret[PASS_SECRET_TEXT + 1] = "";
    int rc = open_door(call, &door, err);
    if (rc == 0)
        rc = people_set_up(c->people, &door, text(r->secret), text(r->name), text(r->password), secret, &pass, err);
    wipe(r->password);
    wipe(r->secret);
    rc = hand_over(&door, rc, secret, err);
    if (rc < 0)
        return rc;
    log_event(LOG_NOTICE, "the password of the dashboard's owner was set", "name", pass->name, "from", door.host, NULL);
    m.person = person_of(pass, &person);
    return answer(call, &m.base, err);
}

static int login_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__LoginRequest *r = REQUEST(LoginRequest, request);
    Davit__Control__V1__LoginResponse m = DAVIT__CONTROL__V1__LOGIN_RESPONSE__INIT;
    Davit__Control__V1__Person person = DAVIT__CONTROL__V1__PERSON__INIT;
    struct people_door door;
    struct pass *pass = NULL;
    char secret[PASS_SECRET_TEXT + 1] = "";
    int rc = open_door(call, &door, err);
    if (rc == 0)
        rc = people_login(c->people, &door, text(r->name), text(r->password), secret, &pass, err);
    wipe(r->password);
    rc = hand_over(&door, rc, secret, err);
    if (rc < 0)
        return rc;
    m.person = person_of(pass, &person);
    return answer(call, &m.base, err);
}

static int logout_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__LogoutResponse m = DAVIT__CONTROL__V1__LOGOUT_RESPONSE__INIT;
    struct people_door door;
    (void)request;
    int rc = open_door(call, &door, err);
    if (rc == 0 && *door.before)
        rc = people_logout(c->people, &door, err);
    if (rc == 0)
        rc = give_cookie(&door, NULL, err);
    return rc < 0 ? rc : answer(call, &m.base, err);
}

static int change_password_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__ChangePasswordRequest *r = REQUEST(ChangePasswordRequest, request);
    Davit__Control__V1__ChangePasswordResponse m = DAVIT__CONTROL__V1__CHANGE_PASSWORD_RESPONSE__INIT;
    struct people_door door;
    struct pass *pass = NULL;
    char secret[PASS_SECRET_TEXT + 1] = "";
    int rc = open_door(call, &door, err);
    if (rc == 0)
        rc = need_session(&door, err);
    if (rc == 0)
        rc = people_change_password(c->people, &door, text(r->old_password), text(r->new_password), secret, &pass, err);
    wipe(r->old_password);
    wipe(r->new_password);
    rc = hand_over(&door, rc, secret, err);
    return rc < 0 ? rc : answer(call, &m.base, err);
}

/* --- The link --- */

static int create_setup_link_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__CreateSetupLinkRequest *r = REQUEST(CreateSetupLinkRequest, request);
    Davit__Control__V1__CreateSetupLinkResponse m = DAVIT__CONTROL__V1__CREATE_SETUP_LINK_RESPONSE__INIT;
    CLEANUP(urls_release) struct urls u = {.n = 0};
    char secret[PASS_SECRET_TEXT + 1] = "";
    usec_t life = r->ttl_s ? r->ttl_s * USEC_SEC : SETUP_LINK_LIFE, expires = 0;
    /* Who has a session or a token must not come by the password with it. */
    if (caller_of(call))
        return err_set(err, ERR_DENIED, "only the certificate of the CLI may make this link");
    if (r->ttl_s > SETUP_LINK_LIFE_MAX / USEC_SEC)
        return err_set(err, ERR_INVALID, "ttl_s: at most %llu", (unsigned long long)(SETUP_LINK_LIFE_MAX / USEC_SEC));
    if (!*front_local_addr(c) && !*front_addr(c)) {
        (void)err_set(err, ERR_PRECONDITION, "the dashboard is served at no address");
        err_hint(err, "davit up --local-web-listen 127.0.0.1:7441 serves it on this machine; is that port taken?");
        return -(int)ERR_PRECONDITION;
    }
    int rc = people_setup_link(c->people, life, secret, &expires, err);
    if (rc == 0) {
        find_urls(c, &u, secret);
        m.url = u.n ? u.at[0] : NULL;
        m.urls = u.at;
        m.n_urls = u.n;
        m.expires_us = expires;
        m.owner_exists = people_have_owner(c->people);
        rc = answer(call, &m.base, err);
    }
    explicit_bzero(secret, sizeof(secret));
    return rc;
}

/* --- Sessions --- */

static int list_sessions_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__ListSessionsResponse m = DAVIT__CONTROL__V1__LIST_SESSIONS_RESPONSE__INIT;
    const struct caller *k = caller_of(call);
    unsigned n = passes_count(c->passes, PASS_SESSION);
    (void)request;
    AUTO_FREE Davit__Control__V1__Session *v = mem_zalloc(n + 1, sizeof(*v));
    AUTO_FREE Davit__Control__V1__Session **at = mem_zalloc(n + 1, sizeof(*at));
    for (struct pass *s = passes_next(c->passes, PASS_SESSION, NULL); s; s = passes_next(c->passes, PASS_SESSION, s)) {
        Davit__Control__V1__Session *out = at[m.n_sessions] = &v[m.n_sessions];
        m.n_sessions++;
        davit__control__v1__session__init(out);
        out->id = s->id;
        out->current = k && k->pass == s;
        out->created_us = s->created;
        out->used_us = s->used;
        out->expires_us = s->expires;
        out->address = s->from;
        out->user_agent = s->agent;
    }
    m.sessions = at;
    return answer(call, &m.base, err);
}

static int revoke_session_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__RevokeSessionRequest *r = REQUEST(RevokeSessionRequest, request);
    Davit__Control__V1__RevokeSessionResponse m = DAVIT__CONTROL__V1__REVOKE_SESSION_RESPONSE__INIT;
    const struct caller *k = caller_of(call);
    const char *own = k && k->pass && k->pass->kind == PASS_SESSION && !k->exchanged ? k->pass->id : "";
    char keep[PASS_ID_SIZE];
    if (!r->all_others && !*text(r->session_id))
        return err_set(err, ERR_INVALID, "session_id: name one, or set all_others");
    (void)str_copy(keep, sizeof(keep), str_from(r->all_others ? own : r->session_id));
    int rc = people_revoke_session(c->people, keep, r->all_others, call, &m.revoked, err);
    return rc < 0 ? rc : answer(call, &m.base, err);
}

CONTROL_HANDLER(get_session_run)
CONTROL_HANDLER(create_setup_link_run)
CONTROL_HANDLER(set_up_owner_run)
CONTROL_HANDLER(login_run)
CONTROL_HANDLER(logout_run)
CONTROL_HANDLER(list_sessions_run)
CONTROL_HANDLER(revoke_session_run)
CONTROL_HANDLER(change_password_run)

const struct rpc_handler people_handlers[] = {
    {.run = get_session_run_tracked},   {.run = create_setup_link_run_tracked}, {.run = set_up_owner_run_tracked},
    {.run = login_run_tracked},         {.run = logout_run_tracked},            {.run = list_sessions_run_tracked},
    {.run = revoke_session_run_tracked}, {.run = change_password_run_tracked},
};
