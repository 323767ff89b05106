/* SPDX-License-Identifier: Apache-2.0 */
/* credentials — see credentials.h: who is let in, what is taken away, what is asked for. The issuing is in credentials_issue.c. */
#include "control/servers/credentials.h"

#include <ctype.h>
#include <inttypes.h>

#include "base/mem.h"
#include "control/link/links.h"
#include "ident/proof.h"

usec_t credentials_life(const struct control *c)
{
    return c->opt.agent_certificate_life ? c->opt.agent_certificate_life : CREDENTIALS_LIFE;
}

usec_t credentials_grace(const struct control *c)
{
    return c->opt.recovery_grace ? c->opt.recovery_grace : CREDENTIALS_GRACE;
}

int credentials_judge(const struct server *s, uint32_t generation, struct err *err)
{
    if (credentials_revoked(s)) {
        (void)err_set(err, ERR_UNAUTHENTICATED, "the credentials of server \"%s\" were revoked", s->name);
        err_hint(err, "make a new token with: davit server token %s", s->name);
        return -(int)ERR_UNAUTHENTICATED;
    }
    if (generation >= s->oldest)
        return 0;
    (void)err_set(err, ERR_UNAUTHENTICATED, "generation %" PRIu32 " of the credentials of server \"%s\" was replaced by generation %" PRIu32,
                  generation, s->name, s->oldest);
    err_hint(err, "another agent has this identity (a copied disk, a restored snapshot?): enroll this one anew");
    return 1;
}

/* --- Looking up --- */

/* Certificates name their serial in hex; zeros in front and case depend on who prints it. */
static void plain_serial(const char *serial, char dst[64])
{
    size_t n = 0;
    while (*serial == '0')
        serial++;
    for (; *serial && n < 63; serial++)
        dst[n++] = (char)tolower((unsigned char)*serial);
    dst[n] = '\0';
}

int credentials_insert(struct db *db, const char *server_id, const struct credential_new *n, struct err *err)
{
    char serial[64];
    plain_serial(n->serial, serial);
    return db_exec(db, err,
                   "INSERT INTO certificates (serial, server_id, generation, issued_us, expires_us, revoked_us, chain, spki)"
                   " VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
                   "ttiiisb", serial, server_id, (int64_t)n->generation, (int64_t)n->issued, (int64_t)n->expires, n->chain, n->spki);
}

struct lookup_job {
    const char *serial, *server_id;
    struct credential_row row;
};

static int lookup(struct db *db, void *arg, struct err *err)
{
    struct lookup_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT generation, issued_us, expires_us FROM certificates WHERE serial = ? AND server_id = ? AND revoked_us = 0", "tt",
                      j->serial, j->server_id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    j->row = (struct credential_row){(uint32_t)row_i64(rows, 0), (usec_t)row_i64(rows, 1), (usec_t)row_i64(rows, 2)};
    return 0;
}

int credentials_lookup(struct control *c, const char *serial, const char *server_id, struct credential_row *ret, struct err *err)
{
    char plain[64];
    plain_serial(serial, plain);
    struct lookup_job j = {.serial = plain, .server_id = server_id};
    int rc = store_read(c->store, lookup, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0)
        *ret = j.row;
    return rc;
}

/* --- Connected --- */

struct oldest_job {
    const char *server_id;
    uint32_t generation;
};

static int write_oldest(struct db *db, void *arg, struct err *err)
{
    struct oldest_job *j = arg;
    return db_exec(db, err, "UPDATE servers SET oldest = ? WHERE id = ? AND oldest < ?", "iti", (int64_t)j->generation, j->server_id,
                   (int64_t)j->generation);
}

int credentials_connected(struct server *s, const struct credential_row *row, struct err *err)
{
    struct control *c = s->control;
    struct oldest_job j = {.server_id = s->id, .generation = row->generation};
    int rc = row->generation > s->oldest ? store_write(c->store, write_oldest, &j, deadline_in(STORE_WAIT), err) : 0;
    /* Revoked meanwhile: `oldest` is beyond this one. */
    if (rc < 0 || row->generation < s->oldest)
        return rc;
    if (row->generation > s->oldest) {
        s->oldest = row->generation;
        s->credential_error[0] = '\0';
    }
    if (row->generation > s->generation) /* stored by a transaction of whose end we were not told */
        s->generation = row->generation;
    s->certificate_issued = row->issued;
    s->certificate_expires = row->expires;
    if (s->oldest > s->rotate_from)
        s->rotate = NULL;
    server_changed(s);
    event_pulse(&c->credentials);
    return 0;
}

void credentials_heard(struct server *s, const char *error)
{
    if (str_eq(str_from(s->credential_error), str_from(error)))
        return;
    (void)str_copy(s->credential_error, sizeof(s->credential_error), str_from(error));
    server_changed(s);
    event_pulse(&s->control->credentials);
}

/* --- Proofs of an old key --- */

/* All that a server can have: answers may have been lost one after the other, and which one it has is not known. */
enum { KEYS_MAX = CREDENTIALS_KEPT + 2 };

struct key_row {
    struct credential_row row;
    struct buf spki;
    char *chain;
};

struct prove_job {
    const char *server_id;
    struct key_row *v;
    size_t n;
    const uint8_t *digest;
    struct str signature;
};

static int read_keys(struct db *db, void *arg, struct err *err)
{
    struct prove_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT k.generation, k.issued_us, k.expires_us, k.spki, k.chain FROM certificates k JOIN servers s ON s.id = k.server_id"
                      " WHERE k.server_id = ? AND k.revoked_us = 0 AND k.generation >= s.oldest ORDER BY k.generation DESC",
                      "t", j->server_id);
    while (rc == 0 && j->n < KEYS_MAX && (rc = rows_next(rows, err)) == 1) {
        struct key_row *k = &j->v[j->n++];
        k->row = (struct credential_row){(uint32_t)row_i64(rows, 0), (usec_t)row_i64(rows, 1), (usec_t)row_i64(rows, 2)};
        buf_init(&k->spki, PROOF_SPKI_MAX);
        k->chain = str_dup(row_text(rows, 4));
        rc = buf_append_str(&k->spki, row_blob(rows, 3));
    }
    return rc < 0 ? rc : 0;
}

static bool signs(const struct prove_job *j, const struct key_row *k)
{
    if (k->spki.len)
        return proof_verify(buf_str(&k->spki), j->digest, j->signature, NULL) == 0;
    return *k->chain && proof_verify_cert(str_from(k->chain), j->digest, j->signature, NULL) == 0;
}

/* On the lane: the index of the one that signed, n for none. */
static int find_signer(void *arg)
{
    const struct prove_job *j = arg;
    for (size_t i = 0; i < j->n; i++)
        if (signs(j, &j->v[i]))
            return (int)i;
    return (int)j->n;
}

static void prove_release(struct prove_job *j)
{
    for (size_t i = 0; i < j->n; i++) {
        free(j->v[i].chain);
        buf_release(&j->v[i].spki);
    }
    free(j->v);
}

int credentials_prove(struct server *s, const uint8_t digest[32], struct str signature, struct credential_row *ret, struct err *err)
{
    struct control *c = s->control;
    CLEANUP(prove_release) struct prove_job j = {
        .server_id = s->id, .v = mem_zalloc(KEYS_MAX, sizeof(*j.v)), .digest = digest, .signature = signature};
    int rc = store_read(c->store, read_keys, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0)
        rc = lane_call(c->fast, find_signer, &j, deadline_in(STORE_WAIT));
    if (rc < 0)
        return err_ensure(err, rc);
    if (rc < (int)j.n) {
        *ret = j.v[rc].row;
        return 0;
    }
    (void)err_set(err, ERR_UNAUTHENTICATED, "the signature is not that of a key that server \"%s\" is let in with", s->name);
    err_hint(err, "make a new token with: davit server token %s", s->name);
    return -(int)ERR_UNAUTHENTICATED;
}

/* --- Taking away, asking --- */

struct revoke_job {
    const char *server_id;
    usec_t now;
    int64_t oldest;
};

static int write_revoked(struct db *db, void *arg, struct err *err)
{
    struct revoke_job *j = arg;
    int rc = db_get_i64(db, &j->oldest, err, "UPDATE servers SET oldest = generation + 1 WHERE id = ? RETURNING oldest", "t", j->server_id);
    if (rc != 0)
        return rc;
    rc = db_exec(db, err, "UPDATE certificates SET revoked_us = ? WHERE server_id = ? AND revoked_us = 0", "it", (int64_t)j->now, j->server_id);
    return rc < 0 ? rc : db_exec(db, err, "UPDATE tokens SET void = 1 WHERE server_id = ? AND used_us = 0", "t", j->server_id);
}

int credentials_revoke(struct server *s, struct err *err)
{
    struct revoke_job j = {.server_id = s->id, .now = clock_real()};
    int rc = store_write(s->control->store, write_revoked, &j, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    if (rc == 1 || s->gone)
        return err_set(err, ERR_NOT_FOUND, "the server was removed");
    /* A certificate that is being made at this moment is refused by its transaction. */
    if ((uint32_t)j.oldest > s->generation + 1)
        s->generation = (uint32_t)j.oldest - 1;
    s->oldest = s->generation + 1;
    s->certificate_issued = s->certificate_expires = s->token_expires = 0;
    s->rotate = NULL;
    s->credential_error[0] = '\0';
    links_cut(s, "the credentials of this server were revoked");
    server_down(s, "its credentials were revoked");
    server_changed(s);
    event_pulse(&s->control->credentials);
    return 0;
}

void credentials_remind(struct server *s)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__CredentialRotate rotate = DAVIT__LINK__V1__CREDENTIAL_ROTATE__INIT;
    if (!s->rotate || !s->link || s->local)
        return;
    rotate.reason = lend(s->rotate);
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CREDENTIAL_ROTATE;
    m.credential_rotate = &rotate;
    (void)links_send(s->link, &m); /* one that is lost comes again with the next connect */
}

void credentials_rotate(struct server *s, const char *reason)
{
    s->rotate = reason;
    s->rotate_from = s->oldest;
    credentials_remind(s);
}
