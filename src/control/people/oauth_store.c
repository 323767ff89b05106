/* SPDX-License-Identifier: Apache-2.0 */
/* oauth_store — see oauth.h: which assertions were used and which tokens revoked, over restarts. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/people/oauth_internal.h"
#include "ident/digest.h"

/* --- Used assertions --- */

struct use {
    const char *client;
    char id[DIGEST_HEX_SIZE]; /* a hash, for what a client calls it may be long and odd */
    usec_t expires, now;
};

static int use(struct db *db, void *arg, struct err *err)
{
    const struct use *u = arg;
    int64_t n = 0;
    int rc = 0;
    if (u->now > OAUTH_KEPT)
        rc = db_exec(db, err, "DELETE FROM used_assertions WHERE expires_us < ?", "i", (int64_t)(u->now - OAUTH_KEPT));
    if (rc == 0)
        rc = db_get_i64(db, &n, err, "SELECT count(*) FROM used_assertions WHERE client = ?", "t", u->client);
    if (rc < 0 || n >= OAUTH_ASSERTIONS_MAX)
        return rc < 0 ? rc : 2;
    rc = db_exec(db, err, "INSERT INTO used_assertions (id, client, expires_us) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING", "tti", u->id,
                 u->client, (int64_t)u->expires);
    return rc < 0 ? rc : db_changes(db) == 1 ? 0 : 1;
}

int oauth_use(struct oauth *o, const char *client, const char *id, usec_t expires, struct err *err)
{
    struct use u = {.client = client, .expires = expires, .now = clock_real()};
    AUTO_DIGEST d = digest_new();
    digest_add(d, client, strlen(client) + 1);
    digest_add(d, id, strlen(id));
    digest_hex(d, u.id);
    return store_write(o->c->store, use, &u, deadline_in(STORE_WAIT), err);
}

/* --- Revoked tokens: in memory too, for every call asks --- */

static bool remember(struct oauth *o, const char *id, usec_t expires)
{
    if (o->n_revoked == OAUTH_REVOKED_MAX || str_copy(o->revoked[o->n_revoked].id, TOKEN_ID_SIZE, str_from(id)) != 0)
        return false;
    o->revoked[o->n_revoked++].expires = expires;
    return true;
}

static void forget_expired(struct oauth *o, usec_t before)
{
    size_t kept = 0;
    for (size_t i = 0; i < o->n_revoked; i++)
        if (o->revoked[i].expires >= before)
            o->revoked[kept++] = o->revoked[i];
    o->n_revoked = kept;
}

static int insert_revoked(struct db *db, void *arg, struct err *err)
{
    const struct use *u = arg;
    int rc = 0;
    if (u->now > OAUTH_KEPT)
        rc = db_exec(db, err, "DELETE FROM revoked_tokens WHERE expires_us < ?", "i", (int64_t)(u->now - OAUTH_KEPT));
    return rc < 0 ? rc
                  : db_exec(db, err, "INSERT INTO revoked_tokens (id, expires_us) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", "ti", u->id,
                            (int64_t)u->expires);
}

int oauth_revoke(struct oauth *o, const char *id, usec_t expires, struct err *err)
{
    struct use u = {.expires = expires, .now = clock_real()};
    if (u.now > OAUTH_KEPT)
        forget_expired(o, u.now - OAUTH_KEPT);
    if (oauth_is_revoked(o, id))
        return 0;
    /* First here, where it works at once; if the store then fails, it stays revoked until a restart, and who asked hears of it. */
    if (str_copy(u.id, sizeof(u.id), str_from(id)) != 0 || !remember(o, id, expires))
        return 2;
    return store_write(o->c->store, insert_revoked, &u, deadline_in(STORE_WAIT), err);
}

bool oauth_is_revoked(const struct oauth *o, const char *id)
{
    for (size_t i = 0; i < o->n_revoked; i++)
        if (strcmp(o->revoked[i].id, id) == 0)
            return true;
    return false;
}

static int load(struct db *db, void *arg, struct err *err)
{
    struct oauth *o = arg;
    AUTO_ROWS rows = NULL;
    usec_t now = clock_real();
    int rc = db_query(db, &rows, err, "SELECT id, expires_us FROM revoked_tokens WHERE expires_us >= ?", "i",
                      (int64_t)(now > OAUTH_KEPT ? now - OAUTH_KEPT : 0));
    o->n_revoked = 0;
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        rc = 0;
        if (row_text(rows, 0).n >= TOKEN_ID_SIZE || !remember(o, row_text(rows, 0).p, (usec_t)row_i64(rows, 1)))
            return err_set(err, ERR_DATA_LOSS, "the table of revoked tokens is not one that was written here");
    }
    return rc;
}

int oauth_load(struct oauth *o, struct err *err)
{
    o->revoked = mem_zalloc(OAUTH_REVOKED_MAX, sizeof(*o->revoked));
    return store_read_sync(o->c->store, load, o, err);
}
