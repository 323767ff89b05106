/* SPDX-License-Identifier: Apache-2.0 */
/* journal — three small tables in a store of its own. */
#include "host/link/journal.h"

#include <inttypes.h>

#include "base/mem.h"
#include "base/secret.h"
#include "ident/seal.h"
#include "loop/fiber.h"
#include "store/store.h"

enum { PLACE_SIZE = 64 };

struct journal {
    struct store *store;
    struct seal *seal;
    bool waits; /* has a loop */
};

static const struct store_migration MIGRATIONS[] = {
    {"commands",
     "CREATE TABLE command (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, payload BLOB NOT NULL,"
     " deadline_us INTEGER NOT NULL, received_us INTEGER NOT NULL, step INTEGER NOT NULL, step_state INTEGER NOT NULL,"
     " step_name TEXT NOT NULL, result BLOB) STRICT;"
     "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
     "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"},
};

/* What one call carries into its unit of work. */
struct call {
    uint64_t seq;
    const char *id, *name, *value;
    uint32_t kind, index, state;
    struct str bytes;
    usec_t deadline;
    bool finished;
    uint64_t *ret_number;
    struct journal_entry *ret_entry;
    char *ret_text;
};

static int run_write(struct journal *journal, store_fn *fn, struct call *call, struct err *err)
{
    return journal->waits ? store_write(journal->store, fn, call, deadline_in(JOURNAL_WAIT), err) : store_write_sync(journal->store, fn, call, err);
}

static int run_read(struct journal *journal, store_fn *fn, struct call *call, struct err *err)
{
    return journal->waits ? store_read(journal->store, fn, call, deadline_in(JOURNAL_WAIT), err) : store_read_sync(journal->store, fn, call, err);
}

struct journal *journal_close(struct journal *journal)
{
    if (journal) {
        (void)store_close(journal->store);
        (void)seal_free(journal->seal);
    }
    free(journal);
    return NULL;
}

/* --- Facts and counters --- */

static int meta_get(struct db *db, const char *name, char dst[JOURNAL_VALUE_SIZE], struct err *err)
{
    AUTO_ROWS rows = NULL;
    dst[0] = '\0';
    int rc = db_query(db, &rows, err, "SELECT value FROM meta WHERE name = ?", "t", name);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    (void)str_copy(dst, JOURNAL_VALUE_SIZE, row_text(rows, 0));
    return 0;
}

static int meta_set(struct db *db, const char *name, const char *value, struct err *err)
{
    if (value == NULL || value[0] == '\0')
        return db_exec(db, err, "DELETE FROM meta WHERE name = ?", "t", name);
    return db_exec(db, err, "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", "tt", name,
                   value);
}

/* 0 when there is none yet. */
static int counter_get(struct db *db, const char *name, int64_t *ret, struct err *err)
{
    *ret = 0;
    int rc = db_get_i64(db, ret, err, "SELECT value FROM counter WHERE name = ?", "t", name);
    return rc < 0 ? rc : 0;
}

static int counter_set(struct db *db, const char *name, int64_t value, struct err *err)
{
    return db_exec(db, err, "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", "ti", name,
                   value);
}

static int meta_get_fn(struct db *db, void *arg, struct err *err)
{
    struct call *c = arg;
    return meta_get(db, c->name, c->ret_text, err);
}

int journal_meta_get(struct journal *journal, const char *key, char dst[JOURNAL_VALUE_SIZE], struct err *err)
{
    struct call c = {.name = key, .ret_text = dst};
    dst[0] = '\0';
    return run_read(journal, meta_get_fn, &c, err);
}

static int meta_set_fn(struct db *db, void *arg, struct err *err)
{
    struct call *c = arg;
    return meta_set(db, c->name, c->value, err);
}

int journal_meta_set(struct journal *journal, const char *key, const char *value, struct err *err)
{
    struct call c = {.name = key, .value = value};
    if (value && strlen(value) >= JOURNAL_VALUE_SIZE)
        return err_set(err, ERR_INVALID, "%s: more than %d bytes", key, JOURNAL_VALUE_SIZE - 1);
    return run_write(journal, meta_set_fn, &c, err);
}

static int set_server_fn(struct db *db, void *arg, struct err *err)
{
    struct call *c = arg;
    char before[JOURNAL_VALUE_SIZE];
    int rc = meta_get(db, "server_id", before, err);
    if (rc < 0 || (rc == 0 && str_eq(str_from(before), str_from(c->value))))
        return rc;
    c->finished = rc == 0; /* there was another one */
    rc = db_exec(db, err, "DELETE FROM command", "");
    if (rc == 0)
        rc = db_exec(db, err, "DELETE FROM counter WHERE name <> 'epoch'", "");
    return rc < 0 ? rc : meta_set(db, "server_id", c->value, err);
}

int journal_set_server(struct journal *journal, const char *server_id, struct err *err)
{
    struct call c = {.value = server_id};
    if (server_id[0] == '\0' || strlen(server_id) >= JOURNAL_VALUE_SIZE)
        return err_set(err, ERR_INVALID, "server id of %zu bytes", strlen(server_id));
    int rc = run_write(journal, set_server_fn, &c, err);
    return rc < 0 ? rc : c.finished;
}

static int next_epoch_fn(struct db *db, void *arg, struct err *err)
{
    struct call *c = arg;
    int64_t n = 0;
    int rc = counter_get(db, "epoch", &n, err);
    if (rc == 0)
        rc = counter_set(db, "epoch", n + 1, err);
    *c->ret_number = (uint64_t)n + 1;
    return rc;
}

static int epoch_fn(struct db *db, void *arg, struct err *err)
{
    struct call *c = arg;
    int64_t n = 0;
    int rc = counter_get(db, "epoch", &n, err);
    *c->ret_number = (uint64_t)n;
    return rc;
}

int journal_epoch(struct journal *journal, uint64_t *ret, struct err *err)
{
    struct call c = {.ret_number = ret};
    return run_read(journal, epoch_fn, &c, err);
}

int journal_next_epoch(struct journal *journal, uint64_t *ret, struct err *err)
{
    uint64_t n = 0;
    struct call c = {.ret_number = &n};
    int rc = run_write(journal, next_epoch_fn, &c, err);
    if (rc == 0)
        *ret = n;
    return rc;
}

static int last_seq_fn(struct db *db, void *arg, struct err *err)
{
    struct call *c = arg;
    int64_t n = 0;
    int rc = counter_get(db, "last_seq", &n, err);
    *c->ret_number = (uint64_t)n;
    return rc;
}

int journal_last_seq(struct journal *journal, uint64_t *ret, struct err *err)
{
    struct call c = {.ret_number = ret};
    return run_read(journal, last_seq_fn, &c, err);
}

/* --- Opening --- */

static int key_of_another(const char *path, const char *wanted, struct err *err)
{
    (void)err_set(err, ERR_DATA_LOSS, "%s is not the key of the journal beside it, which needs %s", path, wanted);
    err_hint(err, "put the file back, or enroll this server anew: davit-agent enroll --force");
    return -(int)ERR_DATA_LOSS;
}

/* Blocks: the key file beside the journal @path, made for a journal that names no key yet. */
static int open_key(struct journal *journal, const char *path, struct err *err)
{
    char wanted[JOURNAL_VALUE_SIZE], now[SEAL_ID_SIZE];
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *key = str_printf("%.*sjournal.key", slash ? (int)(slash - path) + 1 : 0, path);
    struct call get = {.name = "seal_key", .ret_text = wanted}, set = {.name = "seal_key", .value = now};
    int rc = store_read_sync(journal->store, meta_get_fn, &get, err);
    if (rc < 0)
        return rc;
    rc = seal_load(key, &journal->seal, err);
    if (rc == -(int)ERR_NOT_FOUND) {
        if (*wanted)
            return key_of_another(key, wanted, err);
        rc = seal_make(key, err);
        if (rc == 0)
            rc = seal_load(key, &journal->seal, err);
        if (rc == 0 && err)
            *err = ERR_INIT;
    }
    if (rc < 0 || (*wanted && seal_has(journal->seal, str_from(wanted))))
        return rc;
    if (*wanted)
        return key_of_another(key, wanted, err);
    seal_id(journal->seal, now);
    return store_write_sync(journal->store, meta_set_fn, &set, err);
}

int journal_open(struct loop *loop, const char *path, struct journal **ret, struct err *err)
{
    struct store *store = NULL;
    int rc = store_open(loop, path, MIGRATIONS, ARRAY_LEN(MIGRATIONS), &store, err);
    if (rc < 0)
        return rc;
    struct journal *journal = NEW(struct journal);
    journal->store = store;
    journal->waits = loop != NULL;
    rc = open_key(journal, path, err);
    if (rc < 0) {
        (void)journal_close(journal);
        return rc;
    }
    *ret = journal;
    return 0;
}

/* --- Commands --- */

static int add_fn(struct db *db, void *arg, struct err *err)
{
    const struct call *c = arg;
    int64_t last = 0, n = 0;
    int rc = counter_get(db, "last_seq", &last, err);
    if (rc < 0)
        return rc;
    if ((int64_t)c->seq <= last)
        return 1;
    rc = db_get_i64(db, &n, err, "SELECT 1 FROM command WHERE id = ?", "t", c->id);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    rc = db_get_i64(db, &n, err, "SELECT count(*) FROM command", "");
    if (rc == 0 && n >= JOURNAL_MAX)
        return err_set(err, ERR_EXHAUSTED, "%d commands wait for their acknowledgement", JOURNAL_MAX);
    if (rc == 0)
        rc = db_exec(db, err,
                     "INSERT INTO command (seq, id, kind, payload, deadline_us, received_us, step, step_state, step_name)"
                     " VALUES (?, ?, ?, ?, ?, ?, -1, 0, '')",
                     "itibii", (int64_t)c->seq, c->id, (int64_t)c->kind, c->bytes, (int64_t)c->deadline, (int64_t)clock_real());
    return rc < 0 ? rc : counter_set(db, "last_seq", (int64_t)c->seq, err);
}

static void place_of(const char *id, char dst[PLACE_SIZE])
{
    (void)snprintf(dst, PLACE_SIZE, "journal.payload/%s", id);
}

int journal_add(struct journal *journal, uint64_t seq, const char *id, uint32_t kind, struct str payload, usec_t deadline, struct err *err)
{
    struct call c = {.seq = seq, .id = id, .kind = kind, .bytes = payload, .deadline = deadline > INT64_MAX ? INT64_MAX : deadline};
    size_t n = strlen(id);
    if (seq == 0 || seq > INT64_MAX || n == 0 || n >= JOURNAL_ID_SIZE)
        return err_set(err, ERR_INVALID, "command %" PRIu64 " with an id of %zu bytes", seq, n);
    if (payload.n > JOURNAL_BYTES_MAX)
        return err_set(err, ERR_INVALID, "command of %zu bytes (at most %d)", payload.n, JOURNAL_BYTES_MAX);
    AUTO_BUF sealed = BUF_INIT(JOURNAL_BYTES_MAX + SEAL_OVERHEAD);
    char place[PLACE_SIZE];
    place_of(id, place);
    int rc = seal_close(journal->seal, place, payload, &sealed, err);
    c.bytes = buf_str(&sealed);
    return rc < 0 ? rc : run_write(journal, add_fn, &c, err);
}

static int step_fn(struct db *db, void *arg, struct err *err)
{
    const struct call *c = arg;
    int rc = db_exec(db, err, "UPDATE command SET step = ?, step_state = ?, step_name = ? WHERE seq = ? AND result IS NULL", "iiti",
                     (int64_t)c->index, (int64_t)c->state, c->name, (int64_t)c->seq);
    if (rc == 0 && db_changes(db) != 1)
        rc = err_set(err, ERR_NOT_FOUND, "command %" PRIu64 " is not in the journal or has ended", c->seq);
    return rc;
}

int journal_step(struct journal *journal, uint64_t seq, uint32_t index, const char *name, uint32_t state, struct err *err)
{
    struct call c = {.seq = seq, .index = index, .name = name, .state = state};
    if (index > INT32_MAX || strlen(name) >= JOURNAL_STEP_SIZE)
        return err_set(err, ERR_INVALID, "step %" PRIu32 " with a name of %zu bytes", index, strlen(name));
    return run_write(journal, step_fn, &c, err);
}

/* 0 no result, 1 has one, 2 unknown. */
static int has_result(struct db *db, uint64_t seq, struct err *err)
{
    int64_t has = 0;
    int rc = db_get_i64(db, &has, err, "SELECT result IS NOT NULL FROM command WHERE seq = ?", "i", (int64_t)seq);
    return rc < 0 ? rc : rc == 1 ? 2 : has != 0;
}

static int result_fn(struct db *db, void *arg, struct err *err)
{
    const struct call *c = arg;
    int rc = has_result(db, c->seq, err);
    if (rc == 2)
        return err_set(err, ERR_NOT_FOUND, "command %" PRIu64 " is not in the journal", c->seq);
    if (rc != 0)
        return rc;
    return db_exec(db, err, "UPDATE command SET result = ?, payload = ? WHERE seq = ?", "bbi", c->bytes, STR(""), (int64_t)c->seq);
}

int journal_result(struct journal *journal, uint64_t seq, struct str result, struct err *err)
{
    struct call c = {.seq = seq, .bytes = result};
    if (result.n > JOURNAL_BYTES_MAX)
        return err_set(err, ERR_INVALID, "result of %zu bytes (at most %d)", result.n, JOURNAL_BYTES_MAX);
    return run_write(journal, result_fn, &c, err);
}

static int acked_fn(struct db *db, void *arg, struct err *err)
{
    const struct call *c = arg;
    int rc = has_result(db, c->seq, err);
    if (rc == 0)
        return err_set(err, ERR_PRECONDITION, "command %" PRIu64 " was acknowledged before it had a result", c->seq);
    if (rc != 1)
        return rc < 0 ? rc : 0;
    return db_exec(db, err, "DELETE FROM command WHERE seq = ?", "i", (int64_t)c->seq);
}

int journal_acked(struct journal *journal, uint64_t seq, struct err *err)
{
    struct call c = {.seq = seq};
    return run_write(journal, acked_fn, &c, err);
}

/* --- Reading back --- */

void journal_entry_release(struct journal_entry *entry)
{
    secret_buf_release(&entry->bytes);
}

/* Opens the payload in @entry. One that an older version wrote lies there as it is. One that does not open must not hide those behind it. */
static void open_payload(const struct journal *journal, struct journal_entry *entry)
{
    char place[PLACE_SIZE];
    AUTO_SECRET payload = NULL;
    if (!seal_is(buf_str(&entry->bytes)))
        return;
    place_of(entry->id, place);
    entry->unreadable = seal_open(journal->seal, place, buf_str(&entry->bytes), &payload, NULL) < 0;
    buf_clear(&entry->bytes);
    if (!entry->unreadable && buf_append_str(&entry->bytes, secret_reveal(payload)) < 0)
        entry->unreadable = true;
}

static int next_fn(struct db *db, void *arg, struct err *err)
{
    struct call *c = arg;
    struct journal_entry *e = c->ret_entry;
    AUTO_ROWS rows = NULL;
    const char *sql = c->finished ? "SELECT seq, id, kind, deadline_us, step, step_state, step_name, received_us, result FROM command"
                                    " WHERE seq > ? AND result IS NOT NULL ORDER BY seq LIMIT 1"
                                  : "SELECT seq, id, kind, deadline_us, step, step_state, step_name, received_us, payload FROM command"
                                    " WHERE seq > ? AND result IS NULL ORDER BY seq LIMIT 1";
    int rc = db_query(db, &rows, err, sql, "i", (int64_t)c->seq);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc < 0 ? rc : 1;
    *e = (struct journal_entry){.seq = (uint64_t)row_i64(rows, 0), .kind = (uint32_t)row_i64(rows, 2), .deadline = (usec_t)row_i64(rows, 3),
                                .step = (int32_t)row_i64(rows, 4), .step_state = (uint32_t)row_i64(rows, 5), .received = (usec_t)row_i64(rows, 7),
                                .bytes = BUF_INIT(JOURNAL_BYTES_MAX + SEAL_OVERHEAD)};
    (void)str_copy(e->id, sizeof(e->id), row_text(rows, 1));
    (void)str_copy(e->step_name, sizeof(e->step_name), row_text(rows, 6));
    if (buf_append_str(&e->bytes, row_blob(rows, 8)) < 0)
        return err_set(err, ERR_DATA_LOSS, "command %" PRIu64 " in the journal is larger than it can be", e->seq);
    return 0;
}

static int next(struct journal *journal, uint64_t after_seq, bool finished, struct journal_entry *ret, struct err *err)
{
    struct journal_entry entry = {0};
    struct call c = {.seq = after_seq > INT64_MAX ? INT64_MAX : after_seq, .finished = finished, .ret_entry = &entry};
    int rc = run_read(journal, next_fn, &c, err);
    if (rc == 0 && !finished)
        open_payload(journal, &entry);
    if (rc == 0)
        *ret = entry;
    else
        journal_entry_release(&entry);
    return rc;
}

int journal_pending(struct journal *journal, uint64_t after_seq, struct journal_entry *ret, struct err *err)
{
    return next(journal, after_seq, false, ret, err);
}

int journal_unacked(struct journal *journal, uint64_t after_seq, struct journal_entry *ret, struct err *err)
{
    return next(journal, after_seq, true, ret, err);
}
