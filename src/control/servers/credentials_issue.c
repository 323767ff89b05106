/* SPDX-License-Identifier: Apache-2.0 */
/* credentials_issue — see credentials.h: the next certificate of a server. Looked at in one read, signed in the lane, recorded and counted in one
 * transaction, which does nothing when another certificate or a revocation came in between. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/bucket.h"
#include "control/servers/credentials.h"
#include "ident/jwt.h"
#include "ident/pki_roots.h"
#include "ident/proof.h"

void credential_init(struct credential *k)
{
    *k = (struct credential){
        .chain = BUF_INIT(CERT_PEM_MAX), .roots = BUF_INIT(CERT_PEM_MAX), .cross = BUF_INIT(CERT_PEM_MAX), .token = BUF_INIT(JWT_MAX)};
}

void credential_release(struct credential *k)
{
    buf_release(&k->chain);
    buf_release(&k->roots);
    buf_release(&k->cross);
    buf_release(&k->token);
}

struct job {
    const char *dir, *server_id;
    struct str csr;
    usec_t now, life, keep_after;
    struct buf spki;
    /* As stored: */
    uint32_t generation, oldest;
    uint32_t key_generation; /* of the certificate that this key has, 0: none */
    usec_t key_expires;
    char *key_chain;
    /* As made: */
    struct credential *made;
    struct pki_issued issued;
    struct audit_record *entry;
    struct err err;
};

static void job_release(struct job *j)
{
    free(j->key_chain);
    buf_release(&j->spki);
}

static int look(struct db *db, void *arg, struct err *err)
{
    struct job *j = arg;
    AUTO_ROWS rows = NULL;
    AUTO_ROWS keys = NULL;
    int rc = db_query(db, &rows, err, "SELECT generation, oldest FROM servers WHERE id = ?", "t", j->server_id);
    if (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        j->generation = (uint32_t)row_i64(rows, 0);
        j->oldest = (uint32_t)row_i64(rows, 1);
        rc = 0;
    }
    if (rc == 0)
        rc = db_query(db, &keys, err,
                      "SELECT generation, expires_us, chain FROM certificates WHERE server_id = ? AND spki = ? ORDER BY generation DESC", "tb",
                      j->server_id, buf_str(&j->spki));
    if (rc == 0 && (rc = rows_next(keys, err)) == 1) {
        j->key_generation = (uint32_t)row_i64(keys, 0);
        j->key_expires = (usec_t)row_i64(keys, 1);
        j->key_chain = str_dup(row_text(keys, 2));
    }
    return rc < 0 ? rc : 0;
}

static int sign(void *arg)
{
    struct job *j = arg;
    int rc = pki_control_sign_agent(j->dir, j->csr, j->server_id, j->made->generation, j->life, &j->made->chain, &j->issued, &j->err);
    return rc < 0 ? rc : pki_control_tell(j->dir, &j->made->roots, &j->made->cross, &j->err);
}

static int read_roots(void *arg)
{
    struct job *j = arg;
    return pki_control_tell(j->dir, &j->made->roots, &j->made->cross, &j->err);
}

/* Of those that are let in no more, and of those that never connected, only the last ones are kept. */
static int forget(struct db *db, const struct job *j, struct err *err)
{
    const int64_t oldest = j->oldest, before = (int64_t)j->made->generation - CREDENTIALS_KEPT;
    return db_exec(db, err,
                   "DELETE FROM certificates WHERE server_id = ? AND generation <> ? AND (generation < ? OR (generation < ? AND expires_us < ?))",
                   "tiiii", j->server_id, oldest, before, oldest, (int64_t)j->keep_after);
}

/* 1: no longer what it was when we looked. */
static int record(struct db *db, void *arg, struct err *err)
{
    struct job *j = arg;
    int64_t next = j->made->generation;
    int rc = db_exec(db, err, "UPDATE servers SET generation = ? WHERE id = ? AND generation = ? AND oldest <= generation", "iti", next,
                     j->server_id, next - 1);
    if (rc < 0)
        return rc;
    if (db_changes(db) != 1)
        return 1;
    const struct credential_new n = {j->issued.serial, j->made->generation, j->now, j->issued.not_after, buf_str(&j->made->chain), buf_str(&j->spki)};
    rc = credentials_insert(db, j->server_id, &n, err);
    if (rc == 0)
        rc = forget(db, j, err);
    return rc < 0 ? rc : audit_append(db, j->entry, err);
}

static int on_lane(struct control *c, int (*fn)(void *arg), struct job *j, struct err *err)
{
    int rc = lane_call(c->fast, fn, j, deadline_in(STORE_WAIT));
    if (rc < 0 && err)
        *err = j->err;
    return err_ensure(err, rc);
}

static int removed(struct err *err)
{
    return err_set(err, ERR_UNAUTHENTICATED, "the server was removed");
}

static int check_request(struct str csr, struct buf *spki, struct err *err)
{
    AUTO_CSR parsed = NULL;
    int rc = csr_parse(csr, &parsed, err);
    return rc < 0 ? rc : csr_spki(parsed, spki, err);
}

/* The key has a certificate. Until that has connected it is a repeat, and gets it again. */
static int again(struct server *s, struct job *j, struct err *err)
{
    if (j->key_generation <= s->oldest || j->key_expires <= j->now || !*text(j->key_chain))
        return err_set(err, ERR_PRECONDITION, "this key was used for generation %" PRIu32 " already; a renewal needs a new one", j->key_generation);
    j->made->generation = j->key_generation;
    int rc = buf_append_cstr(&j->made->chain, j->key_chain);
    return rc < 0 ? err_ensure(err, rc) : on_lane(s->control, read_roots, j, err);
}

static int next(struct server *s, struct job *j, struct err *err)
{
    struct control *c = s->control;
    struct err none = ERR_INIT;
    j->made->generation = s->generation + 1;
    int rc = on_lane(c, sign, j, err);
    if (rc < 0)
        return rc;
    audit_what(j->entry, NULL, s->name);
    audit_how(j->entry, AUDIT_OK, &none);
    rc = store_write(c->store, record, j, deadline_in(STORE_WAIT), err);
    if (rc == 1)
        return err_set(err, ERR_ABORTED, "other credentials of this server changed at the same moment; try again");
    if (rc < 0)
        return rc;
    audit_touched(c);
    if (s->gone)
        return removed(err);
    s->generation = j->made->generation;
    server_changed(s);
    c->counters.credentials_issued++;
    log_event(LOG_INFO, "credentials issued", "server", s->name, "action", j->entry->action, NULL);
    return 0;
}

int credentials_issue(struct server *s, struct str csr, struct audit_record *entry, struct credential *ret, usec_t *ret_wait, struct err *err)
{
    struct control *c = s->control;
    usec_t now = clock_real(), grace = credentials_grace(c), wait = 0;
    CLEANUP(job_release) struct job j = {.dir = c->opt.state_dir,
                                         .server_id = s->id,
                                         .csr = csr,
                                         .spki = BUF_INIT(PROOF_SPKI_MAX),
                                         .now = now,
                                         .life = credentials_life(c),
                                         .keep_after = now > grace ? now - grace : 0,
                                         .made = ret,
                                         .entry = entry,
                                         .err = ERR_INIT};
    if (bucket_take(&s->renewals, clock_mono(), CREDENTIALS_EVERY, CREDENTIALS_BURST, ret_wait ? ret_wait : &wait) != 0)
        return err_set(err, ERR_EXHAUSTED, "too many renewals of server \"%s\" at once", s->name);
    int rc = check_request(csr, &j.spki, err);
    if (rc == 0)
        rc = store_read(c->store, look, &j, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    if (s->gone)
        return removed(err);
    /* Stored by a transaction of whose end we were not told. */
    if (j.generation > s->generation)
        s->generation = j.generation;
    rc = credentials_judge(s, s->generation, err);
    if (rc == 0)
        rc = j.key_generation ? again(s, &j, err) : next(s, &j, err);
    return rc;
}
