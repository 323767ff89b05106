/* SPDX-License-Identifier: Apache-2.0 */
/* servers_store — see servers.h: the rows behind the registry. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/link/commands.h"
#include "control/sandboxes/sandboxes.h"
#include "control/work/deployments.h"
#include "control/link/links.h"
#include "control/sealed.h"
#include "control/servers/servers.h"
#include "control/watch/worldview.h"

enum { SAVE_DELAY_MS = 200 };
#define SAVE_RETRY_MAX (10 * USEC_SEC)

/* What of a server changes behind its back, copied for the thread that writes it. Generation and sequence are not here: they are written
 * only by the transactions that need them. */
struct row {
    char id[37], preferred[ADDRESS_SIZE], seen[ADDRESS_SIZE], reason[SERVER_REASON_SIZE], roots[SERVER_ROOTS_SIZE];
    int64_t state, profile, heartbeat, skew;
    struct buf system;
};

struct rows_job {
    struct row *v;
    size_t n;
};

static void row_fill(struct row *r, const struct server *s)
{
    (void)str_copy(r->id, sizeof(r->id), str_from(s->id));
    (void)str_copy(r->preferred, sizeof(r->preferred), str_from(s->preferred));
    (void)str_copy(r->seen, sizeof(r->seen), str_from(s->seen));
    (void)str_copy(r->reason, sizeof(r->reason), str_from(s->reason));
    (void)str_copy(r->roots, sizeof(r->roots), str_from(s->roots));
    r->state = (int64_t)s->state;
    r->profile = s->profile;
    r->heartbeat = (int64_t)s->heartbeat;
    r->skew = s->skew;
    buf_init(&r->system, RPC_MESSAGE_MAX);
    if (s->system && rpc_pack(&s->system->base, &r->system) != 0)
        buf_clear(&r->system);
}

static int write_rows(struct db *db, void *arg, struct err *err)
{
    struct rows_job *j = arg;
    for (size_t i = 0; i < j->n; i++) {
        struct row *r = &j->v[i];
        int rc = db_exec(
            db, err,
            "UPDATE servers SET state = ?, reason = ?, profile = ?, preferred = ?, system = ?, seen = ?, heartbeat_us = ?,"
            " skew_us = ?, roots = ? WHERE id = ?",
            "ititbtiitt", r->state, r->reason, r->profile, r->preferred, buf_str(&r->system), r->seen, r->heartbeat, r->skew,
            r->roots, r->id);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int save_rows(struct control *c, struct rows_job *j, struct err *err)
{
    return j->n ? store_write(c->store, write_rows, j, deadline_in(STORE_WAIT), err) : 0;
}

static void rows_release(struct rows_job *j)
{
    for (size_t i = 0; i < j->n; i++)
        buf_release(&j->v[i].system);
    free(j->v);
}

int servers_save(struct control *c, struct server *s, struct err *err)
{
    CLEANUP(rows_release) struct rows_job j = {.v = NEW(struct row), .n = 1};
    row_fill(&j.v[0], s);
    return save_rows(c, &j, err);
}

int servers_save_dirty(struct control *c, struct err *err)
{
    CLEANUP(rows_release) struct rows_job j = {.v = mem_zalloc(c->n_servers + 1, sizeof(struct row))};
    struct server *s;
    list_each(s, &c->servers, struct server, node) {
        if (!s->dirty)
            continue;
        s->dirty = false;
        s->heartbeat_saved = s->heartbeat;
        row_fill(&j.v[j.n++], s);
    }
    int rc = save_rows(c, &j, err);
    /* Not on disk: they are as dirty as before. */
    for (size_t i = 0; rc < 0 && i < j.n; i++)
        if ((s = servers_by_id(c, j.v[i].id)))
            s->dirty = true;
    return rc;
}

static bool any_dirty(const struct control *c)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (s->dirty)
            return true;
    return false;
}

/* Collects what changes within a moment into one transaction, and goes on until it is written. control_stop writes what is still dirty at the
 * end. */
static void save_fiber(void *arg)
{
    struct control *c = arg;
    unsigned failed = 0;
    while (!c->stopping && any_dirty(c)) {
        struct err err = ERR_INIT;
        usec_t wait = failed ? backoff_wait(failed, SAVE_DELAY_MS * USEC_MSEC, SAVE_RETRY_MAX) : 0;
        if (fiber_sleep(SAVE_DELAY_MS * USEC_MSEC + wait) < 0)
            break;
        int rc = servers_save_dirty(c, &err);
        failed = rc < 0 ? failed + 1 : 0;
        if (rc < 0)
            log_err(LOG_ERROR, &err, "servers could not be written", NULL);
    }
    c->saving = false;
    control_fiber_end(c);
}

void server_touch(struct server *s)
{
    struct control *c = s->control;
    s->dirty = true;
    server_changed(s);
    if (c->saving || c->stopping || s->gone)
        return;
    if (control_fiber(c, "servers-save", save_fiber, c) == 0)
        c->saving = true;
}

static void on_offline(void *arg)
{
    struct server *s = arg;
    char reason[SERVER_REASON_SIZE];
    (void)snprintf(reason, sizeof(reason), "no heartbeat for %u s", (unsigned)(s->control->opt.offline_after / USEC_SEC));
    if (s->state == SERVER_ONLINE && server_set_state(s, SERVER_OFFLINE, reason) == 0)
        server_touch(s);
}

static struct server *server_new(struct control *c)
{
    struct server *s = NEW(struct server);
    s->refs = 1;
    s->control = c;
    list_init(&s->node);
    list_init(&s->changed.node);
    list_init(&s->sampled.node);
    list_init(&s->commands);
    inventory_init(&s->inventory);
    timer_init(&s->offline, c->loop, on_offline, s);
    return s;
}

static void server_link(struct control *c, struct server *s)
{
    list_push(&c->servers, &s->node);
    c->n_servers++;
    server_changed(s);
    changes_work(&c->changes, false);
}

/* For who watches: it is gone. */
static void server_unlist(struct server *s)
{
    list_remove(&s->changed.node);
    list_remove(&s->sampled.node);
}

static struct server *from_row(struct control *c, const struct rows *r)
{
    struct server *s = server_new(c);
    ProtobufCMessage *m = NULL;
    (void)str_copy(s->id, sizeof(s->id), row_text(r, 0));
    (void)str_copy(s->name, sizeof(s->name), row_text(r, 1));
    int64_t state = row_i64(r, 2);
    s->state = state > SERVER_NONE && state < SERVER_STATE_MAX ? (enum server_state)state : SERVER_OFFLINE;
    (void)str_copy(s->reason, sizeof(s->reason), row_text(r, 3));
    s->profile = (int)row_i64(r, 4);
    (void)str_copy(s->preferred, sizeof(s->preferred), row_text(r, 5));
    s->local = row_i64(r, 6) != 0;
    if (row_blob(r, 7).n && rpc_unpack(&davit__common__v1__system_info__descriptor, row_blob(r, 7), &m, NULL) == 0)
        s->system = (Davit__Common__V1__SystemInfo *)m;
    (void)str_copy(s->seen, sizeof(s->seen), row_text(r, 8));
    (void)str_copy(s->mode, sizeof(s->mode), row_text(r, 9));
    s->created = (usec_t)row_i64(r, 10);
    s->enrolled = (usec_t)row_i64(r, 11);
    s->heartbeat = s->heartbeat_saved = (usec_t)row_i64(r, 12);
    s->skew = row_i64(r, 13);
    s->generation = (uint32_t)row_i64(r, 14);
    s->known_seq = (uint64_t)row_i64(r, 15);
    s->token_expires = (usec_t)row_i64(r, 16);
    s->certificate_expires = (usec_t)row_i64(r, 17);
    s->certificate_issued = (usec_t)row_i64(r, 18);
    s->oldest = (uint32_t)row_i64(r, 19);
    (void)str_copy(s->roots, sizeof(s->roots), row_text(r, 20));
    return s;
}

static int load(struct db *db, void *arg, struct err *err)
{
    struct control *c = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(
        db, &rows, err,
        "SELECT s.id, s.name, s.state, s.reason, s.profile, s.preferred, s.local, s.system, s.seen, s.mode, s.created_us,"
        " s.enrolled_us, s.heartbeat_us, s.skew_us, s.generation, s.last_seq,"
        " (SELECT MAX(t.expires_us) FROM tokens t WHERE t.server_id = s.id AND t.used_us = 0 AND t.void = 0),"
        " (SELECT MAX(k.expires_us) FROM certificates k WHERE k.server_id = s.id AND k.generation = s.oldest),"
        " (SELECT MAX(k.issued_us) FROM certificates k WHERE k.server_id = s.id AND k.generation = s.oldest), s.oldest, s.roots"
        " FROM servers s ORDER BY s.created_us",
        "");
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        struct server *s = from_row(c, rows);
        server_link(c, s);
        /* What was online before we started has the full time to come back. */
        if (s->state == SERVER_ONLINE)
            timer_set(&s->offline, c->opt.offline_after);
        rc = 0;
    }
    return rc;
}

int servers_load(struct control *c, struct err *err)
{
    return store_read_sync(c->store, load, c, err);
}

void servers_release(struct control *c)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node) {
        list_remove(&s->node);
        server_unlist(s);
        s->gone = true;
        timer_stop(&s->offline);
        commands_release(s);
        server_unref(s);
    }
    c->n_servers = 0;
}

struct add_job {
    const struct control *c;
    const struct server_new *n;
    const char *id;
    usec_t now;
};

/* A token as it is kept. */
struct token_new {
    const char *server_id, *id;
    const uint8_t *hash;
    const struct secret *mac_key;
    usec_t now, expires;
};

static int insert_token(struct db *db, const struct control *c, const struct token_new *t, struct err *err)
{
    AUTO_BUF mac = BUF_INIT(256);
    int rc = sealed_put(c, SEALED_TOKEN, t->id, secret_reveal(t->mac_key), &mac, err);
    if (rc < 0)
        return rc;
    return db_exec(db, err,
                   "INSERT INTO tokens (id, server_id, hash, created_us, expires_us, used_us, void, key_sha256, certificate, mac)"
                   " VALUES (?, ?, ?, ?, ?, 0, 0, ?, '', ?)",
                   "ttbiibb", t->id, t->server_id, (struct str){(const char *)t->hash, 32}, (int64_t)t->now, (int64_t)t->expires, STR(""),
                   buf_str(&mac));
}

static int insert(struct db *db, void *arg, struct err *err)
{
    struct add_job *j = arg;
    const struct server_new *n = j->n;
    int rc = db_exec(
        db, err,
        "INSERT INTO servers (id, name, state, reason, profile, preferred, local, system, seen, mode, created_us, enrolled_us,"
        " heartbeat_us, skew_us, generation, last_seq) VALUES (?, ?, ?, ?, ?, '', ?, ?, '', ?, ?, ?, 0, 0, 0, 0)",
        "ttitiibtii", j->id, n->name, (int64_t)SERVER_PENDING, n->local ? "first contact" : "created", (int64_t)n->profile,
        (int64_t)n->local, STR(""), n->mode, (int64_t)j->now, (int64_t)(n->local ? j->now : 0));
    if (rc < 0 || !n->token_id)
        return rc;
    const struct token_new t = {j->id, n->token_id, n->token_hash, n->token_mac_key, j->now, n->token_expires};
    return insert_token(db, j->c, &t, err);
}

int servers_add(struct control *c, const struct server_new *n, struct server **ret, struct err *err)
{
    char id[37];
    struct add_job j = {.c = c, .n = n, .id = id, .now = clock_real()};
    if (c->n_servers >= CONTROL_SERVERS_MAX)
        return err_set(err, ERR_EXHAUSTED, "there are %u servers already, which is the limit", c->n_servers);
    rng_uuid(id);
    int rc = store_write(c->store, insert, &j, deadline_in(STORE_WAIT), err);
    if (rc == -(int)ERR_EXISTS) {
        (void)err_set(err, ERR_EXISTS, "there is a server \"%s\" already", n->name);
        err_hint(err, "take another name, or make a new token for it: davit server token %s", n->name);
    }
    if (rc < 0)
        return rc;
    struct server *s = server_new(c);
    (void)str_copy(s->id, sizeof(s->id), str_from(id));
    (void)str_copy(s->name, sizeof(s->name), str_from(n->name));
    (void)str_copy(s->mode, sizeof(s->mode), str_from(n->mode));
    s->profile = n->profile;
    s->local = n->local;
    s->created = j.now;
    s->enrolled = n->local ? j.now : 0;
    s->token_expires = n->token_id ? n->token_expires : 0;
    rc = server_set_state(s, SERVER_PENDING, n->local ? "first contact" : "created");
    BUG_ON(rc != 0);
    server_link(c, s);
    *ret = s;
    return 0;
}

static int delete_row(struct db *db, void *arg, struct err *err)
{
    const char *id = arg;
    int rc = db_exec(db, err, "UPDATE deployments SET state = ?, finished_us = ? WHERE server_id = ? AND state IN (1, 2, 3, 4)",
                     "iit", (int64_t)DEPLOYMENT_REMOVED, (int64_t)clock_real(), id);
    return rc < 0 ? rc : db_exec(db, err, "DELETE FROM servers WHERE id = ?", "t", id);
}

int servers_remove(struct control *c, struct server *s, struct err *err)
{
    int rc = store_write(c->store, delete_row, s->id, deadline_in(STORE_WAIT), err);
    if (rc < 0 || s->gone)
        return rc;
    s->gone = true;
    list_remove(&s->node);
    server_unlist(s);
    (void)str_copy(changes_gone(&c->changes, &c->changes.servers_gone)->id, sizeof(s->id), str_from(s->id));
    c->n_servers--;
    worldview_server_gone(s);
    timer_stop(&s->offline);
    links_cut(s, "the server was removed");
    commands_release(s);
    sandboxes_server_gone(s);
    deployments_changed(c, NULL);
    server_unref(s);
    return 0;
}

struct token_job {
    const struct control *c;
    struct token_new t;
};

static int new_token(struct db *db, void *arg, struct err *err)
{
    struct token_job *j = arg;
    int rc = db_exec(db, err, "UPDATE tokens SET void = 1 WHERE server_id = ? AND used_us = 0", "t", j->t.server_id);
    return rc < 0 ? rc : insert_token(db, j->c, &j->t, err);
}

int servers_new_token(struct control *c, struct server *s, const char *token_id, const uint8_t hash[32], const struct secret *mac_key,
                      usec_t expires, struct err *err)
{
    struct token_job j = {.c = c, .t = {s->id, token_id, hash, mac_key, clock_real(), expires}};
    int rc = store_write(c->store, new_token, &j, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    s->token_expires = expires;
    server_changed(s);
    return 0;
}
