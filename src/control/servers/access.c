/* SPDX-License-Identifier: Apache-2.0 */
/* access — see access.h. */
#include "control/servers/access.h"

#include <unistd.h>

#include "base/mem.h"
#include "control/bucket.h"
#include "ident/key.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"
#include "ident/proof.h"

int access_start(struct control *c, struct err *err)
{
    return access_load(c->opt.state_dir, &c->access_key, &c->access_old, err);
}

int access_load(const char *dir, struct key **ret, struct key **ret_old, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/" ACCESS_KEY_FILE, dir), *old = str_printf("%s/" PKI_OLD_ACCESS, dir);
    AUTO_KEY key = NULL;
    struct cert_roots roots;
    int rc = key_load_or_make(path, &key, err);
    if (rc == 0)
        rc = pki_control_roots(dir, &roots, err);
    /* One that a crash left behind the end of a change is none. */
    if (rc == 0 && roots.n > 1 && access(old, F_OK) == 0)
        rc = key_load(old, ret_old, err);
    if (rc == 0)
        *ret = TAKE(key);
    return rc;
}

void access_take(struct control *c, struct key *key, struct key *old)
{
    c->access_key = key_free(c->access_key);
    c->access_old = key_free(c->access_old);
    c->access_key = key;
    c->access_old = old;
}

size_t access_jwks(const struct control *c, struct jwk ret[ACCESS_KEYS])
{
    const struct key *const keys[ACCESS_KEYS] = {c->access_key, c->access_old};
    size_t n = 0;
    for (size_t i = 0; i < ACCESS_KEYS; i++)
        n += keys[i] && jwk_of_key(keys[i], &ret[n], NULL) == 0;
    return n;
}

int access_judge(const struct control *c, struct str token, struct jwt_claims *ret, struct err *err)
{
    int rc = jwt_verify(c->access_key, token, clock_real(), ret, err);
    if (rc < 0 && c->access_old && jwt_verify(c->access_old, token, clock_real(), ret, NULL) == 0) {
        *err = ERR_INIT;
        return 0;
    }
    if (rc < 0)
        err_hint(err, "the agent asks for another one by itself; if it does not, look at its clock and at: davit-agent doctor");
    return rc;
}

int access_sign(const struct control *c, const char *server_id, uint32_t generation, const uint8_t key_hash[SPKI_HASH_SIZE],
                struct buf *out, struct jwt_claims *ret, struct err *err)
{
    uint8_t id[(JWT_ID_SIZE - 1) / 2];
    usec_t life = credentials_life(c), now = clock_real() / USEC_SEC * USEC_SEC;
    struct jwt_claims k = {.generation = generation, .issued = now, .not_before = now};
    life = life < USEC_SEC ? USEC_SEC : life > JWT_LIFE_MAX ? JWT_LIFE_MAX : life / USEC_SEC * USEC_SEC;
    k.expires = now + life;
    rng_bytes(id, sizeof(id));
    id[0] |= 0x10; /* serials lose zeros in front */
    str_hex(id, sizeof(id), k.id);
    (void)str_copy(k.subject, sizeof(k.subject), str_from(server_id));
    memcpy(k.key_hash, key_hash, sizeof(k.key_hash));
    int rc = jwt_make(c->access_key, &k, out, err);
    if (rc == 0)
        *ret = k;
    return rc;
}

/* --- The key of a token --- */

struct key_job {
    const char *id, *server_id;
    uint32_t generation; /* where id is NULL */
    struct buf *spki;
};

/* 1: there is none. */
static int read_key(struct db *db, void *arg, struct err *err)
{
    struct key_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc =
        db_query(db, &rows, err, "SELECT spki, chain FROM certificates WHERE server_id = ? AND (serial = ? OR generation = ?)",
                 "tti", j->server_id, j->id ? j->id : "", j->id ? (int64_t)-1 : (int64_t)j->generation);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    if (row_blob(rows, 0).n)
        return buf_append_str(j->spki, row_blob(rows, 0));
    return row_text(rows, 1).n ? cert_pem_spki(row_text(rows, 1), j->spki, err) : 1;
}

int access_key(struct control *c, const char *id, const char *server_id, struct buf *spki, struct err *err)
{
    struct key_job j = {.id = id, .server_id = server_id, .spki = spki};
    return store_read(c->store, read_key, &j, deadline_in(STORE_WAIT), err);
}

/* --- The next token --- */

struct issue {
    struct server *s;
    const struct jwt_claims *claims;
    struct str spki;
    usec_t keep_after;
    struct audit_record *entry;
};

/* 1: no longer what it was when we looked. */
static int record(struct db *db, void *arg, struct err *err)
{
    const struct issue *i = arg;
    int64_t next = i->claims->generation;
    const struct credential_new n = {i->claims->id, i->claims->generation, i->claims->issued, i->claims->expires, STR(""),
                                     i->spki};
    int rc = db_exec(db, err, "UPDATE servers SET generation = ? WHERE id = ? AND generation = ? AND oldest <= generation", "iti",
                     next, i->claims->subject, next - 1);
    if (rc < 0)
        return rc;
    if (db_changes(db) != 1)
        return 1;
    rc = credentials_insert(db, i->claims->subject, &n, err);
    /* As of certificates: of those that never connected, too, only the last ones are kept. */
    if (rc == 0)
        rc = db_exec(db, err,
                     "DELETE FROM certificates WHERE server_id = ? AND generation <> (SELECT oldest FROM servers WHERE id = ?)"
                     " AND (generation < ? OR (generation < (SELECT oldest FROM servers WHERE id = ?) AND expires_us < ?))",
                     "ttiti", i->claims->subject, i->claims->subject, next - CREDENTIALS_KEPT, i->claims->subject, (int64_t)i->keep_after);
    return rc < 0 ? rc : audit_append(db, i->entry, err);
}

/* Signs and records it. */
static int make_next(struct server *s, struct str spki, struct audit_record *entry, struct credential *ret, struct err *err)
{
    struct control *c = s->control;
    struct err none = ERR_INIT;
    struct jwt_claims claims;
    uint8_t hash[SPKI_HASH_SIZE];
    usec_t now = clock_real(), grace = credentials_grace(c);
    proof_spki_hash(spki, hash);
    int rc = access_sign(c, s->id, s->generation + 1, hash, &ret->token, &claims, err);
    if (rc < 0)
        return rc;
    struct issue i = {.s = s, .claims = &claims, .spki = spki, .keep_after = now > grace ? now - grace : 0, .entry = entry};
    audit_what(entry, NULL, s->name);
    audit_how(entry, AUDIT_OK, &none);
    rc = store_write(c->store, record, &i, deadline_in(STORE_WAIT), err);
    if (rc == 1)
        return err_set(err, ERR_ABORTED, "other credentials of this server changed at the same moment; try again");
    if (rc < 0)
        return rc;
    audit_touched(c);
    if (s->gone)
        return err_set(err, ERR_UNAUTHENTICATED, "the server was removed");
    s->generation = ret->generation = claims.generation;
    server_changed(s);
    ret->token_expires = claims.expires;
    c->counters.credentials_issued++;
    log_event(LOG_INFO, "credentials issued", "server", s->name, "action", entry->action, NULL);
    return 0;
}

struct roots_job {
    const char *dir;
    struct buf *roots, *cross;
    struct err err;
};

static int read_roots(void *arg)
{
    struct roots_job *j = arg;
    return pki_control_tell(j->dir, j->roots, j->cross, &j->err);
}

/* They go along, as with a certificate: the host may have those of before a change. */
static int add_roots(struct control *c, struct credential *ret, struct err *err)
{
    struct roots_job j = {.dir = c->opt.state_dir, .roots = &ret->roots, .cross = &ret->cross, .err = ERR_INIT};
    int rc = lane_call(c->fast, read_roots, &j, deadline_in(STORE_WAIT));
    if (rc < 0 && err && j.err.code)
        *err = j.err;
    return err_ensure(err, rc);
}

int access_issue(struct server *s, const struct credential_row *present, struct audit_record *entry, struct credential *ret,
                 usec_t *ret_wait, struct err *err)
{
    AUTO_BUF spki = BUF_INIT(PROOF_SPKI_MAX);
    struct key_job j = {.server_id = s->id, .generation = present->generation, .spki = &spki};
    usec_t wait = 0;
    if (!str_eq(str_from(s->mode), STR("tunnel")))
        return err_set(err, ERR_PRECONDITION, "server \"%s\" is in %s mode, where certificates are used", s->name, s->mode);
    if (bucket_take(&s->renewals, clock_mono(), CREDENTIALS_EVERY, CREDENTIALS_BURST, ret_wait ? ret_wait : &wait) != 0)
        return err_set(err, ERR_EXHAUSTED, "too many renewals of server \"%s\" at once", s->name);
    int rc = store_read(s->control->store, read_key, &j, deadline_in(STORE_WAIT), err);
    if (rc == 1)
        return err_set(err, ERR_UNAUTHENTICATED, "the key of generation %u of server \"%s\" is not known any more",
                       present->generation, s->name);
    if (rc == 0)
        rc = credentials_judge(s, s->generation, err);
    if (rc == 1)
        rc = -(int)ERR_UNAUTHENTICATED;
    if (rc == 0)
        rc = add_roots(s->control, ret, err);
    return rc < 0 ? rc : make_next(s, buf_str(&spki), entry, ret, err);
}
