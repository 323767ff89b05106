/* SPDX-License-Identifier: Apache-2.0 */
/* people_passes — see people.h: sessions and API tokens that are made and ended. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/people/people_internal.h"

/* --- Sessions --- */

struct ending {
    const char *id; /* NULL: all */
    const char *keep;
    struct audit_record *record; /* NULL: the call is in the log itself */
};

static int delete_sessions(struct db *db, void *arg, struct err *err)
{
    const struct ending *j = arg;
    int rc = j->id ? db_exec(db, err, "DELETE FROM sessions WHERE id = ?", "t", j->id)
                   : db_exec(db, err, "DELETE FROM sessions WHERE id <> ?", "t", j->keep);
    return rc < 0 || !j->record ? rc : audit_append(db, j->record, err);
}

int people_logout(struct people *p, const struct people_door *door, struct err *err)
{
    struct control *c = p->control;
    struct audit_record r = {.count = 1};
    struct ending j = {.id = door->before, .record = &r};
    audit_who_call(&r, door->call);
    audit_what(&r, "logout", *door->host ? door->host : "-");
    audit_how(&r, AUDIT_OK, NULL);
    int rc = store_write(c->store, delete_sessions, &j, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    audit_touched(c);
    struct pass *s = passes_find(c->passes, PASS_SESSION, door->before);
    if (s)
        passes_end(c->passes, s, "logged out", door->call);
    return 0;
}

int people_revoke_session(struct people *p, const char *id, bool others, struct rpc_call *call, unsigned *ret_n, struct err *err)
{
    struct control *c = p->control;
    struct ending j = {.id = others ? NULL : id, .keep = id};
    if (!others && !passes_find(c->passes, PASS_SESSION, id))
        return err_set(err, ERR_NOT_FOUND, "there is no such session");
    int rc = store_write(c->store, delete_sessions, &j, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    struct pass *s = passes_find(c->passes, PASS_SESSION, id);
    *ret_n = 0;
    if (others) {
        *ret_n = passes_end_sessions(c->passes, s, "the session was ended from another one", call);
    } else if (s) {
        passes_end(c->passes, s, "the session was ended from another one", call);
        *ret_n = 1;
    }
    return 0;
}

/* --- Tokens --- */

static int check_token_name(const char *name, struct err *err)
{
    struct str s = str_from(name);
    bool good = s.n > 0 && s.n <= PASS_NAME_MAX;
    for (size_t i = 0; good && i < s.n; i++)
        good = memchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", s.p[i], 65) != NULL;
    if (good)
        return 0;
    return err_set(err, ERR_INVALID, "name: 1 to %d letters, digits, '.', '_' and '-'", PASS_NAME_MAX);
}

static int insert_token(struct db *db, void *arg, struct err *err)
{
    const struct pass *t = arg;
    int64_t there = 0;
    int rc = db_get_i64(db, &there, err, "SELECT 1 FROM api_tokens WHERE name = ? AND revoked_us = 0 AND expires_us > ?", "ti", t->name,
                        (int64_t)t->created);
    if (rc == 0)
        return err_set(err, ERR_EXISTS, "there is an API token \"%s\" already", t->name);
    if (rc < 0)
        return rc;
    return db_exec(db, err,
                   "INSERT INTO api_tokens (id, hash, name, scope, created_by, created_us, expires_us, used_us, used_from, revoked_us)"
                   " VALUES (?, ?, ?, ?, ?, ?, ?, 0, '', 0)",
                   "tbtttii", t->id, ((struct str){(const char *)t->hash, sizeof(t->hash)}), t->name, scope_name(t->scope), t->maker,
                   (int64_t)t->created, (int64_t)t->expires);
}

/* A name that is in use, as a name or an id; or no room. */
static int check_room(struct people *p, const char *name, struct err *err)
{
    struct passes *passes = p->control->passes;
    if (passes_find(passes, PASS_API_TOKEN, name))
        return err_set(err, ERR_EXISTS, "there is an API token \"%s\" already", name);
    if (passes_count(passes, PASS_API_TOKEN) + p->making >= API_TOKENS_MAX) {
        (void)err_set(err, ERR_EXHAUSTED, "there are %d API tokens, which is the limit", API_TOKENS_MAX);
        err_hint(err, "revoke those that nobody uses: davit token ls");
        return -(int)ERR_EXHAUSTED;
    }
    return 0;
}

static struct pass *make_token(const char *name, enum pass_scope scope, usec_t expires, const char *maker, char text[API_TOKEN_TEXT_SIZE])
{
    char secret[PASS_SECRET_TEXT + 1];
    uint8_t id[API_TOKEN_ID_LEN / 2];
    struct pass *t = pass_new(PASS_API_TOKEN);
    rng_bytes(id, sizeof(id));
    str_hex(id, sizeof(id), t->id);
    pass_secret(secret, t->hash);
    t->scope = scope;
    t->created = clock_real();
    t->expires = expires;
    (void)str_copy(t->name, sizeof(t->name), str_from(name));
    (void)str_copy(t->maker, sizeof(t->maker), str_from(maker));
    (void)snprintf(text, API_TOKEN_TEXT_SIZE, "davit_%.16s_%s", t->id, secret);
    explicit_bzero(secret, sizeof(secret));
    return t;
}

int people_add_token(struct people *p, const char *name, enum pass_scope scope, usec_t expires, const char *maker,
                     char text[API_TOKEN_TEXT_SIZE], struct pass **ret, struct err *err)
{
    struct control *c = p->control;
    int rc = check_token_name(name, err);
    if (rc == 0)
        rc = check_room(p, name, err);
    if (rc < 0)
        return rc;
    struct pass *t = make_token(name, scope, expires, maker, text);
    p->making++;
    rc = store_write(c->store, insert_token, t, deadline_in(STORE_WAIT), err);
    p->making--;
    if (rc < 0) {
        explicit_bzero(text, API_TOKEN_TEXT_SIZE);
        pass_free(t);
        return rc;
    }
    passes_add(c->passes, t);
    *ret = t;
    return 0;
}

struct revoking {
    const char *id;
    usec_t now;
};

static int revoke_row(struct db *db, void *arg, struct err *err)
{
    const struct revoking *j = arg;
    return db_exec(db, err, "UPDATE api_tokens SET revoked_us = ? WHERE id = ? AND revoked_us = 0", "it", (int64_t)j->now, j->id);
}

int people_revoke_token(struct people *p, const char *name, struct rpc_call *call, struct err *err)
{
    struct control *c = p->control;
    char id[PASS_ID_SIZE];
    struct pass *t = passes_find(c->passes, PASS_API_TOKEN, name);
    if (!t) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no API token \"%.80s\" that is good", name);
        err_hint(err, "davit token ls shows them");
        return -(int)ERR_NOT_FOUND;
    }
    (void)str_copy(id, sizeof(id), str_from(t->id));
    struct revoking j = {id, clock_real()};
    int rc = store_write(c->store, revoke_row, &j, deadline_in(STORE_WAIT), err);
    t = passes_find(c->passes, PASS_API_TOKEN, id);
    if (rc == 0 && t)
        passes_end(c->passes, t, "the API token was revoked", call);
    return rc < 0 ? rc : 0;
}
