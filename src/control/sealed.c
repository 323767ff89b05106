/* SPDX-License-Identifier: Apache-2.0 */
/* sealed — see sealed.h. */
#include "control/sealed.h"

#include <string.h>

#include "ident/seal.h"

enum { PLACE_SIZE = 128, ROW_ID_SIZE = 80 };

static const struct {
    const char *place; /* in envelopes: never change it */
    const char *next, *update;
} COLUMNS[SEALED_COLUMNS] = {
    [SEALED_SPEC] = {"deployments.spec", "SELECT id, spec FROM deployments WHERE id > ? ORDER BY id LIMIT 1",
                     "UPDATE deployments SET spec = ? WHERE id = ?"},
    [SEALED_TOKEN] = {"tokens.mac", "SELECT id, mac FROM tokens WHERE id > ? AND length(mac) > 0 ORDER BY id LIMIT 1",
                      "UPDATE tokens SET mac = ? WHERE id = ?"},
    [SEALED_COMMAND] = {"commands.payload", "SELECT id, payload FROM commands WHERE id > ? AND length(payload) > 0 ORDER BY id LIMIT 1",
                        "UPDATE commands SET payload = ? WHERE id = ?"},
    [SEALED_VARIABLE] = {"variables.content", "SELECT id, content FROM variables WHERE id > ? ORDER BY id LIMIT 1",
                         "UPDATE variables SET content = ? WHERE id = ?"},
    [SEALED_REGISTRY] = {"registries.login", "SELECT id, login FROM registries WHERE id > ? ORDER BY id LIMIT 1",
                         "UPDATE registries SET login = ? WHERE id = ?"},
    [SEALED_SANDBOX] = {"sandboxes.spec", "SELECT id, spec FROM sandboxes WHERE id > ? ORDER BY id LIMIT 1",
                        "UPDATE sandboxes SET spec = ? WHERE id = ?"},
};

static void place_of(enum sealed_column column, const char *id, char dst[PLACE_SIZE])
{
    (void)snprintf(dst, PLACE_SIZE, "%s/%.80s", COLUMNS[column].place, id);
}

int sealed_put(const struct control *c, enum sealed_column column, const char *id, struct str content, struct buf *out, struct err *err)
{
    char place[PLACE_SIZE];
    place_of(column, id, place);
    return seal_close(c->seal, place, content, out, err);
}

int sealed_get(const struct control *c, enum sealed_column column, const char *id, struct str bytes, struct secret **ret, struct err *err)
{
    char place[PLACE_SIZE];
    place_of(column, id, place);
    return seal_open(c->seal, place, bytes, ret, err);
}

/* --- At the start ----------------------------------------------------------------------------------------------------------------- */

struct start {
    struct control *c;
    char id[SEAL_ID_SIZE]; /* of the key that the store names, "" for none */
    unsigned written;
};

static int read_setting(struct db *db, void *arg, struct err *err)
{
    struct start *s = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, "SELECT value FROM settings WHERE key = ?", "t", "master_key");
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc == 1)
        (void)str_copy(s->id, sizeof(s->id), row_text(rows, 0));
    return rc < 0 ? rc : 0;
}

/* The row behind @id, which becomes its id; its bytes in @out. 1: there is none. */
static int next_row(struct db *db, enum sealed_column column, char id[ROW_ID_SIZE], struct buf *out, struct err *err)
{
    AUTO_ROWS rows = NULL;
    buf_clear(out);
    int rc = db_query(db, &rows, err, COLUMNS[column].next, "t", id);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    if (str_copy(id, ROW_ID_SIZE, row_text(rows, 0)) < 0)
        return err_set(err, ERR_DATA_LOSS, "%s: an id of more than %d bytes", COLUMNS[column].place, ROW_ID_SIZE - 1);
    return buf_append_str(out, row_blob(rows, 1)) < 0 ? err_set(err, ERR_DATA_LOSS, "%s/%s: too large", COLUMNS[column].place, id) : 0;
}

/* Plain text counts as such only while the store names no key: later it is somebody's who can write to the database. */
static int close_row(struct db *db, struct start *s, enum sealed_column column, const char *id, struct str bytes, struct err *err)
{
    AUTO_SECRET content = NULL;
    AUTO_BUF out = BUF_INIT(STORE_VALUE_MAX);
    int rc = !*s->id && !seal_is(bytes) ? 1 : sealed_get(s->c, column, id, bytes, &content, err);
    if (rc >= 0)
        rc = sealed_put(s->c, column, id, content ? secret_reveal(content) : bytes, &out, err);
    if (rc == 0)
        rc = db_exec(db, err, COLUMNS[column].update, "bt", buf_str(&out), id);
    s->written += rc == 0;
    return rc;
}

static int close_rows(struct db *db, void *arg, struct err *err)
{
    struct start *s = arg;
    AUTO_SECRET_BUF bytes = BUF_INIT(STORE_VALUE_MAX);
    char now[SEAL_ID_SIZE];
    for (unsigned column = 0; column < SEALED_COLUMNS; column++) {
        char id[ROW_ID_SIZE] = "";
        int rc;
        while ((rc = next_row(db, (enum sealed_column)column, id, &bytes, err)) == 0)
            if (!seal_is_current(s->c->seal, buf_str(&bytes)) &&
                (rc = close_row(db, s, (enum sealed_column)column, id, buf_str(&bytes), err)) < 0)
                return rc;
        if (rc < 0)
            return rc;
    }
    seal_id(s->c->seal, now);
    return db_exec(db, err, "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", "tt",
                   "master_key", now);
}

static int wrong_key(const char *path, const char *id, const char *what, struct err *err)
{
    (void)err_set(err, ERR_DATA_LOSS, "%s %s: the database was sealed with the master key %s", path, what, id);
    err_hint(err, "put back the master.key that belongs to control.db: they are in the same backup; nothing was changed");
    return -(int)ERR_DATA_LOSS;
}

static int load_key(struct start *s, const char *path, struct err *err)
{
    int rc = seal_load(path, &s->c->seal, err);
    if (rc == -(int)ERR_NOT_FOUND) {
        if (*s->id)
            return wrong_key(path, s->id, "is missing", err);
        rc = seal_make(path, err);
        if (rc == 0)
            rc = seal_load(path, &s->c->seal, err);
        if (rc == 0 && err)
            *err = ERR_INIT;
    }
    if (rc == 0 && *s->id && !seal_has(s->c->seal, str_from(s->id)))
        return wrong_key(path, s->id, "is another one", err);
    return rc;
}

int sealed_start(struct control *c, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/" SEALED_KEY_FILE, c->opt.state_dir);
    struct start s = {.c = c};
    char now[SEAL_ID_SIZE];
    int rc = store_read_sync(c->store, read_setting, &s, err);
    if (rc == 0)
        rc = load_key(&s, path, err);
    if (rc < 0)
        return rc;
    seal_id(c->seal, now);
    if (str_eq(str_from(now), str_from(s.id)))
        return 0;
    rc = store_write_sync(c->store, close_rows, &s, err);
    if (rc == 0 && s.written)
        log_event(LOG_NOTICE, "stored secrets were sealed", "key", now, NULL);
    return rc < 0 ? rc : s.written > 0;
}
