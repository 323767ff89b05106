/* SPDX-License-Identifier: Apache-2.0 */
/* people — see people.h: the owner, the link, login and password. */
#include "control/people/people.h"

#include <string.h>

#include "base/mem.h"
#include "control/people/people_internal.h"
#include "ident/token.h"

#define HASH_WAIT (20 * USEC_SEC)

static void hash_of(struct str secret, uint8_t ret[PASS_HASH_SIZE])
{
    token_secret_hash(secret, ret);
}

static struct str blob(const uint8_t hash[PASS_HASH_SIZE])
{
    return (struct str){(const char *)hash, PASS_HASH_SIZE};
}

/* --- Names and words --- */

static int check_name(const char *name, struct err *err)
{
    struct str s = str_from(name);
    bool good = s.n > 0 && s.n <= PERSON_NAME_MAX;
    for (size_t i = 0; good && i < s.n; i++)
        good = memchr("abcdefghijklmnopqrstuvwxyz0123456789._@-", s.p[i], 40) != NULL;
    if (good)
        return 0;
    return err_set(err, ERR_INVALID, "name: 1 to %d of a-z, 0-9, '.', '_', '@' and '-'", PERSON_NAME_MAX);
}

bool people_have_owner(const struct people *p)
{
    return *p->owner.id != '\0';
}

const char *people_owner(const struct people *p)
{
    return *p->owner.name ? p->owner.name : PERSON_DEFAULT_NAME;
}

/* --- Passwords are looked at on the lane --- */

struct hashing {
    struct str password, against; /* against empty: makes one */
    char text[PASSWORD_TEXT_SIZE];
    struct err err;
};

static int hash_on_lane(void *arg)
{
    struct hashing *h = arg;
    return h->against.n ? password_verify(h->against, h->password, &h->err) : password_hash(h->password, h->text, &h->err);
}

/* Waits. As password_verify, or password_hash. */
static int work(struct people *p, struct hashing *h, struct err *err)
{
    int rc = lane_call(p->lane, hash_on_lane, h, deadline_in(HASH_WAIT));
    if (rc == -(int)ERR_EXHAUSTED && h->err.code == ERR_OK) {
        (void)err_set(err, ERR_EXHAUSTED, "too many logins at once");
        err_hint(err, "try again in some seconds");
    } else if (rc < 0 && h->err.code != ERR_OK && err) {
        *err = h->err;
    }
    return rc < 0 ? err_ensure(err, rc) : rc;
}

/* --- The audit log --- */

/* @r: who, what and from where. */
static void entry(struct audit_record *r, const struct people_door *door, const char *action)
{
    *r = (struct audit_record){.count = 1};
    audit_who_call(r, door->call);
    audit_what(r, action, *door->host ? door->host : "-");
}

static int refused(struct people *p, const struct people_door *door, const char *action, const struct err *err)
{
    struct audit_record r;
    entry(&r, door, action);
    audit_refused(p->control, &r, action, *door->host ? door->host : "-", err);
    return -(int)err->code;
}

/* 0, or -ERR_EXHAUSTED: told, and in the log. */
static int take_turn(struct people *p, const struct people_door *door, const char *account, const char *action, struct err *err)
{
    usec_t wait = 0;
    struct err own = ERR_INIT;
    if (logins_take(p->logins, str_from(account), door->local, door->host, clock_mono(), &wait) == 0)
        return 0;
    (void)err_set(&own, ERR_EXHAUSTED, "too many attempts");
    err_hint(&own, "try again in %llu s", (unsigned long long)wait / USEC_SEC + 1);
    if (err)
        *err = own;
    return refused(p, door, action, &own);
}

/* --- The link --- */

struct link_job {
    uint8_t hash[PASS_HASH_SIZE];
    usec_t now, expires;
};

static int insert_link(struct db *db, void *arg, struct err *err)
{
    const struct link_job *j = arg;
    int rc = db_exec(db, err, "DELETE FROM setup_links", "");
    if (rc < 0)
        return rc;
    return db_exec(db, err, "INSERT INTO setup_links (id, hash, created_us, expires_us) VALUES ('owner', ?, ?, ?)", "bii", blob(j->hash),
                   (int64_t)j->now, (int64_t)j->expires);
}

int people_setup_link(struct people *p, usec_t life, char ret_secret[PASS_SECRET_TEXT + 1], usec_t *ret_expires, struct err *err)
{
    struct link_job j = {.now = clock_real()};
    j.expires = j.now + life;
    pass_secret(ret_secret, j.hash);
    *ret_expires = j.expires;
    return store_write(p->control->store, insert_link, &j, deadline_in(STORE_WAIT), err);
}

/* 1: there is no such link. */
static int find_link(struct db *db, void *arg, struct err *err)
{
    const struct link_job *j = arg;
    int64_t found = 0;
    return db_get_i64(db, &found, err, "SELECT 1 FROM setup_links WHERE hash = ? AND expires_us > ?", "bi", blob(j->hash), (int64_t)j->now);
}

/* --- Sessions in their transactions --- */

struct new_session {
    struct people *people;
    const struct people_door *door;
    const char *password; /* the text that was verified, or the new one */
    const char *was;      /* with a change: the one before */
    struct person person;
    uint8_t link[PASS_HASH_SIZE];
    char out[PASS_ID_SIZE]; /* the session that makes room; "" none has to */
    struct pass *pass;
    struct audit_record *record;
};

static int insert_session(struct db *db, const struct new_session *j, struct err *err)
{
    const struct pass *s = j->pass;
    return db_exec(db, err,
                   "INSERT INTO sessions (id, person_id, hash, created_us, used_us, expires_us, address, user_agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                   "ttbiiitt", s->id, s->person, blob(s->hash), (int64_t)s->created, (int64_t)s->used, (int64_t)s->expires, s->from, s->agent);
}

static int end_with(struct db *db, const struct new_session *j, struct err *err)
{
    int rc = insert_session(db, j, err);
    return rc < 0 ? rc : audit_append(db, j->record, err);
}

/* A session that is not in the passes yet, and its secret. */
static struct pass *make_session(const struct people_door *door, const struct person *person, char secret[PASS_SECRET_TEXT + 1])
{
    struct pass *s = pass_new(PASS_SESSION);
    rng_uuid(s->id);
    session_secret(door->local, secret, s->hash);
    s->scope = SCOPE_ADMIN;
    s->created = s->used = clock_real();
    s->expires = s->created + SESSION_LIFE;
    (void)str_copy(s->person, sizeof(s->person), str_from(person->id));
    (void)str_copy(s->name, sizeof(s->name), str_from(person->name));
    (void)str_copy(s->from, sizeof(s->from), str_from(door->host));
    (void)str_copy(s->agent, sizeof(s->agent), str_from(door->agent));
    return s;
}

/* The new session is who acts from here on. */
static void acts(struct audit_record *r, const struct pass *s)
{
    AUTO_FREE char *who = str_printf("person:%s", s->name);
    audit_who(r, who, s->id);
    audit_how(r, AUDIT_OK, NULL);
}

static void keep_person(struct people *p, const struct person *person)
{
    AUTO_FREE char *old = p->owner.password;
    p->owner = *person;
    p->owner.password = str_dup(str_from(person->password));
    if (old)
        explicit_bzero(old, strlen(old));
}

/* --- Setting up --- */

/* 1: the link was used meanwhile. */
static int write_owner(struct db *db, void *arg, struct err *err)
{
    const struct new_session *j = arg;
    int64_t now = (int64_t)j->pass->created, other = 0;
    int rc = db_get_i64(db, &other, err, "SELECT 1 FROM people WHERE role = 'owner' AND id <> ?", "t", j->person.id);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    rc = db_exec(db, err, "DELETE FROM setup_links WHERE hash = ? AND expires_us > ?", "bi", blob(j->link), now);
    if (rc == 0 && db_changes(db) != 1)
        return 1;
    if (rc == 0)
        rc = db_exec(db, err,
                     "INSERT INTO people (id, name, role, password, created_us, changed_us) VALUES (?, ?, 'owner', ?, ?, ?)"
                     " ON CONFLICT (id) DO UPDATE SET name = excluded.name, password = excluded.password, changed_us = excluded.changed_us",
                     "tttii", j->person.id, j->person.name, j->password, now, now);
    if (rc == 0)
        rc = db_exec(db, err, "DELETE FROM sessions WHERE person_id = ?", "t", j->person.id);
    return rc < 0 ? rc : end_with(db, j, err);
}

static int no_link(struct people *p, const struct people_door *door, struct err *err)
{
    struct err own = ERR_INIT;
    (void)err_set(&own, ERR_DENIED, "this link was used, replaced or is too old");
    err_hint(&own, "on the machine of the control plane: davit dashboard --reset makes a new one");
    if (err)
        *err = own;
    return refused(p, door, "setup", &own);
}

static int set_up(struct people *p, struct new_session *j, const char *password, char ret_secret[PASS_SECRET_TEXT + 1], struct err *err)
{
    struct hashing h = {.password = str_from(password), .err = ERR_INIT};
    struct audit_record r;
    int rc = work(p, &h, err);
    if (rc < 0)
        return rc;
    entry(&r, j->door, "setup");
    j->password = j->person.password = h.text;
    j->pass = make_session(j->door, &j->person, ret_secret);
    j->record = &r;
    acts(&r, j->pass);
    rc = store_write(p->control->store, write_owner, j, deadline_in(STORE_WAIT), err);
    if (rc == 0) {
        audit_touched(p->control);
        keep_person(p, &j->person);
        (void)passes_end_sessions(p->control->passes, NULL, "the password was set anew", j->door->call);
        passes_add(p->control->passes, j->pass);
    } else {
        pass_free(j->pass);
    }
    explicit_bzero(h.text, sizeof(h.text));
    return rc;
}

int people_set_up(struct people *p, const struct people_door *door, const char *secret, const char *name, const char *password,
                  char ret_secret[PASS_SECRET_TEXT + 1], struct pass **ret, struct err *err)
{
    struct link_job look = {.now = clock_real()};
    struct new_session j = {.people = p, .door = door, .person = p->owner};
    int rc = take_turn(p, door, "", "setup", err);
    if (rc < 0)
        return rc;
    hash_of(str_from(secret), look.hash);
    memcpy(j.link, look.hash, sizeof(j.link));
    rc = store_read(p->control->store, find_link, &look, deadline_in(STORE_WAIT), err);
    if (rc == 1)
        return no_link(p, door, err);
    if (rc == 0)
        rc = password_check(str_from(password), err);
    if (rc == 0)
        rc = check_name(*text(name) ? name : people_owner(p), err);
    if (rc < 0)
        return rc;
    (void)str_copy(j.person.name, sizeof(j.person.name), str_from(*text(name) ? name : people_owner(p)));
    if (!*j.person.id)
        rng_uuid(j.person.id);
    rc = set_up(p, &j, password, ret_secret, err);
    if (rc == 0)
        *ret = j.pass;
    return rc == 1 ? no_link(p, door, err) : rc;
}

/* --- Login --- */

/* 1: the password is another one by now. */
static int write_login(struct db *db, void *arg, struct err *err)
{
    const struct new_session *j = arg;
    int64_t there = 0;
    int rc = db_get_i64(db, &there, err, "SELECT 1 FROM people WHERE id = ? AND password = ?", "tt", j->person.id, j->password);
    if (rc != 0)
        return rc;
    rc = db_exec(db, err, "DELETE FROM sessions WHERE id = ? OR id = ?", "tt", j->door->before, j->out);
    return rc < 0 ? rc : end_with(db, j, err);
}

static int wrong(struct people *p, const struct people_door *door, struct err *err)
{
    struct err own = ERR_INIT;
    (void)err_set(&own, ERR_UNAUTHENTICATED, "the name or the password is wrong");
    err_hint(&own, "forgotten? On the machine of the control plane: davit dashboard --reset");
    if (err)
        *err = own;
    return refused(p, door, "login", &own);
}

static int begin_session(struct people *p, struct new_session *j, char ret_secret[PASS_SECRET_TEXT + 1], struct err *err)
{
    struct passes *passes = p->control->passes;
    struct audit_record r;
    entry(&r, j->door, "login");
    j->pass = make_session(j->door, &j->person, ret_secret);
    j->record = &r;
    acts(&r, j->pass);
    if (passes_count(passes, PASS_SESSION) >= SESSIONS_MAX)
        (void)str_copy(j->out, sizeof(j->out), str_from(passes_stalest(passes)->id));
    int rc = store_write(p->control->store, write_login, j, deadline_in(STORE_WAIT), err);
    if (rc != 0) {
        pass_free(j->pass);
        return rc;
    }
    audit_touched(p->control);
    logins_good(p->logins, str_from(j->person.name), j->door->local);
    struct pass *before = passes_find(passes, PASS_SESSION, j->door->before), *out = passes_find(passes, PASS_SESSION, j->out);
    if (before)
        passes_end(passes, before, "this browser has logged in anew", j->door->call);
    if (out && out != before)
        passes_end(passes, out, "this session made room for a newer one", j->door->call);
    while (passes_count(passes, PASS_SESSION) >= SESSIONS_MAX) /* others came at the same moment */
        passes_end(passes, passes_stalest(passes), "this session made room for a newer one", j->door->call);
    passes_add(passes, j->pass);
    return 0;
}

int people_login(struct people *p, const struct people_door *door, const char *name, const char *password, char ret_secret[PASS_SECRET_TEXT + 1],
                 struct pass **ret, struct err *err)
{
    bool known = people_have_owner(p) && str_eq(str_from(name), str_from(p->owner.name));
    AUTO_FREE char *kept = str_dup(str_from(known ? p->owner.password : password_nobody()));
    struct hashing h = {.password = str_from(password), .against = str_from(kept), .err = ERR_INIT};
    struct new_session j = {.people = p, .door = door, .person = p->owner, .password = kept};
    int rc = check_name(name, NULL) < 0 || password_check(h.password, NULL) < 0 ? 1 : 0;
    int turn = take_turn(p, door, rc == 0 ? name : "", "login", err);
    if (turn < 0)
        return turn;
    /* Nobody can have it: told without the work, which tells nothing. */
    if (rc == 0)
        rc = work(p, &h, err);
    if (rc == 0 && known)
        rc = begin_session(p, &j, ret_secret, err);
    else if (rc == 0)
        rc = 1;
    explicit_bzero(kept, strlen(kept));
    if (rc == 0)
        *ret = j.pass;
    return rc == 1 ? wrong(p, door, err) : rc;
}

/* --- Another password --- */

/* 1: it is another one by now. */
static int write_password(struct db *db, void *arg, struct err *err)
{
    const struct new_session *j = arg;
    int rc = db_exec(db, err, "UPDATE people SET password = ?, changed_us = ? WHERE id = ? AND password = ?", "titt", j->password,
                     (int64_t)j->pass->created, j->person.id, j->was);
    if (rc == 0 && db_changes(db) != 1)
        return 1;
    if (rc == 0)
        rc = db_exec(db, err, "DELETE FROM sessions WHERE person_id = ?", "t", j->person.id);
    return rc < 0 ? rc : end_with(db, j, err);
}

static int wrong_old(struct people *p, const struct people_door *door, struct err *err)
{
    struct err own = ERR_INIT;
    (void)err_set(&own, ERR_DENIED, "the old password is wrong");
    if (err)
        *err = own;
    return refused(p, door, "password", &own);
}

static int change(struct people *p, struct new_session *j, const char *password, char ret_secret[PASS_SECRET_TEXT + 1], struct err *err)
{
    struct hashing h = {.password = str_from(password), .err = ERR_INIT};
    struct audit_record r;
    int rc = work(p, &h, err);
    if (rc < 0)
        return rc;
    entry(&r, j->door, "password");
    audit_how(&r, AUDIT_OK, NULL);
    j->password = j->person.password = h.text;
    j->pass = make_session(j->door, &j->person, ret_secret);
    j->record = &r;
    rc = store_write(p->control->store, write_password, j, deadline_in(STORE_WAIT), err);
    if (rc == 0) {
        audit_touched(p->control);
        keep_person(p, &j->person);
        (void)passes_end_sessions(p->control->passes, NULL, "the password was changed", j->door->call);
        passes_add(p->control->passes, j->pass);
    } else {
        pass_free(j->pass);
    }
    explicit_bzero(h.text, sizeof(h.text));
    return rc;
}

int people_change_password(struct people *p, const struct people_door *door, const char *old, const char *password,
                           char ret_secret[PASS_SECRET_TEXT + 1], struct pass **ret, struct err *err)
{
    AUTO_FREE char *kept = str_dup(str_from(p->owner.password));
    struct hashing h = {.password = str_from(old), .against = str_from(kept), .err = ERR_INIT};
    struct new_session j = {.people = p, .door = door, .person = p->owner, .was = kept};
    int rc = password_check(str_from(password), err);
    if (rc == 0)
        rc = take_turn(p, door, p->owner.name, "password", err);
    if (rc == 0)
        rc = password_check(h.password, NULL) < 0 ? 1 : work(p, &h, err);
    if (rc == 0)
        rc = change(p, &j, password, ret_secret, err);
    if (rc == 0) {
        logins_good(p->logins, str_from(p->owner.name), door->local);
        *ret = j.pass;
    }
    explicit_bzero(kept, strlen(kept));
    return rc == 1 ? wrong_old(p, door, err) : rc;
}

/* --- Start and end --- */

static int load_owner(struct db *db, void *arg, struct err *err)
{
    struct people *p = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, "SELECT id, name, password FROM people WHERE role = 'owner' ORDER BY created_us LIMIT 1", "");
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc;
    (void)str_copy(p->owner.id, sizeof(p->owner.id), row_text(rows, 0));
    (void)str_copy(p->owner.name, sizeof(p->owner.name), row_text(rows, 1));
    free(p->owner.password);
    p->owner.password = str_dup(row_text(rows, 2));
    return 0;
}

struct people *people_new(struct control *c)
{
    struct people *p = NEW(struct people);
    p->control = c;
    p->logins = logins_new();
    p->lane = lane_new(c->loop, "passwords", PEOPLE_HASHES, PEOPLE_WAITING);
    return p;
}

int people_load(struct people *p, struct err *err)
{
    int rc = store_read_sync(p->control->store, load_owner, p, err);
    return rc < 0 ? rc : passes_load(p->control->passes, err);
}

struct people *people_free(struct people *p)
{
    if (!p)
        return NULL;
    p->lane = lane_free(p->lane);
    p->logins = logins_free(p->logins);
    free(p->owner.password);
    free(p);
    return NULL;
}
