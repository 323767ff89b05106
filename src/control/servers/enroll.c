/* SPDX-License-Identifier: Apache-2.0 */
/* enroll — see enroll.h. */
#include "control/servers/enroll.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/mem.h"
#include "control/servers/access.h"
#include "control/servers/address.h"
#include "control/people/audit.h"
#include "control/bucket.h"
#include "control/servers/challenge.h"
#include "control/servers/credentials.h"
#include "control/link/links.h"
#include "control/sealed.h"
#include "ident/cert.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"
#include "ident/proof.h"
#include "ident/token.h"

/* A token's row changes twice at most while a request looks at it: it is used, it is voided. */
enum { LOOKS_MAX = 3 };

/* A token that may be open: who names it has it from us, for nobody guesses 50 random bits. */
struct known_token {
    usec_t full;    /* its bucket */
    usec_t expires; /* real time */
};

/* A bucket as one time: the moment when it will be full again. */
struct enroll {
    struct control *c;
    struct hmap *sources; /* address -> usec_t *, owned */
    struct hmap *tokens;  /* id -> struct known_token *, owned */
    usec_t all;
};

struct enroll *enroll_new(struct control *c)
{
    struct enroll *e = NEW(struct enroll);
    e->c = c;
    e->sources = hmap_new(ENROLL_SOURCES_MAX);
    e->tokens = hmap_new(ENROLL_TOKENS_MAX);
    return e;
}

static void forget_sources(struct enroll *e, usec_t now, bool all)
{
    for (struct hmap_entry *i = hmap_first(e->sources), *next; i; i = next) {
        next = hmap_next(i);
        usec_t *full = hmap_value(i);
        if (!all && *full > now)
            continue;
        (void)hmap_remove(e->sources, hmap_key(i));
        free(full);
    }
}

static void forget_tokens(struct enroll *e, usec_t real, bool all)
{
    for (struct hmap_entry *i = hmap_first(e->tokens), *next; i; i = next) {
        next = hmap_next(i);
        struct known_token *t = hmap_value(i);
        if (!all && t->expires > real)
            continue;
        (void)hmap_remove(e->tokens, hmap_key(i));
        free(t);
    }
}

struct enroll *enroll_free(struct enroll *e)
{
    if (!e)
        return NULL;
    forget_sources(e, 0, true);
    forget_tokens(e, 0, true);
    (void)hmap_free(e->sources);
    (void)hmap_free(e->tokens);
    free(e);
    return NULL;
}

void enroll_expect(struct enroll *e, const char *id, usec_t expires, usec_t real)
{
    struct known_token *t = hmap_get(e->tokens, str_from(id));
    if (t || expires <= real)
        return;
    if (hmap_count(e->tokens) >= ENROLL_TOKENS_MAX)
        forget_tokens(e, real, false);
    t = NEW(struct known_token);
    t->expires = expires;
    if (hmap_put(e->tokens, str_from(id), t, NULL) != 0)
        free(t);
}

static int read_open_tokens(struct db *db, void *arg, struct err *err)
{
    struct enroll *e = arg;
    usec_t now = clock_real();
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, "SELECT id, expires_us FROM tokens WHERE void = 0 AND expires_us > ?", "i", (int64_t)now);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        enroll_expect(e, row_text(rows, 0).p, (usec_t)row_i64(rows, 1), now);
        rc = 0;
    }
    return rc;
}

int enroll_load(struct enroll *e, struct err *err)
{
    return store_read_sync(e->c->store, read_open_tokens, e, err);
}

/* Who has one IPv6 address has 2^64 of them: they count as one. */
static void network_of(const char *source, char dst[ADDRESS_SIZE])
{
    unsigned char ip[16];
    if (inet_pton(AF_INET6, source, ip) == 1 && !IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)ip)) {
        memset(ip + 8, 0, 8);
        if (inet_ntop(AF_INET6, ip, dst, ADDRESS_SIZE))
            return;
    }
    (void)str_copy(dst, ADDRESS_SIZE, str_from(source));
}

static int admit_stranger(struct enroll *e, const char *source, usec_t now, usec_t *ret_wait, struct err *err)
{
    char network[ADDRESS_SIZE];
    network_of(source, network);
    usec_t *full = hmap_get(e->sources, str_from(network));
    if (!full) {
        if (hmap_count(e->sources) >= ENROLL_SOURCES_MAX)
            forget_sources(e, now, false);
        full = NEW(usec_t);
        if (hmap_put(e->sources, str_from(network), full, NULL) != 0) {
            free(full);
            return err_set(err, ERR_EXHAUSTED, "too many addresses try to enroll; try again in a minute");
        }
    }
    if (bucket_take(full, now, ENROLL_SOURCE_EVERY, ENROLL_SOURCE_BURST, ret_wait) != 0)
        return 1;
    return bucket_take(&e->all, now, USEC_SEC / ENROLL_PER_SECOND, ENROLL_BURST, ret_wait);
}

int enroll_admit(struct enroll *e, const char *source, const char *token_id, usec_t now, usec_t real, struct err *err)
{
    usec_t wait = 0;
    size_t n = strlen(token_id);
    struct known_token *t = n == TOKEN_ID_LEN ? hmap_get(e->tokens, (struct str){token_id, n}) : NULL;
    int rc = t && t->expires > real ? bucket_take(&t->full, now, ENROLL_SOURCE_EVERY, ENROLL_SOURCE_BURST, &wait)
                                    : admit_stranger(e, source, now, &wait, err);
    return rc <= 0 ? rc : err_set(err, ERR_EXHAUSTED, "too many attempts to enroll; try again in %u s", (unsigned)(wait / USEC_SEC + 1));
}

static int refuse(struct err *err, const char *message)
{
    (void)err_set(err, ERR_UNAUTHENTICATED, "%s", message);
    err_hint(err, "make a new one on the control plane with: davit server token NAME");
    return -(int)ERR_UNAUTHENTICATED;
}

static bool secret_holds(const struct token_row *row, struct str secret)
{
    static const uint8_t nothing[32];
    uint8_t hash[TOKEN_HASH_SIZE];
    token_secret_hash(secret, hash);
    return str_eq_secret((struct str){(const char *)hash, 32}, (struct str){(const char *)(row ? row->hash : nothing), 32});
}

int enroll_judge(const struct token_row *row, const struct enroll_proof *proof, const uint8_t key[32], usec_t now, struct err *err)
{
    bool same = proof->tunnel ? proof->holds : secret_holds(row, proof->secret);
    /* Unknown id and wrong secret look alike, also in time. */
    if (!row || !same)
        return refuse(err, "this join token is unknown");
    if (row->is_void)
        return refuse(err, "this join token was replaced by a newer one");
    if (row->used) {
        bool repeat = now < row->used + ENROLL_REPEAT && row->certificate && memcmp(row->key, key, 32) == 0;
        return repeat ? 1 : refuse(err, "this join token was used already");
    }
    return row->expires <= now ? refuse(err, "this join token has expired") : 0;
}

struct token_job {
    const char *id;
    struct token_row row;
    uint32_t generation; /* of its server, as stored */
    bool found;
};

static int read_token(struct db *db, void *arg, struct err *err)
{
    struct token_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT t.server_id, t.hash, t.expires_us, t.used_us, t.void, t.key_sha256, t.certificate, s.generation, t.mac"
                      " FROM tokens t JOIN servers s ON s.id = t.server_id WHERE t.id = ?",
                      "t", j->id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc;
    (void)str_copy(j->row.server_id, sizeof(j->row.server_id), row_text(rows, 0));
    if (row_blob(rows, 1).n == 32)
        memcpy(j->row.hash, row_blob(rows, 1).p, 32);
    j->row.expires = (usec_t)row_i64(rows, 2);
    j->row.used = (usec_t)row_i64(rows, 3);
    j->row.is_void = row_i64(rows, 4) != 0;
    if (row_blob(rows, 5).n == 32)
        memcpy(j->row.key, row_blob(rows, 5).p, 32);
    j->row.certificate = row_text(rows, 6).n ? str_dup(row_text(rows, 6)) : NULL;
    j->generation = (uint32_t)row_i64(rows, 7);
    j->row.n_mac = row_blob(rows, 8).n <= TOKEN_MAC_MAX ? row_blob(rows, 8).n : 0;
    if (j->row.n_mac)
        memcpy(j->row.mac, row_blob(rows, 8).p, j->row.n_mac);
    j->found = row_blob(rows, 1).n == 32;
    return 0;
}

struct issue {
    const char *dir, *server_id, *token_id;
    struct str csr;
    uint32_t generation;
    usec_t now, life;
    bool tunnel;
    struct buf chain, root, cross, spki; /* chain: in tunnel mode the access token */
    struct pki_issued issued;
    struct err err;
    const Davit__Common__V1__SystemInfo *system;
    struct buf system_wire;
    struct audit_record entry;
};

/* An access token in place of a certificate. */
static int sign_token(struct control *c, struct issue *i, struct err *err)
{
    struct jwt_claims claims;
    uint8_t hash[SPKI_HASH_SIZE];
    proof_spki_hash(buf_str(&i->spki), hash);
    int rc = access_sign(c, i->server_id, i->generation, hash, &i->chain, &claims, err);
    if (rc < 0)
        return rc;
    i->issued.not_after = claims.expires;
    memcpy(i->issued.spki_hash, hash, sizeof(hash));
    (void)str_copy(i->issued.serial, sizeof(i->issued.serial), str_from(claims.id));
    return 0;
}

static int sign(void *arg)
{
    struct issue *i = arg;
    int rc = pki_control_sign_agent(i->dir, i->csr, i->server_id, i->generation, i->life, &i->chain,
                                    &i->issued, &i->err);
    return rc < 0 ? rc : pki_control_tell(i->dir, &i->root, &i->cross, &i->err);
}

static int read_root(void *arg)
{
    struct issue *i = arg;
    return pki_control_tell(i->dir, &i->root, &i->cross, &i->err);
}

static const char *mode_of(const struct issue *i)
{
    return i->tunnel ? "tunnel" : "direct";
}

/* 1: somebody else consumed the token in between. */
static int consume(struct db *db, void *arg, struct err *err)
{
    struct issue *i = arg;
    int rc = db_exec(
        db, err,
        "UPDATE tokens SET used_us = ?, key_sha256 = ?, certificate = ? WHERE id = ? AND used_us = 0 AND void = 0 AND expires_us > ?",
        "ibsti", (int64_t)i->now, (struct str){(const char *)i->issued.spki_hash, 32}, buf_str(&i->chain), i->token_id,
        (int64_t)i->now);
    if (rc < 0)
        return rc;
    if (db_changes(db) != 1)
        return 1;
    const struct credential_new n = {i->issued.serial, i->generation, i->now, i->issued.not_after, i->tunnel ? STR("") : buf_str(&i->chain),
                                     buf_str(&i->spki)};
    rc = credentials_insert(db, i->server_id, &n, err);
    if (rc < 0)
        return rc;
    rc = db_exec(db, err,
                 "UPDATE servers SET generation = ?, oldest = ?, enrolled_us = ?, system = ?, mode = ? WHERE id = ? AND generation < ?", "iiibtti",
                 (int64_t)i->generation, (int64_t)i->generation, (int64_t)i->now, buf_str(&i->system_wire), mode_of(i), i->server_id,
                 (int64_t)i->generation);
    if (rc < 0)
        return rc;
    return db_changes(db) == 1 ? audit_append(db, &i->entry, err) : 1;
}

/* @made: the chain, or the access token, which ends at @expires. */
static int answer(struct rpc_call *call, struct server *s, const struct issue *i, const char *made, uint32_t generation, usec_t expires,
                  struct err *err)
{
    static const char *const profiles[] = {"unknown", "unknown", "public", "local"};
    Davit__Link__V1__EnrollResponse m = DAVIT__LINK__V1__ENROLL_RESPONSE__INIT;
    m.server_id = s->id;
    m.server_name = s->name;
    m.certificate_pem = lend(i->tunnel ? NULL : made);
    m.access_token = lend(i->tunnel ? made : NULL);
    m.access_token_expires_us = i->tunnel ? expires : 0;
    m.ca_pem = lend(buf_cstr(&i->root));
    m.cross_pem = lend(buf_cstr(&i->cross));
    m.generation = generation;
    m.profile = lend(profiles[s->profile >= 0 && s->profile < 4 ? s->profile : 0]);
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the server went away");
}

/* The token holds: a certificate for it. 1: somebody else consumed it in between. */
static int issue(struct control *c, struct rpc_call *call, struct server *s, struct issue *i, struct err *err)
{
    i->generation = s->generation + 1;
    if (i->system && rpc_pack(&i->system->base, &i->system_wire) != 0)
        return err_set(err, ERR_INVALID, "system: it is larger than a message may be");
    int rc = lane_call(c->fast, i->tunnel ? read_root : sign, i, deadline_in(STORE_WAIT));
    if (rc < 0) {
        *err = i->err;
        return err_ensure(err, rc);
    }
    if (i->tunnel && (rc = sign_token(c, i, err)) < 0)
        return rc;
    audit_what(&i->entry, "server.enrolled", s->name);
    audit_how(&i->entry, AUDIT_OK, NULL);
    rc = store_write(c->store, consume, i, deadline_in(STORE_WAIT), err);
    if (rc != 0)
        return rc;
    audit_touched(c);
    if (s->gone)
        return refuse(err, "the server of this join token was removed");
    s->generation = s->oldest = i->generation;
    s->enrolled = i->now;
    (void)str_copy(s->mode, sizeof(s->mode), str_from(mode_of(i)));
    s->certificate_issued = i->now;
    s->certificate_expires = i->issued.not_after;
    s->rotate = NULL;
    s->duplicate = s->suspect = (struct duplicate){0};
    s->credential_error[0] = '\0';
    s->token_expires = 0;
    server_changed(s);
    server_set_system(s, i->system);
    links_cut(s, "the server was enrolled anew");
    return answer(call, s, i, buf_cstr(&i->chain), i->generation, i->issued.not_after, err);
}

/* What @made, a chain or an access token, is recorded by. */
static int serial_of(const char *made, bool tunnel, char serial[CERT_SERIAL_SIZE], struct err *err)
{
    AUTO_CERT cert = NULL;
    struct cert_info leaf = {0};
    struct jwt_claims claims = {0};
    int rc = tunnel ? jwt_peek(str_from(made), &claims, err) : cert_from_pem(str_from(made), &cert, err);
    if (rc == 0 && !tunnel)
        rc = cert_info(cert, &leaf, err);
    (void)str_copy(serial, CERT_SERIAL_SIZE, str_from(tunnel ? claims.id : leaf.serial));
    return rc < 0 ? refuse(err, "this join token was used in another mode") : 0;
}

/* The same answer again, unless the server has got another certificate since. */
static int repeat(struct control *c, struct rpc_call *call, struct server *s, struct issue *i, const char *made, struct err *err)
{
    char serial[CERT_SERIAL_SIZE];
    struct credential_row row = {0};
    int rc = serial_of(made, i->tunnel, serial, err);
    if (rc == 0)
        rc = credentials_lookup(c, serial, s->id, &row, err);
    if (rc < 0)
        return rc;
    if (rc == 1 || row.generation != s->generation)
        return refuse(err, "the server of this join token was enrolled again with another one");
    rc = lane_call(c->fast, read_root, i, deadline_in(STORE_WAIT));
    if (rc < 0) {
        *err = i->err;
        return err_ensure(err, rc);
    }
    return answer(call, s, i, made, row.generation, row.expires, err);
}

static struct str bytes(ProtobufCBinaryData b)
{
    return (struct str){(const char *)b.data, b.len};
}

static int check_token(const Davit__Link__V1__EnrollRequest *r, bool tunnel, struct err *err)
{
    if (tunnel && r->token_secret.len) {
        (void)err_set(err, ERR_INVALID, "token_secret: what ends TLS here may be anybody's; the secret of a token is not to be sent through it");
        err_hint(err,
                 "this port is for --mode tunnel; direct mode goes to the port of links, as the line of davit server add has it. Make a new token");
        return -(int)ERR_INVALID;
    }
    if (strlen(text(r->token_id)) != TOKEN_ID_LEN || (!tunnel && r->token_secret.len != TOKEN_SECRET_SIZE)) {
        (void)err_set(err, ERR_INVALID, "token: this is no join token");
        err_hint(err, "paste all of the line that davit server add printed");
        return -(int)ERR_INVALID;
    }
    if (tunnel && (r->client_nonce.len != PROOF_NONCE_SIZE || r->server_nonce.len != PROOF_NONCE_SIZE || r->token_mac.len != PROOF_MAC_SIZE))
        return err_set(err, ERR_INVALID, "client_nonce, server_nonce, token_mac: each must have %d bytes", PROOF_NONCE_SIZE);
    return 0;
}

static int check_request(const Davit__Link__V1__EnrollRequest *r, bool tunnel, uint8_t key[32], struct buf *spki, struct err *err)
{
    AUTO_CSR csr = NULL;
    int rc = check_token(r, tunnel, err);
    if (rc < 0)
        return rc;
    if (r->csr_der.len == 0 || r->csr_der.len > CSR_MAX)
        return err_set(err, ERR_INVALID, "csr_der: %zu bytes, allowed are 1 to %d", r->csr_der.len, CSR_MAX);
    rc = csr_parse((struct str){(const char *)r->csr_der.data, r->csr_der.len}, &csr, err);
    if (rc == 0)
        rc = csr_spki(csr, spki, err);
    return rc < 0 ? rc : csr_spki_hash(csr, key, err);
}

/* Does the MAC of the request come from the secret of this token? */
static bool mac_holds(const struct control *c, const struct token_row *row, const Davit__Link__V1__EnrollRequest *r)
{
    const struct str csr = bytes(r->csr_der);
    uint8_t digest[PROOF_SIZE];
    AUTO_SECRET key = NULL;
    if (sealed_get(c, SEALED_TOKEN, r->token_id, (struct str){row->mac, row->n_mac}, &key, NULL) < 0)
        return false;
    proof_digest("enroll", r->client_nonce.data, r->server_nonce.data, &csr, 1, digest);
    return proof_mac_holds(key, digest, bytes(r->token_mac));
}

/* One look at the token and what follows from it. 1: it changed in between, look again. */
static int judge_once(struct control *c, struct rpc_call *call, const Davit__Link__V1__EnrollRequest *r, struct issue *i,
                      const uint8_t key[32], const char *source, struct err *err)
{
    struct enroll_proof proof = {.tunnel = i->tunnel, .secret = bytes(r->token_secret)};
    struct token_job j = {.id = r->token_id};
    int rc = store_read(c->store, read_token, &j, deadline_in(STORE_WAIT), err);
    proof.holds = rc >= 0 && j.found && i->tunnel && mac_holds(c, &j.row, r);
    if (rc >= 0)
        rc = enroll_judge(j.found ? &j.row : NULL, &proof, key, i->now, err);
    struct server *s = rc >= 0 ? servers_by_id(c, j.row.server_id) : NULL;
    if (rc >= 0 && !s)
        rc = refuse(err, "the server of this join token was removed");
    if (rc >= 0) {
        (void)server_ref(s);
        /* Stored by a transaction of whose end we were not told. */
        if (j.generation > s->generation)
            s->generation = j.generation;
        i->server_id = s->id;
        i->token_id = r->token_id;
        rc = rc == 1 ? repeat(c, call, s, i, j.row.certificate, err) : issue(c, call, s, i, err);
        if (rc <= 0)
            log_event(LOG_NOTICE, rc == 0 ? "server enrolled" : "enrolment failed", "server", s->name, "peer", source, NULL);
        server_unref(s);
    }
    free(j.row.certificate);
    return rc;
}

/* Of two at once the second one loses the race for the token: what it is then told depends on its key, as if it had come later. */
static int judge_and_answer(struct control *c, struct rpc_call *call, const Davit__Link__V1__EnrollRequest *r, struct issue *i,
                            const char *source, struct err *err)
{
    uint8_t key[32];
    int rc = check_request(r, i->tunnel, key, &i->spki, err);
    if (rc == 0 && i->tunnel)
        rc = challenge_take(c->challenges, CHALLENGE_ENROLL, bytes(r->client_nonce), bytes(r->server_nonce), clock_mono(), err);
    for (unsigned look = 0; rc >= 0 && look < LOOKS_MAX; look++) {
        buf_clear(&i->chain);
        buf_clear(&i->root);
        buf_clear(&i->cross);
        buf_clear(&i->system_wire);
        rc = judge_once(c, call, r, i, key, source, err);
        if (rc != 1)
            return rc;
    }
    return rc < 0 ? rc : err_set(err, ERR_ABORTED, "others enrolled this server at the same moment; try again");
}

static int enroll_by(struct control *c, struct rpc_call *call, const ProtobufCMessage *request, bool tunnel, struct err *err)
{
    const Davit__Link__V1__EnrollRequest *r = (const Davit__Link__V1__EnrollRequest *)request;
    char source[ADDRESS_SIZE];
    struct issue i = {.dir = c->opt.state_dir,
                      .now = clock_real(),
                      .life = credentials_life(c),
                      .tunnel = tunnel,
                      .system = r->system,
                      .chain = BUF_INIT(CERT_PEM_MAX),
                      .root = BUF_INIT(CERT_PEM_MAX),
                      .cross = BUF_INIT(CERT_PEM_MAX),
                      .spki = BUF_INIT(PROOF_SPKI_MAX),
                      .system_wire = BUF_INIT(RPC_MESSAGE_MAX),
                      .err = ERR_INIT,
                      .csr = {(const char *)r->csr_der.data, r->csr_der.len}};
    address_host(conn_peer_addr(rpc_call_conn(call)), source);
    audit_who_conn(&i.entry, rpc_call_conn(call));
    int rc = enroll_admit(c->enroll, source, text(r->token_id), clock_mono(), i.now, err);
    if (rc == 0)
        rc = judge_and_answer(c, call, r, &i, source, err);
    if (rc == 0)
        c->counters.enrol_ok++;
    else
        c->counters.enrol_refused++;
    /* Who tries too often is counted only: else strangers fill the disk with lines. */
    if (rc < 0 && rc != -(int)ERR_EXHAUSTED)
        log_event(LOG_NOTICE, "enrolment refused", "peer", source, "reason", err->msg, NULL);
    buf_release(&i.chain);
    buf_release(&i.root);
    buf_release(&i.cross);
    buf_release(&i.spki);
    buf_release(&i.system_wire);
    return rc;
}

static int enroll_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    return enroll_by(ctx, call, request, false, err);
}

static int enroll_web_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    return enroll_by(ctx, call, request, true, err);
}

CONTROL_HANDLER(enroll_run)
CONTROL_HANDLER(enroll_web_run)

const struct rpc_handler enroll_handlers[] = {
    {.run = enroll_run_tracked},
};

const struct rpc_handler enroll_web_handlers[] = {
    {.run = enroll_web_run_tracked},
};
